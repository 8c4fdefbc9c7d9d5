//! Hard and soft dependencies: what an operator says of them is what happens when they fail.

use super::cli::{Place, stderr};

/// A shop that asks for adverts and writes a log. Nothing of it ever fails by itself.
const SHOP: &str = "\
version: 1
workload: { users: { to: shop.get, open: { rate: 50/s } } }
services:
  shop:
    workers: 64
    operations: { get: { paths: [ { steps: [ { work: { constant: 2ms } }, { call: adverts.get }, { publish: log } ] } ] } }
  adverts: { workers: 16, operations: { get: { paths: [ { steps: [ { work: { exponential: 5ms } } ] } ] } } }
  writer: { workers: 4, operations: { put: { paths: [ { steps: [ { work: { constant: 1ms } } ] } ] } } }
topics: { log: { consumer: writer.put, concurrency: 4 } }
";

/// Adverts fail for half of the run.
const NO_ADVERTS: &str = "\
version: 1
scenarios:
  - { id: no-adverts, faults: [ { kind: errors, target: adverts, start: 10s, duration: 20s, magnitude: { probability: 1 } } ] }
";

#[test]
fn users_survive_the_failure_of_what_is_known_to_be_soft() {
    let place = Place::new(&[
        ("shop.yaml", SHOP),
        ("faults.yaml", NO_ADVERTS),
        ("soft.yaml", "version: 1\nedges: { shop->adverts: { required: false } }\n"),
        ("hard.yaml", "version: 1\nedges: { shop->adverts: { required: true }, shop->log: { required: true } }\n"),
    ]);
    place.fine("simulate shop.yaml --horizon 40s --otlp calm.jsonl");
    let failed = |known: &str| {
        place.fine(&format!("learn calm.jsonl {known} -o model.yaml"));
        let run = place.json("simulate model.yaml faults.yaml --horizon 40s --json");
        run["entries"]["users"]["error_rate"].as_f64().expect("a share")
    };
    // No failure in the traces: learning has to assume one of the two, and says so.
    let (assumed, soft, hard) = (failed(""), failed("--with soft.yaml"), failed("--with hard.yaml"));
    assert!(soft == 0.0 && assumed > 0.4 && hard > 0.4, "soft {soft}, hard {hard}, unless told {assumed}");
    // The later file has the last word, and the model says who said it.
    assert_eq!(failed("--with hard.yaml --with soft.yaml"), 0.0);
    let text = String::from_utf8(place.read("model.yaml")).expect("UTF-8");
    let call = |to: &str| text.lines().find(|line| line.contains(&format!("to: {to}, site"))).map(str::trim).unwrap_or_default();
    assert!(call("adverts.get").contains("on_failure: degrade"), "{text}");
    assert!(call("log").contains("on_failure: fail"), "{text}");
}

#[test]
fn paths_that_replace_learned_ones_are_said_with_the_calls_that_are_lost() {
    let known = "version: 1\nservices: { shop: { operations: { get: { paths: [ { steps: [ { publish: log } ] } ] } } } }\n";
    let place = Place::new(&[("shop.yaml", SHOP), ("known.yaml", known)]);
    place.fine("simulate shop.yaml --horizon 40s --otlp calm.jsonl");
    let said = stderr(&place.run("learn calm.jsonl --with known.yaml -o model.yaml"));
    let note = "services.shop.operations.get.paths: 1 path declared, in place of 1 path that called adverts.get, log; \
                no longer called: adverts.get (paths are replaced as a whole: write out what is to stay)";
    assert!(said.contains(note), "{said}");
    let notes = &place.json("learn calm.jsonl --with known.yaml -o model.yaml --json")["notes"];
    assert!(notes.to_string().contains(note), "{notes}");
}
