//! Worlds: one draw of every uncertain number from its range (DESIGN.md section 2).
//!
//! You are here: `models::world`. Engines compile the model that [`Model::world`] returns.
//! Always true: world 0 is the model as written; a number's draw hangs on its path and the world's number alone, so that editing
//! one number of a model leaves all others as they were in every world.
//! Not here: which numbers are uncertain (the model's ranges say), or how runs are drawn.

use sha2::{Digest, Sha256};

use crate::dist::Dist;
use crate::param::{Limit, Param, ParamMut};
use crate::system::Model;
use crate::units::Nanos;

/// Where a range ends in "no bound", half of the worlds have none and the others draw up to this many times the lower end.
const OPEN_END_FACTOR: f64 = 16.0;

impl Model {
    /// World `n` of this model. 0: the values as written. From 1 on: each number that has a range is drawn from it, log-uniform
    /// where the range is positive, uniform for shares and where it begins at 0; counts are rounded, work is scaled.
    pub fn world(&self, n: u32) -> Model {
        let mut world = self.clone();
        if n > 0 {
            world.visit_params(&mut |path, param| settle(param, uniform(path, n)));
            // What is derived from a drawn number follows it.
            for entry in world.workload.values_mut() {
                if let Some(closed) = &entry.closed {
                    entry.rate = Param::declared(closed.most_per_s());
                }
            }
        }
        world
    }
}

/// A number in 0..1 that hangs on path and world alone.
fn uniform(path: &str, world: u32) -> f64 {
    let mut hash = Sha256::new();
    hash.update(b"foreshock world 1\0");
    hash.update(world.to_le_bytes());
    hash.update(path.as_bytes());
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    (u64::from_le_bytes(first) >> 11) as f64 / (1u64 << 53) as f64
}

/// Sets a number's value to the point `u` of its range.
fn settle(param: ParamMut<'_>, u: f64) {
    match param {
        ParamMut::Share(share) => set(share, |[low, high]| low + (high - low) * u),
        ParamMut::Real(real) => set(real, |[low, high]| between(low, high, u)),
        ParamMut::Count(count) => set(count, |[low, high]| whole_between(low, high, u)),
        ParamMut::Limit(limit) => set(limit, |[low, high]| limit_between(low, high, u)),
        ParamMut::Time(time) => set(time, |[low, high]| {
            Nanos::from_nanos(between(low.as_nanos() as f64, high.as_nanos() as f64, u).round() as u64).min(Nanos::LONGEST)
        }),
        ParamMut::Work(work) => {
            if let Some([low, high]) = work.scale_range {
                work.dist = scaled(&work.dist, between(low, high, u));
            }
        }
    }
}

fn set<T: Copy>(param: &mut Param<T>, draw: impl Fn([T; 2]) -> T) {
    if let Some(range) = param.range {
        param.value = draw(range);
    }
}

/// The point `u` of `low..high`: on a logarithmic scale if both are positive.
fn between(low: f64, high: f64, u: f64) -> f64 {
    if low == high {
        low
    } else if low > 0.0 {
        (low * libm::pow(high / low, u)).clamp(low, high)
    } else {
        low + (high - low) * u
    }
}

fn whole_between(low: u32, high: u32, u: f64) -> u32 {
    (between(f64::from(low), f64::from(high), u).round() as u32).clamp(low, high)
}

fn limit_between(low: Limit, high: Limit, u: f64) -> Limit {
    match (low, high) {
        (Limit::Of(low), Limit::Of(high)) => Limit::Of(whole_between(low, high, u)),
        (Limit::Of(low), Limit::Unlimited) if u < 0.5 => {
            let high = (f64::from(low.max(1)) * OPEN_END_FACTOR).min(f64::from(u32::MAX));
            Limit::Of(whole_between(low, high as u32, 2.0 * u))
        }
        _ => Limit::Unlimited,
    }
}

/// The distribution with all its times multiplied; what takes time goes on taking some.
fn scaled(dist: &Dist, factor: f64) -> Dist {
    let scale = |t: &Nanos| {
        let least = u64::from(!t.is_zero());
        Nanos::from_nanos(((t.as_nanos() as f64 * factor).round() as u64).max(least)).min(Nanos::LONGEST)
    };
    match dist {
        Dist::Constant(t) => Dist::Constant(scale(t)),
        Dist::Exponential(mean) => Dist::Exponential(scale(mean)),
        Dist::Lognormal { p50, p99 } => Dist::Lognormal { p50: scale(p50), p99: scale(p99) },
        Dist::Quantiles(table) => Dist::Quantiles(table.iter().map(|(probability, t)| (*probability, scale(t))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::read_model;

    fn uncertain() -> Model {
        let text = b"
version: 1
workload: { users: { to: s.op, open: { rate: { value: 80/s, range: [40/s, 160/s] } } } }
services:
  s:
    workers: { value: 4, source: inferred, range: [1, 16] }
    queue: { value: 64, range: [16, unbounded] }
    operations:
      op:
        error_rate: { value: 0.1, range: [0, 0.4] }
        paths: [{ steps: [{ work: { exponential: 10ms, range: [0.5, 2] } }] }]
";
        read_model("uncertain.yaml", text).expect("it is a model")
    }

    #[test]
    fn world_0_is_the_model_as_written_and_other_worlds_repeat() {
        let model = uncertain();
        assert_eq!(model.world(0), model);
        assert_eq!(model.world(7), model.world(7));
        assert_ne!(model.world(7), model.world(8));
    }

    #[test]
    fn draws_stay_in_their_ranges_and_fill_them_evenly() {
        let model = uncertain();
        let worlds: Vec<Model> = (1..=400).map(|n| model.world(n)).collect();
        let workers = |m: &Model| match m.services["s"].workers.value {
            Limit::Of(n) => n,
            Limit::Unlimited => u32::MAX,
        };
        assert!(worlds.iter().all(|w| (1..=16).contains(&workers(w))));
        assert!(worlds.iter().all(|w| (40.0..=160.0).contains(&w.workload["users"].rate.value)));
        // Log-uniform on 40..160: half of the draws lie below 80. 400 draws: 5 standard deviations are 50.
        let low = worlds.iter().filter(|w| w.workload["users"].rate.value < 80.0).count();
        assert!((150..=250).contains(&low), "{low} of 400 below the geometric mean");
        let unbounded = worlds.iter().filter(|w| w.services["s"].queue.value == Limit::Unlimited).count();
        assert!((150..=250).contains(&unbounded), "{unbounded} of 400 unbounded");
        // Uniform on 0..0.4, a share.
        let mean =
            worlds.iter().filter_map(|w| w.services["s"].operations["op"].error_rate).map(|p| p.value).sum::<f64>() / 400.0;
        assert!((mean - 0.2).abs() < 5.0 * 0.4 / 12f64.sqrt() / 20.0, "mean error rate {mean}");
    }

    #[test]
    fn a_change_of_one_number_leaves_the_others_draws_alone() {
        let model = uncertain();
        let mut changed = model.clone();
        changed.services["s"].workers.range = None;
        let (a, b) = (model.world(3), changed.world(3));
        assert_eq!(a.workload, b.workload);
        assert_eq!(a.services["s"].operations, b.services["s"].operations);
        assert_ne!(a.services["s"].workers.value, b.services["s"].workers.value);
    }
}
