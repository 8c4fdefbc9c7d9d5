//! `simulate`: one run, with its numbers.

use std::path::Path;

use models::error::{InputError, InputErrors};
use models::system::Model;
use models::units::{Nanos, SimTime};
use scenarios::scenario::Scenario;
use sim::{Prepared, Program, RunOptions, RunResult, SpanOptions};

use crate::args::{Engine, Simulate};
use crate::exit::Failure;
use crate::show::{self, Table};
use crate::{clock, inputs, output, work};

/// Runs once and prints what came of it.
pub fn act(args: &Simulate) -> Result<(), Failure> {
    work::check_times(args.horizon, args.warmup)?;
    let model = inputs::model(&args.model)?;
    let scenario = match (&args.scenario, &args.id) {
        (Some(path), id) => pick(path, id.as_deref(), &model)?,
        (None, Some(id)) => return Err(without_a_file(&args.model, id)),
        (None, None) => Scenario::default(),
    };
    if scenario.clears_at().is_some_and(|clears| clears >= SimTime::ZERO + args.horizon) {
        show::note(format_args!("the run ends at {}, before the faults do", args.horizon));
    }
    let program = Program::compile_quantised(&model, args.world, args.quantum.unwrap_or(Nanos::ZERO))?;
    let options =
        RunOptions { seed: args.seed, horizon: args.horizon, warm_up: args.warmup, series: args.series, ..RunOptions::default() };
    let spans = SpanOptions { share: args.otlp_share, ..SpanOptions::default() };
    let before = clock::thread_cpu();
    let finished = match args.engine {
        Engine::Kernel => {
            let prepared = Prepared::new(&program, &scenario, &options)?;
            if args.otlp.is_some() { prepared.trace(&spans).run() } else { prepared.run() }
        }
        Engine::Hosted if args.otlp.is_some() => {
            return Err(Failure::refused("--otlp", "the kernel, which alone traces its runs", "leave out --engine hosted"));
        }
        Engine::Hosted => {
            show::note(format_args!("{} hosts, a clock of {}", sim::hosted::hosts(&program), sim::hosted::TICK));
            sim::hosted::run(&program, &scenario, &options)?
        }
    };
    let cpu_seconds = (clock::thread_cpu() - before).as_secs_f64();
    let result = RunResult { cpu_seconds, ..finished.result() };
    if let (Some(path), Some(spans)) = (&args.otlp, finished.spans(&model, &spans)) {
        output::write_file(path, |out| spans.write_otlp(out))?;
        show::note(format_args!("{}: {} spans", path.display(), spans.count()));
        if spans.left_out > 0 {
            show::note(format_args!("  {} traces were left out: there were too many spans; see --otlp-share", spans.left_out));
        }
    }
    if args.json { show::json(&result) } else { show::text(&as_text(&result)) }
}

/// The scenario that is meant: the only one of the file, or the one with this id.
fn pick(path: &Path, id: Option<&str>, model: &Model) -> Result<Scenario, Failure> {
    let scenarios = inputs::scenarios(path, model)?;
    let ids: Vec<String> = scenarios.iter().map(|scenario| scenario.id.clone()).collect();
    let count = scenarios.len();
    let found = scenarios.into_iter().find(|scenario| id.map_or(count == 1, |id| scenario.id == id));
    found.ok_or_else(|| {
        let nearest = id.and_then(|id| models::error::nearest(id, ids.iter().map(String::as_str)));
        let help = nearest.or(ids.first().map(String::as_str)).map(|id| format!("write --id {id}"));
        let error = InputError {
            file: inputs::name(path),
            found: id.map_or_else(|| format!("{count} scenarios, and no --id"), |id| format!("no scenario {id}")),
            expected: if ids.is_empty() { "a scenario".into() } else { format!("one scenario, named by --id: {}", list(&ids)) },
            help: help.unwrap_or_default(),
            ..InputError::default()
        };
        InputErrors::from(error).into()
    })
}

/// `--id` without the file that holds it; some write the file there.
fn without_a_file(model: &Path, id: &str) -> Failure {
    let model = inputs::name(model);
    let help = if Path::new(id).is_file() {
        format!("the file needs no flag: foreshock simulate {model} {id}")
    } else {
        format!("foreshock simulate {model} scenarios.yaml --id {id}")
    };
    Failure::refused(format_args!("--id {id}"), "a scenario file that holds it, after the model", help)
}

fn list(ids: &[String]) -> String {
    let shown = ids.iter().take(12).map(String::as_str).collect::<Vec<_>>().join(", ");
    if ids.len() > 12 { format!("{shown} and {} more", ids.len() - 12) } else { shown }
}

fn as_text(result: &RunResult) -> String {
    let mut text = format!(
        "{} requests, {} events in {:.2} s of CPU time; digest {}\n",
        result.requests, result.events, result.cpu_seconds, result.digest
    );
    if result.truncated {
        text += "The run was ended early: it used up its budget of events.\n";
    }
    text + "\n" + &tables(result)
}

/// Calls and services of a run.
pub fn tables(result: &RunResult) -> String {
    let mut calls = Table::new(&[
        "as the caller saw it",
        ">requests",
        ">attempts",
        ">errors",
        ">error rate",
        ">mean ms",
        ">p50 ms",
        ">p99 ms",
    ]);
    for (name, c) in result.entries.iter().chain(&result.boundaries) {
        let numbers = [c.error_rate * 100.0, c.mean_ms, c.p50_ms, c.p99_ms];
        let mut row = vec![name.clone(), c.requests.to_string(), c.attempts.to_string(), c.errors.to_string()];
        row.push(format!("{:.2} %", numbers[0]));
        row.extend(numbers[1..].iter().map(|ms| format!("{ms:.2}")));
        calls.row(row);
    }
    let mut services = Table::new(&["service", ">utilisation", ">mean wait ms", ">mean in system", ">queue peak"]);
    for (name, s) in &result.services {
        let utilisation = format!("{:.1} %", s.utilisation * 100.0);
        services.row(vec![
            name.clone(),
            utilisation,
            format!("{:.2}", s.mean_wait_ms),
            format!("{:.2}", s.mean_in_system),
            s.queue_peak.to_string(),
        ]);
    }
    format!("{calls}\n{services}")
}
