//! Times as mean and variance, how often a cache can answer, how often a queue refuses: what a steady flow is computed from.
//!
//! You are here: `scenarios::moments`. `flow` adds these up along call paths; `rules` put them into words.
//! Not here: draws from distributions (the engines have tables for that).

use models::dist::Dist;

/// Mean and variance of a time, seconds and seconds squared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Moments {
    pub mean: f64,
    pub var: f64,
}

impl Moments {
    pub fn plus(self, other: Moments) -> Moments {
        Moments { mean: self.mean + other.mean, var: self.var + other.var }
    }

    pub fn times(self, count: f64) -> Moments {
        Moments { mean: self.mean * count, var: self.var * count }
    }

    /// The mixture of `parts` (weight, moments); weights need not sum to 1.
    pub fn mixture(parts: &[(f64, Moments)]) -> Moments {
        let total: f64 = parts.iter().map(|(weight, _)| weight).sum();
        if total <= 0.0 {
            return Moments::default();
        }
        let mean = parts.iter().map(|(weight, m)| weight * m.mean).sum::<f64>() / total;
        let square = parts.iter().map(|(weight, m)| weight * (m.var + m.mean * m.mean)).sum::<f64>() / total;
        Moments { mean, var: (square - mean * mean).max(0.0) }
    }

    /// Median and 99th percentile of the lognormal that has these moments, seconds.
    pub fn lognormal_p50_p99(self) -> (f64, f64) {
        if self.mean <= 0.0 {
            return (0.0, 0.0);
        }
        let sigma_squared = libm::log(1.0 + self.var / (self.mean * self.mean));
        let p50 = self.mean * libm::exp(-sigma_squared / 2.0);
        (p50, p50 * libm::exp(NORMAL_P99 * sigma_squared.sqrt()))
    }

    /// The lognormal with this mean whose p50 and p99 have this ratio.
    pub fn from_mean_and_tail(mean: f64, p50: f64, p99: f64) -> Moments {
        if p50 <= 0.0 || p99 <= p50 {
            return Moments { mean, var: 0.0 };
        }
        let sigma = libm::log(p99 / p50) / NORMAL_P99;
        Moments { mean, var: mean * mean * (libm::exp(sigma * sigma) - 1.0) }
    }
}

/// The 99th percentile of the standard normal distribution.
const NORMAL_P99: f64 = 2.326_347_874_040_841;

/// Mean and variance of a service-time distribution.
pub(crate) fn moments(dist: &Dist) -> Moments {
    match dist {
        Dist::Constant(time) => Moments { mean: time.as_secs_f64(), var: 0.0 },
        Dist::Exponential(mean) => Moments { mean: mean.as_secs_f64(), var: mean.as_secs_f64() * mean.as_secs_f64() },
        Dist::Lognormal { p50, p99 } => {
            let (p50, p99) = (p50.as_secs_f64(), p99.as_secs_f64());
            if p50 <= 0.0 || p99 <= p50 {
                return Moments { mean: p50, var: 0.0 };
            }
            let sigma = libm::log(p99 / p50) / NORMAL_P99;
            Moments::from_mean_and_tail(p50 * libm::exp(sigma * sigma / 2.0), p50, p99)
        }
        // Between two knots the table is a uniform distribution.
        Dist::Quantiles(knots) => Moments::mixture(
            &knots
                .windows(2)
                .map(|pair| {
                    let (low, high) = (pair[0].1.as_secs_f64(), pair[1].1.as_secs_f64());
                    (pair[1].0 - pair[0].0, Moments { mean: (low + high) / 2.0, var: (high - low) * (high - low) / 12.0 })
                })
                .collect::<Vec<_>>(),
        ),
    }
}

/// Share of questions that a cache can answer: least recently used out first, Zipf popularity, keys drawn independently.
///
/// O(log keys) classes of ranks per step of a bisection. Source: Che, Tung and Wang, "Hierarchical Web caching systems"
/// (IEEE JSAC 20(7), 2002): an entry stays for one characteristic time, the one that fills the cache.
pub(crate) fn hit_ratio(capacity: u32, keys: u32, zipf: f64) -> f64 {
    if capacity >= keys {
        return 1.0;
    }
    let classes = popularity(keys, zipf);
    let total: f64 = classes.iter().map(|(width, weight)| width * weight).sum();
    let present = |time: f64, weight: f64| 1.0 - libm::exp(-weight / total * time);
    let held = |time: f64| classes.iter().map(|&(width, weight)| width * present(time, weight)).sum::<f64>();
    let (mut low, mut high) = (0.0, 1.0);
    while held(high) < f64::from(capacity) && high < 1e18 {
        high *= 2.0;
    }
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if held(middle) < f64::from(capacity) { low = middle } else { high = middle }
    }
    classes.iter().map(|&(width, weight)| width * weight / total * present(high, weight)).sum()
}

/// Keys by popularity: (keys of a class, weight of each). Ranks in classes that widen from rank 1,024 on; within a class all keys count
/// as equally popular.
fn popularity(keys: u32, zipf: f64) -> Vec<(f64, f64)> {
    let mut classes: Vec<(f64, f64)> = Vec::new();
    let mut first = 1_u64;
    while first <= u64::from(keys) {
        let width = (first / 1_024).max(1).min(u64::from(keys) - first + 1);
        let middle = first as f64 + (width - 1) as f64 / 2.0;
        classes.push((width as f64, libm::pow(middle, -zipf)));
        first += width;
    }
    classes
}

/// Share of questions that are about the most popular of `keys` keys.
pub(crate) fn hottest_share(keys: u32, zipf: f64) -> f64 {
    let total: f64 = popularity(keys, zipf).iter().map(|(width, weight)| width * weight).sum();
    if total > 0.0 { 1.0 / total } else { 1.0 }
}

/// With more servers than this, chance hardly matters: what exceeds the capacity is refused, and nothing else.
const MANY_SERVERS: u32 = 100_000;

/// Share of requests that find `servers` busy and `places` waiting ones full (M/M/c/K), offered `erlangs`. O(servers + places).
///
/// Source: the Erlang B recursion, continued over the waiting places: each of them multiplies the odds by the utilisation.
pub(crate) fn refused(servers: u32, erlangs: f64, places: u32) -> f64 {
    if servers > MANY_SERVERS {
        return (1.0 - f64::from(servers) / erlangs).max(0.0);
    }
    // The chance of the fullest state, as states are added one by one.
    let mut full = 1.0;
    for busy in 1..=servers {
        full = erlangs * full / (f64::from(busy) + erlangs * full);
    }
    let utilisation = erlangs / f64::from(servers);
    for _ in 0..places.min(MANY_SERVERS) {
        full = utilisation * full / (1.0 + utilisation * full);
    }
    full
}

#[cfg(test)]
mod tests {
    use models::units::Nanos;

    use super::*;

    #[test]
    fn moments_of_every_form_agree_with_theory() {
        let ms = Nanos::from_millis;
        let near = |dist: Dist, mean: f64, var: f64| {
            let got = moments(&dist);
            assert!((got.mean - mean).abs() < 1e-9 && (got.var - var).abs() < 1e-9, "{dist:?}: {got:?}");
        };
        near(Dist::Constant(ms(10)), 0.010, 0.0);
        near(Dist::Exponential(ms(10)), 0.010, 1e-4);
        // Uniform on 0..10 ms: mean 5 ms, variance (10 ms)^2 / 12.
        near(Dist::Quantiles(vec![(0.0, ms(0)), (1.0, ms(10))]), 0.005, 1e-4 / 12.0);
        // sigma = 0.5: mean = 30 ms x exp(0.125), p99 = 30 ms x exp(0.5 x 2.3263).
        let p99 = Nanos::from_millis_f64(30.0 * libm::exp(0.5 * NORMAL_P99));
        let mean = 0.030 * libm::exp(0.125);
        near(Dist::Lognormal { p50: ms(30), p99 }, mean, mean * mean * (libm::exp(0.25) - 1.0));
    }

    #[test]
    fn a_lognormal_keeps_its_percentiles_through_its_moments() {
        let dist = Dist::Lognormal { p50: Nanos::from_millis(30), p99: Nanos::from_millis(90) };
        let (p50, p99) = moments(&dist).lognormal_p50_p99();
        assert!((p50 - 0.030).abs() < 1e-9 && (p99 - 0.090).abs() < 1e-9, "{p50} {p99}");
    }

    /// ORACLES: Erlang B for (10, 8) and (100, 90); M/M/1/10 at 1.2 and M/M/1/100 at 0.95, one of whose places is the server.
    #[test]
    fn refused_requests_agree_with_theory() {
        for (servers, erlangs, places, expected) in
            [(10, 8.0, 0, 0.121_661), (100, 90.0, 0, 0.026_957), (1, 1.2, 9, 0.192_59), (1, 0.95, 99, 2.977e-4)]
        {
            let got = refused(servers, erlangs, places);
            assert!((got / expected - 1.0).abs() < 1e-4, "{servers} {erlangs} {places}: {got}");
        }
    }

    #[test]
    fn the_hottest_key_gets_its_share() {
        assert!((hottest_share(4, 0.0) - 0.25).abs() < 1e-12);
        // 1 / (1 + 1/2 + 1/3).
        assert!((hottest_share(3, 1.0) - 6.0 / 11.0).abs() < 1e-12);
        assert!(hottest_share(10_000_000, 1.0) > 0.05);
    }

    /// The same question asked of a real least-recently-used list.
    #[test]
    fn the_hit_ratio_is_that_of_a_simulated_cache() {
        for (capacity, keys, zipf) in [(700_u32, 3_000_u32, 1.1), (50, 500, 0.7), (10, 20, 0.0)] {
            let weights: Vec<f64> = (1..=keys).map(|rank| libm::pow(f64::from(rank), -zipf)).collect();
            let mut cumulated = weights.clone();
            for i in 1..cumulated.len() {
                cumulated[i] += cumulated[i - 1];
            }
            let total = cumulated[cumulated.len() - 1];
            let (mut state, mut last_use, mut held) = (7_u64, vec![0_u64; keys as usize], std::collections::BTreeSet::new());
            let (mut hits, warm, rounds) = (0_u32, 100_000_u64, 400_000_u64);
            for now in 1..=rounds {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let drawn = (state >> 11) as f64 / (1_u64 << 53) as f64 * total;
                let key = cumulated.partition_point(|&sum| sum < drawn).min(keys as usize - 1);
                if held.remove(&(last_use[key], key)) {
                    hits += u32::from(now > warm);
                } else if held.len() == capacity as usize {
                    held.pop_first();
                }
                last_use[key] = now;
                held.insert((now, key));
            }
            let simulated = f64::from(hits) / (rounds - warm) as f64;
            let estimated = hit_ratio(capacity, keys, zipf);
            assert!((simulated - estimated).abs() < 0.005, "{capacity} of {keys}, zipf {zipf}: {simulated} {estimated}");
        }
        assert_eq!(hit_ratio(20, 20, 1.0), 1.0);
    }
}
