//! One seed, one outcome: on any number of threads, forked or from the start, in any build.

use crate::story::{model, run, scenarios, sweep};

fn shop() -> models::system::Model {
    model(include_str!("../../benches/chain3.yaml"))
}

const FAULTS: &str = "  - { id: slow-b, faults: [ { kind: slow, target: B, start: 12s, duration: 8s, magnitude: { factor: 12 } } ] }
  - { id: drop, load: 1.5, faults: [ { kind: connection_drop, target: B->C, start: 15s, duration: 5s, magnitude: { probability: 0.4 } } ] }
  - { id: crash, faults: [ { kind: crash, target: C, start: 12s, duration: 3s }, { kind: surge, target: client, start: 14s, duration: 4s, magnitude: { factor: 2 } } ] }
  - { id: control, faults: [] }";

#[test]
fn threads_change_nothing() {
    let scenarios = scenarios(FAULTS);
    assert_eq!(sweep(&shop(), &scenarios, 1..6, 40, 1), sweep(&shop(), &scenarios, 1..6, 40, 4));
}

#[test]
fn a_forked_run_is_the_run_from_the_start() {
    let scenarios = scenarios(FAULTS);
    for record in sweep(&shop(), &scenarios, 1..4, 40, 2) {
        let scenario = scenarios.iter().find(|s| s.id == record.scenario).expect("one of them");
        let whole = run(&shop(), Some(scenario), record.seed, 40, 5);
        assert_eq!((&whole.digest, whole.events), (&record.digest, record.events), "{}", record.scenario);
    }
}

#[test]
fn without_a_fault_the_run_is_its_twin() {
    let records = sweep(&shop(), &scenarios("  - { id: control, faults: [] }"), 1..4, 40, 1);
    for record in records {
        assert_eq!((record.harmed, record.failed - record.twin_failed, record.cascaded), (0, 0, false));
        assert!(record.breaches.is_empty() && record.recovery_s == Some(0.0));
    }
}

#[test]
fn a_fault_changes_no_luck_of_who_does_not_meet_it() {
    // Two halves that share nothing: a fault in one leaves the other untouched to the last bucket.
    let m = model(
        "version: 1
workload: { left: { to: a.op, open: { rate: 50/s } }, right: { to: b.op, open: { rate: 50/s } } }
services:
  a: { workers: 2, operations: { op: { paths: [ { weight: 1, steps: [ { work: { exponential: 20ms } } ] } ] } } }
  b: { workers: 2, operations: { op: { paths: [ { weight: 1, steps: [ { work: { exponential: 20ms } } ] } ] } } }
",
    );
    let slow =
        scenarios("  - { id: s, faults: [ { kind: slow, target: a, start: 5s, duration: 10s, magnitude: { factor: 3 } } ] }");
    let (calm, hurt) = (run(&m, None, 9, 30, 0), run(&m, Some(&slow[0]), 9, 30, 0));
    let (calm, hurt) = (calm.series.expect("asked for"), hurt.series.expect("asked for"));
    assert_eq!(calm.nodes["right"], hurt.nodes["right"]);
    assert_eq!(calm.nodes["b"], hurt.nodes["b"]);
    assert_ne!(calm.nodes["left"], hurt.nodes["left"], "the fault did something");
}

/// The contract across builds and platforms. A change here belongs in the changelog.
#[test]
fn digests_are_pinned() {
    let table: Vec<String> = sweep(&shop(), &scenarios(FAULTS), 1..3, 40, 2)
        .iter()
        .map(|r| format!("{} {} {} {}", r.scenario, r.seed, r.digest, r.events))
        .collect();
    expect_test::expect![[r#"
        slow-b 1 5b768e9b20780271 44053
        drop 1 da0c36360f584115 25612
        crash 1 0b2fd0e26c0f8e85 50956
        control 1 1bf432b12a2bacfa 16654
        slow-b 2 b2ec5afee7879e73 43735
        drop 2 731c17d0fd10b71b 25244
        crash 2 1851e99b9e0c9d6f 50614
        control 2 cccf8a9e72585fcb 16647"#]].assert_eq(&table.join("\n"));
}
