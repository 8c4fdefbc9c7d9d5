//! What a run means beside its twin: who breached, whether it cascaded, who was harmed and how directly, when it was over.

use crate::story::{model, scenarios, sweep};

/// Half of a's requests call b; `on_failure` says what b's failure does to them.
fn pair(on_failure: &str, workers: u32) -> models::system::Model {
    model(&format!(
        "version: 1
workload: {{ users: {{ to: a.op, open: {{ rate: 100/s }} }} }}
services:
  a: {{ workers: {workers}, queue: 32, operations: {{ op: {{ paths: [
    {{ weight: 1, steps: [ {{ work: {{ constant: 1ms }} }}, {{ call: {{ to: b.op, on_failure: {on_failure} }} }} ] }},
    {{ weight: 1, steps: [ {{ work: {{ constant: 1ms }} }} ] }} ] }} }} }}
  b: {{ workers: 64, operations: {{ op: {{ paths: [ {{ weight: 1, steps: [ {{ work: {{ constant: 5ms }} }} ] }} ] }} }} }}
edges:
  a->b: {{ timeout: 2s }}
"
    ))
}

const ERRORS: &str =
    "  - { id: e, faults: [ { kind: errors, target: b, start: 10s, duration: 10s, magnitude: { probability: 1 } } ] }";

fn nodes(record: &scenarios::record::RunRecord) -> Vec<&str> {
    record.breaches.iter().filter(|b| b.by_error).map(|b| b.node.as_str()).collect()
}

#[test]
fn a_breach_of_the_target_alone_is_no_cascade() {
    for record in sweep(&pair("degrade", 64), &scenarios(ERRORS), 1..4, 40, 2) {
        assert_eq!(nodes(&record), ["b"]);
        assert!(!record.cascaded && !record.vs_baseline.cascaded, "{record:#?}");
        assert_eq!(record.vs_baseline.breached, ["b"]);
        assert_eq!((record.harmed, record.failed, record.recovery_s), (0, 0, Some(0.0)));
    }
}

#[test]
fn a_breach_beyond_the_target_is_one_and_who_met_the_fault_was_harmed_directly() {
    for record in sweep(&pair("fail", 64), &scenarios(ERRORS), 1..4, 40, 2) {
        assert_eq!(nodes(&record), ["users", "a", "b"]);
        assert!(record.cascaded && record.vs_baseline.cascaded && !record.metastable);
        // 100 users a second for 10 s, half of whom call b: 500 +- 27; five standard deviations.
        assert!((380..=620).contains(&record.failed), "{}", record.failed);
        assert_eq!((record.twin_failed, record.harmed, record.harmed_directly), (0, record.failed, record.failed));
        assert!((record.error_rate.peak - 0.5).abs() < 0.2 && record.error_rate.baseline == 0.0);
        assert!(record.recovery_s.is_some_and(|s| s < 1.0), "errors leave nothing behind: {:?}", record.recovery_s);
    }
}

#[test]
fn who_is_refused_by_a_service_that_is_down_met_the_fault() {
    let text = "  - { id: c, faults: [ { kind: crash, target: b, start: 10s, duration: 10s } ] }\n  \
        - { id: s, faults: [ { kind: crash, target: b, start: 10s, duration: 10s, magnitude: { black_hole: true } } ] }";
    for record in sweep(&pair("fail", 256), &scenarios(text), 1..4, 40, 4) {
        // 100 users a second for 10 s, half of whom call b: 500 +- 27; five standard deviations.
        assert!((360..=640).contains(&record.failed), "{}", record.failed);
        assert_eq!((record.harmed, record.harmed_directly), (record.failed, record.failed), "{}", record.scenario);
    }
}

#[test]
fn who_only_waits_behind_the_fault_is_harmed_indirectly() {
    // Bytes to b vanish: each call holds one of a's eight workers for 2 s, and those who never call b queue behind them.
    let text = "  - { id: h, faults: [ { kind: black_hole, target: a->b, start: 10s, duration: 10s } ] }";
    for record in sweep(&pair("fail", 8), &scenarios(text), 1..4, 60, 2) {
        let indirectly = record.harmed - record.harmed_directly;
        assert!(record.harmed_directly > 10 && indirectly > 300, "{} harmed, {} directly", record.harmed, record.harmed_directly);
        assert!(record.harmed <= record.requests);
        assert_eq!(record.queue_node, "a");
        assert_eq!(record.queue_depth.peak, 32.0);
    }
}

#[test]
fn who_calls_the_target_of_a_fault_on_all_its_edges_is_no_target() {
    let text = |target: &str| {
        let magnitude = "magnitude: { probability: 1 }";
        scenarios(&format!(
            "  - {{ id: d, faults: [ {{ kind: connection_drop, target: \"{target}\", start: 10s, duration: 10s, {magnitude} }} ] }}"
        ))
    };
    for (target, targets) in [("a->b", ["a", "b"].as_slice()), ("*->b", &["b"])] {
        for record in sweep(&pair("fail", 64), &text(target), 1..3, 40, 2) {
            let beyond: Vec<_> = nodes(&record).into_iter().filter(|node| !targets.contains(node)).collect();
            assert_eq!(beyond, if targets.len() == 2 { ["users"].as_slice() } else { &["users", "a"] });
            assert_eq!(record.vs_baseline.cascaded, targets.len() == 1, "an entry is no service: {target}");
        }
    }
}

#[test]
fn users_who_still_wait_at_the_end_are_expected_to_fail_like_those_before_them() {
    // b is silent to the end, and whoever calls it is told after 2 s: of ten seconds' users, the last two's.
    let text = "  - { id: h, faults: [ { kind: black_hole, target: a->b, start: 10s, duration: 20s } ] }";
    for record in sweep(&pair("fail", 1_000), &scenarios(text), 1..4, 20, 2) {
        let (known, all) = (record.failed as f64, record.vs_baseline.excess_failed);
        // Half of 100 users a second for 8 s and for 10 s: 400 +- 20, 500 +- 27 and as many as fail among 500 ended of 5 s; five deviations.
        assert!((300.0..=500.0).contains(&known) && (360.0..=640.0).contains(&all), "{known} of {all}");
        assert!(
            all - known > 0.5 * (all / 5.0) && record.vs_baseline.excess_failed_fraction > 0.4,
            "{known} of {all}: {record:#?}"
        );
    }
}
