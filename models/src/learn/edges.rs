//! What calls between two services showed: attempts, retries and their waits, timeouts, the network between.
//!
//! You are here: `models::learn::edges`. Edges run between services and topics; the operations on both sides are pooled, because a
//! client's policy is the same for all of them.

use std::collections::BTreeMap;

use super::log::{Attempt, Log, Target};
use super::numbers::{median, quantile, wilson};
use super::paths::Unawaited;
use crate::param::{Param, Source};
use crate::system::{Edge, Jitter, ObservedEdge, Retry};
use crate::trace::Failure;
use crate::units::Nanos;

/// One end of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    Service(u32),
    Topic(u32),
}

impl Node {
    pub(crate) fn name(self, log: &Log) -> &str {
        match self {
            Node::Service(service) => log.service_name(service),
            Node::Topic(topic) => &log.topics[topic as usize].name,
        }
    }

    pub(crate) fn of(log: &Log, target: Target) -> Node {
        match target {
            Target::Op(op) => Node::Service(log.service_of(op)),
            Target::Topic(topic) => Node::Topic(topic),
        }
    }
}

/// One edge, counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct EdgeSeen {
    pub(crate) calls: u64,
    pub(crate) attempts: u64,
    /// Attempts that failed.
    pub(crate) errors: u64,
    pub(crate) timeouts: u64,
    /// Attempts that failed for the caller although the callee answered right or never saw them.
    pub(crate) lost: u64,
    /// Calls that nobody waited for.
    pub(crate) unawaited: u64,
    /// Calls that failed for good, and those of them whose caller failed.
    pub(crate) failed: u64,
    pub(crate) failed_callers: u64,
    /// Requests that the caller handled.
    pub(crate) parents: u64,
    /// Durations of attempts.
    pub(crate) durations: Vec<u64>,
    /// One-way network time of attempts with both sides.
    pub(crate) latencies: Vec<u64>,
    /// Durations of attempts that timed out.
    pub(crate) timed_out: Vec<u64>,
    /// Longest attempt that succeeded.
    pub(crate) longest_success: u64,
    /// Calls by number of tries, of those that failed for good and of those that did not.
    pub(crate) tries_failed: BTreeMap<u32, u64>,
    pub(crate) tries_ok: BTreeMap<u32, u64>,
    /// `waits[k]`: from a (k+1)th try's end to the next one's start.
    pub(crate) waits: Vec<Vec<u64>>,
    /// Traces where something failed, for examples.
    pub(crate) example: Option<u128>,
}

/// Edges by their ends.
pub(crate) type Edges = BTreeMap<(Node, Node), EdgeSeen>;
/// Per (operation, target): calls that failed for good, and those of them whose caller failed.
pub(crate) type Failures = BTreeMap<(u32, Target), (u64, u64)>;

/// Every edge of the log, and per (operation, target) how often a call's failure became its caller's.
pub(crate) fn edges(log: &Log, unawaited: &Unawaited) -> (Edges, Failures) {
    let mut edges = Edges::new();
    let mut failures = Failures::new();
    let mut requests: BTreeMap<u32, u64> = BTreeMap::new();
    for request in &log.requests {
        let service = log.service_of(request.op);
        *requests.entry(service).or_default() += 1;
        if let Some(topic) = request.topic {
            let edge = edges.entry((Node::Topic(topic), Node::Service(service))).or_default();
            edge.calls += 1;
            edge.attempts += 1;
            edge.errors += u64::from(request.failed);
            edge.durations.push(request.duration());
        }
        for call in log.calls_of(request) {
            let edge = edges.entry((Node::Service(service), Node::of(log, call.target))).or_default();
            let attempts = log.attempts_of(call);
            let waited = !unawaited.contains(&(request.op, call.target));
            edge.calls += 1;
            edge.unawaited += u64::from(!waited);
            let tries = if call.failed { &mut edge.tries_failed } else { &mut edge.tries_ok };
            *tries.entry(attempts.len() as u32).or_default() += 1;
            if call.failed {
                edge.failed += 1;
                edge.failed_callers += u64::from(request.failed);
                edge.example.get_or_insert(log.trace_id(request));
                if waited {
                    let (failed, callers) = failures.entry((request.op, call.target)).or_default();
                    *failed += 1;
                    *callers += u64::from(request.failed);
                }
            }
            for (k, pair) in attempts.windows(2).enumerate() {
                edge.waits.resize(edge.waits.len().max(k + 1), Vec::new());
                edge.waits[k].push(pair[1].start.saturating_sub(pair[0].end));
            }
            for attempt in attempts {
                edge.add(log, attempt);
            }
        }
    }
    for ((from, _), edge) in &mut edges {
        edge.parents = match from {
            Node::Service(service) => requests.get(service).copied().unwrap_or(0),
            Node::Topic(_) => edge.calls,
        };
    }
    (edges, failures)
}

impl EdgeSeen {
    fn add(&mut self, log: &Log, attempt: &Attempt) {
        self.attempts += 1;
        self.durations.push(attempt.duration());
        let server = attempt.server.map(|s| &log.requests[s as usize]);
        let outlived = attempt.client && server.is_some_and(|s| s.duration() > attempt.duration());
        if !attempt.failed {
            self.longest_success = self.longest_success.max(attempt.duration());
            if let (Some(server), true, false) = (server, attempt.client, outlived) {
                self.latencies.push((attempt.duration() - server.duration()) / 2);
            }
            return;
        }
        self.errors += 1;
        if attempt.failure == Some(Failure::Timeout) || outlived {
            self.timeouts += 1;
            self.timed_out.push(attempt.duration());
        }
        self.lost += u64::from(attempt.client && server.is_none_or(|s| !s.failed));
    }

    /// The calls that were tried again.
    pub(crate) fn retried(&self) -> u64 {
        self.tries_failed.iter().chain(&self.tries_ok).filter(|&(&tries, _)| tries > 1).map(|(_, n)| n).sum()
    }

    /// The client's policy as far as it shows. `known`: its timeout, where a person knows it.
    pub(crate) fn policy(&mut self, known: Option<Nanos>) -> Edge {
        let latency = (!self.latencies.is_empty()).then(|| Param::observed(Nanos::from_nanos(median(&mut self.latencies))));
        Edge { latency, timeout: self.timeout(known), retry: self.retry(), observed: Some(self.observed()), ..Edge::default() }
    }

    /// The timeout: where failed client spans pile up. `None` if none was seen, or if calls that took longer succeeded.
    fn timeout(&mut self, known: Option<Nanos>) -> Option<Param<Nanos>> {
        if let Some(known) = known {
            return Some(Param::declared(known));
        }
        self.timed_out.sort_unstable();
        let at = |q: f64| quantile(&self.timed_out, q);
        let middle = at(0.5);
        if middle == 0 || self.longest_success > middle + middle / 10 {
            return None;
        }
        let (low, high) = if self.timed_out.len() < 3 { (middle / 5 * 4, middle / 4 * 5) } else { (at(0.05), at(0.95)) };
        Some(Param::inferred(Nanos::from_nanos(middle), [low.max(1), high].map(Nanos::from_nanos)))
    }

    /// Retries: how many tries, and the waits between them.
    fn retry(&mut self) -> Option<Retry> {
        let most = |tries: &BTreeMap<u32, u64>| tries.keys().last().copied().unwrap_or(1);
        let (given_up, seen) = (most(&self.tries_failed), most(&self.tries_ok).max(most(&self.tries_failed)));
        if seen < 2 {
            return None;
        }
        // Calls that were given up show the limit; without any, the most tries seen are a lower bound.
        let sure = given_up == seen && self.tries_failed.get(&given_up).is_some_and(|&n| n >= 2);
        let attempts = Param::inferred(seen, if sure { [seen, seen] } else { [seen, seen + 2] });
        for waits in &mut self.waits {
            waits.sort_unstable();
        }
        let first = self.waits.first().map_or(&[][..], Vec::as_slice);
        let (low, middle, high) = (quantile(first, 0.1), quantile(first, 0.5), quantile(first, 0.9));
        let spread = first.len() >= 5 && high - low > middle / 2;
        let (jitter, backoff, range) = match () {
            () if middle < 1_000_000 => (Jitter::None, 0, [0, high]),
            // Uniform between 0 and the wait: the longest seen is nearest to it.
            () if spread => (Jitter::Full, quantile(first, 0.98), [high, quantile(first, 1.0) / 10 * 13]),
            () => (Jitter::None, middle, [low, high]),
        };
        let backoff = Param::inferred(Nanos::from_nanos(backoff), range.map(Nanos::from_nanos));
        let second = self.waits.get(1).filter(|w| w.len() >= 3 && middle >= 1_000_000);
        let factor = second.map_or(Param::assumed(2.0, [1.0, 3.0]), |waits| {
            let ratio = quantile(waits, 0.5) as f64 / middle as f64;
            Param::inferred(ratio.max(1.0), [(ratio * 0.7).max(1.0), (ratio * 1.4).max(1.0)])
        });
        Some(Retry { attempts, backoff, factor, jitter, ..Retry::default() })
    }

    pub(crate) fn observed(&mut self) -> ObservedEdge {
        self.durations.sort_unstable();
        ObservedEdge {
            calls: self.calls,
            attempts: self.attempts,
            errors: self.errors,
            timeouts: self.timeouts,
            per_parent: self.calls as f64 / self.parents.max(1) as f64,
            asynchronous: 2 * self.unawaited > self.calls,
            p50_ms: quantile(&self.durations, 0.5) as f64 / 1e6,
            p99_ms: quantile(&self.durations, 0.99) as f64 / 1e6,
        }
    }
}

/// Failed share with its interval; `None` if nothing failed.
pub(crate) fn error_rate(failed: u64, n: u64) -> Option<Param<f64>> {
    (failed > 0).then(|| Param {
        value: failed as f64 / n.max(1) as f64,
        source: Source::Observed,
        range: Some(wilson(failed, n)),
    })
}
