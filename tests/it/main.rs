//! All integration tests, as one binary.

mod architecture;
mod bad_input;
mod cli;
mod formats;
mod kernel;
mod learn;
mod readers;
mod reports;
mod scenarios;
mod support;
