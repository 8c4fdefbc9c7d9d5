//! Stories of failures that outlive their cause, and of the policy that lets them end.

use crate::story::{agrees, model, run, scenarios, sweep};

fn checkout(retry: &str, queue: &str) -> models::system::Model {
    model(&format!(
        "version: 1
workload: {{ users: {{ to: checkout.pay, open: {{ rate: 300/s }} }} }}
services:
  checkout: {{ workers: 8, queue: {queue}, operations: {{ pay: {{ paths: [ {{ weight: 1, steps: [ {{ work: {{ exponential: 20ms }} }} ] }} ] }} }} }}
edges:
  users->checkout: {{ timeout: 250ms, retry: {retry} }}
"
    ))
}

const SLOW: &str =
    "  - { id: slow, faults: [ { kind: slow, target: checkout, start: 60s, duration: 30s, magnitude: { factor: 4 } } ] }";

#[test]
fn unbounded_retries_keep_the_collapse_alive_after_its_trigger_has_gone() {
    // 1200 attempts/s meet a capacity of 400/s for ever; with the budget 330/s do, and the queue drains.
    let slow = scenarios(SLOW);
    let stuck = &sweep(&checkout("{ attempts: 4 }", "unbounded"), &slow, 1..4, 300, 2);
    assert!(stuck.iter().all(|r| r.metastable && r.recovery_s.is_none()), "{stuck:#?}");
    assert!(stuck.iter().all(|r| r.wasted > 10_000), "work goes on for users who have left");
    let budget = "{ attempts: 4, budget: { ratio: 0.1, min_per_s: 0, cap: 10 } }";
    let drains = &sweep(&checkout(budget, "unbounded"), &slow, 1..4, 300, 2);
    assert!(drains.iter().all(|r| !r.metastable && r.recovery_s.is_some_and(|s| (30.0..200.0).contains(&s))), "{drains:#?}");
}

#[test]
fn a_bounded_queue_lets_it_recover_at_once() {
    // 64 waiting places are 160 ms of work: whoever gets a worker is still waited for.
    let records = sweep(&checkout("{ attempts: 4 }", "64"), &scenarios(SLOW), 1..4, 150, 2);
    assert!(records.iter().all(|r| r.recovery_s.is_some_and(|s| s < 10.0)), "{records:#?}");
}

#[test]
fn a_spike_drains_as_fluid_theory_says() {
    // 30/s for 5 s on a server of 10/s that carries 9/s: a backlog of about 100 drains at 1/s, so for about 100 s.
    let m = model(
        "version: 1
workload: { users: { to: s.op, open: { rate: 9/s } } }
services:
  s: { workers: 1, operations: { op: { paths: [ { weight: 1, steps: [ { work: { constant: 100ms } } ] } ] } } }
",
    );
    let spike = scenarios(
        "  - { id: spike, faults: [ { kind: surge, target: users, start: 20s, duration: 5s, magnitude: { factor: 3.3333 } } ] }",
    );
    // The queue before the spike is that of M/D/1 (Lq = 0.81 / 0.2 = 4.05); it has drained when 3 are left.
    let drained = |seed| {
        let series = run(&m, Some(&spike[0]), seed, 600, 0).series.expect("asked for");
        let queue = &series.nodes["s"].queue;
        let empty = (100..queue.len()).find(|&b| queue[b] <= 3).expect("it drains");
        empty as f64 * 0.25 - 25.0
    };
    agrees("drain", 4.05 + 100.0 - 3.0, 0.01, 0.2, |s| (0..10).map(|n| drained(10 * s + n)).sum::<f64>() / 10.0);
}
