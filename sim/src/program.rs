//! A model made runnable: what the kernel reads, with indices for names, integer tables for distributions, fixed point for shares.
//!
//! You are here: `sim::program`. Compiled once per (model, world) and shared by all runs; the kernel (`des`) only reads it.
//! Always true: nothing in it is a float.
//! Not here: how it is made of a model (`compile`), anything that changes while a run goes on (`des::State`).

use std::sync::Arc;

use models::rng::{Chance, DrawName, Key, Purpose, below};
use models::system::{Balance, Cause, EdgeName, Full, Jitter, Model, Wait};
use models::table::QuantileTable;
use models::units::Nanos;

use crate::SimError;
use crate::compile;

/// No index.
pub(crate) const NONE: u32 = u32::MAX;
/// Fixed point of budgets: one token.
pub(crate) const TOKEN: u64 = 1 << 32;
/// Fixed point of factors: one.
pub(crate) const ONE_Q16: u64 = 1 << 16;
/// Durations end here, 52 days: beyond every run, and small enough that no sum of an engine overflows.
pub(crate) const FAR_NS: u64 = 1 << 52;

/// A compiled model. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Program(pub(crate) Arc<Tables>);

#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) world: u32,
    /// The clock's step in nanoseconds; 0: one nanosecond.
    pub(crate) quantum: u64,
    pub(crate) entries: Vec<EntryP>,
    pub(crate) services: Vec<ServiceP>,
    pub(crate) topics: Vec<TopicP>,
    /// Entries, services, topics: what verdicts are about, in this order.
    pub(crate) nodes: Vec<NodeP>,
    pub(crate) ops: Vec<OpP>,
    /// By operation.
    pub(crate) op_names: Vec<String>,
    pub(crate) paths: Vec<PathP>,
    pub(crate) steps: Vec<StepP>,
    /// By step: what decides whether a call is made that may be left out.
    pub(crate) options: Vec<OptionP>,
    pub(crate) sites: Vec<SiteP>,
    /// By site.
    pub(crate) hops: Vec<HopP>,
    pub(crate) lookups: Vec<LookupP>,
    pub(crate) edges: Vec<EdgeP>,
    /// What an edge needs more seldom, by edge.
    pub(crate) policies: Vec<PolicyP>,
    pub(crate) tables: Vec<QuantileTable>,
    /// Exponential with mean 2^32 ns: scaled into gaps between arrivals.
    pub(crate) unit_exponential: QuantileTable,
    /// Lanes of the event queue.
    pub(crate) lanes: u32,
    /// Replicas of all services, those included that only autoscaling starts.
    pub(crate) replicas: u32,
    /// Places that hold an edge's budget, breaker and limits, one per calling replica.
    pub(crate) client_states: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Entry,
    Service,
    Topic,
}

#[derive(Debug)]
pub(crate) struct NodeP {
    pub(crate) name: String,
    pub(crate) kind: NodeKind,
}

#[derive(Debug)]
pub(crate) struct EntryP {
    pub(crate) site: u32,
    /// The call that a user request makes.
    pub(crate) call: u32,
    /// Mean gap between arrivals at load 1 and factor 1, in 2^-16 ns.
    pub(crate) gap_q16: u128,
    /// Fires at all.
    pub(crate) active: bool,
    /// How the rate changes; `None`: it does not.
    pub(crate) shape: Option<ShapeP>,
    /// A fixed number of users instead.
    pub(crate) closed: Option<ClosedP>,
}

/// A rate over time: the product of a curve of steps and of regular bursts.
#[derive(Debug)]
pub(crate) struct ShapeP {
    /// (from, factor in 2^-16), the first from 0.
    pub(crate) steps: Vec<(u64, u64)>,
    /// 0: the curve does not begin again.
    pub(crate) repeat: u64,
    /// (every, lasting, factor in 2^-16); every = 0: no bursts.
    pub(crate) bursts: (u64, u64, u64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ClosedP {
    pub(crate) users: u32,
    pub(crate) think: u32,
}

#[derive(Debug)]
pub(crate) struct ServiceP {
    pub(crate) node: u32,
    /// Replicas at the start.
    pub(crate) replicas: u32,
    /// Replicas that there can be: more than `replicas` only with autoscaling.
    pub(crate) most_replicas: u32,
    /// Index of its first replica among all.
    pub(crate) replica_base: u32,
    /// `u32::MAX` = unlimited.
    pub(crate) workers: u32,
    /// `u32::MAX` = unbounded.
    pub(crate) queue: u32,
    pub(crate) lifo: bool,
    pub(crate) blocking: bool,
    pub(crate) balance: Balance,
    pub(crate) cancel: bool,
    pub(crate) shed_expired: bool,
    pub(crate) codel: Option<CoDelP>,
    pub(crate) adaptive: Option<AdaptiveP>,
    pub(crate) contention: Option<ContentionP>,
    pub(crate) autoscale: Option<AutoscaleP>,
    /// (lasting, factor in 2^-16).
    pub(crate) warm_up: Option<(u64, u64)>,
    /// (down after, up after).
    pub(crate) health_check: Option<(u64, u64)>,
    pub(crate) cache: Option<CacheP>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct CoDelP {
    pub(crate) target: u64,
    pub(crate) interval: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct AdaptiveP {
    pub(crate) law: AdaptiveLawP,
    pub(crate) initial: u32,
    pub(crate) min: u32,
    pub(crate) max: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum AdaptiveLawP {
    Aimd { latency: u64, backoff_q16: u64 },
    Gradient { tolerance_q16: u64 },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ContentionP {
    InProgress {
        add: u64,
    },
    /// `above`: arrivals in a second.
    ArrivalRate {
        above: u32,
        factor_q16: u64,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct AutoscaleP {
    pub(crate) target_q16: u64,
    pub(crate) min: u32,
    pub(crate) max: u32,
    pub(crate) every: u64,
    pub(crate) start_up: u64,
    pub(crate) down_after: u64,
}

#[derive(Debug)]
pub(crate) struct CacheP {
    pub(crate) capacity: u32,
    pub(crate) keys: u32,
    /// `popularity[k]`: 2^64 times the share of requests for keys of rank 0..=k.
    pub(crate) popularity: Vec<u64>,
    /// `FAR_NS`: for ever.
    pub(crate) ttl: u64,
    /// The first call site that asks it: names the draws that belong to it, for services may be renamed and added.
    pub(crate) asked_at: u32,
}

#[derive(Debug)]
pub(crate) struct OpP {
    pub(crate) first_path: u32,
    pub(crate) paths: u32,
}

#[derive(Debug)]
pub(crate) struct PathP {
    /// 2^64 times the share of this and all earlier paths of the operation.
    pub(crate) upto: u64,
    pub(crate) first_step: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum StepP {
    /// Own work. `error`: the operation's own error rate if no more work follows, for it strikes at the end of the last.
    Work { table: u32, error: Chance },
    /// One call, waited for or not.
    Call(u32),
    /// One call that is plain ([`HopP::plain`]) and that may be left out: look at the step's [`OptionP`].
    Optional(u32),
    /// Cache-aside.
    Lookup(u32),
    /// `count` branches that follow as `Call` or `Lookup` steps.
    Fork { count: u16, wait: Wait },
    /// The answer. `error`: the own error rate if no work came before.
    End { error: Chance },
}

/// A call site.
#[derive(Debug)]
pub(crate) struct SiteP {
    pub(crate) site: u32,
    pub(crate) edge: u32,
    pub(crate) target: TargetP,
    /// The called service, or topic.
    pub(crate) callee: u32,
    /// The first step there, if the operation has just one path; else `NONE`.
    pub(crate) first_step: u32,
    /// The replica that every try goes to, if there is never another; else `NONE`.
    pub(crate) replica: u32,
    pub(crate) fallback: u32,
    pub(crate) wait: bool,
    /// Made just once, whatever is drawn.
    pub(crate) once: bool,
    pub(crate) on_failure: Chance,
    /// (count, 2^64 x share up to here).
    pub(crate) times: Vec<(u16, u64)>,
}

/// Whether a call is made: four of them lie in a cache line, for a request may pass dozens of calls that it leaves out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OptionP {
    /// The draw that decides.
    pub(crate) draw: DrawName,
    /// It is left out if the draw is below this; 0 if the step is not [`StepP::Optional`].
    pub(crate) below: u64,
}

const _: () = assert!(size_of::<OptionP>() == 16 && size_of::<StepP>() == 16, "four in a cache line each");

/// A call site in one cache line: all that most calls need to know of their site, its edge and its operation.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct HopP {
    pub(crate) latency: u64,
    /// 0 = none.
    pub(crate) timeout: u64,
    pub(crate) timeout_lane: u16,
    pub(crate) request_lane: u16,
    pub(crate) reply_lane: u16,
    /// As [`EdgeP::inner`].
    pub(crate) inner: bool,
    /// One call of an operation, or perhaps none, over an edge that is not guarded, which is waited for.
    pub(crate) plain: bool,
    pub(crate) site: u32,
    pub(crate) edge: u32,
    pub(crate) callee: u32,
    /// As [`SiteP::replica`] and [`SiteP::first_step`].
    pub(crate) replica: u32,
    pub(crate) first_step: u32,
    pub(crate) first_path: u32,
    pub(crate) paths: u32,
}

const _: () = assert!(size_of::<HopP>() == 64, "one cache line");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetP {
    Op(u32),
    Topic,
}

#[derive(Debug)]
pub(crate) struct LookupP {
    pub(crate) ask: u32,
    pub(crate) origin: u32,
    /// `NONE`: stored without a message.
    pub(crate) fill: u32,
    /// The service that holds the contents.
    pub(crate) cache: u32,
    pub(crate) single_flight: bool,
}

/// An edge: what every try over it needs.
#[derive(Debug)]
pub(crate) struct EdgeP {
    pub(crate) latency: u64,
    /// 0 = none.
    pub(crate) timeout: u64,
    /// Lanes of the event queue.
    pub(crate) timeout_lane: u32,
    pub(crate) request_lane: u32,
    pub(crate) reply_lane: u32,
    /// The called service or topic, as a node.
    pub(crate) to_node: u32,
    pub(crate) from_node: u32,
    pub(crate) attempts: u32,
    /// Place of the first calling replica's budget, breaker and limits, if the edge is guarded.
    pub(crate) state_base: u32,
    /// Callers with a state of their own: replicas of the caller if the edge is guarded, else none.
    pub(crate) callers: u32,
    /// Not from an entry: counts for retry amplification.
    pub(crate) inner: bool,
    /// Has a budget, breaker, bulkhead, pool, hedging or deadline: look at its [`PolicyP`].
    pub(crate) guarded: bool,
}

/// An edge's policies.
#[derive(Debug)]
pub(crate) struct PolicyP {
    pub(crate) name: EdgeName,
    /// `waits[k]`: longest wait before the (k+2)th try.
    pub(crate) waits: Vec<u64>,
    pub(crate) max_wait: u64,
    pub(crate) jitter: Jitter,
    /// Bit per [`Cause`].
    pub(crate) retry_on: u8,
    pub(crate) budget: Option<BudgetP>,
    pub(crate) breaker: Option<BreakerP>,
    /// `FAR_NS` = none.
    pub(crate) deadline: u64,
    pub(crate) propagates: bool,
    pub(crate) hedge: Option<HedgeP>,
    /// `u32::MAX` = no bound.
    pub(crate) max_in_flight: u32,
    /// (connections, places to wait).
    pub(crate) pool: Option<(u32, u32)>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct HedgeP {
    pub(crate) after: u64,
    pub(crate) attempts: u16,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct BudgetP {
    pub(crate) per_first: u64,
    /// Tokens per nanosecond, 2^-32 of a [`TOKEN`].
    pub(crate) per_ns_q32: u64,
    pub(crate) cap: u64,
    pub(crate) initial: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct BreakerP {
    pub(crate) trips: TripsP,
    pub(crate) open: u64,
    pub(crate) probes: u32,
}

/// What opens a breaker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TripsP {
    /// The failed share (2^-16) of the last tries, once so many are known.
    Calls { window: u32, min_calls: u32, threshold_q16: u64 },
    /// The same of the tries of the last `window` nanoseconds.
    Time { window: u64, min_calls: u32, threshold_q16: u64 },
    /// This many failures one after the other.
    Consecutive(u32),
}

#[derive(Debug)]
pub(crate) struct TopicP {
    pub(crate) node: u32,
    /// The delivery's call.
    pub(crate) delivery: u32,
    pub(crate) concurrency: u32,
    /// 1 where the order is not promised: then one queue holds all.
    pub(crate) partitions: u32,
    pub(crate) per_key: bool,
    /// As [`CacheP::popularity`], of message keys.
    pub(crate) popularity: Vec<u64>,
    pub(crate) capacity: u32,
    pub(crate) full: Full,
    pub(crate) order_sensitive: bool,
    pub(crate) idempotent: bool,
    pub(crate) redelivery_delay: u64,
    pub(crate) max_deliveries: u32,
    /// `NONE` = no time.
    pub(crate) accept: u32,
}

impl PolicyP {
    /// How long to wait after try `attempt` (0 is the first) before the next one. `previous`: the wait before this try; `forced`: what a fault
    /// has put in the place of the policy's backoff; `bits`: the try's draw.
    pub(crate) fn wait(&self, attempt: u16, previous: u64, forced: Option<u64>, bits: u64) -> u64 {
        let waits = &self.waits;
        let base = forced.unwrap_or_else(|| waits[usize::from(attempt).min(waits.len() - 1)]);
        match self.jitter {
            Jitter::None => base,
            Jitter::Full => below(bits, base + 1),
            Jitter::Equal => base / 2 + below(bits, base - base / 2 + 1),
            Jitter::Decorrelated => {
                let least = forced.unwrap_or(waits[0]);
                let most = (previous.max(least).saturating_mul(3)).min(self.max_wait).max(least);
                least + below(bits, most - least + 1)
            }
        }
    }
}

impl EdgeP {
    /// What draws the path of a try: a service handles each anew, but what a user asks for stays the same when the user asks again.
    #[inline]
    pub(crate) fn luck(&self, key: Key, line: Key) -> Key {
        if self.inner { key } else { line }
    }
}

impl SiteP {
    /// How often a request makes the call.
    #[inline]
    pub(crate) fn times(&self, key: Key) -> u16 {
        if self.once {
            return 1;
        }
        let bits = key.draw(Purpose::Times, self.site);
        self.times.iter().find(|&&(_, upto)| bits <= upto).or(self.times.last()).map_or(1, |&(count, _)| count)
    }
}

/// On which of things of this popularity a draw falls.
#[inline]
pub(crate) fn popular(popularity: &[u64], bits: u64) -> u32 {
    (popularity.partition_point(|&upto| upto < bits) as u32).min(popularity.len() as u32 - 1)
}

/// The bit of a cause in [`EdgeP::retry_on`].
pub(crate) fn cause_bit(cause: Cause) -> u8 {
    match cause {
        Cause::Error => 1,
        Cause::Overload => 2,
        Cause::Timeout => 4,
        Cause::Connection => 8,
        Cause::BreakerOpen | Cause::Bulkhead => 0,
    }
}

impl Program {
    /// Compiles a model for a clock that knows whole multiples of `quantum` alone: whatever falls between two of them happens at the later
    /// one, and a message is under way for one at least. So the kernel can be compared with the hosted engine, request by request.
    ///
    /// # Errors
    /// As [`Program::compile`].
    pub fn compile_quantised(model: &Model, world: u32, quantum: Nanos) -> Result<Program, SimError> {
        let model = if world == 0 { model } else { &model.world(world) };
        Ok(Program(Arc::new(compile::tables(model, world, quantum.as_nanos())?)))
    }

    /// Compiles a model in one world. The model is taken to make sense (`models::check`); what does not resolve is an error.
    pub fn compile(model: &Model, world: u32) -> Result<Program, SimError> {
        Program::compile_quantised(model, world, Nanos::ZERO)
    }

    /// Names of the nodes that verdicts are about: entries, services, topics.
    pub fn node_names(&self) -> impl Iterator<Item = &str> {
        self.0.nodes.iter().map(|node| node.name.as_str())
    }

    /// The world it was compiled in.
    pub fn world(&self) -> u32 {
        self.0.world
    }
}

/// A duration in nanoseconds, at most [`FAR_NS`].
pub(crate) fn ns(duration: Nanos) -> u64 {
    duration.as_nanos().min(FAR_NS)
}
