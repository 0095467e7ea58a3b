//! The table: fresh, stale or missing, against nobody or somebody who makes it anew.

use super::*;
use crate::common::{Hold, Kept, crowd, until, watch, while_held};
use dogpile::Freshness;
use std::sync::mpsc;
use std::thread;

/// How a key comes to be what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Fresh,
    Stale,
    /// Missing: it was never there, is too old, was taken out, was swept out with all others.
    Absent,
    Expired,
    Removed,
    Cleared,
}

const MISSING: [Before; 4] = [Before::Absent, Before::Expired, Before::Removed, Before::Cleared];

/// A cache that has 1 in this state under the key 7.
fn with(before: Before, builder: PolicyBuilder<u32>) -> Cache<u32, u32> {
    let (cache, clock) = under(builder);
    if before != Before::Absent {
        cache.insert(7, 1);
    }
    match before {
        Before::Fresh | Before::Absent => {}
        Before::Stale => clock.advance(FRESH),
        Before::Expired => clock.advance(FRESH + STALE),
        Before::Removed => drop(cache.remove(&7)),
        Before::Cleared => cache.clear(),
    }
    cache
}

#[test]
fn fresh_and_nobody_makes_it_anew_the_value() {
    for verb in VERBS {
        let (cache, calls) = (with(Before::Fresh, usual()), Calls::default());
        assert_eq!(verb.ask(&cache, 7, &calls.makes(Ok(2))), Ok(1), "{verb:?}");
        assert_eq!((calls.count(), counts(&cache)), (0, NOTHING), "{verb:?}");
    }
}

#[test]
fn stale_and_nobody_makes_it_anew_the_caller_leads() {
    for verb in VERBS {
        let (kept, calls) = (Kept::default(), Calls::default());
        let cache = with(Before::Stale, usual().runner(kept.clone()));
        let found = verb.ask(&cache, 7, &calls.makes(Ok(2)));
        let stale_served = if verb.is_detached() {
            // In the background: the stale value at once.
            assert_eq!((found, calls.count(), kept.len()), (Ok(1), 0, 1), "{verb:?}");
            assert!(cache.key_is_locked(&7), "{verb:?}: while the job waits");
            kept.run();
            1
        } else {
            // In the foreground.
            assert_eq!((found, kept.len()), (Ok(2), 0), "{verb:?}");
            0
        };
        assert_eq!(calls.count(), 1, "{verb:?}");
        assert_eq!(counts(&cache), Counts { leads: 1, creations: 1, stale_served, ..NOTHING }, "{verb:?}");
        assert_eq!(cache.get_cloned(&7), Some(2), "{verb:?}");
        assert!(!cache.key_is_locked(&7), "{verb:?}");
    }
}

#[test]
fn missing_and_nobody_makes_it_the_caller_leads() {
    for (verb, before) in VERBS.into_iter().flat_map(|verb| MISSING.map(|before| (verb, before))) {
        let (kept, calls) = (Kept::default(), Calls::default());
        let cache = with(before, usual().runner(kept.clone()));
        assert_eq!(verb.ask(&cache, 7, &calls.makes(Ok(2))), Ok(2), "{verb:?}, {before:?}");
        assert_eq!((calls.count(), kept.len()), (1, 0), "{verb:?}, {before:?}: in the foreground");
        assert_eq!(counts(&cache), Counts { leads: 1, creations: 1, ..NOTHING }, "{verb:?}, {before:?}");
        assert_eq!(cache.get_cloned(&7), Some(2), "{verb:?}, {before:?}");
    }
}

/// Who makes a fresh value anew: a loader, told to.
#[test]
fn fresh_and_somebody_makes_it_anew_the_value() {
    let _watch = watch();
    let hold = Hold::default();
    let in_loader = hold.clone();
    let loader = move |_: &u32| {
        in_loader.here();
        2
    };
    let (cache, _) = timed(Cache::builder().policy(usual().build().unwrap()).loader(loader));
    cache.insert(7, 1);
    let leader = thread::spawn({
        let cache = cache.clone();
        move || *cache.refresh(&7).unwrap()
    });
    hold.begun();
    let calls = Calls::default();
    for verb in VERBS {
        assert_eq!(verb.ask(&cache, 7, &calls.makes(Ok(3))), Ok(1), "{verb:?}");
    }
    assert_eq!(*cache.load(&7).unwrap(), 1);
    assert_eq!((calls.count(), counts(&cache)), (0, Counts { leads: 1, ..NOTHING }));
    hold.go();
    assert_eq!(leader.join().unwrap(), 2);
    assert_eq!(cache.get_cloned(&7), Some(2));
}

#[test]
fn stale_and_somebody_makes_it_anew_the_stale_value_at_once() {
    let _watch = watch();
    let (cache, calls) = (with(Before::Stale, usual()), Calls::default());
    let lead = |hold: &Hold| {
        let hold = hold.clone();
        Verb::Plain.ask(
            &cache,
            7,
            &calls.counts(move || {
                hold.here();
                Ok(2)
            }),
        )
    };
    let led = while_held(lead, || {
        for verb in VERBS {
            assert_eq!(verb.ask(&cache, 7, &calls.makes(Ok(3))), Ok(1), "{verb:?}");
        }
        assert_eq!(calls.count(), 1, "the leader's");
    });
    assert_eq!((led, cache.get_cloned(&7)), (Ok(2), Some(2)));
    let all = VERBS.len() as u64;
    assert_eq!(counts(&cache), Counts { leads: 1, creations: 1, stale_served: all, ..NOTHING });
}

#[test]
fn missing_and_somebody_makes_it_all_wait_for_it() {
    let _watch = watch();
    for before in MISSING {
        let (cache, calls) = (with(before, usual()), Calls::default());
        let lead = |hold: &Hold| {
            let hold = hold.clone();
            let make = calls.counts(move || {
                hold.here();
                Ok(2)
            });
            Verb::Try.ask(&cache, 7, &make)
        };
        let wait = |i: usize| VERBS[i].ask(&cache, 7, &calls.makes(Ok(3)));
        let (led, waited) = crowd(
            || cache.stats().waits,
            lead,
            VERBS.len(),
            wait,
            || {
                assert_eq!(calls.count(), 1, "the leader's");
            },
        );
        assert_eq!(led.unwrap(), Ok(2), "{before:?}");
        for (verb, waited) in VERBS.into_iter().zip(waited) {
            assert_eq!(waited.unwrap(), Ok(2), "{before:?}, {verb:?}");
        }
        let waits = VERBS.len() as u64;
        assert_eq!(counts(&cache), Counts { leads: 1, creations: 1, waits, ..NOTHING }, "{before:?}");
        assert_eq!(calls.count(), 1, "{before:?}");
    }
}

/// The twin of the above: the same schedule, without the gate.
#[test]
fn without_the_gate_all_make_it() {
    let _watch = watch();
    let (cache, calls) = (with(Before::Absent, usual()), Calls::default());
    let get_or_make = |make: Make| {
        let made = cache.get_cloned(&7).map_or_else(|| make(), Ok);
        made.inspect(|made| _ = cache.insert(7, *made))
    };
    let lead = |hold: &Hold| {
        let hold = hold.clone();
        get_or_make(calls.counts(move || {
            hold.here();
            Ok(2)
        }))
    };
    let led = while_held(lead, || {
        assert_eq!(get_or_make(calls.makes(Ok(3))), Ok(3));
    });
    assert_eq!((led, calls.count()), (Ok(2), 2));
    assert_eq!(cache.get_cloned(&7), Some(2), "and the older value wins");
}

/// The stale value goes to however many there are, while the creator stands still.
#[test]
fn many_threads_get_the_stale_value_while_a_creator_is_held_on_a_channel() {
    let _watch = watch();
    let cache = with(Before::Stale, usual());
    let (begin, begun) = mpsc::channel();
    let (go, gone) = mpsc::channel::<u32>();
    thread::scope(|scope| {
        let cache = &cache;
        let leader = scope.spawn(move || {
            *cache.get_or_create(&7, || {
                begin.send(()).unwrap();
                gone.recv().unwrap()
            })
        });
        begun.recv().unwrap();
        for _ in 0..16 {
            scope.spawn(move || {
                for _ in 0..500 {
                    assert_eq!(*cache.get_or_create(&7, || unreachable!("somebody makes it")), 1);
                }
            });
        }
        until("all have been served", || cache.stats().stale_served == 8000);
        go.send(2).unwrap();
        assert_eq!(leader.join().unwrap(), 2);
    });
    assert_eq!(counts(&cache), Counts { leads: 1, creations: 1, stale_served: 8000, ..NOTHING });
}

/// Fresh values only: also where there is a stale one.
#[test]
fn who_wants_fresh_values_waits_for_them() {
    let _watch = watch();
    let cache = with(Before::Stale, usual());
    let fresh_only = policy().fresh(FRESH).freshness(Freshness::WaitFresh).build().unwrap();
    let calls = Calls::default();
    let lead = |hold: &Hold| {
        let hold = hold.clone();
        let make = calls.counts(move || {
            hold.here();
            Ok(2)
        });
        Verb::Plain.ask(&cache, 7, &make)
    };
    let wait = |i: usize| VERBS[i].ask_by(&fresh_only, &cache, 7, &calls.makes(Ok(3)));
    let (led, waited) = crowd(|| cache.stats().waits, lead, VERBS.len(), wait, || {});
    assert_eq!(led.unwrap(), Ok(2));
    waited.into_iter().for_each(|waited| assert_eq!(waited.unwrap(), Ok(2)));
    assert_eq!(
        counts(&cache),
        Counts { leads: 1, creations: 1, waits: VERBS.len() as u64, ..NOTHING },
        "nobody was served a stale one"
    );
}

/// And who comes first leads, in the foreground.
#[test]
fn who_wants_fresh_values_and_finds_a_stale_one_leads() {
    for verb in VERBS {
        let (kept, calls) = (Kept::default(), Calls::default());
        let cache = with(Before::Stale, usual());
        let fresh_only = policy().fresh(FRESH).freshness(Freshness::WaitFresh).runner(kept.clone());
        let fresh_only = fresh_only.build().unwrap();
        assert_eq!(verb.ask_by(&fresh_only, &cache, 7, &calls.makes(Ok(2))), Ok(2), "{verb:?}");
        assert_eq!((kept.len(), counts(&cache)), (0, Counts { leads: 1, creations: 1, ..NOTHING }));
    }
}

#[test]
fn cache_only_makes_nothing_and_waits_for_nobody() {
    let _watch = watch();
    let only = policy().stale(STALE).freshness(Freshness::CacheOnly).build().unwrap();
    for before in [Before::Fresh, Before::Stale, Before::Absent, Before::Expired] {
        let (cache, calls) = (with(before, usual()), Calls::default());
        let expected = match before {
            Before::Fresh | Before::Stale => Ok(1),
            _ => Err(CreateError::NotCached),
        };
        let ask_all = || {
            for verb in fallible() {
                let asked = verb.ask_by(&only, &cache, 7, &calls.makes(Ok(2)));
                assert_eq!(asked, expected, "{verb:?}, {before:?}");
            }
        };
        ask_all();
        assert_eq!(calls.count(), 0, "{before:?}");
        let served = if before == Before::Stale { fallible().count() as u64 } else { 0 };
        assert_eq!(counts(&cache), Counts { stale_served: served, ..NOTHING }, "{before:?}");
        if before == Before::Fresh {
            continue;
        }
        // And while somebody else makes it.
        let lead = |hold: &Hold| {
            *cache.get_or_create(&7, || {
                hold.here();
                3
            })
        };
        assert_eq!(while_held(lead, ask_all), 3);
        assert_eq!((cache.stats().waits, calls.count()), (0, 0), "{before:?}");
    }
}

/// A verb that can't fail must return something.
#[test]
fn cache_only_and_a_creator_that_cannot_fail_give_a_value_that_is_not_stored() {
    let only = policy().freshness(Freshness::CacheOnly).build().unwrap();
    for verb in VERBS.into_iter().filter(|verb| !verb.can_fail()) {
        let (cache, calls) = (with(Before::Absent, usual()), Calls::default());
        assert_eq!(verb.ask_by(&only, &cache, 7, &calls.makes(Ok(2))), Ok(2), "{verb:?}");
        assert_eq!((calls.count(), counts(&cache)), (1, NOTHING), "{verb:?}");
        assert!(cache.is_empty(), "{verb:?}");
    }
}

#[test]
fn creators_values_and_keys_may_borrow() {
    let text = String::from("one two two");
    let words: Vec<&str> = text.split(' ').collect();
    let mut made = 0;
    {
        let cache: Cache<&str, Vec<&str>> = Cache::new(10);
        for word in &words {
            let found = cache.get_or_create(word, || {
                made += 1;
                words.iter().copied().filter(|other| other == word).collect()
            });
            assert!(found.iter().all(|other| other == word));
        }
        let tried = cache.try_get_or_create(&words[0], || text.parse::<u32>().map(|_| vec![]));
        assert_eq!(tried.unwrap().len(), 1);
        let found = cache.get_or_create_multi(&words, |_| unreachable!("they are there"));
        assert_eq!(found.iter().map(|found| found.len()).collect::<Vec<_>>(), [1, 2, 2]);
        let found = pollster::block_on(cache.get_or_create_async(&"three", async { vec![&text[..3]] }));
        assert_eq!(*found, ["one"]);
        assert_eq!(cache.len(), 3);
    }
    assert_eq!(made, 2);
}

/// Keys are found by what they borrow as, and cloned by the leader only.
#[test]
fn keys_are_found_in_borrowed_form() {
    let cache = Cache::<String, usize>::new(10);
    assert_eq!(*cache.get_or_create("four", || 4), 4);
    assert_eq!(*cache.try_get_or_create("four", || Err("not again")).unwrap(), 4);
    let found = cache.get_or_create_multi(["four", "five"], |lacking| {
        assert_eq!(lacking, ["five"]);
        vec![5]
    });
    assert_eq!((*found[0], *found[1]), (4, 5));
    assert!(!cache.key_is_locked("four"));
    assert_eq!(cache.explain("six").to_string(), "missing: not in the cache");
}
