//! Tables of spans, names of services, and samples that are not fair.

use std::fs;

use models::learn::{Finding, LearnOptions, Unfair, learn};
use models::param::Source;
use models::trace::{CsvMap, Format, Kind, NameRule, NameRules, ReadOptions, Reader, Status, TraceSet};

use crate::support::shared;

fn read_with(options: ReadOptions, bytes: &[u8]) -> Result<TraceSet, String> {
    let mut reader = Reader::new(options);
    reader.read("spans.csv", bytes).map_err(|errors| errors.to_string())?;
    Ok(reader.finish())
}

fn real(file: &str) -> Option<Vec<u8>> {
    shared(&format!("data/traces/{file}")).map(|path| fs::read(path).expect("a file that is there can be read"))
}

#[test]
fn tables_of_nezha_are_read_with_services_in_the_place_of_pods() {
    for (file, traces, spans) in [("faultfree", 502, 22_969), ("adservice-cpu", 464, 21_430)] {
        let Some(bytes) = real(&format!("csv/onlineboutique-{file}-1min.csv.gz")) else { continue };
        let set = read_with(ReadOptions::default(), &bytes).expect("it is read");
        let notes = &set.files[0];
        assert_eq!((notes.format, notes.traces, notes.spans, notes.services), (Format::Csv, traces, spans, 10), "{file}");
        assert_eq!((notes.skipped, set.traces.len() as u64), (0, traces));
        let services = set.services();
        assert!(services.contains(&"adservice") && services.contains(&"productcatalogservice"), "{services:?}");
        let spans = || set.traces.iter().flat_map(|trace| &trace.spans);
        assert!(spans().all(|span| span.instance.starts_with(&*span.service) && span.instance.len() > span.service.len()));
        assert!(spans().any(|span| span.kind == Kind::Server), "sides follow from the pods");
        let lesson = learn(&set, &LearnOptions::default()).expect("it teaches");
        assert_eq!(lesson.model.services.len(), 10, "{:?}", lesson.model.services.keys());
    }
}

#[test]
fn a_service_takes_as_long_as_the_table_beside_it_says() {
    let (Some(bytes), Some(table)) =
        (real("csv/onlineboutique-faultfree-1min.csv.gz"), real("csv/onlineboutique-adservice-cpu-1min.observed.csv"))
    else {
        return;
    };
    let set = read_with(ReadOptions::default(), &bytes).expect("it is read");
    let lesson = learn(&set, &LearnOptions::default()).expect("it teaches");
    let table = String::from_utf8(table).expect("text");
    let mut rows = table.lines();
    let header: Vec<&str> = rows.next().expect("a header").split(',').collect();
    let mut compared = 0;
    for row in rows {
        let row: Vec<&str> = row.split(',').collect();
        let get = |name: &str| {
            header.iter().position(|h| *h == name).and_then(|i| row.get(i)).and_then(|text| text.parse::<f64>().ok())
        };
        let Some(service) = lesson.model.services.get(row[0]).and_then(|service| service.observed.as_ref()) else { continue };
        let calls = header.iter().find(|name| name.contains("calls") && !name.contains("fault_") || **name == "calls");
        let Some(calls) = calls.and_then(|name| get(name)) else { continue };
        assert!(
            (service.calls as f64 - calls).abs() <= 0.02 * calls + 2.0,
            "{}: {} calls, the table has {calls}",
            row[0],
            service.calls
        );
        compared += 1;
    }
    assert!(compared >= 8, "{header:?}");
}

#[test]
fn a_row_for_each_pair_gives_the_spans_of_both() {
    let Some(bytes) = real("csv/deathstarbench-parent-child-pairs.csv.gz") else { return };
    let set = read_with(ReadOptions::default(), &bytes).expect("it is read");
    let notes = &set.files[0];
    // 640 rows, and the 20 roots that have none of their own.
    assert_eq!((notes.format, notes.traces, notes.spans, notes.services, notes.skipped), (Format::Csv, 20, 660, 12, 0));
    assert_eq!((set.assembly.roots, set.assembly.orphans), (20, 0));
    let Some(jaeger) = real("jaeger-json/deathstarbench-socialnetwork.json.gz") else { return };
    let same = read_with(ReadOptions::default(), &jaeger).expect("it is read");
    assert_eq!((same.files[0].spans, same.services()), (660, set.services()), "the same recording in its other form");
}

const TABLE: &str = "\"Trace\";Id;Up;Who;What;Begin;Took;State;Role
t-1;1;;web;GET /cart/17;1700000000.000;0.250;200;server
t-1;2;1;web;GET;1700000000.010;0.200;503;client
t-1;3;2;cart;GET /cart/17;1700000000.020;0.150;error;server
t-2;1;;web;GET /;1700000001.5;soon;200;server
t-2;2;;web;GET /;1700000001.5;0.1
";

fn map() -> CsvMap {
    CsvMap::parse("trace=Trace,span=Id,parent=Up,service=Who,operation=What,start=Begin:s,duration=Took:s,status=State,kind=Role")
        .expect("a map")
}

#[test]
fn any_table_is_read_with_a_map() {
    let options = ReadOptions { csv_map: Some(map()), ..ReadOptions::default() };
    let set = read_with(options.clone(), TABLE.as_bytes()).expect("it is read");
    let spans: Vec<_> = set.traces[0].spans.iter().map(|s| (&*s.service, s.kind, s.status, s.duration_ns / 1_000_000)).collect();
    assert_eq!(
        spans,
        [
            ("web", Kind::Server, Status::Ok, 250),
            ("web", Kind::Client, Status::Error, 200),
            ("cart", Kind::Server, Status::Error, 150)
        ]
    );
    assert_eq!(&*set.traces[0].spans[0].operation, "GET /cart/{id}");
    let skipped: Vec<String> = set.files[0].skipped_records.iter().map(|s| format!("{}: {}", s.place, s.reason)).collect();
    assert_eq!(skipped, ["line 5: \"soon\" is not a time", "line 6: 7 columns where the header has 9"]);
    let strict = ReadOptions { strict: true, ..options };
    assert!(read_with(strict, TABLE.as_bytes()).expect_err("strict").starts_with("error: spans.csv:5"));
}

#[test]
fn a_table_that_nobody_knows_says_how_to_map_it() {
    expect_test::expect![[r#"
        error: spans.csv:1
          found:    a table with the columns Trace, Id, Up, Who, What, Begin, Took, State, Role
          expected: a table of spans whose header is known, or a word on which column is what
          help:     --csv-map 'trace=COLUMN,span=COLUMN,parent=COLUMN,service=COLUMN,operation=COLUMN,start=COLUMN:us,duration=COLUMN:us'"#]]
    .assert_eq(&read_with(ReadOptions::default(), TABLE.as_bytes()).expect_err("unknown"));
    let wrong = CsvMap::parse("trace=Trase,span=Id,service=Who,start=Begin,end=Begin").expect("a map");
    let error =
        read_with(ReadOptions { csv_map: Some(wrong), ..ReadOptions::default() }, TABLE.as_bytes()).expect_err("no column");
    assert!(error.contains("found:    no column Trase") && error.contains("did you mean Trace?"), "{error}");
}

#[test]
fn an_open_quote_costs_the_rest_and_not_the_memory() {
    let mut text = TABLE.lines().take(2).collect::<Vec<_>>().join("\n");
    text.push_str("\nt-9;\"");
    text.push_str(&"x".repeat(20 << 20));
    let options = ReadOptions { csv_map: Some(map()), ..ReadOptions::default() };
    let set = read_with(options, text.as_bytes()).expect("the first row is fine");
    assert_eq!((set.spans(), set.files[0].skipped), (1, 1));
    assert!(set.files[0].skipped_records[0].reason.contains("is a quote left open?"), "{:?}", set.files[0].skipped_records);
}

#[test]
fn mutated_tables_never_panic() {
    let options = ReadOptions { csv_map: Some(map()), ..ReadOptions::default() };
    let bytes = TABLE.as_bytes();
    for at in 0..bytes.len() {
        for with in [&b"\""[..], b"\n", b";", b"\xff\xfe", b"99999999999999999999", b""] {
            let mutated = [&bytes[..at], with, &bytes[at + 1..]].concat();
            let _ = read_with(options.clone(), &mutated);
        }
    }
}

fn otlp(spans: &str, service: &str) -> String {
    format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{service}"}}}}]}},"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#
    )
}

/// A span of one millisecond per unit of `length`; `more` are further JSON members.
fn span(trace: u64, id: u64, kind: u8, length: u64, more: &str) -> String {
    let start = 1_700_000_000_000_000_000 + trace * 1_000_000_000;
    format!(
        r#"{{"traceId":"{trace:032x}","spanId":"{id:016x}","name":"op","kind":{kind},"startTimeUnixNano":"{start}","endTimeUnixNano":"{}"{more}}}"#,
        start + length * 1_000_000
    )
}

#[test]
fn names_of_one_service_are_joined_and_listed() {
    let peer = r#","attributes":[{"key":"peer.service","value":{"stringValue":"oteldemo.CartService"}}],"parentSpanId":"0000000000000001""#;
    let text = [
        otlp(&[span(1, 1, 2, 9, ""), span(1, 2, 3, 5, peer)].join(","), "web-579f59597d-wc2lz"),
        otlp(&span(2, 1, 2, 9, ""), "cartservice"),
        otlp(&span(3, 1, 2, 9, ""), "CartService"),
    ]
    .join("\n");
    let set = read_with(ReadOptions::default(), text.as_bytes()).expect("read");
    assert_eq!(set.services(), ["cartservice", "web"]);
    let joined: Vec<(&str, &str, NameRule)> = set.merged_names.iter().map(|m| (&*m.from, &*m.into, m.rule)).collect();
    assert_eq!(
        joined,
        [
            ("CartService", "cartservice", NameRule::Case),
            ("oteldemo.CartService", "cartservice", NameRule::Rpc),
            ("web-579f59597d-wc2lz", "web", NameRule::Pod)
        ]
    );
    let lesson = learn(&set, &LearnOptions::default()).expect("it teaches");
    let said = lesson.findings.iter().find(|f| matches!(f, Finding::NamesMerged { .. })).expect("it is said").to_string();
    assert_eq!(
        said,
        "names taken as one service (--names changes that): cartservice = CartService (spelling), oteldemo.CartService (RPC service); \
         web = web-579f59597d-wc2lz (pod)"
    );
    let names = NameRules::read("names.yaml", b"version: 1\nnames: { basket: [cartservice, CartService] }\n").expect("rules");
    let set = read_with(ReadOptions { names, ..ReadOptions::default() }, text.as_bytes()).expect("read");
    assert_eq!(set.services(), ["basket", "web"]);
}

#[test]
fn shares_of_each_trace_are_undone_and_unfair_samples_named() {
    let with_state = |state: &str| format!(r#","traceState":"vendor=x,ot=th:{state};rv:ffffffffffffff""#);
    let lesson = |spans: Vec<String>| {
        let set = read_with(ReadOptions::default(), otlp(&spans.join(","), "web").as_bytes()).expect("read");
        learn(&set, &LearnOptions::default()).expect("it teaches")
    };
    // th:8 keeps one half, th:c a quarter; every trace counts by its own.
    let half = lesson((0..60).map(|t| span(t + 1, 1, 2, 5, &with_state("8"))).collect());
    let mixed = lesson((0..60).map(|t| span(t + 1, 1, 2, 5, &with_state(if t % 2 == 0 { "8" } else { "c" }))).collect());
    let rate = |lesson: &models::learn::Lesson| lesson.model.workload["users"].rate.value;
    assert!((rate(&half) - 2.0 * 60.0 / 59.0).abs() < 0.01, "{}", rate(&half));
    assert!((rate(&mixed) - 3.0 * 60.0 / 59.0).abs() < 0.01, "{}", rate(&mixed));
    assert!(mixed.findings.iter().any(|f| matches!(f, Finding::UnevenSampling { .. })));

    let failed = r#","status":{"code":2}"#;
    let preferred: Vec<String> =
        (0..60)
            .map(|t| {
                if t % 3 == 0 {
                    span(t + 1, 1, 2, 5, &(with_state("0") + failed))
                } else {
                    span(t + 1, 1, 2, 5, &with_state("c"))
                }
            })
            .collect();
    let unfair = lesson(preferred);
    let found = unfair.findings.iter().find_map(|f| if let Finding::Unfair(unfair) = f { Some(unfair.clone()) } else { None });
    assert_eq!(found, Some(Unfair::Outcome { what: "failed", preferred: 1.0, others: 0.25 }));

    let tagged = |key: &str, value: &str| {
        let attributes = format!(r#","attributes":[{{"key":"{key}","value":{{"stringValue":"{value}"}}}}]"#);
        lesson((0..60).map(|t| span(t + 1, 1, 2, 5, if t < 20 { &attributes } else { "" })).collect())
    };
    for (key, value, expected) in [
        ("tailsampling.policy", "keep-errors", Unfair::Policy { traces: 20, of: 60 }),
        ("sampling.policy", "slow", Unfair::Policy { traces: 20, of: 60 }),
        ("sampler.type", "ratelimiting", Unfair::RateLimit { traces: 20, of: 60 }),
    ] {
        let lesson = tagged(key, value);
        assert!(lesson.findings.contains(&Finding::Unfair(expected)), "{key}");
        let rate = &lesson.model.workload["users"].rate;
        assert_eq!((rate.source, rate.range.map(|[low, _]| low)), (Source::Assumed, Some(rate.value)), "{key}: a lower bound");
    }
    assert!(tagged("sampler.type", "const").findings.iter().all(|f| !matches!(f, Finding::Unfair(_))));
}

#[test]
fn upper_case_ids_of_every_format_are_the_same_ids() {
    let lower = otlp(&span(0xabcdef, 0xabc, 2, 5, ""), "web");
    let upper = lower.replace("abcdef", "ABCDEF").replace("abc\"", "ABC\"");
    assert_ne!(lower, upper);
    let ids = |text: &str| {
        let set = read_with(ReadOptions::default(), text.as_bytes()).expect("read");
        (set.traces[0].id, set.traces[0].spans[0].span_id)
    };
    assert_eq!(ids(&upper), ids(&lower));
}
