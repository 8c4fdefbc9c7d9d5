//! The end of every sweep: ranking, outcomes, plots, the page, and the summary on the screen.
//!
//! You are here: `commands::report`. `run`, `sweep` and `rank` end here.
//! Always true: what is written is a function of the records (and the model and scenarios they are of), never of when or where.

use models::system::Model;
use models::units::Nanos;
use reports::{AnalyseInput, LiveOutcomes, Report, analyse, html, svg};
use reports::{summary, write_outcomes_csv, write_ranking_csv, write_ranking_json};
use scenarios::record::{RunRecord, Series};
use scenarios::scenario::Scenario;
use scenarios::token::Token;
use sim::{Program, RunOptions};

use crate::exit::Failure;
use crate::inputs::Named;
use crate::output::{self, OutputDir};
use crate::show;

/// Scenarios whose course over time is drawn.
const TIMELINES: usize = 10;

/// What is reported on.
#[derive(Debug)]
pub struct Subject<'a> {
    /// What was rehearsed.
    pub model: &'a Model,
    /// What was tried.
    pub scenarios: &'a [Scenario],
    /// What came of it, in job order.
    pub records: &'a [RunRecord],
    /// What live experiments showed: the name of the file, and its JSON.
    pub live: Option<Named>,
}

/// Writes every report into the folder, and the summary (or the ranking as JSON) to standard output.
pub fn write(dir: &OutputDir, subject: &Subject, json: bool) -> Result<(), Failure> {
    let live = subject.live.as_ref().map(|(name, bytes)| LiveOutcomes::parse(name, bytes)).transpose()?;
    let folder = dir.path().to_string_lossy();
    let report = analyse(&AnalyseInput {
        model: subject.model,
        scenarios: subject.scenarios,
        records: subject.records,
        notes: &[],
        compare_live: live.as_ref(),
        folder: &folder,
    });
    if let Some((_, bytes)) = &subject.live {
        dir.write(output::LIVE, |out| out.write_all(bytes))?;
    }
    dir.write("ranking.json", |out| write_ranking_json(&report, out))?;
    dir.write("ranking.csv", |out| write_ranking_csv(&report, out))?;
    dir.write("outcomes.csv", |out| write_outcomes_csv(subject.records, out))?;
    write_plots(dir, subject, &report)?;
    if json { show::result(|out| write_ranking_json(&report, out)) } else { show::text(&summary(&report)) }
}

/// Draws the ranking, the graph, and the worst run of each of the top scenarios over time; then the page that holds them all.
fn write_plots(dir: &OutputDir, subject: &Subject, report: &Report) -> Result<(), Failure> {
    dir.clear_plots()?;
    let plots = html::Plots {
        ranking: svg::ranking(report),
        graph: svg::graph(subject.model, report),
        timelines: courses(subject, report)?.into_iter().collect(),
    };
    let save = |name: &str, svg: &str| dir.write(&format!("{}/{name}.svg", output::PLOTS), |out| out.write_all(svg.as_bytes()));
    save("ranking", &plots.ranking)?;
    save("graph", &plots.graph)?;
    for row in &report.rows {
        if let Some(svg) = plots.timelines.get(&row.id) {
            save(&format!("timeline-{:02}-{}", row.rank, row.id), svg)?;
        }
    }
    let page = html::page(report, &plots);
    dir.write("report.html", |out| out.write_all(page.as_bytes()))
}

/// Runs the worst run of each of the top scenarios again, with its twin, for its course over time.
fn courses(subject: &Subject, report: &Report) -> Result<Vec<(String, String)>, Failure> {
    let mut courses = Vec::new();
    for row in report.rows.iter().take(TIMELINES) {
        let scenario = subject.scenarios.iter().find(|scenario| scenario.id == row.id);
        let record = subject.records.iter().find(|record| record.scenario == row.id && record.token == row.token);
        let (Some(scenario), Some(record)) = (scenario, record) else { continue };
        let (series, twin) = course(subject.model, scenario, record)?;
        courses.push((row.id.clone(), svg::timeline(&svg::Timeline { row, record, series: &series, twin: &twin })));
    }
    Ok(courses)
}

/// The course over time of a run and of its twin.
fn course(model: &Model, scenario: &Scenario, record: &RunRecord) -> Result<(Series, Series), Failure> {
    let horizon = record.token.parse::<Token>().map_or_else(|_| Nanos::from_secs_f64(record.horizon_s), |token| token.horizon);
    let program = Program::compile(model, record.world)?;
    Ok(sim::series(&program, scenario, &RunOptions { seed: record.seed, horizon, ..RunOptions::default() })?)
}
