//! What people know already, laid over a learned model (DESIGN.md 4.6).
//!
//! You are here: `models::format::overlay`. An [`Overlay`] is a partial model file; `decode` reads it over the model it is applied to.
//! Always true: what it sets is declared; what that contradicts in the traces is returned, never silently overruled; a model that
//! made sense before makes sense afterwards.
//! Not here: what learning does with the hints ([`Overlay::known_workers`] and its kin).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::check;
use crate::error::{InputError, InputErrors};
use crate::format::cursor::{Cursor, Mistakes};
use crate::format::decode::required::visit_outcomes;
use crate::format::decode::{Decoder, Purpose, workers};
use crate::format::doc::{self, Node};
use crate::param::{Limit, Param, ParamMut, Source};
use crate::system::{Edge, EdgeName, Model, Operation};
use crate::units::Nanos;
use crate::visit::Used;

/// A partial model file: the same keys as a model's, none of them required but `version`.
#[derive(Clone, Debug, PartialEq)]
pub struct Overlay {
    name: String,
    root: Node,
}

/// Most edges or calls that one sentence lists.
const SHOWN: usize = 12;

/// Something that an overlay declares and the traces do not bear out. It has been applied all the same, unless it could not be.
#[derive(Clone, Debug, PartialEq)]
pub enum Contradiction {
    /// A declared value that the traces speak against.
    Value {
        /// Where, such as `edges.a->b.timeout`.
        place: String,
        /// What was declared.
        declared: String,
        /// What the traces show.
        traces: String,
    },
    /// Declared timeouts that no call ever came near, so that the traces neither bear them out nor show what happens when they strike.
    TimeoutsNeverMet {
        /// The edge, its timeout, and its longest call.
        edges: Vec<(EdgeName, Nanos, Nanos)>,
    },
    /// Paths that took the place of all that the operation had, calls and all: paths are not merged.
    PathsReplaced {
        /// Where, such as `services.a.operations.get.paths`.
        place: String,
        /// How many paths there are now, and how many there were.
        paths: [usize; 2],
        /// What the former ones call and publish to.
        called: Vec<String>,
        /// Of these, what nobody calls there any more.
        lost: Vec<String>,
    },
    /// A declaration that could not be applied: it names or builds on something that neither traces nor overlay describe.
    Unusable(InputError),
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Contradiction::Value { place, declared, traces } => write!(f, "{place}: declared {declared}, but {traces}"),
            Contradiction::TimeoutsNeverMet { edges } => match &edges[..] {
                [(edge, timeout, longest)] => {
                    write!(f, "edges.{edge}.timeout: declared {timeout}, but no call ever lasted beyond {longest}")
                }
                _ => {
                    let each = |(edge, timeout, longest): &_| format!("{edge} {timeout} (longest call {longest})");
                    let edges: Vec<String> = edges.iter().map(each).collect();
                    write!(f, "declared timeouts that no call ever came near: {}", listed(&edges))
                }
            },
            Contradiction::PathsReplaced { place, paths: [now, before], called, lost } => {
                let paths = |n: &usize| if *n == 1 { "1 path".to_owned() } else { format!("{n} paths") };
                write!(f, "{place}: {} declared, in place of {}", paths(now), paths(before))?;
                match (&called[..], &lost[..]) {
                    ([], _) => f.write_str(" without calls"),
                    (_, []) => write!(f, " that called {}; all these are called still", listed(called)),
                    _ => write!(
                        f,
                        " that called {}; no longer called: {} (paths are replaced as a whole: write out what is to stay)",
                        listed(called),
                        listed(lost)
                    ),
                }
            }
            Contradiction::Unusable(InputError { file, line, place, found, expected, help }) => {
                let line = line.map_or(String::new(), |line| format!(":{line}"));
                let place = place.as_deref().unwrap_or_default();
                write!(f, "{file}{line}: {place}: not applied: found {found}, expected {expected}")?;
                if help.is_empty() { Ok(()) } else { write!(f, "; {help}") }
            }
        }
    }
}

/// The first of these, and how many more there are.
fn listed(names: &[String]) -> String {
    let shown = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

/// Reads an overlay: its form, and that its numbers are possible. Names are looked up when it is applied.
pub fn read_overlay(name: &str, bytes: &[u8]) -> Result<Overlay, InputErrors> {
    let root = doc::parse(name, bytes)?;
    let mut partial = Model::default();
    let mut decoder = Decoder::new(name, &root, &partial, Purpose::Form);
    decoder.lay_over(&mut partial, &root);
    decoder.mistakes.or(())?;
    check::check_partial(&partial).map_err(|errors| doc::locate(name, &root, errors))?;
    Ok(Overlay { name: name.into(), root })
}

impl Overlay {
    /// An overlay made from what another kind of file says; `root` keeps the lines of that file.
    pub(crate) fn from_node(name: &str, root: Node) -> Overlay {
        Overlay { name: name.into(), root }
    }

    /// Lays this over `model`: what it mentions is set and declared, all else stays. A service that the model lacks is added if it
    /// has operations. Returns what contradicts the traces or could not be applied.
    pub fn apply(&self, model: &mut Model) -> Vec<Contradiction> {
        let mut next = model.clone();
        let mut decoder = Decoder::new(&self.name, &self.root, model, Purpose::Whole);
        decoder.lay_over(&mut next, &self.root);
        let mut unusable = decoder.mistakes.take();
        drop_unknown(model, &mut next, &mut unusable);
        let checked = check::check(&next);
        if let Err(errors) = &checked {
            unusable.extend(errors.0.iter().cloned());
        }
        let located = doc::locate(&self.name, &self.root, InputErrors(unusable));
        let mut contradictions: Vec<_> = located.0.into_iter().map(Contradiction::Unusable).collect();
        if checked.is_ok() {
            contradictions.extend(numbers_against_traces(model, &next));
            contradictions.extend(policies_against_traces(model, &next));
            contradictions.extend(users_against_traces(model, &next));
            contradictions.extend(self.dependencies_against_traces(model, &next));
            contradictions.extend(self.paths_replaced(model, &next));
            *model = next;
        }
        contradictions
    }

    /// Workers of one replica, by service, where the overlay bounds them.
    pub fn known_workers(&self) -> BTreeMap<String, u32> {
        let mut m = Mistakes::new(&self.name);
        let known =
            self.section("services").into_iter().filter_map(|(name, at)| match workers(&at.key("workers")?, &mut m)?.value {
                Limit::Of(n) => Some((name.to_owned(), n)),
                Limit::Unlimited => None,
            });
        known.collect()
    }

    /// Services that the overlay says are caches, with their capacity if it says that too.
    pub fn known_caches(&self) -> BTreeMap<String, Option<u32>> {
        let mut m = Mistakes::new(&self.name);
        let known = self.section("services").into_iter().filter_map(|(name, at)| {
            let cache = at.key("cache").filter(Cursor::is_map)?;
            let capacity = cache.key("capacity").and_then(|at| at.param(&mut m, Cursor::count));
            Some((name.to_owned(), capacity.map(|capacity| capacity.value)))
        });
        known.collect()
    }

    /// Per-try timeouts, by edge, where the overlay sets one.
    pub fn known_timeouts(&self) -> BTreeMap<EdgeName, Nanos> {
        let mut m = Mistakes::new(&self.name);
        let known = self.section("edges").into_iter().filter_map(|(name, at)| {
            let timeout = at.key("timeout").filter(|at| !at.is_word("none"))?;
            Some((EdgeName::parse(name)?, timeout.param(&mut m, Cursor::duration)?.value))
        });
        known.collect()
    }

    /// Dependencies called hard or soft that failed otherwise in the traces.
    fn dependencies_against_traces(&self, before: &Model, after: &Model) -> Vec<Contradiction> {
        let said = self.section("edges").into_iter().filter(|(_, at)| at.key("required").is_some());
        let said: BTreeSet<EdgeName> = said.filter_map(|(name, _)| EdgeName::parse(name)).collect();
        let (before, mut told) = (outcomes(before), BTreeSet::new());
        let contradicted = outcomes(after).into_iter().filter_map(|(site, (edge, operation, declared))| {
            let learned =
                before.get(&site).map(|(_, _, learned)| learned).filter(|learned| learned.source == Source::Inferred)?;
            let [low, high] = learned.range?;
            let borne_out = low <= declared.value && declared.value <= high;
            if borne_out || !said.contains(&edge) || !told.insert((edge.clone(), operation.clone())) {
                return None;
            }
            let [value, low, high] = [learned.value, low, high].map(|share| format!("{:.0} %", 100.0 * share));
            let traces = format!("{value} of its failures failed {operation} (inferred, 90 % interval {low} to {high})");
            let declared = (declared.value > 0.0).to_string();
            Some(Contradiction::Value { place: format!("edges.{edge}.required"), declared, traces })
        });
        contradicted.collect()
    }

    /// Operations whose paths this replaces by other ones.
    fn paths_replaced(&self, before: &Model, after: &Model) -> Vec<Contradiction> {
        let mut replaced = Vec::new();
        for (service, at) in self.section("services") {
            let operations = at.key("operations").and_then(|at| at.entries(&mut Mistakes::new(&self.name)));
            for (operation, _) in operations.unwrap_or_default().into_iter().filter(|(_, at)| at.key("paths").is_some()) {
                let find = |model: &Model| model.services.get(service)?.operations.get(operation).cloned();
                let (Some(old), Some(new)) = (find(before), find(after)) else { continue };
                if old.paths.is_empty() || old.paths == new.paths {
                    continue;
                }
                let (called, now) = (called(&old), called(&new));
                replaced.push(Contradiction::PathsReplaced {
                    place: format!("services.{service}.operations.{operation}.paths"),
                    paths: [new.paths.len(), old.paths.len()],
                    lost: called.iter().filter(|name| !now.contains(name)).cloned().collect(),
                    called,
                });
            }
        }
        replaced
    }

    /// The entries of one top-level map.
    fn section(&self, key: &str) -> Vec<(&str, Cursor<'_>)> {
        let section = Cursor::root(&self.root).key(key);
        section.and_then(|at| at.entries(&mut Mistakes::new(&self.name))).unwrap_or_default()
    }
}

/// Takes out of `next` what an overlay brought in but nobody described: services and operations without paths, edges of nobody.
fn drop_unknown(before: &Model, next: &mut Model, unusable: &mut Vec<InputError>) {
    let mut refuse = |place: String, found: &str, expected: &str| {
        unusable.push(InputError { place: Some(place), found: found.into(), expected: expected.into(), ..InputError::default() });
    };
    for (name, service) in &mut next.services {
        let old = before.services.get(name);
        service.operations.retain(|operation, described| {
            let known = old.is_some_and(|old| old.operations.contains_key(operation)) || !described.paths.is_empty();
            if !known {
                let place = format!("/services/{}/operations/{}", doc::pointer_step(name), doc::pointer_step(operation));
                refuse(place, operation, "an operation that the traces show, or paths to describe it");
            }
            known
        });
    }
    next.services.retain(|name, service| {
        let known = before.services.contains_key(name) || !service.operations.is_empty();
        if !known {
            let place = format!("/services/{}", doc::pointer_step(name));
            refuse(place, name, "a service that the traces show, or operations with paths to describe it");
        }
        known
    });
    let (workload, services, topics) = (&next.workload, &next.services, &next.topics);
    next.edges.retain(|name, _| {
        let callee = |end: &str| services.contains_key(end) || topics.contains_key(end);
        let known = (callee(&name.from) || workload.contains_key(&name.from)) && callee(&name.to);
        if !known {
            let place = format!("/edges/{}", doc::pointer_step(&name.to_string()));
            refuse(place, &name.to_string(), "an edge between an entry, services and topics that the traces show");
        }
        known
    });
}

/// What an operation calls and publishes to, each once.
fn called(operation: &Operation) -> Vec<String> {
    let mut called = Vec::new();
    for step in operation.paths.iter().flat_map(|path| &path.steps) {
        step.visit_uses(&mut |one| {
            let name = match one.to {
                Used::Operation(operation) => operation.to_string(),
                Used::Topic(topic) => topic.to_owned(),
            };
            if !called.contains(&name) {
                called.push(name);
            }
        });
    }
    called
}

/// What a failure does to the caller, by call site: the edge, the caller's operation, and the probability that it fails too.
fn outcomes(model: &Model) -> BTreeMap<u32, (EdgeName, String, Param<f64>)> {
    let mut outcomes = BTreeMap::new();
    for (service, described) in &mut model.clone().services {
        for (operation, described) in &mut described.operations {
            for step in described.paths.iter_mut().flat_map(|path| &mut path.steps) {
                visit_outcomes(step, &mut |to, site, on_failure| {
                    if let Some(on_failure) = on_failure {
                        outcomes.insert(site, (EdgeName::new(service, to), operation.clone(), *on_failure));
                    }
                });
            }
        }
    }
    outcomes
}

/// One number of a model in a form that can be compared and shown.
struct Shown {
    value: f64,
    range: Option<[f64; 2]>,
    text: String,
    range_text: String,
    source: Source,
}

impl Shown {
    fn new<T: Copy>(param: &Param<T>, number: impl Fn(T) -> f64, text: impl Fn(T) -> String) -> Self {
        let range_text =
            param.range.map_or(String::new(), |[low, high]| format!(", 90 % interval {} to {}", text(low), text(high)));
        Shown {
            value: number(param.value),
            range: param.range.map(|range| range.map(number)),
            text: text(param.value),
            range_text,
            source: param.source,
        }
    }
}

/// Every number of `model` by its path, but for those inside of paths: an overlay replaces paths as a whole.
fn shown_numbers(model: &Model) -> BTreeMap<String, Shown> {
    let mut shown = BTreeMap::new();
    model.clone().visit_params(&mut |path, param| {
        let one = match param {
            ParamMut::Share(p) | ParamMut::Real(p) => Shown::new(p, |x| x, |x| x.to_string()),
            ParamMut::Count(p) => Shown::new(p, f64::from, |n| n.to_string()),
            ParamMut::Time(p) => Shown::new(p, |t| t.as_nanos() as f64, |t| t.to_string()),
            ParamMut::Limit(p) => {
                let number = |limit| match limit {
                    Limit::Of(n) => f64::from(n),
                    Limit::Unlimited => f64::INFINITY,
                };
                let text = |limit| match limit {
                    Limit::Of(n) => n.to_string(),
                    Limit::Unlimited => "no bound".into(),
                };
                Shown::new(p, number, text)
            }
            ParamMut::Work(_) => return,
        };
        if !path.contains(".paths.") {
            shown.insert(path.to_owned(), one);
        }
    });
    shown
}

/// Declared numbers that lie outside of what was learned from traces. An assumed number contradicts nobody.
fn numbers_against_traces(before: &Model, after: &Model) -> Vec<Contradiction> {
    let before = shown_numbers(before);
    let contradicted = shown_numbers(after).into_iter().filter_map(|(place, declared)| {
        let learned = before.get(&place)?;
        let word = match (learned.source, declared.source) {
            (Source::Observed, Source::Declared) => "observed",
            (Source::Inferred, Source::Declared) => "inferred",
            _ => return None,
        };
        let borne_out = match learned.range {
            Some([low, high]) => low <= declared.value && declared.value <= high,
            None => (declared.value - learned.value).abs() <= 0.01 * learned.value.abs() || declared.value == learned.value,
        };
        let traces = format!("the traces show {} ({word}{})", learned.text, learned.range_text);
        (!borne_out).then_some(Contradiction::Value { place, declared: declared.text, traces })
    });
    contradicted.collect()
}

/// Declared timeouts and retries that what callers saw speaks against.
fn policies_against_traces(before: &Model, after: &Model) -> Vec<Contradiction> {
    let default = Edge::default();
    let mut contradictions = Vec::new();
    for (name, edge) in &after.edges {
        let old = before.edges.get(name).unwrap_or(&default);
        let mut add = |key: &str, declared: String, traces: String| {
            contradictions.push(Contradiction::Value { place: format!("edges.{name}.{key}"), declared, traces });
        };
        let from_traces = |timeout: &Param<Nanos>| matches!(timeout.source, Source::Observed | Source::Inferred);
        if let (Some(timeout), None) = (old.timeout.filter(from_traces), edge.timeout) {
            add("timeout", "none".into(), format!("the traces show one of {}", timeout.value));
        }
        let Some(seen) = &edge.observed else { continue };
        let retried = edge.retry.as_ref().map(|retry| retry.attempts.value);
        let attempts = retried.or(edge.hedge.as_ref().map(|hedge| hedge.attempts.value)).unwrap_or(1);
        if let Some(timeout) = edge.timeout.filter(|timeout| timeout.source == Source::Declared)
            && edge.timeout != old.timeout
        {
            // Generous: what was seen may be whole calls with all their tries.
            let longest_ms = timeout.value.as_millis_f64() * f64::from(attempts) * 1.1;
            if seen.p99_ms > longest_ms {
                let traces = format!("1 in 100 answers took {} or longer", Nanos::from_millis_f64(seen.p99_ms));
                add("timeout", timeout.value.to_string(), traces);
            }
        }
        if let Some(deadline) = edge.deadline.filter(|deadline| deadline.source == Source::Declared)
            && edge.deadline != old.deadline
            && seen.p99_ms > deadline.value.as_millis_f64() * 1.1
        {
            let traces = format!("1 in 100 answers took {} or longer", Nanos::from_millis_f64(seen.p99_ms));
            add("deadline", deadline.value.to_string(), traces);
        }
        if edge.retry != old.retry && !before.topics.contains_key(&name.from) {
            let declared = if attempts == 1 { "1 try".to_owned() } else { format!("{attempts} tries") };
            if attempts == 1 && seen.attempts > seen.calls {
                add("retry", declared, format!("{} calls made {} attempts", seen.calls, seen.attempts));
            } else if attempts > 1 && seen.attempts == seen.calls && seen.errors > 0 {
                add("retry", declared, format!("none of the {} attempts that failed was tried again", seen.errors));
            }
        }
    }
    contradictions
}

/// Declared timeouts that nothing in the traces ever came near: `longest` is the longest call of each edge. Less than half is not near.
pub fn timeouts_never_met(model: &Model, longest: &BTreeMap<EdgeName, Nanos>) -> Option<Contradiction> {
    let never = model.edges.iter().filter_map(|(name, edge)| {
        let timeout = edge.timeout.filter(|timeout| timeout.source == Source::Declared)?.value;
        let longest = *longest.get(name).filter(|longest| !longest.is_zero())?;
        let unmet = longest.as_nanos().saturating_mul(2) <= timeout.as_nanos();
        unmet.then(|| (name.clone(), timeout, Nanos::from_millis_f64(longest.as_millis_f64().ceil())))
    });
    let edges: Vec<_> = never.collect();
    (!edges.is_empty()).then_some(Contradiction::TimeoutsNeverMet { edges })
}

/// Closed loops that cannot bring the load that was seen, however fast the answers.
fn users_against_traces(before: &Model, after: &Model) -> Vec<Contradiction> {
    let mut contradictions = Vec::new();
    for (name, entry) in &after.workload {
        let Some(old) = before.workload.get(name).filter(|old| old.closed.is_none()) else { continue };
        let Some(closed) = &entry.closed else { continue };
        let from_traces = matches!(old.rate.source, Source::Observed | Source::Inferred);
        if from_traces && entry.rate.value < 0.99 * old.rate.value {
            let declared = format!("{} users who think {}", closed.users.value, closed.think.dist.mean());
            let traces = format!("the traces show {}/s, and these ask at most {}/s", old.rate.value, entry.rate.value);
            contradictions.push(Contradiction::Value { place: format!("workload.{name}.closed"), declared, traces });
        }
    }
    contradictions
}
