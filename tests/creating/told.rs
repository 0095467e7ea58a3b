//! What is told of a key: whether it is locked, what it has and why, who makes it anew and since when.

use super::*;
use crate::common::{Hold, Kept, Polled, watch, while_held};
use dogpile::{EntryState, Explanation, Freshness, InsertOptions};
use std::thread;

#[track_caller]
fn tells(cache: &Cache<u32, u32>, state: EntryState, text: &str) {
    let explained = cache.explain(&7);
    assert_eq!((explained.state, explained.leader.as_ref()), (state, None));
    assert_eq!(explained.to_string(), text);
    assert_eq!(state.to_string(), text);
    assert!(!cache.key_is_locked(&7));
}

#[test]
fn each_state_is_told() {
    let (cache, clock) = under(policy().fresh(FRESH).stale(STALE));
    tells(&cache, EntryState::Absent, "missing: not in the cache");
    cache.insert(7, 1);
    tells(&cache, EntryState::Fresh { left: Some(FRESH) }, "fresh for 60s");
    clock.advance(FRESH - SECOND);
    tells(&cache, EntryState::Fresh { left: Some(SECOND) }, "fresh for 1s");
    clock.advance(SECOND);
    tells(&cache, EntryState::Stale { since: Duration::ZERO, held_back: None }, "stale since 0ns");
    clock.advance(STALE - SECOND);
    tells(&cache, EntryState::Stale { since: STALE - SECOND, held_back: None }, "stale since 599s");
    clock.advance(SECOND);
    tells(&cache, EntryState::Expired { since: STALE }, "missing: expired since 600s");
    cache.run_pending();
    tells(&cache, EntryState::Absent, "missing: not in the cache");
    cache.insert_with(7, 1, InsertOptions::new().ttl(Duration::MAX));
    tells(&cache, EntryState::Fresh { left: None }, "fresh");
    cache.remove(&7);
    tells(&cache, EntryState::Absent, "missing: not in the cache");
}

#[test]
fn idle_entries_are_told() {
    let (cache, clock) = timed(Cache::builder().time_to_idle(SECOND));
    cache.insert(7, 1);
    tells(&cache, EntryState::Fresh { left: None }, "fresh");
    clock.advance(SECOND);
    tells(&cache, EntryState::Idle, "missing: not used for longer than the time to idle");
}

#[test]
fn failures_are_told() {
    let (cache, clock) = under(policy().fresh(FRESH).error_ttl(5 * SECOND));
    assert!(cache.try_get_or_create(&7, || Err("no")).is_err());
    let text = "missing: a creator's error is remembered for 5s";
    tells(&cache, EntryState::Failed { left: 5 * SECOND }, text);
    clock.advance(4 * SECOND);
    let text = "missing: a creator's error is remembered for 1s";
    tells(&cache, EntryState::Failed { left: SECOND }, text);
    clock.advance(SECOND);
    tells(&cache, EntryState::Absent, "missing: not in the cache");
}

#[test]
fn what_is_held_back_is_told() {
    let (cache, clock) = under(policy().fresh(FRESH).stale_if_error(STALE).hold_back(5 * SECOND));
    cache.insert(7, 1);
    clock.advance(FRESH);
    tells(&cache, EntryState::Expired { since: Duration::ZERO }, "missing: expired since 0ns");
    assert_eq!(cache.try_get_or_create(&7, || Err("no")).map(|found| *found), Ok(1));
    clock.advance(SECOND);
    let text = "stale since 1s; the last creation failed, the next is held back for 4s";
    tells(&cache, EntryState::Stale { since: SECOND, held_back: Some(4 * SECOND) }, text);
    clock.advance(4 * SECOND);
    tells(&cache, EntryState::Stale { since: 5 * SECOND, held_back: None }, "stale since 5s");
    clock.advance(STALE - 5 * SECOND);
    tells(&cache, EntryState::Expired { since: STALE }, "missing: expired since 600s");
}

/// A value that may stand in for an error is one, as long as it may, whether the next try is held back or under way.
#[test]
fn what_stands_in_is_told_of_after_the_holding_back() {
    let _watch = watch();
    let (cache, clock) = under(policy().fresh(FRESH).stale_if_error(STALE).hold_back(5 * SECOND));
    cache.insert(7, 1);
    clock.advance(FRESH);
    assert_eq!(cache.try_get_or_create(&7, || Err("no")).map(|found| *found), Ok(1));
    clock.advance(5 * SECOND);
    let lead = |hold: &Hold| {
        *cache.get_or_create(&7, || {
            hold.here();
            2
        })
    };
    while_held(lead, || {
        assert_eq!(*cache.get_or_create(&7, || unreachable!("somebody makes it")), 1);
        assert_eq!(cache.explain(&7).state, EntryState::Stale { since: 5 * SECOND, held_back: None });
    });
}

/// Who makes it, and since when, by the cache's clock.
#[test]
fn who_leads_is_told() {
    let _watch = watch();
    let (cache, clock) = under(usual());
    for (name, shown) in [(Some("the baker"), "the baker"), (None, "unnamed")] {
        for before in
            ["missing: not in the cache", "fresh for 50s", "stale since 0ns", "missing: expired since 600s"]
        {
            cache.clear();
            if !before.contains("not in the cache") {
                cache.insert(7, 1);
            }
            clock.advance(match before {
                "stale since 0ns" => FRESH,
                "missing: expired since 600s" => FRESH + STALE,
                "fresh for 50s" => 10 * SECOND,
                _ => Duration::ZERO,
            });
            let early =
                policy().fresh(FRESH).stale(STALE).early(dogpile::Early::Fraction(0.1)).build().unwrap();
            let hold = Hold::default();
            let make = || {
                hold.here();
                2
            };
            thread::scope(|scope| {
                let named = match name {
                    Some(name) => thread::Builder::new().name(name.into()),
                    None => thread::Builder::new(),
                };
                let leads = named.spawn_scoped(scope, || *cache.with(&early).get_or_create(&7, make));
                hold.begun();
                let _release = crate::common::Release(&hold);
                let explained = cache.explain(&7);
                let leader = explained.leader.as_ref().unwrap();
                assert_eq!((leader.thread.as_deref(), leader.since), (name, Duration::ZERO));
                let rest = format!("; being made since 0ns by the thread `{shown}`");
                assert_eq!(explained.to_string(), format!("{before}{rest}"));
                assert!(cache.key_is_locked(&7));
                clock.advance(3 * SECOND);
                assert_eq!(cache.explain(&7).leader.unwrap().since, 3 * SECOND);
                hold.go();
                assert_eq!(leads.unwrap().join().unwrap(), 2);
            });
            tells(&cache, EntryState::Fresh { left: Some(FRESH) }, "fresh for 60s");
        }
    }
}

/// A job that nobody has begun is one that somebody waits for.
#[test]
fn jobs_are_told_of_from_the_moment_they_are_handed_on() {
    let kept = Kept::default();
    let (cache, clock) = under(usual().runner(kept.clone()));
    cache.insert(7, 1);
    clock.advance(FRESH);
    cache.get_or_create_detached(&7, || 2);
    clock.advance(SECOND);
    assert!(cache.key_is_locked(&7));
    let told = cache.explain(&7).to_string();
    assert!(told.starts_with("stale since 1s; being made since 1s by the thread `"), "{told}");
    kept.run();
    tells(&cache, EntryState::Fresh { left: Some(FRESH) }, "fresh for 60s");
}

#[test]
fn tasks_are_told_of_until_they_are_dropped() {
    let (cache, _) = under(usual());
    let mut task = Polled::new(cache.get_or_create_async(&7, std::future::pending()));
    assert!(!cache.key_is_locked(&7), "a future that was not polled has not begun");
    assert!(task.poll().is_none());
    assert!(cache.key_is_locked(&7) && cache.explain(&7).leader.is_some());
    drop(task);
    tells(&cache, EntryState::Absent, "missing: not in the cache");
}

/// After a hand-over the heir is named.
#[test]
fn the_heir_is_told_of() {
    let _watch = watch();
    let (cache, clock) = under(usual());
    let mut first = Polled::new(cache.get_or_create_async(&7, std::future::pending()));
    assert!(first.poll().is_none());
    clock.advance(SECOND);
    let hold = Hold::default();
    thread::scope(|scope| {
        let heir = thread::Builder::new().name("the heir".into()).spawn_scoped(scope, || {
            *cache.get_or_create(&7, || {
                hold.here();
                2
            })
        });
        crate::common::until("it waits", || cache.stats().waits == 1);
        drop(first);
        hold.begun();
        let _release = crate::common::Release(&hold);
        let leader = cache.explain(&7).leader.unwrap();
        assert_eq!((leader.thread.as_deref(), leader.since), (Some("the heir"), Duration::ZERO));
        hold.go();
        assert_eq!(heir.unwrap().join().unwrap(), 2);
    });
}

/// What one policy makes of a key another may see otherwise; the cache tells by its own.
#[test]
fn explanations_are_by_the_policy_of_the_cache() {
    let (cache, clock) = under(policy().fresh(FRESH));
    cache.insert(7, 1);
    clock.advance(FRESH);
    let lenient = policy().stale(STALE).freshness(Freshness::CacheOnly).build().unwrap();
    assert!(cache.with(&lenient).try_get_or_create(&7, || Err("no")).is_ok());
    tells(&cache, EntryState::Expired { since: Duration::ZERO }, "missing: expired since 0ns");
}

#[test]
fn explanations_can_be_compared_and_are_of_a_moment() {
    let (cache, _) = under(usual());
    let explained: Explanation = cache.explain(&7);
    assert_eq!(explained, cache.explain(&7).clone());
    let led = while_held(
        |hold| {
            *cache.get_or_create(&7, || {
                hold.here();
                1
            })
        },
        || assert_ne!(explained, cache.explain(&7)),
    );
    assert_eq!(led, 1);
    assert!(format!("{explained:?}").contains("Absent"));
}

/// The errors, as they are printed.
#[test]
fn errors_say_what_went_wrong() {
    let texts: [(CreateError<std::fmt::Error>, &str); 7] = [
        (CreateError::Creator(Arc::new(std::fmt::Error)), "the creator failed"),
        (CreateError::Reentrant, "the creator waits for the value that it is making"),
        (CreateError::TimedOut, "the wait for another's creation has lasted too long"),
        (CreateError::LeaderPanicked, "the creator that was waited for panicked, twice"),
        (CreateError::NotCached, "there is no value in the cache, and the policy makes none"),
        (CreateError::NoLoader, "the cache has no loader"),
        (CreateError::WrongCount { asked: 2, made: 1 }, "the creator was asked for 2 values and returned 1"),
    ];
    for (error, text) in &texts {
        assert!(error.to_string().starts_with(text), "{error}");
        assert_eq!(error.clone(), *error);
        assert_eq!(texts.iter().filter(|(other, _)| other == error).count(), 1, "{error}");
        let is_creators = matches!(error, CreateError::Creator(_));
        assert_eq!(std::error::Error::source(error).is_some(), is_creators, "{error}");
        assert_eq!(error.creator().is_some(), is_creators, "{error}");
    }
    fn travels<T: Send + Sync + 'static>() {}
    travels::<CreateError<std::fmt::Error>>();
    travels::<dogpile::LoadError>();
    travels::<dogpile::PolicyError>();
}
