//! Whether a scenario fits a model: its targets exist, each kind of fault strikes what it can strike, magnitudes are possible.
//!
//! You are here: `scenarios::check`. Places are JSON pointers into the scenario's file; `format` adds the lines.
//! `magnitude` knows how much each kind can do, `together` what cannot happen at once.
//! Not here: the file's form (`format`), or what a fault does (`sim`).

mod magnitude;
mod together;

use std::collections::{BTreeMap, BTreeSet};

use models::error::{InputError, InputErrors, nearest};
use models::system::{EdgeName, Model};

use crate::fault::{Fault, FaultKind, Target, Where};
use crate::scenario::Scenario;

/// Largest load, surge or slowness: beyond it a run is no experiment but a denial of service.
pub const MAX_FACTOR: f64 = 1_000.0;

/// Asks whether one scenario fits `model`. Returns all mistakes in one go, with places inside the scenario.
pub fn check(scenario: &Scenario, model: &Model) -> Result<(), InputErrors> {
    let mut checker = Checker { model, edges: edges(model), errors: Vec::new() };
    checker.scenario("", scenario);
    for error in &mut checker.errors {
        error.file = format!("scenario {}", scenario.id);
    }
    checker.result()
}

/// Asks whether all scenarios fit `model` and no two share an id. Places are those of a scenario file.
pub fn check_all(scenarios: &[Scenario], model: &Model) -> Result<(), InputErrors> {
    let mut checker = Checker { model, edges: edges(model), errors: Vec::new() };
    let mut first = BTreeMap::new();
    for (i, scenario) in scenarios.iter().enumerate() {
        let place = format!("/scenarios/{i}");
        checker.scenario(&place, scenario);
        if let Some(other) = first.insert(&*scenario.id, i) {
            checker.add(&format!("{place}/id"), &*scenario.id, format!("an id of its own: /scenarios/{other} has this one"), "");
        }
    }
    checker.result()
}

/// Whether `id` is made of letters, digits, `-`, `_`, `.` and `+`, so that it can be a file's name and an argument.
pub fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 200 && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
}

/// Every edge that calls can run along.
fn edges(model: &Model) -> BTreeSet<EdgeName> {
    model.uses().into_iter().map(|(from, one)| EdgeName::new(from, one.to.name())).collect()
}

struct Checker<'a> {
    model: &'a Model,
    edges: BTreeSet<EdgeName>,
    errors: Vec<InputError>,
}

impl Where {
    fn words(self) -> &'static str {
        match self {
            Where::Edge => "an edge such as a->b, or \"*->b\"",
            Where::Service => "a service",
            Where::Cache => "a service with a cache",
            Where::ServiceOrTopic => "a service or topic",
            Where::Topic => "a topic",
            Where::Entry => "an entry",
        }
    }
}

impl Checker<'_> {
    fn result(self) -> Result<(), InputErrors> {
        if self.errors.is_empty() { Ok(()) } else { Err(InputErrors(self.errors)) }
    }

    fn add(&mut self, place: &str, found: impl Into<String>, expected: impl Into<String>, help: impl Into<String>) {
        self.errors.push(InputError {
            file: "the scenarios".into(),
            line: None,
            place: Some(place.into()),
            found: found.into(),
            expected: expected.into(),
            help: help.into(),
        });
    }

    fn scenario(&mut self, place: &str, scenario: &Scenario) {
        if !is_id(&scenario.id) {
            self.add(&format!("{place}/id"), format!("{:?}", scenario.id), "letters, digits, -, _, . and +", "");
        }
        if let Some(load) = scenario.load
            && !(load > 0.0 && load <= MAX_FACTOR)
        {
            self.add(
                &format!("{place}/load"),
                load.to_string(),
                format!("a factor above 0, at most {MAX_FACTOR}"),
                "1 is the load as it is",
            );
        }
        for (i, fault) in scenario.faults.iter().enumerate() {
            let place = format!("{place}/faults/{i}");
            self.target(&format!("{place}/target"), fault);
            self.magnitude(&format!("{place}/magnitude"), fault);
            if fault.duration.is_zero() {
                self.add(&format!("{place}/duration"), "0s", "a duration above 0", "");
            }
            self.ramps(&place, fault);
        }
        self.together(place, &scenario.faults);
        self.arrivals(place, scenario);
    }

    fn ramps(&mut self, place: &str, fault: &Fault) {
        let ramps = [("ramp_up", fault.ramp_up), ("ramp_down", fault.ramp_down)].into_iter().filter(|(_, ramp)| !ramp.is_zero());
        let ramps: Vec<_> = ramps.collect();
        let Some((last, _)) = ramps.last() else { return };
        if !fault.kind.has_degrees() {
            for (key, ramp) in ramps {
                let expected = format!("no ramp: {} has no degrees, it is there or not", fault.kind.name());
                self.add(&format!("{place}/{key}"), ramp.to_string(), expected, "");
            }
        } else if fault.ramp_up.as_nanos().saturating_add(fault.ramp_down.as_nanos()) > fault.duration.as_nanos() {
            let found = ramps.iter().map(|(key, ramp)| format!("{key} {ramp}")).collect::<Vec<_>>().join(" and ");
            let expected = format!("ramps that fit into the duration of {}", fault.duration);
            self.add(&format!("{place}/{last}"), found, expected, "");
        }
    }

    fn target(&mut self, place: &str, fault: &Fault) {
        let wanted = fault.kind.strikes();
        let kind = fault.kind.name();
        match (&fault.target, wanted) {
            (Target::Edge(edge), Where::Edge) => self.edge(place, edge),
            (Target::Edge(edge), _) => {
                let fits = |end: &&&String| self.names(wanted).contains(&end.as_str());
                let end = [&edge.to, &edge.from];
                let help = end.iter().find(fits).map_or(String::new(), |end| format!("write target: {end}"));
                self.add(place, edge.to_string(), format!("{}, for {kind} strikes there", wanted.words()), help);
            }
            (Target::Node(name), Where::Edge) => {
                let exists = self.edges.iter().any(|edge| edge.to == *name);
                let help = if exists { format!("write target: \"*->{name}\" for every edge into {name}") } else { String::new() };
                self.add(place, name, format!("{}, for {kind} strikes there", wanted.words()), help);
            }
            (Target::Node(name), _) => {
                self.node(place, name, wanted, kind);
                if let (FaultKind::Surge { .. }, Some(entry)) = (&fault.kind, self.model.workload.get(name))
                    && let Some(closed) = &entry.closed
                {
                    let found = format!("{name}, a closed loop of {} users", closed.users.value);
                    let help = "a closed loop offers no rate to multiply; change users in a design change";
                    self.add(place, found, "an entry with an open loop", help);
                }
            }
        }
    }

    fn edge(&mut self, place: &str, edge: &EdgeName) {
        if self.edges.contains(edge) || (edge.from == "*" && self.edges.iter().any(|known| known.to == edge.to)) {
            return;
        }
        let mut names: Vec<String> = self.edges.iter().map(EdgeName::to_string).collect();
        if edge.from == "*" {
            names = self.edges.iter().map(|known| format!("*->{}", known.to)).collect();
        }
        let help = nearest(&edge.to_string(), names.iter().map(String::as_str))
            .map_or(String::new(), |near| format!("did you mean {near}?"));
        self.add(place, edge.to_string(), "an edge that the model has", help);
    }

    /// The names of everything that a kind of fault can strike.
    fn names(&self, wanted: Where) -> Vec<&str> {
        let model = self.model;
        let services = || model.services.keys().map(String::as_str);
        let topics = || model.topics.keys().map(String::as_str);
        match wanted {
            Where::Edge => Vec::new(),
            Where::Service => services().collect(),
            Where::Cache => services().filter(|name| model.services[*name].cache.is_some()).collect(),
            Where::ServiceOrTopic => services().chain(topics()).collect(),
            Where::Topic => topics().collect(),
            Where::Entry => model.workload.keys().map(String::as_str).collect(),
        }
    }

    fn node(&mut self, place: &str, name: &str, wanted: Where, kind: &str) {
        let model = self.model;
        let services = || model.services.keys().map(String::as_str);
        let topics = || model.topics.keys().map(String::as_str);
        let names = self.names(wanted);
        if names.contains(&name) {
            return;
        }
        let exists = services().chain(topics()).chain(model.workload.keys().map(String::as_str)).any(|known| known == name);
        let near = nearest(name, names.iter().copied()).or(if names.len() == 1 { names.first().copied() } else { None });
        let help = near.map_or(String::new(), |near| format!("did you mean {near}?"));
        let expected = match exists {
            true => format!("{}, for {kind} strikes there", wanted.words()),
            false => format!("{} that the model has", wanted.words()),
        };
        self.add(place, name, expected, help);
    }
}
