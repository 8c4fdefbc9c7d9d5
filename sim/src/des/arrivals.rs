//! Users come in: open loops with their curves, bursts and surges, and closed loops.
//!
//! You are here: `sim::des::arrivals`. It opens the users' calls (`client`) and hears of their end.
//! Always true: an open loop's arrivals keep time and key whatever happens to the system; a surge adds a stream of its own, a drop thins by a
//! keyed draw. The n-th request of a closed loop's user has the same key in every run, whenever it comes.

use models::rng::{Chance, Key, KeyStream, Purpose, mix};
use models::system::Cause;

use super::queue::Kind;
use super::records::{Parent, Role};
use super::{Mark, State};
use crate::program::{FAR_NS, NONE, ONE_Q16, ShapeP, Tables};
use crate::run::MAX_HORIZON;

/// Arrivals of one entry: its own, or those that a surge adds.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(super) keys: KeyStream,
    pub(crate) entry: u32,
    pub(super) gap_q16: u128,
    /// When a surge's stream ends.
    pub(super) until: u64,
    /// The surge's fault.
    pub(crate) surge: Option<u32>,
    pub(crate) next_key: Key,
    /// When the next one comes, to the nanosecond whatever the quantum of the clock.
    pub(super) next_at: u64,
}

impl Stream {
    /// The arrivals of an entry from `now` on: its own (`surge` = None), or those that a surge (fault, end) adds.
    pub(crate) fn new(p: &Tables, seed: u64, entry: u32, factor: f64, surge: Option<(u32, u64)>, now: u64) -> Self {
        let e = &p.entries[entry as usize];
        let number = surge.map_or(0, |(fault, _)| u64::from(fault) + 1);
        Stream {
            keys: KeyStream::new(seed, (u64::from(e.site) << 16) | number),
            entry,
            gap_q16: (e.gap_q16 as f64 / factor) as u128,
            until: surge.map_or(u64::MAX, |(_, until)| until),
            surge: surge.map(|(fault, _)| fault),
            next_key: Key(0),
            next_at: now,
        }
    }

    /// When the next one comes, whose key is then `next_key`; `None` if the stream has ended.
    #[inline]
    pub(crate) fn next(&mut self, p: &Tables) -> Option<u64> {
        self.next_key = self.keys.next_key();
        let gap = p.unit_exponential.draw(self.next_key.draw(Purpose::Arrival, 0));
        let gap_ns = u64::try_from((u128::from(gap) * self.gap_q16) >> 48).unwrap_or(FAR_NS).min(FAR_NS);
        self.next_at = match &p.entries[self.entry as usize].shape {
            None => self.next_at + gap_ns,
            Some(shape) => after(shape, self.next_at, gap_ns),
        };
        (self.next_at < self.until).then_some(self.next_at)
    }
}

/// The key of a user of a closed loop's n-th request.
pub(crate) fn key_of_request(user: Key, asked: u32) -> Key {
    Key(mix(user.0.wrapping_add((u64::from(asked) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))))
}

/// How many users a closed loop has, with the key of each.
pub(crate) fn users_of(p: &Tables, seed: u64, load: f64, entry: u32) -> Vec<Key> {
    let e = &p.entries[entry as usize];
    let mut keys = KeyStream::new(seed, u64::from(e.site) << 16);
    let users = (f64::from(e.closed.map_or(0, |closed| closed.users)) * load).round() as u32;
    (0..users).map(|_| keys.next_key()).collect()
}

/// One user of a closed loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct User {
    pub(super) entry: u32,
    /// Which of its entry's users.
    pub(super) number: u32,
    pub(super) key: Key,
    /// Requests made.
    pub(super) asked: u32,
}

impl State {
    /// Opens the arrivals of an entry.
    pub(super) fn open_entry(&mut self, p: &Tables, entry: u32) {
        let e = &p.entries[entry as usize];
        if e.closed.is_some() {
            for (number, key) in users_of(p, self.seed, self.load, entry).into_iter().enumerate() {
                self.users.push(User { entry, number: number as u32, key, asked: 0 });
                self.think(p, self.users.len() as u32 - 1);
            }
        } else if e.active && self.load > 0.0 {
            self.open_stream(p, entry, self.load, None);
        }
    }

    /// Opens a stream of arrivals: an entry's own (`surge` = None), or those that a surge (fault, end) adds.
    pub(super) fn open_stream(&mut self, p: &Tables, entry: u32, factor: f64, surge: Option<(u32, u64)>) {
        self.streams.push(Stream::new(p, self.seed, entry, factor, surge, self.now));
        self.schedule_arrival(p, self.streams.len() as u32 - 1);
    }

    #[inline]
    fn schedule_arrival(&mut self, p: &Tables, slot: u32) {
        if let Some(at) = self.streams[slot as usize].next(p) {
            self.queue.push(at, Kind::Arrival, slot);
        }
    }

    pub(super) fn user_arrives(&mut self, p: &Tables, slot: u32) {
        let Stream { next_key: key, entry, surge, .. } = self.streams[slot as usize];
        self.schedule_arrival(p, slot);
        if let Some(fault) = surge
            && !self.surges_now(fault, key)
        {
            return; // the surge has not reached its height yet, or is falling
        }
        let number = self.recorder.user_arrived(entry, surge.is_some());
        if self.effects.any {
            let effect = &self.effects.entries[entry as usize];
            if effect.active {
                if effect.thin.is_some_and(|keep| !keep.hits(key.draw(Purpose::Fault, 0))) {
                    return;
                }
                self.recorder.touch(number);
            }
        }
        self.note(Mark::UserArrives, entry, key);
        let site = p.entries[entry as usize].call;
        let hop = &p.hops[site as usize];
        if hop.plain && !self.effects.on_edge(hop.edge) {
            let c = self.calls.reserve();
            self.open_plain_call(p, c, Parent::Entry, entry, site, hop, key, key, number);
        } else {
            self.open_call(p, Parent::Entry, entry, site, key, key, 0, 1, number, Role::Plain, 0, NONE);
        }
    }

    pub(super) fn user_done(&mut self, entry: u32, number: u32, began: u64, key: Key, failure: Option<Cause>) {
        self.note_since(if failure.is_some() { Mark::UserFailed } else { Mark::UserDone }, entry, key, began);
        self.recorder.user_ended(number, entry, self.now - began, failure.is_some());
    }

    /// A closed loop's user thinks, then asks.
    pub(super) fn think(&mut self, p: &Tables, u: u32) {
        let user = self.users[u as usize];
        let closed = p.entries[user.entry as usize].closed.expect("users belong to closed loops");
        let think = p.tables[closed.think as usize].draw(user.key.draw(Purpose::Think, user.asked));
        self.queue.push(self.now + think, Kind::Think, u);
    }

    pub(super) fn user_asks(&mut self, p: &Tables, u: u32) {
        let user = &mut self.users[u as usize];
        let User { entry, number, asked, .. } = *user;
        user.asked += 1;
        let key = key_of_request(user.key, asked);
        let e = &p.entries[entry as usize];
        let users = (f64::from(e.closed.expect("users belong to closed loops").users) * self.load).round() as u32;
        let request = self.recorder.user_arrived_nth(entry, number, asked, users);
        if self.effects.any && self.effects.entries[entry as usize].active {
            self.recorder.touch(request);
        }
        self.note(Mark::UserArrives, entry, key);
        self.open_call(p, Parent::User, u, e.call, key, key, 0, 1, request, Role::Plain, 0, NONE);
    }

    /// Whether a request of a surge's stream comes, by how high the surge stands now.
    fn surges_now(&self, fault: u32, key: Key) -> bool {
        let level_q16 = self.fault_level_q16(fault);
        level_q16 >= ONE_Q16 || Chance::of_q16(level_q16).hits(key.draw(Purpose::Fault, 1))
    }
}

/// When a gap that is `gap` at factor 1 ends, if it begins at `from`; beyond all runs if the rate stays 0.
fn after(shape: &ShapeP, from: u64, gap: u64) -> u64 {
    // What is left of the gap, in nanoseconds at factor 1 times 2^16.
    let mut left = u128::from(gap) << 16;
    let mut at = from;
    while at < MAX_HORIZON.as_nanos() {
        let (factor_q16, until) = factor_at(shape, at);
        let here = u128::from(until - at) * u128::from(factor_q16);
        if factor_q16 > 0 && here >= left {
            return at + (left / u128::from(factor_q16)) as u64;
        }
        left -= here;
        at = until;
    }
    FAR_NS
}

/// The factor on the rate at a time, and until when it holds.
fn factor_at(shape: &ShapeP, at: u64) -> (u64, u64) {
    let round = at.checked_div(shape.repeat).map_or(0, |rounds| rounds * shape.repeat);
    let into = at - round;
    let next = shape.steps.partition_point(|&(from, _)| from <= into);
    let factor = shape.steps[next - 1].1;
    let curve_end = shape.steps.get(next).map_or(FAR_NS, |&(from, _)| from);
    let curve_end = if shape.repeat > 0 { curve_end.min(shape.repeat) } else { curve_end };
    let until = round + curve_end;
    let (every, lasting, burst_q16) = shape.bursts;
    if every == 0 {
        return (factor, until);
    }
    let (turn, into) = (at / every, at % every);
    if turn > 0 && into < lasting {
        let both = (u128::from(factor) * u128::from(burst_q16)) >> 16;
        (u64::try_from(both).unwrap_or(u64::MAX), until.min(turn * every + lasting))
    } else {
        (factor, until.min((turn + 1) * every))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn gaps_are_spent_at_the_rate_of_each_step() {
        // Rate 1 for 10 s, then 4; a gap of 14 s at rate 1 begun at 4 s: 6 s of it by 10 s, the other 8 in 2 s.
        let shape = ShapeP { steps: vec![(0, ONE_Q16), (10 * S, 4 * ONE_Q16)], repeat: 0, bursts: (0, 0, 0) };
        assert_eq!(after(&shape, 4 * S, 14 * S), 12 * S);
        // Repeating every 20 s: 10 + 40 + 10 by 30 s.
        let shape = ShapeP { repeat: 20 * S, ..shape };
        assert_eq!(after(&shape, 0, 58 * S), 28 * S);
    }

    #[test]
    fn bursts_multiply_and_silence_lasts() {
        let shape = ShapeP { steps: vec![(0, ONE_Q16)], repeat: 0, bursts: (10 * S, S, 5 * ONE_Q16) };
        assert_eq!(after(&shape, 0, 10 * S), 10 * S, "the first burst comes at the end of the first period");
        assert_eq!(after(&shape, 0, 15 * S), 11 * S);
        assert_eq!(after(&shape, 0, 16 * S), 12 * S);
        let silent = ShapeP { steps: vec![(0, ONE_Q16), (S, 0)], repeat: 0, bursts: (0, 0, 0) };
        assert_eq!(after(&silent, 0, 2 * S), FAR_NS);
    }
}
