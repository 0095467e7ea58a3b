//! Many keys at once.

use super::*;
use crate::common::{Door, Hold, crowd, panics, until, watch, while_held};
use dogpile::{Freshness, Handle};
use std::cell::RefCell;
use std::sync::{Barrier, Mutex};
use std::thread;

const BATCHES: [Verb; 4] = [Verb::Multi, Verb::TryMulti, Verb::MultiAsync, Verb::TryMultiAsync];

type Found = Result<Vec<u32>, CreateError<&'static str>>;
/// What the creator was asked for, call by call.
type Log = RefCell<Vec<Vec<u32>>>;

/// Asks for these keys; the creator returns `make` of what it is asked for.
fn ask(
    verb: Verb,
    cache: &Cache<u32, u32>,
    keys: &[u32],
    make: impl Fn(&[u32]) -> Result<Vec<u32>, &'static str>,
) -> Found {
    let make = |asked: &[&u32]| make(&asked.iter().map(|key| **key).collect::<Vec<_>>());
    let sure = "a creator of this verb can't fail";
    let values = |found: Vec<Handle<u32, u32>>| found.iter().map(|found| **found).collect();
    match verb {
        Verb::Multi => Ok(values(cache.get_or_create_multi(keys, |asked| make(asked).expect(sure)))),
        Verb::TryMulti => cache.try_get_or_create_multi(keys, |asked| make(asked)).map(values),
        Verb::MultiAsync => {
            let make = &make;
            let found =
                cache.get_or_create_multi_async(keys, |asked| async move { make(&asked).expect(sure) });
            Ok(values(pollster::block_on(found)))
        }
        Verb::TryMultiAsync => {
            let make = &make;
            let found = cache.try_get_or_create_multi_async(keys, |asked| async move { make(&asked) });
            pollster::block_on(found).map(values)
        }
        other => panic!("{other:?} is no batch"),
    }
}

fn tenfold(asked: &[u32]) -> Result<Vec<u32>, &'static str> {
    Ok(asked.iter().map(|key| key * 10).collect())
}

/// Tenfold, and writes down what it was asked for.
fn logged<'l>(log: &'l Log) -> impl Fn(&[u32]) -> Result<Vec<u32>, &'static str> + 'l {
    |asked| {
        log.borrow_mut().push(asked.to_vec());
        tenfold(asked)
    }
}

#[test]
fn values_come_in_the_order_of_the_keys_and_one_call_makes_what_is_lacking() {
    for verb in BATCHES {
        let (cache, log) = (under(usual()).0, Log::default());
        cache.insert(3, 33);
        assert_eq!(ask(verb, &cache, &[5, 3, 1, 4], logged(&log)), Ok(vec![50, 33, 10, 40]), "{verb:?}");
        assert_eq!(*log.borrow(), [[5, 1, 4]], "{verb:?}");
        assert_eq!(ask(verb, &cache, &[1, 3, 4, 5], logged(&log)), Ok(vec![10, 33, 40, 50]), "{verb:?}");
        assert_eq!(log.borrow().len(), 1, "{verb:?}: all are there");
        assert_eq!(counts(&cache), Counts { leads: 3, creations: 3, ..NOTHING }, "{verb:?}");
    }
}

#[test]
fn duplicates_are_made_once() {
    for verb in BATCHES {
        let (cache, log) = (under(usual()).0, Log::default());
        let found = ask(verb, &cache, &[2, 1, 2, 2, 1, 3, 3], logged(&log));
        assert_eq!(found, Ok(vec![20, 10, 20, 20, 10, 30, 30]), "{verb:?}");
        assert_eq!(*log.borrow(), [[2, 1, 3]], "{verb:?}");
        assert_eq!(counts(&cache), Counts { leads: 3, creations: 3, ..NOTHING }, "{verb:?}");
        // Also where nothing is kept, and where a stale one is made anew.
        let (cache, log) = (timed(Cache::builder().max_entries(0)).0, Log::default());
        assert_eq!(ask(verb, &cache, &[2, 1, 2], logged(&log)), Ok(vec![20, 10, 20]), "{verb:?}");
        assert_eq!(*log.borrow(), [[2, 1]], "{verb:?}");
        let ((cache, clock), log) = (under(usual().should_cache(|_| false)), Log::default());
        cache.insert(2, 1);
        clock.advance(FRESH);
        assert_eq!(ask(verb, &cache, &[2, 2], logged(&log)).unwrap()[0], 20, "{verb:?}");
        assert_eq!(log.borrow().len(), 1, "{verb:?}");
    }
}

#[test]
fn no_keys_are_no_call() {
    for verb in BATCHES {
        let (cache, log) = (under(usual()).0, Log::default());
        assert_eq!(ask(verb, &cache, &[], logged(&log)), Ok(vec![]));
        assert_eq!((log.borrow().len(), counts(&cache)), (0, NOTHING));
    }
}

/// What others make is not made again, but waited for, when all of the batch's own is stored.
#[test]
fn keys_that_others_make_are_joined() {
    let _watch = watch();
    for verb in BATCHES {
        let (cache, asked) = (under(usual()).0, Mutex::new(Vec::new()));
        let lead = |hold: &Hold| {
            Ok(vec![*cache.get_or_create(&2, || {
                hold.here();
                99
            })])
        };
        let join = |_| {
            ask(verb, &cache, &[1, 2, 3, 2], |keys| {
                asked.lock().unwrap().push(keys.to_vec());
                tenfold(keys)
            })
        };
        let (led, joined) = crowd(
            || cache.stats().waits,
            lead,
            1,
            join,
            || {
                let its_own = (cache.get_cloned(&1), cache.get_cloned(&3));
                assert_eq!(its_own, (Some(10), Some(30)), "{verb:?}: it waits with nothing in its hands");
                assert!(!cache.key_is_locked(&1) && !cache.key_is_locked(&3), "{verb:?}");
            },
        );
        assert_eq!(led.unwrap(), Ok(vec![99]));
        assert_eq!(joined.into_iter().next().unwrap().unwrap(), Ok(vec![10, 99, 30, 99]), "{verb:?}");
        assert_eq!(*asked.lock().unwrap(), [[1, 3]], "{verb:?}");
        let expected = Counts { leads: 3, creations: 3, waits: 1, ..NOTHING };
        assert_eq!(counts(&cache), expected, "{verb:?}");
    }
}

/// Single callers and batches join a batch's keys.
#[test]
fn keys_of_a_batch_are_joined() {
    let _watch = watch();
    for verb in BATCHES {
        let cache = under(usual()).0;
        let lead = |hold: &Hold| {
            ask(verb, &cache, &[1, 2, 3], |keys| {
                hold.here();
                tenfold(keys)
            })
        };
        let never = |_: &[u32]| unreachable!("they are being made");
        let join = |i: usize| match i {
            0 => Ok(vec![*cache.get_or_create(&1, || unreachable!("it is being made"))]),
            1 => cache.try_get_or_create(&2, || Err("not mine")).map(|found| vec![*found]),
            i => ask(BATCHES[i - 2], &cache, &[3, 1, 2], never),
        };
        let (led, joined) = crowd(|| cache.stats().waits, lead, 6, join, || {});
        assert_eq!(led.unwrap(), Ok(vec![10, 20, 30]));
        let joined: Vec<Found> = joined.into_iter().map(|joined| joined.unwrap()).collect();
        assert_eq!(joined[..2], [Ok(vec![10]), Ok(vec![20])]);
        assert!(joined[2..].iter().all(|found| *found == Ok(vec![30, 10, 20])), "{verb:?}: {joined:?}");
    }
}

/// Three threads ask for the same keys in different orders, again and again.
#[test]
fn overlapping_batches_in_opposite_orders_do_not_wait_in_a_circle() {
    let _watch = watch();
    let cache = Cache::<u32, u32>::new(64);
    let start = Barrier::new(3);
    let made = AtomicUsize::new(0);
    let rounds = 10_000;
    thread::scope(|scope| {
        for thread in 0..3 {
            let (cache, start, made) = (&cache, &start, &made);
            scope.spawn(move || {
                for round in 0..rounds {
                    let first = round * 2 % 1000;
                    let mut keys: Vec<u32> = (first..first + 4).collect();
                    match thread {
                        0 => {}
                        1 => keys.reverse(),
                        _ => keys.rotate_left(2),
                    }
                    if round % 50 == 0 {
                        start.wait();
                        if thread == 0 {
                            cache.clear();
                        }
                    }
                    let found = cache.get_or_create_multi(&keys, |asked| {
                        made.fetch_add(asked.len(), SeqCst);
                        asked.iter().map(|key| *key * 10).collect()
                    });
                    assert!(found.iter().zip(&keys).all(|(found, key)| **found == key * 10));
                }
            });
        }
    });
    let stats = cache.stats();
    assert_eq!((made.load(SeqCst) as u64, stats.failures), (stats.creations, 0));
    assert!(stats.creations >= u64::from(rounds), "there was something to make in most rounds");
}

/// The same, so that they meet for certain: each has claimed what the other lacks before either makes anything.
#[test]
fn batches_that_each_lead_what_the_other_lacks_both_end() {
    type OnClone = Box<dyn Fn(u32)>;
    thread_local! {
        static ON_CLONE: RefCell<Option<OnClone>> = const { RefCell::new(None) };
    }
    /// Is cloned where nobody makes it yet, just before it is claimed.
    #[derive(PartialEq, Eq, Hash)]
    struct Key(u32);
    impl Clone for Key {
        fn clone(&self) -> Self {
            ON_CLONE.with_borrow(|hook| hook.iter().for_each(|hook| hook(self.0)));
            Self(self.0)
        }
    }
    let _watch = watch();
    let cache = Cache::<Key, u32>::new(10);
    let [a_has_1, b_makes, a_makes] = std::array::from_fn(|_| Arc::new(Door::default()));
    let (one, two) = thread::scope(|scope| {
        let a = scope.spawn(|| {
            let (has_1, b_makes) = (Arc::clone(&a_has_1), Arc::clone(&b_makes));
            let hook = move |key| {
                if key == 2 {
                    has_1.open();
                    b_makes.wait();
                }
            };
            ON_CLONE.set(Some(Box::new(hook)));
            cache.get_or_create_multi(&[Key(1), Key(2)], |keys| {
                ON_CLONE.set(None);
                a_makes.open();
                assert!(keys.len() == 1 && keys[0].0 == 1, "2 is taken");
                vec![10]
            })
        });
        let b = scope.spawn(|| {
            a_has_1.wait();
            cache.get_or_create_multi(&[Key(2), Key(1)], |keys| {
                b_makes.open();
                a_makes.wait();
                assert!(keys.len() == 1 && keys[0].0 == 2, "1 is taken");
                vec![20]
            })
        });
        (a.join().unwrap(), b.join().unwrap())
    });
    assert_eq!([*one[0], *one[1], *two[1], *two[0]], [10, 20, 10, 20]);
    assert_eq!((cache.stats().leads, cache.stats().creations), (2, 2));
}

#[test]
fn stale_ones_are_served_where_others_make_them_and_made_where_nobody_does() {
    let _watch = watch();
    for verb in BATCHES {
        let ((cache, clock), log) = (under(usual()), Mutex::new(Vec::new()));
        cache.insert(1, 1);
        cache.insert(2, 2);
        clock.advance(FRESH);
        let lead = |hold: &Hold| {
            *cache.get_or_create(&1, || {
                hold.here();
                11
            })
        };
        let led = while_held(lead, || {
            let found = ask(verb, &cache, &[1, 2, 3], |keys| {
                log.lock().unwrap().push(keys.to_vec());
                tenfold(keys)
            });
            assert_eq!(found, Ok(vec![1, 20, 30]), "{verb:?}");
        });
        assert_eq!((led, log.into_inner().unwrap()), (11, vec![vec![2, 3]]), "{verb:?}");
        assert_eq!(
            counts(&cache),
            Counts { leads: 3, creations: 3, stale_served: 1, ..NOTHING },
            "{verb:?}: no wait"
        );
    }
}

#[test]
fn the_wrong_number_of_values_is_an_error_and_nothing_is_stored() {
    for verb in [Verb::TryMulti, Verb::TryMultiAsync] {
        for made in [0, 1, 3] {
            let cache = under(usual()).0;
            let tried = ask(verb, &cache, &[1, 2], |_| Ok(vec![7; made]));
            assert_eq!(tried, Err(CreateError::WrongCount { asked: 2, made }), "{verb:?}");
            let text = tried.unwrap_err().to_string();
            assert_eq!(text, format!("the creator was asked for 2 values and returned {made}"));
            assert!(cache.is_empty() && !cache.key_is_locked(&1) && !cache.key_is_locked(&2), "{verb:?}");
            assert_eq!(counts(&cache), Counts { leads: 2, failures: 2, ..NOTHING }, "{verb:?}");
            assert_eq!(ask(verb, &cache, &[1, 2], tenfold), Ok(vec![10, 20]), "{verb:?}");
        }
    }
    for verb in [Verb::Multi, Verb::MultiAsync] {
        let cache = under(usual()).0;
        let said = panics(|| ask(verb, &cache, &[1, 2], |_| Ok(vec![7])));
        assert_eq!(said, "the creator was asked for 2 values and returned 1", "{verb:?}");
        assert!(cache.is_empty() && !cache.key_is_locked(&1), "{verb:?}");
    }
}

/// Who waited for such a batch leads next.
#[test]
fn the_wrong_number_of_values_is_not_shared() {
    let _watch = watch();
    for verb in [Verb::TryMulti, Verb::TryMultiAsync] {
        let cache = under(usual()).0;
        let lead = |hold: &Hold| {
            ask(verb, &cache, &[1, 2], |_| {
                hold.here();
                Ok(vec![])
            })
        };
        let wait = |_| cache.try_get_or_create(&1, || Ok(5)).map(|found| vec![*found]);
        let (led, waited) = crowd(|| cache.stats().waits, lead, 2, wait, || {});
        assert_eq!(led.unwrap(), Err(CreateError::WrongCount { asked: 2, made: 0 }));
        waited.into_iter().for_each(|waited| assert_eq!(waited.unwrap(), Ok(vec![5])));
        assert_eq!(cache.stats().hand_overs, 1);
    }
}

#[test]
fn an_error_of_a_batch_is_shared_by_all_who_waited_for_any_of_it() {
    let _watch = watch();
    for verb in [Verb::TryMulti, Verb::TryMultiAsync] {
        let ((cache, clock), calls) = (under(usual().error_ttl(SECOND)), Calls::default());
        cache.insert(9, 9);
        let lead = |hold: &Hold| {
            ask(verb, &cache, &[1, 9, 2], |_| {
                hold.here();
                Err("no")
            })
        };
        let wait =
            |i: usize| Verb::Try.ask(&cache, 1 + i as u32, &calls.makes(Ok(5))).map(|found| vec![found]);
        let (led, waited) = crowd(|| cache.stats().waits, lead, 2, wait, || {});
        let no = || Err(CreateError::Creator(Arc::new("no")));
        assert_eq!(led.unwrap(), no(), "{verb:?}");
        waited.into_iter().for_each(|waited| assert_eq!(waited.unwrap(), no(), "{verb:?}"));
        assert_eq!(calls.count(), 0, "{verb:?}");
        assert_eq!(cache.len(), 1, "{verb:?}: what was there is there");
        // And remembered, for each.
        assert_eq!(Verb::Try.ask(&cache, 2, &calls.makes(Ok(5))), Err(CreateError::Creator(Arc::new("no"))));
        assert_eq!(ask(verb, &cache, &[9, 3, 1], tenfold), no(), "{verb:?}");
        assert!(!cache.key_is_locked(&3), "{verb:?}: one that is remembered ends the whole batch");
        clock.advance(SECOND);
        assert_eq!(ask(verb, &cache, &[9, 3, 1], tenfold), Ok(vec![9, 30, 10]), "{verb:?}");
    }
}

/// What a batch had claimed when it met a remembered error is no failure of a creator: none was called.
#[test]
fn a_batch_that_ends_before_its_creator_is_called_counts_no_failure() {
    let cache = under(usual().error_ttl(SECOND)).0;
    assert!(Verb::Try.ask(&cache, 2, &Calls::default().makes(Err("no"))).is_err());
    assert_eq!(cache.stats().failures, 1);
    assert!(ask(Verb::TryMulti, &cache, &[1, 2], |_| unreachable!("one error ends it")).is_err());
    assert_eq!(cache.stats().failures, 1);
}

#[test]
fn stale_values_stand_in_for_an_error_of_a_batch_where_all_can() {
    for verb in [Verb::TryMulti, Verb::TryMultiAsync] {
        let (cache, clock) = under(policy().fresh(FRESH).stale_if_error(STALE).hold_back(SECOND));
        cache.insert(1, 1);
        cache.insert(2, 2);
        clock.advance(FRESH);
        assert_eq!(ask(verb, &cache, &[2, 1, 2], |_| Err("no")), Ok(vec![2, 1, 2]), "{verb:?}");
        assert_eq!(counts(&cache), Counts { leads: 2, failures: 2, stale_served: 2, ..NOTHING }, "{verb:?}");
        let held_back = ask(verb, &cache, &[1, 2], |_| unreachable!("held back"));
        assert_eq!(held_back, Ok(vec![1, 2]), "{verb:?}");
        clock.advance(SECOND);
        let none_for_3 = ask(verb, &cache, &[1, 3], |_| Err("no"));
        assert_eq!(none_for_3, Err(CreateError::Creator(Arc::new("no"))), "{verb:?}");
    }
}

#[test]
fn a_panic_of_a_batch_frees_all_of_it() {
    let _watch = watch();
    for verb in BATCHES {
        let cache = under(usual()).0;
        let lead = |hold: &Hold| {
            ask(verb, &cache, &[1, 2], |_| {
                hold.here();
                panic!("no")
            })
        };
        let wait = |i: usize| match i {
            0 => Ok(vec![*cache.get_or_create(&1, || 5)]),
            _ => ask(verb, &cache, &[2, 1, 3], tenfold),
        };
        let (led, waited) = crowd(|| cache.stats().waits, lead, 2, wait, || {});
        assert_eq!(crate::common::message(led), "no", "{verb:?}");
        let waited: Vec<Found> = waited.into_iter().map(|waited| waited.unwrap()).collect();
        assert_eq!(
            waited,
            [Ok(vec![5]), Ok(vec![20, 5, 30])],
            "{verb:?}: a second call for what was given up"
        );
        assert!((1..=3).all(|key| !cache.key_is_locked(&key)), "{verb:?}");
        let stats = cache.stats();
        assert_eq!((stats.failures, stats.hand_overs, stats.creations), (2, 1, 3), "{verb:?}");
    }
}

/// A batch that waits is never handed the lead; but what was given up is not given up for good.
#[test]
fn a_batch_makes_itself_what_others_have_given_up() {
    let _watch = watch();
    for verb in BATCHES {
        let (cache, asked) = (under(usual()).0, Mutex::new(Vec::new()));
        let lead = |hold: &Hold| {
            Ok(vec![*cache.get_or_create(&2, || {
                hold.here();
                panic!("no")
            })])
        };
        let wait = |_| {
            ask(verb, &cache, &[1, 2, 3], |keys| {
                asked.lock().unwrap().push(keys.to_vec());
                tenfold(keys)
            })
        };
        let (led, waited) = crowd(|| cache.stats().waits, lead, 1, wait, || {});
        led.unwrap_err();
        assert_eq!(waited.into_iter().next().unwrap().unwrap(), Ok(vec![10, 20, 30]), "{verb:?}");
        assert_eq!(*asked.lock().unwrap(), [vec![1, 3], vec![2]], "{verb:?}");
    }
}

/// What is written or removed while a batch is made wins, key by key.
#[test]
fn newer_state_wins_over_a_batch_key_by_key() {
    let _watch = watch();
    for verb in BATCHES {
        let cache = under(usual()).0;
        let lead = |hold: &Hold| {
            ask(verb, &cache, &[1, 2, 3, 4], |keys| {
                hold.here();
                tenfold(keys)
            })
        };
        let led = while_held(lead, || {
            cache.insert(1, 1);
            cache.remove(&2);
            cache.insert_if_absent(3, 3);
        });
        assert_eq!(led, Ok(vec![10, 20, 30, 40]), "{verb:?}");
        let now: Vec<Option<u32>> = (1..=4).map(|key| cache.get_cloned(&key)).collect();
        assert_eq!(now, [Some(1), None, Some(3), Some(40)], "{verb:?}");
        assert_eq!(cache.stats().refused_late_writes, 3, "{verb:?}");
    }
}

#[test]
fn cache_only_returns_all_or_nothing() {
    let only = policy().stale(STALE).freshness(Freshness::CacheOnly).build().unwrap();
    let (cache, clock) = under(usual());
    cache.insert(1, 1);
    clock.advance(FRESH);
    cache.insert(2, 2);
    let ask = |keys: &[u32]| {
        let tried = cache.with(&only).try_get_or_create_multi(keys, |_| Err("nothing is made"));
        tried.map(|found| found.iter().map(|found| **found).collect::<Vec<_>>())
    };
    assert_eq!(ask(&[2, 1]), Ok(vec![2, 1]));
    assert_eq!(ask(&[2, 3, 1]), Err(CreateError::NotCached));
    let found = cache.with(&only).get_or_create_multi(&[2, 3, 1], |lacking| {
        assert_eq!(lacking, [&3], "what is there it has, though not all is");
        vec![30]
    });
    assert_eq!(found.iter().map(|found| **found).collect::<Vec<_>>(), [2, 30, 1]);
    assert!(cache.get(&3).is_none());
    assert_eq!(cache.stats().leads, 0);
}

/// The time of one call is that of all it made, in parts.
#[test]
fn the_time_of_a_batch_is_counted_once() {
    for verb in BATCHES {
        let (cache, clock) = under(usual());
        let found = ask(verb, &cache, &[1, 2, 3, 4], |keys| {
            clock.advance(8 * SECOND);
            tenfold(keys)
        });
        assert!(found.is_ok());
        assert_eq!((cache.stats().creation_time, cache.stats().creations), (8 * SECOND, 4), "{verb:?}");
    }
}

/// A large batch, for the limits of whatever is counted in few bits.
#[test]
fn a_batch_may_be_large() {
    let _watch = watch();
    let cache = Cache::<u32, u32>::new(3000);
    let keys: Vec<u32> = (0..2000).collect();
    let lead = |hold: &Hold| {
        cache
            .get_or_create_multi(&keys, |asked| {
                hold.here();
                asked.iter().map(|key| *key * 10).collect()
            })
            .len()
    };
    let wait = |_| cache.get_or_create_multi(&keys, |_| unreachable!("they are being made")).len();
    let (led, waited) = crowd(|| cache.stats().waits, lead, 1, wait, || {});
    assert_eq!((led.unwrap(), waited.into_iter().next().unwrap().unwrap()), (2000, 2000));
    until("all are there", || cache.len() == 2000);
}
