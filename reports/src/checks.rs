//! What came of checks: as text, as Markdown for a pull request, as JSON.
//!
//! You are here: `reports::checks`. `foreshock check` fills [`CheckResults`]; JUnit is written by the command line.
//! Always true: names and reasons come from files, so no control character or table border of theirs reaches the output as such.
//! Not here: the test itself (`sequential`).

use std::fmt::Write as _;

use models::units::Nanos;
use scenarios::checks::Bound;
use serde::Serialize;

use crate::words::{clean, count, duration, list, number, plural, quoted, share};

/// All checks of a file.
#[derive(Clone, Debug, Serialize)]
pub struct CheckResults {
    /// The file.
    pub file: String,
    /// The model's file.
    pub model: String,
    /// In the file's order.
    pub checks: Vec<CheckResult>,
    /// Where failing runs were written, so that they can be played again; empty if there are none.
    pub folder: String,
    /// Runs made in all.
    pub runs: u64,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub struct CheckResult {
    /// Its name.
    pub id: String,
    /// Why somebody cares.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What it says, in words.
    pub says: String,
    /// What came of it.
    pub status: Status,
    /// Its cases.
    pub cases: Vec<CaseResult>,
    /// Something to know of it; empty if there is nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// What came of a check or case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It holds.
    Holds,
    /// It does not.
    Fails,
    /// Neither could be shown with the runs allowed; counts as a failure.
    Undecided,
}

impl Status {
    /// In a word, as tables show it.
    pub fn word(self) -> &'static str {
        match self {
            Status::Holds => "holds",
            Status::Fails => "FAILS",
            Status::Undecided => "NOT SHOWN",
        }
    }
}

/// One case of a check.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// What it is, beside others; empty if it is the only one.
    pub label: String,
    /// The scenario's id.
    pub scenario: String,
    /// What came of it.
    pub status: Status,
    /// Runs that were made.
    pub runs: u32,
    /// Runs that did not keep what is expected.
    pub failures: u32,
    /// What share of runs may fail so, by these runs.
    pub interval: [f64; 2],
    /// The first run that did not keep it (for a run that must fail: that did).
    pub failing: Option<Failing>,
}

/// A run that did not do what it should.
#[derive(Clone, Debug, Serialize)]
pub struct Failing {
    /// Names it.
    pub token: String,
    /// What it showed.
    pub shows: String,
}

impl CheckResults {
    /// True if every check holds.
    pub fn all_hold(&self) -> bool {
        self.checks.iter().all(|check| check.status == Status::Holds)
    }

    /// The command that plays a run again.
    pub fn command(&self, failing: &Failing) -> String {
        format!("foreshock explain {} --in {}", quoted(&failing.token), quoted(&self.folder))
    }

    /// The checks that do not hold, by number of each status.
    fn totals(&self) -> String {
        let of = |status: Status| self.checks.iter().filter(|check| check.status == status).count() as u64;
        let mut parts = vec![format!("{} of {} hold", count(of(Status::Holds)), plural(self.checks.len() as u64, "check"))];
        parts.extend((of(Status::Fails) > 0).then(|| format!("{} failed", count(of(Status::Fails)))));
        parts.extend((of(Status::Undecided) > 0).then(|| format!("{} could not be shown", count(of(Status::Undecided)))));
        format!("{} ({})", parts.join(", "), plural(self.runs, "run"))
    }

    /// As text, ending in a line end.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for check in &self.checks {
            let _ = writeln!(text, "{:<9}  {}: {}", check.status.word(), check.id, check.says);
            if !check.note.is_empty() {
                let _ = writeln!(text, "           {}", check.note);
            }
            for case in check.notable() {
                let _ = writeln!(text, "           {}", case.words());
                if let Some(failing) = &case.failing {
                    let _ = writeln!(text, "             {}: {}", failing.shows, self.command(failing));
                }
            }
            if let Some(line) = check.others() {
                let _ = writeln!(text, "           {line}");
            }
        }
        let _ = writeln!(text, "\n{}", self.totals());
        text.lines().map(clean).collect::<Vec<_>>().join("\n") + "\n"
    }

    /// As GitHub-flavoured Markdown: a table, and what to do about each failure.
    pub fn markdown(&self) -> String {
        let mut text = format!("## Foreshock: {}\n\n", cell(&self.totals()));
        text += "| check | result | says | runs |\n| --- | --- | --- | ---: |\n";
        for check in &self.checks {
            let mark = match check.status {
                Status::Holds => ":white_check_mark: holds",
                Status::Fails => ":x: fails",
                Status::Undecided => ":grey_question: not shown",
            };
            let runs: u64 = check.cases.iter().map(|case| u64::from(case.runs)).sum();
            let _ = writeln!(text, "| {} | {mark} | {} | {} |", cell(&check.id), cell(&check.says), count(runs));
        }
        for check in self.checks.iter().filter(|check| check.status != Status::Holds) {
            let _ = write!(text, "\n### {}\n\n", cell(&check.id));
            for line in [&check.why, &check.note].into_iter().filter(|line| !line.is_empty()) {
                let _ = writeln!(text, "{}\n", cell(line));
            }
            for case in check.notable() {
                let _ = writeln!(text, "- {}", cell(&case.words()));
                if let Some(failing) = &case.failing {
                    let _ = writeln!(
                        text,
                        "  {}. Play it again:\n\n  ```sh\n  {}\n  ```",
                        cell(&failing.shows),
                        clean(&self.command(failing))
                    );
                }
            }
        }
        text
    }
}

impl CheckResult {
    /// The cases worth a line: those that do not hold, at most ten.
    pub fn notable(&self) -> impl Iterator<Item = &CaseResult> {
        self.cases.iter().filter(|case| case.status != Status::Holds).take(10)
    }

    /// The other cases in a line.
    fn others(&self) -> Option<String> {
        let holding: Vec<&CaseResult> = self.cases.iter().filter(|case| case.status == Status::Holds).collect();
        let runs: u64 = holding.iter().map(|case| u64::from(case.runs)).sum();
        let hidden = self.cases.len() - holding.len() - self.notable().count();
        let more = if hidden > 0 { format!("{} more do not; ", plural(hidden as u64, "case")) } else { String::new() };
        match holding.len() {
            0 if hidden == 0 => None,
            0 => Some(more.trim_end_matches("; ").to_owned()),
            // A token's case is the check itself.
            1 if self.cases.len() == 1 => Some(format!("shown by {}", plural(runs, "run"))),
            n => Some(format!(
                "{more}{} {}, shown by {}",
                plural(n as u64, "case"),
                if n == 1 { "holds" } else { "hold" },
                plural(runs, "run")
            )),
        }
    }
}

impl CaseResult {
    /// A line on it.
    pub fn words(&self) -> String {
        let who = if self.label.is_empty() { String::new() } else { format!("{}: ", self.label) };
        format!(
            "{who}not in {} of {} (between {} and {} of all, by these)",
            count(u64::from(self.failures)),
            plural(u64::from(self.runs), "run"),
            share(self.interval[0]),
            share(self.interval[1])
        )
    }
}

/// What a bound says, as half a sentence: "no run is metastable".
pub fn bound(bound: &Bound, at: Option<&str>) -> String {
    match *bound {
        Bound::Never(failure) => match failure.name() {
            "metastable" => "users get their service back once the fault has gone (not metastable)".to_owned(),
            "cascade" => "nothing fails that the fault does not strike (no cascade)".to_owned(),
            _ => "nothing leaves what it shows without the fault (no breach)".to_owned(),
        },
        Bound::RecoveryWithin(time) => format!("users are back to normal within {}", duration(time)),
        Bound::ErrorRateBelow(rate) => format!(
            "less than {} of the requests {} fail",
            share(rate),
            at.map_or("of users".to_owned(), |at| format!("at {at}"))
        ),
        Bound::P99Below(time) => format!("users' p99 stays below {}", duration(time)),
        Bound::QueueBelow(depth) => format!("no queue is as deep as {}", count(u64::from(depth))),
        Bound::RetryAmplificationBelow(ratio) => format!("calls are tried less than {} times on average", number(ratio)),
        Bound::HarmedBelow(part) => format!("less than {} of the requests are harmed", share(part)),
        Bound::StaleWritesAtMost(most) => at_most(most, "stale write"),
        Bound::DuplicateEffectsAtMost(most) => at_most(most, "duplicate effect"),
        Bound::DeadLettersAtMost(most) => at_most(most, "dead letter"),
    }
}

fn at_most(most: u32, what: &str) -> String {
    if most == 0 { format!("there is no {what}") } else { format!("there are at most {}", plural(u64::from(most), what)) }
}

/// All bounds of a check, joined.
pub fn bounds(all: &[Bound], at: Option<&str>) -> String {
    list(&all.iter().map(|one| bound(one, at)).collect::<Vec<_>>(), 20)
}

/// What a run showed that broke a bound.
pub fn shown(broken: &Bound, record: &scenarios::record::RunRecord, error_rate_at: Option<f64>) -> String {
    let part = |n: u64| share(n as f64 / record.requests.max(1) as f64);
    match *broken {
        Bound::Never(failure) => match failure.name() {
            "metastable" => {
                format!(
                    "metastable: still broken {} after the fault had gone",
                    crate::words::seconds(record.horizon_s - record.clear_s)
                )
            }
            "cascade" => {
                let names: Vec<String> = record.breaches.iter().filter(|b| b.by_error).map(|b| b.node.clone()).collect();
                format!("a cascade: {} failed", list(&names, 6))
            }
            _ => {
                let names: Vec<String> = record.breaches.iter().map(|b| b.node.clone()).collect();
                format!("{} broke", list(&names, 6))
            }
        },
        Bound::RecoveryWithin(_) => record.recovery_s.map_or_else(
            || "users were not back to normal when the run ended".to_owned(),
            |s| format!("users were back to normal after {}", duration(Nanos::from_secs_f64(s))),
        ),
        Bound::ErrorRateBelow(_) => {
            format!("{} of the requests failed", error_rate_at.map_or_else(|| part(record.failed), share))
        }
        Bound::P99Below(_) => format!("p99 rose to {}", crate::words::millis(record.p99_ms.peak)),
        Bound::QueueBelow(_) => format!("{} waited at {}", number(record.queue_depth.peak), record.queue_node),
        Bound::RetryAmplificationBelow(_) => format!("calls were tried {} times", number(record.retry_amplification_peak)),
        Bound::HarmedBelow(_) => format!("{} of the requests were harmed", part(record.harmed)),
        Bound::StaleWritesAtMost(_) => plural(record.stale_writes, "stale write"),
        Bound::DuplicateEffectsAtMost(_) => plural(record.duplicate_effects, "duplicate effect"),
        Bound::DeadLettersAtMost(_) => plural(record.dead_letters, "dead letter"),
    }
}

/// Text within a table's cell.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in clean(text).chars() {
        if "\\|`*_<>[]".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> CheckResults {
        let case = |label: &str, status, failures, failing| CaseResult {
            label: label.into(),
            scenario: "s".into(),
            status,
            runs: 71,
            failures,
            interval: [0.0, 0.05],
            failing,
        };
        let failing = Failing { token: "fs1-a".into(), shows: "metastable".into() };
        let check = |id: &str, status, cases| CheckResult {
            id: id.into(),
            why: String::new(),
            says: "no storm".into(),
            status,
            cases,
            note: String::new(),
        };
        CheckResults {
            file: "checks.yaml".into(),
            model: "model.yaml".into(),
            checks: vec![
                check("good", Status::Holds, vec![case("", Status::Holds, 0, None)]),
                check(
                    "bad|\u{1b}",
                    Status::Fails,
                    vec![case("a->b", Status::Fails, 9, Some(failing)), case("b->c", Status::Holds, 0, None)],
                ),
            ],
            folder: "out dir".into(),
            runs: 213,
        }
    }

    #[test]
    fn text_names_what_fails_and_the_command() {
        expect_test::expect![[r#"
            holds      good: no storm
                       shown by 71 runs
            FAILS      bad|�: no storm
                       a->b: not in 9 of 71 runs (between 0 % and 5 % of all, by these)
                         metastable: foreshock explain fs1-a --in 'out dir'
                       1 case holds, shown by 71 runs

            1 of 2 checks hold, 1 failed (213 runs)
        "#]]
        .assert_eq(&results().text());
    }

    #[test]
    fn markdown_is_a_table_that_no_name_can_break() {
        expect_test::expect![[r"
            ## Foreshock: 1 of 2 checks hold, 1 failed (213 runs)

            | check | result | says | runs |
            | --- | --- | --- | ---: |
            | good | :white_check_mark: holds | no storm | 71 |
            | bad\|� | :x: fails | no storm | 142 |

            ### bad\|�

            - a-\>b: not in 9 of 71 runs (between 0 % and 5 % of all, by these)
              metastable. Play it again:

              ```sh
              foreshock explain fs1-a --in 'out dir'
              ```
        "]]
        .assert_eq(&results().markdown());
    }
}
