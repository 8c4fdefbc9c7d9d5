//! `replay`: the run that a token names, again, and what can be seen of it.

use models::units::Nanos;
use serde_json::json;
use sim::{Finished, Prepared, Program, RunOptions, SpanOptions};

use crate::args::Replay;
use crate::commands::simulate;
use crate::exit::Failure;
use crate::named::Named;
use crate::{output, show};

/// Repeats the run and compares its digest with the recorded one; where none is recorded, or only a part is run, runs twice and compares these.
pub fn act(args: &Replay) -> Result<(), Failure> {
    let run = Named::find("replay", &args.token, args.dir.as_deref())?;
    let until = args.until.filter(|&until| until < run.token.horizon);
    if until.is_some_and(Nanos::is_zero) {
        return Err(Failure::refused("--until", "a time after the run's start", "write it with a unit, such as --until 61.5s"));
    }
    let program = Program::compile(&run.model, run.token.world)?;
    // Totals of a part of the run are from its start on.
    let options = RunOptions { horizon: until.unwrap_or(run.token.horizon), warm_up: Nanos::ZERO, ..run.options() };
    let again = || sim::run::run(&program, &run.scenario, &options);
    let finished = if args.events.is_some() || args.otlp.is_some() {
        run.kernel_only("replay --events and --otlp")?;
        seen(args, &run, Prepared::new(&program, &run.scenario, &options)?)?
    } else {
        again()?
    };
    let now = finished.digest();
    let (against, expected) = match &run.recorded {
        Some(recorded) if until.is_none() => ("the recorded run", recorded.digest.clone()),
        _ => ("a second run of it", again()?.digest()),
    };
    let same = now == expected;
    if args.json {
        let mut said =
            json!({ "token": args.token, "scenario": run.scenario.id, "digest": now, "expected": expected, "same": same });
        if let Some(until) = until {
            said["until_s"] = json!(until.as_secs_f64());
            said["result"] = serde_json::to_value(finished.result()).expect("results are plain data");
        }
        show::json(&said)?;
    } else if same {
        show::text(&format!("{}: digest {now}, the same as {against}\n", show::plain(&run.scenario.id)))?;
        if let Some(until) = until {
            show::text(&format!("\nFrom the start to {until}:\n{}", simulate::tables(&finished.result())))?;
        }
    }
    if same {
        return Ok(());
    }
    Err(Failure::CheckFailed(format!(
        "error: {}\n  found:    digest {now}\n  expected: digest {expected}, as {against}\n  help:     was it recorded by another version of \
         foreshock? If not, this is a bug: please report it",
        args.token
    )))
}

/// Runs it, and writes what is asked for of it on the way.
fn seen(args: &Replay, run: &Named, mut prepared: Prepared) -> Result<Finished, Failure> {
    let spans = SpanOptions::default();
    if args.otlp.is_some() {
        prepared = prepared.trace(&spans);
    }
    let mut finished = None;
    match &args.events {
        Some(path) => output::write_file(path, |out| {
            finished = Some(prepared.run_with_events(out)?);
            Ok(())
        })?,
        None => finished = Some(prepared.run()),
    }
    let finished = finished.expect("it has run");
    if let (Some(path), Some(spans)) = (&args.otlp, finished.spans(&run.model, &spans)) {
        output::write_file(path, |out| spans.write_otlp(out))?;
        show::note(format_args!("{}: {} spans", path.display(), spans.count()));
        if spans.left_out > 0 {
            show::note(format_args!("  {} traces were left out: there were too many spans", spans.left_out));
        }
    }
    Ok(finished)
}
