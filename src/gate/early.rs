//! Making values anew ahead of their time.
//!
//! XFetch: A. Vattani, F. Chierichetti, K. Lowenstein, *Optimal Probabilistic Cache Stampede Prevention*, VLDB 2015,
//! algorithm 3: recompute if `now - cost · beta · ln(random) >= expiry`, with the cost of the last computation. Our
//! departures: the cost is kept in 14 bits, to a part in 256; and whoever is chosen still has to win the version's
//! flag, so that of two callers that are chosen at once one computes.
#![forbid(unsafe_code)]

use crate::time::Instant;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// When to make a value anew ahead of its time.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Early {
    /// When this part of the value's life has gone by, or up to a thousandth of that life later. Between 0 and 1.
    Fraction(f64),
    /// At random, the likelier the nearer the deadline, and the earlier the longer the value took to make (XFetch). 1 is
    /// the usual `beta`; more is earlier.
    XFetch {
        /// How early.
        beta: f64,
    },
}

/// Whether a fresh value that ends at `expiry` is to be made anew now. `life`: how long it was to live from the beginning,
/// `cost`: how long it took to make, if that is known.
pub(crate) fn is_due(
    early: Early,
    now: Instant,
    expiry: Instant,
    life: Option<Duration>,
    cost: Option<Duration>,
) -> bool {
    if expiry == Instant::FAR_FUTURE {
        return false;
    }
    let left = expiry.saturating_duration_since(now);
    match early {
        Early::Fraction(part) => life.is_some_and(|life| life.saturating_sub(left) >= life.mul_f64(part)),
        Early::XFetch { beta } => cost.is_some_and(|cost| {
            // In (0, 1], so that the logarithm is finite.
            let ahead = -(1.0 - random()).ln() * beta * cost.as_secs_f64();
            left.as_secs_f64() <= ahead
        }),
    }
}

/// A number in [0, 1), good enough to scatter deadlines. About 20 ns.
pub(crate) fn random() -> f64 {
    // Each `RandomState` has keys of its own.
    (RandomState::new().hash_one(0_u8) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_fill_their_range() {
        let drawn: Vec<f64> = (0..10_000).map(|_| random()).collect();
        assert!(drawn.iter().all(|x| (0.0..1.0).contains(x)));
        let mean = drawn.iter().sum::<f64>() / 1e4;
        // Five standard deviations of the mean of so many.
        assert!((mean - 0.5).abs() < 5.0 * 0.289 / 100.0, "mean {mean}");
    }

    /// The paper's distribution: the distance before the deadline is exponential with mean `cost * beta`.
    #[test]
    fn xfetch_draws_the_papers_distances() {
        let (cost, beta) = (Duration::from_millis(10), 2.0);
        let expiry = Instant::from_nanos(1_000_000_000);
        let share = |before: Duration| {
            let due = |_: &u32| {
                is_due(Early::XFetch { beta }, expiry.saturating_sub(before), expiry, None, Some(cost))
            };
            (0..20_000).filter(due).count() as f64 / 2e4
        };
        for before in [5, 20, 60] {
            let expected = (-(before as f64) / 20.0).exp();
            let seen = share(Duration::from_millis(before));
            assert!((seen - expected).abs() < 0.02, "{before} ms: {seen}, not {expected}");
        }
        assert!(!is_due(Early::XFetch { beta }, expiry, expiry, None, None), "of unknown cost");
        assert!(!is_due(Early::XFetch { beta }, expiry, Instant::FAR_FUTURE, None, Some(cost)));
    }

    #[test]
    fn a_fraction_counts_from_the_end() {
        let fresh = Duration::from_secs(10);
        let at = |secs: u64| Instant::from_nanos(secs * 1_000_000_000);
        let due = |now| is_due(Early::Fraction(0.8), at(now), at(10), Some(fresh), None);
        assert!(!due(7));
        assert!(due(8) && due(10));
    }
}
