//! One run over time: error rate, p99, retries and queue above each other, the twin beside, the fault shaded, the return marked.

use scenarios::record::{EdgeSeries, NodeSeries, RunRecord, Series};

use crate::svg::{CENTRE, Canvas, FAULT, GRID, INK, LEFT, QUIET, RECOVERED, RIGHT, RUN, STRUCK, TWIN, draw, ticks, width_of};
use crate::view::{FaultView, Row};
use crate::words::{millis, number, seconds, share, shorten};
use plotters::style::Color;

const WIDTH: i32 = 960;
const LEFT_EDGE: i32 = 64;
const PLOT: i32 = WIDTH - LEFT_EDGE - 16;
const TOP: i32 = 86;
const PANEL: i32 = 92;
const GAP: i32 = 34;

/// What is drawn: a scenario's row, one run of it, and the two courses.
#[derive(Clone, Copy, Debug)]
pub struct Timeline<'a> {
    /// The scenario.
    pub row: &'a Row,
    /// The run.
    pub record: &'a RunRecord,
    /// Its course.
    pub series: &'a Series,
    /// The course of its fault-free twin.
    pub twin: &'a Series,
}

/// One panel: its name, its unit, and up to three courses over the same buckets.
struct Panel {
    title: String,
    show: fn(f64) -> String,
    bucket_s: f64,
    run: Vec<Option<f64>>,
    twin: Vec<Option<f64>>,
    /// A second course of the run: its name and values.
    struck: Option<(String, Vec<Option<f64>>)>,
}

/// Draws one run over time. Times without any ended request are gaps in error rate and p99.
pub fn timeline(input: &Timeline<'_>) -> String {
    let panels = [errors(input), latency(input), retries(input), queue(input)];
    let height = TOP + (PANEL + GAP) * panels.len() as i32 + 20;
    let end = input.record.horizon_s.max(1.0);
    draw(WIDTH, height, |canvas| {
        heading(canvas, input, end);
        for (i, panel) in panels.iter().enumerate() {
            paint(canvas, input, panel, TOP + (PANEL + GAP) * i as i32, end);
        }
        let bottom = height - 30;
        for tick in time_ticks(end) {
            canvas.text(at(tick, end), bottom, &number(tick), 11, CENTRE, &QUIET);
        }
        canvas.text(LEFT_EDGE + PLOT / 2, bottom + 17, "seconds of the run", 11, CENTRE, &QUIET);
    })
}

/// Where a time lies on the x axis.
fn at(time_s: f64, end_s: f64) -> i32 {
    LEFT_EDGE + (f64::from(PLOT) * (time_s / end_s).clamp(0.0, 1.0)).round() as i32
}

/// About eight round times; none beyond the end.
fn time_ticks(end: f64) -> Vec<f64> {
    let step = ticks(end / 2.0).get(1).copied().unwrap_or(end);
    (0..=(end / step).floor() as i32).map(|i| f64::from(i) * step).collect()
}

fn heading(canvas: &Canvas<'_>, input: &Timeline<'_>, end: f64) {
    let row = input.row;
    canvas.bold(12, 18, &shorten(&row.id, 60), 16, LEFT, &INK);
    canvas.text(
        WIDTH - 16,
        18,
        &format!("worst run: seed {}, world {}", input.record.seed, input.record.world),
        12,
        RIGHT,
        &QUIET,
    );
    // Legend: line samples with their names.
    let mut x = 12;
    for (name, colour, dashed) in
        [("this run", &RUN, false), ("twin without the fault", &TWIN, true), ("where the fault strikes", &STRUCK, false)]
    {
        let points = [(x, 42), (x + 26, 42)];
        if dashed {
            canvas.dashes(&points, colour, 2, (5.0, 4.0))
        } else {
            canvas.line(points.to_vec(), colour, 2)
        }
        canvas.text(x + 32, 42, name, 12, LEFT, &QUIET);
        x += 32 + width_of(name, 12) + 22;
    }
    if let Some((from, to)) = window(&row.faults) {
        canvas.rect(x, 35, 26, 14, &FAULT.mix(0.22));
        let text = format!("fault, {} to {}", seconds(from), seconds(to));
        canvas.text(x + 32, 42, &text, 12, LEFT, &QUIET);
        x += 32 + width_of(&text, 12) + 22;
    }
    let (text, colour) = match input.record.recovery_s {
        Some(s) => (format!("back to normal {} after it", seconds(s)), &RECOVERED),
        None => (format!("not back to normal by {}", seconds(end)), &STRUCK),
    };
    if !row.faults.is_empty() {
        if input.record.recovery_s.is_some() {
            canvas.dashes(&[(x + 8, 34), (x + 8, 50)], colour, 2, (3.0, 3.0));
        }
        canvas.text(x + 20, 42, &text, 12, LEFT, colour);
    }
}

/// From the first start to the last end.
fn window(faults: &[FaultView]) -> Option<(f64, f64)> {
    let from = faults.iter().map(|f| f.start_s).min_by(f64::total_cmp)?;
    let to = faults.iter().map(|f| f.end_s).max_by(f64::total_cmp)?;
    Some((from, to))
}

fn paint(canvas: &Canvas<'_>, input: &Timeline<'_>, panel: &Panel, top: i32, end: f64) {
    let bottom = top + PANEL;
    for fault in &input.row.faults {
        let (from, to) = (at(fault.start_s, end), at(fault.end_s, end));
        canvas.rect(from, top, (to - from).max(1), PANEL, &FAULT.mix(0.18));
    }
    let highest = |course: &[Option<f64>]| course.iter().flatten().copied().fold(0.0, f64::max);
    let courses = [Some(&panel.run), Some(&panel.twin), panel.struck.as_ref().map(|s| &s.1)];
    let ticks = ticks(courses.iter().flatten().map(|c| highest(c)).fold(0.0, f64::max));
    let max = ticks.last().copied().unwrap_or(1.0);
    for tick in &ticks {
        let y = bottom - (f64::from(PANEL) * tick / max).round() as i32;
        canvas.line(vec![(LEFT_EDGE, y), (LEFT_EDGE + PLOT, y)], &GRID, 1);
        canvas.text(LEFT_EDGE - 6, y, &(panel.show)(*tick), 11, RIGHT, &QUIET);
    }
    canvas.bold(LEFT_EDGE, top - 12, &panel.title, 12, LEFT, &INK);
    let peaks = format!("peak {}, twin {}", (panel.show)(highest(&panel.run)), (panel.show)(highest(&panel.twin)));
    canvas.text(LEFT_EDGE + PLOT, top - 12, &peaks, 12, RIGHT, &QUIET);
    if let Some((name, course)) = &panel.struck {
        let text = format!("{name}: peak {}", (panel.show)(highest(course)));
        canvas.text(LEFT_EDGE + PLOT - width_of(&peaks, 12) - 18, top - 12, &text, 12, RIGHT, &STRUCK);
    }
    let pixels = |course: &[Option<f64>]| pieces(course, panel.bucket_s, end, max, bottom);
    pixels(&panel.twin).iter().for_each(|piece| canvas.dashes(piece, &TWIN, 2, (5.0, 4.0)));
    if let Some((_, course)) = &panel.struck {
        pixels(course).into_iter().for_each(|piece| canvas.line(piece, &STRUCK, 1));
    }
    pixels(&panel.run).into_iter().for_each(|piece| canvas.line(piece, &RUN, 2));
    if let (Some(s), false) = (input.record.recovery_s, input.row.faults.is_empty()) {
        let x = at(input.record.clear_s + s, end);
        canvas.dashes(&[(x, top), (x, bottom)], &RECOVERED, 2, (3.0, 3.0));
    }
    canvas.line(vec![(LEFT_EDGE, bottom), (LEFT_EDGE + PLOT, bottom)], &QUIET, 1);
}

/// A course as runs of pixels, broken at its gaps; each value stands at its bucket's middle.
fn pieces(course: &[Option<f64>], bucket_s: f64, end: f64, max: f64, bottom: i32) -> Vec<Vec<(i32, i32)>> {
    let mut pieces = vec![Vec::new()];
    for (i, value) in course.iter().enumerate() {
        let time = (i as f64 + 0.5) * bucket_s;
        match value {
            Some(value) if time <= end => {
                let point = (at(time, end), bottom - (f64::from(PANEL) * (value / max).clamp(0.0, 1.0)).round() as i32);
                pieces.last_mut().expect("it begins with one").push(point);
            }
            _ => pieces.push(Vec::new()),
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    // A value alone between gaps is drawn as a short dash.
    pieces.iter_mut().filter(|piece| piece.len() == 1).for_each(|piece| piece.push((piece[0].0 + 2, piece[0].1)));
    pieces
}

fn entries(series: &Series) -> Vec<&NodeSeries> {
    series.nodes.values().filter(|n| n.kind == "entry").collect()
}

fn bucket_s(series: &Series) -> f64 {
    series.dt_ms.max(1) as f64 / 1000.0
}

/// Sums `values` over the buckets of each second (or each bucket, if it is longer).
fn by_second(series: &Series, values: &[f64]) -> (f64, Vec<f64>) {
    let each = (1000 / series.dt_ms.max(1)).max(1) as usize;
    (bucket_s(series) * each as f64, values.chunks(each).map(|c| c.iter().sum()).collect())
}

/// The sum over several columns, bucket by bucket.
fn total<'a>(columns: impl Iterator<Item = &'a Vec<u32>>) -> Vec<f64> {
    let mut sum = Vec::new();
    for column in columns {
        sum.resize(sum.len().max(column.len()), 0.0);
        sum.iter_mut().zip(column).for_each(|(s, v)| *s += f64::from(*v));
    }
    sum
}

fn errors(input: &Timeline<'_>) -> Panel {
    let course = |series: &Series| {
        let (_, ended) = by_second(series, &total(entries(series).iter().map(|n| &n.ended)));
        let (bucket, errors) = by_second(series, &total(entries(series).iter().map(|n| &n.errors)));
        (bucket, errors.iter().zip(&ended).map(|(e, n)| (*n > 0.0).then(|| e / n)).collect())
    };
    let ((bucket_s, run), (_, twin)) = (course(input.series), course(input.twin));
    Panel { title: "Error rate that users see (per second)".into(), show: share, bucket_s, run, twin, struck: None }
}

/// A node's p99 with gaps where nothing ended.
fn p99(node: &NodeSeries) -> Vec<Option<f64>> {
    node.p99_ms.iter().zip(&node.ended).map(|(ms, ended)| (*ended > 0).then(|| f64::from(*ms))).collect()
}

fn latency(input: &Timeline<'_>) -> Panel {
    let course = |series: &Series| {
        let mut worst: Vec<Option<f64>> = Vec::new();
        for node in entries(series) {
            let values = p99(node);
            worst.resize(worst.len().max(values.len()), None);
            worst.iter_mut().zip(values).for_each(|(w, v)| *w = [*w, v].into_iter().flatten().max_by(f64::total_cmp));
        }
        worst
    };
    let struck = input.row.faults.iter().find_map(|fault| {
        let name = fault.target.split_once("->").map_or(fault.target.as_str(), |(_, to)| to);
        let node = input.series.nodes.get(name).filter(|node| node.kind != "entry")?;
        Some((shorten(name, 28), p99(node)))
    });
    Panel {
        title: format!("p99 that users see (per {})", seconds(bucket_s(input.series))),
        show: millis,
        bucket_s: bucket_s(input.series),
        run: course(input.series),
        twin: course(input.twin),
        struck,
    }
}

fn retries(input: &Timeline<'_>) -> Panel {
    let course = |series: &Series| {
        let (bucket, retries) = by_second(series, &total(series.edges.values().map(|e: &EdgeSeries| &e.retries)));
        (bucket, retries.iter().map(|n| Some(n / bucket)).collect())
    };
    let ((bucket_s, run), (_, twin)) = (course(input.series), course(input.twin));
    Panel { title: "Retries per second, all edges".into(), show: number, bucket_s, run, twin, struck: None }
}

fn queue(input: &Timeline<'_>) -> Panel {
    let deepest = |node: &NodeSeries| node.queue.iter().copied().max().unwrap_or(0);
    // Of equals the first; where no queue ever stood the title names none.
    let node = input.series.nodes.iter().fold(None, |best: Option<(&String, u32)>, (name, node)| match best {
        Some((_, depth)) if depth >= deepest(node) => best,
        _ => (deepest(node) > 0).then(|| (name, deepest(node))).or(best),
    });
    let course = |series: &Series| -> Vec<Option<f64>> {
        let values = node.and_then(|(name, _)| series.nodes.get(name)).map(|n| &n.queue);
        values.map_or_else(Vec::new, |queue| queue.iter().map(|v| Some(f64::from(*v))).collect())
    };
    let title =
        node.map_or_else(|| "Queue (none ever stood)".to_string(), |(name, _)| format!("Deepest queue: {}", shorten(name, 40)));
    Panel {
        title,
        show: number,
        bucket_s: bucket_s(input.series),
        run: course(input.series),
        twin: course(input.twin),
        struck: None,
    }
}
