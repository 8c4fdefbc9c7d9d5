//! Every fault does what it says, from its beginning to its end, and nothing before or after.

use models::system::Model;
use scenarios::record::Series;

use crate::story::{model, run, scenarios, sweep};

/// front (blocking) calls back, then publishes to mails, which mailer consumes.
fn shop() -> Model {
    model(
        "version: 1
workload: { users: { to: front.buy, open: { rate: 100/s } } }
services:
  front: { workers: 256, queue: 64, operations: { buy: { paths: [ { weight: 1, steps: [ { work: { constant: 2ms } }, { call: back.get }, { publish: mails } ] } ] } } }
  back: { replicas: 2, workers: 4, queue: 32, operations: { get: { paths: [ { weight: 1, steps: [ { work: { exponential: 10ms } } ] } ] } } }
  mailer: { workers: 8, queue: 8, operations: { send: { paths: [ { weight: 1, steps: [ { work: { exponential: 20ms } } ] } ] } } }
topics:
  mails: { consumer: mailer.send, concurrency: 8, capacity: 500, redelivery_delay: 300ms, max_deliveries: 4 }
edges:
  users->front: { timeout: 2s }
  front->back: { latency: 1ms, timeout: 300ms, retry: { attempts: 2, backoff: 20ms, jitter: full } }
  front->mails: { timeout: 200ms }
  mails->mailer: { timeout: 1s }
",
    )
}

/// Runs one fault from 10 s to 20 s of 40 s; gives the series.
fn with(fault: &str) -> Series {
    let text = format!("  - {{ id: it, faults: [ {{ {fault}, start: 10s, duration: 10s }} ] }}");
    run(&shop(), Some(&scenarios(&text)[0]), 7, 40, 0).series.expect("asked for")
}

/// Sum over the buckets of a time in seconds.
fn sum(values: &[u32], from: usize, to: usize) -> u32 {
    values[4 * from..4 * to].iter().sum()
}

/// Highest over the buckets of a time in seconds.
fn peak<T: Copy + Into<f64>>(values: &[T], from: usize, to: usize) -> f64 {
    values[4 * from..4 * to].iter().map(|&v| v.into()).fold(0.0, f64::max)
}

/// Errors of users before, during, and (5 s) after the fault.
fn user_errors(series: &Series) -> [u32; 3] {
    let users = &series.nodes["users"];
    [sum(&users.errors, 0, 10), sum(&users.errors, 10, 20), sum(&users.errors, 25, 40)]
}

#[test]
fn latency_delays_the_request_leg_and_passes_the_timeout() {
    let series = with("kind: latency, target: front->back, magnitude: { add: 100ms }");
    assert_eq!(user_errors(&series), [0, 0, 0]);
    assert!((105.0..140.0).contains(&peak(&series.nodes["users"].p50_ms, 12, 20)));
    assert!(peak(&series.nodes["users"].p50_ms, 25, 40) < 20.0);
    let [before, during, after] = user_errors(&with("kind: latency, target: front->back, magnitude: { add: 400ms }"));
    assert_eq!((before, after), (0, 0));
    assert!(during > 900, "beyond the timeout all fail: {during}");
}

#[test]
fn a_held_request_without_caller_arrives_over_a_slow_link_and_not_behind_a_proxy() {
    let arrived = |more: &str| {
        let series = with(&format!("kind: latency, target: front->back, magnitude: {{ add: 400ms{more} }}"));
        sum(&series.nodes["back"].ended, 11, 20)
    };
    // 100 users a second, two tries each, all of which time out after 300 ms while they are held.
    assert_eq!(arrived(""), 0, "a proxy lets them go with their connections");
    let delivered = arrived(", delivers_abandoned: true");
    assert!((1_600..=1_900).contains(&delivered), "what is on the wire arrives, and is worked on for nobody: {delivered}");
}

#[test]
fn jitter_spreads_between_its_ends() {
    let series = with("kind: latency, target: front->back, magnitude: { add: 0ms, jitter: 100ms }");
    // Work of about 7 ms at the median, two legs and front's own 2 ms come on top of uniform(0, 100 ms).
    assert!((50.0..90.0).contains(&peak(&series.nodes["users"].p50_ms, 12, 20)));
    assert!((100.0..190.0).contains(&peak(&series.nodes["users"].p99_ms, 12, 20)));
}

#[test]
fn dropped_connections_are_retried_and_fail_at_p_squared() {
    let series = with("kind: connection_drop, target: front->back, magnitude: { probability: 0.5 }");
    let [before, during, after] = user_errors(&series);
    // 1000 users, two tries each: 250 +- 14; five standard deviations.
    assert!((180..=320).contains(&during), "{during}");
    assert_eq!((before, after), (0, 0));
    assert!((400..=600).contains(&sum(&series.edges["front->back"].retries, 10, 20)));
    assert!(sum(&series.nodes["back"].errors, 10, 20) > 400, "a reset connection counts against the called service");
}

#[test]
fn a_black_hole_gives_no_error_but_by_timeout() {
    let series = with("kind: black_hole, target: front->back");
    let [before, during, after] = user_errors(&series);
    assert_eq!((before, after), (0, 0));
    assert!(during > 800, "{during}");
    assert_eq!(sum(&series.nodes["back"].ended, 11, 20), 0, "nothing arrives");
    // Two tries of 300 ms and a wait of at most 20 ms.
    assert!(
        (600.0..640.0).contains(&peak(&series.nodes["users"].p99_ms, 12, 20)),
        "{}",
        peak(&series.nodes["users"].p99_ms, 12, 20)
    );
}

#[test]
fn errors_strike_on_arrival() {
    let series = with("kind: errors, target: back, magnitude: { probability: 1 }");
    let [before, during, after] = user_errors(&series);
    assert_eq!((before, after), (0, 0));
    assert!(during > 900);
    assert!(peak(&series.nodes["back"].p50_ms, 12, 20) < 0.1, "an error on arrival takes no time");
}

#[test]
fn slow_work_is_slow_from_its_start_and_no_longer() {
    let series = with("kind: slow, target: back, magnitude: { factor: 5 }");
    // 7 ms x 5 at the median.
    assert!((30.0..90.0).contains(&peak(&series.nodes["back"].p50_ms, 12, 20)));
    assert!(peak(&series.nodes["back"].p50_ms, 25, 40) < 15.0);
}

#[test]
fn a_crash_refuses_until_the_restart() {
    let series = with("kind: crash, target: back");
    let [before, during, after] = user_errors(&series);
    assert_eq!((before, after), (0, 0));
    assert!(during > 950, "{during}");
    assert!(peak(&series.nodes["users"].p99_ms, 12, 20) < 50.0, "refused connections fail fast");
    // One of two replicas, round robin: every other try is refused, and a retry goes to the other replica.
    let half = with("kind: crash, target: back, magnitude: { replicas: 1 }");
    assert!(sum(&half.nodes["back"].errors, 10, 20) > 300);
    assert!(user_errors(&half)[1] < 400);
    let silent = with("kind: crash, target: back, magnitude: { black_hole: true }");
    assert!(peak(&silent.nodes["users"].p99_ms, 12, 20) > 600.0, "silence lasts until the timeouts");
}

#[test]
fn lost_workers_make_a_queue() {
    // Two replicas of four: 800/s; a quarter of it is 200/s at 100/s offered; 0 workers serve nothing.
    let none = with("kind: workers_lost, target: back, magnitude: { keep: 0 }");
    assert_eq!(peak(&none.nodes["back"].queue, 11, 20), 32.0, "the queue's bound");
    assert!(user_errors(&none)[1] > 800);
    assert_eq!(user_errors(&none)[2], 0, "work goes on when the workers are back");
    let half = with("kind: workers_lost, target: back, magnitude: { keep: 0.5 }");
    assert_eq!(user_errors(&half), [0, 0, 0]);
}

#[test]
fn a_surge_adds_requests_and_a_drop_thins_them() {
    let arrived = |series: &Series, from, to| f64::from(sum(&series.nodes["users"].ended, from, to));
    let surge = with("kind: surge, target: users, magnitude: { factor: 3 }");
    assert!((arrived(&surge, 10, 20) / 3_000.0 - 1.0).abs() < 0.1);
    assert!((arrived(&surge, 25, 40) / 1_500.0 - 1.0).abs() < 0.1);
    let thinned = with("kind: surge, target: users, magnitude: { factor: 0.2 }");
    assert!((arrived(&thinned, 10, 20) / 200.0 - 1.0).abs() < 0.3);
    // Who comes anyway comes at the same time with the same luck.
    let calm = with("kind: surge, target: users, magnitude: { factor: 1 }");
    assert_eq!(arrived(&calm, 0, 10), arrived(&surge, 0, 10));
}

#[test]
fn aggressive_retries_replace_the_policy() {
    let text = "  - { id: storm, faults: [
          { kind: errors, target: back, start: 10s, duration: 10s, magnitude: { probability: 1 } },
          { kind: retries, target: front->back, start: 10s, duration: 10s, magnitude: { attempts: 8, backoff: 0ms } } ] }";
    let series = run(&shop(), Some(&scenarios(text)[0]), 7, 40, 0).series.expect("asked for");
    let edge = &series.edges["front->back"];
    let amplification =
        f64::from(sum(&edge.attempts, 11, 19)) / f64::from(sum(&edge.attempts, 11, 19) - sum(&edge.retries, 11, 19));
    assert!((amplification - 8.0).abs() < 0.2, "{amplification}");
    let record = &sweep(&shop(), &scenarios(text), 7..8, 40, 1)[0];
    assert!(record.retry_amplification_peak > 3.0, "inner edges together: {}", record.retry_amplification_peak);
}

#[test]
fn a_stalled_consumer_lets_messages_pile_up_and_drain() {
    let series = with("kind: consumer_stall, target: mails");
    let queue = &series.nodes["mails"].queue;
    assert!((peak(queue, 19, 20) - 500.0).abs() < 1.0, "bounded at 500: {}", peak(queue, 19, 20));
    assert!(peak(queue, 26, 40) < 20.0, "drained");
    assert!(user_errors(&series)[1] == 0, "a failed publish does not fail the order");
    assert!(sum(&series.nodes["mails"].errors, 10, 21) > 300, "refused publishes count against the topic");
}

#[test]
fn held_messages_are_late_and_overtake() {
    let late = with("kind: delay, target: mails, magnitude: { add: 1s, jitter: 1s }");
    assert!((1_300.0..1_700.0).contains(&peak(&late.nodes["mails"].p50_ms, 15, 20)));
    let reordered = with("kind: reorder, target: mails, magnitude: { probability: 0.3, within: 2s }");
    assert!(peak(&reordered.nodes["mails"].p50_ms, 15, 20) < 100.0, "most are in time");
    assert!(peak(&reordered.nodes["mails"].p99_ms, 15, 20) > 1_500.0, "some are not");
}

#[test]
fn a_cold_cache_sends_its_misses_to_the_store() {
    let m = model(
        "version: 1
workload: { users: { to: search.find, open: { rate: 100/s } } }
services:
  search: { workers: 32, mode: async, operations: { find: { paths: [ { weight: 1, steps: [ { work: { constant: 1ms } }, { lookup: { cache: cache.get, origin: store.get, fill: cache.put } } ] } ] } } }
  cache: { workers: 32, cache: { capacity: 500, keys: 2000, zipf: 1.1 }, operations: { get: { paths: [ { weight: 1, steps: [ { work: { constant: 1ms } } ] } ] }, put: { paths: [ { weight: 1, steps: [ { work: { constant: 1ms } } ] } ] } } }
  store: { workers: 8, queue: 100, operations: { get: { paths: [ { weight: 1, steps: [ { work: { exponential: 20ms } } ] } ] } } }
",
    );
    let crash = scenarios("  - { id: cold, faults: [ { kind: crash, target: cache, start: 10s, duration: 5s } ] }");
    let series = run(&m, Some(&crash[0]), 3, 120, 0).series.expect("asked for");
    let asked = |from, to| f64::from(sum(&series.edges["search->store"].attempts, from, to)) / (to - from) as f64;
    let (warm, down, cold, later) = (asked(5, 10), asked(10, 15), asked(15, 18), asked(100, 120));
    assert!(warm < 35.0, "most questions are answered from the cache: {warm}");
    assert!(down > 90.0, "while it is down, none: {down}");
    assert!(cold > 1.3 * warm && cold < down, "it comes back cold: {cold}, warm {warm}");
    assert!((later - warm).abs() < 10.0, "and fills up: {later}, warm {warm}");
    assert_eq!(sum(&series.nodes["users"].errors, 0, 120), 0, "nobody fails, the store holds");
}

#[test]
fn a_breaker_opens_and_lets_probes_close_it() {
    let m = |breaker: &str| {
        model(&format!(
            "version: 1
workload: {{ users: {{ to: a.op, open: {{ rate: 100/s }} }} }}
services:
  a: {{ workers: 64, operations: {{ op: {{ paths: [ {{ weight: 1, steps: [ {{ work: {{ constant: 1ms }} }}, {{ call: b.op }} ] }} ] }} }} }}
  b: {{ workers: 64, operations: {{ op: {{ paths: [ {{ weight: 1, steps: [ {{ work: {{ constant: 1ms }} }} ] }} ] }} }} }}
edges:
  a->b: {{ timeout: 500ms, breaker: {breaker} }}
"
        ))
    };
    let errors = scenarios(
        "  - { id: e, faults: [ { kind: errors, target: b, start: 10s, duration: 10s, magnitude: { probability: 1 } } ] }",
    );
    let breaker = "{ window: 20, min_calls: 10, threshold: 0.5, open: 1s, probes: 3 }";
    let with = run(&m(breaker), Some(&errors[0]), 1, 40, 0);
    let series = with.series.expect("asked for");
    // It opens within the first 20 failures, then lets probes through about once a second.
    assert!(sum(&series.nodes["b"].ended, 11, 20) < 40, "{}", sum(&series.nodes["b"].ended, 11, 20));
    assert!(sum(&series.nodes["users"].errors, 22, 40) == 0, "it has closed again");
    assert!(with.boundaries["a->b"].failed_attempts.breaker_open > 800);
}

#[test]
fn a_scenario_that_does_not_fit_is_refused() {
    let program = sim::Program::compile(&shop(), 0).expect("it compiles");
    for (fault, word) in [
        ("kind: slow, target: nobody, magnitude: { factor: 2 }", "nobody"),
        ("kind: slow, target: mails, magnitude: { factor: 2 }", "cannot suffer"),
        ("kind: latency, target: back->front, magnitude: { add: 1ms }", "back->front"),
    ] {
        let text = format!("  - {{ id: it, faults: [ {{ {fault}, start: 10s, duration: 10s }} ] }}");
        let error = sim::Prepared::new(&program, &scenarios(&text)[0], &sim::RunOptions::default()).expect_err("refused");
        assert!(error.to_string().contains(word), "{error}");
    }
}
