//! The callee's side: replicas with workers and a queue, and the steps of a request.
//!
//! You are here: `sim::des::server`. `client` sends requests here and hears of their end; `replicas` says which replica a try goes to,
//! `control` sheds load and says how work slows down, `crash` kills.
//! Always true: a worker that is held is counted in `busy`; a request that waits for one is linked in its replica's queue, and in no
//! other; a request leaves by exactly one of `finish`, `shed`, `cancel`, `kill`.

use models::rng::Purpose;
use models::system::{Cause, Wait};

use super::queue::Kind;
use super::records::{Parent, Phase, Role, flag};
use super::{Left, Mark, State};
use crate::program::{FAR_NS, NONE, StepP, Tables, popular};

impl State {
    /// A request reaches its replica (or a message its topic).
    pub(super) fn request_arrives(&mut self, p: &Tables, x: u32) {
        let exec = &mut self.execs[x];
        exec.event = 0;
        if exec.role == Role::Publish || self.effects.any && (exec.flags != 0 || self.is_swallowed(p, x)) {
            self.request_arrives_anywhere(p, x);
            return;
        }
        let exec = &mut self.execs[x];
        let replica = &mut self.replicas[exec.replica as usize];
        if !replica.up || replica.special || exec.has(flag::ABANDONED) || self.effects.on_service(replica.service) {
            self.request_arrives_anywhere(p, x);
            return;
        }
        // The way of most: what `request_arrives_anywhere` does, where there is nothing else to ask.
        exec.arrived = self.now;
        replica.present += 1;
        if let StepP::Work { table, .. } = p.steps[exec.step as usize]
            && replica.busy < replica.limit
            && replica.queued == 0
        {
            replica.busy += 1;
            self.recorder.arrived_at_work(replica.node, self.now);
            let work = p.tables[table as usize].draw(exec.key.draw(Purpose::Work, u32::from(exec.works)));
            exec.works += 1;
            exec.phase = Phase::Working;
            exec.flags |= flag::WORKER;
            exec.event = self.queue.push(self.now + work, Kind::WorkDone, x);
            return;
        }
        self.recorder.arrived(replica.node, self.now);
        self.take_in(p, x);
    }

    #[inline(never)]
    fn request_arrives_anywhere(&mut self, p: &Tables, x: u32) {
        if self.effects.any && self.is_swallowed(p, x) {
            self.calls[self.execs[x].call].exec = NONE; // nobody hears of it
            self.free_exec(x);
            return;
        }
        let exec = &mut self.execs[x];
        if exec.role == Role::Publish {
            self.message_arrives(p, x);
            return;
        }
        let replica = &mut self.replicas[exec.replica as usize];
        if !replica.up {
            let (call, request, service, silent) = (exec.call, exec.request, replica.service, replica.silent);
            self.touch_at(service, request);
            self.free_exec(x);
            if call != NONE {
                if silent { self.calls[call].exec = NONE } else { self.connection_error(p, call) }
            }
            return;
        }
        if exec.has(flag::ABANDONED) && replica.cancel {
            self.free_exec(x);
            return;
        }
        exec.arrived = self.now;
        replica.present += 1;
        self.recorder.arrived(replica.node, self.now);
        if let Some(tracer) = &mut self.tracer {
            tracer.arrived(exec.key, exec.has(flag::MESSAGE), exec.replica, self.now);
        }
        if replica.special && !self.admits(p, x) {
            self.finish(p, x, Some(Cause::Overload));
            return;
        }
        if self.effects.any && self.fails_on_arrival(x) {
            self.finish(p, x, Some(Cause::Error));
            return;
        }
        self.take_in(p, x);
    }

    /// A request that has arrived gets a worker, or waits for one, or is refused.
    #[inline(always)]
    fn take_in(&mut self, p: &Tables, x: u32) {
        let exec = &self.execs[x];
        let replica = &self.replicas[exec.replica as usize];
        let works = matches!(p.steps[exec.step as usize], StepP::Work { .. });
        if !works && !replica.blocking {
            self.make_ready(x);
        } else if replica.busy < replica.limit && replica.queued == 0 {
            self.start(p, x, 0);
        } else if replica.queued >= replica.queue_bound {
            self.finish(p, x, Some(Cause::Overload));
        } else {
            self.enqueue(x);
        }
    }

    /// Whether a black hole swallows a request that was on its way.
    fn is_swallowed(&self, p: &Tables, x: u32) -> bool {
        let call = self.execs[x].call;
        call != NONE && self.effects.edges[p.hops[self.calls[call].site as usize].edge as usize].black_hole.requests()
    }

    /// A user request has been at a service: if a fault is on that, it met the fault.
    #[inline]
    pub(super) fn touch_at(&mut self, service: u32, request: u32) {
        if self.effects.any && self.effects.services[service as usize].active {
            self.recorder.touch(request);
        }
    }

    /// Whether a fault makes a request fail on arrival.
    fn fails_on_arrival(&mut self, x: u32) -> bool {
        let exec = &self.execs[x];
        let effect = &self.effects.services[self.replicas[exec.replica as usize].service as usize];
        if !effect.active {
            return false;
        }
        self.recorder.touch(exec.request);
        effect.errors.iter().any(|&(fault, chance)| State::fault_draw(exec.key, fault, chance))
    }

    #[inline(always)]
    pub(super) fn make_ready(&mut self, x: u32) {
        let exec = &mut self.execs[x];
        exec.phase = Phase::Ready;
        let uses = exec.uses;
        self.ready.push((x, uses));
    }

    /// Goes on with a request's steps until it has to wait or is done.
    #[inline(always)]
    pub(super) fn advance(&mut self, p: &Tables, x: u32) {
        let exec = &self.execs[x];
        if exec.flags & (flag::FAILED | flag::DEADLINE | flag::POISONED) == 0 && exec.first_call == NONE {
            // The way of most: what `advance_anyhow` does, where the next step is a plain call or the answer.
            match p.steps[exec.step as usize] {
                StepP::Call(site) => {
                    let hop = &p.hops[site as usize];
                    if hop.plain && !self.effects.on_edge(hop.edge) {
                        self.call_plainly(p, x, site, hop);
                        return;
                    }
                }
                StepP::Optional(_) => {
                    self.pass_optional_calls(p, x);
                    return;
                }
                StepP::End { error } if !error.may_hit() => {
                    self.finish(p, x, None);
                    return;
                }
                _ => {}
            }
        }
        self.advance_anyhow(p, x);
    }

    #[inline(never)]
    pub(super) fn advance_anyhow(&mut self, p: &Tables, x: u32) {
        let exec = &self.execs[x];
        if exec.has(flag::FAILED) {
            self.finish(p, x, Some(Cause::Error));
            return;
        }
        if exec.first_call != NONE {
            self.abandon_open_calls(p, x);
        }
        loop {
            let exec = &mut self.execs[x];
            match p.steps[exec.step as usize] {
                StepP::Work { .. } => {
                    let replica = &self.replicas[exec.replica as usize];
                    if exec.has(flag::WORKER) {
                        self.start_work(p, x);
                    } else if replica.busy < replica.limit && replica.queued == 0 {
                        self.start(p, x, 0);
                    } else {
                        self.enqueue(x);
                    }
                    return;
                }
                StepP::Call(_) | StepP::Optional(_) | StepP::Lookup(_) => {
                    let step = exec.step;
                    exec.step += 1;
                    (exec.phase, exec.pending, exec.wanted) = (Phase::Waiting, 0, 1);
                    self.open_branch(p, x, step);
                    let exec = &self.execs[x];
                    if exec.phase != Phase::Waiting || exec.pending > 0 {
                        return; // it is ready already and will go on from there, or it waits
                    }
                }
                StepP::Fork { count, wait } => {
                    let first = exec.step + 1;
                    exec.step = first + u32::from(count);
                    // One more than the branches, so that none of them can end the step before all have been opened.
                    let wanted = match wait {
                        Wait::All => count,
                        Wait::First => 1,
                        Wait::Quorum(n) => n.min(u32::from(count)) as u16,
                    };
                    (exec.phase, exec.pending, exec.wanted) = (Phase::Waiting, 1, wanted);
                    for branch in 0..u32::from(count) {
                        self.open_branch(p, x, first + branch);
                    }
                    let exec = &mut self.execs[x];
                    exec.pending -= 1;
                    if exec.phase != Phase::Waiting || exec.pending > 0 {
                        return;
                    }
                    if exec.has(flag::FAILED) {
                        self.finish(p, x, Some(Cause::Error));
                        return;
                    }
                }
                StepP::End { error } => {
                    let failed = exec.has(flag::POISONED) || error.may_hit() && error.hits(exec.key.draw(Purpose::OwnError, 0));
                    self.finish(p, x, failed.then_some(Cause::Error));
                    return;
                }
            }
        }
    }

    /// Opens the call of one branch; `pending` counts it if it is waited for.
    #[inline(always)]
    fn open_branch(&mut self, p: &Tables, x: u32, step: u32) {
        let exec = &mut self.execs[x];
        let (site, role, lookup, cache_key) = match p.steps[step as usize] {
            StepP::Call(site) | StepP::Optional(site) => (site, Role::Plain, NONE, NONE),
            StepP::Lookup(lookup) => {
                let l = &p.lookups[lookup as usize];
                let cache = p.services[l.cache as usize].cache.as_ref().expect("compiled lookups ask caches");
                let bits = exec.line.draw(Purpose::CacheKey, p.sites[l.ask as usize].site);
                (l.ask, Role::Ask, lookup, popular(&cache.popularity, bits))
            }
            _ => unreachable!("branches are calls and lookups"),
        };
        let s = &p.sites[site as usize];
        let repetitions = s.times(exec.key);
        if repetitions == 0 {
            return;
        }
        let (key, line, request) = (exec.key, exec.line, exec.request);
        let (from, parent) = if s.wait {
            exec.pending += 1;
            (Parent::Exec, x)
        } else {
            (Parent::Nobody, NONE)
        };
        self.open_call(p, from, parent, site, key, line, 0, repetitions, request, role, cache_key, lookup);
    }

    /// One waited-for branch of a request is over.
    #[inline(always)]
    pub(super) fn branch_done(&mut self, x: u32, succeeded: bool, fails: bool) {
        let exec = &mut self.execs[x];
        exec.pending -= 1;
        exec.wanted = exec.wanted.saturating_sub(u16::from(succeeded));
        if fails {
            exec.flags |= flag::FAILED;
        } else if !succeeded {
            exec.flags |= flag::DEGRADED;
        }
        if exec.wanted == 0 && exec.has(flag::FAILED) {
            exec.flags = exec.flags & !flag::FAILED | flag::DEGRADED; // enough others have succeeded
        }
        if (exec.pending == 0 || exec.wanted == 0) && exec.phase == Phase::Waiting {
            self.make_ready(x);
        }
    }

    fn enqueue(&mut self, x: u32) {
        let exec = &mut self.execs[x];
        exec.phase = Phase::Queued;
        (exec.waits_since, exec.spread) = (self.now, true);
        let replica = &mut self.replicas[exec.replica as usize];
        (exec.next, exec.prev) = (NONE, replica.tail);
        let last = std::mem::replace(&mut replica.tail, x);
        replica.queued += 1;
        let (node, depth) = (replica.node, replica.queued);
        if last == NONE {
            replica.head = x;
        } else {
            self.execs[last].next = x;
        }
        self.recorder.queue_depth(node, depth);
    }

    fn unlink(&mut self, x: u32) {
        let exec = &self.execs[x];
        let (next, prev, r) = (exec.next, exec.prev, exec.replica as usize);
        match next {
            NONE => self.replicas[r].tail = prev,
            next => self.execs[next].prev = prev,
        }
        match prev {
            NONE => self.replicas[r].head = next,
            prev => self.execs[prev].next = next,
        }
        self.replicas[r].queued -= 1;
    }

    /// Gives free workers to those who wait.
    pub(super) fn dispatch(&mut self, p: &Tables, r: u32) {
        loop {
            let replica = &self.replicas[r as usize];
            if replica.queued == 0 || replica.busy >= replica.limit {
                return;
            }
            let x = if replica.lifo { replica.tail } else { replica.head };
            let special = replica.special;
            self.unlink(x);
            let waited = self.now - self.execs[x].waits_since;
            if special && self.sheds(p, x, waited) {
                self.shed(p, x);
            } else {
                self.start(p, x, waited);
            }
        }
    }

    /// Gives a worker to a request that has none.
    #[inline(always)]
    fn start(&mut self, p: &Tables, x: u32, waited: u64) {
        let exec = &mut self.execs[x];
        exec.flags |= flag::WORKER;
        let replica = &mut self.replicas[exec.replica as usize];
        replica.busy += 1;
        self.recorder.worker_taken(replica.node, self.now, waited);
        if replica.special {
            self.worker_changed(p, x, true);
        }
        if matches!(p.steps[self.execs[x].step as usize], StepP::Work { .. }) {
            self.start_work(p, x);
        } else {
            self.make_ready(x);
        }
    }

    #[inline(always)]
    fn start_work(&mut self, p: &Tables, x: u32) {
        let exec = &mut self.execs[x];
        let StepP::Work { table, .. } = p.steps[exec.step as usize] else {
            unreachable!("work starts at a step of work");
        };
        let mut work = p.tables[table as usize].draw(exec.key.draw(Purpose::Work, u32::from(exec.works)));
        exec.works += 1;
        exec.phase = Phase::Working;
        if self.replicas[exec.replica as usize].special {
            work = self.slowed_by_load(p, x, work);
        }
        if self.effects.any {
            work = self.slowed_by_faults(x, work);
        }
        self.execs[x].event = self.queue.push(self.now + work, Kind::WorkDone, x);
    }

    /// What work takes under the faults that are on.
    fn slowed_by_faults(&mut self, x: u32, mut work: u64) -> u64 {
        let exec = &self.execs[x];
        let effect = &self.effects.services[self.replicas[exec.replica as usize].service as usize];
        if effect.active {
            self.recorder.touch(exec.request);
            work = ((u128::from(work) * u128::from(effect.slow_q16(self.now))) >> 16).min(u128::from(FAR_NS)) as u64;
            work += effect.paused_until.saturating_sub(self.now);
        }
        if exec.has(flag::MESSAGE) {
            let effect = &self.effects.topics[self.messages[exec.message].topic as usize];
            if effect.active {
                self.recorder.touch(exec.request);
                work = ((u128::from(work) * u128::from(effect.slow_q16)) >> 16).min(u128::from(FAR_NS)) as u64;
            }
        }
        work
    }

    #[inline(always)]
    pub(super) fn work_done(&mut self, p: &Tables, x: u32) {
        let exec = &mut self.execs[x];
        exec.event = 0;
        let StepP::Work { error, .. } = p.steps[exec.step as usize] else {
            unreachable!("work ends at a step of work");
        };
        exec.step += 1;
        if error.may_hit() && error.hits(exec.key.draw(Purpose::OwnError, 0)) {
            self.finish(p, x, Some(Cause::Error));
            return;
        }
        let r = exec.replica;
        if !self.replicas[r as usize].blocking && !matches!(p.steps[exec.step as usize], StepP::Work { .. }) {
            self.release_worker(p, x);
            if self.replicas[r as usize].queued > 0 {
                self.dispatch(p, r);
            }
        }
        self.advance(p, x);
    }

    #[inline(always)]
    fn release_worker(&mut self, p: &Tables, x: u32) {
        let exec = &mut self.execs[x];
        if exec.has(flag::WORKER) {
            exec.flags &= !flag::WORKER;
            let replica = &mut self.replicas[exec.replica as usize];
            replica.busy -= 1;
            self.recorder.worker_freed(replica.node, self.now);
            if replica.special {
                self.worker_changed(p, x, false);
            }
        }
    }

    /// The request is answered: rightly (`None`) or with a failure.
    pub(super) fn finish(&mut self, p: &Tables, x: u32, failure: Option<Cause>) {
        let exec = &mut self.execs[x];
        let replica = &mut self.replicas[exec.replica as usize];
        let plain = exec.first_call == NONE
            && exec.flags & !(flag::WORKER | flag::DEADLINE) == 0
            && !replica.special
            && !self.effects.traced
            && failure.is_none();
        if !plain {
            self.finish_anyhow(p, x, failure);
            return;
        }
        // The way of most: what `finish_anyhow` does, where nothing else has to be thought of.
        replica.present -= 1;
        if exec.has(flag::WORKER) {
            replica.busy -= 1;
            self.recorder.left_work(replica.node, self.now, exec.arrived);
        } else {
            self.recorder.left(replica.node, self.now, exec.arrived, Left::Answered, false);
        }
        exec.phase = Phase::Free;
        exec.event = 0;
        let (key, arrived, node, call, r, waiting) =
            (exec.key, exec.arrived, replica.node, exec.call, exec.replica, replica.queued > 0);
        self.execs.remove(x);
        self.digest_since(Mark::Answered, node, key, arrived);
        if waiting {
            self.dispatch(p, r);
        }
        if call != NONE {
            self.reply(p, call, None, false);
        }
    }

    #[inline(never)]
    fn finish_anyhow(&mut self, p: &Tables, x: u32, failure: Option<Cause>) {
        if self.execs[x].first_call != NONE {
            self.abandon_open_calls(p, x);
        }
        let exec = &self.execs[x];
        let call = exec.call;
        let mut hit = false;
        if failure.is_none() && exec.has(flag::CACHE | flag::DEGRADED | flag::MESSAGE) {
            hit = self.has_effects(p, x);
        }
        let how = match failure {
            None => Left::Answered,
            Some(Cause::Overload) => Left::Refused,
            Some(_) => Left::Failed,
        };
        self.leave(p, x, how);
        if call != NONE {
            self.reply(p, call, failure, hit);
        }
    }

    /// What an answer leaves behind in caches and in what messages are about; returns whether a cache was hit.
    #[inline(never)]
    fn has_effects(&mut self, p: &Tables, x: u32) -> bool {
        let exec = &self.execs[x];
        if exec.has(flag::DEGRADED) {
            self.recorder.degraded(self.replicas[exec.replica as usize].node);
        }
        if exec.has(flag::MESSAGE) {
            self.message_applied(p, x);
        }
        self.execs[x].has(flag::CACHE) && self.use_cache(x)
    }

    /// What a question to a cache finds, or what is put in.
    fn use_cache(&mut self, x: u32) -> bool {
        let exec = &self.execs[x];
        let service = self.replicas[exec.replica as usize].service as usize;
        let Some(contents) = &mut self.contents[service] else { return false };
        if exec.role == Role::Fill {
            contents.store(exec.cache_key, self.now);
            return false;
        }
        contents.ask(exec.cache_key, self.now) && !(self.effects.any && self.effects.services[service].hides(exec.key))
    }

    /// A request is turned away instead of getting a worker.
    fn shed(&mut self, p: &Tables, x: u32) {
        let call = self.execs[x].call;
        self.leave(p, x, Left::Shed);
        if call != NONE {
            self.reply(p, call, Some(Cause::Overload), false);
        }
    }

    /// The caller has gone and the service stops working for it.
    pub(super) fn cancel(&mut self, p: &Tables, x: u32) {
        match self.execs[x].phase {
            Phase::InTransit => return, // seen when it arrives
            Phase::Queued => self.unlink(x),
            _ => self.abandon_open_calls(p, x),
        }
        self.leave(p, x, Left::Cancelled);
    }

    /// Takes a request out of its service's books and gives its worker on.
    #[inline(always)]
    fn leave(&mut self, p: &Tables, x: u32, how: Left) {
        let exec = &self.execs[x];
        let (key, arrived, r, late) = (exec.key, exec.arrived, exec.replica, exec.has(flag::ABANDONED));
        let replica = &mut self.replicas[r as usize];
        replica.present -= 1;
        let (node, special) = (replica.node, replica.special);
        self.recorder.left(node, self.now, arrived, how, late);
        if let Some(tracer) = &mut self.tracer {
            tracer.left(key, how.ended(), self.now);
        }
        self.note_since(if how == Left::Answered { Mark::Answered } else { Mark::Failed }, node, key, arrived);
        self.release_worker(p, x);
        if special {
            self.answered(p, x, how);
        }
        self.free_exec(x);
        if self.replicas[r as usize].queued > 0 {
            self.dispatch(p, r);
        }
    }

    /// Takes a request that is lost in a crash out of its service's books; whoever calls this empties the replica's queue.
    pub(super) fn kill(&mut self, p: &Tables, x: u32) {
        self.abandon_open_calls(p, x);
        let exec = &self.execs[x];
        let (key, arrived, request, late) = (exec.key, exec.arrived, exec.request, exec.has(flag::ABANDONED));
        let replica = &mut self.replicas[exec.replica as usize];
        replica.present -= 1;
        let node = replica.node;
        self.note_since(Mark::Killed, node, key, arrived);
        self.recorder.touch(request);
        self.recorder.left(node, self.now, arrived, Left::Killed, late);
        self.release_worker(p, x);
        self.free_exec(x);
    }

    #[inline(always)]
    pub(super) fn free_exec(&mut self, x: u32) {
        let exec = &mut self.execs[x];
        exec.phase = Phase::Free;
        exec.event = 0;
        let message = if exec.has(flag::MESSAGE) { exec.message } else { NONE };
        self.execs.remove(x);
        if message != NONE {
            self.release_message(message);
        }
    }
}
