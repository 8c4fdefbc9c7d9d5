//! What is worth saying beside the ranking: variants with their evidence.
//!
//! You are here: `reports::findings`. `rank` finds them, the writers word them and say what to try next.

use crate::stats::Proportion;

/// One thing worth saying.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// Runs did not come back by themselves although the fault had gone.
    Metastable {
        /// The scenario.
        scenario: String,
        /// Share of its runs.
        probability: Proportion,
        /// Seconds watched after the clearing.
        watched_s: f64,
        /// Attempts per first attempt from the fault's start on: the feedback that may keep it alive.
        retry_amplification_mean: f64,
        /// Work per run that ended after its caller had left: the other one.
        wasted: f64,
    },
    /// Too few runs to tell two neighbours in the ranking apart.
    RankUndecided {
        /// The two scenarios, the higher first.
        between: [String; 2],
        /// The rank of the first.
        rank: u32,
        /// Runs of each.
        runs: u32,
        /// Runs of each that would do, as far as these can say.
        runs_wanted: Option<u64>,
    },
    /// A fault that harmed no request and breached nothing, in any run.
    NoFaultReachedAnything {
        /// The scenario.
        scenario: String,
        /// Runs.
        runs: u32,
    },
    /// Half the runs or more had not recovered at their end: no median can be given.
    CensoredRecovery {
        /// The scenario.
        scenario: String,
        /// Share of runs not recovered.
        censored_share: f64,
        /// Seconds watched after the clearing.
        watched_s: f64,
    },
    /// Runs that ended early because they used up their budget of events: their numbers cover less time.
    Truncated {
        /// The scenario.
        scenario: String,
        /// Runs cut short.
        runs: u32,
        /// Runs in all.
        of: u32,
    },
    /// A scenario without faults differs from its twin: the engine's mistake, no ranking can be trusted.
    ControlDiffers {
        /// The scenario.
        scenario: String,
        /// Requests harmed, all runs together.
        harmed: u64,
    },
    /// Scenarios without a single finished run.
    NotRun {
        /// Their names.
        scenarios: Vec<String>,
    },
    /// Records of scenarios that are not in the scenario list; they were left out.
    UnknownScenarios {
        /// Their names.
        scenarios: Vec<String>,
        /// Records left out.
        records: u64,
    },
}
