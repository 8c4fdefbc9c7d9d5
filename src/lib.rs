//! The command line, as a library so that tests can reach it.
