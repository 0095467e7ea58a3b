//! Hashers that are bad on purpose, and dice that fall the same way in every run.

use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

/// How keys are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hashing {
    /// By the crate's own hasher.
    Seeded,
    /// By hardly anything.
    Weak,
    /// All alike: one bucket, one tag, one hash.
    Constant,
    /// Different hashes with the same tag and bucket.
    Colliding,
}

/// A hasher that is bad on purpose.
#[derive(Clone, Copy)]
pub(crate) struct BadHash(pub(crate) Hashing);

pub(crate) struct BadHasher {
    hashing: Hashing,
    state: u64,
}

impl BuildHasher for BadHash {
    type Hasher = BadHasher;
    fn build_hasher(&self) -> BadHasher {
        BadHasher { hashing: self.0, state: 0 }
    }
}

impl Hasher for BadHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.state = self.state.wrapping_mul(31).wrapping_add(u64::from(*byte));
        }
    }
    fn write_u16(&mut self, number: u16) {
        self.state = u64::from(number);
    }
    fn finish(&self) -> u64 {
        match self.hashing {
            Hashing::Constant => 7,
            Hashing::Colliding => COLLIDING[self.state as usize % COLLIDING.len()],
            Hashing::Weak | Hashing::Seeded => self.state,
        }
    }
}

/// What the crate does to a foreign hash. A copy, because tests can't reach it; a unit test compares the two.
pub(crate) fn mix(hash: u64) -> u64 {
    let product = u128::from(hash ^ 0x2d35_8dcc_aa6c_78a5) * 0x9e37_79b9_7f4a_7c15_u128;
    (product as u64) ^ (product >> 64) as u64
}

/// Hashes that differ, and are mixed to hashes with the same tag (bits 33..40) and the same low bits.
static COLLIDING: LazyLock<Vec<u64>> = LazyLock::new(|| {
    const SAME: u64 = 0x7f << 33 | 0x1f;
    (0..u64::MAX).filter(|hash| mix(*hash) & SAME == SAME & 0x0123_4567_89ab_cdef).take(256).collect()
});

/// Pseudo-random numbers that are the same in every run (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}
