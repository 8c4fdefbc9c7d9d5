//! `simulate`: one run, with its numbers.

use std::path::Path;

use models::system::Model;
use scenarios::scenario::Scenario;
use serde_json::{Value, json};
use sim::{Program, RunOptions, RunResult};

use crate::args::Simulate;
use crate::exit::Failure;
use crate::show::{self, Table};
use crate::{clock, inputs};

/// Runs once and prints what came of it.
pub fn act(args: &Simulate) -> Result<(), Failure> {
    let model = inputs::model(&args.model)?;
    let scenario = args.scenario.as_deref().map_or(Ok(Scenario::default()), |path| pick(path, args.id.as_deref(), &model))?;
    let program = Program::compile(&model, args.world)?;
    let options =
        RunOptions { seed: args.seed, horizon: args.horizon, warm_up: args.warmup, series: args.series, ..RunOptions::default() };
    let before = clock::thread_cpu();
    let mut result = sim::simulate(&program, &scenario, &options)?;
    result.cpu_seconds = (clock::thread_cpu() - before).as_secs_f64();
    if args.json { show::json(&as_json(&result)) } else { show::text(&as_text(&result)) }
}

/// The scenario that is meant: the only one of the file, or the one with this id.
fn pick(path: &Path, id: Option<&str>, model: &Model) -> Result<Scenario, Failure> {
    let scenarios = inputs::scenarios(path, model)?;
    let ids: Vec<String> = scenarios.iter().map(|scenario| scenario.id.clone()).collect();
    let count = scenarios.len();
    let found = scenarios.into_iter().find(|scenario| id.map_or(count == 1, |id| scenario.id == id));
    found.ok_or_else(|| {
        let nearest = id.and_then(|id| models::error::nearest(id, ids.iter().map(String::as_str)));
        let expected = format!("one scenario, named by --id: it holds {}", list(&ids));
        Failure::refused(inputs::name(path), expected, format_args!("add --id {}", nearest.or(ids.first().map(String::as_str)).unwrap_or("ID")))
    })
}

fn list(ids: &[String]) -> String {
    let shown = ids.iter().take(12).map(String::as_str).collect::<Vec<_>>().join(", ");
    if ids.len() > 12 { format!("{shown} and {} more", ids.len() - 12) } else { shown }
}
