//! Points of time as people write them (RFC 3339), in whole seconds since 1970.
//!
//! You are here: `pull::time`.

use jiff::Timestamp;

/// `2026-11-24T12:00:00Z`.
///
/// # Panics
/// Beyond the year 9999.
pub fn rfc3339(epoch_s: u64) -> String {
    let second = i64::try_from(epoch_s).expect("before the year 9999");
    Timestamp::from_second(second).expect("before the year 9999").to_string()
}

/// Seconds since 1970 of `2026-11-24T12:00:00Z`, or of the same with an offset; `None` for anything else.
pub fn parse(text: &str) -> Option<u64> {
    u64::try_from(text.trim().parse::<Timestamp>().ok()?.as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (text, epoch) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2024-03-01T00:00:00Z", 1_709_251_200),
            ("2026-11-24T12:00:00Z", 1_795_521_600),
        ] {
            assert_eq!((rfc3339(epoch).as_str(), parse(text)), (text, Some(epoch)));
        }
        assert_eq!(parse("2026-11-24T14:00:00+02:00"), Some(1_795_521_600));
        assert_eq!(["2026-11-24", "2026-02-30T00:00:00Z", "1969-12-31T23:59:59Z", "now"].map(parse), [None; 4]);
    }
}
