//! The model: what a system is, as plain data (DESIGN.md section 4).
//!
//! You are here: `models::system`. `format` reads and writes it, `learn` makes it from traces, `sim` compiles and runs it.
//! Always true: maps keep the order of the file; nothing here knows faults or engines.
//! Not here: whether a model makes sense (`check`), how it is written (`format`).

use std::fmt;

use indexmap::IndexMap;

use crate::dist::Work;
use crate::fidelity::Backcast;
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

/// Where users come in. The users' own client policy is the edge `entry->service`; users who reload are its retries.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What they call.
    pub to: OpRef,
    /// Open loop, Poisson: user requests per second where `curve` and `bursts` say nothing else. Closed loop: the most that its users
    /// can come to, users / mean think time.
    pub rate: Param<f64>,
    /// How the rate changes over time (open loop).
    pub curve: Option<RateCurve>,
    /// Regular bursts on top of rate and curve (open loop).
    pub bursts: Option<Bursts>,
    /// Closed loop: a fixed number of users instead of a rate.
    pub closed: Option<ClosedLoop>,
    /// Names this entry's stream of keyed draws; kept by design changes.
    pub site: u32,
}

impl Entry {
    /// An open loop at a steady rate.
    pub fn open(to: OpRef, rate: Param<f64>, site: u32) -> Self {
        Entry { to, rate, curve: None, bursts: None, closed: None, site }
    }

    /// A closed loop.
    pub fn closed(to: OpRef, closed: ClosedLoop, site: u32) -> Self {
        let rate = Param::declared(closed.most_per_s());
        Entry { closed: Some(closed), ..Entry::open(to, rate, site) }
    }

    /// The most requests per second that it comes to: `rate` at the highest step of its curve, within a burst.
    pub fn peak_per_s(&self) -> f64 {
        let curve = self.curve.as_ref().map_or(1.0, |curve| curve.steps.iter().map(|step| step.1).fold(0.0, f64::max));
        let burst = self.bursts.as_ref().map_or(1.0, |bursts| bursts.factor.value.max(1.0));
        self.rate.value * curve * burst
    }
}

/// A rate that changes in steps.
#[derive(Clone, Debug, PartialEq)]
pub struct RateCurve {
    /// (from when on, factor on the rate), times rising, the first at 0. The last step holds to the end, or to `repeat`.
    pub steps: Vec<(Nanos, f64)>,
    /// After this long the curve begins again; `None`: it does not.
    pub repeat: Option<Nanos>,
}

/// Bursts at regular times: within each `every` the first `lasting` comes at `factor` times the rate; the first burst begins at `every`.
#[derive(Clone, Debug, PartialEq)]
pub struct Bursts {
    /// From one burst's start to the next one's.
    pub every: Param<Nanos>,
    /// How long a burst lasts, less than `every`.
    pub lasting: Param<Nanos>,
    /// Factor on the rate.
    pub factor: Param<f64>,
}

/// A closed loop: each user asks, waits for the answer, thinks, and asks again. At the start every user is thinking.
#[derive(Clone, Debug, PartialEq)]
pub struct ClosedLoop {
    /// Number of users.
    pub users: Param<u32>,
    /// Time between an answer and the next request.
    pub think: Work,
}

impl ClosedLoop {
    /// Requests per second if every answer came at once: users / mean think time. A think time of 0 counts as 1 ms here.
    pub fn most_per_s(&self) -> f64 {
        let think = self.think.dist.mean();
        let think = if think.is_zero() { Nanos::from_millis(1) } else { think };
        f64::from(self.users.value) / think.as_secs_f64()
    }
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
    /// Whether a request whose deadline has passed, or whose caller is known to have gone, is dropped instead of getting a worker.
    pub shed_expired: bool,
    /// Drops requests that have waited too long while a queue stands.
    pub codel: Option<CoDel>,
    /// A limit on requests in progress that follows measured latency; beyond it a request is refused as overload.
    pub adaptive_limit: Option<AdaptiveLimit>,
    /// Service time that grows with load.
    pub contention: Option<Contention>,
    /// Replicas that follow utilisation.
    pub autoscale: Option<Autoscale>,
    /// Slowness of a replica that has just started.
    pub warm_up: Option<WarmUp>,
    /// How long callers go on choosing a replica that is down; `None`: they never notice.
    pub health_check: Option<HealthCheck>,
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
            shed_expired: false,
            codel: None,
            adaptive_limit: None,
            contention: None,
            autoscale: None,
            warm_up: None,
            health_check: None,
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

/// Controlled delay (RFC 8289) on a replica's queue: once requests have waited longer than `target` for a whole `interval`, one is dropped
/// as it would get a worker, then more at shrinking distances (`interval` / sqrt(n)) until the wait is below `target` again.
#[derive(Clone, Debug, PartialEq)]
pub struct CoDel {
    /// Acceptable standing wait.
    pub target: Param<Nanos>,
    /// How long it may be exceeded before anything is dropped.
    pub interval: Param<Nanos>,
}

/// A limit per replica on requests in progress (waiting ones included) that adapts.
#[derive(Clone, Debug, PartialEq)]
pub struct AdaptiveLimit {
    /// How it follows latency.
    pub law: AdaptiveLaw,
    /// Limit at the start.
    pub initial: Param<u32>,
    /// Least limit.
    pub min: Param<u32>,
    /// Greatest limit.
    pub max: Param<u32>,
}

/// How an adaptive limit follows latency, per answer.
#[derive(Clone, Debug, PartialEq)]
pub enum AdaptiveLaw {
    /// Additive increase by 1 / limit per good answer while the limit is at least half used, multiplicative decrease by `backoff` after an
    /// answer slower than `latency` (Netflix concurrency-limits, `AIMDLimit`).
    Aimd {
        /// An answer slower than this is a sign of overload.
        latency: Param<Nanos>,
        /// Factor on the limit then, below 1.
        backoff: Param<f64>,
    },
    /// The limit is multiplied by `tolerance` x long-term latency / latency of this answer, within 0.5..1, plus room for a queue of 4,
    /// smoothed by 0.2 (Netflix concurrency-limits, `Gradient2Limit`).
    Gradient {
        /// How many times the long-term latency is still fine, 1 or more.
        tolerance: Param<f64>,
    },
}

/// Service time that grows with load; taken as a step of work starts.
#[derive(Clone, Debug, PartialEq)]
pub enum Contention {
    /// Each step of work takes `add` longer for every request in progress at its replica (itself not counted).
    InProgress {
        /// Added per request.
        add: Param<Nanos>,
    },
    /// Work takes `factor` times as long while more than `above` requests per second have arrived at the replica over the last second.
    ArrivalRate {
        /// Requests per second.
        above: Param<f64>,
        /// Factor on the service time.
        factor: Param<f64>,
    },
}

/// Horizontal autoscaling in the manner of the Kubernetes HPA: every `every`, replicas = ceil(replicas x utilisation / target), left alone
/// within 10 % of the target.
#[derive(Clone, Debug, PartialEq)]
pub struct Autoscale {
    /// Wanted share of busy workers, above 0 and up to 1.
    pub target: Param<f64>,
    /// Least replicas.
    pub min: Param<u32>,
    /// Most replicas.
    pub max: Param<u32>,
    /// Time between two looks; utilisation is the mean between them.
    pub every: Param<Nanos>,
    /// From the decision to a new replica's first request.
    pub start_up: Param<Nanos>,
    /// How long fewer must have been enough before replicas go (they finish what they have).
    pub down_after: Param<Nanos>,
}

/// A replica that has just started (restart or scale-up): its work takes `factor` times as long, falling evenly to 1 over `lasting`.
#[derive(Clone, Debug, PartialEq)]
pub struct WarmUp {
    /// How long it is slower.
    pub lasting: Param<Nanos>,
    /// Factor at its start, 1 or more.
    pub factor: Param<f64>,
}

/// What callers know of replicas that are down.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    /// A replica that went down is chosen for this long still.
    pub down_after: Param<Nanos>,
    /// A replica that came back is chosen again after this long.
    pub up_after: Param<Nanos>,
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
    /// How long what was stored stays valid; `None`: for ever.
    pub ttl: Option<Param<Nanos>>,
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

/// What a parallel step waits for. If it does not get it, the step ends with the last branch, and fails if one failed that must not
/// (`on_failure`).
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
    /// Whether, per replica of the caller, only one request at a time asks the origin for a key, and the others wait for its answer.
    pub single_flight: bool,
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
    /// All tries and waits together: when it has passed, the call fails as a timeout, and no retry leaves. `None`: no bound.
    pub deadline: Option<Param<Nanos>>,
    /// Whether the request carries its deadline (its own or its caller's, the earlier one) to the callee, whose calls then end by it too.
    pub propagate_deadline: bool,
    /// Retries; `None`: one try.
    pub retry: Option<Retry>,
    /// Hedging: further tries before the first has ended. Excludes `retry`.
    pub hedge: Option<Hedge>,
    /// Bulkhead: calls in progress at once per calling replica; one more fails at once. `None`: no bound.
    pub max_in_flight: Option<Param<u32>>,
    /// Connections per calling replica; a try holds one from its sending to its end.
    pub pool: Option<Pool>,
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
    /// The client's own limit (bulkhead, or a pool with no place to wait) was reached; never retried.
    Bulkhead,
}

/// Hedged tries: if nothing has come back `after` the last one was sent (or it has failed), another is sent; the first success wins and the
/// others are abandoned; the call fails when all have.
#[derive(Clone, Debug, PartialEq)]
pub struct Hedge {
    /// Wait before each further try.
    pub after: Param<Nanos>,
    /// Tries in all, the first included.
    pub attempts: Param<u32>,
}

/// A connection pool. A try that finds no connection free waits for one, first come first served, and its timeout runs meanwhile.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Connections, each for one try at a time.
    pub connections: Param<u32>,
    /// Tries that may wait for one; one more fails at once, as by the bulkhead.
    pub waiting: Param<Limit>,
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

/// Circuit breaker, per calling replica. Open: tries fail at once. After `open` it lets `probes` through: all good closes it with its history
/// emptied, one bad opens it again.
#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    /// What opens it.
    pub trips: Trips,
    /// How long it stays open.
    pub open: Param<Nanos>,
    /// Half-open probes.
    pub probes: Param<u32>,
}

/// What opens a circuit breaker.
#[derive(Clone, Debug, PartialEq)]
pub enum Trips {
    /// The failed share of recent tries.
    Share {
        /// Which tries count.
        window: BreakerWindow,
        /// Tries that must be known before it may open.
        min_calls: Param<u32>,
        /// Failed share from which on it opens.
        threshold: Param<f64>,
    },
    /// This many failures one after the other.
    Consecutive(Param<u32>),
}

/// Which tries a circuit breaker remembers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BreakerWindow {
    /// The last n.
    Calls(Param<u32>),
    /// Those of the last while, counted in tenths of it.
    Time(Param<Nanos>),
}

/// A topic with one consumer group: a broker that pushes messages to a consumer operation. The edge `topic->consumer` has the
/// ack deadline as its timeout; the edge `publisher->topic` is the publisher's policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    /// What handles a message.
    pub consumer: OpRef,
    /// As in [`Call::site`]: of the delivery.
    pub site: u32,
    /// Deliveries at once, the whole consumer group together.
    pub concurrency: Param<u32>,
    /// Partitions; a message goes to the one its key hashes to.
    pub partitions: Param<u32>,
    /// What the messages are about.
    pub keys: MessageKeys,
    /// What the broker promises about order.
    pub order: Order,
    /// Messages that may wait, all partitions together.
    pub capacity: Param<Limit>,
    /// What happens to a publish that finds them full.
    pub full: Full,
    /// Whether an older message of a key applied after a newer one is wrong (a stale write).
    pub order_sensitive: bool,
    /// Whether a message may be applied twice; if not, a second application is a duplicate effect.
    pub idempotent: bool,
    /// Wait before a failed delivery is tried again, at the queue's back.
    pub redelivery_delay: Param<Nanos>,
    /// Failed deliveries after which a message is a dead letter.
    pub max_deliveries: Param<u32>,
    /// What the broker takes to accept a message; `None` = no time.
    pub accept: Option<Work>,
    /// What traces showed of it: publish to acknowledgement.
    pub observed: Option<Observed>,
}

impl Topic {
    /// A topic without bounds and promises: one partition, no order, one delivery per message.
    pub fn to(consumer: OpRef, concurrency: Param<u32>, site: u32) -> Self {
        Topic {
            consumer,
            site,
            concurrency,
            partitions: Param::declared(1),
            keys: MessageKeys::default(),
            order: Order::default(),
            capacity: Param::declared(Limit::Unlimited),
            full: Full::default(),
            order_sensitive: false,
            idempotent: true,
            redelivery_delay: Param::declared(Nanos::ZERO),
            max_deliveries: Param::declared(1),
            accept: None,
            observed: None,
        }
    }
}

/// What the messages of a topic are about: keys, drawn by popularity.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageKeys {
    /// Distinct keys.
    pub count: Param<u32>,
    /// Exponent of their Zipf popularity; 0 = all alike.
    pub zipf: Param<f64>,
}

impl Default for MessageKeys {
    /// A thousand keys, all alike.
    fn default() -> Self {
        MessageKeys { count: Param::declared(1_000), zipf: Param::declared(0.0) }
    }
}

/// What a broker promises about order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Nothing: a later message may overtake.
    #[default]
    None,
    /// Messages of one key are delivered one after the other as they came: a partition has one delivery at a time, and a failed one is
    /// tried again before any other of its partition.
    PerKey,
}

/// What a full topic does to a publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Full {
    /// It is refused at once, as overload.
    #[default]
    Reject,
    /// It waits for a place; its timeout runs meanwhile.
    Block,
    /// The oldest waiting message is dropped for it.
    DropOldest,
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
    /// How well a model of the first part of the traffic foretold the rest, if that was tried.
    pub backcast: Option<Backcast>,
}
