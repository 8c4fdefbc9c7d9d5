//! Records of one JSON document, put by until there are enough of them to be read side by side.
//!
//! You are here: `models::trace::deferred`, between `records`, which finds where records begin and end, and `jaeger` and `zipkin`, which
//! say what they mean. `batches` does the like for inputs that can be cut before they are looked at.
//! Always true: what a chunk holds depends on the input alone, and chunks are taken in its order, so any number of threads gives the same.

use std::ops::Range;

use rayon::prelude::*;

use super::inbox::{Inbox, Part, Place, Stop};
use super::read::Format;
use super::{jaeger, zipkin};

/// A chunk is full from so many bytes on; a record as large as that is not put by.
const CHUNK: usize = 1 << 20;
/// Chunks that are read together.
const CHUNKS: usize = 8;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Jaeger,
    Zipkin,
}

impl Kind {
    fn read(self, json: &[u8], place: &Place, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
        match self {
            Kind::Jaeger => {
                inbox.recognised(Format::JaegerJson);
                jaeger::trace(json, place, inbox)
            }
            Kind::Zipkin => {
                if let Some(format) = zipkin::record(json, place, inbox)? {
                    inbox.recognised(format);
                }
                Ok(())
            }
        }
    }
}

/// Records that follow one another, their text in one piece.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    records: Vec<(Kind, Range<usize>, Place)>,
}

impl Chunk {
    fn read(&self, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
        self.records.iter().try_for_each(|(kind, range, place)| kind.read(&self.bytes[range.clone()], place, inbox))
    }
}

/// The records put by so far; all chunks but the last are full.
#[derive(Default)]
pub(super) struct Deferred {
    chunks: Vec<Chunk>,
}

impl Deferred {
    /// Puts a record by, and reads all of them if they are enough.
    pub(super) fn add(&mut self, kind: Kind, json: &[u8], place: &Place, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
        if json.len() >= CHUNK {
            self.read(inbox)?;
            return kind.read(json, place, inbox);
        }
        if self.chunks.last().is_none_or(|chunk| chunk.bytes.len() >= CHUNK) {
            if self.chunks.len() == CHUNKS {
                self.read(inbox)?;
            }
            self.chunks.push(Chunk::default());
        }
        if let Some(chunk) = self.chunks.last_mut() {
            let begin = chunk.bytes.len();
            chunk.bytes.extend_from_slice(json);
            chunk.records.push((kind, begin..chunk.bytes.len(), place.clone()));
        }
        Ok(())
    }

    /// Reads what has been put by. To be called before anything else of the input is counted, so that all is counted in order.
    pub(super) fn read(&mut self, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
        let chunks = std::mem::take(&mut self.chunks);
        if let [only] = &chunks[..] {
            return only.read(inbox);
        }
        let parts = inbox.parts();
        let read = |chunk: &Chunk| parts.read(|inbox| chunk.read(inbox));
        let done: Vec<Part> = chunks.par_iter().with_max_len(1).map(read).collect();
        done.into_iter().try_for_each(|part| inbox.absorb(part))
    }
}
