//! The totals of a run, and its course over time, for people.
//!
//! You are here: `sim::result`. `simulate` prints these; verdicts are made of other numbers (`verdict`).

use indexmap::IndexMap;
use models::metrics::Histogram;
use scenarios::record::{EdgeSeries, NodeSeries, Series};
use serde::Serialize;

use crate::des::{BUCKET_NS, NO_LATENCY, NodeTotals};
use crate::program::NodeKind;
use crate::run::Finished;

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

/// One service or topic after the warm-up. For a topic, requests are messages, from publish to acknowledgement.
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
    /// Answers given although a callee had failed.
    pub degraded: u64,
    /// Messages delivered again.
    pub redelivered: u64,
    /// Messages given up after their last delivery.
    pub dead_letters: u64,
    /// Older updates applied after newer ones.
    pub stale_writes: u64,
    /// Messages applied twice.
    pub duplicate_effects: u64,
    /// Messages that vanished.
    pub lost: u64,
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

impl Finished {
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
            let NodeTotals { ended, errors, latencies } = r.node_totals(n);
            let sums = r.node_sums(n);
            ServiceStats {
                requests: *ended,
                errors: *errors,
                p50_ms: latencies.quantile_ms(500),
                p99_ms: latencies.quantile_ms(990),
                utilisation: 0.0,
                mean_wait_ms: sums.waits_ns as f64 / 1e6 / sums.started.max(1) as f64,
                mean_in_system: sums.present as f64 / 1e9 / seconds,
                queue_peak: sums.queue_peak,
                wasted: sums.wasted,
                degraded: sums.degraded,
                redelivered: sums.redelivered,
                dead_letters: sums.dead_letters,
                stale_writes: sums.stale_writes,
                duplicate_effects: sums.duplicate_effects,
                lost: sums.lost,
            }
        };
        let services = p.services.iter().map(|service| {
            let busy = r.node_sums(service.node as usize).busy;
            let workers = f64::from(service.workers) * f64::from(service.replicas);
            let utilisation = if service.workers == u32::MAX { 0.0 } else { busy as f64 / 1e9 / seconds / workers };
            let stats = ServiceStats { utilisation, ..node(service.node as usize) };
            (p.nodes[service.node as usize].name.clone(), stats)
        });
        RunResult {
            digest: self.digest(),
            requests: r.users().arrivals(),
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
        let Some(totals) = self.recorder.edge_totals(edge) else { return CallStats::default() };
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
        let buckets = r.own_buckets();
        let ms = |bucket: u16| {
            if bucket == NO_LATENCY { 0.0 } else { (models::metrics::bucket_middle_ns(bucket) as f64 / 1e6) as f32 }
        };
        let nodes = p.nodes.iter().enumerate().map(|(n, node)| {
            let steps = || buckets.clone().map(move |b| r.step(b, n));
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
        let (edge_steps, edges) = r.edges();
        let kept = edge_steps.len() / edges.max(1);
        let edge_series = p.policies.iter().enumerate().filter(|_| kept > 0).map(|(e, edge)| {
            let steps = || (0..kept).map(move |b| &edge_steps[b * edges + e]);
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
