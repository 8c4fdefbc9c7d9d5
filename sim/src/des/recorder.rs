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
    pub(crate) causes: [u64; 5],
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

    /// A node has ended something; `latency` is `None` for a connection that was refused or reset.
    #[inline]
    pub(crate) fn node_ended(&mut self, node: u32, latency: Option<u64>, error: bool) {
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
    pub(crate) fn node_in_flight(&mut self, node: u32, change: i32) {
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
    pub(crate) fn busy_changed(&mut self, service: u32, now: u64, change: i32) {
        let s = &mut self.services[service as usize];
        s.busy += u128::from(s.busy_now) * u128::from(now - s.busy_since);
        s.busy_since = now;
        s.busy_now = s.busy_now.wrapping_add_signed(change);
    }

    #[inline]
    pub(crate) fn present_changed(&mut self, service: u32, node: u32, now: u64, change: i32) {
        let s = &mut self.services[service as usize];
        s.present += u128::from(s.present_now) * u128::from(now - s.present_since);
        s.present_since = now;
        s.present_now = s.present_now.wrapping_add_signed(change);
        self.node_in_flight(node, change);
    }

    #[inline]
    pub(crate) fn waited(&mut self, service: u32, wait: u64) {
        let s = &mut self.services[service as usize];
        s.waits_ns += u128::from(wait);
        s.started += 1;
    }

    #[inline]
    pub(crate) fn wasted(&mut self, service: u32) {
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

    pub(crate) fn user_ended(&mut self, number: u32, latency: u64, failed: bool) {
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
