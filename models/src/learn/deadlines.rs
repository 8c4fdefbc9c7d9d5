//! Overall deadlines: how long all tries of a call may take together.
//!
//! You are here: `models::learn::deadlines`, for `edges`. The signature: calls with several tries that end in a timeout all end equally
//! long after their first try began, while the last tries themselves, cut short by it, are of any length; and no call lasts longer.
//! Always true: tries that are all as long as a per-try timeout are no deadline, however equal their sums; a call with one try cannot
//! tell the two apart, and its bound is called a timeout.

use super::edges::EdgeSeen;
use super::log::Attempt;
use super::numbers::quantile;
use super::retries::cause;
use crate::param::Param;
use crate::system::Cause;
use crate::units::Nanos;

/// How far one try of a call with several of them reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    /// Which try, from 0.
    try_number: u32,
    /// Its length.
    length: u64,
    /// From the first try's start to its end.
    total: u64,
    /// Why it failed, if it did.
    cause: Option<Cause>,
    /// No other try followed it.
    last: bool,
}

/// Calls that must pile up at the bound.
const ENOUGH: usize = 5;
/// At the bound: within this part of it.
const NEAR: u64 = 100;

/// The tries of one call.
pub(super) fn reaches(attempts: &[Attempt]) -> impl Iterator<Item = Reach> {
    let begin = attempts.first().map_or(0, |first| first.start);
    attempts.iter().enumerate().filter(|(_, attempt)| !attempt.cancelled).map(move |(k, attempt)| Reach {
        try_number: k as u32,
        length: attempt.duration(),
        total: attempt.end.saturating_sub(begin),
        cause: attempt.failed.then(|| cause(attempt.failure)),
        last: k + 1 == attempts.len(),
    })
}

impl Reach {
    fn is_cut(&self, at: u64) -> bool {
        self.last && self.try_number > 0 && self.cause == Some(Cause::Timeout) && self.total + at / NEAR >= at
    }
}

/// The deadline that an edge shows. Tries that it cut short say nothing of the per-try timeout, nor of what is tried again: they are
/// taken out of what the edge has counted of these.
pub(super) fn find(edge: &mut EdgeSeen) -> Option<Param<Nanos>> {
    let longest = edge.reaches.iter().map(|reach| reach.total).chain(edge.durations.iter().copied()).max()?;
    let cut: Vec<Reach> = edge.reaches.iter().filter(|reach| reach.is_cut(longest)).copied().collect();
    if cut.len() < ENOUGH {
        return None;
    }
    let mut lengths: Vec<u64> = cut.iter().map(|reach| reach.length).collect();
    lengths.sort_unstable();
    // As long as one another: each was ended by its own timeout, and the waits between them are fixed.
    let spread = quantile(&lengths, 0.9) - quantile(&lengths, 0.1);
    if spread <= quantile(&lengths, 0.9) / 10 {
        return None;
    }
    let mut totals: Vec<u64> = cut.iter().map(|reach| reach.total).collect();
    totals.sort_unstable();
    for reach in &cut {
        if let Some((_, ended)) = edge.again.get_mut(&(reach.try_number, Cause::Timeout)) {
            *ended = ended.saturating_sub(1);
        }
    }
    // Both in order; those of the cut tries go, and first tries that lasted until the deadline.
    edge.timed_out.sort_unstable();
    let mut of_cut = lengths.into_iter().peekable();
    let (before, is_whole) = (edge.timed_out.len(), |length: u64| length + longest / NEAR >= longest);
    edge.timed_out.retain(|&length| {
        while of_cut.next_if(|&other| other < length).is_some() {}
        of_cut.next_if_eq(&length).is_none() && !is_whole(length)
    });
    let whole = (before - edge.timed_out.len()).saturating_sub(cut.len()) as u64;
    if let Some((_, ended)) = edge.again.get_mut(&(0, Cause::Timeout)) {
        *ended = ended.saturating_sub(whole);
    }
    let ns = Nanos::from_nanos;
    Some(Param::inferred(ns(quantile(&totals, 0.5)), [ns(quantile(&totals, 0.05)), ns(longest)]))
}
