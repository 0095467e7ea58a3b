//! Names: of URLs, and those of dogpile.cache with its arguments.
#![forbid(unsafe_code)]

use super::builder::RedisBackendBuilder;
use super::place::Node;
use crate::backend::{Arguments, Schemes, Store};
use crate::codec::Envelope;
use crate::error::Error;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    One,
    Sentinel,
    Cluster,
}

/// A scheme, whether it brings TLS, and whether dogpile.cache calls it so.
const NAMES: &[(&str, Kind, bool, bool)] = &[
    ("redis", Kind::One, false, false),
    ("rediss", Kind::One, true, false),
    ("redis+unix", Kind::One, false, false),
    ("redis+sentinel", Kind::Sentinel, false, false),
    ("rediss+sentinel", Kind::Sentinel, true, false),
    ("redis+cluster", Kind::Cluster, false, false),
    ("rediss+cluster", Kind::Cluster, true, false),
    ("valkey", Kind::One, false, false),
    ("valkeys", Kind::One, true, false),
    ("valkey+unix", Kind::One, false, false),
    ("valkey+sentinel", Kind::Sentinel, false, false),
    ("valkey+cluster", Kind::Cluster, false, false),
    ("dogpile.cache.redis", Kind::One, false, true),
    ("dogpile.cache.redis_sentinel", Kind::Sentinel, false, true),
    ("dogpile.cache.redis_cluster", Kind::Cluster, false, true),
    ("dogpile.cache.valkey", Kind::One, false, true),
    ("dogpile.cache.valkey_sentinel", Kind::Sentinel, false, true),
    ("dogpile.cache.valkey_cluster", Kind::Cluster, false, true),
];

pub(super) fn register(mut schemes: Schemes) -> Schemes {
    for (name, kind, has_tls, is_python) in NAMES {
        schemes = schemes.register_guarded(*name, move |arguments| {
            let builder = if *is_python {
                by_python(arguments, *kind)?
            } else {
                let mut builder = by_url(arguments, *kind)?;
                builder.target.has_tls |= has_tls;
                builder.has_lock = arguments.take_bool("lock")?.unwrap_or(builder.has_lock);
                settings(builder, arguments, "lease", "timeout", "connect_timeout", "ttl")?
            };
            Ok(Store::both(builder.build()?))
        });
    }
    schemes
}

fn node(text: &str, port: u16) -> Option<Node> {
    match text.rsplit_once(':') {
        // An address of IPv6 without a port has colons, too.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
        }
        _ => Some((text.trim_matches(['[', ']']).to_owned(), port)),
    }
    .filter(|(host, _)| !host.is_empty())
}

fn nodes(arguments: &mut Arguments, name: &'static str, port: u16) -> Result<Vec<Node>, Error> {
    let texts = arguments.take_list(name)?.unwrap_or_default();
    let read = |text: &String| {
        node(text, port).ok_or_else(|| arguments.error(name, "expected hosts, as db1:6379,db2:6379"))
    };
    texts.iter().map(read).collect()
}

/// `redis://user:password@host:port/db`; sentinels, and nodes of a cluster, with commas between them.
fn by_url(arguments: &mut Arguments, kind: Kind) -> Result<RedisBackendBuilder, Error> {
    let is_unix = arguments.scheme().ends_with("+unix");
    let hosts = |arguments: &mut Arguments, default: u16| -> Vec<Node> {
        let bare = |host: String| host.trim_matches(['[', ']']).to_owned();
        let hosts = arguments.take_hosts().into_iter();
        hosts.map(|(host, port)| (bare(host), port.unwrap_or(default))).collect()
    };
    let (user, password) = (arguments.take_user(), arguments.take_password());
    let path = arguments.take_path();
    let mut builder = match kind {
        Kind::One if is_unix => {
            let no_path = || arguments.error("path", "give the socket's: redis+unix:///run/redis.sock");
            RedisBackendBuilder::unix(path.clone().ok_or_else(no_path)?)
        }
        Kind::One => match hosts(arguments, PORT).as_slice() {
            [] => RedisBackendBuilder::tcp("localhost", PORT),
            [(host, port)] => RedisBackendBuilder::tcp(host, *port),
            _ => {
                let detail = "there are several: say by redis+sentinel:// or redis+cluster:// what they are";
                return Err(arguments.error("host", detail));
            }
        },
        Kind::Sentinel => {
            let sentinels = hosts(arguments, SENTINEL_PORT);
            let service = arguments.take_str("service")?.unwrap_or_else(|| String::from("mymaster"));
            RedisBackendBuilder::sentinel(sentinels, service)
        }
        Kind::Cluster => RedisBackendBuilder::cluster(hosts(arguments, PORT)),
    };
    builder.target.user = user;
    builder.target.password = password;
    let db = match path.filter(|_| !is_unix) {
        Some(path) => {
            let number = path.trim_start_matches('/').parse().ok();
            Some(number.ok_or_else(|| arguments.error("path", "expected a database's number, as /0"))?)
        }
        None => None,
    };
    match (db, arguments.take_u64("db")?) {
        (Some(_), Some(_)) => Err(arguments.error("db", "it is in the path, too: give it once")),
        (Some(db), None) => Ok(builder.db(db)),
        (None, Some(db)) => {
            let db =
                u32::try_from(db).map_err(|_| arguments.error("db", "expected a database's number, as 0"))?;
            Ok(builder.db(db))
        }
        (None, None) => Ok(builder),
    }
}

/// dogpile.cache's names: entries are strings, with its envelope.
fn by_python(arguments: &mut Arguments, kind: Kind) -> Result<RedisBackendBuilder, Error> {
    let mut builder = if let Some(url) = arguments.take_str("url")? {
        let mut inner = Arguments::from_url(&url)
            .map_err(|_| arguments.error("url", "expected a URL, as redis://localhost:6379/0"))?;
        let kind = if kind == Kind::Cluster { kind } else { Kind::One };
        let known = NAMES.iter().find(|(name, .., is_python)| *name == inner.scheme() && !is_python);
        let Some((.., has_tls, _)) = known else {
            return Err(arguments.error("url", "its scheme is none of redis, rediss, redis+unix"));
        };
        let mut builder = by_url(&mut inner, kind)?;
        builder.target.has_tls = *has_tls;
        inner.finish()?;
        builder
    } else {
        match kind {
            Kind::One => {
                let host = arguments.take_str("host")?.unwrap_or_else(|| String::from("localhost"));
                let port = arguments.take_u64("port")?.unwrap_or(PORT.into());
                let port = u16::try_from(port)
                    .map_err(|_| arguments.error("port", "expected a number up to 65535"))?;
                RedisBackendBuilder::tcp(host, port)
            }
            Kind::Sentinel => {
                let all = nodes(arguments, "sentinels", SENTINEL_PORT)?;
                let service = arguments.take_str("service_name")?.unwrap_or_else(|| String::from("mymaster"));
                RedisBackendBuilder::sentinel(all, service)
            }
            Kind::Cluster => RedisBackendBuilder::cluster(nodes(arguments, "startup_nodes", PORT)?),
        }
    };
    if let Some(db) = arguments.take_u64("db")? {
        let db =
            u32::try_from(db).map_err(|_| arguments.error("db", "expected a database's number, as 0"))?;
        builder = builder.db(db);
    }
    if let Some(user) = arguments.take_str("username")? {
        builder = builder.username(user);
    }
    if let Some(password) = arguments.take_str("password")? {
        builder = builder.password(password);
    }
    builder.target.has_tls |= arguments.take_bool("ssl")?.unwrap_or(false);
    // There it is off, but for sentinels; here a creation is one in all processes unless it is said otherwise.
    builder.has_lock = arguments.take_bool("distributed_lock")?.unwrap_or(true);
    // What it has for threads, and for its ways of waiting, has no counterpart: locks are for creations, and wake who waits.
    for ignored in ["thread_local_lock", "lock_blocking", "socket_keepalive"] {
        arguments.take_bool(ignored)?;
    }
    arguments.take_duration("lock_sleep")?;
    let ttl = if arguments.scheme().contains("valkey") {
        "valkey_expiration_time"
    } else {
        "redis_expiration_time"
    };
    let builder =
        settings(builder, arguments, "lock_timeout", "socket_timeout", "socket_connect_timeout", ttl)?;
    Ok(builder.envelope(Envelope::Dogpile))
}

fn settings(
    mut builder: RedisBackendBuilder,
    arguments: &mut Arguments,
    lease: &'static str,
    timeout: &'static str,
    connect_timeout: &'static str,
    ttl: &'static str,
) -> Result<RedisBackendBuilder, Error> {
    if let Some(lease) = arguments.take_duration(lease)? {
        builder = builder.lease(lease);
    }
    if let Some(timeout) = arguments.take_duration(timeout)? {
        builder = builder.timeout(timeout);
    }
    if let Some(timeout) = arguments.take_duration(connect_timeout)? {
        builder = builder.connect_timeout(timeout);
    }
    // Zero is dogpile.cache's word for none.
    if let Some(ttl) = arguments.take_duration(ttl)? {
        builder = builder.ttl(Some(ttl).filter(|ttl| !ttl.is_zero()));
    }
    if let Some(prefix) = arguments.take_str("lock_prefix")? {
        builder = builder.lock_prefix(prefix);
    }
    if let Some(most) = arguments.take_u64("max_connections")? {
        builder = builder.max_connections(usize::try_from(most).unwrap_or(usize::MAX));
    }
    if let Some(ca) = arguments.take_str("ca")? {
        builder.target.ca = Some(ca.into());
    }
    match arguments.take_u64("protocol")? {
        None | Some(2) => Ok(builder),
        Some(3) => Ok(builder.resp3(true)),
        Some(_) => Err(arguments.error("protocol", "expected 2 or 3")),
    }
}
