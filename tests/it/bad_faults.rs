//! What people are told about faults that cannot strike, or not together: every text as it stands on the screen.

use expect_test::{Expect, expect};
use models::format::read_model;
use models::system::Model;
use scenarios::format::read_checked;

fn shop() -> Model {
    let text = "version: 1
workload:
  users: { to: web, open: { rate: 80/s } }
  staff: { to: web, closed: { users: 20, think: { exponential: 5s } } }
services:
  web: { operations: { get: { paths: [{ steps: [{ lookup: { cache: cache, origin: db } }, { publish: mailq }] }] } } }
  cache: { cache: { capacity: 10, keys: 100 }, operations: { get: { paths: [{ steps: [] }] } } }
  db: { replicas: 3, operations: { get: { paths: [{ steps: [{ work: { constant: 1ms } }] }] } } }
topics: { mailq: { consumer: db, concurrency: 1 } }
";
    read_model("shop.yaml", text.as_bytes()).expect("it is a model")
}

/// The texts for a scenario with these faults, which take start and duration from 1 s to 2 s where they say nothing.
fn faults(faults: &[&str], want: Expect) {
    let faults = faults.iter().map(|fault| {
        let when = if fault.contains("start:") { "" } else { ", start: 1s, duration: 1s" };
        format!("      - {{ {fault}{when} }}\n")
    });
    let text = format!("version: 1\nscenarios:\n  - id: bad\n    faults:\n{}", faults.collect::<String>());
    let told = match read_checked("bad.yaml", text.as_bytes(), &shop()) {
        Ok(_) => "fine".to_owned(),
        Err(errors) => errors.to_string(),
    };
    want.assert_eq(&told);
}

#[test]
fn each_kind_strikes_what_it_can_strike() {
    faults(
        &["kind: flush, target: web"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/target
          found:    web
          expected: a service with a cache, for flush strikes there
          help:     did you mean cache?"#]],
    );
    faults(
        &["kind: hit_ratio_drop, target: cahce, magnitude: { keep: 0.5 }"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/target
          found:    cahce
          expected: a service with a cache that the model has
          help:     did you mean cache?"#]],
    );
    faults(
        &["kind: loss, target: db, magnitude: { probability: 0.1 }"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/target
          found:    db
          expected: an edge such as a->b, or "*->b", for loss strikes there
          help:     write target: "*->db" for every edge into db"#]],
    );
    faults(
        &["kind: poison, target: db, magnitude: { probability: 0.1 }"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/target
          found:    db
          expected: a topic, for poison strikes there
          help:     did you mean mailq?"#]],
    );
    faults(
        &["kind: duplicate, target: mailq->db, magnitude: { probability: 0.1 }"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/target
          found:    mailq->db
          expected: a topic, for duplicate strikes there
          help:     write target: mailq"#]],
    );
    faults(
        &["kind: pause, target: mailq"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/target
          found:    mailq
          expected: a service, for pause strikes there"#]],
    );
    faults(
        &["kind: reload, target: web, magnitude: { after: 1s, attempts: 3 }"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/target
          found:    web
          expected: an entry, for reload strikes there"#]],
    );
    faults(
        &["kind: surge, target: staff, magnitude: { factor: 3 }"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/target
          found:    staff, a closed loop of 20 users
          expected: an entry with an open loop
          help:     a closed loop offers no rate to multiply; change users in a design change"#]],
    );
    faults(&["kind: reload, target: staff, magnitude: { after: 1s, attempts: 3 }"], expect!["fine"]);
}

#[test]
fn magnitudes_in_range() {
    faults(
        &["kind: loss, target: web->db, magnitude: { probability: 1, retransmit: 0s }"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/magnitude/probability
          found:    1
          expected: a share between 0 and 0.99
          help:     write kind: black_hole where nothing gets through
        error: bad.yaml:5: /scenarios/0/faults/0/magnitude/retransmit
          found:    0s
          expected: a duration above 0"#]],
    );
    faults(
        &["kind: bandwidth, target: web->db, magnitude: { bytes_per_s: 0, request_bytes: 100 }"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/magnitude/bytes_per_s
          found:    0
          expected: a number of bytes above 0"#]],
    );
    faults(
        &["kind: bandwidth, target: web->db, magnitude: { bytes_per_s: 1, request_bytes: 1000000 }"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/magnitude/bytes_per_s
          found:    1000000 bytes at 1/s: 1000000s for a request
          expected: at most 3600s for a request
          help:     write kind: black_hole where nothing gets through"#]],
    );
    faults(
        &["kind: timeout, target: web->db, magnitude: { to: 0s }"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/magnitude/to
          found:    0s
          expected: a duration above 0"#]],
    );
    faults(
        &["kind: replicas_lost, target: db, magnitude: { replicas: 4 }"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/magnitude/replicas
          found:    4
          expected: from 1 to 3, the replicas there are"#]],
    );
    faults(
        &["kind: leak, target: db, magnitude: { growth: 0 }"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/magnitude/growth
          found:    0
          expected: a growth per second above 0, at most 1000
          help:     0.05 adds a twentieth each second"#]],
    );
    faults(
        &["kind: flush, target: cache, magnitude: { share: 0 }"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/magnitude/share
          found:    0
          expected: a share above 0 and up to 1"#]],
    );
    faults(
        &["kind: slow_consumer, target: mailq, magnitude: { factor: 0 }"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/magnitude/factor
          found:    0
          expected: a factor above 0, at most 1000"#]],
    );
    faults(
        &["kind: reload, target: users, magnitude: { after: 0s, attempts: 1 }"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/magnitude/after
          found:    0s
          expected: a duration above 0
        error: bad.yaml:5: /scenarios/0/faults/0/magnitude/attempts
          found:    1
          expected: tries in all, the first included: from 2 to 1000"#]],
    );
    faults(
        &["kind: latency, target: web->db, magnitude: { distribution: { lognormal: { p50: 5ms, p99: 1ms } } }"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/magnitude/distribution/lognormal
          found:    p50 5ms, p99 1ms
          expected: a p50 above 0 and a p99 not below it"#]],
    );
    faults(
        &["kind: latency, target: web->db, magnitude: { distribution: {} }"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/magnitude/distribution
          found:    no distribution
          expected: exactly one of constant, exponential, lognormal, quantiles"#]],
    );
    faults(
        &["kind: black_hole, target: web->db, magnitude: { leg: replies }"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/magnitude/leg
          found:    replies
          expected: request or reply or both
          help:     did you mean reply?"#]],
    );
    faults(
        &["kind: queue_shrunk, target: db"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0
          found:    queue_shrunk without to
          expected: a magnitude with to
          help:     write magnitude: { to: 4 }"#]],
    );
}

#[test]
fn ramps_are_for_what_has_degrees_and_fit_into_the_duration() {
    faults(
        &["kind: crash, target: db, start: 1s, duration: 20s, ramp_up: 5s"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/ramp_up
          found:    5s
          expected: no ramp: crash has no degrees, it is there or not"#]],
    );
    faults(
        &["kind: slow, target: db, start: 1s, duration: 20s, ramp_up: 15s, ramp_down: 6s, magnitude: { factor: 2 }"],
        expect![[r#"
            error: bad.yaml:5: /scenarios/0/faults/0/ramp_down
              found:    ramp_up 15s and ramp_down 6s
              expected: ramps that fit into the duration of 20s"#]],
    );
    faults(
        &["kind: slow, target: db, start: 1s, duration: 20s, ramp_up: 14s, ramp_down: 6s, magnitude: { factor: 2 }"],
        expect!["fine"],
    );
    faults(
        &["kind: slow, target: db, start: 1s, duration: 20s, ramp: 14s, magnitude: { factor: 2 }"],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/ramp
          found:    unknown key ramp
          expected: one of kind, target, start, duration, ramp_up, ramp_down, magnitude"#]],
    );
}

#[test]
fn faults_that_cannot_both_have_their_way() {
    let retries = "kind: retries, target: web->db, magnitude: { attempts: 5 }";
    faults(
        &[retries, "kind: retries, target: \"*->db\", magnitude: { attempts: 8 }"],
        expect![[r#"
        error: bad.yaml:6: /scenarios/0/faults/1
          found:    retries of *->db from 1s to 2s, while /scenarios/0/faults/0 lasts (retries of web->db from 1s to 2s)
          expected: one retries at a time on one place: two of them do not add up
          help:     let one begin when the other has ended"#]],
    );
    faults(&[retries, "kind: retries, target: web->cache, magnitude: { attempts: 8 }"], expect!["fine"]);
    faults(
        &["kind: crash, target: db", "kind: leak, target: db, magnitude: { growth: 0.1 }"],
        expect![[r#"
        error: bad.yaml:6: /scenarios/0/faults/1
          found:    leak of db from 1s to 2s, while /scenarios/0/faults/0 lasts (crash of db from 1s to 2s)
          expected: one of crash, leak and replicas_lost at a time on one service: each takes replicas down and restarts them at its end
          help:     let one begin when the other has ended"#]],
    );
    faults(
        &["kind: crash, target: db", "kind: replicas_lost, target: db, start: 2s, duration: 1s, magnitude: { replicas: 1 }"],
        expect!["fine"],
    );
    faults(
        &["kind: timeout, target: web->db, magnitude: { to: 1ms }", "kind: timeout, target: web->db, magnitude: { to: 2ms }"],
        expect![[r#"
            error: bad.yaml:6: /scenarios/0/faults/1
              found:    timeout of web->db from 1s to 2s, while /scenarios/0/faults/0 lasts (timeout of web->db from 1s to 2s)
              expected: one timeout at a time on one place: two of them do not add up
              help:     let one begin when the other has ended"#]],
    );
    faults(
        &["kind: slow, target: db, magnitude: { factor: 2 }", "kind: slow, target: db, magnitude: { factor: 3 }"],
        expect!["fine"],
    );
    let reload = "kind: reload, target: users, magnitude: { after: 1s, attempts: 3 }";
    faults(
        &["kind: retries, target: users->web, magnitude: { attempts: 5 }", reload],
        expect![[r#"
        error: bad.yaml:6: /scenarios/0/faults/1
          found:    reload of users from 1s to 2s, while /scenarios/0/faults/0 lasts (retries of users->web from 1s to 2s)
          expected: reload or retries on what users calls: both say how often its users ask
          help:     let one begin when the other has ended"#]],
    );
    faults(
        &[reload, "kind: retries, target: \"*->web\", magnitude: { attempts: 5 }"],
        expect![[r#"
        error: bad.yaml:6: /scenarios/0/faults/1
          found:    retries of *->web from 1s to 2s, while /scenarios/0/faults/0 lasts (reload of users from 1s to 2s)
          expected: reload or retries on what users calls: both say how often its users ask
          help:     let one begin when the other has ended"#]],
    );
    faults(&[reload, "kind: retries, target: staff->web, magnitude: { attempts: 5 }"], expect!["fine"]);
}

#[test]
fn more_users_than_an_engine_takes() {
    let surge = "kind: surge, target: users, magnitude: { factor: 1000 }";
    faults(&[surge], expect!["fine"]);
    faults(
        &[surge, surge],
        expect![[r#"
        error: bad.yaml:5: /scenarios/0/faults/0/magnitude/factor
          found:    80000000/s at users, with all that happens at once
          expected: at most 10000000/s, so that a run comes to an end"#]],
    );
    faults(&[surge, "kind: surge, target: users, start: 2s, duration: 1s, magnitude: { factor: 1000 }"], expect!["fine"]);
}
