//! Learning a model from traces (DESIGN.md section 5).
//!
//! You are here: `models::learn`. In order of work: `recordings` (which files belong together), `crowds` (names without end), `extract` (spans to requests and attempts), `resolve` (who was called, what is one
//! call) with `hedges`, `paths` and `lookup` (shapes), `edges` with `retries`, `deadlines` and `breakers`, `limits` (of callers), `load` (workers)
//! with `rejections` (queues), `topics`, `workload` with `traffic` and `sessions`, `steps`, `build` (the model) with `budgets`, `surprises`.
//! Always true: the same traces give the same model, byte for byte; every reference in it resolves; every number says where it
//! comes from.
//! Not here: laying known values over the model (`format::overlay`).

mod breakers;
mod budgets;
mod build;
mod client_findings;
mod crowds;
mod deadlines;
mod edges;
mod endless;
mod extract;
mod findings;
mod hedges;
mod limits;
mod load;
pub(crate) mod log;
mod lookup;
pub(crate) mod numbers;
mod paths;
mod recordings;
mod rejections;
mod resolve;
mod retries;
mod sampling;
mod sessions;
mod steps;
mod summary;
mod surprises;
#[cfg(test)]
mod tests;
mod topics;
mod traffic;
mod workload;

use std::collections::BTreeMap;

pub use self::client_findings::ClientFinding;
use self::crowds::Crowds;
use self::edges::Failures;
pub(crate) use self::edges::{Edges, Node};
pub use self::findings::{Examples, Finding};
use self::log::Log;
pub use self::sampling::Unfair;
pub use self::summary::SummaryFinding;
use crate::error::{InputError, InputErrors};
use crate::graph::InteractionGraph;
use crate::system::{EdgeName, Model};
use crate::trace::TraceSet;
use crate::units::Nanos;

/// What learning may use besides the traces.
#[derive(Clone, Debug, Default)]
pub struct LearnOptions {
    /// Share of traces that head sampling kept; `None`: what the traces say themselves, else all.
    pub sampling: Option<f64>,
    /// Workers per replica of services, where configuration says so: own times are then learned from requests that met a free one.
    pub known_workers: BTreeMap<String, u32>,
    /// Services that are caches, with their capacity if it is known.
    pub known_caches: BTreeMap<String, Option<u32>>,
    /// Clients' per-try timeouts, where configuration says so.
    pub known_timeouts: BTreeMap<EdgeName, Nanos>,
    /// Whether the model's rates follow the traffic's own over time.
    pub curve: Curve,
}

/// How an entry's rate follows the traffic over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Curve {
    /// It does not: one rate.
    #[default]
    Steady,
    /// By its steps, where there are some beyond chance.
    Steps,
    /// By its steps, and where users come in bursts, window by window. For foretelling this very traffic, and nothing else.
    Windows,
}

/// What traces taught.
#[derive(Debug)]
pub struct Lesson {
    /// The system, ready to run.
    pub model: Model,
    /// Services and calls as counted.
    pub graph: InteractionGraph,
    /// Surprises, caveats and assumptions; also in words in the model's notes.
    pub findings: Vec<Finding>,
    /// Longest call of each edge, as the caller saw it.
    pub longest: BTreeMap<EdgeName, Nanos>,
}

/// Everything that was inferred, before it becomes a model.
struct Inferred {
    log: Log,
    unawaited: paths::Unawaited,
    lookups: lookup::Lookups,
    load: load::Load,
    edges: Edges,
    /// Limits of callers on what they have under way.
    ceilings: BTreeMap<(Node, Node), limits::Ceiling>,
    failures: Failures,
    /// Shapes of every operation with requests of its own.
    shapes: BTreeMap<u32, paths::Shapes>,
    covered: workload::Covered,
    entries: Vec<workload::EntrySeen>,
    entry_names: Vec<String>,
}

/// Learns a model from traces.
///
/// Fails if there is nothing to learn from: no request of any service.
pub fn learn(traces: &TraceSet, options: &LearnOptions) -> Result<Lesson, InputErrors> {
    if traces.traces.is_empty() && !traces.summaries.is_empty() {
        return summary::learn(traces, options).ok_or_else(|| no_calls(traces));
    }
    let recordings = recordings::Recordings::of(&traces.traces);
    let crowds = Crowds::of(traces);
    let log = resolve::resolve(extract::extract(traces, &recordings, &crowds, options.sampling));
    let unawaited = paths::unawaited(&log);
    let lookups = lookup::find(&log, &unawaited, |name| options.known_caches.contains_key(name));
    let (mut edges, failures) = edges::edges(&log, &unawaited);
    let limits = limits::find(&log, &mut edges);
    let mut load = load::load(&log, &options.known_workers, &limits.waited);
    load.rejected.iter_mut().zip(&limits.refused).for_each(|(rejected, &refused)| *rejected |= refused);
    let covered = workload::covered(&log);
    let mut entries = workload::entries(&log, &covered);
    if entries.is_empty() {
        return Err(nothing(traces, &log));
    }
    let unfair = sampling::unfair(&log);
    sampling::mark_rates(&mut entries, &unfair, options.sampling.is_some());
    let entry_names = workload::names(&log, &entries);
    let graph = InteractionGraph::from_log(&log, &mut edges, covered.seconds);
    let mut by_op: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (i, request) in log.requests.iter().enumerate().filter(|(_, r)| r.origin != log::Origin::Fragment) {
        by_op.entry(request.op).or_default().push(i as u32);
    }
    let usual = paths::Usual::of(&edges);
    let shapes = by_op
        .into_iter()
        .map(|(op, requests)| (op, paths::shapes(&log, &requests, &unawaited, &lookups, &load.rejected, &usual)))
        .collect();
    let ceilings = limits.ceilings;
    let mut inferred =
        Inferred { log, unawaited, lookups, load, edges, ceilings, failures, shapes, covered, entries, entry_names };
    let mut findings: Vec<Finding> = traces.thinning.as_ref().map(Finding::thinned).into_iter().collect();
    findings.extend(recordings.finding(&traces.files));
    findings.extend(Finding::names(&traces.merged_names));
    findings.extend(Finding::crowded(crowds));
    findings.extend(unfair.into_iter().map(Finding::Unfair));
    let longest = inferred.edges.iter().map(|((from, to), edge)| {
        let longest = edge.durations.iter().copied().max().unwrap_or(0);
        (EdgeName::new(from.name(&inferred.log), to.name(&inferred.log)), Nanos::from_nanos(longest))
    });
    let longest = longest.collect();
    let mut model = build::build(&mut inferred, options, &mut findings);
    surprises::surprises(&mut inferred, &model, &mut findings);
    findings.extend(summary::beside_traces(&traces.summaries, &model));
    if let Some(learned) = &mut model.learned {
        learned.notes = findings.iter().map(Finding::to_string).collect();
    }
    Ok(Lesson { model, graph, findings, longest })
}

/// The interaction graph alone.
pub(crate) fn graph(traces: &TraceSet) -> InteractionGraph {
    let recordings = recordings::Recordings::of(&traces.traces);
    let log = resolve::resolve(extract::extract(traces, &recordings, &Crowds::of(traces), None));
    let unawaited = paths::unawaited(&log);
    let (mut edges, _) = edges::edges(&log, &unawaited);
    InteractionGraph::from_log(&log, &mut edges, workload::covered(&log).seconds)
}

/// No call in a graph summary.
fn no_calls(traces: &TraceSet) -> InputErrors {
    let file = traces.files.first().map_or_else(|| "graph summary".to_owned(), |f| f.path.clone());
    InputErrors::from(InputError {
        file,
        found: "a graph in which nobody was called".into(),
        expected: "calls between services, or rates above 0".into(),
        help: "ask for a time with traffic in it".into(),
        ..InputError::default()
    })
}

/// No request in the traces.
fn nothing(traces: &TraceSet, log: &Log) -> InputErrors {
    let file = traces.files.first().map_or_else(|| "traces".to_owned(), |f| f.path.clone());
    InputErrors::from(InputError {
        file,
        found: format!("{} spans in {} traces, none of them a request that comes in from outside", log.spans, log.traces.len()),
        expected: "traces with at least one root or server span".into(),
        help: "export whole traces, not single spans of them".into(),
        ..InputError::default()
    })
}
