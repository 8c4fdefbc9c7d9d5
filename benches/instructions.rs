//! One run and nothing else, for counting instructions: `cargo bench --bench instructions -- CASE SECONDS` prints the events handled.
//!
//! Wall time varies from machine to machine and from minute to minute; the instructions of a run do not. `.ci/instructions` counts those of a
//! long run less those of a short one under valgrind and holds them against `benches/instructions.txt`.

use models::units::Nanos;
use scenarios::scenario::Scenario;
use sim::{Prepared, Program, RunOptions};

mod graphs;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [case, seconds] = &arguments[..] else {
        // Run together with the other benches: there is nothing to measure without valgrind.
        println!("usage: cargo bench --bench instructions -- chain3|healthy|unused|storm SECONDS");
        return;
    };
    let (model, scenario) = match &**case {
        "chain3" => (graphs::chain_3(), Scenario::default()),
        "healthy" => (graphs::twenty(), Scenario::default()),
        "unused" => (graphs::twenty_and_unused(), Scenario::default()),
        "storm" => (graphs::twenty(), graphs::storm()),
        other => panic!("no case {other}: chain3, healthy, unused or storm"),
    };
    let horizon = Nanos::from_secs(seconds.parse().expect("seconds"));
    let program = Program::compile(&model, 0).expect("it compiles");
    let run = Prepared::new(&program, &scenario, &RunOptions { horizon, ..RunOptions::default() }).expect("it runs").run();
    println!("{}", run.result().events);
}
