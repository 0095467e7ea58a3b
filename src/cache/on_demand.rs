//! The creating methods of [`Cache`], by its own policy.
#![forbid(unsafe_code)]

use super::creating::With;
use super::explain::Explanation;
use super::{Cache, Ref};
use crate::engine::Handle;
use crate::error::{CreateError, LoadError};
use crate::gate::{Policy, is_busy, see};
use std::borrow::Borrow;
use std::future::Future;
use std::hash::{BuildHasher, Hash};

impl<K, V, S> Cache<K, V, S> {
    /// The cache's own policy.
    ///
    /// ```
    /// use dogpile::{Cache, Policy};
    /// use std::time::Duration;
    ///
    /// let policy = Policy::builder().stale(Duration::from_secs(60)).build()?;
    /// let cache = Cache::builder().policy(policy).build()?;
    /// // The same, for impatient callers.
    /// let impatient = cache.policy().to_builder().wait(Duration::from_secs(1)).build()?;
    /// assert_eq!(*cache.with(&impatient).get_or_create(&1, || "one"), "one");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn policy(&self) -> &Policy<V> {
        &self.inner.policy
    }
}

/// # Values made on demand
///
/// All of these find a value, or make it by a *creator*. Of all callers that miss one key at once, threads and tasks
/// alike, one *leads* and runs its creator; the others wait and share what came of it, or get the stale value at once
/// where the [`Policy`] allows it. Creators run outside of every lock, and may use the cache for other keys.
impl<K: Hash + Eq, V, S: BuildHasher> Cache<K, V, S> {
    /// The same cache, by another policy than its own.
    ///
    /// ```
    /// use dogpile::{Cache, CreateError, Freshness, Policy};
    ///
    /// let cache = Cache::<u8, u8>::new(10);
    /// let only = Policy::builder().freshness(Freshness::CacheOnly).build()?;
    /// let found = cache.with(&only).try_get_or_create(&1, || Ok::<_, std::fmt::Error>(1));
    /// assert_eq!(found.unwrap_err(), CreateError::NotCached);
    /// # Ok::<(), dogpile::PolicyError>(())
    /// ```
    pub fn with<'c>(&'c self, policy: &'c Policy<V>) -> With<'c, K, V, S> {
        With::new(self, policy)
    }

    #[inline]
    fn by_own(&self) -> With<'_, K, V, S> {
        With::new(self, self.policy())
    }

    /// Returns the value of `key`, and makes it by `creator` if there is none.
    ///
    /// For creators that can't fail. A value that can't be stored (it is too heavy, or the key was written, removed or
    /// cleared meanwhile) still comes back, to the leader and to all who waited for it.
    ///
    /// # Consistency
    /// For each version of a value at most one creator runs at a time. What is done to the key while it runs wins: the new
    /// value is stored only where the old state still is. A wait that exceeds the policy's `wait`, or two leaders that
    /// panicked, end in a value of the caller's own making, which is not stored.
    ///
    /// # Cost
    /// A hit: as [`get`](Self::get). A stale value that somebody makes anew: two looks, no lock. Leading: two entries
    /// allocated, and some short locks. `key` is cloned by the leader only, once for each entry.
    ///
    /// # Panics
    /// If `creator` does; a waiter leads then. If `creator` asks for `key` itself, or for one whose creator waits for it:
    /// [`try_get_or_create`](Self::try_get_or_create) returns an error for that.
    ///
    /// ```
    /// use dogpile::Cache;
    ///
    /// let pages = Cache::<String, String>::new(100);
    /// let page = pages.get_or_create("/", || String::from("made"));
    /// assert_eq!(*page, "made");
    /// assert_eq!(*pages.get_or_create("/", || unreachable!("it is there")), "made");
    /// ```
    #[inline(always)]
    pub fn get_or_create<Q>(&self, key: &Q, creator: impl FnOnce() -> V) -> Ref<'_, K, V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        self.by_own().get_or_create(key, creator)
    }

    /// Returns the value of `key`, and makes it by `creator` if there is none. The creator may fail, and so may the wait
    /// for another's.
    ///
    /// An error is shared by all who waited for that creator, and not stored unless the policy has an `error_ttl`. A waiter
    /// whose own `E` is of another type takes no notice of it, and leads next.
    ///
    /// # Cost
    /// As [`get_or_create`](Self::get_or_create).
    ///
    /// # Errors
    /// [`CreateError`] tells them apart. The entry is as it was.
    ///
    /// # Panics
    /// If `creator` does.
    ///
    /// ```
    /// use dogpile::{Cache, CreateError};
    ///
    /// let cache = Cache::<String, u32>::new(100);
    /// let parse = |text: &str| cache.try_get_or_create(text, || text.parse::<u32>()).map(|number| *number);
    /// assert_eq!(parse("7")?, 7);
    /// assert!(matches!(parse("seven"), Err(CreateError::Creator(_))));
    ///
    /// let own = cache.try_get_or_create("1", || {
    ///     cache.try_get_or_create("1", || Ok::<_, CreateError<std::fmt::Error>>(1)).map(|one| *one)
    /// });
    /// assert_eq!(own.unwrap_err().creator(), Some(&CreateError::Reentrant));
    /// # Ok::<(), CreateError<std::num::ParseIntError>>(())
    /// ```
    #[inline(always)]
    pub fn try_get_or_create<Q, E>(
        &self,
        key: &Q,
        creator: impl FnOnce() -> Result<V, E>,
    ) -> Result<Ref<'_, K, V>, CreateError<E>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
        E: Send + Sync + 'static,
    {
        self.by_own().try_get_or_create(key, creator)
    }

    /// As [`get_or_create`](Self::get_or_create), for tasks. `creator` is polled only by the leader.
    ///
    /// Needs no runtime, and never polls. The future is `Send` if key, value and creator are.
    ///
    /// # Cancel safety
    /// Dropping the future at any await is safe. A leader's: its creator is dropped where it stands, and a waiter leads with
    /// its own; nothing is stored. A waiter's: it leaves the list, and a lead that it was just given goes on to the next.
    /// A future that was polled once and is then neither polled nor dropped holds its waiters up; a `wait` in the policy
    /// ends that, and so do the `_detached` forms.
    ///
    /// ```
    /// # pollster::block_on(async {
    /// let cache = dogpile::Cache::<String, usize>::new(100);
    /// let length = cache.get_or_create_async("four", async { "four".len() }).await;
    /// assert_eq!(*length, 4);
    /// # })
    /// ```
    pub async fn get_or_create_async<Q>(&self, key: &Q, creator: impl Future<Output = V>) -> Handle<K, V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        self.by_own().get_or_create_async(key, creator).await
    }

    /// As [`try_get_or_create`](Self::try_get_or_create), for tasks.
    ///
    /// # Cancel safety
    /// As [`get_or_create_async`](Self::get_or_create_async).
    ///
    /// # Errors
    /// [`CreateError`] tells them apart.
    ///
    /// ```
    /// # pollster::block_on(async {
    /// let cache = dogpile::Cache::<String, u32>::new(100);
    /// let number = cache.try_get_or_create_async("7", async { "7".parse::<u32>() }).await;
    /// assert_eq!(*number.unwrap(), 7);
    /// # })
    /// ```
    pub async fn try_get_or_create_async<Q, E>(
        &self,
        key: &Q,
        creator: impl Future<Output = Result<V, E>>,
    ) -> Result<Handle<K, V>, CreateError<E>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
        E: Send + Sync + 'static,
    {
        self.by_own().try_get_or_create_async(key, creator).await
    }

    /// Returns the values of many keys, in their order, and makes those that there are not in one call of `creator`.
    ///
    /// `creator` gets the keys it shall make values for, each once, and returns as many values, in that order. What others
    /// are making is not made again, but waited for, when all of this batch's own is stored; so batches may overlap in any
    /// order. Stale values are returned where others make them anew.
    ///
    /// `creator` is called again only if a creation that was waited for was given up by its leader.
    ///
    /// # Panics
    /// If `creator` does, or returns another number of values than it got keys. As
    /// [`get_or_create`](Self::get_or_create) if it asks for keys of the batch.
    ///
    /// ```
    /// let lengths = dogpile::Cache::<String, usize>::new(100);
    /// lengths.insert(String::from("one"), 3);
    /// let found = lengths.get_or_create_multi(["one", "three", "one", "four"], |missing| {
    ///     assert_eq!(missing, ["three", "four"]);
    ///     missing.iter().map(|text| text.len()).collect()
    /// });
    /// assert_eq!(found.iter().map(|length| **length).collect::<Vec<_>>(), [3, 5, 3, 4]);
    /// ```
    pub fn get_or_create_multi<'q, Q>(
        &self,
        keys: impl IntoIterator<Item = &'q Q>,
        creator: impl FnMut(&[&'q Q]) -> Vec<V>,
    ) -> Vec<Handle<K, V>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K> + 'q,
    {
        self.by_own().get_or_create_multi(keys, creator)
    }

    /// As [`get_or_create_multi`](Self::get_or_create_multi), for a creator that may fail.
    ///
    /// # Errors
    /// [`CreateError`] tells them apart. [`WrongCount`](CreateError::WrongCount): nothing of what was made is stored. An
    /// error of the creator is shared by all who waited for any of its keys.
    ///
    /// ```
    /// use dogpile::{Cache, CreateError};
    ///
    /// let cache = Cache::<u32, u32>::new(100);
    /// let error = cache.try_get_or_create_multi(&[1, 2], |_| Ok::<_, std::fmt::Error>(vec![1])).unwrap_err();
    /// assert_eq!(error, CreateError::WrongCount { asked: 2, made: 1 });
    /// ```
    pub fn try_get_or_create_multi<'q, Q, E>(
        &self,
        keys: impl IntoIterator<Item = &'q Q>,
        creator: impl FnMut(&[&'q Q]) -> Result<Vec<V>, E>,
    ) -> Result<Vec<Handle<K, V>>, CreateError<E>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K> + 'q,
        E: Send + Sync + 'static,
    {
        self.by_own().try_get_or_create_multi(keys, creator)
    }

    /// As [`get_or_create_multi`](Self::get_or_create_multi), for tasks.
    ///
    /// # Cancel safety
    /// As [`get_or_create_async`](Self::get_or_create_async), for each key that the batch leads or waits for.
    ///
    /// ```
    /// # pollster::block_on(async {
    /// let squares = dogpile::Cache::<u32, u32>::new(100);
    /// let found = squares
    ///     .get_or_create_multi_async(&[1, 2, 3], |missing| async move { missing.iter().map(|n| *n * *n).collect() })
    ///     .await;
    /// assert_eq!(found.iter().map(|square| **square).sum::<u32>(), 14);
    /// # })
    /// ```
    pub async fn get_or_create_multi_async<'q, Q, F>(
        &self,
        keys: impl IntoIterator<Item = &'q Q>,
        creator: impl FnMut(Vec<&'q Q>) -> F,
    ) -> Vec<Handle<K, V>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K> + 'q,
        F: Future<Output = Vec<V>>,
    {
        self.by_own().get_or_create_multi_async(keys, creator).await
    }

    /// As [`try_get_or_create_multi`](Self::try_get_or_create_multi), for tasks.
    ///
    /// # Cancel safety
    /// As [`get_or_create_multi_async`](Self::get_or_create_multi_async).
    ///
    /// # Errors
    /// As `try_get_or_create_multi`.
    ///
    /// ```
    /// # pollster::block_on(async {
    /// let cache = dogpile::Cache::<u32, u32>::new(100);
    /// let found = cache.try_get_or_create_multi_async(&[1, 2], |_| async { Err("no") }).await;
    /// assert_eq!(found.unwrap_err().creator(), Some(&"no"));
    /// # })
    /// ```
    pub async fn try_get_or_create_multi_async<'q, Q, F, E>(
        &self,
        keys: impl IntoIterator<Item = &'q Q>,
        creator: impl FnMut(Vec<&'q Q>) -> F,
    ) -> Result<Vec<Handle<K, V>>, CreateError<E>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K> + 'q,
        F: Future<Output = Result<Vec<V>, E>>,
        E: Send + Sync + 'static,
    {
        self.by_own().try_get_or_create_multi_async(keys, creator).await
    }

    /// Whether somebody makes a value for `key` just now.
    ///
    /// ```
    /// let cache = dogpile::Cache::<u32, bool>::new(100);
    /// assert!(!cache.key_is_locked(&1));
    /// assert!(*cache.get_or_create(&1, || cache.key_is_locked(&1)));
    /// ```
    #[must_use]
    pub fn key_is_locked<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        let held = self.engine().seek(self.hash(key), |own| own.borrow() == key);
        held.is_some_and(|held| is_busy(see(held.get().gate())))
    }

    /// Tells what `key` has, why it is fresh, stale or missing, and who makes it anew. For people, logs and tests.
    ///
    /// ```
    /// use dogpile::{Cache, EntryState};
    ///
    /// let cache = Cache::<u32, String>::new(100);
    /// assert_eq!(cache.explain(&1).to_string(), "missing: not in the cache");
    /// let told = cache.get_or_create(&1, || cache.explain(&1).to_string());
    /// assert!(told.starts_with("missing: not in the cache; being made since"));
    /// assert_eq!(cache.explain(&1).state, EntryState::Fresh { left: None });
    /// ```
    #[must_use]
    pub fn explain<Q>(&self, key: &Q) -> Explanation
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        let lifetimes = self.engine().lifetimes();
        let held = self.engine().seek(self.hash(key), |own| own.borrow() == key);
        let node = held.as_ref().map(|held| held.get());
        Explanation::new(node, self.flights(), &self.inner.policy, lifetimes.now(), lifetimes.precise())
    }
}

/// # Creators that may outlive their caller
///
/// A loader, given to the builder, or a creator that is `Send + 'static`. Where a stale value is at hand these are run in
/// the background, by the policy's `runner`, and the caller gets the stale value at once, or after `soft_timeout`. Where
/// there is none they run in the foreground.
impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// As [`get_or_create`](Self::get_or_create), with a creator that may outlive the call.
    ///
    /// A creator that borrows does not compile here:
    ///
    /// ```compile_fail,E0597
    /// let cache = dogpile::Cache::<u32, usize>::new(100);
    /// let text = String::from("borrowed");
    /// cache.get_or_create_detached(&1, || text.len());
    /// ```
    ///
    /// One that owns does:
    ///
    /// ```
    /// let cache = dogpile::Cache::<u32, usize>::new(100);
    /// let text = String::from("owned");
    /// assert_eq!(*cache.get_or_create_detached(&1, move || text.len()), 5);
    /// ```
    pub fn get_or_create_detached<Q>(
        &self,
        key: &Q,
        creator: impl FnOnce() -> V + Send + 'static,
    ) -> Ref<'_, K, V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        self.by_own().get_or_create_detached(key, creator)
    }

    /// As [`try_get_or_create`](Self::try_get_or_create), with a creator that may outlive the call.
    ///
    /// # Errors
    /// As there. An error of a creation in the background is not seen by the caller who has the stale value.
    ///
    /// ```
    /// let cache = dogpile::Cache::<u32, u32>::new(100);
    /// assert_eq!(*cache.try_get_or_create_detached(&1, || "7".parse::<u32>()).unwrap(), 7);
    /// ```
    pub fn try_get_or_create_detached<Q, E>(
        &self,
        key: &Q,
        creator: impl FnOnce() -> Result<V, E> + Send + 'static,
    ) -> Result<Ref<'_, K, V>, CreateError<E>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
        E: Send + Sync + 'static,
    {
        self.by_own().try_get_or_create_detached(key, creator)
    }

    /// As [`get_or_create_async`](Self::get_or_create_async), with a creator that may outlive the call.
    ///
    /// ```
    /// # pollster::block_on(async {
    /// let cache = dogpile::Cache::<u32, u32>::new(100);
    /// assert_eq!(*cache.get_or_create_detached_async(&1, async { 7 }).await, 7);
    /// # })
    /// ```
    pub async fn get_or_create_detached_async<Q>(
        &self,
        key: &Q,
        creator: impl Future<Output = V> + Send + 'static,
    ) -> Handle<K, V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        self.by_own().get_or_create_detached_async(key, creator).await
    }

    /// As [`try_get_or_create_async`](Self::try_get_or_create_async), with a creator that may outlive the call.
    ///
    /// # Errors
    /// As [`try_get_or_create_detached`](Self::try_get_or_create_detached).
    ///
    /// ```
    /// # pollster::block_on(async {
    /// let cache = dogpile::Cache::<u32, u32>::new(100);
    /// let found = cache.try_get_or_create_detached_async(&1, async { "7".parse::<u32>() }).await;
    /// assert_eq!(*found.unwrap(), 7);
    /// # })
    /// ```
    pub async fn try_get_or_create_detached_async<Q, E>(
        &self,
        key: &Q,
        creator: impl Future<Output = Result<V, E>> + Send + 'static,
    ) -> Result<Handle<K, V>, CreateError<E>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
        E: Send + Sync + 'static,
    {
        self.by_own().try_get_or_create_detached_async(key, creator).await
    }

    /// Returns the value of `key`, and makes it by the cache's loader if there is none.
    ///
    /// An asynchronous loader is run on the calling thread; one that needs its runtime is for
    /// [`load_async`](Self::load_async).
    ///
    /// # Errors
    /// As [`try_get_or_create`](Self::try_get_or_create); [`CreateError::NoLoader`] if there is none.
    ///
    /// ```
    /// use dogpile::Cache;
    ///
    /// let squares = Cache::builder().max_entries(100).loader(|n: &u64| n * n).build()?;
    /// assert_eq!(*squares.load(&12)?, 144);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn load<Q>(&self, key: &Q) -> Result<Ref<'_, K, V>, CreateError<LoadError>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        self.by_own().load(key)
    }

    /// As [`load`](Self::load), for tasks, by the cache's asynchronous loader.
    ///
    /// # Errors
    /// As `load`; [`CreateError::NoLoader`] also if the loader is a blocking one.
    ///
    /// ```
    /// # pollster::block_on(async {
    /// use dogpile::Cache;
    ///
    /// let squares = Cache::builder().max_entries(100).async_loader(|n: u64| async move { n * n }).build()?;
    /// assert_eq!(*squares.load_async(&12).await?, 144);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap()
    /// ```
    pub async fn load_async<Q>(&self, key: &Q) -> Result<Handle<K, V>, CreateError<LoadError>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        self.by_own().load_async(key).await
    }

    /// Makes the value of `key` anew by the cache's loader, fresh or not, and returns the new one. If somebody is making it
    /// already, waits for that.
    ///
    /// Others get the old value meanwhile.
    ///
    /// # Errors
    /// As [`load`](Self::load). The old value stays.
    ///
    /// ```
    /// use dogpile::Cache;
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// let calls = AtomicU32::new(0);
    /// let cache = Cache::builder().loader(move |_: &()| calls.fetch_add(1, Ordering::Relaxed)).build()?;
    /// assert_eq!((*cache.load(&())?, *cache.load(&())?), (0, 0));
    /// assert_eq!((*cache.refresh(&())?, *cache.load(&())?), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn refresh<Q>(&self, key: &Q) -> Result<Ref<'_, K, V>, CreateError<LoadError>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        self.by_own().refresh(key)
    }

    /// As [`refresh`](Self::refresh), for tasks, by the cache's asynchronous loader.
    ///
    /// # Errors
    /// As [`load_async`](Self::load_async).
    ///
    /// ```
    /// # pollster::block_on(async {
    /// let cache = dogpile::Cache::builder().async_loader(|n: u64| async move { n + 1 }).build()?;
    /// cache.insert(1, 0);
    /// assert_eq!(*cache.refresh_async(&1).await?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap()
    /// ```
    pub async fn refresh_async<Q>(&self, key: &Q) -> Result<Handle<K, V>, CreateError<LoadError>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        self.by_own().refresh_async(key).await
    }
}
