//! Names and settings; and what no message, no `Debug` and no error may tell.

use super::servers::{Cluster, Redis, Sentinel, free_port, until};
use dogpile::backend::{Address, Arguments, Backend, RedisBackend, Schemes, Setting, Store};
use dogpile::region::RegionConfig;
use dogpile::{Error, ErrorKind, Region};
use serde_json::json;
use std::collections::BTreeMap;

const SECRET: &str = "hunter2-marked";

fn open(url: &str) -> Result<Store, Error> {
    Schemes::new().open(Arguments::from_url(url)?)
}

fn map(name: &str, settings: &[(&str, &str)]) -> Result<Store, Error> {
    let settings: BTreeMap<String, Setting> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), Setting::from(*value))).collect();
    Schemes::new().open(Arguments::new(name.parse::<Address>()?, settings))
}

#[test]
fn names_and_settings_are_taken() {
    for url in [
        "redis://",
        "redis://host",
        "redis://user:secret@host:1/3",
        "redis://[::1]:7000",
        "valkey://host?timeout=250ms&connect_timeout=1&lease=5s&lock=false&max_connections=2&ttl=1h&protocol=3",
        "redis+unix:///run/redis.sock?db=2&lock_prefix=_l",
        "redis+sentinel://one:1,two:2/0?service=main",
        "redis+cluster://one,two:2,[::1]",
        "valkey+sentinel://one",
        "valkey+cluster://one",
    ] {
        open(url).unwrap_or_else(|error| panic!("{url}: {error}"));
    }
    let python: &[(&str, &[(&str, &str)])] = &[
        ("dogpile.cache.redis", &[]),
        (
            "dogpile.cache.redis",
            &[
                ("host", "h"),
                ("port", "7000"),
                ("db", "1"),
                ("username", "u"),
                ("password", "p"),
                ("redis_expiration_time", "7200"),
                ("distributed_lock", "True"),
                ("lock_timeout", "30"),
                ("lock_sleep", "0.1"),
                ("lock_prefix", "_lock"),
                ("thread_local_lock", "False"),
                ("socket_timeout", "0.5"),
                ("socket_connect_timeout", "0.5"),
            ],
        ),
        ("dogpile.cache.redis", &[("url", "redis://u:p@h:7000/1")]),
        ("dogpile.cache.redis_sentinel", &[("sentinels", "a:26379,b:26379"), ("service_name", "main")]),
        ("dogpile.cache.redis_cluster", &[("url", "redis://h:7000")]),
        ("dogpile.cache.redis_cluster", &[("startup_nodes", "a:1,b:2")]),
        ("dogpile.cache.valkey", &[("valkey_expiration_time", "0")]),
        ("dogpile.cache.valkey_cluster", &[("startup_nodes", "a")]),
    ];
    for (name, settings) in python {
        map(name, settings).unwrap_or_else(|error| panic!("{name} {settings:?}: {error}"));
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (url, expected) in [
        ("redis://h/zero", "`path`: expected a database's number"),
        ("redis://h/1?db=2", "`db`: it is in the path, too"),
        ("redis://one,two", "`host`: there are several: say by redis+sentinel:// or redis+cluster://"),
        ("redis+unix://", "`path`: give the socket's"),
        ("redis+cluster://", "give at least one host"),
        ("redis+cluster://h/1", "`db`: a cluster has only the database 0"),
        ("redis://h?protocol=4", "`protocol`: expected 2 or 3"),
        ("redis://h?timeout=0", "`timeout`: it must be more than nothing"),
        ("redis://h?lease=1ms", "`lease`: it must be 30 ms at least"),
        ("redis://h?max_connections=0", "`max_connections`: it must be 1 at least"),
        ("redis://h?ca=ca.pem", "`ca`: that is for TLS"),
        ("redis://h?speed=1", "`speed` is unknown: accepted are "),
        ("redis://h?redis_expiration_time=1", "`redis_expiration_time` is unknown"),
    ] {
        let error = open(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        assert!(error.to_string().contains(expected), "{url}: {error}");
    }
    let settings = [("url", "memory://")];
    let error = map("dogpile.cache.redis", &settings).unwrap_err();
    assert!(error.to_string().contains("its scheme is none of redis, rediss, redis+unix"), "{error}");
}

/// The settings do what they say.
#[test]
fn settings_reach_the_server() {
    let server = Redis::start_with(&["--requirepass", SECRET]);
    let url = format!("redis://:{SECRET}@127.0.0.1:{}/5?ttl=1h&lease=2s&timeout=2s", server.port());
    let region = Region::from_url(&url).unwrap();
    let ask = |words: &[&str]| server.ask(words);
    region
        .get_or_create("key", || {
            let left: u64 = ask(&["PTTL", "key"]).parse().unwrap_or(0);
            assert_eq!(left, 0, "it is in another database");
            1
        })
        .unwrap();
    assert!(ask(&["INFO", "keyspace"]).contains("db5:keys=1,expires=1"), "{}", ask(&["INFO", "keyspace"]));
    // As Python has it: a string with its head, and the time to live in seconds.
    let url = format!("redis://:{SECRET}@127.0.0.1:{}/0", server.port());
    static SHARED: Region = Region::new("shared");
    SHARED
        .configure_from_config(
            [
                ("backend", "dogpile.cache.redis"),
                ("arguments.url", &*url),
                ("arguments.redis_expiration_time", "7200"),
            ],
            "",
        )
        .unwrap();
    SHARED
        .get_or_create("shared", || {
            assert_eq!(ask(&["EXISTS", "_lockshared"]), "1", "Python's processes see the lock");
            7
        })
        .unwrap();
    assert_eq!(ask(&["EXISTS", "_lockshared"]), "0");
    let stored = ask(&["GET", "shared"]);
    assert!(stored.starts_with("{\"ct\": ") && stored.ends_with(", \"v\": 2}|7"), "{stored}");
    let ttl: u64 = ask(&["TTL", "shared"]).parse().unwrap();
    assert!((7190..=7200).contains(&ttl), "{ttl}");
}

/// All kinds of servers by their names, with real ones behind.
#[test]
fn servers_are_found_by_their_names() {
    let (sentinel, cluster, one) = (Sentinel::start(), Cluster::start(), Redis::start());
    let sentinel_port = sentinel.sentinel.port();
    let nodes: Vec<u16> = cluster.addresses().iter().map(|(_, port)| *port).collect();
    let dead = free_port();
    let all = [
        json!({"backend": format!("redis+sentinel://127.0.0.1:{dead},127.0.0.1:{sentinel_port}/0?service=mymaster")}),
        json!({"backend": format!("redis+cluster://127.0.0.1:{dead},127.0.0.1:{}", nodes[1])}),
        json!({"backend": format!("redis+unix://{}?db=1", one.socket().display())}),
        json!({"backend": format!("valkey://localhost:{}", one.port())}),
        json!({"backend": format!("redis://127.0.0.1:{}?lock=false", one.port())}),
        json!({"backend": "dogpile.cache.redis_sentinel",
            "arguments": {"sentinels": [["127.0.0.1", dead], ["127.0.0.1", sentinel_port]]}}),
        json!({"backend": "dogpile.cache.redis_cluster", "arguments": {"startup_nodes": [["127.0.0.1", nodes[2]]]}}),
        json!({"backend": "dogpile.cache.redis_cluster", "arguments": {"url": format!("redis://127.0.0.1:{}", nodes[0])}}),
        json!({"backend": "dogpile.cache.valkey", "arguments": {"host": "127.0.0.1", "port": one.port(), "db": 2}}),
    ];
    for (i, config) in all.into_iter().enumerate() {
        let text = config.to_string();
        let (backend, query) = match config["backend"].as_str().unwrap().split_once('?') {
            Some((backend, query)) => (backend.to_owned(), query.to_owned()),
            None => (config["backend"].as_str().unwrap().to_owned(), String::new()),
        };
        let mut arguments = config["arguments"].as_object().cloned().unwrap_or_default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap();
            arguments.insert(name.to_owned(), value.into());
        }
        let config = json!({"backend": backend, "arguments": arguments, "prefix": format!("{i}:"), "on_backend_error": "fail"});
        let config: RegionConfig = serde_json::from_value(config).unwrap();
        let region = Region::builder().config(&config, &Schemes::new()).unwrap().build().unwrap();
        for key in ["a", "b", "c", "d"] {
            assert_eq!(*region.get_or_create(key, || 5).unwrap_or_else(|error| panic!("{text}: {error}")), 5);
            assert_eq!(region.get::<i32>(key).unwrap().as_deref(), Some(&5), "{text}");
        }
        assert_eq!(region.stats().backend_errors, 0, "{text}");
        assert_eq!(region.len().unwrap(), Some(4), "{text}");
        region.clear().unwrap();
        assert_eq!(region.len().unwrap(), Some(0), "{text}");
    }
}

/// R31. Whatever is printed of a backend with a password.
#[test]
fn the_password_is_nowhere() {
    let mut shown = Vec::new();
    let mut look = |what: &dyn std::fmt::Debug| shown.push(format!("{what:?} {what:#?}"));
    let port = free_port();
    let server = Redis::start_with(&["--requirepass", "another"]);
    let sentinel = Sentinel::start();
    let url = format!("redis://{SECRET}:{SECRET}@127.0.0.1");
    for url in [
        format!("{url}:{port}/0?timeout=500ms"),
        format!("{url}:{}/0?timeout=500ms", server.port()),
        format!("{url}:{}/1?protocol=3", server.port()),
        format!("redis+sentinel://{SECRET}:{SECRET}@127.0.0.1:{}?service=mymaster", sentinel.sentinel.port()),
        format!("redis+sentinel://{SECRET}:{SECRET}@127.0.0.1:{}?service={SECRET}", sentinel.sentinel.port()),
        format!("redis+cluster://{SECRET}:{SECRET}@127.0.0.1:{}?timeout=500ms", server.port()),
        format!("redis+unix://{}?timeout=500ms", server.socket().display()),
    ] {
        let arguments = Arguments::from_url(&url).unwrap();
        look(&arguments);
        let store = Schemes::new().open(arguments).unwrap();
        look(&store);
        let region = Region::from_url(&url).unwrap();
        let tasks = region.for_tasks().unwrap();
        look(&region);
        look(&tasks);
        let errors = [
            region.set("key", String::from(SECRET)).unwrap_err(),
            pollster::block_on(tasks.set("key", String::from(SECRET))).unwrap_err(),
            region.delete(SECRET).unwrap_err(),
        ];
        for error in &errors {
            assert!(error.is_transient(), "{error:?}");
            look(error);
            look(&error.to_string());
            look(&std::error::Error::source(error).map(ToString::to_string));
        }
    }
    for url in [
        format!("{url}/{SECRET}"),
        format!("{url}?timeout={SECRET}"),
        format!("{url}?protocol={SECRET}"),
        format!("{url}:{SECRET}"),
        format!("redis+cluster://:{SECRET}@h/3"),
        format!("rediss+cluster://:{SECRET}@h/3"),
    ] {
        look(&open(&url).unwrap_err());
    }
    look(&map("dogpile.cache.redis", &[("url", &format!("redis://:{SECRET}@h/x"))]).unwrap_err());
    look(
        &map("dogpile.cache.redis", &[("url", &format!("no://:{SECRET}@h")), ("password", SECRET)])
            .unwrap_err(),
    );
    let builder = RedisBackend::builder("h", port).username(SECRET).password(SECRET);
    look(&builder);
    let backend = builder.build().unwrap();
    look(&backend);
    look(&Backend::mutex(&backend, "key").is_some());
    assert!(shown.len() > 60, "{}", shown.len());
    for text in shown {
        assert!(!text.contains(SECRET), "{text}");
    }
}

/// The breaker of a backend by name, and its recovery.
#[test]
fn one_by_name_has_a_breaker() {
    let mut server = Redis::start();
    let url = format!("redis://127.0.0.1:{}?breaker=2&cooldown=50ms", server.port());
    let region = Region::from_url(&url).unwrap();
    region.set("key", 1).unwrap();
    server.kill();
    let mut refused = || region.set("key", 1).unwrap_err().to_string().contains("circuit breaker");
    until("it is open", &mut refused);
    server.restart();
    until("it is closed", || region.set("key", 1).is_ok());
}
