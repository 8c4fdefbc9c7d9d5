//! The event queue: what happens next, and in which order.
//!
//! You are here: `sim::des::queue`. `des` pops; everything else pushes.
//! Always true: any two events have an order: time, then class, then sequence number; time never runs back.
//! Not here: what an event does.
//!
//! An event is one 128-bit word: time in nanoseconds (64 bits) | class (2) | sequence (32) | slot (26) | kind (4). The order of the words is the
//! order of the events, for 4 billion events; a run's horizon and its budget of events are checked to lie below. The lower half is unique, so
//! a slot that remembers it for the event it waits for knows a stale one.
//!
//! Most events fall due in the order in which they are scheduled: all timeouts of one length, all requests over links of one latency. The
//! commonest such kinds have a FIFO lane each, and only the lanes' heads are compared; the rest (ends of work, waits) lies in a 4-ary heap.

use std::hint::select_unpredictable;

use crate::program::NONE;

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A request's step of work is done. Slot: exec.
    WorkDone = 0,
    /// A reply reaches its caller. Slot: call.
    Reply = 1,
    /// A fault begins, changes by a step of its ramp, or ends. Slot: the fault's number and which of these.
    Fault = 2,
    /// A try has lasted too long. Slot: call.
    Timeout = 3,
    /// A user request arrives. Slot: arrival stream.
    Arrival = 4,
    /// A request reaches its service or topic. Slot: exec.
    Request = 5,
    /// A wait between tries is over. Slot: call.
    Resend = 6,
    /// A held message may be delivered. Slot: message.
    Message = 7,
    /// Time for a hedged try. Slot: call.
    Hedge = 8,
    /// A closed loop's user has thought enough. Slot: user.
    Think = 9,
    /// Time to look at a service's utilisation. Slot: service.
    Scale = 10,
    /// Callers learn that a replica is down or up, or a new one has started. Slot: replica.
    Notice = 11,
}

const KINDS: [Kind; 16] = [
    Kind::WorkDone,
    Kind::Reply,
    Kind::Fault,
    Kind::Timeout,
    Kind::Arrival,
    Kind::Request,
    Kind::Resend,
    Kind::Message,
    Kind::Hedge,
    Kind::Think,
    Kind::Scale,
    Kind::Notice,
    Kind::Notice,
    Kind::Notice,
    Kind::Notice,
    Kind::Notice,
];

impl Kind {
    /// Completions and responses, then faults, then timeouts, then arrivals and all else.
    #[inline]
    const fn class(self) -> u64 {
        match self {
            Kind::WorkDone | Kind::Reply => 0,
            Kind::Fault => 1,
            Kind::Timeout => 2,
            _ => 3,
        }
    }
}

const KIND_BITS: u32 = 4;
const SLOT_BITS: u32 = 26;
const SEQUENCE_SHIFT: u32 = KIND_BITS + SLOT_BITS;
const CLASS_SHIFT: u32 = 62;
/// Most execs, calls or messages at once.
pub(crate) const MAX_SLOTS: u32 = 1 << SLOT_BITS;
/// Most events that one run may schedule.
pub(crate) const MAX_SEQUENCE: u64 = (1 << (CLASS_SHIFT - SEQUENCE_SHIFT)) - 1;

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Event(u128);

impl Event {
    /// Later than every event.
    pub(crate) const NEVER: Event = Event(u128::MAX);

    #[inline(always)]
    pub(crate) fn new(time: u64, kind: Kind, sequence: u64, slot: u32) -> Self {
        let id = (kind.class() << CLASS_SHIFT) | (sequence << SEQUENCE_SHIFT) | (u64::from(slot) << KIND_BITS) | kind as u64;
        Event((u128::from(time) << 64) | u128::from(id))
    }

    #[inline(always)]
    pub(crate) fn time(self) -> u64 {
        (self.0 >> 64) as u64
    }

    /// Tells it from every other event of the run; never 0.
    #[inline(always)]
    pub(crate) fn id(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    pub(crate) fn kind(self) -> Kind {
        KINDS[(self.0 as usize) & 15]
    }

    #[inline(always)]
    pub(crate) fn slot(self) -> u32 {
        ((self.0 as u64) >> KIND_BITS) as u32 & (MAX_SLOTS - 1)
    }
}

/// A FIFO of events.
#[derive(Clone, Debug)]
struct Lane {
    /// A ring whose length is a power of two.
    ring: Vec<Event>,
    head: usize,
    len: usize,
}

impl Lane {
    fn new() -> Self {
        Lane { ring: vec![Event::NEVER; 16], head: 0, len: 0 }
    }

    #[inline(always)]
    fn push(&mut self, event: Event) {
        if self.len == self.ring.len() {
            self.grow();
        }
        let mask = self.ring.len() - 1;
        self.ring[(self.head + self.len) & mask] = event;
        self.len += 1;
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let events: Vec<Event> = self.iter().collect();
        self.ring = vec![Event::NEVER; 2 * events.len()];
        self.ring[..events.len()].copy_from_slice(&events);
        self.head = 0;
    }

    /// The first; [`Event::NEVER`] if there is none.
    #[inline(always)]
    fn first(&self) -> Event {
        if self.len == 0 { Event::NEVER } else { self.ring[self.head & (self.ring.len() - 1)] }
    }

    /// Takes the first away.
    #[inline(always)]
    fn pop(&mut self) {
        self.head = (self.head + 1) & (self.ring.len() - 1);
        self.len -= 1;
    }

    fn last(&self) -> Option<Event> {
        (self.len > 0).then(|| self.ring[(self.head + self.len - 1) & (self.ring.len() - 1)])
    }

    fn iter(&self) -> impl Iterator<Item = Event> {
        (0..self.len).map(|i| self.ring[(self.head + i) & (self.ring.len() - 1)])
    }
}

/// A 4-ary heap: least first.
#[derive(Clone, Debug)]
struct Heap(Vec<Event>);

impl Heap {
    #[inline]
    fn push(&mut self, item: Event) {
        self.0.push(item);
        let heap = &mut self.0[..];
        let mut at = heap.len() - 1;
        while at > 0 {
            let parent = (at - 1) / 4;
            if heap[parent] <= item {
                break;
            }
            heap[at] = heap[parent];
            at = parent;
        }
        heap[at] = item;
    }

    #[inline]
    fn pop(&mut self) {
        if let Some(last) = self.0.pop()
            && !self.0.is_empty()
        {
            self.replace_top(last);
        }
    }

    /// Puts `item` in the place of the least.
    #[inline]
    fn replace_top(&mut self, item: Event) {
        let heap = &mut self.0[..];
        let mut at = 0;
        while let Some(children) = heap.get(4 * at + 1..) {
            let first = 4 * at + 1;
            let least = match children {
                // Two pairs, then the winners: fewer comparisons that depend on each other, and none that is jumped by.
                [a, b, c, d, ..] => {
                    let (ab, cd) = (usize::from(b < a), 2 + usize::from(d < c));
                    select_unpredictable(children[cd] < children[ab], cd, ab)
                }
                [a, b, c] => {
                    let ab = usize::from(b < a);
                    if *c < children[ab] { 2 } else { ab }
                }
                [a, b] => usize::from(b < a),
                [_] => 0,
                [] => break,
            };
            let child = children[least];
            if child >= item {
                break;
            }
            heap[at] = child;
            at = first + least;
        }
        heap[at] = item;
    }
}

/// The next event, and the lane whose head it is (`NONE`: it lies in the heap). It is still there: [`EventQueue::take`] takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) event: Event,
    lane: u32,
}

/// Most lanes: all heads are looked at whenever one goes.
pub(crate) const MOST_LANES: usize = 12;

/// Pending events.
#[derive(Clone, Debug)]
pub(crate) struct EventQueue {
    heap: Heap,
    lanes: Vec<Lane>,
    /// The head of each lane; [`Event::NEVER`] of an empty one.
    heads: [Event; MOST_LANES],
    /// The earliest of them, and its lane.
    first: (Event, u32),
    sequence: u64,
    /// The heap's top has been taken out and its place not been filled yet: most events schedule another, which then needs one way down
    /// the heap instead of one down and one up.
    hole: bool,
}

impl EventQueue {
    pub(crate) fn new(lanes: u32) -> Self {
        EventQueue {
            heap: Heap(Vec::with_capacity(64)),
            lanes: vec![Lane::new(); lanes as usize],
            heads: [Event::NEVER; MOST_LANES],
            first: (Event::NEVER, 0),
            sequence: 0,
            hole: false,
        }
    }

    /// Schedules an event; returns its id.
    #[inline(always)]
    pub(crate) fn push(&mut self, time: u64, kind: Kind, slot: u32) -> u64 {
        self.sequence += 1;
        let event = Event::new(time, kind, self.sequence, slot);
        if std::mem::replace(&mut self.hole, false) {
            self.heap.replace_top(event);
        } else {
            self.heap.push(event);
        }
        event.id()
    }

    /// Schedules an event of a lane's kind, its length from now (in the heap if `lane` is `NONE`); returns its id.
    #[inline(always)]
    pub(crate) fn push_lane(&mut self, lane: u32, time: u64, kind: Kind, slot: u32) -> u64 {
        if lane == NONE {
            return self.push(time, kind, slot);
        }
        self.sequence += 1;
        let event = Event::new(time, kind, self.sequence, slot);
        let events = &mut self.lanes[lane as usize];
        debug_assert!(events.last().is_none_or(|last| last < event), "a lane is first in, first out");
        if events.len == 0 {
            self.heads[lane as usize] = event;
            if event < self.first.0 {
                self.first = (event, lane);
            }
        }
        events.push(event);
        event.id()
    }

    /// Events scheduled so far.
    pub(crate) fn scheduled(&self) -> u64 {
        self.sequence
    }

    /// The next event; [`Event::NEVER`] if there is none.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Next {
        if std::mem::replace(&mut self.hole, false) {
            self.heap.pop();
        }
        let top = self.heap.0.first().copied().unwrap_or(Event::NEVER);
        let (head, lane) = self.first;
        // Whether it is one or the other cannot be guessed.
        let from_lane = head < top;
        Next { event: select_unpredictable(from_lane, head, top), lane: select_unpredictable(from_lane, lane, NONE) }
    }

    /// Takes the next event, and those behind it in its lane that are `stale`: it costs less to look at them now than to let each become the
    /// head.
    #[inline(always)]
    pub(crate) fn take(&mut self, next: Next, mut stale: impl FnMut(Event) -> bool) {
        if next.lane == NONE {
            self.hole = true;
            return;
        }
        let events = &mut self.lanes[next.lane as usize];
        events.pop();
        while events.len > 0 && stale(events.first()) {
            events.pop();
        }
        self.heads[next.lane as usize] = events.first();
        let (mut first, mut of) = (self.heads[0], 0);
        for lane in 1..self.lanes.len().min(MOST_LANES) {
            let head = self.heads[lane];
            let earlier = head < first;
            first = select_unpredictable(earlier, head, first);
            of = select_unpredictable(earlier, lane as u32, of);
        }
        self.first = (first, of);
    }

    /// All pending events, stale ones included, in no particular order.
    pub(crate) fn pending(&self) -> impl Iterator<Item = Event> {
        self.heap.0[usize::from(self.hole)..].iter().copied().chain(self.lanes.iter().flat_map(Lane::iter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use models::rng::{Key, Purpose};

    fn pop(queue: &mut EventQueue, end: u64) -> Option<Event> {
        let next = queue.next();
        let due = next.event.time() < end;
        due.then(|| {
            queue.take(next, |_| false);
            next.event
        })
    }

    #[test]
    fn an_event_gives_back_what_it_was_made_of() {
        for (i, &kind) in KINDS.iter().enumerate().take(12) {
            assert_eq!(kind as usize, i);
            let event = Event::new(u64::MAX - 1, kind, MAX_SEQUENCE, MAX_SLOTS - 1);
            assert_eq!((event.time(), event.kind(), event.slot()), (u64::MAX - 1, kind, MAX_SLOTS - 1));
            assert!(event < Event::NEVER && event.id() != Event::new(0, kind, MAX_SEQUENCE - 1, MAX_SLOTS - 1).id());
        }
    }

    #[test]
    fn events_leave_by_time_then_class_then_sequence() {
        let mut queue = EventQueue::new(1);
        queue.push(5, Kind::Arrival, 1);
        queue.push_lane(0, 5, Kind::Timeout, 2);
        queue.push(5, Kind::Fault, 3);
        queue.push(5, Kind::Reply, 4);
        queue.push(5, Kind::WorkDone, 5);
        queue.push(4, Kind::Request, 6);
        let slots: Vec<u32> = std::iter::from_fn(|| pop(&mut queue, 6)).map(Event::slot).collect();
        assert_eq!(slots, [6, 4, 5, 3, 2, 1]);
    }

    #[test]
    fn heap_and_lanes_agree_with_a_sort() {
        let mut queue = EventQueue::new(3);
        let mut expected = Vec::new();
        for n in 0..5_000u32 {
            let time = Key(3).draw(Purpose::Fault, n) % 1_000;
            queue.push(time, Kind::WorkDone, n);
            expected.push(Event::new(time, Kind::WorkDone, queue.scheduled(), n));
            let lane = n % 3;
            let due = u64::from(n / 3 + lane * 100);
            queue.push_lane(lane, due, Kind::Timeout, n);
            expected.push(Event::new(due, Kind::Timeout, queue.scheduled(), n));
        }
        expected.sort();
        let popped: Vec<Event> = std::iter::from_fn(|| pop(&mut queue, u64::MAX)).collect();
        assert_eq!(popped, expected);
    }

    #[test]
    fn stale_events_behind_a_lanes_head_go_with_it() {
        let mut queue = EventQueue::new(1);
        for slot in 0..6 {
            queue.push_lane(0, 10 + u64::from(slot), Kind::Timeout, slot);
        }
        let first = queue.next();
        assert_eq!(first.event.slot(), 0);
        queue.take(first, |event| event.slot() < 4);
        let slots: Vec<u32> = std::iter::from_fn(|| pop(&mut queue, 100)).map(Event::slot).collect();
        assert_eq!(slots, [4, 5]);
    }

    #[test]
    fn nothing_leaves_at_or_after_the_end() {
        let mut queue = EventQueue::new(0);
        queue.push(10, Kind::Arrival, 0);
        assert!(pop(&mut queue, 10).is_none());
        assert!(pop(&mut queue, 11).is_some());
    }
}
