//! Readers: every real file reads with the counts its source states.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use models::trace::{ReadOptions, Reader, TraceSet};

use crate::support::shared;

fn read(path: &Path) -> TraceSet {
    let mut reader = Reader::new(ReadOptions::default());
    let started = Instant::now();
    reader.read(&path.display().to_string(), File::open(path).expect("opened")).expect("read");
    let read = started.elapsed();
    let set = reader.finish();
    eprintln!("{:?} read, {:?} with assembly: {:?}\n {:?}", read, started.elapsed(), set.files, set.assembly);
    set
}

#[test]
fn counts() {
    for file in [
        "traces/otlp-json/otel-proto-example.json",
        "traces/otlp-json/otel-demo-collector-mixed.jsonl.gz",
        "traces/otlp-json/otel-demo-timeout-masked.json",
        "traces/otlp-json/hotrod-fanout-retries.json",
        "traces/otlp-json/enum-names-sibling-errors.json",
        "traces/otlp-json/links.json",
        "traces/tempo-json/bookinfo-trace-batches.json",
        "demo/baseline.otlp.json.gz",
        "demo/baseline-bursts.otlp.json.gz",
    ] {
        let Some(path) = shared(&format!("data/{file}")) else { return };
        read(&path);
    }
}
