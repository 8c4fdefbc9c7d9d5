//! The kinds of faults in a scenario file, and the magnitude of each.
//!
//! You are here: `scenarios::format::kinds`. A new kind needs a line in [`MAGNITUDES`], an arm in `kind` and in `write_magnitude`.

use models::format::cursor::{Cursor, Fields, Mistakes, Shape};
use models::format::yaml::Yaml;
use models::units::Nanos;

use crate::fault::{FaultKind, Leg};

/// What a file may say of one kind of fault.
#[derive(Debug)]
pub struct Magnitude {
    /// Keys of `magnitude`. The shape's name is the kind's.
    pub shape: Shape,
    /// Other tools' words for these keys, with ours.
    pub aliases: &'static [(&'static str, &'static str)],
}

/// Every kind of fault and its magnitude.
pub const MAGNITUDES: &[Magnitude] = &[
    magnitude("latency", &["add", "jitter", "delivers_abandoned"], &[]),
    magnitude("connection_drop", &["probability"], &[("prob", "probability")]),
    magnitude("black_hole", &[], &[]),
    magnitude("retries", &["attempts", "backoff"], &[("max_attempts", "attempts")]),
    magnitude("errors", &["probability"], &[("prob", "probability")]),
    magnitude("slow", &["factor"], &[]),
    magnitude("crash", &["replicas", "black_hole"], &[]),
    magnitude("workers_lost", &["keep"], &[("fraction", "keep")]),
    magnitude("surge", &["factor"], &[]),
    magnitude("delay", &["add", "jitter"], &[("max", "jitter")]),
    magnitude("reorder", &["probability", "within"], &[("prob", "probability")]),
    magnitude("consumer_stall", &[], &[]),
];

/// Other tools' words for kinds of faults, with ours.
pub const KIND_ALIASES: &[(&str, &str)] = &[
    ("slowdown", "slow"),
    ("capacity", "workers_lost"),
    ("error", "errors"),
    ("conn_drop", "connection_drop"),
    ("blackhole", "black_hole"),
    ("retry_policy", "retries"),
    ("msg_delay", "delay"),
    ("stall", "consumer_stall"),
];

const fn magnitude(
    name: &'static str,
    keys: &'static [&'static str],
    aliases: &'static [(&'static str, &'static str)],
) -> Magnitude {
    Magnitude { shape: Shape { name, keys }, aliases }
}

/// The kind and magnitude of the fault with these fields.
pub(super) fn kind(fault: &Fields<'_>, m: &mut Mistakes) -> Option<FaultKind> {
    let at = fault.need("kind", "what the fault does, such as latency", m)?;
    let name = match KIND_ALIASES.iter().find(|(alias, _)| at.is_word(alias)) {
        Some((_, name)) => name,
        None => at.word(&MAGNITUDES.iter().map(|one| (one.shape.name, one.shape.name)).collect::<Vec<_>>(), m)?,
    };
    let known = MAGNITUDES.iter().find(|one| one.shape.name == name).expect("word returns a name of this list");
    let given = match fault.get("magnitude") {
        Some(at) => given(&at, known, m)?,
        None => Vec::new(),
    };
    let mut magnitude = Reading { fault, name, given, m };
    match name {
        "latency" => {
            let delivers_abandoned = magnitude.or("delivers_abandoned", false, Cursor::boolean);
            let (add, jitter) = magnitude.add_and_jitter()?;
            let delivers_abandoned = delivers_abandoned?;
            Some(FaultKind::Latency { add, jitter, distribution: None, leg: Leg::Request, delivers_abandoned })
        }
        "connection_drop" => {
            Some(FaultKind::ConnectionDrop { probability: magnitude.need("probability", "0.2", Cursor::share)? })
        }
        "black_hole" => Some(FaultKind::BlackHole { leg: Leg::Both }),
        "retries" => {
            let attempts = magnitude.need("attempts", "8", Cursor::count);
            let backoff = magnitude.or("backoff", Nanos::ZERO, Cursor::duration);
            Some(FaultKind::AggressiveRetries { attempts: attempts?, backoff: backoff? })
        }
        "errors" => Some(FaultKind::Errors { probability: magnitude.need("probability", "0.3", Cursor::share)? }),
        "slow" => Some(FaultKind::Slow { factor: magnitude.need("factor", "4", Cursor::real)? }),
        "crash" => {
            let replicas = magnitude.or("replicas", None, |at, m| at.count(m).map(Some));
            let black_hole = magnitude.or("black_hole", false, Cursor::boolean);
            Some(FaultKind::Crash { replicas: replicas?, black_hole: black_hole? })
        }
        "workers_lost" => Some(FaultKind::WorkersLost { keep: magnitude.need("keep", "0.5", Cursor::share)? }),
        "surge" => Some(FaultKind::Surge { factor: magnitude.need("factor", "3", Cursor::real)? }),
        "delay" => {
            let (add, jitter) = magnitude.add_and_jitter()?;
            Some(FaultKind::Delay { add, jitter })
        }
        "reorder" => {
            let probability = magnitude.need("probability", "0.2", Cursor::share);
            let within = magnitude.need("within", "500ms", Cursor::duration);
            Some(FaultKind::Reorder { probability: probability?, within: within? })
        }
        _ => Some(FaultKind::ConsumerStall),
    }
}

/// The keys of the map at `at`, other tools' words replaced by ours, each known and there once.
fn given<'a>(at: &Cursor<'a>, known: &Magnitude, m: &mut Mistakes) -> Option<Vec<(&'a str, Cursor<'a>)>> {
    let mut given: Vec<(&str, Cursor<'a>)> = Vec::new();
    for (key, at) in at.entries(m)? {
        let key = known.aliases.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, ours)| ours);
        if given.iter().any(|(other, _)| *other == key) {
            m.add_found(&at, format!("{key} a second time"), "each key once", "");
        } else if known.shape.keys.contains(&key) {
            given.push((key, at));
        } else if known.shape.keys.is_empty() {
            m.add_found(&at, format!("unknown key {key}"), format!("no magnitude: {} has none", known.shape.name), "");
        } else {
            let near = models::error::nearest(key, known.shape.keys.iter().copied());
            let help = near.map_or(String::new(), |near| format!("did you mean {near}?"));
            m.add_found(&at, format!("unknown key {key}"), format!("one of {}", known.shape.keys.join(", ")), help);
        }
    }
    Some(given)
}

/// One fault's magnitude while it is read.
struct Reading<'f, 'a> {
    fault: &'f Fields<'a>,
    name: &'f str,
    given: Vec<(&'a str, Cursor<'a>)>,
    m: &'f mut Mistakes,
}

impl<'a> Reading<'_, 'a> {
    fn get(&self, key: &str) -> Option<Cursor<'a>> {
        self.given.iter().find(|(k, _)| *k == key).map(|(_, at)| at.clone())
    }

    /// What stands under `key`; a mistake if nothing does.
    fn need<T>(&mut self, key: &str, example: &str, read: impl Fn(&Cursor<'a>, &mut Mistakes) -> Option<T>) -> Option<T> {
        match self.get(key) {
            Some(at) => read(&at, self.m),
            None => {
                let help = format!("write magnitude: {{ {key}: {example} }}");
                self.m.add_found(&self.fault.at, format!("{} without {key}", self.name), format!("a magnitude with {key}"), help);
                None
            }
        }
    }

    /// What stands under `key`, else `default`.
    fn or<T>(&mut self, key: &str, default: T, read: impl Fn(&Cursor<'a>, &mut Mistakes) -> Option<T>) -> Option<T> {
        self.get(key).map_or(Some(default), |at| read(&at, self.m))
    }

    /// `add` and `jitter`, at least one of them.
    fn add_and_jitter(&mut self) -> Option<(Nanos, Nanos)> {
        if self.get("jitter").is_none() {
            return self.need("add", "800ms", Cursor::duration).map(|add| (add, Nanos::ZERO));
        }
        let add = self.or("add", Nanos::ZERO, Cursor::duration);
        let jitter = self.or("jitter", Nanos::ZERO, Cursor::duration);
        Some((add?, jitter?))
    }
}

/// The keys of `magnitude` for this kind: those that have no default, and those that differ from it.
pub(super) fn write_magnitude(kind: &FaultKind) -> Vec<(String, Yaml)> {
    let mut entries: Vec<(&str, Option<Yaml>)> = Vec::new();
    let time = |t: &Nanos| Some(Yaml::bare(t));
    let time_unless_0 = |t: &Nanos| (!t.is_zero()).then(|| Yaml::bare(t));
    match kind {
        FaultKind::Latency { add, jitter, distribution: _, leg: _, delivers_abandoned } => {
            entries.extend([("add", time(add)), ("jitter", time_unless_0(jitter))]);
            entries.push(("delivers_abandoned", delivers_abandoned.then(|| Yaml::bare(true))));
        }
        FaultKind::Delay { add, jitter } => entries.extend([("add", time(add)), ("jitter", time_unless_0(jitter))]),
        FaultKind::ConnectionDrop { probability } | FaultKind::Errors { probability } => {
            entries.push(("probability", Some(Yaml::bare(probability))));
        }
        FaultKind::AggressiveRetries { attempts, backoff } => {
            entries.extend([("attempts", Some(Yaml::bare(attempts))), ("backoff", time(backoff))]);
        }
        FaultKind::Slow { factor } | FaultKind::Surge { factor } => entries.push(("factor", Some(Yaml::bare(factor)))),
        FaultKind::Crash { replicas, black_hole } => {
            entries.push(("replicas", replicas.map(Yaml::bare)));
            entries.push(("black_hole", black_hole.then(|| Yaml::bare(true))));
        }
        FaultKind::WorkersLost { keep } => entries.push(("keep", Some(Yaml::bare(keep)))),
        FaultKind::Reorder { probability, within } => {
            entries.extend([("probability", Some(Yaml::bare(probability))), ("within", time(within))]);
        }
        _ => {}
    }
    entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}
