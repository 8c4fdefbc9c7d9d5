//! The generated messages of OpenTelemetry as the reference: what they decode, the reader's own walk over the wire format must too.

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as otlp;
use proptest::prelude::*;
use prost::Message;

use super::super::attributes::{Facts, Recorder, RecorderFacts, StatusCode, Value, kind_number};
use super::super::inbox::Inbox;
use super::super::kept::Kept;
use super::super::names::Names;
use super::super::{Limits, Span};

/// The spans of a message by the generated code.
fn reference(data: &otlp::TracesData) -> Vec<Span> {
    read(|inbox| {
        for resource_spans in &data.resource_spans {
            let mut facts = RecorderFacts::default();
            for attribute in resource_spans.resource.iter().flat_map(|resource| &resource.attributes) {
                facts.note(&attribute.key, value(attribute));
            }
            let recorder = facts.recorder(inbox.names);
            for scope_spans in &resource_spans.scope_spans {
                let scope = scope_spans.scope.as_ref().map_or("", |scope| &scope.name);
                for raw in &scope_spans.spans {
                    let _ = span(raw, scope, &recorder, inbox);
                }
            }
        }
    })
}

/// What a reader pushes.
fn read(fill: impl FnOnce(&mut Inbox<'_>)) -> Vec<Span> {
    let (mut names, mut kept) = (Names::default(), Kept::new(&Limits::default()));
    fill(&mut Inbox::new("message", 0, &mut names, &mut kept, false));
    kept.finish(&names).0.into_iter().flatten().collect()
}

/// The spans of an encoded message by the reader.
fn by_reader(bytes: &[u8]) -> Vec<Span> {
    read(|inbox| super::message(bytes, 0, false, &Limits::default(), inbox).expect("only strict reading stops"))
}

/// Turns one raw span into a span; the error is the reason why it cannot be.
fn span(raw: &otlp::Span, scope: &str, recorder: &Recorder, inbox: &mut Inbox<'_>) -> Result<(), String> {
    let trace_id: [u8; 16] =
        raw.trace_id.as_slice().try_into().map_err(|_| format!("a trace id of {} bytes instead of 16", raw.trace_id.len()))?;
    let mut span = Span {
        trace_id: u128::from_be_bytes(trace_id),
        span_id: id64(&raw.span_id).ok_or_else(|| format!("a span id of {} bytes instead of 8", raw.span_id.len()))?,
        service: recorder.service.clone(),
        instance: recorder.instance.clone(),
        kind: kind_number(u64::try_from(raw.kind).unwrap_or(0)),
        ..Span::default()
    };
    if span.trace_id == 0 || span.span_id == 0 {
        return Err("an id that is all zeros".to_owned());
    }
    if !raw.parent_span_id.is_empty() {
        let parent = id64(&raw.parent_span_id);
        let parent = parent.ok_or_else(|| format!("a parent span id of {} bytes instead of 8", raw.parent_span_id.len()))?;
        span.parent_id = Some(parent).filter(|&id| id != 0);
    }
    inbox.set_times(&mut span, raw.start_time_unix_nano, raw.end_time_unix_nano)?;
    for link in &raw.links {
        match (<[u8; 16]>::try_from(link.trace_id.as_slice()), id64(&link.span_id)) {
            (Ok(trace), Some(id)) => span.links.push((u128::from_be_bytes(trace), id)),
            _ => inbox.mended("a link with a broken id was left out"),
        }
    }
    let mut facts = Facts::default();
    facts.note_scope(scope);
    for attribute in &raw.attributes {
        facts.note(&attribute.key, value(attribute));
    }
    for attribute in raw.events.iter().flat_map(|event| &event.attributes) {
        if attribute.key.starts_with("exception.") {
            facts.note(&attribute.key, value(attribute));
        }
    }
    facts.note_trace_state(&raw.trace_state);
    if let Some(status) = &raw.status {
        let code = match status.code {
            1 => StatusCode::Ok,
            2 => StatusCode::Error,
            _ => StatusCode::Unset,
        };
        facts.note_status(code, Some(status.message.as_str().into()));
    }
    facts.fill(&mut span, &raw.name, inbox.names);
    inbox.push(span);
    Ok(())
}

fn id64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn value(attribute: &KeyValue) -> Value<'_> {
    match &attribute.value {
        Some(AnyValue { value: Some(any_value::Value::StringValue(text)) }) => Value::Str(text.as_str().into()),
        Some(AnyValue { value: Some(any_value::Value::IntValue(number)) }) => Value::Int(*number),
        Some(AnyValue { value: Some(any_value::Value::DoubleValue(number)) }) => Value::Float(*number),
        Some(AnyValue { value: Some(any_value::Value::BoolValue(yes)) }) => Value::Bool(*yes),
        _ => Value::Other,
    }
}

const KEYS: &[&str] = &[
    "service.name",
    "service.instance.id",
    "host.name",
    "process.pid",
    "http.request.method",
    "http.route",
    "url.full",
    "http.target",
    "http.response.status_code",
    "rpc.service",
    "rpc.method",
    "rpc.grpc.status_code",
    "db.system",
    "db.operation",
    "db.name",
    "messaging.system",
    "messaging.destination.name",
    "peer.service",
    "server.address",
    "server.port",
    "http.request.resend_count",
    "session.id",
    "enduser.id",
    "error.type",
    "error",
    "exception.type",
    "exception.message",
    "otel.status_code",
    "sampler.type",
    "sampler.param",
    "w3c.tracestate",
    "component",
    "something.else",
    "",
];

fn attribute() -> impl Strategy<Value = KeyValue> {
    let text = prop_oneof![
        prop::sample::select(vec![
            "GET",
            "/cart/17",
            "http://cart:8080/items?x=1",
            "cart",
            "10.0.0.1",
            "redis",
            "14",
            "UNAVAILABLE",
            "true",
            "0.25",
            ""
        ])
        .prop_map(str::to_owned),
        ".{0,12}",
    ];
    let value = prop_oneof![
        6 => text.prop_map(any_value::Value::StringValue),
        2 => any::<i64>().prop_map(any_value::Value::IntValue),
        2 => (0..600i64).prop_map(any_value::Value::IntValue),
        1 => any::<f64>().prop_map(any_value::Value::DoubleValue),
        1 => any::<bool>().prop_map(any_value::Value::BoolValue),
        1 => prop::collection::vec(any::<u8>(), 0..9).prop_map(any_value::Value::BytesValue),
        1 => Just(any_value::Value::ArrayValue(ArrayValue::default())),
    ];
    (prop::sample::select(KEYS), prop::option::weighted(0.95, value)).prop_map(|(key, value)| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value }),
        ..KeyValue::default()
    })
}

fn id(bytes: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![9 => prop::collection::vec(any::<u8>(), bytes), 1 => Just(vec![0; bytes]), 1 => prop::collection::vec(any::<u8>(), 0..20)]
}

prop_compose! {
    fn raw_span()(
        trace_id in id(16), span_id in id(8), parent_span_id in prop_oneof![Just(Vec::new()), id(8)],
        trace_state in prop::sample::select(vec!["", "ot=th:8", "ot=p:3", "a=b"]), name in ".{0,20}", kind in -1..9i32,
        times in (any::<u64>(), any::<u64>(), 0..1_000_000_000u64, 0..4u8),
        attributes in prop::collection::vec(attribute(), 0..8),
        events in prop::collection::vec(prop::collection::vec(attribute(), 0..3), 0..3),
        links in prop::collection::vec((id(16), id(8)), 0..3),
        status in prop::option::of((0..4i32, ".{0,9}")),
    ) -> otlp::Span {
        let (start, end) = match times {
            (start, end, _, 0) => (start, end),
            (start, _, _, 1) => (start % 7_000_000_000_000_000_000, 0),
            (start, _, length, _) => (start % 7_000_000_000_000_000_000, start % 7_000_000_000_000_000_000 + length),
        };
        otlp::Span {
            trace_id, span_id, parent_span_id, name, kind, attributes,
            trace_state: trace_state.to_owned(),
            start_time_unix_nano: start,
            end_time_unix_nano: end,
            events: events.into_iter().map(|attributes| otlp::span::Event { attributes, ..Default::default() }).collect(),
            links: links.into_iter().map(|(trace_id, span_id)| otlp::span::Link { trace_id, span_id, ..Default::default() }).collect(),
            status: status.map(|(code, message)| otlp::Status { code, message }),
            dropped_attributes_count: 3,
            flags: 0x101,
            ..Default::default()
        }
    }
}

prop_compose! {
    fn data()(resources in prop::collection::vec(
        (prop::collection::vec(attribute(), 0..4), "[a-z]{0,5}|envoy", prop::collection::vec(raw_span(), 0..5)), 0..4)
    ) -> otlp::TracesData {
        let resource_spans = resources.into_iter().map(|(attributes, scope, spans)| otlp::ResourceSpans {
            resource: Some(Resource { attributes, ..Default::default() }),
            scope_spans: vec![otlp::ScopeSpans {
                scope: Some(InstrumentationScope { name: scope, ..Default::default() }),
                spans,
                schema_url: "https://opentelemetry.io/schemas/1.30.0".to_owned(),
            }],
            ..Default::default()
        });
        otlp::TracesData { resource_spans: resource_spans.collect() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_gives_the_spans_that_the_generated_code_gives(data in data()) {
        prop_assert_eq!(by_reader(&data.encode_to_vec()), reference(&data));
    }

    #[test]
    fn what_the_generated_code_can_decode_of_a_damaged_message_the_reader_can_too(
        data in data(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = data.encode_to_vec();
        if let Some(slot) = (!bytes.is_empty()).then(|| at.index(bytes.len())) {
            bytes[slot] = byte;
        }
        if let Ok(decoded) = otlp::TracesData::decode(&bytes[..]) {
            prop_assert_eq!(by_reader(&bytes), reference(&decoded));
        }
    }
}
