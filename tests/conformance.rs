//! The public suite for backends: our own backends pass it, and each that is broken on purpose fails at the check named for
//! what is broken.
#![cfg(feature = "conformance")]

use dogpile::backend::conformance::{Conformance, Outcome, Report};
use dogpile::backend::{
    AsyncBackend, Backend, BoxFuture, CacheMutex, MemoryBackend, MemoryBackendBuilder, NullBackend,
    OnThreads, Proxy, Put, Store, Stored, Takes, TieredBackend,
};
use dogpile::time::ManualClock;
use dogpile::{Cache, Error, ErrorKind};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::task::Poll;
use std::thread::{self, ThreadId};
use std::time::Duration;

fn timed<B: Backend + 'static>(make: impl Fn(ManualClock) -> B + 'static) -> Conformance {
    let clock = ManualClock::new();
    let time = clock.clone();
    Conformance::new(move || make(clock.clone())).advance(move |span| time.advance(span))
}

fn timed_for_tasks<B: AsyncBackend + 'static>(make: impl Fn(ManualClock) -> B + 'static) -> Conformance {
    let clock = ManualClock::new();
    let time = clock.clone();
    Conformance::for_tasks(move || make(clock.clone())).advance(move |span| time.advance(span))
}

fn memory(clock: ManualClock) -> MemoryBackendBuilder {
    MemoryBackend::builder().clock(clock)
}

/// The names of the checks that had nothing to check.
fn not_applicable(report: &Report) -> Vec<&'static str> {
    let is_so = |outcome: &Outcome| matches!(outcome, Outcome::NotApplicable(_));
    report.checks().iter().filter(|check| is_so(&check.outcome)).map(|check| check.name).collect()
}

/// All that is about a store's own lock.
const LOCKS: [&str; 6] = [
    "mutex_excludes",
    "mutex_is_released",
    "mutex_wakes_who_waits",
    "mutex_serves_threads_in_turn",
    "a_mutex_for_several_keys_lets_one_thread_have_them",
    "mutex_ends_with_its_lease",
];

/// All of the contract but what a store without a lock hasn't.
fn passes_all_but_locks(report: &Report, also: &[&str]) {
    report.assert_passed();
    let mut expected: HashSet<&str> = LOCKS.into();
    expected.insert("what_keeps_nothing_says_so");
    expected.extend(also);
    let left_out: HashSet<&str> = not_applicable(report).into_iter().collect();
    assert_eq!(left_out, expected, "{report}");
}

const BLOCKING: &str = "a_call_that_is_given_up_harms_none";

#[test]
fn memory_of_objects() {
    let report = timed(|clock| memory(clock).build().unwrap()).run();
    passes_all_but_locks(&report, &[BLOCKING]);
    assert!(report.to_string().starts_with("backend `memory`: "), "{report}");
}

#[test]
fn memory_of_bytes() {
    let report = timed(|clock| memory(clock).serialized(true).build().unwrap()).run();
    passes_all_but_locks(&report, &[BLOCKING]);
    assert!(report.to_string().starts_with("backend `memory+serialized`: "), "{report}");
}

#[test]
fn memory_with_a_limit_of_entries() {
    passes_all_but_locks(
        &timed(|clock| memory(clock).max_entries(10_000).build().unwrap()).run(),
        &[BLOCKING],
    );
}

#[test]
fn memory_with_a_limit_of_weight() {
    let make = |clock| memory(clock).max_weight(1 << 30).build().unwrap();
    assert_eq!(Backend::takes(&make(ManualClock::new())), Takes::WeighedObjects);
    passes_all_but_locks(&timed(make).run(), &[BLOCKING]);
    let bytes = |clock| memory(clock).max_weight(1 << 30).serialized(true).build().unwrap();
    passes_all_but_locks(&timed(bytes).run(), &[BLOCKING]);
}

/// One store for all checks, with others' entries in it.
#[test]
fn memory_over_a_shared_cache() {
    let clock = ManualClock::new();
    let cache = Cache::builder().clock(clock.clone()).build().unwrap();
    cache.insert(String::from("another's"), Stored::from(b"abc".as_slice()));
    let shared = cache.clone();
    let suite = Conformance::new(move || MemoryBackend::over(shared.clone()));
    passes_all_but_locks(&suite.advance(move |span| clock.advance(span)).run(), &[BLOCKING]);
    assert!(cache.contains_key("another's"));
}

/// Memory before a store, with each check's time longer than the near tier's, and shorter.
#[test]
fn tiers() {
    for near_ttl in [Duration::from_millis(1), Duration::from_secs(3600)] {
        let make = move |clock: ManualClock| {
            let far = memory(clock.clone()).serialized(true).build().unwrap();
            TieredBackend::builder(Store::both(far)).near_ttl(near_ttl).clock(clock).build().unwrap()
        };
        passes_all_but_locks(&timed(make).run(), &[BLOCKING]);
        passes_all_but_locks(&timed_for_tasks(make).run(), &[]);
    }
}

#[test]
fn memory_for_tasks() {
    passes_all_but_locks(&timed_for_tasks(|clock| memory(clock).build().unwrap()).run(), &[]);
    let bytes = |clock| memory(clock).serialized(true).build().unwrap();
    passes_all_but_locks(&timed_for_tasks(bytes).run(), &[]);
}

#[test]
fn memory_on_threads() {
    let suite = timed_for_tasks(|clock| OnThreads::new(memory(clock).build().unwrap()));
    passes_all_but_locks(&suite.run(), &[]);
}

#[test]
fn on_a_runtime_of_the_users() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let suite = timed_for_tasks(|clock| OnThreads::new(memory(clock).build().unwrap()));
    let report = suite.block_on(move |future| runtime.block_on(future)).run();
    passes_all_but_locks(&report, &[]);
}

#[test]
fn null() {
    for report in [
        timed(|_| NullBackend::new()).keeps_nothing().run(),
        timed_for_tasks(|_| NullBackend::new()).keeps_nothing().run(),
    ] {
        report.assert_passed();
        for name in ["a_missing_key_has_no_value", "what_keeps_nothing_says_so", "delete_is_idempotent"] {
            assert_eq!(report.outcome(name), Some(&Outcome::Passed), "{report}");
        }
        let why = Outcome::NotApplicable("the store is meant to keep nothing");
        for name in ["values_come_back", "expires_after_its_ttl", "mutex_excludes"] {
            assert_eq!(report.outcome(name), Some(&why), "{report}");
        }
    }
}

#[test]
fn null_is_not_taken_for_a_store() {
    let report = timed(|_| NullBackend::new()).run();
    assert_eq!(report.failed().next(), Some("values_come_back"), "{report}");
}

#[test]
fn a_store_is_not_taken_for_null() {
    let report = timed(|clock| memory(clock).build().unwrap()).keeps_nothing().run();
    assert_eq!(report.failed().collect::<Vec<_>>(), ["what_keeps_nothing_says_so"], "{report}");
}

#[test]
fn without_time_what_needs_time_is_left_out() {
    let report = Conformance::new(MemoryBackend::new).run();
    report.assert_passed();
    let why = Outcome::NotApplicable("how time passes was not told: give it `advance`");
    for name in
        ["expires_after_its_ttl", "the_newest_ttl_counts", "expire_rewrites", "set_multi_has_times_to_live"]
    {
        assert_eq!(report.outcome(name), Some(&why), "{report}");
    }
    assert_eq!(report.outcome("a_ttl_may_be_anything"), Some(&Outcome::Passed), "{report}");
}

// ---- backends with a lock

#[derive(Default)]
struct Locks {
    held: Mutex<HashMap<String, ThreadId>>,
    bell: Condvar,
}

/// How a lock is broken.
#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    None,
    /// One lock for all keys, which lets a thread that has it have it for other keys.
    OneForAll,
    /// One lock for all keys, which lets nobody have it twice.
    OneForAllOnce,
    AlwaysGrants,
    NeverReleases,
    ReleasesAll,
    NeverWakes,
    SaysItIsFree,
}

struct OwnMutex {
    locks: Arc<Locks>,
    key: String,
    flaw: Flaw,
}

impl OwnMutex {
    /// Whether this thread may have it now.
    fn is_free(&self, held: &HashMap<String, ThreadId>) -> bool {
        match self.flaw {
            Flaw::OneForAll => {
                !held.contains_key(&self.key) && held.values().all(|owner| *owner == thread::current().id())
            }
            Flaw::OneForAllOnce => held.is_empty(),
            _ => !held.contains_key(&self.key),
        }
    }
}

impl CacheMutex for OwnMutex {
    fn acquire(&self, wait: Duration) -> Result<bool, Error> {
        if self.flaw == Flaw::AlwaysGrants {
            return Ok(true);
        }
        // Who never wakes anybody need not wait in vain for long.
        let wait = if self.flaw == Flaw::NeverWakes { Duration::ZERO } else { wait };
        let held = self.locks.held.lock().unwrap();
        let is_taken = |held: &mut HashMap<String, ThreadId>| !self.is_free(held);
        let (mut held, waited) = self.locks.bell.wait_timeout_while(held, wait, is_taken).unwrap();
        if !waited.timed_out() || self.is_free(&held) {
            held.insert(self.key.clone(), thread::current().id());
            return Ok(true);
        }
        Ok(false)
    }

    fn release(&self) -> Result<(), Error> {
        let mut held = self.locks.held.lock().unwrap();
        match self.flaw {
            Flaw::NeverReleases => return Ok(()),
            Flaw::ReleasesAll => held.clear(),
            _ => _ = held.remove(&self.key),
        }
        self.locks.bell.notify_all();
        Ok(())
    }

    fn locked(&self) -> Result<bool, Error> {
        let is_free = self.is_free(&self.locks.held.lock().unwrap());
        Ok(self.flaw != Flaw::SaysItIsFree && !is_free)
    }
}

/// Passes on to memory what is not broken.
struct Broken<P>(MemoryBackend, P);

impl<P: Proxy> Backend for Broken<P> {
    fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
        self.1.get(&self.0, key)
    }
    fn set(&self, put: Put<'_>) -> Result<(), Error> {
        self.1.set(&self.0, put)
    }
    fn delete(&self, key: &str) -> Result<bool, Error> {
        self.1.delete(&self.0, key)
    }
    fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error> {
        self.1.get_multi(&self.0, keys)
    }
    fn set_multi(&self, puts: &[Put<'_>]) -> Result<(), Error> {
        self.1.set_multi(&self.0, puts)
    }
    fn delete_multi(&self, keys: &[&str]) -> Result<(), Error> {
        self.1.delete_multi(&self.0, keys)
    }
    fn set_unless(
        &self,
        puts: &[Put<'_>],
        keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
    ) -> Option<Result<Vec<bool>, Error>> {
        self.1.set_unless(&self.0, puts, keeps)
    }
    fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        self.1.expire(&self.0, key, ttl)
    }
    fn clear(&self, prefix: &str) -> Result<bool, Error> {
        self.1.clear(&self.0, prefix)
    }
    fn len(&self, prefix: &str) -> Result<Option<u64>, Error> {
        self.1.len(&self.0, prefix)
    }
    fn mutex(&self, key: &str) -> Option<Box<dyn CacheMutex>> {
        self.1.mutex(&self.0, key)
    }
    fn takes(&self) -> Takes {
        self.1.takes(&self.0)
    }
}

fn run<P: Proxy + Default + 'static>() -> Report {
    timed(|clock| Broken(memory(clock).build().unwrap(), P::default())).run()
}

/// The first check that fails is the one that is named for it; the later ones may, where they build upon it.
fn fails_at<P: Proxy + Default + 'static>(name: &str) {
    let report = run::<P>();
    assert_eq!(report.failed().next(), Some(name), "{report}");
}

/// It is the only one that fails.
fn fails_only_at<P: Proxy + Default + 'static>(name: &str) {
    let report = run::<P>();
    assert_eq!(report.failed().collect::<Vec<_>>(), [name], "{report}");
}

#[derive(Default)]
struct Sound;
impl Proxy for Sound {}

#[test]
fn what_the_broken_ones_are_made_of_passes() {
    passes_all_but_locks(&run::<Sound>(), &[BLOCKING]);
}

macro_rules! locking {
    ($name:ident, $flaw:ident) => {
        #[derive(Default)]
        struct $name(Arc<Locks>);
        impl Proxy for $name {
            fn mutex(&self, _next: &dyn Backend, key: &str) -> Option<Box<dyn CacheMutex>> {
                Some(Box::new(OwnMutex {
                    locks: Arc::clone(&self.0),
                    key: key.to_owned(),
                    flaw: Flaw::$flaw,
                }))
            }
        }
    };
}
locking!(Locking, None);
locking!(OneForAll, OneForAll);
locking!(OneForAllOnce, OneForAllOnce);
locking!(AlwaysGrants, AlwaysGrants);
locking!(NeverReleases, NeverReleases);
locking!(ReleasesAll, ReleasesAll);
locking!(NeverWakes, NeverWakes);
locking!(SaysItIsFree, SaysItIsFree);

#[test]
fn a_lock_for_each_key() {
    let report = run::<Locking>();
    report.assert_passed();
    for name in LOCKS.into_iter().filter(|name| *name != "mutex_ends_with_its_lease") {
        assert_eq!(report.outcome(name), Some(&Outcome::Passed), "{report}");
    }
}

#[test]
fn a_lock_for_all_keys() {
    let report = run::<OneForAll>();
    report.assert_passed();
    let several = "a_mutex_for_several_keys_lets_one_thread_have_them";
    assert_eq!(report.outcome(several), Some(&Outcome::Passed), "{report}");
}

#[test]
fn a_lock_that_lets_nobody_have_two_keys() {
    fails_only_at::<OneForAllOnce>("a_mutex_for_several_keys_lets_one_thread_have_them");
}

#[test]
fn a_lock_that_always_grants() {
    fails_at::<AlwaysGrants>("mutex_excludes");
}

#[test]
fn a_lock_that_never_releases() {
    let make = |clock| Broken(memory(clock).build().unwrap(), NeverReleases::default());
    let report = timed(make).limit(Duration::from_secs(1)).run();
    assert_eq!(report.failed().next(), Some("mutex_is_released"), "{report}");
}

#[test]
fn a_lock_that_releases_others() {
    fails_only_at::<ReleasesAll>("a_mutex_for_several_keys_lets_one_thread_have_them");
}

#[test]
fn a_lock_that_is_not_waited_for() {
    fails_at::<NeverWakes>("mutex_wakes_who_waits");
}

#[test]
fn a_lock_that_says_it_is_free() {
    fails_only_at::<SaysItIsFree>("mutex_excludes");
}

// ---- backends with broken values

#[derive(Default)]
struct DropsEachTenth(AtomicUsize);
impl Proxy for DropsEachTenth {
    fn set(&self, next: &dyn Backend, put: Put<'_>) -> Result<(), Error> {
        if self.0.fetch_add(1, SeqCst) % 10 == 9 { Ok(()) } else { next.set(put) }
    }
}

#[test]
fn drops_each_tenth_write() {
    fails_at::<DropsEachTenth>("values_come_back");
}

#[derive(Default)]
struct Finds;
impl Proxy for Finds {
    fn get(&self, next: &dyn Backend, key: &str) -> Result<Option<Stored>, Error> {
        Ok(next.get(key)?.or_else(|| Some(Stored::from(b"default".as_slice()))))
    }
}

#[test]
fn finds_what_was_never_set() {
    fails_at::<Finds>("a_missing_key_has_no_value");
}

#[derive(Default)]
struct KeepsTheFirst;
impl Proxy for KeepsTheFirst {
    fn set(&self, next: &dyn Backend, put: Put<'_>) -> Result<(), Error> {
        if next.get(put.key)?.is_some() { Ok(()) } else { next.set(put) }
    }
}

#[test]
fn keeps_the_first_value() {
    fails_at::<KeepsTheFirst>("a_value_overwrites");
}

#[derive(Default)]
struct LowerCase;
impl Proxy for LowerCase {
    fn get(&self, next: &dyn Backend, key: &str) -> Result<Option<Stored>, Error> {
        next.get(&key.to_lowercase())
    }
    fn set(&self, next: &dyn Backend, put: Put<'_>) -> Result<(), Error> {
        next.set(Put::new(&put.key.to_lowercase(), put.value).ttl(put.ttl))
    }
    fn delete(&self, next: &dyn Backend, key: &str) -> Result<bool, Error> {
        next.delete(&key.to_lowercase())
    }
}

#[test]
fn makes_keys_lower_case() {
    fails_at::<LowerCase>("keys_are_told_apart");
}

#[derive(Default)]
struct IgnoresTtl;
impl Proxy for IgnoresTtl {
    fn set(&self, next: &dyn Backend, put: Put<'_>) -> Result<(), Error> {
        next.set(put.ttl(None))
    }
}

#[test]
fn ignores_times_to_live() {
    fails_at::<IgnoresTtl>("expires_after_its_ttl");
}

#[derive(Default)]
struct KeepsTheFirstTtl;
impl Proxy for KeepsTheFirstTtl {
    fn set(&self, next: &dyn Backend, put: Put<'_>) -> Result<(), Error> {
        let was_there = next.get(put.key)?.is_some();
        if was_there { next.set(put.ttl(Some(Duration::from_secs(1)))) } else { next.set(put) }
    }
}

#[test]
fn has_another_time_to_live_for_what_is_set_again() {
    fails_at::<KeepsTheFirstTtl>("the_newest_ttl_counts");
}

#[derive(Default)]
struct ZeroIsForEver;
impl Proxy for ZeroIsForEver {
    fn set(&self, next: &dyn Backend, put: Put<'_>) -> Result<(), Error> {
        next.set(put.ttl(put.ttl.filter(|ttl| !ttl.is_zero())))
    }
}

/// memcached's zero.
#[test]
fn takes_a_time_to_live_of_zero_for_none() {
    fails_only_at::<ZeroIsForEver>("a_ttl_may_be_anything");
}

#[derive(Default)]
struct ExpireZeroIsForEver;
impl Proxy for ExpireZeroIsForEver {
    fn expire(&self, next: &dyn Backend, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        next.expire(key, ttl.filter(|ttl| !ttl.is_zero()))
    }
}

/// cachetory's `expire_in(0)` on redis.
#[test]
fn expire_with_zero_makes_it_eternal() {
    fails_only_at::<ExpireZeroIsForEver>("expire_rewrites");
}

#[derive(Default)]
struct ExpireMakes;
impl Proxy for ExpireMakes {
    fn expire(&self, next: &dyn Backend, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        if next.get(key)?.is_none() {
            next.set(Put::new(key, &Stored::from(b"".as_slice())).ttl(ttl))?;
        }
        next.expire(key, ttl).map(|_| true)
    }
}

#[test]
fn expire_makes_what_is_not_there() {
    fails_at::<ExpireMakes>("expire_of_nothing_is_false");
}

#[derive(Default)]
struct DeletesOnce;
impl Proxy for DeletesOnce {
    fn delete(&self, next: &dyn Backend, key: &str) -> Result<bool, Error> {
        match next.delete(key)? {
            true => Ok(true),
            false => Err(Error::new(ErrorKind::Unavailable, "delete").detail("no such key")),
        }
    }
}

#[test]
fn the_second_delete_fails() {
    fails_at::<DeletesOnce>("delete_is_idempotent");
}

#[derive(Default)]
struct DeletesNothing;
impl Proxy for DeletesNothing {
    fn delete(&self, next: &dyn Backend, key: &str) -> Result<bool, Error> {
        Ok(next.get(key)?.is_some())
    }
}

#[test]
fn deletes_nothing() {
    fails_at::<DeletesNothing>("delete_takes_out");
}

#[derive(Default)]
struct EndsAtNul;
impl EndsAtNul {
    fn key(key: &str) -> &str {
        key.split('\0').next().unwrap_or(key)
    }
}
impl Proxy for EndsAtNul {
    fn get(&self, next: &dyn Backend, key: &str) -> Result<Option<Stored>, Error> {
        next.get(Self::key(key))
    }
    fn set(&self, next: &dyn Backend, put: Put<'_>) -> Result<(), Error> {
        next.set(Put::new(Self::key(put.key), put.value).ttl(put.ttl))
    }
    fn delete(&self, next: &dyn Backend, key: &str) -> Result<bool, Error> {
        next.delete(Self::key(key))
    }
}

#[test]
fn loses_what_follows_a_nul_in_a_key() {
    fails_only_at::<EndsAtNul>("hostile_keys");
}

#[derive(Default)]
struct ShortKeys;
impl Proxy for ShortKeys {
    fn set(&self, next: &dyn Backend, put: Put<'_>) -> Result<(), Error> {
        if put.key.len() <= 250 { next.set(put) } else { Err(Error::new(ErrorKind::Unavailable, "set")) }
    }
}

#[test]
fn fails_on_long_keys() {
    fails_only_at::<ShortKeys>("hostile_keys");
}

#[derive(Default)]
struct RefusesKeys;
impl Proxy for RefusesKeys {
    fn set(&self, next: &dyn Backend, put: Put<'_>) -> Result<(), Error> {
        if put.key.len() <= 250 { next.set(put) } else { Err(Error::new(ErrorKind::Key, "set")) }
    }
}

/// An error that says that it is the key is within the contract.
#[test]
fn refuses_long_keys() {
    run::<RefusesKeys>().assert_passed();
}

// ---- backends with broken batches

#[derive(Default)]
struct OutOfOrder;
impl Proxy for OutOfOrder {
    fn get_multi(&self, next: &dyn Backend, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error> {
        // As a store that answers in the order of its own keys.
        let mut sorted = keys.to_vec();
        sorted.sort_unstable();
        next.get_multi(&sorted)
    }
}

#[test]
fn multi_out_of_order() {
    fails_at::<OutOfOrder>("get_multi_keeps_order");
}

#[derive(Default)]
struct NoHoles;
impl Proxy for NoHoles {
    fn get_multi(&self, next: &dyn Backend, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error> {
        Ok(next.get_multi(keys)?.into_iter().filter(Option::is_some).collect())
    }
}

#[test]
fn returns_fewer_values_than_keys() {
    fails_at::<NoHoles>("batches_are_not_altered");
}

#[derive(Default)]
struct AltersItsBatch;
impl Proxy for AltersItsBatch {
    fn set_multi(&self, next: &dyn Backend, puts: &[Put<'_>]) -> Result<(), Error> {
        // dogpile.cache's backends once replaced the values in the caller's mapping.
        let changed = Stored::from(b"changed".as_slice());
        let puts: Vec<Put<'_>> = puts.iter().map(|put| Put::new(put.key, &changed).ttl(put.ttl)).collect();
        next.set_multi(&puts)
    }
}

#[test]
fn alters_the_values_of_its_batch() {
    fails_at::<AltersItsBatch>("batches_are_not_altered");
}

#[derive(Default)]
struct DropsTheLast;
impl Proxy for DropsTheLast {
    fn set_multi(&self, next: &dyn Backend, puts: &[Put<'_>]) -> Result<(), Error> {
        next.set_multi(puts.split_last().map_or(puts, |(_, most)| most))
    }
}

#[test]
fn alters_its_batch_by_one() {
    fails_at::<DropsTheLast>("batches_are_not_altered");
}

#[derive(Default)]
struct NotEmpty;
impl Proxy for NotEmpty {
    fn get_multi(&self, next: &dyn Backend, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error> {
        if keys.is_empty() {
            return Err(Error::new(ErrorKind::Unavailable, "MGET").detail("wrong number of arguments"));
        }
        next.get_multi(keys)
    }
}

#[test]
fn fails_on_an_empty_batch() {
    fails_only_at::<NotEmpty>("empty_batches_do_nothing");
}

#[derive(Default)]
struct BatchesForEver;
impl Proxy for BatchesForEver {
    fn set_multi(&self, next: &dyn Backend, puts: &[Put<'_>]) -> Result<(), Error> {
        // As MSET does.
        next.set_multi(&puts.iter().map(|put| put.ttl(None)).collect::<Vec<_>>())
    }
}

#[test]
fn batches_without_times_to_live() {
    fails_only_at::<BatchesForEver>("set_multi_has_times_to_live");
}

#[derive(Default)]
struct DeletesNone;
impl Proxy for DeletesNone {
    fn delete_multi(&self, _next: &dyn Backend, _keys: &[&str]) -> Result<(), Error> {
        Ok(())
    }
}

/// As cachetory's default does.
#[test]
fn delete_multi_does_nothing() {
    fails_only_at::<DeletesNone>("delete_multi_is_idempotent");
}

// ---- backends with broken writes that depend

type Keeps<'k> = &'k dyn Fn(usize, Option<&Stored>) -> bool;
type Done = Option<Result<Vec<bool>, Error>>;

fn one_by_one(next: &dyn Backend, puts: &[Put<'_>], keeps: Keeps<'_>) -> Result<Vec<bool>, Error> {
    let one = |(i, put): (usize, &Put<'_>)| {
        let is_put = !keeps(i, next.get(put.key)?.as_ref());
        if is_put {
            next.set(*put)?;
        }
        Ok(is_put)
    };
    puts.iter().enumerate().map(one).collect()
}

#[derive(Default)]
struct TwoSteps;
impl Proxy for TwoSteps {
    fn set_unless(&self, next: &dyn Backend, puts: &[Put<'_>], keeps: Keeps<'_>) -> Done {
        Some(one_by_one(next, puts, keeps))
    }
}

#[test]
fn set_unless_in_two_steps() {
    fails_only_at::<TwoSteps>("set_unless_is_one_step");
}

#[derive(Default)]
struct UnderALock(Mutex<()>);
impl Proxy for UnderALock {
    fn set(&self, next: &dyn Backend, put: Put<'_>) -> Result<(), Error> {
        let _turn = self.0.lock().unwrap();
        next.set(put)
    }
    fn set_unless(&self, next: &dyn Backend, puts: &[Put<'_>], keeps: Keeps<'_>) -> Done {
        let _turn = self.0.lock().unwrap();
        Some(one_by_one(next, puts, keeps))
    }
}

/// A store that makes others wait while it asks.
#[test]
fn set_unless_under_a_lock() {
    passes_all_but_locks(&run::<UnderALock>(), &[BLOCKING]);
}

#[derive(Default)]
struct OneForTheBatch;
impl Proxy for OneForTheBatch {
    fn set_unless(&self, next: &dyn Backend, puts: &[Put<'_>], keeps: Keeps<'_>) -> Done {
        next.set_unless(puts, &|_, now| keeps(0, now))
    }
}

#[test]
fn set_unless_that_forgets_the_place() {
    fails_only_at::<OneForTheBatch>("set_unless_asks_for_each");
}

/// What was ever put in, expired or not.
#[derive(Default)]
struct RefusesOnExpired(Mutex<HashSet<String>>);
impl Proxy for RefusesOnExpired {
    fn delete(&self, next: &dyn Backend, key: &str) -> Result<bool, Error> {
        self.0.lock().unwrap().remove(key);
        next.delete(key)
    }
    fn set_unless(&self, next: &dyn Backend, puts: &[Put<'_>], keeps: Keeps<'_>) -> Done {
        let expired = Stored::from(b"expired".as_slice());
        let mut known = self.0.lock().unwrap();
        let done = next.set_unless(puts, &|i, now| {
            keeps(i, now.or_else(|| known.contains(puts[i].key).then_some(&expired)))
        });
        known.extend(puts.iter().map(|put| put.key.to_owned()));
        done
    }
}

/// As cachetory's memory does.
#[test]
fn refuses_if_absent_on_what_has_expired() {
    fails_only_at::<RefusesOnExpired>("if_absent_on_expired");
}

// ---- backends with broken prefixes and threads

#[derive(Default)]
struct ClearsAll;
impl Proxy for ClearsAll {
    fn clear(&self, next: &dyn Backend, _prefix: &str) -> Result<bool, Error> {
        next.clear("")
    }
}

/// As cachetory's FLUSHDB.
#[test]
fn clear_takes_all() {
    fails_only_at::<ClearsAll>("clear_takes_the_prefix_only");
}

#[derive(Default)]
struct Patterns;
impl Proxy for Patterns {
    fn clear(&self, next: &dyn Backend, prefix: &str) -> Result<bool, Error> {
        // A star that was not escaped.
        next.clear(prefix.trim_end_matches('*'))
    }
}

#[test]
fn clear_takes_a_prefix_for_a_pattern() {
    fails_only_at::<Patterns>("clear_takes_the_prefix_only");
}

#[derive(Default)]
struct ClearsNothing;
impl Proxy for ClearsNothing {
    fn clear(&self, _next: &dyn Backend, _prefix: &str) -> Result<bool, Error> {
        Ok(true)
    }
}

#[test]
fn clear_does_nothing_and_says_otherwise() {
    fails_only_at::<ClearsNothing>("clear_takes_the_prefix_only");
}

#[derive(Default)]
struct CountsAll;
impl Proxy for CountsAll {
    fn len(&self, next: &dyn Backend, _prefix: &str) -> Result<Option<u64>, Error> {
        next.len("")
    }
}

#[test]
fn len_counts_all() {
    fails_only_at::<CountsAll>("len_counts_a_prefix");
}

/// One buffer for all threads, as of a connection that nobody locks.
struct OneBuffer(MemoryBackend);

static BUFFER: LazyLock<Mutex<Option<(ThreadId, String)>>> = LazyLock::new(Mutex::default);

impl Backend for OneBuffer {
    fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
        *BUFFER.lock().unwrap() = Some((thread::current().id(), key.to_owned()));
        // Until another one has asked as well, or for long enough that there is none.
        for _ in 0..200 {
            thread::yield_now();
        }
        let asked = BUFFER.lock().unwrap().clone();
        Backend::get(&self.0, asked.as_ref().map_or(key, |(_, other)| other))
    }
    fn set(&self, put: Put<'_>) -> Result<(), Error> {
        Backend::set(&self.0, put)
    }
    fn delete(&self, key: &str) -> Result<bool, Error> {
        Backend::delete(&self.0, key)
    }
}

#[test]
fn answers_one_thread_with_what_another_has_asked_for() {
    let report = timed(|clock| OneBuffer(memory(clock).build().unwrap())).run();
    assert_eq!(report.failed().collect::<Vec<_>>(), ["threads"], "{report}");
}

/// One place for the reply of whoever asks next: what a call that was given up leaves there.
struct NextReply(MemoryBackend, Mutex<Option<Option<Stored>>>);

impl AsyncBackend for NextReply {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, Error>> {
        let mut has_asked = false;
        Box::pin(std::future::poll_fn(move |cx| {
            if !has_asked {
                has_asked = true;
                let reply = Backend::get(&self.0, key);
                self.1.lock().unwrap().get_or_insert(reply?);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Ok(self.1.lock().unwrap().take().flatten()))
        }))
    }
    fn set<'a>(&'a self, put: Put<'a>) -> BoxFuture<'a, Result<(), Error>> {
        AsyncBackend::set(&self.0, put)
    }
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        AsyncBackend::delete(&self.0, key)
    }
}

#[test]
fn the_reply_of_a_call_that_was_given_up_reaches_another() {
    let suite = timed_for_tasks(|clock| NextReply(memory(clock).build().unwrap(), Mutex::default()));
    let report = suite.run();
    assert_eq!(report.failed().next(), Some("a_call_that_is_given_up_harms_none"), "{report}");
}

// ---- backends that don't end, or end too early

#[derive(Default)]
struct Panics;
impl Proxy for Panics {
    fn expire(&self, _next: &dyn Backend, _key: &str, _ttl: Option<Duration>) -> Result<bool, Error> {
        panic!("no such thing")
    }
}

#[test]
fn a_panic_is_a_failure_of_its_check() {
    let report = run::<Panics>();
    assert_eq!(report.failed().next(), Some("expire_of_nothing_is_false"), "{report}");
    let failed = Outcome::Failed(String::from("it panicked: no such thing"));
    assert_eq!(report.outcome("expire_of_nothing_is_false"), Some(&failed));
    assert_eq!(report.outcome("hostile_keys"), Some(&Outcome::Passed), "the others go on");
}

/// Never answers.
struct Hangs;

impl AsyncBackend for Hangs {
    fn get<'a>(&'a self, _key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, Error>> {
        Box::pin(std::future::pending())
    }
    fn set<'a>(&'a self, _put: Put<'a>) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }
    fn delete<'a>(&'a self, _key: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(std::future::ready(Ok(true)))
    }
}

#[test]
fn a_check_that_hangs_has_failed() {
    let report = Conformance::for_tasks(|| Hangs).limit(Duration::from_millis(20)).run();
    let hangs = Outcome::Failed(String::from("it hangs: no end after 20ms"));
    assert_eq!(report.outcome("a_missing_key_has_no_value"), Some(&hangs), "{report}");
}

#[test]
#[should_panic(expected = "FAILED          hostile_keys: the key \"\" of 0 bytes")]
fn assert_passed_says_what_failed() {
    run::<EndsAtNul>().assert_passed();
}

/// The name of a check is how one speaks of it: none comes twice.
#[test]
fn names_are_told_apart() {
    let report = run::<Sound>();
    let names: HashSet<&str> = report.checks().iter().map(|check| check.name).collect();
    assert_eq!(names.len(), report.checks().len());
    assert_eq!(report.outcome("no such check"), None);
}
