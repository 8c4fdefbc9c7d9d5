//! Spans and traces: what every reader produces, whatever the format.
//!
//! You are here: `models::trace`. Readers push [`Span`]s; `assemble` groups them into [`Trace`]s; `learn` reads those.

mod assemble;
mod attributes;
mod batches;
mod canonical;
mod deferred;
mod dependencies;
mod detect;
mod inbox;
mod jaeger;
mod json;
mod json_lines;
mod kept;
mod kiali;
mod loose;
mod names;
mod operation;
mod otlp_fast;
mod otlp_json;
mod otlp_proto;
mod prometheus;
mod read;
mod records;
mod source;
mod spans_csv;
mod summary;
mod wire;
mod zipkin;

pub use assemble::AssemblyNotes;
pub use canonical::{Merged, NameRule, NameRules};
pub use kept::Thinning;
pub use read::{FileNotes, Format, Limits, ReadOptions, Reader, Skipped, TraceSet};
pub use spans_csv::CsvMap;
pub use summary::{CallSummary, GraphSummary, Histogram, Times, Volume};

use std::sync::Arc;

/// What a span's side of an interaction is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Work inside one service, or not said.
    #[default]
    Internal,
    /// The callee's side of a call.
    Server,
    /// The caller's side of a call.
    Client,
    /// The sender's side of a message.
    Producer,
    /// The receiver's side of a message.
    Consumer,
}

/// How a span ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Status {
    /// Not said, or said to be right.
    #[default]
    Ok,
    /// Failed; what is known of why is in [`Span::failure`].
    Error,
}

/// Why a span failed, as far as its attributes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// A deadline passed (gRPC 4, HTTP 408/504, an error type or message that says so).
    Timeout,
    /// Refused, reset or unreachable (gRPC 14, connection errors).
    Connection,
    /// Too much (HTTP 429/503, gRPC 8).
    Overload,
    /// Any other error.
    Other,
}

/// One span. Times are nanoseconds since the Unix epoch; ids are as in OpenTelemetry, zero-padded on the left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    /// Which input it was read from: the number of its file.
    pub input: u32,
    /// 128-bit trace id.
    pub trace_id: u128,
    /// 64-bit span id; two spans of a trace may share one (Zipkin's shared spans).
    pub span_id: u64,
    /// The parent's id; `None` for a root.
    pub parent_id: Option<u64>,
    /// Zipkin: the server half of a span whose client half has the same id.
    pub shared: bool,
    /// The service that recorded it; empty if unknown.
    pub service: Arc<str>,
    /// The replica that recorded it (`service.instance.id`, pod, host); empty if unknown.
    pub instance: Arc<str>,
    /// What it did, in a form fit to group by: method and route, RPC method, database operation; else the span's name.
    pub operation: Arc<str>,
    /// The side.
    pub kind: Kind,
    /// Start.
    pub start_ns: u64,
    /// Length; 0 if the source had none.
    pub duration_ns: u64,
    /// Right or wrong.
    pub status: Status,
    /// Why wrong, if known.
    pub failure: Option<Failure>,
    /// The called service, host, database or broker that the span names; `None` if it names none.
    pub peer: Option<Arc<str>>,
    /// What kind of uninstrumented thing the peer may be.
    pub peer_kind: PeerKind,
    /// `http.request.resend_count` and its kin: 0 for a first try or where nothing is said.
    pub resend: u32,
    /// Tells its user's session from others (a hash of `session.id`, or else of the user's id); 0 where nothing is said.
    pub session: u64,
    /// Recorded by a proxy (Envoy, Istio) beside the application, so that one call shows twice.
    pub proxy: bool,
    /// Messaging destination, for producers and consumers.
    pub destination: Option<Arc<str>>,
    /// Links to other spans (trace id, span id).
    pub links: Vec<(u128, u64)>,
    /// Share of traces that were kept when this one was (head sampling), if the source says.
    pub sampled_share: Option<f64>,
    /// How it was decided that its trace was kept, if the source says.
    pub kept: Kept,
}

/// How it was decided that a trace was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kept {
    /// Not said, or by chance alone.
    #[default]
    ByChance,
    /// As one of so many in a second, whatever the traffic (Jaeger's rate-limiting samplers): how many there were is not told.
    ByRate,
    /// By what it turned out to be: slow, failed, of a certain kind (tail sampling).
    ByPolicy,
}

/// What kind of thing a span's peer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PeerKind {
    /// A service, or unknown.
    #[default]
    Service,
    /// A database or cache (`db.system`).
    Database,
    /// A message broker (`messaging.system`).
    Broker,
}

/// One assembled trace: spans in order of start, with their parents by index.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// 128-bit trace id.
    pub id: u128,
    /// Spans, by start time, then id.
    pub spans: Vec<Span>,
    /// `parent[i]`: index of span i's parent in `spans`; `None` for roots and orphans. Acyclic.
    pub parent: Vec<Option<u32>>,
    /// `orphan[i]`: span i names a parent that is not in the input.
    pub orphan: Vec<bool>,
}
