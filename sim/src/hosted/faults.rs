//! Faults begin, grow, fall and end: between two steps of the simulation, by turmoil's own verbs where it has them.
//!
//! You are here: `sim::hosted::faults`. The run's loop calls [`Timeline::strike`] before each step.
//! Verbs: a black hole is `partition` (or `partition_oneway`) and `repair`; a crash of all replicas is `crash`, then `bounce` into a machine
//! whose process does not listen until it is to be up again; a silent one is cut off first. What turmoil has no verb for is done where it
//! happens: latency, loss, bandwidth and resets where a try leaves (`client`), slowness and errors where a request is served (`visit`).

use std::collections::{BTreeMap, BTreeSet};

use models::rng::Key;
use scenarios::fault::FaultKind;
use turmoil::Sim;

use super::world::{TICK_NS, World};
use crate::des::faults::{Places, Planned};
use crate::des::{EdgeEffect, Mark};

/// What is to happen.
#[derive(Clone, Copy, Debug)]
enum Event {
    Begins(usize),
    Grows(usize),
    Ends(usize),
    /// Callers learn how a replica is.
    Noticed(u32),
    /// A service's utilisation is looked at.
    Scales(u32),
    /// A replica that was ordered is there, if it still is wanted.
    Started(u32),
}

/// What is to happen, in order of time.
#[derive(Default)]
pub(super) struct Timeline {
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    /// Replicas that scaling has ordered, and when they are there.
    starting: BTreeSet<(u32, u64)>,
    /// Wanted replicas of scaled services that are up.
    serving: BTreeSet<u32>,
}

impl Timeline {
    pub(super) fn new(world: &World) -> Timeline {
        let mut timeline = Timeline::default();
        for (i, fault) in world.plan.faults.iter().enumerate() {
            timeline.at(fault.start, Event::Begins(i));
            timeline.at(fault.end, Event::Ends(i));
        }
        for (s, service) in world.p().services.iter().enumerate() {
            if let Some(policy) = &service.autoscale {
                timeline.at(policy.every, Event::Scales(s as u32));
                timeline.serving.extend(service.replica_base..service.replica_base + service.replicas);
            }
        }
        timeline
    }

    fn at(&mut self, time: u64, event: Event) {
        self.count += 1;
        self.events.insert((time.next_multiple_of(TICK_NS), self.count), event);
    }

    /// Lets happen what is due by now.
    pub(super) fn strike(&mut self, world: &World, sim: &mut Sim) {
        while let Some(first) = self.events.first_entry()
            && first.key().0 <= world.now()
        {
            match first.remove() {
                Event::Begins(fault) => self.fault(world, sim, fault, Some(true)),
                Event::Grows(fault) => self.fault(world, sim, fault, None),
                Event::Ends(fault) => self.fault(world, sim, fault, Some(false)),
                Event::Noticed(r) => self.noticed(world, r),
                Event::Scales(s) => self.scale(world, s),
                Event::Started(r) => self.started(world, r),
            }
        }
    }

    fn noticed(&mut self, world: &World, r: u32) {
        let up = *world.replicas[r as usize].up.borrow();
        let service = world.replicas[r as usize].service as usize;
        // A replica that scaling has sent away stays away, however well it is.
        if world.p().services[service].autoscale.is_none() || !up || world.is_wanted(r) {
            world.list(r, up);
        }
    }

    fn scale(&mut self, world: &World, service: u32) {
        let (s, now) = (&world.p().services[service as usize], world.now());
        let policy = s.autoscale.expect("only scaled services are looked at");
        self.at(now + policy.every, Event::Scales(service));
        let Some((before, wanted)) = world.scaling.borrow_mut()[service as usize].look(s, &policy, now) else { return };
        for r in s.replica_base + wanted..s.replica_base + before {
            self.starting.retain(|&(starting, _)| starting != r);
            if *world.replicas[r as usize].up.borrow() && self.serving.remove(&r) {
                world.scaling.borrow_mut()[service as usize].serves(false, now);
            }
            world.list(r, false); // it finishes what it has
        }
        for r in s.replica_base + before..s.replica_base + wanted {
            let ready = now + policy.start_up;
            self.starting.insert((r, ready));
            self.at(ready, Event::Started(r));
        }
    }

    fn started(&mut self, world: &World, r: u32) {
        if !self.starting.remove(&(r, world.now())) {
            return; // it was sent away before it had started
        }
        let replica = &world.replicas[r as usize];
        replica.up.send_replace(true);
        replica.started.set(world.now());
        if self.serving.insert(r) {
            world.scaling.borrow_mut()[replica.service as usize].serves(true, world.now());
        }
        world.note(Mark::Scaled, r, Key(1), 0);
        world.list(r, true);
    }

    /// A fault begins (`Some(true)`), ends, or has grown or fallen a step.
    fn fault(&mut self, world: &World, sim: &mut Sim, number: usize, edge: Option<bool>) {
        let plan = std::sync::Arc::clone(&world.plan);
        let (fault, p, now) = (&plan.faults[number], world.p(), world.now());
        let moment = match edge {
            Some(true) => 0,
            Some(false) => 1,
            None => 2,
        };
        world.note(Mark::FaultEdge, 4 * number as u32 + moment, Key(0), 0);
        {
            let mut effects = world.effects.borrow_mut();
            effects.on[number] = edge != Some(false);
            effects.any = effects.on.contains(&true);
        }
        if edge != Some(false)
            && let Some(at) = fault.next_step(now)
        {
            self.at(at, Event::Grows(number));
        }
        let on = world.effects.borrow().on.clone();
        match &fault.places {
            Places::Edges(edges) => edges.iter().for_each(|&e| renew_edge(world, sim, &on, e)),
            Places::Service(s) => {
                world.effects.borrow_mut().services[*s as usize] = plan.service_effect(&on, now, *s);
                if let Some(begins) = edge {
                    self.strike_service(world, sim, *s, fault, begins);
                }
                let (workers, places) = plan.limits(p, &on, now, *s);
                let service = &p.services[*s as usize];
                for r in service.replica_base..service.replica_base + service.most_replicas {
                    let gate = &world.replicas[r as usize].gate;
                    gate.limit.set(workers);
                    gate.bound.set(places);
                    world.dispatch(r);
                }
            }
            Places::Topic(t) => {
                world.effects.borrow_mut().topics[*t as usize] = plan.topic_effect(&on, now, *t);
                if let (FaultKind::Crash { black_hole, .. }, Some(begins)) = (&fault.kind, edge) {
                    let topic = &world.topics[*t as usize];
                    let host = world.hosts[p.topics[*t as usize].node as usize].clone();
                    topic.silent.set(begins && *black_hole);
                    if begins {
                        topic.up.send_replace(false);
                        kill(world, sim, &host, *black_hole);
                        topic.lose_all(world);
                    } else {
                        topic.up.send_replace(true);
                        revive(world, sim, &host, *black_hole);
                    }
                }
                world.topics[*t as usize].wake.notify_one();
            }
            Places::Entry(e) => {
                world.effects.borrow_mut().entries[*e as usize] = plan.entry_effect(&on, now, *e);
                if let FaultKind::Reload { .. } = fault.kind {
                    renew_edge(world, sim, &on, p.sites[p.entries[*e as usize].call as usize].edge);
                }
            }
        }
    }

    /// What a fault on a service does as it begins or ends, beside what it changes for as long as it lasts.
    fn strike_service(&mut self, world: &World, sim: &mut Sim, s: u32, fault: &Planned, begins: bool) {
        let service = &world.p().services[s as usize];
        let base = service.replica_base;
        match fault.kind {
            FaultKind::Crash { replicas, black_hole } => {
                let n = replicas.unwrap_or(service.most_replicas).min(service.most_replicas);
                self.set_up(world, sim, base..base + n, !begins, black_hole);
                if let Some((down_after, up_after)) = service.health_check {
                    let after = if begins { down_after } else { up_after };
                    (base..base + n).for_each(|r| self.at(world.now() + after, Event::Noticed(r)));
                }
                if begins {
                    empty_cache(world, s);
                }
            }
            FaultKind::ReplicasLost { replicas } => {
                let n = replicas.min(service.replicas);
                // The last ones, so that it can be told from a crash of the first.
                let lost = base + service.replicas - n..base + service.replicas;
                self.set_up(world, sim, lost.clone(), !begins, false);
                lost.for_each(|r| world.list(r, !begins));
            }
            FaultKind::Leak { .. } if !begins => {
                self.set_up(world, sim, base..base + service.most_replicas, false, false);
                self.set_up(world, sim, base..base + service.most_replicas, true, false);
                empty_cache(world, s);
            }
            FaultKind::Pause if begins => {
                world.pauses.borrow_mut()[s as usize].push((world.now(), fault.end - fault.start));
            }
            FaultKind::Flush { share } if begins => {
                if let Some(contents) = &mut world.contents.borrow_mut()[s as usize] {
                    contents.evict((share * 65_536.0).round() as u64);
                }
            }
            _ => {}
        }
    }

    /// Kills replicas of one service, or starts those again that are wanted.
    fn set_up(&mut self, world: &World, sim: &mut Sim, replicas: std::ops::Range<u32>, up: bool, silent: bool) {
        let Some(service) = world.replicas.get(replicas.start as usize).map(|replica| replica.service) else { return };
        let s = &world.p().services[service as usize];
        let host = world.hosts[s.node as usize].clone();
        let whole = replicas.len() as u32 == s.most_replicas || world.replaced[service as usize];
        for r in replicas {
            let replica = &world.replicas[r as usize];
            replica.silent.set(silent && !up);
            let ordered = self.starting.iter().any(|&(starting, _)| starting == r);
            if up && (ordered || !world.is_wanted(r)) {
                continue;
            }
            let was_up = replica.up.send_replace(up);
            if s.autoscale.is_some() && was_up != up && if up { self.serving.insert(r) } else { self.serving.remove(&r) } {
                world.scaling.borrow_mut()[service as usize].serves(up, world.now());
            }
            if up {
                replica.started.set(world.now());
            } else {
                replica.gate.clear();
                if let Some(control) = world.controls.borrow_mut().get_mut(r as usize) {
                    *control = crate::des::Control::new(s.adaptive.map_or(0, |a| a.initial));
                }
            }
        }
        match (whole, up) {
            (true, false) => kill(world, sim, &host, silent),
            (true, true) => revive(world, sim, &host, silent),
            // Its process sees that it is to end, or to begin.
            (false, _) => {}
        }
    }
}

/// A host's software dies. `silent`: nobody hears of it.
fn kill(world: &World, sim: &mut Sim, host: &str, silent: bool) {
    if silent {
        others(world, host).for_each(|other| sim.partition(host, other));
    }
    sim.crash(host);
    // The machine is there, and refuses: its process listens again when it is to be up.
    sim.bounce(host);
}

fn revive(world: &World, sim: &mut Sim, host: &str, silent: bool) {
    if silent {
        others(world, host).for_each(|other| sim.repair(host, other));
    }
}

/// All other hosts.
fn others<'a>(world: &'a World, host: &'a str) -> impl Iterator<Item = &'a str> {
    let addresses = world.addresses.borrow();
    let there: Vec<bool> = addresses.iter().map(Option::is_some).collect();
    world.hosts.iter().zip(there).filter(move |(other, there)| *there && *other != host).map(|(other, _)| other.as_str())
}

fn empty_cache(world: &World, service: u32) {
    if let Some(contents) = &mut world.contents.borrow_mut()[service as usize] {
        contents.clear();
    }
}

fn renew_edge(world: &World, sim: &mut Sim, on: &[bool], e: u32) {
    let (p, now) = (world.p(), world.now());
    let effect = world.plan.edge_effect(p, on, now, e);
    let mut effects = world.effects.borrow_mut();
    let before = &mut effects.edges[e as usize];
    let (was, is) = (before.black_hole, effect.black_hole);
    *before = EdgeEffect { link_free: before.link_free, ..effect };
    drop(effects);
    let edge = &p.edges[e as usize];
    let (from, to) = (world.hosts[edge.from_node as usize].as_str(), world.hosts[edge.to_node as usize].as_str());
    let there = |node: u32| world.addresses.borrow()[node as usize].is_some();
    if was == is || !there(edge.from_node) || !there(edge.to_node) {
        return;
    }
    match (was.requests(), was.replies(), is.requests(), is.replies()) {
        (false, false, true, true) => sim.partition(from, to),
        (true, true, false, false) => sim.repair(from, to),
        (was_requests, was_replies, is_requests, is_replies) => {
            match (was_requests, is_requests) {
                (false, true) => sim.partition_oneway(from, to),
                (true, false) => sim.repair_oneway(from, to),
                _ => {}
            }
            match (was_replies, is_replies) {
                (false, true) => sim.partition_oneway(to, from),
                (true, false) => sim.repair_oneway(to, from),
                _ => {}
            }
        }
    }
}
