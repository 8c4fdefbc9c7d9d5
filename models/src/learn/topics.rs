//! Topics: who publishes, who consumes, how many messages at once, what becomes of a failed one.
//!
//! You are here: `models::learn::topics`. A broker leaves no spans: its numbers show only in what happens around it.

use std::collections::BTreeMap;

use super::log::{Log, Target};
use super::numbers::{observe, quantile, work};
use crate::param::{Limit, Param};
use crate::system::{Observed, OpRef, Topic};
use crate::units::Nanos;

/// The topics of the log, without sites. `seconds`: the observed time.
pub(crate) fn topics(log: &Log, seconds: f64) -> Vec<(String, Topic)> {
    let mut accept: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    let mut refused: BTreeMap<u32, u64> = BTreeMap::new();
    for call in &log.calls {
        let Target::Topic(topic) = call.target else { continue };
        for attempt in log.attempts_of(call) {
            accept.entry(topic).or_default().push(attempt.duration());
            *refused.entry(topic).or_default() += u64::from(attempt.failed);
        }
    }
    let mut out = Vec::new();
    for (index, seen) in log.topics.iter().enumerate() {
        let index = index as u32;
        let messages = log.deliveries.get(&index).map_or(&[][..], Vec::as_slice);
        let published = accept.remove(&index).unwrap_or_default();
        let consumer = OpRef::new(log.service_name(log.service_of(seen.consumer)), log.op_name(seen.consumer));
        let topic = Topic {
            capacity: Param::assumed(Limit::Of(10_000), [Limit::Of(1_000), Limit::Of(100_000)]),
            redelivery_delay: redelivery_delay(log, messages),
            max_deliveries: max_deliveries(log, messages),
            accept: (!published.is_empty() && published.iter().any(|&d| d > 0)).then(|| work(&mut published.clone())),
            observed: Some(observed(published, refused.get(&index).copied().unwrap_or(0), seconds)),
            ..Topic::to(consumer, concurrency(log, messages), 0)
        };
        out.push((seen.name.clone(), topic));
    }
    out
}

/// Deliveries at once: the most seen is a lower bound.
fn concurrency(log: &Log, messages: &[Vec<u32>]) -> Param<u32> {
    let mut changes: Vec<(u64, i32)> = Vec::new();
    for &r in messages.iter().flatten() {
        let request = &log.requests[r as usize];
        changes.extend([(request.start, 1), (request.end.max(request.start + 1), -1)]);
    }
    changes.sort_unstable();
    let (mut now, mut most) = (0_i32, 1_i32);
    for (_, change) in changes {
        now += change;
        most = most.max(now);
    }
    let most = most as u32;
    Param::inferred(most, [most, most * 4])
}

/// From a failed delivery's end to the next delivery of the same message.
fn redelivery_delay(log: &Log, messages: &[Vec<u32>]) -> Param<Nanos> {
    let mut waits: Vec<u64> = Vec::new();
    for message in messages {
        let request = |r: u32| &log.requests[r as usize];
        waits.extend(message.windows(2).map(|w| request(w[1]).start.saturating_sub(request(w[0]).end)));
    }
    if waits.is_empty() {
        return Param::assumed(Nanos::from_secs(1), [Nanos::from_millis(100), Nanos::from_secs(10)]);
    }
    waits.sort_unstable();
    Param::inferred(
        Nanos::from_nanos(quantile(&waits, 0.5)),
        [quantile(&waits, 0.05), quantile(&waits, 0.95)].map(Nanos::from_nanos),
    )
}

/// Deliveries of messages whose last one failed too: that was the limit.
fn max_deliveries(log: &Log, messages: &[Vec<u32>]) -> Param<u32> {
    let most = messages.iter().map(|m| m.len() as u32).max().unwrap_or(1);
    let given_up =
        messages.iter().filter(|m| m.last().is_some_and(|&r| log.requests[r as usize].failed)).map(|m| m.len() as u32).max();
    match given_up {
        Some(limit) if limit > 1 && limit == most => Param::inferred(limit, [limit, limit + 2]),
        _ => Param::assumed(5.max(most), [3.max(most), 16.max(most)]),
    }
}

fn observed(mut published: Vec<u64>, refused: u64, seconds: f64) -> Observed {
    let per_s = if seconds > 0.0 { published.len() as f64 / seconds } else { 0.0 };
    observe(&mut published, refused, per_s)
}
