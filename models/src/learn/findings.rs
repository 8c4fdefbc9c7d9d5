//! What a person would want to know about what was learned: surprises, caveats, assumptions.
//!
//! You are here: `models::learn::findings`. A finding is a variant with its evidence; `Display` words it.

use std::fmt;

use super::client_findings::ClientFinding;
use super::crowds::Crowds;
use super::sampling::Unfair;
use super::summary::SummaryFinding;
use crate::system::EdgeName;
use crate::trace::{Merged, NameRule, Thinning};
use crate::units::Nanos;

/// A few traces that show something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examples(pub Vec<u128>);

/// Examples of one thing: enough to see what they have in common.
const MOST_EXAMPLES: usize = 3;

impl Examples {
    /// Adds a trace, as long as there are few.
    pub(crate) fn add(&mut self, trace: u128) {
        if self.0.len() < MOST_EXAMPLES && !self.0.contains(&trace) {
            self.0.push(trace);
        }
    }

    /// As [`Examples::add`], for those of another.
    pub(crate) fn add_all(&mut self, others: &Examples) {
        others.0.iter().for_each(|&trace| self.add(trace));
    }
}

impl fmt::Display for Examples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, more)) = self.0.split_first() else { return Ok(()) };
        write!(f, " ({} {first:032x}", if more.is_empty() { "trace" } else { "traces" })?;
        more.iter().try_for_each(|trace| write!(f, ", {trace:032x}"))?;
        f.write_str(")")
    }
}

/// Something worth saying, with its evidence in numbers and a trace that shows it.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// A service that only its callers tell of, because most calls to it failed.
    DeadService {
        /// The service.
        service: String,
        /// Who calls it.
        callers: Vec<String>,
        /// Attempts seen.
        attempts: u64,
        /// Of these, failed.
        failed: u64,
        /// Traces that show it.
        traces: Examples,
    },
    /// Callees without spans of their own: what their callers waited is taken as their work.
    Uninstrumented {
        /// Their names.
        services: Vec<String>,
    },
    /// Users ask one service for several operations: they are one entry.
    EntryMix {
        /// The entry.
        entry: String,
        /// Operations and their shares.
        shares: Vec<(String, f64)>,
    },
    /// A synchronous call inside an asynchronous flow.
    SyncInAsync {
        /// The topic whose messages wait.
        topic: String,
        /// The consumer.
        consumer: String,
        /// What it waits for.
        callee: String,
        /// Share of the consumer's time spent waiting for it.
        share: f64,
        /// Traces that show it.
        traces: Examples,
    },
    /// Retries of a call that itself makes many calls.
    RetryFanOut {
        /// The retried edge.
        edge: EdgeName,
        /// Tries in all.
        attempts: u32,
        /// Calls below one try.
        calls_below: f64,
    },
    /// Retries on top of retries along a path.
    RetriesMultiplied {
        /// Services along the path.
        path: Vec<String>,
        /// Most tries at its end for one request at its start.
        attempts: u32,
    },
    /// Calls that were tried again.
    Retries {
        /// The edge.
        edge: EdgeName,
        /// Calls tried more than once.
        retried: u64,
        /// Of so many.
        calls: u64,
        /// Most tries seen.
        attempts: u32,
        /// Traces that show it.
        traces: Examples,
    },
    /// A cache in front of a store.
    CacheAside {
        /// The caller.
        caller: String,
        /// The cache.
        cache: String,
        /// The store.
        origin: String,
        /// Questions.
        asked: u64,
        /// Questions that went on to the store.
        missed: u64,
    },
    /// Calls that look like a cache although nothing says that it is one.
    UndeclaredCache {
        /// The caller.
        caller: String,
        /// What looks like a cache.
        cache: String,
        /// What looks like the store behind it.
        origin: String,
        /// Questions.
        asked: u64,
        /// Questions that went on to the store.
        missed: u64,
        /// Of these, stored afterwards.
        filled: u64,
    },
    /// A kind of request seen in under 1 % of an operation's traces.
    RarePath {
        /// The operation.
        operation: String,
        /// Its calls in order.
        calls: String,
        /// Requests seen.
        seen: u64,
        /// Of so many.
        of: u64,
        /// Traces that show it.
        traces: Examples,
    },
    /// Clients that were never seen to give up: their timeout, if they have one, is longer than anything in the traces.
    NoTimeoutSeen {
        /// The edges.
        edges: Vec<EdgeName>,
    },
    /// A caller gave up on answers that came later.
    GaveUp {
        /// The edge.
        edge: EdgeName,
        /// Attempts that timed out.
        timeouts: u64,
        /// Of so many.
        attempts: u64,
        /// The timeout learned, if the durations agree.
        timeout: Option<Nanos>,
        /// Traces that show it.
        traces: Examples,
    },
    /// Attempts that failed for the caller although the callee saw no failure, or nothing: what a model of the callee cannot show.
    LostOnTheWay {
        /// The edge.
        edge: EdgeName,
        /// Attempts lost.
        lost: u64,
        /// Of so many.
        attempts: u64,
        /// Traces that show it.
        traces: Examples,
    },
    /// A service whose requests were seen to wait for a worker.
    Queueing {
        /// The service.
        service: String,
        /// Workers per replica that explain it.
        workers: u32,
        /// What fits about as well.
        range: [u32; 2],
    },
    /// Spans whose parents are missing: fan-out is underestimated.
    Orphans {
        /// Spans without their parent.
        orphans: u64,
        /// Of so many.
        spans: u64,
    },
    /// Traces of a single span: health checks, or callers and callees that are not traced.
    OneSpanTraces {
        /// Such traces.
        traces: u64,
        /// Of so many.
        of: u64,
    },
    /// Traces kept with different shares: tail sampling, perhaps, which over-represents what is slow or failed.
    UnevenSampling {
        /// Lowest share.
        lowest: f64,
        /// Highest share.
        highest: f64,
    },
    /// More spans than are held at once: whole traces were chosen by their ids.
    Thinned {
        /// Spans kept.
        kept: u64,
        /// Of so many.
        read: u64,
        /// Traces so long that only the spans that began first were kept.
        cut_traces: u64,
        /// The chance that a trace had of being kept.
        share: f64,
    },
    /// Files overlap in time, but requests of each wait for those of their own file alone.
    SeparateRecordings {
        /// The files.
        files: Vec<String>,
        /// t value of how durations rise with the requests in progress of the same file,
        own: f64,
        /// and of the other files.
        other: f64,
    },
    /// Files overlap in time and share no trace, and nothing tells whether they are one recording.
    OverlappingFiles {
        /// The files.
        files: Vec<String>,
    },
    /// Users come at a rate that changes over time.
    Unsteady {
        /// The entry.
        entry: String,
        /// Stretches of steady traffic.
        steps: u64,
        /// Lowest and highest rate among them, requests per second.
        low: f64,
        /// The highest.
        high: f64,
        /// The rates of short stretches that belong to none of these.
        peaks: Vec<f64>,
        /// The model follows the stretches of steady traffic.
        followed: bool,
    },
    /// Users come in bursts.
    Bursty {
        /// The entry.
        entry: String,
        /// Variance over mean of their number in a window; 1 if they knew nothing of each other.
        dispersion: f64,
    },
    /// A full service was seen to refuse requests.
    Refusals {
        /// The service.
        service: String,
        /// Refused requests.
        refused: u64,
        /// Of so many.
        of: u64,
        /// A replica holds so many when it refuses.
        holds: u32,
        /// Traces that show it.
        traces: Examples,
    },
    /// A client sends further attempts before the first has ended.
    Hedged {
        /// The edge.
        edge: EdgeName,
        /// Calls with more than one attempt.
        hedged: u64,
        /// Of so many.
        calls: u64,
        /// After this long.
        after: Nanos,
        /// Traces that show it.
        traces: Examples,
    },
    /// A client stopped sending for a while after failures.
    BreakerSeen {
        /// The edge.
        edge: EdgeName,
        /// How long it stays open.
        open: Nanos,
    },
    /// Too few requests for a rate.
    RateAssumed {
        /// The entry.
        entry: String,
        /// Requests seen.
        requests: u64,
        /// In so many seconds.
        seconds: f64,
    },
    /// A call was left out: with it a request would call itself for ever.
    EndlessCall {
        /// The caller.
        caller: String,
        /// The call.
        callee: String,
    },
    /// The traces are no fair sample of the traffic.
    Unfair(Unfair),
    /// Names that were taken as one service.
    NamesMerged {
        /// Each service with its other names and the reason.
        services: Vec<(String, Vec<(String, NameRule)>)>,
    },
    /// More names than a model can hold: the busiest were kept, the rest joined.
    Crowded {
        /// Per service: operations kept, and joined. Those with the most joined first.
        operations: Vec<(String, [u64; 2])>,
        /// Services that became one.
        services: u64,
    },
    /// What callers and users do of themselves.
    Client(ClientFinding),
    /// What a graph summary without traces leaves open.
    Summary(SummaryFinding),
    /// Numbers that traces cannot tell.
    Assumed {
        /// Services whose workers are a guess.
        workers: Vec<String>,
        /// Services whose queue bound is a guess: all that were not declared.
        queues: u64,
        /// Edges whose failure was never seen, so that what it does to the caller is a guess.
        failures: u64,
        /// Topics whose bound is a guess.
        topics: u64,
    },
}

impl Finding {
    /// What names were joined, if any.
    pub(super) fn names(merged: &[Merged]) -> Option<Finding> {
        let mut services: Vec<(String, Vec<(String, NameRule)>)> = Vec::new();
        for Merged { into, from, rule } in merged {
            match services.last_mut().filter(|(service, _)| service == into) {
                Some((_, names)) => names.push((from.clone(), *rule)),
                None => services.push((into.clone(), vec![(from.clone(), *rule)])),
            }
        }
        (!services.is_empty()).then_some(Finding::NamesMerged { services })
    }

    /// What names were too many, if any.
    pub(super) fn crowded(crowds: Crowds) -> Option<Finding> {
        let Crowds { joined_services: services, joined_operations: operations, .. } = crowds;
        (services > 0 || !operations.is_empty()).then_some(Finding::Crowded { operations, services })
    }

    /// What a person should know of spans that were read and not kept.
    pub(crate) fn thinned(thinning: &Thinning) -> Self {
        let &Thinning { kept, read, share, cut_traces, .. } = thinning;
        Finding::Thinned { kept, read, cut_traces, share }
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// Names in a sentence, at most six of them.
pub(super) fn list<T: fmt::Display>(items: &[T]) -> String {
    const SHOWN: usize = 6;
    let mut text = items.iter().take(SHOWN).map(T::to_string).collect::<Vec<_>>().join(", ");
    if items.len() > SHOWN {
        text.push_str(&format!(" and {} more", items.len() - SHOWN));
    }
    text
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::DeadService { service, callers, attempts, failed, traces } => write!(
                f,
                "{service} has no spans of its own: {failed} of {attempts} calls from {} failed{}",
                list(callers),
                traces
            ),
            Finding::Uninstrumented { services } => {
                write!(f, "no spans of their own, so that their callers' time is taken as their work: {}", list(services))
            }
            Finding::EntryMix { entry, shares } => {
                let shares: Vec<String> = shares.iter().map(|(op, share)| format!("{:.1} % {op}", share * 100.0)).collect();
                write!(f, "{entry} ask for {} operations, which are paths of one: {}", shares.len(), list(&shares))
            }
            Finding::SyncInAsync { topic, consumer, callee, share, traces } => write!(
                f,
                "a synchronous call inside an asynchronous flow: {consumer} spends {:.0} % of its time on messages of {topic} waiting for {callee}{}",
                share * 100.0,
                traces
            ),
            Finding::RetryFanOut { edge, attempts, calls_below } => {
                write!(
                    f,
                    "a retry chain that fans out: {edge} tries up to {attempts} times, and each try makes {calls_below:.1} calls below it"
                )
            }
            Finding::RetriesMultiplied { path, attempts } => {
                write!(f, "retries multiply along {}: up to {attempts} tries at its end for one request", path.join(" -> "))
            }
            Finding::Retries { edge, retried, calls, attempts, traces } => {
                write!(f, "{edge}: {retried} of {calls} calls were tried again, {attempts} tries at most{traces}")
            }
            Finding::CacheAside { caller, cache, origin, asked, missed } => write!(
                f,
                "{caller} asks {cache} first: {:.1} % of {asked} questions were hits, the rest went on to {origin}",
                100.0 - percent(*missed, *asked)
            ),
            Finding::UndeclaredCache { caller, cache, origin, asked, missed, filled } => write!(
                f,
                "{cache} looks like a cache that nobody declared: {:.1} % of {asked} calls from {caller} sufficed, {missed} went on to {origin} and {filled} of these were stored afterwards",
                100.0 - percent(*missed, *asked)
            ),
            Finding::RarePath { operation, calls, seen, of, traces } => write!(
                f,
                "a path seen in {:.2} % of requests ({seen} of {of}) to {operation}: {calls}{}",
                percent(*seen, *of),
                traces
            ),
            Finding::NoTimeoutSeen { edges } => {
                write!(
                    f,
                    "no timeout was seen on {} edges, so that their callers wait for ever in the model: {}",
                    edges.len(),
                    list(edges)
                )
            }
            Finding::GaveUp { edge, timeouts, attempts, timeout, traces } => {
                write!(f, "{edge}: {timeouts} of {attempts} attempts timed out")?;
                timeout.map_or(Ok(()), |t| write!(f, ", at about {t}"))?;
                traces.fmt(f)
            }
            Finding::LostOnTheWay { edge, lost, attempts, traces } => write!(
                f,
                "{edge}: {lost} of {attempts} attempts ({:.1} %) failed for the caller though the callee saw no failure{}",
                percent(*lost, *attempts),
                traces
            ),
            Finding::Queueing { service, workers, range: [low, high] } => {
                write!(
                    f,
                    "requests to {service} wait: {workers} workers a replica ({low} to {high}) explain how own time grows with load"
                )
            }
            Finding::Orphans { orphans, spans } => write!(
                f,
                "{orphans} of {spans} spans ({:.1} %) name a parent that is not there: the input is cut or sampled, and fan-out is underestimated",
                percent(*orphans, *spans)
            ),
            Finding::OneSpanTraces { traces, of } => write!(
                f,
                "{traces} of {of} traces ({:.0} %) are a single span: health checks, or neighbours that are not traced; they count as requests",
                percent(*traces, *of)
            ),
            Finding::UnevenSampling { lowest, highest } => write!(
                f,
                "traces were kept with shares from {lowest} to {highest}: if slow or failed ones were preferred, both are over-represented"
            ),
            Finding::Thinned { kept, read, cut_traces, share } => {
                write!(f, "{kept} of {read} spans ({:.1} %) were kept to learn from", percent(*kept, *read))?;
                if *share < 1.0 {
                    f.write_str(
                        ": whole traces, chosen by their ids alone. Rates are counted from all; times and probabilities come from the \
                         kept ones",
                    )?;
                }
                if *share < 0.5 {
                    f.write_str(
                        "; requests in progress could not be counted, so workers are assumed where nothing declares them",
                    )?;
                }
                if *cut_traces > 0 {
                    write!(f, "; {cut_traces} traces were too long to keep, but for the spans that began first")?;
                }
                Ok(())
            }
            Finding::SeparateRecordings { files, own, other } => write!(
                f,
                "{} overlap in time but are separate recordings: requests wait for those of their own file (t = {own:.1}), not for those of \
                 the others (t = {other:.1}); each counts as traffic of its own time",
                list(files)
            ),
            Finding::OverlappingFiles { files } => write!(
                f,
                "{} overlap in time and share no trace: taken as parts of one recording, so that their rates add up; if they are not, \
                 learn from one of them",
                list(files)
            ),
            Finding::Unsteady { entry, steps, low, high, peaks, followed } => {
                write!(f, "the rate of {entry} is not steady: ")?;
                match steps {
                    1 => write!(f, "{high:.1}/s in 1 stretch")?,
                    _ => write!(f, "{low:.1}/s to {high:.1}/s in {steps} stretches")?,
                }
                if !peaks.is_empty() {
                    let least = peaks.iter().copied().fold(f64::MAX, f64::min);
                    let most = peaks.iter().copied().fold(0.0, f64::max);
                    write!(f, ", beside {} of a few seconds at {least:.1}/s to {most:.1}/s", peaks.len())?;
                }
                let has = if *followed { "follows the stretches" } else { "has one rate (--curve follows the stretches)" };
                write!(f, "; the model {has}")
            }
            Finding::Bursty { entry, dispersion } => write!(
                f,
                "{entry} come in bursts: the variance of their number is {dispersion:.1} times what independent users would show, and the \
                 model's users are independent"
            ),
            Finding::Refusals { service, refused, of, holds, traces } => write!(
                f,
                "{service} refused {refused} of {of} requests at once, whenever a replica held {holds} others: that is its workers and its \
                 queue{}",
                traces
            ),
            Finding::Hedged { edge, hedged, calls, after, traces } => {
                write!(
                    f,
                    "{edge} is hedged: {hedged} of {calls} calls were sent again after {after}, before the first had ended{traces}"
                )
            }
            Finding::BreakerSeen { edge, open } => {
                write!(f, "{edge} has a circuit breaker: after failures nothing was sent for about {open}")
            }
            Finding::RateAssumed { entry, requests, seconds } => {
                write!(f, "{requests} requests in {seconds:.1} s tell no rate: that of {entry} is a guess")
            }
            Finding::EndlessCall { caller, callee } => {
                write!(f, "the call of {caller} to {callee} is left out: with it a request would call itself for ever")
            }
            Finding::NamesMerged { services } => {
                f.write_str("names taken as one service (--names changes that):")?;
                for (i, (service, names)) in services.iter().enumerate() {
                    let names: Vec<String> = names.iter().map(|(name, rule)| format!("{name} ({rule})")).collect();
                    write!(f, "{} {service} = {}", if i == 0 { "" } else { ";" }, list(&names))?;
                }
                Ok(())
            }
            Finding::Unfair(finding) => finding.fmt(f),
            Finding::Crowded { operations, services } => {
                f.write_str("names without end, perhaps with ids in them; the busiest were kept, the rest are one:")?;
                let each =
                    |(service, [kept, joined]): &(String, [u64; 2])| format!("{joined} operations of {service} ({kept} kept)");
                let mut parts: Vec<String> = operations.iter().map(each).collect();
                if *services > 0 {
                    parts.insert(0, format!("{services} services"));
                }
                write!(f, " {}", list(&parts))
            }
            Finding::Client(finding) => finding.fmt(f),
            Finding::Summary(finding) => finding.fmt(f),
            Finding::Assumed { workers, queues, failures, topics } => {
                f.write_str("assumed, because traces do not tell:")?;
                let mut parts = Vec::new();
                if !workers.is_empty() {
                    parts.push(format!(" workers of {}", list(workers)));
                }
                if *queues > 0 {
                    parts.push(format!(" queue bounds of {queues} services"));
                }
                if *failures > 0 {
                    parts.push(format!(" what a failure does to the caller at {failures} calls"));
                }
                if *topics > 0 {
                    parts.push(format!(" bounds of {topics} topics"));
                }
                f.write_str(&parts.join(";"))
            }
        }
    }
}
