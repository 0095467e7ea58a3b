//! The ghost: which keys were evicted lately, without the keys.
//!
//! A first-in-first-out set of 32-bit fingerprints, each with the number of its eviction, in buckets of eight (one cache
//! line). A fingerprint goes into the emptier of two buckets. No queue says which is the oldest: evictions are counted in *blocks* of consecutive numbers, each with how many
//! of its fingerprints are still present. When more are present than the ghost is long, the oldest block is forgotten
//! whole, by moving the horizon; its cells are overwritten as room is needed.
//!
//! # Invariants
//! - **G1, present.** A cell counts if its number is not older than the horizon. `present` is how many there are, and the
//!   sum of `blocks`.
//! - **G2, bounded.** `present` is at most the length, after each addition.
//!
//! # Cost
//! A look-up or an addition: two cache lines. 10.7 bytes for each entry that the ghost is long; it grows with use. A change
//! of length by a factor rebuilds it.
//!
//! # Source
//! S3-FIFO's ghost queue (see `s3_fifo`); our departures: fingerprints for keys (a false hit for about one look-up in 300
//! million), and a block at a time is forgotten, at most 1/256 of the length. Two choices: Y. Azar, A. Broder, A. Karlin,
//! E. Upfal, *Balanced allocations*, STOC 1994. With one choice and 8/5 of the cells four fingerprints in a hundred were
//! lost to full buckets, and one trace (a loop with bursts) was 0.7 points off (2026-11-20).
#![forbid(unsafe_code)]

use std::collections::VecDeque;

const WAYS: usize = 8;
/// Cells for each fingerprint, so that hardly a bucket is full.
const SPARE_NUMERATOR: usize = 4;
const SPARE_DENOMINATOR: usize = 3;
/// And these, since few buckets balance badly.
const SPARE_BUCKETS: usize = 4;
/// Blocks that a full ghost has at least, if it is so long.
const BLOCKS: usize = 256;
/// A ghost that is this many times too large for its length is rebuilt.
const TOO_LARGE: usize = 4;

#[derive(Clone, Copy, Default)]
struct Cell {
    fingerprint: u32,
    /// The number of the eviction, modulo 2^32; 0 = empty.
    number: u32,
}

#[derive(Clone, Default)]
#[repr(align(64))]
struct Bucket([Cell; WAYS]);

#[derive(Default)]
pub(super) struct Ghost {
    buckets: Box<[Bucket]>,
    /// The number of the last eviction.
    last: u32,
    /// The first number that counts: the start of `blocks[0]`.
    horizon: u32,
    /// Numbers in a block.
    block: u32,
    blocks: VecDeque<u32>,
    present: usize,
}

fn fingerprint(hash: u64) -> u32 {
    // Folded from all 48 bits that a token has.
    (hash ^ (hash >> 24)) as u32 ^ (hash >> 16) as u32
}

impl Ghost {
    /// Notes an eviction. `length` is how many a ghost of now shall remember.
    pub(super) fn add(&mut self, hash: u64, length: usize) {
        let wanted =
            (length.saturating_mul(SPARE_NUMERATOR) / SPARE_DENOMINATOR).div_ceil(WAYS) + SPARE_BUCKETS;
        // Numbers start anew long before they could come round to a cell that was never overwritten.
        let is_late = self.last > u32::MAX / 2;
        if wanted > self.buckets.len() || wanted < self.buckets.len() / TOO_LARGE || is_late {
            self.rebuild(wanted, length);
        }
        self.put(fingerprint(hash));
        while self.present > length {
            let Some(forgotten) = self.blocks.pop_front() else { break };
            self.present -= forgotten as usize;
            self.horizon += self.block;
        }
    }

    /// Whether the key was evicted lately; forgets it, as it comes back now.
    pub(super) fn take(&mut self, hash: u64) -> bool {
        if self.present == 0 {
            return false;
        }
        let sought = fingerprint(hash);
        for bucket in self.buckets_of(sought) {
            for way in 0..WAYS {
                let cell = self.buckets[bucket].0[way];
                if cell.fingerprint == sought && self.counts(cell) {
                    self.forget(bucket, way);
                    return true;
                }
            }
        }
        false
    }

    fn buckets_of(&self, fingerprint: u32) -> [usize; 2] {
        // The upper bits of a product choose evenly among any number of buckets.
        [0x9e37_79b9_u32, 0x85eb_ca6b].map(|factor| {
            let spread = fingerprint.wrapping_mul(factor);
            let spread = u64::from(spread ^ (spread >> 15));
            ((spread * self.buckets.len() as u64) >> 32) as usize
        })
    }

    /// G1.
    fn counts(&self, cell: Cell) -> bool {
        cell.number != 0 && cell.number >= self.horizon
    }

    fn forget(&mut self, bucket: usize, way: usize) {
        let cell = std::mem::take(&mut self.buckets[bucket].0[way]);
        self.blocks[((cell.number - self.horizon) / self.block) as usize] -= 1;
        self.present -= 1;
    }

    fn put(&mut self, fingerprint: u32) {
        let [one, other] = self.buckets_of(fingerprint).map(|bucket| {
            let used = self.buckets[bucket].0.iter().filter(|cell| self.counts(**cell)).count();
            (used, bucket)
        });
        let (_, bucket) = one.min(other);
        // Empty ones have number 0: they are the oldest of all.
        let cells = self.buckets[bucket].0.iter().enumerate();
        let (way, oldest) = cells.min_by_key(|(_, cell)| cell.number).expect("a bucket has eight cells");
        if self.counts(*oldest) {
            self.forget(bucket, way);
        }
        self.last += 1;
        let block = ((self.last - self.horizon) / self.block) as usize;
        if block == self.blocks.len() {
            self.blocks.push_back(0);
        }
        self.blocks[block] += 1;
        self.present += 1;
        self.buckets[bucket].0[way] = Cell { fingerprint, number: self.last };
    }

    /// Makes `buckets` buckets, and puts what counts into them, the oldest first.
    fn rebuild(&mut self, buckets: usize, length: usize) {
        let mut cells: Vec<Cell> =
            self.buckets.iter().flat_map(|bucket| bucket.0).filter(|cell| self.counts(*cell)).collect();
        cells.sort_unstable_by_key(|cell| cell.number);
        *self = Self {
            buckets: vec![Bucket::default(); buckets].into(),
            last: 0,
            horizon: 1,
            block: (length / BLOCKS).clamp(1, u32::MAX as usize / 4) as u32,
            blocks: VecDeque::new(),
            present: 0,
        };
        for cell in cells {
            self.put(cell.fingerprint);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Well spread 48-bit hashes, different for different `i`.
    fn hash(i: u64) -> u64 {
        i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
    }

    fn check(ghost: &Ghost) {
        let present =
            ghost.buckets.iter().flat_map(|bucket| bucket.0).filter(|cell| ghost.counts(*cell)).count();
        assert_eq!(present, ghost.present, "G1");
        assert_eq!(present, ghost.blocks.iter().map(|block| *block as usize).sum::<usize>(), "G1");
    }

    #[test]
    fn remembers_its_length_and_no_more() {
        for length in [1, 2, 7, 64, 1000, 20_000] {
            let mut ghost = Ghost::default();
            let total = 5 * length as u64;
            for i in 0..total {
                ghost.add(hash(i), length);
                assert!(ghost.present <= length, "G2");
            }
            check(&ghost);
            let remembered = (total - length as u64..total).filter(|i| ghost.take(hash(*i))).count();
            assert!(remembered * 1000 >= length * 995, "{remembered} of the last {length}");
            // A block that is forgotten whole takes up to 1/256 with it, a full bucket one now and then.
            let older = (0..total - length as u64).filter(|i| ghost.take(hash(*i))).count();
            assert!(remembered + older <= length, "G2: {older} older ones at length {length}");
            assert_eq!(ghost.present, 0);
            check(&ghost);
        }
    }

    #[test]
    fn a_key_that_came_back_leaves_its_place_to_older_ones() {
        let mut ghost = Ghost::default();
        (0..10).for_each(|i| ghost.add(hash(i), 10));
        assert!(ghost.take(hash(9)) && ghost.take(hash(8)));
        assert!(!ghost.take(hash(9)), "it is in the cache now");
        (10..12).for_each(|i| ghost.add(hash(i), 10));
        assert!(ghost.take(hash(0)), "only ten were evicted and did not come back");
    }

    #[test]
    fn lengths_may_change() {
        let mut ghost = Ghost::default();
        for (round, length) in [0, 5, 5000, 3, 700, 0, 1].into_iter().enumerate() {
            for i in 0..2000 {
                ghost.add(hash(round as u64 * 10_000 + i), length);
                assert!(ghost.present <= length, "G2");
            }
            check(&ghost);
        }
        assert!(ghost.take(hash(6 * 10_000 + 1999)));
    }

    #[test]
    fn numbers_start_anew_before_they_come_round() {
        let mut ghost = Ghost::default();
        (0..10).for_each(|i| ghost.add(hash(i), 10));
        (ghost.last, ghost.horizon) = (u32::MAX / 2 + 10, u32::MAX / 2 + 1);
        ghost.buckets.iter_mut().flat_map(|bucket| &mut bucket.0).filter(|cell| cell.number != 0).for_each(
            |cell| {
                cell.number += u32::MAX / 2;
            },
        );
        ghost.add(hash(10), 10);
        assert!(ghost.last < 20);
        check(&ghost);
        assert!(ghost.take(hash(9)) && ghost.take(hash(10)) && !ghost.take(hash(0)));
    }
}
