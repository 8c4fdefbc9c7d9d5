//! Where the format readers put what they find: spans, and what they could not use.
//!
//! You are here: `models::trace::inbox`. `read` makes one per input, `batches` one per chunk of it; every format reader fills it.
//! Always true: what is not pushed is counted; under `strict` the first bad record stops the reading.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Span;
use super::detect::{self, NoTrace};
use super::kept::Kept;
use super::loose::Loose;
use super::names::Names;
use super::read::{Format, Skipped};
use super::summary::GraphSummary;
use crate::error::InputError;

/// How many skipped records are listed one by one.
const LISTED: usize = 100;
/// Most services of one input that are told apart.
const MOST_SERVICES: usize = 65_536;
/// Most links of one span.
const MOST_LINKS: usize = 1024;
/// 2200-01-01 in nanoseconds since 1970: no span is younger.
pub(crate) const LATEST_NS: u64 = 7_258_118_400_000_000_000;

/// Ends the reading of an input: the error to hand back.
#[derive(Debug)]
pub(crate) struct Stop(pub(crate) Box<InputError>);

/// An element of an array: the JSON pointer of the array, and which one it is.
pub(crate) type Element = Option<(&'static str, u64)>;

/// Where in an input something stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    line: Option<u64>,
    element: Element,
    inside: Option<String>,
}

impl Place {
    /// A line, from 1.
    pub(crate) fn line(line: u64) -> Self {
        Place { line: Some(line), ..Place::default() }
    }

    /// An element of an array that begins on a line.
    pub(crate) fn element(line: u64, element: Element) -> Self {
        Place { line: Some(line), element, inside: None }
    }

    /// An offset in the unpacked input.
    pub(crate) fn byte(offset: u64) -> Self {
        Place { inside: Some(format!("byte {offset}")), ..Place::default() }
    }

    /// The input's end.
    pub(crate) fn end() -> Self {
        Place { inside: Some("end of input".to_owned()), ..Place::default() }
    }

    /// The line, if there is one, else 1.
    pub(crate) fn line_number(&self) -> u64 {
        self.line.unwrap_or(1)
    }

    /// The same place, and where inside the record: a JSON pointer.
    pub(crate) fn inside(&self, pointer: String) -> Self {
        Place { inside: Some(pointer), ..*self }
    }

    /// The `line`-th line (from 1) of the record that begins here.
    pub(crate) fn plus_lines(&self, line: usize) -> Self {
        Place { line: self.line.map(|first| first + (line as u64).saturating_sub(1)), ..self.clone() }
    }

    /// What there is beside the line.
    fn pointer(&self) -> Option<String> {
        let inside = self.inside.as_deref().unwrap_or("");
        match self.element {
            Some((array, index)) => Some(format!("{array}/{index}{inside}")),
            None => self.inside.clone(),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.line, self.pointer()) {
            (Some(line), Some(pointer)) => write!(f, "line {line}, {pointer}"),
            (Some(line), None) => write!(f, "line {line}"),
            (None, pointer) => f.write_str(pointer.as_deref().unwrap_or("somewhere")),
        }
    }
}

/// What one input, or a chunk of it, gives.
pub(crate) struct Inbox<'r> {
    /// The input's name.
    pub(crate) name: &'r str,
    /// The input's number.
    input: u32,
    /// Shared strings.
    pub(crate) names: &'r mut Names,
    /// Where spans go.
    kept: &'r mut Kept,
    /// Whether the first bad record ends the reading.
    pub(crate) strict: bool,
    /// What is counted.
    pub(crate) notes: Notes,
}

/// What is counted while an input is read.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// The format of the first record that was recognised.
    pub(crate) format: Option<Format>,
    /// Records of this input's format that were understood, with or without spans.
    pub(crate) records: u64,
    /// Spans, kept or not.
    pub(crate) spans: u64,
    /// Spans that the source counts together with another one.
    pub(crate) halves: u64,
    /// Services that recorded spans.
    pub(crate) services: BTreeSet<Arc<str>>,
    /// Metric and log records, which are no traces but no mistakes either.
    pub(crate) other_signals: u64,
    /// Bad records.
    pub(crate) skipped: u64,
    /// The first of them.
    pub(crate) skipped_records: Vec<Skipped>,
    /// Spans that were kept with something put right, by what that was.
    pub(crate) mended: BTreeMap<&'static str, u64>,
    /// Calls between services, where the input has no traces but tells of these.
    pub(crate) summary: Option<GraphSummary>,
    /// The first JSON that holds no traces, and its line.
    pub(crate) refusal: Option<(NoTrace, u64)>,
    /// The service of the last span.
    last_service: Arc<str>,
}

/// What a chunk gave, on its way to the inbox of its input.
pub(crate) struct Part {
    names: Names,
    kept: Kept,
    notes: Notes,
    result: Result<(), Stop>,
}

impl<'r> Inbox<'r> {
    /// An empty one for the input of this name and number.
    pub(crate) fn new(name: &'r str, input: u32, names: &'r mut Names, kept: &'r mut Kept, strict: bool) -> Self {
        Inbox { name, input, names, kept, strict, notes: Notes::default() }
    }

    /// A maker of parts as of now: each reads a chunk of this input by itself, on any thread.
    pub(crate) fn parts(&self) -> PartMaker<'r> {
        PartMaker { name: self.name, input: self.input, kept: self.kept.part(), strict: self.strict }
    }

    /// Takes what a part has found. Parts are to be taken in the order of the input.
    pub(crate) fn absorb(&mut self, mut part: Part) -> Result<(), Stop> {
        self.kept.absorb(part.kept, self.input, &part.names, self.names);
        self.names.cut += std::mem::take(&mut part.names.cut);
        let (ours, theirs) = (&mut self.notes, part.notes);
        ours.format = ours.format.or(theirs.format);
        ours.refusal = ours.refusal.or(theirs.refusal);
        ours.records += theirs.records;
        ours.spans += theirs.spans;
        ours.halves += theirs.halves;
        ours.other_signals += theirs.other_signals;
        ours.skipped += theirs.skipped;
        let room = LISTED.saturating_sub(ours.skipped_records.len());
        ours.skipped_records.extend(theirs.skipped_records.into_iter().take(room));
        for (what, count) in theirs.mended {
            *ours.mended.entry(what).or_default() += count;
        }
        if let Some(summary) = theirs.summary {
            ours.summary.get_or_insert_default().absorb(summary);
        }
        for service in theirs.services {
            ours.note_service(&self.names.get(&service));
        }
        part.result
    }
}

/// Makes parts.
pub(crate) struct PartMaker<'r> {
    name: &'r str,
    input: u32,
    kept: Kept,
    strict: bool,
}

impl PartMaker<'_> {
    /// Reads one chunk into a part.
    pub(crate) fn read(&self, read: impl FnOnce(&mut Inbox<'_>) -> Result<(), Stop>) -> Part {
        let (mut names, mut kept) = (Names::default(), self.kept.part());
        let mut inbox = Inbox::new(self.name, self.input, &mut names, &mut kept, self.strict);
        let result = read(&mut inbox);
        let notes = inbox.notes;
        Part { names, kept, notes, result }
    }
}

impl Notes {
    fn note_service(&mut self, service: &Arc<str>) {
        // Neighbours mostly share their service.
        if *self.last_service != **service && self.services.len() < MOST_SERVICES {
            self.services.insert(service.clone());
            self.last_service = service.clone();
        }
    }
}

impl Inbox<'_> {
    /// Counts a record of a format that traces are read from.
    pub(crate) fn recognised(&mut self, format: Format) {
        self.notes.format.get_or_insert(format);
        self.notes.records += 1;
    }

    /// The summary of this input, to be filled.
    pub(crate) fn summary(&mut self) -> &mut GraphSummary {
        self.notes.summary.get_or_insert_default()
    }

    /// Remembers a record that is known to be no trace, for the error if nothing else turns up.
    pub(crate) fn refuse(&mut self, what: NoTrace, line: u64) {
        self.notes.refusal.get_or_insert((what, line));
    }

    /// Whether spans of this trace are kept, as far as is known; where not, [`Inbox::pass_over`] does for them.
    pub(crate) fn keeps(&self, trace_id: u128) -> bool {
        self.kept.keeps(trace_id)
    }

    /// Counts a sound span of a trace that is not kept.
    pub(crate) fn pass_over(&mut self, service: &Arc<str>, is_root: bool) {
        self.notes.spans += 1;
        self.notes.note_service(service);
        self.kept.count(service, is_root);
    }

    /// Takes a span.
    pub(crate) fn push(&mut self, mut span: Span) {
        span.input = self.input;
        if span.links.len() > MOST_LINKS {
            span.links.truncate(MOST_LINKS);
            self.mended("links beyond the first 1024 of a span were left out");
        }
        self.notes.spans += 1;
        self.notes.note_service(&span.service);
        self.kept.push(span);
        self.kept.trim_names(self.names);
    }

    /// Takes the second half of a record that holds two spans.
    pub(crate) fn push_half(&mut self, span: Span) {
        self.notes.halves += 1;
        self.push(span);
    }

    /// Counts a record that had to be left out.
    pub(crate) fn skip(&mut self, place: Place, reason: impl Into<String>) -> Result<(), Stop> {
        let reason = reason.into();
        if self.strict {
            if let (Some((what, line)), None) = (self.notes.refusal, self.notes.format) {
                return Err(Stop(Box::new(detect::refused(self.name, what, line))));
            }
            return Err(Stop(Box::new(InputError {
                file: self.name.to_owned(),
                line: place.line,
                place: place.pointer(),
                found: reason,
                expected: "a whole record of the format".to_owned(),
                help: "without --strict the record is skipped and counted".to_owned(),
            })));
        }
        self.notes.skipped += 1;
        if self.notes.skipped_records.len() < LISTED {
            self.notes.skipped_records.push(Skipped { place: place.to_string(), reason });
        }
        Ok(())
    }

    /// Counts a record that was kept with something put right.
    pub(crate) fn mended(&mut self, what: &'static str) {
        *self.notes.mended.entry(what).or_default() += 1;
    }

    /// Sets a span's start and length from start and end; the error is the reason why no sense can be made of them.
    pub(crate) fn set_times(&mut self, span: &mut Span, start_ns: u64, end_ns: u64) -> Result<(), String> {
        if start_ns > LATEST_NS || end_ns > LATEST_NS {
            return Err("a time later than the year 2200".to_owned());
        }
        (span.start_ns, span.duration_ns) = match (start_ns, end_ns) {
            (start, 0) if start > 0 => {
                self.mended("no end: length set to 0");
                (start, 0)
            }
            (0, end) if end > 1_000_000_000_000_000 => {
                self.mended("no start: set to the end");
                (end, 0)
            }
            (start, end) if end < start => {
                self.mended("ended before its start: length set to 0");
                (start, 0)
            }
            (start, end) => (start, end - start),
        };
        Ok(())
    }

    /// Sets a span's start and length from microseconds; see [`Inbox::set_times`]. What is absent is 0.
    pub(crate) fn set_micros(&mut self, span: &mut Span, start: &Loose<'_>, length: &Loose<'_>) -> Result<(), String> {
        let start_ns = nanos(start).ok_or_else(|| format!("start time {start} is not a number of microseconds"))?;
        let length_ns = nanos(length).ok_or_else(|| format!("duration {length} is not a number of microseconds"))?;
        if start_ns < 0 {
            return Err("a time before 1970".to_owned());
        }
        if start_ns.max(length_ns).max(start_ns + length_ns) > i128::from(LATEST_NS) {
            return Err("a time later than the year 2200".to_owned());
        }
        if *length == Loose::Nothing {
            self.mended("no duration: length set to 0");
        } else if length_ns < 0 {
            self.mended("ended before its start: length set to 0");
        }
        (span.start_ns, span.duration_ns) = (start_ns as u64, length_ns.max(0) as u64);
        Ok(())
    }
}

/// Microseconds as whole nanoseconds; nothing is 0.
fn nanos(micros: &Loose<'_>) -> Option<i128> {
    match micros {
        Loose::Nothing => Some(0),
        Loose::Int(number) => Some(i128::from(*number) * 1000),
        Loose::Big(number) => Some(i128::from(*number) * 1000),
        Loose::Float(number) if number.is_finite() && number.abs() < 1e18 => Some((number * 1000.0).round() as i128),
        Loose::Text(text) => text.trim().parse::<i64>().ok().map(|number| i128::from(number) * 1000),
        _ => None,
    }
}
