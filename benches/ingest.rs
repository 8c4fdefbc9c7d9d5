//! How fast traces become a model: `cargo bench --bench ingest`.
//!
//! The demo's baseline (30,653 spans, OTLP JSON, gzip), and, where the shared test data is, 86,583 spans of Online Boutique (OTLP
//! protobuf, gzip): reading alone, and reading with learning. Then 300,000 spans made beforehand, plain JSON and protobuf, and as what
//! to compare with a reader that makes a `serde_json::Value` of every line. Spans per second on all threads; `RAYON_NUM_THREADS=1` for
//! one. The example `spans` of `foreshock-models` does the same for any number of spans, made on the fly.

use std::hint::black_box;
use std::io::Read;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use models::learn::{LearnOptions, learn};
use models::trace::{ReadOptions, Reader, TraceSet};

mod traffic;
use traffic::{Encoding, Traffic};

fn read(name: &str, bytes: &[u8]) -> TraceSet {
    let mut reader = Reader::new(ReadOptions::default());
    reader.read(name, bytes).unwrap_or_else(|errors| panic!("{errors}"));
    reader.finish()
}

fn made(encoding: Encoding) -> Vec<u8> {
    let mut bytes = Vec::new();
    Traffic::new(300_000, encoding).read_to_end(&mut bytes).expect("memory takes all");
    bytes
}

/// Every line a tree of values, its spans counted.
fn values(lines: &[u8]) -> usize {
    let spans = |line: &[u8]| -> usize {
        let line: serde_json::Value = serde_json::from_slice(line).expect("JSON");
        let resources = line["resourceSpans"].as_array().into_iter().flatten();
        resources.map(|resource| resource["scopeSpans"][0]["spans"].as_array().map_or(0, Vec::len)).sum()
    };
    lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(spans).sum()
}

fn ingest(c: &mut Criterion) {
    let demo = include_bytes!("../src/demo/baseline.otlp.json.gz").to_vec();
    let folder =
        std::env::var("FORESHOCK_SHARED").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").to_owned());
    let boutique = std::fs::read(format!("{folder}/data/traces/otlp-protobuf/hipstershop.lenprefixed.binpb.gz"));
    if boutique.is_err() {
        eprintln!("skipped: Online Boutique's traces are not in {folder}");
    }
    let json = made(Encoding::Json);
    let mut group = c.benchmark_group("ingest");
    group.sample_size(10);
    for (name, bytes) in [
        ("demo, JSON", Some(demo)),
        ("Online Boutique, protobuf", boutique.ok()),
        ("made, JSON", Some(json.clone())),
        ("made, protobuf", Some(made(Encoding::Protobuf))),
    ] {
        let Some(bytes) = bytes else { continue };
        group.throughput(Throughput::Elements(read(name, &bytes).spans()));
        group.bench_function(BenchmarkId::new("read", name), |b| b.iter(|| black_box(read(name, &bytes))));
        group.bench_function(BenchmarkId::new("read and learn", name), |b| {
            b.iter(|| black_box(learn(&read(name, &bytes), &LearnOptions::default()).expect("it teaches")));
        });
    }
    group.throughput(Throughput::Elements(values(&json) as u64));
    group.bench_function(BenchmarkId::new("read as serde_json::Value", "made, JSON"), |b| b.iter(|| black_box(values(&json))));
    group.finish();
}

criterion_group!(benches, ingest);
criterion_main!(benches);
