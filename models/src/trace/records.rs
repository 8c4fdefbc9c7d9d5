//! Walks a JSON input and gives each record to the reader of its format.
//!
//! You are here: `models::trace::records`. Between `json` (where values end) and `otlp_json`, `jaeger`, `zipkin` (what they say).
//! Always true: a record is recognised by its keys, never by the input's name; what is none of ours is counted or refused by name.

use std::io::Read;

use super::inbox::{Inbox, Place, Stop};
use super::json::{Broken, Splitter};
use super::otlp_json;
use super::read::Format;
use super::source::Source;
use crate::error::InputError;

/// Arrays and wrappers (`result`, `trace`, lists of lists) are followed this deep.
const MAX_WRAPPERS: u32 = 4;

/// What ended a walk inside a value.
enum Halt {
    Stop(Stop),
    Broken(Broken),
    Io(std::io::Error),
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
    fn from(error: std::io::Error) -> Self {
        Halt::Io(error)
    }
}

/// Reads a JSON input to its end; gives the input back for what it has to say.
pub(crate) fn read_all<'s>(source: Source<'s>, max_value: usize, inbox: &mut Inbox<'_>) -> Result<Source<'s>, Stop> {
    let mut walk = Walk { json: Splitter::new(source, max_value), inbox };
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
            let (line, position) = (self.json.line(), self.json.position());
            let result = match self.json.peek() {
                Ok(None) => return Ok(()),
                // Left over from an array whose middle was broken.
                Ok(Some(b',' | b']' | b'}')) if self.inbox.skipped > 0 => {
                    self.json.take();
                    continue;
                }
                Ok(Some(_)) => {
                    let line = self.json.line();
                    self.any(0).map(|()| self.json.value_ended(line))
                }
                Err(error) => Err(error.into()),
            };
            match result {
                Ok(()) => {}
                Err(Halt::Stop(stop)) => return Err(stop),
                Err(Halt::Io(_)) => return Ok(()),
                Err(Halt::Broken(broken)) => {
                    let line = line.max(if matches!(broken, Broken::NotJson) { self.json.line() } else { line });
                    self.inbox.skip(Place::line(line), broken.reason())?;
                    if self.json.resync().is_err() {
                        return Ok(());
                    }
                    if self.json.position() == position {
                        self.json.take();
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
                let key = self.json.value()??;
                let key = Key::of(self.json.slice(key));
                self.json.expect(b':')??;
                let opening = self.json.peek()?;
                keys.add(key, opening);
                match (key, opening) {
                    (Key::ResourceSpans, Some(b'[')) => {
                        self.recognised(Format::OtlpJson);
                        unwrapped = true;
                        self.array(depth, Self::resource_spans)?;
                    }
                    (Key::Data, Some(b'[')) => {
                        unwrapped = true;
                        self.array(depth, Self::any)?;
                    }
                    (Key::Result | Key::Trace, Some(b'{')) if depth < MAX_WRAPPERS => {
                        unwrapped = true;
                        self.object(depth + 1)?;
                    }
                    _ => {
                        self.json.value()??;
                    }
                }
                match self.json.peek()? {
                    Some(b',') => {
                        self.json.take();
                        self.json.peek()?;
                        if unwrapped {
                            self.json.keep_from_here();
                        }
                    }
                    Some(b'}') => {
                        self.json.take();
                        break;
                    }
                    Some(_) => return Err(Broken::WrongBracket.into()),
                    None => return Err(Broken::EndsInside.into()),
                }
            }
        }
        if !unwrapped {
            let end = self.json.position();
            self.record(&keys, start..end, line)?;
        }
        Ok(())
    }

    fn resource_spans(&mut self, _depth: u32) -> Result<(), Halt> {
        let line = self.json.line();
        let range = self.json.value()??;
        otlp_json::resource_spans(self.json.slice(range), Place::line(line), self.inbox)?;
        Ok(())
    }

    /// An object that is no wrapper: a record of its own.
    fn record(&mut self, keys: &Keys, range: std::ops::Range<u64>, line: u64) -> Result<(), Stop> {
        let _ = range;
        if keys.has(Key::OtherSignal) {
            self.inbox.other_signals += 1;
            return Ok(());
        }
        if keys.has(Key::ResourceSpans) {
            self.recognised(Format::OtlpJson);
            return Ok(());
        }
        self.inbox.refusal.get_or_insert_with(|| InputError::default());
        self.inbox.skip(Place::line(line), "a JSON object that is no trace")
    }

    fn recognised(&mut self, format: Format) {
        self.inbox.format.get_or_insert(format);
        self.inbox.records += 1;
    }
}

/// Keys that tell formats apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Key {
    ResourceSpans,
    Data,
    Result,
    Trace,
    OtherSignal,
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
            _ => Key::Other,
        }
    }
}

/// The keys of one object.
#[derive(Clone, Copy, Debug, Default)]
struct Keys(u32);

impl Keys {
    fn add(&mut self, key: Key, _opening: Option<u8>) {
        self.0 |= 1 << key as u32;
    }

    fn has(self, key: Key) -> bool {
        self.0 & 1 << key as u32 != 0
    }
}
