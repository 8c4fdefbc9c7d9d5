//! Single flight: which request of a caller's replica asks a store for a key, and who waits for its answer.
//!
//! You are here: `sim::des::flights`. `lookup` joins and leaves flights.
//! Always true: flights lie sorted by what they are for, so that looking one up takes O(log n) and nothing hangs on hash order; there are
//! as many as stores are asked for distinct keys at once, a few.

use crate::program::NONE;

/// What a flight is for: the lookup, the caller's replica, the key.
pub(super) type FlightKey = (u32, u32, u32);

/// One question to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) of: FlightKey,
    /// The call that asks.
    pub(super) leader: u32,
    /// Calls that wait for its answer, the first and the last of a line by `next_waiter`.
    pub(super) first: u32,
    pub(super) last: u32,
}

/// All questions under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Flights(pub(super) Vec<Flight>);

impl Flights {
    /// The place of a flight, or where it would be.
    pub(super) fn find(&self, of: FlightKey) -> Result<usize, usize> {
        self.0.binary_search_by_key(&of, |flight| flight.of)
    }

    pub(super) fn open(&mut self, at: usize, of: FlightKey, leader: u32) {
        self.0.insert(at, Flight { of, leader, first: NONE, last: NONE });
    }
}
