//! Topics: partitions and order, full topics, redelivery and dead letters; the two wrongs that no error rate shows.

use models::system::Model;

use crate::story::{agrees, does, fault, figure, model, peak, run, runs, sum};

const UNIT_MS: f64 = 10.0;

/// `app` (unlimited) publishes each of its `rate` requests a second; `consumer` (unlimited) handles messages with `work`.
fn publishing(rate: u32, topic: &str, work: &str) -> Model {
    model(&format!(
        "version: 1
workload: {{ users: {{ to: app.op, open: {{ rate: {rate}/s }} }} }}
services:
  app: {{ workers: unlimited, {} }}
  consumer: {{ workers: unlimited, {} }}
topics: {{ t: {{ consumer: consumer.op, {topic} }} }}
",
        does("op", "{ publish: { to: t, on_failure: fail } }"),
        does("op", work)
    ))
}

const WORK: &str = "{ work: { exponential: 10ms } }";

/// Where order is promised a partition has one delivery at a time: with keys alike, four partitions are four M/M/1.
#[test]
fn an_ordered_partition_is_a_queue_of_its_own() {
    let m = publishing(280, "concurrency: 100, partitions: 4, keys: { count: 1000 }, order: per_key", WORK);
    let runs = runs(&m, 800, 20);
    let quantile = |p: f64| -libm::log(1.0 - p) / 0.3;
    agrees("median", quantile(0.5), 0.01, 0.1, |s| runs.of(s).topics["t"].p50_ms / UNIT_MS);
    agrees("p99", quantile(0.99), 0.01, 0.15, |s| runs.of(s).topics["t"].p99_ms / UNIT_MS);
    // All about one thing: one partition, which 280/s are far too much for.
    let one = publishing(280, "concurrency: 100, partitions: 4, keys: { count: 1 }, order: per_key", WORK);
    assert!(run(&one, None, 1, 20, 0).topics["t"].queue_peak > 2_000);
    // And with as few deliveries at once as partitions, without order: M/M/4.
    let free = publishing(280, "concurrency: 4, partitions: 4", WORK);
    assert!(run(&free, None, 1, 20, 0).topics["t"].p99_ms < 100.0);
}

/// One key, every message handled at once: a message is stale if a later one has been applied before it. Given that it took s, the later ones
/// that have overtaken it are Poisson with mean lambda (s - 1 + exp(-s)).
#[test]
fn an_older_update_after_a_newer_one_is_a_stale_write() {
    let lambda = 0.8;
    let stale: f64 = (0..20_000)
        .map(|i| (f64::from(i) + 0.5) * 0.001)
        .map(|s| libm::exp(-s) * (1.0 - libm::exp(-lambda * (s - 1.0 + libm::exp(-s)))) * 0.001)
        .sum();
    let topic =
        |order: &str| publishing(80, &format!("concurrency: 1000, keys: {{ count: 1 }}, order_sensitive: true{order}"), WORK);
    let runs = runs(&topic(""), 600, 5);
    agrees("stale", stale, 0.0, 0.05, |s| {
        figure(&runs.of(s).topics["t"], "stale_writes") / runs.of(s).topics["t"].requests as f64
    });
    // In order there are none; and where order does not matter none are counted.
    let ordered = run(&topic(", order: per_key"), None, 1, 60, 0);
    assert_eq!(figure(&ordered.topics["t"], "stale_writes"), 0.0);
    let careless = publishing(80, "concurrency: 1000, keys: { count: 1 }", WORK);
    assert_eq!(figure(&run(&careless, None, 1, 60, 0).topics["t"], "stale_writes"), 0.0);
}

/// Messages of other keys do not make a write stale.
#[test]
fn popular_keys_have_more_stale_writes() {
    let stale = |keys: &str| {
        let m = publishing(80, &format!("concurrency: 1000, keys: {keys}, order_sensitive: true"), WORK);
        figure(&run(&m, None, 1, 300, 0).topics["t"], "stale_writes")
    };
    let (alike, skewed, one) = (stale("{ count: 1000 }"), stale("{ count: 1000, zipf: 1.2 }"), stale("{ count: 1 }"));
    assert!(alike < 50.0 && skewed > 5.0 * alike.max(10.0) && one > 3.0 * skewed, "{alike}, {skewed}, {one}");
}

#[test]
fn reordering_makes_stale_writes_unless_order_is_promised() {
    let stale = |order: &str, kind: &str| {
        let topic = format!("concurrency: 4, partitions: 4, keys: {{ count: 20 }}, order_sensitive: true, order: {order}");
        let m = publishing(100, &topic, "{ work: { constant: 1ms } }");
        let calm = figure(&run(&m, None, 1, 40, 0).topics["t"], "stale_writes");
        (calm, figure(&run(&m, Some(&fault(kind)), 1, 40, 0).topics["t"], "stale_writes"))
    };
    let reorder = "kind: reorder, target: t, magnitude: { probability: 0.2, within: 2s }";
    let jitter = "kind: delay, target: t, magnitude: { jitter: 2s }";
    for kind in [reorder, jitter] {
        let (calm, hurt) = stale("none", kind);
        assert!(calm == 0.0 && hurt > 100.0, "{kind}: {calm}, {hurt}");
        assert_eq!(stale("per_key", kind), (0.0, 0.0), "{kind}: a message that is held holds those behind it");
    }
}

#[test]
fn a_failed_delivery_is_tried_again_before_the_others_of_its_partition() {
    let with = |order: &str| {
        let m = model(&format!(
            "version: 1
workload: {{ users: {{ to: app.op, open: {{ rate: 50/s }} }} }}
services:
  app: {{ workers: unlimited, {} }}
  consumer: {{ workers: unlimited, operations: {{ op: {{ error_rate: 0.3, paths: [ {{ steps: [ {{ work: {{ constant: 1ms }} }} ] }} ] }} }} }}
topics:
  t: {{ consumer: consumer.op, concurrency: 100, partitions: 8, keys: {{ count: 8 }}, order: {order}, order_sensitive: true, max_deliveries: 20, redelivery_delay: 20ms }}
",
            does("op", "{ publish: t }")
        ));
        run(&m, None, 1, 120, 0)
    };
    let result = with("per_key");
    let topic = &result.topics["t"];
    assert_eq!((figure(topic, "stale_writes"), figure(topic, "dead_letters"), topic.errors), (0.0, 0.0, 0));
    // 0.3 / 0.7 deliveries more than messages.
    assert!((figure(topic, "redelivered") / topic.requests as f64 - 0.4286).abs() < 0.03, "{}", figure(topic, "redelivered"));
    // Without order a message that failed is overtaken meanwhile.
    assert!(figure(&with("none").topics["t"], "stale_writes") > 100.0);
}

#[test]
fn a_second_application_is_a_duplicate_effect_unless_it_does_not_matter() {
    let duplicate = fault("kind: duplicate, target: t, magnitude: { probability: 0.4 }");
    let effects = |idempotent: bool| {
        let m = publishing(100, &format!("concurrency: 100, idempotent: {idempotent}"), WORK);
        let calm = figure(&run(&m, None, 1, 40, 0).topics["t"], "duplicate_effects");
        (calm, figure(&run(&m, Some(&duplicate), 1, 40, 0).topics["t"], "duplicate_effects"))
    };
    // 1000 +- 32 messages, of which 40 %: 400 +- 20; five standard deviations.
    let (calm, hurt) = effects(false);
    assert!(calm == 0.0 && (300.0..=500.0).contains(&hurt), "{calm}, {hurt}");
    assert_eq!(effects(true), (0.0, 0.0));
}

#[test]
fn an_acknowledgement_that_comes_too_late_is_a_duplicate_in_the_making() {
    // Work of 50 ms, an ack deadline of 30 ms, three deliveries: the broker gives up on every message, and each was applied three times.
    let mut m = publishing(20, "concurrency: 1000, idempotent: false, max_deliveries: 3", "{ work: { constant: 50ms } }");
    let late = models::system::Edge { timeout: Some(models::units::Nanos::from_millis(30).into()), ..Default::default() };
    m.edges.insert(models::system::EdgeName::new("t", "consumer"), late.clone());
    let result = run(&m, None, 1, 60, 0);
    let topic = &result.topics["t"];
    assert_eq!(topic.errors, topic.requests);
    assert_eq!(figure(topic, "dead_letters"), topic.requests as f64);
    let twice = figure(topic, "duplicate_effects") / topic.requests as f64;
    assert!((twice - 2.0).abs() < 0.02, "{twice}");
    // A consumer that stops when its caller has gone applies nothing.
    m.services["consumer"].cancel_on_disconnect = true;
    assert_eq!(figure(&run(&m, None, 1, 60, 0).topics["t"], "duplicate_effects"), 0.0);
}

/// 100/s published, 50/s handled, ten places.
fn full(policy: &str, users: &str) -> Model {
    model(&format!(
        "version: 1
workload: {{ users: {{ to: app.op, {users} }} }}
services:
  app: {{ workers: unlimited, {} }}
  consumer: {{ workers: unlimited, {} }}
topics: {{ t: {{ consumer: consumer.op, concurrency: 1, capacity: 10, full: {policy} }} }}
",
        does("op", "{ publish: { to: t, on_failure: fail } }"),
        does("op", "{ work: { constant: 20ms } }")
    ))
}

#[test]
fn a_full_topic_rejects_blocks_or_drops_its_oldest() {
    let open = "open: { rate: 100/s }";
    let rejects = run(&full("reject", open), None, 1, 60, 10);
    assert!((rejects.entries["users"].error_rate - 0.5).abs() < 0.03, "{}", rejects.entries["users"].error_rate);
    assert_eq!(rejects.boundaries["app->t"].failed_attempts.overload, rejects.boundaries["app->t"].errors);
    assert_eq!(rejects.topics["t"].queue_peak, 10);

    let drops = run(&full("drop_oldest", open), None, 1, 60, 10);
    assert_eq!(drops.entries["users"].errors, 0);
    let topic = &drops.topics["t"];
    assert!(
        (topic.errors as f64 / topic.requests as f64 - 0.5).abs() < 0.03,
        "half are dropped: {} of {}",
        topic.errors,
        topic.requests
    );
    assert!(topic.p99_ms <= 260.0, "and what is delivered is young: {}", topic.p99_ms);

    // Twenty users who wait until there is a place: 50/s, and nobody fails. Ten messages wait, one is handled, nine users wait.
    let blocks = run(&full("block", "closed: { users: 20, think: { constant: 1ms } }"), None, 1, 60, 10);
    let users = &blocks.entries["users"];
    assert!(users.errors == 0 && (users.requests as f64 / 50.0 - 50.0).abs() < 0.5, "{users:?}");
    assert!((users.mean_ms - 399.0).abs() < 5.0, "twenty users at 50/s, 1 ms of which is thought: {}", users.mean_ms);
    // A publish's timeout runs while it waits.
    let mut impatient = full("block", open);
    let edge = models::system::Edge { timeout: Some(models::units::Nanos::from_millis(100).into()), ..Default::default() };
    impatient.edges.insert(models::system::EdgeName::new("app", "t"), edge);
    let users = &run(&impatient, None, 1, 60, 10).entries["users"];
    assert!((users.error_rate - 0.5).abs() < 0.03, "{}", users.error_rate);
    assert!(users.failed_attempts.timeout == 0 && users.failed_attempts.error > 1_000);
}

#[test]
fn a_stalled_ordered_topic_loses_nothing() {
    let m = publishing(50, "concurrency: 8, partitions: 8, order: per_key, order_sensitive: true", WORK);
    let result = run(&m, Some(&fault("kind: consumer_stall, target: t")), 1, 60, 0);
    let topic = &result.topics["t"];
    let series = result.series.as_ref().expect("asked for");
    assert!(peak(&series.nodes["t"].queue, 10, 21) > 400.0);
    assert!(u64::from(sum(&series.nodes["t"].ended, 0, 60)) == topic.requests && topic.errors == 0);
    assert!(result.entries["users"].requests - topic.requests < 5, "all have been delivered");
    assert_eq!(figure(topic, "stale_writes"), 0.0);
}
