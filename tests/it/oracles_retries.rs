//! What retries do to success and load, and how long a storm of them lasts.
//! Sources: Brooker, Fixing retries with token buckets and circuit breakers (2022), his simulator re-run (ORACLES.md section 3); the waits of
//! the jitters: Brooker, Exponential backoff and jitter (AWS Architecture Blog, 2015).

use models::system::Model;

use crate::story::{agrees, does, model, run, runs, scenarios};

/// A hundred clients at 10/s each, each with its own bucket. The network's two exponential legs stand as two steps of work at a service that
/// never queues: what a client sees of them is the same, for nothing is overloaded and no try has a timeout.
fn clients(p: f64, retry: &str) -> Model {
    let (mut workload, mut edges) = (String::new(), String::new());
    for i in 0..100 {
        workload += &format!("  c{i}: {{ to: s.op, open: {{ rate: 10/s }} }}\n");
        edges += &format!("  c{i}->s: {{ retry: {retry} }}\n");
    }
    model(&format!(
        "version: 1\nworkload:\n{workload}services:\n  s: {{ workers: unlimited, operations: {{ op: {{ error_rate: {p}, \
         paths: [ {{ steps: [ {{ work: {{ exponential: 10ms }} }}, {{ work: {{ exponential: 10ms }} }} ] }} ] }} }} }}\nedges:\n{edges}"
    ))
}

#[test]
fn strategies_trade_success_for_load_as_in_brookers_table() {
    // A retry needs *more than* one token of the five there are, in steps of a tenth: it needs 1.1 of them. Ours needs 1: of a cap of 4.9.
    let bucket = "{ attempts: 4, budget: { ratio: 0.1, cap: 4.9, initial: 4.9, min_per_s: 0 } }";
    for (p, [none, three, adaptive]) in [
        (0.01, [(0.9899, 1.0), (1.0, 1.01), (1.0, 1.009)]),
        (0.1, [(0.8989, 1.0), (0.99993, 1.112), (0.9867, 1.096)]),
        (0.5, [(0.4998, 1.0), (0.9372, 1.874), (0.5563, 1.114)]),
    ] {
        for (name, retry, (success, load)) in
            [("no retries", "{ attempts: 1 }", none), ("3 retries", "{ attempts: 4 }", three), ("adaptive", bucket, adaptive)]
        {
            let runs = runs(&clients(p, retry), 30, 0);
            let share = |s: u64, figure: fn(&sim::result::CallStats) -> u64| {
                let entries = &runs.of(s).entries;
                entries.values().map(figure).sum::<u64>() as f64 / entries.values().map(|e| e.requests).sum::<u64>() as f64
            };
            // His figures are of one run of 30,000 calls: 3.3 standard deviations of a share of them, and their last digit.
            let his = 3.3 * (success * (1.0 - success) / 30_000.0f64).sqrt() + 0.000_1;
            let what = format!("p {p}, {name}");
            agrees(&format!("{what}: success"), success, his / success, 0.02, |s| 1.0 - share(s, |e| e.errors));
            agrees(&format!("{what}: load"), load, 3.3 * load.sqrt() * (p / 30_000.0f64).sqrt() + 0.001, 0.02, |s| {
                share(s, |e| e.attempts)
            });
        }
    }
}

/// Half of the requests take a path that fails, or make a call that fails: a retry is handled anew, so all n tries of a request fail as
/// seldom as n requests. What a user asks for is the same when the user asks again.
#[test]
fn each_try_of_a_request_finds_its_own_way() {
    let paths = "paths: [ { weight: 1, steps: [ { call: down.op } ] }, { weight: 1, steps: [] } ]";
    let times = "paths: [ { steps: [ { call: { to: down.op, times: { 0: 0.5, 1: 0.5 } } } ] } ]";
    let asks = "paths: [ { steps: [ { call: b.op } ] } ]";
    for (edge, a, b) in [("a->b", asks, paths), ("a->b", asks, times), ("users->a", paths, times)] {
        for attempts in [1, 2, 3] {
            let m = model(&format!(
                "version: 1
workload: {{ users: {{ to: a.op, open: {{ rate: 500/s }} }} }}
services:
  a: {{ workers: unlimited, operations: {{ op: {{ {a} }} }} }}
  b: {{ workers: unlimited, operations: {{ op: {{ {b} }} }} }}
  down: {{ workers: unlimited, operations: {{ op: {{ error_rate: 1, paths: [ {{ steps: [] }} ] }} }} }}
edges: {{ {edge}: {{ retry: {{ attempts: {attempts} }} }} }}
"
            ));
            let fail = 0.5f64.powi(if edge == "a->b" { attempts } else { 1 });
            agrees(&format!("{attempts} tries over {edge}"), fail, 0.0, 0.05, |s| {
                run(&m, None, s, 60, 0).entries["users"].error_rate
            });
        }
    }
}

#[test]
fn each_jitter_waits_its_own_mean() {
    // Every try fails at once: the response is the three waits alone. Base 10 ms, doubled: 10 + 20 + 40. Decorrelated, uniform in 10..3 x the
    // wait before: 20 + 35 + 57.5.
    for (jitter, mean) in [("none", 70.0), ("full", 35.0), ("equal", 52.5), ("decorrelated", 112.5)] {
        let m = model(&format!(
            "version: 1
workload: {{ users: {{ to: s.op, open: {{ rate: 500/s }} }} }}
services: {{ s: {{ workers: unlimited, operations: {{ op: {{ error_rate: 1, paths: [ {{ steps: [] }} ] }} }} }} }}
edges: {{ users->s: {{ retry: {{ attempts: 4, backoff: 10ms, jitter: {jitter} }} }} }}
"
        ));
        let runs = runs(&m, 40, 1);
        if jitter == "none" {
            assert!((runs.of(1).entries["users"].mean_ms - mean).abs() < 1e-6);
        } else {
            agrees(jitter, mean, 0.0, 0.02, |s| runs.of(s).entries["users"].mean_ms);
        }
    }
}

#[test]
fn only_the_causes_named_are_retried() {
    // Half of the requests fail by themselves; the bound of the queue refuses others (Erlang B at 2 workers and 1.6 erlangs: 0.3265).
    let with = |on: &str| {
        let m = model(&format!(
            "version: 1
workload: {{ users: {{ to: s.op, open: {{ rate: 1600/s }} }} }}
services: {{ s: {{ workers: 2, queue: 0, operations: {{ op: {{ error_rate: 0.5, paths: [ {{ steps: [ {{ work: {{ exponential: 1ms }} }} ] }} ] }} }} }} }}
edges: {{ users->s: {{ retry: {{ attempts: 2, backoff: 1s, jitter: full, on: [ {on} ] }} }} }}
"
        ));
        let users = run(&m, None, 1, 60, 5).entries["users"].clone();
        // Second tries fail as first ones do, and are the last: so of all failures for a named cause, requests / attempts are retried.
        let firsts = users.requests as f64 / users.attempts as f64;
        ((users.attempts - users.requests) as f64 / firsts, users.failed_attempts)
    };
    // Of some 30,000 each: five standard deviations.
    let (retried, failed) = with("error");
    assert!(failed.overload > 10_000 && (retried / failed.error as f64 - 1.0).abs() < 0.03, "{retried} {failed:?}");
    let (retried, failed) = with("overload");
    assert!(failed.error > 10_000 && (retried / failed.overload as f64 - 1.0).abs() < 0.03, "{retried} {failed:?}");
    let (retried, failed) = with("timeout, connection");
    assert!(retried == 0.0 && failed.error > 10_000 && failed.overload > 10_000);
}

/// Recovery from a full queue takes ever longer as the load nears capacity: the shape of metafor's Markov chain of a server with a retry
/// orbit (3,964.7 s, 726.7 s, 122.9 s at 9.5, 9.0, 8.0/s against 10/s). Our semantics: users give up after 2 s and try once more at once; late
/// work goes on; the queue is unbounded. So while the wait is longer than 2 s every user costs two tries, and the storm's load is twice the
/// users' rate: 9.5, 9.0 and 8.0/s for 4.75, 4.5 and 4 users/s. What a 20 s outage left falls at 10 - load a second until 20 wait (Wald);
/// above 5 users/s it never does.
#[test]
fn recovery_from_a_retry_storm_takes_ever_longer_near_capacity() {
    let storm = |users: f64| {
        model(&format!(
            "version: 1
workload: {{ users: {{ to: s.op, open: {{ rate: {users}/s }} }} }}
services: {{ s: {{ workers: 1, {} }} }}
edges: {{ users->s: {{ timeout: 2s, retry: {{ attempts: 2 }} }} }}
",
            does("op", "{ work: { exponential: 100ms } }")
        ))
    };
    let outage = scenarios(
        "  - { id: outage, faults: [ { kind: workers_lost, target: s, start: 20s, duration: 20s, magnitude: { keep: 0 } } ] }",
    );
    // When the wait first fell below the timeout (20 requests), in seconds after the outage; `None`: not by the end.
    let drained = |m: &Model, seed, horizon| {
        let series = run(m, Some(&outage[0]), seed, horizon, 0).series.expect("asked for");
        let queue = &series.nodes["s"].queue;
        (160..queue.len()).find(|&b| queue[b] <= 20).map(|b| b as f64 * 0.25 - 40.0)
    };
    let mut before = 0.0;
    for (users, horizon, power) in [(4.0, 400, 0.2), (4.5, 1_200, 0.25), (4.75, 4_000, 0.5)] {
        let m = storm(users);
        // Users of the outage's last 2 s have not yet tried again when it ends.
        let left = users * (20.0 + 18.0);
        let theory = (left - 20.0) / (10.0 - 2.0 * users) + 2.0 * users / (10.0 - 2.0 * users);
        let mean = |s: u64| (0..16).map(|n| drained(&m, s * 16 + n, horizon).expect("it drains")).sum::<f64>() / 16.0;
        agrees(&format!("{users} users/s"), theory, 0.02, power, mean);
        assert!(theory > 1.6 * before, "{theory} s, {before} s");
        before = theory;
    }
    let never = (1..=10).filter(|&seed| drained(&storm(5.5), seed, 1_500).is_none()).count();
    assert!(never >= 8, "{never} of 10 storms of 11/s against 10/s outlast 1,500 s");
}
