//! Published simulations of metastable collapse (ORACLES.md section 4).

use models::system::Model;

use crate::story::{does, model, run, scenarios, sum, sweep};

/// The idealised database of Bronson et al., Metastable failures in distributed systems (HotOS 2021): fast below 300 queries a second, ten
/// times slower above, which is slower than its clients wait; they try once more. With Poisson arrivals 280/s would pass 300/s by chance
/// within a minute, so all rates are twenty times theirs.
fn database(users: u32) -> Model {
    model(&format!(
        "version: 1
workload: {{ users: {{ to: db.query, open: {{ rate: {}/s }} }} }}
services: {{ db: {{ workers: unlimited, contention: {{ arrival_rate: {{ above: 6000/s, factor: 10 }} }}, {} }} }}
edges: {{ users->db: {{ timeout: 1s, retry: {{ attempts: 2 }} }} }}
",
        20 * users,
        does("query", "{ work: { constant: 110ms } }")
    ))
}

#[test]
fn the_idealised_database_stays_down_after_its_outage() {
    let outage = scenarios("  - { id: outage, faults: [ { kind: black_hole, target: users->db, start: 15s, duration: 10s } ] }");
    let good = |users: u32, from, to| {
        let result = run(&database(users), Some(&outage[0]), 1, 60, 0);
        let users = &result.series.expect("asked for").nodes["users"];
        (sum(&users.ended, from, to), sum(&users.errors, from, to))
    };
    let (ended, errors) = good(280, 5, 15);
    assert!(ended > 50_000 && errors == 0, "vulnerable, but healthy before: {errors} of {ended}");
    let (ended, errors) = good(280, 40, 60);
    assert!(ended > 100_000 && errors == ended, "and down for ever: {errors} of {ended}");
    let (ended, errors) = good(140, 40, 60);
    assert!(ended > 50_000 && errors == 0, "below 150/s no trigger leaves it broken: {errors} of {ended}");
    let record = &sweep(&database(280), &outage, 1..2, 60, 1)[0];
    assert!(record.metastable && record.recovery_s.is_none());
}

/// Brooker's simulation: latency grows with the requests in progress; each way of the network takes exponential 100 ms, here a step of
/// `network`, whose request goes on when its user has given up, as a packet does.
fn brooker(retry: &str) -> Model {
    model(&format!(
        "version: 1
workload: {{ users: {{ to: network.op, open: {{ rate: 40/s }} }} }}
services:
  network: {{ workers: unlimited, {} }}
  server: {{ workers: unlimited, contention: {{ in_progress: {{ add: 10ms }} }}, {} }}
edges: {{ users->network: {{ timeout: 3s, retry: {retry} }} }}
",
        does("op", "{ work: { exponential: 100ms } }, { call: server.op }, { work: { exponential: 100ms } }"),
        does("op", "{ work: { constant: 1s } }")
    ))
}

/// How many of 200 runs have collapsed by 65..80 s after a burst of 80/s in 20..25 s; nothing lies between fine and gone.
fn collapsed(m: &Model) -> usize {
    let burst = scenarios(
        "  - { id: burst, faults: [ { kind: surge, target: users, start: 20s, duration: 5s, magnitude: { factor: 2 } } ] }",
    );
    let mut gone = 0;
    for seed in 1..=200 {
        let users = &run(m, Some(&burst[0]), seed, 80, 0).series.expect("asked for").nodes["users"];
        let (ended, errors) = (sum(&users.ended, 65, 80), sum(&users.errors, 65, 80));
        let good = 1.0 - f64::from(errors) / f64::from(ended.max(1));
        assert!(!(0.1..0.9).contains(&good), "seed {seed}: {errors} of {ended}");
        gone += usize::from(good < 0.5);
    }
    gone
}

#[test]
fn brookers_collapse_happens_as_often_and_backoff_prevents_it() {
    // His 146 of 200: two shares of 200 differ by less than 3.29 standard deviations of their difference.
    let at_once = collapsed(&brooker("{ attempts: 3 }"));
    let (ours, his) = (at_once as f64 / 200.0, 0.73f64);
    assert!((ours - his).abs() < 3.29 * (2.0 * his * (1.0 - his) / 200.0).sqrt(), "{at_once} of 200");
    assert_eq!(collapsed(&brooker("{ attempts: 3, backoff: 20s, factor: 2, jitter: full }")), 0);
}
