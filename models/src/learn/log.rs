//! What happened, without spans: requests that services handled, the calls these made, the attempts of each call.
//!
//! You are here: `models::learn::log`. `extract` fills it from spans; the graph and every inference read it alone.
//! Always true: indices are dense and in order of first sight, so the same traces give the same log.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use indexmap::{IndexMap, IndexSet};

use crate::trace::{Failure, Kept, PeerKind};

/// Everything that the traces tell.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Services and uninstrumented leaves by name.
    pub(crate) services: IndexMap<Arc<str>, ServiceSeen>,
    /// Operations: (service, name).
    pub(crate) ops: IndexSet<(u32, Arc<str>)>,
    /// Replicas: (service, name); the name is empty where traces have none.
    pub(crate) instances: IndexSet<(u32, Arc<str>)>,
    /// Topics, one per destination and consuming service.
    pub(crate) topics: Vec<TopicSeen>,
    /// Per topic, its messages: the requests that handled each, in order of start.
    pub(crate) deliveries: BTreeMap<u32, Vec<Vec<u32>>>,
    /// Requests in order of trace and start.
    pub(crate) requests: Vec<Request>,
    /// Calls, those of one request side by side and in order of start.
    pub(crate) calls: Vec<Call>,
    /// Attempts, those of one call side by side and in order of start.
    pub(crate) attempts: Vec<Attempt>,
    /// Id and weight (1 / share kept by sampling) of each trace.
    pub(crate) traces: Vec<TraceSeen>,
    /// Spans read.
    pub(crate) spans: u64,
    /// Spans whose parent is not in the input.
    pub(crate) orphans: u64,
}

/// A service as traces show it.
#[derive(Debug, Default)]
pub(crate) struct ServiceSeen {
    /// It has spans of its own; else only its callers tell of it.
    pub(crate) instrumented: bool,
    /// What kind of thing its callers say it is.
    pub(crate) kind: PeerKind,
}

/// A topic as traces show it.
#[derive(Debug)]
pub(crate) struct TopicSeen {
    /// Its name in the model.
    pub(crate) name: String,
    /// The operation that handles its messages.
    pub(crate) consumer: u32,
}

/// One trace.
#[derive(Debug)]
pub(crate) struct TraceSeen {
    /// Its id, for examples.
    pub(crate) id: u128,
    /// How many traces it stands for.
    pub(crate) weight: f64,
    /// The share of traces kept, if it says so itself.
    pub(crate) share: Option<f64>,
    /// How it was chosen.
    pub(crate) kept: Kept,
    /// The session that it belongs to; 0 if it says none.
    pub(crate) session: u64,
    /// How many spans it has.
    pub(crate) spans: u32,
}

/// Who asked for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody in the traces: users come in here.
    Root,
    /// Somebody whose span is missing.
    Orphan,
    /// A call of another request.
    Called,
    /// A message of a topic, or of an unknown sender.
    Message,
    /// A piece of a request whose own span is missing: good for edges, not for paths.
    Fragment,
}

/// One request to one operation, as the service itself saw it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) op: u32,
    pub(crate) instance: u32,
    pub(crate) trace: u32,
    pub(crate) origin: Origin,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) failed: bool,
    /// Its calls, in [`Log::calls`].
    pub(crate) calls: Range<u32>,
    /// For messages: the topic, once known.
    pub(crate) topic: Option<u32>,
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    /// An operation.
    Op(u32),
    /// A topic, by message.
    Topic(u32),
}

/// One call, retries included.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) target: Target,
    /// Its attempts, in [`Log::attempts`].
    pub(crate) attempts: Range<u32>,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// It failed for good: its last attempt did, or all of a hedged one.
    pub(crate) failed: bool,
    /// Its attempts overlap: further ones were sent before the first had ended.
    pub(crate) hedged: bool,
}

/// One attempt, as the caller saw it.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) failed: bool,
    pub(crate) failure: Option<Failure>,
    /// The callee's request, if it left a span.
    pub(crate) server: Option<u32>,
    /// There is a span of the caller's side: start and end are its own, not the callee's.
    pub(crate) client: bool,
    /// Given up by its caller because another attempt had won.
    pub(crate) cancelled: bool,
    /// Attempts before it, as its client counts them; 0 for the first, and where nobody counts.
    pub(crate) resend: u32,
}

impl Attempt {
    pub(crate) fn duration(&self) -> u64 {
        self.end - self.start
    }
}

impl Request {
    pub(crate) fn duration(&self) -> u64 {
        self.end - self.start
    }

    pub(crate) fn call_indices(&self) -> Range<usize> {
        self.calls.start as usize..self.calls.end as usize
    }
}

impl Log {
    pub(crate) fn calls_of(&self, request: &Request) -> &[Call] {
        &self.calls[request.call_indices()]
    }

    pub(crate) fn attempts_of(&self, call: &Call) -> &[Attempt] {
        &self.attempts[call.attempts.start as usize..call.attempts.end as usize]
    }

    pub(crate) fn service_of(&self, op: u32) -> u32 {
        self.ops[op as usize].0
    }

    pub(crate) fn service_name(&self, service: u32) -> &str {
        self.services.get_index(service as usize).map_or("", |(name, _)| name)
    }

    pub(crate) fn op_name(&self, op: u32) -> &str {
        &self.ops[op as usize].1
    }

    /// The name of the called service or topic.
    pub(crate) fn target_name(&self, target: Target) -> &str {
        match target {
            Target::Op(op) => self.service_name(self.service_of(op)),
            Target::Topic(topic) => &self.topics[topic as usize].name,
        }
    }

    pub(crate) fn instrumented(&self, service: u32) -> bool {
        self.services[service as usize].instrumented
    }

    pub(crate) fn trace_id(&self, request: &Request) -> u128 {
        self.traces[request.trace as usize].id
    }

    /// The index of the service of this name, made if new. An arrow in a name would read as an edge.
    pub(crate) fn service(&mut self, name: &str) -> u32 {
        if let Some(index) = self.services.get_index_of(name) {
            return index as u32;
        }
        let entry = self.services.entry(plain_name(name, "unknown").into());
        let index = entry.index();
        entry.or_default();
        index as u32
    }

    /// The index of the operation, made if new.
    pub(crate) fn op(&mut self, service: u32, name: &Arc<str>) -> u32 {
        let name = if name.trim().is_empty() { "call".into() } else { name.clone() };
        self.ops.insert_full((service, name)).0 as u32
    }
}

/// A name that a model can be written with: no space around it, no arrow in it, not the star that means all. `nameless` for none.
pub(crate) fn plain_name(name: &str, nameless: &str) -> String {
    let mut name = name.trim().to_owned();
    while name.contains("->") {
        name = name.replace("->", "-");
    }
    match name.as_str() {
        "" => nameless.to_owned(),
        "*" => "star".to_owned(),
        _ => name,
    }
}
