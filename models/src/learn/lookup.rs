//! Cache-aside: a question to a cache, on a miss a call to the store behind it, then the answer put into the cache.
//!
//! You are here: `models::learn::lookup`. The hit ratio is what traces show; how many keys there are and how unevenly they are asked
//! for, they do not. So the popularity is assumed, and the number of keys solved for the hit ratio seen.
//! Source of the hit ratio of an LRU cache: Che, Tung, Wang, "Hierarchical Web caching systems", IEEE JSAC 20(7), 2002.

use std::collections::BTreeMap;

use super::log::{Log, Target};
use super::paths::{Item, Seen, Unawaited, Usual, items};
use crate::param::{Param, Source};
use crate::system::Cache;

/// A lookup of one operation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LookupSeen {
    pub(crate) cache: Target,
    pub(crate) origin: Target,
    pub(crate) fill: Option<Target>,
    /// Questions that the cache answered.
    pub(crate) asked: u64,
    /// Of these, followed by a call to the origin.
    pub(crate) missed: u64,
    /// Of these, followed by a call that stored the answer.
    pub(crate) filled: u64,
}

/// The lookups of every operation, and the calls that look like one to a service that nobody calls a cache.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    pub(crate) by_op: BTreeMap<u32, Vec<LookupSeen>>,
    pub(crate) undeclared: Vec<(u32, LookupSeen)>,
}

/// What follows questions of one operation to one target.
#[derive(Default)]
struct Tally {
    asked: u64,
    /// Per origin: misses, and per storing call how often.
    origins: BTreeMap<Target, (u64, BTreeMap<Target, u64>)>,
}

/// Questions below this number show no pattern.
const LEAST_ASKED: u64 = 10;

/// Finds lookups in the calls of every operation. `known` are services that are caches, by name.
pub(crate) fn find<'a>(log: &Log, unawaited: &Unawaited, is_known: impl Fn(&str) -> bool + 'a) -> Lookups {
    let mut tallies: BTreeMap<(u32, Target), Tally> = BTreeMap::new();
    let mut calls: BTreeMap<(u32, Target), u64> = BTreeMap::new();
    for request in log.requests.iter().filter(|r| !r.calls.is_empty()) {
        let failed = |target: Target| log.calls_of(request).iter().any(|c| c.target == target && c.failed);
        let seen = items(log, request, unawaited, &Usual::default());
        let single = |at: usize| match seen.get(at).map(|s| (&s.item, s.counts.as_slice())) {
            Some((Item::Call { target: target @ Target::Op(_), wait }, [1])) => Some((*target, *wait)),
            _ => None,
        };
        for at in 0..seen.len() {
            let Some((cache, true)) = single(at) else { continue };
            if stores(log, cache) {
                continue;
            }
            *calls.entry((request.op, cache)).or_default() += 1;
            if failed(cache) {
                continue;
            }
            let tally = tallies.entry((request.op, cache)).or_default();
            tally.asked += 1;
            let Some((origin, true)) = single(at + 1) else { continue };
            if same_service(log, origin, cache) {
                continue;
            }
            let (missed, fills) = tally.origins.entry(origin).or_default();
            *missed += 1;
            if let Some((fill, _)) = single(at + 2)
                && fill != cache
                && same_service(log, fill, cache)
            {
                *fills.entry(fill).or_default() += 1;
            }
        }
    }
    let mut lookups = Lookups::default();
    for ((op, cache), tally) in tallies {
        let Some((&origin, (missed, fills))) = tally.origins.iter().max_by_key(|(_, (n, _))| *n) else { continue };
        let (fill, filled) = fills.iter().max_by_key(|(_, n)| **n).map_or((None, 0), |(f, n)| (Some(*f), *n));
        let name = log.target_name(cache).to_lowercase();
        let named = is_known(log.target_name(cache)) || ["cache", "redis", "memcache", "valkey"].iter().any(|n| name.contains(n));
        // A store that is called without a question before it is not behind this cache.
        let alone = calls.get(&(op, origin)).copied().unwrap_or(0).saturating_sub(*missed);
        let sometimes = tally.asked >= LEAST_ASKED && *missed * 20 <= tally.asked * 19;
        if !sometimes || alone * 10 > *missed {
            continue;
        }
        let fills_mostly = 2 * filled >= *missed;
        let lookup =
            LookupSeen { cache, origin, fill: fill.filter(|_| fills_mostly), asked: tally.asked, missed: *missed, filled };
        if named {
            lookups.by_op.entry(op).or_default().push(lookup);
        } else if fills_mostly {
            lookups.undeclared.push((op, lookup));
        }
    }
    lookups
}

fn same_service(log: &Log, a: Target, b: Target) -> bool {
    matches!((a, b), (Target::Op(a), Target::Op(b)) if log.service_of(a) == log.service_of(b))
}

/// Whether an operation's name says that it writes: that is no question.
fn stores(log: &Log, target: Target) -> bool {
    const VERBS: [&str; 9] = ["set", "hset", "hmset", "mset", "put", "add", "del", "delete", "post"];
    let Target::Op(op) = target else { return true };
    let first = log.op_name(op).split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or("").to_ascii_lowercase();
    VERBS.contains(&first.as_str())
}

impl Lookups {
    /// Replaces the calls of a lookup by the lookup; what lay between them counts as time after it.
    pub(crate) fn merge(&self, op: u32, seen: Vec<Seen>) -> Vec<Seen> {
        let Some(lookups) = self.by_op.get(&op) else { return seen };
        let calls = |s: Option<&Seen>, to: Option<Target>| {
            to.is_some()
                && s.is_some_and(|s| matches!(s.item, Item::Call { target, .. } if Some(target) == to) && s.counts == [1])
        };
        let mut merged: Vec<Seen> = Vec::new();
        let mut rest = seen.into_iter().peekable();
        while let Some(mut s) = rest.next() {
            let found = lookups.iter().position(|l| calls(Some(&s), Some(l.cache)));
            if let Some(which) = found {
                s.item = Item::Lookup(which);
                if calls(rest.peek(), Some(lookups[which].origin)) {
                    let origin = rest.next();
                    s.end = s.end.max(origin.as_ref().map_or(0, |origin| origin.end));
                    s.beside += origin.map_or(0, |origin| origin.beside);
                    if calls(rest.peek(), lookups[which].fill) {
                        rest.next();
                    }
                }
            }
            merged.push(s);
        }
        merged
    }

    /// Hit ratio of the cache service: (hits, questions) over every operation that asks it.
    pub(crate) fn hits(&self, log: &Log, service: u32) -> (u64, u64) {
        let of = self.by_op.values().flatten().filter(|l| matches!(l.cache, Target::Op(op) if log.service_of(op) == service));
        of.fold((0, 0), |(hits, asked), l| (hits + l.asked - l.missed, asked + l.asked))
    }
}

/// A cache that shows the hit ratio seen. The popularity's exponent is assumed, its range as wide as keeps that ratio within
/// [`RATIO_KEPT`]: worlds draw numbers one by one, and a wider range would contradict the traces. Of capacity and number of keys one is
/// known or assumed, the other solved for.
pub(crate) fn cache(hits: u64, asked: u64, capacity: Option<u32>) -> Cache {
    let ratio = hits as f64 / asked.max(1) as f64;
    let solved = |value: u32| Param { value, source: Source::Inferred, range: None };
    let (capacity, keys) = match capacity {
        Some(known) => {
            (Param::declared(known), solved(bisect(known.max(1), MOST_KEYS, |keys| hit_ratio(known, keys, ZIPF) >= ratio)))
        }
        None => {
            let keys = Param { value: ASSUMED_KEYS, source: Source::Assumed, range: None };
            (solved(bisect(1, ASSUMED_KEYS, |capacity| hit_ratio(capacity, ASSUMED_KEYS, ZIPF) <= ratio)), keys)
        }
    };
    let off = |zipf: f64| (hit_ratio(capacity.value, keys.value, zipf) - ratio).abs() > RATIO_KEPT;
    let reach = |direction: f64| {
        (1..=30)
            .map(|i| ZIPF + direction * f64::from(i) / 100.0)
            .take_while(|&z| !off(z))
            .last()
            .unwrap_or(ZIPF + direction / 100.0)
    };
    Cache { capacity, keys, zipf: Param::assumed(ZIPF, [reach(-1.0), reach(1.0)]), ttl: None }
}

/// Exponent of key popularity where nothing is known.
const ZIPF: f64 = 1.0;
/// How far worlds may take the hit ratio from the one seen.
const RATIO_KEPT: f64 = 0.03;
/// Number of keys where not even the capacity is known.
const ASSUMED_KEYS: u32 = 10_000;
/// Most keys that are solved for: engines hold a table of them.
const MOST_KEYS: u32 = 1_000_000;

/// The largest number, to a thousandth, for which `holds`; it holds for `low`, and from some number on no more.
fn bisect(mut low: u32, mut high: u32, holds: impl Fn(u32) -> bool) -> u32 {
    while high - low > (low / 1000).max(1) {
        let middle = low + (high - low) / 2;
        if holds(middle) { low = middle } else { high = middle }
    }
    low
}

/// Hit ratio of an LRU cache under independent requests with Zipf popularity, by Che's approximation: the characteristic time t
/// solves sum(1 - exp(-p_i t)) = capacity, and h = sum p_i (1 - exp(-p_i t)). Ranks beyond 256 go in blocks of 2 %.
pub(crate) fn hit_ratio(capacity: u32, keys: u32, zipf: f64) -> f64 {
    if capacity >= keys {
        return 1.0;
    }
    let mut blocks: Vec<(f64, f64)> = Vec::new();
    let mut rank = 1_u64;
    while rank <= u64::from(keys) {
        let width = if rank <= 256 { 1 } else { (rank / 50).min(u64::from(keys) + 1 - rank) };
        let middle = rank as f64 + (width as f64 - 1.0) / 2.0;
        blocks.push((width as f64, libm::pow(middle, -zipf)));
        rank += width;
    }
    let total: f64 = blocks.iter().map(|(n, p)| n * p).sum();
    let held = |t: f64| blocks.iter().map(|(n, p)| n * (1.0 - libm::exp(-p / total * t))).sum::<f64>();
    let (mut low, mut high) = (0.0, 1.0);
    while held(high) < f64::from(capacity) && high < 1e18 {
        high *= 2.0;
    }
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if held(middle) < f64::from(capacity) { low = middle } else { high = middle }
    }
    blocks.iter().map(|(n, p)| n * p / total * (1.0 - libm::exp(-p / total * high))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hit ratio of a real LRU list under independent Zipf requests.
    fn simulated(capacity: usize, keys: usize, zipf: f64) -> f64 {
        let mut cumulative: Vec<f64> = Vec::new();
        for rank in 1..=keys {
            cumulative.push(cumulative.last().unwrap_or(&0.0) + libm::pow(rank as f64, -zipf));
        }
        let total = cumulative[keys - 1];
        let mut state = 7_u64;
        let mut lru: std::collections::VecDeque<usize> = (0..capacity).collect();
        let (mut hits, n) = (0, 60_000);
        for _ in 0..n {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let u = (state >> 11) as f64 / 9_007_199_254_740_992.0 * total;
            let key = cumulative.partition_point(|&c| c < u);
            if let Some(at) = lru.iter().position(|&k| k == key) {
                lru.remove(at);
                hits += 1;
            } else {
                lru.pop_back();
            }
            lru.push_front(key);
        }
        f64::from(hits) / f64::from(n)
    }

    #[test]
    fn the_approximation_is_within_a_point_of_a_real_lru() {
        for (capacity, keys, zipf) in [(100, 1_000, 1.0), (300, 1_000, 0.8), (70, 300, 1.1)] {
            let (formula, real) = (hit_ratio(capacity, keys, zipf), simulated(capacity as usize, keys as usize, zipf));
            assert!((formula - real).abs() < 0.01, "{capacity} of {keys}, zipf {zipf}: formula {formula}, real {real}");
        }
    }

    #[test]
    fn keys_are_solved_for_the_ratio_seen() {
        for (ratio, known) in
            [(0.5, Some(700)), (0.6, Some(700)), (0.874, Some(700)), (0.99, Some(700)), (0.2, None), (0.9, None)]
        {
            let cache = cache((ratio * 1e4) as u64, 10_000, known);
            let again = hit_ratio(cache.capacity.value, cache.keys.value, cache.zipf.value);
            assert!((again - ratio).abs() < 0.005, "wanted {ratio}, got {again}: {cache:?}");
            let [low, high] = cache.zipf.range.expect("assumed numbers have a range");
            assert!(low < 1.0 && high > 1.0);
        }
    }
}
