//! Assumed numbers of policies: what protects a service, what changes it, how a client calls.
//!
//! You are here: `reports::assumed::policies`.

use models::system::{AdaptiveLaw, BreakerWindow, Contention, Edge, Service, Trips};

use super::{Found, limit};
use crate::words;

const SHED: &str = "how soon overload is refused";
const HELD: &str = "how much a slow callee can hold up";
const LATE: &str = "how fast capacity follows the load";

pub(super) fn service(name: &str, service: &Service, found: &mut Found) {
    if let Some(codel) = &service.codel {
        found.number("CoDel: acceptable wait", SHED, name, &codel.target, |x| words::duration(*x));
        found.number("CoDel: how long it may be exceeded", SHED, name, &codel.interval, |x| words::duration(*x));
    }
    if let Some(adaptive) = &service.adaptive_limit {
        match &adaptive.law {
            AdaptiveLaw::Aimd { latency, backoff } => {
                found.number("adaptive limit: latency that is too slow", SHED, name, latency, |x| words::duration(*x));
                found.number("adaptive limit: factor then", SHED, name, backoff, |x| words::number(*x));
            }
            AdaptiveLaw::Gradient { tolerance } => {
                found.number("adaptive limit: tolerance", SHED, name, tolerance, |x| words::number(*x));
            }
        }
        found.number("adaptive limit: at the start", SHED, name, &adaptive.initial, u32::to_string);
        found.number("adaptive limit: least", SHED, name, &adaptive.min, u32::to_string);
        found.number("adaptive limit: greatest", SHED, name, &adaptive.max, u32::to_string);
    }
    let contended = "whether it slows down under load";
    match &service.contention {
        Some(Contention::InProgress { add }) => {
            found.number("time added per request in progress", contended, name, add, |x| words::duration(*x));
        }
        Some(Contention::ArrivalRate { above, factor }) => {
            found.number("arrivals per second that slow it down", contended, name, above, |x| words::number(*x));
            found.number("factor on its service time above them", contended, name, factor, |x| words::number(*x));
        }
        None => {}
    }
    if let Some(autoscale) = &service.autoscale {
        found.number("autoscaling: wanted utilisation", LATE, name, &autoscale.target, |x| words::share(*x));
        found.number("autoscaling: least replicas", LATE, name, &autoscale.min, u32::to_string);
        found.number("autoscaling: most replicas", LATE, name, &autoscale.max, u32::to_string);
        found.number("autoscaling: time between two looks", LATE, name, &autoscale.every, |x| words::duration(*x));
        found.number("autoscaling: start of a replica", LATE, name, &autoscale.start_up, |x| words::duration(*x));
        found.number("autoscaling: wait before replicas go", "", name, &autoscale.down_after, |x| words::duration(*x));
    }
    if let Some(warm_up) = &service.warm_up {
        let cold = "what a restart costs";
        found.number("warm-up: how long", cold, name, &warm_up.lasting, |x| words::duration(*x));
        found.number("warm-up: factor at its start", cold, name, &warm_up.factor, |x| words::number(*x));
    }
    if let Some(health_check) = &service.health_check {
        let seen = "how long a crash is felt";
        found.number("health check: until a replica counts as down", seen, name, &health_check.down_after, |x| {
            words::duration(*x)
        });
        found.number("health check: until it counts as up", seen, name, &health_check.up_after, |x| words::duration(*x));
    }
}

pub(super) fn edge(place: &str, edge: &Edge, found: &mut Found) {
    if let Some(latency) = &edge.latency {
        found.number("network latency one way", "", place, latency, |x| words::duration(*x));
    }
    if let Some(timeout) = &edge.timeout {
        found.number("timeout per try", "when callers give up", place, timeout, |x| words::duration(*x));
    }
    if let Some(deadline) = &edge.deadline {
        found.number("deadline of a call, all tries together", "when callers give up", place, deadline, |x| words::duration(*x));
    }
    if let Some(hedge) = &edge.hedge {
        let matters = "how much load slowness adds";
        found.number("hedging: wait before another try", matters, place, &hedge.after, |x| words::duration(*x));
        found.number("hedging: tries in all", matters, place, &hedge.attempts, u32::to_string);
    }
    if let Some(most) = &edge.max_in_flight {
        found.number("calls in progress at once", HELD, place, most, u32::to_string);
    }
    if let Some(pool) = &edge.pool {
        found.number("connections", HELD, place, &pool.connections, u32::to_string);
        found.number("tries that may wait for a connection", HELD, place, &pool.waiting, limit);
    }
    if let Some(retry) = &edge.retry {
        found.number("tries in all", "how much load a failure adds", place, &retry.attempts, u32::to_string);
        found.number("wait before a retry", "how fast that load comes", place, &retry.backoff, |x| words::duration(*x));
        found.number("growth of the wait from try to try", "", place, &retry.factor, |x| words::number(*x));
        if let Some(max) = &retry.max {
            found.number("longest wait between tries", "", place, max, |x| words::duration(*x));
        }
        if let Some(budget) = &retry.budget {
            found.number("retry budget: tokens per first try", "", place, &budget.ratio, |x| words::number(*x));
            found.number("retry budget: tokens per second", "", place, &budget.min_per_s, |x| words::number(*x));
            found.number("retry budget: most tokens", "", place, &budget.cap, |x| words::number(*x));
            if let Some(initial) = &budget.initial {
                found.number("retry budget: tokens at the start", "", place, initial, |x| words::number(*x));
            }
        }
    }
    if let Some(breaker) = &edge.breaker {
        match &breaker.trips {
            Trips::Share { window, min_calls, threshold } => {
                match window {
                    BreakerWindow::Calls(calls) => {
                        found.number("circuit breaker: tries remembered", "", place, calls, u32::to_string);
                    }
                    BreakerWindow::Time(last) => {
                        found.number("circuit breaker: time remembered", "", place, last, |x| words::duration(*x));
                    }
                }
                found.number("circuit breaker: tries it must know", "", place, min_calls, u32::to_string);
                found.number("circuit breaker: failed share that opens it", "", place, threshold, |x| words::share(*x));
            }
            Trips::Consecutive(failures) => {
                found.number("circuit breaker: failures in a row that open it", "", place, failures, u32::to_string);
            }
        }
        found.number("circuit breaker: time it stays open", "", place, &breaker.open, |x| words::duration(*x));
        found.number("circuit breaker: probes before it closes", "", place, &breaker.probes, u32::to_string);
    }
}
