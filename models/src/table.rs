//! Integer quantile tables: what engines draw service times from, without a float in the event loop.
//!
//! You are here: `models::table`. Built once per model from `dist` through `libm`, shared by all runs.
//! Always true: a draw is an integer function of 64 uniform bits, the same on every platform.
//!
//! Knots lie where the survivor function S (the share of draws above a value) is 2^-o x (1 - c/64), for 32 octaves o of 32 cells c:
//! cells narrow towards the tail, so that heavy tails keep their shape down to S = 2^-32. Between knots the table is linear;
//! a factor on all knots then makes its mean that of the distribution.

use libm::{exp, log, sqrt};

use crate::dist::Dist;
use crate::units::Nanos;

const OCTAVES: usize = 32;
const CELLS: usize = 32;
/// Longest time in a table, 52 days: beyond every run, and small enough that no sum or product of an engine overflows.
const LONGEST_NS: f64 = (1u64 << 52) as f64;
/// Knots of a table.
const KNOTS: usize = OCTAVES * CELLS + 1;
/// 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_347_874_040_841;

/// A distribution of durations as an integer table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantileTable {
    /// Quantiles in nanoseconds, rising.
    knots: Box<[u64; KNOTS]>,
}

impl QuantileTable {
    /// The table of a distribution whose times are multiplied by `scale`.
    pub fn new(dist: &Dist, scale: f64) -> Self {
        let (quantile, mean): (Box<dyn Fn(f64) -> f64>, Option<f64>) = match dist {
            Dist::Constant(time) => {
                let ns = time.as_nanos() as f64;
                (Box::new(move |_| ns), None)
            }
            Dist::Exponential(mean) => {
                let mean = mean.as_nanos() as f64;
                (Box::new(move |survivor| -mean * log(survivor)), Some(mean))
            }
            Dist::Lognormal { p50, p99 } => {
                let median = p50.as_nanos() as f64;
                let sigma = lognormal_sigma(*p50, *p99);
                let q = move |survivor: f64| median * exp(sigma * -normal_quantile(survivor.min(1.0 - 1e-3)));
                (Box::new(q), Some(median * exp(sigma * sigma / 2.0)))
            }
            Dist::Quantiles(points) => {
                let points = points.clone();
                (Box::new(move |survivor| interpolate(&points, 1.0 - survivor)), None)
            }
        };
        let raw: Vec<f64> = (0..KNOTS).map(|i| quantile(survivor_at(i)) * scale).collect();
        let correction = match mean {
            Some(mean) if mean > 0.0 => mean * scale / piecewise_linear_mean(&raw),
            _ => 1.0,
        };
        let mut knots = Box::new([0; KNOTS]);
        for (knot, ns) in knots.iter_mut().zip(&raw) {
            *knot = (ns * correction).round().clamp(0.0, LONGEST_NS) as u64;
        }
        for i in 1..KNOTS {
            knots[i] = knots[i].max(knots[i - 1]);
        }
        QuantileTable { knots }
    }

    /// The duration in nanoseconds for 64 uniform bits.
    #[inline(always)]
    pub fn draw(&self, bits: u64) -> u64 {
        let octave = (bits.leading_zeros() as usize).min(OCTAVES - 1);
        // 0 where the octave begins (large S), rising to just below 2^63 where it ends.
        let into = (!(bits << octave)).min((1 << 63) - 1);
        let knot = octave * CELLS + (into >> 58) as usize;
        let fraction = (into >> 26) & 0xFFFF_FFFF;
        let (low, high) = (self.knots[knot], self.knots[knot + 1]);
        low + ((u128::from(high - low) * u128::from(fraction)) >> 32) as u64
    }

    /// Mean of the table's draws, in nanoseconds.
    pub fn mean_ns(&self) -> f64 {
        piecewise_linear_mean(&self.knots.iter().map(|&ns| ns as f64).collect::<Vec<_>>())
    }
}

impl Dist {
    /// Mean, exact for the parametric forms and of the piecewise-linear form for quantiles.
    pub fn mean(&self) -> Nanos {
        match self {
            Dist::Constant(time) | Dist::Exponential(time) => *time,
            Dist::Lognormal { p50, p99 } => {
                let sigma = lognormal_sigma(*p50, *p99);
                Nanos::from_secs_f64(p50.as_secs_f64() * exp(sigma * sigma / 2.0))
            }
            Dist::Quantiles(points) => Nanos::from_secs_f64(
                points.windows(2).map(|w| (w[1].0 - w[0].0) * (w[0].1.as_secs_f64() + w[1].1.as_secs_f64()) / 2.0).sum(),
            ),
        }
    }

    /// The duration below which a share `p` (0..=1) of draws lies.
    pub fn quantile(&self, p: f64) -> Nanos {
        match self {
            Dist::Constant(time) => *time,
            Dist::Exponential(mean) => Nanos::from_secs_f64(-mean.as_secs_f64() * log((1.0 - p).max(1e-12))),
            Dist::Lognormal { p50, p99 } => {
                let z = normal_quantile(p.clamp(1e-12, 1.0 - 1e-12));
                Nanos::from_secs_f64(p50.as_secs_f64() * exp(lognormal_sigma(*p50, *p99) * z))
            }
            Dist::Quantiles(points) => Nanos::from_nanos(interpolate(points, p).round() as u64),
        }
    }
}

/// The lognormal's sigma from its median and 99th percentile; 0 where they do not make one.
fn lognormal_sigma(p50: Nanos, p99: Nanos) -> f64 {
    if p50.is_zero() || p99 <= p50 { 0.0 } else { log(p99.as_nanos() as f64 / p50.as_nanos() as f64) / Z99 }
}

/// S at a knot.
fn survivor_at(knot: usize) -> f64 {
    let (octave, cell) = (knot / CELLS, knot % CELLS);
    (1.0 - cell as f64 / 64.0) / (1u64 << octave) as f64
}

/// Mean of a table that is linear between its knots, the rest beyond the last knot counted at its value.
fn piecewise_linear_mean(knots: &[f64]) -> f64 {
    let inner: f64 = (0..KNOTS - 1).map(|i| (survivor_at(i) - survivor_at(i + 1)) * (knots[i] + knots[i + 1]) / 2.0).sum();
    inner + survivor_at(KNOTS - 1) * knots[KNOTS - 1]
}

/// The quantile table's value at probability `p`, in nanoseconds, linear between points.
fn interpolate(points: &[(f64, Nanos)], p: f64) -> f64 {
    let after = points.partition_point(|&(at, _)| at <= p);
    match (after.checked_sub(1).and_then(|i| points.get(i)), points.get(after)) {
        (Some(&(p0, a)), Some(&(p1, b))) => {
            let (a, b) = (a.as_nanos() as f64, b.as_nanos() as f64);
            a + (b - a) * (p - p0) / (p1 - p0)
        }
        (Some(&(_, only)), None) | (None, Some(&(_, only))) => only.as_nanos() as f64,
        (None, None) => 0.0,
    }
}

/// Quantile of the standard normal distribution at `p` in 0..1. Relative error below 1e-15.
/// Source: M. J. Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution", Applied Statistics 37 (1988), PPND16.
pub fn normal_quantile(p: f64) -> f64 {
    /// Ratio of two polynomials, coefficients from the constant term up.
    fn ratio(numerator: [f64; 8], denominator: [f64; 8], r: f64) -> f64 {
        let horner = |c: [f64; 8]| c.iter().rev().fold(0.0, |sum, &k| sum * r + k);
        horner(numerator) / horner(denominator)
    }
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        const A: [f64; 8] = [
            3.387_132_872_796_366_5,
            133.141_667_891_784_38,
            1_971.590_950_306_551_3,
            13_731.693_765_509_46,
            45_921.953_931_549_87,
            67_265.770_927_008_7,
            33_430.575_583_588_13,
            2_509.080_928_730_122_7,
        ];
        const B: [f64; 8] = [
            1.0,
            42.313_330_701_600_91,
            687.187_007_492_057_9,
            5_394.196_021_424_751,
            21_213.794_301_586_597,
            39_307.895_800_092_71,
            28_729.085_735_721_943,
            5_226.495_278_852_545,
        ];
        return q * ratio(A, B, 0.180_625 - q * q);
    }
    let r = sqrt(-log(if q < 0.0 { p } else { 1.0 - p }));
    let z = if r <= 5.0 {
        const C: [f64; 8] = [
            1.423_437_110_749_683_5,
            4.630_337_846_156_546,
            5.769_497_221_460_691,
            3.647_848_324_763_204_5,
            1.270_458_252_452_368_4,
            0.241_780_725_177_450_6,
            0.022_723_844_989_269_184,
            0.000_774_545_014_278_341_4,
        ];
        const D: [f64; 8] = [
            1.0,
            2.053_191_626_637_759,
            1.676_384_830_183_803_8,
            0.689_767_334_985_1,
            0.148_103_976_427_480_08,
            0.015_198_666_563_616_457,
            0.000_547_593_808_499_534_5,
            0.000_000_001_050_750_071_644_416_8,
        ];
        ratio(C, D, r - 1.6)
    } else {
        const E: [f64; 8] = [
            6.657_904_643_501_103,
            5.463_784_911_164_114,
            1.784_826_539_917_291_3,
            0.296_560_571_828_504_87,
            0.026_532_189_526_576_124,
            0.001_242_660_947_388_078_4,
            0.000_027_115_555_687_434_876,
            0.000_000_201_033_439_929_228_8,
        ];
        const F: [f64; 8] = [
            1.0,
            0.599_832_206_555_888,
            0.136_929_880_922_735_8,
            0.014_875_361_290_850_615,
            0.000_786_869_131_145_613_3,
            0.000_018_463_183_175_100_548,
            0.000_000_142_151_175_831_644_6,
            0.000_000_000_000_002_044_263_103_389_939_8,
        ];
        ratio(E, F, r - 5.0)
    };
    if q < 0.0 { -z } else { z }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Key, Purpose};

    fn ms(ms: u64) -> Nanos {
        Nanos::from_millis(ms)
    }

    #[test]
    fn normal_quantiles_match_published_values() {
        for (p, z) in [(0.5, 0.0), (0.975, 1.959_963_984_540_054), (0.99, Z99), (1e-9, -5.997_807_015_007_687)] {
            assert!((normal_quantile(p) - z).abs() < 1e-9, "{p}: {}", normal_quantile(p));
        }
    }

    #[test]
    fn tables_have_the_means_of_their_distributions() {
        for (dist, mean) in [
            (Dist::Constant(ms(20)), 20e6),
            (Dist::Exponential(ms(20)), 20e6),
            (Dist::Lognormal { p50: ms(10), p99: ms(50) }, 10e6 * exp(0.5 * (log(5.0) / Z99) * (log(5.0) / Z99))),
            (Dist::Quantiles(vec![(0.0, ms(10)), (0.5, ms(20)), (1.0, ms(30))]), 20e6),
        ] {
            let table = QuantileTable::new(&dist, 1.0);
            assert!((table.mean_ns() / mean - 1.0).abs() < 1e-4, "{dist:?}: {}", table.mean_ns());
            assert!((QuantileTable::new(&dist, 3.0).mean_ns() / mean - 3.0).abs() < 1e-3);
        }
    }

    #[test]
    fn draws_follow_the_distribution_into_the_tail() {
        let table = QuantileTable::new(&Dist::Exponential(ms(1)), 1.0);
        let n = 2_000_000;
        let draws: Vec<u64> = (0..n).map(|i| table.draw(Key(9).draw(Purpose::Work, i))).collect();
        for survivor in [0.9, 0.5, 0.1, 0.01, 0.001] {
            let above = draws.iter().filter(|&&d| d as f64 > -1e6 * log(survivor)).count() as f64;
            let sd = sqrt(f64::from(n) * survivor * (1.0 - survivor));
            assert!((above - f64::from(n) * survivor).abs() < 4.0 * sd, "{survivor}: {above}");
        }
    }

    #[test]
    fn the_first_draws_are_pinned() {
        let table = QuantileTable::new(&Dist::Lognormal { p50: ms(10), p99: ms(50) }, 1.0);
        let draws: Vec<u64> = (0..3).map(|n| table.draw(Key(1).draw(Purpose::Work, n))).collect();
        expect_test::expect!["[4992865, 19496663, 3187576]"].assert_eq(&format!("{draws:?}"));
        assert_eq!(table.draw(u64::MAX), table.knots[0]);
        assert!(table.draw(0) <= table.knots[KNOTS - 1]);
    }
}
