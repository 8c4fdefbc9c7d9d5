//! What a model made of a graph summary does not know, in words.
//!
//! You are here: `models::learn::summary::findings`. A finding is a variant with its evidence; `Display` words it.

use std::fmt;

use crate::learn::findings;
use crate::system::EdgeName;

/// What a model made of a summary does not know.
#[derive(Clone, Debug, PartialEq)]
pub enum SummaryFinding {
    /// Structure is assumed: the summary has mean calls per request and no order.
    StructureAssumed {
        /// Services.
        services: usize,
        /// Calls between them.
        calls: usize,
    },
    /// Services whose times nothing tells.
    TimesAssumed {
        /// Such services.
        services: Vec<String>,
    },
    /// Times known by one quantile alone.
    TimesFromQuantile {
        /// Such services.
        services: Vec<String>,
    },
    /// Times taken from histograms.
    TimesFromHistogram {
        /// Such services.
        services: Vec<String>,
        /// Widest ratio of neighbouring bounds: how rough they are.
        widest: f64,
    },
    /// Counts over an unknown time: rates are a guess.
    SecondsAssumed,
    /// Services that call and are not seen to be called: users are taken to come in there.
    EntryAssumed {
        /// The service.
        service: String,
        /// Fewest and most requests per second that its calls can mean.
        range: [f64; 2],
    },
    /// Errors that no source told.
    ErrorsUnknown,
    /// What has no place in a model.
    LeftOut {
        /// What, and how often.
        what: Vec<String>,
    },
    /// A summary beside traces: only used to look for calls that the traces lack.
    NotInTraces {
        /// Calls that only the summary has.
        calls: Vec<EdgeName>,
    },
}

impl fmt::Display for SummaryFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SummaryFinding::StructureAssumed { services, calls } => write!(
                f,
                "made from a graph summary, not from traces: {calls} calls between {services} services are there in their mean numbers; \
                 that they follow one another, that every request is alike, and that nobody retries or gives up is assumed"
            ),
            SummaryFinding::TimesAssumed { services } => write!(
                f,
                "nothing tells how long work takes, so it is assumed (p50 5 ms, p99 50 ms, off by a factor of up to 10 either way): {}",
                findings::list(services)
            ),
            SummaryFinding::TimesFromQuantile { services } => {
                write!(f, "one quantile of the time is known and the spread around it assumed: {}", findings::list(services))
            }
            SummaryFinding::TimesFromHistogram { services, widest } => write!(
                f,
                "times come from histograms whose neighbouring bounds differ by up to {widest:.3} times; where a service calls others, their \
                 mean times were taken off: {}",
                findings::list(services)
            ),
            SummaryFinding::SecondsAssumed => f.write_str(
                "the counts name no time that they were made over: a day is assumed (an hour to a week), and all rates follow from that",
            ),
            SummaryFinding::EntryAssumed { service, range: [low, high] } => {
                write!(f, "nobody is seen to call {service}: users are assumed to, {}", short(*low))?;
                if high > low {
                    write!(f, " to {}", short(*high))?;
                }
                f.write_str(" times a second, as its own calls suggest")
            }
            SummaryFinding::ErrorsUnknown => f.write_str("the summary tells no errors: none are in the model"),
            SummaryFinding::LeftOut { what } => write!(f, "left out: {}", findings::list(what)),
            SummaryFinding::NotInTraces { calls } => {
                write!(f, "{} calls are in the graph summary and not in the traces: {}", calls.len(), findings::list(calls))
            }
        }
    }
}

/// Three significant digits.
fn short(rate: f64) -> String {
    match rate {
        rate if rate >= 100.0 => format!("{rate:.0}"),
        rate if rate >= 1.0 => format!("{rate:.2}"),
        rate => format!("{rate:.4}"),
    }
}
