//! The stories' mini-language: a model and a scenario as text, runs and what they say.
#![allow(dead_code, reason = "not every build of the tests uses every helper")]

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use crate::support::root;
use models::system::Model;
use models::units::Nanos;
use scenarios::record::RunRecord;
use scenarios::scenario::Scenario;
use sim::{Prepared, Program, RunOptions, RunResult, Shortcuts, SweepOptions};

/// 99.95 % quantile of Student's t with 9 degrees of freedom: a 99.9 % interval from ten seeds (two-sided).
const T_9: f64 = 4.781;

pub fn model(yaml: &str) -> Model {
    models::format::read_model("model.yaml", yaml.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
}

pub fn scenarios(yaml: &str) -> Vec<Scenario> {
    let text = format!("version: 1\nscenarios:\n{yaml}");
    scenarios::format::read_scenarios("scenarios.yaml", text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The model in a file of the repository.
pub fn file_model(path: &str) -> Model {
    let bytes = std::fs::read(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let model = models::format::read_model(path, &bytes).unwrap_or_else(|errors| panic!("{errors}"));
    models::check::check(&model).unwrap_or_else(|errors| panic!("{path}: {errors}"));
    model
}

/// The scenarios in a file of the repository; they fit the model.
pub fn file_scenarios(path: &str, model: &Model) -> Vec<Scenario> {
    let bytes = std::fs::read(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let scenarios = scenarios::format::read_scenarios(path, &bytes).unwrap_or_else(|errors| panic!("{errors}"));
    scenarios::check::check_all(&scenarios, model).unwrap_or_else(|errors| panic!("{path}: {errors}"));
    scenarios
}

/// One run of one scenario (`None`: fault-free), with the warm-up left out of its totals.
pub fn run(model: &Model, scenario: Option<&Scenario>, seed: u64, seconds: u64, warm_up: u64) -> RunResult {
    let program = Program::compile(model, 0).expect("the model compiles");
    let options = RunOptions {
        seed,
        horizon: Nanos::from_secs(seconds),
        warm_up: Nanos::from_secs(warm_up),
        series: true,
        ..RunOptions::default()
    };
    let scenario = scenario.cloned().unwrap_or_default();
    Prepared::new(&program, &scenario, &options).expect("the scenario fits").run().result()
}

pub fn sweep(model: &Model, scenarios: &[Scenario], seeds: std::ops::Range<u64>, seconds: u64, threads: usize) -> Vec<RunRecord> {
    sweep_with(model, scenarios, seeds, seconds, threads, Shortcuts::All)
}

/// As [`sweep`], with or without what spares a sweep to simulate things twice.
pub fn sweep_with(
    model: &Model,
    scenarios: &[Scenario],
    seeds: std::ops::Range<u64>,
    seconds: u64,
    threads: usize,
    shortcuts: Shortcuts,
) -> Vec<RunRecord> {
    let program = Program::compile(model, 0).expect("the model compiles");
    let options = SweepOptions {
        seeds: seeds.collect(),
        horizon: Nanos::from_secs(seconds),
        warm_up: Nanos::from_secs(5),
        threads,
        max_events: u64::MAX,
        model_hash: [0; 4],
        shortcuts,
        engine: scenarios::token::Engine::Kernel,
    };
    let mut records = Vec::new();
    let mut sink = |record| {
        records.push(record);
        ControlFlow::Continue(())
    };
    sim::sweep(&program, scenarios, &options, &BTreeSet::new(), &mut sink, &|_| {}, &AtomicBool::new(false)).expect("it runs");
    records
}

/// `operations` of a service that does only this, in YAML.
pub fn does(operation: &str, steps: &str) -> String {
    format!("operations: {{ {operation}: {{ paths: [ {{ steps: [ {steps} ] }} ] }} }}")
}

/// A number by the name that it has in the JSON of a result.
#[track_caller]
pub fn figure(stats: &impl serde::Serialize, name: &str) -> f64 {
    let value = serde_json::to_value(stats).expect("results are plain data");
    value[name].as_f64().unwrap_or_else(|| panic!("no {name} in {value}"))
}

/// Sum over the buckets of a time in seconds.
pub fn sum(values: &[u32], from: usize, to: usize) -> u32 {
    values[4 * from..4 * to].iter().sum()
}

/// Highest over the buckets of a time in seconds.
pub fn peak<T: Copy + Into<f64>>(values: &[T], from: usize, to: usize) -> f64 {
    values[4 * from..4 * to].iter().map(|&v| v.into()).fold(0.0, f64::max)
}

/// One fault from 10 s to 20 s, as a scenario; `fault` has its kind, target and magnitude.
pub fn fault(fault: &str) -> Scenario {
    scenarios(&format!("  - {{ id: it, faults: [ {{ {fault}, start: 10s, duration: 10s }} ] }}")).remove(0)
}

/// Fault-free runs of the seeds 1 to 10, to take several figures from.
pub struct Runs(Vec<RunResult>);

impl Runs {
    pub fn of(&self, seed: u64) -> &RunResult {
        &self.0[seed as usize - 1]
    }
}

pub fn runs(model: &Model, seconds: u64, warm_up: u64) -> Runs {
    Runs((1..=10).map(|seed| run(model, None, seed, seconds, warm_up)).collect())
}

/// Mean and half width of the 99.9 % interval of a figure over ten seeds.
pub fn estimate(figure: impl Fn(u64) -> f64) -> (f64, f64) {
    let values: Vec<f64> = (1..=10).map(figure).collect();
    let mean = values.iter().sum::<f64>() / 10.0;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / 9.0;
    (mean, T_9 * (variance / 10.0).sqrt())
}

/// Holds a figure over ten seeds against theory: theory lies in its 99.9 % interval (widened by `rounding`, a share, where the figure
/// itself is rounded), and the interval is narrow enough (`power`, a share of the theory) that a wrong result would be seen.
#[track_caller]
pub fn agrees(what: &str, theory: f64, rounding: f64, power: f64, figure: impl Fn(u64) -> f64) {
    let (mean, half) = estimate(figure);
    assert!(half < power * theory, "{what}: the interval {mean} +- {half} is too wide to tell anything about {theory}");
    assert!((mean - theory).abs() <= half + rounding * theory, "{what}: {mean} +- {half}, theory says {theory}");
}
