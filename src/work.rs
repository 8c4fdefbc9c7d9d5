//! A sweep as a user meets it: progress, Ctrl-C that keeps what is finished, and a second start that does only what is missing.
//!
//! You are here: `work`. `sim` does the runs; this file feeds it jobs, appends records, and puts resumed and new ones in order.
//! Always true: the records come in job order (batch by batch, then seed by seed, then in the order of scenarios.yaml), however many threads or
//! starts it took.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::process;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use models::format::canonical_text;
use models::system::Model;
use models::units::{Nanos, SimTime};
use scenarios::record::RunRecord;
use scenarios::scenario::Scenario;
use scenarios::token::{Engine, Token, model_hash, scenario_hash};
use sim::{Program, RunOptions, Shortcuts, SweepOptions};

use crate::args::Effort;
use crate::exit::{self, Failure};
use crate::output::{self, OutputDir, Settings, Times};
use crate::show::{self, Progress};

/// Scenarios that are run for the same time.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The scenarios.
    pub scenarios: Vec<Scenario>,
    /// Simulated time of a run.
    pub horizon: Nanos,
    /// Simulated time left out of the statistics.
    pub warm_up: Nanos,
}

/// What came of a sweep.
#[derive(Debug)]
pub struct Swept {
    /// Every finished run, in job order.
    pub records: Vec<RunRecord>,
    /// True if Ctrl-C ended it early.
    pub interrupted: bool,
}

/// Runs every scenario of every batch under every seed, but for the runs that the folder already holds.
pub fn sweep(dir: &OutputDir, model: &Model, batches: &[Batch], effort: &Effort) -> Result<Swept, Failure> {
    batches.iter().for_each(|batch| note_cut_faults(&batch.scenarios, batch.horizon, batch.warm_up));
    let settings = Settings {
        version: 1,
        foreshock: env!("CARGO_PKG_VERSION").to_owned(),
        batches: batches
            .iter()
            .map(|b| Times { scenarios: b.scenarios.len(), horizon: b.horizon.to_string(), warm_up: b.warm_up.to_string() })
            .collect(),
    };
    let seeds: Vec<u64> = (0..u64::from(effort.seeds.get())).map(|i| effort.seed.wrapping_add(i)).collect();
    let naming = Naming { model: model_hash(&canonical_text(model)), world: effort.world, engine: effort.engine.into() };
    let program = Program::compile(model, effort.world)?;
    if naming.engine == Engine::Hosted {
        show::note(format_args!("the hosted engine: {} hosts, a clock of {}", sim::hosted::hosts(&program), sim::hosted::TICK));
    }

    let mut done = already_done(dir, &settings);
    let jobs: BTreeSet<(String, String)> = jobs(batches, &seeds, &naming).into_iter().collect();
    let before = done.len();
    done.retain(|job, _| jobs.contains(job));
    if before > done.len() {
        show::note(format_args!(
            "{}: {} runs of other inputs or settings are replaced",
            dir.path().display(),
            before - done.len()
        ));
    }
    if !done.is_empty() {
        show::note(format_args!("{}: {} of {} runs are finished already", dir.path().display(), done.len(), jobs.len()));
    }
    dir.write(output::SETTINGS, |out| Ok(serde_json::to_writer_pretty(out, &settings)?))?;
    let resumed = done.len() as u64;
    let kept = in_order(batches, &seeds, &naming, &done);
    let mut runs = dir.start_runs(&kept)?;

    let progress = Progress::new(jobs.len() as u64, resumed, "runs");
    let mut in_batches_before = 0;
    let mut broken = None;
    for batch in batches {
        let skip = batch.scenarios.iter().enumerate().flat_map(|(i, scenario)| {
            let (done, naming) = (&done, &naming);
            let job = move |seed: u64| (scenario.id.clone(), naming.token(scenario, batch.horizon, seed));
            seeds.iter().filter(move |seed| done.contains_key(&job(**seed))).map(move |seed| (i, *seed))
        });
        let skip: BTreeSet<(usize, u64)> = skip.collect();
        let options = SweepOptions {
            seeds: seeds.clone(),
            horizon: batch.horizon,
            warm_up: batch.warm_up,
            threads: effort.threads.map_or(0, NonZeroUsize::get),
            max_events: RunOptions::default().max_events,
            model_hash: naming.model,
            shortcuts: Shortcuts::All,
            engine: naming.engine,
        };
        let mut fresh = Vec::new();
        let mut sink = |record: RunRecord| match runs.append(&record) {
            Ok(()) => {
                fresh.push(record);
                ControlFlow::Continue(())
            }
            Err(failure) => {
                broken = Some(failure);
                ControlFlow::Break(())
            }
        };
        sim::sweep(
            &program,
            &batch.scenarios,
            &options,
            &skip,
            &mut sink,
            &|p| progress.at(in_batches_before + p.done as u64),
            stop_flag(),
        )?;
        in_batches_before += (batch.scenarios.len() * seeds.len()) as u64;
        done.extend(fresh.into_iter().map(|record| ((record.scenario.clone(), record.token.clone()), record)));
        if broken.is_some() || stop_flag().load(Ordering::Relaxed) {
            break;
        }
    }
    progress.end();
    if let Some(failure) = broken {
        return Err(failure);
    }
    let records: Vec<RunRecord> = in_order(batches, &seeds, &naming, &done).into_iter().cloned().collect();
    if resumed > 0 {
        dir.start_runs(&records.iter().collect::<Vec<_>>())?;
    }
    let interrupted = records.len() < jobs.len();
    if interrupted {
        let missing = jobs.len() - records.len();
        show::note(format_args!("interrupted: {missing} runs are missing; the same command again does only these"));
    }
    Ok(Swept { records, interrupted })
}

/// Does something with as many threads as are asked for (all cores, if nothing is said): rayon's parallel iterators in it use these.
pub fn in_threads<T: Send>(threads: Option<NonZeroUsize>, f: impl FnOnce() -> T + Send) -> Result<T, Failure> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.map_or(0, NonZeroUsize::get)).build();
    Ok(pool.map_err(|why| sim::SimError::Threads(why.to_string()))?.install(f))
}

/// Refuses times that leave nothing to measure.
pub fn check_times(horizon: Nanos, warm_up: Nanos) -> Result<(), Failure> {
    if warm_up < horizon {
        return Ok(());
    }
    let place = if horizon.is_zero() { "--horizon" } else { "--warmup" };
    Err(Failure::refused(
        place,
        format_args!("a warm-up ({warm_up}) that is shorter than the run ({horizon})"),
        "what comes before the warm-up's end is left out of the statistics",
    ))
}

/// Says which scenarios have faults that the run's times cut short: they are run all the same.
pub fn note_cut_faults(scenarios: &[Scenario], horizon: Nanos, warm_up: Nanos) {
    let (end, warm) = (SimTime::ZERO + horizon, SimTime::ZERO + warm_up);
    for scenario in scenarios {
        if scenario.clears_at().is_some_and(|clears| clears >= end) {
            show::note(format_args!(
                "{}: the run ends at {horizon}, before its faults do; recovery cannot be seen",
                show::plain(&scenario.id)
            ));
        }
        if scenario.starts_at().is_some_and(|starts| starts < warm) {
            show::note(format_args!("{}: its faults begin within the warm-up ({warm_up})", show::plain(&scenario.id)));
        }
    }
}

/// What all tokens of a sweep share.
struct Naming {
    model: [u8; 4],
    world: u32,
    engine: Engine,
}

impl Naming {
    fn token(&self, scenario: &Scenario, horizon: Nanos, seed: u64) -> String {
        let scenario = scenario_hash(scenario);
        Token { model: self.model, scenario, world: self.world, seed, engine: self.engine, horizon }.to_string()
    }
}

/// Runs that the folder holds, by scenario and token, if they were made as these would be.
fn already_done(dir: &OutputDir, settings: &Settings) -> BTreeMap<(String, String), RunRecord> {
    match output::finished(dir.path()) {
        Some((theirs, records)) if settings.agree(&theirs) => {
            records.into_iter().map(|record| ((record.scenario.clone(), record.token.clone()), record)).collect()
        }
        _ => BTreeMap::new(),
    }
}

/// Every job, in order: scenario and token.
fn jobs(batches: &[Batch], seeds: &[u64], naming: &Naming) -> Vec<(String, String)> {
    let mut jobs = Vec::new();
    for batch in batches {
        for &seed in seeds {
            jobs.extend(
                batch.scenarios.iter().map(|scenario| (scenario.id.clone(), naming.token(scenario, batch.horizon, seed))),
            );
        }
    }
    jobs
}

/// The records that there are, in job order.
fn in_order<'a>(
    batches: &[Batch],
    seeds: &[u64],
    naming: &Naming,
    records: &'a BTreeMap<(String, String), RunRecord>,
) -> Vec<&'a RunRecord> {
    jobs(batches, seeds, naming).iter().filter_map(|job| records.get(job)).collect()
}

/// Set by the first Ctrl-C (or SIGTERM); a second one ends the process at once. Runs under way are finished or dropped, finished
/// ones are kept.
pub fn stop_flag() -> &'static AtomicBool {
    static STOP: LazyLock<AtomicBool> = LazyLock::new(|| {
        let heard = ctrlc::set_handler(|| {
            if stop_flag().swap(true, Ordering::Relaxed) {
                process::exit(i32::from(exit::INTERRUPTED));
            }
            show::note("\nstopping after the runs under way; once more to stop at once");
        });
        if let Err(why) = heard {
            show::note(format_args!("Ctrl-C will end this at once, without a report: {why}"));
        }
        AtomicBool::new(false)
    });
    &STOP
}
