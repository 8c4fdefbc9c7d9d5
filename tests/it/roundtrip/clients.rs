//! What clients do about calls that fail or take long, there and back.

use models::learn::{Finding, LearnOptions};
use models::param::Source;
use models::system::{EdgeName, Jitter, Step, Trips};
use models::units::Nanos;
use sim::SpanOptions;

use super::{Trip, holds, holds_time, nearly_holds, trip, trip_with};

const RETRIES: &str = "
version: 1
workload: { users: { to: web.get, open: { rate: 80/s } } }
services:
  web: { workers: 128, queue: 64, operations: { get: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 4ms, p99: 20ms } } },
    { call: { to: pay.charge } }, { call: { to: mail.send, on_failure: 0.3 } }, { call: { to: ads.list, on_failure: degrade } }, { call: { to: geo.find, on_failure: degrade } } ] } ] } } }
  pay: { workers: 16, queue: 64, operations: { charge: { error_rate: 0.3, paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 8ms, p99: 30ms } } } ] } ] } } }
  mail: { workers: 16, queue: 64, operations: { send: { error_rate: 0.4, paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 5ms, p99: 20ms } } } ] } ] } } }
  ads: { workers: 64, queue: 64, operations: { list: { error_rate: 0.05, paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 20ms, p99: 200ms } } } ] } ] } } }
  geo: { workers: 16, queue: 64, operations: { find: { error_rate: 0.3, paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 5ms, p99: 20ms } } } ] } ] } } }
edges:
  web->pay: { latency: 500us, retry: { attempts: 3, backoff: 40ms, factor: 2, jitter: none } }
  web->mail: { latency: 500us, retry: { attempts: 4, backoff: 20ms, factor: 2, jitter: full } }
  web->ads: { latency: 500us, timeout: 90ms, retry: { attempts: 2, backoff: 10ms, jitter: equal, on: [timeout] } }
  web->geo: { latency: 500us, retry: { attempts: 3, backoff: 15ms, jitter: decorrelated, max: 100ms } }
";

/// What the edges of [`RETRIES`] must show.
fn check_retries(trip: &Trip) {
    trip.structure();
    let retry = |to: &str| trip.model().edges[&EdgeName::new("web", to)].retry.clone().expect("it was tried again");
    for (to, attempts, backoff, jitter) in [
        ("pay", 3, 40_u32, Jitter::None),
        ("mail", 4, 20, Jitter::Full),
        ("ads", 2, 10, Jitter::Equal),
        ("geo", 3, 15, Jitter::Decorrelated),
    ] {
        let retry = retry(to);
        assert_eq!(retry.attempts.value, attempts, "tries of {to}");
        assert_eq!(retry.jitter, jitter, "jitter of {to}: {retry:?}");
        let off = retry.backoff.value.as_millis_f64() / f64::from(backoff) - 1.0;
        assert!(off.abs() < 0.05, "backoff of {to}: {:?}", retry.backoff);
        let [low, high] = retry.backoff.range.expect("it was inferred");
        let slack = Nanos::from_nanos(10);
        assert!(
            low <= Nanos::from_millis(backoff.into()) + slack && Nanos::from_millis(backoff.into()) <= high + slack,
            "{to}: {:?}",
            retry.backoff
        );
    }
    for to in ["pay", "mail"] {
        let factor = retry(to).factor;
        assert!((factor.value - 2.0).abs() < 0.1 && nearly_holds(&factor, 2.0), "factor of {to}: {factor:?}");
    }
    assert!(retry("pay").on.is_empty() && !retry("ads").on.contains(&models::system::Cause::Error), "{:?}", retry("ads").on);
    let timeout = trip.model().edges[&EdgeName::new("web", "ads")].timeout.expect("calls timed out");
    assert!(
        (timeout.value.as_millis_f64() / 90.0 - 1.0).abs() < 0.05 && holds_time(&timeout, Nanos::from_millis(90)),
        "{timeout:?}"
    );
    // What a call's failure did to its caller: hard, soft, and now and then.
    let failure = |to: &str| {
        let steps = &trip.model().services["web"].operations["get"].paths[0].steps;
        let found =
            steps.iter().find_map(|s| if let Step::Call(c) = s { (c.to.service == to).then_some(c.on_failure) } else { None });
        found.expect("it is called")
    };
    for (to, truth) in [("pay", 1.0), ("mail", 0.3), ("ads", 0.0)] {
        let found = failure(to);
        assert!(found.source == Source::Inferred && nearly_holds(&found, truth), "{to}: {found:?}, in truth {truth}");
    }
}

#[test]
fn retries_backoff_jitter_timeouts_and_what_failures_do_come_back() {
    check_retries(&trip(RETRIES, 200));
}

#[test]
fn retries_come_back_where_clients_do_not_count_them() {
    let spans = SpanOptions { resend_counts: false, ..SpanOptions::default() };
    check_retries(&trip_with(RETRIES, 2, 200, &spans, &LearnOptions::default()));
}

const GUARDED: &str = "
version: 1
workload: { users: { to: web.get, open: { rate: 60/s } } }
services:
  web: { workers: 128, queue: 256, operations: { get: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 2ms, p99: 8ms } } }, { call: { to: db.read } }, { call: { to: flaky.read } } ] } ] } } }
  db: { replicas: 2, workers: 16, queue: 20, operations: { read: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 10ms, p99: 120ms } } } ] } ] } } }
  flaky: { workers: 16, queue: 20, operations: { read: { error_rate: 0.4, paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 5ms, p99: 20ms } } } ] } ] } } }
edges:
  web->db: { latency: 300us, hedge: { after: 50ms, attempts: 2 } }
  web->flaky: { latency: 300us, breaker: { window: 20, min_calls: 10, threshold: 0.5, open: 2s, probes: 2 } }
";

#[test]
fn hedging_and_breakers_show() {
    let trip = trip(GUARDED, 200);
    trip.structure();
    let edges = &trip.model().edges;
    let hedge = edges[&EdgeName::new("web", "db")].hedge.as_ref().expect("its calls overlap");
    assert_eq!((hedge.after.value, hedge.attempts.value), (Nanos::from_millis(50), 2));
    assert!(edges[&EdgeName::new("web", "db")].retry.is_none() && edges[&EdgeName::new("web", "db")].timeout.is_none());
    let breaker = edges[&EdgeName::new("web", "flaky")].breaker.as_ref().expect("it was open");
    let off = breaker.open.value.as_millis_f64() / 2_000.0 - 1.0;
    assert!(off.abs() < 0.05 && holds_time(&breaker.open, Nanos::from_secs(2)), "{:?}", breaker.open);
    let Trips::Share { threshold, .. } = &breaker.trips else { panic!("{:?}", breaker.trips) };
    assert!(holds(threshold, 0.5), "{threshold:?}");
    assert!(edges[&EdgeName::new("web", "db")].breaker.is_none());
}

const GIVES_UP: &str = "
version: 1
workload: { users: { to: web.get, open: { rate: 60/s } } }
services:
  web: { workers: 128, queue: 256, operations: { get: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 2ms, p99: 8ms } } }, { call: { to: slow.think, on_failure: degrade } }, { work: { constant: 1ms } } ] } ] } } }
  slow: { workers: 64, queue: 64, operations: { think: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 60ms, p99: 400ms } } }, { call: { to: disk.read } } ] } ] } } }
  disk: { workers: 64, queue: 64, operations: { read: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 10ms, p99: 30ms } } } ] } ] } } }
edges: { web->slow: { latency: 400us, timeout: 150ms }, slow->disk: { latency: 200us } }
";

#[test]
fn callers_that_give_up_before_the_callee_ends_do_not_hide_its_work() {
    let trip = trip(GIVES_UP, 200);
    trip.structure().service_times();
    let timeout = trip.model().edges[&EdgeName::new("web", "slow")].timeout.expect("it gave up often");
    assert!(holds_time(&timeout, Nanos::from_millis(150)), "{timeout:?}");
    assert!(trip.lesson.findings.iter().any(|f| matches!(f, Finding::GaveUp { timeouts, .. } if *timeouts > 500)));
}
