//! What a run means beside its fault-free twin: breaches, cascade, recovery, harm (DESIGN.md 7.3 and 8).
//!
//! You are here: `sim::verdict`. `sweep` calls [`judge`] on every run; `reports` adds the runs up.
//! Always true: one routine judges twice: against the twin at the same load (decides the ranking: windows with too few samples are widened,
//! and the twin's own restlessness is allowed for), and against a fault-free baseline at load 1 as one would judge a live system.
//! Not here: what is normal in a twin (`twin`), statistics over runs (`reports`).

use models::metrics::bucket_of;
use scenarios::record::{Breach, LiveMeasures, Peak, RunRecord};
use scenarios::scenario::Scenario;

use crate::column::{Column, Windows, in_ms};
use crate::des::{ABSENT, BUCKET_NS, FAILED, FaultPlan, NO_LATENCY, SystemStep, UNFINISHED, WIDE_BUCKETS, WINDOW_BUCKETS};
use crate::program::NodeKind;
use crate::run::{Finished, RunOptions, bucket_from};
use crate::twin::{Normal, Twin};

/// Breach: error rate above the normal one by this much,
const BREACH_ERRORS: f64 = 0.02;
/// or p99 this many times the normal one,
const BREACH_P99: f64 = 2.0;
/// in this many successive windows (2 s).
const BREACH_WINDOWS: usize = 5;
/// Recovered: error rate above the normal one by at most this,
const BAND_ERRORS: f64 = 0.01;
/// and p99 at most this many times the normal one.
const BAND_P99: f64 = 1.2;
/// A live run is metastable if it is still out of the band over its last 8 s.
const TAIL_BUCKETS: usize = 32;
/// Retry amplification is taken over 2 s with at least 20 first attempts.
const AMPLIFICATION_BUCKETS: usize = 8;
const AMPLIFICATION_FIRSTS: u64 = 20;

/// One run beside its twin (same seed and load, no fault) and the baseline (the same at load 1).
pub(crate) struct Case<'a> {
    pub(crate) run: &'a Finished,
    pub(crate) twin: &'a Twin,
    pub(crate) baseline: &'a Twin,
    pub(crate) plan: &'a FaultPlan,
    pub(crate) scenario: &'a Scenario,
}

/// The buckets of a case: the first at or after the first fault's start, the first at or after the last one's end, and the end.
/// Without faults, both are the end of the warm-up.
pub(crate) fn window_of(plan: &FaultPlan, options: &RunOptions) -> (usize, usize) {
    let warm = options.warm_up.as_nanos();
    (bucket_from(plan.start.map_or(warm, |t| t.as_nanos())), bucket_from(plan.clear.map_or(warm, |t| t.as_nanos())))
}

/// Judges a run. `token` names it.
pub(crate) fn judge(case: &Case, token: String) -> RunRecord {
    let Case { run, twin, baseline, plan, .. } = *case;
    let p = &*run.program.0;
    // (A twin that its budget of events ended early says nothing about what comes after.)
    let end = run.buckets().min(twin.finished.buckets());
    let (start, clear) = window_of(plan, &run.options);
    let (start, clear) = (start.min(end), clear.min(end));
    let read = start.min(end.saturating_sub(TAIL_BUCKETS))..end;

    let mut breaches = Vec::new();
    let mut cascaded = false;
    let mut live = LiveMeasures::default();
    let mut deepest = (String::new(), 0);
    let mut entries = Vec::new();
    let mut column = Column::default();
    for (n, node) in p.nodes.iter().enumerate() {
        column.read(run, n, read.clone());
        let topic = node.kind == NodeKind::Topic;
        let found = beside_twin(&column, topic, twin, n, start..end);
        if let Some(last) = found.any {
            cascaded |= found.by_error && !plan.targets[n];
            breaches.push(Breach {
                node: node.name.clone(),
                by_error: found.by_error,
                by_p99: found.by_p99,
                first_s: seconds(last + 1),
            });
        }
        let depth = (start..end).map(|b| column.step(b).queue).max().unwrap_or(0);
        if depth > deepest.1 {
            deepest = (node.name.clone(), depth);
        }
        if node.kind == NodeKind::Entry {
            entries.push(std::mem::take(&mut column));
            continue;
        }
        let found = beside_baseline(&column, topic, baseline, n, start..end);
        if found.any.is_some() {
            live.breached.push(node.name.clone());
            live.cascaded |= found.by_error && !plan.targets[n];
        }
    }

    let recovered = |last: usize| {
        entries.iter().enumerate().all(|(n, entry)| {
            let calm = twin.nodes[n].wide.as_ref().expect("it is an entry");
            let silent = twin.nodes[n].column.windows(WIDE_BUCKETS).counts(last).0 == 0;
            in_band(&entry.windows(WIDE_BUCKETS), last, calm.normal[last], BAND_P99.max(calm.spread)).unwrap_or(silent)
        })
    };
    let recovery = recovery(clear..end, recovered);
    let metastable = recovery.is_none() && end > clear + WIDE_BUCKETS && !recovered(end - 1);

    let harm = harm(case);
    let system = run.system(start..end);
    let peak_p99 = entries.iter().filter_map(|entry| peak_p99(entry, start..end)).fold(0.0, f64::max);
    let twin_p99 = twin.nodes[..entries.len()].iter().map(|node| node.p99_ms).fold(0.0, f64::max);
    let error_peak = entries.iter().map(|entry| peak_error_rate(entry, start..end)).fold(0.0, f64::max);
    let twin_error_peak =
        twin.nodes[..entries.len()].iter().map(|node| peak_error_rate(&node.column, start..end)).fold(0.0, f64::max);
    let amplification = amplification_peak(&system);
    let sum = |count: fn(&SystemStep) -> u32| system.iter().map(|step| u64::from(count(step))).sum::<u64>();
    let (firsts, attempts) = (sum(|s| s.first_attempts), sum(|s| s.attempts));

    live.excess_failed = excess(baseline, entries.len(), &harm) + still_to_fail(case, &entries, end);
    live.excess_failed_fraction = live.excess_failed / harm.requests.max(1) as f64;
    live.peak_entry_error_rate = error_peak;
    live.p99_ms = (0..entries.len()).map(|n| in_ms(run.recorder.impact_p99(n)).unwrap_or(0.0)).sum();
    live.retry_amplification = amplification;
    (live.max_queue_node, live.max_queue_depth) = (deepest.0.clone(), u64::from(deepest.1));
    (live.recovery_s, live.metastable) = live_recovery(&entries, baseline, clear, end);
    RunRecord {
        scenario: case.scenario.id.clone(),
        world: p.world,
        seed: run.options.seed,
        token,
        digest: run.digest(),
        events: run.events,
        truncated: run.truncated,
        horizon_s: run.options.horizon.as_secs_f64(),
        start_s: plan.start.map_or(run.options.warm_up.as_secs_f64(), |t| t.as_secs_f64()),
        clear_s: plan.clear.map_or(run.options.warm_up.as_secs_f64(), |t| t.as_secs_f64()),
        requests: harm.requests,
        failed: harm.failed,
        twin_failed: harm.twin_failed,
        harmed: harm.harmed,
        harmed_directly: harm.directly,
        cascaded,
        metastable,
        recovery_s: recovery.map(|first| seconds(first) - seconds(clear)),
        coalesced_at_s: run.coalesced_at_s.map(|s| s as f64),
        breaches,
        error_rate: Peak { peak: error_peak, baseline: twin_error_peak },
        p99_ms: Peak { peak: peak_p99, baseline: twin_p99 },
        retry_amplification_peak: amplification,
        retry_amplification_mean: if firsts > 0 { attempts as f64 / firsts as f64 } else { 1.0 },
        queue_depth: Peak {
            peak: f64::from(deepest.1),
            baseline: f64::from(twin.deepest[start..end].iter().copied().max().unwrap_or(0)),
        },
        queue_node: deepest.0,
        wasted: sum(|s| s.wasted),
        stale_writes: sum(|s| s.stale_writes),
        duplicate_effects: sum(|s| s.duplicate_effects),
        dead_letters: sum(|s| s.dead_letters),
        vs_baseline: live,
    }
}

fn seconds(bucket: usize) -> f64 {
    bucket as f64 * (BUCKET_NS as f64 / 1e9)
}

/// What breached at a node.
#[derive(Default)]
struct Found {
    any: Option<usize>,
    by_error: bool,
    by_p99: bool,
}

/// What a node is held against.
struct Limits<N, C> {
    /// By the window's last bucket.
    normal: N,
    /// A p99 (as a histogram bucket) up to this one is no breach: most windows need no second look.
    calm_p99: C,
    p99_factor: f64,
    /// Errors beyond the normal ones that a window needs.
    least_errors: f64,
}

fn beside_twin(column: &Column, topic: bool, twin: &Twin, node: usize, buckets: std::ops::Range<usize>) -> Found {
    let there = &twin.nodes[node];
    let windows = there.column.windows(there.calm.buckets);
    let limits = Limits {
        normal: |last: usize| there.calm.normal[last],
        calm_p99: |last| if windows.p99(last) == NO_LATENCY { 0 } else { windows.p99(last) },
        p99_factor: BREACH_P99.max(there.calm.spread),
        least_errors: 2.0,
    };
    breach(&column.windows(there.calm.buckets), topic, buckets, &limits)
}

fn beside_baseline(column: &Column, topic: bool, baseline: &Twin, node: usize, buckets: std::ops::Range<usize>) -> Found {
    let normal = normal(baseline, node);
    // The last histogram bucket that lies wholly below the limit.
    let calm = bucket_of((BREACH_P99 * normal.p99_ms * 1e6) as u64).saturating_sub(1);
    let limits = Limits { normal: |_| normal, calm_p99: |_| calm, p99_factor: BREACH_P99, least_errors: 0.0 };
    breach(&column.windows(WINDOW_BUCKETS), topic, buckets, &limits)
}

/// Looks for [`BREACH_WINDOWS`] successive bad windows that lie wholly in these buckets.
fn breach(
    windows: &Windows,
    topic: bool,
    buckets: std::ops::Range<usize>,
    limits: &Limits<impl Fn(usize) -> Normal, impl Fn(usize) -> u16>,
) -> Found {
    let mut found = Found::default();
    let (mut bad, mut bad_errors, mut bad_p99) = (0, 0, 0);
    for last in buckets.start + windows.buckets - 1..buckets.end {
        let (ended, errors) = windows.counts(last);
        let p99 = windows.p99(last);
        if ended > 0 && errors == 0 && (p99 == NO_LATENCY || p99 <= (limits.calm_p99)(last)) {
            (bad, bad_errors, bad_p99) = (0, 0, 0);
            continue;
        }
        let normal = (limits.normal)(last);
        let by_error = windows.error_rate(last).is_some_and(|rate| rate > normal.errors + BREACH_ERRORS)
            && (ended == 0 || errors as f64 - normal.errors * ended as f64 >= limits.least_errors);
        let slow = in_ms(p99).is_some_and(|p99| normal.p99_ms > 0.0 && p99 > limits.p99_factor * normal.p99_ms);
        let by_p99 = slow || topic && windows.stalled(last);
        let count = |streak: &mut usize, here: bool| {
            *streak = if here { *streak + 1 } else { 0 };
            *streak >= BREACH_WINDOWS
        };
        if count(&mut bad, by_error || by_p99) && found.any.is_none() {
            found.any = Some(last);
        }
        found.by_error |= count(&mut bad_errors, by_error);
        found.by_p99 |= count(&mut bad_p99, by_p99);
    }
    found
}

/// Whether an entry's window is back in the band; `None` if it is silent.
fn in_band(windows: &Windows, last: usize, normal: Normal, p99_factor: f64) -> Option<bool> {
    (windows.counts(last).0 > 0).then(|| {
        windows.error_rate(last).is_none_or(|rate| rate <= normal.errors + BAND_ERRORS)
            && windows.p99_ms(last).is_none_or(|p99| normal.p99_ms == 0.0 || p99 <= p99_factor * normal.p99_ms)
    })
}

/// The first bucket of the first wide window in these buckets in which all is well.
fn recovery(buckets: std::ops::Range<usize>, recovered: impl Fn(usize) -> bool) -> Option<usize> {
    (buckets.start..buckets.end.saturating_sub(WIDE_BUCKETS - 1)).find(|&first| recovered(first + WIDE_BUCKETS - 1))
}

struct Harm {
    requests: u64,
    failed: u64,
    twin_failed: u64,
    harmed: u64,
    directly: u64,
}

/// Who was harmed, request by request: the same number is the same request in the twin.
fn harm(case: &Case) -> Harm {
    let (run, twin) = (case.run.recorder.users(), case.twin.finished.recorder.users());
    let mut harm = Harm { requests: 0, failed: 0, twin_failed: 0, harmed: 0, directly: 0 };
    for n in 0..case.run.program.0.entries.len() {
        let limit_us = 2e3 * case.twin.nodes[n].p99_ms;
        // (A whole number above the limit is one above the limit's whole part; without a limit nobody is slow.)
        let limit_us = if limit_us > 0.0 { limit_us as u32 } else { ABSENT };
        let bad = |us: u32| us == FAILED || us < ABSENT && us > limit_us;
        let (mine, theirs) = (run.entry(n), twin.entry(n));
        let twins = theirs.own.from(mine.own.first);
        for (at, &us) in mine.own.us.iter().enumerate() {
            if us == ABSENT {
                continue; // it arrived before, or never
            }
            let twin_us = twins.get(at).copied().unwrap_or(ABSENT);
            harm.twin_failed += u64::from(twin_us == FAILED);
            if us == UNFINISHED {
                continue; // thinned away: never took place
            }
            harm.requests += 1;
            harm.failed += u64::from(us == FAILED);
            if bad(us) && !bad(twin_us) {
                harm.harmed += 1;
                harm.directly += u64::from(mine.own.was_touched(at));
            }
        }
        for &us in mine.surged.us.iter().filter(|&&us| us != UNFINISHED) {
            harm.requests += 1;
            harm.failed += u64::from(us == FAILED);
            // Who was added by a surge has met it.
            harm.harmed += u64::from(bad(us));
            harm.directly += u64::from(bad(us));
        }
    }
    harm
}

/// The highest narrow p99 in these buckets, in ms.
fn peak_p99(entry: &Column, buckets: std::ops::Range<usize>) -> Option<f64> {
    let windows = entry.windows(WINDOW_BUCKETS);
    let p99 = (buckets.start + WINDOW_BUCKETS - 1..buckets.end).map(|last| windows.p99(last));
    p99.filter(|&p99| p99 != NO_LATENCY).max().and_then(in_ms)
}

/// Highest error rate of a 1 s window with at least 5 ended.
fn peak_error_rate(entry: &Column, buckets: std::ops::Range<usize>) -> f64 {
    let windows = entry.windows(WINDOW_BUCKETS);
    let counts = (buckets.start + WINDOW_BUCKETS - 1..buckets.end).map(|last| windows.counts(last));
    counts
        .filter(|&(ended, errors)| ended >= 5 && errors > 0)
        .fold(0.0, |peak, (ended, errors)| f64::max(peak, errors as f64 / ended as f64))
}

fn amplification_peak(steps: &[SystemStep]) -> f64 {
    let peak = steps.windows(AMPLIFICATION_BUCKETS).filter_map(|window| {
        let firsts: u64 = window.iter().map(|s| u64::from(s.first_attempts)).sum();
        let attempts: u64 = window.iter().map(|s| u64::from(s.attempts)).sum();
        (firsts >= AMPLIFICATION_FIRSTS).then(|| attempts as f64 / firsts as f64)
    });
    peak.fold(1.0, f64::max)
}

/// What a live experiment would call normal: the whole baseline's.
fn normal(baseline: &Twin, node: usize) -> Normal {
    let node = &baseline.nodes[node];
    Normal { errors: node.errors as f64 / node.ended.max(1) as f64, p99_ms: node.p99_ms }
}

/// Failed requests beyond what the baseline's error rate would give.
fn excess(baseline: &Twin, entries: usize, harm: &Harm) -> f64 {
    let (ended, errors) =
        baseline.nodes[..entries].iter().fold((0, 0), |(ended, errors), n| (ended + n.ended, errors + n.errors));
    harm.failed as f64 - harm.requests as f64 * errors as f64 / ended.max(1) as f64
}

/// How many of the user requests that are not done at the end may be expected to fail: as many of them as of those that ended last, and
/// all where none ended although some do in the twin.
fn still_to_fail(case: &Case, entries: &[Column], end: usize) -> f64 {
    let (users, Some(last)) = (case.run.recorder.users(), end.checked_sub(1)) else { return 0.0 };
    let of_entry = entries.iter().enumerate().map(|(n, column)| {
        let rate = match (column.windows(WIDE_BUCKETS).counts(last), case.twin.nodes[n].column.windows(WIDE_BUCKETS).counts(last))
        {
            ((0, _), (twins, _)) => f64::from(u8::from(twins > 0)),
            ((ended, errors), _) => errors as f64 / ended as f64,
        };
        (users.entry(n).own.open() + users.entry(n).surged.open()) as f64 * rate
    });
    of_entry.sum()
}

/// When a live system is back, and whether it is metastable.
fn live_recovery(entries: &[Column], baseline: &Twin, clear: usize, end: usize) -> (Option<f64>, bool) {
    let recovered = |last: usize| {
        entries
            .iter()
            .enumerate()
            .all(|(n, entry)| in_band(&entry.windows(WIDE_BUCKETS), last, normal(baseline, n), BAND_P99).unwrap_or(false))
    };
    let back = recovery(clear..end, recovered);
    let tail_bad = || {
        entries.iter().enumerate().any(|(n, entry)| {
            let (ended, errors) = entry.windows(TAIL_BUCKETS).counts(end.saturating_sub(1));
            let normal = normal(baseline, n);
            let wide = entry.windows(WIDE_BUCKETS);
            let slow = [end.saturating_sub(1), end.saturating_sub(1 + TAIL_BUCKETS - WIDE_BUCKETS)]
                .iter()
                .all(|&last| wide.p99_ms(last).is_some_and(|p99| p99 > BAND_P99 * normal.p99_ms));
            ended == 0 || errors as f64 / ended as f64 > normal.errors + BAND_ERRORS || slow
        })
    };
    (back.map(|first| seconds(first) - seconds(clear)), back.is_none() && end > 0 && tail_bad())
}
