//! Rules about calls: what happens between two services.

use models::units::Nanos;

use super::{Context, Idea, edge, level, load_words, node, number, percent, retry_words, tidy, time, traffic_words, tries_words};
use crate::analyse::{Boundary, LinkKind};
use crate::fault::{FaultKind, Leg};

/// A dependency answers late: by more than its caller's timeout, or by just not that much.
pub(crate) fn slow_dependency(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for b in context.inner() {
        for (rank, (add, against)) in late_by(b).into_iter().enumerate() {
            let seconds = add.as_secs_f64();
            let what = match b.timeout {
                Some(timeout) if add > timeout => {
                    let loses = if b.kind == LinkKind::Delivery { "delivery" } else { "try" };
                    format!(
                        "{add} more passes its timeout of {timeout}, so every {loses} is lost while the work is done all the same"
                    )
                }
                Some(timeout) => format!(
                    "{add} more stays below its timeout of {timeout}: nobody sees an error, but {}",
                    held(context, b, seconds)
                ),
                None => format!("it waits without a timeout: {add} more and {}", held(context, b, seconds)),
            };
            let why = format!("{}; {what}; {}", traffic_words(b), retry_words(b));
            ideas.push(Idea::new(level(b.score * against, rank), vec![(edge(b), FaultKind::latency(add))], why));
        }
    }
    ideas
}

/// Delays worth trying on a boundary, each with how worrying it is there.
pub(super) fn late_by(b: &Boundary) -> Vec<(Nanos, f64)> {
    let usual = b.p50_ms.max(1.0) / 1e3;
    match b.timeout.map(Nanos::as_secs_f64) {
        Some(timeout) => vec![(tidy(timeout * 1.3), 1.0), (tidy(timeout * 0.7), 0.9), (tidy(timeout * 0.3), 0.6)],
        None => {
            vec![(tidy((usual * 20.0).max(0.5)), 1.0), (tidy((usual * 100.0).max(5.0)), 0.9), (tidy((usual * 5.0).max(0.1)), 0.6)]
        }
    }
}

/// What a delay does to the caller's workers.
fn held(context: &Context, b: &Boundary, seconds: f64) -> String {
    let caller = context.node(&b.edge.from);
    let more = b.calls_per_s * seconds;
    match caller.and_then(|caller| Some((caller, caller.workers?))) {
        Some((caller, workers)) if caller.blocking && b.waits => {
            format!("{} needs {} more workers for it, and has {}", caller.name, number(more), number(workers))
        }
        Some((_, deliveries)) if b.kind == LinkKind::Delivery => {
            format!("{} more deliveries at once are needed, of {}", number(more), number(deliveries))
        }
        _ => format!("{} more requests are under way", number(more)),
    }
}

/// Nothing comes back, not even an error: workers wait until a timeout, or for ever.
pub(crate) fn black_hole(context: &Context) -> Vec<Idea> {
    let ideas = context.inner().map(|b| {
        let caller = context.node(&b.edge.from);
        let workers = caller.and_then(|caller| caller.workers);
        let holds = b.stuck_share > 0.0;
        let (against, stuck) = match (b.longest_call, workers.filter(|_| holds)) {
            (None, Some(workers)) => (
                1.2,
                format!(
                    "it has no timeout, so all {} workers are stuck after {}",
                    number(workers),
                    time(workers / b.calls_per_s)
                ),
            ),
            (None, None) => (1.0, "it has no timeout, so whoever waits there waits until the end".to_owned()),
            (Some(longest), Some(workers)) => (
                0.4 + 0.6 * b.stuck_share.min(1.0),
                format!(
                    "a call then lasts up to {}, so that {} of {} workers wait",
                    time(longest.as_secs_f64()),
                    number((b.calls_per_s * longest.as_secs_f64()).min(workers)),
                    number(workers)
                ),
            ),
            (Some(longest), None) => {
                (0.5, format!("a call then lasts up to {}, holding no worker of its caller", time(longest.as_secs_f64())))
            }
        };
        let why = format!("{}; {stuck}; {}", traffic_words(b), retry_words(b));
        Idea::new(b.score * against, vec![(edge(b), FaultKind::BlackHole { leg: Leg::Both })], why)
    });
    ideas.collect()
}

/// A share of connections is reset at once.
pub(crate) fn connection_drops(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for b in context.inner() {
        for (rank, probability) in [0.3, 1.0, 0.1].into_iter().enumerate() {
            let lost = libm::pow(probability, f64::from(b.tries));
            let why = format!(
                "{}; of calls whose connections drop with {} chance, {} fail for good after {}, {}",
                traffic_words(b),
                percent(probability),
                percent(lost),
                tries_words(b.tries),
                match b.kind {
                    LinkKind::Cache => "and a question that fails counts as a miss".to_owned(),
                    LinkKind::Delivery => format!("and {} lets go of the message", b.edge.from),
                    _ => format!("and a failure fails {} with {} chance", b.edge.from, percent(b.on_failure)),
                },
            );
            let against = 0.3 + 0.7 * b.on_failure * lost.max(probability / 2.0);
            ideas.push(Idea::new(
                level(b.score * against, rank),
                vec![(edge(b), FaultKind::ConnectionDrop { probability })],
                why,
            ));
        }
    }
    ideas
}

/// Connections drop, and the client answers with many tries at once.
pub(crate) fn drops_met_by_retries(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for b in retried(context) {
        let Some(callee) = context.node(&b.edge.to) else { continue };
        for (rank, probability) in [0.2, 0.5].into_iter().enumerate() {
            let attempts = (b.tries * 2).max(8);
            let tries = (1.0 - libm::pow(probability, f64::from(attempts))) / (1.0 - probability);
            let why = format!(
                "{}; with {} of connections dropped and {attempts} tries without a wait (now {}), {} attempts per call reach {}; {}",
                traffic_words(b),
                percent(probability),
                b.tries,
                number(tries),
                b.edge.to,
                load_words(callee),
            );
            let against = 0.4 + 0.6 * (callee.utilisation.unwrap_or(0.0) * tries).min(1.0);
            let faults = vec![
                (edge(b), FaultKind::ConnectionDrop { probability }),
                (edge(b), FaultKind::AggressiveRetries { attempts, backoff: Nanos::ZERO }),
            ];
            ideas.push(Idea::new(level(b.score * against, rank), faults, why));
        }
    }
    ideas
}

/// A client that retries at once, while more users come than usual.
pub(crate) fn retries_at_peak(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for b in retried(context) {
        let (Some(callee), Some(entry)) = (context.node(&b.edge.to), context.entry_of(&b.edge.from)) else { continue };
        for (rank, (factor, least)) in [(1.5, 5), (2.0, 8), (1.2, 5)].into_iter().enumerate() {
            let attempts = (b.tries * 2).max(least);
            let busy = callee.utilisation.unwrap_or(0.0) * factor;
            let why = format!(
                "{}; {} times the load from {} take {} of its capacity before any retry, and then {attempts} tries without a wait (now {}) can hold it over capacity; {}",
                traffic_words(b),
                number(factor),
                entry.name,
                percent(busy),
                b.tries,
                retry_words(b),
            );
            let against = 0.4 + 0.6 * busy.min(1.0);
            let faults = vec![
                (edge(b), FaultKind::AggressiveRetries { attempts, backoff: Nanos::ZERO }),
                (node(&entry.name), FaultKind::Surge { factor }),
            ];
            ideas.push(Idea::new(level(b.score * against, rank), faults, why));
        }
    }
    ideas
}

/// Boundaries whose client has a retry policy that could be more aggressive: a broker's deliveries have none.
fn retried<'a>(context: &Context<'a>) -> impl Iterator<Item = &'a Boundary> {
    context.inner().filter(|b| b.kind != LinkKind::Delivery && b.waits)
}
