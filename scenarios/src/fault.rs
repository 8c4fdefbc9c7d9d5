//! The fault vocabulary: what can be done to a system, where, and for how long (DESIGN.md 6.1).
//!
//! You are here: `scenarios::fault`. Every fault begins and ends; its opposite is its own end.
//! Not here: how an engine applies it (`sim`), how a scenario file is written (`format`).

use std::fmt;

use models::system::EdgeName;
use models::units::{Nanos, SimTime};

/// One fault: what, where, from when, how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What it does.
    pub kind: FaultKind,
    /// Where.
    pub target: Target,
    /// When it begins.
    pub start: SimTime,
    /// How long it lasts; a crash restarts at its end.
    pub duration: Nanos,
}

impl Fault {
    /// The instant at which it has ended.
    pub fn clears_at(&self) -> SimTime {
        self.start + self.duration
    }
}

/// Where a fault strikes. In files: `a->b` is an edge, a bare name a service, topic or entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Calls from one service (or entry, or topic) to another. `*->b` is every edge into b.
    Edge(EdgeName),
    /// A service, topic or entry, by name.
    Node(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Edge(edge) => edge.fmt(f),
            Target::Node(name) => f.write_str(name),
        }
    }
}

/// What a fault does, with its magnitude.
#[derive(Clone, Debug, PartialEq)]
pub enum FaultKind {
    /// `latency` on an edge: each request leg takes `add` plus uniform(0, `jitter`) longer.
    Latency {
        /// Added to every request.
        add: Nanos,
        /// Upper end of a uniform addition.
        jitter: Nanos,
        /// Whether a request whose caller has given up while it was held still reaches its service. `false`: what holds it (a proxy: Envoy,
        /// Istio, Toxiproxy) lets it go with its connection. `true`: it is already on the wire (netem, a slow link).
        delivers_abandoned: bool,
    },
    /// `connection_drop` on an edge: each request is reset at once with this probability.
    ConnectionDrop {
        /// Share of requests.
        probability: f64,
    },
    /// `black_hole` on an edge: nothing arrives, replies in flight are lost, and nobody gets an error but by timeout.
    BlackHole,
    /// `retries` on an edge: its client tries this often in all, with this constant wait.
    AggressiveRetries {
        /// Tries in all.
        attempts: u32,
        /// Wait before each retry (factor 1, the edge's jitter stays).
        backoff: Nanos,
    },
    /// `errors` on a service: a request fails on arrival, before the queue, with this probability.
    Errors {
        /// Share of requests.
        probability: f64,
    },
    /// `slow` on a service: work that starts takes this many times as long.
    Slow {
        /// Service-time factor, above 0.
        factor: f64,
    },
    /// `crash` on a service or topic: work, queue and contents are lost; connections are refused until the restart, cold.
    Crash {
        /// How many replicas; `None` = all.
        replicas: Option<u32>,
        /// Silence instead of refused connections.
        black_hole: bool,
    },
    /// `workers_lost` on a service: each replica keeps this share of its workers (rounded); running work goes on.
    WorkersLost {
        /// Share kept, 0..1.
        keep: f64,
    },
    /// `surge` on an entry: this many times the load.
    Surge {
        /// Load factor; above 1 adds requests, below 1 thins them.
        factor: f64,
    },
    /// `delay` on a topic: each message published is held this long before it can be delivered.
    Delay {
        /// Held at least this long.
        add: Nanos,
        /// Upper end of a uniform addition: above 0 it also reorders.
        jitter: Nanos,
    },
    /// `reorder` on a topic: this share of messages is held for uniform(0, `within`), so that later ones overtake them.
    Reorder {
        /// Share of messages.
        probability: f64,
        /// Longest hold.
        within: Nanos,
    },
    /// `consumer_stall` on a topic: nothing is delivered.
    ConsumerStall,
}

impl FaultKind {
    /// `latency` without jitter, by a proxy.
    pub fn latency(add: Nanos) -> Self {
        FaultKind::Latency { add, jitter: Nanos::ZERO, delivers_abandoned: false }
    }

    /// The name that files use.
    pub fn name(&self) -> &'static str {
        match self {
            FaultKind::Latency { .. } => "latency",
            FaultKind::ConnectionDrop { .. } => "connection_drop",
            FaultKind::BlackHole => "black_hole",
            FaultKind::AggressiveRetries { .. } => "retries",
            FaultKind::Errors { .. } => "errors",
            FaultKind::Slow { .. } => "slow",
            FaultKind::Crash { .. } => "crash",
            FaultKind::WorkersLost { .. } => "workers_lost",
            FaultKind::Surge { .. } => "surge",
            FaultKind::Delay { .. } => "delay",
            FaultKind::Reorder { .. } => "reorder",
            FaultKind::ConsumerStall => "consumer_stall",
        }
    }
}
