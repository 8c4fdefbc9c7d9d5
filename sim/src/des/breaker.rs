//! The circuit breaker: whether tries may leave, by how the last ones ended.
//!
//! You are here: `sim::des::breaker`. `client` asks before it sends and tells how each try ended.
//! Always true: `failures` counts the failed among the `known` tries; half open, no more probes are under way than the policy allows.

use crate::program::{BreakerP, TripsP};

/// Slots that a window of time is counted in.
const SLOTS: u64 = 10;

/// One caller's breaker on one edge.
#[derive(Clone, Debug)]
pub(crate) struct Breaker {
    pub(crate) mode: BreakerMode,
    pub(crate) memory: Memory,
    pub(crate) known: u32,
    pub(crate) failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BreakerMode {
    Closed,
    Open { until: u64 },
    HalfOpen { unsent: u32, unheard: u32 },
}

/// What it remembers of recent tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Bit i: the try at place i failed; `next` is the place that is used again.
    Calls { failed: Vec<u64>, next: u32 },
    /// (known, failed) by tenth of the window; `tenth` is the number of the running one since time 0.
    Time { slots: [(u32, u32); SLOTS as usize], tenth: u64 },
    /// Failures since the last success are all there is to know.
    Consecutive,
}

impl Breaker {
    /// Closed, with nothing known.
    pub(crate) fn closed(policy: &BreakerP) -> Self {
        let memory = match policy.trips {
            TripsP::Calls { window, .. } => Memory::Calls { failed: vec![0; window.div_ceil(64) as usize], next: 0 },
            TripsP::Time { .. } => Memory::Time { slots: [(0, 0); SLOTS as usize], tenth: 0 },
            TripsP::Consecutive(_) => Memory::Consecutive,
        };
        Breaker { mode: BreakerMode::Closed, memory, known: 0, failures: 0 }
    }

    fn empty(&mut self) {
        match &mut self.memory {
            Memory::Calls { failed, next } => {
                failed.fill(0);
                *next = 0;
            }
            Memory::Time { slots, .. } => slots.fill((0, 0)),
            Memory::Consecutive => {}
        }
        (self.known, self.failures) = (0, 0);
    }

    /// Whether a try may leave now: `Some(probe)` if so.
    pub(crate) fn admits(&mut self, policy: &BreakerP, now: u64) -> Option<bool> {
        if let BreakerMode::Open { until } = self.mode
            && now >= until
        {
            self.mode = BreakerMode::HalfOpen { unsent: policy.probes, unheard: policy.probes };
        }
        match &mut self.mode {
            BreakerMode::Closed => Some(false),
            BreakerMode::Open { .. } | BreakerMode::HalfOpen { unsent: 0, .. } => None,
            BreakerMode::HalfOpen { unsent, .. } => {
                *unsent -= 1;
                Some(true)
            }
        }
    }

    /// An answer, or a failure, of a try that it let through.
    pub(crate) fn heard(&mut self, policy: &BreakerP, now: u64, probe: bool, failed: bool) {
        let opens = match self.mode {
            BreakerMode::HalfOpen { .. } if probe && failed => true,
            BreakerMode::HalfOpen { unheard: 1, .. } if probe => {
                self.mode = BreakerMode::Closed;
                self.empty();
                false
            }
            BreakerMode::HalfOpen { unsent, unheard } if probe => {
                self.mode = BreakerMode::HalfOpen { unsent, unheard: unheard - 1 };
                false
            }
            BreakerMode::Closed => self.remember(policy, now, failed),
            _ => false, // an answer to a try from before it opened
        };
        if opens {
            self.mode = BreakerMode::Open { until: now + policy.open };
        }
    }

    /// Adds a try; returns whether that is the one too many.
    fn remember(&mut self, policy: &BreakerP, now: u64, failed: bool) -> bool {
        let share_reached = |known: u32, failures: u32, min_calls: u32, threshold_q16: u64| {
            known >= min_calls && u64::from(failures) << 16 >= threshold_q16 * u64::from(known)
        };
        match (&mut self.memory, policy.trips) {
            (Memory::Calls { failed: bits, next }, TripsP::Calls { window, min_calls, threshold_q16 }) => {
                let (word, bit) = ((*next / 64) as usize, 1u64 << (*next % 64));
                if self.known == window {
                    self.failures -= u32::from(bits[word] & bit != 0);
                } else {
                    self.known += 1;
                }
                bits[word] = if failed { bits[word] | bit } else { bits[word] & !bit };
                self.failures += u32::from(failed);
                *next = if *next + 1 == window { 0 } else { *next + 1 };
                share_reached(self.known, self.failures, min_calls, threshold_q16)
            }
            (Memory::Time { slots, tenth }, TripsP::Time { window, min_calls, threshold_q16 }) => {
                let current = now / (window / SLOTS);
                while *tenth < current {
                    // What lies a whole window back is forgotten; after a long silence everything is.
                    *tenth = (*tenth + 1).max(current.saturating_sub(SLOTS));
                    let old = std::mem::take(&mut slots[(*tenth % SLOTS) as usize]);
                    self.known -= old.0;
                    self.failures -= old.1;
                }
                let slot = &mut slots[(current % SLOTS) as usize];
                slot.0 += 1;
                slot.1 += u32::from(failed);
                self.known += 1;
                self.failures += u32::from(failed);
                share_reached(self.known, self.failures, min_calls, threshold_q16)
            }
            (Memory::Consecutive, TripsP::Consecutive(limit)) => {
                self.failures = if failed { self.failures + 1 } else { 0 };
                self.failures >= limit
            }
            _ => unreachable!("a breaker's memory is made for its policy"),
        }
    }

    /// Its mode (a number), when it stops being open if that is to come, and the probes unsent and unheard of.
    pub(crate) fn mode_at(&self, now: u64) -> (u64, u64, u32, u32) {
        match self.mode {
            BreakerMode::Closed => (0, 0, 0, 0),
            BreakerMode::Open { until } => (1, until.max(now), 0, 0),
            BreakerMode::HalfOpen { unsent, unheard } => (2, 0, unsent, unheard),
        }
    }

    /// What it remembers that can still matter, as words; nothing unless it is closed, for then it will be forgotten.
    pub(crate) fn memory_words(&self, policy: &BreakerP, now: u64, mut put: impl FnMut(u64)) {
        if self.mode != BreakerMode::Closed {
            return;
        }
        match (&self.memory, policy.trips) {
            (Memory::Calls { failed, next }, TripsP::Calls { window, .. }) => {
                let oldest = if self.known == window { *next } else { 0 };
                for n in 0..self.known {
                    let at = (oldest + n) % window;
                    put(u64::from(failed[(at / 64) as usize] & (1 << (at % 64)) != 0));
                }
            }
            (Memory::Time { slots, tenth }, TripsP::Time { window, .. }) => {
                let current = now / (window / SLOTS);
                for ago in 0..SLOTS {
                    let forgotten = ago > current || current - ago > *tenth || *tenth - (current - ago) >= SLOTS;
                    let slot = if forgotten { (0, 0) } else { slots[((current - ago) % SLOTS) as usize] };
                    put(u64::from(slot.0) << 32 | u64::from(slot.1));
                }
            }
            _ => put(u64::from(self.failures)),
        }
    }

    /// A probe will never be heard of, because its caller has gone: another may be sent.
    pub(crate) fn probe_lost(&mut self) {
        if let BreakerMode::HalfOpen { unsent, .. } = &mut self.mode {
            *unsent += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BreakerP =
        BreakerP { trips: TripsP::Calls { window: 4, min_calls: 2, threshold_q16: 32_768 }, open: 100, probes: 2 };

    #[test]
    fn it_opens_at_its_threshold_and_not_before_it_knows_enough() {
        let mut breaker = Breaker::closed(&POLICY);
        breaker.heard(&POLICY, 0, false, true);
        assert_eq!(breaker.admits(&POLICY, 0), Some(false), "one failure of one is not enough to know");
        breaker.heard(&POLICY, 0, false, false);
        assert_eq!(breaker.admits(&POLICY, 0), None, "one of two is half");
    }

    #[test]
    fn it_forgets_what_leaves_its_window() {
        let mut breaker = Breaker::closed(&POLICY);
        for failed in [false, false, false, true, false, false, false, true] {
            breaker.heard(&POLICY, 0, false, failed);
        }
        assert_eq!(breaker.admits(&POLICY, 0), Some(false), "never two failures among four");
        assert_eq!((breaker.known, breaker.failures), (4, 1));
    }

    #[test]
    fn a_window_of_time_forgets_by_tenths() {
        let policy =
            BreakerP { trips: TripsP::Time { window: 1_000, min_calls: 3, threshold_q16: 65_536 }, open: 100, probes: 1 };
        let mut breaker = Breaker::closed(&policy);
        breaker.heard(&policy, 0, false, true);
        breaker.heard(&policy, 950, false, true);
        breaker.heard(&policy, 1_000, false, true);
        assert_eq!((breaker.known, breaker.failures), (2, 2), "the first lies in the tenth that is used again");
        assert_eq!(breaker.admits(&policy, 1_000), Some(false));
        breaker.heard(&policy, 1_050, false, true);
        assert_eq!(breaker.admits(&policy, 1_050), None);
        let mut silent = Breaker::closed(&policy);
        silent.heard(&policy, 0, false, true);
        silent.heard(&policy, 123_456_789, false, true);
        assert_eq!((silent.known, silent.failures), (1, 1));
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_does_not() {
        let policy = BreakerP { trips: TripsP::Consecutive(3), open: 100, probes: 1 };
        let mut breaker = Breaker::closed(&policy);
        for failed in [true, true, false, true, true] {
            breaker.heard(&policy, 0, false, failed);
        }
        assert_eq!(breaker.admits(&policy, 0), Some(false));
        breaker.heard(&policy, 0, false, true);
        assert_eq!(breaker.admits(&policy, 0), None);
    }

    #[test]
    fn probes_close_it_or_open_it_again() {
        let open = || {
            let mut breaker = Breaker::closed(&POLICY);
            breaker.heard(&POLICY, 0, false, true);
            breaker.heard(&POLICY, 0, false, true);
            breaker
        };
        let mut good = open();
        assert_eq!(good.admits(&POLICY, 99), None);
        assert_eq!(
            [good.admits(&POLICY, 100), good.admits(&POLICY, 100), good.admits(&POLICY, 100)],
            [Some(true), Some(true), None]
        );
        good.heard(&POLICY, 110, true, false);
        good.heard(&POLICY, 110, false, true); // an old try's failure changes nothing
        good.heard(&POLICY, 120, true, false);
        assert_eq!(good.admits(&POLICY, 120), Some(false));
        assert_eq!(good.known, 0, "its history is emptied");
        let mut bad = open();
        assert_eq!(bad.admits(&POLICY, 100), Some(true));
        bad.heard(&POLICY, 110, true, true);
        assert_eq!([bad.admits(&POLICY, 209), bad.admits(&POLICY, 210)], [None, Some(true)]);
        bad.probe_lost();
        assert_eq!(
            [bad.admits(&POLICY, 211), bad.admits(&POLICY, 211), bad.admits(&POLICY, 211)],
            [Some(true), Some(true), None]
        );
    }
}
