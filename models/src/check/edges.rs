//! Whether a client's policy can be kept: tries, waits, limits, and what does not go together.
//!
//! You are here: `models::check::edges`.

use super::numbers::limit;
use super::{Checker, MAX_ATTEMPTS, SHORTEST_PERIOD};
use crate::param::Limit;
use crate::system::*;

impl Checker<'_> {
    pub(super) fn edge(&mut self, place: &str, edge: &Edge) {
        if let Some(latency) = &edge.latency {
            self.any_time(&format!("{place}/latency"), latency);
        }
        if let Some(timeout) = &edge.timeout {
            self.param(&format!("{place}/timeout"), timeout, |t| !t.is_zero(), "a duration above 0, or none");
        }
        if let Some(deadline) = &edge.deadline {
            self.param(&format!("{place}/deadline"), deadline, |t| !t.is_zero(), "a duration above 0, or none");
        }
        if let Some(retry) = &edge.retry {
            self.retry(&format!("{place}/retry"), retry);
        }
        if let Some(hedge) = &edge.hedge {
            self.any_time(&format!("{place}/hedge/after"), &hedge.after);
            let expected = format!("tries in all, the first included: from 2 to {MAX_ATTEMPTS}");
            self.param(&format!("{place}/hedge/attempts"), &hedge.attempts, |n| (2..=MAX_ATTEMPTS).contains(n), &expected);
            if edge.retry.is_some() {
                let help = "a hedge tries again after a failure too: write retry: none, or hedge: none";
                self.add(&format!("{place}/hedge"), "hedge beside retry", "one of the two", help);
            }
        }
        if let Some(max_in_flight) = &edge.max_in_flight {
            self.some(&format!("{place}/max_in_flight"), max_in_flight, "at least 1 call at once, or none for no bound");
        }
        if let Some(pool) = &edge.pool {
            self.some(&format!("{place}/pool/connections"), &pool.connections, "at least 1 connection, or pool: none");
            self.shown_param(&format!("{place}/pool/waiting"), &pool.waiting, |_: &Limit| true, "a bound", limit);
        }
        if let Some(breaker) = &edge.breaker {
            self.breaker(&format!("{place}/breaker"), breaker);
        }
    }

    fn retry(&mut self, place: &str, retry: &Retry) {
        let attempts = format!("tries in all, the first included: from 1 to {MAX_ATTEMPTS}");
        self.param(&format!("{place}/attempts"), &retry.attempts, |n| (1..=MAX_ATTEMPTS).contains(n), &attempts);
        self.any_time(&format!("{place}/backoff"), &retry.backoff);
        let factor = |x: &f64| x.is_finite() && *x > 0.0;
        self.param(&format!("{place}/factor"), &retry.factor, factor, "a factor above 0");
        if let Some(max) = &retry.max {
            self.any_time(&format!("{place}/max"), max);
        }
        if retry.on.iter().any(|cause| matches!(cause, Cause::BreakerOpen | Cause::Bulkhead)) {
            let found = "what the client itself refused";
            self.add(&format!("{place}/on"), found, "error, overload, timeout or connection", "");
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

    fn breaker(&mut self, place: &str, breaker: &Breaker) {
        match &breaker.trips {
            Trips::Share { window, min_calls, threshold } => {
                match window {
                    BreakerWindow::Calls(calls) => self.some(&format!("{place}/window"), calls, "at least 1 try"),
                    BreakerWindow::Time(last) => {
                        let expected = format!("at least {SHORTEST_PERIOD}");
                        self.param(&format!("{place}/window"), last, |t| *t >= SHORTEST_PERIOD, &expected);
                    }
                }
                self.some(&format!("{place}/min_calls"), min_calls, "at least 1 try");
                if let BreakerWindow::Calls(calls) = window
                    && min_calls.value > calls.value
                {
                    let expected = format!("at most {}, the window", calls.value);
                    self.add(&format!("{place}/min_calls"), min_calls.value.to_string(), expected, "");
                }
                let possible = |p: &f64| *p > 0.0 && *p <= 1.0;
                self.param(&format!("{place}/threshold"), threshold, possible, "a share above 0 and up to 1");
            }
            Trips::Consecutive(failures) => {
                self.some(&format!("{place}/consecutive"), failures, "at least 1 failure");
            }
        }
        self.some_time(&format!("{place}/open"), &breaker.open);
        self.some(&format!("{place}/probes"), &breaker.probes, "at least 1 probe");
    }
}
