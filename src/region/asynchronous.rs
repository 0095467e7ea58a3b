//! [`AsyncRegion`]: a region for tasks.
#![forbid(unsafe_code)]

use super::call::{Call, Calls, How as Asked};
use super::core::Face;
use super::invalidation::{How, Scope};
use super::item::CachedItem;
use super::options::{GetOptions, SetOptions};
use super::slot::Slot;
use super::{KeyGenerator, Region, RegionBuilder, RegionConfig, RegionExplanation, RegionStats, reentrant};
use crate::backend::{AsyncBackend, Schemes};
use crate::codec::Storable;
use crate::error::{CreateError, Error};
use crate::gate::RegionPolicy;
use crate::sync::{Arc, PlainMutex, lock_plain};
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::time::Duration;

/// A cache with string keys over a backend, for tasks: [`Region`] in futures, for any runtime.
///
/// Creators are futures. Callers of an `AsyncRegion` and of the [`Region`] it was made from join one creation of a key.
///
/// # Cancel safety
/// A future of a leader that is dropped hands the lead to a waiter, or gives it up; the creator's future is dropped where it
/// stands. Of one that writes, the write may be done.
///
/// ```
/// use dogpile::{AsyncRegion, Region};
///
/// static USERS: AsyncRegion = AsyncRegion::new("users");
///
/// # pollster::block_on(async {
/// USERS.configure(Region::builder())?;
/// let ada = USERS.get_or_create("1", async { String::from("Ada") }).await?;
/// assert_eq!(*ada, "Ada");
/// # Ok::<(), dogpile::Error>(())
/// # }).unwrap();
/// ```
pub struct AsyncRegion {
    slot: Slot,
}

impl AsyncRegion {
    /// As [`Region::new`].
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { slot: Slot::new(name) }
    }

    pub(crate) fn of(slot: Slot) -> Self {
        Self { slot }
    }

    /// Settings, one by one; end with [`build_async`](RegionBuilder::build_async).
    pub fn builder() -> RegionBuilder {
        RegionBuilder::new()
    }

    /// As [`Region::in_memory`].
    #[must_use]
    pub fn in_memory() -> Self {
        Self::builder().build_async().expect("the defaults go together")
    }

    /// As [`Region::configure`].
    ///
    /// # Errors
    /// As there.
    pub fn configure(&self, builder: RegionBuilder) -> Result<&Self, Error> {
        let replaces = builder.replaces();
        self.slot.put(builder.named(self.slot.own_name()).core(true)?, replaces)?;
        Ok(self)
    }

    /// As [`Region::from_url`].
    ///
    /// # Errors
    /// As there.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        Self::builder().config(&RegionConfig::from_url(url)?, &Schemes::new())?.build_async()
    }

    /// As [`Region::configure_from_config`].
    ///
    /// # Errors
    /// As there.
    pub fn configure_from_config<K: AsRef<str>, V: Into<crate::backend::Setting>>(
        &self,
        map: impl IntoIterator<Item = (K, V)>,
        prefix: &str,
    ) -> Result<&Self, Error> {
        let config = RegionConfig::from_map(map, prefix)?;
        self.configure(Self::builder().config(&config, &Schemes::new())?)
    }

    /// As [`Region::name`].
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.slot.name()
    }

    /// As [`Region::is_configured`].
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.slot.is_configured()
    }

    /// The backend itself, without proxies.
    ///
    /// # Errors
    /// If the region has not been configured.
    pub fn actual_backend(&self) -> Result<Arc<dyn AsyncBackend>, Error> {
        Ok(Arc::clone(&self.slot.core()?.actual.1))
    }

    /// A copy of the region's own policy, to change it for some calls.
    ///
    /// # Errors
    /// If the region has not been configured.
    ///
    /// ```
    /// use dogpile::AsyncRegion;
    /// use std::time::Duration;
    ///
    /// let region = AsyncRegion::in_memory();
    /// let longer = region.policy()?.to_builder().fresh(Duration::from_secs(3600)).build()?;
    /// assert!(format!("{longer:?}").contains("3600s"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn policy(&self) -> Result<RegionPolicy, Error> {
        Ok(self.slot.core()?.policy.clone())
    }

    /// As [`Region::stats`].
    #[must_use]
    pub fn stats(&self) -> RegionStats {
        self.slot.core().map(|core| core.counts.read()).unwrap_or_default()
    }

    /// The same region for threads. Its operations fail if its backend is for tasks only.
    ///
    /// # Errors
    /// If the region has not been configured.
    pub fn for_threads(&self) -> Result<Region, Error> {
        Ok(Region::of(Slot::of(Arc::clone(&*self.slot.core()?))))
    }

    /// As [`Region::with`].
    pub fn with<'r>(&'r self, policy: &'r RegionPolicy) -> AsyncRegionWith<'r> {
        AsyncRegionWith { region: self, how: Asked { policy: Some(policy), ..Asked::OWN } }
    }

    /// As [`Region::tagged`].
    pub fn tagged<T: Into<String>>(&self, tags: impl IntoIterator<Item = T>) -> AsyncRegionWith<'_> {
        self.own().tagged(tags)
    }

    fn own(&self) -> AsyncRegionWith<'_> {
        AsyncRegionWith { region: self, how: Asked::OWN }
    }

    /// As [`Region::get`].
    ///
    /// # Errors
    /// As there.
    pub async fn get<T: Storable>(&self, key: &str) -> Result<Option<Arc<T>>, Error> {
        self.get_with(key, GetOptions::new()).await
    }

    /// As [`Region::get_with`].
    ///
    /// # Errors
    /// As there.
    pub async fn get_with<T: Storable>(
        &self,
        key: &str,
        options: GetOptions,
    ) -> Result<Option<Arc<T>>, Error> {
        Ok(self.slot.core()?.find(key, options).await?.map(|(_, value)| value))
    }

    /// As [`Region::get_value_metadata`].
    ///
    /// # Errors
    /// As there.
    pub async fn get_value_metadata<T: Storable>(&self, key: &str) -> Result<Option<CachedItem<T>>, Error> {
        self.get_value_metadata_with(key, GetOptions::new()).await
    }

    /// As [`Region::get_value_metadata_with`].
    ///
    /// # Errors
    /// As there.
    pub async fn get_value_metadata_with<T: Storable>(
        &self,
        key: &str,
        options: GetOptions,
    ) -> Result<Option<CachedItem<T>>, Error> {
        let core = self.slot.core()?;
        Ok(core.find(key, options).await?.map(|found| core.metadata(found)))
    }

    /// As [`Region::get_multi`].
    ///
    /// # Errors
    /// As there.
    pub async fn get_multi<T: Storable>(&self, keys: &[&str]) -> Result<Vec<Option<Arc<T>>>, Error> {
        self.get_multi_with(keys, GetOptions::new()).await
    }

    /// As [`Region::get_multi_with`].
    ///
    /// # Errors
    /// As there.
    pub async fn get_multi_with<T: Storable>(
        &self,
        keys: &[&str],
        options: GetOptions,
    ) -> Result<Vec<Option<Arc<T>>>, Error> {
        self.slot.core()?.find_multi(Face::Tasks, keys, options).await
    }

    /// As [`Region::set`].
    ///
    /// # Errors
    /// As there.
    pub async fn set<T: Storable>(&self, key: &str, value: T) -> Result<(), Error> {
        self.set_with(key, value, SetOptions::new()).await.map(drop)
    }

    /// As [`Region::set_with`].
    ///
    /// # Errors
    /// As there.
    pub async fn set_with<T: Storable>(
        &self,
        key: &str,
        value: T,
        options: SetOptions,
    ) -> Result<bool, Error> {
        self.slot.core()?.put(Face::Tasks, key, value, &options).await
    }

    /// As [`Region::set_multi`].
    ///
    /// # Errors
    /// As there.
    pub async fn set_multi<'k, T: Storable>(
        &self,
        entries: impl IntoIterator<Item = (&'k str, T)>,
    ) -> Result<(), Error> {
        self.set_multi_with(entries, SetOptions::new()).await
    }

    /// As [`Region::set_multi_with`].
    ///
    /// # Errors
    /// As there.
    pub async fn set_multi_with<'k, T: Storable>(
        &self,
        entries: impl IntoIterator<Item = (&'k str, T)>,
        options: SetOptions,
    ) -> Result<(), Error> {
        let entries: Vec<(&str, T)> = entries.into_iter().collect();
        self.slot.core()?.put_multi(Face::Tasks, entries, &options).await
    }

    /// As [`Region::delete`].
    ///
    /// # Errors
    /// As there.
    pub async fn delete(&self, key: &str) -> Result<bool, Error> {
        self.slot.core()?.remove(Face::Tasks, &[key]).await
    }

    /// As [`Region::delete_multi`].
    ///
    /// # Errors
    /// As there.
    pub async fn delete_multi(&self, keys: &[&str]) -> Result<(), Error> {
        self.slot.core()?.remove(Face::Tasks, keys).await.map(drop)
    }

    /// As [`Region::expire_in`].
    ///
    /// # Errors
    /// As there.
    pub async fn expire_in(&self, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        self.slot.core()?.expire(Face::Tasks, key, ttl).await
    }

    /// As [`Region::expire_at`].
    ///
    /// # Errors
    /// As there.
    pub async fn expire_at(&self, key: &str, time: Option<Duration>) -> Result<bool, Error> {
        let core = self.slot.core()?;
        let ttl = time.map(|time| time.saturating_sub(core.clock.unix()));
        core.expire(Face::Tasks, key, ttl).await
    }

    /// As [`Region::clear`].
    ///
    /// # Errors
    /// As there.
    pub async fn clear(&self) -> Result<(), Error> {
        self.slot.core()?.clear_all(Face::Tasks).await
    }

    /// As [`Region::len`].
    ///
    /// # Errors
    /// As there.
    pub async fn len(&self) -> Result<Option<u64>, Error> {
        self.slot.core()?.count_entries(Face::Tasks).await
    }

    /// As [`Region::invalidate`].
    ///
    /// # Errors
    /// As there.
    pub async fn invalidate(&self, scope: Scope<'_>, how: How) -> Result<(), Error> {
        self.slot.core()?.invalidate(Face::Tasks, scope, how).await
    }

    /// As [`Region::key_is_locked`].
    ///
    /// # Errors
    /// As there.
    pub async fn key_is_locked(&self, key: &str) -> Result<bool, Error> {
        self.slot.core()?.is_locked(Face::Tasks, key).await
    }

    /// As [`Region::explain`].
    ///
    /// # Errors
    /// As there.
    pub async fn explain<T: Storable>(&self, key: &str) -> Result<RegionExplanation, Error> {
        self.slot.core()?.explain::<T>(Face::Tasks, key).await
    }

    /// As [`Region::inspect`].
    ///
    /// # Errors
    /// As there.
    pub async fn inspect(&self, key: &str) -> Result<super::Inspection, Error> {
        self.slot.core()?.inspect(Face::Tasks, key).await
    }

    /// As [`Region::get_or_create`].
    ///
    /// # Errors
    /// As there.
    pub async fn get_or_create<T: Storable>(
        &self,
        key: &str,
        creator: impl Future<Output = T>,
    ) -> Result<Arc<T>, Error> {
        self.own().get_or_create(key, creator).await
    }

    /// As [`Region::try_get_or_create`].
    ///
    /// # Errors
    /// As there.
    pub async fn try_get_or_create<T: Storable, E: Send + Sync + 'static>(
        &self,
        key: &str,
        creator: impl Future<Output = Result<T, E>>,
    ) -> Result<Arc<T>, CreateError<E>> {
        self.own().try_get_or_create(key, creator).await
    }

    /// As [`Region::get_or_create_detached`].
    ///
    /// # Errors
    /// As there.
    pub async fn get_or_create_detached<T: Storable>(
        &self,
        key: &str,
        creator: impl Future<Output = T> + Send + 'static,
    ) -> Result<Arc<T>, Error> {
        self.own().get_or_create_detached(key, creator).await
    }

    /// As [`Region::try_get_or_create_detached`].
    ///
    /// # Errors
    /// As there.
    pub async fn try_get_or_create_detached<T: Storable, E: Send + Sync + 'static>(
        &self,
        key: &str,
        creator: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<Arc<T>, CreateError<E>> {
        self.own().try_get_or_create_detached(key, creator).await
    }

    /// As [`Region::refresh`].
    ///
    /// # Errors
    /// As there.
    pub async fn refresh<T: Storable>(
        &self,
        key: &str,
        creator: impl Future<Output = T>,
    ) -> Result<Arc<T>, Error> {
        self.own().refresh(key, creator).await
    }

    /// As [`Region::try_refresh`].
    ///
    /// # Errors
    /// As there.
    pub async fn try_refresh<T: Storable, E: Send + Sync + 'static>(
        &self,
        key: &str,
        creator: impl Future<Output = Result<T, E>>,
    ) -> Result<Arc<T>, CreateError<E>> {
        self.own().try_refresh(key, creator).await
    }

    /// As [`Region::get_or_create_multi`]. `creator` gets its keys as a vector.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub async fn get_or_create_multi<'k, T: Storable, F: Future<Output = Vec<T>>>(
        &self,
        keys: &[&'k str],
        creator: impl FnMut(Vec<&'k str>) -> F,
    ) -> Result<Vec<Arc<T>>, Error> {
        self.own().get_or_create_multi(keys, creator).await
    }

    /// As [`Region::try_get_or_create_multi`]. `creator` gets its keys as a vector.
    ///
    /// # Errors
    /// As there.
    pub async fn try_get_or_create_multi<'k, T, E, F>(
        &self,
        keys: &[&'k str],
        creator: impl FnMut(Vec<&'k str>) -> F,
    ) -> Result<Vec<Arc<T>>, CreateError<E>>
    where
        T: Storable,
        E: Send + Sync + 'static,
        F: Future<Output = Result<Vec<T>, E>>,
    {
        self.own().try_get_or_create_multi(keys, creator).await
    }
}

/// By the region's own generator.
impl KeyGenerator for AsyncRegion {
    fn key(&self, call: &super::Call<'_>) -> Result<String, Error> {
        self.slot.core()?.generator.key(call)
    }
    fn keys(&self, call: &super::Call<'_>) -> Result<Vec<String>, Error> {
        self.slot.core()?.generator.keys(call)
    }
}

impl fmt::Debug for AsyncRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("AsyncRegion");
        debug.field("name", &self.name());
        match self.slot.core() {
            Ok(core) => debug.field("backend", &core.actual.1.name()).field("policy", &core.policy),
            Err(_) => debug.field("is_configured", &false),
        };
        debug.finish_non_exhaustive()
    }
}

/// A region under a policy, or with tags, for tasks: [`AsyncRegion::with`], [`AsyncRegion::tagged`]. Its methods are those of
/// the region.
#[derive(Debug)]
#[must_use = "it does nothing by itself"]
pub struct AsyncRegionWith<'r> {
    region: &'r AsyncRegion,
    how: Asked<'r>,
}

impl AsyncRegionWith<'_> {
    /// The same, for values that get these tags.
    pub fn tagged<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.how.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    fn forced(mut self) -> Self {
        self.how.force = true;
        self
    }

    /// The verb can't fail: what the gate could not share is made for its caller, by the creator, which has not been run.
    async fn unless<T>(
        &self,
        result: Result<Arc<T>, CreateError<Infallible>>,
        creator: impl Future<Output = T>,
    ) -> Result<Arc<T>, Error> {
        match result {
            Ok(value) => Ok(value),
            Err(CreateError::Backend(error)) => Err(error),
            Err(CreateError::Reentrant) => reentrant(&self.region.slot),
            Err(_) => Ok(Arc::new(creator.await)),
        }
    }

    /// As [`AsyncRegion::get_or_create`].
    ///
    /// # Errors
    /// As there.
    pub async fn get_or_create<T: Storable>(
        &self,
        key: &str,
        creator: impl Future<Output = T>,
    ) -> Result<Arc<T>, Error> {
        let mut creator = std::pin::pin!(creator);
        let result = {
            let creator = creator.as_mut();
            self.try_get_or_create(key, async move { Ok::<T, Infallible>(creator.await) }).await
        };
        self.unless(result, creator).await
    }

    /// As [`AsyncRegion::try_get_or_create`].
    ///
    /// # Errors
    /// As there.
    pub async fn try_get_or_create<T: Storable, E: Send + Sync + 'static>(
        &self,
        key: &str,
        creator: impl Future<Output = Result<T, E>>,
    ) -> Result<Arc<T>, CreateError<E>> {
        let core = self.region.slot.core().map_err(CreateError::Backend)?;
        let call = Call::new(&core, Face::Tasks, &self.how, key);
        match call.begin::<T>().await.map_err(CreateError::Backend)? {
            Ok(hit) => Ok(hit),
            Err(here) => call.create(&here, creator, |span| call.sleep(span)).await,
        }
    }

    /// As [`AsyncRegion::get_or_create_detached`].
    ///
    /// # Errors
    /// As there.
    pub async fn get_or_create_detached<T: Storable>(
        &self,
        key: &str,
        creator: impl Future<Output = T> + Send + 'static,
    ) -> Result<Arc<T>, Error> {
        // Where the gate does not run it, the caller does.
        let creator = Arc::new(PlainMutex::new(Some(creator)));
        let shared = Arc::clone(&creator);
        let detached = async move {
            let creator = lock_plain(&shared).take();
            Ok::<T, Infallible>(creator.expect("a creator runs once").await)
        };
        let result = self.try_get_or_create_detached(key, detached).await;
        let left = async move {
            let creator = lock_plain(&creator).take();
            creator.expect("the gate has not run it").await
        };
        self.unless(result, left).await
    }

    /// As [`AsyncRegion::try_get_or_create_detached`].
    ///
    /// # Errors
    /// As there.
    pub async fn try_get_or_create_detached<T: Storable, E: Send + Sync + 'static>(
        &self,
        key: &str,
        creator: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<Arc<T>, CreateError<E>> {
        self.memoised(key, || creator).await
    }

    /// For `#[cached]`: the creator is prepared where one is needed.
    #[doc(hidden)]
    pub async fn memoised<T, E, F>(
        &self,
        key: &str,
        prepare: impl FnOnce() -> F,
    ) -> Result<Arc<T>, CreateError<E>>
    where
        T: Storable,
        E: Send + Sync + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let core = self.region.slot.core().map_err(CreateError::Backend)?;
        let call = Call::new(&core, Face::Tasks, &self.how, key);
        match call.begin::<T>().await.map_err(CreateError::Backend)? {
            Ok(hit) => Ok(hit),
            Err(here) => call.create_detached(&here, prepare(), |span| call.sleep(span)).await,
        }
    }

    /// For `#[cached]`: as `memoised`, fresh or not.
    #[doc(hidden)]
    pub async fn memoised_anew<T, E, F>(
        self,
        key: &str,
        prepare: impl FnOnce() -> F,
    ) -> Result<Arc<T>, CreateError<E>>
    where
        T: Storable,
        E: Send + Sync + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.forced().memoised(key, prepare).await
    }

    /// As [`AsyncRegion::refresh`].
    ///
    /// # Errors
    /// As there.
    pub async fn refresh<T: Storable>(
        self,
        key: &str,
        creator: impl Future<Output = T>,
    ) -> Result<Arc<T>, Error> {
        self.forced().get_or_create(key, creator).await
    }

    /// As [`AsyncRegion::try_refresh`].
    ///
    /// # Errors
    /// As there.
    pub async fn try_refresh<T: Storable, E: Send + Sync + 'static>(
        self,
        key: &str,
        creator: impl Future<Output = Result<T, E>>,
    ) -> Result<Arc<T>, CreateError<E>> {
        self.forced().try_get_or_create(key, creator).await
    }

    /// As [`AsyncRegion::get_or_create_multi`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub async fn get_or_create_multi<'k, T: Storable, F: Future<Output = Vec<T>>>(
        &self,
        keys: &[&'k str],
        mut creator: impl FnMut(Vec<&'k str>) -> F,
    ) -> Result<Vec<Arc<T>>, Error> {
        let result = {
            let make = |keys: Vec<&'k str>| {
                let creation = creator(keys);
                async move { Ok::<Vec<T>, Infallible>(creation.await) }
            };
            self.try_get_or_create_multi(keys, make).await
        };
        match result {
            Ok(values) => Ok(values),
            Err(CreateError::Backend(error)) => Err(error),
            Err(CreateError::Reentrant) => reentrant(&self.region.slot),
            Err(error @ CreateError::WrongCount { .. }) => panic!("{error}"),
            // What others could not give is made for the caller, all of it.
            Err(_) => {
                let made = creator(keys.to_vec()).await;
                let (asked, returned) = (keys.len(), made.len());
                assert!(
                    asked == returned,
                    "{}",
                    CreateError::<Infallible>::WrongCount { asked, made: returned }
                );
                Ok(made.into_iter().map(Arc::new).collect())
            }
        }
    }

    /// As [`AsyncRegion::try_get_or_create_multi`].
    ///
    /// # Errors
    /// As there.
    pub async fn try_get_or_create_multi<'k, T, E, F>(
        &self,
        keys: &[&'k str],
        mut creator: impl FnMut(Vec<&'k str>) -> F,
    ) -> Result<Vec<Arc<T>>, CreateError<E>>
    where
        T: Storable,
        E: Send + Sync + 'static,
        F: Future<Output = Result<Vec<T>, E>>,
    {
        let core = self.region.slot.core().map_err(CreateError::Backend)?;
        let calls = Calls::new(&core, Face::Tasks, &self.how, keys.iter().copied());
        let make = |asked: Vec<usize>| creator(asked.into_iter().map(|i| keys[i]).collect());
        calls.create(make, |span| calls.sleep(span)).await
    }
}
