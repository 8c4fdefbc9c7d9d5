//! Edges as a file has them: the mirror image of `decode::edges`.
//!
//! You are here: `models::format::encode::edges`.

use super::{Entries, count, limit, number, time, word};
use crate::format::decode::words;
use crate::format::yaml::Yaml;
use crate::system::*;

pub(super) fn edge(edge: &Edge) -> Yaml {
    let mut entries = Entries::default();
    entries.add_some("latency", edge.latency.as_ref().map(time));
    entries.add_some("timeout", edge.timeout.as_ref().map(time));
    entries.add_some("deadline", edge.deadline.as_ref().map(time));
    entries.add_unless_default("propagate_deadline", &edge.propagate_deadline, &false, |propagate| Yaml::bare(propagate));
    entries.add_some("retry", edge.retry.as_ref().map(retry));
    entries.add_some("hedge", edge.hedge.as_ref().map(hedge));
    entries.add_some("max_in_flight", edge.max_in_flight.as_ref().map(count));
    entries.add_some("pool", edge.pool.as_ref().map(pool));
    entries.add_some("breaker", edge.breaker.as_ref().map(breaker));
    entries.add_some("observed", edge.observed.as_ref().map(observed));
    entries.block()
}

fn retry(retry: &Retry) -> Yaml {
    let default = Retry::default();
    let mut entries = Entries::default();
    entries.add("attempts", count(&retry.attempts));
    entries.add_unless_default("backoff", &retry.backoff, &default.backoff, time);
    entries.add_unless_default("factor", &retry.factor, &default.factor, number);
    entries.add_some("max", retry.max.as_ref().map(time));
    entries.add_unless_default("jitter", &retry.jitter, &default.jitter, |jitter| word(words::JITTER, jitter));
    entries.add_unless_default("on", &retry.on, &default.on, |on| {
        Yaml::Flow(on.iter().map(|cause| word(words::CAUSE, cause)).collect())
    });
    entries.add_some("budget", retry.budget.as_ref().map(budget));
    entries.flow()
}

fn budget(budget: &Budget) -> Yaml {
    let mut entries = Entries::default();
    entries.add("ratio", number(&budget.ratio));
    entries.add("min_per_s", number(&budget.min_per_s));
    entries.add("cap", number(&budget.cap));
    entries.add_some("initial", budget.initial.as_ref().map(number));
    entries.flow()
}

fn hedge(hedge: &Hedge) -> Yaml {
    let mut entries = Entries::default();
    entries.add("after", time(&hedge.after));
    entries.add("attempts", count(&hedge.attempts));
    entries.flow()
}

fn pool(pool: &Pool) -> Yaml {
    let mut entries = Entries::default();
    entries.add("connections", count(&pool.connections));
    entries.add("waiting", limit(&pool.waiting, "unbounded"));
    entries.flow()
}

fn breaker(breaker: &Breaker) -> Yaml {
    let mut entries = Entries::default();
    match &breaker.trips {
        Trips::Share { window, min_calls, threshold } => {
            let window = match window {
                BreakerWindow::Calls(calls) => count(calls),
                BreakerWindow::Time(last) => time(last),
            };
            entries.add("window", window);
            entries.add("min_calls", count(min_calls));
            entries.add("threshold", number(threshold));
        }
        Trips::Consecutive(failures) => entries.add("consecutive", count(failures)),
    }
    entries.add("open", time(&breaker.open));
    entries.add("probes", count(&breaker.probes));
    entries.flow()
}

fn observed(observed: &ObservedEdge) -> Yaml {
    let mut entries = Entries::default();
    entries.add("calls", Yaml::bare(observed.calls));
    entries.add("attempts", Yaml::bare(observed.attempts));
    entries.add("errors", Yaml::bare(observed.errors));
    entries.add("timeouts", Yaml::bare(observed.timeouts));
    entries.add("per_parent", Yaml::bare(observed.per_parent));
    entries.add("asynchronous", Yaml::bare(observed.asynchronous));
    entries.add("p50_ms", Yaml::bare(observed.p50_ms));
    entries.add("p99_ms", Yaml::bare(observed.p99_ms));
    entries.flow()
}
