//! Strings that spans share: a name is stored once, however many spans carry it.
//!
//! You are here: `models::trace::names`. Every format reader takes its strings from one [`Names`].

use std::sync::Arc;

use indexmap::IndexSet;

/// Longest name that is kept, in bytes.
const LONGEST: usize = 4096;

/// The names seen so far.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: IndexSet<Arc<str>>,
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
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.known.insert(name.clone());
        name
    }
}
