//! How steady users come: the steps of their rate over time, and how bursty they are beside it.
//!
//! You are here: `models::learn::traffic`, for `workload`. Counts of equal windows are cut in two where a step explains them best, and
//! each part again, as long as the step is beyond chance. What then remains of variance over mean is the index of dispersion: 1 for
//! users who know nothing of each other (Poisson), more for bursts. Single stretches too short for a step, such as those of a load test,
//! are peaks; what is left beside them tells whether users come in bursts all the time.
//! Source: binary segmentation (Scott and Knott, Biometrics 30, 1974) with the Poisson likelihood ratio, divided by the dispersion of
//! neighbouring windows, so that bursts are not taken for steps.

/// What one entry's arrivals show.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Traffic {
    /// (from when on, seconds; requests per second), the first from 0; one step: steady.
    pub(crate) steps: Vec<(f64, f64)>,
    /// The same, a step for every window.
    pub(crate) course: Vec<(f64, f64)>,
    /// Variance over mean of the counts within steps; 1 without enough windows to tell.
    pub(crate) dispersion: f64,
    /// Windows counted.
    pub(crate) windows: usize,
    /// Requests per second of each short stretch within the steps that is off by more than chance; none if there are so many that they
    /// are what the traffic is like.
    pub(crate) peaks: Vec<f64>,
    /// Variance over mean of the counts within steps and peaks.
    pub(crate) burstiness: f64,
}

/// Windows in a step, at least.
const LEAST_STEP: usize = 5;
/// Windows in a peak, at most: longer ones are found as steps.
const MOST_PEAK: usize = 2 * LEAST_STEP - 1;
/// Windows per peak, at least: more peaks are bursts.
const LEAST_PER_PEAK: usize = 20;
/// Requests in a window, on average, at least.
const LEAST_COUNT: f64 = 10.0;
const MOST_WINDOWS: f64 = 4096.0;
/// Twice the log likelihood ratio that a step must gain, plus twice the logarithm of the windows: about one false step in a thousand
/// recordings.
const SURE: f64 = 14.0;
/// A step below this part of the rate does not matter.
const LEAST_STEP_CHANGE: f64 = 0.1;

impl Traffic {
    /// Looks at the times (nanoseconds since the beginning) and weights of `seconds` of arrivals without holes.
    pub(crate) fn of(arrivals: impl Iterator<Item = (u64, f64)>, n: usize, seconds: f64) -> Traffic {
        let windows = (n as f64 / LEAST_COUNT).min(seconds).min(MOST_WINDOWS).floor();
        if windows < 2.0 * LEAST_STEP as f64 {
            return Traffic { dispersion: 1.0, burstiness: 1.0, ..Traffic::default() };
        }
        let length = seconds / windows;
        let mut counts = vec![0.0; windows as usize];
        let (mut kept, mut total) = (0.0, 0.0);
        for (at, weight) in arrivals {
            let window = ((at as f64 / 1e9 / length) as usize).min(counts.len() - 1);
            counts[window] += weight;
            kept += 1.0;
            total += weight;
        }
        // Thinned traffic is as uncertain as what was kept.
        let scale = if total > 0.0 { kept / total } else { 1.0 };
        counts.iter_mut().for_each(|c| *c *= scale);
        let mut cuts = vec![0, counts.len()];
        let noise = neighbours(&counts).max(1.0);
        segment(&counts, 0, counts.len(), noise, &mut cuts);
        cuts.sort_unstable();
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let (mut squares, mut steps) = (0.0, Vec::new());
        for cut in cuts.windows(2) {
            let part = &counts[cut[0]..cut[1]];
            let level = mean(part);
            squares += part.iter().map(|c| (c - level) * (c - level)).sum::<f64>() / level.max(1e-9);
            steps.push((cut[0] as f64 * length, level / scale / length));
        }
        let freedom = (counts.len() - steps.len()).max(1) as f64;
        let peaks = peaks(&counts, &cuts);
        let burstiness = if peaks.is_empty() { squares / freedom } else { within(&counts, &cuts, &peaks) };
        let peaks = peaks.iter().map(|&(from, to)| mean(&counts[from..to]) / scale / length).collect();
        let course = counts.iter().enumerate().map(|(i, c)| (i as f64 * length, c / scale / length)).collect();
        Traffic { steps, course, dispersion: squares / freedom, windows: counts.len(), peaks, burstiness }
    }

    /// Whether the counts within steps vary beyond chance (four standard deviations) and enough to matter.
    pub(crate) fn is_bursty(&self) -> bool {
        self.matters(self.dispersion)
    }

    /// Whether they do so all the time, not in some peaks alone.
    pub(crate) fn is_bursty_beside_peaks(&self) -> bool {
        self.matters(self.burstiness)
    }

    fn matters(&self, dispersion: f64) -> bool {
        self.windows > 0 && dispersion > 1.5 && dispersion > 1.0 + 4.0 * libm::sqrt(2.0 / self.windows as f64)
    }

    pub(crate) fn is_steady(&self) -> bool {
        self.steps.len() < 2
    }
}

/// Variance over mean from the differences of neighbouring windows: steps hardly count.
fn neighbours(counts: &[f64]) -> f64 {
    let mean = counts.iter().sum::<f64>() / counts.len() as f64;
    let squares: f64 = counts.windows(2).map(|w| (w[1] - w[0]) * (w[1] - w[0])).sum();
    squares / (2.0 * (counts.len() - 1) as f64 * mean.max(1e-9))
}

/// Cuts `from..to` where a step explains the counts best, and the parts again.
fn segment(counts: &[f64], from: usize, to: usize, noise: f64, cuts: &mut Vec<usize>) {
    // A stack, for traffic may have thousands of windows.
    let mut parts = vec![(from, to)];
    let sure = SURE + 2.0 * libm::log(counts.len() as f64);
    while let Some((from, to)) = parts.pop() {
        let all: f64 = counts[from..to].iter().sum();
        let n = (to - from) as f64;
        let fit = |sum: f64, n: f64| if sum > 0.0 { sum * libm::log(sum / n) } else { 0.0 };
        let mut best = (0.0, 0);
        let mut left: f64 = counts[from..to].iter().take(LEAST_STEP).sum();
        let last = (to + 1).saturating_sub(LEAST_STEP);
        for (cut, count) in counts.iter().enumerate().take(last).skip(from + LEAST_STEP) {
            let before = (cut - from) as f64;
            let gain = 2.0 * (fit(left, before) + fit(all - left, n - before) - fit(all, n)) / noise;
            let (low, high) = (left / before, (all - left) / (n - before));
            if gain > best.0 && (high - low).abs() > LEAST_STEP_CHANGE * low.max(high) {
                best = (gain, cut);
            }
            left += count;
        }
        if best.0 > sure {
            cuts.push(best.1);
            parts.extend([(from, best.1), (best.1, to)]);
        }
    }
}

/// Stretches of windows `from..to`, each within two neighbouring `cuts`, that are off from what is around them by more than chance: the
/// clearest first, as long as there is one, by the same likelihood ratio as steps. O(windows) time for each peak.
fn peaks(counts: &[f64], cuts: &[usize]) -> Vec<(usize, usize)> {
    let n = counts.len();
    let sure = SURE + 2.0 * libm::log((n * MOST_PEAK) as f64);
    let mut peaks: Vec<(usize, usize)> = Vec::new();
    let mut taken = vec![false; n];
    loop {
        // Peaks that are known are no noise.
        let rest: Vec<f64> = (0..n).filter(|&i| !taken[i]).map(|i| counts[i]).collect();
        if rest.len() < 2 {
            return peaks;
        }
        let noise = neighbours(&rest).max(1.0);
        let mut best = (sure, (0, 0));
        for cut in cuts.windows(2) {
            let free = || (cut[0]..cut[1]).filter(|&i| !taken[i]);
            let (windows, all) = (free().count() as f64, free().map(|i| counts[i]).sum::<f64>());
            let fit = |sum: f64, n: f64| if sum > 0.0 { sum * libm::log(sum / n) } else { 0.0 };
            for from in free() {
                let mut sum = 0.0;
                for to in (from + 1..=cut[1]).take(MOST_PEAK) {
                    if taken[to - 1] {
                        break;
                    }
                    sum += counts[to - 1];
                    let (inside, around) = ((to - from) as f64, windows - (to - from) as f64);
                    // What is around a peak must itself be seen for long enough.
                    if around < LEAST_STEP as f64 {
                        break;
                    }
                    let gain = 2.0 * (fit(sum, inside) + fit(all - sum, around) - fit(all, windows)) / noise;
                    let (low, high) = (sum / inside, (all - sum) / around);
                    if gain > best.0 && (high - low).abs() > LEAST_STEP_CHANGE * low.max(high) {
                        best = (gain, (from, to));
                    }
                }
            }
        }
        let (_, (from, to)) = best;
        if to == 0 {
            return peaks;
        }
        if (peaks.len() + 1) * LEAST_PER_PEAK > n {
            return Vec::new();
        }
        taken[from..to].fill(true);
        peaks.push((from, to));
    }
}

/// Variance over mean of the counts, those of each peak by themselves, those of each step without its peaks.
fn within(counts: &[f64], cuts: &[usize], peaks: &[(usize, usize)]) -> f64 {
    let in_peak = |i: usize| peaks.iter().any(|&(from, to)| (from..to).contains(&i));
    let steps = cuts.windows(2).map(|cut| (cut[0]..cut[1]).filter(|&i| !in_peak(i)).map(|i| counts[i]).collect());
    let parts: Vec<Vec<f64>> = steps.chain(peaks.iter().map(|&(from, to)| counts[from..to].to_vec())).collect();
    let squares = parts.iter().map(|part| {
        let level = part.iter().sum::<f64>() / part.len().max(1) as f64;
        part.iter().map(|c| (c - level) * (c - level)).sum::<f64>() / level.max(1e-9)
    });
    squares.sum::<f64>() / counts.len().saturating_sub(parts.len()).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Poisson arrivals whose rate is `rate(second)`.
    fn arrivals(seconds: u64, seed: u64, rate: impl Fn(u64) -> f64) -> Vec<(u64, f64)> {
        let mut state = seed;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 11) as f64 + 1.0) / 9_007_199_254_740_993.0
        };
        let (mut now, mut out) = (0.0, Vec::new());
        let most = (0..seconds).map(&rate).fold(0.0, f64::max);
        while now < seconds as f64 {
            now -= libm::log(draw()) / most;
            if now < seconds as f64 && draw() < rate(now as u64) / most {
                out.push(((now * 1e9) as u64, 1.0));
            }
        }
        out
    }

    fn traffic(arrivals: &[(u64, f64)], seconds: f64) -> Traffic {
        Traffic::of(arrivals.iter().copied(), arrivals.len(), seconds)
    }

    #[test]
    fn steady_users_have_one_step_and_no_bursts() {
        let wrong = (0..100).filter(|&seed| {
            let traffic = traffic(&arrivals(120, seed + 1, |_| 40.0), 120.0);
            !traffic.is_steady() || traffic.is_bursty() || !traffic.peaks.is_empty()
        });
        assert_eq!(wrong.count(), 0);
    }

    #[test]
    fn steps_are_found_where_they_are() {
        let rate = |second: u64| {
            if second < 40 {
                30.0
            } else if second < 90 {
                75.0
            } else {
                50.0
            }
        };
        for seed in 1..20 {
            let found = traffic(&arrivals(120, seed, rate), 120.0);
            let [(a, x), (b, y), (c, z)] = found.steps[..] else { panic!("{found:?}") };
            assert!(a == 0.0 && (b - 40.0).abs() <= 3.0 && (c - 90.0).abs() <= 3.0, "{found:?}");
            assert!((x / 30.0 - 1.0).abs() < 0.15 && (y / 75.0 - 1.0).abs() < 0.15 && (z / 50.0 - 1.0).abs() < 0.15, "{found:?}");
        }
    }

    #[test]
    fn bursts_are_dispersion_and_not_steps() {
        let bursts = arrivals(300, 5, |second| if second % 10 == 9 { 120.0 } else { 30.0 });
        let found = traffic(&bursts, 300.0);
        assert!(found.is_steady() && found.is_bursty() && found.dispersion > 5.0, "{found:?}");
        assert!(found.peaks.is_empty() && found.is_bursty_beside_peaks(), "{found:?}");
        let longer = arrivals(300, 6, |second| if second % 10 > 7 { 120.0 } else { 30.0 });
        assert!(traffic(&longer, 300.0).is_bursty_beside_peaks(), "many are no peaks");
    }

    #[test]
    fn the_short_load_steps_of_a_test_are_peaks_and_no_bursts() {
        let rate = |second: u64| match second {
            15..19 => 98.0,
            30..33 => 126.0,
            45..47 => 154.0,
            _ => 70.0,
        };
        for seed in 1..20 {
            let found = traffic(&arrivals(120, seed, rate), 120.0);
            assert!(found.is_bursty() && !found.is_bursty_beside_peaks(), "{found:?}");
            assert!((2..=4).contains(&found.peaks.len()), "{found:?}");
            let highest = found.peaks.iter().copied().fold(0.0, f64::max);
            assert!((highest / 154.0 - 1.0).abs() < 0.2, "{found:?}");
        }
    }
}
