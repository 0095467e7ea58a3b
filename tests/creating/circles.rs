//! Creators that ask for values themselves: for others freely, for their own never, in circles never.

use super::*;
use crate::common::{Door, ends, panics, until, watch};
use std::sync::Barrier;
use std::thread;

/// A cache of its own, that closures of any lifetime may have.
fn shared() -> Cache<u32, u32> {
    under(usual()).0
}

#[test]
fn a_creator_may_ask_for_other_keys() {
    let _watch = watch();
    fn fibonacci(cache: &Cache<u32, u32>, n: u32) -> u32 {
        *cache.get_or_create(&n, || match n {
            0 | 1 => n,
            n => fibonacci(cache, n - 1) + fibonacci(cache, n - 2),
        })
    }
    let cache = shared();
    assert_eq!(fibonacci(&cache, 30), 832_040);
    assert_eq!(cache.stats().leads, 31, "each once");
    for (outer, inner) in VERBS.into_iter().flat_map(|outer| VERBS.map(|inner| (outer, inner))) {
        let cache = shared();
        let within = cache.clone();
        let make = Calls::default().counts(move || {
            let one = inner.ask(&within, 1, &Calls::default().makes(Ok(1))).unwrap();
            Ok(one + 1)
        });
        assert_eq!(outer.ask(&cache, 2, &make), Ok(2), "{inner:?} in {outer:?}");
        assert_eq!((cache.get_cloned(&1), cache.get_cloned(&2)), (Some(1), Some(2)));
    }
}

#[test]
fn a_creator_that_asks_for_its_own_key_gets_an_error() {
    let _watch = watch();
    for outer in VERBS {
        for inner in fallible() {
            let cache = shared();
            let within = cache.clone();
            let make = Calls::default().counts(move || {
                let own = inner.ask(&within, 1, &Calls::default().makes(Ok(5)));
                assert_eq!(own, Err(CreateError::Reentrant), "{inner:?}");
                Ok(1)
            });
            assert_eq!(outer.ask(&cache, 1, &make), Ok(1), "{inner:?} in {outer:?}: the outer one goes on");
            assert_eq!(cache.get_cloned(&1), Some(1));
            assert_eq!(
                counts(&cache),
                Counts { leads: 1, creations: 1, ..NOTHING },
                "{inner:?} in {outer:?}"
            );
        }
    }
}

#[test]
fn a_verb_that_cannot_fail_panics_and_names_the_flight() {
    let _watch = watch();
    for outer in VERBS {
        for inner in VERBS.into_iter().filter(|verb| !verb.can_fail()) {
            let cache = shared();
            let within = cache.clone();
            let make = Calls::default()
                .counts(move || inner.ask(&within, 1, &Calls::default().makes(Ok(5))).map_err(|_| "no"));
            let thread = thread::Builder::new().name("the baker".into());
            let said = thread::scope(|scope| {
                let asked = thread.spawn_scoped(scope, || panics(|| outer.ask(&cache, 1, &make)));
                asked.unwrap().join().unwrap()
            });
            assert!(said.starts_with("re-entrant creation: "), "{inner:?} in {outer:?}: {said}");
            assert!(said.contains("`the baker`") && said.contains("Cache"), "{said}");
            assert!(cache.is_empty() && !cache.key_is_locked(&1), "{inner:?} in {outer:?}");
            assert_eq!(outer.ask(&cache, 1, &Calls::default().makes(Ok(2))), Ok(2));
        }
    }
}

/// Three deep, and the innermost asks for the outermost.
#[test]
fn an_inner_creator_may_not_ask_for_an_outer_key() {
    let _watch = watch();
    for verb in fallible() {
        let cache = shared();
        let (second, third) = (cache.clone(), cache.clone());
        let innermost = Calls::default().counts(move || {
            for outer in [1, 2, 3] {
                let asked = verb.ask(&third, outer, &Calls::default().makes(Ok(9)));
                assert_eq!(asked, Err(CreateError::Reentrant), "{verb:?}: {outer}");
            }
            Ok(3)
        });
        let inner = Calls::default().counts(move || {
            let (innermost, third) = (Arc::clone(&innermost), second.clone());
            let make = Calls::default().counts(move || verb.ask(&third, 3, &innermost).map_err(|_| "no"));
            verb.ask(&second, 2, &make).map_err(|_| "no")
        });
        assert_eq!(verb.ask(&cache, 1, &inner), Ok(3), "{verb:?}");
        assert_eq!(cache.len(), 3);
    }
}

/// Over a stale value there is nothing to wait for.
#[test]
fn a_creator_may_ask_for_the_stale_value_of_its_own_key() {
    let _watch = watch();
    for verb in VERBS {
        let (cache, clock) = under(usual());
        cache.insert(1, 1);
        clock.advance(FRESH);
        let within = cache.clone();
        let make = Calls::default()
            .counts(move || Ok(verb.ask(&within, 1, &Calls::default().makes(Ok(9))).unwrap() + 1));
        assert_eq!(Verb::Plain.ask(&cache, 1, &make), Ok(2), "{verb:?}");
    }
}

/// Re-entry is known by the flight, not by the key or the address of anything.
#[test]
fn a_creator_may_ask_for_its_own_key_of_another_cache_and_for_a_newer_version() {
    let _watch = watch();
    let (one, other) = (shared(), shared());
    let found = *one.get_or_create(&1, || *other.get_or_create(&1, || 1) + 1);
    assert_eq!(found, 2);
    let found = *one.get_or_create(&2, || {
        one.remove(&2);
        *one.get_or_create(&2, || 1) + 1
    });
    assert_eq!((found, one.get_cloned(&2)), (2, Some(1)), "which is newer, and stays");
}

/// A batch that is made asks for its keys.
#[test]
fn a_batch_may_not_ask_for_its_own_keys() {
    let _watch = watch();
    let cache = shared();
    let within = &cache;
    let found = cache.get_or_create_multi(&[1, 2, 3], |keys| {
        for key in [1, 2, 3] {
            let asked = within.try_get_or_create(&key, || Ok::<_, ()>(9)).map(|found| *found);
            assert_eq!(asked, Err(CreateError::Reentrant));
            let asked = within.try_get_or_create_multi(&[4, key], |keys| Ok::<_, ()>(vec![9; keys.len()]));
            assert_eq!(asked.unwrap_err(), CreateError::Reentrant);
        }
        assert_eq!(within.get_cloned(&4), Some(9), "what they made is stored");
        keys.iter().map(|key| **key).collect()
    });
    assert_eq!(found.len(), 3);
}

/// What is run before the batch's future is part of the creation.
#[test]
fn the_function_that_begins_a_batch_may_not_ask_for_its_own_keys() {
    ends(|| {
        let cache = shared();
        let within = &cache;
        let begin = |_: Vec<&u32>| {
            let asked = within.try_get_or_create(&1, || Ok::<_, ()>(9)).map(|found| *found);
            assert_eq!(asked, Err(CreateError::Reentrant));
            async { vec![1] }
        };
        assert_eq!(*pollster::block_on(cache.get_or_create_multi_async(&[1], begin))[0], 1);
    });
}

/// A asks for B while B asks for A: the one who comes last gets an error, the other what it made of that.
#[test]
fn two_that_wait_for_each_other_end_with_an_error() {
    let _watch = watch();
    for (a, b) in fallible().flat_map(|a| fallible().map(move |b| (a, b))) {
        // Either may be the last to ask.
        for last in [0, 1] {
            let cache = shared();
            let (both_lead, first_waits) = (Arc::new(Barrier::new(2)), Arc::new(Door::default()));
            let circle = |verb: Verb, own: u32, other: u32, is_last: bool| {
                let (within, both_lead) = (cache.clone(), Arc::clone(&both_lead));
                let first_waits = Arc::clone(&first_waits);
                let make = Calls::default().counts(move || {
                    both_lead.wait();
                    if is_last {
                        first_waits.wait();
                    }
                    let asked = verb.ask(&within, other, &Calls::default().makes(Ok(100)));
                    assert_eq!(is_last, asked == Err(CreateError::Reentrant), "{verb:?}: {asked:?}");
                    Ok(asked.unwrap_or(0) + own)
                });
                let cache = cache.clone();
                move || verb.ask(&cache, own, &make)
            };
            let (of_a, of_b) = (circle(a, 1, 2, last == 0), circle(b, 2, 1, last == 1));
            let (a, b) = thread::scope(|scope| {
                let (a, b) = (scope.spawn(of_a), scope.spawn(of_b));
                until("the first waits", || cache.stats().waits == 1);
                first_waits.open();
                (a.join().unwrap().unwrap(), b.join().unwrap().unwrap())
            });
            assert_eq!((a, b), if last == 0 { (1, 3) } else { (3, 2) });
            assert_eq!(counts(&cache), Counts { leads: 2, creations: 2, waits: 1, ..NOTHING });
        }
    }
}

/// With verbs that can't fail the last to ask panics, and the other one takes over what that one was making.
#[test]
fn two_that_wait_for_each_other_and_cannot_fail_end_with_a_panic() {
    let _watch = watch();
    for verb in VERBS.into_iter().filter(|verb| !verb.can_fail()) {
        let cache = shared();
        let both_lead = Arc::new(Barrier::new(2));
        let ask_other = |own: u32, other: u32, after_waits: u64| {
            let (within, both_lead) = (cache.clone(), Arc::clone(&both_lead));
            Calls::default().counts(move || {
                both_lead.wait();
                until("the other one waits", || within.stats().waits == after_waits);
                Ok(verb.ask(&within, other, &Calls::default().makes(Ok(10))).unwrap() + own)
            })
        };
        let (of_first, of_last) = (ask_other(1, 2, 0), ask_other(2, 1, 1));
        let (last, first) = thread::scope(|scope| {
            let first = scope.spawn(|| verb.ask(&cache, 1, &of_first));
            (panics(|| verb.ask(&cache, 2, &of_last)), first.join().unwrap())
        });
        assert!(last.starts_with("re-entrant creation: "), "{verb:?}: {last}");
        assert_eq!(first, Ok(11), "{verb:?}");
        assert_eq!((cache.get_cloned(&1), cache.get_cloned(&2)), (Some(11), Some(10)), "{verb:?}");
    }
}

/// And without any order: one of them gets it, whichever.
#[test]
fn rings_of_any_size_end() {
    let _watch = watch();
    for size in [2, 3, 5] {
        for _ in 0..50 {
            let cache = shared();
            let all_lead = Barrier::new(size as usize);
            let errors = AtomicUsize::new(0);
            thread::scope(|scope| {
                for own in 0..size {
                    let (cache, all_lead, errors) = (&cache, &all_lead, &errors);
                    scope.spawn(move || {
                        _ = cache.try_get_or_create(&own, || {
                            all_lead.wait();
                            let next = (own + 1) % size;
                            match cache.try_get_or_create(&next, || Err::<u32, _>("not mine to make")) {
                                Ok(next) => Ok(*next),
                                Err(CreateError::Reentrant) => {
                                    errors.fetch_add(1, SeqCst);
                                    Err("a circle")
                                }
                                Err(_) => Err("a circle elsewhere"),
                            }
                        });
                    });
                }
            });
            assert_eq!(errors.load(SeqCst), 1, "of {size} one closes the ring");
            let counted = counts(&cache);
            let size = u64::from(size);
            assert_eq!((counted.leads, counted.failures), (size, size));
            assert!(counted.waits < size);
            assert!((0..size as u32).all(|key| !cache.key_is_locked(&key)));
        }
    }
}

/// Rings through batches, which lead several keys at once.
#[test]
fn rings_through_batches_end() {
    let _watch = watch();
    let cache = shared();
    let both_lead = Barrier::new(2);
    let errors = AtomicUsize::new(0);
    let lead = |own: [u32; 2], other: u32| {
        let tried = cache.try_get_or_create_multi(&own, |keys| {
            assert_eq!(keys.len(), 2);
            both_lead.wait();
            match cache.try_get_or_create(&other, || Err::<u32, _>("not mine to make")) {
                Ok(_) => Ok::<_, &str>(vec![1; 2]),
                Err(CreateError::Reentrant) => {
                    errors.fetch_add(1, SeqCst);
                    Ok(vec![2; 2])
                }
                Err(other) => panic!("{other}"),
            }
        });
        tried.unwrap().iter().map(|found| **found).collect::<Vec<_>>()
    };
    let (mut one, two) = thread::scope(|scope| {
        let one = scope.spawn(|| lead([1, 2], 4));
        (vec![lead([3, 4], 2)], one.join().unwrap())
    });
    one.push(two);
    one.sort();
    assert_eq!((one, errors.load(SeqCst)), (vec![vec![1, 1], vec![2, 2]], 1));
}

/// A chain is no circle, however many wait, and however it is entered.
#[test]
fn chains_are_no_circles() {
    let _watch = watch();
    for _ in 0..20 {
        let cache = shared();
        let start = Barrier::new(8);
        thread::scope(|scope| {
            for thread in 0..8_u32 {
                let (cache, start) = (&cache, &start);
                scope.spawn(move || {
                    fn chain(cache: &Cache<u32, u32>, n: u32) -> u32 {
                        let next = || if n == 0 { Ok(0) } else { Ok::<_, &str>(chain(cache, n - 1) + 1) };
                        *cache.try_get_or_create(&n, next).unwrap()
                    }
                    start.wait();
                    assert_eq!(chain(cache, 20 - thread % 3), 20 - thread % 3);
                });
            }
        });
        assert_eq!((cache.len(), cache.stats().leads), (21, 21), "each once");
    }
}

/// What a creator gives to another thread is not seen, but a limit to waiting ends it.
#[test]
fn what_is_not_seen_ends_by_the_limit_to_waiting() {
    let _watch = watch();
    let (cache, _) = under(usual().wait(Duration::from_millis(1)));
    let found = *cache.get_or_create(&1, || {
        thread::scope(|scope| {
            let asked = scope.spawn(|| cache.try_get_or_create(&1, || Ok::<_, ()>(5)).map(|found| *found));
            assert_eq!(asked.join().unwrap(), Err(CreateError::TimedOut));
            1
        })
    });
    assert_eq!((found, cache.stats().timed_out), (1, 1));
}

/// A waiter that gave up is none any more: its old wait closes no circle.
#[test]
fn a_wait_that_has_ended_is_part_of_no_circle() {
    let _watch = watch();
    let cache = shared();
    let short = policy().wait(Duration::ZERO).build().unwrap();
    let (both_lead, gave_up) = (Barrier::new(2), Door::default());
    thread::scope(|scope| {
        let one = scope.spawn(|| {
            *cache.get_or_create(&1, || {
                both_lead.wait();
                let asked = cache.with(&short).try_get_or_create(&2, || Ok::<_, ()>(5)).map(|found| *found);
                assert_eq!(asked, Err(CreateError::TimedOut));
                gave_up.open();
                1
            })
        });
        let two = *cache.get_or_create(&2, || {
            both_lead.wait();
            gave_up.wait();
            *cache.try_get_or_create(&1, || Err("not mine to make")).unwrap() + 1
        });
        assert_eq!((one.join().unwrap(), two), (1, 2));
    });
}
