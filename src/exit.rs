//! Exit codes, and which failure gives which.
//!
//! You are here: `exit`. Every command ends in `Ok(())` or a [`Failure`]; `main` turns it into a code.
//! Always true: expected failures are [`Failure`]s; a panic is our bug and exits with 101.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use models::error::{InputError, InputErrors};

/// Done.
pub const DONE: u8 = 0;
/// A check failed, or one seed gave two results.
pub const CHECK_FAILED: u8 = 1;
/// Used wrongly, input refused, or something could not be read or written. Also what the argument parser exits with.
pub const REFUSED: u8 = 2;
/// A bug of ours: what a panic exits with.
pub const BUG: u8 = 101;
/// Interrupted; what was finished is kept.
pub const INTERRUPTED: u8 = 130;

/// The codes as `--help` shows them.
pub const HELP: &str = "Exit codes:\n  \
    0    done\n  \
    1    a check failed, or one seed gave two results\n  \
    2    used wrongly, input refused, or could not read or write\n  \
    101  a bug of foreshock\n  \
    130  interrupted; finished results are kept";

/// Why a command did not end well.
#[derive(Debug)]
pub enum Failure {
    /// The user's input, files or options: the text says where, what, and how to mend it.
    Refused(String),
    /// A check that the user asked for failed; the text says which.
    CheckFailed(String),
    /// Ctrl-C; results so far are kept.
    Interrupted,
    /// Whoever read our output has gone: nothing is wrong.
    ClosedPipe,
}

impl Failure {
    /// A refusal in the form of [`InputError`]: where, what was expected, how to mend it.
    pub fn refused(place: impl Display, expected: impl Display, help: impl Display) -> Self {
        let error = InputError {
            file: place.to_string(),
            expected: expected.to_string(),
            help: help.to_string(),
            ..InputError::default()
        };
        InputErrors::from(error).into()
    }

    /// A file that could not be read.
    pub fn unreadable(path: &Path, why: &io::Error) -> Self {
        Failure::Refused(format!("error: {}\n  found:    {why}\n  expected: a file that can be read", path.display()))
    }

    /// A file or folder that could not be written.
    pub fn unwritable(path: &Path, why: &io::Error) -> Self {
        Failure::Refused(format!("error: {}\n  found:    {why}\n  expected: a place that can be written to", path.display()))
    }

    /// Says what is to be said, on stderr, and gives the exit code.
    pub fn report(&self) -> ExitCode {
        match self {
            Failure::Refused(text) => {
                eprintln!("{text}");
                ExitCode::from(REFUSED)
            }
            Failure::CheckFailed(text) => {
                eprintln!("{text}");
                ExitCode::from(CHECK_FAILED)
            }
            Failure::Interrupted => ExitCode::from(INTERRUPTED),
            Failure::ClosedPipe => ExitCode::from(DONE),
        }
    }
}

impl From<InputErrors> for Failure {
    fn from(errors: InputErrors) -> Self {
        Failure::Refused(errors.to_string())
    }
}

impl From<sim::SimError> for Failure {
    fn from(error: sim::SimError) -> Self {
        Failure::Refused(format!("error: {error}"))
    }
}
