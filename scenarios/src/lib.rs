//! What is tried, and what came of it.

pub mod analyse;
pub mod check;
pub mod checks;
pub mod failure;
pub mod fault;
mod flow;
pub mod format;
pub mod generate;
pub mod milder;
mod moments;
pub mod prune;
pub mod record;
pub mod reduce;
pub mod removal;
mod rules;
pub mod scenario;
pub mod story;
pub mod token;

pub use analyse::{Analysis, analyse};
pub use generate::{GenerateOptions, generate};
pub use token::{Engine, Token, model_hash, scenario_hash};
