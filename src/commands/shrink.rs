//! `shrink`: the smallest scenario that still fails as a named run does.
//!
//! You are here: `commands::shrink`. `scenarios::reduce` chooses what to try, `sim` answers whether it still fails in the same way.
//! Always true: what is written has been run and fails so; the same token and number of runs give the same files.
//! Not here: why it fails (`explain`).

use models::format::{canonical_text, write_model};
use models::system::Model;
use models::units::Nanos;
use reports::words;
use scenarios::check::check;
use scenarios::failure::Failure as Way;
use scenarios::fault::Fault;
use scenarios::format::write_scenarios;
use scenarios::milder::{milder, milder_time, round2};
use scenarios::prune::only;
use scenarios::record::RunRecord;
use scenarios::reduce::{ddmin, least_part};
use scenarios::scenario::Scenario;
use scenarios::token::model_hash;
use serde_json::json;
use sim::{Program, RunOptions, judged};

use crate::args::Shrink;
use crate::exit::Failure;
use crate::named::Named;
use crate::output::{self, OutputDir, Settings, Times};
use crate::show;

/// Reduces the run that a token names, and writes what is left.
pub fn act(args: &Shrink) -> Result<(), Failure> {
    let run = Named::find("shrink", &args.token, args.dir.as_deref())?;
    run.announce(&Program::compile(&run.model, run.token.world)?);
    let dir = OutputDir::create(&args.output)?;
    let mut search = Search { world: run.token.world, options: run.options(), way: Way::Breach, most: args.runs, made: 0 };
    let first = search.record(&run.model, &run.scenario)?;
    search.way = way(args, &run, &first)?;
    let (model, mut scenario) = search.reduce(&run)?;
    scenario.id = format!("{}-small", run.scenario.id.chars().take(190).collect::<String>());
    scenario.why = format!("the least of {} that still fails so: {}", run.scenario.id, search.way.name());
    let record = search.record(&model, &scenario)?;
    debug_assert!(search.way.is_in(&record), "what is kept has been seen to fail");
    write(&dir, &run, &model, &scenario, &record)?;
    say(args, &run, &search, &model, &scenario, &record)
}

/// In which way it has to go on failing: as asked, else the worst in which it does.
fn way(args: &Shrink, run: &Named, record: &RunRecord) -> Result<Way, Failure> {
    let asked = args.keep.as_deref().map(|name| {
        let found = Way::ALL.iter().find(|(known, _)| *known == name).map(|(_, way)| *way);
        found.expect("the command line takes only names of this list")
    });
    let found = asked.map_or_else(|| Way::worst_of(record), |way| way.is_in(record).then_some(way));
    found.ok_or_else(|| {
        let ways: Vec<&str> = Way::ALL.iter().filter(|(_, way)| way.is_in(record)).map(|(name, _)| *name).collect();
        let (expected, help) = if ways.is_empty() {
            (
                "a run that fails: this one has no breach, no stale writes and no dead letters".to_owned(),
                "choose another token".to_owned(),
            )
        } else {
            (
                format!("a way in which the run fails: {}", ways.join(", ")),
                format!("leave --keep away, or write --keep {}", ways[0]),
            )
        };
        Failure::refused(run.token, expected, help)
    })
}

/// Runs, and how many of them.
struct Search {
    world: u32,
    options: RunOptions,
    way: Way,
    most: u32,
    made: u32,
}

impl Search {
    fn record(&mut self, model: &Model, scenario: &Scenario) -> Result<RunRecord, Failure> {
        self.made += 1;
        let program = Program::compile(model, self.world)?;
        Ok(judged(&program, scenario, &self.options, model_hash(&canonical_text(model)))?)
    }

    /// Whether it still fails in the same way; `None` if no more runs may be made. What makes no sense does not fail.
    fn fails(&mut self, model: &Model, scenario: &Scenario) -> Option<bool> {
        if models::check::check(model).is_err() || check(scenario, model).is_err() {
            return Some(false);
        }
        // (The last one is for what is written.)
        if self.made + 1 >= self.most {
            return None;
        }
        Some(self.record(model, scenario).is_ok_and(|record| self.way.is_in(&record)))
    }

    fn reduce(&mut self, run: &Named) -> Result<(Model, Scenario), Failure> {
        let (mut model, mut scenario) = (run.model.clone(), run.scenario.clone());
        let with = |scenario: &Scenario, faults: &[Fault]| Scenario { faults: faults.to_vec(), ..scenario.clone() };
        scenario.faults = ddmin(&run.scenario.faults, |faults| self.fails(&model, &with(&scenario, faults)));
        // A service that a fault strikes cannot go; the others in the model's order.
        let services: Vec<String> = model.services.keys().cloned().collect();
        let kept = ddmin(&services, |kept| self.fails(&only(&run.model, kept), &scenario));
        model = only(&run.model, &kept);
        for i in 0..scenario.faults.len() {
            let fault = scenario.faults[i].clone();
            if !(fault.ramp_up.is_zero() && fault.ramp_down.is_zero()) {
                let sudden = Fault { ramp_up: Nanos::ZERO, ramp_down: Nanos::ZERO, ..fault };
                self.try_fault(&model, &mut scenario, i, sudden);
            }
            let whole = scenario.faults[i].clone();
            least_part(|part| {
                tried_duration(&whole, part).map_or(Some(false), |changed| self.try_fault(&model, &mut scenario, i, changed))
            });
            let whole = scenario.faults[i].clone();
            least_part(|part| {
                let kind = milder(&whole.kind, part).filter(|kind| *kind != whole.kind);
                kind.map_or(Some(false), |kind| self.try_fault(&model, &mut scenario, i, Fault { kind, ..whole.clone() }))
            });
        }
        let load = scenario.load();
        if load > 1.0 {
            let usual = Scenario { load: None, ..scenario.clone() };
            if self.fails(&model, &usual) == Some(true) {
                scenario = usual;
            } else {
                least_part(|part| {
                    let next = Scenario { load: Some(round2(1.0 + (load - 1.0) * part)), ..scenario.clone() };
                    let fails = self.fails(&model, &next);
                    if fails == Some(true) {
                        scenario = next;
                    }
                    fails
                });
            }
        }
        Ok((model, scenario))
    }

    /// Tries another form of a fault, and keeps it if it still fails.
    fn try_fault(&mut self, model: &Model, scenario: &mut Scenario, i: usize, changed: Fault) -> Option<bool> {
        let mut next = scenario.clone();
        next.faults[i] = changed;
        let fails = self.fails(model, &next);
        if fails == Some(true) {
            *scenario = next;
        }
        fails
    }
}

/// The fault for a part of its time; `None` if that is no time at all, or all of it.
fn tried_duration(fault: &Fault, part: f64) -> Option<Fault> {
    let duration = milder_time(fault.duration, part);
    let ramps = fault.ramp_up.as_nanos().saturating_add(fault.ramp_down.as_nanos());
    (!duration.is_zero() && duration < fault.duration && ramps <= duration.as_nanos())
        .then(|| Fault { duration, ..fault.clone() })
}

/// An output folder with the one run, in which `replay` and `explain` find it.
fn write(dir: &OutputDir, run: &Named, model: &Model, scenario: &Scenario, record: &RunRecord) -> Result<(), Failure> {
    let batch = Times { scenarios: 1, horizon: run.token.horizon.to_string(), warm_up: run.warm_up.to_string() };
    let settings = Settings { version: 1, foreshock: env!("CARGO_PKG_VERSION").to_owned(), batches: vec![batch] };
    let one = std::slice::from_ref(scenario);
    dir.write(output::MODEL, |out| out.write_all(write_model(model).as_bytes()))?;
    dir.write(output::SCENARIOS, |out| out.write_all(write_scenarios(one).as_bytes()))?;
    dir.write(output::SETTINGS, |out| Ok(serde_json::to_writer_pretty(out, &settings)?))?;
    dir.start_runs(&[record]).map(|_| ())
}

fn say(
    args: &Shrink,
    run: &Named,
    search: &Search,
    model: &Model,
    scenario: &Scenario,
    record: &RunRecord,
) -> Result<(), Failure> {
    let folder = args.output.to_string_lossy();
    let command = format!("foreshock replay {} --in {}", words::quoted(&record.token), words::quoted(&folder));
    if args.json {
        let faults = |scenario: &Scenario| scenario.faults.iter().map(words::fault).collect::<Vec<_>>();
        let side = |model: &Model, scenario: &Scenario, token: &str| {
            json!({
                "token": token,
                "faults": faults(scenario),
                "load": scenario.load(),
                "services": model.services.keys().collect::<Vec<_>>(),
            })
        };
        return show::json(&json!({
            "fails": search.way.name(),
            "runs": search.made,
            "from": side(&run.model, &run.scenario, &run.token.to_string()),
            "to": side(model, scenario, &record.token),
            "replay": command,
        }));
    }
    let mut text = format!("{} still fails in the same way ({}) as:\n", run.scenario.id, search.way.name());
    for fault in &scenario.faults {
        text += &format!("  - {} (from {} s on)\n", words::fault(fault), fault.start.as_secs_f64());
    }
    text += "\nReduced:\n";
    let mut line = |what: &str, from: String, to: String| {
        let became = if from == to { format!("{from}, as it was") } else { format!("{from} -> {to}") };
        text += &format!("  {what:<10} {became}\n");
    };
    line("faults", run.scenario.faults.len().to_string(), scenario.faults.len().to_string());
    line("services", run.model.services.len().to_string(), model.services.len().to_string());
    line("load", words::number(run.scenario.load()), words::number(scenario.load()));
    for fault in &scenario.faults {
        let same = |old: &&Fault| old.kind.name() == fault.kind.name() && old.target == fault.target && old.start == fault.start;
        if let Some(old) = run.scenario.faults.iter().find(same) {
            line("fault", words::fault(old), words::fault(fault));
        }
    }
    let ended = if search.made + 1 >= search.most { "; more of them (--runs) may find a smaller one" } else { "" };
    text += &format!("  ({} of at most {}{ended})\n\n", words::plural(u64::from(search.made), "run"), search.most);
    text += &format!("Written to {folder}; play it again: {command}\n");
    show::text(&text.lines().map(words::clean).map(|line| line + "\n").collect::<String>())
}
