//! What callers saw: how long they waited, and how often in vain.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::origin::Failure;

/// Longer than anything here lasts; what is longer counts as this.
const LONGEST: Duration = Duration::from_secs(3600);

/// Two digits are right: what is shown is within one percent.
const DIGITS: u8 = 2;

/// The requests of one caller, or of several together.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    nanos: Histogram<u32>,
    /// The histogram's own is rounded up.
    longest: Duration,
    failures: u64,
}

impl Tally {
    /// No requests.
    pub(crate) fn new() -> Self {
        let nanos = Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, DIGITS);
        Self { nanos: nanos.expect("the bounds are constants"), longest: Duration::ZERO, failures: 0 }
    }

    /// One request more, and how it ended.
    pub(crate) fn note<T>(&mut self, latency: Duration, answer: &Result<T, Failure>) {
        self.nanos.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        self.longest = self.longest.max(latency);
        self.failures += u64::from(answer.is_err());
    }

    /// The requests of `other` too.
    pub(crate) fn add(&mut self, other: &Self) {
        self.nanos.add(&other.nanos).expect("the bounds are the same");
        self.longest = self.longest.max(other.longest);
        self.failures += other.failures;
    }

    /// Number of requests.
    pub(crate) fn requests(&self) -> u64 {
        self.nanos.len()
    }

    /// Requests that ended in a failure.
    pub(crate) fn failures(&self) -> u64 {
        self.failures
    }

    /// The latency that `percent` of the requests kept to.
    pub(crate) fn percentile(&self, percent: f64) -> Duration {
        Duration::from_nanos(self.nanos.value_at_percentile(percent)).min(self.longest)
    }

    /// The longest latency.
    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn percentiles_are_right_by_two_digits() {
        let mut even = Tally::new();
        let mut odd = Tally::new();
        for request in 1..=1000 {
            let tally = if request % 2 == 0 { &mut even } else { &mut odd };
            tally.note(millis(request), &Ok(()));
        }
        even.add(&odd);
        assert_eq!((even.requests(), even.failures()), (1000, 0));
        assert_eq!(even.longest(), millis(1000));
        for (percent, expected) in [(50.0, 500.0), (99.0, 990.0), (99.9, 999.0), (100.0, 1000.0)] {
            let found = even.percentile(percent).as_secs_f64() * 1e3;
            assert!((found / expected - 1.0).abs() < 0.01, "{percent} %: {found}");
        }
    }

    #[test]
    fn nothing_is_longer_than_the_longest() {
        let mut tally = Tally::new();
        assert_eq!((tally.percentile(99.9), tally.longest()), (Duration::ZERO, Duration::ZERO));
        tally.note(Duration::from_nanos(1_000_001), &Err::<(), _>(Failure));
        assert_eq!(tally.percentile(50.0), tally.longest());
        assert_eq!(tally.failures(), 1);
        tally.note(Duration::MAX, &Ok(()));
        assert_eq!(tally.requests(), 2);
    }
}
