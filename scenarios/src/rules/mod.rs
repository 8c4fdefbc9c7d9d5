//! What experience says to try where: one function a rule, each from evidence to ideas.
//!
//! You are here: `scenarios::rules`. `generate` asks them all; a new rule is a function and a line in [`RULES`].
//! Always true: a rule proposes only targets that the model has, and says why in numbers that a person can check.
//! Not here: when and how long a fault strikes, and how many are taken (`generate`).

mod calls;
mod load;
mod pairs;
mod services;
mod topics;

use std::collections::BTreeMap;

use models::param::Source;
use models::system::Model;
use models::units::Nanos;

use crate::analyse::{Analysis, Boundary, LinkKind, NodeEvidence, NodeKind};
use crate::fault::{FaultKind, Leg, Target};

/// Something worth trying.
pub(crate) struct Idea {
    /// The evidence, as one sentence without its full stop.
    pub why: String,
    /// How worrying it is: a hot-spot score times what the rule thinks of this magnitude there.
    pub priority: f64,
    pub faults: Vec<(Target, FaultKind)>,
}

impl Idea {
    fn new(priority: f64, faults: Vec<(Target, FaultKind)>, why: String) -> Idea {
        Idea { why, priority, faults }
    }
}

/// A rule looks at the evidence and proposes.
pub(crate) type Rule = fn(&Context) -> Vec<Idea>;

/// All rules, by name.
pub(crate) const RULES: [(&str, Rule); 20] = [
    ("slow dependency", calls::slow_dependency),
    ("black hole", calls::black_hole),
    ("connection drops", calls::connection_drops),
    ("drops met by aggressive retries", calls::drops_met_by_retries),
    ("retries at peak load", calls::retries_at_peak),
    ("errors of a hard dependency", services::hard_dependency_errors),
    ("slow service near saturation", services::slow_service),
    ("crash of a shared dependency", services::shared_dependency_crash),
    ("one replica crashes", services::replica_crash),
    ("cold cache", services::cold_cache),
    ("slow cache", services::slow_cache),
    ("workers lost at peak load", services::workers_lost_at_peak),
    ("load surge", load::surge),
    ("users who reload", load::reload),
    ("consumer stall", topics::consumer_stall),
    ("slow consumer", topics::slow_consumer),
    ("late and reordered messages", topics::late_messages),
    ("two callees of one caller", pairs::siblings),
    ("a callee and its callee", pairs::chain),
    ("slowness meets a surge", pairs::slow_at_peak),
];

/// What rules may look at.
pub(crate) struct Context<'a> {
    pub model: &'a Model,
    pub analysis: &'a Analysis,
    nodes: BTreeMap<&'a str, &'a NodeEvidence>,
    /// Boundaries out of and into each node, hottest first.
    from: BTreeMap<&'a str, Vec<&'a Boundary>>,
    into: BTreeMap<&'a str, Vec<&'a Boundary>>,
    /// The entry that brings most to each node.
    entries: BTreeMap<&'a str, &'a NodeEvidence>,
}

impl<'a> Context<'a> {
    pub fn new(model: &'a Model, analysis: &'a Analysis) -> Context<'a> {
        let mut from: BTreeMap<&str, Vec<&Boundary>> = BTreeMap::new();
        let mut into: BTreeMap<&str, Vec<&Boundary>> = BTreeMap::new();
        for boundary in &analysis.boundaries {
            from.entry(&boundary.edge.from).or_default().push(boundary);
            into.entry(&boundary.edge.to).or_default().push(boundary);
        }
        let mut by_rate: Vec<&NodeEvidence> = analysis.nodes.iter().filter(|node| node.kind == NodeKind::Entry).collect();
        by_rate.sort_by(|a, b| b.per_s.total_cmp(&a.per_s));
        let mut entries = BTreeMap::new();
        for entry in by_rate {
            let mut to_visit = vec![entry.name.as_str()];
            while let Some(name) = to_visit.pop() {
                if !entries.contains_key(name) {
                    entries.insert(name, entry);
                    to_visit.extend(from.get(name).into_iter().flatten().map(|b| b.edge.to.as_str()));
                }
            }
        }
        let nodes = analysis.nodes.iter().map(|node| (node.name.as_str(), node)).collect();
        Context { model, analysis, nodes, from, into, entries }
    }

    fn node(&self, name: &str) -> Option<&'a NodeEvidence> {
        self.nodes.get(name).copied()
    }

    /// The entry whose surge would hit a node.
    fn entry_of(&self, name: &str) -> Option<&'a NodeEvidence> {
        self.entries.get(name).copied()
    }

    /// Services that take part, caches left out.
    fn services(&self) -> impl Iterator<Item = &'a NodeEvidence> {
        let model = self.model;
        let is_cache = move |name: &str| model.services.get(name).is_some_and(|service| service.cache.is_some());
        self.analysis.nodes.iter().filter(move |node| node.kind == NodeKind::Service && node.per_s > 0.0 && !is_cache(&node.name))
    }

    /// Boundaries inside the system, the users' own calls left out.
    fn inner(&self) -> impl Iterator<Item = &'a Boundary> {
        self.analysis.boundaries.iter().filter(|b| b.kind != LinkKind::Entry && b.calls_per_s > 0.0)
    }

    /// Boundaries into a node.
    fn into(&self, name: &str) -> impl Iterator<Item = &'a Boundary> {
        self.into.get(name).into_iter().flatten().copied()
    }

    /// Boundaries inside the system out of a node, hottest first.
    fn inner_from(&self, name: &str) -> impl Iterator<Item = &'a Boundary> {
        let out = self.from.get(name).into_iter().flatten().copied();
        out.filter(|b| b.kind != LinkKind::Entry && b.calls_per_s > 0.0)
    }

    /// Whether users call it directly: then its failure is theirs, and no surprise.
    fn is_front(&self, name: &str) -> bool {
        self.into(name).any(|b| b.kind == LinkKind::Entry)
    }

    /// The shortest timeout with which somebody waits for a node, and who.
    fn strictest_caller(&self, name: &str) -> Option<(&'a Boundary, Nanos)> {
        self.into(name).filter_map(|b| Some((b, b.timeout?))).min_by_key(|(_, timeout)| *timeout)
    }
}

/// Robust z-score above which a value counts as an outlier (see `analyse::robust_scores`).
const OUTLIER: f64 = 3.5;

/// A later, less telling magnitude of the same idea counts this much less.
fn level(priority: f64, level: usize) -> f64 {
    priority * libm::pow(0.75, level as f64)
}

fn edge(boundary: &Boundary) -> Target {
    Target::Edge(boundary.edge.clone())
}

fn node(name: &str) -> Target {
    Target::Node(name.to_owned())
}

/// Two significant digits of a duration, in whole milliseconds: what a person would have typed.
fn tidy(seconds: f64) -> Nanos {
    let ms = (seconds * 1e3).clamp(1.0, 1e9);
    let step = libm::pow(10.0, (libm::log10(ms).floor() - 1.0).max(0.0));
    Nanos::from_millis(((ms / step).round() * step) as u64)
}

/// `71 %`, `0.4 %`.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 || percent >= 9.95 { format!("{} %", percent.round()) } else { format!("{percent:.1} %") }
}

/// A number with as many digits as it is worth: `1234`, `70`, `5.6`, `0.21`.
fn number(x: f64) -> String {
    let text = match x.abs() {
        a if a >= 9.95 => format!("{}", x.round()),
        a if a >= 0.995 => format!("{x:.1}"),
        _ => format!("{x:.2}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// `1 try`, `3 tries`.
fn tries_words(tries: u32) -> String {
    if tries == 1 { "1 try".to_owned() } else { format!("{tries} tries") }
}

/// `41 ms`, `1.8 s`.
fn time(seconds: f64) -> String {
    if seconds < 0.9995 { format!("{} ms", number(seconds * 1e3)) } else { format!("{} s", number(seconds)) }
}

/// `seats calls seatdb 24 times per second (p50 33 ms, p99 95 ms)`.
fn traffic_words(boundary: &Boundary) -> String {
    let verb = match boundary.kind {
        LinkKind::Entry => "sends its users to",
        LinkKind::Call => "calls",
        LinkKind::Cache => "asks",
        LinkKind::Publish => "publishes to",
        LinkKind::Delivery => "delivers to",
    };
    let mut facts = Vec::new();
    if boundary.p99_ms > 0.0 {
        let source = if boundary.measured { "" } else { " by arithmetic" };
        facts.push(format!("p50 {}, p99 {}{source}", time(boundary.p50_ms / 1e3), time(boundary.p99_ms / 1e3)));
    }
    if boundary.error_rate > 0.0 {
        facts.push(format!("{} fail", percent(boundary.error_rate)));
    }
    let odd = [("errors", boundary.error_anomaly), ("tail", boundary.tail_anomaly)];
    facts.extend(
        odd.iter().filter(|(_, z)| *z > OUTLIER).map(|(what, z)| format!("its {what} stand out at {} deviations", number(*z))),
    );
    let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
    format!("{} {verb} {} {} times per second{facts}", boundary.edge.from, boundary.edge.to, number(boundary.calls_per_s))
}

/// `up to 2 x 3 tries multiply through 2 layers (orders->seats, seats->seatdb)`; what `boundary` and those before it retry.
fn retry_words(boundary: &Boundary) -> String {
    match boundary.layers.as_slice() {
        [] => "nobody retries it".to_owned(),
        [(layer, tries)] => format!("{layer} tries up to {tries} times"),
        layers if layers.len() > 4 => {
            let (last, _) = &layers[layers.len() - 1];
            format!("up to {} tries multiply through {} layers, {last} the last", boundary.tries_from_entry, layers.len())
        }
        layers => {
            let product: Vec<String> = layers.iter().map(|(_, tries)| tries.to_string()).collect();
            let names: Vec<String> = layers.iter().map(|(layer, _)| layer.to_string()).collect();
            format!("up to {} tries multiply through {} layers ({})", product.join(" x "), layers.len(), names.join(", "))
        }
    }
}

/// `seatdb is busy at 41 %`.
fn load_words(node: &NodeEvidence) -> String {
    match (node.utilisation, node.workers) {
        (Some(utilisation), Some(workers)) => {
            let of = if node.kind == NodeKind::Topic {
                format!("{} deliveries at once", number(workers))
            } else {
                count(workers, "worker")
            };
            let guess = match node.workers_source {
                Source::Assumed => " (assumed)",
                Source::Inferred => " (inferred)",
                Source::Observed | Source::Declared => "",
            };
            format!("{} is busy at {} of its {of}{guess}", node.name, percent(utilisation))
        }
        _ => format!("{} has no limit of workers", node.name),
    }
}

/// `1 worker`, `12 workers`.
fn count(n: f64, what: &str) -> String {
    format!("{} {what}{}", number(n), if n == 1.0 { "" } else { "s" })
}

/// The id that follows from faults: `slow-seatdb-x2`, `pair-slow-seatdb-x2-and-surge-user-x1.5`.
pub(crate) fn id_of(faults: &[(Target, FaultKind)]) -> String {
    let parts: Vec<String> = faults.iter().map(|(target, kind)| id_part(target, kind)).collect();
    if parts.len() > 1 { format!("pair-{}", parts.join("-and-")) } else { parts.concat() }
}

fn id_part(target: &Target, kind: &FaultKind) -> String {
    let place = match target {
        Target::Edge(edge) => format!("{}-{}", plain(&edge.from), plain(&edge.to)),
        Target::Node(name) => plain(name),
    };
    let share = |probability: f64| format!("{}pct", number(probability * 100.0));
    match kind {
        FaultKind::Latency { add, .. } => format!("latency-{place}-{add}"),
        FaultKind::ConnectionDrop { probability } => format!("drop-{place}-{}", share(*probability)),
        FaultKind::BlackHole { leg: Leg::Both } => format!("black-hole-{place}"),
        FaultKind::BlackHole { leg: Leg::Request } => format!("partition-requests-{place}"),
        FaultKind::BlackHole { leg: Leg::Reply } => format!("partition-replies-{place}"),
        FaultKind::Loss { probability, .. } => format!("loss-{place}-{}", share(*probability)),
        FaultKind::Bandwidth { bytes_per_s, .. } => format!("bandwidth-{place}-{}", number(*bytes_per_s)),
        FaultKind::TimeoutLowered { to } => format!("timeout-{place}-{to}"),
        FaultKind::Pause => format!("pause-{place}"),
        FaultKind::ReplicasLost { replicas } => format!("lost-{replicas}-of-{place}"),
        FaultKind::QueueShrunk { to } => format!("queue-{place}-{to}"),
        FaultKind::Leak { growth } => format!("leak-{place}-{}", share(*growth)),
        FaultKind::Flush { share: part } => format!("flush-{place}-{}", share(*part)),
        FaultKind::HitRatioDrop { keep } => format!("hits-{place}-{}", share(*keep)),
        FaultKind::Duplicate { probability } => format!("duplicate-{place}-{}", share(*probability)),
        FaultKind::MessageLoss { probability } => format!("message-loss-{place}-{}", share(*probability)),
        FaultKind::SlowConsumer { factor } => format!("slow-consumer-{place}-x{}", number(*factor)),
        FaultKind::Poison { probability } => format!("poison-{place}-{}", share(*probability)),
        FaultKind::Reload { after, attempts } => format!("reload-{place}-{attempts}-after-{after}"),
        FaultKind::AggressiveRetries { attempts, .. } => format!("retries-{place}-{attempts}"),
        FaultKind::Errors { probability } => format!("errors-{place}-{}", share(*probability)),
        FaultKind::Slow { factor } => format!("slow-{place}-x{}", number(*factor)),
        FaultKind::Crash { replicas: None, black_hole: false } => format!("crash-{place}"),
        FaultKind::Crash { replicas: None, black_hole: true } => format!("crash-silent-{place}"),
        FaultKind::Crash { replicas: Some(n), .. } => format!("crash-{n}-of-{place}"),
        FaultKind::WorkersLost { keep } => format!("workers-{place}-{}", share(*keep)),
        FaultKind::Surge { factor } => format!("surge-{place}-x{}", number(*factor)),
        FaultKind::Delay { add, jitter } => format!("delay-{place}-{}", *add + *jitter),
        FaultKind::Reorder { within, .. } => format!("reorder-{place}-{within}"),
        FaultKind::ConsumerStall => format!("stall-{place}"),
    }
}

/// A name as an id can hold it: letters, digits, `_`, `.` and `-` stay, all else becomes `_`; of long names the first 32.
fn plain(name: &str) -> String {
    name.chars().take(32).map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '_' }).collect()
}
