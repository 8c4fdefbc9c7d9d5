//! Choices of structure that are known to decide rankings, whoever made them: bounds, shedding, giving up, order.
//!
//! You are here: `reports::assumed::structure`. What a model's writer has declared otherwise (a health check, a pool, ...) is not listed.

use models::param::Limit;
use models::system::{Full, Model, Order, Step};

use super::Found;

pub(super) fn choices(model: &Model, found: &mut Found) {
    for (name, entry) in &model.workload {
        if entry.closed.is_none() {
            found.choice(
                "users come whatever the answers are (open loop)",
                "users who wait for their answers bring less load when those are slow",
                name,
            );
        }
    }
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
        let limited = service.workers.value != Limit::Unlimited;
        if limited && !service.shed_expired && service.codel.is_none() && service.adaptive_limit.is_none() {
            found.choice(
                "whoever waits gets a worker in the end, however late",
                "shedding (shed_expired, codel, adaptive_limit) would clear a backlog whose callers have left",
                name,
            );
        }
        if limited && service.autoscale.is_none() {
            found.choice("the number of replicas is fixed", "an autoscaler would add some, after a while", name);
        }
        if service.health_check.is_none() && service.replicas.value > 1 {
            found.choice(
                "callers never notice that a replica is down (no health check)",
                "its share of calls fails until it is back",
                name,
            );
        }
        if service.cache.as_ref().is_some_and(|cache| cache.ttl.is_none()) {
            found.choice(
                "what the cache holds stays valid for ever",
                "entries that expire send their questions on to the store",
                name,
            );
        }
        for (operation, described) in &service.operations {
            if described.paths.iter().flat_map(|path| &path.steps).any(misses_multiply) {
                found.choice(
                    "every miss of a cache asks the store (no single flight)",
                    "after a flush the same key is asked for many times at once",
                    &format!("{name}.{operation}"),
                );
            }
        }
    }
    for (name, edge) in &model.edges {
        if edge.timeout.is_none() && edge.deadline.is_none() {
            found.choice("no timeout known: the caller waits for ever", "a slow callee holds its callers up", &name.to_string());
        }
        if edge.max_in_flight.is_none() && edge.pool.is_none() && model.services.contains_key(&name.from) {
            found.choice(
                "calls in progress without bound (no pool, no bulkhead)",
                "one slow callee can take all of its caller",
                &name.to_string(),
            );
        }
    }
    for (name, topic) in &model.topics {
        let (what, matters) = match (topic.capacity.value, topic.full) {
            (Limit::Unlimited, _) => ("topic without bound: nothing is ever refused", "a backlog can outlive its cause"),
            (Limit::Of(_), Full::Reject) => {
                ("a full topic refuses its publishers at once", "if it really blocks them, they are held up")
            }
            (Limit::Of(_), Full::Block) => ("a full topic blocks its publishers", "a slow consumer holds up whoever publishes"),
            (Limit::Of(_), Full::DropOldest) => ("a full topic drops its oldest message", "messages get lost without an error"),
        };
        found.choice(what, matters, name);
        if topic.order == Order::None && !topic.order_sensitive && topic.idempotent {
            found.choice(
                "messages may come in any order, and twice",
                "if that is wrong (order_sensitive, idempotent), harm is done that no error rate shows",
                name,
            );
        }
    }
}

/// Whether a step looks something up in a cache without single flight.
fn misses_multiply(step: &Step) -> bool {
    match step {
        Step::Lookup(lookup) => !lookup.single_flight,
        Step::Parallel { branches, .. } => branches.iter().any(misses_multiply),
        Step::Work(_) | Step::Call(_) | Step::Publish(_) => false,
    }
}
