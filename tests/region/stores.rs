//! What a test of regions runs over: each store, asked by threads and by tasks; with calls counted, and places where a test
//! can step in.

use crate::common::Hold;
use dogpile::backend::{Backend, MemoryBackend, Proxy, Put, Stored, Takes};
use dogpile::codec::{Codec, Storable};
use dogpile::region::{
    AsyncRegion, CachedItem, GetOptions, How, Region, RegionBuilder, RegionExplanation, RegionStats, Scope,
    SetOptions,
};
use dogpile::time::ManualClock;
use dogpile::{CreateError, Error, RegionPolicy};
use pollster::block_on;
use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A store that has what it must have, and no more: a map. It keeps entries when their time to live is over.
#[derive(Clone, Default)]
pub(crate) struct Least {
    entries: Arc<Mutex<HashMap<String, Stored>>>,
    takes_bytes: bool,
}

impl Backend for Least {
    fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
        Ok(self.entries.lock().unwrap().get(key).cloned())
    }
    fn set(&self, put: Put<'_>) -> Result<(), Error> {
        self.entries.lock().unwrap().insert(put.key.to_owned(), put.value.clone());
        Ok(())
    }
    fn delete(&self, key: &str) -> Result<bool, Error> {
        Ok(self.entries.lock().unwrap().remove(key).is_some())
    }
    fn takes(&self) -> Takes {
        if self.takes_bytes { Takes::Bytes } else { Takes::Objects }
    }
}

/// How often a store was called, a batch as one; and what happens when it is.
#[derive(Clone, Default)]
pub(crate) struct Watched(Arc<Seen>);

#[derive(Default)]
struct Seen {
    reads: AtomicUsize,
    writes: AtomicUsize,
    deletes: AtomicUsize,
    steps: Mutex<Option<Step>>,
}

/// When a test steps in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// The store has been read, and the region does not know it yet.
    Read,
    /// A value that was made is about to be written.
    BeforeWrite,
    /// It has been written, and the region does not know it yet.
    AfterWrite,
}

type Step = Arc<dyn Fn(When) + Send + Sync>;

impl Watched {
    /// Reads and writes, deletes among them, since the last time.
    pub(crate) fn calls(&self) -> (usize, usize) {
        let taken = |count: &AtomicUsize| count.swap(0, SeqCst);
        (taken(&self.0.reads), taken(&self.0.writes) + taken(&self.0.deletes))
    }

    pub(crate) fn step_in(&self, step: impl Fn(When) + Send + Sync + 'static) {
        *self.0.steps.lock().unwrap() = Some(Arc::new(step));
    }

    fn now(&self, when: When) {
        let step = self.0.steps.lock().unwrap().clone();
        if let Some(step) = step {
            step(when);
        }
    }

    fn read<T>(&self, read: impl FnOnce() -> T) -> T {
        self.0.reads.fetch_add(1, SeqCst);
        let found = read();
        self.now(When::Read);
        found
    }

    fn write<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.writes.fetch_add(1, SeqCst);
        self.now(When::BeforeWrite);
        let done = write();
        self.now(When::AfterWrite);
        done
    }
}

impl Proxy for Watched {
    fn get(&self, next: &dyn Backend, key: &str) -> Result<Option<Stored>, Error> {
        self.read(|| next.get(key))
    }
    fn get_multi(&self, next: &dyn Backend, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error> {
        self.read(|| next.get_multi(keys))
    }
    fn set(&self, next: &dyn Backend, put: Put<'_>) -> Result<(), Error> {
        self.write(|| next.set(put))
    }
    fn set_multi(&self, next: &dyn Backend, puts: &[Put<'_>]) -> Result<(), Error> {
        self.write(|| next.set_multi(puts))
    }
    fn set_unless(
        &self,
        next: &dyn Backend,
        puts: &[Put<'_>],
        keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
    ) -> Option<Result<Vec<bool>, Error>> {
        // Where there is no such thing it is no call.
        next.set_unless(&[], &|_, _| true)?.ok()?;
        self.write(|| next.set_unless(puts, keeps))
    }
    fn delete(&self, next: &dyn Backend, key: &str) -> Result<bool, Error> {
        self.0.deletes.fetch_add(1, SeqCst);
        next.delete(key)
    }
    fn delete_multi(&self, next: &dyn Backend, keys: &[&str]) -> Result<(), Error> {
        self.0.deletes.fetch_add(1, SeqCst);
        next.delete_multi(keys)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    /// In this process, as objects.
    Memory,
    /// The same, by weight.
    Weighed,
    /// As bytes, in our own envelope.
    Serialized,
    /// As bytes of JSON.
    Json,
    /// Objects, in a store that only gets, sets and deletes.
    Least,
    /// Bytes in such a store.
    LeastBytes,
}

impl Store {
    /// Whether it lets what has expired go by itself.
    pub(crate) fn expires(self) -> bool {
        !matches!(self, Self::Least | Self::LeastBytes)
    }
    pub(crate) fn is_bytes(self) -> bool {
        matches!(self, Self::Serialized | Self::Json | Self::LeastBytes)
    }
    /// Whether it can find a prefix.
    pub(crate) fn counts(self) -> bool {
        self.expires()
    }
}

/// A store, and who asks it.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) store: Store,
    pub(crate) by_tasks: bool,
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, by {}", self.store, if self.by_tasks { "tasks" } else { "threads" })
    }
}

/// Runs a test over all of them.
pub(crate) fn each(test: impl Fn(&Setup)) {
    let stores =
        [Store::Memory, Store::Weighed, Store::Serialized, Store::Json, Store::Least, Store::LeastBytes];
    for store in stores {
        for by_tasks in [false, true] {
            let setup = Setup { store, by_tasks };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(&setup))) {
                eprintln!("with the store {setup}");
                resume_unwind(panic);
            }
        }
    }
}

impl Setup {
    pub(crate) fn region(&self) -> Asked {
        self.build(|builder| builder)
    }

    pub(crate) fn by(&self, policy: RegionPolicy) -> Asked {
        self.build(|builder| builder.policy(policy))
    }

    pub(crate) fn build(&self, settings: impl FnOnce(RegionBuilder) -> RegionBuilder) -> Asked {
        let clock = ManualClock::new();
        let watched = Watched::default();
        let builder = self.over(Region::builder(), &clock);
        let builder = settings(builder.clock(clock.clone()).wrap(watched.clone()));
        let region = builder.build().unwrap();
        let tasks = region.for_tasks().unwrap();
        Asked { region, tasks, clock, watched, setup: self.clone() }
    }

    fn over(&self, builder: RegionBuilder, clock: &ManualClock) -> RegionBuilder {
        let memory = MemoryBackend::builder().clock(clock.clone());
        match self.store {
            Store::Memory => builder.backend(memory.build().unwrap()),
            Store::Weighed => builder.backend(memory.max_weight(1 << 24).build().unwrap()),
            Store::Serialized => builder.backend(memory.serialized(true).build().unwrap()),
            Store::Json => builder.backend(memory.serialized(true).build().unwrap()).codec(Codec::json()),
            Store::Least => builder.backend(Least::default()),
            Store::LeastBytes => builder.backend(Least { takes_bytes: true, ..Least::default() }),
        }
    }
}

/// A region, asked by threads or by tasks: each method is the region's own. Values are numbers, mostly.
pub(crate) struct Asked {
    pub(crate) region: Region,
    pub(crate) tasks: AsyncRegion,
    pub(crate) clock: ManualClock,
    pub(crate) watched: Watched,
    pub(crate) setup: Setup,
}

type Tried = Result<u32, CreateError<&'static str>>;

fn plain<T: Copy>(found: Option<Arc<T>>) -> Option<T> {
    found.map(|value| *value)
}

impl Asked {
    pub(crate) fn calls(&self) -> (usize, usize) {
        self.watched.calls()
    }
    pub(crate) fn pass(&self, span: Duration) {
        self.clock.advance(span);
    }
    pub(crate) fn stats(&self) -> RegionStats {
        self.region.stats()
    }

    pub(crate) fn get_as<T: Storable>(&self, key: &str) -> Option<Arc<T>> {
        match self.setup.by_tasks {
            false => self.region.get(key).unwrap(),
            true => block_on(self.tasks.get(key)).unwrap(),
        }
    }
    pub(crate) fn get(&self, key: &str) -> Option<u32> {
        plain(self.get_as(key))
    }
    pub(crate) fn get_with(&self, key: &str, options: GetOptions) -> Option<u32> {
        plain(match self.setup.by_tasks {
            false => self.region.get_with(key, options).unwrap(),
            true => block_on(self.tasks.get_with(key, options)).unwrap(),
        })
    }
    /// Whatever is there.
    pub(crate) fn stored(&self, key: &str) -> Option<u32> {
        self.get_with(key, GetOptions::new().ignore_expiration())
    }
    pub(crate) fn get_multi(&self, keys: &[&str]) -> Vec<Option<u32>> {
        self.get_multi_with(keys, GetOptions::new())
    }
    pub(crate) fn get_multi_with(&self, keys: &[&str], options: GetOptions) -> Vec<Option<u32>> {
        let found = match self.setup.by_tasks {
            false => self.region.get_multi_with(keys, options).unwrap(),
            true => block_on(self.tasks.get_multi_with(keys, options)).unwrap(),
        };
        found.into_iter().map(plain).collect()
    }
    pub(crate) fn metadata(&self, key: &str) -> Option<CachedItem<u32>> {
        match self.setup.by_tasks {
            false => self.region.get_value_metadata(key).unwrap(),
            true => block_on(self.tasks.get_value_metadata(key)).unwrap(),
        }
    }

    pub(crate) fn set<T: Storable>(&self, key: &str, value: T) {
        match self.setup.by_tasks {
            false => self.region.set(key, value).unwrap(),
            true => block_on(self.tasks.set(key, value)).unwrap(),
        }
    }
    pub(crate) fn set_with(&self, key: &str, value: u32, options: SetOptions) -> bool {
        match self.setup.by_tasks {
            false => self.region.set_with(key, value, options).unwrap(),
            true => block_on(self.tasks.set_with(key, value, options)).unwrap(),
        }
    }
    pub(crate) fn set_multi(&self, entries: &[(&str, u32)]) {
        self.set_multi_with(entries, SetOptions::new());
    }
    pub(crate) fn set_multi_with(&self, entries: &[(&str, u32)], options: SetOptions) {
        let entries = entries.iter().copied();
        match self.setup.by_tasks {
            false => self.region.set_multi_with(entries, options).unwrap(),
            true => block_on(self.tasks.set_multi_with(entries, options)).unwrap(),
        }
    }
    pub(crate) fn delete(&self, key: &str) -> bool {
        match self.setup.by_tasks {
            false => self.region.delete(key).unwrap(),
            true => block_on(self.tasks.delete(key)).unwrap(),
        }
    }
    pub(crate) fn delete_multi(&self, keys: &[&str]) {
        match self.setup.by_tasks {
            false => self.region.delete_multi(keys).unwrap(),
            true => block_on(self.tasks.delete_multi(keys)).unwrap(),
        }
    }
    pub(crate) fn expire_in(&self, key: &str, ttl: Option<Duration>) -> bool {
        match self.setup.by_tasks {
            false => self.region.expire_in(key, ttl).unwrap(),
            true => block_on(self.tasks.expire_in(key, ttl)).unwrap(),
        }
    }
    pub(crate) fn expire_at(&self, key: &str, time: Option<Duration>) -> bool {
        match self.setup.by_tasks {
            false => self.region.expire_at(key, time).unwrap(),
            true => block_on(self.tasks.expire_at(key, time)).unwrap(),
        }
    }
    pub(crate) fn clear(&self) {
        match self.setup.by_tasks {
            false => self.region.clear().unwrap(),
            true => block_on(self.tasks.clear()).unwrap(),
        }
    }
    pub(crate) fn len(&self) -> Option<u64> {
        match self.setup.by_tasks {
            false => self.region.len().unwrap(),
            true => block_on(self.tasks.len()).unwrap(),
        }
    }
    pub(crate) fn invalidate(&self, scope: Scope<'_>, how: How) {
        match self.setup.by_tasks {
            false => self.region.invalidate(scope, how).unwrap(),
            true => block_on(self.tasks.invalidate(scope, how)).unwrap(),
        }
    }
    pub(crate) fn key_is_locked(&self, key: &str) -> bool {
        match self.setup.by_tasks {
            false => self.region.key_is_locked(key).unwrap(),
            true => block_on(self.tasks.key_is_locked(key)).unwrap(),
        }
    }
    pub(crate) fn explain(&self, key: &str) -> RegionExplanation {
        match self.setup.by_tasks {
            false => self.region.explain::<u32>(key).unwrap(),
            true => block_on(self.tasks.explain::<u32>(key)).unwrap(),
        }
    }

    /// `get_or_create`.
    pub(crate) fn make(&self, key: &str, creator: impl FnOnce() -> u32) -> u32 {
        *match self.setup.by_tasks {
            false => self.region.get_or_create(key, creator).unwrap(),
            true => block_on(self.tasks.get_or_create(key, async { creator() })).unwrap(),
        }
    }
    pub(crate) fn make_as<T: Storable>(&self, key: &str, creator: impl FnOnce() -> T) -> Arc<T> {
        match self.setup.by_tasks {
            false => self.region.get_or_create(key, creator).unwrap(),
            true => block_on(self.tasks.get_or_create(key, async { creator() })).unwrap(),
        }
    }
    pub(crate) fn make_by(&self, policy: &RegionPolicy, key: &str, creator: impl FnOnce() -> u32) -> u32 {
        *match self.setup.by_tasks {
            false => self.region.with(policy).get_or_create(key, creator).unwrap(),
            true => block_on(self.tasks.with(policy).get_or_create(key, async { creator() })).unwrap(),
        }
    }
    pub(crate) fn make_tagged(&self, tags: &[&str], key: &str, creator: impl FnOnce() -> u32) -> u32 {
        let tags = tags.iter().copied();
        *match self.setup.by_tasks {
            false => self.region.tagged(tags).get_or_create(key, creator).unwrap(),
            true => block_on(self.tasks.tagged(tags).get_or_create(key, async { creator() })).unwrap(),
        }
    }
    pub(crate) fn try_make(&self, key: &str, creator: impl FnOnce() -> Result<u32, &'static str>) -> Tried {
        Ok(*match self.setup.by_tasks {
            false => self.region.try_get_or_create(key, creator)?,
            true => block_on(self.tasks.try_get_or_create(key, async { creator() }))?,
        })
    }
    pub(crate) fn try_make_by(
        &self,
        policy: &RegionPolicy,
        key: &str,
        creator: impl FnOnce() -> Result<u32, &'static str>,
    ) -> Tried {
        Ok(*match self.setup.by_tasks {
            false => self.region.with(policy).try_get_or_create(key, creator)?,
            true => block_on(self.tasks.with(policy).try_get_or_create(key, async { creator() }))?,
        })
    }
    /// `get_or_create_detached`.
    pub(crate) fn hand_on(&self, key: &str, creator: impl FnOnce() -> u32 + Send + 'static) -> u32 {
        *match self.setup.by_tasks {
            false => self.region.get_or_create_detached(key, creator).unwrap(),
            true => block_on(self.tasks.get_or_create_detached(key, async { creator() })).unwrap(),
        }
    }
    pub(crate) fn refresh(&self, key: &str, creator: impl FnOnce() -> u32) -> u32 {
        *match self.setup.by_tasks {
            false => self.region.refresh(key, creator).unwrap(),
            true => block_on(self.tasks.refresh(key, async { creator() })).unwrap(),
        }
    }
    /// `get_or_create_multi`.
    pub(crate) fn make_many(&self, keys: &[&str], creator: impl Fn(&[&str]) -> Vec<u32>) -> Vec<u32> {
        let creator = &creator;
        let made = match self.setup.by_tasks {
            false => self.region.get_or_create_multi(keys, creator),
            true => block_on(self.tasks.get_or_create_multi(keys, |asked| async move { creator(&asked) })),
        };
        made.unwrap().into_iter().map(|value| *value).collect()
    }
    pub(crate) fn try_make_many(
        &self,
        keys: &[&str],
        creator: impl Fn(&[&str]) -> Result<Vec<u32>, &'static str>,
    ) -> Result<Vec<u32>, CreateError<&'static str>> {
        let creator = &creator;
        let made = match self.setup.by_tasks {
            false => self.region.try_get_or_create_multi(keys, creator),
            true => {
                block_on(self.tasks.try_get_or_create_multi(keys, |asked| async move { creator(&asked) }))
            }
        };
        Ok(made?.into_iter().map(|value| *value).collect())
    }
}

/// One caller makes `key` and stops; then happens `meanwhile`; then it goes on. Returns what it got.
pub(crate) fn during(region: &Asked, key: &str, value: u32, meanwhile: impl FnOnce()) -> u32 {
    let lead = |hold: &Hold| {
        region.make(key, || {
            hold.here();
            value
        })
    };
    crate::common::while_held(lead, meanwhile)
}
