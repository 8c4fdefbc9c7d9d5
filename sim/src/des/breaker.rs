//! The circuit breaker: whether tries may leave, by how the last ones ended.
//!
//! You are here: `sim::des::breaker`. `client` asks before it sends and tells how each try ended.
//! Always true: `failures` counts the set bits of the window; half open, no more probes are under way than the policy allows.

use crate::program::BreakerP;

/// One caller's breaker on one edge.
#[derive(Clone, Debug)]
pub(super) struct Breaker {
    mode: BreakerMode,
    /// Bit i of the window: failed.
    failed: Vec<u64>,
    next: u32,
    known: u32,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BreakerMode {
    Closed,
    Open { until: u64 },
    HalfOpen { unsent: u32, unheard: u32 },
}

impl Breaker {
    /// Closed, with nothing known.
    pub(super) fn closed(policy: &BreakerP) -> Self {
        let failed = vec![0; policy.window.div_ceil(64) as usize];
        Breaker { mode: BreakerMode::Closed, failed, next: 0, known: 0, failures: 0 }
    }

    fn empty(&mut self) {
        self.failed.fill(0);
        (self.next, self.known, self.failures) = (0, 0, 0);
    }

    /// Whether a try may leave now: `Some(probe)` if so.
    pub(super) fn admits(&mut self, policy: &BreakerP, now: u64) -> Option<bool> {
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
    pub(super) fn heard(&mut self, policy: &BreakerP, now: u64, probe: bool, failed: bool) {
        match &mut self.mode {
            BreakerMode::HalfOpen { unheard, .. } if probe => {
                *unheard -= 1;
                if failed {
                    self.mode = BreakerMode::Open { until: now + policy.open };
                } else if *unheard == 0 {
                    self.mode = BreakerMode::Closed;
                    self.empty();
                }
            }
            BreakerMode::Closed => {
                let (word, bit) = ((self.next / 64) as usize, 1u64 << (self.next % 64));
                if self.known == policy.window {
                    self.failures -= u32::from(self.failed[word] & bit != 0);
                } else {
                    self.known += 1;
                }
                self.failed[word] = if failed { self.failed[word] | bit } else { self.failed[word] & !bit };
                self.failures += u32::from(failed);
                self.next = if self.next + 1 == policy.window { 0 } else { self.next + 1 };
                let share_reached = u64::from(self.failures) << 16 >= policy.threshold_q16 * u64::from(self.known);
                if self.known >= policy.min_calls && share_reached {
                    self.mode = BreakerMode::Open { until: now + policy.open };
                }
            }
            _ => {} // an answer to a try from before it opened
        }
    }

    /// A probe will never be heard of, because its caller has gone: another may be sent.
    pub(super) fn probe_lost(&mut self) {
        if let BreakerMode::HalfOpen { unsent, .. } = &mut self.mode {
            *unsent += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BreakerP = BreakerP { window: 4, min_calls: 2, threshold_q16: 32_768, open: 100, probes: 2 };

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
