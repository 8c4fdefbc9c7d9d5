//! What people know already, laid over a learned model (DESIGN.md 4.6).
