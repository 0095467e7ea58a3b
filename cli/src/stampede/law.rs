//! How long the origin takes, and when it fails.

use std::{f64::consts::TAU, time::Duration};

use fastrand::Rng;

/// Nobody is further off the median than this many standard deviations: one call in 16 000 would be.
const FURTHEST: f64 = 4.0;

/// The nature of an origin. Its latencies are log-normal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Law {
    /// The median, of calls that the origin has room for.
    pub(crate) latency: Duration,
    /// Two calls of three are within a factor of `1 + spread` of the median.
    pub(crate) spread: f64,
    /// Share of calls that fail.
    pub(crate) fail: f64,
    /// Calls in flight that the origin has room for; zero is no limit. Beyond it each call takes longer in proportion.
    pub(crate) limit: usize,
    /// What all chance comes from.
    pub(crate) seed: u64,
}

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fate {
    /// From its beginning to its end.
    pub(crate) latency: Duration,
    /// Whether it ends in a failure.
    pub(crate) fails: bool,
}

impl Law {
    /// The fate of the `nth` call for `key`, the same in every mode and however threads are scheduled, but for its
    /// being one of `in_flight` calls.
    pub(crate) fn fate(&self, key: u64, nth: u64, in_flight: usize) -> Fate {
        let mut rng = Rng::with_seed(mix(mix(self.seed ^ key) ^ nth));
        let (angle, distance, luck) = (rng.f64(), rng.f64(), rng.f64());
        Fate { latency: self.slowed(self.latency_at(angle, distance), in_flight), fails: luck < self.fail }
    }

    /// A latency, from two numbers evenly drawn from 0 (inclusive) to 1 (exclusive).
    fn latency_at(&self, angle: f64, distance: f64) -> Duration {
        // Box and Muller; 1 - distance is not zero.
        let deviation = (-2.0 * (1.0 - distance).ln()).sqrt() * (TAU * angle).cos();
        self.latency.mul_f64((1.0 + self.spread).powf(deviation.clamp(-FURTHEST, FURTHEST)))
    }

    /// What `latency` becomes for one of `in_flight` calls.
    fn slowed(&self, latency: Duration, in_flight: usize) -> Duration {
        if self.limit == 0 || in_flight <= self.limit {
            return latency;
        }
        latency.mul_f64(in_flight as f64 / self.limit as f64)
    }
}

/// Sends close numbers far apart (the finaliser of SplitMix64, Steele et al., OOPSLA 2014).
pub(crate) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAW: Law = Law { latency: Duration::from_millis(50), spread: 0.1, fail: 0.2, limit: 10, seed: 1 };

    #[test]
    fn the_median_is_in_the_middle_and_the_spread_around_it() {
        let mut latencies: Vec<Duration> = (0..10_000).map(|nth| LAW.fate(3, nth, 1).latency).collect();
        latencies.sort_unstable();
        let millis = |place: usize| latencies[place].as_secs_f64() * 1e3;
        assert!((millis(5000) - 50.0).abs() < 0.5, "{}", millis(5000));
        // A standard deviation to either side leaves out 15.87 %.
        assert!((millis(1587) - 50.0 / 1.1).abs() < 0.5, "{}", millis(1587));
        assert!((millis(8413) - 50.0 * 1.1).abs() < 0.5, "{}", millis(8413));
        assert!(millis(9999) < 50.0 * 1.1_f64.powi(4) + 0.001);
    }

    #[test]
    fn without_spread_all_calls_take_the_same() {
        let law = Law { spread: 0.0, ..LAW };
        assert!((0..100).all(|nth| law.fate(0, nth, 10).latency == law.latency));
    }

    #[test]
    fn places_at_the_edge_have_latencies() {
        for (angle, distance) in [(0.0, 0.0), (0.0, 1.0 - f64::EPSILON), (0.5, 1.0 - f64::EPSILON)] {
            let latency = LAW.latency_at(angle, distance);
            assert!(
                latency > Duration::from_millis(30) && latency < Duration::from_millis(80),
                "{latency:?}"
            );
        }
    }

    #[test]
    fn a_crowd_slows_everybody_down() {
        let latency = Duration::from_millis(40);
        assert_eq!(LAW.slowed(latency, 10), latency);
        assert_eq!(LAW.slowed(latency, 25), Duration::from_millis(100));
        assert_eq!(Law { limit: 0, ..LAW }.slowed(latency, 1_000_000), latency);
    }

    #[test]
    fn a_share_fails_and_a_seed_repeats() {
        let failures = |law: Law| (0..10_000).filter(|&nth| law.fate(nth % 7, nth, 1).fails).count();
        assert!((1900..2100).contains(&failures(LAW)));
        assert_eq!(failures(Law { fail: 0.0, ..LAW }), 0);
        assert_eq!(failures(Law { fail: 1.0, ..LAW }), 10_000);
        assert_eq!(LAW.fate(5, 6, 7), LAW.fate(5, 6, 7));
        assert_ne!(LAW.fate(5, 6, 7), Law { seed: 2, ..LAW }.fate(5, 6, 7));
        assert_ne!(LAW.fate(5, 6, 7), LAW.fate(6, 5, 7));
    }
}
