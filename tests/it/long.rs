//! Ten simulated hours: nothing drifts, and memory stays flat once the run is warm.

use models::system::Model;
use models::units::Nanos;
use scenarios::scenario::Scenario;
use sim::{Prepared, Program, RunOptions, RunResult};

use crate::story::{does, model};

const HOUR: u64 = 3_600;

/// Events in all: a hundred million where the build is optimised, a fifth of that with assertions.
const EVENTS: f64 = if cfg!(debug_assertions) { 2e7 } else { 1e8 };

/// A gate that asks a station of three workers and a faster one behind it, at 70 % and 50 % load whatever the rate.
fn line(rate: f64) -> Model {
    let work = |load: f64| format!("{{ work: {{ exponential: {}ns }} }}", (load * 3.0 / rate * 1e9).round());
    model(&format!(
        "version: 1
workload: {{ users: {{ to: gate.op, open: {{ rate: {rate}/s }} }} }}
services:
  gate: {{ workers: unlimited, {} }}
  near: {{ workers: 3, {} }}
  far: {{ replicas: 3, workers: 1, balance: two_choices, {} }}
edges:
  users->gate: {{ latency: 1ms, timeout: 60s }}
  gate->near: {{ latency: 1ms, timeout: 60s, retry: {{ attempts: 2, backoff: 10ms, jitter: full }} }}
  gate->far: {{ latency: 1ms, timeout: 60s }}
",
        does("op", "{ call: near.op }, { call: far.op }"),
        does("op", &work(0.7)),
        does("op", &work(0.5)),
    ))
}

/// A run's totals after its warm-up, and the most bytes it held at once.
fn measured(model: &Model, seed: u64, horizon: u64, warm_up: u64) -> (RunResult, u64) {
    let program = Program::compile(model, 0).expect("it compiles");
    let (horizon, warm_up) = (Nanos::from_secs(horizon), Nanos::from_secs(warm_up));
    let options = RunOptions { seed, horizon, warm_up, max_events: u64::MAX, ..RunOptions::default() };
    let prepared = Prepared::new(&program, &Scenario::default(), &options).expect("it runs");
    let mut finished = None;
    let info = allocation_counter::measure(|| finished = Some(prepared.run()));
    (finished.expect("it has run").result(), info.bytes_max)
}

#[test]
fn ten_hours_are_ten_times_one() {
    // What a request costs in events, from a short run.
    let per_request = measured(&line(50.0), 1, 60, 0).0;
    let rate = EVENTS / (10 * HOUR) as f64 / (per_request.events as f64 / per_request.requests as f64);
    let m = line(rate);

    let (last_hour, _) = measured(&m, 1, 10 * HOUR, 9 * HOUR);
    assert!((last_hour.events as f64 / EVENTS - 1.0).abs() < 0.05, "{} events", last_hour.events);
    assert!(!last_hour.truncated);

    // Ten spans of six minutes with seeds of their own stand for the first hour: the last one's figure is a mean of ten such.
    let first: Vec<RunResult> = (1..=10).map(|seed| measured(&m, seed, 460, 100).0).collect();
    let agree = |what: &str, figure: &dyn Fn(&RunResult) -> f64| {
        let values: Vec<f64> = first.iter().map(figure).collect();
        let mean = values.iter().sum::<f64>() / 10.0;
        let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / 9.0;
        // Two means of ten: 99.9 % quantile of Student's t with 9 degrees of freedom, two-sided.
        let half = 4.781 * (variance / 10.0 * 2.0).sqrt();
        let last = figure(&last_hour);
        assert!((last - mean).abs() <= half, "{what}: first {mean} +- {half}, last {last}");
        assert!(half < 0.25 * mean, "{what}: {mean} +- {half} says nothing");
    };
    agree("mean response", &|r| r.entries["users"].mean_ms);
    for service in ["near", "far"] {
        agree("utilisation", &|r| r.services[service].utilisation);
        agree("wait", &|r| r.services[service].mean_wait_ms);
    }
}

#[test]
fn memory_is_flat_once_warm() {
    let m = line(30.0);
    let (_, hour) = measured(&m, 1, HOUR, 0);
    let (_, ten_hours) = measured(&m, 1, 10 * HOUR, 0);
    assert!(ten_hours <= hour + (64 << 10), "{hour} bytes held after one hour, {ten_hours} after ten");
}
