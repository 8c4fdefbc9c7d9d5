//! `sweep`: the scenarios of a file, each under several seeds.

use models::format::write_model;
use scenarios::format::write_scenarios;

use crate::args::Sweep;
use crate::commands::report::{self, Subject};
use crate::exit::Failure;
use crate::inputs;
use crate::output::{self, OutputDir};
use crate::work::{self, Batch};

/// Runs and reports.
pub fn act(args: &Sweep) -> Result<(), Failure> {
    work::check_times(args.effort.horizon, args.effort.warmup)?;
    let dir = OutputDir::create(&args.output)?;
    let model = inputs::model(&args.model)?;
    let scenarios = inputs::scenarios(&args.scenarios, &model)?;
    let live = args.live.as_deref().map(inputs::named).transpose()?;
    dir.write(output::MODEL, |out| out.write_all(write_model(&model).as_bytes()))?;
    dir.write(output::SCENARIOS, |out| out.write_all(write_scenarios(&scenarios).as_bytes()))?;
    let batch = Batch { scenarios: scenarios.clone(), horizon: args.effort.horizon, warm_up: args.effort.warmup };
    let swept = work::sweep(&dir, &model, &[batch], &args.effort)?;
    let subject = Subject { model: &model, scenarios: &scenarios, records: &swept.records, live };
    report::write(&dir, &subject, args.json)?;
    if swept.interrupted { Err(Failure::Interrupted) } else { Ok(()) }
}
