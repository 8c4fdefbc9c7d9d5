//! `verify`: the short list of a ranking on both engines.

use std::path::{Path, PathBuf};

use models::format::canonical_text;
use models::units::Nanos;
use reports::engines::{self, EngineRow};
use scenarios::format::read_scenarios;
use scenarios::record::Verified;
use scenarios::scenario::Scenario;
use scenarios::token::{Engine, model_hash};
use serde_json::{Value, json};
use sim::{RunOptions, Shortcuts, SweepOptions};

use crate::args::Verify;
use crate::exit::Failure;
use crate::output::{self, Settings};
use crate::show::{self, Progress};
use crate::{inputs, work};

/// Runs the scenarios at the top of a ranking in both engines, and compares.
pub fn act(args: &Verify) -> Result<(), Failure> {
    let (dir, ranking) = find(&args.ranking);
    let (settings, records) = output::finished(&dir).ok_or_else(|| {
        Failure::refused(
            dir.display(),
            format_args!("a folder with {} and {} of this version", output::RUNS, output::SETTINGS),
            "name the ranking.json of a folder that foreshock run or foreshock sweep wrote",
        )
    })?;
    let model = inputs::model(&dir.join(output::MODEL))?;
    let path = dir.join(output::SCENARIOS);
    let all = read_scenarios(&inputs::name(&path), &inputs::bytes(&path)?)?;
    let world = records.first().map_or(0, |record| record.world);
    let mut batches = batches(&settings, &all);
    let chosen = top(&ranking, args.top.get())?;
    for (_, _, scenarios) in &mut batches {
        scenarios.retain(|scenario| chosen.contains(&scenario.id) && !scenario.faults.is_empty());
    }
    let count: usize = batches.iter().map(|batch| batch.2.len()).sum();
    let seeds: Vec<u64> = (0..u64::from(args.seeds.get())).map(|i| args.seed.wrapping_add(i)).collect();
    let progress = Progress::new((count * seeds.len()) as u64, 0, "runs in both engines");
    let mut verified: Vec<Verified> = Vec::new();
    let mut before = 0;
    for (horizon, warm_up, scenarios) in batches.iter().filter(|batch| !batch.2.is_empty()) {
        let options = SweepOptions {
            seeds: seeds.clone(),
            horizon: *horizon,
            warm_up: *warm_up,
            threads: args.threads.map_or(0, std::num::NonZeroUsize::get),
            max_events: RunOptions::default().max_events,
            model_hash: model_hash(&canonical_text(&model)),
            shortcuts: Shortcuts::None,
            engine: Engine::Hosted,
        };
        let at = |p: sim::Progress| progress.at(before + p.done as u64);
        verified.extend(sim::verify(&model, world, scenarios, &options, &at, work::stop_flag())?);
        before += (scenarios.len() * seeds.len()) as u64;
    }
    progress.end();
    let mut rows = engines::compare(&verified, &records);
    rows.sort_by_key(|row| chosen.iter().position(|id| *id == row.scenario));
    show_rows(&rows, args.json)?;
    if verified.len() < count * seeds.len() {
        return Err(Failure::Interrupted);
    }
    match args.at_least.and_then(|least| rows.iter().find(|row| row.equal().is_some_and(|equal| equal < least))) {
        None => Ok(()),
        Some(row) => Err(Failure::CheckFailed(format!(
            "error: {}\n  found:    {:.1} % of the affected requests equal in both engines\n  expected: at least {:.1} %\n  help:     \
             foreshock replay {} --in {}",
            show::plain(&row.scenario),
            row.equal().unwrap_or(0.0) * 100.0,
            args.at_least.unwrap_or(0.0) * 100.0,
            row.token,
            dir.display()
        ))),
    }
}

fn show_rows(rows: &[EngineRow], json: bool) -> Result<(), Failure> {
    if json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|row| {
                let mut value = serde_json::to_value(row).unwrap_or_default();
                value["equal_share"] = json!(row.equal());
                value
            })
            .collect();
        return show::json(&json!({ "version": 1, "scenarios": rows }));
    }
    show::text(&engines::table(rows))
}

/// The folder and the ranking in it.
fn find(named: &Path) -> (PathBuf, PathBuf) {
    if named.is_dir() {
        return (named.to_path_buf(), named.join("ranking.json"));
    }
    let parent = named.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    (parent.to_path_buf(), named.to_path_buf())
}

/// Horizon, warm-up and scenarios of each batch.
fn batches(settings: &Settings, scenarios: &[Scenario]) -> Vec<(Nanos, Nanos, Vec<Scenario>)> {
    let mut rest = scenarios;
    let mut batches = Vec::new();
    for times in &settings.batches {
        let (these, others) = rest.split_at(times.scenarios.min(rest.len()));
        rest = others;
        let time = |text: &str| Nanos::parse(text).unwrap_or(Nanos::ZERO);
        batches.push((time(&times.horizon), time(&times.warm_up), these.to_vec()));
    }
    batches
}

/// The ids at the top of a ranking.
fn top(path: &Path, count: usize) -> Result<Vec<String>, Failure> {
    let bytes = inputs::bytes(path)?;
    let value: Option<Value> = serde_json::from_slice(&bytes).ok();
    let ids = value.as_ref().and_then(|value| value.get("scenarios")?.as_array()).map(|scenarios| {
        scenarios.iter().filter_map(|scenario| Some(scenario.get("id")?.as_str()?.to_owned())).take(count).collect()
    });
    ids.ok_or_else(|| {
        Failure::refused(
            path.display(),
            "a ranking.json, with scenarios that have ids",
            "foreshock rank DIR writes it again from the runs of a folder",
        )
    })
}
