//! reports: to be filled.
