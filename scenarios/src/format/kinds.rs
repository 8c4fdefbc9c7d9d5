//! The kinds of faults in a scenario file, and the magnitude of each.
//!
//! You are here: `scenarios::format::kinds`. A new kind needs a line in [`MAGNITUDES`], an arm in `kind` and in `write_magnitude`.

use models::format::cursor::{Cursor, Fields, Mistakes, Shape};
use models::format::yaml::Yaml;
use models::format::{read_dist, write_dist};
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
    magnitude("latency", &["add", "jitter", "distribution", "leg", "delivers_abandoned"], &[]),
    magnitude("connection_drop", &["probability"], PROB),
    magnitude("black_hole", &["leg"], &[]),
    magnitude("loss", &["probability", "retransmit"], PROB),
    magnitude("bandwidth", &["bytes_per_s", "request_bytes"], &[]),
    magnitude("timeout", &["to"], &[]),
    magnitude("retries", &["attempts", "backoff"], &[("max_attempts", "attempts")]),
    magnitude("errors", &["probability"], PROB),
    magnitude("slow", &["factor"], &[]),
    magnitude("crash", &["replicas", "black_hole"], &[]),
    magnitude("pause", &[], &[]),
    magnitude("replicas_lost", &["replicas"], &[]),
    magnitude("workers_lost", &["keep"], &[("fraction", "keep")]),
    magnitude("queue_shrunk", &["to"], &[]),
    magnitude("leak", &["growth"], &[]),
    magnitude("flush", &["share"], &[]),
    magnitude("hit_ratio_drop", &["keep"], &[]),
    magnitude("surge", &["factor"], &[]),
    magnitude("reload", &["after", "attempts"], &[]),
    magnitude("delay", &["add", "jitter"], &[("max", "jitter")]),
    magnitude("reorder", &["probability", "within"], PROB),
    magnitude("duplicate", &["probability"], PROB),
    magnitude("message_loss", &["probability"], PROB),
    magnitude("consumer_stall", &[], &[]),
    magnitude("slow_consumer", &["factor"], &[]),
    magnitude("poison", &["probability"], PROB),
];

const PROB: &[(&str, &str)] = &[("prob", "probability")];

/// The first wait of a TCP sender before it sends a lost packet again, where a file does not say: the least that Linux uses.
pub const RETRANSMIT: Nanos = Nanos::from_millis(200);

/// The words of a scenario file for the ways of an edge.
pub const LEGS: &[(&str, Leg)] = &[("request", Leg::Request), ("reply", Leg::Reply), ("both", Leg::Both)];

/// Other tools' words for kinds of faults, with ours.
pub const KIND_ALIASES: &[(&str, &str)] = &[
    ("slowdown", "slow"),
    ("capacity", "workers_lost"),
    ("error", "errors"),
    ("conn_drop", "connection_drop"),
    ("blackhole", "black_hole"),
    ("partition", "black_hole"),
    ("packet_loss", "loss"),
    ("lower_timeout", "timeout"),
    ("restart", "crash"),
    ("cold_restart", "crash"),
    ("gc_pause", "pause"),
    ("cache_flush", "flush"),
    ("step", "surge"),
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
            let distribution = magnitude.or("distribution", None, |at, m| read_dist(at, m).map(Some));
            let leg = magnitude.leg(Leg::Request);
            let (add, jitter) = magnitude.add_and_jitter(&["jitter", "distribution"])?;
            let (distribution, leg, delivers_abandoned) = (distribution?, leg?, delivers_abandoned?);
            Some(FaultKind::Latency { add, jitter, distribution, leg, delivers_abandoned })
        }
        "connection_drop" => {
            Some(FaultKind::ConnectionDrop { probability: magnitude.need("probability", "0.2", Cursor::share)? })
        }
        "black_hole" => Some(FaultKind::BlackHole { leg: magnitude.leg(Leg::Both)? }),
        "loss" => {
            let probability = magnitude.need("probability", "0.05", Cursor::share);
            let retransmit = magnitude.or("retransmit", RETRANSMIT, Cursor::duration);
            Some(FaultKind::Loss { probability: probability?, retransmit: retransmit? })
        }
        "bandwidth" => {
            let bytes_per_s = magnitude.need("bytes_per_s", "125000", Cursor::real);
            let request_bytes = magnitude.need("request_bytes", "2000", Cursor::real);
            Some(FaultKind::Bandwidth { bytes_per_s: bytes_per_s?, request_bytes: request_bytes? })
        }
        "timeout" => Some(FaultKind::TimeoutLowered { to: magnitude.need("to", "50ms", Cursor::duration)? }),
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
        "pause" => Some(FaultKind::Pause),
        "replicas_lost" => Some(FaultKind::ReplicasLost { replicas: magnitude.need("replicas", "1", Cursor::count)? }),
        "queue_shrunk" => Some(FaultKind::QueueShrunk { to: magnitude.need("to", "4", Cursor::count)? }),
        "leak" => Some(FaultKind::Leak { growth: magnitude.need("growth", "0.05", Cursor::real)? }),
        "flush" => Some(FaultKind::Flush { share: magnitude.or("share", 1.0, Cursor::share)? }),
        "hit_ratio_drop" => Some(FaultKind::HitRatioDrop { keep: magnitude.need("keep", "0.5", Cursor::share)? }),
        "workers_lost" => Some(FaultKind::WorkersLost { keep: magnitude.need("keep", "0.5", Cursor::share)? }),
        "surge" => Some(FaultKind::Surge { factor: magnitude.need("factor", "3", Cursor::real)? }),
        "reload" => {
            let after = magnitude.need("after", "2s", Cursor::duration);
            let attempts = magnitude.need("attempts", "3", Cursor::count);
            Some(FaultKind::Reload { after: after?, attempts: attempts? })
        }
        "delay" => {
            let (add, jitter) = magnitude.add_and_jitter(&["jitter"])?;
            Some(FaultKind::Delay { add, jitter })
        }
        "reorder" => {
            let probability = magnitude.need("probability", "0.2", Cursor::share);
            let within = magnitude.need("within", "500ms", Cursor::duration);
            Some(FaultKind::Reorder { probability: probability?, within: within? })
        }
        "duplicate" => Some(FaultKind::Duplicate { probability: magnitude.need("probability", "0.1", Cursor::share)? }),
        "message_loss" => Some(FaultKind::MessageLoss { probability: magnitude.need("probability", "0.1", Cursor::share)? }),
        "slow_consumer" => Some(FaultKind::SlowConsumer { factor: magnitude.need("factor", "4", Cursor::real)? }),
        "poison" => Some(FaultKind::Poison { probability: magnitude.need("probability", "0.01", Cursor::share)? }),
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

    /// The way of an edge.
    fn leg(&mut self, default: Leg) -> Option<Leg> {
        self.or("leg", default, |at, m| at.word(LEGS, m))
    }

    /// `add` and `jitter`; without `add` there is at least one of `instead`.
    fn add_and_jitter(&mut self, instead: &[&str]) -> Option<(Nanos, Nanos)> {
        if !instead.iter().any(|key| self.get(key).is_some()) {
            return self.need("add", "800ms", Cursor::duration).map(|add| (add, Nanos::ZERO));
        }
        let add = self.or("add", Nanos::ZERO, Cursor::duration);
        let jitter = self.or("jitter", Nanos::ZERO, Cursor::duration);
        Some((add?, jitter?))
    }
}

/// The keys of `magnitude` for this kind: those that have no default, and those that differ from it.
pub(super) fn write_magnitude(kind: &FaultKind) -> Vec<(String, Yaml)> {
    let time = |t: &Nanos| Some(Yaml::bare(t));
    let time_unless_0 = |t: &Nanos| (!t.is_zero()).then(|| Yaml::bare(t));
    let number = |x: &f64| Some(Yaml::bare(x));
    let leg_unless = |leg: &Leg, default: Leg| (*leg != default).then(|| Yaml::bare(leg_word(*leg)));
    let entries: Vec<(&str, Option<Yaml>)> = match kind {
        FaultKind::Latency { add, jitter, distribution, leg, delivers_abandoned } => vec![
            ("add", time(add)),
            ("jitter", time_unless_0(jitter)),
            ("distribution", distribution.as_ref().map(write_dist)),
            ("leg", leg_unless(leg, Leg::Request)),
            ("delivers_abandoned", delivers_abandoned.then(|| Yaml::bare(true))),
        ],
        FaultKind::Delay { add, jitter } => vec![("add", time(add)), ("jitter", time_unless_0(jitter))],
        FaultKind::ConnectionDrop { probability }
        | FaultKind::Errors { probability }
        | FaultKind::Duplicate { probability }
        | FaultKind::MessageLoss { probability }
        | FaultKind::Poison { probability } => vec![("probability", number(probability))],
        FaultKind::BlackHole { leg } => vec![("leg", leg_unless(leg, Leg::Both))],
        FaultKind::Loss { probability, retransmit } => {
            let retransmit = (*retransmit != RETRANSMIT).then(|| Yaml::bare(retransmit));
            vec![("probability", number(probability)), ("retransmit", retransmit)]
        }
        FaultKind::Bandwidth { bytes_per_s, request_bytes } => {
            vec![("bytes_per_s", number(bytes_per_s)), ("request_bytes", number(request_bytes))]
        }
        FaultKind::TimeoutLowered { to } => vec![("to", time(to))],
        FaultKind::AggressiveRetries { attempts, backoff } => {
            vec![("attempts", Some(Yaml::bare(attempts))), ("backoff", time(backoff))]
        }
        FaultKind::Slow { factor } | FaultKind::Surge { factor } | FaultKind::SlowConsumer { factor } => {
            vec![("factor", number(factor))]
        }
        FaultKind::Crash { replicas, black_hole } => {
            vec![("replicas", replicas.map(Yaml::bare)), ("black_hole", black_hole.then(|| Yaml::bare(true)))]
        }
        FaultKind::ReplicasLost { replicas } => vec![("replicas", Some(Yaml::bare(replicas)))],
        FaultKind::QueueShrunk { to } => vec![("to", Some(Yaml::bare(to)))],
        FaultKind::Leak { growth } => vec![("growth", number(growth))],
        FaultKind::Flush { share } => vec![("share", (*share != 1.0).then(|| Yaml::bare(share)))],
        FaultKind::WorkersLost { keep } | FaultKind::HitRatioDrop { keep } => vec![("keep", number(keep))],
        FaultKind::Reorder { probability, within } => vec![("probability", number(probability)), ("within", time(within))],
        FaultKind::Reload { after, attempts } => vec![("after", time(after)), ("attempts", Some(Yaml::bare(attempts)))],
        FaultKind::Pause | FaultKind::ConsumerStall => Vec::new(),
    };
    entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// A leg as files write it.
fn leg_word(leg: Leg) -> &'static str {
    LEGS.iter().find(|(_, one)| *one == leg).expect("every leg has a word").0
}
