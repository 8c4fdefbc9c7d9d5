//! learn: to be filled.
