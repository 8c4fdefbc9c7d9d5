//! Service-time distributions: what a step of work takes.
//!
//! You are here: `models::dist`. The learner writes quantile tables, people write the parametric forms.
//! Not here: the integer tables that engines draw from (`table`).

use crate::param::Source;
use crate::units::Nanos;

/// A distribution of durations.
#[derive(Clone, Debug, PartialEq)]
pub enum Dist {
    /// Always the same.
    Constant(Nanos),
    /// Exponential with this mean.
    Exponential(Nanos),
    /// Lognormal through its median and its 99th percentile (`p99 >= p50 > 0`).
    Lognormal {
        /// Median.
        p50: Nanos,
        /// 99th percentile.
        p99: Nanos,
    },
    /// An empirical quantile table: (probability in 0..=1, duration), both rising, first probability 0, last 1.
    Quantiles(Vec<(f64, Nanos)>),
}

/// A step of own work: a distribution, its provenance, and how far off it may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// The service time.
    pub dist: Dist,
    /// Where it came from.
    pub source: Source,
    /// 90 % interval of a factor on all its times; `None` if taken as certain.
    pub scale_range: Option<[f64; 2]>,
}

impl Work {
    /// Work that a person wrote, taken as certain.
    pub fn declared(dist: Dist) -> Self {
        Work { dist, source: Source::Declared, scale_range: None }
    }
}
