//! How fast traces become a model: `cargo bench --bench ingest`.
//!
//! The demo's baseline (30,653 spans, OTLP JSON, gzip), and, where the shared test data is, 86,583 spans of Online Boutique (OTLP
//! protobuf, gzip): reading alone, and reading with learning. Spans per second on one thread.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use models::learn::{LearnOptions, learn};
use models::trace::{ReadOptions, Reader, TraceSet};

fn read(name: &str, bytes: &[u8]) -> TraceSet {
    let mut reader = Reader::new(ReadOptions::default());
    reader.read(name, bytes).unwrap_or_else(|errors| panic!("{errors}"));
    reader.finish()
}

fn ingest(c: &mut Criterion) {
    let demo = include_bytes!("../src/demo/baseline.otlp.json.gz").to_vec();
    let folder =
        std::env::var("FORESHOCK_SHARED").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").to_owned());
    let boutique = std::fs::read(format!("{folder}/data/traces/otlp-protobuf/hipstershop.lenprefixed.binpb.gz"));
    if boutique.is_err() {
        eprintln!("skipped: Online Boutique's traces are not in {folder}");
    }
    let mut group = c.benchmark_group("ingest");
    group.sample_size(10);
    for (name, bytes) in [("demo, JSON", Some(demo)), ("Online Boutique, protobuf", boutique.ok())] {
        let Some(bytes) = bytes else { continue };
        group.throughput(Throughput::Elements(read(name, &bytes).spans()));
        group.bench_function(BenchmarkId::new("read", name), |b| b.iter(|| black_box(read(name, &bytes))));
        group.bench_function(BenchmarkId::new("read and learn", name), |b| {
            b.iter(|| black_box(learn(&read(name, &bytes), &LearnOptions::default()).expect("it teaches")));
        });
    }
    group.finish();
}

criterion_group!(benches, ingest);
criterion_main!(benches);
