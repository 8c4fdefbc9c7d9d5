//! The format as a whole: what is written reads back, validates against the schema, and nothing read makes it panic.

use proptest::prelude::*;
use serde_json::Value as Json;

use super::doc::{self, Node, Value};
use super::*;
use crate::dist::{Dist, Work};
use crate::fidelity::{Backcast, BoundaryScore};
use crate::param::{Limit, Param, ParamMut, Source};
use crate::rng::KeyStream;
use crate::system::*;
use crate::units::Nanos;

/// Models that make sense, of everything the vocabulary has: each a pure function of a seed.
struct Inventor(KeyStream);

/// Names that YAML, JSON pointers or the dots of `service.operation` could trip over.
const NAMES: &[&str] = &[
    "web",
    "front.end",
    "front",
    "end.GET /x/{id}",
    "yes",
    "3",
    "a: b",
    "# c",
    "ünï \u{1f600}",
    "x~1/y",
    "null",
    "[z",
    "-",
    "call",
];

impl Inventor {
    fn below(&mut self, n: u64) -> u64 {
        self.0.next_bits() % n
    }

    fn chance(&mut self) -> bool {
        self.below(2) == 0
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.chance().then(|| make(self))
    }

    fn unit(&mut self) -> f64 {
        (self.0.next_bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn positive_real(&mut self) -> f64 {
        let power = self.below(12) as f64 - 6.0;
        (self.unit() + 1e-3) * libm::pow(10.0, power)
    }

    /// Up to 2^46 ns, 19 hours, every power of two alike.
    fn nanos(&mut self) -> Nanos {
        let bits = self.below(46) + 1;
        Nanos::from_nanos(1 + self.0.next_bits() % (1 << bits))
    }

    fn source(&mut self) -> Source {
        [Source::Observed, Source::Inferred, Source::Declared, Source::Assumed][self.below(4) as usize]
    }

    /// A param of three values in order; the middle one is the value.
    fn param<T: Copy + PartialOrd>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Param<T> {
        let mut three = [make(self), make(self), make(self)];
        three.sort_by(|a, b| a.partial_cmp(b).expect("no NaN is made"));
        let source = self.source();
        Param { value: three[1], source, range: self.maybe(|_| [three[0], three[2]]) }
    }

    fn share(&mut self) -> Param<f64> {
        self.param(Self::unit)
    }

    fn real(&mut self) -> Param<f64> {
        self.param(Self::positive_real)
    }

    fn count(&mut self, most: u64) -> Param<u32> {
        self.param(|i| 1 + i.below(most) as u32)
    }

    fn time(&mut self) -> Param<Nanos> {
        self.param(Self::nanos)
    }

    /// Params of which none can be above the next, wherever in their ranges they lie. Each lies within `step` of its own.
    fn rising<const N: usize>(&mut self, step: u64) -> [Param<u32>; N] {
        std::array::from_fn(|i| self.param(|inventor| (1 + step * i as u64 + inventor.below(step)) as u32))
    }

    fn period(&mut self) -> Param<Nanos> {
        self.param(|i| Nanos::from_millis(1) + i.nanos())
    }

    fn growth(&mut self) -> Param<f64> {
        self.param(|i| 1.0 + i.positive_real())
    }

    /// A share above 0.
    fn some_share(&mut self) -> Param<f64> {
        self.param(|i| (i.unit() + 1e-6).min(0.999_999))
    }

    fn limit(&mut self) -> Param<Limit> {
        self.param(|i| if i.below(4) == 0 { Limit::Unlimited } else { Limit::Of(1 + i.below(1000) as u32) })
    }

    fn work(&mut self) -> Work {
        let dist = match self.below(4) {
            0 => Dist::Constant(self.nanos()),
            1 => Dist::Exponential(self.nanos()),
            2 => {
                let (a, b) = (self.nanos(), self.nanos());
                Dist::Lognormal { p50: a.min(b), p99: a.max(b) }
            }
            _ => {
                let n = 2 + self.below(40);
                let mut shares: Vec<f64> = (2..n).map(|_| self.unit()).chain([0.0, 1.0]).collect();
                let mut times: Vec<Nanos> = (0..n).map(|_| self.nanos()).collect();
                shares.sort_by(f64::total_cmp);
                times.sort();
                Dist::Quantiles(shares.into_iter().zip(times).collect())
            }
        };
        let range = self.maybe(|i| i.positive_real()).map(|low| [low, low * 2.0]);
        Work { dist, source: self.source(), scale_range: range }
    }

    fn times(&mut self) -> Vec<(u32, f64)> {
        match self.below(3) {
            0 => vec![(1, 1.0)],
            1 => vec![(self.below(5) as u32, 1.0)],
            _ => vec![(0, 0.25), (1, 0.5), (7, 0.25)],
        }
    }

    fn call(&mut self, to: &[OpRef], site: &mut u32) -> Call {
        *site += 1;
        Call {
            to: to[self.below(to.len() as u64) as usize].clone(),
            site: *site,
            times: self.times(),
            on_failure: match self.below(3) {
                0 => Param::declared(1.0),
                1 => Param::declared(0.0),
                _ => self.share(),
            },
            wait: self.chance(),
            fallback: if self.below(4) == 0 { Some(Box::new(self.call(to, site))) } else { None },
        }
    }

    fn branch(&mut self, to: &[OpRef], topics: &[String], site: &mut u32) -> Step {
        match self.below(3) {
            0 if !topics.is_empty() => {
                *site += 1;
                let to = topics[self.below(topics.len() as u64) as usize].clone();
                Step::Publish(Publish { to, site: *site, times: self.times(), on_failure: self.share() })
            }
            1 => {
                // The first operation is that of the service with the cache.
                let cache = Call { to: to[0].clone(), ..self.call(to, site) };
                let origin = self.call(to, site);
                Step::Lookup(Lookup { cache, origin, fill: self.maybe(|i| i.call(to, site)), single_flight: self.chance() })
            }
            _ => Step::Call(self.call(to, site)),
        }
    }

    fn step(&mut self, to: &[OpRef], topics: &[String], site: &mut u32) -> Step {
        match self.below(3) {
            _ if to.is_empty() => Step::Work(self.work()),
            0 => Step::Work(self.work()),
            1 => {
                let branches: Vec<Step> = (0..=self.below(3)).map(|_| self.branch(to, topics, site)).collect();
                let quorum = Wait::Quorum(1 + self.below(branches.len() as u64) as u32);
                Step::Parallel { wait: [Wait::All, Wait::First, quorum][self.below(3) as usize], branches }
            }
            _ => self.branch(to, topics, site),
        }
    }

    fn observed(&mut self) -> Observed {
        let calls = self.0.next_bits() >> 20;
        let [per_s, mean_ms, p50_ms, p99_ms] = std::array::from_fn(|_| self.positive_real());
        Observed { calls, per_s, error_rate: self.unit(), mean_ms, p50_ms, p99_ms }
    }

    fn backcast(&mut self) -> Backcast {
        let mut pair = || [self.positive_real(), self.positive_real()];
        let boundary = BoundaryScore {
            score: 0.75,
            attempts: 1 << 40,
            per_s: pair(),
            error_rate: [0.0, 0.125],
            p50_ms: pair(),
            p99_ms: pair(),
        };
        let boundaries = ["users", "a -> b", "a->b.c"].into_iter().map(|name| (name.to_owned(), boundary.clone())).collect();
        Backcast { learned_s: self.positive_real(), foretold_s: 40.5, runs: 10, boundaries }
    }

    fn edge(&mut self) -> Edge {
        let retry = self.maybe(|i| Retry {
            attempts: i.count(1000),
            backoff: i.time(),
            factor: i.real(),
            max: i.maybe(Self::time),
            jitter: [Jitter::None, Jitter::Full, Jitter::Equal, Jitter::Decorrelated][i.below(4) as usize],
            on: if i.chance() { vec![] } else { vec![Cause::Timeout, Cause::Error, Cause::Connection, Cause::Overload] },
            budget: i.maybe(|i| Budget { ratio: i.real(), min_per_s: i.real(), cap: i.real(), initial: i.maybe(Self::real) }),
        });
        let hedge = if retry.is_none() {
            self.maybe(|i| Hedge { after: i.time(), attempts: i.param(|i| 2 + i.below(9) as u32) })
        } else {
            None
        };
        let breaker = self.maybe(|i| Breaker {
            trips: match i.below(3) {
                0 => Trips::Consecutive(i.count(9)),
                by_time => Trips::Share {
                    window: if by_time == 1 {
                        BreakerWindow::Time(i.period())
                    } else {
                        BreakerWindow::Calls(Param::declared(100))
                    },
                    min_calls: i.count(100),
                    threshold: i.some_share(),
                },
            },
            open: i.time(),
            probes: i.count(9),
        });
        let observed = self.maybe(|i| ObservedEdge {
            calls: i.below(1 << 40),
            attempts: i.below(1 << 40),
            errors: i.below(1 << 20),
            timeouts: i.below(1 << 20),
            per_parent: i.positive_real(),
            asynchronous: i.chance(),
            p50_ms: i.positive_real(),
            p99_ms: i.positive_real(),
        });
        Edge {
            latency: self.maybe(Self::time),
            timeout: self.maybe(Self::time),
            deadline: self.maybe(Self::time),
            propagate_deadline: self.chance(),
            retry,
            hedge,
            max_in_flight: self.maybe(|i| i.count(99)),
            pool: self.maybe(|i| Pool { connections: i.count(99), waiting: i.limit() }),
            breaker,
            observed,
        }
    }

    /// A service without operations. `cache`: whether it is one whatever the draw.
    fn service(&mut self, cache: bool) -> Service {
        let autoscale = self.maybe(|i| {
            let [min, replicas, max] = i.rising(50);
            let [every, start_up, down_after] = [i.period(), i.time(), i.time()];
            (replicas, Autoscale { target: i.some_share(), min, max, every, start_up, down_after })
        });
        let bounded = self.param(|i| Limit::Of(1 + i.below(1000) as u32));
        Service {
            replicas: autoscale.as_ref().map_or_else(|| self.count(10), |(replicas, _)| *replicas),
            workers: if autoscale.is_some() { bounded } else { self.limit() },
            queue: self.limit(),
            discipline: [Discipline::Fifo, Discipline::Lifo][self.below(2) as usize],
            mode: [Mode::Blocking, Mode::Async][self.below(2) as usize],
            balance: [Balance::RoundRobin, Balance::Random, Balance::LeastOutstanding, Balance::TwoChoices]
                [self.below(4) as usize],
            cancel_on_disconnect: self.chance(),
            shed_expired: self.chance(),
            codel: self.maybe(|i| CoDel { target: i.time(), interval: i.time() }),
            adaptive_limit: self.maybe(|i| {
                let law = if i.chance() {
                    AdaptiveLaw::Aimd { latency: i.time(), backoff: i.some_share() }
                } else {
                    AdaptiveLaw::Gradient { tolerance: i.growth() }
                };
                let [min, initial, max] = i.rising(50);
                AdaptiveLimit { law, initial, min, max }
            }),
            contention: self.maybe(|i| {
                if i.chance() {
                    Contention::InProgress { add: i.time() }
                } else {
                    Contention::ArrivalRate { above: i.real(), factor: i.growth() }
                }
            }),
            autoscale: autoscale.map(|(_, autoscale)| autoscale),
            warm_up: self.maybe(|i| WarmUp { lasting: i.time(), factor: i.growth() }),
            health_check: self.maybe(|i| HealthCheck { down_after: i.time(), up_after: i.time() }),
            cache: (cache || self.chance()).then(|| Cache {
                capacity: self.count(9999),
                keys: self.count(9999),
                zipf: self.real(),
                ttl: self.maybe(Self::time),
            }),
            operations: Default::default(),
            observed: self.maybe(Self::observed),
        }
    }

    fn topic(&mut self, consumer: OpRef, site: u32) -> Topic {
        Topic {
            consumer,
            site,
            concurrency: self.count(99),
            partitions: self.count(99),
            keys: if self.chance() { MessageKeys::default() } else { MessageKeys { count: self.count(9999), zipf: self.real() } },
            order: [Order::None, Order::PerKey][self.below(2) as usize],
            capacity: self.limit(),
            full: [Full::Reject, Full::Block, Full::DropOldest][self.below(3) as usize],
            order_sensitive: self.chance(),
            idempotent: self.chance(),
            redelivery_delay: self.time(),
            max_deliveries: self.count(9),
            accept: self.maybe(Self::work),
            observed: self.maybe(Self::observed),
        }
    }

    fn entry(&mut self, to: OpRef, site: u32) -> Entry {
        if self.chance() {
            // A second and more, so that no draw of users and think time comes to more than an engine takes.
            let think = Work { dist: Dist::Exponential(Nanos::from_secs(1) + self.nanos()), ..self.work() };
            let think = if think.scale_range.is_some() { Work { scale_range: Some([0.5, 2.0]), ..think } } else { think };
            return Entry::closed(to, ClosedLoop { users: self.count(1000), think }, site);
        }
        let curve = self.maybe(|i| {
            let mut from = Nanos::ZERO;
            let steps = (0..=i.below(5)).map(|n| {
                from += if n == 0 { Nanos::ZERO } else { i.nanos() };
                (from, i.unit())
            });
            let steps: Vec<_> = steps.collect();
            RateCurve { steps, repeat: i.maybe(|i| from + Nanos::from_millis(1) + i.nanos()) }
        });
        let bursts = self.maybe(|i| Bursts {
            every: i.param(|i| Nanos::from_secs(100) + i.nanos()),
            lasting: i.param(|i| Nanos::from_nanos(1 + i.nanos().as_nanos() % 99_000_000_000)),
            factor: i.param(|i| 3.0 * i.unit()),
        });
        Entry { curve, bursts, ..Entry::open(to, self.real(), site) }
    }

    fn model(&mut self) -> Model {
        let mut model = Model::default();
        let mut site = 0;
        let mut callable: Vec<OpRef> = Vec::new();
        let n = 1 + self.below(NAMES.len() as u64 - 4) as usize;
        for (i, name) in NAMES[..n].iter().enumerate() {
            // Services call only those before them, so no call can come round; the first one is a cache.
            let mut service = self.service(i == 0);
            for operation in NAMES.iter().skip(self.below(9) as usize).take(1 + self.below(3) as usize) {
                let topics: Vec<String> = model.topics.keys().cloned().collect();
                let paths = (0..=self.below(2)).map(|_| CallPath {
                    weight: self.real(),
                    steps: (0..self.below(5)).map(|_| self.step(&callable, &topics, &mut site)).collect(),
                });
                let paths = paths.collect();
                let (error_rate, observed) = (self.maybe(Self::share), self.maybe(Self::observed));
                service.operations.insert(operation.to_string(), Operation { error_rate, paths, observed });
            }
            let operations: Vec<_> = service.operations.keys().map(|operation| OpRef::new(*name, operation)).collect();
            if self.below(3) == 0 {
                site += 1;
                let topic = self.topic(operations[0].clone(), site);
                model.topics.insert(format!("topic {i}"), topic);
            }
            callable.extend(operations);
            model.services.insert(name.to_string(), service);
        }
        for (i, name) in ["users", "robots"].iter().enumerate().take(1 + self.below(2) as usize) {
            let entry = self.entry(callable[callable.len() - 1].clone(), site + 1 + i as u32);
            model.workload.insert(name.to_string(), entry);
        }
        for _ in 0..self.below(9) {
            let [from, to] = [0; 2].map(|_| callable[self.below(callable.len() as u64) as usize].service.clone());
            let edge = self.edge();
            model.edges.insert(EdgeName::new(from, to), edge);
        }
        if self.chance() {
            let notes = vec!["12 % of \"calls\": slow".to_owned(), "x\ny".repeat(100)];
            let backcast = self.chance().then(|| self.backcast());
            model.learned =
                Some(Learned { traces: self.below(1 << 50), spans: 3, seconds: self.positive_real(), notes, backcast });
        }
        model
    }
}

fn invented(seed: u64) -> Model {
    Inventor(KeyStream::new(seed, 0)).model()
}

/// The document as JSON, as a JSON Schema sees it.
fn json(node: &Node) -> Json {
    match &node.value {
        Value::List(items) => Json::Array(items.iter().map(json).collect()),
        Value::Map(entries) => Json::Object(entries.iter().map(|(key, node)| (key.text.clone(), json(node))).collect()),
        Value::Scalar { text, plain: true } => serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.clone())),
        Value::Scalar { text, .. } => Json::String(text.clone()),
    }
}

fn complaints(schema: &str, text: &str) -> Vec<String> {
    let schema = serde_json::from_str(schema).expect("the schema is JSON");
    let validator = jsonschema::draft202012::new(&schema).expect("the schema is a schema");
    let document = json(&doc::parse("m", text.as_bytes()).expect("it is YAML"));
    validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_back_as_the_same_model(seed: u64) {
        let model = invented(seed);
        let text = write_model(&model);
        let read = read_model("written.yaml", text.as_bytes()).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(&read, &model);
        prop_assert_eq!(write_model(&read), text);
    }

    #[test]
    fn what_is_written_is_valid_by_the_schema(seed: u64) {
        let text = write_model(&invented(seed));
        prop_assert_eq!(complaints(MODEL_SCHEMA, &text), Vec::<String>::new(), "{}", text);
    }

    #[test]
    fn no_change_of_a_file_makes_reading_panic(seed: u64, at: prop::sample::Index, with in "[ -~\n\t]{0,6}", cut in 0usize..40) {
        let mut text = write_model(&invented(seed)).into_bytes();
        let at = at.index(text.len());
        let end = (at + cut).min(text.len());
        text.splice(at..end, with.bytes());
        // Whatever can still be read is a model like any other.
        if let Ok(model) = read_model("changed.yaml", &text) {
            let written = write_model(&model);
            prop_assert_eq!(read_model("again.yaml", written.as_bytes()), Ok(model));
        }
        let _ = read_overlay("changed.yaml", &text).map(|overlay| overlay.apply(&mut invented(seed ^ 1)));
    }

    #[test]
    fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "[\\[\\]{}:,#&*!|>'\"?%@`a-c0-9 \n\t-]{0,200}") {
        let _ = read_model("junk", &bytes);
        let _ = read_model("junk", text.as_bytes());
        let _ = read_overlay("junk", format!("version: 1\nservices: {text}").as_bytes());
    }

    #[test]
    fn every_world_of_a_model_that_makes_sense_can_be_written_and_read(seed: u64, world in 1u32..50) {
        let world = invented(seed).world(world);
        let text = write_model(&world);
        prop_assert_eq!(read_model("world.yaml", text.as_bytes()), Ok(world));
    }
}

/// How many maps of the document hold `key`.
fn count_key(node: &Node, key: &str) -> usize {
    match &node.value {
        Value::List(items) => items.iter().map(|item| count_key(item, key)).sum(),
        Value::Map(entries) => entries.iter().map(|(k, node)| usize::from(k.text == key) + count_key(node, key)).sum(),
        Value::Scalar { .. } => 0,
    }
}

/// Whether two numbers share a path, and how many of all have a range.
fn visited(model: &Model) -> (Vec<String>, usize) {
    let (mut seen, mut twice, mut uncertain) = (std::collections::BTreeSet::new(), Vec::new(), 0);
    model.clone().visit_params(&mut |path, param| {
        uncertain += usize::from(match param {
            ParamMut::Share(p) | ParamMut::Real(p) => p.range.is_some(),
            ParamMut::Count(p) => p.range.is_some(),
            ParamMut::Limit(p) => p.range.is_some(),
            ParamMut::Time(p) => p.range.is_some(),
            ParamMut::Work(work) => work.scale_range.is_some(),
        });
        if !seen.insert(path.to_owned()) {
            twice.push(path.to_owned());
        }
    });
    (twice, uncertain)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_number_that_a_file_gives_a_range_is_drawn_by_worlds(seed: u64) {
        let model = invented(seed);
        let (twice, uncertain) = visited(&model);
        prop_assert_eq!(twice, Vec::<String>::new());
        let text = write_model(&model);
        prop_assert_eq!(uncertain, count_key(&doc::parse("m", text.as_bytes()).expect("it is YAML"), "range"), "{}", text);
    }
}

#[test]
fn invented_models_use_every_key_that_the_reader_knows() {
    let documents: Vec<Node> =
        (0..200).map(|seed| doc::parse("m", write_model(&invented(seed)).as_bytes()).expect("it is YAML")).collect();
    // The two parts of an operation's name are written apart only where the dots of names clash; `required` is written as the
    // `on_failure` of each call.
    let keys = SHAPES.iter().filter(|shape| shape.name != "operation_name").flat_map(|shape| shape.keys);
    for key in keys.filter(|key| **key != "required") {
        assert!(documents.iter().any(|document| count_key(document, key) > 0), "no model has {key}");
    }
}

/// Keys of the object that a definition of the schema describes.
fn schema_keys(definition: &Json) -> Vec<&str> {
    let object = definition["anyOf"].as_array().and_then(|any| any.iter().find(|one| one.get("properties").is_some()));
    let properties = object.unwrap_or(definition)["properties"].as_object();
    properties.map(|properties| properties.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[test]
fn the_schema_knows_the_keys_that_the_reader_knows() {
    let schema: Json = serde_json::from_str(MODEL_SCHEMA).expect("the schema is JSON");
    for shape in SHAPES {
        let definition = if shape.name.is_empty() { &schema } else { &schema["$defs"][shape.name] };
        let (mut ours, mut theirs) = (shape.keys.to_vec(), schema_keys(definition));
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs, "{}", shape.name);
    }
    let described: Vec<&str> = schema["$defs"]
        .as_object()
        .expect("definitions")
        .iter()
        .filter(|(_, definition)| !schema_keys(definition).is_empty())
        .map(|(name, _)| name.as_str())
        .collect();
    for name in described {
        assert!(SHAPES.iter().any(|shape| shape.name == name), "the reader has no shape {name}");
    }
}

#[test]
fn the_schema_knows_the_words_that_the_reader_knows() {
    let schema: Json = serde_json::from_str(MODEL_SCHEMA).expect("the schema is JSON");
    let defs = &schema["$defs"];
    let words = |list: Vec<&str>| serde_json::json!(list);
    let service = &defs["service"]["properties"];
    let retry = &defs["retry"]["properties"];
    assert_eq!(service["discipline"]["enum"], words(decode::words::DISCIPLINE.iter().map(|w| w.0).collect()));
    assert_eq!(service["mode"]["enum"], words(decode::words::MODE.iter().map(|w| w.0).collect()));
    assert_eq!(service["balance"]["enum"], words(decode::words::BALANCE.iter().map(|w| w.0).collect()));
    assert_eq!(retry["jitter"]["enum"], words(decode::words::JITTER.iter().map(|w| w.0).collect()));
    assert_eq!(retry["on"]["items"]["enum"], words(decode::words::CAUSE.iter().map(|w| w.0).collect()));
    let topic = &defs["topic"]["properties"];
    assert_eq!(topic["order"]["enum"], words(decode::words::ORDER.iter().map(|w| w.0).collect()));
    assert_eq!(topic["full"]["enum"], words(decode::words::FULL.iter().map(|w| w.0).collect()));
    assert_eq!(defs["source"]["enum"], words(cursor::SOURCES.iter().map(|w| w.0).collect()));
}

#[test]
fn what_was_learned_gives_a_model_no_other_name() {
    let yaml = b"version: 1\nworkload: { users: { to: a.op, open: { rate: 5/s } } }\nservices: { a: { operations: { op: { paths: [ { weight: 1, steps: [ { work: { constant: 1ms } } ] } ] } } } }\n";
    let by_hand = read_model("a.yaml", yaml).expect("it is read");
    assert_eq!(canonical_text(&by_hand), write_model(&by_hand), "models by hand keep the tokens that they have");
    let learned = |note: &str| {
        let learned = Learned { traces: 7, spans: 9, seconds: 1.5, notes: vec![note.to_owned()], backcast: None };
        Model { learned: Some(learned), ..by_hand.clone() }
    };
    assert_ne!(write_model(&learned("a")), write_model(&learned("b")));
    assert_eq!(canonical_text(&learned("a")), canonical_text(&by_hand));
    assert_eq!(
        canonical_text(&Model {
            learned: Some(Learned { backcast: Some(Backcast::default()), ..Learned::default() }),
            ..by_hand.clone()
        }),
        canonical_text(&by_hand)
    );
}
