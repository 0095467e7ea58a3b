//! H16: what is set, deleted, invalidated or cleared while a value is made wins, wherever in the creation it comes.
//!
//! Each is done by another thread, a thousand times while the creator runs. The moment is forced: that thread is told by a
//! channel when the creation has come there, and the creation goes on when it has told that it is done. While a value is
//! written, calls that write the same key wait for their turn; then the other one can't be done before, and comes right after.

use super::fresh;
use super::stores::{Asked, Setup, Store, When, each};
use dogpile::region::{How, Scope};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

const ROUNDS: usize = 1_000;
/// At the store each round is one of its own kind: there is no more to see in many.
const AT_THE_STORE: usize = 100;

/// What another thread does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Set,
    Delete,
    Invalidate(Scope<'static>, How),
    Clear,
}

const ALL: [Does; 11] = [
    Does::Set,
    Does::Delete,
    Does::Clear,
    Does::Invalidate(Scope::Key("key"), How::Hard),
    Does::Invalidate(Scope::Key("key"), How::Soft),
    Does::Invalidate(Scope::Tag("tag"), How::Hard),
    Does::Invalidate(Scope::Tag("tag"), How::Soft),
    Does::Invalidate(Scope::Prefix("ke"), How::Hard),
    Does::Invalidate(Scope::Prefix("ke"), How::Soft),
    Does::Invalidate(Scope::Region, How::Hard),
    Does::Invalidate(Scope::Region, How::Soft),
];

impl Does {
    fn to(self, region: &Asked) {
        match self {
            Self::Set => region.set("key", 2_u32),
            Self::Delete => _ = region.delete("key"),
            Self::Invalidate(scope, how) => region.invalidate(scope, how),
            Self::Clear => region.clear(),
        }
    }

    /// What `get` finds afterwards.
    fn leaves(self) -> Option<u32> {
        (self == Self::Set).then_some(2)
    }

    /// Whether it writes the key under the turn of its writers.
    fn takes_a_turn(self) -> bool {
        matches!(self, Self::Set | Self::Delete | Self::Invalidate(Scope::Key(_), How::Hard))
    }
}

/// The other thread.
struct Other {
    go: mpsc::Sender<()>,
    done: mpsc::Receiver<()>,
}

impl Other {
    /// Does it, and waits for it. Only for so long, if it may have to wait for its turn.
    fn does(&self, has_to_wait: bool) -> bool {
        self.go.send(()).unwrap();
        match has_to_wait {
            false => self.done.recv().map(|()| true).unwrap(),
            true => self.done.recv_timeout(Duration::from_micros(50)).is_ok(),
        }
    }
}

/// Runs `round` with a thread at hand that does it when it is told to.
fn with_another(region: &Asked, does: Does, rounds: impl FnOnce(&Other)) {
    thread::scope(|scope| {
        let (go, goes) = mpsc::channel();
        let (is_done, done) = mpsc::channel();
        scope.spawn(move || {
            for () in goes {
                does.to(region);
                if is_done.send(()).is_err() {
                    return;
                }
            }
        });
        rounds(&Other { go, done });
    });
}

/// The creator itself is where it happens.
fn in_the_creator(setup: &Setup, does: Does, is_stale: bool) {
    let region = setup.by(fresh());
    let mut won = 0;
    with_another(&region, does, |other| {
        for _ in 0..ROUNDS {
            prepare(&region, is_stale);
            let made = region.make_tagged(&["tag"], "key", || {
                other.does(false);
                1
            });
            assert_eq!(made, 1, "its caller has what was made");
            won += usize::from(region.get("key") == does.leaves());
        }
    });
    assert_eq!(won, ROUNDS, "{does:?} while the creator runs");
}

fn prepare(region: &Asked, is_stale: bool) {
    if is_stale {
        region.set("key", 0_u32);
        region.pass(2 * super::FRESH);
    } else {
        region.delete("key");
    }
}

/// Between the region and its store.
fn at_the_store(setup: &Setup, does: Does, when: When) {
    let region = setup.by(fresh());
    // Whoever writes there has the turn.
    let has_to_wait = does.takes_a_turn() && when != When::Read;
    let armed = Arc::new(AtomicUsize::new(0));
    let (arrived, arrivals) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    let goes_on = std::sync::Mutex::new(goes_on);
    let is_armed = Arc::clone(&armed);
    region.watched.step_in(move |now| {
        // Once a round: what the other thread calls is not met.
        if now == when && is_armed.compare_exchange(1, 0, SeqCst, SeqCst).is_ok() {
            arrived.send(()).unwrap();
            goes_on.lock().unwrap().recv().unwrap();
        }
    });
    let mut won = 0;
    with_another(&region, does, |other| {
        thread::scope(|scope| {
            let (begin, begins) = mpsc::channel();
            let (end, ends) = mpsc::channel();
            let maker = &region;
            scope.spawn(move || {
                for () in begins {
                    let made = maker.make_tagged(&["tag"], "key", || 1);
                    if end.send(made).is_err() {
                        return;
                    }
                }
            });
            for _ in 0..AT_THE_STORE {
                prepare(&region, false);
                armed.store(1, SeqCst);
                begin.send(()).unwrap();
                arrivals.recv().unwrap();
                let is_done = other.does(has_to_wait);
                go_on.send(()).unwrap();
                let made = ends.recv().unwrap();
                if !is_done {
                    other.done.recv().unwrap();
                }
                // It may have seen that the key was set, and returned that.
                assert!(made == 1 || does == Does::Set && made == 2);
                won += usize::from(region.get("key") == does.leaves());
            }
            drop(begin);
        });
    });
    // What comes between the read and the creator comes before the creator: its value is newer, and may stay.
    if when == When::Read && does != Does::Set {
        return;
    }
    assert_eq!(won, AT_THE_STORE, "{does:?} at {when:?}");
}

macro_rules! while_made {
    ($($name:ident: $does:expr),+ $(,)?) => {$(
        #[test]
        fn $name() {
            each(|setup| {
                in_the_creator(setup, $does, false);
                in_the_creator(setup, $does, true);
            });
        }
    )+};
}

while_made! {
    set_while_it_is_made: Does::Set,
    delete_while_it_is_made: Does::Delete,
    clear_while_it_is_made: Does::Clear,
    hard_key_while_it_is_made: Does::Invalidate(Scope::Key("key"), How::Hard),
    soft_key_while_it_is_made: Does::Invalidate(Scope::Key("key"), How::Soft),
    hard_tag_while_it_is_made: Does::Invalidate(Scope::Tag("tag"), How::Hard),
    soft_tag_while_it_is_made: Does::Invalidate(Scope::Tag("tag"), How::Soft),
    hard_prefix_while_it_is_made: Does::Invalidate(Scope::Prefix("ke"), How::Hard),
    soft_prefix_while_it_is_made: Does::Invalidate(Scope::Prefix("ke"), How::Soft),
    hard_region_while_it_is_made: Does::Invalidate(Scope::Region, How::Hard),
    soft_region_while_it_is_made: Does::Invalidate(Scope::Region, How::Soft),
}

#[test]
fn all_of_them_before_it_is_written() {
    each(|setup| {
        for does in ALL {
            at_the_store(setup, does, When::BeforeWrite);
        }
    });
}

#[test]
fn all_of_them_after_it_is_written() {
    each(|setup| {
        for does in ALL {
            at_the_store(setup, does, When::AfterWrite);
        }
    });
}

/// Nobody knows of the creation yet; what comes there is seen, or is older than what is made.
#[test]
fn all_of_them_after_it_is_read() {
    each(|setup| {
        for does in ALL {
            at_the_store(setup, does, When::Read);
        }
    });
}

/// What was invalidated softly while it was made is stale: the next caller makes it anew.
#[test]
fn after_a_soft_one_the_next_caller_leads() {
    each(|setup| {
        let region = setup.by(fresh());
        region.make("key", || {
            region.invalidate(Scope::Region, How::Soft);
            1
        });
        assert_eq!(region.get("key"), None);
        assert_eq!(region.make("key", || 2), 2);
        assert_eq!(region.get("key"), Some(2));
    });
}

#[test]
fn what_was_refused_is_counted() {
    each(|setup| {
        let region = setup.by(fresh());
        region.make("key", || {
            region.set("key", 2_u32);
            1
        });
        assert_eq!(region.stats().refused_late_writes, 1);
        let deleted = region.make("other", || {
            region.delete("other");
            1
        });
        assert_eq!((deleted, region.stored("other")), (1, None));
        assert_eq!(region.stats().refused_late_writes, 2);
    });
}

/// Also what the background makes.
#[test]
fn in_the_background() {
    use crate::common::Kept;
    each(|setup| {
        for does in ALL {
            let kept = Kept::default();
            let policy =
                dogpile::RegionPolicy::builder().fresh(super::FRESH).runner(kept.clone()).build().unwrap();
            let region = setup.by(policy);
            region.set_with("key", 0, dogpile::region::SetOptions::new().tags(["tag"]));
            region.pass(super::FRESH);
            let (begun, begins) = mpsc::channel();
            let (go, goes) = mpsc::channel::<()>();
            let creator = move || {
                begun.send(()).unwrap();
                goes.recv().unwrap();
                1_u32
            };
            let tagged = region.region.tagged(["tag"]).get_or_create_detached("key", creator).unwrap();
            assert_eq!(*tagged, 0);
            thread::scope(|scope| {
                scope.spawn(|| kept.run());
                begins.recv().unwrap();
                does.to(&region);
                go.send(()).unwrap();
            });
            assert_eq!(region.get("key"), does.leaves(), "{does:?}");
        }
    });
}

/// An envelope without an epoch can't tell; there what is outdated is taken out again.
#[test]
fn with_the_envelope_of_dogpile_cache() {
    use dogpile::codec::{Codec, Envelope};
    each(|setup| {
        if !setup.store.is_bytes() {
            return;
        }
        for does in ALL {
            let codec = Codec::json().envelope(Envelope::Dogpile);
            let region = setup.build(|builder| builder.policy(fresh()).codec(codec));
            with_another(&region, does, |other| {
                for _ in 0..20 {
                    region.delete("key");
                    // What was made a nanosecond later is told apart; within one it is not.
                    region.pass(Duration::from_millis(1));
                    region.make_tagged(&["tag"], "key", || {
                        other.does(false);
                        1
                    });
                    assert_eq!(region.get("key"), does.leaves(), "{does:?}");
                }
            });
        }
    });
}

#[test]
fn the_matrix_is_what_it_says() {
    let stores = std::cell::RefCell::new(Vec::new());
    each(|setup| stores.borrow_mut().push((setup.store, setup.by_tasks)));
    let stores = stores.into_inner();
    assert_eq!(stores.len(), 12);
    assert!(stores.contains(&(Store::Least, true)));
}
