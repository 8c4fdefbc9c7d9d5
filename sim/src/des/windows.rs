//! The latencies of the last buckets, and quantiles of windows of them.
//!
//! You are here: `sim::des::windows`. `recorder` writes one number an answer; when a bucket closes they are sorted by node and latency, so
//! that a window's quantile is picked from a few sorted runs: exactly the nearest rank, as [`models::metrics::Histogram`] would give it.
//! Always true: a bucket's latencies of a node are in ascending order. Nothing older than the longest window is kept, unless asked for.

/// Buckets of the window that breaches are judged by (1 s).
pub(crate) const WINDOW_BUCKETS: usize = 4;
/// Buckets of the wide window: recovery, and breaches where the narrow one has too few samples (5 s).
pub(crate) const WIDE_BUCKETS: usize = 20;
/// No latency in the window.
pub(crate) const NO_LATENCY: u16 = u16::MAX;
/// Up to here a rank is counted off from the top; beyond, it is searched for.
const COUNTED_OFF: u64 = 48;

/// Latencies (as histogram buckets) by bucket of time and node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies {
    nodes: usize,
    /// Of the running bucket, in the order in which they came: node << 16 | latency.
    log: Vec<u32>,
    /// Of the buckets from `first` on: by bucket, node, latency.
    sorted: Vec<u16>,
    /// `bounds[(bucket - first) * nodes + node]`: where a node's latencies begin in `sorted`; they end where the next one's begin.
    bounds: Vec<u32>,
    first: usize,
    /// For sorting: where the next latency of each node goes.
    places: Vec<u32>,
}

impl Latencies {
    pub(crate) fn new(nodes: usize) -> Self {
        Latencies { nodes, places: vec![0; nodes], ..Latencies::default() }
    }

    /// The same for a run that goes on from here: the running bucket, and those that its windows reach back to.
    pub(crate) fn fork(&self) -> Self {
        let first = self.end().saturating_sub(WIDE_BUCKETS - 1).max(self.first);
        let skipped = (first - self.first) * self.nodes;
        let start = self.bounds.get(skipped).map_or(self.sorted.len(), |&b| b as usize);
        let mut sorted = Vec::with_capacity(2 * (self.sorted.len() - start));
        sorted.extend_from_slice(&self.sorted[start..]);
        let mut bounds = Vec::with_capacity(2 * WIDE_BUCKETS * self.nodes);
        bounds.extend(self.bounds[skipped..].iter().map(|b| b - start as u32));
        Latencies { nodes: self.nodes, log: self.log.clone(), sorted, bounds, first, places: vec![0; self.nodes] }
    }

    /// A node has ended something after this long.
    #[inline]
    pub(crate) fn add(&mut self, node: u32, latency: u16) {
        self.log.push(node << 16 | u32::from(latency));
    }

    /// Those of the running bucket: (node, latency).
    pub(crate) fn running(&self) -> impl Iterator<Item = (usize, u16)> {
        self.log.iter().map(|&entry| ((entry >> 16) as usize, entry as u16))
    }

    /// Forgets those of the running bucket.
    pub(crate) fn clear(&mut self) {
        self.log.clear();
    }

    /// The bucket after the last closed one.
    pub(crate) fn end(&self) -> usize {
        self.first + self.bounds.len() / self.nodes.max(1)
    }

    /// Closes the running bucket.
    pub(crate) fn close(&mut self) {
        self.forget();
        self.places.fill(0);
        for &entry in &self.log {
            self.places[(entry >> 16) as usize] += 1;
        }
        let start = self.sorted.len() as u32;
        let mut place = start;
        for count in &mut self.places {
            self.bounds.push(place);
            place += std::mem::replace(count, place);
        }
        self.sorted.resize(place as usize, 0);
        for entry in self.log.drain(..) {
            let place = &mut self.places[(entry >> 16) as usize];
            self.sorted[*place as usize] = entry as u16;
            *place += 1;
        }
        // Now each place is where its node's latencies end.
        let mut begin = start as usize;
        for &end in &self.places {
            self.sorted[begin..end as usize].sort_unstable();
            begin = end as usize;
        }
    }

    /// Drops what no window reaches any more, once it is as much as what is left.
    fn forget(&mut self) {
        let least = (self.end() + 1).saturating_sub(WIDE_BUCKETS);
        let old = least.saturating_sub(self.first);
        if old >= WIDE_BUCKETS {
            let start = self.bounds.get(old * self.nodes).map_or(self.sorted.len(), |&b| b as usize);
            self.sorted.drain(..start);
            self.bounds.drain(..old * self.nodes);
            self.bounds.iter_mut().for_each(|b| *b -= start as u32);
            self.first = least;
        }
    }

    /// What a node has in a bucket, in ascending order; nothing outside the buckets that are kept.
    pub(crate) fn of(&self, bucket: usize, node: usize) -> &[u16] {
        if bucket < self.first || bucket >= self.end() {
            return &[];
        }
        let at = (bucket - self.first) * self.nodes + node;
        let end = self.bounds.get(at + 1).map_or(self.sorted.len(), |&b| b as usize);
        &self.sorted[self.bounds[at] as usize..end]
    }

    /// How many there are of a bucket.
    pub(crate) fn count(&self, bucket: usize) -> usize {
        (0..self.nodes).map(|node| self.of(bucket, node).len()).sum()
    }
}

/// The latencies of some buckets, kept for good.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// In ascending order.
    buckets: Vec<Kept>,
}

#[derive(Clone, Debug)]
struct Kept {
    bucket: usize,
    /// Where each node's latencies end in `sorted`.
    ends: Box<[u32]>,
    sorted: Box<[u16]>,
}

impl History {
    /// Keeps a bucket, which is later than those that are kept.
    pub(crate) fn keep(&mut self, latencies: &Latencies, bucket: usize) {
        let mut sorted = Vec::with_capacity(latencies.count(bucket));
        let ends = (0..latencies.nodes).map(|node| {
            sorted.extend_from_slice(latencies.of(bucket, node));
            sorted.len() as u32
        });
        let ends = ends.collect();
        self.buckets.push(Kept { bucket, ends, sorted: sorted.into() });
    }

    /// What a node had in a bucket, in ascending order; nothing if it was not kept.
    pub(crate) fn of(&self, bucket: usize, node: usize) -> &[u16] {
        let Ok(at) = self.buckets.binary_search_by_key(&bucket, |kept| kept.bucket) else { return &[] };
        let Kept { ends, sorted, .. } = &self.buckets[at];
        let start = node.checked_sub(1).map_or(0, |before| ends[before] as usize);
        &sorted[start..ends[node] as usize]
    }
}

/// The latencies of one node in a window: up to [`WIDE_BUCKETS`] sorted runs.
pub(crate) struct Window<'a> {
    runs: [&'a [u16]; WIDE_BUCKETS],
    /// Runs that are not empty.
    filled: usize,
    total: usize,
}

impl<'a> Window<'a> {
    /// Of the buckets that `of` gives, one run each.
    #[inline]
    pub(crate) fn new(buckets: std::ops::RangeInclusive<usize>, of: impl Fn(usize) -> &'a [u16]) -> Self {
        let mut window = Window { runs: [&[]; WIDE_BUCKETS], filled: 0, total: 0 };
        for bucket in buckets {
            let run = of(bucket);
            if !run.is_empty() {
                window.runs[window.filled] = run;
                window.filled += 1;
                window.total += run.len();
            }
        }
        window
    }

    /// The nearest-rank quantile (rank = ceil(p x n), p in per mille); [`NO_LATENCY`] if there is none.
    #[inline]
    pub(crate) fn quantile(mut self, per_mille: u64) -> u16 {
        let total = self.total as u64;
        let rank = (total * per_mille).div_ceil(1000).max(1);
        // How many lie above the one looked for.
        let Some(above) = total.checked_sub(rank) else { return NO_LATENCY };
        if above > COUNTED_OFF {
            return self.search(above as usize);
        }
        for _ in 0..above {
            let (highest, _) = self.highest();
            let run = &mut self.runs[highest];
            *run = &run[..run.len() - 1];
            if run.is_empty() {
                self.filled -= 1;
                self.runs.swap(highest, self.filled);
            }
        }
        self.highest().1
    }

    /// The run that ends with the highest latency, and that.
    #[inline]
    fn highest(&self) -> (usize, u16) {
        let mut highest = (0, 0);
        for (i, run) in self.runs[..self.filled].iter().enumerate() {
            let last = run[run.len() - 1];
            if last >= highest.1 {
                highest = (i, last);
            }
        }
        highest
    }

    /// The least latency that no more than `above` exceed.
    fn search(&self, above: usize) -> u16 {
        let (mut low, mut high) = (0, self.highest().1);
        while low < high {
            let middle = low + (high - low) / 2;
            let exceed: usize =
                self.runs[..self.filled].iter().map(|run| run.len() - run.partition_point(|&latency| latency <= middle)).sum();
            if exceed <= above { high = middle } else { low = middle + 1 }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use models::metrics::Histogram;
    use models::rng::{Key, Purpose, below};

    fn draw(n: u32, use_: u32, below_: u64) -> u64 {
        below(Key(u64::from(n)).draw(Purpose::Work, use_), below_)
    }

    /// Random latencies of three nodes over many buckets: seldom, often, in bursts, with long silences.
    #[test]
    fn quantiles_are_those_of_a_histogram_of_the_same_window() {
        let mut latencies = Latencies::new(3);
        let mut kept: Vec<Vec<(usize, u16)>> = Vec::new();
        for bucket in 0..300u32 {
            let mut here = Vec::new();
            for node in 0..3u32 {
                let most = [3, 400, if bucket % 40 < 30 { 0 } else { 3_000 }][node as usize];
                for n in 0..draw(bucket, node, most + 1) as u32 {
                    let spread = [1664, 200, 3][node as usize];
                    let latency = draw(bucket * 3 + node, n + 10, spread) as u16;
                    latencies.add(node, latency);
                    here.push((node as usize, latency));
                }
            }
            assert!(latencies.running().eq(here.iter().copied()));
            latencies.close();
            kept.push(here);
            for node in 0..3 {
                for width in [WINDOW_BUCKETS, WIDE_BUCKETS] {
                    let last = bucket as usize;
                    let first = (last + 1).saturating_sub(width);
                    let mut histogram = Histogram::default();
                    kept[first..=last].iter().flatten().filter(|l| l.0 == node).for_each(|l| histogram.add(l.1));
                    for per_mille in [1, 500, 900, 990, 1000] {
                        let window = Window::new(first..=last, |b| latencies.of(b, node));
                        assert_eq!(
                            window.quantile(per_mille),
                            histogram.quantile_bucket(per_mille).unwrap_or(NO_LATENCY),
                            "node {node}, {width} buckets to {last}, {per_mille}"
                        );
                    }
                }
            }
        }
        assert!(latencies.bounds.len() <= 3 * 2 * WIDE_BUCKETS, "older ones are forgotten");
    }

    #[test]
    fn a_fork_has_what_its_windows_reach_back_to() {
        let mut latencies = Latencies::new(2);
        for bucket in 0..50u16 {
            latencies.add(1, bucket);
            latencies.add(0, 100 + bucket);
            latencies.add(1, 60 - bucket);
            latencies.close();
        }
        latencies.add(1, 7);
        let mut fork = latencies.fork();
        assert_eq!((fork.end(), fork.sorted.len()), (50, 3 * (WIDE_BUCKETS - 1)));
        fork.close();
        latencies.close();
        for bucket in 51 - WIDE_BUCKETS..=50 {
            for node in 0..2 {
                assert_eq!(fork.of(bucket, node), latencies.of(bucket, node), "{bucket}");
            }
        }
        assert_eq!(fork.of(50, 1), [7]);
        assert_eq!((fork.of(20, 1), fork.of(51, 1)), ([].as_slice(), [].as_slice()));
    }

    #[test]
    fn buckets_can_be_kept_for_good() {
        let (mut latencies, mut history) = (Latencies::new(2), History::default());
        for bucket in 0..200u16 {
            latencies.add(1, bucket);
            latencies.add(1, bucket - bucket % 2);
            latencies.close();
            if bucket % 50 >= 30 {
                history.keep(&latencies, usize::from(bucket));
            }
        }
        assert_eq!(
            [29, 30, 199, 149, 150].map(|b| history.of(b, 1).to_vec()),
            [vec![], vec![30, 30], vec![198, 199], vec![148, 149], vec![]]
        );
        assert_eq!((history.of(30, 0), latencies.count(199)), ([].as_slice(), 2));
    }
}
