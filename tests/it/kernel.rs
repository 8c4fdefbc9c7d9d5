//! kernel: to be filled.
