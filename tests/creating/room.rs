//! Creations and the capacity: values that are not kept, entries that are made anew and should stay, entries that are none yet.

use super::*;
use crate::common::{Hold, Polled, Release, crowd, until, watch, while_held};
use dogpile::{Handle, RemovalCause};
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::thread;

fn bounded(entries: u64) -> (Cache<u32, u32>, ManualClock) {
    let builder = Cache::builder().max_entries(entries).shards(NonZeroUsize::MIN);
    timed(builder.policy(usual().build().unwrap()))
}

#[test]
fn a_value_that_is_not_kept_reaches_leader_and_waiters() {
    let _watch = watch();
    let nothing = || Cache::builder().max_entries(0);
    let light = || Cache::builder().max_weight(10).weigher(|_: &u32, value: &u32| *value);
    let weightless = || Cache::builder().max_weight(0).weigher(|_: &u32, _: &u32| 0);
    for builder in [nothing(), light(), weightless()] {
        let ((cache, _), calls) = (timed(builder.policy(usual().build().unwrap())), Calls::default());
        let lead = |hold: &Hold| {
            let hold = hold.clone();
            let make = calls.counts(move || {
                hold.here();
                Ok(11)
            });
            Verb::Try.ask(&cache, 7, &make)
        };
        let wait = |i: usize| VERBS[i].ask(&cache, 7, &calls.makes(Ok(3)));
        let (led, waited) = crowd(|| cache.stats().waits, lead, VERBS.len(), wait, || {});
        assert_eq!(led.unwrap(), Ok(11));
        for (verb, waited) in VERBS.into_iter().zip(waited) {
            assert_eq!(waited.unwrap(), Ok(11), "{verb:?}");
        }
        assert_eq!((calls.count(), cache.len(), cache.weight()), (1, 0, 0));
        assert!(!cache.key_is_locked(&7));
        let stats = cache.stats();
        assert_eq!((stats.refused, stats.refused_late_writes, stats.insertions), (1, 0, 0));
    }
}

/// As with `insert`: the old value is out of date, kept or not the new one.
#[test]
fn a_newer_value_that_is_too_heavy_takes_the_old_one_away() {
    let builder = Cache::builder().max_weight(10).weigher(|_: &u32, value: &u32| *value);
    let (cache, clock) = timed(builder.policy(usual().build().unwrap()));
    cache.insert(7, 10);
    clock.advance(FRESH);
    assert_eq!(*cache.get_or_create(&7, || 11), 11);
    assert_eq!((cache.len(), cache.weight()), (0, 0));
    assert_eq!(cache.explain(&7).to_string(), "missing: not in the cache");
}

#[test]
fn what_is_created_makes_room_as_what_is_put_in_does() {
    for verb in VERBS {
        let (cache, _) = bounded(10);
        for key in 0..100 {
            assert_eq!(verb.ask(&cache, key, &Calls::default().makes(Ok(key))), Ok(key));
            assert!(cache.len() <= 10, "{verb:?}");
        }
        assert_eq!((cache.len(), cache.stats().evicted, cache.stats().insertions), (10, 90, 100), "{verb:?}");
        let builder = Cache::builder().max_weight(100).weigher(|_: &u32, value: &u32| *value);
        let (cache, clock) = timed(builder.policy(usual().build().unwrap()));
        for key in 0..10 {
            verb.ask(&cache, key, &Calls::default().makes(Ok(10))).unwrap();
        }
        assert_eq!((cache.len(), cache.weight()), (10, 100), "{verb:?}");
        clock.advance(FRESH + STALE);
        verb.ask(&cache, 3, &Calls::default().makes(Ok(60))).unwrap();
        assert!(cache.weight() <= 100 && cache.get_cloned(&3) == Some(60), "{verb:?}");
    }
}

/// Creations that are held, each of its own key.
fn hold_all(cache: &Cache<u32, u32>, keys: &[u32], meanwhile: impl FnOnce()) -> Vec<u32> {
    let hold = Hold::default();
    let begun = AtomicUsize::new(0);
    thread::scope(|scope| {
        let _release = Release(&hold);
        let leaders: Vec<_> = keys
            .iter()
            .map(|key| {
                let (hold, begun) = (&hold, &begun);
                scope.spawn(move || {
                    *cache.get_or_create(key, || {
                        begun.fetch_add(1, SeqCst);
                        hold.here();
                        key + 1000
                    })
                })
            })
            .collect();
        until("all have begun", || begun.load(SeqCst) == keys.len());
        meanwhile();
        hold.go();
        leaders.into_iter().map(|leader| leader.join().unwrap()).collect()
    })
}

/// H4: the evictor passes by what is being made anew, as long as there is anything else.
#[test]
fn h4_an_entry_that_is_made_anew_is_not_evicted() {
    let _watch = watch();
    for busy in [1, 4, 15] {
        let (cache, clock) = bounded(16);
        (0..16).for_each(|key| _ = cache.insert(key, key));
        clock.advance(FRESH);
        let keys: Vec<u32> = (0..busy).collect();
        let led = hold_all(&cache, &keys, || {
            (100..400).for_each(|key| _ = cache.insert(key, key));
            assert!(keys.iter().all(|key| cache.key_is_locked(key)), "{busy} of 16 are where they were");
            assert_eq!(cache.len(), 16);
        });
        assert_eq!(led, keys.iter().map(|key| key + 1000).collect::<Vec<_>>());
        assert!(keys.iter().all(|key| cache.get_cloned(key) == Some(key + 1000)), "{busy}: none was in vain");
        assert_eq!(cache.stats().refused_late_writes, 0, "{busy}");
    }
}

/// The same where it stands in a queue with nothing else, and the others in another.
#[test]
fn h4_an_entry_that_is_made_anew_is_not_evicted_in_whatever_queue_it_stands() {
    let _watch = watch();
    let (cache, clock) = bounded(16);
    (0..16).for_each(|key| _ = cache.insert(key, key));
    // All that were used move to the main queue when room is needed.
    for _ in 0..3 {
        (0..16).for_each(|key| _ = cache.get(&key));
    }
    cache.insert(100, 100);
    cache.insert(101, 101);
    let newest = *[100, 101].iter().find(|key| cache.contains_key(key)).unwrap();
    clock.advance(FRESH);
    let led = hold_all(&cache, &[newest], || {
        // Far fewer than there are others to go.
        (200..203).for_each(|key| _ = cache.insert(key, key));
        assert!(cache.key_is_locked(&newest), "it is where it was");
    });
    assert_eq!((led, cache.get_cloned(&newest)), (vec![newest + 1000], Some(newest + 1000)));
}

/// And where nearly all are being made anew, and the few others stand in the small queue, below its share.
#[test]
fn h4_entries_that_are_made_anew_are_not_evicted_while_there_is_another() {
    let _watch = watch();
    let (cache, clock) = bounded(32);
    (0..32).for_each(|key| _ = cache.insert(key, key));
    for _ in 0..3 {
        (0..32).for_each(|key| _ = cache.get(&key));
    }
    cache.insert(100, 100);
    clock.advance(FRESH);
    let keys: Vec<u32> = (0..32).filter(|key| !cache.explain(key).to_string().contains("missing")).collect();
    assert_eq!(keys.len(), 31, "all but one of the used ones");
    hold_all(&cache, &keys, || {
        cache.insert(101, 101);
        assert_eq!(
            keys.iter().filter(|key| cache.key_is_locked(key)).count(),
            31,
            "100 is of no use to anybody"
        );
    });
}

/// M9: and if all are being made anew, one goes all the same: the cache keeps to its limit, and nobody spins.
#[test]
fn m9_where_all_are_made_anew_one_goes_all_the_same() {
    let _watch = watch();
    for capacity in [1, 2, 4, 16] {
        let (cache, clock) = bounded(capacity);
        (0..capacity as u32).for_each(|key| _ = cache.insert(key, key));
        clock.advance(FRESH);
        let keys: Vec<u32> = (0..capacity as u32).collect();
        let led = hold_all(&cache, &keys, || {
            cache.insert(100, 100);
            assert_eq!(cache.len(), capacity);
            assert_eq!(cache.get_cloned(&100), Some(100), "the newcomer is in");
        });
        assert_eq!(led, keys.iter().map(|key| key + 1000).collect::<Vec<_>>(), "all get what they made");
        assert_eq!(cache.stats().refused_late_writes, 1, "of {capacity} one was in vain");
        assert_eq!(cache.len(), capacity);
    }
}

/// M9: creations that nobody will ever end, of first values too, do not fill the cache.
#[test]
fn m9_creations_that_are_forgotten_do_not_hold_room() {
    let _watch = watch();
    let (cache, clock) = bounded(8);
    (0..8).for_each(|key| _ = cache.insert(key, key));
    clock.advance(FRESH);
    for key in &*Box::leak(Box::new([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])) {
        let mut forgotten = Polled::new(cache.get_or_create_async(key, std::future::pending()));
        assert!(forgotten.poll().is_none() && cache.key_is_locked(key));
        std::mem::forget(forgotten);
    }
    (100..300).for_each(|key| _ = cache.insert(key, key));
    assert_eq!(cache.len(), 8);
    assert!(cache.contains_key(&299), "the newest is in");
    // A call takes such a first value's place away.
    assert!(cache.key_is_locked(&12));
    cache.remove(&12);
    assert!(!cache.key_is_locked(&12));
    assert_eq!(*cache.get_or_create(&12, || 1), 1);
}

/// A first value that is being made is no entry yet.
#[test]
fn what_is_being_made_for_the_first_time_is_invisible() {
    let _watch = watch();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    let listener =
        move |entry: Handle<u32, u32>, cause: RemovalCause| log.lock().unwrap().push((*entry.key(), cause));
    let builder = Cache::builder().max_entries(4).policy(usual().build().unwrap()).listener(listener);
    let (cache, _) = timed(builder);
    (0..4).for_each(|key| _ = cache.insert(key, key));
    let keys: Vec<u32> = (10..20).collect();
    hold_all(&cache, &keys, || {
        assert_eq!(
            (cache.len(), cache.weight(), cache.is_empty()),
            (4, 4, false),
            "nor does it take any room"
        );
        assert_eq!(cache.iter().count(), 4);
        assert_eq!((cache.hottest(99).len(), cache.coldest(99).len()), (4, 4));
        for key in &keys {
            assert!(cache.get(key).is_none() && cache.peek(key).is_none() && !cache.contains_key(key));
            assert!(cache.get_handle(key).is_none() && !cache.touch(key) && !cache.expire_in(key, None));
        }
        let pin = cache.pin();
        assert_eq!(cache.get_multi(&keys, &pin).flatten().count(), 0);
        drop(pin);
        cache.retain(|key, _| *key < 10);
        cache.run_pending();
        assert_eq!(format!("{cache:?}"), format!("{:?}", cache.clone()));
        assert!(format!("{cache:?}").contains("len: 4"));
        #[cfg(feature = "serde")]
        assert_eq!(cache.snapshot().len(), 4);
        assert!(heard.lock().unwrap().is_empty());
    });
    let heard = heard.lock().unwrap();
    assert!(heard.iter().all(|(_, cause)| *cause == RemovalCause::Evicted), "{heard:?}");
    assert_eq!((heard.len(), cache.len()), (10, 4));
}

/// The table grows while values are being made for the first time: they find their places again.
#[test]
fn creations_survive_the_growth_of_the_table() {
    let _watch = watch();
    let (cache, _) = timed(Cache::builder().shards(NonZeroUsize::MIN).policy(usual().build().unwrap()));
    let keys: Vec<u32> = (0..20).collect();
    let led = hold_all(&cache, &keys, || {
        (1000..20_000).for_each(|key| _ = cache.insert(key, key));
        assert!(keys.iter().all(|key| cache.key_is_locked(key)));
    });
    assert_eq!(led.len(), 20);
    assert!(keys.iter().all(|key| cache.get_cloned(key) == Some(key + 1000)));
    assert_eq!((cache.len(), cache.stats().refused_late_writes), (19_020, 0));
}

/// A stale entry whose time is over altogether is not swept out while it is made anew.
#[test]
fn the_sweep_passes_by_what_is_made_anew() {
    let _watch = watch();
    let (cache, clock) = bounded(16);
    cache.insert(7, 1);
    clock.advance(FRESH);
    let lead = |hold: &Hold| {
        *cache.get_or_create(&7, || {
            hold.here();
            2
        })
    };
    while_held(lead, || {
        clock.advance(STALE);
        cache.run_pending();
        assert!(cache.key_is_locked(&7));
    });
    assert_eq!((cache.get_cloned(&7), cache.stats().refused_late_writes), (Some(2), 0));
}

/// A batch uses what it finds as single reads do.
#[test]
fn hits_of_a_batch_are_uses() {
    for verb in VERBS {
        let builder = Cache::builder().max_entries(10).time_to_idle(20 * SECOND);
        let (cache, clock) = timed(builder);
        (0..10).for_each(|key| _ = cache.insert(key, 1));
        for _ in 0..3 {
            clock.advance(10 * SECOND);
            let found = verb.ask(&cache, 7, &Calls::default().makes(Ok(2)));
            assert_eq!(found, Ok(1), "{verb:?}: it was in use all the while");
        }
        assert_eq!(cache.stats().hits, 3, "{verb:?}");
        assert_eq!(*cache.hottest(1)[0].key(), 7, "{verb:?}");
    }
}
