//! Cuts JSON that has a value a line, or values that end on lines of their own, into chunks of whole values.
//!
//! You are here: `models::trace::json_lines`. `read` starts here for JSON; `otlp_fast` or `records` reads each value, or, where there
//! is no place to cut, `records` the rest of the input as one stream.
//! Always true: a cut is where `json` too sees the end of a value, whatever stands before: a line that ends with a closing bracket,
//! before a line that begins with an opening one. No nested value can stand so, for it would need a comma.

use std::io::{Cursor, Read};

use memchr::memchr_iter;

use super::batches::{self, Chunk};
use super::inbox::{Inbox, Stop};
use super::source::Source;
use super::{otlp_fast, records};

/// A chunk ends at the first place after so many bytes.
const CHUNK: usize = 1 << 20;
/// Without a place to cut for so long, the rest is read as a stream.
const LONGEST: usize = 8 << 20;

/// Reads a JSON input to its end; gives the input back for what it has to say.
pub(crate) fn read_all<'s>(source: Source<'s>, max_value: usize, inbox: &mut Inbox<'_>) -> Result<Source<'s>, Stop> {
    let mut cutter = Cutter { source, pending: Vec::new(), line: 1, one_a_line: false, max_value, ended: false };
    cutter.fill(CHUNK);
    if !cutter.ended {
        batches::read_all(|| cutter.next(), inbox)?;
    }
    // What is short, or has no place to cut.
    let rest = Cursor::new(std::mem::take(&mut cutter.pending)).chain(cutter.source);
    let rest = records::read_all(rest, cutter.line, max_value, inbox)?;
    Ok(rest.into_inner().1)
}

struct Lines {
    bytes: Vec<u8>,
    first_line: u64,
    /// Values on lines of their own that are known to stand before it.
    values: u64,
    max_value: usize,
}

impl Chunk for Lines {
    fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn read(&self, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
        let (mut begin, mut line, mut values) = (0, self.first_line, self.values);
        while begin < self.bytes.len() {
            let end = place_to_cut(&self.bytes, begin).unwrap_or(self.bytes.len());
            let piece = &self.bytes[begin..end];
            match otlp_fast::document(piece, inbox) {
                Some(read) => read?,
                // Where a broken value ends, the ones after it tell.
                None => return records::read_piece(&self.bytes[begin..], line, values, self.max_value, inbox),
            }
            let lines = memchr_iter(b'\n', piece).count() as u64;
            line += lines;
            values += u64::from(lines == 1);
            begin = end;
        }
        Ok(())
    }
}

struct Cutter<'s> {
    source: Source<'s>,
    /// Read, and not yet in a chunk.
    pending: Vec<u8>,
    /// The line that `pending` begins with.
    line: u64,
    /// Whether values, as far as the first chunk shows, are on lines of their own.
    one_a_line: bool,
    max_value: usize,
    /// Nothing is left to be read.
    ended: bool,
}

impl Cutter<'_> {
    /// Reads until so many bytes are pending, or to the end.
    fn fill(&mut self, until: usize) {
        if self.pending.len() < until {
            let missing = (until - self.pending.len()) as u64;
            // A source ends instead of failing, and says why afterwards.
            let _ = self.source.by_ref().take(missing).read_to_end(&mut self.pending);
            self.ended = self.pending.len() < until;
        }
    }

    fn chunk(&mut self, bytes: Vec<u8>) -> Lines {
        let first_line = self.line;
        self.line += memchr_iter(b'\n', &bytes).count() as u64;
        Lines { bytes, first_line, values: if self.one_a_line { 2 } else { 0 }, max_value: self.max_value }
    }

    /// The next chunk; `None` where the input ends or has no place to cut for long.
    fn next(&mut self) -> Option<Lines> {
        let mut searched = CHUNK;
        let mut until = CHUNK + CHUNK / 4;
        loop {
            self.fill(until);
            if let Some(end) = place_to_cut(&self.pending, searched) {
                let rest = self.pending[end..].to_vec();
                let mut bytes = std::mem::replace(&mut self.pending, rest);
                bytes.truncate(end);
                let chunk = self.chunk(bytes);
                self.one_a_line |= chunk.first_line == 1 && one_a_line(&chunk.bytes);
                return Some(chunk);
            }
            if self.ended && self.line > 1 {
                let bytes = std::mem::take(&mut self.pending);
                return (!bytes.is_empty()).then(|| self.chunk(bytes));
            }
            if self.ended || self.pending.len() >= LONGEST {
                return None;
            }
            // The line break at the end may be followed by a bracket that is not there yet.
            searched = self.pending.len().saturating_sub(1).max(CHUNK);
            until = self.pending.len() + CHUNK;
        }
    }
}

/// Whether no line of whole values begins a nested one.
fn one_a_line(bytes: &[u8]) -> bool {
    memchr_iter(b'\n', bytes).all(|at| {
        let before = bytes[..at].iter().rev().find(|byte| !byte.is_ascii_whitespace());
        !matches!(bytes.get(at + 1), Some(b'{' | b'[')) || matches!(before, None | Some(b'}' | b']'))
    })
}

/// The first beginning of a line, behind the byte at `from`, where a new value begins.
fn place_to_cut(bytes: &[u8], from: usize) -> Option<usize> {
    let tail = bytes.get(from..)?;
    let starts = memchr_iter(b'\n', tail).map(|at| from + at + 1);
    starts.into_iter().find(|&start| {
        matches!(bytes.get(start), Some(b'{' | b'['))
            && matches!(bytes[..start].iter().rev().find(|byte| !byte.is_ascii_whitespace()), Some(b'}' | b']'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_between_values_only() {
        let cut = |text: &str| place_to_cut(text.as_bytes(), 0);
        assert_eq!(cut("{}\n{}"), Some(3));
        assert_eq!(cut("{}\r\n \r\n[]"), Some(7));
        assert_eq!(cut("[{},\n{}]"), None);
        assert_eq!(cut("{\"a\":\n{}\n}"), None);
        assert_eq!(cut("{\n{}\n"), None);
    }
}
