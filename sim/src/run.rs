//! One run: a model, a scenario, a seed.
//!
//! You are here: `sim::run`. `simulate` runs from the start and prints totals (`result`); `sweep` lets runs go on from their fault-free twin
//! (`twin`), and stop where they have become it again.
//! Always true: a run that was forked or spliced has the digest, the number of events and the steps of the whole run.
//! Not here: clocks. Members read none: whoever wants CPU seconds measures around [`Prepared::run`].

use std::ops::Range;
use std::sync::Arc;

use models::units::Nanos;
use scenarios::scenario::Scenario;
use scenarios::token::Engine;

use crate::des::{BUCKET_NS, FaultPlan, Keep, NodeStep, Noted, Recorder, State, SystemStep, Tracer};
use crate::program::{Program, Tables};
use crate::spans::SpanOptions;
use crate::twin::Twin;
use crate::{SimError, hosted};

/// Longest run: 100 hours. Events hold 146 years; the limit is one of memory, since a judged run keeps a few dozen bytes for every node and
/// 250 ms.
pub const MAX_HORIZON: Nanos = Nanos::from_secs(360_000);
/// Events after which a run ends early, unless told otherwise.
pub const DEFAULT_MAX_EVENTS: u64 = 500_000_000;

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Gives every request its luck.
    pub seed: u64,
    /// Length of the run.
    pub horizon: Nanos,
    /// What is left out of the statistics.
    pub warm_up: Nanos,
    /// Whether to keep everything over time; otherwise memory does not grow with the run's length.
    pub series: bool,
    /// Events after which the run ends early, marked as truncated.
    pub max_events: u64,
    /// What runs it, where either engine can: [`run`], [`crate::judged`], [`crate::story()`], [`crate::error_rate_at`].
    pub engine: Engine,
}

impl Default for RunOptions {
    fn default() -> Self {
        RunOptions {
            seed: 1,
            horizon: Nanos::from_secs(120),
            warm_up: Nanos::ZERO,
            series: false,
            max_events: DEFAULT_MAX_EVENTS,
            engine: Engine::Kernel,
        }
    }
}

/// Runs a scenario to its horizon on the engine that the options name.
///
/// # Errors
/// A scenario that does not fit the model, a horizon beyond [`MAX_HORIZON`], what the hosted engine cannot do (see [`hosted::run`]).
pub fn run(program: &Program, scenario: &Scenario, options: &RunOptions) -> Result<Finished, SimError> {
    match options.engine {
        Engine::Kernel => Ok(Prepared::new(program, scenario, options)?.run()),
        Engine::Hosted => hosted::run(program, scenario, options),
    }
}

/// A run that is ready to start, or to go on.
#[derive(Debug)]
pub struct Prepared {
    program: Program,
    state: State,
    options: RunOptions,
}

/// A run that is over.
#[derive(Debug)]
pub struct Finished {
    pub(crate) program: Program,
    pub(crate) recorder: Recorder,
    pub(crate) tracer: Option<Box<Tracer>>,
    pub(crate) digest: u64,
    pub(crate) events: u64,
    pub(crate) truncated: bool,
    pub(crate) options: RunOptions,
    /// Whose steps it has where it has none of its own: before its fork, and after its seam.
    twin: Option<Arc<Twin>>,
    /// Since when it is its twin again, in seconds.
    pub(crate) coalesced_at_s: Option<u64>,
}

/// Checks a run's length against what its clock and memory can hold.
pub(crate) fn check_horizon(horizon: Nanos) -> Result<(), SimError> {
    if horizon > MAX_HORIZON {
        let (max_s, wanted_s) = (MAX_HORIZON.as_nanos() / 1_000_000_000, horizon.as_nanos() / 1_000_000_000);
        return Err(SimError::Horizon { max_s, wanted_s });
    }
    Ok(())
}

impl Prepared {
    /// Resolves the scenario and sets the run to time 0.
    ///
    /// # Errors
    /// A target that the model does not have, or a horizon beyond [`MAX_HORIZON`].
    pub fn new(program: &Program, scenario: &Scenario, options: &RunOptions) -> Result<Prepared, SimError> {
        check_horizon(options.horizon)?;
        let plan = FaultPlan::new(program, scenario)?;
        let keep = if options.series { Keep::Series } else { Keep::Totals };
        let mut prepared = Prepared::fault_free(program, scenario.load(), options, keep);
        prepared.state.recorder.watch_edges(&program.0);
        prepared.state.arm(&plan);
        Ok(prepared)
    }

    /// A run without faults at some load, at time 0.
    pub(crate) fn fault_free(program: &Program, load: f64, options: &RunOptions, keep: Keep) -> Prepared {
        let mut state = State::new(&program.0, load, options.seed);
        state.recorder.keep(&program.0, keep, options.warm_up.as_nanos());
        Prepared { program: program.clone(), state, options: options.clone() }
    }

    /// Runs on to `at`; true if the budget of events ended the run before.
    pub(crate) fn run_to(&mut self, at: Nanos) -> bool {
        let p = &*self.program.0;
        let warm_up = self.options.warm_up.as_nanos();
        if self.state.now < warm_up && warm_up <= at.as_nanos() {
            if self.state.run_until(p, warm_up, self.options.max_events) {
                return true;
            }
            self.state.recorder.warmed_up(warm_up);
        }
        self.state.run_until(p, at.as_nanos(), self.options.max_events)
    }

    /// The run as it stands, for scenarios to go on from: what was recorded so far stays behind.
    pub(crate) fn snapshot(&mut self) -> Prepared {
        let recorder = std::mem::take(&mut self.state.recorder);
        let mut state = self.state.clone();
        state.recorder = recorder.fork();
        self.state.recorder = recorder;
        Prepared { program: self.program.clone(), state, options: self.options.clone() }
    }

    /// A copy of a snapshot, with a scenario's faults ahead of it.
    pub(crate) fn fork(&self, plan: &Arc<FaultPlan>) -> Prepared {
        let mut state = self.state.clone();
        state.arm(plan);
        Prepared { program: self.program.clone(), state, options: self.options.clone() }
    }

    /// The same run with a scenario's faults ahead of it.
    pub(crate) fn with(mut self, plan: &Arc<FaultPlan>) -> Prepared {
        self.state.arm(plan);
        self
    }

    /// Traces the run, which must not have begun: [`Finished::spans`] then has its spans. Nothing else of the run changes.
    pub fn trace(mut self, options: &SpanOptions) -> Prepared {
        self.state.trace(options.tracer());
        self
    }

    /// Logs the run, which must not have begun.
    pub(crate) fn log(&mut self) {
        self.state.log();
    }

    /// What has been logged since it was last taken.
    pub(crate) fn take_log(&mut self) -> Vec<Noted> {
        self.state.take_log()
    }

    pub(crate) fn horizon(&self) -> Nanos {
        self.options.horizon
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.program.0
    }

    pub(crate) fn recorder_mut(&mut self) -> &mut Recorder {
        &mut self.state.recorder
    }

    /// Runs to the horizon.
    pub fn run(self) -> Finished {
        self.run_beside(None, None)
    }

    /// Runs to the horizon. `twin`: whose steps it has before its fork. `calm`: when its last fault is over; from then on it may turn
    /// out to have become its twin, and is not simulated any further.
    pub(crate) fn run_beside(mut self, twin: Option<&Arc<Twin>>, calm: Option<u64>) -> Finished {
        if let (Some(twin), Some(calm)) = (twin, calm) {
            for point in twin.points.after(calm) {
                if self.run_to(Nanos::from_nanos(point.at)) {
                    return self.finish(true, Some(twin));
                }
                let rest = twin.finished.events - point.events;
                // (Were the budget to end it before the horizon, it would not end as its twin does.)
                if self.state.events + rest < self.options.max_events
                    && self.state.has_words(&self.program.0, twin.points.words(point))
                {
                    self.state.events += rest;
                    self.state.digest = self.state.digest.wrapping_add(twin.finished.digest.wrapping_sub(point.digest));
                    let open: Vec<u32> = self.state.open_user_requests().map(|(number, _)| number).collect();
                    let step = |bucket: usize, node: usize| twin.nodes[node].column.steps[bucket];
                    let buckets = twin.finished.recorder.closed();
                    self.state.recorder.splice(&twin.finished.recorder, buckets, step, open.into_iter());
                    return Finished { coalesced_at_s: Some(point.at / 1_000_000_000), ..self.finish(false, Some(twin)) };
                }
            }
        }
        let truncated = self.run_to(self.options.horizon);
        self.end_beside(truncated, twin)
    }

    /// Ends the run as it stands.
    pub(crate) fn end(self, truncated: bool) -> Finished {
        self.end_beside(truncated, None)
    }

    fn end_beside(mut self, truncated: bool, twin: Option<&Arc<Twin>>) -> Finished {
        for (number, began) in self.state.open_user_requests().collect::<Vec<_>>() {
            let lasted = self.state.now - began;
            self.state.recorder.user_unfinished(number, lasted);
        }
        self.finish(truncated, twin)
    }

    fn finish(mut self, truncated: bool, twin: Option<&Arc<Twin>>) -> Finished {
        let now = self.state.now;
        self.state.recorder.end(now);
        Finished {
            program: self.program,
            digest: self.state.digest,
            events: self.state.events,
            recorder: self.state.recorder,
            tracer: self.state.tracer,
            truncated,
            options: self.options,
            twin: twin.cloned(),
            coalesced_at_s: None,
        }
    }
}

impl Finished {
    /// A run of the hosted engine.
    pub(crate) fn hosted(
        program: &Program,
        recorder: Recorder,
        digest: u64,
        events: u64,
        truncated: bool,
        options: &RunOptions,
    ) -> Finished {
        let (program, options) = (program.clone(), options.clone());
        Finished { program, recorder, tracer: None, digest, events, truncated, options, twin: None, coalesced_at_s: None }
    }

    /// Fingerprint of everything that happened: 16 hex digits.
    pub fn digest(&self) -> String {
        format!("{:016x}", self.digest)
    }

    /// Buckets that it lasted.
    pub(crate) fn buckets(&self) -> usize {
        self.recorder.closed()
    }

    /// A node's steps in these buckets, its twin's where they are the same.
    pub(crate) fn read_steps(&self, node: usize, buckets: Range<usize>, out: &mut Vec<NodeStep>) {
        let (before, own, after) = self.parts(buckets);
        let shared = |buckets: Range<usize>| match &self.twin {
            Some(twin) => &twin.nodes[node].column.steps[buckets],
            None => &[],
        };
        out.extend_from_slice(shared(before));
        out.extend(own.map(|bucket| self.recorder.step(bucket, node)));
        out.extend_from_slice(shared(after));
    }

    /// The whole system in these buckets.
    pub(crate) fn system(&self, buckets: Range<usize>) -> Vec<SystemStep> {
        let (before, own, after) = self.parts(buckets);
        let shared = |buckets: Range<usize>| match &self.twin {
            Some(twin) => &twin.finished.recorder.system()[buckets],
            None => &[],
        };
        let base = self.recorder.own_buckets().start;
        [shared(before), &self.recorder.system()[own.start - base..own.end - base], shared(after)].concat()
    }

    /// Parts a range of buckets into those before its own, its own, and those after.
    fn parts(&self, buckets: Range<usize>) -> (Range<usize>, Range<usize>, Range<usize>) {
        let own = self.recorder.own_buckets();
        let clamp = |bucket: usize| bucket.clamp(buckets.start, buckets.end.max(buckets.start));
        let (first, last) = (clamp(own.start), clamp(own.end));
        let own = if first < last { first..last } else { own.start..own.start };
        (buckets.start..first, own, last..clamp(buckets.end))
    }
}

/// The bucket that begins at a time, or the first one after it.
pub(crate) fn bucket_from(ns: u64) -> usize {
    ns.div_ceil(BUCKET_NS) as usize
}
