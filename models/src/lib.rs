//! What a system is: spans in, interaction graph and model out, and the model's file format.

pub mod check;
pub mod dist;
pub mod error;
pub mod fidelity;
pub mod format;
pub mod graph;
pub mod learn;
pub mod manifests;
pub mod metrics;
pub mod names;
pub mod param;
pub mod rng;
pub mod system;
pub mod table;
pub mod trace;
pub mod units;
pub mod visit;
pub mod world;
