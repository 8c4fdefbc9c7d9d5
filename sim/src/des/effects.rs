//! What the faults that are on do at each place.
//!
//! You are here: `sim::des::effects`. `server`, `client` and `topic` look at the effects; `faults` alone changes them.
//! Always true: while no fault is on and the run is not traced, `any` is false and nothing else is looked at; a place that no fault is on has `active == false`.
//! Not here: when faults begin and end (`faults`).

use std::sync::Arc;

use models::rng::{Chance, Key, Purpose, below};
use models::table::QuantileTable;
use scenarios::fault::Leg;

use super::State;
use super::faults::FaultPlan;
use crate::program::{FAR_NS, ONE_Q16, Tables};

/// A message is sent again at most this often: by then even a millisecond has grown to a minute.
const MOST_RETRANSMITS: u32 = 16;

/// What the faults that are on do at each place.
#[derive(Clone, Debug)]
pub(crate) struct Effects {
    pub(crate) plan: Option<Arc<FaultPlan>>,
    pub(crate) on: Vec<bool>,
    /// Some fault is on, or the run is traced: the slow way is to be taken.
    pub(crate) any: bool,
    /// The run is traced.
    pub(crate) traced: bool,
    pub(crate) edges: Vec<EdgeEffect>,
    pub(crate) services: Vec<ServiceEffect>,
    pub(crate) topics: Vec<TopicEffect>,
    pub(crate) entries: Vec<EntryEffect>,
}

#[derive(Clone, Debug)]
pub(crate) struct EdgeEffect {
    pub(crate) active: bool,
    pub(crate) black_hole: Swallows,
    pub(crate) delays: Vec<Delay>,
    pub(crate) drops: Vec<(u32, Chance)>,
    pub(crate) losses: Vec<Loss>,
    /// Time that a request takes to be sent where bandwidth is short; 0: no time.
    pub(crate) sending: u64,
    /// When the last request will have been sent.
    pub(crate) link_free: u64,
    /// (tries in all, wait).
    pub(crate) retries: Option<(u32, u64)>,
    /// Per-try timeout; `FAR_NS`: as it is.
    pub(crate) timeout: u64,
}

/// Which legs a black hole swallows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swallows {
    requests: bool,
    replies: bool,
}

impl Swallows {
    pub(crate) fn add(&mut self, leg: Leg) {
        self.requests |= leg.requests();
        self.replies |= leg.replies();
    }

    #[inline]
    pub(crate) fn requests(self) -> bool {
        self.requests
    }

    #[inline]
    pub(crate) fn replies(self) -> bool {
        self.replies
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Delay {
    pub(crate) fault: u32,
    pub(crate) leg: Leg,
    pub(crate) add: u64,
    pub(crate) jitter: u64,
    /// A further draw, and its factor in 2^-16.
    pub(crate) drawn: Option<(Arc<QuantileTable>, u64)>,
    /// A request that is held and loses its caller arrives all the same.
    pub(crate) delivers_abandoned: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    pub(crate) fault: u32,
    pub(crate) chance: Chance,
    pub(crate) retransmit: u64,
}

/// How a message gets over an edge.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passage {
    pub(crate) delay: u64,
    /// The connection is reset.
    pub(crate) reset: bool,
    /// It vanishes.
    pub(crate) lost: bool,
    pub(crate) delivers_abandoned: bool,
}

impl EdgeEffect {
    pub(crate) fn none() -> Self {
        EdgeEffect {
            active: false,
            black_hole: Swallows::default(),
            delays: Vec::new(),
            drops: Vec::new(),
            losses: Vec::new(),
            sending: 0,
            link_free: 0,
            retries: None,
            timeout: FAR_NS,
        }
    }

    /// What becomes of the request of the try that `key` names.
    pub(crate) fn request(&mut self, key: Key, now: u64) -> Passage {
        if self.drops.iter().any(|&(fault, chance)| State::fault_draw(key, fault, chance)) {
            return Passage { reset: true, ..Passage::default() };
        }
        let mut passage = self.passage(key, 0, Leg::requests);
        passage.lost = self.black_hole.requests;
        if self.sending > 0 && !passage.lost {
            let begins = self.link_free.max(now);
            self.link_free = begins + self.sending;
            passage.delay += self.link_free - now;
            passage.delivers_abandoned = true; // it is in line on the wire
        }
        passage
    }

    /// What becomes of its reply.
    pub(crate) fn reply(&self, key: Key) -> Passage {
        Passage { lost: self.black_hole.replies, ..self.passage(key, 1, Leg::replies) }
    }

    fn passage(&self, key: Key, leg: u32, strikes: impl Fn(Leg) -> bool) -> Passage {
        let mut passage = Passage::default();
        for delay in self.delays.iter().filter(|delay| strikes(delay.leg)) {
            let draw = |n| key.draw(Purpose::Fault, delay.fault * 4 + 2 * leg + n);
            passage.delay += delay.add + below(draw(0), delay.jitter);
            if let Some((table, factor_q16)) = &delay.drawn {
                let extra = table.draw(draw(1) ^ key.0.rotate_left(32));
                passage.delay += ((u128::from(extra) * u128::from(*factor_q16)) >> 16) as u64;
            }
            passage.delivers_abandoned |= delay.delivers_abandoned;
        }
        for loss in &self.losses {
            let mut wait = loss.retransmit;
            for n in 0..MOST_RETRANSMITS {
                if !loss.chance.hits(key.draw(Purpose::Fault, (loss.fault * 4 + leg) | (n + 1) << 16)) {
                    break;
                }
                passage.delay += wait;
                wait *= 2;
                passage.delivers_abandoned = true;
            }
        }
        passage.delay = passage.delay.min(FAR_NS);
        passage
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ServiceEffect {
    pub(crate) active: bool,
    /// Factor on the service time, leaks not included.
    pub(crate) slow_q16: u64,
    /// (growth per second in 2^-32, since when).
    pub(crate) leak: Option<(u64, u64)>,
    /// Work that starts before this goes on from here.
    pub(crate) paused_until: u64,
    pub(crate) errors: Vec<(u32, Chance)>,
    /// Hits that become misses.
    pub(crate) hidden: Vec<(u32, Chance)>,
}

impl ServiceEffect {
    pub(crate) fn none() -> Self {
        ServiceEffect { active: false, slow_q16: ONE_Q16, leak: None, paused_until: 0, errors: Vec::new(), hidden: Vec::new() }
    }

    /// Factor on the service time of work that starts now.
    pub(crate) fn slow_q16(&self, now: u64) -> u64 {
        match self.leak {
            None => self.slow_q16,
            Some((growth_q32, since)) => {
                let grown_q32 = u128::from(growth_q32) * u128::from(now - since) / 1_000_000_000;
                let both = u128::from(self.slow_q16).saturating_mul((1 << 32) + grown_q32) >> 32;
                u64::try_from(both).map_or(u64::MAX >> 20, |both| both.min(u64::MAX >> 20))
            }
        }
    }

    /// Whether a hit of the question that `key` names counts as a miss.
    pub(crate) fn hides(&self, key: Key) -> bool {
        self.hidden.iter().any(|&(fault, chance)| State::fault_draw(key, fault, chance))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct TopicEffect {
    pub(crate) active: bool,
    pub(crate) stalled: bool,
    /// Factor on the consumer's own work.
    pub(crate) slow_q16: u64,
    pub(crate) holds: Vec<Hold>,
    pub(crate) lost: Vec<(u32, Chance)>,
    pub(crate) twice: Vec<(u32, Chance)>,
    pub(crate) poisoned: Vec<(u32, Chance)>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    pub(crate) fault: u32,
    pub(crate) chance: Chance,
    pub(crate) add: u64,
    pub(crate) jitter: u64,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fate {
    pub(crate) hold: u64,
    pub(crate) lost: bool,
    pub(crate) twice: bool,
    pub(crate) poisoned: bool,
}

impl TopicEffect {
    pub(crate) fn none() -> Self {
        TopicEffect {
            active: false,
            stalled: false,
            slow_q16: ONE_Q16,
            holds: Vec::new(),
            lost: Vec::new(),
            twice: Vec::new(),
            poisoned: Vec::new(),
        }
    }

    /// What becomes of the message that `key` names.
    pub(crate) fn fate(&self, key: Key) -> Fate {
        let strikes = |list: &[(u32, Chance)]| list.iter().any(|&(fault, chance)| State::fault_draw(key, fault, chance));
        let held = self.holds.iter().filter(|held| State::fault_draw(key, held.fault, held.chance));
        Fate {
            hold: held.map(|held| held.add + below(key.draw(Purpose::Fault, held.fault * 4), held.jitter)).sum(),
            lost: strikes(&self.lost),
            twice: strikes(&self.twice),
            poisoned: strikes(&self.poisoned),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct EntryEffect {
    pub(crate) active: bool,
    /// Chance that a user request takes place at all.
    pub(crate) thin: Option<Chance>,
}

impl Effects {
    /// Whether a fault is on an edge, or a tracer looks at all.
    #[inline(always)]
    pub(crate) fn on_edge(&self, edge: u32) -> bool {
        self.any && (self.edges[edge as usize].active || self.traced)
    }

    /// Whether a fault is on a service, or a tracer looks at all.
    #[inline(always)]
    pub(crate) fn on_service(&self, service: u32) -> bool {
        self.any && (self.services[service as usize].active || self.traced)
    }

    /// How many faults are on.
    pub(crate) fn count(&self) -> u32 {
        self.on.iter().map(|&on| u32::from(on)).sum()
    }

    pub(crate) fn none(p: &Tables) -> Self {
        Effects {
            plan: None,
            on: Vec::new(),
            any: false,
            traced: false,
            edges: vec![EdgeEffect::none(); p.edges.len()],
            services: vec![ServiceEffect::none(); p.services.len()],
            topics: vec![TopicEffect::none(); p.topics.len()],
            entries: vec![EntryEffect::default(); p.entries.len()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_grows_in_proportion_to_time_however_slowly() {
        for growth in [1e-5, 1e-3, 0.05, 2.0] {
            let leak = Some(((growth * 4_294_967_296.0) as u64, 1_000_000_000));
            let effect = ServiceEffect { leak, ..ServiceEffect::none() };
            let factor = effect.slow_q16(101_000_000_000) as f64 / ONE_Q16 as f64;
            // 100 s on, to the resolution of the factor.
            assert!((factor - (1.0 + 100.0 * growth)).abs() < 2.0 / ONE_Q16 as f64 + 1e-4 * growth, "{growth}: {factor}");
        }
    }
}
