//! Chunks of one input read side by side, their results taken in order.
//!
//! You are here: `models::trace::batches`. `json_lines` and `otlp_proto` cut their inputs into chunks and hand them over.
//! Always true: which chunks there are and which of them share a batch depends on the input alone, so what is read and counted is
//! the same on any number of threads. While a batch is read, the next one is unpacked and cut, and the one before is put away.

use rayon::prelude::*;

use super::inbox::{Inbox, Part, Stop};

/// Most chunks of a batch.
const CHUNKS: usize = 16;
/// Bytes from which on a batch is full.
const BATCH_BYTES: usize = 8 << 20;

/// A piece of an input that can be read by itself.
pub(crate) trait Chunk: Send + Sync {
    /// How long it is.
    fn bytes(&self) -> usize;

    /// Reads it.
    fn read(&self, inbox: &mut Inbox<'_>) -> Result<(), Stop>;
}

/// Reads all chunks that `next` cuts off.
pub(crate) fn read_all<C: Chunk>(mut next: impl FnMut() -> Option<C> + Send, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
    let mut batch = cut(&mut next);
    let mut done: Vec<Part> = Vec::new();
    while !batch.is_empty() || !done.is_empty() {
        let parts = inbox.parts();
        let read = || batch.par_iter().with_max_len(1).map(|chunk| parts.read(|inbox| chunk.read(inbox))).collect::<Vec<Part>>();
        let put_away_and_cut = || {
            let result = std::mem::take(&mut done).into_iter().try_for_each(|part| inbox.absorb(part));
            result.map(|()| cut(&mut next))
        };
        let (read, following) = rayon::join(read, put_away_and_cut);
        (done, batch) = (read, following?);
    }
    Ok(())
}

/// The next batch; empty at the end.
fn cut<C: Chunk>(next: &mut impl FnMut() -> Option<C>) -> Vec<C> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < CHUNKS && bytes < BATCH_BYTES {
        let Some(chunk) = next() else { break };
        bytes += chunk.bytes();
        batch.push(chunk);
    }
    batch
}
