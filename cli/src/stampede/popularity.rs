//! Which keys callers ask for.

/// Keys from 0 on, each asked for as often as Zipf's law says: the share of key `k` falls with `(k + 1)^exponent`.
/// With exponent 0 all are equal.
#[derive(Debug)]
pub(crate) struct Popularity {
    /// For each key, the share of it and of all before it. The last is 1.
    up_to: Vec<f64>,
}

impl Popularity {
    /// The law over `keys` keys, at least one.
    pub(crate) fn zipf(keys: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut up_to: Vec<f64> = (1..=keys.max(1))
            .map(|rank| {
                sum += f64::from(rank).powf(-exponent);
                sum
            })
            .collect();
        for share in &mut up_to {
            *share /= sum;
        }
        Self { up_to }
    }

    /// The number of keys.
    pub(crate) fn keys(&self) -> u64 {
        self.up_to.len() as u64
    }

    /// The key at `place`, evenly drawn from 0 (inclusive) to 1 (exclusive).
    pub(crate) fn key_at(&self, place: f64) -> u64 {
        let key = self.up_to.partition_point(|&up_to| up_to <= place);
        (key as u64).min(self.keys() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of 1000 even places fall to each key.
    fn counts(law: &Popularity) -> Vec<usize> {
        let mut counts = vec![0; law.keys() as usize];
        for place in 0..1000 {
            counts[law.key_at((f64::from(place) + 0.5) / 1000.0) as usize] += 1;
        }
        counts
    }

    #[test]
    fn without_an_exponent_all_keys_are_equal() {
        assert_eq!(counts(&Popularity::zipf(4, 0.0)), [250; 4]);
    }

    #[test]
    fn by_zipfs_law_the_second_key_has_half_of_the_first() {
        // The shares are 12, 6, 4 and 3 of 25.
        assert_eq!(counts(&Popularity::zipf(4, 1.0)), [480, 240, 160, 120]);
    }

    #[test]
    fn every_place_has_a_key() {
        let law = Popularity::zipf(100_000, 0.7);
        assert_eq!(law.key_at(0.0), 0);
        assert!(law.key_at(1.0 - f64::EPSILON) < 100_000);
        assert_eq!(law.key_at(1.0), 99_999);
        assert_eq!(Popularity::zipf(1, 10.0).key_at(0.999), 0);
    }
}
