//! The callee's side: replicas with workers and a queue, and the steps of a request.
//!
//! You are here: `sim::des::server`. `client` sends requests here and hears of their end.
//! Always true: a worker that is held is counted in `busy`; a request that waits for one is linked in its replica's queue, and in no
//! other; a request leaves by exactly one of `finish`, `cancel`, `kill`.

use models::rng::{Key, Purpose};
use models::system::{Balance, Cause, Wait};

use super::client::Parent;
use super::queue::Kind;
use super::{Exec, Left, Mark, Phase, Role, State};
use crate::program::{FAR_NS, NONE, StepP, Tables};

impl State {
    /// Which replica of a service a try goes to.
    pub(super) fn choose_replica(&mut self, p: &Tables, service: u32, edge: u32, key: Key) -> u32 {
        let s = &p.services[service as usize];
        if s.replicas == 1 {
            return s.replica_base;
        }
        let any = |n| s.replica_base + models::rng::below(key.draw(Purpose::Balance, n), u64::from(s.replicas)) as u32;
        match s.balance {
            Balance::RoundRobin => {
                let turn = &mut self.turns[edge as usize];
                let replica = s.replica_base + *turn;
                *turn = if *turn + 1 == s.replicas { 0 } else { *turn + 1 };
                replica
            }
            Balance::Random => any(0),
            Balance::LeastOutstanding => (s.replica_base..s.replica_base + s.replicas)
                .min_by_key(|&r| self.replicas[r as usize].present)
                .expect("a service has a replica"),
            Balance::TwoChoices => {
                let (a, b) = (any(0), any(1));
                if self.replicas[b as usize].present < self.replicas[a as usize].present { b } else { a }
            }
        }
    }

    /// A request reaches its replica (or a message its topic).
    pub(super) fn request_arrives(&mut self, p: &Tables, x: u32) {
        let exec = self.execs[x];
        self.execs[x].event = 0;
        if exec.op == NONE {
            self.message_arrives(p, x);
            return;
        }
        let service = &p.services[exec.service as usize];
        self.note(Mark::RequestArrives, service.node, exec.key);
        let effect = &self.effects.services[exec.service as usize];
        let faulted = effect.active;
        if faulted {
            self.recorder.touch(exec.request);
        }
        let replica = self.replicas[exec.replica as usize];
        if !replica.up {
            self.free_exec(x);
            if exec.call != NONE && !replica.silent {
                self.connection_error(p, exec.call);
            } else if exec.call != NONE {
                self.calls[exec.call].exec = NONE;
            }
            return;
        }
        if exec.abandoned && service.cancel {
            self.free_exec(x);
            return;
        }
        self.execs[x].arrived = self.now;
        self.replicas[exec.replica as usize].present += 1;
        self.recorder.arrived(service.node, self.now);
        if faulted {
            let effect = &self.effects.services[exec.service as usize];
            if effect.errors.iter().any(|&(fault, chance)| State::fault_draw(exec.key, fault, chance)) {
                self.finish(p, x, Some(Cause::Error));
                return;
            }
        }
        let needs_worker = service.blocking || matches!(p.steps[exec.step as usize], StepP::Work { .. });
        if !needs_worker {
            self.make_ready(x);
        } else if replica.busy < replica.limit && replica.queued == 0 {
            self.start(p, x, 0);
        } else if replica.queued >= service.queue {
            self.finish(p, x, Some(Cause::Overload));
        } else {
            self.enqueue(p, x);
        }
    }

    fn make_ready(&mut self, x: u32) {
        let exec = &mut self.execs[x];
        exec.phase = Phase::Ready;
        let generation = exec.generation;
        self.ready.push_back((x, generation));
    }

    /// Goes on with a request's steps until it has to wait or is done.
    pub(super) fn advance(&mut self, p: &Tables, x: u32) {
        if self.execs[x].failed {
            self.finish(p, x, Some(Cause::Error));
            return;
        }
        self.abandon_open_calls(p, x);
        loop {
            let exec = &mut self.execs[x];
            match p.steps[exec.step as usize] {
                StepP::Work { .. } => {
                    let replica = self.replicas[exec.replica as usize];
                    if exec.holds_worker {
                        self.start_work(p, x);
                    } else if replica.busy < replica.limit && replica.queued == 0 {
                        self.start(p, x, 0);
                    } else {
                        self.enqueue(p, x);
                    }
                    return;
                }
                StepP::Call(_) | StepP::Lookup(_) => {
                    let step = exec.step;
                    exec.step += 1;
                    (exec.phase, exec.pending, exec.wanted, exec.successes) = (Phase::Waiting, 0, 1, 0);
                    self.open_branch(p, x, step);
                    if self.execs[x].phase != Phase::Waiting {
                        return; // it is ready already, and will go on from there
                    }
                    if self.execs[x].pending > 0 {
                        return;
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
                    (exec.phase, exec.pending, exec.wanted, exec.successes) = (Phase::Waiting, 1, wanted, 0);
                    for branch in 0..u32::from(count) {
                        self.open_branch(p, x, first + branch);
                    }
                    let exec = &mut self.execs[x];
                    exec.pending -= 1;
                    if exec.phase != Phase::Waiting {
                        return;
                    }
                    if exec.pending > 0 && exec.successes < exec.wanted {
                        return;
                    }
                }
                StepP::End { error } => {
                    let failed = error && p.ops[exec.op as usize].error.hits(exec.key.draw(Purpose::OwnError, 0));
                    self.finish(p, x, failed.then_some(Cause::Error));
                    return;
                }
            }
        }
    }

    /// Opens the call of one branch; `pending` counts it if it is waited for.
    fn open_branch(&mut self, p: &Tables, x: u32, step: u32) {
        let exec = self.execs[x];
        let (site, role, lookup, cache_key) = match p.steps[step as usize] {
            StepP::Call(site) => (site, Role::Plain, NONE, NONE),
            StepP::Lookup(lookup) => {
                let l = &p.lookups[lookup as usize];
                let cache = p.services[l.cache as usize].cache.as_ref().expect("compiled lookups ask caches");
                let bits = exec.line.draw(Purpose::CacheKey, p.sites[l.ask as usize].site);
                let key = cache.popularity.partition_point(|&upto| upto < bits) as u32;
                (l.ask, Role::Ask, lookup, key.min(cache.keys - 1))
            }
            _ => unreachable!("branches are calls and lookups"),
        };
        let s = &p.sites[site as usize];
        let bits = exec.line.draw(Purpose::Times, s.site);
        let repetitions = s.times.iter().find(|&&(_, upto)| bits <= upto).or(s.times.last()).map_or(1, |&(count, _)| count);
        if repetitions == 0 {
            return;
        }
        let parent = if s.wait { Parent::Exec(x) } else { Parent::Nobody };
        if s.wait {
            self.execs[x].pending += 1;
        }
        self.open_call(p, parent, site, exec.key, exec.line, 0, repetitions, exec.request, role, cache_key, lookup);
    }

    /// One waited-for branch of a request is over.
    pub(super) fn branch_done(&mut self, x: u32, succeeded: bool, fails: bool) {
        let exec = &mut self.execs[x];
        exec.pending -= 1;
        exec.successes += u16::from(succeeded);
        exec.failed |= fails;
        let done = exec.failed || exec.pending == 0 || exec.successes >= exec.wanted;
        if done && exec.phase == Phase::Waiting {
            self.make_ready(x);
        }
    }

    fn enqueue(&mut self, p: &Tables, x: u32) {
        let exec = &mut self.execs[x];
        exec.phase = Phase::Queued;
        exec.waits_since = self.now;
        let (service, r) = (exec.service, exec.replica);
        let replica = &mut self.replicas[r as usize];
        (exec.next, exec.prev) = (NONE, replica.tail);
        match replica.tail {
            NONE => replica.head = x,
            tail => self.execs[tail].next = x,
        }
        let replica = &mut self.replicas[r as usize];
        replica.tail = x;
        replica.queued += 1;
        let depth = replica.queued;
        self.recorder.queue_depth(p.services[service as usize].node, depth);
    }

    fn unlink(&mut self, x: u32) {
        let Exec { next, prev, replica, .. } = self.execs[x];
        match next {
            NONE => self.replicas[replica as usize].tail = prev,
            next => self.execs[next].prev = prev,
        }
        match prev {
            NONE => self.replicas[replica as usize].head = next,
            prev => self.execs[prev].next = next,
        }
        self.replicas[replica as usize].queued -= 1;
    }

    /// Gives free workers to those who wait.
    pub(super) fn dispatch(&mut self, p: &Tables, r: u32) {
        loop {
            let replica = self.replicas[r as usize];
            if replica.queued == 0 || replica.busy >= replica.limit {
                return;
            }
            let lifo = p.services[self.execs[replica.head].service as usize].lifo;
            let x = if lifo { replica.tail } else { replica.head };
            self.unlink(x);
            let waited = self.now - self.execs[x].waits_since;
            self.start(p, x, waited);
        }
    }

    /// Gives a worker to a request that has none.
    fn start(&mut self, p: &Tables, x: u32, waited: u64) {
        let exec = &mut self.execs[x];
        exec.holds_worker = true;
        let (service, r, step) = (exec.service, exec.replica, exec.step);
        self.replicas[r as usize].busy += 1;
        self.recorder.worker_taken(p.services[service as usize].node, self.now, waited);
        if matches!(p.steps[step as usize], StepP::Work { .. }) {
            self.start_work(p, x);
        } else {
            self.make_ready(x);
        }
    }

    fn start_work(&mut self, p: &Tables, x: u32) {
        let exec = &mut self.execs[x];
        let StepP::Work { table, .. } = p.steps[exec.step as usize] else {
            unreachable!("work starts at a step of work");
        };
        let mut work = p.tables[table as usize].draw(exec.key.draw(Purpose::Work, u32::from(exec.works)));
        exec.works += 1;
        exec.phase = Phase::Working;
        let (service, request) = (exec.service, exec.request);
        let effect = &self.effects.services[service as usize];
        if effect.active {
            self.recorder.touch(request);
            work = ((u128::from(work) * u128::from(effect.slow_q16)) >> 16).min(u128::from(FAR_NS)) as u64;
        }
        self.execs[x].event = self.queue.push(self.now + work, Kind::WorkDone, x);
    }

    pub(super) fn work_done(&mut self, p: &Tables, x: u32) {
        let exec = &mut self.execs[x];
        exec.event = 0;
        let StepP::Work { last, .. } = p.steps[exec.step as usize] else {
            unreachable!("work ends at a step of work");
        };
        exec.step += 1;
        let exec = *exec;
        self.note(Mark::WorkDone, p.services[exec.service as usize].node, exec.key);
        if last && p.ops[exec.op as usize].error.hits(exec.key.draw(Purpose::OwnError, 0)) {
            self.finish(p, x, Some(Cause::Error));
            return;
        }
        let more_work = matches!(p.steps[exec.step as usize], StepP::Work { .. });
        if !p.services[exec.service as usize].blocking && !more_work {
            self.release_worker(p, x);
            self.dispatch(p, exec.replica);
        }
        self.advance(p, x);
    }

    fn release_worker(&mut self, p: &Tables, x: u32) {
        let exec = &mut self.execs[x];
        if exec.holds_worker {
            exec.holds_worker = false;
            let (service, r) = (exec.service, exec.replica);
            self.replicas[r as usize].busy -= 1;
            self.recorder.worker_freed(p.services[service as usize].node, self.now);
        }
    }

    /// The request is answered: rightly (`None`) or with a failure.
    pub(super) fn finish(&mut self, p: &Tables, x: u32, failure: Option<Cause>) {
        self.abandon_open_calls(p, x);
        let exec = self.execs[x];
        let service = &p.services[exec.service as usize];
        self.note(if failure.is_some() { Mark::Failed } else { Mark::Answered }, service.node, exec.key);
        let mut hit = false;
        if failure.is_none()
            && let Some(contents) = &mut self.contents[exec.service as usize]
        {
            match exec.role {
                Role::Ask => hit = contents.ask(exec.cache_key),
                Role::Fill => contents.store(exec.cache_key),
                Role::Plain | Role::Origin => {}
            }
        }
        self.leave(
            p,
            x,
            match failure {
                None => Left::Answered,
                Some(Cause::Overload) => Left::Refused,
                Some(_) => Left::Failed,
            },
        );
        if exec.call != NONE {
            self.reply(p, exec.call, failure, hit);
        }
    }

    /// The caller has gone and the service stops working for it.
    pub(super) fn cancel(&mut self, p: &Tables, x: u32) {
        match self.execs[x].phase {
            Phase::InTransit => return, // seen when it arrives
            Phase::Queued => self.unlink(x),
            _ => self.abandon_open_calls(p, x),
        }
        let exec = self.execs[x];
        self.note(Mark::Failed, p.services[exec.service as usize].node, exec.key);
        self.leave(p, x, Left::Cancelled);
    }

    /// Takes a request out of its service's books and gives its worker on.
    fn leave(&mut self, p: &Tables, x: u32, how: Left) {
        let exec = self.execs[x];
        let node = p.services[exec.service as usize].node;
        self.recorder.left(node, self.now, exec.arrived, how, exec.abandoned);
        self.release_worker(p, x);
        self.replicas[exec.replica as usize].present -= 1;
        self.free_exec(x);
        self.dispatch(p, exec.replica);
    }

    pub(super) fn free_exec(&mut self, x: u32) {
        let exec = &mut self.execs[x];
        exec.phase = Phase::Free;
        exec.event = 0;
        exec.generation = exec.generation.wrapping_add(1);
        self.execs.remove(x);
    }

    /// Kills a replica: its work, queue and open calls are gone; its callers get a connection error at once unless `silent`.
    pub(super) fn crash(&mut self, p: &Tables, service: u32, r: u32, silent: bool) {
        let node = p.services[service as usize].node;
        self.replicas[r as usize].up = false;
        self.replicas[r as usize].silent = silent;
        let mut cut = Vec::new();
        for x in 0..self.execs.slots() {
            let exec = self.execs[x];
            let present = !matches!(exec.phase, Phase::Free | Phase::InTransit);
            if !present || exec.op == NONE || exec.replica != r {
                continue;
            }
            self.abandon_open_calls(p, x);
            self.note(Mark::Killed, node, exec.key);
            self.recorder.touch(exec.request);
            self.recorder.left(node, self.now, exec.arrived, Left::Killed, exec.abandoned);
            self.release_worker(p, x);
            self.free_exec(x);
            if exec.call != NONE {
                self.calls[exec.call].exec = NONE;
                cut.push(exec.call);
            }
        }
        let replica = &mut self.replicas[r as usize];
        (replica.present, replica.queued, replica.head, replica.tail) = (0, 0, NONE, NONE);
        if !silent {
            for call in cut {
                self.connection_error(p, call);
            }
        }
    }
}
