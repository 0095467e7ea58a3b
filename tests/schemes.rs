//! Regions by configuration: which backends there are by name, which are refused with what to do, what their settings may be,
//! and that a region is what its configuration says.
#![cfg(feature = "region")]

use dogpile::backend::{AsyncBackend, Backend, BoxFuture, MemoryBackend, Proxy, Put, Schemes, Store, Stored};
use dogpile::region::RegionConfig;
use dogpile::time::ManualClock;
use dogpile::{Cache, Error, ErrorKind, Region};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn open(text: &str) -> Result<String, Error> {
    Schemes::new()
        .open(RegionConfig::from_url(text)?.backend_arguments().unwrap())
        .map(|store| format!("{store:?}"))
}

#[test]
fn backends_have_the_names_that_others_gave_them() {
    let backend = |name: &str| format!("Store {{ blocking: Some({name:?}), awaiting: None }}");
    for name in ["memory", "memory://", "MEMORY", "dogpile.cache.memory"] {
        assert_eq!(open(name).unwrap(), backend("memory"), "{name}");
    }
    for name in [
        "memory+serialized://?max_weight=64MiB&shards=4",
        "memory+serialized",
        "memory_pickle",
        "dogpile.cache.memory_pickle",
    ] {
        assert_eq!(open(name).unwrap(), backend("memory+serialized"), "{name}");
    }
    for name in ["null", "null://", "dummy://", "dogpile.cache.null"] {
        assert_eq!(open(name).unwrap(), backend("null"), "{name}");
    }
}

/// Of what is compiled out the error says by what it comes.
#[test]
#[cfg(not(feature = "redis"))]
fn redis_is_a_feature() {
    for name in [
        "dogpile.cache.redis",
        "redis://:secret@h/0",
        "rediss://h",
        "redis+unix:///run/redis.sock",
        "dogpile.cache.valkey_cluster",
    ] {
        let error = open(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownBackend, "{name}");
        assert!(error.to_string().contains("needs dogpile's feature `redis`"), "{name}: {error}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}

#[test]
fn backends_that_are_not_there_are_refused_with_what_to_do() {
    for (name, expected) in [
        ("tiered://", "name the store behind the memory too, as in tiered+NAME://"),
        ("tiered+tiered+null://", "there are two tiers, no more"),
        ("tiered+nowhere://", "known are"),
        ("django://default", "Django's caches are Python's"),
        ("nowhere://", "dogpile.cache.memory, dogpile.cache.memory_pickle, dogpile.cache.null"),
    ] {
        let error = open(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownBackend, "{name}");
        assert!(error.to_string().contains(expected), "{name}: {error}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}

#[test]
fn settings_of_the_memory_are_checked() {
    for (text, expected) in [
        ("memory://?max_entries=many", "`max_entries`: expected a whole number that is not negative"),
        ("memory://?max_weight=64Mib", ""),
        ("memory://?max_weight=64 M", "`url`: there is a blank"),
        ("memory://?max_weight=64%20M", "`max_weight`: expected a size: bytes, or a number and one of kB"),
        ("memory://?shards=0", "`shards`: expected a whole number from 1 on"),
        ("memory://?max_entries=1&max_weight=1", "max_entries"),
        (
            "memory://?cache_dict=1",
            "`cache_dict` is unknown (in dogpile.cache it is not; here give the region MemoryBackend::over(cache)): accepted are max_entries, max_weight, shards",
        ),
        ("memory://host", "it has no host"),
        ("memory://:password@host", "it has no host"),
        ("null://?max_entries=1", "`max_entries` is unknown: this backend has no settings"),
    ] {
        let opened = RegionConfig::from_url(text)
            .and_then(|config| Schemes::new().open(config.backend_arguments().unwrap()));
        match opened {
            Ok(_) => assert_eq!(expected, "", "{text}"),
            Err(error) => {
                assert!(!expected.is_empty() && error.to_string().contains(expected), "{text}: {error}");
                assert!(!format!("{error:?}").contains("password"), "{error:?}");
            }
        }
    }
}

fn region(config: &RegionConfig, schemes: &Schemes) -> Result<Region, Error> {
    Region::builder().config(config, schemes)?.build()
}

fn by_url(url: &str) -> Region {
    region(&RegionConfig::from_url(url).unwrap(), &Schemes::new()).unwrap()
}

/// `own://` is over this cache; `own+serialized://` keeps bytes, `failing://` nothing.
fn own(cache: &Cache<String, Stored>) -> Schemes {
    let cache = cache.clone();
    Schemes::new()
        .register("own", move |_| Ok(Store::blocking(MemoryBackend::over(cache.clone()))))
        .register("failing", |_| Ok(Store::blocking(Failing)))
}

struct Failing;

fn down<T>() -> Result<T, Error> {
    Err(Error::new(ErrorKind::Unavailable, "failing"))
}

impl Backend for Failing {
    fn get(&self, _: &str) -> Result<Option<Stored>, Error> {
        down()
    }
    fn set(&self, _: Put<'_>) -> Result<(), Error> {
        down()
    }
    fn delete(&self, _: &str) -> Result<bool, Error> {
        down()
    }
}

#[test]
fn values_end_when_the_configuration_says() {
    let clock = ManualClock::new();
    let config = RegionConfig::from_url("memory://?expiration_time=5m&stale=1h").unwrap();
    let region =
        Region::builder().clock(clock.clone()).config(&config, &Schemes::new()).unwrap().build().unwrap();
    region.set("key", 1).unwrap();
    clock.advance(Duration::from_secs(299));
    assert_eq!(region.get::<i32>("key").unwrap().as_deref(), Some(&1));
    clock.advance(Duration::from_secs(1));
    assert_eq!(region.get::<i32>("key").unwrap(), None);
    // It is stale: whoever comes while it is made gets it.
    let made = region.get_or_create("key", || {
        assert_eq!(*region.get_or_create("key", || 3).unwrap(), 1);
        2
    });
    assert_eq!(*made.unwrap(), 2);
}

#[test]
fn a_serialized_memory_gives_copies() {
    let same = |region: &Region| {
        region.set("key", String::from("value")).unwrap();
        let [one, two] = [(); 2].map(|()| region.get::<String>("key").unwrap().unwrap());
        assert_eq!(one, two);
        Arc::ptr_eq(&one, &two)
    };
    assert!(same(&by_url("memory://")));
    assert!(!same(&by_url("memory+serialized://?codec=json%2Bzstd")));
    assert!(!same(&by_url("dogpile.cache.memory_pickle")));
}

#[test]
fn keys_are_mangled_and_prefixed() {
    let keys = |query: &str| {
        let cache = Cache::<String, Stored>::new(10);
        let config = RegionConfig::from_url(&format!("own://?{query}")).unwrap();
        let region = region(&config, &own(&cache)).unwrap();
        region.set("key", 1).unwrap();
        region.set("longer key", 1).unwrap();
        cache.iter().map(|entry| entry.key().clone()).collect::<BTreeSet<String>>()
    };
    let set = |keys: [&str; 2]| keys.map(str::to_owned).into_iter().collect::<BTreeSet<String>>();
    assert_eq!(keys(""), set(["key", "longer key"]));
    assert_eq!(keys("prefix=app%3A&mangler=none"), set(["app:key", "app:longer key"]));
    let hashed = "a62f2225bf70bfaccbc7f1ef2a397836717377de";
    assert!(keys("mangler=sha1").contains(hashed));
    let long = keys("mangler=length:4&prefix=p");
    assert!(long.contains("pkey") && long.iter().any(|key| key.len() == 41), "{long:?}");
}

#[test]
fn a_failing_backend_is_degraded_or_an_error() {
    let made = |query: &str| {
        let config = RegionConfig::from_url(&format!("failing://{query}")).unwrap();
        region(&config, &own(&Cache::new(1))).unwrap().get_or_create("key", || 1).map(|value| *value)
    };
    assert_eq!(made("").unwrap(), 1);
    assert_eq!(made("?on_backend_error=degrade").unwrap(), 1);
    assert_eq!(made("?on_backend_error=fail").unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn a_region_is_configured_twice_only_if_the_second_says_so() {
    static REGION: Region = Region::new("twice");
    let configure = |url: &str| {
        let config = RegionConfig::from_url(url)?;
        REGION.configure(Region::builder().config(&config, &Schemes::new())?).map(drop)
    };
    configure("memory://").unwrap();
    REGION.set("key", 1).unwrap();
    assert_eq!(configure("null://").unwrap_err().kind(), ErrorKind::AlreadyConfigured);
    assert_eq!(REGION.get::<i32>("key").unwrap().as_deref(), Some(&1));
    configure("null://?replace_existing_backend=true").unwrap();
    assert_eq!(REGION.get::<i32>("key").unwrap(), None);
}

/// Notes its name.
struct Noting(&'static str, Arc<Mutex<Vec<&'static str>>>);

impl Proxy for Noting {
    fn get(&self, next: &dyn Backend, key: &str) -> Result<Option<Stored>, Error> {
        self.1.lock().unwrap().push(self.0);
        next.get(key)
    }
}

impl dogpile::backend::AsyncProxy for Noting {
    fn get<'a>(
        &'a self,
        next: &'a dyn AsyncBackend,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Stored>, Error>> {
        self.1.lock().unwrap().push(self.0);
        next.get(key)
    }
}

#[test]
fn proxies_stand_in_the_order_of_their_names_for_threads_and_tasks() {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let [a, b, c, d] = [(); 4].map(|()| Arc::clone(&notes));
    let schemes = Schemes::new()
        .register_proxy("outer", move || Noting("outer", Arc::clone(&a)))
        .register_proxy("inner", move || Noting("inner", Arc::clone(&b)))
        .register_async_proxy("outer", move || Noting("outer task", Arc::clone(&c)))
        .register_async_proxy("inner", move || Noting("inner task", Arc::clone(&d)))
        .register("both", |_| Ok(Store::both(MemoryBackend::new())));
    let noted = || std::mem::take(&mut *notes.lock().unwrap());
    for (url, of_tasks) in [("memory", ["outer", "inner"]), ("both://", ["outer task", "inner task"])] {
        let config = RegionConfig::from_map([("backend", url), ("wrap", "outer, inner")], "").unwrap();
        region(&config, &schemes).unwrap().get::<i32>("key").unwrap();
        assert_eq!(noted(), ["outer", "inner"], "{url}");
        let tasks = Region::builder().config(&config, &schemes).unwrap().build_async().unwrap();
        pollster::block_on(tasks.get::<i32>("key")).unwrap();
        assert_eq!(noted(), of_tasks, "{url}");
    }
    let config = RegionConfig::from_map([("backend", "memory"), ("wrap", "outer,other")], "").unwrap();
    let error = region(&config, &schemes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error.to_string().contains("`wrap`: there is no proxy `other`: give it by Schemes::register_proxy"),
        "{error}"
    );
}

#[test]
fn what_contradicts_itself_is_named() {
    for (url, expected) in [
        ("memory://?soft_timeout=1s&stale=0", "soft_timeout and no stale contradict each other"),
        ("memory://?max_entries=5&max_weight=5", "max_entries"),
    ] {
        let error = region(&RegionConfig::from_url(url).unwrap(), &Schemes::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        assert!(error.to_string().contains(expected), "{url}: {error}");
    }
    let config: RegionConfig = serde_json::from_str(r#"{"arguments": {"max_entries": 5}}"#).unwrap();
    let error = region(&config, &Schemes::new()).unwrap_err();
    assert!(error.to_string().contains("`arguments`: they are a backend's, and none is named"), "{error}");
}

/// Neither takes memory before it is used, nor does the sum overflow.
#[test]
fn huge_settings_do_no_harm() {
    for url in [
        "memory://?max_entries=18446744073709551615",
        "memory://?max_weight=16777215TiB",
        "memory://?shards=18446744073709551615&max_entries=10",
        "memory://?max_entries=0",
        "memory://?max_weight=0",
    ] {
        let opened = RegionConfig::from_url(url).and_then(|config| region(&config, &Schemes::new()));
        match opened {
            Ok(region) => {
                assert_eq!(*region.get_or_create("key", || 1).unwrap(), 1, "{url}");
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Config, "{url}: {error}"),
        }
    }
}
