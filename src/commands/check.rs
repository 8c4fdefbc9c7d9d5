//! `check`: holds a model against statements, for CI.
//!
//! You are here: `commands::check`. `scenarios::checks` says what is meant, `sim` makes the runs, `reports::sequential` decides when there are
//! enough of them, `reports::checks` and [`junit`] write what came of it.
//! Always true: results do not depend on the number of threads: outcomes count in the order of their seeds, and those that were made beyond a
//! decision do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use models::error::{InputError, InputErrors};
use models::format::{canonical_text, doc, write_model};
use models::system::Model;
use models::units::Nanos;
use reports::checks::{CaseResult, CheckResult, CheckResults, Failing, Status, bounds, shown};
use reports::sequential::{Decision, Sequential, fewest_runs};
use scenarios::checks::{Check, Checks, Must, Subject, read_checks};
use scenarios::format::write_scenarios;
use scenarios::record::RunRecord;
use scenarios::scenario::Scenario;
use scenarios::token::{Engine, Token, model_hash, scenario_hash};
use sim::{Program, RunOptions, Shortcuts, SweepOptions, error_rate_at, judged};

use crate::args;
use crate::commands::junit;
use crate::exit::Failure;
use crate::output::{self, OutputDir, Settings, Times};
use crate::show::{self, Progress};
use crate::{inputs, work};

/// Seeds that are run before one looks again: few at first, for clear failures, then more, for threads to share.
const LOOKS: [usize; 4] = [4, 8, 16, 32];
/// The file that `--example` prints: checks, and a workflow that runs them.
const EXAMPLE: &str = include_str!("check-example.txt");

/// A case while its seeds are run.
struct Case {
    check: usize,
    label: String,
    scenario: Scenario,
    test: Sequential,
    /// The first run that did not keep what is expected.
    failing: Option<(RunRecord, String)>,
    status: Option<Status>,
    /// What decides where all runs must keep it.
    all_of: bool,
}

/// Checks, and says what came of it.
pub fn act(args: &args::Check) -> Result<(), Failure> {
    if args.example {
        return show::text(EXAMPLE);
    }
    let path = args.checks.as_deref().expect("the command line demands it without --example");
    let (name, bytes) = inputs::named(path)?;
    let checks = read_checks(&name, &bytes)?;
    let (model_path, model, known) = files(args, path, &checks)?;
    // All mistakes before any run.
    let mut cases = cases(&name, &bytes, &checks, &model, &known)?;
    check_boundaries(&name, &bytes, &checks, &model)?;
    let hash = model_hash(&canonical_text(&model));
    let mut results: Vec<CheckResult> = Vec::new();
    let mut runs = run_cases(args, &checks, &model, hash, &mut cases)?;
    let mut failing: Vec<(usize, Scenario, RunRecord)> = Vec::new();
    for (number, check) in checks.checks.iter().enumerate() {
        let result = match &check.subject {
            Subject::Token { token, must } => {
                runs += 1;
                let scenario = scenario_of(&name, &bytes, number, token, &known)?;
                token_result(check, token, *must, scenario, &model, hash, &mut failing, number)?
            }
            _ => statement_result(check, number, &cases, &mut failing),
        };
        results.push(result);
    }
    let folder = write_failing(args, &checks, &model, &failing)?;
    let results = CheckResults { file: name, model: inputs::name(&model_path), checks: results, folder, runs };
    if let Some(path) = &args.junit {
        let xml = junit::xml(&results);
        output::write_file(path, |out| out.write_all(xml.as_bytes()))?;
    }
    if let Some(path) = &args.markdown {
        output::write_file(path, |out| out.write_all(results.markdown().as_bytes()))?;
    }
    if args.json {
        show::json(&results)?
    } else {
        show::text(&results.text())?
    }
    if results.all_hold() {
        return Ok(());
    }
    let names: Vec<&str> = results.checks.iter().filter(|c| c.status != Status::Holds).map(|c| c.id.as_str()).collect();
    Err(Failure::CheckFailed(format!(
        "error: {}\n  found:    {} that {} not hold: {}\n  expected: every check to hold\n  help:     the commands above play failing runs again",
        show::plain(&results.file),
        if names.len() == 1 { "a check".to_owned() } else { format!("{} checks", names.len()) },
        if names.len() == 1 { "does" } else { "do" },
        show::plain(&names.join(", "))
    )))
}

/// The model and the scenario file: what the command line says, else what the checks say, seen from their folder.
fn files(args: &args::Check, path: &Path, checks: &Checks) -> Result<(PathBuf, Model, Vec<Scenario>), Failure> {
    let beside = |file: &str| path.parent().unwrap_or(Path::new("")).join(file);
    let model_path = args.model.clone().or_else(|| checks.model.as_deref().map(beside)).ok_or_else(|| {
        Failure::refused(
            inputs::name(path),
            "model: the file to check, or --model MODEL.yaml",
            "write model: model.yaml into the file",
        )
    })?;
    let model = inputs::model(&model_path)?;
    let scenarios = args.scenarios.clone().or_else(|| checks.scenarios.as_deref().map(beside));
    let known = scenarios.as_deref().map_or(Ok(Vec::new()), |path| inputs::scenarios(path, &model))?;
    Ok((model_path, model, known))
}

/// Every case of every check but those of single runs, with nothing run yet.
fn cases(name: &str, bytes: &[u8], checks: &Checks, model: &Model, known: &[Scenario]) -> Result<Vec<Case>, Failure> {
    let mut cases = Vec::new();
    let mut errors = Vec::new();
    for (number, check) in checks.checks.iter().enumerate() {
        match check.cases(&format!("/checks/{number}"), model, known) {
            Ok(found) => {
                let wrongly = 1.0 - check.confidence;
                // That all cases hold is said wrongly only if it is of a certain one; that one fails, if it is of any.
                let wrongly_fails = wrongly / found.len().max(1) as f64;
                let all_of = check.share >= 1.0;
                cases.extend(found.into_iter().map(|case| Case {
                    check: number,
                    label: case.label,
                    scenario: case.scenario,
                    test: Sequential::new(1.0 - check.share, wrongly, wrongly_fails),
                    failing: None,
                    status: None,
                    all_of,
                }));
            }
            Err(found) => errors.extend(found.0),
        }
        let fewest = fewest_runs(1.0 - check.share, 1.0 - check.confidence);
        if let Some(fewest) = fewest.filter(|&fewest| fewest > check.runs && !matches!(check.subject, Subject::Token { .. })) {
            errors.push(InputError {
                place: Some(format!("/checks/{number}/runs")),
                found: format!("at most {} runs", check.runs),
                expected: format!(
                    "{fewest} or more: fewer cannot show a share of {} with confidence {}",
                    check.share, check.confidence
                ),
                help: "raise runs, or lower share or confidence".to_owned(),
                ..InputError::default()
            });
        }
    }
    located(name, bytes, errors)?;
    Ok(cases)
}

/// Names the file and the lines of mistakes that know their places.
fn located(name: &str, bytes: &[u8], errors: Vec<InputError>) -> Result<(), Failure> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(doc::locate(name, &doc::parse(name, bytes)?, InputErrors(errors)).into())
}

/// Whether every `at` is a boundary of the model.
fn check_boundaries(name: &str, bytes: &[u8], checks: &Checks, model: &Model) -> Result<(), Failure> {
    let edges = model.uses().into_iter().map(|(from, one)| format!("{from}->{}", one.to.name()));
    let nodes = model.workload.keys().chain(model.services.keys()).chain(model.topics.keys()).cloned();
    let known: BTreeSet<String> = nodes.chain(edges).collect();
    let wrong = checks.checks.iter().enumerate().filter_map(|(number, check)| {
        let at = check.at.as_ref().filter(|at| !known.contains(*at))?;
        let near = models::error::nearest(at, known.iter().map(String::as_str));
        Some(InputError {
            place: Some(format!("/checks/{number}/expect/at")),
            found: at.clone(),
            expected: "an entry, service, topic or edge of the model".to_owned(),
            help: near.map_or(String::new(), |near| format!("did you mean {near}?")),
            ..InputError::default()
        })
    });
    located(name, bytes, wrong.collect())
}

/// Makes runs until every case is decided or has used up its seeds; how many were made.
fn run_cases(args: &args::Check, checks: &Checks, model: &Model, hash: [u8; 4], cases: &mut [Case]) -> Result<u64, Failure> {
    // Cases of the same times and world share their twins.
    let mut groups: BTreeMap<(Nanos, Nanos, u32), Vec<usize>> = BTreeMap::new();
    for (number, case) in cases.iter().enumerate() {
        let check = &checks.checks[case.check];
        groups.entry((check.horizon, check.warm_up, check.world)).or_default().push(number);
    }
    let progress = Progress::new(cases.len() as u64, 0, "cases");
    let mut made = 0;
    for ((horizon, warm_up, world), mut open) in groups {
        let program = Program::compile(model, world)?;
        let mut next_seed = 0u64;
        for look in 0.. {
            open.retain(|&number| cases[number].status.is_none());
            progress.at(cases.iter().filter(|case| case.status.is_some()).count() as u64);
            if open.is_empty() {
                break;
            }
            let most = open.iter().map(|&number| u64::from(checks.checks[cases[number].check].runs)).max().unwrap_or(0);
            let seeds = (LOOKS[LOOKS.len().min(look + 1) - 1] as u64).min(most.saturating_sub(next_seed).max(1));
            let options = SweepOptions {
                seeds: (next_seed..next_seed + seeds).map(|n| args.seed.wrapping_add(n)).collect(),
                horizon,
                warm_up,
                threads: args.threads.map_or(0, NonZeroUsize::get),
                max_events: RunOptions::default().max_events,
                model_hash: hash,
                shortcuts: Shortcuts::All,
                engine: Engine::Kernel,
            };
            next_seed += seeds;
            let scenarios: Vec<Scenario> = open.iter().map(|&number| cases[number].scenario.clone()).collect();
            let mut at = 0;
            let mut broken = None;
            let mut sink = |record: RunRecord| {
                let case = &mut cases[open[at % open.len()]];
                at += 1;
                made += 1;
                match take(case, &checks.checks[case.check], &program, record) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(failure) => {
                        broken = Some(failure);
                        ControlFlow::Break(())
                    }
                }
            };
            sim::sweep(&program, &scenarios, &options, &BTreeSet::new(), &mut sink, &|_| {}, work::stop_flag())?;
            if let Some(failure) = broken {
                return Err(failure);
            }
            if work::stop_flag().load(Ordering::Relaxed) {
                return Err(Failure::Interrupted);
            }
        }
    }
    progress.end();
    Ok(made)
}

/// Takes the outcome of a case's next seed.
fn take(case: &mut Case, check: &Check, program: &Program, record: RunRecord) -> Result<(), Failure> {
    if case.status.is_some() {
        return Ok(());
    }
    let options = RunOptions { seed: record.seed, horizon: check.horizon, warm_up: check.warm_up, ..RunOptions::default() };
    let broken = broken_bound(check, program, &case.scenario, &options, &record)?;
    let decision = case.test.add(broken.is_some());
    if case.failing.is_none() {
        case.failing = broken.map(|shows| (record, shows));
    }
    case.status = match decision {
        Some(Decision::Holds) => Some(Status::Holds),
        Some(Decision::Fails) => Some(Status::Fails),
        None if case.test.runs() < check.runs => None,
        // Where every seed must keep it, all of them have.
        None if case.all_of => Some(Status::Holds),
        None => Some(Status::Undecided),
    };
    Ok(())
}

/// What a run shows that breaks a bound of the check; `None` if it keeps all.
fn broken_bound(
    check: &Check,
    program: &Program,
    scenario: &Scenario,
    options: &RunOptions,
    record: &RunRecord,
) -> Result<Option<String>, Failure> {
    let at = match &check.at {
        Some(at) => error_rate_at(program, scenario, options, at)?,
        None => None,
    };
    Ok(check.bounds.iter().find(|bound| !bound.is_kept(record, at)).map(|bound| shown(bound, record, at)))
}

fn statement_result(
    check: &Check,
    number: usize,
    cases: &[Case],
    failing: &mut Vec<(usize, Scenario, RunRecord)>,
) -> CheckResult {
    let mine = cases.iter().filter(|case| case.check == number);
    let results: Vec<CaseResult> = mine
        .map(|case| {
            let status = case.status.expect("every case was run to its end");
            let shown = case.failing.as_ref().filter(|_| status != Status::Holds);
            if let Some((record, _)) = shown {
                failing.push((number, case.scenario.clone(), record.clone()));
            }
            CaseResult {
                label: case.label.clone(),
                scenario: case.scenario.id.clone(),
                status,
                runs: case.test.runs(),
                failures: case.test.failures(),
                interval: case.test.interval(),
                failing: shown.map(|(record, shows)| Failing { token: record.token.clone(), shows: shows.clone() }),
            }
        })
        .collect();
    let any = |status: Status| results.iter().any(|case| case.status == status);
    let status = match () {
        () if any(Status::Fails) => Status::Fails,
        () if any(Status::Undecided) => Status::Undecided,
        () => Status::Holds,
    };
    let sure = if check.share >= 1.0 {
        format!("in each of {} seeds", check.runs)
    } else {
        format!(
            "in {} of all seeds at least, {} sure",
            reports::words::share(check.share),
            reports::words::share(check.confidence)
        )
    };
    CheckResult {
        id: check.id.clone(),
        why: check.why.clone(),
        says: format!("{}, {sure}", bounds(&check.bounds, check.at.as_deref())),
        status,
        cases: results,
        note: if status == Status::Undecided {
            "neither this nor its contrary is shown by the runs that it may take: raise runs, or ask for less".to_owned()
        } else {
            String::new()
        },
    }
}

/// The scenario that a token names, in the scenario file.
fn scenario_of<'a>(
    name: &str,
    bytes: &[u8],
    number: usize,
    token: &Token,
    known: &'a [Scenario],
) -> Result<&'a Scenario, Failure> {
    if let Some(scenario) = known.iter().find(|scenario| scenario_hash(scenario) == token.scenario) {
        return Ok(scenario);
    }
    let error = InputError {
        place: Some(format!("/checks/{number}/token")),
        found: token.to_string(),
        expected: format!(
            "the token of a scenario in the scenario file (hash {:08x}); none there has it",
            u32::from_be_bytes(token.scenario)
        ),
        help: "name the file that holds it: scenarios: scenarios.yaml, or --scenarios FILE".to_owned(),
        ..InputError::default()
    };
    Err(located(name, bytes, vec![error]).expect_err("there is a mistake"))
}

#[expect(clippy::too_many_arguments, reason = "one call, each argument another thing")]
fn token_result(
    check: &Check,
    token: &Token,
    must: Must,
    scenario: &Scenario,
    model: &Model,
    hash: [u8; 4],
    failing: &mut Vec<(usize, Scenario, RunRecord)>,
    number: usize,
) -> Result<CheckResult, Failure> {
    let program = Program::compile(model, token.world)?;
    let warm_up = if check.warm_up < token.horizon { check.warm_up } else { Nanos::ZERO };
    let options = RunOptions { seed: token.seed, horizon: token.horizon, warm_up, engine: token.engine, ..RunOptions::default() };
    let record = judged(&program, scenario, &options, hash)?;
    let broken = broken_bound(check, &program, scenario, &options, &record)?;
    let (status, shows) = match (must, broken) {
        (Must::Hold, None) => (Status::Holds, None),
        (Must::Hold, Some(shows)) => (Status::Fails, Some(shows)),
        (Must::Fail, Some(_)) => (Status::Holds, None),
        (Must::Fail, None) => (Status::Fails, Some("the run no longer fails: was it mended? Then say must: hold".to_owned())),
    };
    let failures = u32::from(matches!(status, Status::Fails));
    if failures > 0 {
        failing.push((number, scenario.clone(), record.clone()));
    }
    let says = match must {
        Must::Hold => format!(
            "the run of {} with seed {} no longer fails: {}",
            scenario.id,
            token.seed,
            bounds(&check.bounds, check.at.as_deref())
        ),
        Must::Fail => format!(
            "the run of {} with seed {} still fails: not that {}",
            scenario.id,
            token.seed,
            bounds(&check.bounds, check.at.as_deref())
        ),
    };
    Ok(CheckResult {
        id: check.id.clone(),
        why: check.why.clone(),
        says,
        status,
        cases: vec![CaseResult {
            label: String::new(),
            scenario: scenario.id.clone(),
            status,
            runs: 1,
            failures,
            interval: [0.0, 1.0],
            failing: shows.map(|shows| Failing { token: record.token.clone(), shows }),
        }],
        note: if hash == token.model {
            String::new()
        } else {
            format!(
                "the token is of another model (hash {:08x}; this one has {:08x}): the same scenario, seed and world were run on this one",
                u32::from_be_bytes(token.model),
                u32::from_be_bytes(hash)
            )
        },
    })
}

/// Writes the failing runs as an output folder, so that `replay`, `explain` and `shrink` find them; its name, empty if there are none.
fn write_failing(
    args: &args::Check,
    checks: &Checks,
    model: &Model,
    failing: &[(usize, Scenario, RunRecord)],
) -> Result<String, Failure> {
    if failing.is_empty() {
        return Ok(String::new());
    }
    let dir = OutputDir::create(&args.output)?;
    // (Two checks may speak of one scenario.)
    let mut written: Vec<&(usize, Scenario, RunRecord)> = Vec::new();
    for one in failing {
        if written.iter().all(|other| other.1 != one.1 || other.2.token != one.2.token) {
            written.push(one);
        }
    }
    let mut ids = BTreeSet::new();
    let unique = |scenario: &Scenario, ids: &mut BTreeSet<String>| {
        let mut id = scenario.id.clone();
        while !ids.insert(id.clone()) {
            id.push('+');
        }
        id
    };
    let mut scenarios = Vec::new();
    let mut records = Vec::new();
    let mut batches = Vec::new();
    for (number, scenario, record) in written {
        let id = unique(scenario, &mut ids);
        let check = &checks.checks[*number];
        let horizon = record.token.parse::<Token>().map_or(check.horizon, |token| token.horizon);
        batches.push(Times { scenarios: 1, horizon: horizon.to_string(), warm_up: check.warm_up.to_string() });
        scenarios.push(Scenario { id: id.clone(), ..scenario.clone() });
        records.push(RunRecord { scenario: id, ..record.clone() });
    }
    let settings = Settings { version: 1, foreshock: env!("CARGO_PKG_VERSION").to_owned(), batches };
    dir.write(output::MODEL, |out| out.write_all(write_model(model).as_bytes()))?;
    dir.write(output::SCENARIOS, |out| out.write_all(write_scenarios(&scenarios).as_bytes()))?;
    dir.write(output::SETTINGS, |out| Ok(serde_json::to_writer_pretty(out, &settings)?))?;
    dir.start_runs(&records.iter().collect::<Vec<_>>())?;
    Ok(dir.path().to_string_lossy().into_owned())
}
