//! When memory goes: R2, R3, A1 to A3 of the epochs, L1 to L3 of limbo, H1 to H3 of the records, N1 of the counts.
//!
//! All of it is the shipped code; its light barriers are fences here, as they are where membarrier does not work.
#![cfg(dogpile_loom)]

use dogpile_loom_tests::{Census, Limbo, Living, Payload, Put, check, done, go, hash, with_shortcuts};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

const A: u64 = hash(0, 1, 0);
const B: u64 = hash(0, 2, 0);

/// One entry, numbered 1.
fn engine(census: &Census) -> Arc<Living> {
    let engine = Arc::new(Living::unbounded(0));
    engine.insert(A, 1, census.value(1));
    engine
}

/// R2: what a reader found under its pin is not freed before it unpins.
#[test]
fn r2_a_pin_keeps_what_it_finds() {
    check("r2_a_pin_keeps_what_it_finds", Some(3), || {
        let census = Census::new();
        let engine = engine(&census);
        let reader = go(&engine, |engine| engine.get_in(A, 1, Payload::read));
        engine.insert(A, 1, census.value(2));
        engine.run_pending();
        assert!(done(reader).is_some());
        engine.run_pending();
        assert_eq!(census.alive(), [2], "freed when the reader had gone");
    });
}

/// R3 (H1 of the errata): a guard keeps its entry alive without a pin, and nothing else.
#[test]
fn h1_a_guard_keeps_its_entry() {
    check("h1_a_guard_keeps_its_entry", Some(3), || {
        let census = Census::new();
        let engine = engine(&census);
        let reader = go(&engine, |engine| {
            let guard = engine.get(A, 1).expect("the key is present all the while");
            guard.read() + guard.read()
        });
        engine.insert(A, 1, census.value(2));
        engine.run_pending();
        assert!(matches!(done(reader), 2 | 4));
        engine.run_pending();
        assert_eq!(census.alive(), [2], "freed when the guard had gone");
        assert_eq!(engine.pending_reclaim(), 0);
    });
}

/// R3: the same of a guard whose search had a brief pin.
#[test]
fn h1_a_guard_of_a_brief_pin_keeps_its_entry() {
    check("h1_a_guard_of_a_brief_pin_keeps_its_entry", Some(3), || {
        let census = Census::new();
        let engine = engine(&census);
        engine.insert(B, 2, census.value(10));
        let reader = go(&engine, |engine| {
            assert!(engine.get(B, 2).is_some(), "the thread's first, which gives it a record");
            let guard = engine.get(A, 1).expect("the key is present all the while");
            guard.read() + guard.read()
        });
        engine.insert(A, 1, census.value(2));
        engine.run_pending();
        assert!(matches!(done(reader), 2 | 4));
        engine.run_pending();
        assert_eq!(census.alive(), [2, 10], "freed when the guard had gone");
    });
}

/// R3: the second guard of a slot tells that the reads under the first are over.
#[test]
fn h1_a_slot_is_used_again() {
    check("h1_a_slot_is_used_again", Some(3), || {
        let census = Census::new();
        let engine = engine(&census);
        engine.insert(B, 2, census.value(10));
        let reader = go(&engine, |engine| {
            let _ = engine.get(A, 1).expect("the key is present all the while").read();
            let guard = engine.get(B, 2).expect("the key is present all the while");
            guard.read()
        });
        engine.insert(A, 1, census.value(2));
        engine.run_pending();
        assert_eq!(done(reader), 10);
    });
}

/// R3: the same where both guards come under a pin of before, so that no fence of a pin comes between.
#[test]
fn h1_a_slot_is_used_again_under_a_pin() {
    check("h1_a_slot_is_used_again_under_a_pin", Some(3), || {
        let census = Census::new();
        let engine = engine(&census);
        engine.insert(B, 2, census.value(10));
        let guard = engine.get(A, 1).expect("it was put in");
        drop(engine.remove(A, 1));
        let freer = go(&engine, |engine| engine.run_pending());
        let read = engine.get_in(B, 2, |_| {
            let _ = guard.read();
            drop(guard);
            engine.peek(B, 2).expect("the key is present all the while").read()
        });
        assert_eq!(read, Some(10));
        done(freer);
        engine.run_pending();
        assert_eq!(census.alive(), [10], "freed when the guard had gone");
    });
}

/// `SCAN`: where nobody but the table owns a node, its end has no fence. What comes before it is the look at the slots.
#[test]
fn h1_a_guard_and_the_sole_owner() {
    with_shortcuts(|| {
        check("h1_a_guard_and_the_sole_owner", Some(3), || {
            let census = Census::new();
            let engine = engine(&census);
            let guard = engine.get(A, 1).expect("it was put in");
            drop(engine.remove(A, 1));
            let freer = go(&engine, |engine| engine.run_pending());
            let _ = guard.read();
            drop(guard);
            done(freer);
            engine.run_pending();
            assert!(census.alive().is_empty());
        });
    });
}

/// R3: more guards than slots. Models have two slots, the third guard counts.
#[test]
fn h1_more_guards_than_slots() {
    check("h1_more_guards_than_slots", Some(2), || {
        let census = Census::new();
        let engine = engine(&census);
        let reader = go(&engine, |engine| {
            let mut guards: Vec<_> =
                (0..3).map(|_| engine.get(A, 1).expect("present all the while")).collect();
            let last = guards.pop().expect("three guards");
            drop(guards);
            last.read()
        });
        engine.insert(A, 1, census.value(2));
        engine.run_pending();
        assert!(matches!(done(reader), 1 | 2));
        engine.run_pending();
        assert_eq!(census.alive(), [2]);
    });
}

/// H2: a record that changes hands brings its former owner's last word along.
#[test]
fn h2_a_record_changes_hands() {
    check("h2_a_record_changes_hands", Some(3), || {
        let census = Census::new();
        let engine = engine(&census);
        let readers = [(); 2].map(|()| go(&engine, |engine| engine.get(A, 1).map(|guard| guard.read())));
        for reader in readers {
            assert_eq!(done(reader), Some(1));
        }
    });
}

/// H3: a guard that outlives its thread's record keeps it from others until it goes.
#[test]
fn h3_a_guard_outlives_its_threads_locals() {
    check("h3_a_guard_outlives_its_threads_locals", Some(2), || {
        let census = Census::new();
        let engine = engine(&census);
        engine.insert(B, 2, census.value(10));
        let keeper = go(&engine, |engine| {
            let guard = engine.get(A, 1).expect("the key is present all the while");
            Limbo::end_thread();
            guard.read()
        });
        let reader = go(&engine, |engine| engine.get(B, 2).map(|guard| guard.read() + guard.read()));
        engine.insert(B, 2, census.value(11));
        engine.run_pending();
        assert_eq!(done(keeper), 1);
        assert!(matches!(done(reader), Some(20 | 22)));
    });
}

/// H3: the same of a pin; and what a thread does with its record when its last pin has gone is over before the next has it.
#[test]
fn h3_a_pin_outlives_its_threads_locals() {
    check("h3_a_pin_outlives_its_threads_locals", Some(2), || {
        let room = Arc::new(Room::new());
        let keeper = go(&room, |room| {
            room.limbo.pinned(|| {
                Limbo::end_thread();
                room.look(0);
            });
        });
        let helper = go(&room, |room| {
            room.limbo.pinned(|| ());
            room.limbo.take().len()
        });
        let reader = go(&room, |room| room.read(0));
        done(keeper);
        assert_eq!(done(helper), 0);
        done(reader);
    });
}

/// A1, A2 for brief pins, which only threads have that have a record.
#[test]
fn a1_a_brief_pin_and_an_advance() {
    check("a1_a_brief_pin_and_an_advance", Some(3), || {
        let room = Arc::new(Room::new());
        let reader = go(&room, |room| {
            room.limbo.pinned(|| ());
            room.limbo.pinned_briefly(|| room.look(0));
        });
        room.replace(0);
        room.limbo.flush();
        let freed = room.free();
        done(reader);
        assert_eq!(freed + room.free(), 1);
    });
}

/// N1: of two who give up the last references at once, one drops the value, after all that the other read of it.
#[test]
fn n1_the_last_owner_drops() {
    the_last_owner_drops("n1_the_last_owner_drops");
}

/// N1: the same where who finds itself the only owner needs no read-modify-write.
#[test]
fn n1_the_sole_owner_drops() {
    with_shortcuts(|| the_last_owner_drops("n1_the_sole_owner_drops"));
}

fn the_last_owner_drops(name: &str) {
    check(name, Some(3), || {
        let census = Census::new();
        let engine = engine(&census);
        let remover = go(&engine, |engine| {
            let handle = engine.remove(A, 1).expect("nobody else removes it");
            handle.read()
        });
        engine.run_pending();
        assert_eq!(done(remover), 1);
        engine.run_pending();
        assert!(census.alive().is_empty());
    });
}

/// N1: who takes a value out of its last handle comes after all that was read of it through others.
#[test]
fn n1_the_last_handle_is_taken_apart() {
    check("n1_the_last_handle_is_taken_apart", None, || {
        let census = Census::new();
        let engine = engine(&census);
        let Put::Present { rejected: handle, .. } = engine.insert_if_absent(A, 1, census.value(2)) else {
            panic!("the key is there");
        };
        let other = handle.clone();
        let reader = go(&engine, move |_| other.read());
        if let Ok((_, value)) = handle.try_unwrap() {
            drop(value);
            assert_eq!(census.alive(), [1]);
        }
        assert_eq!(done(reader), 2);
        drop(engine);
        assert!(census.alive().is_empty());
    });
}

/// Two places that each hold the number of an object, four objects, and a limbo for those that were taken out.
struct Room {
    limbo: Limbo,
    places: [AtomicUsize; 2],
    objects: [UnsafeCell<()>; 4],
}

impl Room {
    /// Object 0 is in place 0, object 2 in place 1.
    fn new() -> Self {
        Self {
            limbo: Limbo::new(),
            places: [0, 2].map(AtomicUsize::new),
            objects: std::array::from_fn(|_| UnsafeCell::new(())),
        }
    }

    /// Puts the next object in, and retires the one that was there. As an index does, after which it asks no more.
    fn replace(&self, place: usize) {
        self.limbo.retire(2 * place + 8, || {
            self.places[place].store(2 * place + 1, Ordering::Release);
        });
    }

    fn read(&self, place: usize) {
        self.limbo.pinned(|| self.look(place));
    }

    fn look(&self, place: usize) {
        self.objects[self.places[place].load(Ordering::Acquire)].with(|_| ());
    }

    /// Ends the objects that may go. Returns how many.
    fn free(&self) -> usize {
        self.limbo.settle();
        self.end()
    }

    /// The same, without trying to bring their grace periods to an end.
    fn end(&self) -> usize {
        let due = self.limbo.take();
        due.iter().for_each(|number| self.objects[number - 8].with_mut(|_| ()));
        due.len()
    }
}

/// A1, A2: one pin, one grace period, the object of one place. Without a fence on either side, with one epoch for a grace
/// period, or with a pin that does not tell of the reads before it, this fails.
#[test]
fn a1_a_pin_and_an_advance() {
    check("a1_a_pin_and_an_advance", Some(3), || {
        let room = Arc::new(Room::new());
        let reader = go(&room, |room| room.read(0));
        room.replace(0);
        room.limbo.flush();
        let freed = room.free();
        done(reader);
        assert_eq!(freed + room.free(), 1);
    });
}

/// A1, A2: somebody else than who retires advances, and who retires only asks: its fence at the beginning, the barriers of
/// who advances, and what the epoch brings along are all that keeps the reader's object.
#[test]
fn a2_somebody_else_advances() {
    check("a2_somebody_else_advances", Some(3), || {
        let room = Arc::new(Room::new());
        let helper = go(&room, |room| room.limbo.settle());
        let reader = go(&room, |room| room.read(0));
        room.replace(1);
        // The bag is full, and sealed under the pin of the unlink: no other fence comes between.
        room.replace(0);
        let freed = room.end();
        done(helper);
        done(reader);
        assert_eq!(freed + room.free(), 2);
    });
}

/// `PIN`: a pin hides the unpin before it, and brings along what was read until then.
#[test]
fn a1_a_pin_after_a_pin() {
    check("a1_a_pin_after_a_pin", Some(3), || {
        let room = Arc::new(Room::new());
        let reader = go(&room, |room| {
            room.read(0);
            room.limbo.pinned(|| room.limbo.pinned(|| ()));
        });
        room.replace(0);
        room.limbo.flush();
        let freed = room.free();
        done(reader);
        assert_eq!(freed + room.free(), 1);
    });
}

/// A3: what was found under the inner of two pins stays until the outer goes.
#[test]
fn a3_a_pin_within_a_pin() {
    check("a3_a_pin_within_a_pin", Some(3), || {
        let room = Arc::new(Room::new());
        let reader = go(&room, |room| {
            room.limbo.pinned(|| {
                let found = room.limbo.pinned(|| room.places[0].load(Ordering::Acquire));
                room.objects[found].with(|_| ());
            });
        });
        room.replace(0);
        room.limbo.flush();
        let freed = room.free();
        done(reader);
        assert_eq!(freed + room.free(), 1);
    });
}

/// What a thread retired is freed when it has ended, by others; its record serves the next.
#[test]
fn h3_a_thread_retires_and_ends() {
    check("h3_a_thread_retires_and_ends", Some(2), || {
        let room = Arc::new(Room::new());
        let writer = go(&room, |room| room.replace(0));
        let reader = go(&room, |room| room.read(0));
        room.limbo.flush();
        let mut freed = room.free();
        done(writer);
        room.limbo.flush();
        freed += room.free();
        done(reader);
        assert_eq!(freed + room.free(), 1);
    });
}

/// L2: a bag that was emptied is used again, by another thread than the one that emptied it.
#[test]
fn l2_a_bag_is_used_again() {
    check("l2_a_bag_is_used_again", Some(2), || {
        let limbo = Arc::new(Limbo::new());
        let retire = |limbo: &Limbo| {
            limbo.retire(8, || ());
            limbo.flush();
            limbo.settle();
            limbo.take().len()
        };
        let rival = go(&limbo, move |limbo| retire(limbo) + retire(limbo));
        let mut freed = retire(&limbo) + retire(&limbo) + done(rival);
        limbo.settle();
        freed += limbo.take().len();
        assert_eq!(freed, 4);
    });
}

/// L1, L2: an object that is retired while its bag is sealed is covered, or goes into the next.
#[test]
fn l1_a_claim_while_the_bag_is_sealed() {
    check("l1_a_claim_while_the_bag_is_sealed", Some(2), || {
        let room = Arc::new(Room::new());
        let writer = go(&room, |room| room.replace(1));
        let reader = go(&room, |room| room.read(1));
        room.replace(0);
        room.limbo.flush();
        let mut freed = room.free();
        done(writer);
        done(reader);
        room.limbo.flush();
        freed += room.free();
        assert_eq!(freed, 2, "each once, when nobody is in the way");
        assert_eq!(room.limbo.len(), 0);
    });
}

/// L3: two threads that fill and seal bags: what is retired is yielded once.
#[test]
fn l3_two_threads_seal() {
    check("l3_two_threads_seal", Some(3), || {
        let limbo = Arc::new(Limbo::new());
        let rival = go(&limbo, |limbo| {
            (1..=2).for_each(|i| limbo.retire(8 * i, || ()));
            limbo.settle();
            limbo.take()
        });
        (3..=4).for_each(|i| limbo.retire(8 * i, || ()));
        limbo.flush();
        let mut all = limbo.take();
        all.extend(done(rival));
        let mut limbo = Arc::into_inner(limbo).expect("the rival has gone");
        all.extend(limbo.drain());
        all.sort_unstable();
        assert_eq!(all, [8, 16, 24, 32]);
    });
}
