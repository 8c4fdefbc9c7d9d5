//! Strings that spans share: a name is stored once, however many spans carry it.
//!
//! You are here: `models::trace::names`. Every format reader takes its strings from one [`Names`]; chunks that are read side by side
//! have one each, so that threads do not contend for the counters of shared strings.

use std::sync::Arc;

use indexmap::IndexSet;

/// Longest name that is kept, in bytes.
const LONGEST: usize = 4096;
/// Names found without hashing their whole text: a power of two.
const RECENT: usize = 512;

/// The names seen so far.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: IndexSet<Arc<str>>,
    /// The last name seen of each [`spot`]; empty before the first.
    recent: Vec<Arc<str>>,
    /// Names that were too long and lost their end, since this was last set to 0.
    pub(crate) cut: u64,
}

impl Names {
    /// The shared copy of `name`, of its beginning if it is too long.
    pub(crate) fn get(&mut self, mut name: &str) -> Arc<str> {
        if name.len() > LONGEST {
            name = &name[..name.floor_char_boundary(LONGEST)];
            self.cut += 1;
        }
        if self.recent.is_empty() {
            self.recent = vec![Arc::default(); RECENT];
        }
        let spot = spot(name.as_bytes());
        if *self.recent[spot] == *name {
            return self.recent[spot].clone();
        }
        let shared = match self.known.get(name) {
            Some(known) => known.clone(),
            None => {
                let name: Arc<str> = name.into();
                self.known.insert(name.clone());
                name
            }
        };
        self.recent[spot] = shared.clone();
        shared
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Forgets the names that nobody else holds.
    pub(crate) fn forget_unused(&mut self) {
        self.recent.clear();
        self.known.retain(|name| Arc::strong_count(name) > 1);
    }
}

/// Where in [`Names::recent`] a name goes: a mix of its length, its first and its last eight bytes.
fn spot(name: &[u8]) -> usize {
    let word = |bytes: &[u8]| bytes.iter().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
    let first = name.first_chunk::<8>().map_or_else(|| word(name), |bytes| u64::from_le_bytes(*bytes));
    let last = name.last_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let mixed = (first ^ last.rotate_left(23) ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 55) as usize
}
