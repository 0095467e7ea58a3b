//! [`Proxy`]: what stands between a region and its backend.
#![forbid(unsafe_code)]

use super::{
    AsyncBackend, AsyncCacheMutex, Backend, BoxFuture, Bus, CacheMutex, LockInfo, Opened, Put, Stored, Takes,
};
use crate::codec::{Codec, Envelope};
use crate::error::Error;
use crate::sync::Arc;
use std::time::Duration;

/// Changes some operations of a backend, and passes on the rest: `RegionBuilder::wrap`.
///
/// Each gets the backend, or the next proxy, as `next`. Of several proxies the first listed is the outermost. What is not
/// overridden goes straight through; a batch goes through the batch operations, not through the single ones.
///
/// ```
/// use dogpile::backend::{Backend, MemoryBackend, Proxy, Stored};
/// use dogpile::{Error, Region};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// /// Counts reads.
/// #[derive(Clone, Default)]
/// struct Counting(Arc<AtomicU32>);
/// impl Proxy for Counting {
///     fn get(&self, next: &dyn Backend, key: &str) -> Result<Option<Stored>, Error> {
///         self.0.fetch_add(1, Ordering::Relaxed);
///         next.get(key)
///     }
/// }
///
/// let counting = Counting::default();
/// let region = Region::builder().backend(MemoryBackend::new()).wrap(counting.clone()).build()?;
/// region.set("key", 1)?;
/// region.get::<i32>("key")?;
/// assert_eq!(counting.0.load(Ordering::Relaxed), 1);
/// # Ok::<(), Error>(())
/// ```
pub trait Proxy: Send + Sync {
    /// In the place of [`Backend::get`].
    ///
    /// # Errors
    /// As there.
    fn get(&self, next: &dyn Backend, key: &str) -> Result<Option<Stored>, Error> {
        next.get(key)
    }
    /// In the place of [`Backend::set`].
    ///
    /// # Errors
    /// As there.
    fn set(&self, next: &dyn Backend, put: Put<'_>) -> Result<(), Error> {
        next.set(put)
    }
    /// In the place of [`Backend::delete`].
    ///
    /// # Errors
    /// As there.
    fn delete(&self, next: &dyn Backend, key: &str) -> Result<bool, Error> {
        next.delete(key)
    }
    /// In the place of [`Backend::get_multi`].
    ///
    /// # Errors
    /// As there.
    fn get_multi(&self, next: &dyn Backend, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error> {
        next.get_multi(keys)
    }
    /// In the place of [`Backend::set_multi`].
    ///
    /// # Errors
    /// As there.
    fn set_multi(&self, next: &dyn Backend, puts: &[Put<'_>]) -> Result<(), Error> {
        next.set_multi(puts)
    }
    /// In the place of [`Backend::delete_multi`].
    ///
    /// # Errors
    /// As there.
    fn delete_multi(&self, next: &dyn Backend, keys: &[&str]) -> Result<(), Error> {
        next.delete_multi(keys)
    }
    /// In the place of [`Backend::set_unless`], by which values that were made are written. To see all writes in `set` and
    /// `set_multi`, return `None` here: a step that nothing comes between is then the region's own.
    ///
    /// # Errors
    /// As there.
    fn set_unless(
        &self,
        next: &dyn Backend,
        puts: &[Put<'_>],
        keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
    ) -> Option<Result<Vec<bool>, Error>> {
        next.set_unless(puts, keeps)
    }
    /// In the place of [`Backend::expire`].
    ///
    /// # Errors
    /// As there.
    fn expire(&self, next: &dyn Backend, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        next.expire(key, ttl)
    }
    /// In the place of [`Backend::clear`].
    ///
    /// # Errors
    /// As there.
    fn clear(&self, next: &dyn Backend, prefix: &str) -> Result<bool, Error> {
        next.clear(prefix)
    }
    /// In the place of [`Backend::len`].
    ///
    /// # Errors
    /// As there.
    fn len(&self, next: &dyn Backend, prefix: &str) -> Result<Option<u64>, Error> {
        next.len(prefix)
    }
    /// In the place of [`Backend::mutex`].
    fn mutex(&self, next: &dyn Backend, key: &str) -> Option<Box<dyn CacheMutex>> {
        next.mutex(key)
    }
    /// In the place of [`Backend::takes`]. A proxy that turns objects into bytes needs it.
    fn takes(&self, next: &dyn Backend) -> Takes {
        next.takes()
    }
}

/// As [`Proxy`], for an [`AsyncBackend`].
pub trait AsyncProxy: Send + Sync {
    /// In the place of [`AsyncBackend::get`].
    fn get<'a>(
        &'a self,
        next: &'a dyn AsyncBackend,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Stored>, Error>> {
        next.get(key)
    }
    /// In the place of [`AsyncBackend::set`].
    fn set<'a>(&'a self, next: &'a dyn AsyncBackend, put: Put<'a>) -> BoxFuture<'a, Result<(), Error>> {
        next.set(put)
    }
    /// In the place of [`AsyncBackend::delete`].
    fn delete<'a>(&'a self, next: &'a dyn AsyncBackend, key: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        next.delete(key)
    }
    /// In the place of [`AsyncBackend::get_multi`].
    fn get_multi<'a>(
        &'a self,
        next: &'a dyn AsyncBackend,
        keys: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<Option<Stored>>, Error>> {
        next.get_multi(keys)
    }
    /// In the place of [`AsyncBackend::set_multi`].
    fn set_multi<'a>(
        &'a self,
        next: &'a dyn AsyncBackend,
        puts: &'a [Put<'a>],
    ) -> BoxFuture<'a, Result<(), Error>> {
        next.set_multi(puts)
    }
    /// In the place of [`AsyncBackend::delete_multi`].
    fn delete_multi<'a>(
        &'a self,
        next: &'a dyn AsyncBackend,
        keys: &'a [&'a str],
    ) -> BoxFuture<'a, Result<(), Error>> {
        next.delete_multi(keys)
    }
    /// In the place of [`AsyncBackend::set_unless`]; as [`Proxy::set_unless`].
    fn set_unless<'a>(
        &'a self,
        next: &'a dyn AsyncBackend,
        puts: &'a [Put<'a>],
        keeps: &'a (dyn Fn(usize, Option<&Stored>) -> bool + Send + Sync),
    ) -> BoxFuture<'a, Option<Result<Vec<bool>, Error>>> {
        next.set_unless(puts, keeps)
    }
    /// In the place of [`AsyncBackend::expire`].
    fn expire<'a>(
        &'a self,
        next: &'a dyn AsyncBackend,
        key: &'a str,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        next.expire(key, ttl)
    }
    /// In the place of [`AsyncBackend::clear`].
    fn clear<'a>(
        &'a self,
        next: &'a dyn AsyncBackend,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        next.clear(prefix)
    }
    /// In the place of [`AsyncBackend::len`].
    fn len<'a>(
        &'a self,
        next: &'a dyn AsyncBackend,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Option<u64>, Error>> {
        next.len(prefix)
    }
    /// In the place of [`AsyncBackend::mutex`].
    fn mutex(&self, next: &dyn AsyncBackend, key: &str) -> Option<Box<dyn AsyncCacheMutex>> {
        next.mutex(key)
    }
    /// In the place of [`AsyncBackend::takes`].
    fn takes(&self, next: &dyn AsyncBackend) -> Takes {
        next.takes()
    }
}

/// A backend behind a proxy.
pub(crate) struct Proxied {
    pub(crate) proxy: Box<dyn Proxy>,
    pub(crate) next: Arc<dyn Backend>,
}

impl Backend for Proxied {
    fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
        self.proxy.get(&*self.next, key)
    }
    fn set(&self, put: Put<'_>) -> Result<(), Error> {
        self.proxy.set(&*self.next, put)
    }
    fn delete(&self, key: &str) -> Result<bool, Error> {
        self.proxy.delete(&*self.next, key)
    }
    fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error> {
        self.proxy.get_multi(&*self.next, keys)
    }
    fn set_multi(&self, puts: &[Put<'_>]) -> Result<(), Error> {
        self.proxy.set_multi(&*self.next, puts)
    }
    fn delete_multi(&self, keys: &[&str]) -> Result<(), Error> {
        self.proxy.delete_multi(&*self.next, keys)
    }
    fn set_unless(
        &self,
        puts: &[Put<'_>],
        keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
    ) -> Option<Result<Vec<bool>, Error>> {
        self.proxy.set_unless(&*self.next, puts, keeps)
    }
    fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        self.proxy.expire(&*self.next, key, ttl)
    }
    fn clear(&self, prefix: &str) -> Result<bool, Error> {
        self.proxy.clear(&*self.next, prefix)
    }
    fn len(&self, prefix: &str) -> Result<Option<u64>, Error> {
        self.proxy.len(&*self.next, prefix)
    }
    fn mutex(&self, key: &str) -> Option<Box<dyn CacheMutex>> {
        self.proxy.mutex(&*self.next, key)
    }
    fn takes(&self) -> Takes {
        self.proxy.takes(&*self.next)
    }
    fn blocks(&self) -> bool {
        self.next.blocks()
    }
    fn locks(&self, prefix: &str) -> Result<Option<Vec<LockInfo>>, Error> {
        self.next.locks(prefix)
    }
    fn attach(&self, envelope: Envelope) -> Result<(), Error> {
        self.next.attach(envelope)
    }
    fn bus(&self) -> Option<Arc<dyn Bus>> {
        self.next.bus()
    }
    fn keeps(&self) -> bool {
        self.next.keeps()
    }
    fn keep(&self, key: &str, opened: &Arc<Opened>) {
        self.next.keep(key, opened);
    }
    fn codec(&self) -> Option<Codec> {
        self.next.codec()
    }
    fn mangle(&self, key: &str) -> Option<String> {
        self.next.mangle(key)
    }
    fn mangles(&self) -> bool {
        self.next.mangles()
    }
    fn name(&self) -> &'static str {
        self.next.name()
    }
}

/// A backend of tasks behind a proxy.
pub(crate) struct AsyncProxied {
    pub(crate) proxy: Box<dyn AsyncProxy>,
    pub(crate) next: Arc<dyn AsyncBackend>,
}

impl AsyncBackend for AsyncProxied {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, Error>> {
        self.proxy.get(&*self.next, key)
    }
    fn set<'a>(&'a self, put: Put<'a>) -> BoxFuture<'a, Result<(), Error>> {
        self.proxy.set(&*self.next, put)
    }
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        self.proxy.delete(&*self.next, key)
    }
    fn get_multi<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Option<Stored>>, Error>> {
        self.proxy.get_multi(&*self.next, keys)
    }
    fn set_multi<'a>(&'a self, puts: &'a [Put<'a>]) -> BoxFuture<'a, Result<(), Error>> {
        self.proxy.set_multi(&*self.next, puts)
    }
    fn delete_multi<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<(), Error>> {
        self.proxy.delete_multi(&*self.next, keys)
    }
    fn set_unless<'a>(
        &'a self,
        puts: &'a [Put<'a>],
        keeps: &'a (dyn Fn(usize, Option<&Stored>) -> bool + Send + Sync),
    ) -> BoxFuture<'a, Option<Result<Vec<bool>, Error>>> {
        self.proxy.set_unless(&*self.next, puts, keeps)
    }
    fn expire<'a>(&'a self, key: &'a str, ttl: Option<Duration>) -> BoxFuture<'a, Result<bool, Error>> {
        self.proxy.expire(&*self.next, key, ttl)
    }
    fn clear<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        self.proxy.clear(&*self.next, prefix)
    }
    fn len<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Option<u64>, Error>> {
        self.proxy.len(&*self.next, prefix)
    }
    fn mutex(&self, key: &str) -> Option<Box<dyn AsyncCacheMutex>> {
        self.proxy.mutex(&*self.next, key)
    }
    fn takes(&self) -> Takes {
        self.proxy.takes(&*self.next)
    }
    fn locks<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Option<Vec<LockInfo>>, Error>> {
        self.next.locks(prefix)
    }
    fn attach(&self, envelope: Envelope) -> Result<(), Error> {
        self.next.attach(envelope)
    }
    fn bus(&self) -> Option<Arc<dyn Bus>> {
        self.next.bus()
    }
    fn keeps(&self) -> bool {
        self.next.keeps()
    }
    fn keep(&self, key: &str, opened: &Arc<Opened>) {
        self.next.keep(key, opened);
    }
    fn codec(&self) -> Option<Codec> {
        self.next.codec()
    }
    fn mangle(&self, key: &str) -> Option<String> {
        self.next.mangle(key)
    }
    fn mangles(&self) -> bool {
        self.next.mangles()
    }
    fn name(&self) -> &'static str {
        self.next.name()
    }
}
