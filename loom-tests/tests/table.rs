//! The table at rest in size: I1, I3, H2, H5.
#![cfg(dogpile_loom)]

use dogpile_loom_tests::{Census, Living, Put, Still, check, done, go, hash};
use loom::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// I1: of two threads that insert one key, one adds it, and one entry stays.
#[test]
fn i1_two_inserts_of_one_key() {
    check("i1_two_inserts_of_one_key", Some(3), || {
        let census = Census::new();
        let engine = Arc::new(Still::unbounded(0));
        let (k, other) = (hash(0, 1, 0), hash(0, 2, 0));
        engine.insert(other, 9, census.value(9));
        let value = census.value(1);
        let rival = go(&engine, move |engine| {
            engine.remove(other, 9);
            matches!(engine.insert_with(k, 7, value), Put::Added)
        });
        let added = matches!(engine.insert_with(k, 7, census.value(2)), Put::Added);
        assert!(added ^ done(rival), "exactly one of the two added the key");
        assert_eq!(engine.scan().len(), 1);
        engine.validate();
        drop(engine);
        assert!(census.alive().is_empty(), "each value ended once");
    });
}

/// I1: the same by the short way.
#[test]
fn i1_two_inserts_at_a_glance() {
    check("i1_two_inserts_at_a_glance", Some(3), || {
        let census = Census::new();
        let engine = Arc::new(Still::unbounded(0));
        let (k, other) = (hash(0, 1, 0), hash(0, 2, 0));
        engine.insert(other, 9, census.value(9));
        let value = census.value(1);
        let rival = go(&engine, move |engine| {
            engine.remove(other, 9);
            engine.insert(k, 7, value);
        });
        engine.insert(k, 7, census.value(2));
        done(rival);
        assert_eq!(engine.scan().len(), 1, "I1");
        engine.validate();
        drop(engine);
        assert!(census.alive().is_empty(), "each value ended once");
    });
}

/// I1: what a reader saw go does not come back, whatever removes and inserts do to each other.
#[test]
fn i1_no_going_back() {
    check("i1_no_going_back", Some(3), || {
        let census = Census::new();
        let engine = Arc::new(Still::unbounded(0));
        let k = hash(0, 1, 0);
        engine.insert(k, 7, census.value(1));
        let remover = go(&engine, move |engine| engine.remove(k, 7).map(|old| old.read()));
        let value = census.value(2);
        let inserter = go(&engine, move |engine| match engine.insert_with(k, 7, value) {
            Put::Replaced(Some(old)) => Some(old.read()),
            _ => None,
        });
        let seen = [(); 2].map(|()| engine.get(k, 7).map(|value| value.read()));
        let (removed, replaced) = (done(remover), done(inserter));
        let left = engine.get(k, 7).map(|value| value.read());
        let history = match (removed, replaced) {
            (Some(1), None) => vec![Some(1), None, Some(2)],
            (Some(2), Some(1)) => vec![Some(1), Some(2), None],
            other => panic!("{other:?} is no history"),
        };
        assert_eq!(left, history[2]);
        let at =
            seen.map(|value| history.iter().position(|then| *then == value).expect("a value of its time"));
        assert!(at[0] <= at[1], "read {seen:?} of {history:?}");
        engine.validate();
    });
}

/// I3: of those who take one version out, one does; the other finds what took its place.
#[test]
fn i3_one_winner_for_each_version() {
    check("i3_one_winner_for_each_version", None, || {
        let census = Census::new();
        let engine = Arc::new(Still::unbounded(0));
        let k = hash(0, 1, 0);
        engine.insert(k, 7, census.value(1));
        let rival = go(&engine, move |engine| engine.remove(k, 7).map(|old| old.read()));
        let value = census.value(2);
        let replaced = matches!(engine.insert_with(k, 7, value), Put::Replaced(_));
        assert_eq!(done(rival), Some(if replaced { 2 } else { 1 }));
        assert_eq!(engine.entries(), u64::from(!replaced));
        engine.validate();
        drop(engine);
        assert!(census.alive().is_empty());
    });
}

/// An engine with the tag of `hash(0, 1, 0)` in all slots of bucket 0, and no entry: the normal state of a bucket
/// in which a key comes and goes.
fn worn() -> Arc<Still> {
    let census = Census::new();
    let engine = Arc::new(Still::unbounded(0));
    for number in 100..103 {
        engine.insert(hash(0, 1, 0), 7, census.value(number));
        engine.remove(hash(0, 1, 0), 7);
    }
    engine
}

/// H2: a version that has come round does not let a late insert make a second copy. Models have one bit of version.
#[test]
fn h2_a_version_that_comes_round() {
    check("h2_a_version_that_comes_round", Some(2), || {
        let census = Census::new();
        let engine = worn();
        let k = hash(0, 1, 0);
        let values = [1, 2].map(|number| census.value(number));
        let rival = go(&engine, move |engine| {
            let [first, second] = values;
            engine.insert(k, 7, first);
            engine.remove(k, 7);
            engine.insert(k, 7, second);
        });
        engine.insert(k, 7, census.value(3));
        done(rival);
        assert_eq!(engine.scan().len(), 1, "one live copy");
        engine.validate();
        drop(engine);
        assert!(census.alive().is_empty());
    });
}

/// H2: nor does it let two keys into one slot.
#[test]
fn h2_a_slot_that_was_filled_meanwhile() {
    check("h2_a_slot_that_was_filled_meanwhile", Some(2), || {
        let census = Census::new();
        let engine = worn();
        let h = hash(0, 1, 0);
        let values = [1, 2].map(|number| census.value(number));
        let rival = go(&engine, move |engine| {
            let [first, second] = values;
            engine.insert(h, 1, first);
            engine.insert(h, 2, second);
        });
        engine.insert(h, 3, census.value(3));
        done(rival);
        assert_eq!(engine.scan().len(), 3);
        engine.validate();
    });
}

/// An engine of two buckets, the first full.
fn full(census: &Census) -> Arc<Living> {
    let engine = Arc::new(Living::unbounded(8));
    for key in 0..3 {
        engine.insert(hash(0, key, 0), key, census.value(key));
    }
    engine
}

/// H5: two inserts into a full bucket; the chain that comes into being hides nothing.
#[test]
fn h5_a_bucket_overflows() {
    check("h5_a_bucket_overflows", Some(2), || {
        let census = Census::new();
        let engine = full(&census);
        let value = census.value(10);
        let rival = go(&engine, move |engine| {
            engine.insert(hash(0, 10, 0), 10, value);
            assert!(engine.get(hash(0, 10, 0), 10).is_some());
        });
        engine.insert(hash(0, 11, 0), 11, census.value(11));
        assert!(engine.get(hash(0, 11, 0), 11).is_some(), "what was inserted is found");
        assert!(engine.get(hash(0, 2, 0), 2).is_some(), "what was there is found");
        done(rival);
        assert_eq!(engine.entries(), 5);
        engine.validate();
        drop(engine);
        assert!(census.alive().is_empty());
    });
}

/// H5: a chained bucket without entries is unlinked while a reader is in it, and freed when it has left.
#[test]
fn h5_a_hollow_bucket_goes() {
    check("h5_a_hollow_bucket_goes", Some(2), || {
        let census = Census::new();
        let engine = full(&census);
        engine.insert(hash(0, 3, 0), 3, census.value(3));
        engine.remove(hash(0, 3, 0), 3);
        engine.remove(hash(0, 0, 0), 0);
        engine.run_pending();
        let value = census.value(10);
        let rival = go(&engine, move |engine| {
            engine.insert(hash(0, 10, 0), 10, value);
            engine.run_pending();
        });
        assert!(engine.get(hash(0, 3, 0), 3).is_none());
        assert!(engine.get(hash(0, 1, 0), 1).is_some());
        done(rival);
        engine.run_pending();
        assert_eq!(engine.pending_reclaim(), 0);
        engine.validate();
    });
}

/// H5: an entry that is put into the hollow bucket meanwhile is not lost with it.
#[test]
fn h5_a_hollow_bucket_fills_again() {
    check("h5_a_hollow_bucket_fills_again", Some(2), || {
        let census = Census::new();
        let engine = full(&census);
        engine.insert(hash(0, 3, 0), 3, census.value(3));
        engine.remove(hash(0, 3, 0), 3);
        let values = [10, 11].map(|number| census.value(number));
        let value = census.value(12);
        let rival = go(&engine, move |engine| {
            engine.remove(hash(0, 0, 0), 0);
            engine.insert(hash(0, 12, 0), 12, value);
        });
        let [first, second] = values;
        engine.insert(hash(0, 10, 0), 10, first);
        engine.insert(hash(0, 11, 0), 11, second);
        done(rival);
        for key in [1, 2, 10, 11, 12] {
            assert!(engine.get(hash(0, key, 0), key).is_some(), "{key} is there");
        }
        engine.validate();
    });
}

/// `UNLINK`: who finds a key gone sees what was done before it was removed.
#[test]
fn i3_a_key_that_is_gone_tells_of_what_came_before() {
    check("i3_a_key_that_is_gone_tells_of_what_came_before", None, || {
        let census = Census::new();
        let shared = Arc::new((Still::unbounded(4), AtomicUsize::new(0)));
        shared.0.insert(hash(0, 1, 0), 7, census.value(1));
        let reader = go(&shared, |(engine, before)| {
            if engine.get_in(hash(0, 1, 0), 7, |_| ()).is_none() {
                assert_eq!(before.load(Ordering::Relaxed), 1, "what was done before");
            }
        });
        shared.1.store(1, Ordering::Relaxed);
        assert!(shared.0.remove(hash(0, 1, 0), 7).is_some());
        done(reader);
    });
}
