//! `report.html`: one page that needs no network and no script.
//!
//! You are here: `reports::html`. It shows a [`Report`] and the plots made by `svg`; sentences come from `words` and `text`, so that
//! the page and the terminal say the same. Read it from the top: what was done, what is worst, then everything else.
//! Always true: whatever comes from traces or files is escaped; the page follows the reader's light or dark screen.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::findings::Finding;
use crate::live::{Comparison, Side};
use crate::stats::Proportion;
use crate::text;
use crate::view::{Against, Report, Row};
use crate::words::{self, clean, list, millis, number, plural, seconds, share};

/// Appends a paragraph or other line; writing into a string does not fail.
macro_rules! put {
    ($out:expr, $($piece:tt)*) => { { let _ = writeln!($out, $($piece)*); } };
}

/// Scenarios told one by one.
const TOLD: usize = 10;

/// The plots of a page, each an SVG.
#[derive(Clone, Debug, Default)]
pub struct Plots {
    /// The ranking.
    pub ranking: String,
    /// The interaction graph.
    pub graph: String,
    /// Timelines by scenario id.
    pub timelines: BTreeMap<String, String>,
}

/// The whole page.
pub fn page(report: &Report, plots: &Plots) -> String {
    let mut body = String::new();
    head(&mut body, report);
    section(&mut body, "overview", "Overview", |out| {
        figure(
            out,
            &plots.ranking,
            "Cascade risk of each scenario. A scenario high up with a long whisker wants more runs.",
            false,
        );
        figure(
            out,
            &plots.graph,
            "Boxes: \"causes\" is the highest cascade risk among the scenarios that strike this node; \"suffers\" is how often it left its normal \
             band when something else was struck.",
            true,
        );
    });
    section(&mut body, "worst", "The worst, one by one", |out| {
        let told = report.rows.iter().filter(|row| is_told(row));
        let before = out.len();
        told.for_each(|row| risk(out, row, plots, &report.folder));
        if out.len() == before {
            out.push_str("<p>No scenario harmed a user request.</p>\n");
        }
    });
    section(&mut body, "ranking", "The whole ranking", |out| ranking(out, &report.rows));
    items(&mut body, "doubts", "What else to know", &text::remarks(&report.findings, 20));
    if let Some(live) = &report.live {
        section(&mut body, "live", "Beside what really happened", |out| beside(out, live));
    }
    items(&mut body, "learned", "What was learned", &report.learned);
    section(&mut body, "assumed", "What the ranking hangs on", |out| assumed(out, report));
    items(&mut body, "next", "What to do next", &text::next(report));
    section(&mut body, "method", "How to read the numbers", |out| out.push_str(METHOD));
    let title =
        format!("Failure rehearsal: {}", report.system.entries.iter().map(|e| clean(&e.1)).collect::<Vec<_>>().join(", "));
    whole(&title, &body)
}

/// A part of a page about a model.
#[derive(Clone, Debug)]
pub enum Part {
    /// A plot and its caption.
    Figure(String, String),
    /// A head and rows; the first cells of columns that are text are aligned to the left.
    Table {
        /// Column titles.
        head: Vec<String>,
        /// Which columns are numbers.
        right: Vec<bool>,
        /// Cells.
        rows: Vec<Vec<String>>,
    },
    /// Sentences.
    Items(Vec<String>),
    /// One paragraph.
    Words(String),
}

/// A page about a model that has not been rehearsed yet: a title, a lead, and sections of parts.
pub fn inspection(title: &str, lead: &str, sections: &[(String, Vec<Part>)]) -> String {
    let mut body = String::new();
    put!(body, "<header>\n<h1>{}</h1>\n<p class=\"lead\">{}</p>", escape(title), escape(lead));
    let links = sections.iter().enumerate().map(|(i, (name, _))| format!("<a href=\"#part-{i}\">{}</a>", escape(name)));
    put!(body, "<nav>{}</nav>\n</header>", links.collect::<Vec<_>>().join(" "));
    for (i, (name, parts)) in sections.iter().enumerate() {
        section(&mut body, &format!("part-{i}"), &escape(name), |out| parts.iter().for_each(|p| part(out, p)));
    }
    whole(title, &body)
}

fn part(out: &mut String, part: &Part) {
    match part {
        Part::Figure(svg, caption) => figure(out, svg, caption, true),
        Part::Words(words) => put!(out, "<p>{}</p>", escape(words)),
        Part::Items(lines) => {
            out.push_str("<ul>\n");
            lines.iter().for_each(|line| put!(out, "<li>{}</li>", escape(line)));
            out.push_str("</ul>\n");
        }
        Part::Table { head, right, rows } => {
            let class = |column: usize| if right.get(column) == Some(&true) { "" } else { " class=\"l\"" };
            let cells = |tag: &str, row: &[String]| -> String {
                row.iter().enumerate().map(|(i, cell)| format!("<{tag}{}>{}</{tag}>", class(i), escape(cell))).collect()
            };
            put!(out, "<div class=\"scroll\"><table class=\"dense\"><tr>{}</tr>", cells("th", head));
            rows.iter().for_each(|row| put!(out, "<tr>{}</tr>", cells("td", row)));
            put!(out, "</table></div>");
        }
    }
}

/// A page around its body.
fn whole(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        escape(title),
        include_str!("page.css")
    )
}

/// Whether a row has a place of its own on the page: among the worst, and something happened.
fn is_told(row: &Row) -> bool {
    row.rank as usize <= TOLD && (row.severity.mean > 0.0 || !row.breached.is_empty())
}

/// `text` with everything that HTML gives a meaning escaped.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

fn section(out: &mut String, id: &str, title: &str, fill: impl FnOnce(&mut String)) {
    put!(out, "<section id=\"{id}\">\n<h2>{title}</h2>");
    fill(out);
    out.push_str("</section>\n");
}

fn items(out: &mut String, id: &str, title: &str, lines: &[String]) {
    if !lines.is_empty() {
        section(out, id, title, |out| {
            out.push_str("<ul>\n");
            lines.iter().for_each(|line| put!(out, "<li>{}</li>", escape(line)));
            out.push_str("</ul>\n");
        });
    }
}

/// A plot with its caption. A wide one may shrink to four fifths of its size to fit the page, then it scrolls.
fn figure(out: &mut String, svg: &str, caption: &str, wide: bool) {
    if svg.is_empty() {
        return;
    }
    let width: Option<u32> = svg.strip_prefix("<svg width=\"").and_then(|rest| rest.split('"').next()?.parse().ok());
    let style = width.filter(|_| wide).map_or_else(String::new, |w| format!(" style=\"--least:{}px\"", w * 4 / 5));
    let class = if wide { " class=\"scroll wide\"" } else { "" };
    put!(
        out,
        "<figure{class}{style} role=\"img\" aria-label=\"{0}\">\n{svg}<figcaption>{0}</figcaption>\n</figure>",
        escape(caption)
    );
}

fn head(out: &mut String, report: &Report) {
    out.push_str("<header>\n<h1>Failure rehearsal</h1>\n");
    put!(out, "<p class=\"lead\">{}</p>", escape(&text::rehearsed(report)));
    out.push_str(
        "<p>Each run was simulated next to a twin: the same requests with the same luck, but without the fault. What differs between the two \
         is the fault's doing. Nothing was done to a real system.</p>\n",
    );
    let harmful = report.rows.iter().filter(|row| row.cascade_risk.mean >= 0.005).count();
    let metastable = report.findings.iter().filter(|f| matches!(f, Finding::Metastable { .. })).count();
    put!(
        out,
        "<p><b>In short:</b> {} of {} harmed at least 0.5 % of all user requests although these never met the fault; {} did not always \
         return to normal by themselves.</p>",
        harmful,
        plural(report.rows.len() as u64, "scenario"),
        metastable
    );
    if let Some(row) = report.rows.first().filter(|row| row.severity.mean > 0.0) {
        put!(out, "<p><b>The worst:</b> {}</p>", escape(&words::what_happens(row)));
    }
    let mut links = vec![("overview", "Overview"), ("worst", "The worst, one by one"), ("ranking", "The whole ranking")];
    links.extend(report.live.as_ref().map(|_| ("live", "Beside what really happened")));
    links.extend([("assumed", "What the ranking hangs on"), ("method", "How to read the numbers")]);
    let links: Vec<String> = links.iter().map(|(id, name)| format!("<a href=\"#{id}\">{name}</a>")).collect();
    put!(out, "<nav>{}</nav>\n</header>", links.join(" "));
}

fn risk(out: &mut String, row: &Row, plots: &Plots, folder: &str) {
    let tag = if row.p_metastable.count > 0 { "<span class=\"tag\">does not always return by itself</span>" } else { "" };
    put!(out, "<article class=\"risk\" id=\"rank-{}\">\n<h3>{}. {}{tag}</h3>", row.rank, row.rank, escape(&row.id));
    put!(out, "<p class=\"says\">{}</p>", escape(&words::what_happens(row)));
    if !row.why.is_empty() {
        put!(out, "<p><b>Why it was tried:</b> {}</p>", escape(&row.why));
    }
    five_numbers(out, row);
    if !row.breached.is_empty() {
        let nodes: Vec<String> = row.breached.iter().map(|b| format!("{} ({} of runs)", b.node, share(b.probability))).collect();
        put!(out, "<p><b>Left their normal band:</b> {}.</p>", escape(&list(&nodes, 12)));
    }
    if let Some(svg) = plots.timelines.get(&row.id) {
        figure(out, svg, "The worst run over time, its fault-free twin beside it.", false);
    }
    put!(
        out,
        "<p class=\"quiet\">Play the worst run again, bit for bit:</p>\n<pre>{}</pre>\n</article>",
        escape(&words::replay_command(row, folder))
    );
}

/// Error rate, p99, retries, queue, time to recover: each beside what is normal.
fn five_numbers(out: &mut String, row: &Row) {
    let recovery = |s: Option<f64>| s.map_or_else(|| format!("not within {}", seconds(row.recovery.watched_s)), seconds);
    let queue =
        if row.queue_node.is_empty() { "Deepest queue".to_string() } else { format!("Deepest queue (at {})", row.queue_node) };
    let chance = |p: &Proportion| {
        [format!("{} of {}", p.count, p.of), String::new(), format!("95 % interval {} to {}", share(p.low), share(p.high))]
    };
    let against = |show: fn(f64) -> String, values: &Against| [show(values.peak), show(values.baseline), String::new()];
    let overall = format!("{} over the whole time", number(row.retry_amplification_mean));
    let ninety =
        format!("nine in ten: {}; {} of {} runs recovered", recovery(row.recovery.p90_s), row.recovery.recovered, row.runs);
    let lines = [
        ("Error rate that users see, worst second".to_string(), against(share, &row.error_rate)),
        ("p99 that users see, worst second".to_string(), against(millis, &row.p99_ms)),
        ("Attempts per call, worst two seconds".to_string(), [number(row.retry_amplification_peak), String::new(), overall]),
        (queue, against(number, &row.queue_depth)),
        ("Time to recover, half of the runs".to_string(), [recovery(row.recovery.median_s), String::new(), ninety]),
        ("Runs with a cascade".to_string(), chance(&row.p_cascade)),
        ("Runs that did not return by themselves".to_string(), chance(&row.p_metastable)),
    ];
    out.push_str("<div class=\"scroll\"><table>\n<tr><th class=\"l\">mean over runs</th><th>with the fault</th><th>its twin without</th><th></th></tr>\n");
    for (name, [with, without, more]) in &lines {
        let name = escape(name);
        put!(out, "<tr><td class=\"l\">{name}</td><td>{with}</td><td>{without}</td><td class=\"l quiet\">{more}</td></tr>");
    }
    out.push_str("</table></div>\n");
}

fn ranking(out: &mut String, rows: &[Row]) {
    if rows.is_empty() {
        out.push_str("<p>No scenario has a finished run.</p>\n");
        return;
    }
    out.push_str(
        "<div class=\"scroll\"><table class=\"dense\">\n<tr><th>#</th><th class=\"l\">scenario</th><th>cascade risk (95 % interval)</th><th>harmed in all</th>\
         <th>cascade</th><th>metastable</th><th>recovery, half</th><th>nine in ten</th><th>excess failed</th><th>errors, peak</th><th>p99, peak</th>\
         <th>retries, peak</th><th>queue, peak</th><th>blast radius</th></tr>\n",
    );
    for row in rows {
        let risk = &row.cascade_risk;
        let time = |s: Option<f64>| s.map_or_else(|| format!("&gt; {}", seconds(row.recovery.watched_s)), seconds);
        let bad = if row.p_metastable.count > 0 { " class=\"bad\"" } else { "" };
        let name = if is_told(row) { format!("<a href=\"#rank-{}\">{}</a>", row.rank, escape(&row.id)) } else { escape(&row.id) };
        put!(
            out,
            "<tr><td>{}</td><td class=\"l\">{name}</td><td>{} ({} to {})</td><td>{}</td><td>{}</td><td{bad}>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td><td>{}</td><td>{}</td><td>x{}</td><td>{}</td><td>{}</td></tr>",
            row.rank,
            share(risk.mean),
            share(risk.low),
            share(risk.high),
            share(row.severity.mean),
            share(row.p_cascade.estimate),
            share(row.p_metastable.estimate),
            time(row.recovery.median_s),
            time(row.recovery.p90_s),
            share(row.excess_failed_share),
            share(row.error_rate.peak),
            millis(row.p99_ms.peak),
            number(row.retry_amplification_peak),
            number(row.queue_depth.peak),
            number(row.breached.iter().map(|b| b.probability).sum()),
        );
    }
    out.push_str("</table></div>\n<p class=\"quiet\">Blast radius: services, topics and entries that left their normal band, mean over runs.</p>\n");
}

fn beside(out: &mut String, live: &Comparison) {
    out.push_str(
        "<p>Each cell: predicted | live. Both sides are measured alike, against a fault-free baseline, without the twin that only a \
         simulation has. A prediction counts as yes from half the runs on.</p>\n<ul>\n",
    );
    text::live_verdict(live).iter().for_each(|line| put!(out, "<li>{}</li>", escape(line)));
    out.push_str(
        "</ul>\n<div class=\"scroll\"><table class=\"dense\">\n<tr><th class=\"l\">scenario</th><th>excess failed</th><th>peak errors</th><th>p99</th><th>retries</th>\
         <th>queue</th><th>recovery</th><th>cascade</th><th>metastable</th><th class=\"l\">left their band</th></tr>\n",
    );
    for pair in &live.pairs {
        put!(out, "<tr><td class=\"l\">{}</td>", escape(&pair.id));
        let columns: [fn(&Side) -> String; 8] = [
            |s| share(s.excess_failed_fraction),
            |s| share(s.peak_entry_error_rate),
            |s| millis(s.p99_ms),
            |s| number(s.retry_amplification),
            |s| number(s.max_queue_depth),
            Side::recovery,
            |s| share(s.cascaded),
            |s| share(s.metastable),
        ];
        columns.iter().for_each(|show| put!(out, "<td>{} | {}</td>", show(&pair.predicted), show(&pair.live)));
        put!(out, "<td class=\"l\">{}</td></tr>", escape(&band(&pair.predicted.breached, &pair.live.breached)));
    }
    out.push_str("</table></div>\n");
}

/// Who left the normal band: on both sides, and on one side only.
fn band(predicted: &[String], live: &[String]) -> String {
    let pick = |from: &[String], other: &[String], on_both: bool| {
        from.iter().filter(|n| other.contains(n) == on_both).cloned().collect::<Vec<_>>()
    };
    let groups = [
        ("", pick(predicted, live, true)),
        ("only predicted: ", pick(predicted, live, false)),
        ("only live: ", pick(live, predicted, false)),
    ];
    let said: Vec<String> =
        groups.iter().filter(|g| !g.1.is_empty()).map(|(what, names)| format!("{what}{}", list(names, 12))).collect();
    if said.is_empty() { "none".to_string() } else { said.join("; ") }
}

fn assumed(out: &mut String, report: &Report) {
    out.push_str(
        "<p>Two kinds of things. <b>Choices of structure</b>, whoever made them: they are known to decide whether an outage ends. And \
         <b>numbers that neither traces nor a person told</b>: if one of them is wrong, the ranking may be. Write what you know into a file of \
         the model's form and run again with <code>--with known.yaml</code>.</p>\n",
    );
    for (structural, title) in [(true, "choices of structure"), (false, "assumed numbers")] {
        let rows: Vec<_> = report.assumed.iter().filter(|a| a.structural == structural).collect();
        if rows.is_empty() {
            put!(out, "<p>No {title}.</p>");
            continue;
        }
        put!(
            out,
            "<div class=\"scroll\"><table>\n<tr><th class=\"l\">{title}</th><th class=\"l\">why it matters</th><th class=\"l\">where</th></tr>"
        );
        for a in rows {
            let (what, matters, places) = (escape(&a.what), escape(&a.matters), escape(&list(&a.places, 30)));
            put!(out, "<tr><td class=\"l\">{what}</td><td class=\"l\">{matters}</td><td class=\"l\">{places}</td></tr>");
        }
        out.push_str("</table></div>\n");
    }
}

/// Formulas and words, in short.
const METHOD: &str = "<dl>
<dt>Run, seed, world, twin</dt><dd>A run is the model under one scenario with one seed. The seed decides who comes when and with which luck. A world is \
one draw of the numbers that are not certain. The twin is the same run without the fault; request by request it has the same luck.</dd>
<dt>Harmed</dt><dd>A user request is harmed if it failed, or took more than twice the twin's p99, while the same request in the twin did not. It is \
harmed directly if an attempt made for it met a faulted target during the fault.</dd>
<dt>Cascade risk</dt><dd>Mean over runs of (harmed, but not directly) / requests from the fault's start on. The interval is Student's t, 95 %, clipped \
to 0 to 100 %, the runs of all worlds taken as one sample; one run alone gives 0 to 100 %. Runs that all agree give an interval without width: they agreed, no more is said.</dd>
<dt>Severity, harmed in all</dt><dd>Mean over runs of harmed / requests.</dd>
<dt>Breach, normal band</dt><dd>Error rate above the twin's by 2 points, or p99 above twice the twin's, for two seconds on end.</dd>
<dt>Cascade</dt><dd>A breach by error rate outside the fault's targets. Its chance is the share of runs, with Wilson's 95 % interval.</dd>
<dt>Recovery time</dt><dd>From the last fault's end until every entry is back within 1 point and 1.2 times p99 for five seconds. Median and nine in \
ten by Kaplan and Meier: runs that had not recovered at their end count as longer than what was watched, not as a number.</dd>
<dt>Metastable</dt><dd>Not recovered, and still outside the band at the end, although the fault is gone.</dd>
<dt>Excess failed</dt><dd>Mean over runs of (failed - the twin's failed) / requests; below 0 if the fault spared some.</dd>
<dt>Attempts per call</dt><dd>Attempts / first attempts over all edges behind the entries: highest two seconds. 1 = no retries.</dd>
<dt>p99</dt><dd>The latency that 99 of 100 requests stay within, nearest rank, of the requests that ended in a second.</dd>
<dt>Rank</dt><dd>By cascade risk, then chance of metastability, then excess failed share, then name. Neighbours are called undecided when the 95 % \
interval of their paired difference (same world, same seed) holds 0.</dd>
</dl>
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnalyseInput, analyse, svg, testing};
    use scenarios::record::{EdgeSeries, NodeSeries, Series};

    /// A report whose every name tries to break out of the page.
    fn hostile() -> (models::system::Model, Report, Series) {
        const EVIL: &str = "<script>alert('x')</script>&\"\u{1b}]\u{0}";
        let (mut model, mut scenarios, mut records) = testing::rehearsal();
        let service = model.services["stock"].clone();
        model.services.insert(EVIL.into(), service);
        scenarios.iter_mut().for_each(|s| s.why = format!("{EVIL} {}", s.why));
        for record in &mut records {
            record.queue_node = EVIL.into();
            record.token = EVIL.into();
            record.breaches.iter_mut().for_each(|b| b.node = EVIL.into());
        }
        let notes = [EVIL.to_string()];
        let input = AnalyseInput {
            model: &model,
            scenarios: &scenarios,
            records: &records,
            notes: &notes,
            compare_live: None,
            folder: EVIL,
        };
        let report = analyse(&input);
        let node = NodeSeries {
            kind: "entry".into(),
            ended: vec![9; 480],
            errors: vec![1; 480],
            p50_ms: vec![5.0; 480],
            p99_ms: vec![9.0; 480],
            queue: vec![3; 480],
            in_flight: vec![1; 480],
        };
        let edge = EdgeSeries { attempts: vec![5; 480], retries: vec![1; 480], failures: vec![1; 480] };
        let series = Series {
            dt_ms: 250,
            nodes: [(EVIL.to_string(), node)].into_iter().collect(),
            edges: [(EVIL.to_string(), edge)].into_iter().collect(),
        };
        (model, report, series)
    }

    #[test]
    fn names_cannot_break_out_of_page_or_plot_and_plots_are_well_formed() {
        let (model, report, series) = hostile();
        let (_, _, records) = testing::rehearsal();
        let record = records.last().expect("there are some");
        let timeline = svg::timeline(&svg::Timeline { row: &report.rows[0], record, series: &series, twin: &series });
        let plots = Plots {
            ranking: svg::ranking(&report),
            graph: svg::graph(&model, &report),
            timelines: [(report.rows[0].id.clone(), timeline.clone())].into_iter().collect(),
        };
        for svg in [&plots.ranking, &plots.graph, &timeline] {
            let parsed = roxmltree::Document::parse(svg).expect("it is XML");
            assert!(parsed.descendants().filter(|n| n.has_tag_name(("http://www.w3.org/2000/svg", "text"))).count() > 5);
        }
        let page = page(&report, &plots);
        assert!(!page.contains("<script"), "a name became markup");
        assert!(!page.chars().any(|c| c.is_control() && c != '\n'), "a control character got through");
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;"));
        assert_eq!(page.matches("<svg ").count(), 3);
        assert!(
            !page.contains("http://") || page.matches("http://").count() == page.matches("http://www.w3.org/2000/svg").count(),
            "a page loads nothing"
        );
    }

    #[test]
    fn plots_of_nothing_are_still_pictures() {
        let empty = Report::default();
        let record = testing::record("none", 1);
        let row = Row { id: "none".into(), ..Row::default() };
        let nothing = Series::default();
        let timeline = svg::timeline(&svg::Timeline { row: &row, record: &record, series: &nothing, twin: &nothing });
        for svg in [svg::ranking(&empty), svg::graph(&models::system::Model::default(), &empty), timeline] {
            roxmltree::Document::parse(&svg).expect("it is XML");
        }
        assert!(page(&empty, &Plots::default()).contains("No scenario has a finished run"));
    }
}
