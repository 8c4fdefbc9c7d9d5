//! Many runs: every scenario with every seed, in parallel, each judged beside its fault-free twin.
//!
//! You are here: `sim::sweep`. The command line calls [`sweep`]; records leave in job order through a sink, so memory does not grow
//! with the number of runs, and the files made of them are the same on any number of threads.
//! A job is (seed, scenario), seeds outermost: scenarios of one seed share their twin, and go on from copies of it taken where
//! their first fault begins, so that the time before is simulated once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use models::units::Nanos;
use rayon::prelude::*;
use scenarios::record::{RunRecord, Series};
use scenarios::scenario::Scenario;
use scenarios::token::{Engine, Token, scenario_hash};

use crate::SimError;
use crate::des::{BUCKET_NS, FaultPlan};
use crate::program::Program;
use crate::run::{Finished, Prepared, RunOptions, check_horizon};
use crate::verdict::{Case, judge, window_of};

/// Jobs that are given out together: enough to keep all threads busy to the last.
const BATCH: usize = 256;

/// How to sweep.
#[derive(Clone, Debug)]
pub struct SweepOptions {
    /// The seeds, in order.
    pub seeds: Vec<u64>,
    /// Length of each run.
    pub horizon: Nanos,
    /// What is left out of the statistics.
    pub warm_up: Nanos,
    /// Threads; 0 = one a core.
    pub threads: usize,
    /// Events after which one run ends early.
    pub max_events: u64,
    /// For tokens: `scenarios::token::model_hash` of the model.
    pub model_hash: [u8; 4],
}

/// How far a sweep has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Runs done, those of earlier sweeps included.
    pub done: usize,
    /// Runs in all.
    pub total: usize,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepNotes {
    /// Runs made now.
    pub runs: usize,
    /// Events handled in them, those of twins not included.
    pub events: u64,
    /// True if `stop` or the sink ended it before all runs were made.
    pub stopped: bool,
}

/// Runs every scenario with every seed, but for those jobs (scenario index, seed) that are `done` already. `sink` gets the records in
/// job order (seeds outermost) and may end the sweep; so does `stop`, after the runs that are under way.
///
/// # Errors
/// A scenario that does not fit the model, or a horizon beyond [`crate::run::MAX_HORIZON`]; nothing has run then.
pub fn sweep(
    program: &Program,
    scenarios: &[Scenario],
    options: &SweepOptions,
    done: &BTreeSet<(usize, u64)>,
    sink: &mut dyn FnMut(RunRecord) -> ControlFlow<()>,
    progress: &(dyn Fn(Progress) + Sync),
    stop: &AtomicBool,
) -> Result<SweepNotes, SimError> {
    check_horizon(options.horizon)?;
    let plans: Vec<Arc<FaultPlan>> = scenarios.iter().map(|s| FaultPlan::new(program, s)).collect::<Result<_, _>>()?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build()
        .map_err(|error| SimError::Threads(error.to_string()))?;
    let total = scenarios.len() * options.seeds.len();
    let finished = std::sync::atomic::AtomicUsize::new(done.len().min(total));
    let mut notes = SweepNotes::default();
    let seeds_a_batch = BATCH.div_ceil(scenarios.len().max(1)).clamp(1, 16);
    for seeds in options.seeds.chunks(seeds_a_batch) {
        let jobs: Vec<(u64, usize)> = (seeds.iter())
            .flat_map(|&seed| (0..scenarios.len()).map(move |i| (seed, i)))
            .filter(|&(seed, i)| !done.contains(&(i, seed)))
            .collect();
        let wanted: BTreeSet<u64> = jobs.iter().map(|&(seed, _)| seed).collect();
        let wanted: Vec<u64> = wanted.into_iter().collect();
        let records: Vec<Option<RunRecord>> = pool.install(|| {
            let twins: BTreeMap<u64, Twins> = wanted
                .par_iter()
                .map(|&seed| (seed, Twins::new(program, scenarios, &plans, &run_options(options, seed), stop)))
                .collect();
            jobs.par_iter()
                .map(|&(seed, i)| {
                    if stop.load(Ordering::Relaxed) {
                        return None;
                    }
                    let record = twins[&seed].judge(scenarios, &plans, i, options.model_hash)?;
                    let done = finished.fetch_add(1, Ordering::Relaxed) + 1;
                    progress(Progress { done, total });
                    Some(record)
                })
                .collect()
        });
        for record in records {
            let Some(record) = record else {
                notes.stopped = true;
                continue;
            };
            notes.runs += 1;
            notes.events += record.events;
            if sink(record).is_break() {
                notes.stopped = true;
                return Ok(notes);
            }
        }
        if notes.stopped {
            return Ok(notes);
        }
    }
    Ok(notes)
}

/// The series of one scenario's run and of its twin, for plots.
///
/// # Errors
/// As [`sweep`].
pub fn series(program: &Program, scenario: &Scenario, options: &RunOptions) -> Result<(Series, Series), SimError> {
    let options = RunOptions { series: true, ..options.clone() };
    let run = Prepared::new(program, scenario, &options)?.run();
    let twin = Prepared::fault_free(program, scenario.load(), &options).run();
    Ok((run.series(), twin.series()))
}

fn run_options(options: &SweepOptions, seed: u64) -> RunOptions {
    RunOptions { seed, horizon: options.horizon, warm_up: options.warm_up, series: false, max_events: options.max_events }
}

/// The fault-free runs of one seed: by load, with copies from where faults begin.
struct Twins {
    /// By the load's bits.
    by_load: BTreeMap<u64, Twin>,
}

struct Twin {
    finished: Finished,
    /// By the first fault's start, in nanoseconds.
    forks: BTreeMap<u64, Prepared>,
}

impl Twins {
    fn new(
        program: &Program,
        scenarios: &[Scenario],
        plans: &[Arc<FaultPlan>],
        options: &RunOptions,
        stop: &AtomicBool,
    ) -> Twins {
        let mut starts: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::from([(1f64.to_bits(), BTreeSet::new())]);
        for (scenario, plan) in scenarios.iter().zip(plans) {
            let start = plan.start.map_or(0, |t| t.as_nanos());
            starts.entry(scenario.load().to_bits()).or_default().insert(start);
        }
        let twin = |(load, starts): (u64, BTreeSet<u64>)| {
            let mut run = Prepared::fault_free(program, f64::from_bits(load), options);
            let mut forks = BTreeMap::new();
            for start in starts {
                let earlier = start <= options.horizon.as_nanos() && !stop.load(Ordering::Relaxed);
                if earlier && !run.run_to(Nanos::from_nanos(start)) {
                    forks.insert(start, run.copy());
                }
            }
            (load, Twin { finished: run.run(), forks })
        };
        Twins { by_load: starts.into_iter().map(twin).collect() }
    }

    /// Runs one scenario and judges it. `None` if the run could not be forked because a stop came in between.
    fn judge(&self, scenarios: &[Scenario], plans: &[Arc<FaultPlan>], i: usize, model_hash: [u8; 4]) -> Option<RunRecord> {
        let (scenario, plan) = (&scenarios[i], &plans[i]);
        let twin = &self.by_load[&scenario.load().to_bits()];
        let baseline = &self.by_load[&1f64.to_bits()];
        let start = plan.start.map_or(0, |t| t.as_nanos());
        let mut prepared = twin.forks.get(&start)?.fork(plan);
        let options = &twin.finished.options;
        let (from, clear) = window_of(plan, options);
        let impact_end = clear + (5_000_000_000 / BUCKET_NS) as usize;
        prepared.recorder_mut().watch_impact(from..impact_end);
        let run = prepared.run();
        let token = Token {
            model: model_hash,
            scenario: scenario_hash(scenario),
            world: run.program.world(),
            seed: options.seed,
            engine: Engine::Kernel,
            horizon: options.horizon,
        };
        let case = Case { run: &run, twin: &twin.finished, baseline: &baseline.finished, plan, scenario };
        Some(judge(&case, token.to_string()))
    }
}
