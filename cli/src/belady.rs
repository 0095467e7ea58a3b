//! The optimal bound: Belady's algorithm with bypass, the most hits that any cache of unit entries can have.
//!
//! When room is needed, the key whose next request is furthest away goes; a newcomer that is itself the furthest is
//! not stored.
//!
//! # Protocol
//! Each stored key is represented by the position of its next request, which no other key shares. At position i the
//! request hits if and only if i is in the set. A key that is never requested again is not stored.
//!
//! # Invariants
//! - **B1, no past.** The set holds positions after the current one only: i is taken out at i.
//! - **B2, room.** The set holds at most `capacity` positions.
//!
//! # Cost
//! Four bit operations at most a request and level; the set is a tree of bit maps, four levels for 5 M requests,
//! which take 0.03 s a capacity. There is no map of keys and no heap.
//! # Source
//! Belady, *A study of replacement algorithms for a virtual-storage computer*, IBM Systems Journal 5(2), 1966, MIN.

use crate::{
    progress::Progress,
    trace::{NEVER, Trace},
};

/// The most hits that a cache of `capacity` entries can have on `trace`.
pub(crate) fn hits(trace: &Trace, capacity: u64, progress: &Progress) -> u64 {
    let mut stored = Positions::new(trace.len());
    let mut room = capacity;
    let mut hits = 0;
    progress.each(trace.next().iter().enumerate(), |(now, &next)| {
        if stored.remove(now) {
            hits += 1;
            room += 1;
        }
        if next == NEVER {
            return;
        }
        let next = next as usize;
        if room > 0 {
            room -= 1;
            stored.insert(next);
        } else if let Some(furthest) = stored.max()
            && next < furthest
        {
            stored.remove(furthest);
            stored.insert(next);
        }
    });
    hits
}

/// A set of positions with a fast maximum.
///
/// Level 0 has a bit for each position; a bit of each higher level says whether a word of the level below has any.
#[derive(Debug)]
struct Positions {
    levels: Vec<Vec<u64>>,
}

impl Positions {
    fn new(length: usize) -> Self {
        let mut levels = Vec::new();
        let mut words = length;
        loop {
            words = words.div_ceil(64).max(1);
            levels.push(vec![0; words]);
            if words == 1 {
                return Self { levels };
            }
        }
    }

    fn insert(&mut self, mut position: usize) {
        for level in &mut self.levels {
            let word = &mut level[position / 64];
            let was_empty = *word == 0;
            *word |= 1 << (position % 64);
            if !was_empty {
                return;
            }
            position /= 64;
        }
    }

    /// Says whether the position was there.
    fn remove(&mut self, mut position: usize) -> bool {
        if self.levels[0][position / 64] & (1 << (position % 64)) == 0 {
            return false;
        }
        for level in &mut self.levels {
            let word = &mut level[position / 64];
            *word &= !(1 << (position % 64));
            if *word != 0 {
                break;
            }
            position /= 64;
        }
        true
    }

    fn max(&self) -> Option<usize> {
        self.levels.iter().rev().try_fold(0, |index, level| {
            let highest = level[index].checked_ilog2()?;
            Some(index * 64 + highest as usize)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    /// Tries every choice: at each miss, bypass or replace any stored key.
    fn exhaustive(keys: &[u64], stored: &mut Vec<u64>, capacity: usize) -> u64 {
        let Some((key, rest)) = keys.split_first() else { return 0 };
        if stored.contains(key) {
            return 1 + exhaustive(rest, stored, capacity);
        }
        let mut best = exhaustive(rest, stored, capacity);
        if stored.len() < capacity {
            stored.push(*key);
            best = best.max(exhaustive(rest, stored, capacity));
            stored.pop();
        } else {
            for place in 0..stored.len() {
                let victim = std::mem::replace(&mut stored[place], *key);
                best = best.max(exhaustive(rest, stored, capacity));
                stored[place] = victim;
            }
        }
        best
    }

    #[test]
    fn no_choice_of_victims_hits_more() {
        for keys in samples::traces() {
            let keys = &keys[..keys.len().min(13)];
            for capacity in 0..4 {
                let found = hits(&Trace::from(keys.to_vec()), capacity, &Progress::hidden());
                assert_eq!(
                    found,
                    exhaustive(keys, &mut Vec::new(), capacity as usize),
                    "{keys:?} at {capacity}"
                );
            }
        }
    }

    #[test]
    fn is_bounded_by_the_repeated_requests() {
        for keys in samples::traces() {
            let trace = Trace::from(keys);
            let repeated = (trace.len() - trace.distinct()) as u64;
            assert_eq!(hits(&trace, trace.distinct() as u64, &Progress::hidden()), repeated);
        }
    }

    #[test]
    fn the_set_finds_its_maximum_on_every_level() {
        let mut set = Positions::new(64 * 64 * 64 + 1);
        assert_eq!(set.max(), None);
        for position in [0, 63, 64, 4095, 4096, 262_143, 262_144] {
            set.insert(position);
            assert_eq!(set.max(), Some(position));
        }
        for left in [262_143, 4096, 4095, 64, 63, 0] {
            let max = set.max().expect("one more than `left` is there");
            assert!(set.remove(max) && !set.remove(max));
            assert_eq!(set.max(), Some(left));
        }
    }
}
