//! Units as types: points on the simulation clock, spans of time, rates.
//!
//! You are here: `models::units`. Everything else builds on it.
//! Always true: the clock counts whole nanoseconds; floats never enter it.
//! Not here: distributions of durations (`dist`).

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul, Sub};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point on the simulation clock: whole nanoseconds since the run began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SimTime(u64);

impl SimTime {
    /// The start of every run.
    pub const ZERO: SimTime = SimTime(0);

    /// The point `ns` nanoseconds after the start.
    pub const fn from_nanos(ns: u64) -> Self {
        SimTime(ns)
    }

    /// Whole nanoseconds since the run began.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Seconds since the run began, for people and statistics only.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The span from `earlier` to `self`; zero if `earlier` is later.
    pub const fn saturating_since(self, earlier: SimTime) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Nanos> for SimTime {
    type Output = SimTime;
    fn add(self, span: Nanos) -> SimTime {
        SimTime(self.0 + span.0)
    }
}

impl Sub for SimTime {
    type Output = Nanos;
    fn sub(self, earlier: SimTime) -> Nanos {
        Nanos(self.0 - earlier.0)
    }
}

/// A span of time in whole nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(u64);

impl Nanos {
    /// No time at all.
    pub const ZERO: Nanos = Nanos(0);

    /// The longest span that files hold: 291 years. The sum of two does not overflow.
    pub const LONGEST: Nanos = Nanos(9_199_999_999_999_999_999);

    /// `ns` nanoseconds.
    pub const fn from_nanos(ns: u64) -> Self {
        Nanos(ns)
    }

    /// `us` microseconds.
    pub const fn from_micros(us: u64) -> Self {
        Nanos(us * 1_000)
    }

    /// `ms` milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Nanos(ms * 1_000_000)
    }

    /// `s` seconds.
    pub const fn from_secs(s: u64) -> Self {
        Nanos(s * 1_000_000_000)
    }

    /// The nearest whole number of nanoseconds to `s` seconds; negative and NaN give zero, too large the maximum.
    pub fn from_secs_f64(s: f64) -> Self {
        Nanos((s * 1e9).round().max(0.0) as u64)
    }

    /// The nearest whole number of nanoseconds to `ms` milliseconds; see [`Nanos::from_secs_f64`].
    pub fn from_millis_f64(ms: f64) -> Self {
        Nanos((ms * 1e6).round().max(0.0) as u64)
    }

    /// Whole nanoseconds.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Milliseconds, for people and statistics only.
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Seconds, for people and statistics only.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// True for no time at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Reads a duration with a unit: `ns`, `us` (or `µs`), `ms`, `s`, `min`, `h`. One number, one unit; `None` for all else,
    /// negative numbers included.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, unit) = text.split_at(split);
        let per_unit: u64 = match unit.trim() {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "min" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        // Whole units in integers, so that long durations keep their last nanosecond.
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
        let fraction = format!("0.{fraction}0").parse::<f64>().ok()? * per_unit as f64;
        let ns = whole.checked_mul(per_unit)?.checked_add(fraction.round() as u64)?;
        (ns <= Nanos::LONGEST.0).then_some(Nanos(ns))
    }
}

impl fmt::Display for Nanos {
    /// The shortest exact form with one unit: `800ms`, `2.5s`, `0s`. `Nanos::parse` reads it back unchanged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (per_unit, digits, unit) = match self.0 {
            0 => return f.write_str("0s"),
            n if n >= 1_000_000_000 => (1_000_000_000, 9, "s"),
            n if n >= 1_000_000 => (1_000_000, 6, "ms"),
            n if n >= 1_000 => (1_000, 3, "us"),
            _ => (1, 0, "ns"),
        };
        write!(f, "{}", self.0 / per_unit)?;
        let rest = self.0 % per_unit;
        if rest > 0 {
            let text = format!("{rest:0digits$}");
            write!(f, ".{}", text.trim_end_matches('0'))?;
        }
        f.write_str(unit)
    }
}

impl Add for Nanos {
    type Output = Nanos;
    fn add(self, other: Nanos) -> Nanos {
        Nanos(self.0 + other.0)
    }
}

impl AddAssign for Nanos {
    fn add_assign(&mut self, other: Nanos) {
        self.0 += other.0;
    }
}

impl Sub for Nanos {
    type Output = Nanos;
    fn sub(self, other: Nanos) -> Nanos {
        Nanos(self.0 - other.0)
    }
}

impl Mul<u64> for Nanos {
    type Output = Nanos;
    fn mul(self, times: u64) -> Nanos {
        Nanos(self.0 * times)
    }
}

impl Sum for Nanos {
    fn sum<I: Iterator<Item = Nanos>>(iter: I) -> Nanos {
        Nanos(iter.map(|n| n.0).sum())
    }
}

impl Serialize for Nanos {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Nanos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Nanos::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a duration with a unit")))
    }
}

/// Events per second; finite and not negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Rate(f64);

impl Rate {
    /// `per_s` events per second; `None` unless finite and not negative.
    pub fn per_sec(per_s: f64) -> Option<Self> {
        (per_s.is_finite() && per_s >= 0.0).then_some(Rate(per_s))
    }

    /// Events per second.
    pub fn as_per_sec(self) -> f64 {
        self.0
    }

    /// Reads a rate that says per what: `80/s`, `5/min`, `100/h`. `None` for all else.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, per) = text.trim().split_once('/')?;
        let seconds = match per.trim() {
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        Rate::per_sec(number.trim().parse::<f64>().ok()? / seconds)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_as_they_are_read() {
        for text in ["0s", "1ns", "999us", "1.5ms", "800ms", "2.5s", "120s", "1.000000001s", "9007199254.740993001s"] {
            assert_eq!(Nanos::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(Nanos::parse("1.5min"), Some(Nanos::from_secs(90)));
    }

    #[test]
    fn durations_without_unit_or_below_zero_are_refused() {
        for text in ["250", "", "ms", ".s", "1.2.3s", "-5ms", "1m", "1m30s", "NaNs", "1e3ms", "99999999999h"] {
            assert_eq!(Nanos::parse(text), None, "{text}");
        }
    }

    #[test]
    fn rates_say_per_what() {
        assert_eq!(Rate::parse("80/s").map(Rate::as_per_sec), Some(80.0));
        assert_eq!(Rate::parse("120/min").map(Rate::as_per_sec), Some(2.0));
        for text in ["80", "80/d", "-1/s", "inf/s", "NaN/s"] {
            assert_eq!(Rate::parse(text), None, "{text}");
        }
    }
}
