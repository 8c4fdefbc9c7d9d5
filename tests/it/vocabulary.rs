//! Every form of a policy, resource, workload and fault as people write it: what it means, and how it is written back.

use expect_test::{Expect, expect};
use models::format::{read_model, read_overlay, write_model};
use models::param::{Limit, Param};
use models::system::{AdaptiveLaw, BreakerWindow, Contention, EdgeName, Full, Hedge, Model, Order, Pool, RateCurve, Step, Trips};
use models::units::Nanos;
use scenarios::format::{read_checked, write_scenarios};

const ALL: &str = "version: 1
workload:
  users:
    to: web.get
    open: { rate: 80/s, curve: { steps: { 0s: 1, 60s: 2.5 }, repeat: 2min }, bursts: { every: 10s, lasting: 500ms, factor: 5 } }
  staff: { to: web.get, closed: { users: 100, think: { exponential: 1s } } }
services:
  web:
    replicas: 3
    workers: 8
    shed_expired: true
    codel: { target: 5ms, interval: 100ms }
    adaptive_limit: { aimd: { latency: 100ms, backoff: 0.9 }, initial: 20, min: 1, max: 200 }
    contention: { in_progress: { add: 10ms } }
    autoscale: { target: 0.7, min: 2, max: 10, every: 15s, start_up: 10s, down_after: 5min }
    warm_up: { lasting: 10s, factor: 3 }
    health_check: { down_after: 5s, up_after: 2s }
    operations: { get: { paths: [{ steps: [{ lookup: { cache: cache, origin: db, single_flight: true } }, { publish: mails }] }] } }
  cache:
    adaptive_limit: { gradient: { tolerance: 1.5 }, initial: 20, min: 1, max: 200 }
    contention: { arrival_rate: { above: 300/s, factor: 10 } }
    autoscale: { target: 0.7, min: 1, max: 10 }
    health_check: { down_after: 5s }
    cache: { capacity: 100, keys: 1000, zipf: 1.1, ttl: 60s }
    operations: { get: { paths: [{ steps: [] }] } }
  db: { operations: { get: { paths: [{ steps: [] }] } } }
edges:
  users->web: { deadline: 2s, propagate_deadline: true }
  web->cache: { hedge: { after: 50ms, attempts: 2 }, max_in_flight: 32, pool: { connections: 8, waiting: unbounded } }
  web->db: { pool: { connections: 8 }, breaker: { window: 10s, min_calls: 10, threshold: 0.5, open: 1s, probes: 3 } }
  staff->web: { breaker: { consecutive: 5, open: 1s, probes: 1 } }
  web->mails: { breaker: { window: 20, min_calls: 10, threshold: 0.5, open: 1s } }
topics:
  mails:
    consumer: db
    concurrency: 4
    partitions: 4
    keys: { count: 1000, zipf: 1.0 }
    order: per_key
    capacity: 1000
    full: drop_oldest
    order_sensitive: true
    idempotent: false
";

fn all() -> Model {
    read_model("all.yaml", ALL.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn every_form_means_what_it_says() {
    let model = all();
    let (second, ms) = (Nanos::from_secs(1), Nanos::from_millis);
    let users = &model.workload["users"];
    let steps = vec![(Nanos::ZERO, 1.0), (Nanos::from_secs(60), 2.5)];
    assert_eq!(users.curve, Some(RateCurve { steps, repeat: Some(Nanos::from_secs(120)) }));
    assert_eq!(users.peak_per_s(), 80.0 * 2.5 * 5.0);
    let staff = &model.workload["staff"];
    assert_eq!((staff.rate, staff.closed.as_ref().map(|closed| closed.users)), (100.0.into(), Some(100.into())));

    let web = &model.services["web"];
    let aimd = AdaptiveLaw::Aimd { latency: ms(100).into(), backoff: 0.9.into() };
    assert_eq!(web.adaptive_limit.as_ref().map(|limit| &limit.law), Some(&aimd));
    assert_eq!(web.contention, Some(Contention::InProgress { add: ms(10).into() }));
    assert!(web.shed_expired && !model.services["db"].shed_expired);
    let Step::Lookup(lookup) = &web.operations["get"].paths[0].steps[0] else { panic!("a lookup") };
    assert!(lookup.single_flight);
    let cache = &model.services["cache"];
    assert_eq!(cache.contention, Some(Contention::ArrivalRate { above: 300.0.into(), factor: 10.0.into() }));
    let autoscale = cache.autoscale.as_ref().expect("it has one");
    assert_eq!(
        [autoscale.every, autoscale.start_up, autoscale.down_after].map(|time| time.value.as_secs_f64()),
        [15.0, 0.0, 300.0]
    );
    assert_eq!(cache.health_check.as_ref().map(|check| check.up_after), Some(Nanos::ZERO.into()));
    assert_eq!(cache.cache.as_ref().and_then(|cache| cache.ttl), Some(Nanos::from_secs(60).into()));

    let edge = |from: &str, to: &str| &model.edges[&EdgeName::new(from, to)];
    assert_eq!(edge("users", "web").deadline, Some(Nanos::from_secs(2).into()));
    assert!(edge("users", "web").propagate_deadline && !edge("web", "db").propagate_deadline);
    assert_eq!(edge("web", "cache").hedge, Some(Hedge { after: ms(50).into(), attempts: 2.into() }));
    let unbounded = Some(Pool { connections: 8.into(), waiting: Limit::Unlimited.into() });
    assert_eq!((&edge("web", "cache").pool, &edge("web", "db").pool), (&unbounded, &unbounded));
    let trips = |from, to| edge(from, to).breaker.as_ref().map(|breaker| breaker.trips.clone());
    let share = |window| Some(Trips::Share { window, min_calls: 10.into(), threshold: 0.5.into() });
    assert_eq!(trips("web", "db"), share(BreakerWindow::Time((second * 10).into())));
    assert_eq!(trips("web", "mails"), share(BreakerWindow::Calls(20.into())));
    assert_eq!(trips("staff", "web"), Some(Trips::Consecutive(5.into())));

    let mails = &model.topics["mails"];
    assert_eq!((mails.partitions, mails.keys.count, mails.keys.zipf), (4.into(), 1000.into(), 1.0.into()));
    assert_eq!((mails.order, mails.full), (Order::PerKey, Full::DropOldest));
    assert!(mails.order_sensitive && !mails.idempotent);
}

#[test]
fn every_form_is_written_back_so_that_it_reads_well() {
    let text = write_model(&all());
    expect![[r#"
        # A Foreshock model. Every number may be bare, which means declared and certain, or { value, source, range };
        # a range is a 90 % interval that worlds draw from.
        version: 1
        workload:
          users:
            to: web.get
            open: {
              rate: 80/s, curve: { steps: { 0s: 1, 60s: 2.5 }, repeat: 120s },
              bursts: { every: 10s, lasting: 500ms, factor: 5 } }
            site: 1
          staff:
            to: web.get
            closed: { users: 100, think: { exponential: 1s } }
            site: 2
        services:
          web:
            replicas: 3
            workers: 8
            queue: unbounded
            mode: blocking
            shed_expired: true
            codel: { target: 5ms, interval: 100ms }
            adaptive_limit: { aimd: { latency: 100ms, backoff: 0.9 }, initial: 20, min: 1, max: 200 }
            contention: { in_progress: { add: 10ms } }
            autoscale: { target: 0.7, min: 2, max: 10, start_up: 10s }
            warm_up: { lasting: 10s, factor: 3 }
            health_check: { down_after: 5s, up_after: 2s }
            operations:
              get:
                paths:
                  - weight: 1
                    steps:
                      - lookup:
                          cache: { to: cache.get, site: 3 }
                          origin: { to: db.get, site: 4 }
                          single_flight: true
                      - publish: { to: mails, site: 5 }
          cache:
            workers: 1
            queue: unbounded
            mode: blocking
            adaptive_limit: { gradient: { tolerance: 1.5 }, initial: 20, min: 1, max: 200 }
            contention: { arrival_rate: { above: 300/s, factor: 10 } }
            autoscale: { target: 0.7, min: 1, max: 10 }
            health_check: { down_after: 5s }
            cache: { capacity: 100, keys: 1000, zipf: 1.1, ttl: 60s }
            operations:
              get:
                paths:
                  - weight: 1
                    steps: []
          db:
            workers: 1
            queue: unbounded
            mode: blocking
            operations:
              get:
                paths:
                  - weight: 1
                    steps: []
        edges:
          users->web:
            deadline: 2s
            propagate_deadline: true
          web->cache:
            hedge: { after: 50ms, attempts: 2 }
            max_in_flight: 32
            pool: { connections: 8, waiting: unbounded }
          web->db:
            pool: { connections: 8, waiting: unbounded }
            breaker: { window: 10s, min_calls: 10, threshold: 0.5, open: 1s, probes: 3 }
          staff->web:
            breaker: { consecutive: 5, open: 1s, probes: 1 }
          web->mails:
            breaker: { window: 20, min_calls: 10, threshold: 0.5, open: 1s, probes: 1 }
        topics:
          mails:
            consumer: db.get
            site: 6
            concurrency: 4
            partitions: 4
            keys: { count: 1000, zipf: 1 }
            order: per_key
            capacity: 1000
            full: drop_oldest
            order_sensitive: true
            idempotent: false
            redelivery_delay: 0s
            max_deliveries: 1
    "#]]
    .assert_eq(&text);
    assert_eq!(read_model("again.yaml", text.as_bytes()), Ok(all()));
}

#[test]
fn topics_keep_their_defaults_where_nothing_is_said() {
    let text = ALL.split("    partitions").next().expect("the first part");
    let model = read_model("short.yaml", text.as_bytes()).expect("it is a model");
    let mails = &model.topics["mails"];
    assert_eq!((mails.partitions, mails.order, mails.full), (1.into(), Order::None, Full::Reject));
    assert!(mails.idempotent && !mails.order_sensitive);
}

/// The model with this laid over, and what was said about it.
fn laid_over(known: &str) -> (Model, String) {
    let overlay = read_overlay("known.yaml", format!("version: 1\n{known}").as_bytes()).unwrap_or_else(|e| panic!("{e}"));
    let mut model = all();
    let said: Vec<String> = overlay.apply(&mut model).iter().map(ToString::to_string).collect();
    (model, said.join("\n"))
}

#[test]
fn what_is_known_changes_a_part_of_a_policy_and_leaves_the_rest() {
    let (model, said) = laid_over(
        "workload: { users: { open: { bursts: { factor: 7 }, curve: { repeat: 3min } } }, staff: { closed: { users: 50 } } }
services:
  web:
    codel: { target: 7ms }
    adaptive_limit: { aimd: { backoff: 0.5 }, max: 300 }
    autoscale: { max: 20 }
    contention: { arrival_rate: { above: 9/s, factor: 2 } }
    warm_up: none
  cache: { adaptive_limit: { initial: 10 }, cache: { ttl: none } }
edges:
  web->cache: { hedge: none, retry: { attempts: 2 }, pool: { waiting: 3 }, max_in_flight: none }
  staff->web: { breaker: { open: 9s } }
  web->db: { breaker: { consecutive: 3 } }
  web->mails: { breaker: { window: 5s } }
topics: { mails: { keys: { zipf: 0 }, order: none } }
",
    );
    assert_eq!(said, "");
    let users = &model.workload["users"];
    assert_eq!(users.bursts.as_ref().map(|b| (b.factor, b.every)), Some((7.0.into(), Nanos::from_secs(10).into())));
    assert_eq!(users.curve.as_ref().map(|c| (c.steps.len(), c.repeat)), Some((2, Some(Nanos::from_secs(180)))));
    assert_eq!(model.workload["staff"].rate, Param::declared(50.0));
    let web = &model.services["web"];
    assert_eq!(
        web.codel.as_ref().map(|c| (c.target, c.interval)),
        all().services["web"].codel.as_ref().map(|c| { (Nanos::from_millis(7).into(), c.interval) })
    );
    let limit = web.adaptive_limit.as_ref().expect("it stays");
    assert_eq!(limit.law, AdaptiveLaw::Aimd { latency: Nanos::from_millis(100).into(), backoff: 0.5.into() });
    assert_eq!((limit.initial, limit.max), (20.into(), 300.into()));
    assert_eq!(web.autoscale.as_ref().map(|a| (a.min, a.max)), Some((2.into(), 20.into())));
    assert!(matches!(web.contention, Some(Contention::ArrivalRate { .. })) && web.warm_up.is_none());
    let cache = &model.services["cache"];
    let law = cache.adaptive_limit.as_ref().map(|limit| &limit.law);
    assert_eq!(law, Some(&AdaptiveLaw::Gradient { tolerance: 1.5.into() }));
    assert_eq!(cache.cache.as_ref().map(|cache| (cache.ttl, cache.capacity)), Some((None, 100.into())));
    let edge = |from: &str, to: &str| &model.edges[&EdgeName::new(from, to)];
    let asked = edge("web", "cache");
    assert!(asked.hedge.is_none() && asked.retry.is_some() && asked.max_in_flight.is_none());
    assert_eq!(asked.pool, Some(Pool { connections: 8.into(), waiting: Limit::Of(3).into() }));
    let breaker = |from, to| edge(from, to).breaker.clone().expect("it has one");
    assert_eq!(
        (breaker("staff", "web").trips, breaker("staff", "web").open),
        (Trips::Consecutive(5.into()), Nanos::from_secs(9).into())
    );
    assert_eq!((breaker("web", "db").trips, breaker("web", "db").probes), (Trips::Consecutive(3.into()), 3.into()));
    let by_time = BreakerWindow::Time(Nanos::from_secs(5).into());
    assert_eq!(breaker("web", "mails").trips, Trips::Share { window: by_time, min_calls: 10.into(), threshold: 0.5.into() });
    let mails = &model.topics["mails"];
    assert_eq!((mails.keys.count, mails.keys.zipf, mails.order), (1000.into(), 0.0.into(), Order::None));
}

#[test]
fn an_overlay_turns_an_open_loop_into_a_closed_one_and_back() {
    let (model, said) =
        laid_over("workload: { users: { closed: { users: 40, think: { constant: 2s } } }, staff: { open: { rate: 5/s } } }\n");
    assert_eq!(said, "");
    let (users, staff) = (&model.workload["users"], &model.workload["staff"]);
    assert_eq!((users.rate, &users.curve, &users.bursts), (20.0.into(), &None, &None));
    assert_eq!((staff.rate, &staff.closed), (5.0.into(), &None));
}

/// What an overlay is told, laid over the model whose numbers come from traces.
fn against_traces(known: &str, want: Expect) {
    let learned = ALL
        .replace("rate: 80/s,", "rate: { value: 80/s, source: observed },")
        .replace("deadline: 2s,", "timeout: 1s, observed: { calls: 100, attempts: 100, p99_ms: 900 },");
    let mut model = read_model("learned.yaml", learned.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
    let overlay = read_overlay("known.yaml", format!("version: 1\n{known}").as_bytes()).unwrap_or_else(|e| panic!("{e}"));
    let said: Vec<String> = overlay.apply(&mut model).iter().map(ToString::to_string).collect();
    want.assert_eq(&said.join("\n"));
}

#[test]
fn what_the_traces_speak_against_is_said() {
    against_traces(
        "workload: { users: { closed: { users: 40, think: { constant: 2s } } } }\n",
        expect!["workload.users.closed: declared 40 users who think 2s, but the traces show 80/s, and these ask at most 20/s"],
    );
    against_traces("workload: { users: { closed: { users: 400, think: { constant: 2s } } } }\n", expect![""]);
    against_traces(
        "edges: { users->web: { deadline: 300ms } }\n",
        expect!["edges.users->web.deadline: declared 300ms, but 1 in 100 answers took 900ms or longer"],
    );
    against_traces("edges: { users->web: { deadline: 1s } }\n", expect![""]);
    against_traces(
        "edges: { web->cache: { retry: { attempts: 2 } } }\n",
        expect![
            "known.yaml:2: /edges/web->cache/hedge: not applied: found hedge beside retry, expected one of the two; a hedge tries again after a failure too: write retry: none, or hedge: none"
        ],
    );
    against_traces(
        "services: { web: { autoscale: { min: 5, max: 6 } } }\n",
        expect![
            "known.yaml:2: /services/web/replicas: not applied: found 3, expected from 5 to 6, where autoscale keeps it; write replicas: 5, what it starts with"
        ],
    );
}

#[test]
fn faults_of_every_kind_fit_the_model_and_are_written_back() {
    let text = "version: 1
scenarios:
  - id: edges
    faults:
      - { kind: latency, target: web->db, start: 1s, duration: 20s, ramp_up: 5s, ramp_down: 5s, magnitude: { distribution: { exponential: 50ms }, leg: both } }
      - { kind: partition, target: web->db, start: 1s, duration: 1s }
      - { kind: black_hole, target: web->cache, start: 1s, duration: 1s, magnitude: { leg: reply } }
      - { kind: packet_loss, target: web->db, start: 1s, duration: 1s, magnitude: { prob: 0.05 } }
      - { kind: loss, target: web->db, start: 1s, duration: 1s, magnitude: { probability: 0.05, retransmit: 1s } }
      - { kind: bandwidth, target: web->db, start: 1s, duration: 1s, magnitude: { bytes_per_s: 125000, request_bytes: 2000 } }
      - { kind: lower_timeout, target: web->db, start: 1s, duration: 1s, magnitude: { to: 50ms } }
  - id: services
    faults:
      - { kind: gc_pause, target: web, start: 1s, duration: 1s }
      - { kind: replicas_lost, target: web, start: 1s, duration: 1s, magnitude: { replicas: 2 } }
      - { kind: queue_shrunk, target: web, start: 1s, duration: 1s, magnitude: { to: 0 } }
      - { kind: leak, target: db, start: 1s, duration: 1s, magnitude: { growth: 0.05 } }
      - { kind: cold_restart, target: db, start: 2s, duration: 1s }
      - { kind: cache_flush, target: cache, start: 1s, duration: 1s }
      - { kind: flush, target: cache, start: 1s, duration: 1s, magnitude: { share: 0.5 } }
      - { kind: hit_ratio_drop, target: cache, start: 1s, duration: 1s, magnitude: { keep: 0.5 } }
  - id: topics
    faults:
      - { kind: duplicate, target: mails, start: 1s, duration: 1s, magnitude: { probability: 0.1 } }
      - { kind: message_loss, target: mails, start: 1s, duration: 1s, magnitude: { probability: 0.1 } }
      - { kind: slow_consumer, target: mails, start: 1s, duration: 1s, magnitude: { factor: 4 } }
      - { kind: poison, target: mails, start: 1s, duration: 1s, magnitude: { probability: 0.01 } }
  - id: entries
    faults:
      - { kind: step, target: users, start: 1s, duration: 1s, magnitude: { factor: 2 } }
      - { kind: reload, target: users, start: 1s, duration: 1s, magnitude: { after: 2s, attempts: 3 } }
";
    let model = all();
    let scenarios = read_checked("faults.yaml", text.as_bytes(), &model).unwrap_or_else(|errors| panic!("{errors}"));
    let written = write_scenarios(&scenarios);
    expect![[r#"
        version: 1
        scenarios:
          - id: edges
            faults:
              - {
                kind: latency, target: web->db, start: 1s, duration: 20s, ramp_up: 5s, ramp_down: 5s,
                magnitude: { add: 0s, distribution: { exponential: 50ms }, leg: both } }
              - { kind: black_hole, target: web->db, start: 1s, duration: 1s }
              - { kind: black_hole, target: web->cache, start: 1s, duration: 1s, magnitude: { leg: reply } }
              - { kind: loss, target: web->db, start: 1s, duration: 1s, magnitude: { probability: 0.05 } }
              - { kind: loss, target: web->db, start: 1s, duration: 1s, magnitude: { probability: 0.05, retransmit: 1s } }
              - {
                kind: bandwidth, target: web->db, start: 1s, duration: 1s,
                magnitude: { bytes_per_s: 125000, request_bytes: 2000 } }
              - { kind: timeout, target: web->db, start: 1s, duration: 1s, magnitude: { to: 50ms } }
          - id: services
            faults:
              - { kind: pause, target: web, start: 1s, duration: 1s }
              - { kind: replicas_lost, target: web, start: 1s, duration: 1s, magnitude: { replicas: 2 } }
              - { kind: queue_shrunk, target: web, start: 1s, duration: 1s, magnitude: { to: 0 } }
              - { kind: leak, target: db, start: 1s, duration: 1s, magnitude: { growth: 0.05 } }
              - { kind: crash, target: db, start: 2s, duration: 1s }
              - { kind: flush, target: cache, start: 1s, duration: 1s }
              - { kind: flush, target: cache, start: 1s, duration: 1s, magnitude: { share: 0.5 } }
              - { kind: hit_ratio_drop, target: cache, start: 1s, duration: 1s, magnitude: { keep: 0.5 } }
          - id: topics
            faults:
              - { kind: duplicate, target: mails, start: 1s, duration: 1s, magnitude: { probability: 0.1 } }
              - { kind: message_loss, target: mails, start: 1s, duration: 1s, magnitude: { probability: 0.1 } }
              - { kind: slow_consumer, target: mails, start: 1s, duration: 1s, magnitude: { factor: 4 } }
              - { kind: poison, target: mails, start: 1s, duration: 1s, magnitude: { probability: 0.01 } }
          - id: entries
            faults:
              - { kind: surge, target: users, start: 1s, duration: 1s, magnitude: { factor: 2 } }
              - { kind: reload, target: users, start: 1s, duration: 1s, magnitude: { after: 2s, attempts: 3 } }
    "#]]
    .assert_eq(&written);
    assert_eq!(read_checked("again.yaml", written.as_bytes(), &model), Ok(scenarios));
}
