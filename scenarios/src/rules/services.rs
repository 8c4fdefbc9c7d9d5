//! Rules about services: what happens inside one.

use models::system::{Lookup, Operation, Step};

use super::{Context, Idea, edge, level, load_words, node, number, percent, retry_words, tidy, time, tries_words};
use crate::analyse::{Boundary, NodeEvidence};
use crate::fault::FaultKind;
use crate::moments::hit_ratio;

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

/// A use of a cache: who asks it, and what stands behind.
struct CacheUse<'a> {
    question: &'a Boundary,
    store: &'a NodeEvidence,
    misses_per_s: f64,
    /// Hit ratio by its capacity and the popularity of keys.
    hits: f64,
    /// Utilisation of the store when every question misses.
    store_if_cold: f64,
}

fn cache_uses<'a>(context: &Context<'a>) -> Vec<CacheUse<'a>> {
    let mut uses: Vec<CacheUse> = Vec::new();
    for (caller, service) in &context.model.services {
        for lookup in lookups(service.operations.values()) {
            let (cache, origin) = (&lookup.cache.to.service, &lookup.origin.to.service);
            if uses.iter().any(|u| u.question.edge.from == *caller && u.question.edge.to == *cache && u.store.name == *origin) {
                continue;
            }
            let contents = context.model.services.get(cache).and_then(|s| s.cache.as_ref());
            let (Some(contents), Some(question), Some(misses), Some(store)) = (
                contents,
                context.analysis.boundary(caller, cache),
                context.analysis.boundary(caller, origin),
                context.node(origin),
            ) else {
                continue;
            };
            let hits = hit_ratio(contents.capacity.value, contents.keys.value, contents.zipf.value);
            let more = if hits < 1.0 { misses.calls_per_s * hits / (1.0 - hits) } else { question.calls_per_s };
            let share = if store.per_s > 0.0 { more / store.per_s } else { 0.0 };
            uses.push(CacheUse {
                question,
                store,
                misses_per_s: misses.calls_per_s,
                hits,
                store_if_cold: store.utilisation.unwrap_or(0.0) * (1.0 + share),
            });
        }
    }
    uses
}

fn lookups<'a>(operations: impl Iterator<Item = &'a Operation>) -> Vec<&'a Lookup> {
    let mut found = Vec::new();
    let mut to_visit: Vec<&Step> = operations.flat_map(|op| &op.paths).flat_map(|path| &path.steps).collect();
    while let Some(step) = to_visit.pop() {
        match step {
            Step::Lookup(lookup) => found.push(lookup),
            Step::Parallel { branches, .. } => to_visit.extend(branches),
            Step::Work(_) | Step::Call(_) | Step::Publish(_) => {}
        }
    }
    found
}

impl CacheUse<'_> {
    fn words(&self) -> String {
        format!(
            "{} asks {} and finds {}, so {} gets {} calls per second and is busy at {}; if every question missed it would be {}",
            self.question.edge.from,
            self.question.edge.to,
            percent(self.hits),
            self.store.name,
            number(self.misses_per_s),
            percent(self.store.utilisation.unwrap_or(0.0)),
            percent(self.store_if_cold),
        )
    }

    fn against(&self) -> f64 {
        0.5 + 0.7 * self.store_if_cold.min(1.0)
    }
}

/// The cache is gone, then back and empty: everything goes to the store behind it.
pub(crate) fn cold_cache(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for used in cache_uses(context) {
        let cache = &used.question.edge.to;
        for (rank, black_hole) in [false, true].into_iter().enumerate() {
            let how = if black_hole {
                "; silent meanwhile, so each question first waits out its timeout"
            } else {
                "; it comes back cold"
            };
            let fault = FaultKind::Crash { replicas: None, black_hole };
            let score = used.question.score.max(used.store.score);
            ideas.push(Idea::new(
                level(score * used.against(), rank),
                vec![(node(cache), fault)],
                format!("{}{how}", used.words()),
            ));
        }
    }
    ideas
}

/// The cache answers, but too late to be waited for: a crash that no health check sees.
pub(crate) fn slow_cache(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for used in cache_uses(context) {
        let Some(timeout) = used.question.timeout else { continue };
        let add = tidy(timeout.as_secs_f64() * 1.3);
        let why = format!("{}; {add} more passes its timeout of {timeout}, so a full cache counts as empty", used.words());
        let faults = vec![(edge(used.question), FaultKind::latency(add))];
        ideas.push(Idea::new(used.question.score.max(used.store.score) * used.against(), faults, why));
    }
    ideas
}

/// A service loses workers while more users come than usual.
pub(crate) fn workers_lost_at_peak(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for service in context.services() {
        let per_replica =
            service.workers.zip(context.model.services.get(&service.name)).map(|(all, s)| all / f64::from(s.replicas.value));
        let (Some(workers), Some(entry)) = (per_replica, context.entry_of(&service.name)) else { continue };
        for (rank, (keep, surge)) in [(0.5, 1.4), (0.25, 1.2), (0.5, 1.0), (0.25, 2.0)].into_iter().enumerate() {
            let kept = (workers * keep).round();
            if kept < 1.0 || kept >= workers {
                continue;
            }
            let left = kept / workers;
            let busy = service.utilisation.unwrap_or(0.0) * surge / left;
            let load =
                if surge > 1.0 { format!(" and {} times the load from {}", number(surge), entry.name) } else { String::new() };
            let why = format!("{}; {} of them left{load} make that {}", load_words(service), percent(keep), percent(busy));
            let mut faults = vec![(node(&service.name), FaultKind::WorkersLost { keep })];
            if surge > 1.0 {
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
        };
        assert_eq!(slowed(&service, 2.0), "x2 makes that 82 %");
        assert_eq!(slowed(&service, 4.0), "x4 makes that 164 %, more than it has");
    }
}
