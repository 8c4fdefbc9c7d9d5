//! The discrete-event world: its state and its main loop.
//!
//! You are here: `sim::des`. `server` is the callee's side, `client` the caller's, `topic` the broker's, `faults` what is done to them
//! all, `recorder` what is measured, `queue` the order of events.
//! Always true: the state is plain data, so that a clone taken at any instant goes on exactly as the original does; the loop uses no
//! float, no clock, no hash order; one step never calls another deeper than the length of this sentence (what is to go on next waits
//! in `ready`), so that no model can exhaust the stack.
//! Not here: tables and names (`program`), what outcomes mean (`verdict`).

mod breaker;
mod cache;
mod client;
mod faults;
mod queue;
mod recorder;
mod server;
mod slab;
mod topic;

use std::collections::VecDeque;

use models::rng::{Chance, Key, KeyStream, Purpose, mix};
use models::system::Cause;

use crate::program::{FAR_NS, NONE, Tables};
use cache::Contents;
use client::{ClientState, Parent};
use queue::{Event, EventQueue, Kind};
use slab::Slab;

pub(crate) use faults::FaultPlan;
pub(crate) use recorder::{BUCKET_NS, FAILED, Left, NO_P99, Recorder, UNFINISHED, WIDE_BUCKETS, WINDOW_BUCKETS};

/// How many events may pass before a run looks whether it is to end early.
const LOOK_EVERY: u64 = 256;
/// Requests, calls or messages in progress at once that end a run early: about a gigabyte of them.
const MOST_IN_PROGRESS: u32 = 1 << 22;
// Slots do not run out between two looks, for an event opens at most as many as a request has branches.
const _: () = assert!(MOST_IN_PROGRESS < queue::MAX_SLOTS / 2);
/// Marks the numbers of requests that a surge added.
pub(crate) const SURGE: u32 = 1 << 31;

/// A request at a service, from its sending to its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exec {
    /// Names this attempt.
    key: Key,
    /// Names the request whatever the attempt: what kind of request it is does not change with a retry.
    line: Key,
    /// Sequence number of the event it waits for.
    event: u64,
    arrived: u64,
    /// When it began to wait for a worker; in transit, until when a fault holds it back where it can still be let go.
    waits_since: u64,
    /// The call that waits for it; `NONE` once the caller has given up.
    call: u32,
    request: u32,
    /// The next step.
    step: u32,
    /// `NONE`: a message on its way to the topic in `service`.
    op: u32,
    service: u32,
    replica: u32,
    next: u32,
    prev: u32,
    /// The first of its open calls.
    first_call: u32,
    /// Counts uses of the slot, so that a note of it can be known to be stale.
    generation: u32,
    cache_key: u32,
    pending: u16,
    wanted: u16,
    successes: u16,
    works: u16,
    phase: Phase,
    role: Role,
    holds_worker: bool,
    /// Its caller gave up.
    abandoned: bool,
    failed: bool,
}

/// What a request at a service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Free,
    InTransit,
    Queued,
    Working,
    Waiting,
    Ready,
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Plain,
    /// A cache is asked.
    Ask,
    /// The store behind the cache is asked.
    Origin,
    /// The cache is given what the store answered.
    Fill,
}

/// One replica of a service.
#[derive(Clone, Copy, Debug)]
struct Replica {
    busy: u32,
    limit: u32,
    present: u32,
    queued: u32,
    head: u32,
    tail: u32,
    up: bool,
    /// Down without a word: nobody is refused.
    silent: bool,
}

/// Arrivals of one entry: its own, or those that a surge adds.
#[derive(Clone, Debug)]
struct Stream {
    keys: KeyStream,
    entry: u32,
    gap_q16: u128,
    /// When a surge's stream ends.
    until: u64,
    surge: bool,
    next_key: Key,
}

/// Everything that changes while a run goes on.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) now: u64,
    seed: u64,
    load: f64,
    queue: EventQueue,
    execs: Slab<Exec>,
    calls: Slab<client::CallState>,
    messages: Slab<topic::Message>,
    replicas: Vec<Replica>,
    /// Round-robin pointers, one an edge.
    turns: Vec<u32>,
    clients: Vec<ClientState>,
    topics: Vec<topic::TopicState>,
    /// Cache contents by service.
    contents: Vec<Option<Contents>>,
    streams: Vec<Stream>,
    ready: VecDeque<(u32, u32)>,
    woken: Vec<u32>,
    effects: faults::Effects,
    pub(crate) recorder: Recorder,
    pub(crate) digest: u64,
    pub(crate) events: u64,
    generation: u32,
}

/// What an event is, in the digest.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Mark {
    UserArrives = 1,
    UserDone,
    UserFailed,
    RequestArrives,
    WorkDone,
    Answered,
    Failed,
    TryTimedOut,
    Resent,
    MessageDone,
    MessageDead,
    Killed,
    FaultEdge,
}

impl State {
    /// The state at time 0: idle, caches warm, every entry's first arrival scheduled.
    pub(crate) fn new(p: &Tables, load: f64, seed: u64) -> Self {
        let mut replicas = Vec::with_capacity(p.replicas as usize);
        for service in &p.services {
            for _ in 0..service.replicas {
                replicas.push(Replica {
                    busy: 0,
                    limit: service.workers,
                    present: 0,
                    queued: 0,
                    head: NONE,
                    tail: NONE,
                    up: true,
                    silent: false,
                });
            }
        }
        let clients = p.edges.iter().flat_map(|e| (0..e.callers).map(|_| ClientState::new(e))).collect();
        let mut state = State {
            now: 0,
            seed,
            load,
            queue: EventQueue::new(p.timeouts.len()),
            execs: Slab::new(),
            calls: Slab::new(),
            messages: Slab::new(),
            replicas,
            turns: vec![0; p.edges.len()],
            clients,
            topics: p.topics.iter().map(|_| topic::TopicState::new()).collect(),
            contents: p.services.iter().map(|s| s.cache.as_ref().map(Contents::warm)).collect(),
            streams: Vec::new(),
            ready: VecDeque::with_capacity(64),
            woken: Vec::new(),
            effects: faults::Effects::none(p),
            recorder: Recorder::new(p),
            digest: 0,
            events: 0,
            generation: 0,
        };
        for (i, entry) in p.entries.iter().enumerate() {
            if entry.active && load > 0.0 {
                state.open_stream(p, i as u32, load, None);
            }
        }
        state
    }

    /// Runs to `end` (exclusive), or until `budget` events have been handled in all; true if the budget ended it.
    pub(crate) fn run_until(&mut self, p: &Tables, end: u64, budget: u64) -> bool {
        let mut next_look = budget.min(self.events + LOOK_EVERY);
        while let Some(event) = self.queue.pop_before(end) {
            self.handle(p, event);
            while let Some((exec, generation)) = self.ready.pop_front() {
                if self.execs[exec].generation == generation && self.execs[exec].phase == Phase::Ready {
                    self.advance(p, exec);
                }
            }
            while let Some(topic) = self.woken.pop() {
                self.deliver(p, topic);
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

    /// Whether so much is in progress, or has been, that the run must end: a queue without bound would fill any memory.
    fn is_full(&self) -> bool {
        let slots = self.execs.slots().max(self.calls.slots()).max(self.messages.slots());
        slots >= MOST_IN_PROGRESS || self.queue.scheduled() >= queue::MAX_SEQUENCE - (1 << 20)
    }

    /// Closes the recorder's buckets that end at or before `time`.
    fn close_buckets(&mut self, p: &Tables, time: u64) {
        let (entries, services) = (p.entries.len(), p.services.len());
        while self.recorder.bucket_end <= time {
            self.recorder.close_bucket(|node| match node.checked_sub(entries) {
                None => 0,
                Some(s) if s < services => {
                    let s = &p.services[s];
                    let replicas = &self.replicas[s.replica_base as usize..(s.replica_base + s.replicas) as usize];
                    replicas.iter().map(|r| r.queued).max().unwrap_or(0)
                }
                Some(t) => self.topics[t - services].backlog(),
            });
        }
    }

    /// Handles one event, unless its thing has moved on: a stale event leaves no trace at all.
    fn handle(&mut self, p: &Tables, event: Event) {
        let (slot, number) = (event.slot(), event.sequence());
        match event.kind() {
            Kind::WorkDone => {
                if self.execs[slot].event == number {
                    self.reach(p, event);
                    self.work_done(p, slot);
                }
            }
            Kind::Reply => {
                if self.calls[slot].event == number {
                    self.reach(p, event);
                    self.reply_arrives(p, slot);
                }
            }
            Kind::Timeout => {
                if self.calls[slot].timeout == number {
                    self.reach(p, event);
                    self.timed_out(p, slot);
                }
            }
            Kind::Arrival => {
                self.reach(p, event);
                self.user_arrives(p, slot);
            }
            Kind::Request => {
                if self.execs[slot].event == number {
                    self.reach(p, event);
                    self.request_arrives(p, slot);
                }
            }
            Kind::Resend => {
                if self.calls[slot].event == number {
                    self.reach(p, event);
                    self.resend(p, slot);
                }
            }
            Kind::Message => {
                if self.messages[slot].event == number {
                    self.reach(p, event);
                    self.message_due(p, slot);
                }
            }
            Kind::Fault => {
                self.reach(p, event);
                self.fault_edge(p, slot);
            }
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

    #[inline]
    fn note(&mut self, mark: Mark, place: u32, key: Key) {
        let what = (u64::from(place) << 32) | mark as u64;
        let word = self.now.wrapping_mul(0x9FB2_1C65_1E98_DF25) ^ what.wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ key.0;
        self.digest = self.digest.wrapping_add(mix(word));
    }

    /// Opens the arrivals of an entry: its own (`surge` = None), or those that a surge adds up to a time.
    fn open_stream(&mut self, p: &Tables, entry: u32, factor: f64, surge: Option<(u32, u64)>) {
        let e = &p.entries[entry as usize];
        let number = surge.map_or(0, |(fault, _)| u64::from(fault) + 1);
        self.streams.push(Stream {
            keys: KeyStream::new(self.seed, (u64::from(e.site) << 16) | number),
            entry,
            gap_q16: (e.gap_q16 as f64 / factor) as u128,
            until: surge.map_or(u64::MAX, |(_, until)| until),
            surge: surge.is_some(),
            next_key: Key(0),
        });
        self.schedule_arrival(p, self.streams.len() as u32 - 1);
    }

    fn schedule_arrival(&mut self, p: &Tables, slot: u32) {
        let stream = &mut self.streams[slot as usize];
        let gap = p.unit_exponential.draw(stream.keys.next_bits());
        stream.next_key = stream.keys.next_key();
        let gap_ns = (u128::from(gap) * stream.gap_q16) >> 48;
        let at = self.now + u64::try_from(gap_ns).unwrap_or(FAR_NS).min(FAR_NS);
        if at < stream.until {
            self.queue.push(at, Kind::Arrival, slot);
        }
    }

    fn user_arrives(&mut self, p: &Tables, slot: u32) {
        let Stream { next_key: key, entry, surge, .. } = self.streams[slot as usize];
        self.schedule_arrival(p, slot);

        let number = self.recorder.user_arrived(entry, surge);
        let effect = &self.effects.entries[entry as usize];
        if effect.active {
            if effect.thin.is_some_and(|keep| !keep.hits(key.draw(Purpose::Fault, 0))) {
                return;
            }
            self.recorder.touch(number);
        }
        self.note(Mark::UserArrives, entry, key);
        self.open_call(p, Parent::Entry(entry), p.entries[entry as usize].call, key, key, 0, 1, number, Role::Plain, 0, NONE);
    }

    fn user_done(&mut self, entry: u32, number: u32, began: u64, key: Key, failure: Option<Cause>) {
        let latency = self.now - began;
        self.note(if failure.is_some() { Mark::UserFailed } else { Mark::UserDone }, entry, key);
        self.recorder.user_ended(number, entry, latency, failure.is_some());
    }

    /// How long those user requests have lasted that are not done: for the end of a run.
    pub(crate) fn note_unfinished(&mut self) {
        for slot in 0..self.calls.slots() {
            let call = self.calls[slot];
            if let Parent::Entry(_) = call.parent
                && call.open
            {
                self.recorder.user_unfinished(call.request, self.now - call.began);
            }
        }
    }

    /// Restricts what a fault's chance decides to its own draws.
    fn fault_draw(key: Key, fault: u32, chance: Chance) -> bool {
        chance.hits(key.draw(Purpose::Fault, fault * 4 + 1))
    }
}
