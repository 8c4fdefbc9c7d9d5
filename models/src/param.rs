//! A number of the model, where it came from, and how sure of it we are.
//!
//! You are here: `models::param`. Every number that a model file holds is a [`Param`].
//! Not here: how a number is learned (`learn`), or how it is written (`format`).

use serde::Serialize;

use crate::units::Nanos;

/// Where a number came from (DESIGN.md section 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Counted in traces.
    Observed,
    /// Estimated from traces, with a range.
    Inferred,
    /// Written by a person: what a bare number in a model file is.
    #[default]
    Declared,
    /// A default, with a wide range: nothing is known.
    Assumed,
}

/// One number with its provenance and, where it is not certain, the 90 % interval that worlds draw from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Param<T> {
    /// The value as written: what world 0 uses.
    pub value: T,
    /// Where it came from.
    pub source: Source,
    /// 90 % interval, low and high; `None` if the value is taken as certain.
    pub range: Option<[T; 2]>,
}

impl<T> Param<T> {
    /// A number that a person wrote, taken as certain.
    pub const fn declared(value: T) -> Self {
        Param { value, source: Source::Declared, range: None }
    }

    /// A number that was counted in traces.
    pub const fn observed(value: T) -> Self {
        Param { value, source: Source::Observed, range: None }
    }

    /// A number that was estimated from traces.
    pub const fn inferred(value: T, range: [T; 2]) -> Self {
        Param { value, source: Source::Inferred, range: Some(range) }
    }

    /// A default for what nobody knows.
    pub const fn assumed(value: T, range: [T; 2]) -> Self {
        Param { value, source: Source::Assumed, range: Some(range) }
    }

    /// The same number with this interval.
    pub fn with_range(mut self, range: [T; 2]) -> Self {
        self.range = Some(range);
        self
    }
}

impl<T> From<T> for Param<T> {
    fn from(value: T) -> Self {
        Param::declared(value)
    }
}

/// A count that may have no bound (`unlimited` workers, an `unbounded` queue).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// At most this many.
    Of(u32),
    /// No bound.
    Unlimited,
}

/// What a [`Param`] can hold: the visitor of [`crate::system::Model::visit_params`] sees each as one of these.
#[derive(Debug)]
pub enum ParamMut<'a> {
    /// A share or probability in 0..=1.
    Share(&'a mut Param<f64>),
    /// A non-negative real number: a rate per second, a factor, a weight.
    Real(&'a mut Param<f64>),
    /// A whole number.
    Count(&'a mut Param<u32>),
    /// A whole number or no bound.
    Limit(&'a mut Param<Limit>),
    /// A duration.
    Time(&'a mut Param<Nanos>),
    /// A service-time distribution; its range is of a factor on all its times.
    Work(&'a mut crate::dist::Work),
}
