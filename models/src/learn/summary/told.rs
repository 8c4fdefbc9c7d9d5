//! What all summaries together tell: calls per second of every pair, their failures, their times.
//!
//! You are here: `models::learn::summary::told`. Units end here: counts become rates, histograms quantile tables.

use std::collections::{BTreeMap, BTreeSet};

use crate::dist::Dist;
use crate::learn::log::plain_name;
use crate::trace::{CallSummary, GraphSummary, Histogram, Times, Volume};
use crate::units::Nanos;

/// What links without a time are taken to be counted over: Jaeger and Zipkin ask for a day unless told otherwise.
const ASSUMED_SECONDS: f64 = 86_400.0;
/// Spread of a lognormal with p99 = 10 x p50: ln 10 / z(0.99). What is assumed of times of which one quantile is told.
pub(super) const SIGMA: f64 = 0.99;

/// Calls of one pair with all that any summary told of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Pair {
    pub(super) per_s: f64,
    pub(super) failed_share: Option<f64>,
    pub(super) server: Option<Times>,
    pub(super) client: Option<Times>,
    pub(super) message: bool,
}

/// Everything that all summaries told.
pub(super) struct Told {
    pub(super) pairs: BTreeMap<(Option<String>, String), Pair>,
    pub(super) gateways: BTreeSet<String>,
    pub(super) left_out: BTreeMap<String, u64>,
    /// The time that the source names.
    pub(super) seconds: Option<f64>,
    /// Whether counts were made over a time that nobody names.
    pub(super) seconds_assumed: bool,
}

impl Told {
    pub(super) fn of(summaries: &[GraphSummary]) -> Told {
        let seconds = summaries.iter().find_map(|summary| summary.seconds);
        let mut told = Told {
            pairs: BTreeMap::new(),
            gateways: BTreeSet::new(),
            left_out: BTreeMap::new(),
            seconds,
            seconds_assumed: false,
        };
        // Failures may stand in another file than the calls.
        let mut failed: BTreeMap<(Option<String>, String), f64> = BTreeMap::new();
        for summary in summaries {
            for ((from, to), call) in &summary.calls {
                let ends = (from.as_deref().map(plain), plain(to));
                let per_s = |volume: Volume| match volume {
                    Volume::PerSecond(rate) => rate,
                    Volume::Count(count) => count / summary.seconds.unwrap_or(ASSUMED_SECONDS),
                };
                let pair = told.pairs.entry(ends.clone()).or_default();
                if pair.per_s == 0.0 && call.volume.number() > 0.0 {
                    pair.per_s = per_s(call.volume);
                    told.seconds_assumed |= matches!(call.volume, Volume::Count(_)) && summary.seconds.is_none();
                }
                if let Some(failed_calls) = call.failed {
                    let unit = match call.volume {
                        Volume::PerSecond(_) => Volume::PerSecond(failed_calls),
                        Volume::Count(_) => Volume::Count(failed_calls),
                    };
                    let most = failed.entry(ends.clone()).or_default();
                    *most = most.max(per_s(unit));
                }
                pair.take_times(call);
            }
            told.gateways.extend(summary.gateways.iter().map(|name| plain(name)));
            for (what, n) in &summary.left_out {
                *told.left_out.entry(what.clone()).or_default() += n;
            }
        }
        for (ends, pair) in &mut told.pairs {
            pair.failed_share = failed.get(ends).filter(|_| pair.per_s > 0.0).map(|failed| (failed / pair.per_s).min(1.0));
        }
        told.pairs.retain(|_, pair| pair.per_s > 0.0);
        told
    }

    pub(super) fn into(&self, service: &str) -> impl Iterator<Item = &Pair> {
        self.pairs.iter().filter(move |((_, to), _)| to == service).map(|(_, pair)| pair)
    }
}

/// A name that a model can be written with.
fn plain(name: &str) -> String {
    plain_name(name, "unknown")
}

impl Pair {
    fn take_times(&mut self, call: &CallSummary) {
        self.server = self.server.take().or_else(|| call.server.clone());
        self.client = self.client.take().or_else(|| call.client.clone());
        self.message |= call.message;
    }

    /// The callee's time, else what its caller waited.
    fn times(&self) -> Option<&Times> {
        self.server.as_ref().or(self.client.as_ref())
    }

    /// One-way network time: half of what the caller waited longer than the callee took.
    pub(super) fn latency(&self) -> Option<Nanos> {
        let (server, client) = (mean(self.server.as_ref()?)?, mean(self.client.as_ref()?)?);
        (client > server).then(|| time((client - server) / 2.0))
    }
}

/// Seconds as a time that can be written and read again: a bucket's bound may be any number.
pub(super) fn time(seconds: f64) -> Nanos {
    Nanos::from_secs_f64(seconds).min(Nanos::LONGEST)
}

/// Mean seconds.
fn mean(times: &Times) -> Option<f64> {
    match times {
        // Of a lognormal: p(q) = m exp(sigma z(q)), mean = m exp(sigma^2 / 2).
        Times::Quantile(q, seconds) => {
            let z = crate::table::normal_quantile(q.clamp(0.001, 0.999));
            Some(seconds * libm::exp(SIGMA * SIGMA / 2.0 - SIGMA * z))
        }
        Times::Histogram(histogram) => {
            histogram.mean().or_else(|| quantiles(histogram).map(|points| Dist::Quantiles(points).mean().as_secs_f64()))
        }
    }
}

/// A histogram as a quantile table: within a bucket all times are taken as equally likely, and beyond the last finite bound they end at
/// twice that bound.
pub(super) fn quantiles(histogram: &Histogram) -> Option<Vec<(f64, Nanos)>> {
    let mut seen = 0.0_f64;
    // Rounding in rates must not make counts fall.
    let rising: Vec<(f64, f64)> = histogram
        .buckets
        .iter()
        .map(|&(bound, count)| {
            seen = seen.max(count);
            (bound, seen)
        })
        .collect();
    let total = histogram.count.unwrap_or(0.0).max(seen);
    if total <= 0.0 {
        return None;
    }
    let last_finite = rising.iter().rev().find(|(bound, _)| bound.is_finite())?.0;
    let mut points: Vec<(f64, f64)> = Vec::new();
    let mut below = 0.0;
    for &(bound, count) in rising.iter().filter(|(bound, _)| bound.is_finite()) {
        let share = count / total;
        if share <= 0.0 {
            below = bound;
            continue;
        }
        if points.is_empty() {
            // Nothing is known below the first bound but that it is above 0.
            points.push((0.0, if below > 0.0 { below } else { bound / 10.0 }));
        }
        if share > points.last().map_or(0.0, |point| point.0) {
            points.push((share.min(1.0), bound));
        }
    }
    if points.is_empty() {
        points.push((0.0, last_finite));
    }
    match points.last_mut() {
        Some(last) if last.0 > 0.999_999 => last.0 = 1.0,
        _ => points.push((1.0, 2.0 * last_finite)),
    }
    Some(points.into_iter().map(|(share, seconds)| (share, time(seconds))).collect())
}

/// All times of what a service answered, weighted by how often it was asked: its mean, and the shape with the most weight.
pub(super) struct Answered<'a> {
    pub(super) mean_s: f64,
    pub(super) shape: &'a Times,
}

pub(super) fn answered<'a>(told: &'a Told, service: &str) -> Option<Answered<'a>> {
    let (mut sum, mut weight) = (0.0, 0.0);
    let mut shape: Option<(&Times, f64)> = None;
    for pair in told.into(service) {
        let Some(times) = pair.times() else { continue };
        let Some(mean) = mean(times) else { continue };
        (sum, weight) = (sum + mean * pair.per_s, weight + pair.per_s);
        let better = shape.is_none_or(|(best, most)| {
            let is_histogram = |times: &Times| matches!(times, Times::Histogram(_));
            (is_histogram(times), pair.per_s) > (is_histogram(best), most)
        });
        if better {
            shape = Some((times, pair.per_s));
        }
    }
    shape.filter(|_| weight > 0.0).map(|(shape, _)| Answered { mean_s: sum / weight, shape })
}
