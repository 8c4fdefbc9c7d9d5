//! What is measured while a run goes on.
//!
//! You are here: `sim::des::recorder`. The other parts of `des` report here; `run`, `twin` and `verdict` read it afterwards. Latencies are in
//! `windows`, user requests in `users`, and debug builds hold the books against each other in `audit`.
//! Always true: integers only; nothing is allocated per event once the vectors have grown; an answer touches one cache line of its node
//! and the end of one log. With [`Keep::Totals`] nothing grows with time or with the number of requests.
//! Not here: what the numbers mean (`verdict`).

use models::metrics::bucket_of;
use models::system::Cause;

mod measured;
mod steps;

pub(crate) use steps::{EdgeStep, EdgeTotals, NodeStep, NodeSums, NodeTotals, SystemStep};

use super::tracer::Ended;
use super::users::Users;
use super::windows::{History, Latencies, NO_LATENCY, WIDE_BUCKETS, WINDOW_BUCKETS, Window};
use crate::program::Tables;

/// Length of a bucket.
pub(crate) const BUCKET_NS: u64 = 250_000_000;
/// Causes of failed tries that are told apart.
pub(crate) const CAUSES: usize = 6;

/// What a run keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Totals: nothing that grows.
    #[default]
    Totals,
    /// What verdicts need: a step for each node and bucket, and how each user request ended.
    Judged,
    /// Everything over time, edges included, but no user requests.
    Series,
}

/// How a request left a station, or a message its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Answered rightly; a message: acknowledged.
    Answered,
    /// Answered with an error; a message: given up.
    Failed,
    /// Turned away on arrival: no room.
    Refused,
    /// Turned away later, by whatever sheds load.
    Shed,
    /// Its caller had gone, and work for it stopped.
    Cancelled,
    /// Lost in a crash.
    Killed,
}

impl Left {
    /// How a span of it ended.
    pub(crate) fn ended(self) -> Ended {
        match self {
            Left::Answered => Ended::Well,
            Left::Failed | Left::Killed => Ended::Failed(Cause::Error),
            Left::Refused | Left::Shed => Ended::Failed(Cause::Overload),
            Left::Cancelled => Ended::Cancelled,
        }
    }
}

/// A node in the running bucket: all that an event touches, in one cache line.
///
/// The integrals are signed sums: `-now` for each who comes, `+now` for each who goes, and `+number x now` when the bucket closes, modulo
/// 2^64 (one bucket's integral is far below).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
struct NodeNow {
    ended: u32,
    errors: u32,
    timeouts: u32,
    queue: u32,
    present: u32,
    most_present: u32,
    busy: u32,
    started: u32,
    present_sum: u64,
    busy_sum: u64,
    waits_ns: u128,
}

const _: () = assert!(size_of::<NodeNow>() == 64);

impl NodeNow {
    /// Nobody has been there in this bucket, and nothing has ended.
    #[inline(always)]
    fn is_at_rest(&self) -> bool {
        self.most_present | self.ended | self.timeouts == 0
    }
}

/// Everything measured in a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder {
    /// When the running bucket ends.
    pub(crate) bucket_end: u64,
    /// Number of the running bucket, and of the first that `steps` holds.
    bucket: usize,
    base: usize,
    keep: Keep,
    /// From when on totals count.
    warm_up: u64,
    counting: bool,
    entries: usize,
    nodes: Vec<NodeNow>,
    /// The nodes that are not at rest; all others are as they were at time 0.
    active: Vec<u32>,
    /// Until when the integrals are settled.
    settled_at: u64,
    latencies: Latencies,
    /// Latencies that are kept for good, up to a bucket.
    history: History,
    history_end: usize,
    system_now: SystemStep,
    users: Users,
    /// User requests are kept that arrive from this bucket on.
    users_from: usize,
    /// `steps[(bucket - base) * nodes + node]`.
    steps: Vec<NodeStep>,
    system: Vec<SystemStep>,
    /// Whose wide window is wanted.
    wide: Vec<bool>,
    edges_now: Vec<EdgeStep>,
    /// `edges[bucket * edges + edge]`.
    edges: Vec<EdgeStep>,
    /// Per node, but in forks.
    sums: Vec<NodeSums>,
    sums_at_warm_up: Vec<NodeSums>,
    totals: Vec<NodeTotals>,
    /// Per edge, if wanted, and the latencies of the running bucket's calls: edge << 16 | latency.
    edge_totals: Vec<EdgeTotals>,
    edge_log: Vec<u32>,
    /// The latencies of entries in these buckets are kept together: entry << 16 | latency.
    impact_buckets: std::ops::Range<usize>,
    impact: Vec<u32>,
    #[cfg(debug_assertions)]
    audit: super::audit::Audit,
}

impl Recorder {
    /// At time 0, keeping totals alone.
    pub(crate) fn new(p: &Tables) -> Self {
        let nodes = p.nodes.len();
        Recorder {
            bucket_end: BUCKET_NS,
            counting: true,
            entries: p.entries.len(),
            nodes: vec![NodeNow::default(); nodes],
            latencies: Latencies::new(nodes),
            users: Users::new(p.entries.len(), false),
            sums: vec![NodeSums::default(); nodes],
            sums_at_warm_up: vec![NodeSums::default(); nodes],
            totals: vec![NodeTotals::default(); nodes],
            #[cfg(debug_assertions)]
            audit: super::audit::Audit::new(nodes),
            ..Recorder::default()
        }
    }

    /// What to keep of a run that is at time 0. Totals count from `warm_up` on.
    pub(crate) fn keep(&mut self, p: &Tables, keep: Keep, warm_up: u64) {
        (self.keep, self.warm_up, self.counting) = (keep, warm_up, warm_up == 0);
        self.users = Users::new(self.entries, keep == Keep::Judged);
        self.wide = vec![keep == Keep::Judged; self.nodes.len()];
        self.edges_now = if keep == Keep::Series { vec![EdgeStep::default(); p.edges.len()] } else { Vec::new() };
    }

    /// Each edge's calls are counted with their latencies.
    pub(crate) fn watch_edges(&mut self, p: &Tables) {
        self.edge_totals = vec![EdgeTotals::default(); p.edges.len()];
    }

    /// The latencies of all windows that reach back to before now are kept for good.
    pub(crate) fn keep_history(&mut self) {
        self.history_end = self.bucket + WIDE_BUCKETS;
    }

    /// Bytes of the last second's latencies.
    pub(crate) fn last_second_bytes(&self) -> usize {
        let buckets = self.bucket.saturating_sub((1_000_000_000 / BUCKET_NS) as usize)..self.bucket;
        buckets.map(|bucket| self.latencies.count(bucket) * size_of::<u16>()).sum()
    }

    /// A recorder for a run that goes on from here: it knows who is present and what the running bucket has, and nothing of what was before.
    pub(crate) fn fork(&self) -> Recorder {
        Recorder {
            bucket_end: self.bucket_end,
            bucket: self.bucket,
            base: self.bucket,
            keep: Keep::Judged,
            warm_up: self.warm_up,
            entries: self.entries,
            nodes: self.nodes.clone(),
            active: self.active.clone(),
            settled_at: self.settled_at,
            latencies: self.latencies.fork(),
            system_now: self.system_now,
            users: self.users.fork(),
            #[cfg(debug_assertions)]
            audit: self.audit.clone(),
            ..Recorder::default()
        }
    }

    /// For a run that is judged: user requests count from bucket `start` on, the entries' latencies from there to `impact_end` are kept
    /// together, and `wide` says whose wide windows are wanted.
    pub(crate) fn judge_from(&mut self, start: usize, impact_end: usize, wide: &[bool]) {
        self.users_from = start;
        self.impact_buckets = start..impact_end;
        self.wide = wide.to_vec();
    }

    /// The warm-up is over at `now`.
    pub(crate) fn warmed_up(&mut self, now: u64) {
        self.counting = true;
        self.flush_edges();
        self.settle(now);
        self.sums_at_warm_up.clone_from(&self.sums);
    }

    /// Brings the integrals up to `now`.
    pub(crate) fn settle(&mut self, now: u64) {
        self.settled_at = now;
        for &n in &self.active {
            let node = &mut self.nodes[n as usize];
            let (present, busy) = (u64::from(node.present).wrapping_mul(now), u64::from(node.busy).wrapping_mul(now));
            if let Some(sums) = self.sums.get_mut(n as usize) {
                sums.present += u128::from(node.present_sum.wrapping_add(present));
                sums.busy += u128::from(node.busy_sum.wrapping_add(busy));
                sums.waits_ns += node.waits_ns;
                sums.started += u64::from(node.started);
            }
            (node.present_sum, node.busy_sum) = (present.wrapping_neg(), busy.wrapping_neg());
            (node.waits_ns, node.started) = (0, 0);
        }
    }

    /// In debug builds, just before a bucket is closed: holds the books against the requests and messages that are there (node, arrived at).
    #[cfg(debug_assertions)]
    pub(crate) fn audit(&mut self, there: impl Iterator<Item = (u32, u64)>) {
        let (nodes, end) = (&self.nodes, self.bucket_end);
        // Where the warm-up ends within the bucket, its integral is taken in two parts.
        let whole = self.settled_at + BUCKET_NS == end || self.settled_at == 0;
        self.audit.close(end, there, |n| {
            let integral = nodes[n].present_sum.wrapping_add(u64::from(nodes[n].present).wrapping_mul(end));
            (nodes[n].present, whole.then_some(integral))
        });
    }

    /// Closes the bucket that ends now; `depth(node)` is the depth of its deepest queue at this moment.
    pub(crate) fn close_bucket(&mut self, depth: impl Fn(usize) -> u32) {
        #[cfg(debug_assertions)]
        assert!(self.audit.is_closed_to(self.bucket_end), "every bucket is audited");
        self.settle(self.bucket_end);
        self.flush_edges();
        let (closing, end) = (self.bucket, self.bucket_end);
        let counts = end - BUCKET_NS >= self.warm_up && !self.totals.is_empty();
        if counts {
            for (node, latency) in self.latencies.running() {
                self.totals[node].latencies.add(latency);
            }
        }
        if self.impact_buckets.contains(&closing) {
            let entries = self.entries;
            self.impact.extend(self.latencies.running().filter(|l| l.0 < entries).map(|(n, latency)| logged(n, latency)));
        }
        let kept = self.keep != Keep::Totals;
        if kept {
            self.latencies.close();
            if closing < self.history_end {
                self.history.keep(&self.latencies, closing);
            }
            self.system.push(self.system_now);
        } else {
            self.latencies.clear();
        }
        self.system_now = SystemStep::default();
        if kept {
            let latencies = &self.latencies;
            let first = |width: usize| (closing + 1).saturating_sub(width);
            for (n, node) in self.nodes.iter().enumerate() {
                let window = |width: usize| Window::new(first(width)..=closing, |b| latencies.of(b, n));
                self.steps.push(NodeStep {
                    ended: node.ended,
                    errors: node.errors,
                    timeouts: node.timeouts,
                    queue: node.queue,
                    in_flight: node.most_present,
                    p99: window(WINDOW_BUCKETS).quantile(990),
                    p50: if self.keep == Keep::Series { window(WINDOW_BUCKETS).quantile(500) } else { NO_LATENCY },
                    p99_wide: if self.wide[n] { window(WIDE_BUCKETS).quantile(990) } else { NO_LATENCY },
                });
            }
        }
        let Recorder { active, nodes, totals, sums, .. } = self;
        active.retain(|&n| {
            let n = n as usize;
            let node = &mut nodes[n];
            if counts {
                totals[n].errors += u64::from(node.errors);
                totals[n].ended += u64::from(node.ended);
            }
            if let Some(sums) = sums.get_mut(n) {
                sums.queue_peak = sums.queue_peak.max(node.queue);
            }
            (node.ended, node.errors, node.timeouts) = (0, 0, 0);
            (node.queue, node.most_present) = (depth(n), node.present);
            node.present > 0
        });
        self.edges.extend_from_slice(&self.edges_now);
        self.edges_now.fill(EdgeStep::default());
        self.bucket += 1;
        self.bucket_end += BUCKET_NS;
    }

    /// A node that something happens to.
    #[inline(always)]
    fn node(&mut self, node: u32) -> &mut NodeNow {
        let n = &mut self.nodes[node as usize];
        if n.is_at_rest() {
            self.active.push(node);
        }
        n
    }

    /// A node where somebody is present, or just was.
    #[inline(always)]
    fn active_node(&mut self, node: u32) -> &mut NodeNow {
        let n = &mut self.nodes[node as usize];
        debug_assert!(!n.is_at_rest(), "nobody is present at node {node}");
        n
    }

    /// Brings the edges' histograms up to date.
    fn flush_edges(&mut self) {
        for entry in self.edge_log.drain(..) {
            self.edge_totals[(entry >> 16) as usize].latencies.add(entry as u16);
        }
    }

    /// A request has reached a station.
    #[inline]
    pub(crate) fn arrived(&mut self, node: u32, now: u64) {
        #[cfg(debug_assertions)]
        self.audit.arrived(node, now);
        let n = self.node(node);
        n.present = n.present.wrapping_add(1);
        n.most_present = n.most_present.max(n.present);
        n.present_sum = n.present_sum.wrapping_sub(now);
    }

    /// A request that had reached a station has left it. `late`: its caller had gone before.
    #[inline]
    pub(crate) fn left(&mut self, node: u32, now: u64, arrived_at: u64, how: Left, late: bool) {
        #[cfg(debug_assertions)]
        self.audit.left(node, now, arrived_at, how, late);
        let n = self.active_node(node);
        n.present = n.present.wrapping_sub(1);
        n.present_sum = n.present_sum.wrapping_add(now);
        if how != Left::Killed {
            n.ended += 1;
            n.errors += u32::from(how != Left::Answered);
            self.latencies.add(node, bucket_of(now - arrived_at));
        }
        if late && matches!(how, Left::Answered | Left::Failed) {
            self.system_now.wasted += 1;
            self.count(node, |sums| &mut sums.wasted);
        }
    }

    /// A connection to a node was refused or reset: it has ended with an error, without a latency.
    #[inline]
    pub(crate) fn connection_error(&mut self, node: u32) {
        let n = self.node(node);
        n.ended += 1;
        n.errors += 1;
    }

    /// A request has got a worker, after it `waited` for one.
    #[inline]
    pub(crate) fn worker_taken(&mut self, node: u32, now: u64, waited: u64) {
        let n = self.active_node(node);
        n.busy = n.busy.wrapping_add(1);
        n.busy_sum = n.busy_sum.wrapping_sub(now);
        n.started += 1;
        n.waits_ns += u128::from(waited);
    }

    /// A worker is free again.
    #[inline]
    pub(crate) fn worker_freed(&mut self, node: u32, now: u64) {
        let n = self.active_node(node);
        n.busy = n.busy.wrapping_sub(1);
        n.busy_sum = n.busy_sum.wrapping_add(now);
    }

    /// [`Recorder::arrived`] and [`Recorder::worker_taken`] in one.
    #[inline(always)]
    pub(crate) fn arrived_at_work(&mut self, node: u32, now: u64) {
        #[cfg(debug_assertions)]
        self.audit.arrived(node, now);
        let n = self.node(node);
        n.present = n.present.wrapping_add(1);
        n.most_present = n.most_present.max(n.present);
        n.present_sum = n.present_sum.wrapping_sub(now);
        n.busy = n.busy.wrapping_add(1);
        n.busy_sum = n.busy_sum.wrapping_sub(now);
        n.started += 1;
    }

    /// [`Recorder::left`], answered in time, and [`Recorder::worker_freed`] in one.
    #[inline(always)]
    pub(crate) fn left_work(&mut self, node: u32, now: u64, arrived_at: u64) {
        #[cfg(debug_assertions)]
        self.audit.left(node, now, arrived_at, Left::Answered, false);
        let n = self.active_node(node);
        n.present = n.present.wrapping_sub(1);
        n.present_sum = n.present_sum.wrapping_add(now);
        n.busy = n.busy.wrapping_sub(1);
        n.busy_sum = n.busy_sum.wrapping_add(now);
        n.ended += 1;
        self.latencies.add(node, bucket_of(now - arrived_at));
    }

    /// A queue is this deep now.
    #[inline]
    pub(crate) fn queue_depth(&mut self, node: u32, depth: u32) {
        let n = self.active_node(node);
        n.queue = n.queue.max(depth);
    }

    /// A try at a node has lasted too long for its caller.
    #[inline]
    pub(crate) fn node_timeout(&mut self, node: u32) {
        self.node(node).timeouts += 1;
    }

    /// An answer was given although a callee had failed.
    #[inline]
    pub(crate) fn degraded(&mut self, node: u32) {
        self.count(node, |sums| &mut sums.degraded);
    }

    #[inline]
    fn count(&mut self, node: u32, which: impl Fn(&mut NodeSums) -> &mut u64) {
        if let Some(sums) = self.sums.get_mut(node as usize) {
            *which(sums) += 1;
        }
    }

    /// A topic has taken a message (one that it refuses arrives and leaves, too).
    #[inline]
    pub(crate) fn message_arrived(&mut self, node: u32, now: u64) {
        self.arrived(node, now);
    }

    /// A message has left its topic: acknowledged (`Answered`), given up (`Failed`), not taken (`Refused`), dropped to make room (`Shed`),
    /// lost with its broker (`Killed`). The first two have a latency.
    #[inline]
    pub(crate) fn message_left(&mut self, node: u32, now: u64, published_at: u64, how: Left) {
        #[cfg(debug_assertions)]
        self.audit.left(node, now, published_at, how, false);
        let n = self.active_node(node);
        n.present = n.present.wrapping_sub(1);
        n.present_sum = n.present_sum.wrapping_add(now);
        n.ended += 1;
        n.errors += u32::from(how != Left::Answered);
        match how {
            Left::Answered | Left::Failed => self.latencies.add(node, bucket_of(now - published_at)),
            Left::Killed => self.message_lost(node),
            Left::Refused | Left::Shed | Left::Cancelled => {}
        }
    }

    /// A message is delivered again.
    #[inline]
    pub(crate) fn redelivered(&mut self, node: u32) {
        self.count(node, |sums| &mut sums.redelivered);
    }

    /// A message has used up its deliveries (and leaves as `Failed`).
    #[inline]
    pub(crate) fn dead_letter(&mut self, node: u32) {
        self.system_now.dead_letters += 1;
        self.count(node, |sums| &mut sums.dead_letters);
    }

    /// A consumer applied an older update after a newer one.
    #[inline]
    pub(crate) fn stale_write(&mut self, node: u32) {
        self.system_now.stale_writes += 1;
        self.count(node, |sums| &mut sums.stale_writes);
    }

    /// A consumer applied the same message twice.
    #[inline]
    pub(crate) fn duplicate_effect(&mut self, node: u32) {
        self.system_now.duplicate_effects += 1;
        self.count(node, |sums| &mut sums.duplicate_effects);
    }

    /// A message vanished before it reached its topic (one that is lost with its broker leaves as `Killed`).
    #[inline]
    pub(crate) fn message_lost(&mut self, node: u32) {
        self.count(node, |sums| &mut sums.lost);
    }

    /// A try is sent. `inner`: not by a user; `again`: not the first of its call.
    #[inline]
    pub(crate) fn attempt(&mut self, edge: u32, inner: bool, again: bool) {
        self.system_now.attempts += u32::from(inner);
        self.system_now.first_attempts += u32::from(inner && !again);
        if let Some(e) = self.edges_now.get_mut(edge as usize) {
            e.attempts += 1;
            e.retries += u32::from(again);
        }
    }

    /// A try has failed.
    #[inline]
    pub(crate) fn attempt_failed(&mut self, edge: u32, cause: Cause) {
        if let Some(e) = self.edges_now.get_mut(edge as usize) {
            e.failures += 1;
        }
        if self.counting
            && let Some(totals) = self.edge_totals.get_mut(edge as usize)
        {
            totals.causes[cause as usize] += 1;
        }
    }

    /// A call, all its tries together, is over.
    #[inline]
    pub(crate) fn call_ended(&mut self, edge: u32, latency: u64, attempts_minus_1: u16, failed: bool) {
        if self.counting
            && let Some(totals) = self.edge_totals.get_mut(edge as usize)
        {
            totals.requests += 1;
            totals.attempts += u64::from(attempts_minus_1) + 1;
            totals.errors += u64::from(failed);
            totals.sum_ns += u128::from(latency);
            self.edge_log.push(edge << 16 | u32::from(bucket_of(latency)));
        }
    }

    /// A user request arrives; returns its number.
    #[inline]
    pub(crate) fn user_arrived(&mut self, entry: u32, surge: bool) -> u32 {
        self.users.arrived(entry, surge, self.bucket >= self.users_from)
    }

    /// The `nth` request of one of an entry's `users` who wait for their answers arrives; returns its number.
    #[inline]
    pub(crate) fn user_arrived_nth(&mut self, entry: u32, user: u32, nth: u32, users: u32) -> u32 {
        self.users.arrived_nth(entry, user, nth, users, self.bucket >= self.users_from)
    }

    /// A user request is over.
    #[inline]
    pub(crate) fn user_ended(&mut self, number: u32, entry_node: u32, latency: u64, failed: bool) {
        let n = self.node(entry_node);
        n.ended += 1;
        n.errors += u32::from(failed);
        self.latencies.add(entry_node, bucket_of(latency));
        self.users.ended(number, latency, failed);
    }

    /// A user request that is not done at the end of the run has lasted this long.
    pub(crate) fn user_unfinished(&mut self, number: u32, lasted: u64) {
        self.users.unfinished(number, lasted);
    }

    /// A user request met a faulted target.
    #[inline]
    pub(crate) fn touch(&mut self, number: u32) {
        self.users.touch(number);
    }

    /// Whether no more user requests can be told apart, so that the run has to end (asked where the slabs' limits are).
    pub(crate) fn is_full(&self) -> bool {
        self.users.is_full()
    }
}

fn logged(node: usize, latency: u16) -> u32 {
    (node as u32) << 16 | u32::from(latency)
}

#[cfg(test)]
mod tests;
