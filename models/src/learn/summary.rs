//! A model from a graph summary: who calls whom and how often, without any trace (Kiali, dependency links, service-graph metrics).
//!
//! You are here: `models::learn::summary`, the way of inputs that have no traces. `trace` reads summaries; here each service becomes one
//! operation that makes, per request, the mean number of calls that was counted.
//! Always true: rates and error shares are what was counted; the order of calls, times that no histogram tells, workers, queues and
//! policies are assumed, with wide ranges, and a finding says so.
//! Not here: reading (`trace::kiali` and its kin).

mod findings;
mod told;

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use petgraph::graph::DiGraph;

pub use self::findings::SummaryFinding;
use self::told::{Answered, Pair, SIGMA, Told, answered, quantiles, time};
use super::{Finding, LearnOptions, Lesson, build, endless};
use crate::check::MAX_PER_S;
use crate::dist::{Dist, Work};
use crate::graph::{EdgeStats, InteractionGraph, NodeKind, NodeStats};
use crate::param::{Limit, Param, Source};
use crate::system::{
    Call, CallPath, Edge, EdgeName, Entry, Learned, Model, Observed, ObservedEdge, OpRef, Operation, Publish, Service, Step,
    Topic,
};
use crate::trace::{GraphSummary, Times, TraceSet};
use crate::units::Nanos;

/// What every service's one operation is called.
const OPERATION: &str = "request";
/// p50, p99 of own work where nothing tells times, and the factor by which it may be wrong.
const ASSUMED_WORK: (u64, u64) = (5_000_000, 50_000_000);
const ASSUMED_SCALE: [f64; 2] = [0.1, 10.0];
/// Least share of a service's time that is its own.
const LEAST_OWN: f64 = 0.05;

/// Own work of which `own_s` seconds are the mean, in the shape of the times of what was answered; `alone`: it calls nobody.
fn work(answered: Option<&Answered<'_>>, own_s: f64, alone: bool) -> Work {
    let Some(Answered { shape, .. }) = answered else {
        let (p50, p99) = ASSUMED_WORK;
        let dist = Dist::Lognormal { p50: Nanos::from_nanos(p50), p99: Nanos::from_nanos(p99) };
        return Work { dist, source: Source::Assumed, scale_range: Some(ASSUMED_SCALE) };
    };
    let table = match shape {
        Times::Histogram(histogram) => quantiles(histogram),
        Times::Quantile(..) => None,
    };
    match table {
        Some(points) => {
            let mean_s = Dist::Quantiles(points.clone()).mean().as_secs_f64();
            let factor = if mean_s > 0.0 { own_s / mean_s } else { 1.0 };
            let scaled = points.into_iter().map(|(share, time)| (share, microseconds(time.as_secs_f64() * factor))).collect();
            let scale_range = Some(if alone { [0.8, 1.25] } else { [0.4, 1.6] });
            Work { dist: Dist::Quantiles(scaled), source: Source::Inferred, scale_range }
        }
        None => {
            let p50 = own_s / libm::exp(SIGMA * SIGMA / 2.0);
            let dist = Dist::Lognormal { p50: microseconds(p50), p99: microseconds(p50 * 10.0) };
            Work { dist, source: Source::Inferred, scale_range: Some([0.3, 2.0]) }
        }
    }
}

/// At least one microsecond, in whole ones.
fn microseconds(seconds: f64) -> Nanos {
    time((seconds * 1e6).round().max(1.0) / 1e6)
}

/// A mean number of calls as the two whole numbers around it.
fn times(mean: f64) -> Vec<(u32, f64)> {
    const MOST: f64 = 100.0;
    let mean = mean.min(MOST);
    let (whole, part) = (mean.floor(), mean.fract());
    if part < 1e-9 {
        return vec![(whole as u32, 1.0)];
    }
    vec![(whole as u32, 1.0 - part), (whole as u32 + 1, part)]
}

/// Makes a model of summaries; `None` if they tell of no call.
pub(super) fn learn(traces: &TraceSet, options: &LearnOptions) -> Option<Lesson> {
    let mut told = Told::of(&traces.summaries);
    if let Some(share) = options.sampling {
        // Counted from sampled spans.
        told.pairs.values_mut().for_each(|pair| pair.per_s /= share.clamp(1e-9, 1.0));
    }
    let names: BTreeSet<String> = told.pairs.keys().flat_map(|(from, to)| from.iter().chain([to])).cloned().collect();
    if names.is_empty() {
        return None;
    }
    let mut findings = vec![say(SummaryFinding::StructureAssumed { services: names.len(), calls: told.pairs.len() })];
    let asked = asked(&told, &names, &mut findings);
    let mut model = Model::default();
    let mut services: IndexMap<String, Service> = IndexMap::new();
    for name in &names {
        services.insert(name.clone(), service(&told, name, &asked, options, &mut model.topics));
    }
    model.workload = workload(&told, &asked, &names);
    for name in build::reading_order(&model, &services) {
        if let Some(service) = services.swap_remove(&name) {
            model.services.insert(name, service);
        }
    }
    model.edges = edges(&told, &model, options);
    endless::break_endless(&mut model, &mut findings);
    build::number_sites(&mut model);
    findings.extend(what_is_assumed(&told, &names).into_iter().map(say));
    findings.extend(Finding::names(&traces.merged_names));
    let notes = findings.iter().map(Finding::to_string).collect();
    model.learned = Some(Learned { traces: 0, spans: 0, seconds: told.seconds.unwrap_or(0.0), notes, backcast: None });
    Some(Lesson { graph: graph(&told, &names, &asked), model, findings, longest: BTreeMap::new() })
}

/// Calls that summaries tell of and a model learned from traces lacks.
pub(super) fn beside_traces(summaries: &[GraphSummary], model: &Model) -> Option<Finding> {
    let told = Told::of(summaries);
    let has = |from: &str, to: &str| {
        model.edges.contains_key(&EdgeName::new(from, to))
            || model
                .edges
                .keys()
                .any(|edge| edge.from == from && model.topics.get(&edge.to).is_some_and(|topic| topic.consumer.service == to))
    };
    let calls: Vec<EdgeName> = told
        .pairs
        .keys()
        .filter_map(|(from, to)| from.as_ref().map(|from| EdgeName::new(from, to)))
        .filter(|edge| edge.from != edge.to && !has(&edge.from, &edge.to))
        .collect();
    (!calls.is_empty()).then(|| say(SummaryFinding::NotInTraces { calls }))
}

fn say(finding: SummaryFinding) -> Finding {
    Finding::Summary(finding)
}

/// Requests per second to every service. Who is called by nobody is taken to be called by users as often as its own calls suggest: at
/// least as often as its busiest call, at most as often as all of them together. A gateway passes every request on once.
fn asked(told: &Told, names: &BTreeSet<String>, findings: &mut Vec<Finding>) -> BTreeMap<String, Param<f64>> {
    let asked = names.iter().map(|name| {
        let others = |from: &Option<String>| from.as_ref() != Some(name);
        let coming: f64 = told.into(name).map(|pair| pair.per_s).sum();
        let from_others = told.pairs.iter().any(|((from, to), _)| to == name && others(from));
        if from_others {
            let range = told.seconds_assumed.then_some([coming / 7.0, coming * 24.0]);
            let source = if told.seconds_assumed { Source::Assumed } else { Source::Observed };
            return (name.clone(), Param { value: coming, source, range });
        }
        let going = || told.pairs.iter().filter(|((from, _), _)| from.as_ref() == Some(name)).map(|(_, pair)| pair.per_s);
        let (most, sum) = (going().fold(0.0, f64::max), going().sum::<f64>());
        let value = if told.gateways.contains(name) { sum } else { most };
        let [less, more] = if told.seconds_assumed { [7.0, 24.0] } else { [1.0, 1.0] };
        let range = [most / less, sum * more];
        findings.push(say(SummaryFinding::EntryAssumed { service: name.clone(), range }));
        // A gateway to one place alone leaves nothing open.
        let range = (range[0] < range[1]).then_some(range);
        (name.clone(), Param { value, source: Source::Assumed, range })
    });
    asked.collect()
}

/// The entries: known users, and those assumed in front of services that nobody calls.
fn workload(told: &Told, asked: &BTreeMap<String, Param<f64>>, names: &BTreeSet<String>) -> IndexMap<String, Entry> {
    let mut coming: Vec<(&String, Param<f64>)> = Vec::new();
    for name in names {
        let users = told.pairs.get(&(None, name.clone()));
        let called = told.pairs.keys().any(|(from, to)| to == name && from.as_ref().is_none_or(|from| from != name));
        match (users, &asked[name]) {
            (Some(users), all) => {
                let share = if all.value > 0.0 { users.per_s / all.value } else { 0.0 };
                let range = all.range.map(|range| range.map(|rate| rate * share));
                coming.push((name, Param { value: users.per_s, source: all.source, range }));
            }
            (None, all) if !called => coming.push((name, *all)),
            _ => {}
        }
    }
    // A circle that nobody enters: users come in where most requests are.
    if coming.is_empty()
        && let Some((name, rate)) = asked.iter().max_by(|a, b| a.1.value.total_cmp(&b.1.value).then(b.0.cmp(a.0)))
    {
        coming.push((name, Param::assumed(rate.value, [rate.value / 10.0, rate.value])));
    }
    coming.sort_by(|a, b| b.1.value.total_cmp(&a.1.value).then(a.0.cmp(b.0)));
    let mut taken = names.clone();
    let alone = coming.len() == 1;
    let entry = |(service, rate): (&String, Param<f64>)| {
        let mut name = if alone { "users".to_owned() } else { format!("users-{service}") };
        while !taken.insert(name.clone()) {
            name.push_str("-in");
        }
        (name, Entry::open(OpRef::new(service, OPERATION), possible(rate), 0))
    };
    coming.into_iter().map(entry).collect()
}

/// A rate that a run can come to an end with: counters that hold nonsense must not make a model that nobody can use.
fn possible(rate: Param<f64>) -> Param<f64> {
    let most = |per_s: f64| per_s.min(MAX_PER_S);
    Param { value: most(rate.value), range: rate.range.map(|range| range.map(most)), ..rate }
}

/// One service with its one operation: its own work, then its calls in the order of their volume.
fn service(
    told: &Told,
    name: &str,
    asked: &BTreeMap<String, Param<f64>>,
    options: &LearnOptions,
    topics: &mut IndexMap<String, Topic>,
) -> Service {
    let requests = asked[name].value;
    let mut calls: Vec<(&String, &Pair)> =
        told.pairs.iter().filter(|((from, _), _)| from.as_deref() == Some(name)).map(|((_, to), pair)| (to, pair)).collect();
    calls.sort_by(|a, b| b.1.per_s.total_cmp(&a.1.per_s).then(a.0.cmp(b.0)));
    let ratio = |pair: &Pair| if requests > 0.0 { pair.per_s / requests } else { 0.0 };
    let awaited = || calls.iter().filter(|(_, pair)| !pair.message);

    let answered = answered(told, name);
    let below: f64 = awaited().filter_map(|(to, pair)| Some(ratio(pair) * self::answered(told, to)?.mean_s)).sum();
    let own_s = answered.as_ref().map_or(0.0, |answered| (answered.mean_s - below).max(LEAST_OWN * answered.mean_s));
    let mut steps = vec![Step::Work(work(answered.as_ref(), own_s, calls.is_empty()))];

    let (error_rate, on_failure) =
        failures(failed_share(told, name), awaited().map(|(_, pair)| ratio(pair) * pair.failed_share.unwrap_or(0.0)).sum());
    for (to, pair) in &calls {
        let times = times(ratio(pair));
        if pair.message {
            let topic = format!("{name}-to-{to}");
            let concurrency = Param::assumed(8, [1, 64]);
            topics.insert(topic.clone(), Topic::to(OpRef::new(to.as_str(), OPERATION), concurrency, 0));
            steps.push(Step::Publish(Publish { to: topic, site: 0, times, on_failure: Param::assumed(0.0, [0.0, 0.5]) }));
        } else {
            let to = OpRef::new(to.as_str(), OPERATION);
            steps.push(Step::Call(Call { to, site: 0, times, on_failure, wait: true, fallback: None }));
        }
    }
    // Every request is taken to be alike.
    let path = CallPath { weight: Param { value: 1.0, source: Source::Assumed, range: None }, steps };
    let busy = answered.as_ref().map_or(1.0, |answered| requests * answered.mean_s);
    let observed = observed(told, name, requests);
    Service {
        replicas: Param::assumed(1, [1, 1]),
        workers: options.known_workers.get(name).map_or_else(|| workers(busy), |&known| Param::declared(Limit::Of(known))),
        queue: Param::assumed(Limit::Of(128), [Limit::Of(16), Limit::Of(1024)]),
        operations: IndexMap::from([(
            OPERATION.to_owned(),
            Operation { error_rate, paths: vec![path], observed: observed.clone() },
        )]),
        observed,
        ..Service::default()
    }
}

/// Workers: at least as many as are busy on average, at most 16 times that or 64; the value is the geometric middle.
fn workers(busy: f64) -> Param<Limit> {
    let low = (busy.ceil().max(1.0) as u32).min(1_000_000);
    let high = low.saturating_mul(16).max(64);
    let middle = libm::sqrt(f64::from(low) * f64::from(high)).round() as u32;
    Param::assumed(Limit::Of(middle), [Limit::Of(low), Limit::Of(high)])
}

/// The share of a service's answers that are failures, over all that call it.
fn failed_share(told: &Told, name: &str) -> Option<f64> {
    let known = || told.into(name).filter_map(|pair| Some((pair.per_s, pair.failed_share?)));
    let asked: f64 = known().map(|(per_s, _)| per_s).sum();
    (asked > 0.0).then(|| known().map(|(per_s, share)| per_s * share).sum::<f64>() / asked)
}

/// A service's own error rate, and how often a failed call becomes its failure, from its failed share and the failures that its calls
/// bring it per request. What the calls explain is not its own.
fn failures(failed: Option<f64>, brought: f64) -> (Option<Param<f64>>, Param<f64>) {
    let unseen = Param::assumed(1.0, [0.5, 1.0]);
    let Some(failed) = failed else { return (None, unseen) };
    if brought <= 0.0 {
        return ((failed > 0.0).then(|| Param::observed(failed)), unseen);
    }
    if failed >= brought {
        let own = (failed - brought) / (1.0 - brought).max(1e-9);
        return ((own > 0.0).then(|| Param::inferred(own.min(1.0), [0.0, failed])), unseen);
    }
    let passed_on = failed / brought;
    (None, Param::inferred(passed_on, [passed_on / 2.0, (passed_on * 2.0).min(1.0)]))
}

/// What stands beside a service, where a histogram tells its times.
fn observed(told: &Told, name: &str, per_s: f64) -> Option<Observed> {
    let answered = answered(told, name)?;
    let Times::Histogram(histogram) = answered.shape else { return None };
    let dist = Dist::Quantiles(quantiles(histogram)?);
    Some(Observed {
        calls: (per_s * told.seconds.unwrap_or(1.0)).round().max(1.0) as u64,
        per_s,
        error_rate: failed_share(told, name).unwrap_or(0.0),
        mean_ms: answered.mean_s * 1e3,
        p50_ms: dist.quantile(0.5).as_millis_f64(),
        p99_ms: dist.quantile(0.99).as_millis_f64(),
    })
}

/// What stands beside an edge, where a histogram tells its times.
fn observed_edge(told: &Told, pair: &Pair, callers: f64) -> Option<ObservedEdge> {
    let Times::Histogram(histogram) = pair.client.as_ref().or(pair.server.as_ref())? else { return None };
    let dist = Dist::Quantiles(quantiles(histogram)?);
    let calls = (pair.per_s * told.seconds.unwrap_or(1.0)).round().max(1.0);
    Some(ObservedEdge {
        calls: calls as u64,
        attempts: calls as u64,
        errors: (calls * pair.failed_share.unwrap_or(0.0)).round() as u64,
        timeouts: 0,
        per_parent: if callers > 0.0 { pair.per_s / callers } else { 0.0 },
        asynchronous: pair.message,
        p50_ms: dist.quantile(0.5).as_millis_f64(),
        p99_ms: dist.quantile(0.99).as_millis_f64(),
    })
}

/// Every edge: its network, and what was counted of it.
fn edges(told: &Told, model: &Model, options: &LearnOptions) -> IndexMap<EdgeName, Edge> {
    let mut edges: Vec<(EdgeName, Edge)> = Vec::new();
    for ((from, to), pair) in &told.pairs {
        let Some(from) = from else { continue };
        let name = match pair.message {
            true => EdgeName::new(from, format!("{from}-to-{to}")),
            false => EdgeName::new(from, to),
        };
        let latency = pair.latency().map_or_else(
            || Param::assumed(Nanos::from_micros(500), [Nanos::from_micros(100), Nanos::from_millis(5)]),
            |latency| Param::inferred(latency, [Nanos::from_nanos(latency.as_nanos() / 3), latency]),
        );
        let callers = told.into(from).map(|pair| pair.per_s).sum();
        let timeout = options.known_timeouts.get(&name).map(|&timeout| Param::declared(timeout));
        let observed = observed_edge(told, pair, callers);
        edges.push((name, Edge { latency: Some(latency), timeout, observed, ..Edge::default() }));
    }
    edges.retain(|(name, _)| {
        let known = |end: &String| model.services.contains_key(end) || model.topics.contains_key(end);
        known(&name.from) && known(&name.to)
    });
    edges.sort_by(|a, b| a.0.cmp(&b.0));
    edges.into_iter().collect()
}

/// Findings on what the model's numbers rest on.
fn what_is_assumed(told: &Told, names: &BTreeSet<String>) -> Vec<SummaryFinding> {
    let mut findings = Vec::new();
    let (mut none, mut one, mut many) = (Vec::new(), Vec::new(), Vec::new());
    let mut widest = 1.0_f64;
    for name in names {
        match answered(told, name).map(|answered| answered.shape) {
            None => none.push(name.clone()),
            Some(Times::Quantile(..)) => one.push(name.clone()),
            Some(Times::Histogram(histogram)) => {
                many.push(name.clone());
                let finite = histogram.buckets.windows(2).filter(|pair| pair[0].0 > 0.0 && pair[1].0.is_finite());
                widest = finite.map(|pair| pair[1].0 / pair[0].0).fold(widest, f64::max);
            }
        }
    }
    if !many.is_empty() {
        findings.push(SummaryFinding::TimesFromHistogram { services: many, widest });
    }
    if !one.is_empty() {
        findings.push(SummaryFinding::TimesFromQuantile { services: one });
    }
    if !none.is_empty() {
        findings.push(SummaryFinding::TimesAssumed { services: none });
    }
    if told.seconds_assumed {
        findings.push(SummaryFinding::SecondsAssumed);
    }
    if told.pairs.values().all(|pair| pair.failed_share.is_none()) {
        findings.push(SummaryFinding::ErrorsUnknown);
    }
    if !told.left_out.is_empty() {
        findings.push(SummaryFinding::LeftOut { what: told.left_out.keys().cloned().collect() });
    }
    findings
}

/// The interaction graph with what was counted.
fn graph(told: &Told, names: &BTreeSet<String>, asked: &BTreeMap<String, Param<f64>>) -> InteractionGraph {
    let mut graph = DiGraph::new();
    let mut nodes = BTreeMap::new();
    for name in names {
        let per_s = asked[name].value;
        let observed = observed(told, name, per_s).unwrap_or_else(|| Observed {
            calls: (per_s * told.seconds.unwrap_or(1.0)).round() as u64,
            per_s,
            error_rate: failed_share(told, name).unwrap_or(0.0),
            ..Observed::default()
        });
        let stats = NodeStats { name: name.as_str().into(), kind: NodeKind::Service, observed, replicas: 0 };
        nodes.insert(name.as_str(), graph.add_node(stats));
    }
    for ((from, to), pair) in &told.pairs {
        let Some(from) = from else { continue };
        let calls = (pair.per_s * told.seconds.unwrap_or(1.0)).round() as u64;
        let failed = (calls as f64 * pair.failed_share.unwrap_or(0.0)).round() as u64;
        let observed = observed_edge(told, pair, asked[from].value).unwrap_or_else(|| ObservedEdge {
            calls,
            attempts: calls,
            errors: failed,
            per_parent: if asked[from].value > 0.0 { pair.per_s / asked[from].value } else { 0.0 },
            asynchronous: pair.message,
            ..ObservedEdge::default()
        });
        graph.add_edge(nodes[from.as_str()], nodes[to.as_str()], EdgeStats { observed, retries: 0, failed, failed_callers: 0 });
    }
    InteractionGraph { graph }
}
