//! Faults begin, grow, fall and end: a scenario resolved against a model, and what changes at each of these instants.
//!
//! You are here: `sim::des::faults`. It alone changes the [`effects`](super::effects) that the others look at.
//! Always true: effects are computed anew from the faults that are on, so any number of faults may overlap and each takes back just
//! its own part; every fault that has begun ends.

use std::sync::Arc;

use models::rng::{Chance, Key};
use models::table::QuantileTable;
use models::units::{Nanos, SimTime};
use scenarios::fault::{Fault, FaultKind, Target, Where};
use scenarios::scenario::Scenario;

use super::effects::{Delay, EdgeEffect, EntryEffect, Hold, Loss, ServiceEffect, TopicEffect};
use super::queue::Kind;
use super::{Mark, State};
use crate::SimError;
use crate::program::{FAR_NS, NodeKind, ONE_Q16, Program, Tables, ns};

/// A ramp is climbed in this many steps.
const RAMP_STEPS: u64 = 32;

/// A scenario resolved against a compiled model.
#[derive(Clone, Debug)]
pub(crate) struct FaultPlan {
    pub(crate) faults: Vec<Planned>,
    /// `targets[n]`: node n is a target of some fault (both ends of an edge).
    pub(crate) targets: Vec<bool>,
    pub(crate) start: Option<SimTime>,
    pub(crate) clear: Option<SimTime>,
}

#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) kind: FaultKind,
    pub(crate) places: Places,
    pub(crate) start: u64,
    pub(crate) end: u64,
    ramp_up: u64,
    ramp_down: u64,
    /// Table of a drawn latency.
    drawn: Option<Arc<QuantileTable>>,
}

/// Indices of edges, or of one service, topic or entry.
#[derive(Clone, Debug)]
pub(crate) enum Places {
    Edges(Vec<u32>),
    Service(u32),
    Topic(u32),
    Entry(u32),
}

/// What an event of a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Begins = 0,
    Ends = 1,
    Step = 2,
}

impl FaultPlan {
    /// Resolves a scenario's targets.
    ///
    /// # Errors
    /// A target that the model does not have, or a kind of fault that its target cannot suffer.
    pub(crate) fn new(program: &Program, scenario: &Scenario) -> Result<Arc<FaultPlan>, SimError> {
        let p = &*program.0;
        let mut plan = FaultPlan {
            faults: Vec::new(),
            targets: vec![false; p.nodes.len()],
            start: scenario.starts_at(),
            clear: scenario.clears_at(),
        };
        for fault in &scenario.faults {
            let places = places(p, &fault.target).ok_or_else(|| {
                SimError::Scenario(format!("{}: no edge, service, topic or entry {:?}", scenario.id, fault.target.to_string()))
            })?;
            if !fits(p, &fault.kind, &places) {
                return Err(SimError::Scenario(format!(
                    "{}: {:?} cannot suffer `{}`",
                    scenario.id,
                    fault.target.to_string(),
                    fault.kind.name()
                )));
            }
            plan.mark_targets(p, &fault.target, &places);
            plan.faults.push(planned(fault, places));
        }
        Ok(Arc::new(plan))
    }

    /// Both ends of an edge are its target; of all edges into a service, that service is.
    fn mark_targets(&mut self, p: &Tables, target: &Target, places: &Places) {
        match places {
            Places::Edges(edges) => {
                let all = matches!(target, Target::Edge(name) if name.from == "*");
                for &e in edges {
                    let edge = &p.edges[e as usize];
                    self.targets[edge.to_node as usize] = true;
                    self.targets[edge.from_node as usize] |= !all;
                }
            }
            Places::Service(s) => self.targets[p.services[*s as usize].node as usize] = true,
            Places::Topic(t) => self.targets[p.topics[*t as usize].node as usize] = true,
            Places::Entry(e) => {
                // The load comes in at the entry's service, and that is what is surged.
                let edge = p.sites[p.entries[*e as usize].call as usize].edge;
                self.targets[*e as usize] = true;
                self.targets[p.edges[edge as usize].to_node as usize] = true;
            }
        }
    }
}

fn planned(fault: &Fault, places: Places) -> Planned {
    let drawn = match &fault.kind {
        FaultKind::Latency { distribution: Some(distribution), .. } => Some(Arc::new(QuantileTable::new(distribution, 1.0))),
        _ => None,
    };
    Planned {
        kind: fault.kind.clone(),
        places,
        start: fault.start.as_nanos().min(FAR_NS),
        end: fault.clears_at().as_nanos().min(FAR_NS),
        ramp_up: ns(fault.ramp_up),
        ramp_down: ns(fault.ramp_down),
        drawn,
    }
}

/// Whether this kind of fault can strike there.
fn fits(p: &Tables, kind: &FaultKind, places: &Places) -> bool {
    match (kind.strikes(), places) {
        (Where::Edge, Places::Edges(_))
        | (Where::Service | Where::ServiceOrTopic, Places::Service(_))
        | (Where::Topic | Where::ServiceOrTopic, Places::Topic(_)) => true,
        (Where::Cache, Places::Service(s)) => p.services[*s as usize].cache.is_some(),
        // A closed loop offers no rate that could be multiplied.
        (Where::Entry, Places::Entry(e)) => !matches!(kind, FaultKind::Surge { .. }) || p.entries[*e as usize].closed.is_none(),
        _ => false,
    }
}

fn places(p: &Tables, target: &Target) -> Option<Places> {
    match target {
        Target::Edge(name) => {
            let edges: Vec<u32> = (p.policies.iter().enumerate())
                .filter(|(_, e)| e.name.to == name.to && (name.from == "*" || e.name.from == name.from))
                .map(|(i, _)| i as u32)
                .collect();
            (!edges.is_empty()).then_some(Places::Edges(edges))
        }
        Target::Node(name) => {
            let node = p.nodes.iter().position(|n| n.name == *name)?;
            let (entries, services) = (p.entries.len(), p.services.len());
            Some(match p.nodes[node].kind {
                NodeKind::Entry => Places::Entry(node as u32),
                NodeKind::Service => Places::Service((node - entries) as u32),
                NodeKind::Topic => Places::Topic((node - entries - services) as u32),
            })
        }
    }
}

impl Planned {
    /// The factor by which it surges an entry's load, if it does.
    pub(crate) fn surges(&self, entry: u32) -> Option<f64> {
        match (&self.places, &self.kind) {
            (Places::Entry(here), FaultKind::Surge { factor }) if *here == entry => Some(*factor),
            _ => None,
        }
    }

    /// How high it stands at a time while it is on, in 2^-16: the middle of the step of its ramp that begins then.
    pub(crate) fn level_q16(&self, now: u64) -> u64 {
        let part = |into: u64, ramp: u64| {
            let step = u128::from(into) * u128::from(RAMP_STEPS) / u128::from(ramp);
            ((2 * step as u64 + 1) * ONE_Q16 / (2 * RAMP_STEPS)).min(ONE_Q16)
        };
        if now < self.start || now >= self.end {
            0
        } else if now - self.start < self.ramp_up {
            part(now - self.start, self.ramp_up)
        } else if self.end - now <= self.ramp_down {
            ONE_Q16 - part(now - (self.end - self.ramp_down), self.ramp_down)
        } else {
            ONE_Q16
        }
    }

    /// The next instant at which its level changes.
    pub(crate) fn next_step(&self, now: u64) -> Option<u64> {
        let step = |from: u64, ramp: u64| {
            let n = u128::from(now - from) * u128::from(RAMP_STEPS) / u128::from(ramp) + 1;
            from + (n * u128::from(ramp)).div_ceil(u128::from(RAMP_STEPS)) as u64
        };
        let falls = self.end - self.ramp_down;
        if now - self.start < self.ramp_up {
            Some(step(self.start, self.ramp_up))
        } else if self.ramp_down > 0 && now < falls {
            Some(falls)
        } else if self.ramp_down > 0 && now < self.end {
            Some(step(falls, self.ramp_down)).filter(|&at| at < self.end)
        } else {
            None
        }
    }
}

impl State {
    /// Schedules a plan's faults. Those that begin before now are an error of the caller.
    pub(crate) fn arm(&mut self, plan: &Arc<FaultPlan>) {
        for (i, fault) in plan.faults.iter().enumerate() {
            assert!(fault.start >= self.now, "faults are armed before they begin");
            self.queue.push(fault.start, Kind::Fault, 4 * i as u32 + Moment::Begins as u32);
            self.queue.push(fault.end, Kind::Fault, 4 * i as u32 + Moment::Ends as u32);
        }
        self.effects.on = vec![false; plan.faults.len()];
        self.effects.plan = Some(Arc::clone(plan));
    }

    /// How high a fault of the plan stands now, in 2^-16.
    pub(super) fn fault_level_q16(&self, fault: u32) -> u64 {
        let plan = self.effects.plan.as_ref().expect("faults come from a plan");
        plan.faults[fault as usize].level_q16(self.now)
    }

    pub(super) fn fault_edge(&mut self, p: &Tables, slot: u32) {
        let plan = Arc::clone(self.effects.plan.as_ref().expect("fault events come from a plan"));
        let number = (slot / 4) as usize;
        let fault = &plan.faults[number];
        let moment = match slot % 4 {
            0 => Moment::Begins,
            1 => Moment::Ends,
            _ => Moment::Step,
        };
        self.note(Mark::FaultEdge, slot, Key(0));
        self.effects.on[number] = moment != Moment::Ends;
        self.effects.any = self.effects.on.contains(&true) || self.effects.traced;
        if moment != Moment::Ends
            && let Some(at) = fault.next_step(self.now)
        {
            self.queue.push(at, Kind::Fault, 4 * number as u32 + Moment::Step as u32);
        }
        match &fault.places {
            Places::Edges(edges) => {
                for &e in edges {
                    self.renew_edge(p, &plan, e);
                }
            }
            Places::Service(s) => {
                self.effects.services[*s as usize] = plan.service_effect(&self.effects.on, self.now, *s);
                if moment != Moment::Step {
                    self.strike_service(p, *s, fault, moment == Moment::Begins);
                }
                self.renew_limits(p, &plan, *s);
            }
            Places::Topic(t) => {
                self.effects.topics[*t as usize] = plan.topic_effect(&self.effects.on, self.now, *t);
                if let FaultKind::Crash { black_hole, .. } = fault.kind {
                    if moment == Moment::Begins {
                        self.crash_topic(p, *t, black_hole);
                    } else {
                        self.topics[*t as usize].up = true;
                    }
                }
                self.woken.push(*t);
            }
            Places::Entry(e) => {
                self.effects.entries[*e as usize] = plan.entry_effect(&self.effects.on, self.now, *e);
                if let FaultKind::Reload { .. } = fault.kind {
                    self.renew_edge(p, &plan, p.sites[p.entries[*e as usize].call as usize].edge);
                }
                if let FaultKind::Surge { factor } = fault.kind
                    && moment == Moment::Begins
                    && factor > 1.0
                    && p.entries[*e as usize].active
                {
                    self.open_stream(p, *e, self.load * (factor - 1.0), Some((number as u32, fault.end)));
                }
            }
        }
    }

    /// What a fault on a service does as it begins or ends, beside what it changes for as long as it lasts.
    fn strike_service(&mut self, p: &Tables, s: u32, fault: &Planned, begins: bool) {
        let service = &p.services[s as usize];
        let base = service.replica_base;
        match fault.kind {
            FaultKind::Crash { replicas, black_hole } => {
                let n = replicas.unwrap_or(service.most_replicas).min(service.most_replicas);
                for r in base..base + n {
                    if begins && self.replicas[r as usize].up {
                        self.crash(p, r, black_hole);
                        self.will_notice(p, r, false);
                    } else if !begins && !self.replicas[r as usize].up && self.counts(p, r) {
                        self.restart(p, r);
                        self.will_notice(p, r, true);
                    }
                }
                if begins {
                    self.empty_cache(s);
                }
            }
            FaultKind::ReplicasLost { replicas } => {
                let n = replicas.min(service.most_replicas);
                // The last ones, so that it can be told from a crash of the first.
                for r in base + service.replicas.saturating_sub(n)..base + service.replicas {
                    if begins && self.replicas[r as usize].up {
                        self.crash(p, r, false);
                        self.list(r, false);
                    } else if !begins && !self.replicas[r as usize].up && self.counts(p, r) {
                        self.restart(p, r);
                        self.list(r, true);
                    }
                }
            }
            FaultKind::Leak { .. } if !begins => {
                for r in base..base + service.most_replicas {
                    if self.replicas[r as usize].up {
                        self.crash(p, r, false);
                        self.restart(p, r);
                    }
                }
                self.empty_cache(s);
            }
            FaultKind::Pause if begins => self.pause(p, s, fault.end - fault.start),
            FaultKind::Flush { share } if begins => {
                if let Some(contents) = &mut self.contents[s as usize] {
                    contents.evict((share * 65_536.0).round() as u64);
                }
            }
            _ => {}
        }
    }

    fn renew_edge(&mut self, p: &Tables, plan: &FaultPlan, e: u32) {
        let link_free = self.effects.edges[e as usize].link_free;
        let effect = plan.edge_effect(p, &self.effects.on, self.now, e);
        self.effects.edges[e as usize] = EdgeEffect { link_free, ..effect };
    }

    /// Sets the workers and waiting places that the faults on a service leave it.
    fn renew_limits(&mut self, p: &Tables, plan: &FaultPlan, s: u32) {
        let service = &p.services[s as usize];
        let (workers, places) = plan.limits(p, &self.effects.on, self.now, s);
        for r in service.replica_base..service.replica_base + service.most_replicas {
            let replica = &mut self.replicas[r as usize];
            (replica.limit, replica.queue_bound) = (workers, places);
            self.dispatch(p, r);
        }
    }
}

impl FaultPlan {
    /// The faults that are on at a place, with their numbers and levels.
    fn on<'a>(
        &'a self,
        on: &'a [bool],
        now: u64,
        here: impl Fn(&Planned) -> bool + 'a,
    ) -> impl Iterator<Item = (u32, &'a Planned, f64)> + 'a {
        let on = self.faults.iter().enumerate().filter(move |(i, fault)| on[*i] && here(fault));
        on.map(move |(i, fault)| (i as u32, fault, fault.level_q16(now) as f64 / 65_536.0))
    }

    /// What the faults that are `on` at `now` do on an edge.
    pub(crate) fn edge_effect(&self, p: &Tables, on: &[bool], now: u64, e: u32) -> EdgeEffect {
        let mut effect = EdgeEffect::none();
        let here = move |fault: &Planned| match &fault.places {
            Places::Edges(edges) => edges.contains(&e),
            // Users who reload do so over their entry's edge.
            Places::Entry(entry) => {
                let reloads = matches!(fault.kind, FaultKind::Reload { .. });
                reloads && p.sites[p.entries[*entry as usize].call as usize].edge == e
            }
            _ => false,
        };
        for (number, fault, level) in self.on(on, now, here) {
            effect.active = true;
            let scaled = |time: Nanos| (ns(time) as f64 * level) as u64;
            match fault.kind {
                FaultKind::Latency { add, jitter, leg, delivers_abandoned, .. } => effect.delays.push(Delay {
                    fault: number,
                    leg,
                    add: scaled(add),
                    jitter: scaled(jitter),
                    drawn: fault.drawn.as_ref().map(|table| (Arc::clone(table), (level * 65_536.0) as u64)),
                    delivers_abandoned,
                }),
                FaultKind::ConnectionDrop { probability } => effect.drops.push((number, Chance::of(probability * level))),
                FaultKind::BlackHole { leg } => effect.black_hole.add(leg),
                FaultKind::Loss { probability, retransmit } => effect.losses.push(Loss {
                    fault: number,
                    chance: Chance::of(probability * level),
                    retransmit: ns(retransmit),
                }),
                FaultKind::Bandwidth { bytes_per_s, request_bytes } => {
                    effect.sending = ((request_bytes / bytes_per_s * 1e9) as u64).min(FAR_NS);
                }
                FaultKind::TimeoutLowered { to } => effect.timeout = effect.timeout.min(ns(to)),
                FaultKind::AggressiveRetries { attempts, backoff } => {
                    effect.retries = Some((attempts.max(1), ns(backoff)));
                }
                FaultKind::Reload { after, attempts } => {
                    effect.retries = Some((attempts.max(1), 0));
                    effect.timeout = effect.timeout.min(ns(after));
                }
                _ => unreachable!("resolved to fit an edge"),
            }
        }
        effect
    }

    /// What they do at a service.
    pub(crate) fn service_effect(&self, on: &[bool], now: u64, s: u32) -> ServiceEffect {
        let mut effect = ServiceEffect::none();
        let here = move |fault: &Planned| matches!(fault.places, Places::Service(here) if here == s);
        for (number, fault, level) in self.on(on, now, here) {
            effect.active = true;
            match fault.kind {
                FaultKind::Slow { factor } => slow_down(&mut effect.slow_q16, factor, level),
                FaultKind::Errors { probability } => effect.errors.push((number, Chance::of(probability * level))),
                FaultKind::HitRatioDrop { keep } => effect.hidden.push((number, Chance::of((1.0 - keep) * level))),
                FaultKind::Pause => effect.paused_until = effect.paused_until.max(fault.end),
                FaultKind::Leak { growth } => effect.leak = Some(((growth * 4_294_967_296.0) as u64, fault.start)),
                _ => {}
            }
        }
        effect
    }

    /// What they do at a topic.
    pub(crate) fn topic_effect(&self, on: &[bool], now: u64, t: u32) -> TopicEffect {
        let mut effect = TopicEffect::none();
        for (fault, planned, level) in self.on(on, now, move |fault| matches!(fault.places, Places::Topic(here) if here == t)) {
            effect.active = true;
            let scaled = |time: Nanos| (ns(time) as f64 * level) as u64;
            match planned.kind {
                FaultKind::Delay { add, jitter } => {
                    effect.holds.push(Hold { fault, chance: Chance::ALWAYS, add: scaled(add), jitter: scaled(jitter) });
                }
                FaultKind::Reorder { probability, within } => {
                    effect.holds.push(Hold { fault, chance: Chance::of(probability * level), add: 0, jitter: ns(within) });
                }
                FaultKind::Duplicate { probability } => effect.twice.push((fault, Chance::of(probability * level))),
                FaultKind::MessageLoss { probability } => effect.lost.push((fault, Chance::of(probability * level))),
                FaultKind::Poison { probability } => effect.poisoned.push((fault, Chance::of(probability * level))),
                FaultKind::SlowConsumer { factor } => slow_down(&mut effect.slow_q16, factor, level),
                FaultKind::ConsumerStall => effect.stalled = true,
                _ => {}
            }
        }
        effect
    }

    /// What they do at an entry.
    pub(crate) fn entry_effect(&self, on: &[bool], now: u64, e: u32) -> EntryEffect {
        let mut effect = EntryEffect::default();
        let mut keep = 1.0;
        for (_, fault, level) in self.on(on, now, move |fault| matches!(fault.places, Places::Entry(here) if here == e)) {
            effect.active = true;
            if let FaultKind::Surge { factor } = fault.kind
                && factor < 1.0
            {
                keep *= 1.0 - (1.0 - factor.max(0.0)) * level;
            }
        }
        effect.thin = (keep < 1.0).then(|| Chance::of(keep));
        effect
    }

    /// The workers and waiting places that they leave each replica of a service.
    pub(crate) fn limits(&self, p: &Tables, on: &[bool], now: u64, s: u32) -> (u32, u32) {
        let service = &p.services[s as usize];
        let (mut workers, mut places) = (service.workers, service.queue);
        for (_, fault, level) in self.on(on, now, move |fault| matches!(fault.places, Places::Service(here) if here == s)) {
            match fault.kind {
                FaultKind::WorkersLost { keep } if service.workers != u32::MAX => {
                    workers = (f64::from(workers) * (1.0 - (1.0 - keep) * level)).round() as u32;
                }
                FaultKind::QueueShrunk { to } => places = places.min(to),
                _ => {}
            }
        }
        (workers, places)
    }
}

/// Multiplies a factor (2^-16) by another one that is reached in part.
fn slow_down(slow_q16: &mut u64, factor: f64, level: f64) {
    let factor_q16 = ((1.0 + (factor - 1.0) * level) * 65_536.0) as u128;
    *slow_q16 = u64::try_from((u128::from(*slow_q16) * factor_q16) >> 16).unwrap_or(u64::MAX >> 20);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramped(up: u64, down: u64) -> Planned {
        Planned {
            kind: FaultKind::Pause,
            places: Places::Service(0),
            start: 1_000,
            end: 2_000,
            ramp_up: up,
            ramp_down: down,
            drawn: None,
        }
    }

    #[test]
    fn a_ramp_climbs_and_falls_evenly_and_its_steps_come_in_order() {
        let fault = ramped(320, 320);
        assert_eq!((fault.level_q16(999), fault.level_q16(2_000)), (0, 0));
        assert_eq!((fault.level_q16(1_320), fault.level_q16(1_679)), (ONE_Q16, ONE_Q16));
        let mut at = 1_000;
        let (mut levels, mut times) = (vec![fault.level_q16(at)], vec![at]);
        while let Some(next) = fault.next_step(at) {
            assert!(next > at);
            at = next;
            levels.push(fault.level_q16(at));
            times.push(at);
        }
        let top = levels.iter().position(|&level| level == ONE_Q16).expect("it gets to its height");
        assert!(levels[..=top].windows(2).all(|w| w[0] < w[1]), "{levels:?}");
        assert!(levels[top..].windows(2).all(|w| w[0] >= w[1]), "{levels:?}");
        assert_eq!(times.len(), 65, "32 steps up, 32 down, and the height between");
        // The mean of the climb is one half.
        let mean = levels[..top].iter().sum::<u64>() / top as u64;
        assert!(mean.abs_diff(ONE_Q16 / 2) < 16, "{mean}");
    }

    #[test]
    fn a_fault_without_ramps_stands_at_its_height_at_once() {
        let fault = ramped(0, 0);
        assert_eq!((fault.level_q16(1_000), fault.level_q16(1_999)), (ONE_Q16, ONE_Q16));
        assert_eq!(fault.next_step(1_000), None);
    }
}
