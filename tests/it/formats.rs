//! formats: to be filled.
