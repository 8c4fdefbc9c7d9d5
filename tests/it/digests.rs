//! The contract across builds, threads and platforms: `digests.txt` holds what became of a varied set of runs. Whoever changes it on purpose
//! writes it anew with `FORESHOCK_BLESS=1 cargo test digests`, and says so in the changelog.

use std::fmt::Write as _;
use std::fs;

use crate::story::{file_model, file_scenarios, sweep};
use crate::support::root;

/// Models, the scenarios of `tests/it/corpus` that they are run under, and in which worlds.
const CASES: [(&str, &str, &str, &[u32]); 4] = [
    ("chain3", "benches/chain3.yaml", "chain3.scenarios.yaml", &[0]),
    ("shop", "tests/it/corpus/shop.model.yaml", "shop.scenarios.yaml", &[0, 3]),
    ("policies", "tests/it/corpus/policies.model.yaml", "policies.scenarios.yaml", &[0]),
    ("whole", "tests/it/corpus/whole.model.yaml", "whole.scenarios.yaml", &[0]),
];
const SECONDS: u64 = 30;

#[test]
fn digests_are_those_of_the_table() {
    let mut table = String::from(
        "# model, world, scenario, seed, digest, events: 30 s each. Written by FORESHOCK_BLESS=1 cargo test digests\n",
    );
    for (name, model, scenarios, worlds) in CASES {
        let model = file_model(model);
        let scenarios = file_scenarios(&format!("tests/it/corpus/{scenarios}"), &model);
        for &world in worlds {
            for r in sweep(&model.world(world), &scenarios, 1..3, SECONDS, 2) {
                let _ = writeln!(table, "{name} {world} {} {} {} {}", r.scenario, r.seed, r.digest, r.events);
            }
        }
    }
    let path = root().join("tests/it/digests.txt");
    if std::env::var_os("FORESHOCK_BLESS").is_some_and(|word| word == "1") {
        fs::write(&path, table).expect("the table can be written");
        return;
    }
    let committed = fs::read_to_string(&path).expect("the table is committed");
    let differing: Vec<String> = committed
        .lines()
        .zip(table.lines())
        .filter(|(was, is)| was != is)
        .take(10)
        .map(|(was, is)| format!("- {was}\n+ {is}\n"))
        .collect();
    assert!(
        differing.is_empty() && committed.lines().count() == table.lines().count(),
        "runs are no longer what they were:\n{}if that is meant: FORESHOCK_BLESS=1 cargo test digests, and a line in CHANGELOG.md",
        differing.concat()
    );
}
