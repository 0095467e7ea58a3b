//! [`Cache`]: the engine for typed, in-process use.
#![forbid(unsafe_code)]

mod builder;
mod creating;
mod entry;
mod explain;
mod guards;
#[cfg(dogpile_loom)]
pub(crate) mod model;
mod on_demand;
#[cfg(feature = "serde")]
mod snapshot;
#[cfg(test)]
mod tests;

pub use builder::CacheBuilder;
pub use creating::With;
pub use explain::{EntryState, Explanation, LedBy};
pub use guards::{Batch, Iter, Pinned, Ref};
#[cfg(feature = "serde")]
pub use snapshot::Snapshot;

use crate::engine::{
    AtOnce, Backend, CachedValue, Engine, Handle, Held, Mode, Overtaken, Panics, Put, Reclaim, RemovalCause,
    Shard, Stats, Step,
};
use crate::gate::{Flights, Outcome, Policy};
use crate::hash::{RandomState, mix};
use crate::sync::Arc;
use crate::time::{Clock, Instant};
use creating::Loader;
use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

/// A sharded, bounded or unbounded map from keys to values that readers share without a lock.
///
/// A `Cache` is a handle: cloning it is cheap, and all clones are one cache. Reads find an entry with two dependent
/// loads, and borrow it through a [`Ref`] that holds up nobody. Writes swap whole entries; a value once in the cache
/// is never changed, only replaced.
///
/// # Consistency
/// Operations on one key are linearizable: `insert`, `remove`, `compute` and `get` of one key happen one after
/// another, in an order that agrees with what each thread saw. [`clear`](Self::clear) is one moment for each shard, not
/// for all. Iteration is weakly consistent. Operations on different keys are not ordered with one another, except by
/// the threads that do them.
///
/// # User code
/// `Hash`, `Eq`, `Clone`, `Drop`, weighers, listeners and closures may panic, and may call the cache: none of them runs
/// while a lock is held, and the cache stays sound and usable. A key whose `Eq` or `Hash` lies, or changes, is found or
/// not, or found twice; nothing worse.
///
/// # Examples
/// ```
/// use dogpile::Cache;
///
/// let cache = Cache::new(10_000);
/// cache.insert("answer", 42);
/// assert_eq!(*cache.get("answer").unwrap(), 42);
/// assert!(cache.get("question").is_none());
/// ```
pub struct Cache<K, V, S = RandomState> {
    inner: Arc<Inner<K, V, S>>,
}

struct Inner<K, V, S> {
    engine: Engine<K, V>,
    hasher: S,
    /// Whether the hasher is foreign, so that its hashes need mixing.
    foreign: bool,
    flights: Flights<Handle<K, V>>,
    policy: Policy<V>,
    loader: Option<Loader<K, V>>,
}

/// How [`Cache::insert_with`] puts an entry in.
///
/// ```
/// use dogpile::{Cache, InsertOptions};
/// use std::time::Duration;
///
/// let cache = Cache::unbounded();
/// cache.insert_with("token", 1, InsertOptions::new().ttl(Duration::from_secs(60)));
/// assert!(cache.get("token").unwrap().entry().expires_at().is_some());
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "options do nothing by themselves"]
pub struct InsertOptions {
    ttl: Option<Duration>,
    weight: Option<u32>,
}

impl InsertOptions {
    /// The cache's own time to live and weigher.
    pub fn new() -> Self {
        Self::default()
    }

    /// This entry's own time to live. Zero: it has expired at once. `Duration::MAX`: for ever.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// This entry's own weight, at least 1, in a cache that is bounded by weight; elsewhere it is ignored.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = Some(weight);
        self
    }
}

/// What [`Cache::insert_with`] and [`Cache::insert_if_absent`] did.
///
/// ```
/// use dogpile::{Cache, Inserted};
///
/// let cache = Cache::new(10);
/// assert!(cache.insert_if_absent("key", 1).is_stored());
/// match cache.insert_if_absent("key", 2) {
///     Inserted::Present { existing, rejected } => assert_eq!((*existing, *rejected), (1, 2)),
///     other => panic!("the key is there: {other:?}"),
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Inserted<K, V> {
    /// Stored; the key was absent, or its entry had expired.
    Added,
    /// Stored, in the place of this older version.
    Replaced(Handle<K, V>),
    /// Not stored: the key has a fresh entry.
    Present {
        /// What is in the cache.
        existing: Handle<K, V>,
        /// What is not.
        rejected: Handle<K, V>,
    },
    /// Not stored: it is heavier than the whole cache. An older version under its key is gone all the same.
    Refused(Handle<K, V>),
}

impl<K, V> Inserted<K, V> {
    /// Whether the value is in the cache now.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        matches!(self, Self::Added | Self::Replaced(_))
    }
}

/// What [`Cache::compute`] shall do with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compute<V> {
    /// Leave it as it is.
    Keep,
    /// Store this value.
    Put(V),
    /// Take it out.
    Remove,
}

impl<K, V> Cache<K, V> {
    /// A cache that holds up to `max_entries` entries, without expiry, hashed by [`RandomState`].
    ///
    /// Filled with exactly `max_entries` it evicts nothing. With 0 it keeps nothing.
    ///
    /// ```
    /// use dogpile::Cache;
    ///
    /// let cache = Cache::new(1000);
    /// (0..1000).for_each(|i| { cache.insert(i, i * i); });
    /// assert_eq!(cache.len(), 1000);
    /// assert_eq!(cache.get_cloned(&31), Some(961));
    /// ```
    #[must_use]
    pub fn new(max_entries: u64) -> Self {
        Self::builder()
            .max_entries(max_entries)
            .build()
            .expect("one limit and no other setting contradict nothing")
    }

    /// A cache without a limit: entries leave by deadlines and by calls only.
    ///
    /// Empty, it takes about 110 KiB, for its 64 shards; [`CacheBuilder::shards`] makes it smaller.
    ///
    /// ```
    /// let cache = dogpile::Cache::unbounded();
    /// cache.insert(1, "one");
    /// assert_eq!(cache.capacity(), None);
    /// ```
    #[must_use]
    pub fn unbounded() -> Self {
        Self::builder().build().expect("no setting contradicts no other")
    }

    /// Settings, one by one.
    ///
    /// ```
    /// use dogpile::Cache;
    /// use std::time::Duration;
    ///
    /// let cache = Cache::builder()
    ///     .max_weight(64 << 20)
    ///     .weigher(|key: &String, page: &Vec<u8>| (key.len() + page.len()) as u32)
    ///     .time_to_live(Duration::from_secs(300))
    ///     .build()?;
    /// cache.insert(String::from("/"), vec![0; 100]);
    /// assert_eq!(cache.weight(), 101);
    /// # Ok::<(), dogpile::BuildError>(())
    /// ```
    pub fn builder() -> CacheBuilder<K, V> {
        CacheBuilder::new()
    }
}

impl<K, V, S> Cache<K, V, S> {
    fn from_parts(
        engine: Engine<K, V>,
        hasher: S,
        foreign: bool,
        policy: Policy<V>,
        loader: Option<Loader<K, V>>,
    ) -> Self {
        // Locked for a moment at the begin and the end of a creation: as many as the engine's own locks will do.
        let flights = Flights::new(engine.shards().max(64));
        Self { inner: Arc::new(Inner { engine, hasher, foreign, flights, policy, loader }) }
    }

    #[inline]
    fn flights(&self) -> &Flights<Handle<K, V>> {
        &self.inner.flights
    }

    fn loader(&self) -> Option<&Loader<K, V>> {
        self.inner.loader.as_ref()
    }

    #[inline]
    fn engine(&self) -> &Engine<K, V> {
        &self.inner.engine
    }

    /// How many entries are in the cache. Expired ones count until they have been swept out, by later writes or by
    /// [`run_pending`](Self::run_pending).
    ///
    /// # Cost
    /// A load for each shard. Exact when nobody writes meanwhile.
    ///
    /// ```
    /// let cache = dogpile::Cache::new(10);
    /// cache.insert(1, 1);
    /// assert_eq!(cache.len(), 1);
    /// ```
    #[must_use]
    pub fn len(&self) -> u64 {
        self.engine().entries()
    }

    /// Whether [`len`](Self::len) is 0.
    ///
    /// ```
    /// assert!(dogpile::Cache::<u8, u8>::new(10).is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the entries weigh together; without a weigher each weighs 1. Exact when nobody writes meanwhile.
    ///
    /// ```
    /// use dogpile::Cache;
    /// let cache = Cache::builder().max_weight(100).weigher(|_: &u8, text: &&str| text.len() as u32).build()?;
    /// cache.insert(1, "four");
    /// assert_eq!(cache.weight(), 4);
    /// # Ok::<(), dogpile::BuildError>(())
    /// ```
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.engine().weight()
    }

    /// The limit in force: entries, or weight where there is a weigher. `None`: unbounded.
    ///
    /// ```
    /// assert_eq!(dogpile::Cache::<u8, u8>::new(10).capacity(), Some(10));
    /// ```
    #[must_use]
    pub fn capacity(&self) -> Option<u64> {
        self.engine().capacity()
    }

    /// How many shards the cache has.
    ///
    /// ```
    /// use std::num::NonZero;
    /// let cache = dogpile::Cache::<u8, u8>::builder().shards(NonZero::new(5).unwrap()).build()?;
    /// assert_eq!(cache.shards(), 8, "the next power of two");
    /// # Ok::<(), dogpile::BuildError>(())
    /// ```
    #[must_use]
    pub fn shards(&self) -> usize {
        self.engine().shards()
    }

    /// The clock that deadlines are measured on.
    ///
    /// ```
    /// use dogpile::time::Instant;
    /// let cache = dogpile::Cache::<u8, u8>::new(10);
    /// assert!(cache.clock().now() < Instant::FAR_FUTURE);
    /// ```
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        self.engine().lifetimes().clock()
    }

    /// What the cache has done so far.
    ///
    /// # Cost
    /// A few loads for each thread that ever used the cache.
    ///
    /// ```
    /// let cache = dogpile::Cache::new(2);
    /// (0..5).for_each(|i| { cache.insert(i, i); });
    /// assert_eq!(cache.stats().evicted, 3);
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine().stats()
    }

    /// Takes all entries out: O(1) for each shard, whatever is in it.
    ///
    /// # Consistency
    /// Each shard is emptied in one moment; the shards one after another. An entry that was there when the call began is
    /// gone when it returns. An entry put in meanwhile stays or goes.
    ///
    /// # Cost
    /// The entries themselves are dropped, and the listener told, in slices of some 250: one of each shard now, if no reader
    /// is in the way, the rest by later writes or [`run_pending`](Self::run_pending).
    ///
    /// ```
    /// let cache = dogpile::Cache::new(10);
    /// cache.insert(1, 1);
    /// cache.clear();
    /// assert!(cache.is_empty());
    /// ```
    pub fn clear(&self) {
        self.engine().clear();
    }

    /// Changes the limit while the cache is in use: entries, or weight, whichever bounds it. Evicts at once what no
    /// longer fits. An unbounded cache stays so.
    ///
    /// ```
    /// let cache = dogpile::Cache::new(100);
    /// (0..100).for_each(|i| { cache.insert(i, i); });
    /// cache.resize(10);
    /// assert_eq!((cache.len(), cache.capacity()), (10, Some(10)));
    /// ```
    pub fn resize(&self, capacity: u64) {
        self.engine().resize(capacity);
    }

    /// Does now what writes do along the way: finishes growth, sweeps expired entries out, frees what was taken out (as
    /// far as no reader is in the way), tells the listener of entries that a `clear` took.
    ///
    /// For caches that are idle for long: without writes nothing else does it.
    ///
    /// # Panics
    /// If the listener does, when all else is done.
    ///
    /// ```
    /// use dogpile::{Cache, time::ManualClock};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let cache = Cache::builder().time_to_live(Duration::from_secs(1)).clock(clock.clone()).build()?;
    /// cache.insert(1, 1);
    /// clock.advance(Duration::from_secs(1));
    /// assert_eq!(cache.len(), 1, "expired, and nobody has looked");
    /// cache.run_pending();
    /// assert_eq!(cache.len(), 0);
    /// # Ok::<(), dogpile::BuildError>(())
    /// ```
    pub fn run_pending(&self) {
        self.engine().run_pending();
    }

    /// Walks over the fresh entries, shard by shard, without a lock.
    ///
    /// # Consistency
    /// Every entry that is in the cache all the while, unchanged, is yielded once, growth or not. One that comes, goes or
    /// is replaced meanwhile is yielded or not; a key that is replaced or comes back meanwhile may be yielded twice.
    ///
    /// # Cost
    /// A reference counted up and down for each entry. Nothing is held up between two entries.
    ///
    /// ```
    /// let cache = dogpile::Cache::new(10);
    /// (1..=4).for_each(|i| { cache.insert(i, i * i); });
    /// assert_eq!(cache.iter().map(|entry| *entry).sum::<i32>(), 30);
    /// ```
    pub fn iter(&self) -> Iter<'_, K, V, S> {
        Iter::new(self)
    }

    /// Up to `n` of the entries that were used most since the eviction policy last looked at them, most used first.
    ///
    /// # Cost
    /// A walk over all entries, and a sort. The policy counts to three only, so many are alike.
    ///
    /// ```
    /// let cache = dogpile::Cache::new(10);
    /// (0..5).for_each(|i| { cache.insert(i, i); });
    /// cache.get(&3);
    /// assert_eq!(cache.hottest(1)[0].key(), &3);
    /// ```
    #[must_use]
    pub fn hottest(&self, n: usize) -> Vec<Handle<K, V>> {
        self.ranked(n, |handle| std::cmp::Reverse(handle.entry().reuse()))
    }

    /// Up to `n` of the entries that were used least since the eviction policy last looked at them, least used first.
    ///
    /// # Cost
    /// As [`hottest`](Self::hottest).
    ///
    /// ```
    /// let cache = dogpile::Cache::new(10);
    /// (0..2).for_each(|i| { cache.insert(i, i); });
    /// cache.get(&0);
    /// assert_eq!(cache.coldest(1)[0].key(), &1);
    /// ```
    #[must_use]
    pub fn coldest(&self, n: usize) -> Vec<Handle<K, V>> {
        self.ranked(n, |handle| handle.entry().reuse())
    }

    fn ranked<R: Ord>(&self, n: usize, rank: impl Fn(&Handle<K, V>) -> R) -> Vec<Handle<K, V>> {
        let mut all: Vec<_> = self.iter().map(|handle| (rank(&handle), handle)).collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all.into_iter().take(n).map(|(_, handle)| handle).collect()
    }

    /// Keeps the entries for which `keep` is true, and takes out the others, stale ones too. A creation of a key's first
    /// value goes on.
    ///
    /// # Consistency
    /// As [`iter`](Self::iter). An entry that is replaced while `keep` looks at its old version stays.
    ///
    /// ```
    /// let cache = dogpile::Cache::new(10);
    /// (0..10).for_each(|i| { cache.insert(i, i); });
    /// cache.retain(|key, _| key % 2 == 0);
    /// assert_eq!(cache.len(), 5);
    /// ```
    pub fn retain(&self, mut keep: impl FnMut(&K, &V) -> bool) {
        let mut panics = Panics::default();
        let engine = self.engine();
        let mut found = Vec::new();
        for shard in 0..engine.shards() {
            let mut cursor = 0;
            loop {
                cursor = engine.scan_all(shard, cursor, &mut found);
                for handle in found.drain(..) {
                    if !keep(handle.key(), handle.value()) {
                        panics.catch(|| _ = engine.remove_version(shard, &handle, RemovalCause::Removed));
                    }
                }
                if cursor == 0 {
                    break;
                }
            }
        }
        panics.resume();
    }

    /// Pins the calling thread, for a batch of [`get_in`](Self::get_in) or [`get_multi`](Self::get_multi).
    ///
    /// While a pin lives nothing that is taken out of *any* cache of the process is freed: keep it for microseconds,
    /// not across I/O. A [`Ref`] from [`get`](Self::get) has no such effect.
    ///
    /// ```
    /// let cache = dogpile::Cache::new(10);
    /// cache.insert(1, "one");
    /// let pin = cache.pin();
    /// assert_eq!(*cache.get_in(&1, &pin).unwrap().value(), "one");
    /// ```
    #[must_use]
    pub fn pin(&self) -> Pinned<'_> {
        Pinned::new(Backend::pin())
    }

    /// Checks every invariant of the engine that can be checked at rest. For the fuzzer.
    #[cfg(fuzzing)]
    #[doc(hidden)]
    pub fn validate(&self) {
        self.engine().validate();
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> Cache<K, V, S> {
    #[inline]
    fn hash<Q: ?Sized + Hash>(&self, key: &Q) -> u64 {
        let hash = self.inner.hasher.hash_one(key);
        if self.inner.foreign { mix(hash) } else { hash }
    }

    /// Borrows the value of `key`, if it has a fresh one.
    ///
    /// # Consistency
    /// What is borrowed is the version that was current during the call; it stays as it is while the [`Ref`] lives,
    /// whatever others do. Holding a `Ref` holds up no reader, no writer, and keeps no memory but that of its own entry.
    ///
    /// # Cost
    /// One hash, two dependent loads, no lock, no allocation, no shared write in steady state; the reclamation backend's
    /// pin (crossbeam-epoch: one fence). A thread that holds more than eight at once counts references for the rest.
    ///
    /// ```
    /// let cache = dogpile::Cache::new(10);
    /// cache.insert(String::from("key"), 5);
    /// let five = cache.get("key").unwrap();
    /// cache.remove("key");
    /// assert_eq!(*five, 5, "still borrowed");
    /// assert!(cache.get("key").is_none());
    /// ```
    // As a call it is 14 instructions more: registers are saved, and the answer is tested twice.
    #[inline(always)]
    pub fn get<Q>(&self, key: &Q) -> Option<Ref<'_, K, V>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        self.get_by(self.at_once(key), key)
    }

    /// What is found where all is as usual.
    #[inline(always)]
    fn at_once<Q>(&self, key: &Q) -> AtOnce<'_, K, V, Backend>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        self.engine().get_at_once(self.hash(key), move |own| own.borrow() == key)
    }

    /// What `get` returns, from what was found at once.
    #[inline(always)]
    fn get_by<'c, Q>(&'c self, first: AtOnce<'c, K, V, Backend>, key: &Q) -> Option<Ref<'c, K, V>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        match first {
            AtOnce::Hit(held) => Some(Ref::new(held)),
            AtOnce::Unnoted(shard, held) => self.note_hit(shard, held),
            AtOnce::Miss => None,
            AtOnce::Further => self.get_further(key),
        }
    }

    #[inline(never)]
    fn note_hit<'c>(
        &'c self,
        shard: &'c Shard<K, V>,
        held: Held<'c, CachedValue<K, V>>,
    ) -> Option<Ref<'c, K, V>> {
        self.engine().note_hit(shard, held).map(Ref::new)
    }

    #[inline(never)]
    fn get_further<Q>(&self, key: &Q) -> Option<Ref<'_, K, V>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        self.engine().get_further(self.hash(key), |own| own.borrow() == key).map(Ref::new)
    }

    /// As [`get`](Self::get), without counting a use: neither eviction, nor the time to idle, nor statistics notice.
    ///
    /// ```
    /// let cache = dogpile::Cache::new(10);
    /// cache.insert(1, 1);
    /// assert_eq!(*cache.peek(&1).unwrap(), 1);
    /// assert_eq!(cache.stats().hits, 0);
    /// ```
    #[must_use]
    pub fn peek<Q>(&self, key: &Q) -> Option<Ref<'_, K, V>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        self.engine().peek(self.hash(key), |own| own.borrow() == key).map(Ref::new)
    }

    /// A clone of the value of `key`, if it has a fresh one.
    ///
    /// ```
    /// let cache = dogpile::Cache::new(10);
    /// cache.insert("key", 5);
    /// assert_eq!(cache.get_cloned("key"), Some(5));
    /// ```
    #[inline]
    #[must_use]
    pub fn get_cloned<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
        V: Clone,
    {
        // Held, not only pinned: a slow `clone` must not hold up reclamation.
        self.get(key).map(|value| value.clone())
    }

    /// A counted pointer to the entry of `key`, if it has a fresh one: it crosses threads and awaits.
    ///
    /// # Cost
    /// As [`get`](Self::get), and one atomic increment. On a key that many threads read at once prefer `get`.
    ///
    /// ```
    /// let cache = dogpile::Cache::new(10);
    /// cache.insert("key", 5);
    /// let five = cache.get_handle("key").unwrap();
    /// drop(cache);
    /// std::thread::spawn(move || assert_eq!(*five, 5)).join().unwrap();
    /// ```
    #[inline]
    #[must_use]
    pub fn get_handle<Q>(&self, key: &Q) -> Option<Handle<K, V>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        let pin = Backend::pin();
        let node = self.engine().get_in(self.hash(key), move |own| own.borrow() == key, &pin)?;
        Some(Handle::share(node))
    }

    /// Whether `key` has a fresh entry. Counts no use.
    ///
    /// ```
    /// let cache = dogpile::Cache::new(10);
    /// cache.insert(1, 1);
    /// assert!(cache.contains_key(&1) && !cache.contains_key(&2));
    /// ```
    #[must_use]
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        let pin = Backend::pin();
        self.engine().look(self.hash(key), |own| own.borrow() == key, &pin).is_some()
    }

    /// As [`get`](Self::get), under a pin of the caller's: the cheapest read there is, for several in a row.
    ///
    /// ```
    /// let cache = dogpile::Cache::new(10);
    /// (0..4).for_each(|i| { cache.insert(i, i); });
    /// let pin = cache.pin();
    /// let sum: i32 = (0..4).filter_map(|i| cache.get_in(&i, &pin)).map(|entry| entry.value()).sum();
    /// assert_eq!(sum, 6);
    /// ```
    #[inline]
    #[must_use]
    pub fn get_in<'p, Q>(&'p self, key: &Q, pin: &'p Pinned<'_>) -> Option<&'p CachedValue<K, V>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        let found = self.engine().get_in(self.hash(key), move |own| own.borrow() == key, pin.backend())?;
        Some(found.get())
    }

    /// Looks many keys up, in order, with their memory fetched ahead: for tables that exceed the processor's caches.
    ///
    /// # Cost
    /// As [`get_in`](Self::get_in) for each key, without an allocation. In tables of 512 KiB and more, 32 keys at a
    /// time are drawn from `keys`, and misses of the processor's caches overlap among them.
    ///
    /// ```
    /// let cache = dogpile::Cache::new(10);
    /// (0..4).for_each(|i| { cache.insert(i, i * 10); });
    /// let pin = cache.pin();
    /// let found: Vec<_> = cache.get_multi(&[3, 99, 1], &pin).map(|hit| hit.map(|entry| *entry.value())).collect();
    /// assert_eq!(found, [Some(30), None, Some(10)]);
    /// ```
    #[inline]
    pub fn get_multi<'p, Q, I>(&'p self, keys: I, pin: &'p Pinned<'_>) -> Batch<'p, K, V, S, I::IntoIter>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + 'p,
        I: IntoIterator<Item = &'p Q>,
    {
        Batch::new(self, keys.into_iter(), pin)
    }

    /// Stores `value` under `key`, in the place of an older version if there is one.
    ///
    /// Returns nothing if it is stored, and the entry itself if the cache can't keep it: it is heavier than the whole
    /// cache, or the capacity is 0. An older version is gone then, too: it is out of date.
    ///
    /// # Cost
    /// An allocation. A replacement is one compare-exchange; a new key in a bounded cache takes its shard's policy mutex,
    /// which readers never do, and evicts for its room.
    ///
    /// # Panics
    /// If `K`'s `Hash` or `Eq`, the weigher or `expire_after` panics: the cache is as before. If the listener panics, or
    /// has for an earlier entry: the value is stored.
    ///
    /// ```
    /// let cache = dogpile::Cache::new(2);
    /// assert!(cache.insert("key", 1).is_none(), "stored");
    /// assert!(cache.insert("key", 2).is_none(), "replaced");
    /// assert_eq!(cache.get_cloned("key"), Some(2));
    /// ```
    pub fn insert(&self, key: K, value: V) -> Option<Handle<K, V>> {
        let hash = self.hash(&key);
        let (put, overtaken) = self.engine().put(hash, key, value)?;
        self.overtake(overtaken);
        match put {
            Put::Refused(handle) => Some(handle),
            Put::Added | Put::Replaced(_) | Put::Present { .. } => None,
        }
    }

    /// As [`insert`](Self::insert), with a time to live or a weight of the entry's own, and a full answer.
    ///
    /// ```
    /// use dogpile::{Cache, InsertOptions, Inserted};
    ///
    /// let cache = Cache::new(2);
    /// cache.insert("key", 1);
    /// match cache.insert_with("key", 2, InsertOptions::new()) {
    ///     Inserted::Replaced(old) => assert_eq!(*old, 1),
    ///     other => panic!("the key was there: {other:?}"),
    /// }
    /// ```
    pub fn insert_with(&self, key: K, value: V, options: InsertOptions) -> Inserted<K, V> {
        let hash = self.hash(&key);
        self.put(hash, key, value, options, Mode::Always { tell_old: true }).into()
    }

    fn put(&self, hash: u64, key: K, value: V, options: InsertOptions, mode: Mode) -> Put<K, V> {
        let (put, overtaken) = self.engine().insert(hash, key, value, options.ttl, options.weight, mode);
        self.overtake(overtaken);
        put
    }

    /// Gives those who wait for a creation what was put in meanwhile (M10).
    fn overtake(&self, overtaken: Overtaken<K, V>) {
        if let Some((old, newer)) = overtaken {
            self.flights().overtake(old.entry().gate(), || Outcome::Value(newer));
        }
    }

    /// Stores `value` if `key` has no fresh entry. Of several threads that try at once one succeeds.
    ///
    /// An expired entry is no obstacle: it is replaced.
    ///
    /// ```
    /// let cache = dogpile::Cache::new(10);
    /// assert!(cache.insert_if_absent("key", 1).is_stored());
    /// assert!(!cache.insert_if_absent("key", 2).is_stored());
    /// assert_eq!(cache.get_cloned("key"), Some(1));
    /// ```
    pub fn insert_if_absent(&self, key: K, value: V) -> Inserted<K, V> {
        self.insert_if_absent_with(key, value, InsertOptions::new())
    }

    /// As [`insert_if_absent`](Self::insert_if_absent), with a time to live or a weight of the entry's own.
    ///
    /// ```
    /// use dogpile::{Cache, InsertOptions};
    /// use std::time::Duration;
    ///
    /// let cache = Cache::new(10);
    /// let lock = |holder| cache.insert_if_absent_with("lock", holder, InsertOptions::new().ttl(Duration::from_secs(5)));
    /// assert!(lock("me").is_stored());
    /// assert!(!lock("you").is_stored());
    /// ```
    pub fn insert_if_absent_with(&self, key: K, value: V, options: InsertOptions) -> Inserted<K, V> {
        let hash = self.hash(&key);
        self.put(hash, key, value, options, Mode::IfAbsent).into()
    }

    /// Decides what becomes of `key` from what it has: atomic for the key.
    ///
    /// `decide` gets the fresh value, if there is one. If the entry changes before its word can be carried out, it is
    /// asked again; so it should have no other effect than its answer. It runs under a pin: not the place for I/O.
    ///
    /// Returns the entry that the key had in the moment of its decision: what was kept, or put. If `decide` said `Put` and
    /// the cache can't keep the value, that value.
    ///
    /// ```
    /// use dogpile::{Cache, Compute};
    ///
    /// let visits = Cache::new(10);
    /// for _ in 0..3 {
    ///     visits.compute("page", |old| Compute::Put(old.copied().unwrap_or(0) + 1));
    /// }
    /// assert_eq!(visits.get_cloned("page"), Some(3));
    /// visits.compute("page", |old| if old == Some(&3) { Compute::Remove } else { Compute::Keep });
    /// assert!(visits.is_empty());
    /// ```
    pub fn compute(&self, key: K, decide: impl FnMut(Option<&V>) -> Compute<V>) -> Option<Handle<K, V>> {
        self.compute_with(key, InsertOptions::new(), decide)
    }

    /// As [`compute`](Self::compute), with options for what is put.
    ///
    /// ```
    /// use dogpile::{Cache, Compute, InsertOptions};
    /// use std::time::Duration;
    ///
    /// let cache = Cache::unbounded();
    /// let minute = InsertOptions::new().ttl(Duration::from_secs(60));
    /// cache.compute_with("key", minute, |old| if old.is_none() { Compute::Put(1) } else { Compute::Keep });
    /// assert!(cache.get("key").unwrap().entry().expires_at().is_some());
    /// ```
    pub fn compute_with(
        &self,
        key: K,
        options: InsertOptions,
        mut decide: impl FnMut(Option<&V>) -> Compute<V>,
    ) -> Option<Handle<K, V>> {
        let hash = self.hash(&key);
        let step = |old: Option<&V>| match decide(old) {
            Compute::Keep => Step::Keep,
            Compute::Put(value) => Step::Put(value),
            Compute::Remove => Step::Remove,
        };
        let (result, overtaken) = self.engine().compute(hash, key, options.ttl, options.weight, step);
        self.overtake(overtaken);
        result
    }

    /// Takes the entry of `key` out and returns it, if it was fresh. A value that is just being made for it goes to those who
    /// wait for it, and not into the cache.
    ///
    /// ```
    /// let cache = dogpile::Cache::new(10);
    /// cache.insert("key", 1);
    /// assert_eq!(*cache.remove("key").unwrap(), 1);
    /// assert!(cache.remove("key").is_none());
    /// ```
    pub fn remove<Q>(&self, key: &Q) -> Option<Handle<K, V>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        self.engine().remove_if(self.hash(key), |own| own.borrow() == key, |_| true)
    }

    /// Takes the entry of `key` out if `condition` holds, and returns it if it was fresh: atomic for the key.
    ///
    /// If the entry changes before it could be taken out, `condition` is asked again. It is asked of a stale value, too, as
    /// long as that is there. It runs under a pin. A creation of the key's first value goes on.
    ///
    /// ```
    /// let cache = dogpile::Cache::new(10);
    /// cache.insert("key", 1);
    /// assert!(cache.remove_if("key", |_, value| *value > 1).is_none());
    /// assert!(cache.remove_if("key", |_, value| *value == 1).is_some());
    /// ```
    pub fn remove_if<Q>(&self, key: &Q, mut condition: impl FnMut(&K, &V) -> bool) -> Option<Handle<K, V>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        let eq = |own: &K| own.borrow() == key;
        let mut holds = |entry: &CachedValue<K, V>| condition(entry.key(), entry.value());
        self.engine().remove_if(self.hash(key), eq, |entry| entry.is_some_and(&mut holds))
    }

    /// Starts the entry's times anew: the time to live that the cache gives its entries, and the time to idle. False:
    /// there is no fresh entry. Does not count as a new version.
    ///
    /// ```
    /// use dogpile::{Cache, time::ManualClock};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let cache = Cache::builder().time_to_live(Duration::from_secs(2)).clock(clock.clone()).build()?;
    /// cache.insert("key", 1);
    /// clock.advance(Duration::from_secs(1));
    /// assert!(cache.touch("key"));
    /// clock.advance(Duration::from_secs(1));
    /// assert!(cache.contains_key("key"));
    /// # Ok::<(), dogpile::BuildError>(())
    /// ```
    pub fn touch<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        self.engine().touch(self.hash(key), |own| own.borrow() == key)
    }

    /// Lets the entry of `key` expire after `span`; `None`: never. False: there is no fresh entry, and nothing happens.
    ///
    /// Zero makes it expire at once. Does not count as a new version.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let cache = dogpile::Cache::new(10);
    /// cache.insert("key", 1);
    /// assert!(cache.expire_in("key", Some(Duration::ZERO)));
    /// assert!(!cache.contains_key("key"));
    /// assert!(!cache.expire_in("key", None), "too late");
    /// ```
    pub fn expire_in<Q>(&self, key: &Q, span: Option<Duration>) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        let lifetimes = self.engine().lifetimes();
        self.engine().set_expiry(
            self.hash(key),
            |own| own.borrow() == key,
            |_| span.map_or(Instant::FAR_FUTURE, |span| lifetimes.deadline(span)),
        )
    }

    /// Lets the entry of `key` expire at `instant` on the cache's [`clock`](Self::clock); `None`: never. False: there is
    /// no fresh entry, and nothing happens.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let cache = dogpile::Cache::new(10);
    /// cache.insert("key", 1);
    /// let soon = cache.clock().now().saturating_add(Duration::from_secs(60));
    /// assert!(cache.expire_at("key", Some(soon)));
    /// assert_eq!(cache.get("key").unwrap().entry().expires_at(), Some(soon));
    /// ```
    pub fn expire_at<Q>(&self, key: &Q, instant: Option<Instant>) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        let at = instant.unwrap_or(Instant::FAR_FUTURE);
        self.engine().set_expiry(self.hash(key), |own| own.borrow() == key, |_| at)
    }
}

impl<K, V> From<Put<K, V>> for Inserted<K, V> {
    fn from(put: Put<K, V>) -> Self {
        match put {
            Put::Replaced(Some(old)) => Self::Replaced(old),
            Put::Added | Put::Replaced(None) => Self::Added,
            Put::Present { existing, rejected } => Self::Present { existing, rejected },
            Put::Refused(entry) => Self::Refused(entry),
        }
    }
}

impl<K, V, S> Clone for Cache<K, V, S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K, V, S> fmt::Debug for Cache<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No keys, no values: they may be secrets.
        f.debug_struct("Cache")
            .field("len", &self.len())
            .field("weight", &self.weight())
            .field("capacity", &self.capacity())
            .field("shards", &self.shards())
            .finish_non_exhaustive()
    }
}

impl<'c, K, V, S> IntoIterator for &'c Cache<K, V, S> {
    type Item = Handle<K, V>;
    type IntoIter = Iter<'c, K, V, S>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

// User code that panics inside the cache leaves it as it was: no state is half-way where user code runs.
impl<K, V, S> UnwindSafe for Cache<K, V, S> {}
impl<K, V, S> RefUnwindSafe for Cache<K, V, S> {}

impl<K: Eq + Hash, V, S: BuildHasher> Extend<(K, V)> for &Cache<K, V, S> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}
