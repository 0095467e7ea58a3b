//! What stands beside a memoised function.

use super::Runs;
use crate::common::{Hold, watch};
use dogpile::cached;
use std::sync::LazyLock;

static RUNS: Runs = Runs::new();

/// Seen from the module that it is in, as the function is.
mod inner {
    use super::RUNS;

    /// Documented.
    #[dogpile::cached]
    #[must_use]
    pub(super) fn seen(n: u32) -> usize {
        RUNS.another() + n as usize
    }
}

#[test]
fn helpers_are_seen_where_the_function_is() {
    use inner::seen;
    let first = seen(10);
    assert_eq!(seen::get(10), Some(first));
    assert_eq!(seen::original(10), first + 1);
    assert_eq!(seen(10), first);
}

#[test]
fn each_helper_does_what_its_name_says() {
    static RUNS: Runs = Runs::new();

    #[cached]
    fn user(_id: u64, _name: &str) -> usize {
        RUNS.another()
    }
    assert_eq!(user::get(1, "a"), None);
    assert_eq!(user(1, "a"), 1);
    assert_eq!((user::get(1, "a"), user::peek(1, "a")), (Some(1), Some(1)));
    assert_eq!(user::cache().stats().hits, 1, "peek is none");
    assert_eq!(user::refresh(1, "a"), 2, "fresh or not");
    assert_eq!(user(1, "a"), 2);
    assert_eq!(user::original(1, "a"), 3);
    assert_eq!(user(1, "a"), 2, "the original stores nothing");
    user::set(9, 1, "a");
    assert_eq!(user(1, "a"), 9);
    assert_eq!((user::invalidate(1, "a"), user::invalidate(1, "a")), (true, false));
    assert_eq!(user(1, "a"), 4);
    assert_eq!(user::key(1, "a"), (1, String::from("a")));
    user::cache().clear();
    assert_eq!(user(1, "a"), 5);
}

/// Not beside the lock: who refreshes while another does waits for that, and the others have the old value.
#[test]
fn a_refresh_goes_by_the_lock() {
    static RUNS: Runs = Runs::new();
    static HOLD: LazyLock<Hold> = LazyLock::new(Hold::default);

    #[cached]
    fn slow(_n: u32) -> usize {
        let run = RUNS.another();
        if run == 2 {
            HOLD.here();
        }
        run
    }
    let _watch = watch();
    assert_eq!(slow(1), 1);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| slow::refresh(1));
        HOLD.begun();
        let second = scope.spawn(|| slow::refresh(1));
        crate::common::until("the second waits", || slow::cache().stats().waits == 1);
        assert_eq!(slow(1), 1);
        HOLD.go();
        assert_eq!((first.join().unwrap(), second.join().unwrap()), (2, 2));
    });
    assert_eq!((slow(1), RUNS.count()), (2, 2));
}

/// A refresh goes by what is not to be cached, too.
#[test]
fn a_refresh_that_fails_leaves_the_value() {
    static RUNS: Runs = Runs::new();

    #[cached]
    fn once(_n: u32) -> Result<usize, usize> {
        let run = RUNS.another();
        if run == 1 { Ok(run) } else { Err(run) }
    }
    assert_eq!((once(1), once::refresh(1), once(1)), (Ok(1), Err(2), Ok(1)));
}
