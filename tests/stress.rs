//! Many threads on one small cache, over a matrix of configurations that forces the rare paths: tables that start with
//! one bucket and grow all the while, keys that collide, capacities of nearly nothing, `clear` and `resize` in between.
//!
//! Every key has one writer, so what may be seen of it is known, in real time and not only at the end:
//!
//! - A value is whole, and of the key that was asked for.
//! - Once an insertion has returned nobody finds an older version, once a removal has, none of those before.
//! - A reader never sees a key go back to an older version.
//! - Where nothing evicts, expires or clears, a key that is only ever replaced is found by everyone, always.
//! - Keys that all threads share are counted up without loss, and inserted if absent by one at a time.
//! - At rest `len`, `weight` and iteration agree, the capacity is kept, and every value is dropped exactly once.
//!
//! Runs for some seconds; `DOGPILE_STRESS_SECONDS` says how many. Made for ASan, too:
//! `RUSTFLAGS=-Zsanitizer=address cargo +nightly test --target x86_64-unknown-linux-gnu --test stress`.

#[path = "model/hashing.rs"]
mod hashing;

use dogpile::time::{Clock, ManualClock, PreciseClock};
use dogpile::{Cache, Compute, Handle, Inserted, RandomState, RemovalCause};
use hashing::{BadHash, Dice, Hashing};
use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

const WRITERS: u16 = 3;
const READERS: usize = 2;
/// Keys with one writer each, numbered from 0. The next ones are shared by all, the others make the table grow.
const OWNED: u16 = 48;
const SHARED: u16 = 4;
const COUNTED: u16 = OWNED;
const RACED: u16 = OWNED + SHARED;
const FILLERS: u16 = OWNED + 2 * SHARED;
/// What a writer does in one round.
const STEPS: usize = 700;

/// A value that knows where it belongs.
struct Value {
    key: u16,
    version: u64,
    /// On the heap, so that a use after free does not look right.
    seal: Box<[u64; 3]>,
    alive: Arc<AtomicUsize>,
}

impl Value {
    fn new(key: u16, version: u64, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, SeqCst);
        Self { key, version, seal: Self::seal(key, version), alive: Arc::clone(alive) }
    }

    fn seal(key: u16, version: u64) -> Box<[u64; 3]> {
        Box::new([!version, u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15), version ^ u64::from(key)])
    }

    /// Fails if the value is torn, dead, or of another key.
    fn check(&self, key: u16) -> u64 {
        assert_eq!((self.key, &self.seal), (key, &Self::seal(key, self.version)), "the value of another key");
        self.version
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.check(self.key);
        self.seal.fill(0xdead);
        self.alive.fetch_sub(1, SeqCst);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    None,
    Entries(u64),
    Weight(u64),
}

/// One cell of the matrix.
#[derive(Clone, Copy, Debug)]
struct Cell {
    limit: Limit,
    hashing: Hashing,
    shards: usize,
    clears: bool,
    expires: bool,
    has_listener: bool,
}

impl Cell {
    fn matrix() -> Vec<Self> {
        use {Hashing::*, Limit::*};
        let mut cells = Vec::new();
        for (i, limit) in
            [None, None, Entries(1), Entries(20), Entries(200), Weight(90)].into_iter().enumerate()
        {
            for (j, hashing) in [Seeded, Weak, Constant, Colliding].into_iter().enumerate() {
                // The first row keeps all it gets.
                let odd = (i + j) % 2 == 1;
                let shards = if j % 2 == 0 { 1 } else { 4 };
                cells.push(Self {
                    limit,
                    hashing,
                    shards,
                    clears: i > 0 && odd,
                    expires: i > 2 && !odd,
                    has_listener: odd,
                });
            }
        }
        cells
    }

    /// Whether everything stays that nobody removes.
    fn keeps_all(self) -> bool {
        self.limit == Limit::None && !self.clears && !self.expires
    }

    fn fillers(self) -> u16 {
        if self.hashing == Hashing::Constant { 30 } else { 1500 }
    }

    fn weight_of(key: u16) -> u32 {
        u32::from(key % 7 + 1)
    }
}

/// What everybody may know of a key: no version below this is found any more.
type Floors = Vec<AtomicU64>;

struct Round<'a, S> {
    cell: Cell,
    cache: &'a Cache<u16, Value, S>,
    floors: &'a Floors,
    alive: &'a Arc<AtomicUsize>,
    clock: &'a ManualClock,
    stop: &'a AtomicBool,
    /// By how much the shared keys were counted up.
    counted: &'a AtomicU64,
    /// Insertions of the raced keys, less removals.
    raced: &'a AtomicU64,
}

#[test]
fn no_cell_of_the_matrix_breaks_a_promise() {
    let seconds =
        std::env::var("DOGPILE_STRESS_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(8.0_f64);
    let cells = Cell::matrix();
    let share = Duration::from_secs_f64(seconds / cells.len() as f64);
    for (i, cell) in cells.into_iter().enumerate() {
        let end = PreciseClock.now().saturating_add(share);
        let mut seed = i as u64;
        // At least one round each, however slow the build.
        loop {
            match cell.hashing {
                Hashing::Seeded => round(cell, RandomState::with_seed(seed), seed),
                bad => round(cell, BadHash(bad), seed),
            }
            seed += 1000;
            if PreciseClock.now() >= end {
                break;
            }
        }
    }
}

fn round<S: BuildHasher + Send + Sync + 'static>(cell: Cell, hasher: S, seed: u64) {
    let (alive, clock) = (Arc::new(AtomicUsize::new(0)), ManualClock::new());
    let [left, refused] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
    let mut builder = Cache::builder()
        .hasher(hasher)
        .shards(NonZeroUsize::new(cell.shards).expect("at least one shard"))
        .clock(clock.clone());
    builder = match cell.limit {
        Limit::None => builder,
        Limit::Entries(entries) => builder.max_entries(entries),
        Limit::Weight(weight) => builder.max_weight(weight).weigher(|key, _: &Value| Cell::weight_of(*key)),
    };
    if cell.expires {
        builder = builder.time_to_live(Duration::from_millis(5));
    }
    if cell.has_listener {
        let left = Arc::clone(&left);
        builder = builder.listener(move |entry: Handle<u16, Value>, cause| {
            entry.check(*entry.key());
            assert!(cell.clears || cause != RemovalCause::Cleared);
            left.fetch_add(1, SeqCst);
        });
    }
    let cache = builder.build().expect("no contradiction");
    let floors = (0..OWNED).map(|_| AtomicU64::new(0)).collect();
    let (stop, counted, raced) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let round = Round {
        cell,
        cache: &cache,
        floors: &floors,
        alive: &alive,
        clock: &clock,
        stop: &stop,
        counted: &counted,
        raced: &raced,
    };
    // The keys that are only ever replaced.
    let mut stored = 0;
    for key in (0..OWNED).filter(|key| is_lasting(*key)) {
        assert!(cache.insert(key, Value::new(key, 1, &alive)).is_none());
        stored += 1;
    }
    let start = Barrier::new(usize::from(WRITERS) + READERS + 1);
    let round = &round;
    let begin = || {
        start.wait();
    };
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|own| {
                scope.spawn(move || {
                    begin();
                    round.write(own, seed)
                })
            })
            .collect();
        let mut others = Vec::new();
        for reader in 0..READERS {
            others.push(scope.spawn(move || {
                begin();
                round.read(seed ^ reader as u64 ^ 0xabcd);
            }));
        }
        others.push(scope.spawn(move || {
            begin();
            round.maintain(seed);
        }));
        // All are joined, because the scope itself does not wait for the destructors of thread-locals.
        let written: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        stop.store(true, SeqCst);
        let others: Vec<_> = others.into_iter().map(thread::ScopedJoinHandle::join).collect();
        let panicked = written.iter().any(Result::is_err) || others.iter().any(Result::is_err);
        assert!(!panicked, "in {cell:?}, seed {seed}");
        stored += written.into_iter().flatten().sum::<u64>();
    });
    refused.store(cache.stats().refused, SeqCst);
    round.rest(stored - refused.load(SeqCst), &left);
    drop(cache);
    assert_eq!(alive.load(SeqCst), 0, "every value is dropped once");
}

/// Whether a key is only replaced, never removed.
fn is_lasting(key: u16) -> bool {
    key < OWNED && key.is_multiple_of(4)
}

impl<S: BuildHasher> Round<'_, S> {
    /// A writer of the keys that have its number. Returns how many values it offered to the cache and did not get back.
    fn write(&self, own: u16, seed: u64) -> u64 {
        let mut dice = Dice(seed ^ u64::from(own) << 40);
        let mut versions = [1_u64; OWNED as usize];
        // Whether it is there, as far as its writer can know.
        let mut present: Vec<bool> = (0..OWNED).map(is_lasting).collect();
        let mut stored = 0;
        let mut filler = 0;
        for _ in 0..STEPS {
            let roll = dice.roll();
            let key = (roll as u16 % (OWNED / WRITERS)) * WRITERS + own;
            let place = usize::from(key);
            match roll >> 16 & 15 {
                0..=5 => {
                    versions[place] += 1;
                    let value = Value::new(key, versions[place], self.alive);
                    if roll >> 20 & 1 == 0 {
                        assert!(self.cache.insert(key, value).is_none(), "it fits");
                    } else {
                        let new = versions[place];
                        let mut value = Some(value);
                        let after = self.cache.compute(key, |old| {
                            let old = old.map(|old| old.check(key));
                            assert!(old.is_none_or(|old| old == new - 1), "{old:?} before {new}");
                            Compute::Put(value.take().unwrap_or_else(|| Value::new(key, new, self.alive)))
                        });
                        assert_eq!(after.expect("what was put").check(key), new);
                    }
                    stored += 1;
                    present[place] = true;
                    self.floors[place].store(versions[place], SeqCst);
                    self.owner_finds(key, versions[place], true);
                }
                6..=8 if !is_lasting(key) => {
                    let removed = match roll >> 20 & 1 {
                        0 => self.cache.remove(&key),
                        _ => self.cache.remove_if(&key, |_, value| value.check(key) > 0),
                    };
                    self.expected(removed.map(|handle| handle.check(key)), versions[place], present[place]);
                    present[place] = false;
                    // Whoever finds it from now on finds a later version.
                    self.floors[place].store(versions[place] + 1, SeqCst);
                    assert!(self.cache.get(&key).is_none(), "{key} was removed and nobody else writes it");
                }
                9 => self.owner_finds(key, versions[place], present[place]),
                10 if present[place] && !self.cell.expires => {
                    self.cache.expire_in(&key, None);
                    self.cache.touch(&key);
                }
                11 => stored += self.count_up(COUNTED + roll as u16 % SHARED),
                12 => stored += self.race(RACED + roll as u16 % SHARED),
                _ => {
                    for _ in 0..8 {
                        let key = FILLERS + own + filler % self.cell.fillers() * WRITERS;
                        filler += 1;
                        if roll >> 24 & 3 == 0 {
                            self.cache.remove(&key);
                        } else {
                            stored +=
                                u64::from(self.cache.insert(key, Value::new(key, 0, self.alive)).is_none());
                        }
                    }
                }
            }
        }
        stored
    }

    /// What a key's only writer found must be what it last put there, if it can't have gone.
    fn expected(&self, found: Option<u64>, version: u64, present: bool) {
        if !present {
            assert_eq!(found, None, "removed, and there again");
        } else if self.cell.keeps_all() || found.is_some() {
            assert_eq!(found, Some(version), "what its only writer put there");
        }
    }

    fn owner_finds(&self, key: u16, version: u64, present: bool) {
        let found = self.cache.get(&key);
        if let Some(found) = &found {
            assert_eq!(*found.key(), key);
        }
        self.expected(found.map(|found| found.check(key)), version, present);
    }

    /// One more, whatever the others do. The version is the count.
    fn count_up(&self, key: u16) -> u64 {
        let after = self.cache.compute(key, |old| {
            Compute::Put(Value::new(key, old.map_or(0, |old| old.check(key)) + 1, self.alive))
        });
        after.expect("what was put").check(key);
        self.counted.fetch_add(1, SeqCst);
        1
    }

    /// Puts the key in if it is absent, or takes it out.
    fn race(&self, key: u16) -> u64 {
        match self.cache.insert_if_absent(key, Value::new(key, 5, self.alive)) {
            Inserted::Present { existing, rejected } => {
                assert_eq!((existing.check(key), rejected.check(key)), (5, 5));
                if self.cache.remove(&key).is_some() {
                    self.raced.fetch_sub(1, SeqCst);
                }
                0
            }
            inserted => {
                assert!(inserted.is_stored());
                self.raced.fetch_add(1, SeqCst);
                1
            }
        }
    }

    fn read(&self, seed: u64) {
        let mut dice = Dice(seed);
        let mut newest = [0_u64; OWNED as usize];
        let mut held = Vec::new();
        while !self.stop.load(SeqCst) {
            let roll = dice.roll();
            let key = roll as u16 % OWNED;
            let place = usize::from(key);
            let mut floor = self.floors[place].load(SeqCst).max(newest[place]);
            let mut see = |version: Option<u64>| {
                if let Some(version) = version {
                    assert!(version >= floor, "{key}: version {version} after {floor}");
                    (floor, newest[place]) = (version, version);
                } else {
                    assert!(!self.cell.keeps_all() || !is_lasting(key), "{key} is always there");
                }
            };
            match roll >> 16 & 7 {
                0 | 1 => see(self.cache.get(&key).map(|found| found.check(key))),
                2 => see(self.cache.peek(&key).map(|found| found.check(key))),
                3 => see(self.cache.get_handle(&key).map(|found| found.check(key))),
                4 => {
                    // Kept over the next steps, more of them than a thread has hazard slots.
                    if let Some(found) = self.cache.get(&key) {
                        see(Some(found.check(key)));
                        if held.len() > 11 {
                            held.swap_remove(roll as usize >> 20 & 7);
                        }
                        held.push((found, key, newest[place]));
                    }
                    for (found, key, version) in &held {
                        assert_eq!(found.check(*key), *version, "what is held does not change");
                    }
                }
                5 => {
                    let pin = self.cache.pin();
                    let first = self.cache.get_in(&key, &pin).map(|found| found.value().check(key));
                    see(first);
                    let keys: Vec<u16> = (0..40).map(|i| (key + i) % OWNED).collect();
                    for (key, found) in keys.iter().zip(self.cache.get_multi(&keys, &pin)) {
                        found.map(|found| found.value().check(*key));
                    }
                }
                6 if roll >> 20 & 15 == 0 => {
                    // What is replaced in mid-walk may be missed; `tests/iteration.rs` looks at what stays.
                    for entry in self.cache {
                        entry.check(*entry.key());
                    }
                }
                _ => {
                    let stays = self.cell.keeps_all() && is_lasting(key);
                    assert!(self.cache.contains_key(&key) || !stays, "{key} is always there");
                }
            }
        }
    }

    fn maintain(&self, seed: u64) {
        let mut dice = Dice(!seed);
        while !self.stop.load(SeqCst) {
            let roll = dice.roll();
            match (roll & 7, self.cell.limit) {
                (0, _) if self.cell.clears => self.cache.clear(),
                (1, _) => self.cache.run_pending(),
                (2, Limit::Entries(entries)) => self.cache.resize((entries / 2).max(1)),
                (3, Limit::Entries(entries)) => self.cache.resize(entries + (roll >> 8 & 3)),
                (2, Limit::Weight(weight)) => self.cache.resize(weight / 2),
                (3, Limit::Weight(weight)) => self.cache.resize(weight + (roll >> 8 & 31)),
                (4, _) if self.cell.expires => self.clock.advance(Duration::from_micros(roll >> 8 & 0xfff)),
                (5, _) => self.cache.retain(|key, value| value.check(*key) < u64::MAX),
                (6, _) => assert!(self.cache.hottest(3).len() <= 3),
                _ => thread::yield_now(),
            }
        }
    }

    /// Everybody has gone: now the books must be right.
    fn rest(&self, stored: u64, left: &AtomicU64) {
        let (cache, cell) = (self.cache, self.cell);
        cache.run_pending();
        let entries: Vec<_> = cache.iter().collect();
        let mut keys: Vec<u16> = entries.iter().map(|entry| *entry.key()).collect();
        assert_eq!(cache.len(), entries.len() as u64, "{cell:?}: len and iteration");
        let weight: u64 = entries.iter().map(|entry| u64::from(entry.entry().weight())).sum();
        assert_eq!(cache.weight(), weight, "{cell:?}: weight and iteration");
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), entries.len(), "{cell:?}: a key is there once");
        for entry in &entries {
            assert_eq!(cache.get(entry.key()).map(|found| found.check(*entry.key())), Some(entry.version));
        }
        if let Some(capacity) = cache.capacity() {
            assert!(weight <= capacity, "{cell:?}: {weight} of {capacity}");
        }
        if cell.keeps_all() {
            assert!((0..OWNED).filter(|key| is_lasting(*key)).all(|key| cache.contains_key(&key)));
            let counted: u64 =
                (0..SHARED).filter_map(|i| cache.get(&(COUNTED + i)).map(|count| count.version)).sum();
            assert_eq!(counted, self.counted.load(SeqCst), "{cell:?}: no count is lost");
            let raced = (0..SHARED).filter(|i| cache.contains_key(&(RACED + i))).count() as u64;
            assert_eq!(raced, self.raced.load(SeqCst), "{cell:?}: one insertion for each removal");
            let stats = cache.stats();
            assert_eq!((stats.evicted, stats.expired, stats.cleared), (0, 0, 0));
        }
        drop(entries);
        // Nothing is pinned any more, so what left can be freed to the last.
        cache.run_pending();
        assert_eq!(
            self.alive.load(SeqCst),
            keys.len(),
            "{cell:?}: what left is dropped, what is there is not"
        );
        assert_eq!(cache.stats().pending_reclaim, 0, "{cell:?}: nothing waits to be freed");
        if cell.has_listener {
            let left = left.load(SeqCst);
            assert_eq!(
                stored,
                left + keys.len() as u64,
                "{cell:?}: every entry is there or was reported, once"
            );
        }
    }
}
