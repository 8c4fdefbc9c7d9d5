//! The run that a token names: its model, its scenario and its times, found in an output folder.
//!
//! You are here: `named`. `replay`, `explain` and `shrink` start here.
//! Always true: what is found has the hashes that the token holds, so that a run of it is the token's run.
//! Not here: what is done with it.

use std::path::{Path, PathBuf};

use models::error::{InputError, InputErrors};
use models::format::canonical_text;
use models::system::Model;
use models::units::Nanos;
use scenarios::format::read_scenarios;
use scenarios::record::RunRecord;
use scenarios::scenario::Scenario;
use scenarios::token::{Engine, Token, TokenError, model_hash, scenario_hash};
use sim::{Program, RunOptions};

use crate::exit::Failure;
use crate::{inputs, output, show};

/// The warm-up of runs whose folder does not say.
const WARM_UP: Nanos = Nanos::from_secs(10);

/// A run that was found.
#[derive(Debug)]
pub struct Named {
    /// What names it.
    pub token: Token,
    /// Where it was found.
    pub dir: PathBuf,
    /// Its model, as written: world 0.
    pub model: Model,
    /// What happened to it.
    pub scenario: Scenario,
    /// What is left out of its statistics.
    pub warm_up: Nanos,
    /// What came of it, if the folder says.
    pub recorded: Option<RunRecord>,
}

impl Named {
    /// Finds what `token` names in `dir`, else in the newest output folder here. `command` is who asks.
    pub fn find(command: &str, token: &str, dir: Option<&Path>) -> Result<Named, Failure> {
        let token = read(token)?;
        let dir = folder(command, dir)?;
        let model = inputs::model(&dir.join(output::MODEL))?;
        if model_hash(&canonical_text(&model)) != token.model {
            return Err(missing(&token, "model", &dir.join(output::MODEL)));
        }
        let path = dir.join(output::SCENARIOS);
        let scenarios = read_scenarios(&inputs::name(&path), &inputs::bytes(&path)?)?;
        let number = scenarios.iter().position(|scenario| scenario_hash(scenario) == token.scenario);
        let Some(number) = number else { return Err(missing(&token, "scenario", &path)) };
        let finished = output::finished(&dir);
        let warm_up = finished.as_ref().and_then(|(settings, _)| settings.warm_up_of(number)).unwrap_or(WARM_UP);
        let text = token.to_string();
        Ok(Named {
            dir,
            model,
            scenario: scenarios.into_iter().nth(number).expect("it was found there"),
            // A run that is no longer than its warm-up would have no statistics at all.
            warm_up: if warm_up < token.horizon { warm_up } else { Nanos::ZERO },
            recorded: finished.and_then(|(_, records)| records.into_iter().find(|record| record.token == text)),
            token,
        })
    }

    /// How it is run.
    pub fn options(&self) -> RunOptions {
        let &Token { seed, horizon, engine, .. } = &self.token;
        RunOptions { seed, horizon, warm_up: self.warm_up, engine, ..RunOptions::default() }
    }

    /// Refuses runs of the engine that runs real code: `command` follows events, which only the kernel has.
    pub fn kernel_only(&self, command: &str) -> Result<(), Failure> {
        if self.token.engine == Engine::Kernel {
            return Ok(());
        }
        Err(InputErrors::from(InputError {
            file: "token".to_owned(),
            place: Some("the engine".to_owned()),
            found: "h: a run of the hosted engine".to_owned(),
            expected: format!("k: a run of the kernel, the only one that {command} can follow event by event"),
            help: "take the token of the same scenario and seed from a folder that `run` or `sweep` wrote".to_owned(),
            ..InputError::default()
        })
        .into())
    }

    /// Says how long things take with the engine that runs real code.
    pub fn announce(&self, program: &Program) {
        if self.token.engine == Engine::Hosted {
            let hosts = sim::hosted::hosts(program);
            show::note(format_args!("a run of the hosted engine with {hosts} hosts: each further run takes seconds"));
        }
    }
}

/// Reads a token as a user gives it.
pub fn read(token: &str) -> Result<Token, Failure> {
    token.parse().map_err(|wrong: TokenError| {
        InputErrors::from(InputError {
            file: "token".to_owned(),
            place: Some(wrong.part.to_owned()),
            found: wrong.found,
            expected: wrong.expected.to_owned(),
            help: "copy it whole from ranking.json, outcomes.csv or the report".to_owned(),
            ..InputError::default()
        })
        .into()
    })
}

/// The folder to look in.
fn folder(command: &str, named: Option<&Path>) -> Result<PathBuf, Failure> {
    match named {
        Some(dir) => Ok(dir.to_path_buf()),
        None => output::newest(Path::new(".")).ok_or_else(|| {
            Failure::refused(
                command,
                "an output folder here, with model.yaml, scenarios.yaml and runs.jsonl",
                "name the folder that run or sweep wrote: --in DIR",
            )
        }),
    }
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
