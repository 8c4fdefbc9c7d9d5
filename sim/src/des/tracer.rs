//! What a tracing library in the simulated services would have recorded: one record for each try and each handled request.
//!
//! You are here: `sim::des::tracer`. `client`, `server` and `topic` report here where a run is traced; `spans` makes spans of the records.
//! Always true: nothing of a run depends on it. While a run is traced every request takes the way that it takes while faults are on
//! (`Effects::any`), where the calls to the tracer are; so a run that is not traced pays nothing.
//! Not here: names, and how spans are written (`spans`).

use std::collections::BTreeMap;

use models::rng::{Key, mix};
use models::system::Cause;

use super::records::{Call, Parent};
use crate::program::NONE;

/// The time of what has not ended.
pub(crate) const OPEN: u64 = u64::MAX;

/// Which side a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// A try, as its caller saw it.
    Try,
    /// A request, as its service saw it.
    Request,
    /// A message that is given to its topic.
    Publish,
    /// A message, as its consumer saw it.
    Delivery,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Rightly.
    Well,
    /// Failed, for this reason.
    Failed(Cause),
    /// Nobody wanted it any longer.
    Cancelled,
}

/// A span, before it has names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// Names the trace: the key of its root.
    pub(crate) trace: u64,
    /// Names the try or message; both sides of a try share it.
    pub(crate) key: u64,
    /// The record that it was made for; `NONE` for the first of its trace.
    pub(crate) parent: u32,
    pub(crate) begins: u64,
    /// [`OPEN`] until it is known.
    pub(crate) ends: u64,
    pub(crate) site: u32,
    /// Where it was handled; for a try, where it was made (`NONE`: by a user).
    pub(crate) replica: u32,
    /// Tries before it.
    pub(crate) attempt: u16,
    pub(crate) side: Side,
    pub(crate) ended: Ended,
}

/// The records of both sides of a try.
#[derive(Clone, Copy, Debug)]
struct Pair {
    caller: u32,
    callee: u32,
    /// The call that sent it, for when it arrives.
    site: u32,
    trace: u64,
    parent: u32,
}

/// Collects records.
#[derive(Clone, Debug)]
pub(crate) struct Tracer {
    records: Vec<Record>,
    pairs: BTreeMap<u64, Pair>,
    /// Of 2^64: which traces are kept, by their key.
    keep: u64,
    /// No trace is begun once there are so many records.
    most: usize,
    /// Traces that were not begun because of `most`.
    pub(crate) left_out: u64,
}

impl Tracer {
    pub(crate) fn new(keep: u64, most: usize) -> Self {
        Tracer { records: Vec::new(), pairs: BTreeMap::new(), keep, most: most.min(NONE as usize - 2), left_out: 0 }
    }

    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    fn push(&mut self, record: Record) -> u32 {
        self.records.push(record);
        self.records.len() as u32 - 1
    }

    /// A try leaves its caller, or a message its topic. `publishes`: what is called is a topic.
    pub(crate) fn sent(&mut self, call: &Call, publishes: bool, now: u64) {
        let (key, site) = (call.key.0, call.site);
        let (trace, parent, replica) = match call.from {
            Parent::Entry | Parent::User => {
                // A user who tries again is a new trace: users send no trace context.
                let kept = mix(key) <= self.keep;
                if !kept || self.records.len() >= self.most {
                    self.left_out += u64::from(kept);
                    return;
                }
                (key, NONE, NONE)
            }
            Parent::Exec | Parent::Nobody | Parent::Hedge | Parent::Message => {
                let Some(pair) = self.pairs.get(&call.parent_key.0) else { return };
                let above = if call.from == Parent::Message { pair.caller } else { pair.callee };
                if above == NONE {
                    return;
                }
                (pair.trace, above, self.records[above as usize].replica)
            }
        };
        let mut caller = NONE;
        if replica != NONE && call.from != Parent::Message {
            let side = if publishes { Side::Publish } else { Side::Try };
            let (attempt, ended) = (call.attempt, Ended::Well);
            caller = self.push(Record { trace, key, parent, begins: now, ends: OPEN, site, replica, attempt, side, ended });
        }
        let parent = if caller == NONE { parent } else { caller };
        self.pairs.insert(key, Pair { caller, callee: NONE, site, trace, parent });
    }

    /// A try has reached a replica.
    pub(crate) fn arrived(&mut self, key: Key, message: bool, replica: u32, now: u64) {
        let Some(pair) = self.pairs.get_mut(&key.0) else { return };
        pair.callee = self.records.len() as u32;
        let side = if message { Side::Delivery } else { Side::Request };
        let Pair { trace, parent, site, .. } = *pair;
        let (key, attempt, ended) = (key.0, 0, Ended::Well);
        self.push(Record { trace, key, parent, begins: now, ends: OPEN, site, replica, attempt, side, ended });
    }

    /// A request has left its replica.
    pub(crate) fn left(&mut self, key: Key, ended: Ended, now: u64) {
        let callee = self.pairs.get(&key.0).map_or(NONE, |pair| pair.callee);
        self.end(callee, ended, now);
    }

    /// A caller has heard of a try, or has given it up. What failed before it was sent is a span of no length; what was given up
    /// before, none.
    pub(crate) fn heard(&mut self, call: &Call, publishes: bool, ended: Ended, now: u64) {
        if ended != Ended::Cancelled && !self.pairs.contains_key(&call.key.0) {
            self.sent(call, publishes, now);
        }
        let caller = self.pairs.get(&call.key.0).map_or(NONE, |pair| pair.caller);
        self.end(caller, ended, now);
    }

    fn end(&mut self, record: u32, ended: Ended, now: u64) {
        if let Some(record) = self.records.get_mut(record as usize).filter(|record| record.ends == OPEN) {
            (record.ends, record.ended) = (now, ended);
        }
    }
}
