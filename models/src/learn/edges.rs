//! What calls between two services showed: attempts, retries and their waits, timeouts, the network between.
//!
//! You are here: `models::learn::edges`. Edges run between services and topics; the operations on both sides are pooled, because a
//! client's policy is the same for all of them.

use std::collections::BTreeMap;

use super::breakers::{self, AT_ONCE_NS, Course, Sent, Tried};
use super::deadlines::{self, Reach};
use super::findings::Examples;
use super::limits::Ceiling;
use super::log::{Attempt, Log, Target};
use super::numbers::{mean, quantile, wilson};
use super::paths::Unawaited;
use super::retries::{self, Again};
use crate::check::MAX_ATTEMPTS;
use crate::param::{Param, Source};
use crate::system::{Edge, Hedge, ObservedEdge};
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
    /// Durations of attempts that timed out, as their callers say; and of those that failed although their callee still worked.
    pub(crate) timed_out: Vec<u64>,
    pub(crate) outlived: Vec<u64>,
    /// Longest attempt that succeeded.
    pub(crate) longest_success: u64,
    /// Calls by number of tries, of those that failed for good and of those that did not.
    pub(crate) tries_failed: BTreeMap<u32, u64>,
    pub(crate) tries_ok: BTreeMap<u32, u64>,
    /// `waits[k]`: from a (k+1)th try's end to the next one's start.
    pub(crate) waits: Vec<Vec<u64>>,
    /// Failed attempts: what followed them.
    pub(super) again: Again,
    /// From a hedged call's first attempt to its second, and the most attempts of one.
    pub(super) hedged_after: Vec<u64>,
    pub(super) most_hedged: u32,
    /// Every attempt that left a span at its caller, for breakers and limits. Only those at callees that have spans are known to be
    /// unsent.
    pub(super) course: Course,
    /// How far the attempts of calls with several of them reached, for deadlines.
    pub(super) reaches: Vec<Reach>,
    /// Traces where a call failed for good, was tried again, timed out, got lost, or was hedged.
    pub(crate) failing: Examples,
    pub(crate) trying_again: Examples,
    pub(crate) timing_out: Examples,
    pub(crate) losing: Examples,
    pub(crate) hedging: Examples,
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
    for (number, request) in (0..).zip(&log.requests) {
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
            if call.failed {
                edge.failed += 1;
                edge.failed_callers += u64::from(request.failed);
                edge.failing.add(log.trace_id(request));
                if waited {
                    let (failed, callers) = failures.entry((request.op, call.target)).or_default();
                    *failed += 1;
                    *callers += u64::from(request.failed);
                }
            }
            if let (true, [first, second, ..]) = (call.hedged, attempts) {
                edge.hedging.add(log.trace_id(request));
                edge.hedged_after.push(second.start - first.start);
                edge.most_hedged = edge.most_hedged.max(attempts.len() as u32);
            } else {
                edge.tried(call.failed, attempts);
                if attempts.len() > 1 {
                    edge.trying_again.add(log.trace_id(request));
                }
            }
            let instrumented = matches!(call.target, Target::Op(op) if log.instrumented(log.service_of(op)));
            for attempt in attempts {
                let (timeouts, lost) = (edge.timeouts, edge.lost);
                edge.add(log, attempt);
                if edge.timeouts > timeouts {
                    edge.timing_out.add(log.trace_id(request));
                }
                if edge.lost > lost {
                    edge.losing.add(log.trace_id(request));
                }
                if attempt.client {
                    let tried = match attempt.failed {
                        true if instrumented && is_unsent(attempt) => Tried::Unsent,
                        true => Tried::Failed,
                        false => Tried::Good,
                    };
                    let (start, end) = (attempt.start, attempt.end);
                    edge.course.push(Sent { instance: request.instance, start, end, tried, request: number });
                }
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

/// Whether an attempt at a callee that has spans failed before it was sent.
pub(super) fn is_unsent(attempt: &Attempt) -> bool {
    attempt.failed && attempt.server.is_none() && attempt.duration() <= AT_ONCE_NS
}

impl EdgeSeen {
    /// Counts the tries of one call, one after the other.
    fn tried(&mut self, failed: bool, attempts: &[Attempt]) {
        let tries = if failed { &mut self.tries_failed } else { &mut self.tries_ok };
        *tries.entry(attempts.len() as u32).or_default() += 1;
        for (k, pair) in attempts.windows(2).enumerate() {
            let [before, after] = [pair[0].resend as usize, pair[1].resend as usize];
            // A client that counts its tries shows where the span of one is missing: then it is not known which wait this was.
            let Some(k) = (if after == 0 { Some(k) } else { (after == before + 1).then_some(before) }) else { continue };
            if k >= MAX_ATTEMPTS as usize {
                continue;
            }
            self.waits.resize(self.waits.len().max(k + 1), Vec::new());
            self.waits[k].push(pair[1].start.saturating_sub(pair[0].end));
        }
        if attempts.len() > 1 {
            self.reaches.extend(deadlines::reaches(attempts));
        }
        for (k, attempt) in attempts.iter().enumerate().filter(|(_, attempt)| attempt.failed) {
            let (followed, ended) = self.again.entry((k as u32, retries::cause(attempt.failure))).or_default();
            if k + 1 < attempts.len() { *followed += 1 } else { *ended += 1 }
        }
    }

    fn add(&mut self, log: &Log, attempt: &Attempt) {
        self.attempts += 1;
        if attempt.cancelled {
            return; // how long it would have taken, and how it would have ended, nobody knows
        }
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
            let said = attempt.failure == Some(Failure::Timeout);
            if said { self.timed_out.push(attempt.duration()) } else { self.outlived.push(attempt.duration()) }
        }
        self.lost += u64::from(attempt.client && server.is_none_or(|s| !s.failed));
    }

    /// The calls that were tried again.
    pub(crate) fn retried(&self) -> u64 {
        self.tries_failed.iter().chain(&self.tries_ok).filter(|&(&tries, _)| tries > 1).map(|(_, n)| n).sum()
    }

    /// The client's policy as far as it shows. `known`: its timeout, where a person knows it.
    pub(crate) fn policy(&mut self, known: Option<Nanos>, limit: Option<&Ceiling>) -> Edge {
        let latency = self.latency();
        let hedge = self.hedge();
        let deadline = deadlines::find(self);
        let retry = if hedge.is_none() { retries::policy(self) } else { None };
        let timeout = self.timeout(known);
        // What a full client refuses is not sent either.
        let breaker = if limit.is_some_and(|limit| limit.refused > 0) { None } else { breakers::breaker(&mut self.course) };
        let edge = Edge { latency, timeout, deadline, retry, hedge, breaker, observed: Some(self.observed()), ..Edge::default() };
        match limit {
            Some(limit) => limit.lay_over(edge),
            None => edge,
        }
    }

    /// One-way network time. The model has one constant for it: the median, and a range that holds the median's own interval (by order
    /// statistics) and the mean, which a long tail moves away from it.
    fn latency(&mut self) -> Option<Param<Nanos>> {
        self.latencies.sort_unstable();
        let n = self.latencies.len() as f64;
        let middle = quantile(&self.latencies, 0.5);
        let off = 0.5 * 1.645 / libm::sqrt(n.max(1.0));
        let mean = mean(&self.latencies) as u64;
        let low = quantile(&self.latencies, (0.5 - off).max(0.0)).min(mean);
        let high = quantile(&self.latencies, (0.5 + off).min(1.0)).max(mean);
        let value = Param::observed(Nanos::from_nanos(middle));
        // Below a hundredth it is one number.
        let certain = high - low <= middle / 100;
        (n > 0.0).then(|| if certain { value } else { value.with_range([low, high].map(Nanos::from_nanos)) })
    }

    /// The timeout: where failed client spans pile up. `None` if none was seen, or if calls that took longer succeeded.
    fn timeout(&mut self, known: Option<Nanos>) -> Option<Param<Nanos>> {
        if let Some(known) = known {
            return Some(Param::declared(known));
        }
        let times = if self.timed_out.is_empty() { &mut self.outlived } else { &mut self.timed_out };
        times.sort_unstable();
        let at = |q: f64| quantile(times, q);
        let middle = at(0.5);
        // A timeout is where they pile up; callers that leave for other reasons leave at any time.
        let spread = times.len() >= 3 && at(0.75) - at(0.25) > middle / 5;
        if middle == 0 || spread || self.longest_success > middle + middle / 10 {
            return None;
        }
        let (low, high) = if times.len() < 3 { (middle / 5 * 4, middle / 4 * 5) } else { (at(0.05), at(0.95)) };
        Some(Param::inferred(Nanos::from_nanos(middle), [low.max(1), high].map(Nanos::from_nanos)))
    }

    /// Hedging, where calls were joined as hedged.
    fn hedge(&mut self) -> Option<Hedge> {
        self.hedged_after.sort_unstable();
        let at = |q: f64| Nanos::from_nanos(quantile(&self.hedged_after, q));
        (self.most_hedged > 1).then(|| Hedge {
            after: Param::inferred(at(0.5), [at(0.05), at(0.95)]),
            attempts: Param::inferred(self.most_hedged, [self.most_hedged, self.most_hedged + 1]),
        })
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
