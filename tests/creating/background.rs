//! Creators that may outlive their caller: loaders and the `_detached` forms, by runners of all kinds.

use super::*;
use crate::common::{AtOnce, Door, Hold, Kept, Refuses, crowd, panics, until, watch, while_held};
use dogpile::gate::{AsyncJob, Job, Runner};
use dogpile::{Early, Freshness};
use std::sync::Mutex;
use std::thread;

const DETACHED: [Verb; 4] = [Verb::Detached, Verb::TryDetached, Verb::DetachedAsync, Verb::TryDetachedAsync];

/// A cache that has 1 under the key 7, stale.
fn stale(builder: PolicyBuilder<u32>) -> (Cache<u32, u32>, ManualClock) {
    let (cache, clock) = under(builder);
    cache.insert(7, 1);
    clock.advance(FRESH);
    (cache, clock)
}

#[test]
fn a_job_is_handed_on_once_and_the_others_are_served_meanwhile() {
    for verb in DETACHED {
        let (kept, calls) = (Kept::default(), Calls::default());
        let (cache, _) = stale(usual().runner(kept.clone()));
        for _ in 0..3 {
            for other in VERBS.into_iter().chain([verb]).rev() {
                assert_eq!(other.ask(&cache, 7, &calls.makes(Ok(2))), Ok(1), "{verb:?}, {other:?}");
            }
        }
        assert_eq!((kept.len(), calls.count()), (1, 0), "{verb:?}");
        assert!(cache.key_is_locked(&7));
        kept.run();
        assert_eq!((calls.count(), cache.get_cloned(&7)), (1, Some(2)), "{verb:?}");
        let stale_served = 3 * (VERBS.len() as u64 + 1);
        assert_eq!(counts(&cache), Counts { leads: 1, creations: 1, stale_served, ..NOTHING }, "{verb:?}");
    }
}

/// Where there is nothing to return meanwhile the caller makes it himself.
#[test]
fn without_a_stale_value_nothing_is_handed_on() {
    for verb in DETACHED {
        let kept = Kept::default();
        let (cache, _) = under(usual().runner(kept.clone()));
        assert_eq!(verb.ask(&cache, 7, &Calls::default().makes(Ok(2))), Ok(2), "{verb:?}");
        assert_eq!(kept.len(), 0, "{verb:?}");
    }
}

/// The runner that is there if nobody says anything: a thread for each.
#[test]
fn by_default_each_job_has_a_thread_of_its_own() {
    let _watch = watch();
    for verb in DETACHED {
        let (cache, _) = stale(usual());
        let (caller, hold) = (thread::current().id(), Hold::default());
        let in_job = hold.clone();
        let make = Calls::default().counts(move || {
            assert_ne!(thread::current().id(), caller);
            in_job.here();
            Ok(2)
        });
        assert_eq!(verb.ask(&cache, 7, &make), Ok(1), "{verb:?}: at once");
        hold.begun();
        assert_eq!(verb.ask(&cache, 7, &make), Ok(1), "{verb:?}");
        hold.go();
        until("the background is ready", || cache.get_cloned(&7) == Some(2));
    }
}

/// A job outlives the caller, and every handle of the cache that the test has.
#[test]
fn a_job_keeps_its_cache_alive() {
    let kept = Kept::default();
    let (cache, _) = stale(usual().runner(kept.clone()));
    let calls = Calls::default();
    assert_eq!(Verb::Detached.ask(&cache, 7, &calls.makes(Ok(2))), Ok(1));
    drop(cache);
    assert_eq!((kept.run(), calls.count()), (1, 1));
}

#[test]
fn a_runner_may_drop_its_jobs() {
    for verb in DETACHED {
        let refuses = Refuses::default();
        let (cache, _) = stale(usual().runner(refuses.clone()));
        for attempt in 1..=3 {
            assert_eq!(verb.ask(&cache, 7, &Calls::default().makes(Ok(2))), Ok(1), "{verb:?}");
            assert!(!cache.key_is_locked(&7), "{verb:?}: it is given up");
            assert_eq!(refuses.0.load(SeqCst), attempt, "{verb:?}: and tried again");
        }
        let expected = Counts { leads: 3, failures: 3, stale_served: 3, ..NOTHING };
        assert_eq!(counts(&cache), expected, "{verb:?}");
        // Or keep them for a while, and drop them then.
        let kept = Kept::default();
        let (cache, _) = stale(usual().runner(kept.clone()));
        assert_eq!(verb.ask(&cache, 7, &Calls::default().makes(Ok(2))), Ok(1), "{verb:?}");
        assert!(cache.key_is_locked(&7));
        assert_eq!(kept.forget_all(), 1);
        assert!(!cache.key_is_locked(&7), "{verb:?}");
        assert_eq!(*cache.get_or_create(&7, || 3), 3, "{verb:?}");
    }
}

/// Who waits for a job that is dropped leads in its place.
#[test]
fn a_waiter_takes_over_a_job_that_is_dropped() {
    let _watch = watch();
    for verb in DETACHED {
        let kept = Kept::default();
        let (cache, _) = stale(usual().runner(kept.clone()));
        let fresh_only = policy().fresh(FRESH).freshness(Freshness::WaitFresh).build().unwrap();
        assert_eq!(verb.ask(&cache, 7, &Calls::default().makes(Ok(2))), Ok(1));
        thread::scope(|scope| {
            let waits = scope.spawn(|| *cache.with(&fresh_only).get_or_create(&7, || 3));
            until("it waits", || cache.stats().waits == 1);
            assert_eq!(kept.forget_all(), 1);
            assert_eq!(waits.join().unwrap(), 3, "{verb:?}");
        });
        let expected = Counts {
            leads: 2,
            creations: 1,
            failures: 1,
            waits: 1,
            hand_overs: 1,
            stale_served: 1,
            ..NOTHING
        };
        assert_eq!(counts(&cache), expected, "{verb:?}");
    }
}

/// A runner that panics drops the job it was given; its caller hears of it, and nothing stays locked.
#[test]
fn a_runner_may_panic() {
    struct Panics;
    impl Runner for Panics {
        fn run(&self, _job: Job) {
            panic!("no thread")
        }
        fn run_async(&self, _job: AsyncJob) {
            panic!("no thread")
        }
    }
    for verb in DETACHED {
        let (cache, _) = stale(usual().runner(Panics));
        assert_eq!(panics(|| verb.ask(&cache, 7, &Calls::default().makes(Ok(2)))), "no thread", "{verb:?}");
        assert!(!cache.key_is_locked(&7), "{verb:?}");
        assert_eq!(*cache.get_or_create(&7, || 3), 3, "{verb:?}");
    }
}

#[test]
fn a_creator_may_panic_in_the_background() {
    for verb in DETACHED {
        let kept = Kept::default();
        let (cache, _) = stale(usual().runner(kept.clone()));
        assert_eq!(verb.ask(&cache, 7, &Calls::default().counts(|| panic!("no"))), Ok(1), "{verb:?}");
        assert_eq!(panics(|| kept.run()), "no", "{verb:?}: on the runner's thread");
        assert!(!cache.key_is_locked(&7), "{verb:?}");
        assert_eq!(counts(&cache), Counts { leads: 1, failures: 1, stale_served: 1, ..NOTHING }, "{verb:?}");
        assert_eq!(verb.ask(&cache, 7, &Calls::default().makes(Ok(2))), Ok(1), "{verb:?}");
        assert_eq!((kept.run(), cache.get_cloned(&7)), (1, Some(2)), "{verb:?}");
    }
    // On a thread of its own nobody hears of it.
    let _watch = watch();
    let (cache, _) = stale(usual());
    assert_eq!(Verb::Detached.ask(&cache, 7, &Calls::default().counts(|| panic!("no"))), Ok(1));
    until("it is given up", || !cache.key_is_locked(&7));
}

/// The lead is known where the job runs: not on the thread of whoever handed it on.
#[test]
fn a_job_may_not_ask_for_its_own_fresh_value_and_its_caller_may() {
    let kept = Kept::default();
    let (cache, _) = stale(usual().runner(kept.clone()));
    let fresh_only = Arc::new(policy().freshness(Freshness::WaitFresh).wait(Duration::ZERO).build().unwrap());
    let (within, by) = (cache.clone(), Arc::clone(&fresh_only));
    let make = Calls::default().counts(move || {
        let own = Verb::Try.ask_by(&by, &within, 7, &Calls::default().makes(Ok(9)));
        assert_eq!(own, Err(CreateError::Reentrant));
        Ok(2)
    });
    assert_eq!(Verb::Detached.ask(&cache, 7, &make), Ok(1));
    let caller = Verb::Try.ask_by(&fresh_only, &cache, 7, &Calls::default().makes(Ok(9)));
    assert_eq!(caller, Err(CreateError::TimedOut), "it leads nothing");
    assert_eq!((kept.run(), cache.get_cloned(&7)), (1, Some(2)));
}

#[test]
fn newer_state_wins_over_a_job() {
    for verb in DETACHED {
        type Write = fn(&Cache<u32, u32>);
        let writes: [(Write, Option<u32>); 3] = [
            (|cache| _ = cache.insert(7, 5), Some(5)),
            (|cache| _ = cache.remove(&7), None),
            (|cache| cache.clear(), None),
        ];
        for (write, expected) in writes {
            let kept = Kept::default();
            let (cache, _) = stale(usual().runner(kept.clone()));
            assert_eq!(verb.ask(&cache, 7, &Calls::default().makes(Ok(2))), Ok(1));
            write(&cache);
            assert_eq!((kept.run(), cache.get_cloned(&7)), (1, expected), "{verb:?}");
            assert_eq!(cache.stats().refused_late_writes, 1, "{verb:?}");
        }
    }
}

// soft_timeout

#[test]
fn soft_timeout_waits_a_little_for_the_newer_value() {
    let _watch = watch();
    for verb in DETACHED {
        // It comes in time.
        let (cache, _) = stale(usual().soft_timeout(Duration::MAX).runner(AtOnce));
        assert_eq!(verb.ask(&cache, 7, &Calls::default().makes(Ok(2))), Ok(2), "{verb:?}");
        assert_eq!(counts(&cache), Counts { leads: 1, creations: 1, ..NOTHING }, "{verb:?}: no stale one");
        // From another thread, too.
        let (cache, _) = stale(usual().soft_timeout(Duration::MAX));
        assert_eq!(verb.ask(&cache, 7, &Calls::default().makes(Ok(2))), Ok(2), "{verb:?}");
        // It does not.
        let kept = Kept::default();
        let soon = Duration::from_millis(1);
        let (cache, _) = stale(usual().soft_timeout(soon).runner(kept.clone()));
        assert_eq!(verb.ask(&cache, 7, &Calls::default().makes(Ok(2))), Ok(1), "{verb:?}");
        assert_eq!(counts(&cache), Counts { leads: 1, stale_served: 1, ..NOTHING }, "{verb:?}");
        assert_eq!(verb.ask(&cache, 7, &Calls::default().makes(Ok(2))), Ok(1), "{verb:?}: others don't wait");
        assert_eq!((kept.run(), cache.get_cloned(&7)), (1, Some(2)), "{verb:?}: it goes on");
        // It never will.
        let (cache, _) = stale(usual().soft_timeout(Duration::MAX).runner(Refuses::default()));
        assert_eq!(verb.ask(&cache, 7, &Calls::default().makes(Ok(2))), Ok(1), "{verb:?}");
        // It fails.
        let (cache, _) = stale(usual().soft_timeout(Duration::MAX));
        if verb.can_fail() {
            assert_eq!(verb.ask(&cache, 7, &Calls::default().makes(Err("no"))), Ok(1), "{verb:?}");
        }
    }
}

/// A creator that borrows is run by its caller, however long it takes.
#[test]
fn soft_timeout_is_nothing_to_creators_that_borrow() {
    let (cache, _) = stale(usual().soft_timeout(Duration::ZERO));
    for verb in VERBS.into_iter().filter(|verb| !verb.is_detached()) {
        cache.insert(7, 1);
        cache.expire_in(&7, Some(Duration::ZERO));
        assert_eq!(verb.ask(&cache, 7, &Calls::default().makes(Ok(2))), Ok(2), "{verb:?}");
    }
}

#[test]
fn soft_timeout_goes_with_early_values_too() {
    let kept = Kept::default();
    let early = policy().fresh(FRESH).early(Early::Fraction(0.5)).soft_timeout(Duration::ZERO);
    let (cache, clock) = under(early.runner(kept.clone()));
    cache.insert(7, 1);
    clock.advance(FRESH / 2 + SECOND);
    assert_eq!(Verb::Detached.ask(&cache, 7, &Calls::default().makes(Ok(2))), Ok(1));
    assert_eq!((cache.stats().stale_served, kept.run()), (0, 1));
    assert_eq!(cache.get_cloned(&7), Some(2));
}

// Loaders

/// A cache whose loader returns the key times ten, plus how often it was called before.
fn loading(builder: PolicyBuilder<u32>, calls: &Calls) -> (Cache<u32, u32>, ManualClock) {
    let calls = calls.clone();
    let loader = move |key: &u32| key * 10 + calls.0.fetch_add(1, SeqCst) as u32;
    timed(Cache::builder().max_entries(100).policy(builder.build().unwrap()).loader(loader))
}

#[test]
fn load_makes_what_is_missing() {
    let calls = Calls::default();
    let (cache, clock) = loading(usual(), &calls);
    assert_eq!((*cache.load(&7).unwrap(), *cache.load(&7).unwrap()), (70, 70));
    clock.advance(FRESH + STALE);
    assert_eq!(*cache.load(&7).unwrap(), 71);
    assert_eq!((calls.count(), cache.stats().hits), (2, 1));
    let only = policy().freshness(Freshness::CacheOnly).build().unwrap();
    assert!(matches!(cache.with(&only).load(&8), Err(CreateError::NotCached)));
    assert_eq!(*cache.with(&only).load(&7).unwrap(), 71);
}

#[test]
fn load_leaves_what_is_stale_to_the_background() {
    let (calls, kept) = (Calls::default(), Kept::default());
    let (cache, clock) = loading(usual().runner(kept.clone()), &calls);
    cache.load(&7).unwrap();
    clock.advance(FRESH);
    assert_eq!((*cache.load(&7).unwrap(), *cache.load(&7).unwrap()), (70, 70));
    assert_eq!((calls.count(), kept.len()), (1, 1));
    kept.run();
    assert_eq!(*cache.load(&7).unwrap(), 71);
}

#[test]
fn refresh_makes_anew_what_is_fresh_and_all_else() {
    let (calls, kept) = (Calls::default(), Kept::default());
    let (cache, clock) = loading(usual().runner(kept.clone()), &calls);
    assert_eq!(*cache.refresh(&7).unwrap(), 70, "missing");
    assert_eq!(*cache.refresh(&7).unwrap(), 71, "fresh");
    clock.advance(FRESH);
    assert_eq!(*cache.refresh(&7).unwrap(), 72, "stale: in the foreground");
    assert_eq!((cache.get_cloned(&7), kept.len()), (Some(72), 0));
    assert_eq!(counts(&cache), Counts { leads: 3, creations: 3, ..NOTHING });
}

#[test]
fn refresh_joins_who_makes_it_already() {
    let _watch = watch();
    let calls = Calls::default();
    let (cache, clock) = loading(usual(), &calls);
    for stale in [false, true] {
        cache.insert(7, 1);
        if stale {
            clock.advance(FRESH);
        } else {
            cache.remove(&7);
        }
        let lead = |hold: &Hold| {
            *cache.get_or_create(&7, || {
                hold.here();
                99
            })
        };
        let wait = |_| *cache.refresh(&7).unwrap();
        let (led, waited) = crowd(|| cache.stats().waits, lead, 2, wait, || {});
        assert_eq!(led.unwrap(), 99);
        waited.into_iter().for_each(|waited| assert_eq!(waited.unwrap(), 99));
        assert_eq!(calls.count(), 0);
    }
}

#[test]
fn a_refresh_that_fails_leaves_the_old_value() {
    let fails = Arc::new(Mutex::new(true));
    let of_loader = Arc::clone(&fails);
    let loader = move |key: &u32| if *of_loader.lock().unwrap() { Err("no") } else { Ok(*key) };
    for builder in [usual(), usual().error_ttl(SECOND)] {
        let builder = Cache::builder().policy(builder.build().unwrap()).try_loader(loader.clone());
        let (cache, _) = timed(builder);
        cache.insert(7, 1);
        let error = cache.refresh(&7).unwrap_err();
        assert_eq!(error.creator().unwrap().to_string(), "no");
        assert_eq!(
            (cache.get_cloned(&7), *cache.load(&7).unwrap()),
            (Some(1), 1),
            "it stays, and is no error"
        );
        *fails.lock().unwrap() = false;
        assert_eq!(*cache.refresh(&7).unwrap(), 7, "and can be tried again at once");
        *fails.lock().unwrap() = true;
    }
}

#[test]
fn a_cache_without_a_loader_says_so() {
    let (cache, _) = under(usual());
    assert!(matches!(cache.load(&7), Err(CreateError::NoLoader)));
    assert!(matches!(cache.refresh(&7), Err(CreateError::NoLoader)));
    assert!(matches!(pollster::block_on(cache.load_async(&7)), Err(CreateError::NoLoader)));
    assert!(matches!(pollster::block_on(cache.refresh_async(&7)), Err(CreateError::NoLoader)));
    let text = cache.load(&7).unwrap_err().to_string();
    assert!(text.contains("loader") && text.contains("get_or_create"), "{text}");
    cache.insert(7, 1);
    assert_eq!(*cache.load(&7).unwrap(), 1, "what is there needs none");
    assert!(!cache.key_is_locked(&8) && cache.stats().leads == 0);
    // A task is not held up by a loader that blocks.
    let (blocking, _) = loading(usual(), &Calls::default());
    assert!(matches!(pollster::block_on(blocking.load_async(&7)), Err(CreateError::NoLoader)));
}

#[test]
fn an_asynchronous_loader_serves_threads_and_tasks() {
    let _watch = watch();
    let (kept, hold) = (Kept::default(), Hold::default());
    let in_loader = hold.clone();
    let loader = move |key: u32| {
        let hold = in_loader.clone();
        async move {
            hold.here_async().await;
            key * 10
        }
    };
    let policy = usual().runner(kept.clone()).build().unwrap();
    let (cache, clock) = timed(Cache::builder().policy(policy).async_loader(loader));
    thread::scope(|scope| {
        let thread = scope.spawn(|| *cache.load(&7).unwrap());
        hold.begun();
        let task = scope.spawn(|| *pollster::block_on(cache.load_async(&7)).unwrap());
        until("the task waits", || cache.stats().waits == 1);
        hold.go();
        assert_eq!((thread.join().unwrap(), task.join().unwrap()), (70, 70));
    });
    assert_eq!(cache.stats().leads, 1);
    assert_eq!(*pollster::block_on(cache.refresh_async(&7)).unwrap(), 70);
    assert_eq!(cache.stats().leads, 2);
    clock.advance(FRESH);
    assert_eq!(*pollster::block_on(cache.load_async(&7)).unwrap(), 70);
    assert_eq!((kept.run(), cache.stats().creations), (1, 3), "in the background");
}

/// Of errors, the loader's own type; and callers of `load` share one.
#[test]
fn errors_of_a_loader_are_shared() {
    let _watch = watch();
    let (hold, calls) = (Hold::default(), Calls::default());
    let (in_loader, of_loader) = (hold.clone(), calls.clone());
    let loader = move |_: &u32| {
        of_loader.0.fetch_add(1, SeqCst);
        in_loader.here();
        "seven".parse::<u32>()
    };
    let (cache, _) = timed(Cache::builder().policy(usual().build().unwrap()).try_loader(loader));
    let parsing = |error: CreateError<dogpile::LoadError>| {
        let cause = error.creator().unwrap();
        assert!(cause.downcast_ref::<std::num::ParseIntError>().is_some());
        assert!(cause.downcast_ref::<std::fmt::Error>().is_none());
        cause.to_string()
    };
    thread::scope(|scope| {
        let lead = scope.spawn(|| cache.load(&7).map(|found| *found));
        hold.begun();
        let wait = scope.spawn(|| cache.load(&7).map(|found| *found));
        until("one waits", || cache.stats().waits == 1);
        hold.go();
        let errors = [lead, wait].map(|thread| parsing(thread.join().unwrap().unwrap_err()));
        assert_eq!(errors, ["invalid digit found in string"; 2]);
    });
    assert_eq!(calls.count(), 1);
}

/// A loader is part of the cache, and knows it by a clone only.
#[test]
fn a_loader_may_load_other_keys() {
    let _watch = watch();
    let place = Arc::new(std::sync::OnceLock::<Cache<u32, u32>>::new());
    let within = Arc::clone(&place);
    let loader = move |n: &u32| {
        let cache = within.get().unwrap();
        match n {
            0 | 1 => Ok::<_, CreateError<dogpile::LoadError>>(*n),
            n => Ok(*cache.load(&(n - 1))? + *cache.load(&(n - 2))?),
        }
    };
    let cache = Cache::builder().try_loader(loader).build().unwrap();
    place.set(cache.clone()).unwrap();
    assert_eq!(*cache.load(&20).unwrap(), 6765);
    assert_eq!(cache.stats().leads, 21);
}

/// While a loader is at work on one key, others are served.
#[test]
fn a_held_loader_holds_up_its_own_key_only() {
    let _watch = watch();
    let door = Arc::new(Door::default());
    let in_loader = Arc::clone(&door);
    let loader = move |key: &u32| {
        if *key == 7 {
            in_loader.wait();
        }
        *key
    };
    let cache = Cache::builder().loader(loader).build().unwrap();
    thread::scope(|scope| {
        let held = scope.spawn(|| *cache.load(&7).unwrap());
        until("it is locked", || cache.key_is_locked(&7));
        assert!((100..200).all(|key| *cache.load(&key).unwrap() == key));
        door.open();
        assert_eq!(held.join().unwrap(), 7);
    });
}

/// Foreground and background meet: one flight.
#[test]
fn a_job_and_a_caller_of_any_kind_share_one_flight() {
    let _watch = watch();
    for verb in DETACHED {
        let (cache, _) = stale(usual());
        let led = while_held(
            |hold| {
                *cache.get_or_create(&7, || {
                    hold.here();
                    2
                })
            },
            || {
                let never = Calls::default().counts(|| unreachable!("somebody makes it"));
                assert_eq!(verb.ask(&cache, 7, &never), Ok(1), "{verb:?}");
            },
        );
        assert_eq!((led, cache.stats().leads), (2, 1), "{verb:?}");
    }
}
