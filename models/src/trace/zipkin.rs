//! Zipkin's JSON, version 2 and version 1.
//!
//! You are here: `models::trace::zipkin`. `records` hands over one span record at a time.
//! Always true: the client's and the server's half of a call become two spans with one id, the server's marked `shared`, whether
//! they came in two records (version 2) or in one (version 1).

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::attributes::{Facts, RecorderFacts, Value, kind_named};
use super::inbox::{Inbox, Place, Stop};
use super::loose::{Loose, Text, hex_id, null_is_default, plain};
use super::read::Format;
use super::{Kind, Span};

/// One record of either version.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Record<'a> {
    #[serde(borrow, rename = "traceId")]
    trace_id: Loose<'a>,
    #[serde(borrow)]
    id: Loose<'a>,
    #[serde(borrow, rename = "parentId")]
    parent_id: Loose<'a>,
    #[serde(borrow)]
    kind: Loose<'a>,
    #[serde(borrow)]
    name: Loose<'a>,
    #[serde(borrow)]
    timestamp: Loose<'a>,
    #[serde(borrow)]
    duration: Loose<'a>,
    #[serde(borrow, rename = "localEndpoint")]
    local: Option<Endpoint<'a>>,
    #[serde(borrow, rename = "remoteEndpoint")]
    remote: Option<Endpoint<'a>>,
    #[serde(borrow)]
    shared: Loose<'a>,
    #[serde(borrow, deserialize_with = "null_is_default")]
    tags: Tags<'a>,
    #[serde(borrow, deserialize_with = "null_is_default")]
    annotations: Vec<Annotation<'a>>,
    #[serde(borrow, rename = "binaryAnnotations", deserialize_with = "null_is_default")]
    binary_annotations: Vec<BinaryAnnotation<'a>>,
}

#[derive(Clone, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Endpoint<'a> {
    #[serde(borrow, rename = "serviceName")]
    service: Loose<'a>,
    #[serde(borrow)]
    ipv4: Loose<'a>,
    #[serde(borrow)]
    ipv6: Loose<'a>,
    #[serde(borrow)]
    port: Loose<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotation<'a> {
    #[serde(borrow)]
    timestamp: Loose<'a>,
    #[serde(borrow)]
    value: Loose<'a>,
    #[serde(borrow)]
    endpoint: Option<Endpoint<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BinaryAnnotation<'a> {
    #[serde(borrow)]
    key: Loose<'a>,
    #[serde(borrow)]
    value: Loose<'a>,
    #[serde(borrow)]
    endpoint: Option<Endpoint<'a>>,
}

/// Tags in the order of the file.
#[derive(Default)]
struct Tags<'a>(Vec<(Text<'a>, Loose<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Tags<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TagsVisitor;
        impl<'de> Visitor<'de> for TagsVisitor {
            type Value = Tags<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tags")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut tags = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    tags.push(entry);
                }
                Ok(Tags(tags))
            }
        }
        deserializer.deserialize_map(TagsVisitor)
    }
}

impl<'a> Endpoint<'a> {
    fn address(&self) -> &str {
        if self.ipv4.text().is_empty() { self.ipv6.text() } else { self.ipv4.text() }
    }

    fn port(&self) -> Option<i64> {
        self.port.unsigned().filter(|&port| port > 0).map(|port| port as i64)
    }

    /// The service's name; a process without one goes by its address.
    fn service(&self) -> &str {
        if self.service.text().is_empty() { self.address() } else { self.service.text() }
    }
}

/// Reads one record that begins on `place`; says which version it is of.
pub(crate) fn record(json: &[u8], place: &Place, inbox: &mut Inbox<'_>) -> Result<Option<Format>, Stop> {
    let record = match serde_json::from_slice::<Record<'_>>(json) {
        Ok(record) => record,
        Err(error) => return inbox.skip(place.plus_lines(error.line()), plain(&error)).map(|()| None),
    };
    let first_version =
        !record.binary_annotations.is_empty() || record.annotations.iter().any(|annotation| annotation.endpoint.is_some());
    let result = if first_version { version_1(&record, inbox) } else { version_2(&record, inbox) };
    match result {
        Ok(()) => Ok(Some(if first_version { Format::ZipkinV1 } else { Format::ZipkinV2 })),
        Err(reason) => inbox.skip(place.clone(), reason).map(|()| None),
    }
}

/// The ids, which both versions write alike. 16 digits of a trace id are the lower half of 32.
fn with_ids(record: &Record<'_>) -> Result<Span, String> {
    let id = |raw: &Loose<'_>, digits| hex_id(raw.text()).filter(|&id| id != 0 && raw.text().len() <= digits);
    let trace_id =
        id(&record.trace_id, 32).ok_or_else(|| format!("trace id {} is not 16 or 32 hexadecimal digits", record.trace_id))?;
    let span_id = id(&record.id, 16).ok_or_else(|| format!("span id {} is not 16 hexadecimal digits", record.id))? as u64;
    let parent_id = match &record.parent_id {
        Loose::Nothing => None,
        parent => match hex_id(parent.text()) {
            Some(0) => None,
            Some(id) if parent.text().len() <= 16 => Some(id as u64),
            _ => return Err(format!("parent id {parent} is not 16 hexadecimal digits")),
        },
    };
    Ok(Span { trace_id, span_id, parent_id, ..Span::default() })
}

/// Says in `span` who recorded it.
fn set_recorder(span: &mut Span, endpoint: &Endpoint<'_>, inbox: &mut Inbox<'_>) {
    let mut facts = RecorderFacts::default();
    facts.named(endpoint.service().into());
    let instance = match (endpoint.address(), endpoint.port()) {
        ("", _) => String::new(),
        (address, Some(port)) => format!("{address}:{port}"),
        (address, None) => address.to_owned(),
    };
    facts.note("service.instance.id", Value::Str(instance.into()));
    let recorder = facts.recorder(inbox.names);
    (span.service, span.instance) = (recorder.service, recorder.instance);
}

fn note_remote<'a>(facts: &mut Facts<'a>, remote: &'a Endpoint<'_>) {
    facts.note_remote(Some(remote.service.text().into()), Some(remote.address().into()), remote.port());
}

/// A tag is always text; `error` says by being there that the span failed.
fn note_tag<'a>(facts: &mut Facts<'a>, key: &str, value: &Loose<'a>) {
    if key == "error" {
        facts.note_failed();
    }
    facts.note(key, value.clone().into_value());
}

fn version_2(record: &Record<'_>, inbox: &mut Inbox<'_>) -> Result<(), String> {
    let mut span = with_ids(record)?;
    span.kind = kind_named(record.kind.text()).unwrap_or_default();
    span.shared = record.shared == Loose::Bool(true);
    inbox.set_micros(&mut span, &record.timestamp, &record.duration)?;
    set_recorder(&mut span, record.local.as_ref().unwrap_or(&Endpoint::default()), inbox);
    let mut facts = Facts::default();
    if let Some(remote) = &record.remote {
        note_remote(&mut facts, remote);
    }
    for (key, value) in &record.tags.0 {
        note_tag(&mut facts, &key.0, value);
    }
    facts.fill(&mut span, record.name.text(), inbox.names);
    inbox.push(span);
    Ok(())
}

/// One side of a version 1 record: its first and its last annotation.
struct Half<'r, 'a> {
    kind: Kind,
    first: Option<&'r Annotation<'a>>,
    last: Option<&'r Annotation<'a>>,
}

impl<'r, 'a> Half<'r, 'a> {
    fn of(record: &'r Record<'a>, kind: Kind, first: &str, last: &str) -> Option<Self> {
        let annotation = |value: &str| record.annotations.iter().find(|annotation| annotation.value.text() == value);
        let (first, last) = (annotation(first), annotation(last));
        (first.is_some() || last.is_some()).then_some(Half { kind, first, last })
    }

    fn endpoint(&self) -> Option<&'r Endpoint<'a>> {
        [self.first, self.last].into_iter().flatten().find_map(|annotation| annotation.endpoint.as_ref())
    }

    /// Start and length: its own annotations', else the record's.
    fn times(&self, record: &Record<'a>) -> (Loose<'a>, Loose<'a>) {
        let number = |annotation: Option<&Annotation<'a>>| annotation.and_then(|found| found.timestamp.unsigned());
        let start = self.first.map_or_else(|| record.timestamp.clone(), |first| first.timestamp.clone());
        let length = match (number(self.first), number(self.last)) {
            (Some(first), Some(last)) => i64::try_from(i128::from(last) - i128::from(first)).map_or(Loose::Nothing, Loose::Int),
            _ => record.duration.clone(),
        };
        (start, length)
    }
}

fn version_1(record: &Record<'_>, inbox: &mut Inbox<'_>) -> Result<(), String> {
    let base = with_ids(record)?;
    let halves: Vec<Half<'_, '_>> = [
        Half::of(record, Kind::Client, "cs", "cr"),
        Half::of(record, Kind::Server, "sr", "ss"),
        Half::of(record, Kind::Producer, "ms", "ws"),
        Half::of(record, Kind::Consumer, "mr", "wr"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let called = halves.iter().find(|half| half.kind == Kind::Server).and_then(Half::endpoint);
    let has_caller = halves.iter().any(|half| half.kind == Kind::Client);
    let address = |key: &str| record.binary_annotations.iter().find(|annotation| annotation.key.text() == key);
    let local = Half { kind: Kind::Internal, first: None, last: None };
    let sides = if halves.is_empty() { vec![local] } else { halves };

    for (index, half) in sides.iter().enumerate() {
        let mut span = base.clone();
        span.kind = half.kind;
        // A server that took its id from the caller does not own the span's time.
        span.shared = half.kind == Kind::Server && (has_caller || record.timestamp == Loose::Nothing);
        let (start, length) = half.times(record);
        inbox.set_micros(&mut span, &start, &length)?;
        let anywhere = || record.binary_annotations.iter().find_map(|annotation| annotation.endpoint.as_ref());
        let endpoint = half.endpoint().or_else(anywhere).cloned().unwrap_or_default();
        set_recorder(&mut span, &endpoint, inbox);

        let mut facts = Facts::default();
        let remote = if half.kind == Kind::Client { address("sa").and_then(|sa| sa.endpoint.as_ref()).or(called) } else { None };
        if let Some(remote) = remote {
            note_remote(&mut facts, remote);
        }
        let is_own = |annotation: &BinaryAnnotation<'_>| {
            annotation.endpoint.as_ref().is_none_or(|place| place.service() == endpoint.service())
        };
        for tag in record.binary_annotations.iter().filter(|tag| is_own(tag)) {
            note_tag(&mut facts, tag.key.text(), &tag.value);
        }
        // What was asked for is the same on both sides, though often only one of them says it.
        for tag in record.binary_annotations.iter().filter(|tag| !is_own(tag) && tag.key.text().starts_with("http.")) {
            note_tag(&mut facts, tag.key.text(), &tag.value);
        }
        if record
            .annotations
            .iter()
            .any(|annotation| annotation.value.text() == "error" && annotation.endpoint == Some(endpoint.clone()))
        {
            facts.note_failed();
        }
        facts.fill(&mut span, record.name.text(), inbox.names);
        if index == 0 { inbox.push(span) } else { inbox.push_half(span) }
    }
    Ok(())
}
