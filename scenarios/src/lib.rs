//! What is tried, and what came of it.

pub mod check;
pub mod fault;
pub mod format;
pub mod record;
pub mod scenario;
