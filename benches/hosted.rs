//! The hosted engine's speed beside the kernel's: `cargo bench --bench hosted`.
//!
//! The same fault at 200 requests/s in both engines on graphs of 6, 21 and 60 hosts (requests per second, so that the ratio of two lines is
//! the ratio of the time that a request takes), and four simulations on one thread and on two.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use models::units::Nanos;
use rayon::prelude::*;
use scenarios::scenario::Scenario;
use sim::{Prepared, Program, RunOptions, hosted};

mod graphs;

fn fault() -> Scenario {
    let text = "  - { id: slow, faults: [ { kind: slow, target: s1, start: 5s, duration: 5s, magnitude: { factor: 2 } } ] }";
    graphs::read_scenarios(text).remove(0)
}

fn options(seconds: u64, seed: u64) -> RunOptions {
    RunOptions { horizon: Nanos::from_secs(seconds), seed, ..RunOptions::default() }
}

fn program(layers: &[usize]) -> Program {
    Program::compile_quantised(&graphs::layered(layers), 0, hosted::TICK).expect("it compiles")
}

fn beside_the_kernel(c: &mut Criterion) {
    for (layers, seconds) in [(&[1usize, 2, 2][..], 60), (&[1, 4, 7, 8], 60), (&[1, 12, 20, 26], 10)] {
        let program = program(layers);
        let hosts = hosted::hosts(&program);
        let mut group = c.benchmark_group(format!("{hosts} hosts, 200/s, {seconds} s"));
        group.sample_size(10);
        group.sampling_mode(SamplingMode::Flat);
        let (fault, options) = (fault(), options(seconds, 1));
        let kernel = || Prepared::new(&program, &fault, &options).expect("it fits").run();
        group.throughput(Throughput::Elements(kernel().result().requests));
        group.bench_function("kernel", |b| b.iter(|| black_box(kernel())));
        group.bench_function("hosted", |b| b.iter(|| black_box(hosted::run(&program, &fault, &options).expect("it runs"))));
        group.finish();
    }
}

fn in_parallel(c: &mut Criterion) {
    let (program, fault) = (program(&[1, 4, 7, 8]), fault());
    let mut group = c.benchmark_group("4 simulations of 21 hosts, 200/s, 20 s");
    group.sample_size(10);
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(4));
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        group.bench_function(BenchmarkId::new("threads", threads), |b| {
            b.iter(|| {
                pool.install(|| {
                    (1..5u64)
                        .into_par_iter()
                        .map(|seed| hosted::run(&program, &fault, &options(20, seed)).expect("it runs").digest())
                        .collect::<Vec<_>>()
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, beside_the_kernel, in_parallel);
criterion_main!(benches);
