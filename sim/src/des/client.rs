//! The caller's side: tries, timeouts, retries with their waits and budgets, circuit breakers.
//!
//! You are here: `sim::des::client`. `server` opens calls and hears of their end; users and topics call from here too.
//! Always true: an open call waits for exactly one of: a request in progress (`exec`), a reply or a wait (`event`), or, where bytes
//! were lost, its timeout alone. A retry leaves through the event queue even if its wait is zero.

use models::rng::{Key, Purpose, below};
use models::system::{Cause, Jitter};

use super::breaker::Breaker;
use super::queue::Kind;
use super::{Exec, Mark, Phase, Role, State};
use crate::program::{EdgeP, NONE, TOKEN, Tables, TargetP, cause_bit};

/// Who made a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parent {
    /// A request at a service waits for it.
    Exec(u32),
    /// A user of this entry waits for it.
    Entry(u32),
    /// A topic delivers this message.
    Message(u32),
    /// Nobody waits for it.
    Nobody,
}

/// A call: all its tries, and all its repetitions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallState {
    pub(super) parent: Parent,
    parent_key: Key,
    parent_line: Key,
    key: Key,
    pub(super) began: u64,
    /// Sequence number of the reply or end of wait that it waits for.
    pub(super) event: u64,
    /// Sequence number of its timeout.
    pub(super) timeout: u64,
    previous_wait: u64,
    site: u32,
    /// The request in progress at the callee.
    pub(super) exec: u32,
    /// Its caller's budget and breaker.
    client: u32,
    pub(super) request: u32,
    next_open: u32,
    previous_open: u32,
    lookup: u32,
    cache_key: u32,
    repetition: u16,
    repetitions: u16,
    attempt: u16,
    role: Role,
    /// A half-open breaker let it through to see.
    probe: bool,
    reply: Option<Cause>,
    hit: bool,
    pub(super) open: bool,
}

/// One caller's budget and breaker on one edge.
#[derive(Clone, Debug)]
pub(crate) struct ClientState {
    tokens: u64,
    filled_at: u64,
    breaker: Option<Box<Breaker>>,
}

impl ClientState {
    pub(super) fn new(edge: &EdgeP) -> Self {
        ClientState {
            tokens: edge.budget.map_or(0, |b| b.initial),
            filled_at: 0,
            breaker: edge.breaker.map(|policy| Box::new(Breaker::closed(&policy))),
        }
    }
}

impl State {
    /// Opens a call and sends its first try.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of the call")]
    pub(super) fn open_call(
        &mut self,
        p: &Tables,
        parent: Parent,
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
        let edge = &p.edges[p.sites[site as usize].edge as usize];
        let (caller_replica, next_open) = match parent {
            Parent::Exec(x) => {
                let exec = &self.execs[x];
                (exec.replica - p.services[exec.service as usize].replica_base, exec.first_call)
            }
            _ => (0, NONE),
        };
        let c = self.calls.insert(CallState {
            parent,
            parent_key,
            parent_line,
            key: parent_key,
            began: self.now,
            event: 0,
            timeout: 0,
            previous_wait: 0,
            site,
            exec: NONE,
            client: edge.state_base + caller_replica.min(edge.callers - 1),
            request,
            next_open,
            previous_open: NONE,
            lookup,
            cache_key,
            repetition,
            repetitions,
            attempt: 0,
            role,
            probe: false,
            reply: None,
            hit: false,
            open: true,
        });
        if let Parent::Exec(x) = parent {
            if next_open != NONE {
                self.calls[next_open].previous_open = c;
            }
            self.execs[x].first_call = c;
        }
        self.send(p, c);
    }

    /// Sends one try.
    fn send(&mut self, p: &Tables, c: u32) {
        let call = &mut self.calls[c];
        let site = &p.sites[call.site as usize];
        let e = site.edge;
        let edge = &p.edges[e as usize];
        let key = call.parent_key.child(site.site, call.repetition, call.attempt);
        let line = if call.attempt == 0 && call.parent_key == call.parent_line {
            key
        } else {
            call.parent_line.child(site.site, call.repetition, 0)
        };
        (call.key, call.probe) = (key, false);
        let call = *call;
        let again = call.attempt > 0 || matches!(call.parent, Parent::Message(_)) && call.repetition > 0;
        if call.attempt == 0
            && let Some(budget) = &edge.budget
        {
            let client = &mut self.clients[call.client as usize];
            client.tokens = (client.tokens + budget.per_first).min(budget.cap);
        }
        if let Some(policy) = &edge.breaker {
            let breaker = self.clients[call.client as usize].breaker.as_mut().expect("made with its policy");
            match breaker.admits(policy, self.now) {
                Some(probe) => self.calls[c].probe = probe,
                None => {
                    self.try_failed(p, c, Cause::BreakerOpen);
                    return;
                }
            }
        }
        self.recorder.attempt(e, edge.inner, again);
        let mut held = 0;
        let mut held_until = 0;
        let mut lost = false;
        let effect = &self.effects.edges[e as usize];
        if effect.active {
            self.recorder.touch(call.request);
            if effect.drops.iter().any(|&(fault, chance)| State::fault_draw(key, fault, chance)) {
                self.connection_error(p, c);
                return;
            }
            held = effect.add;
            for &(fault, jitter) in &effect.jitters {
                held += below(key.draw(Purpose::Fault, fault * 4), jitter);
            }
            if !effect.delivers_abandoned {
                held_until = self.now + held;
            }
            lost = effect.black_hole;
        }
        if edge.timeout > 0 {
            self.calls[c].timeout = self.queue.push_timeout(edge.lane, self.now + edge.timeout, c);
        }
        if lost {
            return;
        }
        let (op, service, replica, step) = match site.target {
            TargetP::Op(op) => {
                let service = p.ops[op as usize].service;
                let replica = self.choose_replica(p, service, e, key);
                (op, service, replica, choose_path(p, op, line))
            }
            TargetP::Topic(topic) => (NONE, topic, NONE, 0),
        };
        self.generation = self.generation.wrapping_add(1);
        let x = self.execs.insert(Exec {
            key,
            line,
            event: 0,
            arrived: self.now,
            waits_since: held_until,
            call: c,
            request: call.request,
            step,
            op,
            service,
            replica,
            next: NONE,
            prev: NONE,
            first_call: NONE,
            generation: self.generation,
            cache_key: call.cache_key,
            pending: 0,
            wanted: 0,
            successes: 0,
            works: 0,
            phase: Phase::InTransit,
            role: call.role,
            holds_worker: false,
            abandoned: false,
            failed: false,
        });
        self.calls[c].exec = x;
        let transit = held + edge.latency;
        if transit == 0 {
            self.request_arrives(p, x);
        } else {
            self.execs[x].event = self.queue.push(self.now + transit, Kind::Request, x);
        }
    }

    /// The callee has answered; the answer goes back over the network.
    pub(super) fn reply(&mut self, p: &Tables, c: u32, failure: Option<Cause>, hit: bool) {
        let e = p.sites[self.calls[c].site as usize].edge;
        let call = &mut self.calls[c];
        call.exec = NONE;
        (call.reply, call.hit) = (failure, hit);
        if self.effects.edges[e as usize].black_hole {
            return;
        }
        let latency = p.edges[e as usize].latency;
        if latency == 0 {
            self.reply_arrives(p, c);
        } else {
            self.calls[c].event = self.queue.push(self.now + latency, Kind::Reply, c);
        }
    }

    pub(super) fn reply_arrives(&mut self, p: &Tables, c: u32) {
        let e = p.sites[self.calls[c].site as usize].edge;
        let call = &mut self.calls[c];
        call.event = 0;
        if self.effects.edges[e as usize].black_hole {
            return; // it was on its way when the bytes began to vanish
        }
        match call.reply {
            Some(cause) => self.try_failed(p, c, cause),
            None => {
                call.timeout = 0;
                self.breaker_hears(p, c, false);
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
    fn disconnect(&mut self, p: &Tables, x: u32) {
        if x == NONE {
            return;
        }
        let exec = &mut self.execs[x];
        exec.call = NONE;
        exec.abandoned = true;
        if exec.phase == Phase::InTransit && self.now < exec.waits_since {
            self.free_exec(x); // whatever holds it sees the connection close and lets it go
        } else if exec.op != NONE && p.services[exec.service as usize].cancel {
            self.cancel(p, x);
        }
    }

    #[inline]
    fn breaker_hears(&mut self, p: &Tables, c: u32, failed: bool) {
        let call = &self.calls[c];
        let edge = &p.edges[p.sites[call.site as usize].edge as usize];
        if let Some(policy) = &edge.breaker {
            let breaker = self.clients[call.client as usize].breaker.as_mut().expect("made with its policy");
            breaker.heard(policy, self.now, call.probe, failed);
        }
    }

    /// A try has failed: there is another, or the call has failed.
    fn try_failed(&mut self, p: &Tables, c: u32, cause: Cause) {
        let call = &mut self.calls[c];
        call.timeout = 0;
        let call = *call;
        let e = p.sites[call.site as usize].edge;
        let edge = &p.edges[e as usize];
        self.recorder.attempt_failed(e, cause);
        if cause != Cause::BreakerOpen {
            self.breaker_hears(p, c, true);
        }
        let forced = self.effects.edges[e as usize].retries;
        let attempts = forced.map_or(edge.attempts, |(attempts, _)| attempts);
        let again = u32::from(call.attempt) + 1 < attempts
            && edge.retry_on & cause_bit(cause) != 0
            && call.attempt < u16::MAX
            && self.budget_pays(edge, call.client);
        if !again {
            self.call_failed(p, c, cause);
            return;
        }
        let base = forced.map_or_else(|| edge.waits[usize::from(call.attempt).min(edge.waits.len() - 1)], |(_, wait)| wait);
        let bits = call.key.draw(Purpose::Backoff, 0);
        let wait = match edge.jitter {
            Jitter::None => base,
            Jitter::Full => below(bits, base + 1),
            Jitter::Equal => base / 2 + below(bits, base - base / 2 + 1),
            Jitter::Decorrelated => {
                let least = forced.map_or(edge.waits[0], |(_, wait)| wait);
                let most = (call.previous_wait.max(least).saturating_mul(3)).min(edge.max_wait).max(least);
                least + below(bits, most - least + 1)
            }
        };
        let event = self.queue.push(self.now + wait, Kind::Resend, c);
        let call = &mut self.calls[c];
        call.event = event;
        call.previous_wait = wait;
        call.attempt += 1;
    }

    /// Takes a token for a retry if there is one; always if there is no budget.
    fn budget_pays(&mut self, edge: &EdgeP, client: u32) -> bool {
        let Some(budget) = &edge.budget else { return true };
        let client = &mut self.clients[client as usize];
        let earned = (u128::from(self.now - client.filled_at) * u128::from(budget.per_ns_q32)) >> 32;
        client.filled_at = self.now;
        client.tokens = client.tokens.saturating_add(u64::try_from(earned).unwrap_or(u64::MAX)).min(budget.cap);
        let pays = client.tokens >= TOKEN;
        if pays {
            client.tokens -= TOKEN;
        }
        pays
    }

    pub(super) fn resend(&mut self, p: &Tables, c: u32) {
        let call = &mut self.calls[c];
        call.event = 0;
        let (key, site) = (call.key, call.site);
        self.note(Mark::Resent, p.sites[site as usize].edge, key);
        self.send(p, c);
    }

    fn call_succeeded(&mut self, p: &Tables, c: u32) {
        let call = self.calls[c];
        let e = p.sites[call.site as usize].edge;
        self.recorder.call_ended(e, self.now - call.began, call.attempt, false);
        match call.role {
            Role::Ask if !call.hit => return self.ask_origin(p, c),
            Role::Origin => {
                let lookup = &p.lookups[call.lookup as usize];
                if lookup.fill == NONE {
                    self.contents[lookup.cache as usize].as_mut().expect("lookups ask caches").store(call.cache_key);
                } else {
                    let (key, line) = (call.parent_key, call.parent_line);
                    let nobody = Parent::Nobody;
                    self.open_call(
                        p,
                        nobody,
                        lookup.fill,
                        key,
                        line,
                        call.repetition,
                        call.repetition + 1,
                        call.request,
                        Role::Fill,
                        call.cache_key,
                        NONE,
                    );
                }
            }
            _ => {}
        }
        self.repetition_over(p, c, None);
    }

    fn call_failed(&mut self, p: &Tables, c: u32, cause: Cause) {
        let call = self.calls[c];
        let site = &p.sites[call.site as usize];
        self.recorder.call_ended(site.edge, self.now - call.began, call.attempt, true);
        if call.role == Role::Ask {
            self.ask_origin(p, c);
        } else if site.fallback != NONE {
            self.begin_again(p, c, site.fallback, call.repetition);
        } else {
            self.repetition_over(p, c, Some(cause));
        }
    }

    fn ask_origin(&mut self, p: &Tables, c: u32) {
        let call = &mut self.calls[c];
        call.role = Role::Origin;
        let (lookup, repetition) = (call.lookup, call.repetition);
        self.begin_again(p, c, p.lookups[lookup as usize].origin, repetition);
    }

    /// The call goes on with another site or repetition.
    fn begin_again(&mut self, p: &Tables, c: u32, site: u32, repetition: u16) {
        let edge = &p.edges[p.sites[site as usize].edge as usize];
        let caller_replica = match self.calls[c].parent {
            Parent::Exec(x) => self.execs[x].replica - p.services[self.execs[x].service as usize].replica_base,
            _ => 0,
        };
        let call = &mut self.calls[c];
        (call.site, call.repetition, call.attempt) = (site, repetition, 0);
        (call.began, call.previous_wait) = (self.now, 0);
        (call.event, call.timeout, call.exec) = (0, 0, NONE);
        call.client = edge.state_base + caller_replica.min(edge.callers - 1);
        // Through the queue, so that a thousand repetitions that fail at once do not stand on each other's shoulders.
        call.event = self.queue.push(self.now, Kind::Resend, c);
    }

    fn repetition_over(&mut self, p: &Tables, c: u32, failure: Option<Cause>) {
        let call = self.calls[c];
        let site = &p.sites[call.site as usize];
        let fails = failure.is_some() && site.on_failure.hits(call.key.draw(Purpose::OnFailure, 0));
        if call.repetition + 1 < call.repetitions && !fails {
            let first = if call.lookup == NONE { call.site } else { p.lookups[call.lookup as usize].ask };
            if call.lookup != NONE {
                self.calls[c].role = Role::Ask;
            }
            self.begin_again(p, c, first, call.repetition + 1);
            return;
        }
        self.close_call(c);
        match call.parent {
            Parent::Exec(x) => self.branch_done(x, failure.is_none(), fails),
            Parent::Entry(entry) => self.user_done(entry, call.request, call.began, call.key, failure),
            Parent::Message(m) => self.delivery_over(p, m, failure.is_none()),
            Parent::Nobody => {}
        }
    }

    /// Takes a call out of its parent's books.
    fn close_call(&mut self, c: u32) {
        let call = self.calls[c];
        if let Parent::Exec(x) = call.parent {
            match call.previous_open {
                NONE => self.execs[x].first_call = call.next_open,
                previous => self.calls[previous].next_open = call.next_open,
            }
            if call.next_open != NONE {
                self.calls[call.next_open].previous_open = call.previous_open;
            }
        }
        let call = &mut self.calls[c];
        (call.event, call.timeout, call.exec, call.open) = (0, 0, NONE, false);
        self.calls.remove(c);
    }

    /// A request that ends, or goes on, lets go of the calls it no longer waits for.
    #[inline]
    pub(super) fn abandon_open_calls(&mut self, p: &Tables, x: u32) {
        loop {
            let c = self.execs[x].first_call;
            if c == NONE {
                return;
            }
            self.abandon_call(p, c);
        }
    }

    pub(super) fn abandon_call(&mut self, p: &Tables, c: u32) {
        let call = self.calls[c];
        if call.probe
            && let Some(breaker) = &mut self.clients[call.client as usize].breaker
        {
            breaker.probe_lost();
        }
        self.close_call(c);
        self.disconnect(p, call.exec);
    }
}

/// The first step of the path that a request of this line takes through an operation.
fn choose_path(p: &Tables, op: u32, line: Key) -> u32 {
    let op = &p.ops[op as usize];
    let first = op.first_path as usize;
    if op.paths == 1 {
        return p.paths[first].first_step;
    }
    let bits = line.draw(Purpose::Path, 0);
    let paths = &p.paths[first..first + op.paths as usize];
    paths.iter().find(|path| bits <= path.upto).unwrap_or(&paths[paths.len() - 1]).first_step
}

impl CallState {
    /// Which compiled call site it is at.
    pub(super) fn site(&self) -> u32 {
        self.site
    }

    /// A publish was accepted; the broker's word arrives with this event.
    pub(super) fn awaits_acceptance(&mut self, event: u64) {
        (self.exec, self.reply, self.hit, self.event) = (NONE, None, false, event);
    }

    /// The message that it delivers, if it does.
    pub(super) fn delivers(&self) -> Option<u32> {
        match self.parent {
            Parent::Message(m) if self.open => Some(m),
            _ => None,
        }
    }
}
