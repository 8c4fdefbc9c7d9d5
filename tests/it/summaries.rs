//! Graph summaries without traces: what is read of them, and that the model made of them says what it does not know.

use std::fs;

use models::dist::Dist;
use models::format::{read_model, write_model};
use models::learn::{Finding, LearnOptions, Lesson, SummaryFinding, learn};
use models::param::Source;
use models::system::{EdgeName, Step};
use models::trace::{Format, GraphSummary, ReadOptions, Reader, Times, TraceSet, Volume};

use crate::support::shared;

fn read(inputs: &[&[u8]]) -> TraceSet {
    let mut reader = Reader::new(ReadOptions::default());
    for (i, input) in inputs.iter().enumerate() {
        reader.read(&format!("summary-{i}.json"), *input).unwrap_or_else(|errors| panic!("{errors}"));
    }
    reader.finish()
}

/// Learns, and holds that the model can be run and is read back as it was.
fn lesson(inputs: &[&[u8]]) -> Lesson {
    let lesson = learn(&read(inputs), &LearnOptions::default()).expect("a summary teaches");
    models::check::check(&lesson.model).unwrap_or_else(|errors| panic!("{errors}"));
    let text = write_model(&lesson.model);
    assert_eq!(read_model("model.yaml", text.as_bytes()).expect("readable"), lesson.model);
    lesson
}

fn rate(summary: &GraphSummary, from: Option<&str>, to: &str) -> (f64, f64) {
    let call = &summary.calls[&(from.map(str::to_owned), to.to_owned())];
    let Volume::PerSecond(rate) = call.volume else { panic!("{from:?}->{to} has a count") };
    (rate, call.failed.expect("Kiali tells errors"))
}

fn real(file: &str) -> Option<Vec<u8>> {
    shared(&format!("data/traces/{file}")).map(|path| fs::read(path).expect("a file that is there can be read"))
}

#[test]
fn every_kind_of_kiali_graph_gives_its_calls() {
    // Edges of requests, services without users and boxes, TCP edges.
    for (file, calls, services, tcp) in [
        ("workload_graph.json", 15, 11, 3),
        ("rates_total_graph.json", 15, 11, 3),
        ("service_graph.json", 10, 8, 3),
        ("app_graph.json", 11, 9, 3),
        ("versioned_app_graph.json", 15, 11, 3),
    ] {
        let Some(bytes) = real(&format!("kiali-json/{file}")) else { continue };
        let set = read(&[&bytes]);
        let notes = &set.files[0];
        assert_eq!(
            (notes.format, notes.edges, notes.services, notes.skipped),
            (Format::KialiGraph, calls, services, 0),
            "{file}"
        );
        let summary = &set.summaries[0];
        assert_eq!((summary.seconds, summary.left_out.len()), (Some(600.0), tcp), "{file}: {:?}", summary.left_out);
        let productpage = if file.contains("app_graph") && !file.contains("versioned") || file.contains("service") {
            "productpage"
        } else {
            "productpage-v1"
        };
        assert_eq!(rate(summary, None, productpage), (50.0, 0.0), "{file}: an unknown source is a user");
        assert!(summary.services().iter().all(|name| !name.contains("tcp")), "{file}: bytes are no calls");
        let lesson = lesson(&[&bytes]);
        assert_eq!(lesson.model.services.len() as u64, services, "{file}");
        assert_eq!(lesson.model.workload[&format!("users-{productpage}")].rate.value, 50.0, "{file}");
    }
    let Some(bytes) = real("kiali-json/versioned_app_graph.json") else { return };
    let set = read(&[&bytes]);
    let summary = &set.summaries[0];
    assert_eq!(rate(summary, Some("reviews-v2"), "ratings-v1"), (30.0, 10.0), "versions stay apart; 5xx are failures");
    assert_eq!(rate(summary, Some("productpage-v1"), "details-v1"), (80.0, 20.0), "3xx and 4xx are the caller's affair");
    assert!(!summary.services().contains("reviews"), "the box is no service");
}

#[test]
fn a_model_made_of_rates_says_what_it_does_not_know() {
    let Some(bytes) = real("kiali-json/app_graph.json") else { return };
    let lesson = lesson(&[&bytes]);
    let model = &lesson.model;
    let reviews = &model.services["reviews"].operations["request"];
    let calls = |service: &str| {
        reviews.paths[0].steps.iter().find_map(|step| match step {
            Step::Call(call) if call.to.service == service => Some(call.times.clone()),
            _ => None,
        })
    };
    // 100 requests a second, 40 of them its own: 60 calls of ratings, 20 of pricing.
    assert_eq!(calls("ratings"), Some(vec![(0, 0.4), (1, 0.6)]));
    assert_eq!(calls("pricing"), Some(vec![(0, 0.8), (1, 0.2)]));
    let ratings = &model.services["ratings"].operations["request"];
    let errors = ratings.error_rate.expect("a third fails");
    assert!((errors.value - 1.0 / 3.0).abs() < 1e-9 && errors.source == Source::Observed, "{errors:?}");
    let Step::Work(work) = &ratings.paths[0].steps[0] else { panic!("no work") };
    assert_eq!((work.source, work.scale_range), (Source::Assumed, Some([0.1, 10.0])), "no times, so wide ones are assumed");
    let users = &model.workload["users-productpage"].rate;
    assert_eq!((users.value, users.source), (50.0, Source::Observed));
    let gateway = &model.workload["users-ingressgateway"].rate;
    assert_eq!((gateway.value, gateway.source), (100.0, Source::Assumed), "it passes on what comes in");
    let says = |what: fn(&SummaryFinding) -> bool| lesson.findings.iter().any(|f| matches!(f, Finding::Summary(f) if what(f)));
    assert!(says(|f| matches!(f, SummaryFinding::StructureAssumed { .. })));
    assert!(says(|f| matches!(f, SummaryFinding::TimesAssumed { services } if services.len() == 9)));
    assert!(says(|f| matches!(f, SummaryFinding::LeftOut { what } if what.iter().any(|w| w.contains("productpage->tcp")))));
    assert!(says(|f| matches!(f, SummaryFinding::EntryAssumed { service, .. } if service == "ingressgateway")));
    let notes = &model.learned.as_ref().expect("learned").notes;
    assert!(notes.iter().any(|note| note.contains("made from a graph summary, not from traces")), "{notes:?}");
}

#[test]
fn kiali_looks_through_services_between_workloads_and_reads_response_times() {
    // web -> service cart -> cart-v1 (3/4), cart-v2 (1/4); the box is passed over.
    let graph = br#"{"duration":60,"graphType":"workload","elements":{"nodes":[
        {"data":{"id":"u","nodeType":"unknown","workload":"unknown"}},
        {"data":{"id":"w","nodeType":"workload","workload":"web","namespace":"a"}},
        {"data":{"id":"s","nodeType":"service","service":"cart","namespace":"a"}},
        {"data":{"id":"b","nodeType":"box","app":"cart","namespace":"a","isBox":"app"}},
        {"data":{"id":"1","nodeType":"workload","workload":"cart-v1","namespace":"a","parent":"b"}},
        {"data":{"id":"2","nodeType":"workload","workload":"cart-v2","namespace":"a","parent":"b"}}],"edges":[
        {"data":{"source":"u","target":"w","traffic":{"protocol":"http","rates":{"http":"10.00"}},"responseTime":"300"}},
        {"data":{"source":"w","target":"s","traffic":{"protocol":"grpc","rates":{"grpc":"8.00"}}}},
        {"data":{"source":"s","target":"1","traffic":{"protocol":"grpc","rates":{"grpc":"6.00","grpcErr":"3.00"}},"responseTime":"200"}},
        {"data":{"source":"s","target":"2","traffic":{"protocol":"grpc","rates":{"grpc":"2.00"}},"responseTime":"100"}},
        {"data":{"source":"w","target":"gone","traffic":{"protocol":"grpc","rates":{"grpc":"2.00"}}}}]}}"#;
    let set = read(&[graph]);
    let summary = &set.summaries[0];
    assert_eq!(summary.services().into_iter().collect::<Vec<_>>(), ["cart-v1", "cart-v2", "web"]);
    assert_eq!(rate(summary, Some("web"), "cart-v1"), (6.0, 3.0));
    assert_eq!(rate(summary, Some("web"), "cart-v2"), (2.0, 0.0));
    let skipped = &set.files[0].skipped_records;
    assert_eq!(skipped[0].reason, "an edge whose ends are not among the nodes");
    assert_eq!(summary.calls[&(None, "web".into())].server, Some(Times::Quantile(0.95, 0.3)));

    let lesson = lesson(&[graph]);
    let Step::Work(work) = &lesson.model.services["cart-v1"].operations["request"].paths[0].steps[0] else { panic!("no work") };
    let p95 = work.dist.quantile(0.95).as_millis_f64();
    assert!((p95 - 200.0).abs() < 2.0 && work.source == Source::Inferred, "{p95}");
    assert!(lesson.findings.iter().any(|f| matches!(f, Finding::Summary(SummaryFinding::TimesFromQuantile { .. }))));
}

#[test]
fn the_older_form_of_kiali_is_read() {
    let graph = br#"{"timestamp":1523364075,"duration":60,"graphType":"versionedApp","elements":{"nodes":[
        {"data":{"id":"n0","nodeType":"unknown","app":"unknown","isRoot":true}},
        {"data":{"id":"n1","nodeType":"app","app":"web","workload":"web-v1","version":"v1","namespace":"shop","rate":"4.000"}},
        {"data":{"id":"n2","nodeType":"app","app":"web","isGroup":"version","namespace":"shop"}},
        {"data":{"id":"n3","nodeType":"app","app":"db","workload":"db-v1","version":"v1","namespace":"shop"}}],"edges":[
        {"data":{"id":"e0","source":"n0","target":"n1","rate":"4.000","rate5XX":"1.000","percentErr":"25.00"}},
        {"data":{"id":"e1","source":"n1","target":"n3","tcpSentRate":"400.00"}}]}}"#;
    let set = read(&[graph]);
    let summary = &set.summaries[0];
    assert_eq!(rate(summary, None, "web-v1"), (4.0, 1.0));
    assert_eq!((summary.calls.len(), summary.left_out.len()), (1, 1));
}

#[test]
fn names_of_two_namespaces_stay_apart() {
    let graph = br#"{"elements":{"nodes":[
        {"data":{"id":"1","nodeType":"app","app":"web","namespace":"a"}},
        {"data":{"id":"2","nodeType":"app","app":"web","namespace":"b"}},
        {"data":{"id":"3","nodeType":"app","app":"db","namespace":"b"}}],"edges":[
        {"data":{"source":"1","target":"3","traffic":{"rates":{"http":"1"}}}},
        {"data":{"source":"2","target":"3","traffic":{"rates":{"http":2}}}}]}}"#;
    let set = read(&[graph]);
    assert_eq!(set.summaries[0].services().into_iter().collect::<Vec<_>>(), ["db", "web.a", "web.b"]);
}

#[test]
fn dependency_links_make_a_model_whose_rates_are_a_guess() {
    let links = br#"{"data":[{"parent":"web","child":"cart","callCount":600},{"parent":"web","child":"cart","callCount":264},
        {"parent":"cart","child":"db","callCount":1728},{"parent":"","child":"db","callCount":3},{"parent":"a","child":"b"}]}"#;
    let set = read(&[links]);
    assert_eq!((set.files[0].format, set.files[0].edges, set.files[0].skipped), (Format::Dependencies, 2, 2));
    let lesson = lesson(&[links]);
    let rate = &lesson.model.workload["users"].rate;
    assert_eq!((rate.value, rate.source), (864.0 / 86_400.0, Source::Assumed));
    let [low, high] = rate.range.expect("a range");
    assert!((low * 700.0 - rate.value * 100.0).abs() < 1e-9 && (high - rate.value * 24.0).abs() < 1e-9, "a week to an hour");
    let Step::Call(call) = &lesson.model.services["cart"].operations["request"].paths[0].steps[1] else { panic!("no call") };
    assert_eq!(call.times, [(2, 1.0)], "1728 of 864 requests");
    assert!(lesson.findings.contains(&Finding::Summary(SummaryFinding::SecondsAssumed)));
    assert!(lesson.findings.contains(&Finding::Summary(SummaryFinding::ErrorsUnknown)));

    let zipkin =
        br#"[{"parent":"web","child":"cart","callCount":120,"errorCount":30},{"parent":"web","child":"db","callCount":60}]"#;
    let errors = self::lesson(&[zipkin]).model.services["cart"].operations["request"].error_rate.expect("errors");
    assert_eq!(errors.value, 0.25);
}

#[test]
fn a_large_production_graph_becomes_a_model() {
    let Some(bytes) = real("jaeger-json/dependencies-large.json.gz") else { return };
    let set = read(&[&bytes]);
    assert_eq!((set.files[0].services, set.files[0].edges, set.files[0].skipped), (1_238, 4_271, 0));
    let lesson = lesson(&[&bytes]);
    assert_eq!(lesson.model.services.len(), 1_238);
    // Links of a service to itself, and the calls that close a circle in which requests would multiply, are what is missing.
    assert!(lesson.model.edges.len() > 4_000, "{}", lesson.model.edges.len());
}

/// Service-graph metrics over 200 s, as Prometheus answers a query over a range.
pub const METRICS: &[u8] = br#"{"status":"success","data":{"resultType":"matrix","result":[
    {"metric":{"__name__":"traces_service_graph_request_total","client":"user","server":"web"},"values":[[1000,"100"],[1060,"400"],[1100,"50"],[1200,"350"]]},
    {"metric":{"__name__":"traces_service_graph_request_total","client":"web","server":"db","connection_type":"database","failed":"false"},"values":[[1000,"0"],[1200,"900"]]},
    {"metric":{"__name__":"traces_service_graph_request_total","client":"web","server":"db","connection_type":"database","failed":"true"},"values":[[1000,"0"],[1200,"100"]]},
    {"metric":{"__name__":"traces_service_graph_request_failed_total","client":"web","server":"db","connection_type":"database"},"values":[[1000,"0"],[1200,"100"]]},
    {"metric":{"__name__":"traces_service_graph_request_total","client":"web","server":"mailer","connection_type":"messaging_system"},"values":[[1000,"0"],[1200,"65"]]},
    {"metric":{"__name__":"traces_service_graph_request_server_seconds_bucket","client":"web","server":"db","le":"0.01"},"values":[[1000,"0"],[1200,"500"]]},
    {"metric":{"__name__":"traces_service_graph_request_server_seconds_bucket","client":"web","server":"db","le":"0.02"},"values":[[1000,"0"],[1200,"900"]]},
    {"metric":{"__name__":"traces_service_graph_request_server_seconds_bucket","client":"web","server":"db","le":"+Inf"},"values":[[1000,"0"],[1200,"1000"]]},
    {"metric":{"__name__":"traces_service_graph_request_server_seconds_sum","client":"web","server":"db"},"values":[[1000,"0"],[1200,"12"]]},
    {"metric":{"__name__":"traces_service_graph_request_server_seconds_count","client":"web","server":"db"},"values":[[1000,"0"],[1200,"1000"]]},
    {"metric":{"__name__":"traces_service_graph_request_client_seconds_sum","client":"web","server":"db"},"values":[[1000,"0"],[1200,"14"]]},
    {"metric":{"__name__":"traces_service_graph_request_client_seconds_count","client":"web","server":"db"},"values":[[1000,"0"],[1200,"1000"]]},
    {"metric":{"__name__":"traces_service_graph_request_server_seconds_sum","client":"user","server":"web"},"values":[[1000,"0"],[1200,"52"]]},
    {"metric":{"__name__":"traces_service_graph_request_server_seconds_count","client":"user","server":"web"},"values":[[1000,"0"],[1200,"650"]]},
    {"metric":{"__name__":"traces_service_graph_request_server_seconds_bucket","client":"user","server":"web","le":"0.1"},"values":[[1000,"0"],[1200,"650"]]},
    {"metric":{"__name__":"up"},"values":[[1000,"1"]]},
    {"metric":{"__name__":"traces_service_graph_request_total","client":"web","server":"lost"},"values":[[1000,"NaN"]]}]}}"#;

#[test]
fn service_graph_metrics_give_rates_errors_and_times() {
    let set = read(&[METRICS]);
    let notes = &set.files[0];
    assert_eq!((notes.format, notes.edges, notes.skipped), (Format::ServiceGraphMetrics, 3, 1));
    let model = lesson(&[METRICS]).model;
    // 300 before the counter started anew, 50 until the next look, 300 after, in 200 s.
    assert_eq!(model.workload["users"].rate.value, 650.0 / 200.0);
    assert_eq!(model.workload["users"].rate.source, Source::Observed);
    let db = &model.services["db"].operations["request"];
    assert_eq!(db.error_rate.expect("a tenth fails").value, 0.1);
    let Step::Work(work) = &db.paths[0].steps[0] else { panic!("no work") };
    assert_eq!(work.source, Source::Inferred);
    let mean = work.dist.mean().as_millis_f64();
    assert!((mean - 12.0).abs() < 0.05, "sum over count is exact, the buckets only give the shape: {mean}");
    assert!(matches!(work.dist, Dist::Quantiles(_)));
    // web takes 80 ms, of which 1000/650 calls of 12 ms are not its own.
    let Step::Work(own) = &model.services["web"].operations["request"].paths[0].steps[0] else { panic!("no work") };
    let expected = 80.0 - 1000.0 / 650.0 * 12.0;
    let mean = own.dist.mean().as_millis_f64();
    assert!((mean - expected).abs() < 0.1, "{mean} for {expected}");
    let edge = &model.edges[&EdgeName::new("web", "db")];
    assert_eq!(edge.latency.expect("a latency").value.as_millis_f64(), 1.0, "the caller waits 14 ms for 12 ms");
    assert_eq!(model.topics["web-to-mailer"].consumer.service, "mailer", "a message is no call");
}

#[test]
fn metrics_may_come_in_several_answers_and_as_bare_rates() {
    let calls = br#"{"status":"success","data":{"resultType":"vector","result":[
        {"metric":{"client":"user","server":"web"},"value":[1000,"5"]},{"metric":{"client":"web","server":"db"},"value":[1000,"10"]}]}}"#;
    let failed = br#"{"status":"success","data":{"resultType":"matrix","result":[
        {"metric":{"__name__":"traces_service_graph_request_failed_total","client":"web","server":"db"},"values":[[0,"0"],[100,"200"]]}]}}"#;
    let set = read(&[calls, failed]);
    assert_eq!(set.files[0].mended["a series without a name was taken as calls per second"], 1);
    let model = lesson(&[calls, failed]).model;
    assert_eq!(model.workload["users"].rate.value, 5.0);
    assert_eq!(model.services["db"].operations["request"].error_rate.expect("errors").value, 0.2);
}

#[test]
fn a_summary_beside_traces_tells_of_calls_that_these_lack() {
    let trace = br#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"web"}}]},"scopeSpans":[{"spans":[
        {"traceId":"00000000000000000000000000000001","spanId":"0000000000000001","name":"op","kind":2,"startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000100000000"}]}]}]}"#;
    let lesson = lesson(&[trace, METRICS]);
    assert_eq!(lesson.model.services.len(), 1, "the traces are what the model is of");
    let missing = lesson.findings.iter().find_map(|finding| match finding {
        Finding::Summary(SummaryFinding::NotInTraces { calls }) => Some(calls.clone()),
        _ => None,
    });
    assert_eq!(missing, Some(vec![EdgeName::new("web", "db"), EdgeName::new("web", "mailer")]));
}

#[test]
fn nonsense_in_summaries_is_skipped_or_refused() {
    let refused = |text: &str| {
        let mut reader = Reader::new(ReadOptions::default());
        reader.read("x.json", text.as_bytes()).expect_err(text).to_string()
    };
    assert!(refused(r#"{"elements":{"nodes":7}}"#).contains("invalid type"));
    assert!(refused(r#"{"elements":{"nodes":[],"edges":[]}}"#).contains("a Kiali graph without any edge"));
    assert!(
        refused(r#"{"status":"success","data":{"result":[{"metric":{"__name__":"up"}}]}}"#).contains("without service-graph")
    );
    assert!(refused(r#"{"status":"success","data":{"result":[{"metric":{"__name__":"traces_service_graph_request_total"},"value":[1,"2"]}]}}"#).contains("label server"));
    assert!(refused(r#"[{"parent":"a","child":"b","callCount":-1}]"#).contains("dependency link"));
    let nobody = learn(&read(&[br#"[{"parent":"a","child":"b","callCount":0}]"#]), &LearnOptions::default());
    expect_test::expect![[r#"
        error: summary-0.json
          found:    a graph in which nobody was called
          expected: calls between services, or rates above 0
          help:     ask for a time with traffic in it"#]]
    .assert_eq(&nobody.expect_err("nothing to learn").to_string());
    let arrows = lesson(&[br#"[{"parent":"a->b","child":"*","callCount":5}]"#]);
    assert_eq!(arrows.model.services.keys().collect::<Vec<_>>(), ["a-b", "star"]);
    // Counters and bounds may hold any number; a model may not.
    let wild = lesson(&[br#"{"data":[{"parent":"a","child":"b","callCount":9223372036854775807}]}"#]);
    assert_eq!(wild.model.workload["users"].rate.value, models::check::MAX_PER_S);
    lesson(&[br#"{"status":"success","data":{"resultType":"matrix","result":[
        {"metric":{"__name__":"traces_service_graph_request_total","client":"user","server":"web"},"values":[[0,"0"],[60,"600"]]},
        {"metric":{"__name__":"traces_service_graph_request_server_seconds_bucket","client":"user","server":"web","le":"9e18"},"values":[[0,"0"],[60,"600"]]}]}}"#]);
}
