//! The faults of links, replicas, caches and topics: what each does from its beginning to its end, and how they grow and fall.

use models::system::Model;
use scenarios::record::Series;

use crate::story::{agrees, does, fault, figure, model, peak, run, scenarios, sum};

/// `a` (unlimited) calls `b` (unlimited, 10 ms); a hundred users a second.
fn pair(edge: &str) -> Model {
    model(&format!(
        "version: 1
workload: {{ users: {{ to: a.op, open: {{ rate: 100/s }} }} }}
services:
  a: {{ workers: unlimited, {} }}
  b: {{ workers: unlimited, {} }}
edges: {{ a->b: {{ {edge} }} }}
",
        does("op", "{ call: b.op }"),
        does("op", "{ work: { constant: 10ms } }")
    ))
}

fn series(m: &Model, kind: &str) -> Series {
    run(m, Some(&fault(kind)), 7, 40, 0).series.expect("asked for")
}

fn errors(series: &Series) -> [u32; 3] {
    [(0, 10), (10, 20), (23, 40)].map(|(from, to)| sum(&series.nodes["users"].errors, from, to))
}

/// Mean response of users while a fault on the edge lasts, less the 10 ms of work: the fault covers all that is measured.
fn added(m: &Model, kind: &str, seed: u64) -> f64 {
    let text = format!("  - {{ id: it, faults: [ {{ {kind}, start: 1s, duration: 1h }} ] }}");
    run(m, Some(&scenarios(&text)[0]), seed, 120, 10).entries["users"].mean_ms - 10.0
}

#[test]
fn latency_can_be_drawn_and_strikes_the_leg_it_says() {
    let m = pair("");
    for (more, mean) in [
        ("distribution: { exponential: 20ms }", 20.0),
        ("distribution: { exponential: 20ms }, leg: reply", 20.0),
        ("distribution: { exponential: 20ms }, leg: both", 40.0),
        ("add: 5ms, jitter: 10ms, distribution: { lognormal: { p50: 10ms, p99: 10ms } }", 20.0),
    ] {
        agrees(more, mean, 0.001, 0.05, |s| added(&m, &format!("kind: latency, target: a->b, magnitude: {{ {more} }}"), s));
    }
    // A request that is held beyond its timeout by a proxy is let go; a reply that is held was worked for.
    let m = pair("timeout: 50ms");
    let request = series(&m, "kind: latency, target: a->b, magnitude: { add: 100ms }");
    let reply = series(&m, "kind: latency, target: a->b, magnitude: { add: 100ms, leg: reply }");
    assert_eq!(sum(&request.nodes["b"].ended, 11, 20), 0);
    assert!(sum(&reply.nodes["b"].ended, 11, 20) > 800);
    assert!(errors(&reply)[1] > 900 && errors(&reply)[0] + errors(&reply)[2] == 0);
}

#[test]
fn a_partition_can_be_one_way() {
    let m = pair("timeout: 50ms");
    for (leg, worked) in [("request", false), ("reply", true), ("both", false)] {
        let series = series(&m, &format!("kind: black_hole, target: a->b, magnitude: {{ leg: {leg} }}"));
        assert!(errors(&series)[1] > 900 && errors(&series)[0] + errors(&series)[2] == 0, "{leg}: {:?}", errors(&series));
        assert_eq!(sum(&series.nodes["b"].ended, 11, 20) > 800, worked, "{leg}");
    }
}

/// Lost with probability p and sent again after R, doubled each time: R (p + 2 p^2 + 4 p^3 + ...) = p R / (1 - 2 p) a message, twice a call.
#[test]
fn loss_shows_as_retransmission_delay() {
    let p = 0.2;
    let theory = 2.0 * p * 50.0 / (1.0 - 2.0 * p);
    let m = pair("");
    agrees("loss", theory, 0.0, 0.1, |s| {
        added(&m, &format!("kind: loss, target: a->b, magnitude: {{ probability: {p}, retransmit: 50ms }}"), s)
    });
    let series = series(&m, "kind: loss, target: a->b, magnitude: { probability: 0.3, retransmit: 20ms }");
    assert_eq!(errors(&series), [0, 0, 0], "nothing is lost for good");
    // One message in eleven is lost twice or more: 20 + 40 ms.
    assert!(peak(&series.nodes["users"].p99_ms, 12, 20) > 60.0 && peak(&series.nodes["users"].p99_ms, 30, 40) < 12.0);
}

/// A narrow link sends one request after the other: M/D/1 at 100/s x 8 ms.
#[test]
fn a_narrow_link_is_a_queue() {
    let m = pair("");
    let theory = 8.0 + 8.0 * 0.8 / (2.0 * 0.2);
    agrees("bandwidth", theory, 0.0, 0.2, |s| {
        added(&m, "kind: bandwidth, target: a->b, magnitude: { bytes_per_s: 1000000, request_bytes: 8000 }", s)
    });
    // Too narrow: 100/s against 50/s; the 500 in line at its end are still on the wire.
    let series = series(&m, "kind: bandwidth, target: a->b, magnitude: { bytes_per_s: 400000, request_bytes: 8000 }");
    assert!(peak(&series.nodes["users"].p50_ms, 18, 20) > 3_000.0);
    assert!(peak(&series.nodes["users"].p50_ms, 32, 40) < 11.0);
}

#[test]
fn a_timeout_can_be_lowered_but_not_raised() {
    for (to, during) in [("5ms", true), ("15ms", false)] {
        let series = series(&pair("timeout: 12ms"), &format!("kind: timeout, target: a->b, magnitude: {{ to: {to} }}"));
        assert_eq!(errors(&series)[1] > 900, during, "{to}");
        assert_eq!(errors(&series)[0] + errors(&series)[2], 0, "{to}");
    }
    let none = series(&pair(""), "kind: timeout, target: a->b, magnitude: { to: 5ms }");
    assert!(errors(&none)[1] > 900, "where there was none it is set");
}

/// `s` with four workers of 10 ms, a hundred users a second.
fn station(settings: &str) -> Model {
    model(&format!(
        "version: 1
workload: {{ users: {{ to: s.op, open: {{ rate: 100/s }} }} }}
services: {{ s: {{ {settings}, {} }} }}
",
        does("op", "{ work: { constant: 10ms } }")
    ))
}

#[test]
fn a_pause_stops_everything_and_loses_nothing() {
    let series = series(&station("workers: 4"), "kind: pause, target: s");
    assert_eq!(errors(&series), [0, 0, 0]);
    assert_eq!(sum(&series.nodes["s"].ended, 11, 20), 0);
    assert!(peak(&series.nodes["s"].queue, 19, 20) > 850.0);
    // What was under way at its beginning took ten seconds longer, the newest hardly.
    assert!(peak(&series.nodes["users"].p99_ms, 20, 24) > 9_500.0);
    assert!(peak(&series.nodes["users"].p99_ms, 30, 40) < 30.0);
}

#[test]
fn lost_replicas_are_known_to_be_lost() {
    let m = station("replicas: 3, workers: 1, balance: random");
    let series_of = |kind: &str| series(&m, kind);
    let lost = series_of("kind: replicas_lost, target: s, magnitude: { replicas: 2 }");
    // Whoever was there dies, nobody else is sent there; one replica at 100 % load is left.
    assert!(errors(&lost)[1] <= 8, "{:?}", errors(&lost));
    assert!(peak(&lost.nodes["s"].queue, 15, 20) > 3.0 * peak(&lost.nodes["s"].queue, 0, 10), "the one left has all to do");
    let crash = series_of("kind: crash, target: s, magnitude: { replicas: 2 }");
    assert!(errors(&crash)[1] > 500, "who does not know is refused: {:?}", errors(&crash));
    let all = series_of("kind: replicas_lost, target: s, magnitude: { replicas: 3 }");
    assert!(errors(&all)[1] > 900 && errors(&all)[2] == 0, "{:?}", errors(&all));
}

#[test]
fn a_shrunk_queue_refuses_more() {
    let with = |to: u32| {
        let m = station("workers: 1, queue: 50");
        let text = format!(
            "  - {{ id: it, faults: [ {{ kind: queue_shrunk, target: s, start: 10s, duration: 10s, magnitude: {{ to: {to} }} }}, \
             {{ kind: slow, target: s, start: 10s, duration: 10s, magnitude: {{ factor: 2 }} }} ] }}"
        );
        run(&m, Some(&scenarios(&text)[0]), 7, 40, 0).series.expect("asked for")
    };
    let (small, large) = (with(3), with(50));
    assert_eq!((peak(&small.nodes["s"].queue, 12, 20), peak(&large.nodes["s"].queue, 12, 20)), (3.0, 50.0));
    assert!(errors(&small)[1] > errors(&large)[1] + 20);
    assert_eq!(peak(&with(500).nodes["s"].queue, 12, 20), 50.0, "it cannot grow");
}

#[test]
fn a_leak_grows_until_the_restart() {
    let series = series(&station("workers: unlimited"), "kind: leak, target: s, magnitude: { growth: 0.2 }");
    let p50 = &series.nodes["s"].p50_ms;
    assert!((peak(p50, 0, 10) - 10.0).abs() < 0.2);
    for (second, factor) in [(12, 1.3), (15, 1.9), (20, 2.9)] {
        // Of the second that ends there, on average half a second earlier.
        let ms = f64::from(p50[4 * second - 1]);
        assert!((ms / 10.0 - factor).abs() < 0.1, "{second} s: {ms}");
    }
    assert!(
        (1..=8).contains(&errors(&series)[1]) || (1..=8).contains(&sum(&series.nodes["users"].errors, 20, 21)),
        "the restart kills"
    );
    assert!((peak(p50, 22, 40) - 10.0).abs() < 0.2 && errors(&series)[2] == 0);
}

/// A look-aside cache that holds all its 200 keys.
fn cached(more: &str) -> Model {
    model(&format!(
        "version: 1
workload: {{ users: {{ to: app.get, open: {{ rate: 200/s }} }} }}
services:
  app: {{ workers: unlimited, {} }}
  cache: {{ workers: unlimited, cache: {{ capacity: 200, keys: 200, zipf: 0{more} }}, {} }}
  store: {{ workers: unlimited, {} }}
",
        does("get", "{ lookup: { cache: cache.get, origin: store.get } }"),
        does("get", ""),
        does("get", "{ work: { constant: 1ms } }"),
    ))
}

#[test]
fn a_flush_empties_a_share_of_a_cache_once() {
    for (share, missing) in [(1.0, 200), (0.5, 100)] {
        let series = series(&cached(""), &format!("kind: flush, target: cache, magnitude: {{ share: {share} }}"));
        let asked = |from, to| sum(&series.edges["app->store"].attempts, from, to);
        assert_eq!(asked(0, 10), 0);
        // Each key that is gone is fetched once or, within the store's millisecond, a few times more.
        let all = asked(10, 40);
        assert!((missing - 5..=missing + 8).contains(&all), "{share}: {all}");
        assert!(asked(10, 11) > all / 2);
    }
}

#[test]
fn a_drop_of_the_hit_ratio_makes_misses_of_hits() {
    let series = series(&cached(""), "kind: hit_ratio_drop, target: cache, magnitude: { keep: 0.7 }");
    let asked = |from, to| f64::from(sum(&series.edges["app->store"].attempts, from, to));
    // 2000 +- 45 questions, 30 % of which: 600 +- 25; five standard deviations.
    assert!(asked(0, 10) == 0.0 && (470.0..=730.0).contains(&asked(10, 20)) && asked(21, 40) == 0.0, "{}", asked(10, 20));
}

/// `app` publishes to `t`, whose `consumer` (unlimited, 10 ms) may or may not be the one who handles other requests too.
fn mail() -> Model {
    model(&format!(
        "version: 1
workload: {{ users: {{ to: app.op, open: {{ rate: 100/s }} }}, others: {{ to: consumer.op, open: {{ rate: 50/s }} }} }}
services:
  app: {{ workers: unlimited, {} }}
  consumer: {{ workers: unlimited, {} }}
topics: {{ t: {{ consumer: consumer.op, concurrency: 100, max_deliveries: 3, redelivery_delay: 100ms, idempotent: false }} }}
",
        does("op", "{ publish: t }"),
        does("op", "{ work: { constant: 10ms } }")
    ))
}

#[test]
fn messages_are_doubled_lost_and_poisoned_in_their_share() {
    let with = |kind: &str| {
        let result = run(&mail(), Some(&fault(kind)), 7, 40, 0);
        assert_eq!(result.entries["users"].errors, 0, "its publisher sees nothing of it");
        result
    };
    let calm = run(&mail(), None, 7, 40, 0);
    // Of 1000 +- 32 messages 30 %: 300 +- 17; five standard deviations.
    let share = 210.0..=390.0;
    let doubled = with("kind: duplicate, target: t, magnitude: { probability: 0.3 }");
    assert!(share.contains(&figure(&doubled.topics["t"], "duplicate_effects")));
    let more = doubled.services["consumer"].requests as f64 - calm.services["consumer"].requests as f64;
    assert!((more - figure(&doubled.topics["t"], "duplicate_effects")).abs() < 3.0, "each is handled twice: {more}");
    let lost = with("kind: message_loss, target: t, magnitude: { probability: 0.3 }");
    assert!(share.contains(&figure(&lost.topics["t"], "lost")));
    let fewer = calm.services["consumer"].requests as f64 - lost.services["consumer"].requests as f64;
    assert!((fewer - figure(&lost.topics["t"], "lost")).abs() < 3.0, "and never handled: {fewer}");
    let poisoned = with("kind: poison, target: t, magnitude: { probability: 0.3 }");
    let dead = figure(&poisoned.topics["t"], "dead_letters");
    assert!(share.contains(&dead));
    assert_eq!(figure(&poisoned.topics["t"], "redelivered"), 2.0 * dead, "however often it is delivered");
    assert_eq!(poisoned.topics["t"].errors as f64, dead);
    for kind in ["duplicate_effects", "lost", "dead_letters", "redelivered"] {
        assert_eq!(figure(&calm.topics["t"], kind), 0.0, "{kind}");
    }
}

#[test]
fn a_slow_consumer_is_slow_for_messages_alone() {
    let series = series(&mail(), "kind: slow_consumer, target: t, magnitude: { factor: 5 }");
    assert!((peak(&series.nodes["t"].p50_ms, 12, 20) - 50.0).abs() < 1.0, "{}", peak(&series.nodes["t"].p50_ms, 12, 20));
    assert!((peak(&series.nodes["others"].p99_ms, 0, 40) - 10.0).abs() < 0.2);
    assert!((peak(&series.nodes["t"].p50_ms, 22, 40) - 10.0).abs() < 0.2);
}

#[test]
fn faults_grow_and_fall_over_their_ramps() {
    // Up over 4 s, down over 4 s: 100 ms at its height, a quarter of it a second after its start.
    let latency = series(&pair(""), "kind: latency, target: a->b, ramp_up: 4s, ramp_down: 4s, magnitude: { add: 100ms }");
    let p50 = &latency.nodes["users"].p50_ms;
    for (second, ms) in [(11, 22.5), (13, 72.5), (15, 110.0), (17, 97.5), (19, 47.5), (22, 10.0)] {
        let found = f64::from(p50[4 * second - 1]);
        assert!((found - ms).abs() < 12.0, "{second} s: {found} ms");
    }
    let errors_of = |ramps: &str| {
        errors(&series(&pair(""), &format!("kind: errors, target: b{ramps}, magnitude: {{ probability: 0.8 }}")))[1]
    };
    // Triangular: half of 800 +- 30.
    let (flat, ramped) = (errors_of(""), errors_of(", ramp_up: 5s, ramp_down: 5s"));
    assert!((650..=950).contains(&flat) && (300..=500).contains(&ramped), "{flat}, {ramped}");
    let arrived = |ramps: &str| {
        let series = series(&pair(""), &format!("kind: surge, target: users{ramps}, magnitude: {{ factor: 5 }}"));
        sum(&series.nodes["users"].ended, 10, 20)
    };
    // 4000 more, or half of that.
    let (flat, ramped) = (arrived(""), arrived(", ramp_up: 5s, ramp_down: 5s"));
    assert!((4_600..=5_400).contains(&flat) && (2_700..=3_300).contains(&ramped), "{flat}, {ramped}");
}

#[test]
fn what_no_system_can_suffer_is_refused_with_the_reason() {
    let closed = model(&format!(
        "version: 1
workload: {{ users: {{ to: s.op, closed: {{ users: 5, think: {{ constant: 1s }} }} }} }}
services: {{ s: {{ replicas: 2, workers: 4, {} }} }}
",
        does("op", "{ work: { constant: 10ms } }")
    ));
    for (m, kind, place) in [
        (&closed, "kind: surge, target: users, magnitude: { factor: 2 }", "/target"),
        (&closed, "kind: flush, target: s, magnitude: { share: 1 }", "/target"),
        (&closed, "kind: replicas_lost, target: s, magnitude: { replicas: 3 }", "/magnitude"),
        (&closed, "kind: pause, target: s, ramp_up: 1s", "/ramp_up"),
        (&closed, "kind: loss, target: users->s, magnitude: { probability: 1.2, retransmit: 200ms }", "/magnitude/probability"),
        (&closed, "kind: timeout, target: users->s, magnitude: { to: 0ms }", "/magnitude/to"),
        (
            &closed,
            "kind: bandwidth, target: users->s, magnitude: { bytes_per_s: 0, request_bytes: 100 }",
            "/magnitude/bytes_per_s",
        ),
        (&closed, "kind: slow, target: s, ramp_up: 8s, ramp_down: 8s, magnitude: { factor: 2 }", "/ramp"),
        (&closed, "kind: leak, target: users->s, magnitude: { growth: 1 }", "/target"),
        (&closed, "kind: poison, target: s, magnitude: { probability: 0.5 }", "/target"),
    ] {
        let text = format!("version: 1\nscenarios:\n  - {{ id: it, faults: [ {{ {kind}, start: 10s, duration: 10s }} ] }}");
        let refused = scenarios::format::read_scenarios("scenarios.yaml", text.as_bytes())
            .and_then(|scenarios| scenarios::check::check_all(&scenarios, m))
            .expect_err(kind)
            .to_string();
        assert!(refused.contains(place), "{kind}: {refused}");
    }
}
