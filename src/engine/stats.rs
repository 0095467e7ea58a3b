//! Statistics that cost a read no shared write.
//!
//! Each thread counts in a row of its own for each cache, by a plain load and store; `read` sums the rows up. Which row
//! a thread has for a cache is found in a small table of the thread's, direct-mapped by the cache's number.
//!
//! # Invariants
//! - **T1, one writer.** A row is written by the thread that has claimed it, and claimed by one thread at a time.
//! - **T2, nothing is lost.** A row outlives its thread: it stays with its cache, and a later thread counts on in it.
//! - **T3, numbers are not used twice.** So a thread that still knows a row of a cache that is gone never looks for it,
//!   and the row can serve another cache.
//!
//! # Orderings
//! Rows change hands under `CHANGES`, which carries the former thread's counts to the next. Counting is `Relaxed`: a sum
//! needs no moment.
//!
//! # Cost
//! Counting: a thread-local look-up, a load, a store. The first count of a thread in a cache: a lock. 256 bytes for each
//! thread and cache.
#![forbid(unsafe_code)]

use crate::sync::{Ordering, PlainMutex, Tally, lock_plain, thread_local_plain};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a cache has done since it was built, or since its parts were last looked at: all counters only rise.
///
/// Read while others work, the counters are each exact but not of one moment.
///
/// ```
/// use dogpile::Cache;
///
/// let cache = Cache::new(100);
/// cache.insert("a", 1);
/// cache.get("a");
/// cache.get("b");
/// let stats = cache.stats();
/// assert_eq!((stats.hits, stats.misses, stats.insertions), (1, 1, 1));
/// assert_eq!(stats.hit_ratio(), 0.5);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Lookups that found a fresh entry. `peek`, `contains_key` and iteration are not counted.
    pub hits: u64,
    /// Lookups that found none.
    pub misses: u64,
    /// Entries put in under a key that was absent.
    pub insertions: u64,
    /// Entries put in the place of an older version.
    pub replacements: u64,
    /// Entries that gave way to others.
    pub evicted: u64,
    /// Entries that were taken out after their deadline.
    pub expired: u64,
    /// Entries that were removed by a call.
    pub removed: u64,
    /// Entries that a `clear` took away.
    pub cleared: u64,
    /// Values that were heavier than the whole cache, and given back.
    pub refused: u64,
    /// Creations that were begun, by whoever led.
    pub leads: u64,
    /// Callers that waited for another's creation.
    pub waits: u64,
    /// Waits that ended because they had lasted too long.
    pub timed_out: u64,
    /// Creators that returned a value.
    pub creations: u64,
    /// How long those took, together.
    pub creation_time: Duration,
    /// Creators that returned an error, panicked, or were dropped before they ended.
    pub failures: u64,
    /// Callers that got a stale value, because another was making a newer one, or because that had failed.
    pub stale_served: u64,
    /// Creations that a waiter took over, because the leader's panicked or was dropped.
    pub hand_overs: u64,
    /// Values that were not stored, because the entry was written, removed or cleared while they were made.
    pub refused_late_writes: u64,
    /// Destructors that panicked while the cache freed entries.
    pub panicked_drops: u64,
    /// Entries that were taken out and wait to be freed, and buckets that a `clear` or a growth left behind. The one number
    /// that also falls.
    pub pending_reclaim: u64,
}

impl Stats {
    /// Hits among all lookups, 0 before the first.
    #[must_use]
    pub fn hit_ratio(&self) -> f64 {
        let lookups = self.hits + self.misses;
        if lookups == 0 { 0.0 } else { self.hits as f64 / lookups as f64 }
    }
}

/// What is counted, in the order of a row.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    Hit,
    Miss,
    Insertion,
    Replacement,
    Evicted,
    Expired,
    Removed,
    Cleared,
    Refused,
    PanickedDrop,
    Lead,
    Wait,
    TimedOut,
    Creation,
    CreationNanos,
    Failure,
    StaleServed,
    HandOver,
    RefusedLateWrite,
}

const EVENTS: usize = 19;

/// Leaked, and used again by other threads and caches: so a thread can keep it without counting references.
#[repr(align(128))]
#[derive(Default)]
struct Row {
    counts: [Tally; EVENTS],
    /// The number of the cache it belongs to, 0 for none. Changed under `CHANGES`, as `claimed` is.
    cache: Tally,
    /// 1 while a thread counts in it.
    claimed: Tally,
}

/// Held while a row changes hands. Guards the rows of caches that are gone.
static CHANGES: PlainMutex<Vec<&'static Row>> = PlainMutex::new(Vec::new());
/// The number of the next cache.
static NUMBERS: Tally = Tally::new(1);

/// Rows that a thread finds at once.
const RECENT: usize = 4;

/// Where a thread looks for a cache's row: a number that the compiler knows to be below `RECENT`.
#[derive(Clone, Copy)]
enum Place {
    First,
    Second,
    Third,
    Fourth,
}

impl Place {
    fn of(number: u64) -> Self {
        [Self::First, Self::Second, Self::Third, Self::Fourth][number as usize % RECENT]
    }
}

/// Rows that need no cleaning.
const FEW: usize = 64;

/// By a cache's number, modulo their length: whose row it is, and the row. Two arrays, not pairs: their elements are as large as
/// an index of the processor's may scale.
struct Recent {
    caches: [Cell<u64>; RECENT],
    rows: [Cell<&'static Row>; RECENT],
}

/// Never counted in: no cache has the number 0.
static NOWHERE: Row =
    Row { counts: [const { Tally::new(0) }; EVENTS], cache: Tally::new(0), claimed: Tally::new(1) };

thread_local_plain! {
    static RECENTLY: Recent = const {
        Recent { caches: [const { Cell::new(0) }; RECENT], rows: [const { Cell::new(&NOWHERE) }; RECENT] }
    };
    static CLAIMED: RefCell<Claimed> = const { RefCell::new(Claimed { rows: BTreeMap::new(), clean_at: FEW }) };
}

/// All rows that a thread has claimed, to be given back when it ends.
struct Claimed {
    rows: BTreeMap<u64, &'static Row>,
    /// At this many rows those of caches that are gone are forgotten.
    clean_at: usize,
}

impl Claimed {
    fn add(&mut self, number: u64, row: &'static Row) {
        if self.rows.len() >= self.clean_at {
            // Their new owners have claimed them for themselves (T3).
            self.rows.retain(|number, row| row.cache.load(Ordering::Relaxed) == *number);
            self.clean_at = (2 * self.rows.len()).max(FEW);
        }
        self.rows.insert(number, row);
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let _ = RECENTLY.try_with(|recent| recent.caches.iter().for_each(|cache| cache.set(0)));
        let _changes = lock_plain(&CHANGES);
        for (number, row) in std::mem::take(&mut self.rows) {
            if row.cache.load(Ordering::Relaxed) == number {
                row.claimed.store(0, Ordering::Relaxed);
            }
        }
    }
}

/// The counters of one cache.
pub(crate) struct Counters {
    number: u64,
    place: Place,
    /// Every row that was ever claimed for this cache.
    rows: PlainMutex<Vec<&'static Row>>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Self { number, place: Place::of(number), rows: PlainMutex::new(Vec::new()) }
    }

    #[inline(always)]
    pub(crate) fn add(&self, event: Event, n: u64) {
        if !self.add_at_once(event, n) {
            self.add_slowly(event, n);
        }
    }

    /// Counts if the row is at hand.
    #[inline(always)]
    fn add_at_once(&self, event: Event, n: u64) -> bool {
        let count = |recent: &Recent| {
            let place = self.place as usize;
            let known = recent.caches[place].get() == self.number;
            if known {
                recent.rows[place].get().add(event, n);
            }
            known
        };
        RECENTLY.try_with(count).unwrap_or(false)
    }

    /// The same, once.
    #[inline(always)]
    pub(crate) fn count_at_once(&self, event: Event) -> bool {
        self.add_at_once(event, 1)
    }

    #[inline(always)]
    pub(crate) fn count(&self, event: Event) {
        self.add(event, 1);
    }

    #[cold]
    #[inline(never)]
    fn add_slowly(&self, event: Event, n: u64) {
        let found = CLAIMED.try_with(|claimed| {
            let mut claimed = claimed.borrow_mut();
            claimed.rows.get(&self.number).copied().unwrap_or_else(|| {
                let row = self.claim();
                claimed.add(self.number, row);
                row
            })
        });
        match found {
            Ok(row) => {
                row.add(event, n);
                let _ = RECENTLY.try_with(|recent| {
                    let place = self.place as usize;
                    recent.caches[place].set(self.number);
                    recent.rows[place].set(row);
                });
            }
            // The thread's locals are being destroyed: claim a row for this one count.
            Err(_) => {
                let row = self.claim();
                row.add(event, n);
                let _changes = lock_plain(&CHANGES);
                row.claimed.store(0, Ordering::Relaxed);
            }
        }
    }

    /// A row for the calling thread: one that a thread of this cache has left, a spare one, or a new one.
    fn claim(&self) -> &'static Row {
        let mut spare = lock_plain(&CHANGES);
        let mut rows = lock_plain(&self.rows);
        let left = rows.iter().copied().find(|row| row.claimed.load(Ordering::Relaxed) == 0);
        let row = left.unwrap_or_else(|| {
            let row = spare.pop().unwrap_or_else(|| Box::leak(Box::default()));
            row.cache.store(self.number, Ordering::Relaxed);
            rows.push(row);
            row
        });
        row.claimed.store(1, Ordering::Relaxed);
        row
    }

    pub(crate) fn read(&self, pending_reclaim: u64) -> Stats {
        let rows = lock_plain(&self.rows);
        let sum = |event: Event| -> u64 {
            rows.iter()
                .fold(0, |sum, row| sum.wrapping_add(row.counts[event as usize].load(Ordering::Relaxed)))
        };
        Stats {
            hits: sum(Event::Hit),
            misses: sum(Event::Miss),
            insertions: sum(Event::Insertion),
            replacements: sum(Event::Replacement),
            evicted: sum(Event::Evicted),
            expired: sum(Event::Expired),
            removed: sum(Event::Removed),
            cleared: sum(Event::Cleared),
            refused: sum(Event::Refused),
            leads: sum(Event::Lead),
            waits: sum(Event::Wait),
            timed_out: sum(Event::TimedOut),
            creations: sum(Event::Creation),
            creation_time: Duration::from_nanos(sum(Event::CreationNanos)),
            failures: sum(Event::Failure),
            stale_served: sum(Event::StaleServed),
            hand_overs: sum(Event::HandOver),
            refused_late_writes: sum(Event::RefusedLateWrite),
            panicked_drops: sum(Event::PanickedDrop),
            pending_reclaim,
        }
    }
}

impl Row {
    #[inline]
    fn add(&self, event: Event, n: u64) {
        let count = &self.counts[event as usize];
        // Not one operation: only this thread writes the row (T1).
        count.store(count.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        let mut spare = lock_plain(&CHANGES);
        for row in lock_plain(&self.rows).drain(..) {
            row.counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
            row.cache.store(0, Ordering::Relaxed);
            row.claimed.store(0, Ordering::Relaxed);
            spare.push(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T2: counts of threads that have ended stay, and their rows are used again.
    #[test]
    fn threads_come_and_go_and_every_count_stays() {
        let counters = std::sync::Arc::new(Counters::new());
        for _ in 0..100 {
            let shared = std::sync::Arc::clone(&counters);
            // Joined, so that the thread's locals are gone too; a scope does not wait for those.
            std::thread::spawn(move || shared.count(Event::Hit)).join().expect("counting does not panic");
        }
        assert_eq!(counters.read(0).hits, 100);
        assert_eq!(lock_plain(&counters.rows).len(), 1, "one row served them all");
    }

    /// T3: more caches than a thread remembers at once, some of them gone.
    #[test]
    fn each_cache_counts_for_itself() {
        let mut all: Vec<Counters> = (0..4 * RECENT).map(|_| Counters::new()).collect();
        for round in 1..=3 {
            for (i, counters) in all.iter().enumerate() {
                counters.add(Event::Miss, i as u64);
                assert_eq!(counters.read(0).misses, round * i as u64);
            }
        }
        all.truncate(RECENT);
        let fresh: Vec<Counters> = (0..4 * RECENT).map(|_| Counters::new()).collect();
        for counters in &fresh {
            assert_eq!(counters.read(0), Stats::default(), "a row that serves again starts at zero");
            counters.count(Event::Hit);
            assert_eq!(counters.read(0).hits, 1);
        }
        assert_eq!(all[1].read(0).misses, 3);
    }

    /// Nothing is lost, and nothing panics, while a thread's locals are destroyed.
    #[test]
    fn counting_in_a_destructor_of_a_thread_local_counts() {
        struct Late(std::sync::Arc<Counters>);
        impl Drop for Late {
            fn drop(&mut self) {
                self.0.count(Event::Hit);
            }
        }
        std::thread_local! { static LATE: RefCell<Option<Late>> = const { RefCell::new(None) } }
        let counters = std::sync::Arc::new(Counters::new());
        let shared = std::sync::Arc::clone(&counters);
        std::thread::spawn(move || {
            // Touched before the counters' own locals, so it is destroyed after them.
            LATE.with(|late| *late.borrow_mut() = Some(Late(std::sync::Arc::clone(&shared))));
            shared.count(Event::Hit);
        })
        .join()
        .expect("the thread does not panic");
        assert_eq!(counters.read(0).hits, 2);
    }
}
