//! The file of checks: what is read, what the schema says of it, and what cases come of it.

use models::format::read_model;
use serde_json::Value as Json;

use super::*;
use crate::fault::FaultKind;
use crate::format::{MAGNITUDES, SCENARIOS_SCHEMA};

const CHECKS: &str = "
version: 1
model: model.yaml
scenarios: scenarios.yaml
checks:
  - id: links
    why: links are slow at times
    faults: [ { kind: latency, target: every edge, start: 30s, duration: 30s, magnitude: { add: 1s } } ]
    up_to: true
    load: 1.5
    expect: { metastable: never, recovery_within: 20s }
    horizon: 90s
    warm_up: 5s
    world: 2
    share: 0.99
    confidence: 0.9
    runs: 2000
  - { id: named, scenarios: [a, b], expect: { error_rate_below: 0.1, at: web->db, p99_below: 2s, queue_below: 100, harmed_below: 0.2 } }
  - { id: all, scenarios: all, expect: { stale_writes_at_most: 0, duplicate_effects_at_most: 1, dead_letters_at_most: 2, breach: never, cascade: never, retry_amplification_below: 2 } }
  - { id: old, token: fs1-00000000-00000001-w0-s1-h60s-k, must: fail }
  - { id: two, faults: [ { kind: pause, target: [web, db], start: 1s, duration: 1s } ], expect: { metastable: never } }
";

fn read() -> Checks {
    read_checks("checks.yaml", CHECKS.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn model() -> Model {
    let text = "
version: 1
workload: { users: { to: web.get, open: { rate: 10/s } } }
services:
  web: { operations: { get: { paths: [ { steps: [ { call: db.q } ] } ] } } }
  db: { operations: { q: { paths: [ { steps: [ { work: { constant: 1ms } } ] } ] } } }
";
    read_model("model.yaml", text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn every_key_means_what_it_says_and_what_is_left_out_has_a_default() {
    let checks = read();
    assert_eq!((checks.model.as_deref(), checks.scenarios.as_deref()), (Some("model.yaml"), Some("scenarios.yaml")));
    let [links, named, all, old, _] = &checks.checks[..] else { panic!("five checks") };
    assert_eq!(links.bounds, [Bound::Never(Failure::Metastable), Bound::RecoveryWithin(Nanos::from_secs(20))]);
    assert_eq!((links.horizon, links.warm_up, links.world), (Nanos::from_secs(90), Nanos::from_secs(5), 2));
    assert_eq!((links.share, links.confidence, links.runs), (0.99, 0.9, 2000));
    assert!(matches!(&links.subject, Subject::Faults { up_to: true, load: Some(1.5), .. }));
    assert_eq!((named.horizon, named.warm_up), (Nanos::from_secs(120), Nanos::from_secs(10)));
    assert_eq!((named.share, named.confidence, named.runs, named.at.as_deref()), (0.95, 0.95, 1000, Some("web->db")));
    assert_eq!((&named.subject, named.bounds.len()), (&Subject::Scenarios(vec!["a".into(), "b".into()]), 4));
    assert_eq!((&all.subject, all.bounds.len()), (&Subject::Scenarios(Vec::new()), 6));
    assert!(matches!(old.subject, Subject::Token { must: Must::Fail, .. }));
    assert_eq!(old.bounds, [Bound::Never(Failure::Metastable), Bound::Never(Failure::Cascade)]);
}

#[test]
fn a_check_speaks_of_every_target_at_every_degree() {
    let (checks, model) = (read(), model());
    let cases = checks.checks[0].cases("/checks/0", &model, &[]).expect("it fits");
    let labels: Vec<&str> = cases.iter().map(|case| case.label.as_str()).collect();
    assert_eq!(labels[..4], ["users->web", "users->web at 3/4", "users->web at 2/4", "users->web at 1/4"]);
    assert_eq!(labels[4..], ["web->db", "web->db at 3/4", "web->db at 2/4", "web->db at 1/4"]);
    let quarter = &cases[7].scenario;
    assert_eq!((quarter.id.as_str(), quarter.load), ("links.web-db.1of4", Some(1.5)));
    assert_eq!(quarter.faults[0].kind, FaultKind::latency(Nanos::from_millis(250)));
    let two = checks.checks[4].cases("/checks/4", &model, &[]).expect("it fits");
    assert_eq!(two.iter().map(|case| case.label.as_str()).collect::<Vec<_>>(), ["web", "db"]);
    let errors = checks.checks[1].cases("/checks/1", &model, &[]).expect_err("there are no such scenarios");
    assert_eq!(
        errors.0.iter().map(|e| e.place.as_deref()).collect::<Vec<_>>(),
        [Some("/checks/1/scenarios/0"), Some("/checks/1/scenarios/1")]
    );
}

#[test]
fn the_schema_accepts_what_is_read_and_knows_the_same_keys() {
    let schema: Json = serde_json::from_str(CHECKS_SCHEMA).expect("the schema is JSON");
    let scenarios: Json = serde_json::from_str(SCENARIOS_SCHEMA).expect("the schema is JSON");
    for shape in SHAPES {
        let definition = if shape.name.is_empty() { &schema } else { &schema["$defs"][shape.name] };
        let mut keys: Vec<&str> = definition["properties"].as_object().expect("properties").keys().map(String::as_str).collect();
        let mut known = shape.keys.to_vec();
        keys.sort_unstable();
        known.sort_unstable();
        assert_eq!(keys, known, "{}", shape.name);
    }
    // Faults are those of scenario files, but for their targets.
    let mut fault = schema["$defs"]["fault"].clone();
    fault["properties"]["target"] = scenarios["$defs"]["fault"]["properties"]["target"].clone();
    assert_eq!(fault, scenarios["$defs"]["fault"]);
    for magnitude in MAGNITUDES {
        let name = format!("magnitude_{}", magnitude.shape.name);
        assert_eq!(schema["$defs"][&name], scenarios["$defs"][&name], "{name}");
    }
    let validator = jsonschema::draft202012::new(&schema).expect("the schema is a schema");
    let valid = serde_json::json!({
        "version": 1,
        "checks": [
            { "id": "a", "faults": [ { "kind": "pause", "target": ["web", "db"], "start": "1s", "duration": "1s" } ], "expect": { "metastable": "never" } },
            { "id": "b", "token": "fs1-00000000-00000001-w0-s1-h60s-k", "must": "fail" },
            { "id": "c", "scenarios": "all", "expect": { "recovery_within": "20s" }, "share": 0.99 },
        ]
    });
    assert!(validator.is_valid(&valid));
    let wrong = [
        ("/checks/0/expect/metastable", serde_json::json!("seldom")),
        ("/checks/1/must", serde_json::json!("perhaps")),
        ("/checks/2/share", serde_json::json!(0)),
        ("/checks/2/scenarios", serde_json::json!([])),
    ];
    for (place, value) in wrong {
        let mut document = valid.clone();
        *document.pointer_mut(place).expect("it is there") = value;
        assert!(!validator.is_valid(&document), "{place}");
        assert!(read_checks("wrong", document.to_string().as_bytes()).is_err(), "{place}");
    }
    assert!(read_checks("valid", valid.to_string().as_bytes()).is_ok(), "JSON is YAML too");
}

#[test]
fn no_damage_makes_reading_panic() {
    let bytes = CHECKS.as_bytes();
    for at in 0..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged.remove(at);
        let _ = read_checks("damaged", &damaged);
        let _ = read_checks("cut", &bytes[..at]);
    }
}
