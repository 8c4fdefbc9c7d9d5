//! A document becomes a model: key by key, every mistake collected.
//!
//! You are here: `models::format::decode`. [`model`] starts from nothing; `overlay` lays a document over a learned model with the
//! same code, for every reader here takes what was there before and changes what the document says.
//! Always true: which keys are known is said by the [`Shape`]s alone, and a test holds the JSON Schema against them.
//! Not here: the parts of a model one by one (`entries`, `services`, `steps`, `edges`, `required`, `topics`), and whether the whole makes sense
//! ([`crate::check`]).

mod edges;
mod entries;
pub(super) mod required;
pub(super) mod services;
pub(super) mod steps;
mod topics;

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use crate::error::InputErrors;
use crate::fidelity::{Backcast, BoundaryScore};
use crate::format::cursor::{Cursor, Fields, Mistakes, PARAM, Shape};
use crate::format::doc::{Node, Value};
use crate::format::read_version;
use crate::names::OperationNames;
use crate::param::{Limit, Param};
use crate::system::*;

/// Every kind of map that a model file may hold.
pub const SHAPES: &[&Shape] = &[
    &MODEL,
    &LEARNED,
    &BACKCAST,
    &BOUNDARY,
    &entries::ENTRY,
    &entries::OPEN,
    &entries::CURVE,
    &entries::BURSTS,
    &entries::CLOSED,
    &services::SERVICE,
    &services::CODEL,
    &services::ADAPTIVE_LIMIT,
    &services::AIMD,
    &services::GRADIENT,
    &services::CONTENTION,
    &services::IN_PROGRESS,
    &services::ARRIVAL_RATE,
    &services::AUTOSCALE,
    &services::WARM_UP,
    &services::HEALTH_CHECK,
    &services::CACHE,
    &OPERATION,
    &OBSERVED,
    &edges::EDGE,
    &edges::RETRY,
    &edges::BUDGET,
    &edges::HEDGE,
    &edges::POOL,
    &edges::BREAKER,
    &edges::OBSERVED_EDGE,
    &topics::TOPIC,
    &topics::KEYS,
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
const LEARNED: Shape = Shape { name: "learned", keys: &["traces", "spans", "seconds", "notes", "backcast"] };
const BACKCAST: Shape = Shape { name: "backcast", keys: &["learned_s", "foretold_s", "runs", "boundaries"] };
const BOUNDARY: Shape = Shape { name: "boundary_score", keys: &["score", "attempts", "per_s", "error_rate", "p50_ms", "p99_ms"] };
const OPERATION: Shape = Shape { name: "operation", keys: &["error_rate", "paths", "observed"] };
const OBSERVED: Shape = Shape { name: "observed", keys: &["calls", "per_s", "error_rate", "mean_ms", "p50_ms", "p99_ms"] };
/// The words of a model file for its enums, for reading and writing.
pub(super) mod words {
    use crate::system::{Balance, Cause, Discipline, Full, Jitter, Mode, Order};

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
    pub const ORDER: &[(&str, Order)] = &[("none", Order::None), ("per_key", Order::PerKey)];
    pub const FULL: &[(&str, Full)] = &[("reject", Full::Reject), ("block", Full::Block), ("drop_oldest", Full::DropOldest)];
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
    /// Where the document says itself what a failure of a call does, by call site: JSON pointers.
    stated: BTreeMap<u32, String>,
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
        Decoder { mistakes: Mistakes::new(name), purpose, names, used_sites, last_site: 0, stated: BTreeMap::new() }
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
        self.require(model, root);
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

    /// As [`Decoder::need`], for a number with its provenance.
    fn need_param<'a, T: Copy>(
        &mut self,
        fields: &Fields<'a>,
        key: &str,
        expected: &str,
        base: Option<Param<T>>,
        read: impl Fn(&Cursor<'a>, &mut Mistakes) -> Option<T>,
    ) -> Option<Param<T>> {
        self.need(fields, key, expected, base, |d, at| at.param(&mut d.mistakes, read))
    }

    /// As [`Decoder::set`], for a number with its provenance.
    fn set_param<'a, T>(
        &mut self,
        fields: &Fields<'a>,
        key: &str,
        slot: &mut Param<T>,
        read: impl Fn(&Cursor<'a>, &mut Mistakes) -> Option<T>,
    ) {
        self.set(fields, key, slot, |at, m| at.param(m, read));
    }

    /// The one key of `kinds` that is there, and what stands under it. None of them is a mistake unless `base` says that there was one
    /// before; several always are.
    fn exactly_one<'a>(
        &mut self,
        fields: &Fields<'a>,
        kinds: &'static [&'static str],
        base: bool,
        help: &str,
    ) -> Option<(&'static str, Cursor<'a>)> {
        let present: Vec<_> = kinds.iter().filter_map(|kind| Some((*kind, fields.get(kind)?))).collect();
        match &present[..] {
            [one] => return Some(one.clone()),
            [] if base || self.purpose == Purpose::Form => return None,
            _ => {}
        }
        let found = if present.is_empty() { "none of them".into() } else { format!("{} of them", present.len()) };
        self.mistakes.add_found(&fields.at, found, format!("exactly one of {}", kinds.join(", ")), help);
        None
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
        self.set_or_none(&fields, "backcast", &mut learned.backcast, |d, at, _| d.backcast(at));
        Some(learned)
    }

    fn backcast(&mut self, at: &Cursor<'_>) -> Option<Backcast> {
        let fields = at.fields(&BACKCAST, &mut self.mistakes)?;
        let mut backcast = Backcast::default();
        self.set(&fields, "learned_s", &mut backcast.learned_s, Cursor::real);
        self.set(&fields, "foretold_s", &mut backcast.foretold_s, Cursor::real);
        self.set(&fields, "runs", &mut backcast.runs, Cursor::count);
        for (name, at) in fields.get("boundaries").and_then(|at| at.entries(&mut self.mistakes)).unwrap_or_default() {
            let Some(fields) = at.fields(&BOUNDARY, &mut self.mistakes) else { continue };
            let mut boundary = BoundaryScore::default();
            self.set(&fields, "score", &mut boundary.score, Cursor::share);
            self.set(&fields, "attempts", &mut boundary.attempts, Cursor::large);
            self.set(&fields, "per_s", &mut boundary.per_s, |at, m| pair(at, m, Cursor::real));
            self.set(&fields, "error_rate", &mut boundary.error_rate, |at, m| pair(at, m, Cursor::share));
            self.set(&fields, "p50_ms", &mut boundary.p50_ms, |at, m| pair(at, m, Cursor::real));
            self.set(&fields, "p99_ms", &mut boundary.p99_ms, |at, m| pair(at, m, Cursor::real));
            backcast.boundaries.insert(name.to_owned(), boundary);
        }
        Some(backcast)
    }

    /// The site that the document says, else the one there was, else a new one.
    fn site_of(&mut self, fields: &Fields<'_>, base: Option<u32>) -> u32 {
        match base {
            Some(site) if fields.get("site").is_none() => site,
            _ => self.site(Some(fields)),
        }
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
}

/// A concurrency limit with its provenance.
pub(super) fn workers(at: &Cursor<'_>, m: &mut Mistakes) -> Option<Param<Limit>> {
    at.param(m, |at, m| at.limit("unlimited", m))
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

/// What was foretold, and what came.
fn pair<'a>(at: &Cursor<'a>, m: &mut Mistakes, read: fn(&Cursor<'a>, &mut Mistakes) -> Option<f64>) -> Option<[f64; 2]> {
    let items = at.items(m)?;
    match &items[..] {
        [foretold, came] => Some([read(foretold, m)?, read(came, m)?]),
        _ => {
            m.add(at, "two numbers: what was foretold, and what came", "");
            None
        }
    }
}
