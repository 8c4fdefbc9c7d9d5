//! What a system is: spans in, interaction graph and model out, and the model's file format.

pub mod dist;
pub mod error;
pub mod graph;
pub mod learn;
pub mod param;
pub mod system;
pub mod trace;
pub mod units;
