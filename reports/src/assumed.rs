//! What the ranking hangs on though nobody measured it or wrote it down.
//!
//! You are here: `reports::assumed`. It reads a model's provenance; `text` and `html` list what it finds.
//! Always true: numbers of one kind and value stand in one line, with all their places; the four structural choices that are
//! known to decide rankings (queue bound, refuse or wait, cancel or go on, time out or wait for ever) are named even where they
//! were written by a person.

use indexmap::IndexMap;
use models::dist::Work;
use models::param::{Limit, Param, Source};
use models::system::{BreakerWindow, Call, Model, Step, Trips};

use crate::view::Assumption;
use crate::words;

/// Lists what a model assumes, the structural choices first.
pub fn assumptions(model: &Model) -> Vec<Assumption> {
    let mut found = Found::default();
    structure(model, &mut found);
    for (name, service) in &model.services {
        found.number("replicas", MORE_OR_LESS, name, &service.replicas, u32::to_string);
        found.number("workers per replica", "where queueing starts", name, &service.workers, limit);
        found.number("queue bound per replica", "how long requests wait before they are refused", name, &service.queue, limit);
        if let Some(cache) = &service.cache {
            found.number("cache entries", CACHE, name, &cache.capacity, u32::to_string);
            found.number("distinct keys asked of the cache", CACHE, name, &cache.keys, u32::to_string);
            found.number("skew of the keys' popularity (Zipf)", CACHE, name, &cache.zipf, |x| words::number(*x));
        }
        for (op_name, operation) in &service.operations {
            let place = format!("{name}.{op_name}");
            if let Some(rate) = &operation.error_rate {
                found.number("own error rate", "", &place, rate, |x| words::share(*x));
            }
            for path in &operation.paths {
                found.number("weight of a call path", "", &place, &path.weight, |x| words::number(*x));
                path.steps.iter().for_each(|step| steps(step, &place, &mut found));
            }
        }
    }
    for (name, entry) in &model.workload {
        found
            .number("user requests per second", "how near the system is to its limits", name, &entry.rate, |x| words::number(*x));
    }
    edges(model, &mut found);
    for (name, topic) in &model.topics {
        found.number("deliveries at once", MORE_OR_LESS, name, &topic.concurrency, u32::to_string);
        found.number("messages that may wait", "when publishers are refused", name, &topic.capacity, limit);
        found.number("wait before a redelivery", "", name, &topic.redelivery_delay, |x| words::duration(*x));
        found.number("deliveries before a message is a dead letter", "", name, &topic.max_deliveries, u32::to_string);
        topic.accept.iter().for_each(|work| found.work("time a broker takes to accept a message", name, work));
    }
    let all =
        [("services", model.services.keys().cloned().collect()), ("edges", model.edges.keys().map(|e| e.to_string()).collect())];
    found.into_list(&all)
}

const MORE_OR_LESS: &str = "how much it can do at once";
const CACHE: &str = "how much load falls on the store behind it";

fn structure(model: &Model, found: &mut Found) {
    for (name, service) in &model.services {
        if service.queue.value == Limit::Unlimited {
            found.choice("queue without bound: nothing is ever refused", "an outage can leave a backlog that outlives it", name);
        } else {
            found.choice(
                "a full queue refuses at once",
                "callers learn of it early; if it really drops silently, they wait for their timeout",
                name,
            );
        }
        if service.cancel_on_disconnect {
            found.choice("work stops when its caller has left", "if it really goes on, overload lasts longer", name);
        } else {
            found.choice(
                "work goes on after its caller has left",
                "wasted work can keep an overload alive; if it really stops, recovery is faster",
                name,
            );
        }
    }
    for (name, edge) in &model.edges {
        if edge.timeout.is_none() {
            found.choice("no timeout known: the caller waits for ever", "a slow callee holds its callers up", &name.to_string());
        }
    }
}

fn edges(model: &Model, found: &mut Found) {
    for (name, edge) in &model.edges {
        let place = name.to_string();
        if let Some(latency) = &edge.latency {
            found.number("network latency one way", "", &place, latency, |x| words::duration(*x));
        }
        if let Some(timeout) = &edge.timeout {
            found.number("timeout per try", "when callers give up", &place, timeout, |x| words::duration(*x));
        }
        if let Some(retry) = &edge.retry {
            found.number("tries in all", "how much load a failure adds", &place, &retry.attempts, u32::to_string);
            found.number("wait before a retry", "how fast that load comes", &place, &retry.backoff, |x| words::duration(*x));
            found.number("growth of the wait from try to try", "", &place, &retry.factor, |x| words::number(*x));
            if let Some(max) = &retry.max {
                found.number("longest wait between tries", "", &place, max, |x| words::duration(*x));
            }
            if let Some(budget) = &retry.budget {
                found.number("retry budget: tokens per first try", "", &place, &budget.ratio, |x| words::number(*x));
                found.number("retry budget: tokens per second", "", &place, &budget.min_per_s, |x| words::number(*x));
                found.number("retry budget: most tokens", "", &place, &budget.cap, |x| words::number(*x));
            }
        }
        if let Some(breaker) = &edge.breaker {
            match &breaker.trips {
                Trips::Share { window, threshold, .. } => {
                    match window {
                        BreakerWindow::Calls(calls) => {
                            found.number("circuit breaker: tries remembered", "", &place, calls, u32::to_string);
                        }
                        BreakerWindow::Time(last) => {
                            found.number("circuit breaker: time remembered", "", &place, last, |x| words::duration(*x));
                        }
                    }
                    found.number("circuit breaker: failed share that opens it", "", &place, threshold, |x| words::share(*x));
                }
                Trips::Consecutive(failures) => {
                    found.number("circuit breaker: failures in a row that open it", "", &place, failures, u32::to_string);
                }
            }
            found.number("circuit breaker: time it stays open", "", &place, &breaker.open, |x| words::duration(*x));
        }
    }
}

fn steps(step: &Step, place: &str, found: &mut Found) {
    match step {
        Step::Work(work) => found.work("service time", place, work),
        Step::Call(c) => call(c, place, found),
        Step::Parallel { branches, .. } => branches.iter().for_each(|branch| steps(branch, place, found)),
        Step::Lookup(lookup) => {
            call(&lookup.cache, place, found);
            call(&lookup.origin, place, found);
        }
        Step::Publish(publish) => {
            found.number(FAILS, SPREADS, &format!("{place} to {}", publish.to), &publish.on_failure, |x| words::share(*x))
        }
    }
}

const FAILS: &str = "chance that a failed call fails its caller";
const SPREADS: &str = "how far a failure spreads";

fn call(call: &Call, place: &str, found: &mut Found) {
    found.number(FAILS, SPREADS, &format!("{place} to {}", call.to), &call.on_failure, |x| words::share(*x));
}

fn limit(limit: &Limit) -> String {
    match limit {
        Limit::Of(n) => n.to_string(),
        Limit::Unlimited => "unlimited".to_string(),
    }
}

/// What was found so far, by its words.
#[derive(Default)]
struct Found(IndexMap<String, Assumption>);

impl Found {
    /// A choice of structure.
    fn choice(&mut self, what: &str, matters: &str, place: &str) {
        self.add(true, what, matters, place);
    }

    fn add(&mut self, structural: bool, what: &str, matters: &str, place: &str) {
        let fresh = || Assumption { structural, what: what.to_string(), matters: matters.to_string(), places: Vec::new() };
        let places = &mut self.0.entry(what.to_string()).or_insert_with(fresh).places;
        if !places.iter().any(|p| p == place) {
            places.push(place.to_string());
        }
    }

    fn number<T>(&mut self, what: &str, matters: &str, place: &str, param: &Param<T>, show: impl Fn(&T) -> String) {
        if param.source != Source::Assumed {
            return;
        }
        let range =
            param.range.as_ref().map_or_else(String::new, |[low, high]| format!(" (could be {} to {})", show(low), show(high)));
        self.add(false, &format!("{what}: {}{range}", show(&param.value)), matters, place);
    }

    fn work(&mut self, what: &str, place: &str, work: &Work) {
        if work.source == Source::Assumed {
            let range = work.scale_range.map_or_else(String::new, |[low, high]| {
                format!(" (could be {} to {} times it)", words::number(low), words::number(high))
            });
            self.add(false, &format!("{what} taken by default{range}"), "", place);
        }
    }

    /// The lines, with `all 9 services` for a long list that leaves none out.
    fn into_list(self, all: &[(&str, Vec<String>)]) -> Vec<Assumption> {
        let whole = |places: &[String]| all.iter().find(|(_, every)| every.len() > 3 && every == places);
        let mut list: Vec<Assumption> = self.0.into_values().collect();
        for assumption in &mut list {
            if let Some((kind, every)) = whole(&assumption.places) {
                assumption.places = vec![format!("all {} {kind}", every.len())];
            }
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn assumed_numbers_are_grouped_and_structural_choices_are_always_named() {
        let mut model = testing::shop();
        for name in ["web", "orders"] {
            model.services[name].queue = Param::assumed(Limit::Of(100), [Limit::Of(20), Limit::Of(500)]);
        }
        let lines: Vec<String> = assumptions(&model).iter().map(|a| format!("{} [{}]", a.what, a.places.join(" "))).collect();
        expect_test::expect![[r#"
            a full queue refuses at once [web orders stock]
            work goes on after its caller has left [all 4 services]
            queue without bound: nothing is ever refused [mailer]
            no timeout known: the caller waits for ever [users->web]
            queue bound per replica: 100 (could be 20 to 500) [web orders]"#]]
        .assert_eq(&lines.join("\n"));
    }
}
