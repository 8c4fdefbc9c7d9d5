//! Surprises, caveats and assumptions, from what was inferred and the finished model.
//!
//! You are here: `models::learn::surprises`. Order: what is broken, what is surprising, what to be careful with, what is assumed.

use std::collections::{BTreeMap, BTreeSet};

use super::edges::{EdgeSeen, Node};
use super::findings::Examples;
use super::log::{Origin, Request, Target};
use super::paths::Item;
use super::{ClientFinding, Finding, Inferred};
use crate::param::{Limit, Source};
use crate::system::{EdgeName, Model, Step};
use crate::trace::PeerKind;

/// Rare paths told per operation.
const RARE_TOLD: usize = 3;

/// Adds what is worth saying.
pub(super) fn surprises(inferred: &mut Inferred, model: &Model, findings: &mut Vec<Finding>) {
    dead_services(inferred, findings);
    edges(inferred, model, findings);
    multiplied_retries(inferred, findings);
    sync_in_async(inferred, findings);
    caches(inferred, findings);
    rare_paths(inferred, findings);
    caveats(inferred, model, findings);
    assumptions(inferred, model, findings);
}

/// Callees that only their callers tell of; those that mostly fail one by one.
fn dead_services(inferred: &Inferred, findings: &mut Vec<Finding>) {
    let log = &inferred.log;
    let mut quiet = Vec::new();
    for service in 0..log.services.len() as u32 {
        let into = || inferred.edges.iter().filter(move |((_, to), _)| *to == Node::Service(service));
        if log.instrumented(service) || into().next().is_none() {
            continue;
        }
        let (attempts, failed) = into().fold((0, 0), |(a, f), (_, e)| (a + e.attempts, f + e.errors));
        let name = log.service_name(service).to_owned();
        if failed * 2 > attempts && log.services[service as usize].kind == PeerKind::Service {
            let callers = into().map(|((from, _), _)| from.name(log).to_owned()).collect();
            let mut traces = Examples::default();
            into().for_each(|(_, e)| traces.add_all(&e.failing));
            findings.push(Finding::DeadService { service: name, callers, attempts, failed, traces });
        } else {
            quiet.push(name);
        }
    }
    if !quiet.is_empty() {
        findings.push(Finding::Uninstrumented { services: quiet });
    }
}

/// What single edges show.
fn edges(inferred: &Inferred, model: &Model, findings: &mut Vec<Finding>) {
    let log = &inferred.log;
    let mut endless = Vec::new();
    for (&(from, to), edge) in &inferred.edges {
        let name = EdgeName::new(from.name(log), to.name(log));
        let timeout = model.edges.get(&name).and_then(|e| e.timeout);
        let attempts = most_tries(edge);
        if edge.retried() > 0 {
            findings.push(Finding::Retries {
                edge: name.clone(),
                retried: edge.retried(),
                calls: edge.calls,
                attempts,
                traces: edge.trying_again.clone(),
            });
            let below: f64 =
                inferred.edges.iter().filter(|((f, _), _)| *f == to).map(|(_, e)| e.calls as f64 / e.parents.max(1) as f64).sum();
            if below >= 2.0 {
                findings.push(Finding::RetryFanOut { edge: name.clone(), attempts, calls_below: below });
            }
        }
        if edge.timeouts > 0 {
            let timeout = timeout.map(|t| t.value);
            findings.push(Finding::GaveUp {
                edge: name.clone(),
                timeouts: edge.timeouts,
                attempts: edge.attempts,
                timeout,
                traces: edge.timing_out.clone(),
            });
        }
        let policy = model.edges.get(&name);
        if let Some(hedge) = policy.and_then(|e| e.hedge.as_ref()) {
            let (hedged, after) = (edge.hedged_after.len() as u64, hedge.after.value);
            findings.push(Finding::Hedged { edge: name.clone(), hedged, calls: edge.calls, after, traces: edge.hedging.clone() });
        }
        let breaker = policy.and_then(|e| e.breaker.as_ref());
        if let Some(breaker) = breaker {
            findings.push(Finding::BreakerSeen { edge: name.clone(), open: breaker.open.value });
        }
        let instrumented = matches!(to, Node::Service(s) if log.instrumented(s)) && breaker.is_none();
        if instrumented && edge.lost * 100 > edge.attempts {
            findings.push(Finding::LostOnTheWay {
                edge: name.clone(),
                lost: edge.lost,
                attempts: edge.attempts,
                traces: edge.losing.clone(),
            });
        }
        let deadline = policy.and_then(|e| e.deadline);
        if let Some(deadline) = deadline {
            findings.push(Finding::Client(ClientFinding::Deadline { edge: name.clone(), deadline: deadline.value }));
        }
        if let Some(ceiling) = inferred.ceilings.get(&(from, to)) {
            findings.push(Finding::Client(ClientFinding::limit(name.clone(), ceiling)));
        }
        if timeout.or(deadline).is_none() && matches!(from, Node::Service(_)) && 2 * edge.unawaited <= edge.calls {
            endless.push(name);
        }
    }
    if !endless.is_empty() {
        findings.push(Finding::NoTimeoutSeen { edges: endless });
    }
}

fn most_tries(edge: &EdgeSeen) -> u32 {
    edge.tries_failed.keys().chain(edge.tries_ok.keys()).copied().max().unwrap_or(1)
}

/// The paths of retried edges whose tries multiply most.
fn multiplied_retries(inferred: &Inferred, findings: &mut Vec<Finding>) {
    let log = &inferred.log;
    let retried: BTreeMap<(Node, Node), u32> =
        inferred.edges.iter().map(|(&ends, e)| (ends, most_tries(e))).filter(|&(_, tries)| tries > 1).collect();
    let into: BTreeSet<Node> = retried.keys().map(|&(_, to)| to).collect();
    for &(start, _) in retried.keys().filter(|(from, _)| !into.contains(from)) {
        let (mut path, mut attempts) = (vec![start], 1_u32);
        while let Some((&(_, to), &tries)) = retried
            .iter()
            .filter(|((from, to), _)| path.last() == Some(from) && !path.contains(to))
            .max_by_key(|&(_, tries)| *tries)
        {
            path.push(to);
            attempts = attempts.saturating_mul(tries);
        }
        let names: Vec<String> = path.iter().map(|n| n.name(log).to_owned()).collect();
        let known = findings.iter().any(|f| matches!(f, Finding::RetriesMultiplied { path, .. } if *path == names));
        if path.len() > 2 && !known {
            findings.push(Finding::RetriesMultiplied { path: names, attempts });
        }
    }
}

/// Consumers of messages that wait for others while they hold a message.
fn sync_in_async(inferred: &Inferred, findings: &mut Vec<Finding>) {
    const WORTH_SAYING: f64 = 0.1;
    let log = &inferred.log;
    let mut waits: BTreeMap<(u32, u32, Target), (u64, Examples)> = BTreeMap::new();
    let mut times: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    for request in &log.requests {
        let Some(topic) = request.topic else { continue };
        *times.entry((topic, request.op)).or_default() += request.duration();
        for call in log.calls_of(request).iter().filter(|c| matches!(c.target, Target::Op(_))) {
            if !inferred.unawaited.contains(&(request.op, call.target)) {
                let (wait, traces) = waits.entry((topic, request.op, call.target)).or_default();
                *wait += call.end - call.start;
                traces.add(log.trace_id(request));
            }
        }
    }
    for ((topic, op, target), (waited, traces)) in waits {
        let share = waited as f64 / times.get(&(topic, op)).copied().unwrap_or(0).max(1) as f64;
        if share >= WORTH_SAYING {
            findings.push(Finding::SyncInAsync {
                topic: log.topics[topic as usize].name.clone(),
                consumer: log.service_name(log.service_of(op)).to_owned(),
                callee: log.target_name(target).to_owned(),
                share: share.min(1.0),
                traces,
            });
        }
    }
}

fn caches(inferred: &Inferred, findings: &mut Vec<Finding>) {
    let log = &inferred.log;
    for (&op, lookups) in &inferred.lookups.by_op {
        let caller = log.service_name(log.service_of(op));
        findings.extend(lookups.iter().map(|l| Finding::CacheAside {
            caller: caller.to_owned(),
            cache: log.target_name(l.cache).to_owned(),
            origin: log.target_name(l.origin).to_owned(),
            asked: l.asked,
            missed: l.missed,
        }));
    }
    findings.extend(inferred.lookups.undeclared.iter().map(|(op, l)| Finding::UndeclaredCache {
        caller: log.service_name(log.service_of(*op)).to_owned(),
        cache: log.target_name(l.cache).to_owned(),
        origin: log.target_name(l.origin).to_owned(),
        asked: l.asked,
        missed: l.missed,
        filled: l.filled,
    }));
}

fn rare_paths(inferred: &Inferred, findings: &mut Vec<Finding>) {
    let log = &inferred.log;
    for (&op, shapes) in &inferred.shapes {
        let lookups = inferred.lookups.by_op.get(&op).map_or(&[][..], Vec::as_slice);
        let name = |target: Target| log.target_name(target).to_owned();
        let word = |item: &Item| match item {
            Item::Call { target, .. } => name(*target),
            Item::Fan(branches) => branches.iter().map(|(t, _)| name(*t)).collect::<Vec<_>>().join(" + "),
            Item::Lookup(which) => format!("{} or {}", name(lookups[*which].cache), name(lookups[*which].origin)),
        };
        for (items, seen, requests) in shapes.rare.iter().take(RARE_TOLD) {
            let mut traces = Examples::default();
            requests.iter().for_each(|&r| traces.add(log.trace_id(&log.requests[r as usize])));
            let calls: Vec<String> = items.iter().map(word).collect();
            findings.push(Finding::RarePath {
                operation: format!("{}.{}", log.service_name(log.service_of(op)), log.op_name(op)),
                calls: if calls.is_empty() { "no calls at all".into() } else { calls.join(", ") },
                seen: *seen,
                of: shapes.seen,
                traces,
            });
        }
    }
}

/// What to be careful with.
fn caveats(inferred: &Inferred, model: &Model, findings: &mut Vec<Finding>) {
    const ORPHANS_WORTH_SAYING: u64 = 20;
    const ONE_SPAN_WORTH_SAYING: u64 = 5;
    let log = &inferred.log;
    for (name, seen) in inferred.entry_names.iter().zip(&inferred.entries) {
        if seen.ops.len() > 1 {
            let shares = seen.ops.iter().map(|&(op, share)| (log.op_name(op).to_owned(), share)).collect();
            findings.push(Finding::EntryMix { entry: name.clone(), shares });
        }
        let traffic = &seen.traffic;
        if !traffic.is_steady() || traffic.is_bursty() && !traffic.is_bursty_beside_peaks() {
            let rates = || traffic.steps.iter().map(|step| step.1);
            findings.push(Finding::Unsteady {
                entry: name.clone(),
                steps: traffic.steps.len() as u64,
                low: rates().fold(f64::MAX, f64::min),
                high: rates().fold(0.0, f64::max),
                peaks: traffic.peaks.clone(),
                followed: model.workload.get(name).is_some_and(|entry| entry.curve.is_some()),
            });
        }
        if traffic.is_bursty_beside_peaks() {
            findings.push(Finding::Bursty { entry: name.clone(), dispersion: traffic.burstiness });
        }
        if let Some(closed) = &seen.closed {
            findings.push(Finding::Client(ClientFinding::ClosedLoop {
                entry: name.clone(),
                users: closed.users.value,
                range: closed.users.range.unwrap_or([closed.users.value; 2]),
                think: closed.think.dist.mean(),
            }));
        }
        if seen.rate.source == Source::Assumed {
            let requests = (seen.rate.value * inferred.covered.seconds.max(1.0)).round() as u64;
            findings.push(Finding::RateAssumed { entry: name.clone(), requests, seconds: inferred.covered.seconds });
        }
    }
    refusals(inferred, findings);
    for (name, service) in &model.services {
        if service.workers.source == Source::Inferred
            && let (Limit::Of(workers), Some([Limit::Of(low), Limit::Of(high)])) = (service.workers.value, service.workers.range)
        {
            findings.push(Finding::Queueing { service: name.clone(), workers, range: [low, high] });
        }
    }
    if log.orphans * ORPHANS_WORTH_SAYING > log.spans {
        findings.push(Finding::Orphans { orphans: log.orphans, spans: log.spans });
    }
    // A consumer that starts a trace of its own is the rule, not a surprise.
    let alone = |r: &&Request| log.traces[r.trace as usize].spans == 1 && r.origin != Origin::Message;
    let single = log.requests.iter().filter(alone).count() as u64;
    if single * ONE_SPAN_WORTH_SAYING > log.traces.len() as u64 {
        findings.push(Finding::OneSpanTraces { traces: single, of: log.traces.len() as u64 });
    }
    let shares = log.traces.iter().map(|t| t.share.unwrap_or(1.0));
    let (lowest, highest) = shares.fold((1.0_f64, 0.0_f64), |(low, high), s| (low.min(s), high.max(s)));
    if lowest < highest {
        findings.push(Finding::UnevenSampling { lowest, highest });
    }
}

/// Services that were full.
fn refusals(inferred: &Inferred, findings: &mut Vec<Finding>) {
    let log = &inferred.log;
    let mut by_service: BTreeMap<u32, (u64, u64, Examples)> = BTreeMap::new();
    for (request, &rejected) in log.requests.iter().zip(&inferred.load.rejected) {
        let (refused, all, traces) = by_service.entry(log.service_of(request.op)).or_default();
        *all += 1;
        if rejected {
            traces.add(log.trace_id(request));
            *refused += 1;
        }
    }
    for (service, (refused, of, traces)) in by_service.into_iter().filter(|(_, (refused, _, _))| *refused > 0) {
        let holds = inferred.load.services.get(&service).map_or(0, |load| load.holds);
        findings.push(Finding::Refusals { service: log.service_name(service).to_owned(), refused, of, holds, traces });
    }
}

/// What nobody could learn.
fn assumptions(inferred: &Inferred, model: &Model, findings: &mut Vec<Finding>) {
    let log = &inferred.log;
    let instrumented = |name: &str| log.services.get(name).is_some_and(|s| s.instrumented);
    let guessed = |name: &&String| instrumented(name) && model.services[*name].workers.source == Source::Assumed;
    let workers: Vec<String> = model.services.keys().filter(guessed).cloned().collect();
    let queues = model.services.iter().filter(|(name, s)| instrumented(name) && s.queue.source == Source::Assumed).count() as u64;
    fn unseen(steps: &[Step]) -> u64 {
        let assumed = |source: Source| u64::from(source == Source::Assumed);
        let of = |step: &Step| match step {
            Step::Work(_) => 0,
            Step::Call(call) => assumed(call.on_failure.source),
            Step::Parallel { branches, .. } => unseen(branches),
            Step::Lookup(lookup) => assumed(lookup.origin.on_failure.source),
            Step::Publish(publish) => assumed(publish.on_failure.source),
        };
        steps.iter().map(of).sum()
    }
    let paths = model.services.values().flat_map(|s| s.operations.values()).flat_map(|op| &op.paths);
    let failures = paths.map(|path| unseen(&path.steps)).sum();
    let topics = model.topics.values().filter(|t| t.capacity.source == Source::Assumed).count() as u64;
    findings.push(Finding::Assumed { workers, queues, failures, topics });
}
