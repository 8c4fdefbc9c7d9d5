//! Hedged calls: further attempts sent before the first has ended, of which the first answer wins.
//!
//! You are here: `models::learn::hedges`, at the end of `resolve`. The signature: two calls of one request to one operation overlap, the
//! second began a fixed while after the first, one of them succeeded and the other was given up at that instant. Calls made side by side
//! begin together; a loop's begin when the one before has ended.
//! Always true: an edge is hedged only if the while is about the same every time; else its calls are left as they are.

use std::collections::BTreeMap;

use super::edges::Node;
use super::log::{Attempt, Call, Log, Target};
use super::numbers::quantile;

/// Ends this near to each other are one instant: clients take a moment to cancel.
const INSTANT_NS: u64 = 1_000_000;
/// Nobody hedges sooner than this.
const LEAST_AFTER_NS: u64 = 1_000_000;
/// Pairs that an edge must show.
const ENOUGH: usize = 5;

/// Joins hedged attempts to one call each.
pub(super) fn join(log: &mut Log) {
    let mut waits: BTreeMap<(u32, Node), Vec<u64>> = BTreeMap::new();
    for request in &log.requests {
        let calls = log.calls_of(request);
        for (i, call) in calls.iter().enumerate() {
            if let Some(later) = calls[i + 1..].iter().find(|later| is_hedge(log, call, later)) {
                let edge = (log.service_of(request.op), Node::of(log, call.target));
                waits.entry(edge).or_default().push(later.start - call.start);
            }
        }
    }
    waits.retain(|_, waits| {
        waits.sort_unstable();
        let (low, middle, high) = (quantile(waits, 0.25), quantile(waits, 0.5), quantile(waits, 0.75));
        waits.len() >= ENOUGH && high - low <= middle / 10
    });
    if !waits.is_empty() {
        rebuild(log, |log, service, target| waits.contains_key(&(service, Node::of(log, target))));
    }
}

/// Whether `later` is a further attempt at `call`.
fn is_hedge(log: &Log, call: &Call, later: &Call) -> bool {
    let last = |c: &Call| log.attempts_of(c).last().map_or(0, |a| a.end);
    matches!(call.target, Target::Op(_))
        && call.target == later.target
        && later.start >= call.start + LEAST_AFTER_NS
        && later.start < call.end
        && call.failed != later.failed
        && last(call).abs_diff(last(later)) <= INSTANT_NS
}

/// Writes calls and attempts anew, with those of hedged edges joined.
fn rebuild(log: &mut Log, hedged: impl Fn(&Log, u32, Target) -> bool) {
    let (mut calls, mut attempts) = (Vec::with_capacity(log.calls.len()), Vec::with_capacity(log.attempts.len()));
    let mut ranges = Vec::with_capacity(log.requests.len());
    for request in &log.requests {
        let begin = calls.len() as u32;
        let mine = log.calls_of(request);
        let mut taken = vec![false; mine.len()];
        for i in 0..mine.len() {
            if taken[i] {
                continue;
            }
            let call = &mine[i];
            let mut tries: Vec<Attempt> = log.attempts_of(call).to_vec();
            let mut joined = call.clone();
            if hedged(log, log.service_of(request.op), call.target) {
                for j in i + 1..mine.len() {
                    if !taken[j] && (is_hedge(log, call, &mine[j]) || is_hedge(log, &joined, &mine[j])) {
                        taken[j] = true;
                        joined.hedged = true;
                        joined.failed &= mine[j].failed;
                        joined.end = joined.end.max(mine[j].end);
                        tries.extend(log.attempts_of(&mine[j]).iter().cloned());
                    }
                }
            }
            if joined.hedged {
                let end = joined.end;
                tries.iter_mut().for_each(|t| t.cancelled = t.failed && t.end + INSTANT_NS >= end);
            }
            let at = attempts.len() as u32;
            attempts.extend(tries);
            joined.attempts = at..attempts.len() as u32;
            calls.push(joined);
        }
        ranges.push(begin..calls.len() as u32);
    }
    (log.calls, log.attempts) = (calls, attempts);
    log.requests.iter_mut().zip(ranges).for_each(|(request, range)| request.calls = range);
}
