//! Whether something holds in enough seeds, looked at after every single one: clear cases need few runs.
//!
//! You are here: `reports::sequential`. `foreshock check` gives it one outcome after the other.
//! Always true: however often one looks, the chance that it ever decides wrongly is at most what was asked for.
//! Not here: which runs are made.
//!
//! The test is a bet against "the share of failing runs is p0": a likelihood ratio whose expectation is 1 while that is true, so that it
//! ever reaches 1/a with chance a at most (Ville, Etude critique de la notion de collectif, 1939). It weighs two opposite claims evenly: that
//! nothing ever fails, and that the share is drawn from Beta(1/2, 1/2). Sequential tests with such weights: Wald, Sequential Analysis, 1947,
//! 4.1.3, and Robbins, Annals of Mathematical Statistics 41 (1970), 1397-1409; as confidence sequences: Howard, Ramdas, McAuliffe and Sekhon,
//! Annals of Statistics 49 (2021), 1055-1080.

/// What has been decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The share of failing runs is at most what is tolerated.
    Holds,
    /// It is more.
    Fails,
}

/// A test under way.
#[derive(Clone, Debug)]
pub struct Sequential {
    /// Share of failing runs that is tolerated.
    tolerated: f64,
    /// ln(1 / chance of saying wrongly that it holds), and that it fails.
    against: (f64, f64),
    /// Outcomes so far.
    runs: u32,
    failures: u32,
    decision: Option<Decision>,
}

impl Sequential {
    /// Asks whether runs fail in at most `tolerated` (0..1) of all cases. `wrongly_holds`, `wrongly_fails`: the chances of error, each above 0.
    /// With nothing tolerated a single failure decides, and any number of good runs never does.
    pub fn new(tolerated: f64, wrongly_holds: f64, wrongly_fails: f64) -> Self {
        Sequential {
            tolerated,
            against: (-libm::log(wrongly_holds), -libm::log(wrongly_fails)),
            runs: 0,
            failures: 0,
            decision: None,
        }
    }

    /// Takes the next outcome. After a decision nothing changes any more.
    pub fn add(&mut self, failed: bool) -> Option<Decision> {
        if self.decision.is_some() {
            return self.decision;
        }
        self.runs += 1;
        self.failures += u32::from(failed);
        let share = f64::from(self.failures) / f64::from(self.runs);
        let evidence = log_ratio(self.runs, self.failures, self.tolerated);
        if share < self.tolerated && evidence >= self.against.0 {
            self.decision = Some(Decision::Holds);
        } else if share > self.tolerated && evidence >= self.against.1 {
            self.decision = Some(Decision::Fails);
        }
        self.decision
    }

    /// Runs so far.
    pub fn runs(&self) -> u32 {
        self.runs
    }

    /// Of them, failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// What is decided.
    pub fn decision(&self) -> Option<Decision> {
        self.decision
    }

    /// The shares of failing runs that the outcomes do not rule out, at the chance of error with which "holds" is said: an interval that stays
    /// right however often one looks.
    pub fn interval(&self) -> [f64; 2] {
        if self.runs == 0 {
            return [0.0, 1.0];
        }
        let share = f64::from(self.failures) / f64::from(self.runs);
        let ruled_out = |p: f64| log_ratio(self.runs, self.failures, p) >= self.against.0;
        // The ratio is least at the share itself and rises to both sides.
        let edge = |mut inside: f64, mut outside: f64| {
            for _ in 0..60 {
                let middle = (inside + outside) / 2.0;
                *(if ruled_out(middle) { &mut outside } else { &mut inside }) = middle;
            }
            inside
        };
        [if self.failures == 0 { 0.0 } else { edge(share, 0.0) }, if self.failures == self.runs { 1.0 } else { edge(share, 1.0) }]
    }
}

/// Runs that all end well until it is decided that it holds.
pub fn fewest_runs(tolerated: f64, wrongly_holds: f64) -> Option<u32> {
    if tolerated <= 0.0 {
        return None;
    }
    let mut test = Sequential::new(tolerated, wrongly_holds, wrongly_holds);
    (1..=1_000_000).find(|_| test.add(false).is_some())
}

/// ln of the likelihood under the two claims together over that under `p`, after `failures` of `runs`.
fn log_ratio(runs: u32, failures: u32, p: f64) -> f64 {
    let (n, k) = (f64::from(runs), f64::from(failures));
    let log_or_0 = |count: f64, share: f64| if count == 0.0 { 0.0 } else { count * libm::log(share) };
    let under_p = log_or_0(k, p) + log_or_0(n - k, 1.0 - p);
    if under_p == f64::NEG_INFINITY {
        return f64::INFINITY;
    }
    // B(k + 1/2, n - k + 1/2) / B(1/2, 1/2), with B(1/2, 1/2) = pi.
    let drawn = libm::lgamma(k + 0.5) + libm::lgamma(n - k + 0.5) - libm::lgamma(n + 1.0) - libm::log(std::f64::consts::PI);
    let mixture = if failures == 0 {
        // ln((1 + e^drawn) / 2): that nothing fails gives these outcomes a likelihood of 1.
        libm::log1p(libm::exp(drawn)) - std::f64::consts::LN_2
    } else {
        drawn - std::f64::consts::LN_2
    };
    mixture - under_p
}

#[cfg(test)]
mod tests {
    use models::rng::mix;

    use super::*;

    /// Outcomes that fail with probability `p`, the same for the same seed.
    fn outcomes(seed: u64, p: f64) -> impl Iterator<Item = bool> {
        (0u64..).map(move |n| ((mix(mix(seed) ^ n) >> 11) as f64 / (1u64 << 53) as f64) < p)
    }

    /// Shares of `tests` tests that decide for and against within `runs` runs, and the mean number of runs.
    fn decided(p: f64, tolerated: f64, alpha: f64, tests: u64, runs: usize) -> (f64, f64, f64) {
        let (mut holds, mut fails, mut used) = (0, 0, 0);
        for seed in 0..tests {
            let mut test = Sequential::new(tolerated, alpha, alpha);
            for failed in outcomes(seed * 7_919 + (p * 1e6) as u64, p).take(runs) {
                if test.add(failed).is_some() {
                    break;
                }
            }
            used += test.runs();
            match test.decision() {
                Some(Decision::Holds) => holds += 1,
                Some(Decision::Fails) => fails += 1,
                None => {}
            }
        }
        let share = |count: u64| count as f64 / tests as f64;
        (share(holds), share(fails), share(u64::from(used)))
    }

    #[test]
    fn at_the_border_neither_is_said_more_often_than_allowed() {
        // The worst case for both errors. 1,000 tests looked at after each of 2,000 runs: 3.3 standard deviations above 5 % is 7.3 %.
        for tolerated in [0.01, 0.05, 0.3] {
            let (holds, fails, _) = decided(tolerated, tolerated, 0.05, 1_000, 2_000);
            assert!(holds <= 0.073 && fails <= 0.073, "{tolerated}: {holds} {fails}");
            assert!(holds + fails > 0.0 || tolerated < 0.05, "the test is not blind: {holds} {fails}");
        }
    }

    #[test]
    fn clear_cases_are_decided_rightly_and_soon() {
        let (holds, fails, runs) = decided(0.005, 0.1, 0.05, 300, 2_000);
        assert!(holds > 0.99 && fails == 0.0 && runs < 80.0, "{holds} {fails} {runs}");
        let (holds, fails, runs) = decided(0.5, 0.05, 0.05, 300, 2_000);
        assert!(holds == 0.0 && fails > 0.99 && runs < 20.0, "{holds} {fails} {runs}");
    }

    #[test]
    fn a_case_between_is_decided_in_the_end() {
        let (holds, fails, _) = decided(0.02, 0.05, 0.05, 100, 4_000);
        assert!(holds >= 0.95 && fails <= 0.05, "{holds} {fails}");
    }

    #[test]
    fn runs_that_all_end_well_need_little_more_than_a_fixed_number_would() {
        // A fixed number would be 59 and 299: ln(0.05) / ln(0.95), ln(0.05) / ln(0.99).
        assert_eq!(fewest_runs(0.05, 0.05), Some(71));
        assert_eq!(fewest_runs(0.01, 0.05), Some(365));
        assert_eq!(fewest_runs(0.0, 0.05), None, "that nothing ever fails cannot be shown");
    }

    #[test]
    fn where_nothing_is_tolerated_one_failure_decides() {
        let mut test = Sequential::new(0.0, 0.05, 0.05);
        assert!((0..500).all(|_| test.add(false).is_none()));
        assert_eq!(test.add(true), Some(Decision::Fails));
        assert_eq!((test.runs(), test.failures()), (501, 1));
        assert_eq!(test.add(false), Some(Decision::Fails), "what is decided stays");
        assert_eq!(test.runs(), 501);
    }

    #[test]
    fn the_interval_holds_the_truth_and_shrinks() {
        assert_eq!(Sequential::new(0.5, 0.05, 0.05).interval(), [0.0, 1.0]);
        let mut out = 0;
        for seed in 0..300 {
            let mut test = Sequential::new(0.999, 1e-300, 1e-300);
            test.against = (-libm::log(0.05), f64::INFINITY);
            test.tolerated = 0.2;
            let mut ever = false;
            for failed in outcomes(seed, 0.2).take(400) {
                test.runs += 1;
                test.failures += u32::from(failed);
                if test.runs.is_multiple_of(20) {
                    let [low, high] = test.interval();
                    assert!(low <= high);
                    ever |= !(low..=high).contains(&0.2);
                }
            }
            out += u32::from(ever);
            let [low, high] = test.interval();
            assert!(high - low < 0.2, "{low} {high}");
        }
        assert!(out <= 27, "{out} of 300 intervals ever missed: allowed are 15, and 3.3 standard deviations more");
    }
}
