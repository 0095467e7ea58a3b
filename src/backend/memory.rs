//! [`MemoryBackend`]: the engine as a region's store.
//!
//! A hit is the engine's: no lock, one counted reference more. Whether an entry is written is decided under the engine's own
//! write of that entry (`set_unless`), so no other write comes in between.
#![forbid(unsafe_code)]

use super::{AsyncBackend, Backend, BoxFuture, Put, Stored, Takes};
use crate::cache::{Cache, CacheBuilder, Compute, InsertOptions};
use crate::error::{Error, ErrorKind};
use crate::time::Clock;
use std::fmt;
use std::future::ready;
use std::num::NonZeroUsize;
use std::time::Duration;

/// A store in this process: a [`Cache`] of any size, by default without a limit.
///
/// Values are kept as they are; with [`serialized`](MemoryBackendBuilder::serialized) as bytes, so that each hit is a copy.
/// Entries whose time to live is over leave by later writes. Clones share the store.
///
/// ```
/// use dogpile::Region;
/// use dogpile::backend::MemoryBackend;
///
/// let backend = MemoryBackend::builder().max_entries(10_000).build()?;
/// let region = Region::builder().backend(backend).build()?;
/// region.set("key", vec![1, 2, 3])?;
/// assert_eq!(region.get::<Vec<i32>>("key")?.as_deref(), Some(&vec![1, 2, 3]));
/// # Ok::<(), dogpile::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemoryBackend {
    cache: Cache<String, Stored>,
    takes: Takes,
    /// Whether other regions may have entries here.
    is_shared: bool,
}

impl MemoryBackend {
    /// A store without a limit.
    #[must_use]
    pub fn new() -> Self {
        Self { cache: Cache::unbounded(), takes: Takes::Objects, is_shared: false }
    }

    /// Settings, one by one.
    pub fn builder() -> MemoryBackendBuilder {
        MemoryBackendBuilder { cache: Cache::builder(), serialized: false, weighed: false }
    }

    /// A store over a cache that there is, for several regions, and for whoever else uses it. dogpile.cache has it as
    /// `cache_dict`.
    ///
    /// Regions tell their keys apart by their prefix, if they have one. Without one they see each other's.
    ///
    /// ```
    /// use dogpile::backend::MemoryBackend;
    /// use dogpile::{Cache, Region};
    ///
    /// let cache = Cache::new(1_000);
    /// let a = Region::builder().backend(MemoryBackend::over(cache.clone())).prefix("a:").build()?;
    /// let b = Region::builder().backend(MemoryBackend::over(cache.clone())).prefix("b:").build()?;
    /// a.set("key", 1)?;
    /// assert_eq!(b.get::<i32>("key")?, None);
    /// assert!(cache.contains_key("a:key"));
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    #[must_use]
    pub fn over(cache: Cache<String, Stored>) -> Self {
        Self { cache, takes: Takes::Objects, is_shared: true }
    }

    /// The cache itself.
    #[must_use]
    pub fn cache(&self) -> &Cache<String, Stored> {
        &self.cache
    }

    fn put_unless(&self, put: Put<'_>, mut keeps: impl FnMut(Option<&Stored>) -> bool) -> bool {
        let mut is_put = false;
        // Chosen anew each time that another write was quicker.
        let mut put_now = |old: Option<&Stored>| {
            is_put = !keeps(old);
            if is_put { Compute::Put(put.value.clone()) } else { Compute::Keep }
        };
        self.cache.compute_with(put.key.to_owned(), options(put), &mut put_now);
        is_put
    }
}

fn options(put: Put<'_>) -> InsertOptions {
    let options = InsertOptions::new().weight(put.weight.max(1));
    match put.ttl {
        Some(ttl) => options.ttl(ttl),
        None => options,
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

/// The settings of a [`MemoryBackend`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct MemoryBackendBuilder {
    cache: CacheBuilder<String, Stored>,
    serialized: bool,
    weighed: bool,
}

impl fmt::Debug for MemoryBackendBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackendBuilder")
            .field("cache", &self.cache)
            .field("serialized", &self.serialized)
            .finish()
    }
}

impl MemoryBackendBuilder {
    /// How many entries there are at the most. Not together with `max_weight`.
    pub fn max_entries(mut self, max_entries: u64) -> Self {
        self.cache = self.cache.max_entries(max_entries);
        self
    }

    /// How many bytes the values may have together: of bytes their length, of other values what they have when they are
    /// serialised, and their own size. [`InMemory`](crate::codec::InMemory) values count with their own size alone.
    pub fn max_weight(mut self, bytes: u64) -> Self {
        // Each entry is told its weight.
        self.cache = self.cache.max_weight(bytes).weigher(|_, _| 1);
        self.weighed = true;
        self
    }

    /// How many shards, see [`CacheBuilder::shards`].
    pub fn shards(mut self, shards: NonZeroUsize) -> Self {
        self.cache = self.cache.shards(shards);
        self
    }

    /// Keeps bytes, made by the region's codec: a hit is a copy, as with dogpile.cache's `memory_pickle`.
    pub fn serialized(mut self, serialized: bool) -> Self {
        self.serialized = serialized;
        self
    }

    /// Another clock for times to live: the region's, in tests.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.cache = self.cache.clock(clock);
        self
    }

    /// The backend.
    ///
    /// # Errors
    /// If settings contradict each other.
    pub fn build(self) -> Result<MemoryBackend, Error> {
        let takes = match (self.serialized, self.weighed) {
            (true, _) => Takes::Bytes,
            (false, true) => Takes::WeighedObjects,
            (false, false) => Takes::Objects,
        };
        let cache = self.cache.build().map_err(|error| {
            Error::new(ErrorKind::Config, "memory backend").detail(error.to_string()).because(error)
        })?;
        Ok(MemoryBackend { cache, takes, is_shared: false })
    }
}

impl Backend for MemoryBackend {
    #[inline]
    fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
        Ok(self.cache.get(key).map(|found| (*found).clone()))
    }

    fn set(&self, put: Put<'_>) -> Result<(), Error> {
        self.cache.insert_with(put.key.to_owned(), put.value.clone(), options(put));
        Ok(())
    }

    fn delete(&self, key: &str) -> Result<bool, Error> {
        Ok(self.cache.remove(key).is_some())
    }

    fn set_unless(
        &self,
        puts: &[Put<'_>],
        keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
    ) -> Option<Result<Vec<bool>, Error>> {
        let put = |(i, put): (usize, &Put<'_>)| self.put_unless(*put, |old| keeps(i, old));
        Some(Ok(puts.iter().enumerate().map(put).collect()))
    }

    fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        Ok(self.cache.expire_in(key, ttl))
    }

    fn clear(&self, prefix: &str) -> Result<bool, Error> {
        if prefix.is_empty() {
            if self.is_shared {
                return Ok(false);
            }
            self.cache.clear();
        } else {
            self.cache.retain(|key, _| !key.starts_with(prefix));
        }
        Ok(true)
    }

    fn len(&self, prefix: &str) -> Result<Option<u64>, Error> {
        if prefix.is_empty() {
            return Ok((!self.is_shared).then(|| self.cache.len()));
        }
        Ok(Some(self.cache.iter().filter(|entry| entry.key().starts_with(prefix)).count() as u64))
    }

    fn takes(&self) -> Takes {
        self.takes
    }

    fn blocks(&self) -> bool {
        false
    }

    fn name(&self) -> &'static str {
        if self.takes == Takes::Bytes { "memory+serialized" } else { "memory" }
    }
}

/// Each operation is done when its future is polled first: nothing here waits.
impl AsyncBackend for MemoryBackend {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, Error>> {
        Box::pin(async move { Backend::get(self, key) })
    }
    fn set<'a>(&'a self, put: Put<'a>) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move { Backend::set(self, put) })
    }
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move { Backend::delete(self, key) })
    }
    fn get_multi<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Option<Stored>>, Error>> {
        Box::pin(async move { Backend::get_multi(self, keys) })
    }
    fn set_unless<'a>(
        &'a self,
        puts: &'a [Put<'a>],
        keeps: &'a (dyn Fn(usize, Option<&Stored>) -> bool + Send + Sync),
    ) -> BoxFuture<'a, Option<Result<Vec<bool>, Error>>> {
        Box::pin(async move { Backend::set_unless(self, puts, &keeps) })
    }
    fn expire<'a>(&'a self, key: &'a str, ttl: Option<Duration>) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(ready(Backend::expire(self, key, ttl)))
    }
    fn clear<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move { Backend::clear(self, prefix) })
    }
    fn len<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Option<u64>, Error>> {
        Box::pin(async move { Backend::len(self, prefix) })
    }
    fn takes(&self) -> Takes {
        self.takes
    }
    fn name(&self) -> &'static str {
        Backend::name(self)
    }
}
