//! Exact LRU, at every capacity in one pass.
//!
//! LRU of capacity c holds the c keys requested last, whatever c is. So a request hits if and only if fewer than c
//! other keys were requested since the one before it of the same key; that number is its stack distance.
//!
//! # Protocol
//! The pass goes backwards. At position i the set holds, for each key requested after i, the first such position.
//! Those below `next[i]` are then one for each key requested between i and `next[i]`: counting them is the distance.
//!
//! # Cost
//! O(n log n) time; n bits, and n/64 counters in a Fenwick tree over the words of 64 bits. 5 M requests: 0.1 s.
//! # Source
//! Mattson, Gecsei, Slutz and Traiger, *Evaluation techniques for storage hierarchies*, IBM Systems Journal 9(2),
//! 1970; the tree as in Bennett and Kruskal, *LRU stack processing*, IBM Journal of R&D 19(4), 1975, but its leaves
//! are words of bits here.

use crate::{
    progress::Progress,
    trace::{NEVER, Trace},
};

/// The hits of LRU at any capacity.
#[derive(Debug)]
pub(crate) struct Lru {
    /// At index c, the hits at capacity c; the last holds for all greater ones.
    hits: Vec<u64>,
}

impl Lru {
    /// Measures all stack distances of `trace`.
    pub(crate) fn of(trace: &Trace, progress: &Progress) -> Self {
        // At index c, the requests at distance c - 1: the ones that a capacity of c is the first to hit.
        let mut hits = vec![0_u64; trace.distinct() + 1];
        let mut positions = Positions::new(trace.len());
        progress.each(trace.next().iter().enumerate().rev(), |(now, &next)| {
            if next != NEVER {
                let next = next as usize;
                positions.remove(next);
                hits[positions.count_below(next) + 1] += 1;
            }
            positions.insert(now);
        });
        let mut sum = 0;
        for count in &mut hits {
            sum += *count;
            *count = sum;
        }
        Self { hits }
    }

    /// The hits of a cache of `capacity` entries.
    pub(crate) fn hits(&self, capacity: u64) -> u64 {
        let last = self.hits.len() - 1;
        self.hits[usize::try_from(capacity).map_or(last, |capacity| capacity.min(last))]
    }
}

/// A set of positions that can be counted below any bound.
#[derive(Debug)]
struct Positions {
    words: Vec<u64>,
    /// Fenwick tree: at index i, the members of the `i & -i` words before word i.
    sums: Vec<u32>,
}

impl Positions {
    fn new(length: usize) -> Self {
        let words = length.div_ceil(64);
        Self { words: vec![0; words], sums: vec![0; words + 1] }
    }

    fn insert(&mut self, position: usize) {
        self.words[position / 64] |= 1 << (position % 64);
        self.add(position / 64, 1);
    }

    fn remove(&mut self, position: usize) {
        self.words[position / 64] &= !(1 << (position % 64));
        self.add(position / 64, 1_u32.wrapping_neg());
    }

    fn add(&mut self, word: usize, amount: u32) {
        let mut index = word + 1;
        while let Some(sum) = self.sums.get_mut(index) {
            *sum = sum.wrapping_add(amount);
            index += index & index.wrapping_neg();
        }
    }

    fn count_below(&self, position: usize) -> usize {
        let below = self.words[position / 64] & ((1 << (position % 64)) - 1);
        let mut count = below.count_ones();
        let mut index = position / 64;
        while index > 0 {
            count += self.sums[index];
            index &= index - 1;
        }
        count as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    /// The textbook: a list in order of use.
    fn textbook(keys: &[u64], capacity: usize) -> u64 {
        let mut used = Vec::new();
        let mut hits = 0;
        for key in keys {
            if let Some(place) = used.iter().position(|held| held == key) {
                hits += 1;
                used.remove(place);
            }
            used.insert(0, *key);
            used.truncate(capacity);
        }
        hits
    }

    #[test]
    fn agrees_with_the_textbook_at_every_capacity() {
        for keys in samples::traces() {
            let lru = Lru::of(&Trace::from(keys.clone()), &Progress::hidden());
            for capacity in 0..70 {
                assert_eq!(lru.hits(capacity), textbook(&keys, capacity as usize), "capacity {capacity}");
            }
            assert_eq!(lru.hits(u64::MAX), textbook(&keys, keys.len()));
        }
    }
}
