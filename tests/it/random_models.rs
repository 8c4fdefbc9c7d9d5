//! Small random systems and faults, as values that shrink.
//!
//! You are here: the generator behind `properties`; `random_text` writes what it makes as YAML.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// A time in microseconds.
pub type Us = u64;

/// A random system: `users` ask `s0`; `cache` and `topic` are there for who looks up and publishes; the last service consumes the topic.
#[derive(Clone)]
pub struct System {
    pub rate: u32,
    pub shape: Shape,
    pub services: Vec<Service>,
    /// Policies that edges choose from.
    pub edges: Vec<Edge>,
    pub cache_keys: u32,
    pub concurrency: u32,
    pub redelivery: Us,
    pub capacity: Option<u32>,
    pub topic: Topic,
    pub ttl: Option<Us>,
}

/// How users come in.
#[derive(Clone, Debug)]
pub enum Shape {
    Steady,
    Curve { at: Us, factor: f64 },
    Bursts { every: Us, factor: f64 },
    Closed { users: u32, think: Work },
}

#[derive(Clone, Debug)]
pub struct Topic {
    pub partitions: u32,
    pub keys: u32,
    pub per_key: bool,
    pub full: &'static str,
    pub sensitive: bool,
    pub idempotent: bool,
}

#[derive(Clone, Debug)]
pub struct Service {
    pub replicas: u32,
    pub workers: Option<u32>,
    pub queue: Option<u32>,
    pub lifo: bool,
    pub is_async: bool,
    pub balance: &'static str,
    pub cancel: bool,
    pub error_rate: f64,
    pub paths: Vec<(u32, Vec<Step>)>,
    pub control: Option<Control>,
    pub shed_expired: bool,
    /// How long a replica that has just started is slower.
    pub warm_up: Option<Us>,
    /// How long callers go on choosing one that is down.
    pub health_check: Option<Us>,
}

/// What a service does about its load, or its load to it.
#[derive(Clone, Debug)]
pub enum Control {
    CoDel(Us),
    Aimd(Us),
    Gradient(f64),
    InProgress(Us),
    ArrivalRate(f64),
    Autoscale(Us),
}

#[derive(Clone, Debug)]
pub enum Work {
    Constant(Us),
    Exponential(Us),
    Lognormal(Us, Us),
    Quantiles(Us, Us, Us),
}

#[derive(Clone, Debug)]
pub enum Step {
    Work(Work),
    Call { to: usize, times: u32, on_failure: f64, wait: bool, fallback: Option<usize> },
    Parallel { wait: u32, branches: Vec<Step> },
    Lookup { origin: usize, fill: bool, single_flight: bool },
    Publish,
}

#[derive(Clone, Debug)]
pub struct Edge {
    pub latency: Us,
    pub timeout: Option<Us>,
    pub attempts: u32,
    pub backoff: Us,
    pub factor: u32,
    pub jitter: &'static str,
    pub budget: Option<(f64, f64)>,
    /// Window, opening time.
    pub breaker: Option<(u32, Us)>,
    /// 0: by number of tries, 1: by time, 2: by failures in a row.
    pub trips: u32,
    pub deadline: Option<(Us, bool)>,
    pub hedge: Option<Us>,
    pub max_in_flight: Option<u32>,
    pub pool: Option<(u32, Option<u32>)>,
}

/// A fault by numbers: `kind` and `place` are taken modulo what there is.
#[derive(Clone, Debug)]
pub struct Fault {
    pub kind: usize,
    pub place: usize,
    pub start: Us,
    pub duration: Us,
    /// 0..1: how hard it strikes.
    pub size: f64,
    pub ramp: bool,
}

pub fn system() -> impl Strategy<Value = System> {
    let bounds = (1u32..60, 1u32..4, 0..20_000u64, option::of(1u32..20), option::of(10_000..2_000_000u64));
    (40u32..120, shape(), vec(service(), 2..6), vec(edge(), 1..6), bounds, topic()).prop_map(
        |(rate, shape, services, edges, bounds, topic)| {
            let (cache_keys, concurrency, redelivery, capacity, ttl) = bounds;
            System { rate, shape, services, edges, cache_keys, concurrency, redelivery, capacity, topic, ttl }
        },
    )
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        3 => Just(Shape::Steady),
        1 => (500_000..4_000_000u64, 0.0..3.0f64).prop_map(|(at, factor)| Shape::Curve { at, factor }),
        1 => (500_000..2_000_000u64, 0.0..6.0f64).prop_map(|(every, factor)| Shape::Bursts { every, factor }),
        1 => (1u32..12, work()).prop_map(|(users, think)| Shape::Closed { users, think }),
    ]
}

fn topic() -> impl Strategy<Value = Topic> {
    let full = prop::sample::select(vec!["reject", "block", "drop_oldest"]);
    (1u32..4, 1u32..10, any::<bool>(), full, any::<bool>(), any::<bool>()).prop_map(
        |(partitions, keys, per_key, full, sensitive, idempotent)| Topic {
            partitions,
            keys,
            per_key,
            full,
            sensitive,
            idempotent,
        },
    )
}

fn control() -> impl Strategy<Value = Control> {
    prop_oneof![
        (1_000..20_000u64).prop_map(Control::CoDel),
        (5_000..100_000u64).prop_map(Control::Aimd),
        (1.0..3.0f64).prop_map(Control::Gradient),
        (10..3_000u64).prop_map(Control::InProgress),
        (5.0..60.0f64).prop_map(Control::ArrivalRate),
        (200_000..1_000_000u64).prop_map(Control::Autoscale),
    ]
}

pub fn work() -> impl Strategy<Value = Work> {
    prop_oneof![
        (0..20_000u64).prop_map(Work::Constant),
        (1..20_000u64).prop_map(Work::Exponential),
        (100..10_000u64, 1..40_000u64).prop_map(|(p50, more)| Work::Lognormal(p50, p50 + more)),
        (0..5_000u64, 0..5_000u64, 0..20_000u64).prop_map(|(a, b, c)| Work::Quantiles(a, a + b, a + b + c)),
    ]
}

fn service() -> impl Strategy<Value = Service> {
    let size = (1u32..4, option::weighted(0.8, 1u32..4), option::weighted(0.7, 0u32..12));
    let balance = prop::sample::select(vec!["round_robin", "random", "least_outstanding", "two_choices"]);
    let error_rate = prop::sample::select(vec![0.0, 0.0, 0.05, 0.3]);
    let manner = (any::<bool>(), any::<bool>(), balance, any::<bool>(), error_rate);
    let more = (
        option::weighted(0.4, control()),
        any::<bool>(),
        option::weighted(0.3, 100_000..2_000_000u64),
        option::weighted(0.3, 100_000..2_000_000u64),
    );
    (size, manner, vec((1u32..5, vec(step(), 1..4)), 1..3), more).prop_map(|(size, manner, paths, more)| {
        let (replicas, workers, queue) = size;
        let (lifo, is_async, balance, cancel, error_rate) = manner;
        let (control, shed_expired, warm_up, health_check) = more;
        Service {
            replicas,
            workers,
            queue,
            lifo,
            is_async,
            balance,
            cancel,
            error_rate,
            paths,
            control,
            shed_expired,
            warm_up,
            health_check,
        }
    })
}

fn branch() -> impl Strategy<Value = Step> {
    let share = prop::sample::select(vec![0.0, 0.5, 1.0]);
    let call = (0usize..8, 0u32..3, share, prop::bool::weighted(0.9), option::weighted(0.2, 0usize..8));
    prop_oneof![
        4 => call.prop_map(|(to, times, on_failure, wait, fallback)| Step::Call { to, times, on_failure, wait, fallback }),
        1 => (0usize..8, any::<bool>(), any::<bool>())
            .prop_map(|(origin, fill, single_flight)| Step::Lookup { origin, fill, single_flight }),
        1 => Just(Step::Publish),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => work().prop_map(Step::Work),
        3 => branch(),
        1 => (0u32..4, vec(branch(), 1..4)).prop_map(|(wait, branches)| Step::Parallel { wait, branches }),
    ]
}

fn edge() -> impl Strategy<Value = Edge> {
    let jitter = prop::sample::select(vec!["none", "full", "equal", "decorrelated"]);
    let retry = (1u32..4, 0..20_000u64, 1u32..4, jitter, option::of((0.0..0.5f64, 1.0..10.0f64)));
    let times = (0..3_000u64, option::weighted(0.7, 5_000..200_000u64));
    let limits = (
        option::weighted(0.2, (10_000..300_000u64, any::<bool>())),
        option::weighted(0.2, 2_000..50_000u64),
        option::weighted(0.2, 1u32..8),
        option::weighted(0.2, (1u32..6, option::of(0u32..6))),
    );
    let breaker = (option::weighted(0.3, (2u32..20, 50_000..1_000_000u64)), 0u32..3);
    (times, retry, breaker, limits).prop_map(|(times, retry, (breaker, trips), limits)| {
        let (latency, timeout) = times;
        let (attempts, backoff, factor, jitter, budget) = retry;
        let (deadline, hedge, max_in_flight, pool) = limits;
        Edge { latency, timeout, attempts, backoff, factor, jitter, budget, breaker, trips, deadline, hedge, max_in_flight, pool }
    })
}

/// Up to three faults between 1 s and 7 s.
pub fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let one = (0usize..64, 0usize..64, 1_000_000..5_000_000u64, 200_000..2_000_000u64, 0.05..0.95f64, any::<bool>());
    vec(one.prop_map(|(kind, place, start, duration, size, ramp)| Fault { kind, place, start, duration, size, ramp }), 1..4)
}
