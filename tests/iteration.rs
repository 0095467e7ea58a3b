//! Walking over a cache that others write to, and emptying it.

use dogpile::time::{Clock, ManualClock, PreciseClock};
use dogpile::{Cache, Compute, Handle, InsertOptions, RemovalCause};
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

static ALONE: Mutex<()> = Mutex::new(());

/// One test of this process after another: a thread that is pinned, and not running, keeps the garbage of all, and where
/// threads are many and cores few there is always one.
fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shards(shards: usize) -> NonZeroUsize {
    NonZeroUsize::new(shards).unwrap()
}

/// How often each key was yielded.
fn yielded(cache: &Cache<u32, u32>, mut between: impl FnMut(u32)) -> HashMap<u32, u32> {
    let mut counts = HashMap::new();
    for entry in cache {
        *counts.entry(*entry.key()).or_insert(0) += 1;
        between(*entry.key());
    }
    counts
}

const STABLE: u32 = 300;

/// M2: a key that stays is yielded once, in whatever state of growth its bucket is when the walk comes along.
#[test]
fn stable_keys_are_yielded_once_while_the_table_grows() {
    let _alone = alone();
    for count in [1, 4] {
        for pace in [1, 3, 10, 100, 1000] {
            let cache = Cache::builder().shards(shards(count)).build().unwrap();
            (0..STABLE).for_each(|key| drop(cache.insert(key, key)));
            let mut next = STABLE;
            // Between two steps the table grows: by a part of a bucket, or several times over.
            let counts = yielded(&cache, |_| {
                if next < 10_000 {
                    (next..next + pace).for_each(|key| drop(cache.insert(key, key)));
                    next += pace;
                }
            });
            assert!((0..STABLE).all(|key| counts.get(&key) == Some(&1)), "{count} shards, {pace} a step");
            assert!(counts.values().all(|count| *count == 1), "and the others once at the most");
        }
    }
}

#[test]
fn stable_keys_are_yielded_once_while_threads_write() {
    let _alone = alone();
    for round in 0..8 {
        let cache = Cache::builder().shards(shards(1 + round % 4)).build().unwrap();
        (0..STABLE).for_each(|key| drop(cache.insert(key, key)));
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let (cache, stop) = (&cache, &stop);
            let writers: Vec<_> = (0..3)
                .map(|thread| {
                    scope.spawn(move || {
                        for i in 0..6000 {
                            let key = STABLE + i * 3 + thread;
                            cache.insert(key, i);
                            if i % 3 == 0 {
                                cache.remove(&(key - 30).max(STABLE));
                                // Replaced in place: it is the same entry to a walk, in one version or the other.
                                cache.compute(key, |old| {
                                    old.map_or(Compute::Keep, |old| Compute::Put(old + 1))
                                });
                            }
                        }
                    })
                })
                .collect();
            for _ in 0..2 {
                scope.spawn(move || {
                    while !stop.load(SeqCst) {
                        let counts = yielded(cache, |_| ());
                        let wrong = (0..STABLE).find(|key| counts.get(key) != Some(&1));
                        assert_eq!(wrong.map(|key| (key, counts.get(&key))), None);
                    }
                });
            }
            let done: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            stop.store(true, SeqCst);
            assert!(done.iter().all(Result::is_ok));
        });
        let at_rest = yielded(&cache, |_| ());
        assert_eq!((at_rest.len() as u64, at_rest.values().all(|count| *count == 1)), (cache.len(), true));
    }
}

#[test]
fn only_fresh_entries_are_yielded() {
    let _alone = alone();
    let clock = ManualClock::new();
    let cache = Cache::builder().clock(clock.clone()).build().unwrap();
    for key in 0..100 {
        cache.insert_with(key, key, InsertOptions::new().ttl(Duration::from_millis(u64::from(key) + 1)));
    }
    clock.advance(Duration::from_millis(50));
    let mut keys: Vec<u32> = cache.iter().map(|entry| *entry).collect();
    keys.sort_unstable();
    assert_eq!(keys, (50..100).collect::<Vec<_>>());
    // What expires between two steps is not yielded any more, as far as it was not fetched with the one before.
    let mut yielded = 0;
    for entry in &cache {
        yielded += 1;
        assert!(*entry >= 50);
        clock.advance(Duration::from_millis(50));
    }
    assert!(yielded < 20, "{yielded}");
}

#[test]
fn a_walk_survives_everything_that_happens_between_two_steps() {
    let _alone = alone();
    for what in 0..6 {
        let cache = Cache::builder().max_entries(500).shards(shards(2)).build().unwrap();
        (0..500_u32).for_each(|key| drop(cache.insert(key, key)));
        let mut steps = 0_u32;
        for entry in &cache {
            steps += 1;
            assert_eq!(*entry.key(), *entry.value());
            match what {
                0 => drop(cache.remove(entry.key())),
                1 => cache.clear(),
                2 => drop(cache.insert(1000 + steps, 1000 + steps)),
                3 => cache.run_pending(),
                4 => cache.resize(u64::from(500 - steps.min(499))),
                _ => drop(cache.insert(*entry.key(), *entry.key())),
            }
            assert!(steps < 5000, "a walk ends");
        }
        match what {
            0 => assert!(cache.is_empty() && steps == 500, "each was met and removed"),
            3 | 5 => assert_eq!(steps, 500),
            _ => {}
        }
        assert!(cache.len() <= 500);
    }
    assert!(Cache::<u32, u32>::new(10).iter().next().is_none());
}

/// An iterator that has ended stays ended, and one that is left half-way keeps nothing.
#[test]
fn an_iterator_is_fused_and_keeps_only_what_it_has_fetched() {
    let _alone = alone();
    let alive = Arc::new(AtomicUsize::new(0));
    let cache = counted_cache(&alive, 1);
    fill(&cache, &alive, 1000);
    let mut walk = cache.iter();
    walk.next();
    cache.clear();
    settle(&cache, || alive.load(SeqCst) < 50);
    assert!(alive.load(SeqCst) < 50, "the handles of a bucket or two: {}", alive.load(SeqCst));
    assert!(walk.by_ref().count() < 50);
    assert!(walk.next().is_none() && walk.next().is_none());
    drop(walk);
    settle(&cache, || alive.load(SeqCst) == 0);
    assert_eq!(alive.load(SeqCst), 0);
}

#[test]
fn hottest_and_coldest_rank_by_use() {
    let _alone = alone();
    let cache = Cache::builder().max_entries(100).shards(shards(4)).build().unwrap();
    (0..20).for_each(|key| drop(cache.insert(key, key)));
    for uses in 0..3 {
        (0..10 - 3 * uses).for_each(|key| assert!(cache.get(&key).is_some()));
    }
    let keys = |found: Vec<Handle<u32, u32>>| {
        let mut keys: Vec<u32> = found.iter().map(|entry| *entry.key()).collect();
        keys.sort_unstable();
        keys
    };
    assert_eq!(keys(cache.hottest(4)), [0, 1, 2, 3], "three uses");
    assert_eq!(keys(cache.hottest(10)), (0..10).collect::<Vec<_>>());
    assert_eq!(keys(cache.coldest(10)), (10..20).collect::<Vec<_>>());
    assert_eq!(keys(cache.coldest(99)), (0..20).collect::<Vec<_>>());
    assert!(cache.hottest(0).is_empty());
    // Looks that leave no trace.
    let _ = (cache.peek(&15), cache.contains_key(&15), cache.iter().count());
    assert_eq!(keys(cache.coldest(10)), (10..20).collect::<Vec<_>>());
}

/// A value that counts how many of its kind are alive.
struct Counted(u32, Arc<AtomicUsize>);

impl Counted {
    fn new(number: u32, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, SeqCst);
        Self(number, Arc::clone(alive))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(1, SeqCst);
    }
}

fn counted_cache(_: &Arc<AtomicUsize>, count: usize) -> Cache<u32, Counted> {
    Cache::builder().shards(shards(count)).build().unwrap()
}

fn fill(cache: &Cache<u32, Counted>, alive: &Arc<AtomicUsize>, entries: u32) {
    (0..entries).for_each(|key| drop(cache.insert(key, Counted::new(key, alive))));
}

/// Runs `run_pending` until `done`: threads of this test may be pinned for a moment.
fn settle<V: 'static>(cache: &Cache<u32, V>, done: impl Fn() -> bool) {
    let give_up = PreciseClock.now().saturating_add(Duration::from_secs(30));
    while !done() && PreciseClock.now() < give_up {
        cache.run_pending();
        thread::yield_now();
    }
}

/// H7: `clear` takes a table away that may just be moving to a greater one. All entries go, each is dropped once, and
/// reported once as cleared; neither table is lost.
#[test]
fn h7_clear_in_any_state_of_growth_drops_each_entry_once() {
    let _alone = alone();
    let alive = Arc::new(AtomicUsize::new(0));
    for entries in (0..40).chain((250..1100).step_by(23)) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&told);
        let cache = Cache::builder()
            .shards(shards(1))
            .listener(move |entry: Handle<u32, Counted>, cause| log.lock().unwrap().push((entry.0, cause)))
            .build()
            .unwrap();
        fill(&cache, &alive, entries);
        let held = cache.get(&(entries / 2));
        cache.clear();
        assert_eq!((cache.len(), cache.iter().count()), (0, 0));
        assert!((0..entries).all(|key| !cache.contains_key(&key)));
        // It works at once, and what is put in now stays.
        fill(&cache, &alive, 10);
        let held_here = held.as_ref().map_or(0, |_| 1);
        settle(&cache, || alive.load(SeqCst) == 10 + held_here);
        assert_eq!(alive.load(SeqCst), 10 + held_here, "of {entries} entries");
        assert!(held.as_ref().is_none_or(|held| held.0 == entries / 2), "what is held stays");
        drop(held);
        settle(&cache, || told.lock().unwrap().len() == entries as usize);
        let mut told = std::mem::take(&mut *told.lock().unwrap());
        told.sort_by_key(|(key, _)| *key);
        assert_eq!(told, (0..entries).map(|key| (key, RemovalCause::Cleared)).collect::<Vec<_>>());
        assert_eq!(cache.stats().cleared, u64::from(entries));
        drop(cache);
        assert_eq!(alive.load(SeqCst), 0);
    }
}

/// H7: where no reader is in the way, one `run_pending` frees a large cache to the last entry.
#[test]
fn h7_run_pending_frees_all_that_clear_took() {
    let _alone = alone();
    // A thread of the test before may just be ending, but hardly every time.
    assert!((0..50).any(|_| {
        let alive = Arc::new(AtomicUsize::new(0));
        let cache = counted_cache(&alive, 2);
        fill(&cache, &alive, 40_000);
        cache.clear();
        cache.run_pending();
        alive.load(SeqCst) == 0 && cache.stats().pending_reclaim == 0
    }));
}

/// H7: without `run_pending` later writes do it, a slice at a time.
#[test]
fn h7_later_writes_free_what_clear_took() {
    let _alone = alone();
    let alive = Arc::new(AtomicUsize::new(0));
    let cache = counted_cache(&alive, 1);
    fill(&cache, &alive, 40_000);
    cache.clear();
    let give_up = PreciseClock.now().saturating_add(Duration::from_secs(30));
    while alive.load(SeqCst) > 40 && PreciseClock.now() < give_up {
        (0..10).for_each(|key| drop(cache.insert(key, Counted::new(key, &alive))));
    }
    assert!(alive.load(SeqCst) <= 40, "{} alive", alive.load(SeqCst));
}

/// H7: a cache that is dropped while its cleared entries wait drops them, too.
#[test]
fn h7_dropping_the_cache_drops_what_clear_took() {
    let _alone = alone();
    let alive = Arc::new(AtomicUsize::new(0));
    for entries in [1, 10, 300, 5000] {
        let cache = counted_cache(&alive, 1);
        let pin_holder: Cache<u32, u32> = Cache::new(1);
        // Pinned, so that nothing can be freed before.
        let pin = pin_holder.pin();
        fill(&cache, &alive, entries);
        cache.clear();
        fill(&cache, &alive, entries / 2);
        cache.clear();
        fill(&cache, &alive, 3);
        cache.run_pending();
        assert!(alive.load(SeqCst) > entries as usize);
        drop(cache);
        assert_eq!(alive.load(SeqCst), 0);
        drop(pin);
    }
}

/// H7: `clear` against writers and itself, from many threads.
#[test]
fn h7_clear_against_writers() {
    let _alone = alone();
    let alive = Arc::new(AtomicUsize::new(0));
    for count in [1, 4] {
        for limit in [None, Some(200)] {
            let mut builder = Cache::builder().shards(shards(count));
            if let Some(limit) = limit {
                builder = builder.max_entries(limit);
            }
            let cache = builder.build().unwrap();
            thread::scope(|scope| {
                for thread in 0..4_u32 {
                    let (cache, alive) = (&cache, &alive);
                    scope.spawn(move || {
                        for i in 0..4000 {
                            let key = (i * 4 + thread) % 1000;
                            cache.insert(key, Counted::new(key, alive));
                            if i % 400 == 100 * thread {
                                cache.clear();
                            }
                            if i % 5 == 0 {
                                cache.remove(&(key / 2));
                            }
                        }
                    });
                }
            });
            assert_eq!(cache.len(), cache.iter().count() as u64);
            settle(&cache, || alive.load(SeqCst) as u64 == cache.len());
            assert_eq!(alive.load(SeqCst) as u64, cache.len());
            cache.clear();
            assert!(cache.is_empty());
            drop(cache);
            assert_eq!(alive.load(SeqCst), 0);
        }
    }
}

#[test]
fn an_entry_that_was_there_when_clear_began_is_gone_when_it_returns() {
    let _alone = alone();
    let cache = Cache::builder().shards(shards(16)).build().unwrap();
    thread::scope(|scope| {
        for thread in 0..3_u32 {
            let cache = &cache;
            scope.spawn(move || {
                for i in 0..400 {
                    let key = i * 3 + thread;
                    cache.insert(key, key);
                    cache.clear();
                    assert!(
                        cache.get(&key).is_none(),
                        "{key} was put in before the clear, by the same thread"
                    );
                }
            });
        }
    });
    assert!(cache.is_empty());
}

#[test]
fn retain_takes_out_what_it_says_and_nothing_else() {
    let _alone = alone();
    let cache = Cache::builder().max_entries(1000).shards(shards(4)).build().unwrap();
    (0..1000).for_each(|key| drop(cache.insert(key, key)));
    cache.retain(|key, value| key == value && key % 3 == 0);
    let mut keys: Vec<u32> = cache.iter().map(|entry| *entry).collect();
    keys.sort_unstable();
    assert_eq!(keys, (0..1000).filter(|key| key % 3 == 0).collect::<Vec<_>>());
    assert_eq!((cache.len(), cache.stats().removed), (334, 666));
    // A version that came while the old one was looked at stays.
    cache.retain(|key, value| {
        cache.insert(*key, value + 1);
        false
    });
    assert_eq!(cache.len(), 334);
}
