//! Damaged traces: every reader takes what it can, and nothing panics, hangs or eats memory, up to the learned model.
//!
//! Each reader has its specimens, generated and real ones, and its own target. `FORESHOCK_CASES` says how many cases each gets (2,000);
//! `.ci/fuzz` runs 100,000.

use std::fs;
use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use models::format::{read_model, write_model};
use models::learn::{LearnOptions, learn};
use models::trace::{CsvMap, Format, Limits, ReadOptions, Reader, TraceSet};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};

use crate::summaries::METRICS;
use crate::support::shared;

/// Real files are used up to this length.
const LONGEST: usize = 12_000;

/// One change of some bytes: where (in 1/65536 of the length), how.
#[derive(Clone, Debug)]
enum Mutation {
    Put(u16, u8),
    Insert(u16, Vec<u8>),
    Remove(u16, u8),
    Cut(u16),
    Repeat(u16, u8),
    /// The next run of digits becomes another number.
    Number(u16, &'static str),
    /// The next word becomes what another one is: ids meet, parents run in circles, services swap.
    Word(u16, u16),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let telling = prop::sample::select(vec![
        b"{".to_vec(),
        b"}]".to_vec(),
        b"\"".to_vec(),
        b"\\".to_vec(),
        b"\n".to_vec(),
        b"\n{".to_vec(),
        b"null".to_vec(),
        b"-1e999".to_vec(),
        b",{},".to_vec(),
        vec![b'['; 200],
        vec![0xff; 12],
        vec![0x0a, 0xff, 0xff, 0xff, 0x7f],
        vec![0x0a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
    ]);
    let number = prop::sample::select(vec![
        "0",
        "1",
        "-1",
        "-9223372036854775808",
        "9223372036854775807",
        "18446744073709551615",
        "7258118400000000000",
        "7258118400000001",
        "253402300800000000000",
        "1e400",
        "0.5",
        "00",
        "1700000000000000",
    ]);
    prop_oneof![
        2 => (any::<u16>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Put(at, byte)),
        2 => (any::<u16>(), telling).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => (any::<u16>(), any::<u8>()).prop_map(|(at, length)| Mutation::Remove(at, length)),
        1 => any::<u16>().prop_map(Mutation::Cut),
        1 => (any::<u16>(), any::<u8>()).prop_map(|(at, length)| Mutation::Repeat(at, length)),
        3 => (any::<u16>(), number).prop_map(|(at, number)| Mutation::Number(at, number)),
        3 => (any::<u16>(), any::<u16>()).prop_map(|(from, to)| Mutation::Word(from, to)),
    ]
}

/// The next run of bytes of a kind, from a place on.
fn run(bytes: &[u8], at: usize, kind: fn(&u8) -> bool) -> std::ops::Range<usize> {
    let begin = at + bytes[at..].iter().position(kind).unwrap_or(bytes.len() - at);
    let end = begin + bytes[begin..].iter().position(|byte| !kind(byte)).unwrap_or(bytes.len() - begin);
    begin..end
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let place = |at: u16| bytes.len() * usize::from(at) / 65_536;
    match mutation {
        Mutation::Put(at, byte) => {
            let at = place(*at);
            if let Some(slot) = bytes.get_mut(at) {
                *slot = *byte;
            }
        }
        Mutation::Insert(at, more) => {
            let at = place(*at);
            bytes.splice(at..at, more.iter().copied());
        }
        Mutation::Remove(at, length) => {
            let at = place(*at);
            let end = (at + usize::from(*length)).min(bytes.len());
            bytes.drain(at..end);
        }
        Mutation::Cut(at) => bytes.truncate(place(*at)),
        Mutation::Repeat(at, length) => {
            let at = place(*at);
            let end = (at + usize::from(*length)).min(bytes.len());
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        Mutation::Number(at, number) => {
            let digits = run(bytes, place(*at), u8::is_ascii_digit);
            bytes.splice(digits, number.bytes());
        }
        Mutation::Word(from, to) => {
            let word = bytes[run(bytes, place(*from), u8::is_ascii_alphanumeric)].to_vec();
            bytes.splice(run(bytes, place(*to), u8::is_ascii_alphanumeric), word);
        }
    }
}

/// What is always true of what was read; and that it teaches something sensible, which can be written and read again, or is refused.
fn survives(bytes: &[u8], map: Option<&CsvMap>) -> Result<(), TestCaseError> {
    let limits = Limits { value_bytes: 1 << 20, frame_bytes: 1 << 20, ..Limits::default() };
    for strict in [true, false] {
        let options = ReadOptions { strict, csv_map: map.cloned(), limits: limits.clone(), ..ReadOptions::default() };
        let Some(set) = read(&options, bytes) else { continue };
        let mut spans = 0;
        for trace in &set.traces {
            prop_assert_eq!((trace.spans.len(), trace.spans.len()), (trace.parent.len(), trace.orphan.len()));
            spans += trace.spans.len() as u64;
            for first in 0..trace.spans.len() {
                let (mut at, mut steps) = (first, 0);
                while let Some(up) = trace.parent[at] {
                    at = up as usize;
                    steps += 1;
                    prop_assert!(steps <= trace.spans.len(), "a circle of parents");
                }
            }
        }
        // A record of Zipkin's first version holds a span of each service that speaks in it.
        let one_each = set.files[0].format != Format::ZipkinV1;
        prop_assert!(!one_each || spans <= set.files[0].spans, "{} of {:?}", spans, set.files[0]);
        if strict {
            prop_assert_eq!(set.files[0].skipped, 0);
            continue;
        }
        if let Ok(lesson) = learn(&set, &LearnOptions::default()) {
            if let Err(errors) = models::check::check(&lesson.model) {
                return Err(TestCaseError::fail(format!("a learned model is not sound: {errors}")));
            }
            match read_model("learned.yaml", write_model(&lesson.model).as_bytes()) {
                Ok(again) => prop_assert!(again == lesson.model, "a learned model is read as another one"),
                Err(errors) => return Err(TestCaseError::fail(format!("a learned model cannot be read: {errors}"))),
            }
        }
        let few =
            read(&ReadOptions { limits: Limits { kept_spans: 7, trace_spans: 3, ..limits.clone() }, ..options.clone() }, bytes);
        if let Some(few) = few {
            prop_assert!(few.spans() <= 7);
            // Spans of traces that are not kept are looked at less closely.
            let (of_few, of_all) = (few.files[0].spans, set.files[0].spans);
            prop_assert!((of_all..=of_all + set.files[0].skipped).contains(&of_few), "{} and {}", of_few, of_all);
        }
    }
    Ok(())
}

fn read(options: &ReadOptions, bytes: &[u8]) -> Option<TraceSet> {
    let mut reader = Reader::new(options.clone());
    reader.read("damaged", bytes).ok()?;
    Some(reader.finish())
}

/// Damages the specimens in as many ways as are asked for.
fn target(specimens: Vec<Vec<u8>>) {
    target_of(specimens, None);
}

/// The same for tables with a map.
fn target_of(specimens: Vec<Vec<u8>>, map: Option<&CsvMap>) {
    for bytes in &specimens {
        survives(bytes, map).unwrap_or_else(|why| panic!("what is not damaged is read: {why}"));
    }
    let cases = std::env::var("FORESHOCK_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000);
    let config = ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 2_000, ..ProptestConfig::default() };
    let case = (any::<prop::sample::Index>(), prop::collection::vec(mutation(), 1..6));
    let result = TestRunner::new(config).run(&case, |(which, mutations)| {
        let mut bytes = specimens[which.index(specimens.len())].clone();
        for mutation in &mutations {
            mutate(&mut bytes, mutation);
        }
        survives(&bytes, map)
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

/// The beginnings of real files, where they are.
fn real(files: &[&str]) -> Vec<Vec<u8>> {
    let read = |file: &&str| {
        let mut bytes = fs::read(shared(&format!("data/traces/{file}"))?).expect("a file that is there can be read");
        if file.ends_with(".gz") {
            let packed = std::mem::take(&mut bytes);
            let mut unpacked = GzDecoder::new(packed.as_slice()).take(LONGEST as u64);
            unpacked.read_to_end(&mut bytes).expect("it is whole");
        }
        bytes.truncate(LONGEST);
        Some(bytes)
    };
    files.iter().filter_map(read).collect()
}

/// A call of `b` by `a` in two traces, as a line each.
fn otlp_json() -> Vec<u8> {
    let span = |trace: u32, id: u32, parent: u32, kind: u8, rest: &str| {
        let start = 1_700_000_000_000_000_000 + u64::from(trace * 1_000_000 + id * 1_000);
        format!(
            r#"{{"traceId":"{trace:032x}","spanId":"{id:016x}","parentSpanId":"{parent:016x}","name":"op","kind":{kind},"startTimeUnixNano":"{start}","endTimeUnixNano":"{}",{rest}"status":{{"code":2,"message":"timeout"}}}}"#,
            start + 900_000
        )
    };
    let resource = |service: &str, spans: &[String]| {
        format!(
            r#"{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{service}"}}}}]}},"scopeSpans":[{{"scope":{{"name":"t"}},"spans":[{}]}}]}}"#,
            spans.join(",")
        )
    };
    let call = r#""attributes":[{"key":"rpc.system","value":{"stringValue":"grpc"}},{"key":"rpc.method","value":{"stringValue":"shop.B/Get"}},{"key":"http.request.resend_count","value":{"intValue":"1"}}],"links":[{"traceId":"00000000000000000000000000000001","spanId":"0000000000000001"}],"#;
    let line = |trace| {
        let a = [span(trace, 1, 0, 2, ""), span(trace, 2, 1, 3, call), span(trace, 3, 1, 3, call)];
        let b = [span(trace, 4, 2, 2, ""), span(trace, 5, 4, 4, ""), span(trace, 6, 5, 5, "")];
        format!(r#"{{"resourceSpans":[{},{}]}}"#, resource("a", &a), resource("b", &b))
    };
    [line(1), line(2)].join("\n").into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

#[test]
fn damaged_otlp_json() {
    let mut specimens = real(&[
        "otlp-json/otel-proto-example.json",
        "otlp-json/links.json",
        "otlp-json/enum-names-sibling-errors.json",
        "otlp-json/hotrod-fanout-retries.json",
        "tempo-json/bookinfo-trace-batches.json",
        "tempo-json/bookinfo-search.json",
    ]);
    specimens.push(otlp_json());
    target(specimens);
}

#[test]
fn damaged_otlp_protobuf() {
    let mut specimens = real(&[
        "otlp-protobuf/hipstershop-first-resources.bare.binpb",
        "otlp-protobuf/hipstershop-first-resources.varint-delimited.binpb",
    ]);
    let mut traffic = Vec::new();
    let mut made = crate::scale::traffic::Traffic::new(20, crate::scale::traffic::Encoding::Protobuf);
    made.read_to_end(&mut traffic).expect("memory takes all");
    specimens.push(traffic);
    target(specimens);
}

#[test]
fn damaged_jaeger_json() {
    let mut specimens = real(&[
        "jaeger-json/crisp-err-pattern4.json",
        "jaeger-json/crisp-18.json",
        "jaeger-json/follows-from.json",
        "jaeger-json/crisp-err-pattern1.json",
    ]);
    let trace = r#"{"data":[{"traceID":"7","processes":{"p":{"serviceName":"a","tags":[{"key":"ip","type":"string","value":"10.0.0.1"}]},"q":{"serviceName":"b"}},"spans":[
        {"traceID":"7","spanID":"1","operationName":"x","startTime":1700000000000000,"duration":50,"processID":"p","tags":[{"key":"span.kind","value":"server"}]},
        {"traceID":"7","spanID":"2","operationName":"y","startTime":1700000000000010,"duration":30,"processID":"p","references":[{"refType":"CHILD_OF","traceID":"7","spanID":"1"}],
            "tags":[{"key":"span.kind","value":"client"},{"key":"error","type":"bool","value":true},{"key":"sampler.type","value":"probabilistic"},{"key":"sampler.param","value":0.1}]},
        {"traceID":"7","spanID":"3","operationName":"z","startTime":1700000000000015,"duration":20,"processID":"q","references":[{"refType":"CHILD_OF","traceID":"7","spanID":"2"}],
            "logs":[{"timestamp":1700000000000016,"fields":[{"key":"error.object","type":"string","value":"timeout"}]}]}]}]}"#;
    specimens.push(trace.as_bytes().to_vec());
    target(specimens);
}

#[test]
fn damaged_zipkin_v2() {
    let mut specimens =
        real(&["zipkin-json/yelp.json", "zipkin-json/skew.json", "zipkin-json/messaging.json", "zipkin-json/messaging2.json"]);
    let spans = r#"[[{"traceId":"8448eb211c80319c","id":"1","kind":"SERVER","name":"get","timestamp":1700000000000000,"duration":90,
            "localEndpoint":{"serviceName":"web","ipv4":"10.0.0.1","port":80}},
        {"traceId":"8448eb211c80319c","id":"2","parentId":"1","kind":"CLIENT","name":"get","timestamp":1700000000000010,"duration":50,
            "localEndpoint":{"serviceName":"web"},"remoteEndpoint":{"serviceName":"cart"}},
        {"traceId":"8448eb211c80319c","id":"2","parentId":"1","kind":"SERVER","name":"get","timestamp":1700000000000020,"duration":30,
            "localEndpoint":{"serviceName":"cart"},"shared":true,"tags":{"error":"","http.status_code":"503"}}]]"#;
    specimens.push(spans.as_bytes().to_vec());
    target(specimens);
}

#[test]
fn damaged_zipkin_v1() {
    let mut specimens = real(&["zipkin-json/trainticket.v1.json"]);
    let spans = r#"[[{"traceId":"8448eb211c80319c","id":"2","parentId":"1","name":"get","timestamp":1700000000000010,"duration":50,"annotations":[
        {"timestamp":1700000000000010,"value":"cs","endpoint":{"serviceName":"web","ipv4":"10.0.0.1"}},
        {"timestamp":1700000000000020,"value":"sr","endpoint":{"serviceName":"cart"}},
        {"timestamp":1700000000000040,"value":"ss","endpoint":{"serviceName":"cart"}},
        {"timestamp":1700000000000060,"value":"cr","endpoint":{"serviceName":"web"}}],
        "binaryAnnotations":[{"key":"http.path","value":"/a/17","endpoint":{"serviceName":"web"}},{"key":"sa","value":true,"endpoint":{"serviceName":"cart"}}]}]]"#;
    specimens.push(spans.as_bytes().to_vec());
    target(specimens);
}

#[test]
fn damaged_kiali_graphs() {
    let mut specimens = real(&[
        "kiali-json/app_graph.json",
        "kiali-json/service_graph.json",
        "kiali-json/versioned_app_graph.json",
        "kiali-json/workload_graph.json",
    ]);
    let graph = r#"{"timestamp":1523364075,"duration":60,"graphType":"workload","elements":{"nodes":[
        {"data":{"id":"u","nodeType":"unknown","workload":"unknown","isRoot":true}},
        {"data":{"id":"w","nodeType":"workload","workload":"web","namespace":"a"}},
        {"data":{"id":"s","nodeType":"service","service":"cart","namespace":"a"}},
        {"data":{"id":"b","nodeType":"box","app":"cart","namespace":"a","isBox":"app"}},
        {"data":{"id":"1","nodeType":"workload","workload":"cart-v1","namespace":"a","parent":"b"}},
        {"data":{"id":"2","nodeType":"app","app":"db","workload":"db-v1","version":"v1","namespace":"a","rate":"4.000"}}],"edges":[
        {"data":{"source":"u","target":"w","traffic":{"protocol":"http","rates":{"http":"10.00"},"responses":{"200":{"flags":{"-":"90.0"}}}},"responseTime":"300"}},
        {"data":{"source":"w","target":"s","traffic":{"protocol":"grpc","rates":{"grpc":"8.00"}}}},
        {"data":{"source":"s","target":"1","traffic":{"protocol":"grpc","rates":{"grpc":"6.00","grpcErr":"3.00"}},"responseTime":"200"}},
        {"data":{"source":"1","target":"2","rate":"4.000","rate5XX":"1.000","percentErr":"25.00"}},
        {"data":{"source":"w","target":"2","traffic":{"protocol":"tcp","rates":{"tcp":"400.00"}}}}]}}"#;
    specimens.push(graph.as_bytes().to_vec());
    target(specimens);
}

#[test]
fn damaged_dependencies() {
    let mut specimens = real(&["jaeger-json/dependencies-large.json.gz"]);
    let jaeger = r#"{"data":[{"parent":"web","child":"cart","callCount":600},{"parent":"web","child":"cart","callCount":264},
        {"parent":"cart","child":"db","callCount":1728},{"parent":"db","child":"web","callCount":3},{"parent":"db","child":"db","callCount":1}]}"#;
    let zipkin =
        r#"[{"parent":"web","child":"cart","callCount":120,"errorCount":30},{"parent":"web","child":"db","callCount":60}]"#;
    specimens.extend([jaeger, zipkin].map(|text| text.as_bytes().to_vec()));
    target(specimens);
}

#[test]
fn damaged_answers_of_prometheus() {
    let instant = br#"{"status":"success","data":{"resultType":"vector","result":[
        {"metric":{"client":"user","server":"web"},"value":[1000,"5"]},{"metric":{"client":"web","server":"db"},"value":[1000.5,"1e1"]}]}}"#;
    target([METRICS, instant].map(<[u8]>::to_vec).into());
}

#[test]
fn damaged_tables_with_a_header_that_is_known() {
    let mut specimens = real(&["csv/onlineboutique-faultfree-1min.csv.gz", "csv/deathstarbench-parent-child-pairs.csv.gz"]);
    let spans = "TraceID,SpanID,ParentID,PodName,OperationName,StartTimeUnixNano,EndTimeUnixNano,Duration
01db,ab87,root,front-579b9bff58-t2dbm,shop.Front/Recv.,1661273974730641486,1661273975415194516,684553
01db,dc6c,ab87,front-579b9bff58-t2dbm,shop.Cart/Get,1661273974730744351,1661273974737125575,6381
01db,0b75,dc6c,cart-579b9bff58-wc2lz,shop.Cart/Get,1661273974731147915,1661273974736261762,5113
";
    let pairs = "traceId,traceTime,startTime,endTime,parentId,childId,childOperation,parentOperation,childMS,childPod,parentMS,parentPod,parentDuration
7,1700000000000000,1700000000000010,1700000000000040,1,2,read,get,store,store-0,web,web-0,90
7,1700000000000000,1700000000000050,1700000000000070,1,3,read,get,store,store-1,web,web-0,90
";
    specimens.extend([spans, pairs].map(|text| text.as_bytes().to_vec()));
    target(specimens);
}

#[test]
fn damaged_tables_with_a_map() {
    let text = "\"Trace\";Id;Up;Who;What;Begin;Took;State;Role;To
t-1;1;;web;GET /cart/17;1700000000.000;0.250;200;server;
t-1;2;1;web;GET;1700000000.010;0.200;503;client;cart
t-1;3;2;cart;\"GET; \"\"/cart/17\"\"\";1700000000.020;0.150;error;server;
t-2;1;;web;GET /;1700000001.5;0.1;2;server;
";
    let map =
        "trace=Trace,span=Id,parent=Up,service=Who,operation=What,start=Begin:s,duration=Took:s,status=State,kind=Role,peer=To";
    let map = CsvMap::parse(map).expect("a map");
    target_of(vec![text.as_bytes().to_vec()], Some(&map));
}

#[test]
fn damaged_packing() {
    let text = otlp_json();
    let zstd = ruzstd::encoding::compress_to_vec(&text[..], ruzstd::encoding::CompressionLevel::Fastest);
    let mut frame_of_zstd = (zstd.len() as u32).to_be_bytes().to_vec();
    frame_of_zstd.extend(&zstd);
    target(vec![gzip(&text), gzip(&gzip(&text)), zstd, frame_of_zstd, [gzip(&text), gzip(b"\n"), gzip(&text)].concat()]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), head in 0..6usize) {
        let heads: [&[u8]; 6] = [b"", b"{\"resourceSpans\":[", &[0x0a], &[0, 0, 0, 90, 0x0a], &[0x1f, 0x8b, 8], &[0x28, 0xb5, 0x2f, 0xfd]];
        survives(&[heads[head], &bytes].concat(), None)?;
    }
}
