//! Circuit breakers, from calls that failed before they were sent.
//!
//! You are here: `models::learn::breakers`, for `edges`. The signature: attempts without length that never reach their callee, in
//! stretches during which none does, each after attempts that failed. A stretch's length is how long the breaker stays open.
//! What opens it shows less well: a number of failures in a row where it is the same every time; else the failed share among the attempts
//! before, a guess with a wide range. How many attempts, or seconds, that share is of does not show, and is assumed.

use super::numbers::quantile;
use crate::param::Param;
use crate::system::{Breaker, BreakerWindow, Trips};
use crate::units::Nanos;

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tried {
    Good,
    Failed,
    /// Failed at once, without reaching its callee.
    Unsent,
}

/// One attempt as its caller made it. In order of caller's replica and start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sent {
    /// The caller's replica.
    pub(super) instance: u32,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) tried: Tried,
    /// The request that made it.
    pub(super) request: u32,
}

/// Every attempt over one edge.
pub(super) type Course = Vec<Sent>;

/// Attempts that fail at once last at most this long.
pub(super) const AT_ONCE_NS: u64 = 100_000;
/// Unsent attempts that must be seen, and stretches of them.
const ENOUGH: usize = 10;
const ENOUGH_STRETCHES: usize = 2;
/// Stretches whose failures before are counted.
const ENOUGH_RUNS: usize = 4;
/// Probes of most breakers, and what may be under way beside them.
const MOST_PROBES: u64 = 5;
/// Attempts before a stretch that are looked at.
const BEFORE: usize = 20;

/// The breaker that the course of an edge's attempts shows.
pub(super) fn breaker(course: &mut Course) -> Option<Breaker> {
    if course.iter().filter(|a| a.tried == Tried::Unsent).count() < ENOUGH {
        return None;
    }
    course.sort_unstable();
    let (mut lengths, mut shares) = (Vec::new(), Vec::new());
    let mut i = 0;
    while i < course.len() {
        let Sent { instance, start, tried, .. } = course[i];
        if tried != Tried::Unsent {
            i += 1;
            continue;
        }
        let goes_on = |a: &Sent| a.tried == Tried::Unsent && a.instance == instance;
        let end = (i..course.len()).find(|&j| !goes_on(&course[j])).unwrap_or(course.len());
        let before = &course[i.saturating_sub(BEFORE)..i];
        let failed = || before.iter().filter(|a| a.instance == instance && a.tried == Tried::Failed);
        // Opened by the failure that was noticed last, closed when the next attempt is let through.
        let opened = failed().map(|a| a.end).filter(|&e| e <= start).max();
        if let (Some(opened), Some(next)) = (opened, course.get(end).filter(|next| next.instance == instance)) {
            lengths.push(next.start - opened);
            // After a stretch that was only probed, what came before is the stretch before.
            if before.iter().all(|a| a.tried != Tried::Unsent) && !before.is_empty() {
                shares.push((1000 * failed().count() / before.len()) as u64);
            }
        }
        i = end;
    }
    if lengths.len() < ENOUGH_STRETCHES {
        return None;
    }
    lengths.sort_unstable();
    shares.sort_unstable();
    // The next attempt after the opening time comes a little later: the short ones are nearest.
    let ns = Nanos::from_nanos;
    let open = Param::inferred(ns(quantile(&lengths, 0.1)), [ns(lengths[0] / 10 * 9), ns(quantile(&lengths, 0.5))]);
    let trips = consecutive(course).unwrap_or_else(|| {
        let share = if shares.is_empty() { 0.5 } else { (quantile(&shares, 0.5) as f64 / 1000.0).clamp(0.05, 1.0) };
        Trips::Share {
            window: BreakerWindow::Calls(Param::assumed(20, [10, 100])),
            min_calls: Param::assumed(10, [5, 20]),
            threshold: Param::inferred(share, [share * 0.6, (share * 1.3).min(1.0)]),
        }
    });
    Some(Breaker { trips, open, probes: Param::assumed(1, [1, 5]) })
}

/// A breaker that counts failures in a row: stretches come after the same number of them, and runs of so many are not without their stretch;
/// but for a few, where answers to tries that were under way come in between. `None` too if it never saw a success in between, for then a
/// share of the calls would show the same.
fn consecutive(course: &Course) -> Option<Trips> {
    let (mut runs, mut without): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
    let mut told_apart = 0;
    for of_replica in course.chunk_by(|a, b| a.instance == b.instance) {
        // What is known when: attempts by their end, and before those the unsent ones that they open the breaker for.
        let mut heard: Vec<&Sent> = of_replica.iter().collect();
        heard.sort_by_key(|a| (a.end, a.tried));
        let (mut run, mut successes, mut since, mut open) = (0_u64, 0_u64, 0_u64, false);
        for attempt in heard {
            match attempt.tried {
                Tried::Unsent => {
                    // What opens it again soon after it let something through is a probe that failed, whatever the count.
                    if !open && since > MOST_PROBES {
                        runs.push(run);
                        told_apart += u64::from(successes > 0);
                    }
                    (run, successes, since, open) = (0, 0, 0, true);
                }
                // The first failure after a stretch is a probe's, or of a try that was under way when it opened.
                Tried::Failed if open => {}
                Tried::Failed => (run, since) = (run + 1, since + 1),
                Tried::Good => {
                    without.push(run);
                    (run, successes, since, open) = (0, successes + 1, since + 1, false);
                }
            }
        }
    }
    let of = |count: u64| runs.iter().filter(|&&run| run == count).count();
    let usual = runs.iter().copied().max_by_key(|&run| (of(run), run)).filter(|&run| run >= 2)?;
    let not_opened = without.iter().filter(|&&run| run >= usual).count();
    let nearly_always = of(usual) * 4 >= runs.len() * 3 && not_opened * 4 <= runs.len();
    let count = u32::try_from(usual).ok()?;
    (nearly_always && runs.len() >= ENOUGH_RUNS && told_apart * 2 >= runs.len() as u64)
        .then(|| Trips::Consecutive(Param::inferred(count, [count, count])))
}
