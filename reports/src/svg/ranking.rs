//! The ranking as bars: cascade risk of the worst scenarios with their intervals.

use crate::svg::{Canvas, GRID, INK, LEFT, QUIET, RIGHT, RUN, STRUCK, draw, ticks};
use crate::view::{Report, Row};
use crate::words::{share, shorten};

/// Scenarios drawn.
const SHOWN: usize = 20;
const WIDTH: i32 = 960;
const ROW: i32 = 28;
const TOP: i32 = 58;
/// Where bars begin, and how long the axis is.
const BARS: i32 = 318;
const AXIS: i32 = 360;

/// Draws the worst scenarios: a bar for the cascade risk, a whisker for its 95 % interval, the numbers beside.
pub fn ranking(report: &Report) -> String {
    let rows = &report.rows[..report.rows.len().min(SHOWN)];
    let height = TOP + ROW * rows.len().max(1) as i32 + 44;
    draw(WIDTH, height, |canvas| paint(canvas, rows, report.rows.len(), height))
}

fn paint(canvas: &Canvas<'_>, rows: &[Row], all: usize, height: i32) {
    let title = if rows.len() == all {
        "Cascade risk of every scenario".to_string()
    } else {
        format!("Cascade risk of the {} worst of {all} scenarios", rows.len())
    };
    canvas.bold(12, 20, &title, 16, LEFT, &INK);
    if rows.is_empty() {
        canvas.text(12, TOP + 10, "No scenario has a finished run.", 13, LEFT, &QUIET);
        return;
    }
    let widest = rows.iter().map(|r| r.cascade_risk.high).fold(0.0, f64::max);
    let ticks = ticks(if widest > 0.0 { widest } else { 0.01 });
    let max = ticks.last().copied().unwrap_or(1.0);
    let x = |value: f64| BARS + (f64::from(AXIS) * (value / max).clamp(0.0, 1.0)).round() as i32;
    let bottom = height - 44;
    for tick in &ticks {
        canvas.line(vec![(x(*tick), TOP - 4), (x(*tick), bottom)], &GRID, 1);
        canvas.text(x(*tick), bottom + 12, &share(*tick), 11, super::CENTRE, &QUIET);
    }
    canvas.text(
        BARS,
        bottom + 30,
        "share of user requests harmed that never met the fault (bar), 95 % interval (whisker)",
        11,
        LEFT,
        &QUIET,
    );
    for (at, head) in [(BARS + AXIS + 12, "risk [interval]"), (WIDTH - 80, "cascade"), (WIDTH - 10, "metastable")] {
        canvas.text(at, TOP - 16, head, 11, if at > BARS + AXIS + 12 { RIGHT } else { LEFT }, &QUIET);
    }
    for (i, row) in rows.iter().enumerate() {
        bar(canvas, row, TOP + ROW * i as i32, &x);
    }
}

fn bar(canvas: &Canvas<'_>, row: &Row, top: i32, x: &dyn Fn(f64) -> i32) {
    let (middle, risk) = (top + ROW / 2, &row.cascade_risk);
    canvas.text(30, middle, &row.rank.to_string(), 12, RIGHT, &QUIET);
    canvas.text(42, middle, &shorten(&row.id, 38), 13, LEFT, &INK);
    if risk.mean > 0.0 {
        canvas.rect(BARS, top + 7, (x(risk.mean) - BARS).max(1), ROW - 14, &RUN);
    }
    if risk.high > risk.low {
        whisker(canvas, (x(risk.low), x(risk.high)), middle);
    }
    canvas.text(
        BARS + AXIS + 12,
        middle,
        &format!("{} [{} to {}]", share(risk.mean), share(risk.low), share(risk.high)),
        12,
        LEFT,
        &INK,
    );
    canvas.text(WIDTH - 80, middle, &share(row.p_cascade.estimate), 12, RIGHT, &INK);
    let metastable = share(row.p_metastable.estimate);
    if row.p_metastable.count > 0 {
        canvas.bold(WIDTH - 10, middle, &metastable, 12, RIGHT, &STRUCK);
    } else {
        canvas.text(WIDTH - 10, middle, &metastable, 12, RIGHT, &QUIET);
    }
}

/// An interval, with a light line under the dark one that keeps it visible on its bar.
fn whisker(canvas: &Canvas<'_>, (low, high): (i32, i32), middle: i32) {
    for (colour, stroke) in [(&super::PAPER, 3), (&INK, 1)] {
        canvas.line(vec![(low, middle), (high, middle)], colour, stroke);
    }
    for end in [low, high] {
        canvas.line(vec![(end, middle - 4), (end, middle + 4)], &INK, 1);
    }
}
