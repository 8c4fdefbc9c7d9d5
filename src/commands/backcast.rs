//! Backcast: learn from the first part of the traffic, foretell the rest, and say how well that went.
//!
//! You are here: `commands::backcast`, for `learn`, `inspect` and `run` with `--backcast`. The rest is foretold at its own load: its users'
//! rates over time are taken from it, and nothing else. Both the rest and the simulated runs are looked at by the learner itself, the
//! runs through the spans that they would have sent, so that the same numbers are compared.
//! Not here: the score (`models::fidelity`).

use std::collections::{BTreeMap, BTreeSet};

use models::fidelity::{Backcast, BoundaryScore, Measure, measures, score};
use models::graph::NodeKind;
use models::learn::{Curve, Lesson, learn};
use models::manifests::Known;
use models::system::Model;
use models::trace::{ReadOptions, Reader, TraceSet};
use models::units::Nanos;
use scenarios::scenario::Scenario;
use serde_json::{Map, Value, json};
use sim::{Prepared, Program, RunOptions, SpanOptions};

use crate::commands::learn::{lay_over, options};
use crate::exit::Failure;
use crate::show::Table;

/// Share of the traces that is learned from.
const FIRST: f64 = 2.0 / 3.0;
/// Runs.
const RUNS: u32 = 10;
/// Spans of a run, about: longer traffic is foretold for a part of its length.
const MOST_SPANS: f64 = 60_000.0;
/// Traces that either part must have.
const FEWEST: usize = 100;

/// Foretells the last third of `traces` from the first two. The traces are as before afterwards.
///
/// # Errors
/// Too few traces, or nothing to learn from in one of the parts.
pub fn backcast(traces: &mut TraceSet, known: &[Known], sampling: Option<f64>) -> Result<Backcast, Failure> {
    let cut = (traces.traces.len() as f64 * FIRST) as usize;
    if traces.traces.len() - cut < FEWEST {
        return Err(Failure::refused(
            "--backcast",
            format_args!("at least {} traces ({} were read)", 3 * FEWEST, traces.traces.len()),
            "give more traffic, or leave --backcast away",
        ));
    }
    let rest = traces.traces.split_off(cut);
    let first = learn(traces, &options(known, sampling)).map(|mut lesson| {
        lay_over(known, &mut lesson.model);
        lesson
    });
    let first_traces = std::mem::replace(&mut traces.traces, rest);
    let mut following = options(known, sampling);
    following.curve = Curve::Windows;
    let came = learn(traces, &following);
    let rest = std::mem::replace(&mut traces.traces, first_traces);
    traces.traces.extend(rest);
    let (first, came) = (first?, came?);
    foretell(&first, &came)
}

/// Simulates the traffic that came, by the model that was learned before it.
fn foretell(first: &Lesson, came: &Lesson) -> Result<Backcast, Failure> {
    let length = |lesson: &Lesson| lesson.model.learned.as_ref().map_or(0.0, |learned| learned.seconds);
    let (learned_s, foretold_s) = (length(first), length(came).max(1.0));
    let spans_per_s = came.model.learned.as_ref().map_or(0.0, |learned| learned.spans as f64) / foretold_s;
    let seconds = foretold_s.min((MOST_SPANS / spans_per_s.max(1e-9)).max(10.0));
    let mut model = at_load_of(first, came, seconds < foretold_s);
    model.learned = None;
    let program = Program::compile(&model, 0)?;
    let silent: BTreeSet<String> = first
        .graph
        .graph
        .node_weights()
        .filter(|node| matches!(node.kind, NodeKind::Database | NodeKind::Broker | NodeKind::Uninstrumented))
        .map(|node| node.name.to_string())
        .collect();
    let spans = SpanOptions { silent, ..SpanOptions::default() };
    let mut runs = Vec::new();
    for seed in 1..=u64::from(RUNS) {
        runs.push(one_run(&model, &program, &spans, seed, Nanos::from_secs_f64(seconds))?);
    }
    let boundaries = score(&runs, &measures(&came.model), seconds / foretold_s);
    let round = |s: f64| (s * 1e3).round() / 1e3;
    Ok(Backcast { learned_s: round(learned_s), foretold_s: round(foretold_s), runs: RUNS, boundaries })
}

/// The model of the first part under the users of the second. `steady`: at their mean rate.
fn at_load_of(first: &Lesson, came: &Lesson, steady: bool) -> Model {
    let mut model = first.model.clone();
    for entry in model.workload.values_mut() {
        let Some(other) = came.model.workload.values().find(|other| other.to.service == entry.to.service) else {
            (entry.closed, entry.rate.value) = (None, 1e-6); // nobody came here any more
            continue;
        };
        // Whoever they are, they come as they came.
        entry.closed = None;
        entry.rate.value = other.rate.value;
        entry.curve = if steady { None } else { other.curve.clone() };
    }
    model
}

/// What one simulated run shows to the learner.
fn one_run(
    model: &Model,
    program: &Program,
    spans: &SpanOptions,
    seed: u64,
    horizon: Nanos,
) -> Result<BTreeMap<String, Measure>, Failure> {
    let run = RunOptions { seed, horizon, ..RunOptions::default() };
    let finished = Prepared::new(program, &Scenario::default(), &run)?.trace(spans).run();
    let mut bytes = Vec::new();
    if let Some(spans) = finished.spans(model, spans) {
        spans.write_otlp(&mut bytes).map_err(|why| Failure::Refused(format!("error: cannot write spans: {why}")))?;
    }
    let mut reader = Reader::new(ReadOptions::default());
    reader.read("a simulated run", bytes.as_slice())?;
    Ok(measures(&learn(&reader.finish(), &options(&[], None))?.model))
}

/// The same for machines; each pair is what was foretold, and what came.
pub fn as_json(backcast: &Backcast) -> Value {
    let boundary = |b: &BoundaryScore| {
        json!({
            "score": b.score,
            "attempts": b.attempts,
            "per_s": b.per_s,
            "error_rate": b.error_rate,
            "p50_ms": b.p50_ms,
            "p99_ms": b.p99_ms,
        })
    };
    json!({
        "learned_s": backcast.learned_s,
        "foretold_s": backcast.foretold_s,
        "runs": backcast.runs,
        "boundaries": backcast.boundaries.iter().map(|(name, b)| (name.clone(), boundary(b))).collect::<Map<_, _>>(),
    })
}

/// What was foretold and what came, as a table, and what to make of it.
pub fn as_text(backcast: &Backcast) -> String {
    let [lead, foot] = words(backcast);
    format!("Backcast: {lead}\n{}  {foot}\n", table(backcast))
}

/// What stands above the table and below it.
pub fn words(backcast: &Backcast) -> [String; 2] {
    [
        format!(
            "learned from the first {:.0} s, the other {:.0} s foretold at their own load ({} runs)",
            backcast.learned_s, backcast.foretold_s, backcast.runs
        ),
        "score: 1 less the worst relative difference beyond chance (errors: ten points are all). It tells nothing of faults or other loads."
            .to_owned(),
    ]
}

/// A row a boundary.
pub fn table(backcast: &Backcast) -> Table {
    let head = [
        "boundary",
        ">score",
        ">attempts",
        ">per s foretold",
        ">came",
        ">errors foretold",
        ">came",
        ">p50 ms foretold",
        ">came",
        ">p99 ms foretold",
        ">came",
    ];
    let mut table = Table::new(&head);
    for (name, b) in &backcast.boundaries {
        let mut row = vec![name.clone(), format!("{:.2}", b.score), b.attempts.to_string()];
        row.extend(b.per_s.map(|x| format!("{x:.1}")));
        row.extend(b.error_rate.map(|x| format!("{:.1} %", x * 100.0)));
        row.extend(b.p50_ms.map(|x| format!("{x:.1}")));
        row.extend(b.p99_ms.map(|x| format!("{x:.1}")));
        table.row(row);
    }
    table
}
