//! Two engines side by side: how far they agree on each scenario, request by request and in the five numbers.
//!
//! You are here: `reports::engines`. `sim::verify` made the pairs; the command line prints the table.
//! Always true: a number of the hosted engine is held against what a further run of the kernel would show, not against the kernel's mean.

use std::fmt::Write as _;

use scenarios::record::{Agreement, RunRecord, Verified};
use serde::Serialize;

use crate::stats::{mean, round6, sample_deviation, student_t};
use crate::words::clean;

/// One of the five numbers, in both engines.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Number {
    /// Which.
    pub name: &'static str,
    /// What 95 % of further runs of the kernel would show, by those that were ranked (Student's prediction interval, clipped at 0); `None`
    /// with fewer than two runs.
    pub kernel: Option<(f64, f64)>,
    /// The mean over the hosted engine's runs; `None`: it never recovered.
    pub hosted: Option<f64>,
    /// Whether every one of these lies within the interval, to its own resolution.
    pub within: bool,
}

/// How far the engines agree on a scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EngineRow {
    /// The scenario.
    pub scenario: String,
    /// Runs made in both.
    pub runs: u32,
    /// Request by request, over all runs.
    pub agreement: Agreement,
    /// Runs with the same verdicts (cascade, metastable).
    pub same_verdicts: u32,
    /// Error rate at the boundary, p99, retries, queue depth, time to recover.
    pub numbers: Vec<Number>,
    /// The hosted engine's token of the first run.
    pub token: String,
}

impl EngineRow {
    /// Share of the affected requests that is equal; `None`: the fault changed none.
    pub fn equal(&self) -> Option<f64> {
        share(self.agreement.equal, self.agreement.affected)
    }
}

fn share(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| round6(part as f64 / of as f64))
}

/// One row a scenario, in the order in which they first come. `ranked` are the kernel's records of all scenarios.
pub fn compare(verified: &[Verified], ranked: &[RunRecord]) -> Vec<EngineRow> {
    let mut rows: Vec<EngineRow> = Vec::new();
    let mut ids: Vec<&str> = Vec::new();
    for pair in verified {
        if !ids.contains(&pair.hosted.scenario.as_str()) {
            ids.push(&pair.hosted.scenario);
        }
    }
    for id in ids {
        let pairs: Vec<&Verified> = verified.iter().filter(|pair| pair.hosted.scenario == id).collect();
        let kernel: Vec<&RunRecord> = ranked.iter().filter(|record| record.scenario == id).collect();
        let hosted: Vec<&RunRecord> = pairs.iter().map(|pair| &pair.hosted).collect();
        let sum = |count: fn(&Agreement) -> u64| pairs.iter().map(|pair| count(&pair.agreement)).sum();
        let others: Option<Vec<u64>> = pairs.iter().map(|pair| pair.agreement.equal_under_another).collect();
        let same =
            |pair: &&&Verified| (pair.kernel.cascaded, pair.kernel.metastable) == (pair.hosted.cascaded, pair.hosted.metastable);
        rows.push(EngineRow {
            scenario: id.to_owned(),
            runs: pairs.len() as u32,
            agreement: Agreement {
                affected: sum(|a| a.affected),
                equal: sum(|a| a.equal),
                same_outcome: sum(|a| a.same_outcome),
                equal_under_another: others.map(|counts| counts.iter().sum()),
                equal_under_none: sum(|a| a.equal_under_none),
            },
            same_verdicts: pairs.iter().filter(same).count() as u32,
            numbers: FIVE.iter().map(|five| number(five, &kernel, &hosted)).collect(),
            token: pairs[0].hosted.token.clone(),
        });
    }
    rows
}

/// One of the five numbers: its name, how fine it is told, and where it stands in a record.
struct Five {
    name: &'static str,
    /// Absolute, and relative.
    resolution: (f64, f64),
    of: fn(&RunRecord) -> Option<f64>,
}

/// A clock of whole milliseconds makes times longer by one at each step of a request, and a histogram tells 1 % apart.
const FIVE: [Five; 5] = [
    Five { name: "error rate", resolution: (0.01, 0.0), of: |r| Some(r.error_rate.peak) },
    Five { name: "p99 ms", resolution: (10.0, 0.05), of: |r| Some(r.p99_ms.peak) },
    Five { name: "retries", resolution: (0.05, 0.0), of: |r| Some(r.retry_amplification_peak) },
    Five { name: "queue", resolution: (2.0, 0.05), of: |r| Some(r.queue_depth.peak) },
    Five { name: "recovery s", resolution: (0.25, 0.0), of: |r| r.recovery_s },
];

fn number(five: &Five, kernel: &[&RunRecord], hosted: &[&RunRecord]) -> Number {
    let there: Vec<f64> = kernel.iter().filter_map(|record| (five.of)(record)).collect();
    let here: Vec<f64> = hosted.iter().filter_map(|record| (five.of)(record)).collect();
    let interval = (there.len() > 1).then(|| {
        let n = there.len() as f64;
        let half = student_t(there.len() - 1) * sample_deviation(&there) * (1.0 + 1.0 / n).sqrt();
        let (low, high) = (mean(&there) - half, mean(&there) + half);
        // What was seen can be seen.
        let seen = there.iter().fold((low, high), |(low, high), &value| (low.min(value), high.max(value)));
        (round6(seen.0.max(0.0)), round6(seen.1))
    });
    let within = |&value: &f64| {
        interval.is_none_or(|(low, high)| {
            let slack = five.resolution.0 + five.resolution.1 * high;
            value >= low - slack && value <= high + slack
        })
    };
    // One that never recovers agrees with a kernel that does not always do so.
    let censored = here.len() == hosted.len() || there.len() < kernel.len();
    Number {
        name: five.name,
        kernel: interval,
        hosted: (!here.is_empty()).then(|| round6(mean(&here))),
        within: here.iter().all(within) && censored,
    }
}

/// The table, ending in a line end.
pub fn table(rows: &[EngineRow]) -> String {
    let percent = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0));
    let head =
        ["scenario", "affected", "equal", "same outcome", "other fault", "no fault", "verdicts", "outside the kernel's interval"];
    let mut lines = vec![head.map(str::to_owned)];
    for row in rows {
        let Agreement { affected, same_outcome, equal_under_another, equal_under_none, .. } = row.agreement;
        let outside: Vec<String> = row.numbers.iter().filter(|number| !number.within).map(outside).collect();
        lines.push([
            clean(&row.scenario),
            affected.to_string(),
            percent(row.equal()),
            percent(share(same_outcome, affected)),
            percent(equal_under_another.and_then(|count| share(count, affected))),
            percent(share(equal_under_none, affected)),
            format!("{} of {}", row.same_verdicts, row.runs),
            if outside.is_empty() { "none".to_owned() } else { outside.join("; ") },
        ]);
    }
    let widths: Vec<usize> = (0..head.len()).map(|c| lines.iter().map(|l| l[c].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for line in &lines {
        for (c, cell) in line.iter().enumerate() {
            let gap = if c == 0 { "" } else { "  " };
            if c == 0 || c + 1 == head.len() {
                let _ = write!(text, "{gap}{cell:<width$}", width = widths[c]);
            } else {
                let _ = write!(text, "{gap}{cell:>width$}", width = widths[c]);
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn outside(number: &Number) -> String {
    let (low, high) = number.kernel.unwrap_or_default();
    match number.hosted {
        Some(hosted) => format!("{} {hosted:.2} (kernel {low:.2} to {high:.2})", number.name),
        None => format!("{} never (kernel {low:.2} to {high:.2})", number.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record;

    fn pair(scenario: &str, seed: u64, agreement: Agreement) -> Verified {
        Verified { kernel: record(scenario, seed), hosted: record(scenario, seed), agreement }
    }

    #[test]
    fn rows_add_up_runs_and_name_what_lies_outside() {
        let agreement =
            Agreement { affected: 100, equal: 90, same_outcome: 99, equal_under_another: Some(3), equal_under_none: 2 };
        let mut verified = vec![pair("b", 1, agreement), pair("a", 1, Agreement::default()), pair("b", 2, agreement)];
        let ranked: Vec<RunRecord> = (1..6).flat_map(|seed| [record("a", seed), record("b", seed)]).collect();
        verified[2].hosted.metastable = !verified[2].hosted.metastable;
        verified[2].hosted.retry_amplification_peak += 50.0;
        let rows = compare(&verified, &ranked);
        assert_eq!(rows.iter().map(|row| row.scenario.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!((rows[0].runs, rows[0].agreement.affected, rows[0].equal(), rows[0].same_verdicts), (2, 200, Some(0.9), 1));
        assert_eq!((rows[1].equal(), rows[1].same_verdicts), (None, 1));
        let outside: Vec<&str> = rows[0].numbers.iter().filter(|n| !n.within).map(|n| n.name).collect();
        assert_eq!(outside, ["retries"]);
        let text = table(&rows);
        assert!(text.contains("90.0 %") && text.contains("retries") && text.lines().count() == 3, "{text}");
    }

    #[test]
    fn who_never_recovers_agrees_only_with_a_kernel_that_sometimes_does_not() {
        let mut ranked: Vec<RunRecord> = (1..6).map(|seed| record("a", seed)).collect();
        ranked.iter_mut().for_each(|record| record.recovery_s = Some(2.0));
        let mut hosted = record("a", 1);
        hosted.recovery_s = None;
        let recovery =
            |ranked: &[RunRecord], hosted: &RunRecord| number(&FIVE[4], &ranked.iter().collect::<Vec<_>>(), &[hosted]).within;
        assert!(!recovery(&ranked, &hosted));
        ranked[0].recovery_s = None;
        assert!(recovery(&ranked, &hosted));
        hosted.recovery_s = Some(9.0);
        assert!(!recovery(&ranked, &hosted));
    }
}
