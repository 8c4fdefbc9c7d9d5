//! Each engine checks the other: the same program, scenario and seed in both, on a clock of whole milliseconds.

use std::sync::atomic::AtomicBool;

use models::system::Model;
use models::units::Nanos;
use scenarios::record::Verified;
use scenarios::scenario::Scenario;
use scenarios::token::Engine;

use super::*;
use crate::fixtures::{EVERYTHING, faults};
use crate::result::RunResult;
use crate::run::Prepared;
use crate::sweep::{Shortcuts, SweepOptions};
use crate::verify::verify;

/// Three services in a row, with queues and retries, at two thirds of what the narrowest can do.
const CHAIN: &str = "
version: 1
workload: { users: { to: a.op, open: { rate: 60/s } } }
services:
  a: { workers: 12, queue: 50, operations: { op: { paths: [ { steps: [ { work: { lognormal: { p50: 4ms, p99: 20ms } } }, { call: b.op } ] } ] } } }
  b: { workers: 6, queue: 50, operations: { op: { paths: [ { steps: [ { work: { lognormal: { p50: 6ms, p99: 30ms } } }, { call: c.op } ] } ] } } }
  c: { workers: 2, queue: 40, mode: async, operations: { op: { error_rate: 0.02, paths: [ { steps: [ { work: { exponential: 20ms } } ] } ] } } }
edges:
  users->a: { timeout: 2s, latency: 1ms }
  a->b: { timeout: 800ms, latency: 1ms, retry: { attempts: 2, backoff: 20ms, jitter: full } }
  b->c: { timeout: 300ms, latency: 1ms, retry: { attempts: 3, backoff: 10ms, factor: 2, jitter: equal } }
";

fn model(text: &str) -> Model {
    models::format::read_model("model", text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn scenarios_of(text: &str) -> Vec<Scenario> {
    scenarios::format::read_scenarios("scenarios", text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn options(seeds: &[u64], seconds: u64) -> SweepOptions {
    SweepOptions {
        seeds: seeds.to_vec(),
        horizon: Nanos::from_secs(seconds),
        warm_up: Nanos::from_secs(4),
        threads: 2,
        max_events: u64::MAX,
        model_hash: [0; 4],
        shortcuts: Shortcuts::None,
        engine: Engine::Hosted,
    }
}

fn both(model_text: &str, scenarios_text: &str, seeds: &[u64], seconds: u64) -> Vec<Verified> {
    let scenarios = scenarios_of(scenarios_text);
    verify(&model(model_text), 0, &scenarios, &options(seeds, seconds), &|_| {}, &AtomicBool::new(false)).expect("it runs")
}

/// Share of the affected requests that end alike, to the microsecond, over all seeds of a scenario.
fn equal(verified: &[Verified], scenario: &str) -> f64 {
    let of =
        |count: fn(&Verified) -> u64| verified.iter().filter(|v| v.hosted.scenario == scenario).map(count).sum::<u64>() as f64;
    let affected = of(|v| v.agreement.affected);
    assert!(affected > 50.0, "{scenario}: a fault that changes {affected} requests proves nothing");
    of(|v| v.agreement.equal) / affected
}

/// Runs a scenario of some model in both engines and returns their digests.
fn digests(text: &str, scenario: &Scenario, seconds: u64) -> [String; 2] {
    let program = Program::compile_quantised(&model(text), 0, TICK).expect("it compiles");
    let options = RunOptions { seed: 3, horizon: Nanos::from_secs(seconds), ..RunOptions::default() };
    let kernel = Prepared::new(&program, scenario, &options).expect("it fits").run();
    [kernel.digest(), run(&program, scenario, &options).expect("it runs").digest()]
}

#[test]
fn a_queue_with_three_servers_is_the_same_to_the_last_event() {
    // M/M/3 at 0.8 Erlangs a server: every wait, and every order of service.
    let text = "
version: 1
workload: { users: { to: s.op, open: { rate: 60/s } } }
services: { s: { workers: 3, queue: unbounded, operations: { op: { paths: [ { steps: [ { work: { exponential: 40ms } } ] } ] } } } }
";
    let [kernel, hosted] = digests(text, &Scenario::default(), 60);
    assert_eq!(kernel, hosted);
}

#[test]
fn closed_loops_fan_out_and_pools_are_the_same_to_the_last_event() {
    let text = "
version: 1
workload: { users: { to: page.op, closed: { users: 6, think: { exponential: 200ms } } } }
services:
  page: { operations: { op: { paths: [ { steps: [
    { work: { constant: 3ms } }, { parallel: { wait: all, branches: [ { call: left.op }, { call: right.op } ] } }, { work: { constant: 2ms } } ] } ] } } }
  left: { workers: 2, operations: { op: { paths: [ { steps: [ { work: { exponential: 17ms } } ] } ] } } }
  right: { workers: 2, operations: { op: { paths: [ { steps: [ { work: { exponential: 23ms } } ] } ] } } }
edges: { page->left: { pool: { connections: 2 } } }
";
    let [kernel, hosted] = digests(text, &Scenario::default(), 30);
    assert_eq!(kernel, hosted);
}

#[test]
fn a_service_that_scales_has_as_many_replicas_in_both() {
    let text = "
version: 1
workload: { users: { to: s.op, open: { rate: 60/s, curve: { steps: { 0s: 1, 10s: 3, 25s: 0.5 } } } } }
services:
  s:
    replicas: 2
    workers: 2
    balance: random
    warm_up: { lasting: 2s, factor: 2 }
    autoscale: { target: 0.5, min: 1, max: 6, every: 2s, start_up: 1s, down_after: 4s }
    operations: { op: { paths: [ { steps: [ { work: { exponential: 30ms } } ] } ] } }
";
    let program = Program::compile_quantised(&model(text), 0, TICK).expect("it compiles");
    let options = RunOptions { seed: 3, horizon: Nanos::from_secs(40), ..RunOptions::default() };
    let kernel = Prepared::new(&program, &Scenario::default(), &options).expect("it fits").run().result();
    let hosted = run(&program, &Scenario::default(), &options).expect("it runs").result();
    // Two replicas alone would be used up from 10 s to 25 s, and waits without end; with the right number of them, times are those of the kernel.
    let (there, here) = (&kernel.entries["users"], &hosted.entries["users"]);
    assert_eq!(there.requests, here.requests);
    assert!((there.mean_ms / here.mean_ms - 1.0).abs() < 0.03 && here.mean_ms < 200.0, "{} {}", there.mean_ms, here.mean_ms);
}

#[test]
fn near_the_tipping_point_most_requests_that_a_fault_changes_end_alike() {
    let verified = both(
        CHAIN,
        "
version: 1
scenarios:
  - { id: slow-c, faults: [ { kind: slow, target: c, start: 8s, duration: 6s, magnitude: { factor: 1.6 } } ] }
  - { id: far-b, faults: [ { kind: latency, target: a->b, start: 8s, duration: 6s, magnitude: { add: 120ms } } ] }
  - { id: jitter, faults: [ { kind: latency, target: users->a, start: 8s, duration: 6s, magnitude: { add: 10ms, jitter: 40ms } } ] }
  - { id: errors, faults: [ { kind: errors, target: b, start: 8s, duration: 6s, magnitude: { probability: 0.3 } } ] }
  - { id: far-back, faults: [ { kind: latency, target: users->a, start: 8s, duration: 6s, magnitude: { add: 70ms, leg: reply } } ] }
  - { id: pause, faults: [ { kind: pause, target: b, start: 8s, duration: 90ms }, { kind: pause, target: b, start: 9s, duration: 90ms } ] }
",
        &[1, 2, 3],
        30,
    );
    for scenario in ["slow-c", "far-b", "jitter", "errors", "far-back", "pause"] {
        assert!(equal(&verified, scenario) >= 0.9, "{scenario}");
    }
    // The controls: with another fault, or none, almost none of the same requests end as they should.
    for pair in &verified {
        let agreement = pair.agreement;
        let other = agreement.equal_under_another.expect("there are other scenarios");
        assert!(10 * other < agreement.affected && 10 * agreement.equal_under_none < agreement.affected, "{agreement:?}");
        assert_eq!((pair.kernel.cascaded, pair.kernel.metastable), (pair.hosted.cascaded, pair.hosted.metastable));
    }
}

/// The totals of a run in both engines.
fn totals(text: &str, scenario: &Scenario, seconds: u64) -> [RunResult; 2] {
    let program = Program::compile_quantised(&model(text), 0, TICK).expect("it compiles");
    let options = RunOptions { seed: 3, horizon: Nanos::from_secs(seconds), ..RunOptions::default() };
    let kernel = Prepared::new(&program, scenario, &options).expect("it fits").run();
    [kernel.result(), run(&program, scenario, &options).expect("it runs").result()]
}

/// One service behind users; `users` and `service` are what each has beside what it needs.
fn pair(users: &str, service: &str) -> String {
    format!(
        "
version: 1
workload: {{ users: {{ to: s.op, open: {{ rate: 90/s }} }} }}
services: {{ s: {{ workers: 2, {service} operations: {{ op: {{ paths: [ {{ steps: [ {{ work: {{ exponential: 20ms }} }} ] }} ] }} }} }} }}
edges: {{ users->s: {{ {users} }} }}
"
    )
}

#[test]
fn last_come_first_served_is_the_same_to_the_last_event() {
    let lifo = pair("latency: 1ms", "queue: 20, discipline: lifo,");
    let [kernel, hosted] = digests(&lifo, &Scenario::default(), 30);
    assert_eq!(kernel, hosted);
    assert_ne!(hosted, digests(&pair("latency: 1ms", "queue: 20,"), &Scenario::default(), 30)[1], "it matters");
}

#[test]
fn who_cancels_wastes_nothing_and_who_does_not_wastes_as_much_in_both() {
    let wasted = |cancel: bool| {
        let text = pair("latency: 1ms, timeout: 60ms", &format!("queue: 50, cancel_on_disconnect: {cancel},"));
        totals(&text, &Scenario::default(), 30).map(|result| result.services["s"].wasted)
    };
    assert_eq!(wasted(true), [0, 0]);
    let [kernel, hosted] = wasted(false);
    assert!(kernel > 100 && kernel.abs_diff(hosted) <= kernel / 20, "{kernel} {hosted}");
}

#[test]
fn hedged_calls_send_as_many_tries_in_both() {
    let text = pair("latency: 1ms, hedge: { after: 40ms, attempts: 2 }", "replicas: 3, queue: 50, balance: random,");
    let [kernel, hosted] = totals(&text, &Scenario::default(), 30).map(|result| result.boundaries["users->s"].clone());
    assert!(kernel.attempts > kernel.requests + 100, "{kernel:?}");
    assert!(kernel.attempts.abs_diff(hosted.attempts) <= kernel.attempts / 100, "{kernel:?} {hosted:?}");
}

#[test]
fn a_single_flight_asks_the_store_as_seldom_in_both() {
    let text = include_str!("../../../scenarios/examples/stampede-single-flight.model.yaml");
    let scenario = &scenarios_of(include_str!("../../../scenarios/examples/stampede-single-flight.scenarios.yaml"))[0];
    let [kernel, hosted] = totals(text, scenario, 70).map(|result| result.services["database"].requests);
    assert!(kernel > 50 && kernel.abs_diff(hosted) <= kernel / 10, "{kernel} {hosted}");
}

#[test]
fn what_a_connection_suffers_ends_alike_but_for_a_round_trip() {
    let verified = both(
        CHAIN,
        "
version: 1
scenarios:
  - { id: partition, faults: [ { kind: black_hole, target: b->c, start: 8s, duration: 3s } ] }
  - { id: one-way, faults: [ { kind: black_hole, target: b->c, start: 8s, duration: 3s, magnitude: { leg: reply } } ] }
  - { id: drops, faults: [ { kind: connection_drop, target: a->b, start: 8s, duration: 6s, magnitude: { probability: 0.3 } } ] }
  - { id: crash, faults: [ { kind: crash, target: c, start: 8s, duration: 3s } ] }
  - { id: gone, faults: [ { kind: crash, target: c, start: 8s, duration: 3s, magnitude: { black_hole: true } } ] }
",
        &[1, 2],
        30,
    );
    // (Where connections are lost, the first requests after the repair wait for new ones, and whoever queues behind them is late, too.)
    for (scenario, least) in [("partition", 0.75), ("one-way", 0.75), ("drops", 0.9), ("gone", 0.75), ("crash", 0.75)] {
        assert!(equal(&verified, scenario) >= least, "{scenario}");
    }
    for pair in &verified {
        assert!(pair.agreement.same_outcome as f64 >= 0.9 * pair.agreement.affected as f64, "{:?}", pair.agreement);
        assert_eq!((pair.kernel.cascaded, pair.kernel.metastable), (pair.hosted.cascaded, pair.hosted.metastable));
    }
}

#[test]
fn a_storm_that_persists_persists_in_both_and_with_a_budget_recovers_in_both() {
    // 60 requests/s for a payment that can do 100; four tries each are 240.
    let storm = |retry: &str| {
        let model = format!(
            "
version: 1
workload: {{ customers: {{ to: shop.buy, open: {{ rate: 60/s }} }} }}
services:
  shop: {{ workers: unlimited, operations: {{ buy: {{ paths: [ {{ steps: [ {{ work: {{ constant: 1ms }} }}, {{ call: payment.pay }} ] }} ] }} }} }}
  payment: {{ workers: 2, queue: unbounded, operations: {{ pay: {{ paths: [ {{ steps: [ {{ work: {{ exponential: 20ms }} }} ] }} ] }} }} }}
edges: {{ shop->payment: {{ timeout: 250ms, retry: {retry} }} }}
"
        );
        let slow = "{ version: 1, scenarios: [ { id: slow, faults: [ { kind: slow, target: payment, start: 10s, duration: 6s, magnitude: { factor: 4 } } ] } ] }";
        let verified = both(&model, slow, &[1, 2], 90);
        assert!(equal(&verified, "slow") > 0.9);
        verified
    };
    for pair in storm("{ attempts: 4, backoff: 10ms, jitter: full }") {
        assert!(pair.kernel.metastable && pair.hosted.metastable);
    }
    for pair in storm("{ attempts: 4, backoff: 10ms, jitter: full, budget: { ratio: 0.1, cap: 10, min_per_s: 0 } }") {
        let took = [pair.kernel.recovery_s, pair.hosted.recovery_s].map(|s| s.expect("a budget ends it"));
        assert!((took[0] - took[1]).abs() <= 1.0, "{took:?}");
    }
}

#[test]
fn messages_that_come_in_another_order_do_the_same_harm() {
    let pair = both(
        include_str!("../../../scenarios/examples/stale-orders.model.yaml"),
        include_str!("../../../scenarios/examples/stale-orders.scenarios.yaml"),
        &[1],
        90,
    )
    .remove(0);
    assert!(pair.kernel.stale_writes > 10, "{:?}", pair.kernel);
    assert_eq!(pair.kernel.stale_writes, pair.hosted.stale_writes);
}

#[test]
fn every_kind_of_fault_is_felt_and_ends_users_requests_alike() {
    let program = Program::compile_quantised(&model(EVERYTHING.0), 0, TICK).expect("it compiles");
    let options = RunOptions { seed: 1, horizon: Nanos::from_secs(16), ..RunOptions::default() };
    let calm = run(&program, &Scenario::default(), &options).expect("it runs");
    for scenario in faults(EVERYTHING).iter().filter(|scenario| !scenario.faults.is_empty()) {
        let hosted = run(&program, scenario, &options).expect("it runs");
        assert_ne!(hosted.digest(), calm.digest(), "{}: the fault is inert", scenario.id);
        let kernel = Prepared::new(&program, scenario, &options).expect("it fits").run();
        let (kernel, hosted) = (kernel.result(), hosted.result());
        assert!(kernel.requests.abs_diff(hosted.requests) <= kernel.requests / 100, "{}", scenario.id);
        for (entry, there) in &kernel.entries {
            let here = &hosted.entries[entry];
            let apart = there.errors.abs_diff(here.errors) as f64;
            assert!(apart <= 3.0 + 0.1 * there.errors as f64, "{} {entry}: {apart}", scenario.id);
        }
    }
}

#[test]
fn a_seed_has_one_result_whatever_else_runs_beside_it() {
    let program = Program::compile(&model(CHAIN), 0).expect("it compiles");
    let options = RunOptions { seed: 5, horizon: Nanos::from_secs(10), ..RunOptions::default() };
    let scenario = &scenarios_of(
        "{ version: 1, scenarios: [ { id: x, faults: [ { kind: crash, target: b, start: 4s, duration: 1s } ] } ] }",
    )[0];
    let digest = |_| run(&program, scenario, &options).expect("it runs").digest();
    let alone = digest(0);
    let beside: Vec<String> = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads start").install(|| {
        rayon::iter::ParallelIterator::collect(rayon::iter::ParallelIterator::map(
            rayon::iter::IntoParallelIterator::into_par_iter(0..6),
            digest,
        ))
    });
    assert!(beside.iter().all(|other| *other == alone), "{alone} {beside:?}");
}

#[test]
fn what_it_cannot_do_is_refused_with_the_reason() {
    let refused = |text: &str| {
        let program = Program::compile(&model(text), 0).expect("it compiles");
        run(&program, &Scenario::default(), &RunOptions::default()).expect_err("it is refused").to_string()
    };
    let many: String = (0..MOST_HOSTS)
        .map(|i| format!("  s{i}: {{ operations: {{ op: {{ paths: [ {{ steps: [ {{ call: s{}.op }} ] }} ] }} }} }}\n", i + 1))
        .collect();
    let text = format!(
        "version: 1\nworkload: {{ users: {{ to: s0.op, open: {{ rate: 1/s }} }} }}\nservices:\n{many}  s{MOST_HOSTS}: {{ operations: {{ op: {{ paths: [ {{ steps: [ {{ work: {{ constant: 1ms }} }} ] }} ] }} }} }}\n"
    );
    assert!(refused(&text).contains("122 hosts would be needed"), "{}", refused(&text));
}
