//! What people are told about a file that is wrong: every text as it stands on the screen.

use expect_test::{Expect, expect};
use models::format::{read_model, read_overlay};
use scenarios::format::read_checked;

fn model(text: &str, want: Expect) {
    want.assert_eq(&read_model("model.yaml", text.as_bytes()).expect_err("it is wrong").to_string());
}

/// `change`d in one place, the M/M/1 model.
fn mm1(from: &str, to: &str, want: Expect) {
    let right = "version: 1
workload: { users: { to: s.op, open: { rate: 80/s } } }
services:
  s:
    workers: 1
    operations:
      op:
        error_rate: 0.01
        paths:
          - steps:
              - work: { exponential: 10ms }
edges:
  users->s: { timeout: 800ms }
";
    assert!(right.contains(from), "nothing to change");
    model(&right.replace(from, to), want);
}

#[test]
fn unknown_keys() {
    mm1(
        "workers: 1",
        "wrokers: 1",
        expect![[r#"
            error: model.yaml:5: /services/s/wrokers
              found:    unknown key wrokers
              expected: one of replicas, workers, queue, discipline, mode, balance, cancel_on_disconnect, shed_expired, codel, adaptive_limit, contention, autoscale, warm_up, health_check, cache, operations, observed
              help:     did you mean workers?"#]],
    );
    mm1(
        "exponential: 10ms",
        "exponental: 10ms",
        expect![[r#"
        error: model.yaml:11: /services/s/operations/op/paths/0/steps/0/work/exponental
          found:    unknown key exponental
          expected: one of constant, exponential, lognormal, quantiles, source, range
          help:     did you mean exponential?
        error: model.yaml:11: /services/s/operations/op/paths/0/steps/0/work
          found:    no distribution
          expected: exactly one of constant, exponential, lognormal, quantiles"#]],
    );
}

#[test]
fn durations_and_rates() {
    mm1(
        "800ms",
        "800",
        expect![[r#"
        error: model.yaml:13: /edges/users->s/timeout
          found:    800
          expected: a duration with a unit: ns, us, ms, s, min or h
          help:     write timeout: 800ms if these are milliseconds"#]],
    );
    mm1(
        "800ms",
        "-800ms",
        expect![[r#"
        error: model.yaml:13: /edges/users->s/timeout
          found:    -800ms
          expected: a duration that is not negative"#]],
    );
    mm1(
        "800ms",
        "0s",
        expect![[r#"
        error: model.yaml:13: /edges/users->s/timeout
          found:    0s
          expected: a duration above 0, or none"#]],
    );
    mm1(
        "80/s",
        "80",
        expect![[r#"
        error: model.yaml:2: /workload/users/open/rate
          found:    80
          expected: a rate that says per what: 80/s, 5/min or 100/h
          help:     write 80/s if these are per second"#]],
    );
}

#[test]
fn numbers() {
    mm1(
        "workers: 1",
        "workers: 0",
        expect![[r#"
        error: model.yaml:5: /services/s/workers
          found:    0
          expected: at least 1 worker, or unlimited"#]],
    );
    mm1(
        "workers: 1",
        "workers: many",
        expect![[r#"
        error: model.yaml:5: /services/s/workers
          found:    many
          expected: a whole number, or unlimited"#]],
    );
    mm1(
        "workers: 1",
        "workers: \"1\"",
        expect![[r#"
        error: model.yaml:5: /services/s/workers
          found:    "1"
          expected: a whole number, or unlimited
          help:     write it without quotes"#]],
    );
    mm1(
        "0.01",
        "1.5",
        expect![[r#"
            error: model.yaml:8: /services/s/operations/op/error_rate
              found:    1.5
              expected: a share between 0 and 1"#]],
    );
    mm1(
        "0.01",
        "25%",
        expect![[r#"
        error: model.yaml:8: /services/s/operations/op/error_rate
          found:    25%
          expected: a share between 0 and 1
          help:     25 % is 0.25"#]],
    );
    mm1(
        "0.01",
        "{ value: 0.5, range: [0.1, 0.2] }",
        expect![[r#"
        error: model.yaml:8: /services/s/operations/op/error_rate
          found:    0.5, outside of its range [0.1, 0.2]
          expected: a value inside its range
          help:     widen the range, or leave it away if the value is certain"#]],
    );
    mm1(
        "0.01",
        "{ value: 0.1, range: [0.1] }",
        expect![[r#"
            error: model.yaml:8: /services/s/operations/op/error_rate/range
              found:    a list of 1
              expected: [low, high]: the two ends of a 90 % interval"#]],
    );
}

#[test]
fn names() {
    mm1(
        "s.op,",
        "s.oq,",
        expect![[r#"
        error: model.yaml:2: /workload/users/to
          found:    s.oq
          expected: an operation that s has
          help:     did you mean s.op?"#]],
    );
    mm1(
        "users->s:",
        "user->s:",
        expect![[r#"
        error: model.yaml:13: /edges/user->s
          found:    user
          expected: a caller that exists: an entry, service or topic
          help:     did you mean users?"#]],
    );
    mm1(
        "users->s:",
        "users:",
        expect![[r#"
        error: model.yaml:13: /edges/users
          found:    users
          expected: an edge: caller->callee"#]],
    );
    mm1(
        "- work: { exponential: 10ms }",
        "- publish: mails",
        expect![[r#"
        error: model.yaml:11: /services/s/operations/op/paths/0/steps/0/publish
          found:    mails
          expected: a topic that exists"#]],
    );
}

#[test]
fn requests_that_never_end() {
    mm1(
        "- work: { exponential: 10ms }",
        "- call: s.op",
        expect![[r#"
        error: model.yaml:7: /services/s/operations/op
          found:    a cycle of certain calls: s.op -> s.op
          expected: requests that come to an end
          help:     give one of them a path without that call, or make the call with a probability below 1"#]],
    );
    let text = "version: 1
workload: { users: { to: a.x, open: { rate: 1/s } } }
services:
  a: { operations: { x: { paths: [{ weight: 1, steps: [{ call: b }] }, { weight: 3, steps: [{ call: c }] }] } } }
  b: { operations: { y: { paths: [{ steps: [{ call: a }] }] } } }
  c: { operations: { z: { paths: [{ steps: [{ parallel: { branches: [{ call: a }] } }] }] } } }
";
    model(
        text,
        expect![[r#"
        error: model.yaml:4: /services/a/operations/x
          found:    a cycle of certain calls: a.x -> b.y -> a.x
          expected: requests that come to an end
          help:     give one of them a path without that call, or make the call with a probability below 1"#]],
    );
    let sometimes = text.replace("{ weight: 3, steps: [{ call: c }] }", "{ weight: 3, steps: [] }");
    assert!(read_model("model.yaml", sometimes.as_bytes()).is_ok(), "a cycle with a way out is a model");
}

#[test]
fn shapes() {
    mm1(
        "- work: { exponential: 10ms }",
        "- { work: { constant: 1ms }, call: s.op }",
        expect![[r#"
        error: model.yaml:11: /services/s/operations/op/paths/0/steps/0
          found:    2 of them
          expected: exactly one of work, call, parallel, lookup, publish"#]],
    );
    mm1(
        "- work: { exponential: 10ms }",
        "- work: {}",
        expect![[r#"
        error: model.yaml:11: /services/s/operations/op/paths/0/steps/0/work
          found:    no distribution
          expected: exactly one of constant, exponential, lognormal, quantiles"#]],
    );
    mm1(
        "- work: { exponential: 10ms }",
        "- parallel: { wait: { quorum: 2 }, branches: [{ work: { constant: 1ms } }] }",
        expect![[r#"
        error: model.yaml:11: /services/s/operations/op/paths/0/steps/0/parallel/wait/quorum
          found:    2
          expected: a number from 1 to 1, the number of branches
        error: model.yaml:11: /services/s/operations/op/paths/0/steps/0/parallel/branches/0
          found:    work or parallel inside parallel
          expected: call, lookup or publish as a branch
          help:     call a service instead"#]],
    );
    mm1(
        "{ exponential: 10ms }",
        "{ quantiles: { 0: 1ms, 50: 9ms, 99: 5ms } }",
        expect![[r#"
        error: model.yaml:11: /services/s/operations/op/paths/0/steps/0/work/quantiles
          found:    3 percentiles
          expected: percentiles from 0 to 100, both included
          help:     write { 0: 1ms, 50: 5ms, 100: 40ms }"#]],
    );
}

#[test]
fn all_mistakes_come_at_once() {
    let text = "version: 1\nservices: { s: { wrokers: 1, queue: -3, mode: asink, operations: { op: { paths: 3 } } } }\nedges: { ab: {} }\n";
    model(
        text,
        expect![[r#"
            error: model.yaml:2: /services/s/wrokers
              found:    unknown key wrokers
              expected: one of replicas, workers, queue, discipline, mode, balance, cancel_on_disconnect, shed_expired, codel, adaptive_limit, contention, autoscale, warm_up, health_check, cache, operations, observed
              help:     did you mean workers?
            error: model.yaml:2: /services/s/queue
              found:    -3
              expected: a whole number, or unbounded
            error: model.yaml:2: /services/s/mode
              found:    asink
              expected: blocking or async
              help:     did you mean async?
            error: model.yaml:2: /services/s/operations/op/paths
              found:    3
              expected: a list
            error: model.yaml:3: /edges/ab
              found:    ab
              expected: an edge: caller->callee"#]],
    );
}

#[test]
fn what_is_no_model_at_all() {
    model(
        "",
        expect![[r#"
        error: model.yaml
          found:    an empty file
          expected: a YAML or JSON map
          help:     begin with version: 1"#]],
    );
    model(
        "workload: {\n",
        expect![[r#"
        error: model.yaml:2
          found:    while parsing a node, did not find expected node content, at column 1
          expected: YAML or JSON text"#]],
    );
    model(
        "version: 1\nservices:\n  a: [1, 2\n  b: 3\n",
        expect![[r#"
        error: model.yaml:4
          found:    illegal placement of ':' indicator, at column 4
          expected: YAML or JSON text"#]],
    );
    model(
        "version: 2\nsystems: {}\n",
        expect![[r#"
        error: model.yaml:1: /version
          found:    2
          expected: version 1
          help:     this program reads version 1 alone"#]],
    );
    model(
        "services: {}\n",
        expect![[r#"
            error: model.yaml:1
              found:    no version
              expected: version: 1
              help:     begin the file with version: 1"#]],
    );
    model(
        "just words",
        expect![[r#"
            error: model.yaml:1
              found:    just words
              expected: a map"#]],
    );
    expect![[r#"
        error: model.yaml:2
          found:    a byte that is not UTF-8 text, at byte 3
          expected: YAML or JSON text"#]]
    .assert_eq(&read_model("model.yaml", b"\x0a\x04\x00\xff\xfe\x00binary").expect_err("junk").to_string());
}

#[test]
fn overlays() {
    let overlay = |text: &str, want: Expect| {
        want.assert_eq(&read_overlay("known.yaml", text.as_bytes()).expect_err("it is wrong").to_string());
    };
    overlay(
        "version: 1\nservices: { web: { workers: 0 } }\n",
        expect![[r#"
        error: known.yaml:2: /services/web/workers
          found:    0
          expected: at least 1 worker, or unlimited"#]],
    );
    overlay(
        "version: 1\nedges: { a->b: { timout: 2s } }\n",
        expect![[r#"
            error: known.yaml:2: /edges/a->b/timout
              found:    unknown key timout
              expected: one of latency, timeout, deadline, propagate_deadline, retry, hedge, max_in_flight, pool, breaker, required, observed
              help:     did you mean timeout?"#]],
    );
}

#[test]
fn scenarios_that_do_not_fit_the_model() {
    let text = "version: 1
workload: { users: { to: web, open: { rate: 80/s } } }
services:
  web: { operations: { get: { paths: [{ steps: [{ call: inventory }, { publish: mailq }] }] } } }
  inventory: { operations: { get: { paths: [{ steps: [{ work: { constant: 1ms } }] }] } } }
topics: { mailq: { consumer: inventory, concurrency: 1 } }
";
    let model = read_model("shop.yaml", text.as_bytes()).expect("it is a model");
    let scenario = |faults: &str, want: Expect| {
        let text = format!("version: 1\nscenarios:\n  - id: bad\n    faults:\n      - {faults}\n");
        want.assert_eq(&read_checked("bad.yaml", text.as_bytes(), &model).expect_err(faults).to_string());
    };
    scenario(
        "{ kind: slow, target: inventroy, start: 1s, duration: 1s, magnitude: { factor: 2 } }",
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/target
          found:    inventroy
          expected: a service that the model has
          help:     did you mean inventory?"#]],
    );
    scenario(
        "{ kind: latency, target: web->inventroy, start: 1s, duration: 1s, magnitude: { add: 1s } }",
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/target
          found:    web->inventroy
          expected: an edge that the model has
          help:     did you mean web->inventory?"#]],
    );
    scenario(
        "{ kind: latency, target: inventory, start: 1s, duration: 1s, magnitude: { add: 1s } }",
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/target
          found:    inventory
          expected: an edge such as a->b, or "*->b", for latency strikes there
          help:     write target: "*->inventory" for every edge into inventory"#]],
    );
    scenario(
        "{ kind: crash, target: web->inventory, start: 1s, duration: 1s }",
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/target
          found:    web->inventory
          expected: a service or topic, for crash strikes there
          help:     write target: inventory"#]],
    );
    scenario(
        "{ kind: surge, target: web, start: 1s, duration: 1s, magnitude: { factor: 3 } }",
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/target
          found:    web
          expected: an entry, for surge strikes there
          help:     did you mean users?"#]],
    );
    scenario(
        "{ kind: latency, target: web->inventory, start: 1s, duration: -1s, magnitude: { add: 250 } }",
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/magnitude/add
          found:    250
          expected: a duration with a unit: ns, us, ms, s, min or h
          help:     write add: 250ms if these are milliseconds
        error: bad.yaml:5: /scenarios/0/faults/0/duration
          found:    -1s
          expected: a duration that is not negative"#]],
    );
    scenario(
        "{ kind: errors, target: web, start: 1s, duration: 1s, magnitude: { probability: 1.5 } }",
        expect![[r#"
            error: bad.yaml:5: /scenarios/0/faults/0/magnitude/probability
              found:    1.5
              expected: a share between 0 and 1"#]],
    );
    scenario(
        "{ kind: slow, target: web, start: 1s, duration: 1s }",
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0
          found:    slow without factor
          expected: a magnitude with factor
          help:     write magnitude: { factor: 4 }"#]],
    );
    scenario(
        "{ kind: slow, target: web, start: 1s, duration: 0s, magnitude: { facter: 0 } }",
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/magnitude/facter
          found:    unknown key facter
          expected: one of factor
          help:     did you mean factor?
        error: bad.yaml:5: /scenarios/0/faults/0
          found:    slow without factor
          expected: a magnitude with factor
          help:     write magnitude: { factor: 4 }
        error: bad.yaml:5: /scenarios/0/faults/0/duration
          found:    0s
          expected: a duration above 0"#]],
    );
    scenario(
        "{ kind: slow, target: web, start: 1s, duration: 1s, magnitude: { factor: 0 } }",
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/magnitude/factor
          found:    0
          expected: a factor above 0, at most 1000"#]],
    );
    scenario(
        "{ kind: lateny, target: web, start: 1s, duration: 1s }",
        expect![[r#"
            error: bad.yaml:5: /scenarios/0/faults/0/kind
              found:    lateny
              expected: latency or connection_drop or black_hole or loss or bandwidth or timeout or retries or errors or slow or crash or pause or replicas_lost or workers_lost or queue_shrunk or leak or flush or hit_ratio_drop or surge or reload or delay or reorder or duplicate or message_loss or consumer_stall or slow_consumer or poison
              help:     did you mean latency?"#]],
    );
    scenario(
        "{ kind: crash, target: web, start: 1s, duration: 1s, magnitude: { replicas: 2 } }",
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/magnitude/replicas
          found:    2
          expected: from 1 to 1, the replicas there are
          help:     leave it away to crash all"#]],
    );
    let twice = "version: 1\nscenarios:\n  - id: a\n  - id: a\n  - id: b c\n";
    expect![[r#"
        error: twice.yaml:4: /scenarios/1
          found:    the id a again, as in line 3
          expected: an id of its own
        error: twice.yaml:5: /scenarios/2/id
          found:    b c
          expected: letters, digits, -, _, . and +"#]]
    .assert_eq(&read_checked("twice.yaml", twice.as_bytes(), &model).expect_err("twice").to_string());
}
