//! All integration tests, as one binary.

mod analytic;
mod architecture;
mod bad_faults;
mod bad_input;
mod bad_policies;
mod cli;
mod determinism;
mod faults;
mod findable;
mod formats;
mod learn;
mod metastable;
mod peers;
mod readers;
mod reports;
mod scenarios;
mod shop;
mod story;
mod support;
mod verdicts;
mod vocabulary;
