//! `explain` and `replay` on runs whose story is known: what kept them broken is what the examples' authors put in.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use super::cli::Place;
use super::support::root;

/// One example swept with one seed; its token.
fn swept(name: &str, horizon: &str) -> (Place, String) {
    let place = Place::new(&[]);
    for file in ["model", "scenarios"] {
        let path = root().join(format!("scenarios/examples/{name}.{file}.yaml"));
        place.write(&format!("{file}.yaml"), &fs::read(&path).expect("the example is there"));
    }
    let ranking = place.json(&format!("sweep model.yaml scenarios.yaml --seeds 1 --horizon {horizon} -o out --json"));
    let token = ranking["scenarios"][0]["token"].as_str().expect("a token").to_owned();
    (place, token)
}

/// Whether each thing that was taken away helps, by its kind and where.
fn singles(told: &Value) -> BTreeMap<String, bool> {
    let trials = told["sustained"]["singles"].as_array().expect("trials");
    let one = |trial: &Value| {
        let removed = &trial["removed"][0];
        let name = format!("{} {}", removed["kind"].as_str().expect("a kind"), removed["of"].as_str().expect("a place"));
        (name, trial["helps"].as_bool().expect("true or false"))
    };
    trials.iter().map(one).collect()
}

#[test]
fn a_retry_storm_is_kept_alive_by_its_retries_its_queue_or_its_late_work() {
    let (place, token) = swept("retry-storm", "150s");
    let told = place.json(&format!("explain {token} --in out --json"));
    let story = &told["story"];
    // The slow payments begin at 60 s and end at 90 s.
    let times = |list: &str, of: &str| -> Vec<(String, f64)> {
        let items = story[list].as_array().expect("a list");
        items.iter().map(|one| (one[of].as_str().expect("a name").to_owned(), one["first_s"].as_f64().expect("a time"))).collect()
    };
    let (queues, retries, breaches) = (times("queues", "node"), times("retries", "edge"), times("breaches", "node"));
    assert_eq!((queues[0].0.as_str(), retries[0].0.as_str()), ("payment", "shop->payment"));
    for (name, first) in queues.iter().chain(&retries).chain(&breaches) {
        assert!((60.0..70.0).contains(first), "{name} at {first}");
    }
    assert!(queues[0].1 <= retries[0].1, "who waits too long tries again, not the other way round");
    assert_eq!(story["queues"][0]["bound"], Value::Null);
    assert!(story["retries"][0]["peak_ratio"].as_f64() > Some(3.0));
    let payment = &story["aftermath"]["services"][0];
    assert_eq!(payment["service"], "payment");
    assert!(payment["per_s"].as_f64() > Some(1_000.0) && payment["wasted"].as_f64() > Some(0.9), "{payment}");

    // 300 calls/s meet a capacity of 400/s: without retries there is no storm, with a short queue no late work, without late work
    // the workers are free for those who wait.
    assert_eq!(told["sustained"]["asked"], "recovers");
    assert_eq!(told["sustained"]["as_it_is"]["recovery_s"], Value::Null);
    let singles = singles(&told);
    assert!(singles["retries shop->payment"] && singles["queue payment"] && singles["late_work payment"], "{singles:?}");
    assert_eq!(told["record"]["token"], token.as_str());

    let text = place.fine(&format!("explain {token} --in out"));
    for part in [
        "did not come back by itself",
        "The trigger: payment takes 4 times as long",
        "The first queue to stand: requests wait at payment",
        "The first retry wave: calls on shop->payment",
        "What kept it broken",
        "without retries on shop->payment: back to normal",
        &format!("foreshock replay {token} --in out"),
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert_eq!(text, place.fine(&format!("explain {token} --in out --threads 1")), "threads do not matter");
}

#[test]
fn a_storm_that_a_budget_bounds_is_told_as_one_that_ended() {
    let (place, token) = swept("retry-storm-with-budget", "240s");
    let told = place.json(&format!("explain {token} --in out --json"));
    assert_eq!(told["sustained"]["asked"], "recovers_twice_as_fast");
    let text = place.fine(&format!("explain {token} --in out"));
    for part in ["users were back to normal", "The queue of payment has drained", "What made it take so long", "Why it ended"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(!text.contains("What kept it broken"), "{text}");
}

#[test]
fn a_stampede_needs_many_who_ask_for_the_same() {
    let (place, token) = swept("stampede", "120s");
    let told = place.json(&format!("explain {token} --in out --json"));
    let singles = singles(&told);
    assert!(singles["stampede catalogue->database"], "single flight saves the database: {singles:?}");
    assert!(
        !singles["retries catalogue->database"],
        "400 pages/s are ten times what it can do, with or without retries: {singles:?}"
    );
    let text = place.fine(&format!("explain {token} --in out"));
    assert!(text.contains("cache loses all it holds") && text.contains("requests wait at database"), "{text}");
}

#[test]
fn stale_writes_are_told_although_nothing_broke() {
    let (place, token) = swept("stale-orders", "90s");
    let told = place.json(&format!("explain {token} --in out --json"));
    assert_eq!(told["sustained"]["asked"], "no_stale_writes");
    assert!(singles(&told)["overtaking changes"], "{told}");
    let first = told["story"]["stale_writes"]["first_s"].as_f64().expect("a time");
    assert!((30.0..35.0).contains(&first), "{first}");
    let text = place.fine(&format!("explain {token} --in out"));
    assert!(
        text.contains("An older update is applied over a newer one") && text.contains("What made the stale writes possible"),
        "{text}"
    );
}

#[test]
fn a_run_in_which_nothing_broke_is_said_to_be_one() {
    let (place, token) = swept("stale-orders-in-order", "60s");
    let harmless = "version: 1\nscenarios: [ { id: harmless, faults: [ { kind: slow, target: warehouse, start: 20s, duration: 5s, magnitude: { factor: 1.01 } } ] } ]";
    place.write("scenarios.yaml", harmless.as_bytes());
    let ranking = place.json("sweep model.yaml scenarios.yaml --seeds 1 --horizon 60s -o calm --json");
    let calm = ranking["scenarios"][0]["token"].as_str().expect("a token");
    let text = place.fine(&format!("explain {calm} --in calm"));
    assert!(text.contains("nothing broke") && text.contains("Nothing left its normal band"), "{text}");
    assert!(!text.contains("What kept it broken"), "{text}");
    // A token of the other folder's scenario is not found here.
    assert!(place.refused(&format!("explain {token} --in calm")).contains("the scenario that the token names"));
    assert!(
        place.refused(&format!("explain {} --in calm", calm.replace("fs1", "fs9"))).contains("the only one this build reads")
    );
}

#[test]
fn replay_shows_events_spans_and_a_part_of_the_run() {
    let (place, token) = swept("stale-orders", "40s");
    let text = place.fine(&format!("replay {token} --in out --events events.jsonl --otlp spans.jsonl"));
    assert!(text.contains("the same as the recorded run"), "{text}");
    let events = String::from_utf8(place.read("events.jsonl")).expect("UTF-8");
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for line in events.lines() {
        let event: Value = serde_json::from_str(line).expect("JSON");
        assert!(event["time_ns"].as_u64() < Some(40_000_000_000) && event["key"].as_str().map(str::len) == Some(16), "{line}");
        *kinds.entry(event["kind"].as_str().expect("a kind").to_owned()).or_default() += 1;
    }
    // 100 orders a second for 40 s; the fault lasts beyond the run's end.
    assert!((3_700..4_300).contains(&kinds["user_arrives"]), "{kinds:?}");
    assert!(kinds["user_arrives"] - kinds["user_done"] < 10 && kinds["message_done"] > 3_000, "{kinds:?}");
    assert_eq!((kinds["fault_begins"], kinds.get("fault_ends")), (1, None));
    let again = place.fine(&format!("replay {token} --in out --events -"));
    assert!(again.starts_with(&events), "the same bytes, and then the verdict");
    let learned = place.json("learn spans.jsonl --json");
    assert!(learned["traces"].as_u64() > Some(3_000), "{learned}");

    let part = place.json(&format!("replay {token} --in out --until 10s --events part.jsonl --json"));
    assert_eq!((&part["same"], &part["until_s"]), (&true.into(), &10.0.into()));
    assert!(part["result"]["requests"].as_u64().is_some_and(|n| (850..1_150).contains(&n)), "{part}");
    let part = String::from_utf8(place.read("part.jsonl")).expect("UTF-8");
    assert!(events.starts_with(&part) && part.len() * 3 < events.len(), "the events up to then");
    assert!(place.refused(&format!("replay {token} --in out --until 0s")).contains("a time after the run's start"));
}

/// A call that is tried four times as soon as its callee is slow, which it then stays: a storm on a scale that real code can be run on.
#[test]
fn a_run_of_the_hosted_engine_is_explained_shrunk_and_checked_but_shows_no_events() {
    let model = "version: 1
workload: { users: { to: a.get, open: { rate: 20/s } } }
services:
  a: { workers: 100, operations: { get: { paths: [ { steps: [ { work: { constant: 2ms } }, { call: b.get } ] } ] } } }
  b: { workers: 1, operations: { get: { paths: [ { steps: [ { work: { constant: 30ms } } ] } ] } } }
edges:
  users->a: { latency: 1ms }
  a->b: { latency: 1ms, timeout: 200ms, retry: { attempts: 4, backoff: 10ms } }
";
    let slow = "version: 1\nscenarios: [ { id: slow, faults: [ { kind: slow, target: b, start: 3s, duration: 2s, magnitude: { factor: 4 } } ] } ]";
    let place = Place::new(&[("m.yaml", model), ("s.yaml", slow)]);
    let ranking = place.json("sweep m.yaml s.yaml --engine hosted --seeds 1 --horizon 12s --warmup 1s -o out --json");
    let token = ranking["scenarios"][0]["token"].as_str().expect("a token").to_owned();
    assert!(token.ends_with("-h"), "{token}");
    assert!(place.fine(&format!("replay {token} --in out")).contains("the same as the recorded run"));
    assert!(place.refused(&format!("replay {token} --in out --events e.jsonl")).contains("a run of the hosted engine"));

    let text = place.fine(&format!("explain {token} --in out --runs 2"));
    for part in [
        "The first queue to stand: requests wait at b",
        "The first retry wave: calls on a->b",
        "without retries on a->b: back to normal",
    ] {
        assert!(text.contains(part), "{part} is missing\n{text}");
    }
    let shrunk = place.json(&format!("shrink {token} --in out -o small --runs 6 --json"));
    assert_eq!((&shrunk["fails"], &shrunk["runs"]), (&"metastable".into(), &6.into()), "{shrunk}");
    let small = shrunk["to"]["token"].as_str().expect("a token");
    assert!(small.ends_with("-h") && place.fine(&format!("replay {small} --in small")).contains("the same as the recorded run"));
    let checks = format!(
        "version: 1\nmodel: out/model.yaml\nscenarios: out/scenarios.yaml\nchecks: [ {{ id: it, token: {token}, must: fail, warm_up: 1s, expect: {{ metastable: never }} }} ]"
    );
    place.write("checks.yaml", checks.as_bytes());
    let said = place.fine("check checks.yaml");
    assert!(said.contains("the run of slow with seed 1 still fails"), "{said}");
}
