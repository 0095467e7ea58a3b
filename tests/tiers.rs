//! Tiers of stores: who is asked when, what other processes change, what is served when the far store fails. And the breaker.
//!
//! The far store is one of this process, with a bus, that can be told to fail; two tiers over it stand for two processes.
#![cfg(feature = "region")]

mod common;

use common::{Door, until, watch};
use dogpile::backend::{
    Arguments, Backend, Breaker, Bus, CacheMutex, Fence, Heard, Listener, MemoryBackend, Put, Schemes, Store,
    Stored, TieredBackend, TieredBackendBuilder,
};
use dogpile::region::OnBackendError;
use dogpile::time::ManualClock;
use dogpile::{AsyncRegion, Error, ErrorKind, Region, RegionPolicy};
use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A shared store.
#[derive(Clone)]
struct Far(Arc<Inside>);

struct Inside {
    memory: MemoryBackend,
    fails: AtomicBool,
    reads: AtomicUsize,
    writes: AtomicUsize,
    bus: Option<Arc<OwnBus>>,
    /// A read stops here, after it was done.
    stops: Mutex<Option<(Arc<Door>, Arc<Door>)>>,
}

#[derive(Default)]
struct OwnBus {
    sequence: AtomicU64,
    listeners: Mutex<Vec<Listener>>,
    /// Messages get lost.
    loses: AtomicBool,
}

impl OwnBus {
    fn tell(&self, heard: Heard<'_>) {
        let listeners = self.listeners.lock().unwrap().clone();
        listeners.iter().for_each(|listener| listener(heard));
    }

    fn lose(&self) {
        self.loses.store(true, SeqCst);
        self.tell(Heard::Lost);
    }

    fn connect(&self) {
        self.loses.store(false, SeqCst);
        self.tell(Heard::Connected { sequence: self.sequence.load(SeqCst) });
    }
}

impl Bus for OwnBus {
    fn publish(&self, _topic: &str, message: &[u8]) -> Result<u64, Error> {
        let sequence = self.sequence.fetch_add(1, SeqCst) + 1;
        if !self.loses.load(SeqCst) {
            self.tell(Heard::Message { sequence, message });
        }
        Ok(sequence)
    }
    fn follow(&self, _topic: &str, listener: Listener) -> Box<dyn Any + Send + Sync> {
        listener(Heard::Connected { sequence: self.sequence.load(SeqCst) });
        self.listeners.lock().unwrap().push(listener);
        Box::new(())
    }
}

impl Far {
    fn new(bus: Option<Arc<OwnBus>>) -> Self {
        let memory = MemoryBackend::builder().serialized(true).build().unwrap();
        Self(Arc::new(Inside {
            memory,
            fails: AtomicBool::new(false),
            reads: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
            bus,
            stops: Mutex::new(None),
        }))
    }

    fn check(&self, calls: &AtomicUsize) -> Result<&MemoryBackend, Error> {
        calls.fetch_add(1, SeqCst);
        match self.0.fails.load(SeqCst) {
            true => Err(Error::new(ErrorKind::Unavailable, "the far store")),
            false => Ok(&self.0.memory),
        }
    }

    fn fails(&self, fails: bool) {
        self.0.fails.store(fails, SeqCst);
    }

    /// How often it was read and written since.
    fn calls(&self) -> (usize, usize) {
        (self.0.reads.swap(0, SeqCst), self.0.writes.swap(0, SeqCst))
    }
}

impl Backend for Far {
    fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
        let found = Backend::get(self.check(&self.0.reads)?, key)?;
        let stops = self.0.stops.lock().unwrap().take();
        if let Some((here, on)) = stops {
            here.open();
            on.wait();
        }
        Ok(found)
    }
    fn set(&self, put: Put<'_>) -> Result<(), Error> {
        Backend::set(self.check(&self.0.writes)?, put)
    }
    fn delete(&self, key: &str) -> Result<bool, Error> {
        Backend::delete(self.check(&self.0.writes)?, key)
    }
    fn set_unless(
        &self,
        puts: &[Put<'_>],
        keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
    ) -> Option<Result<Vec<bool>, Error>> {
        match self.check(&self.0.writes) {
            Ok(memory) => Backend::set_unless(memory, puts, keeps),
            Err(error) => Some(Err(error)),
        }
    }
    fn clear(&self, prefix: &str) -> Result<bool, Error> {
        Backend::clear(self.check(&self.0.writes)?, prefix)
    }
    fn takes(&self) -> dogpile::backend::Takes {
        Backend::takes(&self.0.memory)
    }
    fn bus(&self) -> Option<Arc<dyn Bus>> {
        Some(Arc::clone(self.0.bus.as_ref()?) as _)
    }
}

/// One process of several over one far store, asked by threads or by tasks.
struct Process {
    tiers: TieredBackend,
    region: Region,
    tasks: AsyncRegion,
    by_tasks: bool,
}

impl Process {
    fn over(far: &Far, clock: &ManualClock, by_tasks: bool) -> Self {
        Self::with(far, clock, by_tasks, |builder| builder.near_ttl(SECOND * 10))
    }

    fn with(
        far: &Far,
        clock: &ManualClock,
        by_tasks: bool,
        set: impl FnOnce(TieredBackendBuilder) -> TieredBackendBuilder,
    ) -> Self {
        let builder = TieredBackend::builder(Store::blocking(far.clone())).clock(clock.clone());
        let tiers = set(builder).build().unwrap();
        let policy = RegionPolicy::builder().fresh(SECOND * 100).stale(SECOND * 1000).build().unwrap();
        let region = || Region::builder().clock(clock.clone()).policy(policy.clone());
        Self {
            region: region().backend(tiers.clone()).build().unwrap(),
            tasks: region().async_backend(tiers.clone()).build_async().unwrap(),
            tiers,
            by_tasks,
        }
    }

    fn get(&self, key: &str) -> Option<u32> {
        let found = match self.by_tasks {
            false => self.region.get::<u32>(key),
            true => pollster::block_on(self.tasks.get::<u32>(key)),
        };
        found.unwrap().map(|value| *value)
    }

    fn set(&self, key: &str, value: u32) {
        match self.by_tasks {
            false => self.region.set(key, value),
            true => pollster::block_on(self.tasks.set(key, value)),
        }
        .unwrap();
    }

    fn delete(&self, key: &str) {
        match self.by_tasks {
            false => self.region.delete(key),
            true => pollster::block_on(self.tasks.delete(key)),
        }
        .unwrap();
    }

    fn make(&self, key: &str, value: impl FnOnce() -> u32) -> u32 {
        match self.by_tasks {
            false => *self.region.get_or_create(key, value).unwrap(),
            true => *pollster::block_on(self.tasks.get_or_create(key, async { value() })).unwrap(),
        }
    }
}

/// Two processes with a bus between them.
fn two(by_tasks: bool) -> (Arc<OwnBus>, Far, ManualClock, Process, Process) {
    let bus = Arc::new(OwnBus::default());
    let far = Far::new(Some(Arc::clone(&bus)));
    let clock = ManualClock::new();
    clock.advance(SECOND);
    let process = || Process::over(&far, &clock, by_tasks);
    let (one, other) = (process(), process());
    // Listening begins with the first use, and what was filled before is old.
    for process in [&one, &other] {
        process.get("first");
    }
    clock.advance(SECOND);
    far.calls();
    (bus, far, clock, one, other)
}

fn each(test: impl Fn(bool)) {
    let _watch = watch();
    [false, true].into_iter().for_each(test);
}

#[test]
fn hits_are_the_memorys() {
    each(|by_tasks| {
        let (_bus, far, clock, one, other) = two(by_tasks);
        one.set("key", 1);
        far.calls();
        for _ in 0..3 {
            assert_eq!(one.get("key"), Some(1));
        }
        assert_eq!(far.calls(), (0, 0), "who wrote it has it");
        assert_eq!((other.get("key"), other.get("key")), (Some(1), Some(1)));
        assert_eq!(far.calls(), (1, 0), "the other reads it once");
        clock.advance(SECOND * 10);
        assert_eq!((other.get("key"), other.get("key")), (Some(1), Some(1)));
        assert_eq!(far.calls(), (1, 0), "and once more after near_ttl");
    });
}

/// Opened once: the region gets the value itself from then on, not a copy.
#[test]
fn a_value_is_opened_once() {
    let (_bus, _far, clock, one, other) = two(false);
    one.set("key", 1);
    let first = other.region.get::<u32>("key").unwrap().unwrap();
    let second = other.region.get::<u32>("key").unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    clock.advance(SECOND * 10);
    let third = other.region.get::<u32>("key").unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &third), "read again, it is the same");
    one.set("key", 2);
    assert_eq!(*other.region.get::<u32>("key").unwrap().unwrap(), 2);
}

#[test]
fn what_another_process_writes_is_seen_at_once() {
    each(|by_tasks| {
        let (_bus, _far, _clock, one, other) = two(by_tasks);
        one.set("key", 1);
        assert_eq!(other.get("key"), Some(1));
        one.set("key", 2);
        assert_eq!(other.get("key"), Some(2));
        one.delete("key");
        assert_eq!(other.get("key"), None);
        assert_eq!(other.make("key", || 3), 3);
        assert_eq!(one.get("key"), Some(3), "what was made is told, too");
        one.set("key", 4);
        assert_eq!((one.get("key"), other.get("key")), (Some(4), Some(4)));
    });
}

/// T3: with the connection lost, an old value is served for twice `unheard_ttl` at the most; with messages lost unnoticed by
/// the connection, until the next message.
#[test]
fn lost_messages_are_noticed() {
    each(|by_tasks| {
        let (bus, far, clock, one, other) = two(by_tasks);
        one.set("key", 1);
        assert_eq!(other.get("key"), Some(1));
        bus.lose();
        one.set("key", 2);
        assert_eq!(other.get("key"), Some(1), "nothing was heard");
        clock.advance(SECOND);
        assert_eq!(other.get("key"), Some(2), "unheard_ttl is over");
        one.set("key", 3);
        bus.connect();
        clock.advance(Duration::from_millis(1));
        assert_eq!(other.get("key"), Some(3), "the number is another");
        far.calls();
        assert_eq!(other.get("key"), Some(3));
        bus.tell(Heard::Connected { sequence: bus.sequence.load(SeqCst) });
        assert_eq!(other.get("key"), Some(3));
        assert_eq!(far.calls(), (0, 0), "the same number: nothing was lost");
        bus.loses.store(true, SeqCst);
        one.set("key", 4);
        bus.loses.store(false, SeqCst);
        assert_eq!(other.get("key"), Some(3), "it can't know yet");
        one.set("gap", 1);
        clock.advance(Duration::from_millis(1));
        assert_eq!(other.get("key"), Some(4), "a number is missing");
        bus.tell(Heard::Message { sequence: bus.sequence.fetch_add(1, SeqCst) + 1, message: b"\xFFnew" });
        far.calls();
        clock.advance(Duration::from_millis(1));
        other.get("key");
        assert_eq!(far.calls(), (1, 0), "a message that it can't read may be about anything");
    });
}

#[test]
fn without_a_bus_changes_are_seen_after_near_ttl() {
    each(|by_tasks| {
        let far = Far::new(None);
        let clock = ManualClock::new();
        let process = || Process::with(&far, &clock, by_tasks, |builder| builder);
        let (one, other) = (process(), process());
        one.set("key", 1);
        assert_eq!(other.get("key"), Some(1));
        one.set("key", 2);
        assert_eq!(other.get("key"), Some(1));
        clock.advance(SECOND);
        assert_eq!(other.get("key"), Some(2), "the default is 1 s there");
    });
}

/// T1: a read that began before a message must not leave an old value behind.
#[test]
fn a_slow_read_does_not_bring_an_old_value_back() {
    let _watch = watch();
    let (_bus, far, _clock, one, other) = two(false);
    one.set("key", 1);
    let (here, on) = (Arc::new(Door::default()), Arc::new(Door::default()));
    *far.0.stops.lock().unwrap() = Some((Arc::clone(&here), Arc::clone(&on)));
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| other.get("key"));
        here.wait();
        one.set("key", 2);
        on.open();
        assert_eq!(slow.join().unwrap(), Some(1), "it was so when it was read");
    });
    assert_eq!(other.get("key"), Some(2));
}

/// T4: the far store is down. What is in memory is served, past `near_ttl`; what is not is made and kept here.
#[test]
fn the_far_store_fails() {
    each(|by_tasks| {
        let (_bus, far, clock, one, _other) = two(by_tasks);
        one.set("key", 1);
        far.fails(true);
        clock.advance(SECOND * 50);
        assert_eq!(one.get("key"), Some(1));
        assert_eq!(one.make("key", || unreachable!("it is fresh")), 1);
        assert!(one.tiers.rescued() > 0);
        assert_eq!(one.make("new", || 2), 2);
        assert_eq!(one.make("new", || unreachable!("it was kept here")), 2);
        clock.advance(SECOND * 100);
        assert_eq!(one.make("key", || 3), 3, "stale, and this caller makes it");
        assert_eq!(one.make("key", || unreachable!("kept here")), 3);
        far.fails(false);
        one.delete("key");
        assert_eq!(one.get("key"), None);
    });
}

/// What could not be written is in memory until the store is asked again; what could not be deleted is not.
#[test]
fn a_write_that_fails() {
    let (_bus, far, clock, one, _other) = two(false);
    one.set("key", 1);
    far.fails(true);
    assert_eq!(one.region.set("key", 2_u32).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(one.get("key"), Some(2));
    far.fails(false);
    clock.advance(SECOND * 11);
    assert_eq!(one.get("key"), Some(1), "it never came there");
    far.fails(true);
    assert_eq!(one.region.delete("key").unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(one.get("key"), None, "the memory has nothing, and the store does not answer");
    far.fails(false);
    assert_eq!(one.get("key"), Some(1));
}

#[test]
fn clearing_a_prefix_empties_all_memories() {
    each(|by_tasks| {
        let (_bus, far, _clock, one, other) = two(by_tasks);
        let backend: &dyn Backend = &one.tiers;
        for process in [&one, &other] {
            process.set("p:a", 1);
            process.set("q:b", 2);
        }
        assert_eq!((other.get("p:a"), other.get("q:b")), (Some(1), Some(2)));
        assert!(backend.clear("p:").unwrap());
        assert_eq!((other.get("p:a"), one.get("p:a")), (None, None));
        far.calls();
        assert_eq!((other.get("q:b"), other.tiers.near_len() == 1), (Some(2), true));
        assert_eq!(far.calls(), (0, 0), "what it did not cover stays");
    });
}

/// While one asks the far store about an old copy, the others have that copy.
#[test]
fn one_asks_and_the_others_go_on() {
    let _watch = watch();
    let (_bus, far, clock, one, _other) = two(false);
    one.set("key", 1);
    clock.advance(SECOND * 11);
    let (here, on) = (Arc::new(Door::default()), Arc::new(Door::default()));
    *far.0.stops.lock().unwrap() = Some((Arc::clone(&here), Arc::clone(&on)));
    far.calls();
    std::thread::scope(|scope| {
        let asks = scope.spawn(|| one.get("key"));
        here.wait();
        for _ in 0..10 {
            assert_eq!(one.get("key"), Some(1));
        }
        assert_eq!(far.calls(), (1, 0));
        clock.advance(SECOND * 10);
        one.get("key");
        assert_eq!(far.calls(), (1, 0), "too old now: whoever comes asks");
        on.open();
        assert_eq!(asks.join().unwrap(), Some(1));
    });
}

/// A task's write that is dropped halfway: the memory must not go on with what was before.
#[test]
fn a_dropped_write_leaves_nothing_in_memory() {
    struct Stuck(MemoryBackend, AtomicBool);
    impl dogpile::backend::AsyncBackend for Stuck {
        fn get<'a>(&'a self, key: &'a str) -> dogpile::backend::BoxFuture<'a, Result<Option<Stored>, Error>> {
            Box::pin(std::future::ready(Backend::get(&self.0, key)))
        }
        fn set<'a>(&'a self, put: Put<'a>) -> dogpile::backend::BoxFuture<'a, Result<(), Error>> {
            let done = Backend::set(&self.0, put);
            Box::pin(async move {
                if self.1.load(SeqCst) {
                    std::future::pending::<()>().await;
                }
                done
            })
        }
        fn delete<'a>(&'a self, key: &'a str) -> dogpile::backend::BoxFuture<'a, Result<bool, Error>> {
            Box::pin(std::future::ready(Backend::delete(&self.0, key)))
        }
        fn takes(&self) -> dogpile::backend::Takes {
            Backend::takes(&self.0)
        }
    }
    let memory = MemoryBackend::builder().serialized(true).build().unwrap();
    let tiers =
        TieredBackend::builder(Store::awaiting(Stuck(memory, AtomicBool::new(true)))).build().unwrap();
    let region = AsyncRegion::builder().async_backend(tiers.clone()).build_async().unwrap();
    {
        let mut set = Box::pin(region.set("key", 1));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::future::Future::poll(set.as_mut(), &mut cx).is_pending());
    }
    assert_eq!(tiers.near_len(), 0);
    assert_eq!(*pollster::block_on(region.get::<i32>("key")).unwrap().unwrap(), 1, "the far store was asked");
}

#[test]
fn tiers_by_url() {
    let region =
        Region::from_url("tiered+memory+serialized://?near_entries=10&near_ttl=5s&fresh=1m").unwrap();
    region.set("key", 1).unwrap();
    assert_eq!(region.get::<i32>("key").unwrap().as_deref(), Some(&1));
    let open = |url: &str| Schemes::new().open(Arguments::from_url(url).unwrap()).unwrap_err().to_string();
    assert!(open("tiered+memory://").contains("must be one that takes bytes"));
    assert!(open("tiered+memory+serialized://?near=1").contains("`near` is unknown: accepted are"));
}

// ---- the breaker

fn broken(on_error: OnBackendError) -> (Far, ManualClock, Breaker, Region) {
    let (far, clock) = (Far::new(None), ManualClock::new());
    let breaker = Breaker::with_clock(3, SECOND, clock.clone());
    let region = Region::builder()
        .backend(far.clone())
        .wrap(breaker.clone())
        .clock(clock.clone())
        .on_backend_error(on_error)
        .build()
        .unwrap();
    (far, clock, breaker, region)
}

#[test]
fn after_some_failures_the_store_is_not_asked() {
    let (far, clock, breaker, region) = broken(OnBackendError::Fail);
    far.fails(true);
    let fails = || {
        let error = region.get::<i32>("key").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        error.to_string()
    };
    for _ in 0..3 {
        assert!(!breaker.is_open());
        fails();
    }
    assert!(breaker.is_open());
    assert_eq!(far.calls(), (3, 0));
    for _ in 0..10 {
        let text = fails();
        assert!(text.contains("failed several times in a row"), "{text}");
    }
    assert_eq!((far.calls(), breaker.refused()), ((0, 0), 10));
    clock.advance(SECOND);
    fails();
    fails();
    assert_eq!(far.calls(), (1, 0), "one tries, and fails");
    far.fails(false);
    fails();
    clock.advance(SECOND);
    assert_eq!(region.get::<i32>("key").unwrap(), None);
    assert!(!breaker.is_open());
    region.set("key", 1).unwrap();
    assert_eq!(far.calls(), (1, 1));
}

/// Failures in a row: what works in between starts the count anew. What is refused is an answer.
#[test]
fn only_failures_in_a_row_count() {
    let (far, _clock, breaker, region) = broken(OnBackendError::Degrade);
    for _ in 0..10 {
        far.fails(true);
        for _ in 0..2 {
            assert_eq!(region.get::<i32>("key").unwrap(), None);
        }
        far.fails(false);
        region.get::<i32>("key").unwrap();
    }
    assert!(!breaker.is_open());
    assert_eq!(breaker.refused(), 0);
    assert_eq!(region.stats().backend_errors, 20);
}

/// With the breaker open values are made, once for all who wait for them, and no error reaches anybody.
#[test]
fn a_region_goes_on_while_the_breaker_is_open() {
    let (far, _clock, breaker, region) = broken(OnBackendError::Degrade);
    far.fails(true);
    for i in 0..10 {
        assert_eq!(*region.get_or_create("key", || i).unwrap(), i);
    }
    assert!(breaker.is_open());
    let (reads, writes) = far.calls();
    assert!(reads + writes <= 3, "{reads} reads and {writes} writes");
}

/// The lock of the store is behind the breaker, too, its fence and what it found included.
#[test]
fn locks_go_through_the_breaker() {
    struct Lock;
    impl CacheMutex for Lock {
        fn acquire(&self, _wait: Duration) -> Result<bool, Error> {
            Ok(true)
        }
        fn release(&self) -> Result<(), Error> {
            Ok(())
        }
        fn fence(&self) -> Option<Fence> {
            Some(Fence::new(7_u8))
        }
        fn found(&self) -> Option<Option<Stored>> {
            Some(None)
        }
    }
    struct Locking(MemoryBackend, Arc<AtomicUsize>);
    impl Backend for Locking {
        fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
            self.1.fetch_add(1, SeqCst);
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
            assert_eq!(puts[0].fence.and_then(Fence::get::<u8>), Some(&7));
            Backend::set_unless(&self.0, puts, keeps)
        }
        fn mutex(&self, _key: &str) -> Option<Box<dyn CacheMutex>> {
            Some(Box::new(Lock))
        }
    }
    let reads = Arc::new(AtomicUsize::new(0));
    let region = Region::builder()
        .backend(Locking(MemoryBackend::new(), Arc::clone(&reads)))
        .wrap(Breaker::new(1, SECOND))
        .build()
        .unwrap();
    assert_eq!(*region.get_or_create("key", || 1).unwrap(), 1);
    assert_eq!(reads.load(SeqCst), 1, "the lock has looked");
    until("it is written", || region.get::<i32>("key").unwrap().is_some());
}
