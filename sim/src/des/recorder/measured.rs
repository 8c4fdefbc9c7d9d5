//! What has been measured, for those who read it when a run is over, and for a run that has become its twin again.
//!
//! You are here: `sim::des::recorder::measured`.

use super::*;

/// What was measured.
impl Recorder {
    /// Buckets closed: the number of the next.
    pub(crate) fn closed(&self) -> usize {
        self.bucket
    }

    /// The buckets whose steps it holds itself.
    pub(crate) fn own_buckets(&self) -> std::ops::Range<usize> {
        self.base..self.base + self.system.len()
    }

    /// A node in one of them.
    #[inline]
    pub(crate) fn step(&self, bucket: usize, node: usize) -> &NodeStep {
        &self.steps[(bucket - self.base) * self.nodes.len() + node]
    }

    /// The whole system in each of them.
    pub(crate) fn system(&self) -> &[SystemStep] {
        &self.system
    }

    /// Each edge in each bucket (`[bucket * edges + edge]`), and how many edges there are; nothing unless series are kept.
    pub(crate) fn edges(&self) -> (&[EdgeStep], usize) {
        (&self.edges, self.edges_now.len())
    }

    pub(crate) fn users(&self) -> &Users {
        &self.users
    }

    /// What a node has ended since the warm-up; not in forks.
    pub(crate) fn node_totals(&self, node: usize) -> &NodeTotals {
        &self.totals[node]
    }

    /// Gives the histograms back.
    pub(crate) fn drop_totals(&mut self) {
        self.totals = Vec::new();
    }

    /// A node's sums since the warm-up; not in forks.
    pub(crate) fn node_sums(&self, node: usize) -> NodeSums {
        self.sums[node].since(&self.sums_at_warm_up[node])
    }

    /// Calls over an edge since the warm-up, if they were watched.
    pub(crate) fn edge_totals(&self, edge: usize) -> Option<&EdgeTotals> {
        self.edge_totals.get(edge)
    }

    /// The nearest-rank p99 of an entry's latencies in the buckets that were asked for, as a histogram bucket.
    pub(crate) fn impact_p99(&self, entry: usize) -> u16 {
        let of_entry = self.impact.iter().filter(|&&l| (l >> 16) as usize == entry);
        let mut latencies: Vec<u16> = of_entry.map(|&l| l as u16).collect();
        latencies.sort_unstable();
        Window::new(0..=0, |_| &latencies).quantile(990)
    }

    /// The run is over: what only served to go on is given back.
    pub(crate) fn end(&mut self, now: u64) {
        self.settle(now);
        self.flush_edges();
        self.latencies = Latencies::default();
    }

    /// Moves the steps out: `[bucket * nodes + node]`.
    pub(crate) fn take_steps(&mut self) -> Vec<NodeStep> {
        std::mem::take(&mut self.steps)
    }

    /// From here on the run is its twin: takes over how the twin's user requests end (those `open` now, and all later ones), and adds the
    /// buckets whose windows reach back to before now. `step` gives the twin's steps, of which there are `buckets`.
    pub(crate) fn splice(
        &mut self,
        twin: &Recorder,
        buckets: usize,
        step: impl Fn(usize, usize) -> NodeStep,
        open: impl Iterator<Item = u32>,
    ) {
        let seam = self.bucket;
        assert!(self.latencies.running().next().is_none(), "a seam lies between two buckets");
        let own = std::mem::take(&mut self.latencies);
        let of = |bucket, node| if bucket < seam { own.of(bucket, node) } else { twin.history.of(bucket, node) };
        for bucket in seam..(seam + WIDE_BUCKETS - 1).min(buckets) {
            for node in 0..self.nodes.len() {
                let window = |width: usize| Window::new((bucket + 1).saturating_sub(width)..=bucket, |b| of(b, node));
                let p99_wide = if self.wide[node] { window(WIDE_BUCKETS).quantile(990) } else { NO_LATENCY };
                self.steps.push(NodeStep { p99: window(WINDOW_BUCKETS).quantile(990), p99_wide, ..step(bucket, node) });
            }
            self.system.push(twin.system[bucket]);
        }
        for bucket in seam.max(self.impact_buckets.start)..self.impact_buckets.end.min(buckets) {
            for entry in 0..self.entries {
                self.impact.extend(twin.history.of(bucket, entry).iter().map(|&latency| logged(entry, latency)));
            }
        }
        self.users.splice(&twin.users, open);
        self.bucket = buckets;
    }
}
