//! Small random systems and faults, as values that shrink, written as the YAML that people write.
//!
//! You are here: the generator behind `properties`. Services call only services after them, so every request ends. A [`Style`] writes the
//! same system with other names, or with all times multiplied by a power of two.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// A time in microseconds.
type Us = u64;

/// A random system: `users` ask `s0`; `cache` and `topic` are there for who looks up and publishes; the last service consumes the topic.
#[derive(Clone, Debug)]
pub struct System {
    pub rate: u32,
    pub services: Vec<Service>,
    /// Policies that edges choose from.
    pub edges: Vec<Edge>,
    pub cache_keys: u32,
    pub concurrency: u32,
    pub redelivery: Us,
    pub capacity: Option<u32>,
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
    Lookup { origin: usize, fill: bool },
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
}

pub fn system() -> impl Strategy<Value = System> {
    let bounds = (1u32..60, 1u32..4, 0..20_000u64, option::of(1u32..20));
    (20u32..60, vec(service(), 2..6), vec(edge(), 1..6), bounds).prop_map(|(rate, services, edges, bounds)| {
        let (cache_keys, concurrency, redelivery, capacity) = bounds;
        System { rate, services, edges, cache_keys, concurrency, redelivery, capacity }
    })
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
    (size, manner, vec((1u32..5, vec(step(), 1..4)), 1..3)).prop_map(|(size, manner, paths)| {
        let (replicas, workers, queue) = size;
        let (lifo, is_async, balance, cancel, error_rate) = manner;
        Service { replicas, workers, queue, lifo, is_async, balance, cancel, error_rate, paths }
    })
}

fn branch() -> impl Strategy<Value = Step> {
    let share = prop::sample::select(vec![0.0, 0.5, 1.0]);
    let call = (0usize..8, 0u32..3, share, prop::bool::weighted(0.9), option::weighted(0.2, 0usize..8));
    prop_oneof![
        4 => call.prop_map(|(to, times, on_failure, wait, fallback)| Step::Call { to, times, on_failure, wait, fallback }),
        1 => (0usize..8, any::<bool>()).prop_map(|(origin, fill)| Step::Lookup { origin, fill }),
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
    (times, retry, option::weighted(0.3, (2u32..20, 50_000..1_000_000u64))).prop_map(|(times, retry, breaker)| {
        let (latency, timeout) = times;
        let (attempts, backoff, factor, jitter, budget) = retry;
        Edge { latency, timeout, attempts, backoff, factor, jitter, budget, breaker }
    })
}

/// Up to three faults between 1 s and 7 s.
pub fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let one = (0usize..64, 0usize..64, 1_000_000..5_000_000u64, 200_000..2_000_000u64, 0.05..0.95f64);
    vec(one.prop_map(|(kind, place, start, duration, size)| Fault { kind, place, start, duration, size }), 1..4)
}

/// How a system is written down.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub prefix: &'static str,
    /// Names that sort the other way round.
    pub renamed: bool,
    /// All times are multiplied by 2^doublings, all rates divided by it.
    pub doublings: u32,
}

pub const PLAIN: Style = Style { prefix: "", renamed: false, doublings: 0 };

/// The sections of a model file.
#[derive(Clone, Debug, Default)]
pub struct Text {
    pub workload: String,
    pub services: String,
    pub topics: String,
    pub edges: String,
    /// Callers and callees that calls run between, as places: users, services, cache, topic.
    pub used: Vec<(Place, Place)>,
}

impl Text {
    /// The file that holds all of these systems side by side.
    pub fn file(parts: &[&Text]) -> String {
        let mut file = String::from("version: 1\n");
        for (section, text) in [
            ("workload", parts.iter().map(|t| t.workload.as_str()).collect::<String>()),
            ("services", parts.iter().map(|t| t.services.as_str()).collect()),
            ("topics", parts.iter().map(|t| t.topics.as_str()).collect()),
            ("edges", parts.iter().map(|t| t.edges.as_str()).collect()),
        ] {
            if !text.is_empty() {
                let _ = write!(file, "{section}:\n{text}");
            }
        }
        file
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Users,
    Service(usize),
    Cache,
    Topic,
}

impl Style {
    pub fn name(&self, place: Place) -> String {
        let name = match (place, self.renamed) {
            (Place::Users, false) => "users".into(),
            (Place::Service(i), false) => format!("s{i}"),
            (Place::Cache, false) => "cache".into(),
            (Place::Topic, false) => "topic".into(),
            (Place::Users, true) => "who comes".into(),
            (Place::Service(i), true) => format!("{}.service", (b'z' - i as u8) as char),
            (Place::Cache, true) => "a shelf".into(),
            (Place::Topic, true) => "0 post".into(),
        };
        format!("{}{name}", self.prefix)
    }

    fn quoted(&self, place: Place) -> String {
        format!("{:?}", self.name(place))
    }

    pub fn time(&self, us: Us) -> String {
        format!("{}ns", (us * 1_000) << self.doublings)
    }

    pub fn rate(&self, per_s: f64) -> f64 {
        per_s / f64::from(1u32 << self.doublings)
    }

    pub fn work(&self, work: &Work) -> String {
        match *work {
            Work::Constant(t) => format!("{{ constant: {} }}", self.time(t)),
            Work::Exponential(t) => format!("{{ exponential: {} }}", self.time(t)),
            Work::Lognormal(p50, p99) => format!("{{ lognormal: {{ p50: {}, p99: {} }} }}", self.time(p50), self.time(p99)),
            Work::Quantiles(a, b, c) => {
                format!("{{ quantiles: {{ 0: {}, 50: {}, 100: {} }} }}", self.time(a), self.time(b), self.time(c))
            }
        }
    }
}

impl System {
    pub fn text(&self, style: &Style) -> Text {
        let mut writer = Writer { system: self, style: *style, used: BTreeSet::new() };
        let users = Place::Users;
        writer.used.insert((users, Place::Service(0)));
        writer.used.insert((Place::Topic, Place::Service(self.services.len() - 1)));
        let workload = format!(
            "  {}: {{ to: {}, open: {{ rate: {}/s }} }}\n",
            style.quoted(users),
            writer.operation(Place::Service(0), "op"),
            style.rate(f64::from(self.rate))
        );
        let mut services: String = (0..self.services.len()).map(|i| writer.service(i)).collect();
        let _ = writeln!(
            services,
            "  {}: {{ workers: 4, cache: {{ capacity: 20, keys: {}, zipf: 1.0 }}, operations: {{ get: {{ paths: [ {{ steps: [ {{ work: {{ \
             exponential: {} }} }} ] }} ] }}, put: {{ paths: [ {{ steps: [] }} ] }} }} }}",
            style.quoted(Place::Cache),
            self.cache_keys,
            style.time(300)
        );
        let topics = format!(
            "  {}: {{ consumer: {}, concurrency: {}, redelivery_delay: {}, max_deliveries: 3, capacity: {} }}\n",
            style.quoted(Place::Topic),
            writer.operation(Place::Service(self.services.len() - 1), "op"),
            self.concurrency,
            style.time(self.redelivery),
            bound(self.capacity, "unbounded"),
        );
        let used: Vec<(Place, Place)> = writer.used.iter().copied().collect();
        let edges = used.iter().map(|&(from, to)| self.edge(style, from, to)).collect();
        Text { workload, services, topics, edges, used }
    }

    fn edge(&self, style: &Style, from: Place, to: Place) -> String {
        let number = |place| match place {
            Place::Users => 0,
            Place::Service(i) => i + 3,
            Place::Cache => 1,
            Place::Topic => 2,
        };
        let edge = &self.edges[(number(from) * 7 + number(to) * 3) % self.edges.len()];
        let mut text =
            format!("  {:?}: {{ latency: {}", format!("{}->{}", style.name(from), style.name(to)), style.time(edge.latency));
        if let Some(timeout) = edge.timeout {
            let _ = write!(text, ", timeout: {}", style.time(timeout));
        }
        let _ = write!(
            text,
            ", retry: {{ attempts: {}, backoff: {}, factor: {}, max: {}, jitter: {}",
            edge.attempts,
            style.time(edge.backoff),
            edge.factor,
            style.time(edge.backoff * 2),
            edge.jitter
        );
        if let Some((ratio, cap)) = edge.budget {
            let _ = write!(text, ", budget: {{ ratio: {ratio}, cap: {cap}, min_per_s: {} }}", style.rate(0.5));
        }
        text += " }";
        if let Some((window, open)) = edge.breaker {
            let open = style.time(open);
            let _ =
                write!(text, ", breaker: {{ window: {window}, min_calls: {window}, threshold: 0.5, open: {open}, probes: 2 }}");
        }
        text + " }\n"
    }

    /// A scenario of these faults in a scenario file's list.
    pub fn scenario(&self, id: &str, faults: &[Fault], style: &Style) -> String {
        let text = self.text(style);
        let faults: Vec<String> = faults.iter().map(|fault| self.fault(fault, style, &text)).collect();
        format!("  - {{ id: {id}, faults: [ {} ] }}\n", faults.join(", "))
    }

    fn fault(&self, fault: &Fault, style: &Style, text: &Text) -> String {
        let (from, to) = text.used[fault.place % text.used.len()];
        let edge = format!("{:?}", format!("{}->{}", style.name(from), style.name(to)));
        let s = fault.place % self.services.len();
        let service = style.quoted(Place::Service(s));
        let (topic, users) = (style.quoted(Place::Topic), style.quoted(Place::Users));
        let size = fault.size;
        let time = |share: f64| style.time((share * 200_000.0) as Us);
        let replicas = 1 + fault.place as u32 % self.services[s].replicas;
        let kinds: [(&str, &str, String); 16] = [
            ("latency", &edge, format!("add: {}", time(size))),
            ("latency", &edge, format!("jitter: {}, delivers_abandoned: true", time(size))),
            ("connection_drop", &edge, format!("probability: {size}")),
            ("black_hole", &edge, String::new()),
            ("retries", &edge, format!("attempts: {}, backoff: {}", 2 + fault.place % 4, time(size / 10.0))),
            ("errors", &service, format!("probability: {size}")),
            ("slow", &service, format!("factor: {}", 1.0 + 8.0 * size)),
            ("crash", &service, format!("replicas: {replicas}")),
            ("crash", &service, "black_hole: true".into()),
            ("workers_lost", &service, format!("keep: {size}")),
            ("surge", &users, format!("factor: {}", 3.0 * size)),
            ("delay", &topic, format!("add: {}, jitter: {}", time(size), time(size))),
            ("reorder", &topic, format!("probability: {size}, within: {}", time(size))),
            ("consumer_stall", &topic, String::new()),
            ("crash", &topic, String::new()),
            ("crash", &style.quoted(Place::Cache), String::new()),
        ];
        let (kind, target, magnitude) = &kinds[fault.kind % kinds.len()];
        let (start, duration) = (style.time(fault.start), style.time(fault.duration));
        let magnitude = if magnitude.is_empty() { String::new() } else { format!(", magnitude: {{ {magnitude} }}") };
        format!("{{ kind: {kind}, target: {target}, start: {start}, duration: {duration}{magnitude} }}")
    }
}

struct Writer<'a> {
    system: &'a System,
    style: Style,
    used: BTreeSet<(Place, Place)>,
}

impl Writer<'_> {
    fn operation(&self, place: Place, operation: &str) -> String {
        format!("{{ service: {}, operation: {operation} }}", self.style.quoted(place))
    }

    fn service(&mut self, i: usize) -> String {
        let service = &self.system.services[i];
        let mut paths = Vec::new();
        for (weight, steps) in &service.paths {
            let steps: Vec<String> = steps.iter().map(|step| self.step(i, step)).collect();
            paths.push(format!("{{ weight: {weight}, steps: [ {} ] }}", steps.join(", ")));
        }
        format!(
            "  {}: {{ replicas: {}, workers: {}, queue: {}, discipline: {}, mode: {}, balance: {}, cancel_on_disconnect: {}, operations: {{ op: \
             {{ error_rate: {}, paths: [ {} ] }} }} }}\n",
            self.style.quoted(Place::Service(i)),
            service.replicas,
            bound(service.workers, "unlimited"),
            bound(service.queue, "unbounded"),
            if service.lifo { "lifo" } else { "fifo" },
            if service.is_async { "async" } else { "blocking" },
            service.balance,
            service.cancel,
            service.error_rate,
            paths.join(", ")
        )
    }

    /// The service after `i` that a call with this number goes to; `None` from the last one.
    fn later(&mut self, i: usize, number: usize) -> Option<Place> {
        let after = self.system.services.len() - 1 - i;
        (after > 0).then(|| {
            let to = Place::Service(i + 1 + number % after);
            self.used.insert((Place::Service(i), to));
            to
        })
    }

    fn step(&mut self, i: usize, step: &Step) -> String {
        let is_last = i + 1 == self.system.services.len();
        match step {
            Step::Work(work) => format!("{{ work: {} }}", self.style.work(work)),
            Step::Parallel { wait, branches } if !is_last => {
                let branches: Vec<String> = branches.iter().map(|branch| self.step(i, branch)).collect();
                let wait = match wait {
                    0 => "all".into(),
                    1 => "first".into(),
                    n => format!("{{ quorum: {} }}", (*n as usize - 1).clamp(1, branches.len())),
                };
                format!("{{ parallel: {{ wait: {wait}, branches: [ {} ] }} }}", branches.join(", "))
            }
            Step::Publish if !is_last => {
                self.used.insert((Place::Service(i), Place::Topic));
                format!("{{ publish: {} }}", self.style.quoted(Place::Topic))
            }
            Step::Lookup { origin, fill } => match self.later(i, *origin) {
                Some(origin) => {
                    self.used.insert((Place::Service(i), Place::Cache));
                    let put = self.operation(Place::Cache, "put");
                    let fill = if *fill { format!(", fill: {{ to: {put} }}") } else { String::new() };
                    let (get, origin) = (self.operation(Place::Cache, "get"), self.operation(origin, "op"));
                    format!("{{ lookup: {{ cache: {{ to: {get} }}, origin: {{ to: {origin} }}{fill} }} }}")
                }
                None => self.rest(),
            },
            Step::Call { to, times, on_failure, wait, fallback } => match self.later(i, *to) {
                Some(to) => {
                    let fallback = fallback
                        .and_then(|to| self.later(i, to))
                        .map_or(String::new(), |to| format!(", fallback: {{ to: {} }}", self.operation(to, "op")));
                    let to = self.operation(to, "op");
                    format!("{{ call: {{ to: {to}, times: {times}, on_failure: {on_failure}, wait: {wait}{fallback} }} }}")
                }
                None => self.rest(),
            },
            Step::Parallel { .. } | Step::Publish => self.rest(),
        }
    }

    /// What the last service does instead of calling.
    fn rest(&self) -> String {
        format!("{{ work: {{ exponential: {} }} }}", self.style.time(2_000))
    }
}

fn bound(limit: Option<u32>, none: &str) -> String {
    limit.map_or(none.into(), |n| n.to_string())
}
