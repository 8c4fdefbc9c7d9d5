//! Calls a second between services, when nothing fails: what the model's paths and entry rates imply.
//!
//! You are here: `reports::flow`. The drawn graph shows its numbers.
//! Always true: first attempts only; a fallback counts as a call that never happens, and is still listed.

use indexmap::IndexMap;
use models::system::{Cache, Call, EdgeName, Model, OpRef, Step};

/// Calls a second: into every node, along every edge. Every service, entry and topic of the model has its node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flow {
    /// Per entry, service or topic.
    pub nodes: IndexMap<String, f64>,
    /// Per pair of caller and called.
    pub edges: IndexMap<EdgeName, f64>,
}

/// One use of a call site: from an operation (or topic) to another, so many times per request.
struct Arc {
    from: usize,
    to: usize,
    times: f64,
}

/// The places where requests can be: operations, and topics under the operation name "".
#[derive(Default)]
struct Places(IndexMap<OpRef, f64>);

impl Places {
    fn index(&mut self, place: OpRef) -> usize {
        self.0.insert_full(place.clone(), 0.0).0
    }
}

/// Works out the flow by following requests down their paths; calls in a circle are followed 64 deep. O(64 x call sites).
pub fn flow(model: &Model) -> Flow {
    let (mut places, mut arcs) = (Places::default(), Vec::new());
    for (service, s) in &model.services {
        for (operation, op) in &s.operations {
            let from = places.index(OpRef::new(service.clone(), operation.clone()));
            let weights: f64 = op.paths.iter().map(|p| p.weight.value).sum();
            for path in &op.paths {
                let chance = if weights > 0.0 { path.weight.value / weights } else { 0.0 };
                path.steps.iter().for_each(|step| follow(model, step, chance, from, &mut places, &mut arcs));
            }
        }
    }
    for (topic, t) in &model.topics {
        let (from, to) = (places.index(OpRef::new(topic.clone(), "")), places.index(t.consumer.clone()));
        arcs.push(Arc { from, to, times: 1.0 });
    }
    let mut arriving: IndexMap<usize, f64> = IndexMap::new();
    let mut flow = Flow::default();
    for (name, entry) in &model.workload {
        *arriving.entry(places.index(entry.to.clone())).or_insert(0.0) += entry.rate.value;
        flow.nodes.insert(name.clone(), entry.rate.value);
        *flow.edges.entry(EdgeName::new(name.clone(), entry.to.service.clone())).or_insert(0.0) += entry.rate.value;
    }
    let rates = settle(places.0.len(), &arriving, &arcs);
    for name in model.services.keys().chain(model.topics.keys()) {
        flow.nodes.entry(name.clone()).or_insert(0.0);
    }
    for ((place, _), rate) in places.0.iter().zip(&rates) {
        *flow.nodes.entry(place.service.clone()).or_insert(0.0) += rate;
    }
    for arc in &arcs {
        let name = |i: usize| places.0.get_index(i).map_or_else(String::new, |(place, _)| place.service.clone());
        *flow.edges.entry(EdgeName::new(name(arc.from), name(arc.to))).or_insert(0.0) += rates[arc.from] * arc.times;
    }
    flow
}

/// Rates that agree with themselves: what arrives from outside plus what the callers send on.
fn settle(places: usize, arriving: &IndexMap<usize, f64>, arcs: &[Arc]) -> Vec<f64> {
    let mut rates = vec![0.0; places];
    for _ in 0..64 {
        let mut next = vec![0.0; places];
        arriving.iter().for_each(|(&i, rate)| next[i] += rate);
        arcs.iter().for_each(|arc| next[arc.to] += rates[arc.from] * arc.times);
        if next == rates {
            break;
        }
        rates = next;
    }
    rates
}

fn follow(model: &Model, step: &Step, chance: f64, from: usize, places: &mut Places, arcs: &mut Vec<Arc>) {
    let expected = |times: &[(u32, f64)]| if times.is_empty() { 1.0 } else { times.iter().map(|(n, p)| f64::from(*n) * p).sum() };
    let mut call = |call: &Call, chance: f64| {
        arcs.push(Arc { from, to: places.index(call.to.clone()), times: chance * expected(&call.times) });
        let mut next = call.fallback.as_deref();
        while let Some(fallback) = next {
            arcs.push(Arc { from, to: places.index(fallback.to.clone()), times: 0.0 });
            next = fallback.fallback.as_deref();
        }
    };
    match step {
        Step::Work(_) => {}
        Step::Call(c) => call(c, chance),
        Step::Parallel { branches, .. } => branches.iter().for_each(|branch| follow(model, branch, chance, from, places, arcs)),
        Step::Lookup(lookup) => {
            call(&lookup.cache, chance);
            let cache = model.services.get(&lookup.cache.to.service).and_then(|s| s.cache.as_ref());
            let misses = chance * cache.map_or(0.0, miss_share);
            call(&lookup.origin, misses);
            if let Some(fill) = &lookup.fill {
                call(fill, misses);
            }
        }
        Step::Publish(publish) => {
            let to = places.index(OpRef::new(publish.to.clone(), ""));
            arcs.push(Arc { from, to, times: chance * expected(&publish.times) });
        }
    }
}

/// Share of requests that miss, if the cache held the most popular keys: a lower bound for least recently used.
fn miss_share(cache: &Cache) -> f64 {
    let (keys, held) = (cache.keys.value.min(1_000_000), cache.capacity.value);
    let weight = |rank: u32| libm::pow(f64::from(rank), -cache.zipf.value);
    let all: f64 = (1..=keys).map(weight).sum();
    let missed: f64 = (held.saturating_add(1)..=keys).map(weight).sum();
    if all > 0.0 { missed / all } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn calls_a_second_follow_from_rates_weights_and_counts() {
        let flow = flow(&testing::shop());
        let edge = |from, to| flow.edges.get(&EdgeName::new(from, to)).copied();
        assert_eq!(edge("users", "web"), Some(100.0));
        // Three in four requests order; an order asks stock twice and writes one mail.
        assert_eq!(edge("web", "orders"), Some(75.0));
        assert_eq!(edge("orders", "stock"), Some(150.0));
        assert_eq!(edge("mails", "mailer"), Some(75.0));
        assert_eq!(flow.nodes["stock"], 150.0);
    }

    #[test]
    fn calls_in_a_circle_end() {
        let mut model = testing::shop();
        let op = model.services["web"].operations.keys().next().expect("it has one").clone();
        testing::add_call(&mut model, "stock", "web", &op, 0.25);
        let rate = flow(&model).nodes["web"];
        assert!(rate.is_finite() && rate > 100.0, "{rate}");
    }
}
