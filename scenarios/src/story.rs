//! What happened in one run, in order of time: the evidence that `explain` words.
//!
//! You are here: `scenarios::story`. `sim` fills it from a run and its twin, `reports` words it, `--json` shows it as it is.
//! Always true: every time is in seconds of the run, and is the end of the bucket (250 ms) or window in which something was first seen.
//! Not here: what kept it broken (`removal` and the command line find that out by further runs).

use serde::Serialize;

use crate::removal::Removal;

/// One run, told.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Story {
    /// Users as they are without the fault, by entry.
    pub normal: Vec<EntryState>,
    /// Queues that came to stand, the first one first.
    pub queues: Vec<QueueStood>,
    /// Edges whose retries rose above the twin's, the first one first.
    pub retries: Vec<RetryWave>,
    /// Boundaries that broke (DESIGN: error rate 2 points above the twin's, or p99 twice as high, for 2 s), the first one first.
    pub breaches: Vec<Broken>,
    /// When messages were first applied in the wrong order or twice, and how often in all.
    pub stale_writes: Option<Effects>,
    /// The same of messages applied twice.
    pub duplicate_effects: Option<Effects>,
    /// Between the end of the faults and the return of users (or the run's end); `None` if there is no second of it.
    pub aftermath: Option<Aftermath>,
}

/// An entry, as its users see it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EntryState {
    /// The entry.
    pub entry: String,
    /// Requests per second.
    pub per_s: f64,
    /// Share of them that failed.
    pub error_rate: f64,
    /// 99th percentile of the time to the answer, ms.
    pub p99_ms: f64,
}

/// A queue that stood.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct QueueStood {
    /// Service or topic.
    pub node: String,
    /// True for a topic: its queue is its backlog.
    pub topic: bool,
    /// Waiting places of one replica (of a topic: in all); `None`: no bound.
    pub bound: Option<u32>,
    /// Deepest in the twin's whole run.
    pub twin_peak: u32,
    /// Since when it stood, for a second at least, deeper than twice the twin's deepest, and by 5 at least.
    pub first_s: f64,
    /// How deep then.
    pub first_depth: u32,
    /// When all its places were taken.
    pub full_s: Option<f64>,
    /// How deep at most.
    pub peak: u32,
    /// When.
    pub peak_s: f64,
    /// Since when it is no longer that deep; `None`: at the run's end it still is.
    pub calm_s: Option<f64>,
}

/// A wave of retries over one edge.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RetryWave {
    /// The edge `a->b`.
    pub edge: String,
    /// End of the first second with 10 retries or more in which attempts per first attempt were above the twin's highest by a tenth.
    pub first_s: f64,
    /// Attempts per first attempt in that second.
    pub first_ratio: f64,
    /// The highest such ratio of a second.
    pub peak_ratio: f64,
    /// When.
    pub peak_s: f64,
    /// The twin's highest.
    pub twin_ratio: f64,
    /// Since when there is no such second any more; `None`: at the run's end there still is.
    pub calm_s: Option<f64>,
}

/// A boundary that broke.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Broken {
    /// Service, topic or entry.
    pub node: String,
    /// `entry`, `service` or `topic`.
    pub kind: String,
    /// End of the first breaching window.
    pub first_s: f64,
    /// By error rate, at some time.
    pub by_error: bool,
    /// By p99, at some time.
    pub by_p99: bool,
    /// Whether a fault strikes it (or one of its edges).
    pub target: bool,
    /// Error rate in the second before `first_s`, and the twin's.
    pub error_rate: f64,
    /// The twin's.
    pub twin_error_rate: f64,
    /// p99 of that second, ms; 0 where nothing was answered.
    pub p99_ms: f64,
    /// The twin's.
    pub twin_p99_ms: f64,
}

/// Wrong answers that no error rate shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Effects {
    /// When the first one was.
    pub first_s: f64,
    /// When the last one was.
    pub last_s: f64,
    /// How many there were.
    pub count: u64,
}

/// After the faults.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Aftermath {
    /// From when.
    pub from_s: f64,
    /// Until when.
    pub to_s: f64,
    /// Services and edges that differ from the twin, the most different first.
    pub services: Vec<ServiceAfter>,
    /// Edges with more attempts or failures than in the twin.
    pub edges: Vec<EdgeAfter>,
    /// Users.
    pub entries: Vec<EntryState>,
}

/// A service between the end of the faults and the return, and its twin in the same time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ServiceAfter {
    /// Which.
    pub service: String,
    /// Requests that reached it, or were refused, per second.
    pub per_s: f64,
    /// The twin's.
    pub twin_per_s: f64,
    /// Busy share of its workers; 0 if they are unlimited.
    pub utilisation: f64,
    /// The twin's.
    pub twin_utilisation: f64,
    /// Share of what it ended that was work for callers who had left.
    pub wasted: f64,
    /// Mean time in its queue, ms, of those who got a worker.
    pub mean_wait_ms: f64,
    /// The twin's.
    pub twin_mean_wait_ms: f64,
}

/// An edge between the end of the faults and the return, and its twin in the same time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EdgeAfter {
    /// The edge `a->b`.
    pub edge: String,
    /// Calls per second, all tries of one together.
    pub calls_per_s: f64,
    /// Tries per call.
    pub attempts_per_call: f64,
    /// The twin's.
    pub twin_attempts_per_call: f64,
    /// Share of calls that failed for good.
    pub failed: f64,
    /// The twin's.
    pub twin_failed: f64,
    /// What most failed tries died of; empty if none failed.
    pub cause: String,
}

/// What kept a run broken, found by taking things away on the same seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sustained {
    /// What is asked of a run with something taken away.
    pub asked: Asked,
    /// Until when each was watched, seconds.
    pub watched_s: f64,
    /// How it went without anything taken away, watched as long.
    pub as_it_is: Outcome,
    /// One thing at a time.
    pub singles: Vec<Trial>,
    /// Where no single one does: a smallest set of which no member can stay.
    pub set: Option<Trial>,
    /// True if even all of them together do not help.
    pub not_even_all: bool,
    /// Runs made.
    pub runs: u32,
    /// The most that may be made.
    pub most_runs: u32,
    /// Things that were not tried because of that bound.
    pub untried: u32,
}

/// What is asked of a run with something taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// That users are back to normal.
    Recovers,
    /// That they are in at most half the time.
    RecoversTwiceAsFast,
    /// That there is no stale write.
    NoStaleWrites,
    /// That nothing is applied twice.
    NoDuplicateEffects,
}

/// How a run went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Seconds from the last fault's end to lasting return; `None`: not while it was watched.
    pub recovery_s: Option<f64>,
    /// Stale writes.
    pub stale_writes: u64,
    /// Messages applied twice.
    pub duplicate_effects: u64,
    /// Share of the fault-free twin's requests that fail.
    pub normal_error_rate: f64,
    /// Share of requests that failed from the fault's start on.
    pub error_rate: f64,
}

/// A run with something taken away.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trial {
    /// What.
    pub removed: Vec<Removal>,
    /// How it went.
    pub outcome: Outcome,
    /// Whether that is what was asked.
    pub helps: bool,
}
