//! Hostile traces: inputs made to exhaust memory, stack or patience cost what an honest input of their size costs.

use std::io::{self, Read};

use models::learn::{LearnOptions, learn};
use models::trace::{Limits, ReadOptions, Reader, TraceSet};

/// A beginning, a byte so many times over, and an end.
struct Repeated<'b> {
    before: &'b [u8],
    byte: u8,
    times: u64,
    after: &'b [u8],
}

impl Read for Repeated<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.before.is_empty() {
            return self.before.read(buffer);
        }
        if self.times == 0 {
            return self.after.read(buffer);
        }
        let length = buffer.len().min(self.times as usize);
        buffer[..length].fill(self.byte);
        self.times -= length as u64;
        Ok(length)
    }
}

fn read(input: impl Read + Send) -> TraceSet {
    let mut reader = Reader::new(ReadOptions::default());
    reader.read("hostile", input).unwrap_or_else(|errors| panic!("{errors}"));
    reader.finish()
}

const GOOD: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"00000000000000000000000000000001","spanId":"0000000000000001","kind":2,"startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000000000900"}]}]}]}"#;

#[test]
fn a_text_of_a_gigabyte_is_passed_by_and_not_held() {
    let before = GOOD.replace(r#""kind":2"#, r#""name":""#);
    let before = before.split_once(r#","startTime"#).expect("a span").0;
    let after = format!("\"}}]}}]}}]}}\n{GOOD}\n");
    let limits = Limits { value_bytes: 4 << 20, ..Limits::default() };
    let mut set = TraceSet::default();
    let used = allocation_counter::measure(|| {
        let mut reader = Reader::new(ReadOptions { limits, ..ReadOptions::default() });
        let input = Repeated { before: before.as_bytes(), byte: b'x', times: 1 << 30, after: after.as_bytes() };
        reader.read("hostile", input).unwrap_or_else(|errors| panic!("{errors}"));
        set = reader.finish();
    });
    assert_eq!((set.spans(), set.files[0].skipped), (1, 1), "{:?}", set.files);
    assert_eq!(set.files[0].skipped_records[0].reason, "one JSON value larger than the limit");
    assert!(used.bytes_max < 64 << 20, "{} bytes", used.bytes_max);
}

#[test]
fn a_resource_of_any_size_is_read_span_by_span() {
    // 60,000 spans of one resource on one line: 12 MiB.
    let span = |id: u64| {
        format!(
            r#"{{"traceId":"{:032x}","spanId":"{id:016x}","name":"op","kind":2,"startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000000000900","attributes":[{{"key":"k","value":{{"stringValue":"some text"}}}}]}}"#,
            1 + id / 10
        )
    };
    let mut spans: Vec<String> = (1..=60_000).map(span).collect();
    spans[40_000] = "17".to_owned();
    let text = format!(
        "{}{}]}},{{\"spans\":[{}]}}],\"schemaUrl\":\"\"}}]}}\n{GOOD}",
        r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"one"}}]},"scopeSpans":[{"scope":{"name":"s"},"spans":["#,
        spans.join(","),
        span(60_001)
    );
    let mut set = TraceSet::default();
    let used = allocation_counter::measure(|| {
        let limits = Limits { kept_spans: 1_000, ..Limits::default() };
        let mut reader = Reader::new(ReadOptions { limits, ..ReadOptions::default() });
        reader.read("large", text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
        set = reader.finish();
    });
    assert_eq!((set.files[0].spans, set.files[0].services, set.files[0].skipped), (60_001, 1, 1), "{:?}", set.files);
    assert!(set.files[0].skipped_records[0].reason.contains("expected a span"), "{:?}", set.files[0].skipped_records);
    assert!(used.bytes_max < 48 << 20, "{} bytes", used.bytes_max);
}

#[test]
fn depth_costs_no_stack() {
    for byte in *b"[{" {
        let deep = Repeated { before: b"", byte, times: 3 << 20, after: b"" };
        let mut reader = Reader::new(ReadOptions::default());
        assert!(reader.read("deep", deep).is_err());
        let within = GOOD.replace(r#""kind":2"#, r#""attributes":[{"key":"k","value":{"arrayValue":"#);
        let within = format!("{GOOD}\n{}", within.split_once(r#","startTime"#).expect("a span").0);
        let set = read(Repeated { before: within.as_bytes(), byte, times: 3 << 20, after: format!("\n{GOOD}").as_bytes() });
        assert_eq!((set.spans(), set.assembly.duplicates), (1, 1), "the lines around it are kept");
    }
    // Protobuf: messages in messages in an attribute's value.
    let mut value = vec![];
    for _ in 0..50_000 {
        let length = value.len();
        let mut outer = vec![0x2a, length as u8 | 0x80, (length >> 7) as u8 | 0x80, (length >> 14) as u8];
        outer.append(&mut value);
        value = outer;
    }
    let mut span = [&[0x0a, 16][..], &[7; 16], &[0x12, 8], &[9; 8]].concat();
    let long = |tag: u8, bytes: &[u8]| {
        let length = bytes.len();
        [&[tag, length as u8 | 0x80, (length >> 7) as u8 | 0x80, (length >> 14) as u8][..], bytes].concat()
    };
    span.extend(long(0x4a, &long(0x12, &value)));
    let message = long(0x0a, &long(0x12, &long(0x12, &span)));
    assert_eq!(read(&message[..]).spans(), 1);
}

/// A span of Jaeger's, and what stands in it.
fn jaeger(trace: &str, process: &str, spans: &[String]) -> String {
    format!(
        r#"{{"data":[{{"traceID":"{trace}","processes":{{"p":{{"serviceName":"{process}"}}}},"spans":[{}]}}]}}"#,
        spans.join(",")
    )
}

fn jaeger_span(id: &str, start: i64, duration: i64, parent: Option<&str>) -> String {
    let reference = parent.map_or(String::new(), |id| format!(r#"{{"refType":"CHILD_OF","traceID":"7","spanID":"{id}"}}"#));
    format!(
        r#"{{"spanID":"{id}","operationName":"x","startTime":{start},"duration":{duration},"processID":"p","references":[{reference}],"tags":[{{"key":"span.kind","value":"server"}}]}}"#
    )
}

#[test]
fn ids_that_collide_across_services_and_files_are_no_duplicates() {
    let start = 1_700_000_000_000_000;
    let mut reader = Reader::new(ReadOptions::default());
    for service in ["a", "b", "c"] {
        let spans = [jaeger_span("1", start, 100, None), jaeger_span("2", start + 10, 50, Some("1"))];
        reader.read(service, jaeger("7", service, &spans).as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
    }
    let set = reader.finish();
    assert_eq!((set.traces.len(), set.spans(), set.assembly.duplicates), (1, 6, 0));
    let trace = &set.traces[0];
    for (span, parent) in trace.spans.iter().zip(&trace.parent) {
        if let Some(parent) = parent {
            assert_eq!(trace.spans[*parent as usize].service, span.service, "each finds its own service's parent");
        }
    }
    assert_eq!(trace.parent.iter().flatten().count(), 3);
}

#[test]
fn many_spans_of_one_id_are_not_compared_with_all_others() {
    // 20,000 services use the id 1, and 20,000 spans name it as their parent.
    let start = 1_700_000_000_000_000;
    let mut reader = Reader::new(ReadOptions::default());
    let processes: Vec<String> = (0..20_000).map(|p| format!(r#""p{p}":{{"serviceName":"s{p}"}}"#)).collect();
    let spans: Vec<String> = (0..20_000)
        .map(|p| jaeger_span("1", start, 9, None).replace("\"p\"", &format!("\"p{p}\"")))
        .chain((0..20_000).map(|p| jaeger_span(&format!("{:x}", p + 2), 0, 1, Some("1")).replace("\"p\"", "\"p7\"")))
        .collect();
    let text = format!(r#"{{"data":[{{"traceID":"7","processes":{{{}}},"spans":[{}]}}]}}"#, processes.join(","), spans.join(","));
    reader.read("many", text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
    let set = reader.finish();
    assert_eq!((set.spans(), set.assembly.starts_mended), (40_000, 20_000));
}

#[test]
fn times_beyond_the_clock_cost_their_span_and_lengths_below_zero_become_none() {
    let start = 1_700_000_000_000_000;
    let spans = [
        jaeger_span("1", start, 100, None),
        jaeger_span("2", -1, 50, Some("1")),
        jaeger_span("3", 7_258_118_400_000_001, 50, Some("1")),
        jaeger_span("4", i64::MAX, i64::MAX, Some("1")),
        jaeger_span("5", start, i64::MIN, Some("1")),
        jaeger_span("6", 7_258_118_399_999_999, 1, Some("1")),
    ];
    let set = read(jaeger("7", "a", &spans).as_bytes());
    let ids: Vec<u64> = set.traces[0].spans.iter().map(|span| span.span_id).collect();
    assert_eq!(ids, [1, 5, 6]);
    let reasons: Vec<&str> = set.files[0].skipped_records.iter().map(|skipped| skipped.reason.as_str()).collect();
    assert_eq!(reasons, ["a time before 1970", "a time later than the year 2200", "a time later than the year 2200"]);
    assert_eq!(set.files[0].mended["ended before its start: length set to 0"], 1);
    assert_eq!(set.traces[0].spans[2].start_ns + set.traces[0].spans[2].duration_ns, 7_258_118_400_000_000_000);
    learn(&set, &LearnOptions::default()).unwrap_or_else(|errors| panic!("{errors}"));
}

#[test]
fn circles_of_any_length_are_cut_once() {
    let start = 1_700_000_000_000_000;
    for length in [1_i64, 2, 3, 20_000] {
        let parent = |id: i64| format!("{:x}", 1 + id % length);
        let spans: Vec<String> =
            (1..=length).map(|id| jaeger_span(&format!("{id:x}"), start + id, 1, Some(&parent(id)))).collect();
        let set = read(jaeger("7", "a", &spans).as_bytes());
        assert_eq!((set.spans(), set.assembly.cycles_broken), (length as u64, 1), "{length}");
        assert_eq!(set.traces[0].parent.iter().filter(|parent| parent.is_none()).count(), 1);
        learn(&set, &LearnOptions::default()).unwrap_or_else(|errors| panic!("{errors}"));
    }
}
