//! What happens then: the discrete-event kernel, and parallel sweeps over it.
//!
//! Reading order: [`program`] is a compiled model (`compile` makes it), `des` runs it, [`run`] is one run and [`result`] its
//! totals, [`events`] its events, [`spans`] what tracing would have shown of it; `twin` is a fault-free run that others are forked from, `verdict` judges them beside it (`column` by column), [`single`] makes one record, [`mod@sweep`] thousands, [`mod@story`] tells the course of a run.

mod column;
mod compile;
mod des;
pub mod events;
#[cfg(test)]
mod fixtures;
pub mod hosted;
pub mod program;
pub mod result;
pub mod run;
pub mod single;
pub mod spans;
pub mod story;
pub mod sweep;
mod twin;
mod verdict;
pub mod verify;

pub use program::Program;
pub use result::RunResult;
pub use run::{Finished, Prepared, RunOptions};
pub use single::{error_rate_at, judged};
pub use spans::{SpanOptions, Spans};
pub use story::story;
pub use sweep::{Progress, Shortcuts, SweepNotes, SweepOptions, series, sweep};
pub use verify::verify;

use thiserror::Error;

/// Why a run could not be made.
#[derive(Debug, Error)]
pub enum SimError {
    /// The model does not resolve; `models::check` would have said so.
    #[error("the model cannot be run: {0}")]
    Model(String),
    /// The scenario does not fit the model.
    #[error("the scenario cannot be run: {0}")]
    Scenario(String),
    /// The hosted engine cannot run this.
    #[error("the hosted engine cannot run this: {0}")]
    Hosted(String),
    /// No threads could be started.
    #[error("cannot start the threads of a sweep: {0}")]
    Threads(String),
    /// The horizon lies beyond what the clock of a run can hold.
    #[error("a run can last at most {max_s} s, not {wanted_s} s")]
    Horizon {
        /// Longest horizon, seconds.
        max_s: u64,
        /// What was asked for, seconds.
        wanted_s: u64,
    },
}
