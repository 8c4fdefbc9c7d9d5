//! The report as plain data: what every writer shows.
//!
//! You are here: `reports::view`. `analyse` fills it; `json`, `csv`, `text`, `html` and `svg` show it and compute nothing.
//! Always true: rows are sorted by rank; every float is rounded to the six digits that files hold, so all writers agree.

use indexmap::IndexMap;
use serde_json::{Map, Value};

use crate::findings::Finding;
use crate::live::Comparison;
use crate::stats::{Estimate, Proportion};

/// All that a rehearsal showed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The rehearsed system, in numbers.
    pub system: System,
    /// Runs that the report rests on.
    pub runs: u64,
    /// Different seeds among them.
    pub seeds: u32,
    /// Different worlds among them.
    pub worlds: u32,
    /// User requests simulated from the faults' start on, all runs together.
    pub requests: u64,
    /// One row a scenario, sorted by rank.
    pub rows: Vec<Row>,
    /// What is worth saying beside the ranking.
    pub findings: Vec<Finding>,
    /// What was learned from the traces: sentences.
    pub learned: Vec<String>,
    /// What the ranking hangs on: choices of structure, then numbers that nobody measured or wrote down.
    pub assumed: Vec<Assumption>,
    /// How each judged node fares over all scenarios.
    pub nodes: IndexMap<String, NodeRisk>,
    /// The predictions beside live outcomes, if there were any.
    pub live: Option<Comparison>,
    /// The output folder's name, for the commands that are shown.
    pub folder: String,
}

/// The rehearsed system, in numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct System {
    /// Entries: name, called service, user requests per second.
    pub entries: Vec<(String, String, f64)>,
    /// Services.
    pub services: u32,
    /// Pairs of caller and called.
    pub edges: u32,
    /// Topics.
    pub topics: u32,
    /// Traces, spans and seconds that the model was learned from; `None` for one written by hand.
    pub learned_from: Option<(u64, u64, f64)>,
}

/// Something that the ranking hangs on: what, its value, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Assumption {
    /// True for a choice of structure, named whoever made it; false for a number that nobody measured or wrote down.
    pub structural: bool,
    /// What, with the value that was taken: `queue bound 100 (could be 20 to 500)`.
    pub what: String,
    /// Why it matters, in a few words; empty if plain.
    pub matters: String,
    /// Services, edges or topics that it holds for.
    pub places: Vec<String>,
}

/// How a judged node fares over all scenarios.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NodeRisk {
    /// Highest cascade risk among the scenarios that strike it or a call into it; `None` if none does.
    pub causes: Option<f64>,
    /// Mean chance of a breach over the scenarios that strike elsewhere; `None` if there are none.
    pub suffers: Option<f64>,
}

/// One scenario: what was tried and what came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// 1 = worst.
    pub rank: u32,
    /// The scenario's name.
    pub id: String,
    /// Why it was tried; empty if nobody said.
    pub why: String,
    /// Load factor of the whole run.
    pub load: f64,
    /// The faults, in order of the scenario.
    pub faults: Vec<FaultView>,
    /// Runs.
    pub runs: u32,
    /// Share of user requests harmed although they never met the fault: mean over runs.
    pub cascade_risk: Estimate,
    /// Share of user requests harmed at all: mean over runs.
    pub severity: Estimate,
    /// Runs with a breach by error rate outside the faults' targets.
    pub p_cascade: Proportion,
    /// Runs that did not recover by themselves although the fault had gone.
    pub p_metastable: Proportion,
    /// Time to recover.
    pub recovery: Recovery,
    /// (failed - the twin's failed) / requests: mean over runs.
    pub excess_failed_share: f64,
    /// Highest error rate of a second at an entry, mean over runs.
    pub error_rate: Against,
    /// Highest p99 of a second at an entry, ms, mean over runs.
    pub p99_ms: Against,
    /// Attempts per first attempt in the worst two seconds, mean over runs.
    pub retry_amplification_peak: f64,
    /// Attempts per first attempt over the whole time, mean over runs.
    pub retry_amplification_mean: f64,
    /// Deepest queue, mean over runs.
    pub queue_depth: Against,
    /// Where the queue was deepest most often; empty if none stood.
    pub queue_node: String,
    /// Work that ended after its caller had left, mean over runs.
    pub wasted: f64,
    /// Older updates applied after newer ones, mean over runs.
    pub stale_writes: f64,
    /// Messages applied twice, mean over runs.
    pub duplicate_effects: f64,
    /// Messages given up after their last delivery, mean over runs.
    pub dead_letters: f64,
    /// Services, topics and entries that breached, with the share of runs, worst first.
    pub breached: Vec<BreachedNode>,
    /// Names the run with the highest severity.
    pub token: String,
    /// The seed of that run.
    pub worst_seed: u64,
    /// The world of that run.
    pub worst_world: u32,
    /// The severity of that run.
    pub worst_severity: f64,
}

/// A fault as it is shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultView {
    /// The kind's name in files.
    pub kind: String,
    /// `a->b` or a name.
    pub target: String,
    /// Start, seconds.
    pub start_s: f64,
    /// End, seconds.
    pub end_s: f64,
    /// Length, as files write it.
    pub duration: String,
    /// Start, as files write it.
    pub start: String,
    /// How long its magnitude grows, as files write it; `None`: it is there at once.
    pub ramp_up: Option<String>,
    /// How long its magnitude falls, as files write it.
    pub ramp_down: Option<String>,
    /// Magnitude, as files write it.
    pub magnitude: Map<String, Value>,
    /// What it does, in words that follow "when".
    pub words: String,
}

/// A value and what is normal.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Against {
    /// Mean over runs of the highest value.
    pub peak: f64,
    /// Mean over runs of the fault-free twin's.
    pub baseline: f64,
}

/// Time to recover, Kaplan-Meier.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Recovery {
    /// Seconds until half the runs have recovered; `None` if they never do.
    pub median_s: Option<f64>,
    /// Seconds until nine in ten have.
    pub p90_s: Option<f64>,
    /// Runs that recovered.
    pub recovered: u32,
    /// Share of runs that had not recovered at their end.
    pub censored_share: f64,
    /// Shortest time that was watched after the clearing, seconds.
    pub watched_s: f64,
}

/// A node that breached in some runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BreachedNode {
    /// Service, topic or entry.
    pub node: String,
    /// Share of runs with any breach.
    pub probability: f64,
    /// Share of runs with a breach by error rate.
    pub by_error: f64,
    /// Share of runs with a breach by p99.
    pub by_p99: f64,
}
