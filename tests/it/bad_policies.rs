//! What people are told about policies, resources and workloads that cannot be: every text as it stands on the screen.

use expect_test::{Expect, expect};
use models::format::read_model;

/// A service, an edge and a topic, with what is said of them.
fn model(entry: &str, service: &str, edge: &str, topic: &str) -> Result<models::system::Model, String> {
    let text = format!(
        "version: 1
workload: {{ users: {{ to: s.op, {entry} }} }}
services:
  s:
    workers: 4
{service}
    operations: {{ op: {{ paths: [{{ steps: [{{ publish: t }}] }}] }} }}
  c: {{ operations: {{ op: {{ paths: [{{ steps: [] }}] }} }} }}
edges:
  users->s: {{ timeout: 1s }}
{edge}
topics:
  t: {{ consumer: c.op, concurrency: 2, {topic} }}
"
    );
    read_model("model.yaml", text.as_bytes()).map_err(|errors| errors.to_string())
}

fn entry(text: &str, want: Expect) {
    want.assert_eq(&model(text, "", "", "").expect_err(text));
}

fn service(text: &str, want: Expect) {
    want.assert_eq(&model("open: { rate: 80/s }", &format!("    {text}"), "", "").expect_err(text));
}

fn edge(text: &str, want: Expect) {
    want.assert_eq(&model("open: { rate: 80/s }", "", &format!("  s->t: {{ {text} }}"), "").expect_err(text));
}

fn topic(text: &str, want: Expect) {
    want.assert_eq(&model("open: { rate: 80/s }", "", "", text).expect_err(text));
}

#[test]
fn an_entry_is_an_open_loop_or_a_closed_one() {
    entry(
        "site: 7",
        expect![[r#"
        error: model.yaml:2: /workload/users
          found:    none of them
          expected: exactly one of open, closed
          help:     write open: { rate: 80/s }, or closed: { users: 100, think: { exponential: 1s } }"#]],
    );
    entry(
        "open: { rate: 80/s }, closed: { users: 10, think: { exponential: 1s } }",
        expect![[r#"
        error: model.yaml:2: /workload/users
          found:    2 of them
          expected: exactly one of open, closed
          help:     write open: { rate: 80/s }, or closed: { users: 100, think: { exponential: 1s } }"#]],
    );
    entry(
        "closed: { users: 10 }",
        expect![[r#"
        error: model.yaml:2: /workload/users/closed
          found:    no think
          expected: think: time between an answer and the next request, such as { exponential: 1s }"#]],
    );
    entry(
        "closed: { users: 0, think: { constant: 1s } }",
        expect![[r#"
        error: model.yaml:2: /workload/users/closed/users
          found:    0
          expected: a number of users from 1 to 1000000"#]],
    );
    entry(
        "closed: { users: 2000000, think: { constant: 1s } }",
        expect![[r#"
        error: model.yaml:2: /workload/users/closed/users
          found:    2000000
          expected: a number of users from 1 to 1000000"#]],
    );
    entry(
        "closed: { users: 20000, think: { constant: 0s } }",
        expect![[r#"
        error: model.yaml:2: /workload/users/closed
          found:    20000 users who think 0s on average
          expected: at most 10000000/s, users / think time
          help:     write fewer users or a longer think time; 0s counts as 1ms here"#]],
    );
    entry(
        "closed: { users: 20000, think: { exponential: 4ms, range: [0.1, 1] } }",
        expect![[r#"
        error: model.yaml:2: /workload/users/closed
          found:    20000 users who think 4ms on average
          expected: at most 10000000/s, users / think time
          help:     write fewer users or a longer think time; 0s counts as 1ms here"#]],
    );
    assert!(model("closed: { users: 100, think: { constant: 0s } }", "", "", "").is_ok(), "users may ask again at once");
}

#[test]
fn curves_rise_in_time_and_bursts_end() {
    entry(
        "open: { rate: 80/s, curve: { steps: {} } }",
        expect![[r#"
        error: model.yaml:2: /workload/users/open/curve/steps
          found:    no step
          expected: at least one step
          help:     write steps: { 0s: 1, 60s: 2.5 }"#]],
    );
    entry(
        "open: { rate: 80/s, curve: { steps: { 5s: 1, 3s: 2, noon: 4 } } }",
        expect![[r#"
        error: model.yaml:2: /workload/users/open/curve/steps/noon
          found:    noon
          expected: a time with its unit and the factor on the rate from then on: 60s: 2.5"#]],
    );
    entry(
        "open: { rate: 80/s, curve: { steps: { 5s: 1, 3s: 2 }, repeat: 2s } }",
        expect![[r#"
        error: model.yaml:2: /workload/users/open/curve/steps
          found:    a first step at 5s
          expected: a first step at 0s
          help:     write 0s: 1 for the rate as it is
        error: model.yaml:2: /workload/users/open/curve/steps
          found:    3s after 5s
          expected: times that rise
        error: model.yaml:2: /workload/users/open/curve/repeat
          found:    2s
          expected: more than 3s, where its last step begins, and at least 1ms"#]],
    );
    entry(
        "open: { rate: 80/s, bursts: { every: 10s, lasting: 10s, factor: 5 } }",
        expect![[r#"
        error: model.yaml:2: /workload/users/open/bursts/lasting
          found:    10s
          expected: less than 10s, the time from burst to burst"#]],
    );
    entry(
        "open: { rate: 80/s, bursts: { every: { value: 10s, range: [5s, 20s] }, lasting: { value: 1s, range: [1s, 6s] }, factor: 5 } }",
        expect![[r#"
            error: model.yaml:2: /workload/users/open/bursts/lasting
              found:    6s at the upper end of its range
              expected: less than 5s, the least that the time from burst to burst may be
              help:     let the two ranges not overlap"#]],
    );
    entry(
        "open: { rate: 80/s, bursts: { every: 0s, lasting: 0s, factor: 5 } }",
        expect![[r#"
        error: model.yaml:2: /workload/users/open/bursts/every
          found:    0s
          expected: at least 1ms from burst to burst
        error: model.yaml:2: /workload/users/open/bursts/lasting
          found:    0s
          expected: a duration above 0"#]],
    );
}

#[test]
fn rates_that_no_engine_can_simulate_are_refused_with_the_bound() {
    entry(
        "open: { rate: 20000000/s }",
        expect![[r#"
        error: model.yaml:2: /workload/users/open/rate
          found:    20000000/s
          expected: at most 10000000/s, so that a run comes to an end
          help:     rehearse a part of the system, or fewer users"#]],
    );
    entry(
        "open: { rate: { value: 1000/s, range: [1/s, 10000001/s] } }",
        expect![[r#"
        error: model.yaml:2: /workload/users/open/rate
          found:    10000001/s
          expected: at most 10000000/s, so that a run comes to an end
          help:     rehearse a part of the system, or fewer users"#]],
    );
    entry(
        "open: { rate: 3000000/s, curve: { steps: { 0s: 1, 60s: 2 } }, bursts: { every: 10s, lasting: 1s, factor: 2 } }",
        expect![[r#"
            error: model.yaml:2: /workload/users/open
              found:    12000000/s at its peak
              expected: at most 10000000/s, so that a run comes to an end
              help:     rehearse a part of the system, or fewer users"#]],
    );
}

#[test]
fn services_with_impossible_resources() {
    service(
        "codel: { target: 5ms }",
        expect![[r#"
        error: model.yaml:6: /services/s/codel
          found:    no interval
          expected: interval: how long it may be exceeded, such as 100ms"#]],
    );
    service(
        "codel: { target: 0s, interval: 100ms }",
        expect![[r#"
        error: model.yaml:6: /services/s/codel/target
          found:    0s
          expected: a duration above 0"#]],
    );
    service(
        "adaptive_limit: { initial: 20, min: 1, max: 200 }",
        expect![[r#"
        error: model.yaml:6: /services/s/adaptive_limit
          found:    none of them
          expected: exactly one of aimd, gradient
          help:     write aimd: { latency: 100ms, backoff: 0.9 }, or gradient: { tolerance: 1.5 }"#]],
    );
    service(
        "adaptive_limit: { aimd: { latency: 100ms, backoff: 0.9 }, gradient: { tolerance: 2 }, initial: 20, min: 1, max: 200 }",
        expect![[r#"
            error: model.yaml:6: /services/s/adaptive_limit
              found:    2 of them
              expected: exactly one of aimd, gradient
              help:     write aimd: { latency: 100ms, backoff: 0.9 }, or gradient: { tolerance: 1.5 }"#]],
    );
    service(
        "adaptive_limit: { aimd: { latency: 100ms, backoff: 1 }, initial: 20, min: 30, max: 10 }",
        expect![[r#"
        error: model.yaml:6: /services/s/adaptive_limit/aimd/backoff
          found:    1
          expected: a factor above 0 and below 1
        error: model.yaml:6: /services/s/adaptive_limit/min
          found:    30
          expected: at most 20, its limit at the start
        error: model.yaml:6: /services/s/adaptive_limit/initial
          found:    20
          expected: at most 10, its greatest limit"#]],
    );
    service(
        "adaptive_limit: { gradient: { tolerance: 0.5 }, initial: { value: 20, range: [10, 50] }, min: 1, max: { value: 99, range: [40, 99] } }",
        expect![[r#"
            error: model.yaml:6: /services/s/adaptive_limit/gradient/tolerance
              found:    0.5
              expected: a factor of 1 or more
            error: model.yaml:6: /services/s/adaptive_limit/initial
              found:    50 at the upper end of its range
              expected: at most 40, the least that its greatest limit may be
              help:     let the two ranges not overlap"#]],
    );
    service(
        "contention: { in_progress: { add: 10ms }, arrival_rate: { above: 300/s, factor: 10 } }",
        expect![[r#"
        error: model.yaml:6: /services/s/contention
          found:    2 of them
          expected: exactly one of in_progress, arrival_rate
          help:     write in_progress: { add: 10ms }, or arrival_rate: { above: 300/s, factor: 10 }"#]],
    );
    service(
        "contention: { arrival_rate: { above: 300, factor: 0.5 } }",
        expect![[r#"
        error: model.yaml:6: /services/s/contention/arrival_rate/above
          found:    300
          expected: a rate that says per what: 80/s, 5/min or 100/h
          help:     write 300/s if these are per second"#]],
    );
    service(
        "contention: { arrival_rate: { above: 300/s, factor: 0.5 } }",
        expect![[r#"
        error: model.yaml:6: /services/s/contention/arrival_rate/factor
          found:    0.5
          expected: a factor of 1 or more"#]],
    );
    service(
        "autoscale: { target: 0.7, min: 2, max: 10 }",
        expect![[r#"
        error: model.yaml:4: /services/s/replicas
          found:    1
          expected: from 2 to 10, where autoscale keeps it
          help:     write replicas: 2, what it starts with"#]],
    );
    service(
        "autoscale: { target: 0, min: 4, max: 2, every: 0s }",
        expect![[r#"
        error: model.yaml:6: /services/s/autoscale/target
          found:    0
          expected: a share above 0 and up to 1
        error: model.yaml:6: /services/s/autoscale/min
          found:    4
          expected: at most 2, the most replicas
        error: model.yaml:6: /services/s/autoscale/every
          found:    0s
          expected: at least 1ms between two looks"#]],
    );
    service(
        "warm_up: { lasting: 0s, factor: 0.5 }",
        expect![[r#"
        error: model.yaml:6: /services/s/warm_up/lasting
          found:    0s
          expected: a duration above 0
        error: model.yaml:6: /services/s/warm_up/factor
          found:    0.5
          expected: a factor of 1 or more"#]],
    );
    service(
        "health_check: { up_after: 1s }",
        expect![[r#"
        error: model.yaml:6: /services/s/health_check
          found:    no down_after
          expected: down_after: how long a replica that is down is still chosen"#]],
    );
    service(
        "cache: { capacity: 10, keys: 10, ttl: 0s }",
        expect![[r#"
        error: model.yaml:6: /services/s/cache/ttl
          found:    0s
          expected: a duration above 0, or none"#]],
    );
    let unlimited = "version: 1
workload: { users: { to: s.op, open: { rate: 80/s } } }
services:
  s:
    workers: unlimited
    autoscale: { target: 0.7, min: 1, max: 10 }
    operations: { op: { paths: [{ steps: [] }] } }
";
    expect![[r#"
        error: model.yaml:5: /services/s/workers
          found:    unlimited
          expected: a bound of workers: autoscale follows the busy share of them"#]]
    .assert_eq(&read_model("model.yaml", unlimited.as_bytes()).expect_err("no bound").to_string());
}

#[test]
fn policies_that_cannot_be_kept() {
    edge(
        "deadline: 0s",
        expect![[r#"
        error: model.yaml:11: /edges/s->t/deadline
          found:    0s
          expected: a duration above 0, or none"#]],
    );
    edge(
        "hedge: { after: 50ms, attempts: 2 }, retry: { attempts: 3 }",
        expect![[r#"
        error: model.yaml:11: /edges/s->t/hedge
          found:    hedge beside retry
          expected: one of the two
          help:     a hedge tries again after a failure too: write retry: none, or hedge: none"#]],
    );
    edge(
        "hedge: { after: 50ms, attempts: 1 }",
        expect![[r#"
        error: model.yaml:11: /edges/s->t/hedge/attempts
          found:    1
          expected: tries in all, the first included: from 2 to 1000"#]],
    );
    edge(
        "max_in_flight: 0",
        expect![[r#"
        error: model.yaml:11: /edges/s->t/max_in_flight
          found:    0
          expected: at least 1 call at once, or none for no bound"#]],
    );
    edge(
        "pool: { connections: 0 }",
        expect![[r#"
        error: model.yaml:11: /edges/s->t/pool/connections
          found:    0
          expected: at least 1 connection, or pool: none"#]],
    );
    edge(
        "pool: { waiting: 3 }",
        expect![[r#"
        error: model.yaml:11: /edges/s->t/pool
          found:    no connections
          expected: connections: how many, each for one try at a time"#]],
    );
    edge(
        "breaker: { consecutive: 5, window: 20, open: 1s }",
        expect![[r#"
        error: model.yaml:11: /edges/s->t/breaker/consecutive
          found:    consecutive beside window
          expected: consecutive alone, or window, min_calls and threshold"#]],
    );
    edge(
        "breaker: { consecutive: 0, open: 1s }",
        expect![[r#"
        error: model.yaml:11: /edges/s->t/breaker/consecutive
          found:    0
          expected: at least 1 failure"#]],
    );
    edge(
        "breaker: { window: soon, min_calls: 1, threshold: 0.5, open: 1s }",
        expect![[r#"
        error: model.yaml:11: /edges/s->t/breaker/window
          found:    soon
          expected: a number of tries such as 20, or a time such as 10s"#]],
    );
    edge(
        "breaker: { window: 10, min_calls: 11, threshold: 0.5, open: 1s }",
        expect![[r#"
        error: model.yaml:11: /edges/s->t/breaker/min_calls
          found:    11
          expected: at most 10, the window"#]],
    );
    edge(
        "breaker: { window: 1us, min_calls: 1, threshold: 0.5, open: 1s }",
        expect![[r#"
        error: model.yaml:11: /edges/s->t/breaker/window
          found:    1us
          expected: at least 1ms"#]],
    );
    edge(
        "breaker: { open: 1s }",
        expect![[r#"
        error: model.yaml:11: /edges/s->t/breaker
          found:    no window
          expected: window: tries or time remembered
        error: model.yaml:11: /edges/s->t/breaker
          found:    no min_calls
          expected: min_calls: tries before it may open
        error: model.yaml:11: /edges/s->t/breaker
          found:    no threshold
          expected: threshold: failed share that opens it"#]],
    );
}

#[test]
fn topics_that_cannot_be() {
    topic(
        "partitions: 0",
        expect![[r#"
        error: model.yaml:13: /topics/t/partitions
          found:    0
          expected: a number of partitions from 1 to 10000"#]],
    );
    topic(
        "partitions: 10001, keys: { count: 10000001 }",
        expect![[r#"
        error: model.yaml:13: /topics/t/partitions
          found:    10001
          expected: a number of partitions from 1 to 10000
        error: model.yaml:13: /topics/t/keys/count
          found:    10000001
          expected: a number of keys from 1 to 10000000"#]],
    );
    topic(
        "order: per_kye, full: drop",
        expect![[r#"
        error: model.yaml:13: /topics/t/order
          found:    per_kye
          expected: none or per_key
          help:     did you mean per_key?
        error: model.yaml:13: /topics/t/full
          found:    drop
          expected: reject or block or drop_oldest"#]],
    );
    topic(
        "full: block, capacity: 0",
        expect![[r#"
        error: model.yaml:13: /topics/t/capacity
          found:    0
          expected: at least 1 place, which full: block waits for"#]],
    );
    topic(
        "full: drop_oldest, capacity: { value: 10, range: [0, 20] }",
        expect![[r#"
        error: model.yaml:13: /topics/t/capacity
          found:    0
          expected: at least 1 place, which full: drop_oldest empties"#]],
    );
    topic(
        "order_sensitive: yes",
        expect![[r#"
        error: model.yaml:13: /topics/t/order_sensitive
          found:    yes
          expected: true or false"#]],
    );
    topic(
        "key: { count: 10 }",
        expect![[r#"
        error: model.yaml:13: /topics/t/key
          found:    unknown key key
          expected: one of consumer, site, concurrency, partitions, keys, order, capacity, full, order_sensitive, idempotent, redelivery_delay, max_deliveries, accept, observed
          help:     did you mean keys?"#]],
    );
}
