//! The events of a run as JSON lines.
//!
//! You are here: `sim::events`. `replay --events` writes them through [`Prepared::run_with_events`].
//! Always true: they are the events that make the digest, each once, in the order in which they happened; writing them changes nothing of the run,
//! and a second of them at most is held at once.
//!
//! A line is `{"time_ns": 61250000000, "kind": "answered", "place": "payment", "key": "8f1c...", "since_ns": 61200000000}`. `key` is the keyed draw
//! of what the event is about, 16 hex digits, the same under every scenario of a seed: of the user request (`user_*`), the try (`answered`,
//! `failed`, `killed`, `try_timed_out`, `resent`) or the message. `since_ns` is when what ended now began.
//!
//! | kind | place | what |
//! | --- | --- | --- |
//! | `user_arrives`, `user_done`, `user_failed` | entry | a user asks, is answered rightly, is not |
//! | `answered`, `failed` | service | a request leaves it rightly; with an error, refused, or for nothing |
//! | `killed` | service or topic | a request or message is lost in a crash |
//! | `try_timed_out`, `resent` | edge | its caller gives a try up; sends another |
//! | `message_done`, `message_dead` | topic | a message is acknowledged; is given up |
//! | `replica_started`, `replica_left_out`, `replica_taken_in` | service, with `replica` | autoscaling, and what health checks notice |
//! | `fault_begins`, `fault_changes`, `fault_ends` | the fault's number | what the scenario does |

use std::io::{self, Write};

use models::units::Nanos;
use serde::Serialize;

use crate::des::{Mark, Noted};
use crate::program::Tables;
use crate::run::{Finished, Prepared};

const SECOND: u64 = 1_000_000_000;

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    time_ns: u64,
    kind: &'static str,
    place: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    replica: Option<u32>,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    since_ns: Option<u64>,
}

impl Prepared {
    /// Runs to the horizon and writes every event, one JSON object a line.
    ///
    /// # Errors
    /// What `out` says; the run ends there.
    pub fn run_with_events(mut self, out: &mut dyn Write) -> io::Result<Finished> {
        self.log();
        let horizon = self.horizon().as_nanos();
        let mut at = 0;
        let mut truncated = false;
        while at < horizon && !truncated {
            at = (at + SECOND).min(horizon);
            truncated = self.run_to(Nanos::from_nanos(at));
            for noted in self.take_log() {
                serde_json::to_writer(&mut *out, &line(self.tables(), &noted, &mut String::new()))?;
                out.write_all(b"\n")?;
            }
        }
        Ok(self.end(truncated))
    }
}

fn line<'a>(p: &'a Tables, noted: &Noted, number: &'a mut String) -> Line<'a> {
    let Noted { time, since, key, place, mark } = *noted;
    let node = |place: u32| p.nodes[place as usize].name.as_str();
    let mut replica = None;
    let (kind, place): (&str, &str) = match mark {
        Mark::UserArrives => ("user_arrives", node(place)),
        Mark::UserDone => ("user_done", node(place)),
        Mark::UserFailed => ("user_failed", node(place)),
        Mark::Answered => ("answered", node(place)),
        Mark::Failed => ("failed", node(place)),
        Mark::Killed => ("killed", node(place)),
        Mark::MessageDone => ("message_done", node(place)),
        Mark::MessageDead => ("message_dead", node(place)),
        Mark::TryTimedOut | Mark::Resent => {
            let edge = &p.policies[place as usize].name;
            *number = edge.to_string();
            (if matches!(mark, Mark::Resent) { "resent" } else { "try_timed_out" }, number.as_str())
        }
        Mark::Scaled => {
            let service = p.services.partition_point(|s| s.replica_base <= place) - 1;
            replica = Some(place - p.services[service].replica_base);
            let kind = match key.0 {
                1 => "replica_started",
                2 => "replica_left_out",
                _ => "replica_taken_in",
            };
            (kind, node(p.services[service].node))
        }
        Mark::FaultEdge => {
            *number = (place / 4).to_string();
            let kind = match place % 4 {
                0 => "fault_begins",
                1 => "fault_ends",
                _ => "fault_changes",
            };
            (kind, number.as_str())
        }
    };
    let ends = !matches!(mark, Mark::UserArrives | Mark::TryTimedOut | Mark::Resent | Mark::Scaled | Mark::FaultEdge);
    Line { time_ns: time, kind, place, replica, key: format!("{:016x}", key.0), since_ns: ends.then_some(since) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use scenarios::scenario::Scenario;
    use serde_json::Value;

    use super::*;
    use crate::fixtures::{EVERYTHING, MALL, TWENTY, faults, program};
    use crate::run::RunOptions;

    #[test]
    fn a_logged_run_is_the_run_itself_and_its_lines_add_up_to_its_totals() {
        for fixture in [MALL, EVERYTHING, TWENTY] {
            let program = program(fixture);
            let options = RunOptions { horizon: Nanos::from_secs(20), ..RunOptions::default() };
            for scenario in std::iter::once(Scenario::default()).chain(faults(fixture)) {
                let ready = || Prepared::new(&program, &scenario, &options).expect("it fits");
                let plain = ready().run();
                let mut out = Vec::new();
                let logged = ready().run_with_events(&mut out).expect("memory");
                assert_eq!((plain.digest(), plain.events), (logged.digest(), logged.events), "{}", scenario.id);
                let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
                let mut last = 0;
                for text in out.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
                    let line: Value = serde_json::from_slice(text).expect("JSON");
                    let time = line["time_ns"].as_u64().expect("a time");
                    assert!(time >= last && time < 20_000_000_000, "in order");
                    assert!(line["since_ns"].as_u64().is_none_or(|since| since <= time));
                    last = time;
                    *kinds.entry(line["kind"].as_str().expect("a kind").to_owned()).or_default() += 1;
                }
                let result = plain.result();
                let of = |kind: &str| kinds.get(kind).copied().unwrap_or(0);
                let ended: u64 = result.entries.values().map(|entry| entry.requests).sum();
                let failed: u64 = result.entries.values().map(|entry| entry.errors).sum();
                assert_eq!(
                    (of("user_done") + of("user_failed"), of("user_failed")),
                    (ended, failed),
                    "{}: {kinds:?}",
                    scenario.id
                );
                let begun = scenario.faults.iter().filter(|fault| fault.start.as_secs_f64() < 20.0).count() as u64;
                assert_eq!(of("fault_begins"), begun, "{}", scenario.id);
            }
        }
    }
}
