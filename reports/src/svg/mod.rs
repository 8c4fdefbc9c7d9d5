//! Plots as SVG, drawn with plotters: the ranking, a run over time, the interaction graph.
//!
//! You are here: `reports::svg`. This file holds the canvas and its colours; each plot has a file.
//! Always true: nothing is said by colour alone, numbers stand beside; names are cleaned here and escaped by plotters; one input
//! gives one text, byte for byte. The colours of paper, ink, grid and quiet text are used for nothing else, so that a page can
//! change them for a dark screen.

mod graph;
mod layout;
mod ranking;
mod timeline;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub use graph::{bare_graph, graph};
pub use ranking::ranking;
pub use timeline::{Timeline, timeline};

use crate::words;

/// Background.
pub const PAPER: RGBColor = RGBColor(255, 255, 255);
/// Text and lines that matter.
pub const INK: RGBColor = RGBColor(31, 41, 55);
/// Text that explains.
pub const QUIET: RGBColor = RGBColor(91, 101, 115);
/// Grid lines.
pub const GRID: RGBColor = RGBColor(226, 230, 235);
/// The rehearsed run.
pub const RUN: RGBColor = RGBColor(29, 98, 176);
/// What is struck by the fault.
pub const STRUCK: RGBColor = RGBColor(194, 87, 12);
/// The fault-free twin.
pub const TWIN: RGBColor = RGBColor(138, 146, 158);
/// The fault's window.
pub const FAULT: RGBColor = RGBColor(245, 158, 11);
/// Back to normal.
pub const RECOVERED: RGBColor = RGBColor(21, 128, 61);

/// Horizontal place of a text relative to its point.
pub(crate) const LEFT: HPos = HPos::Left;
/// As [`LEFT`].
pub(crate) const CENTRE: HPos = HPos::Center;
/// As [`LEFT`].
pub(crate) const RIGHT: HPos = HPos::Right;

/// A drawing of fixed size in whole pixels, y downwards.
pub(crate) struct Canvas<'a>(DrawingArea<SVGBackend<'a>, Shift>);

/// Draws with `paint` on a canvas of this size and returns the SVG.
pub(crate) fn draw(width: i32, height: i32, paint: impl FnOnce(&Canvas<'_>)) -> String {
    let mut svg = String::new();
    {
        let size = (u32::try_from(width).unwrap_or(1), u32::try_from(height).unwrap_or(1));
        let canvas = Canvas(SVGBackend::with_string(&mut svg, size).into_drawing_area());
        canvas.rect(0, 0, width, height, &PAPER);
        paint(&canvas);
        canvas.0.present().expect(INTO_A_STRING);
    }
    svg
}

const INTO_A_STRING: &str = "drawing into a string does not fail";

impl Canvas<'_> {
    /// A filled rectangle.
    pub(crate) fn rect(&self, x: i32, y: i32, width: i32, height: i32, colour: &impl Color) {
        self.0.draw(&Rectangle::new([(x, y), (x + width, y + height)], colour.filled())).expect(INTO_A_STRING);
    }

    /// The outline of a rectangle.
    pub(crate) fn frame(&self, x: i32, y: i32, width: i32, height: i32, colour: &impl Color, stroke: u32) {
        self.0.draw(&Rectangle::new([(x, y), (x + width, y + height)], colour.stroke_width(stroke))).expect(INTO_A_STRING);
    }

    /// A line through points.
    pub(crate) fn line(&self, points: Vec<(i32, i32)>, colour: &impl Color, stroke: u32) {
        if points.len() > 1 {
            self.0.draw(&PathElement::new(points, colour.stroke_width(stroke))).expect(INTO_A_STRING);
        }
    }

    /// A broken line through points: `on` pixels drawn, `off` pixels not.
    pub(crate) fn dashes(&self, points: &[(i32, i32)], colour: &impl Color, stroke: u32, (on, off): (f64, f64)) {
        let mut at = 0.0;
        let mut dash: Vec<(i32, i32)> = Vec::new();
        for pair in points.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            let (dx, dy) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
            let steps = ((dx * dx + dy * dy).sqrt().ceil() as i32).clamp(1, 4000);
            for i in 0..=steps {
                let share = f64::from(i) / f64::from(steps);
                let point = (from.0 + (dx * share).round() as i32, from.1 + (dy * share).round() as i32);
                at += if i == 0 { 0.0 } else { (dx * dx + dy * dy).sqrt() / f64::from(steps) };
                if at % (on + off) < on {
                    if dash.last() != Some(&point) {
                        dash.push(point);
                    }
                } else if !dash.is_empty() {
                    self.line(std::mem::take(&mut dash), colour, stroke);
                }
            }
        }
        self.line(dash, colour, stroke);
    }

    /// A filled polygon.
    pub(crate) fn polygon(&self, points: Vec<(i32, i32)>, colour: &impl Color) {
        self.0.draw(&Polygon::new(points, colour.filled())).expect(INTO_A_STRING);
    }

    /// A line of text, its middle at height `y`.
    pub(crate) fn text(&self, x: i32, y: i32, text: &str, size: i32, anchor: HPos, colour: &RGBColor) {
        self.write(x, y, text, TextStyle::from(("sans-serif", font_size(size)).into_font()), anchor, colour);
    }

    /// A line of bold text, its middle at height `y`.
    pub(crate) fn bold(&self, x: i32, y: i32, text: &str, size: i32, anchor: HPos, colour: &RGBColor) {
        self.write(
            x,
            y,
            text,
            TextStyle::from(("sans-serif", font_size(size)).into_font().style(FontStyle::Bold)),
            anchor,
            colour,
        );
    }

    fn write(&self, x: i32, y: i32, text: &str, style: TextStyle<'_>, anchor: HPos, colour: &RGBColor) {
        let style = style.color(colour).pos(Pos::new(anchor, VPos::Center));
        self.0.draw(&Text::new(words::clean(text), (x, y), style)).expect(INTO_A_STRING);
    }
}

/// plotters divides sizes by this to get pixels.
fn font_size(pixels: i32) -> f64 {
    f64::from(pixels) * 1.24
}

/// The width of a text in pixels, roughly: a sans-serif letter is about half its height wide.
pub(crate) fn width_of(text: &str, size: i32) -> i32 {
    (text.chars().count() as f64 * f64::from(size) * 0.52).ceil() as i32
}

/// Round values from 0 up to at least `max`, about four steps.
pub(crate) fn ticks(max: f64) -> Vec<f64> {
    if !(max.is_finite() && max > 0.0) {
        return vec![0.0, 1.0];
    }
    let rough = max / 4.0;
    let power = libm::pow(10.0, libm::floor(libm::log10(rough)));
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].iter().map(|m| m * power).find(|step| *step >= rough * 0.999).unwrap_or(10.0 * power);
    (0..=(max / step * 0.999).ceil() as i32).map(|i| f64::from(i) * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_maximum() {
        assert_eq!(ticks(0.37), [0.0, 0.1, 0.2, 0.30000000000000004, 0.4]);
        assert_eq!(ticks(1.0), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(ticks(1150.0), [0.0, 500.0, 1000.0, 1500.0]);
        assert_eq!(ticks(0.0), [0.0, 1.0]);
        assert_eq!(ticks(f64::NAN), [0.0, 1.0]);
    }
}
