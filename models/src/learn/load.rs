//! How busy each replica was when a request came, and from how many requests on they wait.
//!
//! You are here: `models::learn::load`. A server's span includes its time in the queue, so a busy service's spans say too much about
//! its work. Requests that arrived while fewer were in progress than there are workers did not wait: `own_time` learns from those.
//! Source: for c equal workers a request that meets n >= c others waits for n - c + 1 departures, each 1/c of a service time apart.

use std::collections::{BTreeMap, BinaryHeap};

use super::log::Log;
use super::rejections::{self, Full};
use crate::param::{Limit, Param, Source};
use crate::system::Mode;

/// What the load tells of one service.
#[derive(Debug)]
pub(crate) struct ServiceLoad {
    /// Per replica; inferred, declared by a person, or assumed.
    pub(crate) workers: Param<Limit>,
    /// What a replica holds when it refuses more; 0: it never did.
    pub(crate) holds: u32,
    /// Waiting places per replica; `None`: nothing shows.
    pub(crate) queue: Option<Param<Limit>>,
    /// Blocking unless the knee says otherwise.
    pub(crate) mode: Mode,
}

/// Load of every service, and which requests met a free worker.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) services: BTreeMap<u32, ServiceLoad>,
    /// `quiet[request]`: it found fewer requests in progress than workers (as far as known), so its own time holds no waiting.
    pub(crate) quiet: Vec<bool>,
    /// `rejected[request]`: it was refused at the door, because its replica was full.
    pub(crate) rejected: Vec<bool>,
}

/// Requests in progress on the same replica when one came, itself not counted.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    /// All that had not been answered.
    present: u32,
    /// Those before their first call: what an async service's workers are busy with.
    before_calls: u32,
}

/// Below this share of kept traces the requests in progress cannot be counted.
const LEAST_SHARE: f64 = 0.5;

/// Where more than one request in so many waited for a connection, waiting for a worker does not show.
const HIDDEN_FROM: usize = 50;

/// Looks at every service. `known_workers` are taken as given; requests that `waited` for a connection of their own service tell nothing
/// of its workers, nor of its work.
pub(crate) fn load(log: &Log, known_workers: &BTreeMap<String, u32>, waited: &[bool]) -> Load {
    let own_end: Vec<u64> =
        log.requests.iter().map(|r| log.calls_of(r).first().map_or(r.end, |c| c.start.clamp(r.start, r.end))).collect();
    let (levels, peaks) = levels(log, &own_end);
    let mut quiet = vec![true; log.requests.len()];
    let mut rejected = vec![false; log.requests.len()];
    let mut by_service: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (i, request) in log.requests.iter().enumerate() {
        by_service.entry(log.service_of(request.op)).or_default().push(i as u32);
    }
    let sampled = log.traces.iter().map(|t| 1.0 / t.weight).fold(1.0, f64::min) < LEAST_SHARE;
    let mut services = BTreeMap::new();
    for (&service, requests) in &by_service {
        let peak = requests.iter().map(|&r| peaks[log.requests[r as usize].instance as usize]).max().unwrap_or(1).max(1);
        let known = known_workers.get(log.service_name(service)).copied();
        // Those who did not wait for a connection are no fair sample: the busier it was, the longer they worked first.
        let hidden = requests.iter().filter(|&&r| waited[r as usize]).count() * HIDDEN_FROM > requests.len();
        let times = relative_own_times(log, requests, &own_end, waited);
        let fit_by = |level: fn(&Level) -> u32| fit(requests.iter().zip(&times).map(|(&r, &t)| (level(&levels[r as usize]), t)));
        let (present, before) =
            if sampled || hidden || known.is_some() { (None, None) } else { (fit_by(|l| l.present), fit_by(|l| l.before_calls)) };
        let calls = requests.iter().any(|&r| !log.requests[r as usize].calls.is_empty());
        let asynchronous = calls && before.as_ref().map_or(0.0, |k| k.gain) > 1.5 * present.as_ref().map_or(0.0, |k| k.gain);
        let knee = if asynchronous { before } else { present };
        let mode = if asynchronous { Mode::Async } else { Mode::Blocking };
        let (workers, knee) = match (known, knee) {
            (Some(known), _) => (Param::declared(Limit::Of(known)), Some(known)),
            (None, Some(knee)) => {
                (Param::inferred(Limit::Of(knee.workers), knee.range.map(Limit::Of)), Some(knee.range[0].min(knee.workers)))
            }
            (None, None) => (assumed_workers(peak), None),
        };
        if let Some(knee) = knee {
            mark_quiet(requests, &levels, knee, asynchronous, &mut quiet);
        }
        let level = |r: u32| if asynchronous { levels[r as usize].before_calls } else { levels[r as usize].present };
        let full = if sampled { None } else { rejections::find(log, requests, &level, &mut rejected) };
        let (workers, queue) = full.map_or((workers, None), |full| bounds(workers, full));
        services.insert(service, ServiceLoad { workers, holds: full.map_or(0, |full| full.holds), queue, mode });
    }
    quiet.iter_mut().zip(waited).for_each(|(quiet, waited)| *quiet &= !waited);
    Load { services, quiet, rejected }
}

/// Workers and waiting places, which together are what a full replica holds.
fn bounds(workers: Param<Limit>, full: Full) -> (Param<Limit>, Option<Param<Limit>>) {
    let Full { holds, range: [least, most] } = full;
    let number = |limit: Limit| if let Limit::Of(n) = limit { n } else { holds };
    let [low, high] = workers.range.unwrap_or([workers.value; 2]).map(|l| number(l).min(most));
    let value = number(workers.value).min(high);
    let workers = match workers.source {
        Source::Declared => workers,
        _ => Param { value: Limit::Of(value), range: Some([low.min(value), high].map(Limit::Of)), ..workers },
    };
    let queue = holds.saturating_sub(value);
    let range = [least.saturating_sub(high).min(queue), most.saturating_sub(low).max(queue)];
    (workers, Some(Param::inferred(Limit::Of(queue), range.map(Limit::Of))))
}

/// No queue was seen: at least as many workers as were ever busy, at most 16 times that (64 for little traffic); the value is the geometric middle.
fn assumed_workers(peak: u32) -> Param<Limit> {
    let (low, high) = (peak.max(1), peak.saturating_mul(16).max(64));
    let middle = libm::sqrt(f64::from(low) * f64::from(high)).round() as u32;
    Param::assumed(Limit::Of(middle), [Limit::Of(low), Limit::Of(high)])
}

/// Marks requests that certainly met a free worker. Requests in all count where they leave enough to learn from; else those before
/// their calls, if that is what holds this service's workers or nothing better is known.
fn mark_quiet(requests: &[u32], levels: &[Level], workers: u32, asynchronous: bool, quiet: &mut [bool]) {
    const ENOUGH: usize = 100;
    let free = |r: u32| levels[r as usize].present < workers;
    let enough = requests.iter().filter(|&&r| free(r)).count() >= ENOUGH.min(requests.len() / 10);
    for &r in requests {
        quiet[r as usize] = if asynchronous || !enough { levels[r as usize].before_calls < workers } else { free(r) };
    }
}

/// The level that each request met, and the highest number present on each replica.
fn levels(log: &Log, own_end: &[u64]) -> (Vec<Level>, Vec<u32>) {
    let mut order: Vec<u32> = (0..log.requests.len() as u32).collect();
    order.sort_by_key(|&r| (log.requests[r as usize].instance, log.requests[r as usize].start, r));
    let mut levels = vec![Level::default(); log.requests.len()];
    let mut peaks = vec![0; log.instances.len()];
    let (mut present, mut before) = (BinaryHeap::new(), BinaryHeap::new());
    let mut instance = u32::MAX;
    let leave = |heap: &mut BinaryHeap<std::cmp::Reverse<u64>>, now: u64| {
        while heap.peek().is_some_and(|end| end.0 <= now) {
            heap.pop();
        }
    };
    for r in order {
        let request = &log.requests[r as usize];
        if request.instance != instance {
            instance = request.instance;
            present.clear();
            before.clear();
        }
        leave(&mut present, request.start);
        leave(&mut before, request.start);
        levels[r as usize] = Level { present: present.len() as u32, before_calls: before.len() as u32 };
        present.push(std::cmp::Reverse(request.end));
        before.push(std::cmp::Reverse(own_end[r as usize]));
        let peak = &mut peaks[instance as usize];
        *peak = (*peak).max(present.len() as u32);
    }
    (levels, peaks)
}

/// Time before the first call in units of its operation's median, so that operations of one service can be pooled. Failed requests,
/// those that `waited`, and operations without such a time give 0, which `fit` leaves out.
fn relative_own_times(log: &Log, requests: &[u32], own_end: &[u64], waited: &[bool]) -> Vec<f64> {
    let time = |r: u32| own_end[r as usize] - log.requests[r as usize].start;
    let mut by_op: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for &r in requests {
        by_op.entry(log.requests[r as usize].op).or_default().push(time(r));
    }
    let medians: BTreeMap<u32, u64> = by_op.iter_mut().map(|(&op, times)| (op, super::numbers::median(times))).collect();
    let relative = |r: u32| {
        let request = &log.requests[r as usize];
        let median = medians[&request.op];
        if request.failed || median == 0 || waited[r as usize] { 0.0 } else { time(r) as f64 / median as f64 }
    };
    requests.iter().map(|&r| relative(r)).collect()
}

/// A number of workers that explains how own times rise with the level met.
#[derive(Debug)]
struct Knee {
    workers: u32,
    range: [u32; 2],
    /// By how much the knee explains the means better than no knee: a difference of chi-squares.
    gain: f64,
}

/// Fits mean own time over level n as s for n < c, s (1 + (n - c + 1) / c) from c on, for every c; `None` if a constant does as well.
/// Least squares weighted by the means' own variances. Levels with few requests are pooled with their neighbours above.
fn fit(samples: impl Iterator<Item = (u32, f64)>) -> Option<Knee> {
    const FEW: f64 = 12.0;
    const SURE: f64 = 30.0;
    const LEAST_RISE: f64 = 0.15;
    let mut sums: BTreeMap<u32, [f64; 3]> = BTreeMap::new();
    for (level, time) in samples.filter(|&(_, time)| time > 0.0) {
        let [n, sum, squares] = sums.entry(level).or_default();
        *n += 1.0;
        *sum += time;
        *squares += time * time;
    }
    // Points of (mean level, mean time, variance of the mean).
    let mut points: Vec<(f64, f64, f64)> = Vec::new();
    let mut pool = [0.0; 4];
    for (&level, [n, sum, squares]) in &sums {
        pool = [pool[0] + n, pool[1] + sum, pool[2] + squares, pool[3] + n * f64::from(level)];
        let [n, sum, squares, levels] = pool;
        if n >= FEW {
            let mean = sum / n;
            let variance = ((squares / n - mean * mean) * n / (n - 1.0)).max(1e-4 * mean * mean);
            points.push((levels / n, mean, variance / n));
            pool = [0.0; 4];
        }
    }
    if points.len() < 3 {
        return None;
    }
    let most = sums.keys().last().copied().unwrap_or(0);
    let score = |workers: Option<u32>| {
        let shape = |level: f64| workers.map_or(1.0, |c| 1.0 + ((level - f64::from(c) + 1.0) / f64::from(c)).max(0.0));
        let (above, below) = points.iter().fold((0.0, 0.0), |(a, b), &(level, mean, variance)| {
            (a + mean * shape(level) / variance, b + shape(level) * shape(level) / variance)
        });
        let scale = above / below;
        points
            .iter()
            .map(|&(level, mean, variance)| (mean - scale * shape(level)) * (mean - scale * shape(level)) / variance)
            .sum::<f64>()
    };
    let flat = score(None);
    let scores: Vec<(u32, f64)> = (1..=most.min(1024)).map(|c| (c, score(Some(c)))).collect();
    let &(workers, best) = scores.iter().min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)))?;
    let top = f64::from(most);
    let rise = (top - f64::from(workers) + 1.0) / f64::from(workers);
    let gain = flat - best;
    if gain < SURE || gain < 0.5 * flat || rise < LEAST_RISE {
        return None;
    }
    // What fits about as well, with the misfit of the best itself as the yardstick.
    let slack = 2.7 * (best / (points.len() as f64 - 2.0).max(1.0)).max(1.0);
    let near = scores.iter().filter(|(_, s)| *s <= best + slack).map(|(c, _)| *c);
    let (low, high) = near.fold((workers, workers), |(low, high), c| (low.min(c), high.max(c)));
    Some(Knee { workers, range: [low, high], gain })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sojourns of a first-come queue with `workers` workers, and the number present that each request met.
    fn queue(workers: usize, gap: u64, n: usize) -> Vec<(u32, f64)> {
        let mut state = 1_u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 11) as f64 + 1.0) / 9_007_199_254_740_993.0
        };
        let mut free = vec![0_u64; workers];
        let (mut now, mut ends, mut out) = (0_u64, Vec::<u64>::new(), Vec::new());
        for _ in 0..n {
            now += (-libm::log(draw()) * gap as f64) as u64;
            ends.retain(|&end| end > now);
            let work = (1e6 * (0.5 + draw())) as u64;
            let next = free.iter_mut().min().expect("there are workers");
            let end = now.max(*next) + work;
            *next = end;
            out.push((ends.len() as u32, (end - now) as f64 / 1e6));
            ends.push(end);
        }
        out
    }

    #[test]
    fn the_knee_is_where_waiting_begins() {
        for (workers, gap) in [(1, 1_600_000), (2, 800_000), (4, 320_000), (12, 95_000)] {
            let knee = fit(queue(workers, gap, 20_000).into_iter()).expect("a busy queue shows its knee");
            let [low, high] = knee.range;
            assert!(low <= workers as u32 + 1 && workers as u32 <= high + 1, "{workers} workers: {knee:?}");
        }
    }

    #[test]
    fn no_knee_is_seen_where_nobody_waits() {
        assert!(fit(queue(64, 95_000, 20_000).into_iter()).is_none());
        assert!(fit([(0, 1.0), (1, 2.0)].into_iter()).is_none(), "two requests tell nothing");
    }

    #[test]
    fn assumed_workers_are_at_least_those_seen() {
        let Param { value: Limit::Of(value), range: Some([low, high]), .. } = assumed_workers(5) else { panic!("no range") };
        assert_eq!((low, high), (Limit::Of(5), Limit::Of(80)));
        assert_eq!(value, 20);
    }
}
