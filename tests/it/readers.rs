//! Readers: every real file reads with the counts its source states; what is broken costs only itself.

use std::fs::File;
use std::path::Path;

use models::trace::{Format, ReadOptions, Reader, TraceSet};

use crate::support::shared;

/// File, format, traces, spans, services; `None`: the source leaves the number open.
type Row = (&'static str, Format, Option<u64>, u64, u64);

/// What the sources of the files state about them.
const COUNTS: &[Row] = &[
    ("traces/otlp-json/otel-proto-example.json", Format::OtlpJson, Some(1), 1, 1),
    ("traces/otlp-json/otel-demo-collector-mixed.jsonl.gz", Format::OtlpJson, Some(141), 547, 8),
    ("traces/otlp-json/otel-demo-timeout-masked.json", Format::OtlpJson, Some(1), 26, 5),
    ("traces/otlp-json/hotrod-fanout-retries.json", Format::OtlpJson, Some(1), 40, 6),
    ("traces/otlp-json/enum-names-sibling-errors.json", Format::OtlpJson, Some(1), 6, 3),
    ("traces/otlp-json/links.json", Format::OtlpJson, Some(1), 1, 1),
    ("traces/otlp-protobuf/hipstershop.lenprefixed.binpb.gz", Format::OtlpProtobuf, Some(9_047), 86_583, 10),
    ("traces/otlp-protobuf/hipstershop-first-resources.bare.binpb", Format::OtlpProtobuf, None, 1_156, 9),
    ("traces/otlp-protobuf/hipstershop-first-resources.varint-delimited.binpb", Format::OtlpProtobuf, None, 1_156, 9),
    ("traces/jaeger-json/deathstarbench-socialnetwork.json.gz", Format::JaegerJson, Some(20), 660, 12),
    ("traces/jaeger-json/crisp-err-pattern1.json", Format::JaegerJson, Some(1), 2, 2),
    ("traces/jaeger-json/crisp-err-pattern2.json", Format::JaegerJson, Some(1), 2, 2),
    ("traces/jaeger-json/crisp-err-pattern3.json", Format::JaegerJson, Some(1), 3, 3),
    ("traces/jaeger-json/crisp-err-pattern4.json", Format::JaegerJson, Some(1), 3, 3),
    ("traces/jaeger-json/crisp-18.json", Format::JaegerJson, Some(1), 9, 9),
    ("traces/jaeger-json/follows-from.json", Format::JaegerJson, Some(1), 2, 1),
    ("traces/zipkin-json/yelp.json", Format::ZipkinV2, Some(1), 16, 6),
    ("traces/zipkin-json/ascend.json", Format::ZipkinV2, Some(1), 8, 3),
    ("traces/zipkin-json/smartthings-oauth-authorization.json", Format::ZipkinV2, Some(1), 175, 8),
    ("traces/zipkin-json/messaging-kafka.json", Format::ZipkinV2, Some(1), 28, 2),
    ("traces/zipkin-json/messaging.json", Format::ZipkinV2, Some(1), 4, 2),
    ("traces/zipkin-json/messaging2.json", Format::ZipkinV2, Some(1), 11, 4),
    ("traces/zipkin-json/skew.json", Format::ZipkinV2, Some(1), 4, 2),
    ("traces/zipkin-json/envoy.json", Format::ZipkinV2, Some(1), 1, 1),
    ("traces/zipkin-json/simple-db-p6.json", Format::ZipkinV2, Some(1), 5, 1),
    ("traces/zipkin-json/trainticket.v1.json", Format::ZipkinV1, Some(1), 79, 16),
    ("traces/tempo-json/bookinfo-trace-batches.json", Format::OtlpJson, Some(1), 8, 5),
    ("demo/baseline.otlp.json.gz", Format::OtlpJson, Some(5_572), 30_653, 9),
    ("demo/baseline-bursts.otlp.json.gz", Format::OtlpJson, Some(6_380), 35_306, 9),
];

fn read(path: &Path) -> TraceSet {
    let mut reader = Reader::new(ReadOptions::default());
    let started = std::time::Instant::now();
    reader.read(&path.display().to_string(), File::open(path).expect("opened")).unwrap_or_else(|errors| panic!("{errors}"));
    let read = started.elapsed();
    let set = reader.finish();
    eprintln!("{:?} read, {:?} with assembly: {:?}\n {:?}", read, started.elapsed(), set.files, set.assembly);
    set
}

#[test]
fn every_real_file_reads_with_the_counts_its_source_states() {
    for &(file, format, traces, spans, services) in COUNTS {
        let Some(path) = shared(&format!("data/{file}")) else { continue };
        let set = read(&path);
        let notes = &set.files[0];
        assert_eq!((notes.format, notes.spans, notes.services), (format, spans, services), "{file}");
        assert_eq!(notes.traces, set.traces.len() as u64, "{file}");
        if let Some(traces) = traces {
            assert_eq!(notes.traces, traces, "{file}");
        }
        assert_eq!(notes.skipped_records, [], "{file}");
    }
}
