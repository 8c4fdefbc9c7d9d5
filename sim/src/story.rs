//! The course of one run in order of time, beside its fault-free twin: queues, retries, what broke, and how it went on after the faults.
//!
//! You are here: `sim::story`. `explain` asks [`story`]; its parts are plain data (`scenarios::story`), `reports` words them.
//! Always true: the run is the token's run, watched with everything kept over time, which changes nothing of it; what broke when is the
//! record's own verdict, not a second opinion.
//! Not here: verdicts (`verdict`), what kept it broken (further runs, which the command line makes).

use indexmap::IndexMap;
use models::units::Nanos;
use scenarios::record::{EdgeSeries, NodeSeries, RunRecord, Series};
use scenarios::scenario::Scenario;
use scenarios::story::{Aftermath, Broken, EdgeAfter, Effects, EntryState, QueueStood, RetryWave, ServiceAfter, Story};

use crate::SimError;
use crate::des::{BUCKET_NS, FaultPlan, SystemStep};
use crate::program::Program;
use crate::result::{CallStats, FailedAttempts, RunResult};
use crate::run::{Finished, RunOptions, bucket_from, run};

/// Buckets of a second.
const SECOND: usize = (1_000_000_000 / BUCKET_NS) as usize;
/// A queue stands if it is this many times as deep as the twin's ever is, and by [`DEEPER`] at least, for a second.
const TIMES_DEEPER: u32 = 2;
const DEEPER: u32 = 5;
/// A second of a retry wave has so many retries,
const WAVE_RETRIES: u32 = 10;
/// and by this much more attempts per first attempt than the twin ever has.
const WAVE_RATIO: f64 = 0.1;
/// Services and edges of the aftermath that are shown.
const SHOWN: usize = 8;

/// Runs a scenario and its twin once more, with everything kept over time. `record` is what a sweep (or [`crate::judged`]) says of the run.
///
/// # Errors
/// As [`crate::judged`].
pub fn story(program: &Program, scenario: &Scenario, options: &RunOptions, record: &RunRecord) -> Result<Story, SimError> {
    let plan = FaultPlan::new(program, scenario)?;
    let calm = Scenario { faults: Vec::new(), ..scenario.clone() };
    let whole = RunOptions { series: true, ..options.clone() };
    let (run, twin) = (run(program, scenario, &whole)?, run(program, &calm, &whole)?);
    let (here, there) = (run.series(), twin.series());
    let normal = twin.result();
    let start = bucket_from(plan.start.map_or(options.warm_up.as_nanos(), |t| t.as_nanos()));
    let seconds_watched = (options.horizon.as_secs_f64() - options.warm_up.as_secs_f64()).max(1e-9);
    let count = |count: fn(&SystemStep) -> u32| effects(&run, start, count);
    Ok(Story {
        normal: entries(&normal, seconds_watched),
        queues: queues(program, &here, &there, start),
        retries: waves(&here, &there, start),
        breaches: breaches(program, &plan, record, &here, &there),
        stale_writes: count(|step| step.stale_writes),
        duplicate_effects: count(|step| step.duplicate_effects),
        aftermath: aftermath(program, scenario, &calm, options, record)?,
    })
}

/// The end of a bucket, in seconds.
fn end_of(bucket: usize) -> f64 {
    (bucket + 1) as f64 * (BUCKET_NS as f64 / 1e9)
}

fn entries(result: &RunResult, seconds: f64) -> Vec<EntryState> {
    let state = |(name, calls): (&String, &CallStats)| EntryState {
        entry: name.clone(),
        per_s: calls.requests as f64 / seconds,
        error_rate: calls.error_rate,
        p99_ms: calls.p99_ms,
    };
    result.entries.iter().map(state).collect()
}

/// The first bucket from which on `is` holds in no bucket any more; `None` if it holds in the last one.
fn calm_from(buckets: usize, is: impl Fn(usize) -> bool) -> Option<f64> {
    match (0..buckets).rev().find(|&bucket| is(bucket)) {
        Some(last) if last + 1 == buckets => None,
        Some(last) => Some(end_of(last)),
        None => Some(0.0),
    }
}

fn queues(program: &Program, here: &Series, there: &Series, start: usize) -> Vec<QueueStood> {
    let p = &*program.0;
    let bound = |node: usize| {
        let service = p.services.iter().find(|s| s.node as usize == node).map(|s| s.queue);
        let topic = p.topics.iter().find(|t| t.node as usize == node).map(|t| t.capacity);
        service.or(topic).filter(|&bound| bound != u32::MAX)
    };
    let mut found = Vec::new();
    for (n, (name, node)) in here.nodes.iter().enumerate() {
        let depths = &node.queue;
        let twin_peak = there.nodes[name].queue.iter().copied().max().unwrap_or(0);
        let bound = bound(n);
        let limit = (TIMES_DEEPER.saturating_mul(twin_peak)).max(twin_peak.saturating_add(DEEPER));
        // A bound may be lower than what would count as deep.
        let limit = bound.map_or(limit, |bound| limit.min(bound.max(1)));
        let deep = |bucket: usize| depths[bucket] >= limit && depths[bucket] > twin_peak;
        let first = (start..depths.len()).find(|&b| b + SECOND <= depths.len() && (b..b + SECOND).all(deep));
        let Some(first) = first else { continue };
        let peak = depths[start..].iter().copied().max().unwrap_or(0);
        let peak_at = (start..depths.len()).find(|&b| depths[b] == peak).unwrap_or(first);
        found.push(QueueStood {
            node: name.clone(),
            topic: node.kind == "topic",
            bound,
            twin_peak,
            first_s: end_of(first),
            first_depth: depths[first],
            full_s: bound.and_then(|bound| (start..depths.len()).find(|&b| depths[b] >= bound)).map(end_of),
            peak,
            peak_s: end_of(peak_at),
            calm_s: calm_from(depths.len(), deep),
        });
    }
    found.sort_by(|a, b| a.first_s.total_cmp(&b.first_s));
    found
}

/// Attempts per first attempt and retries, in the second that ends with a bucket.
fn second_of(edge: &EdgeSeries, bucket: usize) -> (f64, u32) {
    let sum = |values: &[u32]| values[(bucket + 1).saturating_sub(SECOND)..=bucket].iter().sum::<u32>();
    let (attempts, retries) = (sum(&edge.attempts), sum(&edge.retries));
    (f64::from(attempts) / f64::from(attempts.saturating_sub(retries).max(1)), retries)
}

fn waves(here: &Series, there: &Series, start: usize) -> Vec<RetryWave> {
    let mut found = Vec::new();
    for (name, edge) in &here.edges {
        let twin = &there.edges[name];
        let buckets = edge.attempts.len();
        // (In seconds with few calls a single retry is a high ratio.)
        let twin_ratio = (SECOND - 1..twin.attempts.len())
            .map(|b| second_of(twin, b))
            .filter(|&(_, retries)| retries >= WAVE_RETRIES)
            .fold(1.0, |most, (ratio, _)| f64::max(most, ratio));
        let in_wave = |b: usize| {
            let (ratio, retries) = second_of(edge, b);
            retries >= WAVE_RETRIES && ratio > twin_ratio + WAVE_RATIO
        };
        let Some(first) = (start..buckets).find(|&b| in_wave(b)) else { continue };
        let seconds = (start..buckets).map(|b| (second_of(edge, b), b)).filter(|((_, retries), _)| *retries >= WAVE_RETRIES);
        let ((peak_ratio, _), peak) = seconds.fold(((0.0, 0), 0), |most, one| if one.0.0 > most.0.0 { one } else { most });
        found.push(RetryWave {
            edge: name.clone(),
            first_s: end_of(first),
            first_ratio: second_of(edge, first).0,
            peak_ratio,
            peak_s: end_of(peak),
            twin_ratio,
            calm_s: calm_from(buckets, in_wave),
        });
    }
    found.sort_by(|a, b| a.first_s.total_cmp(&b.first_s));
    found
}

fn breaches(program: &Program, plan: &FaultPlan, record: &RunRecord, here: &Series, there: &Series) -> Vec<Broken> {
    // The second that ends where the first breaching window does.
    let second = |node: &NodeSeries, first_s: f64| {
        let end = ((first_s * 1e9).round() as u64 / BUCKET_NS) as usize;
        let end = end.clamp(1, node.ended.len().max(1));
        let sum =
            |values: &[u32]| values[end.saturating_sub(SECOND).min(values.len())..end.min(values.len())].iter().sum::<u32>();
        let (ended, errors) = (sum(&node.ended), sum(&node.errors));
        (f64::from(errors) / f64::from(ended.max(1)), f64::from(node.p99_ms.get(end - 1).copied().unwrap_or(0.0)))
    };
    let mut found: Vec<Broken> = record
        .breaches
        .iter()
        .filter_map(|breach| {
            let (n, _, node) = here.nodes.get_full(&breach.node)?;
            let (error_rate, p99_ms) = second(node, breach.first_s);
            let (twin_error_rate, twin_p99_ms) = second(&there.nodes[n], breach.first_s);
            Some(Broken {
                node: breach.node.clone(),
                kind: node.kind.clone(),
                first_s: breach.first_s,
                by_error: breach.by_error,
                by_p99: breach.by_p99,
                target: plan.targets[n],
                error_rate,
                twin_error_rate,
                p99_ms,
                twin_p99_ms,
            })
        })
        .collect();
    debug_assert_eq!(found.len(), record.breaches.len(), "the record is of this program ({} nodes)", program.0.nodes.len());
    found.sort_by(|a, b| a.first_s.total_cmp(&b.first_s));
    found
}

/// What no error rate shows, from a bucket on.
fn effects(run: &Finished, start: usize, count: fn(&SystemStep) -> u32) -> Option<Effects> {
    let steps = run.recorder.system();
    let mut seen = (start..).zip(steps.get(start..)?).filter(|(_, step)| count(step) > 0);
    let (first, step) = seen.next()?;
    let (last, total) = seen.fold((first, u64::from(count(step))), |(_, total), (b, step)| (b, total + u64::from(count(step))));
    Some(Effects { first_s: end_of(first), last_s: end_of(last), count: total })
}

/// The run and its twin between the end of the faults and the return of users, or the run's end.
fn aftermath(
    program: &Program,
    scenario: &Scenario,
    calm: &Scenario,
    options: &RunOptions,
    record: &RunRecord,
) -> Result<Option<Aftermath>, SimError> {
    let from = scenario.clears_at().map_or(options.warm_up, |t| Nanos::from_nanos(t.as_nanos()));
    // (The 5 s in which users are seen to be back are calm already.)
    let to = record.recovery_s.map_or(options.horizon, |s| from + Nanos::from_secs_f64(s)).min(options.horizon);
    let seconds = to.as_secs_f64() - from.as_secs_f64();
    if scenario.faults.is_empty() || seconds < 1.0 {
        return Ok(None);
    }
    let options = RunOptions { horizon: to, warm_up: from, series: false, ..options.clone() };
    let (here, there) = (run(program, scenario, &options)?.result(), run(program, calm, &options)?.result());
    // Who calls a service: its requests per second are the attempts at it.
    let offered = |result: &RunResult| {
        let mut per_s: IndexMap<String, f64> = IndexMap::new();
        for (policy, calls) in program.0.policies.iter().zip(result.boundaries.values()) {
            *per_s.entry(policy.name.to.clone()).or_default() += calls.attempts as f64 / seconds;
        }
        per_s
    };
    let (offered_here, offered_there) = (offered(&here), offered(&there));
    let mut services: Vec<ServiceAfter> = here
        .services
        .iter()
        .map(|(name, service)| {
            let twin = &there.services[name];
            let offered = |per_s: &IndexMap<String, f64>| per_s.get(name).copied().unwrap_or(0.0);
            ServiceAfter {
                service: name.clone(),
                per_s: offered(&offered_here),
                twin_per_s: offered(&offered_there),
                utilisation: service.utilisation,
                twin_utilisation: twin.utilisation,
                wasted: service.wasted as f64 / service.requests.max(1) as f64,
                mean_wait_ms: service.mean_wait_ms,
                twin_mean_wait_ms: twin.mean_wait_ms,
            }
        })
        .filter(|s| {
            s.wasted > 0.01
                || s.utilisation > s.twin_utilisation + 0.05
                || s.per_s > 1.1 * s.twin_per_s
                || s.per_s < 0.9 * s.twin_per_s
        })
        .collect();
    let strain = |s: &ServiceAfter| s.wasted + (s.utilisation - s.twin_utilisation).max(0.0) + s.mean_wait_ms / 1e6;
    services.sort_by(|a, b| strain(b).total_cmp(&strain(a)));
    services.truncate(SHOWN);
    let mut edges: Vec<EdgeAfter> = here
        .boundaries
        .iter()
        .map(|(name, calls)| {
            let per_call = |calls: &CallStats| calls.attempts as f64 / calls.requests.max(1) as f64;
            EdgeAfter {
                edge: name.clone(),
                calls_per_s: calls.requests as f64 / seconds,
                attempts_per_call: per_call(calls),
                twin_attempts_per_call: per_call(&there.boundaries[name]),
                failed: calls.error_rate,
                twin_failed: there.boundaries[name].error_rate,
                cause: main_cause(&calls.failed_attempts).to_owned(),
            }
        })
        .filter(|e| {
            e.calls_per_s > 0.0 && (e.failed > e.twin_failed + 0.01 || e.attempts_per_call > e.twin_attempts_per_call + 0.05)
        })
        .collect();
    edges.sort_by(|a, b| (b.failed + b.attempts_per_call).total_cmp(&(a.failed + a.attempts_per_call)));
    edges.truncate(SHOWN);
    let (from_s, to_s) = (from.as_secs_f64(), to.as_secs_f64());
    Ok(Some(Aftermath { from_s, to_s, services, edges, entries: entries(&here, seconds) }))
}

/// What most failed tries died of, in words.
fn main_cause(failed: &FailedAttempts) -> &'static str {
    let causes = [
        (failed.timeout, "no answer in time"),
        (failed.overload, "refused, for the queue was full"),
        (failed.error, "answered with an error"),
        (failed.connection, "connection refused or reset"),
        (failed.breaker_open, "the circuit breaker was open"),
        (failed.bulkhead, "too many under way at the caller"),
    ];
    let most = causes.iter().fold((0, ""), |most, one| if one.0 > most.0 { *one } else { most });
    most.1
}

#[cfg(test)]
mod tests {
    use models::units::SimTime;

    use super::*;
    use crate::fixtures::{TWENTY, faults, program};
    use crate::judged;

    #[test]
    fn calm_is_what_comes_after_the_last_time() {
        let deep = [false, true, true, false, true, false, false];
        assert_eq!(calm_from(7, |b| deep[b]), Some(end_of(4)));
        assert_eq!(calm_from(5, |b| deep[b]), None);
        assert_eq!(calm_from(1, |b| deep[b]), Some(0.0));
    }

    #[test]
    fn retries_are_told_per_second() {
        let edge = EdgeSeries { attempts: vec![10, 10, 10, 10, 40], retries: vec![0, 0, 0, 0, 30], failures: vec![0; 5] };
        assert_eq!(second_of(&edge, 3), (1.0, 0));
        assert_eq!(second_of(&edge, 4), (70.0 / 40.0, 30));
    }

    #[test]
    fn a_storm_is_told_in_order_and_agrees_with_its_record() {
        let (program, storm) = (program(TWENTY), &faults(TWENTY)[0]);
        let options = RunOptions { horizon: Nanos::from_secs(60), warm_up: Nanos::from_secs(5), ..RunOptions::default() };
        let record = judged(&program, storm, &options, [0; 4]).expect("it fits");
        let told = story(&program, storm, &options, &record).expect("it fits");
        let start = storm.starts_at().unwrap_or(SimTime::ZERO).as_secs_f64();
        assert!(!told.breaches.is_empty() && told.breaches.len() == record.breaches.len(), "{told:#?}");
        assert!(told.breaches.windows(2).all(|two| two[0].first_s <= two[1].first_s));
        assert!(told.breaches.iter().all(|b| b.first_s > start && (b.by_error || b.by_p99)));
        assert!(!told.queues.is_empty(), "{told:#?}");
        for queue in &told.queues {
            assert!(queue.first_s > start && queue.peak >= queue.first_depth && queue.peak > queue.twin_peak, "{queue:?}");
            assert!(queue.bound.is_none_or(|bound| queue.peak <= bound), "{queue:?}");
        }
        let deepest = told.queues.iter().map(|queue| queue.peak).max();
        assert_eq!(deepest.map(f64::from), Some(record.queue_depth.peak), "the record's deepest queue is among them");
        for wave in &told.retries {
            assert!(
                wave.peak_ratio >= wave.first_ratio && wave.first_ratio > wave.twin_ratio && wave.first_s > start,
                "{wave:?}"
            );
        }
    }

    #[test]
    fn nothing_is_told_of_a_run_without_faults() {
        let program = program(TWENTY);
        let options = RunOptions { horizon: Nanos::from_secs(20), warm_up: Nanos::from_secs(5), ..RunOptions::default() };
        let nothing = Scenario::default();
        let record = judged(&program, &nothing, &options, [0; 4]).expect("it fits");
        let told = story(&program, &nothing, &options, &record).expect("it fits");
        assert!(!told.normal.is_empty());
        assert_eq!(Story { normal: Vec::new(), ..told }, Story::default());
    }
}
