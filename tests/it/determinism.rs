//! One seed, one outcome: on any number of threads, forked or from the start, in any build.

use crate::story::{does, model, run, scenarios, sweep, sweep_with};
use sim::Shortcuts;

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

/// Found by `properties::shortcuts_change_no_record`: with a closed loop the requests from the fault's start on were counted otherwise.
#[test]
fn requests_of_a_closed_loop_are_counted_alike_with_and_without_shortcuts() {
    let m = model(&format!(
        "version: 1
workload: {{ users: {{ to: s.op, closed: {{ users: 6, think: {{ lognormal: {{ p50: 100us, p99: 201us }} }} }} }} }}
services: {{ s: {{ workers: 1, discipline: lifo, {} }}, rare: {{ workers: 1, {} }} }}
topics: {{ quiet: {{ consumer: rare.op, concurrency: 1 }} }}
",
        does("op", "{ work: { constant: 1163us } }"),
        does("op", "")
    ));
    let late = scenarios(
        "  - { id: late, faults: [ { kind: latency, target: quiet->rare, start: 1s, duration: 200ms, magnitude: { add: 10ms } } ] }",
    );
    let with = |shortcuts| {
        let mut record = sweep_with(&m, &late, 0..1, 16, 1, shortcuts).remove(0);
        record.coalesced_at_s = None;
        record
    };
    let whole = with(Shortcuts::None);
    assert_eq!(with(Shortcuts::ForkOnly), whole, "forked");
    assert_eq!(with(Shortcuts::All), whole, "forked and spliced");
}
