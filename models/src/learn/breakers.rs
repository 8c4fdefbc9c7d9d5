//! Circuit breakers, from calls that failed before they were sent.
//!
//! You are here: `models::learn::breakers`, for `edges`. The signature: attempts without length that never reach their callee, in
//! stretches during which none does, each after attempts that failed. A stretch's length is how long the breaker stays open.
//! What opens it shows less well: the failed share among the attempts before is a guess with a wide range.

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

/// One attempt: start, end, and what became of it. In order of caller's replica and start.
pub(super) type Course = Vec<(u32, u64, u64, Tried)>;

/// Attempts that fail at once last at most this long.
pub(super) const AT_ONCE_NS: u64 = 100_000;
/// Unsent attempts that must be seen, and stretches of them.
const ENOUGH: usize = 10;
const ENOUGH_STRETCHES: usize = 2;
/// Attempts before a stretch that are looked at.
const BEFORE: usize = 20;

/// The breaker that the course of an edge's attempts shows.
pub(super) fn breaker(course: &mut Course) -> Option<Breaker> {
    if course.iter().filter(|a| a.3 == Tried::Unsent).count() < ENOUGH {
        return None;
    }
    course.sort_unstable();
    let (mut lengths, mut shares) = (Vec::new(), Vec::new());
    let mut i = 0;
    while i < course.len() {
        if course[i].3 != Tried::Unsent {
            i += 1;
            continue;
        }
        let end = (i..course.len()).find(|&j| course[j].3 != Tried::Unsent || course[j].0 != course[i].0).unwrap_or(course.len());
        let before = &course[i.saturating_sub(BEFORE)..i];
        let failed = before.iter().filter(|a| a.0 == course[i].0 && a.3 == Tried::Failed).count();
        // Opened by the failure that was noticed last, closed when the next attempt is let through.
        let opened =
            before.iter().filter(|a| a.0 == course[i].0 && a.3 == Tried::Failed).map(|a| a.2).filter(|&e| e <= course[i].1).max();
        if let (Some(opened), Some(next)) = (opened, course.get(end).filter(|next| next.0 == course[i].0)) {
            lengths.push(next.1 - opened);
            // After a stretch that was only probed, what came before is the stretch before.
            if before.iter().filter(|a| a.3 == Tried::Unsent).count() == 0 && !before.is_empty() {
                shares.push((1000 * failed / before.len()) as u64);
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
    let share = if shares.is_empty() { 0.5 } else { (quantile(&shares, 0.5) as f64 / 1000.0).clamp(0.05, 1.0) };
    Some(Breaker {
        trips: Trips::Share {
            window: BreakerWindow::Calls(Param::assumed(20, [10, 100])),
            min_calls: Param::assumed(10, [5, 20]),
            threshold: Param::inferred(share, [share * 0.6, (share * 1.3).min(1.0)]),
        },
        open,
        probes: Param::assumed(1, [1, 5]),
    })
}
