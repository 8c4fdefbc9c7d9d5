//! `rank`: the finished runs of a folder, reported again without simulating the sweep.

use scenarios::format::read_scenarios;

use crate::args::Rank;
use crate::commands::report::{self, Subject};
use crate::exit::Failure;
use crate::inputs;
use crate::output::{self, OutputDir};

/// Reads runs, model and scenarios of a folder and writes its reports anew.
pub fn act(args: &Rank) -> Result<(), Failure> {
    let (_, records) = output::finished(&args.dir).ok_or_else(|| {
        Failure::refused(
            args.dir.display(),
            format_args!("a folder with {} and {} of this version", output::RUNS, output::SETTINGS),
            "name a folder that foreshock run or foreshock sweep wrote",
        )
    })?;
    let model = inputs::model(&args.dir.join(output::MODEL))?;
    let path = args.dir.join(output::SCENARIOS);
    let scenarios = read_scenarios(&inputs::name(&path), &inputs::bytes(&path)?)?;
    let kept = args.dir.join(output::LIVE);
    let live = args.live.clone().or_else(|| kept.is_file().then_some(kept));
    let live = live.as_deref().map(inputs::named).transpose()?;
    let dir = OutputDir::create(&args.dir)?;
    report::write(&dir, &Subject { model: &model, scenarios: &scenarios, records: &records, live }, args.json)
}
