//! A scenario: faults, load, and why it is worth a thought.

use models::units::SimTime;

use crate::fault::Fault;

/// What is tried in one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scenario {
    /// Its name: unique within a file; letters, digits, `-`, `_`, `.`.
    pub id: String,
    /// The evidence, in numbers, in a sentence a person can judge; empty if nobody said.
    pub why: String,
    /// Factor on every entry's rate for the whole run, its twin's too.
    pub load: Option<f64>,
    /// What happens; none = a control.
    pub faults: Vec<Fault>,
}

impl Scenario {
    /// The load factor; 1 if nothing was said.
    pub fn load(&self) -> f64 {
        self.load.unwrap_or(1.0)
    }

    /// The first fault's start; `None` without faults.
    pub fn starts_at(&self) -> Option<SimTime> {
        self.faults.iter().map(|f| f.start).min()
    }

    /// The last fault's end; `None` without faults.
    pub fn clears_at(&self) -> Option<SimTime> {
        self.faults.iter().map(Fault::clears_at).max()
    }
}
