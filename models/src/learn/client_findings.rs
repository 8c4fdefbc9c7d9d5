//! Findings about what callers and users do of themselves: deadlines, retry budgets, pools, bulkheads, closed loops.
//!
//! You are here: `models::learn::client_findings`, one kind of `findings`.

use std::fmt;

use super::findings::Examples;
use super::limits::Ceiling;
use crate::system::EdgeName;
use crate::units::Nanos;

/// What a client was seen to do.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientFinding {
    /// All tries of a call together end in time.
    Deadline {
        /// The edge.
        edge: EdgeName,
        /// The bound.
        deadline: Nanos,
    },
    /// Retries have to be paid for.
    RetryBudget {
        /// The edge.
        edge: EdgeName,
        /// Failures that were not tried again for want of a token,
        denied: u64,
        /// and those that were.
        granted: u64,
        /// Tokens per first try.
        ratio: f64,
        /// Tokens per second.
        per_s: f64,
    },
    /// Calls wait for a connection although their callee would take them.
    Pool {
        /// The edge.
        edge: EdgeName,
        /// Connections per calling replica.
        connections: u32,
        /// Attempts that began when another one's connection became free,
        waited: u64,
        /// of so many that took the last one.
        of: u64,
        /// Traces that show it.
        traces: Examples,
    },
    /// Calls are not made while so many are under way.
    Bulkhead {
        /// The edge.
        edge: EdgeName,
        /// Most under way, per calling replica.
        most: u32,
        /// Calls that were refused.
        refused: u64,
        /// Traces that show it.
        traces: Examples,
    },
    /// A fixed number of users who wait for their answers.
    ClosedLoop {
        /// The entry.
        entry: String,
        /// Their number.
        users: u32,
        /// What fits about as well.
        range: [u32; 2],
        /// How long they think, on average.
        think: Nanos,
    },
}

impl ClientFinding {
    /// What an edge's ceiling is.
    pub(super) fn limit(edge: EdgeName, ceiling: &Ceiling) -> ClientFinding {
        let Ceiling { most, handed, refused, of, traces } = ceiling.clone();
        match handed {
            0 => ClientFinding::Bulkhead { edge, most, refused, traces },
            waited => ClientFinding::Pool { edge, connections: most, waited, of, traces },
        }
    }
}

impl fmt::Display for ClientFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientFinding::Deadline { edge, deadline } => {
                write!(f, "{edge} has a deadline: all tries of a call together end within {deadline}")
            }
            ClientFinding::RetryBudget { edge, denied, granted, ratio, per_s } => {
                write!(
                    f,
                    "{edge} has a retry budget: {denied} failures were not tried again and {granted} were, as if a retry cost a token "
                )?;
                match (*ratio > 0.0, *per_s > 0.0) {
                    (true, true) => write!(f, "of which a first try brings {ratio:.3} and a second {per_s:.1}"),
                    (false, _) => write!(f, "of which a second brings {per_s:.1}"),
                    (true, false) => write!(f, "of which a first try brings {ratio:.3}"),
                }
            }
            ClientFinding::Pool { edge, connections, waited, of, traces } => write!(
                f,
                "{edge} has a pool of {connections} connections a replica: {waited} of {of} attempts that took the last one had to wait for \
                 it{traces}"
            ),
            ClientFinding::Bulkhead { edge, most, refused, traces } => {
                write!(
                    f,
                    "{edge} has a bulkhead: {refused} calls were not made, whenever {most} of their replica were under way{traces}"
                )
            }
            ClientFinding::ClosedLoop { entry, users, range: [low, high], think } => write!(
                f,
                "{entry} wait for their answers: {users} of them ({low} to {high}), who think for {think} on average, explain when requests \
                 come"
            ),
        }
    }
}
