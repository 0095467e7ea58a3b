//! Stores: what a region keeps its values in.
//!
//! A [`Backend`] needs `get`, `set` and `delete`; all else has a default that is right, if not fast. An [`AsyncBackend`] is
//! the same in futures. Backends know nothing of staleness, of creators, of who waits for whom: they keep what they are
//! given, until its time to live is over.
//!
//! Whoever writes a backend runs `conformance` on it (feature `conformance`): all that is said here, as checks with names.
#![forbid(unsafe_code)]

mod adapted;
mod arguments;
mod breaker;
mod bus;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "file")]
mod file;
mod locks;
#[cfg(feature = "memcached")]
mod memcached;
mod memory;
mod null;
mod proxy;
#[cfg(feature = "redis")]
mod redis;
mod schemes;
mod tiered;

pub use adapted::OnThreads;
pub(crate) use adapted::for_tasks;
pub(crate) use arguments::{A_TIME, duration_text, shown};
pub use arguments::{Address, Arguments, Setting};
pub use breaker::Breaker;
pub use bus::{Bus, Heard, Listener};
#[cfg(all(fuzzing, feature = "file"))]
#[doc(hidden)]
pub use file::__door as __file;
#[cfg(feature = "file")]
pub use file::{FileBackend, FileBackendBuilder, OnDamage};
pub use locks::LockInfo;
#[cfg(feature = "memcached")]
pub use memcached::{MemcachedBackend, MemcachedBackendBuilder};
pub use memory::{MemoryBackend, MemoryBackendBuilder};
pub use null::NullBackend;
pub(crate) use proxy::{AsyncProxied, Proxied};
pub use proxy::{AsyncProxy, Proxy};
#[cfg(feature = "redis")]
pub use redis::{RedisBackend, RedisBackendBuilder};
pub use schemes::{Schemes, Store};
pub use tiered::{TieredBackend, TieredBackendBuilder};

use crate::codec::{Codec, Envelope};
use crate::error::Error;
use crate::sync::Arc;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// Those, and the backends that features bring.
fn with_features(schemes: Schemes) -> Schemes {
    #[cfg(feature = "file")]
    let schemes = file::register(schemes);
    #[cfg(feature = "redis")]
    let schemes = redis::register(schemes);
    #[cfg(feature = "memcached")]
    let schemes = memcached::register(schemes);
    schemes
}

/// A future of a backend's.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A value as a backend keeps it. Cheap to clone.
///
/// A backend keeps what it got and gives back the same; what is inside is the region's.
#[derive(Clone)]
#[non_exhaustive]
pub enum Stored {
    /// A value of this process.
    Object(Arc<dyn Any + Send + Sync>),
    /// An envelope of bytes.
    Bytes(Arc<[u8]>),
    /// An envelope of bytes, and beside it what was read from it: what a store that [keeps](Backend::keep) it gives back.
    Opened(Arc<Opened>),
}

/// Bytes with the value of this process that they stand for.
pub struct Opened {
    /// The envelope.
    pub bytes: Arc<[u8]>,
    /// What is in it.
    pub object: Arc<dyn Any + Send + Sync>,
}

/// Values are not shown.
impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened({} bytes)", self.bytes.len())
    }
}

impl Stored {
    /// The bytes, if it is bytes.
    ///
    /// ```
    /// use dogpile::backend::Stored;
    /// assert_eq!(Stored::from(b"abc".as_slice()).bytes(), Some(b"abc".as_slice()));
    /// ```
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Opened(opened) => Some(&opened.bytes),
            Self::Object(_) => None,
        }
    }

    /// The object, if there is one.
    #[inline]
    pub(crate) fn object(&self) -> Option<&Arc<dyn Any + Send + Sync>> {
        match self {
            Self::Object(object) => Some(object),
            Self::Opened(opened) => Some(&opened.object),
            Self::Bytes(_) => None,
        }
    }

    /// Whether the two are one and the same: the same object, or equal bytes.
    ///
    /// ```
    /// use dogpile::backend::Stored;
    /// use std::sync::Arc;
    ///
    /// let object = Stored::Object(Arc::new(5));
    /// assert!(object.is_same(&object.clone()));
    /// assert!(!object.is_same(&Stored::Object(Arc::new(5))));
    /// ```
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Object(a), Self::Object(b)) => Arc::ptr_eq(a, b),
            (Self::Object(_), _) | (_, Self::Object(_)) => false,
            (a, b) => a.bytes() == b.bytes(),
        }
    }
}

impl From<&[u8]> for Stored {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<Vec<u8>> for Stored {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

/// Values are not shown.
impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(_) => f.write_str("Object"),
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Self::Opened(opened) => opened.fmt(f),
        }
    }
}

/// What a backend takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Takes {
    /// Values as they are: it keeps them in this process.
    Objects,
    /// The same, and wants to be told how much they weigh.
    WeighedObjects,
    /// Bytes: a codec makes them.
    Bytes,
}

/// One entry to be written.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Put<'a> {
    /// Its key.
    pub key: &'a str,
    /// Its value.
    pub value: &'a Stored,
    /// After this time the entry is gone. `None`: it stays until it is deleted, or the store needs the room.
    pub ttl: Option<Duration>,
    /// How much the value weighs, in bytes, if the backend has asked to be told; else the length of its bytes, or 1.
    pub weight: u32,
    /// What the store's own lock gave for it, if it is written under that: see [`Backend::set_unless`].
    pub fence: Option<&'a Fence>,
}

/// What a store's lock knew when it was taken, to be shown when something is written under it: opaque but to that store.
///
/// ```
/// use dogpile::backend::Fence;
///
/// let fence = Fence::new(7_u64);
/// assert_eq!(fence.get::<u64>(), Some(&7));
/// assert_eq!(fence.get::<String>(), None, "another store's");
/// ```
#[derive(Clone)]
pub struct Fence(Arc<dyn Any + Send + Sync>);

impl Fence {
    /// What a store is to see again.
    #[must_use]
    pub fn new<T: Send + Sync + 'static>(state: T) -> Self {
        Self(Arc::new(state))
    }

    /// It, if it is a `T`.
    #[must_use]
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fence")
    }
}

impl<'a> Put<'a> {
    /// An entry that stays.
    ///
    /// ```
    /// use dogpile::backend::{Backend, MemoryBackend, Put, Stored};
    /// use std::time::Duration;
    ///
    /// let backend = MemoryBackend::new();
    /// backend.set(Put::new("key", &Stored::from(b"abc".as_slice())).ttl(Some(Duration::from_secs(60))))?;
    /// assert_eq!(backend.get("key")?.unwrap().bytes(), Some(b"abc".as_slice()));
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    #[must_use]
    pub fn new(key: &'a str, value: &'a Stored) -> Self {
        let weight = value.bytes().map_or(1, |bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        Self { key, value, ttl: None, weight, fence: None }
    }

    /// The same, with a time to live.
    #[must_use]
    pub fn ttl(mut self, ttl: Option<Duration>) -> Self {
        self.ttl = ttl;
        self
    }

    /// The same, with a weight.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// The same, with a fence.
    #[must_use]
    pub fn fence(mut self, fence: Option<&'a Fence>) -> Self {
        self.fence = fence;
        self
    }
}

/// A lock of a store's own: for one key, or for several.
///
/// Threads of this process have been told apart before: of those who want one key only one comes here. A mutex may also
/// serve several keys, to bound how many values are made at once; then it must let one thread, or one task, have it for
/// several keys at a time, or batches over those keys can't be made. One that knows its owner by the thread is for threads
/// only: a task's calls of a blocking mutex come from any thread ([`OnThreads`]).
///
/// A lock that is held and dropped is given back, by `drop` or by its lease. While it is held, whoever made it prolongs its
/// lease in time, if it has one.
pub trait CacheMutex: Send + Sync {
    /// Takes the lock, waiting so long for it at the most. `Duration::ZERO`: tries. True: it is held now.
    ///
    /// # Errors
    /// If the store can't be asked. The lock is not held then.
    fn acquire(&self, wait: Duration) -> Result<bool, Error>;

    /// Gives it back. Gives back nothing that somebody else has taken since, if this one's lease has ended.
    ///
    /// # Errors
    /// If the store can't be told; the lease ends by itself.
    fn release(&self) -> Result<(), Error>;

    /// Whether anybody holds it.
    ///
    /// # Errors
    /// If the store can't be asked.
    fn locked(&self) -> Result<bool, Error> {
        if self.acquire(Duration::ZERO)? {
            self.release()?;
            return Ok(false);
        }
        Ok(true)
    }

    /// After this time the lock ends by itself, if nobody is left who prolongs it. `None`: it doesn't.
    fn lease(&self) -> Option<Duration> {
        None
    }

    /// While it is held: what to write under it with, so that nothing is written where newer state has come since it was
    /// taken, or where the lock was lost and taken by another. `None`, which is the default: it has no such thing.
    fn fence(&self) -> Option<Fence> {
        None
    }

    /// While it is held: what its key had when it was taken, if it has looked. Default: it hasn't, and the region looks.
    fn found(&self) -> Option<Option<Stored>> {
        None
    }
}

/// As [`CacheMutex`], for tasks.
pub trait AsyncCacheMutex: Send + Sync {
    /// As [`CacheMutex::acquire`].
    ///
    /// # Cancel safety
    /// A future that is dropped has not taken the lock, or the lock ends with its lease.
    fn acquire(&self, wait: Duration) -> BoxFuture<'_, Result<bool, Error>>;

    /// As [`CacheMutex::release`].
    fn release(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// As [`CacheMutex::locked`].
    fn locked(&self) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(async {
            if self.acquire(Duration::ZERO).await? {
                self.release().await?;
                return Ok(false);
            }
            Ok(true)
        })
    }

    /// As [`CacheMutex::lease`].
    fn lease(&self) -> Option<Duration> {
        None
    }

    /// As [`CacheMutex::fence`].
    fn fence(&self) -> Option<Fence> {
        None
    }

    /// As [`CacheMutex::found`].
    fn found(&self) -> Option<Option<Stored>> {
        None
    }
}

/// A store that blocks.
///
/// It is called while the region keeps other writes of that key out: it must not use the region itself, nor may the
/// destructors of values, and the listener of a cache that a [`MemoryBackend`] is made over.
///
/// Required are [`get`](Self::get), [`set`](Self::set) and [`delete`](Self::delete). Keys are any text, the empty one and
/// those with line ends included; a store that can't have some of them mangles them, or returns an error of the kind
/// [`Key`](crate::ErrorKind::Key). Batches are not altered in place: they come as shared slices.
///
/// ```
/// use dogpile::backend::{Backend, Put, Stored};
/// use dogpile::{Error, Region};
/// use std::collections::HashMap;
/// use std::sync::{Mutex, PoisonError};
///
/// /// A store over a map.
/// #[derive(Default)]
/// struct Own(Mutex<HashMap<String, Stored>>);
///
/// impl Backend for Own {
///     fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
///         Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
///     }
///     fn set(&self, put: Put<'_>) -> Result<(), Error> {
///         self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(put.key.to_owned(), put.value.clone());
///         Ok(())
///     }
///     fn delete(&self, key: &str) -> Result<bool, Error> {
///         Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key).is_some())
///     }
/// }
///
/// let region = Region::builder().backend(Own::default()).build()?;
/// assert_eq!(*region.get_or_create("seven", || 7)?, 7);
/// assert_eq!(region.get::<i32>("seven")?.as_deref(), Some(&7));
/// # Ok::<(), Error>(())
/// ```
pub trait Backend: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// If the store can't be asked.
    fn get(&self, key: &str) -> Result<Option<Stored>, Error>;

    /// Puts an entry in, in the place of what the key has.
    ///
    /// # Errors
    /// If the store can't be asked, or refuses.
    fn set(&self, put: Put<'_>) -> Result<(), Error>;

    /// Takes a key's entry out. True if there was one, as far as the store tells, and else true. Not an error if there is
    /// none.
    ///
    /// # Errors
    /// If the store can't be asked.
    fn delete(&self, key: &str) -> Result<bool, Error>;

    /// The values of many keys, in their order.
    ///
    /// # Errors
    /// As `get`.
    fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// Puts many entries in, in their order. On an error some may be in.
    ///
    /// # Errors
    /// As `set`.
    fn set_multi(&self, puts: &[Put<'_>]) -> Result<(), Error> {
        puts.iter().try_for_each(|put| self.set(*put))
    }

    /// Takes many entries out. On an error some may be out.
    ///
    /// # Errors
    /// As `delete`.
    fn delete_multi(&self, keys: &[&str]) -> Result<(), Error> {
        keys.iter().try_for_each(|key| self.delete(key).map(drop))
    }

    /// Puts entries in, each unless `keeps` says that what is there now shall stay; by one step for each, which no other
    /// write comes between. Returns which were put in. `None`: the store has no such step, which is the default.
    ///
    /// `keeps` gets the entry's place in the batch, and what its key has. It is not asked about an entry with a
    /// [fence](CacheMutex::fence): that one is put in unless the store knows by the fence that newer state has come. A store
    /// whose locks have fences must have this step.
    ///
    /// # Errors
    /// As `set`.
    fn set_unless(
        &self,
        puts: &[Put<'_>],
        keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
    ) -> Option<Result<Vec<bool>, Error>> {
        let _ = (puts, keeps);
        None
    }

    /// Gives a key's entry another time to live. False if there is none. By default the entry is read and written anew.
    ///
    /// # Errors
    /// As `get` and `set`.
    fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        let Some(value) = self.get(key)? else { return Ok(false) };
        if ttl == Some(Duration::ZERO) {
            return self.delete(key);
        }
        self.set(Put::new(key, &value).ttl(ttl))?;
        Ok(true)
    }

    /// Takes out all entries whose key begins with `prefix`. False, which is the default: the store can't find them, or they
    /// may be another region's; the region then treats them as missing.
    ///
    /// # Errors
    /// If the store can't be asked.
    fn clear(&self, prefix: &str) -> Result<bool, Error> {
        let _ = prefix;
        Ok(false)
    }

    /// How many entries there are whose key begins with `prefix`. `None`, which is the default: the store can't count them.
    ///
    /// # Errors
    /// If the store can't be asked.
    fn len(&self, prefix: &str) -> Result<Option<u64>, Error> {
        let _ = prefix;
        Ok(None)
    }

    /// The store's own lock for a key. `None`, which is the default: the lock of this process is all there is.
    fn mutex(&self, key: &str) -> Option<Box<dyn CacheMutex>> {
        let _ = key;
        None
    }

    /// Its own locks that are held now, of keys that begin with `prefix`: a moment's answer. `None`, which is the default: it
    /// has none, or can't list them.
    ///
    /// # Errors
    /// If the store can't be asked.
    fn locks(&self, prefix: &str) -> Result<Option<Vec<LockInfo>>, Error> {
        let _ = prefix;
        Ok(None)
    }

    /// The envelope that a region will have its bytes in: told once to each region's backend, before its first use. A store
    /// may keep other entries otherwise. Default: it is all the same.
    ///
    /// # Errors
    /// If it can't keep those.
    fn attach(&self, envelope: Envelope) -> Result<(), Error> {
        let _ = envelope;
        Ok(())
    }

    /// The messages that processes which share this store can send each other. `None`, which is the default: it passes none on.
    fn bus(&self) -> Option<Arc<dyn Bus>> {
        None
    }

    /// Whether it wants to be told by [`keep`](Self::keep). Default: no.
    fn keeps(&self) -> bool {
        false
    }

    /// What it has given as bytes was opened, at some cost: it may keep `opened` in their place, as long as these are what it
    /// has. Must not block.
    fn keep(&self, key: &str, opened: &Arc<Opened>) {
        let _ = (key, opened);
    }

    /// What it takes. Default: objects, in which a value stays what it is.
    fn takes(&self) -> Takes {
        Takes::Objects
    }

    /// Whether its operations may block. Tasks then leave them to threads. Default: yes.
    fn blocks(&self) -> bool {
        true
    }

    /// The codec of regions that have none of their own.
    fn codec(&self) -> Option<Codec> {
        None
    }

    /// What this store makes of a key, in regions that have no mangler of their own. Default: nothing. `None`: the key itself.
    fn mangle(&self, key: &str) -> Option<String> {
        let _ = key;
        None
    }

    /// Whether `mangle` does anything. Default: no, and it is not asked.
    fn mangles(&self) -> bool {
        false
    }

    /// What it is, for messages: no secrets.
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }
}

/// A store that is waited for: [`Backend`] in futures, with the same contract.
///
/// # Cancel safety
/// A future that is dropped may or may not have done its work. It must leave the store usable: no reply of its own may
/// reach another caller.
pub trait AsyncBackend: Send + Sync {
    /// As [`Backend::get`].
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, Error>>;

    /// As [`Backend::set`].
    fn set<'a>(&'a self, put: Put<'a>) -> BoxFuture<'a, Result<(), Error>>;

    /// As [`Backend::delete`].
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, Error>>;

    /// As [`Backend::get_multi`].
    fn get_multi<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Option<Stored>>, Error>> {
        Box::pin(async move {
            let mut found = Vec::with_capacity(keys.len());
            for key in keys {
                found.push(self.get(key).await?);
            }
            Ok(found)
        })
    }

    /// As [`Backend::set_multi`].
    fn set_multi<'a>(&'a self, puts: &'a [Put<'a>]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            for put in puts {
                self.set(*put).await?;
            }
            Ok(())
        })
    }

    /// As [`Backend::delete_multi`].
    fn delete_multi<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            for key in keys {
                self.delete(key).await?;
            }
            Ok(())
        })
    }

    /// As [`Backend::set_unless`].
    fn set_unless<'a>(
        &'a self,
        puts: &'a [Put<'a>],
        keeps: &'a (dyn Fn(usize, Option<&Stored>) -> bool + Send + Sync),
    ) -> BoxFuture<'a, Option<Result<Vec<bool>, Error>>> {
        let _ = (puts, keeps);
        Box::pin(std::future::ready(None))
    }

    /// As [`Backend::expire`].
    fn expire<'a>(&'a self, key: &'a str, ttl: Option<Duration>) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            let Some(value) = self.get(key).await? else { return Ok(false) };
            if ttl == Some(Duration::ZERO) {
                return self.delete(key).await;
            }
            self.set(Put::new(key, &value).ttl(ttl)).await?;
            Ok(true)
        })
    }

    /// As [`Backend::clear`].
    fn clear<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        let _ = prefix;
        Box::pin(std::future::ready(Ok(false)))
    }

    /// As [`Backend::len`].
    fn len<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Option<u64>, Error>> {
        let _ = prefix;
        Box::pin(std::future::ready(Ok(None)))
    }

    /// As [`Backend::mutex`].
    fn mutex(&self, key: &str) -> Option<Box<dyn AsyncCacheMutex>> {
        let _ = key;
        None
    }

    /// As [`Backend::locks`].
    fn locks<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Option<Vec<LockInfo>>, Error>> {
        let _ = prefix;
        Box::pin(std::future::ready(Ok(None)))
    }

    /// As [`Backend::attach`].
    fn attach(&self, envelope: Envelope) -> Result<(), Error> {
        let _ = envelope;
        Ok(())
    }

    /// As [`Backend::bus`].
    fn bus(&self) -> Option<Arc<dyn Bus>> {
        None
    }

    /// As [`Backend::keeps`].
    fn keeps(&self) -> bool {
        false
    }

    /// As [`Backend::keep`].
    fn keep(&self, key: &str, opened: &Arc<Opened>) {
        let _ = (key, opened);
    }

    /// As [`Backend::takes`].
    fn takes(&self) -> Takes {
        Takes::Objects
    }

    /// As [`Backend::codec`].
    fn codec(&self) -> Option<Codec> {
        None
    }

    /// As [`Backend::mangle`].
    fn mangle(&self, key: &str) -> Option<String> {
        let _ = key;
        None
    }

    /// As [`Backend::mangles`].
    fn mangles(&self) -> bool {
        false
    }

    /// As [`Backend::name`].
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }
}
