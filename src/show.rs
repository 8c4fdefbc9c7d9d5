//! What the screen shows beside results: progress and notes on stderr, tables and a pipe-safe standard output.
//!
//! You are here: `show`. Results go to stdout, all else to stderr; no colour is used, so `NO_COLOR` has nothing to switch off.

use std::io::{self, IsTerminal, Write};
use std::panic;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::exit::Failure;

/// How often progress is said where there is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Writes a result to standard output; a closed pipe is [`Failure::ClosedPipe`], not a panic.
pub fn result(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    write(&mut out).and_then(|()| out.flush()).map_err(|why| match why.kind() {
        io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
        _ => Failure::Refused(format!("error: standard output\n  found:    {why}\n  expected: a place that can be written to")),
    })
}

/// Writes text as a result.
pub fn text(text: &str) -> Result<(), Failure> {
    result(|out| out.write_all(text.as_bytes()))
}

/// Writes a value as indented JSON and a line's end.
pub fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    result(|out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        out.write_all(b"\n")
    })
}

/// Says something that is not a result. A closed stderr is nobody's problem.
pub fn note(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// After a panic's own message, says that it is our bug and how to report it. The process then exits with 101.
pub fn explain_panics() {
    let standard = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        standard(info);
        note(
            "error: this is a bug of foreshock, not of your input: please report it with the message above and the command line",
        );
    }));
}

/// Progress of work whose size is known: a bar with rate and time left on a terminal, else a plain line every few seconds.
pub struct Progress {
    bar: ProgressBar,
    plain: Option<Plain>,
    what: &'static str,
}

/// Progress without a terminal.
struct Plain {
    began: Instant,
    before: u64,
    said: Mutex<Instant>,
}

impl Progress {
    /// Progress through `total` of `what` (a plural, such as `runs`), of which `done` were done before.
    pub fn new(total: u64, done: u64, what: &'static str) -> Self {
        let terminal = io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr_with_hz(4) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let style = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} {prefix}, {per_sec}, {eta} left")
            .expect("the template is well-formed");
        bar.set_style(style);
        bar.set_prefix(what);
        bar.set_position(done);
        bar.reset_eta();
        let now = Instant::now();
        Progress { bar, plain: (!terminal).then(|| Plain { began: now, before: done, said: Mutex::new(now) }), what }
    }

    /// `done` of the total are done.
    pub fn at(&self, done: u64) {
        self.bar.set_position(done);
        let Some(plain) = &self.plain else { return };
        let Ok(mut said) = plain.said.try_lock() else { return };
        if said.elapsed() < PLAIN_EVERY {
            return;
        }
        *said = Instant::now();
        let (total, seconds) = (self.bar.length().unwrap_or(done), plain.began.elapsed().as_secs_f64());
        let rate = done.saturating_sub(plain.before) as f64 / seconds;
        let left =
            if rate > 0.0 { format!(", about {:.0} s left", (total.saturating_sub(done)) as f64 / rate) } else { String::new() };
        note(format_args!("{done}/{total} {}, {rate:.1}/s{left}", self.what));
    }

    /// Takes the bar off the screen.
    pub fn end(self) {
        self.bar.finish_and_clear();
    }
}

/// A table of text: the first column left-aligned, the others right-aligned where `right` says so.
pub struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Table {
    /// A table with this head; a head that starts with `>` aligns its column to the right.
    pub fn new(head: &[&str]) -> Self {
        let right = head.iter().map(|cell| cell.starts_with('>')).collect();
        Table { rows: vec![head.iter().map(|cell| cell.trim_start_matches('>').to_owned()).collect()], right }
    }

    /// Adds a row; it has as many cells as the head. Control characters, which names from traces may hold, are shown escaped.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.right.len());
        self.rows.push(cells.iter().map(|cell| plain(cell)).collect());
    }

    /// The same for a page.
    pub fn into_part(self) -> reports::html::Part {
        let mut rows = self.rows.into_iter();
        let head = rows.next().unwrap_or_default();
        reports::html::Part::Table { head, right: self.right, rows: rows.collect() }
    }

    /// True if there is nothing but the head.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::from(" ");
            for ((cell, &width), &right) in row.iter().zip(&widths).zip(&self.right) {
                line += &if right { format!(" {cell:>width$} ") } else { format!(" {cell:<width$} ") };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// The text with control characters escaped, so that a name from a file cannot steer the terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let mut table = Table::new(&["service"]);
        table.row(vec!["a\u{1b}[2Jb".into()]);
        assert!(table.to_string().contains("a\\u{1b}[2Jb"));
    }

    #[test]
    fn a_table_aligns_its_columns() {
        let mut table = Table::new(&["service", ">calls"]);
        table.row(vec!["a".into(), "1234".into()]);
        table.row(vec!["checkout".into(), "7".into()]);
        assert_eq!(table.to_string(), "  service   calls\n  a          1234\n  checkout      7\n");
    }
}
