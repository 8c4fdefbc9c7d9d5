//! One node of a run, bucket by bucket: what verdicts look at through windows.
//!
//! You are here: `sim::column`. `twin` keeps the columns of fault-free runs, `verdict` reads those of the others.
//! Always true: a window's sums cost the same however wide it is.

use models::metrics::bucket_middle_ns;

use crate::des::{NO_LATENCY, NodeStep, WINDOW_BUCKETS};
use crate::run::Finished;

/// The steps of a node from some bucket on.
#[derive(Debug, Default)]
pub(crate) struct Column {
    first: usize,
    pub(crate) steps: Vec<NodeStep>,
    /// `sums[i]`: (ended, errors) of the steps before `steps[i]`, modulo 2^32 (a window's own sums are far below).
    sums: Vec<(u32, u32)>,
}

impl Column {
    /// Of these steps, the first of which is that of bucket `first`.
    pub(crate) fn new(first: usize, steps: Vec<NodeStep>) -> Column {
        let mut column = Column { first, steps, sums: Vec::new() };
        column.sum_up();
        column
    }

    /// Becomes that of a node of a run, from a bucket on.
    pub(crate) fn read(&mut self, run: &Finished, node: usize, buckets: std::ops::Range<usize>) {
        self.first = buckets.start;
        self.steps.clear();
        run.read_steps(node, buckets, &mut self.steps);
        self.sum_up();
    }

    fn sum_up(&mut self) {
        self.sums.clear();
        let mut sum = (0u32, 0u32);
        self.sums.push(sum);
        for step in &self.steps {
            sum = (sum.0.wrapping_add(step.ended), sum.1.wrapping_add(step.errors));
            self.sums.push(sum);
        }
    }

    /// A bucket's step.
    #[inline]
    pub(crate) fn step(&self, bucket: usize) -> &NodeStep {
        &self.steps[bucket - self.first]
    }

    /// It, seen through windows of that many buckets.
    pub(crate) fn windows(&self, buckets: usize) -> Windows<'_> {
        Windows { column: self, buckets }
    }
}

/// A node, window by window. A window is named by its last bucket; the first ones are cut off where the run begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows<'a> {
    column: &'a Column,
    pub(crate) buckets: usize,
}

impl Windows<'_> {
    #[inline]
    fn first(&self, last: usize) -> usize {
        (last + 1).saturating_sub(self.buckets)
    }

    /// (ended, errors).
    #[inline]
    pub(crate) fn counts(&self, last: usize) -> (u64, u64) {
        let sums = &self.column.sums;
        let (before, after) = (sums[self.first(last) - self.column.first], sums[last + 1 - self.column.first]);
        (u64::from(after.0.wrapping_sub(before.0)), u64::from(after.1.wrapping_sub(before.1)))
    }

    /// p99 as a histogram bucket; [`NO_LATENCY`] without a latency.
    #[inline]
    pub(crate) fn p99(&self, last: usize) -> u16 {
        let step = self.column.step(last);
        if self.buckets == WINDOW_BUCKETS { step.p99 } else { step.p99_wide }
    }

    /// p99 in ms; `None` without a latency.
    pub(crate) fn p99_ms(&self, last: usize) -> Option<f64> {
        in_ms(self.p99(last))
    }

    /// Error rate, where a node that answers nothing while its callers time out fails wholly; `None` where nothing can be said.
    pub(crate) fn error_rate(&self, last: usize) -> Option<f64> {
        let (ended, errors) = self.counts(last);
        if ended > 0 {
            return Some(errors as f64 / ended as f64);
        }
        let timeouts: u32 = (self.first(last)..=last).map(|b| self.column.step(b).timeouts).sum();
        (timeouts >= 3).then_some(1.0)
    }

    /// Nothing leaves although there is something to do all the time.
    pub(crate) fn stalled(&self, last: usize) -> bool {
        self.counts(last).0 == 0 && (self.first(last)..=last).all(|b| self.column.step(b).queue > 0)
    }
}

/// The middle of a histogram bucket in ms; `None` for [`NO_LATENCY`].
pub(crate) fn in_ms(bucket: u16) -> Option<f64> {
    (bucket != NO_LATENCY).then(|| bucket_middle_ns(bucket) as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::des::WIDE_BUCKETS;

    fn step(ended: u32, errors: u32, timeouts: u32, queue: u32) -> NodeStep {
        NodeStep { ended, errors, timeouts, queue, p99: 100, p99_wide: NO_LATENCY, ..NodeStep::default() }
    }

    #[test]
    fn windows_sum_their_buckets_and_no_others() {
        let column = Column::new(3, (0..30).map(|b| step(b, b / 2, 0, 0)).collect());
        // Buckets 20 to 23 hold steps 17 to 20.
        assert_eq!(column.windows(WINDOW_BUCKETS).counts(23), (17 + 18 + 19 + 20, 8 + 9 + 9 + 10));
        assert_eq!(column.windows(WIDE_BUCKETS).counts(32), ((10..30).sum(), (10..30).map(|b| b / 2).sum()));
        let from_the_start = Column::new(0, (0..30).map(|b| step(b, 0, 0, 0)).collect());
        assert_eq!(from_the_start.windows(WIDE_BUCKETS).counts(2), (3, 0), "cut off where the run begins");
    }

    #[test]
    fn silence_with_timeouts_is_failure_and_silence_with_a_queue_is_a_stall() {
        let rate = |steps: Vec<NodeStep>| Column::new(0, steps).windows(WINDOW_BUCKETS).error_rate(3);
        assert_eq!(rate(vec![step(0, 0, 1, 0); 4]), Some(1.0));
        assert_eq!(rate(vec![step(0, 0, 0, 0); 4]), None);
        assert_eq!(rate(vec![step(5, 1, 9, 0); 4]), Some(0.2));
        let stalled = |steps: Vec<NodeStep>| Column::new(0, steps).windows(WINDOW_BUCKETS).stalled(3);
        assert!(stalled(vec![step(0, 0, 0, 2); 4]));
        assert!(!stalled(vec![step(0, 0, 0, 2), step(0, 0, 0, 0), step(0, 0, 0, 1), step(0, 0, 0, 1)]));
        assert!(!stalled(vec![step(1, 0, 0, 2); 4]));
    }

    #[test]
    fn each_width_has_its_own_p99() {
        let column = Column::new(0, vec![step(1, 0, 0, 0); 4]);
        assert_eq!(column.windows(WINDOW_BUCKETS).p99_ms(3), in_ms(100));
        assert_eq!(column.windows(WIDE_BUCKETS).p99_ms(3), None);
    }
}
