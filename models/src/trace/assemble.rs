//! Spans into traces: who is whose parent, and what had to be mended on the way.
//!
//! You are here: `models::trace::assemble`. `read` hands over all spans of all inputs; `learn` takes the traces.
//! Always true: the result does not depend on the order in which spans came; parents form a forest.
//! Not here: what a call is (`learn`).

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::Arc;

use rayon::prelude::*;

use super::{Kind, Span, Trace};

/// What assembly found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssemblyNotes {
    /// Spans that were there more than once (the same trace, id, service, replica and side), merged into one.
    pub duplicates: u64,
    /// Traces with a 64-bit id that were found to be the short form of a 128-bit one.
    pub short_ids_joined: u64,
    /// Server halves that share their id with the client half of the call.
    pub shared: u64,
    /// Spans without a parent id.
    pub roots: u64,
    /// Spans whose parent is not in the input.
    pub orphans: u64,
    /// Traces in which no span is without a parent id.
    pub rootless_traces: u64,
    /// Parent links that were cut because they ran in a circle.
    pub cycles_broken: u64,
    /// Spans without a time of their own that got their parent's.
    pub starts_mended: u64,
    /// Spans that start before their parent: clock skew.
    pub early: u64,
    /// Spans that start after their parent's end: asynchronous work, or clock skew.
    pub after_parent: u64,
    /// Spans of no stated side that must be the callee's, because their parent is in another service.
    pub sides_inferred: u64,
    /// RPC calls that name no callee and got the one that all other calls of the same method name.
    pub peers_inferred: u64,
    /// Links to other spans.
    pub links: u64,
    /// Links whose target is in the input.
    pub links_resolved: u64,
}

/// The 64-bit ids among sorted `ids` that are the lower half of exactly one 128-bit id there, each with that one.
fn short_forms(ids: &[u128]) -> Vec<(u128, u128)> {
    let long_from = ids.partition_point(|&id| id <= u128::from(u64::MAX));
    let (short, long) = ids.split_at(long_from);
    if short.is_empty() || long.is_empty() {
        return Vec::new();
    }
    let mut by_low: Vec<(u64, u128)> = long.iter().map(|&id| (id as u64, id)).collect();
    by_low.sort_unstable();
    let forms = short.iter().filter_map(|&id| {
        let from = by_low.partition_point(|&(low, _)| u128::from(low) < id);
        let same = by_low[from..].iter().take_while(|&&(low, _)| u128::from(low) == id).count();
        (same == 1).then(|| (id, by_low[from].1))
    });
    forms.collect()
}

impl AddAssign for AssemblyNotes {
    fn add_assign(&mut self, other: Self) {
        let AssemblyNotes {
            duplicates,
            short_ids_joined,
            shared,
            roots,
            orphans,
            rootless_traces,
            cycles_broken,
            starts_mended,
            early,
            after_parent,
            sides_inferred,
            peers_inferred,
            links,
            links_resolved,
        } = other;
        self.duplicates += duplicates;
        self.short_ids_joined += short_ids_joined;
        self.shared += shared;
        self.roots += roots;
        self.orphans += orphans;
        self.rootless_traces += rootless_traces;
        self.cycles_broken += cycles_broken;
        self.starts_mended += starts_mended;
        self.early += early;
        self.after_parent += after_parent;
        self.sides_inferred += sides_inferred;
        self.peers_inferred += peers_inferred;
        self.links += links;
        self.links_resolved += links_resolved;
    }
}

/// Distinct traces by input.
pub(crate) type TracesByInput = BTreeMap<u32, u64>;

/// Groups spans into traces, by first start, then id. All spans of one trace, and of the short form of its id, are in one shard.
pub(crate) fn assemble(mut shards: Vec<Vec<Span>>) -> (Vec<Trace>, AssemblyNotes, TracesByInput) {
    let mut notes = AssemblyNotes::default();
    join_short_ids(&mut shards, &mut notes);
    infer_rpc_peers(&mut shards, &mut notes);
    let assembled: Vec<_> = shards.into_par_iter().map(assemble_shard).collect();
    let (mut traces, mut by_input) = (Vec::new(), TracesByInput::new());
    for (of_shard, its_notes, its_inputs) in assembled {
        traces.extend(of_shard);
        notes += its_notes;
        for (input, count) in its_inputs {
            *by_input.entry(input).or_default() += count;
        }
    }
    count_links(&traces, &mut notes);
    traces.par_sort_by_key(|trace| (trace.spans.first().map_or(0, |span| span.start_ns), trace.id));
    (traces, notes, by_input)
}

fn assemble_shard(mut spans: Vec<Span>) -> (Vec<Trace>, AssemblyNotes, TracesByInput) {
    let (mut traces, mut notes, mut by_input) = (Vec::new(), AssemblyNotes::default(), TracesByInput::new());
    // The full key makes the order, and thus everything after it, independent of the order of the input.
    spans.sort_by(|a, b| order_in_trace(a).cmp(&order_in_trace(b)));
    let mut rest = spans.into_iter().peekable();
    while let Some(first) = rest.next() {
        let id = first.trace_id;
        let mut group = vec![first];
        while let Some(span) = rest.next_if(|span| span.trace_id == id) {
            group.push(span);
        }
        let mut inputs: Vec<u32> = group.iter().map(|span| span.input).collect();
        inputs.sort_unstable();
        inputs.dedup();
        for input in inputs {
            *by_input.entry(input).or_default() += 1;
        }
        traces.push(assemble_trace(id, group, &mut notes));
    }
    (traces, notes, by_input)
}

/// Records of one id side by side: client half before server half, then by service and replica, the longest first.
fn order_in_trace(span: &Span) -> impl Ord + '_ {
    let half = span.shared || span.kind == Kind::Server;
    let longest_first = u64::MAX - span.duration_ns;
    let recorder = (&*span.service, &*span.instance);
    (span.trace_id, span.span_id, half, recorder, longest_first, span.start_ns, &*span.operation, span.parent_id)
}

fn join_short_ids(shards: &mut [Vec<Span>], notes: &mut AssemblyNotes) {
    let of_shard = |spans: &Vec<Span>| {
        let mut ids: Vec<u128> = spans.iter().map(|span| span.trace_id).collect();
        ids.sort_unstable();
        ids.dedup();
        short_forms(&ids)
    };
    let mut forms: Vec<(u128, u128)> = shards.par_iter().flat_map_iter(of_shard).collect();
    if forms.is_empty() {
        return;
    }
    forms.sort_unstable();
    notes.short_ids_joined = forms.len() as u64;
    let full = |id: u128| forms.binary_search_by_key(&id, |&(short, _)| short).map_or(id, |at| forms[at].1);
    shards.par_iter_mut().flatten().for_each(|span| {
        span.trace_id = full(span.trace_id);
        for link in &mut span.links {
            link.0 = full(link.0);
        }
    });
}

/// A call that failed early often does not say whom it was for. The method of an RPC tells, if all who say agree.
fn infer_rpc_peers(shards: &mut [Vec<Span>], notes: &mut AssemblyNotes) {
    let is_rpc = |span: &Span| {
        let method = span.operation.split_once('/').is_some_and(|(service, _)| service.contains('.'));
        span.kind == Kind::Client && method && !span.operation.contains(' ')
    };
    let of_shard = |spans: &Vec<Span>| {
        let mut callees: BTreeMap<Arc<str>, Option<Arc<str>>> = BTreeMap::new();
        for span in spans.iter().filter(|span| is_rpc(span)) {
            let Some(peer) = span.peer.as_ref().filter(|peer| !peer.contains(':')) else { continue };
            agree(&mut callees, &span.operation, Some(peer));
        }
        callees
    };
    let mut callees: BTreeMap<Arc<str>, Option<Arc<str>>> = BTreeMap::new();
    for (operation, callee) in shards.par_iter().map(of_shard).collect::<Vec<_>>().into_iter().flatten() {
        agree(&mut callees, &operation, callee.as_ref());
    }
    notes.peers_inferred += shards
        .par_iter_mut()
        .flatten()
        .filter(|span| span.peer.is_none() && is_rpc(span))
        .map(|span| {
            span.peer = callees.get(&span.operation).cloned().flatten();
            u64::from(span.peer.is_some())
        })
        .sum::<u64>();
}

/// Takes one statement of whom an operation calls; `None` and a contradiction both mean that it is open.
fn agree(callees: &mut BTreeMap<Arc<str>, Option<Arc<str>>>, operation: &Arc<str>, callee: Option<&Arc<str>>) {
    if let Some(known) = callees.get_mut(operation) {
        if known.as_ref() != callee {
            *known = None;
        }
    } else {
        callees.insert(operation.clone(), callee.cloned());
    }
}

/// One trace from its spans, which are sorted by [`order_in_trace`].
fn assemble_trace(id: u128, spans: Vec<Span>, notes: &mut AssemblyNotes) -> Trace {
    let mut spans = merge_duplicates(spans, notes);
    let (mut parent, orphan) = find_parents(&spans, notes);
    break_cycles(&spans, &mut parent, notes);
    mend_starts(&mut spans, &parent, notes);
    infer_sides(&mut spans, &parent, notes);
    count_times(&spans, &parent, notes);
    if !spans.iter().any(|span| span.parent_id.is_none()) {
        notes.rootless_traces += 1;
    }

    let mut order: Vec<u32> = (0..spans.len() as u32).collect();
    order.sort_by_key(|&i| {
        let span = &spans[i as usize];
        (span.start_ns, span.span_id, span.shared, i)
    });
    let mut place = vec![0u32; order.len()];
    for (new, &old) in order.iter().enumerate() {
        place[old as usize] = new as u32;
    }
    let parent = order.iter().map(|&old| parent[old as usize].map(|p| place[p as usize])).collect();
    let orphan = order.iter().map(|&old| orphan[old as usize]).collect();
    let mut slots: Vec<Option<Span>> = spans.into_iter().map(Some).collect();
    let spans = order.iter().map(|&old| slots[old as usize].take().expect("an order names each span once")).collect();
    Trace { id, spans, parent, orphan }
}

/// Makes one span of those with the same id, service, replica and side, and marks server halves that share their client's id.
fn merge_duplicates(spans: Vec<Span>, notes: &mut AssemblyNotes) -> Vec<Span> {
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    // The id of the last caller's half: a callee's half that follows with the same id shares it, said or not.
    let mut caller = None;
    for mut span in spans {
        if span.kind == Kind::Client {
            caller = Some(span.span_id);
        }
        span.shared |= span.kind == Kind::Server && caller == Some(span.span_id);
        if let Some(last) = merged.last_mut().filter(|last| last.span_id == span.span_id) {
            let same_half = last.shared == span.shared || last.kind == Kind::Server && span.kind == Kind::Server;
            let same_replica = last.instance == span.instance || last.instance.is_empty() || span.instance.is_empty();
            if same_half && last.service == span.service && same_replica {
                notes.duplicates += 1;
                merge(last, span);
                continue;
            }
        }
        notes.shared += u64::from(span.shared);
        merged.push(span);
    }
    merged
}

/// Adds to `kept`, the longer one, what only `other` says.
fn merge(kept: &mut Span, other: Span) {
    kept.shared |= other.shared;
    kept.parent_id = kept.parent_id.or(other.parent_id);
    if kept.kind == Kind::Internal {
        kept.kind = other.kind;
    }
    if kept.start_ns == 0 {
        kept.start_ns = other.start_ns;
    }
    if kept.failure.is_none() {
        (kept.status, kept.failure) = (other.status, other.failure);
    }
    if kept.peer.is_none() {
        (kept.peer, kept.peer_kind) = (other.peer, other.peer_kind);
    }
    if kept.operation.is_empty() {
        kept.operation = other.operation;
    }
    kept.destination = kept.destination.take().or(other.destination);
    kept.resend = kept.resend.max(other.resend);
    kept.session = kept.session.max(other.session);
    for link in other.links {
        if !kept.links.contains(&link) {
            kept.links.push(link);
        }
    }
}

/// Spans with one id are looked through this far for a parent. Two are usual: the halves of a call.
const MOST_OF_ONE_ID: usize = 256;

/// The parent of each span of a trace, and which of them name one that is not there. `spans` are sorted by id.
fn find_parents(spans: &[Span], notes: &mut AssemblyNotes) -> (Vec<Option<u32>>, Vec<bool>) {
    let with_id = |id: u64| {
        let from = spans.partition_point(|span| span.span_id < id);
        let to = from + spans[from..].iter().take(MOST_OF_ONE_ID).take_while(|span| span.span_id == id).count();
        from..to
    };
    let mut parent = Vec::with_capacity(spans.len());
    let mut orphan = vec![false; spans.len()];
    for (i, span) in spans.iter().enumerate() {
        if span.shared
            && let Some(client) = with_id(span.span_id).find(|&other| other != i && !spans[other].shared)
        {
            parent.push(Some(client as u32));
            continue;
        }
        let Some(id) = span.parent_id else {
            notes.roots += 1;
            parent.push(None);
            continue;
        };
        let mut candidates = with_id(id).filter(|&other| other != i);
        // Of two halves with one id, the server's did what its own service did next; else the client's is the parent.
        let same_service = candidates.clone().rfind(|&other| spans[other].service == span.service);
        let found = same_service.or_else(|| candidates.next());
        if found.is_none() && id != span.span_id {
            notes.orphans += 1;
            orphan[i] = true;
        } else if found.is_none() {
            notes.cycles_broken += 1;
        }
        parent.push(found.map(|found| found as u32));
    }
    (parent, orphan)
}

/// Cuts every circle of parents at its earliest span.
fn break_cycles(spans: &[Span], parent: &mut [Option<u32>], notes: &mut AssemblyNotes) {
    // The number of the walk that came by; 0: none yet.
    let mut seen = vec![0u32; spans.len()];
    for first in 0..spans.len() {
        let walk = first as u32 + 1;
        let mut at = first;
        while seen[at] == 0 {
            seen[at] = walk;
            match parent[at] {
                Some(up) => at = up as usize,
                None => break,
            }
        }
        if seen[at] != walk || parent[at].is_none() {
            continue;
        }
        // `at` was met twice in one walk, so it stands on a circle.
        let (mut earliest, mut next) = (at, at);
        loop {
            next = parent[next].expect("every span of a circle has a parent") as usize;
            if next == at {
                break;
            }
            if (spans[next].start_ns, next) < (spans[earliest].start_ns, earliest) {
                earliest = next;
            }
        }
        parent[earliest] = None;
        notes.cycles_broken += 1;
    }
}

/// Spans without a start (0 among real times) get their parent's, or the trace's first.
fn mend_starts(spans: &mut [Span], parent: &[Option<u32>], notes: &mut AssemblyNotes) {
    /// 2001-09-09: a trace with times after it tells real time, not time since its own begin.
    const REAL_TIME: u64 = 1_000_000_000_000_000_000;
    let Some(first) = spans.iter().map(|span| span.start_ns).filter(|&start| start > REAL_TIME).min() else { return };
    let mut without = Vec::new();
    for i in 0..spans.len() {
        let mut at = i;
        let start = loop {
            if spans[at].start_ns != 0 {
                break spans[at].start_ns;
            }
            without.push(at);
            match parent[at] {
                Some(up) => at = up as usize,
                None => break first,
            }
        };
        notes.starts_mended += without.len() as u64;
        for at in without.drain(..) {
            spans[at].start_ns = start;
        }
    }
}

/// Sides that nobody stated: a span whose parent is in another service is the callee's side of a call; and where no span of the
/// trace says that it is a caller's, one that only calls other services on behalf of its own is.
fn infer_sides(spans: &mut [Span], parent: &[Option<u32>], notes: &mut AssemblyNotes) {
    let elsewhere = |a: &Span, b: &Span| a.service != b.service && !a.service.is_empty() && !b.service.is_empty();
    let callers_stated = spans.iter().any(|span| matches!(span.kind, Kind::Client | Kind::Producer));
    let (mut calls, mut works) = (vec![false; spans.len()], vec![false; spans.len()]);
    for i in 0..spans.len() {
        let Some(up) = parent[i].map(|up| up as usize) else { continue };
        let called = elsewhere(&spans[i], &spans[up]);
        calls[up] |= called;
        works[up] |= !called;
        if called && spans[i].kind == Kind::Internal {
            spans[i].kind = Kind::Server;
            notes.sides_inferred += 1;
        }
    }
    if callers_stated {
        return;
    }
    for i in 0..spans.len() {
        let on_behalf = parent[i].is_some_and(|up| spans[up as usize].service == spans[i].service);
        if spans[i].kind == Kind::Internal && calls[i] && !works[i] && on_behalf {
            spans[i].kind = Kind::Client;
            notes.sides_inferred += 1;
        }
    }
}

fn count_times(spans: &[Span], parent: &[Option<u32>], notes: &mut AssemblyNotes) {
    for (span, up) in spans.iter().zip(parent).filter_map(|(span, up)| Some((span, &spans[(*up)? as usize]))) {
        notes.early += u64::from(span.start_ns < up.start_ns);
        notes.after_parent += u64::from(span.start_ns > up.start_ns + up.duration_ns);
    }
}

fn count_links(traces: &[Trace], notes: &mut AssemblyNotes) {
    let spans = || traces.iter().flat_map(|trace| &trace.spans);
    notes.links = spans().map(|span| span.links.len() as u64).sum();
    if notes.links == 0 {
        return;
    }
    let mut ids: Vec<(u128, u64)> = spans().map(|span| (span.trace_id, span.span_id)).collect();
    ids.par_sort_unstable();
    notes.links_resolved = spans().flat_map(|span| &span.links).filter(|link| ids.binary_search(link).is_ok()).count() as u64;
}
