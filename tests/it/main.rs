//! All integration tests, as one binary.

mod architecture;
mod cli;
mod formats;
mod kernel;
mod learn;
mod peers;
mod readers;
mod reports;
mod scenarios;
mod support;
