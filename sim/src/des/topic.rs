//! The broker's side: messages that wait, are delivered, delivered again, or die.
//!
//! You are here: `sim::des::topic`. Publishers and deliveries are calls (`client`); consumers are services (`server`).
//! Always true: a message is in the ready queue, or held by an event, or in delivery, and in just one of these.

use std::collections::VecDeque;

use models::rng::{Key, Purpose, below};
use models::system::Cause;

use super::client::Parent;
use super::queue::Kind;
use super::{Left, Mark, Role, State};
use crate::program::{NONE, Tables};

/// A message that the broker keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    key: Key,
    published: u64,
    /// Sequence number of the end of its hold.
    pub(super) event: u64,
    topic: u32,
    request: u32,
    deliveries: u16,
    open: bool,
}

/// One topic.
#[derive(Clone, Debug)]
pub(crate) struct TopicState {
    ready: VecDeque<u32>,
    /// Messages ready or held: its backlog.
    waiting: u32,
    in_delivery: u32,
    pub(super) up: bool,
    pub(super) silent: bool,
}

impl TopicState {
    pub(super) fn new() -> Self {
        TopicState { ready: VecDeque::new(), waiting: 0, in_delivery: 0, up: true, silent: false }
    }

    /// Messages that wait.
    pub(super) fn backlog(&self) -> u32 {
        self.waiting
    }
}

impl State {
    /// A publish reaches its broker.
    pub(super) fn message_arrives(&mut self, p: &Tables, x: u32) {
        let exec = self.execs[x];
        self.free_exec(x);
        let t = exec.service;
        let topic = &p.topics[t as usize];
        let effect = &self.effects.topics[t as usize];
        if effect.active {
            self.recorder.touch(exec.request);
        }
        let state = &mut self.topics[t as usize];
        if !state.up {
            let silent = state.silent;
            if exec.call != NONE {
                self.calls[exec.call].exec = NONE;
                if !silent {
                    self.connection_error(p, exec.call);
                }
            }
            return;
        }
        if state.waiting >= topic.capacity {
            self.recorder.message_arrived(topic.node, self.now);
            self.recorder.message_left(topic.node, self.now, self.now, Left::Refused);
            if exec.call != NONE {
                self.reply(p, exec.call, Some(Cause::Overload), false);
            }
            return;
        }
        let mut hold = 0;
        for held in &effect.holds {
            if State::fault_draw(exec.key, held.fault, held.chance) {
                hold += held.add + below(exec.key.draw(Purpose::Fault, held.fault * 4), held.jitter);
            }
        }
        let m = self.messages.insert(Message {
            key: exec.key,
            published: self.now,
            event: 0,
            topic: t,
            request: exec.request,
            deliveries: 0,
            open: true,
        });
        self.wait(p, m, hold);
        self.recorder.message_arrived(topic.node, self.now);
        if exec.call == NONE {
            return;
        }
        if topic.accept == NONE {
            self.reply(p, exec.call, None, false);
            return;
        }
        let accept = p.tables[topic.accept as usize].draw(exec.key.draw(Purpose::Work, 0));
        let e = p.sites[self.calls[exec.call].site() as usize].edge;
        let at = self.now + accept + p.edges[e as usize].latency;
        self.calls[exec.call].awaits_acceptance(self.queue.push(at, Kind::Reply, exec.call));
    }

    /// A message joins the backlog: ready at once, or after a hold.
    fn wait(&mut self, p: &Tables, m: u32, hold: u64) {
        let t = self.messages[m].topic;
        let state = &mut self.topics[t as usize];
        state.waiting += 1;
        self.recorder.queue_depth(p.topics[t as usize].node, state.waiting);
        if hold == 0 {
            state.ready.push_back(m);
            self.woken.push(t);
        } else {
            self.messages[m].event = self.queue.push(self.now + hold, Kind::Message, m);
        }
    }

    pub(super) fn message_due(&mut self, _: &Tables, m: u32) {
        let message = &mut self.messages[m];
        message.event = 0;
        let t = message.topic;
        self.topics[t as usize].ready.push_back(m);
        self.woken.push(t);
    }

    /// Delivers ready messages while the consumer group has places.
    pub(super) fn deliver(&mut self, p: &Tables, t: u32) {
        let topic = &p.topics[t as usize];
        loop {
            let stalled = self.effects.topics[t as usize].stalled;
            let state = &mut self.topics[t as usize];
            if stalled || !state.up || state.in_delivery >= topic.concurrency {
                return;
            }
            let Some(m) = state.ready.pop_front() else { return };
            state.waiting -= 1;
            state.in_delivery += 1;
            let Message { key, request, deliveries, .. } = self.messages[m];
            let parent = Parent::Message(m);
            self.open_call(p, parent, topic.delivery, key, key, deliveries, deliveries + 1, request, Role::Plain, 0, NONE);
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
        if !acknowledged && u32::from(message.deliveries) < topic.max_deliveries && message.deliveries < u16::MAX {
            self.wait(p, m, topic.redelivery_delay);
            return;
        }
        self.note(if acknowledged { Mark::MessageDone } else { Mark::MessageDead }, topic.node, message.key);
        let how = if acknowledged { Left::Answered } else { Left::Failed };
        self.recorder.message_left(topic.node, self.now, message.published, how);
        self.free_message(m);
    }

    fn free_message(&mut self, m: u32) {
        let message = &mut self.messages[m];
        (message.event, message.open) = (0, false);
        self.messages.remove(m);
    }

    /// The broker dies: all its messages are lost, deliveries in progress are cut.
    pub(super) fn crash_topic(&mut self, p: &Tables, t: u32, silent: bool) {
        let node = p.topics[t as usize].node;
        for c in 0..self.calls.slots() {
            if let Some(m) = self.calls[c].delivers()
                && self.messages[m].topic == t
            {
                self.abandon_call(p, c);
            }
        }
        for m in 0..self.messages.slots() {
            let message = self.messages[m];
            if message.open && message.topic == t {
                self.note(Mark::Killed, node, message.key);
                self.recorder.message_left(node, self.now, message.published, Left::Killed);
                self.free_message(m);
            }
        }
        let state = &mut self.topics[t as usize];
        state.ready.clear();
        (state.waiting, state.in_delivery, state.up, state.silent) = (0, 0, false, silent);
    }
}
