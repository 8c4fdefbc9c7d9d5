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
//! Three tiers. The *wheel* has 64 groups or more, each of a short span of time and with room for four events in one cache line: the next spans from now on. What
//! finds its group full, or falls due later, lies in a 4-ary *heap*, or, if it is of a kind whose events fall due in the order in which they are scheduled (all
//! timeouts of one length, all requests over links of one latency), in a FIFO *lane*, which the commonest such kinds have. The next event is
//! the earliest of the wheel's, the heap's and the lanes'; it is looked for as soon as the one before it is taken, so that the processor has it long
//! before it needs it. The span follows the pace of the events, and the number of groups how many there are, so that few miss the wheel.

use std::hint::select_unpredictable;

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

impl Kind {
    /// The kind with this number.
    #[inline]
    fn of(number: u8) -> Self {
        match number {
            0 => Kind::WorkDone,
            1 => Kind::Reply,
            2 => Kind::Fault,
            3 => Kind::Timeout,
            4 => Kind::Arrival,
            5 => Kind::Request,
            6 => Kind::Resend,
            7 => Kind::Message,
            8 => Kind::Hedge,
            9 => Kind::Think,
            10 => Kind::Scale,
            _ => Kind::Notice,
        }
    }

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
        Kind::of(self.kind_number())
    }

    /// The number of its kind.
    #[inline(always)]
    pub(crate) fn kind_number(self) -> u8 {
        self.0 as u8 & 15
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

/// Most lanes: all heads are looked at whenever one goes.
pub(crate) const MOST_LANES: usize = 12;

/// Groups of the wheel: at first, and at most.
const FEWEST_GROUPS: usize = 64;
const MOST_GROUPS: usize = 512;
/// Words whose bits are the groups.
const WORDS: usize = MOST_GROUPS / 64;
/// Events that a group has room for.
const ROOM: usize = 4;
/// All places of a group are taken.
const FULL: u8 = (1 << ROOM) - 1;
/// The place of the next event if it is not in the wheel.
const ELSEWHERE: u32 = u32::MAX;
/// The wheel is thought over whenever so many events have missed it.
const MISSES: u32 = 1024;
/// It grows if that is more than one of so many.
const MANY_MISSES: u64 = 5;

/// The events of one span of time, in no order; [`Event::NEVER`] where there is none. One cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Group([Event; ROOM]);

const _: () = assert!(size_of::<Group>() == 64);

impl Group {
    const EMPTY: Group = Group([Event::NEVER; ROOM]);

    /// The least, and its place. Which one it is cannot be guessed, so nothing is jumped by.
    #[inline(always)]
    fn least(&self) -> (Event, u32) {
        let [a, b, c, d] = self.0;
        let (first, second) = (b < a, d < c);
        let (ab, cd) = (select_unpredictable(first, b, a), select_unpredictable(second, d, c));
        let later = cd < ab;
        (select_unpredictable(later, cd, ab), select_unpredictable(later, 2 + u32::from(second), u32::from(first)))
    }
}

/// Pending events.
#[derive(Clone, Debug)]
pub(crate) struct EventQueue {
    /// The next event, known as soon as the one before it is taken, and its place in its group, or [`ELSEWHERE`].
    next: Event,
    place: u32,
    /// Binary logarithm of a group's span in nanoseconds.
    shift: u32,
    /// Bits of the groups that have any event.
    groups: [u64; WORDS],
    /// Number of groups, a power of two, less 1.
    last: u64,
    /// The last event's time, as a number of groups.
    turn: u64,
    sequence: u64,
    /// The earliest of those in the heap and in the lanes.
    elsewhere: Event,
    /// Events that found their group full, and that fell due beyond the wheel, since its span was last thought over.
    collided: u32,
    beyond: u32,
    /// The sequence number at which that was.
    thought_over: u64,
    /// Bits of the places of each group that hold an event.
    taken: [u8; MOST_GROUPS],
    /// `wheel[(time >> shift) & last]`: the events of that span.
    wheel: [Group; MOST_GROUPS],
    heap: Heap,
    lanes: Vec<Lane>,
    /// The head of each lane; [`Event::NEVER`] of an empty one.
    heads: [Event; MOST_LANES],
    /// The earliest of them, and its lane.
    first: (Event, u32),
    /// Events fall due at whole multiples of this alone, later rather than earlier; 0: at any nanosecond.
    quantum: u64,
}

impl EventQueue {
    pub(crate) fn new(lanes: u32, quantum: u64) -> Self {
        EventQueue {
            quantum,
            next: Event::NEVER,
            place: ELSEWHERE,
            shift: 19, // half a millisecond
            groups: [0; WORDS],
            last: FEWEST_GROUPS as u64 - 1,
            turn: 0,
            sequence: 0,
            elsewhere: Event::NEVER,
            collided: 0,
            beyond: 0,
            thought_over: 0,
            taken: [0; MOST_GROUPS],
            wheel: [Group::EMPTY; MOST_GROUPS],
            heap: Heap(Vec::with_capacity(64)),
            lanes: vec![Lane::new(); lanes as usize],
            heads: [Event::NEVER; MOST_LANES],
            first: (Event::NEVER, 0),
        }
    }

    /// When the clock can first say so.
    #[inline(always)]
    fn on_clock(&self, time: u64) -> u64 {
        if self.quantum == 0 { time } else { time.next_multiple_of(self.quantum) }
    }

    /// Schedules an event; returns its id.
    #[inline(always)]
    pub(crate) fn push(&mut self, time: u64, kind: Kind, slot: u32) -> u64 {
        let time = self.on_clock(time);
        self.sequence += 1;
        let event = Event::new(time, kind, self.sequence, slot);
        if !self.put(event) {
            self.push_heap(event);
        }
        event.id()
    }

    #[inline(never)]
    fn push_heap(&mut self, event: Event) {
        self.heap.push(event);
        self.is_elsewhere(event);
    }

    /// An event is the first of its lane, or in the heap.
    #[inline(always)]
    fn is_elsewhere(&mut self, event: Event) {
        self.elsewhere = self.elsewhere.min(event);
        if event < self.next {
            (self.next, self.place) = (event, ELSEWHERE);
        }
    }

    /// Schedules an event of a lane's kind, its length from now (of no lane if `lane` is `NONE`); returns its id.
    #[inline(always)]
    pub(crate) fn push_lane(&mut self, lane: u32, time: u64, kind: Kind, slot: u32) -> u64 {
        let time = self.on_clock(time);
        self.sequence += 1;
        let event = Event::new(time, kind, self.sequence, slot);
        // Most timeouts are stale long before they fall due: they are not to take others' places.
        if kind != Kind::Timeout && self.put(event) {
            return event.id();
        }
        let Some(events) = self.lanes.get_mut(lane as usize) else {
            self.push_heap(event);
            return event.id();
        };
        debug_assert!(events.last().is_none_or(|last| last < event), "a lane is first in, first out");
        let is_head = events.len == 0;
        events.push(event);
        if is_head {
            self.heads[lane as usize] = event;
            if event < self.first.0 {
                self.first = (event, lane);
                self.is_elsewhere(event);
            }
        }
        event.id()
    }

    /// Puts an event into the wheel, if there is room for it.
    #[inline(always)]
    fn put(&mut self, event: Event) -> bool {
        let group = event.time() >> self.shift;
        let ahead = group - self.turn;
        let group = (group & self.last) as usize % MOST_GROUPS;
        let taken = self.taken[group];
        if ahead <= self.last && taken != FULL {
            let place = taken.trailing_ones();
            self.taken[group] = taken | (taken + 1);
            self.groups[group / 64] |= 1 << (group % 64);
            self.wheel[group].0[place as usize % ROOM] = event;
            if event < self.next {
                (self.next, self.place) = (event, place);
            }
            return true;
        }
        if ahead <= self.last {
            self.collided += 1;
        } else {
            self.beyond += 1;
        }
        if self.collided + self.beyond >= MISSES {
            self.adapt();
        }
        false
    }

    /// Makes the wheel's span longer if too many events fall due beyond it, shorter if too many find their groups full; and the wheel larger if too
    /// many do either.
    #[cold]
    #[inline(never)]
    fn adapt(&mut self) {
        let (collided, beyond) = (self.collided, self.beyond);
        let scheduled = self.sequence - self.thought_over;
        (self.collided, self.beyond, self.thought_over) = (0, 0, self.sequence);
        let mut shift = self.shift;
        if collided > 2 * beyond {
            shift = shift.saturating_sub(1);
        } else if beyond > 2 * collided {
            shift = (shift + 1).min(40);
        } else if u64::from(MISSES) * MANY_MISSES > scheduled && self.last < MOST_GROUPS as u64 - 1 {
            self.last = 2 * self.last + 1;
        } else {
            return;
        }
        // The last event's time is known to a group, not to the nanosecond: with a shorter span it keeps where that one began.
        self.turn = if shift < self.shift { self.turn << 1 } else { self.turn >> (shift - self.shift) };
        self.shift = shift;
        let wheel = std::mem::replace(&mut self.wheel, [Group::EMPTY; MOST_GROUPS]);
        (self.taken, self.groups) = ([0; MOST_GROUPS], [0; WORDS]);
        for event in held(&wheel) {
            if !self.put(event) {
                self.push_heap(event);
            }
        }
        self.find();
    }

    /// Events scheduled so far.
    pub(crate) fn scheduled(&self) -> u64 {
        self.sequence
    }

    /// The next event; [`Event::NEVER`] if there is none.
    #[inline(always)]
    pub(crate) fn next(&self) -> Event {
        self.next
    }

    /// Finds the next event: the earliest of the wheel's first group that has any, from the turn's on, or the earliest elsewhere.
    #[inline(always)]
    fn find(&mut self) {
        let turn = (self.turn & self.last) as usize % MOST_GROUPS;
        let ahead = self.groups[turn / 64] >> (turn % 64);
        let group = if ahead == 0 { self.turn_the_page(turn) } else { turn + ahead.trailing_zeros() as usize };
        let (nearest, place) = self.wheel[group % MOST_GROUPS].least();
        let near = nearest < self.elsewhere;
        self.next = select_unpredictable(near, nearest, self.elsewhere);
        self.place = select_unpredictable(near, place, ELSEWHERE);
    }

    /// The first group that has any event, looked for behind the word that the turn is in; if none has any, some empty one.
    #[inline(always)]
    fn turn_the_page(&self, turn: usize) -> usize {
        let words = (self.last / 64) as usize + 1;
        for next in 1..=words {
            let word = (turn / 64 + next) & (words - 1);
            if self.groups[word % WORDS] != 0 {
                return 64 * (word % WORDS) + self.groups[word % WORDS].trailing_zeros() as usize;
            }
        }
        turn
    }

    /// Takes the next event away, and those behind it in its lane that are `stale`: it costs less to look at them now than to let each
    /// become the head.
    #[inline(always)]
    pub(crate) fn take(&mut self, stale: impl Fn(Event) -> bool) {
        self.turn = self.next.time() >> self.shift;
        if self.place == ELSEWHERE {
            self.take_elsewhere(stale);
        } else {
            let group = (self.turn & self.last) as usize % MOST_GROUPS;
            self.wheel[group].0[self.place as usize % ROOM] = Event::NEVER;
            let taken = self.taken[group] & !(1 << self.place);
            self.taken[group] = taken;
            self.groups[group / 64] &= !(u64::from(taken == 0) << (group % 64));
        }
        self.find();
    }

    #[inline(never)]
    fn take_elsewhere(&mut self, stale: impl Fn(Event) -> bool) {
        if self.first.0 == self.elsewhere {
            self.take_head(stale);
        } else {
            self.heap.pop();
        }
        self.elsewhere = self.heap.0.first().map_or(self.first.0, |&top| top.min(self.first.0));
    }

    #[inline(always)]
    fn take_head(&mut self, stale: impl Fn(Event) -> bool) {
        let lane = self.first.1 as usize;
        let events = &mut self.lanes[lane];
        events.pop();
        while events.len > 0 && stale(events.first()) {
            events.pop();
        }
        self.heads[lane] = events.first();
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
        held(&self.wheel).chain(self.heap.0.iter().copied()).chain(self.lanes.iter().flat_map(Lane::iter))
    }
}

/// The events that a wheel holds.
fn held(wheel: &[Group; MOST_GROUPS]) -> impl Iterator<Item = Event> {
    wheel.iter().flat_map(|group| group.0).filter(|&event| event != Event::NEVER)
}

#[cfg(test)]
mod tests;
