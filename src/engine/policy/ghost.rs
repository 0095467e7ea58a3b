//! The ghost: which keys were evicted lately, when they were last used, and from which queue they went.
//!
//! A table of cells, sixteen to a line of the processor's cache. A key has one line; in it the cells stand in order of
//! eviction, the latest first, and the last falls out. What comes back leaves its place to an older one.
//!
//! # Layout
//! ```text
//! cell: | fingerprint 13 | queue 1 | evictions 8 | stamp 10 |     0: nothing
//! ```
//! `stamp`: the tick of the last use, in units of two. `evictions`: how many the queue had seen when the key left, in units
//! of a fiftieth of the room. Both wrap. Stamps that are about to are wiped when their line is added to, which each line is
//! six times for each turnover of the cache; an eviction count that has come round is told by the cells before it, which are
//! then many.
//!
//! # Invariants
//! - **G1, order.** What is left in a line is in order of eviction.
//! - **G2, bounded.** Its length is fixed; it is made at the first eviction, so of a cache that is not full there is none.
//!
//! # Cost
//! A look-up or an addition touches one line. 10 bytes for each entry of room: 2.5 cells of 4.
//!
//! # Source
//! None for the table; what it is asked comes from the policy (see `reuse_interval`). It is as good as an
//! exact queue of keys of the same length (mean closure 0.445), and one of 3 times the room gives 0.001 more (2026-11-21; the
//! other sizes are in `ARCHITECTURE.md`). A key that was never here is taken for one that was in 0.2 % of look-ups.
#![forbid(unsafe_code)]

const WAYS: usize = 16;

const FINGERPRINT_SHIFT: u32 = 19;
const WINDOW_BIT: u32 = 1 << 18;
const LEFT_SHIFT: u32 = 10;
const STAMP_MASK: u32 = (1 << LEFT_SHIFT) - 1;
/// Ticks in a unit of a cell's stamp, as a power of two.
const STAMP_UNIT: u32 = 1;
/// Older stamps, in their units, are wiped before they wrap.
const OLDEST: u32 = STAMP_MASK - STAMP_MASK / 8;
/// Evictions are counted in units of this part of the room.
const PARTS: usize = 50;
/// A key came back *soon* if its queue had seen fewer evictions since: a fifth of the room, in those units.
const SOON: u32 = PARTS as u32 / 5;
/// So many cells of the same queue before one say that its eviction count has come round.
const TOO_MANY_BEFORE: u32 = 8;

/// What the ghost knows of a key that comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Returned {
    /// Ticks since its last use.
    pub(super) interval: u32,
    pub(super) from_window: bool,
    /// Whether its queue had few evictions since it left.
    pub(super) soon: bool,
}

/// Counts events in units.
#[derive(Default)]
struct Meter {
    rest: usize,
    units: u32,
}

#[derive(Default)]
pub(super) struct Ghost {
    cells: Vec<u32>,
    /// The first cell that begins a line of the processor's.
    begin: usize,
    /// Lines.
    count: usize,
    /// Evictions in a unit.
    unit: usize,
    /// Units for which a return is soon.
    soon: u32,
    /// Of the main queue and of the window.
    left: [Meter; 2],
}

/// Where a ghost's lines are, for who wants to prefetch one without the policy's lock. What it says may be out of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lines {
    /// The address of the first; 0: there are none.
    pub(crate) begin: usize,
    pub(crate) count: usize,
}

impl Lines {
    /// The address of the line that a key has: to be prefetched, not to be read.
    #[inline]
    pub(crate) fn of(self, hash: u64) -> *const u32 {
        std::ptr::without_provenance(self.begin + line_number(hash, self.count) * size_of::<[u32; WAYS]>())
    }
}

/// The hash's bits, as far as a token has them, spread: some of the 48 chose the shard.
#[inline]
fn spread(hash: u64) -> u64 {
    (hash & ((1 << 48) - 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[inline]
fn line_number(hash: u64, count: usize) -> usize {
    (((spread(hash) >> 32) * count as u64) >> 32) as usize
}

impl Ghost {
    pub(super) fn with_room(room: usize) -> Self {
        let count = (room * 5 / 2).div_ceil(WAYS).max(1);
        // Zeroed pages come from the system untouched, but not at a multiple of 64.
        let cells = vec![0; (count + 1) * WAYS];
        let begin = cells.as_ptr().align_offset(64).min(WAYS);
        let unit = room.div_ceil(PARTS).max(1);
        let soon = SOON.min((room / 5 / unit) as u32).max(1);
        Self { cells, begin, count, unit, soon, left: Default::default() }
    }

    pub(super) fn is_made(&self) -> bool {
        self.count > 0
    }

    /// Where the key's line begins, and its fingerprint, in place.
    #[inline]
    fn place(&self, hash: u64) -> (usize, u32) {
        let fingerprint = (spread(hash) as u32 >> FINGERPRINT_SHIFT).max(1) << FINGERPRINT_SHIFT;
        (self.begin + line_number(hash, self.count) * WAYS, fingerprint)
    }

    #[inline]
    fn line(&mut self, begin: usize) -> &mut [u32; WAYS] {
        let line = &mut self.cells[begin..begin + WAYS];
        line.try_into().expect("a line has sixteen cells")
    }

    pub(super) fn lines(&self) -> Lines {
        let begin = self.cells.get(self.begin).map_or(0, |cell| std::ptr::from_ref(cell).addr());
        Lines { begin, count: self.count }
    }

    /// Notes that a key was evicted, which was last used `age` ticks ago.
    #[inline(always)]
    pub(super) fn add(&mut self, hash: u64, from_window: bool, age: u32, now: u32) {
        let unit = self.unit;
        let left = &mut self.left[usize::from(from_window)];
        left.rest += 1;
        if left.rest >= unit {
            left.rest = 0;
            left.units = left.units.wrapping_add(1);
        }
        let units = left.units;
        if age >> STAMP_UNIT >= OLDEST {
            return;
        }
        let (begin, fingerprint) = self.place(hash);
        let stamp = (now.wrapping_sub(age) >> STAMP_UNIT) & STAMP_MASK;
        let now = now >> STAMP_UNIT;
        let line = self.line(begin);
        let before = *line;
        for (cell, former) in line[1..].iter_mut().zip(before) {
            let is_young = now.wrapping_sub(former) & STAMP_MASK < OLDEST;
            *cell = if is_young { former } else { 0 };
        }
        let queue = if from_window { WINDOW_BIT } else { 0 };
        line[0] = fingerprint | queue | (units & 0xff) << LEFT_SHIFT | stamp;
    }

    /// Whether the key was evicted lately; forgets it, as it comes back now.
    #[inline(always)]
    pub(super) fn take(&mut self, hash: u64, now: u32) -> Option<Returned> {
        if !self.is_made() {
            return None;
        }
        let (begin, fingerprint) = self.place(hash);
        // All of them without a branch, which is a dozen vector instructions: the upper bit says that one of them is it.
        let below = |cell: &u32| ((cell ^ fingerprint) >> FINGERPRINT_SHIFT).wrapping_sub(1);
        let found = self.line(begin).iter().fold(0, |found, cell| found | below(cell));
        if found >> 31 == 0 { None } else { self.take_it(begin, fingerprint, now) }
    }

    #[inline(never)]
    fn take_it(&mut self, begin: usize, fingerprint: u32, now: u32) -> Option<Returned> {
        let line = self.line(begin);
        let way = line.iter().position(|cell| (cell ^ fingerprint) >> FINGERPRINT_SHIFT == 0)?;
        let cell = line[way];
        let before =
            line[..way].iter().filter(|other| **other != 0 && (**other ^ cell) & WINDOW_BIT == 0).count();
        line.copy_within(way + 1.., way);
        line[WAYS - 1] = 0;
        let from_window = cell & WINDOW_BIT != 0;
        let since = self.left[usize::from(from_window)].units.wrapping_sub(cell >> LEFT_SHIFT) & 0xff;
        Some(Returned {
            interval: ((now >> STAMP_UNIT).wrapping_sub(cell) & STAMP_MASK) << STAMP_UNIT,
            from_window,
            soon: since < self.soon && (before as u32) < TOO_MANY_BEFORE,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Well spread 48-bit hashes, different for different `i`.
    fn hash(i: u64) -> u64 {
        i.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
    }

    #[test]
    fn remembers_the_latest_about_two_and_a_half_times_the_room() {
        for room in [8, 64, 1000, 20_000] {
            let mut ghost = Ghost::with_room(room);
            let total = 10 * room as u64;
            (0..total).for_each(|i| ghost.add(hash(i), true, 0, 0));
            let count = |from: u64, to: u64, ghost: &mut Ghost| {
                (from..to).filter(|i| ghost.take(hash(*i), 0).is_some()).count()
            };
            let latest = count(total - room as u64, total, &mut ghost);
            assert!(latest * 100 >= room * 98, "{latest} of the latest {room}");
            let old = count(0, total - 5 * room as u64, &mut ghost);
            assert!(old * 100 <= room * 10, "{old} that left more than 5 rooms ago, at room {room}");
            assert_eq!(ghost.cells.len(), (ghost.count + 1) * WAYS, "G2");
        }
    }

    #[test]
    fn tells_when_a_key_was_used_and_where_it_was() {
        let mut ghost = Ghost::with_room(100);
        ghost.add(hash(1), true, 10, 1010);
        ghost.add(hash(2), false, 110, 1010);
        let first = ghost.take(hash(1), 1020);
        assert_eq!(first, Some(Returned { interval: 20, from_window: true, soon: true }));
        let second = ghost.take(hash(2), 1020);
        assert_eq!(second, Some(Returned { interval: 120, from_window: false, soon: true }));
        assert_eq!(ghost.take(hash(1), 1020), None, "it is in the cache now");
    }

    #[test]
    fn what_comes_back_leaves_its_place_to_an_older_one() {
        let mut ghost = Ghost::with_room(6);
        assert_eq!(ghost.count, 1);
        (0..16).for_each(|i| ghost.add(hash(i), true, 0, 0));
        assert!(ghost.take(hash(9), 0).is_some() && ghost.take(hash(15), 0).is_some());
        (16..18).for_each(|i| ghost.add(hash(i), true, 0, 0));
        assert!(ghost.take(hash(0), 0).is_some(), "G1: only two came, and two had gone");
        ghost.add(hash(18), true, 0, 0);
        ghost.add(hash(19), true, 0, 0);
        assert!(ghost.take(hash(1), 0).is_none() && ghost.take(hash(2), 0).is_some(), "G1");
    }

    #[test]
    fn soon_is_a_fifth_of_the_room_in_evictions_of_the_same_queue() {
        for room in [10_u64, 50, 99, 1000, 5000] {
            let soon_after = |others: u64, from_window: bool| {
                let mut ghost = Ghost::with_room(room as usize);
                ghost.add(hash(0), true, 0, 0);
                (1..=others).for_each(|i| ghost.add(hash(i), from_window, 0, 0));
                ghost.take(hash(0), 0).map(|returned| returned.soon)
            };
            assert_eq!(soon_after(room / 10, true), Some(true), "room {room}");
            assert_ne!(soon_after(room / 4 + room.div_ceil(50) + 1, true), Some(true), "room {room}");
            assert_eq!(soon_after(room, false), Some(true), "room {room}: the other queue doesn't count");
        }
    }

    /// Both clocks of a cell come round; what is old must not look new.
    #[test]
    fn old_cells_do_not_look_new() {
        let room = 640;
        let mut ghost = Ghost::with_room(room);
        let mut now = 0;
        for i in 0..400 * room as u64 {
            now = (i / 10) as u32;
            ghost.add(hash(i), i % 8 != 0, 0, now);
        }
        for i in 0..400 * room as u64 {
            if let Some(returned) = ghost.take(hash(i), now) {
                let age = now - (i / 10) as u32;
                // Some look like another key's, which is younger.
                let is_another = age > 64 * 8;
                assert!(is_another || returned.interval.abs_diff(age) <= 2, "{age} taken for {returned:?}");
                assert!(!returned.soon || is_another || age <= 64 * 3, "{age} ticks are not soon");
            }
        }
        // Used long before it was evicted: it would look young.
        ghost.add(hash(u64::MAX), false, 2 * 950, now);
        assert_eq!(ghost.take(hash(u64::MAX), now), None);
    }

    #[test]
    fn lines_are_lines_of_the_processor() {
        for room in [8, 100, 10_000, 1_000_000] {
            let mut ghost = Ghost::with_room(room);
            for i in 0..1000 {
                let at = ghost.lines().of(hash(i));
                assert!(at.addr().is_multiple_of(64) || cfg!(miri), "a look-up touches one line");
                let begin = ghost.place(hash(i)).0;
                assert_eq!(
                    ghost.line(begin).as_ptr().addr(),
                    at.addr(),
                    "and that is the one that is prefetched"
                );
            }
        }
        assert_eq!(Ghost::default().lines().of(7).addr(), 0);
    }
}
