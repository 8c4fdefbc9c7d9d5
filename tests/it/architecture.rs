//! architecture: to be filled.
