//! Reads inputs of any known format and hands back assembled traces.
//!
//! You are here: `models::trace::read`. The command line and `learn` call [`Reader`]; it unpacks (`source`), recognises
//! (`detect`, `records`), holds what the limit allows (`kept`) and assembles (`assemble`).
//! Always true: nothing is dropped silently; one bad record costs that record.
//! Not here: opening files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;

use rayon::prelude::*;

use super::assemble::{self, AssemblyNotes};
use super::canonical::{self, Merged, NameRules};
use super::detect::{self, Shape};
use super::inbox::{Inbox, Notes, Place, Stop};
use super::kept::{Kept, Thinning};
use super::names::Names;
use super::source::Source;
use super::spans_csv::{self, CsvMap};
use super::summary::GraphSummary;
use super::{Span, Trace, json_lines, otlp_proto};
use crate::error::InputErrors;

/// How to read.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Stop at the first bad record.
    pub strict: bool,
    /// Which column of a table is what; `None`: as its header tells, if it is a known one.
    pub csv_map: Option<CsvMap>,
    /// What a person says about the names of services.
    pub names: NameRules,
    /// What no input may exceed.
    pub limits: Limits,
}

/// Longest row of a table.
const MAX_ROW: usize = 4 << 20;

/// What no input may exceed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes that one compressed input may grow to.
    pub unpacked_bytes: u64,
    /// Most bytes that one byte of a compressed input may grow to, on average.
    pub expansion: u64,
    /// Bytes from which on `expansion` is looked at.
    pub ratio_free_bytes: u64,
    /// Longest protobuf frame.
    pub frame_bytes: usize,
    /// Longest JSON value that has to be held at once (an element of `resourceSpans`, a Jaeger trace, a Zipkin span).
    pub value_bytes: usize,
    /// Most spans of all inputs together that are held, which is what bounds memory. Of more, whole traces are kept, chosen by their
    /// ids, and rates are counted from all.
    pub kept_spans: usize,
    /// Most spans of one trace that are held: those that begin first.
    pub trace_spans: usize,
}

impl Default for Limits {
    /// 4 GiB unpacked, 1000 : 1 after the first 10 MiB, frames of 64 MiB, values of 64 MiB, a million spans kept, 100,000 of
    /// one trace.
    fn default() -> Self {
        Limits {
            unpacked_bytes: 4 << 30,
            expansion: 1000,
            ratio_free_bytes: 10 << 20,
            frame_bytes: 64 << 20,
            value_bytes: 64 << 20,
            kept_spans: 1_000_000,
            trace_spans: 100_000,
        }
    }
}

/// The formats that traces are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// OTLP as JSON.
    OtlpJson,
    /// OTLP as protobuf.
    OtlpProtobuf,
    /// What Jaeger's user interface saves.
    JaegerJson,
    /// Zipkin, version 2.
    ZipkinV2,
    /// Zipkin, version 1.
    ZipkinV1,
    /// Call counts between services, of Jaeger or Zipkin: no spans.
    Dependencies,
    /// Kiali's graph: rates between workloads, no spans.
    KialiGraph,
    /// `traces_service_graph_*` metrics in an answer of Prometheus: no spans.
    ServiceGraphMetrics,
    /// A table of spans.
    Csv,
}

impl Format {
    /// A short name: `otlp-json`, `zipkin-v2`.
    pub fn name(self) -> &'static str {
        match self {
            Format::OtlpJson => "otlp-json",
            Format::OtlpProtobuf => "otlp-protobuf",
            Format::JaegerJson => "jaeger-json",
            Format::ZipkinV2 => "zipkin-v2",
            Format::ZipkinV1 => "zipkin-v1",
            Format::Dependencies => "dependencies",
            Format::KialiGraph => "kiali-graph",
            Format::ServiceGraphMetrics => "service-graph-metrics",
            Format::Csv => "csv",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A record that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Where it stood: a line, a JSON pointer, a byte offset (of the unpacked input).
    pub place: String,
    /// Why it was left out.
    pub reason: String,
}

/// What one input gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileNotes {
    /// The input, as the user named it.
    pub path: String,
    /// Its format.
    pub format: Format,
    /// Distinct traces in it; an estimate if not all spans were kept.
    pub traces: u64,
    /// Spans in it as the format counts them: duplicates included, the two halves of a Zipkin v1 call as one.
    pub spans: u64,
    /// Distinct services in it.
    pub services: u64,
    /// Pairs of caller and callee that a graph summary tells of; 0 for traces.
    pub edges: u64,
    /// Records left out.
    pub skipped: u64,
    /// The first 100 of them.
    pub skipped_records: Vec<Skipped>,
    /// Metric and log records beside the traces.
    pub other_signals: u64,
    /// Spans that were kept with something put right, by what that was.
    pub mended: BTreeMap<&'static str, u64>,
}

/// Everything that was read.
#[derive(Clone, Debug, Default)]
pub struct TraceSet {
    /// Traces by first start, then id.
    pub traces: Vec<Trace>,
    /// Calls between services that inputs tell of without traces.
    pub summaries: Vec<GraphSummary>,
    /// What each input gave.
    pub files: Vec<FileNotes>,
    /// Names that were taken as another one.
    pub merged_names: Vec<Merged>,
    /// What assembly found and did.
    pub assembly: AssemblyNotes,
    /// What share of the spans is in `traces`; `None`: all.
    pub thinning: Option<Thinning>,
}

impl TraceSet {
    /// Spans in all traces.
    pub fn spans(&self) -> u64 {
        self.traces.iter().map(|trace| trace.spans.len() as u64).sum()
    }

    /// Distinct services in all traces, sorted.
    pub fn services(&self) -> Vec<&str> {
        let all = self.traces.iter().flat_map(|trace| &trace.spans);
        distinct_services(all).into_iter().collect()
    }
}

/// Collects the spans of many inputs.
#[derive(Debug, Default)]
pub struct Reader {
    options: ReadOptions,
    names: Names,
    kept: Kept,
    summaries: Vec<GraphSummary>,
    files: Vec<FileNotes>,
}

impl Reader {
    /// A reader that has read nothing yet.
    pub fn new(options: ReadOptions) -> Self {
        Reader { kept: Kept::new(&options.limits), options, ..Reader::default() }
    }

    /// Reads one input under the name the user knows it by; compression and format are recognised by content. Traces may be
    /// spread over inputs. Large inputs are read by all threads of the pool that this is called in.
    ///
    /// An error means that the input gave nothing, or, under `strict`, that it holds a bad record.
    pub fn read(&mut self, name: &str, input: impl Read + Send) -> Result<(), InputErrors> {
        let number = self.files.len() as u32;
        let mut inbox = Inbox::new(name, number, &mut self.names, &mut self.kept, self.options.strict);
        let format = read_input(input, &self.options, &mut inbox)?;
        let notes = inbox.notes;
        self.put_away(name, format, notes);
        Ok(())
    }

    /// Reads several inputs side by side, to the same end as one after the other. Meant for many small ones.
    pub fn read_together<I: Read + Send>(&mut self, inputs: Vec<(String, I)>) -> Vec<Result<(), InputErrors>> {
        let (options, empty) = (&self.options, &self.kept.part());
        let read = |(name, input): (String, I)| {
            let (mut names, mut kept) = (Names::default(), empty.part());
            let mut inbox = Inbox::new(&name, 0, &mut names, &mut kept, options.strict);
            let format = read_input(input, options, &mut inbox);
            let notes = inbox.notes;
            format.map(|format| (name, format, notes, names, kept))
        };
        let all: Vec<_> = inputs.into_par_iter().with_max_len(1).map(read).collect();
        let put_away = |read: Result<(String, Format, Notes, Names, Kept), InputErrors>| {
            let (name, format, notes, names, kept) = read?;
            self.kept.absorb(kept, self.files.len() as u32, &names, &mut self.names);
            self.put_away(&name, format, notes);
            Ok(())
        };
        all.into_iter().map(put_away).collect()
    }

    /// Notes what one input gave; how many traces is known at the end.
    fn put_away(&mut self, name: &str, format: Format, notes: Notes) {
        let Notes { spans, halves, services, other_signals, skipped, skipped_records, mended, summary, .. } = notes;
        let summarised = summary.as_ref().map_or(0, |summary| summary.services().len() as u64);
        self.files.push(FileNotes {
            path: name.to_owned(),
            format,
            traces: 0,
            spans: spans - halves,
            services: services.iter().filter(|service| !service.is_empty()).count() as u64 + summarised,
            edges: summary.as_ref().map_or(0, |summary| summary.calls.len() as u64),
            skipped,
            skipped_records,
            other_signals,
            mended,
        });
        self.summaries.extend(summary);
    }

    /// Assembles all spans that were kept into traces.
    pub fn finish(self) -> TraceSet {
        let Reader { options, kept, mut names, mut summaries, mut files } = self;
        let (mut shards, mut thinning) = kept.finish(&names);
        let merged_names = canonical::unify(&mut shards, &mut summaries, &options.names, &mut names);
        if let Some(thinning) = &mut thinning {
            thinning.rename(&merged_names);
        }
        drop(names);
        let (traces, assembly, by_input) = assemble::assemble(shards);
        let share = thinning.as_ref().map_or(1.0, |thinning| thinning.share);
        for (input, kept) in by_input {
            if let Some(file) = files.get_mut(input as usize) {
                file.traces = (kept as f64 / share).round() as u64;
            }
        }
        TraceSet { traces, summaries, files, merged_names, assembly, thinning }
    }
}

/// Reads one input into an inbox; says what format it has.
fn read_input(input: impl Read + Send, options: &ReadOptions, inbox: &mut Inbox<'_>) -> Result<Format, InputErrors> {
    let limits = &options.limits;
    let (source, head) = Source::open(input, limits);
    let shape = detect::shape(&head, limits.frame_bytes);
    let source = match shape {
        Shape::Json => json_lines::read_all(source, limits.value_bytes, inbox)?,
        Shape::Protobuf(framing) => otlp_proto::read_all(source, framing, limits, inbox)?,
        Shape::Text => spans_csv::read_all(source, options.csv_map.as_ref(), limits.value_bytes.min(MAX_ROW), inbox)?,
        Shape::Other(_) => source,
    };
    let format = match inbox.notes.format {
        Some(format) if inbox.notes.spans > 0 || inbox.notes.summary.is_some() || inbox.notes.skipped == 0 => format,
        _ => return Err(detect::no_traces(shape, source.trouble(), inbox).into()),
    };
    if let Some(trouble) = source.trouble() {
        inbox.skip(Place::end(), trouble)?;
    }
    let cut = std::mem::take(&mut inbox.names.cut);
    if cut > 0 {
        inbox.notes.mended.insert("a name longer than 4096 bytes was cut", cut);
    }
    Ok(format)
}

/// The names of the services in `spans`, each once.
fn distinct_services<'s>(spans: impl IntoIterator<Item = &'s Span>) -> BTreeSet<&'s str> {
    let mut services = BTreeSet::new();
    let mut last = "";
    for span in spans {
        // Neighbours mostly share their service.
        if *span.service != *last {
            services.insert(&*span.service);
            last = &span.service;
        }
    }
    services.remove("");
    services
}

impl From<Stop> for InputErrors {
    fn from(stop: Stop) -> Self {
        InputErrors::from(*stop.0)
    }
}
