//! The little statistics that learning needs: quantiles, intervals, tables.
//!
//! You are here: `models::learn::numbers`. Always true: no result depends on the order of equal samples.

use crate::dist::{Dist, Work};
use crate::param::Source;
use crate::system::Observed;
use crate::units::Nanos;

/// z of a two-sided 90 % interval.
const Z90: f64 = 1.645;

/// The nearest-rank quantile of sorted samples; 0 without any.
pub(crate) fn quantile(sorted: &[u64], q: f64) -> u64 {
    if sorted.is_empty() {
        return 0;
    }
    let rank = (q * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted[rank.min(sorted.len()) - 1]
}

/// The median of samples in any order; 0 without any.
pub(crate) fn median(samples: &mut [u64]) -> u64 {
    if samples.is_empty() {
        return 0;
    }
    let rank = (samples.len() - 1) / 2;
    *samples.select_nth_unstable(rank).1
}

/// The arithmetic mean; 0 without any.
pub(crate) fn mean(samples: &[u64]) -> f64 {
    if samples.is_empty() {
        return 0.0;
    }
    samples.iter().map(|&s| s as f64).sum::<f64>() / samples.len() as f64
}

/// Mean of the middle half: as robust against bursts and holes as needed, and steadier than a median of counts.
pub(crate) fn interquartile_mean(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    let cut = samples.len() / 4;
    let middle = &samples[cut..samples.len() - cut];
    middle.iter().sum::<f64>() / middle.len().max(1) as f64
}

/// Wilson's 90 % interval of a share: `hits` of `n`.
pub(crate) fn wilson(hits: u64, n: u64) -> [f64; 2] {
    if n == 0 {
        return [0.0, 1.0];
    }
    let (n, p, z2) = (n as f64, hits as f64 / n as f64, Z90 * Z90);
    let centre = p + z2 / (2.0 * n);
    let half = Z90 * libm::sqrt(p * (1.0 - p) / n + z2 / (4.0 * n * n));
    let scale = 1.0 + z2 / n;
    // Rounding must not put the estimate itself outside: with every hit the upper end is 1 and not a hair less.
    [((centre - half) / scale).clamp(0.0, p), ((centre + half) / scale).clamp(p, 1.0)]
}

/// Percent points of the tables that are written: dense at both ends, where queues and timeouts are decided.
const POINTS: [f64; 41] = [
    0.0, 0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 13.0, 16.0, 20.0, 24.0, 28.0, 32.0, 36.0, 40.0, 44.0, 48.0, 50.0, 52.0, 56.0,
    60.0, 64.0, 68.0, 72.0, 76.0, 80.0, 84.0, 87.0, 90.0, 92.0, 94.0, 95.0, 96.0, 97.0, 98.0, 99.0, 99.5, 99.9, 100.0,
];

/// The empirical distribution of samples: a quantile table, or a constant where one says it all.
pub(crate) fn table(samples: &mut [u64]) -> Dist {
    samples.sort_unstable();
    let (Some(&first), Some(&last)) = (samples.first(), samples.last()) else {
        return Dist::Constant(Nanos::ZERO);
    };
    if round(first) == round(last) {
        return Dist::Constant(round(first));
    }
    let steps = (samples.len() - 1) as f64;
    let at = |percent: f64| {
        let place = percent / 100.0 * steps;
        let (below, part) = (place.floor() as usize, place.fract());
        let above = (below + 1).min(samples.len() - 1);
        round((samples[below] as f64 + part * (samples[above] - samples[below]) as f64) as u64)
    };
    // Few samples carry no more points than they are.
    let stride = (POINTS.len() / samples.len()).max(1);
    let chosen = POINTS.iter().enumerate().filter(|(i, _)| i % stride == 0 || *i == POINTS.len() - 1);
    Dist::Quantiles(chosen.map(|(_, &percent)| (percent / 100.0, at(percent))).collect())
}

/// To the microsecond above 10 us: what a clock can tell, and what a person can read.
fn round(ns: u64) -> Nanos {
    Nanos::from_nanos(if ns >= 10_000 { (ns + 500) / 1_000 * 1_000 } else { ns })
}

/// Work as seen in samples: observed from 100 on, else inferred; with the interval of the mean as a factor, unless that is below 1 %.
pub(crate) fn work(samples: &mut [u64]) -> Work {
    const NOTHING: f64 = 0.01;
    let n = samples.len() as f64;
    let dist = table(samples);
    let mean = mean(samples);
    let variance = samples.iter().map(|&s| (s as f64 - mean) * (s as f64 - mean)).sum::<f64>() / (n - 1.0).max(1.0);
    // One or two samples say little about their spread: at least as much as an exponential would show.
    let spread = if samples.len() < 5 { 1.0 } else { libm::sqrt(variance) / mean.max(1.0) };
    let half = Z90 * spread / libm::sqrt(n.max(1.0));
    let source = if samples.len() >= 100 { Source::Observed } else { Source::Inferred };
    let certain = source == Source::Observed && half < NOTHING;
    Work { dist, source, scale_range: (!certain).then(|| [1.0 / (1.0 + half), 1.0 + half]) }
}

/// The numbers that stand beside a service, operation or topic, from the durations of what it answered.
pub(crate) fn observe(durations: &mut [u64], failed: u64, per_s: f64) -> Observed {
    durations.sort_unstable();
    let calls = durations.len() as u64;
    Observed {
        calls,
        per_s,
        error_rate: failed as f64 / calls.max(1) as f64,
        mean_ms: mean(durations) / 1e6,
        p50_ms: quantile(durations, 0.5) as f64 / 1e6,
        p99_ms: quantile(durations, 0.99) as f64 / 1e6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_is_narrow_with_many_and_wide_with_few() {
        let [low, high] = wilson(10, 10);
        assert!((low - 0.787).abs() < 0.001 && high == 1.0, "{low} {high}");
        let [low, high] = wilson(500, 1000);
        assert!((low - 0.474).abs() < 0.001 && (high - 0.526).abs() < 0.001, "{low} {high}");
        assert_eq!(wilson(0, 0), [0.0, 1.0]);
    }

    #[test]
    fn a_table_keeps_the_ends_and_the_middle() {
        let Dist::Quantiles(points) = table(&mut (0..=10_000).map(|i| 1_000_000 + i * 1_000).collect::<Vec<_>>()) else {
            panic!("not a table")
        };
        assert_eq!(points.first(), Some(&(0.0, Nanos::from_millis(1))));
        assert_eq!(points.last(), Some(&(1.0, Nanos::from_millis(11))));
        assert!(points.contains(&(0.5, Nanos::from_millis(6))));
        assert!(points.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1));
        assert_eq!(table(&mut [5_000_000]), Dist::Constant(Nanos::from_millis(5)));
        let Dist::Quantiles(two) = table(&mut [1_000_000, 3_000_000]) else { panic!("not a table") };
        assert_eq!((two[0].0, two[two.len() - 1].0), (0.0, 1.0));
    }

    #[test]
    fn bursts_and_holes_do_not_move_the_interquartile_mean() {
        let mut counts: Vec<f64> = std::iter::repeat_n(70.0, 40).chain(std::iter::repeat_n(150.0, 8)).chain([0.0, 0.0]).collect();
        assert!((interquartile_mean(&mut counts) - 70.0).abs() < 1e-9);
    }
}
