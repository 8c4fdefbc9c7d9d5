//! Whether the traces are a fair sample, and what is left of their rates if not.
//!
//! You are here: `models::learn::sampling`. `extract` has undone head sampling by each trace's own share; this looks for what no weight
//! can undo.
//! Always true: a rate that rests on traces chosen by what they turned out to be is never called observed.

use std::fmt;

use super::log::{Log, Origin};
use super::workload::EntrySeen;
use crate::param::{Param, Source};
use crate::trace::Kept;

/// How traces were chosen, if not by chance alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Unfair {
    /// By a policy that saw the whole trace.
    Policy {
        /// Traces that say so.
        traces: u64,
        /// Of so many.
        of: u64,
    },
    /// At most so many a second.
    RateLimit {
        /// Traces that say so.
        traces: u64,
        /// Of so many.
        of: u64,
    },
    /// By shares that differ with the outcome.
    Outcome {
        /// What the preferred ones have in common.
        what: &'static str,
        /// Mean share kept of these,
        preferred: f64,
        /// and of all others.
        others: f64,
    },
}

impl fmt::Display for Unfair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfair::Policy { traces, of } => write!(
                f,
                "{traces} of {of} traces were kept by a policy that had seen how they ended (tail sampling): slow and failed ones are \
                 over-represented, and no weight undoes that; rates, error rates and shares of paths are not those of the traffic, and \
                 rates are only a lower bound"
            ),
            Unfair::RateLimit { traces, of } => write!(
                f,
                "{traces} of {of} traces were kept by a limit per second: how many requests there were is not told, rates are only a \
                 lower bound (--sampling SHARE, if you know it)"
            ),
            Unfair::Outcome { what, preferred, others } => write!(
                f,
                "{what} traces were kept with a share of {preferred:.3}, all others with {others:.3}: they were chosen by how they ended; \
                 weights undo that only as far as every trace's share is what really decided"
            ),
        }
    }
}

/// Fewest traces of a group that are compared, and by how much their shares must differ.
const ENOUGH: usize = 10;
const TELLING: f64 = 1.5;

/// What is wrong with the sample, if anything shows.
pub(super) fn unfair(log: &Log) -> Vec<Unfair> {
    let of = log.traces.len() as u64;
    let count = |kept: Kept| log.traces.iter().filter(|trace| trace.kept == kept).count() as u64;
    let mut found = Vec::new();
    match count(Kept::ByPolicy) {
        0 => {}
        traces => found.push(Unfair::Policy { traces, of }),
    }
    match count(Kept::ByRate) {
        0 => {}
        traces => found.push(Unfair::RateLimit { traces, of }),
    }
    found.extend(by_outcome(log));
    found
}

/// Compares the shares of failed traces, and of the slowest tenth, with those of the others.
fn by_outcome(log: &Log) -> Option<Unfair> {
    // (share, failed, length) of each trace that begins at a root.
    let mut roots: Vec<(f64, bool, u64)> = Vec::new();
    for request in log.requests.iter().filter(|request| request.origin == Origin::Root) {
        if let Some(share) = log.traces[request.trace as usize].share {
            roots.push((share, request.failed, request.duration()));
        }
    }
    let mut lengths: Vec<u64> = roots.iter().map(|root| root.2).collect();
    lengths.sort_unstable();
    let slow_from = super::numbers::quantile(&lengths, 0.9);
    let compare = |what: &'static str, is: &dyn Fn(&(f64, bool, u64)) -> bool| {
        let mean = |wanted: bool| {
            let shares: Vec<f64> = roots.iter().filter(|root| is(root) == wanted).map(|root| root.0).collect();
            (shares.len() >= ENOUGH).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
        };
        let (preferred, others) = (mean(true)?, mean(false)?);
        (preferred > TELLING * others).then_some(Unfair::Outcome { what, preferred, others })
    };
    compare("failed", &|root| root.1).or_else(|| compare("slow", &|root| root.2 > slow_from))
}

/// Rates that rest on an unfair sample are a lower bound.
pub(super) fn mark_rates(entries: &mut [EntrySeen], unfair: &[Unfair], share_is_known: bool) {
    let unknown = unfair.iter().any(|found| match found {
        Unfair::Policy { .. } => true,
        Unfair::RateLimit { .. } => !share_is_known,
        Unfair::Outcome { .. } => false,
    });
    for entry in entries.iter_mut().filter(|_| unknown) {
        let rate = entry.rate.value;
        entry.rate = Param { value: rate, source: Source::Assumed, range: Some([rate, rate * 100.0]) };
    }
}
