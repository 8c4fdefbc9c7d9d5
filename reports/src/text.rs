//! The summary that ends a run: top ten, what was learned, what was assumed, what to do next.
//!
//! You are here: `reports::text`. No colour, no width beyond what names ask for; the same words as `html`.

use crate::findings::Finding;
use crate::live::{Comparison, Pair, Side, Verdicts};
use crate::view::{Report, Row};
use crate::words::{self, clean, count, list, millis, number, plural, quoted, seconds, share, shorten};

/// Rows in the table.
const TOP: usize = 10;

/// The summary, ending in a line end.
pub fn summary(report: &Report) -> String {
    let mut text = String::new();
    let mut part = |body: String| {
        if !body.is_empty() {
            text.push_str(&body);
            text.push('\n');
        }
    };
    part(rehearsed(report) + "\n");
    part(table(report));
    part(worst(report));
    part(section("What else to know", &remarks(&report.findings, TOP)));
    part(report.live.as_ref().map_or_else(String::new, live));
    part(section("What was learned", &report.learned));
    part(section("What the ranking hangs on: choices of structure", &assumed(report, true)));
    part(section("What was only assumed: neither traces nor a person told", &assumed(report, false)));
    part(section("What to do next", &next(report)));
    clean_lines(text.trim_end()) + "\n"
}

/// Names come from traces: no control character of theirs may reach a terminal.
fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

fn section(title: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    lines.iter().fold(format!("{title}\n"), |text, line| text + "  - " + line + "\n")
}

/// What was rehearsed, in a paragraph.
pub fn rehearsed(report: &Report) -> String {
    let system = &report.system;
    let from = system.learned_from.map_or_else(
        || "a model written by hand".to_string(),
        |(traces, spans, s)| match traces {
            0 => "a model made from a graph summary, without traces".to_string(),
            _ => {
                format!("a model learned from {} ({}, {} of traffic)", plural(traces, "trace"), plural(spans, "span"), seconds(s))
            }
        },
    );
    let entries: Vec<String> =
        system.entries.iter().map(|(name, to, rate)| format!("{} requests/s from {name} into {to}", number(*rate))).collect();
    let topics = if system.topics == 0 { String::new() } else { format!(", {}", plural(u64::from(system.topics), "topic")) };
    let worlds = if report.worlds > 1 { format!(" in {} worlds", report.worlds) } else { String::new() };
    format!(
        "Rehearsed {} with {} each{worlds} ({}, {} user requests) on {from}: {}{topics}, {}; {}.",
        plural(report.rows.len() as u64, "scenario"),
        plural(u64::from(report.seeds), "seed"),
        plural(report.runs, "run"),
        count(report.requests),
        plural(u64::from(system.services), "service"),
        plural(u64::from(system.edges), "edge"),
        list(&entries, 4),
    )
}

fn table(report: &Report) -> String {
    if report.rows.is_empty() {
        return "No scenario has a finished run: there is nothing to rank.\n".to_string();
    }
    let head =
        ["#", "scenario", "cascade risk", "harmed", "cascade", "metastable", "recovery", "errors", "p99", "retries", "queue"];
    let rows: Vec<[String; 11]> = report.rows.iter().take(TOP).map(cells).collect();
    let under = "  (cascade risk: share of all user requests that are harmed although they never met the fault, with its 95 % interval;\n   \
                 harmed: with those that met it; cascade, metastable: share of runs; recovery: half of the runs are back by then; the rest are means of peaks)";
    let title = if rows.len() == report.rows.len() {
        "The ranking".to_string()
    } else {
        format!("The {} worst of {} scenarios", rows.len(), count(report.rows.len() as u64))
    };
    format!("{title}\n{}{under}\n", aligned(&head, &rows))
}

fn cells(row: &Row) -> [String; 11] {
    let risk = &row.cascade_risk;
    let recovery = row.recovery.median_s.map_or_else(|| format!("> {}", seconds(row.recovery.watched_s)), seconds);
    [
        row.rank.to_string(),
        shorten(&row.id, 44),
        format!("{} [{}..{}]", share(risk.mean), share(risk.low), share(risk.high)),
        share(row.severity.mean),
        share(row.p_cascade.estimate),
        share(row.p_metastable.estimate),
        recovery,
        share(row.error_rate.peak),
        millis(row.p99_ms.peak),
        format!("x{}", number(row.retry_amplification_peak)),
        number(row.queue_depth.peak),
    ]
}

/// Columns of equal width, the second aligned to the left, the others to the right.
fn aligned<const N: usize>(head: &[&str; N], rows: &[[String; N]]) -> String {
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).chain([head[i].chars().count()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().enumerate().map(|(i, cell)| {
            let gap = " ".repeat(widths[i].saturating_sub(cell.chars().count()));
            if i == 1 { format!("{cell}{gap}") } else { format!("{gap}{cell}") }
        });
        format!("  {}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().fold(line(head.to_vec()), |text, row| text + &line(row.iter().map(String::as_str).collect()))
}

fn worst(report: &Report) -> String {
    report
        .rows
        .first()
        .filter(|row| row.severity.mean > 0.0)
        .map_or_else(String::new, |row| format!("The worst: {}\n", words::what_happens(row)))
}

/// The findings as sentences; those about single scenarios grouped, at most `most` of each kind by name.
pub fn remarks(findings: &[Finding], most: usize) -> Vec<String> {
    let mut lines: Vec<String> = findings.iter().filter_map(alone).collect();
    let names = |pick: fn(&Finding) -> Option<&String>| findings.iter().filter_map(pick).cloned().collect::<Vec<String>>();
    let truncated: Vec<String> = findings
        .iter()
        .filter_map(|f| match f {
            Finding::Truncated { scenario, runs, of } => Some(format!("{scenario} ({runs} of {of})")),
            _ => None,
        })
        .collect();
    if !truncated.is_empty() {
        let named = list(&truncated, most);
        lines.push(format!(
            "Runs that used up their budget of events and ended early, so that their numbers cover less time: {named}."
        ));
    }
    let metastable: Vec<String> = findings
        .iter()
        .filter_map(|f| match f {
            Finding::Metastable { scenario, probability, retry_amplification_mean, wasted, .. } => Some(format!(
                "{scenario} ({} of {} runs; {} attempts per call, {} wasted)",
                probability.count,
                probability.of,
                number(*retry_amplification_mean),
                plural(wasted.round() as u64, "request")
            )),
            _ => None,
        })
        .collect();
    if !metastable.is_empty() {
        lines.push(format!(
            "No return by itself although the fault was gone: {}. Retries and work for callers who left can keep such a state alive: \
             try a retry budget, shorter queues, or stopping work when the caller leaves.",
            list(&metastable, most.min(5))
        ));
    }
    let censored = names(|f| if let Finding::CensoredRecovery { scenario, .. } = f { Some(scenario) } else { None });
    if !censored.is_empty() {
        lines.push(format!(
            "Too few runs recovered to give a median time: {}. A longer horizon would tell slow from never.",
            list(&censored, most)
        ));
    }
    let undecided: Vec<&Finding> =
        findings.iter().filter(|f| matches!(f, Finding::RankUndecided { rank, .. } if *rank as usize <= most)).collect();
    if let Some(line) = undecided_ranks(&undecided) {
        lines.push(line);
    }
    let nothing = names(|f| if let Finding::NoFaultReachedAnything { scenario, .. } = f { Some(scenario) } else { None });
    if !nothing.is_empty() {
        lines.push(format!("Harmed no request and breached nothing in any run: {}.", list(&nothing, most)));
    }
    lines
}

/// The sentence of a finding that is not grouped with others of its kind.
fn alone(finding: &Finding) -> Option<String> {
    match finding {
        Finding::ControlDiffers { scenario, harmed } => Some(format!(
            "The control {scenario} differs from its own twin ({} harmed without any fault): that is an engine's mistake, trust no number here.",
            plural(*harmed, "request")
        )),
        Finding::NotRun { scenarios } => Some(format!("Without a finished run, so not ranked: {}.", list(scenarios, 10))),
        Finding::UnknownScenarios { scenarios, records } => Some(format!(
            "Left out: {} of scenarios that are not in the list ({}).",
            plural(*records, "record"),
            list(scenarios, 10)
        )),
        _ => None,
    }
}

/// Which neighbours cannot be told apart, and how many runs would do.
fn undecided_ranks(undecided: &[&Finding]) -> Option<String> {
    let mut pairs = Vec::new();
    let (mut now, mut wanted) = (0, 0);
    for finding in undecided {
        if let Finding::RankUndecided { rank, runs, runs_wanted, .. } = finding {
            let more = runs_wanted
                .map_or_else(|| "more runs would hardly tell".to_string(), |n| format!("about {} runs each", count(n)));
            pairs.push(format!("{} and {} ({more})", rank, rank + 1));
            (now, wanted) = (now.max(*runs), wanted.max(runs_wanted.unwrap_or(0)));
        }
    }
    (!pairs.is_empty())
        .then(|| format!("With {now} runs each, these neighbours in the ranking cannot be told apart: {}.", list(&pairs, 10)))
}

fn assumed(report: &Report, structural: bool) -> Vec<String> {
    report
        .assumed
        .iter()
        .filter(|a| a.structural == structural)
        .map(|a| {
            let matters = if a.matters.is_empty() { String::new() } else { format!(" ({})", a.matters) };
            format!("{}: {}{matters}", a.what, list(&a.places, 6))
        })
        .collect()
}

/// Commands that go on from here.
pub fn next(report: &Report) -> Vec<String> {
    let folder = &report.folder;
    let mut lines =
        vec![format!("read {}: the same with plots, for people who were not there", quoted(&format!("{folder}/report.html")))];
    if let Some(row) = report.rows.first().filter(|row| row.severity.mean > 0.0) {
        lines.push(format!("play the worst run again: {}", words::replay_command(row, folder)));
    }
    if report.assumed.iter().any(|a| !a.structural) {
        lines.push("write what you know of the assumed numbers into known.yaml (same form as model.yaml) and run again with --with known.yaml".to_string());
    }
    let wanted = report.findings.iter().filter_map(|f| match f {
        Finding::RankUndecided { rank, runs_wanted: Some(n), .. } if *rank as usize <= TOP => Some(*n),
        _ => None,
    });
    if let Some(seeds) = wanted.max() {
        let (model, scenarios) = (quoted(&format!("{folder}/model.yaml")), quoted(&format!("{folder}/scenarios.yaml")));
        let (seeds, more) = (seeds.min(1000), quoted(&format!("{folder}-more")));
        lines.push(format!("settle the undecided ranks: foreshock sweep {model} {scenarios} --seeds {seeds} -o {more}"));
    }
    lines
}

fn live(live: &Comparison) -> String {
    let head = ["#", "scenario", "excess failed", "p99", "retries", "queue", "recovery", "cascade", "metastable", "overlap"];
    let both = |f: &dyn Fn(&Side) -> String, pair: &Pair| format!("{} | {}", f(&pair.predicted), f(&pair.live));
    let rows: Vec<[String; 10]> = (1..)
        .zip(&live.pairs)
        .map(|(i, pair)| {
            [
                i.to_string(),
                shorten(&pair.id, 44),
                both(&|s| share(s.excess_failed_fraction), pair),
                both(&|s| millis(s.p99_ms), pair),
                both(&|s| number(s.retry_amplification), pair),
                both(&|s| number(s.max_queue_depth), pair),
                both(&Side::recovery, pair),
                both(&|s| share(s.cascaded), pair),
                both(&|s| share(s.metastable), pair),
                number(pair.overlap),
            ]
        })
        .collect();
    let judged = live_verdict(live).join("\n  - ");
    format!("Beside what really happened (predicted | live)\n{}  - {judged}\n", aligned(&head, &rows))
}

/// How good the predictions were, as sentences.
pub fn live_verdict(live: &Comparison) -> Vec<String> {
    let verdict = |what: &str, v: &Verdicts| {
        format!(
            "{what}: right in {} of {} (predicted and seen {}, missed {}, false alarms {})",
            v.right(),
            v.all(),
            v.hits,
            v.misses,
            v.false_alarms
        )
    };
    let correlation =
        live.rank_correlation.map_or_else(|| "not defined (fewer than three scenarios, or all equal)".to_string(), number);
    let mut lines = vec![
        format!(
            "rank correlation of the excess failed share (Spearman, {}): {correlation}",
            plural(live.pairs.len() as u64, "scenario")
        ),
        verdict("cascade", &live.cascade),
        verdict("metastable", &live.metastable),
        format!(
            "breached services and topics: the two sets overlap by {} on average (Jaccard index)",
            number(live.breached_overlap)
        ),
    ];
    if !live.only_live.is_empty() {
        lines.push(format!("live, but not rehearsed: {}", list(&live.only_live, 10)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnalyseInput, LiveOutcomes, analyse, testing};
    use expect_test::expect;
    use models::system::Learned;

    #[test]
    fn the_summary_tells_the_ranking_and_what_it_hangs_on() {
        let (mut model, scenarios, records) = testing::rehearsal();
        let notes = vec!["payment\u{1b}[31m is seen in 3 traces only".to_string()];
        model.learned = Some(Learned { traces: 8412, spans: 81_230, seconds: 120.0, notes, backcast: None });
        let live = br#"{"scenarios": [{"id": "stock-slow", "runs": [{"excess_failed_fraction": 0.2, "cascaded": true, "breached": ["web"]}]}]}"#;
        let live = LiveOutcomes::parse("live.json", live).expect("it is well formed");
        let input = AnalyseInput {
            model: &model,
            scenarios: &scenarios,
            records: &records,
            notes: &[],
            compare_live: Some(&live),
            folder: "my out",
        };
        expect![[r#"
            Rehearsed 4 scenarios with 10 seeds each (40 runs, 40,000 user requests) on a model learned from 8,412 traces (81,230 spans, 120 s of traffic): 4 services, 1 topic, 5 edges; 100 requests/s from users into web.

            The ranking
              #  scenario           cascade risk  harmed  cascade  metastable  recovery  errors       p99  retries  queue
              1  stock-slow    26 % [23 %..28 %]    36 %     80 %        20 %       8 s    50 %  1,500 ms     x2.5     50
              2  stock-errors     0 % [0 %..0 %]   4.6 %      0 %         0 %    500 ms     0 %      0 ms       x1      0
              3  control          0 % [0 %..0 %]     0 %      0 %         0 %       0 s     0 %      0 ms       x1      0
              4  mails-stall      0 % [0 %..0 %]     0 %      0 %         0 %       0 s     0 %      0 ms       x1      0
              (cascade risk: share of all user requests that are harmed although they never met the fault, with its 95 % interval;
               harmed: with those that met it; cascade, metastable: share of runs; recovery: half of the runs are back by then; the rest are means of peaks)

            The worst: When calls from orders to stock take 800 ms longer for 20 s, 26 % of all user requests are harmed although they never met the fault (they fail, or take more than twice the normal p99); with those that did, 36 %. It recovered in 8 of 10 runs (half of all runs within 8 s of the fault's end); the others were still not back after 70 s.

            What else to know
              - No return by itself although the fault was gone: stock-slow (2 of 10 runs; 1.4 attempts per call, 500 requests wasted). Retries and work for callers who left can keep such a state alive: try a retry budget, shorter queues, or stopping work when the caller leaves.
              - Harmed no request and breached nothing in any run: mails-stall.

            Beside what really happened (predicted | live)
              #  scenario    excess failed          p99  retries  queue     recovery      cascade  metastable  overlap
              1  stock-slow     0 % | 20 %  0 ms | 0 ms    0 | 0  0 | 0  none | none  0 % | 100 %   0 % | 0 %        0
              - rank correlation of the excess failed share (Spearman, 1 scenario): not defined (fewer than three scenarios, or all equal)
              - cascade: right in 0 of 1 (predicted and seen 0, missed 1, false alarms 0)
              - metastable: right in 1 of 1 (predicted and seen 0, missed 0, false alarms 0)
              - breached services and topics: the two sets overlap by 0 on average (Jaccard index)

            What was learned
              - payment�[31m is seen in 3 traces only

            What the ranking hangs on: choices of structure
              - users come whatever the answers are (open loop): users (users who wait for their answers bring less load when those are slow)
              - a full queue refuses at once: web, orders and stock (callers learn of it early; if it really drops silently, they wait for their timeout)
              - work goes on after its caller has left: all 4 services (wasted work can keep an overload alive; if it really stops, recovery is faster)
              - whoever waits gets a worker in the end, however late: all 4 services (shedding (shed_expired, codel, adaptive_limit) would clear a backlog whose callers have left)
              - the number of replicas is fixed: all 4 services (an autoscaler would add some, after a while)
              - queue without bound: nothing is ever refused: mailer (an outage can leave a backlog that outlives it)
              - no timeout known: the caller waits for ever: users->web (a slow callee holds its callers up)
              - calls in progress without bound (no pool, no bulkhead): web->orders and orders->stock (one slow callee can take all of its caller)
              - a full topic refuses its publishers at once: mails (if it really blocks them, they are held up)
              - messages may come in any order, and twice: mails (if that is wrong (order_sensitive, idempotent), harm is done that no error rate shows)

            What to do next
              - read 'my out/report.html': the same with plots, for people who were not there
              - play the worst run again: foreshock replay fs1-stock-slow-10 --in 'my out'
        "#]].assert_eq(&summary(&analyse(&input)));
    }
}
