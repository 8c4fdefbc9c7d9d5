//! What clients and users hold back of themselves, there and back: deadlines, retry budgets, pools, bulkheads, closed loops; and what must
//! not be taken for any of them.

use models::learn::{ClientFinding, Finding, LearnOptions};
use models::param::{Limit, Param, Source};
use models::system::{EdgeName, Model, Step, Trips};
use models::units::Nanos;
use sim::SpanOptions;

use super::{Trip, at, holds, holds_time, number, trip, trip_with};

/// What a finding says of clients.
fn client(trip: &Trip, what: fn(&ClientFinding) -> bool) -> bool {
    trip.lesson.findings.iter().any(|finding| matches!(finding, Finding::Client(client) if what(client)))
}

fn edge<'m>(model: &'m Model, to: &str) -> &'m models::system::Edge {
    &model.edges[&EdgeName::new("web", to)]
}

const DEADLINE: &str = "
version: 1
workload: { users: { to: web.get, open: { rate: 80/s } } }
services:
  web: { workers: 128, queue: 64, operations: { get: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 4ms, p99: 20ms } } },
    { call: { to: a.x, on_failure: degrade } }, { call: { to: b.x, on_failure: degrade } }, { call: { to: c.x, on_failure: degrade } } ] } ] } } }
  a: { workers: 64, queue: 64, operations: { x: { error_rate: 0.3, paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 40ms, p99: 200ms } } } ] } ] } } }
  b: { workers: 64, queue: 64, operations: { x: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 40ms, p99: 400ms } } } ] } ] } } }
  c: { workers: 64, queue: 64, operations: { x: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 40ms, p99: 400ms } } } ] } ] } } }
edges:
  web->a: { latency: 300us, timeout: 120ms, deadline: 200ms, retry: { attempts: 3, backoff: 10ms, jitter: full } }
  web->b: { latency: 300us, deadline: 250ms, retry: { attempts: 3, backoff: 10ms, jitter: full } }
  web->c: { latency: 300us, timeout: 100ms, retry: { attempts: 2, backoff: 10ms, jitter: none } }
";

#[test]
fn deadlines_of_all_tries_together_come_back() {
    let trip = trip(DEADLINE, 200);
    trip.structure();
    let a = edge(trip.model(), "a");
    let deadline = a.deadline.expect("calls pile up at it");
    assert!(deadline.source == Source::Inferred && holds_time(&deadline, Nanos::from_millis(200)), "{deadline:?}");
    assert!((deadline.value.as_millis_f64() / 200.0 - 1.0).abs() < 0.02, "{deadline:?}");
    let timeout = a.timeout.expect("tries pile up at it");
    assert!(
        (timeout.value.as_millis_f64() / 120.0 - 1.0).abs() < 0.05 && holds_time(&timeout, Nanos::from_millis(120)),
        "{timeout:?}"
    );
    let retry = a.retry.as_ref().expect("it is tried again");
    assert!(
        retry.attempts.value == 3 && retry.on.is_empty(),
        "tries that it cut short are no failures of a kind that is not tried again: {retry:?}"
    );
    // One try can always last until the deadline, and then nothing tells it from a timeout.
    let b = edge(trip.model(), "b");
    let bound = b.deadline.or(b.timeout).expect("a bound of some kind");
    assert!((bound.value.as_millis_f64() / 250.0 - 1.0).abs() < 0.05, "{b:?}");
    let c = edge(trip.model(), "c");
    assert!(c.deadline.is_none(), "two timeouts and a fixed wait are no deadline: {:?}", c.deadline);
    assert!((c.timeout.expect("a timeout").value.as_millis_f64() / 100.0 - 1.0).abs() < 0.05);
    assert!(client(&trip, |f| matches!(f, ClientFinding::Deadline { edge, .. } if edge.to == "a")));
}

/// A store that fails now and then, and fails nearly always while bursts of users fill it.
fn budgeted(budget: &str, error_rate: f64) -> String {
    format!(
        "
version: 1
workload: {{ users: {{ to: web.get, open: {{ rate: 60/s, bursts: {{ every: 20s, lasting: 5s, factor: 3 }} }} }} }}
services:
  web: {{ workers: 256, queue: 256, operations: {{ get: {{ paths: [ {{ weight: 1, steps: [ {{ work: {{ lognormal: {{ p50: 4ms, p99: 20ms }} }} }}, {{ call: {{ to: db.read }} }} ] }} ] }} }} }}
  db: {{ workers: 4, queue: 8, operations: {{ read: {{ error_rate: {error_rate}, paths: [ {{ weight: 1, steps: [ {{ work: {{ lognormal: {{ p50: 25ms, p99: 60ms }} }} }} ] }} ] }} }} }}
edges: {{ web->db: {{ latency: 300us, retry: {{ attempts: 3, backoff: 20ms, jitter: full{budget} }} }} }}
"
    )
}

#[test]
fn a_retry_budget_comes_back() {
    for (ratio, per_s, cap) in [(0.1, 0.0, 20.0), (0.05, 2.0, 30.0)] {
        let yaml = budgeted(&format!(", budget: {{ ratio: {ratio}, min_per_s: {per_s}, cap: {cap} }}"), 0.02);
        let trip = trip(&yaml, 300);
        let retry = edge(trip.model(), "db").retry.clone().expect("it is tried again");
        assert_eq!(retry.attempts.value, 3);
        let budget = retry.budget.unwrap_or_else(|| panic!("a budget of {ratio} and {per_s}/s: {:?}", trip.lesson.findings));
        assert!(holds(&budget.ratio, ratio), "ratio {ratio}: {:?}", budget.ratio);
        assert!(holds(&budget.min_per_s, per_s), "{per_s}/s: {:?}", budget.min_per_s);
        assert!(holds(&budget.cap, cap), "cap {cap}: {:?}", budget.cap);
        assert!(client(
            &trip,
            |f| matches!(f, ClientFinding::RetryBudget { denied, granted, .. } if *denied > 50 && *granted > 50)
        ));
    }
}

#[test]
fn retries_that_nothing_stops_have_no_budget() {
    let trip = trip(&budgeted("", 0.3), 200);
    let retry = edge(trip.model(), "db").retry.clone().expect("it is tried again");
    assert!(retry.budget.is_none() && retry.attempts.value == 3, "{retry:?}");
}

/// Two operations of one service over one edge: the failures of one are tried again, those of the other are not.
#[test]
fn a_share_of_retries_that_does_not_follow_a_bucket_is_no_budget() {
    let yaml = "
version: 1
workload: { users: { to: web.get, open: { rate: 100/s } } }
services:
  web: { workers: 256, queue: 256, operations: { get: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 4ms, p99: 20ms } } }, { call: { to: db.read } } ] } ] } } }
  db: { workers: 64, queue: 8, operations: { read: { error_rate: 0.3, paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 25ms, p99: 60ms } } } ] } ] } } }
edges: { web->db: { latency: 300us, retry: { attempts: 2, backoff: 20ms, jitter: full } } }
";
    let model = super::truth(yaml);
    let text = String::from_utf8(super::spans_of(&model, 1, 100, &SpanOptions::default())).expect("JSON");
    // In every other trace, what was tried again goes: as if its operation were not.
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            let mut batch: serde_json::Value = serde_json::from_str(line).expect("JSON");
            for resource in batch["resourceSpans"].as_array_mut().expect("resources") {
                let spans = resource["scopeSpans"][0]["spans"].as_array_mut().expect("spans");
                spans.retain(|span| {
                    let odd = span["traceId"].as_str().expect("an id").as_bytes()[3] % 2 == 1;
                    let again = span["attributes"]
                        .as_array()
                        .is_some_and(|all| all.iter().any(|a| a["key"] == "http.request.resend_count"));
                    !(odd && again)
                });
            }
            batch.to_string()
        })
        .collect();
    let lesson = super::learned(lines.join("\n").as_bytes(), &LearnOptions::default());
    let retry = lesson.model.edges[&EdgeName::new("web", "db")].retry.clone().expect("some are tried again");
    assert!(retry.budget.is_none(), "{retry:?}");
}

const POOL: &str = "
version: 1
workload: { users: { to: web.get, open: { rate: 150/s } } }
services:
  web: { workers: 128, queue: 256, operations: { get: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 6ms, p99: 20ms } } }, { call: { to: db.read } }, { work: { constant: 2ms } } ] } ] } } }
  db: { workers: 64, queue: 64, operations: { read: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 30ms, p99: 90ms } } } ] } ] } } }
edges: { web->db: { latency: 300us, pool: { connections: 6, waiting: unbounded } } }
";

#[test]
fn a_connection_pool_comes_back_and_waiting_for_it_is_no_work() {
    let trip = trip(POOL, 200);
    trip.structure();
    let pool = edge(trip.model(), "db").pool.clone().unwrap_or_else(|| panic!("calls wait: {:?}", trip.lesson.findings));
    assert_eq!((pool.connections.value, pool.connections.source), (6, Source::Inferred));
    let steps = &trip.model().services["web"].operations["get"].paths[0].steps;
    let Some(Step::Work(first)) = steps.first() else { panic!("no work") };
    assert!((at(&first.dist, 0.5) / 6e6 - 1.0).abs() < 0.05, "waiting is no work: {:?}", first.dist);
    let workers = trip.model().services["web"].workers;
    assert!(workers.source == Source::Assumed, "waiting for a connection is not waiting for a worker: {workers:?}");
    assert!(client(&trip, |f| matches!(f, ClientFinding::Pool { connections: 6, waited, .. } if *waited > 500)));
    // And the model learned behaves as the one that it was learned from.
    let again = trip_with(POOL, 9, 60, &SpanOptions::default(), &LearnOptions::default());
    let mean = |model: &Model| model.services["web"].observed.as_ref().expect("it answered").mean_ms;
    let simulated = super::learned(&super::spans_of(trip.model(), 9, 60, &SpanOptions::default()), &LearnOptions::default());
    let (known, found) = (mean(again.model()), mean(&simulated.model));
    assert!((found / known - 1.0).abs() < 0.1, "answers take {found} ms, in truth {known} ms");
}

#[test]
fn a_full_callee_or_full_workers_are_no_pool() {
    let callee = POOL.replace("pool: { connections: 6, waiting: unbounded }", "").replace("latency: 300us, ", "latency: 300us");
    let callee = callee
        .replace("db: { workers: 64", "db: { workers: 6")
        .replace("queue: 64, operations: { read", "queue: 512, operations: { read");
    let trip_of_callee = trip(&callee, 200);
    assert!(edge(trip_of_callee.model(), "db").pool.is_none(), "the callee's queue is its own");
    // Without work before the call, the next request's call begins where the last one's ended.
    let caller = callee
        .replace("web: { workers: 128", "web: { workers: 6")
        .replace("db: { workers: 6,", "db: { workers: 64,")
        .replace("{ work: { lognormal: { p50: 6ms, p99: 20ms } } }, { call", "{ call")
        .replace("{ call: { to: db.read } }, { work: { constant: 2ms } }", "{ call: { to: db.read } }");
    let trip_of_caller = trip(&caller, 200);
    let found = edge(trip_of_caller.model(), "db");
    assert!(found.pool.is_none() && found.max_in_flight.is_none(), "the caller's workers are its own: {found:?}");
}

#[test]
fn a_bulkhead_comes_back() {
    let yaml = POOL.replace("pool: { connections: 6, waiting: unbounded }", "max_in_flight: 8");
    let trip = trip(&yaml, 200);
    let found = edge(trip.model(), "db");
    assert_eq!(
        found.max_in_flight.map(|most| (most.value, most.source)),
        Some((8, Source::Inferred)),
        "{:?}",
        trip.lesson.findings
    );
    assert!(found.pool.is_none() && found.breaker.is_none(), "{found:?}");
    let own = trip.model().services["web"].operations["get"].error_rate;
    assert!(own.is_none_or(|own| own.value < 0.001), "what was refused is no error of web's own: {own:?}");
    assert!(client(&trip, |f| matches!(f, ClientFinding::Bulkhead { most: 8, refused, .. } if *refused > 50)));
}

#[test]
fn errors_that_strike_whatever_is_under_way_are_no_bulkhead() {
    let yaml = POOL
        .replace("pool: { connections: 6, waiting: unbounded }", "timeout: 1s")
        .replace("operations: { get: { paths", "operations: { get: { error_rate: 0.1, paths");
    let trip = trip(&yaml, 100);
    let found = edge(trip.model(), "db");
    assert!(found.max_in_flight.is_none() && found.pool.is_none(), "{found:?}");
}

const CONSECUTIVE: &str = "
version: 1
workload: { users: { to: web.get, open: { rate: 60/s } } }
services:
  web: { workers: 128, queue: 256, operations: { get: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 2ms, p99: 8ms } } }, { call: { to: flaky.read } } ] } ] } } }
  flaky: { workers: 16, queue: 20, operations: { read: { error_rate: 0.35, paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 5ms, p99: 8ms } } } ] } ] } } }
edges: { web->flaky: { latency: 300us, breaker: { consecutive: 4, open: 1s, probes: 1 } } }
";

#[test]
fn a_breaker_that_counts_failures_in_a_row_comes_back_as_one() {
    let trip = trip(CONSECUTIVE, 300);
    let breaker = edge(trip.model(), "flaky").breaker.clone().expect("it was open");
    let Trips::Consecutive(count) = &breaker.trips else { panic!("{:?}", breaker.trips) };
    assert_eq!((count.value, count.source), (4, Source::Inferred));
    assert!(holds_time(&breaker.open, Nanos::from_secs(1)), "{:?}", breaker.open);
}

const USERS: &str = "
version: 1
workload: { users: { to: web.get, closed: { users: 12, think: { exponential: 300ms } } } }
services:
  web: { workers: 64, queue: 64, operations: { get: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 10ms, p99: 40ms } } }, { call: { to: db.read } } ] } ] } } }
  db: { workers: 4, queue: 64, operations: { read: { paths: [ { weight: 1, steps: [ { work: { lognormal: { p50: 80ms, p99: 300ms } } } ] } ] } } }
edges: { web->db: { latency: 300us } }
";

#[test]
fn users_who_wait_for_their_answers_are_counted() {
    let trip = trip(USERS, 300);
    let closed =
        trip.model().workload["users"].closed.clone().unwrap_or_else(|| panic!("a closed loop: {:?}", trip.lesson.findings));
    let Param { value, source: Source::Inferred, range: Some([low, high]) } = closed.users else { panic!("{:?}", closed.users) };
    assert!(low <= 12 && 12 <= high && value.abs_diff(12) <= 2, "{:?}", closed.users);
    let think = closed.think.dist.mean().as_millis_f64();
    let [least, most] = closed.think.scale_range.expect("a range");
    assert!(think * least <= 300.0 && 300.0 <= think * most && (think / 300.0 - 1.0).abs() < 0.25, "{think}");
    assert!(client(&trip, |f| matches!(f, ClientFinding::ClosedLoop { .. })));
    assert_eq!(number(trip.model().services["db"].workers.value), 4);
    // Half of the traces do not show what is in progress.
    let thinned = SpanOptions { share: 0.5, ..SpanOptions::default() };
    let half = trip_with(USERS, 1, 300, &thinned, &LearnOptions { sampling: Some(0.5), ..LearnOptions::default() });
    assert!(half.model().workload["users"].closed.is_none());
}

#[test]
fn users_who_come_whatever_happens_are_an_open_loop() {
    for seed in 1..=5 {
        let open = USERS.replace("closed: { users: 12, think: { exponential: 300ms } }", "open: { rate: 25/s }");
        let trip = trip_with(&open, seed, 200, &SpanOptions::default(), &LearnOptions::default());
        assert!(trip.model().workload["users"].closed.is_none(), "seed {seed}");
    }
}

/// The network of an edge is one number; where it is not one in truth, its range holds the mean that a long tail makes.
#[test]
fn the_network_of_an_edge_has_a_range_only_where_it_varies() {
    let yaml = "
version: 1
workload: { users: { to: web.get, open: { rate: 100/s } } }
services:
  web: { workers: 64, queue: 64, operations: { get: { paths: [ { weight: 1, steps: [ { work: { exponential: 5ms } }, { call: { to: db.read } } ] } ] } } }
  db: { workers: 64, queue: 64, operations: { read: { paths: [ { weight: 1, steps: [ { work: { exponential: 5ms } } ] } ] } } }
edges: { web->db: { latency: 800us } }
";
    let steady = trip(yaml, 60);
    let latency = edge(steady.model(), "db").latency.expect("both sides were seen");
    assert_eq!((latency.value, latency.range), (Nanos::from_micros(800), None));
    // The callee's clock is right, its answers come late: by a time of their own for every trace.
    let model = super::truth(yaml);
    let text = String::from_utf8(super::spans_of(&model, 1, 60, &SpanOptions::default())).expect("JSON");
    let mut batches: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for batch in &mut batches {
        for resource in batch["resourceSpans"].as_array_mut().expect("resources") {
            for span in resource["scopeSpans"][0]["spans"].as_array_mut().expect("spans") {
                let tail = u64::from_str_radix(&span["traceId"].as_str().expect("an id")[..8], 16).expect("hex") % 10;
                let late = if tail == 0 { 20_000_000 } else { tail * 100_000 };
                let kind = span["kind"].as_u64().expect("a kind");
                let is_web = kind == 3 || span["parentSpanId"].is_null();
                if is_web {
                    let end: u64 = span["endTimeUnixNano"].as_str().expect("a time").parse().expect("a number");
                    span["endTimeUnixNano"] = serde_json::json!((end + late).to_string());
                }
            }
        }
    }
    let text: Vec<String> = batches.iter().map(ToString::to_string).collect();
    let lesson = super::learned(text.join("\n").as_bytes(), &LearnOptions::default());
    let latency = edge(&lesson.model, "db").latency.expect("both sides were seen");
    let Some([low, high]) = latency.range else { panic!("it varies: {latency:?}") };
    // One way: the half of 1.6 ms and of what is added, 2.45 ms on average and 0.5 ms in the middle.
    let mean = Nanos::from_micros(800 + 1_225);
    assert!(
        low <= latency.value && latency.value < Nanos::from_micros(1_200) && high.as_nanos().abs_diff(mean.as_nanos()) < 200_000,
        "{latency:?}"
    );
}

#[test]
fn limits_that_were_never_reached_are_not_made_up() {
    let roomy = POOL.replace("connections: 6", "connections: 60").replace("rate: 150/s", "rate: 60/s");
    let trip = trip(&roomy, 100);
    let found = edge(trip.model(), "db");
    assert!(found.pool.is_none() && found.max_in_flight.is_none() && found.deadline.is_none(), "{found:?}");
    assert!(matches!(trip.model().services["db"].queue.value, Limit::Of(_)));
}
