//! Many runs: every scenario with every seed, in parallel, each judged beside its fault-free twin.
//!
//! You are here: `sim::sweep`. The command line calls [`sweep`]; records leave in job order through a sink, so memory does not grow
//! with the number of runs, and the files made of them are the same on any number of threads.
//! A job is (seed, scenario), seeds outermost: scenarios of one seed share their twins (one for each load), go on from copies of them taken
//! where their first fault begins, and end where they have become them again.
//! Always true: a few seeds are under way at once, so that threads which wait for one seed's twin work on another's jobs; their
//! twins go when their last job is done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};

use models::units::Nanos;
use rayon::ScopeFifo;
use scenarios::record::{RunRecord, Series};
use scenarios::scenario::Scenario;
use scenarios::token::{Engine, Token, scenario_hash};

use crate::des::{BUCKET_NS, FaultPlan, Keep};
use crate::program::Program;
use crate::run::{Finished, Prepared, RunOptions, check_horizon};
use crate::twin::{Twin, Wanted};
use crate::verdict::{Case, judge, window_of};
use crate::{SimError, hosted};

/// A live experiment's latencies are taken up to this long after its clearing.
const IMPACT_NS: u64 = 5_000_000_000;

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
    /// What need not be simulated. The hosted engine knows no shortcuts.
    pub shortcuts: Shortcuts,
    /// Which engine runs.
    pub engine: Engine,
}

/// What a sweep need not simulate, because a twin has done it. Records do not depend on it, but for `coalesced_at_s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shortcuts {
    /// What comes before a run's first fault, and what comes after it has become its twin again.
    #[default]
    All,
    /// What comes before its first fault.
    ForkOnly,
    /// Nothing: every run from its start to its end. For tests and benches.
    None,
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
    /// Events of them, those that were spared included, those of twins not.
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
    if options.engine == Engine::Hosted {
        hosted::check(program)?;
    }
    let plans: Vec<Arc<FaultPlan>> = scenarios.iter().map(|s| FaultPlan::new(program, s)).collect::<Result<_, _>>()?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build()
        .map_err(|error| SimError::Threads(error.to_string()))?;
    let total = scenarios.len() * options.seeds.len();
    let all = Work {
        program,
        scenarios,
        plans: &plans,
        options,
        threads: pool.current_num_threads(),
        stop,
        ended: AtomicBool::new(false),
        progress,
        finished: AtomicUsize::new(done.len().min(total)),
        total,
    };
    let mut seeds = options.seeds.iter().filter_map(|&seed| {
        let jobs: Vec<usize> = (0..scenarios.len()).filter(|&i| !done.contains(&(i, seed))).collect();
        (!jobs.is_empty()).then_some((seed, jobs))
    });
    Ok(pool.in_place_scope_fifo(|scope| {
        let mut notes = SweepNotes::default();
        let mut under_way: VecDeque<Pending> = VecDeque::new();
        loop {
            while under_way.len() <= all.threads
                && let Some((seed, jobs)) = seeds.next()
            {
                under_way.push_back(start(scope, &all, seed, jobs));
            }
            let Some(mut first) = under_way.pop_front() else { return notes };
            for record in first.records() {
                let Some(record) = record else {
                    notes.stopped = true;
                    continue;
                };
                notes.runs += 1;
                notes.events += record.events;
                if sink(record).is_break() {
                    notes.stopped = true;
                    all.ended.store(true, Ordering::Relaxed);
                    return notes;
                }
            }
            if notes.stopped {
                all.ended.store(true, Ordering::Relaxed);
                return notes;
            }
        }
    }))
}

/// The series of one scenario's run and of its twin, for plots.
///
/// # Errors
/// As [`sweep`].
pub fn series(program: &Program, scenario: &Scenario, options: &RunOptions) -> Result<(Series, Series), SimError> {
    let options = RunOptions { series: true, ..options.clone() };
    let run = Prepared::new(program, scenario, &options)?.run();
    let twin = Prepared::fault_free(program, scenario.load(), &options, Keep::Series).run();
    Ok((run.series(), twin.series()))
}

/// What all jobs of a sweep share.
struct Work<'a> {
    program: &'a Program,
    scenarios: &'a [Scenario],
    plans: &'a [Arc<FaultPlan>],
    options: &'a SweepOptions,
    threads: usize,
    stop: &'a AtomicBool,
    /// The sink wants no more.
    ended: AtomicBool,
    progress: &'a (dyn Fn(Progress) + Sync),
    finished: AtomicUsize,
    total: usize,
}

impl Work<'_> {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.ended.load(Ordering::Relaxed)
    }
}

/// The jobs of one seed, while threads take them one after the other.
struct OfSeed {
    options: RunOptions,
    /// Scenarios, by index.
    jobs: Vec<usize>,
    next: AtomicUsize,
    /// By the load's bits. The baseline (load 1) is always among them.
    twins: BTreeMap<u64, OnceLock<Arc<Twin>>>,
    /// Twins that are still to be made.
    missing: AtomicUsize,
    results: Sender<(usize, Option<RunRecord>)>,
}

/// The records of one seed, as they come in.
struct Pending {
    jobs: usize,
    results: Receiver<(usize, Option<RunRecord>)>,
}

impl Pending {
    /// In job order, each as soon as it is there; `None` for a job that was not done.
    fn records(&mut self) -> impl Iterator<Item = Option<RunRecord>> {
        let mut early = BTreeMap::new();
        (0..self.jobs).map(move |job| {
            loop {
                if let Some(record) = early.remove(&job) {
                    return record;
                }
                // (Should a thread panic, its sender goes, and the scope passes the panic on.)
                let Ok((job, record)) = self.results.recv() else { return None };
                early.insert(job, record);
            }
        })
    }
}

/// Lets threads make a seed's twins, and then do its jobs.
fn start<'s, 'a: 's>(scope: &ScopeFifo<'s>, all: &'s Work<'a>, seed: u64, jobs: Vec<usize>) -> Pending {
    let SweepOptions { horizon, warm_up, max_events, .. } = *all.options;
    let options = RunOptions { seed, horizon, warm_up, series: false, max_events, engine: all.options.engine };
    let mut loads: BTreeMap<u64, Vec<usize>> = BTreeMap::from([(1f64.to_bits(), Vec::new())]);
    for &i in &jobs {
        loads.entry(all.scenarios[i].load().to_bits()).or_default().push(i);
    }
    let (results, receiver) = channel();
    let pending = Pending { jobs: jobs.len(), results: receiver };
    let of_seed = Arc::new(OfSeed {
        options,
        jobs,
        next: AtomicUsize::new(0),
        twins: loads.keys().map(|&load| (load, OnceLock::new())).collect(),
        missing: AtomicUsize::new(loads.len()),
        results,
    });
    for (load, of_load) in loads {
        let of_seed = Arc::clone(&of_seed);
        scope.spawn_fifo(move |scope| {
            if !all.is_over() {
                let load = f64::from_bits(load);
                let twin = match all.options.engine {
                    Engine::Kernel => Twin::new(all.program, load, &of_seed.options, &wanted(all, &of_load)),
                    Engine::Hosted => hosted::twin(all.program, load, &of_seed.options),
                };
                let _ = of_seed.twins[&load.to_bits()].set(Arc::new(twin));
            }
            if of_seed.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
                for _ in 0..all.threads.min(of_seed.jobs.len()) {
                    let of_seed = Arc::clone(&of_seed);
                    scope.spawn_fifo(move |_| of_seed.work(all));
                }
            }
        });
    }
    pending
}

/// What these scenarios want of their twin.
fn wanted(all: &Work, scenarios: &[usize]) -> Wanted {
    let plans = || scenarios.iter().map(|&i| &all.plans[i]);
    match all.options.shortcuts {
        Shortcuts::None => Wanted::default(),
        shortcuts => Wanted {
            starts: plans().map(|plan| plan.start.map_or(0, |t| t.as_nanos())).collect(),
            calm_from: plans().map(|plan| calm(plan, all.options)).min().filter(|_| shortcuts == Shortcuts::All),
        },
    }
}

/// The buckets that a judged run keeps its users and impact for.
pub(crate) fn judged_buckets(plan: &FaultPlan, options: &RunOptions) -> (usize, usize) {
    let (start, clear) = window_of(plan, options);
    (start, clear + (IMPACT_NS / BUCKET_NS) as usize)
}

/// When a plan's last fault is over, in nanoseconds; without faults, when the warm-up is.
fn calm(plan: &FaultPlan, options: &SweepOptions) -> u64 {
    plan.clear.map_or(options.warm_up.as_nanos(), |t| t.as_nanos())
}

impl OfSeed {
    /// Does jobs until there are no more.
    fn work(&self, all: &Work) {
        loop {
            let job = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(&scenario) = self.jobs.get(job) else { return };
            let record = if all.is_over() { None } else { self.judge(all, scenario) };
            if record.is_some() {
                let done = all.finished.fetch_add(1, Ordering::Relaxed) + 1;
                (all.progress)(Progress { done, total: all.total });
            }
            // (Nobody listens any more once the sink has ended the sweep.)
            let _ = self.results.send((job, record));
        }
    }

    fn run(&self, all: &Work, scenario: &Scenario, plan: &Arc<FaultPlan>, twin: &Arc<Twin>) -> Finished {
        if all.options.engine == Engine::Hosted {
            return hosted::judged(all.program, plan, scenario.load(), &self.options, twin);
        }
        let shortcuts = all.options.shortcuts;
        let mut run = match shortcuts {
            Shortcuts::None => Prepared::fault_free(all.program, scenario.load(), &self.options, Keep::Judged).with(plan),
            Shortcuts::ForkOnly | Shortcuts::All => twin.fork(plan),
        };
        let (start, end) = judged_buckets(plan, &self.options);
        run.recorder_mut().judge_from(start, end, &twin.wide);
        match shortcuts {
            Shortcuts::None => run.run(),
            Shortcuts::ForkOnly => run.run_beside(Some(twin), None),
            Shortcuts::All => run.run_beside(Some(twin), Some(calm(plan, all.options))),
        }
    }

    /// Runs one scenario and judges it. `None` if a stop kept its twins from being made.
    fn judge(&self, all: &Work, i: usize) -> Option<RunRecord> {
        let (scenario, plan) = (&all.scenarios[i], &all.plans[i]);
        let twin = self.twins[&scenario.load().to_bits()].get()?;
        let baseline = self.twins[&1f64.to_bits()].get()?;
        let run = self.run(all, scenario, plan, twin);
        let token = Token {
            model: all.options.model_hash,
            scenario: scenario_hash(scenario),
            world: all.program.world(),
            seed: self.options.seed,
            engine: all.options.engine,
            horizon: self.options.horizon,
        };
        Some(judge(&Case { run: &run, twin, baseline, plan, scenario }, token.to_string()))
    }
}

#[cfg(test)]
mod tests;
