//! The caller's side: tries, timeouts, retries with their waits and budgets, breakers, hedging, bulkheads, connection pools.
//!
//! You are here: `sim::hosted::client`. `visit`, `users` and `broker` call; `lookup` asks caches; `pool` has the connections.
//! Always true: the draws are the kernel's, the policies are async code: a try is a future under a timer, and what it holds (a connection, a
//! place in a bulkhead, a breaker's probe) it gives back when it is dropped.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};

use models::rng::{Key, Purpose};
use models::system::Cause;
use tokio::sync::oneshot;

use super::gate::{Place, Turn, Wait};
use super::lookup;
use super::own::Replaced;
use super::pool::Way;
use super::wire::{Answer, Context, understand};
use super::world::{Origin, TICK_NS, World};
use crate::des::Mark;
use crate::program::{FAR_NS, NONE, PolicyP, SiteP, StepP, TargetP, cause_bit};

/// An answer and a timeout of the same instant are told apart by letting those run first who carry the answer from the socket to here.
const GRACE: usize = 4;

/// On whose behalf a call is made.
#[derive(Clone, Debug)]
pub(super) struct Parent {
    pub(super) origin: Origin,
    pub(super) key: Key,
    pub(super) line: Key,
    pub(super) request: u32,
    pub(super) deadline: u64,
    /// Becomes true when a callee has failed and it goes on all the same.
    pub(super) degraded: Rc<Cell<bool>>,
    /// The message that is delivered.
    pub(super) message: u32,
}

/// How a branch ended for the step that waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Branch {
    Succeeded,
    /// It failed, and the request goes on.
    Degrades,
    /// It failed, and so does the request.
    Fails,
}

/// How a call ended, at which site and with which key's luck.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) answer: Answer,
    pub(super) site: u32,
    pub(super) key: Key,
}

/// What a call is about beside its site.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    pub(super) cache_key: u32,
    pub(super) fills: bool,
}

impl About {
    pub(super) const NOTHING: About = About { cache_key: NONE, fills: false };
}

/// The first of some futures that is done: its place, and what came of it.
pub(super) fn poll_any<F: Future + Unpin>(futures: &mut [F], cx: &mut TaskContext<'_>) -> Poll<(usize, F::Output)> {
    let mut each = futures.iter_mut().enumerate();
    let ended = each.find_map(|(at, future)| match Pin::new(future).poll(cx) {
        Poll::Ready(output) => Some((at, output)),
        Poll::Pending => None,
    });
    ended.map_or(Poll::Pending, Poll::Ready)
}

/// One branch of a step: the future, and whether it is waited for. `None` if it is not taken this time.
pub(super) fn branch(world: Rc<World>, parent: Parent, step: StepP) -> Option<(impl Future<Output = Branch>, bool)> {
    let program = world.program.clone();
    let p = &*program.0;
    let (site, asks) = match step {
        StepP::Call(site) | StepP::Optional(site) => (site, None),
        StepP::Lookup(lookup) => (p.lookups[lookup as usize].ask, Some(lookup)),
        _ => unreachable!("branches are calls and lookups"),
    };
    let s = &p.sites[site as usize];
    let times = s.times(parent.key);
    let waited = s.wait;
    (times > 0).then(|| {
        let call = async move {
            let mut site = site;
            let mut last = Branch::Succeeded;
            for repetition in 0..times {
                let ended = match asks {
                    Some(lookup) => lookup::look_up(&world, &parent, lookup, repetition).await,
                    None => call(&world, &parent, site, repetition, About::NOTHING).await,
                };
                if asks.is_none() {
                    site = ended.site;
                }
                let p = world.p();
                last = match ended.answer {
                    Ok(_) => Branch::Succeeded,
                    Err(_) if p.sites[ended.site as usize].on_failure.hits(ended.key.draw(Purpose::OnFailure, 0)) => {
                        return Branch::Fails;
                    }
                    Err(_) => Branch::Degrades,
                };
            }
            last
        };
        (call, waited)
    })
}

/// One call, with its fallbacks.
pub(super) async fn call(world: &Rc<World>, parent: &Parent, site: u32, repetition: u16, about: About) -> Ended {
    let mut site = site;
    loop {
        let ended = call_once(world, parent, site, repetition, about).await;
        let fallback = world.p().sites[site as usize].fallback;
        if ended.answer.is_ok() || fallback == NONE {
            return ended;
        }
        parent.degraded.set(true);
        site = fallback;
        tokio::task::yield_now().await;
    }
}

/// One call to one site: all its tries.
pub(super) async fn call_once(world: &Rc<World>, parent: &Parent, site: u32, repetition: u16, about: About) -> Ended {
    let p = world.p();
    let s = &p.sites[site as usize];
    let policy = &p.policies[s.edge as usize];
    let began = world.now();
    let deadline = if policy.deadline == FAR_NS { parent.deadline } else { parent.deadline.min(began + policy.deadline) };
    let client = world.client_of(s.edge, parent.origin);
    let made = Made { world, parent, index: site, site: s, policy, repetition, about, deadline, client };
    let (answer, key, again) = match Bulkhead::enter(world, policy, made.client) {
        Err(cause) => {
            world.record(|recorder, _| recorder.attempt_failed(s.edge, cause));
            (Err(cause), parent.key.child(s.site, repetition, 0), 0)
        }
        Ok(_bulkhead) if policy.hedge.is_some() => made.hedged().await,
        Ok(_bulkhead) => made.tries().await,
    };
    world.record(|recorder, now| recorder.call_ended(s.edge, now - began, again, answer.is_err()));
    Ended { answer, site, key }
}

/// A place in a bulkhead, if there is one.
struct Bulkhead<'a>(Option<(&'a World, usize)>);

impl<'a> Bulkhead<'a> {
    fn enter(world: &'a World, policy: &PolicyP, client: usize) -> Result<Self, Cause> {
        if policy.max_in_flight == u32::MAX {
            return Ok(Bulkhead(None));
        }
        let in_flight = &mut world.clients.borrow_mut()[client].in_flight;
        if *in_flight >= policy.max_in_flight {
            return Err(Cause::Bulkhead);
        }
        *in_flight += 1;
        Ok(Bulkhead(Some((world, client))))
    }
}

impl Drop for Bulkhead<'_> {
    fn drop(&mut self) {
        if let Some((world, client)) = self.0 {
            world.clients.borrow_mut()[client].in_flight -= 1;
        }
    }
}

/// A try that is under way, with its key.
type Underway<'a> = Pin<Box<dyn Future<Output = (Key, Answer)> + 'a>>;

/// A call that is being made.
#[derive(Clone, Copy)]
struct Made<'a> {
    world: &'a Rc<World>,
    parent: &'a Parent,
    /// The site's place among all.
    index: u32,
    site: &'a SiteP,
    policy: &'a PolicyP,
    repetition: u16,
    about: About,
    deadline: u64,
    /// Its caller's budget, breaker and limits.
    client: usize,
}

impl Made<'_> {
    fn key(&self, attempt: u16) -> Key {
        self.parent.key.child(self.site.site, self.repetition, attempt)
    }

    /// Tries until one succeeds or no further one is allowed; returns the answer, the last try's key, and how many came after the first.
    async fn tries(&self) -> (Answer, Key, u16) {
        let Made { world, policy, deadline, .. } = *self;
        let e = self.site.edge;
        let (mut attempt, mut previous_wait) = (0, 0);
        loop {
            let key = self.key(attempt);
            if attempt > 0 {
                world.note(Mark::Resent, e, key, 0);
                if world.now() >= deadline {
                    world.record(|recorder, _| recorder.attempt_failed(e, Cause::Timeout));
                    return (Err(Cause::Timeout), self.key(attempt - 1), attempt);
                }
            }
            let cause = match self.guarded_try(key, attempt).await {
                Ok(hit) => return (Ok(hit), key, attempt),
                Err(cause) => cause,
            };
            let forced = world.effects.borrow().edges[e as usize].retries;
            let attempts = forced.map_or(world.p().edges[e as usize].attempts, |(attempts, _)| attempts);
            let again = u32::from(attempt) + 1 < attempts
                && policy.retry_on & cause_bit(cause) != 0
                && attempt < u16::MAX
                && world.now() < deadline
                && policy
                    .budget
                    .as_ref()
                    .is_none_or(|budget| world.clients.borrow_mut()[self.client].budget.pays(budget, world.now()));
            if !again {
                return (Err(cause), key, attempt);
            }
            previous_wait = policy.wait(attempt, previous_wait, forced.map(|(_, wait)| wait), key.draw(Purpose::Backoff, 0));
            attempt += 1;
            tokio::task::yield_now().await;
            world.until((world.now() + previous_wait).min(deadline)).await;
        }
    }

    /// Several tries at once: one more whenever the last has failed, or has been under way for long; the first success wins.
    async fn hedged(&self) -> (Answer, Key, u16) {
        let hedge = self.policy.hedge.expect("asked with hedging alone");
        let mut tries: Vec<Underway<'_>> = Vec::new();
        let mut sent = 0;
        loop {
            let (made, attempt) = (*self, sent);
            let key = self.key(attempt);
            tries.push(Box::pin(async move { (key, made.guarded_try(key, attempt).await) }));
            sent += 1;
            let patience = if sent < hedge.attempts { self.world.now() + hedge.after } else { FAR_NS };
            let mut patience = pin!(self.world.until(patience));
            loop {
                let ended = poll_fn(|cx| match poll_any(&mut tries, cx) {
                    Poll::Ready(ended) => Poll::Ready(Some(ended)),
                    Poll::Pending => patience.as_mut().poll(cx).map(|()| None),
                });
                let Some((at, (key, answer))) = ended.await else { break };
                drop(tries.swap_remove(at));
                let more = sent < hedge.attempts && self.world.now() < self.deadline;
                if answer.is_ok() || !more && tries.is_empty() {
                    return (answer, key, sent - 1);
                }
                if more {
                    tokio::task::yield_now().await;
                    break;
                }
            }
        }
    }

    /// One try, if deadline, budget, breaker and pool let it go, until its timeout.
    async fn guarded_try(&self, key: Key, attempt: u16) -> Answer {
        let Made { world, policy, client, .. } = *self;
        let e = self.site.edge;
        if attempt == 0
            && let Some(budget) = &policy.budget
        {
            world.clients.borrow_mut()[client].budget.first_try(budget);
        }
        let expired = if self.deadline <= world.now() { Err(Cause::Timeout) } else { Ok(()) };
        let probe = expired.and_then(|()| Probe::new(self));
        let answer = match &probe {
            Err(cause) => Err(*cause),
            Ok(_) => {
                let edge = &world.p().edges[e as usize];
                let own = if edge.timeout > 0 { edge.timeout } else { FAR_NS };
                let lowered = world.effects.borrow().edges[e as usize].timeout;
                let at = (world.now() + own.min(lowered)).min(self.deadline);
                let timer = async {
                    world.until(at).await;
                    for _ in 0..GRACE {
                        tokio::task::yield_now().await;
                    }
                };
                tokio::select! {
                    biased;
                    answer = self.connected_try(key, attempt) => answer,
                    () = timer => {
                        world.note(Mark::TryTimedOut, e, key, 0);
                        world.record(|recorder, _| recorder.node_timeout(edge.to_node));
                        Err(Cause::Timeout)
                    }
                }
            }
        };
        if let Err(cause) = answer {
            world.record(|recorder, _| recorder.attempt_failed(e, cause));
        }
        if let Ok(probe) = probe {
            probe.heard(answer.is_err());
        }
        answer
    }

    /// One try from its place in the connection pool on.
    async fn connected_try(&self, key: Key, attempt: u16) -> Answer {
        let Made { world, parent, site, .. } = *self;
        let e = site.edge;
        let _connection = Connection::take(world, self.policy, self.client).await?;
        let edge = &world.p().edges[e as usize];
        let again = attempt > 0 || parent.message != NONE && self.repetition > 0;
        world.record(|recorder, _| recorder.attempt(e, edge.inner, again));
        let passage = {
            let mut effects = world.effects.borrow_mut();
            let effect = &mut effects.edges[e as usize];
            effect.active.then(|| effect.request(key, world.now()))
        };
        if passage.is_some() {
            world.touch(parent.request);
        }
        let passage = passage.unwrap_or_default();
        if passage.reset {
            return Err(world.connection_error(edge.to_node));
        }
        let target = match site.target {
            TargetP::Topic => Some(site.callee),
            TargetP::Op(_) => world.choose_replica(site.callee, e, key),
        };
        let Some(target) = target else {
            world.touch_at(site.callee, parent.request);
            return Err(world.connection_error(edge.to_node));
        };
        let first = attempt == 0 && parent.key == parent.line;
        let context = Context {
            key,
            line: if first { key } else { parent.line.child(site.site, self.repetition, 0) },
            request: parent.request,
            site: self.index,
            cache_key: self.about.cache_key,
            fills: self.about.fills,
            deadline: if self.policy.propagates { self.deadline } else { FAR_NS },
            message: parent.message,
        };
        let way = Way { origin: parent.origin, edge: e, target };
        if passage.delivers_abandoned {
            return self.sent_whatever_comes(way, context, passage.delay).await;
        }
        world.sleep(passage.delay).await;
        exchange(world, way, context).await
    }

    /// A request that is held on its way, and arrives whether or not somebody still waits for it.
    async fn sent_whatever_comes(&self, way: Way, context: Context, delay: u64) -> Answer {
        let (mut tell, hear) = oneshot::channel();
        let world = Rc::clone(self.world);
        self.world.spawn(way.origin, async move {
            world.sleep(delay).await;
            let gone = async {
                tell.closed().await;
                world.sleep(TICK_NS).await; // long enough for the request to leave
            };
            let answer = tokio::select! {
                biased;
                answer = exchange(&world, way, context) => Some(answer),
                () = gone => None,
            };
            if let Some(answer) = answer {
                let _ = tell.send(answer);
            }
        });
        hear.await.unwrap_or(Err(Cause::Connection))
    }
}

/// A try that a breaker has let through, or that has none. If it goes without a word, its probe may be sent again.
struct Probe<'a> {
    made: Made<'a>,
    probe: bool,
    heard: Cell<bool>,
}

impl<'a> Probe<'a> {
    fn new(made: &Made<'a>) -> Result<Self, Cause> {
        let mut probe = false;
        if let Some(policy) = &made.policy.breaker {
            let mut clients = made.world.clients.borrow_mut();
            let breaker = clients[made.client].breaker.as_mut().expect("made with its policy");
            probe = breaker.admits(policy, made.world.now()).ok_or(Cause::BreakerOpen)?;
        }
        Ok(Probe { made: *made, probe, heard: Cell::new(false) })
    }

    fn heard(self, failed: bool) {
        self.heard.set(true);
        if let Some(policy) = &self.made.policy.breaker {
            let mut clients = self.made.world.clients.borrow_mut();
            let breaker = clients[self.made.client].breaker.as_mut().expect("made with its policy");
            breaker.heard(policy, self.made.world.now(), self.probe, failed);
        }
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if self.probe
            && !self.heard.get()
            && let Some(breaker) = &mut self.made.world.clients.borrow_mut()[self.made.client].breaker
        {
            breaker.probe_lost();
        }
    }
}

/// A place in a bounded connection pool; nothing where the pool has no bound.
struct Connection<'a> {
    world: &'a World,
    client: usize,
    bounded: bool,
    /// The place in line, until its turn has come.
    waits: Option<Rc<Place>>,
}

impl<'a> Connection<'a> {
    async fn take(world: &'a World, policy: &PolicyP, client: usize) -> Result<Self, Cause> {
        let mut connection = Connection { world, client, bounded: false, waits: None };
        if policy.pool.is_none() {
            return Ok(connection);
        }
        let pool = Rc::clone(&world.clients.borrow()[client].pool);
        if !pool.take_free() {
            if pool.queued() >= pool.bound.get() {
                return Err(Cause::Bulkhead);
            }
            let place = pool.join(world.now(), FAR_NS, 0, Rc::default());
            connection.waits = Some(Rc::clone(&place));
            Wait(&place).await;
            connection.waits = None;
        }
        connection.bounded = true;
        Ok(connection)
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        let granted = self.waits.as_ref().is_some_and(|place| place.turn() == Turn::Has);
        if !self.bounded && self.waits.is_none() {
            return;
        }
        let pool = Rc::clone(&self.world.clients.borrow()[self.client].pool);
        if let Some(place) = self.waits.as_ref().filter(|_| !granted) {
            pool.leave_line(place);
            return;
        }
        pool.busy.set(pool.busy.get() - 1);
        if let Some(next) = pool.next(false) {
            pool.tell(&next, Turn::Has);
        }
    }
}

/// Sends a request and waits for its answer.
async fn exchange(world: &Rc<World>, way: Way, context: Context) -> Answer {
    let p = world.p();
    let (edge, site) = (&p.edges[way.edge as usize], &p.sites[context.site as usize]);
    let replaced = Replaced::begin(world, edge.to_node);
    let answer = async {
        let mut link = way.take(world).await?;
        let path = match site.target {
            TargetP::Op(op) => &world.paths[op as usize],
            TargetP::Topic => "/",
        };
        let request = context.request(&world.hosts[edge.to_node as usize], path);
        let response = link.sender.send_request(request).await.ok()?;
        let answer = understand(&response);
        let mut body = response.into_body();
        // A stand-in's answer has no body; that of somebody's own service is read to its end.
        while let Some(frame) = poll_fn(|cx| hyper::body::Body::poll_frame(Pin::new(&mut body), cx)).await {
            frame.ok()?;
        }
        way.give_back(world, link);
        Some(answer)
    }
    .await;
    if let Some(replaced) = replaced {
        replaced.end(answer);
    }
    answer.unwrap_or_else(|| {
        if site.target != TargetP::Topic {
            world.touch_at(site.callee, context.request);
        }
        Err(world.connection_error(edge.to_node))
    })
}
