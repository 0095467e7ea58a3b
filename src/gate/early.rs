//! Making values anew ahead of their time.
//!
//! XFetch: A. Vattani, F. Chierichetti, K. Lowenstein, *Optimal Probabilistic Cache Stampede Prevention*, VLDB 2015,
//! algorithm 3: recompute if `now - cost · beta · ln(random) >= expiry`, with the cost of the last computation. Our
//! departures: the cost is kept in 16 bits, to a part in a thousand; and whoever is chosen still has to win the version's
//! flag, so that of two callers that are chosen at once one computes.
#![forbid(unsafe_code)]

use crate::time::Instant;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// When to make a value anew ahead of its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Early {
    /// When this part of the policy's `fresh` has gone by. Between 0 and 1.
    Fraction(f64),
    /// At random, the likelier the nearer the deadline, and the earlier the longer the value took to make (XFetch). 1 is
    /// the usual `beta`; more is earlier.
    XFetch {
        /// How early.
        beta: f64,
    },
}

/// Whether a fresh value that ends at `expiry` is to be made anew now. `cost`: how long it took, if known.
pub(crate) fn is_due(
    early: Early,
    now: Instant,
    expiry: Instant,
    fresh: Option<Duration>,
    cost: Option<Duration>,
) -> bool {
    if expiry == Instant::FAR_FUTURE {
        return false;
    }
    let left = expiry.saturating_duration_since(now);
    match early {
        Early::Fraction(part) => fresh.is_some_and(|fresh| fresh.saturating_sub(left) >= fresh.mul_f64(part)),
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

/// A span in 16 bits: 11 significant ones, rounded down. 0 only for less than a nanosecond.
pub(crate) fn encode(span: Duration) -> u16 {
    let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    let shift = (64 - nanos.leading_zeros()).saturating_sub(11);
    // Below 2048 the number itself; above, its leading bit goes without saying.
    if shift == 0 { nanos as u16 } else { ((shift + 1) << 10) as u16 | (nanos >> shift) as u16 & 0x3ff }
}

pub(crate) fn decode(code: u16) -> Duration {
    let (exponent, fraction) = (u32::from(code >> 10), u64::from(code & 0x3ff));
    if exponent < 2 {
        return Duration::from_nanos(u64::from(code));
    }
    Duration::from_nanos((fraction | 0x400) << (exponent - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_survives_its_code_to_a_part_in_a_thousand() {
        for nanos in (0..64).map(|i| 1_u64 << i).chain([0, 3, 2047, 2048, 2049, 123_456_789, u64::MAX]) {
            let decoded = decode(encode(Duration::from_nanos(nanos))).as_nanos() as u64;
            assert!(decoded <= nanos && nanos - decoded <= nanos / 1024, "{nanos} became {decoded}");
        }
        assert!(decode(encode(Duration::MAX)) > Duration::from_secs(500 * 365 * 86400));
    }

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
