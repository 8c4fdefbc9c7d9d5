//! Who was called, and which attempts are one call.
//!
//! You are here: `models::learn::resolve`. `extract` saw attempts; this names their callees and joins retries.
//! Callees without a span of their own go by the name that answered calls show for it, else by what the caller's span says.
//! Retries: a resend count where the client writes one; else a same call that begins after its forerunner failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indexmap::IndexMap;

use super::extract::{Delivery, Extracted, Raw};
use super::log::{Attempt, Call, Log, Target, TopicSeen, plain_name};
use crate::trace::PeerKind;

/// Clocks are read twice between one attempt's end and the next one's start; this much overlap is none.
const CLOCK_SLACK_NS: u64 = 1_000;

/// Names every callee and joins attempts to calls.
pub(crate) fn resolve(extracted: Extracted) -> Log {
    let Extracted { mut log, mut raw, deliveries } = extracted;
    raw.sort_by_key(|r| (r.caller, r.start, r.end, r.span));
    let topics = Topics::find(&mut log, &raw, &deliveries);
    let names = Names::learn(&log, &raw);
    let counting: BTreeSet<u32> =
        raw.iter().filter(|r| r.resend > 0).map(|r| log.service_of(log.requests[r.caller as usize].op)).collect();

    let mut rest = raw.as_slice();
    while let Some(first) = rest.first() {
        let caller = first.caller;
        let (mine, others) = rest.split_at(rest.partition_point(|r| r.caller == caller));
        rest = others;
        let counts_resends = counting.contains(&log.service_of(log.requests[caller as usize].op));
        let mut groups: Vec<(Target, Vec<Attempt>)> = Vec::new();
        for r in mine {
            for target in targets(&mut log, &topics, &names, r) {
                for attempt in attempts(&log, r) {
                    let inside = attempt.server.is_some_and(|s| r.servers.first() != Some(&s));
                    let may_follow = inside || r.resend > 0 || !counts_resends;
                    let forerunner = groups.iter_mut().rev().find(|(to, tries)| {
                        *to == target && tries.last().is_some_and(|l| l.failed && l.end <= attempt.start + CLOCK_SLACK_NS)
                    });
                    match forerunner {
                        Some((_, tries)) if may_follow => tries.push(attempt),
                        _ => groups.push((target, vec![attempt])),
                    }
                }
            }
        }
        let begin = log.calls.len() as u32;
        for (target, tries) in groups {
            let (Some(first), Some(last)) = (tries.first(), tries.last()) else { continue };
            let at = log.attempts.len() as u32;
            let attempts = at..at + tries.len() as u32;
            log.calls.push(Call { target, attempts, start: first.start, end: last.end, failed: last.failed, hedged: false });
            log.attempts.extend(tries);
        }
        log.requests[caller as usize].calls = begin..log.calls.len() as u32;
    }
    super::hedges::join(&mut log);
    log
}

/// The attempts that one caller's span stands for: one, or several where callees' spans follow one another below it.
fn attempts(log: &Log, raw: &Raw) -> Vec<Attempt> {
    let whole = |server: Option<u32>| Attempt {
        start: raw.start,
        end: raw.end,
        failed: raw.failed || server.is_some_and(|s| log.requests[s as usize].failed),
        failure: raw.failure,
        server,
        client: raw.client,
        cancelled: false,
        resend: raw.resend,
    };
    let servers = &raw.servers;
    let request = |s: u32| &log.requests[s as usize];
    let in_turn = servers.len() > 1
        && servers
            .windows(2)
            .all(|w| request(w[0]).op == request(w[1]).op && request(w[0]).failed && request(w[0]).end <= request(w[1]).start);
    if !in_turn {
        return vec![whole(servers.first().copied())];
    }
    let last = servers.len() - 1;
    let part = |(i, &server): (usize, &u32)| Attempt {
        start: if i == 0 { raw.start } else { request(server).start.max(raw.start) },
        end: if i == last { raw.end } else { request(server).end.clamp(raw.start, raw.end) },
        failed: if i == last { raw.failed || request(server).failed } else { true },
        failure: if i == last { raw.failure } else { None },
        server: Some(server),
        client: raw.client,
        cancelled: false,
        resend: 0,
    };
    servers.iter().enumerate().map(part).map(|a| Attempt { end: a.end.max(a.start), ..a }).collect()
}

/// What an attempt is addressed to; a message goes to every topic of its destination.
fn targets(log: &mut Log, topics: &Topics, names: &Names, raw: &Raw) -> Vec<Target> {
    if let Some(destination) = &raw.message
        && let Some(found) = topics.by_destination.get(destination)
    {
        return found.iter().map(|&t| Target::Topic(t)).collect();
    }
    if let Some(&server) = raw.servers.first()
        && raw.message.is_none()
    {
        return vec![Target::Op(log.requests[server as usize].op)];
    }
    vec![Target::Op(names.callee(log, raw))]
}

/// Topics by destination.
struct Topics {
    by_destination: BTreeMap<Arc<str>, Vec<u32>>,
}

impl Topics {
    /// Ties consumers to the messages they handle, by link or parent, else by destination.
    fn find(log: &mut Log, raw: &[Raw], deliveries: &[Delivery]) -> Topics {
        let sent: BTreeMap<(u128, u64), &Arc<str>> = raw.iter().filter_map(|r| r.message.as_ref().map(|m| (r.span, m))).collect();
        let destinations: BTreeSet<&Arc<str>> = sent.values().copied().collect();
        let mut seen: IndexMap<(Arc<str>, u32), BTreeMap<u32, u64>> = IndexMap::new();
        let mut of_delivery = Vec::new();
        for delivery in deliveries {
            let by_link = delivery.senders.iter().find_map(|s| sent.get(s).copied());
            let by_name = delivery.destination.as_ref().filter(|d| destinations.contains(d));
            let Some(destination) = by_link.or(by_name) else { continue };
            let op = log.requests[delivery.request as usize].op;
            let key = (destination.clone(), log.service_of(op));
            // Deliveries of one message name the same sender; one that names none is a message of its own.
            let sender = delivery.senders.first().copied().unwrap_or((0, u64::from(delivery.request)));
            of_delivery.push((delivery.request, key.clone(), sender));
            *seen.entry(key).or_default().entry(op).or_default() += 1;
        }
        let mut by_destination: BTreeMap<Arc<str>, Vec<u32>> = BTreeMap::new();
        for (destination, _) in seen.keys() {
            by_destination.entry(destination.clone()).or_default();
        }
        let consumers = |d: &Arc<str>| seen.keys().filter(|(other, _)| other == d).count();
        let mut taken = BTreeSet::new();
        for ((destination, service), ops) in &seen {
            let mut name = plain_name(destination, "topic");
            if consumers(destination) > 1 {
                name = format!("{name}@{}", log.service_name(*service));
            }
            while log.services.contains_key(name.as_str()) || !taken.insert(name.clone()) {
                name.push_str("-topic");
            }
            let consumer = ops.iter().max_by_key(|&(op, n)| (*n, std::cmp::Reverse(*op))).map_or(0, |(op, _)| *op);
            by_destination.entry(destination.clone()).or_default().push(log.topics.len() as u32);
            log.topics.push(TopicSeen { name, consumer });
        }
        let mut messages: BTreeMap<(u32, (u128, u64)), Vec<u32>> = BTreeMap::new();
        for (request, key, sender) in of_delivery {
            let topic = seen.get_index_of(&key).map_or(0, |i| i as u32);
            log.requests[request as usize].topic = Some(topic);
            messages.entry((topic, sender)).or_default().push(request);
        }
        for ((topic, _), mut requests) in messages {
            requests.sort_by_key(|&r| log.requests[r as usize].start);
            log.deliveries.entry(topic).or_default().push(requests);
        }
        Topics { by_destination }
    }
}

/// A call as its client's span names it: caller, peer, operation.
type ClientCall = (u32, Option<Arc<str>>, Arc<str>);

/// What callers' names for callees turned out to mean where the callee left a span.
struct Names {
    services: BTreeMap<Arc<str>, u32>,
    ops: BTreeMap<ClientCall, u32>,
    busiest_op: BTreeMap<u32, u32>,
}

impl Names {
    fn learn(log: &Log, raw: &[Raw]) -> Names {
        let mut services: BTreeMap<Arc<str>, BTreeMap<u32, u64>> = BTreeMap::new();
        let mut ops: BTreeMap<ClientCall, BTreeMap<u32, u64>> = BTreeMap::new();
        let mut by_service: BTreeMap<u32, BTreeMap<u32, u64>> = BTreeMap::new();
        for r in raw.iter().filter(|r| r.client && r.message.is_none()) {
            let Some(&server) = r.servers.first() else { continue };
            let op = log.requests[server as usize].op;
            let service = log.service_of(op);
            if let Some(peer) = &r.peer {
                *services.entry(peer.clone()).or_default().entry(service).or_default() += 1;
            }
            let caller = log.service_of(log.requests[r.caller as usize].op);
            *ops.entry((caller, r.peer.clone(), r.operation.clone())).or_default().entry(op).or_default() += 1;
            *by_service.entry(service).or_default().entry(op).or_default() += 1;
        }
        let most = |counts: BTreeMap<u32, u64>| {
            counts.into_iter().max_by_key(|&(id, n)| (n, std::cmp::Reverse(id))).map_or(0, |(id, _)| id)
        };
        Names {
            services: services.into_iter().map(|(k, v)| (k, most(v))).collect(),
            ops: ops.into_iter().map(|(k, v)| (k, most(v))).collect(),
            busiest_op: by_service.into_iter().map(|(k, v)| (k, most(v))).collect(),
        }
    }

    /// The operation that an attempt without an answering span was meant for.
    fn callee(&self, log: &mut Log, raw: &Raw) -> u32 {
        let caller = log.service_of(log.requests[raw.caller as usize].op);
        if let Some(&op) = self.ops.get(&(caller, raw.peer.clone(), raw.operation.clone()))
            && raw.message.is_none()
        {
            return op;
        }
        let service = match raw.peer.as_ref().or(raw.message.as_ref()) {
            Some(peer) => self.named(log, peer),
            None => {
                let name = format!("unnamed peer of {}", log.service_name(caller));
                log.service(&name)
            }
        };
        let seen = &mut log.services[service as usize];
        if seen.instrumented {
            let op = log.ops.get_index_of(&(service, raw.operation.clone())).map(|i| i as u32);
            if let Some(op) = op.or_else(|| self.busiest_op.get(&service).copied()) {
                return op;
            }
        } else if seen.kind == PeerKind::Service {
            seen.kind = raw.peer_kind;
        }
        log.op(service, &raw.operation)
    }

    /// The service that a peer's name stands for: as answered calls show, as a service is called, as its host part is called, else itself.
    fn named(&self, log: &mut Log, peer: &Arc<str>) -> u32 {
        if let Some(&service) = self.services.get(peer) {
            return service;
        }
        let host = peer.split(':').next().unwrap_or(peer);
        let label = host.split('.').next().unwrap_or(host);
        for name in [peer, host, label] {
            if let Some(index) = log.services.get_index_of(name)
                && log.services[index].instrumented
            {
                return index as u32;
            }
        }
        log.service(peer)
    }
}
