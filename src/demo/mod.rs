//! The demo that this program carries: a small real system, its traces, and what really happened when it was hurt.
//!
//! You are here: `demo`. `run` without traces uses it; README.md in this folder says where it comes from.

use models::units::Nanos;

/// Fault-free recordings, OTLP JSON, gzip: (name, bytes). The second one has three short load steps.
pub const TRACES: [(&str, &[u8]); 2] = [
    ("demo/baseline.otlp.json.gz", include_bytes!("baseline.otlp.json.gz")),
    ("demo/baseline-bursts.otlp.json.gz", include_bytes!("baseline-bursts.otlp.json.gz")),
];

/// What an operator of the system knows from its configuration.
pub const KNOWN: (&str, &[u8]) = ("demo/known.yaml", include_bytes!("known.yaml"));

/// The faults that were really injected.
pub const SCENARIOS: (&str, &[u8]) = ("demo/scenarios.yaml", include_bytes!("scenarios.yaml"));

/// What happened then.
pub const OUTCOMES: (&str, &[u8]) = ("demo/outcomes.json", include_bytes!("outcomes.json"));

/// How long each recording of a fault lasted; its faults begin at 12 s.
pub const HORIZON: Nanos = Nanos::from_secs(56);

/// What the recording left out of its statistics.
pub const WARM_UP: Nanos = Nanos::from_secs(4);
