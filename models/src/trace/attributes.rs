//! What attributes say, whatever the format: side, operation, peer, failure, retry, replica.
//!
//! You are here: `models::trace::attributes`. Every format reader notes its key/value pairs in a [`Facts`] and lets it fill the
//! span. Old and new names of the semantic conventions are both known; the newer one wins.
//! Not here: how a format writes values, or what the parent of a span is.

use std::borrow::Cow;
use std::sync::Arc;

use super::names::Names;
use super::operation::{name_template, path_template};
use super::{Failure, Kept, Kind, PeerKind, Span, Status};
use crate::rng::mix;

/// The value of an attribute.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Value<'a> {
    /// Text.
    Str(Cow<'a, str>),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// A list, a map, bytes or nothing: no fact needed here has these.
    #[default]
    Other,
}

impl<'a> Value<'a> {
    /// Text, if there is any.
    fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Value::Str(text) if !text.is_empty() => Some(text),
            Value::Int(number) => Some(number.to_string().into()),
            _ => None,
        }
    }

    /// A whole number, also one written as text.
    fn int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            Value::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => Some(*number as i64),
            Value::Str(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// Any number, also one written as text.
    fn float(&self) -> Option<f64> {
        match self {
            Value::Int(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            Value::Str(text) => text.trim().parse().ok(),
            _ => None,
        }
    }
}

/// What a status field says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum StatusCode {
    /// Nothing: the codes decide.
    #[default]
    Unset,
    /// The application says it went well: that wins over codes.
    Ok,
    /// It failed.
    Error,
}

/// Keeps the best-ranked of the names that a fact goes by.
#[derive(Clone, Debug)]
struct Best<T> {
    rank: u8,
    value: Option<T>,
}

impl<T> Default for Best<T> {
    fn default() -> Self {
        Best { rank: u8::MAX, value: None }
    }
}

impl<T> Best<T> {
    /// Takes `value` if it is there and its name ranks before the present one's.
    fn offer(&mut self, rank: u8, value: Option<T>) {
        if rank < self.rank && value.is_some() {
            *self = Best { rank, value };
        }
    }
}

/// Who recorded spans: facts that a resource (a process) states once for all its spans.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder {
    /// The service; empty if unknown.
    pub(crate) service: Arc<str>,
    /// The replica; empty if unknown.
    pub(crate) instance: Arc<str>,
}

/// Collects the facts of one resource.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecorderFacts<'a> {
    service: Best<Cow<'a, str>>,
    instance: Best<Cow<'a, str>>,
    host: Option<Cow<'a, str>>,
    pid: Option<i64>,
}

impl<'a> RecorderFacts<'a> {
    /// Takes one attribute of the resource.
    pub(crate) fn note(&mut self, key: &str, value: Value<'a>) {
        match key {
            "service.name" => self.service.offer(0, value.text()),
            "service.instance.id" => self.instance.offer(0, value.text()),
            "k8s.pod.name" => self.instance.offer(1, value.text()),
            "k8s.pod.uid" => self.instance.offer(2, value.text()),
            "container.id" => self.instance.offer(4, value.text()),
            "hostname" => self.instance.offer(5, value.text()),
            "ip" => self.instance.offer(6, value.text()),
            "host.name" => self.host = value.text(),
            "process.pid" => self.pid = value.int(),
            _ => {}
        }
    }

    /// The service's name where the format has a place of its own for it; wins over attributes.
    pub(crate) fn named(&mut self, service: Cow<'a, str>) {
        if !service.is_empty() {
            self.service = Best { rank: 0, value: Some(service) };
        }
    }

    /// Who it is.
    pub(crate) fn recorder(mut self, names: &mut Names) -> Recorder {
        if let Some(host) = self.host {
            let rank = 3;
            match self.pid {
                Some(pid) => self.instance.offer(rank, Some(format!("{host}/{pid}").into())),
                None => self.instance.offer(rank, Some(host)),
            }
        }
        Recorder {
            service: names.get(self.service.value.as_deref().unwrap_or("").trim()),
            instance: names.get(self.instance.value.as_deref().unwrap_or("").trim()),
        }
    }
}

/// A hash that is never 0: FNV-1a, finished so that all its bits differ.
fn hash(text: &str) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
    mix(text.bytes().fold(0xCBF2_9CE4_8422_2325, fold)).max(1)
}

/// Collects the facts of one span.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts<'a> {
    kind: Option<Kind>,
    http_method: Best<Cow<'a, str>>,
    route: Best<Cow<'a, str>>,
    url: Best<Cow<'a, str>>,
    http_status: Best<i64>,
    rpc_system: Best<Cow<'a, str>>,
    rpc_service: Option<Cow<'a, str>>,
    rpc_method: Option<Cow<'a, str>>,
    rpc_status: Best<Cow<'a, str>>,
    db_system: Best<Cow<'a, str>>,
    db_namespace: Best<Cow<'a, str>>,
    db_operation: Best<Cow<'a, str>>,
    db_collection: Best<Cow<'a, str>>,
    messaging_system: Option<Cow<'a, str>>,
    messaging_operation: Best<Cow<'a, str>>,
    destination: Best<Cow<'a, str>>,
    peer_service: Best<Cow<'a, str>>,
    host: Best<Cow<'a, str>>,
    port: Best<i64>,
    resend: Best<i64>,
    session: Best<u64>,
    error_text: Best<Cow<'a, str>>,
    response_flags: Option<Cow<'a, str>>,
    error_tag: bool,
    status: StatusCode,
    proxy: bool,
    sampler_probabilistic: bool,
    kept: Kept,
    sampler_share: Option<f64>,
    sampled_share: Option<f64>,
}

impl<'a> Facts<'a> {
    /// Takes one attribute of the span.
    pub(crate) fn note(&mut self, key: &str, value: Value<'a>) {
        match key {
            "span.kind" => self.kind = value.text().and_then(|text| kind_named(&text)),
            "http.request.method" => self.http_method.offer(0, value.text()),
            "http.method" => self.http_method.offer(1, value.text()),
            "http.route" => self.route.offer(0, value.text()),
            "url.template" => self.route.offer(1, value.text()),
            "url.path" => self.url.offer(0, value.text()),
            "url.full" => self.url.offer(1, value.text()),
            "http.target" => self.url.offer(2, value.text()),
            "http.path" => self.url.offer(3, value.text()),
            "http.url" => self.url.offer(4, value.text()),
            "http.response.status_code" => self.http_status.offer(0, value.int()),
            "http.status_code" => self.http_status.offer(1, value.int()),
            "rpc.system.name" => self.rpc_system.offer(0, value.text()),
            "rpc.system" => self.rpc_system.offer(1, value.text()),
            "rpc.service" => self.rpc_service = value.text(),
            "rpc.method" => self.rpc_method = value.text(),
            "grpc.service" if self.rpc_service.is_none() => self.rpc_service = value.text(),
            "grpc.method" if self.rpc_method.is_none() => self.rpc_method = value.text(),
            "rpc.status_code" => self.rpc_status.offer(0, value.text()),
            "rpc.response.status_code" => self.rpc_status.offer(1, value.text()),
            "rpc.grpc.status_code" => self.rpc_status.offer(2, value.text()),
            "grpc.status_code" => self.rpc_status.offer(3, value.text()),
            "grpc.code" => self.rpc_status.offer(4, value.text()),
            "db.system.name" => self.db_system.offer(0, value.text()),
            "db.system" => self.db_system.offer(1, value.text()),
            "db.type" => self.db_system.offer(2, value.text()),
            "db.namespace" => self.db_namespace.offer(0, value.text()),
            "db.name" => self.db_namespace.offer(1, value.text()),
            "db.instance" => self.db_namespace.offer(2, value.text()),
            "db.operation.name" => self.db_operation.offer(0, value.text()),
            "db.operation" => self.db_operation.offer(1, value.text()),
            "db.collection.name" => self.db_collection.offer(0, value.text()),
            "db.sql.table" => self.db_collection.offer(1, value.text()),
            "db.mongodb.collection" => self.db_collection.offer(2, value.text()),
            "messaging.system" => self.messaging_system = value.text(),
            "messaging.operation.name" => self.messaging_operation.offer(0, value.text()),
            "messaging.operation.type" => self.messaging_operation.offer(1, value.text()),
            "messaging.operation" => self.messaging_operation.offer(2, value.text()),
            "messaging.destination.name" => self.destination.offer(0, value.text()),
            "messaging.destination" => self.destination.offer(1, value.text()),
            "message_bus.destination" => self.destination.offer(2, value.text()),
            "kafka.topic" => self.destination.offer(3, value.text()),
            "service.peer.name" => self.peer_service.offer(0, value.text()),
            "peer.service" => self.peer_service.offer(1, value.text()),
            "server.address" => self.host.offer(0, value.text()),
            "net.peer.name" => self.host.offer(1, value.text()),
            "peer.hostname" => self.host.offer(2, value.text()),
            "upstream_cluster.name" => self.host.offer(3, value.text().map(cluster_host)),
            "upstream_cluster" => self.host.offer(4, value.text().map(cluster_host)),
            "out.host" => self.host.offer(5, value.text()),
            "peer.address" => self.host.offer(6, value.text()),
            "net.peer.ip" | "net.sock.peer.addr" | "peer.ipv4" | "peer.ipv6" => self.host.offer(7, value.text()),
            "network.peer.address" => self.host.offer(8, value.text()),
            "http.host" => self.host.offer(9, value.text()),
            "server.port" => self.port.offer(0, value.int()),
            "net.peer.port" => self.port.offer(1, value.int()),
            "peer.port" => self.port.offer(2, value.int()),
            "network.peer.port" | "net.sock.peer.port" => self.port.offer(3, value.int()),
            "http.request.resend_count" => self.resend.offer(0, value.int()),
            "http.resend_count" => self.resend.offer(1, value.int()),
            "http.retry_count" => self.resend.offer(2, value.int()),
            "retry.count" => self.resend.offer(3, value.int()),
            "session.id" => self.session.offer(0, value.text().map(|id| hash(&id))),
            "user.id" => self.session.offer(1, value.text().map(|id| hash(&id))),
            "enduser.id" => self.session.offer(2, value.text().map(|id| hash(&id))),
            "error.type" => self.error_text.offer(0, value.text()),
            "otel.status_description" => self.error_text.offer(2, value.text()),
            "error.message" => self.error_text.offer(3, value.text()),
            "exception.type" => self.error_text.offer(4, value.text()),
            "exception.message" => self.error_text.offer(5, value.text()),
            "error.kind" => self.error_text.offer(6, value.text()),
            "error.object" => self.error_text.offer(7, value.text()),
            "response_flags" => self.response_flags = value.text().filter(|flags| flags != "-"),
            "error" => self.note_error_tag(value),
            "otel.status_code" => match value.text().as_deref() {
                Some("ERROR") => self.status = StatusCode::Error,
                Some("OK") => self.status = StatusCode::Ok,
                _ => {}
            },
            "otel.scope.name" | "otel.library.name" => self.note_scope(value.text().as_deref().unwrap_or("")),
            "w3c.tracestate" => self.note_trace_state(value.text().as_deref().unwrap_or("")),
            "component" => self.proxy |= matches!(&value, Value::Str(text) if text == "proxy"),
            "sampler.type" => {
                let kind = value.text().unwrap_or_default();
                self.sampler_probabilistic = kind == "probabilistic";
                // A constant sampler that kept this one keeps all.
                if kind == "const" {
                    self.sampled_share.get_or_insert(1.0);
                }
                if matches!(&*kind, "ratelimiting" | "lowerbound") {
                    self.kept = self.kept.max(Kept::ByRate);
                }
            }
            // What the collector's tail sampling, Refinery and others leave behind.
            "tailsampling.policy"
            | "tailsampling.composite_policy"
            | "sampling.policy"
            | "sampling.rule"
            | "meta.refinery.reason" => {
                self.kept = Kept::ByPolicy;
            }
            "sampler.param" => self.sampler_share = value.float(),
            _ => {}
        }
    }

    /// The OpenTracing tag `error`: true, "true", or a text that says what was wrong.
    fn note_error_tag(&mut self, value: Value<'a>) {
        match value {
            Value::Bool(failed) => self.error_tag |= failed,
            Value::Str(text) if text.eq_ignore_ascii_case("false") => {}
            Value::Str(text) => {
                self.error_tag = true;
                self.error_text.offer(1, (!text.eq_ignore_ascii_case("true") && !text.is_empty()).then_some(text));
            }
            _ => {}
        }
    }

    /// What the format's own status field says.
    pub(crate) fn note_status(&mut self, status: StatusCode, message: Option<Cow<'a, str>>) {
        if status != StatusCode::Unset {
            self.status = status;
        }
        self.error_text.offer(2, message.filter(|text| !text.is_empty()));
    }

    /// Says that the span failed, by a mark that carries no other meaning.
    pub(crate) fn note_failed(&mut self) {
        self.error_tag = true;
    }

    /// The called side, where the format has a place of its own for it.
    pub(crate) fn note_remote(&mut self, service: Option<Cow<'a, str>>, address: Option<Cow<'a, str>>, port: Option<i64>) {
        self.peer_service.offer(1, service.filter(|name| !name.is_empty()));
        self.host.offer(7, address.filter(|address| !address.is_empty()));
        self.port.offer(3, port);
    }

    /// The instrumentation's name: Envoy's says that a proxy recorded the span.
    pub(crate) fn note_scope(&mut self, name: &str) {
        self.proxy |= name.eq_ignore_ascii_case("envoy");
    }

    /// A W3C trace state: OpenTelemetry's `ot=th:` (rejection threshold of 2^56) or the older `ot=p:` (exponent of one half).
    pub(crate) fn note_trace_state(&mut self, state: &str) {
        let Some(ot) = state.split(',').find_map(|member| member.trim().strip_prefix("ot=")) else { return };
        for field in ot.split(';') {
            if let Some(threshold) = field.strip_prefix("th:").filter(|hex| (1..=14).contains(&hex.len())) {
                let rejected = u64::from_str_radix(threshold, 16).map(|value| value << (4 * (14 - threshold.len())));
                self.sampled_share = rejected.ok().map(|rejected| 1.0 - rejected as f64 / (1u64 << 56) as f64);
            } else if let Some(Ok(exponent)) = field.strip_prefix("p:").map(str::parse::<u32>) {
                self.sampled_share = (exponent < 63).then(|| 1.0 / (1u64 << exponent) as f64);
            }
        }
    }

    /// Fills what the facts decide into `span`, whose own kind is what the format's field said. `name` is the span's name.
    pub(crate) fn fill(&self, span: &mut Span, name: &str, names: &mut Names) {
        if span.kind == Kind::Internal {
            span.kind = self.kind.unwrap_or_default();
        }
        span.operation = names.get(&self.operation(span.kind, name));
        (span.status, span.failure) = self.outcome(span.kind);
        if let Some((peer, peer_kind)) = self.peer(span.kind) {
            (span.peer, span.peer_kind) = (Some(names.get(&peer)), peer_kind);
        }
        span.destination = self.destination.value.as_deref().map(|name| names.get(name));
        span.resend = self.resend.value.map_or(0, |count| count.clamp(0, i64::from(u32::MAX)) as u32);
        span.session = self.session.value.unwrap_or(0);
        span.proxy = self.proxy;
        span.kept = self.kept;
        let sampler_share = self.sampler_share.filter(|_| self.sampler_probabilistic);
        span.sampled_share = self.sampled_share.or(sampler_share).filter(|&share| share > 0.0 && share <= 1.0);
    }

    /// A name fit to group by.
    fn operation<'s>(&'s self, kind: Kind, name: &'s str) -> Cow<'s, str> {
        if let (Kind::Producer | Kind::Consumer, Some(destination)) = (kind, &self.destination.value) {
            let default = if kind == Kind::Producer { "send" } else { "process" };
            let operation = self.messaging_operation.value.as_deref().unwrap_or(default);
            return format!("{operation} {destination}").into();
        }
        if let Some(method) = &self.rpc_method {
            let service = self.rpc_service.as_deref().unwrap_or("");
            let known = method.trim_start_matches('/');
            return if known.contains('/') || service.is_empty() { known.into() } else { format!("{service}/{known}").into() };
        }
        if self.db_system.value.is_some()
            && let Some(operation) = &self.db_operation.value
        {
            return match &self.db_collection.value {
                Some(collection) => format!("{operation} {collection}").into(),
                None => operation.as_ref().into(),
            };
        }
        if let Some(method) = &self.http_method.value
            && kind != Kind::Internal
        {
            if let Some(route) = &self.route.value {
                return format!("{method} {route}").into();
            }
            // A server's name is the framework's own choice; one that is a path, or ends in one, is as good as a route.
            if kind == Kind::Server && (name.starts_with('/') || name.contains(" /")) {
                return name_template(name).into();
            }
            if let Some(url) = &self.url.value {
                return format!("{method} {}", path_template(url)).into();
            }
        }
        name_template(name).into()
    }

    /// Right or wrong, and why.
    fn outcome(&self, kind: Kind) -> (Status, Option<Failure>) {
        let rpc_code = self.rpc_status.value.as_deref().and_then(grpc_code);
        let failed = match self.status {
            StatusCode::Error => true,
            _ if self.error_tag => true,
            StatusCode::Ok => false,
            StatusCode::Unset => {
                let http = self.http_status.value.is_some_and(|code| code >= 500 || code >= 400 && kind == Kind::Client);
                let rpc = rpc_code.is_some_and(|code| match kind {
                    Kind::Server => matches!(code, 2 | 4 | 12 | 13 | 14 | 15),
                    _ => code != 0,
                });
                http || rpc
            }
        };
        if failed { (Status::Error, Some(self.failure(rpc_code))) } else { (Status::Ok, None) }
    }

    /// The reason of a failure: the most exact statement decides.
    fn failure(&self, rpc_code: Option<u8>) -> Failure {
        match rpc_code {
            Some(4) => return Failure::Timeout,
            Some(8) => return Failure::Overload,
            Some(14) => return Failure::Connection,
            _ => {}
        }
        for flag in self.response_flags.as_deref().unwrap_or("").split(',') {
            match flag.trim() {
                "UT" | "SI" | "DT" => return Failure::Timeout,
                "UF" | "UC" | "UH" | "LR" | "UR" | "NC" => return Failure::Connection,
                "UO" | "RL" => return Failure::Overload,
                _ => {}
            }
        }
        match self.http_status.value {
            Some(408 | 504) => return Failure::Timeout,
            Some(429 | 503) => return Failure::Overload,
            _ => {}
        }
        let text = self.error_text.value.as_deref().unwrap_or("").to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if says(&["timeout", "timed out", "time out", "deadline"]) {
            Failure::Timeout
        } else if says(&["overload", "too many", "exhausted", "rate limit", "queue full"]) {
            Failure::Overload
        } else if says(&[
            "connect",
            "econn",
            "refused",
            "reset",
            "unreachable",
            "unavailable",
            "broken pipe",
            "no such host",
            "enotfound",
        ]) {
            Failure::Connection
        } else {
            Failure::Other
        }
    }

    /// The other side, as the caller names it; `None` for a callee, whose address attributes are its own.
    fn peer(&self, kind: Kind) -> Option<(Cow<'_, str>, PeerKind)> {
        let messaging = matches!(kind, Kind::Producer | Kind::Consumer) || self.messaging_system.is_some();
        let database = self.db_system.value.is_some();
        if kind == Kind::Server || kind == Kind::Internal && self.peer_service.value.is_none() && !database && !messaging {
            return None;
        }
        let (system, peer_kind) = match () {
            () if messaging => (self.messaging_system.as_deref(), PeerKind::Broker),
            () if database => (self.db_system.value.as_deref(), PeerKind::Database),
            () => (None, PeerKind::Service),
        };
        if let Some(service) = &self.peer_service.value {
            let peer_kind = if peer_kind == PeerKind::Service { kind_by_name(service) } else { peer_kind };
            return Some((service.as_ref().into(), peer_kind));
        }
        let place = self.host.value.as_deref().map(|host| {
            let host = host.strip_suffix(".svc.cluster.local").unwrap_or(host);
            match self.port.value {
                // An address says little without its port; a name is the better name without it.
                Some(port) if !names_a_host(host) => Cow::from(format!("{host}:{port}")),
                _ => host.into(),
            }
        });
        let name = match (system, place) {
            (_, Some(place)) if names_a_host(&place) => place,
            (Some(system), Some(place)) => format!("{system}@{place}").into(),
            (Some(system), None) => match &self.db_namespace.value {
                Some(namespace) if database => format!("{system}/{namespace}").into(),
                _ => system.into(),
            },
            (None, place) => place?,
        };
        Some((name, peer_kind))
    }
}

/// The side named by a `span.kind` tag or a Zipkin kind.
pub(crate) fn kind_named(text: &str) -> Option<Kind> {
    let name = text.trim().trim_start_matches("SPAN_KIND_");
    [
        ("internal", Kind::Internal),
        ("unspecified", Kind::Internal),
        ("local", Kind::Internal),
        ("server", Kind::Server),
        ("client", Kind::Client),
        ("producer", Kind::Producer),
        ("consumer", Kind::Consumer),
    ]
    .into_iter()
    .find(|(known, _)| name.eq_ignore_ascii_case(known))
    .map(|(_, kind)| kind)
}

/// The side by OTLP's number.
pub(crate) fn kind_number(number: u64) -> Kind {
    match number {
        2 => Kind::Server,
        3 => Kind::Client,
        4 => Kind::Producer,
        5 => Kind::Consumer,
        _ => Kind::Internal,
    }
}

/// The host in an Istio cluster name (`outbound|9080||reviews.default.svc.cluster.local`); any other name as it is.
fn cluster_host(cluster: Cow<'_, str>) -> Cow<'_, str> {
    match cluster.rsplit_once('|') {
        Some((_, host)) if !host.is_empty() => host.to_owned().into(),
        _ => cluster,
    }
}

/// What a called service must be that goes by the name of a well-known product, where nothing else says so.
fn kind_by_name(service: &str) -> PeerKind {
    const DATABASES: [&str; 10] =
        ["mysql", "postgres", "mariadb", "redis", "memcache", "mongo", "cassandra", "elasticsearch", "sqlite", "dynamodb"];
    const BROKERS: [&str; 5] = ["kafka", "rabbitmq", "activemq", "nats", "pulsar"];
    let is = |product: &str| service.get(..product.len()).is_some_and(|start| start.eq_ignore_ascii_case(product));
    match () {
        () if DATABASES.iter().any(|product| is(product)) => PeerKind::Database,
        () if BROKERS.iter().any(|product| is(product)) => PeerKind::Broker,
        () => PeerKind::Service,
    }
}

/// Whether a host is a name that tells it from others, not an address or this machine.
fn names_a_host(host: &str) -> bool {
    let bare = host.trim_matches(['[', ']']);
    !(bare.starts_with("localhost") || bare.contains(':') || bare.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
}

/// A gRPC status as its number, written as number or name (`UNAVAILABLE`, `DeadlineExceeded`).
fn grpc_code(text: &str) -> Option<u8> {
    const NAMES: [&str; 17] = [
        "ok",
        "cancelled",
        "unknown",
        "invalidargument",
        "deadlineexceeded",
        "notfound",
        "alreadyexists",
        "permissiondenied",
        "resourceexhausted",
        "failedprecondition",
        "aborted",
        "outofrange",
        "unimplemented",
        "internal",
        "unavailable",
        "dataloss",
        "unauthenticated",
    ];
    if let Ok(number) = text.trim().parse::<u8>() {
        return Some(number);
    }
    let name: String = text.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).collect();
    NAMES.iter().position(|known| *known == name).map(|code| code as u8)
}
