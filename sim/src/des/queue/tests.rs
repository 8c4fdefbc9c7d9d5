//! Whatever lies where, events come in their order.

use std::collections::BTreeSet;

use super::*;
use models::rng::{Key, Purpose};

fn pop(queue: &mut EventQueue, end: u64) -> Option<Event> {
    let next = queue.next();
    let due = next.time() < end;
    due.then(|| {
        queue.take(|_| false);
        next
    })
}

#[test]
fn an_event_gives_back_what_it_was_made_of() {
    for kind in (0..12).map(Kind::of) {
        let event = Event::new(u64::MAX - 1, kind, MAX_SEQUENCE, MAX_SLOTS - 1);
        assert_eq!((event.time(), event.kind(), event.slot()), (u64::MAX - 1, kind, MAX_SLOTS - 1));
        assert!(event < Event::NEVER && event.id() != Event::new(0, kind, MAX_SEQUENCE - 1, MAX_SLOTS - 1).id());
    }
}

#[test]
fn events_leave_by_time_then_class_then_sequence() {
    let mut queue = EventQueue::new(1, 0);
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
    let mut queue = EventQueue::new(3, 0);
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
    let mut queue = EventQueue::new(1, 0);
    for slot in 0..6 {
        queue.push_lane(0, 10 + u64::from(slot), Kind::Timeout, slot);
    }
    let first = queue.next();
    assert_eq!(first.slot(), 0);
    queue.take(|event| event.slot() < 4);
    let slots: Vec<u32> = std::iter::from_fn(|| pop(&mut queue, 100)).map(Event::slot).collect();
    assert_eq!(slots, [4, 5]);
}

#[test]
fn the_earliest_leaves_first_however_many_there_are() {
    let mut queue = EventQueue::new(1, 0);
    let mut pending = BTreeSet::new();
    let mut now = 0;
    let take = |queue: &mut EventQueue, pending: &mut BTreeSet<Event>| {
        let event = pop(queue, u64::MAX);
        assert_eq!(event, pending.pop_first());
        event.map(Event::time)
    };
    for n in 0..30_000u32 {
        // Crowds at one instant, then a few far apart, then crowds again: every tier and every span of the wheel.
        let gap = match n / 2_000 % 3 {
            0 => 0,
            1 => Key(5).draw(Purpose::Fault, n) % 1_000_000_000,
            _ => Key(5).draw(Purpose::Fault, n) % 64,
        };
        queue.push(now + gap, Kind::WorkDone, n);
        pending.insert(Event::new(now + gap, Kind::WorkDone, queue.scheduled(), n));
        queue.push_lane(0, now + 500, Kind::Request, n);
        pending.insert(Event::new(now + 500, Kind::Request, queue.scheduled(), n));
        for _ in 0..Key(6).draw(Purpose::Fault, n) % 5 {
            now = take(&mut queue, &mut pending).unwrap_or(now);
        }
    }
    while take(&mut queue, &mut pending).is_some() {}
}

#[test]
fn nothing_leaves_at_or_after_the_end() {
    let mut queue = EventQueue::new(0, 0);
    queue.push(10, Kind::Arrival, 0);
    assert!(pop(&mut queue, 10).is_none());
    assert!(pop(&mut queue, 11).is_some());
}
