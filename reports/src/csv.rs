//! `ranking.csv` (a row a scenario) and `outcomes.csv` (a row a run), for spreadsheets.
//!
//! You are here: `reports::csv`. Column names carry their units. Booleans are 0 and 1, lists are separated by spaces, what is
//! not known is empty. The `live_` columns of `outcomes.csv` are measured as a live experiment is, under the names that live
//! outcomes use, so that the two can be laid side by side.

use std::io::{self, Write};

use scenarios::record::RunRecord;

use crate::stats::round6;
use crate::view::{Report, Row};

/// Writes `ranking.csv`, sorted by rank.
pub fn write_ranking_csv(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    write(out, RANKING, report.rows.iter().map(ranking_row))
}

/// Writes `outcomes.csv`, in the order of the records.
pub fn write_outcomes_csv(records: &[RunRecord], out: &mut dyn Write) -> io::Result<()> {
    write(out, OUTCOMES, records.iter().map(outcome_row))
}

fn write<const N: usize>(out: &mut dyn Write, head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(head)?;
    for row in rows {
        csv.write_record(row)?;
    }
    csv.flush()
}

fn float(value: f64) -> String {
    round6(value).to_string()
}

fn optional(value: Option<f64>) -> String {
    value.map_or_else(String::new, float)
}

fn flag(value: bool) -> String {
    u8::from(value).to_string()
}

const RANKING: [&str; 41] = [
    "rank",
    "scenario",
    "cascade_risk",
    "cascade_risk_low",
    "cascade_risk_high",
    "severity",
    "severity_low",
    "severity_high",
    "p_cascade",
    "p_cascade_low",
    "p_cascade_high",
    "p_metastable",
    "p_metastable_low",
    "p_metastable_high",
    "recovery_s_median",
    "recovery_s_p90",
    "recovery_censored_share",
    "recovery_watched_s",
    "excess_failed_share",
    "error_rate_peak",
    "error_rate_baseline",
    "p99_ms_peak",
    "p99_ms_baseline",
    "retry_amplification_peak",
    "retry_amplification_mean",
    "queue_depth_peak",
    "queue_depth_baseline",
    "queue_node",
    "wasted",
    "stale_writes",
    "duplicate_effects",
    "dead_letters",
    "breached_services",
    "load",
    "faults",
    "runs",
    "worst_world",
    "worst_seed",
    "worst_severity",
    "token",
    "why",
];

fn ranking_row(row: &Row) -> [String; 41] {
    let breached: Vec<String> = row.breached.iter().map(|b| format!("{}:{}", b.node, b.probability)).collect();
    let faults: Vec<&str> = row.faults.iter().map(|f| f.words.as_str()).collect();
    [
        row.rank.to_string(),
        row.id.clone(),
        float(row.cascade_risk.mean),
        float(row.cascade_risk.low),
        float(row.cascade_risk.high),
        float(row.severity.mean),
        float(row.severity.low),
        float(row.severity.high),
        float(row.p_cascade.estimate),
        float(row.p_cascade.low),
        float(row.p_cascade.high),
        float(row.p_metastable.estimate),
        float(row.p_metastable.low),
        float(row.p_metastable.high),
        optional(row.recovery.median_s),
        optional(row.recovery.p90_s),
        float(row.recovery.censored_share),
        float(row.recovery.watched_s),
        float(row.excess_failed_share),
        float(row.error_rate.peak),
        float(row.error_rate.baseline),
        float(row.p99_ms.peak),
        float(row.p99_ms.baseline),
        float(row.retry_amplification_peak),
        float(row.retry_amplification_mean),
        float(row.queue_depth.peak),
        float(row.queue_depth.baseline),
        row.queue_node.clone(),
        float(row.wasted),
        float(row.stale_writes),
        float(row.duplicate_effects),
        float(row.dead_letters),
        breached.join(" "),
        float(row.load),
        faults.join("; "),
        row.runs.to_string(),
        row.worst_world.to_string(),
        row.worst_seed.to_string(),
        float(row.worst_severity),
        row.token.clone(),
        row.why.clone(),
    ]
}

const OUTCOMES: [&str; 46] = [
    "scenario",
    "world",
    "seed",
    "token",
    "digest",
    "events",
    "truncated",
    "horizon_s",
    "start_s",
    "clear_s",
    "requests",
    "failed",
    "twin_failed",
    "harmed",
    "harmed_directly",
    "severity",
    "cascaded",
    "metastable",
    "recovery_s",
    "coalesced_at_s",
    "error_rate_peak",
    "error_rate_baseline",
    "p99_ms_peak",
    "p99_ms_baseline",
    "retry_amplification_peak",
    "retry_amplification_mean",
    "queue_depth_peak",
    "queue_depth_baseline",
    "queue_node",
    "wasted",
    "stale_writes",
    "duplicate_effects",
    "dead_letters",
    "breached",
    "breached_error",
    "live_excess_failed",
    "live_excess_failed_fraction",
    "live_peak_entry_error_rate",
    "live_p99_ms",
    "live_retry_amplification",
    "live_max_queue_node",
    "live_max_queue_depth",
    "live_recovery_s",
    "live_metastable",
    "live_cascaded",
    "live_breached",
];

fn outcome_row(r: &RunRecord) -> [String; 46] {
    let live = &r.vs_baseline;
    let nodes = |by_error: bool| {
        r.breaches.iter().filter(|b| b.by_error || !by_error).map(|b| b.node.as_str()).collect::<Vec<_>>().join(" ")
    };
    [
        r.scenario.clone(),
        r.world.to_string(),
        r.seed.to_string(),
        r.token.clone(),
        r.digest.clone(),
        r.events.to_string(),
        flag(r.truncated),
        float(r.horizon_s),
        float(r.start_s),
        float(r.clear_s),
        r.requests.to_string(),
        r.failed.to_string(),
        r.twin_failed.to_string(),
        r.harmed.to_string(),
        r.harmed_directly.to_string(),
        float(if r.requests == 0 { 0.0 } else { r.harmed as f64 / r.requests as f64 }),
        flag(r.cascaded),
        flag(r.metastable),
        optional(r.recovery_s),
        optional(r.coalesced_at_s),
        float(r.error_rate.peak),
        float(r.error_rate.baseline),
        float(r.p99_ms.peak),
        float(r.p99_ms.baseline),
        float(r.retry_amplification_peak),
        float(r.retry_amplification_mean),
        float(r.queue_depth.peak),
        float(r.queue_depth.baseline),
        r.queue_node.clone(),
        r.wasted.to_string(),
        r.stale_writes.to_string(),
        r.duplicate_effects.to_string(),
        r.dead_letters.to_string(),
        nodes(false),
        nodes(true),
        float(live.excess_failed),
        float(live.excess_failed_fraction),
        float(live.peak_entry_error_rate),
        float(live.p99_ms),
        float(live.retry_amplification),
        live.max_queue_node.clone(),
        live.max_queue_depth.to_string(),
        optional(live.recovery_s),
        flag(live.metastable),
        flag(live.cascaded),
        live.breached.join(" "),
    ]
}
