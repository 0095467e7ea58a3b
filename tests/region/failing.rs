//! Creators and stores that fail: what is shared, what is remembered, what is served instead.

use super::stores::{Asked, Setup, each};
use super::{FRESH, SECOND, fresh};
use crate::common::{Hold, crowd, message, panics, watch};
use dogpile::backend::{Backend, Proxy, Put, Stored};
use dogpile::region::OnBackendError;
use dogpile::{CreateError, Error, ErrorKind, RegionPolicy};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

fn creator(error: &'static str) -> CreateError<&'static str> {
    CreateError::Creator(Arc::new(error))
}

/// In dogpile.cache each who waited runs it again, one after the other.
#[test]
fn all_who_wait_share_the_error() {
    each(|setup| {
        let region = setup.by(fresh());
        let lead = |hold: &Hold| {
            region.try_make("key", || {
                hold.here();
                Err("no")
            })
        };
        let other = |_| region.try_make("key", || unreachable!("one leads"));
        let (led, others) = crowd(|| region.stats().waits, lead, 4, other, || {});
        assert_eq!(led.unwrap(), Err(creator("no")));
        assert!(others.into_iter().all(|other| other.unwrap() == Err(creator("no"))));
        assert_eq!(region.stats().failures, 1);
        assert!(!region.key_is_locked("key"));
        assert_eq!(region.stored("key"), None);
        assert_eq!(region.try_make("key", || Ok(2)), Ok(2), "and the next one tries");
    });
}

#[test]
fn an_error_may_be_remembered() {
    each(|setup| {
        let policy = RegionPolicy::builder().fresh(FRESH).error_ttl(SECOND).build().unwrap();
        let region = setup.by(policy);
        assert_eq!(region.try_make("key", || Err("no")), Err(creator("no")));
        assert_eq!(region.try_make("key", || unreachable!("remembered")), Err(creator("no")));
        assert_eq!(region.try_make("other", || Ok(1)), Ok(1));
        region.pass(SECOND);
        assert_eq!(region.try_make("key", || Ok(2)), Ok(2));
        // What is written says more than what failed.
        region.try_make("set", || Err("no")).unwrap_err();
        region.set("set", 3_u32);
        region.delete("set");
        assert_eq!(region.try_make("set", || Ok(4)), Ok(4), "it was written and deleted since");
    });
}

/// In dogpile.cache who was elected gets the exception although there is a stale value.
#[test]
fn the_stale_value_stands_in_for_an_error() {
    each(|setup| {
        let policy = RegionPolicy::builder()
            .fresh(FRESH)
            .stale_if_error(FRESH)
            .hold_back(10 * SECOND)
            .build()
            .unwrap();
        let region = setup.by(policy);
        region.set("key", 1_u32);
        region.pass(FRESH + SECOND);
        assert_eq!(region.try_make("key", || Err("no")), Ok(1));
        assert_eq!(region.try_make("key", || unreachable!("the next try is held back")), Ok(1));
        region.pass(10 * SECOND);
        assert_eq!(region.try_make("key", || Ok(2)), Ok(2));
        // After its end it does not.
        region.pass(2 * FRESH);
        assert_eq!(region.try_make("key", || Err("no")), Err(creator("no")));
    });
}

#[test]
fn without_stale_if_error_the_leader_has_the_error_and_others_the_stale_value() {
    each(|setup| {
        let region = setup.by(fresh());
        region.set("key", 1_u32);
        region.pass(FRESH);
        let failed = region.try_make("key", || {
            assert_eq!(region.make("key", || unreachable!()), 1);
            Err("no")
        });
        assert_eq!(failed, Err(creator("no")));
        assert_eq!(region.stored("key"), Some(1));
    });
}

/// The waiter that came first leads in the place of one that panicked.
#[test]
fn a_panic_hands_the_lead_on() {
    each(|setup| {
        let region = setup.by(fresh());
        let lead = |hold: &Hold| {
            region.try_make("key", || {
                hold.here();
                panic!("gone")
            })
        };
        let other = |i: usize| region.try_make("key", || Ok(10 + i as u32));
        let (led, others) = crowd(|| region.stats().waits, lead, 3, other, || {});
        assert_eq!(message(led), "gone");
        assert!(others.into_iter().all(|other| other.unwrap() == Ok(10)), "the first to come made it");
        assert!(!region.key_is_locked("key"));
    });
}

#[test]
fn a_second_panic_ends_the_flight() {
    each(|setup| {
        let region = setup.by(fresh());
        let lead = |hold: &Hold| {
            region.try_make("key", || {
                hold.here();
                panic!("gone")
            })
        };
        let other = |_| region.try_make("key", || panic!("gone, too"));
        let (led, others) = crowd(|| region.stats().waits, lead, 3, other, || {});
        assert_eq!(message(led), "gone");
        let mut ended = others.into_iter();
        assert_eq!(message(ended.next().unwrap()), "gone, too");
        assert!(ended.all(|other| other.unwrap() == Err(CreateError::LeaderPanicked)));
        assert_eq!(region.make("key", || 7), 7, "nothing is locked");
    });
}

#[test]
fn a_panic_with_a_stale_value_at_hand() {
    each(|setup| {
        let policy = RegionPolicy::builder().fresh(FRESH).stale_if_error(FRESH).build().unwrap();
        let region = setup.by(policy);
        region.set("key", 1_u32);
        region.pass(FRESH);
        assert_eq!(panics(|| region.make("key", || panic!("gone"))), "gone");
        // A panic is no failure to wait after.
        assert_eq!(region.make("key", || 2), 2);
    });
}

// ---- stores that fail

/// A store that is down while it is told so.
#[derive(Clone, Default)]
struct Down(Arc<Failing>);

#[derive(Default)]
struct Failing {
    reads: AtomicBool,
    writes: AtomicBool,
    failed: AtomicUsize,
}

impl Down {
    fn goes(&self, down: bool) {
        self.0.reads.store(down, SeqCst);
        self.0.writes.store(down, SeqCst);
    }

    fn check(&self, is_down: &AtomicBool) -> Result<(), Error> {
        if is_down.load(SeqCst) {
            self.0.failed.fetch_add(1, SeqCst);
            return Err(Error::new(ErrorKind::Unavailable, "a store").detail("down"));
        }
        Ok(())
    }
}

impl Proxy for Down {
    fn get(&self, next: &dyn Backend, key: &str) -> Result<Option<Stored>, Error> {
        self.check(&self.0.reads)?;
        next.get(key)
    }
    fn get_multi(&self, next: &dyn Backend, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error> {
        self.check(&self.0.reads)?;
        next.get_multi(keys)
    }
    fn set(&self, next: &dyn Backend, put: Put<'_>) -> Result<(), Error> {
        self.check(&self.0.writes)?;
        next.set(put)
    }
    fn set_multi(&self, next: &dyn Backend, puts: &[Put<'_>]) -> Result<(), Error> {
        self.check(&self.0.writes)?;
        next.set_multi(puts)
    }
    fn set_unless(
        &self,
        next: &dyn Backend,
        puts: &[Put<'_>],
        keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
    ) -> Option<Result<Vec<bool>, Error>> {
        match self.check(&self.0.writes) {
            Ok(()) => next.set_unless(puts, keeps),
            Err(error) => Some(Err(error)),
        }
    }
    fn delete(&self, next: &dyn Backend, key: &str) -> Result<bool, Error> {
        self.check(&self.0.writes)?;
        next.delete(key)
    }
    fn delete_multi(&self, next: &dyn Backend, keys: &[&str]) -> Result<(), Error> {
        self.check(&self.0.writes)?;
        next.delete_multi(keys)
    }
    fn clear(&self, next: &dyn Backend, prefix: &str) -> Result<bool, Error> {
        self.check(&self.0.writes)?;
        next.clear(prefix)
    }
}

fn over_down(setup: &Setup, on_error: OnBackendError) -> (Asked, Down) {
    let down = Down::default();
    let proxy = down.clone();
    (setup.build(|builder| builder.policy(fresh()).on_backend_error(on_error).wrap(proxy)), down)
}

/// In dogpile.cache the caller gets the store's exception.
#[test]
fn a_store_that_is_down_makes_reads_misses() {
    each(|setup| {
        let (region, down) = over_down(setup, OnBackendError::Degrade);
        region.set("key", 1_u32);
        down.goes(true);
        assert_eq!(region.get("key"), None);
        assert_eq!(region.get_multi(&["key", "other"]), [None, None]);
        assert_eq!(region.make("key", || 2), 2);
        assert_eq!(region.make_many(&["key", "other"], |_| vec![3, 4]), [3, 4]);
        assert!(region.stats().backend_errors >= 4, "{:?}", region.stats());
        down.goes(false);
        assert_eq!(region.get("key"), Some(1), "what was made while it was down was not stored");
    });
}

/// One makes it, also when the store is down.
#[test]
fn the_lock_of_the_process_still_protects() {
    each(|setup| {
        let (region, down) = over_down(setup, OnBackendError::Degrade);
        down.goes(true);
        let lead = |hold: &Hold| {
            region.make("key", || {
                hold.here();
                1
            })
        };
        let other = |_| region.make("key", || unreachable!("one leads"));
        let (led, others) = crowd(|| region.stats().waits, lead, 3, other, || {});
        assert!(led.unwrap() == 1 && others.into_iter().all(|other| other.unwrap() == 1));
        assert_eq!(region.stats().creations, 1);
    });
}

#[test]
fn a_store_that_takes_nothing_loses_no_value() {
    each(|setup| {
        let (region, down) = over_down(setup, OnBackendError::Degrade);
        down.0.writes.store(true, SeqCst);
        assert_eq!(region.make("key", || 1), 1);
        assert_eq!(region.stats().backend_errors, 1);
        assert_eq!(region.get("key"), None);
    });
}

#[test]
fn calls_that_write_say_that_they_did_not() {
    each(|setup| {
        let (region, down) = over_down(setup, OnBackendError::Degrade);
        region.set("key", 1_u32);
        down.goes(true);
        let kind = |result: Result<(), Error>| result.unwrap_err().kind();
        assert_eq!(kind(region.region.set("key", 2_u32)), ErrorKind::Unavailable);
        assert_eq!(kind(region.region.set_multi([("key", 2_u32), ("b", 3)])), ErrorKind::Unavailable);
        assert_eq!(kind(region.region.delete("key").map(drop)), ErrorKind::Unavailable);
        assert_eq!(kind(region.region.delete_multi(&["key", "b"])), ErrorKind::Unavailable);
        assert_eq!(kind(region.region.expire_in("key", None).map(drop)), ErrorKind::Unavailable);
        assert_eq!(kind(region.region.clear()), ErrorKind::Unavailable);
        down.goes(false);
        assert!(!region.key_is_locked("key"));
    });
}

#[test]
fn fail_returns_the_stores_error() {
    each(|setup| {
        let (region, down) = over_down(setup, OnBackendError::Fail);
        region.set("key", 1_u32);
        down.goes(true);
        let kind = |error: Error| error.kind();
        assert_eq!(kind(region.region.get::<u32>("key").unwrap_err()), ErrorKind::Unavailable);
        assert_eq!(kind(region.region.get_multi::<u32>(&["key"]).unwrap_err()), ErrorKind::Unavailable);
        let made = region.region.get_or_create("key", || -> u32 { unreachable!() });
        assert_eq!(kind(made.unwrap_err()), ErrorKind::Unavailable);
        match region.try_make("key", || unreachable!()) {
            Err(CreateError::Backend(error)) => assert_eq!(error.kind(), ErrorKind::Unavailable),
            other => panic!("{other:?}"),
        }
        match region.try_make_many(&["key", "b"], |_| unreachable!()) {
            Err(CreateError::Backend(error)) => assert_eq!(error.kind(), ErrorKind::Unavailable),
            other => panic!("{other:?}"),
        }
        assert!(!region.key_is_locked("key"));
        down.goes(false);
        assert_eq!(region.make("key", || unreachable!()), 1);
    });
}

/// The write of what was made has failed: who waited for it hears of it, too.
#[test]
fn fail_returns_the_error_of_the_write() {
    each(|setup| {
        let (region, down) = over_down(setup, OnBackendError::Fail);
        let lead = |hold: &Hold| {
            region.try_make("key", || {
                hold.here();
                down.goes(true);
                Ok(1)
            })
        };
        let other = |_| region.try_make("key", || unreachable!("one leads"));
        let (led, others) = crowd(|| region.stats().waits, lead, 2, other, || {});
        for ended in others.into_iter().chain([led]) {
            match ended.unwrap() {
                Err(CreateError::Backend(error)) => assert_eq!(error.kind(), ErrorKind::Unavailable),
                other => panic!("{other:?}"),
            }
        }
        down.goes(false);
        assert_eq!(region.make("key", || 2), 2, "nothing is locked");
    });
}

/// A store that panics is a creator that panics: nothing stays locked.
#[test]
fn a_store_that_panics_locks_nothing() {
    struct Panicking(AtomicBool);
    impl Proxy for Panicking {
        fn set(&self, next: &dyn Backend, put: Put<'_>) -> Result<(), Error> {
            assert!(self.0.swap(true, SeqCst), "the store is gone");
            next.set(put)
        }
        fn set_unless(
            &self,
            next: &dyn Backend,
            puts: &[Put<'_>],
            keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
        ) -> Option<Result<Vec<bool>, Error>> {
            let _ = (next, puts, keeps);
            None
        }
    }
    each(|setup| {
        let _watch = watch();
        let region = setup.build(|builder| builder.wrap(Panicking(AtomicBool::new(false))));
        assert!(panics(|| region.make("key", || 1)).contains("the store is gone"));
        assert!(!region.key_is_locked("key"));
        assert_eq!(region.make("key", || 2), 2);
        assert_eq!(region.get("key"), Some(2));
    });
}

/// A proxy that returns too few values has not found any.
#[test]
fn a_batch_of_the_wrong_length_is_an_error_of_the_store() {
    struct Fewer;
    impl Proxy for Fewer {
        fn get_multi(&self, next: &dyn Backend, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error> {
            next.get_multi(&keys[1..])
        }
    }
    each(|setup| {
        let region = setup.build(|builder| builder.wrap(Fewer));
        region.set_multi(&[("a", 1), ("b", 2)]);
        assert_eq!(region.get_multi(&["a", "b"]), [None, None]);
        assert_eq!(region.stats().backend_errors, 1);
        assert_eq!(region.make_many(&["a", "b"], |_| vec![3, 4]), [3, 4]);
    });
}
