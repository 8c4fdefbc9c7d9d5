//! Parse, act, exit: nothing else.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    foreshock::show::explain_panics();
    match foreshock::commands::act(foreshock::args::Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
