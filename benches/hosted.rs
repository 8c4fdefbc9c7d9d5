//! The hosted engine's speed beside the kernel's: `cargo bench --bench hosted`.
//!
//! The same fault at 200 requests/s in both engines on graphs of 7, 22 and 62 hosts, six of which every request visits (requests per second, so
//! that the ratio of two lines is the ratio of the time that a request takes), and four simulations on one thread and on two.

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

/// A front that asks, one after the other, the five services of one of so many groups.
fn program(groups: usize) -> Program {
    let (mut services, mut edges, mut paths) = (String::new(), String::new(), String::new());
    for group in 0..groups {
        let members: Vec<usize> = (1..6).map(|i| 5 * group + i).collect();
        let calls: String = members.iter().map(|s| format!(", {{ call: s{s}.op }}")).collect();
        paths += &format!("{{ weight: 1, steps: [ {{ work: {{ constant: 1ms }} }}{calls} ] }}, ");
        for s in members {
            let work = "{ work: { lognormal: { p50: 4ms, p99: 16ms } } }";
            services += &format!(
                "  s{s}: {{ workers: 24, queue: 200, operations: {{ op: {{ paths: [ {{ weight: 1, steps: [ {work} ] }} ] }} }} }}\n"
            );
            edges += &format!(
                "  s0->s{s}: {{ latency: 1ms, timeout: 250ms, retry: {{ attempts: 3, backoff: 20ms, jitter: full }} }}\n"
            );
        }
    }
    let model = graphs::read(&format!(
        "version: 1\nworkload: {{ users: {{ to: s0.op, open: {{ rate: 200/s }} }} }}\nservices:\n  s0: {{ workers: 200, operations: {{ op: {{ paths: [ {paths} ] }} }} }}\n{services}edges:\n{edges}"
    ));
    Program::compile_quantised(&model, 0, hosted::TICK).expect("it compiles")
}

fn beside_the_kernel(c: &mut Criterion) {
    for (groups, seconds) in [(1, 60), (4, 60), (12, 10)] {
        let program = program(groups);
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
    let (program, fault) = (program(4), fault());
    let mut group = c.benchmark_group("4 simulations of 22 hosts, 200/s, 8 s");
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
                        .map(|seed| hosted::run(&program, &fault, &options(8, seed)).expect("it runs").digest())
                        .collect::<Vec<_>>()
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, beside_the_kernel, in_parallel);
criterion_main!(benches);
