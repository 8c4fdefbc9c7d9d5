//! The discrete-event world: its state and its main loop.
//!
//! You are here: `sim::des`. `server` is the callee's side, `client` the caller's, `plain` the short way of most calls, `topic` the broker's, `faults` what is done to them
//! all, `recorder` what is measured, `queue` the order of events.
//! Always true: the state is plain data, so that a clone taken at any instant goes on exactly as the original does; the loop uses no
//! float, no clock, no hash order; one step never calls another deeper than the length of this sentence (what is to go on next waits
//! in `ready`), so that no model can exhaust the stack.
//! Not here: tables and names (`program`), what outcomes mean (`verdict`).

pub(crate) mod arrivals;
#[cfg(debug_assertions)]
mod audit;
pub(crate) mod breaker;
mod budget;
mod cache;
mod canonical;
mod client;
pub(crate) mod control;
mod crash;
pub(crate) mod effects;
pub(crate) mod faults;
mod flights;
mod hedge;
mod limits;
mod log;
mod lookup;
mod plain;
mod queue;
mod recorder;
mod records;
mod replicas;
mod server;
mod slab;
mod topic;
mod tracer;
mod users;
mod windows;

use models::rng::{Chance, Key, Purpose, mix};

use crate::program::{Tables, TargetP};
use arrivals::{Stream, User};
use client::ClientState;
use flights::Flights;
use queue::{Event, EventQueue, Kind};
use records::{Call, Exec, Parent, Phase, Replica};
use slab::Slab;

pub(crate) use breaker::Breaker;
pub(crate) use budget::Budget;
pub(crate) use cache::Contents;
pub(crate) use client::choose_path;
pub(crate) use control::{Control, controls};
pub(crate) use effects::EdgeEffect;
pub(crate) use faults::FaultPlan;
pub(crate) use log::Noted;
pub(crate) use queue::MOST_LANES;
pub(crate) use recorder::{BUCKET_NS, Keep, Left, NodeStep, NodeTotals, Recorder, SystemStep};
pub(crate) use replicas::{ServiceState, balanced};
pub(crate) use tracer::{Ended, OPEN, Record, Side, Tracer};
pub(crate) use users::{ABSENT, FAILED, UNFINISHED, Users};
pub(crate) use windows::{NO_LATENCY, WIDE_BUCKETS, WINDOW_BUCKETS};

/// How many events may pass before a run looks whether it is to end early.
const LOOK_EVERY: u64 = 256;
/// Requests, calls or messages in progress at once that end a run early: about a gigabyte of them.
const MOST_IN_PROGRESS: u32 = 1 << 22;
// Slots do not run out between two looks, for an event opens at most as many as a request has branches.
const _: () = assert!(MOST_IN_PROGRESS < queue::MAX_SLOTS / 2);

/// Everything that changes while a run goes on.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) now: u64,
    seed: u64,
    load: f64,
    queue: EventQueue,
    execs: Slab<Exec>,
    calls: Slab<Call>,
    messages: Slab<topic::Message>,
    replicas: Vec<Replica>,
    services: Vec<ServiceState>,
    /// What replicas of services with shedding, adaptive limits or contention remember; empty if no service has any.
    controls: Vec<Control>,
    /// Round-robin pointers, one an edge.
    turns: Vec<u32>,
    clients: Vec<ClientState>,
    topics: Vec<topic::TopicState>,
    /// Cache contents by service.
    contents: Vec<Option<Contents>>,
    flights: Flights,
    streams: Vec<Stream>,
    users: Vec<User>,
    /// Requests that go on before the next event, with the uses of their slot.
    ready: Vec<(u32, u16)>,
    woken: Vec<u32>,
    effects: effects::Effects,
    pub(crate) recorder: Recorder,
    /// Where the run is traced.
    pub(crate) tracer: Option<Box<Tracer>>,
    /// Where the run is logged.
    log: Option<Vec<Noted>>,
    pub(crate) digest: u64,
    pub(crate) events: u64,
    generation: u32,
}

/// What an event is, in the digest.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Mark {
    UserArrives = 1,
    UserDone,
    UserFailed,
    Answered,
    Failed,
    TryTimedOut,
    Resent,
    MessageDone,
    MessageDead,
    Killed,
    FaultEdge,
    Scaled,
}

/// What the digest adds for something that happened to `key` at a place and time, and began at `since`.
#[inline]
pub(crate) fn word(mark: Mark, place: u32, key: Key, now: u64, since: u64) -> u64 {
    let what = (u64::from(place) << 32) | mark as u64;
    let times = now.wrapping_mul(0x9FB2_1C65_1E98_DF25) ^ since.wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
    mix(times ^ what.wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ key.0)
}

impl State {
    /// The state at time 0: idle, caches warm, every entry's first arrivals scheduled.
    pub(crate) fn new(p: &Tables, load: f64, seed: u64) -> Self {
        let mut state = State {
            now: 0,
            seed,
            load,
            queue: EventQueue::new(p.lanes, p.quantum),
            execs: Slab::new(),
            calls: Slab::new(),
            messages: Slab::new(),
            replicas: p.services.iter().enumerate().flat_map(|(s, service)| replicas::replicas_of(s as u32, service)).collect(),
            services: p.services.iter().map(ServiceState::new).collect(),
            controls: control::controls(p),
            turns: vec![0; p.edges.len()],
            clients: Vec::with_capacity(p.client_states as usize),
            topics: p.topics.iter().map(topic::TopicState::new).collect(),
            contents: p.services.iter().map(|s| s.cache.as_ref().map(|cache| Contents::warm(cache, seed))).collect(),
            flights: Flights::default(),
            streams: Vec::new(),
            users: Vec::new(),
            ready: Vec::with_capacity(16),
            woken: Vec::new(),
            effects: effects::Effects::none(p),
            recorder: Recorder::new(p),
            tracer: None,
            log: None,
            digest: 0,
            events: 0,
            generation: 0,
        };
        for (edge, policy) in p.edges.iter().zip(&p.policies) {
            state.clients.extend((0..edge.callers).map(|_| ClientState::new(policy)));
        }
        for (s, service) in p.services.iter().enumerate() {
            if let Some(scale) = &service.autoscale {
                state.queue.push(scale.every, Kind::Scale, s as u32);
            }
        }
        for entry in 0..p.entries.len() as u32 {
            state.open_entry(p, entry);
        }
        state
    }

    /// Runs to `end` (exclusive), or until `budget` events have been handled in all; true if the budget ended it.
    pub(crate) fn run_until(&mut self, p: &Tables, end: u64, budget: u64) -> bool {
        let mut next_look = budget.min(self.events + LOOK_EVERY);
        loop {
            let next = self.queue.next();
            if next.time() >= end {
                break;
            }
            let calls = &self.calls;
            self.queue.take(|event| event.kind() == Kind::Timeout && calls[event.slot()].timeout != event.id());
            self.handle(p, next);
            // A delivery may let a publisher go on that waited for a place: it does so now, and not with whatever event comes next.
            while !self.ready.is_empty() || !self.woken.is_empty() {
                self.go_on(p);
                while let Some(topic) = self.woken.pop() {
                    self.deliver(p, topic);
                }
            }
            if self.events >= next_look {
                next_look = budget.min(self.events + LOOK_EVERY);
                if self.events >= budget || self.is_full() {
                    return true;
                }
            }
        }
        self.now = end;
        self.close_buckets(p, end);
        false
    }

    /// Goes on with the requests that can, those included that can only now.
    #[inline]
    fn go_on(&mut self, p: &Tables) {
        let mut next = 0;
        while let Some(&(x, uses)) = self.ready.get(next) {
            next += 1;
            let exec = &self.execs[x];
            if exec.uses == uses && exec.phase == Phase::Ready {
                self.advance(p, x);
            }
        }
        self.ready.clear();
    }

    /// Whether so much is in progress, or has been, that the run must end: a queue without bound would fill any memory.
    fn is_full(&self) -> bool {
        let slots = self.execs.slots().max(self.calls.slots()).max(self.messages.slots());
        slots >= MOST_IN_PROGRESS || self.recorder.is_full() || self.queue.scheduled() >= queue::MAX_SEQUENCE - (1 << 20)
    }

    /// Closes the recorder's buckets that end at or before `time`.
    fn close_buckets(&mut self, p: &Tables, time: u64) {
        let (entries, services) = (p.entries.len(), p.services.len());
        while self.recorder.bucket_end <= time {
            #[cfg(debug_assertions)]
            self.audit(p);
            let (replicas, topics) = (&self.replicas, &self.topics);
            self.recorder.close_bucket(|node| match node.checked_sub(entries) {
                None => 0,
                Some(s) if s < services => {
                    let s = &p.services[s];
                    let replicas = &replicas[s.replica_base as usize..(s.replica_base + s.most_replicas) as usize];
                    replicas.iter().map(|r| r.queued).max().unwrap_or(0)
                }
                Some(t) => topics[t - services].backlog(),
            });
        }
    }

    /// Holds the recorder's books against the requests that are there.
    #[cfg(debug_assertions)]
    fn audit(&mut self, p: &Tables) {
        let State { execs, messages, replicas, recorder, .. } = self;
        let requests = (0..execs.slots()).map(|x| &execs[x]).filter(|exec| exec.is_present());
        let requests = requests.map(|exec| (replicas[exec.replica as usize].node, exec.arrived));
        let messages = (0..messages.slots()).map(|m| &messages[m]).filter(|message| message.open);
        let messages = messages.map(|message| (p.topics[message.topic as usize].node, message.published));
        recorder.audit(requests.chain(messages));
    }

    /// Handles one event, unless its thing has moved on: a stale event leaves no trace at all.
    #[inline(always)]
    fn handle(&mut self, p: &Tables, event: Event) {
        const WORK_DONE: u8 = Kind::WorkDone as u8;
        const REQUEST: u8 = Kind::Request as u8;
        const REPLY: u8 = Kind::Reply as u8;
        let (slot, id) = (event.slot(), event.id());
        match event.kind_number() {
            WORK_DONE if self.execs[slot].event == id => {
                self.reach(p, event);
                self.work_done(p, slot);
            }
            REQUEST if self.execs[slot].event == id => {
                self.reach(p, event);
                self.request_arrives(p, slot);
            }
            REPLY if self.calls[slot].event == id => {
                self.reach(p, event);
                if let Some(x) = self.take_reply(p, slot) {
                    self.advance(p, x);
                }
            }
            WORK_DONE | REQUEST | REPLY => {}
            _ => self.handle_rare(p, event),
        }
    }

    #[inline(never)]
    fn handle_rare(&mut self, p: &Tables, event: Event) {
        let (slot, id) = (event.slot(), event.id());
        let stale = match event.kind() {
            Kind::Timeout => self.calls[slot].timeout != id,
            Kind::Resend | Kind::Hedge => self.calls[slot].event != id,
            Kind::Message => self.messages[slot].event != id,
            _ => false,
        };
        if stale {
            return;
        }
        self.reach(p, event);
        match event.kind() {
            Kind::Arrival => self.user_arrives(p, slot),
            Kind::Timeout => self.timed_out(p, slot),
            Kind::Resend => self.resend(p, slot),
            Kind::Hedge => self.hedge(p, slot),
            Kind::Message => self.message_due(p, slot),
            Kind::Think => self.user_asks(p, slot),
            Kind::Scale => self.scale(p, slot),
            Kind::Notice => self.notice(p, slot),
            Kind::Fault => self.fault_edge(p, slot),
            Kind::WorkDone | Kind::Reply | Kind::Request => unreachable!("not rare"),
        }
    }

    /// Brings the clock to an event.
    #[inline]
    fn reach(&mut self, p: &Tables, event: Event) {
        let time = event.time();
        debug_assert!(time >= self.now, "time never runs back");
        self.now = time;
        if time >= self.recorder.bucket_end {
            self.close_buckets(p, time);
        }
        self.events += 1;
    }

    /// Traces the run from now on.
    pub(crate) fn trace(&mut self, tracer: Tracer) {
        self.tracer = Some(Box::new(tracer));
        (self.effects.any, self.effects.traced) = (true, true);
    }

    /// Tells the tracer how a try of a call ended for its caller.
    fn trace_heard(&mut self, p: &Tables, c: u32, ended: Ended) {
        if let Some(tracer) = &mut self.tracer {
            let call = &self.calls[c];
            let publishes = p.sites[call.site as usize].target == TargetP::Topic;
            tracer.heard(call, publishes, ended, self.now);
        }
    }

    #[inline]
    fn note(&mut self, mark: Mark, place: u32, key: Key) {
        self.note_since(mark, place, key, 0);
    }

    /// Adds to the digest, and to the log if there is one, what ended now and began at `since`.
    #[inline]
    fn note_since(&mut self, mark: Mark, place: u32, key: Key, since: u64) {
        self.digest_since(mark, place, key, since);
        if let Some(log) = &mut self.log {
            log.push(Noted { time: self.now, since, key, place, mark });
        }
    }

    /// The same without a log.
    #[inline]
    fn digest_since(&mut self, mark: Mark, place: u32, key: Key, since: u64) {
        self.digest = self.digest.wrapping_add(word(mark, place, key, self.now, since));
    }

    /// The user requests that are under way: numbers, and when they began.
    pub(crate) fn open_user_requests(&self) -> impl Iterator<Item = (u32, u64)> {
        let calls = (0..self.calls.slots()).map(|slot| &self.calls[slot]);
        calls.filter(|call| call.open && matches!(call.from, Parent::Entry | Parent::User)).map(|call| (call.request, call.began))
    }

    /// Restricts what a fault's chance decides to its own draws.
    pub(crate) fn fault_draw(key: Key, fault: u32, chance: Chance) -> bool {
        chance.hits(key.draw(Purpose::Fault, fault * 4 + 1))
    }
}
