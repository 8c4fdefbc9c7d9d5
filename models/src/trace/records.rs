//! Walks a JSON input and gives each record to the reader of its format.
//!
//! You are here: `models::trace::records`. Between `json` (where values end) and `otlp_json`, `jaeger`, `zipkin` (what they say); the records of
//! the latter two are read side by side, through `deferred`.
//! Always true: a record is recognised by its keys, never by the input's name; what is none of ours is counted or refused by name.

use std::io::Read;
use std::ops::Range;

use super::deferred::{Deferred, Kind};
use super::detect::NoTrace;
use super::inbox::{Element, Inbox, Place, Stop};
use super::json::{Broken, Splitter};
use super::read::Format;
use super::{dependencies, kiali, otlp_json, prometheus};

/// Arrays and wrappers (`result`, `trace`, lists of lists) are followed this deep.
const MAX_WRAPPERS: u32 = 4;

/// An element of `resourceSpans` that is larger is not held at once, but so many bytes of its spans.
const LARGE_RESOURCE: usize = 8 << 20;
const PART: usize = 1 << 20;

/// What ended a walk inside a value.
enum Halt {
    Stop(Stop),
    Broken(Broken),
    /// The input cannot be read on.
    Io,
}

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Self {
        Halt::Stop(stop)
    }
}

impl From<Broken> for Halt {
    fn from(broken: Broken) -> Self {
        Halt::Broken(broken)
    }
}

impl From<std::io::Error> for Halt {
    fn from(_: std::io::Error) -> Self {
        Halt::Io
    }
}

/// Reads JSON that begins on line `first_line` to its end; gives the input back for what it has to say.
pub(crate) fn read_all<R: Read>(input: R, first_line: u64, max_value: usize, inbox: &mut Inbox<'_>) -> Result<R, Stop> {
    let mut walk = Walk { json: Splitter::new(input, first_line, max_value), inbox, deferred: Deferred::default() };
    walk.top_level()?;
    walk.deferred.read(walk.inbox)?;
    Ok(walk.json.into_input())
}

/// Reads JSON that is all there, and that `values` whole ones stand before.
pub(crate) fn read_piece(
    piece: &[u8],
    first_line: u64,
    values: u64,
    max_value: usize,
    inbox: &mut Inbox<'_>,
) -> Result<(), Stop> {
    let json = Splitter::over(piece.to_vec(), std::io::empty(), first_line, values, max_value);
    let mut walk = Walk { json, inbox, deferred: Deferred::default() };
    walk.top_level()?;
    walk.deferred.read(walk.inbox)
}

/// Some spans of one scope, as an element of `resourceSpans` of their own.
#[derive(Default)]
struct PartOfResource {
    element: Element,
    line: u64,
    resource: Vec<u8>,
    scope: Vec<u8>,
    spans: Vec<u8>,
}

impl PartOfResource {
    fn add(&mut self, span: &[u8], line: u64, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
        if !self.spans.is_empty() {
            self.spans.push(b',');
        }
        self.spans.extend_from_slice(span);
        if self.spans.len() >= PART { self.hand_over(line, inbox) } else { Ok(()) }
    }

    fn hand_over(&mut self, next_line: u64, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
        let or_empty = |object: &[u8]| if object.is_empty() { b"{}".to_vec() } else { object.to_vec() };
        let (resource, scope) = (or_empty(&self.resource), or_empty(&self.scope));
        let place = Place::element(self.line, self.element);
        self.line = next_line;
        if self.spans.is_empty() {
            return Ok(());
        }
        if self.resource.is_empty() {
            inbox.mended("a resource too large to hold says whose its spans are only after them: their service is not known");
        }
        let parts: [&[u8]; 7] =
            [b"{\"resource\":", &resource, b",\"scopeSpans\":[{\"scope\":", &scope, b",\"spans\":[", &self.spans, b"]}]}"];
        let part = parts.concat();
        self.spans.clear();
        otlp_json::resource_spans(&part, &place, inbox)
    }
}

struct Walk<'w, 'r, R> {
    json: Splitter<R>,
    inbox: &'w mut Inbox<'r>,
    deferred: Deferred,
}

impl<R: Read> Walk<'_, '_, R> {
    fn top_level(&mut self) -> Result<(), Stop> {
        loop {
            self.json.keep_from_here();
            let Ok(first) = self.json.peek_between() else { return Ok(()) };
            let line = self.json.line();
            let result = match first {
                None => return Ok(()),
                // Left over from an array whose middle was broken.
                Some(b',' | b']' | b'}') if self.inbox.notes.skipped > 0 => {
                    self.json.take();
                    continue;
                }
                Some(_) => self.any(0, None),
            };
            match result {
                Ok(()) => self.json.value_ended(),
                Err(Halt::Stop(stop)) => return Err(stop),
                Err(Halt::Io) => return Ok(()),
                Err(Halt::Broken(broken)) => {
                    let until = self.json.line();
                    let here = if until == line { String::new() } else { format!(" (seen at line {until})") };
                    self.deferred.read(self.inbox)?;
                    self.inbox.skip(Place::line(line), format!("{}{here}", broken.reason()))?;
                    if self.json.resync().is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// One value that may hold records.
    fn any(&mut self, depth: u32, element: Element) -> Result<(), Halt> {
        match self.json.peek()?? {
            b'{' => self.object(depth, element),
            b'[' => self.array(depth, "", Self::any),
            _ if depth > 0 => Ok(self.json.value()?.map(|_| ())?),
            _ => Err(Broken::NotJson.into()),
        }
    }

    /// Every element of the array `name`.
    fn array(
        &mut self,
        depth: u32,
        name: &'static str,
        read: fn(&mut Self, u32, Element) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        if depth > MAX_WRAPPERS {
            return Ok(self.json.value()?.map(|_| ())?);
        }
        self.json.expect(b'[')??;
        if self.json.peek()?? == b']' {
            self.json.take();
            return Ok(());
        }
        for index in 0.. {
            self.json.peek()??;
            self.json.keep_from_here();
            read(self, depth + 1, Some((name, index)))?;
            match self.json.peek()?? {
                b',' => self.json.take(),
                b']' => {
                    self.json.take();
                    break;
                }
                _ => return Err(Broken::WrongBracket.into()),
            }
        }
        Ok(())
    }

    /// One object: a wrapper whose records are handed out one by one, or a record itself.
    fn object(&mut self, depth: u32, element: Element) -> Result<(), Halt> {
        let (start, line) = (self.json.position(), self.json.line());
        let mut keys = Keys::default();
        let mut unwrapped = false;
        self.json.expect(b'{')??;
        if self.json.peek()?? == b'}' {
            self.json.take();
        } else {
            loop {
                if unwrapped {
                    self.json.peek()??;
                    self.json.keep_from_here();
                }
                unwrapped |= self.member(depth, &mut keys)?;
                match self.json.peek()?? {
                    b',' => self.json.take(),
                    b'}' => {
                        self.json.take();
                        break;
                    }
                    _ => return Err(Broken::NotJson.into()),
                }
            }
        }
        if !unwrapped {
            let end = self.json.position();
            self.record(keys, start..end, &Place::element(line, element))?;
        }
        Ok(())
    }

    /// One member of an object; says whether its value was unwrapped.
    fn member(&mut self, depth: u32, keys: &mut Keys) -> Result<bool, Halt> {
        if self.json.peek()?? != b'"' {
            return Err(Broken::NotJson.into());
        }
        let key = self.json.value()??;
        let key = Key::of(self.json.slice(key));
        self.json.expect(b':')??;
        keys.add(key);
        match (key, self.json.peek()??) {
            (Key::ResourceSpans, b'[') => {
                self.deferred.read(self.inbox)?;
                self.inbox.recognised(Format::OtlpJson);
                self.array(depth, "/resourceSpans", Self::resource_spans)?;
                Ok(true)
            }
            (Key::Data, b'[') => {
                self.array(depth, "/data", Self::any)?;
                self.inbox.refuse(NoTrace::EmptyAnswer, self.json.line());
                Ok(true)
            }
            (Key::Result | Key::Trace, b'{') if depth < MAX_WRAPPERS => {
                self.object(depth + 1, None)?;
                Ok(true)
            }
            (Key::Data, b'{') => {
                keys.add(Key::DataObject);
                self.json.value()??;
                Ok(false)
            }
            (Key::Status, _) => {
                let line = self.json.line();
                let status = self.json.value()??;
                if self.json.slice(status) == b"\"PARTIAL\"" {
                    self.deferred.read(self.inbox)?;
                    let reason = "Tempo says that this trace is PARTIAL: some of its spans are not in the file";
                    self.inbox.skip(Place::line(line), reason)?;
                }
                Ok(false)
            }
            _ => {
                self.json.value()??;
                Ok(false)
            }
        }
    }

    fn resource_spans(&mut self, _depth: u32, element: Element) -> Result<(), Halt> {
        let (start, line) = (self.json.position(), self.json.line());
        let place = Place::element(line, element);
        match self.json.value_within(LARGE_RESOURCE)? {
            Ok(range) => otlp_json::resource_spans(self.json.slice(range), &place, self.inbox)?,
            Err(Broken::TooLarge) => {
                self.json.rewind(start, line);
                self.large_resource(element)?;
            }
            Err(broken) => {
                // Most of its spans may be whole all the same.
                let rest = self.json.slice(start..self.json.position());
                otlp_json::broken_resource_spans(rest, &place, self.inbox)?;
                return Err(broken.into());
            }
        }
        Ok(())
    }

    /// An element of `resourceSpans` that is not held at once: its spans are taken some at a time.
    fn large_resource(&mut self, element: Element) -> Result<(), Halt> {
        let mut part = PartOfResource { element, line: self.json.line(), ..PartOfResource::default() };
        self.members(|walk, key| {
            match key {
                b"\"resource\"" => {
                    let resource = walk.json.value()??;
                    part.resource = walk.json.slice(resource).to_vec();
                }
                b"\"scopeSpans\""
                | b"\"scope_spans\""
                | b"\"instrumentationLibrarySpans\""
                | b"\"instrumentation_library_spans\"" => walk.elements(|walk| {
                    part.scope.clear();
                    walk.members(|walk, key| {
                        match key {
                            b"\"scope\"" | b"\"instrumentationLibrary\"" | b"\"instrumentation_library\"" => {
                                let scope = walk.json.value()??;
                                part.scope = walk.json.slice(scope).to_vec();
                            }
                            b"\"spans\"" => walk.elements(|walk| {
                                let span = walk.json.value()??;
                                let line = walk.json.line();
                                part.add(walk.json.slice(span), line, walk.inbox)?;
                                Ok(())
                            })?,
                            _ => {
                                walk.json.value()??;
                            }
                        }
                        Ok(())
                    })?;
                    Ok(part.hand_over(walk.json.line(), walk.inbox)?)
                })?,
                _ => {
                    walk.json.value()??;
                }
            }
            Ok(())
        })
    }

    /// Every member of an object, by its quoted key; bytes before the present member are dropped.
    fn members(&mut self, mut read: impl FnMut(&mut Self, &[u8]) -> Result<(), Halt>) -> Result<(), Halt> {
        self.json.expect(b'{')??;
        if self.json.peek()?? == b'}' {
            self.json.take();
            return Ok(());
        }
        loop {
            self.json.peek()??;
            self.json.keep_from_here();
            if self.json.peek()?? != b'"' {
                return Err(Broken::NotJson.into());
            }
            let key = self.json.value()??;
            let key = self.json.slice(key).to_vec();
            self.json.expect(b':')??;
            self.json.peek()??;
            read(self, &key)?;
            match self.json.peek()?? {
                b',' => self.json.take(),
                b'}' => {
                    self.json.take();
                    return Ok(());
                }
                _ => return Err(Broken::NotJson.into()),
            }
        }
    }

    /// Every element of an array; bytes before the present element are dropped.
    fn elements(&mut self, mut read: impl FnMut(&mut Self) -> Result<(), Halt>) -> Result<(), Halt> {
        self.json.expect(b'[')??;
        if self.json.peek()?? == b']' {
            self.json.take();
            return Ok(());
        }
        loop {
            self.json.peek()??;
            self.json.keep_from_here();
            read(self)?;
            match self.json.peek()?? {
                b',' => self.json.take(),
                b']' => {
                    self.json.take();
                    return Ok(());
                }
                _ => return Err(Broken::WrongBracket.into()),
            }
        }
    }

    /// An object that is no wrapper: a record of its own.
    fn record(&mut self, keys: Keys, range: Range<u64>, place: &Place) -> Result<(), Stop> {
        let json = self.json.slice(range);
        let (is_jaeger, is_zipkin) = (
            keys.has(Key::Spans) && (keys.has(Key::TraceID) || keys.has(Key::Processes)),
            keys.has(Key::TraceId) && keys.has(Key::Id),
        );
        if is_jaeger || is_zipkin {
            let kind = if is_jaeger { Kind::Jaeger } else { Kind::Zipkin };
            return self.deferred.add(kind, json, place, self.inbox);
        }
        self.deferred.read(self.inbox)?;
        if keys.has(Key::Parent) && keys.has(Key::Child) && keys.has(Key::CallCount) {
            return dependencies::link(json, place, self.inbox);
        }
        if keys.has(Key::Elements) {
            return kiali::graph(json, place, self.inbox);
        }
        if keys.has(Key::Status) && keys.has(Key::DataObject) {
            return prometheus::answer(json, place, self.inbox);
        }
        if keys.has(Key::OtherSignal) {
            self.inbox.notes.other_signals += 1;
            return Ok(());
        }
        if keys.has(Key::ResourceSpans) {
            // `null` or `{}`: an export without spans.
            self.inbox.recognised(Format::OtlpJson);
            return Ok(());
        }
        let no_trace = keys.no_trace();
        self.inbox.refuse(no_trace, place.line_number());
        self.inbox.skip(place.clone(), no_trace.name())
    }
}

/// Keys that tell records apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    ResourceSpans,
    Data,
    DataObject,
    Result,
    Trace,
    OtherSignal,
    TraceID,
    TraceId,
    SpanId,
    Id,
    Spans,
    Processes,
    Parent,
    Child,
    CallCount,
    Elements,
    Status,
    Traces,
    Other,
}

impl Key {
    fn of(quoted: &[u8]) -> Key {
        match quoted {
            b"\"resourceSpans\"" | b"\"resource_spans\"" | b"\"batches\"" => Key::ResourceSpans,
            b"\"data\"" => Key::Data,
            b"\"result\"" => Key::Result,
            b"\"trace\"" => Key::Trace,
            b"\"resourceMetrics\"" | b"\"resourceLogs\"" | b"\"resource_metrics\"" | b"\"resource_logs\"" => Key::OtherSignal,
            b"\"traceID\"" => Key::TraceID,
            b"\"traceId\"" => Key::TraceId,
            b"\"spanId\"" => Key::SpanId,
            b"\"id\"" => Key::Id,
            b"\"spans\"" => Key::Spans,
            b"\"processes\"" => Key::Processes,
            b"\"parent\"" => Key::Parent,
            b"\"child\"" => Key::Child,
            b"\"callCount\"" => Key::CallCount,
            b"\"elements\"" => Key::Elements,
            b"\"status\"" => Key::Status,
            b"\"traces\"" => Key::Traces,
            _ => Key::Other,
        }
    }
}

/// The keys of one object, a bit each.
#[derive(Clone, Copy, Debug, Default)]
struct Keys(u32);

impl Keys {
    fn add(&mut self, key: Key) {
        self.0 |= 1 << key as u32;
    }

    fn has(self, key: Key) -> bool {
        self.0 & 1 << key as u32 != 0
    }

    fn no_trace(self) -> NoTrace {
        if self.has(Key::Traces) {
            NoTrace::TempoSearch
        } else if self.has(Key::Spans) {
            NoTrace::JaegerApiV2
        } else if self.has(Key::TraceId) && self.has(Key::SpanId) {
            NoTrace::BareSpan
        } else if self.has(Key::Data) {
            NoTrace::EmptyAnswer
        } else {
            NoTrace::Unknown
        }
    }
}
