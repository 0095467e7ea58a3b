//! What is done to a key while its value is made wins over that value; leader and waiters still get it.

use super::*;
use crate::common::{Hold, crowd, panics, until, watch, while_held};
use dogpile::{Compute, Freshness};

/// What was there when the creation began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Began {
    Missing,
    Stale,
    Fresh,
}

/// A cache whose key 7 somebody makes anew, by a loader that is held: and what may happen meanwhile. With the number of refused
/// writes, and what those got who waited.
fn created_while(began: Began, meanwhile: impl FnOnce(&Cache<u32, u32>)) -> (Cache<u32, u32>, u64, u32) {
    let holds = Arc::new(std::sync::Mutex::new(None::<Hold>));
    let in_loader = Arc::clone(&holds);
    let loader = move |_: &u32| {
        let hold = in_loader.lock().unwrap().clone();
        hold.expect("the loader is called by the leader").here();
        2
    };
    let builder = Cache::builder().max_entries(100).policy(usual().build().unwrap()).loader(loader);
    let (cache, clock) = timed(builder);
    if began != Began::Missing {
        cache.insert(7, 1);
    }
    if began == Began::Stale {
        clock.advance(FRESH);
    }
    // Who wants a fresh value waits for the leader, whatever happens.
    let fresh_only = policy().freshness(Freshness::WaitFresh).build().unwrap();
    let waiters = if began == Began::Fresh { 0 } else { 3 };
    let lead = |hold: &Hold| {
        *holds.lock().unwrap() = Some(hold.clone());
        // `load` would go to the background where there is a stale value.
        *cache.refresh(&7).unwrap()
    };
    let wait = |_| *cache.with(&fresh_only).get_or_create(&7, || unreachable!("somebody makes it"));
    let (led, waited) = crowd(|| cache.stats().waits, lead, waiters, wait, || meanwhile(&cache));
    assert_eq!(led.unwrap(), 2, "{began:?}: the leader gets its value");
    let waited: Vec<u32> = waited.into_iter().map(|waited| waited.unwrap()).collect();
    assert!(waited.iter().all(|value| *value == waited[0]), "{began:?}: {waited:?}");
    assert!(!cache.key_is_locked(&7), "{began:?}");
    let stats = cache.stats();
    assert_eq!((stats.creations, stats.failures), (1, 0), "{began:?}");
    (cache, stats.refused_late_writes, waited.first().copied().unwrap_or(2))
}

/// The key afterwards, and how many writes were refused. Who waited got what was made.
fn outcome(began: Began, meanwhile: impl FnOnce(&Cache<u32, u32>)) -> (Option<u32>, u64) {
    let (cache, refused, waited) = created_while(began, meanwhile);
    assert_eq!(waited, 2, "{began:?}: so do all who waited for it");
    (cache.get_cloned(&7), refused)
}

/// The same where `newer` was put in: who waited got that (M10).
fn overtaken(began: Began, newer: u32, meanwhile: impl FnOnce(&Cache<u32, u32>)) -> (Option<u32>, u64) {
    let (cache, refused, waited) = created_while(began, meanwhile);
    assert_eq!(waited, if began == Began::Fresh { 2 } else { newer }, "{began:?}: and need not wait");
    (cache.get_cloned(&7), refused)
}

const ALL: [Began; 3] = [Began::Missing, Began::Stale, Began::Fresh];

#[test]
fn undisturbed_the_value_is_stored() {
    let _watch = watch();
    for began in ALL {
        assert_eq!(outcome(began, |_| {}), (Some(2), 0), "{began:?}");
        let elsewhere = |cache: &Cache<u32, u32>| {
            cache.insert(8, 8);
            cache.remove(&9);
            cache.retain(|key, _| *key == 7);
            cache.run_pending();
        };
        assert_eq!(outcome(began, elsewhere), (Some(2), 0), "{began:?}");
    }
}

#[test]
fn insert_wins() {
    let _watch = watch();
    for began in ALL {
        assert_eq!(overtaken(began, 5, |cache| _ = cache.insert(7, 5)), (Some(5), 1), "{began:?}");
        let longer = dogpile::InsertOptions::new().ttl(STALE);
        let insert = |cache: &Cache<u32, u32>| _ = cache.insert_with(7, 6, longer);
        assert_eq!(overtaken(began, 6, insert), (Some(6), 1), "{began:?}");
        let extend = |mut cache: &Cache<u32, u32>| cache.extend([(7, 6)]);
        assert_eq!(overtaken(began, 6, extend), (Some(6), 1), "{began:?}");
    }
}

#[test]
fn remove_wins() {
    let _watch = watch();
    for began in ALL {
        let removed = if began == Began::Fresh { Some(1) } else { None };
        let remove = |cache: &Cache<u32, u32>| assert_eq!(cache.remove(&7).as_deref(), removed.as_ref());
        assert_eq!(outcome(began, remove), (None, 1), "{began:?}");
    }
}

#[test]
fn clear_wins() {
    let _watch = watch();
    for began in ALL {
        assert_eq!(outcome(began, |cache| cache.clear()), (None, 1), "{began:?}");
    }
}

#[test]
fn insert_if_absent_wins_where_it_stores() {
    let _watch = watch();
    for began in ALL {
        let absent = began != Began::Fresh;
        let insert = |cache: &Cache<u32, u32>| assert_eq!(cache.insert_if_absent(7, 5).is_stored(), absent);
        let expected = if absent { (Some(5), 1) } else { (Some(2), 0) };
        assert_eq!(overtaken(began, 5, insert), expected, "{began:?}");
    }
}

#[test]
fn compute_wins_where_it_changes_anything() {
    let _watch = watch();
    for began in ALL {
        let seen = if began == Began::Fresh { Some(1) } else { None };
        let decide = |decision: Compute<u32>| {
            move |cache: &Cache<u32, u32>| {
                _ = cache.compute(7, |old| {
                    assert_eq!(old.copied(), seen, "{began:?}: it sees what everybody sees");
                    decision
                });
            }
        };
        assert_eq!(overtaken(began, 5, decide(Compute::Put(5))), (Some(5), 1), "{began:?}");
        assert_eq!(outcome(began, decide(Compute::Remove)), (None, 1), "{began:?}");
        assert_eq!(outcome(began, decide(Compute::Keep)), (Some(2), 0), "{began:?}");
    }
}

/// They ask of what is there, fresh or stale; a first value that is only being made they do not know.
#[test]
fn remove_if_and_retain_win_where_they_take_it_out() {
    let _watch = watch();
    for began in [Began::Stale, Began::Fresh] {
        let seen = |_: &u32, value: &u32| {
            assert_eq!(*value, 1, "{began:?}");
            true
        };
        let fresh = if began == Began::Fresh { Some(1) } else { None };
        let remove =
            |cache: &Cache<u32, u32>| assert_eq!(cache.remove_if(&7, seen).as_deref().copied(), fresh);
        assert_eq!(outcome(began, remove), (None, 1), "{began:?}");
        assert_eq!(
            outcome(began, |cache| cache.retain(|key, value| !seen(key, value))),
            (None, 1),
            "{began:?}"
        );
        let spare = |cache: &Cache<u32, u32>| assert!(cache.remove_if(&7, |_, _| false).is_none());
        assert_eq!(outcome(began, spare), (Some(2), 0), "{began:?}");
        assert_eq!(outcome(began, |cache| cache.retain(|_, _| true)), (Some(2), 0), "{began:?}");
    }
    let neither = |cache: &Cache<u32, u32>| {
        cache.retain(|_, _| unreachable!("there is nothing"));
        assert!(cache.remove_if(&7, |_, _| unreachable!("there is nothing")).is_none());
    };
    assert_eq!(outcome(Began::Missing, neither), (Some(2), 0));
}

/// A deadline is no version: moving it loses nothing, and is lost.
#[test]
fn expire_in_and_touch_are_no_newer_versions() {
    let _watch = watch();
    for began in ALL {
        let fresh = began == Began::Fresh;
        let expire = |cache: &Cache<u32, u32>| assert_eq!(cache.expire_in(&7, Some(Duration::ZERO)), fresh);
        assert_eq!(outcome(began, expire), (Some(2), 0), "{began:?}");
        let touch = |cache: &Cache<u32, u32>| assert_eq!(cache.touch(&7), fresh);
        assert_eq!(outcome(began, touch), (Some(2), 0), "{began:?}");
    }
}

/// What is put in and taken out again leaves the key as it was, to look at; but the creation began before.
#[test]
fn a_key_that_was_written_and_removed_meanwhile_is_not_as_it_was() {
    let _watch = watch();
    for began in ALL {
        let in_and_out = |cache: &Cache<u32, u32>| {
            cache.insert(7, 5);
            cache.remove(&7);
        };
        assert_eq!(overtaken(began, 5, in_and_out), (None, 1), "{began:?}");
    }
}

#[test]
fn eviction_and_a_smaller_capacity_win() {
    let _watch = watch();
    let (cache, refused, _) = created_while(Began::Missing, |cache| cache.resize(0));
    assert_eq!((cache.get_cloned(&7), refused, cache.len()), (None, 0, 0), "there is no room for it");
    assert_eq!(cache.stats().refused, 1);
    for began in [Began::Stale, Began::Fresh] {
        let (cache, refused, _) = created_while(began, |cache| cache.resize(0));
        assert_eq!((cache.get_cloned(&7), refused, cache.len()), (None, 0, 0), "{began:?}");
        assert_eq!(cache.stats().refused, 1, "{began:?}");
        // Evicted for others.
        let for_others = |cache: &Cache<u32, u32>| {
            cache.resize(0);
            cache.resize(100);
            assert_eq!(cache.len(), 0);
        };
        let (cache, refused, _) = created_while(began, for_others);
        assert_eq!((cache.get_cloned(&7), refused), (None, 1), "{began:?}");
    }
}

/// Whoever comes after an invalidation does not get what was begun before it.
#[test]
fn a_creation_that_began_before_an_invalidation_is_not_joined_after_it() {
    let _watch = watch();
    type Invalidate = fn(&Cache<u32, u32>);
    let invalidations: [(&str, Invalidate); 3] = [
        ("remove", |cache| _ = cache.remove(&7)),
        ("clear", |cache| cache.clear()),
        ("in and out", |cache| {
            cache.insert(7, 5);
            cache.remove(&7);
        }),
    ];
    for verb in VERBS {
        for (name, invalidate) in invalidations {
            let (cache, calls) = (under(usual()).0, Calls::default());
            let lead = |hold: &Hold| {
                *cache.get_or_create(&7, || {
                    hold.here();
                    1
                })
            };
            let led = while_held(lead, || {
                invalidate(&cache);
                assert!(!cache.key_is_locked(&7), "{verb:?}, {name}: nobody makes this version");
                assert_eq!(verb.ask(&cache, 7, &calls.makes(Ok(2))), Ok(2), "{verb:?}, {name}");
                assert_eq!(cache.get_cloned(&7), Some(2), "{verb:?}, {name}");
            });
            assert_eq!((led, calls.count()), (1, 1), "{verb:?}, {name}");
            assert_eq!(cache.get_cloned(&7), Some(2), "{verb:?}, {name}: the older value is late");
            let expected = Counts { leads: 2, creations: 2, refused_late_writes: 1, ..NOTHING };
            assert_eq!(counts(&cache), expected, "{verb:?}, {name}");
        }
    }
}

/// Each version has its own leader, and what they make goes where it belongs.
#[test]
fn leaders_of_two_versions_do_not_disturb_each_other() {
    let _watch = watch();
    let (cache, _) = under(usual());
    let led = while_held(
        |older| {
            *cache.get_or_create(&7, || {
                older.here();
                1
            })
        },
        || {
            cache.remove(&7);
            let lead = |newer: &Hold| {
                *cache.get_or_create(&7, || {
                    newer.here();
                    2
                })
            };
            let wait = |_| *cache.get_or_create(&7, || unreachable!("the newer one is made"));
            let (led, waited) = crowd(|| cache.stats().waits, lead, 2, wait, || {});
            assert_eq!(led.unwrap(), 2);
            waited.into_iter().for_each(|waited| assert_eq!(waited.unwrap(), 2));
        },
    );
    assert_eq!((led, cache.get_cloned(&7)), (1, Some(2)));
}

/// A waiter that takes over where the key was invalidated meanwhile makes the newer version.
#[test]
fn an_heir_looks_again() {
    let _watch = watch();
    for verb in VERBS {
        let (cache, calls) = (under(usual()).0, Calls::default());
        let lead = |hold: &Hold| -> Asked {
            Ok(*cache.get_or_create(&7, || {
                hold.here();
                panic!("the first")
            }))
        };
        let wait = |_| verb.ask(&cache, 7, &calls.makes(Ok(2)));
        let (led, waited) = crowd(|| cache.stats().waits, lead, 2, wait, || _ = cache.insert(7, 5));
        led.unwrap_err();
        for waited in waited {
            assert_eq!(waited.unwrap(), Ok(5), "{verb:?}: it is there");
        }
        assert_eq!((calls.count(), cache.get_cloned(&7)), (0, Some(5)), "{verb:?}");
    }
}

/// A failure says nothing of what was written meanwhile.
#[test]
fn a_failure_does_not_take_newer_state_away() {
    let _watch = watch();
    for builder in [usual(), usual().error_ttl(SECOND), usual().stale_if_error(STALE)] {
        let (cache, clock) = under(builder);
        for stale in [false, true] {
            cache.clear();
            if stale {
                cache.insert(7, 1);
                clock.advance(FRESH);
            }
            let lead = |hold: &Hold| {
                let failing = || {
                    hold.here();
                    Err("no")
                };
                cache.try_get_or_create(&7, failing).map(|found| *found)
            };
            _ = while_held(lead, || _ = cache.insert(7, 5));
            assert_eq!(cache.get_cloned(&7), Some(5));
            assert_eq!(Verb::Try.ask(&cache, 7, &Calls::default().makes(Err("no"))), Ok(5));
            cache.remove(&7);
            let lead = |hold: &Hold| {
                panics(|| {
                    *cache.get_or_create(&7, || {
                        hold.here();
                        panic!("no")
                    })
                })
            };
            _ = while_held(lead, || _ = cache.insert(7, 6));
            assert_eq!(cache.get_cloned(&7), Some(6));
        }
    }
}

/// M10: an insertion is a value for all who wait for one.
#[test]
fn m10_an_insertion_wakes_who_waits() {
    let _watch = watch();
    let (cache, _) = under(usual());
    let done = AtomicUsize::new(0);
    let lead = |hold: &Hold| {
        *cache.get_or_create(&7, || {
            hold.here();
            1
        })
    };
    let wait = |_| {
        let found = *cache.get_or_create(&7, || unreachable!("somebody makes it"));
        done.fetch_add(1, SeqCst);
        found
    };
    let (led, waited) = crowd(
        || cache.stats().waits,
        lead,
        3,
        wait,
        || {
            cache.insert(7, 5);
            until("they have it", || done.load(SeqCst) == 3);
        },
    );
    assert_eq!(led.unwrap(), 1);
    waited.into_iter().for_each(|waited| assert_eq!(waited.unwrap(), 5));
}

/// Between a caller's look and its attempt to lead the key may be written or removed: then it looks again.
#[test]
fn who_leads_by_an_old_look_looks_again() {
    type Hook = Box<dyn FnOnce() + Send>;
    /// Does something at one of its readings: those decide what is stale.
    #[derive(Clone, Default)]
    struct Meanwhile {
        time: ManualClock,
        hook: Arc<std::sync::Mutex<Option<(usize, Hook)>>>,
    }
    impl dogpile::time::Clock for Meanwhile {
        fn now(&self) -> dogpile::time::Instant {
            let mut hook = self.hook.lock().unwrap();
            let due = match &mut *hook {
                Some((0, _)) => hook.take(),
                Some((left, _)) => {
                    *left -= 1;
                    None
                }
                None => None,
            };
            drop(hook);
            due.into_iter().for_each(|(_, act)| act());
            self.time.now()
        }
        // By this one creations are measured: whoever reads it leads already.
        fn precise(&self) -> dogpile::time::Instant {
            self.time.now()
        }
    }
    for (verb, removes) in VERBS.into_iter().flat_map(|verb| [(verb, false), (verb, true)]) {
        for reading in 0.. {
            let clock = Meanwhile::default();
            let builder = Cache::builder().policy(usual().runner(crate::common::AtOnce).build().unwrap());
            let cache = builder.clock(clock.clone()).build().unwrap();
            cache.insert(7, 1);
            clock.time.advance(FRESH);
            let within = cache.clone();
            let act = move || match removes {
                false => drop(within.insert(7, 5)),
                true => drop(within.remove(&7)),
            };
            *clock.hook.lock().unwrap() = Some((reading, Box::new(act)));
            let (calls, hook) = (Calls::default(), Arc::clone(&clock.hook));
            let was_in_time = Arc::new(AtomicUsize::new(0));
            let in_time = Arc::clone(&was_in_time);
            let make = calls.counts(move || {
                in_time.store(usize::from(hook.lock().unwrap().is_none()), SeqCst);
                Ok(2)
            });
            let found = verb.ask(&cache, 7, &make);
            let is_before = calls.count() == 0 || was_in_time.load(SeqCst) == 1;
            if !is_before {
                assert!(reading > 0, "{verb:?}: the clock is read before anything is made");
                break;
            }
            let told = format!("{verb:?}, removes: {removes}, at reading {reading}");
            if removes {
                // Or the stale value, which was there when the call began.
                assert!(found == Ok(2) || found == Ok(1), "{told}: {found:?}");
                assert_eq!(cache.stats().refused_late_writes, 0, "{told}: nothing was made in vain");
                assert_eq!(cache.get_cloned(&7), (calls.count() == 1).then_some(2), "{told}");
            } else {
                assert_eq!((found, calls.count()), (Ok(5), 0), "{told}: the newer one is there");
            }
        }
    }
}
