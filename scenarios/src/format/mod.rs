//! The scenario file: YAML (or JSON), by hand, from the generator, or from elsewhere.
//!
//! You are here: `scenarios::format`. It reads with `models::format`'s tree and cursor, and knows the kinds of faults.
//! Always true: reading what was written gives the same scenarios; no input makes it panic.
//! Not here: whether a scenario fits a model ([`crate::check`]), though [`read_checked`] asks that too.

mod kinds;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use models::error::InputErrors;
use models::format::cursor::{Cursor, Mistakes, Shape};
use models::format::doc::{self, Node};
use models::format::yaml::Yaml;
use models::format::{VERSION, read_version};
use models::system::{EdgeName, Model};
use models::units::{Nanos, SimTime};

use crate::check;
use crate::fault::{Fault, Target};
use crate::scenario::Scenario;

pub use kinds::{KIND_ALIASES, LEGS, MAGNITUDES, Magnitude, RETRANSMIT};

/// JSON Schema (2020-12) of a scenario file.
pub const SCENARIOS_SCHEMA: &str = include_str!("../../schema/scenarios.schema.json");

/// Every kind of map that a scenario file may hold; the magnitudes are in [`MAGNITUDES`].
pub const SHAPES: &[&Shape] = &[&FILE, &SCENARIO, &FAULT];

const FILE: Shape = Shape { name: "", keys: &["version", "scenarios"] };
const SCENARIO: Shape = Shape { name: "scenario", keys: &["id", "why", "load", "faults"] };
const FAULT: Shape = Shape { name: "fault", keys: &["kind", "target", "start", "duration", "ramp_up", "ramp_down", "magnitude"] };

/// Reads a scenario file: its form, and that no two scenarios share an id. `name` is what errors call the file.
pub fn read_scenarios(name: &str, bytes: &[u8]) -> Result<Vec<Scenario>, InputErrors> {
    decode(name, &doc::parse(name, bytes)?)
}

/// As [`read_scenarios`], and checks each scenario against `model`; mistakes of sense carry their lines too.
pub fn read_checked(name: &str, bytes: &[u8], model: &Model) -> Result<Vec<Scenario>, InputErrors> {
    let root = doc::parse(name, bytes)?;
    let scenarios = decode(name, &root)?;
    check::check_all(&scenarios, model).map_err(|errors| doc::locate(name, &root, errors))?;
    Ok(scenarios)
}

fn decode(name: &str, root: &Node) -> Result<Vec<Scenario>, InputErrors> {
    let mut m = Mistakes::new(name);
    let scenarios = file(root, &mut m).unwrap_or_default();
    m.or(scenarios)
}

fn file(root: &Node, m: &mut Mistakes) -> Option<Vec<Scenario>> {
    let at = Cursor::root(root);
    if !read_version(&at, m) {
        return None;
    }
    let fields = at.fields(&FILE, m)?;
    let items = fields.need("scenarios", "a list of scenarios", m)?.items(m)?;
    let mut first_lines = BTreeMap::new();
    let mut scenarios = Vec::new();
    for at in &items {
        let Some(scenario) = scenario(at, m) else { continue };
        if let Some(line) = first_lines.insert(scenario.id.clone(), at.line) {
            m.add_found(at, format!("the id {} again, as in line {line}", scenario.id), "an id of its own", "");
        }
        scenarios.push(scenario);
    }
    Some(scenarios)
}

fn scenario(at: &Cursor<'_>, m: &mut Mistakes) -> Option<Scenario> {
    let fields = at.fields(&SCENARIO, m)?;
    let id = fields.need("id", "a name such as slow-payment", m).and_then(|at| {
        let id = at.text("a name", m)?;
        if !check::is_id(id) {
            m.add(&at, "letters, digits, -, _, . and +", "");
            return None;
        }
        Some(id.to_owned())
    });
    let why = fields.get("why").and_then(|at| at.text("a sentence", m)).unwrap_or_default().to_owned();
    let load = fields.get("load").and_then(|at| at.real(m));
    let faults = match fields.get("faults") {
        Some(at) => at.items(m)?.iter().filter_map(|at| fault(at, m)).collect(),
        None => Vec::new(),
    };
    Some(Scenario { id: id?, why, load, faults })
}

fn fault(at: &Cursor<'_>, m: &mut Mistakes) -> Option<Fault> {
    fault_with(at, m, target)
}

/// A fault whose target is read by `target`: checks know more words for it.
pub(crate) fn fault_with(
    at: &Cursor<'_>,
    m: &mut Mistakes,
    target: impl FnOnce(&Cursor<'_>, &mut Mistakes) -> Option<Target>,
) -> Option<Fault> {
    let fields = at.fields(&FAULT, m)?;
    let kind = kinds::kind(&fields, m);
    let target = fields.need("target", "an edge a->b, or the name of a service, topic or entry", m).and_then(|at| target(&at, m));
    let start = fields.need("start", "when it begins, such as 30s", m).and_then(|at| at.duration(m));
    let duration = fields.need("duration", "how long it lasts, such as 20s", m).and_then(|at| {
        let duration = at.duration(m)?;
        if duration.is_zero() {
            m.add(&at, "a duration above 0", "");
            return None;
        }
        Some(duration)
    });
    let mut ramp = |key| fields.get(key).map_or(Some(Nanos::ZERO), |at| at.duration(m));
    let (ramp_up, ramp_down) = (ramp("ramp_up"), ramp("ramp_down"));
    let fault = Fault::new(kind?, target?, SimTime::from_nanos(start?.as_nanos()), duration?);
    Some(Fault { ramp_up: ramp_up?, ramp_down: ramp_down?, ..fault })
}

/// An edge or a name.
pub(crate) fn target(at: &Cursor<'_>, m: &mut Mistakes) -> Option<Target> {
    let text = at.text("an edge a->b, or the name of a service, topic or entry", m)?.trim();
    if text.contains("->") {
        let edge = EdgeName::parse(text);
        if edge.is_none() {
            m.add(at, "an edge with both its ends: a->b, or \"*->b\" for every edge into b", "");
        }
        return edge.map(Target::Edge);
    }
    if text.is_empty() {
        m.add(at, "an edge a->b, or the name of a service, topic or entry", "");
        return None;
    }
    Some(Target::Node(text.into()))
}

/// The scenarios as a YAML file, which [`read_scenarios`] reads back to equal ones.
pub fn write_scenarios(scenarios: &[Scenario]) -> String {
    let key = |key: &str, value: Yaml| (key.to_owned(), value);
    let one = |scenario: &Scenario| {
        let mut entries = vec![key("id", Yaml::text(&scenario.id))];
        if !scenario.why.is_empty() {
            entries.push(key("why", Yaml::text(&scenario.why)));
        }
        entries.extend(scenario.load.map(|load| key("load", Yaml::bare(load))));
        if !scenario.faults.is_empty() {
            entries.push(key("faults", Yaml::Block(scenario.faults.iter().map(write_fault).collect())));
        }
        Yaml::BlockMap(entries)
    };
    let list = Yaml::Block(scenarios.iter().map(one).collect());
    Yaml::BlockMap(vec![key("version", Yaml::bare(VERSION)), key("scenarios", list)]).render()
}

fn write_fault(fault: &Fault) -> Yaml {
    let start = Nanos::from_nanos(fault.start.as_nanos());
    let mut entries = vec![
        ("kind".to_owned(), Yaml::bare(fault.kind.name())),
        ("target".to_owned(), Yaml::text(fault.target.to_string())),
        ("start".to_owned(), Yaml::bare(start)),
        ("duration".to_owned(), Yaml::bare(fault.duration)),
    ];
    for (key, ramp) in [("ramp_up", fault.ramp_up), ("ramp_down", fault.ramp_down)] {
        entries.extend((!ramp.is_zero()).then(|| (key.to_owned(), Yaml::bare(ramp))));
    }
    let magnitude = kinds::write_magnitude(&fault.kind);
    if !magnitude.is_empty() {
        entries.push(("magnitude".to_owned(), Yaml::FlowMap(magnitude)));
    }
    Yaml::FlowMap(entries)
}
