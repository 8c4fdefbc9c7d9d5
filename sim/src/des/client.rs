//! The caller's side: tries, timeouts, retries with their waits and budgets, circuit breakers.
//!
//! You are here: `sim::des::client`. `server` opens calls and hears of their end; users and topics call from here too. `hedge` sends several
//! tries at once, `limits` has bulkheads and connection pools, `lookup` asks caches.
//! Always true: an open call waits for exactly one of: a request in progress (`exec`), a reply or a wait (`event`), a connection, its
//! hedged tries, another request's answer, or, where bytes were lost, its timeout alone. A retry leaves through the event queue even if
//! its wait is zero.

use models::rng::{Key, Purpose};
use models::system::Cause;

use super::breaker::Breaker;
use super::budget::Budget;
use super::limits::Limits;
use super::queue::Kind;
use super::records::{Call, Exec, Link, Parent, Phase, Role, flag, other_line};
use super::slab::Empty;
use super::{Ended, Mark, State};
use crate::program::{FAR_NS, NONE, PolicyP, SiteP, Tables, TargetP, cause_bit};

/// What one calling replica knows of one edge.
#[derive(Clone, Debug)]
pub(crate) struct ClientState {
    pub(super) budget: Budget,
    pub(super) breaker: Option<Box<Breaker>>,
    pub(super) limits: Limits,
}

impl ClientState {
    pub(super) fn new(policy: &PolicyP) -> Self {
        ClientState {
            budget: Budget::new(policy),
            breaker: policy.breaker.map(|policy| Box::new(Breaker::closed(&policy))),
            limits: Limits::new(),
        }
    }
}

impl State {
    /// Opens a call and sends its first try.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of the call")]
    #[inline(always)]
    pub(super) fn open_call(
        &mut self,
        p: &Tables,
        from: Parent,
        parent: u32,
        site: u32,
        parent_key: Key,
        parent_line: Key,
        repetition: u16,
        repetitions: u16,
        request: u32,
        role: Role,
        cache_key: u32,
        lookup: u32,
    ) {
        let s = &p.sites[site as usize];
        let edge = &p.edges[s.edge as usize];
        let (mut client, mut next_open, mut deadline) = (edge.state_base, NONE, FAR_NS);
        let c = self.calls.reserve();
        if from == Parent::Exec {
            let exec = &mut self.execs[parent];
            (next_open, deadline) = (exec.first_call, exec.deadline);
            exec.first_call = c;
            client += self.client_offset(p, parent, edge.callers);
            if next_open != NONE {
                self.calls[next_open].previous_open = c;
            }
        }
        let call = &mut self.calls[c];
        *call = Call {
            parent_key,
            other_line: other_line(parent_key, parent_line),
            key: parent_key.child(s.site, repetition, 0),
            began: self.now,
            site,
            parent,
            request,
            next_open,
            client,
            lookup,
            cache_key,
            repetition,
            repetitions,
            deadline,
            from,
            role,
            open: true,
            spread: true,
            ..Call::EMPTY
        };
        if edge.guarded || deadline != FAR_NS {
            self.begin_guarded(p, c);
        } else {
            self.dispatch_try(p, c, s);
        }
    }

    /// Which of an edge's client states a request at a service uses.
    #[inline]
    fn client_offset(&self, p: &Tables, x: u32, callers: u32) -> u32 {
        if callers <= 1 {
            return 0;
        }
        let replica = self.execs[x].replica;
        let base = p.services[self.replicas[replica as usize].service as usize].replica_base;
        (replica - base).min(callers - 1)
    }

    /// Begins a repetition of a call over an edge that has limits, a deadline or hedging.
    fn begin_guarded(&mut self, p: &Tables, c: u32) {
        let call = &mut self.calls[c];
        let e = p.sites[call.site as usize].edge;
        let policy = &p.policies[e as usize];
        if policy.deadline != FAR_NS {
            call.deadline = call.deadline.min(self.now + policy.deadline);
        }
        if policy.max_in_flight != u32::MAX {
            let limits = &mut self.clients[call.client as usize].limits;
            if limits.in_flight >= policy.max_in_flight {
                self.recorder.attempt_failed(e, Cause::Bulkhead);
                self.call_failed(p, c, Cause::Bulkhead);
                return;
            }
            limits.in_flight += 1;
            call.in_bulkhead = true;
        }
        if policy.hedge.is_some() { self.begin_hedging(p, c) } else { self.send(p, c) }
    }

    /// Sends one try, if budget, breaker and pool let it go.
    pub(super) fn send(&mut self, p: &Tables, c: u32) {
        let call = &mut self.calls[c];
        let site = &p.sites[call.site as usize];
        let edge = &p.edges[site.edge as usize];
        call.key = call.parent_key.child(site.site, call.repetition, call.attempt);
        if !edge.guarded && call.deadline == FAR_NS {
            self.dispatch_try(p, c, site);
            return;
        }
        let (client, first, deadline) = (call.client, call.attempt == 0, call.deadline);
        call.probe = false;
        let policy = &p.policies[site.edge as usize];
        if first && let Some(budget) = &policy.budget {
            self.clients[client as usize].budget.first_try(budget);
        }
        if deadline <= self.now {
            self.try_failed(p, c, Cause::Timeout);
            return;
        }
        if let Some(policy) = &policy.breaker {
            let breaker = self.clients[client as usize].breaker.as_mut().expect("made with its policy");
            match breaker.admits(policy, self.now) {
                Some(probe) => self.calls[c].probe = probe,
                None => {
                    self.try_failed(p, c, Cause::BreakerOpen);
                    return;
                }
            }
        }
        if policy.pool.is_some() && !self.take_connection(p, c) {
            return;
        }
        self.dispatch_try(p, c, site);
    }

    /// Arms a try's timeout, which its deadline may shorten.
    #[inline]
    pub(super) fn arm_timeout(&mut self, p: &Tables, c: u32) {
        let call = &mut self.calls[c];
        let e = p.sites[call.site as usize].edge;
        let edge = &p.edges[e as usize];
        let lowered = if self.effects.any { self.effects.edges[e as usize].timeout } else { FAR_NS };
        if call.deadline == FAR_NS && lowered == FAR_NS {
            if edge.timeout > 0 {
                call.timeout = self.queue.push_lane(edge.timeout_lane, self.now + edge.timeout, Kind::Timeout, c);
            }
            return;
        }
        let own = if edge.timeout > 0 { edge.timeout } else { FAR_NS };
        let at = (self.now + own.min(lowered)).min(call.deadline).max(self.now);
        if at >= self.now + FAR_NS {
            return; // nothing bounds it
        }
        call.timeout = self.queue.push(at, Kind::Timeout, c);
    }

    /// Puts a try on its way.
    #[inline]
    pub(super) fn dispatch_try(&mut self, p: &Tables, c: u32, site: &SiteP) {
        let e = site.edge;
        let edge = &p.edges[e as usize];
        let call = &self.calls[c];
        let again = call.attempt > 0 || call.from == Parent::Message && call.repetition > 0;
        self.recorder.attempt(e, edge.inner, again);
        if let Some(tracer) = &mut self.tracer {
            tracer.sent(call, site.target == TargetP::Topic, self.now);
        }
        let mut held = 0;
        let mut held_until = 0;
        let mut lost = false;
        if self.effects.on_edge(e) {
            let call = &self.calls[c];
            self.recorder.touch(call.request);
            let passage = self.effects.edges[e as usize].request(call.key, self.now);
            if passage.reset {
                self.connection_error(p, c);
                return;
            }
            (held, lost) = (passage.delay, passage.lost);
            if !passage.delivers_abandoned {
                held_until = self.now + held;
            }
        }
        if self.calls[c].timeout == 0 {
            self.arm_timeout(p, c);
        }
        if lost {
            return;
        }
        let call = &self.calls[c];
        let (key, parent_line, repetition) = (call.key, call.parent_line(), call.repetition);
        let first = call.attempt == 0 && call.parent_key == parent_line;
        let line = if first { key } else { parent_line.child(site.site, repetition, 0) };
        self.launch(p, c, site, key, line, held, held_until);
    }

    /// Makes the request of a try, which is held for a while and then crosses the network.
    #[expect(clippy::too_many_arguments, reason = "the caller has them at hand")]
    #[inline(always)]
    fn launch(&mut self, p: &Tables, c: u32, site: &SiteP, key: Key, line: Key, held: u64, held_until: u64) {
        let edge = &p.edges[site.edge as usize];
        let (replica, step) = match site.target {
            TargetP::Op(op) => {
                let replica = if site.replica != NONE && !self.effects.any {
                    site.replica
                } else if let Some(replica) = self.choose_replica(p, site.callee, site.edge, key) {
                    replica
                } else {
                    let request = self.calls[c].request;
                    self.touch_at(site.callee, request);
                    self.connection_error(p, c);
                    return;
                };
                (
                    replica,
                    if site.first_step == NONE {
                        choose_path(p, p.ops[op as usize].first_path, p.ops[op as usize].paths, edge.luck(key, line))
                    } else {
                        site.first_step
                    },
                )
            }
            TargetP::Topic => (site.callee, NONE),
        };
        let x = self.execs.reserve();
        self.generation = self.generation.wrapping_add(1);
        let (call, exec) = (&mut self.calls[c], &mut self.execs[x]);
        call.exec = x;
        *exec = Exec {
            key,
            line,
            call: c,
            request: call.request,
            step,
            replica,
            phase: Phase::InTransit,
            role: call.role,
            waits_since: held_until,
            generation: self.generation,
            spread: true,
            uses: exec.uses.wrapping_add(1),
            ..Exec::EMPTY
        };
        let transit = held + edge.latency;
        if held > 0 {
            exec.event = self.queue.push(self.now + transit, Kind::Request, x);
        } else if transit > 0 {
            exec.event = self.queue.push_lane(edge.request_lane, self.now + transit, Kind::Request, x);
        }
        if call.role != Role::Plain || call.from == Parent::Message || edge.guarded || site.target == TargetP::Topic {
            self.furnish(p, c, x, site);
        }
        if transit == 0 {
            self.request_arrives(p, x);
        }
    }

    /// What only some requests carry with them.
    #[inline(never)]
    fn furnish(&mut self, p: &Tables, c: u32, x: u32, site: &SiteP) {
        let (call, exec) = (&self.calls[c], &mut self.execs[x]);
        if site.target == TargetP::Topic {
            exec.role = Role::Publish;
        }
        if matches!(call.role, Role::Ask | Role::Fill) {
            exec.flags |= flag::CACHE;
            exec.cache_key = call.cache_key;
        }
        if p.policies[site.edge as usize].propagates {
            exec.deadline = call.deadline;
            exec.flags |= if exec.deadline == FAR_NS { 0 } else { flag::DEADLINE };
        }
        if call.from == Parent::Message {
            exec.flags |= flag::MESSAGE;
            exec.message = call.parent;
            self.delivery_leaves(x, self.calls[c].parent);
        }
    }

    /// The callee has answered; the answer goes back over the network.
    #[inline(always)]
    pub(super) fn reply(&mut self, p: &Tables, c: u32, failure: Option<Cause>, hit: bool) {
        let call = &mut self.calls[c];
        (call.exec, call.reply, call.hit) = (NONE, failure, hit);
        let hop = &p.hops[call.site as usize];
        if self.effects.on_edge(hop.edge) {
            self.reply_after(p, c, 0);
            return;
        }
        if hop.latency > 0 {
            call.event = self.queue.push_lane(u32::from(hop.reply_lane), self.now + hop.latency, Kind::Reply, c);
        } else {
            self.reply_arrives(p, c);
        }
    }

    /// A reply that leaves after a while, past the faults that are on.
    pub(super) fn reply_after(&mut self, p: &Tables, c: u32, after: u64) {
        let call = &mut self.calls[c];
        let e = p.sites[call.site as usize].edge;
        let passage = if self.effects.any { self.effects.edges[e as usize].reply(call.key) } else { Default::default() };
        if passage.lost {
            return;
        }
        let held = after + passage.delay + p.edges[e as usize].latency;
        if held > 0 {
            call.event = self.queue.push(self.now + held, Kind::Reply, c);
        } else {
            self.reply_arrives(p, c);
        }
    }

    pub(super) fn reply_arrives(&mut self, p: &Tables, c: u32) {
        if let Some(x) = self.take_reply(p, c) {
            self.make_ready(x);
        }
    }

    #[inline(never)]
    pub(super) fn reply_arrives_anyhow(&mut self, p: &Tables, c: u32) {
        let call = &mut self.calls[c];
        call.event = 0;
        let e = p.sites[call.site as usize].edge;
        if self.effects.any && self.effects.edges[e as usize].black_hole.replies() {
            return; // it was on its way when the bytes began to vanish
        }
        if self.calls[c].reply.is_none() {
            self.trace_heard(p, c, Ended::Well);
        }
        match self.calls[c].reply {
            Some(cause) => self.try_failed(p, c, cause),
            None => {
                self.calls[c].timeout = 0;
                if p.edges[e as usize].guarded {
                    self.guard_hears(p, c, e, false);
                }
                self.call_succeeded(p, c);
            }
        }
    }

    /// The connection was refused or reset.
    pub(super) fn connection_error(&mut self, p: &Tables, c: u32) {
        let e = p.sites[self.calls[c].site as usize].edge;
        self.calls[c].exec = NONE;
        self.recorder.connection_error(p.edges[e as usize].to_node);
        self.try_failed(p, c, Cause::Connection);
    }

    pub(super) fn timed_out(&mut self, p: &Tables, c: u32) {
        let call = &mut self.calls[c];
        call.timeout = 0;
        call.event = 0;
        let x = std::mem::replace(&mut call.exec, NONE);
        let (key, site) = (call.key, call.site);
        let e = p.sites[site as usize].edge;
        self.note(Mark::TryTimedOut, e, key);
        self.recorder.node_timeout(p.edges[e as usize].to_node);
        self.disconnect(p, x);
        self.try_failed(p, c, Cause::Timeout);
    }

    /// The caller of a request has gone.
    pub(super) fn disconnect(&mut self, p: &Tables, x: u32) {
        if x == NONE {
            return;
        }
        let exec = &mut self.execs[x];
        exec.call = NONE;
        exec.flags |= flag::ABANDONED;
        if exec.phase == Phase::InTransit && self.now < exec.waits_since || exec.phase == Phase::Blocked {
            self.free_exec(x); // whatever holds it sees the connection close and lets it go
        } else if exec.role != Role::Publish && self.replicas[exec.replica as usize].cancel {
            self.cancel(p, x);
        }
    }

    /// A try over a guarded edge has ended: its breaker hears of it, and its connection is free.
    fn guard_hears(&mut self, p: &Tables, c: u32, e: u32, failed: bool) {
        let policy = &p.policies[e as usize];
        if let Some(policy) = &policy.breaker {
            let call = &self.calls[c];
            let breaker = self.clients[call.client as usize].breaker.as_mut().expect("made with its policy");
            breaker.heard(policy, self.now, call.probe, failed);
            self.calls[c].probe = false;
        }
        if self.calls[c].link != Link::None {
            self.leave_connection(c);
        }
    }

    /// A try has failed: there is another, or the call has failed.
    pub(super) fn try_failed(&mut self, p: &Tables, c: u32, cause: Cause) {
        let call = &mut self.calls[c];
        call.timeout = 0;
        let (from, deadline) = (call.from, call.deadline);
        let e = p.sites[call.site as usize].edge;
        self.recorder.attempt_failed(e, cause);
        self.trace_heard(p, c, Ended::Failed(cause));
        if p.edges[e as usize].guarded && cause != Cause::BreakerOpen {
            self.guard_hears(p, c, e, true);
        }
        if from == Parent::Hedge {
            self.hedge_failed(p, c, cause);
            return;
        }
        let call = &self.calls[c];
        let policy = &p.policies[e as usize];
        let forced = if self.effects.any { self.effects.edges[e as usize].retries } else { None };
        let attempts = forced.map_or(p.edges[e as usize].attempts, |(attempts, _)| attempts);
        let again = u32::from(call.attempt) + 1 < attempts
            && policy.retry_on & cause_bit(cause) != 0
            && call.attempt < u16::MAX
            && self.now < deadline
            && policy.budget.as_ref().is_none_or(|budget| self.clients[call.client as usize].budget.pays(budget, self.now));
        if !again {
            self.call_failed(p, c, cause);
            return;
        }
        let call = &mut self.calls[c];
        let wait =
            policy.wait(call.attempt, call.previous_wait, forced.map(|(_, wait)| wait), call.key.draw(Purpose::Backoff, 0));
        (call.previous_wait, call.spread) = (wait, true);
        call.attempt += 1;
        // A wait that the deadline cuts short ends with it; the try that would follow fails at once.
        call.event = self.queue.push((self.now + wait).min(deadline), Kind::Resend, c);
    }

    /// A wait is over: the next try, or the first one of a call that goes on with another site or repetition.
    pub(super) fn resend(&mut self, p: &Tables, c: u32) {
        let call = &mut self.calls[c];
        call.event = 0;
        let (key, first) = (call.key, call.attempt == 0);
        let site = &p.sites[call.site as usize];
        let e = site.edge;
        if call.link == Link::Granted {
            call.link = Link::Held;
            self.dispatch_try(p, c, site);
            return;
        }
        if first {
            if p.edges[e as usize].guarded || call.deadline != FAR_NS {
                self.begin_guarded(p, c);
                return;
            }
        } else {
            self.note(Mark::Resent, e, key);
            if self.now >= self.calls[c].deadline {
                self.recorder.attempt_failed(e, Cause::Timeout);
                self.call_failed(p, c, Cause::Timeout);
                return;
            }
        }
        self.send(p, c);
    }

    #[inline(always)]
    pub(super) fn call_succeeded(&mut self, p: &Tables, c: u32) {
        let call = &self.calls[c];
        if call.from == Parent::Hedge {
            self.hedge_succeeded(p, c);
            return;
        }
        let e = p.sites[call.site as usize].edge;
        self.recorder.call_ended(e, self.now - call.began, call.attempt.max(call.hedges), false);
        match call.role {
            Role::Ask if !call.hit => self.ask_origin(p, c),
            Role::Origin => self.origin_answered(p, c),
            _ => self.repetition_over(p, c, None),
        }
    }

    pub(super) fn call_failed(&mut self, p: &Tables, c: u32, cause: Cause) {
        let call = &self.calls[c];
        let site = &p.sites[call.site as usize];
        self.recorder.call_ended(site.edge, self.now - call.began, call.attempt.max(call.hedges), true);
        match call.role {
            Role::Ask => self.ask_origin(p, c),
            Role::Origin => self.origin_failed(p, c, cause),
            _ if site.fallback != NONE => {
                if call.from == Parent::Exec {
                    self.execs[call.parent].flags |= flag::DEGRADED;
                }
                let repetition = call.repetition;
                self.begin_again(p, c, site.fallback, repetition);
            }
            _ => self.repetition_over(p, c, Some(cause)),
        }
    }

    /// The call goes on with another site or repetition.
    pub(super) fn begin_again(&mut self, p: &Tables, c: u32, site: u32, repetition: u16) {
        self.leave_bulkhead(c);
        let edge = &p.edges[p.sites[site as usize].edge as usize];
        let call = &self.calls[c];
        let (mut offset, mut deadline) = (0, FAR_NS);
        if call.from == Parent::Exec {
            offset = self.client_offset(p, call.parent, edge.callers);
            deadline = self.execs[call.parent].deadline;
        }
        let call = &mut self.calls[c];
        (call.site, call.repetition, call.attempt, call.hedges, call.plain) = (site, repetition, 0, 0, false);
        (call.began, call.previous_wait, call.deadline, call.spread) = (self.now, 0, deadline, true);
        (call.timeout, call.exec, call.client) = (0, NONE, edge.state_base + offset);
        // Through the queue, so that a thousand repetitions that fail at once do not stand on each other's shoulders.
        call.event = self.queue.push(self.now, Kind::Resend, c);
    }

    #[inline(always)]
    pub(super) fn repetition_over(&mut self, p: &Tables, c: u32, failure: Option<Cause>) {
        let call = &self.calls[c];
        let fails = failure.is_some() && p.sites[call.site as usize].on_failure.hits(call.key.draw(Purpose::OnFailure, 0));
        if call.repetition + 1 < call.repetitions && !fails {
            let first = if call.lookup == NONE { call.site } else { p.lookups[call.lookup as usize].ask };
            let next = call.repetition + 1;
            if call.lookup != NONE {
                self.calls[c].role = Role::Ask;
            }
            self.begin_again(p, c, first, next);
            return;
        }
        let Call { from, parent, request, began, parent_key, .. } = *call;
        self.close_call(c);
        match from {
            Parent::Exec => self.branch_done(parent, failure.is_none(), fails),
            Parent::Entry => self.user_done(parent, request, began, parent_key, failure),
            Parent::User => {
                self.user_done(self.users[parent as usize].entry, request, began, parent_key, failure);
                self.think(p, parent);
            }
            Parent::Message => self.delivery_over(p, parent, failure.is_none()),
            Parent::Hedge => unreachable!("hedged tries end in `hedge`"),
            Parent::Nobody => {}
        }
    }

    /// Takes a call out of its parent's books.
    #[inline(always)]
    pub(super) fn close_call(&mut self, c: u32) {
        self.leave_bulkhead(c);
        let call = &mut self.calls[c];
        let (from, parent, next, previous) = (call.from, call.parent, call.next_open, call.previous_open);
        (call.event, call.timeout, call.exec, call.open) = (0, 0, NONE, false);
        if matches!(from, Parent::Exec | Parent::Hedge) {
            if previous != NONE {
                self.calls[previous].next_open = next;
            } else if from == Parent::Exec {
                self.execs[parent].first_call = next;
            } else {
                self.calls[parent].first_hedge = next;
            }
            if next != NONE {
                self.calls[next].previous_open = previous;
            }
        }
        self.calls.remove(c);
    }

    /// A request that ends, or goes on, lets go of the calls it no longer waits for.
    #[inline]
    pub(super) fn abandon_open_calls(&mut self, p: &Tables, x: u32) {
        while self.execs[x].first_call != NONE {
            self.abandon_call(p, self.execs[x].first_call);
        }
    }

    pub(super) fn abandon_call(&mut self, p: &Tables, c: u32) {
        while self.calls[c].first_hedge != NONE {
            self.abandon_call(p, self.calls[c].first_hedge);
        }
        self.trace_heard(p, c, Ended::Cancelled);
        let Call { client, probe, link, exec, role, .. } = self.calls[c];
        if probe && let Some(breaker) = &mut self.clients[client as usize].breaker {
            breaker.probe_lost();
        }
        if link != Link::None {
            self.leave_connection(c);
        }
        if role == Role::Origin {
            self.leave_flight(p, c);
        }
        self.close_call(c);
        self.disconnect(p, exec);
    }
}

/// The first step of the path that a request takes through an operation.
#[inline(always)]
pub(crate) fn choose_path(p: &Tables, first: u32, count: u32, key: Key) -> u32 {
    let bits = key.draw(Purpose::Path, 0);
    let paths = &p.paths[first as usize..(first + count) as usize];
    match paths {
        // Which one it is cannot be guessed.
        [one, other] => std::hint::select_unpredictable(bits <= one.upto, one.first_step, other.first_step),
        _ => paths.iter().find(|path| bits <= path.upto).unwrap_or(&paths[paths.len() - 1]).first_step,
    }
}
