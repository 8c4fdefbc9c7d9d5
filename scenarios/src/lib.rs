//! What is tried, and what came of it.

pub mod fault;
pub mod record;
pub mod scenario;
