//! Who makes a value, and who gets the stale one.

use super::Runs;
use crate::common::{Hold, Kept, crowd, panics, until, watch};
use dogpile::cached;
use dogpile::time::ManualClock;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// What the first run waits for.
static FIRST: LazyLock<Mutex<Option<Hold>>> = LazyLock::new(Mutex::default);

#[test]
fn of_many_callers_one_runs_the_function() {
    static RUNS: Runs = Runs::new();

    #[cached]
    fn slow(n: u32) -> u32 {
        RUNS.another();
        let first = FIRST.lock().unwrap().take();
        if let Some(hold) = first {
            hold.here();
        }
        n + 1
    }
    let _watch = watch();
    let (led, others) = crowd(
        || slow::cache().stats().waits,
        |hold| {
            *FIRST.lock().unwrap() = Some(hold.clone());
            slow(1)
        },
        4,
        |_| slow(1),
        || assert!(slow::cache().key_is_locked(&1)),
    );
    assert_eq!(led.unwrap(), 2);
    assert_eq!(others.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [2; 4]);
    assert_eq!(RUNS.count(), 1);
}

#[test]
fn a_stale_value_is_returned_while_a_new_one_is_made_in_the_background() {
    static RUNS: Runs = Runs::new();
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static KEPT: LazyLock<Kept> = LazyLock::new(Kept::default);

    #[cached(fresh = "1m", stale = "1h", clock = CLOCK.clone(), runner = KEPT.clone())]
    fn quote(_symbol: &str) -> usize {
        RUNS.another()
    }
    assert_eq!(quote("A"), 1);
    CLOCK.advance(MINUTE);
    assert_eq!((quote("A"), quote("A"), KEPT.len(), RUNS.count()), (1, 1, 1, 1));
    assert_eq!(quote::get("A"), None, "it is not fresh");
    assert_eq!(KEPT.run(), 1);
    assert_eq!((quote("A"), RUNS.count()), (2, 2));
}

/// By default each on a thread of its own.
#[test]
fn the_background_is_there_without_a_setting() {
    static RUNS: Runs = Runs::new();
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);

    #[cached(fresh = "1m", stale = "1h", clock = CLOCK.clone())]
    fn counted(_name: String, _list: &[u8]) -> usize {
        RUNS.another()
    }
    let call = || counted(String::from("a"), &[1]);
    assert_eq!(call(), 1);
    CLOCK.advance(MINUTE);
    assert_eq!(call(), 1);
    until("the background is ready", || call() == 2);
}

#[test]
fn a_function_that_asks_for_what_it_makes_panics() {
    #[cached]
    fn circular(n: u32) -> u32 {
        circular(n) + 1
    }
    let said = panics(|| circular(1));
    assert!(said.contains("`circular` asks for the value that it is making"), "{said}");
}

/// The cache can't, so the function does, for this caller alone.
#[test]
fn whoever_has_waited_long_enough_runs_the_function_himself() {
    static RUNS: Runs = Runs::new();
    static HOLD: LazyLock<Hold> = LazyLock::new(Hold::default);

    #[cached(wait = "1ms")]
    fn slow(_n: u32) -> usize {
        let run = RUNS.another();
        if run == 1 {
            HOLD.here();
        }
        run
    }
    let _watch = watch();
    std::thread::scope(|scope| {
        let leader = scope.spawn(|| slow(1));
        HOLD.begun();
        assert_eq!(slow(1), 2);
        assert_eq!(slow::get(1), None, "it is not stored");
        HOLD.go();
        assert_eq!(leader.join().unwrap(), 1);
    });
    assert_eq!(slow(1), 1);
}

#[test]
fn a_panic_leaves_nothing_behind() {
    static FAILS: AtomicBool = AtomicBool::new(true);

    #[cached]
    fn fragile(n: u32) -> u32 {
        assert!(!FAILS.load(SeqCst), "told to");
        n
    }
    assert_eq!(panics(|| fragile(1)), "told to");
    FAILS.store(false, SeqCst);
    assert_eq!(fragile(1), 1);
}

/// What is put in while a value is made wins over it.
#[test]
fn what_is_done_meanwhile_is_not_undone() {
    #[cached]
    fn undone(n: u32) -> u32 {
        undone::set(100, n);
        n
    }
    #[cached]
    fn invalidated(n: u32) -> u32 {
        invalidated::invalidate(n);
        n
    }
    assert_eq!((undone(1), undone(1)), (1, 100));
    assert_eq!((invalidated(1), invalidated::get(1)), (1, None));
}
