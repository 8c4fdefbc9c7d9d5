//! What an input is, by its first bytes; and what to say about one that holds no traces.
//!
//! You are here: `models::trace::detect`. `read` asks here which reader to call; `records` asks what an unknown JSON object is.
//! Always true: names and extensions of files are never looked at.

use super::inbox::Inbox;
use super::source::ZSTD;
use super::wire;
use crate::error::InputError;

/// How protobuf messages follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// One message to the end of the input (the body of an OTLP request).
    Bare,
    /// A varint length before each message.
    Varint,
    /// Four bytes of big-endian length before each message (the collector's file exporter).
    BigEndian,
}

/// What the first bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// JSON, or something that begins like it.
    Json,
    /// OTLP protobuf.
    Protobuf(Framing),
    /// Text that is no JSON: perhaps a table.
    Text,
    /// Neither; in words.
    Other(&'static str),
}

/// Looks at the first (up to 16) bytes of an unpacked input.
pub(crate) fn shape(head: &[u8], frame_limit: usize) -> Shape {
    if head.is_empty() {
        return Shape::Other("nothing: the input is empty");
    }
    if begins_like_json(head) {
        return Shape::Json;
    }
    if let Some(framing) = framing(head, frame_limit) {
        return Shape::Protobuf(framing);
    }
    let is_text = head.iter().all(|&b| b.is_ascii_graphic() || b.is_ascii_whitespace() || b >= 0x80);
    if is_text
        && !matches!(
            head,
            [b'P', b'K', 3, 4, ..]
                | [b'B', b'Z', b'h', ..]
                | [b'P', b'A', b'R', b'1', ..]
                | [b'<', ..]
                | [0xff, 0xfe, ..]
                | [0xfe, 0xff, ..]
        )
    {
        return Shape::Text;
    }
    Shape::Other(match head {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "text in UTF-16",
        [b'P', b'K', 3, 4, ..] => "a zip archive",
        [b'B', b'Z', b'h', ..] => "data compressed by bzip2",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "data compressed by xz",
        [b'P', b'A', b'R', b'1', ..] => "a Parquet file",
        [b'<', ..] => "HTML or XML",
        _ => "binary data of an unknown kind",
    })
}

/// An opening bracket and then something that can follow it in JSON. White space may stand anywhere; one that begins with a line
/// break looks like protobuf for a moment.
fn begins_like_json(head: &[u8]) -> bool {
    let mut visible = head.iter().filter(|byte| !byte.is_ascii_whitespace());
    match visible.next() {
        Some(b'{') => matches!(visible.next(), Some(b'"' | b'}') | None),
        Some(b'[') => matches!(visible.next(), Some(b'{' | b'[' | b']' | b'"' | b'0'..=b'9' | b'n') | None),
        _ => false,
    }
}

/// A message of ours begins with field 1, length-delimited: byte 0x0a. So does the `ResourceSpans` inside, or with its field 2.
fn framing(head: &[u8], frame_limit: usize) -> Option<Framing> {
    const FIELD_1: u8 = 0x0a;
    if let [a, b, c, d, inner @ ..] = head {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let begins = inner.first() == Some(&FIELD_1) || inner.starts_with(&ZSTD) || inner.first() == Some(&b'{');
        if length <= frame_limit && (begins && length > 0 || length == 0 && head.len() == 4) {
            return Some(Framing::BigEndian);
        }
    }
    let (length, inner) = varint(head)?;
    if head[0] == FIELD_1 {
        let (length, inner) = varint(&head[1..])?;
        let known = matches!(inner.first(), Some(0x0a | 0x12 | 0x1a | 0xc2) | None);
        return (known && (length > 0 || inner.is_empty())).then_some(Framing::Bare);
    }
    (length > 1 && inner.first() == Some(&FIELD_1)).then_some(Framing::Varint)
}

/// A varint at the start of `bytes`, and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    wire::varint(bytes).map(|(number, length)| (number, &bytes[length..]))
}

/// A known kind of JSON that holds no traces, or none that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoTrace {
    /// Tempo's answer to a search.
    TempoSearch,
    /// Kiali's graph without an edge.
    EmptyGraph,
    /// An answer of Prometheus with other metrics, or none.
    Prometheus,
    /// Jaeger's storage model as protobuf JSON.
    JaegerApiV2,
    /// A single OTLP span without its resource.
    BareSpan,
    /// An answer that has room for traces and holds none.
    EmptyAnswer,
    /// Anything else.
    Unknown,
}

impl NoTrace {
    /// What it is, for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            NoTrace::TempoSearch => "a Tempo search answer: trace ids and summaries, no whole traces",
            NoTrace::EmptyGraph => "a Kiali graph without any edge",
            NoTrace::Prometheus => "a Prometheus answer without service-graph metrics",
            NoTrace::JaegerApiV2 => "Jaeger's storage form (api_v2 protobuf JSON)",
            NoTrace::BareSpan => "an OTLP span without the resource that says whose it is",
            NoTrace::EmptyAnswer => "an answer without any trace in it",
            NoTrace::Unknown => "JSON of an unknown kind",
        }
    }

    fn help(self) -> &'static str {
        match self {
            NoTrace::TempoSearch => "fetch each trace by its id: GET /api/traces/<traceID>",
            NoTrace::EmptyGraph => "ask for more namespaces or a longer duration",
            NoTrace::Prometheus => "query {__name__=~\"traces_service_graph_request_.*\"} over a range",
            NoTrace::JaegerApiV2 => "save the trace from Jaeger's user interface or GET /api/v3/traces/<id>",
            NoTrace::BareSpan => "give the whole export, with resourceSpans around its spans",
            NoTrace::EmptyAnswer => "widen the time range or raise the limit of the query that made this file",
            NoTrace::Unknown => EXPECTED_HELP,
        }
    }
}

const EXPECTED: &str =
    "traces: OTLP (JSON or protobuf), Jaeger, Tempo or Zipkin JSON, a table of spans, or a graph summary; plain, gzip or zstd";
const EXPECTED_HELP: &str =
    "the collector's file exporter, Jaeger's \"Trace JSON\" and Zipkin's download button write files that can be read";

/// The error for an input that begins with JSON which is no trace.
pub(crate) fn refused(name: &str, what: NoTrace, line: u64) -> InputError {
    InputError {
        file: name.to_owned(),
        line: Some(line),
        place: None,
        found: what.name().to_owned(),
        expected: EXPECTED.to_owned(),
        help: what.help().to_owned(),
    }
}

/// The error for an input in which nothing at all could be read.
pub(crate) fn no_traces(shape: Shape, trouble: Option<&str>, inbox: &Inbox<'_>) -> InputError {
    let error = InputError { file: inbox.name.to_owned(), expected: EXPECTED.to_owned(), ..InputError::default() };
    let (found, help) = match (trouble, shape, inbox.notes.refusal) {
        (Some(trouble), ..) => (trouble.to_owned(), "get a whole copy of the file"),
        (_, Shape::Other(what @ "text in UTF-16"), _) => (what.to_owned(), "save it as UTF-8"),
        (_, Shape::Other(what @ ("a zip archive" | "data compressed by bzip2" | "data compressed by xz")), _) => {
            (what.to_owned(), "unpack it first")
        }
        (_, Shape::Other(what), _) => (what.to_owned(), EXPECTED_HELP),
        (_, Shape::Text, _) if inbox.notes.skipped == 0 => ("text that is not JSON".to_owned(), EXPECTED_HELP),
        (_, _, Some((no_trace, line))) => return refused(inbox.name, no_trace, line),
        _ if inbox.notes.other_signals > 0 => {
            let found = format!("{} records of metrics or logs, and no traces", inbox.notes.other_signals);
            (found, "give the file that the collector's traces pipeline writes")
        }
        _ => match inbox.notes.skipped_records.first() {
            Some(first) => {
                let more = if inbox.notes.skipped > 1 {
                    format!(" (and {} more such records)", inbox.notes.skipped - 1)
                } else {
                    String::new()
                };
                (format!("{}: {}{more}", first.place, first.reason), "no record of this input could be read")
            }
            None => ("no record at all".to_owned(), EXPECTED_HELP),
        },
    };
    InputError { found, help: help.to_owned(), ..error }
}
