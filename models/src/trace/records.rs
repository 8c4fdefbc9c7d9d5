//! Walks a JSON input and gives each record to the reader of its format.
//!
//! You are here: `models::trace::records`. Between `json` (where values end) and `otlp_json`, `jaeger`, `zipkin` (what they say).
//! Always true: a record is recognised by its keys, never by the input's name; what is none of ours is counted or refused by name.

use std::io::Read;
use std::ops::Range;

use super::detect::NoTrace;
use super::inbox::{Inbox, Place, Stop};
use super::json::{Broken, Splitter};
use super::read::Format;
use super::{jaeger, otlp_json, zipkin};

/// Arrays and wrappers (`result`, `trace`, lists of lists) are followed this deep.
const MAX_WRAPPERS: u32 = 4;

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

/// Reads a JSON input to its end; gives the input back for what it has to say.
pub(crate) fn read_all<R: Read>(input: R, max_value: usize, inbox: &mut Inbox<'_>) -> Result<R, Stop> {
    let mut walk = Walk { json: Splitter::new(input, max_value), inbox };
    walk.top_level()?;
    Ok(walk.json.into_input())
}

struct Walk<'w, 'r, R> {
    json: Splitter<R>,
    inbox: &'w mut Inbox<'r>,
}

impl<R: Read> Walk<'_, '_, R> {
    fn top_level(&mut self) -> Result<(), Stop> {
        loop {
            self.json.keep_from_here();
            let Ok(first) = self.json.peek() else { return Ok(()) };
            let line = self.json.line();
            let result = match first {
                None => return Ok(()),
                // Left over from an array whose middle was broken.
                Some(b',' | b']' | b'}') if self.inbox.skipped > 0 => {
                    self.json.take();
                    continue;
                }
                Some(_) => self.any(0),
            };
            match result {
                Ok(()) => self.json.value_ended(line),
                Err(Halt::Stop(stop)) => return Err(stop),
                Err(Halt::Io) => return Ok(()),
                Err(Halt::Broken(broken)) => {
                    self.salvage(broken)?;
                    let whole_lines = self.json.line() - line;
                    let lines = if whole_lines == 0 { String::new() } else { format!(" (line {})", self.json.line()) };
                    self.inbox.skip(Place::line(line), format!("{}{lines}", broken.reason()))?;
                    if self.json.resync().is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// One value that may hold records.
    fn any(&mut self, depth: u32) -> Result<(), Halt> {
        match self.json.peek()? {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth, Self::any),
            Some(b'-' | b'0'..=b'9' | b'"' | b't' | b'f' | b'n') if depth > 0 => Ok(self.json.value()?.map(|_| ())?),
            _ => Err(Broken::NotJson.into()),
        }
    }

    /// Every element of an array.
    fn array(&mut self, depth: u32, element: fn(&mut Self, u32) -> Result<(), Halt>) -> Result<(), Halt> {
        if depth > MAX_WRAPPERS {
            return Ok(self.json.value()?.map(|_| ())?);
        }
        self.json.expect(b'[')??;
        if self.json.peek()? == Some(b']') {
            self.json.take();
            return Ok(());
        }
        loop {
            self.json.peek()?;
            self.json.keep_from_here();
            element(self, depth + 1)?;
            match self.json.peek()? {
                Some(b',') => self.json.take(),
                Some(b']') => {
                    self.json.take();
                    return Ok(());
                }
                Some(_) => return Err(Broken::WrongBracket.into()),
                None => return Err(Broken::EndsInside.into()),
            }
        }
    }

    /// One object: a wrapper whose records are handed out one by one, or a record itself.
    fn object(&mut self, depth: u32) -> Result<(), Halt> {
        let (start, line) = (self.json.position(), self.json.line());
        let mut keys = Keys::default();
        let mut unwrapped = false;
        self.json.expect(b'{')??;
        if self.json.peek()? == Some(b'}') {
            self.json.take();
        } else {
            loop {
                if unwrapped {
                    self.json.peek()?;
                    self.json.keep_from_here();
                }
                unwrapped |= self.member(depth, &mut keys)?;
                match self.json.peek()? {
                    Some(b',') => self.json.take(),
                    Some(b'}') => {
                        self.json.take();
                        break;
                    }
                    Some(_) => return Err(Broken::NotJson.into()),
                    None => return Err(Broken::EndsInside.into()),
                }
            }
        }
        if !unwrapped {
            let end = self.json.position();
            self.record(keys, start..end, &Place::line(line))?;
        }
        Ok(())
    }

    /// One member of an object; says whether its value was unwrapped.
    fn member(&mut self, depth: u32, keys: &mut Keys) -> Result<bool, Halt> {
        if self.json.peek()? != Some(b'"') {
            return Err(Broken::NotJson.into());
        }
        let key = self.json.value()??;
        let key = Key::of(self.json.slice(key));
        self.json.expect(b':')??;
        keys.add(key);
        match (key, self.json.peek()?) {
            (Key::ResourceSpans, Some(b'[')) => {
                self.inbox.recognised(Format::OtlpJson);
                self.array(depth, Self::resource_spans)?;
                Ok(true)
            }
            (Key::Data, Some(b'[')) => {
                self.array(depth, Self::any)?;
                self.inbox.refuse(NoTrace::EmptyAnswer, self.json.line());
                Ok(true)
            }
            (Key::Result | Key::Trace, Some(b'{')) if depth < MAX_WRAPPERS => {
                self.object(depth + 1)?;
                Ok(true)
            }
            (Key::Data, Some(b'{')) => {
                keys.add(Key::DataObject);
                self.json.value()??;
                Ok(false)
            }
            (Key::Status, _) => {
                let line = self.json.line();
                let status = self.json.value()??;
                if self.json.slice(status) == b"\"PARTIAL\"" {
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

    fn resource_spans(&mut self, _depth: u32) -> Result<(), Halt> {
        let line = self.json.line();
        let range = self.json.value()??;
        otlp_json::resource_spans(self.json.slice(range), &Place::line(line), self.inbox)?;
        Ok(())
    }

    /// An object that is no wrapper: a record of its own.
    fn record(&mut self, keys: Keys, range: Range<u64>, place: &Place) -> Result<(), Stop> {
        let json = self.json.slice(range);
        if keys.has(Key::Spans) && (keys.has(Key::TraceID) || keys.has(Key::Processes)) {
            self.inbox.recognised(Format::JaegerJson);
            return jaeger::trace(json, place, self.inbox);
        }
        if keys.has(Key::TraceId) && keys.has(Key::Id) {
            if let Some(format) = zipkin::record(json, place, self.inbox)? {
                self.inbox.recognised(format);
            }
            return Ok(());
        }
        if keys.has(Key::OtherSignal) {
            self.inbox.other_signals += 1;
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

    /// Before a broken value is given up: an element of `resourceSpans` that the input ends in still has whole spans in it.
    fn salvage(&mut self, _broken: Broken) -> Result<(), Stop> {
        Ok(())
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
        if self.has(Key::Parent) && self.has(Key::Child) && self.has(Key::CallCount) {
            NoTrace::Dependencies
        } else if self.has(Key::Traces) {
            NoTrace::TempoSearch
        } else if self.has(Key::Elements) {
            NoTrace::Kiali
        } else if self.has(Key::Status) && self.has(Key::DataObject) {
            NoTrace::Prometheus
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
