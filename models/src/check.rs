//! Whether a model makes sense: its references resolve, its numbers are possible, its requests come to an end.
//!
//! You are here: `models::check`. [`check`] names places as JSON pointers into the model's file; `format` adds the lines.
//! Not here: the parts of a model one by one (`entries`, `services`, `edges`, `topics`), the file's form (`format`), or whether a
//! scenario fits a model (the `scenarios` crate).

mod edges;
mod entries;
mod numbers;
mod services;
mod topics;

use std::collections::{BTreeMap, BTreeSet};

use crate::dist::Dist;
use crate::error::{InputError, InputErrors, nearest};
use crate::format::doc::pointer_step;
use crate::names::OperationNames;
use crate::system::*;
use crate::units::Nanos;

/// Longest sensible list of replicas: an engine holds state for each.
pub const MAX_REPLICAS: u32 = 10_000;

/// Most distinct keys of a cache: an engine holds a table of them.
pub const MAX_CACHE_KEYS: u32 = 10_000_000;

/// Most distinct keys of a topic's messages.
pub const MAX_MESSAGE_KEYS: u32 = 10_000_000;

/// Most partitions of a topic: an engine holds a queue for each.
pub const MAX_PARTITIONS: u32 = 10_000;

/// Most users of a closed loop: an engine holds state for each.
pub const MAX_USERS: u32 = 1_000_000;

/// Most user requests per second of an entry: at this rate a second takes an engine minutes.
pub const MAX_PER_S: f64 = 10_000_000.0;

/// What a model repeats by the clock (bursts, a curve, an autoscaler's looks) it repeats at most this often.
pub const SHORTEST_PERIOD: Nanos = Nanos::from_millis(1);

/// Most tries of one call.
pub const MAX_ATTEMPTS: u32 = 1_000;

/// Asks whether `model` makes sense. Returns all mistakes in one go, each with the JSON pointer of its place.
pub fn check(model: &Model) -> Result<(), InputErrors> {
    let mut checker = Checker::new(model, false);
    checker.model();
    if checker.errors.is_empty() {
        checker.endless();
    }
    checker.result()
}

/// Asks whether a distribution of durations can be drawn from. `place` is its JSON pointer.
pub fn check_dist(place: &str, dist: &Dist) -> Result<(), InputErrors> {
    numbers::dist_sense(dist).map_err(|(key, found, expected, help)| {
        InputErrors::from(InputError {
            place: Some(format!("{place}/{key}")),
            found,
            expected: expected.into(),
            help: help.into(),
            ..InputError::default()
        })
    })
}

/// Asks whether the numbers of a partial model are possible; what its names stand for is not its own business.
pub(crate) fn check_partial(model: &Model) -> Result<(), InputErrors> {
    let mut checker = Checker::new(model, true);
    checker.model();
    checker.result()
}

struct Checker<'a> {
    model: &'a Model,
    names: OperationNames,
    errors: Vec<InputError>,
    /// Where each call site was met first.
    sites: BTreeMap<u32, String>,
    /// Whether references, and what a whole model must have, are left out.
    partial: bool,
}

impl<'a> Checker<'a> {
    fn new(model: &'a Model, partial: bool) -> Self {
        Checker { model, names: OperationNames::of(model), errors: Vec::new(), sites: BTreeMap::new(), partial }
    }

    fn result(self) -> Result<(), InputErrors> {
        if self.errors.is_empty() { Ok(()) } else { Err(InputErrors(self.errors)) }
    }

    fn add(&mut self, place: &str, found: impl Into<String>, expected: impl Into<String>, help: impl Into<String>) {
        self.errors.push(InputError {
            file: "the model".into(),
            line: None,
            place: Some(place.into()),
            found: found.into(),
            expected: expected.into(),
            help: help.into(),
        });
    }

    fn model(&mut self) {
        let model = self.model;
        if model.workload.is_empty() && !self.partial {
            self.add(
                "/workload",
                "no entry",
                "at least one entry",
                "write workload: { users: { to: s.op, open: { rate: 80/s } } }",
            );
        }
        for (name, entry) in &model.workload {
            let place = format!("/workload/{}", pointer_step(name));
            self.name(&place, name);
            self.operation(&format!("{place}/to"), &entry.to);
            self.entry(&place, entry);
            self.site(&place, entry.site);
        }
        for (name, service) in &model.services {
            let place = format!("/services/{}", pointer_step(name));
            self.name(&place, name);
            if model.workload.contains_key(name) {
                self.add(&place, format!("{name}, which is an entry too"), "another name", "");
            }
            self.service(&place, service);
        }
        for (name, edge) in &model.edges {
            let place = format!("/edges/{}", pointer_step(&name.to_string()));
            let callers = || model.workload.keys().chain(model.services.keys()).chain(model.topics.keys()).map(String::as_str);
            let callees = || model.services.keys().chain(model.topics.keys()).map(String::as_str);
            self.one_of(&place, &name.from, "a caller that exists: an entry, service or topic", callers);
            self.one_of(&place, &name.to, "a callee that exists: a service or topic", callees);
            self.edge(&place, edge);
        }
        for (name, topic) in &model.topics {
            let place = format!("/topics/{}", pointer_step(name));
            self.name(&place, name);
            if model.workload.contains_key(name) || model.services.contains_key(name) {
                self.add(&place, format!("{name}, which is an entry or service too"), "another name", "");
            }
            self.operation(&format!("{place}/consumer"), &topic.consumer);
            self.site(&place, topic.site);
            self.topic(&place, topic);
        }
    }

    /// A name that edges and targets can be written with.
    fn name(&mut self, place: &str, name: &str) {
        if name.is_empty() || name == "*" || name != name.trim() || name.contains("->") {
            self.add(place, format!("{name:?}"), "a name: not empty, no -> in it, no space around it, not *", "");
        }
    }

    fn one_of<'n, I: Iterator<Item = &'n str>>(&mut self, place: &str, name: &str, expected: &str, names: impl Fn() -> I) {
        if !self.partial && !names().any(|known| known == name) {
            let help = nearest(name, names()).map_or(String::new(), |near| format!("did you mean {near}?"));
            self.add(place, name, expected, help);
        }
    }

    fn operation(&mut self, place: &str, name: &OpRef) {
        if let Err(unresolved) = self.names.exact(&name.service, &name.operation)
            && !self.partial
        {
            self.add(place, name.to_string(), unresolved.expected, unresolved.help);
        }
    }

    /// Call sites name keyed draws: two uses of one would share their luck.
    fn site(&mut self, place: &str, site: u32) {
        match self.sites.get(&site) {
            Some(first) => {
                let found = format!("site {site}, which {first} has already");
                self.add(&format!("{place}/site"), found, "a site that nothing else has", "leave it away: a free one is taken");
            }
            None => {
                self.sites.insert(site, place.into());
            }
        }
    }

    fn step(&mut self, place: &str, step: &Step, in_parallel: bool) {
        match step {
            Step::Work(_) | Step::Parallel { .. } if in_parallel => {
                self.add(
                    place,
                    "work or parallel inside parallel",
                    "call, lookup or publish as a branch",
                    "call a service instead",
                );
            }
            Step::Work(work) => self.work(&format!("{place}/work"), work),
            Step::Call(call) => self.call(&format!("{place}/call"), call),
            Step::Parallel { wait, branches } => {
                let place = format!("{place}/parallel");
                if branches.is_empty() {
                    self.add(&format!("{place}/branches"), "no branch", "at least one branch", "");
                }
                if let Wait::Quorum(n) = wait
                    && !(1..=branches.len()).contains(&(*n as usize))
                {
                    let expected = format!("a number from 1 to {}, the number of branches", branches.len());
                    self.add(&format!("{place}/wait/quorum"), n.to_string(), expected, "");
                }
                for (i, branch) in branches.iter().enumerate() {
                    self.step(&format!("{place}/branches/{i}"), branch, true);
                }
            }
            Step::Lookup(lookup) => {
                let place = format!("{place}/lookup");
                self.call(&format!("{place}/cache"), &lookup.cache);
                self.call(&format!("{place}/origin"), &lookup.origin);
                if let Some(fill) = &lookup.fill {
                    self.call(&format!("{place}/fill"), fill);
                }
                let asked = &lookup.cache.to.service;
                if !self.partial && self.model.services.get(asked).is_some_and(|service| service.cache.is_none()) {
                    let help = format!("give {asked} a cache: {{ capacity, keys }}");
                    self.add(&format!("{place}/cache"), asked, "a service that has a cache", help);
                }
            }
            Step::Publish(publish) => {
                let place = format!("{place}/publish");
                let topics = &self.model.topics;
                self.one_of(&place, &publish.to, "a topic that exists", || topics.keys().map(String::as_str));
                self.site(&place, publish.site);
                self.times(&place, &publish.times);
                self.share(&format!("{place}/on_failure"), &publish.on_failure);
            }
        }
    }

    fn call(&mut self, place: &str, call: &Call) {
        self.operation(&format!("{place}/to"), &call.to);
        self.site(place, call.site);
        self.times(place, &call.times);
        self.share(&format!("{place}/on_failure"), &call.on_failure);
        if let Some(fallback) = &call.fallback {
            self.call(&format!("{place}/fallback"), fallback);
        }
    }

    /// Requests that can never end: operations whose every path is certain to call an operation that never ends either.
    /// O(operations x calls) time: each round settles at least one operation.
    fn endless(&mut self) {
        let model = self.model;
        let mut certain: BTreeMap<&str, BTreeMap<&str, Vec<BTreeSet<&OpRef>>>> = BTreeMap::new();
        for (service, s) in &model.services {
            for (operation, o) in &s.operations {
                let paths = o.paths.iter().filter(|path| path.weight.value > 0.0);
                let calls = paths.map(|path| certain_calls(model, &path.steps)).collect();
                certain.entry(service).or_default().insert(operation, calls);
            }
        }
        loop {
            let is_endless = |op: &OpRef| certain.get(&*op.service).is_some_and(|ops| ops.contains_key(&*op.operation));
            let settled: Vec<(&str, &str)> = certain
                .iter()
                .flat_map(|(service, ops)| ops.iter().map(move |(operation, paths)| (*service, *operation, paths)))
                .filter(|(_, _, paths)| paths.iter().any(|calls| !calls.iter().any(|op| is_endless(op))))
                .map(|(service, operation, _)| (service, operation))
                .collect();
            if settled.is_empty() {
                break;
            }
            for (service, operation) in settled {
                certain.get_mut(service).and_then(|ops| ops.remove(operation));
            }
        }
        // What is left calls only into what is left: follow it until it comes round.
        let Some((service, operation)) = certain.iter().find_map(|(service, ops)| Some((*service, *ops.keys().next()?))) else {
            return;
        };
        let mut way = vec![OpRef::new(service, operation)];
        loop {
            let last = way.last().expect("it begins with one");
            let paths = &certain[&*last.service][&*last.operation];
            let endless = |op: &&OpRef| certain.get(&*op.service).is_some_and(|ops| ops.contains_key(&*op.operation));
            let Some(next) = paths.iter().flatten().copied().find(endless) else { return };
            if let Some(start) = way.iter().position(|op| op == next) {
                way.drain(..start);
                break;
            }
            way.push(next.clone());
        }
        let place = format!("/services/{}/operations/{}", pointer_step(&way[0].service), pointer_step(&way[0].operation));
        let shown: Vec<String> = way.iter().chain([&way[0]]).map(OpRef::to_string).collect();
        let help = "give one of them a path without that call, or make the call with a probability below 1";
        self.add(&place, format!("a cycle of certain calls: {}", shown.join(" -> ")), "requests that come to an end", help);
    }
}

/// Operations that these steps call at least once whatever happens; a publish calls its topic's consumer.
fn certain_calls<'a>(model: &'a Model, steps: &'a [Step]) -> BTreeSet<&'a OpRef> {
    let at_least_once = |times: &[(u32, f64)]| times.iter().all(|&(n, probability)| n > 0 || probability == 0.0);
    let mut calls = BTreeSet::new();
    for step in steps {
        match step {
            Step::Work(_) => {}
            Step::Call(call) if at_least_once(&call.times) => {
                calls.insert(&call.to);
            }
            Step::Call(_) => {}
            Step::Parallel { branches, .. } => calls.append(&mut certain_calls(model, branches)),
            Step::Lookup(lookup) => {
                calls.insert(&lookup.cache.to);
            }
            Step::Publish(publish) if at_least_once(&publish.times) => {
                calls.extend(model.topics.get(&publish.to).map(|topic| &topic.consumer));
            }
            Step::Publish(_) => {}
        }
    }
    calls
}
