//! Changes to a state, one for everything that a step can see.

use super::super::*;
use super::{SCALED, SECOND};
use crate::des::breaker::{BreakerMode, Memory};
use crate::des::records::{Role, flag};

/// A change to a state; false if there is nothing in it to change.
pub(super) type Change = Box<dyn Fn(&mut State) -> bool>;

fn exec(wanted: impl Fn(&Exec) -> bool + 'static, change: impl Fn(&mut Exec) + 'static) -> Change {
    Box::new(move |s| {
        let found = (0..s.execs.slots()).find(|&x| s.execs[x].phase != Phase::Free && wanted(&s.execs[x]));
        found.map(|x| (change(&mut s.execs[x]), s.execs[x].spread = true)).is_some()
    })
}

fn call(wanted: impl Fn(&Call) -> bool + 'static, change: impl Fn(&mut Call) + 'static) -> Change {
    Box::new(move |s| {
        let found = (0..s.calls.slots()).find(|&c| s.calls[c].open && wanted(&s.calls[c]));
        found.map(|c| (change(&mut s.calls[c]), s.calls[c].spread = true)).is_some()
    })
}

fn message(wanted: impl Fn(&Message) -> bool + 'static, change: impl Fn(&mut Message) + 'static) -> Change {
    Box::new(move |s| {
        let found = (0..s.messages.slots()).find(|&m| s.messages[m].open && wanted(&s.messages[m]));
        found.map(|m| change(&mut s.messages[m])).is_some()
    })
}

fn replica(change: impl Fn(&mut Replica) -> bool + 'static) -> Change {
    Box::new(move |s| s.replicas.iter_mut().any(&change))
}

pub(super) fn client(change: impl Fn(&mut ClientState) -> bool + 'static) -> Change {
    Box::new(move |s| s.clients.iter_mut().any(&change))
}

pub(super) fn control(change: impl Fn(&mut Control) -> bool + 'static) -> Change {
    Box::new(move |s| s.controls.iter_mut().any(&change))
}

fn topic(change: impl Fn(&mut TopicState) -> bool + 'static) -> Change {
    Box::new(move |s| s.topics.iter_mut().any(&change))
}

/// Swaps the first two of a replica's queue.
fn swap_queued(s: &mut State) -> bool {
    let Some(r) = s.replicas.iter().position(|r| r.queued >= 2) else { return false };
    let a = s.replicas[r].head;
    let b = s.execs[a].next;
    let after = s.execs[b].next;
    s.replicas[r].head = b;
    (s.execs[b].prev, s.execs[b].next) = (NONE, a);
    (s.execs[a].prev, s.execs[a].next) = (b, after);
    match after {
        NONE => s.replicas[r].tail = a,
        after => s.execs[after].prev = a,
    }
    true
}

/// An event of a kind comes a nanosecond later.
fn postpone(kind: Kind) -> Change {
    Box::new(move |s| {
        let Some(event) = s.queue.pending().find(|event| event.kind() == kind && s.is_awaited(*event)) else { return false };
        // (The old one stays behind, and nobody waits for it any more; those that are always awaited come twice.)
        let id = s.queue.push(event.time() + 1, kind, event.slot());
        match kind {
            Kind::WorkDone | Kind::Request => s.execs[event.slot()].event = id,
            Kind::Reply | Kind::Resend | Kind::Hedge => s.calls[event.slot()].event = id,
            Kind::Timeout => s.calls[event.slot()].timeout = id,
            Kind::Message => s.messages[event.slot()].event = id,
            _ => {}
        }
        true
    })
}

/// One change for everything that a step can see.
pub(super) fn changes() -> Vec<(&'static str, Change)> {
    let always = |_: &Exec| true;
    let every = |_: &Call| true;
    let mut all: Vec<(&'static str, Change)> = vec![
        (
            "seed",
            Box::new(|s| {
                s.seed += 1;
                true
            }),
        ),
        (
            "load",
            Box::new(|s| {
                s.load += 0.1;
                true
            }),
        ),
        (
            "now",
            Box::new(|s| {
                s.now += 1;
                true
            }),
        ),
        ("a request's key", exec(always, |x| x.key.0 ^= 1 << 40)),
        ("a request's line", exec(always, |x| x.line.0 ^= 1)),
        ("when a request arrived", exec(|x| x.phase != Phase::InTransit, |x| x.arrived += 1)),
        ("who waits for a request", exec(|x| x.call != NONE, |x| x.call = NONE)),
        ("the user's number of a request", exec(always, |x| x.request ^= 1)),
        ("a request's step", exec(always, |x| x.step ^= 1)),
        ("where a request is", exec(always, |x| x.replica ^= 1)),
        ("branches still waited for", exec(|x| x.phase == Phase::Waiting, |x| x.pending += 1)),
        ("successes still needed", exec(|x| x.phase == Phase::Waiting, |x| x.wanted += 1)),
        ("steps of work done", exec(always, |x| x.works += 1)),
        ("what a request does", exec(|x| x.phase == Phase::Working, |x| x.phase = Phase::Waiting)),
        ("what a request is for", exec(always, |x| x.role = if x.role == Role::Fill { Role::Plain } else { Role::Fill })),
        ("since when a request waits", exec(|x| x.phase == Phase::Queued, |x| x.waits_since -= 1)),
        ("a request's deadline", exec(always, |x| x.deadline -= 1)),
        ("a request's cache key", exec(always, |x| x.cache_key ^= 1)),
        ("a request's message", exec(|x| x.message != NONE, |x| x.message = NONE)),
        ("a call's parent key", call(every, |c| c.parent_key.0 ^= 1)),
        ("a call's parent line", call(every, |c| c.other_line = Key(c.parent_line().0 ^ 1))),
        ("a call's key", call(every, |c| c.key.0 ^= 1)),
        ("when a call began", call(every, |c| c.began -= 1)),
        ("a call's site", call(every, |c| c.site += 1)),
        ("a call's request in progress", call(|c| c.exec != NONE, |c| c.exec = NONE)),
        ("a call's parent", call(|c| c.from == Parent::Exec, |c| c.parent = NONE)),
        ("what made a call", call(|c| c.from == Parent::Entry, |c| c.from = Parent::User)),
        ("a call's user", call(every, |c| c.request ^= 1)),
        ("a call's client", call(every, |c| c.client ^= 1)),
        ("a call's lookup", call(|c| c.lookup != NONE, |c| c.lookup = NONE)),
        ("a call's cache key", call(every, |c| c.cache_key ^= 1)),
        ("a call's attempt", call(every, |c| c.attempt += 1)),
        ("a call's repetition", call(every, |c| c.repetition += 1)),
        ("a call's repetitions", call(every, |c| c.repetitions += 1)),
        ("hedges sent", call(every, |c| c.hedges += 1)),
        ("the wait before a try", call(every, |c| c.previous_wait += 1)),
        ("a call's deadline", call(every, |c| c.deadline -= 1)),
        ("what a call is for", call(every, |c| c.role = if c.role == Role::Fill { Role::Plain } else { Role::Fill })),
        ("a probe", call(every, |c| c.probe ^= true)),
        ("a place in the bulkhead", call(every, |c| c.in_bulkhead ^= true)),
        ("a connection", call(every, |c| c.link = if c.link == Link::Held { Link::None } else { Link::Held })),
        ("a follower of a flight", call(every, |c| c.follows ^= true)),
        (
            "a call that is forgotten by its parent",
            Box::new(|s| {
                let found = (0..s.execs.slots()).find(|&x| s.execs[x].phase != Phase::Free && s.execs[x].first_call != NONE);
                found.map(|x| s.execs[x].first_call = s.calls[s.execs[x].first_call].next_open).is_some()
            }),
        ),
        (
            "a hedged try that is forgotten",
            Box::new(|s| {
                let found = (0..s.calls.slots()).find(|&c| s.calls[c].open && s.calls[c].first_hedge != NONE);
                found.map(|c| s.calls[c].first_hedge = NONE).is_some()
            }),
        ),
        (
            "an answer under way",
            Box::new(|s| {
                let reply = s.queue.pending().find(|event| event.kind() == Kind::Reply && s.is_awaited(*event));
                reply.map(|event| s.calls[event.slot()].hit ^= true).is_some()
            }),
        ),
        (
            "a failure under way",
            Box::new(|s| {
                let reply = s.queue.pending().find(|event| event.kind() == Kind::Reply && s.is_awaited(*event));
                reply.map(|event| s.calls[event.slot()].reply = Some(models::system::Cause::Bulkhead)).is_some()
            }),
        ),
        ("a message's key", message(|_| true, |m| m.key.0 ^= 1)),
        ("when a message was published", message(|_| true, |m| m.published -= 1)),
        ("what a message is about", message(|_| true, |m| m.about += 1)),
        ("a message's topic", message(|_| true, |m| m.topic ^= 1)),
        ("whose a message is", message(|_| true, |m| m.request ^= 1)),
        ("a message's handlers", message(|_| true, |m| m.users += 1)),
        ("a message's deliveries", message(|_| true, |m| m.deliveries += 1)),
        ("a message that was applied", message(|_| true, |m| m.applied ^= true)),
        ("a poisoned message", message(|_| true, |m| m.poisoned ^= true)),
        ("a message that its topic has done with", message(|m| m.users > 0, |m| m.open = false)),
        (
            "a copy of a message",
            Box::new(|s| {
                let open: Vec<u32> = (0..s.messages.slots()).filter(|&m| s.messages[m].open).collect();
                let [a, b, ..] = open[..] else { return false };
                s.messages[a].original = b;
                true
            }),
        ),
        (
            "which of two messages is the older",
            Box::new(|s| {
                let open: Vec<u32> =
                    (0..s.messages.slots()).filter(|&m| s.messages[m].open && s.messages[m].topic == 0).collect();
                let [a, b, ..] = open[..] else { return false };
                let version = s.messages[a].version;
                s.messages[a].version = std::mem::replace(&mut s.messages[b].version, version);
                true
            }),
        ),
        (
            "a newer write than a message's",
            Box::new(|s| {
                let open = (0..s.messages.slots()).find(|&m| {
                    let m = &s.messages[m];
                    m.open && s.topics[m.topic as usize].applied[m.about as usize] <= m.version
                });
                open.map(|m| {
                    let m = s.messages[m];
                    s.topics[m.topic as usize].applied[m.about as usize] = m.version + 1;
                })
                .is_some()
            }),
        ),
        (
            "two messages swapped",
            topic(|t| {
                let found = t.partitions.iter_mut().find(|part| part.ready.len() >= 2);
                found.map(|part| part.ready.swap(0, 1)).is_some()
            }),
        ),
        (
            "a partition that waits",
            topic(|t| {
                t.partitions[0].busy ^= true;
                true
            }),
        ),
        (
            "the partition whose turn it is",
            topic(|t| {
                t.next += 1;
                true
            }),
        ),
        (
            "messages in delivery",
            topic(|t| {
                t.in_delivery += 1;
                true
            }),
        ),
        (
            "messages waiting",
            topic(|t| {
                t.waiting += 1;
                true
            }),
        ),
        (
            "two blocked publishes swapped",
            Box::new(|s| {
                let State { topics, execs, .. } = s;
                let waits = |b: &(u32, u32)| execs[b.0].generation == b.1 && execs[b.0].phase == Phase::Blocked;
                let several = |t: &&mut TopicState| t.blocked.len() >= 2 && t.blocked.iter().take(2).all(waits);
                topics.iter_mut().find(several).map(|t| t.blocked.swap(0, 1)).is_some()
            }),
        ),
        (
            "a blocked publish that has gone",
            Box::new(|s| {
                let State { topics, execs, .. } = s;
                let waits = |b: &&mut (u32, u32)| execs[b.0].generation == b.1 && execs[b.0].phase == Phase::Blocked;
                topics.iter_mut().flat_map(|t| &mut t.blocked).find(waits).map(|b| b.1 ^= 1 << 31).is_some()
            }),
        ),
        (
            "one who has gone stands elsewhere in line",
            Box::new(|s| {
                let t = &mut s.topics[1];
                if t.blocked.is_empty() {
                    return false;
                }
                let gone = (t.blocked[0].0, t.blocked[0].1 ^ 1 << 31);
                t.blocked.push_back(gone);
                true
            }),
        ),
        (
            "a topic that is down",
            topic(|t| {
                t.up = false;
                true
            }),
        ),
        (
            "busy workers",
            replica(|r| {
                r.busy += 1;
                true
            }),
        ),
        (
            "workers",
            replica(|r| {
                r.limit -= 1;
                true
            }),
        ),
        (
            "requests present",
            replica(|r| {
                r.present += 1;
                true
            }),
        ),
        (
            "places to wait",
            replica(|r| {
                r.queue_bound -= 1;
                true
            }),
        ),
        ("a replica that is down", replica(|r| std::mem::replace(&mut r.up, false))),
        (
            "a replica that is down in silence",
            replica(|r| {
                (r.up, r.silent) = (false, true);
                true
            }),
        ),
        ("a replica that is not listed", replica(|r| std::mem::replace(&mut r.listed, false))),
        (
            "a replica under way",
            replica(|r| {
                r.starting ^= true;
                true
            }),
        ),
        ("two requests in line swapped", Box::new(swap_queued)),
        (
            "a replica that is not warm yet",
            Box::new(|s| {
                let now = s.now;
                let scaled =
                    s.replicas.iter_mut().find(|r| r.service == SCALED && (r.started == FAR_NS || r.started + 2 * SECOND < now));
                scaled.map(|r| r.started = now - 1).is_some()
            }),
        ),
        ("replicas listed", Box::new(|s| s.services.iter_mut().any(|service| service.listed.pop().is_some()))),
        (
            "replicas wanted",
            Box::new(|s| {
                s.services[0].wanted += 1;
                true
            }),
        ),
        (
            "work since the last look",
            Box::new(|s| {
                s.services[SCALED as usize].busy += 1;
                true
            }),
        ),
        (
            "scaled workers that are busy",
            Box::new(|s| {
                s.services[SCALED as usize].busy_now += 1;
                true
            }),
        ),
        (
            "since when fewer would do",
            Box::new(|s| {
                s.services[SCALED as usize].fewer_since -= 1;
                true
            }),
        ),
        (
            "a turn",
            Box::new(|s| {
                s.turns[0] += 1;
                true
            }),
        ),
        (
            "one token more",
            client(|c| {
                let spent = c.budget.tokens > 0 && c.budget.tokens < crate::program::TOKEN * 4;
                if spent {
                    c.budget.tokens += crate::program::TOKEN
                }
                spent
            }),
        ),
        (
            "one part of a token less",
            client(|c| {
                let spent = c.budget.tokens > 0 && c.budget.tokens < crate::program::TOKEN * 4;
                if spent {
                    c.budget.tokens -= 1
                }
                spent
            }),
        ),
        (
            "calls in a bulkhead",
            client(|c| {
                c.limits.in_flight += 1;
                true
            }),
        ),
        (
            "connections held",
            client(|c| {
                c.limits.held += 1;
                true
            }),
        ),
        (
            "tries that wait for a connection",
            client(|c| {
                c.limits.waiting += 1;
                true
            }),
        ),
        (
            "a breaker that is open",
            client(|c| {
                let until = 40 * SECOND;
                c.breaker.as_mut().map(|b| b.mode = BreakerMode::Open { until }).is_some()
            }),
        ),
        (
            "a breaker with probes",
            client(|c| c.breaker.as_mut().map(|b| b.mode = BreakerMode::HalfOpen { unsent: 1, unheard: 1 }).is_some()),
        ),
        (
            "a failure that a breaker knows",
            client(|c| match c.breaker.as_deref_mut() {
                Some(b) if b.known > 0 => match &mut b.memory {
                    Memory::Calls { failed, next } => {
                        let last = next.checked_sub(1).unwrap_or(19);
                        failed[0] ^= 1 << last;
                        true
                    }
                    _ => false,
                },
                _ => false,
            }),
        ),
        (
            "a try of the last seconds",
            client(|c| match c.breaker.as_mut().map(|b| &mut b.memory) {
                Some(Memory::Time { slots, tenth }) => {
                    slots[(*tenth % 10) as usize].1 += 1;
                    true
                }
                _ => false,
            }),
        ),
        (
            "failures on end",
            client(|c| match c.breaker.as_deref_mut() {
                Some(b) if b.memory == Memory::Consecutive => {
                    b.failures += 1;
                    true
                }
                _ => false,
            }),
        ),
        (
            "an adaptive limit",
            control(|c| {
                c.limit_q16 += 1;
                true
            }),
        ),
        (
            "a long-term latency",
            control(|c| {
                c.long_ns += 1;
                true
            }),
        ),
        (
            "answers of the long term",
            control(|c| {
                c.long_count += 1;
                true
            }),
        ),
        (
            "an arrival of the last second",
            control(|c| {
                let last = (c.slot % 20) as usize;
                let some = c.arrivals[last] > 0;
                c.arrivals[last] += u32::from(some);
                some
            }),
        ),
        ("how often a user has asked", Box::new(|s| s.users.last_mut().map(|user| user.asked += 1).is_some())),
        (
            "one arrival more",
            Box::new(|s| {
                s.recorder.user_arrived(0, false);
                true
            }),
        ),
        (
            "one request more of a waiting user",
            Box::new(|s| {
                let asked = s.users[3].asked;
                s.recorder.user_arrived_nth(1, s.users[3].number, asked, 12);
                true
            }),
        ),
        (
            "the next arrival's key",
            Box::new(|s| {
                s.streams[0].next_key.0 ^= 1;
                true
            }),
        ),
        (
            "the gap between arrivals",
            Box::new(|s| {
                s.streams[0].gap_q16 += 1;
                true
            }),
        ),
        (
            "the end of arrivals",
            Box::new(|s| {
                s.streams[0].until -= 1;
                true
            }),
        ),
        (
            "arrivals of a surge",
            Box::new(|s| {
                s.streams[0].surge = Some(0);
                true
            }),
        ),
        (
            "the order of a cache's keys",
            Box::new(|s| {
                let Some(contents) = s.contents.iter_mut().flatten().next() else { return false };
                let mut keys = Vec::new();
                contents.by_use(|key, _| keys.push(key));
                let now = s.now;
                keys.len() > 3 && contents.ask(keys[2], now)
            }),
        ),
        (
            "until when a key is valid",
            Box::new(|s| {
                let Some(contents) = s.contents.iter_mut().flatten().next() else { return false };
                let mut newest = None;
                contents.by_use(|key, valid_until| newest = newest.or(valid_until.map(|until| (key, until))));
                let Some((key, valid_until)) = newest else { return false };
                contents.store(key, valid_until + 1);
                true
            }),
        ),
        (
            "a cache's oldest key",
            Box::new(|s| {
                let Some(contents) = s.contents.iter_mut().flatten().next() else { return false };
                let before = contents.len();
                contents.evict(1);
                contents.len() < before
            }),
        ),
        ("who leads a flight", Box::new(|s| s.flights.0.first_mut().map(|flight| flight.leader = NONE).is_some())),
        ("what a flight is for", Box::new(|s| s.flights.0.first_mut().map(|flight| flight.of.2 += 1).is_some())),
        (
            "a follower that is forgotten",
            Box::new(|s| {
                let found = s.flights.0.iter_mut().find(|flight| flight.first != NONE);
                found.map(|flight| flight.first = NONE).is_some()
            }),
        ),
        (
            "a flight more",
            Box::new(|s| {
                s.flights.open(0, (0, 0, 0), NONE);
                true
            }),
        ),
    ];
    for (kind, name) in [(Kind::Notice, "a notice to come"), (Kind::Fault, "a fault to come")] {
        all.push((name, Box::new(move |s| s.queue.push(s.now + SECOND, kind, 0) > 0)));
    }
    for (flag, name) in [
        (flag::WORKER, "a worker held"),
        (flag::ABANDONED, "a caller that has gone"),
        (flag::FAILED, "a failure to pass on"),
        (flag::DEGRADED, "a degraded answer"),
        (flag::POISONED, "a request that will fail"),
    ] {
        all.push((name, exec(always, move |x| x.flags ^= flag)));
    }
    for (kind, name) in [
        (Kind::WorkDone, "an end of work"),
        (Kind::Reply, "a reply"),
        (Kind::Timeout, "a timeout"),
        (Kind::Arrival, "an arrival"),
        (Kind::Request, "a request under way"),
        (Kind::Resend, "the end of a wait"),
        (Kind::Message, "a held message"),
        (Kind::Hedge, "a hedge"),
        (Kind::Think, "a thought"),
        (Kind::Scale, "a look at the utilisation"),
    ] {
        all.push((name, postpone(kind)));
    }
    all
}
