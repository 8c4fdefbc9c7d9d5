//! The same fault, milder: a magnitude between nothing and what it is.
//!
//! You are here: `scenarios::milder`. Checks that say "up to" go through its degrees, `shrink` looks for the least one that still does it.
//! Always true: numbers are rounded to two significant digits, so that a person can say them; a part of 1 is the fault itself.

use models::units::Nanos;

use crate::fault::FaultKind;

/// The kind at `part` (0..=1) of its magnitude; `None` where it has no degrees between nothing and all, or where this part is nothing.
pub fn milder(kind: &FaultKind, part: f64) -> Option<FaultKind> {
    if part >= 1.0 {
        return Some(kind.clone());
    }
    let of = |value: f64| round2(value * part);
    let share = |value: f64| Some(of(value)).filter(|&value| value > 0.0);
    // From 1, which changes nothing.
    let factor = |value: f64| Some(round2(1.0 + (value - 1.0) * part)).filter(|&value| value != 1.0);
    let kept = |keep: f64| Some(1.0 - of(1.0 - keep)).filter(|&keep| keep < 1.0).map(round4);
    let time = |value: Nanos| milder_time(value, part);
    let count = |value: u32, least: u32| Some((f64::from(value) * part).ceil() as u32).filter(|&n| n >= least && n < value);
    Some(match kind {
        FaultKind::Latency { distribution: Some(_), .. } => return None,
        FaultKind::Latency { add, jitter, distribution: None, leg, delivers_abandoned } => {
            let (add, jitter) = (time(*add), time(*jitter));
            if add.is_zero() && jitter.is_zero() {
                return None;
            }
            FaultKind::Latency { add, jitter, distribution: None, leg: *leg, delivers_abandoned: *delivers_abandoned }
        }
        FaultKind::ConnectionDrop { probability } => FaultKind::ConnectionDrop { probability: share(*probability)? },
        FaultKind::Loss { probability, retransmit } => {
            FaultKind::Loss { probability: share(*probability)?, retransmit: *retransmit }
        }
        FaultKind::Errors { probability } => FaultKind::Errors { probability: share(*probability)? },
        FaultKind::Duplicate { probability } => FaultKind::Duplicate { probability: share(*probability)? },
        FaultKind::MessageLoss { probability } => FaultKind::MessageLoss { probability: share(*probability)? },
        FaultKind::Poison { probability } => FaultKind::Poison { probability: share(*probability)? },
        FaultKind::Reorder { probability, within } => FaultKind::Reorder { probability: share(*probability)?, within: *within },
        FaultKind::Bandwidth { bytes_per_s, request_bytes } => {
            FaultKind::Bandwidth { bytes_per_s: round2(bytes_per_s / part.max(1e-9)), request_bytes: *request_bytes }
        }
        FaultKind::Slow { factor: f } => FaultKind::Slow { factor: factor(*f)? },
        FaultKind::SlowConsumer { factor: f } => FaultKind::SlowConsumer { factor: factor(*f)? },
        FaultKind::Surge { factor: f } => FaultKind::Surge { factor: factor(*f)? },
        FaultKind::WorkersLost { keep } => FaultKind::WorkersLost { keep: kept(*keep)? },
        FaultKind::HitRatioDrop { keep } => FaultKind::HitRatioDrop { keep: kept(*keep)? },
        FaultKind::Flush { share: lost } => FaultKind::Flush { share: share(*lost)? },
        FaultKind::Leak { growth } => FaultKind::Leak { growth: share(*growth)? },
        FaultKind::Delay { add, jitter } => {
            let (add, jitter) = (time(*add), time(*jitter));
            if add.is_zero() && jitter.is_zero() {
                return None;
            }
            FaultKind::Delay { add, jitter }
        }
        FaultKind::AggressiveRetries { attempts, backoff } => {
            FaultKind::AggressiveRetries { attempts: count(*attempts, 2)?, backoff: *backoff }
        }
        FaultKind::Reload { after, attempts } => FaultKind::Reload { after: *after, attempts: count(*attempts, 2)? },
        FaultKind::ReplicasLost { replicas } => FaultKind::ReplicasLost { replicas: count(*replicas, 1)? },
        FaultKind::Crash { replicas: Some(n), black_hole } => {
            FaultKind::Crash { replicas: Some(count(*n, 1)?), black_hole: *black_hole }
        }
        FaultKind::Crash { replicas: None, .. }
        | FaultKind::BlackHole { .. }
        | FaultKind::TimeoutLowered { .. }
        | FaultKind::Pause
        | FaultKind::QueueShrunk { .. }
        | FaultKind::ConsumerStall => return None,
    })
}

/// A part of a time, to two significant digits.
pub fn milder_time(time: Nanos, part: f64) -> Nanos {
    if part >= 1.0 { time } else { Nanos::from_nanos(round2(time.as_nanos() as f64 * part.max(0.0)) as u64) }
}

/// To two significant digits.
pub fn round2(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let power = libm::floor(libm::log10(value.abs())) as i32 - 1;
    // Division by a power of ten gives the nearest float to the decimal number; multiplication by its inverse does not.
    let ten = libm::pow(10.0, f64::from(power.abs()));
    if power >= 0 { (value / ten).round() * ten } else { (value * ten).round() / ten }
}

fn round4(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_lies_between_nothing_and_all() {
        let latency = FaultKind::latency(Nanos::from_secs(1));
        assert_eq!(milder(&latency, 0.5), Some(FaultKind::latency(Nanos::from_millis(500))));
        assert_eq!(milder(&latency, 1.0), Some(latency.clone()));
        assert_eq!(milder(&latency, 0.0), None, "nothing is no fault");
        assert_eq!(milder(&FaultKind::Slow { factor: 4.0 }, 0.5), Some(FaultKind::Slow { factor: 2.5 }));
        assert_eq!(milder(&FaultKind::Slow { factor: 0.5 }, 0.5), Some(FaultKind::Slow { factor: 0.75 }), "fast, but less so");
        assert_eq!(milder(&FaultKind::WorkersLost { keep: 0.2 }, 0.5), Some(FaultKind::WorkersLost { keep: 0.6 }));
        assert_eq!(milder(&FaultKind::ReplicasLost { replicas: 4 }, 0.5), Some(FaultKind::ReplicasLost { replicas: 2 }));
        assert_eq!(milder(&FaultKind::ReplicasLost { replicas: 1 }, 0.5), None, "half a replica is a replica");
        assert_eq!(milder(&FaultKind::Pause, 0.5), None);
        let Some(FaultKind::Bandwidth { bytes_per_s, .. }) =
            milder(&FaultKind::Bandwidth { bytes_per_s: 1000.0, request_bytes: 1.0 }, 0.5)
        else {
            panic!("it has degrees")
        };
        assert_eq!(bytes_per_s, 2000.0);
    }

    #[test]
    fn numbers_are_such_as_people_say() {
        assert_eq!([0.1234, 1.26, 12.6, 1260.0, 0.0].map(round2), [0.12, 1.3, 13.0, 1300.0, 0.0]);
        assert_eq!(round2(0.3).to_string(), "0.3");
        assert_eq!(milder_time(Nanos::from_secs(1), 1.0 / 3.0), Nanos::from_millis(330));
    }
}
