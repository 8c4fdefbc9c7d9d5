//! scenarios: to be filled.
