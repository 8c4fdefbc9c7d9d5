//! Structure, service times, workers, queues and traffic, there and back.

use std::collections::BTreeSet;

use models::learn::{Curve, Finding, LearnOptions, learn};
use models::param::{Param, Source};
use models::system::{CallPath, EdgeName, Model, OpRef, Step};
use models::trace::{ReadOptions, Reader};
use models::units::Nanos;
use sim::SpanOptions;

use super::{Trip, at, holds_time, learned, nearly_holds, number, spans_of, trip, trip_with};

const CHAIN: &str = "
version: 1
workload: { users: { to: web.get, open: { rate: 100/s } } }
services:
  web: { workers: 64, queue: 64, operations: { get: { paths: [ { weight: 1, steps: [
    { work: { lognormal: { p50: 4ms, p99: 20ms } } }, { call: { to: auth.check } }, { call: { to: store.read } }, { work: { lognormal: { p50: 2ms, p99: 8ms } } } ] } ] } } }
  auth: { workers: 16, queue: 64, operations: { check: { paths: [ { weight: 1, steps: [ { work: { exponential: 3ms } } ] } ] } } }
  store: { replicas: 3, workers: 8, queue: 64, operations: { read: { error_rate: 0.02, paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 8ms, p99: 40ms } } } ] } ] } } }
edges: { web->auth: { latency: 500us }, web->store: { latency: 1ms } }
";

#[test]
fn a_chain_comes_back() {
    let trip = trip(CHAIN, 300);
    trip.structure().service_times();
    let model = trip.model();
    assert_eq!(model.services["store"].replicas.value, 3, "instance ids are counted");
    assert_eq!(model.edges[&EdgeName::new("web", "store")].latency.expect("both sides were seen").value, Nanos::from_millis(1));
    let error = model.services["store"].operations["read"].error_rate.expect("errors were seen");
    assert!(nearly_holds(&error, 0.02), "{error:?}");
    assert!(model.services["web"].operations["get"].error_rate.is_none(), "web fails only where store does");
    let users = &model.workload["users"].rate;
    assert!(nearly_holds(users, 100.0) && (users.value - 100.0).abs() < 2.0, "{users:?}");
    // No queue was ever seen: the ranges must hold the truth.
    for (name, workers) in [("web", 64), ("auth", 16), ("store", 8)] {
        let Param { source, range: Some([low, high]), .. } = model.services[name].workers else { panic!("no range") };
        assert_eq!(source, Source::Assumed, "{name}");
        assert!(number(low) <= workers && workers <= number(high), "{name}: {low:?} to {high:?}");
    }
}

const KINDS: &str = "
version: 1
workload: { users: { to: web.get, open: { rate: 100/s } } }
services:
  web: { workers: 64, queue: 64, operations: { get: { paths: [
    { weight: 0.5, steps: [ { work: { lognormal: { p50: 4ms, p99: 20ms } } }, { parallel: { branches: [ { call: { to: a.x } }, { call: { to: b.x } }, { call: { to: c.x } } ] } } ] },
    { weight: 0.3, steps: [ { work: { lognormal: { p50: 2ms, p99: 6ms } } }, { call: { to: a.row, times: { 1: 0.25, 4: 0.75 } } }, { call: { to: b.x } } ] },
    { weight: 0.15, steps: [ { work: { lognormal: { p50: 2ms, p99: 6ms } } }, { call: { to: b.x } } ] },
    { weight: 0.05, steps: [ { work: { constant: 3ms } } ] } ] } } }
  a: { workers: 32, queue: 64, operations: { x: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 8ms, p99: 30ms } } } ] } ] }, row: { paths: [ { weight: 1, steps: [ { work: { exponential: 3ms } } ] } ] } } }
  b: { workers: 32, queue: 64, operations: { x: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 5ms, p99: 20ms } } } ] } ] } } }
  c: { workers: 32, queue: 64, operations: { x: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 20ms, p99: 60ms } } } ] } ] } } }
edges: { web->a: { latency: 300us }, web->b: { latency: 300us }, web->c: { latency: 300us } }
";

#[test]
fn calls_side_by_side_repeated_and_optional_come_back() {
    let trip = trip(KINDS, 200);
    trip.structure().service_times();
    let paths = &trip.model().services["web"].operations["get"].paths;
    let repeated = paths.iter().flat_map(|path| &path.steps).find_map(|step| match step {
        Step::Call(call) if call.to == OpRef::new("a", "row") => Some(call.times.clone()),
        _ => None,
    });
    let [(1, once), (4, four)] = repeated.expect("it is called")[..] else { panic!("once or four times") };
    assert!((once - 0.25).abs() < 0.03 && (four - 0.75).abs() < 0.03, "{once} {four}");
}

const CACHE: &str = "
version: 1
workload: { users: { to: web.get, open: { rate: 80/s } } }
services:
  web: { workers: 64, queue: 64, operations: { get: { paths: [ { weight: 1, steps: [
    { work: { lognormal: { p50: 4ms, p99: 20ms } } },
    { lookup: { cache: { to: cache.get }, origin: { to: db.read }, fill: { to: cache.set } } },
    { call: { to: audit.log, wait: false } } ] } ] } } }
  cache: { workers: 32, queue: 64, cache: { capacity: 300, keys: 1000, zipf: 1.0 }, operations: {
    get: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 800us, p99: 2ms } } } ] } ] },
    set: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 800us, p99: 2ms } } } ] } ] } } }
  db: { workers: 32, queue: 64, operations: { read: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 15ms, p99: 50ms } } } ] } ] } } }
  audit: { workers: 32, queue: 64, operations: { log: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 25ms, p99: 60ms } } } ] } ] } } }
edges: { web->cache: { latency: 300us }, web->db: { latency: 300us }, web->audit: { latency: 300us } }
";

#[test]
fn cache_hits_and_misses_and_calls_that_nobody_waits_for_come_back() {
    let trip = trip(CACHE, 200);
    trip.structure().service_times();
    // The hit ratio, and not the cache's size, is what traces tell: the learned cache must have the same one. (For a while only: at the
    // start of a run a cache holds the most popular keys, which is more than a least-recently-used list keeps.)
    let ratio = |model: &Model| {
        let bytes = spans_of(model, 7, 400, &SpanOptions::default());
        let lesson = learned(&bytes, &LearnOptions::default());
        let hits = lesson.findings.iter().find_map(|f| match f {
            Finding::CacheAside { asked, missed, .. } => Some(1.0 - *missed as f64 / *asked as f64),
            _ => None,
        });
        hits.expect("it asks a cache")
    };
    let (known, learned) = (ratio(&trip.truth), ratio(trip.model()));
    assert!((known - learned).abs() < 0.03, "hit ratio {learned}, in truth {known}");
}

const TOPIC: &str = "
version: 1
workload: { users: { to: web.buy, open: { rate: 60/s } } }
services:
  web: { workers: 64, queue: 64, operations: { buy: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 4ms, p99: 20ms } } }, { publish: { to: orders } } ] } ] } } }
  ship: { workers: 32, queue: 64, operations: { order: { error_rate: 0.1, paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 20ms, p99: 70ms } } }, { call: { to: mail.send } } ] } ] } } }
  mail: { workers: 16, queue: 64, operations: { send: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 10ms, p99: 30ms } } } ] } ] } } }
topics:
  orders: { consumer: ship.order, concurrency: 4, redelivery_delay: 300ms, max_deliveries: 3, accept: { constant: 1ms } }
edges: { ship->mail: { latency: 300us } }
";

fn check_topic(trip: &Trip) {
    trip.structure();
    let topic = &trip.model().topics["orders"];
    assert_eq!((topic.concurrency.value, topic.max_deliveries.value), (4, 3));
    assert!(holds_time(&topic.redelivery_delay, Nanos::from_millis(300)), "{:?}", topic.redelivery_delay);
    let error = trip.model().services["ship"].operations["process orders"].error_rate.expect("deliveries failed");
    assert!(nearly_holds(&error, 0.1), "{error:?}");
    let sync = trip.lesson.findings.iter().any(|f| matches!(f, Finding::SyncInAsync { callee, .. } if callee == "mail"));
    assert!(sync, "ship waits for mail while it holds a message");
}

#[test]
fn messages_come_back() {
    let trip = trip(TOPIC, 200);
    check_topic(&trip);
    trip.service_times();
}

#[test]
fn messages_come_back_where_consumers_only_link_to_them() {
    let spans = SpanOptions { linked_consumers: true, ..SpanOptions::default() };
    check_topic(&trip_with(TOPIC, 3, 200, &spans, &LearnOptions::default()));
}

const BUSY: &str = "
version: 1
workload: { users: { to: web.get, open: { rate: 150/s, bursts: { every: 10s, lasting: 1s, factor: 2.5 } } } }
services:
  web: { workers: 200, queue: 256, operations: { get: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 2ms, p99: 8ms } } }, { call: { to: db.read } } ] } ] } } }
  db: { replicas: 2, workers: 6, queue: 20, operations: { read: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 40ms, p99: 120ms } } } ] } ] } } }
edges: { web->db: { latency: 300us } }
";

#[test]
fn workers_and_queues_come_back_where_they_were_full() {
    let trip = trip(BUSY, 120);
    trip.structure().service_times();
    let db = &trip.model().services["db"];
    assert_eq!(db.replicas.value, 2);
    assert_eq!(db.workers.source, Source::Inferred);
    let workers = number(db.workers.value);
    assert!((5..=7).contains(&workers), "{:?}", db.workers);
    let Param { source: Source::Inferred, range: Some([low, high]), value } = db.queue else { panic!("{:?}", db.queue) };
    assert!(number(low) <= 20 && 20 <= number(high) && (18..=22).contains(&number(value)), "{:?}", db.queue);
    assert!(db.operations["read"].error_rate.is_none(), "refusals are the queue's doing: {:?}", db.operations["read"].error_rate);
    assert!(trip.lesson.findings.iter().any(|f| matches!(f, Finding::Refusals { service, holds: 26, .. } if service == "db")));
    assert!(trip.lesson.findings.iter().any(|f| matches!(f, Finding::Bursty { dispersion, .. } if *dispersion > 3.0)));
}

const ASYNC: &str = "
version: 1
workload: { users: { to: web.get, open: { rate: 60/s } } }
services:
  web: { mode: async, workers: 2, queue: 500, operations: { get: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 20ms, p99: 40ms } } }, { call: { to: far.fetch } } ] } ] } } }
  far: { workers: 64, queue: 64, operations: { fetch: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 120ms, p99: 300ms } } } ] } ] } } }
edges: { web->far: { latency: 400us } }
";

#[test]
fn services_that_do_not_hold_a_worker_while_they_wait_come_back() {
    let trip = trip(ASYNC, 200);
    trip.structure();
    let web = &trip.model().services["web"];
    assert_eq!(web.mode, models::system::Mode::Async);
    assert_eq!(number(web.workers.value), 2, "{:?}", web.workers);
    trip.service_times();
}

const STEPS: &str = "
version: 1
workload: { users: { to: web.get, open: { rate: 40/s, curve: { steps: { 0s: 1, 60s: 2.5, 120s: 1.5 } } } } }
services:
  web: { workers: 64, queue: 64, operations: { get: { paths: [ { weight: 1, steps: [ { work: { exponential: 5ms } } ] } ] } } }
";

#[test]
fn the_course_of_the_traffic_comes_back_if_it_is_asked_for() {
    let options = LearnOptions { curve: Curve::Steps, ..LearnOptions::default() };
    let trip = trip_with(STEPS, 1, 200, &SpanOptions::default(), &options);
    let users = &trip.model().workload["users"];
    let steps = &users.curve.as_ref().expect("the rate changes").steps;
    assert_eq!(steps.len(), 3, "{steps:?}");
    for ((at, factor), (known_at, known)) in steps.iter().zip([(0.0, 40.0), (60.0, 100.0), (120.0, 60.0)]) {
        let rate = users.rate.value * factor;
        assert!((at.as_secs_f64() - known_at).abs() <= 3.0 && (rate / known - 1.0).abs() < 0.06, "{rate} from {at}");
    }
    let steady = trip_with(STEPS, 1, 200, &SpanOptions::default(), &LearnOptions::default());
    assert!(steady.model().workload["users"].curve.is_none());
    let said = |f: &Finding| matches!(f, Finding::Unsteady { steps: 3, .. });
    assert!(steady.lesson.findings.iter().any(said), "{:?}", steady.lesson.findings);
}

#[test]
fn sampled_traces_give_the_same_shapes_and_rates() {
    let spans = SpanOptions { share: 0.2, ..SpanOptions::default() };
    let trip = trip_with(KINDS, 5, 200, &spans, &LearnOptions { sampling: Some(0.2), ..LearnOptions::default() });
    trip.structure().service_times();
    let users = &trip.model().workload["users"].rate;
    assert!((users.value / 100.0 - 1.0).abs() < 0.06 && nearly_holds(users, 100.0), "{users:?}");
}

#[test]
fn a_service_without_spans_comes_back_as_its_callers_see_it() {
    let spans = SpanOptions { silent: BTreeSet::from(["store".to_owned()]), ..SpanOptions::default() };
    let trip = trip_with(CHAIN, 1, 120, &spans, &LearnOptions::default());
    let store = &trip.model().services["store"];
    let Some(Step::Work(work)) = store.operations["read"].paths[0].steps.first() else { panic!("no work") };
    // 8 ms of work and 1 ms of network each way.
    assert!((at(&work.dist, 0.5) / 10e6 - 1.0).abs() < 0.05, "{:?}", work.dist);
    assert!(trip.lesson.findings.iter().any(|f| matches!(f, Finding::Uninstrumented { services } if services == &["store"])));
}

#[test]
fn the_demos_own_model_comes_back() {
    let mut reader = Reader::new(ReadOptions::default());
    for (name, bytes) in foreshock::demo::TRACES {
        reader.read(name, bytes).unwrap_or_else(|errors| panic!("{errors}"));
    }
    let known = models::format::read_overlay(foreshock::demo::KNOWN.0, foreshock::demo::KNOWN.1).expect("it is ours");
    let options =
        LearnOptions { known_workers: known.known_workers(), known_caches: known.known_caches(), ..LearnOptions::default() };
    let mut truth = learn(&reader.finish(), &options).expect("the demo has requests").model;
    known.apply(&mut truth);
    let bytes = spans_of(&truth, 1, 300, &SpanOptions::default());
    let trip = Trip { lesson: learned(&bytes, &options), truth };
    trip.structure();
    let (truth, model) = (&trip.truth, trip.model());
    for (name, known) in &truth.services {
        assert_eq!(model.services[name].replicas.value, known.replicas.value, "{name}");
        for (op, known) in &known.operations {
            let op = trip.spoken(&OpRef::new(name, op)).operation;
            let work = |paths: &[CallPath]| {
                paths[0].steps.iter().find_map(|s| if let Step::Work(w) = s { Some(w.dist.clone()) } else { None })
            };
            let found = &model.services[name].operations[&op];
            let n = found.observed.as_ref().map_or(f64::MAX, |seen| seen.calls as f64);
            let (Some(known), Some(found)) = (work(&known.paths), work(&found.paths)) else { continue };
            let chance = 2.6 * 0.5 / libm::sqrt(n) * (at(&known, 0.6) - at(&known, 0.4)) / 0.2;
            let (known, found) = (at(&known, 0.5), at(&found, 0.5));
            assert!((found - known).abs() <= 0.03 * known + chance, "{name}.{op}: median {found}, in truth {known}");
        }
    }
}
