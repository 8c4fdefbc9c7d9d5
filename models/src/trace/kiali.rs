//! Kiali's graph: rates and error shares between workloads, apps or services.
//!
//! You are here: `models::trace::kiali`. `records` hands over a whole answer of `/api/namespaces/graph`.
//! Always true: boxes are no services; TCP edges carry bytes and are listed, not counted as calls; a service node that only stands
//! between workloads is looked through, so that no hop is there twice.
//! Not here: what is made of rates without times (`learn::summary`).
//!
//! Two forms are read: `traffic` with `rates` on nodes and edges, and the older one with `rate`, `rate5XX`, ... as fields of their own.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::detect::NoTrace;
use super::inbox::{Inbox, Place, Stop};
use super::loose::{Loose, null_is_default, plain};
use super::read::Format;
use super::summary::{Times, Volume};

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    duration: Loose<'a>,
    #[serde(borrow, default, rename = "graphType")]
    graph_type: Loose<'a>,
    #[serde(borrow)]
    elements: Elements<'a>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Elements<'a> {
    #[serde(default, deserialize_with = "null_is_default")]
    nodes: Vec<Wrapped<Node<'a>>>,
    #[serde(default, deserialize_with = "null_is_default")]
    edges: Vec<Wrapped<Edge<'a>>>,
}

#[derive(Deserialize)]
struct Wrapped<T> {
    data: T,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Node<'a> {
    #[serde(borrow)]
    id: Loose<'a>,
    #[serde(borrow, rename = "nodeType")]
    node_type: Loose<'a>,
    #[serde(borrow)]
    namespace: Loose<'a>,
    #[serde(borrow)]
    workload: Loose<'a>,
    #[serde(borrow)]
    app: Loose<'a>,
    #[serde(borrow)]
    version: Loose<'a>,
    #[serde(borrow)]
    service: Loose<'a>,
    #[serde(borrow, rename = "isBox", alias = "isGroup")]
    is_box: Loose<'a>,
    #[serde(borrow, rename = "isRoot")]
    is_root: Loose<'a>,
    #[serde(rename = "isGateway")]
    is_gateway: Option<serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Edge<'a> {
    #[serde(borrow)]
    source: Loose<'a>,
    #[serde(borrow)]
    target: Loose<'a>,
    #[serde(borrow, deserialize_with = "null_is_default")]
    traffic: Traffic<'a>,
    #[serde(borrow, rename = "responseTime")]
    response_time: Loose<'a>,
    // The older form.
    #[serde(borrow)]
    rate: Loose<'a>,
    #[serde(borrow, rename = "rate5XX", alias = "rate5xx")]
    rate_5xx: Loose<'a>,
    #[serde(borrow, rename = "tcpSentRate")]
    tcp_sent: Loose<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Traffic<'a> {
    #[serde(borrow)]
    protocol: Loose<'a>,
    #[serde(borrow, deserialize_with = "null_is_default")]
    rates: BTreeMap<&'a str, Loose<'a>>,
}

/// A rate, written as text or as a number; `None` for anything that is no number of requests.
fn number(raw: &Loose<'_>) -> Option<f64> {
    let number = match raw {
        Loose::Text(text) => text.trim().parse().ok()?,
        Loose::Int(number) => *number as f64,
        Loose::Big(number) => *number as f64,
        Loose::Float(number) => *number,
        _ => return None,
    };
    (0.0..1e12).contains(&number).then_some(number)
}

/// What an edge carries.
enum Carried {
    /// Requests per second, and of these failed.
    Requests(f64, f64),
    /// Bytes.
    Bytes,
    /// Nothing.
    Nothing,
}

impl Edge<'_> {
    fn carried(&self) -> Carried {
        let rate = |key: &str| self.traffic.rates.get(key).and_then(number);
        let sum = |keys: [&str; 2]| keys.into_iter().filter_map(rate).sum::<f64>();
        if let Some(http) = rate("http") {
            return Carried::Requests(http, sum(["http5xx", "httpNoResponse"]).min(http));
        }
        if let Some(grpc) = rate("grpc") {
            return Carried::Requests(grpc, sum(["grpcErr", "grpcNoResponse"]).min(grpc));
        }
        if let Some(old) = number(&self.rate).filter(|&rate| rate > 0.0) {
            return Carried::Requests(old, number(&self.rate_5xx).unwrap_or(0.0).min(old));
        }
        let tcp = rate("tcp").or_else(|| number(&self.tcp_sent));
        if tcp.is_some() || self.traffic.protocol.text() == "tcp" { Carried::Bytes } else { Carried::Nothing }
    }
}

impl Node<'_> {
    fn is_box(&self) -> bool {
        let flagged = match &self.is_box {
            Loose::Text(text) => !text.is_empty(),
            flag => *flag == Loose::Bool(true),
        };
        flagged || self.node_type.text() == "box"
    }

    /// Whoever calls without being known.
    fn is_unknown(&self) -> bool {
        self.node_type.text() == "unknown"
    }

    fn is_service(&self) -> bool {
        self.node_type.text() == "service"
    }

    fn is_gateway(&self) -> bool {
        self.is_gateway.is_some() || self.is_root == Loose::Bool(true)
    }

    /// Its own name: a workload's where versions are told apart, else the app's or the service's.
    fn name(&self) -> &str {
        let said = |raw: &'_ Loose<'_>| !matches!(raw.text(), "" | "unknown");
        let versions = said(&self.version) && said(&self.workload);
        let [first, second, third] = match self.node_type.text() {
            "service" => [&self.service, &self.app, &self.workload],
            "app" if !versions => [&self.app, &self.workload, &self.service],
            _ => [&self.workload, &self.app, &self.service],
        };
        [first, second, third].into_iter().find(|raw| said(raw)).map_or("unknown", |raw| raw.text())
    }
}

/// Reads a graph.
pub(crate) fn graph(json: &[u8], place: &Place, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
    let answer = match serde_json::from_slice::<Answer<'_>>(json) {
        Ok(answer) => answer,
        Err(error) => return inbox.skip(place.plus_lines(error.line()), plain(&error)),
    };
    let nodes: BTreeMap<&str, &Node<'_>> = answer.elements.nodes.iter().map(|node| (node.data.id.text(), &node.data)).collect();
    let names = names(&nodes);
    let mut bytes = Vec::new();
    let mut edges: Vec<Hop<'_>> = Vec::new();
    for (index, Wrapped { data: edge }) in answer.elements.edges.iter().enumerate() {
        let ends = [&edge.source, &edge.target].map(|end| nodes.get(end.text()).copied().filter(|node| !node.is_box()));
        let [Some(from), Some(to)] = ends else {
            inbox.skip(place.inside(format!("/elements/edges/{index}")), "an edge whose ends are not among the nodes")?;
            continue;
        };
        match edge.carried() {
            Carried::Requests(rate, failed) => {
                let p95_s = number(&edge.response_time).filter(|&ms| ms > 0.0).map(|ms| ms / 1000.0);
                edges.push(Hop { from: from.id.text(), to: to.id.text(), rate, failed, p95_s });
            }
            Carried::Bytes => bytes.push((&names[from.id.text()], &names[to.id.text()])),
            Carried::Nothing => {}
        }
    }
    if edges.is_empty() && bytes.is_empty() {
        inbox.refuse(NoTrace::EmptyGraph, place.line_number());
        return inbox.skip(place.clone(), NoTrace::EmptyGraph.name());
    }
    inbox.recognised(Format::KialiGraph);
    let edges = if answer.graph_type.text() == "service" { edges } else { look_through(edges, &nodes) };
    let summary = inbox.summary();
    summary.seconds = summary.seconds.or_else(|| number(&answer.duration).filter(|&seconds| seconds > 0.0));
    for (from, to) in bytes {
        let from = from.as_deref().unwrap_or("an unknown source");
        summary.left_out(format!("{from}->{} (TCP: bytes, no calls)", to.as_deref().unwrap_or("unknown")));
    }
    for hop in edges {
        let to = names[hop.to].as_deref().unwrap_or("unknown");
        let from = names[hop.from].as_deref();
        if let Some(from) = from.filter(|_| nodes[hop.from].is_gateway()) {
            summary.gateways.insert(from.to_owned());
        }
        let call = summary.call(from, to);
        call.volume = Volume::PerSecond(call.volume.number() + hop.rate);
        *call.failed.get_or_insert(0.0) += hop.failed;
        call.server = call.server.take().or(hop.p95_s.map(|seconds| Times::Quantile(0.95, seconds)));
    }
    Ok(())
}

/// Requests from one node to another.
#[derive(Clone, Copy)]
struct Hop<'a> {
    from: &'a str,
    to: &'a str,
    rate: f64,
    failed: f64,
    p95_s: Option<f64>,
}

/// The name of every node by its id; the namespace tells apart what has one name. `None`: an unknown source.
fn names(nodes: &BTreeMap<&str, &Node<'_>>) -> BTreeMap<String, Option<String>> {
    let mut spaces: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for node in nodes.values().filter(|node| !node.is_box() && !node.is_unknown()) {
        spaces.entry(node.name()).or_default().insert(node.namespace.text());
    }
    let name = |node: &Node<'_>| {
        let name = node.name();
        let many = spaces.get(name).is_some_and(|spaces| spaces.len() > 1);
        let name = if many { format!("{name}.{}", node.namespace.text()) } else { name.to_owned() };
        name.replace("->", "-")
    };
    nodes.iter().map(|(id, node)| ((*id).to_owned(), (!node.is_unknown()).then(|| name(node)))).collect()
}

/// Takes out service nodes that stand between a caller and the workloads behind them: a caller's requests go on in the shares in
/// which the service passed them on. A service behind which nothing is shown stays.
fn look_through<'a>(edges: Vec<Hop<'a>>, nodes: &BTreeMap<&str, &Node<'_>>) -> Vec<Hop<'a>> {
    let passes_on = |id: &str| nodes[id].is_service() && edges.iter().any(|hop| hop.from == id && hop.to != id);
    let between: BTreeSet<&str> = edges.iter().flat_map(|hop| [hop.from, hop.to]).filter(|id| passes_on(id)).collect();
    let mut through = Vec::new();
    for hop in &edges {
        if between.contains(hop.from) {
            // A service node that nobody calls is a caller like any other.
            if !edges.iter().any(|other| other.to == hop.from) {
                through.push(*hop);
            }
        } else if between.contains(hop.to) {
            let onwards: Vec<&Hop<'_>> = edges.iter().filter(|next| next.from == hop.to && !between.contains(next.to)).collect();
            let total: f64 = onwards.iter().map(|next| next.rate).sum();
            for next in onwards.iter().filter(|_| total > 0.0) {
                let share = next.rate / total;
                let failed_share = if next.rate > 0.0 { next.failed / next.rate } else { 0.0 };
                let rate = hop.rate * share;
                let failed = (hop.failed * share).max(rate * failed_share);
                through.push(Hop { from: hop.from, to: next.to, rate, failed, p95_s: next.p95_s.or(hop.p95_s) });
            }
            if total <= 0.0 {
                through.push(*hop);
            }
        } else {
            through.push(*hop);
        }
    }
    through
}
