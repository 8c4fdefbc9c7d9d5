//! Statistics: means with intervals, shares with intervals, rank correlation, and when two neighbours cannot be told apart.
//!
//! You are here: `reports::stats`. `rank` and `live` call it.
//! Always true: no number without its interval; sums run in the order given, so one input gives one output to the last bit.
//! Not here: censored times (`km`).

/// The 97.5th percentile of the standard normal distribution: two-sided 95 % intervals.
const Z: f64 = 1.959_963_984_540_054;

/// A mean with its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// A share of runs with its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Proportion {
    /// Runs in which it happened.
    pub count: u32,
    /// Runs in all.
    pub of: u32,
    /// `count / of`; 0 without runs.
    pub estimate: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// Arithmetic mean; 0 without values.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Standard deviation of a sample (divisor n - 1); 0 with fewer than two values.
pub fn sample_deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let centre = mean(values);
    let squares: f64 = values.iter().map(|v| (v - centre) * (v - centre)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

/// The mean of shares in 0..=1 with Student's 95 % t-interval, clipped to 0..=1.
///
/// One value tells nothing about spread: its interval is 0..=1. Values that all agree give an interval without width, which
/// says that these runs agreed and no more. For few and skewed values the true cover is somewhat below 95 %.
pub fn mean_share(values: &[f64]) -> Estimate {
    let centre = mean(values);
    if values.len() < 2 {
        return Estimate { mean: centre, low: 0.0, high: 1.0 };
    }
    let half = student_t(values.len() - 1) * sample_deviation(values) / (values.len() as f64).sqrt();
    Estimate { mean: centre, low: (centre - half).max(0.0), high: (centre + half).min(1.0) }
}

/// Wilson's 95 % score interval of `count` out of `of`; 0..=1 without runs.
///
/// Source: E. B. Wilson, JASA 22 (1927), 209-212.
pub fn wilson(count: u32, of: u32) -> Proportion {
    if of == 0 {
        return Proportion { count, of, estimate: 0.0, low: 0.0, high: 1.0 };
    }
    let (n, p) = (f64::from(of), f64::from(count) / f64::from(of));
    let centre = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    let low = if count == 0 { 0.0 } else { ((centre - half) / scale).max(0.0) };
    let high = if count == of { 1.0 } else { ((centre + half) / scale).min(1.0) };
    Proportion { count, of, estimate: p, low, high }
}

/// The 97.5th percentile of Student's t with `df` degrees of freedom (1 or more): the table up to 10, then the expansion in 1/df,
/// which is within 0.0002 there.
///
/// Source: Abramowitz and Stegun, 26.7.5 and table 26.10.
pub fn student_t(df: usize) -> f64 {
    const TABLE: [f64; 10] =
        [12.706_205, 4.302_653, 3.182_446, 2.776_445, 2.570_582, 2.446_912, 2.364_624, 2.306_004, 2.262_157, 2.228_139];
    if let Some(value) = df.checked_sub(1).and_then(|i| TABLE.get(i)) {
        return *value;
    }
    let (v, z2) = (df.max(1) as f64, Z * Z);
    let first = Z * (z2 + 1.0) / 4.0;
    let second = Z * ((5.0 * z2 + 16.0) * z2 + 3.0) / 96.0;
    let third = Z * (((3.0 * z2 + 19.0) * z2 + 17.0) * z2 - 15.0) / 384.0;
    Z + first / v + second / (v * v) + third / (v * v * v)
}

/// Whether two neighbours can be told apart by paired runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Told {
    /// The interval of their difference does not hold 0, or they never differ at all.
    Apart,
    /// It holds 0. About this many runs each would do if the difference and its spread stay as they are; `None`: cannot be said.
    NotYet(Option<u64>),
}

/// Compares two scenarios by the differences of their paired runs (same world, same seed: common random numbers).
pub fn tell_apart(differences: &[f64]) -> Told {
    let (n, centre, spread) = (differences.len(), mean(differences), sample_deviation(differences));
    if n < 2 {
        return Told::NotYet(None);
    }
    if spread == 0.0 || centre.abs() > student_t(n - 1) * spread / (n as f64).sqrt() {
        return Told::Apart;
    }
    if centre == 0.0 {
        return Told::NotYet(None);
    }
    let wanted = (Z * spread / centre).powi(2).ceil();
    Told::NotYet((wanted < 1e6).then(|| (wanted as u64).max(n as u64 + 1)))
}

/// Spearman's rank correlation of two lists of equal length, ties at their middle rank; `None` below three pairs or where one list
/// has a single value only.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() != b.len() || a.len() < 3 {
        return None;
    }
    let (a, b) = (middle_ranks(a), middle_ranks(b));
    let (mean_a, mean_b) = (mean(&a), mean(&b));
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 { a.iter().zip(&b).map(|(x, y)| f(x - mean_a, y - mean_b)).sum() };
    let spread = (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt();
    (spread > 0.0).then(|| sum(&|x, y| x * y) / spread)
}

/// Ranks from 1, equal values sharing the mean of their ranks.
fn middle_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let mut end = start;
        while end < order.len() && values[order[end]] == values[order[start]] {
            end += 1;
        }
        for &i in &order[start..end] {
            ranks[i] = (start + 1 + end) as f64 / 2.0;
        }
        start = end;
    }
    ranks
}

/// `value` rounded to six significant digits: what files hold. Not a number or infinite becomes 0.
pub fn round6(value: f64) -> f64 {
    if !value.is_finite() {
        return 0.0;
    }
    let rounded: f64 = format!("{value:.5e}").parse().expect("a printed float reads back");
    if rounded == 0.0 { 0.0 } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64, tolerance: f64) {
        assert!((found - expected).abs() <= tolerance, "{found} is not {expected} within {tolerance}");
    }

    #[test]
    fn wilson_intervals_are_the_textbook_ones() {
        let none = wilson(0, 200);
        assert_eq!((none.estimate, none.low), (0.0, 0.0));
        near(none.high, 0.018_85, 5e-6);
        let most = wilson(146, 200);
        near(most.low, 0.665, 5e-4);
        near(most.high, 0.787, 5e-4);
        let all = wilson(10, 10);
        assert_eq!(all.high, 1.0);
        near(all.low, 0.722_47, 5e-6);
        assert_eq!((wilson(0, 0).low, wilson(0, 0).high), (0.0, 1.0));
    }

    #[test]
    fn student_quantiles_agree_with_the_tables() {
        for (df, t) in
            [(1, 12.7062), (9, 2.2622), (10, 2.2281), (11, 2.2010), (12, 2.1788), (20, 2.0860), (30, 2.0423), (120, 1.9799)]
        {
            near(student_t(df), t, 2e-4);
        }
    }

    #[test]
    fn a_mean_share_has_students_interval_within_its_bounds() {
        // Mean 0.3, deviation 0.158114, standard error 0.0707107, t(4) = 2.776445: 0.3 ± 0.196324.
        let estimate = mean_share(&[0.1, 0.2, 0.3, 0.4, 0.5]);
        near(estimate.mean, 0.3, 1e-12);
        near(estimate.low, 0.103_676, 1e-6);
        near(estimate.high, 0.496_324, 1e-6);
        assert_eq!(mean_share(&[0.0, 0.0, 0.4]).low, 0.0);
        assert_eq!(mean_share(&[0.2]), Estimate { mean: 0.2, low: 0.0, high: 1.0 });
    }

    #[test]
    fn spearman_gives_ties_their_middle_rank() {
        assert_eq!(middle_ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        near(spearman(&[1.0, 2.0, 3.0, 4.0], &[10.0, 20.0, 30.0, 40.0]).expect("defined"), 1.0, 1e-12);
        near(spearman(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]).expect("defined"), -1.0, 1e-12);
        // Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5, spreads 4.5 and 5: 4.5 / sqrt(22.5).
        near(spearman(&[1.0, 2.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]).expect("defined"), 0.948_683_298, 1e-9);
        assert_eq!(spearman(&[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0]), None);
    }

    #[test]
    fn neighbours_that_differ_less_than_they_spread_want_more_runs() {
        assert_eq!(tell_apart(&[0.1, 0.11, 0.09, 0.1]), Told::Apart);
        assert_eq!(tell_apart(&[0.0, 0.0, 0.0]), Told::Apart);
        assert_eq!(tell_apart(&[0.1]), Told::NotYet(None));
        // Mean 0.05, deviation 0.129099: (1.96 x 0.129099 / 0.05)^2 = 25.6.
        assert_eq!(tell_apart(&[0.2, -0.1, 0.1, 0.0]), Told::NotYet(Some(26)));
    }

    #[test]
    fn files_hold_six_significant_digits() {
        assert_eq!(round6(0.123_456_789), 0.123_457);
        assert_eq!(round6(1_234_567.8), 1_234_570.0);
        assert_eq!(round6(-0.0).to_string(), "0");
        assert_eq!(round6(f64::NAN), 0.0);
    }
}
