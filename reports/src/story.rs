//! The story of one run in words that somebody can follow who was not there.
//!
//! You are here: `reports::story`. `foreshock explain` prints [`as_text`]; [`Told`] as JSON is the same evidence as it is.
//! Always true: every number and time is the run's own; nothing is said of causes that no run with the thing taken away has shown.
//! Not here: how it was measured (`sim::story`), which further runs were made (the command line).

use std::fmt::Write as _;

use scenarios::record::RunRecord;
use scenarios::removal::Removal;
use scenarios::scenario::Scenario;
use scenarios::story::{Aftermath, Asked, Broken, QueueStood, RetryWave, Story, Sustained, Trial};
use serde::Serialize;
use serde::ser::{SerializeStruct as _, Serializer};

use crate::words::{self, clean, list, millis, number, plural, quoted, seconds, share};

/// Lines of one kind before the rest is counted.
const MOST: usize = 6;

/// A run and all that is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// What was done.
    pub scenario: &'a Scenario,
    /// What came of it.
    pub record: &'a RunRecord,
    /// In order of time.
    pub story: &'a Story,
    /// What kept it broken; `None` if nothing did.
    pub sustained: Option<&'a Sustained>,
    /// The world.
    pub world: u32,
    /// Where it was found, for the commands that are shown.
    pub folder: &'a str,
}

impl Serialize for Told<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Trigger {
            kind: &'static str,
            target: String,
            words: String,
            start_s: f64,
            end_s: f64,
        }
        let triggers: Vec<Trigger> = self
            .scenario
            .faults
            .iter()
            .map(|fault| Trigger {
                kind: fault.kind.name(),
                target: fault.target.to_string(),
                words: words::fault(fault),
                start_s: fault.start.as_secs_f64(),
                end_s: fault.clears_at().as_secs_f64(),
            })
            .collect();
        let mut fields = serializer.serialize_struct("Told", 7)?;
        fields.serialize_field("token", &self.record.token)?;
        fields.serialize_field("scenario", &self.scenario.id)?;
        fields.serialize_field("load", &self.scenario.load())?;
        fields.serialize_field("triggers", &triggers)?;
        fields.serialize_field("story", self.story)?;
        fields.serialize_field("sustained", &self.sustained)?;
        fields.serialize_field("record", self.record)?;
        fields.end()
    }
}

/// The story, ending in a line end.
pub fn as_text(told: &Told<'_>) -> String {
    let Told { scenario, record, story, world, .. } = *told;
    let mut text = format!("The story of {} (seed {}, world {world}): {}\n", scenario.id, record.seed, headline(told));
    let mut part = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            let _ = write!(text, "\n{title}\n");
            lines.iter().for_each(|line| text += &format!("  {line}\n"));
        }
    };
    part("What is normal", normal(story, scenario));
    part("What happened", course(told));
    part("After the fault had gone", story.aftermath.as_ref().map_or_else(Vec::new, |after| aftermath(after, record)));
    let (title, lines) = told.sustained.map_or(("", Vec::new()), sustained);
    part(title, lines);
    part("Why it ended", ending(told));
    part("What to do next", next(told));
    text.lines().map(clean).collect::<Vec<_>>().join("\n") + "\n"
}

/// The whole of it in a sentence.
fn headline(told: &Told<'_>) -> String {
    let record = told.record;
    let watched = seconds(record.horizon_s - record.clear_s);
    let wrong = [(record.stale_writes, "stale write"), (record.duplicate_effects, "duplicate effect")];
    let wrong: Vec<String> = wrong.iter().filter(|(count, _)| *count > 0).map(|(count, what)| plural(*count, what)).collect();
    let mut text = if record.breaches.is_empty() {
        "nothing broke".to_owned()
    } else {
        let far = if record.cascaded { ", also beyond what the fault strikes," } else { "" };
        match record.recovery_s {
            Some(s) if s <= 0.0 => format!("it broke{far} and users were back to normal the moment the fault ended"),
            Some(s) => format!("it broke{far} and users were back to normal {} after the fault's end", seconds(s)),
            None if record.metastable => {
                format!("it broke{far} and did not come back by itself: {watched} after the fault had gone it was still broken")
            }
            None => format!("it broke{far} and users were not yet back to normal when the run ended"),
        }
    };
    if !wrong.is_empty() {
        text += &format!(
            "{} {} that no error rate shows",
            if record.breaches.is_empty() { ", but there were" } else { "; there were" },
            list(&wrong, 2)
        );
    }
    if record.truncated {
        text += "; the run used up its budget of events and ended early";
    }
    text
}

fn normal(story: &Story, scenario: &Scenario) -> Vec<String> {
    let load =
        if scenario.load() == 1.0 { String::new() } else { format!(" (at {} times the usual load)", number(scenario.load())) };
    let entries = story.normal.iter().take(MOST).map(|entry| {
        format!(
            "{} ask for {} requests/s{load}: {} of them fail, and 99 of 100 are answered within {}.",
            entry.entry,
            number(entry.per_s),
            share(entry.error_rate),
            millis(entry.p99_ms)
        )
    });
    entries.collect()
}

/// What happened, line by line, each with its time.
fn course(told: &Told<'_>) -> Vec<String> {
    let Told { scenario, record, story, .. } = *told;
    // (When, what comes first of the same time, what.)
    let mut lines: Vec<(f64, u8, String)> = Vec::new();
    for fault in &scenario.faults {
        lines.push((fault.start.as_secs_f64(), 0, format!("The trigger: {}.", words::fault(fault))));
        lines.push((fault.clears_at().as_secs_f64(), 1, "The trigger has gone.".to_owned()));
    }
    if scenario.faults.is_empty() {
        lines.push((0.0, 0, "Nothing is done to it: a control.".to_owned()));
    }
    let first = |i: usize, word: &str| if i == 0 { format!("The first {word}") } else { format!("Another {word}") };
    for (i, queue) in story.queues.iter().take(MOST).enumerate() {
        lines.push((queue.first_s, 2, format!("{}: {}", first(i, "queue to stand"), stood(queue))));
    }
    for (i, wave) in story.retries.iter().take(MOST).enumerate() {
        lines.push((wave.first_s, 3, format!("{}: {}", first(i, "retry wave"), waved(wave))));
    }
    for (i, broken) in story.breaches.iter().take(2 * MOST).enumerate() {
        lines.push((
            broken.first_s,
            4,
            format!("{} {}", if i == 0 { "The first to break:" } else { "Breaks too:" }, broke(broken)),
        ));
    }
    for (effects, what) in [
        (&story.stale_writes, "older update is applied over a newer one"),
        (&story.duplicate_effects, "message is applied a second time"),
    ] {
        if let Some(effects) = effects {
            let all = if effects.count == 1 {
                "the only one".to_owned()
            } else {
                format!("the first of {}, the last at {}", words::count(effects.count), at(effects.last_s))
            };
            lines.push((
                effects.first_s,
                5,
                format!("An {what} ({all}): a wrong answer, and no error.").replace("An message", "A message"),
            ));
        }
    }
    for queue in story.queues.iter().take(MOST) {
        if let Some(calm) = queue.calm_s.filter(|&calm| calm > queue.first_s) {
            lines.push((calm, 6, format!("The queue of {} has drained.", queue.node)));
        }
    }
    for wave in story.retries.iter().take(MOST) {
        if let Some(calm) = wave.calm_s.filter(|&calm| calm > wave.first_s) {
            lines.push((calm, 7, format!("The retries on {} are back to normal.", wave.edge)));
        }
    }
    if !record.breaches.is_empty() {
        match record.recovery_s {
            Some(s) => lines.push((
                record.clear_s + s,
                8,
                "From here on users are back to normal, and stay so for 5 s at least.".to_owned(),
            )),
            None => lines.push((record.horizon_s, 9, "The run ends, and users are not back to normal.".to_owned())),
        }
    }
    lines.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let width = lines.iter().map(|line| at(line.0).chars().count()).max().unwrap_or(0);
    let mut text: Vec<String> = lines.iter().map(|(s, _, what)| format!("{:>width$}  {what}", at(*s))).collect();
    for (kind, more) in [
        ("queues stood", story.queues.len().saturating_sub(MOST)),
        ("edges had retry waves", story.retries.len().saturating_sub(MOST)),
        ("boundaries broke", story.breaches.len().saturating_sub(2 * MOST)),
    ] {
        if more > 0 {
            text.push(format!("{}  ({more} more {kind}; --json has them all)", " ".repeat(width)));
        }
    }
    if record.breaches.is_empty() && story.queues.is_empty() && story.retries.is_empty() {
        text.push(
            "Nothing left its normal band: no service, topic or entry broke, no queue stood, no wave of retries rose.".to_owned(),
        );
    }
    text
}

/// A point of time, to the quarter of a second in which it was seen.
fn at(s: f64) -> String {
    format!("{} s", (s * 100.0).round() / 100.0)
}

fn stood(queue: &QueueStood) -> String {
    let QueueStood { node, bound, twin_peak, first_depth, peak, peak_s, full_s, .. } = queue;
    let what = if queue.topic { format!("messages pile up in {node}") } else { format!("requests wait at {node}") };
    let places = match (bound, full_s) {
        (None, _) => "it has no bound".to_owned(),
        (Some(bound), Some(full)) => format!("all its {bound} places are taken at {}", at(*full)),
        (Some(bound), None) => format!("it has {bound} places"),
    };
    format!(
        "{what}, {} of them ({places}; normally {} at most), up to {} at {}.",
        words::count(u64::from(*first_depth)),
        words::count(u64::from(*twin_peak)),
        words::count(u64::from(*peak)),
        at(*peak_s)
    )
}

fn waved(wave: &RetryWave) -> String {
    let RetryWave { edge, first_ratio, peak_ratio, peak_s, twin_ratio, .. } = wave;
    format!(
        "calls on {edge} are tried {} times on average (normally {}), up to {} times at {}.",
        number(*first_ratio),
        number(*twin_ratio),
        number(*peak_ratio),
        at(*peak_s)
    )
}

fn broke(broken: &Broken) -> String {
    let Broken { node, kind, by_error, by_p99, target, error_rate, twin_error_rate, p99_ms, twin_p99_ms, .. } = broken;
    let who = match kind.as_str() {
        "entry" => format!("{node} (users)"),
        "topic" => format!("{node} (a topic)"),
        _ => node.clone(),
    };
    let mut how = Vec::new();
    let fails_now = *error_rate > twin_error_rate + 0.005;
    if fails_now {
        how.push(format!("{} of its requests fail (normally {})", share(*error_rate), share(*twin_error_rate)));
    }
    if *by_p99 && *p99_ms > 0.0 {
        let normally = if *twin_p99_ms > 0.0 { format!(" (normally {})", millis(*twin_p99_ms)) } else { String::new() };
        how.push(format!("p99 is {}{normally}", millis(*p99_ms)));
    }
    if *by_error && !fails_now {
        how.push("later its requests fail too".to_owned());
    }
    if how.is_empty() {
        how.push("nothing leaves it although there is something to do".to_owned());
    }
    let far = if *target { "" } else { "; no fault strikes it" };
    format!("{who}: {}{far}.", list(&how, 2))
}

/// How it went on by itself.
fn aftermath(after: &Aftermath, record: &RunRecord) -> Vec<String> {
    let until = if record.recovery_s.is_some() { "until users were back" } else { "to the run's end" };
    let mut lines =
        vec![format!("Measured from {} {until}, {}, beside the same time without the fault:", at(after.from_s), at(after.to_s))];
    for service in after.services.iter().take(4) {
        let mut what =
            format!("{} gets {} tries/s (normally {})", service.service, number(service.per_s), number(service.twin_per_s));
        if service.utilisation > 0.0 {
            what += &format!(
                ", its workers are busy {} of the time ({})",
                share(service.utilisation),
                share(service.twin_utilisation)
            );
        }
        if service.wasted > 0.0 {
            what += &format!("; {} of what it finishes is for callers who have left", share(service.wasted));
        }
        if service.mean_wait_ms > 2.0 * service.twin_mean_wait_ms && service.mean_wait_ms > 1.0 {
            what += &format!("; one waits {} for a worker", millis(service.mean_wait_ms));
        }
        lines.push(format!("- {what}."));
    }
    for edge in after.edges.iter().take(4) {
        let cause = if edge.cause.is_empty() { String::new() } else { format!(" (mostly: {})", edge.cause) };
        let tries = if edge.attempts_per_call <= edge.twin_attempts_per_call + 0.05 {
            String::new()
        } else if edge.twin_attempts_per_call == 0.0 {
            format!("; each is tried {} times (normally there are none)", number(edge.attempts_per_call))
        } else {
            format!("; each is tried {} times (normally {})", number(edge.attempts_per_call), number(edge.twin_attempts_per_call))
        };
        lines.push(format!("- {} of the calls on {} fail for good{cause}{tries}.", share(edge.failed), edge.edge));
    }
    if lines.len() == 1 { Vec::new() } else { lines }
}

/// What kept it broken, and its title.
fn sustained(found: &Sustained) -> (&'static str, Vec<String>) {
    let title = match found.asked {
        Asked::Recovers => "What kept it broken",
        Asked::RecoversTwiceAsFast => "What made it take so long",
        Asked::NoStaleWrites => "What made the stale writes possible",
        Asked::NoDuplicateEffects => "What made the duplicate effects possible",
    };
    let mut lines = vec![format!(
        "Found by running it again with the same luck and one thing taken away at a time, watched until {}{}:",
        at(found.watched_s),
        match (found.asked, found.as_it_is.recovery_s) {
            (Asked::Recovers, _) => " (as it is, it does not come back by then either)".to_owned(),
            (Asked::RecoversTwiceAsFast, Some(s)) => format!(" (as it is, it needs {})", seconds(s)),
            _ => String::new(),
        }
    )];
    lines.extend(found.singles.iter().map(|trial| format!("- without {}: {}", names(&trial.removed), went(trial, found))));
    let helps: Vec<&Trial> = found.singles.iter().filter(|trial| trial.helps).collect();
    let loops: Vec<String> =
        helps.iter().filter(|t| !matches!(t.removed[..], [Removal::Calls(_)])).map(|t| names(&t.removed)).collect();
    if found.singles.is_empty() {
        lines.push(
            "There is nothing to take away: no retries rose, no queue stood, nobody worked for callers who had left.".to_owned(),
        );
    } else if !loops.is_empty() {
        let what = match found.asked {
            Asked::Recovers => "The loop that kept it alive",
            Asked::RecoversTwiceAsFast => "What it hangs on",
            Asked::NoStaleWrites | Asked::NoDuplicateEffects => "What they need",
        };
        let alone = if loops.len() > 1 { ": each of them is needed, and taking any one away ends it" } else { "" };
        lines.push(format!("{what}: {}{alone}.", list(&loops, 10)));
        lines.extend(helps.iter().take(MOST).filter_map(|trial| plainly(&trial.removed[0])));
    } else if let Some(set) = &found.set {
        lines.push(format!(
            "No single one helps; together these do, and none of them can stay: {} ({}).",
            names(&set.removed),
            went(set, found)
        ));
    } else if !helps.is_empty() {
        lines.push(
            "Only keeping calls away for a while helps: it comes to rest when nobody asks, and then stays well.".to_owned(),
        );
    } else if found.not_even_all {
        lines.push(
            "Not even all of them together help: what is left cannot carry the load that comes after the fault.".to_owned(),
        );
    }
    let untried = if found.untried > 0 {
        format!("; {} were not tried, see --runs", plural(u64::from(found.untried), "thing"))
    } else {
        String::new()
    };
    lines.push(format!("({} of at most {}{untried}.)", plural(u64::from(found.runs), "run"), found.most_runs));
    (title, lines)
}

/// How a thing keeps a failure alive, for somebody who meets it for the first time.
fn plainly(removal: &Removal) -> Option<String> {
    let sentence = match removal {
        Removal::Retries(edge) => format!(
            "Who gets no answer from {0} in time asks again, while the first question is still there: {0} is asked more often just when it is too slow already.",
            edge.to
        ),
        Removal::Queue(service) => format!(
            "The queue of {service} takes more in than can be answered in time: whoever reaches its head has waited too long, and the answer comes to nobody."
        ),
        Removal::LateWork(service) => {
            format!(
                "The workers of {service} do not know who has left: they finish answers that nobody waits for, and those who still wait are late in turn."
            )
        }
        Removal::Stampede(edge) => format!(
            "All who find the same thing missing in the cache ask {} for it at once, and those who give up leave nothing behind that would fill it again.",
            edge.to
        ),
        Removal::Breaker(edge) => {
            format!("The circuit breaker of {edge} stays open, or opens again and again, when the trouble behind it is over.")
        }
        Removal::Overtaking(topic) => {
            format!("Nothing keeps the messages of {topic} about one thing in order: a late one is applied after a newer one.")
        }
        Removal::Redelivery(topic) => {
            format!("A message of {topic} whose handling seemed to fail is delivered again, though it may have been applied.")
        }
        Removal::Calls(_) => return None,
    };
    Some(format!("  {sentence}"))
}

fn names(removed: &[Removal]) -> String {
    list(&removed.iter().map(ToString::to_string).collect::<Vec<_>>(), 10)
}

/// How a run went without something.
fn went(trial: &Trial, found: &Sustained) -> String {
    let outcome = &trial.outcome;
    let kept_off = trial.removed.iter().any(|removal| matches!(removal, Removal::Calls(_)));
    let mut text = match found.asked {
        Asked::NoStaleWrites => plural(outcome.stale_writes, "stale write"),
        Asked::NoDuplicateEffects => plural(outcome.duplicate_effects, "duplicate effect"),
        Asked::Recovers | Asked::RecoversTwiceAsFast => {
            let of = if kept_off { "after calls come again" } else { "after the fault's end" };
            match outcome.recovery_s {
                Some(s) if s <= 0.0 => format!("back to normal at once ({of})"),
                Some(s) => format!("back to normal {} {of}", seconds(s)),
                None => "still broken".to_owned(),
            }
        }
    };
    // What it costs while nothing is wrong.
    if outcome.normal_error_rate > found.as_it_is.normal_error_rate + 0.005 {
        text += &format!(", at the price of {} failing while nothing is wrong", share(outcome.normal_error_rate));
    }
    text
}

/// Why it ended, if it did.
fn ending(told: &Told<'_>) -> Vec<String> {
    let Told { record, story, .. } = *told;
    let Some(recovery) = record.recovery_s.filter(|_| !record.breaches.is_empty()) else { return Vec::new() };
    if recovery <= 0.0 {
        return vec!["What broke was the fault's own doing: nothing outlived it.".to_owned()];
    }
    let back = record.clear_s + recovery;
    let mut lines = Vec::new();
    let outlived = |calm: Option<f64>| calm.filter(|&calm| calm > record.clear_s);
    // What had piled up and has gone since; the last to go held the users up.
    let queues = story
        .queues
        .iter()
        .filter_map(|queue| Some((outlived(queue.calm_s)?, format!("the queue of {} had drained", queue.node))));
    let waves = story
        .retries
        .iter()
        .filter_map(|wave| Some((outlived(wave.calm_s)?, format!("the retries on {} had ceased", wave.edge))));
    let mut gone: Vec<(f64, String)> = queues.chain(waves).collect();
    gone.sort_by(|a, b| a.0.total_cmp(&b.0));
    let gone: Vec<String> = gone.into_iter().map(|(calm, what)| format!("{what} at {}", at(calm))).collect();
    if gone.is_empty() {
        lines.push(format!("Users were back at {}; no queue and no wave of retries had outlived the fault.", at(back)));
    } else {
        lines.push(format!("What the fault left behind was worked off: {}; users were back at {}.", list(&gone, MOST), at(back)));
    }
    if let Some(coalesced) = record.coalesced_at_s {
        lines.push(format!("From {} on every queue, budget and pending event is as if the fault had never been.", at(coalesced)));
    }
    lines
}

fn next(told: &Told<'_>) -> Vec<String> {
    let (token, folder) = (quoted(&told.record.token), quoted(told.folder));
    let mut lines = vec![format!("play it again: foreshock replay {token} --in {folder}")];
    if !told.record.breaches.is_empty() || told.record.stale_writes > 0 {
        lines.push(format!("the smallest scenario that still fails so: foreshock shrink {token} --in {folder} -o small"));
    }
    lines
}
