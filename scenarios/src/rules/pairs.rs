//! Rules about two faults at once: each may be harmless, and both together not.

use std::collections::BTreeSet;

use models::system::Step;
use models::units::Nanos;

use super::services::slowed;
use super::{Context, Idea, edge, level, load_words, node, number, percent, tidy, time};
use crate::analyse::{Boundary, NodeKind};
use crate::fault::{FaultKind, Target};

/// Of one caller's callees, how many of the hottest are paired: enough for variety, and bounded for wide fan-outs.
const PAIRED: usize = 6;

/// Two callees of one caller fail in two different ways.
pub(crate) fn siblings(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for caller in &context.analysis.nodes {
        let callees: Vec<&Boundary> = context.inner_from(&caller.name).filter(|b| b.waits).take(PAIRED).collect();
        for (i, first) in callees.iter().enumerate() {
            for second in &callees[i + 1..] {
                let priority = (first.score + second.score) * 0.6;
                if !together(context, &caller.name, &first.edge.to, &second.edge.to) {
                    continue;
                }
                let patience = context
                    .strictest_caller(&caller.name)
                    .map_or(String::new(), |(above, timeout)| format!(" inside the {timeout} that {} gives it", above.edge.from));
                let why = format!(
                    "{} needs both {} ({} calls per second, {}) and {} ({} per second, {}){patience}: what one of them leaves of its time the other can use up",
                    caller.name,
                    first.edge.to,
                    number(first.calls_per_s),
                    longest(first),
                    second.edge.to,
                    number(second.calls_per_s),
                    longest(second),
                );
                let pairs = [
                    [inside(context, first), between(second)],
                    [between(first), inside(context, second)],
                    [between(first), between(second)],
                    [inside(context, first), dropped(second)],
                    [dropped(first), inside(context, second)],
                ];
                for (rank, pair) in pairs.into_iter().enumerate() {
                    ideas.push(Idea::new(level(priority, rank), pair.to_vec(), format!("{why}; here {}", both(&pair))));
                }
            }
        }
    }
    ideas
}

/// A call and a call behind it are both in trouble.
pub(crate) fn chain(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for first in context.inner() {
        let behind = context.inner_from(&first.edge.to).filter(|b| b.edge.to != first.edge.from).take(PAIRED);
        for second in behind {
            let why = format!(
                "{} waits {} for {}, which itself waits {} for {}: a delay in front and one behind add up, and tries multiply to {}",
                first.edge.from,
                limit(first),
                first.edge.to,
                limit(second),
                second.edge.to,
                second.tries_from_entry,
            );
            let priority = (first.score + second.score) * 0.6;
            let pairs = [
                [between(first), inside(context, second)],
                [dropped(first), inside(context, second)],
                [inside(context, first), dropped(second)],
                [inside(context, first), between(second)],
            ];
            for (rank, pair) in pairs.into_iter().enumerate() {
                ideas.push(Idea::new(level(priority, rank), pair.to_vec(), format!("{why}; here {}", both(&pair))));
            }
        }
    }
    ideas
}

/// Something is slow, and more users come than usual.
pub(crate) fn slow_at_peak(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for b in context.inner() {
        let (Some(callee), Some(entry)) = (context.node(&b.edge.to), context.entry_of(&b.edge.from)) else { continue };
        for (rank, surge) in [1.5, 2.0, 1.2].into_iter().enumerate() {
            let more = (node(&entry.name), FaultKind::Surge { factor: surge });
            if callee.kind == NodeKind::Service && callee.erlangs > 0.0 {
                let busy = callee.utilisation.unwrap_or(0.0) * 2.0 * surge;
                let why = format!(
                    "{}; {}, with {} times the load from {} {}",
                    load_words(callee),
                    slowed(callee, 2.0),
                    number(surge),
                    entry.name,
                    percent(busy)
                );
                let slow = (node(&callee.name), FaultKind::Slow { factor: 2.0 });
                ideas.push(Idea::new(level(b.score * (0.4 + 0.8 * busy.min(1.0)), rank), vec![slow, more.clone()], why));
            }
            let add = half_the_timeout(b);
            let why = format!(
                "{} calls {} {} times per second and waits {}; {add} more keeps {} more of these calls under way, with {} times the load from {} {}",
                b.edge.from,
                b.edge.to,
                number(b.calls_per_s),
                limit(b),
                number(b.calls_per_s * add.as_secs_f64()),
                number(surge),
                entry.name,
                number(b.calls_per_s * surge * add.as_secs_f64()),
            );
            ideas.push(Idea::new(level(b.score * 0.8, rank + 1), vec![between(b), more], why));
        }
    }
    ideas
}

/// Whether one request of `caller` may need both `a` and `b`.
fn together(context: &Context, caller: &str, a: &str, b: &str) -> bool {
    let operations = context.model.services.get(caller).into_iter().flat_map(|service| service.operations.values());
    operations.flat_map(|op| &op.paths).any(|path| {
        let mut callees = BTreeSet::new();
        path.steps.iter().for_each(|step| note_callees(step, &mut callees));
        callees.contains(a) && callees.contains(b)
    })
}

fn note_callees<'a>(step: &'a Step, callees: &mut BTreeSet<&'a str>) {
    match step {
        Step::Work(_) => {}
        Step::Call(call) => {
            callees.insert(&call.to.service);
        }
        Step::Parallel { branches, .. } => branches.iter().for_each(|branch| note_callees(branch, callees)),
        Step::Lookup(lookup) => callees.extend([lookup.cache.to.service.as_str(), lookup.origin.to.service.as_str()]),
        Step::Publish(publish) => {
            callees.insert(&publish.to);
        }
    }
}

/// Trouble inside the callee: slow work; a topic that delivers nothing.
fn inside(context: &Context, b: &Boundary) -> (Target, FaultKind) {
    let kind = match context.node(&b.edge.to).map(|callee| callee.kind) {
        Some(NodeKind::Topic) => FaultKind::ConsumerStall,
        _ => FaultKind::Slow { factor: 2.0 },
    };
    (node(&b.edge.to), kind)
}

/// Trouble on the way: half the timeout is gone before the callee hears of it.
fn between(b: &Boundary) -> (Target, FaultKind) {
    (edge(b), FaultKind::latency(half_the_timeout(b)))
}

fn half_the_timeout(b: &Boundary) -> Nanos {
    b.timeout.map_or(Nanos::from_millis(500), |timeout| tidy(timeout.as_secs_f64() * 0.5))
}

/// Trouble with connections.
fn dropped(b: &Boundary) -> (Target, FaultKind) {
    (edge(b), FaultKind::ConnectionDrop { probability: 0.3 })
}

fn both(pair: &[(Target, FaultKind); 2]) -> String {
    let words = |(target, kind): &(Target, FaultKind)| match kind {
        FaultKind::Latency { add, .. } => format!("{add} more on {target}"),
        FaultKind::ConnectionDrop { probability } => format!("{} of connections dropped on {target}", percent(*probability)),
        FaultKind::Slow { factor } => format!("{target} slower x{}", number(*factor)),
        _ => format!("{target} stalled"),
    };
    format!("{} and {}", words(&pair[0]), words(&pair[1]))
}

fn longest(b: &Boundary) -> String {
    b.longest_call.map_or("no timeout".to_owned(), |longest| format!("up to {} a call", time(longest.as_secs_f64())))
}

fn limit(b: &Boundary) -> String {
    b.timeout.map_or("without end".to_owned(), |timeout| format!("up to {timeout}"))
}
