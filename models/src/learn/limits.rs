//! The caller's own limits: connection pools and bulkheads.
//!
//! You are here: `models::learn::limits`, after `edges`. A limit shows as a ceiling on the attempts that one replica of the caller has
//! under way over an edge. What happens at the ceiling tells which limit it is. Pool: an attempt begins at the very instant at which one
//! of another request ends. Bulkhead: requests fail without having made the call, and only while the ceiling is reached.
//! Always true: a highest number alone is no limit; something must be seen to be held back by it, far beyond chance. In thinned traffic
//! nobody can count what is under way, and nothing is said.
//! Not here: queues of the callee (`load`, `rejections`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::breakers::{Sent, Tried};
use super::edges::{Edges, Node};
use super::findings::Examples;
use super::log::{Log, Request};
use super::numbers::median;
use crate::param::{Limit, Param};
use crate::system::{Edge, Pool};

/// A ceiling below this is no limit but a loop.
const LEAST: usize = 2;
/// Attempts that must be seen to be held back.
const ENOUGH_HANDED: usize = 20;
const ENOUGH_REFUSED: usize = 10;
/// Longest time from an attempt's end to the start of the one that waited for its connection.
const LONGEST_HAND_OVER_NS: u64 = 200_000;
/// Attempts whose gaps are looked at.
const LOOKED_AT: usize = 2_000;

/// A limit that an edge shows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ceiling {
    /// Most attempts under way at once, per calling replica.
    pub(crate) most: u32,
    /// Attempts that began when another request's ended.
    pub(crate) handed: u64,
    /// Calls that were not made because the ceiling was reached.
    pub(crate) refused: u64,
    /// Attempts, or requests, that reached the ceiling or found it reached.
    pub(crate) of: u64,
    /// Traces that show it.
    pub(crate) traces: Examples,
}

/// Every ceiling, and which requests were held back.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) ceilings: BTreeMap<(Node, Node), Ceiling>,
    /// `waited[request]`: it waited for a connection, which is no work of its own.
    pub(crate) waited: Vec<bool>,
    /// `refused[request]`: it failed because a call of its was not let out.
    pub(crate) refused: Vec<bool>,
}

impl Ceiling {
    /// The policy with the limit in it.
    pub(crate) fn lay_over(&self, edge: Edge) -> Edge {
        let most = Param::inferred(self.most, [self.most, self.most]);
        if self.handed == 0 {
            return Edge { max_in_flight: Some(most), ..edge };
        }
        let unlimited = [Limit::Unlimited; 2];
        let waiting = match self.refused {
            0 => Param::assumed(Limit::Unlimited, unlimited),
            _ => Param::assumed(Limit::Of(self.most), [Limit::Of(1), Limit::Of(self.most.saturating_mul(16))]),
        };
        Edge { pool: Some(Pool { connections: most, waiting }), ..edge }
    }
}

/// Looks at every edge.
pub(crate) fn find(log: &Log, edges: &mut Edges) -> Limits {
    let n = log.requests.len();
    let mut limits = Limits { ceilings: BTreeMap::new(), waited: vec![false; n], refused: vec![false; n] };
    if log.traces.iter().any(|trace| trace.weight > 1.0) {
        return limits;
    }
    let mut failed: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (number, request) in (0..).zip(&log.requests).filter(|(_, request)| request.failed) {
        failed.entry(log.service_of(request.op)).or_default().push(number);
    }
    for (&(from, to), edge) in edges {
        let (Node::Service(caller), Node::Service(_)) = (from, to) else { continue };
        edge.course.sort_unstable();
        let Some(flow) = Flow::of(&edge.course) else { continue };
        let pool = pool(log, &flow, &mut limits.waited);
        let candidates = failed.get(&caller).map_or(&[][..], Vec::as_slice);
        let bulkhead = refusals(log, &flow, to, candidates, &mut limits.refused);
        let ceiling = match (pool, bulkhead) {
            (Some(pool), Some(refusing)) => Ceiling { refused: refusing.refused, ..pool },
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => continue,
        };
        limits.ceilings.insert((from, to), ceiling);
    }
    limits
}

/// What is under way over one edge, over time.
struct Flow<'a> {
    /// Attempts that were sent, and how many others of the same replica were under way when each began.
    sent: Vec<(&'a Sent, usize)>,
    /// Attempts that were not.
    unsent: Vec<&'a Sent>,
    /// Most under way at once.
    most: usize,
    /// Starts and ends of each replica's attempts, in order.
    times: BTreeMap<u32, (Vec<u64>, Vec<u64>)>,
    mean_length: f64,
}

impl<'a> Flow<'a> {
    /// `None` where nothing can be said.
    fn of(course: &'a [Sent]) -> Option<Flow<'a>> {
        let is_sent = |attempt: &&Sent| attempt.tried != Tried::Unsent && attempt.end > attempt.start;
        if course.len() < ENOUGH_HANDED {
            return None;
        }
        let mut flow = Flow { sent: Vec::new(), unsent: Vec::new(), most: 0, times: BTreeMap::new(), mean_length: 0.0 };
        let mut under_way: BinaryHeap<Reverse<u64>> = BinaryHeap::new();
        for of_replica in course.chunk_by(|a, b| a.instance == b.instance) {
            under_way.clear();
            let (mut starts, mut ends) = (Vec::new(), Vec::new());
            for attempt in of_replica.iter().filter(is_sent) {
                while under_way.peek().is_some_and(|end| end.0 <= attempt.start) {
                    under_way.pop();
                }
                flow.sent.push((attempt, under_way.len()));
                under_way.push(Reverse(attempt.end));
                flow.most = flow.most.max(under_way.len());
                flow.mean_length += (attempt.end - attempt.start) as f64;
                starts.push(attempt.start);
                ends.push(attempt.end);
            }
            ends.sort_unstable();
            flow.times.insert(of_replica[0].instance, (starts, ends));
            flow.unsent.extend(of_replica.iter().filter(|attempt| !is_sent(attempt)));
        }
        flow.mean_length /= flow.sent.len().max(1) as f64;
        (flow.most >= LEAST).then_some(flow)
    }

    /// How many attempts of a replica are under way just before `at`; what ends at that very instant is gone.
    fn under_way(&self, instance: u32, at: u64) -> usize {
        self.times.get(&instance).map_or(0, |(starts, ends)| {
            starts.partition_point(|&start| start < at).saturating_sub(ends.partition_point(|&end| end <= at))
        })
    }

    /// Whether an attempt of another request ended just before this one began.
    fn is_handed_over(&self, attempt: &Sent, within: u64, ended: &BTreeMap<(u32, u64), u32>) -> bool {
        let from = (attempt.instance, attempt.start.saturating_sub(within));
        ended.range(from..=(attempt.instance, attempt.start)).next_back().is_some_and(|(_, &request)| request != attempt.request)
    }
}

/// A pool, if attempts that reach the ceiling take over from others, and had to wait for that.
fn pool(log: &Log, flow: &Flow<'_>, waited: &mut [bool]) -> Option<Ceiling> {
    let at_ceiling: Vec<&Sent> = flow.sent.iter().filter(|(_, others)| others + 1 == flow.most).map(|(sent, _)| *sent).collect();
    if at_ceiling.len() < ENOUGH_HANDED {
        return None;
    }
    // So short that an end falls into it by chance for one start in twenty.
    let within = ((flow.mean_length / (20.0 * flow.most as f64)) as u64).min(LONGEST_HAND_OVER_NS);
    let ended: BTreeMap<(u32, u64), u32> = flow.sent.iter().map(|(sent, _)| ((sent.instance, sent.end), sent.request)).collect();
    let handed: Vec<&Sent> = at_ceiling.iter().copied().filter(|attempt| flow.is_handed_over(attempt, within, &ended)).collect();
    if handed.len() < ENOUGH_HANDED || handed.len() * 4 < at_ceiling.len() {
        return None;
    }
    // Where a call follows at once on what was before it, another request's end may have freed a worker, not a connection.
    let gap = |attempt: &&Sent| attempt.start - before(log, attempt);
    let mut free: Vec<u64> = flow
        .sent
        .iter()
        .filter(|(_, others)| others + 1 < flow.most)
        .map(|(sent, _)| *sent)
        .take(LOOKED_AT)
        .map(|s| gap(&s))
        .collect();
    let mut held: Vec<u64> = handed.iter().take(LOOKED_AT).map(gap).collect();
    let (free, held) = (median(&mut free), median(&mut held));
    if free <= 2 * within || held <= free {
        return None;
    }
    let mut traces = Examples::default();
    for attempt in &handed {
        waited[attempt.request as usize] = true;
        traces.add(log.trace_id(&log.requests[attempt.request as usize]));
    }
    Some(Ceiling { most: flow.most as u32, handed: handed.len() as u64, refused: 0, of: at_ceiling.len() as u64, traces })
}

/// When what stands before an attempt in its request was over: an attempt before it, or the way to the request's first step.
fn before(log: &Log, attempt: &Sent) -> u64 {
    let request = &log.requests[attempt.request as usize];
    let calls = log.calls_of(request).iter().flat_map(|call| log.attempts_of(call));
    let ends = calls.take(LOOKED_AT).map(|other| other.end).filter(|&end| end <= attempt.start);
    ends.max().unwrap_or(0).max(request.start).min(attempt.start)
}

/// A bulkhead, if calls are not made while the ceiling is reached, and hardly ever otherwise. `failed`: the caller's failed requests.
fn refusals(log: &Log, flow: &Flow<'_>, to: Node, failed: &[u32], refused: &mut [bool]) -> Option<Ceiling> {
    if flow.sent.iter().filter(|(_, others)| others + 1 == flow.most).count() < ENOUGH_REFUSED {
        return None;
    }
    let reached = |instance: u32, at: u64| flow.under_way(instance, at) >= flow.most;
    let without = |request: &Request| log.calls_of(request).iter().all(|call| Node::of(log, call.target) != to && !call.failed);
    let mut here: Vec<u32> = Vec::new();
    let mut elsewhere = 0;
    for &number in failed {
        let request = &log.requests[number as usize];
        if without(request) {
            if reached(request.instance, request.end) { here.push(number) } else { elsewhere += 1 }
        }
    }
    let (unsent_here, unsent) = (flow.unsent.iter().filter(|a| reached(a.instance, a.start)).count(), flow.unsent.len());
    let (held, others) = (here.len() + unsent_here, elsewhere + unsent - unsent_here);
    // Where the ceiling is reached nearly always, everything falls together with it.
    let starts = log.requests.iter().filter(|request| flow.times.contains_key(&request.instance));
    let (met, all) = starts.fold((0, 0), |(met, all), r| (met + usize::from(reached(r.instance, r.start)), all + 1));
    if held < ENOUGH_REFUSED || others * 10 > held || met * 10 > all * 7 {
        return None;
    }
    let mut traces = Examples::default();
    for &number in &here {
        refused[number as usize] = true;
        traces.add(log.trace_id(&log.requests[number as usize]));
    }
    Some(Ceiling { most: flow.most as u32, handed: 0, refused: held as u64, of: all as u64, traces })
}
