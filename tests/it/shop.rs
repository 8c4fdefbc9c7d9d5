//! Models built by hand whose every number can be checked on paper, and how their analysis and scenarios are asked.

use models::dist::{Dist, Work};
use models::param::{Limit, Param};
use models::system::{
    Cache, Call, CallPath, Edge, EdgeName, Entry, Lookup, Mode, Model, OpRef, Operation, Publish, Retry, Service, Step, Topic,
};
use models::units::Nanos;
use scenarios::analyse::Boundary;
use scenarios::scenario::Scenario;
use scenarios::{Analysis, GenerateOptions, analyse, generate};

pub fn ms(ms: u64) -> Nanos {
    Nanos::from_millis(ms)
}

pub fn work(time: u64) -> Step {
    Step::Work(Work::declared(Dist::Exponential(ms(time))))
}

pub fn call_op(to: &str) -> Call {
    Call {
        to: OpRef::new(to, "op"),
        site: 0,
        times: vec![(1, 1.0)],
        on_failure: Param::declared(1.0),
        wait: true,
        fallback: None,
    }
}

pub fn call(to: &str) -> Step {
    Step::Call(call_op(to))
}

pub fn path(weight: f64, steps: Vec<Step>) -> CallPath {
    CallPath { weight: Param::declared(weight), steps }
}

/// A service with one operation `op` and these paths.
pub fn service(workers: u32, mode: Mode, paths: Vec<CallPath>) -> Service {
    let op = Operation { paths, ..Operation::default() };
    Service {
        workers: Param::declared(Limit::Of(workers)),
        queue: Param::declared(Limit::Of(64)),
        mode,
        operations: [("op".to_owned(), op)].into_iter().collect(),
        ..Service::default()
    }
}

pub fn edge(timeout: Option<u64>, attempts: u32) -> Edge {
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
pub fn shop() -> Model {
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
pub fn one_service() -> Model {
    let mut model = Model::default();
    model.workload.insert("users".into(), Entry::open(OpRef::new("s", "op"), Param::declared(80.0), 0));
    model.services.insert("s".into(), service(1, Mode::Blocking, vec![path(1.0, vec![work(10)])]));
    model
}

pub fn suggest(model: &Model, count: usize) -> Vec<Scenario> {
    generate(model, &analyse(model), &GenerateOptions { count, ..GenerateOptions::default() })
}

pub fn boundary<'a>(analysis: &'a Analysis, from: &str, to: &str) -> &'a Boundary {
    analysis.boundary(from, to).unwrap_or_else(|| panic!("{from}->{to} is a boundary"))
}

pub fn near(got: f64, expected: f64, what: &str) {
    assert!((got - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{what}: {got}, expected {expected}");
}

/// The first scenario of a large set whose faults are of these kinds on these targets.
pub fn find<'a>(set: &'a [Scenario], kinds: &[(&str, &str)]) -> Option<&'a Scenario> {
    set.iter().find(|scenario| {
        let faults: Vec<(&str, String)> = scenario.faults.iter().map(|f| (f.kind.name(), f.target.to_string())).collect();
        faults.iter().map(|(kind, target)| (*kind, target.as_str())).eq(kinds.iter().copied())
    })
}
