//! From shapes to the steps of a model's paths.
//!
//! You are here: `models::learn::steps`. Own work is put where it was: before the first call, and further on where it is long enough
//! to matter; what is too short there counts with the first. Sites are numbered later (`mod`).
//! Always true: own times come from requests that met a free worker, where there were enough of them.

use std::collections::BTreeMap;

use super::edges::Failures;
use super::log::{Log, Target};
use super::lookup::LookupSeen;
use super::numbers::{median, wilson, work};
use super::paths::{Item, Shape, Shapes};
use crate::dist::{Dist, Work};
use crate::param::{Param, Source};
use crate::system::{Call, CallPath, Lookup, OpRef, Publish, Step, Wait};
use crate::units::Nanos;

/// What steps are made with.
pub(crate) struct Steps<'a> {
    pub(crate) log: &'a Log,
    pub(crate) quiet: &'a [bool],
    pub(crate) failures: &'a Failures,
}

/// Samples below which a path borrows its operation's own time.
const ENOUGH: usize = 30;
/// Work further on becomes a step from this much on, or this share of own time.
const LEAST_GAP_NS: u64 = 300_000;

impl Steps<'_> {
    /// The paths of operation `op`; weights are the requests seen, times `scale`.
    pub(crate) fn paths(&self, op: u32, shapes: &Shapes, lookups: &[LookupSeen], scale: f64) -> Vec<CallPath> {
        let pooled: Vec<u64> = shapes.shapes.iter().flat_map(|(_, shape)| self.own(shape)).collect();
        let total: f64 = shapes.shapes.iter().map(|(_, s)| s.weight).sum();
        let path = |(items, shape): &(Vec<Item>, Shape)| CallPath {
            weight: weight(shape.weight, total, scale),
            steps: self.steps(op, items, shape, lookups, &pooled),
        };
        shapes.shapes.iter().map(path).collect()
    }

    fn steps(&self, op: u32, items: &[Item], shape: &Shape, lookups: &[LookupSeen], pooled: &[u64]) -> Vec<Step> {
        let gaps = self.gaps(shape);
        let own = total(&gaps);
        let least = LEAST_GAP_NS.max(median(&mut own.clone()) / 20);
        let is_step: Vec<bool> = gaps.iter().enumerate().map(|(i, g)| i > 0 && median(&mut g.clone()) > least).collect();
        let elsewhere = |i: usize| (1..gaps.len()).filter(|&g| is_step[g]).map(|g| gaps[g][i]).sum::<u64>();
        let mut front: Vec<u64> = (0..own.len()).map(|i| own[i] - elsewhere(i)).collect();
        // A path seen too rarely borrows the operation's own time, if that is better known; its place is then the front.
        let borrowed = front.len() < ENOUGH && pooled.len() >= ENOUGH && !is_step.contains(&true);
        let mut steps = Vec::new();
        let first = if borrowed { work(&mut pooled.to_vec()) } else { work(&mut front) };
        if items.is_empty() || first.dist != Dist::Constant(Nanos::ZERO) {
            steps.push(Step::Work(self.care(first, shape)));
        }
        for (i, item) in items.iter().enumerate() {
            if i > 0 && is_step[i] {
                steps.push(Step::Work(self.care(work(&mut gaps[i].clone()), shape)));
            }
            steps.push(self.step(op, item, &shape.counts[i], lookups));
        }
        if !items.is_empty() && is_step[items.len()] {
            steps.push(Step::Work(self.care(work(&mut gaps[items.len()].clone()), shape)));
        }
        steps
    }

    /// Own time of each request that met a free worker, in all; empty if there are too few of them.
    fn own(&self, shape: &Shape) -> Vec<u64> {
        total(&self.gaps(shape))
    }

    /// The gaps of requests that met a free worker; of all, if hardly any did. Spans without a length tell nothing of time.
    fn gaps(&self, shape: &Shape) -> Vec<Vec<u64>> {
        let all: Vec<usize> = (0..shape.requests.len()).collect();
        let timed = |&i: &usize| self.log.requests[shape.requests[i] as usize].duration() > 0;
        let quiet = |&i: &usize| timed(&i) && self.quiet[shape.requests[i] as usize];
        let chosen: Vec<usize> = all.iter().copied().filter(quiet).collect();
        let chosen = if chosen.len() >= self.least_quiet(shape) { chosen } else { all.iter().copied().filter(timed).collect() };
        let chosen = if chosen.is_empty() { all } else { chosen };
        shape.gaps.iter().map(|gaps| chosen.iter().map(|&i| gaps[i]).collect()).collect()
    }

    /// How many requests without waiting are enough to learn from.
    fn least_quiet(&self, shape: &Shape) -> usize {
        (shape.requests.len() / 50).max(1)
    }

    /// Marks work that holds waiting, because hardly any request found a free worker.
    fn care(&self, mut work: Work, shape: &Shape) -> Work {
        let quiet = shape.requests.iter().filter(|&&r| self.quiet[r as usize]).count();
        if quiet < self.least_quiet(shape) {
            work.source = Source::Inferred;
            work.scale_range = Some([0.3, 1.0]);
        }
        work
    }

    fn step(&self, op: u32, item: &Item, counts: &[BTreeMap<u32, u64>], lookups: &[LookupSeen]) -> Step {
        match item {
            Item::Call { target, wait } => self.reach(op, *target, *wait, times(&counts[0])),
            Item::Fan(branches) => {
                let branch = |(i, &(target, at_once)): (usize, &(Target, u32))| {
                    let counts = &counts[i];
                    (0..at_once).map(move |b| self.reach(op, target, true, times(&split(counts, at_once, b))))
                };
                Step::Parallel { wait: Wait::All, branches: branches.iter().enumerate().flat_map(branch).collect() }
            }
            Item::Lookup(which) => {
                let lookup = &lookups[*which];
                let no_matter = Param::observed(0.0);
                let side =
                    |target: Target, wait: bool| Call { on_failure: no_matter, wait, ..self.call(op, target, vec![(1, 1.0)]) };
                Step::Lookup(Lookup {
                    cache: side(lookup.cache, true),
                    origin: self.call(op, lookup.origin, vec![(1, 1.0)]),
                    fill: lookup.fill.map(|fill| side(fill, false)),
                    single_flight: false,
                })
            }
        }
    }

    /// A call, or a publish.
    fn reach(&self, op: u32, target: Target, wait: bool, times: Vec<(u32, f64)>) -> Step {
        match target {
            Target::Op(_) if wait => Step::Call(self.call(op, target, times)),
            Target::Op(_) => Step::Call(Call { wait, on_failure: Param::observed(0.0), ..self.call(op, target, times) }),
            Target::Topic(topic) => Step::Publish(Publish {
                to: self.log.topics[topic as usize].name.clone(),
                site: 0,
                times,
                on_failure: self.on_failure(op, target, Param::assumed(0.0, [0.0, 0.5])),
            }),
        }
    }

    fn call(&self, op: u32, target: Target, times: Vec<(u32, f64)>) -> Call {
        let to = match target {
            Target::Op(callee) => OpRef::new(self.log.target_name(target), self.log.op_name(callee)),
            Target::Topic(_) => OpRef::new(self.log.target_name(target), ""),
        };
        let on_failure = self.on_failure(op, target, Param::assumed(1.0, [0.5, 1.0]));
        Call { to, site: 0, times, on_failure, wait: true, fallback: None }
    }

    /// Share of callers that failed when this call had failed for good.
    fn on_failure(&self, op: u32, target: Target, unseen: Param<f64>) -> Param<f64> {
        match self.failures.get(&(op, target)) {
            Some(&(failed, callers)) if failed > 0 => Param::inferred(callers as f64 / failed as f64, wilson(callers, failed)),
            _ => unseen,
        }
    }
}

/// Own time of each request: the sum of its gaps.
fn total(gaps: &[Vec<u64>]) -> Vec<u64> {
    (0..gaps.first().map_or(0, Vec::len)).map(|i| gaps.iter().map(|g| g[i]).sum()).collect()
}

/// A path's weight as a share, with its interval.
fn weight(requests: f64, total: f64, scale: f64) -> Param<f64> {
    let share = if total > 0.0 { requests / total } else { 1.0 };
    if requests >= total {
        return Param::observed(share * scale);
    }
    let [low, high] = wilson(requests.round() as u64, total.round() as u64);
    Param::observed(share * scale).with_range([low.min(share) * scale, high.max(share) * scale])
}

/// How often a call is made, as a distribution.
fn times(counts: &BTreeMap<u32, u64>) -> Vec<(u32, f64)> {
    let total: u64 = counts.values().sum();
    if total == 0 {
        return vec![(1, 1.0)];
    }
    counts.iter().map(|(&n, &seen)| (n, seen as f64 / total as f64)).collect()
}

/// The part of n calls that branch `b` of `branches` makes.
fn split(counts: &BTreeMap<u32, u64>, branches: u32, b: u32) -> BTreeMap<u32, u64> {
    let mut part = BTreeMap::new();
    for (&n, &seen) in counts {
        *part.entry(n / branches + u32::from(b < n % branches)).or_default() += seen;
    }
    part
}

/// The one path of a callee that left no spans: its callers' time is its work.
pub(crate) fn leaf(durations: &mut [u64]) -> CallPath {
    CallPath { weight: Param::observed(1.0), steps: vec![Step::Work(work(durations))] }
}
