//! Graph summaries: who calls whom and how often, without any trace.
//!
//! You are here: `models::trace::summary`. `dependencies`, `kiali` and `prometheus` fill a [`GraphSummary`]; `learn::summary` makes a
//! model of it.
//! Always true: a number that the source does not give is `None`, never 0; users are a caller without a name.

use std::collections::{BTreeMap, BTreeSet};

/// What one input told of calls between services.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GraphSummary {
    /// The time that counts were made over; `None` if the source does not say.
    pub seconds: Option<f64>,
    /// Calls by caller (`None`: users, or whoever is not known) and callee.
    pub calls: BTreeMap<(Option<String>, String), CallSummary>,
    /// Callers that pass requests on, one for one: gateways.
    pub gateways: BTreeSet<String>,
    /// What was left out, in words, and how often.
    pub left_out: BTreeMap<String, u64>,
}

/// Calls of one service to another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallSummary {
    /// How many.
    pub volume: Volume,
    /// How many of these failed, in the same unit; `None` if the source does not tell errors.
    pub failed: Option<f64>,
    /// How long the callee took.
    pub server: Option<Times>,
    /// How long the caller waited.
    pub client: Option<Times>,
    /// A message: the caller does not wait.
    pub message: bool,
}

/// A number of calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Volume {
    /// In all, over a time that may not be known.
    Count(f64),
    /// Per second.
    PerSecond(f64),
}

impl Default for Volume {
    fn default() -> Self {
        Volume::Count(0.0)
    }
}

impl Volume {
    /// The number, whatever its unit.
    pub fn number(self) -> f64 {
        match self {
            Volume::Count(n) | Volume::PerSecond(n) => n,
        }
    }
}

/// Times of calls, as far as they are told.
#[derive(Clone, Debug, PartialEq)]
pub enum Times {
    /// One quantile alone: the share of calls that took at most so many seconds.
    Quantile(f64, f64),
    /// A histogram.
    Histogram(Histogram),
}

/// Counts of calls by their length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// (upper bound in seconds, calls that took at most so long), bounds rising; the last bound may be infinite.
    pub buckets: Vec<(f64, f64)>,
    /// Seconds of all calls together; `None` if not told.
    pub sum: Option<f64>,
    /// Calls; `None` if not told.
    pub count: Option<f64>,
}

impl Histogram {
    /// The mean in seconds, where sum and count are told.
    pub fn mean(&self) -> Option<f64> {
        let count = self.count.filter(|&count| count > 0.0)?;
        self.sum.map(|sum| sum / count)
    }
}

impl GraphSummary {
    /// The services named, users left out.
    pub fn services(&self) -> BTreeSet<&str> {
        self.calls.keys().flat_map(|(from, to)| from.as_deref().into_iter().chain([to.as_str()])).collect()
    }

    /// The calls from one to another, to be filled.
    pub(crate) fn call(&mut self, from: Option<&str>, to: &str) -> &mut CallSummary {
        self.calls.entry((from.map(str::to_owned), to.to_owned())).or_default()
    }

    /// Adds calls to those of the same ends.
    pub(crate) fn add(&mut self, ends: (Option<String>, String), call: CallSummary) {
        let sum = self.calls.entry(ends).or_default();
        sum.volume = match (sum.volume, call.volume) {
            (before, Volume::PerSecond(rate)) => Volume::PerSecond(before.number() + rate),
            (before, Volume::Count(count)) => Volume::Count(before.number() + count),
        };
        sum.failed = match (sum.failed, call.failed) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        sum.server = sum.server.take().or(call.server);
        sum.client = sum.client.take().or(call.client);
        sum.message |= call.message;
    }

    /// Takes in what another part of the same input told.
    pub(crate) fn absorb(&mut self, part: GraphSummary) {
        self.seconds = self.seconds.or(part.seconds);
        for (ends, call) in part.calls {
            self.add(ends, call);
        }
        self.gateways.extend(part.gateways);
        for (what, n) in part.left_out {
            *self.left_out.entry(what).or_default() += n;
        }
    }

    /// Counts something that has no place in a model.
    pub(crate) fn left_out(&mut self, what: impl Into<String>) {
        *self.left_out.entry(what.into()).or_default() += 1;
    }
}
