//! What bounds a cache: exactly so many entries, exactly so much weight, whatever the shards, whoever writes.

use dogpile::{BuildError, Cache, Handle, InsertOptions, Inserted, RemovalCause};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

fn shards(shards: usize) -> NonZeroUsize {
    NonZeroUsize::new(shards).unwrap()
}

/// H12: users' first test. Budgets belong to shards, keys spread unevenly, and yet nothing is evicted before the cache is
/// full to the last entry.
#[test]
fn h12_exactly_the_capacity_evicts_nothing() {
    for capacity in [1, 2, 3, 7, 16, 64, 100, 1000, 4096, 5000] {
        for count in [1, 2, 4, 16, 64, 256] {
            let cache = Cache::builder().max_entries(capacity).shards(shards(count)).build().unwrap();
            for key in 0..capacity {
                assert!(cache.insert(key, key).is_none());
            }
            assert_eq!(cache.len(), capacity, "of {capacity} in {count} shards");
            assert_eq!(cache.stats().evicted, 0, "of {capacity} in {count} shards");
            assert!((0..capacity).all(|key| cache.contains_key(&key)));
            // One more evicts one, not more.
            cache.insert(capacity, 0);
            assert_eq!(
                (cache.len(), cache.stats().evicted),
                (capacity, 1),
                "of {capacity} in {count} shards"
            );
            assert!(cache.contains_key(&capacity), "and not the newcomer");
        }
    }
}

/// H12: four threads that fill a cache together, exactly.
#[test]
fn h12_four_threads_fill_a_cache_exactly() {
    for round in 0..60 {
        for (capacity, count) in [(4, 1), (16, 4), (37, 16), (400, 64), (1000, 4)] {
            let cache = Cache::builder().max_entries(capacity).shards(shards(count)).build().unwrap();
            thread::scope(|scope| {
                for thread in 0..4 {
                    let cache = &cache;
                    scope.spawn(move || {
                        for key in (0..capacity).filter(|key| key % 4 == thread) {
                            cache.insert((round, key), key);
                        }
                    });
                }
            });
            let evicted = cache.stats().evicted;
            assert_eq!(
                (cache.len(), evicted),
                (capacity, 0),
                "of {capacity} in {count} shards, round {round}"
            );
        }
    }
}

/// H12: nor does it evict while entries come and go below the limit, and budget wanders between the shards.
#[test]
fn h12_below_the_limit_nothing_is_evicted() {
    for count in [1, 4, 64] {
        let cache = Cache::builder().max_entries(64).shards(shards(count)).build().unwrap();
        // Always 60 to 64 entries, never the same.
        for key in 0..20_000_u64 {
            cache.insert(key, key);
            if key >= 63 {
                assert!(cache.remove(&(key - 63)).is_some(), "{key} in {count} shards");
            }
        }
        assert_eq!(cache.stats().evicted, 0, "in {count} shards");
    }
}

/// H12: by weight, too: to the last unit.
#[test]
fn h12_weights_sum_up_to_the_last_unit() {
    for count in [1, 4, 16] {
        for own in [1_u32, 3, 10, 50] {
            let capacity = u64::from(own) * 40;
            let cache = Cache::builder()
                .max_weight(capacity)
                .weigher(|_: &u32, weight: &u32| *weight)
                .shards(shards(count))
                .build()
                .unwrap();
            (0..40).for_each(|key| drop(cache.insert(key, own)));
            assert_eq!((cache.len(), cache.weight(), cache.stats().evicted), (40, capacity, 0));
            // Heavier by one in place: something must go, and that is enough.
            cache.insert(0, own + 1);
            assert!(cache.weight() <= capacity && cache.stats().evicted <= 1 + 1 / u64::from(own));
        }
    }
}

/// H12: what is heavier than a shard's share is no matter; what is heavier than the whole is refused.
#[test]
fn h12_an_entry_heavier_than_a_shards_share_is_kept() {
    for count in [1, 4, 64] {
        let cache = Cache::builder()
            .max_weight(1000)
            .weigher(|_: &u32, weight: &u32| *weight)
            .shards(shards(count))
            .build()
            .unwrap();
        (0..1000).for_each(|key| drop(cache.insert(key, 1)));
        assert!(cache.insert(5000, 900).is_none());
        assert_eq!(cache.get_cloned(&5000), Some(900), "in {count} shards");
        assert!(cache.weight() <= 1000);
        assert!(cache.len() >= 51, "100 of the light ones have room, most of them stay: {}", cache.len());
        assert!(cache.insert(5001, 1000).is_none());
        assert_eq!((cache.len(), cache.weight()), (1, 1000), "all others must go for it");
        assert_eq!(cache.get_cloned(&5001), Some(1000));

        let refused = cache.insert(5001, 1001).expect("heavier than the cache");
        assert_eq!(*refused, 1001);
        assert!(cache.is_empty(), "its older version is out of date");
        assert_eq!(cache.stats().refused, 1);
    }
}

/// A version that grows in place does not push itself out while there is another.
#[test]
fn a_heavier_version_is_not_its_own_victim() {
    for count in [1, 4] {
        let cache = Cache::builder()
            .max_weight(60)
            .weigher(|_: &u32, weight: &u32| *weight)
            .shards(shards(count))
            .build()
            .unwrap();
        // The oldest is the first that the policy would take.
        (0..15).for_each(|key| drop(cache.insert(key, 4)));
        for key in 0..15 {
            assert!(cache.insert(key, 9).is_none());
            assert_eq!(cache.get_cloned(&key), Some(9), "{key} in {count} shards");
            assert!(cache.weight() <= 60);
        }
        // All the others are hot, and must go all the same.
        for heavy in [10, 30, 60] {
            for _ in 0..4 {
                let hot: Vec<u32> = cache.iter().map(|entry| *entry.key()).collect();
                hot.iter().for_each(|key| assert!(cache.get(key).is_some()));
            }
            cache.compute(14, |_| dogpile::Compute::Put(heavy));
            assert_eq!(cache.get_cloned(&14), Some(heavy), "in {count} shards");
            assert!(cache.weight() <= 60);
        }
        assert_eq!(cache.len(), 1);
    }
}

/// H3: of many threads that go over the limit together each makes room for one.
#[test]
fn h3_exactly_as_many_are_evicted_as_came() {
    for count in [1, 4] {
        let cache = Cache::builder().max_entries(16).shards(shards(count)).build().unwrap();
        thread::scope(|scope| {
            for thread in 0..8 {
                let cache = &cache;
                scope.spawn(move || (0..1000).for_each(|i| drop(cache.insert(thread * 10_000 + i, i))));
            }
        });
        assert_eq!((cache.len(), cache.stats().evicted), (16, 8000 - 16), "in {count} shards");
    }
}

/// H3: a count is raised before anybody can lower it, so nobody ever reads a number from below zero.
#[test]
fn h3_counts_never_wrap() {
    let cache = Cache::builder()
        .max_weight(1000)
        .weigher(|_: &u32, weight: &u32| *weight)
        .shards(shards(1))
        .build()
        .unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (cache, stop) = (&cache, &stop);
        let writers: Vec<_> = (0..3_u32)
            .map(|thread| {
                scope.spawn(move || {
                    for i in 0..5000 {
                        let key = (i + thread) % 4;
                        match i % 3 {
                            0 => drop(cache.insert(key, 1)),
                            1 => drop(cache.insert(key, 50)),
                            _ => drop(cache.remove(&key)),
                        }
                    }
                })
            })
            .collect();
        scope.spawn(move || {
            while !stop.load(SeqCst) {
                let (len, weight) = (cache.len(), cache.weight());
                // Each writer may have raised a count for what it did not publish yet.
                assert!(len <= 4 + 3 && weight <= (4 + 3) * 50, "{len} entries, {weight}");
            }
        });
        let done: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        stop.store(true, SeqCst);
        assert!(done.iter().all(Result::is_ok));
    });
    assert_eq!(cache.stats().evicted, 0);
    let weight: u64 = cache.iter().map(|entry| u64::from(entry.entry().weight())).sum();
    assert_eq!((cache.len(), cache.weight()), (cache.iter().count() as u64, weight));
}

#[test]
fn a_capacity_of_zero_keeps_nothing_and_returns_it() {
    let cache = Cache::new(0);
    for key in 0..100 {
        assert_eq!(*cache.insert(key, key).expect("comes back"), key);
        assert!(matches!(cache.insert_if_absent(key, key), Inserted::Refused(back) if *back == key));
        assert_eq!(cache.compute(key, |_| dogpile::Compute::Put(7)).as_deref(), Some(&7));
        assert!(cache.get(&key).is_none());
    }
    assert_eq!((cache.len(), cache.weight(), cache.stats().refused), (0, 0, 300));
    let weightless = Cache::builder().max_weight(0).weigher(|_: &u32, _: &u32| 0).build().unwrap();
    assert!(weightless.insert(1, 1).is_some(), "what weighs nothing weighs 1");
}

#[test]
fn a_capacity_of_one_keeps_the_last() {
    for count in [1, 16] {
        let cache = Cache::builder().max_entries(1).shards(shards(count)).build().unwrap();
        for key in 0..1000 {
            cache.insert(key, key);
            assert_eq!((cache.len(), cache.get_cloned(&key)), (1, Some(key)));
            assert!(cache.get_cloned(&key).is_some(), "also when it is hot");
        }
        assert_eq!(cache.stats().evicted, 999);
    }
}

#[test]
fn the_greatest_capacities_are_no_limit() {
    let cache = Cache::new(u64::MAX);
    (0..10_000).for_each(|key| drop(cache.insert(key, key)));
    assert_eq!((cache.len(), cache.stats().evicted, cache.capacity()), (10_000, 0, Some(u64::MAX)));
    let heavy = Cache::builder().max_weight(u64::MAX).weigher(|_: &u32, _: &u32| u32::MAX).build().unwrap();
    (0..1000).for_each(|key| drop(heavy.insert(key, key)));
    assert_eq!((heavy.len(), heavy.weight()), (1000, 1000 * u64::from(u32::MAX)));
    heavy.resize(u64::from(u32::MAX) * 10);
    assert_eq!((heavy.len(), heavy.weight()), (10, 10 * u64::from(u32::MAX)));
    heavy.resize(u64::MAX);
    (0..1000).for_each(|key| drop(heavy.insert(key, key)));
    assert_eq!(heavy.len(), 1000);
}

#[test]
fn weights_of_nothing_count_as_one_and_the_greatest_is_refused() {
    let cache = Cache::builder().max_weight(10).weigher(|_: &u32, weight: &u32| *weight).build().unwrap();
    (0..100).for_each(|key| drop(cache.insert(key, 0)));
    assert_eq!((cache.len(), cache.weight()), (10, 10), "so their number is bounded");
    assert!(cache.insert(1, u32::MAX).is_some());
    let own = cache.insert_with(2, 0, InsertOptions::new().weight(0));
    assert!(own.is_stored());
    assert_eq!(cache.get(&2).unwrap().entry().weight(), 1);
    assert!(matches!(cache.insert_with(3, 0, InsertOptions::new().weight(11)), Inserted::Refused(_)));
    assert!(cache.weight() <= 10);
}

#[test]
fn weights_are_ignored_where_entries_are_counted() {
    let cache = Cache::new(3);
    for key in 0..3 {
        assert!(cache.insert_with(key, key, InsertOptions::new().weight(1000)).is_stored());
    }
    assert_eq!((cache.len(), cache.weight(), cache.stats().evicted), (3, 3, 0));
}

#[test]
fn resizing_keeps_to_the_limit_at_once() {
    for count in [1, 4, 16] {
        let cache = Cache::builder().max_entries(100).shards(shards(count)).build().unwrap();
        for capacity in [100, 50, 51, 0, 1, 7, 100, 3, u64::MAX, 20] {
            cache.resize(capacity);
            assert_eq!(cache.capacity(), Some(capacity));
            assert!(cache.len() <= capacity, "{} of {capacity} in {count} shards", cache.len());
            (0..150).for_each(|key| drop(cache.insert(key, key)));
            assert_eq!(cache.len(), capacity.min(150), "in {count} shards");
        }
        // Emptied before it shrinks, and before it grows.
        for capacity in [0, 40, 0, 10] {
            cache.clear();
            cache.resize(capacity);
            (0..150).for_each(|key| drop(cache.insert(key, key)));
            assert_eq!(cache.len(), capacity, "in {count} shards");
        }
    }
    let unbounded = Cache::unbounded();
    unbounded.insert(1, 1);
    unbounded.resize(0);
    assert_eq!((unbounded.len(), unbounded.capacity()), (1, None));
}

#[test]
fn an_eviction_is_told_with_its_cause() {
    let gone = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&gone);
    let cache = Cache::builder()
        .max_entries(10)
        .listener(move |entry: Handle<u32, u32>, cause| log.lock().unwrap().push((*entry.key(), cause)))
        .build()
        .unwrap();
    (0..100).for_each(|key| drop(cache.insert(key, key)));
    let gone = gone.lock().unwrap();
    assert!(gone.iter().all(|(key, cause)| *cause == RemovalCause::Evicted && !cache.contains_key(key)));
    assert_eq!(gone.len(), 90);
}

/// A hint of room is only a hint: no number may be too great for it.
#[test]
fn initial_capacities_may_be_anything() {
    for entries in [0, 1, 5, 1000, 100_000] {
        let cache = Cache::builder().initial_capacity(entries).build().unwrap();
        (0..2000).for_each(|key| drop(cache.insert(key, key)));
        assert_eq!(cache.len(), 2000);
    }
    for entries in [usize::MAX, usize::MAX / 2 + 2, 1 << 62, 1 << 60] {
        let cache = Cache::builder().initial_capacity(entries).max_entries(10).build().unwrap();
        (0..20).for_each(|key| drop(cache.insert(key, key)));
        assert_eq!(cache.len(), 10);
    }
}

#[test]
fn settings_that_contradict_each_other_are_named() {
    let error = |builder: dogpile::CacheBuilder<u32, u32>| builder.build().expect_err("a contradiction");
    assert_eq!(error(Cache::builder().max_entries(1).max_weight(1)), BuildError::TwoLimits);
    assert_eq!(error(Cache::builder().max_weight(1)), BuildError::WeightWithoutWeigher);
    assert_eq!(error(Cache::builder().weigher(|_, _| 1)), BuildError::WeigherWithoutWeight);
    assert!(Cache::<u32, u32>::builder().shards(shards(usize::MAX)).build().unwrap().shards() <= 256);
}

/// Which entries stay is worth something only if readers and writers tell the policy the same time. Requests as they come:
/// loops over more than there is room for, keys in use, and keys that come back once, soon.
#[test]
fn what_will_be_asked_for_again_stays() {
    let hits = |room: u64, requests: &mut dyn Iterator<Item = u64>| {
        let cache = Cache::builder().max_entries(room).shards(shards(1)).build().unwrap();
        let mut ask = |key: u64| {
            let found = cache.get(&key).is_some();
            if !found {
                cache.insert(key, key);
            }
            u64::from(found)
        };
        requests.map(&mut ask).sum::<u64>()
    };
    for room in [64, 100, 1000] {
        // The best there is keeps as many as there is room for, but for one that passes through.
        let found = hits(room, &mut (0..300 * room).map(|i| i % (room * 3 / 2)));
        let best = 300 * room * 2 / 3;
        assert!(found * 100 >= best * 90, "a loop at {room}: {found} of {best}");
        // Keys in use, each asked for once in a while, beside twice as many that are never asked for again.
        let in_use = room * 4 / 5;
        let found =
            hits(room, &mut (0..300 * room).map(|i| if i % 3 == 0 { i / 3 % in_use } else { room + i }));
        assert!(found * 100 >= 100 * room * 85, "a scan at {room}: {found} of {}", 100 * room);
        // Two loops in turn, ten rounds each: what was in use gives way.
        let found = hits(room, &mut (0..300 * room).map(|i| i % in_use + i / (30 * room) % 2 * 10_000));
        assert!(found * 100 >= 300 * room * 75, "two loops at {room}: {found} of {}", 300 * room);
        // Each asked for again after a tenth of the room in others.
        let lag = room / 10;
        let bursts = (0..150 * room).flat_map(|i| [i + 1_000_000, (i + 1_000_000).saturating_sub(lag)]);
        let found = hits(room, &mut { bursts });
        assert!(found * 100 >= 150 * room * 80, "bursts at {room}: {found} of {}", 150 * room);
    }
}

/// H9: where entries only come and nothing goes, the tables that were too small are given back all the same.
#[test]
fn h9_outgrown_tables_go_while_the_cache_grows() {
    let put: [fn(&Cache<u64, u64>, u64); 2] = [
        |cache, key| _ = cache.insert(key, key),
        |cache, key| _ = cache.compute(key, |_| dogpile::Compute::Put(key)),
    ];
    for put in put {
        let cache = Cache::builder().shards(shards(1)).build().unwrap();
        (0..200_000).for_each(|key| put(&cache, key));
        // Other tests of this process may be in the way for moments.
        let more = (200_000..).take(2_000_000).find(|key| {
            put(&cache, *key);
            cache.stats().pending_reclaim == 0
        });
        assert!(more.is_some(), "{} wait to be freed", cache.stats().pending_reclaim);
    }
}
