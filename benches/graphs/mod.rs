//! The systems that the benches run: a graph of twenty services with faults on it, and one of 1,238 made of real dependency counts.
#![allow(dead_code, reason = "each bench uses its part")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;

use models::system::Model;
use scenarios::scenario::Scenario;

pub fn read(yaml: &str) -> Model {
    models::format::read_model("bench", yaml.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Scenarios of a file without its head.
pub fn read_scenarios(yaml: &str) -> Vec<Scenario> {
    scenarios::format::read_scenarios("bench", format!("version: 1\nscenarios:\n{yaml}").as_bytes())
        .unwrap_or_else(|errors| panic!("{errors}"))
}

/// CHAIN-3: three services in a row, with timeouts and retries.
pub fn chain_3() -> Model {
    read(include_str!("../chain3.yaml"))
}

/// Twenty services; a request visits six of them on average.
pub fn twenty() -> Model {
    read(include_str!("../twenty.yaml"))
}

/// A retry storm on [`twenty`].
pub fn storm() -> Scenario {
    let scenarios = scenarios::format::read_scenarios("bench", include_bytes!("../storm.yaml"));
    scenarios.unwrap_or_else(|errors| panic!("{errors}")).remove(0)
}

/// Mixed faults on services of `model` that are called: slow by 3 and by 8, down for 5 s, 20 ms further away.
pub fn faults(model: &Model, count: usize) -> Vec<Scenario> {
    let faults = [
        ("slow", "magnitude: { factor: 3 }"),
        ("slow", "magnitude: { factor: 8 }"),
        ("crash", ""),
        ("latency", "magnitude: { add: 20ms }"),
    ];
    let called: Vec<_> = model.edges.keys().filter(|edge| edge.from != "users").collect();
    let mut text = String::new();
    for i in 0..count {
        let (kind, magnitude) = faults[i % faults.len()];
        let edge = called[i % called.len()];
        let target = if kind == "latency" { edge.to_string() } else { edge.to.clone() };
        let comma = if magnitude.is_empty() { "" } else { ", " };
        let duration = if kind == "crash" { 5 } else { 20 };
        let _ = writeln!(
            text,
            "  - {{ id: f{i}, faults: [ {{ kind: {kind}, target: {target:?}, start: 30s, duration: {duration}s{comma}{magnitude} }} ] }}"
        );
    }
    read_scenarios(&text)
}

/// A graph of 1,238 services made of the answer of Jaeger's dependencies API (gzipped `[{ parent, child, callCount }]`): `None` where that
/// file is absent.
///
/// A call is made as often as its count says, as a share of its parent's own calls (at most 0.9, so that cycles end); who is never called
/// is called by users, 2,000 requests a second in all, in proportion to what each calls most.
pub fn dependencies() -> Option<Model> {
    let shared = std::env::var_os("FORESHOCK_SHARED")
        .map_or_else(|| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), std::path::PathBuf::from);
    let bytes = std::fs::read(shared.join("data/traces/jaeger-json/dependencies-large.json.gz")).ok()?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).expect("the file is gzip");
    let edges: Vec<serde_json::Value> = serde_json::from_str(&text).expect("the file is a list");
    let mut calls: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
    let mut called: BTreeMap<String, f64> = BTreeMap::new();
    for edge in &edges {
        let name = |key: &str| edge[key].as_str().expect("a name").to_owned();
        let count = edge["callCount"].as_f64().expect("a count");
        if name("parent") != name("child") {
            *calls.entry(name("parent")).or_default().entry(name("child")).or_default() += count;
            *called.entry(name("child")).or_default() += count;
        }
    }
    let roots: BTreeMap<&String, f64> = (calls.iter())
        .filter(|(name, _)| !called.contains_key(*name))
        .map(|(name, callees)| (name, callees.values().copied().fold(0.0, f64::max)))
        .collect();
    let from_users: f64 = roots.values().sum();
    let mut yaml = String::from("version: 1\nworkload:\n");
    for (i, (name, count)) in roots.iter().enumerate() {
        let _ = writeln!(yaml, "  users-{i}: {{ to: {name}.op, open: {{ rate: {}/s }} }}", 2_000.0 * count / from_users);
    }
    yaml += "services:\n";
    let names: std::collections::BTreeSet<&String> = calls.keys().chain(called.keys()).collect();
    for (i, name) in names.iter().enumerate() {
        let own = called.get(*name).or(roots.get(*name)).copied().unwrap_or(1.0);
        let mut steps = format!("{{ work: {{ lognormal: {{ p50: {}ms, p99: {}ms }} }} }}", 1 + i % 5, 4 * (1 + i % 5));
        for (callee, count) in calls.get(*name).into_iter().flatten() {
            let share = (count / own).min(0.9);
            let _ = write!(steps, ", {{ call: {{ to: {callee}.op, times: {{ 0: {}, 1: {share} }} }} }}", 1.0 - share);
        }
        let _ = writeln!(
            yaml,
            "  {name}: {{ workers: 256, queue: 1000, operations: {{ op: {{ paths: [ {{ weight: 1, steps: [ {steps} ] }} ] }} }} }}"
        );
    }
    yaml += "edges:\n";
    for (name, callees) in &calls {
        for callee in callees.keys() {
            let _ =
                writeln!(yaml, "  {name}->{callee}: {{ latency: 1ms, timeout: 1s, retry: {{ attempts: 2, backoff: 10ms }} }}");
        }
    }
    Some(read(&yaml))
}
