//! The analyser and the generator on models built by hand: every number of the evidence can be checked on paper.

use std::collections::{BTreeMap, BTreeSet};

use models::dist::{Dist, Work};
use models::param::{Limit, Param};
use models::system::{
    Cache, Call, CallPath, Edge, EdgeName, Entry, Lookup, Mode, Model, ObservedEdge, OpRef, Operation, Publish, Retry, Service,
    Step, Topic,
};
use models::units::Nanos;
use scenarios::analyse::{Boundary, LinkKind};
use scenarios::check::check_all;
use scenarios::fault::{FaultKind, Target};
use scenarios::scenario::Scenario;
use scenarios::{Analysis, GenerateOptions, analyse, generate, scenario_hash};

fn ms(ms: u64) -> Nanos {
    Nanos::from_millis(ms)
}

fn work(time: u64) -> Step {
    Step::Work(Work::declared(Dist::Exponential(ms(time))))
}

fn call_op(to: &str) -> Call {
    Call {
        to: OpRef::new(to, "op"),
        site: 0,
        times: vec![(1, 1.0)],
        on_failure: Param::declared(1.0),
        wait: true,
        fallback: None,
    }
}

fn call(to: &str) -> Step {
    Step::Call(call_op(to))
}

fn path(weight: f64, steps: Vec<Step>) -> CallPath {
    CallPath { weight: Param::declared(weight), steps }
}

/// A service with one operation `op` and these paths.
fn service(workers: u32, mode: Mode, paths: Vec<CallPath>) -> Service {
    let op = Operation { paths, ..Operation::default() };
    Service {
        workers: Param::declared(Limit::Of(workers)),
        queue: Param::declared(Limit::Of(64)),
        mode,
        operations: [("op".to_owned(), op)].into_iter().collect(),
        ..Service::default()
    }
}

fn edge(timeout: Option<u64>, attempts: u32) -> Edge {
    Edge {
        timeout: timeout.map(|timeout| Param::declared(ms(timeout))),
        retry: (attempts > 1).then(|| Retry {
            attempts: Param::declared(attempts),
            backoff: Param::declared(ms(20)),
            ..Retry::default()
        }),
        ..Edge::default()
    }
}

/// A ticket shop: a cached search, a blocking order path with nested retries, a mail queue.
fn shop() -> Model {
    let mut model = Model::default();
    model.workload.insert("user".into(), Entry::open(OpRef::new("web", "op"), Param::declared(70.0), 0));
    let lookup = Step::Lookup(Lookup {
        cache: call_op("cache"),
        origin: call_op("catalogdb"),
        fill: Some(Call { wait: false, ..call_op("cache") }),
        single_flight: false,
    });
    let mail = Step::Publish(Publish { to: "mailq".into(), site: 0, times: vec![(1, 1.0)], on_failure: Param::declared(0.0) });
    for (name, made) in [
        (
            "web",
            service(48, Mode::Async, vec![path(0.65, vec![work(2), call("search")]), path(0.35, vec![work(2), call("orders")])]),
        ),
        ("search", Service { replicas: Param::declared(2), ..service(12, Mode::Async, vec![path(1.0, vec![work(5), lookup])]) }),
        (
            "cache",
            Service {
                cache: Some(Cache {
                    capacity: Param::declared(700),
                    keys: Param::declared(3_000),
                    zipf: Param::declared(1.1),
                    ttl: None,
                }),
                ..service(32, Mode::Async, vec![path(1.0, vec![work(2)])])
            },
        ),
        ("catalogdb", service(2, Mode::Blocking, vec![path(1.0, vec![work(30)])])),
        ("orders", service(32, Mode::Blocking, vec![path(1.0, vec![work(6), call("seats"), call("payment"), mail])])),
        ("seats", service(12, Mode::Blocking, vec![path(1.0, vec![work(5), call("seatdb")])])),
        ("seatdb", service(2, Mode::Blocking, vec![path(1.0, vec![work(33)])])),
        ("payment", service(12, Mode::Async, vec![path(1.0, vec![work(90)])])),
        ("mailer", service(6, Mode::Blocking, vec![path(1.0, vec![work(130)])])),
    ] {
        model.services.insert(name.to_owned(), made);
    }
    model.topics.insert(
        "mailq".into(),
        Topic {
            capacity: Param::declared(Limit::Of(300)),
            redelivery_delay: Param::declared(ms(300)),
            max_deliveries: Param::declared(4),
            ..Topic::to(OpRef::new("mailer", "op"), Param::declared(6), 0)
        },
    );
    for (from, to, policy) in [
        ("user", "web", edge(Some(2_500), 1)),
        ("web", "search", edge(Some(700), 2)),
        ("web", "orders", edge(Some(1_800), 1)),
        ("search", "cache", edge(Some(60), 1)),
        ("search", "catalogdb", edge(Some(300), 2)),
        ("orders", "seats", edge(Some(500), 2)),
        ("orders", "payment", edge(None, 1)),
        ("orders", "mailq", edge(Some(200), 2)),
        ("seats", "seatdb", edge(Some(220), 3)),
        ("mailq", "mailer", edge(Some(1_500), 1)),
    ] {
        model.edges.insert(EdgeName::new(from, to), policy);
    }
    model
}

/// One service, one operation, no edges: M/M/1.
fn one_service() -> Model {
    let mut model = Model::default();
    model.workload.insert("users".into(), Entry::open(OpRef::new("s", "op"), Param::declared(80.0), 0));
    model.services.insert("s".into(), service(1, Mode::Blocking, vec![path(1.0, vec![work(10)])]));
    model
}

fn suggest(model: &Model, count: usize) -> Vec<Scenario> {
    generate(model, &analyse(model), &GenerateOptions { count, ..GenerateOptions::default() })
}

fn boundary<'a>(analysis: &'a Analysis, from: &str, to: &str) -> &'a Boundary {
    analysis.boundary(from, to).unwrap_or_else(|| panic!("{from}->{to} is a boundary"))
}

fn near(got: f64, expected: f64, what: &str) {
    assert!((got - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{what}: {got}, expected {expected}");
}

/// The first scenario of a large set whose faults are of these kinds on these targets.
fn find<'a>(set: &'a [Scenario], kinds: &[(&str, &str)]) -> Option<&'a Scenario> {
    set.iter().find(|scenario| {
        let faults: Vec<(&str, String)> = scenario.faults.iter().map(|f| (f.kind.name(), f.target.to_string())).collect();
        faults.iter().map(|(kind, target)| (*kind, target.as_str())).eq(kinds.iter().copied())
    })
}

#[test]
fn evidence_follows_from_rates_paths_and_policies() {
    let analysis = analyse(&shop());
    let node = |name: &str| analysis.node(name).expect(name);
    near(node("web").per_s, 70.0, "web gets every user");
    near(node("orders").per_s, 24.5, "35 % of them order");
    near(node("seatdb").erlangs, 24.5 * 0.033, "seatdb holds a worker for its work");
    near(node("seatdb").utilisation.unwrap(), 24.5 * 0.033 / 2.0, "of two workers");
    // A blocking worker is held through its callees; an asynchronous one for its own work alone.
    near(node("seats").erlangs, 24.5 * 0.038, "seats waits for seatdb");
    near(node("orders").erlangs, 24.5 * (0.006 + 0.038 + 0.090), "orders waits for seats, then payment");
    near(node("web").erlangs, 70.0 * 0.002, "web does not wait on a worker");
    near(node("mailq").utilisation.unwrap(), 24.5 * 0.130 / 6.0, "six deliveries at once");
    near(node("mailq").fills_in_s().unwrap(), 300.0 / 24.5, "the topic fills");
    assert!(node("mailq").may_reorder());

    let seatdb = boundary(&analysis, "seats", "seatdb");
    assert_eq!((seatdb.tries, seatdb.tries_from_entry, seatdb.downstream), (3, 6, 1));
    assert_eq!(seatdb.layers, [(EdgeName::new("orders", "seats"), 2), (EdgeName::new("seats", "seatdb"), 3)]);
    // Three tries of 220 ms, waits of 20 and 40 ms between them; 24.5/s of that in 12 workers.
    assert_eq!(seatdb.longest_call, Some(ms(720)));
    near(seatdb.stuck_share, 24.5 * 0.720 / 12.0, "workers of seats held if seatdb hangs");
    near(seatdb.user_harm, 1.0, "its failure is a user's");
    near(boundary(&analysis, "orders", "mailq").user_harm, 0.0, "a mail's is not");
    near(boundary(&analysis, "search", "cache").user_harm, 0.0, "a cache's is a miss");
    near(seatdb.per_request, 0.35, "calls per user request");

    let payment = boundary(&analysis, "orders", "payment");
    assert_eq!((payment.timeout, payment.longest_call, payment.stuck_share), (None, None, f64::INFINITY));
    assert_eq!(boundary(&analysis, "user", "web").downstream, 9);
    assert_eq!(boundary(&analysis, "user", "web").kind, LinkKind::Entry);
    assert_eq!(boundary(&analysis, "mailq", "mailer").kind, LinkKind::Delivery);

    // Users reach these through orders only; search and what is behind it they reach otherwise.
    assert_eq!(node("orders").dominates, ["seats", "seatdb", "payment", "mailer", "mailq"]);
    assert_eq!(node("cache").callers, 1);
}

#[test]
fn the_store_behind_a_cache_gets_the_misses() {
    let analysis = analyse(&shop());
    let (asked, missed) = (boundary(&analysis, "search", "cache"), boundary(&analysis, "search", "catalogdb"));
    let misses = missed.calls_per_s / 45.5;
    // 700 of 3,000 keys, Zipf 1.1: a simulated least-recently-used list misses 16.6 % of questions.
    assert!((0.163..0.169).contains(&misses), "{misses}");
    near(asked.calls_per_s, 45.5 * (1.0 + misses), "questions, and an answer stored for each miss");
}

#[test]
fn traces_count_before_arithmetic() {
    let mut model = shop();
    let seen =
        ObservedEdge { calls: 1_000, attempts: 1_250, errors: 250, p50_ms: 40.0, p99_ms: 400.0, ..ObservedEdge::default() };
    model.edges[&EdgeName::new("seats", "seatdb")].observed = Some(seen);
    let analysis = analyse(&model);
    let seatdb = boundary(&analysis, "seats", "seatdb");
    assert!(seatdb.measured && !boundary(&analysis, "orders", "seats").measured);
    near(seatdb.error_rate, 0.2, "failed share of attempts");
    near(seatdb.tail(), 10.0, "p99 over p50");
    // 1 + 0.2 + 0.04 tries per call; calls that fail three times (0.8 %) fail seats, which orders tries once more.
    near(seatdb.attempts_per_s / seatdb.calls_per_s, 1.24, "tries");
    near(boundary(&analysis, "orders", "seats").error_rate, 0.008, "what reaches orders");
    near(analysis.node("seats").expect("seats").per_s, 24.5 * 1.008, "attempts on seats");
    // Alone among nine boundaries without errors it is an outlier by any standard.
    assert!(seatdb.error_anomaly > 3.5, "{}", seatdb.error_anomaly);
    assert_eq!(analysis.boundaries[0].edge, seatdb.edge, "and the first place to look");
}

#[test]
fn a_cycle_of_calls_ends() {
    let mut model = shop();
    // payment asks orders again, half of the time; and a service that calls itself for ever.
    let again = vec![path(0.5, vec![work(90)]), path(0.5, vec![work(90), call("orders")])];
    model.services["payment"] = service(12, Mode::Async, again);
    near(analyse(&model).node("orders").expect("orders").per_s, 49.0, "24.5 + a half of all");
    model.services["payment"] = service(12, Mode::Blocking, vec![path(1.0, vec![work(90), call("payment")])]);
    let analysis = analyse(&model);
    assert!(analysis.node("payment").expect("payment").utilisation.expect("limited") > 1.0);
    assert_eq!(suggest(&model, 200).len(), 200);
}

#[test]
fn every_rule_fires_where_it_should() {
    let set = suggest(&shop(), 100_000);
    for kinds in [
        &[("latency", "orders->seats")][..],
        &[("black_hole", "orders->payment")],
        &[("connection_drop", "orders->seats")],
        &[("connection_drop", "orders->seats"), ("retries", "orders->seats")],
        &[("retries", "seats->seatdb"), ("surge", "user")],
        &[("errors", "payment")],
        &[("slow", "seatdb")],
        &[("crash", "seatdb")],
        &[("crash", "search")],
        &[("crash", "cache")],
        &[("latency", "search->cache")],
        &[("workers_lost", "seats"), ("surge", "user")],
        &[("surge", "user")],
        &[("retries", "user->web"), ("surge", "user")],
        &[("consumer_stall", "mailq")],
        &[("slow", "mailer")],
        &[("reorder", "mailq")],
        &[("delay", "mailq")],
        &[("slow", "seats"), ("latency", "orders->payment")],
        &[("latency", "orders->seats"), ("slow", "seatdb")],
        &[("slow", "seatdb"), ("surge", "user")],
    ] {
        assert!(find(&set, kinds).is_some(), "{kinds:?}");
    }
}

#[test]
fn no_rule_fires_where_it_should_not() {
    let set = suggest(&shop(), 100_000);
    let kinds = |wanted: &str| -> BTreeSet<String> {
        let faults = set.iter().flat_map(|s| &s.faults);
        faults.filter(|f| f.kind.name() == wanted).map(|f| f.target.to_string()).collect()
    };
    // A failing mail fails nobody; a cache's failure is a miss.
    assert!(!kinds("errors").contains("mailer") && !kinds("errors").contains("cache"));
    assert_eq!(kinds("consumer_stall"), ["mailq".to_owned()].into());
    assert_eq!(kinds("surge"), ["user".to_owned()].into());
    // A broker has no client whose retries could be turned up.
    assert!(!kinds("retries").contains("mailq->mailer"));
    // Only search has a replica to lose.
    let one_of: BTreeSet<String> = set
        .iter()
        .flat_map(|s| &s.faults)
        .filter(|f| matches!(f.kind, FaultKind::Crash { replicas: Some(_), .. }))
        .map(|f| f.target.to_string())
        .collect();
    assert_eq!(one_of, ["search".to_owned()].into());
    // No request of web needs both search and orders.
    assert!(find(&set, &[("slow", "search"), ("latency", "web->orders")]).is_none());
    // The users' own way in is not slowed: that says nothing about the system.
    assert!(!kinds("latency").contains("user->web"));

    let alone = suggest(&one_service(), 100_000);
    let all: BTreeSet<&str> = alone.iter().flat_map(|s| &s.faults).map(|f| f.kind.name()).collect();
    assert_eq!(all, ["crash", "errors", "retries", "slow", "surge"].into());
}

#[test]
fn why_says_the_numbers() {
    let set = suggest(&shop(), 100_000);
    let why = |id: &str| set.iter().find(|s| s.id == id).unwrap_or_else(|| panic!("{id}")).why.as_str();
    let expect = |id: &str, words: &str| assert!(why(id).contains(words), "{id}: {}", why(id));
    expect("latency-orders-seats-650ms", "orders calls seats 25 times per second");
    expect("latency-orders-seats-650ms", "passes its timeout of 500ms");
    expect("latency-orders-seats-350ms", "stays below its timeout of 500ms");
    expect("latency-orders-seats-350ms", "orders needs 8.6 more workers for it, and has 32");
    expect("black-hole-orders-payment", "it has no timeout, so all 32 workers are stuck after 1.3 s");
    expect("slow-seatdb-x4", "seatdb is busy at 40 % of its 2 workers; x4 makes that 162 %, more than it has");
    expect("slow-seatdb-x2", "up to 2 x 3 tries multiply through 2 layers (orders->seats, seats->seatdb)");
    expect("stall-mailq", "its 300 places are full after 12 s without deliveries");
    expect("surge-user-x3", "user brings 70 requests per second");
    expect("surge-user-x3", "mailq is busy at 53 % of its 6 deliveries at once; 3 times the load makes that 159 %");
    expect("errors-payment-30pct", "35 % of user requests need it");
    expect("crash-cache", "if every question missed it would be 68 %");
    expect("errors-payment-30pct", "leave 30 % of its calls failed after 1 try");
    for scenario in &set {
        assert!(scenario.why.chars().any(|c| c.is_ascii_digit()), "{}: {}", scenario.id, scenario.why);
        assert!(!scenario.why.contains("NaN") && !scenario.why.contains("inf"), "{}: {}", scenario.id, scenario.why);
    }
}

#[test]
fn why_says_what_was_measured_and_what_is_guessed() {
    let mut model = shop();
    model.services["seatdb"].workers = Param::assumed(Limit::Of(2), [Limit::Of(1), Limit::Of(64)]);
    let seen =
        ObservedEdge { calls: 1_000, attempts: 1_250, errors: 250, p50_ms: 40.0, p99_ms: 400.0, ..ObservedEdge::default() };
    model.edges[&EdgeName::new("seats", "seatdb")].observed = Some(seen);
    let set = suggest(&model, 1_000);
    let why = |id: &str| set.iter().find(|s| s.id == id).unwrap_or_else(|| panic!("{id}")).why.as_str();
    assert!(why("slow-seatdb-x2").contains("of its 2 workers (assumed)"), "{}", why("slow-seatdb-x2"));
    let late = why("latency-seats-seatdb-290ms");
    assert!(
        late.starts_with("seats calls seatdb 25 times per second (p50 40 ms, p99 400 ms, 20 % fail, its errors stand out at"),
        "{late}"
    );
}

#[test]
fn as_many_as_asked_for_all_different() {
    for count in [1, 10, 200, 500] {
        let set = suggest(&shop(), count);
        assert_eq!(set.len(), count);
        let ids: BTreeSet<&str> = set.iter().map(|s| s.id.as_str()).collect();
        assert_eq!(ids.len(), count, "ids");
        let hashes: BTreeSet<[u8; 4]> = set.iter().map(scenario_hash).collect();
        assert_eq!(hashes.len(), count, "what they do");
        check_all(&set, &shop()).expect("what is proposed makes sense for the model");
    }
    assert!(suggest(&one_service(), 100).len() == 100, "even one service offers a hundred");
    assert!(suggest(&Model::default(), 10).is_empty());
}

#[test]
fn the_same_model_gives_the_same_scenarios_and_a_smaller_set_is_the_start_of_a_larger() {
    let set = suggest(&shop(), 200);
    assert_eq!(set, suggest(&shop(), 200));
    assert_eq!(set[..50], suggest(&shop(), 50));
}

#[test]
fn the_first_dozen_is_varied() {
    let set = suggest(&shop(), 12);
    let kinds: BTreeSet<String> =
        set.iter().map(|s| s.faults.iter().map(|f| f.kind.name()).collect::<Vec<_>>().join("+")).collect();
    assert!(kinds.len() >= 8, "{kinds:?}");
    let targets: BTreeMap<&Target, usize> = set.iter().flat_map(|s| &s.faults).fold(BTreeMap::new(), |mut counts, fault| {
        *counts.entry(&fault.target).or_default() += 1;
        counts
    });
    assert!(targets.len() >= 6, "{targets:?}");
}

#[test]
fn faults_of_a_pair_are_near_each_other() {
    let model = shop();
    let analysis = analyse(&model);
    let ends = |target: &Target| match target {
        Target::Edge(edge) => vec![edge.from.clone(), edge.to.clone()],
        Target::Node(name) => vec![name.clone()],
    };
    let set = suggest(&model, 2_000);
    let pairs = set.iter().filter(|s| s.faults.len() == 2 && s.faults.iter().all(|f| f.kind.name() != "surge"));
    let mut seen = 0;
    for scenario in pairs {
        let (first, second) = (ends(&scenario.faults[0].target), ends(&scenario.faults[1].target));
        let touch = |a: &String, b: &String| a == b || analysis.boundary(a, b).is_some() || analysis.boundary(b, a).is_some();
        let callers = |name: &String| -> BTreeSet<&str> {
            analysis.boundaries.iter().filter(|b| b.edge.to == *name).map(|b| b.edge.from.as_str()).collect()
        };
        let near = first.iter().any(|a| second.iter().any(|b| touch(a, b) || !callers(a).is_disjoint(&callers(b))));
        assert!(near, "{}", scenario.id);
        seen += 1;
    }
    assert!(seen > 50, "{seen} pairs");
}

#[test]
fn faults_lie_between_warm_up_and_horizon() {
    let model = shop();
    for (horizon, start, duration, warm_up) in [(120, 30, 20, 10), (60, 30, 20, 40), (20, 30, 20, 2), (300, 5, 100, 10)] {
        let secs = Nanos::from_secs;
        let options = GenerateOptions {
            count: 300,
            horizon: secs(horizon),
            fault_start: secs(start),
            fault_duration: secs(duration),
            warm_up: secs(warm_up),
        };
        let set = generate(&model, &analyse(&model), &options);
        assert_eq!(set.len(), 300);
        for fault in set.iter().flat_map(|s| &s.faults) {
            assert!(!fault.duration.is_zero() && fault.clears_at().as_nanos() < secs(horizon).as_nanos(), "{horizon}: {fault:?}");
        }
    }
}

#[test]
fn names_that_no_id_can_hold_still_give_different_ids() {
    let mut model = one_service();
    for name in ["db:1", "db/1"] {
        model.services.insert(name.into(), service(2, Mode::Blocking, vec![path(1.0, vec![work(5)])]));
    }
    model.services["s"] = service(4, Mode::Blocking, vec![path(1.0, vec![work(1), call("db:1"), call("db/1")])]);
    let set = suggest(&model, 400);
    let ids: BTreeSet<&str> = set.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(ids.len(), set.len());
    check_all(&set, &model).expect("ids hold such names in a form that files accept");
    assert!(ids.contains("slow-db_1-x2") && ids.contains("slow-db_1-x2-2"), "{ids:?}");
}
