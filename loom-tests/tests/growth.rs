//! The table while it grows, or is cleared: I4, I5, C3, C4, H7, H9, M2.
#![cfg(dogpile_loom)]

use dogpile_loom_tests::{Census, Living, Put, Still, check, done, go, hash};
use std::sync::Arc;

/// Two keys of one tag, for bucket 0 of one, and of both buckets of two.
const A: u64 = hash(0, 1, 0);
const B: u64 = hash(1, 1, 0);

/// An engine of one bucket.
fn engine<const ENDS: bool>() -> Arc<dogpile_loom_tests::Engine<dogpile_loom_tests::Payload, ENDS>> {
    Arc::new(dogpile_loom_tests::Engine::unbounded(0))
}

/// I4: an entry that is replaced while its bucket moves: the newer version stays.
#[test]
fn i4_growth_and_a_replacement() {
    check("i4_growth_and_a_replacement", Some(3), || {
        let census = Census::new();
        let engine: Arc<Still> = engine();
        engine.insert(A, 7, census.value(1));
        let grower = go(&engine, |engine| engine.grow_now());
        assert!(
            matches!(engine.insert_with(A, 7, census.value(2)), Put::Replaced(_)),
            "present all the while"
        );
        assert_eq!(engine.get(A, 7).map(|value| value.read()), Some(2));
        done(grower);
        assert_eq!(engine.get(A, 7).map(|value| value.read()), Some(2));
        engine.validate();
        drop(engine);
        assert!(census.alive().is_empty());
    });
}

/// I4: the same before the eyes of a reader, who misses nothing and goes back to nothing.
#[test]
#[ignore = "a minute"]
fn i4_growth_and_a_replacement_and_a_reader() {
    check("i4_growth_and_a_replacement_and_a_reader", Some(2), || {
        let census = Census::new();
        let engine: Arc<Still> = engine();
        engine.insert(A, 7, census.value(1));
        let grower = go(&engine, |engine| engine.grow_now());
        let reader = go(&engine, |engine| {
            let seen = [(); 2].map(|()| engine.get(A, 7).expect("present all the while").read());
            assert!(seen[0] <= seen[1], "{seen:?}");
        });
        assert!(
            matches!(engine.insert_with(A, 7, census.value(2)), Put::Replaced(_)),
            "present all the while"
        );
        done(reader);
        done(grower);
        assert_eq!(engine.get(A, 7).map(|value| value.read()), Some(2));
        engine.validate();
    });
}

/// I4: an entry that is removed while its bucket moves stays removed, and its neighbour stays.
#[test]
fn i4_growth_and_a_removal() {
    check("i4_growth_and_a_removal", Some(2), || {
        let census = Census::new();
        let engine: Arc<Still> = engine();
        engine.insert(A, 7, census.value(1));
        engine.insert(B, 8, census.value(2));
        let grower = go(&engine, |engine| engine.grow_now());
        assert!(engine.remove(A, 7).is_some());
        assert!(engine.get(A, 7).is_none());
        assert!(engine.get(B, 8).is_some());
        done(grower);
        assert!(engine.get(A, 7).is_none());
        engine.validate();
        drop(engine);
        assert!(census.alive().is_empty());
    });
}

/// I5: two inserts of one key around its bucket's move: neither writes the next table before the bucket is there.
#[test]
fn i5_growth_and_two_inserts() {
    check("i5_growth_and_two_inserts", Some(2), || {
        let census = Census::new();
        let engine: Arc<Still> = engine();
        engine.insert(B, 8, census.value(8));
        let value = census.value(1);
        let rival = go(&engine, move |engine| {
            engine.grow_now();
            matches!(engine.insert_with(A, 7, value), Put::Added)
        });
        let added = matches!(engine.insert_with(A, 7, census.value(2)), Put::Added);
        assert!(engine.get(A, 7).is_some(), "what was inserted is found");
        assert!(added ^ done(rival), "exactly one of the two added the key");
        assert_eq!(engine.scan().len(), 2);
        assert!(engine.get(B, 8).is_some());
        engine.validate();
        drop(engine);
        assert!(census.alive().is_empty());
    });
}

/// I5: the same with a thread for each.
#[test]
#[ignore = "minutes"]
fn i5_growth_and_two_inserts_apart() {
    check("i5_growth_and_two_inserts_apart", Some(2), || {
        let census = Census::new();
        let engine: Arc<Still> = engine();
        engine.insert(B, 8, census.value(8));
        let grower = go(&engine, |engine| engine.grow_now());
        let value = census.value(1);
        let rival = go(&engine, move |engine| matches!(engine.insert_with(A, 7, value), Put::Added));
        let added = matches!(engine.insert_with(A, 7, census.value(2)), Put::Added);
        assert!(added ^ done(rival), "exactly one of the two added the key");
        done(grower);
        assert_eq!(engine.scan().len(), 2);
        engine.validate();
    });
}

/// C4: where two keys have one tag and the first has moved, the second is still found, by readers and by writers.
#[test]
fn c4_a_moved_neighbour_hides_nothing() {
    check("c4_a_moved_neighbour_hides_nothing", Some(3), || {
        let census = Census::new();
        let engine: Arc<Still> = engine();
        engine.insert(A, 7, census.value(1));
        engine.insert(B, 8, census.value(2));
        let value = census.value(3);
        let looker = go(&engine, move |engine| {
            assert!(engine.get(B, 8).is_some(), "a key that is present all the while");
            assert!(matches!(engine.insert_if_absent(B, 8, value), Put::Present { .. }));
        });
        engine.grow_now();
        done(looker);
        engine.validate();
    });
}

/// C4: nor does it hide what is on the chain.
#[test]
fn c4_a_moved_neighbour_hides_no_chain() {
    check("c4_a_moved_neighbour_hides_no_chain", Some(3), || {
        let census = Census::new();
        let engine: Arc<Still> = engine();
        for key in 0..4 {
            engine.insert(hash(0, key % 3, 0), key, census.value(key));
        }
        let looker = go(&engine, |engine| {
            assert!(engine.get(hash(0, 0, 0), 3).is_some(), "the first key's neighbour by tag, on the chain");
        });
        engine.grow_now();
        done(looker);
        engine.validate();
    });
}

/// C3: a table that still fills does not grow: its migrator would write to buckets that have moved on.
#[test]
fn c3_no_growth_on_growth() {
    check("c3_no_growth_on_growth", Some(3), || {
        let census = Census::new();
        let engine: Arc<Still> = engine();
        engine.insert(A, 7, census.value(1));
        let rival = go(&engine, |engine| {
            engine.grow_newest();
            assert!(engine.get(A, 7).is_some(), "a key that is present all the while");
        });
        engine.grow_now();
        done(rival);
        assert!(engine.get(A, 7).is_some(), "and at rest");
        engine.run_pending();
        engine.validate();
        drop(engine);
        assert!(census.alive().is_empty());
    });
}

/// H9: who finds the sweep over the buckets at its end, and switches, hands on what others have moved.
#[test]
fn h9_the_sweep_hands_on_what_others_moved() {
    check("h9_the_sweep_hands_on_what_others_moved", Some(2), || {
        let census = Census::new();
        let engine = Arc::new(Still::unbounded(8));
        engine.insert(A, 7, census.value(1));
        engine.insert(B, 8, census.value(2));
        // Of two buckets, which are too many to be moved at once.
        engine.grow_now();
        let value = census.value(3);
        let helper = go(&engine, move |engine| {
            assert!(matches!(engine.insert_if_absent(A, 7, value), Put::Present { .. }));
        });
        // Kept: what is refused ends with a fence, which would do for the sweep what its own orderings must.
        let put = engine.insert_if_absent(B, 8, census.value(4));
        assert!(engine.get(A, 7).is_some(), "a key that is present all the while");
        assert!(matches!(put, Put::Present { .. }));
        done(helper);
        engine.validate();
    });
}

/// H7: clear, growth and an insert: each table is freed once, with what is in it, and nothing leaks.
#[test]
fn h7_clear_growth_and_an_insert() {
    check("h7_clear_growth_and_an_insert", Some(2), || {
        let census = Census::new();
        let engine: Arc<Living> = engine();
        engine.insert(A, 7, census.value(1));
        let value = census.value(2);
        let others = go(&engine, move |engine| {
            engine.grow_now();
            engine.insert(B, 8, value);
        });
        engine.clear();
        assert!(engine.get(A, 7).is_none(), "what was there before the clear is gone");
        done(others);
        engine.run_pending();
        assert_eq!(engine.pending_reclaim(), 0);
        assert!(!census.is_alive(1), "a cleared value is freed once nobody is in the way");
        engine.validate();
        drop(engine);
        assert!(census.alive().is_empty());
    });
}

/// H7: the same with a thread for each.
#[test]
#[ignore = "minutes"]
fn h7_clear_growth_and_an_insert_apart() {
    check("h7_clear_growth_and_an_insert_apart", Some(2), || {
        let census = Census::new();
        let engine: Arc<Living> = engine();
        engine.insert(A, 7, census.value(1));
        let grower = go(&engine, |engine| engine.grow_now());
        let value = census.value(2);
        let others = go(&engine, move |engine| {
            engine.insert(B, 8, value);
        });
        engine.clear();
        done(grower);
        done(others);
        engine.run_pending();
        assert_eq!(engine.pending_reclaim(), 0);
        assert!(!census.is_alive(1), "a cleared value is freed once nobody is in the way");
        engine.validate();
        drop(engine);
        assert!(census.alive().is_empty());
    });
}

/// H7: a reader in a table that is cleared reads on, and the guard that it takes along keeps its entry.
#[test]
fn h7_clear_under_a_reader() {
    check("h7_clear_under_a_reader", Some(3), || {
        let census = Census::new();
        let engine: Arc<Living> = engine();
        engine.insert(A, 7, census.value(1));
        let reader = go(&engine, |engine| engine.get(A, 7).is_none_or(|value| value.read() == 1));
        engine.clear();
        engine.run_pending();
        assert!(done(reader));
        engine.run_pending();
        assert!(census.alive().is_empty());
        engine.validate();
    });
}

/// M2: a walk during growth yields each entry that stays once.
#[test]
fn m2_a_walk_during_growth() {
    check("m2_a_walk_during_growth", Some(3), || {
        let census = Census::new();
        let engine: Arc<Still> = engine();
        engine.insert(A, 7, census.value(1));
        engine.insert(B, 8, census.value(2));
        let walker = go(&engine, |engine| {
            let mut seen: Vec<_> = engine.scan().iter().map(|value| value.read()).collect();
            seen.sort_unstable();
            assert_eq!(seen, [1, 2]);
        });
        engine.grow_now();
        done(walker);
    });
}
