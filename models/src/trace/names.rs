//! Strings that spans share: a name is stored once, however many spans carry it.
//!
//! You are here: `models::trace::names`. Every format reader takes its strings from one [`Names`].

use std::sync::Arc;

use indexmap::IndexSet;

/// The names seen so far.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: IndexSet<Arc<str>>,
}

impl Names {
    /// The shared copy of `name`.
    pub(crate) fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.known.insert(name.clone());
        name
    }
}
