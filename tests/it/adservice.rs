//! A real fault, foretold: the model learned from a minute of Online Boutique without faults is told what happened to one service in another
//! minute, and says who else moved. Beside it stands what did.
//!
//! The table with the observations is not read for the prediction, but for one number: how many times as long the slow service took.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use models::graph::NodeKind;
use models::learn::{LearnOptions, Lesson, learn};
use models::trace::{ReadOptions, Reader, TraceSet};
use models::units::Nanos;
use scenarios::format::read_checked;
use sim::{Prepared, Program, RunOptions, SpanOptions};

use crate::support::shared;

/// Runs of the minute.
const RUNS: u64 = 5;
/// A service has moved if it takes half as long again, or more.
const MOVED: f64 = 1.5;

fn read(name: &str, bytes: &[u8]) -> TraceSet {
    let mut reader = Reader::new(ReadOptions::default());
    reader.read(name, bytes).unwrap_or_else(|errors| panic!("{errors}"));
    reader.finish()
}

/// Mean and p99 of what every service answered, in ms.
type Answers = BTreeMap<String, [f64; 2]>;

fn answers(lesson: &Lesson) -> Answers {
    let seen = lesson.model.services.iter().filter_map(|(name, service)| Some((name, service.observed.as_ref()?)));
    seen.map(|(name, seen)| (name.clone(), [seen.mean_ms, seen.p99_ms])).collect()
}

/// What the table says of a service, without and with the fault.
struct Seen {
    /// Mean and p99 of its own spans.
    server: [[f64; 2]; 2],
    /// Mean of its callers' spans.
    caller: [f64; 2],
}

/// What the table says that came, and which service the fault was put into.
fn table(text: &str) -> (String, BTreeMap<String, Seen>) {
    let mut rows = text.lines().map(|row| row.split(',').collect::<Vec<_>>());
    let head = rows.next().expect("a header");
    let column = |name: &str| head.iter().position(|h| *h == name).expect("the column is there");
    let (mut target, mut seen) = (String::new(), BTreeMap::new());
    for row in rows {
        let get = |name: &str| row[column(name)].parse::<f64>().expect("a number");
        if get("is_target") == 1.0 {
            target = row[0].to_owned();
        }
        let before = [get("server_mean_ms_faultfree"), get("server_p99_ms_faultfree")];
        let server = [before, [get("server_mean_ms_faulty"), get("server_p99_ms_faulty")]];
        seen.insert(row[0].to_owned(), Seen { server, caller: [get("caller_mean_ms_faultfree"), get("caller_mean_ms_faulty")] });
    }
    (target, seen)
}

/// Simulates a minute with a fault that lasts all the time, and learns from its spans what services answered.
fn foretold(lesson: &Lesson, fault: &str, seed: u64) -> Answers {
    let text = format!("version: 1\nscenarios:\n  - {{ id: told, faults: [ {fault} ] }}\n");
    let scenario =
        read_checked("told.yaml", text.as_bytes(), &lesson.model).unwrap_or_else(|errors| panic!("{errors}")).remove(0);
    let nodes = lesson.graph.graph.node_weights();
    let silent = nodes.filter(|n| matches!(n.kind, NodeKind::Database | NodeKind::Broker | NodeKind::Uninstrumented));
    let spans = SpanOptions { silent: silent.map(|node| node.name.to_string()).collect(), ..SpanOptions::default() };
    let program = Program::compile(&lesson.model, 0).expect("it compiles");
    let options = RunOptions { seed, horizon: Nanos::from_secs(60), ..RunOptions::default() };
    let run = Prepared::new(&program, &scenario, &options).expect("it fits").trace(&spans).run();
    let mut bytes = Vec::new();
    run.spans(&lesson.model, &spans).expect("it was traced").write_otlp(&mut bytes).expect("memory takes it");
    answers(&learn(&read("foretold", &bytes), &LearnOptions::default()).expect("there were requests"))
}

/// Mean of each number over runs.
fn mean(runs: &[Answers]) -> Answers {
    let mut sums: BTreeMap<String, ([f64; 2], f64)> = BTreeMap::new();
    for (name, [mean, p99]) in runs.iter().flatten() {
        let (sum, n) = sums.entry(name.clone()).or_default();
        (*sum, *n) = ([sum[0] + mean, sum[1] + p99], *n + 1.0);
    }
    sums.into_iter().map(|(name, (sum, n))| (name, sum.map(|x| x / n))).collect()
}

#[test]
fn who_moves_with_a_slow_adservice_and_who_does_not() {
    let real = |file: &str| {
        shared(&format!("data/traces/csv/onlineboutique-{file}"))
            .map(|path| fs::read(path).expect("a file that is there can be read"))
    };
    let (Some(calm), Some(faulty), Some(observed)) =
        (real("faultfree-1min.csv.gz"), real("adservice-cpu-1min.csv.gz"), real("adservice-cpu-1min.observed.csv"))
    else {
        return;
    };
    let (target, came) = table(std::str::from_utf8(&observed).expect("text"));
    assert_eq!(target, "adservice");
    let lesson = learn(&read("faultfree", &calm), &LearnOptions::default()).expect("it teaches");
    // The reader of tables and the makers of the table agree on what happened.
    let seen = answers(&learn(&read("faulty", &faulty), &LearnOptions::default()).expect("it teaches"));
    for (name, Seen { server: [_, [mean, p99]], .. }) in &came {
        let [our_mean, our_p99] = seen[name];
        assert!((our_mean / mean - 1.0).abs() < 0.05, "{name}: mean {our_mean}, in the table {mean}");
        // Their estimator interpolates.
        assert!((our_p99 / p99 - 1.0).abs() < 0.25, "{name}: p99 {our_p99}, in the table {p99}");
    }

    let without = mean(&(1..=RUNS).map(|seed| foretold(&lesson, "", seed)).collect::<Vec<_>>());
    let told = |factor: f64| {
        let during = format!("{{ kind: slow, target: {target}, start: 0s, duration: 60s, magnitude: {{ factor: {factor} }} }}");
        mean(&(1..=RUNS).map(|seed| foretold(&lesson, &during, seed)).collect::<Vec<_>>())
    };
    let Seen { server: [[before, _], [after, _]], caller: [waited_before, waited] } = came[&target];
    let with = told(after / before);
    // Its callers did not always wait for it: their spans end before its own. What they saw is the other way to tell it.
    let as_callers_saw_it = told(1.0 + (waited - waited_before) / before);

    let mut report = String::new();
    let (mut moved, mut stayed) = (Vec::new(), Vec::new());
    for (name, Seen { server: [[calm, _], [hurt, hurt_p99]], .. }) in &came {
        let ([foretold_calm, _], [foretold, foretold_p99]) = (without[name], with[name]);
        writeln!(
            report,
            "{name}: mean {calm:.1} -> {hurt:.1} ms came, {foretold_calm:.1} -> {foretold:.1} ms foretold; p99 {hurt_p99:.0} ms came, \
             {foretold_p99:.0} ms foretold"
        )
        .expect("memory takes it");
        let (really, said) = (hurt / calm >= MOVED, foretold / foretold_calm >= MOVED);
        assert_eq!(really, said, "{name}\n{report}");
        if really { moved.push(name.as_str()) } else { stayed.push(name.as_str()) }
    }
    eprintln!("{report}");
    assert_eq!((moved, stayed.len()), (vec!["adservice", "frontend"], 8), "{report}");
    // And by how much, as a multiple of what came.
    let rise = |with: &Answers, name: &str| {
        let Seen { server: [[calm, _], [hurt, _]], .. } = came[name];
        (with[name][0] - without[name][0]) / (hurt - calm)
    };
    let rises = [rise(&with, "adservice"), rise(&with, "frontend"), rise(&as_callers_saw_it, "frontend")];
    eprintln!(
        "of the rise that came: adservice {:.2}, frontend {:.2}; told as callers saw it, frontend {:.2}",
        rises[0], rises[1], rises[2]
    );
    assert!((rises[0] - 1.0).abs() < 0.1, "{rises:?}\n{report}");
    assert!((1.0..1.6).contains(&rises[1]), "its callers wait for all of it in the model: {rises:?}\n{report}");
    assert!((rises[2] - 1.0).abs() < 0.15, "{rises:?}\n{report}");
    for name in &stayed {
        let change = with[*name][0] / without[*name][0] - 1.0;
        assert!(change.abs() < 0.1, "{name} changes by {change}\n{report}");
    }
}
