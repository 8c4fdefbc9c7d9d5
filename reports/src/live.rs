//! The predictions beside what really happened: reads live outcomes and compares.
//!
//! You are here: `reports::live`. The predictions are each run's `vs_baseline`, measured as a live experiment is.
//! Always true: only scenarios of the same id are compared, those on one side only are named.
//! Not here: learning from the difference.

use std::collections::BTreeSet;

use indexmap::IndexMap;
use models::error::{InputError, InputErrors};
use scenarios::record::{LiveMeasures, RunRecord};
use serde::Deserialize;

use crate::stats::{mean, round6, spearman};
use crate::words;

/// Outcomes of live experiments. Unknown fields are ignored.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct LiveOutcomes {
    /// The experiments.
    pub scenarios: Vec<LiveScenario>,
}

/// One experiment.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct LiveScenario {
    /// The scenario's name.
    pub id: String,
    /// What happened, each time it was run.
    pub runs: Vec<LiveRun>,
}

/// What one live run showed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct LiveRun {
    /// Failed user requests beyond the baseline, as a share of requests.
    pub excess_failed_fraction: f64,
    /// Highest error rate of a second at an entry.
    pub peak_entry_error_rate: f64,
    /// p99 from the fault's start to 5 s after its clearing, ms.
    pub p99_ms: f64,
    /// Highest attempts per first attempt.
    pub retry_amplification: f64,
    /// Deepest queue.
    pub max_queue_depth: LiveQueue,
    /// Seconds from clearing to return; `None`: not while it was watched.
    pub recovery_s: Option<f64>,
    /// Not recovered and out of the band at the end.
    pub metastable: bool,
    /// A breach by error rate outside the fault's targets.
    pub cascaded: bool,
    /// Services and topics that breached.
    pub breached: Vec<String>,
}

/// Where the deepest queue stood, and how deep.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct LiveQueue {
    /// Service or topic.
    pub node: Option<String>,
    /// Requests or messages waiting.
    pub value: u64,
}

impl LiveOutcomes {
    /// Reads outcomes from JSON: `{"scenarios": [{"id": ..., "runs": [{...}]}]}`.
    ///
    /// * `name`: what the errors call the input.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<LiveOutcomes, InputErrors> {
        let wrong = |line, found: String, expected: &str| {
            InputErrors::from(InputError {
                file: name.to_string(),
                line,
                found,
                expected: expected.to_string(),
                help: "write {\"scenarios\": [{\"id\": \"slow-b\", \"runs\": [{\"excess_failed_fraction\": 0.06, \"breached\": [\"b\"]}]}]}".to_string(),
                ..InputError::default()
            })
        };
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let outcomes: LiveOutcomes = serde_json::from_slice(bytes).map_err(|error| {
            wrong(
                Some(error.line() as u64).filter(|line| *line > 0),
                error.to_string(),
                "live outcomes as JSON: a list of scenarios, each with id and runs",
            )
        })?;
        let mut seen = BTreeSet::new();
        match outcomes.scenarios.iter().find(|s| !seen.insert(s.id.as_str())) {
            Some(twice) => {
                Err(wrong(None, format!("the scenario {:?} twice", twice.id), "every scenario once, all its runs in one list"))
            }
            None => Ok(outcomes),
        }
    }
}

/// Predictions beside live outcomes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Scenarios on both sides, in the order of the live outcomes.
    pub pairs: Vec<Pair>,
    /// Live, but not rehearsed.
    pub only_live: Vec<String>,
    /// Rehearsed, but not run live.
    pub only_rehearsed: u32,
    /// Spearman's rank correlation of the excess failed shares; `None` below three pairs.
    pub rank_correlation: Option<f64>,
    /// Cascades predicted (chance of a half or more) and seen.
    pub cascade: Verdicts,
    /// Metastable states predicted and seen.
    pub metastable: Verdicts,
    /// Mean Jaccard index of the sets of breached nodes.
    pub breached_overlap: f64,
}

/// Hits and misses of a yes-or-no prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Predicted and seen.
    pub hits: u32,
    /// Seen, not predicted.
    pub misses: u32,
    /// Predicted, not seen.
    pub false_alarms: u32,
    /// Neither.
    pub quiet: u32,
}

impl Verdicts {
    fn count(&mut self, predicted: bool, seen: bool) {
        *match (predicted, seen) {
            (true, true) => &mut self.hits,
            (false, true) => &mut self.misses,
            (true, false) => &mut self.false_alarms,
            (false, false) => &mut self.quiet,
        } += 1;
    }

    /// Scenarios judged rightly.
    pub fn right(&self) -> u32 {
        self.hits + self.quiet
    }

    /// All scenarios.
    pub fn all(&self) -> u32 {
        self.right() + self.misses + self.false_alarms
    }
}

/// One scenario, predicted and live.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pair {
    /// The scenario.
    pub id: String,
    /// What the rehearsal says.
    pub predicted: Side,
    /// What happened.
    pub live: Side,
    /// Jaccard index of the two sets of breached nodes; 1 if both are empty.
    pub overlap: f64,
}

/// One side of a comparison: means and shares over its runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Side {
    /// Runs.
    pub runs: u32,
    /// Excess failed share, mean.
    pub excess_failed_fraction: f64,
    /// Highest error rate of a second, mean.
    pub peak_entry_error_rate: f64,
    /// p99 in the time of impact, ms, mean over runs.
    pub p99_ms: f64,
    /// Highest attempts per first attempt, mean.
    pub retry_amplification: f64,
    /// Deepest queue, mean.
    pub max_queue_depth: f64,
    /// Seconds to recover, mean over the runs that did; `None` if none did.
    pub recovery_s: Option<f64>,
    /// Runs that did not recover while they were watched.
    pub not_recovered: u32,
    /// Share of runs with a cascade.
    pub cascaded: f64,
    /// Share of metastable runs.
    pub metastable: f64,
    /// Nodes that breached in at least half the runs, in order of their names.
    pub breached: Vec<String>,
}

impl Side {
    /// Mean time to recover and how many runs did, where not all: `22 s (3 of 10)`.
    pub fn recovery(&self) -> String {
        match self.recovery_s {
            None => "none".to_string(),
            Some(s) if self.not_recovered == 0 => words::seconds(s),
            Some(s) => format!("{} ({} of {})", words::seconds(s), self.runs - self.not_recovered, self.runs),
        }
    }
}

/// Compares the predictions of `records` (grouped by scenario, in job order) with live outcomes.
pub fn compare(records: &IndexMap<&str, Vec<&RunRecord>>, live: &LiveOutcomes) -> Comparison {
    let mut comparison = Comparison::default();
    for scenario in &live.scenarios {
        let Some(runs) = records.get(scenario.id.as_str()).filter(|runs| !runs.is_empty() && !scenario.runs.is_empty()) else {
            comparison.only_live.push(scenario.id.clone());
            continue;
        };
        let predicted = side(&runs.iter().map(|r| from_record(&r.vs_baseline)).collect::<Vec<_>>());
        let live = side(&scenario.runs);
        comparison.cascade.count(predicted.cascaded >= 0.5, live.cascaded >= 0.5);
        comparison.metastable.count(predicted.metastable >= 0.5, live.metastable >= 0.5);
        let overlap = round6(jaccard(&predicted.breached, &live.breached));
        comparison.pairs.push(Pair { id: scenario.id.clone(), predicted, live, overlap });
    }
    let column = |f: fn(&Pair) -> f64| comparison.pairs.iter().map(f).collect::<Vec<f64>>();
    let excess = [column(|p| p.predicted.excess_failed_fraction), column(|p| p.live.excess_failed_fraction)];
    comparison.rank_correlation = spearman(&excess[0], &excess[1]).map(round6);
    comparison.breached_overlap = round6(mean(&column(|p| p.overlap)));
    comparison.only_rehearsed = records.keys().filter(|id| !live.scenarios.iter().any(|s| s.id == **id)).count() as u32;
    comparison
}

fn from_record(measures: &LiveMeasures) -> LiveRun {
    LiveRun {
        excess_failed_fraction: measures.excess_failed_fraction,
        peak_entry_error_rate: measures.peak_entry_error_rate,
        p99_ms: measures.p99_ms,
        retry_amplification: measures.retry_amplification,
        max_queue_depth: LiveQueue { node: Some(measures.max_queue_node.clone()), value: measures.max_queue_depth },
        recovery_s: measures.recovery_s,
        metastable: measures.metastable,
        cascaded: measures.cascaded,
        breached: measures.breached.clone(),
    }
}

fn side(runs: &[LiveRun]) -> Side {
    let over = |f: &dyn Fn(&LiveRun) -> f64| round6(mean(&runs.iter().map(f).collect::<Vec<_>>()));
    let recovered: Vec<f64> = runs.iter().filter_map(|r| r.recovery_s).collect();
    let mut names: IndexMap<&str, u32> = IndexMap::new();
    for run in runs {
        run.breached.iter().collect::<BTreeSet<_>>().into_iter().for_each(|node| *names.entry(node).or_insert(0) += 1);
    }
    let mut breached: Vec<String> =
        names.iter().filter(|(_, n)| **n as usize * 2 >= runs.len()).map(|(name, _)| name.to_string()).collect();
    breached.sort();
    Side {
        runs: runs.len() as u32,
        excess_failed_fraction: over(&|r| r.excess_failed_fraction),
        peak_entry_error_rate: over(&|r| r.peak_entry_error_rate),
        p99_ms: over(&|r| r.p99_ms),
        retry_amplification: over(&|r| r.retry_amplification),
        max_queue_depth: over(&|r| r.max_queue_depth.value as f64),
        recovery_s: (!recovered.is_empty()).then(|| round6(mean(&recovered))),
        not_recovered: (runs.len() - recovered.len()) as u32,
        cascaded: over(&|r| f64::from(u8::from(r.cascaded))),
        metastable: over(&|r| f64::from(u8::from(r.metastable))),
        breached,
    }
}

/// Shared elements over all elements; 1 for two empty sets.
fn jaccard(a: &[String], b: &[String]) -> f64 {
    let (a, b): (BTreeSet<_>, BTreeSet<_>) = (a.iter().collect(), b.iter().collect());
    let all = a.union(&b).count();
    if all == 0 { 1.0 } else { a.intersection(&b).count() as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn hits_misses_overlap_and_ranks_are_counted() {
        let live = br#"{"baseline": {}, "scenarios": [
            {"id": "a", "description": "x", "runs": [{"excess_failed_fraction": 0.3, "cascaded": true, "metastable": true, "breached": ["b", "c"], "recovery_s": null}]},
            {"id": "b", "runs": [{"excess_failed_fraction": 0.1, "cascaded": true, "breached": ["b"], "recovery_s": 2.0}]},
            {"id": "c", "runs": [{"excess_failed_fraction": 0.0, "breached": [], "recovery_s": 0.0}]},
            {"id": "d", "runs": [{"excess_failed_fraction": 0.0}]}]}"#;
        let live = LiveOutcomes::parse("live.json", live).expect("it is well formed");
        let mut runs = Vec::new();
        for (id, excess, cascaded, breached) in [
            ("a", 0.25, true, vec!["b", "c", "d"]),
            ("b", 0.05, false, vec!["b"]),
            ("c", 0.01, true, vec![]),
            ("z", 0.0, false, vec![]),
        ] {
            let mut record = testing::record(id, 1);
            record.vs_baseline = LiveMeasures {
                excess_failed_fraction: excess,
                cascaded,
                breached: breached.into_iter().map(String::from).collect(),
                recovery_s: Some(4.0),
                ..LiveMeasures::default()
            };
            runs.push(record);
        }
        let grouped: IndexMap<&str, Vec<&RunRecord>> = runs.iter().map(|r| (r.scenario.as_str(), vec![r])).collect();
        let comparison = compare(&grouped, &live);
        assert_eq!(comparison.cascade, Verdicts { hits: 1, misses: 1, false_alarms: 1, quiet: 0 });
        assert_eq!(comparison.metastable, Verdicts { hits: 0, misses: 1, false_alarms: 0, quiet: 2 });
        assert_eq!(comparison.rank_correlation, Some(1.0));
        assert_eq!(comparison.pairs.iter().map(|p| p.overlap).collect::<Vec<_>>(), [0.666_667, 1.0, 1.0]);
        assert_eq!((comparison.only_live, comparison.only_rehearsed), (vec!["d".to_string()], 1));
    }

    #[test]
    fn what_is_not_live_outcomes_is_refused_with_its_line() {
        let error = LiveOutcomes::parse("live.json", b"{\"scenarios\": [\n {\"runs\": []}]}").expect_err("the id is missing");
        expect_test::expect![[r#"
            error: live.json:2
              found:    missing field `id` at line 2 column 13
              expected: live outcomes as JSON: a list of scenarios, each with id and runs
              help:     write {"scenarios": [{"id": "slow-b", "runs": [{"excess_failed_fraction": 0.06, "breached": ["b"]}]}]}"#]]
        .assert_eq(&error.to_string());
        assert!(LiveOutcomes::parse("live.json", b"").is_err());
        assert!(
            LiveOutcomes::parse("live.json", br#"{"scenarios": [{"id": "a", "runs": []}, {"id": "a", "runs": []}]}"#).is_err()
        );
    }
}
