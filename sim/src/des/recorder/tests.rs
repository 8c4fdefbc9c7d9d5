//! The recorder against what can be counted by hand, and against itself.

use models::rng::{Key, Purpose, below};

use super::*;
use crate::fixtures::{MALL, program};

/// Random comings and goings at one station.
struct Crowd {
    now: u64,
    present: Vec<u64>,
    busy: u32,
    draws: u32,
}

/// What one step of the crowd is.
#[derive(Clone, Copy, Debug)]
enum Step {
    Comes,
    Goes(u64),
    Starts,
    Stops,
}

impl Crowd {
    fn new() -> Self {
        Crowd { now: 0, present: Vec::new(), busy: 0, draws: 0 }
    }

    fn draw(&mut self, n: u64) -> u64 {
        self.draws += 1;
        below(Key(11).draw(Purpose::Work, self.draws), n)
    }

    fn step(&mut self) -> Step {
        self.now += self.draw(9_000_000);
        match self.draw(4) {
            0 if self.busy < self.present.len() as u32 => {
                let who = self.draw(self.present.len() as u64) as usize;
                Step::Goes(self.present.swap_remove(who))
            }
            1 if self.busy < self.present.len() as u32 => {
                self.busy += 1;
                Step::Starts
            }
            2 if self.busy > 0 => {
                self.busy -= 1;
                Step::Stops
            }
            _ => {
                self.present.push(self.now);
                Step::Comes
            }
        }
    }
}

const NODE: u32 = 3;

fn close(recorder: &mut Recorder, present: &[u64]) {
    #[cfg(debug_assertions)]
    recorder.audit(present.iter().map(|&arrived_at| (NODE, arrived_at)));
    let _ = present;
    recorder.close_bucket(|_| 0);
}

/// Tells a recorder of a crowd's next step, and closes the buckets before it.
fn tell(recorder: &mut Recorder, crowd: &mut Crowd) -> Step {
    let before = crowd.present.clone();
    let step = crowd.step();
    while recorder.bucket_end <= crowd.now {
        close(recorder, &before);
    }
    match step {
        Step::Comes => recorder.arrived(NODE, crowd.now),
        Step::Goes(arrived_at) => recorder.left(NODE, crowd.now, arrived_at, Left::Answered, false),
        Step::Starts => recorder.worker_taken(NODE, crowd.now, 5),
        Step::Stops => recorder.worker_freed(NODE, crowd.now),
    }
    step
}

#[test]
fn integrals_are_those_that_are_counted_step_by_step() {
    let program = program(MALL);
    let mut recorder = Recorder::new(&program.0);
    recorder.keep(&program.0, Keep::Totals, 0);
    let mut crowd = Crowd::new();
    let (mut present, mut busy, mut waits) = (0u128, 0u128, 0u128);
    let mut last = (0, 0, 0);
    for _ in 0..20_000 {
        let step = tell(&mut recorder, &mut crowd);
        let length = u128::from(crowd.now - last.0);
        (present, busy) = (present + length * last.1, busy + length * last.2);
        waits += if matches!(step, Step::Starts) { 5 } else { 0 };
        last = (crowd.now, crowd.present.len() as u128, u128::from(crowd.busy));
    }
    recorder.settle(crowd.now);
    let sums = recorder.node_sums(NODE as usize);
    assert_eq!((sums.present, sums.busy, sums.waits_ns), (present, busy, waits));
    assert!(present > 1_000_000_000_000 && busy > 0 && sums.started > 1_000);
}

#[test]
fn what_came_before_the_warm_up_is_not_in_the_sums() {
    let program = program(MALL);
    let mut recorder = Recorder::new(&program.0);
    recorder.keep(&program.0, Keep::Totals, 100_000_000);
    recorder.arrived(NODE, 40_000_000);
    recorder.worker_taken(NODE, 60_000_000, 7);
    recorder.degraded(NODE);
    recorder.warmed_up(100_000_000);
    recorder.degraded(NODE);
    recorder.left(NODE, 130_000_000, 40_000_000, Left::Answered, true);
    recorder.worker_freed(NODE, 130_000_000);
    recorder.settle(200_000_000);
    let sums = recorder.node_sums(NODE as usize);
    assert_eq!((sums.present, sums.busy, sums.waits_ns), (30_000_000, 30_000_000, 0));
    assert_eq!((sums.degraded, sums.wasted, sums.started), (1, 1, 0));
}

#[test]
fn a_fork_goes_on_as_the_recorder_that_it_was_taken_from() {
    let program = program(MALL);
    let mut whole = Recorder::new(&program.0);
    whole.keep(&program.0, Keep::Judged, 0);
    let mut crowd = Crowd::new();
    while crowd.now < 7_100_000_000 {
        tell(&mut whole, &mut crowd);
    }
    let mut fork = whole.fork();
    fork.judge_from(29, 40, &vec![true; program.0.nodes.len()]);
    let mut same = Crowd { present: crowd.present.clone(), ..crowd };
    while crowd.now < 20_000_000_000 {
        tell(&mut whole, &mut crowd);
        tell(&mut fork, &mut same);
    }
    assert_eq!(fork.own_buckets(), 28..whole.own_buckets().end);
    for bucket in fork.own_buckets() {
        assert_eq!(fork.step(bucket, NODE as usize), whole.step(bucket, NODE as usize), "bucket {bucket}");
    }
}

#[test]
fn totals_keep_nothing_that_grows() {
    let program = program(MALL);
    let mut recorder = Recorder::new(&program.0);
    recorder.keep(&program.0, Keep::Totals, 0);
    recorder.watch_edges(&program.0);
    let mut crowd = Crowd::new();
    while crowd.now < 3_000_000_000 {
        tell(&mut recorder, &mut crowd);
        let number = recorder.user_arrived(0, false);
        recorder.touch(number);
        recorder.user_ended(number, 0, 1_000_000, false);
        recorder.call_ended(0, 1_000_000, 0, false);
    }
    assert_eq!(recorder.own_buckets(), 0..0, "no bucket is kept, though {} were closed", recorder.closed());
    assert_eq!(recorder.users().entry(0).own.us.capacity(), 0);
    recorder.end(crowd.now);
    let totals = recorder.node_totals(0);
    assert!(totals.ended > 300 && totals.latencies.total() == totals.ended);
    let calls = recorder.edge_totals(0).expect("edges are watched");
    assert!(calls.requests > 300 && calls.latencies.total() == calls.requests);
}

#[test]
fn who_leaves_is_counted_by_how() {
    let program = program(MALL);
    let mut recorder = Recorder::new(&program.0);
    recorder.keep(&program.0, Keep::Judged, 0);
    let mut now = 0;
    for how in [Left::Answered, Left::Failed, Left::Refused, Left::Shed, Left::Cancelled, Left::Killed] {
        for late in [false, true] {
            recorder.arrived(NODE, now);
            recorder.left(NODE, now + 10, now, how, late);
            now += 20;
        }
    }
    recorder.connection_error(NODE);
    let topic = program.0.topics[0].node;
    for how in [Left::Answered, Left::Failed, Left::Refused, Left::Shed, Left::Killed] {
        recorder.message_arrived(topic, now);
        recorder.message_left(topic, now + 10, now, how);
        now += 20;
    }
    recorder.redelivered(topic);
    recorder.dead_letter(topic);
    recorder.stale_write(topic);
    recorder.duplicate_effect(topic);
    recorder.message_lost(topic);
    close(&mut recorder, &[]);
    let step = recorder.step(0, NODE as usize);
    assert_eq!((step.ended, step.errors, step.in_flight), (11, 9, 1));
    recorder.end(recorder.bucket_end);
    assert_eq!(recorder.node_totals(NODE as usize).latencies.total(), 10, "a refused connection has no latency");
    assert_eq!(recorder.system()[0].wasted, 2, "work that ended for nobody: an answer and a failure");
    let step = recorder.step(0, topic as usize);
    assert_eq!((step.ended, step.errors), (5, 4));
    assert_eq!(recorder.node_totals(topic as usize).latencies.total(), 2);
    let sums = recorder.node_sums(topic as usize);
    assert_eq!((sums.redelivered, sums.dead_letters, sums.stale_writes, sums.duplicate_effects), (1, 1, 1, 1));
    assert_eq!(sums.lost, 2, "one with its broker, one on its way");
    let SystemStep { dead_letters, stale_writes, duplicate_effects, .. } = recorder.system()[0];
    assert_eq!((dead_letters, stale_writes, duplicate_effects), (1, 1, 1));
}

#[test]
fn a_fork_leaves_what_was_behind() {
    let program = program(MALL);
    let mut recorder = Recorder::new(&program.0);
    recorder.keep(&program.0, Keep::Judged, 0);
    let mut crowd = Crowd::new();
    while crowd.now < 60_000_000_000 {
        tell(&mut recorder, &mut crowd);
        let number = recorder.user_arrived(0, false);
        recorder.user_ended(number, 0, 1_000_000, false);
    }
    let fork = recorder.fork();
    assert!(fork.steps.capacity() == 0 && fork.users().entry(0).own.us.capacity() == 0 && fork.totals.is_empty());
    assert_eq!(fork.users().arrivals(), recorder.users().arrivals());
}
