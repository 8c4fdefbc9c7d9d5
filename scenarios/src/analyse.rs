//! Where to look: every boundary of a model with its evidence, the most worrying first (DESIGN.md 6.2).
//!
//! You are here: `scenarios::analyse`. `generate` turns the evidence into scenarios; `flow` has the arithmetic below it.
//! Always true: only the model is read; the same model gives the same analysis. What traces showed counts before what the model
//! gives by arithmetic, and the evidence says which it was.
//! Not here: any simulation. Queueing is left out of these numbers, so they say where to look and not what happens.

use std::collections::{BTreeMap, BTreeSet};

use models::param::{Limit, Source};
use models::system::{Edge, EdgeName, Mode, Model, Observed, ObservedEdge, Order, Retry};
use models::units::Nanos;
use petgraph::algo::{dominators, tarjan_scc};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::Dfs;

use crate::flow::{EdgeFlow, Flow, capacity, deliveries, tries};
pub use crate::flow::{LinkKind, NodeKind};

/// A model's boundaries and nodes, with the evidence on each.
#[derive(Clone, Debug, Default)]
pub struct Analysis {
    /// Every edge and entry, highest score first; equal scores by name.
    pub boundaries: Vec<Boundary>,
    /// Every entry, service and topic, in the model's order.
    pub nodes: Vec<NodeEvidence>,
}

impl Analysis {
    /// The boundary between two nodes, if there are calls.
    pub fn boundary(&self, from: &str, to: &str) -> Option<&Boundary> {
        self.boundaries.iter().find(|b| b.edge.from == from && b.edge.to == to)
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Option<&NodeEvidence> {
        self.nodes.iter().find(|node| node.name == name)
    }
}

/// An edge of the interaction graph, or an entry, and what is known against it.
#[derive(Clone, Debug)]
pub struct Boundary {
    /// From whom to whom.
    pub edge: EdgeName,
    /// How its calls are made.
    pub kind: LinkKind,
    /// How worrying it is, 0 to 7: see [`Hotness`].
    pub score: f64,
    /// What the score is made of.
    pub hotness: Hotness,
    /// Calls per second, first attempts only.
    pub calls_per_s: f64,
    /// Attempts per second, retries after ordinary errors included.
    pub attempts_per_s: f64,
    /// Calls per request of the calling node.
    pub per_parent: f64,
    /// Calls per user request, over all entries.
    pub per_request: f64,
    /// Failed share of attempts.
    pub error_rate: f64,
    /// Median of one attempt as the caller sees it, ms.
    pub p50_ms: f64,
    /// 99th percentile of the same, ms.
    pub p99_ms: f64,
    /// True if error rate and percentiles were seen in traces; false if they follow from the model's own numbers (a lognormal
    /// with the mean and variance of the work along the paths, without queueing).
    pub measured: bool,
    /// Robust z-score of the error rate among all boundaries; 0 with fewer than three.
    pub error_anomaly: f64,
    /// Robust z-score of p99/p50.
    pub tail_anomaly: f64,
    /// Services that calls over this boundary may reach, its callee included.
    pub downstream: usize,
    /// Per-try timeout (a topic's ack deadline); `None`: waits for ever.
    pub timeout: Option<Nanos>,
    /// Tries (a topic's deliveries) of one call at most.
    pub tries: u32,
    /// Tries at most for one user request, along the worst way from an entry: the product of the layers.
    pub tries_from_entry: u64,
    /// Boundaries with more than one try on that way, this one included.
    pub layers: Vec<(EdgeName, u32)>,
    /// Whether the caller waits for the answer.
    pub waits: bool,
    /// Highest probability that a failed call fails its caller.
    pub on_failure: f64,
    /// Probability that its failure becomes a user's: the product of `on_failure` along the worst way from an entry. A topic
    /// that is full refuses its publishers, so a delivery counts as the topic does.
    pub user_harm: f64,
    /// Longest that one call can last: all tries time out, and the backoffs are as long as can be, or the deadline passes. `None` without
    /// a timeout or deadline.
    pub longest_call: Option<Nanos>,
    /// Share of the caller's workers (a topic's deliveries) that calls would hold if every one lasted that long; infinite without
    /// a timeout, 0 if the caller holds none meanwhile.
    pub stuck_share: f64,
}

impl Boundary {
    /// Tail: p99 over p50; 1 where nothing is known.
    pub fn tail(&self) -> f64 {
        if self.p50_ms > 0.0 { self.p99_ms / self.p50_ms } else { 1.0 }
    }
}

/// The parts of a boundary's score, each between 0 and 1. With share(x, h) = x / (x + h):
///
/// score = traffic x (errors + tail + reach + retries + load + stuck + hard).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Hotness {
    /// Square root of calls per user request, at most 1: a path that few requests take worries less.
    pub traffic: f64,
    /// The greater of share(error rate, 5 %) and share(its anomaly, 3.5).
    pub errors: f64,
    /// The greater of share(p99/p50 - 1, 10) and share(its anomaly, 3.5).
    pub tail: f64,
    /// Services downstream / all services.
    pub reach: f64,
    /// 1 - 1 / tries along the worst way from an entry.
    pub retries: f64,
    /// Utilisation of the callee, at most 1.
    pub load: f64,
    /// [`Boundary::stuck_share`], at most 1.
    pub stuck: f64,
    /// [`Boundary::user_harm`].
    pub hard: f64,
}

impl Hotness {
    fn score(&self) -> f64 {
        self.traffic * (self.errors + self.tail + self.reach + self.retries + self.load + self.stuck + self.hard)
    }
}

/// An entry, service or topic, and what is known of it.
#[derive(Clone, Debug)]
pub struct NodeEvidence {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: NodeKind,
    /// Score of the hottest boundary into it (for an entry: out of it).
    pub score: f64,
    /// Attempts per second (topics: messages; entries: user requests).
    pub per_s: f64,
    /// Its requests per user request, at most 1: how much of the users' traffic it can hurt.
    pub user_share: f64,
    /// Failed share of its answers.
    pub error_rate: f64,
    /// Median of its answers, ms.
    pub p50_ms: f64,
    /// 99th percentile of its answers, ms.
    pub p99_ms: f64,
    /// As [`Boundary::measured`].
    pub measured: bool,
    /// Offered erlangs: workers (deliveries) held at once on average, by work, paths and rates.
    pub erlangs: f64,
    /// Workers of all replicas (deliveries at once of a topic); `None` if unlimited.
    pub workers: Option<f64>,
    /// Where the number of workers is from: an assumed one makes an assumed utilisation.
    pub workers_source: Source,
    /// Erlangs / workers; `None` if unlimited. Above 1 it cannot keep up.
    pub utilisation: Option<f64>,
    /// Whether a request holds its worker while it waits for callees.
    pub blocking: bool,
    /// Nodes that call it.
    pub callers: usize,
    /// Services and topics that users reach through this node only (its dominator tree), itself left out.
    pub dominates: Vec<String>,
    /// Services that its calls may reach.
    pub downstream: usize,
    /// Topics: messages that may wait; `None` for an unbounded topic and for all else.
    pub places: Option<u32>,
    /// Topics: whether the broker delivers the messages of a key in order.
    pub keeps_order: bool,
}

impl NodeEvidence {
    /// Topics: seconds until it is full if nothing is delivered; `None` if it never is.
    pub fn fills_in_s(&self) -> Option<f64> {
        self.places.filter(|_| self.per_s > 0.0).map(|places| f64::from(places) / self.per_s)
    }

    /// Topics: whether one message may overtake another, since several are delivered at once and no order is promised.
    pub fn may_reorder(&self) -> bool {
        self.kind == NodeKind::Topic && !self.keeps_order && self.workers.is_none_or(|deliveries| deliveries > 1.0)
    }
}

/// Finds what is worrying about a model.
///
/// Returns every boundary, ranked, and every node. O(places x steps) for the flow and O(edges x nodes) for the graph.
pub fn analyse(model: &Model) -> Analysis {
    let flow = Flow::of(model);
    let graph = Graph::of(&flow);
    let users_per_s: f64 =
        flow.nodes.iter().zip(&flow.at).filter(|((_, kind), _)| *kind == NodeKind::Entry).map(|(_, at)| at.per_s).sum();
    let ways = graph.retry_ways(model, &flow);
    let harm = user_harm(&flow);
    let mut nodes: Vec<NodeEvidence> =
        (0..flow.nodes.len()).map(|node| node_evidence(model, &flow, &graph, node, users_per_s)).collect();
    let mut boundaries: Vec<Boundary> = flow
        .edges
        .iter()
        .map(|(&(from, to), edge)| {
            let mut boundary = boundary_evidence(model, &flow, (from, to), edge, users_per_s, &nodes[from]);
            boundary.layers = ways[from].layers.clone();
            if boundary.tries > 1 {
                boundary.layers.push((boundary.edge.clone(), boundary.tries));
            }
            boundary.tries_from_entry = ways[from].product.saturating_mul(u64::from(boundary.tries));
            boundary.user_harm = harm[from] * harm_of(edge);
            boundary.downstream = graph.services_from(&flow, to).len();
            boundary
        })
        .collect();

    let error_anomalies = robust_scores(&boundaries.iter().map(|b| b.error_rate).collect::<Vec<_>>());
    let tail_anomalies = robust_scores(&boundaries.iter().map(Boundary::tail).collect::<Vec<_>>());
    for ((boundary, error), tail) in boundaries.iter_mut().zip(error_anomalies).zip(tail_anomalies) {
        boundary.error_anomaly = error;
        boundary.tail_anomaly = tail;
    }
    for (boundary, &(from, to)) in boundaries.iter_mut().zip(flow.edges.keys()) {
        boundary.hotness = hotness(boundary, model.services.len(), nodes[to].utilisation.unwrap_or(0.0));
        boundary.score = boundary.hotness.score();
        for end in [from, to] {
            if end == to || nodes[end].kind == NodeKind::Entry {
                nodes[end].score = nodes[end].score.max(boundary.score);
            }
        }
    }
    boundaries.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.edge.cmp(&b.edge)));
    Analysis { boundaries, nodes }
}

/// Per node, the probability that its failure becomes a user's, along the worst way from an entry.
fn user_harm(flow: &Flow) -> Vec<f64> {
    let is_entry = |node: usize| flow.nodes[node].1 == NodeKind::Entry;
    let mut harm: Vec<f64> = (0..flow.nodes.len()).map(|node| if is_entry(node) { 1.0 } else { 0.0 }).collect();
    // No way without a cycle is longer than there are nodes; a cycle only lowers a product of probabilities.
    for _ in 0..flow.nodes.len() {
        let before = harm.clone();
        for (&(from, to), edge) in &flow.edges {
            harm[to] = f64::max(harm[to], harm[from] * harm_of(edge));
        }
        if harm == before {
            break;
        }
    }
    harm
}

fn harm_of(edge: &EdgeFlow) -> f64 {
    if edge.kind == LinkKind::Delivery { 1.0 } else { edge.on_failure }
}

/// Robust z-scores: (x - median) / (1.4826 MAD), the factor making it the standard deviation of normal data.
///
/// Where more than half of the values are equal the MAD is 0; then 1.2533 times the mean absolute deviation from the median
/// stands in for it. 0 for all if that is 0 too, or with fewer than three values.
/// Source: Iglewicz and Hoaglin, "How to Detect and Handle Outliers" (ASQC, 1993), who call scores above 3.5 outliers.
pub fn robust_scores(values: &[f64]) -> Vec<f64> {
    if values.len() < 3 {
        return vec![0.0; values.len()];
    }
    let centre = median(values.to_vec());
    let deviations: Vec<f64> = values.iter().map(|x| (x - centre).abs()).collect();
    let mean_deviation = deviations.iter().sum::<f64>() / values.len() as f64;
    let mad = median(deviations);
    let scale = if mad > 0.0 { 1.4826 * mad } else { 1.2533 * mean_deviation };
    values.iter().map(|x| if scale > 0.0 { (x - centre) / scale } else { 0.0 }).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

fn hotness(boundary: &Boundary, services: usize, load: f64) -> Hotness {
    let share = |x: f64, half: f64| if x > 0.0 { x / (x + half) } else { 0.0 };
    Hotness {
        traffic: boundary.per_request.min(1.0).sqrt(),
        errors: share(boundary.error_rate, 0.05).max(share(boundary.error_anomaly, 3.5)),
        tail: share(boundary.tail() - 1.0, 10.0).max(share(boundary.tail_anomaly, 3.5)),
        reach: boundary.downstream as f64 / services.max(1) as f64,
        retries: 1.0 - 1.0 / boundary.tries_from_entry.max(1) as f64,
        load: load.min(1.0),
        stuck: boundary.stuck_share.min(1.0),
        hard: boundary.user_harm,
    }
}

fn boundary_evidence(
    model: &Model,
    flow: &Flow,
    (from, to): (usize, usize),
    edge: &EdgeFlow,
    users_per_s: f64,
    caller: &NodeEvidence,
) -> Boundary {
    let name = EdgeName::new(&flow.nodes[from].0, &flow.nodes[to].0);
    let policy = model.edges.get(&name);
    let seen = policy.and_then(|policy| policy.observed.as_ref()).filter(|seen: &&ObservedEdge| seen.attempts > 0);
    let (p50, p99) = edge.try_takes.lognormal_p50_p99();
    let timeout = policy.and_then(|policy| policy.timeout).map(|timeout| timeout.value);
    let deliveries = model.topics.get(&name.from).map(|topic| topic.max_deliveries.value.max(1));
    let longest_call = match deliveries {
        Some(_) => timeout,
        None => longest_call(timeout, policy),
    };
    let holds = edge.kind == LinkKind::Delivery || (caller.blocking && edge.waits);
    let stuck_share = match (caller.workers, longest_call) {
        (Some(workers), Some(longest)) if holds => edge.calls_per_s * longest.as_secs_f64() / workers.max(1.0),
        (Some(_), None) if holds => f64::INFINITY,
        _ => 0.0,
    };
    Boundary {
        edge: name,
        kind: edge.kind,
        score: 0.0,
        hotness: Hotness::default(),
        calls_per_s: edge.calls_per_s,
        attempts_per_s: edge.attempts_per_s,
        per_parent: edge.per_parent,
        per_request: if users_per_s > 0.0 { edge.calls_per_s / users_per_s } else { 0.0 },
        error_rate: edge.try_fails,
        p50_ms: seen.map_or(p50 * 1e3, |seen| seen.p50_ms),
        p99_ms: seen.map_or(p99 * 1e3, |seen| seen.p99_ms),
        measured: seen.is_some(),
        error_anomaly: 0.0,
        tail_anomaly: 0.0,
        downstream: 0,
        timeout,
        tries: deliveries.unwrap_or_else(|| tries(policy)),
        tries_from_entry: 1,
        layers: Vec::new(),
        waits: edge.waits,
        on_failure: edge.on_failure,
        user_harm: 0.0,
        longest_call,
        stuck_share,
    }
}

/// All tries of a call time out, and every backoff is as long as its policy allows; or its deadline passes before. `None`: it has neither.
fn longest_call(timeout: Option<Nanos>, policy: Option<&Edge>) -> Option<Nanos> {
    let deadline = policy.and_then(|policy| policy.deadline).map(|deadline| deadline.value);
    let tried = timeout.map(|timeout| match policy.map(|policy| (&policy.retry, &policy.hedge)) {
        Some((Some(retry), _)) => {
            let (tries, wait) = (retry.attempts.value.max(1), longest_wait(retry));
            Nanos::from_secs_f64(f64::from(tries) * timeout.as_secs_f64() + (1..tries.min(1_000)).map(wait).sum::<f64>())
        }
        // The last try leaves when all others have had their wait.
        Some((None, Some(hedge))) => {
            let waits = f64::from(hedge.attempts.value.saturating_sub(1)) * hedge.after.value.as_secs_f64();
            Nanos::from_secs_f64(waits + timeout.as_secs_f64())
        }
        _ => timeout,
    });
    [tried, deadline].into_iter().flatten().min()
}

/// The longest wait before try k + 1, seconds.
fn longest_wait(retry: &Retry) -> impl Fn(u32) -> f64 + '_ {
    let most = retry.max.map_or(f64::INFINITY, |max| max.value.as_secs_f64());
    move |k| (retry.backoff.value.as_secs_f64() * libm::pow(retry.factor.value, f64::from(k - 1))).min(most)
}

fn node_evidence(model: &Model, flow: &Flow, graph: &Graph, node: usize, users_per_s: f64) -> NodeEvidence {
    let (name, kind) = &flow.nodes[node];
    let at = flow.at[node];
    let service = model.services.get(name).filter(|_| *kind == NodeKind::Service);
    let topic = model.topics.get(name).filter(|_| *kind == NodeKind::Topic);
    let seen = service.and_then(|s| s.observed.as_ref()).or_else(|| topic.and_then(|t| t.observed.as_ref()));
    let seen = seen.filter(|seen: &&Observed| seen.calls > 0);
    let workers = match (service, topic) {
        (Some(service), _) => capacity(service),
        (_, Some(topic)) => Some(f64::from(deliveries(topic))),
        (None, None) => None,
    };
    let (p50, p99) = at.response.lognormal_p50_p99();
    NodeEvidence {
        name: name.clone(),
        kind: *kind,
        score: 0.0,
        per_s: at.per_s,
        user_share: if users_per_s > 0.0 { (at.per_s / users_per_s).min(1.0) } else { 0.0 },
        error_rate: at.fails,
        p50_ms: seen.map_or(p50 * 1e3, |seen| seen.p50_ms),
        p99_ms: seen.map_or(p99 * 1e3, |seen| seen.p99_ms),
        measured: seen.is_some(),
        erlangs: at.erlangs,
        workers,
        workers_source: service.map(|s| s.workers.source).or(topic.map(|t| t.concurrency.source)).unwrap_or_default(),
        utilisation: workers.map(|workers| if workers > 0.0 { at.erlangs / workers } else { f64::INFINITY }),
        blocking: service.is_some_and(|service| service.mode == Mode::Blocking),
        callers: flow.edges.keys().filter(|(_, to)| *to == node).count(),
        dominates: graph.dominated_by(node).into_iter().map(|dominated| flow.nodes[dominated].0.clone()).collect(),
        downstream: graph.services_from(flow, node).len() - usize::from(*kind == NodeKind::Service),
        places: topic.and_then(|topic| match topic.capacity.value {
            Limit::Of(places) => Some(places),
            Limit::Unlimited => None,
        }),
        keeps_order: topic.is_some_and(|topic| topic.order == Order::PerKey),
    }
}

/// The interaction graph: one graph node per flow node, and a root before all entries.
struct Graph {
    graph: DiGraph<(), ()>,
    /// Strict dominators of each node, the root left out.
    dominators: Vec<BTreeSet<usize>>,
}

/// The worst way from an entry to a node: the product of tries, and the layers that retry.
#[derive(Clone)]
struct Way {
    product: u64,
    layers: Vec<(EdgeName, u32)>,
}

impl Graph {
    fn of(flow: &Flow) -> Graph {
        let mut graph = DiGraph::new();
        let indices: Vec<NodeIndex> = flow.nodes.iter().map(|_| graph.add_node(())).collect();
        let root = graph.add_node(());
        for (index, (_, kind)) in indices.iter().zip(&flow.nodes) {
            if *kind == NodeKind::Entry {
                graph.add_edge(root, *index, ());
            }
        }
        for &(from, to) in flow.edges.keys() {
            graph.add_edge(indices[from], indices[to], ());
        }
        let tree = dominators::simple_fast(&graph, root);
        let dominators = indices
            .iter()
            .map(|&index| {
                let above = tree.strict_dominators(index).into_iter().flatten();
                above.filter(|&node| node != root).map(NodeIndex::index).collect()
            })
            .collect();
        Graph { graph, dominators }
    }

    fn dominated_by(&self, node: usize) -> Vec<usize> {
        (0..self.dominators.len()).filter(|&other| self.dominators[other].contains(&node)).collect()
    }

    /// Services that can be reached from a node, itself included if it is one.
    fn services_from(&self, flow: &Flow, node: usize) -> BTreeSet<usize> {
        let mut walk = Dfs::new(&self.graph, NodeIndex::new(node));
        let mut reached = BTreeSet::new();
        while let Some(next) = walk.next(&self.graph) {
            if flow.nodes[next.index()].1 == NodeKind::Service {
                reached.insert(next.index());
            }
        }
        reached
    }

    /// For each node the way from an entry on which most tries multiply. Within a cycle of calls nothing is multiplied.
    fn retry_ways(&self, model: &Model, flow: &Flow) -> Vec<Way> {
        let components = tarjan_scc(&self.graph);
        let mut component_of = BTreeMap::new();
        for (number, component) in components.iter().enumerate() {
            component_of.extend(component.iter().map(|node| (node.index(), number)));
        }
        let mut ways = vec![Way { product: 1, layers: Vec::new() }; flow.nodes.len()];
        // Tarjan's order is the reverse of the calls' order.
        for component in components.iter().rev() {
            // Whoever is in a cycle can be reached by the worst way into it.
            let members = component.iter().map(|node| node.index()).filter(|&node| node < flow.nodes.len());
            if let Some(worst) = members.clone().map(|node| ways[node].clone()).max_by_key(|way| way.product) {
                members.for_each(|node| ways[node] = worst.clone());
            }
            for from in component.iter().map(|node| node.index()).filter(|&node| node < flow.nodes.len()) {
                for &(_, to) in flow.edges.range((from, 0)..(from + 1, 0)).map(|(ends, _)| ends) {
                    if component_of[&from] == component_of[&to] {
                        continue;
                    }
                    let name = EdgeName::new(&flow.nodes[from].0, &flow.nodes[to].0);
                    let deliveries = model.topics.get(&name.from).map(|topic| topic.max_deliveries.value.max(1));
                    let tries = deliveries.unwrap_or_else(|| tries(model.edges.get(&name)));
                    let product = ways[from].product.saturating_mul(u64::from(tries));
                    if product > ways[to].product {
                        let mut layers = ways[from].layers.clone();
                        if tries > 1 {
                            layers.push((name, tries));
                        }
                        ways[to] = Way { product, layers };
                    }
                }
            }
        }
        ways
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn robust_scores_point_at_the_odd_one() {
        // Median 3, deviations 2 1 0 1 97, their median 1.
        let scores = robust_scores(&[1.0, 2.0, 3.0, 4.0, 100.0]);
        assert!((scores[4] - 97.0 / 1.4826).abs() < 1e-9, "{scores:?}");
        assert_eq!(scores[2], 0.0);
    }

    #[test]
    fn one_boundary_with_errors_among_many_without_is_odd_although_the_mad_is_zero() {
        let scores = robust_scores(&[0.0, 0.0, 0.0, 0.0, 0.1]);
        assert!((scores[4] - 0.1 / (1.2533 * 0.02)).abs() < 1e-9, "{scores:?}");
        assert_eq!(scores[0], 0.0);
        assert_eq!(robust_scores(&[0.5, 0.5, 0.5]), [0.0; 3]);
        assert_eq!(robust_scores(&[0.0, 9.0]), [0.0; 2]);
    }
}
