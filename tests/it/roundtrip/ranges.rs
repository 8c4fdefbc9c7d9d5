//! Whether 90 % intervals hold the truth about nine times in ten.

use std::collections::BTreeMap;

use models::learn::LearnOptions;
use models::param::{Param, Source};
use models::system::{EdgeName, Jitter, Step};
use models::units::Nanos;
use sim::SpanOptions;

use super::{holds, number, trip_with, words};

/// A small system with a bit of everything, whose every number is learned from 30 s of traffic.
const SMALL: &str = "
version: 1
workload: { users: { to: web.get, open: { rate: 40/s } } }
services:
  web: { workers: 64, queue: 64, operations: { get: { error_rate: 0.03, paths: [
    { weight: 0.7, steps: [ { work: { exponential: 5ms } }, { call: { to: a.x, on_failure: 0.4 } } ] },
    { weight: 0.3, steps: [ { work: { exponential: 5ms } }, { call: { to: b.x } } ] } ] } } }
  a: { workers: 64, queue: 64, operations: { x: { error_rate: 0.3, paths: [ { weight: 1, steps: [ { work: { exponential: 8ms } } ] } ] } } }
  b: { workers: 2, queue: 64, operations: { x: { error_rate: 0.2, paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 60ms, p99: 250ms } } } ] } ] } } }
edges:
  web->a: { latency: 300us, retry: { attempts: 2, backoff: 20ms, jitter: full } }
  web->b: { latency: 300us, timeout: 300ms, retry: { attempts: 3, backoff: 30ms, jitter: equal } }
";

#[test]
fn ranges_of_nine_in_ten_hold_the_truth_about_nine_times_in_ten() {
    const SEEDS: u64 = 100;
    let mut held: BTreeMap<&str, [u32; 2]> = BTreeMap::new();
    let mut note = |what: &'static str, held_it: Option<bool>| {
        let [hits, n] = held.entry(what).or_default();
        if let Some(hit) = held_it {
            (*hits, *n) = (*hits + u32::from(hit), *n + 1);
        }
    };
    for seed in 1..=SEEDS {
        let trip = trip_with(SMALL, seed, 30, &SpanOptions::default(), &LearnOptions::default());
        let model = trip.model();
        note("rate", Some(holds(&model.workload["users"].rate, 40.0)));
        let get = &model.services["web"].operations["get"];
        for path in &get.paths {
            let truth = if words(path).starts_with("a.x") { 0.7 } else { 0.3 };
            note("weight", Some(holds(&path.weight, truth)));
        }
        note("error rate of web", get.error_rate.map(|error| holds(&error, 0.03)));
        note("error rate of a", model.services["a"].operations["x"].error_rate.map(|error| holds(&error, 0.3)));
        note("error rate of b", model.services["b"].operations["x"].error_rate.map(|error| holds(&error, 0.2)));
        let failure = get.paths.iter().flat_map(|path| &path.steps).find_map(|step| match step {
            Step::Call(call) if call.to.service == "a" => Some(call.on_failure),
            _ => None,
        });
        note("on failure", failure.filter(|p| p.source == Source::Inferred).map(|p| holds(&p, 0.4)));
        let edge = |to: &str| &model.edges[&EdgeName::new("web", to)];
        let backoff = |to: &str| edge(to).retry.as_ref().map(|retry| retry.backoff);
        let slack = |p: Param<Nanos>, truth: u64| {
            let [low, high] = p.range.expect("inferred");
            low.as_nanos() <= truth + 10 && truth <= high.as_nanos() + 10
        };
        note("full backoff", backoff("a").map(|p| slack(p, 20_000_000)));
        note(
            "equal backoff",
            edge("b").retry.as_ref().filter(|r| r.jitter == Jitter::Equal).map(|r| slack(r.backoff, 30_000_000)),
        );
        note("factor", edge("b").retry.as_ref().filter(|r| r.factor.source == Source::Inferred).map(|r| holds(&r.factor, 2.0)));
        note("timeout", edge("b").timeout.map(|p| slack(p, 300_000_000)));
        let workers = model.services["b"].workers;
        let [low, high] = workers.range.expect("no one is sure").map(number);
        note("workers", Some((low..=high).contains(&2)));
        for (service, mean) in [("web", 5e6), ("a", 8e6)] {
            let path = &model.services[service].operations.values().next().expect("it has one").paths[0];
            let Some(Step::Work(work)) = path.steps.first() else { continue };
            let Some([low, high]) = work.scale_range else { continue };
            let found = work.dist.mean().as_nanos() as f64;
            note("service time", Some(found * low <= mean && mean <= found * high));
        }
    }
    let mut wrong = Vec::new();
    for (what, [hits, n]) in &held {
        let share = f64::from(*hits) / f64::from((*n).max(1));
        eprintln!("{what}: {hits} of {n} ({:.0} %)", share * 100.0);
        // Three standard deviations of chance around nine in ten; being too careful is no lie.
        let chance = 3.0 * libm::sqrt(0.09 / f64::from((*n).max(1)));
        if *n < 20 || share < 0.9 - chance {
            wrong.push(format!("{what}: {hits} of {n}"));
        }
    }
    assert!(wrong.is_empty(), "ranges that hold the truth too seldom: {wrong:?}");
}
