//! Rules about the network between two services, and about timeouts that no longer fit it.

use models::units::Nanos;

use super::{Context, Idea, edge, level, load_words, percent, retry_words, tidy, time, traffic_words, tries_words};
use crate::analyse::{Boundary, LinkKind};
use crate::fault::{FaultKind, Leg};

/// How long a lost packet keeps its message from arriving: the least retransmission timeout of Linux.
const RETRANSMIT: Nanos = crate::format::RETRANSMIT;

/// A partition one way: requests arrive and the work is done, but no answer comes back.
pub(crate) fn answers_lost(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for b in context.inner().filter(|b| b.waits || b.kind == LinkKind::Delivery) {
        let (against, what) = match b.kind {
            LinkKind::Publish => repeated(context, b, &b.edge.to, "published", "the publisher"),
            LinkKind::Delivery => repeated(context, b, &b.edge.from, "applied", "the broker"),
            LinkKind::Cache => (0.6, "questions are answered, and each waits in vain before it counts as a miss".to_owned()),
            LinkKind::Entry | LinkKind::Call => {
                let callee = context.node(&b.edge.to);
                let busy = callee.and_then(|callee| callee.utilisation).unwrap_or(0.0) * f64::from(b.tries);
                let load = callee.map_or(String::new(), |callee| format!("; {}", load_words(callee)));
                let again = format!("the work is done each time, {} a call{load}", tries_words(b.tries));
                (0.4 + 0.6 * busy.min(1.0), again)
            }
        };
        let patience = b.longest_call.map_or("without end".to_owned(), |longest| format!("for {}", time(longest.as_secs_f64())));
        for (rank, leg) in [Leg::Reply, Leg::Request].into_iter().enumerate() {
            let how = match leg {
                Leg::Request => format!("requests get lost on their way, and {} waits {patience}", b.edge.from),
                _ => format!("requests arrive and their answers get lost: {what}, and {} waits {patience}", b.edge.from),
            };
            let why = format!("{}; {how}; {}", traffic_words(b), retry_words(b));
            let against = if leg == Leg::Request { against.min(0.6) } else { against };
            ideas.push(Idea::new(level(b.score * against, rank), vec![(edge(b), FaultKind::BlackHole { leg })], why));
        }
    }
    ideas
}

/// What lost acknowledgements do to a topic's messages.
fn repeated(context: &Context, b: &Boundary, topic: &str, done: &str, who: &str) -> (f64, String) {
    let idempotent = context.model.topics.get(topic).is_none_or(|topic| topic.idempotent);
    let effect = if idempotent { "a second time changes nothing" } else { "a second time is a duplicate effect" };
    let against = match (idempotent, b.tries > 1) {
        (false, true) => 1.1,
        (true, true) => 0.7,
        (_, false) => 0.4,
    };
    (against, format!("{who} makes {}, so that a message can be {done} as often, and {effect}", tries_words(b.tries)))
}

/// Packets are lost where many messages go to and fro for one request.
pub(crate) fn packet_loss(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for b in context.inner().filter(|b| b.waits || b.kind == LinkKind::Delivery) {
        for (rank, probability) in [0.05, 0.2, 0.01].into_iter().enumerate() {
            // A request and a reply a call.
            let met = 1.0 - libm::pow(1.0 - probability, 2.0 * b.per_parent);
            let own = if b.kind == LinkKind::Delivery { "message" } else { "request" };
            let late = match b.timeout {
                Some(timeout) if timeout <= RETRANSMIT => format!("longer than its timeout of {timeout}"),
                Some(timeout) => format!("against a timeout of {timeout}"),
                None => "and nothing bounds it".to_owned(),
            };
            let why = format!(
                "{}, {} for each {own} of its own; with {} of the packets lost, {} of these meet a loss and wait {RETRANSMIT} or more, {late}; {}",
                traffic_words(b),
                super::number(b.per_parent),
                percent(probability),
                percent(met),
                retry_words(b)
            );
            let passes = if b.timeout.is_some_and(|timeout| timeout <= RETRANSMIT) { 1.1 } else { 0.9 };
            let against = passes * (0.3 + 0.7 * met);
            let fault = FaultKind::Loss { probability, retransmit: RETRANSMIT };
            ideas.push(Idea::new(level(b.score * against, rank), vec![(edge(b), fault)], why));
        }
    }
    ideas
}

/// Somebody lowers a timeout to where answers usually come: good answers are given up on, and the work is done all the same.
pub(crate) fn timeout_lowered(context: &Context) -> Vec<Idea> {
    let mut ideas = Vec::new();
    for b in context.inner().filter(|b| (b.waits || b.kind == LinkKind::Delivery) && b.p99_ms > 0.0) {
        // Quantiles of a lognormal through p50 and p99: half way between their logarithms lies the 88th.
        let middle = (b.p50_ms * b.p99_ms).sqrt();
        for (rank, (at_ms, late)) in [(b.p99_ms, 0.01), (middle, 0.12), (b.p50_ms, 0.5)].into_iter().enumerate() {
            let to = tidy(at_ms / 1e3);
            if b.timeout.is_some_and(|timeout| to >= timeout) {
                continue;
            }
            let more = late * f64::from(b.tries - 1);
            let callee = context.node(&b.edge.to);
            let busy = callee.and_then(|callee| callee.utilisation).unwrap_or(0.0) * (1.0 + more);
            let now = b.timeout.map_or("it has none now".to_owned(), |timeout| format!("now {timeout}"));
            let why = format!(
                "{}; a timeout of {to} ({now}) gives up on about {} of its tries that would have been answered; the work is done all the same; {}{}",
                traffic_words(b),
                percent(late),
                retry_words(b),
                callee.map_or(String::new(), |callee| format!("; {}", load_words(callee)))
            );
            let against = 0.3 + 0.4 * late.min(1.0) + 0.3 * busy.min(1.0);
            let fault = FaultKind::TimeoutLowered { to };
            ideas.push(Idea::new(level(b.score * against, rank / 2), vec![(edge(b), fault)], why));
        }
    }
    ideas
}
