//! A small system and made-up records, for the tests of this crate only.

use indexmap::IndexMap;
use models::dist::{Dist, Work};
use models::param::{Limit, Param};
use models::system::{Call, CallPath, Edge, EdgeName, Entry, Model, OpRef, Operation, Publish, Retry, Service, Step, Topic};
use models::units::{Nanos, SimTime};
use scenarios::fault::{Fault, FaultKind, Target};
use scenarios::record::{Breach, Peak, RunRecord};
use scenarios::scenario::Scenario;

fn call(to: &str, operation: &str, site: u32, times: Vec<(u32, f64)>) -> Step {
    Step::Call(Call { to: OpRef::new(to, operation), site, times, on_failure: Param::declared(1.0), wait: true, fallback: None })
}

fn service(operation: &str, paths: Vec<(f64, Vec<Step>)>) -> Service {
    let paths = paths.into_iter().map(|(weight, steps)| CallPath { weight: Param::declared(weight), steps }).collect();
    let operation = (operation.to_string(), Operation { paths, ..Operation::default() });
    Service {
        workers: Param::declared(Limit::Of(8)),
        queue: Param::declared(Limit::Of(50)),
        operations: [operation].into_iter().collect(),
        ..Service::default()
    }
}

fn work(ms: u64) -> Step {
    Step::Work(Work::declared(Dist::Exponential(Nanos::from_millis(ms))))
}

/// users → web → orders → stock twice, and orders → mails → mailer.
pub(crate) fn shop() -> Model {
    let once = vec![(1, 1.0)];
    let publish = Step::Publish(Publish { to: "mails".into(), site: 4, times: once.clone(), on_failure: Param::declared(0.0) });
    let services = [
        ("web", service("GET /", vec![(1.0, vec![work(2)]), (3.0, vec![work(2), call("orders", "order", 1, once)])])),
        ("orders", service("order", vec![(1.0, vec![work(5), call("stock", "take", 2, vec![(2, 1.0)]), publish])])),
        ("stock", service("take", vec![(1.0, vec![work(10)])])),
        ("mailer", Service { queue: Param::declared(Limit::Unlimited), ..service("send", vec![(1.0, vec![work(30)])]) }),
    ];
    let timeout = Edge { timeout: Some(Param::declared(Nanos::from_millis(500))), ..Edge::default() };
    let retry = Some(Retry { attempts: Param::declared(3), ..Retry::default() });
    Model {
        workload: [("users".to_string(), Entry::open(OpRef::new("web", "GET /"), Param::declared(100.0), 0))]
            .into_iter()
            .collect(),
        services: services.into_iter().map(|(name, s)| (name.to_string(), s)).collect(),
        edges: [
            (EdgeName::new("users", "web"), Edge::default()),
            (EdgeName::new("web", "orders"), timeout.clone()),
            (EdgeName::new("orders", "stock"), Edge { retry, ..timeout.clone() }),
            (EdgeName::new("mails", "mailer"), timeout),
        ]
        .into_iter()
        .collect::<IndexMap<_, _>>(),
        topics: [(
            "mails".to_string(),
            Topic {
                capacity: Param::declared(Limit::Of(1000)),
                redelivery_delay: Param::declared(Nanos::from_secs(1)),
                max_deliveries: Param::declared(3),
                ..Topic::to(OpRef::new("mailer", "send"), Param::declared(4), 5)
            },
        )]
        .into_iter()
        .collect(),
        learned: None,
    }
}

/// A run of 1,000 requests in which nothing happened.
pub(crate) fn record(scenario: &str, seed: u64) -> RunRecord {
    RunRecord {
        scenario: scenario.to_string(),
        world: 0,
        seed,
        token: format!("fs1-{scenario}-{seed}"),
        digest: format!("{seed:016x}"),
        events: 10_000,
        truncated: false,
        horizon_s: 120.0,
        start_s: 30.0,
        clear_s: 50.0,
        requests: 1000,
        failed: 2,
        twin_failed: 2,
        harmed: 0,
        harmed_directly: 0,
        cascaded: false,
        metastable: false,
        recovery_s: Some(0.0),
        breaches: Vec::new(),
        error_rate: Default::default(),
        p99_ms: Default::default(),
        retry_amplification_peak: 1.0,
        retry_amplification_mean: 1.0,
        queue_depth: Default::default(),
        queue_node: String::new(),
        coalesced_at_s: None,
        stale_writes: 0,
        duplicate_effects: 0,
        dead_letters: 0,
        wasted: 0,
        vs_baseline: Default::default(),
    }
}

/// Four scenarios on the shop with ten runs each: one that spreads and sometimes stays, one that harms directly only, one that does
/// nothing, and a control.
pub(crate) fn rehearsal() -> (Model, Vec<Scenario>, Vec<RunRecord>) {
    let strike = |kind, target: Target| Fault::new(kind, target, SimTime::from_nanos(30_000_000_000), Nanos::from_secs(20));
    let scenario = |id: &str, why: &str, faults| Scenario { id: id.into(), why: why.into(), load: None, faults };
    let scenarios = vec![
        scenario("control", "", vec![]),
        scenario(
            "mails-stall",
            "the queue of mails is never drained",
            vec![strike(FaultKind::ConsumerStall, Target::Node("mails".into()))],
        ),
        scenario(
            "stock-errors",
            "stock answers 150 calls/s",
            vec![strike(FaultKind::Errors { probability: 0.3 }, Target::Node("stock".into()))],
        ),
        scenario(
            "stock-slow",
            "orders -> stock: three tries, p99 <5 ms> & \"no budget\"",
            vec![strike(FaultKind::latency(Nanos::from_millis(800)), Target::Edge(EdgeName::new("orders", "stock")))],
        ),
    ];
    let mut records = Vec::new();
    for seed in 1..=10_u64 {
        records.extend([record("control", seed), record("mails-stall", seed)]);
        records.push(RunRecord {
            harmed: 40 + seed,
            harmed_directly: 40 + seed,
            failed: 42 + seed,
            recovery_s: Some(0.5),
            ..record("stock-errors", seed)
        });
        let stays = seed % 5 == 0;
        let breach = |node: &str| Breach { node: node.into(), by_error: true, by_p99: seed % 2 == 0, first_s: 33.0 };
        records.push(RunRecord {
            harmed: 300 + 10 * seed,
            harmed_directly: 100,
            failed: 250 + 10 * seed,
            cascaded: seed > 2,
            metastable: stays,
            recovery_s: (!stays).then_some(2.0 + seed as f64),
            breaches: if seed > 1 { vec![breach("orders"), breach("web")] } else { vec![breach("orders")] },
            error_rate: Peak { peak: 0.5, baseline: 0.002 },
            p99_ms: Peak { peak: 1500.0, baseline: 80.0 },
            retry_amplification_peak: 2.5,
            retry_amplification_mean: 1.4,
            queue_depth: Peak { peak: 50.0, baseline: 3.0 },
            queue_node: "orders".into(),
            wasted: 500,
            ..record("stock-slow", seed)
        });
    }
    (shop(), scenarios, records)
}
