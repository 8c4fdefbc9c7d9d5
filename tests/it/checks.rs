//! `check` as a CI job meets it: exit codes, early ends, files that CI systems read, and mistakes in the file.

use std::process::Output;

use serde_json::Value;

use super::cli::{Place, stderr};

/// A retry storm that any slowness of payment sets off, and a search that nothing harms for long.
const SHOP: &str = "\
version: 1
workload: { customers: { to: shop.checkout, open: { rate: 300/s } } }
services:
  shop: { workers: unlimited, operations: { checkout: { paths: [ { steps: [ { work: { constant: 1ms } }, { call: tax.rate }, { call: payment.pay } ] } ] } } }
  tax: { workers: 64, operations: { rate: { paths: [ { steps: [ { work: { constant: 1ms } } ] } ] } } }
  payment: { workers: 8, queue: unbounded, operations: { pay: { paths: [ { steps: [ { work: { exponential: 20ms } } ] } ] } } }
edges:
  shop->payment: { timeout: 250ms, retry: { attempts: 4, backoff: 10ms, jitter: full } }
";

const CHECKS: &str = "\
version: 1
model: m.yaml
checks:
  - id: tax-heals
    why: a slow tax service must not stay slow
    faults: [ { kind: latency, target: shop->tax, start: 15s, duration: 5s, magnitude: { add: 40ms } } ]
    expect: { metastable: never, recovery_within: 5s }
    horizon: 40s
    share: 0.9
  - id: payment-heals
    faults: [ { kind: slow, target: [tax, payment], start: 15s, duration: 10s, magnitude: { factor: 8 } } ]
    expect: { metastable: never }
    horizon: 40s
    share: 0.9
";

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

#[test]
fn clear_cases_end_early_and_a_failing_one_says_how_to_see_it() {
    let place = Place::new(&[("m.yaml", SHOP), ("checks.yaml", CHECKS)]);
    let output = place.run("check checks.yaml --junit out.xml --markdown out.md --json -o failing");
    assert_eq!(code(&output), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("payment-heals"), "{}", stderr(&output));
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let (good, bad) = (&said["checks"][0], &said["checks"][1]);
    assert_eq!((&good["status"], &bad["status"]), (&"holds".into(), &"fails".into()), "{said}");
    // All of ln(2 / 0.05) / -ln(0.9) = 35 good runs are needed for the one; the other is plain after a few.
    assert_eq!((&good["cases"][0]["runs"], &good["cases"][0]["failures"]), (&35.into(), &0.into()), "{said}");
    assert!(bad["cases"][1]["label"] == "payment" && bad["cases"][1]["runs"].as_u64() < Some(10), "{said}");
    assert_eq!(bad["cases"][0]["status"], "holds", "the other target is a case of its own: {said}");

    let token = bad["cases"][1]["failing"]["token"].as_str().expect("a token");
    let command = format!("foreshock explain {token} --in failing");
    assert!(place.fine(&format!("replay {token} --in failing")).contains("the same as the recorded run"));

    // JUnit, read by an XML parser.
    let xml = String::from_utf8(place.read("out.xml")).expect("UTF-8");
    let document = roxmltree::Document::parse(&xml).expect("well-formed XML");
    let suites: Vec<_> = document.root_element().children().filter(|node| node.has_tag_name("testsuite")).collect();
    assert_eq!((document.root_element().tag_name().name(), suites.len()), ("testsuites", 2));
    let count = |node: &roxmltree::Node<'_, '_>, what: &str| node.attribute(what).map(str::to_owned);
    assert_eq!(["tests", "failures"].map(|what| count(&suites[0], what)), [Some("1".into()), Some("0".into())]);
    assert_eq!(["tests", "failures"].map(|what| count(&suites[1], what)), [Some("2".into()), Some("1".into())]);
    assert_eq!(count(&document.root_element(), "failures"), Some("1".into()));
    let failures: Vec<_> = document.descendants().filter(|node| node.has_tag_name("failure")).collect();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].parent().and_then(|case| case.attribute("name").map(str::to_owned)), Some("payment".into()));
    assert!(failures[0].text().is_some_and(|text| text.contains(&command)), "{xml}");

    let markdown = String::from_utf8(place.read("out.md")).expect("UTF-8");
    assert!(markdown.contains("| payment-heals | :x: fails |") && markdown.contains(&command), "{markdown}");

    let text = place.run("check checks.yaml -o failing");
    let again = place.run("check checks.yaml -o failing --threads 1");
    assert_eq!(String::from_utf8_lossy(&text.stdout), String::from_utf8_lossy(&again.stdout), "threads do not matter");
    assert!(String::from_utf8_lossy(&text.stdout).contains("1 of 2 checks hold, 1 failed"));
}

#[test]
fn a_known_failure_is_held_against_the_model_as_it_is_and_as_it_was_mended() {
    let storm = "version: 1\nscenarios: [ { id: storm, faults: [ { kind: slow, target: payment, start: 15s, duration: 10s, magnitude: { factor: 8 } } ] } ]";
    let mended =
        SHOP.replace("attempts: 4,", "attempts: 4, budget: { ratio: 0.1, cap: 10, min_per_s: 0 },").replace("unbounded", "64");
    let place = Place::new(&[("m.yaml", SHOP), ("mended.yaml", &mended), ("s.yaml", storm)]);
    let ranking = place.json("sweep m.yaml s.yaml --seeds 1 --horizon 60s -o out --json");
    let token = ranking["scenarios"][0]["token"].as_str().expect("a token").to_owned();
    let file = |must: &str| {
        format!(
            "version: 1\nmodel: m.yaml\nscenarios: s.yaml\nchecks: [ {{ id: storm, token: {token}, must: {must}, expect: {{ metastable: never }} }} ]\n"
        )
    };
    place.write("still.yaml", file("fail").as_bytes());
    place.write("gone.yaml", file("hold").as_bytes());
    assert!(place.fine("check still.yaml").contains("still fails"));
    let output = place.run("check gone.yaml");
    assert_eq!(code(&output), Some(1));
    let text = place.fine("check gone.yaml --model mended.yaml");
    assert!(text.contains("the token is of another model"), "the model has changed, and that is said: {text}");
    let output = place.run("check still.yaml --model mended.yaml");
    assert!(code(&output) == Some(1) && String::from_utf8_lossy(&output.stdout).contains("was it mended?"));
}

#[test]
fn what_up_to_and_every_mean_is_run() {
    let place = Place::new(&[("m.yaml", SHOP)]);
    place.write(
        "checks.yaml",
        b"version: 1
model: m.yaml
checks:
  - id: links
    faults: [ { kind: latency, target: every edge, start: 10s, duration: 2s, magnitude: { add: 40ms } } ]
    up_to: true
    expect: { metastable: never, error_rate_below: 0.5, at: shop->tax }
    horizon: 20s
    share: 1
    runs: 3
",
    );
    let said = place.json("check checks.yaml --json");
    let cases = said["checks"][0]["cases"].as_array().expect("cases");
    let labels: Vec<&str> = cases.iter().map(|case| case["label"].as_str().expect("text")).collect();
    let edges = ["customers->shop", "shop->tax", "shop->payment"];
    let expected: Vec<String> = edges
        .iter()
        .flat_map(|edge| [(*edge).to_owned(), format!("{edge} at 3/4"), format!("{edge} at 2/4"), format!("{edge} at 1/4")])
        .collect();
    assert_eq!(labels, expected);
    assert!(cases.iter().all(|case| case["runs"] == 3 && case["status"] == "holds"), "{said}");
}

#[test]
fn the_example_is_a_file_that_can_be_read_and_schema_knows_checks() {
    let place = Place::new(&[("model.yaml", SHOP)]);
    let example = place.fine("check --example");
    assert!(example.contains("GITHUB_STEP_SUMMARY") && example.contains("actions/checkout"), "{example}");
    let checks = scenarios::checks::read_checks("example", example.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(checks.checks.len(), 2);
    let schema: Value = serde_json::from_str(&place.fine("schema checks")).expect("JSON");
    assert_eq!(schema["title"], "Foreshock checks");
}

#[test]
fn mistakes_name_their_line_and_what_to_do() {
    let place = Place::new(&[("m.yaml", SHOP)]);
    let refused = |text: &str| {
        place.write("checks.yaml", text.as_bytes());
        place.refused("check checks.yaml")
    };
    let file = |check: &str| format!("version: 1\nmodel: m.yaml\nchecks:\n  - {check}\n");
    let slow = "faults: [ { kind: slow, target: payment, start: 15s, duration: 10s, magnitude: { factor: 8 } } ]";
    for (check, parts) in [
        (format!("{{ id: a, {slow}, expects: {{}} }}"), vec!["checks.yaml:4: /checks/0/expects", "did you mean expect?"]),
        (
            format!("{{ id: a, {slow}, expect: {{ metastabel: never }} }}"),
            vec!["/checks/0/expect/metastabel", "did you mean metastable?"],
        ),
        (format!("{{ id: a, {slow}, expect: {{ metastable: seldom }} }}"), vec!["found:    seldom", "expected: never"]),
        ("{ id: a, expect: { metastable: never } }".to_owned(), vec!["one of faults, scenarios or token"]),
        (
            format!("{{ id: a, {}, expect: {{ metastable: never }} }}", slow.replace("payment", "paiment")),
            vec!["checks.yaml:4: /checks/0/faults/0/target", "paiment", "payment"],
        ),
        (
            format!("{{ id: a, {}, expect: {{ metastable: never }} }}", slow.replace("payment", "every topic")),
            vec!["/checks/0/faults/0/target", "none in this model"],
        ),
        (
            format!("{{ id: a, {}, expect: {{ metastable: never }} }}", slow.replace("payment", "every servise")),
            vec!["did you mean every service?"],
        ),
        (
            format!("{{ id: a, {slow}, expect: {{ error_rate_below: 0.1, at: shop->paymint }} }}"),
            vec!["/checks/0/expect/at", "did you mean shop->payment?"],
        ),
        (
            format!("{{ id: a, {slow}, share: 0.999, runs: 100, expect: {{ metastable: never }} }}"),
            vec!["/checks/0/runs", "raise runs"],
        ),
        (format!("{{ id: a, {slow}, confidence: 1, expect: {{ metastable: never }} }}"), vec!["/checks/0/confidence", "below 1"]),
        (
            "{ id: a, scenarios: storm, expect: { metastable: never } }".to_owned(),
            vec!["/checks/0/scenarios/0", "found:    storm"],
        ),
        ("{ id: a, token: fs9-1 }".to_owned(), vec!["/checks/0/token", "the version is \"fs9\""]),
        ("{ id: a, token: fs1-00000000-00000000-w0-s1-h60s-k }".to_owned(), vec!["/checks/0/token", "none there has it"]),
    ] {
        let text = refused(&file(&check));
        for part in parts {
            assert!(text.contains(part), "{part} is missing for {check}\n{text}");
        }
        assert!(text.contains("expected:"), "{text}");
    }
    let text = refused("version: 1\nchecks: [ { id: a, token: fs1-00000000-00000000-w0-s1-h60s-k } ]\n");
    assert!(text.contains("--model"), "{text}");
}
