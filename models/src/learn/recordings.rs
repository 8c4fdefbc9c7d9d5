//! Which input files belong together in time.
//!
//! You are here: `models::learn::recordings`, before all else. A collector may spread one recording over files; and two recordings of
//! one system may cover the same hour of two different days, or of two test beds side by side. In the first case rates and requests in
//! progress add up, in the second they must not. Files that overlap in time and share no trace are told apart by physics: where there
//! is a queue, requests take longer the more others are in progress. If that holds for those of the same file, and not for those of
//! the others, the files are separate recordings; they are then set apart in time, one after the other.
//! Always true: one file, files that share traces and files that do not overlap are left as they are.

use std::collections::{BTreeMap, BTreeSet};

use super::findings::Finding;
use crate::trace::{FileNotes, Kind, Span, Trace};

/// Set apart by this much more than their length: a hole that `workload::covered` sees.
const GAP_NS: u64 = 3_600_000_000_000;
/// Requests that a file needs before anything can be told.
const LEAST_REQUESTS: usize = 200;
/// How sure the effect of the own file must be: t value.
const SURE: f64 = 6.0;
/// At most this part of the own effect may come from other files.
const NEGLIGIBLE: f64 = 1.0 / 3.0;

/// What was found about the input files.
#[derive(Debug, Default)]
pub(crate) struct Recordings {
    /// By input: nanoseconds to add.
    shifts: BTreeMap<u32, u64>,
    verdict: Option<Verdict>,
}

#[derive(Debug)]
struct Verdict {
    inputs: BTreeSet<u32>,
    effects: Option<Effects>,
}

/// t values of requests in progress on durations.
#[derive(Clone, Copy, Debug)]
struct Effects {
    own: f64,
    other: f64,
}

impl Recordings {
    /// Looks at all traces.
    pub(crate) fn of(traces: &[Trace]) -> Self {
        let mut spans: BTreeMap<u32, (u64, u64, usize)> = BTreeMap::new();
        for span in traces.iter().flat_map(|t| &t.spans).filter(|s| is_request(s)) {
            let (first, last, count) = spans.entry(span.input).or_insert((u64::MAX, 0, 0));
            *first = (*first).min(span.start_ns);
            *last = (*last).max(span.start_ns + span.duration_ns);
            *count += 1;
        }
        let shares_traces = traces.iter().any(|t| t.spans.iter().any(|s| s.input != t.spans[0].input));
        let large: Vec<(u32, u64, u64)> =
            spans.iter().filter(|(_, s)| s.2 >= LEAST_REQUESTS).map(|(&input, &(first, last, _))| (input, first, last)).collect();
        // Overlapping: most of the shorter one lies within the other.
        let overlaps = |a: &(u32, u64, u64), b: &(u32, u64, u64)| {
            let common = a.2.min(b.2).saturating_sub(a.1.max(b.1));
            2 * common > (a.2 - a.1).min(b.2 - b.1)
        };
        let inputs: BTreeSet<u32> =
            large.iter().filter(|a| large.iter().any(|b| a.0 != b.0 && overlaps(a, b))).map(|a| a.0).collect();
        if shares_traces || inputs.len() < 2 {
            return Recordings::default();
        }
        let effects = effects(traces, &inputs);
        let separate = effects.is_some_and(|e| e.own >= SURE && e.other <= NEGLIGIBLE * e.own);
        let mut recordings = Recordings::default();
        if separate {
            let length = large.iter().map(|&(_, _, last)| last).max().unwrap_or(0)
                - large.iter().map(|&(_, first, _)| first).min().unwrap_or(0);
            recordings.shifts = inputs.iter().zip(0..).map(|(&input, n)| (input, n * (length + GAP_NS))).collect();
        }
        recordings.verdict = Some(Verdict { inputs, effects: effects.filter(|_| separate) });
        recordings
    }

    /// What to add to the times of a trace, in nanoseconds.
    pub(crate) fn shift_ns(&self, trace: &Trace) -> u64 {
        trace.spans.first().and_then(|s| self.shifts.get(&s.input)).copied().unwrap_or(0)
    }

    /// What a person should know of it.
    pub(crate) fn finding(&self, files: &[FileNotes]) -> Option<Finding> {
        let verdict = self.verdict.as_ref()?;
        let files = verdict.inputs.iter().filter_map(|&i| files.get(i as usize)).map(|f| f.path.clone()).collect();
        Some(match verdict.effects {
            Some(Effects { own, other }) => Finding::SeparateRecordings { files, own, other },
            None => Finding::OverlappingFiles { files },
        })
    }
}

fn is_request(span: &Span) -> bool {
    matches!(span.kind, Kind::Server | Kind::Consumer)
}

/// How the durations of requests depend on how many others their replica had in progress when they came: of the same input, and of the
/// other inputs. Durations are logarithms, centred by replica and operation; the t values are those of two simple regressions over all
/// replicas together. `None` where nothing varies.
fn effects(traces: &[Trace], inputs: &BTreeSet<u32>) -> Option<Effects> {
    let mut by_replica: BTreeMap<(&str, &str), Vec<&Span>> = BTreeMap::new();
    for span in traces.iter().flat_map(|t| &t.spans).filter(|s| is_request(s) && inputs.contains(&s.input)) {
        by_replica.entry((&span.service, &span.instance)).or_default().push(span);
    }
    // n, sum of squares of y, and for own and other level: sum of squares, sum of products with y.
    let mut n = 0.0;
    let (mut yy, mut own_sums, mut other_sums) = (0.0, [0.0; 2], [0.0; 2]);
    for spans in by_replica.values_mut() {
        spans.sort_by_key(|s| (s.start_ns, s.span_id));
        let mut groups: BTreeMap<&str, Vec<[f64; 3]>> = BTreeMap::new();
        let mut in_progress: Vec<(u64, u32)> = Vec::new();
        for span in spans.iter() {
            in_progress.retain(|&(end, _)| end > span.start_ns);
            let own = in_progress.iter().filter(|&&(_, input)| input == span.input).count();
            let other = in_progress.len() - own;
            let duration = libm::log((span.duration_ns as f64).max(1.0));
            groups.entry(&*span.operation).or_default().push([duration, own as f64, other as f64]);
            if in_progress.len() < 4096 {
                in_progress.push((span.start_ns + span.duration_ns, span.input));
            }
        }
        for group in groups.values().filter(|g| g.len() >= 30) {
            let size = group.len() as f64;
            let mean = |i: usize| group.iter().map(|row| row[i]).sum::<f64>() / size;
            let means = [mean(0), mean(1), mean(2)];
            for row in group {
                let [y, own, other] = [row[0] - means[0], row[1] - means[1], row[2] - means[2]];
                n += 1.0;
                yy += y * y;
                own_sums = [own_sums[0] + own * own, own_sums[1] + own * y];
                other_sums = [other_sums[0] + other * other, other_sums[1] + other * y];
            }
        }
    }
    let t = |[xx, xy]: [f64; 2]| {
        let r = xy / libm::sqrt(xx * yy);
        (xx > 0.0 && yy > 0.0 && r.abs() < 1.0).then(|| r * libm::sqrt((n - 2.0) / (1.0 - r * r)))
    };
    Some(Effects { own: t(own_sums)?, other: t(other_sums)? })
}
