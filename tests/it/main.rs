//! All integration tests, as one binary.

mod allocations;
mod analytic;
mod architecture;
mod bad_input;
mod cli;
mod collapse;
mod determinism;
mod digests;
mod faults;
mod formats;
mod learn;
mod long;
mod metastable;
mod oracles_queues;
mod oracles_retries;
mod peers;
mod policies;
mod properties;
mod random_models;
mod readers;
mod reports;
mod scenarios;
mod story;
mod support;
mod users;
mod verdicts;
