//! What is tried, and what came of it.

pub mod fault;
mod flow;
mod moments;
pub mod record;
pub mod scenario;
pub mod token;
