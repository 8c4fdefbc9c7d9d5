//! How a replica defends itself, and what load does to it: CoDel, adaptive limits, shedding of what nobody waits for, contention, warm-up.
//!
//! You are here: `sim::des::control`. `server` asks it for replicas that are marked `special`; others never come here.
//! Always true: everything is integers; what a crash empties is made anew by [`State::restart_control`].

use super::records::flag;
use super::{Left, State};
use crate::program::{AdaptiveLawP, AdaptiveP, CoDelP, ContentionP, FAR_NS, ONE_Q16, ServiceP, Tables};

/// Slots that the arrivals of the last second are counted in.
const ARRIVAL_SLOTS: usize = 20;
const ARRIVAL_SLOT_NS: u64 = 1_000_000_000 / ARRIVAL_SLOTS as u64;
/// A gradient limit's long-term latency is an exponential mean over this many answers.
const LONG_TERM: u64 = 600;
/// Room for a queue that a gradient limit adds.
const GRADIENT_QUEUE: u64 = 4;
/// Limits are counted in 2^-16.
const Q16: u32 = 16;

/// What a replica remembers to control its load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Control {
    pub(crate) codel: CoDel,
    /// The adaptive limit in 2^-16.
    pub(crate) limit_q16: u64,
    /// Long-term latency in nanoseconds, and over how many answers so far.
    pub(crate) long_ns: u64,
    pub(crate) long_count: u64,
    /// Arrivals by slot of the last second; `slot` is the number of the running one since time 0.
    pub(crate) arrivals: [u32; ARRIVAL_SLOTS],
    pub(crate) slot: u64,
}

/// CoDel's state (RFC 8289, section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CoDel {
    /// When the wait will have been above target for an interval; 0: it is not above.
    pub(crate) first_above: u64,
    pub(crate) drop_next: u64,
    pub(crate) count: u64,
    pub(crate) last_count: u64,
    pub(crate) dropping: bool,
}

/// One control a replica, or none at all.
pub(crate) fn controls(p: &Tables) -> Vec<Control> {
    let controlled = |s: &crate::program::ServiceP| s.codel.is_some() || s.adaptive.is_some() || s.contention.is_some();
    if !p.services.iter().any(controlled) {
        return Vec::new();
    }
    p.services.iter().flat_map(|s| (0..s.most_replicas).map(|_| Control::new(s.adaptive.map_or(0, |a| a.initial)))).collect()
}

impl Control {
    pub(crate) fn new(limit: u32) -> Self {
        Control {
            codel: CoDel::default(),
            limit_q16: u64::from(limit) << Q16,
            long_ns: 0,
            long_count: 0,
            arrivals: [0; ARRIVAL_SLOTS],
            slot: 0,
        }
    }

    /// Whether a replica that has `present` requests, the one included that has just arrived, takes it.
    pub(crate) fn admits(&mut self, s: &ServiceP, present: u32, now: u64) -> bool {
        if matches!(s.contention, Some(ContentionP::ArrivalRate { .. })) {
            self.arrived(now);
        }
        s.adaptive.is_none() || u64::from(present) <= self.limit_q16 >> Q16
    }

    /// An adaptive limit learns from an answer that took this long, with so many in flight.
    pub(crate) fn learns(&mut self, policy: &AdaptiveP, latency: u64, in_flight: u64) {
        let (min, max) = (u64::from(policy.min) << Q16, u64::from(policy.max) << Q16);
        match policy.law {
            AdaptiveLawP::Aimd { latency: slow, backoff_q16 } => {
                if latency > slow {
                    self.limit_q16 = ((u128::from(self.limit_q16) * u128::from(backoff_q16)) >> 16) as u64;
                } else if in_flight * 2 >= self.limit_q16 >> Q16 {
                    self.limit_q16 += (1 << (2 * Q16)) / self.limit_q16.max(1 << Q16);
                }
            }
            AdaptiveLawP::Gradient { tolerance_q16 } => {
                let latency = latency.max(1);
                self.long_count = (self.long_count + 1).min(LONG_TERM);
                let weight = self.long_count;
                self.long_ns =
                    ((u128::from(self.long_ns) * u128::from(weight - 1) + u128::from(latency)) / u128::from(weight)) as u64;
                if self.long_ns > 2 * latency {
                    self.long_ns = self.long_ns / 20 * 19; // it had drifted too high to say anything
                }
                if in_flight * 2 < self.limit_q16 >> Q16 {
                    return; // nothing is learned about a limit that is not used
                }
                let gradient = u128::from(tolerance_q16) * u128::from(self.long_ns) / u128::from(latency);
                let gradient = gradient.clamp(1 << 15, 1 << 16);
                let aimed = ((u128::from(self.limit_q16) * gradient) >> 16) as u64 + (GRADIENT_QUEUE << Q16);
                self.limit_q16 = (self.limit_q16 * 4 + aimed) / 5;
            }
        }
        self.limit_q16 = self.limit_q16.clamp(min, max);
    }

    /// Counts an arrival.
    pub(crate) fn arrived(&mut self, now: u64) {
        self.advance(now);
        self.arrivals[(self.slot % ARRIVAL_SLOTS as u64) as usize] += 1;
    }

    /// Arrivals of the last second, to a twentieth of it.
    pub(crate) fn last_second(&mut self, now: u64) -> u32 {
        self.advance(now);
        self.arrivals.iter().sum()
    }

    /// Arrivals by slot of the last second, as they stand now: the running slot first.
    pub(crate) fn last_arrivals(&self, now: u64) -> impl Iterator<Item = u32> {
        let current = now / ARRIVAL_SLOT_NS;
        (0..ARRIVAL_SLOTS as u64).map(move |ago| match current.checked_sub(ago) {
            Some(slot) if slot <= self.slot => self.arrivals[(slot % ARRIVAL_SLOTS as u64) as usize],
            _ => 0,
        })
    }

    fn advance(&mut self, now: u64) {
        let current = now / ARRIVAL_SLOT_NS;
        while self.slot < current {
            self.slot = (self.slot + 1).max(current.saturating_sub(ARRIVAL_SLOTS as u64));
            self.arrivals[(self.slot % ARRIVAL_SLOTS as u64) as usize] = 0;
        }
    }
}

impl CoDel {
    /// Whether nothing that it learned while it was dropping can matter any more.
    pub(crate) fn is_over(&self, policy: &CoDelP, now: u64) -> bool {
        !self.dropping && now.saturating_sub(self.drop_next) >= 16 * policy.interval
    }

    /// Whether the request at hand, which has waited this long, is dropped. `last`: nobody else waits.
    pub(crate) fn drops(&mut self, policy: &CoDelP, now: u64, waited: u64, last: bool) -> bool {
        let ok_to_drop = if waited < policy.target || last {
            self.first_above = 0;
            false
        } else if self.first_above == 0 {
            self.first_above = now + policy.interval;
            false
        } else {
            now >= self.first_above
        };
        if self.dropping {
            if !ok_to_drop {
                self.dropping = false;
            } else if now >= self.drop_next {
                self.count += 1;
                self.drop_next += step(policy.interval, self.count);
                return true;
            }
            return false;
        }
        if ok_to_drop {
            self.dropping = true;
            // What was learned in the last dropping state is still worth something if that was not long ago.
            let delta = self.count - self.last_count;
            let recent = now.saturating_sub(self.drop_next) < 16 * policy.interval;
            self.count = if delta > 1 && recent { delta } else { 1 };
            self.last_count = self.count;
            self.drop_next = now + step(policy.interval, self.count);
        }
        ok_to_drop
    }
}

/// interval / sqrt(count), the root to 2^-16.
fn step(interval: u64, count: u64) -> u64 {
    let root_q16 = (count.clamp(1, 1 << 30) << 32).isqrt();
    ((u128::from(interval) << 16) / u128::from(root_q16)) as u64
}

/// What a step of work takes at a replica that has `present` requests, and `started` at some time (`FAR_NS`: before the run).
pub(crate) fn slowed_by_load(
    s: &ServiceP,
    control: Option<&mut Control>,
    present: u32,
    started: u64,
    now: u64,
    work: u64,
) -> u64 {
    let mut work = u128::from(work);
    let crowded = match s.contention {
        Some(ContentionP::ArrivalRate { above, .. }) => control.is_some_and(|control| control.last_second(now) > above),
        _ => false,
    };
    match s.contention {
        Some(ContentionP::InProgress { add }) => work += u128::from(add) * u128::from(present.saturating_sub(1)),
        Some(ContentionP::ArrivalRate { factor_q16, .. }) if crowded => work = (work * u128::from(factor_q16)) >> 16,
        _ => {}
    }
    if let Some((lasting, factor_q16)) = s.warm_up
        && started != FAR_NS
    {
        let up = now - started;
        if up < lasting {
            let extra = u128::from(factor_q16.saturating_sub(ONE_Q16)) * u128::from(lasting - up) / u128::from(lasting);
            work = (work * (u128::from(ONE_Q16) + extra)) >> 16;
        }
    }
    work.min(u128::from(FAR_NS)) as u64
}

impl State {
    /// Whether a replica takes a request that has just arrived (and is counted in `present`).
    pub(super) fn admits(&mut self, p: &Tables, x: u32) -> bool {
        let r = self.execs[x].replica as usize;
        let s = &p.services[self.replicas[r].service as usize];
        let (present, now) = (self.replicas[r].present, self.now);
        self.controls.get_mut(r).is_none_or(|control| control.admits(s, present, now))
    }

    /// Whether a request that could have a worker now, after this wait, is turned away instead.
    pub(crate) fn sheds(&mut self, p: &Tables, x: u32, waited: u64) -> bool {
        let exec = &self.execs[x];
        let replica = &self.replicas[exec.replica as usize];
        let s = &p.services[replica.service as usize];
        if s.shed_expired && (exec.has(flag::ABANDONED) || exec.deadline <= self.now) {
            return true;
        }
        // A request that has done a part of its work is not refused.
        match &s.codel {
            Some(policy) if exec.works == 0 => {
                let last = replica.queued == 0;
                self.controls[exec.replica as usize].codel.drops(policy, self.now, waited, last)
            }
            _ => false,
        }
    }

    /// What a step of work takes, given what else its replica has to do and how long it has been up.
    pub(super) fn slowed_by_load(&mut self, p: &Tables, x: u32, work: u64) -> u64 {
        let r = self.execs[x].replica as usize;
        let replica = &self.replicas[r];
        let s = &p.services[replica.service as usize];
        slowed_by_load(s, self.controls.get_mut(r), replica.present, replica.started, self.now, work)
    }

    /// A request has left: an adaptive limit learns from it.
    pub(super) fn answered(&mut self, p: &Tables, x: u32, how: Left) {
        let exec = &self.execs[x];
        let r = exec.replica as usize;
        let Some(policy) = p.services[self.replicas[r].service as usize].adaptive else { return };
        if matches!(how, Left::Answered | Left::Failed) {
            // The request itself has been taken out of `present` already.
            let in_flight = u64::from(self.replicas[r].present) + 1;
            self.controls[r].learns(&policy, self.now - exec.arrived, in_flight);
        }
    }

    /// A worker was taken or freed at a replica of a special service.
    pub(crate) fn worker_changed(&mut self, p: &Tables, x: u32, taken: bool) {
        let service = self.replicas[self.execs[x].replica as usize].service;
        if p.services[service as usize].autoscale.is_some() {
            self.worker_of_scaled(service, taken);
        }
    }

    /// A replica starts again and has forgotten what it had learned.
    pub(crate) fn restart_control(&mut self, p: &Tables, r: u32) {
        if let Some(control) = self.controls.get_mut(r as usize) {
            let s = &p.services[self.replicas[r as usize].service as usize];
            *control = Control::new(s.adaptive.map_or(0, |a| a.initial));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn codel_drops_after_an_interval_above_target_and_then_faster() {
        let policy = CoDelP { target: 5 * MS, interval: 100 * MS };
        let mut codel = CoDel::default();
        let drops: Vec<u64> = (0..600).filter(|&t| codel.drops(&policy, t * MS + 1, 50 * MS, false)).collect();
        // The first after 100 ms; then 100, 100 / sqrt 2, 100 / sqrt 3, ... ms apart.
        assert_eq!(drops, [100, 200, 271, 329, 379, 424, 464, 502, 538, 571]);
        assert!(!codel.drops(&policy, 601 * MS, 4 * MS, false), "below target nothing is dropped");
        assert!(!codel.drops(&policy, 602 * MS, 50 * MS, false), "and the interval begins anew");
    }

    #[test]
    fn codel_spares_the_last_in_line() {
        let policy = CoDelP { target: MS, interval: MS };
        let mut codel = CoDel::default();
        assert!((0..100).all(|t| !codel.drops(&policy, t * MS + 1, 50 * MS, true)));
    }

    #[test]
    fn arrivals_are_forgotten_after_a_second() {
        let mut control = Control::new(0);
        for n in 0..100 {
            control.arrived(n * 10 * MS);
        }
        assert_eq!(control.last_second(999 * MS), 100);
        assert_eq!(control.last_second(1_000 * MS), 95, "the oldest twentieth has gone");
        let copy = control.clone();
        assert_eq!(control.last_second(1_940 * MS), 5);
        // What can be seen of it without touching it.
        assert_eq!(copy.last_arrivals(1_940 * MS).collect::<Vec<_>>(), control.last_arrivals(1_940 * MS).collect::<Vec<_>>());
        assert_eq!(copy.last_arrivals(1_940 * MS).sum::<u32>(), 5);
        assert_eq!(copy.last_arrivals(90_000 * MS).sum::<u32>(), 0);
        assert_eq!(control.last_second(50_000 * MS), 0);
    }
}
