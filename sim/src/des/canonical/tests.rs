//! No two states that go on differently have equal words: everything that a step can see is changed, one by one.

use scenarios::scenario::Scenario;

use super::*;
use crate::des::{FaultPlan, Keep};
use crate::fixtures::{EVERYTHING, MALL, faults, program};
use crate::program::Program;

mod changes;

use changes::{Change, changes, client, control};

const SECOND: u64 = 1_000_000_000;
/// The service that is scaled, and warms up.
const SCALED: u32 = 6;

fn start(program: &Program, load: f64, seed: u64) -> State {
    let mut state = State::new(&program.0, load, seed);
    state.recorder.keep(&program.0, Keep::Judged, 0);
    state
}

fn at(program: &Program, load: f64, seed: u64, second: u64) -> State {
    let mut state = start(program, load, seed);
    state.run_until(&program.0, second * SECOND, u64::MAX);
    state
}

fn words(program: &Program, state: &State) -> Vec<u64> {
    let mut words = Vec::new();
    assert!(state.canonical(&program.0, &mut words), "no two things have the same key");
    words
}

/// Two events fall due at the same time, in the other order.
fn same_time(first_is_first: bool) -> impl Fn(&mut State) -> bool {
    move |s| {
        let events = || s.queue.pending().filter(|event| event.kind() == Kind::WorkDone && s.is_awaited(*event));
        let slots: Vec<u32> = events().map(|event| event.slot()).collect();
        let [mut a, mut b, ..] = slots[..] else { return false };
        if !first_is_first {
            (a, b) = (b, a);
        }
        for x in [a, b] {
            s.execs[x].event = s.queue.push(s.now + SECOND, Kind::WorkDone, x);
        }
        true
    }
}

#[test]
fn whatever_a_step_can_see_is_among_the_words() {
    let everything = program(EVERYTHING);
    let states: Vec<State> = [(2, 1.0), (3, 1.3), (4, 1.6), (5, 2.0), (6, 2.3)]
        .iter()
        .flat_map(|&(seed, load)| [7, 9, 14, 22].map(|second| at(&everything, load, seed, second)))
        .collect();
    let all: Vec<Vec<u64>> = states.iter().map(|state| words(&everything, state)).collect();
    let mut missing = Vec::new();
    for (what, change) in changes() {
        let mut found = false;
        for (state, words) in states.iter().zip(&all) {
            let mut changed = state.clone();
            if change(&mut changed) {
                found = true;
                assert!(!changed.has_words(&everything.0, words), "{what} makes no difference at {} s", state.now / SECOND);
                let mut others = Vec::new();
                assert!(!changed.canonical(&everything.0, &mut others) || others != *words, "{what}");
            }
        }
        if !found {
            missing.push(what);
        }
    }
    assert!(missing.is_empty(), "none of the states has: {missing:?}");
}

#[test]
fn a_state_has_its_own_words_and_no_part_of_them() {
    for system in [MALL, EVERYTHING] {
        let program = program(system);
        let state = at(&program, 1.2, 4, 12);
        let mut words = words(&program, &state);
        assert!(state.has_words(&program.0, &words));
        assert!(!state.has_words(&program.0, &words[..words.len() - 1]));
        words.push(0);
        assert!(!state.has_words(&program.0, &words));
    }
}

#[test]
fn another_second_seed_load_or_fault_has_other_words() {
    let mall = program(MALL);
    let here = words(&mall, &at(&mall, 1.0, 4, 12));
    let mut shifted = at(&mall, 1.0, 4, 13);
    assert!(!shifted.has_words(&mall.0, &here));
    shifted.now = 12 * SECOND;
    assert!(!shifted.has_words(&mall.0, &here), "nor if the clock is put back");
    assert!(!at(&mall, 1.0, 5, 12).has_words(&mall.0, &here));
    assert!(!at(&mall, 1.1, 4, 12).has_words(&mall.0, &here));
    for scenario in faults(MALL) {
        let plan = FaultPlan::new(&mall, &scenario).expect("it fits");
        let (Some(starts), Some(clears)) = (plan.start, plan.clear) else { continue };
        if starts.as_nanos() > 15 * SECOND {
            continue;
        }
        let mut state = start(&mall, scenario.load(), 4);
        state.arm(&plan);
        let during = (starts.as_nanos() / SECOND + 1).min(clears.as_nanos() / SECOND);
        state.run_until(&mall.0, during * SECOND, u64::MAX);
        let twin = at(&mall, scenario.load(), 4, during);
        assert!(!state.has_words(&mall.0, &words(&mall, &twin)), "{} is on, or about to end", scenario.id);
    }
}

#[test]
fn a_fault_that_is_still_to_come_is_seen() {
    let mall = program(MALL);
    let faults: Vec<Scenario> = faults(MALL);
    let slow = faults.iter().find(|s| s.id == "late").expect("it is there");
    let mut state = start(&mall, 1.0, 4);
    state.arm(&FaultPlan::new(&mall, slow).expect("it fits"));
    state.run_until(&mall.0, 12 * SECOND, u64::MAX);
    let twin = at(&mall, 1.0, 4, 12);
    assert_eq!((state.digest, state.events), (twin.digest, twin.events), "nothing has happened yet");
    assert!(!state.has_words(&mall.0, &words(&mall, &twin)));
}

#[test]
fn what_no_step_can_see_makes_no_difference() {
    let everything = program(EVERYTHING);
    let state = at(&everything, 1.3, 3, 14);
    let words = words(&everything, &state);
    let unseen: Vec<(&str, Change)> = vec![
        (
            "the digest",
            Box::new(|s| {
                s.digest ^= 1;
                true
            }),
        ),
        (
            "the number of events",
            Box::new(|s| {
                s.events += 1;
                true
            }),
        ),
        (
            "how often slots were used",
            Box::new(|s| {
                s.generation += 7;
                true
            }),
        ),
        (
            "slots in reserve",
            Box::new(|s| {
                let (x, c) = (s.execs.reserve(), s.calls.reserve());
                s.execs[x].phase = Phase::Free;
                s.execs.remove(x);
                s.calls[c].open = false;
                s.calls.remove(c);
                true
            }),
        ),
        (
            "events that nobody waits for",
            Box::new(|s| {
                let open = (0..s.calls.slots()).find(|&c| s.calls[c].open).expect("some call is open");
                s.queue.push(s.now + SECOND, Kind::Resend, open);
                true
            }),
        ),
        (
            "sequence numbers",
            Box::new(|s| {
                // All ends of work are scheduled anew, in their order.
                let mut events: Vec<Event> =
                    s.queue.pending().filter(|e| e.kind() == Kind::WorkDone && s.is_awaited(*e)).collect();
                events.sort_unstable();
                for event in events {
                    s.execs[event.slot()].event = s.queue.push(event.time(), Kind::WorkDone, event.slot());
                }
                true
            }),
        ),
        (
            "how many messages came before",
            Box::new(|s| {
                for t in &mut s.topics {
                    t.versions += 5;
                    t.applied.iter_mut().for_each(|version| *version += 5);
                }
                (0..s.messages.slots()).for_each(|m| s.messages[m].version += 5);
                true
            }),
        ),
        (
            "how a full budget came to be full",
            client(|c| {
                let full = c.budget.tokens >= 10 * crate::program::TOKEN;
                if full {
                    c.budget.filled_at = 0
                }
                full
            }),
        ),
        (
            "arrivals long ago",
            control(|c| {
                let next = ((c.slot + 1) % 20) as usize;
                // The slot that is next to be used holds what is more than a second old, once time has moved on.
                (c.arrivals[next], c.slot) = (9, c.slot);
                c.slot * 50_000_000 + 50_000_000 <= 13 * SECOND
            }),
        ),
    ];
    for (what, change) in unseen {
        let mut changed = state.clone();
        if change(&mut changed) {
            assert!(changed.has_words(&everything.0, &words), "{what}");
        }
    }
}

#[test]
fn the_order_of_events_at_the_same_time_is_seen() {
    let mall = program(MALL);
    let state = at(&mall, 1.5, 4, 12);
    let (mut one, mut other) = (state.clone(), state);
    assert!(same_time(true)(&mut one) && same_time(false)(&mut other));
    assert!(!other.has_words(&mall.0, &words(&mall, &one)));
}

#[test]
fn how_many_replicas_would_do_is_seen_where_fewer_would() {
    let everything = program(EVERYTHING);
    let mut state = at(&everything, 1.3, 3, 14);
    let mut other = state.clone();
    other.services[SCALED as usize].fewer += 1;
    let here = words(&everything, &state);
    assert!(other.has_words(&everything.0, &here), "nobody looks at it");
    for state in [&mut state, &mut other] {
        state.services[SCALED as usize].fewer_since = state.now - 1;
    }
    assert!(!other.has_words(&everything.0, &words(&everything, &state)));
}

#[test]
fn two_things_of_one_name_have_no_words() {
    let mall = program(MALL);
    let mut state = at(&mall, 1.5, 4, 12);
    let live: Vec<u32> = (0..state.execs.slots()).filter(|&x| state.execs[x].phase != Phase::Free).collect();
    state.execs[live[0]].key = state.execs[live[1]].key;
    assert!(!state.canonical(&mall.0, &mut Vec::new()));
    assert!(!state.has_words(&mall.0, &[]));
}
