//! Paths of an operation and their steps, read from a document.
//!
//! You are here: `models::format::decode::steps`: the part of the decoder that knows what a request does.

use super::Decoder;
use crate::dist::{Dist, Work};
use crate::format::cursor::{Cursor, Fields, Mistakes, SOURCES, Shape};
use crate::param::{Param, Source};
use crate::system::{Call, CallPath, Lookup, Publish, Step, Wait};
use crate::units::Nanos;

pub const PATH: Shape = Shape { name: "path", keys: &["weight", "steps"] };
pub const STEP: Shape = Shape { name: "step", keys: &["work", "call", "parallel", "lookup", "publish"] };
pub const WORK: Shape = Shape { name: "work", keys: &["constant", "exponential", "lognormal", "quantiles", "source", "range"] };
/// Keys of a distribution of durations.
pub const DISTRIBUTION: Shape = Shape { name: "distribution", keys: &["constant", "exponential", "lognormal", "quantiles"] };
pub const LOGNORMAL: Shape = Shape { name: "lognormal", keys: &["p50", "p99"] };
pub const CALL: Shape = Shape { name: "call", keys: &["to", "site", "times", "on_failure", "wait", "fallback"] };
pub const OPERATION_NAME: Shape = Shape { name: "operation_name", keys: &["service", "operation"] };
pub const PARALLEL: Shape = Shape { name: "parallel", keys: &["wait", "branches"] };
pub const QUORUM: Shape = Shape { name: "quorum", keys: &["quorum"] };
pub const LOOKUP: Shape = Shape { name: "lookup", keys: &["cache", "origin", "fill", "single_flight"] };
pub const PUBLISH: Shape = Shape { name: "publish", keys: &["to", "site", "times", "on_failure"] };

/// What a call gets for what the file leaves out, by where it stands.
#[derive(Clone, Copy)]
pub struct CallDefaults {
    /// As in [`Call::on_failure`].
    pub on_failure: f64,
    /// As in [`Call::wait`].
    pub wait: bool,
}

/// A call as a step, a branch, an origin or a fallback: its failure is its caller's.
pub const PLAIN: CallDefaults = CallDefaults { on_failure: 1.0, wait: true };

/// The question to a cache: its failure is a miss.
pub const QUESTION: CallDefaults = CallDefaults { on_failure: 0.0, wait: true };

/// The message that fills a cache: nobody waits for it.
pub const FILL: CallDefaults = CallDefaults { on_failure: 0.0, wait: false };

/// What a publish gets where the file does not say what its failure means.
pub const PUBLISH_ON_FAILURE: f64 = 0.0;

impl Decoder {
    pub(super) fn path(&mut self, at: &Cursor<'_>) -> Option<CallPath> {
        let fields = at.fields(&PATH, &mut self.mistakes)?;
        let mut weight = Param::declared(1.0);
        self.set(&fields, "weight", &mut weight, |at, m| at.param(m, Cursor::real));
        let steps = fields.need("steps", "a list of steps", &mut self.mistakes)?.items(&mut self.mistakes)?;
        Some(CallPath { weight, steps: steps.iter().filter_map(|at| self.step(at)).collect() })
    }

    fn step(&mut self, at: &Cursor<'_>) -> Option<Step> {
        let fields = at.fields(&STEP, &mut self.mistakes)?;
        let present: Vec<_> = STEP.keys.iter().filter_map(|key| Some((*key, fields.get(key)?))).collect();
        let [(kind, at)] = &present[..] else {
            let found = if present.is_empty() { "none of them".into() } else { format!("{} of them", present.len()) };
            self.mistakes.add_found(at, found, "exactly one of work, call, parallel, lookup, publish", "");
            return None;
        };
        match *kind {
            "work" => self.work(at).map(Step::Work),
            "call" => self.call(at, PLAIN).map(Step::Call),
            "parallel" => self.parallel(at),
            "lookup" => self.lookup(at).map(Step::Lookup),
            _ => self.publish(at).map(Step::Publish),
        }
    }

    /// A service time with its provenance.
    pub(super) fn work(&mut self, at: &Cursor<'_>) -> Option<Work> {
        let fields = at.fields(&WORK, &mut self.mistakes)?;
        let m = &mut self.mistakes;
        let dist = dist(&fields, m);
        let source = match fields.get("source") {
            Some(at) => at.word(SOURCES, m),
            None => Some(Source::Declared),
        };
        let scale_range = match fields.get("range") {
            Some(at) => at.pair(m, Cursor::real).map(Some),
            None => Some(None),
        };
        Some(Work { dist: dist?, source: source?, scale_range: scale_range? })
    }

    fn call(&mut self, at: &Cursor<'_>, defaults: CallDefaults) -> Option<Call> {
        let mut call = Call {
            to: crate::system::OpRef::new("", ""),
            site: 0,
            times: vec![(1, 1.0)],
            on_failure: Param::declared(defaults.on_failure),
            wait: defaults.wait,
            fallback: None,
        };
        if !at.is_map() {
            call.to = self.operation_name(at)?;
            call.site = self.site(None);
            return Some(call);
        }
        let fields = at.fields(&CALL, &mut self.mistakes)?;
        let to = fields.need("to", "service.operation", &mut self.mistakes).and_then(|at| self.operation_name(&at));
        call.site = self.site(Some(&fields));
        self.set(&fields, "times", &mut call.times, times);
        self.set(&fields, "on_failure", &mut call.on_failure, on_failure);
        self.state(&fields, call.site);
        self.set(&fields, "wait", &mut call.wait, Cursor::boolean);
        self.set_or_none(&fields, "fallback", &mut call.fallback, |d, at, _| d.call(at, PLAIN).map(Box::new));
        Some(Call { to: to?, ..call })
    }

    fn parallel(&mut self, at: &Cursor<'_>) -> Option<Step> {
        let fields = at.fields(&PARALLEL, &mut self.mistakes)?;
        let mut wait = Wait::All;
        self.set(&fields, "wait", &mut wait, |at, m| {
            if !at.is_map() {
                return at.word(&[("all", Wait::All), ("first", Wait::First)], m);
            }
            at.fields(&QUORUM, m)?.need("quorum", "how many successes", m)?.count(m).map(Wait::Quorum)
        });
        let branches = fields.need("branches", "a list of steps", &mut self.mistakes)?.items(&mut self.mistakes)?;
        Some(Step::Parallel { wait, branches: branches.iter().filter_map(|at| self.step(at)).collect() })
    }

    fn lookup(&mut self, at: &Cursor<'_>) -> Option<Lookup> {
        let fields = at.fields(&LOOKUP, &mut self.mistakes)?;
        let cache = fields.need("cache", "a call", &mut self.mistakes).and_then(|at| self.call(&at, QUESTION));
        let origin = fields.need("origin", "a call", &mut self.mistakes).and_then(|at| self.call(&at, PLAIN));
        let mut fill = None;
        self.set_or_none(&fields, "fill", &mut fill, |d, at, _| d.call(at, FILL));
        let mut single_flight = false;
        self.set(&fields, "single_flight", &mut single_flight, Cursor::boolean);
        Some(Lookup { cache: cache?, origin: origin?, fill, single_flight })
    }

    fn publish(&mut self, at: &Cursor<'_>) -> Option<Publish> {
        let on_publish_failure = Param::declared(PUBLISH_ON_FAILURE);
        if !at.is_map() {
            let to = at.text("a topic", &mut self.mistakes)?.into();
            return Some(Publish { to, site: self.site(None), times: vec![(1, 1.0)], on_failure: on_publish_failure });
        }
        let fields = at.fields(&PUBLISH, &mut self.mistakes)?;
        let to = fields.need("to", "a topic", &mut self.mistakes).and_then(|at| at.text("a topic", &mut self.mistakes));
        let mut publish =
            Publish { to: String::new(), site: self.site(Some(&fields)), times: vec![(1, 1.0)], on_failure: on_publish_failure };
        self.set(&fields, "times", &mut publish.times, times);
        self.set(&fields, "on_failure", &mut publish.on_failure, on_failure);
        self.state(&fields, publish.site);
        Some(Publish { to: to?.into(), ..publish })
    }

    /// Keeps in mind that the document says what a failure at `site` does.
    fn state(&mut self, fields: &Fields<'_>, site: u32) {
        if let Some(at) = fields.get("on_failure") {
            self.stated.insert(site, at.place);
        }
    }
}

/// A distribution of durations alone, for files other than a model's.
pub fn read_dist(at: &Cursor<'_>, m: &mut Mistakes) -> Option<Dist> {
    dist(&at.fields(&DISTRIBUTION, m)?, m)
}

/// The one distribution among these fields.
fn dist(fields: &Fields<'_>, m: &mut Mistakes) -> Option<Dist> {
    let present: Vec<_> = DISTRIBUTION.keys.iter().filter_map(|key| Some((*key, fields.get(key)?))).collect();
    let [(kind, value)] = &present[..] else {
        let found = if present.is_empty() { "no distribution".into() } else { format!("{} distributions", present.len()) };
        m.add_found(&fields.at, found, "exactly one of constant, exponential, lognormal, quantiles", "");
        return None;
    };
    match *kind {
        "constant" => value.duration(m).map(Dist::Constant),
        "exponential" => value.duration(m).map(Dist::Exponential),
        "lognormal" => lognormal(value, m),
        _ => quantiles(value, m),
    }
}

fn lognormal(at: &Cursor<'_>, m: &mut Mistakes) -> Option<Dist> {
    let fields = at.fields(&LOGNORMAL, m)?;
    let p50 = fields.need("p50", "the median", m).and_then(|at| at.duration(m));
    let p99 = fields.need("p99", "the 99th percentile", m).and_then(|at| at.duration(m));
    Some(Dist::Lognormal { p50: p50?, p99: p99? })
}

/// `{ 0: 1ms, 50: 5ms, 99: 20ms, 100: 40ms }`: per cent and durations.
fn quantiles(at: &Cursor<'_>, m: &mut Mistakes) -> Option<Dist> {
    let mut table: Vec<(f64, Nanos)> = Vec::new();
    for (percent, at) in at.entries(m)? {
        // Shifted in the text, not by a division: so every probability that was written reads back bit for bit.
        let probability = format!("{percent}e-2").parse::<f64>().ok().filter(|p| (0.0..=1.0).contains(p));
        match (probability, at.duration(m)) {
            (Some(probability), Some(duration)) => table.push((probability, duration)),
            (Some(_), None) => {}
            (None, _) => m.add_found(&at, percent, "a percentile between 0 and 100", ""),
        }
    }
    Some(Dist::Quantiles(table))
}

/// How often: `3`, or `{ 1: 0.5, 2: 0.5 }` (count and probability).
fn times(at: &Cursor<'_>, m: &mut Mistakes) -> Option<Vec<(u32, f64)>> {
    if !at.is_map() {
        return at.count(m).map(|n| vec![(n, 1.0)]);
    }
    let mut times = Vec::new();
    for (count, at) in at.entries(m)? {
        match (count.parse::<u32>(), at.share(m)) {
            (Ok(count), Some(probability)) => times.push((count, probability)),
            (Ok(_), None) => {}
            (Err(_), _) => m.add_found(&at, count, "a count and its probability, such as 2: 0.5", ""),
        }
    }
    Some(times)
}

/// `fail`, `degrade`, or the probability that the failure becomes the caller's.
fn on_failure(at: &Cursor<'_>, m: &mut Mistakes) -> Option<Param<f64>> {
    if at.is_word("fail") {
        return Some(Param::declared(1.0));
    }
    if at.is_word("degrade") {
        return Some(Param::declared(0.0));
    }
    if at.scalar().is_some_and(|text| text.starts_with(|c: char| c.is_ascii_alphabetic())) {
        m.add(at, "fail, degrade, or a share between 0 and 1", "");
        return None;
    }
    at.param(m, Cursor::share)
}
