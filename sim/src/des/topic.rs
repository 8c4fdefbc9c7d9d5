//! The broker's side: messages that wait, are delivered, delivered again, or die; and what their order does to consumers.
//!
//! You are here: `sim::des::topic`. Publishers and deliveries are calls (`client`); consumers are services (`server`).
//! Always true: a message is ready in a partition, or held by an event, or in delivery, or gone, and in just one of these. Its record lives
//! until the last request that handles it has ended (`users`), for a consumer that was given up may still apply it.

use std::collections::VecDeque;

use models::rng::{Key, Purpose};
use models::system::{Cause, Full};

use super::queue::Kind;
use super::records::{Parent, Phase, Role, flag};
use super::slab::Empty;
use super::{Left, Mark, State};
use crate::program::{NONE, Tables, TopicP, popular};

/// A message that the broker keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    pub(super) key: Key,
    pub(super) published: u64,
    /// Id of the end of its hold.
    pub(super) event: u64,
    /// Its place in the order of publishing.
    pub(super) version: u64,
    /// What it is about.
    pub(super) about: u32,
    pub(super) topic: u32,
    pub(super) request: u32,
    /// The message that it is a copy of; `NONE`: it is the original.
    pub(super) original: u32,
    /// Requests that handle it, and copies of it.
    pub(super) users: u32,
    pub(super) deliveries: u16,
    /// The broker still has it.
    pub(super) open: bool,
    /// A consumer has applied it (noted at the original).
    pub(super) applied: bool,
    pub(super) poisoned: bool,
}

impl Empty for Message {
    const EMPTY: Message = Message {
        key: Key(0),
        published: 0,
        event: 0,
        version: 0,
        about: 0,
        topic: 0,
        request: 0,
        original: NONE,
        users: 0,
        deliveries: 0,
        open: false,
        applied: false,
        poisoned: false,
    };
}

/// One topic.
#[derive(Clone, Debug)]
pub(crate) struct TopicState {
    pub(super) partitions: Vec<Partition>,
    /// The partition that is looked at first when there is a place for a delivery.
    pub(super) next: u32,
    /// Messages ready or held: its backlog.
    pub(super) waiting: u32,
    pub(super) in_delivery: u32,
    /// Messages published so far.
    pub(super) versions: u64,
    /// The newest version applied, by what it is about; empty where order does not matter.
    pub(super) applied: Vec<u64>,
    /// Publishes that wait for a place, with the generation of their slot.
    pub(super) blocked: VecDeque<(u32, u32)>,
    pub(super) up: bool,
    pub(super) silent: bool,
}

/// One partition; a topic that promises no order has just one. Where order is promised, a message that is held lies in `ready` in its place,
/// with the event of its hold pending, and those behind it wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Partition {
    pub(super) ready: VecDeque<u32>,
    /// Where order is promised: one of its messages is in delivery or is to be delivered again, and the others wait.
    pub(super) busy: bool,
}

impl TopicState {
    pub(super) fn new(topic: &TopicP) -> Self {
        TopicState {
            partitions: vec![Partition::default(); topic.partitions as usize],
            next: 0,
            waiting: 0,
            in_delivery: 0,
            versions: 0,
            applied: if topic.order_sensitive { vec![0; topic.popularity.len()] } else { Vec::new() },
            blocked: VecDeque::new(),
            up: true,
            silent: false,
        }
    }

    /// Messages that wait.
    pub(super) fn backlog(&self) -> u32 {
        self.waiting + self.blocked.len() as u32
    }
}

impl State {
    /// A publish reaches its broker.
    pub(super) fn message_arrives(&mut self, p: &Tables, x: u32) {
        let exec = &self.execs[x];
        let (t, call, request) = (exec.replica, exec.call, exec.request);
        let topic = &p.topics[t as usize];
        if self.effects.any && self.effects.topics[t as usize].active {
            self.recorder.touch(request);
        }
        let state = &mut self.topics[t as usize];
        if !state.up {
            let silent = state.silent;
            self.free_exec(x);
            if call != NONE {
                if silent { self.calls[call].exec = NONE } else { self.connection_error(p, call) }
            }
            return;
        }
        if state.waiting >= topic.capacity {
            match topic.full {
                Full::Reject => {
                    self.recorder.message_arrived(topic.node, self.now);
                    self.recorder.message_left(topic.node, self.now, self.now, Left::Refused);
                    self.free_exec(x);
                    if call != NONE {
                        self.reply(p, call, Some(Cause::Overload), false);
                    }
                    return;
                }
                Full::Block if call != NONE => {
                    let exec = &mut self.execs[x];
                    exec.phase = Phase::Blocked;
                    state.blocked.push_back((x, exec.generation));
                    let depth = state.backlog();
                    self.recorder.queue_depth(topic.node, depth);
                    return;
                }
                Full::Block => {
                    self.free_exec(x); // nobody is left who would wait for a place
                    return;
                }
                Full::DropOldest => self.drop_oldest(p, t),
            }
        }
        self.accept(p, x);
    }

    /// Takes a publish in, and tells its publisher.
    fn accept(&mut self, p: &Tables, x: u32) {
        let exec = &self.execs[x];
        let (key, line, t, call, request) = (exec.key, exec.line, exec.replica, exec.call, exec.request);
        self.free_exec(x);
        let topic = &p.topics[t as usize];
        let bits = line.draw(Purpose::MessageKey, 0);
        let about = popular(&topic.popularity, bits);
        let state = &mut self.topics[t as usize];
        state.versions += 1;
        let version = state.versions;
        let fate = if self.effects.any { self.effects.topics[t as usize].fate(key) } else { Default::default() };
        if fate.lost {
            self.recorder.message_lost(topic.node);
        } else {
            let m = self.messages.insert(Message {
                key,
                published: self.now,
                event: 0,
                version,
                about,
                topic: t,
                request,
                original: NONE,
                users: 0,
                deliveries: 0,
                open: true,
                applied: false,
                poisoned: fate.poisoned,
            });
            self.recorder.message_arrived(topic.node, self.now);
            self.wait(p, m, fate.hold, false);
            if fate.twice {
                self.messages[m].users += 1;
                let copy = Message { key: key.child(u32::MAX, 0, 0), original: m, users: 0, ..self.messages[m] };
                let copy = self.messages.insert(copy);
                self.messages[copy].event = 0;
                self.recorder.message_arrived(topic.node, self.now);
                self.wait(p, copy, 0, false);
            }
        }
        if call == NONE {
            return;
        }
        if topic.accept == NONE {
            self.reply(p, call, None, false);
            return;
        }
        let accept = p.tables[topic.accept as usize].draw(key.draw(Purpose::Work, 0));
        let waiting = &mut self.calls[call];
        (waiting.exec, waiting.reply, waiting.hit) = (NONE, None, false);
        self.reply_after(p, call, accept);
    }

    /// The oldest message that waits gives its place to a newer one.
    fn drop_oldest(&mut self, p: &Tables, t: u32) {
        let oldest = |state: &super::topic::TopicState, messages: &super::Slab<Message>| {
            let fronts = state.partitions.iter().enumerate().filter_map(|(i, part)| part.ready.front().map(|&m| (i, m)));
            fronts.min_by_key(|&(_, m)| messages[m].version)
        };
        let state = &mut self.topics[t as usize];
        let Some((partition, m)) = oldest(state, &self.messages) else { return };
        state.partitions[partition].ready.pop_front();
        state.waiting -= 1;
        let node = p.topics[t as usize].node;
        let Message { key, published, .. } = self.messages[m];
        self.note_since(Mark::MessageDead, node, key, published);
        self.recorder.message_left(node, self.now, published, Left::Shed);
        self.close_message(m);
    }

    fn partition_of(&self, m: u32) -> usize {
        let message = &self.messages[m];
        let partitions = self.topics[message.topic as usize].partitions.len() as u32;
        (message.about % partitions) as usize
    }

    /// A message joins the backlog: ready at once, or after a hold; at the front if it is to be delivered again in its order.
    fn wait(&mut self, p: &Tables, m: u32, hold: u64, front: bool) {
        let t = self.messages[m].topic;
        let partition = self.partition_of(m);
        let state = &mut self.topics[t as usize];
        state.waiting += 1;
        let depth = state.backlog();
        if hold > 0 {
            self.messages[m].event = self.queue.push(self.now + hold, Kind::Message, m);
        }
        if hold == 0 || p.topics[t as usize].per_key && !front {
            let ready = &mut state.partitions[partition].ready;
            if front {
                ready.push_front(m)
            } else {
                ready.push_back(m)
            }
            self.woken.push(t);
        }
        self.recorder.queue_depth(p.topics[t as usize].node, depth);
    }

    /// A held message is ready.
    pub(super) fn message_due(&mut self, p: &Tables, m: u32) {
        let message = &mut self.messages[m];
        message.event = 0;
        let (t, again) = (message.topic, message.deliveries > 0);
        let partition = self.partition_of(m);
        let partition = &mut self.topics[t as usize].partitions[partition];
        match (p.topics[t as usize].per_key, again) {
            (true, true) => {
                // Its partition has been waiting for it.
                partition.busy = false;
                partition.ready.push_front(m);
            }
            (true, false) => {} // it lies in its place already
            (false, _) => partition.ready.push_back(m),
        }
        self.woken.push(t);
    }

    /// Delivers ready messages while the consumer group has places.
    pub(super) fn deliver(&mut self, p: &Tables, t: u32) {
        let topic = &p.topics[t as usize];
        loop {
            let stalled = self.effects.any && self.effects.topics[t as usize].stalled;
            let state = &mut self.topics[t as usize];
            if stalled || !state.up || state.in_delivery >= topic.concurrency {
                return;
            }
            let n = state.partitions.len();
            let found = (0..n).map(|i| (state.next as usize + i) % n).find(|&i| {
                let partition = &state.partitions[i];
                !partition.busy && partition.ready.front().is_some_and(|&m| self.messages[m].event == 0)
            });
            let Some(found) = found else { return };
            state.next = ((found + 1) % n) as u32;
            let partition = &mut state.partitions[found];
            let m = partition.ready.pop_front().expect("it was not empty");
            partition.busy = topic.per_key;
            state.waiting -= 1;
            state.in_delivery += 1;
            self.unblock(p, t);
            let Message { key, request, deliveries, .. } = self.messages[m];
            let (site, again) = (topic.delivery, deliveries + 1);
            self.open_call(p, Parent::Message, m, site, key, key, deliveries, again, request, Role::Plain, 0, NONE);
        }
    }

    /// Publishes that waited for a place take those that have become free.
    fn unblock(&mut self, p: &Tables, t: u32) {
        while self.topics[t as usize].waiting < p.topics[t as usize].capacity {
            let Some((x, generation)) = self.topics[t as usize].blocked.pop_front() else { return };
            let exec = &self.execs[x];
            if exec.generation == generation && exec.phase == Phase::Blocked {
                self.accept(p, x);
            }
        }
    }

    /// A delivery was acknowledged, or has failed.
    pub(super) fn delivery_over(&mut self, p: &Tables, m: u32, acknowledged: bool) {
        let message = &mut self.messages[m];
        message.deliveries = message.deliveries.saturating_add(1);
        let message = *message;
        let topic = &p.topics[message.topic as usize];
        self.topics[message.topic as usize].in_delivery -= 1;
        self.woken.push(message.topic);
        let again = !acknowledged && u32::from(message.deliveries) < topic.max_deliveries && message.deliveries < u16::MAX;
        let partition = self.partition_of(m);
        if !again || topic.redelivery_delay == 0 {
            self.topics[message.topic as usize].partitions[partition].busy = false;
        }
        if again {
            self.recorder.redelivered(topic.node);
            self.wait(p, m, topic.redelivery_delay, topic.per_key);
            return;
        }
        self.note_since(
            if acknowledged { Mark::MessageDone } else { Mark::MessageDead },
            topic.node,
            message.key,
            message.published,
        );
        if !acknowledged {
            self.recorder.dead_letter(topic.node);
        }
        let how = if acknowledged { Left::Answered } else { Left::Failed };
        self.recorder.message_left(topic.node, self.now, message.published, how);
        self.close_message(m);
    }

    /// A delivery is on its way to the consumer.
    pub(super) fn delivery_leaves(&mut self, x: u32, m: u32) {
        let message = &mut self.messages[m];
        message.users += 1;
        if message.poisoned {
            self.execs[x].flags |= flag::POISONED;
        }
    }

    /// A consumer has done what a message says, whether or not the broker still waits to hear of it.
    pub(super) fn message_applied(&mut self, p: &Tables, x: u32) {
        let m = self.execs[x].message;
        let Message { topic: t, version, about, original, .. } = self.messages[m];
        let topic = &p.topics[t as usize];
        let first = if original == NONE { m } else { original };
        if std::mem::replace(&mut self.messages[first].applied, true) && !topic.idempotent {
            self.recorder.duplicate_effect(topic.node);
        }
        if topic.order_sensitive {
            let last = &mut self.topics[t as usize].applied[about as usize];
            if version < *last {
                self.recorder.stale_write(topic.node);
            }
            *last = version.max(*last);
        }
    }

    /// A request that handled a message, or a copy of it, is gone.
    pub(super) fn release_message(&mut self, m: u32) {
        self.messages[m].users -= 1;
        self.free_if_unused(m);
    }

    /// The broker has done with a message.
    fn close_message(&mut self, m: u32) {
        let message = &mut self.messages[m];
        (message.event, message.open) = (0, false);
        self.free_if_unused(m);
    }

    fn free_if_unused(&mut self, m: u32) {
        let Message { open, users, original, .. } = self.messages[m];
        if !open && users == 0 {
            self.messages.remove(m);
            if original != NONE {
                self.release_message(original);
            }
        }
    }

    /// The broker dies: all its messages are lost, deliveries in progress are cut.
    pub(super) fn crash_topic(&mut self, p: &Tables, t: u32, silent: bool) {
        let node = p.topics[t as usize].node;
        for c in 0..self.calls.slots() {
            let call = &self.calls[c];
            if call.open && call.from == Parent::Message && self.messages[call.parent].topic == t {
                self.abandon_call(p, c);
            }
        }
        let blocked = std::mem::take(&mut self.topics[t as usize].blocked);
        for (x, generation) in blocked {
            let exec = &self.execs[x];
            if exec.generation != generation || exec.phase != Phase::Blocked {
                continue;
            }
            let call = exec.call;
            self.free_exec(x);
            if call != NONE {
                if silent { self.calls[call].exec = NONE } else { self.connection_error(p, call) }
            }
        }
        for m in 0..self.messages.slots() {
            let Message { key, published, open, topic, .. } = self.messages[m];
            if open && topic == t {
                self.note_since(Mark::Killed, node, key, published);
                self.recorder.message_left(node, self.now, published, Left::Killed);
                self.close_message(m);
            }
        }
        let state = &mut self.topics[t as usize];
        for partition in &mut state.partitions {
            partition.ready.clear();
            partition.busy = false;
        }
        (state.waiting, state.in_delivery, state.up, state.silent) = (0, 0, false, silent);
    }
}
