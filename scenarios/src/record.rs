//! What came of a run: the record that engines write and reports read (DESIGN.md 7.3 and 8).
//!
//! You are here: `scenarios::record`. `sim` fills records, `reports` ranks them; a saved record (one JSON line) can be
//! reported without building an engine.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// One run's outcome. A pure function of model, world, scenario, seed and horizon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// The scenario's id.
    pub scenario: String,
    /// World number; 0 = values as written.
    pub world: u32,
    /// The run's seed.
    pub seed: u64,
    /// Names the run; `foreshock replay` takes it.
    pub token: String,
    /// Fingerprint of everything that happened, 16 hex digits.
    pub digest: String,
    /// Events handled.
    pub events: u64,
    /// True if the run's budget of events ended it early.
    pub truncated: bool,
    /// End of the run, seconds.
    pub horizon_s: f64,
    /// First fault's start, seconds (without faults: the warm-up's end).
    pub start_s: f64,
    /// Last fault's end, seconds.
    pub clear_s: f64,
    /// User requests that arrived from the fault's start on.
    pub requests: u64,
    /// Of these, failed.
    pub failed: u64,
    /// Failed among the twin's in the same time.
    pub twin_failed: u64,
    /// Harmed: failed or slower than twice the twin's p99, while the same request in the twin was not.
    pub harmed: u64,
    /// Harmed, and an attempt of it met a faulted target during the fault.
    pub harmed_directly: u64,
    /// A breach by error rate outside the faults' targets.
    pub cascaded: bool,
    /// Never back in the band within the horizon, and out of it at the end.
    pub metastable: bool,
    /// Seconds from the last fault's clearing to lasting return; `None`: not within the horizon (censored there).
    pub recovery_s: Option<f64>,
    /// Since when the run was its twin again, in every queue, budget and pending event: the end of it that was not simulated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coalesced_at_s: Option<f64>,
    /// Judged nodes that breached, against the twin.
    pub breaches: Vec<Breach>,
    /// Highest error rate of a 1 s window at an entry, and the twin's over the same time.
    pub error_rate: Peak,
    /// Highest p99 of a 1 s window at an entry, ms, and the twin's over the whole run after warm-up.
    pub p99_ms: Peak,
    /// Attempts per first attempt over inner edges: highest 2 s window with at least 20 first attempts.
    pub retry_amplification_peak: f64,
    /// The same over the whole time from the fault's start on.
    pub retry_amplification_mean: f64,
    /// Deepest queue of a replica or topic from the fault's start on, and the twin's.
    pub queue_depth: Peak,
    /// Where the queue was deepest; empty if none ever stood.
    pub queue_node: String,
    /// Work that ended after its caller had given up, from the fault's start on.
    pub wasted: u64,
    /// Older updates that consumers applied after newer ones, from the fault's start on.
    #[serde(default)]
    pub stale_writes: u64,
    /// Messages that consumers applied a second time, from the fault's start on.
    #[serde(default)]
    pub duplicate_effects: u64,
    /// Messages given up after their last delivery, from the fault's start on.
    #[serde(default)]
    pub dead_letters: u64,
    /// The same run measured as a live experiment would be: against a fault-free baseline, without widening.
    pub vs_baseline: LiveMeasures,
}

/// What the engines said of the requests that a fault changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// User requests that the fault changes, by the kernel.
    pub affected: u64,
    /// Of these, with the same end (latency to the microsecond, or failure) in the hosted engine.
    pub equal: u64,
    /// Of these, succeeding in both or failing in both.
    pub same_outcome: u64,
    /// Of these, with the end that the hosted engine gives them under another scenario's fault; `None`: there is no other scenario.
    pub equal_under_another: Option<u64>,
    /// Of these, with the end that the hosted engine gives them without any fault.
    pub equal_under_none: u64,
}

/// One run in both engines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verified {
    /// The kernel's record, on the hosted engine's clock.
    pub kernel: RunRecord,
    /// The hosted engine's.
    pub hosted: RunRecord,
    /// Request by request.
    pub agreement: Agreement,
}

/// A node outside what its twin shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breach {
    /// Service, topic or entry.
    pub node: String,
    /// By error rate.
    pub by_error: bool,
    /// By p99.
    pub by_p99: bool,
    /// End of the first breaching window, seconds.
    pub first_s: f64,
}

/// The highest value a run showed, and what is normal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peak {
    /// Highest in the run, from the fault's start on.
    pub peak: f64,
    /// The fault-free twin's.
    pub baseline: f64,
}

/// The measures of a live experiment, defined as for the demo recording (`docs` of the demo data set).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveMeasures {
    /// Failed user requests beyond what the baseline's error rate would give.
    pub excess_failed: f64,
    /// The same as a share of the requests from the fault's start on.
    pub excess_failed_fraction: f64,
    /// Highest error rate of a 1 s window with at least 5 ended, over the entries.
    pub peak_entry_error_rate: f64,
    /// p99 from the fault's start to 5 s after its clearing, summed over the entries, ms.
    pub p99_ms: f64,
    /// As [`RunRecord::retry_amplification_peak`].
    pub retry_amplification: f64,
    /// Where the deepest queue stood.
    pub max_queue_node: String,
    /// How deep.
    pub max_queue_depth: u64,
    /// Seconds from clearing to the return of every entry; `None`: not within the horizon.
    pub recovery_s: Option<f64>,
    /// Not recovered and out of the band over the last 8 s.
    pub metastable: bool,
    /// A breach by error rate outside the faults' targets.
    pub cascaded: bool,
    /// Services and topics that breached.
    pub breached: Vec<String>,
}

/// The five numbers over time, for plots: one value a bucket, the first from 0 s.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Length of a bucket, ms.
    pub dt_ms: u64,
    /// Per entry, service and topic.
    pub nodes: IndexMap<String, NodeSeries>,
    /// Per edge `a->b`.
    pub edges: IndexMap<String, EdgeSeries>,
}

/// One node over time; every vector has one value a bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSeries {
    /// `entry`, `service` or `topic`.
    pub kind: String,
    /// Requests (or messages) ended.
    pub ended: Vec<u32>,
    /// Of these failed.
    pub errors: Vec<u32>,
    /// Median latency of those ended, ms; 0 where none ended.
    pub p50_ms: Vec<f32>,
    /// 99th percentile, ms; 0 where none ended.
    pub p99_ms: Vec<f32>,
    /// Deepest queue of one replica.
    pub queue: Vec<u32>,
    /// Most requests present at once, all replicas.
    pub in_flight: Vec<u32>,
}

/// One edge over time; every vector has one value a bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeSeries {
    /// Attempts sent.
    pub attempts: Vec<u32>,
    /// Of these, retries.
    pub retries: Vec<u32>,
    /// Attempts that ended in failure.
    pub failures: Vec<u32>,
}
