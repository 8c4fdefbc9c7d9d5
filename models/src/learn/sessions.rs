//! Closed loops: a fixed number of users, each of whom waits for an answer and then thinks.
//!
//! You are here: `models::learn::sessions`, for `workload`. Where requests say whose session they belong to, sessions are counted and the
//! times between an answer and the next request of its session are how users think: a closed loop, if sessions wait for their answers and are
//! long, for many short ones are as good as an open loop.
//!
//! Where they do not: of N users with n requests in progress
//! N - n think, so requests come at the rate (N - n) / think time. Users of an open loop come at the same rate whatever is in progress.
//! Arrivals and the time spent at each n therefore tell N by maximum likelihood; N without end is the open loop.
//! Always true: arrivals at regular times (a timer's) are no closed loop, however they avoid what is in progress. How users without sessions think is
//! not seen, only for how long on average. In thinned traffic nobody can count, and nothing is said.
//! Sources: the machine-repairman model (Kleinrock, Queueing Systems, vol. 1, section 3.8), its intensity as a likelihood; Schroeder, Wierman and
//! Harchol-Balter, Open versus closed: a cautionary tale (NSDI 2006), for how long sessions have to be.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::numbers;
use crate::dist::{Dist, Work};
use crate::param::{Param, Source};
use crate::system::ClosedLoop;
use crate::units::Nanos;

/// Requests that must be seen; and that are enough where they name their sessions.
const ENOUGH: usize = 300;
const ENOUGH_NAMED: usize = 100;
/// Twice the log likelihood ratio to the open loop: far beyond chance, for a closed loop changes everything that is foretold.
const SURE: f64 = 40.0;
/// Twice the log likelihood ratio of a 90 % interval of one number.
const NINETY: f64 = 2.71;
/// More users than this are as good as an open loop.
const MOST_USERS: u32 = 10_000;
/// Highest over lowest number of users that fit, beyond which they are not counted.
const WIDEST: f64 = 1.6;
/// Least variation of the times between arrivals, standard deviation over mean.
const LEAST_VARIATION: f64 = 0.6;
/// Share of the requests that must name their session.
const MOST: f64 = 0.95;
/// Requests of a session, on average, from which on sessions are a closed loop.
const LONG_SESSION: f64 = 10.0;
/// Share of a session's requests that may begin before the one before them has ended: its users do not wait.
const IMPATIENT: f64 = 0.05;
/// Parts of the recording that the number of sessions is counted in.
const PARTS: u64 = 8;

/// A request: start and end in nanoseconds, and the session that it names, or 0.
pub(super) type Asked = (u64, u64, u64);

/// The closed loop that requests without holes show, if they do.
pub(super) fn closed(requests: Vec<Asked>) -> Option<ClosedLoop> {
    let named = requests.iter().filter(|request| request.2 != 0).count();
    if named >= ENOUGH_NAMED && named as f64 >= MOST * requests.len() as f64 {
        of_sessions(&requests)
    } else {
        of_levels(requests.into_iter().map(|(start, end, _)| (start, end)).collect())
    }
}

/// The closed loop of sessions that are named.
fn of_sessions(requests: &[Asked]) -> Option<ClosedLoop> {
    let mut sessions: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for &(start, end, session) in requests.iter().filter(|request| request.2 != 0) {
        sessions.entry(session).or_default().push((start, end));
    }
    let (mut thinking, mut impatient, mut lives) = (Vec::new(), 0, Vec::new());
    for session in sessions.values_mut() {
        session.sort_unstable();
        for pair in session.windows(2) {
            match pair[1].0.checked_sub(pair[0].1) {
                Some(gap) => thinking.push(gap),
                None => impatient += 1,
            }
        }
        lives.push((session[0].0, session[session.len() - 1].1));
    }
    let pairs = thinking.len() + impatient;
    let each = requests.len() as f64 / sessions.len() as f64;
    if each < LONG_SESSION || impatient as f64 > IMPATIENT * pairs as f64 {
        return None;
    }
    // Who thinks at either end of the recording is there, too.
    let think = numbers::mean(&thinking) as u64;
    let [first, last] = [lives.iter().map(|life| life.0).min()?, lives.iter().map(|life| life.1).max()?];
    let there = |from: u64, to: u64| -> f64 {
        let in_part = |&(begin, end): &(u64, u64)| {
            let (begin, end) = (begin.saturating_sub(think).max(from), end.saturating_add(think).min(to));
            end.saturating_sub(begin)
        };
        lives.iter().map(in_part).sum::<u64>() as f64 / (to - from) as f64
    };
    let length = (last - first).checked_div(PARTS).filter(|&length| length > 0)?;
    let counts: Vec<f64> = (0..PARTS).map(|part| there(first + part * length, first + (part + 1) * length)).collect();
    let least = counts.iter().copied().fold(f64::INFINITY, f64::min).floor().max(1.0);
    let most = counts.iter().copied().fold(0.0, f64::max).ceil();
    let users = (counts.iter().sum::<f64>() / PARTS as f64).round().clamp(least, most);
    Some(ClosedLoop { users: Param::inferred(users as u32, [least as u32, most as u32]), think: numbers::work(&mut thinking) })
}

/// Arrivals and time by the number of requests in progress.
#[derive(Debug, Default)]
struct Levels {
    arrivals: Vec<f64>,
    seconds: Vec<f64>,
}

/// The closed loop that the numbers of requests (start, end) in progress show, if they do.
fn of_levels(mut requests: Vec<(u64, u64)>) -> Option<ClosedLoop> {
    if requests.len() < ENOUGH {
        return None;
    }
    requests.sort_unstable();
    if variation(&requests) < LEAST_VARIATION {
        return None;
    }
    let levels = Levels::of(&requests);
    // Nobody else can have asked: there are as many users as were ever in progress.
    let least = levels.arrivals.iter().rposition(|&arrivals| arrivals > 0.0)? as u32 + 1;
    let open = levels.open();
    let fit = |users: u32| 2.0 * (levels.closed(users) - open);
    if !(2..MOST_USERS).contains(&least) || levels.seconds.iter().sum::<f64>() <= 0.0 {
        return None;
    }
    let best = highest(&fit, least, MOST_USERS);
    if fit(best) < SURE {
        return None;
    }
    let enough = fit(best) - NINETY;
    let low = lowest_with(|users| fit(users) >= enough, least, best);
    let too_many = (f64::from(low) * WIDEST) as u32 + 1;
    if best >= too_many || fit(too_many) >= enough {
        return None;
    }
    let high = lowest_with(|users| fit(users) < enough, best, too_many) - 1;
    let think = |users: u32| levels.thinking(users) / levels.arrivals.iter().sum::<f64>();
    let range = [think(low) / think(best), think(high) / think(best)];
    Some(ClosedLoop {
        users: Param::inferred(best, [low, high]),
        think: Work {
            dist: Dist::Exponential(Nanos::from_secs_f64(think(best))),
            source: Source::Inferred,
            scale_range: Some([range[0] * 0.95, range[1] * 1.05]),
        },
    })
}

/// Standard deviation over mean of the times between arrivals.
fn variation(requests: &[(u64, u64)]) -> f64 {
    let gaps: Vec<f64> = requests.windows(2).map(|pair| (pair[1].0 - pair[0].0) as f64).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let variance = gaps.iter().map(|gap| (gap - mean) * (gap - mean)).sum::<f64>() / gaps.len() as f64;
    if mean > 0.0 { libm::sqrt(variance) / mean } else { 0.0 }
}

/// Where a function with one hill is highest.
fn highest(fit: &impl Fn(u32) -> f64, mut low: u32, mut high: u32) -> u32 {
    while low < high {
        let middle = low + (high - low) / 2;
        if fit(middle) < fit(middle + 1) { low = middle + 1 } else { high = middle }
    }
    low
}

/// The lowest number from `low` to `high` at which `holds`; it holds from there to `high`.
fn lowest_with(holds: impl Fn(u32) -> bool, mut low: u32, mut high: u32) -> u32 {
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

impl Levels {
    /// Counts; `requests` in order of start. The time before the first and after the last arrival is left out.
    fn of(requests: &[(u64, u64)]) -> Levels {
        let mut levels = Levels::default();
        let mut ends: BinaryHeap<Reverse<u64>> = BinaryHeap::new();
        let mut now = requests.first().map_or(0, |request| request.0);
        for &(start, end) in requests {
            while let Some(&Reverse(next)) = ends.peek()
                && next <= start
            {
                levels.stay(ends.len(), next - now.min(next));
                now = now.max(next);
                ends.pop();
            }
            levels.stay(ends.len(), start - now);
            levels.arrivals[ends.len()] += 1.0;
            now = start;
            ends.push(Reverse(end));
        }
        levels
    }

    fn stay(&mut self, level: usize, ns: u64) {
        if self.seconds.len() <= level {
            self.seconds.resize(level + 1, 0.0);
            self.arrivals.resize(level + 1, 0.0);
        }
        self.seconds[level] += ns as f64 / 1e9;
    }

    /// Seconds that `users` spent thinking, all together.
    fn thinking(&self, users: u32) -> f64 {
        (0..).zip(&self.seconds).map(|(level, seconds)| seconds * f64::from(users.saturating_sub(level))).sum()
    }

    /// Log likelihood of so many users with the think time that suits them best.
    fn closed(&self, users: u32) -> f64 {
        let n: f64 = self.arrivals.iter().sum();
        let thinking = self.thinking(users);
        let each = (0..).zip(&self.arrivals).filter(|(_, arrivals)| **arrivals > 0.0);
        let logs: f64 = each.map(|(level, arrivals)| arrivals * libm::log(f64::from(users.saturating_sub(level)))).sum();
        logs + n * libm::log(n / thinking) - n
    }

    /// Of users who know nothing of each other.
    fn open(&self) -> f64 {
        let n: f64 = self.arrivals.iter().sum();
        n * libm::log(n / self.seconds.iter().sum::<f64>()) - n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws from 0 to 1.
    fn draws(seed: u64) -> impl FnMut() -> f64 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 11) as f64 + 1.0) / 9_007_199_254_740_993.0
        }
    }

    /// `users` who think 200 ms and wait 100 ms, on average, for a minute.
    fn users(users: u32, seed: u64) -> Vec<(u64, u64)> {
        let mut draw = draws(seed);
        let mut requests = Vec::new();
        for _ in 0..users {
            let mut now = 0;
            while now < 60_000_000_000 {
                let start = now + (-libm::log(draw()) * 2e8) as u64;
                now = start + (-libm::log(draw()) * 1e8) as u64;
                requests.push((start, now));
            }
        }
        // (The recording ends while all of them go on: a tail in which one after the other leaves would be another system's.)
        requests.retain(|request| request.0 < 60_000_000_000);
        requests
    }

    #[test]
    fn a_fixed_number_of_users_is_counted() {
        for (n, seed) in [(4, 1), (12, 2), (12, 3), (40, 4)] {
            let closed = of_levels(users(n, seed)).unwrap_or_else(|| panic!("{n} users"));
            let [low, high] = closed.users.range.expect("a range");
            assert!(low <= n + n / 10 && n - n / 10 <= high, "{n}: {:?}", closed.users);
            let think = closed.think.dist.mean().as_millis_f64();
            assert!((think / 200.0 - 1.0).abs() < 0.25, "{think}");
        }
    }

    #[test]
    fn who_comes_whatever_is_in_progress_is_no_closed_loop() {
        for seed in 0..50 {
            let mut draw = draws(seed + 1);
            let mut now = 0;
            let requests = (0..5_000).map(|_| {
                now += (-libm::log(draw()) * 1e7) as u64;
                (now, now + (-libm::log(draw()) * 1e8) as u64)
            });
            assert_eq!(of_levels(requests.collect()), None, "{seed}");
        }
    }

    #[test]
    fn a_timer_is_no_closed_loop() {
        let requests = (0..5_000_u64).map(|i| (i * 10_000_000, i * 10_000_000 + 3_000_000 + i % 7 * 2_000_000));
        assert_eq!(of_levels(requests.collect()), None);
    }

    /// As [`users`], each of whom is a new session after so many requests.
    fn in_sessions(users: u32, requests: usize) -> Vec<Asked> {
        let mut draw = draws(9);
        let mut all = Vec::new();
        for user in 0..u64::from(users) {
            let mut now = 0;
            for n in 0.. {
                let start = now + (-libm::log(draw()) * 2e8) as u64;
                if start >= 60_000_000_000 {
                    break;
                }
                now = start + (-libm::log(draw()) * 1e8) as u64;
                all.push((start, now, (user << 32) | ((n / requests) as u64 + 1)));
            }
        }
        all
    }

    #[test]
    fn named_sessions_that_wait_and_are_long_are_counted() {
        for (n, each) in [(1, 1_000), (5, 1_000), (40, 1_000), (40, 30)] {
            let closed = closed(in_sessions(n, each)).unwrap_or_else(|| panic!("{n} users"));
            let [low, high] = closed.users.range.unwrap_or([closed.users.value; 2]);
            assert!(low <= n && n <= high && closed.users.value.abs_diff(n) <= n / 10, "{n}: {:?}", closed.users);
            let think = closed.think.dist.mean().as_millis_f64();
            assert!((think / 200.0 - 1.0).abs() < 0.15, "{think}");
        }
    }

    #[test]
    fn short_sessions_and_such_that_do_not_wait_are_an_open_loop() {
        assert_eq!(closed(in_sessions(40, 3)), None, "who asks three times and goes is replaced whatever happens");
        let impatient = in_sessions(40, 1_000).into_iter().map(|(start, end, session)| (start, end + 500_000_000, session));
        assert_eq!(closed(impatient.collect()), None);
    }
}
