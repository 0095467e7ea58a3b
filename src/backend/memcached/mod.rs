//! [`MemcachedBackend`]: regions shared over memcached.
//!
//! Values are what the region made of them, with client flags 0; in our own layout a value of no bytes has the flag
//! [`EMPTY`], since an empty item without it is the placeholder of a lock (`lock.rs`). Keys: `keys.rs`. Which server: `servers.rs`.
//!
//! Times to live are whole seconds by the server's clock. That ticks about once a second, a little later each time, until one
//! tick counts for two: what is told to live for n seconds lives for n - 2 to n (1.6.18, 2026-11-21: of servers
//! that were told 2 s, some had ended an entry after 6 ms). An entry is given one more than its region
//! says: it stays for up to two seconds longer, or goes up to one sooner. More than 30 days go as a date by this machine's clock; a date beyond
//! 2038, which the protocol has no room for, is never.
#![forbid(unsafe_code)]

mod builder;
mod keeper;
mod keys;
mod lock;
mod servers;
mod wire;

pub use builder::MemcachedBackendBuilder;
pub(super) use builder::register;

use self::keeper::Keeper;
use self::lock::{Fenced, Lock};
use self::wire::{Answer, Ask, Item, Server, When};
use super::{Backend, CacheMutex, Put, Stored, Takes};
use crate::codec::{Codec, Envelope};
use crate::error::{Error, ErrorKind};
use crate::sync::{Arc, OnceLock};
use crate::time::Clock;
use std::fmt;
use std::time::Duration;

/// What it is called in messages.
const MEMCACHED: &str = "memcached";

/// The client flag of real values that are empty.
const EMPTY: u32 = 1;

/// Longer than this the protocol takes for a date.
const MOST_RELATIVE: u64 = 30 * 24 * 60 * 60;

/// So often a write that depends on what is there is tried.
const MOST_TRIES: usize = 32;

/// How entries stand in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Own,
    /// As dogpile.cache and others have them: values as they are, locks by `add`.
    Python,
}

struct Core {
    servers: Vec<Box<dyn Server>>,
    lease: Duration,
    /// Whether it gives locks.
    locks: bool,
    /// Of entries that come without one.
    ttl: Option<Duration>,
    clock: Arc<dyn Clock>,
    codec: Option<Codec>,
    envelope: OnceLock<Envelope>,
    keeper: Arc<Keeper>,
}

impl Core {
    fn layout(&self) -> Layout {
        match self.envelope.get() {
            None | Some(Envelope::Own) => Layout::Own,
            Some(_) => Layout::Python,
        }
    }

    fn choose(&self, wire: &str) -> usize {
        match self.servers.len() {
            1 => 0,
            _ => {
                let names: Vec<&str> = self.servers.iter().map(|server| server.name()).collect();
                servers::choose(&names, wire)
            }
        }
    }

    fn server(&self, wire: &str) -> &dyn Server {
        &*self.servers[self.choose(wire)]
    }

    /// What the server is told: it lasts for so long, or up to two seconds less.
    fn lease_seconds(&self) -> u32 {
        u32::try_from(whole_seconds(self.lease)).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// A third of the shortest time that it lasts.
    fn renews_after(&self) -> Duration {
        Duration::from_secs(self.lease_seconds().saturating_sub(2).into()) / 3
    }

    /// So many seconds from now, as the protocol has it.
    fn seconds(&self, seconds: u32) -> u32 {
        self.date(seconds.into())
    }

    fn date(&self, seconds: u64) -> u32 {
        if seconds <= MOST_RELATIVE {
            return seconds as u32;
        }
        let date = self.clock.unix().as_secs().saturating_add(seconds);
        // Zero is never.
        i32::try_from(date).map_or(0, i32::unsigned_abs)
    }

    /// A time to live as the protocol has it. `None`: gone at once.
    fn ttl(&self, ttl: Option<Duration>) -> Option<u32> {
        match ttl.or(self.ttl) {
            None => Some(0),
            Some(Duration::ZERO) => None,
            // One more, for the second that runs counts as a whole one.
            Some(ttl) => Some(self.date(whole_seconds(ttl).saturating_add(1))),
        }
    }

    /// Whether it is more than the placeholder of a lock.
    fn is_value(&self, item: &Item) -> bool {
        item.size != 0 || item.flags & EMPTY != 0 || self.layout() == Layout::Python
    }

    fn flags(&self, value: &[u8]) -> u32 {
        if value.is_empty() && self.layout() == Layout::Own { EMPTY } else { 0 }
    }

    fn found(&self, answer: Answer) -> Option<Stored> {
        match answer {
            Answer::Item(item) if self.is_value(&item) => Some(Stored::from(item.value)),
            _ => None,
        }
    }

    /// Asks each key's server, all that one server has in one go. The answers are in the order of the questions.
    fn ask_all(&self, asks: &[(&str, Ask<'_>)]) -> Result<Vec<Answer>, Error> {
        if let [server] = &*self.servers {
            return server.ask(&asks.iter().map(|(_, ask)| *ask).collect::<Vec<_>>());
        }
        let mut of_server: Vec<Vec<usize>> = vec![Vec::new(); self.servers.len()];
        asks.iter().enumerate().for_each(|(i, (key, _))| of_server[self.choose(key)].push(i));
        let mut answers = vec![Answer::Nothing; asks.len()];
        for (server, places) in self.servers.iter().zip(of_server) {
            let answered = server.ask(&places.iter().map(|i| asks[*i].1).collect::<Vec<_>>())?;
            places.into_iter().zip(answered).for_each(|(i, answer)| answers[i] = answer);
        }
        Ok(answers)
    }

    /// The command that puts an entry in. `None`: there is nothing to do.
    fn put<'a>(&self, key: &'a str, value: &'a [u8], ttl: Option<u32>, when: When) -> Option<Ask<'a>> {
        match (ttl, when) {
            (Some(ttl), _) => Some(Ask::Set { key, value, flags: self.flags(value), ttl, when }),
            (None, When::Always) => Some(Ask::Delete { key, same: None }),
            (None, When::Same(cas)) => Some(Ask::Delete { key, same: Some(cas) }),
            (None, When::Absent) => None,
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.keeper.end();
    }
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add((time.subsec_nanos() != 0).into())
}

/// The bytes of an entry.
fn bytes<'a>(value: &'a Stored, operation: &str) -> Result<&'a [u8], Error> {
    value.bytes().ok_or_else(|| {
        Error::new(ErrorKind::WrongType, format!("{MEMCACHED} {operation}"))
            .detail("it takes bytes: give the region a codec")
    })
}

/// A store in memcached, in one server or several, for all processes that use it: feature `memcached`.
///
/// It needs memcached 1.6 by TCP, without a password; it connects when it is used for the first time. Its operations block, each
/// for no longer than its time limits; an [`AsyncRegion`](crate::AsyncRegion) runs them on threads. Clones share the
/// connections.
///
/// A creation holds the key's lock in the server, so that of all processes one makes a value; whoever dies with it is
/// followed by the next when its lease has ended. A value is not written if the key was set or deleted since its creation
/// began. memcached throws entries away when it needs the room, locks among them; nothing else depends on that than how
/// often a creator runs.
///
/// | setting | default | |
/// |---|---|---|
/// | the URL's hosts | | `memcached://one:11211,two`; without a port 11211. A key is on one of them, see below |
/// | `timeout` | 1 s | how long a reply is waited for; dogpile.cache's `socket_timeout` |
/// | `connect_timeout` | 1 s | how long a connection is waited for, or a free one of the pool |
/// | `lease` | 30 s | after so long without its holder a lock ends; at least 2 s; dogpile.cache's `lock_timeout` |
/// | `lock` | true | whether creations take the store's lock; dogpile.cache's `distributed_lock` |
/// | `ttl` | none | the time to live of entries to which their region gives none; dogpile.cache's `memcached_expire_time` |
/// | `max_connections` | 32 | to each server |
///
/// The names that dogpile.cache has (`dogpile.cache.memcached`, `pymemcache`, `pylibmc`, `bmemcached`) take its arguments
/// and bring its envelope and JSON: such a region shares keys, values and locks with Python. The names of the servers
/// decide which has a key: they must be the same in all processes, and several servers are not shared with Python. While a
/// server is down the keys that it has are errors, for the region to deal with.
///
/// ```no_run
/// use dogpile::backend::MemcachedBackend;
/// use dogpile::{Region, RegionPolicy};
/// use std::time::Duration;
///
/// let backend = MemcachedBackend::builder().server("127.0.0.1:11211").lease(Duration::from_secs(10)).build()?;
/// let minute = RegionPolicy::builder().fresh(Duration::from_secs(60)).build()?;
/// let users = Region::builder().backend(backend).prefix("users:").policy(minute).build()?;
/// assert_eq!(*users.get_or_create("7", || String::from("Ada"))?, "Ada");
/// // The same by URL:
/// let users = Region::from_url("memcached://127.0.0.1:11211?lease=10s&prefix=users:&fresh=1m")?;
/// assert_eq!(users.get::<String>("7")?.as_deref().map(String::as_str), Some("Ada"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct MemcachedBackend {
    core: Arc<Core>,
}

impl MemcachedBackend {
    /// Settings, one by one.
    ///
    /// ```
    /// use dogpile::backend::MemcachedBackend;
    ///
    /// let backend = MemcachedBackend::builder().server("one.example").server("two.example:11212").build()?;
    /// assert!(format!("{backend:?}").contains("two.example:11212"));
    /// assert!(MemcachedBackend::builder().build().is_err(), "where?");
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    pub fn builder() -> MemcachedBackendBuilder {
        MemcachedBackendBuilder::new()
    }

    /// Tries to put in what has no fence, until nobody comes in between.
    fn put_unless(
        &self,
        puts: &[Put<'_>],
        mut left: Vec<usize>,
        keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
        is_put: &mut [bool],
    ) -> Result<(), Error> {
        let core = &*self.core;
        for _ in 0..MOST_TRIES {
            if left.is_empty() {
                return Ok(());
            }
            let wires: Vec<_> = left.iter().map(|i| keys::wire(puts[*i].key)).collect();
            let looks: Vec<_> = wires.iter().map(|wire| (&**wire, Ask::get(wire))).collect();
            let mut tried = Vec::with_capacity(left.len());
            let mut asks = Vec::with_capacity(left.len());
            for ((i, wire), now) in left.iter().zip(&wires).zip(core.ask_all(&looks)?) {
                let when = match &now {
                    Answer::Item(item) => When::Same(item.cas),
                    _ => When::Absent,
                };
                if keeps(*i, core.found(now).as_ref()) {
                    continue;
                }
                let value = bytes(puts[*i].value, "set")?;
                match core.put(wire, value, core.ttl(puts[*i].ttl), when) {
                    Some(ask) => {
                        tried.push(*i);
                        asks.push((&**wire, ask));
                    }
                    None => is_put[*i] = true,
                }
            }
            let answers = core.ask_all(&asks)?;
            left.clear();
            for (i, answer) in tried.into_iter().zip(answers) {
                match answer {
                    Answer::Done(_) => is_put[i] = true,
                    _ => left.push(i),
                }
            }
        }
        // Somebody has come in between each time: newer state there is.
        Ok(())
    }
}

impl fmt::Debug for MemcachedBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemcachedBackend")
            .field("servers", &self.core.servers.iter().map(|server| server.name()).collect::<Vec<_>>())
            .field("lease", &self.core.lease)
            .field("lock", &self.core.locks)
            .field("layout", &self.core.layout())
            .finish_non_exhaustive()
    }
}

impl Backend for MemcachedBackend {
    fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
        let wire = keys::wire(key);
        let answer = self.core.server(&wire).ask_one(Ask::get(&wire))?;
        Ok(self.core.found(answer))
    }

    fn set(&self, put: Put<'_>) -> Result<(), Error> {
        self.set_multi(&[put])
    }

    fn delete(&self, key: &str) -> Result<bool, Error> {
        let wire = keys::wire(key);
        let look = Ask::Get { key: &wire, has_value: false, vivify: None, touch: None };
        let answers = self.core.server(&wire).ask(&[look, Ask::Delete { key: &wire, same: None }])?;
        Ok(matches!(&answers[0], Answer::Item(item) if self.core.is_value(item)))
    }

    fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error> {
        let wires: Vec<_> = keys.iter().map(|key| keys::wire(key)).collect();
        let asks: Vec<_> = wires.iter().map(|wire| (&**wire, Ask::get(wire))).collect();
        let answers = self.core.ask_all(&asks)?;
        Ok(answers.into_iter().map(|answer| self.core.found(answer)).collect())
    }

    fn set_multi(&self, puts: &[Put<'_>]) -> Result<(), Error> {
        let wires: Vec<_> = puts.iter().map(|put| keys::wire(put.key)).collect();
        let mut asks = Vec::with_capacity(puts.len());
        for (put, wire) in puts.iter().zip(&wires) {
            let value = bytes(put.value, "set")?;
            let ask = self.core.put(wire, value, self.core.ttl(put.ttl), When::Always);
            asks.extend(ask.map(|ask| (&**wire, ask)));
        }
        self.core.ask_all(&asks).map(drop)
    }

    fn delete_multi(&self, keys: &[&str]) -> Result<(), Error> {
        let wires: Vec<_> = keys.iter().map(|key| keys::wire(key)).collect();
        let asks: Vec<_> =
            wires.iter().map(|wire| (&**wire, Ask::Delete { key: wire, same: None })).collect();
        self.core.ask_all(&asks).map(drop)
    }

    fn set_unless(
        &self,
        puts: &[Put<'_>],
        keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
    ) -> Option<Result<Vec<bool>, Error>> {
        let mut is_put = vec![false; puts.len()];
        let mut write = || {
            let mut left = Vec::new();
            for (i, put) in puts.iter().enumerate() {
                match put.fence.and_then(|fence| fence.get::<Fenced>()) {
                    Some(Fenced(held)) => {
                        let value = bytes(put.value, "set")?;
                        is_put[i] = held.write(value, self.core.flags(value), self.core.ttl(put.ttl))?;
                    }
                    None => left.push(i),
                }
            }
            self.put_unless(puts, left, keeps, &mut is_put)
        };
        Some(write().map(|()| is_put))
    }

    fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        let Some(seconds) = self.core.ttl(ttl) else { return self.delete(key) };
        let wire = keys::wire(key);
        let server = self.core.server(&wire);
        let look = Ask::Get { key: &wire, has_value: false, vivify: None, touch: None };
        // A placeholder keeps its own.
        if !matches!(server.ask_one(look)?, Answer::Item(item) if self.core.is_value(&item)) {
            return Ok(false);
        }
        let touch = Ask::Get { key: &wire, has_value: false, vivify: None, touch: Some(seconds) };
        Ok(matches!(server.ask_one(touch)?, Answer::Item(_)))
    }

    fn mutex(&self, key: &str) -> Option<Box<dyn CacheMutex>> {
        self.core.locks.then(|| Box::new(Lock::new(&self.core, key)) as Box<dyn CacheMutex>)
    }

    fn attach(&self, envelope: Envelope) -> Result<(), Error> {
        if *self.core.envelope.get_or_init(|| envelope) == envelope {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Config, format!("backend `{MEMCACHED}`")).detail(
            "regions with different envelopes have it: their entries stand differently in the store, so give each a \
             backend of its own",
        ))
    }

    fn takes(&self) -> Takes {
        Takes::Bytes
    }

    fn codec(&self) -> Option<Codec> {
        self.core.codec.clone()
    }

    fn name(&self) -> &'static str {
        MEMCACHED
    }
}
