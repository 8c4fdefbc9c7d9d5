//! All integration tests, as one binary.

mod analytic;
mod architecture;
mod cli;
mod formats;
mod determinism;
mod faults;
mod metastable;
mod learn;
mod peers;
mod readers;
mod reports;
mod scenarios;
mod story;
mod support;
