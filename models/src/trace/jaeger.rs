//! Jaeger's JSON, as its user interface saves it and its query API answers.
//!
//! You are here: `models::trace::jaeger`. `records` hands over one trace at a time.
//! Always true: a span that cannot be read costs that span alone; spans embedded in references are never counted.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Span;
use super::attributes::{Facts, Recorder, RecorderFacts, Value};
use super::inbox::{Inbox, Place, Stop};
use super::loose::{Loose, Text, fnv128, hex_id, line_in, null_is_default, plain};

/// One trace.
#[derive(Deserialize)]
#[serde(bound(deserialize = "S: Deserialize<'de>"))]
struct JaegerTrace<'a, S> {
    #[serde(borrow, default, rename = "traceID")]
    trace_id: Loose<'a>,
    #[serde(default, deserialize_with = "null_is_default")]
    spans: Vec<S>,
    #[serde(borrow, default, deserialize_with = "null_is_default")]
    processes: BTreeMap<Text<'a>, Process<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Process<'a> {
    #[serde(borrow, rename = "serviceName", deserialize_with = "null_is_default")]
    service: Text<'a>,
    #[serde(borrow, deserialize_with = "null_is_default")]
    tags: Vec<Tag<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, expecting = "a span, which is an object")]
struct RawSpan<'a> {
    #[serde(borrow, rename = "traceID")]
    trace_id: Loose<'a>,
    #[serde(borrow, rename = "spanID")]
    span_id: Loose<'a>,
    #[serde(borrow, rename = "parentSpanID")]
    parent_span_id: Loose<'a>,
    #[serde(borrow, rename = "operationName")]
    name: Loose<'a>,
    #[serde(borrow, deserialize_with = "null_is_default")]
    references: Vec<Reference<'a>>,
    #[serde(borrow, rename = "startTime")]
    start: Loose<'a>,
    #[serde(borrow)]
    duration: Loose<'a>,
    #[serde(borrow, deserialize_with = "null_is_default")]
    tags: Vec<Tag<'a>>,
    #[serde(borrow, deserialize_with = "null_is_default")]
    logs: Vec<Log<'a>>,
    #[serde(borrow, rename = "processID")]
    process_id: Loose<'a>,
    #[serde(borrow)]
    process: Option<Process<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reference<'a> {
    #[serde(borrow, rename = "refType")]
    kind: Loose<'a>,
    #[serde(borrow, rename = "traceID")]
    trace_id: Loose<'a>,
    #[serde(borrow, rename = "spanID")]
    span_id: Loose<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tag<'a> {
    #[serde(borrow, deserialize_with = "null_is_default")]
    key: Text<'a>,
    #[serde(borrow, rename = "type")]
    kind: Loose<'a>,
    #[serde(borrow)]
    value: Loose<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Log<'a> {
    #[serde(borrow, deserialize_with = "null_is_default")]
    fields: Vec<Tag<'a>>,
}

impl<'a> Tag<'a> {
    /// The value in the type that the tag says: an `int64` may be written as text.
    fn into_value(self) -> Value<'a> {
        match (self.kind.text(), &self.value) {
            ("int64", Loose::Text(text)) => text.parse().map_or(Value::Other, Value::Int),
            ("float64", Loose::Text(text)) => text.parse().map_or(Value::Other, Value::Float),
            ("bool", Loose::Text(text)) => text.parse().map_or(Value::Other, Value::Bool),
            ("binary", _) => Value::Other,
            _ => self.value.into_value(),
        }
    }
}

/// Reads one trace that begins on `place`.
pub(crate) fn trace(json: &[u8], place: &Place, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
    let mut bad: Vec<(usize, String)> = Vec::new();
    let parsed = serde_json::from_slice::<JaegerTrace<'_, RawSpan<'_>>>(json);
    let in_one_go = parsed.is_ok();
    if let Ok(whole) = parsed {
        let recorders = recorders(whole.processes, inbox);
        for (index, raw) in whole.spans.into_iter().enumerate() {
            if let Err(reason) = span(raw, &whole.trace_id, &recorders, inbox) {
                bad.push((index, reason));
            }
        }
        if bad.is_empty() {
            return Ok(());
        }
    }
    // Something in it is of the wrong shape: span by span, it costs only the spans that are. Or spans make no sense: their
    // lines are only known this way.
    let loose = match serde_json::from_slice::<JaegerTrace<'_, &RawValue>>(json) {
        Ok(loose) => loose,
        Err(error) => return inbox.skip(place.plus_lines(error.line()), plain(&error)),
    };
    let recorders = recorders(loose.processes, inbox);
    let mut bad = bad.into_iter().peekable();
    for (index, raw) in loose.spans.into_iter().enumerate() {
        let result = if in_one_go {
            bad.next_if(|&(at, _)| at == index).map_or(Ok(()), |(_, reason)| Err(reason))
        } else {
            match serde_json::from_str::<RawSpan<'_>>(raw.get()) {
                Ok(raw) => span(raw, &loose.trace_id, &recorders, inbox),
                Err(error) => Err(plain(&error)),
            }
        };
        if let Err(reason) = result {
            inbox.skip(place.plus_lines(line_in(json, raw)).inside(format!("/spans/{index}")), reason)?;
        }
    }
    Ok(())
}

fn recorders<'a>(processes: BTreeMap<Text<'a>, Process<'a>>, inbox: &mut Inbox<'_>) -> BTreeMap<Cow<'a, str>, Recorder> {
    processes.into_iter().map(|(id, process)| (id.0, recorder(process, inbox))).collect()
}

fn recorder(process: Process<'_>, inbox: &mut Inbox<'_>) -> Recorder {
    let mut facts = RecorderFacts::default();
    facts.named(process.service.0);
    for tag in process.tags {
        let key = tag.key.0.clone();
        facts.note(&key, tag.into_value());
    }
    facts.recorder(inbox.names)
}

/// Turns one raw span into a span; the error is the reason why it cannot be.
fn span(
    raw: RawSpan<'_>,
    trace_id: &Loose<'_>,
    recorders: &BTreeMap<Cow<'_, str>, Recorder>,
    inbox: &mut Inbox<'_>,
) -> Result<(), String> {
    if matches!(&raw.start, Loose::Text(text) if text.contains('T')) {
        return Err(
            "its start time is a date: this is Jaeger's api_v2 JSON, save the trace from the user interface instead".to_owned()
        );
    }
    let own_trace = if raw.trace_id == Loose::Nothing { trace_id } else { &raw.trace_id };
    let trace_id =
        id(own_trace, 32).ok_or_else(|| format!("trace id {own_trace} is not an id of at most 32 hexadecimal digits"))?;
    let span_id =
        id64(&raw.span_id).ok_or_else(|| format!("span id {} is not an id of at most 16 hexadecimal digits", raw.span_id))?;
    if trace_id == 0 || span_id == 0 {
        return Err("an id that is all zeros".to_owned());
    }
    let recorder = match raw.process {
        Some(process) if !recorders.contains_key(raw.process_id.text()) => recorder(process, inbox),
        _ => recorders.get(raw.process_id.text()).cloned().unwrap_or_default(),
    };
    let mut span = Span { trace_id, span_id, service: recorder.service, instance: recorder.instance, ..Span::default() };
    set_parent(&mut span, &raw.references, &raw.parent_span_id, inbox);
    inbox.set_micros(&mut span, &raw.start, &raw.duration)?;

    let mut facts = Facts::default();
    for tag in raw.tags {
        let key = tag.key.0.clone();
        facts.note(&key, tag.into_value());
    }
    for field in raw.logs.into_iter().flat_map(|log| log.fields) {
        if field.key.0.starts_with("exception.") || field.key.0.starts_with("error.") {
            let key = field.key.0.clone();
            facts.note(&key, field.into_value());
        }
    }
    facts.fill(&mut span, raw.name.text(), inbox.names);
    inbox.push(span);
    Ok(())
}

/// The first `CHILD_OF` of the same trace is the parent, everything else a link. A span that only follows from one of its own
/// trace has that one as its parent, and keeps the link: the parent did not wait for it.
fn set_parent(span: &mut Span, references: &[Reference<'_>], parent_span_id: &Loose<'_>, inbox: &mut Inbox<'_>) {
    let mut follows = None;
    for reference in references {
        let (Some(trace), Some(id)) = (id(&reference.trace_id, 32), id64(&reference.span_id)) else {
            inbox.mended("a reference with a broken id was left out");
            continue;
        };
        if reference.kind.text() == "CHILD_OF" && trace == span.trace_id && span.parent_id.is_none() {
            span.parent_id = Some(id);
            continue;
        }
        if trace == span.trace_id && follows.is_none() {
            follows = Some(id);
        }
        span.links.push((trace, id));
    }
    if span.parent_id.is_none() {
        span.parent_id = id64(parent_span_id).filter(|&id| id != 0).or(follows);
    }
}

/// Up to `digits` hexadecimal digits: old servers drop leading zeros. Anonymised files have other names in the place of ids; a
/// number that stands for the name serves as well, since ids are only ever compared.
fn id(raw: &Loose<'_>, digits: usize) -> Option<u128> {
    let text = raw.text();
    let is_name = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
    match hex_id(text) {
        Some(id) if text.len() <= digits => Some(id),
        None if is_name => Some(fnv128(text) & (u128::MAX >> (128 - 4 * digits as u32))),
        _ => None,
    }
}

fn id64(raw: &Loose<'_>) -> Option<u64> {
    id(raw, 16).map(|id| id as u64)
}
