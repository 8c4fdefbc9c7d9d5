//! Call paths: what kinds of request an operation knows, from the shapes of its calls.
//!
//! You are here: `models::learn::paths`. A request's calls become items in order: one call (repeated calls collapse), calls side by
//! side, or a cache-aside lookup. Equal lists of items are one shape; rare shapes join the most similar frequent one.
//! Always true: weights add up to the requests seen. Failed requests count for the shapes they began, for a failure cuts them short;
//! times and counts come from the others.
//! Not here: how shapes become steps (`steps`), what a lookup is (`lookup`).

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use super::edges::{Edges, Node};
use super::log::{Attempt, Call, Log, Request, Target};
use super::lookup::Lookups;
use super::numbers::median;

/// One item of a shape.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Item {
    /// A call or message, once or several times one after the other.
    Call {
        /// What is called.
        target: Target,
        /// The caller waits.
        wait: bool,
    },
    /// Calls side by side: (target, how many at once).
    Fan(Vec<(Target, u32)>),
    /// A question to a cache and, on a miss, to its origin: an index into the operation's lookups.
    Lookup(usize),
}

/// An operation's shape and what its requests showed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    /// How many requests it stands for.
    pub(crate) weight: f64,
    /// Requests that have exactly this shape.
    pub(crate) requests: Vec<u32>,
    /// `counts[item][target]`: how often it was called, over `requests`.
    pub(crate) counts: Vec<Vec<BTreeMap<u32, u64>>>,
    /// `gaps[i]`: own time before item i, the last one after all; one value a request.
    pub(crate) gaps: Vec<Vec<u64>>,
}

/// The shapes of one operation, most frequent first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shapes {
    pub(crate) shapes: Vec<(Vec<Item>, Shape)>,
    /// Shapes seen in under 1 % of requests, with their counts and a few of the requests, before they were joined.
    pub(crate) rare: Vec<(Vec<Item>, u64, Vec<u32>)>,
    /// Requests that the shapes rest on.
    pub(crate) seen: u64,
}

/// Most shapes of an operation; the rest is joined to them.
const MOST_SHAPES: usize = 12;
/// A shape below this share is joined to another.
const LEAST_SHARE: f64 = 0.002;
/// Calls that come again later in a longer list than this are a loop: they fold into their first place.
const MOST_ITEMS: usize = 6;
/// Most calls side by side that stay branches of their own.
const MOST_BRANCHES: u32 = 16;
/// Requests that show a rare shape.
const FEW: usize = 3;
/// Two calls overlap if they do for longer than clocks are unsure of.
const OVERLAP_NS: u64 = 20_000;

/// Calls that their callers do not wait for: (operation, target).
pub(crate) type Unawaited = BTreeSet<(u32, Target)>;

/// What the way to a callee and back usually takes, by calling service and callee.
#[derive(Debug, Default)]
pub(crate) struct Usual(BTreeMap<(Node, Node), u64>);

impl Usual {
    /// From the network time that each edge showed.
    pub(crate) fn of(edges: &Edges) -> Usual {
        let known = edges.iter().filter(|(_, edge)| !edge.latencies.is_empty());
        Usual(known.map(|(&ends, edge)| (ends, 2 * median(&mut edge.latencies.clone()))).collect())
    }

    /// What a call's successful attempts took beyond that.
    fn beside(&self, log: &Log, request: &Request, call: &Call) -> i64 {
        let ends = (Node::Service(log.service_of(request.op)), Node::of(log, call.target));
        let Some(&usual) = self.0.get(&ends) else { return 0 };
        let both_seen = |attempt: &&Attempt| attempt.client && !attempt.failed && !attempt.cancelled;
        let of = |attempt: &Attempt| {
            let server = attempt.server.map(|s| log.requests[s as usize].duration())?;
            // A callee that outlives its caller's interest says nothing of the way.
            Some(attempt.duration().checked_sub(server)? as i64 - usual as i64)
        };
        log.attempts_of(call).iter().filter(both_seen).filter_map(of).sum()
    }
}

/// Finds calls that outlive their callers more often than not.
pub(crate) fn unawaited(log: &Log) -> Unawaited {
    let mut seen: BTreeMap<(u32, Target), (u64, u64)> = BTreeMap::new();
    for request in &log.requests {
        if request.end == request.start {
            continue;
        }
        let late = request.end + (request.duration() / 50).clamp(20_000, 1_000_000);
        for call in log.calls_of(request) {
            // A lone client span at a trace's root is as long as its request: it cannot outlive it.
            let (n, outlived) = seen.entry((request.op, call.target)).or_default();
            *n += 1;
            // (A call without length at the very end of its request did not outlive it.)
            *outlived += u64::from(call.end > late || call.start >= request.end && call.end > request.end);
        }
    }
    seen.into_iter().filter(|(_, (n, outlived))| 2 * outlived > *n).map(|(key, _)| key).collect()
}

/// Items of one request before it is known which are shapes.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) item: Item,
    pub(crate) counts: Vec<u32>,
    /// Own time before it.
    pub(crate) gap: u64,
    /// Time of its calls that neither the callee nor the usual way there and back explains (the caller's own, for a connection or a
    /// processor; less than usual is negative), and time between repetitions.
    pub(crate) beside: i64,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// A request's calls as items in order, repeated ones collapsed.
pub(crate) fn items(log: &Log, request: &Request, unawaited: &Unawaited, usual: &Usual) -> Vec<Seen> {
    let calls = log.calls_of(request);
    let mut items: Vec<Seen> = Vec::new();
    let mut i = 0;
    while i < calls.len() {
        let wait = !unawaited.contains(&(request.op, calls[i].target));
        let mut end = if wait { calls[i].end } else { calls[i].start };
        let mut n = 1;
        while wait
            && i + n < calls.len()
            && calls[i + n].start + OVERLAP_NS < end
            && !unawaited.contains(&(request.op, calls[i + n].target))
        {
            end = end.max(calls[i + n].end);
            n += 1;
        }
        let (item, counts) = if n == 1 { (Item::Call { target: calls[i].target, wait }, vec![1]) } else { fan(&calls[i..i + n]) };
        let start = calls[i].start;
        // (Of calls side by side the longest decides, and which one that is says little about the others.)
        let beside = if n == 1 && wait { usual.beside(log, request, &calls[i]) } else { 0 };
        match items.last_mut() {
            Some(last) if last.item == item && matches!(item, Item::Call { .. }) => {
                last.counts[0] += 1;
                // A model has no work between repetitions: it counts as work before them.
                last.beside += beside + start.saturating_sub(last.end) as i64;
                last.end = last.end.max(end);
            }
            _ => items.push(Seen { item, counts, gap: 0, beside, start, end }),
        }
        i += n;
    }
    items
}

/// Calls side by side: how many of each target at once, and in all.
fn fan(calls: &[Call]) -> (Item, Vec<u32>) {
    let mut by_target: BTreeMap<Target, Vec<&Call>> = BTreeMap::new();
    for call in calls {
        by_target.entry(call.target).or_default().push(call);
    }
    let at_once = |calls: &[&Call]| {
        let mut ends: Vec<u64> = Vec::new();
        let mut most = 0;
        for call in calls {
            ends.retain(|&end| end > call.start + OVERLAP_NS);
            ends.push(call.end);
            most = most.max(ends.len() as u32);
        }
        most.clamp(1, MOST_BRANCHES)
    };
    let branches: Vec<(Target, u32)> = by_target.iter().map(|(&target, calls)| (target, at_once(calls))).collect();
    // Calls of one target that merely touch are a sequence after all.
    if let [(target, 1)] = branches[..] {
        return (Item::Call { target, wait: true }, vec![calls.len() as u32]);
    }
    (Item::Fan(branches), by_target.values().map(|calls| calls.len() as u32).collect())
}

/// The shapes of the requests of one operation.
///
/// `rejected[request]`: turned away at the door.
pub(crate) fn shapes(
    log: &Log,
    requests: &[u32],
    unawaited: &Unawaited,
    lookups: &Lookups,
    rejected: &[bool],
    usual: &Usual,
) -> Shapes {
    let mut whole: IndexMap<Vec<Item>, Shape> = IndexMap::new();
    let mut cut: BTreeMap<Vec<Item>, u64> = BTreeMap::new();
    for &r in requests {
        let request = &log.requests[r as usize];
        let mut seen = lookups.merge(request.op, items(log, request, unawaited, usual));
        let last_gap = measure_gaps(request, &mut seen);
        fold(&mut seen);
        let key: Vec<Item> = seen.iter().map(|s| s.item.clone()).collect();
        if request.failed {
            // Whether by a call's failure or by its own, it may have ended before its path did; and refused requests have none.
            if !rejected[r as usize] {
                *cut.entry(key).or_default() += 1;
            }
            continue;
        }
        let shape = whole.entry(key).or_default();
        shape.add(r, &seen, last_gap);
    }
    if whole.is_empty() {
        // Nothing but failures: then these are what is known of the paths.
        for &r in requests {
            let request = &log.requests[r as usize];
            let mut seen = lookups.merge(request.op, items(log, request, unawaited, usual));
            let last_gap = measure_gaps(request, &mut seen);
            fold(&mut seen);
            whole.entry(seen.iter().map(|s| s.item.clone()).collect()).or_default().add(r, &seen, last_gap);
        }
        cut.clear();
    }
    let total: u64 = whole.values().map(|s| s.requests.len() as u64).sum::<u64>() + cut.values().sum::<u64>();
    let mut sorted: Vec<(Vec<Item>, Shape)> = whole.into_iter().collect();
    sorted.sort_by(|a, b| b.1.requests.len().cmp(&a.1.requests.len()).then_with(|| a.0.cmp(&b.0)));
    let share = |shape: &Shape| shape.requests.len() as f64 / total.max(1) as f64;
    let rare = sorted
        .iter()
        .filter(|(_, s)| total >= 100 && share(s) < 0.01)
        .map(|(k, s)| (k.clone(), s.requests.len() as u64, s.requests.iter().take(FEW).copied().collect()));
    let rare = rare.collect();
    let keep = sorted.iter().take(MOST_SHAPES).filter(|(_, s)| share(s) >= LEAST_SHARE).count().max(1);
    let joined = sorted.split_off(keep.min(sorted.len()));
    for (key, shape) in joined {
        let nearest = (0..sorted.len()).min_by_key(|&i| distance(&sorted[i].0, &key)).unwrap_or(0);
        sorted[nearest].1.weight += shape.weight;
    }
    for (key, n) in cut {
        share_out(&mut sorted, &key, n as f64);
    }
    Shapes { shapes: sorted, rare, seen: total }
}

impl Shape {
    fn add(&mut self, request: u32, seen: &[Seen], last_gap: u64) {
        self.counts.resize(seen.len(), Vec::new());
        self.gaps.resize(seen.len() + 1, Vec::new());
        for (i, s) in seen.iter().enumerate() {
            self.counts[i].resize(s.counts.len(), BTreeMap::new());
            for (j, &n) in s.counts.iter().enumerate() {
                *self.counts[i][j].entry(n).or_default() += 1;
            }
            self.gaps[i].push(s.gap);
        }
        self.gaps[seen.len()].push(last_gap);
        self.requests.push(request);
        self.weight += 1.0;
    }
}

/// Own time before each item; returns the time after the last. The items' own extents are what the request waited.
fn measure_gaps(request: &Request, seen: &mut [Seen]) -> u64 {
    let mut now = request.start;
    for s in seen {
        let start = s.start.clamp(request.start, request.end);
        s.gap = start.saturating_sub(now).saturating_add_signed(s.beside);
        now = now.max(start).max(s.end.min(request.end));
    }
    request.end.saturating_sub(now)
}

/// In a long list, what comes again is a loop: it folds into its first place, its own time goes to the front.
fn fold(seen: &mut Vec<Seen>) {
    if seen.len() <= MOST_ITEMS {
        return;
    }
    let mut kept: IndexMap<Item, Seen> = IndexMap::new();
    let mut moved = 0;
    for s in seen.drain(..) {
        if let Some(first) = kept.get_mut(&s.item) {
            first.counts.iter_mut().zip(&s.counts).for_each(|(a, b)| *a += b);
            moved += s.gap;
        } else {
            kept.insert(s.item.clone(), s);
        }
    }
    seen.extend(kept.into_values());
    if let Some(first) = seen.first_mut() {
        first.gap += moved;
    }
}

/// How unlike two shapes are: calls that one has and the other has not.
fn distance(a: &[Item], b: &[Item]) -> usize {
    let missing = |from: &[Item], of: &[Item]| {
        let mut left: Vec<&Item> = of.iter().collect();
        from.iter().filter(|item| left.iter().position(|l| l == item).map(|at| left.swap_remove(at)).is_none()).count()
    };
    missing(a, b) + missing(b, a)
}

/// Gives the weight of requests that a failure cut short to the shapes that begin like them, in proportion; else to the most similar.
fn share_out(shapes: &mut [(Vec<Item>, Shape)], begun: &[Item], weight: f64) {
    let total: f64 = shapes.iter().filter(|(key, _)| key.starts_with(begun)).map(|(_, s)| s.weight).sum();
    if total > 0.0 {
        shapes.iter_mut().filter(|(key, _)| key.starts_with(begun)).for_each(|(_, s)| s.weight += weight * s.weight / total);
    } else if let Some((_, shape)) = shapes.iter_mut().min_by_key(|(key, _)| distance(key, begun)) {
        shape.weight += weight;
    }
}
