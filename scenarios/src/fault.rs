//! The fault vocabulary: what can be done to a system, where, and for how long (DESIGN.md 6.1).
//!
//! You are here: `scenarios::fault`. Every fault begins and ends; its opposite is its own end.
//! Not here: how an engine applies it (`sim`), how a scenario file is written (`format`).

use std::fmt;

use models::dist::Dist;
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
    /// How long it lasts, ramps included; a crash restarts at its end.
    pub duration: Nanos,
    /// Its magnitude grows evenly from nothing over this long from its start on.
    pub ramp_up: Nanos,
    /// Its magnitude falls evenly to nothing over this long before its end.
    pub ramp_down: Nanos,
}

impl Fault {
    /// A fault without ramps.
    pub fn new(kind: FaultKind, target: Target, start: SimTime, duration: Nanos) -> Self {
        Fault { kind, target, start, duration, ramp_up: Nanos::ZERO, ramp_down: Nanos::ZERO }
    }

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
    /// `latency` on an edge: each message on `leg` takes `add` plus uniform(0, `jitter`) plus a draw of `distribution` longer.
    Latency {
        /// Added to every request.
        add: Nanos,
        /// Upper end of a uniform addition.
        jitter: Nanos,
        /// A further addition drawn from a distribution.
        distribution: Option<Dist>,
        /// Which way.
        leg: Leg,
        /// Whether a request whose caller has given up while it was held still reaches its service. `false`: what holds it (a proxy: Envoy,
        /// Istio, Toxiproxy) lets it go with its connection. `true`: it is already on the wire (netem, a slow link).
        delivers_abandoned: bool,
    },
    /// `connection_drop` on an edge: each request is reset at once with this probability.
    ConnectionDrop {
        /// Share of requests.
        probability: f64,
    },
    /// `black_hole` on an edge: nothing gets through on `leg`, what is in flight there is lost, and nobody gets an error but by timeout.
    BlackHole {
        /// Which way; `Both` is a full partition.
        leg: Leg,
    },
    /// `loss` on an edge: each message (request or reply) is lost with this probability and sent again after `retransmit`, doubled each
    /// time, as TCP does (RFC 6298), until it gets through.
    Loss {
        /// Share of messages.
        probability: f64,
        /// First retransmission timeout.
        retransmit: Nanos,
    },
    /// `bandwidth` on an edge: requests are sent one after the other at this rate.
    Bandwidth {
        /// Bytes per second.
        bytes_per_s: f64,
        /// Bytes of a request.
        request_bytes: f64,
    },
    /// `timeout` on an edge: its per-try timeout is this (if that is lower).
    TimeoutLowered {
        /// The timeout.
        to: Nanos,
    },
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
    /// `pause` on a service: everything stands still (garbage collection, stop-the-world); work goes on at its end.
    Pause,
    /// `replicas_lost` on a service: this many replicas die with what they have, and callers know at once; they are back, cold, at its end.
    ReplicasLost {
        /// How many.
        replicas: u32,
    },
    /// `queue_shrunk` on a service: at most this many requests may wait at a replica; those who wait already stay.
    QueueShrunk {
        /// Waiting places.
        to: u32,
    },
    /// `leak` on a service: work takes ever longer, by `growth` of its normal time each second, until the restart at its end, when what is in
    /// progress is lost as in a crash.
    Leak {
        /// Per second.
        growth: f64,
    },
    /// `flush` on a cache: this share of its contents, the least recently used first, is gone at its start.
    Flush {
        /// Share of the entries.
        share: f64,
    },
    /// `hit_ratio_drop` on a cache: a question that would hit misses with probability 1 - `keep`.
    HitRatioDrop {
        /// Share of the hits that stay.
        keep: f64,
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
    /// `duplicate` on a topic: this share of messages is there twice.
    Duplicate {
        /// Share of messages.
        probability: f64,
    },
    /// `message_loss` on a topic: this share of messages is accepted and never seen again.
    MessageLoss {
        /// Share of messages.
        probability: f64,
    },
    /// `consumer_stall` on a topic: nothing is delivered.
    ConsumerStall,
    /// `slow_consumer` on a topic: the consumer's own work for its messages takes this many times as long.
    SlowConsumer {
        /// Service-time factor, above 0.
        factor: f64,
    },
    /// `poison` on a topic: this share of the messages published fails at the consumer, however often it is delivered.
    Poison {
        /// Share of messages.
        probability: f64,
    },
    /// `reload` on an entry: users ask again when an answer has not come `after` this long, or was a failure, up to `attempts` times in all.
    Reload {
        /// Patience.
        after: Nanos,
        /// Requests in all, the first included.
        attempts: u32,
    },
}

/// Which way of an edge a fault strikes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leg {
    /// Requests.
    #[default]
    Request,
    /// Replies.
    Reply,
    /// Both ways.
    Both,
}

impl Leg {
    /// Whether requests are struck.
    pub fn requests(self) -> bool {
        self != Leg::Reply
    }

    /// Whether replies are struck.
    pub fn replies(self) -> bool {
        self != Leg::Request
    }
}

/// What a kind of fault can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// An edge.
    Edge,
    /// A service.
    Service,
    /// A service that has a cache.
    Cache,
    /// A service or a topic.
    ServiceOrTopic,
    /// A topic.
    Topic,
    /// An entry.
    Entry,
}

impl FaultKind {
    /// What it can strike.
    pub fn strikes(&self) -> Where {
        match self {
            FaultKind::Latency { .. }
            | FaultKind::ConnectionDrop { .. }
            | FaultKind::BlackHole { .. }
            | FaultKind::Loss { .. }
            | FaultKind::Bandwidth { .. }
            | FaultKind::TimeoutLowered { .. }
            | FaultKind::AggressiveRetries { .. } => Where::Edge,
            FaultKind::Errors { .. }
            | FaultKind::Slow { .. }
            | FaultKind::Pause
            | FaultKind::ReplicasLost { .. }
            | FaultKind::QueueShrunk { .. }
            | FaultKind::Leak { .. }
            | FaultKind::WorkersLost { .. } => Where::Service,
            FaultKind::Flush { .. } | FaultKind::HitRatioDrop { .. } => Where::Cache,
            FaultKind::Crash { .. } => Where::ServiceOrTopic,
            FaultKind::Surge { .. } | FaultKind::Reload { .. } => Where::Entry,
            FaultKind::Delay { .. }
            | FaultKind::Reorder { .. }
            | FaultKind::Duplicate { .. }
            | FaultKind::MessageLoss { .. }
            | FaultKind::ConsumerStall
            | FaultKind::SlowConsumer { .. }
            | FaultKind::Poison { .. } => Where::Topic,
        }
    }

    /// `latency` without jitter, by a proxy.
    pub fn latency(add: Nanos) -> Self {
        FaultKind::Latency { add, jitter: Nanos::ZERO, distribution: None, leg: Leg::Request, delivers_abandoned: false }
    }

    /// The name that files use.
    pub fn name(&self) -> &'static str {
        match self {
            FaultKind::Latency { .. } => "latency",
            FaultKind::ConnectionDrop { .. } => "connection_drop",
            FaultKind::BlackHole { .. } => "black_hole",
            FaultKind::Loss { .. } => "loss",
            FaultKind::Bandwidth { .. } => "bandwidth",
            FaultKind::TimeoutLowered { .. } => "timeout",
            FaultKind::Pause => "pause",
            FaultKind::ReplicasLost { .. } => "replicas_lost",
            FaultKind::QueueShrunk { .. } => "queue_shrunk",
            FaultKind::Leak { .. } => "leak",
            FaultKind::Flush { .. } => "flush",
            FaultKind::HitRatioDrop { .. } => "hit_ratio_drop",
            FaultKind::Duplicate { .. } => "duplicate",
            FaultKind::MessageLoss { .. } => "message_loss",
            FaultKind::SlowConsumer { .. } => "slow_consumer",
            FaultKind::Poison { .. } => "poison",
            FaultKind::Reload { .. } => "reload",
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

    /// Whether it has degrees, so that ramps make sense.
    pub fn has_degrees(&self) -> bool {
        match self {
            FaultKind::Latency { .. }
            | FaultKind::ConnectionDrop { .. }
            | FaultKind::Loss { .. }
            | FaultKind::Errors { .. }
            | FaultKind::Slow { .. }
            | FaultKind::WorkersLost { .. }
            | FaultKind::HitRatioDrop { .. }
            | FaultKind::Surge { .. }
            | FaultKind::Delay { .. }
            | FaultKind::Reorder { .. }
            | FaultKind::Duplicate { .. }
            | FaultKind::MessageLoss { .. }
            | FaultKind::SlowConsumer { .. }
            | FaultKind::Poison { .. } => true,
            FaultKind::BlackHole { .. }
            | FaultKind::Bandwidth { .. }
            | FaultKind::TimeoutLowered { .. }
            | FaultKind::AggressiveRetries { .. }
            | FaultKind::Pause
            | FaultKind::Crash { .. }
            | FaultKind::ReplicasLost { .. }
            | FaultKind::QueueShrunk { .. }
            | FaultKind::Leak { .. }
            | FaultKind::Flush { .. }
            | FaultKind::ConsumerStall
            | FaultKind::Reload { .. } => false,
        }
    }
}
