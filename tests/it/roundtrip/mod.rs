//! Known models, simulated, their spans exported, and learned back: what the learner says must be what was simulated.
//!
//! Each system shows one thing, or a few that must not be taken for each other. Numbers are held against the truth with the sampling
//! error that their sample size allows (2.6 standard errors, or twice the width of a 90 % interval); structure must be exact.
//! `systems`: who calls whom, work, load. `clients`: retries, timeouts, hedging, breakers. `limits`: what clients and users hold back.
//! `ranges`: whether ranges hold the truth as often as they say.

mod clients;
mod limits;
mod ranges;
mod systems;

use std::collections::{BTreeMap, BTreeSet};

use models::dist::Dist;
use models::format::read_model;
use models::learn::{LearnOptions, Lesson, learn};
use models::param::{Limit, Param};
use models::system::{Call, CallPath, EdgeName, Model, OpRef, Step};
use models::trace::{ReadOptions, Reader};
use models::units::Nanos;
use scenarios::scenario::Scenario;
use sim::{Prepared, Program, RunOptions, SpanOptions};

/// A model there and back.
struct Trip {
    truth: Model,
    lesson: Lesson,
}

fn spans_of(model: &Model, seed: u64, seconds: u64, spans: &SpanOptions) -> Vec<u8> {
    let program = Program::compile(model, 0).expect("it compiles");
    let options = RunOptions { seed, horizon: Nanos::from_secs(seconds), ..RunOptions::default() };
    let run = Prepared::new(&program, &Scenario::default(), &options).expect("nothing happens to it").trace(spans).run();
    let mut bytes = Vec::new();
    run.spans(model, spans).expect("it was traced").write_otlp(&mut bytes).expect("memory takes it");
    bytes
}

fn learned(bytes: &[u8], options: &LearnOptions) -> Lesson {
    let mut reader = Reader::new(ReadOptions::default());
    reader.read("spans.jsonl", bytes).unwrap_or_else(|errors| panic!("{errors}"));
    let traces = reader.finish();
    assert_eq!(traces.files[0].skipped, 0, "our own spans are read without a word");
    let lesson = learn(&traces, options).unwrap_or_else(|errors| panic!("{errors}"));
    models::check::check(&lesson.model).unwrap_or_else(|errors| panic!("{errors}"));
    lesson
}

fn truth(yaml: &str) -> Model {
    read_model("truth.yaml", yaml.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn trip_with(yaml: &str, seed: u64, seconds: u64, spans: &SpanOptions, options: &LearnOptions) -> Trip {
    let truth = truth(yaml);
    let lesson = learned(&spans_of(&truth, seed, seconds, spans), options);
    Trip { truth, lesson }
}

fn trip(yaml: &str, seconds: u64) -> Trip {
    trip_with(yaml, 1, seconds, &SpanOptions::default(), &LearnOptions::default())
}

/// What a step calls; spans name a consumer's operation after its topic.
fn word(step: &Step) -> Option<String> {
    let times = |times: &[(u32, f64)]| if times == [(1, 1.0)] { "" } else { "*" };
    let call = |call: &Call| {
        let wait = if call.wait { "" } else { "~" };
        format!("{wait}{}{}", call.to, times(&call.times))
    };
    Some(match step {
        Step::Work(_) => return None,
        Step::Call(c) => call(c),
        Step::Parallel { branches, .. } => {
            let mut words: Vec<String> = branches.iter().filter_map(word).collect();
            words.sort();
            format!("({})", words.join(" | "))
        }
        Step::Lookup(l) => {
            let fill = l.fill.as_ref().map_or_else(String::new, |fill| format!(", {}", fill.to));
            format!("[{}, else {}{fill}]", l.cache.to, l.origin.to)
        }
        Step::Publish(p) => format!("publish {}{}", p.to, times(&p.times)),
    })
}

fn words(path: &CallPath) -> String {
    path.steps.iter().filter_map(word).collect::<Vec<_>>().join(", ")
}

impl Trip {
    fn model(&self) -> &Model {
        &self.lesson.model
    }

    /// What an operation is called in spans.
    fn spoken(&self, op: &OpRef) -> OpRef {
        let consumed = self.truth.topics.iter().find(|(_, topic)| topic.consumer == *op);
        consumed.map_or_else(|| op.clone(), |(topic, _)| OpRef::new(&op.service, format!("process {topic}")))
    }

    /// Holds services, topics, edges, operations and the calls of every path against the truth, and the weights within their intervals.
    fn structure(&self) -> &Trip {
        let (truth, model) = (&self.truth, self.model());
        let names = |model: &Model| {
            let names: BTreeSet<String> = model.services.keys().chain(model.topics.keys()).cloned().collect();
            let entry = |name: &str| model.workload.contains_key(name);
            // A topic's delivery and a publish are edges whether or not they have a policy.
            let edges: BTreeSet<String> =
                called(model).into_iter().filter(|edge| !entry(&edge.from)).map(|e| e.to_string()).collect();
            (names, edges)
        };
        assert_eq!(names(truth), names(model), "services, topics and edges");
        for (service, known) in &truth.services {
            for (name, operation) in &known.operations {
                let op = self.spoken(&OpRef::new(service, name));
                let found = &model.services[service].operations.get(&op.operation).unwrap_or_else(|| panic!("{op} is not there"));
                let shapes = |paths: &[CallPath]| -> BTreeMap<String, (f64, f64)> {
                    let total: f64 = paths.iter().map(|path| path.weight.value).sum();
                    let mut shapes = BTreeMap::new();
                    for path in paths {
                        let half = path.weight.range.map_or(0.0, |[low, high]| (high - low) / 2.0);
                        let (weight, width) = shapes.entry(words(path)).or_insert((0.0, 0.0));
                        (*weight, *width) = (*weight + path.weight.value / total, *width + half / total);
                    }
                    shapes
                };
                let (known, found) = (shapes(&operation.paths), shapes(&found.paths));
                assert_eq!(known.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>(), "the paths of {op}");
                for (shape, (weight, half)) in &found {
                    let off = (known[shape].0 - weight).abs();
                    assert!(off <= 2.0 * half + 1e-9, "{op}, {shape}: {weight} +- {half}, in truth {}", known[shape].0);
                }
            }
        }
        self
    }

    /// Holds the quantiles of every first step of work against the truth: within 3 %, and what chance allows for so many requests.
    fn service_times(&self) -> &Trip {
        let mut held = 0;
        for (service, known) in &self.truth.services {
            for (name, operation) in &known.operations {
                let op = self.spoken(&OpRef::new(service, name));
                let found = &self.model().services[service].operations[&op.operation];
                for path in &operation.paths {
                    let shape = words(path);
                    let same = found.paths.iter().find(|other| words(other) == shape).expect("structure is exact");
                    let share = same.weight.value;
                    let n = found.observed.as_ref().map_or(0, |observed| observed.calls) as f64 * share;
                    let works = |path: &CallPath| -> Vec<Dist> {
                        path.steps
                            .iter()
                            .filter_map(|s| if let Step::Work(w) = s { Some(w.dist.clone()) } else { None })
                            .collect()
                    };
                    let (known, found) = (works(path), works(same));
                    assert_eq!(known.len(), found.len(), "{op}, {shape}: work is where it was");
                    for (known, found) in known.iter().zip(&found) {
                        for q in [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99] {
                            let (truth, learned) = (at(known, q), at(found, q));
                            let chance = 2.6 * libm::sqrt(q * (1.0 - q) / n) * slope(known, q);
                            assert!(
                                (learned - truth).abs() <= 0.03 * truth + chance,
                                "{op}, {shape}: the {q} quantile is {learned} ns, in truth {truth} (chance explains {chance})"
                            );
                            held += 1;
                        }
                    }
                }
            }
        }
        assert!(held > 0, "there is work");
        self
    }
}

/// Every edge that steps and topics make.
fn called(model: &Model) -> BTreeSet<EdgeName> {
    fn visit(from: &str, steps: &[Step], edges: &mut BTreeSet<EdgeName>) {
        for step in steps {
            match step {
                Step::Work(_) => {}
                Step::Call(call) => drop(edges.insert(EdgeName::new(from, &call.to.service))),
                Step::Parallel { branches, .. } => visit(from, branches, edges),
                Step::Lookup(lookup) => edges.extend(
                    [Some(&lookup.cache), Some(&lookup.origin), lookup.fill.as_ref()]
                        .into_iter()
                        .flatten()
                        .map(|call| EdgeName::new(from, &call.to.service)),
                ),
                Step::Publish(publish) => drop(edges.insert(EdgeName::new(from, &publish.to))),
            }
        }
    }
    let mut edges: BTreeSet<EdgeName> =
        model.topics.iter().map(|(name, topic)| EdgeName::new(name, &topic.consumer.service)).collect();
    for (name, service) in &model.services {
        service.operations.values().flat_map(|op| &op.paths).for_each(|path| visit(name, &path.steps, &mut edges));
    }
    edges
}

/// z of the standard normal distribution (Acklam's rational approximation would do; bisection of `erfc` is shorter).
fn normal(q: f64) -> f64 {
    let (mut low, mut high) = (-9.0, 9.0);
    for _ in 0..80 {
        let middle = (low + high) / 2.0;
        let below = 0.5 * libm::erfc(-middle / std::f64::consts::SQRT_2);
        if below < q { low = middle } else { high = middle }
    }
    low
}

/// A quantile, in nanoseconds.
fn at(dist: &Dist, q: f64) -> f64 {
    let ns = |time: &Nanos| time.as_nanos() as f64;
    match dist {
        Dist::Constant(time) => ns(time),
        Dist::Exponential(mean) => -ns(mean) * libm::log(1.0 - q),
        Dist::Lognormal { p50, p99 } => ns(p50) * libm::pow(ns(p99) / ns(p50), normal(q) / normal(0.99)),
        Dist::Quantiles(points) => {
            let above = points.iter().position(|(p, _)| *p >= q).unwrap_or(points.len() - 1).max(1);
            let ((p0, t0), (p1, t1)) = (&points[above - 1], &points[above]);
            ns(t0) + (ns(t1) - ns(t0)) * (q - p0) / (p1 - p0).max(1e-12)
        }
    }
}

/// How steep the quantile function is.
fn slope(dist: &Dist, q: f64) -> f64 {
    let step = (1.0 - q).min(q) / 50.0;
    (at(dist, q + step) - at(dist, q - step)) / (2.0 * step)
}

/// Whether a 90 % interval holds the truth.
fn holds(param: &Param<f64>, truth: f64) -> bool {
    let [low, high] = param.range.unwrap_or([param.value; 2]);
    (low..=high).contains(&truth)
}

/// Whether twice the interval does: one seed may be one of the ten in a hundred. How often 90 % hold is a test of its own.
fn nearly_holds(param: &Param<f64>, truth: f64) -> bool {
    let [low, high] = param.range.unwrap_or([param.value; 2]);
    (2.0 * low - param.value..=2.0 * high - param.value).contains(&truth)
}

fn holds_time(param: &Param<Nanos>, truth: Nanos) -> bool {
    let [low, high] = param.range.unwrap_or([param.value; 2]);
    (low..=high).contains(&truth)
}

fn number(limit: Limit) -> u32 {
    match limit {
        Limit::Of(n) => n,
        Limit::Unlimited => u32::MAX,
    }
}
