//! Who comes in, and when: closed loops, rates that change, bursts, users who reload.

use models::system::Model;

use crate::story::{agrees, does, fault, model, run, runs, scenarios, sum};

/// One server with exponential work of 100 ms and a closed loop of users.
fn closed(users: u32, think: &str) -> Model {
    model(&format!(
        "version: 1
workload: {{ users: {{ to: s.op, closed: {{ users: {users}, think: {think} }} }} }}
services: {{ s: {{ workers: 1, {} }} }}
",
        does("op", "{ work: { exponential: 100ms } }")
    ))
}

/// Throughput and response of the machine-repairman model by mean value analysis. Reiser and Lavenberg (1980); think times count by their
/// mean alone.
fn mean_value_analysis(users: u32, work: f64, think: f64) -> (f64, f64) {
    let (mut waiting, mut throughput, mut response) = (0.0, 0.0, 0.0);
    for n in 1..=users {
        response = work * (1.0 + waiting);
        throughput = f64::from(n) / (response + think);
        waiting = throughput * response;
    }
    (throughput, response)
}

#[test]
fn a_closed_loop_is_the_machine_repairman() {
    assert!((mean_value_analysis(10, 0.1, 1.145).0 - 7.2100).abs() < 5e-5);
    assert!((mean_value_analysis(10, 0.1, 1.145).1 - 0.24196).abs() < 5e-6);
    for (users, think, mean_think) in [
        (1, "{ exponential: 20ms }", 0.02),
        (10, "{ exponential: 1145ms }", 1.145),
        (10, "{ constant: 1145ms }", 1.145),
        (40, "{ exponential: 1s }", 1.0),
    ] {
        let (throughput, response) = mean_value_analysis(users, 0.1, mean_think);
        let runs = runs(&closed(users, think), 4_000, 50);
        agrees(&format!("{users} users: throughput"), throughput, 0.0, 0.02, |s| {
            runs.of(s).entries["users"].requests as f64 / 3_950.0
        });
        agrees(&format!("{users} users: response"), response, 0.0, 0.05, |s| runs.of(s).entries["users"].mean_ms / 1e3);
    }
}

#[test]
fn a_closed_loop_holds_no_more_requests_than_users_and_begins_with_a_thought() {
    let m = closed(20, "{ constant: 1s }");
    let series = run(&m, None, 1, 30, 0).series.expect("asked for");
    assert_eq!(sum(&series.nodes["users"].ended, 0, 1), 0, "all think first");
    assert_eq!(series.nodes["s"].queue.iter().max(), Some(&19), "then all twenty come at once");
    // Half as many again at a load of 1.5.
    let loaded = scenarios("  - { id: loaded, load: 1.5, faults: [] }");
    assert_eq!(run(&m, Some(&loaded[0]), 1, 30, 0).services["s"].queue_peak, 29);
}

#[test]
fn a_closed_loop_slows_down_with_its_server_and_an_open_one_does_not() {
    let slow = fault("kind: slow, target: s, magnitude: { factor: 10 }");
    let arrived = |m: &Model| {
        let result = run(m, Some(&slow), 1, 40, 0);
        (result.requests, result.services["s"].queue_peak)
    };
    let (_, waiting) = arrived(&closed(8, "{ exponential: 1s }"));
    assert!(waiting < 8);
    let open = model(&format!(
        "version: 1
workload: {{ users: {{ to: s.op, open: {{ rate: 5/s }} }} }}
services: {{ s: {{ workers: 1, {} }} }}
",
        does("op", "{ work: { exponential: 100ms } }")
    ));
    let (_, waiting) = arrived(&open);
    assert!(waiting > 25, "5/s for 10 s at 1/s leave 40: {waiting}");
}

/// Users at some rate whom an idle service answers at once.
fn open(rate: &str) -> Model {
    model(&format!(
        "version: 1
workload: {{ users: {{ to: s.op, open: {{ rate: 100/s, {rate} }} }} }}
services: {{ s: {{ workers: unlimited, {} }} }}
",
        does("op", "")
    ))
}

#[test]
fn a_curve_changes_the_rate_in_steps_and_repeats() {
    let m = open("curve: { steps: { 0s: 1, 20s: 2.5, 30s: 0 }, repeat: 40s }");
    let series: Vec<_> = (1..=10).map(|seed| run(&m, None, seed, 120, 0).series.expect("asked for")).collect();
    let arrived = |s: u64, from, to| f64::from(sum(&series[s as usize - 1].nodes["users"].ended, from, to));
    for round in [0, 40, 80] {
        agrees("at 1", 2_000.0, 0.0, 0.05, |s| arrived(s, round, round + 20));
        agrees("at 2.5", 2_500.0, 0.0, 0.05, |s| arrived(s, round + 20, round + 30));
        assert!((1..=10).all(|s| arrived(s, round + 30, round + 40) == 0.0), "none at 0");
    }
    // Without `repeat` the last step holds.
    let m = open("curve: { steps: { 0s: 1, 20s: 2 } }");
    agrees("to the end", 20_000.0, 0.0, 0.05, |s| {
        f64::from(sum(&run(&m, None, s, 120, 0).series.expect("asked for").nodes["users"].ended, 20, 120))
    });
}

#[test]
fn bursts_come_at_their_times_and_lie_on_top_of_the_curve() {
    let m = open("bursts: { every: 10s, lasting: 1s, factor: 6 }, curve: { steps: { 0s: 1, 40s: 2 } }");
    let series: Vec<_> = (1..=10).map(|seed| run(&m, None, seed, 80, 0).series.expect("asked for")).collect();
    let arrived = |s: u64, from, to| f64::from(sum(&series[s as usize - 1].nodes["users"].ended, from, to));
    agrees("no burst at the start", 1_000.0, 0.0, 0.05, |s| arrived(s, 0, 10));
    for (second, expected) in [(10, 600.0), (20, 600.0), (50, 1_200.0), (70, 1_200.0)] {
        agrees("burst", expected, 0.0, 0.1, |s| arrived(s, second, second + 1));
    }
    agrees("between", 900.0, 0.0, 0.1, |s| arrived(s, 11, 20));
    agrees("between, later", 1_800.0, 0.0, 0.1, |s| arrived(s, 51, 60));
}

#[test]
fn users_who_reload_ask_again_when_nothing_comes() {
    let m = model(&format!(
        "version: 1
workload: {{ users: {{ to: s.op, open: {{ rate: 100/s }} }} }}
services: {{ s: {{ workers: unlimited, {} }} }}
",
        does("op", "{ work: { constant: 300ms } }")
    ));
    let attempts = |magnitude: &str| {
        let reload = fault(&format!("kind: reload, target: users, magnitude: {magnitude}"));
        let series = run(&m, Some(&reload), 1, 40, 0).series.expect("asked for");
        let edge = &series.edges["users->s"];
        let retries = [(0, 10), (11, 20), (22, 40)].map(|(from, to)| sum(&edge.retries, from, to));
        (retries, f64::from(sum(&edge.attempts, 11, 20)) / f64::from(sum(&edge.attempts, 11, 20) - sum(&edge.retries, 11, 20)))
    };
    let (retries, each) = attempts("{ after: 200ms, attempts: 4 }");
    assert!(retries[0] == 0 && retries[2] == 0 && (each - 4.0).abs() < 0.2, "{retries:?} {each}");
    let (retries, _) = attempts("{ after: 400ms, attempts: 4 }");
    assert_eq!(retries, [0, 0, 0], "whoever is patient enough need not");
}
