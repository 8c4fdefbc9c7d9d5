//! The real clock, for progress and for saying what a run cost. No result depends on it.
//!
//! You are here: `clock`. The members never see it.

use std::time::{Duration, SystemTime};

/// The CPU time that this thread has used so far (where the system does not tell: the time that has passed).
pub fn thread_cpu() -> Duration {
    #[cfg(unix)]
    {
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap_or(0))
    }
    #[cfg(not(unix))]
    {
        use std::sync::LazyLock;
        use std::time::Instant;
        static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
        BEGAN.elapsed()
    }
}

/// Seconds since 1970: which traces are of the last hours.
#[expect(clippy::disallowed_methods, reason = "live traces are asked for by the clock; no run depends on it")]
pub fn epoch_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_cpu_time() {
        let before = thread_cpu();
        let mut sum = 0u64;
        for i in 0..10_000_000u64 {
            sum = std::hint::black_box(sum ^ i.rotate_left(7));
        }
        assert!(thread_cpu() > before, "{sum}");
    }
}
