//! What can be set of a cache of the function's own.

use super::Runs;
use dogpile::time::ManualClock;
use dogpile::{Early, Freshness, cached};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn without_a_limit_there_is_one_and_it_can_be_lifted() {
    #[cached]
    fn usual(n: u32) -> u32 {
        n
    }
    #[cached(max_entries = 2)]
    fn small(n: u32) -> u32 {
        n
    }
    #[cached(max_entries = unbounded)]
    fn unbounded(n: u32) -> u32 {
        n
    }
    #[cached(max_weight = 10, weigher = |key: &u32, _| *key)]
    fn heavy(n: u32) -> u32 {
        n
    }
    let capacities =
        [usual::cache(), small::cache(), unbounded::cache(), heavy::cache()].map(dogpile::Cache::capacity);
    assert_eq!(capacities, [Some(10_000), Some(2), None, Some(10)]);
    assert_eq!((heavy(4), heavy(5), heavy::cache().weight()), (4, 5, 9));
    assert_eq!((heavy(11), heavy::get(11)), (11, None), "too heavy, and returned all the same");
}

#[test]
fn times_are_texts_or_expressions() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    const FRESH: Duration = Duration::from_millis(1500);

    #[cached(fresh = "1s 500ms", clock = CLOCK.clone())]
    fn text(n: u32) -> u32 {
        n
    }
    #[cached(fresh = FRESH, clock = CLOCK.clone())]
    fn constant(n: u32) -> u32 {
        n
    }
    #[cached(fresh = FRESH * 2, clock = CLOCK.clone())]
    fn expression(n: u32) -> u32 {
        n
    }
    #[cached(time_to_idle = "2s", clock = CLOCK.clone())]
    fn idle(n: u32) -> u32 {
        n
    }
    assert_eq!((text(1), constant(1), expression(1), idle(1)), (1, 1, 1, 1));
    CLOCK.advance(FRESH);
    assert_eq!(
        (text::get(1), constant::get(1), expression::get(1), idle::get(1)),
        (None, None, Some(1), Some(1))
    );
    CLOCK.advance(FRESH);
    assert_eq!((expression::get(1), idle::get(1)), (None, Some(1)));
    CLOCK.advance(2 * FRESH);
    assert_eq!(idle::get(1), None);
}

/// As dogpile's callable `expiration_time`.
#[test]
fn a_callable_fresh_is_asked_at_each_call() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static SECONDS: AtomicU64 = AtomicU64::new(1);

    fn current() -> Duration {
        Duration::from_secs(SECONDS.load(SeqCst))
    }
    #[cached(fresh = current, clock = CLOCK.clone())]
    fn by_name(n: u32) -> u32 {
        n
    }
    #[cached(fresh = || current() * 2, stale = "1h", clock = CLOCK.clone())]
    fn by_closure(n: u32) -> u32 {
        n
    }
    assert_eq!((by_name(1), by_closure(1)), (1, 1));
    SECONDS.store(5, SeqCst);
    assert_eq!((by_name(2), by_closure(2)), (2, 2));
    by_name::set(3, 3);
    CLOCK.advance(SECOND);
    assert_eq!(
        (by_name::get(1), by_name::get(2), by_name::get(3), by_closure::get(1)),
        (None, Some(2), Some(3), Some(1))
    );
    CLOCK.advance(4 * SECOND);
    assert_eq!(
        (by_name::get(2), by_name::get(3), by_closure::get(1), by_closure::get(2)),
        (None, None, None, Some(2))
    );
    SECONDS.store(0, SeqCst);
    assert_eq!((by_name(4), by_name::get(4)), (4, None), "zero is stale at once");
}

#[test]
fn a_time_by_key_and_value() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);

    #[cached(expire_after = |_, value: &u64| Some(Duration::from_secs(*value)), clock = CLOCK.clone())]
    fn lives(n: u64) -> u64 {
        n
    }
    assert_eq!((lives(1), lives(2)), (1, 2));
    CLOCK.advance(SECOND);
    assert_eq!((lives::get(1), lives::get(2)), (None, Some(2)));
}

/// The policy's other settings go where they are named.
#[test]
fn every_setting_of_a_policy_has_its_option() {
    #[cached(
        fresh = "1h",
        stale = "2h",
        stale_if_error = "3h",
        hold_back = "4s",
        wait = "5s",
        soft_timeout = "6ms",
        error_ttl = "7s",
        jitter = 0.25,
        early = 0.5,
        freshness = Freshness::AllowStale,
        runner = dogpile::gate::OwnThread,
        timer = dogpile::gate::OwnTimer
    )]
    fn all(n: u32) -> Result<u32, ()> {
        Ok(n)
    }
    #[cached(fresh = "1h", early = xfetch)]
    fn random(n: u32) -> u32 {
        n
    }
    #[cached(fresh = "1h", early = Early::XFetch { beta: 2.0 })]
    fn often(n: u32) -> u32 {
        n
    }
    assert_eq!((all(1), random(1), often(1)), (Ok(1), 1, 1));
    let policy = format!("{:?}", all::cache().policy());
    for set in [
        "fresh: Some(3600s)",
        "stale: Some(7200s)",
        "stale_if_error: 10800s",
        "hold_back: 4s",
        "wait: Some(5s)",
        "soft_timeout: Some(6ms)",
        "error_ttl: Some(7s)",
        "jitter: 0.25",
        "early: Some(Fraction(0.5))",
        "freshness: AllowStale",
    ] {
        assert!(policy.contains(set), "{set}: {policy}");
    }
    assert!(format!("{:?}", random::cache().policy()).contains("XFetch { beta: 1.0 }"));
    assert!(format!("{:?}", often::cache().policy()).contains("XFetch { beta: 2.0 }"));
}

/// What can't be told while compiling is told at the first call, with the function's name.
#[test]
fn settings_that_contradict_each_other() {
    #[cached(freshness = Freshness::CacheOnly, wait = "1s")]
    fn torn(n: u32) -> u32 {
        n
    }
    let said = crate::common::panics(|| torn(1));
    assert!(
        said.starts_with(
            "the settings of the memoised function `torn`: wait and freshness(CacheOnly) contradict"
        ),
        "{said}"
    );
}

#[test]
fn a_policy_that_makes_nothing_runs_the_function() {
    static RUNS: Runs = Runs::new();

    #[cached(freshness = Freshness::CacheOnly)]
    fn only(_n: u32) -> usize {
        RUNS.another()
    }
    assert_eq!((only(1), only(1)), (1, 2));
    only::set(9, 1);
    assert_eq!(only(1), 9);
}
