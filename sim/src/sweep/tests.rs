//! Nobody can tell from a record what was simulated for it, on how many threads, or beside which other runs.

use super::*;
use crate::fixtures::{EVERYTHING, MALL, faults, program};

fn options(seeds: std::ops::Range<u64>, seconds: u64) -> SweepOptions {
    SweepOptions {
        seeds: seeds.collect(),
        horizon: Nanos::from_secs(seconds),
        warm_up: Nanos::from_secs(5),
        threads: 2,
        max_events: u64::MAX,
        model_hash: [0; 4],
        shortcuts: Shortcuts::All,
        engine: Engine::Kernel,
    }
}

fn records(program: &Program, scenarios: &[Scenario], options: &SweepOptions, done: &BTreeSet<(usize, u64)>) -> Vec<RunRecord> {
    let mut records = Vec::new();
    let mut sink = |record| {
        records.push(record);
        ControlFlow::Continue(())
    };
    let notes = sweep(program, scenarios, options, done, &mut sink, &|_| {}, &AtomicBool::new(false)).expect("it runs");
    assert!(!notes.stopped && notes.runs == records.len());
    records
}

/// All that is not said of how the record came about.
fn whole(records: &[RunRecord]) -> Vec<RunRecord> {
    records.iter().cloned().map(|record| RunRecord { coalesced_at_s: None, ..record }).collect()
}

#[test]
fn forked_and_spliced_runs_have_the_records_of_whole_ones() {
    for (system, seconds, least) in [(MALL, 40, 30), (EVERYTHING, 30, 12)] {
        let (program, scenarios) = (program(system), faults(system));
        let with =
            |shortcuts| records(&program, &scenarios, &SweepOptions { shortcuts, ..options(1..4, seconds) }, &BTreeSet::new());
        let full = with(Shortcuts::None);
        let (forked, spliced) = (with(Shortcuts::ForkOnly), with(Shortcuts::All));
        assert_eq!(full.len(), 3 * scenarios.len());
        for ((full, forked), spliced) in full.iter().zip(&forked).zip(&whole(&spliced)) {
            assert_eq!(full, forked, "{} {}", full.scenario, full.seed);
            assert_eq!(full, spliced, "{} {}", full.scenario, full.seed);
        }
        let coalesced: Vec<&RunRecord> = spliced.iter().filter(|record| record.coalesced_at_s.is_some()).collect();
        assert!(coalesced.len() >= least, "{} of {} became their twins", coalesced.len(), spliced.len());
        assert!(coalesced.iter().any(|record| record.failed > record.twin_failed), "some of them had been hurt");
        assert!(coalesced.iter().all(|record| record.coalesced_at_s > Some(record.clear_s)));
        let late = spliced.iter().filter(|record| record.clear_s > seconds as f64);
        assert!(late.clone().count() > 0 || system == EVERYTHING);
        assert!(late.clone().all(|record| record.coalesced_at_s.is_none()), "faults that last to the end");
    }
}

#[test]
fn records_do_not_depend_on_threads_or_on_what_else_is_run() {
    let (program, scenarios) = (program(MALL), faults(MALL));
    let all = records(&program, &scenarios, &options(1..4, 30), &BTreeSet::new());
    for threads in [1, 3, 5] {
        let again = records(&program, &scenarios, &SweepOptions { threads, ..options(1..4, 30) }, &BTreeSet::new());
        assert_eq!(again, all, "{threads} threads");
    }
    // The second half of an interrupted sweep; and one scenario alone.
    let done: BTreeSet<(usize, u64)> = (0..scenarios.len()).flat_map(|i| (1..4).map(move |seed| (i, seed))).collect();
    let done: BTreeSet<(usize, u64)> = done.into_iter().filter(|&(i, seed)| seed == 1 || seed == 2 && i % 2 == 0).collect();
    let rest = records(&program, &scenarios, &options(1..4, 30), &done);
    let of = |record: &&RunRecord| {
        let i = scenarios.iter().position(|s| s.id == record.scenario).expect("one of them");
        !done.contains(&(i, record.seed))
    };
    assert_eq!(rest.iter().collect::<Vec<_>>(), all.iter().filter(of).collect::<Vec<_>>());
    let alone = records(&program, &scenarios[1..2], &options(2..3, 30), &BTreeSet::new());
    assert_eq!(alone, all.iter().filter(|r| r.scenario == scenarios[1].id && r.seed == 2).cloned().collect::<Vec<_>>());
}

#[test]
fn more_starts_than_snapshots_change_nothing() {
    let program = program(MALL);
    let one = faults(MALL).into_iter().find(|s| s.id == "hole-bank").expect("it is there");
    let scenarios: Vec<Scenario> = (0..70u64)
        .map(|n| {
            let mut scenario = one.clone();
            scenario.id = format!("hole-{n}");
            scenario.faults[0].start = models::units::SimTime::from_nanos(6_000_000_000 + n * 170_000_000);
            scenario
        })
        .collect();
    let with = |shortcuts| records(&program, &scenarios, &SweepOptions { shortcuts, ..options(1..2, 24) }, &BTreeSet::new());
    assert_eq!(whole(&with(Shortcuts::All)), with(Shortcuts::None));
}

#[test]
fn a_budget_of_events_ends_a_run_wherever_it_came_from() {
    let (program, scenarios) = (program(MALL), faults(MALL));
    let mut ends = BTreeSet::new();
    // From too few to reach the faults to enough for all but the busiest.
    for max_events in [3_000, 12_000, 25_000, 30_000, 50_000] {
        let with = |shortcuts| {
            let options = SweepOptions { shortcuts, max_events, ..options(1..2, 30) };
            records(&program, &scenarios, &options, &BTreeSet::new())
        };
        let full = with(Shortcuts::None);
        assert_eq!(with(Shortcuts::ForkOnly), full, "{max_events}");
        assert_eq!(whole(&with(Shortcuts::All)), full, "{max_events}");
        ends.insert(full.iter().filter(|record| record.truncated).count());
    }
    assert!(ends.contains(&scenarios.len()) && ends.iter().any(|&n| n > 0 && n < scenarios.len()), "{ends:?}");
}

#[test]
fn a_sweep_can_be_stopped_and_says_so() {
    let (program, scenarios) = (program(MALL), faults(MALL));
    let stop = AtomicBool::new(false);
    let mut taken = 0;
    let mut sink = |_| {
        taken += 1;
        if taken == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let notes = sweep(&program, &scenarios, &options(1..4, 20), &BTreeSet::new(), &mut sink, &|_| {}, &stop).expect("it runs");
    assert_eq!((notes.runs, notes.stopped, taken), (5, true, 5));
    stop.store(true, Ordering::Relaxed);
    let mut sink = |_| ControlFlow::Continue(());
    let notes = sweep(&program, &scenarios, &options(1..4, 20), &BTreeSet::new(), &mut sink, &|_| {}, &stop).expect("it runs");
    assert_eq!((notes.runs, notes.stopped), (0, true));
}

#[test]
fn twins_go_when_their_seed_is_done() {
    let (program, scenarios) = (program(MALL), faults(MALL));
    let most = AtomicUsize::new(0);
    let watch = |_| {
        most.fetch_max(crate::twin::ALIVE.load(Ordering::Relaxed), Ordering::Relaxed);
    };
    let mut sink = |_| ControlFlow::Continue(());
    let options = options(1..25, 18);
    sweep(&program, &scenarios, &options, &BTreeSet::new(), &mut sink, &watch, &AtomicBool::new(false)).expect("it runs");
    // Three loads a seed; a few seeds at once on each thread, whatever their number. Other tests' twins are counted, too.
    let most = most.into_inner();
    assert!((3..45).contains(&most), "{most} twins at once, of {}", 3 * options.seeds.len());
}
