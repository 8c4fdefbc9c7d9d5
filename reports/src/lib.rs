//! What it means: from run records to a ranking, and the files that people read.
//!
//! ```text
//! records ──▶ analyse ──▶ Report ──▶ json · csv · text · svg · html
//!             stats, km,   (view)
//!             rank, live
//! ```
//! Reading order: `view` (what a report holds), `rank` (how it is made), `stats` and `km` (the arithmetic), then the writers.
//! Always true: writers show a [`Report`] and compute nothing, so that all of them agree; nothing here knows an engine, opens a
//! path or reads a clock.

pub mod assumed;
pub mod checks;
pub mod csv;
pub mod engines;
pub mod findings;
pub mod html;
pub mod json;
pub mod km;
pub mod live;
pub mod rank;
pub mod sequential;
pub mod stats;
pub mod story;
pub mod svg;
#[cfg(test)]
mod testing;
pub mod text;
pub mod view;
pub mod words;

use models::system::{Entry, Model};
use scenarios::record::RunRecord;
use scenarios::scenario::Scenario;

pub use crate::csv::{write_outcomes_csv, write_ranking_csv};
pub use crate::json::{RANKING_SCHEMA, write_ranking_json};
pub use crate::live::LiveOutcomes;
pub use crate::text::summary;
pub use crate::view::Report;

/// What a report is made from.
#[derive(Clone, Copy, Debug)]
pub struct AnalyseInput<'a> {
    /// The rehearsed system.
    pub model: &'a Model,
    /// What was tried.
    pub scenarios: &'a [Scenario],
    /// What came of it, in any order.
    pub records: &'a [RunRecord],
    /// Sentences about reading and learning that stand before the model's own notes.
    pub notes: &'a [String],
    /// What really happened, to stand beside the predictions.
    pub compare_live: Option<&'a LiveOutcomes>,
    /// The output folder's name, for the commands that a report shows.
    pub folder: &'a str,
}

/// Turns run records into a report. O(records log records).
pub fn analyse(input: &AnalyseInput<'_>) -> Report {
    let AnalyseInput { model, scenarios, records, notes, compare_live, folder } = *input;
    let groups = rank::group(records);
    let rows = rank::rows(scenarios, &groups);
    let counted: Vec<&RunRecord> = rows.iter().flat_map(|row| &groups[row.id.as_str()]).copied().collect();
    let (seeds, worlds) = rank::spread_of_runs(&counted);
    let warnings: Vec<String> = model.learned.iter().filter_map(|l| l.backcast.as_ref()).flat_map(|b| b.warnings()).collect();
    let notes = notes.iter().chain(&warnings).chain(model.learned.iter().flat_map(|l| &l.notes));
    Report {
        system: system(model),
        runs: counted.len() as u64,
        seeds,
        worlds,
        requests: counted.iter().map(|r| r.requests).sum(),
        findings: rank::findings(scenarios, &groups, &rows),
        learned: notes.cloned().collect(),
        assumed: assumed::assumptions(model),
        nodes: rank::node_risks(model, scenarios, &rows),
        live: compare_live.map(|live| live::compare(&groups, live)),
        folder: folder.to_string(),
        rows,
    }
}

fn system(model: &Model) -> view::System {
    let analysis = scenarios::analyse(model);
    // A closed loop brings what its users come to, not what they would if answers took no time.
    let per_s = |name: &str, entry: &Entry| analysis.node(name).map_or(entry.rate.value, |node| node.per_s);
    let entries = model.workload.iter().map(|(name, e)| (name.clone(), e.to.service.clone(), stats::round6(per_s(name, e))));
    view::System {
        entries: entries.collect(),
        services: model.services.len() as u32,
        edges: analysis.boundaries.len() as u32,
        topics: model.topics.len() as u32,
        learned_from: model.learned.as_ref().map(|l| (l.traces, l.spans, stats::round6(l.seconds))),
    }
}
