//! The event loop allocates nothing once warm, and its memory does not grow with the length of a run. Counted on this thread alone.

use allocation_counter::AllocationInfo;
use models::system::Model;
use models::units::Nanos;
use scenarios::scenario::Scenario;
use sim::{Prepared, Program, RunOptions};

use crate::story::{file_model, model};

/// What a run of so many seconds allocates between its start and its end, and its events.
fn measured(model: &Model, seconds: u64) -> (AllocationInfo, u64) {
    let program = Program::compile(model, 0).expect("it compiles");
    let options = RunOptions { horizon: Nanos::from_secs(seconds), max_events: u64::MAX, ..RunOptions::default() };
    let prepared = Prepared::new(&program, &Scenario::default(), &options).expect("it runs");
    let mut finished = None;
    let info = allocation_counter::measure(|| finished = Some(prepared.run()));
    (info, finished.expect("it has run").result().events)
}

/// Twenty services in four layers, 200 requests a second, each of which visits some of every layer.
fn twenty() -> Model {
    let (mut services, mut edges) = (String::new(), String::new());
    for i in 0..20 {
        let calls: String =
            [2 * i + 1, 2 * i + 2].iter().filter(|&&to| to < 20).map(|to| format!(", {{ call: s{to}.op }}")).collect();
        services += &format!(
            "  s{i}: {{ workers: 24, queue: 200, operations: {{ op: {{ paths: [ {{ weight: 2, steps: [ {{ work: {{ exponential: 2ms }} }}{calls} ] }}, \
             {{ weight: 1, steps: [ {{ work: {{ constant: 1ms }} }} ] }} ] }} }} }}\n"
        );
        for to in [2 * i + 1, 2 * i + 2].into_iter().filter(|&to| to < 20) {
            edges += &format!(
                "  s{i}->s{to}: {{ latency: 1ms, timeout: 500ms, retry: {{ attempts: 3, backoff: 20ms, jitter: full }} }}\n"
            );
        }
    }
    model(&format!(
        "version: 1\nworkload: {{ users: {{ to: s0.op, open: {{ rate: 200/s }} }} }}\nservices:\n{services}edges:\n  users->s0: {{ timeout: 2s }}\n{edges}"
    ))
}

#[test]
fn no_event_allocates_once_warm() {
    for (name, model) in [("20 services", twenty()), ("shop", file_model("tests/it/corpus/shop.model.yaml"))] {
        let ((short, fewer), (long, more)) = (measured(&model, 120), measured(&model, 240));
        let grown = long.count_total - short.count_total;
        assert!(more - fewer > 100_000, "{name}: {} further events", more - fewer);
        // What is kept for each request or bucket doubles now and then.
        assert!(grown <= 80, "{name}: {grown} allocations in {} further events, {} in {fewer}", more - fewer, short.count_total);
    }
}
