//! Readers: every real file reads with the counts its source states; what is broken costs only itself.

use std::fs;
use std::io::Write;

use expect_test::{Expect, expect};
use flate2::Compression;
use flate2::write::GzEncoder;
use models::error::InputErrors;
use models::trace::{Failure, Format, Kind, Limits, PeerKind, ReadOptions, Reader, Span, Status, TraceSet};

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

#[test]
fn every_real_file_reads_with_the_counts_its_source_states() {
    for &(file, format, traces, spans, services) in COUNTS {
        let Some(bytes) = shared_bytes(file) else { continue };
        let set = read(file, &bytes);
        let notes = &set.files[0];
        assert_eq!(notes.skipped_records, [], "{file}");
        assert_eq!((notes.format, notes.spans, notes.services), (format, spans, services), "{file}");
        assert_eq!(notes.traces, set.traces.len() as u64, "{file}");
        if let Some(traces) = traces {
            assert_eq!(notes.traces, traces, "{file}");
        }
    }
}

#[test]
fn what_is_odd_in_the_real_files_is_found() {
    if let Some(bytes) = shared_bytes("traces/otlp-json/otel-demo-collector-mixed.jsonl.gz") {
        let set = read("mixed", &bytes);
        assert_eq!(set.files[0].other_signals, 40 + 16, "metric and log lines");
        let found = &set.assembly;
        assert_eq!((found.links, found.early, found.after_parent, found.orphans), (53, 30, 6, 1));
        // 107 say so by their status; 40 of the proxy leave it unset and carry an error tag and HTTP 500.
        assert_eq!(spans(&set).filter(|span| span.status == Status::Error).count(), 107 + 40);
        let cart =
            spans(&set).find(|span| span.peer.as_deref() == Some("cartservice")).expect("a call of the service without spans");
        assert_eq!((cart.status, cart.failure), (Status::Error, Some(Failure::Connection)));
        let calls = spans(&set).filter(|span| span.kind == Kind::Client && span.operation.contains("CartService"));
        assert!(calls.into_iter().all(|span| span.peer.as_deref() == Some("cartservice")), "also those that name no callee");
    }
    if let Some(bytes) = shared_bytes("traces/otlp-protobuf/hipstershop.lenprefixed.binpb.gz") {
        let set = read("hipstershop", &bytes);
        let found = &set.assembly;
        assert_eq!((found.orphans, found.rootless_traces, found.after_parent), (141, 35, 1_887));
        // 667 say so by their status; 347 calls of the payment provider leave it unset and were answered with HTTP 401.
        assert_eq!(spans(&set).filter(|span| span.status == Status::Error).count(), 667 + 347);
        let leaves = [
            ("redis-cart", PeerKind::Database),
            ("Galactus.Postgres:98321", PeerKind::Database),
            ("ButtercupPayments", PeerKind::Service),
        ];
        for (peer, kind) in leaves {
            let found = spans(&set).find(|span| span.peer.as_deref() == Some(peer)).expect(peer);
            assert_eq!(found.peer_kind, kind, "{peer}");
        }
    }
    if let Some(bytes) = shared_bytes("traces/zipkin-json/smartthings-oauth-authorization.json") {
        // One message was received by two replicas, by one of them three times and by the other twice: pieces of two spans.
        let found = read("smartthings", &bytes).assembly;
        assert_eq!((found.shared, found.duplicates), (45 - 3, 3));
    }
    if let Some(bytes) = shared_bytes("traces/zipkin-json/messaging2.json") {
        assert_eq!(read("messaging2", &bytes).assembly.orphans, 6);
    }
    if let Some(bytes) = shared_bytes("traces/zipkin-json/trainticket.v1.json") {
        let set = read("trainticket", &bytes);
        // Every call but the root's has both halves in one record.
        assert_eq!((set.spans(), set.assembly.shared), (79 + 78, 78));
    }
}

#[test]
fn the_framings_of_one_message_give_the_same_traces() {
    let Some(bare) = shared_bytes("traces/otlp-protobuf/hipstershop-first-resources.bare.binpb") else { return };
    let expected = read("bare", &bare);
    let mut big_endian = (bare.len() as u32).to_be_bytes().to_vec();
    big_endian.extend(&bare);
    let zstd = ruzstd::encoding::compress_to_vec(bare.as_slice(), ruzstd::encoding::CompressionLevel::Fastest);
    let mut frames_of_zstd = (zstd.len() as u32).to_be_bytes().to_vec();
    frames_of_zstd.extend(&zstd);
    let varint =
        shared_bytes("traces/otlp-protobuf/hipstershop-first-resources.varint-delimited.binpb").expect("beside the other");
    for (framing, bytes) in [
        ("big-endian", &big_endian),
        ("varint", &varint),
        ("gzip", &gzip(&bare)),
        ("zstd", &zstd),
        ("gzip in gzip", &gzip(&gzip(&bare))),
        ("frames of zstd", &frames_of_zstd),
    ] {
        let set = read(framing, bytes);
        assert_eq!(set.files[0].skipped_records, [], "{framing}");
        assert_eq!(all_spans(&set), all_spans(&expected), "{framing}");
    }
}

#[test]
fn json_streams_may_have_any_layout() {
    let compact: Vec<String> = (1..=3).map(|trace| otlp(trace, "a", &[])).collect();
    let pretty: Vec<String> = compact.iter().map(|text| reformat(text)).collect();
    let wrapped = format!("{{\"result\":{}}}\n{{\"result\":{}}}{}", compact[0], compact[1], compact[2]);
    for (layout, text) in [
        ("lines", compact.join("\n")),
        ("pretty-printed", pretty.join("\n")),
        ("on one line", compact.concat()),
        ("mixed, with CRLF and a mark", format!("\u{feff}\r\n{}\r\n\r\n{}\r\n{}", compact[0], pretty[1], compact[2])),
        ("an array", format!("[\n{}\n]", compact.join(",\n"))),
        ("results", wrapped),
    ] {
        let set = read(layout, text.as_bytes());
        assert_eq!((set.traces.len(), set.files[0].skipped), (3, 0), "{layout}");
    }
}

#[test]
fn otlp_json_of_other_writers_is_read() {
    let tempo = r#"{"trace":{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"payments"}}]},
        "instrumentationLibrarySpans":[{"instrumentationLibrary":{"name":"lib"},"spans":[{"traceId":"Gs/0pqWSBPwvpdpUJgDOxQ==",
        "spanId":"lALL8oPzfNE=","parentSpanId":"LXFkEt9XdKA=","name":"SELECT","kind":"SPAN_KIND_CLIENT",
        "startTimeUnixNano":1795335226873164616,"endTimeUnixNano":"1795335226873197806","attributes":null,
        "status":{"message":"timeout","code":"STATUS_CODE_ERROR"}}]}]}]}}"#;
    let snake = r#"{"resource_spans":[{"resource":{"attributes":[{"key":"service.name","value":{"string_value":"payments"}}]},
        "scope_spans":[{"spans":[{"trace_id":"1ACFF4A6A59204FC2FA5DA542600CEC5","span_id":"9402CBF283F37CD1",
        "parent_span_id":"2d716412df5774a0","name":"SELECT","kind":3,"start_time_unix_nano":"1795335226873164616",
        "end_time_unix_nano":1795335226873197806,"status":{"code":2,"message":"timeout"}}]}]}]}"#;
    for text in [tempo, snake] {
        let set = read("trace", text.as_bytes());
        let span = &set.traces[0].spans[0];
        assert_eq!((span.trace_id, span.span_id), (0x1acff4a6a59204fc2fa5da542600cec5, 0x9402cbf283f37cd1), "{text}");
        assert_eq!((span.parent_id, span.kind), (Some(0x2d716412df5774a0), Kind::Client));
        assert_eq!((span.start_ns, span.duration_ns), (1_795_335_226_873_164_616, 33_190));
        assert_eq!((&*span.service, span.failure), ("payments", Some(Failure::Timeout)));
    }
}

#[test]
fn attributes_name_operation_peer_and_failure() {
    let check = |kind: u8, name: &str, attributes: &[(&str, &str)], expected: (&str, Option<&str>, Option<Failure>)| {
        let set = read("trace", otlp_span(kind, name, attributes).as_bytes());
        let span = &set.traces[0].spans[0];
        assert_eq!((&*span.operation, span.peer.as_deref(), span.failure), expected, "{kind} {name} {attributes:?}");
        assert_eq!(span.failure.is_some(), span.status == Status::Error);
    };
    let (server, client, producer, consumer) = (2, 3, 4, 5);
    let route = [("http.request.method", "GET"), ("http.route", "/u/{name}"), ("url.path", "/u/joe"), ("server.address", "me")];
    check(server, "GET", &route, ("GET /u/{name}", None, None));
    check(server, "GET /u/17", &[("http.method", "GET"), ("http.target", "/u/17?x=1")], ("GET /u/{id}", None, None));
    let get =
        [("http.method", "GET"), ("http.url", "http://shop:80/u/17?x=1"), ("net.peer.name", "shop"), ("net.peer.port", "80")];
    check(client, "HTTP GET", &get, ("GET /u/{id}", Some("shop"), None));
    let by_address = [("server.address", "10.0.0.7"), ("server.port", "8080"), ("http.status_code", "404")];
    check(client, "call", &by_address, ("call", Some("10.0.0.7:8080"), Some(Failure::Other)));
    check(server, "call", &[("http.response.status_code", "404")], ("call", None, None));
    check(server, "call", &[("http.response.status_code", "503")], ("call", None, Some(Failure::Overload)));
    let refused = [("rpc.service", "shop.Cart"), ("rpc.method", "Get"), ("rpc.grpc.status_code", "14"), ("peer.service", "cart")];
    check(client, "x", &refused, ("shop.Cart/Get", Some("cart"), Some(Failure::Connection)));
    let named = [("rpc.method", "shop.Cart/Get"), ("rpc.response.status_code", "DEADLINE_EXCEEDED")];
    check(client, "x", &named, ("shop.Cart/Get", None, Some(Failure::Timeout)));
    check(server, "x", &[("rpc.grpc.status_code", "5")], ("x", None, None));
    check(client, "x", &[("rpc.grpc.status_code", "5")], ("x", None, Some(Failure::Other)));
    let query = [("db.system", "postgresql"), ("db.name", "orders"), ("db.operation", "SELECT"), ("db.sql.table", "t")];
    check(client, "SELECT orders.t", &query, ("SELECT t", Some("postgresql/orders"), None));
    let local = [("db.system.name", "redis"), ("server.address", "localhost"), ("server.port", "6379")];
    check(client, "GET", &local, ("GET", Some("redis@localhost:6379"), None));
    let message = [("messaging.system", "kafka"), ("messaging.destination.name", "orders")];
    check(producer, "orders publish", &message, ("send orders", Some("kafka"), None));
    check(consumer, "orders process", &message, ("process orders", Some("kafka"), None));
    let envoy =
        [("upstream_cluster", "outbound|80||cart.shop.svc.cluster.local"), ("response_flags", "UF,URX"), ("error", "true")];
    check(client, "router x egress", &envoy, ("router x egress", Some("cart.shop"), Some(Failure::Connection)));
    check(
        client,
        "x",
        &[("error.type", "java.net.SocketTimeoutException"), ("error", "true")],
        ("x", None, Some(Failure::Timeout)),
    );
    check(client, "x", &[("error", "false")], ("x", None, None));
    check(client, "x", &[("http.status_code", "500"), ("otel.status_code", "OK")], ("x", None, None));

    let retry = [
        ("http.request.resend_count", "2"),
        ("component", "proxy"),
        ("sampler.type", "probabilistic"),
        ("sampler.param", "0.25"),
    ];
    let set = read("trace", otlp_span(client, "x", &retry).as_bytes());
    let span = &set.traces[0].spans[0];
    assert_eq!((span.resend, span.proxy, span.sampled_share), (2, true, Some(0.25)));
}

#[test]
fn a_broken_line_costs_that_line() {
    let mut lines: Vec<String> = (1..=10_000).map(|trace| otlp(trace, "a", &[])).collect();
    for broken in [
        "{\"resourceSpans\":[{\"resource\":{\"attrib",
        "{\"resourceSpans\":[",
        "not JSON at all",
        "{\"resourceSpans\":[}]}",
        "{]",
    ] {
        lines[6_999] = broken.to_owned();
        let text = lines.join("\n");
        let set = read("traces.jsonl", text.as_bytes());
        let notes = &set.files[0];
        assert_eq!((notes.traces, notes.skipped), (9_999, 1), "{broken}: {:?}", notes.skipped_records);
        assert!(notes.skipped_records[0].place.starts_with("line 7000"), "{:?}", notes.skipped_records);
        let error = read_with(strict(), "traces.jsonl", text.as_bytes()).expect_err(broken).to_string();
        assert!(error.starts_with("error: traces.jsonl:7000"), "{error}");
    }
}

#[test]
fn a_broken_value_of_a_pretty_printed_stream_costs_that_value() {
    let mut values: Vec<String> = (1..=9).map(|trace| reformat(&otlp(trace, "a", &[]))).collect();
    let half = values[4].len() / 2;
    values[4].truncate(half);
    let set = read("stream", values.join("\n").as_bytes());
    assert_eq!((set.traces.len(), set.files[0].skipped), (8, 1), "{:?}", set.files);
}

#[test]
fn a_broken_span_costs_that_span() {
    let good = r#"{"traceId":"00000000000000000000000000000001","spanId":"0000000000000002","startTimeUnixNano":"5","endTimeUnixNano":"9"}"#;
    let bad = [
        r#"{"traceId":"xyz","spanId":"0000000000000003"}"#,
        r#"{"traceId":"00000000000000000000000000000001","spanId":"0000000000000000"}"#,
        r#"{"traceId":"00000000000000000000000000000001","spanId":"0000000000000003","startTimeUnixNano":"-5"}"#,
        r#"{"traceId":"00000000000000000000000000000001","spanId":"0000000000000003","startTimeUnixNano":"9000000000000000000"}"#,
        r#"{"traceId":"00000000000000000000000000000001","spanId":"0000000000000003","attributes":17}"#,
        "17",
    ];
    let spans = bad.map(|bad| format!("{bad},\n")).concat();
    let text = format!("{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[\n{spans}{good}]}}]}}]}}");
    let set = read("trace.json", text.as_bytes());
    assert_eq!(set.spans(), 1);
    let list: Vec<String> =
        set.files[0].skipped_records.iter().map(|skipped| format!("{}: {}", skipped.place, skipped.reason)).collect();
    expect![[r#"
        line 2, /resourceSpans/0/scopeSpans/0/spans/0: trace id "xyz" is not 32 hexadecimal digits
        line 3, /resourceSpans/0/scopeSpans/0/spans/1: an id that is all zeros
        line 4, /resourceSpans/0/scopeSpans/0/spans/2: start time "-5" is not a whole number
        line 5, /resourceSpans/0/scopeSpans/0/spans/3: a time later than the year 2200
        line 6, /resourceSpans/0/scopeSpans/0/spans/4: invalid type: integer `17`, expected a sequence
        line 7, /resourceSpans/0/scopeSpans/0/spans/5: invalid type: integer `17`, expected a span, which is an object"#]]
    .assert_eq(&list.join("\n"));
    expect![[r#"
        error: trace.json:2: /resourceSpans/0/scopeSpans/0/spans/0
          found:    trace id "xyz" is not 32 hexadecimal digits
          expected: a whole record of the format
          help:     without --strict the record is skipped and counted"#]]
    .assert_eq(&refusal(strict(), "trace.json", text.as_bytes()));
}

#[test]
fn times_without_sense_are_mended_and_counted() {
    let span = |id: u8, times: &str| {
        format!(r#"{{"traceId":"00000000000000000000000000000001","spanId":"000000000000000{id}",{times}}}"#)
    };
    let times = [
        r#""startTimeUnixNano":"1700000000000000009","endTimeUnixNano":"1700000000000000002""#,
        r#""startTimeUnixNano":"1700000000000000009""#,
        r#""endTimeUnixNano":"1700000000000000009""#,
    ];
    let spans: Vec<String> = times.iter().zip(1..).map(|(times, id)| span(id, times)).collect();
    let text = format!("{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{}]}}]}}]}}", spans.join(","));
    let set = read("trace.json", text.as_bytes());
    assert!(set.traces[0].spans.iter().all(|span| (span.start_ns, span.duration_ns) == (1_700_000_000_000_000_009, 0)));
    let counts: Vec<(&str, u64)> = set.files[0].mended.iter().map(|(&what, &count)| (what, count)).collect();
    let expected =
        [("ended before its start: length set to 0", 1), ("no end: length set to 0", 1), ("no start: set to the end", 1)];
    assert_eq!(counts, expected);

    let jaeger = r#"{"traceID":"1","processes":{"p":{"serviceName":"a"}},"spans":[
        {"spanID":"1","operationName":"x","startTime":1700000000000000,"duration":-5,"processID":"p"},
        {"spanID":"2","operationName":"x","startTime":-1,"duration":5,"processID":"p"}]}"#;
    let set = read("jaeger.json", jaeger.as_bytes());
    assert_eq!(set.traces[0].spans[0].duration_ns, 0);
    assert_eq!(set.files[0].skipped_records[0].reason, "a time before 1970");
}

#[test]
fn a_truncated_gzip_keeps_what_was_read() {
    let lines: Vec<String> = (1..=5_000).map(|trace| otlp(trace, "a", &[])).collect();
    let mut packed = gzip(lines.join("\n").as_bytes());
    packed.truncate(packed.len() / 2);
    let set = read("traces.jsonl.gz", &packed);
    let notes = &set.files[0];
    assert!((1_000..5_000).contains(&notes.traces), "{}", notes.traces);
    let last = notes.skipped_records.last().expect("the end is reported");
    assert_eq!(last.reason, format!("the compressed data is cut off after {} bytes", packed.len()));

    // One long resource, cut in its middle: the spans before the cut are kept.
    if let Some(bytes) = shared_bytes("demo/baseline.otlp.json.gz") {
        let set = read("demo", &bytes[..bytes.len() / 10]);
        assert!(set.spans() > 1_500, "{:?}", set.files);
    }
    expect![[r#"
        error: traces.json.gz
          found:    the compressed data is cut off after 12 bytes
          expected: traces: OTLP (JSON or protobuf), Jaeger, Tempo or Zipkin JSON, a table of spans, or a graph summary; plain, gzip or zstd
          help:     get a whole copy of the file"#]]
    .assert_eq(&refusal(ReadOptions::default(), "traces.json.gz", &packed[..12]));
}

#[test]
fn a_truncated_frame_keeps_what_was_read() {
    let Some(bare) = shared_bytes("traces/otlp-protobuf/hipstershop-first-resources.bare.binpb") else { return };
    let mut frames = (bare.len() as u32).to_be_bytes().to_vec();
    frames.extend(&bare);
    for (input, bytes) in [("frame", &frames[..frames.len() / 2]), ("bare", &bare[..bare.len() / 2])] {
        let set = read(input, bytes);
        assert!((500..700).contains(&set.spans()), "{input}: {}", set.spans());
        assert_eq!(set.files[0].skipped, 1, "{:?}", set.files[0].skipped_records);
        assert!(set.files[0].skipped_records[0].place.starts_with("byte "), "{:?}", set.files[0].skipped_records);
    }
    // A second frame whose length is nonsense.
    frames.extend([0xff; 64]);
    let set = read("frames", &frames);
    assert_eq!(set.spans(), 1_156);
    expect!["a frame of 4294967295 bytes, above the limit of 67108864; nothing after it can be read"]
        .assert_eq(&set.files[0].skipped_records[0].reason);
}

#[test]
fn compressed_data_cannot_grow_without_end() {
    let limits = Limits { ratio_free_bytes: 1 << 20, ..Limits::default() };
    let options = ReadOptions { limits, ..ReadOptions::default() };
    let mut text = otlp(1, "a", &[]);
    text.push_str(&" ".repeat(64 << 20));
    let packed = gzip(&gzip(text.as_bytes()));
    let set = read_with(options, "bomb.json.gz", &packed).expect("its first record is fine");
    assert_eq!(set.files[0].traces, 1);
    assert!(set.files[0].skipped_records[0].reason.contains("beyond the limit"), "{:?}", set.files[0].skipped_records);
}

#[test]
fn what_is_no_trace_is_refused_by_name() {
    let check = |name: &str, bytes: &[u8], expected: Expect| expected.assert_eq(&refusal(ReadOptions::default(), name, bytes));
    check(
        "empty.json",
        b"",
        expect![[r#"
        error: empty.json
          found:    nothing: the input is empty
          expected: traces: OTLP (JSON or protobuf), Jaeger, Tempo or Zipkin JSON, a table of spans, or a graph summary; plain, gzip or zstd
          help:     the collector's file exporter, Jaeger's "Trace JSON" and Zipkin's download button write files that can be read"#]],
    );
    check(
        "notes.txt",
        b"the cart was slow today",
        expect![[r#"
        error: notes.txt
          found:    text that is not JSON
          expected: traces: OTLP (JSON or protobuf), Jaeger, Tempo or Zipkin JSON, a table of spans, or a graph summary; plain, gzip or zstd
          help:     the collector's file exporter, Jaeger's "Trace JSON" and Zipkin's download button write files that can be read"#]],
    );
    check(
        "page.html",
        b"<html></html>",
        expect![[r#"
        error: page.html
          found:    HTML or XML
          expected: traces: OTLP (JSON or protobuf), Jaeger, Tempo or Zipkin JSON, a table of spans, or a graph summary; plain, gzip or zstd
          help:     the collector's file exporter, Jaeger's "Trace JSON" and Zipkin's download button write files that can be read"#]],
    );
    check(
        "windows.json",
        &[0xff, 0xfe, b'{', 0, b'}', 0],
        expect![[r#"
        error: windows.json
          found:    text in UTF-16
          expected: traces: OTLP (JSON or protobuf), Jaeger, Tempo or Zipkin JSON, a table of spans, or a graph summary; plain, gzip or zstd
          help:     save it as UTF-8"#]],
    );
    check(
        "archive.zip",
        b"PK\x03\x04\x14\x00\x00\x00\x08\x00",
        expect![[r#"
        error: archive.zip
          found:    a zip archive
          expected: traces: OTLP (JSON or protobuf), Jaeger, Tempo or Zipkin JSON, a table of spans, or a graph summary; plain, gzip or zstd
          help:     unpack it first"#]],
    );
    check(
        "package.json",
        b"{\n \"name\": \"x\",\n \"version\": 1\n}",
        expect![[r#"
        error: package.json:1
          found:    JSON of an unknown kind
          expected: traces: OTLP (JSON or protobuf), Jaeger, Tempo or Zipkin JSON, a table of spans, or a graph summary; plain, gzip or zstd
          help:     the collector's file exporter, Jaeger's "Trace JSON" and Zipkin's download button write files that can be read"#]],
    );
    check(
        "numbers.json",
        b"[1, 2, 3]",
        expect![[r#"
        error: numbers.json
          found:    no record at all
          expected: traces: OTLP (JSON or protobuf), Jaeger, Tempo or Zipkin JSON, a table of spans, or a graph summary; plain, gzip or zstd
          help:     the collector's file exporter, Jaeger's "Trace JSON" and Zipkin's download button write files that can be read"#]],
    );
    check(
        "broken.json",
        b"{\"resourceSpans\": [{\"resource\":",
        expect![[r#"
        error: broken.json
          found:    line 1: the input ends inside this JSON value
          expected: traces: OTLP (JSON or protobuf), Jaeger, Tempo or Zipkin JSON, a table of spans, or a graph summary; plain, gzip or zstd
          help:     no record of this input could be read"#]],
    );
    check(
        "metrics.jsonl",
        b"{\"resourceMetrics\":[]}\n{\"resourceLogs\":[]}\n",
        expect![[r#"
        error: metrics.jsonl
          found:    2 records of metrics or logs, and no traces
          expected: traces: OTLP (JSON or protobuf), Jaeger, Tempo or Zipkin JSON, a table of spans, or a graph summary; plain, gzip or zstd
          help:     give the file that the collector's traces pipeline writes"#]],
    );
    check(
        "search.json",
        br#"{"traces":[{"traceID":"1","rootServiceName":"a"}],"metrics":{}}"#,
        expect![[r#"
        error: search.json:1
          found:    a Tempo search answer: trace ids and summaries, no whole traces
          expected: traces: OTLP (JSON or protobuf), Jaeger, Tempo or Zipkin JSON, a table of spans, or a graph summary; plain, gzip or zstd
          help:     fetch each trace by its id: GET /api/traces/<traceID>"#]],
    );
    check(
        "kiali.json",
        br#"{"timestamp":1,"elements":{"nodes":[],"edges":[]}}"#,
        expect![[r#"
        error: kiali.json:1
          found:    a Kiali graph without any edge
          expected: traces: OTLP (JSON or protobuf), Jaeger, Tempo or Zipkin JSON, a table of spans, or a graph summary; plain, gzip or zstd
          help:     ask for more namespaces or a longer duration"#]],
    );
    check(
        "prometheus.json",
        br#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
        expect![[r#"
        error: prometheus.json:1
          found:    a Prometheus answer without service-graph metrics
          expected: traces: OTLP (JSON or protobuf), Jaeger, Tempo or Zipkin JSON, a table of spans, or a graph summary; plain, gzip or zstd
          help:     query {__name__=~"traces_service_graph_request_.*"} over a range"#]],
    );
    check(
        "jaeger.json",
        br#"{"data":[],"total":0}"#,
        expect![[r#"
        error: jaeger.json:1
          found:    an answer without any trace in it
          expected: traces: OTLP (JSON or protobuf), Jaeger, Tempo or Zipkin JSON, a table of spans, or a graph summary; plain, gzip or zstd
          help:     widen the time range or raise the limit of the query that made this file"#]],
    );
    check(
        "v2.json",
        br#"{"spans":[{"traceId":"AAAAAAAAAAA=","startTime":"2020-01-01T00:00:00Z"}]}"#,
        expect![[r#"
        error: v2.json:1
          found:    Jaeger's storage form (api_v2 protobuf JSON)
          expected: traces: OTLP (JSON or protobuf), Jaeger, Tempo or Zipkin JSON, a table of spans, or a graph summary; plain, gzip or zstd
          help:     save the trace from Jaeger's user interface or GET /api/v3/traces/<id>"#]],
    );
    check(
        "span.json",
        br#"{"traceId":"1","spanId":"2","name":"x"}"#,
        expect![[r#"
        error: span.json:1
          found:    an OTLP span without the resource that says whose it is
          expected: traces: OTLP (JSON or protobuf), Jaeger, Tempo or Zipkin JSON, a table of spans, or a graph summary; plain, gzip or zstd
          help:     give the whole export, with resourceSpans around its spans"#]],
    );
    for file in ["bookinfo-search.json", "bookinfo-ambient-search.json"] {
        if let Some(bytes) = shared_bytes(&format!("traces/tempo-json/{file}")) {
            let error = refusal(ReadOptions::default(), file, &bytes);
            assert!(error.contains("a Tempo search answer"), "{error}");
        }
    }
}

#[test]
fn a_trace_may_be_spread_over_inputs_and_comes_out_the_same_in_any_order() {
    let parts = [otlp(1, "a", &[]), otlp(1, "b", &[1]), otlp(1, "c", &[2]), otlp(2, "a", &[9])];
    let assembled = |order: [usize; 4]| {
        let mut reader = Reader::new(ReadOptions::default());
        for part in order {
            reader.read("part", parts[part].as_bytes()).expect("read");
        }
        reader.finish()
    };
    let set = assembled([0, 1, 2, 3]);
    assert_eq!(set.files.len(), 4);
    assert_eq!(set.traces[0].spans.len(), 3);
    assert_eq!(set.traces[0].parent, [None, Some(0), Some(1)]);
    assert_eq!((set.assembly.roots, set.assembly.orphans), (1, 1));
    assert_eq!(set.traces[1].orphan, [true]);
    let other = assembled([3, 2, 1, 0]);
    let whatever_file = |set| all_spans(set).into_iter().map(|s| Span { input: 0, ..s.clone() }).collect::<Vec<_>>();
    assert_eq!(whatever_file(&set), whatever_file(&other));
    assert_eq!(set.assembly, other.assembly);
}

#[test]
fn duplicates_are_merged_and_circles_cut() {
    let jaeger = r#"{"traceID":"7","processes":{"p":{"serviceName":"a"}},"spans":[
        {"spanID":"1","operationName":"x","startTime":1700000000000000,"duration":5,"processID":"p"},
        {"spanID":"1","operationName":"x","startTime":1700000000000000,"duration":9,"processID":"p"},
        {"spanID":"2","operationName":"y","startTime":1700000000000001,"duration":5,"processID":"p",
            "references":[{"refType":"CHILD_OF","traceID":"7","spanID":"3"}]},
        {"spanID":"3","operationName":"z","startTime":1700000000000002,"duration":5,"processID":"p",
            "references":[{"refType":"CHILD_OF","traceID":"7","spanID":"2"}]},
        {"spanID":"4","operationName":"z","startTime":1700000000000003,"duration":5,"processID":"p",
            "references":[{"refType":"CHILD_OF","traceID":"7","spanID":"4"}]}]}"#;
    let set = read("jaeger.json", jaeger.as_bytes());
    let trace = &set.traces[0];
    assert_eq!((set.files[0].spans, set.assembly.duplicates, set.assembly.cycles_broken), (5, 1, 2));
    assert_eq!(trace.spans[0].duration_ns, 9_000, "the longer one is kept");
    assert_eq!(trace.parent, [None, None, Some(1), None]);
}

#[test]
fn zipkin_halves_with_one_id_become_caller_and_callee() {
    // The short id is the lower half of the long one. The callee's own child names the shared id as its parent.
    let zipkin = r#"[[
        {"traceId":"0af7651916cd43dd8448eb211c80319c","id":"1","kind":"SERVER","name":"get","timestamp":1700000000000000,"duration":90,
            "localEndpoint":{"serviceName":"web","ipv4":"10.0.0.1","port":80}},
        {"traceId":"8448eb211c80319c","id":"2","parentId":"1","kind":"CLIENT","name":"get","timestamp":1700000000000010,"duration":50,
            "localEndpoint":{"serviceName":"web"},"remoteEndpoint":{"serviceName":"cart"}},
        {"traceId":"8448eb211c80319c","id":"2","parentId":"1","kind":"SERVER","name":"get","timestamp":1700000000000020,"duration":30,
            "localEndpoint":{"serviceName":"cart"},"shared":true,"tags":{"error":""}},
        {"traceId":"8448eb211c80319c","id":"3","parentId":"2","kind":"CLIENT","name":"read",
            "localEndpoint":{"serviceName":"cart"},"remoteEndpoint":{"serviceName":"redis"}}]]"#;
    let set = read("zipkin.json", zipkin.as_bytes());
    assert_eq!((set.files[0].traces, set.traces.len(), set.assembly.short_ids_joined), (1, 1, 1));
    let trace = &set.traces[0];
    let sides: Vec<(&str, Kind)> = trace.spans.iter().map(|span| (&*span.service, span.kind)).collect();
    assert_eq!(sides, [("web", Kind::Server), ("web", Kind::Client), ("cart", Kind::Server), ("cart", Kind::Client)]);
    assert_eq!(trace.parent, [None, Some(0), Some(1), Some(2)]);
    assert_eq!(trace.spans[2].status, Status::Error);
    assert_eq!(trace.spans[3].start_ns, trace.spans[2].start_ns, "without a time of its own it gets its parent's");
    assert_eq!(&*trace.spans[0].instance, "10.0.0.1:80");
    assert_eq!((trace.spans[3].peer.as_deref(), trace.spans[3].peer_kind), (Some("redis"), PeerKind::Database));
}

#[test]
fn endless_names_are_cut_and_counted() {
    let set = read("trace", otlp_span(1, &"é".repeat(1 << 20), &[]).as_bytes());
    assert_eq!(set.traces[0].spans[0].operation.len(), 4096);
    assert_eq!(set.files[0].mended.values().sum::<u64>(), 1);
}

fn strict() -> ReadOptions {
    ReadOptions { strict: true, ..ReadOptions::default() }
}

fn read_with(options: ReadOptions, name: &str, bytes: &[u8]) -> Result<TraceSet, InputErrors> {
    let mut reader = Reader::new(options);
    reader.read(name, bytes)?;
    Ok(reader.finish())
}

fn read(name: &str, bytes: &[u8]) -> TraceSet {
    read_with(ReadOptions::default(), name, bytes).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The text of the error that an input is refused with.
fn refusal(options: ReadOptions, name: &str, bytes: &[u8]) -> String {
    read_with(options, name, bytes).expect_err("refused").to_string()
}

fn shared_bytes(file: &str) -> Option<Vec<u8>> {
    shared(&format!("data/{file}")).map(|path| fs::read(path).expect("a file that is there can be read"))
}

fn spans(set: &TraceSet) -> impl Iterator<Item = &Span> {
    set.traces.iter().flat_map(|trace| &trace.spans)
}

fn all_spans(set: &TraceSet) -> Vec<&Span> {
    spans(set).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

/// An export of one span of `service`. Its id is one more than its parent's, or 1.
fn otlp(trace: u32, service: &str, parent: &[u8]) -> String {
    let parent_id = parent.first().map_or(String::new(), |id| format!(r#""parentSpanId":"{id:016x}","#));
    let id = parent.first().map_or(1, |id| id + 1);
    let start = 1_700_000_000_000_000_000 + u64::from(trace) * 1_000_000 + u64::from(id);
    format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{service}"}}}}]}},"scopeSpans":[{{"scope":{{"name":"t"}},"spans":[{{"traceId":"{trace:032x}","spanId":"{id:016x}",{parent_id}"name":"op","kind":2,"startTimeUnixNano":"{start}","endTimeUnixNano":"{}","status":{{}}}}]}}]}}]}}"#,
        start + 900
    )
}

/// An export of one span with these attributes, all of them text.
fn otlp_span(kind: u8, name: &str, attributes: &[(&str, &str)]) -> String {
    let attributes: Vec<String> =
        attributes.iter().map(|(key, value)| format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#)).collect();
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{:032x}","spanId":"{:016x}","name":"{name}","kind":{kind},"attributes":[{}]}}]}}]}}]}}"#,
        1,
        1,
        attributes.join(",")
    )
}

/// The same JSON over many lines.
fn reformat(text: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(text).expect("valid JSON");
    serde_json::to_string_pretty(&value).expect("any value can be written")
}
