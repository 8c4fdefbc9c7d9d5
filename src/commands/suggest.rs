//! `suggest`: model to scenarios.

use models::system::Model;
use models::units::{Nanos, SimTime};
use scenarios::analyse::analyse;
use scenarios::format::write_scenarios;
use scenarios::generate::{GenerateOptions, generate};
use scenarios::scenario::Scenario;
use serde_json::json;

use crate::args::Suggest;
use crate::exit::Failure;
use crate::{inputs, output, show};

/// Proposes scenarios and writes them.
pub fn act(args: &Suggest) -> Result<(), Failure> {
    let model = inputs::model(&args.model)?;
    let scenarios = propose(&model, args.scenarios, args.horizon, Nanos::from_secs(10))?;
    let text = write_scenarios(&scenarios);
    if let Some(path) = &args.output {
        output::write_file(path, |out| out.write_all(text.as_bytes()))?;
    }
    if args.json {
        let list: Vec<_> =
            scenarios.iter().map(|s| json!({ "id": s.id, "why": s.why, "load": s.load(), "faults": faults(s) })).collect();
        return show::json(&json!({ "scenarios": list }));
    }
    match &args.output {
        Some(path) => show::note(format_args!("{} scenarios in {}", scenarios.len(), path.display())),
        None => show::text(&text)?,
    }
    Ok(())
}

/// The `count` scenarios most worth running on this model within `horizon`.
pub fn propose(model: &Model, count: usize, horizon: Nanos, warm_up: Nanos) -> Result<Vec<Scenario>, Failure> {
    let defaults = GenerateOptions::default();
    let latest = defaults.fault_start + defaults.fault_duration;
    if horizon <= latest {
        return Err(Failure::refused(
            "--horizon",
            format_args!(
                "more than {latest}: proposed faults begin at {} and last {}",
                defaults.fault_start, defaults.fault_duration
            ),
            "give the system time to recover after the fault: 120s is the default",
        ));
    }
    Ok(generate(model, &analyse(model), &GenerateOptions { count, horizon, warm_up, ..defaults }))
}

fn faults(scenario: &Scenario) -> Vec<serde_json::Value> {
    let seconds = SimTime::as_secs_f64;
    let faults = scenario.faults.iter();
    faults
        .map(|f| {
            json!({ "kind": f.kind.name(), "target": f.target.to_string(), "start_s": seconds(f.start), "duration_s": f.duration.as_secs_f64() })
        })
        .collect()
}
