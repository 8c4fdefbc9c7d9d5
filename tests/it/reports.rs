//! Reports from outside: `ranking.json` under its schema, its faults as scenario files have them, and predictions beside live outcomes.

use std::collections::BTreeSet;

use models::dist::{Dist, Work};
use models::system::{CallPath, EdgeName, Entry, Model, OpRef, Operation, Service, Step};
use models::units::{Nanos, SimTime};
use reports::{AnalyseInput, LiveOutcomes, Report, analyse};
use scenarios::fault::{Fault, FaultKind, Leg, Target};
use scenarios::record::{Breach, LiveMeasures, Peak, RunRecord};
use scenarios::scenario::Scenario;
use serde_json::{Value, json};

use crate::support;

fn model() -> Model {
    let mut model = Model::default();
    let path =
        CallPath { weight: 1.0.into(), steps: vec![Step::Work(Work::declared(Dist::Exponential(Nanos::from_millis(10))))] };
    let mut service = Service::default();
    service.operations.insert("op".into(), Operation { paths: vec![path], ..Operation::default() });
    model.services.insert("s".into(), service);
    model.workload.insert("users".into(), Entry::open(OpRef::new("s", "op"), 80.0.into(), 0));
    model
}

fn record(scenario: &str, seed: u64, vs_baseline: LiveMeasures) -> RunRecord {
    RunRecord {
        scenario: scenario.into(),
        world: 0,
        seed,
        token: format!("token-{scenario}-{seed}"),
        digest: "00ff00ff00ff00ff".into(),
        events: 1,
        truncated: false,
        horizon_s: 120.0,
        start_s: 30.0,
        clear_s: 50.0,
        requests: 3000,
        failed: 30,
        twin_failed: 3,
        harmed: 100 + seed,
        harmed_directly: 50,
        cascaded: seed > 1,
        metastable: false,
        recovery_s: (seed > 1).then_some(4.25),
        breaches: vec![Breach { node: "s".into(), by_error: true, by_p99: false, first_s: 33.0 }],
        error_rate: Peak { peak: 1.0 / 3.0, baseline: 0.001 },
        p99_ms: Peak { peak: 812.345_678_9, baseline: 46.0 },
        retry_amplification_peak: 1.5,
        retry_amplification_mean: 1.1,
        queue_depth: Peak { peak: 12.0, baseline: 2.0 },
        queue_node: "s".into(),
        coalesced_at_s: None,
        stale_writes: 0,
        duplicate_effects: 0,
        dead_letters: 0,
        wasted: 7,
        vs_baseline,
    }
}

/// One scenario for every kind of fault, with its magnitude spelled out and with its defaults.
fn every_fault() -> Vec<Scenario> {
    let (ms, edge, node) = (Nanos::from_millis, Target::Edge(EdgeName::new("users", "s")), Target::Node("s".into()));
    let kinds = [
        (FaultKind::latency(ms(800)), &edge),
        (
            FaultKind::Latency { add: ms(100), jitter: ms(50), distribution: None, leg: Leg::Request, delivers_abandoned: true },
            &edge,
        ),
        (FaultKind::ConnectionDrop { probability: 0.2 }, &edge),
        (FaultKind::BlackHole { leg: Leg::Both }, &edge),
        (FaultKind::AggressiveRetries { attempts: 8, backoff: ms(10) }, &edge),
        (FaultKind::Errors { probability: 0.3 }, &node),
        (FaultKind::Slow { factor: 4.0 }, &node),
        (FaultKind::Crash { replicas: None, black_hole: false }, &node),
        (FaultKind::Crash { replicas: Some(1), black_hole: true }, &node),
        (FaultKind::WorkersLost { keep: 0.5 }, &node),
        (FaultKind::Surge { factor: 3.0 }, &node),
        (FaultKind::Delay { add: ms(5), jitter: Nanos::ZERO }, &node),
        (FaultKind::Reorder { probability: 0.1, within: ms(500) }, &node),
        (FaultKind::ConsumerStall, &node),
    ];
    let fault = |(kind, target): (FaultKind, &Target)| {
        Fault::new(kind, target.clone(), SimTime::from_nanos(30_000_000_000), Nanos::from_millis(2500))
    };
    let named = kinds.into_iter().enumerate().map(|(i, k)| (format!("f{i}-{}", k.0.name()), fault(k)));
    named.map(|(id, fault)| Scenario { id, why: "so".into(), load: Some(1.5), faults: vec![fault] }).collect()
}

fn report(scenarios: &[Scenario], records: &[RunRecord], live: Option<&LiveOutcomes>) -> Report {
    analyse(&AnalyseInput { model: &model(), scenarios, records, notes: &[], compare_live: live, folder: "out" })
}

fn ranking(report: &Report) -> Value {
    let mut bytes = Vec::new();
    reports::write_ranking_json(report, &mut bytes).expect("writing into memory does not fail");
    serde_json::from_slice(&bytes).expect("it is JSON")
}

fn records_of(scenarios: &[Scenario]) -> Vec<RunRecord> {
    scenarios.iter().flat_map(|s| (1..=3).map(|seed| record(&s.id, seed, LiveMeasures::default()))).collect()
}

#[test]
fn ranking_json_meets_its_schema_and_the_schema_would_notice() {
    let schema: Value = serde_json::from_str(reports::RANKING_SCHEMA).expect("the schema is JSON");
    let schema = jsonschema::validator_for(&schema).expect("the schema is a schema");
    let scenarios = every_fault();
    let live = format!(r#"{{"scenarios": [{{"id": "{}", "runs": [{{"p99_ms": 5.0}}]}}]}}"#, scenarios[0].id);
    let live = LiveOutcomes::parse("live.json", live.as_bytes()).expect("well formed");
    for live in [None, Some(&live)] {
        let file = ranking(&report(&scenarios, &records_of(&scenarios), live));
        let mistakes: Vec<String> = schema.iter_errors(&file).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert_eq!(mistakes, Vec::<String>::new());
        assert_eq!(file["live"].is_object(), live.is_some());
    }
    let mut file = ranking(&report(&scenarios, &records_of(&scenarios), None));
    for key in ["cascade_risk", "token", "recovery_s", "p_metastable", "queue_depth"] {
        let kept = file["scenarios"][0].as_object_mut().expect("a row").shift_remove(key).expect(key);
        assert!(!schema.is_valid(&file), "a row without {key} passes");
        file["scenarios"][0][key] = kept;
    }
    file["scenarios"][0]["cascade_risk"]["mean"] = json!(1.5);
    assert!(!schema.is_valid(&file), "a risk above 1 passes");
}

#[test]
fn the_contract_of_a_ranking_row_holds_key_by_key() {
    let scenarios = &every_fault()[..1];
    let row = ranking(&report(scenarios, &records_of(scenarios), None))["scenarios"][0].clone();
    // (51, 52, 53) / 3000; two of three recover, so the median is known and nine in ten are not.
    assert_eq!(row["cascade_risk"]["mean"], json!(0.017_333_3));
    assert_eq!(row["p_cascade"]["estimate"], json!(0.666_667));
    assert_eq!(row["recovery_s"], json!({ "median": 4.25, "p90": null, "censored_share": 0.333_333, "watched_s": 70.0 }));
    assert_eq!(row["excess_failed_share"], json!(0.009));
    assert_eq!(row["error_rate"], json!({ "peak": 0.333_333, "baseline": 0.001 }));
    assert_eq!(row["p99_ms"], json!({ "peak": 812.346, "baseline": 46.0 }));
    assert_eq!(row["retry_amplification"], json!({ "peak": 1.5, "mean": 1.1 }));
    assert_eq!(row["breached_services"][0]["service"], json!("s"));
    assert_eq!(
        (&row["rank"], &row["token"], &row["why"]),
        (&json!(1), &json!(format!("token-{}-3", scenarios[0].id)), &json!("so"))
    );
}

#[test]
fn faults_in_ranking_json_read_back_as_a_scenario_file() {
    let scenarios = every_fault();
    let file = ranking(&report(&scenarios, &records_of(&scenarios), None));
    let pick = |row: &Value| json!({ "id": row["id"], "why": row["why"], "load": row["load"], "faults": row["faults"] });
    let rows: Vec<Value> = file["scenarios"].as_array().expect("a list").iter().map(pick).collect();
    let text = json!({ "version": 1, "scenarios": rows }).to_string();
    let mut read = scenarios::format::read_scenarios("ranking.json", text.as_bytes()).expect("it is a scenario file");
    read.sort_by(|a, b| a.id.cmp(&b.id));
    let mut expected = scenarios;
    expected.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(read, expected);
}

#[test]
fn files_are_the_same_whatever_the_order_of_the_records() {
    let scenarios = every_fault();
    let mut records = records_of(&scenarios);
    let files = |records: &[RunRecord]| {
        let report = report(&scenarios, records, None);
        let (mut json, mut csv) = (Vec::new(), Vec::new());
        reports::write_ranking_json(&report, &mut json).expect("memory");
        reports::write_ranking_csv(&report, &mut csv).expect("memory");
        (json, csv, reports::summary(&report), reports::svg::ranking(&report), reports::svg::graph(&model(), &report))
    };
    let before = files(&records);
    records.reverse();
    assert!(files(&records) == before, "the order of the records shows");
}

#[test]
fn the_demo_recording_is_read_and_a_perfect_prediction_is_called_perfect() {
    let Some(path) = support::shared("data/demo/outcomes.json") else { return };
    let live = LiveOutcomes::parse("outcomes.json", &std::fs::read(path).expect("it can be read")).expect("it is well formed");
    assert_eq!(live.scenarios.len(), 12);
    let seen = live.scenarios.iter().find(|s| s.id == "seatdb-slow-4").map(|s| &s.runs[0]).expect("it is in the recording");
    assert_eq!((seen.excess_failed_fraction, seen.p99_ms, seen.recovery_s, seen.metastable), (0.3484, 1044.6, None, true));
    assert_eq!((seen.max_queue_depth.node.as_deref(), seen.max_queue_depth.value), (Some("seatdb"), 100));

    let scenarios: Vec<Scenario> = live.scenarios.iter().map(|s| Scenario { id: s.id.clone(), ..Scenario::default() }).collect();
    let copied = live.scenarios.iter().map(|s| {
        let run = &s.runs[0];
        let measures = LiveMeasures {
            excess_failed_fraction: run.excess_failed_fraction,
            metastable: run.metastable,
            cascaded: run.cascaded,
            breached: run.breached.clone(),
            ..LiveMeasures::default()
        };
        record(&s.id, 1, measures)
    });
    let mut records: Vec<RunRecord> = copied.collect();
    let comparison = report(&scenarios, &records, Some(&live)).live.expect("there are live outcomes");
    assert_eq!((comparison.rank_correlation, comparison.breached_overlap), (Some(1.0), 1.0));
    assert_eq!((comparison.cascade.hits, comparison.cascade.right(), comparison.metastable.hits), (7, 12, 2));
    // A prediction that is wrong must look wrong.
    records.iter_mut().for_each(|r| r.vs_baseline.excess_failed_fraction *= -1.0);
    records.iter_mut().for_each(|r| r.vs_baseline.cascaded ^= true);
    let comparison = report(&scenarios, &records, Some(&live)).live.expect("there are live outcomes");
    assert_eq!((comparison.rank_correlation, comparison.cascade.right()), (Some(-1.0), 0));
}

#[test]
fn outcomes_csv_has_a_live_column_for_each_of_the_recordings() {
    let mut bytes = Vec::new();
    let scenarios = every_fault();
    reports::write_outcomes_csv(&records_of(&scenarios), &mut bytes).expect("memory");
    let text = String::from_utf8(bytes).expect("it is text");
    let mut lines = text.lines();
    let head: BTreeSet<&str> = lines.next().expect("a head").split(',').collect();
    assert_eq!(lines.count(), scenarios.len() * 3);
    let Some(path) = support::shared("data/demo/outcomes.csv") else { return };
    let recorded = std::fs::read_to_string(path).expect("it can be read");
    for name in recorded.lines().next().expect("a head").split(',').filter(|n| !["topology", "scenario", "seed"].contains(n)) {
        assert!(head.contains(format!("live_{name}").as_str()), "no column live_{name}");
    }
}
