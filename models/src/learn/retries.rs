//! What waits between attempts tell of a client's backoff, and which failures it tries again.
//!
//! You are here: `models::learn::retries`, for `edges`. A wait w is w (no jitter), uniform in 0..w (full), w/2..w (equal) or b..3b
//! (decorrelated, first wait): the kinds differ in how near to the longest wait the shortest one comes.
//! Source: AWS Architecture Blog, "Exponential Backoff And Jitter" (2015), for the kinds. The ends of a uniform distribution are
//! estimated by the extremes of n samples, moved out by 1/n of their distance; the interval holds 90 % by their order statistics: what
//! is missing at an end is more than x times that distance with probability (1 + x)^(1 - n).

use std::collections::BTreeMap;

use super::edges::EdgeSeen;
use super::numbers::quantile;
use crate::param::Param;
use crate::system::{Cause, Jitter, Retry};
use crate::trace::Failure;
use crate::units::Nanos;

/// Waits below this are none: it is what a client needs to notice and to send again.
const NO_WAIT_NS: u64 = 1_000_000;
/// Waits that vary by less than this part of themselves have no jitter.
const STEADY: u64 = 4;
/// Waits from which jitter can be told at all, and from which it can be told that there is none.
const ENOUGH: usize = 5;
const ENOUGH_STEADY: usize = 3;
/// Waits from which a kind of jitter other than full can be told.
const ENOUGH_EQUAL: usize = 12;
const ENOUGH_DECORRELATED: usize = 25;
/// Failures of a kind that must be seen before it is said that they are not tried again.
const ENOUGH_OF_A_KIND: u64 = 5;

/// Per number of the attempt and reason of its failure: how often another one followed, and how often none did.
pub(super) type Again = BTreeMap<(u32, Cause), (u64, u64)>;

/// Why an attempt failed, as a policy names it.
pub(super) fn cause(failure: Option<Failure>) -> Cause {
    match failure {
        Some(Failure::Timeout) => Cause::Timeout,
        Some(Failure::Overload) => Cause::Overload,
        Some(Failure::Connection) => Cause::Connection,
        Some(Failure::Other) | None => Cause::Error,
    }
}

/// The policy that an edge shows; `None` if nothing was tried again.
pub(super) fn policy(edge: &mut EdgeSeen) -> Option<Retry> {
    let most = |tries: &BTreeMap<u32, u64>| tries.keys().last().copied().unwrap_or(1);
    let (given_up, seen) = (most(&edge.tries_failed), most(&edge.tries_ok).max(most(&edge.tries_failed)));
    if seen < 2 {
        return None;
    }
    // Calls that were given up show the limit; without any, the most tries seen are a lower bound.
    let sure = given_up == seen && edge.tries_failed.get(&given_up).is_some_and(|&n| n >= 2);
    let attempts = Param::inferred(seen, if sure { [seen, seen] } else { [seen, seen + 2] });
    for waits in &mut edge.waits {
        waits.sort_unstable();
    }
    let first = edge.waits.first().map_or(&[][..], Vec::as_slice);
    let (jitter, backoff) = backoff(first);
    let level = |waits: &[u64]| match jitter {
        Jitter::None => quantile(waits, 0.5) as f64,
        _ => longest(waits).0,
    };
    let levels: Vec<f64> = edge.waits.iter().map(|waits| if waits.len() >= 3 { level(waits) } else { 0.0 }).collect();
    let (factor, max) = growth(&levels, &edge.waits, jitter, quantile(first, 0.5) >= NO_WAIT_NS);
    Some(Retry { attempts, backoff, factor, max, jitter, on: retried(&edge.again, seen), ..Retry::default() })
}

/// The kind of jitter and the wait before the second attempt, from sorted waits.
fn backoff(waits: &[u64]) -> (Jitter, Param<Nanos>) {
    let (low, middle, high) = (quantile(waits, 0.1), quantile(waits, 0.5), quantile(waits, 0.9));
    let inferred = |value: f64, [low, high]: [f64; 2]| {
        let ns = |v: f64| Nanos::from_nanos(v.round() as u64);
        Param::inferred(ns(value), [ns(low.min(value)), ns(high.max(value))])
    };
    let (shortest, longest_seen) = (waits.first().map_or(0.0, |&w| w as f64), waits.last().map_or(0.0, |&w| w as f64));
    // Few waits may all be small parts of a jittered one: each is below a share p of it with probability p.
    let few = waits.len() < ENOUGH;
    let most = if few { longest_seen * libm::pow(0.05, -1.0 / waits.len().max(1) as f64) } else { high as f64 };
    if middle < NO_WAIT_NS {
        return (Jitter::None, inferred(0.0, [0.0, most]));
    }
    if waits.len() >= ENOUGH_STEADY && high - low <= middle / STEADY {
        return (Jitter::None, inferred(middle as f64, [low as f64, high as f64]));
    }
    if few {
        return (Jitter::None, inferred(middle as f64, [shortest, most]));
    }
    let near = shortest / longest_seen;
    if waits.len() >= ENOUGH_EQUAL && near >= 0.47 {
        let (value, range) = longest(waits);
        return (Jitter::Equal, inferred(value, range));
    }
    if waits.len() >= ENOUGH_DECORRELATED && near >= 0.31 {
        // Uniform in b..3b: the length is twice the lower end.
        let (_, range) = longest(waits);
        let off = (longest_seen - shortest) / waits.len() as f64;
        let value = (shortest - off).max(1.0);
        return (Jitter::Decorrelated, inferred(value, [(range[0] / 3.0).min(value - 2.0 * off), shortest]));
    }
    let (value, range) = longest(waits);
    (Jitter::Full, inferred(value, range))
}

/// The upper end of the uniform distribution that sorted waits come from, with its interval.
fn longest(waits: &[u64]) -> (f64, [f64; 2]) {
    let (Some(&shortest), Some(&longest)) = (waits.first(), waits.last()) else { return (0.0, [0.0; 2]) };
    let n = waits.len() as f64;
    let length = (longest - shortest) as f64;
    let beyond = |chance: f64| longest as f64 + length * (libm::pow(chance, -1.0 / (n - 1.0).max(1.0)) - 1.0);
    (longest as f64 + length / n, [beyond(0.95), beyond(0.05)])
}

/// How waits grow from try to try, and where they stop growing.
fn growth(levels: &[f64], waits: &[Vec<u64>], jitter: Jitter, known: bool) -> (Param<f64>, Option<Param<Nanos>>) {
    let pair = |k: usize| levels.get(k).zip(levels.get(k + 1)).filter(|(a, b)| known && **a > 0.0 && **b > 0.0);
    let Some((first, second)) = pair(0).filter(|_| jitter != Jitter::Decorrelated) else {
        return (Param::assumed(2.0, [1.0, 3.0]), None);
    };
    let ratio = (second / first).max(1.0);
    // Ends of uniform distributions are known to 3 / n of their length, medians of steady waits nearly exactly.
    let unsure = |k: usize| match jitter {
        Jitter::None => 0.05,
        _ => 0.01 + 3.0 / waits[k].len() as f64,
    };
    let off = unsure(0) + unsure(1);
    let factor = Param::inferred(ratio, [(ratio * (1.0 - off)).max(1.0), ratio * (1.0 + off)]);
    // Few late waits may all be short by chance: that they stop growing takes a step that is too small beyond that.
    let grows = |k: usize| pair(k).map(|(a, b)| b / a * (1.0 + unsure(k) + unsure(k + 1)));
    let stops = (1..levels.len()).find(|&k| grows(k).is_some_and(|most| most < 1.0 + 0.5 * (ratio - 1.0)) && ratio > 1.3);
    let max = stops.map(|k| {
        let value = levels[k + 1];
        let off = 2.0 * unsure(k + 1);
        let ns = |v: f64| Nanos::from_nanos(v.round() as u64);
        Param::inferred(ns(value), [ns(value * (1.0 - off)), ns(value * (1.0 + off))])
    });
    (factor, max)
}

/// Which failures are tried again; empty: all that were seen, as far as is known.
fn retried(again: &Again, most: u32) -> Vec<Cause> {
    let mut by_cause: BTreeMap<Cause, (u64, u64)> = BTreeMap::new();
    for (&(_, cause), &(followed, ended)) in again.iter().filter(|((attempt, _), _)| attempt + 1 < most) {
        let sum = by_cause.entry(cause).or_default();
        *sum = (sum.0 + followed, sum.1 + ended);
    }
    let never = |&(followed, ended): &(u64, u64)| followed == 0 && ended >= ENOUGH_OF_A_KIND;
    if !by_cause.values().any(never) {
        return Vec::new();
    }
    // What was never seen to fail is taken to be tried again, as most clients do.
    let causes = [Cause::Error, Cause::Overload, Cause::Timeout, Cause::Connection];
    causes.into_iter().filter(|cause| !by_cause.get(cause).is_some_and(never)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{KeyStream, below};

    const BASE_NS: u64 = 20_000_000;

    /// A client that waits with full jitter below 20 ms, 40 ms, ...: `seen[k]` waits before the (k+2)th try.
    fn jittered(seen: &[usize], seed: u64) -> Retry {
        let mut draws = KeyStream::new(seed, 0);
        let mut draw = |bound: u64| below(draws.next_bits(), bound);
        let waits = seen.iter().enumerate().map(|(k, &n)| (0..n).map(|_| draw(BASE_NS << k)).collect()).collect();
        let tries_ok = BTreeMap::from([(seen.len() as u32 + 1, 1)]);
        policy(&mut EdgeSeen { waits, tries_ok, ..EdgeSeen::default() }).expect("it was tried again")
    }

    fn holds<T: PartialOrd + Copy>(param: &Param<T>, truth: T) -> bool {
        param.range.is_none_or(|[low, high]| low <= truth && truth <= high)
    }

    #[test]
    fn the_range_of_a_jittered_backoff_holds_it_however_few_waits_were_seen() {
        const CASES: u64 = 2_000;
        for n in [1, 2, 3, 4, 5, 8, 12, 25, 60, 400] {
            let held = (0..CASES).filter(|&seed| holds(&jittered(&[n], seed).backoff, Nanos::from_nanos(BASE_NS))).count();
            assert!(held as f64 >= 0.88 * CASES as f64, "{n} waits: held in {held} of {CASES}");
        }
    }

    #[test]
    fn few_late_waits_are_no_sign_that_a_backoff_stops_growing() {
        const CASES: u64 = 1_000;
        for seen in [&[40, 20, 10, 5][..], &[400, 100, 25, 6], &[6, 5, 4, 3], &[60, 60, 60, 60]] {
            let policies: Vec<Retry> = (0..CASES).map(|seed| jittered(seen, seed)).collect();
            let capped = policies.iter().filter(|retry| retry.max.is_some()).count();
            assert!(capped as f64 <= 0.02 * CASES as f64, "{seen:?}: {capped} of {CASES} are said to stop");
            let held = policies.iter().filter(|retry| holds(&retry.factor, 2.0)).count();
            assert!(held as f64 >= 0.88 * CASES as f64, "{seen:?}: the factor is held in {held} of {CASES}");
        }
    }
}
