//! What the fast reader takes, the other one reads alike.

use proptest::prelude::*;

use super::super::inbox::{Notes, Place};
use super::super::kept::Kept;
use super::super::names::Names;
use super::super::{Limits, otlp_json};
use super::*;

const USUAL: &str = r#"{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"cart"}},{"key":"process.pid","value":
    {"intValue":"17"}},{"key":"x","value":{"arrayValue":{"values":[{"stringValue":"a\"b"},{"intValue":1}]}}}],"droppedAttributesCount":0},
    "scopeSpans":[{"scope":{"name":"envoy","version":"1.0"},"spans":[
    {"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b7","parentSpanId":"00f067aa0ba902b6","flags":257,"name":"GET /a",
    "kind":3,"startTimeUnixNano":"1700000000000000001","endTimeUnixNano":1700000000000000901,"traceState":"ot=th:8","attributes":[
    {"key":"http.request.method","value":{"stringValue":"GET"}},{"key":"url.full","value":{"stringValue":"http://cart\u002fx:80/a?b=\u00e9\\"}},
    {"key":"http.response.status_code","value":{"intValue":503}},{"key":"error","value":{"boolValue":true}},{"value":{}}],
    "events":[{"timeUnixNano":"1700000000000000002","name":"exception","attributes":[{"key":"exception.message","value":{"stringValue":
    "connection reset"}},{"key":"error.type","value":{"stringValue":"not looked at"}}]}],
    "links":[{"traceId":"4BF92F3577B34DA6A3CE929D0E0E4737","spanId":"00f067aa0ba902b8","attributes":[]}],
    "status":{"code":2,"message":"x timeout"}},
    {"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b6","parentSpanId":"","name":"näme","kind":"SPAN_KIND_SERVER",
    "startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000000001000","status":{"code":"STATUS_CODE_OK"},"score":[0.5,{}]},
    {"traceId":"4bf92f3577b34da6a3ce929d0e0e4738","spanId":"1","name":"","startTimeUnixNano":"5","endTimeUnixNano":"4"}
    ]},{"spans":[]}],"schemaUrl":"https://opentelemetry.io/schemas/1.21.0"}"#;

fn read(fill: impl FnOnce(&mut Inbox<'_>) -> bool) -> Option<(Vec<Span>, String)> {
    let (mut names, mut kept) = (Names::default(), Kept::new(&Limits::default()));
    let mut inbox = Inbox::new("text", 0, &mut names, &mut kept, false);
    let read = fill(&mut inbox);
    let Notes { spans, services, skipped_records, mended, .. } = &inbox.notes;
    let notes = format!("{spans} {services:?} {skipped_records:?} {mended:?}");
    read.then(|| (kept.finish(&names).0.into_iter().flatten().collect(), notes))
}

/// Whether the fast reader takes the text; if it does, the other one must find the same.
fn agree(text: &[u8]) -> bool {
    let fast = read(|inbox| element(text, inbox).is_some());
    let other = read(|inbox| otlp_json::unusual_resource_spans(text, &Place::line(1), inbox).is_ok());
    if fast.is_some() {
        assert_eq!(fast, other, "{}", String::from_utf8_lossy(text));
    }
    fast.is_some()
}

#[test]
fn the_usual_is_taken_and_the_unusual_left() {
    let usual = USUAL.replace(r#""spanId":"1""#, r#""spanId":"0000000000000001""#);
    assert!(agree(usual.as_bytes()));
    assert!(!agree(USUAL.as_bytes()), "an id of one digit");
    for (from, to) in [
        ("traceId", "trace_id"),
        ("\"kind\":3", "\"kind\":null"),
        ("scopeSpans", "instrumentationLibrarySpans"),
        ("4bf92f3577b34da6a3ce929d0e0e4738", "Gs/0pqWSBPwvpdpUJgDOxQ=="),
        ("\"flags\":257", "\"flags\":0257"),
        ("\"flags\":257", "\"name\":\"twice\""),
        ("GET /a", "GET \t/a"),
        ("\\u00e9", "\\u00zz"),
        ("1700000000000000000", "9999999999999999999"),
        ("]},{\"spans\":[]}", "]},{\"spans\":[]},"),
    ] {
        assert!(usual.contains(from), "{from}");
        assert!(!agree(usual.replace(from, to).as_bytes()), "{from} {to}");
    }
}

#[test]
fn plain_text_ends_at_quotes_backslashes_and_control_characters() {
    for end in ["\"", "\\", "\n", "\u{1f}", ""] {
        for length in 0..20 {
            let text = format!("{}{end}\"\\é", "é~ !#[]z\u{7f}".repeat(3).chars().take(length).collect::<String>());
            let slow = text.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\');
            assert_eq!(Some(plain_length(text.as_bytes())), slow, "{text:?}");
        }
    }
    assert_eq!(plain_length("é~ !#[]z".as_bytes()), 9);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_taken_is_what_the_other_reader_finds(
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![
            "", "0", "1", "\"", "\\", ",", ":", "{", "}", "[", "]", "null", "true", "-", ".", "e", "_", " ", "\n", "\u{0}", "é",
            "\"x\":1,", "{},", "[],", "\"kind\":2,", "999999999999",
        ]), 0..3usize), 1..3),
    ) {
        let mut text = USUAL.replace(r#""spanId":"1""#, r#""spanId":"0000000000000001""#).into_bytes();
        for (at, with, removed) in changes {
            let at = at.index(text.len());
            let end = (at + removed).min(text.len());
            text.splice(at..end, with.bytes());
        }
        agree(&text);
    }
}
