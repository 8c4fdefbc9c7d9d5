//! The command line of Foreshock, as a library so that `main` stays three lines and tests can reach its parts.
//!
//! In reading order: [`args`] (what can be asked), [`commands`] (what is done), [`inputs`] and [`output`] (the only places that open
//! paths), [`pull`] (the only one that opens sockets), [`named`] (the run that a token names), [`work`] (a sweep with progress, Ctrl-C and resumption), [`show`] (stderr and tables), [`exit`] (codes), [`demo`].

pub mod args;
pub mod clock;
pub mod commands;
pub mod demo;
pub mod exit;
pub mod inputs;
pub mod named;
pub mod output;
pub mod pull;
pub mod show;
pub mod work;
