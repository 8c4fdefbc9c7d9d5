//! A model becomes a file: readable, diffable, always the same text for the same model.
//!
//! You are here: `models::format::encode`. The mirror image of `decode`; `yaml` does the writing.
//! Always true: what has its default value is left out, call sites and what was learned never are.

mod edges;
mod services;

use crate::dist::{Dist, Work};
use crate::fidelity::Backcast;
use crate::format::VERSION;
use crate::format::cursor::SOURCES;
use crate::format::decode::steps::{CallDefaults, FILL, PLAIN, PUBLISH_ON_FAILURE, QUESTION};
use crate::format::decode::words;
use crate::format::yaml::Yaml;
use crate::names::OperationNames;
use crate::param::{Limit, Param, Source};
use crate::system::*;
use crate::units::Nanos;

/// The model as a YAML file, which [`super::read_model`] reads back to an equal model.
pub fn write_model(model: &Model) -> String {
    text(model, model.learned.as_ref())
}

/// The same without what was learned and from where: what a run is a function of, so what tokens name models by. A finding that is
/// worded better, or a backcast, gives no model another name.
pub fn canonical_text(model: &Model) -> String {
    text(model, None)
}

fn text(model: &Model, learned: Option<&Learned>) -> String {
    let writer = Writer { names: OperationNames::of(model) };
    let mut root = Entries::default();
    root.add("version", Yaml::bare(VERSION));
    root.add_some("learned", learned.map(self::learned));
    root.add_map("workload", &model.workload, |entry| writer.entry(entry));
    root.add_map("services", &model.services, |service| writer.service(service));
    root.add_map("edges", &model.edges, edges::edge);
    root.add_map("topics", &model.topics, |topic| writer.topic(topic));
    format!(
        "# A Foreshock model. Every number may be bare, which means declared and certain, or {{ value, source, range }};\n\
         # a range is a 90 % interval that worlds draw from.\n{}",
        root.block().render()
    )
}

/// A map under construction.
#[derive(Default)]
struct Entries(Vec<(String, Yaml)>);

impl Entries {
    fn add(&mut self, key: &str, value: Yaml) {
        self.0.push((key.into(), value));
    }

    fn add_some(&mut self, key: &str, value: Option<Yaml>) {
        self.0.extend(value.map(|value| (key.into(), value)));
    }

    /// Adds `value` unless it is what a reader assumes anyway.
    fn add_unless_default<T: PartialEq>(&mut self, key: &str, value: &T, default: &T, write: impl Fn(&T) -> Yaml) {
        if value != default {
            self.add(key, write(value));
        }
    }

    fn add_map<K: ToString, V>(&mut self, key: &str, map: &indexmap::IndexMap<K, V>, write: impl Fn(&V) -> Yaml) {
        if !map.is_empty() {
            self.add(key, Yaml::BlockMap(map.iter().map(|(name, value)| (name.to_string(), write(value))).collect()));
        }
    }

    fn block(self) -> Yaml {
        Yaml::BlockMap(self.0)
    }

    fn flow(self) -> Yaml {
        Yaml::FlowMap(self.0)
    }
}

/// The word of a file for a value of an enum.
fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> Yaml {
    let found = words.iter().find(|(_, v)| v == value);
    Yaml::bare(found.expect("every value that a model can hold has a word").0)
}

/// A number, bare if it is declared and certain.
fn param<T>(param: &Param<T>, write: impl Fn(&T) -> Yaml) -> Yaml {
    if param.source == Source::Declared && param.range.is_none() {
        return write(&param.value);
    }
    let mut entries = Entries::default();
    entries.add("value", write(&param.value));
    entries.add_unless_default("source", &param.source, &Source::Declared, |source| word(SOURCES, source));
    entries.add_some("range", param.range.as_ref().map(|range| Yaml::Flow(range.iter().map(write).collect())));
    entries.flow()
}

fn number(value: &Param<f64>) -> Yaml {
    param(value, |x| Yaml::bare(x))
}

fn count(value: &Param<u32>) -> Yaml {
    param(value, |n| Yaml::bare(n))
}

fn time(value: &Param<Nanos>) -> Yaml {
    param(value, |t| Yaml::bare(t))
}

fn limit(value: &Param<Limit>, no_bound: &str) -> Yaml {
    param(value, |limit| match limit {
        Limit::Of(n) => Yaml::bare(n),
        Limit::Unlimited => Yaml::bare(no_bound),
    })
}

fn rate(value: &Param<f64>) -> Yaml {
    param(value, |per_s| Yaml::bare(format!("{per_s}/s")))
}

fn learned(learned: &Learned) -> Yaml {
    let mut entries = Entries::default();
    entries.add("traces", Yaml::bare(learned.traces));
    entries.add("spans", Yaml::bare(learned.spans));
    entries.add("seconds", Yaml::bare(learned.seconds));
    entries.add_unless_default("notes", &learned.notes, &Vec::new(), |notes| Yaml::Block(notes.iter().map(Yaml::text).collect()));
    entries.add_some("backcast", learned.backcast.as_ref().map(backcast));
    entries.block()
}

fn backcast(backcast: &Backcast) -> Yaml {
    let mut entries = Entries::default();
    entries.add("learned_s", Yaml::bare(backcast.learned_s));
    entries.add("foretold_s", Yaml::bare(backcast.foretold_s));
    entries.add("runs", Yaml::bare(backcast.runs));
    entries.add_map("boundaries", &backcast.boundaries, |boundary| {
        let pair = |pair: [f64; 2]| Yaml::Flow(pair.iter().map(Yaml::bare).collect());
        let mut entries = Entries::default();
        entries.add("score", Yaml::bare(boundary.score));
        entries.add("attempts", Yaml::bare(boundary.attempts));
        entries.add("per_s", pair(boundary.per_s));
        entries.add("error_rate", pair(boundary.error_rate));
        entries.add("p50_ms", pair(boundary.p50_ms));
        entries.add("p99_ms", pair(boundary.p99_ms));
        entries.flow()
    });
    entries.block()
}

fn observed(observed: &Observed) -> Yaml {
    let mut entries = Entries::default();
    entries.add("calls", Yaml::bare(observed.calls));
    entries.add("per_s", Yaml::bare(observed.per_s));
    entries.add("error_rate", Yaml::bare(observed.error_rate));
    entries.add("mean_ms", Yaml::bare(observed.mean_ms));
    entries.add("p50_ms", Yaml::bare(observed.p50_ms));
    entries.add("p99_ms", Yaml::bare(observed.p99_ms));
    entries.flow()
}

/// The open loop of an entry.
fn open(entry: &Entry) -> Yaml {
    let mut entries = Entries::default();
    entries.add("rate", rate(&entry.rate));
    entries.add_some(
        "curve",
        entry.curve.as_ref().map(|curve| {
            let mut entries = Entries::default();
            let steps = curve.steps.iter().map(|(from, factor)| (from.to_string(), Yaml::bare(factor)));
            entries.add("steps", Yaml::FlowMap(steps.collect()));
            entries.add_some("repeat", curve.repeat.map(Yaml::bare));
            entries.flow()
        }),
    );
    entries.add_some(
        "bursts",
        entry.bursts.as_ref().map(|bursts| {
            let mut entries = Entries::default();
            entries.add("every", time(&bursts.every));
            entries.add("lasting", time(&bursts.lasting));
            entries.add("factor", number(&bursts.factor));
            entries.flow()
        }),
    );
    entries.flow()
}

/// Service time, provenance and the range of the factor on it.
fn work(work: &Work) -> Yaml {
    let mut entries = dist(&work.dist);
    entries.add_unless_default("source", &work.source, &Source::Declared, |source| word(SOURCES, source));
    entries.add_some("range", work.scale_range.map(|range| Yaml::Flow(range.iter().map(Yaml::bare).collect())));
    // A long table is a block of its own, so that a changed quantile is a changed line or two.
    if matches!(work.dist, Dist::Quantiles(_)) { entries.block() } else { entries.flow() }
}

/// A distribution of durations alone, for files other than a model's.
pub fn write_dist(distribution: &Dist) -> Yaml {
    dist(distribution).flow()
}

fn dist(dist: &Dist) -> Entries {
    let mut entries = Entries::default();
    match dist {
        Dist::Constant(t) => entries.add("constant", Yaml::bare(t)),
        Dist::Exponential(mean) => entries.add("exponential", Yaml::bare(mean)),
        Dist::Lognormal { p50, p99 } => {
            let ends = vec![("p50".into(), Yaml::bare(p50)), ("p99".into(), Yaml::bare(p99))];
            entries.add("lognormal", Yaml::FlowMap(ends));
        }
        Dist::Quantiles(table) => {
            let table = table.iter().map(|(probability, t)| (percent(*probability), Yaml::bare(t)));
            entries.add("quantiles", Yaml::FlowMap(table.collect()));
        }
    }
    entries
}

/// A probability in per cent: its shortest decimal form with the point moved in the text, so that it reads back bit for bit.
pub fn percent(probability: f64) -> String {
    let text = probability.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = format!("{fraction:0<2}");
    let whole = format!("{whole}{}", &fraction[..2]);
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    if fraction.len() > 2 { format!("{whole}.{}", &fraction[2..]) } else { whole.into() }
}

/// `3`, or `{ 1: 0.5, 2: 0.5 }`.
fn times(times: &[(u32, f64)]) -> Yaml {
    match times {
        [(n, 1.0)] => Yaml::bare(n),
        _ => Yaml::FlowMap(times.iter().map(|(n, probability)| (n.to_string(), Yaml::bare(probability))).collect()),
    }
}

/// `fail`, `degrade`, or the share.
fn on_failure(value: &Param<f64>) -> Yaml {
    match value {
        Param { value: 1.0, source: Source::Declared, range: None } => Yaml::bare("fail"),
        Param { value: 0.0, source: Source::Declared, range: None } => Yaml::bare("degrade"),
        _ => number(value),
    }
}

/// What needs the model's names: everything that holds a reference to an operation.
struct Writer {
    names: OperationNames,
}

impl Writer {
    /// `service.operation`, or its two parts where that text would be read as something else.
    fn operation_name(&self, name: &OpRef) -> Yaml {
        let text = name.to_string();
        if self.names.resolve(&text).as_ref() == Ok(name) {
            return Yaml::text(text);
        }
        let parts = [("service", &name.service), ("operation", &name.operation)];
        Yaml::FlowMap(parts.map(|(key, part)| (key.to_string(), Yaml::text(part))).to_vec())
    }

    fn entry(&self, entry: &Entry) -> Yaml {
        let mut entries = Entries::default();
        entries.add("to", self.operation_name(&entry.to));
        match &entry.closed {
            Some(closed) => {
                let mut loop_ = Entries::default();
                loop_.add("users", count(&closed.users));
                loop_.add("think", work(&closed.think));
                entries.add("closed", loop_.flow());
            }
            None => entries.add("open", open(entry)),
        }
        entries.add("site", Yaml::bare(entry.site));
        entries.block()
    }

    fn service(&self, service: &Service) -> Yaml {
        let default = Service::default();
        let mut entries = Entries::default();
        entries.add_unless_default("replicas", &service.replicas, &default.replicas, count);
        entries.add("workers", limit(&service.workers, "unlimited"));
        entries.add("queue", limit(&service.queue, "unbounded"));
        entries.add_unless_default("discipline", &service.discipline, &default.discipline, |d| word(words::DISCIPLINE, d));
        entries.add("mode", word(words::MODE, &service.mode));
        entries.add_unless_default("balance", &service.balance, &default.balance, |balance| word(words::BALANCE, balance));
        let cancel = &service.cancel_on_disconnect;
        entries.add_unless_default("cancel_on_disconnect", cancel, &default.cancel_on_disconnect, |cancel| Yaml::bare(cancel));
        let shed = &service.shed_expired;
        entries.add_unless_default("shed_expired", shed, &default.shed_expired, |shed| Yaml::bare(shed));
        services::protections(&mut entries, service);
        entries.add_some("cache", service.cache.as_ref().map(services::cache));
        entries.add_some("observed", service.observed.as_ref().map(observed));
        entries.add_map("operations", &service.operations, |operation| self.operation(operation));
        entries.block()
    }

    fn operation(&self, operation: &Operation) -> Yaml {
        let mut entries = Entries::default();
        entries.add_some("error_rate", operation.error_rate.as_ref().map(number));
        entries.add_some("observed", operation.observed.as_ref().map(observed));
        let path = |path: &CallPath| {
            let mut entries = Entries::default();
            entries.add("weight", number(&path.weight));
            entries.add("steps", Yaml::Block(path.steps.iter().map(|step| self.step(step)).collect()));
            entries.block()
        };
        entries.add("paths", Yaml::Block(operation.paths.iter().map(path).collect()));
        entries.block()
    }

    fn step(&self, step: &Step) -> Yaml {
        let (kind, value) = match step {
            Step::Work(step) => ("work", work(step)),
            Step::Call(call) => ("call", self.call(call, PLAIN)),
            Step::Parallel { wait, branches } => {
                let mut entries = Entries::default();
                entries.add_unless_default("wait", wait, &Wait::All, |wait| match wait {
                    Wait::All => Yaml::bare("all"),
                    Wait::First => Yaml::bare("first"),
                    Wait::Quorum(n) => Yaml::FlowMap(vec![("quorum".into(), Yaml::bare(n))]),
                });
                entries.add("branches", Yaml::Block(branches.iter().map(|branch| self.step(branch)).collect()));
                ("parallel", entries.block())
            }
            Step::Lookup(lookup) => {
                let mut entries = Entries::default();
                entries.add("cache", self.call(&lookup.cache, QUESTION));
                entries.add("origin", self.call(&lookup.origin, PLAIN));
                entries.add_some("fill", lookup.fill.as_ref().map(|fill| self.call(fill, FILL)));
                entries.add_unless_default("single_flight", &lookup.single_flight, &false, |single| Yaml::bare(single));
                ("lookup", entries.block())
            }
            Step::Publish(publish) => {
                let mut entries = Entries::default();
                entries.add("to", Yaml::text(&publish.to));
                entries.add("site", Yaml::bare(publish.site));
                entries.add_unless_default("times", &publish.times, &vec![(1, 1.0)], |list| times(list));
                let default = Param::declared(PUBLISH_ON_FAILURE);
                entries.add_unless_default("on_failure", &publish.on_failure, &default, on_failure);
                ("publish", entries.flow())
            }
        };
        Yaml::BlockMap(vec![(kind.into(), value)])
    }

    fn call(&self, call: &Call, defaults: CallDefaults) -> Yaml {
        let mut entries = Entries::default();
        entries.add("to", self.operation_name(&call.to));
        entries.add("site", Yaml::bare(call.site));
        entries.add_unless_default("times", &call.times, &vec![(1, 1.0)], |list| times(list));
        entries.add_unless_default("on_failure", &call.on_failure, &Param::declared(defaults.on_failure), on_failure);
        entries.add_unless_default("wait", &call.wait, &defaults.wait, |wait| Yaml::bare(wait));
        entries.add_some("fallback", call.fallback.as_ref().map(|fallback| self.call(fallback, PLAIN)));
        entries.flow()
    }

    fn topic(&self, topic: &Topic) -> Yaml {
        let mut entries = Entries::default();
        entries.add("consumer", self.operation_name(&topic.consumer));
        entries.add("site", Yaml::bare(topic.site));
        let default = Topic::to(OpRef::new("", ""), topic.concurrency, 0);
        entries.add("concurrency", count(&topic.concurrency));
        entries.add_unless_default("partitions", &topic.partitions, &default.partitions, count);
        entries.add_unless_default("keys", &topic.keys, &default.keys, |keys| {
            let mut entries = Entries::default();
            entries.add("count", count(&keys.count));
            entries.add("zipf", number(&keys.zipf));
            entries.flow()
        });
        entries.add_unless_default("order", &topic.order, &default.order, |order| word(words::ORDER, order));
        entries.add("capacity", limit(&topic.capacity, "unbounded"));
        entries.add_unless_default("full", &topic.full, &default.full, |full| word(words::FULL, full));
        let sensitive = &topic.order_sensitive;
        entries.add_unless_default("order_sensitive", sensitive, &default.order_sensitive, |sensitive| Yaml::bare(sensitive));
        entries.add_unless_default("idempotent", &topic.idempotent, &default.idempotent, |idempotent| Yaml::bare(idempotent));
        entries.add("redelivery_delay", time(&topic.redelivery_delay));
        entries.add("max_deliveries", count(&topic.max_deliveries));
        entries.add_some("accept", topic.accept.as_ref().map(work));
        entries.add_some("observed", topic.observed.as_ref().map(observed));
        entries.block()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_lose_nothing() {
        for (probability, text) in
            [(0.0, "0"), (1.0, "100"), (0.5, "50"), (0.999, "99.9"), (0.001, "0.1"), (0.07, "7"), (1e-7, "0.00001")]
        {
            assert_eq!(percent(probability), text);
        }
        for n in 0..=10_000 {
            let probability = f64::from(n) / 10_000.0 * 0.999_999_9;
            assert_eq!(format!("{}e-2", percent(probability)).parse(), Ok(probability));
        }
    }
}
