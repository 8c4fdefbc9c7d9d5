//! Both engines on the same runs, request by request: each checks the other.
//!
//! You are here: `sim::verify`. The command line gives it the short list of a ranking.
//! Method: the kernel runs on the hosted engine's clock ([`Program::compile_quantised`]), so that equal draws give equal times. Only those user
//! requests count that the fault changes (the kernel's run beside its own twin tells which), for all others agree whatever is done to them;
//! of these, how many have the same end to the microsecond in both engines. Two controls show that the comparison can fail: the hosted
//! engine under another scenario's fault, and under none, held against the same requests.
//! Not here: whether either engine is like the real system (`observe`, and the demo's outcomes).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::prelude::*;
use scenarios::record::{Agreement, Verified};
use scenarios::scenario::Scenario;
use scenarios::token::{Engine, Token, scenario_hash};

use crate::des::{ABSENT, FAILED, FaultPlan, Keep, Users};
use crate::run::{Finished, Prepared, RunOptions, check_horizon};
use crate::sweep::{Progress, SweepOptions, judged_buckets};
use crate::twin::{Twin, Wanted};
use crate::verdict::{Case, judge};
use crate::{Program, SimError, hosted};

/// Runs each scenario with each seed in both engines. The results are in the order of `options.seeds`, then of the scenarios, on any number
/// of threads.
///
/// # Errors
/// What either engine refuses; nothing has run then. `stop` ends it with the pairs that are done.
pub fn verify(
    model: &models::system::Model,
    world: u32,
    scenarios: &[Scenario],
    options: &SweepOptions,
    progress: &(dyn Fn(Progress) + Sync),
    stop: &AtomicBool,
) -> Result<Vec<Verified>, SimError> {
    check_horizon(options.horizon)?;
    let program = Program::compile_quantised(model, world, hosted::TICK)?;
    hosted::check(&program)?;
    let plans: Vec<Arc<FaultPlan>> = scenarios.iter().map(|s| FaultPlan::new(&program, s)).collect::<Result<_, _>>()?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build()
        .map_err(|error| SimError::Threads(error.to_string()))?;
    let loads: BTreeSet<u64> = scenarios.iter().map(|s| s.load().to_bits()).chain([1f64.to_bits()]).collect();
    let done = AtomicUsize::new(0);
    let total = options.seeds.len() * scenarios.len();
    let mut verified = Vec::with_capacity(total);
    for &seed in &options.seeds {
        let run_options = RunOptions {
            seed,
            horizon: options.horizon,
            warm_up: options.warm_up,
            max_events: options.max_events,
            ..RunOptions::default()
        };
        let of_seed = pool.install(|| {
            let twins: Vec<(u64, Arc<Twin>, Arc<Twin>)> = loads
                .par_iter()
                .map(|&bits| {
                    let load = f64::from_bits(bits);
                    let (kernel, hosted) = rayon::join(
                        || Twin::new(&program, load, &run_options, &Wanted::default()),
                        || hosted::twin(&program, load, &run_options),
                    );
                    (bits, Arc::new(kernel), Arc::new(hosted))
                })
                .collect();
            let twins_at = |load: f64| twins.iter().find(|twin| twin.0 == load.to_bits()).expect("each load has its twins");
            let runs: Vec<Option<(Finished, Finished)>> = scenarios
                .par_iter()
                .zip(&plans)
                .map(|(scenario, plan)| {
                    if stop.load(Ordering::Relaxed) {
                        return None;
                    }
                    let (_, kernel_twin, hosted_twin) = twins_at(scenario.load());
                    let mut kernel = Prepared::fault_free(&program, scenario.load(), &run_options, Keep::Judged).with(plan);
                    let (start, end) = judged_buckets(plan, &run_options);
                    kernel.recorder_mut().judge_from(start, end, &kernel_twin.wide);
                    let kernel = kernel.run();
                    let hosted = hosted::judged(&program, plan, scenario.load(), &run_options, hosted_twin);
                    progress(Progress { done: done.fetch_add(1, Ordering::Relaxed) + 1, total });
                    Some((kernel, hosted))
                })
                .collect();
            let (_, kernel_base, hosted_base) = twins_at(1.0);
            let judged = scenarios.iter().zip(&plans).enumerate().filter_map(|(i, (scenario, plan))| {
                let (kernel, hosted) = runs[i].as_ref()?;
                let (_, kernel_twin, hosted_twin) = twins_at(scenario.load());
                // The next scenario of the same load whose faults are others: its run is the control.
                let others = (1..scenarios.len()).map(|n| (i + n) % scenarios.len());
                let other = others.filter(|&j| scenarios[j].load() == scenario.load() && targets_differ(scenario, &scenarios[j]));
                let other = other.filter_map(|j| runs[j].as_ref()).map(|(_, hosted)| hosted).next();
                let record = |run: &Finished, twin: &Twin, baseline: &Twin, engine| {
                    let token = Token {
                        model: options.model_hash,
                        scenario: scenario_hash(scenario),
                        world,
                        seed,
                        engine,
                        horizon: options.horizon,
                    };
                    judge(&Case { run, twin, baseline, plan, scenario }, token.to_string())
                };
                Some(Verified {
                    kernel: record(kernel, kernel_twin, kernel_base, Engine::Kernel),
                    hosted: record(hosted, hosted_twin, hosted_base, Engine::Hosted),
                    agreement: agreement(kernel, &kernel_twin.finished, hosted, other, &hosted_twin.finished),
                })
            });
            judged.collect::<Vec<_>>()
        });
        verified.extend(of_seed);
    }
    Ok(verified)
}

fn targets_differ(a: &Scenario, b: &Scenario) -> bool {
    !b.faults.is_empty() && b.faults.iter().all(|b| a.faults.iter().all(|a| a.target != b.target))
}

fn agreement(kernel: &Finished, twin: &Finished, hosted: &Finished, other: Option<&Finished>, none: &Finished) -> Agreement {
    let mut found = Agreement { equal_under_another: other.map(|_| 0), ..Agreement::default() };
    let [kernel, twin, hosted, none] = [kernel, twin, hosted, none].map(|run| run.recorder.users());
    let other = other.map(|run| run.recorder.users());
    let failed = |end: u32| end == FAILED;
    each_request(kernel, |entry, index, surged, end| {
        let in_run = |users: &Users| {
            let entry = users.entry(entry);
            if surged { entry.surged.get(index) } else { entry.own.get(index) }
        };
        if end == ABSENT || in_run(twin) == end {
            return;
        }
        found.affected += 1;
        found.equal += u64::from(in_run(hosted) == end);
        found.same_outcome += u64::from(failed(in_run(hosted)) == failed(end));
        found.equal_under_none += u64::from(in_run(none) == end);
        if let (Some(count), Some(other)) = (&mut found.equal_under_another, other) {
            *count += u64::from(in_run(other) == end);
        }
    });
    found
}

/// Every request that a run has kept: entry, index, whether a surge added it, and how it ended.
fn each_request(users: &Users, mut each: impl FnMut(usize, u32, bool, u32)) {
    for entry in 0..users.entries() {
        for (requests, surged) in [(&users.entry(entry).own, false), (&users.entry(entry).surged, true)] {
            for (at, &end) in requests.us.iter().enumerate() {
                each(entry, requests.first + at as u32, surged, end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{MALL, faults, program};

    #[test]
    fn only_what_ends_alike_counts_as_equal_and_only_what_the_fault_changes_counts_at_all() {
        let program = program(MALL);
        let options = RunOptions { horizon: models::units::Nanos::from_secs(30), ..RunOptions::default() };
        let run = |scenario: &Scenario| {
            let plan = FaultPlan::new(&program, scenario).expect("it fits");
            Prepared::fault_free(&program, 1.0, &options, Keep::Judged).with(&plan).run()
        };
        let (hurt, calm) = (run(&faults(MALL)[1]), run(&Scenario::default()));
        let same = agreement(&hurt, &calm, &hurt, Some(&calm), &calm);
        assert!(same.affected > 50, "{same:?}");
        assert_eq!((same.equal, same.same_outcome), (same.affected, same.affected));
        assert_eq!((same.equal_under_another, same.equal_under_none), (Some(0), 0));
        assert_eq!(agreement(&hurt, &calm, &calm, None, &hurt).equal, 0, "with no fault nobody ends as they did with it");
        assert_eq!(agreement(&calm, &calm, &calm, None, &calm).affected, 0);
    }
}
