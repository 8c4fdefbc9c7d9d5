//! `explain`: what happened in one run, in order of time, and what kept it broken.
//!
//! You are here: `commands::explain`. `sim` tells the course of the run, this file makes the further runs with something taken away
//! (`scenarios::removal`), `reports` words both.
//! Always true: the same token gets the same words, on any number of threads: what is run next follows from what came of the runs before.

use models::format::canonical_text;
use models::system::EdgeName;
use models::units::{Nanos, SimTime};
use rayon::prelude::*;
use reports::story::{Told, as_text};
use scenarios::record::RunRecord;
use scenarios::removal::{Removal, candidates, minimal};
use scenarios::story::{Asked, Outcome, Story, Sustained, Trial};
use scenarios::token::model_hash;
use sim::{Program, RunOptions, judged};

use crate::args::Explain;
use crate::exit::Failure;
use crate::named::Named;
use crate::{show, work};

/// What is taken away has at least this long to show that it helps.
const WATCHED: Nanos = Nanos::from_secs(120);
/// A return within this time needs no explanation.
const SOON_S: f64 = 2.0;

/// Tells the story of the run that a token names.
pub fn act(args: &Explain) -> Result<(), Failure> {
    let run = Named::find("explain", &args.token, args.dir.as_deref())?;
    let program = Program::compile(&run.model, run.token.world)?;
    run.announce(&program);
    let record = judged(&program, &run.scenario, &run.options(), run.token.model)?;
    let story = sim::story(&program, &run.scenario, &run.options(), &record)?;
    let search = Search { run: &run, story: &story, record: &record, program: &program, most: args.runs, made: 0 };
    let sustained = match asked(&record) {
        Some(asked) if !run.scenario.faults.is_empty() => work::in_threads(args.threads, || search.ablate(asked))??,
        _ => None,
    };
    let folder = run.dir.to_string_lossy();
    let told = Told {
        scenario: &run.scenario,
        record: &record,
        story: &story,
        sustained: sustained.as_ref(),
        world: run.token.world,
        folder: &folder,
    };
    if args.json { show::json(&told) } else { show::text(&as_text(&told)) }
}

/// What is asked of a run with something taken away; `None` if there is nothing to mend.
fn asked(record: &RunRecord) -> Option<Asked> {
    let broken = !record.breaches.is_empty();
    match record.recovery_s {
        None if broken => Some(Asked::Recovers),
        _ if record.stale_writes > 0 => Some(Asked::NoStaleWrites),
        _ if record.duplicate_effects > 0 => Some(Asked::NoDuplicateEffects),
        Some(s) if broken && s > SOON_S => Some(Asked::RecoversTwiceAsFast),
        _ => None,
    }
}

/// Runs with something taken away.
struct Search<'a> {
    run: &'a Named,
    story: &'a Story,
    record: &'a RunRecord,
    program: &'a Program,
    most: u32,
    made: u32,
}

impl Search<'_> {
    fn ablate(mut self, asked: Asked) -> Result<Option<Sustained>, Failure> {
        let clear = self.run.scenario.clears_at().unwrap_or(SimTime::ZERO);
        let watched = self.run.token.horizon.max(Nanos::from_nanos((clear + WATCHED).as_nanos())).min(sim::run::MAX_HORIZON);
        let as_it_is = outcome(&self.trial(&[], watched)?);
        self.made += 1;
        // Watched for longer, it may come back by itself; then it is asked to do so sooner.
        let asked = if asked == Asked::Recovers && as_it_is.recovery_s.is_some() { Asked::RecoversTwiceAsFast } else { asked };
        let parts = self.parts(asked);
        let room = self.most.saturating_sub(self.made) as usize;
        let tried = &parts[..parts.len().min(room)];
        let singles = tried.par_iter().map(|removal| self.try_without(std::slice::from_ref(removal), watched, asked, &as_it_is));
        let singles: Vec<Trial> = singles.collect::<Result<_, _>>()?;
        self.made += singles.len() as u32;
        let policies: Vec<Removal> = tried.iter().filter(|removal| !matches!(removal, Removal::Calls(_))).cloned().collect();
        let (mut set, mut not_even_all) = (None, false);
        if !singles.iter().any(|trial| trial.helps) && policies.len() > 1 && self.made < self.most {
            self.made += 1;
            let all = self.try_without(&policies, watched, asked, &as_it_is)?;
            not_even_all = !all.helps;
            if all.helps {
                let mut failed = None;
                let kept = minimal(&policies, |fewer| {
                    if self.made >= self.most {
                        return None;
                    }
                    self.made += 1;
                    match self.try_without(fewer, watched, asked, &as_it_is) {
                        Ok(trial) => Some(trial.helps),
                        Err(failure) => {
                            failed = Some(failure);
                            None
                        }
                    }
                });
                if let Some(failure) = failed {
                    return Err(failure);
                }
                set = Some(self.try_without(&kept, watched, asked, &as_it_is)?);
            }
        }
        Ok(Some(Sustained {
            asked,
            watched_s: watched.as_secs_f64(),
            as_it_is,
            singles,
            set,
            not_even_all,
            runs: self.made,
            most_runs: self.most,
            untried: (parts.len() - tried.len()) as u32,
        }))
    }

    /// What played a part in the run, so that taking it away could help; what the story told of first comes first.
    fn parts(&self, asked: Asked) -> Vec<Removal> {
        let clear_s = self.record.clear_s;
        let queued = |name: &str| self.story.queues.iter().position(|queue| queue.node == name);
        let broken = |name: &str| self.story.breaches.iter().position(|breach| breach.node == name);
        let wave = |edge: &EdgeName| self.story.retries.iter().position(|wave| wave.edge == edge.to_string());
        // Only an edge into something that was still in trouble after the faults is worth keeping calls off.
        let troubled = |name: &str| {
            self.story.queues.iter().any(|queue| queue.node == name && queue.calm_s.is_none_or(|s| s > clear_s))
                || self.story.aftermath.iter().flat_map(|after| &after.services).any(|service| service.service == name)
        };
        let wasted = self.wasted();
        let orders = matches!(asked, Asked::NoStaleWrites | Asked::NoDuplicateEffects);
        let mut parts: Vec<(usize, Removal)> = candidates(&self.run.model)
            .into_iter()
            .filter_map(|removal| {
                let place = match &removal {
                    Removal::Retries(edge) => wave(edge),
                    Removal::Breaker(edge) => broken(&edge.from).or(broken(&edge.to)),
                    Removal::Queue(name) => queued(name),
                    Removal::LateWork(name) => wasted.iter().position(|one| one == name),
                    Removal::Stampede(edge) => queued(&edge.to).or(broken(&edge.to)),
                    Removal::Overtaking(_) | Removal::Redelivery(_) => orders.then_some(0),
                    Removal::Calls(edge) => (!orders && troubled(&edge.to)).then_some(0),
                };
                Some((place?, removal))
            })
            .collect();
        // (Within a kind the first first; kinds as `candidates` has them, calls last.)
        parts.sort_by_key(|(place, removal)| (matches!(removal, Removal::Calls(_)), *place));
        parts.into_iter().map(|(_, removal)| removal).collect()
    }

    /// Services that worked for callers who had left, the most wasteful first.
    fn wasted(&self) -> Vec<String> {
        let from = Nanos::from_secs_f64(self.record.start_s);
        let options = RunOptions { warm_up: from.min(self.run.token.horizon), ..self.run.options() };
        let Ok(run) = sim::run::run(self.program, &self.run.scenario, &options) else { return Vec::new() };
        let result = run.result();
        let mut wasted: Vec<(u64, String)> =
            result.services.iter().filter(|(_, service)| service.wasted > 0).map(|(name, s)| (s.wasted, name.clone())).collect();
        wasted.sort_by_key(|wasted| std::cmp::Reverse(wasted.0));
        wasted.into_iter().map(|(_, name)| name).collect()
    }

    fn try_without(&self, removed: &[Removal], watched: Nanos, asked: Asked, as_it_is: &Outcome) -> Result<Trial, Failure> {
        let outcome = outcome(&self.trial(removed, watched)?);
        let helps = match asked {
            Asked::Recovers => outcome.recovery_s.is_some(),
            Asked::RecoversTwiceAsFast => {
                outcome.recovery_s.is_some_and(|s| s <= as_it_is.recovery_s.unwrap_or(f64::INFINITY) / 2.0)
            }
            Asked::NoStaleWrites => outcome.stale_writes == 0,
            Asked::NoDuplicateEffects => outcome.duplicate_effects == 0,
        };
        Ok(Trial { removed: removed.to_vec(), outcome, helps })
    }

    /// The run without something, beside a twin without it too.
    fn trial(&self, removed: &[Removal], watched: Nanos) -> Result<RunRecord, Failure> {
        let (mut model, mut scenario) = (self.run.model.clone(), self.run.scenario.clone());
        let clear = scenario.clears_at().unwrap_or(SimTime::ZERO);
        // Half of the time that is left to watch: the other half shows whether it stays well.
        let rest = Nanos::from_nanos((watched.as_nanos().saturating_sub(clear.as_nanos()) / 2).max(1));
        removed.iter().for_each(|removal| removal.apply(&mut model, &mut scenario, rest));
        let program = Program::compile(&model, self.run.token.world)?;
        let options = RunOptions { horizon: watched, ..self.run.options() };
        Ok(judged(&program, &scenario, &options, model_hash(&canonical_text(&model)))?)
    }
}

fn outcome(record: &RunRecord) -> Outcome {
    let share = |count: u64| count as f64 / record.requests.max(1) as f64;
    Outcome {
        recovery_s: record.recovery_s,
        stale_writes: record.stale_writes,
        duplicate_effects: record.duplicate_effects,
        normal_error_rate: share(record.twin_failed),
        error_rate: share(record.failed),
    }
}
