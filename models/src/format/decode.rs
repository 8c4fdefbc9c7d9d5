//! A document becomes a model: key by key, every mistake collected.
//!
//! You are here: `models::format::decode`. [`model`] starts from nothing; `overlay` lays a document over a learned model with the
//! same code, for every reader here takes what was there before and changes what the document says.
//! Always true: which keys are known is said by the [`Shape`]s alone, and a test holds the JSON Schema against them.
//! Not here: steps of paths (`steps`), and whether the whole makes sense ([`crate::check`]).

pub(super) mod steps;

use std::collections::BTreeSet;

use indexmap::IndexMap;

use crate::error::InputErrors;
use crate::format::cursor::{Cursor, Fields, Mistakes, PARAM, Shape};
use crate::format::doc::{Node, Value};
use crate::format::read_version;
use crate::names::OperationNames;
use crate::param::{Limit, Param};
use crate::system::*;
use crate::units::Nanos;

/// Every kind of map that a model file may hold.
pub const SHAPES: &[&Shape] = &[
    &MODEL,
    &LEARNED,
    &ENTRY,
    &OPEN,
    &SERVICE,
    &CACHE,
    &OPERATION,
    &OBSERVED,
    &EDGE,
    &RETRY,
    &BUDGET,
    &BREAKER,
    &OBSERVED_EDGE,
    &TOPIC,
    &PARAM,
    &steps::PATH,
    &steps::STEP,
    &steps::WORK,
    &steps::LOGNORMAL,
    &steps::CALL,
    &steps::OPERATION_NAME,
    &steps::PARALLEL,
    &steps::QUORUM,
    &steps::LOOKUP,
    &steps::PUBLISH,
];

const MODEL: Shape = Shape { name: "", keys: &["version", "learned", "workload", "services", "edges", "topics"] };
const LEARNED: Shape = Shape { name: "learned", keys: &["traces", "spans", "seconds", "notes"] };
const ENTRY: Shape = Shape { name: "entry", keys: &["to", "open", "site"] };
const OPEN: Shape = Shape { name: "open", keys: &["rate"] };
pub(super) const SERVICE: Shape = Shape {
    name: "service",
    keys: &[
        "replicas",
        "workers",
        "queue",
        "discipline",
        "mode",
        "balance",
        "cancel_on_disconnect",
        "cache",
        "operations",
        "observed",
    ],
};
pub(super) const CACHE: Shape = Shape { name: "cache", keys: &["capacity", "keys", "zipf"] };
const OPERATION: Shape = Shape { name: "operation", keys: &["error_rate", "paths", "observed"] };
const OBSERVED: Shape = Shape { name: "observed", keys: &["calls", "per_s", "error_rate", "mean_ms", "p50_ms", "p99_ms"] };
pub(super) const EDGE: Shape = Shape { name: "edge", keys: &["latency", "timeout", "retry", "breaker", "observed"] };
const RETRY: Shape = Shape { name: "retry", keys: &["attempts", "backoff", "factor", "max", "jitter", "on", "budget"] };
const BUDGET: Shape = Shape { name: "budget", keys: &["ratio", "min_per_s", "cap", "initial"] };
const BREAKER: Shape = Shape { name: "breaker", keys: &["window", "min_calls", "threshold", "open", "probes"] };
const OBSERVED_EDGE: Shape = Shape {
    name: "observed_edge",
    keys: &["calls", "attempts", "errors", "timeouts", "per_parent", "asynchronous", "p50_ms", "p99_ms"],
};
const TOPIC: Shape = Shape {
    name: "topic",
    keys: &["consumer", "site", "concurrency", "capacity", "redelivery_delay", "max_deliveries", "accept", "observed"],
};

/// The words of a model file for its enums, for reading and writing.
pub(super) mod words {
    use crate::system::{Balance, Cause, Discipline, Jitter, Mode};

    pub const DISCIPLINE: &[(&str, Discipline)] = &[("fifo", Discipline::Fifo), ("lifo", Discipline::Lifo)];
    pub const MODE: &[(&str, Mode)] = &[("blocking", Mode::Blocking), ("async", Mode::Async)];
    pub const BALANCE: &[(&str, Balance)] = &[
        ("round_robin", Balance::RoundRobin),
        ("random", Balance::Random),
        ("least_outstanding", Balance::LeastOutstanding),
        ("two_choices", Balance::TwoChoices),
    ];
    pub const JITTER: &[(&str, Jitter)] =
        &[("none", Jitter::None), ("full", Jitter::Full), ("equal", Jitter::Equal), ("decorrelated", Jitter::Decorrelated)];
    pub const CAUSE: &[(&str, Cause)] =
        &[("error", Cause::Error), ("overload", Cause::Overload), ("timeout", Cause::Timeout), ("connection", Cause::Connection)];
}

/// The model that a document describes.
pub(super) fn model(name: &str, root: &Node) -> Result<Model, InputErrors> {
    let mut decoder = Decoder::new(name, root, &Model::default(), Purpose::Whole);
    let mut model = Model::default();
    decoder.lay_over(&mut model, root);
    decoder.mistakes.or(model)
}

/// What a document is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It is the whole model: what it must say and does not is a mistake, and so is a name that it does not define.
    Whole,
    /// It is a partial model, and only its form counts.
    Form,
}

/// Reads a document over a model.
pub(super) struct Decoder {
    pub mistakes: Mistakes,
    purpose: Purpose,
    names: OperationNames,
    used_sites: BTreeSet<u32>,
    last_site: u32,
}

impl Decoder {
    /// A decoder of the document `root` over `base`: names and call sites of both are known from the start.
    pub fn new(name: &str, root: &Node, base: &Model, purpose: Purpose) -> Self {
        let mut names = OperationNames::of(base);
        if let Some(Value::Map(services)) = root.get("services").map(|node| &node.value) {
            for (service, node) in services {
                names.add_service(&service.text);
                if let Some(Value::Map(operations)) = node.get("operations").map(|node| &node.value) {
                    operations.iter().for_each(|(operation, _)| names.add(&service.text, &operation.text));
                }
            }
        }
        let mut used_sites = base.uses().iter().map(|(_, one)| one.site).collect();
        collect_sites(root, &mut used_sites);
        Decoder { mistakes: Mistakes::new(name), purpose, names, used_sites, last_site: 0 }
    }

    /// Reads the document over `model`; what it does not mention stays.
    pub fn lay_over(&mut self, model: &mut Model, root: &Node) {
        let Some(fields) = self.file(root) else { return };
        if let Some(at) = fields.get("learned") {
            model.learned = self.learned(&at).or(model.learned.take());
        }
        self.each(fields.get("workload"), &mut model.workload, |name| Some(name.into()), Self::entry);
        self.each(
            fields.get("services"),
            &mut model.services,
            |name| Some(name.into()),
            |d, at, base| Some(d.service(at, base.unwrap_or_default())),
        );
        self.each(fields.get("topics"), &mut model.topics, |name| Some(name.into()), Self::topic);
        self.each(fields.get("edges"), &mut model.edges, EdgeName::parse, |d, at, base| {
            Some(d.edge(at, base.unwrap_or_default()))
        });
    }

    /// The file's top-level keys, if it is of a version that is known: another version's keys would only be noise.
    fn file<'a>(&mut self, root: &'a Node) -> Option<Fields<'a>> {
        let at = Cursor::root(root);
        if !read_version(&at, &mut self.mistakes) {
            return None;
        }
        at.fields(&MODEL, &mut self.mistakes)
    }

    /// Reads every entry of the map at `at` over the one of the same name in `map`.
    fn each<'a, K: std::hash::Hash + Eq, V: Clone>(
        &mut self,
        at: Option<Cursor<'a>>,
        map: &mut IndexMap<K, V>,
        name: impl Fn(&str) -> Option<K>,
        read: impl Fn(&mut Self, &Cursor<'a>, Option<V>) -> Option<V>,
    ) {
        let mut seen = BTreeSet::new();
        for (key, at) in at.and_then(|at| at.entries(&mut self.mistakes)).unwrap_or_default() {
            let Some(name) = name(key) else {
                self.mistakes.add_found(&at, key, "an edge: caller->callee", "");
                continue;
            };
            let base = map.get(&name).cloned();
            if let Some(value) = read(self, &at, base) {
                let (index, _) = map.insert_full(name, value);
                if !seen.insert(index) {
                    self.mistakes.add_found(&at, format!("{key} a second time"), "each name once", "");
                }
            }
        }
    }

    /// Sets `slot` to what stands under `key`, if anything does.
    fn set<'a, T>(
        &mut self,
        fields: &Fields<'a>,
        key: &str,
        slot: &mut T,
        read: impl FnOnce(&Cursor<'a>, &mut Mistakes) -> Option<T>,
    ) {
        if let Some(value) = fields.get(key).and_then(|at| read(&at, &mut self.mistakes)) {
            *slot = value;
        }
    }

    /// As [`Decoder::set`], for what may be taken away by the word `none`.
    fn set_or_none<'a, T>(
        &mut self,
        fields: &Fields<'a>,
        key: &str,
        slot: &mut Option<T>,
        read: impl FnOnce(&mut Self, &Cursor<'a>, Option<T>) -> Option<T>,
    ) {
        match fields.get(key) {
            None => {}
            Some(at) if at.is_word("none") => *slot = None,
            Some(at) => *slot = read(self, &at, slot.take()),
        }
    }

    /// What stands under `key`, else what was there before, else a mistake.
    fn need<'a, T>(
        &mut self,
        fields: &Fields<'a>,
        key: &str,
        expected: &str,
        base: Option<T>,
        read: impl FnOnce(&mut Self, &Cursor<'a>) -> Option<T>,
    ) -> Option<T> {
        match fields.get(key) {
            Some(at) => read(self, &at),
            None if base.is_some() || self.purpose == Purpose::Form => base,
            None => {
                fields.need(key, expected, &mut self.mistakes);
                None
            }
        }
    }

    /// The site at `at`, else a new one that nothing uses.
    fn site(&mut self, fields: Option<&Fields<'_>>) -> u32 {
        if let Some(site) = fields.and_then(|f| f.get("site")).and_then(|at| at.count(&mut self.mistakes)) {
            return site;
        }
        loop {
            self.last_site += 1;
            if self.used_sites.insert(self.last_site) {
                return self.last_site;
            }
        }
    }

    /// The operation that the text (or `{ service, operation }`) at `at` names.
    fn operation_name(&mut self, at: &Cursor<'_>) -> Option<OpRef> {
        let resolved = if at.is_map() {
            let fields = at.fields(&steps::OPERATION_NAME, &mut self.mistakes)?;
            let service = fields.need("service", "its name", &mut self.mistakes)?.text("a name", &mut self.mistakes)?;
            let operation = fields.need("operation", "its name", &mut self.mistakes)?.text("a name", &mut self.mistakes)?;
            self.names.exact(service, operation)
        } else {
            let text = at.text("service.operation", &mut self.mistakes)?;
            if self.purpose == Purpose::Form { Ok(OpRef::new(text, "")) } else { self.names.resolve(text) }
        };
        match resolved {
            Ok(name) => Some(name),
            Err(_) if self.purpose == Purpose::Form => Some(OpRef::new("", "")),
            Err(unresolved) => {
                self.mistakes.add(at, unresolved.expected, unresolved.help);
                None
            }
        }
    }

    fn learned(&mut self, at: &Cursor<'_>) -> Option<Learned> {
        let fields = at.fields(&LEARNED, &mut self.mistakes)?;
        let mut learned = Learned::default();
        self.set(&fields, "traces", &mut learned.traces, Cursor::large);
        self.set(&fields, "spans", &mut learned.spans, Cursor::large);
        self.set(&fields, "seconds", &mut learned.seconds, Cursor::real);
        self.set(&fields, "notes", &mut learned.notes, |at, m| {
            let notes = at.items(m)?;
            Some(notes.iter().filter_map(|note| note.text("a sentence", m)).map(String::from).collect())
        });
        Some(learned)
    }

    fn entry(&mut self, at: &Cursor<'_>, base: Option<Entry>) -> Option<Entry> {
        let fields = at.fields(&ENTRY, &mut self.mistakes)?;
        let old_rate = base.as_ref().map(|entry| entry.rate);
        let to = self.need(&fields, "to", "service.operation", base.as_ref().map(|e| e.to.clone()), Self::operation_name);
        let rate = self.need(&fields, "open", "{ rate: 80/s }", old_rate, |d, at| {
            let open = at.fields(&OPEN, &mut d.mistakes)?;
            d.need(&open, "rate", "user requests, such as 80/s", old_rate, |d, at| at.param(&mut d.mistakes, Cursor::rate))
        });
        let site = self.site_of(&fields, base.map(|entry| entry.site));
        Some(Entry::open(to?, rate?, site))
    }

    /// The site that the document says, else the one there was, else a new one.
    fn site_of(&mut self, fields: &Fields<'_>, base: Option<u32>) -> u32 {
        match base {
            Some(site) if fields.get("site").is_none() => site,
            _ => self.site(Some(fields)),
        }
    }

    fn service(&mut self, at: &Cursor<'_>, mut service: Service) -> Service {
        let Some(fields) = at.fields(&SERVICE, &mut self.mistakes) else { return service };
        self.set(&fields, "replicas", &mut service.replicas, |at, m| at.param(m, Cursor::count));
        self.set(&fields, "workers", &mut service.workers, workers);
        self.set(&fields, "queue", &mut service.queue, |at, m| at.param(m, |at, m| at.limit("unbounded", m)));
        self.set(&fields, "discipline", &mut service.discipline, |at, m| at.word(words::DISCIPLINE, m));
        self.set(&fields, "mode", &mut service.mode, |at, m| at.word(words::MODE, m));
        self.set(&fields, "balance", &mut service.balance, |at, m| at.word(words::BALANCE, m));
        self.set(&fields, "cancel_on_disconnect", &mut service.cancel_on_disconnect, Cursor::boolean);
        self.set_or_none(&fields, "cache", &mut service.cache, Self::cache);
        let operations = fields.get("operations");
        self.each(
            operations,
            &mut service.operations,
            |name| Some(name.into()),
            |d, at, base| Some(d.operation(at, base.unwrap_or_default())),
        );
        self.set_or_none(&fields, "observed", &mut service.observed, Self::observed);
        service
    }

    fn cache(&mut self, at: &Cursor<'_>, base: Option<Cache>) -> Option<Cache> {
        let fields = at.fields(&CACHE, &mut self.mistakes)?;
        let param = |d: &mut Self, at: &Cursor<'_>| at.param(&mut d.mistakes, Cursor::count);
        let capacity = self.need(&fields, "capacity", "entries it can hold", base.as_ref().map(|c| c.capacity), param);
        let keys = self.need(&fields, "keys", "distinct keys that are asked for", base.as_ref().map(|c| c.keys), param);
        let mut zipf = base.map_or(Param::declared(1.0), |cache| cache.zipf);
        self.set(&fields, "zipf", &mut zipf, real);
        Some(Cache { capacity: capacity?, keys: keys?, zipf, ttl: None })
    }

    fn operation(&mut self, at: &Cursor<'_>, mut operation: Operation) -> Operation {
        let Some(fields) = at.fields(&OPERATION, &mut self.mistakes) else { return operation };
        self.set_or_none(&fields, "error_rate", &mut operation.error_rate, |d, at, _| at.param(&mut d.mistakes, Cursor::share));
        if let Some(paths) = fields.get("paths").and_then(|at| at.items(&mut self.mistakes)) {
            operation.paths = paths.iter().filter_map(|at| self.path(at)).collect();
        }
        self.set_or_none(&fields, "observed", &mut operation.observed, Self::observed);
        operation
    }

    fn observed(&mut self, at: &Cursor<'_>, _: Option<Observed>) -> Option<Observed> {
        let fields = at.fields(&OBSERVED, &mut self.mistakes)?;
        let mut observed = Observed::default();
        self.set(&fields, "calls", &mut observed.calls, Cursor::large);
        self.set(&fields, "per_s", &mut observed.per_s, Cursor::real);
        self.set(&fields, "error_rate", &mut observed.error_rate, Cursor::share);
        self.set(&fields, "mean_ms", &mut observed.mean_ms, Cursor::real);
        self.set(&fields, "p50_ms", &mut observed.p50_ms, Cursor::real);
        self.set(&fields, "p99_ms", &mut observed.p99_ms, Cursor::real);
        Some(observed)
    }

    fn edge(&mut self, at: &Cursor<'_>, mut edge: Edge) -> Edge {
        let Some(fields) = at.fields(&EDGE, &mut self.mistakes) else { return edge };
        let time = |d: &mut Self, at: &Cursor<'_>, _| at.param(&mut d.mistakes, Cursor::duration);
        self.set_or_none(&fields, "latency", &mut edge.latency, time);
        self.set_or_none(&fields, "timeout", &mut edge.timeout, time);
        self.set_or_none(&fields, "retry", &mut edge.retry, Self::retry);
        self.set_or_none(&fields, "breaker", &mut edge.breaker, Self::breaker);
        self.set_or_none(&fields, "observed", &mut edge.observed, Self::observed_edge);
        edge
    }

    fn retry(&mut self, at: &Cursor<'_>, base: Option<Retry>) -> Option<Retry> {
        let fields = at.fields(&RETRY, &mut self.mistakes)?;
        let new = base.is_none();
        let mut retry = base.unwrap_or_default();
        let before = (!new).then_some(retry.attempts);
        let attempts = self.need(&fields, "attempts", "tries in all, the first included", before, |d, at| {
            at.param(&mut d.mistakes, Cursor::count)
        });
        self.set(&fields, "backoff", &mut retry.backoff, |at, m| at.param(m, Cursor::duration));
        self.set(&fields, "factor", &mut retry.factor, real);
        self.set_or_none(&fields, "max", &mut retry.max, |d, at, _| at.param(&mut d.mistakes, Cursor::duration));
        self.set(&fields, "jitter", &mut retry.jitter, |at, m| at.word(words::JITTER, m));
        self.set(&fields, "on", &mut retry.on, |at, m| {
            let causes = at.items(m)?;
            Some(causes.iter().filter_map(|at| at.word(words::CAUSE, m)).collect())
        });
        self.set_or_none(&fields, "budget", &mut retry.budget, Self::budget);
        Some(Retry { attempts: attempts?, ..retry })
    }

    fn budget(&mut self, at: &Cursor<'_>, base: Option<Budget>) -> Option<Budget> {
        let fields = at.fields(&BUDGET, &mut self.mistakes)?;
        let param = |d: &mut Self, at: &Cursor<'_>| real(at, &mut d.mistakes);
        let ratio = self.need(&fields, "ratio", "tokens per first try", base.as_ref().map(|b| b.ratio), param);
        let cap = self.need(&fields, "cap", "most tokens", base.as_ref().map(|b| b.cap), param);
        let mut min_per_s = base.as_ref().map_or(Param::declared(0.0), |b| b.min_per_s);
        self.set(&fields, "min_per_s", &mut min_per_s, real);
        let mut initial = base.and_then(|b| b.initial);
        self.set_or_none(&fields, "initial", &mut initial, |d, at, _| real(at, &mut d.mistakes));
        Some(Budget { ratio: ratio?, min_per_s, cap: cap?, initial })
    }

    fn breaker(&mut self, at: &Cursor<'_>, base: Option<Breaker>) -> Option<Breaker> {
        let fields = at.fields(&BREAKER, &mut self.mistakes)?;
        let base = base.as_ref();
        let count = |d: &mut Self, at: &Cursor<'_>| at.param(&mut d.mistakes, Cursor::count);
        let share = |d: &mut Self, at: &Cursor<'_>| at.param(&mut d.mistakes, Cursor::share);
        let time = |d: &mut Self, at: &Cursor<'_>| at.param(&mut d.mistakes, Cursor::duration);
        let (old_window, old_min_calls, old_threshold) = match base.map(|b| &b.trips) {
            Some(Trips::Share { window: BreakerWindow::Calls(window), min_calls, threshold }) => {
                (Some(*window), Some(*min_calls), Some(*threshold))
            }
            _ => (None, None, None),
        };
        let window = self.need(&fields, "window", "tries remembered", old_window, count);
        let min_calls = self.need(&fields, "min_calls", "tries before it may open", old_min_calls, count);
        let threshold = self.need(&fields, "threshold", "failed share that opens it", old_threshold, share);
        let open = self.need(&fields, "open", "how long it stays open", base.map(|b| b.open), time);
        let mut probes = base.map_or(Param::declared(1), |b| b.probes);
        self.set(&fields, "probes", &mut probes, |at, m| at.param(m, Cursor::count));
        let trips = Trips::Share { window: BreakerWindow::Calls(window?), min_calls: min_calls?, threshold: threshold? };
        Some(Breaker { trips, open: open?, probes })
    }

    fn observed_edge(&mut self, at: &Cursor<'_>, _: Option<ObservedEdge>) -> Option<ObservedEdge> {
        let fields = at.fields(&OBSERVED_EDGE, &mut self.mistakes)?;
        let mut observed = ObservedEdge::default();
        self.set(&fields, "calls", &mut observed.calls, Cursor::large);
        self.set(&fields, "attempts", &mut observed.attempts, Cursor::large);
        self.set(&fields, "errors", &mut observed.errors, Cursor::large);
        self.set(&fields, "timeouts", &mut observed.timeouts, Cursor::large);
        self.set(&fields, "per_parent", &mut observed.per_parent, Cursor::real);
        self.set(&fields, "asynchronous", &mut observed.asynchronous, Cursor::boolean);
        self.set(&fields, "p50_ms", &mut observed.p50_ms, Cursor::real);
        self.set(&fields, "p99_ms", &mut observed.p99_ms, Cursor::real);
        Some(observed)
    }

    fn topic(&mut self, at: &Cursor<'_>, base: Option<Topic>) -> Option<Topic> {
        let fields = at.fields(&TOPIC, &mut self.mistakes)?;
        let old = base.as_ref();
        let consumer = self.need(&fields, "consumer", "service.operation", old.map(|t| t.consumer.clone()), Self::operation_name);
        let concurrency = self.need(&fields, "concurrency", "deliveries at once", old.map(|t| t.concurrency), |d, at| {
            at.param(&mut d.mistakes, Cursor::count)
        });
        let site = self.site_of(&fields, old.map(|topic| topic.site));
        let mut capacity = old.map_or(Param::declared(Limit::Unlimited), |t| t.capacity);
        let mut redelivery_delay = old.map_or(Param::declared(Nanos::ZERO), |t| t.redelivery_delay);
        let mut max_deliveries = old.map_or(Param::declared(1), |t| t.max_deliveries);
        let (mut accept, mut observed) = base.map_or((None, None), |t| (t.accept, t.observed));
        self.set(&fields, "capacity", &mut capacity, |at, m| at.param(m, |at, m| at.limit("unbounded", m)));
        self.set(&fields, "redelivery_delay", &mut redelivery_delay, |at, m| at.param(m, Cursor::duration));
        self.set(&fields, "max_deliveries", &mut max_deliveries, |at, m| at.param(m, Cursor::count));
        self.set_or_none(&fields, "accept", &mut accept, |d, at, _| d.work(at));
        self.set_or_none(&fields, "observed", &mut observed, Self::observed);
        let topic = Topic::to(consumer?, concurrency?, site);
        Some(Topic { capacity, redelivery_delay, max_deliveries, accept, observed, ..topic })
    }
}

/// A concurrency limit with its provenance.
pub(super) fn workers(at: &Cursor<'_>, m: &mut Mistakes) -> Option<Param<Limit>> {
    at.param(m, |at, m| at.limit("unlimited", m))
}

/// A number, 0 or more, with its provenance.
fn real(at: &Cursor<'_>, m: &mut Mistakes) -> Option<Param<f64>> {
    at.param(m, Cursor::real)
}

/// Every number that stands under a key `site`.
fn collect_sites(node: &Node, sites: &mut BTreeSet<u32>) {
    match &node.value {
        Value::Scalar { .. } => {}
        Value::List(items) => items.iter().for_each(|item| collect_sites(item, sites)),
        Value::Map(entries) => {
            for (key, node) in entries {
                match &node.value {
                    Value::Scalar { text, .. } if key.text == "site" => sites.extend(text.parse::<u32>().ok()),
                    _ => collect_sites(node, sites),
                }
            }
        }
    }
}
