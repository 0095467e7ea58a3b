//! The statistics of the table: minima, medians of pair ratios, and a histogram for tails.

#![forbid(unsafe_code)]

/// Smallest of `samples`: what the operation costs when nobody disturbs it.
pub(crate) fn minimum(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::INFINITY, f64::min)
}

pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

/// Median over the rounds of `ours / theirs`. Both samples of a pair come from one round, so a slow second of the
/// machine cancels.
pub(crate) fn median_ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    median(&ratios)
}

/// How far two measurements of the same thing lie apart, as a share of the smaller.
pub(crate) fn difference(one: f64, other: f64) -> f64 {
    (one - other).abs() / one.min(other)
}

/// Counts of nanoseconds in buckets 1/32 apart (exact below 32).
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    maximum: u64,
}

const SUB_BITS: u32 = 5;
const SUB: u64 = 1 << SUB_BITS;

impl Histogram {
    pub(crate) fn new() -> Histogram {
        let buckets = Self::bucket(u64::MAX) + 1;
        Histogram { counts: vec![0; buckets], total: 0, maximum: 0 }
    }

    fn bucket(nanos: u64) -> usize {
        if nanos < SUB {
            return nanos as usize;
        }
        let exponent = nanos.ilog2() - SUB_BITS;
        (u64::from(exponent + 1) * SUB + ((nanos >> exponent) - SUB)) as usize
    }

    /// The largest number of the bucket.
    fn upper(bucket: usize) -> u64 {
        let (exponent, sub) = (bucket as u64 / SUB, bucket as u64 % SUB);
        match exponent {
            0 => sub,
            _ => ((u128::from(SUB + sub + 1) << (exponent - 1)) - 1).min(u128::from(u64::MAX)) as u64,
        }
    }

    #[inline]
    pub(crate) fn record(&mut self, nanos: u64) {
        self.counts[Self::bucket(nanos)] += 1;
        self.total += 1;
        self.maximum = self.maximum.max(nanos);
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn maximum(&self) -> u64 {
        self.maximum
    }

    /// Smallest number that at least `share` of all records do not exceed.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let wanted = (share * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Self::upper(bucket).min(self.maximum);
            }
        }
        self.maximum
    }

    /// Records above `nanos`, to the bucket.
    pub(crate) fn above(&self, nanos: u64) -> u64 {
        self.counts[Self::bucket(nanos) + 1..].iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median_ratio(&[2.0, 40.0, 6.0], &[1.0, 20.0, 2.0]), 2.0);
    }

    #[test]
    fn a_bucket_holds_its_upper_end() {
        for nanos in (0..200).chain([1_000, 4_095, 4_096, 1 << 40, u64::MAX]) {
            let bucket = Histogram::bucket(nanos);
            assert!(Histogram::upper(bucket) >= nanos);
            assert_eq!(Histogram::bucket(Histogram::upper(bucket)), bucket, "{nanos}");
        }
    }

    #[test]
    fn quantiles_and_tails() {
        let mut histogram = Histogram::new();
        (1..=1_000).for_each(|nanos| histogram.record(nanos));
        let p99 = histogram.quantile(0.99);
        assert!((990..=1_000).contains(&p99), "{p99}");
        assert_eq!(histogram.quantile(1.0), 1_000);
        assert_eq!(histogram.above(31), 1_000 - 31);
        assert_eq!(histogram.maximum(), 1_000);
    }
}
