//! Each setting of a policy, and what does not go together.

use super::*;
use crate::common::{Hold, Kept, crowd, ends, watch, while_held};
use dogpile::{BuildError, Early, Freshness, InsertOptions, PolicyError};

const MS: Duration = Duration::from_millis(1);

// fresh

#[test]
fn fresh_is_the_time_to_live_by_another_name() {
    for builder in [
        Cache::builder().time_to_live(FRESH),
        Cache::builder().policy(policy().fresh(FRESH).build().unwrap()),
    ] {
        let (cache, clock) = timed(builder);
        cache.insert(1, 1);
        cache.get_or_create(&2, || 2);
        clock.advance(FRESH - Duration::from_nanos(1));
        assert!(cache.contains_key(&1) && cache.contains_key(&2));
        clock.advance(Duration::from_nanos(1));
        assert!(!cache.contains_key(&1) && !cache.contains_key(&2));
    }
    let both =
        Cache::<u32, u32>::builder().time_to_live(FRESH).policy(policy().fresh(FRESH).build().unwrap());
    let error = both.build().unwrap_err();
    assert_eq!(error, BuildError::FreshAndTimeToLive);
    let text = error.to_string();
    assert!(text.contains("time_to_live") && text.contains("fresh"), "{text}");
}

#[test]
fn fresh_of_zero_is_stale_at_once_and_the_greatest_is_for_ever() {
    let (cache, clock) = under(policy().fresh(Duration::ZERO).stale(STALE));
    assert_eq!(*cache.get_or_create(&1, || 1), 1);
    assert!(cache.get(&1).is_none());
    assert_eq!(*cache.get_or_create(&1, || 2), 2, "stale: the next one makes it anew");
    let (cache, _) = under(policy().fresh(Duration::ZERO));
    assert_eq!(*cache.get_or_create(&1, || 1), 1);
    assert_eq!(*cache.get_or_create(&1, || 2), 2);
    let (cache, _) = under(policy().fresh(Duration::MAX));
    assert_eq!(cache.get_or_create(&1, || 1).entry().expires_at(), None);
    drop(clock);
}

/// What is created ends when what is put in does, to the nanosecond.
#[test]
fn fresh_is_exact_for_what_is_created() {
    for nanos in [1, 999_999_999, 1_000_000_001, 123_456_789_123_456_789, 10_000_000_000_000_000_001] {
        let (cache, _) = under(policy().fresh(Duration::from_nanos(nanos)));
        cache.insert(1, 1);
        cache.get_or_create(&2, || 2);
        let [put_in, created] = [1, 2].map(|key| match cache.explain(&key).state {
            dogpile::EntryState::Fresh { left } => left.unwrap(),
            other => panic!("{other}"),
        });
        assert_eq!((put_in, created), (Duration::from_nanos(nanos), Duration::from_nanos(nanos)));
    }
}

#[test]
fn fresh_of_a_call_counts_for_what_that_call_makes() {
    for verb in VERBS {
        let (cache, clock) = under(usual());
        let short = policy().fresh(SECOND).build().unwrap();
        assert_eq!(verb.ask_by(&short, &cache, 1, &Calls::default().makes(Ok(1))), Ok(1));
        assert_eq!(verb.ask(&cache, 2, &Calls::default().makes(Ok(2))), Ok(2));
        clock.advance(SECOND);
        assert!(!cache.contains_key(&1) && cache.contains_key(&2), "{verb:?}");
    }
}

// stale

#[test]
fn stale_ends_at_its_time() {
    for verb in VERBS {
        let (cache, clock) = under(usual());
        let only = policy().stale(STALE).freshness(Freshness::CacheOnly).build().unwrap();
        cache.insert(1, 1);
        clock.advance(FRESH + STALE - Duration::from_nanos(1));
        let ask = || Verb::Try.ask_by(&only, &cache, 1, &Calls::default().makes(Ok(9)));
        assert_eq!(ask(), Ok(1), "{verb:?}");
        clock.advance(Duration::from_nanos(1));
        assert_eq!(ask(), Err(CreateError::NotCached), "{verb:?}");
        assert_eq!(verb.ask(&cache, 1, &Calls::default().makes(Ok(2))), Ok(2), "{verb:?}");
    }
}

#[test]
fn stale_is_nothing_unless_it_is_asked_for() {
    let _watch = watch();
    let (cache, clock) = under(policy().fresh(FRESH));
    cache.insert(1, 1);
    clock.advance(FRESH);
    let lead = |hold: &Hold| {
        *cache.get_or_create(&1, || {
            hold.here();
            2
        })
    };
    let wait = |_| *cache.get_or_create(&1, || 3);
    let (led, waited) = crowd(|| cache.stats().waits, lead, 2, wait, || {});
    assert_eq!(led.unwrap(), 2);
    waited.into_iter().for_each(|waited| assert_eq!(waited.unwrap(), 2));
}

/// What is stale is a miss for everybody but those who make values.
#[test]
fn stale_values_are_seen_by_creating_calls_only() {
    let (cache, clock) = under(usual());
    cache.insert(1, 1);
    clock.advance(FRESH);
    assert!(cache.get(&1).is_none() && cache.peek(&1).is_none() && !cache.contains_key(&1));
    assert!(cache.iter().next().is_none() && cache.hottest(9).is_empty());
    assert!(cache.remove(&1).is_none());
    cache.insert(1, 1);
    clock.advance(FRESH);
    assert!(cache.insert_if_absent(1, 2).is_stored(), "nor is it an obstacle");
}

/// Expired entries stay for as long as they may be served, and are swept out then.
#[test]
fn stale_values_are_kept_for_their_time() {
    let (cache, clock) = under(usual());
    cache.insert(1, 1);
    clock.advance(FRESH + STALE - SECOND);
    cache.run_pending();
    assert_eq!(cache.len(), 1);
    clock.advance(SECOND);
    cache.run_pending();
    assert_eq!(cache.len(), 0);
}

// wait

#[test]
fn wait_that_runs_out_is_an_error_or_a_value_of_ones_own() {
    let _watch = watch();
    for wait in [Duration::ZERO, MS] {
        let (cache, calls) = (under(usual()).0, Calls::default());
        let short = policy().wait(wait).build().unwrap();
        let lead = |hold: &Hold| {
            *cache.get_or_create(&1, || {
                hold.here();
                1
            })
        };
        let led = while_held(lead, || {
            for verb in VERBS {
                let found = verb.ask_by(&short, &cache, 1, &calls.makes(Ok(2)));
                let expected = if verb.can_fail() { Err(CreateError::TimedOut) } else { Ok(2) };
                assert_eq!(found, expected, "{verb:?}, {wait:?}");
                assert!(cache.get(&1).is_none(), "{verb:?}: it is not stored");
            }
            assert_eq!(calls.count(), VERBS.len() - fallible().count(), "{wait:?}: creators of their own");
            assert!(cache.key_is_locked(&1), "the creation goes on");
        });
        assert_eq!((led, cache.get_cloned(&1)), (1, Some(1)), "{wait:?}");
        let all = VERBS.len() as u64;
        assert_eq!(
            counts(&cache),
            Counts { leads: 1, creations: 1, waits: all, timed_out: all, ..NOTHING },
            "{wait:?}"
        );
    }
}

/// A limit to waiting is none to making.
#[test]
fn wait_does_not_hurry_a_leader() {
    let (cache, _) = under(policy().wait(Duration::ZERO));
    for verb in fallible() {
        assert_eq!(verb.ask(&cache, verb as u32, &Calls::default().makes(Ok(1))), Ok(1), "{verb:?}");
    }
    assert_eq!(cache.stats().timed_out, 0);
}

#[test]
fn wait_counts_for_a_whole_batch() {
    let _watch = watch();
    let (cache, _) = under(usual());
    let short = policy().wait(Duration::ZERO).build().unwrap();
    let lead = |hold: &Hold| {
        *cache.get_or_create(&1, || {
            hold.here();
            1
        })
    };
    while_held(lead, || {
        let tried = cache.with(&short).try_get_or_create_multi(&[2, 1, 3], |keys| {
            Ok::<_, ()>(keys.iter().map(|key| *key * 10).collect())
        });
        assert_eq!(tried.unwrap_err(), CreateError::TimedOut);
        assert_eq!((cache.get_cloned(&2), cache.get_cloned(&3)), (Some(20), Some(30)), "its own are stored");
        let mut asked = Vec::new();
        let found = cache.with(&short).get_or_create_multi(&[4, 1], |keys| {
            asked.push(keys.iter().map(|key| **key).collect::<Vec<_>>());
            keys.iter().map(|key| *key * 100).collect()
        });
        assert_eq!((*found[0], *found[1]), (400, 100));
        assert_eq!(asked, [vec![4], vec![1]], "a second call for what did not come in time");
        assert!(cache.get(&1).is_none());
    });
    assert_eq!(cache.get_cloned(&1), Some(1));
}

// should_cache

#[test]
fn should_cache_says_no_and_leader_and_waiters_get_the_value() {
    let _watch = watch();
    let (cache, calls) = (under(policy().should_cache(|value| value % 2 == 0)).0, Calls::default());
    let lead = |hold: &Hold| {
        let hold = hold.clone();
        let make = calls.counts(move || {
            hold.here();
            Ok(1)
        });
        Verb::Try.ask(&cache, 7, &make)
    };
    let wait = |i: usize| VERBS[i].ask(&cache, 7, &calls.makes(Ok(3)));
    let (led, waited) = crowd(|| cache.stats().waits, lead, VERBS.len(), wait, || {});
    assert_eq!(led.unwrap(), Ok(1));
    for (verb, waited) in VERBS.into_iter().zip(waited) {
        assert_eq!(waited.unwrap(), Ok(1), "{verb:?}");
    }
    let waits = VERBS.len() as u64;
    assert_eq!(counts(&cache), Counts { leads: 1, creations: 1, waits, ..NOTHING });
    assert!(cache.is_empty() && !cache.key_is_locked(&7));
    assert_eq!(cache.explain(&7).to_string(), "missing: not in the cache");
    for verb in VERBS {
        assert_eq!(verb.ask(&cache, 7, &calls.makes(Ok(3))), Ok(3), "{verb:?}: again, as it is not there");
        assert!(cache.is_empty());
    }
    assert_eq!(Verb::Plain.ask(&cache, 7, &calls.makes(Ok(4))), Ok(4));
    assert_eq!(cache.get_cloned(&7), Some(4));
}

/// The old value is as it was, and the next caller tries again.
#[test]
fn should_cache_says_no_to_a_newer_value_and_the_stale_one_stays() {
    let (cache, clock) = under(usual().should_cache(|value| *value != 2));
    cache.insert(7, 1);
    clock.advance(FRESH);
    assert_eq!(*cache.get_or_create(&7, || 2), 2);
    assert!(!cache.key_is_locked(&7));
    let only = policy().stale(STALE).freshness(Freshness::CacheOnly).build().unwrap();
    assert_eq!(Verb::Try.ask_by(&only, &cache, 7, &Calls::default().makes(Ok(9))), Ok(1));
    assert_eq!(*cache.get_or_create(&7, || 3), 3);
    assert_eq!(cache.get_cloned(&7), Some(3));
}

// jitter

#[test]
fn jitter_cuts_off_at_most_its_part_and_never_adds() {
    let (cache, clock) =
        timed(Cache::builder().policy(policy().fresh(100 * SECOND).jitter(0.3).build().unwrap()));
    let now = dogpile::time::Clock::now(&clock);
    let left: Vec<Duration> = (0..500)
        .map(|i| {
            let verb = VERBS[i % VERBS.len()];
            verb.ask(&cache, i as u32, &Calls::default().makes(Ok(1))).unwrap();
            cache.get(&(i as u32)).unwrap().entry().expires_at().unwrap().saturating_duration_since(now)
        })
        .collect();
    assert!(left.iter().all(|left| (70 * SECOND..=100 * SECOND).contains(left)));
    // Of 500 draws from 30 seconds none within 2 of either end: once in 10^14 runs.
    assert!(left.iter().any(|left| *left < 72 * SECOND) && left.iter().any(|left| *left > 98 * SECOND));

    let endless = policy().fresh(Duration::MAX).jitter(0.9).build().unwrap();
    assert_eq!(cache.with(&endless).get_or_create(&1000, || 1).entry().expires_at(), None);
    let (cache, clock) = under(policy().fresh(FRESH));
    cache.get_or_create(&1, || 1);
    let at = cache.get(&1).unwrap().entry().expires_at().unwrap();
    assert_eq!(at.saturating_duration_since(dogpile::time::Clock::now(&clock)), FRESH, "none by default");
}

// early

#[test]
fn early_by_a_fraction_one_makes_it_anew_and_the_others_have_the_value() {
    let _watch = watch();
    for verb in VERBS {
        let (kept, calls) = (Kept::default(), Calls::default());
        let (cache, clock) =
            under(policy().fresh(100 * SECOND).early(Early::Fraction(0.8)).runner(kept.clone()));
        cache.insert(7, 1);
        // The length of a life is kept to a part in a thousand.
        clock.advance(80 * SECOND - Duration::from_nanos(1));
        assert_eq!(
            (verb.ask(&cache, 7, &calls.makes(Ok(2))), calls.count()),
            (Ok(1), 0),
            "{verb:?}: not yet"
        );
        clock.advance(SECOND);
        let lead = |hold: &Hold| {
            let hold = hold.clone();
            let make = calls.counts(move || {
                hold.here();
                Ok(2)
            });
            Verb::Plain.ask(&cache, 7, &make)
        };
        let led = while_held(lead, || {
            assert_eq!(verb.ask(&cache, 7, &calls.makes(Ok(3))), Ok(1), "{verb:?}: at once");
            assert_eq!(cache.get_cloned(&7), Some(1), "it is fresh");
        });
        assert_eq!((led, cache.get_cloned(&7)), (Ok(2), Some(2)));
        assert_eq!(
            counts(&cache),
            Counts { leads: 1, creations: 1, ..NOTHING },
            "{verb:?}: what is fresh is not counted as stale"
        );
        // And this verb leads: detached ones in the background.
        clock.advance(81 * SECOND);
        let found = verb.ask(&cache, 7, &calls.makes(Ok(4)));
        assert_eq!(found, Ok(if verb.is_detached() { 2 } else { 4 }), "{verb:?}");
        assert_eq!(kept.run(), usize::from(verb.is_detached()));
        assert_eq!((calls.count(), cache.get_cloned(&7)), (2, Some(4)), "{verb:?}");
    }
}

/// XFetch by the clock: the cost of the last creation says how early. A draw of 1000 costs or more is not seen in practice, one
/// of a part in 10^8 of it or more nearly always.
#[test]
fn early_by_xfetch_goes_by_what_the_value_took_to_make() {
    let by_xfetch = || policy().fresh(1000 * SECOND).early(Early::XFetch { beta: 1.0 });
    for (cost, expected) in [(MS, 0), (1_000_000_000 * SECOND, 1)] {
        for verb in VERBS.into_iter().filter(|verb| !verb.is_detached()) {
            let (cache, clock) = under(by_xfetch());
            let (slow, calls) = (clock.clone(), Calls::default());
            let make = calls.counts(move || {
                slow.advance(cost);
                Ok(1)
            });
            verb.ask(&cache, 7, &make).unwrap();
            assert_eq!(cache.stats().creation_time, cost, "{verb:?}");
            clock.advance(998 * SECOND);
            let again = Calls::default();
            verb.ask(&cache, 7, &again.makes(Ok(2))).unwrap();
            assert_eq!(again.count(), expected, "{verb:?}: 2 s before the end, at a cost of {cost:?}");
        }
    }
    // What was put in took no time that anybody knows of.
    let (cache, clock) = under(by_xfetch());
    cache.insert(7, 1);
    clock.advance(1000 * SECOND - Duration::from_nanos(1));
    assert_eq!(*cache.get_or_create(&7, || unreachable!("its cost is not known")), 1);
}

/// One failure ahead of time is enough: it is tried again in time.
#[test]
fn early_failures_are_not_repeated_before_the_time_is_over() {
    let in_its_place = || policy().fresh(100 * SECOND).stale_if_error(STALE).early(Early::Fraction(0.5));
    for verb in fallible() {
        let kept = Kept::default();
        let (cache, clock) = under(in_its_place().runner(kept.clone()));
        cache.insert(7, 1);
        clock.advance(51 * SECOND);
        let calls = Calls::default();
        for _ in 0..3 {
            assert_eq!(verb.ask(&cache, 7, &calls.makes(Err("no"))), Ok(1), "{verb:?}");
            kept.run();
        }
        assert_eq!((calls.count(), counts(&cache).failures), (1, 1), "{verb:?}");
        assert_eq!(cache.get_cloned(&7), Some(1), "{verb:?}: still fresh");
        clock.advance(51 * SECOND);
        assert_eq!(Verb::Try.ask(&cache, 7, &calls.makes(Ok(2))), Ok(2), "{verb:?}: in time");
        // And the next version is made anew ahead of its time again.
        clock.advance(51 * SECOND);
        assert_eq!(Verb::Try.ask(&cache, 7, &calls.makes(Ok(3))), Ok(3), "{verb:?}");
    }
}

#[test]
fn early_is_never_for_what_has_no_end() {
    let endless = policy().fresh(Duration::MAX).early(Early::Fraction(0.001));
    let (cache, clock) = under(endless);
    cache.get_or_create(&7, || 1);
    clock.advance(Duration::from_secs(u64::from(u32::MAX)));
    assert_eq!(*cache.get_or_create(&7, || unreachable!("it never ends")), 1);
}

/// A shorter life of an entry's own is no reason to make it anew from its first moment on, over and over.
#[test]
fn early_by_a_fraction_leaves_short_lived_entries_some_time() {
    let (cache, clock) = under(policy().fresh(100 * SECOND).early(Early::Fraction(0.8)));
    cache.insert_with(7, 1, InsertOptions::new().ttl(10 * SECOND));
    assert_eq!(*cache.get_or_create(&7, || 2), 1, "0 of its 10 seconds are over");
    clock.advance(9 * SECOND);
    assert_eq!(*cache.get_or_create(&7, || 2), 2, "9 are");
    // And of one whose life was cut.
    let (cache, clock) = under(policy().fresh(100 * SECOND).jitter(0.9).early(Early::Fraction(0.8)));
    for key in 0..100 {
        let life = match *cache.get_or_create(&key, || 1) {
            1 => cache.get(&key).unwrap().entry().expires_at().unwrap(),
            other => panic!("{other}"),
        };
        let life = life.saturating_duration_since(dogpile::time::Clock::now(&clock));
        clock.advance(life.mul_f64(0.79));
        assert_eq!(*cache.get_or_create(&key, || 2), 1);
        clock.advance(life.mul_f64(0.02));
        assert_eq!(*cache.get_or_create(&key, || 2), 2);
    }
}

/// A fresh value is there: that nobody could make a newer one is no reason to withhold it.
#[test]
fn early_failures_do_not_cost_the_caller_a_fresh_value() {
    for verb in fallible().filter(|verb| !verb.is_detached()) {
        let (cache, clock) = under(policy().fresh(100 * SECOND).early(Early::Fraction(0.5)));
        cache.insert(7, 1);
        clock.advance(51 * SECOND);
        assert_eq!(verb.ask(&cache, 7, &Calls::default().makes(Err("no"))), Ok(1), "{verb:?}");
    }
}

/// Fresh values only, and this one is fresh: there is nothing to wait for.
#[test]
fn early_creations_hold_no_batch_up() {
    ends(|| {
        let (cache, clock) = under(policy().fresh(100 * SECOND));
        let early = policy().fresh(100 * SECOND).early(Early::Fraction(0.5)).freshness(Freshness::WaitFresh);
        let early = early.wait(Duration::ZERO).build().unwrap();
        cache.insert(7, 1);
        clock.advance(51 * SECOND);
        let lead = |hold: &Hold| {
            *cache.with(&early).get_or_create(&7, || {
                hold.here();
                2
            })
        };
        while_held(lead, || {
            for verb in fallible() {
                let found = verb.ask_by(&early, &cache, 7, &Calls::default().makes(Ok(3)));
                assert_eq!(found, Ok(1), "{verb:?}");
            }
        });
    });
}

/// The same after an early creation has failed: nobody makes it, so there is nobody to wait for.
#[test]
fn early_failures_do_not_make_a_batch_spin() {
    for verb in fallible().filter(|verb| verb.is_batch()) {
        ends(move || {
            let (cache, clock) = under(policy().fresh(100 * SECOND));
            let early =
                policy().fresh(100 * SECOND).early(Early::Fraction(0.5)).freshness(Freshness::WaitFresh);
            let early = early.build().unwrap();
            cache.insert(7, 1);
            clock.advance(51 * SECOND);
            _ = Verb::Try.ask_by(&early, &cache, 7, &Calls::default().makes(Err("no")));
            assert_eq!(verb.ask_by(&early, &cache, 7, &Calls::default().makes(Ok(3))), Ok(1), "{verb:?}");
        });
    }
}

// What does not go together.

#[test]
fn settings_that_contradict_each_other_are_errors_that_name_both() {
    let only = || policy().freshness(Freshness::CacheOnly);
    let fresh_only = || policy().freshness(Freshness::WaitFresh);
    let cases = [
        (only().wait(SECOND), "wait", "freshness(CacheOnly)"),
        (only().early(Early::XFetch { beta: 1.0 }), "early", "freshness(CacheOnly)"),
        (only().error_ttl(SECOND), "error_ttl", "freshness(CacheOnly)"),
        (only().stale(SECOND).soft_timeout(SECOND), "soft_timeout", "freshness(CacheOnly)"),
        (fresh_only().stale(SECOND), "stale", "freshness(WaitFresh)"),
        (fresh_only().soft_timeout(SECOND), "soft_timeout", "freshness(WaitFresh)"),
        (policy().soft_timeout(SECOND), "soft_timeout", "no stale"),
        (policy().hold_back(SECOND), "hold_back", "no stale_if_error"),
    ];
    for (builder, setting, with) in cases {
        let error = builder.build().unwrap_err();
        match error {
            PolicyError::Contradiction { setting: one, with: other, because } => {
                assert_eq!((one, other), (setting, with));
                assert!(!because.is_empty());
            }
            other => panic!("{setting} and {with}: {other}"),
        }
        let text = error.to_string();
        assert!(text.starts_with(&format!("{setting} and {with} contradict each other: ")), "{text}");
    }
}

#[test]
fn numbers_out_of_range_are_errors_that_name_the_setting() {
    let cases = [
        (policy().jitter(-0.1), "jitter"),
        (policy().jitter(1.0), "jitter"),
        (policy().jitter(f64::NAN), "jitter"),
        (policy().fresh(FRESH).early(Early::Fraction(0.0)), "early(Fraction)"),
        (policy().fresh(FRESH).early(Early::Fraction(1.0)), "early(Fraction)"),
        (policy().fresh(FRESH).early(Early::Fraction(f64::NAN)), "early(Fraction)"),
        (policy().early(Early::XFetch { beta: 0.0 }), "early(XFetch)"),
        (policy().early(Early::XFetch { beta: -1.0 }), "early(XFetch)"),
        (policy().early(Early::XFetch { beta: f64::INFINITY }), "early(XFetch)"),
        (policy().early(Early::XFetch { beta: f64::NAN }), "early(XFetch)"),
    ];
    for (builder, setting) in cases {
        let error = builder.build().unwrap_err();
        assert!(
            matches!(error, PolicyError::OutOfRange { setting: named, .. } if named == setting),
            "{error}"
        );
        assert!(error.to_string().starts_with(&format!("{setting} is out of range: it must be ")), "{error}");
    }
}

#[test]
fn settings_that_go_together_are_accepted() {
    let all = policy()
        .fresh(FRESH)
        .stale(STALE)
        .stale_if_error(STALE)
        .hold_back(SECOND)
        .wait(SECOND)
        .soft_timeout(SECOND)
        .error_ttl(SECOND)
        .jitter(0.999)
        .early(Early::Fraction(0.999))
        .freshness(Freshness::AllowStale)
        .should_cache(|_| true);
    let all = all.build().unwrap();
    let text = format!("{all:?}");
    for setting in ["fresh: Some(60s)", "stale: Some(600s)", "wait: Some(1s)", "jitter: 0.999", "AllowStale"]
    {
        assert!(text.contains(setting), "{text}");
    }
    let cache = Cache::<u32, u32>::builder().policy(all.clone()).build().unwrap();
    assert!(format!("{:?}", cache.with(&all)).contains("With"));
    for builder in [
        policy(),
        policy().freshness(Freshness::WaitFresh).stale_if_error(STALE).wait(Duration::ZERO).error_ttl(SECOND),
        policy().freshness(Freshness::CacheOnly).stale(STALE).stale_if_error(STALE),
        policy().fresh(FRESH).early(Early::Fraction(0.5)).soft_timeout(SECOND),
        policy().early(Early::XFetch { beta: 0.001 }),
        policy().fresh(Duration::MAX).stale(Duration::MAX).stale_if_error(Duration::MAX).wait(Duration::MAX),
    ] {
        builder.build().unwrap();
    }
}

/// The cache's time to live is its policy's fresh, so there is something for a fraction to be of.
#[test]
fn early_by_a_fraction_of_the_time_to_live() {
    let early = policy().early(Early::Fraction(0.5)).build().unwrap();
    let (cache, clock) = timed(Cache::builder().time_to_live(FRESH).policy(early));
    cache.insert(7, 1);
    clock.advance(FRESH / 2 + SECOND);
    assert_eq!(*cache.get_or_create(&7, || 2), 2);
}

#[test]
fn a_policy_of_one_call_is_not_that_of_the_next() {
    let _watch = watch();
    let (cache, clock) = under(usual());
    let (only, now) = (
        policy().freshness(Freshness::CacheOnly).build().unwrap(),
        policy().wait(Duration::ZERO).build().unwrap(),
    );
    cache.insert(7, 1);
    clock.advance(FRESH);
    for verb in fallible() {
        // That the cache itself would serve it is not this policy's concern.
        let asked = verb.ask_by(&only, &cache, 7, &Calls::default().makes(Ok(2)));
        assert_eq!(asked, Err(CreateError::NotCached), "{verb:?}");
    }
    let lead = |hold: &Hold| {
        *cache.get_or_create(&7, || {
            hold.here();
            2
        })
    };
    while_held(lead, || {
        for verb in fallible() {
            let asked = verb.ask_by(&now, &cache, 7, &Calls::default().makes(Ok(3)));
            assert_eq!(asked, Err(CreateError::TimedOut), "{verb:?}: no stale values in this policy");
            assert_eq!(verb.ask(&cache, 7, &Calls::default().makes(Ok(3))), Ok(1), "{verb:?}");
        }
    });
}
