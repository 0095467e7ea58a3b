//! [`MemcachedBackendBuilder`], and what a configuration says in its place.
#![forbid(unsafe_code)]

use super::keeper::Keeper;
use super::wire::{Connections, Meta, Server};
use super::{Core, MEMCACHED, MOST_RELATIVE, MemcachedBackend};
use crate::backend::{Arguments, Schemes, Store, shown};
use crate::codec::{Codec, Envelope};
use crate::error::{Error, ErrorKind};
use crate::sync::{Arc, OnceLock};
use crate::time::{Clock, CoarseClock};
use std::fmt;
use std::time::Duration;

const PORT: u16 = 11211;

/// The settings of a [`MemcachedBackend`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct MemcachedBackendBuilder {
    servers: Vec<String>,
    timeout: Duration,
    connect_timeout: Duration,
    lease: Duration,
    locks: bool,
    ttl: Option<Duration>,
    max_connections: usize,
    clock: Arc<dyn Clock>,
    codec: Option<Codec>,
}

impl fmt::Debug for MemcachedBackendBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemcachedBackendBuilder")
            .field("servers", &self.servers.iter().map(|server| shown(server)).collect::<Vec<_>>())
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("lease", &self.lease)
            .field("lock", &self.locks)
            .field("ttl", &self.ttl)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

impl MemcachedBackendBuilder {
    pub(super) fn new() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            lease: Duration::from_secs(30),
            locks: true,
            ttl: None,
            max_connections: 32,
            clock: Arc::new(CoarseClock),
            codec: None,
        }
    }

    /// One more server: a host, or a host and a port, as `cache.example:11211` or `[::1]:11211`. Names are resolved when the
    /// server is connected to, and again after a connection has failed.
    pub fn server(mut self, server: impl Into<String>) -> Self {
        self.servers.push(server.into());
        self
    }

    /// How long a reply is waited for, for the commands of one exchange together. Default: 1 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long a connection is waited for, and one of the pool when all are in use. Default: 1 s. A name that has to be
    /// resolved takes as long as the system takes for it.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// After so long without its holder a lock ends. It is renewed in time. From 2 s, for the server counts whole
    /// seconds, to 29 days; it may take a second more or less. Default: 30 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Whether creations take the store's lock. Default: yes. Without it one creator a process runs.
    pub fn lock(mut self, lock: bool) -> Self {
        self.locks = lock;
        self
    }

    /// The time to live of entries to which their region gives none. Default: none.
    pub fn ttl(mut self, ttl: Option<Duration>) -> Self {
        self.ttl = ttl;
        self
    }

    /// How many connections there are to each server at the most. Default: 32. They are opened when they are needed, and stay
    /// for 90 s after that.
    pub fn max_connections(mut self, most: usize) -> Self {
        self.max_connections = most;
        self
    }

    /// Another clock, whose time of day tells how long more than 30 days are: for tests.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// # Errors
    /// Of the kind [`Config`](ErrorKind::Config), that names the setting. Nothing is connected yet.
    pub fn build(self) -> Result<MemcachedBackend, Error> {
        let bad = |setting: &str, detail: &str| {
            Err(Error::new(ErrorKind::Config, format!("backend `{MEMCACHED}`"))
                .detail(format!("`{setting}`: {detail}")))
        };
        if self.servers.is_empty() {
            return bad("server", "missing: give one, as 127.0.0.1:11211");
        }
        if self.timeout.is_zero() {
            return bad("timeout", "no reply comes in no time: give some, as 1s");
        }
        if self.connect_timeout.is_zero() {
            return bad("connect_timeout", "no connection comes in no time: give some, as 1s");
        }
        if !(Duration::from_secs(2)..=Duration::from_secs(MOST_RELATIVE - 24 * 60 * 60)).contains(&self.lease)
        {
            return bad(
                "lease",
                "expected 2s to 29 days: memcached counts whole seconds, and takes more for a date",
            );
        }
        if self.max_connections == 0 {
            return bad("max_connections", "expected a whole number from 1 on");
        }
        let mut names: Vec<String> = Vec::with_capacity(self.servers.len());
        for server in &self.servers {
            let Some(name) = with_port(server) else {
                return bad(
                    "server",
                    "expected a host, or a host and a port, as cache.example:11211 or [::1]:11211",
                );
            };
            if names.contains(&name) {
                return bad("server", "the same one is given twice");
            }
            names.push(name);
        }
        let connections = Connections {
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            most: self.max_connections,
        };
        let servers =
            names.into_iter().map(|name| Box::new(Meta::new(name, connections)) as Box<dyn Server>).collect();
        Ok(MemcachedBackend {
            core: Arc::new(Core {
                servers,
                lease: self.lease,
                locks: self.locks,
                ttl: self.ttl,
                clock: self.clock,
                codec: self.codec,
                envelope: OnceLock::new(),
                keeper: Arc::new(Keeper::default()),
            }),
        })
    }
}

/// `host:port`. `None`: it is neither a host nor both.
fn with_port(server: &str) -> Option<String> {
    let is_name = |host: &str| {
        !host.is_empty()
            && host.bytes().all(|byte| byte.is_ascii_graphic())
            && !host.contains([':', '/', '@', '[', ']', '?', '#', ','])
    };
    // An IPv6 address stands in brackets.
    let (host, port) = match server.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            let port = if port.is_empty() { None } else { Some(port.strip_prefix(':')?) };
            (format!("[{host}]"), port)
        }
        None => {
            let (host, port) =
                server.split_once(':').map_or((server, None), |(host, port)| (host, Some(port)));
            is_name(host).then(|| (host.to_ascii_lowercase(), port))?
        }
    };
    let port: u16 = port.map_or(Ok(PORT), str::parse).ok().filter(|port| *port != 0)?;
    Some(format!("{host}:{port}"))
}

/// What both kinds of configurations may say.
fn settings(arguments: &mut Arguments) -> Result<MemcachedBackendBuilder, Error> {
    let mut builder = MemcachedBackendBuilder::new();
    if let Some(timeout) = arguments.take_duration("timeout")? {
        builder = builder.timeout(timeout);
    }
    if let Some(timeout) = arguments.take_duration("connect_timeout")? {
        builder = builder.connect_timeout(timeout);
    }
    if let Some(lease) = arguments.take_duration("lease")? {
        builder = builder.lease(lease);
    }
    if let Some(lock) = arguments.take_bool("lock")? {
        builder = builder.lock(lock);
    }
    if let Some(ttl) = arguments.take_duration("ttl")? {
        builder = builder.ttl(Some(ttl));
    }
    if let Some(most) = arguments.take_u64("max_connections")? {
        builder = builder.max_connections(usize::try_from(most).unwrap_or(usize::MAX));
    }
    let hosts = arguments.take_hosts();
    for (host, port) in hosts {
        builder = builder.server(port.map_or(host.clone(), |port| format!("{host}:{port}")));
    }
    let has_secret = arguments.take_user().is_some() | arguments.take_password().is_some();
    if has_secret || arguments.take_str("username")?.is_some() || arguments.take_str("password")?.is_some() {
        return Err(Error::new(ErrorKind::Config, format!("backend `{}`", shown(arguments.scheme()))).detail(
            "there is a user name or a password, which the meta protocol's client can't give: keep the server to a \
             network of its own, and write the URL without them",
        ));
    }
    Ok(builder)
}

fn opened(builder: MemcachedBackendBuilder, arguments: &Arguments) -> Result<Store, Error> {
    if builder.servers.is_empty() {
        return Err(arguments.error("url", "there is no host: write it as memcached://127.0.0.1:11211"));
    }
    builder.build().map(Store::blocking)
}

/// The names that stand for it.
pub(in crate::backend) fn register(schemes: Schemes) -> Schemes {
    let names =
        ["memcached", "pymemcache", "pylibmc", "bmemcached"].map(|name| format!("dogpile.cache.{name}"));
    let short = ["pymemcache", "pylibmc", "bmemcached"].map(String::from);
    let schemes = schemes.register_guarded(MEMCACHED, from_arguments);
    names
        .into_iter()
        .chain(short)
        .fold(schemes, |schemes, name| schemes.register_guarded(name, from_dogpiles_arguments))
}

/// `memcached://…`
fn from_arguments(arguments: &mut Arguments) -> Result<Store, Error> {
    let builder = settings(arguments)?;
    opened(builder, arguments)
}

/// As dogpile.cache's backends for memcached have them: its arguments, its envelope, JSON.
fn from_dogpiles_arguments(arguments: &mut Arguments) -> Result<Store, Error> {
    let mut builder = settings(arguments)?;
    for server in arguments.take_list("url")?.unwrap_or_default() {
        builder = builder.server(server);
    }
    if let Some(lock) = arguments.take_bool("distributed_lock")? {
        builder = builder.lock(lock);
    }
    // There 0 is a lock without an end, which here is renewed as long as it is wanted.
    if let Some(lease) = arguments.take_duration("lock_timeout")?.filter(|lease| !lease.is_zero()) {
        builder = builder.lease(lease);
    }
    if let Some(ttl) = arguments.take_duration("memcached_expire_time")?.filter(|ttl| !ttl.is_zero()) {
        builder = builder.ttl(Some(ttl));
    }
    if let Some(timeout) = arguments.take_duration("socket_timeout")? {
        builder = builder.timeout(timeout);
    }
    builder.codec = Some(Codec::json().envelope(Envelope::Dogpile));
    opened(builder, arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_a_host_and_a_port() {
        for (server, name) in [
            ("cache", Some("cache:11211")),
            ("CACHE.example:1", Some("cache.example:1")),
            ("127.0.0.1:65535", Some("127.0.0.1:65535")),
            ("[::1]", Some("[::1]:11211")),
            ("[::1]:7", Some("[::1]:7")),
            ("", None),
            (":1", None),
            ("a:", None),
            ("a:0", None),
            ("a:65536", None),
            ("a:1:2", None),
            ("::1", None),
            ("[::1", None),
            ("[::1]7", None),
            ("[a]:1", None),
            ("a b", None),
            ("user:secret@a:1", None),
            ("a/b", None),
            ("a,b", None),
        ] {
            assert_eq!(with_port(server).as_deref(), name, "{server}");
        }
    }
}
