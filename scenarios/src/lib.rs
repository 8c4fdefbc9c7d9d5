//! What is tried, and what came of it.

pub mod analyse;
pub mod check;
pub mod fault;
mod flow;
pub mod format;
pub mod generate;
mod moments;
pub mod record;
mod rules;
pub mod scenario;
pub mod token;

pub use analyse::{Analysis, analyse};
pub use generate::{GenerateOptions, generate};
pub use token::{Engine, Token, model_hash, scenario_hash};
