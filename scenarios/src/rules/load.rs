//! Rules about users: more of them, and impatient ones.

use models::units::Nanos;

use super::{Context, Idea, edge, level, load_words, node, number, percent, tidy, time};
use crate::analyse::{Boundary, LinkKind, NodeEvidence, NodeKind};
use crate::fault::FaultKind;

/// More users than usual.
pub(crate) fn surge(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for entry in entries(context).filter(|entry| context.is_open(&entry.name)) {
        let described = context.model.workload.get(&entry.name);
        let peak = described.map(|described| described.peak_per_s()).filter(|peak| *peak > entry.per_s);
        let peak = peak.map_or(String::new(), |peak| format!(" ({} at its peak)", number(peak)));
        for (rank, factor) in [2.0, 3.0, 1.5, 5.0, 1.2, 10.0].into_iter().enumerate() {
            let (words, busy) = match busiest(context, &entry.name) {
                Some((node, busy)) => (
                    format!("{}; {} times the load makes that {}", load_words(node), number(factor), percent(busy * factor)),
                    busy * factor,
                ),
                None => ("no service behind it has a limit of workers".to_owned(), 0.0),
            };
            let why =
                format!("{} brings {} requests per second{peak}; of what they need, {words}", entry.name, number(entry.per_s));
            // Far beyond capacity a surge teaches no more than just beyond it.
            let against = (0.3 + 0.9 * busy.min(1.0)) / (busy / 2.0).max(1.0);
            ideas.push(Idea::new(
                level(entry.score * against, rank / 2),
                vec![(node(&entry.name), FaultKind::Surge { factor })],
                why,
            ));
        }
    }
    ideas
}

/// Users who do not wait but ask again.
pub(crate) fn reload(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for b in ways_in(context).filter(|b| context.is_open(&b.edge.from)) {
        let busy = busiest(context, &b.edge.from);
        for (rank, (attempts, factor)) in [(3, 1.5), (5, 2.0), (3, 1.2)].into_iter().enumerate() {
            let words = busy.map_or(String::new(), |(node, busy)| {
                format!("; {}, at {} times the load {}", load_words(node), number(factor), percent(busy * factor))
            });
            let patience = b.timeout.map_or("without end".to_owned(), |timeout| format!("for {timeout}"));
            let why = format!(
                "users of {} wait {patience} and try {} now; {attempts} tries a second apart turn every failure into more load just when it is high{words}",
                b.edge.from,
                if b.tries == 1 { "once".to_owned() } else { format!("{} times", b.tries) },
            );
            let against = 0.3 + 0.7 * (busy.map_or(0.0, |(_, busy)| busy) * factor).min(1.0);
            let faults = vec![
                (edge(b), FaultKind::AggressiveRetries { attempts: attempts.max(b.tries + 1), backoff: Nanos::from_secs(1) }),
                (node(&b.edge.from), FaultKind::Surge { factor }),
            ];
            ideas.push(Idea::new(level(b.score * against, rank), faults, why));
        }
    }
    ideas
}

/// Users who lose patience before their answer comes: what they asked for first is still being worked on.
pub(crate) fn impatience(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for b in ways_in(context) {
        let busy = busiest(context, &b.edge.from);
        // Nobody reloads what comes at once: three times the usual slow answer, a second at least, ten at most.
        let after = tidy((3.0 * b.p99_ms / 1e3).clamp(1.0, 10.0));
        let surges: &[f64] = if context.is_open(&b.edge.from) { &[1.5, 2.0, 1.0] } else { &[1.0] };
        for (rank, factor) in surges.iter().copied().enumerate() {
            let attempts = 3;
            let words = busy.map_or(String::new(), |(node, busy)| {
                let times = if factor == 1.0 { "and".to_owned() } else { format!("at {} times the load", number(factor)) };
                let most = busy * factor * f64::from(attempts);
                format!("; {}, {times} with {attempts} requests a user {}", load_words(node), percent(most))
            });
            let why = format!(
                "{} brings {} requests per second, answered within {} (p99); once answers take {after} its users ask again, up to {attempts} times, while the first request is still worked on{words}",
                b.edge.from,
                number(b.calls_per_s),
                time(b.p99_ms / 1e3)
            );
            let against = 0.3 + 0.7 * (busy.map_or(0.0, |(_, busy)| busy) * factor).min(1.0);
            let mut faults = vec![(node(&b.edge.from), FaultKind::Reload { after, attempts })];
            if factor > 1.0 {
                faults.push((node(&b.edge.from), FaultKind::Surge { factor }));
            }
            ideas.push(Idea::new(level(b.score * against, rank), faults, why));
        }
    }
    ideas
}

/// Where users come in.
fn ways_in<'a>(context: &Context<'a>) -> impl Iterator<Item = &'a Boundary> {
    context.analysis.boundaries.iter().filter(|b| b.kind == LinkKind::Entry && b.calls_per_s > 0.0)
}

fn entries<'a>(context: &Context<'a>) -> impl Iterator<Item = &'a NodeEvidence> {
    context.analysis.nodes.iter().filter(|node| node.kind == NodeKind::Entry && node.per_s > 0.0)
}

/// The busiest service or topic that an entry's users reach, with its utilisation.
pub(super) fn busiest<'a>(context: &Context<'a>, entry: &str) -> Option<(&'a NodeEvidence, f64)> {
    let behind = |node: &&NodeEvidence| context.brings(&node.name).is_some_and(|brings| brings.name == entry);
    let loaded = context.analysis.nodes.iter().filter(behind).filter_map(|node| Some((node, node.utilisation?)));
    loaded.max_by(|a, b| a.1.total_cmp(&b.1))
}
