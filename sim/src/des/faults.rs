//! What a scenario does to a run: its faults begin and end, and while they last they have effects.
//!
//! You are here: `sim::des::faults`. `server`, `client` and `topic` look at the effects; only this file changes them.
//! Always true: effects are computed anew from the faults that are on, so any number of faults may overlap and each takes back just
//! its own part; a place that no fault is on has `active == false` and costs one look.

use std::sync::Arc;

use models::rng::{Chance, Key};
use models::units::{Nanos, SimTime};
use scenarios::fault::{FaultKind, Target};
use scenarios::scenario::Scenario;

use super::queue::Kind;
use super::{Mark, State};
use crate::SimError;
use crate::program::{FAR_NS, NodeKind, Program, Tables, ns};

/// A scenario resolved against a compiled model.
#[derive(Clone, Debug)]
pub(crate) struct FaultPlan {
    faults: Vec<Planned>,
    /// `targets[n]`: node n is a target of some fault (both ends of an edge).
    pub(crate) targets: Vec<bool>,
    pub(crate) start: Option<SimTime>,
    pub(crate) clear: Option<SimTime>,
}

#[derive(Clone, Debug)]
struct Planned {
    kind: FaultKind,
    /// Indices of edges, or of one service, topic or entry.
    places: Places,
    start: u64,
    end: u64,
}

#[derive(Clone, Debug)]
enum Places {
    Edges(Vec<u32>),
    Service(u32),
    Topic(u32),
    Entry(u32),
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
            let fits = match fault.kind {
                FaultKind::Latency { .. }
                | FaultKind::ConnectionDrop { .. }
                | FaultKind::BlackHole
                | FaultKind::AggressiveRetries { .. } => matches!(places, Places::Edges(_)),
                FaultKind::Errors { .. } | FaultKind::Slow { .. } | FaultKind::WorkersLost { .. } => {
                    matches!(places, Places::Service(_))
                }
                FaultKind::Crash { .. } => matches!(places, Places::Service(_) | Places::Topic(_)),
                FaultKind::Surge { .. } => matches!(places, Places::Entry(_)),
                FaultKind::Delay { .. } | FaultKind::Reorder { .. } | FaultKind::ConsumerStall => {
                    matches!(places, Places::Topic(_))
                }
            };
            if !fits {
                return Err(SimError::Scenario(format!(
                    "{}: {:?} cannot suffer `{}`",
                    scenario.id,
                    fault.target.to_string(),
                    fault.kind.name()
                )));
            }
            match &places {
                Places::Edges(edges) => {
                    for &e in edges {
                        plan.targets[p.edges[e as usize].from_node as usize] = true;
                        plan.targets[p.edges[e as usize].to_node as usize] = true;
                    }
                }
                Places::Service(s) => plan.targets[p.services[*s as usize].node as usize] = true,
                Places::Topic(t) => plan.targets[p.topics[*t as usize].node as usize] = true,
                Places::Entry(e) => {
                    // The load comes in at the entry's service, and that is what is surged.
                    let edge = p.sites[p.entries[*e as usize].call as usize].edge;
                    plan.targets[*e as usize] = true;
                    plan.targets[p.edges[edge as usize].to_node as usize] = true;
                }
            }
            plan.faults.push(Planned {
                kind: fault.kind.clone(),
                places,
                start: fault.start.as_nanos().min(FAR_NS),
                end: fault.clears_at().as_nanos().min(FAR_NS),
            });
        }
        Ok(Arc::new(plan))
    }
}

fn places(p: &Tables, target: &Target) -> Option<Places> {
    match target {
        Target::Edge(name) => {
            let edges: Vec<u32> = (p.edges.iter().enumerate())
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

/// What the faults that are on do at each place.
#[derive(Clone, Debug)]
pub(crate) struct Effects {
    plan: Option<Arc<FaultPlan>>,
    on: Vec<bool>,
    pub(super) edges: Vec<EdgeEffect>,
    pub(super) services: Vec<ServiceEffect>,
    pub(super) topics: Vec<TopicEffect>,
    pub(super) entries: Vec<EntryEffect>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct EdgeEffect {
    pub(super) active: bool,
    pub(super) black_hole: bool,
    pub(super) add: u64,
    /// A request that is held and loses its caller arrives all the same.
    pub(super) delivers_abandoned: bool,
    /// (fault, upper end).
    pub(super) jitters: Vec<(u32, u64)>,
    pub(super) drops: Vec<(u32, Chance)>,
    /// (tries in all, wait).
    pub(super) retries: Option<(u32, u64)>,
}

#[derive(Clone, Debug)]
pub(super) struct ServiceEffect {
    pub(super) active: bool,
    pub(super) slow_q16: u64,
    pub(super) errors: Vec<(u32, Chance)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct TopicEffect {
    pub(super) active: bool,
    pub(super) stalled: bool,
    pub(super) holds: Vec<Hold>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    pub(super) fault: u32,
    pub(super) chance: Chance,
    pub(super) add: u64,
    pub(super) jitter: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct EntryEffect {
    pub(super) active: bool,
    /// Chance that a user request takes place at all.
    pub(super) thin: Option<Chance>,
}

impl Default for ServiceEffect {
    fn default() -> Self {
        ServiceEffect { active: false, slow_q16: 1 << 16, errors: Vec::new() }
    }
}

impl Effects {
    pub(super) fn none(p: &Tables) -> Self {
        Effects {
            plan: None,
            on: Vec::new(),
            edges: vec![EdgeEffect::default(); p.edges.len()],
            services: vec![ServiceEffect::default(); p.services.len()],
            topics: vec![TopicEffect::default(); p.topics.len()],
            entries: vec![EntryEffect::default(); p.entries.len()],
        }
    }
}

impl State {
    /// Schedules a plan's faults. Those that begin before now are an error of the caller.
    pub(crate) fn arm(&mut self, plan: &Arc<FaultPlan>) {
        for (i, fault) in plan.faults.iter().enumerate() {
            assert!(fault.start >= self.now, "faults are armed before they begin");
            self.queue.push(fault.start, Kind::Fault, 2 * i as u32);
            self.queue.push(fault.end, Kind::Fault, 2 * i as u32 + 1);
        }
        self.effects.on = vec![false; plan.faults.len()];
        self.effects.plan = Some(Arc::clone(plan));
    }

    pub(super) fn fault_edge(&mut self, p: &Tables, slot: u32) {
        let plan = Arc::clone(self.effects.plan.as_ref().expect("fault events come from a plan"));
        let (number, begins) = ((slot / 2) as usize, slot.is_multiple_of(2));
        let fault = &plan.faults[number];
        self.note(Mark::FaultEdge, slot, Key(0));
        self.effects.on[number] = begins;
        match &fault.places {
            Places::Edges(edges) => {
                for &e in edges {
                    self.effects.edges[e as usize] = self.edge_effect(&plan, e);
                }
            }
            Places::Service(s) => {
                self.effects.services[*s as usize] = self.service_effect(&plan, *s);
                let service = &p.services[*s as usize];
                let replicas = service.replica_base..service.replica_base + service.replicas;
                match fault.kind {
                    FaultKind::Crash { replicas: Some(n), .. } => {
                        self.switch(p, *s, replicas.start..replicas.start + n.min(service.replicas), &fault.kind, begins);
                    }
                    FaultKind::Crash { replicas: None, .. } => self.switch(p, *s, replicas, &fault.kind, begins),
                    FaultKind::WorkersLost { .. } => {
                        let limit = self.workers_left(&plan, *s, service.workers);
                        for r in replicas {
                            self.replicas[r as usize].limit = limit;
                            self.dispatch(p, r);
                        }
                    }
                    _ => {}
                }
            }
            Places::Topic(t) => {
                self.effects.topics[*t as usize] = self.topic_effect(&plan, *t);
                if let FaultKind::Crash { black_hole, .. } = fault.kind {
                    if begins {
                        self.crash_topic(p, *t, black_hole);
                    } else {
                        self.topics[*t as usize].up = true;
                    }
                }
                self.woken.push(*t);
            }
            Places::Entry(e) => {
                self.effects.entries[*e as usize] = self.entry_effect(&plan, *e);
                if let FaultKind::Surge { factor } = fault.kind
                    && begins
                    && factor > 1.0
                    && p.entries[*e as usize].active
                {
                    self.open_stream(p, *e, self.load * (factor - 1.0), Some((number as u32, fault.end)));
                }
            }
        }
    }

    /// Kills replicas, or starts them again, cold.
    fn switch(&mut self, p: &Tables, service: u32, replicas: std::ops::Range<u32>, kind: &FaultKind, begins: bool) {
        let FaultKind::Crash { black_hole, .. } = *kind else { unreachable!("only a crash switches replicas") };
        for r in replicas {
            if begins {
                self.crash(p, service, r, black_hole);
            } else {
                self.replicas[r as usize].up = true;
            }
        }
        if begins && let Some(contents) = &mut self.contents[service as usize] {
            contents.clear();
        }
    }

    /// The faults that are on at a place, with their numbers.
    fn on<'a>(
        &'a self,
        plan: &'a FaultPlan,
        here: impl Fn(&Places) -> bool + 'a,
    ) -> impl Iterator<Item = (u32, &'a FaultKind)> + 'a {
        let on = plan.faults.iter().enumerate().filter(move |(i, fault)| self.effects.on[*i] && here(&fault.places));
        on.map(|(i, fault)| (i as u32, &fault.kind))
    }

    fn edge_effect(&self, plan: &FaultPlan, e: u32) -> EdgeEffect {
        let mut effect = EdgeEffect::default();
        for (number, kind) in self.on(plan, move |places| matches!(places, Places::Edges(edges) if edges.contains(&e))) {
            effect.active = true;
            match *kind {
                FaultKind::Latency { add, jitter, delivers_abandoned } => {
                    effect.add += ns(add);
                    effect.delivers_abandoned |= delivers_abandoned;
                    if jitter > Nanos::ZERO {
                        effect.jitters.push((number, ns(jitter)));
                    }
                }
                FaultKind::ConnectionDrop { probability } => effect.drops.push((number, Chance::of(probability))),
                FaultKind::BlackHole => effect.black_hole = true,
                FaultKind::AggressiveRetries { attempts, backoff } => {
                    effect.retries = Some((attempts.max(1), ns(backoff)));
                }
                _ => unreachable!("resolved to fit an edge"),
            }
        }
        effect
    }

    fn service_effect(&self, plan: &FaultPlan, s: u32) -> ServiceEffect {
        let mut effect = ServiceEffect::default();
        for (number, kind) in self.on(plan, move |places| matches!(places, Places::Service(here) if *here == s)) {
            effect.active = true;
            match *kind {
                FaultKind::Slow { factor } => {
                    let factor_q16 = (factor * 65_536.0) as u128;
                    effect.slow_q16 = u64::try_from((u128::from(effect.slow_q16) * factor_q16) >> 16).unwrap_or(u64::MAX >> 20);
                }
                FaultKind::Errors { probability } => effect.errors.push((number, Chance::of(probability))),
                _ => {}
            }
        }
        effect
    }

    fn workers_left(&self, plan: &FaultPlan, s: u32, workers: u32) -> u32 {
        let mut left = workers;
        for (_, kind) in self.on(plan, move |places| matches!(places, Places::Service(here) if *here == s)) {
            if let FaultKind::WorkersLost { keep } = *kind
                && workers != u32::MAX
            {
                left = (f64::from(left) * keep).round() as u32;
            }
        }
        left
    }

    fn topic_effect(&self, plan: &FaultPlan, t: u32) -> TopicEffect {
        let mut effect = TopicEffect::default();
        for (fault, kind) in self.on(plan, move |places| matches!(places, Places::Topic(here) if *here == t)) {
            effect.active = true;
            match *kind {
                FaultKind::Delay { add, jitter } => {
                    effect.holds.push(Hold { fault, chance: Chance::ALWAYS, add: ns(add), jitter: ns(jitter) })
                }
                FaultKind::Reorder { probability, within } => {
                    effect.holds.push(Hold { fault, chance: Chance::of(probability), add: 0, jitter: ns(within) })
                }
                FaultKind::ConsumerStall => effect.stalled = true,
                _ => {}
            }
        }
        effect
    }

    fn entry_effect(&self, plan: &FaultPlan, e: u32) -> EntryEffect {
        let mut effect = EntryEffect::default();
        let mut keep = 1.0;
        for (_, kind) in self.on(plan, move |places| matches!(places, Places::Entry(here) if *here == e)) {
            effect.active = true;
            if let FaultKind::Surge { factor } = *kind
                && factor < 1.0
            {
                keep *= factor.max(0.0);
            }
        }
        effect.thin = (keep < 1.0).then(|| Chance::of(keep));
        effect
    }
}
