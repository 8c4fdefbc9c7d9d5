//! `shrink`: what is left still fails in the same way, and nothing that does not matter is left.

use super::cli::{Place, stderr};

/// A storm at payment, and much that has nothing to do with it.
const SHOP: &str = "\
version: 1
workload:
  customers: { to: shop.checkout, open: { rate: 300/s } }
  readers: { to: blog.read, open: { rate: 20/s } }
services:
  shop: { workers: unlimited, operations: { checkout: { paths: [ { steps: [ { work: { constant: 1ms } }, { call: tax.rate }, { call: payment.pay } ] } ] } } }
  tax: { workers: 8, operations: { rate: { paths: [ { steps: [ { work: { constant: 1ms } } ] } ] } } }
  payment: { workers: 8, queue: unbounded, operations: { pay: { paths: [ { steps: [ { work: { exponential: 20ms } } ] } ] } } }
  blog: { workers: 8, operations: { read: { paths: [ { steps: [ { call: pages.get } ] } ] } } }
  pages: { workers: 8, operations: { get: { paths: [ { steps: [ { work: { constant: 5ms } } ] } ] } } }
edges:
  shop->payment: { timeout: 250ms, retry: { attempts: 4, backoff: 10ms, jitter: full } }
";

const FAULTS: &str = "\
version: 1
scenarios:
  - id: bad-day
    load: 1.05
    faults:
      - { kind: slow, target: pages, start: 20s, duration: 10s, magnitude: { factor: 2 } }
      - { kind: slow, target: payment, start: 20s, duration: 30s, magnitude: { factor: 8 } }
      - { kind: latency, target: shop->tax, start: 25s, duration: 10s, magnitude: { add: 20ms } }
  - id: calm
    faults: [ { kind: slow, target: pages, start: 20s, duration: 10s, magnitude: { factor: 1.5 } } ]
";

fn tokens(place: &Place) -> (String, String) {
    place.fine("sweep m.yaml s.yaml --seeds 1 --horizon 90s -o out");
    let runs = String::from_utf8(place.read("out/runs.jsonl")).expect("UTF-8");
    let token = |id: &str| {
        let records = runs.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let found = records.into_iter().find(|record| record["scenario"] == id).expect("it was run");
        found["token"].as_str().expect("a token").to_owned()
    };
    (token("bad-day"), token("calm"))
}

#[test]
fn a_bad_day_shrinks_to_the_fault_and_the_services_that_make_it() {
    let place = Place::new(&[("m.yaml", SHOP), ("s.yaml", FAULTS)]);
    let (bad, calm) = tokens(&place);
    let said = place.json(&format!("shrink {bad} --in out -o small --json"));
    assert_eq!(said["fails"], "metastable");
    let faults = said["to"]["faults"].as_array().expect("faults");
    assert!(faults.len() == 1 && faults[0].as_str().is_some_and(|fault| fault.starts_with("payment takes")), "{said}");
    assert_eq!(said["to"]["services"], serde_json::json!(["shop", "payment"]), "{said}");
    assert_eq!(said["from"]["services"].as_array().map(Vec::len), Some(5));
    assert_eq!(said["to"]["load"], 1.0, "{said}");
    // 30 s of eight times the work are far more than it takes.
    let scenario = String::from_utf8(place.read("small/scenarios.yaml")).expect("UTF-8");
    let read = scenarios::format::read_scenarios("small", scenario.as_bytes()).expect("it is a scenario file");
    assert!(read[0].id == "bad-day-small" && read[0].faults[0].duration.as_secs_f64() < 15.0, "{scenario}");

    // What was written is a folder like any other, and its run still fails.
    let token = said["to"]["token"].as_str().expect("a token");
    assert!(place.fine(&format!("replay {token} --in small")).contains("the same as the recorded run"));
    assert!(place.fine(&format!("explain {token} --in small")).contains("did not come back by itself"));

    // The same again is the same; fewer runs find less, and what they find fails too.
    let text = place.fine(&format!("shrink {bad} --in out -o again"));
    assert_eq!(place.read("again/scenarios.yaml"), place.read("small/scenarios.yaml"));
    for part in ["faults     3 -> 1", "services   5 -> 2", "foreshock replay fs1-"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let few = place.json(&format!("shrink {bad} --in out -o few --runs 6 --json"));
    assert!(few["runs"].as_u64() <= Some(6), "{few}");

    // A run that does not fail, and a way in which it does not.
    let nothing = place.refused(&format!("shrink {calm} --in out -o none"));
    assert!(nothing.contains("a run that fails"), "{nothing}");
    let other = place.refused(&format!("shrink {bad} --in out -o none --keep stale_writes"));
    assert!(other.contains("a way in which the run fails: metastable"), "{other}");
    let output = place.run(&format!("shrink {bad} --in out -o none --keep nonsense"));
    assert!(output.status.code() == Some(2) && stderr(&output).contains("possible values"), "{}", stderr(&output));
}
