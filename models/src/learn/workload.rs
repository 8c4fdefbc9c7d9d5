//! Who comes in, where, and how often.
//!
//! You are here: `models::learn::workload`. Users of one service are one entry, whatever they ask it for: they share a client, and a
//! surge hits all they ask for. Where they ask for several operations, the entry's operation has all their paths.
//! Always true: every trace's weight (1 / share kept by sampling) counts, so head sampling is undone.

use std::collections::{BTreeMap, BTreeSet};

use super::log::{Log, Origin, Request};
use super::numbers::interquartile_mean;
use super::sessions;
use super::traffic::Traffic;
use crate::check::MAX_PER_S;
use crate::param::Param;
use crate::system::ClosedLoop;

/// The users of one service.
#[derive(Debug)]
pub(crate) struct EntrySeen {
    pub(crate) service: u32,
    /// What they ask for, most asked first: (operation, share of the requests).
    pub(crate) ops: Vec<(u32, f64)>,
    /// Requests per second.
    pub(crate) rate: Param<f64>,
    /// How steadily they come.
    pub(crate) traffic: Traffic,
    /// Users who wait for their answers, if they show.
    pub(crate) closed: Option<ClosedLoop>,
}

/// A request that comes in.
struct Arrival {
    start: u64,
    end: u64,
    /// How many it stands for.
    weight: f64,
    op: u32,
    /// Whose it is; 0 if nothing says so.
    session: u64,
}

/// The time that the traces cover.
#[derive(Clone, Debug, Default)]
pub(crate) struct Covered {
    /// Length without the holes between recordings, seconds.
    pub(crate) seconds: f64,
    /// Stretches without a hole, nanoseconds.
    stretches: Vec<(u64, u64)>,
}

/// A hole is at least this long, and this many times the mean time between traces.
const LEAST_HOLE_NS: u64 = 10_000_000_000;
const HOLE_GAPS: u64 = 50;
/// Traffic above this rate over this time is counted second by second.
const DENSE_PER_S: f64 = 5.0;
const DENSE_SECONDS: f64 = 20.0;

/// The observed time: from the first request to the last, without holes (files of several recordings may lie far apart).
pub(crate) fn covered(log: &Log) -> Covered {
    let mut starts: BTreeMap<u32, u64> = BTreeMap::new();
    for request in &log.requests {
        let start = starts.entry(request.trace).or_insert(request.start);
        *start = (*start).min(request.start);
    }
    let mut starts: Vec<u64> = starts.into_values().collect();
    starts.sort_unstable();
    let mut gaps: Vec<u64> = starts.windows(2).map(|w| w[1] - w[0]).collect();
    let hole = LEAST_HOLE_NS.max(super::numbers::median(&mut gaps).saturating_mul(HOLE_GAPS));
    let mut stretches: Vec<(u64, u64)> = Vec::new();
    for start in starts {
        match stretches.last_mut() {
            Some((_, end)) if start - *end <= hole => *end = start,
            _ => stretches.push((start, start)),
        }
    }
    let seconds = stretches.iter().map(|(a, b)| (b - a) as f64 / 1e9).sum();
    Covered { seconds, stretches }
}

/// The entries, busiest first.
pub(crate) fn entries(log: &Log, covered: &Covered) -> Vec<EntrySeen> {
    let mut origins: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for request in &log.requests {
        let (orphans, called) = origins.entry(request.op).or_default();
        *orphans += u64::from(request.origin == Origin::Orphan);
        *called += u64::from(request.origin == Origin::Called);
    }
    let mut arrivals: BTreeMap<u32, Vec<Arrival>> = BTreeMap::new();
    let mut arrive = |request: &Request| {
        let trace = &log.traces[request.trace as usize];
        let &Request { start, end, op, .. } = request;
        let arrival = Arrival { start, end, weight: trace.weight, op, session: trace.session };
        arrivals.entry(log.service_of(request.op)).or_default().push(arrival);
    };
    let mut anybody = false;
    for request in &log.requests {
        let (orphans, called) = origins[&request.op];
        let comes_in = match request.origin {
            Origin::Root => true,
            // A caller that is otherwise known lost its span; one that is never seen is outside.
            Origin::Orphan => orphans > called,
            // A message that nobody in the traces sent.
            Origin::Message => request.topic.is_none(),
            Origin::Called | Origin::Fragment => false,
        };
        if comes_in {
            anybody = true;
            arrive(request);
        }
    }
    if !anybody {
        // Nobody comes in: then what is first in each trace does.
        let mut last = None;
        for request in log.requests.iter().filter(|r| r.origin != Origin::Fragment) {
            if last.replace(request.trace) != Some(request.trace) {
                arrive(request);
            }
        }
    }
    let entry = |(service, arrivals): (u32, Vec<Arrival>)| {
        let mut by_op: BTreeMap<u32, f64> = BTreeMap::new();
        for arrival in &arrivals {
            *by_op.entry(arrival.op).or_default() += arrival.weight;
        }
        let total: f64 = by_op.values().sum();
        let mut ops: Vec<(u32, f64)> = by_op.into_iter().map(|(op, weight)| (op, weight / total)).collect();
        ops.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let traffic = traffic(&arrivals, covered);
        let whole = covered.stretches.len() == 1 && arrivals.iter().all(|arrival| arrival.weight <= 1.0);
        let closed = if whole { sessions::closed(arrivals.iter().map(|a| (a.start, a.end, a.session)).collect()) } else { None };
        EntrySeen { service, ops, rate: rate(&arrivals, covered, &traffic), traffic, closed }
    };
    let mut entries: Vec<EntrySeen> = arrivals.into_iter().map(entry).collect();
    entries.sort_by(|a, b| b.rate.value.total_cmp(&a.rate.value).then(a.service.cmp(&b.service)));
    entries
}

/// Requests per second. Steady traffic: number by time. Dense traffic that is not: the interquartile mean of the counts of whole
/// seconds, so that bursts and pauses do not count. A rate of a few requests in no time to speak of is a guess, and said to be one.
fn rate(arrivals: &[Arrival], covered: &Covered, traffic: &Traffic) -> Param<f64> {
    let total: f64 = arrivals.iter().map(|arrival| arrival.weight).sum();
    let n = arrivals.len() as f64;
    // A share of one in a billion, said or mistaken, must not make a model that no run would end with.
    let possible = |per_s: f64| per_s.min(MAX_PER_S);
    let mean = possible(total / covered.seconds.max(1.0));
    if covered.seconds < 1.0 || n < 5.0 {
        return Param::assumed(mean, [mean / 10.0, possible(mean * 10.0)]);
    }
    // What was kept decides: a thinned stream has many empty seconds.
    let dense = covered.seconds >= DENSE_SECONDS && n / covered.seconds >= DENSE_PER_S;
    let steady = traffic.is_steady() && !traffic.is_bursty() && covered.stretches.len() == 1;
    let value = if dense && !steady { possible(per_second(arrivals, covered)) } else { mean };
    let half = (1.645 * libm::sqrt(traffic.dispersion.max(1.0) / n)).min(0.9);
    Param::observed(value).with_range([value * (1.0 - half), possible(value * (1.0 + half))])
}

/// How steadily users come, with the holes between recordings closed. Steps across recordings would tell of nothing but these.
fn traffic(arrivals: &[Arrival], covered: &Covered) -> Traffic {
    let mut before = 0;
    let mut begins = Vec::new();
    for &(begin, end) in &covered.stretches {
        begins.push((begin, before));
        before += end - begin;
    }
    let place = |start: u64| {
        let stretch = begins.partition_point(|&(begin, _)| begin <= start).saturating_sub(1);
        begins.get(stretch).map_or(0, |&(begin, before)| before + start.saturating_sub(begin))
    };
    let times = arrivals.iter().map(|arrival| (place(arrival.start), arrival.weight));
    let mut traffic = Traffic::of(times, arrivals.len(), covered.seconds);
    if covered.stretches.len() > 1 {
        traffic.steps.truncate(1);
    }
    traffic
}

fn per_second(arrivals: &[Arrival], covered: &Covered) -> f64 {
    const SECOND: u64 = 1_000_000_000;
    let mut counts: Vec<f64> = Vec::new();
    for &(begin, end) in &covered.stretches {
        let mut seconds = vec![0.0; ((end - begin) / SECOND) as usize];
        for arrival in arrivals.iter().filter(|arrival| (begin..=end).contains(&arrival.start)) {
            if let Some(count) = seconds.get_mut(((arrival.start - begin) / SECOND) as usize) {
                *count += arrival.weight;
            }
        }
        counts.extend(seconds);
    }
    interquartile_mean(&mut counts)
}

/// Names for entries: `users`, or `users-<service>` if they come in at several services; never a name that is taken.
pub(crate) fn names(log: &Log, entries: &[EntrySeen]) -> Vec<String> {
    let mut taken: BTreeSet<String> = log.services.keys().map(|s| s.to_string()).collect();
    taken.extend(log.topics.iter().map(|t| t.name.clone()));
    let name = |entry: &EntrySeen| {
        let mut name = if entries.len() == 1 { "users".to_owned() } else { format!("users-{}", log.service_name(entry.service)) };
        while !taken.insert(name.clone()) {
            name.push_str("-in");
        }
        name
    };
    entries.iter().map(name).collect()
}
