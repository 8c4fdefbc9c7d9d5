//! The event queue: what happens next, and in which order.
//!
//! You are here: `sim::des::queue`. `des` pops; everything else pushes.
//! Always true: any two events have an order: time, then class, then sequence number; time never runs back.
//! Not here: what an event does.
//!
//! An event is one 128-bit word: time (62 bits) | class (2) | sequence (36) | slot (25) | kind (3). The order of the words is the
//! order of the events, for 146 simulated years and 68 billion events; a run's budget of events is checked to lie below.
//! Sequence numbers are unique, so a slot that remembers the number of the event it waits for knows a stale one.

use std::collections::VecDeque;

/// What may happen, in the order of classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A request's step of work is done. Slot: exec.
    WorkDone = 0,
    /// A reply reaches its caller. Slot: call.
    Reply = 1,
    /// A fault begins or ends. Slot: index in the run's fault edges.
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
}

impl Kind {
    fn class(self) -> u64 {
        match self {
            Kind::WorkDone | Kind::Reply => 0,
            Kind::Fault => 1,
            Kind::Timeout => 2,
            Kind::Arrival | Kind::Request | Kind::Resend | Kind::Message => 3,
        }
    }

    fn of(bits: u64) -> Kind {
        match bits & 7 {
            0 => Kind::WorkDone,
            1 => Kind::Reply,
            2 => Kind::Fault,
            3 => Kind::Timeout,
            4 => Kind::Arrival,
            5 => Kind::Request,
            6 => Kind::Resend,
            _ => Kind::Message,
        }
    }
}

const SLOT_BITS: u32 = 25;
/// Most execs, calls or messages at once.
pub(crate) const MAX_SLOTS: u32 = 1 << SLOT_BITS;
/// Most events that one run may schedule.
pub(crate) const MAX_SEQUENCE: u64 = (1 << 36) - 1;

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Event(u128);

impl Event {
    /// Later than every event.
    pub(crate) const NEVER: Event = Event(u128::MAX);

    #[inline]
    pub(crate) fn new(time: u64, kind: Kind, sequence: u64, slot: u32) -> Self {
        let order = (time << 2) | kind.class();
        let rest = (sequence << (SLOT_BITS + 3)) | (u64::from(slot) << 3) | kind as u64;
        Event((u128::from(order) << 64) | u128::from(rest))
    }

    #[inline]
    pub(crate) fn time(self) -> u64 {
        (self.0 >> 66) as u64
    }

    #[inline]
    pub(crate) fn kind(self) -> Kind {
        Kind::of(self.0 as u64)
    }

    #[inline]
    pub(crate) fn slot(self) -> u32 {
        ((self.0 as u64) >> 3) as u32 & (MAX_SLOTS - 1)
    }

    #[inline]
    pub(crate) fn sequence(self) -> u64 {
        (self.0 as u64) >> (SLOT_BITS + 3)
    }
}

/// Pending events: a 4-ary heap, and beside it a FIFO lane for each distinct timeout (they fall due in the order they were armed).
#[derive(Clone, Debug)]
pub(crate) struct EventQueue {
    heap: Vec<Event>,
    lanes: Vec<VecDeque<Event>>,
    /// The earliest head of a lane, and its lane.
    lane_head: (Event, u32),
    sequence: u64,
}

impl EventQueue {
    pub(crate) fn new(lanes: usize) -> Self {
        EventQueue {
            heap: Vec::with_capacity(256),
            lanes: vec![VecDeque::with_capacity(64); lanes],
            lane_head: (Event::NEVER, 0),
            sequence: 0,
        }
    }

    /// Schedules an event; returns its sequence number.
    #[inline]
    pub(crate) fn push(&mut self, time: u64, kind: Kind, slot: u32) -> u64 {
        self.sequence += 1;
        self.heap.push(Event::new(time, kind, self.sequence, slot));
        self.sift_up(self.heap.len() - 1);
        self.sequence
    }

    /// Arms a timeout of the lane's length; returns its sequence number.
    #[inline]
    pub(crate) fn push_timeout(&mut self, lane: u32, time: u64, slot: u32) -> u64 {
        self.sequence += 1;
        let event = Event::new(time, Kind::Timeout, self.sequence, slot);
        self.lanes[lane as usize].push_back(event);
        if event < self.lane_head.0 {
            self.lane_head = (event, lane);
        }
        self.sequence
    }

    /// Events scheduled so far.
    pub(crate) fn scheduled(&self) -> u64 {
        self.sequence
    }

    /// The next event before `end` (exclusive); `None` if there is none.
    #[inline]
    pub(crate) fn pop_before(&mut self, end: u64) -> Option<Event> {
        let top = self.heap.first().copied().unwrap_or(Event::NEVER);
        if self.lane_head.0 < top {
            if self.lane_head.0.time() >= end {
                return None;
            }
            return Some(self.pop_lane());
        }
        if top.time() >= end {
            return None;
        }
        let last = self.heap.pop().expect("the heap has a top");
        if !self.heap.is_empty() {
            self.heap[0] = last;
            self.sift_down();
        }
        Some(top)
    }

    fn pop_lane(&mut self) -> Event {
        let (event, lane) = self.lane_head;
        self.lanes[lane as usize].pop_front();
        self.lane_head = (Event::NEVER, 0);
        for (lane, events) in self.lanes.iter().enumerate() {
            if let Some(&head) = events.front()
                && head < self.lane_head.0
            {
                self.lane_head = (head, lane as u32);
            }
        }
        event
    }

    fn sift_up(&mut self, mut at: usize) {
        let event = self.heap[at];
        while at > 0 {
            let parent = (at - 1) / 4;
            if self.heap[parent] <= event {
                break;
            }
            self.heap[at] = self.heap[parent];
            at = parent;
        }
        self.heap[at] = event;
    }

    fn sift_down(&mut self) {
        let heap = &mut self.heap[..];
        let event = heap[0];
        let mut at = 0;
        while let Some(children) = heap.get(4 * at + 1..) {
            let (least, child) = match *children {
                // Two pairs, then the winners: fewer comparisons that depend on each other.
                [a, b, c, d, ..] => {
                    let (ab, cd) = (if b < a { (1, b) } else { (0, a) }, if d < c { (3, d) } else { (2, c) });
                    if cd.1 < ab.1 { cd } else { ab }
                }
                [a, b, c] => [(0, a), (1, b), (2, c)].into_iter().min_by_key(|&(_, event)| event).unwrap_or((0, a)),
                [a, b] => {
                    if b < a {
                        (1, b)
                    } else {
                        (0, a)
                    }
                }
                [a] => (0, a),
                [] => break,
            };
            if child >= event {
                break;
            }
            heap[at] = child;
            at = 4 * at + 1 + least;
        }
        heap[at] = event;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use models::rng::{Key, Purpose};

    #[test]
    fn an_event_gives_back_what_it_was_made_of() {
        let event = Event::new(36_000_000_000_000, Kind::Message, MAX_SEQUENCE, MAX_SLOTS - 1);
        assert_eq!((event.time(), event.kind()), (36_000_000_000_000, Kind::Message));
        assert_eq!((event.sequence(), event.slot()), (MAX_SEQUENCE, MAX_SLOTS - 1));
    }

    #[test]
    fn events_leave_by_time_then_class_then_sequence() {
        let mut queue = EventQueue::new(1);
        queue.push(5, Kind::Arrival, 1);
        queue.push_timeout(0, 5, 2);
        queue.push(5, Kind::Fault, 3);
        queue.push(5, Kind::Reply, 4);
        queue.push(5, Kind::WorkDone, 5);
        queue.push(4, Kind::Request, 6);
        let slots: Vec<u32> = std::iter::from_fn(|| queue.pop_before(6)).map(Event::slot).collect();
        assert_eq!(slots, [6, 4, 5, 3, 2, 1]);
    }

    #[test]
    fn heap_and_lanes_agree_with_a_sort() {
        let mut queue = EventQueue::new(3);
        let mut expected = Vec::new();
        for n in 0..5_000u32 {
            let time = Key(3).draw(Purpose::Fault, n) % 1_000;
            let sequence = queue.push(time, Kind::WorkDone, n);
            expected.push(Event::new(time, Kind::WorkDone, sequence, n));
            let lane = n % 3;
            let due = u64::from(n / 3 + lane * 100);
            let sequence = queue.push_timeout(lane, due, n);
            expected.push(Event::new(due, Kind::Timeout, sequence, n));
        }
        expected.sort();
        let popped: Vec<Event> = std::iter::from_fn(|| queue.pop_before(u64::MAX >> 2)).collect();
        assert_eq!(popped, expected);
    }

    #[test]
    fn nothing_leaves_at_or_after_the_end() {
        let mut queue = EventQueue::new(0);
        queue.push(10, Kind::Arrival, 0);
        assert!(queue.pop_before(10).is_none());
        assert!(queue.pop_before(11).is_some());
    }
}
