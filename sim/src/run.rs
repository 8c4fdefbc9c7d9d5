//! One run: a model, a scenario, a seed; what came of it in numbers.
//!
//! You are here: `sim::run`. `simulate` gives a person the totals of a run; `sweep` makes thousands and judges them (`verdict`).
//! Not here: clocks. Members read none: whoever wants CPU seconds measures around [`Prepared::run`].

use std::sync::Arc;

use indexmap::IndexMap;
use models::metrics::Histogram;
use models::units::Nanos;
use scenarios::record::{EdgeSeries, NodeSeries, Series};
use scenarios::scenario::Scenario;
use serde::Serialize;

use crate::SimError;
use crate::des::{BUCKET_NS, FaultPlan, NO_P99, Recorder, State};
use crate::program::{NodeKind, Program};

/// Longest run: 100 hours. Events hold 146 years; the limit is one of memory, since a few dozen bytes are kept for every node and
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
    /// Whether to keep edges bucket by bucket.
    pub series: bool,
    /// Events after which the run ends early, marked as truncated.
    pub max_events: u64,
}

impl Default for RunOptions {
    fn default() -> Self {
        RunOptions {
            seed: 1,
            horizon: Nanos::from_secs(120),
            warm_up: Nanos::ZERO,
            series: false,
            max_events: DEFAULT_MAX_EVENTS,
        }
    }
}

/// A run that is ready to start.
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
    pub(crate) digest: u64,
    pub(crate) events: u64,
    pub(crate) truncated: bool,
    pub(crate) options: RunOptions,
}

/// Calls over one edge, as their callers saw them: those that ended after the warm-up.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CallStats {
    /// Calls, all tries of one together.
    pub requests: u64,
    /// Tries.
    pub attempts: u64,
    /// Calls that failed for good.
    pub errors: u64,
    /// `errors / requests`; 0 without requests.
    pub error_rate: f64,
    /// Mean latency, first try to outcome, ms.
    pub mean_ms: f64,
    /// Median, ms.
    pub p50_ms: f64,
    /// 99th percentile, nearest rank, ms.
    pub p99_ms: f64,
    /// Failed tries by cause.
    pub failed_attempts: FailedAttempts,
}

/// Failed tries by cause.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FailedAttempts {
    /// Answered with an error.
    pub error: u64,
    /// Refused because the queue was full.
    pub overload: u64,
    /// No answer in time.
    pub timeout: u64,
    /// Connection refused or reset.
    pub connection: u64,
    /// Refused by the circuit breaker.
    pub breaker_open: u64,
    /// Refused because the caller had too many under way already.
    pub bulkhead: u64,
}

/// One service after the warm-up.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ServiceStats {
    /// Requests that were answered, refused ones included.
    pub requests: u64,
    /// Of these failed.
    pub errors: u64,
    /// Time-mean of held workers / workers; 0 if unlimited.
    pub utilisation: f64,
    /// Mean wait of the requests that got a worker, ms.
    pub mean_wait_ms: f64,
    /// Time-mean of the requests present, all replicas.
    pub mean_in_system: f64,
    /// Deepest queue of one replica, the warm-up included.
    pub queue_peak: u32,
    /// Requests worked on to their end although their callers had given up.
    pub wasted: u64,
    /// Median time from arrival to answer, ms.
    pub p50_ms: f64,
    /// 99th percentile of the same, ms.
    pub p99_ms: f64,
}

/// The totals of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunResult {
    /// Fingerprint of everything that happened, 16 hex digits.
    pub digest: String,
    /// User requests that arrived.
    pub requests: u64,
    /// Events handled.
    pub events: u64,
    /// CPU time of the event loop alone; the caller measures it.
    pub cpu_seconds: f64,
    /// True if the budget of events ended the run early.
    pub truncated: bool,
    /// By entry: the users' calls.
    pub entries: IndexMap<String, CallStats>,
    /// By edge `a->b`, the entries' own included.
    pub boundaries: IndexMap<String, CallStats>,
    /// By service.
    pub services: IndexMap<String, ServiceStats>,
    /// By topic: messages, from publish to acknowledgement.
    pub topics: IndexMap<String, ServiceStats>,
    /// Everything over time, if wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<Series>,
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
        let mut prepared = Prepared::fault_free(program, scenario.load(), options);
        prepared.state.recorder.watch_details();
        prepared.state.arm(&plan);
        Ok(prepared)
    }

    /// A run without faults at some load.
    pub(crate) fn fault_free(program: &Program, load: f64, options: &RunOptions) -> Prepared {
        let mut state = State::new(&program.0, load, options.seed);
        state.recorder.configure(options.warm_up.as_nanos(), options.series);
        Prepared { program: program.clone(), state, options: options.clone() }
    }

    /// The same run as it stands at `at`, from where scenarios with later faults can go on. `None` if the budget ended it before.
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

    /// A copy of the run as it stands, with a scenario's faults ahead of it.
    pub(crate) fn fork(&self, plan: &Arc<FaultPlan>) -> Prepared {
        let mut state = self.state.clone();
        state.arm(plan);
        Prepared { program: self.program.clone(), state, options: self.options.clone() }
    }

    /// A copy of the run as it stands.
    pub(crate) fn copy(&self) -> Prepared {
        Prepared { program: self.program.clone(), state: self.state.clone(), options: self.options.clone() }
    }

    pub(crate) fn recorder_mut(&mut self) -> &mut Recorder {
        &mut self.state.recorder
    }

    /// Runs to the horizon.
    pub fn run(mut self) -> Finished {
        let truncated = self.run_to(self.options.horizon);
        let now = self.state.now;
        self.state.recorder.settle(now);
        self.state.note_unfinished();
        Finished {
            program: self.program,
            digest: self.state.digest,
            events: self.state.events,
            recorder: self.state.recorder,
            truncated,
            options: self.options,
        }
    }
}

impl Finished {
    /// Fingerprint of everything that happened: 16 hex digits.
    pub fn digest(&self) -> String {
        format!("{:016x}", self.digest)
    }

    /// The totals of the run.
    pub fn result(&self) -> RunResult {
        let p = &*self.program.0;
        let r = &self.recorder;
        let seconds = (self.options.horizon.as_secs_f64() - self.options.warm_up.as_secs_f64()).max(1e-9);
        let boundaries: IndexMap<String, CallStats> =
            p.policies.iter().enumerate().map(|(e, edge)| (edge.name.to_string(), self.calls(e))).collect();
        let entries = p.entries.iter().enumerate().map(|(i, entry)| {
            let edge = p.sites[entry.call as usize].edge as usize;
            (p.nodes[i].name.clone(), self.calls(edge))
        });
        let node = |n: usize| {
            let (latencies, errors, ended) = r.node_totals(n);
            ServiceStats {
                requests: ended,
                errors,
                p50_ms: latencies.quantile_ms(500),
                p99_ms: latencies.quantile_ms(990),
                queue_peak: (0..r.system.len()).map(|b| r.step(b, n).queue).max().unwrap_or(0),
                ..ServiceStats::default()
            }
        };
        let services = p.services.iter().enumerate().map(|(s, service)| {
            let totals = r.service_since_warm_up(s);
            let workers = f64::from(service.workers) * f64::from(service.replicas);
            let stats = ServiceStats {
                utilisation: if service.workers == u32::MAX { 0.0 } else { totals.busy as f64 / 1e9 / seconds / workers },
                mean_wait_ms: totals.waits_ns as f64 / 1e6 / (totals.started.max(1)) as f64,
                mean_in_system: totals.present as f64 / 1e9 / seconds,
                wasted: totals.wasted,
                ..node(service.node as usize)
            };
            (p.nodes[service.node as usize].name.clone(), stats)
        });
        RunResult {
            digest: self.digest(),
            requests: (r.users.len() + r.surged.len()) as u64,
            events: self.events,
            cpu_seconds: 0.0,
            truncated: self.truncated,
            entries: entries.collect(),
            boundaries,
            services: services.collect(),
            topics: p.topics.iter().map(|t| (p.nodes[t.node as usize].name.clone(), node(t.node as usize))).collect(),
            series: self.options.series.then(|| self.series()),
        }
    }

    fn calls(&self, edge: usize) -> CallStats {
        let Some(totals) = self.recorder.totals.get(edge) else { return CallStats::default() };
        let requests = totals.requests.max(1) as f64;
        let quantile = |latencies: &Histogram, per_mille| latencies.quantile_ms(per_mille);
        let [error, overload, timeout, connection, breaker_open, bulkhead] = totals.causes;
        CallStats {
            requests: totals.requests,
            attempts: totals.attempts,
            errors: totals.errors,
            error_rate: totals.errors as f64 / requests,
            mean_ms: totals.sum_ns as f64 / 1e6 / requests,
            p50_ms: quantile(&totals.latencies, 500),
            p99_ms: quantile(&totals.latencies, 990),
            failed_attempts: FailedAttempts { error, overload, timeout, connection, breaker_open, bulkhead },
        }
    }

    /// Everything over time; edges only if the run kept them. p50 and p99 are of the second that ends with each bucket.
    pub fn series(&self) -> Series {
        let p = &*self.program.0;
        let r = &self.recorder;
        let buckets = r.system.len();
        let ms =
            |bucket: u16| if bucket == NO_P99 { 0.0 } else { (models::metrics::bucket_middle_ns(bucket) as f64 / 1e6) as f32 };
        let nodes = p.nodes.iter().enumerate().map(|(n, node)| {
            let steps = || (0..buckets).map(move |b| r.step(b, n));
            let kind = match node.kind {
                NodeKind::Entry => "entry",
                NodeKind::Service => "service",
                NodeKind::Topic => "topic",
            };
            let series = NodeSeries {
                kind: kind.to_owned(),
                ended: steps().map(|s| s.ended).collect(),
                errors: steps().map(|s| s.errors).collect(),
                p50_ms: steps().map(|s| ms(s.p50)).collect(),
                p99_ms: steps().map(|s| ms(s.p99)).collect(),
                queue: steps().map(|s| s.queue).collect(),
                in_flight: steps().map(|s| s.in_flight).collect(),
            };
            (node.name.clone(), series)
        });
        let edges = r.edge_count();
        let kept = r.edges.len() / edges.max(1);
        let edge_series = p.policies.iter().enumerate().filter(|_| kept > 0).map(|(e, edge)| {
            let steps = || (0..kept).map(move |b| &r.edges[b * edges + e]);
            let series = EdgeSeries {
                attempts: steps().map(|s| s.attempts).collect(),
                retries: steps().map(|s| s.retries).collect(),
                failures: steps().map(|s| s.failures).collect(),
            };
            (edge.name.to_string(), series)
        });
        Series { dt_ms: BUCKET_NS / 1_000_000, nodes: nodes.collect(), edges: edge_series.collect() }
    }
}
