//! Cuts a stream of JSON into records, without building a tree and without holding more than one record.
//!
//! You are here: `models::trace::json`. `read` runs a [`Splitter`]; `otlp_json`, `jaeger` and `zipkin` parse what it hands out.
//! Always true: a record is a slice of the input that is balanced, not yet known to be valid; positions count from the start of
//! the (unpacked) input.
//! Not here: what a record means.
//!
//! Values may follow each other in any layout: one a line, pretty-printed over many lines, or one document. Where brackets do
//! not match, a line break stands inside a text, or a value starts on a new line where none can, the value before it is broken:
//! the splitter says so and goes on at the next line that begins with `{` or `[`.

use std::io::{self, Read};
use std::ops::Range;

use super::otlp_fast::plain_length;

/// Bytes asked from the input at once.
const CHUNK: usize = 256 * 1024;
/// Deepest nesting; what a `u128` of open brackets can hold.
const MAX_DEPTH: u32 = 127;

/// Why a value ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The input ended inside it.
    EndsInside,
    /// A text holds a line break.
    OpenText,
    /// `]` where `}` was due, or the reverse, or a closing bracket too many.
    WrongBracket,
    /// The next value begins inside it.
    NextBegins,
    /// Nested too deep.
    TooDeep,
    /// Larger than [`Splitter::max_value`].
    TooLarge,
    /// Something that is no JSON at all.
    NotJson,
}

impl Broken {
    /// For the list of skipped records.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Broken::EndsInside => "the input ends inside this JSON value",
            Broken::OpenText => "a JSON text is not closed on its line",
            Broken::WrongBracket => "brackets of this JSON value do not match",
            Broken::NextBegins => "the next JSON value begins before this one ends",
            Broken::TooDeep => "JSON nested deeper than 127 levels",
            Broken::TooLarge => "one JSON value larger than the limit",
            Broken::NotJson => "not JSON",
        }
    }
}

/// Walks over JSON, value by value.
pub(crate) struct Splitter<R> {
    input: R,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that hold input.
    filled: usize,
    /// Next byte of `buffer` to look at.
    at: usize,
    /// Everything in `buffer` before this may be dropped.
    keep: usize,
    /// Where `buffer[0]` stands in the input.
    offset: u64,
    line: u64,
    ended: bool,
    /// Top-level values that have ended.
    values: u64,
    /// Whether a line inside a value has begun with an opening bracket. While none has, such a line begins a new value.
    brackets_begin_lines: bool,
    max_value: usize,
}

impl<R: Read> Splitter<R> {
    /// Reads from `input`, which begins on line `first_line`; no value may be longer than `max_value` bytes.
    pub(crate) fn new(input: R, first_line: u64, max_value: usize) -> Self {
        Splitter {
            input,
            buffer: Vec::new(),
            filled: 0,
            at: 0,
            keep: 0,
            offset: 0,
            line: first_line,
            ended: false,
            values: 0,
            brackets_begin_lines: false,
            max_value,
        }
    }

    /// The same for bytes that are all there, and that `values` whole ones stand before.
    pub(crate) fn over(bytes: Vec<u8>, input: R, first_line: u64, values: u64, max_value: usize) -> Self {
        Splitter { filled: bytes.len(), buffer: bytes, ended: true, values, ..Splitter::new(input, first_line, max_value) }
    }

    /// The input, for what it has to say at the end.
    pub(crate) fn into_input(self) -> R {
        self.input
    }

    /// The line of the next byte, from 1.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// Where the next byte stands in the input.
    pub(crate) fn position(&self) -> u64 {
        self.offset + self.at as u64
    }

    /// The bytes of a range of positions that is still kept.
    pub(crate) fn slice(&self, range: Range<u64>) -> &[u8] {
        &self.buffer[(range.start - self.offset) as usize..(range.end - self.offset) as usize]
    }

    /// From here on bytes are kept, until the next call of this.
    pub(crate) fn keep_from_here(&mut self) {
        self.keep = self.at;
    }

    /// Goes back to a position that is still kept, and its line.
    pub(crate) fn rewind(&mut self, position: u64, line: u64) {
        self.at = (position - self.offset) as usize;
        self.line = line;
    }

    /// Takes one whole value that may be no longer than `limit` bytes, whatever else may be.
    pub(crate) fn value_within(&mut self, limit: usize) -> io::Result<Result<Range<u64>, Broken>> {
        let max_value = self.max_value;
        self.max_value = limit.min(max_value);
        let value = self.value();
        self.max_value = max_value;
        value
    }

    /// Tells the splitter that a top-level value has ended here.
    pub(crate) fn value_ended(&mut self) {
        self.values += 1;
    }

    /// The next byte between top-level values that is not white space, without taking it; `None` at the end.
    pub(crate) fn peek_between(&mut self) -> io::Result<Option<u8>> {
        Ok(self.skip_white_space(false)?.unwrap_or(None))
    }

    /// The same inside a value, where the input should not end.
    pub(crate) fn peek(&mut self) -> io::Result<Result<u8, Broken>> {
        Ok(self.skip_white_space(true)?.and_then(|next| next.ok_or(Broken::EndsInside)))
    }

    fn skip_white_space(&mut self, inside: bool) -> io::Result<Result<Option<u8>, Broken>> {
        loop {
            while self.at < self.filled {
                match self.buffer[self.at] {
                    b'\n' => {
                        if inside && self.next_begins()? {
                            return Ok(Err(Broken::NextBegins));
                        }
                        self.line += 1;
                    }
                    b' ' | b'\t' | b'\r' => {}
                    byte => return Ok(Ok(Some(byte))),
                }
                self.at += 1;
            }
            if !self.fill()? {
                return Ok(Ok(None));
            }
        }
    }

    /// Takes the byte that [`Splitter::peek`] has shown.
    pub(crate) fn take(&mut self) {
        self.at += 1;
    }

    /// Takes the next byte that is not white space, which should be `byte`.
    pub(crate) fn expect(&mut self, byte: u8) -> io::Result<Result<(), Broken>> {
        Ok(match self.peek()? {
            Ok(found) if found == byte => {
                self.take();
                Ok(())
            }
            Ok(_) => Err(Broken::NotJson),
            Err(broken) => Err(broken),
        })
    }

    /// Takes one whole value and says where it stands.
    pub(crate) fn value(&mut self) -> io::Result<Result<Range<u64>, Broken>> {
        let first = match self.peek()? {
            Err(broken) => return Ok(Err(broken)),
            Ok(byte) => byte,
        };
        let start = self.position();
        let end = match first {
            b'{' | b'[' => self.nested()?,
            b'"' => {
                self.at += 1;
                self.text()?
            }
            b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.scalar()?;
                Ok(())
            }
            _ => Err(Broken::NotJson),
        };
        Ok(end.map(|()| start..self.position()))
    }

    /// Takes a value that begins with a bracket.
    fn nested(&mut self) -> io::Result<Result<(), Broken>> {
        // One bit an open bracket, 1 for a brace; the innermost is the lowest.
        let (mut open, mut depth) = (0u128, 0u32);
        loop {
            while self.at < self.filled {
                let byte = self.buffer[self.at];
                match byte {
                    b'"' => {
                        self.at += 1;
                        if let Err(broken) = self.text()? {
                            return Ok(Err(broken));
                        }
                        continue;
                    }
                    b'{' | b'[' => {
                        if depth == MAX_DEPTH {
                            return Ok(Err(Broken::TooDeep));
                        }
                        open = open << 1 | u128::from(byte == b'{');
                        depth += 1;
                    }
                    b'}' | b']' => {
                        if (open & 1 == 1) != (byte == b'}') {
                            return Ok(Err(Broken::WrongBracket));
                        }
                        open >>= 1;
                        depth -= 1;
                        if depth == 0 {
                            self.at += 1;
                            return Ok(Ok(()));
                        }
                    }
                    b'\n' => {
                        if self.next_begins()? {
                            return Ok(Err(Broken::NextBegins));
                        }
                        self.line += 1;
                    }
                    _ => {}
                }
                self.at += 1;
            }
            if self.filled - self.keep > self.max_value {
                return Ok(Err(Broken::TooLarge));
            }
            if !self.fill()? {
                return Ok(Err(Broken::EndsInside));
            }
        }
    }

    /// At a line break inside a value: whether a new top-level value begins on the next line, at its very first byte. It does
    /// where no nested value can: after anything but an opening bracket, a comma or a colon. And it does if none of several
    /// values has had a line that begins so.
    fn next_begins(&mut self) -> io::Result<bool> {
        if self.at + 1 == self.filled && !self.fill()? {
            return Ok(false);
        }
        if !matches!(self.buffer[self.at + 1], b'{' | b'[') {
            return Ok(false);
        }
        let before = self.buffer[self.keep..self.at].iter().rev().find(|byte| !byte.is_ascii_whitespace());
        let cannot_be_nested = before.is_some_and(|byte| !matches!(byte, b'{' | b'[' | b',' | b':'));
        if cannot_be_nested || self.values >= 2 && !self.brackets_begin_lines {
            return Ok(true);
        }
        self.brackets_begin_lines = true;
        Ok(false)
    }

    /// Takes the rest of a text whose opening quote has been taken.
    fn text(&mut self) -> io::Result<Result<(), Broken>> {
        loop {
            while self.at < self.filled {
                self.at += plain_length(&self.buffer[self.at..self.filled]);
                match self.buffer.get(self.at).copied().filter(|_| self.at < self.filled) {
                    None => break,
                    Some(b'"') => {
                        self.at += 1;
                        return Ok(Ok(()));
                    }
                    // The byte after a backslash is never the closing quote.
                    Some(b'\\') => {
                        if self.at + 1 == self.filled && !self.fill()? {
                            return Ok(Err(Broken::EndsInside));
                        }
                        self.at += 2;
                    }
                    Some(b'\n') => return Ok(Err(Broken::OpenText)),
                    Some(_) => self.at += 1,
                }
            }
            if self.filled - self.keep > self.max_value {
                return Ok(Err(Broken::TooLarge));
            }
            if !self.fill()? {
                return Ok(Err(Broken::EndsInside));
            }
        }
    }

    /// Takes a number or a word.
    fn scalar(&mut self) -> io::Result<()> {
        loop {
            while self.at < self.filled {
                if !matches!(self.buffer[self.at], b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z') {
                    return Ok(());
                }
                self.at += 1;
            }
            if self.filled - self.keep > self.max_value || !self.fill()? {
                return Ok(());
            }
        }
    }

    /// After something broken: goes to the next line that begins with `{` or `[`, or to the end.
    pub(crate) fn resync(&mut self) -> io::Result<()> {
        loop {
            self.keep = self.at;
            while self.at < self.filled {
                let byte = self.buffer[self.at];
                self.at += 1;
                if byte == b'\n' {
                    self.line += 1;
                    if self.at == self.filled && !self.fill()? {
                        return Ok(());
                    }
                    if matches!(self.buffer[self.at], b'{' | b'[') {
                        return Ok(());
                    }
                }
            }
            if !self.fill()? {
                return Ok(());
            }
        }
    }

    /// Gets more input; `false` at the end. What stands before `keep` is dropped.
    fn fill(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        if self.keep > 0 && self.buffer.len() - self.filled < CHUNK {
            self.buffer.copy_within(self.keep..self.filled, 0);
            self.filled -= self.keep;
            self.at -= self.keep;
            self.offset += self.keep as u64;
            self.keep = 0;
        }
        if self.buffer.len() - self.filled < CHUNK {
            let larger = (self.buffer.len() * 2).max(2 * CHUNK);
            self.buffer.resize(larger, 0);
        }
        loop {
            match self.input.read(&mut self.buffer[self.filled..]) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(false);
                }
                Ok(more) => {
                    self.filled += more;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
