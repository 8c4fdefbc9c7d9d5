//! `inspect`: what a model holds, or what traces say, as tables.
//!
//! You are here: `commands::inspect`. Traces are learned first, so both show the same tables.
//! Not here: the analyser's scores (`scenarios::analyse`), the wording of what is assumed (`reports`).

use std::fmt::Write as _;

use models::param::{Limit, Param, Source};
use models::system::{Edge, Entry, Mode, Model, Observed};
use reports::assumed::assumptions;
use reports::html::{self, Part};
use reports::svg;
use scenarios::analyse::{Analysis, Boundary, NodeEvidence, analyse};
use serde_json::{Map, Value, json};

use crate::args::Inspect;
use crate::commands::doubt::{Doubt, doubts};
use crate::commands::{backcast, learn};
use crate::exit::Failure;
use crate::show::{self, Table, plain};
use crate::{inputs, output};

/// Hot spots and assumptions that the tables show; `--json` has all.
const SHOWN: usize = 12;

/// Prints the tables, or the same as JSON.
pub fn act(args: &Inspect) -> Result<(), Failure> {
    let model = match args.inputs.as_slice() {
        [path] if inputs::looks_like_a_model(path) => inputs::model(path)?,
        paths => {
            let mut input = inputs::traces(paths, &args.reading)?;
            learn::say_what_was_read(&input);
            learn::lesson(&mut input, &args.reading)?.model
        }
    };
    let analysis = analyse(&model);
    let doubts = doubts(&model, &analysis)?;
    if let Some(path) = &args.svg {
        output::write_file(path, |out| out.write_all(svg::bare_graph(&model).as_bytes()))?;
    }
    if let Some(path) = &args.html {
        output::write_file(path, |out| out.write_all(page(&model, &analysis, &doubts).as_bytes()))?;
    }
    if args.json { show::json(&as_json(&model, &analysis, &doubts)) } else { show::text(&as_text(&model, &analysis, &doubts)) }
}

/// All of it as one page.
fn page(model: &Model, analysis: &Analysis, doubts: &[Doubt]) -> String {
    let caption = "Boxes: who answers, how often, and how. Colours: how worrying the worst call into it is; the table of hot spots says why.";
    let mut sections = vec![("Overview".to_owned(), vec![Part::Figure(svg::bare_graph(model), caption.to_owned())])];
    let mut add = |title: &str, parts: Vec<Part>| sections.push((title.to_owned(), parts));
    add("Hot spots", vec![hot_spots(analysis).into_part()]);
    let notes: Vec<String> = model.learned.iter().flat_map(|learned| learned.notes.clone()).collect();
    if !notes.is_empty() {
        add("Worth knowing", vec![Part::Items(notes)]);
    }
    if let Some(backcast) = model.learned.as_ref().and_then(|learned| learned.backcast.as_ref()) {
        let [lead, foot] = backcast::words(backcast);
        add("Backcast", vec![Part::Words(lead), backcast::table(backcast).into_part(), Part::Words(foot)]);
    }
    if let Some((first, others)) = doubts.split_first() {
        let others = others.iter().take(SHOWN).map(Doubt::words).collect();
        add("The measurement that would remove most doubt", vec![Part::Words(first.words()), Part::Items(others)]);
    }
    add("Services, as they answered", vec![services(model, analysis).into_part()]);
    if !model.topics.is_empty() {
        add("Topics, publish to acknowledgement", vec![topics(model, analysis).into_part()]);
    }
    if !model.edges.is_empty() {
        add("Calls, as the caller saw them", vec![edges(model).into_part()]);
    }
    let assumed = assumptions(model).iter().map(|a| format!("{} ({})", a.what, places(&a.places))).collect();
    add("Nobody measured or wrote down", vec![Part::Items(assumed)]);
    let lead: Vec<String> = head(model).lines().map(|line| line.trim().to_owned()).collect();
    html::inspection("What the system looks like", &lead.join("; "), &sections)
}

fn as_text(model: &Model, analysis: &Analysis, doubts: &[Doubt]) -> String {
    let mut text = head(model);
    let _ = write!(
        text,
        "\nServices, as they answered (~ inferred, ? assumed, * follows from the model, without queueing)\n{}",
        services(model, analysis)
    );
    if !model.topics.is_empty() {
        let _ = write!(text, "\nTopics, publish to acknowledgement\n{}", topics(model, analysis));
    }
    if !model.edges.is_empty() {
        let _ = write!(text, "\nCalls, as the caller saw them\n{}", edges(model));
    }
    let _ = write!(text, "\nHot spots\n{}", hot_spots(analysis));
    let notes: Vec<&String> = model.learned.iter().flat_map(|learned| &learned.notes).collect();
    if !notes.is_empty() {
        text += "\nWorth knowing\n";
        notes.iter().for_each(|note| text += &format!("  - {}\n", plain(note)));
    }
    if let Some(backcast) = model.learned.as_ref().and_then(|learned| learned.backcast.as_ref()) {
        let _ = write!(text, "\n{}", backcast::as_text(backcast));
    }
    let assumed = assumptions(model);
    if !assumed.is_empty() {
        text += "\nNobody measured or wrote down\n";
        for assumption in assumed.iter().take(SHOWN) {
            text += &format!("  - {} ({})\n", plain(&assumption.what), plain(&places(&assumption.places)));
        }
        if assumed.len() > SHOWN {
            text += &format!("  and {} more; --json has all\n", assumed.len() - SHOWN);
        }
    }
    if let Some((first, others)) = doubts.split_first() {
        text += &format!("\nThe one measurement that would remove most doubt\n  {}\n", plain(&first.words()));
        if !others.is_empty() {
            let others: Vec<String> = others.iter().take(3).map(|doubt| doubt.what.clone()).collect();
            text += &format!("  then {}\n", plain(&others.join(", ")));
        }
    } else if !assumed.is_empty() {
        text += "  No single one of these numbers, at either end of its range, changes what users see at twice the load or with the busiest\n  \
                 service three times as slow.\n";
    }
    text
}

fn head(model: &Model) -> String {
    let learned = model.learned.as_ref().map_or_else(
        || "written by hand".to_owned(),
        |l| match l.traces {
            0 => "made from a graph summary, without traces".to_owned(),
            _ => format!("learned from {} traces ({} spans, {:.0} s)", l.traces, l.spans, l.seconds),
        },
    );
    let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let mut text = format!("{}, {}; {learned}\n", plural(model.services.len(), "service"), plural(model.topics.len(), "topic"));
    for (name, entry) in &model.workload {
        text += &format!("  {} come in at {}: {}\n", plain(name), plain(&entry.to.to_string()), how_many(entry));
    }
    text
}

/// `80 requests/s, 1000 at the peak`, or `100 users in a closed loop, at most 50 requests/s`.
fn how_many(entry: &Entry) -> String {
    let (rate, peak) = (short(entry.rate.value), short(entry.peak_per_s()));
    match &entry.closed {
        Some(closed) => format!("{} users in a closed loop, at most {rate} requests/s", closed.users.value),
        None if peak != rate => format!("{rate} requests/s, {peak} at the peak"),
        None => format!("{rate} requests/s"),
    }
}

fn services(model: &Model, analysis: &Analysis) -> Table {
    let head = ["service", "", ">replicas", ">workers", ">queue", ">calls/s", ">errors", ">mean ms", ">p50 ms", ">p99 ms"];
    let mut table = Table::new(&head);
    for (name, service) in &model.services {
        let mode = if service.mode == Mode::Async { "async" } else { "blocking" };
        let kind = if service.cache.is_some() { "cache" } else { mode };
        let mut row =
            vec![name.clone(), kind.to_owned(), count(&service.replicas), limit(&service.workers), limit(&service.queue)];
        row.extend(numbers(service.observed.as_ref(), analysis.node(name)));
        table.row(row);
    }
    table
}

fn topics(model: &Model, analysis: &Analysis) -> Table {
    let mut table =
        Table::new(&["topic", "consumer", ">at once", ">bound", ">messages/s", ">errors", ">mean ms", ">p50 ms", ">p99 ms"]);
    for (name, topic) in &model.topics {
        let mut row = vec![name.clone(), topic.consumer.to_string(), count(&topic.concurrency), limit(&topic.capacity)];
        row.extend(numbers(topic.observed.as_ref(), analysis.node(name)));
        table.row(row);
    }
    table
}

fn edges(model: &Model) -> Table {
    let head =
        ["call", ">per request", ">calls", ">attempts", ">failed", ">timed out", ">p50 ms", ">p99 ms", ">timeout", ">tries"];
    let mut table = Table::new(&head);
    for (name, edge) in &model.edges {
        let mut row = vec![name.to_string()];
        match &edge.observed {
            Some(seen) => row.extend([
                short(seen.per_parent),
                seen.calls.to_string(),
                seen.attempts.to_string(),
                seen.errors.to_string(),
                seen.timeouts.to_string(),
                short(seen.p50_ms),
                short(seen.p99_ms),
            ]),
            None => row.extend(std::iter::repeat_n("-".to_owned(), 7)),
        }
        row.extend([timeout(edge), edge.retry.as_ref().map_or("1".to_owned(), |retry| count(&retry.attempts))]);
        table.row(row);
    }
    table
}

/// The boundaries that the analyser worries about most, with the evidence.
fn hot_spots(analysis: &Analysis) -> Table {
    let head = ["boundary", ">score", ">calls/s", ">errors", ">p99/p50", ">downstream", ">tries", ">callee busy", "why"];
    let mut table = Table::new(&head);
    for boundary in analysis.boundaries.iter().take(SHOWN) {
        let busy = analysis.node(&boundary.edge.to).and_then(|node| node.utilisation);
        table.row(vec![
            boundary.edge.to_string(),
            format!("{:.2}", boundary.score),
            short(boundary.calls_per_s),
            percent(boundary.error_rate),
            short(boundary.tail()),
            boundary.downstream.to_string(),
            boundary.tries_from_entry.to_string(),
            busy.map_or("-".to_owned(), percent),
            reasons(boundary, busy),
        ]);
    }
    table
}

/// What stands out about a boundary, in words.
fn reasons(boundary: &Boundary, busy: Option<f64>) -> String {
    let mut reasons = Vec::new();
    if boundary.error_rate >= 0.01 || boundary.error_anomaly > 3.5 {
        reasons.push("fails more than others".to_owned());
    }
    if boundary.tail_anomaly > 3.5 {
        reasons.push("long tail".to_owned());
    }
    if boundary.timeout.is_none() && boundary.waits {
        reasons.push("no timeout".to_owned());
    }
    if boundary.layers.len() > 1 {
        reasons.push(format!("retries multiply over {} layers", boundary.layers.len()));
    }
    if busy.is_some_and(|busy| busy > 0.7) {
        reasons.push("callee near its limit".to_owned());
    }
    if boundary.stuck_share.is_finite() && boundary.stuck_share >= 1.0 {
        reasons.push("timeouts can hold every worker of the caller".to_owned());
    }
    reasons.join(", ")
}

fn as_json(model: &Model, analysis: &Analysis, doubts: &[Doubt]) -> Value {
    let learned = model.learned.as_ref();
    json!({
        "learned": learned.map(|l| json!({ "traces": l.traces, "spans": l.spans, "seconds": l.seconds })),
        "entries": model.workload.iter().map(|(name, e)| (name.clone(), entry_json(e))).collect::<Map<_, _>>(),
        "nodes": analysis.nodes.iter().map(|node| (node.name.clone(), node_json(node, model))).collect::<Map<_, _>>(),
        "boundaries": analysis.boundaries.iter().map(|b| (b.edge.to_string(), boundary_json(b, model))).collect::<Map<_, _>>(),
        "doubts": doubts,
        "backcast": learned.and_then(|l| l.backcast.as_ref()).map(backcast::as_json),
        "notes": learned.map(|l| l.notes.clone()).unwrap_or_default(),
        "assumptions": assumptions(model).iter().map(|a| json!({ "what": a.what, "matters": a.matters, "places": a.places })).collect::<Vec<_>>(),
    })
}

fn entry_json(entry: &Entry) -> Value {
    json!({
        "to": entry.to.to_string(),
        "per_s": entry.rate.value,
        "peak_per_s": entry.peak_per_s(),
        "users": entry.closed.as_ref().map(|closed| closed.users.value),
    })
}

fn node_json(node: &NodeEvidence, model: &Model) -> Value {
    let service = model.services.get(&node.name);
    let observed = service.and_then(|s| s.observed.as_ref()).or(model.topics.get(&node.name).and_then(|t| t.observed.as_ref()));
    json!({
        "kind": format!("{:?}", node.kind).to_lowercase(),
        "calls": observed.map(|o| o.calls),
        "per_s": node.per_s,
        "error_rate": node.error_rate,
        "mean_ms": observed.map(|o| o.mean_ms),
        "p50_ms": node.p50_ms,
        "p99_ms": node.p99_ms,
        "measured": node.measured,
        "utilisation": node.utilisation,
        "downstream": node.downstream,
        "dominates": node.dominates,
    })
}

fn boundary_json(boundary: &Boundary, model: &Model) -> Value {
    let observed = model.edges.get(&boundary.edge).and_then(|edge| edge.observed.as_ref());
    json!({
        "score": boundary.score,
        "per_parent": boundary.per_parent,
        "calls_per_s": boundary.calls_per_s,
        "calls": observed.map(|o| o.calls),
        "attempts": observed.map(|o| o.attempts),
        "errors": observed.map(|o| o.errors),
        "timeouts": observed.map(|o| o.timeouts),
        "asynchronous": observed.map(|o| o.asynchronous),
        "error_rate": boundary.error_rate,
        "error_anomaly": boundary.error_anomaly,
        "p50_ms": boundary.p50_ms,
        "p99_ms": boundary.p99_ms,
        "tail_anomaly": boundary.tail_anomaly,
        "measured": boundary.measured,
        "downstream": boundary.downstream,
        "timeout_ms": boundary.timeout.map(|timeout| timeout.as_millis_f64()),
        "tries": boundary.tries,
        "tries_from_entry": boundary.tries_from_entry,
        "on_failure": boundary.on_failure,
    })
}

/// Calls per second, error rate, mean, median and p99: as seen in traces, else by arithmetic (marked *).
fn numbers(observed: Option<&Observed>, node: Option<&NodeEvidence>) -> Vec<String> {
    match (observed, node) {
        (Some(o), _) => vec![short(o.per_s), percent(o.error_rate), short(o.mean_ms), short(o.p50_ms), short(o.p99_ms)],
        (None, Some(n)) => {
            let starred = |text: String| format!("*{text}");
            vec![
                starred(short(n.per_s)),
                starred(percent(n.error_rate)),
                "-".to_owned(),
                starred(short(n.p50_ms)),
                starred(short(n.p99_ms)),
            ]
        }
        (None, None) => vec!["-".to_owned(); 5],
    }
}

fn timeout(edge: &Edge) -> String {
    edge.timeout.as_ref().map_or("none".to_owned(), |timeout| mark(timeout, timeout.value.to_string()))
}

fn count(param: &Param<u32>) -> String {
    mark(param, param.value.to_string())
}

fn limit(param: &Param<Limit>) -> String {
    match param.value {
        Limit::Of(n) => mark(param, n.to_string()),
        Limit::Unlimited => mark(param, "no bound".to_owned()),
    }
}

/// A number with the sign of its source, if it is not certain.
fn mark<T>(param: &Param<T>, text: String) -> String {
    match param.source {
        Source::Observed | Source::Declared => text,
        Source::Inferred => format!("~{text}"),
        Source::Assumed => format!("?{text}"),
    }
}

fn percent(share: f64) -> String {
    if share == 0.0 { "0 %".to_owned() } else { format!("{} %", short(share * 100.0)) }
}

/// Three significant digits, or as many as the whole part has.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn places(places: &[String]) -> String {
    let shown = places.iter().take(6).map(String::as_str).collect::<Vec<_>>().join(", ");
    if places.len() > 6 { format!("{shown} and {} more", places.len() - 6) } else { shown }
}

#[cfg(test)]
mod tests {
    use models::dist::{Dist, Work};
    use models::system::{Bursts, ClosedLoop, OpRef};
    use models::units::Nanos;

    use super::*;

    #[test]
    fn numbers_keep_three_digits_and_their_source() {
        assert_eq!([0.0, 0.0123, 4.567, 23.45, 1234.5].map(short), ["0", "0.012", "4.57", "23.4", "1234"]);
        assert_eq!(count(&Param::assumed(8, [1, 64])), "?8");
        assert_eq!(limit(&Param::inferred(Limit::Unlimited, [Limit::Of(1), Limit::Unlimited])), "~no bound");
        assert_eq!(percent(0.0254), "2.54 %");
    }

    #[test]
    fn an_entry_says_how_many_come_and_how_many_at_most() {
        let to = || OpRef::new("s", "op");
        let open = Entry::open(to(), Param::declared(80.0), 0);
        let bursts = Bursts {
            every: Param::declared(Nanos::from_secs(10)),
            lasting: Param::declared(Nanos::from_secs(1)),
            factor: Param::declared(5.0),
        };
        let think = Work::declared(Dist::Exponential(Nanos::from_secs(2)));
        let closed = Entry::closed(to(), ClosedLoop { users: Param::declared(100), think }, 0);
        assert_eq!(how_many(&open), "80.0 requests/s");
        assert_eq!(how_many(&Entry { bursts: Some(bursts), ..open }), "80.0 requests/s, 400 at the peak");
        assert_eq!(how_many(&closed), "100 users in a closed loop, at most 50.0 requests/s");
    }
}
