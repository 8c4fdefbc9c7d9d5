//! What a run means beside its fault-free twin: breaches, cascade, recovery, harm (DESIGN.md 7.3 and 8).
//!
//! You are here: `sim::verdict`. `sweep` calls [`judge`] on every run; `reports` adds the runs up.
//! Always true: one routine judges twice: against the twin at the same load (decides the ranking: windows with too few samples are widened,
//! and the twin's own restlessness is allowed for), and against a fault-free baseline at load 1 as one would judge a live system.
//! Not here: statistics over runs (`reports`).

use scenarios::record::{Breach, LiveMeasures, Peak, RunRecord};
use scenarios::scenario::Scenario;

use crate::des::{BUCKET_NS, FAILED, FaultPlan, NO_P99, SURGE, UNFINISHED, WIDE_BUCKETS, WINDOW_BUCKETS};
use crate::program::NodeKind;
use crate::run::Finished;

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
/// Fewer requests than this in a mean 1 s window of the twin cannot tell a p99: the window is widened to 5 s.
const ENOUGH: f64 = 50.0;
/// A live run is metastable if it is still out of the band over its last 8 s.
const TAIL_BUCKETS: usize = 32;
/// Retry amplification is taken over 2 s with at least 20 first attempts.
const AMPLIFICATION_BUCKETS: usize = 8;
const AMPLIFICATION_FIRSTS: u64 = 20;

/// What is normal for a node in a window.
#[derive(Clone, Copy)]
struct Normal {
    errors: f64,
    p99_ms: f64,
}

/// A node of a run, window by window.
struct Windows<'a> {
    run: &'a Finished,
    node: usize,
    buckets: usize,
}

impl Windows<'_> {
    /// (ended, errors) in the window that ends with bucket `last`.
    fn counts(&self, last: usize) -> (u64, u64) {
        (last + 1 - self.buckets.min(last + 1)..=last).fold((0, 0), |(ended, errors), b| {
            let step = self.run.recorder.step(b, self.node);
            (ended + u64::from(step.ended), errors + u64::from(step.errors))
        })
    }

    /// p99 in ms; `None` without a latency.
    fn p99_ms(&self, last: usize) -> Option<f64> {
        let step = self.run.recorder.step(last, self.node);
        let bucket = if self.buckets == WINDOW_BUCKETS { step.p99 } else { step.p99_wide };
        (bucket != NO_P99).then(|| models::metrics::bucket_middle_ns(bucket) as f64 / 1e6)
    }

    /// Error rate, where a node that answers nothing while its callers time out fails wholly; `None` where nothing can be said.
    fn error_rate(&self, last: usize) -> Option<f64> {
        let (ended, errors) = self.counts(last);
        if ended > 0 {
            return Some(errors as f64 / ended as f64);
        }
        let first = last + 1 - self.buckets.min(last + 1);
        let timeouts: u32 = (first..=last).map(|b| self.run.recorder.step(b, self.node).timeouts).sum();
        (timeouts >= 3).then_some(1.0)
    }

    /// Nothing leaves although there is something to do all the time.
    fn stalled(&self, last: usize) -> bool {
        let first = last + 1 - self.buckets.min(last + 1);
        self.counts(last).0 == 0 && (first..=last).all(|b| self.run.recorder.step(b, self.node).queue > 0)
    }
}

/// What breached at a node.
#[derive(Default)]
struct Found {
    any: Option<usize>,
    by_error: bool,
    by_p99: bool,
}

/// Looks for [`BREACH_WINDOWS`] successive bad windows that lie wholly in `from..to` (buckets).
fn breach(
    windows: &Windows,
    from: usize,
    to: usize,
    normal: impl Fn(usize) -> Normal,
    p99_factor: f64,
    least_errors: f64,
) -> Found {
    let mut found = Found::default();
    let (mut bad, mut bad_errors, mut bad_p99) = (0, 0, 0);
    for last in from + windows.buckets - 1..to {
        let normal = normal(last);
        let (ended, errors) = windows.counts(last);
        let by_error = windows.error_rate(last).is_some_and(|rate| rate > normal.errors + BREACH_ERRORS)
            && (ended == 0 || errors as f64 - normal.errors * ended as f64 >= least_errors);
        let slow = windows.p99_ms(last).is_some_and(|p99| normal.p99_ms > 0.0 && p99 > p99_factor * normal.p99_ms);
        let by_p99 = slow || windows.run.program.0.nodes[windows.node].kind == NodeKind::Topic && windows.stalled(last);
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

/// The twin's p99 of a node: its median over windows, and how many times that its restless windows reach.
struct Calm {
    median_ms: f64,
    spread: f64,
}

fn calm(twin: &Windows, from: usize, to: usize) -> Calm {
    let mut p99: Vec<f64> = (from + twin.buckets - 1..to).filter_map(|last| twin.p99_ms(last)).collect();
    p99.sort_by(f64::total_cmp);
    let Some(&median_ms) = p99.get(p99.len() / 2) else { return Calm { median_ms: 0.0, spread: 1.0 } };
    let high = p99[(p99.len() * 19 / 20).min(p99.len() - 1)];
    Calm { median_ms, spread: if median_ms > 0.0 { high / median_ms } else { 1.0 } }
}

/// The windows in which a node is compared with its twin.
fn width(twin: &Finished, node: usize, from: usize) -> usize {
    let buckets = twin.recorder.system.len();
    let ended: u64 = (from..buckets).map(|b| u64::from(twin.recorder.step(b, node).ended)).sum();
    let per_window = ended as f64 / (buckets - from).max(1) as f64 * WINDOW_BUCKETS as f64;
    if per_window < ENOUGH { WIDE_BUCKETS } else { WINDOW_BUCKETS }
}

/// One run beside its twin (same seed and load, no fault) and the baseline (the same at load 1).
pub(crate) struct Case<'a> {
    pub(crate) run: &'a Finished,
    pub(crate) twin: &'a Finished,
    pub(crate) baseline: &'a Finished,
    pub(crate) plan: &'a FaultPlan,
    pub(crate) scenario: &'a Scenario,
}

/// The buckets of a case: the first at or after the first fault's start, the first at or after the last one's end, and the end.
/// Without faults, both are the end of the warm-up.
pub(crate) fn window_of(plan: &FaultPlan, finished: &crate::run::RunOptions) -> (usize, usize) {
    let bucket = |ns: u64| ns.div_ceil(BUCKET_NS) as usize;
    let warm = finished.warm_up.as_nanos();
    (bucket(plan.start.map_or(warm, |t| t.as_nanos())), bucket(plan.clear.map_or(warm, |t| t.as_nanos())))
}

/// Judges a run. `token` names it.
pub(crate) fn judge(case: &Case, token: String) -> RunRecord {
    let Case { run, twin, plan, .. } = *case;
    let p = &*run.program.0;
    let r = &run.recorder;
    let end = r.system.len();
    let warm = run.options.warm_up.as_nanos().div_ceil(BUCKET_NS) as usize;
    let (start, clear) = window_of(plan, &run.options);
    let (start, clear) = (start.min(end), clear.min(end));

    let mut breaches = Vec::new();
    let mut cascaded = false;
    for (n, node) in p.nodes.iter().enumerate() {
        let buckets = width(twin, n, warm.min(end));
        let (here, there) = (Windows { run, node: n, buckets }, Windows { run: twin, node: n, buckets });
        let calm = calm(&there, warm, end);
        let normal = |last: usize| Normal {
            errors: there.error_rate(last).unwrap_or(0.0),
            p99_ms: there.p99_ms(last).unwrap_or(0.0).max(calm.median_ms),
        };
        let found = breach(&here, start, end, normal, BREACH_P99.max(calm.spread), 2.0);
        if let Some(last) = found.any {
            cascaded |= found.by_error && !plan.targets[n];
            breaches.push(Breach {
                node: node.name.clone(),
                by_error: found.by_error,
                by_p99: found.by_p99,
                first_s: seconds(last + 1),
            });
        }
    }

    let entries: Vec<usize> = (0..p.entries.len()).collect();
    let recovered = |last: usize| {
        entries.iter().all(|&n| {
            let (here, there) =
                (Windows { run, node: n, buckets: WIDE_BUCKETS }, Windows { run: twin, node: n, buckets: WIDE_BUCKETS });
            let calm = calm(&there, warm, end);
            let normal = Normal {
                errors: there.error_rate(last).unwrap_or(0.0),
                p99_ms: there.p99_ms(last).unwrap_or(0.0).max(calm.median_ms),
            };
            in_band(&here, &there, last, normal, BAND_P99.max(calm.spread))
        })
    };
    let recovery = (clear..end.saturating_sub(WIDE_BUCKETS - 1)).find(|&first| recovered(first + WIDE_BUCKETS - 1));
    let metastable = recovery.is_none() && end > clear + WIDE_BUCKETS && !recovered(end - 1);

    let harm = harm(case, start);
    let peak_p99 = |finished: &Finished| {
        let peak = |&n: &usize| {
            let windows = Windows { run: finished, node: n, buckets: WINDOW_BUCKETS };
            (start + WINDOW_BUCKETS - 1..end).filter_map(|last| windows.p99_ms(last)).fold(0.0, f64::max)
        };
        entries.iter().map(peak).fold(0.0, f64::max)
    };
    let baseline_p99 = entries.iter().map(|&n| twin.recorder.node_totals(n).0.quantile_ms(990)).fold(0.0, f64::max);
    let (queue_node, queue_peak) = deepest_queue(run, start, end);
    let (_, twin_queue) = deepest_queue(twin, start, end);
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
        breaches,
        error_rate: Peak {
            peak: peak_error_rate(run, &entries, start, end),
            baseline: peak_error_rate(twin, &entries, start, end),
        },
        p99_ms: Peak { peak: peak_p99(run), baseline: baseline_p99 },
        retry_amplification_peak: amplification_peak(run, start, end),
        retry_amplification_mean: amplification(run, start, end).unwrap_or(1.0),
        queue_depth: Peak { peak: f64::from(queue_peak), baseline: f64::from(twin_queue) },
        queue_node,
        wasted: r.system[start..end].iter().map(|s| u64::from(s.wasted)).sum(),
        vs_baseline: live(case, start, clear, end),
    }
}

fn seconds(bucket: usize) -> f64 {
    bucket as f64 * (BUCKET_NS as f64 / 1e9)
}

/// Whether an entry's window is back in the band. A silent window is, if the twin is as silent.
fn in_band(here: &Windows, there: &Windows, last: usize, normal: Normal, p99_factor: f64) -> bool {
    if here.counts(last).0 == 0 {
        return there.counts(last).0 == 0;
    }
    here.error_rate(last).is_none_or(|rate| rate <= normal.errors + BAND_ERRORS)
        && here.p99_ms(last).is_none_or(|p99| normal.p99_ms == 0.0 || p99 <= p99_factor * normal.p99_ms)
}

struct Harm {
    requests: u64,
    failed: u64,
    twin_failed: u64,
    harmed: u64,
    directly: u64,
}

/// Who was harmed, request by request: the same number is the same request in the twin.
fn harm(case: &Case, start: usize) -> Harm {
    let (run, twin) = (&case.run.recorder, &case.twin.recorder);
    let entries = case.run.program.0.entries.len();
    let limits_us: Vec<f64> = (0..entries).map(|n| 2e3 * twin.node_totals(n).0.quantile_ms(990)).collect();
    let too_slow = |entry: u16, us: u32| limits_us[usize::from(entry)] > 0.0 && f64::from(us) > limits_us[usize::from(entry)];
    let bad = |entry: u16, us: u32| us == FAILED || us != UNFINISHED && too_slow(entry, us);
    let before = start.checked_sub(1).map_or((0, 0), |b| (run.system[b].users as usize, run.system[b].surged as usize));
    let mut harm = Harm { requests: 0, failed: 0, twin_failed: 0, harmed: 0, directly: 0 };
    for (i, &us) in run.users.iter().enumerate().skip(before.0) {
        let entry = run.user_entries[i];
        let twin_us = twin.users.get(i).copied().unwrap_or(UNFINISHED);
        harm.twin_failed += u64::from(twin_us == FAILED);
        if us == UNFINISHED {
            continue; // thinned away: never took place
        }
        harm.requests += 1;
        harm.failed += u64::from(us == FAILED);
        if bad(entry, us) && !bad(entry, twin_us) {
            harm.harmed += 1;
            harm.directly += u64::from(run.was_touched(i as u32));
        }
    }
    for (i, &us) in run.surged.iter().enumerate().skip(before.1) {
        harm.requests += 1;
        harm.failed += u64::from(us == FAILED);
        if bad(run.surged_entries[i], us) {
            harm.harmed += 1;
            harm.directly += u64::from(run.was_touched(i as u32 | SURGE));
        }
    }
    harm
}

/// Highest error rate of a 1 s window with at least 5 ended, over the entries.
fn peak_error_rate(run: &Finished, entries: &[usize], from: usize, to: usize) -> f64 {
    let mut peak = 0.0;
    for &node in entries {
        let windows = Windows { run, node, buckets: WINDOW_BUCKETS };
        for last in from + WINDOW_BUCKETS - 1..to {
            let (ended, errors) = windows.counts(last);
            if ended >= 5 {
                peak = f64::max(peak, errors as f64 / ended as f64);
            }
        }
    }
    peak
}

fn amplification_peak(run: &Finished, from: usize, to: usize) -> f64 {
    let steps = &run.recorder.system[from.min(to)..to];
    let peak = steps.windows(AMPLIFICATION_BUCKETS).filter_map(|window| {
        let firsts: u64 = window.iter().map(|s| u64::from(s.first_attempts)).sum();
        let attempts: u64 = window.iter().map(|s| u64::from(s.attempts)).sum();
        (firsts >= AMPLIFICATION_FIRSTS).then(|| attempts as f64 / firsts as f64)
    });
    peak.fold(1.0, f64::max)
}

/// Attempts per first attempt over inner edges; `None` without any.
fn amplification(run: &Finished, from: usize, to: usize) -> Option<f64> {
    let steps = &run.recorder.system[from.min(to)..to];
    let firsts: u64 = steps.iter().map(|s| u64::from(s.first_attempts)).sum();
    let attempts: u64 = steps.iter().map(|s| u64::from(s.attempts)).sum();
    (firsts > 0).then(|| attempts as f64 / firsts as f64)
}

/// The node with the deepest queue, and how deep; the first of equals.
fn deepest_queue(run: &Finished, from: usize, to: usize) -> (String, u32) {
    let mut deepest = (String::new(), 0);
    for (n, node) in run.program.0.nodes.iter().enumerate() {
        let depth = (from..to).map(|b| run.recorder.step(b, n).queue).max().unwrap_or(0);
        if depth > deepest.1 {
            deepest = (node.name.clone(), depth);
        }
    }
    deepest
}

/// The measures of a live experiment.
fn live(case: &Case, start: usize, clear: usize, end: usize) -> LiveMeasures {
    let Case { run, baseline, plan, .. } = *case;
    let p = &*run.program.0;
    let r = &run.recorder;
    let normal = |n: usize| {
        let (latencies, errors, ended) = baseline.recorder.node_totals(n);
        Normal { errors: errors as f64 / ended.max(1) as f64, p99_ms: latencies.quantile_ms(990) }
    };
    let entries = p.entries.len();
    let mut breached = Vec::new();
    let mut cascaded = false;
    for (n, node) in p.nodes.iter().enumerate().skip(entries) {
        let windows = Windows { run, node: n, buckets: WINDOW_BUCKETS };
        let found = breach(&windows, start, end, |_| normal(n), BREACH_P99, 0.0);
        if found.any.is_some() {
            breached.push(node.name.clone());
            cascaded |= found.by_error && !plan.targets[n];
        }
    }
    let recovered = |last: usize| {
        (0..entries).all(|n| {
            let windows = Windows { run, node: n, buckets: WIDE_BUCKETS };
            windows.counts(last).0 > 0 && in_band(&windows, &windows, last, normal(n), BAND_P99)
        })
    };
    let recovery = (clear..end.saturating_sub(WIDE_BUCKETS - 1)).find(|&first| recovered(first + WIDE_BUCKETS - 1));
    let tail_bad = (0..entries).any(|n| {
        let windows = Windows { run, node: n, buckets: TAIL_BUCKETS };
        let (ended, errors) = windows.counts(end.saturating_sub(1));
        let normal = normal(n);
        let slow = [end.saturating_sub(1), end.saturating_sub(1 + TAIL_BUCKETS - WIDE_BUCKETS)].iter().all(|&last| {
            let wide = Windows { run, node: n, buckets: WIDE_BUCKETS };
            wide.p99_ms(last).is_some_and(|p99| p99 > BAND_P99 * normal.p99_ms)
        });
        ended == 0 || errors as f64 / ended as f64 > normal.errors + BAND_ERRORS || slow
    });
    let all_entries: Vec<usize> = (0..entries).collect();
    let (arrived, failed) = arrivals_from(run, start);
    let (ended, errors) = (0..entries).fold((0, 0), |(ended, errors), n| {
        let (_, e, d) = baseline.recorder.node_totals(n);
        (ended + d, errors + e)
    });
    let excess_failed = failed as f64 - arrived as f64 * errors as f64 / ended.max(1) as f64;
    let (max_queue_node, max_queue_depth) = deepest_queue(run, start, end);
    LiveMeasures {
        excess_failed,
        excess_failed_fraction: excess_failed / arrived.max(1) as f64,
        peak_entry_error_rate: peak_error_rate(run, &all_entries, start, end),
        p99_ms: (0..entries).filter_map(|n| r.impact(n)).map(|latencies| latencies.quantile_ms(990)).sum(),
        retry_amplification: amplification_peak(run, start, end),
        max_queue_node,
        max_queue_depth: u64::from(max_queue_depth),
        recovery_s: recovery.map(|first| seconds(first) - seconds(clear)),
        metastable: recovery.is_none() && tail_bad,
        cascaded,
        breached,
    }
}

/// User requests that arrived from a bucket on, and how many of them failed.
fn arrivals_from(run: &Finished, start: usize) -> (u64, u64) {
    let r = &run.recorder;
    let before = start.checked_sub(1).map_or((0, 0), |b| (r.system[b].users as usize, r.system[b].surged as usize));
    let all = r.users[before.0.min(r.users.len())..].iter().chain(&r.surged[before.1.min(r.surged.len())..]);
    all.filter(|&&us| us != UNFINISHED).fold((0, 0), |(n, failed), &us| (n + 1, failed + u64::from(us == FAILED)))
}
