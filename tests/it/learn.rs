//! Learning from real traces: the demo against its own configuration, and every trace file of others.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use models::dist::Dist;
use models::learn::{Finding, LearnOptions, Lesson, learn};
use models::system::{Model, Step};
use models::trace::{ReadOptions, Reader};

use crate::support::shared;

fn lesson_of(file: &Path, options: &LearnOptions) -> Lesson {
    let mut reader = Reader::new(ReadOptions::default());
    let input = File::open(file).expect("a file that is there opens");
    reader.read(&file.display().to_string(), input).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let lesson = learn(&reader.finish(), options).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    models::check::check(&lesson.model).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let text = models::format::write_model(&lesson.model);
    let again = models::format::read_model("model.yaml", text.as_bytes()).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    assert_eq!(again, lesson.model, "{}: a learned model is read back as it was", file.display());
    lesson
}

/// What the demo's own configuration says.
struct Truth {
    /// Median of own work, ms.
    medians: BTreeMap<String, f64>,
    workers: BTreeMap<String, u32>,
    rate: f64,
    search_share: f64,
}

fn truth() -> Option<Truth> {
    let text = std::fs::read_to_string(shared("data/demo/truth.json")?).expect("the truth is text");
    let truth: serde_json::Value = serde_json::from_str(&text).expect("the truth is JSON");
    let services = || truth["services"].as_array().into_iter().flatten().filter(|s| s["kind"] != "queue");
    let name = |s: &serde_json::Value| s["name"].as_str().unwrap_or_default().to_owned();
    Some(Truth {
        medians: services().map(|s| (name(s), s["work"]["median_ms"].as_f64().expect("every service has a median"))).collect(),
        workers: services().map(|s| (name(s), s["workers"].as_u64().expect("every service has workers") as u32)).collect(),
        rate: truth["entry"]["rps"].as_f64().expect("there is a rate"),
        search_share: truth["entry"]["classes"]["search"].as_f64().expect("there is a share"),
    })
}

/// Median of the first work step of a service's busiest operation, ms.
fn work_median(model: &Model, service: &str) -> f64 {
    let (_, operation) = model.services[service].operations.first().expect("a service has operations");
    let Some(Step::Work(work)) = operation.paths[0].steps.first() else { panic!("{service} begins without work") };
    let Dist::Quantiles(points) = &work.dist else { panic!("{service}: no table") };
    points.iter().find(|(p, _)| *p == 0.5).expect("the table has its median").1.as_millis_f64()
}

#[test]
fn the_demo_is_learned_as_it_was_configured() {
    let (Some(truth), Some(file)) = (truth(), shared("data/demo/baseline.otlp.json.gz")) else { return };
    let lesson = lesson_of(&file, &LearnOptions::default());
    let model = &lesson.model;

    let mut names: Vec<&String> = model.services.keys().collect();
    names.sort();
    assert_eq!(names, truth.medians.keys().collect::<Vec<_>>(), "nine services");
    assert_eq!(model.topics.keys().collect::<Vec<_>>(), ["mailq"]);
    assert_eq!(model.topics["mailq"].consumer.service, "mailer");
    assert_eq!(model.services["search"].replicas.value, 2);

    let users = &model.workload["users"];
    assert_eq!((model.workload.len(), users.to.service.as_str()), (1, "web"));
    assert!((users.rate.value / truth.rate - 1.0).abs() < 0.03, "{:?}", users.rate);
    let web = &model.services["web"].operations[&users.to.operation];
    let shares: Vec<f64> = web.paths.iter().map(|p| p.weight.value).collect();
    assert_eq!(shares.len(), 2);
    assert!((shares[0] - truth.search_share).abs() < 0.02, "{shares:?}");

    let words = |service: &str| -> Vec<String> {
        let (_, operation) = model.services[service].operations.first().expect("a service has operations");
        assert_eq!(operation.paths.len(), 1, "{service} knows one kind of request");
        let word = |step: &Step| match step {
            Step::Work(_) => "work".to_owned(),
            Step::Call(call) => format!("call {}", call.to.service),
            Step::Lookup(l) => {
                let fill = l.fill.as_ref().map_or("nothing", |f| f.to.service.as_str());
                format!("ask {}, else {}, fill {fill}", l.cache.to.service, l.origin.to.service)
            }
            Step::Publish(p) => format!("publish {}", p.to),
            Step::Parallel { .. } => "parallel".to_owned(),
        };
        operation.paths[0].steps.iter().map(word).collect()
    };
    assert_eq!(words("search"), ["work", "ask cache, else catalogdb, fill cache"]);
    assert_eq!(words("orders"), ["work", "call seats", "call payment", "publish mailq"]);
    assert_eq!(words("seats"), ["work", "call seatdb"]);
    for leaf in ["cache", "catalogdb", "seatdb", "payment", "mailer"] {
        assert_eq!(words(leaf), ["work"], "{leaf}");
    }

    // A timer of 1 ms grain adds about 1 ms to what was drawn.
    for (service, median) in &truth.medians {
        let learned = work_median(model, service);
        assert!((learned - median).abs() <= 0.05 * median + 1.2, "{service}: learned {learned} ms, configured {median} ms");
    }
}

#[test]
fn known_workers_and_cache_size_sharpen_what_is_learned_of_the_demo() {
    let (Some(truth), Some(file)) = (truth(), shared("data/demo/baseline.otlp.json.gz")) else { return };
    let options = LearnOptions {
        known_workers: truth.workers.clone(),
        known_caches: BTreeMap::from([("cache".to_owned(), Some(700))]),
        ..LearnOptions::default()
    };
    let lesson = lesson_of(&file, &options);
    for (service, median) in &truth.medians {
        let learned = work_median(&lesson.model, service);
        assert!((learned - median).abs() <= 0.05 * median + 1.2, "{service}: learned {learned} ms, configured {median} ms");
    }
    let cache = lesson.model.services["cache"].cache.as_ref().expect("the cache is a cache");
    assert_eq!(cache.capacity.value, 700);
    assert!(cache.keys.value > 700, "{cache:?}");
    assert!(lesson.findings.iter().any(|f| matches!(f, Finding::CacheAside { asked: 2714, missed: 341, .. })));
}

#[test]
fn the_busy_store_of_the_demo_shows_its_two_workers() {
    let Some(file) = shared("data/demo/baseline.otlp.json.gz") else { return };
    let lesson = lesson_of(&file, &LearnOptions::default());
    assert!(
        lesson.findings.iter().any(|f| matches!(f, Finding::Queueing { service, workers: 2, .. } if service == "seatdb")),
        "{:?}",
        lesson.model.services["seatdb"].workers
    );
}

#[test]
fn the_cart_without_spans_is_named() {
    let Some(file) = shared("data/traces/otlp-json/otel-demo-collector-mixed.jsonl.gz") else { return };
    let lesson = lesson_of(&file, &LearnOptions::default());
    let dead = lesson.findings.iter().find_map(|f| match f {
        Finding::DeadService { service, attempts, failed, .. } if service.starts_with("cart") => Some((*attempts, *failed)),
        _ => None,
    });
    let (attempts, failed) = dead.expect("the cart service is named");
    assert!(attempts > 0 && attempts == failed, "{failed} of {attempts}");
    assert!(lesson.model.services.keys().any(|s| s.starts_with("cart")));
}

#[test]
fn hotrod_retries_are_retries_and_its_pool_runs_three_at_a_time() {
    let Some(file) = shared("data/traces/otlp-json/hotrod-fanout-retries.json") else { return };
    let lesson = lesson_of(&file, &LearnOptions::default());
    let edge = &lesson.model.edges[&models::system::EdgeName::new("driver", "redis-manual")];
    let seen = edge.observed.as_ref().expect("it was called");
    assert_eq!((seen.calls, seen.attempts, seen.errors), (11, 14, 3));
    assert_eq!(edge.retry.as_ref().map(|r| r.attempts.value), Some(2));
    let (_, dispatch) = lesson.model.services["frontend"].operations.first().expect("it was asked");
    let branches = dispatch.paths[0]
        .steps
        .iter()
        .find_map(|s| if let Step::Parallel { branches, .. } = s { Some(branches.len()) } else { None });
    assert_eq!(branches, Some(3));
}

#[test]
fn a_masked_timeout_is_a_timeout() {
    let Some(file) = shared("data/traces/otlp-json/otel-demo-timeout-masked.json") else { return };
    let lesson = lesson_of(&file, &LearnOptions::default());
    let timeout =
        lesson.model.edges[&models::system::EdgeName::new("frontend-proxy", "frontend")].timeout.expect("the proxy gave up");
    assert_eq!(timeout.value.as_secs_f64().round(), 15.0);
}

#[test]
fn every_trace_file_gives_a_model_that_makes_sense() {
    for folder in ["otlp-json", "otlp-protobuf", "jaeger-json", "zipkin-json"] {
        let Some(folder) = shared(&format!("data/traces/{folder}")) else { return };
        let mut files: Vec<_> =
            std::fs::read_dir(&folder).expect("a folder that is there lists").flatten().map(|f| f.path()).collect();
        files.sort();
        for file in files.iter().filter(|f| !f.ends_with("dependencies-large.json.gz")) {
            let lesson = lesson_of(file, &LearnOptions::default());
            assert!(!lesson.model.workload.is_empty(), "{}", file.display());
            assert!(lesson.graph.graph.node_count() > 0, "{}", file.display());
        }
    }
}

#[test]
fn the_shop_of_eighty_thousand_spans_keeps_its_leaves_and_its_retries() {
    let Some(file) = shared("data/traces/otlp-protobuf/hipstershop.lenprefixed.binpb.gz") else { return };
    let lesson = lesson_of(&file, &LearnOptions::default());
    let learned = lesson.model.learned.as_ref().expect("it was learned");
    assert_eq!((learned.traces, learned.spans), (9_047, 86_583));
    for leaf in ["redis-cart", "Galactus.Postgres:98321", "ButtercupPayments"] {
        assert!(lesson.model.services.contains_key(leaf), "{leaf}");
    }
    assert!(lesson.findings.iter().any(|f| matches!(f, Finding::DeadService { service, .. } if service == "ButtercupPayments")));
}

/// Two recordings of one system may cover the same minute; files of one recording may too. Physics tells them apart.
#[test]
fn files_that_overlap_in_time_are_one_recording_or_two() {
    let (Some(calm), Some(bursts)) =
        (shared("data/demo/baseline.otlp.json.gz"), shared("data/demo/baseline-bursts.otlp.json.gz"))
    else {
        return;
    };
    let learned = |inputs: &[(&str, Vec<u8>)]| {
        let mut reader = Reader::new(ReadOptions::default());
        for (name, bytes) in inputs {
            reader.read(name, bytes.as_slice()).unwrap_or_else(|errors| panic!("{errors}"));
        }
        learn(&reader.finish(), &LearnOptions::default()).expect("it teaches")
    };
    let open = |path| std::fs::read(path).expect("readable");
    let two = learned(&[("calm", open(calm)), ("bursts", open(bursts.clone()))]);
    let rate = two.model.workload["users"].rate.value;
    assert!((rate / 70.0 - 1.0).abs() < 0.03, "each recording at 70/s, not both at once: {rate}");
    assert!(two.findings.iter().any(|f| matches!(f, Finding::SeparateRecordings { .. })), "{:?}", two.findings);

    // One recording whose traces were spread over two files by a bit of their ids.
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(open(bursts).as_slice()), &mut text).expect("gzip");
    let whole: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let half = |bit: u32| {
        let mut half = whole.clone();
        for resource in half["resourceSpans"].as_array_mut().expect("resources") {
            for scope in resource["scopeSpans"].as_array_mut().expect("scopes") {
                let spans = scope["spans"].as_array_mut().expect("spans");
                spans.retain(|span| {
                    let id = span["links"][0]["traceId"].as_str().or(span["traceId"].as_str()).expect("an id");
                    u32::from_str_radix(&id[..8], 16).expect("hex") % 2 == bit
                });
            }
        }
        half.to_string().into_bytes()
    };
    let one = learned(&[("even", half(0)), ("odd", half(1))]);
    let rate = one.model.workload["users"].rate.value;
    assert!((rate / 70.0 - 1.0).abs() < 0.05, "their rates add up: {rate}");
    assert!(one.findings.iter().any(|f| matches!(f, Finding::OverlappingFiles { .. })), "{:?}", one.findings);
}
