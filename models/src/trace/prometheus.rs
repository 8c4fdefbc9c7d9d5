//! Service-graph metrics from an answer of Prometheus: `traces_service_graph_*` of Tempo, Alloy or the collector's connector.
//!
//! You are here: `models::trace::prometheus`. `records` hands over a whole answer of `query` or `query_range`.
//! Always true: counters that fall have started anew; series that differ in other labels (`failed`, instance) add up; what has other
//! metrics is refused by name.
//!
//! A range answer gives increases over its time, and so rates. An instant answer of the bare counters gives totals since their
//! start. One of `rate(...)` has lost the metric's name: its values are taken as calls per second, and the summary says so.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::detect::NoTrace;
use super::inbox::{Inbox, Place, Stop};
use super::loose::{Loose, null_is_default, plain};
use super::read::Format;
use super::summary::{GraphSummary, Histogram, Times, Volume};

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow, default, deserialize_with = "null_is_default")]
    result: Vec<Series<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Series<'a> {
    #[serde(borrow, deserialize_with = "null_is_default")]
    metric: BTreeMap<std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    value: Option<(Loose<'a>, Loose<'a>)>,
    #[serde(borrow, deserialize_with = "null_is_default")]
    values: Vec<(Loose<'a>, Loose<'a>)>,
}

/// What a series counts.
#[derive(Clone, Copy, PartialEq)]
enum Counted {
    Calls,
    Failed,
    /// Seconds of the callee (`true`) or of the caller: a bucket, the sum, the count.
    Bucket(bool, f64),
    Sum(bool),
    Count(bool),
}

/// Which series it is, by its name without what an exporter put before it.
fn counted(name: &str, bound: Option<f64>) -> Option<Counted> {
    let (_, rest) = name.split_once("traces_service_graph_request_")?;
    let server = rest.starts_with("server_seconds");
    match rest.strip_prefix("server_seconds").or_else(|| rest.strip_prefix("client_seconds")) {
        Some("_bucket") => bound.map(|bound| Counted::Bucket(server, bound)),
        Some("_sum") => Some(Counted::Sum(server)),
        Some("_count") => Some(Counted::Count(server)),
        _ => match rest {
            "total" => Some(Counted::Calls),
            "failed_total" => Some(Counted::Failed),
            _ => None,
        },
    }
}

fn sample((time, value): &(Loose<'_>, Loose<'_>)) -> Option<(f64, f64)> {
    let number = |raw: &Loose<'_>| match raw {
        Loose::Text(text) => text.parse().ok(),
        Loose::Int(number) => Some(*number as f64),
        Loose::Big(number) => Some(*number as f64),
        Loose::Float(number) => Some(*number),
        _ => None,
    };
    let (time, value): (f64, f64) = (number(time)?, number(value)?);
    (time.is_finite() && value.is_finite() && value >= 0.0).then_some((time, value))
}

impl Series<'_> {
    fn label(&self, key: &str) -> &str {
        self.metric.get(key).map_or("", |value| value.trim())
    }

    /// Samples in order of time; those that are no numbers are left out.
    fn samples(&self) -> Vec<(f64, f64)> {
        let mut samples: Vec<(f64, f64)> = self.values.iter().chain(&self.value).filter_map(sample).collect();
        samples.sort_by(|a, b| a.0.total_cmp(&b.0));
        samples
    }

    /// What was counted in all samples together: of several the increase, of one its value; and the time of the first and last.
    fn total(&self) -> Option<(f64, [f64; 2])> {
        let samples = self.samples();
        match samples[..] {
            [] => None,
            [(time, value)] => Some((value, [time, time])),
            [(first, _), .., (last, _)] => {
                // A counter that falls was reset to 0 in between.
                let risen = samples.windows(2).map(|pair| if pair[1].1 < pair[0].1 { pair[1].1 } else { pair[1].1 - pair[0].1 });
                Some((risen.sum(), [first, last]))
            }
        }
    }
}

/// Mean of numbers that are rates already, and their times.
fn mean(samples: &[(f64, f64)]) -> Option<(f64, [f64; 2])> {
    let (first, last) = (samples.first()?.0, samples.last()?.0);
    Some((samples.iter().map(|sample| sample.1).sum::<f64>() / samples.len() as f64, [first, last]))
}

/// One pair's numbers while series add up.
#[derive(Default)]
struct Pair {
    calls: Option<f64>,
    failed: Option<f64>,
    server: Sums,
    client: Sums,
    message: bool,
}

#[derive(Default)]
struct Sums {
    /// By the bits of the bound, which for numbers not below 0 rise with it.
    buckets: BTreeMap<u64, f64>,
    sum: Option<f64>,
    count: Option<f64>,
}

impl Sums {
    fn calls(&self) -> Option<f64> {
        self.count.or_else(|| self.buckets.last_key_value().map(|(_, &count)| count))
    }

    fn times(self) -> Option<Times> {
        let buckets: Vec<(f64, f64)> = self.buckets.into_iter().map(|(bits, count)| (f64::from_bits(bits), count)).collect();
        (!buckets.is_empty() || self.sum.is_some()).then_some(Times::Histogram(Histogram {
            buckets,
            sum: self.sum,
            count: self.count,
        }))
    }
}

/// Reads an answer.
pub(crate) fn answer(json: &[u8], place: &Place, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
    let data = match serde_json::from_slice::<Answer<'_>>(json) {
        Ok(answer) => answer.data,
        Err(error) => return inbox.skip(place.plus_lines(error.line()), plain(&error)),
    };
    let mut pairs: BTreeMap<(String, String), Pair> = BTreeMap::new();
    let mut window: Option<[f64; 2]> = None;
    let (mut unnamed, mut named) = (0_u64, 0_u64);
    for (index, series) in data.result.iter().enumerate() {
        let ends = [series.label("client"), series.label("server")].map(|name| inbox.names.get(name));
        let bound = match series.label("le") {
            "" => None,
            text => text.parse().ok().filter(|bound: &f64| *bound >= 0.0),
        };
        let name = series.label("__name__");
        let what = if name.is_empty() && bound.is_none() && !ends[1].is_empty() {
            unnamed += 1;
            Some(Counted::Calls)
        } else {
            counted(name, bound).inspect(|_| named += 1)
        };
        let Some(what) = what else { continue };
        let total = if name.is_empty() { mean(&series.samples()) } else { series.total() };
        let (Some((value, [first, last])), false) = (total, ends[1].is_empty()) else {
            let at = place.inside(format!("/data/result/{index}"));
            inbox.skip(at, "a series without the label server, or without a sample that is a number")?;
            continue;
        };
        window = Some(window.map_or([first, last], |[a, b]| [a.min(first), b.max(last)]));
        let [client, server] = ends;
        let pair = pairs.entry((client.to_string(), server.to_string())).or_default();
        pair.message |= series.label("connection_type") == "messaging_system";
        match what {
            Counted::Calls => *pair.calls.get_or_insert(0.0) += value,
            Counted::Failed => *pair.failed.get_or_insert(0.0) += value,
            Counted::Bucket(of_server, bound) => *pair.sums(of_server).buckets.entry(bound.to_bits()).or_default() += value,
            Counted::Sum(of_server) => *pair.sums(of_server).sum.get_or_insert(0.0) += value,
            Counted::Count(of_server) => *pair.sums(of_server).count.get_or_insert(0.0) += value,
        }
    }
    if pairs.is_empty() && unnamed + named > 0 {
        // Each of them was skipped for a reason of its own.
        return Ok(());
    }
    if pairs.is_empty() {
        inbox.refuse(NoTrace::Prometheus, place.line_number());
        return inbox.skip(place.clone(), NoTrace::Prometheus.name());
    }
    inbox.recognised(Format::ServiceGraphMetrics);
    let seconds = window.map(|[first, last]| last - first).filter(|&seconds| seconds > 0.0);
    let rates = unnamed > 0 && named == 0;
    fill(inbox.summary(), pairs, seconds, rates);
    if rates {
        inbox.mended("a series without a name was taken as calls per second");
    }
    Ok(())
}

impl Pair {
    fn sums(&mut self, of_server: bool) -> &mut Sums {
        if of_server { &mut self.server } else { &mut self.client }
    }
}

/// Adds what was counted to the summary; counts over a known time become rates.
fn fill(summary: &mut GraphSummary, pairs: BTreeMap<(String, String), Pair>, seconds: Option<f64>, rates: bool) {
    summary.seconds = summary.seconds.or(seconds);
    // Failures that no series counts are none, where any series counts some.
    let tells_errors = pairs.values().any(|pair| pair.failed.is_some());
    for ((client, server), pair) in pairs {
        // Made up by the generator: whoever called the first span of a trace.
        let from = Some(client.as_str()).filter(|client| !matches!(*client, "" | "user" | "unknown"));
        let scale = if rates { 1.0 } else { seconds.map_or(1.0, |seconds| 1.0 / seconds) };
        let counted = pair.calls.or_else(|| pair.server.calls()).or_else(|| pair.client.calls());
        let calls = counted.unwrap_or(0.0) * scale;
        let call = summary.call(from, &server);
        call.volume = if rates || seconds.is_some() { Volume::PerSecond(calls) } else { Volume::Count(calls) };
        call.failed = pair.failed.or(tells_errors.then_some(0.0)).map(|failed| failed * scale);
        call.message = pair.message;
        (call.server, call.client) = (pair.server.times(), pair.client.times());
    }
}
