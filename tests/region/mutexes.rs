//! Stores with a lock of their own: who takes it, who waits for it, and that it is given back.

use super::stores::{Asked, Setup, each};
use super::{FRESH, fresh};
use crate::common::{Hold, Polled, Release, panics, until, watch};
use dogpile::backend::{Backend, CacheMutex, Proxy, Put};
use dogpile::region::OnBackendError;
use dogpile::{CreateError, Error, ErrorKind, RegionPolicy};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

/// A store's locks, as all processes see them.
#[derive(Clone, Default)]
struct Locks(Arc<Inner>);

#[derive(Default)]
struct Inner {
    held: Mutex<HashMap<String, Owner>>,
    bell: Condvar,
    /// One for all keys.
    is_one: bool,
    acquired: AtomicUsize,
    released: AtomicUsize,
    /// How often somebody has begun to wait: a thread waits, a task tries again.
    waiting: AtomicUsize,
    fails: AtomicBool,
    release_fails: AtomicBool,
}

#[derive(Clone, Copy, PartialEq)]
enum Owner {
    Thread(ThreadId),
    /// Another process.
    Elsewhere,
}

impl Locks {
    fn one_for_all() -> Self {
        Self(Arc::new(Inner { is_one: true, ..Inner::default() }))
    }

    /// Another process takes it.
    fn taken_elsewhere(&self, key: &str) {
        let before = self.0.held.lock().unwrap().insert(key.to_owned(), Owner::Elsewhere);
        assert!(before.is_none(), "it was free");
    }

    fn released_elsewhere(&self, key: &str) {
        self.0.held.lock().unwrap().remove(key);
        self.0.bell.notify_all();
    }

    /// How often it was taken and given back.
    fn turns(&self) -> (usize, usize) {
        (self.0.acquired.swap(0, SeqCst), self.0.released.swap(0, SeqCst))
    }

    fn are_free(&self) -> bool {
        self.0.held.lock().unwrap().is_empty()
    }

    fn somebody_waits(&self) {
        until("somebody waits for the store's lock", || self.0.waiting.load(SeqCst) > 0);
    }

    fn check(&self, fails: &AtomicBool) -> Result<(), Error> {
        match fails.load(SeqCst) {
            true => Err(Error::new(ErrorKind::Unavailable, "a store's lock")),
            false => Ok(()),
        }
    }
}

struct OwnMutex {
    locks: Locks,
    key: String,
    was_tried: AtomicBool,
}

impl OwnMutex {
    fn is_taken(&self, held: &HashMap<String, Owner>) -> bool {
        let own = Owner::Thread(thread::current().id());
        held.contains_key(&self.key) || self.locks.0.is_one && held.values().any(|owner| *owner != own)
    }
}

impl CacheMutex for OwnMutex {
    fn acquire(&self, wait: Duration) -> Result<bool, Error> {
        let inner = &self.locks.0;
        self.locks.check(&inner.fails)?;
        let held = inner.held.lock().unwrap();
        let waits = self.was_tried.swap(true, SeqCst) || !wait.is_zero();
        inner.waiting.fetch_add(usize::from(waits), SeqCst);
        let (mut held, _) = inner.bell.wait_timeout_while(held, wait, |held| self.is_taken(held)).unwrap();
        if self.is_taken(&held) {
            return Ok(false);
        }
        held.insert(self.key.clone(), Owner::Thread(thread::current().id()));
        inner.acquired.fetch_add(1, SeqCst);
        Ok(true)
    }

    fn release(&self) -> Result<(), Error> {
        let inner = &self.locks.0;
        inner.released.fetch_add(1, SeqCst);
        inner.held.lock().unwrap().remove(&self.key);
        inner.bell.notify_all();
        self.locks.check(&inner.release_fails)
    }

    fn locked(&self) -> Result<bool, Error> {
        Ok(self.is_taken(&self.locks.0.held.lock().unwrap()))
    }
}

impl Proxy for Locks {
    fn mutex(&self, _next: &dyn Backend, key: &str) -> Option<Box<dyn CacheMutex>> {
        Some(Box::new(OwnMutex {
            locks: self.clone(),
            key: key.to_owned(),
            was_tried: AtomicBool::new(false),
        }))
    }
}

fn locking(setup: &Setup) -> (Asked, Locks) {
    let locks = Locks::default();
    let proxy = locks.clone();
    (setup.build(|builder| builder.policy(fresh()).wrap(proxy)), locks)
}

#[test]
fn a_creation_takes_it_and_a_hit_does_not() {
    each(|setup| {
        let (region, locks) = locking(setup);
        assert_eq!(region.make("key", || 1), 1);
        assert_eq!(locks.turns(), (1, 1));
        assert_eq!(region.calls(), (2, 1), "under the lock it is looked at again");
        region.make("key", || unreachable!());
        region.get("key");
        region.set("key", 2_u32);
        region.delete("key");
        assert_eq!(locks.turns(), (0, 0));
        region.make_many(&["b", "a", "b"], |_| vec![1, 2]);
        assert_eq!(locks.turns(), (2, 2));
        assert!(locks.are_free());
    });
}

/// Of the threads of this process one comes to it.
#[test]
fn one_of_many_takes_it() {
    each(|setup| {
        let (region, locks) = locking(setup);
        let lead = |hold: &Hold| {
            region.make("key", || {
                hold.here();
                1
            })
        };
        let other = |_| region.make("key", || unreachable!());
        let (led, _others) = crate::common::crowd(|| region.stats().waits, lead, 3, other, || {});
        assert_eq!((led.unwrap(), locks.turns()), (1, (1, 1)));
    });
}

/// Another process makes it: the stale value, at once.
#[test]
fn held_elsewhere_the_stale_value_is_served() {
    each(|setup| {
        let _watch = watch();
        let (region, locks) = locking(setup);
        region.set("key", 1_u32);
        region.pass(FRESH);
        locks.taken_elsewhere("key");
        assert_eq!(region.make("key", || unreachable!("another process does it")), 1);
        assert_eq!(region.make_many(&["key"], |_| unreachable!("as well")), [1]);
        assert_eq!(locks.turns(), (0, 0));
        assert_eq!(region.stored("key"), Some(1));
        locks.released_elsewhere("key");
        assert_eq!(region.make("key", || 2), 2);
    });
}

/// Nothing is there: the lock is waited for, and the store read again.
#[test]
fn held_elsewhere_what_is_missing_is_waited_for() {
    each(|setup| {
        let _watch = watch();
        let (region, locks) = locking(setup);
        locks.taken_elsewhere("key");
        thread::scope(|scope| {
            let waiter = scope.spawn(|| region.make("key", || unreachable!("another process has made it")));
            locks.somebody_waits();
            assert!(region.key_is_locked("key"));
            // What the other process writes; not by a call of this region, which would hand it over.
            let written = setup.build(|builder| builder);
            written.set("key", 7_u32);
            let stored = written.region.actual_backend().unwrap().unwrap().get("key").unwrap().unwrap();
            region.region.actual_backend().unwrap().unwrap().set(Put::new("key", &stored)).unwrap();
            locks.released_elsewhere("key");
            assert_eq!(waiter.join().unwrap(), 7);
        });
        assert_eq!(region.calls(), (2, 0), "one read more");
        assert_eq!(locks.turns(), (1, 1));
    });
}

#[test]
fn what_nobody_has_made_is_made_after_the_wait() {
    each(|setup| {
        let _watch = watch();
        let (region, locks) = locking(setup);
        locks.taken_elsewhere("key");
        thread::scope(|scope| {
            let waiter = scope.spawn(|| region.make("key", || 1));
            locks.somebody_waits();
            locks.released_elsewhere("key");
            assert_eq!(waiter.join().unwrap(), 1);
        });
        assert_eq!(region.get("key"), Some(1));
        assert!(locks.are_free());
    });
}

/// In dogpile.cache a batch that has waited makes anew what another has made meanwhile.
#[test]
fn a_batch_takes_what_another_process_has_made() {
    each(|setup| {
        let _watch = watch();
        let (region, locks) = locking(setup);
        locks.taken_elsewhere("b");
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                region.make_many(&["c", "b", "a"], |asked| {
                    assert_eq!(asked, ["c", "a"]);
                    vec![3, 1]
                })
            });
            locks.somebody_waits();
            let written = setup.build(|builder| builder);
            written.set("b", 7_u32);
            let stored = written.region.actual_backend().unwrap().unwrap().get("b").unwrap().unwrap();
            region.region.actual_backend().unwrap().unwrap().set(Put::new("b", &stored)).unwrap();
            locks.released_elsewhere("b");
            assert_eq!(waiter.join().unwrap(), [3, 7, 1]);
        });
        assert_eq!(region.get_multi(&["a", "b", "c"]), [Some(1), Some(7), Some(3)]);
        assert!(locks.are_free());
    });
}

/// Stale ones of a batch that another process makes are served; the rest is made.
#[test]
fn a_batch_serves_what_is_stale_and_held_elsewhere() {
    each(|setup| {
        let _watch = watch();
        let (region, locks) = locking(setup);
        region.set_multi(&[("a", 1), ("b", 2)]);
        region.pass(FRESH);
        locks.taken_elsewhere("a");
        let made = region.make_many(&["a", "b"], |asked| {
            assert_eq!(asked, ["b"]);
            vec![20]
        });
        assert_eq!(made, [1, 20]);
        locks.released_elsewhere("a");
        assert!(locks.are_free());
        assert!(!region.key_is_locked("a"));
    });
}

/// dogpile.cache runs the creator without the lock then, and fails when it gives it back.
#[test]
fn a_wait_for_it_that_runs_out() {
    each(|setup| {
        let _watch = watch();
        let locks = Locks::default();
        let policy = RegionPolicy::builder().wait(Duration::from_millis(5)).build().unwrap();
        let proxy = locks.clone();
        let region = setup.build(|builder| builder.policy(policy).wrap(proxy));
        locks.taken_elsewhere("key");
        assert_eq!(region.try_make("key", || unreachable!()), Err(CreateError::TimedOut));
        assert_eq!(region.make("key", || 7), 7, "for itself");
        assert_eq!(region.get("key"), None, "not stored");
        assert_eq!(region.try_make_many(&["key", "b"], |_| unreachable!()), Err(CreateError::TimedOut));
        let (taken, given_back) = locks.turns();
        assert_eq!(taken, given_back);
        locks.released_elsewhere("key");
        assert!(locks.are_free());
        assert_eq!(region.make("key", || 8), 8);
    });
}

#[test]
fn a_lock_that_can_not_be_asked() {
    each(|setup| {
        let (region, locks) = locking(setup);
        locks.0.fails.store(true, SeqCst);
        assert_eq!(region.make("key", || 1), 1, "the lock of the process will do");
        assert_eq!(region.make_many(&["a", "b"], |_| vec![2, 3]), [2, 3]);
        assert!(region.stats().backend_errors >= 3);
        assert_eq!(region.get_multi(&["key", "a", "b"]), [Some(1), Some(2), Some(3)]);

        let strict = Locks::default();
        let proxy = strict.clone();
        let region = setup.build(|builder| builder.on_backend_error(OnBackendError::Fail).wrap(proxy));
        strict.0.fails.store(true, SeqCst);
        match region.try_make("key", || unreachable!()) {
            Err(CreateError::Backend(error)) => assert_eq!(error.kind(), ErrorKind::Unavailable),
            other => panic!("{other:?}"),
        }
        strict.0.fails.store(false, SeqCst);
        assert_eq!(region.make("key", || 2), 2, "nothing is locked");
    });
}

/// In dogpile.cache its caller gets an error although the value was made and stored.
#[test]
fn a_lock_that_can_not_be_given_back_is_nobodys_error() {
    each(|setup| {
        let (region, locks) = locking(setup);
        locks.0.release_fails.store(true, SeqCst);
        assert_eq!(region.try_make("key", || Ok(1)), Ok(1));
        assert_eq!(region.get("key"), Some(1));
    });
}

#[test]
fn it_is_given_back_after_errors_and_panics() {
    each(|setup| {
        let (region, locks) = locking(setup);
        region.try_make("key", || Err("no")).unwrap_err();
        assert_eq!(panics(|| region.make("key", || panic!("gone"))), "gone");
        region.try_make_many(&["a", "b"], |_| Err("no")).unwrap_err();
        assert_eq!(panics(|| region.make_many(&["a", "b"], |_| panic!("gone"))), "gone");
        region.try_make_many(&["a", "b"], |_| Ok(vec![1])).unwrap_err();
        until("all are given back", || locks.are_free());
        let (taken, given_back) = locks.turns();
        assert_eq!((taken, given_back), (8, 8));
    });
}

/// A task that is dropped while it leads.
#[test]
fn it_is_given_back_when_a_task_is_dropped() {
    each(|setup| {
        let (region, locks) = locking(setup);
        let creator = std::future::pending::<u32>();
        let leader = std::cell::RefCell::new(Polled::new(region.tasks.get_or_create("key", creator)));
        until("it has the store's lock", || {
            assert!(leader.borrow_mut().poll().is_none());
            !locks.are_free()
        });
        drop(leader);
        until("it is given back", || locks.are_free());
        assert_eq!(region.make("key", || 1), 1);
    });
}

#[test]
fn key_is_locked_asks_the_store() {
    each(|setup| {
        let (region, locks) = locking(setup);
        assert!(!region.key_is_locked("key"));
        locks.taken_elsewhere("key");
        assert!(region.key_is_locked("key"));
        locks.released_elsewhere("key");
        assert!(!region.key_is_locked("key"));
        assert_eq!(locks.turns().0, 0);
    });
}

/// A throttle, as dogpile.cache allows: one at a time, whatever the key. It knows its owner by the thread.
#[test]
fn one_mutex_for_several_keys() {
    each(|setup| {
        if setup.by_tasks {
            return;
        }
        let _watch = watch();
        let locks = Locks::one_for_all();
        let proxy = locks.clone();
        let region = setup.build(|builder| builder.policy(fresh()).wrap(proxy));
        // A batch takes it for all of its keys, a creator within a creator for one more.
        assert_eq!(region.make_many(&["a", "b", "c"], |_| vec![1, 2, 3]), [1, 2, 3]);
        assert_eq!(region.make("d", || region.make("e", || 1) + 1), 2);
        assert!(locks.are_free());
        // Others wait for it.
        let (now, highest) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for i in 0..6_u32 {
                let (region, now, highest) = (&region, &now, &highest);
                scope.spawn(move || {
                    region.make(&format!("own {i}"), || {
                        highest.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                        thread::yield_now();
                        now.fetch_sub(1, SeqCst);
                        i
                    })
                });
            }
        });
        assert_eq!(highest.into_inner(), 1);
        assert!(locks.are_free());
    });
}

/// What is served as stale does not wait for a throttle that others have.
#[test]
fn stale_values_do_not_wait_for_one_mutex_for_several_keys() {
    each(|setup| {
        // It knows its owner by the thread.
        if setup.by_tasks {
            return;
        }
        let _watch = watch();
        let locks = Locks::one_for_all();
        let proxy = locks.clone();
        let region = setup.build(|builder| builder.policy(fresh()).wrap(proxy));
        region.set("stale", 1_u32);
        region.pass(FRESH);
        let hold = Hold::default();
        thread::scope(|scope| {
            let _release = Release(&hold);
            let leader = scope.spawn(|| {
                region.make("key", || {
                    hold.here();
                    2
                })
            });
            hold.begun();
            assert_eq!(region.make("stale", || unreachable!()), 1);
            hold.go();
            assert_eq!(leader.join().unwrap(), 2);
        });
    });
}

/// A proxy may bring a lock, or take one away.
#[test]
fn a_proxy_takes_the_lock_away() {
    struct Without;
    impl Proxy for Without {
        fn mutex(&self, _next: &dyn Backend, _key: &str) -> Option<Box<dyn CacheMutex>> {
            None
        }
    }
    each(|setup| {
        let locks = Locks::default();
        let proxy = locks.clone();
        let region = setup.build(|builder| builder.wrap(Without).wrap(proxy));
        // The first listed is the outermost.
        locks.taken_elsewhere("key");
        assert_eq!(region.make("key", || 1), 1);
        assert_eq!(locks.turns(), (0, 0));
    });
}

/// What is written while the store's lock is waited for is seen, and wins.
#[test]
fn a_write_while_the_lock_is_waited_for() {
    each(|setup| {
        let _watch = watch();
        let (region, locks) = locking(setup);
        locks.taken_elsewhere("key");
        thread::scope(|scope| {
            let waiter = scope.spawn(|| region.make("key", || unreachable!("it was set")));
            locks.somebody_waits();
            region.set("key", 7_u32);
            locks.released_elsewhere("key");
            assert_eq!(waiter.join().unwrap(), 7);
        });
        assert_eq!(region.get("key"), Some(7));
        until("it is given back", || locks.are_free());
    });
}
