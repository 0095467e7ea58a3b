//! What is not cached: errors, `None`, and what the function's user doesn't want to be.

use super::Runs;
use crate::common::{Hold, crowd, watch};
use dogpile::cached;
use dogpile::time::ManualClock;
use std::io;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

#[derive(Clone, PartialEq, Debug)]
struct Failed(usize);

#[test]
fn values_are_cached_and_errors_are_not() {
    static RUNS: Runs = Runs::new();

    #[cached]
    fn parse(text: &str) -> Result<u32, Failed> {
        let run = RUNS.another();
        text.parse().map_err(|_| Failed(run))
    }
    assert_eq!((parse("7"), parse("7")), (Ok(7), Ok(7)));
    assert_eq!((parse("x"), parse("x")), (Err(Failed(2)), Err(Failed(3))));
    assert_eq!((parse::get("7"), parse::get("x")), (Some(7), None));
    parse::set(10, "x");
    assert_eq!(parse("x"), Ok(10));
    assert_eq!(parse::original("x"), Err(Failed(4)));
}

/// One run, one error, whoever waited.
#[test]
fn waiters_share_an_error() {
    static RUNS: Runs = Runs::new();
    static FIRST: Mutex<Option<Hold>> = Mutex::new(None);

    #[cached]
    fn fails(_n: u32) -> Result<u32, Failed> {
        let run = RUNS.another();
        let first = FIRST.lock().unwrap().take();
        if let Some(hold) = first {
            hold.here();
        }
        Err(Failed(run))
    }
    let _watch = watch();
    let (led, others) = crowd(
        || fails::cache().stats().waits,
        |hold| {
            *FIRST.lock().unwrap() = Some(hold.clone());
            fails(1)
        },
        3,
        |_| fails(1),
        || {},
    );
    assert_eq!(led.unwrap(), Err(Failed(1)));
    assert_eq!(others.into_iter().map(Result::unwrap).collect::<Vec<_>>(), vec![Err(Failed(1)); 3]);
}

#[test]
fn an_error_that_is_no_clone_is_told_again() {
    static RUNS: Runs = Runs::new();

    #[cached(share_error = |error| io::Error::new(error.kind(), error.to_string()), error_ttl = "1h")]
    fn read(_path: &str) -> io::Result<u32> {
        Err(io::Error::other(format!("run {}", RUNS.another())))
    }
    assert_eq!(read("/").unwrap_err().to_string(), "run 1");
    assert_eq!(read("/").unwrap_err().to_string(), "run 1", "remembered, and told again");
}

#[test]
fn an_error_can_be_shared_by_an_arc() {
    #[cached]
    fn read(path: &str) -> Result<u32, Arc<io::Error>> {
        Err(Arc::new(io::Error::other(path.to_owned())))
    }
    assert_eq!(read("/").unwrap_err().to_string(), "/");
}

#[test]
fn errors_are_remembered_for_their_time() {
    static RUNS: Runs = Runs::new();
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);

    #[cached(error_ttl = "5s", clock = CLOCK.clone())]
    fn fails(_n: u32) -> Result<u32, Failed> {
        Err(Failed(RUNS.another()))
    }
    assert_eq!((fails(1), fails(1)), (Err(Failed(1)), Err(Failed(1))));
    CLOCK.advance(Duration::from_secs(5));
    assert_eq!(fails(1), Err(Failed(2)));
}

#[test]
fn a_result_can_be_cached_as_it_is() {
    static RUNS: Runs = Runs::new();

    #[cached(cache_errors)]
    fn fails(n: u32) -> Result<u32, Failed> {
        RUNS.another();
        if n == 0 { Ok(0) } else { Err(Failed(RUNS.count())) }
    }
    assert_eq!((fails(1), fails(1), fails(0), fails(0)), (Err(Failed(1)), Err(Failed(1)), Ok(0), Ok(0)));
    assert_eq!(fails::get(1), Some(Err(Failed(1))));
    assert_eq!(RUNS.count(), 2);
}

#[test]
fn a_stale_value_stands_in_for_an_error() {
    static RUNS: Runs = Runs::new();
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);

    #[cached(fresh = "1m", stale_if_error = "1h", clock = CLOCK.clone())]
    fn once(_n: u32) -> Result<u32, Failed> {
        if RUNS.another() == 1 { Ok(7) } else { Err(Failed(RUNS.count())) }
    }
    assert_eq!(once(1), Ok(7));
    CLOCK.advance(Duration::from_secs(60));
    assert_eq!((once(1), RUNS.count()), (Ok(7), 2));
    CLOCK.advance(Duration::from_secs(3600));
    assert_eq!(once(1), Err(Failed(3)));
}

#[test]
fn none_is_not_cached_unless_it_shall_be() {
    static RUNS: Runs = Runs::new();

    #[cached]
    fn find(n: u32) -> Option<usize> {
        let run = RUNS.another();
        (n > 0).then_some(run)
    }
    #[cached(cache_none)]
    fn find_all(n: u32) -> Option<usize> {
        let run = RUNS.another();
        (n > 0).then_some(run)
    }
    assert_eq!((find(1), find(1), find(0), find(0), RUNS.count()), (Some(1), Some(1), None, None, 3));
    assert_eq!((find::get(1), find::get(0)), (Some(1), None));
    assert_eq!(
        (find_all(1), find_all(1), find_all(0), find_all(0), RUNS.count()),
        (Some(4), Some(4), None, None, 5)
    );
    assert_eq!((find_all::get(1), find_all::get(0), find_all::get(7)), (Some(Some(4)), Some(None), None));
}

/// A `None` within a `Result`: it is no error, and not cached.
#[test]
fn none_within_ok_is_not_cached() {
    static RUNS: Runs = Runs::new();

    #[cached]
    fn find(n: i32) -> Result<Option<usize>, Failed> {
        let run = RUNS.another();
        if n < 0 { Err(Failed(run)) } else { Ok((n > 0).then_some(run)) }
    }
    assert_eq!((find(1), find(1)), (Ok(Some(1)), Ok(Some(1))));
    assert_eq!((find(0), find(0), RUNS.count()), (Ok(None), Ok(None), 3));
    assert_eq!(find(-1), Err(Failed(4)));
    assert_eq!((find::get(1), find::get(0)), (Some(1), None));
}

#[test]
fn should_cache_decides_and_all_get_the_value() {
    static RUNS: Runs = Runs::new();

    #[cached(should_cache = |value| *value % 2 == 0)]
    fn even(n: usize) -> usize {
        RUNS.another();
        n
    }
    #[cached(should_cache = |found: &Option<usize>| found != &Some(3))]
    fn not_three(n: usize) -> Option<usize> {
        RUNS.another();
        (n > 0).then_some(n)
    }
    assert_eq!((even(1), even(1), even(2), even(2), RUNS.count()), (1, 1, 2, 2, 3));
    // Beside the rule for `None`, not in its place.
    let before = RUNS.count();
    for n in [0, 0, 1, 1, 3, 3] {
        not_three(n);
    }
    assert_eq!(RUNS.count() - before, 5);
}

/// An alias is known by its name's end, or by the user's word.
#[test]
fn aliases_of_result_and_option() {
    type ParseResult<T> = Result<T, Failed>;
    type Outcome = Result<u32, Failed>;
    type Maybe = Option<u32>;
    static RUNS: Runs = Runs::new();

    #[cached]
    fn by_name(_n: u32) -> ParseResult<u32> {
        Err(Failed(RUNS.another()))
    }
    #[cached(result)]
    fn by_word(_n: u32) -> Outcome {
        Err(Failed(RUNS.another()))
    }
    #[cached(option)]
    fn maybe(_n: u32) -> Maybe {
        RUNS.another();
        None
    }
    assert_eq!(
        (by_name(1), by_name(1), by_word(1), by_word(1)),
        (Err(Failed(1)), Err(Failed(2)), Err(Failed(3)), Err(Failed(4)))
    );
    assert_eq!((maybe(1), maybe(1), RUNS.count()), (None, None, 6));
}

#[test]
fn a_function_that_returns_nothing_is_run_once() {
    static RUNS: Runs = Runs::new();

    #[cached]
    fn set_up(_name: &str) {
        RUNS.another();
    }
    set_up("a");
    set_up("a");
    assert_eq!((RUNS.count(), set_up::get("a")), (1, Some(())));
}
