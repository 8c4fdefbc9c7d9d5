//! Whether the numbers of a model are possible: shares up to 1, at least one worker, ranges that hold their value.
//!
//! You are here: `models::check::numbers`: what `entries`, `services`, `edges` and `topics` are checked with.

use std::fmt::Display;

use super::Checker;
use crate::dist::{Dist, Work};
use crate::param::{Limit, Param};
use crate::units::Nanos;

impl Checker<'_> {
    /// A service time that can be drawn from.
    pub(super) fn work(&mut self, place: &str, work: &Work) {
        if let Err((key, found, expected, help)) = dist_sense(&work.dist) {
            self.add(&format!("{place}/{key}"), found, expected, help);
        }
        if let Some([low, high]) = work.scale_range
            && !(low > 0.0 && low <= high && high.is_finite())
        {
            self.add(&format!("{place}/range"), format!("[{low}, {high}]"), "two factors above 0, the lower first", "");
        }
    }

    /// How often a call is made: counts that rise, probabilities that sum to 1.
    pub(super) fn times(&mut self, place: &str, times: &[(u32, f64)]) {
        let place = format!("{place}/times");
        let sum: f64 = times.iter().map(|(_, probability)| probability).sum();
        if times.is_empty() || !times.iter().all(|(_, p)| (0.0..=1.0).contains(p)) || (sum - 1.0).abs() > 1e-6 {
            self.add(&place, format!("probabilities that sum to {sum}"), "probabilities that sum to 1", "");
        } else if !times.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            self.add(&place, "counts out of order", "counts that rise", "");
        }
        if let Some((n, _)) = times.iter().find(|(n, _)| *n > 10_000) {
            self.add(&place, n.to_string(), "at most 10000 calls in a row", "");
        }
    }

    pub(super) fn share(&mut self, place: &str, share: &Param<f64>) {
        self.param(place, share, |p| (0.0..=1.0).contains(p), "a share between 0 and 1");
    }

    pub(super) fn real(&mut self, place: &str, real: &Param<f64>) {
        self.param(place, real, |x| x.is_finite() && *x >= 0.0, "a number, 0 or more");
    }

    pub(super) fn rate(&mut self, place: &str, rate: &Param<f64>) {
        let possible = |x: &f64| x.is_finite() && *x >= 0.0;
        self.shown_param(place, rate, possible, "a rate, 0/s or more", |x| format!("{x}/s"));
    }

    /// A duration above 0.
    pub(super) fn some_time(&mut self, place: &str, time: &Param<Nanos>) {
        self.param(place, time, |t| !t.is_zero(), "a duration above 0");
    }

    /// Any duration.
    pub(super) fn any_time(&mut self, place: &str, time: &Param<Nanos>) {
        self.param(place, time, |_| true, "a duration");
    }

    /// A count of at least 1. `expected`: in words.
    pub(super) fn some(&mut self, place: &str, count: &Param<u32>, expected: &str) {
        self.param(place, count, |n| *n >= 1, expected);
    }

    /// A factor of 1 or more.
    pub(super) fn growth(&mut self, place: &str, factor: &Param<f64>) {
        self.param(place, factor, |x| x.is_finite() && *x >= 1.0, "a factor of 1 or more");
    }

    /// `low` is at most `high` (below it if `strictly`), wherever in their ranges the two lie. `place` is that of `low`; `which` is what
    /// `high` is called.
    pub(super) fn ordered<T: PartialOrd + Copy + Display>(
        &mut self,
        place: &str,
        low: &Param<T>,
        high: &Param<T>,
        strictly: bool,
        which: &str,
    ) {
        let fits = |low: T, high: T| if strictly { low < high } else { low <= high };
        let word = if strictly { "less than" } else { "at most" };
        if !fits(low.value, high.value) {
            self.add(place, low.value.to_string(), format!("{word} {}, {which}", high.value), "");
            return;
        }
        let (most, least) = (most(low), least(high));
        if !fits(most, least) {
            let expected = format!("{word} {least}, the least that {which} may be");
            self.add(place, format!("{most} at the upper end of its range"), expected, "let the two ranges not overlap");
        }
    }

    pub(super) fn param<T: PartialOrd + Display>(
        &mut self,
        place: &str,
        param: &Param<T>,
        possible: impl Fn(&T) -> bool,
        expected: &str,
    ) {
        self.shown_param(place, param, possible, expected, T::to_string);
    }

    /// Value and both ends of the range are possible, and the range holds the value.
    pub(super) fn shown_param<T: PartialOrd>(
        &mut self,
        place: &str,
        param: &Param<T>,
        possible: impl Fn(&T) -> bool,
        expected: &str,
        show: impl Fn(&T) -> String,
    ) {
        if !possible(&param.value) {
            self.add(place, show(&param.value), expected, "");
            return;
        }
        let Some([low, high]) = &param.range else { return };
        let range = format!("[{}, {}]", show(low), show(high));
        if !(possible(low) && possible(high)) {
            self.add(&format!("{place}/range"), range, expected, "");
        } else if low > high {
            self.add(&format!("{place}/range"), range, "the lower end first", "");
        } else if !(*low <= param.value && param.value <= *high) {
            let found = format!("{}, outside of its range {range}", show(&param.value));
            self.add(place, found, "a value inside its range", "widen the range, or leave it away if the value is certain");
        }
    }
}

pub(super) fn limit(limit: &Limit) -> String {
    match limit {
        Limit::Of(n) => n.to_string(),
        Limit::Unlimited => "no bound".into(),
    }
}

/// The upper end of a number's range, or the number itself.
pub(super) fn most<T: Copy>(param: &Param<T>) -> T {
    param.range.map_or(param.value, |[_, high]| high)
}

/// The lower end of a number's range, or the number itself.
pub(super) fn least<T: Copy>(param: &Param<T>) -> T {
    param.range.map_or(param.value, |[low, _]| low)
}

/// What is wrong with a distribution: its key, what was found and expected, and how to mend it.
pub(crate) type DistMistake = (&'static str, String, &'static str, &'static str);

/// Whether a distribution can be drawn from.
pub(crate) fn dist_sense(dist: &Dist) -> Result<(), DistMistake> {
    match dist {
        Dist::Constant(_) | Dist::Exponential(_) => Ok(()),
        Dist::Lognormal { p50, p99 } if p50.is_zero() || p99 < p50 => {
            Err(("lognormal", format!("p50 {p50}, p99 {p99}"), "a p50 above 0 and a p99 not below it", ""))
        }
        Dist::Lognormal { .. } => Ok(()),
        Dist::Quantiles(table) => {
            let ends = (table.first().map(|(p, _)| *p), table.last().map(|(p, _)| *p));
            if table.len() < 2 || ends != (Some(0.0), Some(1.0)) {
                let (expected, help) = ("percentiles from 0 to 100, both included", "write { 0: 1ms, 50: 5ms, 100: 40ms }");
                Err(("quantiles", format!("{} percentiles", table.len()), expected, help))
            } else if !table.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1) {
                let expected = "percentiles that rise, with durations that do not fall";
                Err(("quantiles", "a table that falls".into(), expected, ""))
            } else {
                Ok(())
            }
        }
    }
}
