//! The model: what a system is, as plain data (DESIGN.md section 4).
//!
//! You are here: `models::system`. `format` reads and writes it, `learn` makes it from traces, `sim` compiles and runs it.
//! Always true: maps keep the order of the file; nothing here knows faults or engines.
//! Not here: whether a model makes sense (`check`), how it is written (`format`).

use std::fmt;

use indexmap::IndexMap;

use crate::dist::Work;
use crate::param::{Limit, Param};
use crate::units::Nanos;

/// A whole system: who comes in, who serves, how they call each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// Entries by name: where users come in. An entry's name is the caller in the edge `name->service`.
    pub workload: IndexMap<String, Entry>,
    /// Services by name.
    pub services: IndexMap<String, Service>,
    /// The policies of calling services towards called services or topics. A pair without an entry has [`Edge::default`].
    pub edges: IndexMap<EdgeName, Edge>,
    /// Topics by name.
    pub topics: IndexMap<String, Topic>,
    /// What was learned and from where; `None` for a model written by hand.
    pub learned: Option<Learned>,
}

/// `from->to`: calls of one service (or entry, or topic) to another service (or topic).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeName {
    /// The calling service, entry or topic.
    pub from: String,
    /// The called service or topic.
    pub to: String,
}

impl EdgeName {
    /// The edge from `from` to `to`.
    pub fn new(from: impl Into<String>, to: impl Into<String>) -> Self {
        EdgeName { from: from.into(), to: to.into() }
    }

    /// Reads `from->to`; `None` without an arrow or with an empty end.
    pub fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once("->")?;
        let (from, to) = (from.trim(), to.trim());
        (!from.is_empty() && !to.is_empty()).then(|| EdgeName::new(from, to))
    }
}

impl fmt::Display for EdgeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{}", self.from, self.to)
    }
}

/// `service.operation`: what a call names. Service names may hold dots, so text is resolved against a model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpRef {
    /// The called service.
    pub service: String,
    /// Its operation.
    pub operation: String,
}

impl OpRef {
    /// The operation `operation` of `service`.
    pub fn new(service: impl Into<String>, operation: impl Into<String>) -> Self {
        OpRef { service: service.into(), operation: operation.into() }
    }
}

impl fmt::Display for OpRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.service, self.operation)
    }
}

/// Where users come in. The users' own client policy is the edge `entry->service`.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What they call.
    pub to: OpRef,
    /// Open loop, Poisson: user requests per second.
    pub rate: Param<f64>,
    /// Names this entry's stream of keyed draws; kept by design changes.
    pub site: u32,
}

/// A service: replicas that hold workers and a queue, and operations.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Number of equal replicas.
    pub replicas: Param<u32>,
    /// Concurrency limit of one replica.
    pub workers: Param<Limit>,
    /// Waiting places of one replica; a request that finds them full is rejected at once as overload.
    pub queue: Param<Limit>,
    /// Who leaves the queue first.
    pub discipline: Discipline,
    /// Who holds a worker while waiting for callees.
    pub mode: Mode,
    /// How callers spread over replicas.
    pub balance: Balance,
    /// Whether work stops when its caller has given up. `false`: it goes on to its end (wasted work).
    pub cancel_on_disconnect: bool,
    /// Contents, if this service is a cache.
    pub cache: Option<Cache>,
    /// Operations by name.
    pub operations: IndexMap<String, Operation>,
    /// What traces showed of it, all operations together.
    pub observed: Option<Observed>,
}

impl Default for Service {
    /// What a hand-written model gets for what it leaves out: one replica, one blocking worker, an unbounded FIFO queue.
    fn default() -> Self {
        Service {
            replicas: Param::declared(1),
            workers: Param::declared(Limit::Of(1)),
            queue: Param::declared(Limit::Unlimited),
            discipline: Discipline::Fifo,
            mode: Mode::Blocking,
            balance: Balance::RoundRobin,
            cancel_on_disconnect: false,
            cache: None,
            operations: IndexMap::new(),
            observed: None,
        }
    }
}

/// Who leaves the queue first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discipline {
    /// First come, first served.
    #[default]
    Fifo,
    /// Last come, first served.
    Lifo,
}

/// Who holds a worker while waiting for callees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A request keeps its worker from the start of its work to its answer, backoffs of its calls included.
    #[default]
    Blocking,
    /// A request holds a worker only during its own work; with more work after a reply it joins the queue's back, never refused.
    Async,
}

/// How callers spread over replicas, per attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// A keyed draw.
    Random,
    /// The replica with the fewest requests present.
    LeastOutstanding,
    /// The better of two keyed draws.
    TwoChoices,
}

/// A cache's contents: least recently used out first; state that a crash or flush empties.
#[derive(Clone, Debug, PartialEq)]
pub struct Cache {
    /// Entries it can hold.
    pub capacity: Param<u32>,
    /// Distinct keys that requests ask for.
    pub keys: Param<u32>,
    /// Exponent of the keys' Zipf popularity: rank r is asked for in proportion to r^-zipf.
    pub zipf: Param<f64>,
}

/// One kind of work that a service offers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Operation {
    /// Share of requests that fail at the end of their own work.
    pub error_rate: Option<Param<f64>>,
    /// Kinds of request (cache hit, cache miss, ...) with their weights; one is drawn per request.
    pub paths: Vec<CallPath>,
    /// What traces showed of it.
    pub observed: Option<Observed>,
}

/// One kind of request: its weight among its operation's paths, and its steps in order.
#[derive(Clone, Debug, PartialEq)]
pub struct CallPath {
    /// Relative weight, 0 or more.
    pub weight: Param<f64>,
    /// Steps, in order.
    pub steps: Vec<Step>,
}

/// One step of a path.
#[expect(clippy::large_enum_variant, reason = "a model has few steps, and they live as long as it does")]
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Own work: needs a worker.
    Work(Work),
    /// A call to an operation.
    Call(Call),
    /// Branches (calls, lookups, publishes) made at once.
    Parallel {
        /// What is waited for.
        wait: Wait,
        /// The branches; none is itself `Work` or `Parallel`.
        branches: Vec<Step>,
    },
    /// Cache-aside: ask the cache; on a miss or any failure call the origin, and fill the cache without waiting.
    Lookup(Lookup),
    /// A message to a topic; the step ends when the broker has accepted it.
    Publish(Publish),
}

/// What a parallel step waits for. A branch that fails and must not (`on_failure`) fails the step at once in all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Every branch.
    All,
    /// The first success.
    First,
    /// This many successes.
    Quorum(u32),
}

/// A call to another service's operation, under the policy of the edge between the two services.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// What is called.
    pub to: OpRef,
    /// Names the call's keyed draws; kept by design changes. Unique within a model.
    pub site: u32,
    /// How often, one after the other: (count, probability), probabilities summing to 1.
    pub times: Vec<(u32, f64)>,
    /// Probability that the call's final failure fails the caller; 0 = `degrade`, 1 = `fail`.
    pub on_failure: Param<f64>,
    /// Whether the caller waits for the answer. `false`: it goes on at once and never learns of it.
    pub wait: bool,
    /// What is called instead when this call has failed for good.
    pub fallback: Option<Box<Call>>,
}

/// Cache-aside.
#[derive(Clone, Debug, PartialEq)]
pub struct Lookup {
    /// The question to the cache; its service has `cache` set.
    pub cache: Call,
    /// The call on a miss or on failure of the question.
    pub origin: Call,
    /// The call that stores the answer, never waited for; `None`: stored without a message.
    pub fill: Option<Call>,
}

/// A message to a topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Publish {
    /// The topic.
    pub to: String,
    /// As in [`Call::site`].
    pub site: u32,
    /// As in [`Call::times`].
    pub times: Vec<(u32, f64)>,
    /// As in [`Call::on_failure`].
    pub on_failure: Param<f64>,
}

/// A client's policy towards one called service or topic, and the network between them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edge {
    /// One-way network latency, paid by request and by reply; `None` = 0.
    pub latency: Option<Param<Nanos>>,
    /// Per-try timeout: connecting, both legs, queueing and work. On an edge from a topic: the ack deadline. `None`: waits for ever.
    pub timeout: Option<Param<Nanos>>,
    /// Retries; `None`: one try.
    pub retry: Option<Retry>,
    /// Circuit breaker, per calling replica.
    pub breaker: Option<Breaker>,
    /// What traces showed of it, as the caller saw it.
    pub observed: Option<ObservedEdge>,
}

/// Retries of one edge (DESIGN.md 4.4 and 4.7).
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Tries in all, the first included; 1 = no retry.
    pub attempts: Param<u32>,
    /// Wait before the second try; before the (k+2)th it is `backoff * factor^k`.
    pub backoff: Param<Nanos>,
    /// Growth of the wait from try to try.
    pub factor: Param<f64>,
    /// Longest wait; `None`: no bound.
    pub max: Option<Param<Nanos>>,
    /// How a wait is drawn.
    pub jitter: Jitter,
    /// Which failures are retried; empty = all.
    pub on: Vec<Cause>,
    /// Token bucket that retries must pay from, per calling replica.
    pub budget: Option<Budget>,
}

impl Default for Retry {
    /// One try, no wait, doubling, no jitter, on all causes, no budget.
    fn default() -> Self {
        Retry {
            attempts: Param::declared(1),
            backoff: Param::declared(Nanos::ZERO),
            factor: Param::declared(2.0),
            max: None,
            jitter: Jitter::None,
            on: Vec::new(),
            budget: None,
        }
    }
}

/// How a wait w between tries is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jitter {
    /// w.
    #[default]
    None,
    /// Uniform in 0..w.
    Full,
    /// w/2 plus uniform in 0..w/2.
    Equal,
    /// Uniform in backoff..3 x the previous wait, at most `max`.
    Decorrelated,
}

/// Why a try failed, as its caller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The callee answered with an error.
    Error,
    /// The callee's queue was full.
    Overload,
    /// No answer within the timeout.
    Timeout,
    /// Refused or reset connection.
    Connection,
    /// The circuit breaker was open; never retried.
    BreakerOpen,
}

/// Retry budget: a retry costs one token.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// Tokens per first try.
    pub ratio: Param<f64>,
    /// Tokens per second.
    pub min_per_s: Param<f64>,
    /// Most tokens.
    pub cap: Param<f64>,
    /// Tokens at the start; `None` = `cap`.
    pub initial: Option<Param<f64>>,
}

/// Circuit breaker over the last `window` tries. Open: tries fail at once. After `open` it lets `probes` through: all good
/// closes it with its history emptied, one bad opens it again.
#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    /// Tries remembered.
    pub window: Param<u32>,
    /// Tries that must be known before it may open.
    pub min_calls: Param<u32>,
    /// Failed share from which on it opens.
    pub threshold: Param<f64>,
    /// How long it stays open.
    pub open: Param<Nanos>,
    /// Half-open probes.
    pub probes: Param<u32>,
}

/// A topic with one consumer group: a broker that pushes messages to a consumer operation. The edge `topic->consumer` has the
/// ack deadline as its timeout; the edge `publisher->topic` is the publisher's policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    /// What handles a message.
    pub consumer: OpRef,
    /// As in [`Call::site`]: of the delivery.
    pub site: u32,
    /// Deliveries at once.
    pub concurrency: Param<u32>,
    /// Messages that may wait; a publish that finds them full is refused as overload.
    pub capacity: Param<Limit>,
    /// Wait before a failed delivery is tried again, at the queue's back.
    pub redelivery_delay: Param<Nanos>,
    /// Failed deliveries after which a message is a dead letter.
    pub max_deliveries: Param<u32>,
    /// What the broker takes to accept a message; `None` = no time.
    pub accept: Option<Work>,
    /// What traces showed of it: publish to acknowledgement.
    pub observed: Option<Observed>,
}

/// What traces showed of a service or an operation, as itself answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Requests seen.
    pub calls: u64,
    /// Requests per second of the observed time.
    pub per_s: f64,
    /// Failed share.
    pub error_rate: f64,
    /// Mean latency, ms.
    pub mean_ms: f64,
    /// Median latency, ms.
    pub p50_ms: f64,
    /// 99th percentile of latency, ms (nearest rank).
    pub p99_ms: f64,
}

/// What traces showed of an edge, as the caller saw it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedEdge {
    /// Calls (first attempts).
    pub calls: u64,
    /// Attempts, retries included.
    pub attempts: u64,
    /// Attempts that failed.
    pub errors: u64,
    /// Attempts that failed by timeout.
    pub timeouts: u64,
    /// Calls per call of the parent.
    pub per_parent: f64,
    /// Whether the caller does not wait.
    pub asynchronous: bool,
    /// Median and 99th percentile as the caller saw it, ms.
    pub p50_ms: f64,
    /// 99th percentile, ms.
    pub p99_ms: f64,
}

/// What was learned, and from where.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Learned {
    /// Traces that the numbers rest on.
    pub traces: u64,
    /// Spans that the numbers rest on.
    pub spans: u64,
    /// Observed time, seconds.
    pub seconds: f64,
    /// Surprises, contradictions and caveats: sentences with numbers, for people.
    pub notes: Vec<String>,
}
