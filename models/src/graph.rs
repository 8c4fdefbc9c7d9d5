//! The interaction graph: services and topics as nodes, calls and messages as edges, with what was counted.
//!
//! You are here: `models::graph`. Made from traces; the analyser looks for hot spots in it, the report draws it.
//! Always true: nodes stand in order of first sight, edges in order of their ends, so the same traces give the same graph.
//! Not here: what is inferred from the counts (`learn`).

use std::collections::BTreeMap;
use std::sync::Arc;

use petgraph::graph::{DiGraph, NodeIndex};

use crate::learn::log::{Log, Target};
use crate::learn::{Edges, Node, numbers};
use crate::system::{Observed, ObservedEdge};
use crate::trace::{PeerKind, TraceSet};

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A service with spans of its own.
    Service,
    /// A callee that only its callers tell of.
    Uninstrumented,
    /// A database or cache that only its callers tell of.
    Database,
    /// A broker that only its callers tell of.
    Broker,
    /// A topic.
    Topic,
}

/// A node and what was counted of it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeStats {
    /// Its name: a service or topic of the model.
    pub name: Arc<str>,
    /// What it is.
    pub kind: NodeKind,
    /// Call volume, error rate, mean latency and percentiles, as itself answered (as its callers saw it, if it has no spans; a topic:
    /// publish to acknowledgement).
    pub observed: Observed,
    /// Replicas seen by name.
    pub replicas: u32,
}

/// An edge and what was counted of it.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeStats {
    /// Calls, attempts, errors, timeouts, latency, as the caller saw it.
    pub observed: ObservedEdge,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Calls that failed for good.
    pub failed: u64,
    /// Of these, those whose caller failed too.
    pub failed_callers: u64,
}

/// Who calls whom.
#[derive(Clone, Debug, Default)]
pub struct InteractionGraph {
    /// Nodes and edges.
    pub graph: DiGraph<NodeStats, EdgeStats>,
}

impl InteractionGraph {
    /// The graph of these traces; all of them count as kept.
    pub fn from_traces(traces: &TraceSet) -> Self {
        crate::learn::graph(traces)
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<NodeIndex> {
        self.graph.node_indices().find(|&i| &*self.graph[i].name == name)
    }

    /// The edge between two nodes, by their names.
    pub fn edge(&self, from: &str, to: &str) -> Option<&EdgeStats> {
        self.graph.find_edge(self.node(from)?, self.node(to)?).map(|e| &self.graph[e])
    }

    pub(crate) fn from_log(log: &Log, edges: &mut Edges, seconds: f64) -> Self {
        let mut seen: BTreeMap<Node, (Vec<u64>, u64, f64)> = BTreeMap::new();
        for request in &log.requests {
            let (durations, failed, weight) = seen.entry(Node::Service(log.service_of(request.op))).or_default();
            durations.push(request.duration());
            *failed += u64::from(request.failed);
            *weight += log.traces[request.trace as usize].weight;
        }
        for request in &log.requests {
            let weight = log.traces[request.trace as usize].weight;
            for call in log.calls_of(request) {
                let node = Node::of(log, call.target);
                if matches!(call.target, Target::Op(op) if log.instrumented(log.service_of(op))) {
                    continue;
                }
                for attempt in log.attempts_of(call) {
                    let (durations, failed, sum) = seen.entry(node).or_default();
                    durations.push(attempt.duration());
                    *failed += u64::from(attempt.failed);
                    *sum += weight;
                }
            }
        }
        let mut graph = DiGraph::new();
        let mut nodes: BTreeMap<Node, NodeIndex> = BTreeMap::new();
        for (node, (mut durations, failed, weight)) in seen {
            let per_s = if seconds > 0.0 { weight / seconds } else { 0.0 };
            let observed = numbers::observe(&mut durations, failed, per_s);
            let stats = NodeStats { name: node.name(log).into(), kind: kind(log, node), observed, replicas: replicas(log, node) };
            nodes.insert(node, graph.add_node(stats));
        }
        for (&(from, to), edge) in edges {
            if let (Some(&from), Some(&to)) = (nodes.get(&from), nodes.get(&to)) {
                let (observed, retries) = (edge.observed(), edge.attempts - edge.calls);
                let stats = EdgeStats { observed, retries, failed: edge.failed, failed_callers: edge.failed_callers };
                graph.add_edge(from, to, stats);
            }
        }
        InteractionGraph { graph }
    }
}

fn kind(log: &Log, node: Node) -> NodeKind {
    match node {
        Node::Topic(_) => NodeKind::Topic,
        Node::Service(service) if log.instrumented(service) => NodeKind::Service,
        Node::Service(service) => match log.services[service as usize].kind {
            PeerKind::Database => NodeKind::Database,
            PeerKind::Broker => NodeKind::Broker,
            PeerKind::Service => NodeKind::Uninstrumented,
        },
    }
}

fn replicas(log: &Log, node: Node) -> u32 {
    let Node::Service(service) = node else { return 0 };
    log.instances.iter().filter(|(owner, name)| *owner == service && !name.is_empty()).count() as u32
}
