//! Creators that return errors, or panic.

use super::*;
use crate::common::{Hold, Kept, crowd, ends, message, panics, until, watch, while_held};
use dogpile::time::Clock;
use dogpile::{EntryState, Freshness, Handle, RemovalCause};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;

fn fails(calls: &Calls, hold: &Hold, error: &'static str) -> Make {
    let hold = hold.clone();
    calls.counts(move || {
        hold.here();
        Err(error)
    })
}

// Errors

#[test]
fn an_error_is_shared_by_all_who_waited_for_it() {
    let _watch = watch();
    let (cache, calls) = (under(usual()).0, Calls::default());
    let others: Vec<Verb> = fallible().collect();
    let lead = |hold: &Hold| Verb::Try.ask(&cache, 7, &fails(&calls, hold, "no"));
    let wait = |i: usize| others[i].ask(&cache, 7, &calls.makes(Ok(3)));
    let (led, waited) = crowd(|| cache.stats().waits, lead, others.len(), wait, || {});
    let Err(CreateError::Creator(error)) = led.unwrap() else { panic!("the leader gets its error") };
    assert_eq!(*error, "no");
    for (verb, waited) in others.iter().zip(waited) {
        let Err(CreateError::Creator(shared)) = waited.unwrap() else { panic!("{verb:?} gets it too") };
        assert!(Arc::ptr_eq(&shared, &error), "{verb:?}: it is the same");
    }
    assert_eq!(calls.count(), 1);
    let waits = others.len() as u64;
    // Of stale values see the next test.
    let counted = Counts { stale_served: 0, ..counts(&cache) };
    assert_eq!(counted, Counts { leads: 1, failures: 1, waits, ..NOTHING });
    assert!(cache.is_empty() && !cache.key_is_locked(&7));
    assert_eq!(Verb::Try.ask(&cache, 7, &calls.makes(Ok(4))), Ok(4), "it is not remembered");
}

#[test]
fn an_error_that_is_shared_is_no_stale_value() {
    let _watch = watch();
    for verb in fallible() {
        let (cache, calls) = (under(usual()).0, Calls::default());
        let lead = |hold: &Hold| Verb::Try.ask(&cache, 7, &fails(&calls, hold, "no"));
        let wait = |_| verb.ask(&cache, 7, &calls.makes(Ok(3)));
        crowd(|| cache.stats().waits, lead, 1, wait, || {}).0.unwrap().unwrap_err();
        assert_eq!(counts(&cache), Counts { leads: 1, failures: 1, waits: 1, ..NOTHING }, "{verb:?}");
    }
}

/// The twin of the above: the same schedule, without the gate.
#[test]
fn without_the_gate_everybody_fails_for_himself() {
    let (cache, calls) = (under(usual()).0, Calls::default());
    let get_or_make = |make: &Make| cache.get_cloned(&7).map_or_else(|| make(), Ok);
    let led = while_held(
        |hold| get_or_make(&fails(&calls, hold, "no")),
        || assert_eq!(get_or_make(&calls.makes(Err("no"))), Err("no")),
    );
    assert_eq!((led, calls.count()), (Err("no"), 2));
}

/// Another's error of another type says nothing of one's own creator.
#[test]
fn a_waiter_with_another_type_of_error_leads_next() {
    let _watch = watch();
    let (cache, calls) = (under(usual()).0, Calls::default());
    let lead = |hold: &Hold| {
        let failing = || {
            hold.here();
            "seven".parse::<u32>()
        };
        cache.try_get_or_create(&7, failing).map(|found| *found).map_err(|error| error.to_string())
    };
    let others: Vec<Verb> = VERBS.into_iter().collect();
    let wait =
        |i: usize| others[i].ask(&cache, 7, &calls.makes(Ok(i as u32))).map_err(|error| error.to_string());
    let (led, waited) = crowd(|| cache.stats().waits, lead, others.len(), wait, || {});
    let found: Vec<u32> = waited.into_iter().map(|waited| waited.unwrap().unwrap()).collect();
    assert!(found.iter().all(|value| *value == found[0]), "one of them made it for all: {found:?}");
    // The leader may find that value in the place of its error, if it comes late enough.
    let led = led.unwrap();
    assert!(led == Err(String::from("the creator failed")) || led == Ok(found[0]), "{led:?}");
    assert_eq!(calls.count(), 1);
    assert_eq!(cache.get_cloned(&7), Some(found[0]));
    let counted = counts(&cache);
    assert_eq!((counted.leads, counted.creations, counted.failures), (2, 1, 1));
}

// error_ttl

fn remembers() -> PolicyBuilder<u32> {
    usual().error_ttl(10 * SECOND)
}

#[test]
fn an_error_is_remembered_for_its_time() {
    for verb in fallible() {
        let ((cache, clock), calls) = (under(remembers()), Calls::default());
        let failing = calls.makes(Err("no"));
        for _ in 0..3 {
            assert_eq!(verb.ask(&cache, 7, &failing).unwrap_err().creator(), Some(&"no"), "{verb:?}");
        }
        assert_eq!(calls.count(), 1, "{verb:?}: one call for all of the time");
        clock.advance(10 * SECOND - Duration::from_nanos(1));
        assert!(verb.ask(&cache, 7, &failing).is_err());
        assert_eq!(calls.count(), 1, "{verb:?}");
        clock.advance(Duration::from_nanos(1));
        assert!(verb.ask(&cache, 7, &failing).is_err());
        assert_eq!(calls.count(), 2, "{verb:?}: it is tried again at the end of its time");
        clock.advance(10 * SECOND);
        assert_eq!(verb.ask(&cache, 7, &calls.makes(Ok(2))), Ok(2), "{verb:?}");
        assert_eq!(cache.get_cloned(&7), Some(2));
        assert_eq!(counts(&cache), Counts { leads: 3, failures: 2, creations: 1, ..NOTHING }, "{verb:?}");
    }
}

/// Creators that can't fail, and those with errors of another type, take no notice of it.
#[test]
fn a_remembered_error_is_none_to_creators_of_another_kind() {
    for verb in VERBS.into_iter().filter(|verb| !verb.can_fail()) {
        let (cache, _) = under(remembers());
        assert!(Verb::Try.ask(&cache, 7, &Calls::default().makes(Err("no"))).is_err());
        assert_eq!(verb.ask(&cache, 7, &Calls::default().makes(Ok(2))), Ok(2), "{verb:?}");
        assert_eq!(cache.get_cloned(&7), Some(2), "{verb:?}: it is stored in the error's place");
    }
    let (cache, _) = under(remembers());
    assert!(Verb::Try.ask(&cache, 7, &Calls::default().makes(Err("no"))).is_err());
    let parsed = cache.try_get_or_create(&7, || "seven".parse::<u32>());
    assert!(parsed.is_err_and(|error| error.creator().is_some()));
    let mine = Verb::Try.ask(&cache, 7, &Calls::default().makes(Ok(2)));
    assert_eq!(mine, Ok(2), "of two errors the newer is remembered");
}

/// A remembered error is no entry: nobody sees it but who makes values.
#[test]
fn a_remembered_error_is_a_miss() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    let listener = move |entry: Handle<u32, u32>, cause: RemovalCause| {
        log.lock().unwrap().push((*entry.key(), cause));
    };
    let (cache, clock) = timed(Cache::builder().policy(remembers().build().unwrap()).listener(listener));
    let fail = || assert!(Verb::Try.ask(&cache, 7, &Calls::default().makes(Err("no"))).is_err());
    fail();
    assert!(cache.get(&7).is_none() && cache.peek(&7).is_none() && !cache.contains_key(&7));
    assert!(cache.get_handle(&7).is_none() && cache.get_cloned(&7).is_none());
    let pin = cache.pin();
    assert!(cache.get_in(&7, &pin).is_none() && cache.get_multi(&[7], &pin).flatten().next().is_none());
    drop(pin);
    assert!(cache.iter().next().is_none() && cache.hottest(9).is_empty() && cache.coldest(9).is_empty());
    assert_eq!((cache.len(), cache.is_empty()), (0, true));
    assert!(!cache.touch(&7) && !cache.expire_in(&7, None) && !cache.expire_at(&7, None));
    cache.retain(|_, _| panic!("nor does retain look at it"));
    assert!(cache.remove_if(&7, |_, _| panic!("nor remove_if")).is_none());
    fail();
    cache.compute(7, |old| {
        assert_eq!(old, None);
        dogpile::Compute::Keep
    });
    assert!(matches!(cache.explain(&7).state, EntryState::Failed { left } if left == 10 * SECOND));

    // Whatever is written wins over it, and it leaves without a word.
    fail();
    assert!(cache.insert(7, 1).is_none());
    assert_eq!(cache.get_cloned(&7), Some(1));
    let forget = |what: &str, forget: &dyn Fn()| {
        drop(cache.remove(&7));
        fail();
        forget();
        assert_eq!(cache.explain(&7).state, EntryState::Absent, "{what}");
        assert_eq!(Verb::Try.ask(&cache, 7, &Calls::default().makes(Ok(2))), Ok(2), "{what}");
    };
    forget("remove", &|| assert!(cache.remove(&7).is_none()));
    forget("clear", &|| cache.clear());
    forget("compute", &|| _ = cache.compute(7, |_| dogpile::Compute::Remove));
    cache.remove(&7);
    fail();
    assert!(cache.insert_if_absent(7, 3).is_stored(), "it is no obstacle");
    cache.remove(&7);
    fail();
    assert_eq!(cache.compute(7, |_| dogpile::Compute::Put(4)).as_deref(), Some(&4));
    cache.remove(&7);
    fail();
    clock.advance(10 * SECOND);
    cache.run_pending();
    assert!(heard.lock().unwrap().iter().all(|(_, cause)| *cause == RemovalCause::Removed));
}

/// Remembered errors count for the capacity, and give way like entries, so that they can't fill the memory.
#[test]
fn remembered_errors_can_be_evicted() {
    let heard = Arc::new(AtomicUsize::new(0));
    let log = Arc::clone(&heard);
    let builder = Cache::builder().max_entries(8).policy(remembers().build().unwrap());
    let (cache, _) = timed(builder.listener(move |_, _| _ = log.fetch_add(1, SeqCst)));
    let failed = |key: u32| matches!(cache.explain(&key).state, EntryState::Failed { .. });
    for key in 0..1000 {
        assert!(Verb::Try.ask(&cache, key, &Calls::default().makes(Err("no"))).is_err());
    }
    assert_eq!((0..1000).filter(|key| failed(*key)).count(), 8);
    // What is in use displaces what nobody asked for again.
    let mut inserted = 0;
    for key in (2000..2008).cycle().take(200) {
        if cache.get(&key).is_none() {
            cache.insert(key, key);
            inserted += 1;
        }
    }
    assert_eq!((cache.len(), (0..1000).filter(|key| failed(*key)).count()), (8, 0));
    let evicted = inserted - 8;
    assert_eq!(
        (heard.load(SeqCst) as u64, cache.stats().evicted),
        (evicted, evicted),
        "errors are not counted"
    );
    assert!(cache.capacity() == Some(8) && cache.weight() == 8);
}

#[test]
fn remembered_errors_are_swept_out_after_their_time() {
    let (cache, clock) = timed(Cache::builder().max_entries(8).policy(remembers().build().unwrap()));
    for key in 0..8 {
        assert!(Verb::Try.ask(&cache, key, &Calls::default().makes(Err("no"))).is_err());
    }
    clock.advance(10 * SECOND);
    assert_eq!(cache.explain(&3).state, EntryState::Absent);
    cache.run_pending();
    (10..18).for_each(|key| _ = cache.insert(key, key));
    assert_eq!((cache.len(), cache.stats().evicted), (8, 0), "there was room for all");
}

#[test]
fn a_cache_without_room_remembers_no_error() {
    let (cache, _) = timed(Cache::builder().max_entries(0).policy(remembers().build().unwrap()));
    let calls = Calls::default();
    for _ in 0..2 {
        assert!(Verb::Try.ask(&cache, 7, &calls.makes(Err("no"))).is_err());
    }
    assert_eq!((calls.count(), cache.explain(&7).state), (2, EntryState::Absent));
}

/// An error of a creation that began with a value which is only stale by now is not remembered: the value is served.
#[test]
fn an_error_does_not_take_a_stale_value_away() {
    let ((cache, clock), calls) = (under(remembers()), Calls::default());
    cache.insert(7, 1);
    clock.advance(FRESH);
    for attempt in 1..=2 {
        assert!(Verb::Try.ask(&cache, 7, &calls.makes(Err("no"))).is_err());
        assert_eq!(calls.count(), attempt);
    }
    let only = policy().stale(STALE).freshness(Freshness::CacheOnly).build().unwrap();
    assert_eq!(Verb::Try.ask_by(&only, &cache, 7, &calls.makes(Ok(2))), Ok(1));
    clock.advance(STALE);
    assert!(Verb::Try.ask(&cache, 7, &calls.makes(Err("no"))).is_err());
    assert!(matches!(cache.explain(&7).state, EntryState::Failed { .. }), "nothing is left to be served");
}

/// `refresh` makes the value anew, whatever is there.
#[test]
fn refresh_tries_again_where_an_error_is_remembered() {
    let calls = Calls::default();
    let results = Arc::new(Mutex::new(vec![Ok(2), Err("no")]));
    let make = calls.counts(move || results.lock().unwrap().pop().unwrap());
    let builder = Cache::builder().policy(remembers().build().unwrap()).try_loader(move |_: &u32| make());
    let (cache, _) = timed(builder);
    assert!(cache.load(&7).is_err());
    assert!(cache.load(&7).is_err(), "it is remembered");
    assert_eq!(calls.count(), 1);
    assert_eq!(*cache.refresh(&7).unwrap(), 2);
}

// stale_if_error and hold_back

fn stands_in() -> PolicyBuilder<u32> {
    policy().fresh(FRESH).stale_if_error(STALE).hold_back(5 * SECOND)
}

#[test]
fn a_stale_value_stands_in_for_an_error_and_the_next_try_is_held_back() {
    for verb in fallible() {
        let (kept, calls) = (Kept::default(), Calls::default());
        let (cache, clock) = under(stands_in().runner(kept.clone()));
        cache.insert(7, 1);
        clock.advance(FRESH);
        let failing = calls.makes(Err("no"));
        assert_eq!(verb.ask(&cache, 7, &failing), Ok(1), "{verb:?}");
        assert_eq!(counts(&cache), Counts { leads: 1, failures: 1, stale_served: 1, ..NOTHING }, "{verb:?}");
        clock.advance(5 * SECOND - Duration::from_nanos(1));
        for other in VERBS {
            assert_eq!(other.ask(&cache, 7, &calls.makes(Ok(9))), Ok(1), "{verb:?}, {other:?}: held back");
        }
        assert_eq!(calls.count(), 1, "{verb:?}");
        clock.advance(Duration::from_nanos(1));
        assert_eq!(verb.ask(&cache, 7, &failing), Ok(1), "{verb:?}");
        // By now there is a value to return meanwhile, so detached ones are handed on.
        assert_eq!(kept.run(), usize::from(verb.is_detached()), "{verb:?}");
        assert_eq!(calls.count(), 2, "{verb:?}: tried again at the end of its time");
        assert!(cache.get(&7).is_none(), "{verb:?}: it is not fresh again");
        clock.advance(5 * SECOND);
        let found = verb.ask(&cache, 7, &calls.makes(Ok(2)));
        assert_eq!(found, Ok(if verb.is_detached() { 1 } else { 2 }), "{verb:?}");
        kept.run();
        assert_eq!(cache.get_cloned(&7), Some(2), "{verb:?}");
        // The last time that it can stand in.
        clock.advance(FRESH + STALE - Duration::from_nanos(1));
        assert_eq!(verb.ask(&cache, 7, &failing), Ok(2), "{verb:?}");
        clock.advance(Duration::from_nanos(1));
        assert!(verb.ask(&cache, 7, &failing).is_err(), "{verb:?}: too old, held back or not");
    }
}

/// After a failure the stale value goes to all but the one who tries again.
#[test]
fn while_one_tries_again_the_others_get_the_value_that_stands_in() {
    let _watch = watch();
    let ((cache, clock), calls) = (under(stands_in()), Calls::default());
    cache.insert(7, 1);
    clock.advance(FRESH);
    assert_eq!(Verb::Try.ask(&cache, 7, &calls.makes(Err("no"))), Ok(1));
    clock.advance(5 * SECOND);
    let led = while_held(
        |hold| Verb::Try.ask(&cache, 7, &fails(&calls, hold, "no")),
        || {
            for verb in VERBS {
                assert_eq!(verb.ask(&cache, 7, &calls.makes(Ok(9))), Ok(1), "{verb:?}");
            }
        },
    );
    assert_eq!((led, calls.count(), cache.stats().waits), (Ok(1), 2, 0));
}

#[test]
fn hold_back_is_a_second_if_nothing_is_said() {
    let ((cache, clock), calls) = (under(policy().fresh(FRESH).stale_if_error(STALE)), Calls::default());
    cache.insert(7, 1);
    clock.advance(FRESH);
    let ask = || assert_eq!(Verb::Try.ask(&cache, 7, &calls.makes(Err("no"))), Ok(1));
    ask();
    clock.advance(SECOND - Duration::from_nanos(1));
    ask();
    assert_eq!(calls.count(), 1);
    clock.advance(Duration::from_nanos(1));
    ask();
    assert_eq!(calls.count(), 2);
}

#[test]
fn who_waited_for_an_error_gets_the_stale_value_too() {
    let _watch = watch();
    let ((cache, clock), calls) = (under(stands_in()), Calls::default());
    cache.insert(7, 1);
    clock.advance(FRESH);
    let others: Vec<Verb> = fallible().collect();
    let lead = |hold: &Hold| Verb::Try.ask(&cache, 7, &fails(&calls, hold, "no"));
    let wait = |i: usize| others[i].ask(&cache, 7, &calls.makes(Ok(3)));
    let (led, waited) = crowd(|| cache.stats().waits, lead, others.len(), wait, || {});
    assert_eq!(led.unwrap(), Ok(1));
    for (verb, waited) in others.iter().zip(waited) {
        assert_eq!(waited.unwrap(), Ok(1), "{verb:?}");
    }
    let waits = others.len() as u64;
    assert_eq!(counts(&cache), Counts { leads: 1, failures: 1, waits, stale_served: waits + 1, ..NOTHING });
    assert_eq!(calls.count(), 1);
}

/// Whoever does not take a stale value in an error's place need not be held back.
#[test]
fn hold_back_binds_only_those_who_get_the_stale_value() {
    let ((cache, clock), calls) = (under(stands_in()), Calls::default());
    cache.insert(7, 1);
    clock.advance(FRESH);
    assert_eq!(Verb::Try.ask(&cache, 7, &calls.makes(Err("no"))), Ok(1));
    let strict = policy().fresh(FRESH).build().unwrap();
    assert_eq!(Verb::Try.ask_by(&strict, &cache, 7, &calls.makes(Ok(2))), Ok(2));
    assert_eq!(cache.get_cloned(&7), Some(2));
}

#[test]
fn a_value_that_is_written_ends_the_holding_back() {
    let (cache, clock) = under(stands_in());
    cache.insert(7, 1);
    clock.advance(FRESH);
    assert_eq!(Verb::Try.ask(&cache, 7, &Calls::default().makes(Err("no"))), Ok(1));
    cache.insert(7, 2);
    assert_eq!(cache.get_cloned(&7), Some(2));
    drop(cache.remove(&7));
    assert_eq!(Verb::Try.ask(&cache, 7, &Calls::default().makes(Ok(3))), Ok(3));
}

/// The time to idle and the holding back share a place in the entry.
#[test]
fn hold_back_and_a_time_to_idle_do_not_disturb_each_other() {
    let builder = Cache::builder().max_entries(10).time_to_idle(20 * SECOND);
    let ((cache, clock), calls) = (timed(builder.policy(stands_in().build().unwrap())), Calls::default());
    cache.insert(7, 1);
    for _ in 0..6 {
        clock.advance(10 * SECOND);
        cache.get(&7);
    }
    assert!(cache.get(&7).is_none(), "60 seconds are over, and it was in use all the while");
    assert_eq!(Verb::Try.ask(&cache, 7, &calls.makes(Err("no"))), Ok(1));
    clock.advance(5 * SECOND);
    assert!(cache.get(&7).is_none());
    assert_eq!(Verb::Try.ask(&cache, 7, &calls.makes(Err("no"))), Ok(1));
    clock.advance(100 * SECOND);
    assert_eq!(Verb::Try.ask(&cache, 7, &calls.makes(Err("no"))), Ok(1));
    assert_eq!(calls.count(), 3);
    cache.run_pending();
    assert_eq!(cache.len(), 1, "it may still stand in");
}

/// What has expired does not come back: not for having stood in for an error.
#[test]
fn an_entry_that_was_idle_too_long_stays_so_after_it_stood_in() {
    let long = policy().fresh(1000 * SECOND).stale_if_error(STALE).hold_back(5 * SECOND);
    let builder = Cache::builder().time_to_idle(20 * SECOND).policy(long.build().unwrap());
    let (cache, clock) = timed(builder);
    cache.insert(7, 1);
    clock.advance(20 * SECOND);
    assert!(cache.get(&7).is_none(), "it was not used for too long");
    // Whether it may stand in may be argued; whether it is back may not.
    _ = Verb::Try.ask(&cache, 7, &Calls::default().makes(Err("no")));
    assert_eq!(cache.get_cloned(&7), None);
}

/// Fresh values only, but an error's place may be taken by a stale one, and is: while the next try is held back, too.
#[test]
fn nobody_spins_while_the_next_try_is_held_back() {
    for verb in fallible() {
        ends(move || {
            let fresh_only = stands_in().freshness(Freshness::WaitFresh).wait(Duration::ZERO);
            let ((cache, clock), calls) = (under(fresh_only), Calls::default());
            cache.insert(7, 1);
            clock.advance(FRESH);
            assert_eq!(verb.ask(&cache, 7, &calls.makes(Err("no"))), Ok(1), "{verb:?}");
            let held_back = verb.ask(&cache, 7, &calls.makes(Err("no")));
            assert!(matches!(held_back, Ok(1) | Err(_)), "{verb:?}");
        });
    }
}

// Panics

#[test]
fn after_a_panic_the_waiter_that_came_first_leads() {
    let _watch = watch();
    for verb in VERBS {
        let (cache, calls) = (under(usual()).0, Calls::default());
        let lead = |hold: &Hold| {
            let hold = hold.clone();
            let make = calls.counts(move || {
                hold.here();
                panic!("the first")
            });
            verb.ask(&cache, 7, &make)
        };
        let wait = |i: usize| Verb::Plain.ask(&cache, 7, &calls.makes(Ok(i as u32)));
        let (led, waited) = crowd(|| cache.stats().waits, lead, 3, wait, || {});
        assert_eq!(message(led), "the first", "{verb:?}: it is the leader's own");
        let waited: Vec<Asked> = waited.into_iter().map(|waited| waited.unwrap()).collect();
        assert_eq!(waited, [Ok(0), Ok(0), Ok(0)], "{verb:?}: the first to come makes it for all");
        assert_eq!(calls.count(), 2, "{verb:?}");
        assert_eq!(
            counts(&cache),
            Counts { leads: 2, creations: 1, failures: 1, waits: 3, hand_overs: 1, ..NOTHING },
            "{verb:?}"
        );
        assert!(!cache.key_is_locked(&7) && cache.get_cloned(&7) == Some(0), "{verb:?}");
    }
}

/// Whoever takes over brings his own creator: that goes for each verb that waits, but for batches, which may be asleep elsewhere.
#[test]
fn every_verb_takes_over_after_a_panic() {
    let _watch = watch();
    for verb in VERBS {
        let (cache, calls) = (under(usual()).0, Calls::default());
        let lead = |hold: &Hold| {
            let hold = hold.clone();
            let make = calls.counts(move || {
                hold.here();
                panic!("the first")
            });
            Verb::Plain.ask(&cache, 7, &make)
        };
        let wait = |_| verb.ask(&cache, 7, &calls.makes(Ok(5)));
        let (led, waited) = crowd(|| cache.stats().waits, lead, 1, wait, || {});
        assert_eq!(message(led), "the first");
        assert_eq!(waited.into_iter().next().unwrap().unwrap(), Ok(5), "{verb:?}");
        let hand_overs = u64::from(!verb.is_batch());
        let expected = Counts { leads: 2, creations: 1, failures: 1, waits: 1, hand_overs, ..NOTHING };
        assert_eq!(counts(&cache), expected, "{verb:?}");
        assert_eq!(cache.get_cloned(&7), Some(5), "{verb:?}");
    }
}

#[test]
fn after_a_second_panic_the_rest_are_told_or_make_their_own() {
    let _watch = watch();
    let (cache, calls) = (under(usual()).0, Calls::default());
    let lead = |hold: &Hold| {
        let hold = hold.clone();
        let make = calls.counts(move || {
            hold.here();
            panic!("the first")
        });
        Verb::Plain.ask(&cache, 7, &make)
    };
    let wait = |i: usize| match i {
        0 => Verb::Try.ask(&cache, 7, &calls.counts(|| panic!("the second"))),
        i => VERBS[i - 1].ask(&cache, 7, &Calls::default().makes(Ok(i as u32))),
    };
    let (led, waited) = crowd(|| cache.stats().waits, lead, VERBS.len() + 1, wait, || {});
    assert_eq!(message(led), "the first");
    let mut waited = waited.into_iter();
    assert_eq!(message(waited.next().unwrap()), "the second");
    for (i, (verb, waited)) in VERBS.into_iter().zip(waited).enumerate() {
        let expected = if verb.can_fail() { Err(CreateError::LeaderPanicked) } else { Ok(i as u32 + 1) };
        assert_eq!(waited.unwrap(), expected, "{verb:?}");
    }
    assert_eq!(calls.count(), 2);
    let waits = VERBS.len() as u64 + 1;
    assert_eq!(counts(&cache), Counts { leads: 2, failures: 2, hand_overs: 1, waits, ..NOTHING });
    assert!(cache.is_empty() && !cache.key_is_locked(&7), "their own values are not stored");
    assert_eq!(Verb::Try.ask(&cache, 7, &calls.makes(Ok(3))), Ok(3), "the next call tries again");
}

#[test]
fn a_panic_over_a_stale_value_leaves_it_as_it_was() {
    let (cache, clock) = under(usual());
    for verb in VERBS.into_iter().filter(|verb| !verb.is_detached()) {
        cache.insert(7, 1);
        clock.advance(FRESH);
        assert_eq!(
            panics(|| verb.ask(&cache, 7, &Calls::default().counts(|| panic!("no")))),
            "no",
            "{verb:?}"
        );
        assert!(!cache.key_is_locked(&7), "{verb:?}");
        let only = policy().stale(STALE).freshness(Freshness::CacheOnly).build().unwrap();
        assert_eq!(Verb::Try.ask_by(&only, &cache, 7, &Calls::default().makes(Ok(9))), Ok(1), "{verb:?}");
        assert_eq!(verb.ask(&cache, 7, &Calls::default().makes(Ok(2))), Ok(2), "{verb:?}");
    }
}

#[test]
fn without_waiters_a_panic_leaves_nothing() {
    for verb in VERBS {
        let (cache, _) = under(usual());
        assert_eq!(
            panics(|| verb.ask(&cache, 7, &Calls::default().counts(|| panic!("no")))),
            "no",
            "{verb:?}"
        );
        assert_eq!(cache.explain(&7).to_string(), "missing: not in the cache", "{verb:?}");
        assert_eq!(counts(&cache), Counts { leads: 1, failures: 1, ..NOTHING }, "{verb:?}");
        assert_eq!(verb.ask(&cache, 7, &Calls::default().makes(Ok(2))), Ok(2), "{verb:?}");
    }
}

/// What a batch is asked by is user code as much as what it returns: its panics count, too.
#[test]
fn the_function_that_begins_a_batch_panics_as_its_future_would() {
    let _watch = watch();
    let (cache, calls) = (under(usual()).0, Calls::default());
    let begin = |hold: Option<&Hold>| {
        let begin = |_: Vec<&u32>| -> std::future::Ready<Vec<u32>> {
            calls.0.fetch_add(1, SeqCst);
            if let Some(hold) = hold {
                hold.here();
            }
            panic!("before the future")
        };
        pollster::block_on(cache.get_or_create_multi_async(&[7], begin)).len()
    };
    let failing = calls.counts(|| panic!("in its turn"));
    let wait = |_| Verb::Try.ask(&cache, 7, &failing).map(|_| 0).map_err(|error| error.to_string());
    let lead = |hold: &Hold| Ok::<usize, String>(begin(Some(hold)));
    let (led, waited) = crowd(|| cache.stats().waits, lead, 4, wait, || {});
    assert_eq!(message(led), "before the future");
    assert_eq!(waited.iter().filter(|waited| waited.is_err()).count(), 1, "the second panic is the last");
    assert_eq!(calls.count(), 2);
}

/// All user code that runs between a creator's return and the storing: nothing stays locked, nobody is forgotten.
#[test]
fn panics_while_a_value_is_stored_are_as_those_of_its_creator() {
    let _watch = watch();
    for place in ["weigher", "expire_after", "listener", "should_cache", "clock"] {
        struct Bad(ManualClockLike);
        type ManualClockLike = (dogpile::time::ManualClock, Arc<Mutex<&'static str>>);
        impl Clock for Bad {
            fn now(&self) -> dogpile::time::Instant {
                self.0.0.now()
            }
            fn precise(&self) -> dogpile::time::Instant {
                burn(&self.0.1, "clock");
                self.0.0.now()
            }
        }
        fn burn(fuse: &Mutex<&'static str>, place: &str) {
            let mut fuse = fuse.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if *fuse == place {
                *fuse = "";
                drop(fuse);
                panic!("bomb in the {place}");
            }
        }
        let fuse = Arc::new(Mutex::new(""));
        let at = |place: &'static str| {
            let fuse = Arc::clone(&fuse);
            move || burn(&fuse, place)
        };
        let (in_weigher, in_expiry) = (at("weigher"), at("expire_after"));
        let (in_listener, in_should) = (at("listener"), at("should_cache"));
        let policy = usual().should_cache(move |_| {
            in_should();
            true
        });
        let clock = ManualClock::new();
        let cache = Cache::builder()
            .max_weight(100)
            .weigher(move |_: &u32, _: &u32| {
                in_weigher();
                1
            })
            .expire_after(move |_, _| {
                in_expiry();
                None
            })
            .listener(move |_, _| in_listener())
            .policy(policy.build().unwrap())
            .clock(Bad((clock.clone(), Arc::clone(&fuse))))
            .build()
            .unwrap();
        cache.insert(7, 1);
        clock.advance(FRESH + STALE);
        let set = |place| *fuse.lock().unwrap() = place;
        let lead = |hold: &Hold| {
            *cache.get_or_create(&7, || {
                hold.here();
                set(place);
                2
            })
        };
        let wait = |_| *cache.get_or_create(&7, || 3);
        let (led, waited) = crowd(|| cache.stats().waits, lead, 2, wait, || {});
        assert_eq!(message(led), format!("bomb in the {place}"));
        // Of a listener that panics the value is stored.
        let expected = if place == "listener" { 2 } else { 3 };
        for waited in waited {
            assert_eq!(waited.unwrap(), expected, "{place}");
        }
        assert!(!cache.key_is_locked(&7), "{place}");
        assert_eq!(cache.get_cloned(&7), Some(expected), "{place}");
    }
}

/// Many threads, many keys, creators that return, fail and panic by turns: in the end nothing is locked, and no key is kept that
/// has no value.
#[test]
fn nothing_is_left_of_creations_that_failed() {
    let _watch = watch();
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    #[derive(PartialEq, Eq, Hash)]
    struct Key(u32);
    impl Key {
        fn new(key: u32) -> Self {
            ALIVE.fetch_add(1, SeqCst);
            Self(key)
        }
    }
    impl Clone for Key {
        fn clone(&self) -> Self {
            Self::new(self.0)
        }
    }
    impl Drop for Key {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, SeqCst);
        }
    }
    let cache = Cache::<Key, u32>::new(1000);
    thread::scope(|scope| {
        for thread in 0..4 {
            let cache = &cache;
            scope.spawn(move || {
                for i in 0..300_u32 {
                    let key = Key::new(i);
                    match (i + thread) % 5 {
                        0 => {
                            let batch = [Key::new(i), Key::new(i + 1000)];
                            _ = cache.try_get_or_create_multi(&batch, |_| Ok::<_, &str>(vec![]));
                        }
                        1 => {
                            let future = cache.get_or_create_async(&key, std::future::pending());
                            _ = crate::common::Polled::new(future).poll();
                        }
                        2 if i % 50 == 0 => {
                            let make = || -> Made { panic!("no") };
                            // Or it shares another's error.
                            let ask = || cache.try_get_or_create(&key, make).is_ok();
                            _ = catch_unwind(AssertUnwindSafe(ask));
                        }
                        _ => _ = cache.try_get_or_create(&key, || Err("no")).is_ok(),
                    }
                }
            });
        }
    });
    assert_eq!(cache.len(), 0);
    (0..2000).for_each(|i| assert_eq!(cache.explain(&Key::new(i)).state, EntryState::Absent));
    cache.run_pending();
    until("all memory is free", || {
        cache.run_pending();
        ALIVE.load(SeqCst) == 0
    });
    (0..1000).for_each(|i| _ = cache.insert(Key::new(i), i));
    assert_eq!((cache.len(), cache.stats().evicted), (1000, 0), "there is room for all");
}

/// The same with a runner that has to do it all later, or does not at all: see `background`.
#[test]
fn a_failure_in_the_background_leaves_the_stale_value() {
    let kept = Kept::default();
    let (cache, clock) = under(usual().runner(kept.clone()));
    cache.insert(7, 1);
    clock.advance(FRESH);
    for verb in [Verb::TryDetached, Verb::TryDetachedAsync] {
        assert_eq!(verb.ask(&cache, 7, &Calls::default().makes(Err("no"))), Ok(1), "{verb:?}");
        assert_eq!(kept.run(), 1);
        assert!(!cache.key_is_locked(&7), "{verb:?}");
    }
    assert_eq!(counts(&cache), Counts { leads: 2, failures: 2, stale_served: 2, ..NOTHING });
}
