//! Backcasts of made-up systems: one that stays as it is, and one that changes where the learner has stopped looking.

use foreshock::commands::backcast::backcast;
use models::fidelity::{Backcast, GOOD};
use models::format::{read_model, write_model};
use models::learn::{LearnOptions, learn};
use models::trace::{ReadOptions, Reader, TraceSet};
use models::units::Nanos;
use scenarios::format::read_checked;
use scenarios::scenario::Scenario;
use sim::{Prepared, Program, RunOptions, SpanOptions};

const SHOP: &str = "
version: 1
workload: { users: { to: web.get, open: { rate: 80/s } } }
services:
  web: { workers: 128, queue: 64, operations: { get: { paths: [
    { weight: 0.7, steps: [ { work: { lognormal: { p50: 4ms, p99: 20ms } } }, { call: { to: stock.read } }, { call: { to: ads.list, on_failure: degrade } } ] },
    { weight: 0.3, steps: [ { work: { lognormal: { p50: 4ms, p99: 20ms } } }, { call: { to: pay.charge } }, { publish: { to: mails } } ] } ] } } }
  stock: { replicas: 2, workers: 3, queue: 64, operations: { read: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 25ms, p99: 90ms } } } ] } ] } } }
  ads: { workers: 32, queue: 64, operations: { list: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 15ms, p99: 150ms } } } ] } ] } } }
  pay: { workers: 32, queue: 64, operations: { charge: { error_rate: 0.1, paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 30ms, p99: 120ms } } } ] } ] } } }
  mailer: { workers: 8, queue: 64, operations: { send: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 40ms, p99: 120ms } } } ] } ] } } }
topics: { mails: { consumer: mailer.send, concurrency: 4, accept: { constant: 1ms } } }
edges:
  web->stock: { latency: 300us }
  web->ads: { latency: 300us, timeout: 100ms, retry: { attempts: 2, backoff: 10ms } }
  web->pay: { latency: 300us, retry: { attempts: 3, backoff: 20ms, jitter: full } }
";

const HORIZON_S: u64 = 120;

/// Traffic of the shop, as a collector would have kept it.
fn traffic(seed: u64, faults: &str) -> TraceSet {
    let model = read_model("shop.yaml", SHOP.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
    let scenario = match faults {
        "" => Scenario::default(),
        faults => {
            let text = format!("version: 1\nscenarios:\n  - {{ id: change, faults: [ {faults} ] }}\n");
            read_checked("change.yaml", text.as_bytes(), &model).unwrap_or_else(|errors| panic!("{errors}")).remove(0)
        }
    };
    let program = Program::compile(&model, 0).expect("it compiles");
    let options = RunOptions { seed, horizon: Nanos::from_secs(HORIZON_S), ..RunOptions::default() };
    let spans = SpanOptions::default();
    let run = Prepared::new(&program, &scenario, &options).expect("it fits").trace(&spans).run();
    let mut bytes = Vec::new();
    run.spans(&model, &spans).expect("it was traced").write_otlp(&mut bytes).expect("memory takes it");
    let mut reader = Reader::new(ReadOptions::default());
    reader.read("spans.jsonl", bytes.as_slice()).unwrap_or_else(|errors| panic!("{errors}"));
    reader.finish()
}

fn foretold(seed: u64, faults: &str) -> Backcast {
    let mut traces = traffic(seed, faults);
    let before = (traces.traces.len(), traces.spans());
    let backcast = backcast(&mut traces, &[], None).unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!((traces.traces.len(), traces.spans()), before, "the traces are all there for the lesson that follows");
    assert!(traces.traces.windows(2).all(|w| w[0].spans[0].start_ns <= w[1].spans[0].start_ns + 1), "and in order");
    backcast
}

#[test]
fn a_system_that_stays_as_it_is_foretells_itself() {
    let (mut good, mut all, mut lowest) = (0, 0, 1.0_f64);
    for seed in 1..=5 {
        let backcast = foretold(seed, "");
        let (learned, rest) = (HORIZON_S as f64 * 2.0 / 3.0, HORIZON_S as f64 / 3.0);
        assert!((backcast.learned_s - learned).abs() < 4.0 && (backcast.foretold_s - rest).abs() < 4.0, "{backcast:?}");
        let names: Vec<&str> = backcast.boundaries.keys().map(String::as_str).collect();
        assert_eq!(names, ["users", "mails->mailer", "web->ads", "web->mails", "web->pay", "web->stock"]);
        for (name, boundary) in &backcast.boundaries {
            all += 1;
            good += u32::from(boundary.score >= 0.9);
            lowest = lowest.min(boundary.score);
            assert!(boundary.score >= GOOD, "seed {seed}, {name}: {boundary:?}");
        }
    }
    assert!(good * 10 >= all * 9, "{good} of {all} are as good as foretold; the lowest is {lowest}");
}

#[test]
fn a_service_that_becomes_slow_is_foretold_badly_there_and_nowhere_else() {
    let backcast = foretold(1, "{ kind: slow, target: pay, start: 80s, duration: 40s, magnitude: { factor: 3 } }");
    let bad: Vec<&str> = backcast.bad().into_iter().map(|(name, _)| name).collect();
    assert!(bad.contains(&"web->pay"), "{backcast:?}");
    assert_eq!(bad[0], "web->pay", "worst where it happened: {backcast:?}");
    for fine in ["web->stock", "web->ads", "web->mails", "mails->mailer"] {
        assert!(!bad.contains(&fine), "{fine} is as it was: {backcast:?}");
    }
    assert!(backcast.warnings()[0].contains("web->pay") && backcast.warnings()[0].contains(" came"), "{:?}", backcast.warnings());
}

#[test]
fn errors_that_begin_later_are_foretold_badly_where_they_are() {
    let backcast = foretold(2, "{ kind: errors, target: stock, start: 80s, duration: 40s, magnitude: { probability: 0.2 } }");
    let bad: Vec<&str> = backcast.bad().into_iter().map(|(name, _)| name).collect();
    assert!(bad.contains(&"web->stock") && bad.contains(&"users"), "{backcast:?}");
    assert!(!bad.contains(&"web->ads") && !bad.contains(&"web->pay"), "{backcast:?}");
}

#[test]
fn a_model_file_keeps_its_backcast_and_reports_warn_of_it() {
    let mut traces = traffic(1, "{ kind: slow, target: pay, start: 80s, duration: 40s, magnitude: { factor: 3 } }");
    let backcast = backcast(&mut traces, &[], None).unwrap_or_else(|failure| panic!("{failure:?}"));
    let mut model = learn(&traces, &LearnOptions::default()).expect("there are requests").model;
    model.learned.get_or_insert_default().backcast = Some(backcast);
    let text = write_model(&model);
    let again = read_model("model.yaml", text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(again, model);
    let report = reports::analyse(&reports::AnalyseInput {
        model: &again,
        scenarios: &[],
        records: &[],
        notes: &[],
        compare_live: None,
        folder: "out",
    });
    assert!(report.learned[0].starts_with("the model foretold its own traffic badly at web->pay"), "{:?}", report.learned);
    assert!(reports::summary(&report).contains("foretold its own traffic badly"), "the screen shows it");
}

#[test]
fn too_few_traces_are_refused_in_words() {
    let mut traces = traffic(1, "");
    traces.traces.truncate(90);
    let foreshock::exit::Failure::Refused(text) = backcast(&mut traces, &[], None).expect_err("90 traces are too few") else {
        panic!("refused")
    };
    let said = "error: --backcast\n  expected: at least 300 traces (90 were read)\n  help:     give more traffic, or leave --backcast away";
    assert_eq!(text, said);
}
