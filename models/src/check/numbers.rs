//! Whether the numbers of a model are possible: shares up to 1, at least one worker, ranges that hold their value.
//!
//! You are here: `models::check::numbers`: the part of the checker that looks at one service, edge or topic at a time.

use std::fmt::Display;

use super::{Checker, MAX_ATTEMPTS, MAX_CACHE_KEYS, MAX_REPLICAS};
use crate::dist::{Dist, Work};
use crate::format::doc::pointer_step;
use crate::param::{Limit, Param};
use crate::system::*;
use crate::units::Nanos;

impl Checker<'_> {
    pub(super) fn service(&mut self, place: &str, service: &Service) {
        let replicas = format!("a number from 1 to {MAX_REPLICAS}");
        self.param(&format!("{place}/replicas"), &service.replicas, |n| (1..=MAX_REPLICAS).contains(n), &replicas);
        let workers = format!("{place}/workers");
        self.shown_param(&workers, &service.workers, |n| *n != Limit::Of(0), "at least 1 worker, or unlimited", limit);
        self.shown_param(&format!("{place}/queue"), &service.queue, |_| true, "a queue bound", limit);
        if let Some(cache) = &service.cache {
            let place = format!("{place}/cache");
            self.param(&format!("{place}/capacity"), &cache.capacity, |n| *n >= 1, "at least 1 entry");
            let keys = format!("a number of keys from 1 to {MAX_CACHE_KEYS}");
            self.param(&format!("{place}/keys"), &cache.keys, |n| (1..=MAX_CACHE_KEYS).contains(n), &keys);
            self.real(&format!("{place}/zipf"), &cache.zipf);
        }
        for (name, operation) in &service.operations {
            let place = format!("{place}/operations/{}", pointer_step(name));
            if let Some(error_rate) = &operation.error_rate {
                self.share(&format!("{place}/error_rate"), error_rate);
            }
            if !self.partial && !operation.paths.iter().any(|path| path.weight.value > 0.0) {
                let help = "write paths: [{ weight: 1, steps: [...] }]";
                self.add(&format!("{place}/paths"), "none", "at least one path with a weight above 0", help);
            }
            for (i, path) in operation.paths.iter().enumerate() {
                self.real(&format!("{place}/paths/{i}/weight"), &path.weight);
                for (j, step) in path.steps.iter().enumerate() {
                    self.step(&format!("{place}/paths/{i}/steps/{j}"), step, false);
                }
            }
        }
    }

    pub(super) fn edge(&mut self, place: &str, edge: &Edge) {
        if let Some(latency) = &edge.latency {
            self.param(&format!("{place}/latency"), latency, |_| true, "a duration");
        }
        if let Some(timeout) = &edge.timeout {
            self.param(&format!("{place}/timeout"), timeout, |t| !t.is_zero(), "a duration above 0, or none");
        }
        if let Some(retry) = &edge.retry {
            self.retry(&format!("{place}/retry"), retry);
        }
        if let Some(breaker) = &edge.breaker {
            let place = format!("{place}/breaker");
            match &breaker.trips {
                Trips::Share { window, min_calls, threshold } => {
                    self.param(&format!("{place}/min_calls"), min_calls, |n| *n >= 1, "at least 1 try");
                    let possible = |p: &f64| *p > 0.0 && *p <= 1.0;
                    self.param(&format!("{place}/threshold"), threshold, possible, "a share above 0 and up to 1");
                    match window {
                        BreakerWindow::Calls(window) => {
                            self.param(&format!("{place}/window"), window, |n| *n >= 1, "at least 1 try");
                            if min_calls.value > window.value {
                                let expected = format!("at most {}, the window", window.value);
                                self.add(&format!("{place}/min_calls"), min_calls.value.to_string(), expected, "");
                            }
                        }
                        BreakerWindow::Time(window) => {
                            self.param(&format!("{place}/window"), window, |t| !t.is_zero(), "a duration above 0");
                        }
                    }
                }
                Trips::Consecutive(failures) => {
                    self.param(&format!("{place}/consecutive"), failures, |n| *n >= 1, "at least 1 failure");
                }
            }
            self.param(&format!("{place}/open"), &breaker.open, |t| !t.is_zero(), "a duration above 0");
            self.param(&format!("{place}/probes"), &breaker.probes, |n| *n >= 1, "at least 1 probe");
        }
    }

    fn retry(&mut self, place: &str, retry: &Retry) {
        let attempts = format!("tries in all, the first included: from 1 to {MAX_ATTEMPTS}");
        self.param(&format!("{place}/attempts"), &retry.attempts, |n| (1..=MAX_ATTEMPTS).contains(n), &attempts);
        self.param(&format!("{place}/backoff"), &retry.backoff, |_| true, "a duration");
        let factor = |x: &f64| x.is_finite() && *x > 0.0;
        self.param(&format!("{place}/factor"), &retry.factor, factor, "a factor above 0");
        if let Some(max) = &retry.max {
            self.param(&format!("{place}/max"), max, |_| true, "a duration");
        }
        if retry.on.contains(&Cause::BreakerOpen) {
            self.add(&format!("{place}/on"), "an open breaker", "error, overload, timeout or connection", "");
        }
        if let Some(budget) = &retry.budget {
            let place = format!("{place}/budget");
            self.real(&format!("{place}/ratio"), &budget.ratio);
            self.real(&format!("{place}/min_per_s"), &budget.min_per_s);
            self.real(&format!("{place}/cap"), &budget.cap);
            if let Some(initial) = &budget.initial {
                self.real(&format!("{place}/initial"), initial);
            }
        }
    }

    pub(super) fn topic(&mut self, place: &str, topic: &Topic) {
        self.param(&format!("{place}/concurrency"), &topic.concurrency, |n| *n >= 1, "at least 1 delivery at once");
        self.shown_param(&format!("{place}/capacity"), &topic.capacity, |_| true, "a bound", limit);
        self.param(&format!("{place}/redelivery_delay"), &topic.redelivery_delay, |_| true, "a duration");
        self.param(&format!("{place}/max_deliveries"), &topic.max_deliveries, |n| *n >= 1, "at least 1 delivery");
        if let Some(accept) = &topic.accept {
            self.work(&format!("{place}/accept"), accept);
        }
    }

    /// A service time that can be drawn from.
    pub(super) fn work(&mut self, place: &str, work: &Work) {
        match &work.dist {
            Dist::Constant(_) | Dist::Exponential(_) => {}
            Dist::Lognormal { p50, p99 } => {
                if p50.is_zero() || p99 < p50 {
                    let found = format!("p50 {p50}, p99 {p99}");
                    self.add(&format!("{place}/lognormal"), found, "a p50 above 0 and a p99 not below it", "");
                }
            }
            Dist::Quantiles(table) => self.quantiles(&format!("{place}/quantiles"), table),
        }
        if let Some([low, high]) = work.scale_range
            && !(low > 0.0 && low <= high && high.is_finite())
        {
            self.add(&format!("{place}/range"), format!("[{low}, {high}]"), "two factors above 0, the lower first", "");
        }
    }

    fn quantiles(&mut self, place: &str, table: &[(f64, Nanos)]) {
        let ends = (table.first().map(|(p, _)| *p), table.last().map(|(p, _)| *p));
        if table.len() < 2 || ends != (Some(0.0), Some(1.0)) {
            let expected = "percentiles from 0 to 100, both included";
            self.add(place, format!("{} percentiles", table.len()), expected, "write { 0: 1ms, 50: 5ms, 100: 40ms }");
        } else if !table.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1) {
            self.add(place, "a table that falls", "percentiles that rise, with durations that do not fall", "");
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

    fn param<T: PartialOrd + Display>(&mut self, place: &str, param: &Param<T>, possible: impl Fn(&T) -> bool, expected: &str) {
        self.shown_param(place, param, possible, expected, T::to_string);
    }

    /// Value and both ends of the range are possible, and the range holds the value.
    fn shown_param<T: PartialOrd>(
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

fn limit(limit: &Limit) -> String {
    match limit {
        Limit::Of(n) => n.to_string(),
        Limit::Unlimited => "no bound".into(),
    }
}
