//! Both engines from the command line: the same files, tokens and reports.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const MODEL: &str = "
version: 1
workload: { users: { to: a.op, open: { rate: 60/s } } }
services:
  a: { workers: 12, queue: 50, operations: { op: { paths: [ { steps: [ { work: { lognormal: { p50: 4ms, p99: 20ms } } }, { call: b.op } ] } ] } } }
  b: { workers: 2, queue: 40, operations: { op: { paths: [ { steps: [ { work: { exponential: 20ms } } ] } ] } } }
edges:
  users->a: { timeout: 2s, latency: 1ms }
  a->b: { timeout: 300ms, latency: 1ms, retry: { attempts: 3, backoff: 10ms, jitter: full } }
";

const SCENARIOS: &str = "
version: 1
scenarios:
  - { id: slow-b, faults: [ { kind: slow, target: b, start: 8s, duration: 4s, magnitude: { factor: 1.6 } } ] }
  - { id: far-b, faults: [ { kind: latency, target: a->b, start: 8s, duration: 4s, magnitude: { add: 120ms } } ] }
";

fn foreshock(here: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foreshock")).args(line.split(' ')).current_dir(here).output().expect("it starts")
}

#[track_caller]
fn json(here: &Path, line: &str) -> Value {
    let out = foreshock(here, line);
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("JSON")
}

fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(place.path().join("model.yaml"), MODEL).expect("written");
    std::fs::write(place.path().join("scenarios.yaml"), SCENARIOS).expect("written");
    place
}

#[test]
fn one_run_of_either_engine_says_the_same_in_the_same_words() {
    let place = place();
    let run = |engine: &str| {
        let line = format!("simulate model.yaml scenarios.yaml --id far-b --horizon 20s --json {engine}");
        json(place.path(), &line)
    };
    let (kernel, hosted) = (run("--quantum 1ms"), run("--engine hosted"));
    assert_eq!(kernel["requests"], hosted["requests"]);
    let p99 = |run: &Value| run["entries"]["users"]["p99_ms"].as_f64().expect("a number");
    assert!((p99(&kernel) / p99(&hosted) - 1.0).abs() < 0.05, "{} {}", p99(&kernel), p99(&hosted));
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&kernel), keys(&hosted));
}

#[test]
fn a_hosted_sweep_is_ranked_and_its_tokens_are_replayed() {
    let place = place();
    let line = "sweep model.yaml scenarios.yaml --engine hosted --seeds 2 --horizon 20s --warmup 3s -o out --json";
    let ranking = json(place.path(), line);
    let token = ranking["scenarios"][0]["token"].as_str().expect("a token").to_owned();
    assert!(token.ends_with("-h"), "{token}");
    let replayed = json(place.path(), &format!("replay {token} --in out --json"));
    assert_eq!(replayed["same"], true, "{replayed}");
    // Another run of the same sweep does nothing, for all runs are there; a sweep of the kernel does all of its own.
    let again = foreshock(place.path(), line);
    assert!(String::from_utf8_lossy(&again.stderr).contains("4 of 4 runs are finished already"));
}

#[test]
fn the_top_of_a_ranking_is_verified_request_by_request() {
    let place = place();
    json(place.path(), "sweep model.yaml scenarios.yaml --seeds 4 --horizon 24s --warmup 3s -o out --json");
    let line = "verify out/ranking.json --top 2 --at-least 0.9 --json";
    let verified = json(place.path(), line);
    let rows = verified["scenarios"].as_array().expect("a list");
    assert_eq!(rows.len(), 2);
    for row in rows {
        let affected = row["agreement"]["affected"].as_u64().expect("a count");
        assert!(affected > 50 && row["equal_share"].as_f64() >= Some(0.9), "{row}");
        assert!(row["agreement"]["equal_under_another"].as_u64().expect("there is another") * 10 < affected, "{row}");
        assert_eq!(row["numbers"].as_array().map(Vec::len), Some(5));
    }
    // What is asked for is held.
    let strict = foreshock(place.path(), "verify out --at-least 1 --json");
    let equal = rows.iter().all(|row| row["equal_share"] == 1.0);
    assert_eq!(strict.status.code(), Some(if equal { 0 } else { 1 }));
    let nothing = foreshock(place.path(), "verify model.yaml");
    assert_eq!(nothing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("expected:"));
}
