//! What must be true of a system: statements that a CI job holds a model against.
//!
//! You are here: `scenarios::checks`. [`read_checks`] reads the file, [`Check::cases`] turns one statement into the scenarios it speaks of,
//! [`Bound::is_kept`] asks one run's record.
//! Always true: the cases of a check are the same, in the same order, for the same file and model.
//! Not here: how many runs are made and what they show (`reports::sequential`, the command line).

mod format;
#[cfg(test)]
mod tests;

use models::error::{InputError, InputErrors};
use models::system::{EdgeName, Model};
use models::units::Nanos;

use crate::check;
use crate::failure::Failure;
use crate::fault::{Fault, Target};
use crate::milder::milder;
use crate::record::RunRecord;
use crate::scenario::Scenario;
use crate::token::Token;

pub use format::{CHECKS_SCHEMA, SHAPES, read_checks};

/// "Up to" goes through this many equal steps.
pub const DEGREES: u32 = 4;

/// A file of checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Checks {
    /// The model's file, seen from the checks' folder; `None`: the command line says.
    pub model: Option<String>,
    /// A scenario file, likewise.
    pub scenarios: Option<String>,
    /// The statements.
    pub checks: Vec<Check>,
}

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Its name.
    pub id: String,
    /// Why somebody cares; empty if nobody said.
    pub why: String,
    /// What it speaks of.
    pub subject: Subject,
    /// What a run must keep, all of it.
    pub bounds: Vec<Bound>,
    /// Where `error_rate_below` is measured: an entry, service or edge; `None`: all users.
    pub at: Option<String>,
    /// Length of a run.
    pub horizon: Nanos,
    /// What is left out of its statistics.
    pub warm_up: Nanos,
    /// The world.
    pub world: u32,
    /// Share of the seeds in which a run must keep the bounds.
    pub share: f64,
    /// How sure one wants to be that it is so.
    pub confidence: f64,
    /// Most seeds of one case.
    pub runs: u32,
}

/// What a check speaks of.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// Faults written out in the check.
    Faults {
        /// One of them may strike one target after the other.
        faults: Vec<Family>,
        /// Factor on every entry's rate; `None`: 1.
        load: Option<f64>,
        /// Whether milder forms count too: [`DEGREES`] equal steps up to what is written.
        up_to: bool,
    },
    /// Scenarios of the scenario file, by id; empty: all of them.
    Scenarios(Vec<String>),
    /// One run.
    Token {
        /// Its name.
        token: Token,
        /// What it must do.
        must: Must,
    },
}

/// What a named run must do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Must {
    /// Keep the bounds.
    #[default]
    Hold,
    /// Break one of them, as it did when it was found.
    Fail,
}

/// A fault and where it strikes.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// The fault; with several targets, its own is the first of them.
    pub fault: Fault,
    /// Where.
    pub targets: Targets,
}

/// Where a fault of a check strikes.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// Where it says.
    Itself,
    /// One after the other of these, each a case of its own.
    Each(Vec<Target>),
    /// One after the other of all that there are.
    Every(Every),
}

/// All of one sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// Edges, those from users included.
    Edge,
    /// Services.
    Service,
    /// Services with a cache.
    Cache,
    /// Topics.
    Topic,
    /// Entries.
    Entry,
}

impl Every {
    /// All of this sort in `model`, in its order.
    fn of(self, model: &Model) -> Vec<Target> {
        let names = |names: Vec<&String>| names.into_iter().map(|name| Target::Node(name.clone())).collect();
        match self {
            Every::Edge => {
                let mut edges: Vec<Target> = Vec::new();
                for (from, one) in model.uses() {
                    let edge = Target::Edge(EdgeName::new(from, one.to.name()));
                    if !edges.contains(&edge) {
                        edges.push(edge);
                    }
                }
                edges
            }
            Every::Service => names(model.services.keys().collect()),
            Every::Cache => names(model.services.iter().filter(|(_, s)| s.cache.is_some()).map(|(name, _)| name).collect()),
            Every::Topic => names(model.topics.keys().collect()),
            Every::Entry => names(model.workload.keys().collect()),
        }
    }

    /// As files write it.
    pub fn words(self) -> &'static str {
        format::EVERY.iter().find(|(_, every)| *every == self).expect("all have words").0
    }
}

/// What a run must keep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// It must not fail in this way.
    Never(Failure),
    /// Users are back to normal so soon after the last fault's end.
    RecoveryWithin(Nanos),
    /// Share of the requests, from the fault's start on, that fail.
    ErrorRateBelow(f64),
    /// Highest p99 of a second, at an entry.
    P99Below(Nanos),
    /// Deepest queue.
    QueueBelow(u32),
    /// Attempts per first attempt, highest over 2 s.
    RetryAmplificationBelow(f64),
    /// Share of the requests that are harmed.
    HarmedBelow(f64),
    /// Stale writes.
    StaleWritesAtMost(u32),
    /// Messages applied twice.
    DuplicateEffectsAtMost(u32),
    /// Messages given up.
    DeadLettersAtMost(u32),
}

impl Bound {
    /// Whether a run keeps it. `error_rate_at`: the error rate where the check wants it measured, if not at the users.
    pub fn is_kept(&self, record: &RunRecord, error_rate_at: Option<f64>) -> bool {
        let share = |count: u64| count as f64 / record.requests.max(1) as f64;
        match *self {
            Bound::Never(failure) => !failure.is_in(record),
            Bound::RecoveryWithin(time) => record.recovery_s.is_some_and(|s| s <= time.as_secs_f64()),
            Bound::ErrorRateBelow(rate) => error_rate_at.unwrap_or_else(|| share(record.failed)) < rate,
            Bound::P99Below(time) => record.p99_ms.peak < time.as_millis_f64(),
            Bound::QueueBelow(depth) => record.queue_depth.peak < f64::from(depth),
            Bound::RetryAmplificationBelow(ratio) => record.retry_amplification_peak < ratio,
            Bound::HarmedBelow(part) => share(record.harmed) < part,
            Bound::StaleWritesAtMost(most) => record.stale_writes <= u64::from(most),
            Bound::DuplicateEffectsAtMost(most) => record.duplicate_effects <= u64::from(most),
            Bound::DeadLettersAtMost(most) => record.dead_letters <= u64::from(most),
        }
    }
}

/// One scenario that a check speaks of.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What it is, beside others of its check; empty if there are no others.
    pub label: String,
    /// What is run.
    pub scenario: Scenario,
}

impl Check {
    /// The scenarios that this check speaks of (a token's run is found by whoever runs it). `place` is its JSON pointer, `known` the scenario
    /// file's content.
    ///
    /// # Errors
    /// What does not fit the model, with places in the checks' file.
    pub fn cases(&self, place: &str, model: &Model, known: &[Scenario]) -> Result<Vec<Case>, InputErrors> {
        match &self.subject {
            Subject::Token { .. } => Ok(Vec::new()),
            Subject::Scenarios(ids) => named_cases(ids, place, known),
            Subject::Faults { faults, load, up_to } => {
                let cases = self.written_cases(faults, *load, *up_to, place, model)?;
                for case in &cases {
                    check::check(&case.scenario, model).map_err(|errors| {
                        let moved = errors.0.into_iter().map(|error| {
                            let inner = error.place.as_deref().unwrap_or_default();
                            InputError { place: Some(format!("{place}{inner}")), ..error }
                        });
                        InputErrors(moved.collect())
                    })?;
                }
                Ok(cases)
            }
        }
    }

    fn written_cases(
        &self,
        faults: &[Family],
        load: Option<f64>,
        up_to: bool,
        place: &str,
        model: &Model,
    ) -> Result<Vec<Case>, InputErrors> {
        let base = Scenario {
            id: self.id.clone(),
            why: self.why.clone(),
            load,
            faults: faults.iter().map(|family| family.fault.clone()).collect(),
        };
        let mut cases = vec![Case { label: String::new(), scenario: base }];
        for (i, family) in faults.iter().enumerate() {
            let targets = match &family.targets {
                Targets::Itself => continue,
                Targets::Each(targets) => targets.clone(),
                Targets::Every(every) => every.of(model),
            };
            if targets.is_empty() {
                return Err(InputErrors::from(InputError {
                    place: Some(format!("{place}/faults/{i}/target")),
                    found: "none in this model".to_owned(),
                    expected: "a model that has some, or another target".to_owned(),
                    ..InputError::default()
                }));
            }
            let each = |case: &Case| {
                targets
                    .iter()
                    .map(|target| {
                        let mut case = case.clone();
                        case.scenario.faults[i].target = target.clone();
                        case.scenario.id = format!("{}.{}", case.scenario.id, id_of(&target.to_string()));
                        case.label = joined(&case.label, &target.to_string());
                        case
                    })
                    .collect::<Vec<_>>()
            };
            cases = cases.iter().flat_map(each).collect();
        }
        if up_to {
            cases = cases.iter().flat_map(in_degrees).collect();
        }
        Ok(cases)
    }
}

/// The same case with its faults at each degree that they have.
fn in_degrees(case: &Case) -> Vec<Case> {
    let at = |degree: u32| {
        let part = f64::from(degree) / f64::from(DEGREES);
        let mut milder_case = case.clone();
        let mut any = false;
        for fault in &mut milder_case.scenario.faults {
            if let Some(kind) = milder(&fault.kind, part) {
                any |= kind != fault.kind;
                fault.kind = kind;
            }
        }
        if degree < DEGREES {
            milder_case.scenario.id = format!("{}.{degree}of{DEGREES}", case.scenario.id);
            milder_case.label = joined(&case.label, &format!("at {degree}/{DEGREES}"));
        }
        (any || degree == DEGREES).then_some(milder_case)
    };
    // The full magnitude first: where it fails, that is what one wants to see.
    (1..=DEGREES).rev().filter_map(at).collect()
}

fn joined(label: &str, more: &str) -> String {
    if label.is_empty() { more.to_owned() } else { format!("{label} {more}") }
}

/// A name as part of an id.
fn id_of(name: &str) -> String {
    let mut id = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || "_.+".contains(c) {
            id.push(c);
        } else if !id.ends_with('-') {
            id.push('-');
        }
    }
    // (ASCII alone, so that it may be cut anywhere.)
    id.truncate(100);
    id
}

fn named_cases(ids: &[String], place: &str, known: &[Scenario]) -> Result<Vec<Case>, InputErrors> {
    if ids.is_empty() {
        return Ok(known.iter().map(|s| Case { label: s.id.clone(), scenario: s.clone() }).collect());
    }
    let mut cases = Vec::new();
    let mut errors = Vec::new();
    for (i, id) in ids.iter().enumerate() {
        match known.iter().find(|scenario| scenario.id == *id) {
            Some(scenario) => {
                let label = if ids.len() > 1 { id.clone() } else { String::new() };
                cases.push(Case { label, scenario: scenario.clone() });
            }
            None => {
                let near = models::error::nearest(id, known.iter().map(|scenario| scenario.id.as_str()));
                errors.push(InputError {
                    place: Some(format!("{place}/scenarios/{i}")),
                    found: id.clone(),
                    expected: "the id of a scenario in the scenario file".to_owned(),
                    help: near.map_or(String::new(), |near| format!("did you mean {near}?")),
                    ..InputError::default()
                });
            }
        }
    }
    if errors.is_empty() { Ok(cases) } else { Err(InputErrors(errors)) }
}
