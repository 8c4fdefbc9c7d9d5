//! The kernel's speed: `cargo bench --bench kernel`.
//!
//! CHAIN-3 beside a version written by hand for that case alone (requests per second of both, in one run); a 20-service graph at
//! 200 requests/s, healthy and in a retry storm (events per second); a sweep of 64 faults over it (runs per second).

use std::collections::BTreeSet;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use models::system::Model;
use models::units::Nanos;
use scenarios::scenario::Scenario;
use sim::{Prepared, Program, RunOptions, SweepOptions};

#[path = "peers/chain3.rs"]
mod chain3;

fn read(yaml: &str) -> Model {
    models::format::read_model("bench", yaml.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn options(seconds: u64) -> RunOptions {
    RunOptions { horizon: Nanos::from_secs(seconds), ..RunOptions::default() }
}

fn chain_3(c: &mut Criterion) {
    const SECONDS: u64 = 1_000;
    let program = Program::compile(&read(include_str!("chain3.yaml")), 0).expect("it compiles");
    let mut group = c.benchmark_group("chain3");
    group.sample_size(20);
    group.throughput(Throughput::Elements(100 * SECONDS));
    group.bench_function("kernel, all metrics", |b| {
        b.iter(|| black_box(Prepared::new(&program, &Scenario::default(), &options(SECONDS)).expect("it runs").run()));
    });
    group.bench_function("by hand, no metrics", |b| b.iter(|| black_box(chain3::chain3(100 * SECONDS, 1))));
    group.finish();
}

/// Twenty services in four layers of 1, 4, 7 and 8: a request visits six of them on average. Blocking workers, lognormal work,
/// timeouts and three tries on every edge.
fn twenty() -> Model {
    let layers = [1usize, 4, 7, 8];
    let (mut services, mut edges) = (String::new(), String::new());
    let mut first = 0;
    for (layer, &size) in layers.iter().enumerate() {
        let below = first + size;
        for s in first..below {
            let p50 = 2 + (s * 7) % 9;
            let mut paths = String::new();
            let callees: Vec<usize> =
                layers.get(layer + 1).map(|&n| vec![below + s % n, below + (s * 3 + 1) % n]).unwrap_or_default();
            for (k, weight) in [(1, 0.7), (2, 0.3)] {
                let calls: String = callees.iter().take(k).map(|t| format!(", {{ call: s{t}.op }}")).collect();
                paths += &format!(
                    "{{ weight: {weight}, steps: [ {{ work: {{ lognormal: {{ p50: {p50}ms, p99: {}ms }} }} }}{calls} ] }}, ",
                    p50 * 4
                );
            }
            services += &format!("  s{s}: {{ workers: 24, queue: 200, operations: {{ op: {{ paths: [ {paths} ] }} }} }}\n");
            let mut distinct = callees.clone();
            distinct.dedup();
            for t in distinct {
                let timeout = 2_000 >> (layer + 1);
                edges += &format!(
                    "  s{s}->s{t}: {{ latency: 1ms, timeout: {timeout}ms, retry: {{ attempts: 3, backoff: 20ms, jitter: full }} }}\n"
                );
            }
        }
        first = below;
    }
    read(&format!(
        "version: 1\nworkload: {{ users: {{ to: s0.op, open: {{ rate: 200/s }} }} }}\nservices:\n{services}edges:\n  users->s0: {{ timeout: 2s }}\n{edges}"
    ))
}

fn scenarios(count: usize) -> Vec<Scenario> {
    let faults = [
        ("slow", "s{}", "magnitude: { factor: 3 }"),
        ("slow", "s{}", "magnitude: { factor: 8 }"),
        ("crash", "s{}", ""),
        ("latency", "*->s{}", "magnitude: { add: 20ms }"),
    ];
    let text: String = (0..count)
        .map(|i| {
            let (kind, target, magnitude) = faults[i % faults.len()];
            let target = target.replace("{}", &(1 + i % 19).to_string());
            let comma = if magnitude.is_empty() { "" } else { ", " };
            let duration = if kind == "crash" { 5 } else { 20 };
            format!(
                "  - {{ id: f{i}, faults: [ {{ kind: {kind}, target: {target:?}, start: 30s, duration: {duration}s{comma}{magnitude} }} ] }}\n"
            )
        })
        .collect();
    scenarios::format::read_scenarios("bench", format!("version: 1\nscenarios:\n{text}").as_bytes())
        .unwrap_or_else(|errors| panic!("{errors}"))
}

fn graph_20(c: &mut Criterion) {
    let program = Program::compile(&twenty(), 0).expect("it compiles");
    let storm = scenarios::format::read_scenarios(
        "bench",
        b"version: 1\nscenarios:\n  - { id: storm, faults: [ { kind: slow, target: s1, start: 10s, duration: 110s, magnitude: { factor: 30 } } ] }",
    )
    .unwrap_or_else(|errors| panic!("{errors}"));
    let mut group = c.benchmark_group("20 services, 200/s, 120 s");
    group.sample_size(20);
    for (name, scenario) in [("healthy", Scenario::default()), ("storm", storm[0].clone())] {
        let run = || Prepared::new(&program, &scenario, &options(120)).expect("it runs").run();
        group.throughput(Throughput::Elements(run().result().events));
        group.bench_function(BenchmarkId::new("events", name), |b| b.iter(|| black_box(run())));
    }
    let mixed = scenarios(64);
    group.throughput(Throughput::Elements(64));
    group.sample_size(10);
    for threads in [1, 2] {
        group.bench_function(BenchmarkId::new("sweep of 64 faults, threads", threads), |b| {
            b.iter(|| {
                let options = SweepOptions {
                    seeds: vec![1],
                    horizon: Nanos::from_secs(120),
                    warm_up: Nanos::from_secs(10),
                    threads,
                    max_events: u64::MAX,
                    model_hash: [0; 4],
                };
                let stop = AtomicBool::new(false);
                let mut sink = |record| {
                    black_box(record);
                    ControlFlow::Continue(())
                };
                sim::sweep(&program, &mixed, &options, &BTreeSet::new(), &mut sink, &|_| {}, &stop).expect("it runs")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, chain_3, graph_20);
criterion_main!(benches);
