//! Every clock the benches read, in one place.

#![forbid(unsafe_code)]

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// The moment, for chunks of many operations: one read costs about 50 ns.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Wall time, for the head of the table.
#[expect(clippy::disallowed_methods, reason = "the table says on which day it was made")]
pub(crate) fn since_unix_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// CPU time this thread has used. Preemption does not count; one read is a system call of 400 to 800 ns.
pub(crate) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).expect("CPU time is not negative");
    Duration::from_secs(seconds) + Duration::from_nanos(time.tv_nsec.unsigned_abs())
}

/// The time-stamp counter, for single operations: one read costs about 20 ns.
pub(crate) fn ticks() -> &'static quanta::Clock {
    static TICKS: OnceLock<quanta::Clock> = OnceLock::new();
    TICKS.get_or_init(quanta::Clock::new)
}

/// `2026-04-14 09:30 UTC` for a time since the Unix epoch.
pub(crate) fn civil(since_epoch: Duration) -> String {
    let minutes = since_epoch.as_secs() / 60;
    let (days, minute) = (minutes / 1440, minutes % 1440);
    // Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`; eras start in March.
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", minute / 60, minute % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn civil_dates() {
        let date = |seconds| civil(Duration::from_secs(seconds));
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_825_599), "2000-02-29 11:59 UTC");
        assert_eq!(date(1_775_000_000), "2026-03-31 23:33 UTC");
    }
}
