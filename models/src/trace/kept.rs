//! The spans that are held, however many are read: all of them, or whole traces chosen by their ids.
//!
//! You are here: `models::trace::kept`. Format readers push into it through `inbox`; `assemble` takes what is in it at the end.
//! Always true: what is kept depends on the set of spans alone, not on their order, on files, chunks or threads; no more than the
//! limit is held, give or take a quarter of it on the way; every span is counted, kept or not.
//!
//! Every trace has a rank: a fixed mix of the lower half of its id (the half that the short form of an id shares with the long one).
//! Traces are kept in order of rank until the limit is reached, so the kept ones are a random sample of whole traces. Names count too:
//! most spans share theirs, but where names hold ids (of jobs, of customers) each is one more thing to hold, and beyond a free number each
//! takes the place of a span. A trace that is longer than [`Limits::trace_spans`](super::Limits::trace_spans) keeps the spans that begin first: parents begin before children.
//! Source: bottom-k sampling (Cohen and Kaplan, Summarizing data using bottom-k sketches, PODC 2007).

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::canonical::Merged;
use super::names::Names;
use super::{Limits, Span, Trace};

/// Parts that spans are kept in, by the low bits of their trace's rank: what can be worked on side by side.
const SHARDS: usize = 64;
/// A span costs 1, and more where it carries long texts or many links: one unit for each so many bytes.
const UNIT_BYTES: usize = 192;
/// Texts up to this length are free: most are shared.
const FREE_TEXT: usize = 64;
/// Units that a part may always hold.
const LEAST_OF_PART: u64 = 65_536;
/// Most services that are told apart when spans are counted.
const MOST_SERVICES: usize = 65_536;
/// Distinct names that are free: one for so many units of the limit.
const UNITS_OF_FREE_NAME: u64 = 8;

/// How much was read, and which share of it was kept, where that is not all.
#[derive(Clone, Debug, PartialEq)]
pub struct Thinning {
    /// Spans read.
    pub read: u64,
    /// Spans kept.
    pub kept: u64,
    /// The chance that a trace had of being kept.
    pub share: f64,
    /// Traces of which only the spans that began first were kept, and how many of their spans were not.
    pub cut_traces: u64,
    /// Spans that these traces lost.
    pub cut_spans: u64,
    /// Root spans by service: those of kept traces, and all.
    pub roots: BTreeMap<Arc<str>, [u64; 2]>,
}

impl Thinning {
    /// Gives services other names; those that become one add up.
    pub(crate) fn rename(&mut self, merged: &[Merged]) {
        for Merged { into, from, .. } in merged {
            if let Some([kept, all]) = self.roots.remove(from.as_str()) {
                let sum = self.roots.entry(into.as_str().into()).or_default();
                *sum = [sum[0] + kept, sum[1] + all];
            }
        }
    }

    /// How many traces a kept one stands for: exactly, among the traces that begin in the same service.
    pub fn weight(&self, trace: &Trace) -> f64 {
        let root = trace.spans.iter().find(|span| span.parent_id.is_none());
        match root.and_then(|root| self.roots.get(&root.service)) {
            Some(&[kept, all]) if kept > 0 => all as f64 / kept as f64,
            _ => 1.0 / self.share,
        }
    }
}

/// The spans of many inputs, at most so many.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The limit, in units.
    most: u64,
    /// The limit of a part.
    most_of_part: u64,
    /// The limit for one trace.
    most_of_trace: u64,
    /// Traces of this rank and below are kept.
    last: u64,
    shards: Vec<Vec<Span>>,
    /// What the kept spans cost.
    units: u64,
    /// Names that kept spans hold beside the shared ones, at most; and all names when they were last looked at.
    own_names: u64,
    looked_at_names: u64,
    /// Traces that are longer than their limit, by rank, and how many of their spans were left out.
    cut: BTreeMap<u64, u64>,
    read: u64,
    roots: BTreeMap<Arc<str>, u64>,
}

impl Default for Kept {
    fn default() -> Self {
        Kept::new(&Limits::default())
    }
}

impl Kept {
    /// Nothing yet.
    pub(crate) fn new(limits: &Limits) -> Self {
        let most = limits.kept_spans.max(1) as u64;
        Kept {
            most,
            most_of_part: most.min((most / 4).max(LEAST_OF_PART)),
            most_of_trace: (limits.trace_spans.max(1) as u64).min(most),
            last: u64::MAX,
            shards: (0..SHARDS).map(|_| Vec::new()).collect(),
            units: 0,
            own_names: 0,
            looked_at_names: 0,
            cut: BTreeMap::new(),
            read: 0,
            roots: BTreeMap::new(),
        }
    }

    /// For a part of the same input that is read beside others: what is known to be left out is left out there already. A part that
    /// alone makes a quarter of the limit is thinned by itself.
    pub(crate) fn part(&self) -> Self {
        Kept {
            most: self.most_of_part,
            most_of_part: self.most_of_part,
            most_of_trace: self.most_of_trace.min(self.most_of_part),
            last: self.last,
            shards: (0..SHARDS).map(|_| Vec::new()).collect(),
            units: 0,
            own_names: 0,
            looked_at_names: 0,
            cut: BTreeMap::new(),
            read: 0,
            roots: BTreeMap::new(),
        }
    }

    /// Whether spans of this trace are still kept.
    pub(crate) fn keeps(&self, trace_id: u128) -> bool {
        rank(trace_id) <= self.last
    }

    /// Counts a span, kept or not.
    pub(crate) fn count(&mut self, service: &Arc<str>, is_root: bool) {
        self.read += 1;
        if is_root {
            self.count_roots(service, 1);
        }
    }

    fn count_roots(&mut self, service: &Arc<str>, more: u64) {
        if let Some(count) = self.roots.get_mut(service) {
            *count += more;
        } else if self.roots.len() < MOST_SERVICES {
            self.roots.insert(service.clone(), more);
        }
    }

    /// Takes a span.
    pub(crate) fn push(&mut self, span: Span) {
        self.count(&span.service, span.parent_id.is_none());
        self.hold(span);
        self.trim_if_full();
    }

    fn hold(&mut self, span: Span) {
        let rank = rank(span.trace_id);
        if rank <= self.last {
            self.units += cost(&span);
            self.shards[rank as usize % SHARDS].push(span);
        }
    }

    /// Takes all of a part of this input, whose texts come from `its_names`. Where these are many for its spans, their copies in `names` are taken.
    pub(crate) fn absorb(&mut self, part: Kept, input: u32, its_names: &Names, names: &mut Names) {
        self.read += part.read;
        for (service, &count) in &part.roots {
            let service = names.get(service);
            self.count_roots(&service, count);
        }
        for (rank, left_out) in part.cut {
            *self.cut.entry(rank).or_default() += left_out;
        }
        self.last = self.last.min(part.last);
        let spans: usize = part.shards.iter().map(Vec::len).sum();
        let copy_names = its_names.len() * 8 > spans;
        for mut span in part.shards.into_iter().flatten() {
            if !self.keeps(span.trace_id) {
                continue;
            }
            span.input = input;
            if copy_names {
                for name in [&mut span.service, &mut span.instance, &mut span.operation] {
                    *name = names.get(name);
                }
                for name in [&mut span.peer, &mut span.destination].into_iter().flatten() {
                    *name = names.get(name);
                }
            }
            self.hold(span);
        }
        if !copy_names {
            self.own_names += its_names.len() as u64;
        }
        if self.trim_if_full() {
            names.forget_unused();
        }
        self.trim_names(names);
    }

    fn trim_if_full(&mut self) -> bool {
        let full = self.units > self.most.saturating_add(self.most / 4);
        if full {
            self.trim(self.own_names > self.free_names());
        }
        full
    }

    /// Distinct names that cost nothing.
    fn free_names(&self) -> u64 {
        self.most / UNITS_OF_FREE_NAME
    }

    /// Leaves out what is beyond the limits, if there are many more names than when they were last looked at.
    pub(crate) fn trim_names(&mut self, names: &mut Names) {
        let all = |kept: &Kept, names: &Names| kept.own_names + names.len() as u64;
        if all(self, names) > self.looked_at_names.max(self.free_names()) + self.most / 4 {
            self.trim(true);
            names.forget_unused();
            self.looked_at_names = all(self, names);
        }
    }

    /// The first trace by rank that holds each distinct name, in order of rank.
    fn first_holders(&self) -> Vec<u64> {
        let holders = |shard: &Vec<Span>| {
            let named = shard.iter().flat_map(|span| texts(span).map(|text| (hash(text), rank(span.trace_id))));
            let mut holders: Vec<(u64, u64)> = named.collect();
            holders.sort_unstable();
            holders.dedup_by_key(|holder| holder.0);
            holders
        };
        let mut all: Vec<(u64, u64)> = self.shards.par_iter().flat_map_iter(holders).collect();
        all.par_sort_unstable();
        all.dedup_by_key(|holder| holder.0);
        let mut ranks: Vec<u64> = all.into_iter().map(|(_, rank)| rank).collect();
        ranks.par_sort_unstable();
        ranks
    }

    /// Leaves out what is beyond the limits. `many_names`: there may be more distinct ones than are free.
    fn trim(&mut self, many_names: bool) {
        self.cut_long_traces();
        let holders = if many_names { self.first_holders() } else { Vec::new() };
        let free = self.free_names();
        if self.units + (holders.len() as u64).saturating_sub(free) > self.most {
            // What each trace costs, in order of rank.
            let mut costs: Vec<(u64, u64)> = self
                .shards
                .par_iter()
                .flat_map_iter(|shard| sums(shard).into_iter().map(|(rank, units, _)| (rank, units)))
                .collect();
            costs.par_sort_unstable();
            // A trace that was cut once counts as one of full length, whatever it has at the moment: else the order would matter.
            let (mut units, mut names) = (0, 0);
            let first_out = costs.iter().position(|&(rank, cost)| {
                units += if self.cut.contains_key(&rank) { self.most_of_trace } else { cost };
                names += holders[names..].iter().take_while(|&&holder| holder <= rank).count();
                units + (names as u64).saturating_sub(free) > self.most
            });
            if let Some(first_out) = first_out {
                self.last = costs[first_out].0.saturating_sub(1);
            }
        }
        self.leave_out();
        if many_names {
            self.own_names = holders.iter().filter(|&&holder| holder <= self.last).count() as u64;
        }
    }

    /// Drops all spans whose trace's rank is too high, and counts anew.
    fn leave_out(&mut self) {
        let last = self.last;
        self.units = self
            .shards
            .par_iter_mut()
            .map(|shard| {
                shard.retain(|span| rank(span.trace_id) <= last);
                shard.iter().map(cost).sum::<u64>()
            })
            .sum();
        self.cut.retain(|&rank, _| rank <= last);
    }

    /// Of traces that cost more than one trace may, keeps the spans that begin first.
    fn cut_long_traces(&mut self) {
        let most = self.most_of_trace;
        let cut: Vec<(u64, u64)> = self
            .shards
            .par_iter_mut()
            .flat_map_iter(|shard| {
                let long = sums(shard).into_iter().filter(|&(_, units, _)| units > most).map(|(rank, ..)| rank);
                long.collect::<Vec<_>>().into_iter().map(|rank| (rank, cut_trace(shard, rank, most)))
            })
            .collect();
        for (rank, left_out) in cut {
            *self.cut.entry(rank).or_default() += left_out;
        }
    }

    /// The kept spans, those of one trace in one part; and what was left out, if anything was. `names`: all that are known.
    pub(crate) fn finish(mut self, names: &Names) -> (Vec<Vec<Span>>, Option<Thinning>) {
        let many_names = self.own_names + names.len() as u64 > self.free_names();
        if self.units > self.most || self.units > self.most_of_trace || many_names {
            self.trim(many_names);
        }
        // A part may have lowered the threshold after others had been taken in.
        self.leave_out();
        let kept: u64 = self.shards.iter().map(|shard| shard.len() as u64).sum();
        let thinning = (kept < self.read).then(|| {
            let mut roots: BTreeMap<Arc<str>, [u64; 2]> =
                self.roots.iter().map(|(service, &all)| (service.clone(), [0, all])).collect();
            for span in self.shards.iter().flatten().filter(|span| span.parent_id.is_none()) {
                if let Some([kept, _]) = roots.get_mut(&span.service) {
                    *kept += 1;
                }
            }
            Thinning {
                read: self.read,
                kept,
                share: (self.last as f64 + 1.0) / 18_446_744_073_709_551_616.0,
                cut_traces: self.cut.len() as u64,
                cut_spans: self.cut.values().sum(),
                roots,
            }
        });
        (self.shards, thinning)
    }
}

/// Cuts the trace of this rank to the spans that begin first and cost `most` together; says how many it lost.
fn cut_trace(shard: &mut Vec<Span>, cut: u64, most: u64) -> u64 {
    let (mut of_trace, others): (Vec<Span>, Vec<Span>) =
        std::mem::take(shard).into_iter().partition(|span| rank(span.trace_id) == cut);
    of_trace.sort_by(|a, b| in_time(a).cmp(&in_time(b)));
    let mut units = 0;
    let kept = of_trace.iter().position(|span| {
        units += cost(span);
        units > most
    });
    let kept = kept.unwrap_or(of_trace.len());
    let lost = of_trace.len() - kept;
    of_trace.truncate(kept);
    *shard = others;
    shard.append(&mut of_trace);
    lost as u64
}

/// The order in which the spans of a long trace are kept.
fn in_time(span: &Span) -> impl Ord + '_ {
    (span.start_ns, span.trace_id, span.span_id, span.shared, span.kind as u8, u64::MAX - span.duration_ns, &*span.service)
}

/// Rank, cost and number of spans of each trace of a shard.
fn sums(shard: &[Span]) -> Vec<(u64, u64, u64)> {
    let mut costs: Vec<(u64, u64)> = shard.iter().map(|span| (rank(span.trace_id), cost(span))).collect();
    costs.sort_unstable();
    let mut sums: Vec<(u64, u64, u64)> = Vec::new();
    for (rank, cost) in costs {
        match sums.last_mut() {
            Some(sum) if sum.0 == rank => (sum.1, sum.2) = (sum.1 + cost, sum.2 + 1),
            _ => sums.push((rank, cost, 1)),
        }
    }
    sums
}

/// Where a trace stands in the order of keeping: the finalizer of SplitMix64 (Steele, Lea, Flood 2014) of its id's lower half.
fn rank(trace_id: u128) -> u64 {
    let mut z = (trace_id as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// The names that a span carries.
fn texts(span: &Span) -> impl Iterator<Item = &str> {
    let texts = [&span.service, &span.instance, &span.operation].into_iter().chain(&span.peer).chain(&span.destination);
    texts.map(|text| &**text)
}

/// FNV-1a, its bits mixed once more (Fowler, Noll, Vo).
fn hash(text: &str) -> u64 {
    let fnv = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    rank(u128::from(fnv))
}

/// What a span costs.
fn cost(span: &Span) -> u64 {
    let long: usize = texts(span).map(|text| text.len().saturating_sub(FREE_TEXT)).sum();
    (1 + (long + span.links.len() * size_of::<(u128, u64)>()) / UNIT_BYTES) as u64
}
