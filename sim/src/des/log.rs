//! Every event that enters the digest, where somebody wants to see them.
//!
//! You are here: `sim::des::log`. `note_since` adds to it where the run is logged; `events` gives its entries names.
//! Always true: nothing of a run depends on it. A logged run is a traced one (`Effects::traced`), so that the short way of answers, which does
//! not look for a log, is not taken.

use models::rng::Key;

use super::{Mark, State};

/// One event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noted {
    pub(crate) time: u64,
    /// When what ended now began; 0 where nothing ended.
    pub(crate) since: u64,
    pub(crate) key: Key,
    pub(crate) place: u32,
    pub(crate) mark: Mark,
}

impl State {
    /// Logs the run from now on.
    pub(crate) fn log(&mut self) {
        self.log = Some(Vec::new());
        (self.effects.any, self.effects.traced) = (true, true);
    }

    /// What has happened since it was last taken.
    pub(crate) fn take_log(&mut self) -> Vec<Noted> {
        self.log.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
