//! The token of a run: short enough to paste into a chat, and enough to run it again.
//!
//! You are here: `scenarios::token`. A sweep writes a token into each record; `foreshock replay` reads it.
//! Always true: two runs with one token have the same outcome; the version leads, so that old tokens are known as such.
//! Not here: where the model and the scenario of a token are found (the command line looks in an output folder).

use std::fmt::{self, Write as _};
use std::str::FromStr;

use models::dist::Dist;
use models::units::Nanos;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::fault::{FaultKind, Leg};
use crate::scenario::Scenario;

/// The token version that this build writes and reads.
const VERSION: &str = "fs1";

/// What a run is a function of: model, scenario, world, seed, engine and horizon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// [`model_hash`] of the model's canonical text.
    pub model: [u8; 4],
    /// [`scenario_hash`] of the scenario.
    pub scenario: [u8; 4],
    /// World number; 0 = values as written.
    pub world: u32,
    /// The run's seed.
    pub seed: u64,
    /// What ran it.
    pub engine: Engine,
    /// Length of the run.
    pub horizon: Nanos,
}

/// What runs a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// The discrete-event kernel.
    #[default]
    Kernel,
    /// Real asynchronous code on a simulated network.
    Hosted,
}

impl fmt::Display for Token {
    /// `fs1-<model>-<scenario>-w<world>-s<seed>-h<horizon>-<k or h>`; [`Token::from_str`] reads it back unchanged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engine = match self.engine {
            Engine::Kernel => 'k',
            Engine::Hosted => 'h',
        };
        let (model, scenario) = (u32::from_be_bytes(self.model), u32::from_be_bytes(self.scenario));
        write!(f, "{VERSION}-{model:08x}-{scenario:08x}-w{}-s{}-h{}-{engine}", self.world, self.seed, self.horizon)
    }
}

/// Why a text is no token.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("not a token: {part} is {found:?}, expected {expected}")]
pub struct TokenError {
    /// Which part is wrong.
    pub part: &'static str,
    /// What stood there.
    pub found: String,
    /// What belongs there.
    pub expected: &'static str,
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let wrong = |part, found: &str, expected| TokenError { part, found: found.to_owned(), expected };
        let text = text.trim();
        let parts: Vec<&str> = text.split('-').collect();
        if parts[0] != VERSION {
            return Err(wrong("the version", parts[0], "fs1, the only one this build reads"));
        }
        let &[_, model, scenario, world, seed, horizon, engine] = parts.as_slice() else {
            return Err(wrong("the whole", text, "seven parts: fs1-<model>-<scenario>-w<world>-s<seed>-h<horizon>-<k or h>"));
        };
        let hash = |part, digits: &str| {
            let sound = digits.len() == 8 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            let value = u32::from_str_radix(digits, 16).ok().filter(|_| sound);
            value.map(u32::to_be_bytes).ok_or_else(|| wrong(part, digits, "8 hex digits in lower case"))
        };
        let lettered = |letter, field: &str| -> Option<u64> {
            let digits = field.strip_prefix(letter)?;
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
        };
        Ok(Token {
            model: hash("the model's hash", model)?,
            scenario: hash("the scenario's hash", scenario)?,
            world: lettered('w', world)
                .and_then(|number| u32::try_from(number).ok())
                .ok_or_else(|| wrong("the world", world, "w and a whole number, as in w0"))?,
            seed: lettered('s', seed).ok_or_else(|| wrong("the seed", seed, "s and a whole number, as in s42"))?,
            horizon: horizon
                .strip_prefix('h')
                .and_then(Nanos::parse)
                .ok_or_else(|| wrong("the horizon", horizon, "h and a duration with a unit, as in h120s"))?,
            engine: match engine {
                "k" => Engine::Kernel,
                "h" => Engine::Hosted,
                _ => return Err(wrong("the engine", engine, "k (kernel) or h (hosted)")),
            },
        })
    }
}

/// Fingerprint of a model: of its canonical text, as `models::format::canonical_text` gives it. SHA-256, cut to 4 bytes.
pub fn model_hash(canonical_text: &str) -> [u8; 4] {
    short_hash(canonical_text)
}

/// Fingerprint of what a scenario does to a run: load and faults, in order. Its id and its `why` are left out, since no run
/// depends on them; a load that is not given counts as 1. SHA-256 of a canonical text, cut to 4 bytes.
pub fn scenario_hash(scenario: &Scenario) -> [u8; 4] {
    let mut text = format!("load {:016x}\n", scenario.load().to_bits());
    for fault in &scenario.faults {
        let (start, duration) = (fault.start.as_nanos(), fault.duration.as_nanos());
        let magnitude = canonical_magnitude(&fault.kind);
        // Names are quoted, so that no name can pass for another field.
        let target = fault.target.to_string();
        write!(text, "{} {target:?} {start} {duration} {magnitude}", fault.kind.name()).expect("writing to a String cannot fail");
        // Only where there are ramps, so that a fault without them keeps the hash that it had before there were any.
        if !(fault.ramp_up.is_zero() && fault.ramp_down.is_zero()) {
            write!(text, " ramps {} {}", fault.ramp_up.as_nanos(), fault.ramp_down.as_nanos())
                .expect("writing to a String cannot fail");
        }
        text.push('\n');
    }
    short_hash(&text)
}

/// All of a fault's magnitude as text, bit for bit. What was added to a kind later enters only where it is not what it was before.
fn canonical_magnitude(kind: &FaultKind) -> String {
    let bits = |x: f64| format!("{:016x}", x.to_bits());
    match kind {
        FaultKind::Latency { add, jitter, distribution, leg, delivers_abandoned } => {
            let mut text = format!("{} {} {delivers_abandoned}", add.as_nanos(), jitter.as_nanos());
            if *leg != Leg::Request {
                text += &format!(" {leg:?}");
            }
            if let Some(dist) = distribution {
                text += &format!(" {}", canonical_dist(dist));
            }
            text
        }
        FaultKind::Delay { add, jitter } => format!("{} {}", add.as_nanos(), jitter.as_nanos()),
        FaultKind::ConnectionDrop { probability }
        | FaultKind::Errors { probability }
        | FaultKind::Duplicate { probability }
        | FaultKind::MessageLoss { probability }
        | FaultKind::Poison { probability } => bits(*probability),
        FaultKind::BlackHole { leg: Leg::Both } | FaultKind::ConsumerStall | FaultKind::Pause => String::new(),
        FaultKind::BlackHole { leg } => format!("{leg:?}"),
        FaultKind::Loss { probability, retransmit } => format!("{} {}", bits(*probability), retransmit.as_nanos()),
        FaultKind::Bandwidth { bytes_per_s, request_bytes } => format!("{} {}", bits(*bytes_per_s), bits(*request_bytes)),
        FaultKind::TimeoutLowered { to } => to.as_nanos().to_string(),
        FaultKind::AggressiveRetries { attempts, backoff } => format!("{attempts} {}", backoff.as_nanos()),
        FaultKind::Slow { factor } | FaultKind::Surge { factor } | FaultKind::SlowConsumer { factor } => bits(*factor),
        FaultKind::Crash { replicas, black_hole } => {
            format!("{} {black_hole}", replicas.map_or("all".to_owned(), |n| n.to_string()))
        }
        FaultKind::ReplicasLost { replicas } => replicas.to_string(),
        FaultKind::QueueShrunk { to } => to.to_string(),
        FaultKind::Leak { growth } => bits(*growth),
        FaultKind::Flush { share } => bits(*share),
        FaultKind::HitRatioDrop { keep } | FaultKind::WorkersLost { keep } => bits(*keep),
        FaultKind::Reorder { probability, within } => format!("{} {}", bits(*probability), within.as_nanos()),
        FaultKind::Reload { after, attempts } => format!("{} {attempts}", after.as_nanos()),
    }
}

fn canonical_dist(dist: &Dist) -> String {
    match dist {
        Dist::Constant(time) => format!("constant {}", time.as_nanos()),
        Dist::Exponential(mean) => format!("exponential {}", mean.as_nanos()),
        Dist::Lognormal { p50, p99 } => format!("lognormal {} {}", p50.as_nanos(), p99.as_nanos()),
        Dist::Quantiles(knots) => {
            let knots: Vec<_> = knots.iter().map(|(p, time)| format!("{:016x}:{}", p.to_bits(), time.as_nanos())).collect();
            format!("quantiles {}", knots.join(","))
        }
    }
}

fn short_hash(text: &str) -> [u8; 4] {
    let digest = Sha256::digest(text.as_bytes());
    [digest[0], digest[1], digest[2], digest[3]]
}

#[cfg(test)]
mod tests {
    use models::units::SimTime;
    use proptest::prelude::*;

    use super::*;
    use crate::fault::{Fault, Target};

    fn token() -> Token {
        Token {
            model: [0, 0xab, 1, 2],
            scenario: [0xff, 0, 0, 9],
            world: 3,
            seed: u64::MAX,
            engine: Engine::Kernel,
            horizon: Nanos::from_millis(2_500),
        }
    }

    #[test]
    fn a_token_prints_with_its_version_in_front() {
        assert_eq!(token().to_string(), "fs1-00ab0102-ff000009-w3-s18446744073709551615-h2.5s-k");
    }

    proptest! {
        #[test]
        fn tokens_are_read_as_they_were_printed(model: [u8; 4], scenario: [u8; 4], world: u32, seed: u64, hosted: bool, ns in 0..u64::MAX / 4) {
            // Durations print exactly; their reader goes through a float, which holds every whole nanosecond below 2^53.
            let horizon = Nanos::from_nanos(ns % (1 << 50));
            let engine = if hosted { Engine::Hosted } else { Engine::Kernel };
            let token = Token { model, scenario, world, seed, engine, horizon };
            prop_assert_eq!(token.to_string().parse(), Ok(token));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,80}") {
            let _ = text.parse::<Token>();
        }
    }

    #[test]
    fn a_bad_token_says_which_part_is_wrong() {
        let message = |text: &str| text.parse::<Token>().expect_err(text).to_string();
        assert_eq!(message("fs9-0"), "not a token: the version is \"fs9\", expected fs1, the only one this build reads");
        let good = token().to_string();
        for (from, to, part) in [
            ("00ab0102", "00ab010", "the model's hash"),
            ("ff000009", "FF000009", "the scenario's hash"),
            ("-w3", "-w4294967296", "the world"),
            ("-s", "-s+", "the seed"),
            ("-h2.5s", "-h2.5", "the horizon"),
            ("-k", "-x", "the engine"),
            ("-k", "", "the whole"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert!(message(&bad).starts_with(&format!("not a token: {part} is")), "{bad}: {}", message(&bad));
        }
    }

    #[test]
    fn the_scenario_hash_follows_what_a_run_sees_and_nothing_else() {
        let fault =
            |kind, target: &str| Fault::new(kind, Target::Node(target.into()), SimTime::from_nanos(30), Nanos::from_secs(20));
        let base = Scenario { id: "a".into(), faults: vec![fault(FaultKind::Slow { factor: 2.0 }, "s")], ..Scenario::default() };
        let hash = scenario_hash(&base);

        let renamed = Scenario { id: "b".into(), why: "because".into(), load: Some(1.0), ..base.clone() };
        assert_eq!(scenario_hash(&renamed), hash);

        let mut changed = vec![Scenario { load: Some(1.25), ..base.clone() }, Scenario { faults: vec![], ..base.clone() }];
        for other in [
            fault(FaultKind::Slow { factor: 2.5 }, "s"),
            fault(FaultKind::Surge { factor: 2.0 }, "s"),
            fault(FaultKind::Slow { factor: 2.0 }, "t"),
            Fault { start: SimTime::from_nanos(31), ..fault(FaultKind::Slow { factor: 2.0 }, "s") },
            Fault { duration: Nanos::from_secs(21), ..fault(FaultKind::Slow { factor: 2.0 }, "s") },
        ] {
            changed.push(Scenario { faults: vec![other], ..base.clone() });
        }
        for scenario in &changed {
            assert_ne!(scenario_hash(scenario), hash, "{scenario:?}");
        }
    }

    #[test]
    fn hashes_stay_the_same_from_version_to_version() {
        // A change here breaks every token in people's notes: raise the version with it.
        assert_eq!(model_hash("version: 1\n"), short_hash("version: 1\n"));
        assert_eq!(short_hash(""), [0xe3, 0xb0, 0xc4, 0x42]);
    }
}
