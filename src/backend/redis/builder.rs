//! The settings of a [`RedisBackend`].
#![forbid(unsafe_code)]

use super::entries::Core;
use super::keeper::Keeper;
use super::link::Link;
use super::place::{Node, Place, Target};
use super::wakes::Wakes;
use super::{RedisBackend, tls};
use crate::codec::{Codec, Envelope};
use crate::error::{Error, ErrorKind};
use crate::sync::{Arc, OnceLock};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// The shortest lease: it is renewed three times in it.
const SHORTEST_LEASE: Duration = Duration::from_millis(30);

/// Settings of a [`RedisBackend`]; see there.
#[derive(Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct RedisBackendBuilder {
    pub(super) target: Target,
    lease: Duration,
    pub(super) has_lock: bool,
    lock_prefix: String,
    max_connections: usize,
    ttl: Option<Duration>,
    envelope: Envelope,
}

/// Neither user name nor password.
impl fmt::Debug for RedisBackendBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackendBuilder")
            .field("timeout", &self.target.timeout)
            .field("connect_timeout", &self.target.connect_timeout)
            .field("lease", &self.lease)
            .field("lock", &self.has_lock)
            .field("max_connections", &self.max_connections)
            .field("ttl", &self.ttl)
            .field("envelope", &self.envelope)
            .finish_non_exhaustive()
    }
}

fn bad(detail: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Config, "backend `redis`").detail(detail.to_string())
}

impl RedisBackendBuilder {
    fn new(place: Place) -> Self {
        let target = Target {
            place,
            has_tls: false,
            ca: None,
            db: 0,
            user: None,
            password: None,
            is_resp3: false,
            connect_timeout: SECOND,
            timeout: SECOND,
        };
        Self {
            target,
            lease: Duration::from_secs(30),
            has_lock: true,
            lock_prefix: String::from("_lock"),
            max_connections: 32,
            ttl: None,
            envelope: Envelope::Own,
        }
    }

    pub(super) fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self::new(Place::Tcp((host.into(), port)))
    }

    pub(super) fn unix(path: impl Into<PathBuf>) -> Self {
        Self::new(Place::Unix(path.into()))
    }

    pub(super) fn sentinel(sentinels: Vec<Node>, service: impl Into<String>) -> Self {
        Self::new(Place::Sentinel { sentinels, service: service.into() })
    }

    pub(super) fn cluster(nodes: Vec<Node>) -> Self {
        Self::new(Place::Cluster(nodes))
    }

    /// The database's number. Default: 0.
    pub fn db(mut self, db: u32) -> Self {
        self.target.db = db.into();
        self
    }

    /// The user, if it is not the default one, who has a password only.
    pub fn username(mut self, user: impl Into<String>) -> Self {
        self.target.user = Some(user.into());
        self
    }

    /// The password. It is in no message, and in no `Debug`.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.target.password = Some(password.into());
        self
    }

    /// Encrypted, and the server's certificate checked by those of the system; or by those of the file `ca`, in PEM. For the
    /// feature `redis-tls`.
    pub fn tls(mut self, ca: Option<PathBuf>) -> Self {
        self.target.has_tls = true;
        self.target.ca = ca;
        self
    }

    /// Within this time a server has answered, or the call returns an error. Default: 1 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.target.timeout = timeout;
        self
    }

    /// Within this time a server is connected to; not longer than `timeout`. Default: 1 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.target.connect_timeout = timeout;
        self
    }

    /// After this time the lock of a process that has died is free. While it lives it renews its lock three times in it.
    /// Default: 30 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Whether a creation takes the store's lock. Without it each process makes its own value. Default: yes.
    pub fn lock(mut self, has_lock: bool) -> Self {
        self.has_lock = has_lock;
        self
    }

    /// What stands before a key in the name of its lock, where entries are strings. Default: `_lock`, as in dogpile.cache.
    pub fn lock_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.lock_prefix = prefix.into();
        self
    }

    /// So many connections threads may have at once, and who wants one more waits. Default: 32. Tasks share one.
    pub fn max_connections(mut self, most: usize) -> Self {
        self.max_connections = most;
        self
    }

    /// How long entries stay to which their region gives no time. Default: until the server evicts them.
    pub fn ttl(mut self, ttl: Option<Duration>) -> Self {
        self.ttl = ttl;
        self
    }

    /// The third version of the protocol. Default: the second one.
    pub fn resp3(mut self, is_resp3: bool) -> Self {
        self.target.is_resp3 = is_resp3;
        self
    }

    /// The envelope of regions that have no codec of their own; all but our own come with JSON. Default: our own.
    pub fn envelope(mut self, envelope: Envelope) -> Self {
        self.envelope = envelope;
        self
    }

    /// Makes the backend. Connects to nothing yet.
    ///
    /// # Errors
    /// Of the kind [`Config`](ErrorKind::Config): a time of zero, a lease of less than 30 ms, no connections, no hosts, a
    /// database other than 0 in a cluster, TLS without the feature `redis-tls`, or a file `ca` that can't be read.
    pub fn build(self) -> Result<RedisBackend, Error> {
        let mut target = self.target;
        for (name, time) in [("timeout", target.timeout), ("connect_timeout", target.connect_timeout)] {
            if time.is_zero() {
                return Err(bad(format_args!("`{name}`: it must be more than nothing")));
            }
        }
        target.connect_timeout = target.connect_timeout.min(target.timeout);
        if self.lease < SHORTEST_LEASE {
            return Err(bad(
                "`lease`: it must be 30 ms at least, and should be longer than a pause of the process",
            ));
        }
        if self.max_connections == 0 {
            return Err(bad("`max_connections`: it must be 1 at least"));
        }
        match &target.place {
            Place::Sentinel { sentinels: nodes, .. } | Place::Cluster(nodes) if nodes.is_empty() => {
                return Err(bad("give at least one host"));
            }
            Place::Cluster(_) if target.db != 0 => {
                return Err(bad("`db`: a cluster has only the database 0"));
            }
            Place::Unix(_) if target.has_tls => return Err(bad("a unix socket has no TLS")),
            _ => {}
        }
        if target.has_tls && !tls::IS_THERE {
            return Err(bad("TLS needs the feature `redis-tls` of this crate"));
        }
        if let Some(ca) = &target.ca {
            if !target.has_tls {
                return Err(bad("`ca`: that is for TLS, as by rediss://"));
            }
            if std::fs::File::open(ca).is_err() {
                return Err(bad("`ca`: there is no such file of certificates, or it can't be read"));
            }
        }
        let link = Arc::new(Link::new(target, self.max_connections));
        Ok(RedisBackend::of(Core {
            layout: OnceLock::new(),
            envelope: self.envelope,
            ttl: self.ttl,
            lease: self.lease,
            has_lock: self.has_lock,
            lock_prefix: self.lock_prefix.into(),
            wakes: Arc::new(Wakes::new(Arc::clone(&link))),
            keeper: Arc::new(Keeper::new(Arc::clone(&link), self.lease)),
            link,
        }))
    }
}

/// The codec of an envelope, for regions that have none.
pub(super) fn codec(envelope: Envelope) -> Option<Codec> {
    (envelope != Envelope::Own).then(|| Codec::json().envelope(envelope))
}
