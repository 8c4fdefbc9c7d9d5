//! The kernel's speed: `cargo bench --bench kernel`.
//!
//! CHAIN-3 beside a version written by hand for that case alone (requests per second of both, in one run); a 20-service graph at
//! 200 requests/s, healthy and in a retry storm (events per second); a sweep of 64 faults over it (runs per second), with and without
//! forking and coalescence; a graph of 1,238 services at 2,000 requests/s; compiling both graphs.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use models::units::Nanos;
use scenarios::scenario::Scenario;
use scenarios::token::Engine;
use sim::{Prepared, Program, RunOptions, Shortcuts, SweepOptions};

#[path = "peers/chain3.rs"]
mod chain3;
mod graphs;

fn options(seconds: u64) -> RunOptions {
    RunOptions { horizon: Nanos::from_secs(seconds), ..RunOptions::default() }
}

fn chain_3(c: &mut Criterion) {
    const SECONDS: u64 = 1_000;
    let program = Program::compile(&graphs::chain_3(), 0).expect("it compiles");
    let mut group = c.benchmark_group("chain3");
    group.sample_size(20);
    group.throughput(Throughput::Elements(100 * SECONDS));
    group.bench_function("kernel, all metrics", |b| {
        b.iter(|| black_box(Prepared::new(&program, &Scenario::default(), &options(SECONDS)).expect("it runs").run()));
    });
    group.bench_function("by hand, no metrics", |b| b.iter(|| black_box(chain3::chain3(100 * SECONDS, 1))));
    group.finish();
}

fn graph_20(c: &mut Criterion) {
    let model = graphs::twenty();
    let program = Program::compile(&model, 0).expect("it compiles");
    let mut group = c.benchmark_group("20 services, 200/s, 120 s");
    group.sample_size(20);
    for (name, scenario) in [("healthy", Scenario::default()), ("storm", graphs::storm())] {
        let run = || Prepared::new(&program, &scenario, &options(120)).expect("it runs").run();
        group.throughput(Throughput::Elements(run().result().events));
        group.bench_function(BenchmarkId::new("events", name), |b| b.iter(|| black_box(run())));
    }
    let mixed = graphs::faults(&model, 64);
    group.sample_size(10);
    let kinds = [("forked and coalescing", Shortcuts::All, 4), ("in full", Shortcuts::None, 1)];
    for ((name, shortcuts, seeds), threads) in kinds.into_iter().flat_map(|kind| [(kind, 1), (kind, 2)]) {
        group.throughput(Throughput::Elements(64 * seeds));
        group.bench_function(BenchmarkId::new(format!("sweep of 64 faults x {seeds} seeds, {name}, threads"), threads), |b| {
            b.iter(|| {
                let options = SweepOptions {
                    seeds: (1..=seeds).collect(),
                    horizon: Nanos::from_secs(120),
                    warm_up: Nanos::from_secs(10),
                    threads,
                    max_events: u64::MAX,
                    model_hash: [0; 4],
                    shortcuts,
                    engine: Engine::Kernel,
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

fn graph_1238(c: &mut Criterion) {
    let Some(model) = graphs::dependencies() else {
        eprintln!("skipped: the dependency graph is absent");
        return;
    };
    let program = Program::compile(&model, 0).expect("it compiles");
    let mut group = c.benchmark_group("1238 services, 2000/s, 60 s");
    group.sample_size(10);
    let run = || Prepared::new(&program, &Scenario::default(), &options(60)).expect("it runs").run();
    group.throughput(Throughput::Elements(run().result().events));
    group.bench_function("events", |b| b.iter(|| black_box(run())));
    group.finish();
    let mut group = c.benchmark_group("compile");
    group.sample_size(10);
    group.bench_function("1238 services", |b| b.iter(|| black_box(Program::compile(&model, 0).expect("it compiles"))));
    let twenty = graphs::twenty();
    group.bench_function("20 services", |b| b.iter(|| black_box(Program::compile(&twenty, 0).expect("it compiles"))));
    group.finish();
}

criterion_group!(benches, chain_3, graph_20, graph_1238);
criterion_main!(benches);
