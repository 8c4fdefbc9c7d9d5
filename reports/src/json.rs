//! `ranking.json`: the ranking for machines, under `schema/ranking.schema.json`.
//!
//! You are here: `reports::json`. Names and meanings stay from version to version; keys may be added.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::live::{Comparison, Pair, Side, Verdicts};
use crate::stats::{Estimate, Proportion};
use crate::view::{Against, FaultView, Report, Row};

/// The JSON Schema that every `ranking.json` meets.
pub const RANKING_SCHEMA: &str = include_str!("../schema/ranking.schema.json");

/// Writes `ranking.json`, indented, with a line end after it.
pub fn write_ranking_json(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut file = json!({
        "version": 1,
        "runs": report.runs,
        "seeds": report.seeds,
        "worlds": report.worlds,
        "requests": report.requests,
        "scenarios": report.rows.iter().map(row).collect::<Vec<_>>(),
    });
    if let Some(live) = &report.live {
        file["live"] = comparison(live);
    }
    serde_json::to_writer_pretty(&mut *out, &file)?;
    out.write_all(b"\n")
}

fn row(row: &Row) -> Value {
    json!({
        "id": row.id,
        "rank": row.rank,
        "why": row.why,
        "load": row.load,
        "faults": row.faults.iter().map(fault).collect::<Vec<_>>(),
        "runs": row.runs,
        "cascade_risk": estimate(&row.cascade_risk),
        "severity": estimate(&row.severity),
        "p_cascade": proportion(&row.p_cascade),
        "p_metastable": proportion(&row.p_metastable),
        "recovery_s": {
            "median": row.recovery.median_s,
            "p90": row.recovery.p90_s,
            "censored_share": row.recovery.censored_share,
            "watched_s": row.recovery.watched_s,
        },
        "excess_failed_share": row.excess_failed_share,
        "error_rate": against(&row.error_rate),
        "p99_ms": against(&row.p99_ms),
        "retry_amplification": { "peak": row.retry_amplification_peak, "mean": row.retry_amplification_mean },
        "queue_depth": { "peak": row.queue_depth.peak, "baseline": row.queue_depth.baseline, "node": row.queue_node },
        "wasted": row.wasted,
        "stale_writes": row.stale_writes,
        "duplicate_effects": row.duplicate_effects,
        "dead_letters": row.dead_letters,
        "breached_services": row.breached.iter()
            .map(|b| json!({ "service": b.node, "probability": b.probability, "by_error": b.by_error, "by_p99": b.by_p99 }))
            .collect::<Vec<_>>(),
        "token": row.token,
        "worst": { "seed": row.worst_seed, "world": row.worst_world, "severity": row.worst_severity },
    })
}

fn fault(fault: &FaultView) -> Value {
    let mut value = json!({ "kind": fault.kind, "target": fault.target, "start": fault.start, "duration": fault.duration });
    for (key, ramp) in [("ramp_up", &fault.ramp_up), ("ramp_down", &fault.ramp_down)] {
        if let Some(ramp) = ramp {
            value[key] = json!(ramp);
        }
    }
    value["magnitude"] = json!(fault.magnitude);
    value
}

fn estimate(e: &Estimate) -> Value {
    json!({ "mean": e.mean, "low": e.low, "high": e.high })
}

fn proportion(p: &Proportion) -> Value {
    json!({ "estimate": p.estimate, "low": p.low, "high": p.high })
}

fn against(a: &Against) -> Value {
    json!({ "peak": a.peak, "baseline": a.baseline })
}

fn comparison(live: &Comparison) -> Value {
    json!({
        "rank_correlation": live.rank_correlation,
        "cascade": verdicts(&live.cascade),
        "metastable": verdicts(&live.metastable),
        "breached_overlap": live.breached_overlap,
        "only_live": live.only_live,
        "only_rehearsed": live.only_rehearsed,
        "scenarios": live.pairs.iter().map(pair).collect::<Vec<_>>(),
    })
}

fn verdicts(v: &Verdicts) -> Value {
    json!({ "hits": v.hits, "misses": v.misses, "false_alarms": v.false_alarms, "quiet": v.quiet })
}

fn pair(pair: &Pair) -> Value {
    json!({ "id": pair.id, "predicted": side(&pair.predicted), "live": side(&pair.live), "breached_overlap": pair.overlap })
}

fn side(side: &Side) -> Value {
    json!({
        "runs": side.runs,
        "excess_failed_fraction": side.excess_failed_fraction,
        "peak_entry_error_rate": side.peak_entry_error_rate,
        "p99_ms": side.p99_ms,
        "retry_amplification": side.retry_amplification,
        "max_queue_depth": side.max_queue_depth,
        "recovery_s": side.recovery_s,
        "not_recovered": side.not_recovered,
        "cascaded": side.cascaded,
        "metastable": side.metastable,
        "breached": side.breached,
    })
}
