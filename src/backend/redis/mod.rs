//! [`RedisBackend`]: entries and locks in Redis or Valkey.
//!
//! | file | has |
//! |---|---|
//! | `place` | where the servers are: one, sentinels, a cluster |
//! | `link`, `threads`, `tasks` | asking, and the connections for it |
//! | `script` | what the server does in one step, and the protocol of the locks |
//! | `entries`, `scan` | the operations on entries; on those that begin so |
//! | `mutex`, `keeper`, `wakes` | the locks, their renewal, who waits for them |
//! | `bus` | messages between processes |
//! | `builder`, `names` | settings; by URL and by dogpile.cache's names |
#![forbid(unsafe_code)]

mod builder;
mod bus;
mod entries;
mod failed;
mod keeper;
mod link;
mod mutex;
mod names;
mod place;
mod scan;
mod script;
mod tasks;
mod threads;
#[cfg(feature = "redis-tls")]
mod tls;
#[cfg(not(feature = "redis-tls"))]
#[path = "without_tls.rs"]
mod tls;
mod wakes;

pub use builder::RedisBackendBuilder;

use self::bus::RedisBus;
use self::entries::Core;
use self::link::{SharedLink, Via};
use self::mutex::StoreLock;
use super::{
    AsyncBackend, AsyncCacheMutex, Backend, BoxFuture, Bus, CacheMutex, LockInfo, Put, Schemes, Stored, Takes,
};
use crate::codec::{Codec, Envelope};
use crate::error::Error;
use crate::sync::Arc;
use smol::future::block_on;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The names of this backend.
pub(super) fn register(schemes: Schemes) -> Schemes {
    names::register(schemes)
}

/// A store in Redis 6 or later, or in Valkey: one server, by TCP, TLS or a unix socket; the master that sentinels name; or a
/// cluster. For threads and for tasks of any runtime. Valkey speaks the same language; it is tested against Redis.
///
/// By URL, `redis://user:password@host:6379/0`:
///
/// | URL | server |
/// |---|---|
/// | `redis://host:6379/0`, `valkey://…` | one |
/// | `rediss://…`, `valkeys://…` | one, over TLS (feature `redis-tls`); `ca=file.pem` in the place of the system's certificates |
/// | `redis+unix:///run/redis.sock?db=0` | one, by its socket |
/// | `redis+sentinel://one:26379,two:26379/0?service=mymaster` | the master that these sentinels name; `rediss+sentinel` |
/// | `redis+cluster://one:6379,two:6379` | a cluster that these nodes are of; `rediss+cluster` |
///
/// | setting (dogpile.cache's name) | default | |
/// |---|---|---|
/// | `timeout` (`socket_timeout`) | 1s | a server that does not answer in it is an error |
/// | `connect_timeout` (`socket_connect_timeout`) | 1s | at most `timeout` |
/// | `lease` (`lock_timeout`) | 30s | a dead process's lock is free after it |
/// | `lock` (`distributed_lock`) | true | false: each process makes its own values |
/// | `lock_prefix` | `_lock` | of locks beside strings |
/// | `max_connections` | 32 | of threads |
/// | `ttl` (`redis_expiration_time`) | none | of entries to which their region gives none |
/// | `protocol` | 2 | or 3 |
///
/// With our own envelope an entry is one hash: its value, its epoch and its lock, each changed by a script in one step. A
/// creation that has lost its lock to another, or whose key was set or deleted meanwhile, does not write.
///
/// With the envelopes [`Dogpile`](Envelope::Dogpile) and [`Plain`](Envelope::Plain) an entry is a string, and its lock
/// another one, as dogpile.cache has them: the names `dogpile.cache.redis` and its kin bring that, and JSON. There a
/// creation writes if the bytes are those from before it. In a cluster lock and entry may be on two servers: who has lost
/// its lease there is not refused for that alone.
///
/// Of sentinels only the master is used, also for reads. Leases are by the server's clock: one that is put back makes those of
/// holders that have died longer by as much.
///
/// [`clear`](Backend::clear) and [`len`](Backend::len) look through the keys that begin with the region's prefix, on all
/// masters. Without a prefix they do nothing, since the keys may be another application's: the region treats its entries as
/// missing then.
///
/// # Cost
/// A read or write is one round trip, a creation two: the lock, which tells what the key has, and the write, which gives it
/// back. Nothing is connected to before the first use.
///
/// # Errors
/// [`Unavailable`](crate::ErrorKind::Unavailable), [`Timeout`](crate::ErrorKind::Timeout) and
/// [`Full`](crate::ErrorKind::Full), which a region may bear; [`Unsupported`](crate::ErrorKind::Unsupported) for a key that
/// has something else. A command may have been done all the same. One whose connection was found closed is sent once more.
///
/// ```no_run
/// use dogpile::Region;
/// use dogpile::backend::RedisBackend;
/// use std::time::Duration;
///
/// let backend = RedisBackend::builder("localhost", 6379).timeout(Duration::from_millis(200)).build()?;
/// let region = Region::builder().backend(backend).prefix("users:").build()?;
/// assert_eq!(*region.get_or_create("7", || String::from("Ada"))?, "Ada");
/// # Ok::<(), dogpile::Error>(())
/// ```
#[derive(Clone)]
pub struct RedisBackend {
    core: Arc<Core>,
}

impl RedisBackend {
    fn of(core: Core) -> Self {
        Self { core: Arc::new(core) }
    }

    /// Of one server.
    ///
    /// ```
    /// use dogpile::backend::RedisBackend;
    /// // Connects to nothing yet.
    /// let backend = RedisBackend::builder("localhost", 6379).password("secret").build()?;
    /// assert!(!format!("{backend:?}").contains("secret"));
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    pub fn builder(host: impl Into<String>, port: u16) -> RedisBackendBuilder {
        RedisBackendBuilder::tcp(host, port)
    }

    /// Of one server, by its unix socket.
    ///
    /// ```
    /// let backend = dogpile::backend::RedisBackend::over_socket("/run/redis.sock").build()?;
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    pub fn over_socket(path: impl Into<PathBuf>) -> RedisBackendBuilder {
        RedisBackendBuilder::unix(path)
    }

    /// Of the master that these sentinels name.
    ///
    /// ```
    /// let sentinels = ["a", "b", "c"].map(|host| (String::from(host), 26379));
    /// let backend = dogpile::backend::RedisBackend::of_sentinels(sentinels, "mymaster").build()?;
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    pub fn of_sentinels(
        sentinels: impl IntoIterator<Item = (String, u16)>,
        service: impl Into<String>,
    ) -> RedisBackendBuilder {
        RedisBackendBuilder::sentinel(sentinels.into_iter().collect(), service)
    }

    /// Of a cluster that these nodes belong to; it tells of the others.
    ///
    /// ```
    /// let nodes = ["a", "b", "c"].map(|host| (String::from(host), 6379));
    /// let backend = dogpile::backend::RedisBackend::of_cluster(nodes).build()?;
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    pub fn of_cluster(nodes: impl IntoIterator<Item = (String, u16)>) -> RedisBackendBuilder {
        RedisBackendBuilder::cluster(nodes.into_iter().collect())
    }

    fn lock(&self, key: &str) -> Option<StoreLock> {
        self.core.has_lock.then(|| StoreLock::new(&self.core, key))
    }

    fn messages(&self) -> Arc<dyn Bus> {
        Arc::new(RedisBus { link: SharedLink::clone(&self.core.link) })
    }
}

/// Where it is, is not shown: there may be a password with it.
impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend")
            .field("lease", &self.core.lease)
            .field("lock", &self.core.has_lock)
            .field("layout", &self.core.layout.get())
            .finish_non_exhaustive()
    }
}

impl Backend for RedisBackend {
    fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
        block_on(self.core.get(Via::Threads, key))
    }
    fn set(&self, put: Put<'_>) -> Result<(), Error> {
        block_on(self.core.set(Via::Threads, put))
    }
    fn delete(&self, key: &str) -> Result<bool, Error> {
        block_on(self.core.delete(Via::Threads, key))
    }
    fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error> {
        block_on(self.core.get_multi(Via::Threads, keys))
    }
    fn set_multi(&self, puts: &[Put<'_>]) -> Result<(), Error> {
        block_on(self.core.set_multi(Via::Threads, puts))
    }
    fn delete_multi(&self, keys: &[&str]) -> Result<(), Error> {
        block_on(self.core.delete_multi(Via::Threads, keys))
    }
    fn set_unless(
        &self,
        puts: &[Put<'_>],
        keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
    ) -> Option<Result<Vec<bool>, Error>> {
        Some(block_on(self.core.set_unless(Via::Threads, puts, keeps)))
    }
    fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        block_on(self.core.expire(Via::Threads, key, ttl))
    }
    fn clear(&self, prefix: &str) -> Result<bool, Error> {
        block_on(self.core.clear(Via::Threads, prefix))
    }
    fn len(&self, prefix: &str) -> Result<Option<u64>, Error> {
        block_on(self.core.len(Via::Threads, prefix))
    }
    fn mutex(&self, key: &str) -> Option<Box<dyn CacheMutex>> {
        Some(Box::new(self.lock(key)?))
    }
    fn locks(&self, prefix: &str) -> Result<Option<Vec<LockInfo>>, Error> {
        block_on(self.core.locks(Via::Threads, prefix))
    }
    fn attach(&self, envelope: Envelope) -> Result<(), Error> {
        self.core.attach(envelope)
    }
    fn bus(&self) -> Option<Arc<dyn Bus>> {
        Some(self.messages())
    }
    fn takes(&self) -> Takes {
        Takes::Bytes
    }
    fn codec(&self) -> Option<Codec> {
        builder::codec(self.core.envelope)
    }
    fn name(&self) -> &'static str {
        "redis"
    }
}

/// # Cancel safety
/// What is dropped may have been done. Its reply reaches nobody.
impl AsyncBackend for RedisBackend {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, Error>> {
        Box::pin(self.core.get(Via::Tasks, key))
    }
    fn set<'a>(&'a self, put: Put<'a>) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.core.set(Via::Tasks, put))
    }
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(self.core.delete(Via::Tasks, key))
    }
    fn get_multi<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Option<Stored>>, Error>> {
        Box::pin(self.core.get_multi(Via::Tasks, keys))
    }
    fn set_multi<'a>(&'a self, puts: &'a [Put<'a>]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.core.set_multi(Via::Tasks, puts))
    }
    fn delete_multi<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.core.delete_multi(Via::Tasks, keys))
    }
    fn set_unless<'a>(
        &'a self,
        puts: &'a [Put<'a>],
        keeps: &'a (dyn Fn(usize, Option<&Stored>) -> bool + Send + Sync),
    ) -> BoxFuture<'a, Option<Result<Vec<bool>, Error>>> {
        Box::pin(async move { Some(self.core.set_unless(Via::Tasks, puts, keeps).await) })
    }
    fn expire<'a>(&'a self, key: &'a str, ttl: Option<Duration>) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(self.core.expire(Via::Tasks, key, ttl))
    }
    fn clear<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(self.core.clear(Via::Tasks, prefix))
    }
    fn len<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Option<u64>, Error>> {
        Box::pin(self.core.len(Via::Tasks, prefix))
    }
    fn mutex(&self, key: &str) -> Option<Box<dyn AsyncCacheMutex>> {
        Some(Box::new(self.lock(key)?))
    }
    fn locks<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Option<Vec<LockInfo>>, Error>> {
        Box::pin(self.core.locks(Via::Tasks, prefix))
    }
    fn attach(&self, envelope: Envelope) -> Result<(), Error> {
        self.core.attach(envelope)
    }
    fn bus(&self) -> Option<Arc<dyn Bus>> {
        Some(self.messages())
    }
    fn takes(&self) -> Takes {
        Takes::Bytes
    }
    fn codec(&self) -> Option<Codec> {
        builder::codec(self.core.envelope)
    }
    fn name(&self) -> &'static str {
        "redis"
    }
}
