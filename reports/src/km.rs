//! Time to recover when some runs had not recovered at their end: the Kaplan-Meier estimator.
//!
//! You are here: `reports::km`. A run that had not recovered when it ended is *censored* there: its time is longer than what was
//! watched, by how much is unknown. Leaving such runs out, or giving them the horizon as their time, would flatter the system.
//! Not here: when a run counts as recovered (the engine's verdict, in its record).

/// One run's time to recover.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seen {
    /// Recovered after this many seconds.
    Recovered(f64),
    /// Not recovered in this many seconds of watching.
    Censored(f64),
}

/// The curve's steps: (seconds, share of runs not yet recovered), times rising, shares falling.
///
/// At each time with recoveries the share falls by the factor 1 - recovered / still watched; who is censored at that very time
/// is still watched. O(n log n).
/// Source: E. L. Kaplan and P. Meier, JASA 53 (1958), 457-481.
pub fn curve(runs: &[Seen]) -> Vec<(f64, f64)> {
    let mut times: Vec<(f64, bool)> = runs
        .iter()
        .map(|run| match *run {
            Seen::Recovered(s) => (s, true),
            Seen::Censored(s) => (s, false),
        })
        .collect();
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut steps, mut share, mut at) = (Vec::new(), 1.0, 0);
    while at < times.len() {
        let now = times[at].0;
        let here = times[at..].iter().take_while(|t| t.0 == now).count();
        let recovered = times[at..at + here].iter().filter(|t| t.1).count();
        if recovered > 0 {
            share *= 1.0 - recovered as f64 / (times.len() - at) as f64;
            steps.push((now, share));
        }
        at += here;
    }
    steps
}

/// The time by which the share `recovered` of runs has recovered; `None` if the curve never falls that far.
pub fn quantile(curve: &[(f64, f64)], recovered: f64) -> Option<f64> {
    // The product of fractions misses its exact value by a few last bits.
    const SLACK: f64 = 1e-9;
    curve.iter().find(|(_, share)| *share <= 1.0 - recovered + SLACK).map(|(time, _)| *time)
}

#[cfg(test)]
mod tests {
    use super::Seen::{Censored, Recovered};
    use super::*;

    #[test]
    fn the_curve_of_a_small_example_is_the_one_worked_out_by_hand() {
        // Ten runs; at 3 s ten are watched, at 5 s nine (two recover), at 8 s six (one was censored at 6 s), at 12 s four (8 s+ censored).
        let runs = [
            Recovered(5.0),
            Recovered(3.0),
            Censored(6.0),
            Recovered(8.0),
            Recovered(5.0),
            Censored(8.0),
            Recovered(12.0),
            Censored(20.0),
            Censored(20.0),
            Censored(20.0),
        ];
        let expected = [(3.0, 0.9), (5.0, 0.9 * 7.0 / 9.0), (8.0, 0.7 * 5.0 / 6.0), (12.0, 0.7 * 5.0 / 6.0 * 3.0 / 4.0)];
        let found = curve(&runs);
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(&expected) {
            assert!(a.0 == b.0 && (a.1 - b.1).abs() < 1e-12, "{a:?} is not {b:?}");
        }
        assert_eq!(quantile(&found, 0.5), Some(12.0));
        assert_eq!(quantile(&found, 0.9), None);
    }

    #[test]
    fn without_censoring_it_gives_the_ordinary_quantiles() {
        let runs: Vec<Seen> = (1..=10).map(|s| Recovered(f64::from(s))).collect();
        assert_eq!(quantile(&curve(&runs), 0.5), Some(5.0));
        assert_eq!(quantile(&curve(&runs), 0.9), Some(9.0));
    }

    #[test]
    fn nothing_recovered_gives_nothing() {
        assert_eq!(quantile(&curve(&[Censored(70.0), Censored(70.0)]), 0.5), None);
        assert_eq!(quantile(&curve(&[]), 0.5), None);
    }
}
