//! The kernel against theory. Service times have mean 1 unit = 10 ms; tolerances are 99.9 % intervals over ten seeds.
//! Sources of the closed forms: Kleinrock, Queueing Systems vol. 1 (1975), ch. 3 and 5; Erlang B and C by recursion.

use crate::story::{agrees, model, run};

/// One station with `workers`, `queue`, a service time and arrivals at `rate` per second.
fn station(workers: &str, queue: &str, work: &str, rate: f64) -> models::system::Model {
    model(&format!(
        "version: 1
workload: {{ users: {{ to: s.op, open: {{ rate: {rate}/s }} }} }}
services:
  s:
    workers: {workers}
    queue: {queue}
    operations: {{ op: {{ paths: [ {{ weight: 1, steps: [ {{ work: {work} }} ] }} ] }} }}
"
    ))
}

const EXPONENTIAL: &str = "{ exponential: 10ms }";
/// Results are in units of 10 ms.
const UNIT_MS: f64 = 10.0;

#[test]
fn mm1_at_80_per_cent() {
    let m = station("1", "unbounded", EXPONENTIAL, 80.0);
    let runs: Vec<_> = (1..=10).map(|seed| run(&m, None, seed, 4_000, 100)).collect();
    let of = |seed: u64| &runs[seed as usize - 1];
    agrees("mean sojourn", 5.0, 0.0, 0.1, |s| of(s).entries["users"].mean_ms / UNIT_MS);
    agrees("mean wait", 4.0, 0.0, 0.1, |s| of(s).services["s"].mean_wait_ms / UNIT_MS);
    agrees("mean number", 4.0, 0.0, 0.1, |s| of(s).services["s"].mean_in_system);
    agrees("utilisation", 0.8, 0.0, 0.02, |s| of(s).services["s"].utilisation);
    agrees("median sojourn", 3.466, 0.01, 0.1, |s| of(s).entries["users"].p50_ms / UNIT_MS);
    agrees("p99 sojourn", 23.026, 0.01, 0.2, |s| of(s).entries["users"].p99_ms / UNIT_MS);
}

#[test]
fn mm1k_blocks_as_it_should() {
    // A system of K places is one worker and a queue of K - 1.
    let m = station("1", "99", EXPONENTIAL, 95.0);
    agrees("M/M/1/100 number", 18.4287, 0.0, 0.3, |s| run(&m, None, s, 8_000, 500).services["s"].mean_in_system);
    let m = station("1", "9", EXPONENTIAL, 120.0);
    agrees("M/M/1/10 blocking", 0.192_59, 0.0, 0.05, |s| run(&m, None, s, 1_000, 50).entries["users"].error_rate);
}

#[test]
fn mmc_waits_as_erlang_c_says() {
    for (servers, offered, wait, seconds) in
        [("2", 1.6, 1.777_78, 3_000), ("10", 8.0, 0.204_590, 600), ("100", 90.0, 0.021_694, 150)]
    {
        let m = station(servers, "unbounded", EXPONENTIAL, offered * 100.0);
        agrees(servers, wait, 0.0, 0.2, |s| run(&m, None, s, seconds, 20).services["s"].mean_wait_ms / UNIT_MS);
    }
}

#[test]
fn a_station_without_queue_loses_as_erlang_b_says() {
    for (servers, offered, blocking) in [("10", 8.0, 0.121_661), ("100", 90.0, 0.026_957)] {
        let m = station(servers, "0", EXPONENTIAL, offered * 100.0);
        agrees(servers, blocking, 0.0, 0.1, |s| run(&m, None, s, 60, 10).entries["users"].error_rate);
    }
}

#[test]
fn waits_grow_with_the_variance_of_the_work() {
    let m = station("1", "unbounded", "{ constant: 10ms }", 80.0);
    agrees("M/D/1", 2.0, 0.0, 0.1, |s| run(&m, None, s, 4_000, 100).services["s"].mean_wait_ms / UNIT_MS);
    // Lognormal with squared coefficient of variation 4: sigma^2 = ln 5, median = mean / sqrt 5, p99 = median x e^(2.3263 sigma).
    let m = station("1", "unbounded", "{ lognormal: { p50: 4472136ns, p99: 85545420ns } }", 80.0);
    agrees("M/G/1", 10.0, 0.0, 0.3, |s| run(&m, None, s, 12_000, 500).services["s"].mean_wait_ms / UNIT_MS);
}

#[test]
fn a_fork_takes_as_long_as_its_slowest_branch() {
    for (branches, mean) in [(2, 1.5), (5, 2.2833), (10, 2.929)] {
        let calls = vec!["{ call: leaf.op }"; branches].join(", ");
        let m = model(&format!(
            "version: 1
workload: {{ users: {{ to: root.op, open: {{ rate: 100/s }} }} }}
services:
  root: {{ workers: unlimited, operations: {{ op: {{ paths: [ {{ weight: 1, steps: [ {{ parallel: {{ wait: all, branches: [ {calls} ] }} }} ] }} ] }} }} }}
  leaf: {{ workers: unlimited, operations: {{ op: {{ paths: [ {{ weight: 1, steps: [ {{ work: {EXPONENTIAL} }} ] }} ] }} }} }}
"
        ));
        agrees("fork-join", mean, 0.0, 0.05, |s| run(&m, None, s, 400, 1).entries["users"].mean_ms / UNIT_MS);
    }
}

/// A chain of callers over a leaf that fails with probability p; every caller tries `tries` times at once.
fn failing_chain(layers: usize, tries: u32, p: f64) -> models::system::Model {
    let mut text = String::from("version: 1\nworkload: { users: { to: s0.op, open: { rate: 200/s } } }\nservices:\n");
    for layer in 0..layers {
        text += &format!(
            "  s{layer}: {{ workers: unlimited, operations: {{ op: {{ paths: [ {{ weight: 1, steps: [ {{ call: s{}.op }} ] }} ] }} }} }}\n",
            layer + 1
        );
    }
    text += &format!(
        "  s{layers}: {{ workers: unlimited, operations: {{ op: {{ error_rate: {p}, paths: [ {{ weight: 1, steps: [ {{ work: {{ constant: 1ms }} }} ] }} ] }} }} }}\nedges:\n"
    );
    for layer in 0..layers {
        text += &format!("  s{layer}->s{}: {{ retry: {{ attempts: {tries}, backoff: 1ms }} }}\n", layer + 1);
    }
    model(&text)
}

#[test]
fn independent_failures_need_retries_as_the_formula_says() {
    // N retries: success 1 - p^(N+1), load (1 - p^(N+1)) / (1 - p).
    let (p, tries) = (0.5f64, 4);
    let m = failing_chain(1, tries, p);
    let fails = p.powi(tries as i32);
    agrees("failed", fails, 0.0, 0.2, |s| run(&m, None, s, 400, 1).entries["users"].error_rate);
    agrees("load", (1.0 - fails) / (1.0 - p), 0.0, 0.02, |s| {
        let edge = &run(&m, None, s, 400, 1).boundaries["s0->s1"];
        edge.attempts as f64 / edge.requests as f64
    });
}

#[test]
fn two_layers_of_two_tries_fail_at_p_to_the_fourth() {
    let m = failing_chain(2, 2, 0.5);
    agrees("failed", 0.0625, 0.0, 0.2, |s| run(&m, None, s, 400, 1).entries["users"].error_rate);
}

#[test]
fn retries_multiply_through_layers() {
    // A leaf that always fails sees (1 + R)^d attempts a request.
    let m = failing_chain(3, 3, 1.0);
    let result = run(&m, None, 1, 100, 0);
    let users = result.entries["users"].requests as f64;
    let attempts: u64 = result.boundaries["s2->s3"].failed_attempts.error;
    assert!((attempts as f64 / users - 27.0).abs() < 0.2, "{}", attempts as f64 / users);
    assert_eq!(result.entries["users"].error_rate, 1.0);
}

#[test]
fn chain_3_conforms() {
    let m = model(include_str!("../../benches/chain3.yaml"));
    let runs: Vec<_> = (1..=10).map(|seed| run(&m, None, seed, 1_000, 10)).collect();
    agrees("mean response", 62.4, 0.001, 0.02, |s| runs[s as usize - 1].entries["client"].mean_ms);
    agrees("attempts a request", 3.0526, 0.000_1, 0.01, |s| {
        let result = &runs[s as usize - 1];
        let attempts: u64 = result.boundaries.values().map(|b| b.attempts).sum();
        attempts as f64 / result.entries["client"].requests as f64
    });
}

#[test]
fn a_budget_and_retries_trade_success_for_load() {
    // Brooker 2022 (server fails calls with p = 0.5, no overload): three retries 93.72 % and load 1.874; a bucket of 5 tokens that a
    // first try fills by 0.1 and a retry empties by 1: about 0.1 retries a call once it is empty.
    let with = |retry: &str| {
        model(&format!(
            "version: 1
workload: {{ users: {{ to: s.op, open: {{ rate: 200/s }} }} }}
services:
  s: {{ workers: unlimited, operations: {{ op: {{ error_rate: 0.5, paths: [ {{ weight: 1, steps: [ {{ work: {{ constant: 1ms }} }} ] }} ] }} }} }}
edges:
  users->s: {{ latency: 10ms, retry: {retry} }}
"
        ))
    };
    let load = |m: &models::system::Model, s| {
        let users = &run(m, None, s, 300, 30).entries["users"];
        users.attempts as f64 / users.requests as f64
    };
    let plain = with("{ attempts: 4 }");
    agrees("three retries: load", 1.875, 0.0, 0.02, |s| load(&plain, s));
    let budget = with("{ attempts: 4, budget: { ratio: 0.1, min_per_s: 0, cap: 5 } }");
    agrees("budget: load", 1.1, 0.002, 0.02, |s| load(&budget, s));
}
