//! Words and numbers for people: faults as half sentences, shares, times, lists.
//!
//! You are here: `reports::words`. `text`, `html` and `svg` use it, so that all of them say the same.

use std::fmt::Write;

use models::dist::Dist;
use models::units::Nanos;
use scenarios::fault::{Fault, FaultKind, Leg, Target};

use crate::view::{Recovery, Row};

/// What a fault does, as a half sentence that follows "when".
pub fn fault(fault: &Fault) -> String {
    let target = &fault.target;
    let what = match &fault.kind {
        FaultKind::Latency { add, jitter, distribution, leg, .. } => {
            let drawn = match distribution {
                None => String::new(),
                Some(dist) if add.is_zero() && jitter.is_zero() => distributed(dist),
                Some(dist) => format!(" and {}", distributed(dist)),
            };
            let fixed = if drawn.is_empty() || drawn.starts_with(' ') { amount(*add, *jitter) } else { String::new() };
            let way = match leg {
                Leg::Request => "",
                Leg::Reply => " on the way back",
                Leg::Both => " each way",
            };
            format!("{} take {fixed}{drawn} longer{way}", calls(target))
        }
        FaultKind::ConnectionDrop { probability } => format!("{} of {} are reset", share(*probability), calls(target)),
        FaultKind::BlackHole { leg: Leg::Reply } => {
            format!("the answers to {} vanish without an error, though the work is done", calls(target))
        }
        FaultKind::BlackHole { leg: Leg::Request } => {
            format!("{} vanish on their way out without an error (answers under way still come)", calls(target))
        }
        FaultKind::BlackHole { leg: Leg::Both } => format!("{} vanish without an error", calls(target)),
        FaultKind::Loss { probability, retransmit } => format!(
            "{} of the packets of {} are lost and sent again after {} and more",
            share(*probability),
            calls(target),
            duration(*retransmit)
        ),
        FaultKind::Bandwidth { bytes_per_s, request_bytes } => format!(
            "{} share a link of {} bytes per second ({} bytes each)",
            calls(target),
            number(*bytes_per_s),
            number(*request_bytes)
        ),
        FaultKind::TimeoutLowered { to } => format!("{} are given up after {}", calls(target), duration(*to)),
        FaultKind::AggressiveRetries { attempts, backoff } => {
            format!("{} are tried up to {attempts} times, {} apart", calls(target), duration(*backoff))
        }
        FaultKind::Errors { probability } => format!("{} of the requests to {target} fail at once", share(*probability)),
        FaultKind::Slow { factor } => format!("{target} takes {} times as long for its own work", number(*factor)),
        FaultKind::Crash { replicas, black_hole } => {
            let who = replicas.map_or_else(|| target.to_string(), |n| format!("{} of {target}", plural(u64::from(n), "replica")));
            let how = if *black_hole { "crashed silently: no connection is refused" } else { "crashed, to come back cold" };
            let is = if replicas.is_some_and(|n| n != 1) { "are" } else { "is" };
            format!("{who} {is} down ({how})")
        }
        FaultKind::Pause => format!("{target} stands still"),
        FaultKind::ReplicasLost { replicas } => format!("{target} is short of {}", plural(u64::from(*replicas), "replica")),
        FaultKind::QueueShrunk { to } => {
            format!("no more than {} may wait at a replica of {target}", plural(u64::from(*to), "request"))
        }
        FaultKind::Leak { growth } => {
            format!("{target} gets slower by {} of its own time every second until it is restarted", share(*growth))
        }
        FaultKind::Flush { share: 1.0 } => format!("{target} has lost all it held"),
        FaultKind::Flush { share: part } => format!("{target} has lost {} of what it held", share(*part)),
        FaultKind::HitRatioDrop { keep } => format!("{target} finds only {} of what it would have found", share(*keep)),
        FaultKind::WorkersLost { keep } => format!("{target} has {} of its workers", share(*keep)),
        FaultKind::Surge { factor } => format!("{} times the normal load comes in at {target}", number(*factor)),
        FaultKind::Delay { add, jitter } => format!("messages on {target} arrive {} later", amount(*add, *jitter)),
        FaultKind::Reorder { probability, within } => {
            format!(
                "{} of the messages on {target} are held back up to {}, so that later ones overtake them",
                share(*probability),
                duration(*within)
            )
        }
        FaultKind::Duplicate { probability } => format!("{} of the messages on {target} come twice", share(*probability)),
        FaultKind::MessageLoss { probability } => {
            format!("{} of the messages on {target} are accepted and never delivered", share(*probability))
        }
        FaultKind::ConsumerStall => format!("{target} delivers nothing"),
        FaultKind::SlowConsumer { factor } => {
            format!("the consumer of {target} takes {} times as long for each message", number(*factor))
        }
        FaultKind::Poison { probability } => {
            format!("{} of the messages on {target} fail however often they are delivered", share(*probability))
        }
        FaultKind::Reload { after, attempts } => {
            format!("users of {target} ask again after {}, up to {attempts} times in all", duration(*after))
        }
    };
    format!("{what} for {}{}", duration(fault.duration), ramps(fault))
}

/// `, rising over 5 s and falling over 2 s`.
fn ramps(fault: &Fault) -> String {
    match (fault.ramp_up.is_zero(), fault.ramp_down.is_zero()) {
        (true, true) => String::new(),
        (false, true) => format!(", rising over {}", duration(fault.ramp_up)),
        (true, false) => format!(", falling over {}", duration(fault.ramp_down)),
        (false, false) => format!(", rising over {} and falling over {}", duration(fault.ramp_up), duration(fault.ramp_down)),
    }
}

/// A distribution of times in words.
fn distributed(dist: &Dist) -> String {
    match dist {
        Dist::Constant(time) => duration(*time),
        Dist::Exponential(mean) => format!("{} on average (exponential)", duration(*mean)),
        Dist::Lognormal { p50, p99 } => format!("{} at the median ({} at p99)", duration(*p50), duration(*p99)),
        Dist::Quantiles(knots) => {
            let ends = (knots.first().map_or(Nanos::ZERO, |k| k.1), knots.last().map_or(Nanos::ZERO, |k| k.1));
            format!("{} to {} (as measured)", duration(ends.0), duration(ends.1))
        }
    }
}

/// `calls from a to b`, `all calls to b`.
fn calls(target: &Target) -> String {
    match target {
        Target::Edge(edge) if edge.from == "*" => format!("all calls to {}", edge.to),
        Target::Edge(edge) => format!("calls from {} to {}", edge.from, edge.to),
        Target::Node(name) => format!("calls to {name}"),
    }
}

/// A fixed time with its random part: `800 ms`, `100 to 300 ms`.
fn amount(add: Nanos, jitter: Nanos) -> String {
    if jitter.is_zero() { duration(add) } else { format!("{} to {}", duration(add), duration(add + jitter)) }
}

/// The faults of a row joined: `when A while B`.
pub fn faults(row: &Row) -> String {
    if row.faults.is_empty() {
        return "nothing is broken (a control)".to_string();
    }
    let mut text = row.faults.iter().map(|f| f.words.as_str()).collect::<Vec<_>>().join(", while ");
    if row.load != 1.0 {
        let _ = write!(text, ", at {} times the usual load", number(row.load));
    }
    text
}

/// The row in one or two plain sentences: what happens, and whether it ends.
pub fn what_happens(row: &Row) -> String {
    let harm = if row.severity.mean == 0.0 {
        "no user request is harmed".to_string()
    } else if row.cascade_risk.mean == 0.0 {
        format!(
            "{} of all user requests are harmed, every one directly: none that did not meet the fault",
            share(row.severity.mean)
        )
    } else {
        format!(
            "{} of all user requests are harmed although they never met the fault (they fail, or take more than twice the normal p99); \
             with those that did, {}",
            share(row.cascade_risk.mean),
            share(row.severity.mean)
        )
    };
    format!("When {}, {harm}. {}", faults(row), recovery(row))
}

/// How it ended, in a sentence.
pub fn recovery(row: &Row) -> String {
    let Recovery { median_s, recovered, watched_s, .. } = row.recovery;
    let runs = row.runs;
    match median_s {
        _ if row.severity.mean == 0.0 && row.breached.is_empty() => "Nothing left its normal band.".to_string(),
        Some(0.0) if recovered == runs => {
            "In at least half the runs, users were back to normal the moment the fault ended.".to_string()
        }
        Some(s) if recovered == runs => {
            format!("It recovered in every run, half of them within {} of the fault's end.", seconds(s))
        }
        Some(s) => format!(
            "It recovered in {recovered} of {runs} runs (half of all runs within {} of the fault's end); the others were still not back after {}.",
            seconds(s),
            seconds(watched_s)
        ),
        None if recovered == 0 => {
            format!(
                "It recovered in none of {runs} runs: {} after the fault had ended, users were still not served as before.",
                seconds(watched_s)
            )
        }
        None => format!("It recovered in only {recovered} of {runs} runs within {} of the fault's end.", seconds(watched_s)),
    }
}

/// A share as a percentage with two significant digits below 10 %.
pub fn share(value: f64) -> String {
    let percent = value * 100.0;
    let size = percent.abs();
    if size == 0.0 {
        "0 %".to_string()
    } else if size < 0.01 {
        "under 0.01 %".to_string()
    } else if size < 1.0 {
        format!("{} %", number((percent * 100.0).round() / 100.0))
    } else if size < 10.0 {
        format!("{} %", number((percent * 10.0).round() / 10.0))
    } else {
        format!("{} %", percent.round())
    }
}

/// A number with three significant digits, without trailing zeros, thousands separated.
pub fn number(value: f64) -> String {
    let size = value.abs();
    let digits = match size {
        s if s >= 100.0 => 0,
        s if s >= 10.0 => 1,
        s if s >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    if digits > 0 { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { thousands(&text) }
}

/// A count, thousands separated by commas.
pub fn count(value: u64) -> String {
    thousands(&value.to_string())
}

fn thousands(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let mut out = sign.to_string();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Milliseconds, in seconds from 10 s on.
pub fn millis(ms: f64) -> String {
    if ms >= 10_000.0 { seconds(ms / 1000.0) } else { format!("{} ms", number(ms)) }
}

/// Seconds; in milliseconds below one.
pub fn seconds(s: f64) -> String {
    if s > 0.0 && s < 1.0 { format!("{} ms", number(s * 1000.0)) } else { format!("{} s", number(s)) }
}

/// A duration with a space before its unit: `800 ms`.
pub fn duration(span: Nanos) -> String {
    let text = span.to_string();
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    format!("{} {}", &text[..unit], &text[unit..])
}

/// `a, b and c`, at most `most` of them by name.
pub fn list(names: &[String], most: usize) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        _ if names.len() > most => format!("{} and {} more", names[..most].join(", "), names.len() - most),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

/// `1 run`, `3 runs`.
pub fn plural(n: u64, word: &str) -> String {
    format!("{} {word}{}", count(n), if n == 1 { "" } else { "s" })
}

/// The first `most` characters, an ellipsis for the rest.
pub fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        text.to_string()
    } else {
        text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
    }
}

/// `text` without control characters and others that no file of ours can hold; names come from traces and may hold anything.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// `word` as one argument of a shell.
pub fn quoted(word: &str) -> String {
    let plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c));
    if plain { word.to_string() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// The command that plays a row's worst run again.
pub fn replay_command(row: &Row, folder: &str) -> String {
    format!("foreshock replay {} --in {}", quoted(&row.token), quoted(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_the_digits_that_matter() {
        let shares = [0.0, 0.000_01, 0.0042, 0.031_4, 0.314_4, 1.0].map(share);
        assert_eq!(shares, ["0 %", "under 0.01 %", "0.42 %", "3.1 %", "31 %", "100 %"]);
        let numbers = [0.0, 0.1234, 1.0, 2.345, 12.34, 1234.5, 1_234_567.0].map(number);
        assert_eq!(numbers, ["0", "0.123", "1", "2.35", "12.3", "1,234", "1,234,567"]);
        assert_eq!([0.0, 0.25, 12.34, 100.0].map(seconds), ["0 s", "250 ms", "12.3 s", "100 s"]);
        assert_eq!(duration(Nanos::from_millis(800)), "800 ms");
    }

    #[test]
    fn hostile_words_are_tamed() {
        assert_eq!(clean("a\u{0}b\u{1b}[31m\u{202e}c"), "a\u{fffd}b\u{fffd}[31m\u{fffd}c");
        assert_eq!(quoted("out/it"), "out/it");
        assert_eq!(quoted("my out; rm -rf 'x'"), r"'my out; rm -rf '\''x'\'''");
        assert_eq!(shorten("payment-gateway", 8), "payment…");
    }

    #[test]
    fn lists_name_a_few_and_count_the_rest() {
        let names: Vec<String> = ["a", "b", "c", "d"].map(String::from).to_vec();
        assert_eq!(list(&names, 4), "a, b, c and d");
        assert_eq!(list(&names, 2), "a, b and 2 more");
    }
}
