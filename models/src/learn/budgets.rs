//! Retry budgets: a token bucket that retries must pay from, per calling replica.
//!
//! You are here: `models::learn::budgets`, after `retries`. The signature: failures that are tried again at other times are not, and whenever
//! one is not, the retries so far, less the tokens earned so far, stand within one token of the same number: the bucket is empty. Retries
//! that are left out by a coin's toss, or for some operations only, drift away from any such line.
//! Always true: tokens per first try and per second are told apart only where traffic is uneven enough; else it is said which was taken.
//! In thinned traffic nobody can count, and nothing is said.

use super::edges::{Node, is_unsent};
use super::log::Log;
use super::numbers::{median, quantile};
use super::retries::cause;
use crate::param::Param;
use crate::system::{Budget, Edge, Retry};

/// Refused and granted retries that must be seen.
const ENOUGH_DENIED: usize = 50;
const ENOUGH_GRANTED: u64 = 10;
/// Refusals further apart than so many times their median distance are of two storms: the bucket may have been full in between.
const STORM_GAPS: u64 = 20;
/// Tokens by which nine in ten refusals may be off the line: one between the last retry and the next, and what in-flight tries blur.
const BAND: f64 = 0.75;

/// What a budget refused.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spent {
    pub(crate) budget: Budget,
    pub(crate) denied: u64,
    pub(crate) granted: u64,
}

/// One refusal: first tries, seconds and retries of its replica until then.
#[derive(Clone, Copy, Debug)]
struct Denial {
    at: u64,
    first: f64,
    seconds: f64,
    granted: f64,
}

/// What happens to the bucket of one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    First,
    Granted,
    Denied,
}

/// The budget of the retries from one service to another.
pub(crate) fn find(log: &Log, (from, to): (Node, Node), edge: &Edge, retry: &Retry) -> Option<Spent> {
    if log.traces.iter().any(|trace| trace.weight > 1.0) {
        return None;
    }
    let events = events(log, from, to, edge, retry);
    let (mut denials, mut granted): (Vec<Vec<Denial>>, u64) = (Vec::new(), 0);
    for of_replica in events.chunk_by(|a, b| a.0 == b.0) {
        denials.push(walk(of_replica, |_| ()));
        granted += of_replica.iter().filter(|event| event.2 == Event::Granted).count() as u64;
    }
    let denied = denials.iter().map(Vec::len).sum::<usize>();
    if denied < ENOUGH_DENIED || granted < ENOUGH_GRANTED {
        return None;
    }
    let storms = storms(&denials);
    let line = Line::through(&storms)?;
    let mut off: Vec<u64> = storms.iter().flat_map(|storm| line.off(storm)).map(|off| (off.abs() * 1e6) as u64).collect();
    off.sort_unstable();
    if quantile(&off, 0.9) as f64 > BAND * 1e6 {
        return None;
    }
    let (cap, cap_range) = cap(&events, &line);
    let range = |value: f64, half: f64| [(value - half).max(0.0), value + half];
    let budget = Budget {
        ratio: Param::inferred(line.per_first, range(line.per_first, line.off_first)),
        min_per_s: match line.told_apart {
            true => Param::inferred(line.per_second, range(line.per_second, line.off_second)),
            false => Param::assumed(line.per_second, range(line.per_second, line.off_second)),
        },
        cap: Param::inferred(cap, cap_range),
        initial: None,
    };
    Some(Spent { budget, denied: denied as u64, granted })
}

/// First tries, and what became of failures that the policy tries again, by replica and time.
fn events(log: &Log, from: Node, to: Node, edge: &Edge, retry: &Retry) -> Vec<(u32, u64, Event)> {
    let most = retry.attempts.value as usize;
    let longest_wait = retry.max.map_or(u64::MAX, |max| max.value.as_nanos()).min({
        let factor = libm::pow(retry.factor.value.max(1.0), most.saturating_sub(2) as f64);
        (retry.backoff.value.as_nanos() as f64 * factor) as u64
    });
    let in_time =
        |since: u64| edge.deadline.is_none_or(|deadline| since.saturating_add(longest_wait) < deadline.value.as_nanos());
    let mut events = Vec::new();
    for request in log.requests.iter().filter(|request| Node::Service(log.service_of(request.op)) == from) {
        for call in log.calls_of(request).iter().filter(|call| !call.hedged && Node::of(log, call.target) == to) {
            let attempts = log.attempts_of(call);
            let Some(first) = attempts.first() else { continue };
            if is_unsent(first) {
                continue; // a breaker's or a pool's doing
            }
            events.push((request.instance, first.start, Event::First));
            for (k, attempt) in attempts.iter().enumerate().filter(|(_, attempt)| attempt.failed && !attempt.cancelled) {
                let may = retry.on.is_empty() || retry.on.contains(&cause(attempt.failure));
                let what = match attempts.get(k + 1) {
                    Some(next) if is_unsent(next) => continue,
                    Some(_) => Event::Granted,
                    None if may && k + 1 < most && !is_unsent(attempt) && in_time(attempt.end - first.start) => Event::Denied,
                    None => continue,
                };
                events.push((request.instance, attempt.end, what));
            }
        }
    }
    events.sort_unstable();
    events
}

/// Goes through one replica's events; `see` is shown the counts after each.
fn walk(events: &[(u32, u64, Event)], mut see: impl FnMut(Denial)) -> Vec<Denial> {
    let begin = events.first().map_or(0, |event| event.1);
    let (mut first, mut granted, mut denials) = (0.0, 0.0, Vec::new());
    for &(_, at, event) in events {
        match event {
            Event::First => first += 1.0,
            Event::Granted => granted += 1.0,
            Event::Denied => {}
        }
        let now = Denial { at, first, seconds: (at - begin) as f64 / 1e9, granted };
        see(now);
        if event == Event::Denied {
            denials.push(now);
        }
    }
    denials
}

/// Refusals that follow on one another.
fn storms(denials: &[Vec<Denial>]) -> Vec<Vec<Denial>> {
    let gap = |pair: &[Denial]| pair[1].at - pair[0].at;
    let mut gaps: Vec<u64> = denials.iter().flat_map(|of_replica| of_replica.windows(2).map(gap)).collect();
    let longest = median(&mut gaps).max(1).saturating_mul(STORM_GAPS);
    let of_replica =
        |denials: &Vec<Denial>| denials.chunk_by(|a, b| b.at - a.at <= longest).map(<[Denial]>::to_vec).collect::<Vec<_>>();
    denials.iter().flat_map(of_replica).collect()
}

/// Retries as a straight line in first tries and seconds.
#[derive(Debug)]
struct Line {
    per_first: f64,
    per_second: f64,
    /// Half of 90 % intervals.
    off_first: f64,
    off_second: f64,
    /// Whether first tries and seconds do not simply rise together.
    told_apart: bool,
}

impl Line {
    /// Least squares within each storm; neither rate may be below 0.
    fn through(storms: &[Vec<Denial>]) -> Option<Line> {
        let (mut ff, mut ss, mut fs, mut fg, mut sg, mut n) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
        for storm in storms.iter().filter(|storm| storm.len() > 2) {
            let size = storm.len() as f64;
            let mean = |of: fn(&Denial) -> f64| storm.iter().map(of).sum::<f64>() / size;
            let (first, seconds, granted) = (mean(|d| d.first), mean(|d| d.seconds), mean(|d| d.granted));
            for d in storm {
                let (f, s, g) = (d.first - first, d.seconds - seconds, d.granted - granted);
                (ff, ss, fs, fg, sg) = (ff + f * f, ss + s * s, fs + f * s, fg + f * g, sg + s * g);
            }
            n += size - 1.0;
        }
        if n < ENOUGH_DENIED as f64 / 2.0 || ff <= 0.0 || ss <= 0.0 {
            return None;
        }
        // Points off the line by up to half a token to either side, and neighbours much alike: twice what independent ones would leave.
        let half = |information: f64| 2.0 * 1.645 * 0.3 / libm::sqrt(information);
        let (left_of_f, left_of_s) = (ff - fs * fs / ss, ss - fs * fs / ff);
        let alone_f = Line { per_first: fg / ff, per_second: 0.0, off_first: half(ff), off_second: 0.0, told_apart: false };
        let told_apart = left_of_f > 1e-9 * ff && half(left_of_f) < 0.25 * fg / ff;
        if !told_apart {
            return (alone_f.per_first > 0.0).then_some(alone_f);
        }
        let per_first = (fg - fs * sg / ss) / left_of_f;
        let per_second = (sg - fs * fg / ff) / left_of_s;
        let (off_first, off_second) = (half(left_of_f), half(left_of_s));
        if per_first <= 0.0 {
            let per_second = sg / ss;
            return Some(Line {
                per_first: 0.0,
                per_second,
                off_first: off_first.max(per_first + off_first),
                off_second,
                told_apart,
            });
        }
        if per_second <= off_second {
            let upper = per_second.max(0.0) + off_second;
            return Some(Line { off_first: off_first.max(alone_f.off_first), off_second: upper, told_apart, ..alone_f });
        }
        Some(Line { per_first, per_second, off_first, off_second, told_apart })
    }

    /// Tokens spent, less those earned.
    fn spent(&self, at: &Denial) -> f64 {
        at.granted - self.per_first * at.first - self.per_second * at.seconds
    }

    /// How far the refusals of one storm lie off.
    fn off(&self, storm: &[Denial]) -> Vec<f64> {
        let mut spent: Vec<f64> = storm.iter().map(|at| self.spent(at)).collect();
        let mean = spent.iter().sum::<f64>() / spent.len().max(1) as f64;
        spent.iter_mut().for_each(|spent| *spent -= mean);
        spent
    }
}

/// What the bucket holds: the most that was ever spent beyond what was earned, up to a refusal. If so much had been earned before, the
/// bucket was full then, and that is its size; else it may hold more.
fn cap(events: &[(u32, u64, Event)], line: &Line) -> (f64, [f64; 2]) {
    let (mut most, mut was_full) = (0.0_f64, false);
    for of_replica in events.chunk_by(|a, b| a.0 == b.0) {
        // `lowest`: least spent so far, when the bucket was fullest; `highest_before`: most spent before that.
        let (mut highest, mut lowest, mut highest_before) = (0.0_f64, 0.0_f64, 0.0_f64);
        let mut events = of_replica.iter();
        walk(of_replica, |at| {
            let spent = line.spent(&at);
            highest = highest.max(spent);
            if spent < lowest {
                (lowest, highest_before) = (spent, highest);
            }
            let is_denied = events.next().is_some_and(|event| event.2 == Event::Denied);
            if is_denied && spent - lowest > most {
                (most, was_full) = (spent - lowest, highest_before - lowest >= spent - lowest);
            }
        });
    }
    let cap = most.max(1.0);
    // A refusal may leave nearly a whole token; so much may the line be off too.
    (cap, [(cap - 1.0).max(1.0), if was_full { cap + 1.0 } else { 10.0 * cap + 10.0 }])
}
