//! Backends by name: which there are, which are refused with what to do, and what their settings may be.
#![cfg(feature = "region")]

use dogpile::backend::Schemes;
use dogpile::region::RegionConfig;
use dogpile::{Error, ErrorKind};

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

#[test]
fn backends_that_are_not_there_are_refused_with_what_to_do() {
    for (name, expected) in [
        ("dogpile.cache.dbm", "there is no store in files yet"),
        ("file:///tmp/cache", "there is no store in files yet"),
        ("dogpile.cache.redis", "there is no store in Redis or Valkey yet"),
        ("redis://:secret@h/0", "there is no store in Redis or Valkey yet"),
        ("rediss://h", "there is no store in Redis or Valkey yet"),
        ("redis+unix:///run/redis.sock", "there is no store in Redis or Valkey yet"),
        ("dogpile.cache.valkey_cluster", "there is no store in Redis or Valkey yet"),
        ("dogpile.cache.pylibmc", "there is no store in memcached yet"),
        ("memcached://h", "there is no store in memcached yet"),
        ("tiered://", "there are no tiers of stores yet"),
        ("django://default", "Django's caches are Python's"),
        (
            "nowhere://",
            "known are dogpile.cache.memory, dogpile.cache.memory_pickle, dogpile.cache.null, dummy, memory,",
        ),
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
