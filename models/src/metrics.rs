//! The latency histogram: log-linear buckets, relative error below 1 %.
//!
//! You are here: `models::metrics`. Engines record latencies, window by window; reports read quantiles.
//! Always true: counts are integers, so merging is exact and in any order.

/// Latencies are counted in units of 2^12 ns (4.096 us).
const UNIT_SHIFT: u32 = 12;
/// 64 buckets an octave; below two octaves of them each unit has a bucket of its own.
const SUB_BITS: u32 = 6;
/// Latencies from 2^43 ns (2.4 hours) on share the last bucket.
const MAX_BITS: u32 = 43 - UNIT_SHIFT;
/// Buckets of a histogram.
pub const BUCKETS: usize = ((MAX_BITS - SUB_BITS + 1) as usize) << SUB_BITS;

/// The bucket of a latency in nanoseconds.
#[inline]
pub fn bucket_of(latency_ns: u64) -> u16 {
    let units = (latency_ns >> UNIT_SHIFT).min((1 << MAX_BITS) - 1);
    let octave = (63 - (units | 1).leading_zeros()).saturating_sub(SUB_BITS);
    ((octave << SUB_BITS) + (units >> octave) as u32) as u16
}

/// The middle of a bucket, in nanoseconds.
#[inline]
pub fn bucket_middle_ns(bucket: u16) -> u64 {
    let octave = (u32::from(bucket) >> SUB_BITS).saturating_sub(1);
    let units = u64::from(u32::from(bucket) - (octave << SUB_BITS)) << octave;
    (units << UNIT_SHIFT) + (1 << (octave + UNIT_SHIFT - 1))
}

/// A histogram of latencies. It holds the octaves between its least and its greatest alone: what is measured seldom spans many, and thousands of histograms
/// are to lie close together in memory.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// Of the buckets from `first` on: whole octaves.
    counts: Box<[u32]>,
    first: u32,
}

impl Histogram {
    /// Counts one latency by its bucket.
    #[inline]
    pub fn add(&mut self, bucket: u16) {
        let at = u32::from(bucket).wrapping_sub(self.first) as usize;
        match self.counts.get_mut(at) {
            Some(count) => *count += 1,
            None => {
                self.reach(u32::from(bucket));
                self.counts[(u32::from(bucket) - self.first) as usize] += 1;
            }
        }
    }

    /// Takes back one latency that was counted before.
    #[inline]
    pub fn remove(&mut self, bucket: u16) {
        self.counts[(u32::from(bucket) - self.first) as usize] -= 1;
    }

    /// Adds all of another's counts.
    pub fn merge(&mut self, other: &Histogram) {
        if other.counts.is_empty() {
            return;
        }
        self.reach(other.first);
        self.reach(other.end() - 1);
        let at = (other.first - self.first) as usize;
        for (mine, theirs) in self.counts[at..].iter_mut().zip(other.counts.iter()) {
            *mine += theirs;
        }
    }

    /// Makes room for a bucket.
    #[cold]
    #[inline(never)]
    fn reach(&mut self, bucket: u32) {
        let octave = bucket >> SUB_BITS << SUB_BITS;
        let (first, end) = if self.counts.is_empty() {
            (octave, octave + (1 << SUB_BITS))
        } else {
            (self.first.min(octave), self.end().max(octave + (1 << SUB_BITS)))
        };
        let mut counts = vec![0; (end - first) as usize].into_boxed_slice();
        let at = self.first.saturating_sub(first) as usize;
        counts[at..at + self.counts.len()].copy_from_slice(&self.counts);
        (self.counts, self.first) = (counts, first);
    }

    /// The bucket after the last that it has room for.
    fn end(&self) -> u32 {
        self.first + self.counts.len() as u32
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|&count| u64::from(count)).sum()
    }

    /// The bucket of the nearest-rank quantile (rank = ceil(p x n), p in per mille); `None` if empty. Scans from the top.
    pub fn quantile_bucket(&self, per_mille: u64) -> Option<u16> {
        let total = self.total();
        let rank = (total * per_mille).div_ceil(1000).max(1);
        // How many lie above the one looked for.
        let mut above = total.checked_sub(rank)?;
        for (at, &count) in self.counts.iter().enumerate().rev() {
            if above < u64::from(count) {
                return Some((self.first + at as u32) as u16);
            }
            above -= u64::from(count);
        }
        None
    }

    /// The nearest-rank quantile in milliseconds, relative error below 1 % from 0.3 ms on; 0 if empty.
    pub fn quantile_ms(&self, per_mille: u64) -> f64 {
        self.quantile_bucket(per_mille).map_or(0.0, |bucket| bucket_middle_ns(bucket) as f64 / 1e6)
    }

    /// The buckets that hold any, and how many.
    fn held(&self) -> impl Iterator<Item = (u32, u32)> {
        (self.first..).zip(self.counts.iter().copied()).filter(|&(_, count)| count > 0)
    }
}

/// Equal if the same was counted, whatever they have room for.
impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        self.held().eq(other.held())
    }
}

impl Eq for Histogram {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_holds_its_own_middle_and_errs_by_less_than_one_per_cent() {
        for bucket in 0..BUCKETS as u16 {
            assert_eq!(bucket_of(bucket_middle_ns(bucket)), bucket);
        }
        let mut latency = 300_000.0;
        while latency < 8e12 {
            let middle = bucket_middle_ns(bucket_of(latency as u64)) as f64;
            assert!((middle / latency - 1.0).abs() < 0.01, "{latency}: {middle}");
            latency *= 1.0013;
        }
    }

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let mut histogram = Histogram::default();
        for ms in 1..=100u64 {
            histogram.add(bucket_of(ms * 1_000_000));
        }
        for (per_mille, ms) in [(500, 50.0), (990, 99.0), (1000, 100.0), (1, 1.0)] {
            assert!((histogram.quantile_ms(per_mille) / ms - 1.0).abs() < 0.01, "{per_mille}");
        }
        histogram.remove(bucket_of(100_000_000));
        assert!((histogram.quantile_ms(1000) / 99.0 - 1.0).abs() < 0.01);
        assert_eq!(Histogram::default().quantile_bucket(990), None);
    }

    #[test]
    fn merging_two_equals_counting_into_one() {
        let (mut a, mut b, mut both) = (Histogram::default(), Histogram::default(), Histogram::default());
        for i in 0..1000u64 {
            let bucket = bucket_of(i * i * 1_000);
            if i % 3 == 0 {
                a.add(bucket)
            } else {
                b.add(bucket)
            }
            both.add(bucket);
        }
        a.merge(&b);
        assert_eq!(a, both);
    }
}
