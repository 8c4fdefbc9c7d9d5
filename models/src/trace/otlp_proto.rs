//! OTLP protobuf: bare messages, varint-delimited ones, and the collector's frames with a big-endian length.
//!
//! You are here: `models::trace::otlp_proto`. `read` calls it for inputs that `detect` took for protobuf.
//! Always true: a megabyte of frames, or one longer frame, is held at a time; a span that cannot be decoded costs that span alone;
//! fields that nothing is learned from are stepped over.
//! Not here: what attributes mean (`attributes`).

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::ops::Range;

use super::attributes::{Facts, Recorder, RecorderFacts, StatusCode, Value, kind_number};
use super::batches::{self, Chunk};
use super::detect::Framing;
use super::inbox::{Inbox, Place, Stop};
use super::read::{Format, Limits};
use super::source::{Source, ZSTD};
use super::wire::{Field, Fields, Wire};
use super::{Span, records};

/// Field numbers of the three outer messages: `TracesData.resource_spans`, `ResourceSpans.{resource, scope_spans}`,
/// `ScopeSpans.{scope, spans}`. Instrumentation libraries (field 1000 of old senders) have the same inner shape as scopes.
const RESOURCE_SPANS: u64 = 1;
const RESOURCE: u64 = 1;
const SCOPE_SPANS: u64 = 2;
const OLD_SCOPE_SPANS: u64 = 1000;
const SCOPE: u64 = 1;
const SPANS: u64 = 2;

#[cfg(test)]
mod reference;

/// A chunk ends behind the first frame after so many bytes.
const CHUNK: usize = 1 << 20;

/// Reads a protobuf input to its end; gives the input back for what it has to say.
pub(crate) fn read_all<'s>(
    source: Source<'s>,
    framing: Framing,
    limits: &Limits,
    inbox: &mut Inbox<'_>,
) -> Result<Source<'s>, Stop> {
    let mut stream = Stream { input: BufReader::with_capacity(256 * 1024, source), position: 0, framing, limits, ended: false };
    batches::read_all(|| stream.next(), inbox)?;
    Ok(stream.input.into_inner())
}

/// Some frames, or some fields of a message without a frame.
struct Frames<'l> {
    bytes: Vec<u8>,
    frames: Vec<Frame>,
    framing: Framing,
    limits: &'l Limits,
    /// Why nothing can be read after these, and where that was seen.
    end: Option<(u64, String)>,
}

struct Frame {
    /// In [`Frames::bytes`].
    range: Range<usize>,
    /// Where it stands in the input.
    first: u64,
    /// The input ended inside it.
    cut: bool,
}

impl Chunk for Frames<'_> {
    fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn read(&self, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
        for frame in &self.frames {
            let bytes = &self.bytes[frame.range.clone()];
            if self.framing == Framing::Bare {
                inbox.recognised(Format::OtlpProtobuf);
                resource_spans(bytes, frame.first, frame.cut, inbox)?;
            } else {
                message(bytes, frame.first, frame.cut, self.limits, inbox)?;
            }
        }
        match &self.end {
            Some((at, reason)) => inbox.skip(Place::byte(*at), reason.as_str()),
            None => Ok(()),
        }
    }
}

/// An input, and where in it we are.
struct Stream<'l, R> {
    input: BufReader<R>,
    position: u64,
    framing: Framing,
    limits: &'l Limits,
    ended: bool,
}

impl<'l, R: Read> Stream<'l, R> {
    /// The next chunk; `None` at the end.
    fn next(&mut self) -> Option<Frames<'l>> {
        let mut chunk = Frames { bytes: Vec::new(), frames: Vec::new(), framing: self.framing, limits: self.limits, end: None };
        while !self.ended && chunk.bytes.len() < CHUNK {
            let start = self.position;
            let added = if self.framing == Framing::Bare { self.add_field(&mut chunk) } else { self.add_frame(&mut chunk) };
            match added {
                Ok(more) => self.ended = !more,
                Err(reason) => {
                    chunk.end = Some((start, reason));
                    self.ended = true;
                }
            }
        }
        (!chunk.frames.is_empty() || chunk.end.is_some()).then_some(chunk)
    }

    /// Adds the next field of a message without a frame, if it is a `ResourceSpans`; `false` at the end.
    fn add_field(&mut self, chunk: &mut Frames<'_>) -> Result<bool, String> {
        let lost = |reason: &str| format!("{reason}; nothing after it can be read");
        let Some(tag) = self.varint().map_err(lost)? else { return Ok(false) };
        let length = match tag & 7 {
            0 => self.varint().map(|_| 0),
            1 => Ok(8),
            2 => self.varint().map(|length| length.unwrap_or(u64::MAX)),
            5 => Ok(4),
            _ => Err(NOT_PROTOBUF),
        };
        let length = length.map_err(lost)?;
        if length > self.limits.value_bytes as u64 {
            return Err(lost("a field longer than the limit"));
        }
        let (got, cut) = self.add(length, chunk);
        if tag != RESOURCE_SPANS << 3 | 2 {
            chunk.bytes.truncate(chunk.frames.pop().map_or(0, |frame| frame.range.start));
        }
        if cut { Err(format!("the input ends after {got} of the {length} bytes of the last message")) } else { Ok(true) }
    }

    /// Adds the next frame; `false` at the end.
    fn add_frame(&mut self, chunk: &mut Frames<'_>) -> Result<bool, String> {
        let length = if self.framing == Framing::BigEndian { self.big_endian() } else { self.varint() };
        let Some(length) = length? else { return Ok(false) };
        if length > self.limits.frame_bytes as u64 {
            let limit = self.limits.frame_bytes;
            return Err(format!("a frame of {length} bytes, above the limit of {limit}; nothing after it can be read"));
        }
        let (got, cut) = self.add(length, chunk);
        if cut { Err(format!("the input ends after {got} of the {length} bytes of the last frame")) } else { Ok(true) }
    }

    /// Adds the next `length` bytes, or as many as there are; says how many these were and whether some are missing.
    fn add(&mut self, length: u64, chunk: &mut Frames<'_>) -> (usize, bool) {
        let (begin, first) = (chunk.bytes.len(), self.position);
        // A source ends instead of failing, and says why afterwards.
        let _ = self.input.by_ref().take(length).read_to_end(&mut chunk.bytes);
        let got = chunk.bytes.len() - begin;
        self.position += got as u64;
        let cut = (got as u64) < length;
        chunk.frames.push(Frame { range: begin..chunk.bytes.len(), first, cut });
        (got, cut)
    }

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
        return records::read_all(Cursor::new(frame), 1, limits.value_bytes, inbox).map(|_| ());
    }
    inbox.recognised(Format::OtlpProtobuf);
    for field in Fields::of(frame, first) {
        match field {
            Ok(Field { number: RESOURCE_SPANS, value: Wire::Bytes(payload), at, complete }) => {
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
    if let Some(resource) = first_message(bytes, RESOURCE) {
        let mut noted = Ok(());
        for field in Fields::of(resource, 0) {
            noted = noted.and(match field {
                Ok(Field { number: 1, value: Wire::Bytes(attribute), complete: true, .. }) => {
                    note(attribute, |_| true, |key, value| facts.note(key, value))
                }
                Ok(field) => whole(&field).map(|_| ()),
                Err(_) => Err(NOT_PROTOBUF),
            });
        }
        if let Err(reason) = noted {
            return inbox.skip(Place::byte(first), format!("a resource that cannot be decoded: {reason}"));
        }
    }
    let recorder = facts.recorder(inbox.names);
    for field in Fields::of(bytes, first) {
        match field {
            Ok(Field { number: SCOPE_SPANS | OLD_SCOPE_SPANS, value: Wire::Bytes(payload), at, complete }) => {
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
    let scope = first_message(bytes, SCOPE).and_then(|scope| first_message(scope, 1));
    let scope = scope.and_then(|name| str::from_utf8(name).ok()).unwrap_or("");
    for field in Fields::of(bytes, first) {
        match field {
            Ok(Field { number: SPANS, value: Wire::Bytes(payload), at, complete: true }) => {
                if let Err(reason) = span(payload, scope, recorder, inbox) {
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

/// The first whole field of this number that is text, bytes or a message.
fn first_message(message: &[u8], number: u64) -> Option<&[u8]> {
    Fields::of(message, 0).flatten().find_map(|field| match field.value {
        Wire::Bytes(payload) if field.number == number && field.complete => Some(payload),
        _ => None,
    })
}

/// Counts a field that reaches beyond its message, unless that is known already.
fn report_cut(known: bool, at: u64, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
    if known { Ok(()) } else { inbox.skip(Place::byte(at), "a field that reaches beyond the end of its message") }
}

/// Fields of a span (opentelemetry/proto/trace/v1/trace.proto).
mod number {
    pub(super) const TRACE_ID: u64 = 1;
    pub(super) const SPAN_ID: u64 = 2;
    pub(super) const TRACE_STATE: u64 = 3;
    pub(super) const PARENT_SPAN_ID: u64 = 4;
    pub(super) const NAME: u64 = 5;
    pub(super) const KIND: u64 = 6;
    pub(super) const START: u64 = 7;
    pub(super) const END: u64 = 8;
    pub(super) const ATTRIBUTES: u64 = 9;
    pub(super) const EVENTS: u64 = 11;
    pub(super) const LINKS: u64 = 13;
    pub(super) const STATUS: u64 = 15;
}

/// Turns one encoded span into a span; the error is the reason why it cannot be.
fn span(bytes: &[u8], scope: &str, recorder: &Recorder, inbox: &mut Inbox<'_>) -> Result<(), String> {
    let undecodable = |reason: &str| format!("a span that cannot be decoded: {reason}");
    let (mut trace_id, mut span_id, mut parent_id): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
    let (mut trace_state, mut name) = ("", "");
    let (mut kind, mut start, mut end) = (0, 0, 0);
    let (mut status, mut message) = (StatusCode::Unset, "");
    let mut links = Vec::new();
    let mut facts = Facts::default();
    facts.note_scope(scope);
    let mut kept = true;
    for field in Fields::of(bytes, 0) {
        let field = field.map_err(|_| undecodable(NOT_PROTOBUF))?;
        match (field.number, whole(&field).map_err(undecodable)?) {
            (number::TRACE_ID, Wire::Bytes(id)) => {
                trace_id = id;
                kept = <[u8; 16]>::try_from(id).is_ok_and(|id| inbox.keeps(u128::from_be_bytes(id)));
            }
            (number::SPAN_ID, Wire::Bytes(id)) => span_id = id,
            (number::TRACE_STATE, Wire::Bytes(text)) => trace_state = utf8(text).map_err(undecodable)?,
            (number::PARENT_SPAN_ID, Wire::Bytes(id)) => parent_id = id,
            (number::NAME, Wire::Bytes(text)) => name = utf8(text).map_err(undecodable)?,
            (number::KIND, Wire::Varint(number)) => kind = number,
            (number::START, Wire::Fixed64(time)) => start = time,
            (number::END, Wire::Fixed64(time)) => end = time,
            (number::ATTRIBUTES, Wire::Bytes(attribute)) if kept => {
                note(attribute, |_| true, |key, value| facts.note(key, value)).map_err(undecodable)?;
            }
            (number::EVENTS, Wire::Bytes(event)) if kept => {
                for field in Fields::of(event, 0) {
                    let field = field.map_err(|_| undecodable(NOT_PROTOBUF))?;
                    if let (3, Wire::Bytes(attribute)) = (field.number, whole(&field).map_err(undecodable)?) {
                        let of_exception = |key: &[u8]| key.starts_with(b"exception.");
                        note(attribute, of_exception, |key, value| facts.note(key, value)).map_err(undecodable)?;
                    }
                }
            }
            (number::LINKS, Wire::Bytes(link)) if kept => links.push(link),
            (number::STATUS, Wire::Bytes(raw)) => {
                for field in Fields::of(raw, 0) {
                    let field = field.map_err(|_| undecodable(NOT_PROTOBUF))?;
                    match (field.number, whole(&field).map_err(undecodable)?) {
                        (2, Wire::Bytes(text)) => message = utf8(text).map_err(undecodable)?,
                        (3, Wire::Varint(code)) => {
                            status = match code {
                                1 => StatusCode::Ok,
                                2 => StatusCode::Error,
                                _ => StatusCode::Unset,
                            };
                        }
                        (2 | 3, _) => return Err(undecodable(WRONG_TYPE)),
                        _ => {}
                    }
                }
            }
            (number::TRACE_ID..=number::ATTRIBUTES | number::EVENTS | number::LINKS | number::STATUS, value) => {
                if kept || !matches!(value, Wire::Bytes(_)) {
                    return Err(undecodable(WRONG_TYPE));
                }
            }
            _ => {}
        }
    }

    let trace_id: [u8; 16] = trace_id.try_into().map_err(|_| format!("a trace id of {} bytes instead of 16", trace_id.len()))?;
    let mut span = Span {
        trace_id: u128::from_be_bytes(trace_id),
        span_id: id64(span_id).ok_or_else(|| format!("a span id of {} bytes instead of 8", span_id.len()))?,
        service: recorder.service.clone(),
        instance: recorder.instance.clone(),
        // Enums are 32 bits wide, and negative ones are written as 64.
        kind: kind_number(u64::try_from(kind as i32).unwrap_or(0)),
        ..Span::default()
    };
    if span.trace_id == 0 || span.span_id == 0 {
        return Err("an id that is all zeros".to_owned());
    }
    if !parent_id.is_empty() {
        let parent = id64(parent_id).ok_or_else(|| format!("a parent span id of {} bytes instead of 8", parent_id.len()))?;
        span.parent_id = Some(parent).filter(|&id| id != 0);
    }
    inbox.set_times(&mut span, start, end)?;
    if !kept {
        inbox.pass_over(&span.service, span.parent_id.is_none());
        return Ok(());
    }
    for link in links {
        match link_ids(link) {
            Some(link) => span.links.push(link),
            None => inbox.mended("a link with a broken id was left out"),
        }
    }
    facts.note_trace_state(trace_state);
    facts.note_status(status, Some(message.into()));
    facts.fill(&mut span, name, inbox.names);
    inbox.push(span);
    Ok(())
}

fn link_ids(link: &[u8]) -> Option<(u128, u64)> {
    let trace_id: [u8; 16] = first_message(link, 1)?.try_into().ok()?;
    Some((u128::from_be_bytes(trace_id), id64(first_message(link, 2)?)?))
}

fn id64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// Notes one `KeyValue`, if its key is `wanted`.
fn note<'a>(
    attribute: &'a [u8],
    wanted: impl Fn(&[u8]) -> bool,
    mut take: impl FnMut(&str, Value<'a>),
) -> Result<(), &'static str> {
    let (mut key, mut value): (&[u8], Value<'a>) = (&[], Value::Other);
    for field in Fields::of(attribute, 0) {
        let field = field.map_err(|_| NOT_PROTOBUF)?;
        match (field.number, whole(&field)?) {
            (1, Wire::Bytes(bytes)) => key = bytes,
            (2, Wire::Bytes(any)) => value = any_value(any)?,
            (1 | 2, _) => return Err(WRONG_TYPE),
            _ => {}
        }
    }
    if wanted(key) {
        take(utf8(key)?, value);
    }
    Ok(())
}

/// An `AnyValue`: the last of its fields counts.
fn any_value(any: &[u8]) -> Result<Value<'_>, &'static str> {
    let mut value = Value::Other;
    for field in Fields::of(any, 0) {
        let field = field.map_err(|_| NOT_PROTOBUF)?;
        value = match (field.number, whole(&field)?) {
            (1, Wire::Bytes(text)) => Value::Str(Cow::Borrowed(utf8(text)?)),
            (2, Wire::Varint(yes)) => Value::Bool(yes != 0),
            (3, Wire::Varint(number)) => Value::Int(number as i64),
            (4, Wire::Fixed64(bits)) => Value::Float(f64::from_bits(bits)),
            (5..=7, Wire::Bytes(_)) => Value::Other,
            (1..=7, _) => return Err(WRONG_TYPE),
            _ => value,
        };
    }
    Ok(value)
}

/// The value of a field that its message holds whole.
fn whole<'a>(field: &Field<'a>) -> Result<Wire<'a>, &'static str> {
    if field.complete { Ok(field.value) } else { Err("a field that reaches beyond the end of its message") }
}

fn utf8(bytes: &[u8]) -> Result<&str, &'static str> {
    str::from_utf8(bytes).map_err(|_| "a text that is not UTF-8")
}

const NOT_PROTOBUF: &str = "bytes that are no protobuf field";
const WRONG_TYPE: &str = "a field of another type than its own";
