//! What all hosts of one simulation share: the clock, the books, and what faults do.
//!
//! You are here: `sim::hosted::world`. Hosts are tasks of one thread, so that `Rc` and cells are enough; no borrow is held over an `await`.
//! Always true: only what an observer could know is shared (the books), or what lives in a process and is kept here so that its
//! tasks find it (workers, caches, budgets); requests and answers go over the network alone.

use core::net::IpAddr;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use models::rng::Key;
use models::system::Cause;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::broker::Topic;
use super::gate::{Gate, Turn};
use super::lookup::Flight;
use super::pool::Pool;
use super::wire::escape;
use crate::des::effects::Effects;
use crate::des::{Breaker, Budget, Contents, Control, FaultPlan, Mark, Recorder, ServiceState, balanced, word};
use crate::program::{FAR_NS, NONE, PolicyP, Program, Tables};

/// The clock's step: tokio's timers know whole milliseconds alone, and turmoil takes a whole number of them a step.
pub(crate) const TICK_NS: u64 = 1_000_000;

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// Users of an entry.
    Entry(u32),
    /// A replica of a service.
    Replica(u32),
    /// A topic that delivers.
    Topic(u32),
}

/// What one calling replica knows of one edge.
pub(super) struct Client {
    pub(super) budget: Budget,
    pub(super) breaker: Option<Breaker>,
    pub(super) in_flight: u32,
    /// Its connection pool, if that has a bound: those who hold one, and those who wait.
    pub(super) pool: Rc<Gate>,
}

impl Client {
    fn new(policy: &PolicyP) -> Self {
        let (connections, places) = policy.pool.unwrap_or((u32::MAX, u32::MAX));
        Client {
            budget: Budget::new(policy),
            breaker: policy.breaker.map(|policy| Breaker::closed(&policy)),
            in_flight: 0,
            pool: Rc::new(Gate::new(connections, places)),
        }
    }
}

/// One replica of a service.
pub(super) struct Replica {
    pub(super) service: u32,
    pub(super) node: u32,
    pub(super) gate: Gate,
    pub(super) present: Cell<u32>,
    /// Its process is to run.
    pub(super) up: watch::Sender<bool>,
    /// It is down without a word.
    pub(super) silent: Cell<bool>,
    /// When it last started; `FAR_NS`: before the run.
    pub(super) started: Cell<u64>,
    /// What its process runs.
    pub(super) tasks: RefCell<JoinSet<()>>,
}

/// What all hosts share.
pub(crate) struct World {
    pub(super) program: Program,
    pub(super) seed: u64,
    pub(super) load: f64,
    pub(super) plan: Arc<FaultPlan>,
    /// How long hosts open connections before the run's time 0.
    pub(super) lead: u64,
    /// The time between two steps, when no host has the clock.
    pub(super) between: Cell<u64>,
    /// Nothing that happens counts any more.
    pub(super) over: Cell<bool>,
    pub(super) recorder: RefCell<Recorder>,
    pub(super) effects: RefCell<Effects>,
    pub(super) digest: Cell<u64>,
    pub(super) events: Cell<u64>,
    pub(super) clients: RefCell<Vec<Client>>,
    turns: RefCell<Vec<u32>>,
    pub(super) replicas: Vec<Replica>,
    /// By service: replicas that callers choose among.
    listed: RefCell<Vec<Vec<u32>>>,
    /// By service: how many replicas are wanted, where that changes.
    pub(super) scaling: RefCell<Vec<ServiceState>>,
    pub(super) contents: RefCell<Vec<Option<Contents>>>,
    pub(super) controls: RefCell<Vec<Control>>,
    /// By service: pauses, as (begin, lasting).
    pub(super) pauses: RefCell<Vec<Vec<(u64, u64)>>>,
    pub(super) topics: Vec<Topic>,
    pub(super) pools: RefCell<BTreeMap<(u32, Origin, u32), Pool>>,
    pub(super) flights: RefCell<BTreeMap<(u32, u32, u32), Rc<Flight>>>,
    /// By service: somebody's own code takes its place.
    pub(super) replaced: Vec<bool>,
    /// By node: its host's name.
    pub(super) hosts: Vec<String>,
    /// By operation: its path in a URL.
    pub(super) paths: Vec<String>,
    /// By node, once the hosts are there.
    pub(super) addresses: RefCell<Vec<Option<IpAddr>>>,
    /// User requests under way, and when they began.
    pub(super) open_users: RefCell<BTreeMap<u32, u64>>,
    /// Calls that a service of somebody's own has made on behalf of a request, by (request, call site): their number.
    pub(super) repeats: RefCell<BTreeMap<(u64, u32), u16>>,
    /// Requests and messages that are somewhere: node, and when they arrived.
    #[cfg(debug_assertions)]
    pub(super) present: RefCell<BTreeMap<u64, (u32, u64)>>,
    #[cfg(debug_assertions)]
    presences: Cell<u64>,
}

impl World {
    pub(super) fn new(
        program: &Program,
        seed: u64,
        load: f64,
        plan: Arc<FaultPlan>,
        recorder: Recorder,
        replaced: Vec<bool>,
    ) -> World {
        let p = &*program.0;
        let mut clients = Vec::with_capacity(p.client_states as usize);
        for (edge, policy) in p.edges.iter().zip(&p.policies) {
            clients.extend((0..edge.callers).map(|_| Client::new(policy)));
        }
        let replicas = p.services.iter().enumerate().flat_map(|(s, service)| {
            (0..service.most_replicas).map(move |n| Replica {
                service: s as u32,
                node: service.node,
                gate: Gate::new(service.workers, service.queue),
                present: Cell::new(0),
                up: watch::Sender::new(n < service.replicas),
                silent: Cell::new(false),
                started: Cell::new(FAR_NS),
                tasks: RefCell::new(JoinSet::new()),
            })
        });
        let longest = p.edges.iter().map(|edge| edge.latency).max().unwrap_or(0);
        let mut effects = Effects::none(p);
        effects.on = vec![false; plan.faults.len()];
        World {
            seed,
            load,
            plan,
            lead: (4 * longest).next_multiple_of(TICK_NS) + 20 * TICK_NS,
            between: Cell::new(0),
            over: Cell::new(false),
            recorder: RefCell::new(recorder),
            effects: RefCell::new(effects),
            digest: Cell::new(0),
            events: Cell::new(0),
            clients: RefCell::new(clients),
            turns: RefCell::new(vec![0; p.edges.len()]),
            replicas: replicas.collect(),
            listed: RefCell::new(p.services.iter().map(|s| (s.replica_base..s.replica_base + s.replicas).collect()).collect()),
            scaling: RefCell::new(p.services.iter().map(ServiceState::new).collect()),
            contents: RefCell::new(p.services.iter().map(|s| s.cache.as_ref().map(|c| Contents::warm(c, seed))).collect()),
            controls: RefCell::new(crate::des::controls(p)),
            pauses: RefCell::new(vec![Vec::new(); p.services.len()]),
            topics: p.topics.iter().map(Topic::new).collect(),
            pools: RefCell::default(),
            flights: RefCell::default(),
            replaced,
            hosts: p.nodes.iter().map(|node| escape(&node.name)).collect(),
            paths: p.op_names.iter().map(|name| format!("/{}", escape(name))).collect(),
            addresses: RefCell::default(),
            open_users: RefCell::default(),
            repeats: RefCell::default(),
            #[cfg(debug_assertions)]
            present: RefCell::default(),
            #[cfg(debug_assertions)]
            presences: Cell::new(0),
            program: program.clone(),
        }
    }

    pub(super) fn p(&self) -> &Tables {
        &self.program.0
    }

    /// Nanoseconds since the run's time 0, a whole number of ticks.
    pub(super) fn now(&self) -> u64 {
        match turmoil::sim_elapsed() {
            Some(elapsed) => (elapsed.as_nanos() as u64).saturating_sub(self.lead),
            None => self.between.get(),
        }
    }

    /// Waits a while, to the tick.
    pub(super) async fn sleep(&self, ns: u64) {
        if ns > 0 {
            tokio::time::sleep(Duration::from_millis(ns.min(FAR_NS).div_ceil(TICK_NS))).await;
        }
    }

    /// Waits until a time; `FAR_NS` and later: for ever.
    pub(super) async fn until(&self, at: u64) {
        if at >= FAR_NS {
            std::future::pending::<()>().await;
        }
        self.sleep(at.saturating_sub(self.now())).await;
    }

    /// Adds something that happened to the digest.
    pub(super) fn note(&self, mark: Mark, place: u32, key: Key, since: u64) {
        if !self.over.get() {
            self.digest.set(self.digest.get().wrapping_add(word(mark, place, key, self.now(), since)));
            self.events.set(self.events.get() + 1);
        }
    }

    /// The books, while they are open.
    pub(super) fn record(&self, what: impl FnOnce(&mut Recorder, u64)) {
        if !self.over.get() {
            let now = self.now();
            what(&mut self.recorder.borrow_mut(), now);
        }
    }

    /// A user request met a fault.
    pub(super) fn touch(&self, request: u32) {
        if request != NONE {
            self.record(|recorder, _| recorder.touch(request));
        }
    }

    /// A user request has been at a service: if a fault is on that, it met the fault.
    pub(super) fn touch_at(&self, service: u32, request: u32) {
        if self.effects.borrow().services[service as usize].active {
            self.touch(request);
        }
    }

    /// Somebody is somewhere from now on; returns a number to end it with.
    pub(super) fn comes(&self, node: u32, since: u64) -> u64 {
        #[cfg(debug_assertions)]
        {
            self.presences.set(self.presences.get() + 1);
            self.present.borrow_mut().insert(self.presences.get(), (node, since));
            self.presences.get()
        }
        #[cfg(not(debug_assertions))]
        {
            let _ = (node, since);
            0
        }
    }

    /// It has gone.
    pub(super) fn goes(&self, number: u64) {
        #[cfg(debug_assertions)]
        self.present.borrow_mut().remove(&number);
        let _ = number;
    }

    /// Runs something in the caller's process: it ends with that.
    pub(super) fn spawn(&self, origin: Origin, task: impl Future<Output = ()> + 'static) -> AbortHandle {
        match origin {
            Origin::Replica(r) => {
                let mut tasks = self.replicas[r as usize].tasks.borrow_mut();
                while tasks.try_join_next().is_some() {}
                tasks.spawn_local(task)
            }
            Origin::Entry(_) | Origin::Topic(_) => tokio::task::spawn_local(task).abort_handle(),
        }
    }

    /// Where a caller's budget, breaker and limits on an edge lie.
    pub(super) fn client_of(&self, edge: u32, origin: Origin) -> usize {
        let e = &self.p().edges[edge as usize];
        let offset = match origin {
            Origin::Replica(r) if e.callers > 1 => {
                let base = self.p().services[self.replicas[r as usize].service as usize].replica_base;
                (r - base).min(e.callers - 1)
            }
            _ => 0,
        };
        e.state_base.wrapping_add(offset) as usize
    }

    /// Gives free workers to those who wait.
    pub(super) fn dispatch(&self, r: u32) {
        let replica = &self.replicas[r as usize];
        let s = &self.p().services[replica.service as usize];
        while let Some(place) = replica.gate.next(s.lifo) {
            let now = self.now();
            let waited = now - place.since;
            let sheds = s.shed_expired && (place.left.get() || place.deadline <= now)
                || s.codel.as_ref().is_some_and(|policy| {
                    let last = replica.gate.queued() == 0;
                    place.works == 0 && self.controls.borrow_mut()[r as usize].codel.drops(policy, now, waited, last)
                });
            if sheds {
                replica.gate.tell(&place, Turn::Shed);
            } else {
                replica.gate.tell(&place, Turn::Has);
                self.worker_taken(r, waited);
            }
        }
    }

    /// A worker has been given to one who waited for it so long.
    pub(super) fn worker_taken(&self, r: u32, waited: u64) {
        let replica = &self.replicas[r as usize];
        self.scaling.borrow_mut()[replica.service as usize].worker(true, self.now());
        self.record(|recorder, now| recorder.worker_taken(replica.node, now, waited));
    }

    /// A worker is free again.
    pub(super) fn free_worker(&self, r: u32) {
        let replica = &self.replicas[r as usize];
        replica.gate.busy.set(replica.gate.busy.get() - 1);
        self.scaling.borrow_mut()[replica.service as usize].worker(false, self.now());
        self.record(|recorder, now| recorder.worker_freed(replica.node, now));
        self.dispatch(r);
    }

    /// Whether a replica, while it is up, is one of those that are wanted.
    pub(super) fn is_wanted(&self, r: u32) -> bool {
        let service = self.replicas[r as usize].service as usize;
        r - self.p().services[service].replica_base < self.scaling.borrow()[service].wanted
    }

    /// Which replica of a service a try goes to; `None` if callers know of none.
    pub(super) fn choose_replica(&self, service: u32, edge: u32, key: Key) -> Option<u32> {
        let balance = self.p().services[service as usize].balance;
        let present = |r: u32| self.replicas[r as usize].present.get();
        balanced(balance, &self.listed.borrow()[service as usize], &mut self.turns.borrow_mut()[edge as usize], key, present)
    }

    /// Callers choose a replica from now on, or no longer.
    pub(super) fn list(&self, r: u32, listed: bool) {
        let list = &mut self.listed.borrow_mut()[self.replicas[r as usize].service as usize];
        match (list.binary_search(&r), listed) {
            (Ok(at), false) => drop(list.remove(at)),
            (Err(at), true) => list.insert(at, r),
            _ => {}
        }
    }

    /// Which index a node has among services, or among topics.
    pub(super) fn service_of(&self, node: u32) -> Option<u32> {
        let s = node.checked_sub(self.p().entries.len() as u32)?;
        ((s as usize) < self.p().services.len()).then_some(s)
    }

    /// The operation of a service that a path names.
    pub(super) fn operation(&self, service: u32, path: &str) -> Option<u32> {
        let of_service = |op: &u32| {
            self.p().sites.iter().any(|site| site.callee == service && site.target == crate::program::TargetP::Op(*op))
        };
        (0..self.paths.len() as u32).filter(|&op| self.paths[op as usize] == path).find(of_service)
    }

    /// Deepest queue of a node, for the books.
    pub(super) fn depth(&self, node: usize) -> u32 {
        let (entries, services) = (self.p().entries.len(), self.p().services.len());
        match node.checked_sub(entries) {
            None => 0,
            Some(s) if s < services => {
                let s = &self.p().services[s];
                let replicas = &self.replicas[s.replica_base as usize..(s.replica_base + s.most_replicas) as usize];
                replicas.iter().map(|r| r.gate.queued()).max().unwrap_or(0)
            }
            Some(t) => self.topics[t - services].backlog(),
        }
    }

    /// A connection to a node was refused or reset.
    pub(super) fn connection_error(&self, node: u32) -> Cause {
        self.record(|recorder, _| recorder.connection_error(node));
        Cause::Connection
    }
}
