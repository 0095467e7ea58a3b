//! Stores whose locks have fences, and tell what the key had: what another process does between our look, our lock and our
//! write.

use super::{FRESH, fresh};
use crate::common::{Door, Hold, until, watch};
use dogpile::backend::{
    AsyncBackend, AsyncCacheMutex, Backend, BoxFuture, CacheMutex, Fence, MemoryBackend, Put, Stored, Takes,
};
use dogpile::{AsyncRegion, Error, Freshness, Region, RegionPolicy};
use std::future::ready;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A store as several processes share it. Each write raises a number, and a lock's fence is the number when it was taken.
#[derive(Clone)]
struct Shared(Arc<Inside>);

struct Inside {
    memory: MemoryBackend,
    number: AtomicU64,
    is_held: AtomicBool,
    reads: AtomicUsize,
    /// Whether the lock tells what the key had.
    tells: bool,
    /// Done once, when a lock is asked for.
    before_lock: Mutex<Option<Box<dyn FnOnce(&Shared) + Send>>>,
}

impl Shared {
    fn new(tells: bool) -> Self {
        Self(Arc::new(Inside {
            memory: MemoryBackend::builder().serialized(true).build().unwrap(),
            number: AtomicU64::new(0),
            is_held: AtomicBool::new(false),
            reads: AtomicUsize::new(0),
            tells,
            before_lock: Mutex::new(None),
        }))
    }

    fn raise(&self) {
        self.0.number.fetch_add(1, SeqCst);
    }

    /// Another process.
    fn elsewhere(&self) -> Region {
        Region::builder().backend(self.clone()).policy(fresh()).build().unwrap()
    }

    fn when_locked(&self, then: impl FnOnce(&Region) + Send + 'static) {
        let call = move |shared: &Self| then(&shared.elsewhere());
        *self.0.before_lock.lock().unwrap() = Some(Box::new(call));
    }
}

impl Backend for Shared {
    fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
        self.0.reads.fetch_add(1, SeqCst);
        Backend::get(&self.0.memory, key)
    }
    fn set(&self, put: Put<'_>) -> Result<(), Error> {
        self.raise();
        Backend::set(&self.0.memory, put)
    }
    fn delete(&self, key: &str) -> Result<bool, Error> {
        self.raise();
        Backend::delete(&self.0.memory, key)
    }
    fn set_unless(
        &self,
        puts: &[Put<'_>],
        _keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
    ) -> Option<Result<Vec<bool>, Error>> {
        let number = self.0.number.load(SeqCst);
        let put = |put: &Put<'_>| {
            let fence =
                put.fence.and_then(Fence::get::<u64>).expect("what is made is written with its fence");
            let is_put = *fence == number;
            if is_put {
                Backend::set(&self.0.memory, *put)?;
            }
            Ok(is_put)
        };
        Some(puts.iter().map(put).collect())
    }
    fn mutex(&self, key: &str) -> Option<Box<dyn CacheMutex>> {
        Some(Box::new(Lock { shared: self.clone(), key: key.to_owned(), at: AtomicU64::new(0) }))
    }
    fn takes(&self) -> Takes {
        Takes::Bytes
    }
    fn blocks(&self) -> bool {
        false
    }
}

struct Lock {
    shared: Shared,
    key: String,
    at: AtomicU64,
}

impl CacheMutex for Lock {
    fn acquire(&self, _wait: Duration) -> Result<bool, Error> {
        let before = self.shared.0.before_lock.lock().unwrap().take();
        if let Some(before) = before {
            before(&self.shared);
        }
        self.at.store(self.shared.0.number.load(SeqCst), SeqCst);
        Ok(!self.shared.0.is_held.swap(true, SeqCst))
    }
    fn release(&self) -> Result<(), Error> {
        assert!(self.shared.0.is_held.swap(false, SeqCst), "given back twice");
        Ok(())
    }
    fn fence(&self) -> Option<Fence> {
        Some(Fence::new(self.at.load(SeqCst)))
    }
    fn found(&self) -> Option<Option<Stored>> {
        self.shared.0.tells.then(|| Backend::get(&self.shared.0.memory, &self.key).unwrap())
    }
}

/// The same for tasks.
impl AsyncCacheMutex for Lock {
    fn acquire(&self, wait: Duration) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(ready(CacheMutex::acquire(self, wait)))
    }
    fn release(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(ready(CacheMutex::release(self)))
    }
    fn fence(&self) -> Option<Fence> {
        CacheMutex::fence(self)
    }
    fn found(&self) -> Option<Option<Stored>> {
        CacheMutex::found(self)
    }
}

impl AsyncBackend for Shared {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, Error>> {
        Box::pin(ready(Backend::get(self, key)))
    }
    fn set<'a>(&'a self, put: Put<'a>) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(ready(Backend::set(self, put)))
    }
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(ready(Backend::delete(self, key)))
    }
    fn set_unless<'a>(
        &'a self,
        puts: &'a [Put<'a>],
        keeps: &'a (dyn Fn(usize, Option<&Stored>) -> bool + Send + Sync),
    ) -> BoxFuture<'a, Option<Result<Vec<bool>, Error>>> {
        Box::pin(ready(Backend::set_unless(self, puts, &keeps)))
    }
    fn mutex(&self, key: &str) -> Option<Box<dyn AsyncCacheMutex>> {
        Some(Box::new(Lock { shared: self.clone(), key: key.to_owned(), at: AtomicU64::new(0) }))
    }
    fn takes(&self) -> Takes {
        Takes::Bytes
    }
}

/// Our process, by threads, by tasks, and by tasks over the blocking store.
enum Ours {
    Threads(Region),
    Tasks(AsyncRegion),
}

impl Ours {
    fn make(&self, key: &str, creator: impl FnOnce() -> i32 + Send) -> i32 {
        match self {
            Self::Threads(region) => *region.get_or_create(key, creator).unwrap(),
            Self::Tasks(region) => {
                *pollster::block_on(region.get_or_create(key, async { creator() })).unwrap()
            }
        }
    }

    fn make_many(&self, keys: &[&str], mut creator: impl FnMut(&[&str]) -> Vec<i32> + Send) -> Vec<i32> {
        let made = match self {
            Self::Threads(region) => region.get_or_create_multi(keys, creator),
            Self::Tasks(region) => pollster::block_on(
                region.get_or_create_multi(keys, |keys| std::future::ready(creator(&keys))),
            ),
        };
        made.unwrap().into_iter().map(|value| *value).collect()
    }

    fn refused(&self) -> u64 {
        match self {
            Self::Threads(region) => region.stats().refused_late_writes,
            Self::Tasks(region) => region.stats().refused_late_writes,
        }
    }
}

fn each(test: impl Fn(&Ours, &Shared)) {
    let _watch = watch();
    for tells in [true, false] {
        for by in 0..3 {
            let shared = Shared::new(tells);
            let builder = || Region::builder().policy(policy());
            let ours = match by {
                0 => Ours::Threads(builder().backend(shared.clone()).build().unwrap()),
                1 => Ours::Tasks(builder().async_backend(shared.clone()).build_async().unwrap()),
                _ => Ours::Tasks(builder().backend(shared.clone()).build_async().unwrap()),
            };
            test(&ours, &shared);
            assert!(!shared.0.is_held.load(SeqCst), "the lock is free");
        }
    }
}

fn policy() -> RegionPolicy {
    RegionPolicy::builder().fresh(FRESH).build().unwrap()
}

/// Another process made it after we had looked, and before we had the lock: nothing is made twice.
#[test]
fn what_was_made_before_the_lock_is_not_made_again() {
    each(|ours, shared| {
        shared.when_locked(|other| {
            other.set("key", 1).unwrap();
        });
        assert_eq!(ours.make("key", || unreachable!()), 1);
    });
}

#[test]
fn a_look_by_the_lock_is_no_read_more() {
    each(|ours, shared| {
        assert_eq!(ours.make("key", || 1), 1);
        let reads = shared.0.reads.swap(0, SeqCst);
        assert_eq!(reads, if shared.0.tells { 1 } else { 2 });
    });
}

/// Another process writes or deletes while we make it: the caller has its value, the store the newer state.
#[test]
fn newer_state_stays() {
    each(|ours, shared| {
        let other = shared.elsewhere();
        assert_eq!(
            ours.make("key", || {
                other.set("key", 2).unwrap();
                1
            }),
            1
        );
        assert_eq!(other.get::<i32>("key").unwrap().as_deref(), Some(&2));
        assert_eq!(ours.refused(), 1);
        assert_eq!(
            ours.make("gone", || {
                other.delete("gone").unwrap();
                1
            }),
            1
        );
        assert_eq!(other.get::<i32>("gone").unwrap(), None);
        assert_eq!(ours.refused(), 2);
        assert_eq!(ours.make("gone", || 3), 3);
        assert_eq!(other.get::<i32>("gone").unwrap().as_deref(), Some(&3));
    });
}

/// In a batch each key is for itself.
#[test]
fn a_batch_makes_what_nobody_made_before() {
    each(|ours, shared| {
        // One lock at a time is all that this store can tell: a batch of one, with another key found.
        shared.elsewhere().set("there", 1).unwrap();
        let other = shared.elsewhere();
        let made = ours.make_many(&["there", "key"], |keys| {
            assert_eq!(keys, ["key"]);
            other.set("key", 3).unwrap();
            vec![2]
        });
        assert_eq!((made, ours.refused()), (vec![1, 2], 1));
        assert_eq!(shared.elsewhere().get::<i32>("key").unwrap().as_deref(), Some(&3));
        shared.when_locked(|other| {
            other.set("late", 4).unwrap();
        });
        assert_eq!(ours.make_many(&["late"], |_| unreachable!()), [4]);
    });
}

/// A stale value, made by another process before we have the lock: that one.
#[test]
fn what_was_refreshed_before_the_lock_is_not_made_again() {
    let _watch = watch();
    let clock = dogpile::time::ManualClock::new();
    let shared = Shared::new(true);
    let region = || Region::builder().backend(shared.clone()).clock(clock.clone()).policy(policy());
    let (ours, other) = (region().build().unwrap(), region().build().unwrap());
    ours.set("key", 1).unwrap();
    clock.advance(FRESH);
    *shared.0.before_lock.lock().unwrap() = Some(Box::new(move |_| {
        other.set("key", 2).unwrap();
    }));
    assert_eq!(*ours.get_or_create::<i32>("key", || unreachable!()).unwrap(), 2);
    // And what is due early is there before and after: it is made.
    clock.advance(FRESH / 2);
    let early = RegionPolicy::builder().fresh(FRESH).early(dogpile::Early::Fraction(0.1)).build().unwrap();
    assert_eq!(*ours.with(&early).get_or_create("key", || 3).unwrap(), 3);
}

/// Another process makes it. Who leads here takes the stale value; who waited for that one, and wants a fresh value, waits on.
#[test]
fn a_leaders_stale_value_is_not_for_who_wants_a_fresh_one() {
    let _watch = watch();
    let clock = dogpile::time::ManualClock::new();
    let shared = Shared::new(true);
    let region = Region::builder().backend(shared.clone()).clock(clock.clone()).policy(policy()).build();
    let region = region.unwrap();
    region.set("key", 1).unwrap();
    clock.advance(FRESH);
    shared.0.is_held.store(true, SeqCst);
    let (here, on) = (Arc::new(Door::default()), Arc::new(Door::default()));
    let (at_lock, go_on) = (Arc::clone(&here), Arc::clone(&on));
    *shared.0.before_lock.lock().unwrap() = Some(Box::new(move |shared| {
        at_lock.open();
        go_on.wait();
        // For who comes next, the other process is done.
        *shared.0.before_lock.lock().unwrap() =
            Some(Box::new(|shared| shared.0.is_held.store(false, SeqCst)));
    }));
    let wants_fresh = RegionPolicy::builder().fresh(FRESH).freshness(Freshness::WaitFresh).build().unwrap();
    std::thread::scope(|scope| {
        let leads = scope.spawn(|| *region.get_or_create("key", || 2).unwrap());
        here.wait();
        let waits = scope.spawn(|| *region.with(&wants_fresh).get_or_create("key", || 3).unwrap());
        until("it waits for the leader", || region.stats().waits == 1);
        on.open();
        assert_eq!((leads.join().unwrap(), waits.join().unwrap()), (1, 3));
    });
}

/// Its process's own gate stands before it: the lock is taken once.
#[test]
fn callers_of_one_process_come_to_it_once() {
    let _watch = watch();
    let shared = Shared::new(true);
    let region = shared.elsewhere();
    let lead = |hold: &Hold| {
        *region
            .get_or_create("key", || {
                hold.here();
                1
            })
            .unwrap()
    };
    let other = |_| *region.get_or_create::<i32>("key", || unreachable!()).unwrap();
    let (led, others) = crate::common::crowd(|| region.stats().waits, lead, 3, other, || {});
    assert_eq!(led.unwrap(), 1);
    assert!(others.into_iter().all(|other| other.unwrap() == 1));
}
