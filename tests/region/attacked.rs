//! What a hostile reader found, each as the sequence of calls that showed it.

use dogpile::backend::MemoryBackend;
use dogpile::codec::{Codec, Envelope};
use dogpile::region::SetOptions;
use dogpile::time::ManualClock;
use dogpile::{CreateError, Region, RegionPolicy};
use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// The leader of "b" waits for the turn of the creator of "a", which asks for "b".
#[test]
fn a_creator_lends_its_turn_to_the_one_it_waits_for() {
    let region = Region::builder().max_creations(NonZeroUsize::MIN).build().unwrap();
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let outer = scope.spawn(|| {
            let tell = tell;
            region.get_or_create("a", || {
                tell.send(()).unwrap();
                while !region.key_is_locked("b").unwrap() {
                    thread::yield_now();
                }
                *region.get_or_create::<u32>("b", || 7).unwrap() + 1
            })
        });
        told.recv().unwrap();
        let inner = scope.spawn(|| region.get_or_create("b", || 2_u32));
        let (outer, inner) = (outer.join().unwrap().unwrap(), inner.join().unwrap().unwrap());
        assert_eq!((*outer, *inner), (3, 2));
    });
    // All turns are there again, and no more than there were.
    for key in ["c", "d", "e"] {
        assert_eq!(*region.get_or_create(key, || 1_u32).unwrap(), 1);
    }
}

#[test]
fn a_refresh_is_not_held_back() {
    let clock = ManualClock::new();
    let policy = RegionPolicy::builder().fresh(SECOND).stale_if_error(100 * SECOND).hold_back(50 * SECOND);
    let region = Region::builder().clock(clock.clone()).policy(policy.build().unwrap()).build().unwrap();
    region.set("key", 1).unwrap();
    clock.advance(2 * SECOND);
    let held = region.try_get_or_create("key", || Err::<i32, _>("no")).unwrap();
    assert_eq!(*held, 1, "it stands in for the error, and the next try is held back");
    assert_eq!(*region.refresh("key", || 2).unwrap(), 2);
}

#[test]
fn clear_wins_over_a_creation_whose_envelope_has_no_epoch() {
    let backend = MemoryBackend::builder().serialized(true).build().unwrap();
    let plain = Codec::json().envelope(Envelope::Plain);
    let region = Region::builder().backend(backend).codec(plain).build().unwrap();
    let made = region.get_or_create("key", || {
        region.clear().unwrap();
        String::from("old")
    });
    assert_eq!(*made.unwrap(), "old");
    assert_eq!(region.get::<String>("key").unwrap(), None);
}

#[test]
fn another_time_to_live_leaves_the_weight() {
    let backend = MemoryBackend::builder().max_weight(100_000).build().unwrap();
    let region = Region::builder().backend(backend.clone()).build().unwrap();
    region.set("key", vec![1_u8; 1_000]).unwrap();
    let before = backend.cache().weight();
    assert!(before >= 1_000);
    assert!(region.expire_in("key", Some(SECOND)).unwrap());
    assert_eq!(backend.cache().weight(), before);
}

#[test]
fn a_policy_made_from_the_regions_leaves_a_values_own_time() {
    let clock = ManualClock::new();
    let policy = RegionPolicy::builder().fresh(60 * SECOND).stale(3600 * SECOND).build().unwrap();
    let region = Region::builder().clock(clock.clone()).policy(policy.clone()).build().unwrap();
    region.set_with("key", 1, SetOptions::new().ttl(SECOND)).unwrap();
    clock.advance(2 * SECOND);
    let patient = policy.to_builder().wait(SECOND).build().unwrap();
    assert_eq!(*region.with(&patient).get_or_create("key", || 2).unwrap(), 2, "its own second is over");
}

/// The creator was handed on, what it made was overtaken, by a value of another type.
#[test]
fn a_caller_whose_creator_was_handed_on_has_the_stale_value() {
    struct Now(Region);
    let clock = ManualClock::new();
    let policy = RegionPolicy::builder().fresh(SECOND).soft_timeout(600 * SECOND).build().unwrap();
    let region = Region::builder().clock(clock.clone()).policy(policy).build().unwrap();
    let held = std::sync::Arc::new(Now(region));
    held.0.set("key", 1_u32).unwrap();
    clock.advance(2 * SECOND);
    let (release, released) = mpsc::channel::<()>();
    let background = std::sync::Arc::clone(&held);
    let served = held.0.try_get_or_create_detached("key", move || {
        background.0.set("key", String::from("of another type")).unwrap();
        released.recv().unwrap_or(());
        Ok::<u32, CreateError<()>>(2)
    });
    assert_eq!(*served.unwrap(), 1);
    drop(release);
}

/// What lies before the clock's origin counts.
#[test]
fn a_value_is_older_than_the_clock() {
    let old = ManualClock::new();
    old.advance(7200 * SECOND);
    let backend = MemoryBackend::builder().serialized(true).build().unwrap();
    let policy = RegionPolicy::builder().fresh(1800 * SECOND).build().unwrap();
    let writer =
        Region::builder().backend(backend.clone()).clock(old.clone()).policy(policy.clone()).build().unwrap();
    writer.set("key", 1).unwrap();
    /// A process that began when the value was two hours old.
    #[derive(Clone)]
    struct Young(ManualClock);
    impl dogpile::time::Clock for Young {
        fn now(&self) -> dogpile::time::Instant {
            dogpile::time::Instant::from_nanos(600 * 1_000_000_000)
        }
        fn unix(&self) -> Duration {
            dogpile::time::Clock::unix(&self.0)
        }
    }
    old.advance(7200 * SECOND);
    let reader = Region::builder().backend(backend).clock(Young(old)).policy(policy).build().unwrap();
    assert_eq!(reader.get::<i32>("key").unwrap(), None, "two hours are more than half an hour");
}
