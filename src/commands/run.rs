//! `run`: traces to a ranked report in one go.

use std::collections::BTreeSet;
use std::path::Path;

use models::format::write_model;
use models::manifests::Known;
use scenarios::format::{read_checked, write_scenarios};
use scenarios::scenario::Scenario;

use crate::args::Run;
use crate::commands::learn;
use crate::commands::report::{self, Subject};
use crate::commands::suggest::propose;
use crate::demo;
use crate::exit::Failure;
use crate::inputs::{self, Input, Named};
use crate::output::{self, OutputDir};
use crate::show;
use crate::work::{self, Batch};

/// What a rehearsal starts from: the user's traces and files, or the demo's.
struct Start {
    input: Input,
    known: Vec<Known>,
    live: Option<Named>,
}

/// Learns, proposes, runs, reports.
pub fn act(args: &Run) -> Result<(), Failure> {
    work::check_times(args.effort.horizon, args.effort.warmup)?;
    let dir = OutputDir::create(&args.output)?;
    let demo = args.input.traces.is_empty() && !args.input.reading.live.is_asked_for();
    let mut start = if demo { demo_start(args)? } else { own_start(args)? };
    learn::say_what_was_read(&start.input);
    let model = learn::lesson_with(&mut start.input, &start.known, &args.input.reading)?.model;

    let mut batches = Vec::new();
    if demo {
        let recorded = read_checked(demo::SCENARIOS.0, demo::SCENARIOS.1, &model)?;
        batches.push(Batch { scenarios: recorded, horizon: demo::HORIZON, warm_up: demo::WARM_UP });
    }
    let added = args.add.as_deref().map_or(Ok(Vec::new()), |path| inputs::scenarios(path, &model))?;
    batches.push(Batch { scenarios: added, horizon: args.effort.horizon, warm_up: args.effort.warmup });
    let mut scenarios = all_with_unique_ids(&batches, args.add.as_deref())?;
    let given = scenarios.len();
    // As many more as are asked for, without those that a file from `suggest` or the demo already gave.
    let wanted = args.scenarios.saturating_sub(given);
    let mut proposed = propose(&model, wanted + given, args.effort.horizon, args.effort.warmup)?;
    proposed.retain(|new| scenarios.iter().all(|old| old.id != new.id && (old.faults != new.faults || old.load() != new.load())));
    proposed.truncate(wanted);
    scenarios.extend(proposed.iter().cloned());
    batches.last_mut().expect("the batch of the added ones").scenarios.extend(proposed);
    show::note(format_args!(
        "{} scenarios ({given} given, {} proposed) x {} seeds",
        scenarios.len(),
        scenarios.len() - given,
        args.effort.seeds
    ));

    dir.write(output::MODEL, |out| out.write_all(write_model(&model).as_bytes()))?;
    dir.write(output::SCENARIOS, |out| out.write_all(write_scenarios(&scenarios).as_bytes()))?;
    let swept = work::sweep(&dir, &model, &batches, &args.effort)?;
    report::write(&dir, &Subject { model: &model, scenarios: &scenarios, records: &swept.records, live: start.live }, args.json)?;
    if swept.interrupted { Err(Failure::Interrupted) } else { Ok(()) }
}

fn own_start(args: &Run) -> Result<Start, Failure> {
    // The cheap files first: a mistake in one of them should not wait for gigabytes of traces.
    let known = inputs::known(&args.input.reading.with)?;
    let live = args.live.as_deref().map(inputs::named).transpose()?;
    Ok(Start { input: inputs::traces(&args.input.traces, &args.input.reading)?, known, live })
}

fn demo_start(args: &Run) -> Result<Start, Failure> {
    show::note("no traces were named: this is the demo, a small ticket shop that was recorded, and really hurt in twelve ways");
    let (name, bytes) = demo::KNOWN;
    let known = match args.input.reading.with.as_slice() {
        [] => vec![Known::read(name, bytes)?],
        paths => inputs::known(paths)?,
    };
    let live =
        args.live.as_deref().map_or_else(|| Ok((demo::OUTCOMES.0.to_owned(), demo::OUTCOMES.1.to_vec())), inputs::named)?;
    Ok(Start { input: inputs::demo_traces()?, known, live: Some(live) })
}

/// All scenarios in order. Ids name scenarios in every file that follows, so one that is given twice is refused.
fn all_with_unique_ids(batches: &[Batch], added: Option<&Path>) -> Result<Vec<Scenario>, Failure> {
    let scenarios: Vec<Scenario> = batches.iter().flat_map(|batch| batch.scenarios.iter().cloned()).collect();
    let mut seen = BTreeSet::new();
    match scenarios.iter().find(|scenario| !seen.insert(scenario.id.as_str())) {
        None => Ok(scenarios),
        Some(twice) => Err(Failure::refused(
            added.map_or_else(|| "scenarios".to_owned(), inputs::name),
            format_args!("ids that no other scenario has; {} is also one of the demo's", twice.id),
            "give the scenario another id",
        )),
    }
}
