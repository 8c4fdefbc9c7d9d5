//! OTLP protobuf: bare messages, varint-delimited ones, and the collector's frames with a big-endian length.
//!
//! You are here: `models::trace::otlp_proto`. `read` calls it for inputs that `detect` took for protobuf.
//! Always true: one `ResourceSpans` is held at a time; a span that cannot be decoded costs that span alone; no length is believed
//! before it is checked.
//! Not here: what attributes mean (`attributes`).

use std::io::{BufRead, BufReader, Cursor, Read};

use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as otlp;
use prost::Message;

use super::Span;
use super::attributes::{Facts, Recorder, RecorderFacts, StatusCode, Value, kind_number};
use super::detect::Framing;
use super::inbox::{Inbox, Place, Stop};
use super::read::{Format, Limits};
use super::records;
use super::source::{Source, ZSTD};

/// Field numbers of the three outer messages: `TracesData.resource_spans`, `ResourceSpans.{resource, scope_spans}`,
/// `ScopeSpans.{scope, spans}`. Instrumentation libraries (field 1000 of old senders) have the same inner shape as scopes.
const RESOURCE_SPANS: u64 = 1;
const RESOURCE: u64 = 1;
const SCOPE_SPANS: u64 = 2;
const OLD_SCOPE_SPANS: u64 = 1000;
const SCOPE: u64 = 1;
const SPANS: u64 = 2;

/// Reads a protobuf input to its end; gives the input back for what it has to say.
pub(crate) fn read_all<'s>(
    source: Source<'s>,
    framing: Framing,
    limits: &Limits,
    inbox: &mut Inbox<'_>,
) -> Result<Source<'s>, Stop> {
    let mut stream = Stream { input: BufReader::with_capacity(256 * 1024, source), position: 0 };
    match framing {
        Framing::Bare => bare(&mut stream, limits, inbox)?,
        Framing::Varint | Framing::BigEndian => framed(&mut stream, framing, limits, inbox)?,
    }
    Ok(stream.input.into_inner())
}

/// A message without a frame, its `ResourceSpans` one after another.
fn bare<R: Read>(stream: &mut Stream<R>, limits: &Limits, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
    let rest_is_lost = |start, reason: &str, inbox: &mut Inbox<'_>| {
        inbox.skip(Place::byte(start), format!("{reason}; nothing after it can be read"))
    };
    let mut payload = Vec::new();
    loop {
        let start = stream.position;
        let tag = match stream.varint() {
            Ok(Some(tag)) => tag,
            Ok(None) => return Ok(()),
            Err(reason) => return rest_is_lost(start, reason, inbox),
        };
        let length = match tag & 7 {
            0 => stream.varint().map(|_| 0),
            1 => Ok(8),
            2 => stream.varint().map(|length| length.unwrap_or(u64::MAX)),
            5 => Ok(4),
            _ => Err(NOT_PROTOBUF),
        };
        let length = match length {
            Ok(length) if length <= limits.value_bytes as u64 => length,
            Ok(_) => return rest_is_lost(start, "a field longer than the limit", inbox),
            Err(reason) => return rest_is_lost(start, reason, inbox),
        };
        let first = stream.position;
        let complete = stream.payload(length, &mut payload);
        if tag == RESOURCE_SPANS << 3 | 2 {
            inbox.recognised(Format::OtlpProtobuf);
            resource_spans(&payload, first, !complete, inbox)?;
        }
        if !complete {
            let reason = format!("the input ends after {} of the {length} bytes of the last message", payload.len());
            return inbox.skip(Place::byte(start), reason);
        }
    }
}

/// Messages with their length before them.
fn framed<R: Read>(stream: &mut Stream<R>, framing: Framing, limits: &Limits, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
    let mut frame = Vec::new();
    loop {
        let start = stream.position;
        let length = if framing == Framing::BigEndian { stream.big_endian() } else { stream.varint() };
        let length = match length {
            Ok(Some(length)) => length,
            Ok(None) => return Ok(()),
            Err(reason) => return inbox.skip(Place::byte(start), reason),
        };
        if length > limits.frame_bytes as u64 {
            let limit = limits.frame_bytes;
            let reason = format!("a frame of {length} bytes, above the limit of {limit}; nothing after it can be read");
            return inbox.skip(Place::byte(start), reason);
        }
        let first = stream.position;
        let complete = stream.payload(length, &mut frame);
        message(&frame, first, !complete, limits, inbox)?;
        if !complete {
            let reason = format!("the input ends after {} of the {length} bytes of the last frame", frame.len());
            return inbox.skip(Place::byte(start), reason);
        }
    }
}

/// The contents of one frame: a `TracesData`, which some collectors pack once more or write as JSON. `cut`: the frame is known
/// to be incomplete, and that is reported already.
fn message(frame: &[u8], first: u64, cut: bool, limits: &Limits, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
    if frame.starts_with(&ZSTD) {
        let (mut source, _) = Source::open(frame, limits);
        let mut unpacked = Vec::new();
        while source.by_ref().take(1 << 20).read_to_end(&mut unpacked).is_ok_and(|got| got > 0) {
            if unpacked.len() > limits.value_bytes {
                return inbox.skip(Place::byte(first), "a compressed frame that grows beyond the limit");
            }
        }
        if let Some(trouble) = source.trouble().filter(|_| !cut) {
            inbox.skip(Place::byte(first), trouble)?;
        }
        let cut = cut || source.trouble().is_some();
        return if unpacked.starts_with(&ZSTD) { Ok(()) } else { message(&unpacked, first, cut, limits, inbox) };
    }
    if frame.starts_with(b"{") {
        return records::read_all(Cursor::new(frame), limits.value_bytes, inbox).map(|_| ());
    }
    inbox.recognised(Format::OtlpProtobuf);
    for field in Fields::of(frame, first) {
        match field {
            Ok(Field { number: RESOURCE_SPANS, payload, at, complete }) => {
                resource_spans(payload, at, cut || !complete, inbox)?;
                report_cut(complete || cut, at, inbox)?;
            }
            Ok(_) => {}
            Err(_) if cut => return Ok(()),
            Err(at) => return inbox.skip(Place::byte(at), NOT_PROTOBUF),
        }
    }
    Ok(())
}

/// One `ResourceSpans`. The resource may stand after its spans, so it is looked for first.
fn resource_spans(bytes: &[u8], first: u64, cut: bool, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
    let mut facts = RecorderFacts::default();
    let resource = Fields::of(bytes, first).flatten().find(|field| field.number == RESOURCE && field.complete);
    let resource = resource.map(|field| Resource::decode(field.payload)).unwrap_or_else(|| Ok(Resource::default()));
    let resource = match resource {
        Ok(resource) => resource,
        Err(error) => return inbox.skip(Place::byte(first), format!("a resource that cannot be decoded: {error}")),
    };
    for attribute in &resource.attributes {
        facts.note(&attribute.key, value(attribute));
    }
    let recorder = facts.recorder(inbox.names);
    for field in Fields::of(bytes, first) {
        match field {
            Ok(Field { number: SCOPE_SPANS | OLD_SCOPE_SPANS, payload, at, complete }) => {
                scope_spans(payload, at, cut || !complete, &recorder, inbox)?;
                report_cut(complete || cut, at, inbox)?;
            }
            Ok(_) => {}
            Err(_) if cut => return Ok(()),
            Err(at) => return inbox.skip(Place::byte(at), NOT_PROTOBUF),
        }
    }
    Ok(())
}

fn scope_spans(bytes: &[u8], first: u64, cut: bool, recorder: &Recorder, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
    let scope = Fields::of(bytes, first).flatten().find(|field| field.number == SCOPE && field.complete);
    let scope = scope.and_then(|field| InstrumentationScope::decode(field.payload).ok()).unwrap_or_default();
    for field in Fields::of(bytes, first) {
        match field {
            Ok(Field { number: SPANS, payload, at, complete: true }) => {
                let result = match otlp::Span::decode(payload) {
                    Ok(raw) => span(&raw, &scope.name, recorder, inbox),
                    Err(error) => Err(format!("a span that cannot be decoded: {error}")),
                };
                if let Err(reason) = result {
                    inbox.skip(Place::byte(at), reason)?;
                }
            }
            Ok(field) => report_cut(field.complete || cut, field.at, inbox)?,
            Err(_) if cut => return Ok(()),
            Err(at) => return inbox.skip(Place::byte(at), NOT_PROTOBUF),
        }
    }
    Ok(())
}

/// Counts a field that reaches beyond its message, unless that is known already.
fn report_cut(known: bool, at: u64, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
    if known { Ok(()) } else { inbox.skip(Place::byte(at), "a field that reaches beyond the end of its message") }
}

/// Turns one raw span into a span; the error is the reason why it cannot be.
fn span(raw: &otlp::Span, scope: &str, recorder: &Recorder, inbox: &mut Inbox<'_>) -> Result<(), String> {
    let trace_id: [u8; 16] =
        raw.trace_id.as_slice().try_into().map_err(|_| format!("a trace id of {} bytes instead of 16", raw.trace_id.len()))?;
    let mut span = Span {
        trace_id: u128::from_be_bytes(trace_id),
        span_id: id64(&raw.span_id).ok_or_else(|| format!("a span id of {} bytes instead of 8", raw.span_id.len()))?,
        service: recorder.service.clone(),
        instance: recorder.instance.clone(),
        kind: kind_number(u64::try_from(raw.kind).unwrap_or(0)),
        ..Span::default()
    };
    if span.trace_id == 0 || span.span_id == 0 {
        return Err("an id that is all zeros".to_owned());
    }
    if !raw.parent_span_id.is_empty() {
        let parent = id64(&raw.parent_span_id);
        let parent = parent.ok_or_else(|| format!("a parent span id of {} bytes instead of 8", raw.parent_span_id.len()))?;
        span.parent_id = Some(parent).filter(|&id| id != 0);
    }
    inbox.set_times(&mut span, raw.start_time_unix_nano, raw.end_time_unix_nano)?;
    for link in &raw.links {
        match (<[u8; 16]>::try_from(link.trace_id.as_slice()), id64(&link.span_id)) {
            (Ok(trace), Some(id)) => span.links.push((u128::from_be_bytes(trace), id)),
            _ => inbox.mended("a link with a broken id was left out"),
        }
    }
    let mut facts = Facts::default();
    facts.note_scope(scope);
    for attribute in &raw.attributes {
        facts.note(&attribute.key, value(attribute));
    }
    for attribute in raw.events.iter().flat_map(|event| &event.attributes) {
        if attribute.key.starts_with("exception.") {
            facts.note(&attribute.key, value(attribute));
        }
    }
    facts.note_trace_state(&raw.trace_state);
    if let Some(status) = &raw.status {
        let code = match status.code {
            1 => StatusCode::Ok,
            2 => StatusCode::Error,
            _ => StatusCode::Unset,
        };
        facts.note_status(code, Some(status.message.as_str().into()));
    }
    facts.fill(&mut span, &raw.name, inbox.names);
    inbox.push(span);
    Ok(())
}

fn id64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn value(attribute: &KeyValue) -> Value<'_> {
    match &attribute.value {
        Some(AnyValue { value: Some(any_value::Value::StringValue(text)) }) => Value::Str(text.as_str().into()),
        Some(AnyValue { value: Some(any_value::Value::IntValue(number)) }) => Value::Int(*number),
        Some(AnyValue { value: Some(any_value::Value::DoubleValue(number)) }) => Value::Float(*number),
        Some(AnyValue { value: Some(any_value::Value::BoolValue(yes)) }) => Value::Bool(*yes),
        _ => Value::Other,
    }
}

const NOT_PROTOBUF: &str = "bytes that are no protobuf field";

/// One length-delimited field of a message; for fields of other types the payload is empty.
struct Field<'a> {
    number: u64,
    payload: &'a [u8],
    /// Where the payload stands in the input.
    at: u64,
    /// Whether the message holds the whole payload.
    complete: bool,
}

/// Walks over the fields of a message without decoding them. An error is the position of bytes that are no field; it is the last item.
struct Fields<'a> {
    rest: &'a [u8],
    at: u64,
}

impl<'a> Fields<'a> {
    /// The fields of `message`, which stands at `first` in the input.
    fn of(message: &'a [u8], first: u64) -> Self {
        Fields { rest: message, at: first }
    }

    fn varint(&mut self) -> Option<u64> {
        let before = self.rest.len();
        let number = prost::encoding::decode_varint(&mut self.rest).ok()?;
        self.at += (before - self.rest.len()) as u64;
        Some(number)
    }

    fn field(&mut self) -> Option<Field<'a>> {
        let tag = self.varint()?;
        let length = match tag & 7 {
            0 => self.varint().map(|_| 0)?,
            1 => 8,
            2 => self.varint()?,
            5 => 4,
            _ => return None,
        };
        let complete = length <= self.rest.len() as u64;
        let (payload, rest) = self.rest.split_at(if complete { length as usize } else { self.rest.len() });
        let field = Field { number: tag >> 3, payload, at: self.at, complete };
        self.rest = rest;
        self.at += payload.len() as u64;
        Some(field)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, u64>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let at = self.at;
        let field = self.field().ok_or(at);
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// An input, and where in it we are.
struct Stream<R> {
    input: BufReader<R>,
    position: u64,
}

impl<R: Read> Stream<R> {
    /// The next byte; `None` at the end.
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.input.fill_buf().ok()?.first()?;
        self.input.consume(1);
        self.position += 1;
        Some(byte)
    }

    /// A varint; `None` if the input ends before it.
    fn varint(&mut self) -> Result<Option<u64>, &'static str> {
        let mut number = 0u64;
        for shift in (0..70).step_by(7) {
            let Some(byte) = self.byte() else {
                return if shift == 0 { Ok(None) } else { Err("the input ends inside a length") };
            };
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(Some(number));
            }
        }
        Err(NOT_PROTOBUF)
    }

    /// Four bytes of length; `None` if the input ends before them.
    fn big_endian(&mut self) -> Result<Option<u64>, &'static str> {
        let mut number = 0;
        for index in 0..4 {
            match self.byte() {
                Some(byte) => number = number << 8 | u64::from(byte),
                None if index == 0 => return Ok(None),
                None => return Err("the input ends inside a length"),
            }
        }
        Ok(Some(number))
    }

    /// Puts the next `length` bytes, or as many as there are, in place of what `payload` holds; says whether all were there.
    fn payload(&mut self, length: u64, payload: &mut Vec<u8>) -> bool {
        payload.clear();
        // A source ends instead of failing, and says why afterwards.
        let got = self.input.by_ref().take(length).read_to_end(payload).unwrap_or(payload.len());
        self.position += got as u64;
        got as u64 == length
    }
}
