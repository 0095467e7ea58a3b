//! Getting values that are made on demand: [`With`], and the same methods on [`Cache`] by its own policy.
//!
//! A hit is `get`. All else goes to the gate, as a future that threads run by parking (`gate::block_on`).
#![forbid(unsafe_code)]

use super::entry::{Entries, Entry, Shared, Standing, judge};
use super::{Cache, Ref};
use crate::engine::{AtOnce, Backend, Event, Handle, Made};
use crate::error::{CreateError, LoadError};
use crate::gate::{
    Alarm, Borrowed, Boxed, Creator, Detached, Freshness, Order, Policy, Sleep, Usable, block_on, drive,
    drive_many,
};
use crate::hash::RandomState;
use crate::sync::Arc;
use std::borrow::Borrow;
use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::pin::pin;
use std::time::Duration;

/// What a cache makes its values with.
pub(super) enum Loader<K, V> {
    Blocking(Arc<dyn Fn(&K) -> Result<V, LoadError> + Send + Sync>),
    Async(Arc<dyn Fn(K) -> Boxed<V, LoadError> + Send + Sync>),
}

/// A cache, seen under a policy: [`Cache::with`].
///
/// Its methods are those of the cache, by that policy. A copy of two references.
#[must_use = "it does nothing by itself"]
pub struct With<'c, K, V, S = RandomState> {
    cache: &'c Cache<K, V, S>,
    policy: &'c Policy<V>,
}

impl<K, V, S> Clone for With<'_, K, V, S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, V, S> Copy for With<'_, K, V, S> {}

impl<K, V, S> fmt::Debug for With<'_, K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("With").field("cache", &self.cache).field("policy", &self.policy).finish()
    }
}

/// A caller that asks for what it is making can't get it, and a verb that can't fail can't say so.
#[cold]
fn reentrant<K, V, S>(cache: &Cache<K, V, S>, claim: Option<&Handle<K, V>>) -> ! {
    let leader = claim.and_then(|claim| cache.flights().leader(claim.entry().gate()));
    let thread = leader.map(|leader| leader.thread);
    let name = thread.as_ref().and_then(|thread| thread.name()).unwrap_or("unnamed");
    panic!(
        "re-entrant creation: the creator asks for the value that it is making, or waits in a circle with others \
         (a flight of {cache:?}, led by the thread `{name}`); try_get_or_create returns this as an error"
    )
}

impl<'c, K: Hash + Eq, V, S: BuildHasher> With<'c, K, V, S> {
    pub(super) fn new(cache: &'c Cache<K, V, S>, policy: &'c Policy<V>) -> Self {
        Self { cache, policy }
    }

    fn entry<'q, Q>(self, key: &'q Q) -> Entry<'q, K, V, Backend, Q>
    where
        'c: 'q,
        Q: ?Sized + Hash,
    {
        let hash = self.cache.hash(key);
        Entry {
            engine: self.cache.engine(),
            flights: self.cache.flights(),
            policy: self.policy,
            hash,
            key,
            force: false,
        }
    }

    fn order(self) -> Order {
        Order::of(self.policy)
    }

    /// A hit that needs no further thought.
    fn hit<Q>(self, key: &Q) -> Option<Ref<'c, K, V>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        self.hit_by(self.cache.at_once(key), key)
    }

    /// The same, from what was found at once.
    fn hit_by<Q>(self, first: AtOnce<'c, K, V, Backend>, key: &Q) -> Option<Ref<'c, K, V>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        self.cache.get_by(first, key).filter(|hit| self.policy.early.is_none() || !self.is_due(hit))
    }

    /// Whether the caller should make a fresh value anew, ahead of its time.
    #[cold]
    #[inline(never)]
    fn is_due(self, hit: &Ref<'_, K, V>) -> bool {
        let standing = judge(hit.entry(), self.policy, || self.cache.engine().lifetimes().now());
        matches!(standing, Standing::Usable { from: Some(_), .. })
    }

    /// What can be returned at once: without a lock, without a wait, and without leading.
    #[inline(never)]
    fn served<Q>(self, key: &Q) -> Option<Ref<'c, K, V>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        if !self.policy.serves_stale() && self.policy.early.is_none() {
            return None;
        }
        let engine = self.cache.engine();
        let held = engine.seek(self.cache.hash(key), |own| own.borrow() == key)?;
        match judge(held.get(), self.policy, || engine.lifetimes().now()) {
            Standing::Fresh => Some(Ref::new(held)),
            Standing::Usable { from, state } => {
                let leads = from.is_some() && self.policy.freshness != Freshness::CacheOnly;
                let serves = !leads && self.order().takes(state);
                if serves && state != Usable::Due {
                    engine.count(Event::StaleServed);
                }
                serves.then(|| Ref::new(held))
            }
            _ => None,
        }
    }

    fn counted(handle: Handle<K, V>) -> Ref<'c, K, V> {
        Ref::new(handle.into_held())
    }

    /// A value for its caller only.
    fn unstored<Q>(self, key: &Q, value: V) -> Handle<K, V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        let made = Made { value, fresh: self.policy.fresh, cut: 0.0, took: None };
        Handle::new(self.cache.engine().make(self.cache.hash(key), key.to_owned(), made))
    }

    fn reentrant<Q>(self, key: &Q) -> !
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        let held = self.cache.engine().seek(self.cache.hash(key), |own| own.borrow() == key);
        reentrant(self.cache, held.map(|held| Handle::share(held.shared())).as_ref())
    }

    /// As [`Cache::get_or_create`], by this policy.
    #[inline(always)]
    pub fn get_or_create<Q>(self, key: &Q, creator: impl FnOnce() -> V) -> Ref<'c, K, V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        match self.cache.at_once(key) {
            AtOnce::Hit(held) if self.policy.early.is_none() => Ref::new(held),
            first => self.get_further(first, key, creator),
        }
    }

    /// What `get_or_create` does unless all is as usual. `first`: what it found.
    #[inline(never)]
    fn get_further<Q>(
        self,
        first: AtOnce<'c, K, V, Backend>,
        key: &Q,
        creator: impl FnOnce() -> V,
    ) -> Ref<'c, K, V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        match self.hit_by(first, key) {
            Some(hit) => hit,
            None => self.create(key, creator),
        }
    }

    #[cold]
    #[inline(never)]
    fn create<Q>(self, key: &Q, creator: impl FnOnce() -> V) -> Ref<'c, K, V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        if let Some(served) = self.served(key) {
            return served;
        }
        let mut creator = Some(creator);
        let mut run = || (creator.take().expect("a creator runs once"))();
        let driven = {
            let make = pin!(Some(async { run() }));
            self.drive_blocking(key, &mut Borrowed::infallible(make))
        };
        match driven {
            Ok(handle) => Self::counted(handle),
            Err(CreateError::Reentrant) => self.reentrant(key),
            Err(_) => Self::counted(self.unstored(key, run())),
        }
    }

    /// As [`Cache::try_get_or_create`], by this policy.
    #[inline(always)]
    pub fn try_get_or_create<Q, E>(
        self,
        key: &Q,
        creator: impl FnOnce() -> Result<V, E>,
    ) -> Result<Ref<'c, K, V>, CreateError<E>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
        E: Send + Sync + 'static,
    {
        match self.cache.at_once(key) {
            AtOnce::Hit(held) if self.policy.early.is_none() => Ok(Ref::new(held)),
            first => self.try_get_further(first, key, creator),
        }
    }

    /// As `get_further`.
    #[inline(never)]
    fn try_get_further<Q, E>(
        self,
        first: AtOnce<'c, K, V, Backend>,
        key: &Q,
        creator: impl FnOnce() -> Result<V, E>,
    ) -> Result<Ref<'c, K, V>, CreateError<E>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
        E: Send + Sync + 'static,
    {
        match self.hit_by(first, key) {
            Some(hit) => Ok(hit),
            None => self.try_create(key, creator),
        }
    }

    #[cold]
    #[inline(never)]
    fn try_create<Q, E>(
        self,
        key: &Q,
        creator: impl FnOnce() -> Result<V, E>,
    ) -> Result<Ref<'c, K, V>, CreateError<E>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
        E: Send + Sync + 'static,
    {
        if let Some(served) = self.served(key) {
            return Ok(served);
        }
        let make = pin!(Some(async move { creator() }));
        self.drive_blocking(key, &mut Borrowed::new(make)).map(Self::counted)
    }

    fn drive_blocking<'q, Q, C, E>(self, key: &'q Q, creator: &mut C) -> Result<Handle<K, V>, CreateError<E>>
    where
        'c: 'q,
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
        C: Creator<Entries<K, V>, Entry<'q, K, V, Backend, Q>, E>,
        E: Send + Sync + 'static,
    {
        let entry = self.entry(key);
        block_on(|parker| {
            let parker = Arc::clone(parker);
            drive(entry, self.order(), creator, move |span| Alarm::after(&parker, span))
        })
    }

    fn timer(self) -> impl Fn(Duration) -> Sleep {
        move |span| self.policy.timer.sleep(span)
    }

    /// A hit, or what can be served at once, for a task.
    fn found<Q>(self, key: &Q) -> Option<Handle<K, V>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        self.hit(key).or_else(|| self.served(key)).map(|found| found.to_handle())
    }

    /// As [`Cache::get_or_create_async`], by this policy.
    pub async fn get_or_create_async<Q>(self, key: &Q, creator: impl Future<Output = V>) -> Handle<K, V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        if let Some(found) = self.found(key) {
            return found;
        }
        let mut creator = pin!(Some(creator));
        let driven = {
            let mut borrowed = Borrowed::infallible(creator.as_mut());
            drive(self.entry(key), self.order(), &mut borrowed, self.timer()).await
        };
        match driven {
            Ok(handle) => handle,
            Err(CreateError::Reentrant) => self.reentrant(key),
            Err(_) => {
                let value = creator.as_pin_mut().expect("it has not been polled").await;
                self.unstored(key, value)
            }
        }
    }

    /// As [`Cache::try_get_or_create_async`], by this policy.
    ///
    /// # Errors
    /// As there.
    pub async fn try_get_or_create_async<Q, E>(
        self,
        key: &Q,
        creator: impl Future<Output = Result<V, E>>,
    ) -> Result<Handle<K, V>, CreateError<E>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
        E: Send + Sync + 'static,
    {
        if let Some(found) = self.found(key) {
            return Ok(found);
        }
        let creator = pin!(Some(creator));
        drive(self.entry(key), self.order(), &mut Borrowed::new(creator), self.timer()).await
    }

    /// What is there of a batch, used as by single reads.
    fn hits<Q>(self, keys: &[&Q]) -> Vec<Option<Handle<K, V>>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        keys.iter().map(|key| self.hit(*key).map(|hit| hit.to_handle())).collect()
    }

    fn entries<'q, Q>(self, keys: &[&'q Q]) -> Vec<Entry<'q, K, V, Backend, Q>>
    where
        'c: 'q,
        Q: ?Sized + Hash,
    {
        keys.iter().map(|key| self.entry(*key)).collect()
    }

    /// As [`Cache::get_or_create_multi`], by this policy.
    pub fn get_or_create_multi<'q, Q>(
        self,
        keys: impl IntoIterator<Item = &'q Q>,
        creator: impl FnMut(&[&'q Q]) -> Vec<V>,
    ) -> Vec<Handle<K, V>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K> + 'q,
    {
        let keys: Vec<&Q> = keys.into_iter().collect();
        let mut found = self.hits(&keys);
        // Runs when it is polled, so that what it leads is known while it runs.
        let creator = RefCell::new(creator);
        let make = |asked: Vec<usize>| {
            let asked: Vec<&Q> = asked.into_iter().map(|i| keys[i]).collect();
            let creator = &creator;
            async move { Ok::<_, Infallible>((creator.borrow_mut())(&asked)) }
        };
        let driven = block_on(|parker| {
            let parker = Arc::clone(parker);
            let entries = self.entries(&keys);
            let order = self.order();
            let found = &mut found;
            async move { drive_many(&entries, order, found, make, move |span| Alarm::after(&parker, span)).await }
        });
        if let Err(error) = driven {
            let lacking = self.lacking(&keys, &found, error);
            let made = (creator.borrow_mut())(&lacking.iter().map(|i| keys[*i]).collect::<Vec<_>>());
            self.fill(&keys, &mut found, &lacking, made);
        }
        found.into_iter().map(|found| found.expect("every key was found or made")).collect()
    }

    /// The keys that a batch which can't fail must make for itself.
    fn lacking<Q>(
        self,
        keys: &[&Q],
        found: &[Option<Handle<K, V>>],
        error: CreateError<Infallible>,
    ) -> Vec<usize>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        let lacking: Vec<usize> = (0..keys.len()).filter(|i| found[*i].is_none()).collect();
        match error {
            CreateError::Reentrant => self.reentrant(keys[lacking[0]]),
            CreateError::WrongCount { .. } => panic!("{error}"),
            _ => lacking,
        }
    }

    fn fill<Q>(self, keys: &[&Q], found: &mut [Option<Handle<K, V>>], lacking: &[usize], made: Vec<V>)
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        let (asked, returned) = (lacking.len(), made.len());
        assert!(asked == returned, "{}", CreateError::<Infallible>::WrongCount { asked, made: returned });
        for (i, value) in lacking.iter().zip(made) {
            found[*i] = Some(self.unstored(keys[*i], value));
        }
    }

    /// As [`Cache::try_get_or_create_multi`], by this policy.
    ///
    /// # Errors
    /// As there.
    pub fn try_get_or_create_multi<'q, Q, E>(
        self,
        keys: impl IntoIterator<Item = &'q Q>,
        creator: impl FnMut(&[&'q Q]) -> Result<Vec<V>, E>,
    ) -> Result<Vec<Handle<K, V>>, CreateError<E>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K> + 'q,
        E: Send + Sync + 'static,
    {
        let keys: Vec<&Q> = keys.into_iter().collect();
        let mut found = self.hits(&keys);
        let creator = RefCell::new(creator);
        let make = |asked: Vec<usize>| {
            let asked: Vec<&Q> = asked.into_iter().map(|i| keys[i]).collect();
            let creator = &creator;
            async move { (creator.borrow_mut())(&asked) }
        };
        block_on(|parker| {
            let parker = Arc::clone(parker);
            let entries = self.entries(&keys);
            let order = self.order();
            let found = &mut found;
            async move { drive_many(&entries, order, found, make, move |span| Alarm::after(&parker, span)).await }
        })?;
        Ok(found.into_iter().map(|found| found.expect("every key was found or made")).collect())
    }

    /// As [`Cache::get_or_create_multi_async`], by this policy.
    pub async fn get_or_create_multi_async<'q, Q, F>(
        self,
        keys: impl IntoIterator<Item = &'q Q>,
        mut creator: impl FnMut(Vec<&'q Q>) -> F,
    ) -> Vec<Handle<K, V>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K> + 'q,
        F: Future<Output = Vec<V>>,
    {
        let keys: Vec<&Q> = keys.into_iter().collect();
        let mut found = self.hits(&keys);
        let driven = {
            let make = |asked: Vec<usize>| {
                let creation = creator(asked.into_iter().map(|i| keys[i]).collect());
                async move { Ok::<_, Infallible>(creation.await) }
            };
            drive_many(&self.entries(&keys), self.order(), &mut found, make, self.timer()).await
        };
        if let Err(error) = driven {
            let lacking = self.lacking(&keys, &found, error);
            let made = creator(lacking.iter().map(|i| keys[*i]).collect()).await;
            self.fill(&keys, &mut found, &lacking, made);
        }
        found.into_iter().map(|found| found.expect("every key was found or made")).collect()
    }

    /// As [`Cache::try_get_or_create_multi_async`], by this policy.
    ///
    /// # Errors
    /// As there.
    pub async fn try_get_or_create_multi_async<'q, Q, F, E>(
        self,
        keys: impl IntoIterator<Item = &'q Q>,
        mut creator: impl FnMut(Vec<&'q Q>) -> F,
    ) -> Result<Vec<Handle<K, V>>, CreateError<E>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K> + 'q,
        F: Future<Output = Result<Vec<V>, E>>,
        E: Send + Sync + 'static,
    {
        let keys: Vec<&Q> = keys.into_iter().collect();
        let mut found = self.hits(&keys);
        let make = |asked: Vec<usize>| creator(asked.into_iter().map(|i| keys[i]).collect());
        drive_many(&self.entries(&keys), self.order(), &mut found, make, self.timer()).await?;
        Ok(found.into_iter().map(|found| found.expect("every key was found or made")).collect())
    }
}

/// Creators that may outlive their caller.
impl<'c, K, V, S> With<'c, K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    fn detached<E>(self, make: Boxed<V, E>, blocks: bool) -> Detached<V, E> {
        Detached::new(make, &self.policy.runner, blocks)
    }

    fn shared<Q>(self, key: &Q, force: bool) -> Shared<K, V, S>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        Shared::new(self.cache, self.policy, self.cache.hash(key), key.to_owned(), force)
    }

    fn drive_shared<E: Send + Sync + 'static>(
        self,
        shared: Shared<K, V, S>,
        mut creator: Detached<V, E>,
    ) -> Result<Ref<'c, K, V>, CreateError<E>> {
        let driven = block_on(|parker| {
            let parker = Arc::clone(parker);
            drive(shared, self.order(), &mut creator, move |span| Alarm::after(&parker, span))
        });
        driven.map(Self::counted)
    }

    /// As [`Cache::get_or_create_detached`], by this policy.
    pub fn get_or_create_detached<Q>(
        self,
        key: &Q,
        creator: impl FnOnce() -> V + Send + 'static,
    ) -> Ref<'c, K, V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        if let Some(found) = self.hit(key).or_else(|| self.served(key)) {
            return found;
        }
        let mut detached = self.detached(Box::pin(async move { Ok::<V, Infallible>(creator()) }), true);
        let shared = self.shared(key, false);
        let driven = block_on(|parker| {
            let parker = Arc::clone(parker);
            drive(shared, self.order(), &mut detached, move |span| Alarm::after(&parker, span))
        });
        match driven {
            Ok(handle) => Self::counted(handle),
            Err(CreateError::Reentrant) => self.reentrant(key),
            Err(_) => {
                let Ok(value) = block_on(|_| &mut detached);
                Self::counted(self.unstored(key, value))
            }
        }
    }

    /// As [`Cache::try_get_or_create_detached`], by this policy.
    ///
    /// # Errors
    /// As there.
    pub fn try_get_or_create_detached<Q, E>(
        self,
        key: &Q,
        creator: impl FnOnce() -> Result<V, E> + Send + 'static,
    ) -> Result<Ref<'c, K, V>, CreateError<E>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
        E: Send + Sync + 'static,
    {
        self.memoised(key, false, || creator)
    }

    /// For `#[cached]`: the creator is prepared where one is needed. `force`: fresh or not.
    #[doc(hidden)]
    pub fn memoised<Q, E, C>(
        self,
        key: &Q,
        force: bool,
        prepare: impl FnOnce() -> C,
    ) -> Result<Ref<'c, K, V>, CreateError<E>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
        C: FnOnce() -> Result<V, E> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let found = if force { None } else { self.hit(key).or_else(|| self.served(key)) };
        match found {
            Some(found) => Ok(found),
            None => {
                let creator = prepare();
                let detached = self.detached(Box::pin(async move { creator() }), true);
                self.drive_shared(self.shared(key, force), detached)
            }
        }
    }

    /// For `#[cached]`: as `memoised`, for tasks.
    #[doc(hidden)]
    pub async fn memoised_async<Q, E, F>(
        self,
        key: &Q,
        force: bool,
        prepare: impl FnOnce() -> F,
    ) -> Result<Handle<K, V>, CreateError<E>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
        F: Future<Output = Result<V, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let found = if force { None } else { self.found(key) };
        if let Some(found) = found {
            return Ok(found);
        }
        let mut detached = self.detached(Box::pin(prepare()), false);
        drive(self.shared(key, force), self.order(), &mut detached, self.timer()).await
    }

    /// As [`Cache::get_or_create_detached_async`], by this policy.
    pub async fn get_or_create_detached_async<Q>(
        self,
        key: &Q,
        creator: impl Future<Output = V> + Send + 'static,
    ) -> Handle<K, V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        if let Some(found) = self.found(key) {
            return found;
        }
        let mut detached = self.detached(Box::pin(async move { Ok::<V, Infallible>(creator.await) }), false);
        match drive(self.shared(key, false), self.order(), &mut detached, self.timer()).await {
            Ok(handle) => handle,
            Err(CreateError::Reentrant) => self.reentrant(key),
            Err(_) => {
                let Ok(value) = detached.await;
                self.unstored(key, value)
            }
        }
    }

    /// As [`Cache::try_get_or_create_detached_async`], by this policy.
    ///
    /// # Errors
    /// As there.
    pub async fn try_get_or_create_detached_async<Q, E>(
        self,
        key: &Q,
        creator: impl Future<Output = Result<V, E>> + Send + 'static,
    ) -> Result<Handle<K, V>, CreateError<E>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
        E: Send + Sync + 'static,
    {
        self.memoised_async(key, false, || creator).await
    }

    /// The loader's creation of a key.
    fn loading(self, shared: &Shared<K, V, S>) -> Option<Detached<V, LoadError>> {
        Some(match self.cache.loader()? {
            Loader::Blocking(loader) => {
                let (loader, shared) = (Arc::clone(loader), shared.clone());
                self.detached(Box::pin(async move { loader(shared.key()) }), true)
            }
            Loader::Async(loader) => {
                let (loader, shared) = (Arc::clone(loader), shared.clone());
                self.detached(Box::pin(async move { loader(shared.key().clone()).await }), false)
            }
        })
    }

    /// As [`Cache::load`], by this policy.
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn load<Q>(self, key: &Q) -> Result<Ref<'c, K, V>, CreateError<LoadError>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        match self.hit(key).or_else(|| self.served(key)) {
            Some(found) => Ok(found),
            None => self.load_by(self.shared(key, false)),
        }
    }

    fn load_by(self, shared: Shared<K, V, S>) -> Result<Ref<'c, K, V>, CreateError<LoadError>> {
        let loading = self.loading(&shared).ok_or(CreateError::NoLoader)?;
        self.drive_shared(shared, loading)
    }

    /// As [`Cache::load_async`], by this policy.
    ///
    /// # Errors
    /// As there.
    pub async fn load_async<Q>(self, key: &Q) -> Result<Handle<K, V>, CreateError<LoadError>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        match self.found(key) {
            Some(found) => Ok(found),
            None => self.load_by_async(self.shared(key, false)).await,
        }
    }

    async fn load_by_async(self, shared: Shared<K, V, S>) -> Result<Handle<K, V>, CreateError<LoadError>> {
        // A blocking loader would hold up its task's thread.
        let mut loading =
            self.loading(&shared).filter(|loading| !loading.blocks()).ok_or(CreateError::NoLoader)?;
        drive(shared, self.order(), &mut loading, self.timer()).await
    }

    /// As [`Cache::refresh`], by this policy.
    ///
    /// # Errors
    /// As there.
    pub fn refresh<Q>(self, key: &Q) -> Result<Ref<'c, K, V>, CreateError<LoadError>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        self.load_by(self.shared(key, true))
    }

    /// As [`Cache::refresh_async`], by this policy.
    ///
    /// # Errors
    /// As there.
    pub async fn refresh_async<Q>(self, key: &Q) -> Result<Handle<K, V>, CreateError<LoadError>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        self.load_by_async(self.shared(key, true)).await
    }
}
