//! Rules about messages: backlogs, lateness, order.

use models::units::Nanos;

use super::{Context, Idea, edge, level, load_words, node, number, percent, tidy, time, traffic_words};
use crate::analyse::{Boundary, LinkKind, NodeEvidence, NodeKind};
use crate::fault::{FaultKind, Leg};

/// Nothing is delivered for a while.
pub(crate) fn consumer_stall(context: &Context) -> Vec<Idea> {
    let ideas = topics(context).map(|(topic, _)| {
        let why = format!("{}; {}", filling(topic), draining(topic));
        Idea::new(topic.score * 1.1, vec![(node(&topic.name), FaultKind::ConsumerStall)], why)
    });
    ideas.collect()
}

/// The consumer, or what the consumer calls, is slow, and the queue piles up.
pub(crate) fn slow_consumer(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for (topic, delivery) in topics(context) {
        let busy = topic.utilisation.unwrap_or(0.0);
        for (rank, factor) in [4.0, 2.0, 8.0].into_iter().enumerate() {
            let why = format!(
                "{} piles up if {} is slow: {} of its {} deliveries at once are under way, x{} makes that {}; {}",
                topic.name,
                delivery.edge.to,
                number(topic.erlangs),
                topic.workers.map_or("unlimited".to_owned(), number),
                number(factor),
                percent(busy * factor),
                filling(topic),
            );
            let against = 0.5 + 0.6 * (busy * factor).min(1.0);
            let faults = vec![(node(&delivery.edge.to), FaultKind::Slow { factor })];
            ideas.push(Idea::new(level(topic.score.max(delivery.score) * against, rank), faults, why));
        }
        let behind = std::iter::once(delivery).chain(context.inner_from(&delivery.edge.to).filter(|b| b.waits));
        for (rank, late) in behind.enumerate() {
            let add = late.timeout.map_or(Nanos::from_secs(1), |timeout| tidy(timeout.as_secs_f64() * 0.8));
            let held = topic.per_s * late.per_parent * add.as_secs_f64();
            let why = format!(
                "{} piles up because {} is slow: {}; {add} more takes {} more deliveries at once, and it has {}; {}",
                topic.name,
                late.edge.to,
                traffic_words(late),
                number(held),
                topic.workers.map_or("unlimited".to_owned(), number),
                filling(topic),
            );
            let share = topic.workers.map_or(0.0, |deliveries| held / deliveries.max(1.0));
            let faults = vec![(edge(late), FaultKind::latency(add))];
            ideas.push(Idea::new(level(topic.score.max(late.score) * (0.5 + 0.6 * share.min(1.0)), rank), faults, why));
        }
    }
    ideas
}

/// Messages arrive late, or in another order than they were sent.
pub(crate) fn late_messages(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for (topic, delivery) in topics(context) {
        let order = if topic.may_reorder() {
            format!("{} deliveries at once promise no order", topic.workers.map_or("unlimited".to_owned(), number))
        } else {
            "one delivery at a time keeps the order only as long as nothing is held back".to_owned()
        };
        for (rank, (within, probability)) in [(5, 0.3), (2, 0.3), (10, 0.6)].into_iter().enumerate() {
            let why = format!(
                "{} arrives out of order at {}: {order}; {} messages per second, {} of them held for up to {within} s, let up to {} others overtake each",
                topic.name,
                delivery.edge.to,
                number(topic.per_s),
                percent(probability),
                number(topic.per_s * f64::from(within)),
            );
            let fault = FaultKind::Reorder { probability, within: Nanos::from_secs(u64::from(within as u32)) };
            ideas.push(Idea::new(level(topic.score, rank), vec![(node(&topic.name), fault)], why));
        }
        for (rank, seconds) in [2_u64, 10].into_iter().enumerate() {
            let (add, jitter) = (Nanos::from_secs(seconds), Nanos::from_secs(seconds));
            let waiting = topic.per_s * seconds as f64 * 1.5;
            let why = format!(
                "{} arrives {seconds} to {} s late: about {} messages wait meanwhile{}",
                topic.name,
                2 * seconds,
                number(waiting),
                topic.places.map_or(String::new(), |places| format!(", of {places} that may")),
            );
            let full = topic.places.map_or(0.0, |places| (waiting / f64::from(places.max(1))).min(1.0));
            ideas.push(Idea::new(
                level(topic.score * (0.6 + 0.4 * full), rank),
                vec![(node(&topic.name), FaultKind::Delay { add, jitter })],
                why,
            ));
        }
    }
    // Calls that nobody waits for come late too, but no topic keeps them.
    for b in context.inner().filter(|b| b.kind == LinkKind::Call && !b.waits) {
        let why = format!(
            "{}, and does not wait: 2 to 4 s late, up to {} calls overtake each other",
            traffic_words(b),
            number(b.calls_per_s * 2.0)
        );
        let (add, jitter) = (Nanos::from_secs(2), Nanos::from_secs(2));
        let fault = FaultKind::Latency { add, jitter, distribution: None, leg: Leg::Request, delivers_abandoned: false };
        ideas.push(Idea::new(b.score, vec![(edge(b), fault)], why));
    }
    ideas
}

/// Topics in use, each with the boundary to its consumer.
fn topics<'a>(context: &Context<'a>) -> impl Iterator<Item = (&'a NodeEvidence, &'a Boundary)> {
    let used = context.analysis.nodes.iter().filter(|node| node.kind == NodeKind::Topic && node.per_s > 0.0);
    used.filter_map(|topic| {
        let delivery = context.inner_from(&topic.name).find(|b| b.kind == LinkKind::Delivery);
        Some((topic, delivery?))
    })
}

/// `mailq gets 24 messages per second and is full after 12.6 s without deliveries`.
fn filling(topic: &NodeEvidence) -> String {
    let full = match (topic.fills_in_s(), topic.places) {
        (Some(seconds), Some(places)) => format!("its {places} places are full after {} without deliveries", time(seconds)),
        _ => "it has no bound".to_owned(),
    };
    format!("{} gets {} messages per second and {full}", topic.name, number(topic.per_s))
}

/// How fast a backlog goes again.
fn draining(topic: &NodeEvidence) -> String {
    match topic.utilisation {
        Some(busy) if busy >= 1.0 => format!("its deliveries are busy at {}: a backlog never goes", percent(busy)),
        Some(busy) if busy > 0.0 => {
            format!(
                "its deliveries are busy at {}, so a backlog takes {} times as long to go as it took to come",
                percent(busy),
                number(busy / (1.0 - busy))
            )
        }
        _ => load_words(topic),
    }
}
