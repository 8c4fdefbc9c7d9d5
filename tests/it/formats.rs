//! The file formats as people meet them: the two files of the specification, the demo's own files, overlays on learned models.

use std::path::PathBuf;

use expect_test::expect;
use models::format::{read_model, read_overlay, write_model};
use models::learn::{LearnOptions, learn};
use models::param::{Limit, Param, Source};
use models::system::{Breaker, BreakerWindow, EdgeName, Jitter, Mode, Model, Trips};
use models::trace::{ReadOptions, Reader};
use models::units::Nanos;
use scenarios::fault::FaultKind;
use scenarios::format::{read_checked, read_scenarios, write_scenarios};

use crate::support;

const MM1: &str = "version: 1
workload: { users: { to: s.op, open: { rate: 80/s } } }
services:
  s:
    workers: 1
    queue: unbounded
    operations: { op: { paths: [ { weight: 1, steps: [ { work: { exponential: 10ms } } ] } ] } }
";

const SLOW_B: &str = "version: 1
scenarios:
  - { id: slow-b, load: 1.0, faults: [ { kind: latency, target: a->b, start: 12s, duration: 8s, magnitude: { add: 800ms } } ] }
";

/// A shop as the learner leaves it, with much that only traces could say.
const LEARNED: &str = "version: 1
workload: { users: { to: web.GET /, open: { rate: { value: 70/s, source: observed } } } }
services:
  web:
    replicas: { value: 2, source: observed }
    workers: { value: 8, source: inferred, range: [6, 12] }
    queue: { value: 128, source: assumed, range: [16, 1024] }
    operations:
      GET /: { paths: [{ steps: [{ work: { exponential: 2ms } }, { call: cart }, { publish: mailq }] }] }
  cart:
    operations: { get: { paths: [{ steps: [{ lookup: { cache: redis, origin: db } }] }] } }
  redis:
    cache: { capacity: { value: 100, source: assumed, range: [10, 1000] }, keys: { value: 5000, source: inferred, range: [4000, 6000] } }
    operations: { get: { paths: [{ steps: [{ work: { constant: 1ms } }] }] } }
  db:
    operations: { query: { paths: [{ steps: [{ work: { constant: 9ms } }] }] } }
  mailer:
    operations: { send: { paths: [{ steps: [{ work: { constant: 9ms } }] }] } }
edges:
  web->cart:
    timeout: { value: 500ms, source: inferred, range: [450ms, 550ms] }
    retry: { attempts: { value: 3, source: observed } }
    observed: { calls: 1000, attempts: 1200, errors: 210, timeouts: 3, per_parent: 1, asynchronous: false, p50_ms: 12, p99_ms: 480 }
  cart->redis:
    observed: { calls: 1000, attempts: 1000, errors: 0, timeouts: 0, per_parent: 1, asynchronous: false, p50_ms: 2, p99_ms: 95 }
topics:
  mailq: { consumer: mailer, concurrency: { value: 2, source: inferred, range: [2, 8] } }
";

fn learned() -> Model {
    read_model("learned.yaml", LEARNED.as_bytes()).expect("it is a model")
}

#[test]
fn the_models_and_scenarios_of_the_specification_are_accepted_as_written() {
    let model = read_model("mm1.yaml", MM1.as_bytes()).expect("M/M/1");
    assert_eq!(model.workload["users"].rate, Param::declared(80.0));
    assert_eq!(model.services["s"].workers, Param::declared(Limit::Of(1)));
    assert_eq!(model.services["s"].queue, Param::declared(Limit::Unlimited));
    let scenarios = read_scenarios("slow-b.yaml", SLOW_B.as_bytes()).expect("slow-b");
    assert_eq!(scenarios[0].faults[0].kind, FaultKind::latency(Nanos::from_millis(800)));
    assert_eq!(scenarios[0].load, Some(1.0));
}

#[test]
fn a_written_model_is_readable_and_says_where_its_numbers_come_from() {
    let text = write_model(&learned());
    expect![[r#"
        # A Foreshock model. Every number may be bare, which means declared and certain, or { value, source, range };
        # a range is a 90 % interval that worlds draw from.
        version: 1
        workload:
          users:
            to: web.GET /
            open: { rate: { value: 70/s, source: observed } }
            site: 1
        services:
          web:
            replicas: { value: 2, source: observed }
            workers: { value: 8, source: inferred, range: [6, 12] }
            queue: { value: 128, source: assumed, range: [16, 1024] }
            mode: blocking
            operations:
              GET /:
                paths:
                  - weight: 1
                    steps:
                      - work: { exponential: 2ms }
                      - call: { to: cart.get, site: 2 }
                      - publish: { to: mailq, site: 3 }
          cart:
            workers: 1
            queue: unbounded
            mode: blocking
            operations:
              get:
                paths:
                  - weight: 1
                    steps:
                      - lookup:
                          cache: { to: redis.get, site: 4 }
                          origin: { to: db.query, site: 5 }
          redis:
            workers: 1
            queue: unbounded
            mode: blocking
            cache: {
              capacity: { value: 100, source: assumed, range: [10, 1000] },
              keys: { value: 5000, source: inferred, range: [4000, 6000] }, zipf: 1 }
            operations:
              get:
                paths:
                  - weight: 1
                    steps:
                      - work: { constant: 1ms }
          db:
            workers: 1
            queue: unbounded
            mode: blocking
            operations:
              query:
                paths:
                  - weight: 1
                    steps:
                      - work: { constant: 9ms }
          mailer:
            workers: 1
            queue: unbounded
            mode: blocking
            operations:
              send:
                paths:
                  - weight: 1
                    steps:
                      - work: { constant: 9ms }
        edges:
          web->cart:
            timeout: { value: 500ms, source: inferred, range: [450ms, 550ms] }
            retry: { attempts: { value: 3, source: observed } }
            observed: {
              calls: 1000, attempts: 1200, errors: 210, timeouts: 3, per_parent: 1, asynchronous: false, p50_ms: 12,
              p99_ms: 480 }
          cart->redis:
            observed: {
              calls: 1000, attempts: 1000, errors: 0, timeouts: 0, per_parent: 1, asynchronous: false, p50_ms: 2, p99_ms: 95 }
        topics:
          mailq:
            consumer: mailer.send
            site: 6
            concurrency: { value: 2, source: inferred, range: [2, 8] }
            capacity: unbounded
            redelivery_delay: 0s
            max_deliveries: 1
    "#]]
    .assert_eq(&text);
    assert_eq!(read_model("again.yaml", text.as_bytes()), Ok(learned()));
}

#[test]
fn the_same_model_in_json_is_the_same_model() {
    let json = r#"{"version": 1,
	"workload": {"users": {"to": "s.op", "open": {"rate": "80/s"}}},
	"services": {"s": {"workers": 1, "queue": "unbounded",
		"operations": {"op": {"paths": [{"weight": 1, "steps": [{"work": {"exponential": "10ms"}}]}]}}}}}"#;
    assert_eq!(read_model("mm1.json", json.as_bytes()), read_model("mm1.yaml", MM1.as_bytes()));
}

#[test]
fn an_overlay_sets_what_it_says_leaves_the_rest_and_reports_what_traces_contradict() {
    let text = "version: 1
services:
  web: { replicas: 3, workers: 10, queue: 64, mode: async }
  redis: { cache: { capacity: 700 } }
  fraud: { workers: 4 }
  mail.gateway: { workers: 4, operations: { send: { paths: [{ steps: [{ work: { constant: 5ms } }] }] } } }
edges:
  web->cart: { timeout: none, retry: none }
  cart->redis: { timeout: 60ms }
  cart->db: { retry: { attempts: 2, backoff: 20ms, jitter: full } }
  web->fraud: { timeout: 1s }
topics: { mailq: { concurrency: 6, capacity: 300, consumer: mailer } }
";
    let overlay = read_overlay("known.yaml", text.as_bytes()).expect("it is an overlay");
    let mut model = learned();
    let contradictions: Vec<String> = overlay.apply(&mut model).iter().map(ToString::to_string).collect();
    expect![[r#"
        known.yaml:5: /services/fraud: not applied: found fraud, expected a service that the traces show, or operations with paths to describe it
        known.yaml:11: /edges/web->fraud: not applied: found web->fraud, expected an edge between an entry, services and topics that the traces show
        services.web.replicas: declared 3, but the traces show 2 (observed)
        edges.web->cart.timeout: declared none, but the traces show one of 500ms
        edges.web->cart.retry: declared 1 try, but 1000 calls made 1200 attempts
        edges.cart->redis.timeout: declared 60ms, but 1 in 100 answers took 95ms or longer"#]].assert_eq(&contradictions.join("\n"));

    let web = &model.services["web"];
    assert_eq!((web.workers, web.mode), (Param::declared(Limit::Of(10)), Mode::Async));
    assert_eq!(web.operations, learned().services["web"].operations);
    let cache = model.services["redis"].cache.as_ref().expect("still a cache");
    assert_eq!((cache.capacity, cache.keys.source), (Param::declared(700), Source::Inferred));
    let edge = &model.edges[&EdgeName::new("cart", "redis")];
    assert_eq!(edge.timeout, Some(Param::declared(Nanos::from_millis(60))));
    assert!(edge.observed.is_some());
    let edge = &model.edges[&EdgeName::new("cart", "db")];
    assert_eq!(edge.retry.as_ref().map(|retry| retry.jitter), Some(Jitter::Full));
    let edge = &model.edges[&EdgeName::new("web", "cart")];
    assert_eq!((edge.timeout, &edge.retry), (None, &None));
    assert_eq!(model.topics["mailq"].capacity, Param::declared(Limit::Of(300)));
    assert!(model.services.contains_key("mail.gateway") && !model.services.contains_key("fraud"));

    assert_eq!(overlay.known_workers()["web"], 10);
    assert_eq!(overlay.known_caches(), [("redis".to_owned(), Some(700))].into());
    assert_eq!(overlay.known_timeouts()[&EdgeName::new("cart", "redis")], Nanos::from_millis(60));
}

#[test]
fn an_overlay_that_would_break_the_model_leaves_it_as_it_was() {
    let text = "version: 1\nservices: { cart: { operations: { get: { paths: [{ steps: [{ call: web }] }] } } } }\n";
    let overlay = read_overlay("loop.yaml", text.as_bytes()).expect("its form is right");
    let mut model = learned();
    let contradictions: Vec<String> = overlay.apply(&mut model).iter().map(ToString::to_string).collect();
    expect!["loop.yaml:2: /services/cart/operations/get: not applied: found a cycle of certain calls: cart.get -> web.GET / -> cart.get, expected requests that come to an end; give one of them a path without that call, or make the call with a probability below 1"].assert_eq(&contradictions.join("\n"));
    assert_eq!(model, learned());
}

/// The demo's system as far as names go: what the learner finds in its traces.
fn demo_names() -> Model {
    let operation = |name: &str, steps: &str| {
        let cache = if name == "cache" { "cache: { capacity: 100, keys: 3000 }, " } else { "" };
        format!("  {name}: {{ {cache}operations: {{ op: {{ paths: [{{ steps: [{steps}] }}] }} }} }}\n")
    };
    let services = [
        ("web", "{ call: search }, { call: orders }"),
        ("search", "{ lookup: { cache: cache, origin: catalogdb } }"),
        ("cache", ""),
        ("catalogdb", ""),
        ("orders", "{ call: seats }, { call: payment }, { publish: mailq }"),
        ("seats", "{ call: seatdb }"),
        ("seatdb", ""),
        ("payment", ""),
        ("mailer", ""),
    ];
    let text = format!(
        "version: 1\nworkload: {{ users: {{ to: web, open: {{ rate: 70/s }} }} }}\nservices:\n{}topics: {{ mailq: {{ consumer: mailer, concurrency: 1 }} }}\n",
        services.map(|(name, steps)| operation(name, steps)).concat()
    );
    read_model("demo-names.yaml", text.as_bytes()).expect("it is a model")
}

#[test]
fn what_the_demos_operator_knows_fits_the_demo_and_loses_nothing_of_the_original() {
    let overlay = read_overlay("known.yaml", include_bytes!("../../src/demo/known.yaml")).expect("known.yaml");
    let mut model = demo_names();
    assert_eq!(overlay.apply(&mut model), vec![]);

    let Some(original) = support::shared("data/demo/known.json") else { return };
    let original: serde_json::Value =
        serde_json::from_slice(&std::fs::read(original).expect("it can be read")).expect("it is JSON");
    let count = |value: &serde_json::Value| Param::declared(value.as_u64().expect("a count") as u32);
    let limit = |value: &serde_json::Value| Param::declared(Limit::Of(value.as_u64().expect("a count") as u32));
    let ms = |value: &serde_json::Value| Param::declared(Nanos::from_millis_f64(value.as_f64().expect("milliseconds")));
    let mut services = 0;
    for service in original["services"].as_array().expect("services") {
        let name = service["name"].as_str().expect("a name");
        if let Some(topic) = model.topics.get(name) {
            let broker = &service["broker"];
            assert_eq!(Some(&*topic.consumer.service), broker["consumer"].as_str());
            assert_eq!(topic.concurrency, count(&broker["concurrency"]));
            assert_eq!(topic.capacity, limit(&broker["capacity"]));
            assert_eq!(topic.max_deliveries, count(&broker["max_deliveries"]));
            assert_eq!(topic.redelivery_delay, ms(&broker["redelivery_delay_ms"]));
            continue;
        }
        let ours = &model.services[name];
        assert_eq!(ours.replicas, count(&service["replicas"]), "{name}");
        assert_eq!(ours.workers, limit(&service["workers"]), "{name}");
        assert_eq!(ours.queue, limit(&service["queue"]), "{name}");
        assert_eq!(Some(ours.mode == Mode::Blocking), service["blocking"].as_bool(), "{name}");
        assert_eq!(Some(ours.cancel_on_disconnect), service["cancel_on_disconnect"].as_bool(), "{name}");
        services += 1;
    }
    assert_eq!(services, model.services.len());
    for edge in original["edges"].as_array().expect("edges") {
        let name = |end: &str| edge[end].as_str().expect("a name").replace("user", "users");
        let ours = &model.edges[&EdgeName::new(name("from"), name("to"))];
        assert_eq!(ours.timeout, Some(ms(&edge["timeout_ms"])));
        assert_eq!(ours.retry.as_ref().map_or(Param::declared(1), |retry| retry.attempts), count(&edge["max_attempts"]));
        if let Some(retry) = &ours.retry {
            assert_eq!(retry.backoff, ms(&edge["backoff"]["base_ms"]));
            assert_eq!(Some(retry.factor.value), edge["backoff"]["mult"].as_f64());
            assert_eq!(retry.max, Some(ms(&edge["backoff"]["max_ms"])));
            assert_eq!((retry.jitter, edge["backoff"]["jitter"].as_str()), (Jitter::Full, Some("full")));
        }
        match (&ours.breaker, &edge["breaker"]) {
            (None, serde_json::Value::Null) => {}
            (Some(ours), breaker) => {
                let trips = Trips::Share {
                    window: BreakerWindow::Calls(count(&breaker["window"])),
                    min_calls: count(&breaker["min_calls"]),
                    threshold: Param::declared(breaker["threshold"].as_f64().expect("a share")),
                };
                let (open, probes) = (ms(&breaker["open_ms"]), count(&breaker["probes"]));
                assert_eq!(*ours, Breaker { trips, open, probes });
            }
            other => panic!("breakers differ: {other:?}"),
        }
    }
    assert_eq!(model.edges.len(), original["edges"].as_array().map_or(0, Vec::len));
}

#[test]
fn the_demos_scenarios_fit_the_demo_and_are_those_that_were_recorded() {
    let text = include_bytes!("../../src/demo/scenarios.yaml");
    let scenarios = read_checked("scenarios.yaml", text, &demo_names()).expect("scenarios.yaml");
    assert_eq!(read_scenarios("again.yaml", write_scenarios(&scenarios).as_bytes()), Ok(scenarios.clone()));

    // The original reads as it is once its names and units are ours: the kinds and magnitudes are then read as aliases.
    let Some(original) = support::shared("data/demo/scenarios.json") else { return };
    let original: serde_json::Value =
        serde_json::from_slice(&std::fs::read(original).expect("it can be read")).expect("it is JSON");
    let recorded = original["scenarios"].as_array().expect("scenarios");
    assert_eq!(scenarios.len(), recorded.len());
    for (ours, theirs) in scenarios.iter().zip(recorded) {
        assert_eq!((Some(&*ours.id), Some(&*ours.why)), (theirs["id"].as_str(), theirs["description"].as_str()));
        assert_eq!(Some(ours.load()), theirs["load"].as_f64());
        let faults = theirs["faults"].as_array().expect("faults");
        assert_eq!(ours.faults.len(), faults.len(), "{}", ours.id);
        for (ours, theirs) in ours.faults.iter().zip(faults) {
            let mut magnitude = serde_json::Map::new();
            for (key, value) in theirs["magnitude"].as_object().into_iter().flatten() {
                match key.strip_suffix("_ms") {
                    Some(key) => magnitude.insert(key.into(), format!("{value}ms").into()),
                    None if key == "max_attempts" => {
                        magnitude.insert(key.clone(), (value.as_f64().expect("a number") as u64).into())
                    }
                    None => magnitude.insert(key.clone(), value.clone()),
                };
            }
            let fault = serde_json::json!({
                "kind": theirs["kind"],
                "target": theirs["target"].as_str().expect("a target").replace("user", "users"),
                "start": format!("{}s", theirs["t0_s"]),
                "duration": format!("{}s", theirs["duration_s"]),
                "magnitude": magnitude,
            });
            let file = serde_json::json!({ "version": 1, "scenarios": [{ "id": "x", "faults": [fault] }] });
            let read = read_scenarios("original.json", file.to_string().as_bytes()).expect("the original");
            assert_eq!(*ours, read[0].faults[0]);
        }
    }
}

/// Every trace file under the shared data, and the demo's two.
fn trace_files() -> Vec<PathBuf> {
    let folders =
        ["data/traces/otlp-json", "data/traces/otlp-protobuf", "data/traces/jaeger-json", "data/traces/zipkin-json", "data/demo"];
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in folders.into_iter().filter_map(support::shared) {
        let entries = std::fs::read_dir(folder).expect("a folder can be listed");
        files.extend(entries.map(|entry| entry.expect("it has entries").path()).filter(|path| path.is_file()));
    }
    files.sort();
    files
}

#[test]
fn models_learned_from_real_traces_read_back_exactly_as_they_were_written() {
    let (mut learned, mut refused) = (0, Vec::new());
    for path in trace_files() {
        let name = path.display().to_string();
        let mut reader = Reader::new(ReadOptions::default());
        let file = std::fs::File::open(&path).expect("it can be opened");
        if reader.read(&name, file).is_err() {
            continue;
        }
        let Ok(lesson) = learn(&reader.finish(), &LearnOptions::default()) else { continue };
        let text = write_model(&lesson.model);
        match read_model(&name, text.as_bytes()) {
            Ok(read) => assert_eq!(read, lesson.model, "{name}"),
            Err(errors) => refused.push(errors.to_string()),
        }
        learned += 1;
    }
    assert_eq!(refused, Vec::<String>::new());
    assert!(learned == 0 || learned >= 10, "only {learned} files gave a model");
}

#[test]
fn what_the_demos_operator_knows_contradicts_nothing_that_its_traces_show() {
    let Some(traces) = support::shared("data/demo/baseline.otlp.json.gz") else { return };
    let overlay = read_overlay("known.yaml", include_bytes!("../../src/demo/known.yaml")).expect("known.yaml");
    let mut reader = Reader::new(ReadOptions::default());
    reader.read("baseline", std::fs::File::open(traces).expect("it can be opened")).expect("traces");
    let options = LearnOptions {
        known_workers: overlay.known_workers(),
        known_caches: overlay.known_caches(),
        known_timeouts: overlay.known_timeouts(),
        ..LearnOptions::default()
    };
    let mut model = learn(&reader.finish(), &options).expect("a lesson").model;
    let contradictions: Vec<String> = overlay.apply(&mut model).iter().map(ToString::to_string).collect();
    assert_eq!(contradictions, Vec::<String>::new());
    assert_eq!(model.services["seatdb"].workers, Param::declared(Limit::Of(2)));
    let scenarios = include_bytes!("../../src/demo/scenarios.yaml");
    assert_eq!(read_checked("scenarios.yaml", scenarios, &model).map(|list| list.len()), Ok(12));
    assert_eq!(read_model("again.yaml", write_model(&model).as_bytes()), Ok(model));
}
