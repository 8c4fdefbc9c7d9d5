//! How well a model foretold traffic that it was not learned from.
//!
//! You are here: `models::fidelity`. The command line learns a model from the first part of the traffic and simulates the rest; here what
//! was foretold is held against what came, boundary by boundary. `learned.backcast` of a model file keeps the result.
//! Always true: a difference that chance explains costs nothing.
//! Not here: simulating (`sim`), cutting the traffic in two (the command line).

use std::collections::BTreeMap;

use indexmap::IndexMap;

use crate::system::Model;

/// What was foretold of the rest of the traffic, and what came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backcast {
    /// Length of the part that was learned from, seconds.
    pub learned_s: f64,
    /// Length of the part that was foretold, seconds.
    pub foretold_s: f64,
    /// Simulated runs that foretold it.
    pub runs: u32,
    /// By entry and edge (`from->to`), in the model's order.
    pub boundaries: IndexMap<String, BoundaryScore>,
}

/// One boundary. Each pair is what was foretold (the middle of the runs), and what came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BoundaryScore {
    /// 1: no difference beyond chance; see [`score`].
    pub score: f64,
    /// Attempts that came (at an entry: requests to its service).
    pub attempts: u64,
    /// Attempts per second.
    pub per_s: [f64; 2],
    /// Failed share of them.
    pub error_rate: [f64; 2],
    /// Median as the caller saw it, ms.
    pub p50_ms: [f64; 2],
    /// 99th percentile, ms.
    pub p99_ms: [f64; 2],
}

/// What traffic, real or simulated, shows at one boundary.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measure {
    /// Attempts.
    pub attempts: u64,
    /// Per second.
    pub per_s: f64,
    /// Failed share.
    pub error_rate: f64,
    /// Median, ms.
    pub p50_ms: f64,
    /// 99th percentile, ms.
    pub p99_ms: f64,
}

/// Below this score a model did badly: some number is off by a quarter, or an error rate by two and a half points, beyond chance.
pub const GOOD: f64 = 0.75;
/// Points by which an error rate may be off, beyond chance, until nothing of the score is left: ten.
const ERROR_POINTS: f64 = 0.1;
/// The spread of ten runs is itself uncertain, and that of a median deviation more than that of a standard one; with this the interval of
/// normal scatter holds nine in ten.
const WIDER: f64 = 1.15;
/// Attempts below which nothing can be said.
const FEWEST: u64 = 30;

/// What a model's own `observed` sections show, at every edge and entry.
pub fn measures(model: &Model) -> BTreeMap<String, Measure> {
    let seconds = model.learned.as_ref().map_or(0.0, |learned| learned.seconds).max(1e-9);
    let edges = model.edges.iter().filter_map(|(name, edge)| {
        let seen = edge.observed.as_ref()?;
        let measure = Measure {
            attempts: seen.attempts,
            per_s: seen.attempts as f64 / seconds,
            error_rate: seen.errors as f64 / seen.attempts.max(1) as f64,
            p50_ms: seen.p50_ms,
            p99_ms: seen.p99_ms,
        };
        Some((name.to_string(), measure))
    });
    let entries = model.workload.iter().filter_map(|(name, entry)| {
        let seen = model.services.get(&entry.to.service)?.observed.as_ref()?;
        let (attempts, per_s, error_rate) = (seen.calls, seen.calls as f64 / seconds, seen.error_rate);
        Some((name.clone(), Measure { attempts, per_s, error_rate, p50_ms: seen.p50_ms, p99_ms: seen.p99_ms }))
    });
    entries.chain(edges).collect()
}

/// Scores what `runs` foretold against what `came`, at every boundary of either with enough attempts.
///
/// For each of rate, error rate, median and p99: the difference between what came and the median of the runs, less what chance explains
/// (the 90 % prediction interval from the median deviation between runs, Student's t), is divided by the larger of the two; for error
/// rates, by ten points. Medians, because a run in ten that collapses by itself is not what is foretold. A boundary's score is 1 less the worst of its four, at least 0: 0.5 means that some number is off by a factor of two beyond
/// chance. `spread`: runs of another length than the traffic scatter differently; this is (length of runs / length of traffic).
///
/// It cannot tell how the model does under faults or at other loads: queues that never filled and timeouts that never fired are not
/// tested by traffic without them.
pub fn score(
    runs: &[BTreeMap<String, Measure>],
    came: &BTreeMap<String, Measure>,
    spread: f64,
) -> IndexMap<String, BoundaryScore> {
    let mut names: Vec<&String> = came.keys().collect();
    names.extend(runs.iter().flat_map(BTreeMap::keys));
    names.sort_unstable();
    names.dedup();
    // Entries first, as in a model file.
    names.sort_by_key(|name| name.contains("->"));
    let mut out = IndexMap::new();
    for name in names {
        let came = came.get(name).copied().unwrap_or_default();
        let foretold: Vec<Measure> = runs.iter().map(|run| run.get(name).copied().unwrap_or_default()).collect();
        let expected = foretold.iter().map(|m| m.attempts).sum::<u64>() / foretold.len().max(1) as u64;
        if came.attempts.max(expected) < FEWEST {
            continue;
        }
        let pair = |of: fn(&Measure) -> f64| Pair::of(foretold.iter().map(of), of(&came), spread);
        let (per_s, errors) = (pair(|m| m.per_s), pair(|m| m.error_rate));
        let (p50, p99) = (pair(|m| m.p50_ms), pair(|m| m.p99_ms));
        let relative = |pair: &Pair| pair.excess / pair.foretold.max(pair.came).max(1e-9);
        let lost = [relative(&per_s), errors.excess / ERROR_POINTS, relative(&p50), relative(&p99)];
        let score = (1.0 - lost.into_iter().fold(0.0, f64::max)).clamp(0.0, 1.0);
        out.insert(
            name.clone(),
            BoundaryScore {
                score: round(score),
                attempts: came.attempts,
                per_s: per_s.both(),
                error_rate: errors.both(),
                p50_ms: p50.both(),
                p99_ms: p99.both(),
            },
        );
    }
    out
}

/// A number as foretold and as it came.
struct Pair {
    foretold: f64,
    came: f64,
    /// How far apart they are beyond chance.
    excess: f64,
}

impl Pair {
    fn of(runs: impl Iterator<Item = f64>, came: f64, spread: f64) -> Pair {
        let mut runs: Vec<f64> = runs.collect();
        let n = runs.len().max(1) as f64;
        let middle = median(&mut runs);
        let mut off: Vec<f64> = runs.iter().map(|x| (x - middle).abs()).collect();
        let deviation = 1.4826 * median(&mut off);
        // Both the traffic and the middle of the runs scatter (a median by pi / 2 times as much as a mean).
        let chance = WIDER * student(runs.len()) * deviation * libm::sqrt(spread + std::f64::consts::FRAC_PI_2 / n);
        let excess = ((came - middle).abs() - chance).max(0.0);
        Pair { foretold: middle, came, excess }
    }

    fn both(&self) -> [f64; 2] {
        [round(self.foretold), round(self.came)]
    }
}

/// The median; 0 without any.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    if n == 0 { 0.0 } else { (values[(n - 1) / 2] + values[n / 2]) / 2.0 }
}

/// Six decimals are more than anybody knows, and make the file the same on every machine.
fn round(x: f64) -> f64 {
    (x * 1e6).round() / 1e6
}

/// The two-sided 90 % quantile of Student's t for the spread of `n` runs.
fn student(n: usize) -> f64 {
    const T: [f64; 12] = [6.314, 6.314, 6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812];
    T.get(n).copied().unwrap_or(1.75)
}

impl Backcast {
    /// The boundaries at which the model did badly, worst first.
    pub fn bad(&self) -> Vec<(&str, &BoundaryScore)> {
        let mut bad: Vec<_> =
            self.boundaries.iter().filter(|(_, b)| b.score < GOOD).map(|(name, b)| (name.as_str(), b)).collect();
        bad.sort_by(|a, b| a.1.score.total_cmp(&b.1.score).then(a.0.cmp(b.0)));
        bad
    }

    /// The share of boundaries at which it did well; 1 if nothing could be told.
    pub fn good_share(&self) -> f64 {
        let n = self.boundaries.len();
        if n == 0 { 1.0 } else { (n - self.bad().len()) as f64 / n as f64 }
    }

    /// Sentences that warn of boundaries at which the model did badly.
    pub fn warnings(&self) -> Vec<String> {
        self.bad()
            .into_iter()
            .map(|(name, b)| format!("the model foretold its own traffic badly at {name} (score {:.2}): {}", b.score, b.worst()))
            .collect()
    }
}

impl BoundaryScore {
    /// Which number is furthest off, in words.
    pub fn worst(&self) -> String {
        let relative = |[foretold, came]: [f64; 2]| (foretold - came).abs() / foretold.max(came).max(1e-9);
        let errors = (self.error_rate[0] - self.error_rate[1]).abs() / ERROR_POINTS;
        let all = [
            (relative(self.per_s), format!("{:.1} attempts/s foretold, {:.1} came", self.per_s[0], self.per_s[1])),
            (errors, format!("{:.1} % errors foretold, {:.1} % came", self.error_rate[0] * 100.0, self.error_rate[1] * 100.0)),
            (relative(self.p50_ms), format!("a median of {:.1} ms foretold, {:.1} ms came", self.p50_ms[0], self.p50_ms[1])),
            (relative(self.p99_ms), format!("a p99 of {:.1} ms foretold, {:.1} ms came", self.p99_ms[0], self.p99_ms[1])),
        ];
        all.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).map_or_else(String::new, |(_, words)| words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(per_s: f64, error_rate: f64, p50_ms: f64, p99_ms: f64) -> BTreeMap<String, Measure> {
        BTreeMap::from([("a->b".to_owned(), Measure { attempts: 1_000, per_s, error_rate, p50_ms, p99_ms })])
    }

    fn score_of(runs: &[BTreeMap<String, Measure>], came: &BTreeMap<String, Measure>) -> f64 {
        score(runs, came, 1.0)["a->b"].score
    }

    #[test]
    fn what_chance_explains_costs_nothing() {
        let runs: Vec<_> = (0..10).map(|i| at(100.0 + f64::from(i), 0.01, 10.0, 50.0 + f64::from(i) * 4.0)).collect();
        assert_eq!(score_of(&runs, &at(104.0, 0.01, 10.0, 75.0)), 1.0);
        assert_eq!(score_of(&runs, &at(109.0, 0.01, 10.0, 60.0)), 1.0);
    }

    #[test]
    fn the_interval_of_normal_scatter_holds_nine_in_ten() {
        let mut state = 9_u64;
        let mut normal = || {
            let mut uniform = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((state >> 11) as f64 + 1.0) / 9_007_199_254_740_993.0
            };
            libm::sqrt(-2.0 * libm::log(uniform())) * libm::cos(std::f64::consts::TAU * uniform())
        };
        let mut eleven = || std::array::from_fn::<f64, 11, _>(|_| normal());
        let within = |[came, runs @ ..]: [f64; 11]| Pair::of(runs.into_iter(), came, 1.0).excess == 0.0;
        let within = (0..20_000).filter(|_| within(eleven())).count();
        assert!((0.88..0.93).contains(&(within as f64 / 20_000.0)), "{within}");
    }

    #[test]
    fn the_worst_number_decides() {
        let runs = vec![at(100.0, 0.0, 10.0, 50.0); 10];
        assert_eq!(score_of(&runs, &at(100.0, 0.0, 10.0, 100.0)), 0.5);
        assert_eq!(score_of(&runs, &at(100.0, 0.0, 5.0, 100.0)), 0.5);
        assert_eq!(score_of(&runs, &at(100.0, 0.05, 10.0, 50.0)), 0.5);
        assert_eq!(score_of(&runs, &at(100.0, 0.3, 10.0, 50.0)), 0.0);
        assert_eq!(score_of(&runs, &at(25.0, 0.0, 10.0, 50.0)), 0.25);
    }

    #[test]
    fn a_boundary_that_nobody_foretold_has_no_score_left_and_a_rare_one_is_left_out() {
        let mut came = at(100.0, 0.0, 10.0, 50.0);
        let runs = vec![at(100.0, 0.0, 10.0, 50.0); 10];
        came.insert("a->new".into(), Measure { attempts: 500, per_s: 50.0, ..Measure::default() });
        came.insert("a->rare".into(), Measure { attempts: 3, ..Measure::default() });
        let scores = score(&runs, &came, 1.0);
        assert_eq!(scores.keys().collect::<Vec<_>>(), ["a->b", "a->new"]);
        let backcast = Backcast { boundaries: scores, ..Backcast::default() };
        assert_eq!(backcast.bad()[0].0, "a->new");
        let said = "the model foretold its own traffic badly at a->new (score 0.00): 0.0 attempts/s foretold, 50.0 came";
        assert_eq!(backcast.warnings(), [said]);
        assert_eq!(backcast.good_share(), 0.5);
    }
}
