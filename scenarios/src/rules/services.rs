//! Rules about services: what happens inside one.

use models::param::Limit;

use super::{Context, Idea, count, level, load_words, node, number, percent, retry_words, time, tries_words};
use crate::analyse::NodeEvidence;
use crate::fault::FaultKind;
use crate::moments::refused;

/// A dependency whose failure fails its caller answers with errors.
pub(crate) fn hard_dependency_errors(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for service in context.services() {
        let callers = context.into(&service.name).filter(|b| b.on_failure >= 0.5);
        let Some(worst) = callers.max_by(|a, b| a.score.total_cmp(&b.score)) else { continue };
        for (rank, probability) in [0.3, 1.0, 0.1].into_iter().enumerate() {
            let left = libm::pow(probability, f64::from(worst.tries));
            let attempts = if probability < 1.0 { (1.0 - left) / (1.0 - probability) } else { f64::from(worst.tries) };
            let why = format!(
                "a failure of {} fails {} with {} chance, and {} of user requests need it; errors at {} leave {} of its calls failed after {}, {} on average",
                service.name,
                worst.edge.from,
                percent(worst.on_failure),
                percent(service.user_share),
                percent(probability),
                percent(left),
                tries_words(worst.tries),
                number(attempts),
            );
            let front = if context.is_front(&service.name) { 0.6 } else { 1.0 };
            let against = front * (0.5 + 0.5 * worst.on_failure * left.max(probability / 2.0));
            ideas.push(Idea::new(
                level(service.score * against, rank),
                vec![(node(&service.name), FaultKind::Errors { probability })],
                why,
            ));
        }
    }
    ideas
}

/// Work takes longer (a noisy neighbour, a cold index) where there is little room.
pub(crate) fn slow_service(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for service in context.services().filter(|service| service.erlangs > 0.0) {
        for (rank, factor) in [2.0, 4.0, 8.0, 1.5].into_iter().enumerate() {
            let busy = service.utilisation.unwrap_or(0.0) * factor;
            let why =
                format!("{}; {}{}", load_words(service), slowed(service, factor), against_timeout(context, service, factor));
            let against = 0.3 + 0.7 * busy.min(1.0);
            ideas.push(Idea::new(
                level(service.score * against, rank),
                vec![(node(&service.name), FaultKind::Slow { factor })],
                why,
            ));
        }
    }
    ideas
}

/// `x2 makes that 82 %, within capacity`.
pub(super) fn slowed(service: &NodeEvidence, factor: f64) -> String {
    match service.utilisation.map(|utilisation| utilisation * factor) {
        Some(busy) if busy >= 1.0 => format!("x{} makes that {}, more than it has", number(factor), percent(busy)),
        Some(busy) => format!("x{} makes that {}", number(factor), percent(busy)),
        None => format!("x{} only makes it late", number(factor)),
    }
}

/// `; its p99 of 95 ms becomes 190 ms against the 220 ms that seats waits; ...`.
fn against_timeout(context: &Context, service: &NodeEvidence, factor: f64) -> String {
    let Some((caller, timeout)) = context.strictest_caller(&service.name) else {
        return "; nobody who calls it has a timeout".to_owned();
    };
    format!(
        "; its p99 of {} becomes about {} against the {timeout} that {} waits; {}",
        time(service.p99_ms / 1e3),
        time(service.p99_ms * factor / 1e3),
        caller.edge.from,
        retry_words(caller)
    )
}

/// What many need crashes and comes back cold.
pub(crate) fn shared_dependency_crash(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    let nodes = context.analysis.nodes.len().max(1) as f64;
    for service in context.services() {
        let only = match service.dominates.as_slice() {
            [] => String::new(),
            [one] => format!(" and is the only way to {one}"),
            [first, rest @ ..] => format!(" and is the only way to {first} and {} more", rest.len()),
        };
        let callers = if service.callers == 1 { "1 caller".to_owned() } else { format!("{} callers", service.callers) };
        let worst = context.into(&service.name).max_by(|a, b| a.score.total_cmp(&b.score));
        let retried = worst.map_or(String::new(), |b| format!("; {}", retry_words(b)));
        let why =
            format!("{} has {callers}, serves {} of user requests{only}{retried}", service.name, percent(service.user_share));
        let shared = if service.callers > 1 { 0.25 } else { 0.0 };
        let front = if context.is_front(&service.name) { 0.6 } else { 1.0 };
        let against = front * (0.6 + shared + 0.35 * (service.dominates.len() as f64 / nodes));
        for (rank, black_hole) in [false, true].into_iter().enumerate() {
            let how = if black_hole { ", silent while it is away: its callers wait out their timeouts" } else { "" };
            let fault = FaultKind::Crash { replicas: None, black_hole };
            ideas.push(Idea::new(
                level(service.score * against, rank),
                vec![(node(&service.name), fault)],
                format!("{why}{how}"),
            ));
        }
    }
    ideas
}

/// One replica of several crashes, and the others carry its load.
pub(crate) fn replica_crash(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for service in context.services() {
        let replicas = context.model.services.get(&service.name).map_or(1, |s| s.replicas.value);
        if replicas < 2 {
            continue;
        }
        let busy = service.utilisation.unwrap_or(0.0) * f64::from(replicas) / f64::from(replicas - 1);
        let why = format!(
            "{} on {replicas} replicas; without one of them the others are busy at {}",
            load_words(service),
            percent(busy)
        );
        let fault = FaultKind::Crash { replicas: Some(1), black_hole: false };
        ideas.push(Idea::new(service.score * (0.3 + 0.7 * busy.min(1.0)), vec![(node(&service.name), fault)], why));
    }
    ideas
}

/// Several replicas are gone at once (a zone, a node of the cluster), callers know it, and they come back cold.
pub(crate) fn replicas_lost(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for service in context.services() {
        let described = context.model.services.get(&service.name);
        let replicas = described.map_or(1, |s| s.replicas.value);
        if replicas < 2 {
            continue;
        }
        for (rank, lost) in [replicas / 2, replicas - 1].into_iter().enumerate() {
            let left = replicas - lost;
            let busy = service.utilisation.unwrap_or(0.0) * f64::from(replicas) / f64::from(left);
            let grows = match described.and_then(|s| s.autoscale.as_ref()) {
                Some(autoscale) => format!(
                    "; its autoscaler looks every {} and a new replica takes {}",
                    autoscale.every.value, autoscale.start_up.value
                ),
                None => String::new(),
            };
            let cold = match described.and_then(|s| s.warm_up.as_ref()) {
                Some(warm_up) => {
                    format!("; back, they take {} times as long at first", number(warm_up.factor.value))
                }
                None => String::new(),
            };
            let why = format!(
                "{} on {replicas} replicas; without {lost} of them what is left is busy at {}{grows}{cold}",
                load_words(service),
                percent(busy)
            );
            let fault = FaultKind::ReplicasLost { replicas: lost };
            ideas.push(Idea::new(
                level(service.score * (0.3 + 0.7 * busy.min(1.0)), rank),
                vec![(node(&service.name), fault)],
                why,
            ));
        }
    }
    ideas
}

/// Everything stands still (garbage collection, a frozen virtual machine): what comes meanwhile waits, and must then be caught up with.
pub(crate) fn pause(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for service in context.services() {
        let busy = service.utilisation.unwrap_or(0.0);
        let full = match places(context, service) {
            Some(places) => format!(", its {} are full after {}", count(places, "waiting place"), time(places / service.per_s)),
            None => ", and nothing is refused".to_owned(),
        };
        let patience = match context.strictest_caller(&service.name) {
            Some((caller, timeout)) => {
                format!("; {} gives up after {timeout}, {}", caller.edge.from, retry_words(caller))
            }
            None => "; nobody who calls it has a timeout".to_owned(),
        };
        let after = if busy >= 1.0 {
            "afterwards it never catches up".to_owned()
        } else if busy > 0.0 {
            format!("afterwards each second takes {} to catch up with", time(busy / (1.0 - busy)))
        } else {
            "afterwards it answers all at once".to_owned()
        };
        let why = format!(
            "{}; each second that it stands still leaves {} requests waiting{full}{patience}; {after}",
            load_words(service),
            number(service.per_s)
        );
        ideas.push(Idea::new(service.score * (0.4 + 0.6 * busy.min(1.0)), vec![(node(&service.name), FaultKind::Pause)], why));
    }
    ideas
}

/// Fewer may wait (a smaller limit was deployed, memory is short): how many are refused without any overload?
pub(crate) fn queue_shrunk(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for service in context.services() {
        let Some(described) = context.model.services.get(&service.name) else { continue };
        let Limit::Of(workers) = described.workers.value else { continue };
        let offered = service.erlangs / f64::from(described.replicas.value.max(1));
        for (rank, to) in [0, 4].into_iter().enumerate() {
            let now = match described.queue.value {
                Limit::Of(now) if now <= to => continue,
                Limit::Of(now) => now.to_string(),
                Limit::Unlimited => "any number".to_owned(),
            };
            let lost = refused(workers, offered, to);
            // Where hardly anybody ever waits, nobody would notice.
            if lost < 0.001 {
                continue;
            }
            let worst = context.into(&service.name).max_by(|a, b| a.score.total_cmp(&b.score));
            let retried = worst.map_or(String::new(), |b| format!("; {}", retry_words(b)));
            let why = format!(
                "{}, where {now} may wait at a replica; with {to} places about {} of its requests are refused at the usual load{retried}",
                load_words(service),
                percent(lost)
            );
            let against = 0.3 + 0.7 * (5.0 * lost).min(1.0);
            let fault = FaultKind::QueueShrunk { to };
            ideas.push(Idea::new(level(service.score * against, rank), vec![(node(&service.name), fault)], why));
        }
    }
    ideas
}

/// Something is not given back, and work takes ever longer until somebody restarts the service.
pub(crate) fn leak(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for service in context.services().filter(|service| service.erlangs > 0.0) {
        for (rank, growth) in [0.1, 0.3, 0.03].into_iter().enumerate() {
            let when = match service.utilisation {
                Some(busy) if busy >= 1.0 => "it has no room as it is".to_owned(),
                Some(busy) => format!("it has no room left after {}", time((1.0 / busy - 1.0) / growth)),
                None => "it has room without end, and only gets late".to_owned(),
            };
            let room = service.utilisation.map_or(f64::INFINITY, |busy| ((1.0 / busy - 1.0) / growth).max(0.0));
            let why = format!(
                "{}; with each second its work takes {} longer: {when}, and the restart loses what is under way; {} requests per second come",
                load_words(service),
                percent(growth),
                number(service.per_s)
            );
            // Half of what it is worth where the room lasts for the usual length of a fault.
            let against = 0.3 + 0.7 / (1.0 + room / 20.0);
            ideas.push(Idea::new(
                level(service.score * against, rank),
                vec![(node(&service.name), FaultKind::Leak { growth })],
                why,
            ));
        }
    }
    ideas
}

/// Requests that may wait at all replicas of a service together.
fn places(context: &Context, service: &NodeEvidence) -> Option<f64> {
    let described = context.model.services.get(&service.name)?;
    match described.queue.value {
        Limit::Of(places) => Some(f64::from(places) * f64::from(described.replicas.value)),
        Limit::Unlimited => None,
    }
}

/// A service loses workers while more users come than usual.
pub(crate) fn workers_lost_at_peak(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for service in context.services() {
        let per_replica =
            service.workers.zip(context.model.services.get(&service.name)).map(|(all, s)| all / f64::from(s.replicas.value));
        let Some(workers) = per_replica else { continue };
        let entry = context.entry_of(&service.name);
        for (rank, (keep, surge)) in [(0.5, 1.4), (0.25, 1.2), (0.5, 1.0), (0.25, 2.0)].into_iter().enumerate() {
            let kept = (workers * keep).round();
            let more = entry.filter(|_| surge > 1.0);
            if kept < 1.0 || kept >= workers || more.is_some() != (surge > 1.0) {
                continue;
            }
            let left = kept / workers;
            let busy = service.utilisation.unwrap_or(0.0) * surge / left;
            let load = more.map_or(String::new(), |entry| format!(" and {} times the load from {}", number(surge), entry.name));
            let why = format!("{}; {} of them left{load} make that {}", load_words(service), percent(keep), percent(busy));
            let mut faults = vec![(node(&service.name), FaultKind::WorkersLost { keep })];
            if let Some(entry) = more {
                faults.push((node(&entry.name), FaultKind::Surge { factor: surge }));
            }
            ideas.push(Idea::new(level(service.score * (0.3 + 0.7 * busy.min(1.0)), rank), faults, why));
        }
    }
    ideas
}

#[cfg(test)]
mod tests {
    use models::param::Source;

    use super::*;
    use crate::analyse::NodeKind;

    #[test]
    fn slowed_says_whether_there_is_room() {
        let service = NodeEvidence {
            name: "s".into(),
            kind: NodeKind::Service,
            score: 0.0,
            per_s: 1.0,
            user_share: 1.0,
            error_rate: 0.0,
            p50_ms: 1.0,
            p99_ms: 2.0,
            measured: false,
            erlangs: 0.41,
            workers: Some(1.0),
            workers_source: Source::Declared,
            utilisation: Some(0.41),
            blocking: true,
            callers: 1,
            dominates: vec![],
            downstream: 0,
            places: None,
            keeps_order: false,
        };
        assert_eq!(slowed(&service, 2.0), "x2 makes that 82 %");
        assert_eq!(slowed(&service, 4.0), "x4 makes that 164 %, more than it has");
    }
}
