//! What is measured while a run goes on.
//!
//! You are here: `sim::des::recorder`. The other parts of `des` report here; `verdict` and `simulate` read it afterwards.
//! Always true: integers only; nothing is allocated per event once the vectors have grown. One [`NodeStep`] a node and 250 ms bucket is
//! kept for the whole run (the twin's are what verdicts compare with, bucket by bucket); latencies only as long as the longest window.
//! Not here: what the numbers mean (`verdict`).

use models::metrics::{Histogram, bucket_of};
use models::system::Cause;

use crate::program::Tables;

/// Length of a bucket.
pub(crate) const BUCKET_NS: u64 = 250_000_000;
/// Buckets of the window that breaches are judged by (1 s).
pub(crate) const WINDOW_BUCKETS: usize = 4;
/// Buckets of the wide window: recovery, and breaches where the narrow one has too few samples (5 s).
pub(crate) const WIDE_BUCKETS: usize = 20;
/// A user request that failed, among latencies in microseconds.
pub(crate) const FAILED: u32 = u32::MAX;
/// A user request that never took place or was not done at the end.
pub(crate) const UNFINISHED: u32 = u32::MAX - 1;
/// The longest latency told apart, in microseconds (71 minutes).
pub(crate) const SLOWEST: u32 = u32::MAX - 2;
/// No latency in the window.
pub(crate) const NO_P99: u16 = u16::MAX;

/// Causes of failed tries that are told apart.
pub(crate) const CAUSES: usize = 6;

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

/// One node in one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeStep {
    /// Requests (messages, user requests) ended, refused ones included.
    pub(crate) ended: u32,
    /// Of these failed.
    pub(crate) errors: u32,
    /// Tries at it whose callers gave up.
    pub(crate) timeouts: u32,
    /// Deepest queue of one replica; a topic's backlog.
    pub(crate) queue: u32,
    /// Most present at once.
    pub(crate) in_flight: u32,
    /// p99 over the window that ends with this bucket, as a histogram bucket.
    pub(crate) p99: u16,
    /// Median over the same, if series are wanted.
    pub(crate) p50: u16,
    /// p99 over the wide window.
    pub(crate) p99_wide: u16,
}

/// One edge in one bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EdgeStep {
    pub(crate) attempts: u32,
    pub(crate) retries: u32,
    pub(crate) failures: u32,
}

/// All edges between services together in one bucket, and what else is counted for the whole system.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SystemStep {
    pub(crate) first_attempts: u32,
    pub(crate) attempts: u32,
    /// Work that ended after its caller had given up.
    pub(crate) wasted: u32,
    /// User requests so far: of the entries themselves, and added by surges.
    pub(crate) users: u32,
    pub(crate) surged: u32,
}

/// Calls over an edge that ended after the warm-up.
#[derive(Clone, Debug, Default)]
pub(crate) struct EdgeTotals {
    pub(crate) requests: u64,
    pub(crate) attempts: u64,
    pub(crate) errors: u64,
    /// By [`Cause`], and a sixth to come.
    pub(crate) causes: [u64; CAUSES],
    pub(crate) sum_ns: u128,
    pub(crate) latencies: Histogram,
}

/// Time integrals of a service, in nanoseconds times number.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ServiceTotals {
    pub(crate) busy: u128,
    pub(crate) present: u128,
    /// Sum of waits of those who got a worker, and how many did.
    pub(crate) waits_ns: u128,
    pub(crate) started: u64,
    pub(crate) wasted: u64,
    busy_now: u32,
    present_now: u32,
    busy_since: u64,
    present_since: u64,
}

#[derive(Clone, Debug)]
struct NodeNow {
    step: NodeStep,
    in_flight: u32,
    /// Latencies of the last buckets, by bucket modulo [`WIDE_BUCKETS`].
    latencies: Vec<Vec<u16>>,
    window: Histogram,
    wide: Histogram,
    total: Histogram,
    errors: u64,
    ended: u64,
}

/// Everything measured in a run.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    pub(crate) bucket_end: u64,
    /// From when on totals count.
    warm_up: u64,
    counting: bool,
    nodes: Vec<NodeNow>,
    entries: usize,
    impact_buckets: std::ops::Range<usize>,
    impact: Vec<Histogram>,
    edges_now: Vec<EdgeStep>,
    system_now: SystemStep,
    /// `steps[bucket * nodes + node]`.
    pub(crate) steps: Vec<NodeStep>,
    pub(crate) system: Vec<SystemStep>,
    /// `edges[bucket * edges + edge]`, if series are wanted.
    pub(crate) edges: Vec<EdgeStep>,
    series: bool,
    pub(crate) services: Vec<ServiceTotals>,
    services_at_warm_up: Vec<ServiceTotals>,
    /// Per edge, if details are wanted.
    pub(crate) totals: Vec<EdgeTotals>,
    /// Latency of each user request in microseconds, in order of arrival, and its entry.
    pub(crate) users: Vec<u32>,
    pub(crate) user_entries: Vec<u16>,
    /// The same for those that surges added.
    pub(crate) surged: Vec<u32>,
    pub(crate) surged_entries: Vec<u16>,
    /// Bit n: user request n met a faulted target.
    pub(crate) touched: Vec<u64>,
}

impl Recorder {
    pub(crate) fn new(p: &Tables) -> Self {
        let node = NodeNow {
            step: NodeStep::default(),
            in_flight: 0,
            latencies: vec![Vec::new(); WIDE_BUCKETS],
            window: Histogram::default(),
            wide: Histogram::default(),
            total: Histogram::default(),
            errors: 0,
            ended: 0,
        };
        Recorder {
            bucket_end: BUCKET_NS,
            warm_up: 0,
            counting: true,
            nodes: vec![node; p.nodes.len()],
            entries: p.entries.len(),
            impact_buckets: 0..0,
            impact: Vec::new(),
            edges_now: vec![EdgeStep::default(); p.edges.len()],
            system_now: SystemStep::default(),
            steps: Vec::new(),
            system: Vec::new(),
            edges: Vec::new(),
            series: false,
            services: vec![ServiceTotals::default(); p.services.len()],
            services_at_warm_up: vec![ServiceTotals::default(); p.services.len()],
            totals: Vec::new(),
            users: Vec::new(),
            user_entries: Vec::new(),
            surged: Vec::new(),
            surged_entries: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// Totals count from `warm_up` on; `series` keeps edges bucket by bucket.
    pub(crate) fn configure(&mut self, warm_up: u64, series: bool) {
        self.warm_up = warm_up;
        self.counting = warm_up == 0;
        self.series = series;
    }

    /// Each edge's calls are counted with their latencies.
    pub(crate) fn watch_details(&mut self) {
        self.totals = vec![EdgeTotals::default(); self.edges_now.len()];
    }

    /// The latencies of nodes in these buckets are kept together, for [`Recorder::impact`].
    pub(crate) fn watch_impact(&mut self, buckets: std::ops::Range<usize>) {
        self.impact_buckets = buckets;
        self.impact = vec![Histogram::default(); self.entries];
    }

    /// An entry's latencies in the buckets that were asked for.
    pub(crate) fn impact(&self, entry: usize) -> Option<&Histogram> {
        self.impact.get(entry)
    }

    /// The warm-up is over at `now`.
    pub(crate) fn warmed_up(&mut self, now: u64) {
        self.counting = true;
        self.settle(now);
        self.services_at_warm_up.clone_from(&self.services);
    }

    /// Brings the time integrals up to `now`.
    pub(crate) fn settle(&mut self, now: u64) {
        for s in 0..self.services.len() as u32 {
            self.busy_changed(s, now, 0);
            self.present_changed(s, self.entries as u32 + s, now, 0);
        }
    }

    /// What a service's totals grew by since the warm-up.
    pub(crate) fn service_since_warm_up(&self, s: usize) -> ServiceTotals {
        let (now, then) = (&self.services[s], &self.services_at_warm_up[s]);
        ServiceTotals {
            busy: now.busy - then.busy,
            present: now.present - then.present,
            waits_ns: now.waits_ns - then.waits_ns,
            started: now.started - then.started,
            wasted: now.wasted - then.wasted,
            ..*now
        }
    }

    /// All of a node's latencies since the warm-up, to the bucket, with errors and number ended.
    pub(crate) fn node_totals(&self, node: usize) -> (&Histogram, u64, u64) {
        let n = &self.nodes[node];
        (&n.total, n.errors, n.ended)
    }

    /// Edges, for indexing `edges`.
    pub(crate) fn edge_count(&self) -> usize {
        self.edges_now.len()
    }

    /// A node in a bucket.
    #[inline]
    pub(crate) fn step(&self, bucket: usize, node: usize) -> &NodeStep {
        &self.steps[bucket * self.nodes.len() + node]
    }

    /// Closes the bucket that ends now; `depth(node)` is the depth of its deepest queue at this moment.
    pub(crate) fn close_bucket(&mut self, depth: impl Fn(usize) -> u32) {
        let closing = self.system.len();
        let counts = closing as u64 * BUCKET_NS >= self.warm_up;
        for (i, node) in self.nodes.iter_mut().enumerate() {
            let slot = closing % WIDE_BUCKETS;
            for &latency in &node.latencies[slot] {
                node.window.add(latency);
                node.wide.add(latency);
                if counts {
                    node.total.add(latency);
                }
            }
            if let Some(impact) = self.impact.get_mut(i)
                && self.impact_buckets.contains(&closing)
            {
                node.latencies[slot].iter().for_each(|&latency| impact.add(latency));
            }
            if counts {
                node.errors += u64::from(node.step.errors);
                node.ended += u64::from(node.step.ended);
            }
            let mut step = node.step;
            step.p99 = node.window.quantile_bucket(990).unwrap_or(NO_P99);
            step.p50 = if self.series { node.window.quantile_bucket(500).unwrap_or(NO_P99) } else { NO_P99 };
            step.p99_wide = node.wide.quantile_bucket(990).unwrap_or(NO_P99);
            self.steps.push(step);
            node.step = NodeStep { queue: depth(i), in_flight: node.in_flight, ..NodeStep::default() };
            // What the next bucket's windows no longer hold.
            let leaves_window = (closing + 1 + WIDE_BUCKETS - WINDOW_BUCKETS) % WIDE_BUCKETS;
            for &latency in &node.latencies[leaves_window] {
                node.window.remove(latency);
            }
            let leaves_wide = (closing + 1) % WIDE_BUCKETS;
            let mut latencies = std::mem::take(&mut node.latencies[leaves_wide]);
            for &latency in &latencies {
                node.wide.remove(latency);
            }
            latencies.clear();
            node.latencies[leaves_wide] = latencies;
        }
        self.system.push(self.system_now);
        self.system_now = SystemStep { users: self.system_now.users, surged: self.system_now.surged, ..SystemStep::default() };
        if self.series {
            self.edges.extend_from_slice(&self.edges_now);
            self.edges_now.fill(EdgeStep::default());
        }
        self.bucket_end += BUCKET_NS;
    }

    /// A request has reached a station.
    #[inline]
    pub(crate) fn arrived(&mut self, node: u32, now: u64) {
        self.present_changed(node - self.entries as u32, node, now, 1);
    }

    /// A request that had reached a station has left it. `late`: its caller had gone before.
    #[inline]
    pub(crate) fn left(&mut self, node: u32, now: u64, arrived_at: u64, how: Left, late: bool) {
        let service = node - self.entries as u32;
        self.present_changed(service, node, now, -1);
        if how != Left::Killed {
            self.node_ended(node, Some(now - arrived_at), how != Left::Answered);
        }
        if late && matches!(how, Left::Answered | Left::Failed) {
            self.wasted(service);
        }
    }

    /// A connection to a node was refused or reset: it has ended with an error, without a latency.
    #[inline]
    pub(crate) fn connection_error(&mut self, node: u32) {
        self.node_ended(node, None, true);
    }

    /// A request has got a worker, after it `waited` for one.
    #[inline]
    pub(crate) fn worker_taken(&mut self, node: u32, now: u64, waited: u64) {
        let service = node - self.entries as u32;
        self.busy_changed(service, now, 1);
        self.waited(service, waited);
    }

    /// A worker is free again.
    #[inline]
    pub(crate) fn worker_freed(&mut self, node: u32, now: u64) {
        self.busy_changed(node - self.entries as u32, now, -1);
    }

    /// Whether no more user requests can be told apart, so that the run has to end (asked where the slabs' limits are).
    pub(crate) fn is_full(&self) -> bool {
        self.users.len().max(self.surged.len()) >= super::SURGE as usize - 1
    }

    /// In debug builds, just before a bucket is closed: holds the books against the requests that are there (node, arrived at).
    #[cfg(debug_assertions)]
    pub(crate) fn audit(&mut self, _live: impl Iterator<Item = (u32, u64)>) {}

    /// An answer was given although a callee had failed.
    #[inline]
    pub(crate) fn degraded(&mut self, _node: u32) {}

    /// A topic has taken a message (one it refuses arrives and leaves, too).
    #[inline]
    pub(crate) fn message_arrived(&mut self, node: u32, _now: u64) {
        self.node_in_flight(node, 1);
    }

    /// A message has left its topic: acknowledged (`Answered`), given up (`Failed`), not taken (`Refused`), dropped to make room (`Shed`),
    /// lost with its broker (`Killed`). The first two have a latency.
    #[inline]
    pub(crate) fn message_left(&mut self, node: u32, now: u64, published_at: u64, how: Left) {
        self.node_in_flight(node, -1);
        let latency = matches!(how, Left::Answered | Left::Failed).then(|| now - published_at);
        self.node_ended(node, latency, how != Left::Answered);
    }

    /// A message is delivered again.
    #[inline]
    pub(crate) fn redelivered(&mut self, _node: u32) {}

    /// A message has used up its deliveries.
    #[inline]
    pub(crate) fn dead_letter(&mut self, _node: u32) {}

    /// A consumer applied an older update after a newer one.
    #[inline]
    pub(crate) fn stale_write(&mut self, _node: u32) {}

    /// A consumer applied the same message twice.
    #[inline]
    pub(crate) fn duplicate_effect(&mut self, _node: u32) {}

    /// A message vanished before it reached its topic (one lost with its broker leaves as `Killed`).
    #[inline]
    pub(crate) fn message_lost(&mut self, _node: u32) {}

    fn node_ended(&mut self, node: u32, latency: Option<u64>, error: bool) {
        let n = &mut self.nodes[node as usize];
        n.step.ended += 1;
        n.step.errors += u32::from(error);
        if let Some(latency) = latency {
            n.latencies[self.system.len() % WIDE_BUCKETS].push(bucket_of(latency));
        }
    }

    #[inline]
    pub(crate) fn node_timeout(&mut self, node: u32) {
        self.nodes[node as usize].step.timeouts += 1;
    }

    #[inline]
    fn node_in_flight(&mut self, node: u32, change: i32) {
        let n = &mut self.nodes[node as usize];
        n.in_flight = n.in_flight.wrapping_add_signed(change);
        n.step.in_flight = n.step.in_flight.max(n.in_flight);
    }

    #[inline]
    pub(crate) fn queue_depth(&mut self, node: u32, depth: u32) {
        let step = &mut self.nodes[node as usize].step;
        step.queue = step.queue.max(depth);
    }

    #[inline]
    pub(crate) fn attempt(&mut self, edge: u32, inner: bool, again: bool) {
        if inner {
            self.system_now.attempts += 1;
            self.system_now.first_attempts += u32::from(!again);
        }
        if self.series {
            let e = &mut self.edges_now[edge as usize];
            e.attempts += 1;
            e.retries += u32::from(again);
        }
    }

    #[inline]
    pub(crate) fn attempt_failed(&mut self, edge: u32, cause: Cause) {
        if self.series {
            self.edges_now[edge as usize].failures += 1;
        }
        if self.counting
            && let Some(totals) = self.totals.get_mut(edge as usize)
        {
            totals.causes[cause as usize] += 1;
        }
    }

    /// A call, all its tries together, is over.
    #[inline]
    pub(crate) fn call_ended(&mut self, edge: u32, latency: u64, attempt: u16, failed: bool) {
        if self.counting
            && let Some(totals) = self.totals.get_mut(edge as usize)
        {
            totals.requests += 1;
            totals.attempts += u64::from(attempt) + 1;
            totals.errors += u64::from(failed);
            totals.sum_ns += u128::from(latency);
            totals.latencies.add(bucket_of(latency));
        }
    }

    #[inline]
    fn busy_changed(&mut self, service: u32, now: u64, change: i32) {
        let s = &mut self.services[service as usize];
        s.busy += u128::from(s.busy_now) * u128::from(now - s.busy_since);
        s.busy_since = now;
        s.busy_now = s.busy_now.wrapping_add_signed(change);
    }

    #[inline]
    fn present_changed(&mut self, service: u32, node: u32, now: u64, change: i32) {
        let s = &mut self.services[service as usize];
        s.present += u128::from(s.present_now) * u128::from(now - s.present_since);
        s.present_since = now;
        s.present_now = s.present_now.wrapping_add_signed(change);
        self.node_in_flight(node, change);
    }

    #[inline]
    fn waited(&mut self, service: u32, wait: u64) {
        let s = &mut self.services[service as usize];
        s.waits_ns += u128::from(wait);
        s.started += 1;
    }

    #[inline]
    fn wasted(&mut self, service: u32) {
        self.services[service as usize].wasted += 1;
        self.system_now.wasted += 1;
    }

    /// A user request arrives; returns its number.
    #[inline]
    pub(crate) fn user_arrived(&mut self, entry: u32, surge: bool) -> u32 {
        if surge {
            self.system_now.surged += 1;
            self.surged.push(UNFINISHED);
            self.surged_entries.push(entry as u16);
            (self.surged.len() as u32 - 1) | super::SURGE
        } else {
            self.system_now.users += 1;
            self.users.push(UNFINISHED);
            self.user_entries.push(entry as u16);
            self.users.len() as u32 - 1
        }
    }

    fn user(&mut self, number: u32) -> &mut u32 {
        if number & super::SURGE == 0 {
            &mut self.users[number as usize]
        } else {
            &mut self.surged[(number & !super::SURGE) as usize]
        }
    }

    /// The `nth` request of one of an entry's `users` who wait for their answers arrives; returns its number.
    #[inline]
    pub(crate) fn user_arrived_nth(&mut self, _entry: u32, _user: u32, _nth: u32, _users: u32) -> u32 {
        unimplemented!("numbered by user")
    }

    /// A user request is over.
    #[inline]
    pub(crate) fn user_ended(&mut self, number: u32, entry_node: u32, latency: u64, failed: bool) {
        self.node_ended(entry_node, Some(latency), failed);
        *self.user(number) = if failed { FAILED } else { (latency / 1_000).min(u64::from(SLOWEST)) as u32 };
    }

    /// A user request that is not done at the end of the run has lasted this long.
    pub(crate) fn user_unfinished(&mut self, number: u32, lasted: u64) {
        *self.user(number) = (lasted / 1_000).min(u64::from(SLOWEST)) as u32;
    }

    /// A user request met a faulted target.
    pub(crate) fn touch(&mut self, number: u32) {
        if number & super::SURGE == 0 {
            let word = number as usize / 64;
            if self.touched.len() <= word {
                self.touched.resize(word + 1, 0);
            }
            self.touched[word] |= 1 << (number % 64);
        }
    }

    /// Whether it did. Those that a surge added always did.
    pub(crate) fn was_touched(&self, number: u32) -> bool {
        number & super::SURGE != 0 || self.touched.get(number as usize / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
}
