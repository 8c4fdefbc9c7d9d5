//! Which one measurement would remove most doubt about a model.
//!
//! You are here: `commands::doubt`, for `inspect`. Each number that is not certain is set to the low and to the high end of its range, all
//! others as written, and the system is simulated under two strains. What differs for users is what knowing that number would settle.
//! Always true: the same luck at both ends, so that only the number makes the difference.
//! Not here: numbers that matter only together, or under other strains; a `plan` of live experiments.

use models::param::{Limit, Param, ParamMut, Source};
use models::system::Model;
use models::units::{Nanos, SimTime};
use scenarios::analyse::Analysis;
use scenarios::fault::{Fault, FaultKind, Target};
use scenarios::scenario::Scenario;
use serde::Serialize;
use sim::{Prepared, Program, RunOptions};

use crate::exit::Failure;

/// Numbers that are tried: those with the widest ranges.
const TRIED: usize = 24;
const HORIZON: Nanos = Nanos::from_secs(20);
/// Events of a run: a large system is strained for a shorter time.
const MOST_EVENTS: u64 = 150_000;
/// What the p99s' relative difference counts beside the failed share.
const SLOWNESS: f64 = 0.2;
/// An effect below this is none.
const LEAST: f64 = 0.005;
/// Ranges whose ends differ by less than this factor are known well enough.
const NARROW: f64 = 1.25;

/// What users see at either end of one number's range.
#[derive(Clone, Debug, Serialize)]
pub struct Doubt {
    /// Which number, as a path through the model file.
    pub what: String,
    /// As written.
    pub value: String,
    /// The low end of its range.
    pub low: String,
    /// The high end.
    pub high: String,
    /// True if nothing was measured at all.
    pub assumed: bool,
    /// The strain that shows the difference.
    pub strain: String,
    /// Failed share of user requests at the low and at the high end.
    pub failed: [f64; 2],
    /// Their p99 at both, ms.
    pub p99_ms: [f64; 2],
    /// Difference of the failed shares, and a fifth of the relative difference of the p99s.
    pub effect: f64,
}

/// One number with a range.
struct Uncertain {
    place: usize,
    what: String,
    texts: [String; 3],
    assumed: bool,
    width: f64,
}

/// The numbers that matter most for users, the first one first.
///
/// # Errors
/// A model that cannot be run.
pub fn doubts(model: &Model, analysis: &Analysis) -> Result<Vec<Doubt>, Failure> {
    let mut uncertain = uncertain(model);
    uncertain.sort_by(|a, b| b.width.total_cmp(&a.width).then(a.place.cmp(&b.place)));
    uncertain.truncate(TRIED);
    let strains = strains(model, analysis);
    let mut doubts = Vec::new();
    for number in uncertain {
        let ends = [at_end(model, number.place, 0), at_end(model, number.place, 1)];
        // Two ends of one range may not make sense beside all other numbers; then nothing is said.
        if ends.iter().any(|model| models::check::check(model).is_err()) {
            continue;
        }
        let programs = [Program::compile(&ends[0], 0)?, Program::compile(&ends[1], 0)?];
        let mut worst: Option<Doubt> = None;
        for (words, strain) in &strains {
            let [low, high] = [users(&programs[0], strain)?, users(&programs[1], strain)?];
            let slower = if low.1.max(high.1) > 0.0 { 1.0 - low.1.min(high.1) / low.1.max(high.1) } else { 0.0 };
            let effect = (low.0 - high.0).abs() + SLOWNESS * slower;
            if effect >= LEAST && worst.as_ref().is_none_or(|worst| effect > worst.effect) {
                let [value, low_text, high_text] = number.texts.clone();
                worst = Some(Doubt {
                    what: number.what.clone(),
                    value,
                    low: low_text,
                    high: high_text,
                    assumed: number.assumed,
                    strain: words.clone(),
                    failed: [low.0, high.0],
                    p99_ms: [low.1, high.1],
                    effect,
                });
            }
        }
        doubts.extend(worst);
    }
    doubts.sort_by(|a, b| b.effect.total_cmp(&a.effect).then(a.what.cmp(&b.what)));
    Ok(doubts)
}

impl Doubt {
    /// In a sentence.
    pub fn words(&self) -> String {
        let Doubt { what, value, low, high, strain, failed, p99_ms, .. } = self;
        let source = if self.assumed { "assumed" } else { "inferred" };
        format!(
            "{what} ({source}: {value}, could be {low} to {high}). {strain}, {:.1} % of user requests fail with p99 {:.0} ms at {low}, and \
             {:.1} % with p99 {:.0} ms at {high}",
            failed[0] * 100.0,
            p99_ms[0],
            failed[1] * 100.0,
            p99_ms[1]
        )
    }
}

/// Twice the load, and three times the service time of the busiest service (or of the one whose calls worry most).
fn strains(model: &Model, analysis: &Analysis) -> Vec<(String, Scenario)> {
    let double = Scenario { id: "double".into(), load: Some(2.0), ..Scenario::default() };
    let mut strains = vec![("At twice the load".to_owned(), double)];
    let busy = analysis.nodes.iter().filter_map(|node| Some((node.utilisation?, &node.name)));
    let busiest = busy.filter(|(_, name)| model.services.contains_key(*name)).max_by(|a, b| a.0.total_cmp(&b.0));
    let inner = || {
        let edges = analysis.boundaries.iter().map(|b| &b.edge);
        edges
            .filter(|edge| !model.workload.contains_key(&edge.from))
            .map(|edge| &edge.to)
            .find(|to| model.services.contains_key(*to))
    };
    if let Some(callee) = busiest.map(|(_, name)| name).or_else(inner) {
        let fault = Fault::new(
            FaultKind::Slow { factor: 3.0 },
            Target::Node(callee.clone()),
            SimTime::ZERO + Nanos::from_secs(4),
            Nanos::from_secs(8),
        );
        let slow = Scenario { id: "slow".into(), faults: vec![fault], ..Scenario::default() };
        strains.push((format!("With {callee} three times as slow for 8 s"), slow));
    }
    strains
}

/// Failed share and p99 (ms) of user requests, all entries together (the slowest entry's p99).
fn users(program: &Program, strain: &Scenario) -> Result<(f64, f64), Failure> {
    let options = RunOptions { horizon: HORIZON, max_events: MOST_EVENTS, ..RunOptions::default() };
    let result = Prepared::new(program, strain, &options)?.run().result();
    let (mut requests, mut errors, mut p99) = (0, 0, 0.0_f64);
    for entry in result.entries.values() {
        requests += entry.requests;
        errors += entry.errors;
        p99 = p99.max(entry.p99_ms);
    }
    Ok((errors as f64 / requests.max(1) as f64, p99))
}

/// Every number whose range is wide, but for service times and the load itself, which traffic shows.
fn uncertain(model: &Model) -> Vec<Uncertain> {
    let mut found = Vec::new();
    let mut place = 0;
    model.clone().visit_params(&mut |path, param| {
        let ends = match param {
            ParamMut::Share(p) => ends(p, |x| format!("{:.0} %", x * 100.0), |[low, high]| 1.0 + 4.0 * (high - low)),
            ParamMut::Real(p) => ends(p, f64::to_string, |[low, high]| high / low.max(1e-9)),
            ParamMut::Count(p) => ends(p, u32::to_string, |[low, high]| f64::from(high) / f64::from(low.max(1))),
            ParamMut::Limit(p) => ends(p, limit, |range| {
                let [low, high] = range.map(|end| if let Limit::Of(n) = end { f64::from(n.max(1)) } else { 1e6 });
                high / low
            }),
            ParamMut::Time(p) => ends(p, Nanos::to_string, |range| {
                let [low, high] = range.map(|end| end.as_nanos().max(1_000) as f64);
                high / low
            }),
            ParamMut::Work(_) => None,
        };
        if let Some((texts, assumed, width)) = ends.filter(|(_, _, width)| *width > NARROW && !path.starts_with("workload.")) {
            found.push(Uncertain { place, what: path.to_owned(), texts, assumed, width });
        }
        place += 1;
    });
    found
}

/// The texts of a number and of its ends, whether it is assumed, and how wide its range is.
fn ends<T: Copy>(p: &Param<T>, show: impl Fn(&T) -> String, width: impl Fn([T; 2]) -> f64) -> Option<([String; 3], bool, f64)> {
    let range = p.range.filter(|_| matches!(p.source, Source::Assumed | Source::Inferred))?;
    Some(([show(&p.value), show(&range[0]), show(&range[1])], p.source == Source::Assumed, width(range)))
}

fn limit(limit: &Limit) -> String {
    match limit {
        Limit::Of(n) => n.to_string(),
        Limit::Unlimited => "no bound".to_owned(),
    }
}

/// The model with its `place`th number at an end of its range.
fn at_end(model: &Model, place: usize, end: usize) -> Model {
    fn set<T: Copy>(p: &mut Param<T>, end: usize) {
        p.value = p.range.map_or(p.value, |range| range[end]);
    }
    let mut model = model.clone();
    let mut at = 0;
    model.visit_params(&mut |_, param| {
        if at == place {
            match param {
                ParamMut::Share(p) | ParamMut::Real(p) => set(p, end),
                ParamMut::Count(p) => set(p, end),
                ParamMut::Limit(p) => set(p, end),
                ParamMut::Time(p) => set(p, end),
                ParamMut::Work(_) => {}
            }
        }
        at += 1;
    });
    model
}

#[cfg(test)]
mod tests {
    use models::format::read_model;

    use super::*;

    #[test]
    fn the_number_that_decides_comes_first() {
        let text = "
version: 1
workload: { users: { to: web.get, open: { rate: 60/s } } }
services:
  web: { workers: 200, queue: { value: 128, source: assumed, range: [16, 1024] }, operations: { get: { paths: [ { steps: [ { work: { exponential: 2ms } }, { call: { to: db.read } } ] } ] } } }
  db: { workers: { value: 8, source: assumed, range: [2, 32] }, queue: 20, operations: { read: { paths: [ { steps: [ { work: { exponential: 50ms } } ] } ] } } }
";
        let model = read_model("model.yaml", text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
        let doubts = doubts(&model, &scenarios::analyse::analyse(&model)).unwrap_or_else(|failure| panic!("{failure:?}"));
        let first = &doubts[0];
        // 120 requests/s of 50 ms need 6 workers: with two most are refused, with 32 none.
        assert_eq!((first.what.as_str(), first.low.as_str(), first.high.as_str()), ("services.db.workers", "2", "32"));
        assert!(first.failed[0] > 0.4 && first.failed[1] < 0.01 && first.assumed, "{first:?}");
        assert!(first.words().contains("services.db.workers (assumed: 8, could be 2 to 32)"), "{}", first.words());
        assert!(doubts.iter().all(|doubt| doubt.what != "services.web.queue"), "web never waits: {doubts:?}");
    }
}
