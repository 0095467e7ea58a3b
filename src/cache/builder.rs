//! [`CacheBuilder`].
#![forbid(unsafe_code)]

use super::Cache;
use super::creating::Loader;
use crate::engine::{
    Engine, ExpireAfter, Handle, Lifetimes, Limit, Listener, RemovalCause, Weigher, default_shards,
};
use crate::error::{BuildError, LoadError};
use crate::gate::Policy;
use crate::hash::RandomState;
use crate::sync::Arc;
use crate::time::{Clock, PreciseClock};
use std::any::TypeId;
use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::time::Duration;

/// Times shorter than this are measured by the precise clock, unless a clock is set: the default one's grain would be
/// a large part of them.
const SHORT: Duration = Duration::from_millis(100);

/// The settings of a [`Cache`]: [`Cache::builder`].
///
/// Without a setting: unbounded, no expiry, [`RandomState`], the [`CoarseClock`](crate::time::CoarseClock).
#[must_use = "a builder does nothing until `build` is called"]
pub struct CacheBuilder<K, V, S = RandomState> {
    max_entries: Option<u64>,
    max_weight: Option<u64>,
    weigher: Option<Weigher<K, V>>,
    shards: Option<NonZeroUsize>,
    hasher: S,
    foreign: bool,
    clock: Option<Box<dyn Clock>>,
    time_to_live: Option<Duration>,
    time_to_idle: Option<Duration>,
    expire_after: Option<ExpireAfter<K, V>>,
    listener: Option<Listener<K, V>>,
    initial_capacity: usize,
    policy: Policy<V>,
    loader: Option<Loader<K, V>>,
}

/// Whether a hasher is ahash, ours or the user's own: its hashes come mixed.
fn is_well_mixed<H: 'static>() -> bool {
    [TypeId::of::<RandomState>(), TypeId::of::<ahash::RandomState>()].contains(&TypeId::of::<H>())
}

impl<K, V> CacheBuilder<K, V> {
    pub(super) fn new() -> Self {
        Self {
            max_entries: None,
            max_weight: None,
            weigher: None,
            shards: None,
            hasher: RandomState::new(),
            foreign: false,
            clock: None,
            time_to_live: None,
            time_to_idle: None,
            expire_after: None,
            listener: None,
            initial_capacity: 0,
            policy: Policy::default(),
            loader: None,
        }
    }
}

impl<K, V, S> CacheBuilder<K, V, S> {
    /// How many entries the cache holds at the most. 0: none. Not together with `max_weight`.
    pub fn max_entries(mut self, max_entries: u64) -> Self {
        self.max_entries = Some(max_entries);
        self
    }

    /// How much the entries may weigh together, by the `weigher`. 0: nothing is kept.
    ///
    /// An entry that alone is heavier is refused; one that is not finds room, however the others spread over shards.
    pub fn max_weight(mut self, max_weight: u64) -> Self {
        self.max_weight = Some(max_weight);
        self
    }

    /// What an entry weighs, in the unit of `max_weight`: asked once, when it is inserted. 0 counts as 1.
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Box::new(weigher));
        self
    }

    /// How many shards, rounded up to a power of two, at most 256. Default: from the cores, and so that a bounded cache
    /// has a thousand entries in each if it can.
    ///
    /// More shards let more threads write at once; readers don't notice.
    pub fn shards(mut self, shards: NonZeroUsize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Another hasher. Its hashes are mixed before use (unless it is ahash), so a weak one will do.
    ///
    /// ```
    /// use dogpile::Cache;
    /// use std::hash::{BuildHasherDefault, DefaultHasher};
    ///
    /// let cache = Cache::builder().hasher(BuildHasherDefault::<DefaultHasher>::default()).build()?;
    /// cache.insert(1, 1);
    /// assert!(cache.contains_key(&1));
    /// # Ok::<(), dogpile::BuildError>(())
    /// ```
    pub fn hasher<H: 'static>(self, hasher: H) -> CacheBuilder<K, V, H> {
        let foreign = !is_well_mixed::<H>();
        CacheBuilder {
            max_entries: self.max_entries,
            max_weight: self.max_weight,
            weigher: self.weigher,
            shards: self.shards,
            hasher,
            foreign,
            clock: self.clock,
            time_to_live: self.time_to_live,
            time_to_idle: self.time_to_idle,
            expire_after: self.expire_after,
            listener: self.listener,
            initial_capacity: self.initial_capacity,
            policy: self.policy,
            loader: self.loader,
        }
    }

    /// Another clock: a precise one, or a [`ManualClock`](crate::time::ManualClock) for tests.
    ///
    /// Default: the coarse clock, or the precise one if a time to live or to idle is shorter than 100 ms.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Some(Box::new(clock));
        self
    }

    /// How long an entry lives after it was inserted. Zero: it has expired at once. `Duration::MAX`: for ever.
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = Some(time_to_live);
        self
    }

    /// How long an entry lives after it was last used. May end up to 1/32 of it, and two grains of the clock, early.
    pub fn time_to_idle(mut self, time_to_idle: Duration) -> Self {
        self.time_to_idle = Some(time_to_idle);
        self
    }

    /// How long an entry lives, from its key and value. `None`: as long as `time_to_live` says.
    ///
    /// ```
    /// use dogpile::Cache;
    /// use std::time::Duration;
    ///
    /// let cache = Cache::builder()
    ///     .expire_after(|_: &&str, found: &Option<u32>| found.is_none().then_some(Duration::from_secs(5)))
    ///     .build()?;
    /// cache.insert("nobody", None);
    /// cache.insert("somebody", Some(7));
    /// assert!(cache.get("nobody").unwrap().entry().expires_at().is_some());
    /// assert!(cache.get("somebody").unwrap().entry().expires_at().is_none());
    /// # Ok::<(), dogpile::BuildError>(())
    /// ```
    pub fn expire_after(
        mut self,
        expire_after: impl Fn(&K, &V) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.expire_after = Some(Box::new(expire_after));
        self
    }

    /// Is called with each entry that leaves the cache, and why: by the thread whose call made it leave, at the end of
    /// that call, when nothing is locked. It may use the cache; if what it does makes entries leave, it is called again
    /// from within. If it panics, so does that call, when all is done.
    ///
    /// Entries that a `clear` took are reported when they are freed, which may be later; what is in the cache when it is
    /// dropped, or was cleared and not yet freed, is not.
    ///
    /// ```
    /// use dogpile::{Cache, Handle, RemovalCause};
    /// use std::sync::{Arc, Mutex};
    ///
    /// let gone = Arc::new(Mutex::new(Vec::new()));
    /// let log = Arc::clone(&gone);
    /// let cache = Cache::builder()
    ///     .max_entries(1)
    ///     .listener(move |entry: Handle<i32, &str>, cause| log.lock().unwrap().push((*entry.key(), *entry, cause)))
    ///     .build()?;
    /// cache.insert(1, "a");
    /// cache.insert(1, "b");
    /// cache.insert(2, "c");
    /// assert_eq!(*gone.lock().unwrap(), [(1, "a", RemovalCause::Replaced), (1, "b", RemovalCause::Evicted)]);
    /// # Ok::<(), dogpile::BuildError>(())
    /// ```
    pub fn listener(mut self, listener: impl Fn(Handle<K, V>, RemovalCause) + Send + Sync + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// How many entries to make room for from the start, so that filling the cache moves none. Default: it grows.
    pub fn initial_capacity(mut self, entries: usize) -> Self {
        self.initial_capacity = entries;
        self
    }

    /// How long values are good, and who makes new ones: for [`Cache::get_or_create`] and its kin. Its `fresh` is the
    /// `time_to_live` of everything that is put in, so only one of them can be set.
    pub fn policy(mut self, policy: Policy<V>) -> Self {
        self.policy = policy;
        self
    }

    /// What makes the values, for [`Cache::load`] and [`Cache::refresh`].
    ///
    /// ```
    /// use dogpile::Cache;
    ///
    /// let lengths = Cache::builder().loader(|text: &String| text.len()).build()?;
    /// assert_eq!(*lengths.load("four")?, 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn loader(self, loader: impl Fn(&K) -> V + Send + Sync + 'static) -> Self {
        self.try_loader(move |key| Ok::<V, std::convert::Infallible>(loader(key)))
    }

    /// As [`loader`](Self::loader), for one that can fail.
    pub fn try_loader<E>(mut self, loader: impl Fn(&K) -> Result<V, E> + Send + Sync + 'static) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.loader = Some(Loader::Blocking(Arc::new(move |key| loader(key).map_err(LoadError::new))));
        self
    }

    /// What makes the values, for [`Cache::load_async`] and [`Cache::refresh_async`]. The last loader that is set counts.
    pub fn async_loader<F>(self, loader: impl Fn(K) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = V> + Send + 'static,
    {
        self.try_async_loader(move |key| {
            let loading = loader(key);
            async move { Ok::<V, std::convert::Infallible>(loading.await) }
        })
    }

    /// As [`async_loader`](Self::async_loader), for one that can fail.
    pub fn try_async_loader<F, E>(mut self, loader: impl Fn(K) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.loader = Some(Loader::Async(Arc::new(move |key| {
            let loading = loader(key);
            Box::pin(async move { loading.await.map_err(LoadError::new) })
        })));
        self
    }

    /// The cache.
    ///
    /// # Errors
    /// [`BuildError`] names the settings that contradict each other; nothing is allocated then.
    pub fn build(self) -> Result<Cache<K, V, S>, BuildError> {
        let limit = match (self.max_entries, self.max_weight, &self.weigher) {
            (Some(_), Some(_), _) => return Err(BuildError::TwoLimits),
            (_, Some(_), None) => return Err(BuildError::WeightWithoutWeigher),
            (_, None, Some(_)) => return Err(BuildError::WeigherWithoutWeight),
            (Some(entries), None, None) => Limit::Entries(entries),
            (None, Some(weight), Some(_)) => Limit::Weight(weight),
            (None, None, None) => Limit::None,
        };
        let shards = self.shards.map_or_else(|| default_shards(limit), NonZeroUsize::get);
        let mut policy = self.policy;
        if policy.fresh.is_some() && self.time_to_live.is_some() {
            return Err(BuildError::FreshAndTimeToLive);
        }
        let time_to_live = self.time_to_live.or(policy.fresh);
        // One setting by two names: as the cache's own it comes after `expire_after`, and each call's policy before it.
        policy.fresh = time_to_live;
        let is_short = |time: Option<Duration>| time.is_some_and(|time| time < SHORT);
        let clock = self.clock.or_else(|| {
            let short = is_short(time_to_live) || is_short(self.time_to_idle);
            short.then(|| Box::new(PreciseClock) as Box<dyn Clock>)
        });
        let lifetimes =
            Lifetimes::new(clock, time_to_live, self.time_to_idle, self.expire_after, policy.keep());
        let engine =
            Engine::new(limit, shards, self.initial_capacity, self.weigher, lifetimes, self.listener);
        Ok(Cache::from_parts(engine, self.hasher, self.foreign, policy, self.loader))
    }
}

impl<K, V, S> fmt::Debug for CacheBuilder<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("max_entries", &self.max_entries)
            .field("max_weight", &self.max_weight)
            .field("shards", &self.shards)
            .field("time_to_live", &self.time_to_live)
            .field("time_to_idle", &self.time_to_idle)
            .field("initial_capacity", &self.initial_capacity)
            .finish_non_exhaustive()
    }
}
