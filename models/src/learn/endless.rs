//! Takes out calls with which requests would multiply without end.
//!
//! You are here: `models::learn::endless`. Traces end; a model made of their pieces need not: joining rare paths can hide how a circle
//! of calls ends, and a topic named by its broker alone can feed itself.
//! Always true: afterwards a request makes, on average, less than one request to each operation of a circle from the one before.

use indexmap::IndexMap;
use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::Finding;
use crate::system::{Model, OpRef, Step};

/// Growth from generation to generation from which on a circle counts as endless.
const MOST_GROWTH: f64 = 0.99;

/// Takes calls that close an endless circle out of the model, one after the other.
pub(super) fn break_endless(model: &mut Model, findings: &mut Vec<Finding>) {
    while let Some((caller, callee)) = endless_call(model) {
        let topics: Vec<String> =
            model.topics.iter().filter(|(_, t)| t.consumer == callee).map(|(name, _)| name.clone()).collect();
        let Some(operation) = model.services.get_mut(&caller.service).and_then(|s| s.operations.get_mut(&caller.operation))
        else {
            return;
        };
        for path in &mut operation.paths {
            take_out(&mut path.steps, &callee, &topics);
        }
        findings.push(Finding::EndlessCall { caller: caller.to_string(), callee: callee.to_string() });
    }
}

fn take_out(steps: &mut Vec<Step>, callee: &OpRef, topics: &[String]) {
    steps.retain_mut(|step| match step {
        Step::Work(_) => true,
        Step::Call(call) => call.to != *callee,
        Step::Lookup(lookup) => lookup.cache.to != *callee && lookup.origin.to != *callee,
        Step::Publish(publish) => !topics.contains(&publish.to),
        Step::Parallel { branches, .. } => {
            take_out(branches, callee, topics);
            !branches.is_empty()
        }
    });
}

/// A call inside an endless circle: the one that leads furthest back.
fn endless_call(model: &Model) -> Option<(OpRef, OpRef)> {
    let calls = mean_calls(model);
    for circle in tarjan_scc(&calls) {
        if growth(&calls, &circle) < MOST_GROWTH {
            continue;
        }
        let inside = calls
            .edge_indices()
            .filter_map(|e| calls.edge_endpoints(e))
            .filter(|(a, b)| circle.contains(a) && circle.contains(b));
        let (from, to) = inside.min_by_key(|(from, to)| (*to, std::cmp::Reverse(*from)))?;
        return Some((calls[from].clone(), calls[to].clone()));
    }
    None
}

/// Requests of the next generation for one of this, within a circle: the matrix's growth over many generations, once those of the first
/// have found their shares.
fn growth(calls: &DiGraph<OpRef, f64>, circle: &[NodeIndex]) -> f64 {
    const SETTLING: u32 = 192;
    const GENERATIONS: u32 = 64;
    let place: IndexMap<NodeIndex, usize> = circle.iter().enumerate().map(|(i, &node)| (node, i)).collect();
    let mut requests = vec![1.0_f64; circle.len()];
    let mut logs = 0.0;
    for generation in 0..SETTLING + GENERATIONS {
        let mut next = vec![0.0; circle.len()];
        for &node in circle {
            for edge in calls.edges(node) {
                if let Some(&to) = place.get(&petgraph::visit::EdgeRef::target(&edge)) {
                    next[to] += requests[place[&node]] * edge.weight();
                }
            }
        }
        let (before, after): (f64, f64) = (requests.iter().sum(), next.iter().sum());
        if after <= 0.0 {
            return 0.0;
        }
        if generation >= SETTLING {
            logs += libm::log(after / before);
        }
        requests = next.iter().map(|n| n / after).collect();
    }
    libm::exp(logs / f64::from(GENERATIONS))
}

/// Mean calls of one request, from operation to operation; a message counts as a call to its consumer.
fn mean_calls(model: &Model) -> DiGraph<OpRef, f64> {
    let mut graph = DiGraph::new();
    let mut nodes: IndexMap<OpRef, NodeIndex> = IndexMap::new();
    for (service, operation) in model.services.iter().flat_map(|(s, service)| service.operations.keys().map(move |o| (s, o))) {
        let op = OpRef::new(service, operation);
        nodes.insert(op.clone(), graph.add_node(op));
    }
    for (op, &from) in &nodes {
        let Some(operation) = model.services.get(&op.service).and_then(|s| s.operations.get(&op.operation)) else { continue };
        let total: f64 = operation.paths.iter().map(|p| p.weight.value).sum();
        let mut means: IndexMap<NodeIndex, f64> = IndexMap::new();
        for path in &operation.paths {
            let share = if total > 0.0 { path.weight.value / total } else { 0.0 };
            count(model, &path.steps, share, &mut |callee, mean| {
                if let Some(&to) = nodes.get(callee) {
                    *means.entry(to).or_default() += mean;
                }
            });
        }
        for (to, mean) in means {
            graph.add_edge(from, to, mean);
        }
    }
    graph
}

fn count(model: &Model, steps: &[Step], share: f64, add: &mut impl FnMut(&OpRef, f64)) {
    let mean = |times: &[(u32, f64)]| times.iter().map(|&(n, p)| f64::from(n) * p).sum::<f64>();
    for step in steps {
        match step {
            Step::Work(_) => {}
            Step::Call(call) => add(&call.to, share * mean(&call.times)),
            Step::Parallel { branches, .. } => count(model, branches, share, add),
            // A cold cache sends every question on.
            Step::Lookup(lookup) => [Some(&lookup.cache), Some(&lookup.origin), lookup.fill.as_ref()]
                .into_iter()
                .flatten()
                .for_each(|c| add(&c.to, share)),
            Step::Publish(publish) => {
                if let Some(topic) = model.topics.get(&publish.to) {
                    add(&topic.consumer, share * mean(&publish.times));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_that_of_the_long_run_however_many_take_part_at_first() {
        let of = |calls: &[(usize, usize, f64)], n: usize| {
            let mut graph = DiGraph::new();
            let nodes: Vec<NodeIndex> = (0..n).map(|i| graph.add_node(OpRef::new(format!("s{i}"), "op"))).collect();
            for &(from, to, mean) in calls {
                graph.add_edge(nodes[from], nodes[to], mean);
            }
            growth(&graph, &nodes)
        };
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
        // One that always calls itself, and two that hardly ever take part; a circle of two; the golden ratio.
        close(of(&[(0, 0, 1.0), (0, 1, 1e-16), (1, 2, 0.5), (2, 0, 0.5)], 3), 1.0);
        close(of(&[(0, 1, 0.5), (1, 0, 0.98)], 2), 0.7);
        close(of(&[(0, 0, 1.0), (0, 1, 1.0), (1, 0, 1.0)], 2), 1.618_034);
    }
}
