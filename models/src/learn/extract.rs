//! From spans to requests, calls and attempts.
//!
//! You are here: `models::learn::extract`. A request is what a service handled: a server or consumer span, or the first span of a
//! trace in a service where kinds are missing. A call is what a request asked of somebody else.
//! Always true: every span below a request is looked at once; recursion is a stack, so depth costs no stack frames.
//! Not here: which attempts are one call, and what an unnamed callee is (`resolve`).

use std::sync::Arc;

use super::crowds::Crowds;
use super::log::{Log, Origin, Request, TraceSeen};
use super::recordings::Recordings;
use crate::trace::{Failure, Kind, PeerKind, Span, Status, Trace, TraceSet};

/// A try or a message before its callee is known.
#[derive(Debug)]
pub(crate) struct Raw {
    /// The request that made it.
    pub(crate) caller: u32,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) failed: bool,
    pub(crate) failure: Option<Failure>,
    pub(crate) resend: u32,
    /// The callee's requests below the caller's span, in order of start; several are retries inside one client call.
    pub(crate) servers: Vec<u32>,
    /// The caller's side left a span.
    pub(crate) client: bool,
    /// What the caller's span calls the other side.
    pub(crate) peer: Option<Arc<str>>,
    pub(crate) peer_kind: PeerKind,
    pub(crate) operation: Arc<str>,
    /// A message: its destination.
    pub(crate) message: Option<Arc<str>>,
    /// The span's ids, which consumers link to.
    pub(crate) span: (u128, u64),
}

/// A consumer's request and the senders it names.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) request: u32,
    pub(crate) senders: Vec<(u128, u64)>,
    pub(crate) destination: Option<Arc<str>>,
}

/// What one pass over the spans gives.
#[derive(Debug, Default)]
pub(crate) struct Extracted {
    pub(crate) log: Log,
    pub(crate) raw: Vec<Raw>,
    pub(crate) deliveries: Vec<Delivery>,
}

/// Reads all traces. `sampling`: the share of traces that was kept at the source, where the traces do not say themselves; what the
/// reader left out counts besides.
/// `recordings` sets traces of separate recordings apart in time.
/// `crowds` says what things are called of which there are too many.
pub(crate) fn extract(traces: &TraceSet, recordings: &Recordings, crowds: &Crowds, sampling: Option<f64>) -> Extracted {
    let mut out = Extracted::default();
    for trace in &traces.traces {
        let share = trace.spans.iter().find_map(|s| s.sampled_share).filter(|&s| s > 0.0 && s <= 1.0);
        let kept = trace.spans.iter().map(|s| s.kept).max().unwrap_or_default();
        let thinned = traces.thinning.as_ref().map_or(1.0, |thinning| thinning.weight(trace));
        let weight = thinned / sampling.or(share).unwrap_or(1.0).clamp(1e-9, 1.0);
        let session = trace.spans.iter().map(|s| s.session).find(|&session| session != 0).unwrap_or(0);
        out.log.traces.push(TraceSeen { id: trace.id, weight, share, kept, session, spans: trace.spans.len() as u32 });
        out.log.spans += trace.spans.len() as u64;
        out.log.orphans += trace.orphan.iter().filter(|&&o| o).count() as u64;
        Walk::new(trace, recordings.shift_ns(trace), crowds).run(&mut out);
    }
    out
}

/// How many spans below a client's span are searched for its callee.
const MOST_BELOW: usize = 10_000;

/// What a span is to us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A service's handling of a request; its index.
    Request(u32),
    /// Part of the request above it.
    Inner,
}

/// One trace on its way through.
struct Walk<'a> {
    trace: &'a Trace,
    crowds: &'a Crowds,
    /// Added to all its times, in nanoseconds.
    shift: u64,
    /// Children of span i: `children[first[i]..first[i + 1]]`, in order of start.
    first: Vec<u32>,
    children: Vec<u32>,
    roles: Vec<Role>,
}

impl<'a> Walk<'a> {
    fn new(trace: &'a Trace, shift: u64, crowds: &'a Crowds) -> Self {
        let n = trace.spans.len();
        let mut first = vec![0_u32; n + 1];
        for parent in trace.parent.iter().flatten() {
            first[*parent as usize + 1] += 1;
        }
        for i in 0..n {
            first[i + 1] += first[i];
        }
        let mut next = first.clone();
        let mut children = vec![0; first[n] as usize];
        for (i, parent) in trace.parent.iter().enumerate() {
            if let Some(p) = parent {
                children[next[*p as usize] as usize] = i as u32;
                next[*p as usize] += 1;
            }
        }
        Walk { trace, crowds, shift, first, children, roles: vec![Role::Inner; n] }
    }

    fn span(&self, i: u32) -> &'a Span {
        &self.trace.spans[i as usize]
    }

    fn is_request(&self, i: u32) -> bool {
        matches!(self.roles[i as usize], Role::Request(_))
    }

    fn children_of(&self, i: u32) -> &[u32] {
        &self.children[self.first[i as usize] as usize..self.first[i as usize + 1] as usize]
    }

    fn run(&mut self, out: &mut Extracted) {
        let begin = out.log.requests.len() as u32;
        let mut spans = Vec::new();
        for i in 0..self.trace.spans.len() as u32 {
            if let Some(origin) = self.request_origin(i) {
                self.roles[i as usize] = Role::Request(begin + spans.len() as u32);
                self.push_request(i, origin, out);
                spans.push(i);
            }
        }
        for (request, &i) in (begin..).zip(&spans) {
            self.collect(i, request, out);
        }
    }

    /// Whether the span is a request, and of whom.
    fn request_origin(&self, i: u32) -> Option<Origin> {
        let span = self.span(i);
        let Some(p) = self.trace.parent[i as usize] else {
            return Some(match (self.trace.orphan[i as usize], span.kind) {
                (_, Kind::Consumer) => Origin::Message,
                (false, _) => Origin::Root,
                (true, Kind::Server) => Origin::Orphan,
                (true, _) => Origin::Fragment,
            });
        };
        let parent = self.span(p);
        let elsewhere = parent.service != span.service;
        match span.kind {
            // A sidecar's view of a request that the application shows itself.
            Kind::Server
                if span.proxy
                    && self.children_of(i).iter().any(|&c| !self.span(c).proxy && self.span(c).kind == Kind::Server) =>
            {
                None
            }
            Kind::Server => (elsewhere || matches!(parent.kind, Kind::Client | Kind::Producer)).then_some(Origin::Called),
            Kind::Consumer => {
                (elsewhere || parent.kind == Kind::Producer || parent.kind != Kind::Consumer && !span.links.is_empty())
                    .then_some(Origin::Message)
            }
            // A sidecar's copy of the application's own call.
            Kind::Client if span.proxy && !parent.proxy && parent.kind == Kind::Client => None,
            _ => elsewhere.then_some(Origin::Called),
        }
    }

    fn push_request(&self, i: u32, origin: Origin, out: &mut Extracted) {
        let span = self.span(i);
        let log = &mut out.log;
        let service = log.service(self.crowds.service(&span.service));
        log.services[service as usize].instrumented = true;
        let op = log.op(service, self.crowds.operation(&span.service, &span.operation));
        let instance = log.instances.insert_full((service, span.instance.clone())).0 as u32;
        if origin == Origin::Message {
            let parent = self.trace.parent[i as usize].map(|p| self.span(p)).filter(|p| p.kind == Kind::Producer);
            let mut senders = span.links.clone();
            if senders.is_empty() {
                senders.extend(parent.map(|p| (p.trace_id, p.span_id)));
            }
            let destination = span.destination.clone().or_else(|| parent.and_then(|p| p.destination.clone()));
            out.deliveries.push(Delivery { request: log.requests.len() as u32, senders, destination });
        }
        log.requests.push(Request {
            op,
            instance,
            trace: log.traces.len() as u32 - 1,
            origin,
            start: span.start_ns + self.shift,
            end: span.start_ns + self.shift + span.duration_ns,
            failed: span.status == Status::Error,
            calls: 0..0,
            topic: None,
        });
    }

    /// Finds the calls that the request at span `root` made.
    fn collect(&self, root: u32, request: u32, out: &mut Extracted) {
        let span = self.span(root);
        // A trace that begins with a client's span: the client itself is the request, its span the call.
        let alone = matches!(span.kind, Kind::Client | Kind::Producer) && self.trace.parent[root as usize].is_none();
        let mut stack: Vec<u32> = if alone { vec![root] } else { self.children_of(root).to_vec() };
        while let Some(i) = stack.pop() {
            if !self.take(i, i == root, request, out) {
                stack.extend_from_slice(self.children_of(i));
            }
        }
    }

    /// Takes span `i` as a call of `request` if it is one; `false`: look at its children instead.
    fn take(&self, i: u32, is_root: bool, request: u32, out: &mut Extracted) -> bool {
        let span = self.span(i);
        if let (Role::Request(server), false) = (self.roles[i as usize], is_root) {
            let raw = match span.kind {
                Kind::Consumer => Raw { message: Some(destination(span)), ..self.raw(i, request, Vec::new()) },
                _ => self.unpaired_server(i, server, request, out),
            };
            // A consumer below something that is no producer: its own ids stand for the sender's.
            if span.kind == Kind::Consumer
                && let Some(delivery) = out.deliveries.iter_mut().rev().find(|d| d.request == server)
                && delivery.senders.is_empty()
            {
                delivery.senders.push(raw.span);
                out.raw.push(Raw { end: raw.start, failed: false, client: false, ..raw });
            } else if span.kind != Kind::Consumer {
                out.raw.push(raw);
            }
            return true;
        }
        if span.kind == Kind::Producer {
            out.raw.push(Raw { message: Some(destination(span)), ..self.raw(i, request, Vec::new()) });
            return true;
        }
        let children = self.children_of(i);
        let is_call = match span.kind {
            Kind::Client => true,
            // Without kinds, a span whose only child is another service's request is the caller's side of it.
            Kind::Internal => match children {
                [] => span.peer.is_some(),
                [only] => self.is_request(*only) && self.span(*only).kind != Kind::Consumer,
                _ => false,
            },
            _ => false,
        };
        if !is_call {
            return false;
        }
        let (servers, inner_clients) = self.below(i);
        // A client span around other client spans only wraps them, unless the callee is named by it alone.
        let direct = children.iter().any(|&c| self.is_request(c));
        let wraps = inner_clients && !direct && (!servers.is_empty() || span.peer.is_none());
        let one_callee = servers.windows(2).all(|w| self.span(w[0].0).service == self.span(w[1].0).service);
        if wraps || !one_callee {
            return false;
        }
        out.raw.push(self.raw(i, request, servers.into_iter().map(|(_, r)| r).collect()));
        true
    }

    /// Requests reached from span `i` without passing through another request, in order of start; and whether client spans lie between.
    /// Looks at [`MOST_BELOW`] spans at most, so that chains of client spans stay cheap.
    fn below(&self, i: u32) -> (Vec<(u32, u32)>, bool) {
        let (mut servers, mut clients) = (Vec::new(), false);
        let mut stack: Vec<u32> = self.children_of(i).to_vec();
        let mut looked = 0;
        while let Some(c) = stack.pop() {
            looked += 1;
            if looked > MOST_BELOW {
                break;
            }
            match self.roles[c as usize] {
                Role::Request(r) if self.span(c).kind != Kind::Consumer => servers.push((c, r)),
                Role::Request(_) => {}
                Role::Inner => {
                    clients |= self.span(c).kind == Kind::Client;
                    stack.extend_from_slice(self.children_of(c));
                }
            }
        }
        servers.sort_unstable();
        (servers, clients)
    }

    fn raw(&self, i: u32, caller: u32, servers: Vec<u32>) -> Raw {
        let span = self.span(i);
        Raw {
            caller,
            start: span.start_ns + self.shift,
            end: span.start_ns + self.shift + span.duration_ns,
            failed: span.status == Status::Error,
            failure: span.failure,
            resend: span.resend,
            servers,
            client: true,
            peer: span.peer.as_ref().map(|peer| self.crowds.service(peer).clone()),
            peer_kind: span.peer_kind,
            operation: self.crowds.operation(&span.service, &span.operation).clone(),
            message: None,
            span: (span.trace_id, span.span_id),
        }
    }

    /// A callee's request without a span of the caller's side. Its clock may be off: what began before its caller is moved into it.
    fn unpaired_server(&self, i: u32, server: u32, caller: u32, out: &Extracted) -> Raw {
        let mut raw = Raw { client: false, ..self.raw(i, caller, vec![server]) };
        let caller = &out.log.requests[caller as usize];
        if raw.start < caller.start {
            let length = raw.end - raw.start;
            let room = caller.duration().saturating_sub(length);
            raw.start = caller.start + room / 2;
            raw.end = raw.start + length;
        }
        raw
    }
}

/// Where a message goes.
fn destination(span: &Span) -> Arc<str> {
    span.destination.clone().or_else(|| span.peer.clone()).unwrap_or_else(|| span.operation.clone())
}
