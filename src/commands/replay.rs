//! `replay`: the run that a token names, again.

use std::path::{Path, PathBuf};

use models::error::{InputError, InputErrors};
use models::format::canonical_text;
use models::units::Nanos;
use scenarios::format::read_scenarios;
use scenarios::scenario::Scenario;
use scenarios::token::{Token, TokenError, model_hash, scenario_hash};
use serde_json::json;
use sim::{Prepared, Program, RunOptions};

use crate::args::Replay;
use crate::exit::Failure;
use crate::{inputs, output, show};

/// Repeats the run and compares its digest with the recorded one; where none is recorded, runs twice and compares these.
pub fn act(args: &Replay) -> Result<(), Failure> {
    let token: Token = args.token.parse().map_err(|wrong: TokenError| {
        InputErrors::from(InputError {
            file: "token".to_owned(),
            place: Some(wrong.part.to_owned()),
            found: wrong.found,
            expected: wrong.expected.to_owned(),
            help: "copy it whole from ranking.json, outcomes.csv or the report".to_owned(),
            ..InputError::default()
        })
    })?;
    let dir = find(args.dir.as_deref())?;
    let model = inputs::model(&dir.join(output::MODEL))?;
    if model_hash(&canonical_text(&model)) != token.model {
        return Err(missing(&token, "model", &dir.join(output::MODEL)));
    }
    let scenario = scenario(&dir, &token)?;
    let program = Program::compile(&model, token.world)?;
    let options = RunOptions { seed: token.seed, horizon: token.horizon, warm_up: Nanos::ZERO, ..RunOptions::default() };
    let digest = || Ok::<_, Failure>(Prepared::new(&program, &scenario, &options)?.run().digest());
    let now = digest()?;
    let recorded =
        output::finished(&dir).and_then(|(_, records)| records.into_iter().find(|r| r.token == args.token)).map(|r| r.digest);
    let (against, expected) = match recorded {
        Some(recorded) => ("the recorded run", recorded),
        None => ("a second run of it", digest()?),
    };
    let same = now == expected;
    if args.json {
        show::json(&json!({ "token": args.token, "scenario": scenario.id, "digest": now, "expected": expected, "same": same }))?;
    } else if same {
        show::text(&format!("{}: digest {now}, the same as {against}\n", show::plain(&scenario.id)))?;
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

/// The folder to look in.
fn find(named: Option<&Path>) -> Result<PathBuf, Failure> {
    match named {
        Some(dir) => Ok(dir.to_path_buf()),
        None => output::newest(Path::new(".")).ok_or_else(|| {
            Failure::refused(
                "replay",
                "an output folder here, with model.yaml, scenarios.yaml and runs.jsonl",
                "name the folder that run or sweep wrote: --in DIR",
            )
        }),
    }
}

/// The scenario that the token names.
fn scenario(dir: &Path, token: &Token) -> Result<Scenario, Failure> {
    let path = dir.join(output::SCENARIOS);
    let scenarios = read_scenarios(&inputs::name(&path), &inputs::bytes(&path)?)?;
    scenarios
        .into_iter()
        .find(|scenario| scenario_hash(scenario) == token.scenario)
        .ok_or_else(|| missing(token, "scenario", &path))
}

/// The token is of another model or scenario than the folder holds.
fn missing(token: &Token, what: &str, path: &Path) -> Failure {
    let hash = if what == "model" { token.model } else { token.scenario };
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Failure::refused(
        path.display(),
        format_args!("the {what} that the token names (hash {hash}); it is not in this file"),
        "name the folder that the token's run was written to: --in DIR",
    )
}
