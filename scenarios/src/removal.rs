//! One thing taken away from a run, to see what it was good for: ablation.
//!
//! You are here: `scenarios::removal`. [`candidates`] lists what a model has that can keep a failure alive; a [`Removal`] gives the model and
//! scenario without it.
//! Always true: no call site changes, so that each request has the same luck with and without the thing.
//! Not here: what is run and what comes of it (the command line, with `sim`).

use std::fmt;

use models::param::{Limit, Param};
use models::system::{Call, EdgeName, Model, Order, Step};
use models::units::{Nanos, SimTime};
use serde::{Serialize, Serializer};

use crate::fault::{Fault, FaultKind, Target};
use crate::scenario::Scenario;

/// What is taken away.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Removal {
    /// An edge's retries, or hedged tries: one try is all.
    Retries(EdgeName),
    /// A service's long queue: as many may wait at a replica as it has workers.
    Queue(String),
    /// Work for callers who have left: the service stops at once, and starts none whose caller is known to have gone.
    LateWork(String),
    /// That everybody who misses asks the origin: of all who want the same key, one asks and the others wait.
    Stampede(EdgeName),
    /// An edge's circuit breaker.
    Breaker(EdgeName),
    /// That a topic's messages overtake each other: order is kept per key.
    Overtaking(String),
    /// That a topic's messages are delivered again.
    Redelivery(String),
    /// Every call over an edge for a while after the faults: refused at once, so that what hangs on it can come to rest.
    Calls(EdgeName),
}

impl fmt::Display for Removal {
    /// As it follows "without".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Removal::Retries(edge) => write!(f, "retries on {edge}"),
            Removal::Queue(service) => write!(f, "the long queue of {service}"),
            Removal::LateWork(service) => write!(f, "work of {service} for callers who have left"),
            Removal::Stampede(edge) => write!(f, "many asking for the same key on {edge}"),
            Removal::Breaker(edge) => write!(f, "the circuit breaker on {edge}"),
            Removal::Overtaking(topic) => write!(f, "messages of {topic} overtaking each other"),
            Removal::Redelivery(topic) => write!(f, "a second delivery of messages of {topic}"),
            Removal::Calls(edge) => write!(f, "all calls on {edge} for a while"),
        }
    }
}

impl Serialize for Removal {
    /// `{ "kind": "retries", "of": "a->b" }`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut fields = serializer.serialize_struct("Removal", 2)?;
        fields.serialize_field("kind", self.kind())?;
        fields.serialize_field("of", &self.of())?;
        fields.end()
    }
}

impl Removal {
    /// Its kind's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Removal::Retries(_) => "retries",
            Removal::Queue(_) => "queue",
            Removal::LateWork(_) => "late_work",
            Removal::Stampede(_) => "stampede",
            Removal::Breaker(_) => "breaker",
            Removal::Overtaking(_) => "overtaking",
            Removal::Redelivery(_) => "redelivery",
            Removal::Calls(_) => "calls",
        }
    }

    /// The edge, service or topic that it is taken away from.
    pub fn of(&self) -> String {
        match self {
            Removal::Retries(edge) | Removal::Stampede(edge) | Removal::Breaker(edge) | Removal::Calls(edge) => edge.to_string(),
            Removal::Queue(name) | Removal::LateWork(name) | Removal::Overtaking(name) | Removal::Redelivery(name) => {
                name.clone()
            }
        }
    }

    /// Takes it away. `rest`: how long calls are kept off an edge, from the last fault's end on.
    pub fn apply(&self, model: &mut Model, scenario: &mut Scenario, rest: Nanos) {
        match self {
            Removal::Retries(edge) => {
                if let Some(edge) = model.edges.get_mut(edge) {
                    (edge.retry, edge.hedge) = (None, None);
                }
            }
            Removal::Breaker(edge) => {
                if let Some(edge) = model.edges.get_mut(edge) {
                    edge.breaker = None;
                }
            }
            Removal::Queue(name) => {
                if let Some(service) = model.services.get_mut(name) {
                    service.queue = Param::declared(service.workers.value);
                }
            }
            Removal::LateWork(name) => {
                if let Some(service) = model.services.get_mut(name) {
                    (service.cancel_on_disconnect, service.shed_expired) = (true, true);
                }
            }
            Removal::Stampede(edge) => {
                let Some(service) = model.services.get_mut(&edge.from) else { return };
                let steps = service.operations.values_mut().flat_map(|o| &mut o.paths).flat_map(|path| &mut path.steps);
                steps.for_each(|step| share_flights(step, &edge.to));
            }
            Removal::Overtaking(name) => {
                if let Some(topic) = model.topics.get_mut(name) {
                    topic.order = Order::PerKey;
                }
            }
            Removal::Redelivery(name) => {
                if let Some(topic) = model.topics.get_mut(name) {
                    topic.max_deliveries = Param::declared(1);
                }
            }
            Removal::Calls(edge) => {
                let start = scenario.clears_at().unwrap_or(SimTime::ZERO);
                let kind = FaultKind::ConnectionDrop { probability: 1.0 };
                scenario.faults.push(Fault::new(kind, Target::Edge(edge.clone()), start, rest));
            }
        }
    }
}

/// Lookups whose origin is `origin` become single-flight.
fn share_flights(step: &mut Step, origin: &str) {
    match step {
        Step::Lookup(lookup) if lookup.origin.to.service == origin => lookup.single_flight = true,
        Step::Parallel { branches, .. } => branches.iter_mut().for_each(|branch| share_flights(branch, origin)),
        _ => {}
    }
}

/// Everything of `model` that could keep a failure alive, in the model's order, calls on edges last.
pub fn candidates(model: &Model) -> Vec<Removal> {
    let mut found = Vec::new();
    for (name, edge) in &model.edges {
        let tries =
            edge.retry.as_ref().map(|r| r.attempts.value).into_iter().chain(edge.hedge.as_ref().map(|h| h.attempts.value));
        // (What a topic sends again is its own affair: see `Redelivery`.)
        if tries.max().is_some_and(|tries| tries > 1) && !model.topics.contains_key(&name.from) {
            found.push(Removal::Retries(name.clone()));
        }
        if edge.breaker.is_some() {
            found.push(Removal::Breaker(name.clone()));
        }
    }
    for (name, service) in &model.services {
        let longer = match (service.workers.value, service.queue.value) {
            (Limit::Unlimited, _) => false,
            (Limit::Of(_), Limit::Unlimited) => true,
            (Limit::Of(workers), Limit::Of(queue)) => queue > workers,
        };
        if longer {
            found.push(Removal::Queue(name.clone()));
        }
        if !(service.cancel_on_disconnect && service.shed_expired) {
            found.push(Removal::LateWork(name.clone()));
        }
        let mut origins: Vec<EdgeName> = Vec::new();
        let steps = service.operations.values().flat_map(|o| &o.paths).flat_map(|path| &path.steps);
        steps.for_each(|step| {
            shared_origins(step, &mut |origin| {
                let edge = EdgeName::new(name, &*origin.to.service);
                if !origins.contains(&edge) {
                    origins.push(edge);
                }
            });
        });
        found.extend(origins.into_iter().map(Removal::Stampede));
    }
    for (name, topic) in &model.topics {
        if topic.order == Order::None {
            found.push(Removal::Overtaking(name.clone()));
        }
        if topic.max_deliveries.value > 1 {
            found.push(Removal::Redelivery(name.clone()));
        }
    }
    let mut edges: Vec<EdgeName> = Vec::new();
    for (from, one) in model.uses() {
        let edge = EdgeName::new(from, one.to.name());
        if !model.topics.contains_key(from) && !edges.contains(&edge) {
            edges.push(edge);
        }
    }
    found.extend(edges.into_iter().map(Removal::Calls));
    found
}

/// Shows `f` the origin of each lookup that is not single-flight.
fn shared_origins(step: &Step, f: &mut dyn FnMut(&Call)) {
    match step {
        Step::Lookup(lookup) if !lookup.single_flight => f(&lookup.origin),
        Step::Parallel { branches, .. } => branches.iter().for_each(|branch| shared_origins(branch, f)),
        _ => {}
    }
}

/// What of `items` cannot be spared: makes a set that `helps` as small as can be by leaving out one thing after the other. At most
/// `items.len()` questions are asked, and `None` (no more runs) counts as no. What is returned helps, and none of it can be left out alone.
pub fn minimal<T: Clone>(items: &[T], mut helps: impl FnMut(&[T]) -> Option<bool>) -> Vec<T> {
    let mut kept = items.to_vec();
    let mut next = 0;
    while next < kept.len() && kept.len() > 1 {
        let mut fewer = kept.clone();
        fewer.remove(next);
        if helps(&fewer) == Some(true) {
            kept = fewer;
        } else {
            next += 1;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use models::format::read_model;

    use super::*;

    const SHOP: &str = "
version: 1
workload: { users: { to: web.get, open: { rate: 10/s } } }
services:
  web: { workers: unlimited, operations: { get: { paths: [ { steps: [ { lookup: { cache: c.get, origin: db.q, fill: c.put } }, { publish: mails } ] } ] } } }
  c: { workers: 4, queue: 4, cache: { capacity: 10, keys: 10, zipf: 1 }, operations: { get: { paths: [ { steps: [] } ] }, put: { paths: [ { steps: [] } ] } } }
  db: { workers: 4, queue: 5, cancel_on_disconnect: true, shed_expired: true, operations: { q: { paths: [ { steps: [ { work: { constant: 1ms } } ] } ] } } }
  mailer: { operations: { m: { paths: [ { steps: [ { work: { constant: 1ms } } ] } ] } } }
topics: { mails: { consumer: mailer.m, concurrency: 4, order: per_key, max_deliveries: 3 } }
edges:
  web->db: { timeout: 1s, retry: { attempts: 2 }, breaker: { consecutive: 5, open: 1s } }
  web->c: { retry: { attempts: 1 } }
";

    fn shop() -> Model {
        read_model("shop", SHOP.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
    }

    #[test]
    fn only_what_is_there_can_be_taken_away() {
        let names: Vec<String> = candidates(&shop()).iter().map(ToString::to_string).collect();
        let expected = [
            "retries on web->db",
            "the circuit breaker on web->db",
            "work of web for callers who have left",
            "many asking for the same key on web->db",
            "work of c for callers who have left",
            "the long queue of db",
            "the long queue of mailer",
            "work of mailer for callers who have left",
            "a second delivery of messages of mails",
            "all calls on users->web for a while",
            "all calls on web->c for a while",
            "all calls on web->db for a while",
            "all calls on web->mails for a while",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn what_is_taken_away_is_gone_and_cannot_be_taken_again() {
        for removal in candidates(&shop()) {
            let (mut model, mut scenario) = (shop(), Scenario::default());
            removal.apply(&mut model, &mut scenario, Nanos::from_secs(10));
            models::check::check(&model).unwrap_or_else(|errors| panic!("{removal}: {errors}"));
            if let Removal::Calls(edge) = &removal {
                assert_eq!((&scenario.faults[0].target, model), (&Target::Edge(edge.clone()), shop()));
                continue;
            }
            assert!(scenario.faults.is_empty());
            assert_ne!(model, shop(), "{removal}");
            let left = candidates(&model);
            assert!(!left.contains(&removal), "{removal}");
            assert!(left.iter().all(|other| candidates(&shop()).contains(other)), "nothing is added");
        }
    }

    #[test]
    fn a_minimal_set_helps_and_none_of_it_can_be_spared() {
        let mut asked = 0;
        let needs = |set: &[u32]| set.contains(&3) && set.contains(&5);
        let kept = minimal(&[1, 2, 3, 4, 5, 6], |set| {
            asked += 1;
            Some(needs(set))
        });
        assert_eq!((kept, asked), (vec![3, 5], 6));
        // Without more runs it is as small as it has become by then.
        let mut left = 2;
        let kept = minimal(&[1, 2, 3, 4, 5, 6], |set| {
            left -= 1;
            (left >= 0).then(|| needs(set))
        });
        assert_eq!(kept, [3, 4, 5, 6]);
    }
}
