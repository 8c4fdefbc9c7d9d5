//! The file of checks: YAML (or JSON), by hand.
//!
//! You are here: `scenarios::checks::format`. It reads with `models::format`'s tree and cursor, and faults with the scenario file's reader.
//! Always true: no input makes it panic; unknown keys are refused with the nearest known one.
//! Not here: whether what a check names is in the model ([`Check::cases`]).

use models::error::InputErrors;
use models::format::cursor::{Cursor, Fields, Mistakes, Shape};
use models::format::doc::{self, Value};
use models::format::read_version;
use models::units::Nanos;

use super::{Bound, Check, Checks, Every, Family, Must, Subject, Targets};
use crate::check;
use crate::failure::Failure;
use crate::format::{fault_with, target};
use crate::token::{Token, TokenError};

/// JSON Schema (2020-12) of a file of checks.
pub const CHECKS_SCHEMA: &str = include_str!("../../schema/checks.schema.json");

/// Every kind of map that a file of checks may hold, but for faults, which are those of scenario files.
pub const SHAPES: &[&Shape] = &[&FILE, &CHECK, &EXPECT];

const FILE: Shape = Shape { name: "", keys: &["version", "model", "scenarios", "checks"] };
const CHECK: Shape = Shape {
    name: "check",
    keys: &[
        "id",
        "why",
        "faults",
        "up_to",
        "load",
        "scenarios",
        "token",
        "must",
        "expect",
        "horizon",
        "warm_up",
        "world",
        "share",
        "confidence",
        "runs",
    ],
};
const EXPECT: Shape = Shape {
    name: "expect",
    keys: &[
        "metastable",
        "cascade",
        "breach",
        "recovery_within",
        "error_rate_below",
        "at",
        "p99_below",
        "queue_below",
        "retry_amplification_below",
        "harmed_below",
        "stale_writes_at_most",
        "duplicate_effects_at_most",
        "dead_letters_at_most",
    ],
};

/// The words for all targets of a sort.
pub(super) const EVERY: &[(&str, Every)] = &[
    ("every edge", Every::Edge),
    ("every service", Every::Service),
    ("every cache", Every::Cache),
    ("every topic", Every::Topic),
    ("every entry", Every::Entry),
];

/// Where nothing is said: the defaults of `run` and `sweep`.
const HORIZON: Nanos = Nanos::from_secs(120);
const WARM_UP: Nanos = Nanos::from_secs(10);
const SHARE: f64 = 0.95;
const CONFIDENCE: f64 = 0.95;
const RUNS: u32 = 1_000;
/// Most seeds that a check can ask for.
const MOST_RUNS: u32 = 1_000_000;

/// Reads a file of checks: its form alone. `name` is what errors call the file.
///
/// # Errors
/// Every mistake in one go, each with its line and JSON pointer.
pub fn read_checks(name: &str, bytes: &[u8]) -> Result<Checks, InputErrors> {
    let root = doc::parse(name, bytes)?;
    let mut m = Mistakes::new(name);
    let checks = file(&Cursor::root(&root), &mut m);
    m.or(checks).map(|checks| checks.expect("what could not be read is a mistake"))
}

fn file(at: &Cursor<'_>, m: &mut Mistakes) -> Option<Checks> {
    if !read_version(at, m) {
        return None;
    }
    let fields = at.fields(&FILE, m)?;
    let path = |key: &str, m: &mut Mistakes| match fields.get(key) {
        Some(at) => at.text("a file's path", m).map(|text| Some(text.to_owned())),
        None => Some(None),
    };
    let (model, scenarios) = (path("model", m), path("scenarios", m));
    let items = fields.need("checks", "a list of checks", m)?.items(m)?;
    let mut checks: Vec<Check> = Vec::new();
    for at in &items {
        let Some(check) = one(at, m) else { continue };
        if checks.iter().any(|other| other.id == check.id) {
            m.add_found(at, format!("the id {} again", check.id), "an id of its own", "");
        }
        checks.push(check);
    }
    if items.is_empty() {
        m.add_found(at, "no checks", "at least one check", "");
    }
    Some(Checks { model: model?, scenarios: scenarios?, checks })
}

fn one(at: &Cursor<'_>, m: &mut Mistakes) -> Option<Check> {
    let fields = at.fields(&CHECK, m)?;
    let id = fields.need("id", "a name such as no-storm", m).and_then(|at| {
        let id = at.text("a name", m)?;
        if !check::is_id(id) || id.len() > 80 {
            m.add(&at, "at most 80 letters, digits, -, _, . and +", "");
            return None;
        }
        Some(id.to_owned())
    });
    let why = fields.get("why").and_then(|at| at.text("a sentence", m)).unwrap_or_default().to_owned();
    let subject = subject(&fields, m);
    let token = matches!(subject, Some(Subject::Token { .. }));
    let expect = match fields.get("expect") {
        Some(at) => expect(&at, m),
        // What is looked at where nothing is said of a run: whether users get their service back, and whether others are drawn in.
        None if token => Some((vec![Bound::Never(Failure::Metastable), Bound::Never(Failure::Cascade)], None)),
        None => {
            m.add_found(&fields.at, "no expect", "expect: what a run must keep", "write expect: { metastable: never }");
            None
        }
    };
    if token {
        for key in ["horizon", "warm_up", "world", "share", "confidence", "runs", "load", "up_to"] {
            if let Some(at) = fields.get(key).filter(|_| key != "warm_up") {
                m.add(&at, format!("no {key}: the token names one run, and all that is its own"), "");
            }
        }
    }
    let horizon = time_or(&fields, "horizon", HORIZON, m);
    let warm_up = time_or(&fields, "warm_up", WARM_UP, m);
    let world = fields.get("world").map_or(Some(0), |at| at.count(m));
    let share = fields.get("share").map_or(Some(SHARE), |at| at.share(m).filter(|&s| above_0(&at, s, m)));
    let confidence = fields.get("confidence").map_or(Some(CONFIDENCE), |at| {
        let confidence = at.share(m)?;
        if !(0.5..1.0).contains(&confidence) {
            m.add(&at, "at least 0.5 and below 1", "0.95 is usual; nothing is ever shown for certain");
            return None;
        }
        Some(confidence)
    });
    let runs = fields.get("runs").map_or(Some(RUNS), |at| {
        let runs = at.count(m)?;
        if runs == 0 || runs > MOST_RUNS {
            m.add(&at, format!("1 to {MOST_RUNS} seeds"), "");
            return None;
        }
        Some(runs)
    });
    let (horizon, warm_up) = (horizon?, warm_up?);
    if warm_up >= horizon && !token {
        m.add_found(at, format!("a warm-up of {warm_up} in runs of {horizon}"), "a warm-up shorter than the run", "");
        return None;
    }
    let (bounds, measured_at) = expect?;
    Some(Check {
        id: id?,
        why,
        subject: subject?,
        bounds,
        at: measured_at,
        horizon,
        warm_up,
        world: world?,
        share: share?,
        confidence: confidence?,
        runs: runs?,
    })
}

fn above_0(at: &Cursor<'_>, value: f64, m: &mut Mistakes) -> bool {
    if value == 0.0 {
        m.add(at, "a share above 0", "");
    }
    value > 0.0
}

fn time_or(fields: &Fields<'_>, key: &str, default: Nanos, m: &mut Mistakes) -> Option<Nanos> {
    fields.get(key).map_or(Some(default), |at| at.duration(m))
}

fn subject(fields: &Fields<'_>, m: &mut Mistakes) -> Option<Subject> {
    let given: Vec<&str> = ["faults", "scenarios", "token"].into_iter().filter(|key| fields.get(key).is_some()).collect();
    let [key] = given[..] else {
        let found = if given.is_empty() { "none of them".to_owned() } else { given.join(" and ") };
        m.add_found(&fields.at, found, "one of faults, scenarios or token: what the check speaks of", "");
        return None;
    };
    let at = fields.get(key).expect("it is given");
    let only_with = |key: &str, what: &str, m: &mut Mistakes| {
        if let Some(at) = fields.get(key) {
            m.add(&at, format!("no {key} here: it goes with {what}"), "");
        }
    };
    match key {
        "token" => {
            let token = at.text("a token", m)?;
            let token: Token = match token.parse() {
                Ok(token) => token,
                Err(TokenError { part, found, expected }) => {
                    let help = "copy it whole from ranking.json, outcomes.csv or the report";
                    m.add_found(&at, format!("{part} is {found:?}"), expected, help);
                    return None;
                }
            };
            let must =
                fields.get("must").map_or(Some(Must::Hold), |at| at.word(&[("hold", Must::Hold), ("fail", Must::Fail)], m));
            Some(Subject::Token { token, must: must? })
        }
        "scenarios" => {
            ["load", "up_to"].iter().for_each(|key| only_with(key, "faults", m));
            only_with("must", "token", m);
            if at.is_word("all") {
                return Some(Subject::Scenarios(Vec::new()));
            }
            let ids: Option<Vec<String>> = match &at.node.value {
                Value::List(_) => at.items(m)?.iter().map(|at| at.text("the id of a scenario", m).map(str::to_owned)).collect(),
                _ => at.text("the id of a scenario, a list of them, or all", m).map(|id| vec![id.to_owned()]),
            };
            let ids = ids?;
            if ids.is_empty() {
                m.add(&at, "at least one scenario", "write scenarios: all for every one of the file");
                return None;
            }
            Some(Subject::Scenarios(ids))
        }
        _ => {
            only_with("must", "token", m);
            let load = fields.get("load").map_or(Some(None), |at| at.real(m).map(Some));
            let up_to = fields.get("up_to").map_or(Some(false), |at| at.boolean(m));
            let items = at.items(m)?;
            if items.is_empty() {
                m.add(&at, "at least one fault", "");
            }
            let faults: Vec<Family> = items.iter().filter_map(|at| family(at, m)).collect();
            let several = faults.iter().filter(|family| family.targets != Targets::Itself).count();
            if several > 1 {
                m.add(&at, "one fault with several targets at most", "write one check for each pair");
                return None;
            }
            Some(Subject::Faults { faults, load: load?, up_to: up_to? })
        }
    }
}

fn family(at: &Cursor<'_>, m: &mut Mistakes) -> Option<Family> {
    let mut targets = Targets::Itself;
    let fault = fault_with(at, m, |at, m| {
        if matches!(at.node.value, Value::List(_)) {
            let each: Vec<_> = at.items(m)?.iter().map(|at| target(at, m)).collect::<Option<_>>()?;
            let first = each.first().cloned();
            if first.is_none() {
                m.add(at, "at least one target", "");
            }
            targets = Targets::Each(each);
            return first;
        }
        if at.scalar().is_some_and(|text| text.starts_with("every ")) {
            let every = at.word(EVERY, m)?;
            targets = Targets::Every(every);
            // (A place that each case fills.)
            return Some(crate::fault::Target::Node(every.words().to_owned()));
        }
        target(at, m)
    });
    Some(Family { fault: fault?, targets })
}

fn expect(at: &Cursor<'_>, m: &mut Mistakes) -> Option<(Vec<Bound>, Option<String>)> {
    let fields = at.fields(&EXPECT, m)?;
    let mut bounds: Vec<Option<Bound>> = Vec::new();
    for (key, failure) in [("metastable", Failure::Metastable), ("cascade", Failure::Cascade), ("breach", Failure::Breach)] {
        bounds.extend(fields.get(key).map(|at| at.word(&[("never", ())], m).map(|()| Bound::Never(failure))));
    }
    bounds.extend(fields.get("recovery_within").map(|at| at.duration(m).map(Bound::RecoveryWithin)));
    bounds.extend(fields.get("error_rate_below").map(|at| at.share(m).map(Bound::ErrorRateBelow)));
    bounds.extend(fields.get("p99_below").map(|at| at.duration(m).map(Bound::P99Below)));
    bounds.extend(fields.get("queue_below").map(|at| at.count(m).map(Bound::QueueBelow)));
    bounds.extend(fields.get("retry_amplification_below").map(|at| at.real(m).map(Bound::RetryAmplificationBelow)));
    bounds.extend(fields.get("harmed_below").map(|at| at.share(m).map(Bound::HarmedBelow)));
    bounds.extend(fields.get("stale_writes_at_most").map(|at| at.count(m).map(Bound::StaleWritesAtMost)));
    bounds.extend(fields.get("duplicate_effects_at_most").map(|at| at.count(m).map(Bound::DuplicateEffectsAtMost)));
    bounds.extend(fields.get("dead_letters_at_most").map(|at| at.count(m).map(Bound::DeadLettersAtMost)));
    let measured_at = match fields.get("at") {
        Some(at) if fields.get("error_rate_below").is_none() => {
            m.add(&at, "no at: it says where error_rate_below is measured", "");
            None
        }
        Some(at) => at.text("an entry, a service or an edge a->b", m).map(|text| Some(text.trim().to_owned())),
        None => Some(None),
    };
    if bounds.is_empty() {
        m.add_found(at, "nothing", format!("at least one of {}", EXPECT.keys.join(", ")), "write expect: { metastable: never }");
        return None;
    }
    Some((bounds.into_iter().collect::<Option<_>>()?, measured_at?))
}
