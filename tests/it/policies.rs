//! Every policy of services and clients does what it says: against theory where there is one, else against the same system without it.

use models::system::Model;

use crate::story::{agrees, does, fault, figure, model, peak, run, runs, scenarios, sum};

const UNIT_MS: f64 = 10.0;

/// `a` (unlimited) calls `b` under a policy; users ask `a`. Work of `b` has mean 1 unit.
fn pair(rate: f64, policy: &str, b: &str) -> Model {
    model(&format!(
        "version: 1
workload: {{ users: {{ to: a.op, open: {{ rate: {}/s }} }} }}
services:
  a: {{ workers: unlimited, {} }}
  b: {{ {b} }}
edges: {{ a->b: {{ {policy} }} }}
",
        rate * 100.0,
        does("op", "{ call: b.op }")
    ))
}

fn exponential() -> String {
    does("op", "{ work: { exponential: 10ms } }")
}

/// One service `s`, asked by users at `rate` a unit.
fn station(rate: f64, settings: &str, work: &str) -> Model {
    model(&format!(
        "version: 1
workload: {{ users: {{ to: s.op, open: {{ rate: {}/s }} }} }}
services: {{ s: {{ {settings}, {} }} }}
",
        rate * 100.0,
        does("op", &format!("{{ work: {work} }}"))
    ))
}

/// A hedge after d: the response is longer than t with exp(-t) before d and exp(-t) exp(-(t - d)) from then on: mean 1 - exp(-d) + exp(-d)/2;
/// exp(-d) of the calls send a second try. Dean and Barroso, The tail at scale (2013), for the idea.
#[test]
fn a_hedge_takes_the_faster_of_two() {
    let d = 0.7;
    let late = libm::exp(-d);
    let runs = runs(&pair(2.0, "hedge: { after: 7ms, attempts: 2 }", &format!("workers: unlimited, {}", exponential())), 400, 5);
    agrees("response", 1.0 - late + late / 2.0, 0.0, 0.03, |s| runs.of(s).entries["users"].mean_ms / UNIT_MS);
    agrees("tries", 1.0 + late, 0.0, 0.02, |s| {
        let edge = &runs.of(s).boundaries["a->b"];
        edge.attempts as f64 / edge.requests as f64
    });
}

#[test]
fn a_hedged_call_fails_when_all_its_tries_have() {
    let b = "workers: unlimited, operations: { op: { error_rate: 0.3, paths: [ { steps: [ { work: { constant: 10ms } } ] } ] } }";
    let runs = runs(&pair(2.0, "hedge: { after: 1s, attempts: 2 }", b), 200, 5);
    agrees("failed", 0.09, 0.0, 0.1, |s| runs.of(s).entries["users"].error_rate);
    // A try that fails sends the next at once.
    agrees("response", 1.3, 0.0, 0.02, |s| runs.of(s).entries["users"].mean_ms / UNIT_MS);
}

/// A bulkhead of K places before a service without limit is M/M/K/K.
#[test]
fn a_bulkhead_blocks_as_erlang_b_says() {
    let m = pair(8.0, "max_in_flight: 10, retry: { attempts: 3 }", &format!("workers: unlimited, {}", exponential()));
    let runs = runs(&m, 150, 5);
    agrees("blocked", 0.121_661, 0.0, 0.05, |s| runs.of(s).entries["users"].error_rate);
    let edge = &runs.of(1).boundaries["a->b"];
    assert_eq!(figure(&edge.failed_attempts, "bulkhead"), edge.errors as f64, "and never retries");
}

/// A pool's connections are servers: M/M/c with a line, M/M/c/c without.
#[test]
fn a_connection_pool_is_a_queue_of_its_own() {
    let b = format!("workers: unlimited, {}", exponential());
    let waits = runs(&pair(1.6, "pool: { connections: 2, waiting: unbounded }", &b), 2_000, 20);
    agrees("M/M/2", 1.0 + 1.777_78, 0.0, 0.1, |s| waits.of(s).entries["users"].mean_ms / UNIT_MS);
    let refuses = runs(&pair(8.0, "pool: { connections: 10, waiting: 0 }", &b), 150, 5);
    agrees("M/M/10/10", 0.121_661, 0.0, 0.05, |s| refuses.of(s).entries["users"].error_rate);
    // The timeout runs while a try waits for a connection: of two at once over one connection, each 10 ms, the second is late at 15 ms.
    let m = model(&format!(
        "version: 1
workload: {{ users: {{ to: a.op, closed: {{ users: 2, think: {{ constant: 1s }} }} }} }}
services:
  a: {{ workers: unlimited, {} }}
  b: {{ workers: unlimited, {} }}
edges: {{ a->b: {{ timeout: 15ms, pool: {{ connections: 1, waiting: unbounded }} }} }}
",
        does("op", "{ call: b.op }"),
        does("op", "{ work: { constant: 10ms } }")
    ));
    let result = run(&m, None, 1, 2, 0);
    let edge = &result.boundaries["a->b"];
    assert_eq!((edge.requests, edge.errors, edge.failed_attempts.timeout), (2, 1, 1));
}

#[test]
fn a_deadline_bounds_all_tries_together() {
    // Tries of 40 ms each that all time out: 40 + 40 + 20 ms.
    let b = format!("workers: unlimited, {}", does("op", "{ work: { constant: 1s } }"));
    let result = run(&pair(1.0, "timeout: 40ms, deadline: 100ms, retry: { attempts: 10 }", &b), None, 1, 20, 0);
    let edge = &result.boundaries["a->b"];
    assert_eq!(edge.errors, edge.requests);
    assert!((edge.mean_ms - 100.0).abs() < 1e-6, "{}", edge.mean_ms);
    assert!((edge.attempts as f64 / edge.requests as f64 - 3.0).abs() < 0.02, "{} of {}", edge.attempts, edge.requests);
}

#[test]
fn a_deadline_that_is_propagated_stops_work_further_down() {
    let m = |policy: &str| {
        model(&format!(
            "version: 1
workload: {{ users: {{ to: a.op, open: {{ rate: 50/s }} }} }}
services:
  a: {{ workers: unlimited, {} }}
  b: {{ workers: unlimited, {} }}
  c: {{ workers: unlimited, {} }}
edges:
  users->a: {{ deadline: 50ms, propagate_deadline: {policy} }}
  a->b: {{ propagate_deadline: {policy} }}
",
            does("op", "{ work: { constant: 20ms } }, { call: b.op }"),
            does("op", "{ work: { constant: 40ms } }, { call: c.op }"),
            does("op", "{ work: { constant: 1ms } }"),
        ))
    };
    let (kept, stopped) = (run(&m("false"), None, 1, 20, 0), run(&m("true"), None, 1, 20, 0));
    for result in [&kept, &stopped] {
        assert_eq!(result.entries["users"].error_rate, 1.0);
        assert!((result.entries["users"].mean_ms - 50.0).abs() < 1e-6);
        assert!(result.services["b"].requests > 900);
    }
    assert!(kept.services["c"].requests > 900, "nobody told b");
    assert_eq!(stopped.services["c"].requests, 0, "b knows that it is too late");
}

/// Shedding those whose caller has gone: patience tau on the wait alone, M/M/1 + D: the workload met has density f(x) = lambda P0 exp(-(mu -
/// lambda) x) up to tau and f(tau) exp(-mu (x - tau)) above, so f(tau)/mu are shed and f(tau)/lambda more come late. Barrer (1957).
#[test]
fn shedding_the_expired_keeps_an_overloaded_server_useful() {
    let (lambda, tau) = (1.5, 10.0);
    let with = |shed: bool| {
        let mut m = station(lambda, &format!("workers: 1, shed_expired: {shed}"), "{ exponential: 10ms }");
        let timeout = models::system::Edge { timeout: Some(models::units::Nanos::from_millis(100).into()), ..Default::default() };
        m.edges.insert(models::system::EdgeName::new("users", "s"), timeout);
        m
    };
    let grown = libm::exp((lambda - 1.0) * tau);
    // P0 (1 + lambda (grown - 1) / (lambda - mu) + lambda grown / mu) = 1.
    let idle = 1.0 / (1.0 + lambda * (grown - 1.0) / (lambda - 1.0) + lambda * grown);
    let edge = lambda * idle * grown;
    let shed = runs(&with(true), 200, 10);
    agrees("late or shed", edge + edge / lambda, 0.0, 0.03, |s| shed.of(s).entries["users"].error_rate);
    let kept = run(&with(false), None, 1, 200, 20).entries["users"].error_rate;
    assert!(kept > 0.99, "else all work is for users who have gone: {kept}");
}

#[test]
fn codel_keeps_the_wait_near_its_target() {
    let with = |codel: &str| run(&station(1.5, &format!("workers: 1{codel}"), "{ constant: 10ms }"), None, 1, 120, 60);
    let (held, free) = (with(", codel: { target: 20ms, interval: 100ms }"), with(""));
    assert!(free.services["s"].mean_wait_ms > 10_000.0, "{}", free.services["s"].mean_wait_ms);
    // How near is said by `codel_drops_as_its_rfc_does`.
    assert!((20.0..150.0).contains(&held.services["s"].mean_wait_ms), "{}", held.services["s"].mean_wait_ms);
    // A third of the load is dropped, and the server is never idle for want of it.
    assert!((held.entries["users"].error_rate - 1.0 / 3.0).abs() < 0.03, "{}", held.entries["users"].error_rate);
    assert!(held.services["s"].utilisation > 0.97, "{}", held.services["s"].utilisation);
    // A burst that drains within an interval is let through.
    let calm = run(&station(0.7, "workers: 1, codel: { target: 20ms, interval: 1s }", "{ constant: 10ms }"), None, 1, 120, 0);
    assert_eq!(calm.entries["users"].errors, 0);
}

#[test]
fn an_adaptive_limit_finds_the_load_that_a_service_can_answer_in_time() {
    // Half as much again as ten workers can do.
    let with = |limit: &str| run(&station(15.0, &format!("workers: 10{limit}"), "{ exponential: 10ms }"), None, 1, 60, 20);
    let free = with("");
    assert!(free.entries["users"].p99_ms > 10_000.0);
    for law in [
        "{ aimd: { latency: 60ms, backoff: 0.9 }, initial: 20, min: 1, max: 500 }",
        "{ gradient: { tolerance: 1.5 }, initial: 20, min: 1, max: 500 }",
    ] {
        let held = with(&format!(", adaptive_limit: {law}"));
        assert!(held.services["s"].p99_ms < 150.0, "{law}: {}", held.services["s"].p99_ms);
        assert!(held.services["s"].utilisation > 0.9, "{law}: {}", held.services["s"].utilisation);
        assert!((held.entries["users"].error_rate - 1.0 / 3.0).abs() < 0.1, "{law}: {}", held.entries["users"].error_rate);
        // And a limit of one is a limit.
        let least =
            with(&format!(", adaptive_limit: {}", law.replace("max: 500", "max: 1").replace("initial: 20", "initial: 1")));
        assert!(least.services["s"].mean_in_system <= 1.0);
    }
}

#[test]
fn contention_adds_for_every_other_request_in_progress() {
    // Five at once: 10, 11, 12, 13, 14 ms; a second later they come 1 ms apart and meet the same.
    let m = model(&format!(
        "version: 1
workload: {{ users: {{ to: s.op, closed: {{ users: 5, think: {{ constant: 1s }} }} }} }}
services: {{ s: {{ workers: unlimited, contention: {{ in_progress: {{ add: 1ms }} }}, {} }} }}
",
        does("op", "{ work: { constant: 10ms } }")
    ));
    let result = run(&m, None, 1, 3, 0);
    assert_eq!(result.entries["users"].requests, 10);
    assert!((result.entries["users"].mean_ms - 12.0).abs() < 1e-6, "{}", result.entries["users"].mean_ms);
}

#[test]
fn contention_above_a_rate_slows_work() {
    let p50 = |rate: f64| {
        let m =
            station(rate, "workers: unlimited, contention: { arrival_rate: { above: 200/s, factor: 7 } }", "{ constant: 10ms }");
        run(&m, None, 1, 20, 2).services["s"].p50_ms
    };
    assert!((p50(1.0) - 10.0).abs() < 0.2 && (p50(3.0) - 70.0).abs() < 1.0);
}

/// 2.6 erlangs at a target of 0.7 need ceil(3.71) = 4 replicas; each, chosen at random, is M/M/1 at 0.65.
#[test]
fn autoscaling_settles_at_load_over_target() {
    let scale = "autoscale: { target: 0.7, min: 2, max: 10, every: 15s, start_up: 5s, down_after: 30s }";
    let m = station(2.6, &format!("replicas: 2, workers: 1, balance: random, {scale}"), "{ exponential: 10ms }");
    agrees("response at four", 1.0 / (1.0 - 0.65), 0.0, 0.1, |s| run(&m, None, s, 800, 200).entries["users"].mean_ms / UNIT_MS);
}

#[test]
fn autoscaling_takes_its_time() {
    // More than ten replicas can do: every look finds all that are up busy, so there are n / 0.7 three seconds later: 2, 3, 5, 8, 10.
    let scale = |down_after: &str| {
        let autoscale = format!("{{ target: 0.7, min: 2, max: 10, every: 5s, start_up: 3s, down_after: {down_after} }}");
        station(12.0, &format!("replicas: 2, workers: 1, queue: 5, autoscale: {autoscale}"), "{ constant: 10ms }")
    };
    let good = |m: &Model, scenario: Option<&scenarios::scenario::Scenario>, from, to| {
        let series = run(m, scenario, 1, 120, 0).series.expect("asked for");
        let s = &series.nodes["s"];
        f64::from(sum(&s.ended, from, to) - sum(&s.errors, from, to)) / (to - from) as f64
    };
    let m = scale("10s");
    for (from, to, replicas) in [(1, 8, 2), (9, 13, 3), (14, 18, 5), (19, 23, 8), (24, 40, 10)] {
        let per_s = good(&m, None, from, to);
        assert!((per_s / 100.0 - f64::from(replicas)).abs() < 0.25, "{from}..{to} s: {per_s}/s");
    }
    // With a tenth of the load from 40 s to 80 s, they go after 10 s, or stay if fewer must have been enough for longer.
    let calm = scenarios(
        "  - { id: calm, faults: [ { kind: surge, target: users, start: 40s, duration: 40s, magnitude: { factor: 0.1 } } ] }",
    );
    let (gone, stayed) = (good(&m, Some(&calm[0]), 80, 83), good(&scale("5min"), Some(&calm[0]), 80, 83));
    assert!(gone < 300.0 && stayed > 900.0, "{gone}/s, {stayed}/s");
}

#[test]
fn a_replica_that_has_just_started_is_slower() {
    let m = station(0.5, "workers: unlimited, warm_up: { lasting: 10s, factor: 3 }", "{ constant: 10ms }");
    let series = run(&m, Some(&fault("kind: crash, target: s")), 1, 40, 0).series.expect("asked for");
    let p50 = &series.nodes["s"].p50_ms;
    assert!((peak(p50, 1, 10) - 10.0).abs() < 0.2, "at the start of the run it is warm");
    // The median of the second that ends with a bucket: 1 s after the restart it was on average half a second old.
    for (second, factor) in [(21, 2.9), (25, 2.1), (29, 1.3), (31, 1.0)] {
        let ms = f64::from(p50[4 * second - 1]);
        assert!((ms / 10.0 - factor).abs() < 0.1, "{second} s: {ms}");
    }
}

#[test]
fn a_health_check_takes_a_while_to_notice() {
    let with = |check: &str| {
        let m = station(1.5, &format!("replicas: 2, workers: 1{check}"), "{ constant: 10ms }");
        let crash = "kind: crash, target: s, magnitude: { replicas: 1 }";
        run(&m, Some(&fault(crash)), 1, 60, 0).series.expect("asked for")
    };
    let series = with(", health_check: { down_after: 4s, up_after: 2s }");
    let errors = |from, to| sum(&series.nodes["users"].errors, from, to);
    // Every other try of 150/s is refused, for four seconds.
    assert!((250..=350).contains(&errors(10, 14)), "{}", errors(10, 14));
    assert_eq!((errors(0, 10), errors(15, 60)), (0, 0));
    // One replica alone cannot do it: the queue grows until the other, up again at 20 s, is chosen from 22 s on.
    let queue = &series.nodes["s"].queue;
    assert!(queue[4 * 22 - 1] > queue[4 * 21 - 1] && queue[4 * 21 - 1] > queue[4 * 20 - 1]);
    assert!(peak(queue, 40, 60) < 30.0 && peak(queue, 21, 23) > 200.0);
    let series = with("");
    assert!((650..=850).contains(&sum(&series.nodes["users"].errors, 10, 20)), "without it nobody notices");
}

/// What was stored stays valid for T: of the questions for one key at rate r a cycle of one miss and r T hits: r T / (1 + r T).
#[test]
fn a_ttl_lets_contents_grow_old() {
    let m = model(&format!(
        "version: 1
workload: {{ users: {{ to: app.get, open: {{ rate: 200/s }} }} }}
services:
  app: {{ workers: unlimited, {} }}
  cache: {{ workers: unlimited, cache: {{ capacity: 100, keys: 100, zipf: 0.8, ttl: 1s }}, {} }}
  store: {{ workers: unlimited, {} }}
",
        does("get", "{ lookup: { cache: cache.get, origin: store.get } }"),
        does("get", "{ work: { constant: 1us } }"),
        does("get", "{ work: { constant: 1us } }"),
    ));
    let weights: Vec<f64> = (1..=100).map(|rank| libm::pow(f64::from(rank), -0.8)).collect();
    let total: f64 = weights.iter().sum();
    let hit: f64 = weights.iter().map(|w| w / total * (200.0 * w / total) / (1.0 + 200.0 * w / total)).sum();
    let runs = runs(&m, 300, 20);
    agrees("hit ratio", hit, 0.000_5, 0.01, |s| {
        let edges = &runs.of(s).boundaries;
        1.0 - edges["app->store"].requests as f64 / edges["app->cache"].requests as f64
    });
}

/// One key, asked for 200 times a second, valid for a second, 100 ms from the store: with single flight a cycle is 100 ms + 1 s + the wait for
/// the next question, with one question to the store; without, everybody who comes within the 100 ms asks too.
#[test]
fn single_flight_asks_the_store_once() {
    let with = |single: bool, replicas: u32| {
        let m = model(&format!(
            "version: 1
workload: {{ users: {{ to: app.get, open: {{ rate: 200/s }} }} }}
services:
  app: {{ replicas: {replicas}, workers: unlimited, {} }}
  cache: {{ workers: unlimited, cache: {{ capacity: 1, keys: 1, ttl: 1s }}, {} }}
  store: {{ workers: unlimited, {} }}
",
            does("get", &format!("{{ lookup: {{ cache: cache.get, origin: store.get, single_flight: {single} }} }}")),
            does("get", ""),
            does("get", "{ work: { constant: 100ms } }"),
        ));
        runs(&m, 120, 5)
    };
    let asked = |runs: &crate::story::Runs, s| runs.of(s).services["store"].requests as f64 / 115.0;
    let alone = with(true, 1);
    agrees("asked", 1.0 / (0.1 + 1.0 + 0.005), 0.01, 0.03, |s| asked(&alone, s));
    // Who waits for another's answer is answered with it: a tenth of all questions fall into the 100 ms, and wait 50 ms on average.
    let waits = 200.0 * 0.1 / (1.0 + 200.0 * 1.1) * 50.0 + 1.0 / (1.0 + 200.0 * 1.1) * 100.0;
    agrees("response", waits, 0.01, 0.1, |s| alone.of(s).entries["users"].mean_ms);
    assert_eq!(alone.of(1).entries["users"].errors, 0);
    let crowd = with(false, 1);
    assert!((1..=10).all(|s| asked(&crowd, s) > 15.0 * asked(&alone, s)));
    let (three, one) = (asked(&with(true, 3), 1), asked(&alone, 1));
    assert!(three > 2.0 * one && three < 4.0 * one, "one question a replica: {three}/s, {one}/s");
}

#[test]
fn a_breaker_that_counts_failures_in_a_row_opens_after_so_many() {
    let errors = |probability: f64| fault(&format!("kind: errors, target: b, magnitude: {{ probability: {probability} }}"));
    let b = format!("workers: unlimited, {}", does("op", "{ work: { constant: 1ms } }"));
    let m = pair(1.0, "breaker: { consecutive: 5, open: 1s, probes: 1 }", &b);
    let let_through = |probability| {
        let result = run(&m, Some(&errors(probability)), 1, 40, 0);
        let series = result.series.expect("asked for");
        assert_eq!(sum(&series.nodes["users"].errors, 22, 40), 0, "it has closed again");
        sum(&series.nodes["b"].ended, 10, 20)
    };
    // Five, then a probe a second.
    assert!((12..=16).contains(&let_through(1.0)), "{}", let_through(1.0));
    // At p = 0.3 five in a row take some 590 calls on average; it is open for a second of every seven or so.
    let sometimes = let_through(0.3);
    assert!((600..=960).contains(&sometimes), "{sometimes}");
}

#[test]
fn a_breaker_with_a_window_of_time_forgets_what_is_past() {
    let b = format!("workers: unlimited, {}", does("op", "{ work: { constant: 1ms } }"));
    let opened = |window: &str, faults: &str| {
        let m = pair(1.0, &format!("breaker: {{ window: {window}, min_calls: 20, threshold: 0.5, open: 500ms, probes: 1 }}"), &b);
        let scenario = scenarios(&format!("  - {{ id: it, faults: [ {faults} ] }}"));
        figure(&run(&m, Some(&scenario[0]), 1, 40, 0).boundaries["a->b"].failed_attempts, "breaker_open") > 0.0
    };
    let errors = |start: u32, share: f64| {
        format!("{{ kind: errors, target: b, start: {start}s, duration: 1s, magnitude: {{ probability: {share} }} }}")
    };
    assert!(opened("1s", &errors(10, 0.9)));
    assert!(!opened("5s", &errors(10, 0.9)), "90 of 500 are no half");
    assert!(!opened("1s", &errors(10, 0.3)));
    let three = [errors(10, 1.0), errors(11, 1.0), errors(12, 1.0)].join(", ");
    assert!(opened("5s", &three), "300 of 500 are");
    let apart = [errors(10, 1.0), errors(16, 1.0), errors(22, 1.0)].join(", ");
    assert!(!opened("5s", &apart), "those of 6 s ago are forgotten");
}

#[test]
fn a_fallback_is_counted_as_a_degraded_answer() {
    let m = model(&format!(
        "version: 1
workload: {{ users: {{ to: a.op, open: {{ rate: 100/s }} }} }}
services:
  a: {{ workers: unlimited, {} }}
  b: {{ workers: unlimited, {} }}
  c: {{ workers: unlimited, {} }}
",
        does("op", "{ call: { to: b.op, fallback: { to: c.op } } }"),
        exponential(),
        exponential()
    ));
    let calm = run(&m, None, 1, 40, 0);
    assert_eq!(figure(&calm.services["a"], "degraded"), 0.0);
    let hurt = run(&m, Some(&fault("kind: crash, target: b")), 1, 40, 0);
    assert_eq!(hurt.entries["users"].errors, 0);
    let degraded = figure(&hurt.services["a"], "degraded");
    assert!((900.0..=1_100.0).contains(&degraded), "{degraded}");
    assert!((hurt.services["c"].requests as f64 - degraded).abs() <= 1.0);
}

/// RFC 8289, section 5.5, word for word, before one server with constant work; returns the mean wait of those served in the second half.
fn codel_of_the_rfc(seed: u64) -> f64 {
    const MS: f64 = 0.001;
    let (work, target, interval, end) = (10.0 * MS, 20.0 * MS, 100.0 * MS, 600.0);
    let mut state = models::rng::KeyStream::new(seed, 7);
    let mut uniform = || (state.next_bits() >> 11) as f64 / (1u64 << 53) as f64 + 1e-17;
    let mut arrivals = Vec::new();
    let mut at = 0.0;
    while at < end {
        at -= libm::log(uniform()) / 150.0;
        arrivals.push(at);
    }
    let mut queue = std::collections::VecDeque::new();
    let (mut next, mut now, mut waits) = (0, 0.0, Vec::new());
    let (mut first_above, mut drop_next, mut count, mut last_count, mut dropping) = (0.0, 0.0, 0i64, 0i64, false);
    while next < arrivals.len() {
        if queue.is_empty() {
            now = f64::max(now, arrivals[next]);
        }
        while next < arrivals.len() && arrivals[next] <= now {
            queue.push_back(arrivals[next]);
            next += 1;
        }
        while let Some(arrived) = queue.pop_front() {
            let waited = now - arrived;
            let mut may_drop = false;
            if waited < target || queue.is_empty() {
                first_above = 0.0;
            } else if first_above == 0.0 {
                first_above = now + interval;
            } else {
                may_drop = now >= first_above;
            }
            let mut drops = false;
            if dropping {
                if !may_drop {
                    dropping = false;
                } else if now >= drop_next {
                    count += 1;
                    drop_next += interval / (count as f64).sqrt();
                    drops = true;
                }
            } else if may_drop {
                dropping = true;
                let delta = count - last_count;
                count = if delta > 1 && now - drop_next < 16.0 * interval { delta } else { 1 };
                last_count = count;
                drop_next = now + interval / (count as f64).sqrt();
                drops = true;
            }
            if !drops {
                if now > end / 2.0 {
                    waits.push(waited);
                }
                now += work;
                break;
            }
        }
    }
    waits.iter().sum::<f64>() / waits.len() as f64
}

#[test]
fn codel_drops_as_its_rfc_does() {
    let rfc = (1..=20).map(codel_of_the_rfc).sum::<f64>() / 20.0;
    let m = station(1.5, "workers: 1, codel: { target: 20ms, interval: 100ms }", "{ constant: 10ms }");
    // The reference is a mean over twenty seeds itself.
    agrees("mean wait", rfc * 1e3, 0.02, 0.1, |s| run(&m, None, s, 600, 300).services["s"].mean_wait_ms);
}
