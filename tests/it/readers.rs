//! readers: to be filled.
