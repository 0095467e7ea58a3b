//! What a hostile reader found in shared stores: each is the interleaving, the input or the dying server that broke a promise.
//! Servers are real ones (`apt-get install redis-server memcached`).

mod common;
mod servers;

use common::{Door, ends, until, watch};
use dogpile::backend::{
    Backend, Breaker, CacheMutex, Fence, FileBackend, MemcachedBackend, MemoryBackend, Put, RedisBackend,
    Store, Stored, Takes, TieredBackend,
};
use dogpile::region::{How, Scope, SetOptions, SharedInvalidation};
use dogpile::time::ManualClock;
use dogpile::{AsyncRegion, Error, ErrorKind, Region, RegionPolicy};
use servers::memcached::Memcached;
use servers::{Folder, Redis};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// What happens at a place, once.
#[derive(Clone, Default)]
struct Hook(Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>);

impl Hook {
    fn set(&self, what: impl FnOnce() + Send + 'static) {
        *self.0.lock().unwrap() = Some(Box::new(what));
    }
    fn run(&self) {
        let what = self.0.lock().unwrap().take();
        if let Some(what) = what {
            what();
        }
    }
}

/// Files, with something in between.
#[derive(Clone)]
struct Hooked {
    inner: FileBackend,
    after_look: Hook,
    at_acquire: Hook,
    at_release: Hook,
    /// The lock of this key fails.
    broken: Option<&'static str>,
}

impl Hooked {
    fn over(inner: FileBackend) -> Self {
        let hook = Hook::default;
        Self { inner, after_look: hook(), at_acquire: hook(), at_release: hook(), broken: None }
    }
}

impl Backend for Hooked {
    fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
        let found = self.inner.get(key);
        self.after_look.run();
        found
    }
    fn set(&self, put: Put<'_>) -> Result<(), Error> {
        self.inner.set(put)
    }
    fn delete(&self, key: &str) -> Result<bool, Error> {
        self.inner.delete(key)
    }
    fn set_unless(
        &self,
        puts: &[Put<'_>],
        keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
    ) -> Option<Result<Vec<bool>, Error>> {
        let done = self.inner.set_unless(puts, keeps);
        self.after_look.run();
        done
    }
    fn mutex(&self, key: &str) -> Option<Box<dyn CacheMutex>> {
        if self.broken == Some(key) {
            return Some(Box::new(Broken));
        }
        Some(Box::new(HookedLock { inner: self.inner.mutex(key)?, of: self.clone() }))
    }
    fn takes(&self) -> Takes {
        Takes::Bytes
    }
}

struct HookedLock {
    inner: Box<dyn CacheMutex>,
    of: Hooked,
}

impl CacheMutex for HookedLock {
    fn acquire(&self, wait: Duration) -> Result<bool, Error> {
        self.of.at_acquire.run();
        self.inner.acquire(wait)
    }
    fn release(&self) -> Result<(), Error> {
        self.of.at_release.run();
        self.inner.release()
    }
    fn fence(&self) -> Option<Fence> {
        self.inner.fence()
    }
    fn found(&self) -> Option<Option<Stored>> {
        self.inner.found()
    }
}

/// A lock that can't be asked.
struct Broken;

impl CacheMutex for Broken {
    fn acquire(&self, _wait: Duration) -> Result<bool, Error> {
        Err(Error::new(ErrorKind::Unavailable, "lock"))
    }
    fn release(&self) -> Result<(), Error> {
        Ok(())
    }
}

fn files(folder: &Folder) -> FileBackend {
    FileBackend::open(folder.path()).unwrap()
}

fn region(backend: impl Backend + 'static) -> Region {
    Region::builder().backend(backend).build().unwrap()
}

fn tasks(backend: impl Backend + 'static) -> AsyncRegion {
    Region::builder().backend(backend).build_async().unwrap()
}

/// A store of threads has one step for "unless somebody has it", and tasks that use it must have it, too.
#[test]
fn who_puts_in_what_is_absent_by_tasks_is_one() {
    let _watch = watch();
    let folder = Folder::new();
    let (hooked, other) = (Hooked::over(files(&folder)), Arc::new(region(files(&folder))));
    hooked.after_look.set({
        let other = Arc::clone(&other);
        move || assert!(other.set_with("key", 1, SetOptions::new().if_absent()).unwrap())
    });
    let region = tasks(hooked);
    let is_put = pollster::block_on(region.set_with("key", 2, SetOptions::new().if_absent())).unwrap();
    assert!(!is_put, "another process was first, and was told so");
    assert_eq!(*other.get::<i32>("key").unwrap().unwrap(), 1);
}

/// The lock of one of two keys can't be asked: what another process writes meanwhile stays, under the fence and without it.
#[test]
fn what_is_newer_stays_when_one_lock_of_a_batch_fails() {
    let _watch = watch();
    let folder = Folder::new();
    let other = region(files(&folder));
    for keys in [vec!["fenced", "broken"], vec!["broken"]] {
        let hooked = Hooked { broken: Some("broken"), ..Hooked::over(files(&folder)) };
        let region = tasks(hooked);
        for key in &keys {
            other.delete(key).unwrap();
        }
        let made = pollster::block_on(region.get_or_create_multi(&keys, |missing: Vec<&str>| {
            // Another process, which has read what this one can't know.
            missing.iter().for_each(|key| other.set(key, 2).unwrap());
            let made = vec![1; missing.len()];
            async move { made }
        }));
        assert!(made.unwrap().iter().all(|value| **value == 1), "made for its callers");
        for key in keys {
            assert_eq!(*other.get::<i32>(key).unwrap().unwrap(), 2, "{key}: what is newer stays");
        }
    }
}

/// Whoever asks after an invalidation has nothing from before it: not the stale value either, that a leader was about to return
/// because another process makes a new one.
#[test]
fn a_stale_value_is_not_served_after_its_invalidation() {
    let _watch = watch();
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let files = || FileBackend::builder(folder.path()).clock(clock.clone()).build().unwrap();
    let hooked = Hooked::over(files());
    let policy = RegionPolicy::builder().fresh(SECOND).stale(1000 * SECOND).build().unwrap();
    let region = Region::builder().backend(hooked.clone()).policy(policy).clock(clock.clone());
    let region = Arc::new(region.build().unwrap());
    region.set("key", 1).unwrap();
    clock.advance(2 * SECOND);
    let elsewhere = files();
    let held = Backend::mutex(&elsewhere, "key").unwrap();
    assert!(held.acquire(Duration::ZERO).unwrap());
    let late = Arc::new(Mutex::new(None));
    hooked.at_acquire.set({
        let (region, late) = (Arc::clone(&region), Arc::clone(&late));
        move || {
            region.invalidate(Scope::Region, How::Hard).unwrap();
            let of = Arc::clone(&region);
            *late.lock().unwrap() = Some(thread::spawn(move || *of.get_or_create("key", || 3).unwrap()));
            until("it waits", || region.stats().waits == 1);
        }
    });
    let leader = thread::spawn({
        let region = Arc::clone(&region);
        move || *region.get_or_create("key", || 2).unwrap()
    });
    until("both are there", || late.lock().unwrap().is_some() && region.stats().waits == 1);
    held.release().unwrap();
    leader.join().unwrap();
    let late = late.lock().unwrap().take().unwrap();
    assert_ne!(late.join().unwrap(), 1, "it came after the invalidation");
}

/// The same of a value that another process has made, and that a leader finds under the lock.
#[test]
fn a_value_found_under_the_lock_is_not_served_after_its_invalidation() {
    let _watch = watch();
    let folder = Folder::new();
    let hooked = Hooked::over(files(&folder));
    let one = Arc::new(region(hooked.clone()));
    let other = region(files(&folder));
    // Made between the look and the lock.
    hooked.at_acquire.set(move || other.set("key", 1).unwrap());
    let late = Arc::new(Mutex::new(None));
    hooked.at_release.set({
        let (region, late, hooked) = (Arc::clone(&one), Arc::clone(&late), hooked.clone());
        move || {
            region.invalidate(Scope::Region, How::Hard).unwrap();
            let leads = Arc::new(AtomicBool::new(false));
            hooked.at_acquire.set({
                let leads = Arc::clone(&leads);
                move || leads.store(true, SeqCst)
            });
            let of = Arc::clone(&region);
            *late.lock().unwrap() = Some(thread::spawn(move || *of.get_or_create("key", || 3).unwrap()));
            until("it waits, or leads", || region.stats().waits == 1 || leads.load(SeqCst));
        }
    });
    assert_eq!(*one.get_or_create("key", || 2).unwrap(), 1, "another process was first");
    let late = late.lock().unwrap().take().unwrap();
    assert_eq!(late.join().unwrap(), 3, "it came after the invalidation");
}

/// A server that was stopped for a moment grants a lock to somebody who has given up since: nobody has it, so nobody is to wait
/// for its lease.
#[test]
fn a_lock_that_memcached_granted_too_late_is_given_back() {
    let _watch = watch();
    let server = Memcached::start();
    let open =
        |timeout| MemcachedBackend::builder().server(server.address()).timeout(timeout).build().unwrap();
    let (impatient, other) = (open(SECOND / 10), open(SECOND));
    Backend::get(&impatient, "connected").unwrap();
    server.pause();
    let lock = Backend::mutex(&impatient, "key").unwrap();
    assert_eq!(lock.acquire(Duration::ZERO).unwrap_err().kind(), ErrorKind::Timeout);
    server.resume();
    // It comes to what it was asked before.
    servers::pass(SECOND / 5);
    let next = Backend::mutex(&other, "key").unwrap();
    assert!(next.acquire(5 * SECOND).unwrap(), "nobody has it, and the lease is 30 s");
}

/// The same of one whose holder could not tell that it gives it back.
#[test]
fn a_lock_that_a_stopped_memcached_was_not_given_is_given_back_later() {
    let _watch = watch();
    let server = Memcached::start();
    let open =
        |timeout| MemcachedBackend::builder().server(server.address()).timeout(timeout).build().unwrap();
    let (impatient, other) = (open(SECOND / 10), open(SECOND));
    for by_drop in [false, true] {
        let lock = Backend::mutex(&impatient, "key").unwrap();
        assert!(lock.acquire(Duration::ZERO).unwrap());
        server.pause();
        if by_drop {
            drop(lock);
            servers::pass(SECOND / 2);
        } else {
            lock.release().unwrap_err();
        }
        server.resume();
        let next = Backend::mutex(&other, "key").unwrap();
        assert!(next.acquire(5 * SECOND).unwrap(), "nobody has it, and the lease is 30 s");
        next.release().unwrap();
    }
}

/// What ends, ends in memory, too.
#[test]
fn the_near_tier_keeps_nothing_beyond_its_time() {
    let clock = ManualClock::new();
    clock.advance(SECOND);
    let far = MemoryBackend::builder().serialized(true).clock(clock.clone()).build().unwrap();
    let tiers = TieredBackend::builder(Store::both(far)).clock(clock.clone()).near_ttl(30 * SECOND);
    let tiers = tiers.build().unwrap();
    let value = Stored::from(b"value".as_slice());
    Backend::set(&tiers, Put::new("key", &value).ttl(Some(SECOND))).unwrap();
    assert!(Backend::get(&tiers, "key").unwrap().is_some());
    clock.advance(2 * SECOND);
    assert!(Backend::get(&tiers, "key").unwrap().is_none(), "it had a second to live");
}

/// A server that has begun anew numbers its messages otherwise than before: else a listener could take the first of them for
/// those that it knows.
#[test]
fn the_messages_of_a_new_server_have_new_numbers() {
    let mut server = Redis::start();
    let backend = RedisBackend::builder("127.0.0.1", server.port()).build().unwrap();
    let bus = Backend::bus(&backend).unwrap();
    let before = bus.publish("topic", b"message").unwrap();
    assert_eq!(bus.publish("topic", b"message").unwrap(), before + 1);
    server.restart();
    assert!(bus.publish("topic", b"message").unwrap() > before + 1);
}

/// The time that a backend gives to entries which have none is not one for invalidations.
#[test]
fn shared_invalidations_stay() {
    let server = Redis::start();
    let backend = RedisBackend::builder("127.0.0.1", server.port()).ttl(Some(60 * SECOND)).build().unwrap();
    let shared = SharedInvalidation::over(Store::both(backend.clone()), "notes").unwrap();
    let region = Region::builder().backend(backend).invalidation(shared).build().unwrap();
    region.invalidate(Scope::Tag("tag"), How::Hard).unwrap();
    for key in ["dogpile:notes:notes", "dogpile:notes-number:notes"] {
        let left: i64 = server.ask(&["PTTL", key]).parse().unwrap();
        assert!(left == -1 || left > 1_000_000_000, "{key} ends in {left} ms: entries may live longer");
    }
}

/// A lock whose key is another application's by now can't be given back: the server is not asked for ever.
#[test]
fn a_lock_that_can_not_be_given_back_is_left_to_its_lease() {
    let server = Redis::start();
    let builder = RedisBackend::builder("127.0.0.1", server.port()).lease(3 * SECOND / 10);
    let backend = builder.build().unwrap();
    let lock = Backend::mutex(&backend, "key").unwrap();
    assert!(lock.acquire(Duration::ZERO).unwrap());
    server.ask(&["SET", "key", "another's"]);
    lock.release().unwrap_err();
    drop(lock);
    let scripts = || {
        let told = server.ask(&["INFO", "commandstats"]);
        let line = told.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap().to_owned();
        line.split(['=', ',']).nth(1).unwrap().parse::<u64>().unwrap()
    };
    servers::pass(2 * SECOND);
    let before = scripts();
    servers::pass(SECOND);
    assert_eq!(scripts(), before, "it is asked again and again");
}

/// A child of a fork has connections of its own: replies on the parent's would reach whoever reads first.
#[test]
fn a_forked_child_does_not_use_its_parents_connections() {
    let (redis, memcached) = (Redis::start(), Memcached::start());
    let one = RedisBackend::builder("127.0.0.1", redis.port()).build().unwrap();
    let other = MemcachedBackend::builder().server(memcached.address()).build().unwrap();
    let received = || {
        let told = redis.ask(&["INFO", "stats"]);
        let line = told.lines().find_map(|line| line.strip_prefix("total_connections_received:")).unwrap();
        (line.trim().parse::<u64>().unwrap(), memcached.statistic("total_connections"))
    };
    let get = || Backend::get(&one, "key").is_ok() && Backend::get(&other, "key").is_ok();
    assert!(get());
    let before = received();
    // SAFETY: the child uses nothing that another thread may have locked, and ends without unwinding.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = i32::from(!get());
        // SAFETY: it ends the process.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: the child is this process's own, and `status` is a place to write to.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child was answered");
    let after = received();
    // Each question of the test's own is a connection, too.
    assert_eq!(after, (before.0 + 2, before.1 + 2), "(Redis, memcached)");
    assert!(get(), "the parent's are as they were");
}

/// A store of threads whose locks are others', until the door opens.
struct Elsewhere(MemoryBackend, Arc<Door>, Arc<AtomicUsize>);

impl Backend for Elsewhere {
    fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
        Backend::get(&self.0, key)
    }
    fn set(&self, put: Put<'_>) -> Result<(), Error> {
        Backend::set(&self.0, put)
    }
    fn delete(&self, key: &str) -> Result<bool, Error> {
        Backend::delete(&self.0, key)
    }
    fn mutex(&self, _key: &str) -> Option<Box<dyn CacheMutex>> {
        Some(Box::new(HeldElsewhere(Arc::clone(&self.1), Arc::clone(&self.2))))
    }
    fn takes(&self) -> Takes {
        Takes::Bytes
    }
}

struct HeldElsewhere(Arc<Door>, Arc<AtomicUsize>);

impl CacheMutex for HeldElsewhere {
    fn acquire(&self, wait: Duration) -> Result<bool, Error> {
        let begun = servers::Timer::start();
        self.1.fetch_add(usize::from(!wait.is_zero()), SeqCst);
        while !self.0.is_open() && begun.elapsed() < wait {
            thread::park_timeout(SECOND / 100);
        }
        Ok(self.0.is_open())
    }
    fn release(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// However many tasks wait for locks that other processes hold: the others can ask the store.
#[test]
fn tasks_that_wait_for_locks_leave_threads_to_others() {
    const MANY: usize = 600;
    let _watch = watch();
    let door = Arc::new(Door::default());
    let memory = MemoryBackend::builder().serialized(true).build().unwrap();
    let waits = Arc::new(AtomicUsize::new(0));
    let region = Arc::new(tasks(Elsewhere(memory, Arc::clone(&door), Arc::clone(&waits))));
    pollster::block_on(region.set("there", 7)).unwrap();
    let waiting: Vec<_> = (0..MANY)
        .map(|i| {
            let region = Arc::clone(&region);
            smol::spawn(async move { *region.get_or_create(&i.to_string(), async { 1 }).await.unwrap() })
        })
        .collect();
    until("all have come to the lock", || region.stats().leads == MANY as u64);
    // So many threads there are for what blocks, where nobody has said otherwise.
    let begun = servers::Timer::start();
    until("all threads wait", || waits.load(SeqCst) >= 500 || begun.elapsed() > 2 * SECOND);
    let begun = servers::Timer::start();
    assert_eq!(*pollster::block_on(region.get::<i32>("there")).unwrap().unwrap(), 7);
    let took = begun.elapsed();
    door.open();
    assert!(waiting.into_iter().all(|task| pollster::block_on(task) == 1));
    assert!(took < 5 * SECOND, "a read of what is there took {took:?}");
}

/// What asks a store nothing is no answer of its: a breaker opens for tasks, too, whose conditional writes begin with nothing.
#[test]
fn a_breaker_opens_for_tasks() {
    let _watch = watch();
    let mut server = Memcached::start();
    let url = format!("memcached://{}?breaker=5&cooldown=1h", server.address());
    let breaker = Breaker::new(5, 3600 * SECOND);
    let backend = MemcachedBackend::builder().server(server.address()).timeout(SECOND / 10).build().unwrap();
    let region = Region::builder().backend(backend).wrap(breaker.clone()).build_async().unwrap();
    let by_url = AsyncRegion::from_url(&url).unwrap();
    let make = |region: &AsyncRegion, key: &str| {
        assert_eq!(*pollster::block_on(region.get_or_create(key, async { 1 })).unwrap(), 1);
    };
    make(&region, "before");
    make(&by_url, "before");
    server.kill();
    for key in ["one", "two", "three", "four", "five"] {
        make(&region, key);
        make(&by_url, key);
    }
    assert!(breaker.is_open(), "the store has failed four times for each of five creations");
    let errors = || by_url.stats().backend_errors;
    let before = errors();
    server.restart();
    make(&by_url, "six");
    assert_eq!(errors() - before, 3, "it is not asked for an hour: read, lock, write");
}

/// Notes are read from the store that all processes share, and not from the memory before it.
#[test]
fn tiers_do_not_hide_shared_invalidations() {
    let _watch = watch();
    let far = MemoryBackend::builder().serialized(true).build().unwrap();
    let process = || {
        let tiers = TieredBackend::builder(Store::both(far.clone())).near_ttl(3600 * SECOND).build().unwrap();
        let refresh = (SECOND / 100, Duration::ZERO);
        let shared =
            SharedInvalidation::with(Store::both(tiers.clone()), "notes", refresh.0, refresh.1).unwrap();
        Region::builder().backend(tiers).invalidation(shared).build().unwrap()
    };
    let (one, other) = (process(), process());
    one.tagged(["tag"]).get_or_create("key", || 1).unwrap();
    for tag in ["another", "tag"] {
        assert_eq!(*other.get::<i32>("key").unwrap().unwrap(), 1);
        one.invalidate(Scope::Tag(tag), How::Hard).unwrap();
        // The other has seen the first of the two notes.
        servers::pass(SECOND / 5);
    }
    until("it is seen", || other.get::<i32>("key").unwrap().is_none());
}

/// A store that does what it is told, and whose replies are lost.
struct Mute(MemoryBackend, Arc<AtomicBool>);

impl Backend for Mute {
    fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
        Backend::get(&self.0, key)
    }
    fn set(&self, put: Put<'_>) -> Result<(), Error> {
        Backend::set(&self.0, put)
    }
    fn delete(&self, key: &str) -> Result<bool, Error> {
        Backend::delete(&self.0, key)
    }
    fn set_unless(
        &self,
        puts: &[Put<'_>],
        keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
    ) -> Option<Result<Vec<bool>, Error>> {
        let done = Backend::set_unless(&self.0, puts, keeps);
        match self.1.load(SeqCst) {
            true => Some(Err(Error::new(ErrorKind::Timeout, "mute"))),
            false => done,
        }
    }
    fn takes(&self) -> Takes {
        Takes::Bytes
    }
}

/// A conditional write whose reply is lost may have been refused, because something newer is there.
#[test]
fn what_may_have_been_refused_is_not_served_from_memory() {
    let memory = MemoryBackend::builder().serialized(true).build().unwrap();
    let is_mute = Arc::new(AtomicBool::new(false));
    let far = Mute(memory.clone(), Arc::clone(&is_mute));
    let tiers = TieredBackend::builder(Store::blocking(far)).near_ttl(3600 * SECOND).build().unwrap();
    let region = region(tiers);
    let other = self::region(memory);
    let made = region.get_or_create("key", || {
        // Another process has been quicker.
        other.set("key", 2).unwrap();
        is_mute.store(true, SeqCst);
        1
    });
    assert_eq!(*made.unwrap(), 1, "it is its caller's");
    is_mute.store(false, SeqCst);
    assert_eq!(*region.get::<i32>("key").unwrap().unwrap(), 2, "the store has this, and can be asked");
}

/// Somebody has put a link where the lock of a key stands: an error, and no endless attempts.
#[test]
fn a_link_in_the_place_of_a_lock_is_an_error() {
    let folder = Folder::new();
    let backend = files(&folder);
    let lock = || Backend::mutex(&backend, "key").unwrap();
    let held = lock();
    assert!(held.acquire(Duration::ZERO).unwrap());
    let path = fs::read_dir(folder.path().join("lock")).unwrap().next().unwrap().unwrap().path();
    held.release().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    std::os::unix::fs::symlink(folder.path().join("file"), path).unwrap();
    let linked = lock();
    assert_eq!(ends(move || linked.acquire(Duration::ZERO)).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(*region(files(&folder)).get_or_create("key", || 1).unwrap(), 1, "without the store's lock");
}
