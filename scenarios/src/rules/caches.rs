//! Rules about caches: what stands behind one, when it answers less, late, or nothing.

use models::system::{Lookup, Operation, Step};

use super::{Context, Idea, edge, level, node, number, percent, tidy, time};
use crate::analyse::{Boundary, NodeEvidence};
use crate::fault::FaultKind;
use crate::moments::{hit_ratio, hottest_share};

/// A use of a cache: who asks it, and what stands behind.
struct CacheUse<'a> {
    question: &'a Boundary,
    store: &'a NodeEvidence,
    misses_per_s: f64,
    /// Hit ratio by its capacity and the popularity of keys.
    hits: f64,
    /// Utilisation of the store when every question misses.
    store_if_cold: f64,
    /// Whether a replica of the caller asks the store for a key only once at a time.
    single_flight: bool,
    /// Share of the questions that are about the most popular key.
    hottest: f64,
    keys: u32,
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
                single_flight: lookup.single_flight,
                hottest: hottest_share(contents.keys.value, contents.zipf.value),
                keys: contents.keys.value,
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

    /// Utilisation of the store when only this share of the hits stays.
    fn store_if(&self, keep: f64) -> f64 {
        let now = self.store.utilisation.unwrap_or(0.0);
        now + (self.store_if_cold - now) * (1.0 - keep)
    }

    /// Whether many ask the store for one key at once.
    fn stampede(&self) -> String {
        if self.single_flight {
            return "each replica of the caller asks for a key only once at a time".to_owned();
        }
        let per_s = self.question.calls_per_s * self.hottest;
        format!(
            "the most popular of {} keys is asked for {} times per second, and all who ask before the first answer ({} at the median) ask the store too",
            self.keys,
            number(per_s),
            time(self.store.p50_ms / 1e3)
        )
    }
}

/// The contents are gone, the cache itself is not: a flush, a changed key format, a deployment.
pub(crate) fn cache_flush(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for used in cache_uses(context) {
        // Without single flight every miss goes on to the store, and popular keys go there many times at once.
        let against = used.against() * if used.single_flight { 0.7 } else { 1.1 };
        for (rank, share) in [1.0, 0.5].into_iter().enumerate() {
            let gone = if share == 1.0 { "all it holds".to_owned() } else { format!("{} of what it holds", percent(share)) };
            let why = format!("{}; {gone} goes at once; {}", used.words(), used.stampede());
            let score = used.question.score.max(used.store.score);
            let faults = vec![(node(&used.question.edge.to), FaultKind::Flush { share })];
            ideas.push(Idea::new(level(score * against, rank), faults, why));
        }
    }
    ideas
}

/// The cache finds less than usual: other keys are asked for, or they change too often.
pub(crate) fn fewer_hits(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for used in cache_uses(context) {
        for (rank, keep) in [0.5, 0.8].into_iter().enumerate() {
            let busy = used.store_if(keep);
            let why = format!("{}; with {} of the hits left it is {}", used.words(), percent(keep), percent(busy));
            let score = used.question.score.max(used.store.score);
            let faults = vec![(node(&used.question.edge.to), FaultKind::HitRatioDrop { keep })];
            ideas.push(Idea::new(level(score * (0.3 + 0.7 * busy.min(1.0)), rank), faults, why));
        }
    }
    ideas
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
