//! The scenario file as a whole: what is written reads back, validates against the schema, and nothing read makes it panic.

use models::dist::Dist;
use models::format::doc::Value;
use models::units::Nanos;
use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::fault::{FaultKind, Leg};

fn nanos() -> impl Strategy<Value = Nanos> {
    (0u32..50, any::<u64>()).prop_map(|(bits, n)| Nanos::from_nanos(1 + n % (1 << bits)))
}

fn dist() -> impl Strategy<Value = Dist> {
    prop_oneof![
        nanos().prop_map(Dist::Constant),
        nanos().prop_map(Dist::Exponential),
        (nanos(), nanos()).prop_map(|(a, b)| Dist::Lognormal { p50: a.min(b), p99: a.max(b) }),
        (nanos(), nanos(), 0.001f64..0.999).prop_map(|(a, b, p)| {
            Dist::Quantiles(vec![(0.0, a.min(b)), (p, a.max(b)), (1.0, a.max(b) + Nanos::from_secs(1))])
        }),
    ]
}

fn leg() -> impl Strategy<Value = Leg> {
    prop::sample::select(LEGS.iter().map(|(_, leg)| *leg).collect::<Vec<_>>())
}

fn kind() -> impl Strategy<Value = FaultKind> {
    let share = || 0.0..=1.0;
    prop_oneof![
        (nanos(), prop_oneof![Just(Nanos::ZERO), nanos()], prop::option::of(dist()), leg(), any::<bool>()).prop_map(
            |(add, jitter, distribution, leg, delivers_abandoned)| FaultKind::Latency {
                add,
                jitter,
                distribution,
                leg,
                delivers_abandoned,
            }
        ),
        share().prop_map(|probability| FaultKind::ConnectionDrop { probability }),
        leg().prop_map(|leg| FaultKind::BlackHole { leg }),
        (0.0f64..0.99, nanos()).prop_map(|(probability, retransmit)| FaultKind::Loss { probability, retransmit }),
        (1.0f64..1e9, 1.0f64..1e6).prop_map(|(bytes_per_s, request_bytes)| FaultKind::Bandwidth { bytes_per_s, request_bytes }),
        nanos().prop_map(|to| FaultKind::TimeoutLowered { to }),
        Just(FaultKind::Pause),
        (1u32..99).prop_map(|replicas| FaultKind::ReplicasLost { replicas }),
        (0u32..99).prop_map(|to| FaultKind::QueueShrunk { to }),
        (0.001f64..1000.0).prop_map(|growth| FaultKind::Leak { growth }),
        (0.001f64..=1.0).prop_map(|share| FaultKind::Flush { share }),
        share().prop_map(|keep| FaultKind::HitRatioDrop { keep }),
        share().prop_map(|probability| FaultKind::Duplicate { probability }),
        share().prop_map(|probability| FaultKind::MessageLoss { probability }),
        (0.001f64..1000.0).prop_map(|factor| FaultKind::SlowConsumer { factor }),
        share().prop_map(|probability| FaultKind::Poison { probability }),
        (nanos(), 2u32..1000).prop_map(|(after, attempts)| FaultKind::Reload { after, attempts }),
        (1u32..1000, nanos()).prop_map(|(attempts, backoff)| FaultKind::AggressiveRetries { attempts, backoff }),
        share().prop_map(|probability| FaultKind::Errors { probability }),
        (0.001f64..1000.0).prop_map(|factor| FaultKind::Slow { factor }),
        (prop::option::of(1u32..9), any::<bool>()).prop_map(|(replicas, black_hole)| FaultKind::Crash { replicas, black_hole }),
        share().prop_map(|keep| FaultKind::WorkersLost { keep }),
        (0.0f64..1000.0).prop_map(|factor| FaultKind::Surge { factor }),
        (nanos(), nanos()).prop_map(|(add, jitter)| FaultKind::Delay { add, jitter }),
        (share(), nanos()).prop_map(|(probability, within)| FaultKind::Reorder { probability, within }),
        Just(FaultKind::ConsumerStall),
    ]
}

fn target() -> impl Strategy<Value = Target> {
    let name = || prop::sample::select(vec!["web", "front.end", "GET /x", "a: b", "yes", "3", "ünï"]);
    prop_oneof![
        name().prop_map(|name| Target::Node(name.into())),
        (name(), name()).prop_map(|(from, to)| Target::Edge(EdgeName::new(from, to))),
        name().prop_map(|to| Target::Edge(EdgeName::new("*", to))),
    ]
}

fn scenarios() -> impl Strategy<Value = Vec<Scenario>> {
    let ramp = || prop_oneof![Just(Nanos::ZERO), nanos()];
    let fault =
        (kind(), target(), nanos(), nanos(), ramp(), ramp()).prop_map(|(kind, target, start, duration, ramp_up, ramp_down)| {
            Fault { ramp_up, ramp_down, ..Fault::new(kind, target, SimTime::from_nanos(start.as_nanos()), duration) }
        });
    let why = prop_oneof![Just(String::new()), "[ -~é\n]{1,60}"];
    let one = (why, prop::option::of(0.01f64..100.0), prop::collection::vec(fault, 0..4));
    prop::collection::vec(one, 0..6).prop_map(|list| {
        let numbered = list.into_iter().enumerate();
        numbered.map(|(i, (why, load, faults))| Scenario { id: format!("s-{i}_x.y+z"), why, load, faults }).collect()
    })
}

fn json(node: &Node) -> Json {
    match &node.value {
        Value::List(items) => Json::Array(items.iter().map(json).collect()),
        Value::Map(entries) => Json::Object(entries.iter().map(|(key, node)| (key.text.clone(), json(node))).collect()),
        Value::Scalar { text, plain: true } => serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.clone())),
        Value::Scalar { text, .. } => Json::String(text.clone()),
    }
}

fn complaints(text: &str) -> Vec<String> {
    let schema = serde_json::from_str(SCENARIOS_SCHEMA).expect("the schema is JSON");
    let validator = jsonschema::draft202012::new(&schema).expect("the schema is a schema");
    let document = json(&doc::parse("m", text.as_bytes()).expect("it is YAML"));
    validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_back_and_is_valid_by_the_schema(scenarios in scenarios()) {
        let text = write_scenarios(&scenarios);
        let read = read_scenarios("written.yaml", text.as_bytes()).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(read, scenarios);
        prop_assert_eq!(complaints(&text), Vec::<String>::new(), "{}", text);
    }

    #[test]
    fn no_change_of_a_file_makes_reading_panic(scenarios in scenarios(), at: prop::sample::Index, with in "[ -~\n\t]{0,6}", cut in 0usize..40) {
        let mut text = write_scenarios(&scenarios).into_bytes();
        let at = at.index(text.len());
        text.splice(at..(at + cut).min(text.len()), with.bytes());
        if let Ok(read) = read_scenarios("changed.yaml", &text) {
            prop_assert_eq!(read_scenarios("again.yaml", write_scenarios(&read).as_bytes()), Ok(read));
        }
    }
}

/// One fault of this kind with this magnitude, in a file.
fn file(kind: &str, magnitude: &str) -> String {
    format!(
        "version: 1\nscenarios: [{{ id: x, faults: [{{ kind: {kind}, target: a, start: 1s, duration: 1s, magnitude: {magnitude} }}] }}]"
    )
}

#[test]
fn other_tools_words_are_read_and_valid_by_the_schema() {
    for (kind, magnitude, want) in [
        ("slowdown", "{ factor: 2 }", FaultKind::Slow { factor: 2.0 }),
        ("capacity", "{ fraction: 0.5 }", FaultKind::WorkersLost { keep: 0.5 }),
        ("error", "{ prob: 0.3 }", FaultKind::Errors { probability: 0.3 }),
        ("conn_drop", "{ prob: 0.2 }", FaultKind::ConnectionDrop { probability: 0.2 }),
        ("blackhole", "{}", FaultKind::BlackHole { leg: Leg::Both }),
        ("retry_policy", "{ max_attempts: 8 }", FaultKind::AggressiveRetries { attempts: 8, backoff: Nanos::ZERO }),
        ("msg_delay", "{ max: 2s }", FaultKind::Delay { add: Nanos::ZERO, jitter: Nanos::from_secs(2) }),
        ("stall", "{}", FaultKind::ConsumerStall),
        ("partition", "{ leg: reply }", FaultKind::BlackHole { leg: Leg::Reply }),
        ("packet_loss", "{ prob: 0.1 }", FaultKind::Loss { probability: 0.1, retransmit: Nanos::from_millis(200) }),
        ("lower_timeout", "{ to: 50ms }", FaultKind::TimeoutLowered { to: Nanos::from_millis(50) }),
        ("restart", "{}", FaultKind::Crash { replicas: None, black_hole: false }),
        ("cold_restart", "{ replicas: 1 }", FaultKind::Crash { replicas: Some(1), black_hole: false }),
        ("gc_pause", "{}", FaultKind::Pause),
        ("cache_flush", "{}", FaultKind::Flush { share: 1.0 }),
        ("step", "{ factor: 2 }", FaultKind::Surge { factor: 2.0 }),
    ] {
        let text = file(kind, magnitude);
        let read = read_scenarios("alias.yaml", text.as_bytes()).expect(kind);
        assert_eq!(read[0].faults[0].kind, want);
        assert_eq!(complaints(&text), Vec::<String>::new(), "{kind}");
    }
}

#[test]
fn the_schema_knows_the_keys_kinds_and_aliases_that_the_reader_knows() {
    let schema: Json = serde_json::from_str(SCENARIOS_SCHEMA).expect("the schema is JSON");
    let keys = |definition: &Json| {
        let mut keys: Vec<String> = definition["properties"].as_object().expect("properties").keys().cloned().collect();
        keys.sort_unstable();
        keys
    };
    let sorted = |list: Vec<&str>| {
        let mut list: Vec<String> = list.into_iter().map(String::from).collect();
        list.sort_unstable();
        list
    };
    for shape in SHAPES {
        let definition = if shape.name.is_empty() { &schema } else { &schema["$defs"][shape.name] };
        assert_eq!(sorted(shape.keys.to_vec()), keys(definition), "{}", shape.name);
    }
    for magnitude in MAGNITUDES {
        let name = magnitude.shape.name;
        let ours = magnitude.shape.keys.iter().copied().chain(magnitude.aliases.iter().map(|(alias, _)| *alias));
        assert_eq!(sorted(ours.collect()), keys(&schema["$defs"][format!("magnitude_{name}")]), "{name}");
    }
    let kinds = MAGNITUDES.iter().map(|one| one.shape.name).chain(KIND_ALIASES.iter().map(|(alias, _)| *alias));
    assert_eq!(schema["$defs"]["fault"]["properties"]["kind"]["enum"], serde_json::json!(kinds.collect::<Vec<_>>()));
}

#[test]
fn what_a_kind_needs_and_what_it_cannot_have_are_refused_by_reader_and_schema_alike() {
    for (kind, magnitude) in [
        ("latency", "{}"),
        ("latency", "{ factor: 2 }"),
        ("errors", "{}"),
        ("errors", "{ probability: 1.5 }"),
        ("errors", "{ probability: 0.5, prob: 0.5 }"),
        ("black_hole", "{ probability: 0.5 }"),
        ("retries", "{ backoff: 1s }"),
        ("latency", "{ add: 250 }"),
        ("nonsense", "{}"),
        ("latency", "{ leg: reply }"),
        ("latency", "{ add: 1s, leg: sideways }"),
        ("latency", "{ distribution: { exponential: 1s, constant: 1s } }"),
        ("loss", "{}"),
        ("bandwidth", "{ bytes_per_s: 1000 }"),
        ("timeout", "{}"),
        ("pause", "{ factor: 2 }"),
        ("replicas_lost", "{}"),
        ("queue_shrunk", "{ to: unbounded }"),
        ("leak", "{}"),
        ("flush", "{ share: 2 }"),
        ("hit_ratio_drop", "{}"),
        ("duplicate", "{}"),
        ("message_loss", "{}"),
        ("slow_consumer", "{}"),
        ("poison", "{ probability: -1 }"),
        ("reload", "{ after: 1s }"),
        ("reload", "{ attempts: 3 }"),
    ] {
        let text = file(kind, magnitude);
        assert!(read_scenarios("m", text.as_bytes()).is_err(), "{text}");
        assert_ne!(complaints(&text), Vec::<String>::new(), "{text}");
    }
}
