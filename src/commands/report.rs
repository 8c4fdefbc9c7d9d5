//! The end of every sweep: ranking, outcomes, plots, the page, and the summary on the screen.
//!
//! You are here: `commands::report`. `run`, `sweep` and `rank` end here.
//! Always true: what is written is a function of the records (and the model and scenarios they are of), never of when or where.

use std::path::Path;

use models::system::Model;
use models::units::Nanos;
use reports::{AnalyseInput, LiveOutcomes, Report, analyse};
use scenarios::record::{RunRecord, Series};
use scenarios::scenario::Scenario;
use scenarios::token::Token;
use sim::{Program, RunOptions};

use crate::exit::Failure;
use crate::output::{self, OutputDir};
use crate::show;

/// Scenarios whose course over time is drawn.
const TIMELINES: usize = 10;

/// What is reported on.
#[derive(Debug)]
pub struct Subject<'a> {
    /// What was rehearsed.
    pub model: &'a Model,
    /// What was tried.
    pub scenarios: &'a [Scenario],
    /// What came of it, in job order.
    pub records: &'a [RunRecord],
    /// What live experiments showed, as JSON.
    pub live: Option<Vec<u8>>,
}

/// Writes every report into the folder, and the summary (or the ranking as JSON) to standard output.
pub fn write(dir: &OutputDir, subject: &Subject, json: bool) -> Result<(), Failure> {
    todo!("{dir:?} {subject:?} {json}")
}
