//! Random systems and faults as the YAML that people write.
//!
//! You are here: `random_models` has the values. Services call only services after them, so every request ends. A [`Style`] writes the same
//! system with other names, or with all times multiplied by a power of two.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use crate::random_models::{Control, Edge, Fault, Service, Shape, Step, System, Topic, Us, Work};

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

/// A failing case shows itself as the model that can be run.
impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}", Text::file(&[&self.text(&PLAIN)]))
    }
}

impl System {
    /// The same without what has a scale of its own: contention by the arrivals of the last second; and closed loops, in which a nanosecond
    /// that decides a tie is fed back for ever.
    pub fn without_scale(mut self) -> System {
        if let Shape::Closed { .. } = self.shape {
            self.shape = Shape::Steady;
        }
        for service in &mut self.services {
            service.control = service.control.take().filter(|control| !matches!(control, Control::ArrivalRate(_)));
        }
        self
    }

    pub fn text(&self, style: &Style) -> Text {
        let mut writer = Writer { system: self, style: *style, used: BTreeSet::new() };
        let users = Place::Users;
        writer.used.insert((users, Place::Service(0)));
        writer.used.insert((Place::Topic, Place::Service(self.services.len() - 1)));
        let workload = format!(
            "  {}: {{ to: {}, {} }}\n",
            style.quoted(users),
            writer.operation(Place::Service(0), "op"),
            self.users(style)
        );
        let mut services: String = (0..self.services.len()).map(|i| writer.service(i)).collect();
        let _ = writeln!(
            services,
            "  {}: {{ workers: 4, cache: {{ capacity: 20, keys: {}, zipf: 1.0{} }}, operations: {{ get: {{ paths: [ {{ steps: [ {{ work: {{ \
             exponential: {} }} }} ] }} ] }}, put: {{ paths: [ {{ steps: [] }} ] }} }} }}",
            style.quoted(Place::Cache),
            self.cache_keys,
            self.ttl.map_or(String::new(), |ttl| format!(", ttl: {}", style.time(ttl))),
            style.time(300)
        );
        let topics = format!(
            "  {}: {{ consumer: {}, concurrency: {}, redelivery_delay: {}, max_deliveries: 3, capacity: {}{} }}\n",
            style.quoted(Place::Topic),
            writer.operation(Place::Service(self.services.len() - 1), "op"),
            self.concurrency,
            style.time(self.redelivery),
            bound(self.capacity, "unbounded"),
            self.topic.text(),
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
        if let Some(more) = edge.limits(style) {
            text += &more;
        }
        if edge.hedge.is_some() {
            return text + " }\n"; // it excludes retries, and what a breaker makes of them is another edge's matter
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
            let trips = match edge.trips {
                1 => {
                    format!("window: {}, min_calls: 3, threshold: 0.5", style.time(u64::from(window) * 100_000))
                }
                2 => format!("consecutive: {window}"),
                _ => format!("window: {window}, min_calls: {window}, threshold: 0.5"),
            };
            let _ = write!(text, ", breaker: {{ {trips}, open: {open}, probes: 2 }}");
        }
        text + " }\n"
    }

    fn users(&self, style: &Style) -> String {
        let steady = format!("rate: {}/s", style.rate(f64::from(self.rate)));
        match &self.shape {
            Shape::Curve { at, factor } => {
                let repeat = style.time(at * 2);
                format!("open: {{ {steady}, curve: {{ steps: {{ 0s: 1, {}: {factor} }}, repeat: {repeat} }} }}", style.time(*at))
            }
            Shape::Bursts { every, factor } => {
                let (every, lasting) = (style.time(*every), style.time(every / 4));
                format!("open: {{ {steady}, bursts: {{ every: {every}, lasting: {lasting}, factor: {factor} }} }}")
            }
            Shape::Closed { users, think } => {
                format!("closed: {{ users: {users}, think: {} }}", style.work(think))
            }
            Shape::Steady => format!("open: {{ {steady} }}"),
        }
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
        let cache = style.quoted(Place::Cache);
        let probability = || format!("probability: {size}");
        let mut kinds: Vec<(&str, &str, String)> = vec![
            ("latency", &edge, format!("add: {}", time(size))),
            ("latency", &edge, format!("jitter: {}, delivers_abandoned: true", time(size))),
            ("connection_drop", &edge, probability()),
            ("black_hole", &edge, String::new()),
            ("retries", &edge, format!("attempts: {}, backoff: {}", 2 + fault.place % 4, time(size / 10.0))),
            ("errors", &service, probability()),
            ("slow", &service, format!("factor: {}", 1.0 + 8.0 * size)),
            ("crash", &service, format!("replicas: {replicas}")),
            ("crash", &service, "black_hole: true".into()),
            ("workers_lost", &service, format!("keep: {size}")),
            ("surge", &users, format!("factor: {}", 3.0 * size)),
            ("delay", &topic, format!("add: {}, jitter: {}", time(size), time(size))),
            ("reorder", &topic, format!("probability: {size}, within: {}", time(size))),
            ("consumer_stall", &topic, String::new()),
            ("crash", &topic, String::new()),
            ("crash", &cache, String::new()),
        ];
        let leg = ["request", "reply", "both"][fault.place % 3];
        kinds.extend([
            ("latency", &*edge, format!("distribution: {{ exponential: {} }}, leg: {leg}", time(size))),
            ("black_hole", &edge, format!("leg: {leg}")),
            ("loss", &edge, format!("probability: {}, retransmit: {}", size / 2.0, time(size))),
            ("bandwidth", &edge, format!("bytes_per_s: {}, request_bytes: 1000", style.rate(20_000.0 * size))),
            ("timeout", &edge, format!("to: {}", time(size / 4.0))),
            ("pause", &service, String::new()),
            ("replicas_lost", &service, format!("replicas: {replicas}")),
            ("queue_shrunk", &service, format!("to: {}", fault.place % 4)),
            ("leak", &service, format!("growth: {}", style.rate((64.0 * size).ceil() / 16.0))),
            ("flush", &cache, format!("share: {size}")),
            ("hit_ratio_drop", &cache, format!("keep: {size}")),
            ("duplicate", &topic, probability()),
            ("message_loss", &topic, probability()),
            ("slow_consumer", &topic, format!("factor: {}", 1.0 + 8.0 * size)),
            ("poison", &topic, probability()),
            ("reload", &users, format!("after: {}, attempts: {}", time(size), 2 + fault.place % 3)),
        ]);
        if let Shape::Closed { .. } = self.shape {
            kinds.retain(|(kind, ..)| *kind != "surge");
        }
        let (kind, target, magnitude) = &kinds[fault.kind % kinds.len()];
        let (start, duration) = (style.time(fault.start), style.time(fault.duration));
        let has_degrees =
            ["latency", "connection_drop", "loss", "errors", "slow", "workers_lost", "surge", "delay", "duplicate", "poison"];
        let ramps = if fault.ramp && has_degrees.contains(kind) {
            format!(", ramp_up: {}, ramp_down: {}", style.time(fault.duration / 2), style.time(fault.duration / 4))
        } else {
            String::new()
        };
        let magnitude = if magnitude.is_empty() { String::new() } else { format!(", magnitude: {{ {magnitude} }}") };
        format!("{{ kind: {kind}, target: {target}, start: {start}, duration: {duration}{ramps}{magnitude} }}")
    }
}

impl Topic {
    fn text(&self) -> String {
        format!(
            ", partitions: {}, keys: {{ count: {}, zipf: 0.5 }}, order: {}, full: {}, order_sensitive: {}, idempotent: {}",
            self.partitions,
            self.keys,
            if self.per_key { "per_key" } else { "none" },
            self.full,
            self.sensitive,
            self.idempotent
        )
    }
}

impl Edge {
    /// Deadline, hedging, bulkhead and pool, if there is any of them.
    fn limits(&self, style: &Style) -> Option<String> {
        let mut text = String::new();
        if let Some((deadline, propagate)) = self.deadline {
            let _ = write!(text, ", deadline: {}, propagate_deadline: {propagate}", style.time(deadline));
        }
        if let Some(after) = self.hedge {
            let _ = write!(text, ", hedge: {{ after: {}, attempts: 2 }}", style.time(after));
        }
        if let Some(max) = self.max_in_flight {
            let _ = write!(text, ", max_in_flight: {max}");
        }
        if let Some((connections, waiting)) = self.pool {
            let _ = write!(text, ", pool: {{ connections: {connections}, waiting: {} }}", bound(waiting, "unbounded"));
        }
        (!text.is_empty()).then_some(text)
    }
}

impl Service {
    /// What it does about its load, if anything.
    fn more(&self, style: &Style) -> String {
        let mut text = format!(", shed_expired: {}", self.shed_expired);
        let control = match &self.control {
            None => String::new(),
            Some(Control::CoDel(t)) => format!(", codel: {{ target: {}, interval: {} }}", style.time(*t), style.time(t * 10)),
            Some(Control::Aimd(t)) => {
                format!(
                    ", adaptive_limit: {{ aimd: {{ latency: {}, backoff: 0.8 }}, initial: 5, min: 1, max: 50 }}",
                    style.time(*t)
                )
            }
            Some(Control::Gradient(tolerance)) => {
                format!(", adaptive_limit: {{ gradient: {{ tolerance: {tolerance} }}, initial: 5, min: 1, max: 50 }}")
            }
            Some(Control::InProgress(t)) => format!(", contention: {{ in_progress: {{ add: {} }} }}", style.time(*t)),
            Some(Control::ArrivalRate(above)) => {
                format!(", contention: {{ arrival_rate: {{ above: {}/s, factor: 3 }} }}", style.rate(*above))
            }
            // It looks at how busy its workers are.
            Some(Control::Autoscale(_)) if self.workers.is_none() => String::new(),
            Some(Control::Autoscale(t)) => format!(
                ", autoscale: {{ target: 0.5, min: 1, max: 5, every: {}, start_up: {}, down_after: {} }}",
                style.time(*t),
                style.time(t / 2),
                style.time(t * 3)
            ),
        };
        text += &control;
        if let Some(lasting) = self.warm_up {
            let _ = write!(text, ", warm_up: {{ lasting: {}, factor: 3 }}", style.time(lasting));
        }
        if let Some(after) = self.health_check {
            let _ = write!(text, ", health_check: {{ down_after: {}, up_after: {} }}", style.time(after), style.time(after / 3));
        }
        text
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
            "  {}: {{ replicas: {}, workers: {}, queue: {}, discipline: {}, mode: {}, balance: {}, cancel_on_disconnect: {}{}, operations: {{ op: \
             {{ error_rate: {}, paths: [ {} ] }} }} }}\n",
            self.style.quoted(Place::Service(i)),
            service.replicas,
            bound(service.workers, "unlimited"),
            bound(service.queue, "unbounded"),
            if service.lifo { "lifo" } else { "fifo" },
            if service.is_async { "async" } else { "blocking" },
            service.balance,
            service.cancel,
            service.more(&self.style),
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
            Step::Lookup { origin, fill, single_flight } => match self.later(i, *origin) {
                Some(origin) => {
                    self.used.insert((Place::Service(i), Place::Cache));
                    let put = self.operation(Place::Cache, "put");
                    let mut fill = if *fill { format!(", fill: {{ to: {put} }}") } else { String::new() };
                    if *single_flight {
                        fill += ", single_flight: true";
                    }
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
