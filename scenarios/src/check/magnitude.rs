//! How much each kind of fault can do: shares up to 1, factors within reason, no more replicas than there are.
//!
//! You are here: `scenarios::check::magnitude`.

use models::check::{MAX_ATTEMPTS, check_dist};
use models::units::Nanos;

use super::{Checker, MAX_FACTOR};
use crate::fault::{Fault, FaultKind, Target};

/// Most packets that a fault may lose: what loses more lets nothing through in any time that a run has.
pub const MAX_LOSS: f64 = 0.99;

/// Longest time that one request may take on a narrow link.
const LONGEST_SENDING: Nanos = Nanos::from_secs(3_600);

impl Checker<'_> {
    pub(super) fn magnitude(&mut self, place: &str, fault: &Fault) {
        match &fault.kind {
            FaultKind::Latency { distribution: Some(dist), .. } => {
                for error in check_dist(&format!("{place}/distribution"), dist).err().map_or(Vec::new(), |errors| errors.0) {
                    self.add(error.place.as_deref().unwrap_or(place), error.found, error.expected, error.help);
                }
            }
            FaultKind::Latency { distribution: None, .. }
            | FaultKind::BlackHole { .. }
            | FaultKind::Delay { .. }
            | FaultKind::Pause
            | FaultKind::QueueShrunk { .. }
            | FaultKind::ConsumerStall => {}
            FaultKind::ConnectionDrop { probability }
            | FaultKind::Errors { probability }
            | FaultKind::Duplicate { probability }
            | FaultKind::MessageLoss { probability }
            | FaultKind::Poison { probability }
            | FaultKind::Reorder { probability, .. } => self.share(&format!("{place}/probability"), *probability),
            FaultKind::WorkersLost { keep } | FaultKind::HitRatioDrop { keep } => self.share(&format!("{place}/keep"), *keep),
            FaultKind::Flush { share } => {
                if !(*share > 0.0 && *share <= 1.0) {
                    self.add(&format!("{place}/share"), share.to_string(), "a share above 0 and up to 1", "");
                }
            }
            FaultKind::Loss { probability, retransmit } => {
                if !(0.0..=MAX_LOSS).contains(probability) {
                    let help = if *probability <= 1.0 { "write kind: black_hole where nothing gets through" } else { "" };
                    let expected = format!("a share between 0 and {MAX_LOSS}");
                    self.add(&format!("{place}/probability"), probability.to_string(), expected, help);
                }
                self.some_time(&format!("{place}/retransmit"), *retransmit);
            }
            FaultKind::Bandwidth { bytes_per_s, request_bytes } => self.bandwidth(place, *bytes_per_s, *request_bytes),
            FaultKind::TimeoutLowered { to } => self.some_time(&format!("{place}/to"), *to),
            FaultKind::Slow { factor } | FaultKind::SlowConsumer { factor } => {
                if !(*factor > 0.0 && *factor <= MAX_FACTOR) {
                    let expected = format!("a factor above 0, at most {MAX_FACTOR}");
                    self.add(&format!("{place}/factor"), factor.to_string(), expected, "");
                }
            }
            FaultKind::Surge { factor } => {
                if !(0.0..=MAX_FACTOR).contains(factor) {
                    let expected = format!("a factor from 0 to {MAX_FACTOR}");
                    self.add(&format!("{place}/factor"), factor.to_string(), expected, "");
                }
            }
            FaultKind::Leak { growth } => {
                if !(*growth > 0.0 && *growth <= MAX_FACTOR) {
                    let expected = format!("a growth per second above 0, at most {MAX_FACTOR}");
                    self.add(&format!("{place}/growth"), growth.to_string(), expected, "0.05 adds a twentieth each second");
                }
            }
            FaultKind::AggressiveRetries { attempts, .. } => self.attempts(place, *attempts, 1),
            FaultKind::Reload { after, attempts } => {
                self.some_time(&format!("{place}/after"), *after);
                self.attempts(place, *attempts, 2);
            }
            FaultKind::Crash { replicas, .. } => {
                if let Some(replicas) = replicas {
                    self.replicas(place, fault, *replicas, "leave it away to crash all");
                }
            }
            FaultKind::ReplicasLost { replicas } => self.replicas(place, fault, *replicas, ""),
        }
    }

    fn share(&mut self, place: &str, value: f64) {
        if !(0.0..=1.0).contains(&value) {
            self.add(place, value.to_string(), "a share between 0 and 1", "");
        }
    }

    fn some_time(&mut self, place: &str, time: Nanos) {
        if time.is_zero() {
            self.add(place, "0s", "a duration above 0", "");
        }
    }

    fn attempts(&mut self, place: &str, attempts: u32, least: u32) {
        if !(least..=MAX_ATTEMPTS).contains(&attempts) {
            let expected = format!("tries in all, the first included: from {least} to {MAX_ATTEMPTS}");
            self.add(&format!("{place}/attempts"), attempts.to_string(), expected, "");
        }
    }

    fn bandwidth(&mut self, place: &str, bytes_per_s: f64, request_bytes: f64) {
        for (key, value) in [("bytes_per_s", bytes_per_s), ("request_bytes", request_bytes)] {
            if !(value > 0.0 && value.is_finite()) {
                self.add(&format!("{place}/{key}"), value.to_string(), "a number of bytes above 0", "");
                return;
            }
        }
        let seconds = request_bytes / bytes_per_s;
        if seconds > LONGEST_SENDING.as_secs_f64() {
            let expected = format!("at most {LONGEST_SENDING} for a request");
            let found = format!("{request_bytes} bytes at {bytes_per_s}/s: {seconds:.0}s for a request");
            self.add(&format!("{place}/bytes_per_s"), found, expected, "write kind: black_hole where nothing gets through");
        }
    }

    /// Replicas that a fault takes away: no more than its target has at most.
    fn replicas(&mut self, place: &str, fault: &Fault, replicas: u32, help: &str) {
        let Target::Node(name) = &fault.target else { return };
        let has = self.model.services.get(name).map_or(1, |service| {
            let grown = service.autoscale.as_ref().map_or(0, |autoscale| autoscale.max.value);
            service.replicas.value.max(grown)
        });
        if !(1..=has).contains(&replicas) {
            let expected = format!("from 1 to {has}, the replicas there are");
            self.add(&format!("{place}/replicas"), replicas.to_string(), expected, help);
        }
    }
}
