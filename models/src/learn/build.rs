//! The model, from everything that was inferred.
//!
//! You are here: `models::learn::build`. Services stand in the order in which requests reach them, so that the file reads from the
//! users inwards. Sites are numbered in the order of the finished file.
//! Always true: every operation that is called exists.
//! Not here: calls without end (`endless`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use indexmap::IndexMap;

use super::edges::{Node, error_rate};
use super::log::Target;
use super::numbers::observe;
use super::steps::{Steps, leaf};
use super::{ClientFinding, Curve, Finding, Inferred, LearnOptions, budgets, endless, lookup, topics};
use crate::param::{Limit, Param};
use crate::system::{
    Balance, CallPath, Discipline, Edge, EdgeName, Entry, Learned, Mode, Model, Observed, OpRef, Operation, RateCurve, Retry,
    Service, Step,
};
use crate::units::Nanos;

/// Builds the model.
pub(super) fn build(inferred: &mut Inferred, options: &LearnOptions, findings: &mut Vec<Finding>) -> Model {
    let policies = policies(inferred, options, findings);
    let mut services = services(inferred, options);
    let workload = workload(inferred, &mut services, options);
    let mut model = Model { workload, services: IndexMap::new(), edges: IndexMap::new(), topics: IndexMap::new(), learned: None };
    model.topics = topics::topics(&inferred.log, inferred.covered.seconds).into_iter().collect();
    for name in reading_order(&model, &services) {
        if let Some(service) = services.swap_remove(&name) {
            model.services.insert(name, service);
        }
    }
    model.edges = policies;
    model.edges.retain(|name, _| {
        let is_node = |n: &String| model.services.contains_key(n) || model.topics.contains_key(n);
        is_node(&name.from) && is_node(&name.to)
    });
    model.topics.retain(|_, topic| {
        model.services.get(&topic.consumer.service).is_some_and(|s| s.operations.contains_key(&topic.consumer.operation))
    });
    endless::break_endless(&mut model, findings);
    number_sites(&mut model);
    model.learned = Some(Learned {
        traces: inferred.log.traces.len() as u64,
        spans: inferred.log.spans,
        seconds: (inferred.covered.seconds * 1e3).round() / 1e3,
        notes: Vec::new(),
        backcast: None,
    });
    model
}

/// Every edge's policy, in order of caller and callee.
fn policies(inferred: &mut Inferred, options: &LearnOptions, findings: &mut Vec<Finding>) -> IndexMap<EdgeName, Edge> {
    let log = &inferred.log;
    let mut out: Vec<(EdgeName, Edge)> = Vec::new();
    for (&(from, to), edge) in &mut inferred.edges {
        let name = EdgeName::new(from.name(log), to.name(log));
        let known = options.known_timeouts.get(&name).copied();
        let mut policy = edge.policy(known, inferred.ceilings.get(&(from, to)));
        if let Some(retry) = &policy.retry
            && let Some(spent) = budgets::find(log, (from, to), &policy, retry)
        {
            findings.push(Finding::Client(ClientFinding::RetryBudget {
                edge: name.clone(),
                denied: spent.denied,
                granted: spent.granted,
                ratio: spent.budget.ratio.value,
                per_s: spent.budget.min_per_s.value,
            }));
            policy.retry = Some(Retry { budget: Some(spent.budget), ..retry.clone() });
        }
        if matches!(from, Node::Topic(_)) {
            // The network between broker and consumer shows nowhere.
            policy.latency = None;
        }
        out.push((name, policy));
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out.into_iter().collect()
}

/// Services with their operations; those of which nothing but fragments were seen are left out.
fn services(inferred: &Inferred, options: &LearnOptions) -> IndexMap<String, Service> {
    let log = &inferred.log;
    let mut durations: BTreeMap<u32, (Vec<u64>, u64)> = BTreeMap::new();
    for (i, request) in log.requests.iter().enumerate() {
        if inferred.shapes.contains_key(&request.op) && request.origin != super::log::Origin::Fragment {
            let (times, failed) = durations.entry(request.op).or_default();
            times.push(request.duration());
            *failed += u64::from(log.requests[i].failed);
        }
    }
    // Operations that only their callers tell of: their time is the callers'.
    for call in &log.calls {
        let Target::Op(op) = call.target else { continue };
        if !inferred.shapes.contains_key(&op) {
            for attempt in log.attempts_of(call) {
                let (times, failed) = durations.entry(op).or_default();
                times.push(attempt.duration());
                *failed += u64::from(attempt.failed);
            }
        }
    }
    let own_failures = own_failures(inferred);
    let mut rejected: BTreeMap<u32, u64> = BTreeMap::new();
    for (request, _) in log.requests.iter().zip(&inferred.load.rejected).filter(|(_, rejected)| **rejected) {
        *rejected.entry(request.op).or_default() += 1;
    }
    let weight = mean_weight(inferred);
    let per_s = |n: usize| if inferred.covered.seconds > 0.0 { n as f64 * weight / inferred.covered.seconds } else { 0.0 };
    let steps = Steps { log, quiet: &inferred.load.quiet, failures: &inferred.failures };
    let mut by_service: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for &op in durations.keys() {
        by_service.entry(log.service_of(op)).or_default().push(op);
    }
    let mut out = IndexMap::new();
    for (service, mut ops) in by_service {
        ops.sort_by(|a, b| durations[b].0.len().cmp(&durations[a].0.len()).then_with(|| log.op_name(*a).cmp(log.op_name(*b))));
        let mut operations = IndexMap::new();
        let (mut all, mut all_failed) = (Vec::new(), 0);
        for op in ops {
            let Some((times, failed)) = durations.get_mut(&op) else { continue };
            all.extend_from_slice(times);
            all_failed += *failed;
            let n = times.len();
            let observed = observe(times, *failed, per_s(n));
            let operation = match inferred.shapes.get(&op) {
                Some(shapes) => Operation {
                    error_rate: error_rate(
                        own_failures.get(&op).copied().unwrap_or(0),
                        n as u64 - rejected.get(&op).copied().unwrap_or(0),
                    ),
                    paths: steps.paths(op, shapes, inferred.lookups.by_op.get(&op).map_or(&[][..], Vec::as_slice), 1.0),
                    observed: Some(observed),
                },
                None => {
                    Operation { error_rate: error_rate(*failed, n as u64), paths: vec![leaf(times)], observed: Some(observed) }
                }
            };
            operations.insert(log.op_name(op).to_owned(), operation);
        }
        let n = all.len();
        let observed = observe(&mut all, all_failed, per_s(n));
        let name = log.service_name(service);
        out.insert(name.to_owned(), self::service(inferred, options, service, operations, observed));
    }
    out
}

/// One service around its operations.
fn service(
    inferred: &Inferred,
    options: &LearnOptions,
    service: u32,
    operations: IndexMap<String, Operation>,
    observed: Observed,
) -> Service {
    let log = &inferred.log;
    let name = log.service_name(service);
    let load = inferred.load.services.get(&service);
    let known = options.known_workers.get(name).map(|&w| Param::declared(Limit::Of(w)));
    // What is behind a callee without spans is unknown: its callers' time already holds its queue.
    let unlimited = Param::assumed(Limit::Unlimited, [Limit::Unlimited, Limit::Unlimited]);
    let instrumented = log.instrumented(service) && load.is_some();
    let unseen = Param::assumed(Limit::Of(128), [Limit::Of(16), Limit::Of(1024)]);
    let queue = if instrumented { load.and_then(|l| l.queue).unwrap_or(unseen) } else { unlimited };
    let (hits, asked) = inferred.lookups.hits(log, service);
    Service {
        replicas: replicas(inferred, service),
        workers: known.or_else(|| load.filter(|_| instrumented).map(|l| l.workers)).unwrap_or(unlimited),
        queue,
        discipline: Discipline::Fifo,
        mode: load.map_or(Mode::Blocking, |l| l.mode),
        balance: Balance::RoundRobin,
        cache: (asked > 0).then(|| lookup::cache(hits, asked, options.known_caches.get(name).copied().flatten())),
        operations,
        observed: Some(observed),
        ..Service::default()
    }
}

/// Replicas: the most that were alive at once, each from its first request to its last. Without names of replicas, one is assumed.
fn replicas(inferred: &Inferred, service: u32) -> Param<u32> {
    let mut lives: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for request in &inferred.log.requests {
        let (owner, name) = &inferred.log.instances[request.instance as usize];
        if *owner == service && !name.is_empty() {
            let life = lives.entry(request.instance).or_insert((request.start, request.end));
            *life = (life.0.min(request.start), life.1.max(request.end));
        }
    }
    let mut changes: Vec<(u64, i32)> = lives.values().flat_map(|&(from, to)| [(from, 1), (to + 1, -1)]).collect();
    changes.sort_unstable();
    let (mut now, mut most) = (0_i32, 0_i32);
    for (_, change) in changes {
        now += change;
        most = most.max(now);
    }
    if most == 0 { Param::assumed(1, [1, 1]) } else { Param::observed(most as u32) }
}

/// Requests that failed though none of their calls did, by operation.
fn own_failures(inferred: &Inferred) -> BTreeMap<u32, u64> {
    let mut failures: BTreeMap<u32, u64> = BTreeMap::new();
    for (request, &rejected) in inferred.log.requests.iter().zip(&inferred.load.rejected) {
        // A full queue's doing; or a piece of a request, which counts in no operation.
        if rejected || request.origin == super::log::Origin::Fragment {
            continue;
        }
        let calls = inferred.log.calls_of(request);
        let blameless = calls.iter().all(|c| !c.failed || inferred.unawaited.contains(&(request.op, c.target)));
        if request.failed && blameless {
            *failures.entry(request.op).or_default() += 1;
        }
    }
    failures
}

fn mean_weight(inferred: &Inferred) -> f64 {
    let traces = &inferred.log.traces;
    traces.iter().map(|t| t.weight).sum::<f64>() / traces.len().max(1) as f64
}

/// The entries. Where users ask a service for several operations, it gets one operation with the paths of all.
fn workload(inferred: &Inferred, services: &mut IndexMap<String, Service>, options: &LearnOptions) -> IndexMap<String, Entry> {
    let log = &inferred.log;
    let called: BTreeSet<u32> =
        log.calls.iter().filter_map(|c| if let Target::Op(op) = c.target { Some(op) } else { None }).collect();
    let mut entries = IndexMap::new();
    for (seen, name) in inferred.entries.iter().zip(&inferred.entry_names) {
        let service_name = log.service_name(seen.service);
        let Some(service) = services.get_mut(service_name) else { continue };
        let operation = match seen.ops[..] {
            [(op, _)] => log.op_name(op).to_owned(),
            _ => {
                let parts: Vec<(Operation, f64)> = seen
                    .ops
                    .iter()
                    .filter_map(|&(op, share)| Some((service.operations.get(log.op_name(op))?.clone(), share)))
                    .collect();
                for (op, _) in seen.ops.iter().filter(|(op, _)| !called.contains(op) && !is_consumer(inferred, *op)) {
                    service.operations.shift_remove(log.op_name(*op));
                }
                let mut any = "any".to_owned();
                while service.operations.contains_key(&any) {
                    any.push_str(" request");
                }
                service.operations.shift_insert(0, any.clone(), mixed(parts));
                any
            }
        };
        let mut entry = Entry::open(OpRef::new(service_name, operation), seen.rate, 0);
        match options.curve {
            // Their number brings the rate about; it needs no curve.
            Curve::Steady if let Some(closed) = &seen.closed => entry = Entry::closed(entry.to, closed.clone(), 0),
            Curve::Windows if seen.traffic.is_bursty() => follow(&mut entry, &seen.traffic.course, inferred.covered.seconds),
            Curve::Steps | Curve::Windows if !seen.traffic.is_steady() => {
                follow(&mut entry, &seen.traffic.steps, inferred.covered.seconds);
            }
            Curve::Steady | Curve::Steps | Curve::Windows => {}
        }
        entries.insert(name.clone(), entry);
    }
    entries
}

/// Makes an entry's rate the mean of steps (seconds, requests per second), and its curve their course.
fn follow(entry: &mut Entry, steps: &[(f64, f64)], seconds: f64) {
    let ends = steps.iter().skip(1).map(|step| step.0).chain([seconds]);
    let mean = steps.iter().zip(ends).map(|(&(from, rate), to)| rate * (to - from)).sum::<f64>() / seconds.max(1e-9);
    let factor = mean / entry.rate.value;
    let range = entry.rate.range.map(|range| range.map(|rate| rate * factor));
    entry.rate = Param { value: mean, range, ..entry.rate };
    let steps = steps.iter().map(|&(from, rate)| (Nanos::from_millis((from * 1e3).round() as u64), rate / mean)).collect();
    entry.curve = Some(RateCurve { steps, repeat: None });
}

fn is_consumer(inferred: &Inferred, op: u32) -> bool {
    inferred.log.topics.iter().any(|t| t.consumer == op)
}

/// One operation with the paths of several, each in its share.
fn mixed(parts: Vec<(Operation, f64)>) -> Operation {
    let mut paths: Vec<CallPath> = Vec::new();
    let (mut error, mut low, mut high) = (0.0, 0.0, 0.0);
    for (operation, share) in parts {
        if let Some(rate) = operation.error_rate {
            let [l, h] = rate.range.unwrap_or([rate.value; 2]);
            (error, low, high) = (error + share * rate.value, low + share * l, high + share * h);
        }
        paths.extend(operation.paths.into_iter().map(|path| {
            let weight = Param {
                value: path.weight.value * share,
                range: path.weight.range.map(|r| r.map(|w| w * share)),
                source: path.weight.source,
            };
            CallPath { weight, ..path }
        }));
    }
    paths.sort_by(|a, b| b.weight.value.total_cmp(&a.weight.value));
    let error_rate = (error > 0.0).then(|| Param::observed(error).with_range([low, high]));
    Operation { error_rate, paths, observed: None }
}

/// Services in the order in which requests reach them from the entries; those never reached come last, by name.
pub(super) fn reading_order(model: &Model, services: &IndexMap<String, Service>) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut next: VecDeque<String> = model.workload.values().map(|e| e.to.service.clone()).collect();
    let mut rest: Vec<&String> = services.keys().collect();
    rest.sort();
    let mut rest = rest.into_iter();
    loop {
        while let Some(name) = next.pop_front() {
            let Some(service) = services.get(&name).filter(|_| seen.insert(name.clone())) else { continue };
            for path in service.operations.values().flat_map(|op| &op.paths) {
                visit(&path.steps, &mut |callee| match callee {
                    Callee::Op(op) => next.push_back(op.service.clone()),
                    Callee::Topic(topic) => next.extend(model.topics.get(topic).map(|t| t.consumer.service.clone())),
                });
            }
            order.push(name);
        }
        match rest.next() {
            Some(name) => next.push_back(name.clone()),
            None => return order,
        }
    }
}

/// What a step reaches.
enum Callee<'a> {
    Op(&'a OpRef),
    Topic(&'a str),
}

/// Calls `see` with everything that steps call, in order.
fn visit<'a>(steps: &'a [Step], see: &mut impl FnMut(Callee<'a>)) {
    for step in steps {
        match step {
            Step::Work(_) => {}
            Step::Call(call) => see(Callee::Op(&call.to)),
            Step::Parallel { branches, .. } => visit(branches, see),
            Step::Lookup(lookup) => {
                see(Callee::Op(&lookup.cache.to));
                see(Callee::Op(&lookup.origin.to));
                if let Some(fill) = &lookup.fill {
                    see(Callee::Op(&fill.to));
                }
            }
            Step::Publish(publish) => see(Callee::Topic(&publish.to)),
        }
    }
}

/// Numbers entries, calls and deliveries in the order of the file, from 1.
pub(super) fn number_sites(model: &mut Model) {
    let mut next = 1..;
    let mut site = move || next.next().unwrap_or(u32::MAX);
    for entry in model.workload.values_mut() {
        entry.site = site();
    }
    fn number(steps: &mut [Step], site: &mut impl FnMut() -> u32) {
        for step in steps {
            match step {
                Step::Work(_) => {}
                Step::Call(call) => call.site = site(),
                Step::Parallel { branches, .. } => number(branches, site),
                Step::Lookup(lookup) => {
                    lookup.cache.site = site();
                    lookup.origin.site = site();
                    if let Some(fill) = &mut lookup.fill {
                        fill.site = site();
                    }
                }
                Step::Publish(publish) => publish.site = site(),
            }
        }
    }
    for path in model.services.values_mut().flat_map(|s| s.operations.values_mut()).flat_map(|op| &mut op.paths) {
        number(&mut path.steps, &mut site);
    }
    for topic in model.topics.values_mut() {
        topic.site = site();
    }
}
