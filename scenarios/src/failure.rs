//! In which way a run failed: what `explain` asks the reason of, what `shrink` keeps, what a check forbids.
//!
//! You are here: `scenarios::failure`. Records say it ([`crate::record`]); the worst way comes first.
//! Not here: how a record comes about (`sim`), or how often (`reports`).

use serde::Serialize;

use crate::record::RunRecord;

/// A way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// No return by itself, although the fault has gone.
    Metastable,
    /// A breach by error rate beyond the faults' targets.
    Cascade,
    /// Older updates written over newer ones.
    StaleWrites,
    /// Messages applied twice.
    DuplicateEffects,
    /// Messages given up.
    DeadLetters,
    /// A service, topic or entry outside what its twin shows.
    Breach,
}

impl Failure {
    /// Every way with its name, the worst first.
    pub const ALL: [(&'static str, Failure); 6] = [
        ("metastable", Failure::Metastable),
        ("cascade", Failure::Cascade),
        ("stale_writes", Failure::StaleWrites),
        ("duplicate_effects", Failure::DuplicateEffects),
        ("dead_letters", Failure::DeadLetters),
        ("breach", Failure::Breach),
    ];

    /// Its name in files and options.
    pub fn name(self) -> &'static str {
        Failure::ALL.iter().find(|(_, failure)| *failure == self).expect("every way has a name").0
    }

    /// Whether a run failed in this way.
    pub fn is_in(self, record: &RunRecord) -> bool {
        match self {
            Failure::Metastable => record.metastable,
            Failure::Cascade => record.cascaded,
            Failure::StaleWrites => record.stale_writes > 0,
            Failure::DuplicateEffects => record.duplicate_effects > 0,
            Failure::DeadLetters => record.dead_letters > 0,
            Failure::Breach => !record.breaches.is_empty(),
        }
    }

    /// The worst way in which a run failed; `None` if it did not.
    pub fn worst_of(record: &RunRecord) -> Option<Failure> {
        Failure::ALL.into_iter().map(|(_, failure)| failure).find(|failure| failure.is_in(record))
    }
}
