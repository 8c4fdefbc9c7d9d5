//! The examples of `scenarios/examples` do what their first two lines say. A pair is NAME.model.yaml and NAME.scenarios.yaml.

use std::collections::BTreeSet;
use std::fs;

use scenarios::record::RunRecord;

use crate::story::{file_model, file_scenarios, sweep};
use crate::support::root;

const FOLDER: &str = "scenarios/examples";

/// Every scenario of a pair, with two seeds.
fn records(name: &str, seconds: u64) -> Vec<RunRecord> {
    let model = file_model(&format!("{FOLDER}/{name}.model.yaml"));
    let scenarios = file_scenarios(&format!("{FOLDER}/{name}.scenarios.yaml"), &model);
    sweep(&model, &scenarios, 1..3, seconds, 2)
}

#[test]
fn every_example_is_explained_and_can_be_read_checked_and_run() {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root().join(FOLDER)).expect("the folder is there") {
        let file = entry.expect("readable").file_name().into_string().expect("plain names");
        let text = fs::read_to_string(root().join(FOLDER).join(&file)).expect("readable");
        let comments: Vec<bool> = text.lines().take(3).map(|line| line.starts_with("# ")).collect();
        assert_eq!(comments, [true, true, false], "{file} begins with two lines of explanation");
        let name = file.strip_suffix(".model.yaml").or(file.strip_suffix(".scenarios.yaml"));
        names.insert(name.unwrap_or_else(|| panic!("{file} is no model and no scenarios")).to_owned());
    }
    assert!(names.len() >= 6, "{names:?}");
    for name in names {
        for record in records(&name, 60) {
            assert!(record.events > 1_000 && !record.truncated, "{name}: {record:#?}");
        }
    }
}

#[test]
fn the_retry_storm_persists_and_a_budget_ends_it() {
    for record in records("retry-storm", 300) {
        assert!(record.metastable && record.cascaded && record.recovery_s.is_none(), "{record:#?}");
        assert!(record.retry_amplification_peak > 3.0 && record.wasted > 10_000, "{record:#?}");
    }
    for record in records("retry-storm-with-budget", 300) {
        assert!(!record.metastable && record.recovery_s.is_some_and(|s| s < 150.0), "{record:#?}");
        assert!(record.retry_amplification_peak < 1.2, "{record:#?}");
    }
}

#[test]
fn the_stampede_takes_down_the_store_and_single_flight_saves_it() {
    for record in records("stampede", 180) {
        // What the first four seconds have brought back is answered; the rest never is again, while the database works for nobody.
        assert!(record.metastable && record.error_rate.peak > 0.3 && record.recovery_s.is_none(), "{record:#?}");
        assert!(record.queue_node == "database" && record.queue_depth.peak > 10_000.0, "{record:#?}");
    }
    for record in records("stampede-single-flight", 180) {
        assert!(!record.metastable && record.failed == 0, "{record:#?}");
        assert!(record.recovery_s.is_some_and(|s| s < 20.0), "{record:#?}");
    }
}

#[test]
fn reordering_makes_stale_writes_and_order_per_key_does_not() {
    for record in records("stale-orders", 120) {
        assert!(record.stale_writes > 50, "{record:#?}");
        assert!(record.failed == 0 && !record.cascaded, "no error rate shows it: {record:#?}");
    }
    for record in records("stale-orders-in-order", 120) {
        assert_eq!((record.stale_writes, record.failed, record.metastable), (0, 0, false), "{record:#?}");
    }
}
