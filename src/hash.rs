//! The default hasher, and what makes any hasher fit for the table.
#![forbid(unsafe_code)]

use std::fmt;
use std::hash::BuildHasher;

/// The default hasher of a cache: ahash, seeded at random, so that no two caches (or processes) order keys alike and
/// nobody outside can aim keys at one bucket.
///
/// ```
/// use dogpile::{Cache, RandomState};
///
/// // A seed of one's own makes runs repeatable. Not for keys that come from strangers.
/// let cache = Cache::builder().hasher(RandomState::with_seed(7)).max_entries(10).build()?;
/// cache.insert("key", 1);
/// assert_eq!(cache.get_cloned("key"), Some(1));
/// # Ok::<(), dogpile::BuildError>(())
/// ```
#[derive(Clone)]
pub struct RandomState(ahash::RandomState);

impl RandomState {
    /// A hasher with keys of its own, from the system's source of randomness.
    #[must_use]
    pub fn new() -> Self {
        Self(ahash::RandomState::new())
    }

    /// A hasher whose keys follow from `seed`: the same order in every run on machines of one kind.
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        // Four words that differ from each other and from those of neighbouring seeds.
        let word = |i: u64| mix(seed ^ i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self(ahash::RandomState::with_seeds(word(1), word(2), word(3), word(4)))
    }
}

impl Default for RandomState {
    fn default() -> Self {
        Self::new()
    }
}

impl BuildHasher for RandomState {
    type Hasher = ahash::AHasher;

    #[inline]
    fn build_hasher(&self) -> ahash::AHasher {
        self.0.build_hasher()
    }

    #[inline]
    fn hash_one<T: std::hash::Hash>(&self, x: T) -> u64 {
        self.0.hash_one(x)
    }
}

impl fmt::Debug for RandomState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No seeds: whoever knows them can aim keys.
        f.write_str("RandomState")
    }
}

/// Spreads a hash over all 64 bits: the table takes bucket, tag and shard from different ones, and a foreign hasher
/// may leave most of them alike (an identity hash of small integers would use one shard, H10).
///
/// A folded multiply: the halves of the 128-bit product, added up. Source: T. Wang's and F. Vigna's mixers; ahash's
/// own last step is one, so its hashes come here ready.
#[inline]
pub(crate) fn mix(hash: u64) -> u64 {
    let product = u128::from(hash ^ 0x2d35_8dcc_aa6c_78a5) * 0x9e37_79b9_7f4a_7c15_u128;
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// H10: neither an identity hash nor one with all its entropy on top may crowd shards or buckets.
    #[test]
    fn h10_weak_hashes_spread_over_shards_tags_and_buckets() {
        let kinds: [fn(u64) -> u64; 4] =
            [|i| i, |i| i << 20, |i| i << 40, |i| i.wrapping_mul(0x517c_c1b7_2722_0a95) << 20];
        for kind in kinds {
            let hashes: Vec<u64> = (0..100_000).map(|i| mix(kind(i))).collect();
            let distinct = |shift: u32, bits: u32| -> HashSet<u64> {
                hashes.iter().map(|hash| hash >> shift & ((1 << bits) - 1)).collect()
            };
            assert_eq!(distinct(40, 6).len(), 64, "all shards are used");
            assert_eq!(distinct(0, 7).len(), 128, "all tags are used");
            assert!(distinct(20, 12).len() > 4000, "nearly all of 4096 buckets are used");
        }
    }

    #[test]
    fn seeds_decide() {
        let of = |seed: u64| RandomState::with_seed(seed).hash_one("key");
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert_ne!(RandomState::new().hash_one("key"), RandomState::new().hash_one("key"));
    }
}
