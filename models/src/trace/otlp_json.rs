//! OTLP JSON, as exporters, the collector, Jaeger's API v3 and Tempo write it.
//!
//! You are here: `models::trace::otlp_json`. `records` hands over one element of `resourceSpans` at a time.
//! Always true: a span that cannot be read costs that span alone.
//!
//! Tolerated beyond the specification: enum names, numbers as numbers or as text, base64 ids, snake_case keys, explicit nulls,
//! `instrumentationLibrarySpans`, empty arrays and maps left out.

use std::fmt;

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine as _, alphabet};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::attributes::{Facts, Recorder, RecorderFacts, StatusCode, Value, kind_named, kind_number};
use super::inbox::{Inbox, Place, Stop};
use super::loose::{Loose, Text, hex_id, line_in, null_is_default, plain};
use super::{Kind, Span, otlp_fast};

/// One element of `resourceSpans`.
#[derive(Deserialize)]
#[serde(bound(deserialize = "S: Deserialize<'de>"))]
struct ResourceSpans<'a, S> {
    #[serde(borrow, default, deserialize_with = "null_is_default")]
    resource: Resource<'a>,
    #[serde(
        alias = "scope_spans",
        alias = "instrumentationLibrarySpans",
        alias = "instrumentation_library_spans",
        rename = "scopeSpans",
        default,
        deserialize_with = "null_is_default"
    )]
    scopes: Vec<ScopeSpans<'a, S>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resource<'a> {
    #[serde(borrow, deserialize_with = "null_is_default")]
    attributes: Vec<KeyValue<'a>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "S: Deserialize<'de>"))]
struct ScopeSpans<'a, S> {
    #[serde(
        borrow,
        default,
        alias = "instrumentationLibrary",
        alias = "instrumentation_library",
        deserialize_with = "null_is_default"
    )]
    scope: Scope<'a>,
    #[serde(default, deserialize_with = "null_is_default")]
    spans: Vec<S>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Scope<'a> {
    #[serde(borrow, deserialize_with = "null_is_default")]
    name: Text<'a>,
}

/// One span, as loosely as can be.
#[derive(Default, Deserialize)]
#[serde(default, expecting = "a span, which is an object")]
struct RawSpan<'a> {
    #[serde(borrow, rename = "traceId", alias = "trace_id")]
    trace_id: Loose<'a>,
    #[serde(borrow, rename = "spanId", alias = "span_id")]
    span_id: Loose<'a>,
    #[serde(borrow, rename = "parentSpanId", alias = "parent_span_id")]
    parent_span_id: Loose<'a>,
    #[serde(borrow, rename = "traceState", alias = "trace_state")]
    trace_state: Loose<'a>,
    #[serde(borrow)]
    name: Loose<'a>,
    #[serde(borrow)]
    kind: Loose<'a>,
    #[serde(borrow, rename = "startTimeUnixNano", alias = "start_time_unix_nano")]
    start: Loose<'a>,
    #[serde(borrow, rename = "endTimeUnixNano", alias = "end_time_unix_nano")]
    end: Loose<'a>,
    #[serde(borrow, deserialize_with = "null_is_default")]
    attributes: Vec<KeyValue<'a>>,
    #[serde(borrow, deserialize_with = "null_is_default")]
    events: Vec<Event<'a>>,
    #[serde(borrow, deserialize_with = "null_is_default")]
    links: Vec<Link<'a>>,
    #[serde(borrow, deserialize_with = "null_is_default")]
    status: RawStatus<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Event<'a> {
    #[serde(borrow, deserialize_with = "null_is_default")]
    attributes: Vec<KeyValue<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Link<'a> {
    #[serde(borrow, rename = "traceId", alias = "trace_id")]
    trace_id: Loose<'a>,
    #[serde(borrow, rename = "spanId", alias = "span_id")]
    span_id: Loose<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawStatus<'a> {
    #[serde(borrow)]
    message: Loose<'a>,
    #[serde(borrow)]
    code: Loose<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct KeyValue<'a> {
    #[serde(borrow, deserialize_with = "null_is_default")]
    key: Text<'a>,
    #[serde(borrow, deserialize_with = "null_is_default")]
    value: AnyValue<'a>,
}

/// Reads one element of `resourceSpans` that begins on `place`.
pub(crate) fn resource_spans(json: &[u8], place: &Place, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
    match otlp_fast::element(json, inbox) {
        Some(result) => result,
        None => unusual_resource_spans(json, place, inbox),
    }
}

/// The same, whatever it looks like.
pub(crate) fn unusual_resource_spans(json: &[u8], place: &Place, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
    let mut bad: Vec<(usize, usize, String)> = Vec::new();
    let parsed = serde_json::from_slice::<ResourceSpans<'_, RawSpan<'_>>>(json);
    let in_one_go = parsed.is_ok();
    if let Ok(whole) = parsed {
        let recorder = recorder(whole.resource, inbox);
        for (scope_index, scope) in whole.scopes.into_iter().enumerate() {
            for (span_index, raw) in scope.spans.into_iter().enumerate() {
                if let Err(reason) = span(raw, &scope.scope.name.0, &recorder, inbox) {
                    bad.push((scope_index, span_index, reason));
                }
            }
        }
        if bad.is_empty() {
            return Ok(());
        }
    }
    // Something in it is of the wrong shape: span by span, it costs only the spans that are. Or spans make no sense: their
    // lines are only known this way.
    let loose = match serde_json::from_slice::<ResourceSpans<'_, &RawValue>>(json) {
        Ok(loose) => loose,
        Err(error) => return inbox.skip(place.plus_lines(error.line()), plain(&error)),
    };
    let recorder = recorder(loose.resource, inbox);
    let mut bad = bad.into_iter().peekable();
    for (scope_index, scope) in loose.scopes.into_iter().enumerate() {
        for (span_index, raw) in scope.spans.into_iter().enumerate() {
            let result = if in_one_go {
                bad.next_if(|&(scope, span, _)| (scope, span) == (scope_index, span_index))
                    .map_or(Ok(()), |(.., reason)| Err(reason))
            } else {
                match serde_json::from_str::<RawSpan<'_>>(raw.get()) {
                    Ok(raw) => span(raw, &scope.scope.name.0, &recorder, inbox),
                    Err(error) => Err(plain(&error)),
                }
            };
            if let Err(reason) = result {
                let line = place.plus_lines(line_in(json, raw));
                inbox.skip(line.inside(format!("/scopeSpans/{scope_index}/spans/{span_index}")), reason)?;
            }
        }
    }
    Ok(())
}

/// Takes the whole spans out of the beginning of an element that is broken further on. The last span is given up: it may lack
/// what came after.
pub(crate) fn broken_resource_spans(json: &[u8], place: &Place, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
    let Some(closed) = closed(json) else { return Ok(()) };
    let Ok(mut whole) = serde_json::from_slice::<ResourceSpans<'_, RawSpan<'_>>>(&closed) else { return Ok(()) };
    if let Some(last) = whole.scopes.last_mut() {
        last.spans.pop();
    }
    let recorder = recorder(whole.resource, inbox);
    if recorder.service.is_empty() {
        // Whose spans they are stood behind the break.
        return Ok(());
    }
    for scope in whole.scopes {
        for raw in scope.spans {
            if let Err(reason) = span(raw, &scope.scope.name.0, &recorder, inbox) {
                inbox.skip(place.clone(), reason)?;
            }
        }
    }
    Ok(())
}

/// The beginning of a JSON value up to its last whole array element, with the brackets that are still open closed.
fn closed(json: &[u8]) -> Option<Vec<u8>> {
    let mut open: Vec<u8> = Vec::new();
    let mut best: Option<(usize, Vec<u8>)> = None;
    let mut at = 0;
    while at < json.len() {
        match json[at] {
            b'"' => {
                at += 1;
                while at < json.len() && json[at] != b'"' {
                    at += if json[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'{' => open.push(b'}'),
            b'[' => open.push(b']'),
            b'}' | b']' => {
                if open.pop() != Some(json[at]) {
                    break;
                }
                if open.last() == Some(&b']') {
                    match &mut best {
                        Some((end, closers)) => {
                            *end = at + 1;
                            closers.clone_from(&open);
                        }
                        None => best = Some((at + 1, open.clone())),
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
    let (end, closers) = best?;
    let mut closed = json[..end].to_vec();
    closed.extend(closers.iter().rev());
    Some(closed)
}

fn recorder(resource: Resource<'_>, inbox: &mut Inbox<'_>) -> Recorder {
    let mut facts = RecorderFacts::default();
    for attribute in resource.attributes {
        facts.note(&attribute.key.0, attribute.value.0);
    }
    facts.recorder(inbox.names)
}

/// Turns one raw span into a span; the error is the reason why it cannot be.
fn span(raw: RawSpan<'_>, scope: &str, recorder: &Recorder, inbox: &mut Inbox<'_>) -> Result<(), String> {
    let mut span = Span {
        trace_id: id128(&raw.trace_id).ok_or_else(|| format!("trace id {} is not 32 hexadecimal digits", raw.trace_id))?,
        span_id: id64(&raw.span_id).ok_or_else(|| format!("span id {} is not 16 hexadecimal digits", raw.span_id))?,
        service: recorder.service.clone(),
        instance: recorder.instance.clone(),
        kind: kind(&raw.kind),
        ..Span::default()
    };
    if span.trace_id == 0 || span.span_id == 0 {
        return Err("an id that is all zeros".to_owned());
    }
    span.parent_id = match &raw.parent_span_id {
        Loose::Nothing => None,
        Loose::Text(text) if text.is_empty() => None,
        id => Some(id64(id).ok_or_else(|| format!("parent span id {id} is not 16 hexadecimal digits"))?).filter(|&id| id != 0),
    };
    let start = raw.start.unsigned().ok_or_else(|| format!("start time {} is not a whole number", raw.start))?;
    let end = raw.end.unsigned().ok_or_else(|| format!("end time {} is not a whole number", raw.end))?;
    inbox.set_times(&mut span, start, end)?;
    if !inbox.keeps(span.trace_id) {
        inbox.pass_over(&span.service, span.parent_id.is_none());
        return Ok(());
    }
    for link in &raw.links {
        match (id128(&link.trace_id), id64(&link.span_id)) {
            (Some(trace), Some(id)) => span.links.push((trace, id)),
            _ => inbox.mended("a link with a broken id was left out"),
        }
    }
    let mut facts = Facts::default();
    facts.note_scope(scope);
    for attribute in raw.attributes {
        facts.note(&attribute.key.0, attribute.value.0);
    }
    for attribute in raw.events.into_iter().flat_map(|event| event.attributes) {
        if attribute.key.0.starts_with("exception.") {
            facts.note(&attribute.key.0, attribute.value.0);
        }
    }
    facts.note_trace_state(raw.trace_state.text());
    let message = match raw.status.message {
        Loose::Text(message) => Some(message),
        _ => None,
    };
    facts.note_status(status_code(&raw.status.code), message);
    facts.fill(&mut span, raw.name.text(), inbox.names);
    inbox.push(span);
    Ok(())
}

fn kind(raw: &Loose<'_>) -> Kind {
    match raw {
        Loose::Text(name) if !name.starts_with(|c: char| c.is_ascii_digit()) => kind_named(name).unwrap_or_default(),
        _ => kind_number(raw.unsigned().unwrap_or(0)),
    }
}

fn status_code(raw: &Loose<'_>) -> StatusCode {
    match (raw.text(), raw.unsigned()) {
        ("STATUS_CODE_OK" | "OK", _) | (_, Some(1)) => StatusCode::Ok,
        ("STATUS_CODE_ERROR" | "ERROR", _) | (_, Some(2)) => StatusCode::Error,
        _ => StatusCode::Unset,
    }
}

/// A trace id: 32 hexadecimal digits, or 24 characters of base64. The length decides, since hexadecimal is base64 too.
fn id128(raw: &Loose<'_>) -> Option<u128> {
    match raw.text() {
        hex if hex.len() == 32 => hex_id(hex),
        base64 if base64.len() == 24 => {
            let bytes = from_base64(base64)?;
            Some(u128::from_be_bytes(bytes.try_into().ok()?))
        }
        _ => None,
    }
}

/// A span id: 16 hexadecimal digits, or 12 characters of base64.
fn id64(raw: &Loose<'_>) -> Option<u64> {
    match raw.text() {
        hex if hex.len() == 16 => hex_id(hex).map(|id| id as u64),
        base64 if base64.len() == 12 => {
            let bytes = from_base64(base64)?;
            Some(u64::from_be_bytes(bytes.try_into().ok()?))
        }
        _ => None,
    }
}

/// Base64 of either alphabet, padded or not.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    const EITHER: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    EITHER.decode(text.replace('-', "+").replace('_', "/")).ok()
}

/// OTLP's tagged value: `{"stringValue": …}` and its kin.
#[derive(Default)]
struct AnyValue<'a>(Value<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for AnyValue<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyVisitor;
        impl<'de> Visitor<'de> for AnyVisitor {
            type Value = AnyValue<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an attribute value such as {\"stringValue\": \"…\"}")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut value = Value::Other;
                while let Some(tag) = map.next_key::<Text<'de>>()? {
                    match tag.0.as_ref() {
                        "stringValue" | "string_value" | "boolValue" | "bool_value" | "doubleValue" | "double_value" => {
                            value = map.next_value::<Loose<'de>>()?.into_value();
                        }
                        "intValue" | "int_value" => {
                            let number = map.next_value::<Loose<'de>>()?;
                            value = match &number {
                                Loose::Text(text) => text.parse().map_or(Value::Other, Value::Int),
                                _ => number.into_value(),
                            };
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(AnyValue(value))
            }
        }
        deserializer.deserialize_map(AnyVisitor)
    }
}
