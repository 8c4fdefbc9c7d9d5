//! A request at a service: it gets a worker, takes its steps, and is answered.
//!
//! You are here: `sim::hosted::visit`. `service` brings requests in from the network; steps that call go out through `client`.
//! Always true: a visit that has begun ends in the books exactly once, for whatever stops it drops it.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;

use models::rng::Purpose;
use models::system::{Cause, Wait as WaitFor};

use super::client::{Branch, Parent, branch, poll_any};
use super::gate::{Place, Turn, Wait};
use super::wire::{Answer, Context};
use super::world::{Origin, World};
use crate::des::control::slowed_by_load;
use crate::des::{Left, Mark, choose_path};
use crate::program::{FAR_NS, NONE, StepP};

/// One request at a replica.
pub(super) struct Visit {
    world: Rc<World>,
    r: u32,
    node: u32,
    context: Context,
    arrived: u64,
    /// Its caller has gone.
    left: Rc<Cell<bool>>,
    worker: bool,
    works: u32,
    degraded: Rc<Cell<bool>>,
    over: bool,
    presence: u64,
}

/// Serves a request from its arrival to its answer. `left` becomes true when its caller goes.
pub(super) async fn serve(world: Rc<World>, r: u32, op: u32, context: Context, left: Rc<Cell<bool>>) -> Answer {
    let mut visit = Visit::begin(world, r, context, left);
    let answer = visit.run(op).await;
    visit.end(answer)
}

impl Visit {
    fn begin(world: Rc<World>, r: u32, context: Context, left: Rc<Cell<bool>>) -> Visit {
        let replica = &world.replicas[r as usize];
        let (node, arrived) = (replica.node, world.now());
        replica.present.set(replica.present.get() + 1);
        world.record(|recorder, now| recorder.arrived(node, now));
        let presence = world.comes(node, arrived);
        Visit { r, node, context, arrived, left, worker: false, works: 0, degraded: Rc::default(), over: false, presence, world }
    }

    fn service(&self) -> &crate::program::ServiceP {
        let world = &self.world;
        &world.p().services[world.replicas[self.r as usize].service as usize]
    }

    async fn run(&mut self, op: u32) -> Result<(), Cause> {
        let program = self.world.program.clone();
        let p = &*program.0;
        self.is_admitted()?;
        let op = &p.ops[op as usize];
        let Context { key, line, site, .. } = self.context;
        let luck = p.sites.get(site as usize).map_or(key, |site| p.edges[site.edge as usize].luck(key, line));
        let mut step = choose_path(p, op.first_path, op.paths, luck);
        // Who has no work to do first, and will give its worker back for calls, needs none.
        if self.service().blocking || matches!(p.steps[step as usize], StepP::Work { .. }) {
            self.take_worker(true).await?;
        }
        let poisoned = self.message().is_some_and(|message| message.poisoned);
        loop {
            let here = p.steps[step as usize];
            step += 1;
            match here {
                StepP::Work { table, error } => {
                    if !self.worker {
                        self.take_worker(false).await?;
                    }
                    self.work(table).await;
                    if error.may_hit() && error.hits(self.context.key.draw(Purpose::OwnError, 0)) {
                        return Err(Cause::Error);
                    }
                    if !self.service().blocking && !matches!(p.steps[step as usize], StepP::Work { .. }) {
                        self.free_worker();
                    }
                }
                StepP::Call(_) | StepP::Optional(_) | StepP::Lookup(_) => self.wait_for(&[here], WaitFor::Quorum(1)).await?,
                StepP::Fork { count, wait } => {
                    let branches = &p.steps[step as usize..][..usize::from(count)];
                    step += u32::from(count);
                    self.wait_for(branches, wait).await?;
                }
                StepP::End { error } => {
                    let failed = poisoned || error.may_hit() && error.hits(self.context.key.draw(Purpose::OwnError, 0));
                    return if failed { Err(Cause::Error) } else { Ok(()) };
                }
            }
        }
    }

    /// Whether it is taken in: an adaptive limit and the fault `errors` have their say on arrival.
    fn is_admitted(&self) -> Result<(), Cause> {
        let world = &self.world;
        if let Some(control) = world.controls.borrow_mut().get_mut(self.r as usize)
            && !control.admits(self.service(), world.replicas[self.r as usize].present.get(), world.now())
        {
            return Err(Cause::Overload);
        }
        let effects = world.effects.borrow();
        let effect = &effects.services[world.replicas[self.r as usize].service as usize];
        let strikes = |&(fault, chance)| crate::des::State::fault_draw(self.context.key, fault, chance);
        let (active, fails) = (effect.active, effect.errors.iter().any(strikes));
        drop(effects);
        if active {
            world.touch(self.context.request);
        }
        if fails { Err(Cause::Error) } else { Ok(()) }
    }

    /// Waits for a worker. `new`: it has just arrived, and is refused if too many wait.
    async fn take_worker(&mut self, new: bool) -> Result<(), Cause> {
        let world = Rc::clone(&self.world);
        let replica = &world.replicas[self.r as usize];
        if replica.gate.take_free() {
            world.worker_taken(self.r, 0);
            self.worker = true;
            return Ok(());
        }
        if new && replica.gate.queued() >= replica.gate.bound.get() {
            return Err(Cause::Overload);
        }
        let place = replica.gate.join(world.now(), self.context.deadline, self.works, Rc::clone(&self.left));
        world.record(|recorder, _| recorder.queue_depth(self.node, replica.gate.queued()));
        let in_line = InLine { world: &world, r: self.r, place: &place, claimed: Cell::new(false) };
        let turn = Wait(&place).await;
        in_line.claimed.set(true);
        match turn {
            Turn::Has => self.worker = true,
            _ => return Err(Cause::Overload),
        }
        Ok(())
    }

    fn free_worker(&mut self) {
        if std::mem::take(&mut self.worker) {
            self.world.free_worker(self.r);
        }
    }

    /// One step of work.
    async fn work(&mut self, table: u32) {
        let world = Rc::clone(&self.world);
        let (replica, now) = (&world.replicas[self.r as usize], world.now());
        let mut work = world.p().tables[table as usize].draw(self.context.key.draw(Purpose::Work, self.works));
        self.works += 1;
        {
            let mut controls = world.controls.borrow_mut();
            let (control, present) = (controls.get_mut(self.r as usize), replica.present.get());
            work = slowed_by_load(self.service(), control, present, replica.started.get(), now, work);
        }
        let factor = |q16: u64, work: u64| ((u128::from(work) * u128::from(q16)) >> 16).min(u128::from(FAR_NS)) as u64;
        let service = replica.service as usize;
        {
            let effects = world.effects.borrow();
            if effects.services[service].active {
                world.touch(self.context.request);
                work = factor(effects.services[service].slow_q16(now), work);
                work += effects.services[service].paused_until.saturating_sub(now);
            }
            if let Some(message) = self.message()
                && effects.topics[message.topic as usize].active
            {
                world.touch(self.context.request);
                work = factor(effects.topics[message.topic as usize].slow_q16, work);
            }
        }
        // A pause that begins while it works stands in its way as long as it lasts.
        let (mut end, mut seen) = (now + work, now);
        loop {
            world.until(end.min(FAR_NS - 1)).await;
            let pauses = world.pauses.borrow();
            let later = pauses[service].iter().filter(|&&(begin, _)| seen < begin && begin < end);
            let (lasting, last) = later.fold((0, seen), |(sum, last), &(begin, lasting)| (sum + lasting, last.max(begin)));
            drop(pauses);
            if lasting == 0 {
                return;
            }
            world.touch(self.context.request);
            (end, seen) = (end + lasting, last);
        }
    }

    /// Takes branches at once, and waits for as many as are wanted; those that are not wanted any more are let go.
    async fn wait_for(&mut self, branches: &[StepP], wait: WaitFor) -> Result<(), Cause> {
        let mut wanted = match wait {
            WaitFor::All => branches.len(),
            WaitFor::First => 1,
            WaitFor::Quorum(n) => (n as usize).min(branches.len()),
        };
        let parent = Parent {
            origin: Origin::Replica(self.r),
            key: self.context.key,
            line: self.context.line,
            request: self.context.request,
            deadline: self.context.deadline,
            degraded: Rc::clone(&self.degraded),
            message: NONE,
        };
        let mut waited: Vec<Pin<Box<dyn Future<Output = Branch>>>> = Vec::with_capacity(branches.len());
        for &step in branches {
            let call = branch(Rc::clone(&self.world), parent.clone(), step);
            match call {
                Some((call, true)) => waited.push(Box::pin(call)),
                Some((call, false)) => {
                    self.world.spawn(parent.origin, async move {
                        call.await;
                    });
                }
                None => {}
            }
        }
        let mut failed = false;
        while !waited.is_empty() && wanted > 0 {
            let (at, ended) = poll_fn(|cx| poll_any(&mut waited, cx)).await;
            drop(waited.swap_remove(at));
            match ended {
                Branch::Succeeded => wanted -= 1,
                Branch::Degrades => self.degraded.set(true),
                Branch::Fails => failed = true,
            }
        }
        if failed && wanted > 0 {
            return Err(Cause::Error);
        }
        self.degraded.set(self.degraded.get() || failed);
        Ok(())
    }

    fn message(&self) -> Option<Rc<super::broker::Message>> {
        if self.context.message == NONE {
            return None;
        }
        self.world.topics.iter().find_map(|topic| topic.messages.borrow().get(&self.context.message).cloned())
    }

    /// It is answered, or turned away.
    fn end(mut self, ended: Result<(), Cause>) -> Answer {
        let answer = match ended {
            Ok(()) => Ok(self.has_effects()),
            Err(cause) => Err(cause),
        };
        self.leave(match answer {
            Ok(_) => Left::Answered,
            Err(Cause::Overload) if self.arrived < self.world.now() => Left::Shed,
            Err(Cause::Overload) => Left::Refused,
            Err(_) => Left::Failed,
        });
        answer
    }

    /// What an answer leaves behind; returns whether a cache was hit.
    fn has_effects(&self) -> bool {
        let world = &self.world;
        if self.degraded.get() {
            world.record(|recorder, _| recorder.degraded(self.node));
        }
        if let Some(message) = self.message() {
            world.topics[message.topic as usize].applied(world, &message);
        }
        let service = world.replicas[self.r as usize].service as usize;
        let mut contents = world.contents.borrow_mut();
        let Some(contents) = contents[service].as_mut().filter(|_| self.context.cache_key != NONE) else { return false };
        if self.context.fills {
            contents.store(self.context.cache_key, world.now());
            return false;
        }
        contents.ask(self.context.cache_key, world.now()) && !world.effects.borrow().services[service].hides(self.context.key)
    }

    fn leave(&mut self, how: Left) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let world = Rc::clone(&self.world);
        let replica = &world.replicas[self.r as usize];
        replica.present.set(replica.present.get() - 1);
        world.goes(self.presence);
        world.record(|recorder, now| recorder.left(self.node, now, self.arrived, how, self.left.get()));
        let mark = match how {
            Left::Answered => Mark::Answered,
            Left::Killed => Mark::Killed,
            _ => Mark::Failed,
        };
        world.note(mark, self.node, self.context.key, self.arrived);
        if let (Some(policy), Left::Answered | Left::Failed) = (self.service().adaptive, how)
            && let Some(control) = world.controls.borrow_mut().get_mut(self.r as usize)
        {
            control.learns(&policy, world.now() - self.arrived, u64::from(replica.present.get()) + 1);
        }
        self.free_worker();
    }
}

/// Whatever stops a visit from outside drops it: its process died, or its caller went and the service cancels.
impl Drop for Visit {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let killed = !*self.world.replicas[self.r as usize].up.borrow();
        if killed {
            self.world.touch(self.context.request);
        }
        self.leave(if killed { Left::Killed } else { Left::Cancelled });
    }
}

/// One who waits for a worker: if it goes away, it leaves the line, or gives on what it was just given.
struct InLine<'a> {
    world: &'a World,
    r: u32,
    place: &'a Rc<Place>,
    claimed: Cell<bool>,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if self.claimed.get() {
            return;
        }
        match self.place.turn() {
            Turn::Waits => self.world.replicas[self.r as usize].gate.leave_line(self.place),
            Turn::Has => self.world.free_worker(self.r),
            Turn::Shed => {}
        }
    }
}
