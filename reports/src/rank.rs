//! From run records to ranked rows, node risks and findings.
//!
//! You are here: `reports::rank`. `analyse` calls it; `stats` and `km` do the arithmetic.
//! Always true: the runs of a scenario are taken in the order of world, then seed, whatever the order of the records; rank goes by
//! cascade risk, then chance of metastability, then excess failed share, then id.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use models::dist::Dist;
use models::format::percent;
use models::system::Model;
use models::units::Nanos;
use scenarios::fault::{Fault, FaultKind, Leg, Target};
use scenarios::format::LEGS;
use scenarios::record::{Peak, RunRecord};
use scenarios::scenario::Scenario;
use serde_json::{Map, Value, json};

use crate::findings::Finding;
use crate::km::{self, Seen};
use crate::stats::{Estimate, Proportion, Told, mean, mean_share, round6, tell_apart, wilson};
use crate::view::{Against, BreachedNode, FaultView, NodeRisk, Recovery, Row};
use crate::words;

/// The records of each scenario, by world and seed.
pub type Grouped<'a> = IndexMap<&'a str, Vec<&'a RunRecord>>;

/// Groups records by scenario, each group in order of world and seed.
pub fn group(records: &[RunRecord]) -> Grouped<'_> {
    let mut groups: Grouped<'_> = IndexMap::new();
    for record in records {
        groups.entry(record.scenario.as_str()).or_default().push(record);
    }
    groups.values_mut().for_each(|runs| runs.sort_by_key(|r| (r.world, r.seed)));
    groups
}

/// One row a scenario that has runs, best known worst first.
pub fn rows(scenarios: &[Scenario], groups: &Grouped<'_>) -> Vec<Row> {
    let mut rows: Vec<Row> = scenarios.iter().filter_map(|s| groups.get(s.id.as_str()).map(|runs| row(s, runs))).collect();
    rows.sort_by(|a, b| {
        (b.cascade_risk.mean.total_cmp(&a.cascade_risk.mean))
            .then(b.p_metastable.estimate.total_cmp(&a.p_metastable.estimate))
            .then(b.excess_failed_share.total_cmp(&a.excess_failed_share))
            .then_with(|| a.id.cmp(&b.id))
    });
    (1..).zip(&mut rows).for_each(|(rank, row)| row.rank = rank);
    rows
}

/// `part / requests`; 0 where nobody came.
fn share(part: f64, record: &RunRecord) -> f64 {
    if record.requests == 0 { 0.0 } else { part / record.requests as f64 }
}

/// Harmed but not directly, as a share of requests: what cascade risk is the mean of.
fn spread_harm(record: &RunRecord) -> f64 {
    share(record.harmed.saturating_sub(record.harmed_directly) as f64, record)
}

/// Harmed as a share of requests: a run's severity.
fn severity(record: &RunRecord) -> f64 {
    share(record.harmed as f64, record)
}

fn row(scenario: &Scenario, runs: &[&RunRecord]) -> Row {
    let each = |f: &dyn Fn(&RunRecord) -> f64| runs.iter().map(|r| f(r)).collect::<Vec<f64>>();
    let over = |f: &dyn Fn(&RunRecord) -> f64| round6(mean(&each(f)));
    let against = |f: &dyn Fn(&RunRecord) -> Peak| Against { peak: over(&|r| f(r).peak), baseline: over(&|r| f(r).baseline) };
    let chance =
        |f: &dyn Fn(&RunRecord) -> bool| rounded_share(wilson(runs.iter().filter(|r| f(r)).count() as u32, runs.len() as u32));
    // The worst run; of equals the first.
    let worst = runs.iter().copied().reduce(|worst, r| if severity(r) > severity(worst) { r } else { worst });
    Row {
        rank: 0,
        id: scenario.id.clone(),
        why: scenario.why.clone(),
        load: scenario.load(),
        faults: scenario.faults.iter().map(fault_view).collect(),
        runs: runs.len() as u32,
        cascade_risk: rounded(mean_share(&each(&spread_harm))),
        severity: rounded(mean_share(&each(&severity))),
        p_cascade: chance(&|r| r.cascaded),
        p_metastable: chance(&|r| r.metastable),
        recovery: recovery(runs),
        excess_failed_share: over(&|r| share(r.failed as f64 - r.twin_failed as f64, r)),
        error_rate: against(&|r| r.error_rate),
        p99_ms: against(&|r| r.p99_ms),
        retry_amplification_peak: over(&|r| r.retry_amplification_peak),
        retry_amplification_mean: over(&|r| r.retry_amplification_mean),
        queue_depth: against(&|r| r.queue_depth),
        queue_node: most_frequent(runs.iter().map(|r| r.queue_node.as_str())),
        wasted: over(&|r| r.wasted as f64),
        stale_writes: over(&|r| r.stale_writes as f64),
        duplicate_effects: over(&|r| r.duplicate_effects as f64),
        dead_letters: over(&|r| r.dead_letters as f64),
        breached: breached(runs),
        token: worst.map_or_else(String::new, |r| r.token.clone()),
        worst_seed: worst.map_or(0, |r| r.seed),
        worst_world: worst.map_or(0, |r| r.world),
        worst_severity: worst.map_or(0.0, |r| round6(severity(r))),
    }
}

fn rounded(e: Estimate) -> Estimate {
    Estimate { mean: round6(e.mean), low: round6(e.low), high: round6(e.high) }
}

fn rounded_share(p: Proportion) -> Proportion {
    Proportion { estimate: round6(p.estimate), low: round6(p.low), high: round6(p.high), ..p }
}

/// Time to recover over runs; those not recovered are censored at the end of their watching, horizon - clear.
fn recovery(runs: &[&RunRecord]) -> Recovery {
    let watched = |r: &RunRecord| (r.horizon_s - r.clear_s).max(0.0);
    let seen: Vec<Seen> = runs.iter().map(|r| r.recovery_s.map_or_else(|| Seen::Censored(watched(r)), Seen::Recovered)).collect();
    let (curve, recovered) = (km::curve(&seen), runs.iter().filter(|r| r.recovery_s.is_some()).count());
    let shortest = runs.iter().map(|r| watched(r)).min_by(f64::total_cmp).unwrap_or(0.0);
    Recovery {
        median_s: km::quantile(&curve, 0.5).map(round6),
        p90_s: km::quantile(&curve, 0.9).map(round6),
        recovered: recovered as u32,
        censored_share: round6((runs.len() - recovered) as f64 / runs.len().max(1) as f64),
        watched_s: round6(shortest),
    }
}

fn breached(runs: &[&RunRecord]) -> Vec<BreachedNode> {
    let mut nodes: BTreeMap<&str, [u32; 3]> = BTreeMap::new();
    for breach in runs.iter().flat_map(|r| &r.breaches) {
        let counts = nodes.entry(&breach.node).or_default();
        counts[0] += 1;
        counts[1] += u32::from(breach.by_error);
        counts[2] += u32::from(breach.by_p99);
    }
    let of = |count: u32| round6(f64::from(count) / runs.len() as f64);
    let mut list: Vec<BreachedNode> = nodes
        .iter()
        .map(|(node, [any, by_error, by_p99])| BreachedNode {
            node: node.to_string(),
            probability: of(*any),
            by_error: of(*by_error),
            by_p99: of(*by_p99),
        })
        .collect();
    list.sort_by(|a, b| {
        b.probability.total_cmp(&a.probability).then(b.by_error.total_cmp(&a.by_error)).then_with(|| a.node.cmp(&b.node))
    });
    list
}

/// The most frequent name that is not empty; of equals the first in order.
fn most_frequent<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    names.filter(|name| !name.is_empty()).for_each(|name| *counts.entry(name).or_insert(0) += 1);
    counts.iter().fold(("", 0), |best, (name, n)| if *n > best.1 { (name, *n) } else { best }).0.to_string()
}

fn fault_view(fault: &Fault) -> FaultView {
    FaultView {
        kind: fault.kind.name().to_string(),
        target: fault.target.to_string(),
        start_s: round6(fault.start.as_secs_f64()),
        end_s: round6(fault.clears_at().as_secs_f64()),
        start: Nanos::from_nanos(fault.start.as_nanos()).to_string(),
        duration: fault.duration.to_string(),
        ramp_up: (!fault.ramp_up.is_zero()).then(|| fault.ramp_up.to_string()),
        ramp_down: (!fault.ramp_down.is_zero()).then(|| fault.ramp_down.to_string()),
        magnitude: magnitude(&fault.kind),
        words: words::fault(fault),
    }
}

/// A fault's magnitude as scenario files write it.
fn magnitude(kind: &FaultKind) -> Map<String, Value> {
    let value = match kind {
        FaultKind::Latency { add, jitter, distribution, leg, delivers_abandoned } => {
            let mut map = Map::from_iter([("add".to_string(), json!(add))]);
            if !jitter.is_zero() {
                map.insert("jitter".to_string(), json!(jitter));
            }
            if let Some(dist) = distribution {
                map.insert("distribution".to_string(), distribution_json(dist));
            }
            if *leg != Leg::Request {
                map.insert("leg".to_string(), json!(leg_word(*leg)));
            }
            if *delivers_abandoned {
                map.insert("delivers_abandoned".to_string(), json!(true));
            }
            return map;
        }
        FaultKind::Delay { add, jitter } if jitter.is_zero() => json!({ "add": add }),
        FaultKind::Delay { add, jitter } => json!({ "add": add, "jitter": jitter }),
        FaultKind::ConnectionDrop { probability }
        | FaultKind::Errors { probability }
        | FaultKind::Duplicate { probability }
        | FaultKind::MessageLoss { probability }
        | FaultKind::Poison { probability } => json!({ "probability": probability }),
        FaultKind::Loss { probability, retransmit } => json!({ "probability": probability, "retransmit": retransmit }),
        FaultKind::Bandwidth { bytes_per_s, request_bytes } => {
            json!({ "bytes_per_s": bytes_per_s, "request_bytes": request_bytes })
        }
        FaultKind::TimeoutLowered { to } => json!({ "to": to }),
        FaultKind::ReplicasLost { replicas } => json!({ "replicas": replicas }),
        FaultKind::QueueShrunk { to } => json!({ "to": to }),
        FaultKind::Leak { growth } => json!({ "growth": growth }),
        FaultKind::Flush { share } => json!({ "share": share }),
        FaultKind::Reload { after, attempts } => json!({ "after": after, "attempts": attempts }),
        FaultKind::AggressiveRetries { attempts, backoff } => json!({ "attempts": attempts, "backoff": backoff }),
        FaultKind::Slow { factor } | FaultKind::Surge { factor } | FaultKind::SlowConsumer { factor } => {
            json!({ "factor": factor })
        }
        FaultKind::Crash { replicas, black_hole } => {
            let mut map = Map::new();
            if let Some(n) = replicas {
                map.insert("replicas".to_string(), json!(n));
            }
            if *black_hole {
                map.insert("black_hole".to_string(), json!(true));
            }
            Value::Object(map)
        }
        FaultKind::WorkersLost { keep } | FaultKind::HitRatioDrop { keep } => json!({ "keep": keep }),
        FaultKind::Reorder { probability, within } => json!({ "probability": probability, "within": within }),
        FaultKind::BlackHole { leg: Leg::Both } | FaultKind::ConsumerStall | FaultKind::Pause => json!({}),
        FaultKind::BlackHole { leg } => json!({ "leg": leg_word(*leg) }),
    };
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A leg as scenario files write it.
fn leg_word(leg: Leg) -> &'static str {
    LEGS.iter().find(|(_, one)| *one == leg).map_or("", |(word, _)| word)
}

/// A distribution as scenario files write it.
fn distribution_json(dist: &Dist) -> Value {
    match dist {
        Dist::Constant(time) => json!({ "constant": time }),
        Dist::Exponential(mean) => json!({ "exponential": mean }),
        Dist::Lognormal { p50, p99 } => json!({ "lognormal": { "p50": p50, "p99": p99 } }),
        Dist::Quantiles(knots) => {
            let knots = knots.iter().map(|(p, time)| (percent(*p), json!(time)));
            json!({ "quantiles": knots.collect::<Map<_, _>>() })
        }
    }
}

/// True if the scenario strikes `node`: a fault on it, or on calls into it.
fn strikes(scenario: &Scenario, node: &str) -> bool {
    scenario.faults.iter().any(|fault| match &fault.target {
        Target::Node(name) => name == node,
        Target::Edge(edge) => edge.to == node,
    })
}

/// How each entry, service and topic fares over all scenarios.
pub fn node_risks(model: &Model, scenarios: &[Scenario], rows: &[Row]) -> IndexMap<String, NodeRisk> {
    let by_id: BTreeMap<&str, &Scenario> = scenarios.iter().map(|s| (s.id.as_str(), s)).collect();
    let names = model.workload.keys().chain(model.services.keys()).chain(model.topics.keys());
    names
        .map(|name| {
            let (here, elsewhere): (Vec<&Row>, Vec<&Row>) = rows
                .iter()
                .filter(|r| !r.faults.is_empty())
                .partition(|r| by_id.get(r.id.as_str()).is_some_and(|s| strikes(s, name)));
            let suffered = |r: &&Row| r.breached.iter().find(|b| b.node == *name).map_or(0.0, |b| b.probability);
            let chances: Vec<f64> = elsewhere.iter().map(suffered).collect();
            let risk = NodeRisk {
                causes: here.iter().map(|r| r.cascade_risk.mean).max_by(f64::total_cmp),
                suffers: (!chances.is_empty()).then(|| round6(mean(&chances))),
            };
            (name.clone(), risk)
        })
        .collect()
}

/// What is worth saying, in order of urgency.
pub fn findings(scenarios: &[Scenario], groups: &Grouped<'_>, rows: &[Row]) -> Vec<Finding> {
    let mut found = Vec::new();
    for row in rows.iter().filter(|r| r.faults.is_empty()) {
        let harmed: u64 = groups[row.id.as_str()].iter().map(|r| r.harmed).sum();
        if harmed > 0 {
            found.push(Finding::ControlDiffers { scenario: row.id.clone(), harmed });
        }
    }
    for row in rows {
        let truncated = groups[row.id.as_str()].iter().filter(|r| r.truncated).count() as u32;
        if truncated > 0 {
            found.push(Finding::Truncated { scenario: row.id.clone(), runs: truncated, of: row.runs });
        }
    }
    let not_run: Vec<String> = scenarios.iter().filter(|s| !groups.contains_key(s.id.as_str())).map(|s| s.id.clone()).collect();
    if !not_run.is_empty() {
        found.push(Finding::NotRun { scenarios: not_run });
    }
    let known: BTreeSet<&str> = scenarios.iter().map(|s| s.id.as_str()).collect();
    let unknown: Vec<_> = groups.iter().filter(|(id, _)| !known.contains(**id)).collect();
    if !unknown.is_empty() {
        let records = unknown.iter().map(|(_, runs)| runs.len() as u64).sum();
        found.push(Finding::UnknownScenarios { scenarios: unknown.iter().map(|(id, _)| id.to_string()).collect(), records });
    }
    rows.iter().for_each(|row| found.extend(of_row(row)));
    found.extend(rows.windows(2).filter_map(|pair| undecided(&pair[0], &pair[1], groups)));
    found
}

/// What one row says beside its numbers.
fn of_row(row: &Row) -> Vec<Finding> {
    let scenario = || row.id.clone();
    let mut found = Vec::new();
    if row.p_metastable.count > 0 {
        found.push(Finding::Metastable {
            scenario: scenario(),
            probability: row.p_metastable,
            watched_s: row.recovery.watched_s,
            retry_amplification_mean: row.retry_amplification_mean,
            wasted: row.wasted,
        });
    }
    if row.recovery.median_s.is_none() {
        found.push(Finding::CensoredRecovery {
            scenario: scenario(),
            censored_share: row.recovery.censored_share,
            watched_s: row.recovery.watched_s,
        });
    }
    if !row.faults.is_empty() && row.severity.mean == 0.0 && row.breached.is_empty() {
        found.push(Finding::NoFaultReachedAnything { scenario: scenario(), runs: row.runs });
    }
    found
}

/// Whether two neighbours can be told apart, by the differences of their paired runs. Two that harm nobody are equals, not in doubt.
fn undecided(first: &Row, second: &Row, groups: &Grouped<'_>) -> Option<Finding> {
    if first.cascade_risk.mean == 0.0 {
        return None;
    }
    let key = |r: &RunRecord| (r.world, r.seed);
    let others: BTreeMap<_, f64> = groups[second.id.as_str()].iter().map(|r| (key(r), spread_harm(r))).collect();
    let differences: Vec<f64> =
        groups[first.id.as_str()].iter().filter_map(|r| others.get(&key(r)).map(|other| spread_harm(r) - other)).collect();
    match tell_apart(&differences) {
        Told::Apart => None,
        Told::NotYet(runs_wanted) => {
            let between = [first.id.clone(), second.id.clone()];
            Some(Finding::RankUndecided { between, rank: first.rank, runs: first.runs.min(second.runs), runs_wanted })
        }
    }
}

/// Different (seeds, worlds) among the records.
pub fn spread_of_runs(records: &[&RunRecord]) -> (u32, u32) {
    let seeds: BTreeSet<u64> = records.iter().map(|r| r.seed).collect();
    let worlds: BTreeSet<u32> = records.iter().map(|r| r.world).collect();
    (seeds.len() as u32, worlds.len() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnalyseInput, analyse, testing};

    fn report(scenarios: &[Scenario], records: &[RunRecord]) -> crate::Report {
        let model = testing::shop();
        analyse(&AnalyseInput { model: &model, scenarios, records, notes: &[], compare_live: None, folder: "out" })
    }

    #[test]
    fn the_numbers_of_a_row_are_those_worked_out_by_hand() {
        let (_, scenarios, records) = testing::rehearsal();
        let report = report(&scenarios, &records);
        let row = &report.rows[0];
        assert_eq!((row.rank, row.id.as_str(), row.runs), (1, "stock-slow", 10));
        // (harmed - 100) / 1000 = 0.21, 0.22 ... 0.30: mean 0.255, deviation 0.0302765, t(9) = 2.262157: half width 0.0216585.
        assert_eq!((row.cascade_risk.mean, row.cascade_risk.low, row.cascade_risk.high), (0.255, 0.233_341, 0.276_659));
        assert_eq!(row.excess_failed_share, 0.303);
        assert_eq!((row.p_cascade.count, row.p_cascade.estimate), (8, 0.8));
        assert_eq!((row.p_metastable.count, row.p_metastable.low, row.p_metastable.high), (2, 0.056_682_2, 0.509_838));
        // Eight recover after 3, 4, 5, 6, 8, 9, 10, 11 s; two are censored at 120 - 50 s: the fifth is the median, 0.2 is left at the end.
        assert_eq!((row.recovery.median_s, row.recovery.p90_s, row.recovery.censored_share), (Some(8.0), None, 0.2));
        assert_eq!((row.token.as_str(), row.worst_seed, row.worst_severity), ("fs1-stock-slow-10", 10, 0.4));
        let breached: Vec<_> = row.breached.iter().map(|b| (b.node.as_str(), b.probability, b.by_p99)).collect();
        assert_eq!(breached, [("orders", 1.0, 0.5), ("web", 0.9, 0.5)]);
    }

    #[test]
    fn rank_goes_by_risk_then_metastability_then_excess_then_name() {
        let (_, scenarios, records) = testing::rehearsal();
        let order = |records: &[RunRecord]| report(&scenarios, records).rows.iter().map(|r| r.id.clone()).collect::<Vec<_>>();
        assert_eq!(order(&records), ["stock-slow", "stock-errors", "control", "mails-stall"]);
        let mut stays = records.clone();
        stays.iter_mut().filter(|r| r.scenario == "mails-stall" && r.seed == 1).for_each(|r| r.metastable = true);
        assert_eq!(order(&stays), ["stock-slow", "mails-stall", "stock-errors", "control"]);
    }

    #[test]
    fn the_order_of_the_records_does_not_matter() {
        let (_, scenarios, mut records) = testing::rehearsal();
        let before = report(&scenarios, &records);
        records.reverse();
        assert_eq!(report(&scenarios, &records), before);
    }

    #[test]
    fn of_equally_bad_runs_the_first_seed_is_the_one_to_replay() {
        let (_, scenarios, mut records) = testing::rehearsal();
        records.iter_mut().filter(|r| r.scenario == "stock-slow").for_each(|r| r.harmed = 200);
        assert_eq!(report(&scenarios, &records).rows[0].token, "fs1-stock-slow-1");
    }

    #[test]
    fn a_node_causes_what_its_faults_do_and_suffers_what_others_do() {
        let (_, scenarios, records) = testing::rehearsal();
        let nodes = report(&scenarios, &records).nodes;
        assert_eq!(nodes["stock"], NodeRisk { causes: Some(0.255), suffers: Some(0.0) });
        // Three scenarios with faults strike elsewhere; in one of them orders always breaches.
        assert_eq!(nodes["orders"], NodeRisk { causes: None, suffers: Some(0.333_333) });
    }

    #[test]
    fn findings_name_what_stayed_what_did_nothing_and_what_is_missing() {
        let (_, mut scenarios, mut records) = testing::rehearsal();
        scenarios.push(Scenario { id: "later".into(), ..Scenario::default() });
        records.push(testing::record("forgotten", 1));
        records[0].harmed = 3;
        records[1].truncated = true;
        let found = report(&scenarios, &records).findings;
        let expected = [
            Finding::ControlDiffers { scenario: "control".into(), harmed: 3 },
            Finding::Truncated { scenario: "mails-stall".into(), runs: 1, of: 10 },
            Finding::NotRun { scenarios: vec!["later".into()] },
            Finding::UnknownScenarios { scenarios: vec!["forgotten".into()], records: 1 },
        ];
        assert_eq!(found[..4], expected);
        assert!(matches!(&found[4], Finding::Metastable { scenario, .. } if scenario == "stock-slow"), "{found:?}");
        assert!(found.iter().any(|f| matches!(f, Finding::NoFaultReachedAnything { scenario, .. } if scenario == "mails-stall")));
        assert!(!found.iter().any(|f| matches!(f, Finding::NoFaultReachedAnything { scenario, .. } if scenario == "control")));
    }

    #[test]
    fn neighbours_within_their_noise_are_called_undecided_and_distant_ones_are_not() {
        let (_, scenarios, mut records) = testing::rehearsal();
        let undecided = |records: &[RunRecord]| {
            report(&scenarios, records)
                .findings
                .iter()
                .filter(|f| matches!(f, Finding::RankUndecided { .. }))
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(undecided(&records), []);
        for record in records.iter_mut().filter(|r| r.scenario == "stock-errors") {
            (record.harmed, record.harmed_directly) = (if record.seed % 2 == 0 { 400 } else { 150 }, 0);
        }
        let found = undecided(&records);
        let between = ["stock-errors".to_string(), "stock-slow".to_string()];
        assert!(
            matches!(&found[..], [Finding::RankUndecided { between: b, runs: 10, runs_wanted: Some(n), .. }] if *b == between && *n > 10),
            "{found:?}"
        );
    }

    #[test]
    fn no_records_make_an_empty_report() {
        let (_, scenarios, _) = testing::rehearsal();
        let report = report(&scenarios, &[]);
        assert_eq!((report.rows.len(), report.findings.len()), (0, 1));
        assert!(crate::summary(&report).contains("nothing to rank"));
    }
}
