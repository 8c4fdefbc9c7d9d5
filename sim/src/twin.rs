//! A fault-free run: what others go on from, are judged by, and become again.
//!
//! You are here: `sim::twin`. `sweep` makes one for each seed and load; `verdict` reads what is normal in it; `run` splices its end on.
//! Always true: nothing here depends on a scenario, but for when snapshots and points are taken; neither changes a record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use models::units::Nanos;

use crate::column::{Column, Windows};
use crate::des::{FaultPlan, Keep, WIDE_BUCKETS, WINDOW_BUCKETS};
use crate::program::{NodeKind, Program};
use crate::run::{Finished, Prepared, RunOptions, bucket_from};

/// Fewer requests than this in a mean 1 s window cannot tell a p99: the window is widened to 5 s.
const ENOUGH: f64 = 50.0;
/// Snapshots of one twin; a scenario that begins between two of them goes on from the earlier one.
const MOST_SNAPSHOTS: u64 = 32;
/// Bytes of points, with the latencies after them, that one twin may keep: more would cost a sweep more than they spare it.
const MOST_POINT_BYTES: u64 = 8 << 20;
/// Where a point a second would be too many, there is one every 2, 4 or 8 seconds; where that is too many, there is none.
const LONGEST_STRIDE_S: u64 = 8;
const SECOND: u64 = 1_000_000_000;

/// What is normal for a node in a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Normal {
    pub(crate) errors: f64,
    pub(crate) p99_ms: f64,
}

/// A node seen through windows of one width: what is normal in each, and how many times its median p99 its restless windows reach.
#[derive(Debug)]
pub(crate) struct Calm {
    pub(crate) buckets: usize,
    /// By the window's last bucket. The p99 is the window's own, and at least the median.
    pub(crate) normal: Vec<Normal>,
    pub(crate) spread: f64,
}

/// A node of a twin.
#[derive(Debug)]
pub(crate) struct TwinNode {
    pub(crate) column: Column,
    /// Through the windows in which runs are compared with it.
    pub(crate) calm: Calm,
    /// An entry, through wide windows: for recovery.
    pub(crate) wide: Option<Calm>,
    /// From the warm-up on, to the bucket.
    pub(crate) ended: u64,
    pub(crate) errors: u64,
    pub(crate) p99_ms: f64,
}

/// A fault-free run.
#[derive(Debug)]
pub(crate) struct Twin {
    pub(crate) finished: Finished,
    pub(crate) nodes: Vec<TwinNode>,
    /// The deepest queue anywhere, by bucket.
    pub(crate) deepest: Vec<u32>,
    /// Whose wide windows are wanted of runs that are judged by it.
    pub(crate) wide: Vec<bool>,
    pub(crate) points: Points,
    /// By time in nanoseconds; always one at 0.
    snapshots: BTreeMap<u64, Prepared>,
    #[cfg(test)]
    _alive: Alive,
}

/// How many twins there are: what a sweep keeps is to depend on its threads, not on its runs.
#[cfg(test)]
pub(crate) static ALIVE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

#[cfg(test)]
#[derive(Debug)]
struct Alive;

#[cfg(test)]
impl Alive {
    fn new() -> Self {
        ALIVE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Alive
    }
}

#[cfg(test)]
impl Drop for Alive {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// What a twin is wanted for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// When scenarios' first faults begin, in nanoseconds.
    pub(crate) starts: BTreeSet<u64>,
    /// When the first of them are over; `None`: no run will be compared with its states.
    pub(crate) calm_from: Option<u64>,
}

impl Twin {
    /// Runs it.
    pub(crate) fn new(program: &Program, load: f64, options: &RunOptions, wanted: &Wanted) -> Twin {
        let mut run = Prepared::fault_free(program, load, options, Keep::Judged);
        let horizon = options.horizon.as_nanos();
        let mut snapshots = BTreeMap::from([(0, run.snapshot())]);
        let apart = if wanted.starts.len() as u64 > MOST_SNAPSHOTS { horizon / MOST_SNAPSHOTS } else { 0 };
        let mut starts = wanted.starts.range(1..=horizon).copied().peekable();
        let mut points = Points::new(program, options.horizon);
        let mut second = wanted.calm_from.filter(|_| points.most_bytes > 0).map_or(u64::MAX, |calm| (calm / SECOND + 1) * SECOND);
        loop {
            let start = starts.peek().copied().unwrap_or(u64::MAX);
            let next = start.min(second);
            if next >= horizon || run.run_to(Nanos::from_nanos(next)) {
                break;
            }
            if next == start {
                starts.next();
                if start >= apart + snapshots.last_key_value().map_or(0, |(&at, _)| at) {
                    snapshots.insert(start, run.snapshot());
                }
            }
            if next == second {
                points.take(&mut run);
                second += SECOND;
            }
        }
        let finished = run.run();
        if finished.truncated {
            points.points.clear();
        }
        Twin::of(finished, points, snapshots)
    }

    /// A fault-free run of the hosted engine, which nothing is forked from.
    pub(crate) fn of_hosted(finished: Finished) -> Twin {
        let points = Points { most_bytes: 0, points: Vec::new(), words: Vec::new() };
        Twin::of(finished, points, BTreeMap::new())
    }

    /// What is normal in a run that is over.
    fn of(mut finished: Finished, points: Points, snapshots: BTreeMap<u64, Prepared>) -> Twin {
        let program = finished.program.clone();
        let buckets = finished.buckets();
        let rows = finished.recorder.take_steps();
        let count = program.0.nodes.len();
        let warm = bucket_from(finished.options.warm_up.as_nanos());
        let nodes: Vec<TwinNode> = (0..count)
            .map(|n| {
                let column = Column::new(0, rows.iter().skip(n).step_by(count).copied().collect());
                let width = width(&column, warm.min(buckets)..buckets);
                let totals = finished.recorder.node_totals(n);
                let entry = program.0.nodes[n].kind == NodeKind::Entry;
                TwinNode {
                    calm: Calm::new(&column.windows(width), warm..buckets),
                    wide: entry.then(|| Calm::new(&column.windows(WIDE_BUCKETS), warm..buckets)),
                    ended: totals.ended,
                    errors: totals.errors,
                    p99_ms: totals.latencies.quantile_ms(990),
                    column,
                }
            })
            .collect();
        finished.recorder.drop_totals();
        Twin {
            deepest: rows.chunks(count.max(1)).map(|row| row.iter().map(|step| step.queue).max().unwrap_or(0)).collect(),
            wide: nodes.iter().map(|node| node.wide.is_some() || node.calm.buckets == WIDE_BUCKETS).collect(),
            finished,
            nodes,
            points,
            snapshots,
            #[cfg(test)]
            _alive: Alive::new(),
        }
    }

    /// A run that goes on from it with a scenario's faults, from shortly before the first of them.
    pub(crate) fn fork(&self, plan: &Arc<FaultPlan>) -> Prepared {
        let start = plan.start.map_or(0, |t| t.as_nanos());
        let (_, snapshot) = self.snapshots.range(..=start).next_back().expect("there is one at 0");
        snapshot.fork(plan)
    }
}

/// The windows in which a node is compared with its twin.
fn width(column: &Column, buckets: std::ops::Range<usize>) -> usize {
    let ended: u64 = buckets.clone().map(|b| u64::from(column.step(b).ended)).sum();
    let per_window = ended as f64 / buckets.len().max(1) as f64 * WINDOW_BUCKETS as f64;
    if per_window < ENOUGH { WIDE_BUCKETS } else { WINDOW_BUCKETS }
}

impl Calm {
    /// The median and the spread are over the windows that lie wholly in `over`.
    fn new(windows: &Windows, over: std::ops::Range<usize>) -> Calm {
        let mut p99: Vec<f64> = (over.start + windows.buckets - 1..over.end).filter_map(|last| windows.p99_ms(last)).collect();
        p99.sort_by(f64::total_cmp);
        let (median_ms, spread) = match p99.get(p99.len() / 2) {
            None => (0.0, 1.0),
            Some(&median_ms) => {
                let high = p99[(p99.len() * 19 / 20).min(p99.len() - 1)];
                (median_ms, if median_ms > 0.0 { high / median_ms } else { 1.0 })
            }
        };
        let normal = |last| Normal {
            errors: windows.error_rate(last).unwrap_or(0.0),
            p99_ms: windows.p99_ms(last).unwrap_or(0.0).max(median_ms),
        };
        Calm { buckets: windows.buckets, normal: (0..over.end).map(normal).collect(), spread }
    }
}

/// The twin's states at whole seconds, in the words of `des::canonical`, with what it had done by then.
///
/// Whether there is one at some second depends on the twin and that second alone, not on when the first of them was wanted.
#[derive(Debug)]
pub(crate) struct Points {
    /// What one may take if there is one every [`LONGEST_STRIDE_S`]; 0: there is none.
    most_bytes: u64,
    points: Vec<Point>,
    words: Vec<u64>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    /// When, in nanoseconds.
    pub(crate) at: u64,
    pub(crate) events: u64,
    pub(crate) digest: u64,
    words: std::ops::Range<usize>,
}

impl Points {
    fn new(program: &Program, horizon: Nanos) -> Points {
        let seconds = (horizon.as_nanos() / SECOND).max(1);
        let most_bytes = MOST_POINT_BYTES * LONGEST_STRIDE_S / seconds;
        // Caches alone may be too much: then it is not tried at all.
        let caches = program.0.services.iter().filter_map(|s| s.cache.as_ref());
        let least_bytes: u64 = caches.map(|cache| 4 * u64::from(cache.capacity)).sum();
        let most_bytes = if least_bytes > most_bytes { 0 } else { most_bytes };
        Points { most_bytes, points: Vec::new(), words: Vec::new() }
    }

    /// Those after a time.
    pub(crate) fn after(&self, time: u64) -> &[Point] {
        &self.points[self.points.partition_point(|point| point.at <= time)..]
    }

    pub(crate) fn words(&self, point: &Point) -> &[u64] {
        &self.words[point.words.clone()]
    }

    /// Takes one of the run as it stands, if it is not too large.
    fn take(&mut self, run: &mut Prepared) {
        let (first, state) = (self.words.len(), run.state());
        let has_words = state.canonical(run.tables(), &mut self.words);
        let bytes = ((self.words.len() - first) * size_of::<u64>() + state.recorder.last_second_bytes()) as u64;
        let stride = (bytes * LONGEST_STRIDE_S).div_ceil(self.most_bytes).next_power_of_two();
        if !has_words || stride > LONGEST_STRIDE_S || !(state.now / SECOND).is_multiple_of(stride) {
            self.words.truncate(first);
            return;
        }
        self.points.push(Point { at: state.now, events: state.events, digest: state.digest, words: first..self.words.len() });
        run.recorder_mut().keep_history();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{TWENTY, faults, program};

    #[test]
    fn a_forks_state_is_small_even_in_a_storm() {
        let (program, storm) = (program(TWENTY), &faults(TWENTY)[0]);
        let plan = FaultPlan::new(&program, storm).expect("it fits");
        let options = RunOptions { horizon: Nanos::from_secs(120), warm_up: Nanos::from_secs(5), ..RunOptions::default() };
        let wanted = Wanted { starts: BTreeSet::from([10_000_000_000]), calm_from: None };
        let twin = Arc::new(Twin::new(&program, 1.0, &options, &wanted));
        let mut fork = None;
        let healthy = allocation_counter::measure(|| fork = Some(twin.fork(&plan))).bytes_current;
        assert!(healthy <= 256 << 10, "a fork of a healthy run takes {healthy} bytes");
        let mut fork = fork.expect("it was made");
        fork.recorder_mut().judge_from(40, 500, &twin.wide);
        let in_storm = allocation_counter::measure(|| {
            assert!(!fork.run_to(Nanos::from_secs(100)), "no budget ends it");
        });
        let most = healthy + in_storm.bytes_current;
        assert!(most <= 2 << 20, "a run in a storm has come to {most} bytes");
        println!("fork {healthy} bytes, in a storm {most} bytes");
    }
}
