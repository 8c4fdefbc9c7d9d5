//! The whole state as words, so that two runs can be asked whether they go on alike (DESIGN.md 7.1, coalescence).
//!
//! You are here: `sim::des::canonical`. A twin keeps its words at whole seconds; a run whose faults are over compares its own with them.
//! Always true: two states at the same instant, of the same model, with equal words do the same from then on. No slot, generation or sequence
//! number is among the words: things are named by the rank of their keys, and what waits in order is listed in that order. What no
//! step to come can see (a breaker's window while it is open, an overfull budget's history) is left out or brought to one form.
//! Where two live things have the same key, the state has no words: it is equal to none.
//!
//! The records are taken apart field by field, so that a new field does not compile until it is thought of here.
//! The sections are in the order of their price, and a comparison ends at the first word that differs.

use models::rng::Key;

use super::State;
use super::arrivals::{Stream, User};
use super::budget::Budget;
use super::cache::Contents;
use super::client::ClientState;
use super::control::{CoDel, Control};
use super::flights::Flight;
use super::limits::Limits;
use super::queue::{Event, Kind};
use super::records::{Call, Exec, Link, Parent, Phase, Replica};
use super::replicas::ServiceState;
use super::topic::{Message, Partition, TopicState};
use crate::program::{FAR_NS, NONE, PolicyP, ServiceP, Tables};

/// Where words go: to be kept, or to be compared.
trait Sink {
    fn put(&mut self, word: u64);
    /// Whether more words can change anything.
    fn goes_on(&self) -> bool;

    fn pair(&mut self, a: u32, b: u32) {
        self.put(u64::from(a) << 32 | u64::from(b));
    }
}

impl Sink for Vec<u64> {
    fn put(&mut self, word: u64) {
        self.push(word);
    }

    fn goes_on(&self) -> bool {
        true
    }
}

/// Compares with words that are known.
struct Against<'a> {
    left: std::slice::Iter<'a, u64>,
    equal: bool,
}

impl Sink for Against<'_> {
    fn put(&mut self, word: u64) {
        self.equal = self.equal && self.left.next() == Some(&word);
    }

    fn goes_on(&self) -> bool {
        self.equal
    }
}

/// The ranks of live things among their kind, by slot; `NONE` for a free slot.
struct Ranks {
    by_slot: Vec<u32>,
    /// Slots by rank.
    slots: Vec<u32>,
}

impl Ranks {
    /// `None` if two of them have the same key.
    fn new(slots: u32, live: impl Iterator<Item = (Key, u32)>) -> Option<Ranks> {
        let mut things: Vec<(Key, u32)> = live.collect();
        things.sort_unstable();
        if things.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return None;
        }
        let mut by_slot = vec![NONE; slots as usize];
        for (rank, &(_, slot)) in things.iter().enumerate() {
            by_slot[slot as usize] = rank as u32;
        }
        Some(Ranks { by_slot, slots: things.into_iter().map(|(_, slot)| slot).collect() })
    }

    fn of(&self, slot: u32) -> u32 {
        if slot == NONE { NONE } else { self.by_slot[slot as usize] }
    }
}

impl State {
    /// Writes the state's words; false if it has none.
    pub(crate) fn canonical(&self, p: &Tables, out: &mut Vec<u64>) -> bool {
        self.words(p, out)
    }

    /// Whether the state has these words.
    pub(crate) fn has_words(&self, p: &Tables, words: &[u64]) -> bool {
        let mut against = Against { left: words.iter(), equal: true };
        self.words(p, &mut against) && against.equal && against.left.next().is_none()
    }

    fn words<S: Sink>(&self, p: &Tables, out: &mut S) -> bool {
        let State {
            now,
            seed,
            load,
            queue: _,
            execs,
            calls,
            messages,
            replicas,
            services,
            controls,
            turns,
            clients,
            topics,
            contents,
            flights,
            streams: _,
            users,
            ready,
            woken,
            effects,
            recorder,
            tracer: _,
            log: _,
            digest: _,
            events: _,
            generation: _,
        } = self;
        debug_assert!(ready.is_empty() && woken.is_empty(), "nothing is half done between two events");
        out.put(*now);
        out.put(*seed);
        out.put(load.to_bits());
        out.pair(execs.live(), calls.live());
        out.pair(messages.live(), effects.count());
        out.put(flights.0.len() as u64);
        for &turn in turns {
            out.put(u64::from(turn));
        }
        recorder.users().words(|word| out.put(word));
        if !out.goes_on() {
            return true;
        }
        for (edge, policy) in p.edges.iter().zip(&p.policies) {
            for client in &clients[edge.state_base as usize..(edge.state_base + edge.callers) as usize] {
                client_words(client, policy, *now, out);
            }
        }
        for replica in replicas {
            self.replica_words(p, replica, out);
        }
        for (service, state) in p.services.iter().zip(services) {
            let ServiceState { listed, wanted, busy, busy_now, serving, serving_now, fewer_since, fewer } = state;
            out.pair(listed.len() as u32, *wanted);
            listed.iter().for_each(|&r| out.put(u64::from(r)));
            if service.autoscale.is_some() {
                for sum in [*busy, *serving] {
                    out.put(sum as u64);
                    out.put(((sum as u128) >> 64) as u64);
                }
                out.put(u64::from(*serving_now));
                out.put(*fewer_since);
                out.pair(*busy_now, if *fewer_since == FAR_NS { 0 } else { *fewer });
            }
        }
        for (control, replica) in controls.iter().zip(replicas) {
            control_words(control, &p.services[replica.service as usize], *now, out);
        }
        for user in users {
            // Its key follows from the seed.
            let User { entry, number, key: _, asked } = user;
            out.pair(*entry, *number);
            out.put(u64::from(*asked));
        }
        for topic in topics {
            // How versions compare is said with the messages.
            let TopicState { partitions, next, waiting, in_delivery, versions: _, applied: _, blocked, up, silent } = topic;
            out.pair(*waiting, *in_delivery);
            out.pair(*next, blocked.len() as u32);
            out.put(u64::from(*up) << 1 | u64::from(*silent && !up));
            for Partition { ready, busy } in partitions {
                out.pair(ready.len() as u32, u32::from(*busy));
            }
        }
        if out.goes_on() && !self.things(out) {
            return false;
        }
        if out.goes_on() {
            contents.iter().flatten().for_each(|contents| content_words(contents, out));
        }
        true
    }

    fn replica_words<S: Sink>(&self, p: &Tables, replica: &Replica, out: &mut S) {
        let Replica {
            busy,
            limit,
            present,
            queued,
            queue_bound,
            head: _,
            tail: _,
            service,
            node: _,
            started,
            up,
            silent,
            listed,
            starting,
            lifo: _,
            blocking: _,
            cancel: _,
            special: _,
        } = *replica;
        out.pair(busy, limit);
        out.pair(present, queued);
        out.put(u64::from(queue_bound));
        out.put(u64::from(up) | u64::from(silent && !up) << 1 | u64::from(listed) << 2 | u64::from(starting) << 3);
        if let Some((lasting, _)) = p.services[service as usize].warm_up {
            let warm = started == FAR_NS || self.now >= started + lasting;
            out.put(if warm { FAR_NS } else { started });
        }
    }

    /// Requests, calls and messages, and all that refers to them.
    fn things<S: Sink>(&self, out: &mut S) -> bool {
        let execs = (0..self.execs.slots()).filter(|&x| self.execs[x].phase != Phase::Free).map(|x| (self.execs[x].key, x));
        let calls = (0..self.calls.slots()).filter(|&c| self.calls[c].open).map(|c| (self.calls[c].key, c));
        let known = |m: &u32| self.messages[*m].open || self.messages[*m].users > 0;
        let messages = (0..self.messages.slots()).filter(known).map(|m| (self.messages[m].key, m));
        let (Some(execs), Some(calls), Some(messages)) = (
            Ranks::new(self.execs.slots(), execs),
            Ranks::new(self.calls.slots(), calls),
            Ranks::new(self.messages.slots(), messages),
        ) else {
            return false;
        };
        let versions = self.version_ranks(&messages);
        for (&m, &version) in messages.slots.iter().zip(&versions) {
            let Message {
                key,
                published,
                event: _,
                version: _,
                about,
                topic,
                request,
                original,
                users,
                deliveries,
                open,
                applied,
                poisoned,
            } = self.messages[m];
            out.put(key.0);
            out.put(published);
            out.put(version);
            out.pair(topic, request);
            out.pair(about, users);
            out.pair(messages.of(original), u32::from(deliveries));
            out.put(u64::from(open) | u64::from(applied) << 1 | u64::from(poisoned) << 2);
        }
        for &x in &execs.slots {
            self.exec_words(x, &calls, &messages, out);
        }
        for &c in &calls.slots {
            self.call_words(c, &execs, &calls, &messages, out);
        }
        for replica in &self.replicas {
            let mut x = replica.head;
            while x != NONE {
                out.put(u64::from(execs.of(x)));
                x = self.execs[x].next;
            }
        }
        for topic in &self.topics {
            topic.partitions.iter().flat_map(|part| &part.ready).for_each(|&m| out.put(u64::from(messages.of(m))));
            for &(x, generation) in &topic.blocked {
                // One that has gone still stands in line until its turn has come.
                let waits = self.execs[x].generation == generation && self.execs[x].phase == Phase::Blocked;
                out.put(if waits { u64::from(execs.of(x)) } else { u64::MAX });
            }
        }
        for client in &self.clients {
            let mut c = client.limits.first;
            while c != NONE {
                out.put(u64::from(calls.of(c)));
                c = self.calls[c].next_waiter;
            }
        }
        for Flight { of, leader, first, last: _ } in &self.flights.0 {
            out.pair(of.0, of.1);
            out.pair(of.2, calls.of(*leader));
            let mut c = *first;
            while c != NONE {
                out.put(u64::from(calls.of(c)));
                c = self.calls[c].next_waiter;
            }
            out.put(u64::MAX);
        }
        if out.goes_on() {
            self.event_words(&execs, &calls, &messages, out);
        }
        true
    }

    /// What can still be seen of each message's version: its rank among those of its topic that somebody still has, and whether a newer one about
    /// the same has been applied already. How many were published before is nobody's business.
    fn version_ranks(&self, messages: &Ranks) -> Vec<u64> {
        let version = |m: u32| (self.messages[m].topic, self.messages[m].version);
        let mut all: Vec<(u32, u64)> = messages.slots.iter().map(|&m| version(m)).collect();
        all.sort_unstable();
        all.dedup();
        let rank = |m: u32| all.partition_point(|&other| other < version(m)) as u64;
        let overtaken = |m: u32| {
            let Message { topic, about, version, .. } = self.messages[m];
            self.topics[topic as usize].applied.get(about as usize).is_some_and(|&applied| version < applied)
        };
        messages.slots.iter().map(|&m| rank(m) << 1 | u64::from(overtaken(m))).collect()
    }

    fn exec_words<S: Sink>(&self, x: u32, calls: &Ranks, messages: &Ranks, out: &mut S) {
        let Exec {
            key,
            line,
            event: _,
            arrived,
            call,
            request,
            step,
            replica,
            first_call,
            pending,
            wanted,
            works,
            phase,
            role,
            flags,
            spread: _,
            uses: _,
            waits_since,
            deadline,
            next: _,
            prev: _,
            generation: _,
            cache_key,
            message,
        } = self.execs[x];
        out.put(key.0);
        out.put(line.0);
        out.put(if phase == Phase::InTransit { 0 } else { arrived });
        out.put(match phase {
            Phase::InTransit if waits_since <= self.now => 0, // nothing holds it any more
            Phase::InTransit | Phase::Queued => waits_since,
            _ => 0,
        });
        out.put(deadline);
        out.pair(calls.of(call), request);
        out.pair(step, replica);
        out.pair(cache_key, u32::from(works));
        out.pair(messages.of(message), u32::from(flags));
        let waits = phase == Phase::Waiting;
        out.pair(if waits { u32::from(pending) } else { 0 }, if waits { u32::from(wanted) } else { 0 });
        out.pair(phase as u32, role as u32);
        let mut c = first_call;
        while c != NONE {
            out.put(u64::from(calls.of(c)));
            c = self.calls[c].next_open;
        }
        out.put(u64::MAX);
    }

    fn call_words<S: Sink>(&self, c: u32, execs: &Ranks, calls: &Ranks, messages: &Ranks, out: &mut S) {
        let Call {
            parent_key,
            other_line: _, // see `parent_line`
            key,
            began,
            event: _,
            timeout: _,
            site,
            exec,
            parent,
            request,
            next_open: _,
            previous_open: _,
            client,
            lookup,
            cache_key,
            next_waiter: _,
            attempt,
            repetition,
            repetitions,
            hedges,
            previous_wait,
            deadline,
            first_hedge,
            from,
            role,
            reply: _,
            hit: _,
            probe,
            open: _,
            in_bulkhead,
            link,
            follows,
            plain: _,  // a shorter way to the same end
            spread: _, // likewise
        } = self.calls[c];
        let parent_line = self.calls[c].parent_line();
        let whose = match from {
            Parent::Exec => execs.of(parent),
            Parent::Entry | Parent::User => parent,
            Parent::Message => messages.of(parent),
            Parent::Hedge => calls.of(parent),
            Parent::Nobody => NONE,
        };
        out.pair(from as u32, whose);
        for word in [parent_key.0, parent_line.0, key.0, began, previous_wait, deadline] {
            out.put(word);
        }
        out.pair(site, execs.of(exec));
        out.pair(client, request);
        out.pair(lookup, cache_key);
        out.put(u64::from(repetition) << 32 | u64::from(repetitions) << 16 | u64::from(attempt));
        let flags = u32::from(probe) | u32::from(in_bulkhead) << 1 | u32::from(follows) << 2 | link_word(link) << 3;
        out.pair((role as u32) << 16 | u32::from(hedges), flags);
        let mut hedge = first_hedge;
        while hedge != NONE {
            out.put(u64::from(calls.of(hedge)));
            hedge = self.calls[hedge].next_open;
        }
        out.put(u64::MAX);
    }

    /// Pending events in order: when, what, and for whom. Those that nothing waits for any more will leave no trace.
    fn event_words<S: Sink>(&self, execs: &Ranks, calls: &Ranks, messages: &Ranks, out: &mut S) {
        let mut events: Vec<Event> = self.queue.pending().filter(|event| self.is_awaited(*event)).collect();
        events.sort_unstable();
        out.put(events.len() as u64);
        for event in events {
            let slot = event.slot();
            out.put(event.time());
            let place = match event.kind() {
                Kind::WorkDone | Kind::Request => execs.of(slot),
                Kind::Reply | Kind::Timeout | Kind::Resend | Kind::Hedge => calls.of(slot),
                Kind::Message => messages.of(slot),
                Kind::Think | Kind::Scale | Kind::Notice => slot,
                Kind::Arrival | Kind::Fault => 0,
            };
            out.pair(event.kind() as u32, place);
            match event.kind() {
                Kind::Reply => {
                    let Call { reply, hit, .. } = self.calls[slot];
                    out.put(reply.map_or(0, |cause| cause as u64 + 1) << 1 | u64::from(hit));
                }
                Kind::Arrival => {
                    // Its place in the stream follows from the number that have arrived.
                    // (When its next one comes is the time of the event.)
                    let Stream { keys: _, entry, gap_q16, until, surge, next_key, next_at: _ } = &self.streams[slot as usize];
                    out.pair(*entry, surge.map_or(0, |fault| fault + 1));
                    out.put(*gap_q16 as u64);
                    out.put((*gap_q16 >> 64) as u64);
                    out.put(*until);
                    out.put(next_key.0);
                }
                _ => {}
            }
        }
    }

    /// Whether something waits for an event.
    fn is_awaited(&self, event: Event) -> bool {
        let (slot, number) = (event.slot(), event.id());
        match event.kind() {
            Kind::WorkDone | Kind::Request => self.execs[slot].event == number,
            Kind::Reply | Kind::Resend | Kind::Hedge => self.calls[slot].event == number,
            Kind::Timeout => self.calls[slot].timeout == number,
            Kind::Message => self.messages[slot].event == number,
            Kind::Arrival | Kind::Fault | Kind::Think | Kind::Scale | Kind::Notice => true,
        }
    }
}

fn link_word(link: Link) -> u32 {
    match link {
        Link::None => 0,
        Link::Waits => 1,
        Link::Granted => 2,
        Link::Held => 3,
    }
}

/// What a replica remembers of its load. Arrivals of more than a second ago are forgotten, and so is CoDel's last dropping state once it is too
/// long ago to be taken up again.
fn control_words<S: Sink>(control: &Control, service: &ServiceP, now: u64, out: &mut S) {
    let Control { codel, limit_q16, long_ns, long_count, arrivals: _, slot: _ } = control;
    if let Some(policy) = &service.codel {
        let CoDel { first_above, drop_next, count, last_count, dropping } = *codel;
        out.put(first_above);
        let past = if codel.is_over(policy, now) { [0; 3] } else { [drop_next, count, last_count] };
        past.into_iter().for_each(|word| out.put(word));
        out.put(u64::from(dropping));
    }
    for word in [*limit_q16, *long_ns, *long_count] {
        out.put(word);
    }
    control.last_arrivals(now).for_each(|n| out.put(u64::from(n)));
}

/// A cache's keys, the one used last first, with the time until which they are valid where they grow old.
fn content_words<S: Sink>(contents: &Contents, out: &mut S) {
    out.put(u64::from(contents.len()));
    let mut half = None;
    contents.by_use(|key, valid_until| {
        if let Some(valid_until) = valid_until {
            out.put(valid_until);
        }
        match half.take() {
            None => half = Some(key),
            Some(newer) => out.pair(newer, key),
        }
    });
    out.pair(half.unwrap_or(NONE), NONE);
}

/// A budget and a breaker. A full budget is full whenever it was filled; one that time does not fill has no clock.
fn client_words<S: Sink>(client: &ClientState, policy: &PolicyP, now: u64, out: &mut S) {
    let ClientState { budget: Budget { tokens, filled_at }, breaker, limits } = client;
    let Limits { in_flight, held, waiting, first: _, last: _ } = *limits;
    out.pair(in_flight, held);
    out.put(u64::from(waiting));
    if let Some(budget) = &policy.budget {
        let earned = (u128::from(now - filled_at) * u128::from(budget.per_ns_q32)) >> 32;
        let full = u128::from(*tokens) + earned >= u128::from(budget.cap);
        out.put(if full { budget.cap } else { *tokens });
        out.put(if full || budget.per_ns_q32 == 0 { 0 } else { *filled_at });
    }
    if let (Some(breaker), Some(policy)) = (breaker, &policy.breaker) {
        let (mode, until, unsent, unheard) = breaker.mode_at(now);
        out.put(mode);
        out.put(until);
        out.pair(unsent, unheard);
        breaker.memory_words(policy, now, |word| out.put(word));
        out.put(u64::MAX);
    }
}

#[cfg(test)]
mod tests;
