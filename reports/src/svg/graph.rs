//! The interaction graph: who calls whom and how often, coloured by the risk that each causes.

use std::collections::BTreeMap;

use models::system::Model;
use plotters::style::RGBColor;
use scenarios::Analysis;
use scenarios::analyse::NodeEvidence;

use crate::svg::layout::{Layout, layered};
use crate::svg::{CENTRE, Canvas, GRID, INK, LEFT, PAPER, QUIET, RIGHT, draw};
use crate::view::{NodeRisk, Report};
use crate::words::{clean, millis, number, share, shorten};

/// Nodes drawn at most: entries, then those that cause most, then the busiest.
const MOST: usize = 60;
const BOX: (i32, i32) = (164, 60);
const COLUMN: i32 = 250;
const TOP: i32 = 78;
const MARGIN: i32 = 14;

/// Text inside boxes, which keep their colours on a dark screen.
const BOX_INK: RGBColor = RGBColor(17, 24, 39);
const BOX_PALE: RGBColor = RGBColor(254, 254, 254);
/// Highest cascade risk from which on a colour holds, the colour, and the ink on it.
const STEPS: [(f64, RGBColor, RGBColor); 5] = [
    (0.0, RGBColor(238, 242, 247), BOX_INK),
    (0.005, RGBColor(254, 240, 190), BOX_INK),
    (0.05, RGBColor(253, 203, 120), BOX_INK),
    (0.15, RGBColor(244, 139, 92), BOX_INK),
    (0.4, RGBColor(176, 29, 38), BOX_PALE),
];
/// The same for hot-spot scores.
const WORRIES: [(f64, RGBColor, RGBColor); 4] =
    [(0.0, STEPS[0].1, BOX_INK), (1.0, STEPS[1].1, BOX_INK), (2.0, STEPS[2].1, BOX_INK), (3.0, STEPS[3].1, BOX_INK)];
const UNTRIED: RGBColor = RGBColor(252, 252, 251);

/// Draws the graph of a model, its nodes coloured by the highest cascade risk among the scenarios that strike them.
pub fn graph(model: &Model, report: &Report) -> String {
    paint(model, Some(report))
}

/// Draws the graph of a model as it is, before anything was tried: its nodes coloured by how worrying the worst call into each is.
pub fn bare_graph(model: &Model) -> String {
    paint(model, None)
}

fn paint(model: &Model, report: Option<&Report>) -> String {
    let flow = scenarios::analyse(model);
    let names = chosen(model, report, &flow);
    let index: BTreeMap<&str, usize> = names.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
    let mut edges = Vec::new();
    for boundary in &flow.boundaries {
        if let (Some(from), Some(to)) = (index.get(boundary.edge.from.as_str()), index.get(boundary.edge.to.as_str())) {
            edges.push(((*from, *to), boundary.calls_per_s));
        }
    }
    edges.sort_by_key(|edge| edge.0);
    let pairs: Vec<(usize, usize)> = edges.iter().map(|e| e.0).collect();
    let layout = layered(names.len(), &pairs);
    let width = (MARGIN * 2 + COLUMN * (layout.layers as i32 - 1) + BOX.0).max(880);
    let height = TOP + layout.height + 24;
    draw(width, height, |canvas| {
        let title = if report.is_some() {
            "Who calls whom, and what it causes when it is hurt"
        } else {
            "Who calls whom, and where to worry"
        };
        canvas.bold(12, 20, title, 16, LEFT, &INK);
        legend(canvas, report.is_some());
        if names.len() < flow.nodes.len() {
            let text = format!("{} of {} drawn: those that cause most, then the busiest", names.len(), flow.nodes.len());
            canvas.text(width - 12, 20, &text, 12, RIGHT, &QUIET);
        }
        let most = edges.iter().map(|e| e.1).fold(0.0, f64::max);
        for (i, (pair, rate)) in edges.iter().enumerate() {
            edge(canvas, &layout, *pair, &layout.bends[i], *rate, most);
        }
        for (i, (pair, rate)) in edges.iter().enumerate() {
            label(canvas, &layout, *pair, &layout.bends[i], *rate);
        }
        for (i, name) in names.iter().enumerate() {
            let risk = report.and_then(|report| report.nodes.get(name)).copied().unwrap_or_default();
            let kind = if model.workload.contains_key(name) {
                "entry"
            } else if model.topics.contains_key(name) {
                "topic"
            } else {
                "service"
            };
            let loops = pairs.contains(&(i, i));
            let seen = flow.node(name);
            let (hot, facts) = match report {
                Some(_) => (risk.causes.map(|risk| step_from(&STEPS, risk)), caused(risk)),
                None => (hottest(&flow, name).map(|score| step_from(&WORRIES, score)), seen.map_or_else(String::new, facts)),
            };
            node(canvas, &layout, i, &Shown { name, kind, hot, facts, rate: seen.map_or(0.0, |node| node.per_s), loops });
        }
    })
}

/// The nodes to draw, in the model's order, entries first.
fn chosen(model: &Model, report: Option<&Report>, flow: &Analysis) -> Vec<String> {
    let all: Vec<&String> = model.workload.keys().chain(model.services.keys()).chain(model.topics.keys()).collect();
    let key = |name: &String| {
        let causes = report.and_then(|report| report.nodes.get(name)).and_then(|n| n.causes);
        (causes.unwrap_or(0.0), flow.node(name).map_or(0.0, |node| node.per_s))
    };
    let mut order: Vec<usize> = (0..all.len()).collect();
    let entries = model.workload.len();
    order.sort_by(|&a, &b| {
        let (x, y) = (key(all[a]), key(all[b]));
        (b < entries).cmp(&(a < entries)).then(y.0.total_cmp(&x.0)).then(y.1.total_cmp(&x.1)).then(a.cmp(&b))
    });
    order.truncate(MOST);
    order.sort_unstable();
    order.into_iter().map(|i| all[i].clone()).collect()
}

/// The last of rising steps that a value reaches.
fn step_from(steps: &[(f64, RGBColor, RGBColor)], value: f64) -> (RGBColor, RGBColor) {
    steps.iter().rev().find(|step| value >= step.0).map_or((UNTRIED, BOX_INK), |step| (step.1, step.2))
}

/// The score of the worst call into a node; `None`: nobody calls it.
fn hottest(flow: &Analysis, name: &str) -> Option<f64> {
    flow.boundaries.iter().filter(|b| b.edge.to == name).map(|b| b.score).max_by(f64::total_cmp)
}

/// `p99 120 ms, fails 2 %`, or `p99 120 ms, busy 40 %` where nothing failed: more does not fit.
fn facts(node: &NodeEvidence) -> String {
    let more = match node.utilisation {
        _ if node.error_rate >= 0.0005 => format!(", fails {}", share(node.error_rate)),
        Some(busy) => format!(", busy {}", share(busy)),
        None => String::new(),
    };
    if node.p99_ms > 0.0 { format!("p99 {}{more}", millis(node.p99_ms)) } else { String::new() }
}

fn caused(risk: NodeRisk) -> String {
    let causes = risk.causes.map_or_else(|| "not tried".to_string(), |risk| format!("causes {}", share(risk)));
    let suffers = risk.suffers.map_or_else(String::new, |chance| format!(", suffers {}", share(chance)));
    format!("{causes}{suffers}")
}

fn legend(canvas: &Canvas<'_>, tried: bool) {
    let words = if tried { "highest cascade risk of a fault on it:" } else { "hot-spot score of the worst call into it:" };
    canvas.text(12, 44, words, 12, LEFT, &QUIET);
    let mut x = 238;
    let mut swatch = |colour: &RGBColor, text: &str| {
        canvas.rect(x, 36, 22, 16, colour);
        canvas.frame(x, 36, 22, 16, &QUIET, 1);
        canvas.text(x + 28, 44, text, 12, LEFT, &QUIET);
        x += 28 + super::width_of(text, 12) + 14;
    };
    if tried {
        swatch(&UNTRIED, "not tried");
        swatch(&STEPS[0].1, "under 0.5 %");
        STEPS[1..].iter().for_each(|step| swatch(&step.1, &format!("from {}", share(step.0))));
    } else {
        swatch(&UNTRIED, "called by nobody");
        swatch(&WORRIES[0].1, "under 1");
        WORRIES[1..].iter().for_each(|step| swatch(&step.1, &format!("from {}", number(step.0))));
    }
    canvas.text(12, 64, "arrows: first attempts per second without faults, the thicker the more", 12, LEFT, &QUIET);
}

/// What a box shows.
struct Shown<'a> {
    name: &'a str,
    kind: &'static str,
    /// Fill and ink.
    hot: Option<(RGBColor, RGBColor)>,
    /// The last line.
    facts: String,
    rate: f64,
    loops: bool,
}

fn corner(layout: &Layout, i: usize) -> (i32, i32) {
    (MARGIN + COLUMN * layout.layer[i] as i32, TOP + layout.y[i] - BOX.1 / 2)
}

fn node(canvas: &Canvas<'_>, layout: &Layout, i: usize, shown: &Shown<'_>) {
    let (x, y) = corner(layout, i);
    let (fill, ink) = shown.hot.unwrap_or((UNTRIED, BOX_INK));
    canvas.rect(x, y, BOX.0, BOX.1, &fill);
    canvas.frame(x, y, BOX.0, BOX.1, &QUIET, if shown.kind == "entry" { 2 } else { 1 });
    if shown.kind == "topic" {
        // A topic has a double edge on its left, like a drum.
        canvas.line(vec![(x + 5, y), (x + 5, y + BOX.1)], &QUIET, 1);
    }
    let middle = x + BOX.0 / 2;
    canvas.bold(middle, y + 14, &shorten(&clean(shown.name), 20), 13, CENTRE, &ink);
    let loops = if shown.loops { ", calls itself" } else { "" };
    canvas.text(middle, y + 31, &format!("{}, {}/s{loops}", shown.kind, number(shown.rate)), 11, CENTRE, &ink);
    canvas.text(middle, y + 47, &shorten(&shown.facts, 30), 11, CENTRE, &ink);
}

/// The way of an edge: out of the caller's right side, through its bends, into the called's left side (or back, for a circle).
fn way(layout: &Layout, (from, to): (usize, usize), bends: &[(usize, i32)]) -> Vec<(i32, i32)> {
    let (a, b) = (corner(layout, from), corner(layout, to));
    let forth = layout.layer[from] < layout.layer[to];
    let (start, end) = if forth { (a.0 + BOX.0, b.0 - 2) } else { (a.0, b.0 + BOX.0 + 2) };
    let mut way = vec![(start, a.1 + BOX.1 / 2)];
    for &(layer, y) in bends {
        let x = MARGIN + COLUMN * layer as i32;
        let (first, second) = if forth { (x, x + BOX.0) } else { (x + BOX.0, x) };
        way.extend([(first, TOP + y), (second, TOP + y)]);
    }
    way.push((end, b.1 + BOX.1 / 2));
    way
}

fn edge(canvas: &Canvas<'_>, layout: &Layout, pair: (usize, usize), bends: &[(usize, i32)], rate: f64, most: f64) {
    if pair.0 == pair.1 {
        return;
    }
    let way = way(layout, pair, bends);
    let mut points = Vec::new();
    for (i, leg) in way.windows(2).enumerate() {
        // Every other leg crosses a gap between layers, as a smooth S; the rest are straight.
        let steps = if i % 2 == 0 { 20 } else { 1 };
        points.extend((0..=steps).map(|s| curve(leg[0], leg[1], f64::from(s) / f64::from(steps))));
    }
    points.dedup();
    let stroke = if most > 0.0 { 1 + (4.0 * (rate / most).sqrt()).round() as u32 } else { 1 };
    if rate > 0.0 {
        canvas.line(points, &super::TWIN, stroke)
    } else {
        canvas.dashes(&points, &super::TWIN, 1, (5.0, 4.0))
    }
    let tip = way[way.len() - 1];
    let back = if way[way.len() - 2].0 < tip.0 { -1 } else { 1 };
    let (long, wide) = (9 + stroke as i32, 4 + stroke as i32);
    canvas.polygon(vec![tip, (tip.0 + back * long, tip.1 - wide), (tip.0 + back * long, tip.1 + wide)], &QUIET);
}

/// A point on the S from a to b, whose ends are level.
fn curve(a: (i32, i32), b: (i32, i32), t: f64) -> (i32, i32) {
    let smooth = t * t * (3.0 - 2.0 * t);
    (a.0 + (f64::from(b.0 - a.0) * t).round() as i32, a.1 + (f64::from(b.1 - a.1) * smooth).round() as i32)
}

/// Calls a second, near where the arrow ends.
fn label(canvas: &Canvas<'_>, layout: &Layout, pair: (usize, usize), bends: &[(usize, i32)], rate: f64) {
    if pair.0 == pair.1 {
        return;
    }
    let way = way(layout, pair, bends);
    let at = curve(way[way.len() - 2], way[way.len() - 1], 0.62);
    let text = format!("{}/s", number(rate));
    let width = super::width_of(&text, 11) + 6;
    canvas.rect(at.0 - width / 2, at.1 - 8, width, 16, &PAPER);
    canvas.frame(at.0 - width / 2, at.1 - 8, width, 16, &GRID, 1);
    canvas.text(at.0, at.1, &text, 11, CENTRE, &QUIET);
}
