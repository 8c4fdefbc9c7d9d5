//! What is kept of a node, an edge and the whole system: by bucket, and in all.
//!
//! You are here: `sim::des::recorder::steps`. Plain data; the recorder fills it.

use models::metrics::Histogram;

use super::CAUSES;

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
    /// p99 over the wide window, where it is wanted.
    pub(crate) p99_wide: u16,
}

/// One edge in one bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EdgeStep {
    pub(crate) attempts: u32,
    pub(crate) retries: u32,
    pub(crate) failures: u32,
}

/// The whole system in one bucket: all edges between services together, and what is counted nowhere else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SystemStep {
    pub(crate) first_attempts: u32,
    pub(crate) attempts: u32,
    /// Work that ended after its caller had given up.
    pub(crate) wasted: u32,
    pub(crate) dead_letters: u32,
    pub(crate) stale_writes: u32,
    pub(crate) duplicate_effects: u32,
}

/// Calls over an edge that ended after the warm-up. What each of them changes is one cache line.
#[derive(Clone, Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct EdgeTotals {
    pub(crate) sum_ns: u128,
    pub(crate) requests: u64,
    pub(crate) attempts: u64,
    pub(crate) errors: u64,
    pub(crate) latencies: Histogram,
    /// By [`Cause`].
    pub(crate) causes: [u64; CAUSES],
}

const _: () = assert!(std::mem::offset_of!(EdgeTotals, causes) <= 64);

/// What a node has ended since the warm-up, to the bucket.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeTotals {
    pub(crate) ended: u64,
    pub(crate) errors: u64,
    pub(crate) latencies: Histogram,
}

/// Sums of a node. Those over time are in nanoseconds times number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeSums {
    pub(crate) busy: u128,
    pub(crate) present: u128,
    /// Waits of those who got a worker, and how many did.
    pub(crate) waits_ns: u128,
    pub(crate) started: u64,
    pub(crate) wasted: u64,
    pub(crate) degraded: u64,
    pub(crate) redelivered: u64,
    pub(crate) dead_letters: u64,
    pub(crate) stale_writes: u64,
    pub(crate) duplicate_effects: u64,
    pub(crate) lost: u64,
    /// Deepest queue of one replica, the warm-up included.
    pub(crate) queue_peak: u32,
}

impl NodeSums {
    pub(super) fn since(&self, then: &NodeSums) -> NodeSums {
        NodeSums {
            busy: self.busy - then.busy,
            present: self.present - then.present,
            waits_ns: self.waits_ns - then.waits_ns,
            started: self.started - then.started,
            wasted: self.wasted - then.wasted,
            degraded: self.degraded - then.degraded,
            redelivered: self.redelivered - then.redelivered,
            dead_letters: self.dead_letters - then.dead_letters,
            stale_writes: self.stale_writes - then.stale_writes,
            duplicate_effects: self.duplicate_effects - then.duplicate_effects,
            lost: self.lost - then.lost,
            queue_peak: self.queue_peak,
        }
    }
}
