//! `configure`, `wrap`, `actual_backend`, manglers: dogpile.cache's two phases.

use super::fresh;
use super::stores::{Least, Watched, each};
use dogpile::backend::{Backend, CacheMutex, MemoryBackend, NullBackend, Proxy, Put, Stored};
use dogpile::codec::Codec;
use dogpile::region::{How, Mangler, Scope, SetOptions, length_conditional_mangler, sha1_mangle_key};
use dogpile::{AsyncRegion, Error, ErrorKind, Region};
use pollster::block_on;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[test]
fn before_it_is_configured_each_method_says_so() {
    let region = Region::new("users");
    assert!(!region.is_configured());
    let check = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::NotConfigured);
        let said = error.to_string();
        assert!(said.contains("`users`") && said.contains("configure"), "{said}");
    };
    check(region.get::<u32>("key").unwrap_err());
    check(region.get_multi::<u32>(&["key"]).unwrap_err());
    check(region.get_value_metadata::<u32>("key").unwrap_err());
    check(region.set("key", 1).unwrap_err());
    check(region.set_with("key", 1, SetOptions::new()).unwrap_err());
    check(region.set_multi([("key", 1)]).unwrap_err());
    check(region.delete("key").unwrap_err());
    check(region.delete_multi(&["key"]).unwrap_err());
    check(region.expire_in("key", None).unwrap_err());
    check(region.expire_at("key", None).unwrap_err());
    check(region.clear().unwrap_err());
    check(region.len().unwrap_err());
    check(region.key_is_locked("key").unwrap_err());
    check(region.explain::<u32>("key").unwrap_err());
    check(region.invalidate(Scope::Region, How::Hard).unwrap_err());
    check(region.get_or_create("key", || 1).unwrap_err());
    check(region.get_or_create_multi(&["key"], |_| vec![1]).unwrap_err());
    check(region.for_tasks().unwrap_err());
    check(region.actual_backend().map(drop).unwrap_err());
    assert!(format!("{region:?}").contains("is_configured: false"));

    let tasks = AsyncRegion::new("users");
    check(block_on(tasks.get::<u32>("key")).unwrap_err());
    check(block_on(tasks.get_or_create("key", async { 1 })).unwrap_err());
}

#[test]
fn configured_twice_is_an_error() {
    let region = Region::new("users");
    region.configure(Region::builder()).unwrap();
    region.set("key", 1).unwrap();
    let error = region.configure(Region::builder()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyConfigured);
    let said = error.to_string();
    assert!(said.contains("`users`") && said.contains("replace_existing_backend"), "{said}");
    assert_eq!(region.get::<i32>("key").unwrap().as_deref(), Some(&1), "it is as it was");
}

/// In dogpile.cache `actual_backend` is still the former one then.
#[test]
fn replace_existing_backend_replaces_all_of_it() {
    let region = Region::new("users");
    region.configure(Region::builder().backend(MemoryBackend::new())).unwrap();
    assert_eq!(region.actual_backend().unwrap().unwrap().name(), "memory");
    region.set("key", 1).unwrap();
    region.configure(Region::builder().backend(NullBackend::new()).replace_existing_backend()).unwrap();
    assert_eq!(region.actual_backend().unwrap().unwrap().name(), "null");
    assert_eq!(region.get::<i32>("key").unwrap(), None);
    region.configure(Region::builder().replace_existing_backend()).unwrap();
    region.set("key", 2).unwrap();
    assert_eq!(region.get::<i32>("key").unwrap().as_deref(), Some(&2));
    assert!(region.is_configured());
}

/// What is being made goes on with the store that it began with.
#[test]
fn replaced_while_a_value_is_made() {
    let region = Region::new("users");
    let (first, second) = (Least::default(), Least::default());
    region.configure(Region::builder().backend(first.clone())).unwrap();
    let made = region.get_or_create("key", || {
        region.configure(Region::builder().backend(second.clone()).replace_existing_backend()).unwrap();
        1
    });
    assert_eq!(*made.unwrap(), 1);
    assert!(first.get("key").unwrap().is_some() && second.get("key").unwrap().is_none());
    assert_eq!(region.get::<i32>("key").unwrap(), None);
}

#[test]
fn a_first_configuration_that_is_wrong_leaves_it_unconfigured() {
    struct Tasks;
    impl dogpile::backend::AsyncProxy for Tasks {}
    let region = Region::new("users");
    let error = region.configure(Region::builder().wrap_async(Tasks)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("wrap_async needs an async_backend"), "{error}");
    assert!(!region.is_configured());
    region.configure(Region::builder()).unwrap();
}

#[test]
fn a_backend_for_tasks_only() {
    let error = Region::builder().async_backend(MemoryBackend::new()).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("build_async"), "{error}");
    let tasks = Region::builder().async_backend(MemoryBackend::new()).build_async().unwrap();
    block_on(tasks.set("key", 1)).unwrap();
    assert_eq!(block_on(tasks.get::<i32>("key")).unwrap().as_deref(), Some(&1));
    let threads = tasks.for_threads();
    let error = match threads {
        Err(error) => error,
        Ok(region) => region.get::<i32>("key").unwrap_err(),
    };
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("AsyncRegion"), "{error}");
}

#[test]
fn two_backends_that_take_different_things() {
    let bytes = MemoryBackend::builder().serialized(true).build().unwrap();
    let error = Region::builder().backend(MemoryBackend::new()).async_backend(bytes).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

/// Says its name each time that it is passed.
#[derive(Clone)]
struct Says(&'static str, Arc<Mutex<Vec<&'static str>>>);

impl Proxy for Says {
    fn get(&self, next: &dyn Backend, key: &str) -> Result<Option<Stored>, Error> {
        self.1.lock().unwrap().push(self.0);
        next.get(key)
    }
}

#[test]
fn the_first_proxy_is_the_outermost() {
    each(|setup| {
        let said = Arc::new(Mutex::new(Vec::new()));
        let says = |name| Says(name, Arc::clone(&said));
        let region =
            setup.build(|builder| builder.wrap(says("outer")).wrap(says("middle")).wrap(says("inner")));
        region.get("key");
        assert_eq!(*said.lock().unwrap(), ["outer", "middle", "inner"]);
    });
}

#[test]
fn the_actual_backend_is_behind_all_proxies() {
    each(|setup| {
        let said = Arc::new(Mutex::new(Vec::new()));
        let says = Says("one", Arc::clone(&said));
        let region = setup.build(|builder| builder.wrap(says));
        region.set("key", 1_u32);
        region.calls();
        let backend = region.region.actual_backend().unwrap().unwrap();
        assert!(backend.get("key").unwrap().is_some());
        assert!(said.lock().unwrap().is_empty());
        assert_eq!(region.calls(), (0, 0));
    });
}

/// Each operation can be overridden: dogpile.cache's `ProxyBackend`.
#[test]
fn a_proxy_overrides_any_operation() {
    #[derive(Clone, Default)]
    struct All(Arc<Mutex<Vec<&'static str>>>);
    impl All {
        fn says(&self, name: &'static str) {
            self.0.lock().unwrap().push(name);
        }
    }
    impl Proxy for All {
        fn get(&self, next: &dyn Backend, key: &str) -> Result<Option<Stored>, Error> {
            self.says("get");
            next.get(key)
        }
        fn set(&self, next: &dyn Backend, put: Put<'_>) -> Result<(), Error> {
            self.says("set");
            next.set(put)
        }
        fn delete(&self, next: &dyn Backend, key: &str) -> Result<bool, Error> {
            self.says("delete");
            next.delete(key)
        }
        fn get_multi(&self, next: &dyn Backend, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error> {
            self.says("get_multi");
            next.get_multi(keys)
        }
        fn set_multi(&self, next: &dyn Backend, puts: &[Put<'_>]) -> Result<(), Error> {
            self.says("set_multi");
            next.set_multi(puts)
        }
        fn delete_multi(&self, next: &dyn Backend, keys: &[&str]) -> Result<(), Error> {
            self.says("delete_multi");
            next.delete_multi(keys)
        }
        fn clear(&self, next: &dyn Backend, prefix: &str) -> Result<bool, Error> {
            self.says("clear");
            next.clear(prefix)
        }
        fn len(&self, next: &dyn Backend, prefix: &str) -> Result<Option<u64>, Error> {
            self.says("len");
            next.len(prefix)
        }
        fn mutex(&self, next: &dyn Backend, key: &str) -> Option<Box<dyn CacheMutex>> {
            self.says("mutex");
            next.mutex(key)
        }
    }
    each(|setup| {
        let all = All::default();
        let proxy = all.clone();
        let region = setup.build(|builder| builder.wrap(proxy));
        let said = || std::mem::take(&mut *all.0.lock().unwrap());
        region.get("key");
        assert_eq!(said(), ["get"]);
        region.set("key", 1_u32);
        assert_eq!(said(), ["set"]);
        region.delete("key");
        assert_eq!(said(), ["delete"]);
        region.get_multi(&["key", "b"]);
        assert_eq!(said(), ["get_multi"]);
        region.set_multi(&[("key", 1), ("b", 2)]);
        assert_eq!(said(), ["set_multi"]);
        region.delete_multi(&["key", "b"]);
        assert_eq!(said(), ["delete_multi"]);
        region.clear();
        assert_eq!(said(), ["clear"]);
        region.len();
        assert_eq!(said(), ["len"]);
        region.key_is_locked("key");
        assert_eq!(said(), ["mutex"]);
    });
}

/// A proxy that is a throttle, a log, an encoder: values of bytes go through it.
#[test]
fn a_proxy_changes_what_is_stored() {
    struct Turned;
    fn turned(stored: &Stored) -> Stored {
        match stored.bytes() {
            Some(bytes) => Stored::from(bytes.iter().rev().copied().collect::<Vec<u8>>()),
            None => stored.clone(),
        }
    }
    impl Proxy for Turned {
        fn get(&self, next: &dyn Backend, key: &str) -> Result<Option<Stored>, Error> {
            Ok(next.get(key)?.as_ref().map(turned))
        }
        fn set(&self, next: &dyn Backend, put: Put<'_>) -> Result<(), Error> {
            next.set(Put::new(put.key, &turned(put.value)).ttl(put.ttl).weight(put.weight))
        }
        fn set_unless(
            &self,
            _next: &dyn Backend,
            _puts: &[Put<'_>],
            _keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
        ) -> Option<Result<Vec<bool>, Error>> {
            None
        }
    }
    each(|setup| {
        let region = setup.build(|builder| builder.wrap(Turned));
        assert_eq!(region.make("key", || 7), 7);
        assert_eq!(region.make("key", || 8), 7);
        let stored = region.region.actual_backend().unwrap().unwrap().get("key").unwrap().unwrap();
        assert_eq!(stored.bytes().is_some(), setup.store.is_bytes());
    });
}

#[test]
fn keys_are_mangled_and_prefixed() {
    each(|setup| {
        let region = setup.build(|builder| builder.prefix("p:").mangler(Mangler::from_fn(sha1_mangle_key)));
        region.set("key", 1_u32);
        let backend = region.region.actual_backend().unwrap().unwrap();
        let stored = format!("p:{}", sha1_mangle_key("key"));
        assert!(backend.get(&stored).unwrap().is_some());
        assert_eq!(region.get_multi(&["key"]), [Some(1)]);
        assert_eq!(
            region.make_many(&["key", "b"], |asked| {
                assert_eq!(asked, ["b"], "creators know keys as their callers do");
                vec![2]
            }),
            [1, 2]
        );
        assert!(region.delete("b"));
    });
}

#[test]
fn long_keys_only_are_mangled() {
    each(|setup| {
        let mangler = Mangler::from_fn(length_conditional_mangler(10, sha1_mangle_key));
        let region = setup.build(|builder| builder.mangler(mangler));
        region.set_multi(&[("short", 1), ("one that is long", 2)]);
        let backend = region.region.actual_backend().unwrap().unwrap();
        assert!(backend.get("short").unwrap().is_some());
        assert!(backend.get("one that is long").unwrap().is_none());
        assert!(backend.get(&sha1_mangle_key("one that is long")).unwrap().is_some());
    });
}

/// A backend with a mangler and a codec of its own: they are used unless the region has its own. In dogpile.cache
/// `key_mangler=False` is to switch it off, and does not.
#[test]
fn what_the_backend_brings_is_the_default() {
    #[derive(Clone, Default)]
    struct Brings(MemoryBackend);
    impl Backend for Brings {
        fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
            Backend::get(&self.0, key)
        }
        fn set(&self, put: Put<'_>) -> Result<(), Error> {
            Backend::set(&self.0, put)
        }
        fn delete(&self, key: &str) -> Result<bool, Error> {
            Backend::delete(&self.0, key)
        }
        fn takes(&self) -> dogpile::backend::Takes {
            dogpile::backend::Takes::Bytes
        }
        fn codec(&self) -> Option<Codec> {
            Some(Codec::json().envelope(dogpile::codec::Envelope::Plain))
        }
        fn mangle(&self, key: &str) -> Option<String> {
            Some(key.to_uppercase())
        }
        fn mangles(&self) -> bool {
            true
        }
    }
    let bytes = |backend: &Brings, key: &str| {
        Backend::get(&backend.0, key).unwrap().map(|stored| stored.bytes().unwrap().to_vec())
    };
    let backend = Brings::default();
    let region = Region::builder().backend(backend.clone()).build().unwrap();
    region.set("key", vec![1, 2]).unwrap();
    assert_eq!(bytes(&backend, "KEY").as_deref(), Some(b"[1,2]".as_slice()));

    let backend = Brings::default();
    let region =
        Region::builder().backend(backend.clone()).mangler(Mangler::none()).codec(Codec::postcard()).build();
    region.unwrap().set("key", vec![1, 2]).unwrap();
    assert!(bytes(&backend, "KEY").is_none());
    assert_ne!(bytes(&backend, "key").unwrap(), b"[1,2]");
}

#[test]
fn null_stores_nothing_and_makes_each_anew() {
    for by_tasks in [false, true] {
        let region = Region::builder().backend(NullBackend::new()).policy(fresh()).build().unwrap();
        let tasks = region.for_tasks().unwrap();
        let make = |value: u32| match by_tasks {
            false => *region.get_or_create("key", || value).unwrap(),
            true => *block_on(tasks.get_or_create("key", async { value })).unwrap(),
        };
        assert_eq!((make(1), make(2)), (1, 2));
        region.set("key", 3_u32).unwrap();
        assert_eq!(region.get::<u32>("key").unwrap(), None);
        assert!(!region.delete("key").unwrap());
        assert!(!region.key_is_locked("key").unwrap());
        assert_eq!(region.len().unwrap(), Some(0));
        region.clear().unwrap();
        let many = region.get_or_create_multi(&["a", "b"], |_| vec![1_u32, 2]).unwrap();
        assert_eq!(many.iter().map(|value| **value).collect::<Vec<_>>(), [1, 2]);
    }
}

/// Two faces of one core.
#[test]
fn threads_and_tasks_are_one_region() {
    each(|setup| {
        let region = setup.by(fresh());
        region.region.set("key", 1_u32).unwrap();
        assert_eq!(block_on(region.tasks.get::<u32>("key")).unwrap().as_deref(), Some(&1));
        block_on(region.tasks.invalidate(Scope::Region, How::Hard)).unwrap();
        assert_eq!(region.region.get::<u32>("key").unwrap(), None);
        assert!(region.tasks.for_threads().unwrap().is_configured());
    });
}

#[test]
fn a_region_shows_no_values() {
    each(|setup| {
        let region = setup.build(|builder| builder.name("users"));
        region.set("secret-key", String::from("secret-value"));
        let shown = format!("{:?} {:?}", region.region, region.tasks);
        assert!(shown.contains("users") && !shown.contains("secret"), "{shown}");
    });
}

#[test]
fn faces_are_what_threads_and_tasks_need() {
    fn is_shared<T: Send + Sync + Unpin + 'static>(_: &T) {}
    fn is_sent<T: Send>(_: &T) {}
    let region = Region::in_memory();
    let tasks = region.for_tasks().unwrap();
    is_shared(&region);
    is_shared(&tasks);
    is_shared(&Watched::default());
    is_sent(&tasks.get::<u32>("key"));
    is_sent(&tasks.get_or_create("key", async { 1 }));
    is_sent(&tasks.get_or_create_multi(&["key"], |_| async { vec![1] }));
    is_sent(&tasks.set("key", 1));
    is_sent(&tasks.expire_in("key", Some(Duration::ZERO)));
    is_sent(&tasks.clear());
}
