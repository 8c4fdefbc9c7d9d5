//! What cannot happen at once: faults that do not add up, and more users than an engine takes.
//!
//! You are here: `scenarios::check::together`. Faults that only meet at one instant do not overlap: a fault ends before the next begins.

use models::check::MAX_PER_S;
use models::system::EdgeName;
use models::units::{Nanos, SimTime};

use super::Checker;
use crate::fault::{Fault, FaultKind, Target};
use crate::scenario::Scenario;

impl Checker<'_> {
    /// Pairs of faults of which only one can have its way.
    pub(super) fn together(&mut self, place: &str, faults: &[Fault]) {
        for (i, one) in faults.iter().enumerate() {
            for (j, other) in faults.iter().enumerate().skip(i + 1) {
                let at_once = one.start < other.clears_at() && other.start < one.clears_at();
                let Some(expected) = self.conflict(one, other).filter(|_| at_once) else { continue };
                let found = format!("{}, while {place}/faults/{i} lasts ({})", shown(other), shown(one));
                let help = "let one begin when the other has ended";
                self.add(&format!("{place}/faults/{j}"), found, expected, help);
            }
        }
    }

    /// Whether load and surges bring more users than an engine takes.
    pub(super) fn arrivals(&mut self, place: &str, scenario: &Scenario) {
        let expected = format!("at most {MAX_PER_S}/s, so that a run comes to an end");
        for (name, entry) in self.model.workload.iter().filter(|(_, entry)| entry.closed.is_none()) {
            let peak = entry.peak_per_s() * scenario.load();
            if peak > MAX_PER_S {
                let found = format!("{peak}/s at {name}, with a load of {}", scenario.load());
                self.add(&format!("{place}/load"), found, &*expected, "");
                continue;
            }
            for (i, surge) in scenario.faults.iter().enumerate() {
                let factor = factor_at(surge, name);
                let meets = |other: &&Fault| surge.start < other.clears_at() && other.start < surge.clears_at();
                let all: f64 = scenario.faults.iter().filter(meets).map(|other| factor_at(other, name)).product();
                if factor > 1.0 && peak * all > MAX_PER_S {
                    let found = format!("{}/s at {name}, with all that happens at once", peak * all);
                    self.add(&format!("{place}/faults/{i}/magnitude/factor"), found, &*expected, "");
                    break;
                }
            }
        }
    }

    /// Why two faults cannot both have their way, if they strike at the same time: what is expected instead.
    fn conflict(&self, one: &Fault, other: &Fault) -> Option<String> {
        let (a, b) = (&one.kind, &other.kind);
        if takes_replicas(a) && takes_replicas(b) && same_place(&one.target, &other.target) {
            let reason = "each takes replicas down and restarts them at its end";
            return Some(format!("one of crash, leak and replicas_lost at a time on one service: {reason}"));
        }
        if a.name() == b.name() && !adds_up(a) && same_place(&one.target, &other.target) {
            return Some(format!("one {} at a time on one place: two of them do not add up", a.name()));
        }
        let users = match (one, other) {
            (Fault { kind: FaultKind::Reload { .. }, target: Target::Node(entry), .. }, retries)
            | (retries, Fault { kind: FaultKind::Reload { .. }, target: Target::Node(entry), .. }) => Some((entry, retries)),
            _ => None,
        };
        let (entry, retries) = users?;
        let FaultKind::AggressiveRetries { .. } = retries.kind else { return None };
        let theirs = Target::Edge(EdgeName::new(entry.as_str(), &*self.model.workload.get(entry)?.to.service));
        same_place(&theirs, &retries.target)
            .then(|| format!("reload or retries on what {entry} calls: both say how often its users ask"))
    }
}

/// What a fault multiplies the rate of an entry by, at least 1.
fn factor_at(fault: &Fault, entry: &str) -> f64 {
    match (&fault.kind, &fault.target) {
        (FaultKind::Surge { factor }, Target::Node(name)) if name == entry => factor.max(1.0),
        _ => 1.0,
    }
}

/// Whether two faults of this kind on one place are as clear as one.
fn adds_up(kind: &FaultKind) -> bool {
    !matches!(
        kind,
        FaultKind::AggressiveRetries { .. }
            | FaultKind::TimeoutLowered { .. }
            | FaultKind::Reload { .. }
            | FaultKind::Crash { .. }
            | FaultKind::Pause
            | FaultKind::Leak { .. }
            | FaultKind::ReplicasLost { .. }
            | FaultKind::QueueShrunk { .. }
    )
}

fn takes_replicas(kind: &FaultKind) -> bool {
    matches!(kind, FaultKind::Crash { .. } | FaultKind::Leak { .. } | FaultKind::ReplicasLost { .. })
}

fn same_place(one: &Target, other: &Target) -> bool {
    match (one, other) {
        (Target::Node(one), Target::Node(other)) => one == other,
        (Target::Edge(one), Target::Edge(other)) => {
            one.to == other.to && (one.from == other.from || one.from == "*" || other.from == "*")
        }
        _ => false,
    }
}

/// `crash of web from 30s to 50s`.
fn shown(fault: &Fault) -> String {
    let instant = |time: SimTime| Nanos::from_nanos(time.as_nanos());
    format!("{} of {} from {} to {}", fault.kind.name(), fault.target, instant(fault.start), instant(fault.clears_at()))
}
