//! One run, judged beside its fault-free twin, on the calling thread.
//!
//! You are here: `sim::single`. `explain`, `shrink` and `check` judge runs of changed models with it, several at a time on their own threads;
//! `sweep` does the same for many scenarios of one model, whose twins it shares.
//! Always true: the record is the one that a sweep would write.

use std::collections::BTreeSet;
use std::sync::Arc;

use models::units::Nanos;
use scenarios::record::RunRecord;
use scenarios::scenario::Scenario;
use scenarios::token::{Engine, Token, scenario_hash};

use crate::des::FaultPlan;
use crate::program::Program;
use crate::run::{RunOptions, check_horizon, run};
use crate::sweep::judged_buckets;
use crate::twin::{Twin, Wanted};
use crate::verdict::{Case, judge};
use crate::{SimError, hosted};

/// Runs a scenario and judges it. `model_hash` is for the token: `scenarios::token::model_hash` of the model.
///
/// # Errors
/// As [`run`].
pub fn judged(program: &Program, scenario: &Scenario, options: &RunOptions, model_hash: [u8; 4]) -> Result<RunRecord, SimError> {
    check_horizon(options.horizon)?;
    let (plan, load) = (FaultPlan::new(program, scenario)?, scenario.load());
    let (run, twin) = match options.engine {
        Engine::Kernel => {
            let starts = BTreeSet::from([plan.start.map_or(0, |t| t.as_nanos())]);
            let calm = plan.clear.map_or(options.warm_up.as_nanos(), |t| t.as_nanos());
            let twin = Arc::new(Twin::new(program, load, options, &Wanted { starts, calm_from: Some(calm) }));
            let mut run = twin.fork(&plan);
            let (start, end) = judged_buckets(&plan, options);
            run.recorder_mut().judge_from(start, end, &twin.wide);
            (run.run_beside(Some(&twin), Some(calm)), twin)
        }
        Engine::Hosted => {
            hosted::check(program)?;
            let twin = Arc::new(hosted::twin(program, load, options));
            (hosted::judged(program, &plan, load, options, &twin), twin)
        }
    };
    let baseline = match options.engine {
        _ if load == 1.0 => Arc::clone(&twin),
        Engine::Kernel => Arc::new(Twin::new(program, 1.0, options, &Wanted::default())),
        Engine::Hosted => Arc::new(hosted::twin(program, 1.0, options)),
    };
    let token = Token {
        model: model_hash,
        scenario: scenario_hash(scenario),
        world: program.world(),
        seed: options.seed,
        engine: options.engine,
        horizon: options.horizon,
    };
    Ok(judge(&Case { run: &run, twin: &twin, baseline: &baseline, plan: &plan, scenario }, token.to_string()))
}

/// The share of requests that fail at one boundary from the first fault's start on: an entry, a service, or an edge `a->b` (calls for good,
/// not tries). `None` if the model has no such boundary.
///
/// # Errors
/// As [`judged`].
pub fn error_rate_at(program: &Program, scenario: &Scenario, options: &RunOptions, at: &str) -> Result<Option<f64>, SimError> {
    let from = scenario.starts_at().map_or(options.warm_up, |t| Nanos::from_nanos(t.as_nanos()));
    let options = RunOptions { warm_up: from.min(options.horizon), series: false, ..options.clone() };
    let result = run(program, scenario, &options)?.result();
    let calls = result.entries.get(at).or_else(|| result.boundaries.get(at)).map(|calls| calls.error_rate);
    let node = result.services.get(at).or_else(|| result.topics.get(at));
    Ok(calls.or_else(|| node.map(|node| node.errors as f64 / node.requests.max(1) as f64)))
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::fixtures::{EVERYTHING, MALL, faults, program};
    use crate::sweep::{Shortcuts, SweepOptions, sweep};

    #[test]
    fn a_single_record_is_the_one_of_a_sweep() {
        for system in [MALL, EVERYTHING] {
            let (program, scenarios) = (program(system), faults(system));
            let (horizon, warm_up) = (Nanos::from_secs(30), Nanos::from_secs(5));
            let options = SweepOptions {
                seeds: vec![3],
                horizon,
                warm_up,
                threads: 2,
                max_events: RunOptions::default().max_events,
                model_hash: [7; 4],
                shortcuts: Shortcuts::All,
                engine: Engine::Kernel,
            };
            let mut swept = Vec::new();
            let mut sink = |record| {
                swept.push(record);
                ControlFlow::Continue(())
            };
            sweep(&program, &scenarios, &options, &BTreeSet::new(), &mut sink, &|_| {}, &AtomicBool::new(false))
                .expect("it runs");
            for (scenario, swept) in scenarios.iter().zip(&swept) {
                let options = RunOptions { seed: 3, horizon, warm_up, ..RunOptions::default() };
                let single = judged(&program, scenario, &options, [7; 4]).expect("it fits");
                assert_eq!(&single, swept, "{}", scenario.id);
            }
        }
    }
}
