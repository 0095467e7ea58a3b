//! When entries expire, by a clock that stands still until told otherwise.

use dogpile::time::{Clock, Instant, ManualClock};
use dogpile::{Cache, CacheBuilder, Handle, InsertOptions, Inserted, RemovalCause};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const NS: Duration = Duration::from_nanos(1);

fn timed() -> (CacheBuilder<u32, u32>, ManualClock) {
    let clock = ManualClock::new();
    clock.advance(Duration::from_secs(100));
    (Cache::builder().clock(clock.clone()), clock)
}

type Gone = Arc<Mutex<Vec<(u32, RemovalCause)>>>;

fn logged(builder: CacheBuilder<u32, u32>) -> (Cache<u32, u32>, Gone) {
    let gone = Gone::default();
    let log = Arc::clone(&gone);
    let listener = move |entry: Handle<u32, u32>, cause| log.lock().unwrap().push((*entry.key(), cause));
    (builder.listener(listener).build().unwrap(), gone)
}

fn causes(gone: &Gone) -> Vec<(u32, RemovalCause)> {
    let mut causes = std::mem::take(&mut *gone.lock().unwrap());
    causes.sort_by_key(|(key, _)| *key);
    causes
}

/// H11: a deadline is exact to the nanosecond where the clock is; no grain of our own.
#[test]
fn h11_subsecond_times_are_exact() {
    let (builder, clock) = timed();
    let cache = builder.time_to_live(10 * MS).build().unwrap();
    cache.insert(1, 1);
    clock.advance(5 * MS);
    assert!(cache.get(&1).is_some(), "5 of 10 ms");
    clock.advance(5 * MS - NS);
    assert!(cache.get(&1).is_some(), "a nanosecond before its deadline");
    clock.advance(NS);
    assert!(cache.get(&1).is_none(), "at exactly its deadline");

    for span in [NS, 7 * NS, MS, 999 * MS, Duration::from_secs(86_400 * 365 * 40)] {
        cache.insert_with(2, 2, InsertOptions::new().ttl(span));
        clock.advance(span - NS);
        assert!(cache.contains_key(&2), "{span:?} is not over");
        clock.advance(NS);
        assert!(!cache.contains_key(&2), "{span:?} is over");
    }
    cache.insert_with(3, 3, InsertOptions::new().ttl(MS));
    clock.advance(2 * MS);
    assert!(cache.get(&3).is_none(), "2 of 1 ms");
}

/// H11: nobody sees an entry from its deadline on, by whatever question.
#[test]
fn h11_at_its_deadline_an_entry_is_gone_for_everyone() {
    let (builder, clock) = timed();
    let cache = builder.time_to_live(10 * MS).build().unwrap();
    cache.insert(1, 1);
    clock.advance(10 * MS);
    assert!(cache.get(&1).is_none() && cache.peek(&1).is_none() && !cache.contains_key(&1));
    assert!(cache.get_cloned(&1).is_none() && cache.get_handle(&1).is_none());
    let pin = cache.pin();
    assert!(cache.get_in(&1, &pin).is_none() && cache.get_multi(&[1], &pin).flatten().next().is_none());
    drop(pin);
    assert!(cache.iter().next().is_none() && cache.hottest(9).is_empty() && cache.coldest(9).is_empty());
    cache.compute(1, |old| {
        assert!(old.is_none(), "nor is it computed from");
        dogpile::Compute::Keep
    });
    cache.retain(|_, _| panic!("nor looked at by retain"));
    assert!(cache.remove_if(&1, |_, _| panic!("nor by remove_if")).is_none());
    cache.insert(1, 2);
    clock.advance(10 * MS);
    assert!(cache.remove(&1).is_none());
    assert!(!cache.touch(&1) && !cache.expire_in(&1, None) && !cache.expire_at(&1, None));
}

#[test]
fn h11_zero_has_expired_at_once_and_the_greatest_time_never() {
    let (builder, clock) = timed();
    let (cache, gone) = logged(builder.time_to_live(Duration::ZERO));
    assert!(cache.insert(1, 1).is_none(), "stored, for no time");
    assert!(cache.get(&1).is_none());
    cache.insert_with(2, 2, InsertOptions::new().ttl(Duration::MAX));
    cache.insert_with(3, 3, InsertOptions::new().ttl(Duration::from_nanos(u64::MAX - 1)));
    assert_eq!(cache.get(&2).unwrap().entry().expires_at(), None);
    clock.set(Instant::from_nanos(u64::MAX - 1));
    assert!(cache.contains_key(&2), "for ever");
    assert!(cache.expire_in(&2, Some(Duration::from_secs(1))), "past the end of time is the end of time");
    assert_eq!(cache.get(&2).unwrap().entry().expires_at(), None);
    cache.run_pending();
    assert_eq!(causes(&gone), [(1, RemovalCause::Expired)]);
    assert!(cache.expire_in(&3, Some(Duration::ZERO)));
    assert!(!cache.contains_key(&3));
}

/// An expired entry is no obstacle, whoever steps over it, and it leaves as expired, not as what stepped over it did.
#[test]
fn an_expired_entry_gives_way_and_is_reported_as_expired() {
    let (builder, clock) = timed();
    let (cache, gone) = logged(builder.max_entries(100).time_to_live(MS));
    let expired = [(1, RemovalCause::Expired)];
    for step in 0..6 {
        cache.insert(1, 1);
        clock.advance(MS);
        match step {
            0 => assert!(cache.insert_if_absent(1, 2).is_stored()),
            1 => assert!(matches!(cache.insert_with(1, 2, InsertOptions::new()), Inserted::Added)),
            2 => assert!(cache.insert(1, 2).is_none()),
            3 => assert!(cache.remove(&1).is_none()),
            4 => assert_eq!(cache.compute(1, |_| dogpile::Compute::Put(2)).as_deref(), Some(&2)),
            _ => cache.run_pending(),
        }
        assert_eq!(causes(&gone), expired, "in step {step}");
        if cache.remove(&1).is_some() {
            assert_eq!(causes(&gone), [(1, RemovalCause::Removed)]);
        }
    }
}

#[test]
fn where_room_is_needed_expired_entries_go_first_as_expired() {
    let (builder, clock) = timed();
    let (cache, gone) = logged(builder.max_entries(10).shards(NonZeroUsize::MIN));
    (0..10).for_each(|key| drop(cache.insert_with(key, key, InsertOptions::new().ttl(MS))));
    clock.advance(MS);
    (10..20).for_each(|key| drop(cache.insert(key, key)));
    let mut causes = causes(&gone);
    causes.sort_unstable_by_key(|(key, _)| *key);
    assert_eq!(causes, (0..10).map(|key| (key, RemovalCause::Expired)).collect::<Vec<_>>());
    assert_eq!((cache.len(), cache.stats().evicted, cache.stats().expired), (10, 0, 10));
}

/// Entries that nobody asks for leave by the writes that pass, without a thread: within as many writes as the table is
/// large, a few times over.
#[test]
fn expired_entries_leave_by_the_way() {
    let (builder, clock) = timed();
    let cache = builder.time_to_live(MS).shards(NonZeroUsize::MIN).build().unwrap();
    (0..2000).for_each(|key| drop(cache.insert(key, key)));
    clock.advance(MS);
    assert_eq!(cache.len(), 2000);
    for i in 0..20_000 {
        cache.insert_with(5000 + i % 64, i, InsertOptions::new().ttl(Duration::MAX));
    }
    assert_eq!(cache.len(), 64);
}

#[test]
fn idle_time_is_put_off_by_use_and_by_nothing_else() {
    let (builder, clock) = timed();
    let cache = builder.time_to_idle(32 * MS).build().unwrap();
    for key in 0..9 {
        cache.insert(key, key);
    }
    for _ in 0..3 {
        clock.advance(16 * MS);
        assert!(cache.get(&0).is_some());
        assert!(cache.get_handle(&1).is_some());
        let pin = cache.pin();
        assert!(cache.get_in(&2, &pin).is_some());
        assert_eq!(cache.get_multi(&[3], &pin).flatten().count(), 1);
        assert!(cache.touch(&4));
        // These leave no trace.
        let _ = (cache.peek(&5), cache.contains_key(&6), cache.iter().count(), cache.hottest(99));
        cache.expire_in(&7, Some(Duration::from_secs(9)));
    }
    let alive: Vec<u32> = (0..9).filter(|key| cache.contains_key(key)).collect();
    assert_eq!(alive, [0, 1, 2, 3, 4]);
    clock.advance(32 * MS);
    assert_eq!(cache.iter().count(), 0);
}

/// As documented: early by a 32nd at the most, late never.
#[test]
fn idle_time_ends_at_most_a_32nd_early_and_never_late() {
    let (builder, clock) = timed();
    let cache = builder.time_to_idle(320 * MS).build().unwrap();
    cache.insert(1, 1);
    for used in [0, 1, 9, 10, 11, 100, 309] {
        clock.advance(used * MS);
        assert!(cache.get(&1).is_some(), "after {used} ms");
        clock.advance(310 * MS - NS);
        assert!(cache.contains_key(&1), "310 of 320 ms after a use");
        clock.advance(10 * MS + NS);
        assert!(!cache.contains_key(&1), "320 of 320 ms");
        cache.insert(1, 1);
    }
}

#[test]
fn the_earlier_of_two_deadlines_counts() {
    let (builder, clock) = timed();
    let cache = builder.time_to_live(100 * MS).time_to_idle(30 * MS).build().unwrap();
    cache.insert(1, 1);
    cache.insert(2, 2);
    for _ in 0..4 {
        clock.advance(20 * MS);
        assert!(cache.get(&1).is_some(), "used in time");
    }
    assert!(cache.get(&2).is_none(), "idle");
    clock.advance(20 * MS);
    assert!(cache.get(&1).is_none(), "used all the while, and too old");
}

#[test]
fn values_may_say_how_long_they_live() {
    let clock = ManualClock::new();
    let cache = Cache::builder()
        .clock(clock.clone())
        .time_to_live(50 * MS)
        .expire_after(|key: &u32, value: &u32| (*key != 3).then(|| *value * MS))
        .build()
        .unwrap();
    cache.insert(1, 10);
    cache.insert(2, 0);
    cache.insert(3, 10);
    cache.insert_with(4, 10, InsertOptions::new().ttl(20 * MS));
    assert!(!cache.contains_key(&2), "zero");
    clock.advance(10 * MS);
    assert!(!cache.contains_key(&1), "what the value says goes before what the cache says");
    assert!(cache.contains_key(&3) && cache.contains_key(&4), "and what the call says before both");
    clock.advance(10 * MS);
    assert!(!cache.contains_key(&4));
    clock.advance(30 * MS);
    assert!(!cache.contains_key(&3), "it says nothing, so the cache does");
}

#[test]
fn deadlines_can_be_moved_while_an_entry_is_fresh() {
    let (builder, clock) = timed();
    let cache = builder.build().unwrap();
    cache.insert(1, 1);
    let now = clock.now();
    assert!(cache.expire_at(&1, Some(now.saturating_add(10 * MS))));
    clock.advance(9 * MS);
    assert!(cache.expire_in(&1, Some(5 * MS)));
    clock.advance(4 * MS);
    assert!(cache.contains_key(&1));
    assert!(cache.expire_in(&1, None));
    clock.advance(Duration::from_secs(1000));
    assert!(cache.contains_key(&1), "never");
    assert!(cache.expire_at(&1, Some(now)), "a deadline in the past");
    assert!(!cache.contains_key(&1));
    cache.insert(1, 1);
    assert!(cache.get(&1).unwrap().entry().expires_at().is_none(), "a newer version starts anew");
}

#[test]
fn missing_keys_have_no_deadlines() {
    let (builder, _clock) = timed();
    let cache = builder.time_to_live(MS).build().unwrap();
    assert!(!cache.touch(&1) && !cache.expire_in(&1, Some(MS)) && !cache.expire_at(&1, None));
    assert_eq!(cache.len(), 0, "and get none by being asked for");
    cache.insert(1, 1);
    cache.remove(&1);
    assert!(!cache.touch(&1) && !cache.expire_in(&1, None) && !cache.expire_at(&1, None));
}

#[test]
fn touching_starts_both_times_anew() {
    let (builder, clock) = timed();
    let cache = builder.time_to_live(20 * MS).time_to_idle(15 * MS).build().unwrap();
    cache.insert(1, 1);
    for _ in 0..10 {
        clock.advance(14 * MS);
        assert!(cache.touch(&1));
    }
    clock.advance(15 * MS);
    assert!(!cache.touch(&1));
}

/// Every way to give an entry a deadline lets the sweep find it, also where no entry had one before.
#[test]
fn whoever_gives_a_deadline_the_sweep_finds_it() {
    let forever = || InsertOptions::new().ttl(Duration::MAX);
    let ways: [fn(&Cache<u32, u32>); 3] = [
        |cache| assert!(cache.touch(&1)),
        |cache| assert!(cache.expire_in(&1, Some(10 * MS))),
        |cache| {
            let soon = cache.clock().now().saturating_add(10 * MS);
            assert!(cache.expire_at(&1, Some(soon)));
        },
    ];
    for (i, way) in ways.into_iter().enumerate() {
        let (builder, clock) = timed();
        let (cache, gone) = logged(builder.max_entries(1).time_to_live(10 * MS));
        cache.insert_with(1, 1, forever());
        way(&cache);
        clock.advance(10 * MS);
        assert!(!cache.contains_key(&1), "way {i}");
        cache.run_pending();
        assert_eq!((cache.len(), causes(&gone)), (0, vec![(1, RemovalCause::Expired)]), "way {i}");
        // And after a clear, which begins the books of a shard anew.
        cache.clear();
        cache.insert_with(1, 1, forever());
        way(&cache);
        clock.advance(10 * MS);
        cache.insert_with(2, 2, forever());
        assert_eq!(causes(&gone), [(1, RemovalCause::Expired)], "way {i}: expired, not evicted");
    }
}

/// A clock that goes backwards makes entries live longer, and nothing worse.
#[test]
fn a_clock_that_jumps_backwards_harms_nobody() {
    let (builder, clock) = timed();
    let cache = builder.max_entries(50).time_to_live(10 * MS).time_to_idle(8 * MS).build().unwrap();
    let instants = [100_000, 0, 50_000, 49_999, 50_010, 3, u64::MAX / 2_000_000, 0, 100_000];
    for (i, at) in instants.into_iter().enumerate() {
        clock.set(Instant::from_nanos(at * 1_000_000));
        for key in 0..100 {
            cache.insert(key, i as u32);
            assert_eq!(cache.get_cloned(&key), Some(i as u32));
            assert!(cache.touch(&key));
        }
        cache.run_pending();
        assert!(cache.len() <= 50);
    }
    clock.advance(10 * MS);
    cache.run_pending();
    assert_eq!(cache.len(), 0, "all put in at the last instant");
}

/// A clock whose cheap reading lags: deadlines come forward by its grain, so that nothing is served too late.
#[test]
fn a_coarse_clock_expires_early_and_never_late() {
    #[derive(Clone)]
    struct Coarse(ManualClock);
    impl Clock for Coarse {
        fn now(&self) -> Instant {
            let now = self.0.now().as_nanos();
            Instant::from_nanos(now - now % 4_000_000)
        }
        fn precise(&self) -> Instant {
            self.0.now()
        }
        fn grain(&self) -> Duration {
            4 * MS
        }
    }
    for offset in 0..9 {
        for ttl in [5, 10, 17] {
            let clock = ManualClock::new();
            clock.advance(100 * MS + offset * MS);
            let cache = Cache::builder().clock(Coarse(clock.clone())).time_to_live(ttl * MS).build().unwrap();
            cache.insert(1, 1);
            for elapsed in 1..=ttl {
                clock.advance(MS);
                let early = elapsed + 4 < ttl;
                assert!(cache.contains_key(&1) || !early, "{elapsed} of {ttl} ms, {offset}: too early");
                assert!(
                    !cache.contains_key(&1) || elapsed < ttl,
                    "{elapsed} of {ttl} ms, {offset}: too late"
                );
            }
        }
    }
}

/// The kernel's tick may come late, so that its clock lags by more than its resolution: 6 ms of 4 were seen.
#[test]
fn h11_zero_is_at_once_also_by_a_clock_that_lags_too_far() {
    struct Late(ManualClock);
    impl Clock for Late {
        fn now(&self) -> Instant {
            self.0.now().saturating_sub(6 * MS)
        }
        fn precise(&self) -> Instant {
            self.0.now()
        }
        fn grain(&self) -> Duration {
            4 * MS
        }
    }
    let clock = ManualClock::new();
    clock.advance(100 * MS);
    let cache = Cache::builder().clock(Late(clock.clone())).build().unwrap();
    cache.insert_with(1, 1, InsertOptions::new().ttl(Duration::ZERO));
    assert!(!cache.contains_key(&1), "stored for no time");
    cache.insert(1, 1);
    assert!(cache.expire_in(&1, Some(Duration::ZERO)));
    assert!(!cache.contains_key(&1), "nor is it put off");
    cache.insert_with(1, 1, InsertOptions::new().ttl(10 * MS));
    clock.advance(10 * MS);
    assert!(!cache.contains_key(&1), "and no later than by the same clock");
}

#[test]
fn real_clocks_agree_with_each_other() {
    use dogpile::time::{CoarseClock, PreciseClock};
    for _ in 0..1000 {
        let (coarse, precise) = (CoarseClock.now(), PreciseClock.now());
        assert!(coarse <= precise);
        assert!(PreciseClock.now() >= precise && CoarseClock.now() >= coarse);
    }
    let cache = Cache::builder().time_to_live(Duration::from_secs(3600)).build().unwrap();
    cache.insert(1, 1);
    assert!(cache.contains_key(&1));
    let at = cache.get(&1).unwrap().entry().expires_at().unwrap();
    let left = at.saturating_duration_since(cache.clock().now());
    assert!(left < Duration::from_secs(3605) && left > Duration::from_secs(3590), "{left:?}");
}
