//! [`Schemes`]: which name stands for which backend. What is not registered is not there: nothing is looked up elsewhere.
#![forbid(unsafe_code)]

use super::arguments::{Arguments, shown};
use super::{
    AsyncBackend, AsyncProxied, AsyncProxy, Backend, Breaker, MemoryBackend, NullBackend, Proxied, Proxy,
    TieredBackend,
};
use crate::error::{Error, ErrorKind};
use crate::sync::Arc;
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

/// A backend that a factory has made: one that blocks, one for tasks, or both over one store.
#[derive(Clone)]
pub struct Store {
    pub(crate) blocking: Option<Arc<dyn Backend>>,
    pub(crate) awaiting: Option<Arc<dyn AsyncBackend>>,
}

impl Store {
    /// A backend that blocks. Tasks use it by threads, or at once if it says that it doesn't block.
    #[must_use]
    pub fn blocking(backend: impl Backend + 'static) -> Self {
        Self { blocking: Some(Arc::new(backend)), awaiting: None }
    }

    /// A backend for tasks. Threads can't use its regions.
    #[must_use]
    pub fn awaiting(backend: impl AsyncBackend + 'static) -> Self {
        Self { blocking: None, awaiting: Some(Arc::new(backend)) }
    }

    /// A backend that is both.
    #[must_use]
    pub fn both(backend: impl Backend + AsyncBackend + 'static) -> Self {
        let backend = Arc::new(backend);
        Self { blocking: Some(Arc::clone(&backend) as Arc<dyn Backend>), awaiting: Some(backend) }
    }

    /// The same, behind a breaker.
    fn guarded(self, breaker: &Breaker) -> Self {
        let proxy = |next| Arc::new(Proxied { proxy: Box::new(breaker.clone()), next }) as Arc<dyn Backend>;
        let async_proxy =
            |next| Arc::new(AsyncProxied { proxy: Box::new(breaker.clone()), next }) as Arc<dyn AsyncBackend>;
        Self { blocking: self.blocking.map(proxy), awaiting: self.awaiting.map(async_proxy) }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("blocking", &self.blocking.as_ref().map(|backend| backend.name()))
            .field("awaiting", &self.awaiting.as_ref().map(|backend| backend.name()))
            .finish()
    }
}

type Factory = Arc<dyn Fn(&mut Arguments) -> Result<Store, Error> + Send + Sync>;

/// The backends that a configuration may name, and the proxies.
///
/// | name | backend | settings |
/// |---|---|---|
/// | `memory`, `dogpile.cache.memory` | [`MemoryBackend`] | `max_entries`, `max_weight` (`64MiB`), `shards` |
/// | `memory+serialized`, `memory_pickle`, `dogpile.cache.memory_pickle` | the same, with bytes | the same |
/// | `null`, `dummy`, `dogpile.cache.null` | [`NullBackend`] | none |
/// | `tiered+` before another's name | [`TieredBackend`] over that | `near_entries`, `near_ttl`, `unheard_ttl`, `near_topic`, and the other's |
/// | `file` (`file:///path`) | `FileBackend`, with the feature `file` | `path`, if it is not in a URL, `create`, `sync`, `corrupt` (`miss`, `error`), `timeout` |
/// | `memcached`; with dogpile.cache's envelope and JSON `pymemcache`, `pylibmc`, `bmemcached`, `dogpile.cache.memcached` and so on | `MemcachedBackend`, with the feature `memcached` | see there |
/// | `dbm`, `dogpile.cache.dbm` | the same | `filename` for the path, and the same |
/// | `redis`, `rediss`, `redis+unix`, `redis+sentinel`, `redis+cluster`, `valkey`…, `dogpile.cache.redis`… | `RedisBackend` (feature `redis`) | see there |
///
/// ```
/// use dogpile::backend::{Address, Arguments, MemoryBackend, Schemes, Store};
///
/// let schemes = Schemes::new().register("small", |arguments: &mut Arguments| {
///     let entries = arguments.take_u64("entries")?.unwrap_or(10);
///     Ok(Store::blocking(MemoryBackend::builder().max_entries(entries).build()?))
/// });
/// schemes.open(Arguments::from_url("small://?entries=20")?)?;
/// let error = schemes.open(Arguments::from_url("small://?weight=20")?).unwrap_err();
/// assert_eq!(error.to_string(), "backend `small`: bad configuration: `weight` is unknown: accepted are entries");
/// # Ok::<(), dogpile::Error>(())
/// ```
#[derive(Clone)]
pub struct Schemes {
    factories: BTreeMap<String, Factory>,
    proxies: BTreeMap<String, Arc<dyn Fn() -> Box<dyn Proxy> + Send + Sync>>,
    async_proxies: BTreeMap<String, Arc<dyn Fn() -> Box<dyn AsyncProxy> + Send + Sync>>,
}

impl Schemes {
    /// The backends of this crate.
    #[must_use]
    pub fn new() -> Self {
        let mut schemes =
            Self { factories: BTreeMap::new(), proxies: BTreeMap::new(), async_proxies: BTreeMap::new() };
        for name in ["memory", "dogpile.cache.memory"] {
            schemes = schemes.register(name, |arguments| memory(arguments, false));
        }
        for name in ["memory+serialized", "memory_pickle", "dogpile.cache.memory_pickle"] {
            schemes = schemes.register(name, |arguments| memory(arguments, true));
        }
        for name in ["null", "dummy", "dogpile.cache.null"] {
            schemes = schemes.register(name, |_| Ok(Store::blocking(NullBackend::new())));
        }
        super::with_features(schemes)
    }

    /// The same, with a name that stands for what `factory` makes, also where it stood for another. Names have no case.
    ///
    /// The factory takes the settings that it knows; what it leaves is an error then.
    #[must_use]
    pub fn register(
        mut self,
        name: impl Into<String>,
        factory: impl Fn(&mut Arguments) -> Result<Store, Error> + Send + Sync + 'static,
    ) -> Self {
        self.factories.insert(name.into().to_ascii_lowercase(), Arc::new(factory));
        self
    }

    /// As [`register`](Self::register), for a store that may fall silent: it gets a [`Breaker`], with the settings `breaker`
    /// (failures in a row after which it opens, 5; 0: none) and `cooldown` (1 s).
    ///
    /// ```
    /// use dogpile::backend::{Arguments, MemoryBackend, Schemes, Store};
    ///
    /// let schemes = Schemes::new().register_guarded("far", |_| Ok(Store::blocking(MemoryBackend::new())));
    /// schemes.open(Arguments::from_url("far://?breaker=3&cooldown=500ms")?)?;
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    #[must_use]
    pub fn register_guarded(
        self,
        name: impl Into<String>,
        factory: impl Fn(&mut Arguments) -> Result<Store, Error> + Send + Sync + 'static,
    ) -> Self {
        self.register(name, move |arguments| {
            let failures = arguments.take_u64("breaker")?.unwrap_or(5);
            let cooldown = arguments.take_duration("cooldown")?.unwrap_or(Duration::from_secs(1));
            let store = factory(arguments)?;
            Ok(match u32::try_from(failures).unwrap_or(u32::MAX) {
                0 => store,
                failures => store.guarded(&Breaker::new(failures, cooldown)),
            })
        })
    }

    /// The same, with a proxy that a configuration's `wrap` may name: `make` makes one for each region.
    ///
    /// ```
    /// use dogpile::backend::{Proxy, Schemes};
    ///
    /// struct Nothing;
    /// impl Proxy for Nothing {}
    /// let schemes = Schemes::new().register_proxy("nothing", || Nothing);
    /// assert!(format!("{schemes:?}").contains("nothing"));
    /// ```
    #[must_use]
    pub fn register_proxy<P: Proxy + 'static>(
        mut self,
        name: impl Into<String>,
        make: impl Fn() -> P + Send + Sync + 'static,
    ) -> Self {
        self.proxies.insert(name.into(), Arc::new(move || Box::new(make())));
        self
    }

    /// As [`register_proxy`](Self::register_proxy), for backends for tasks.
    #[must_use]
    pub fn register_async_proxy<P: AsyncProxy + 'static>(
        mut self,
        name: impl Into<String>,
        make: impl Fn() -> P + Send + Sync + 'static,
    ) -> Self {
        self.async_proxies.insert(name.into(), Arc::new(move || Box::new(make())));
        self
    }

    /// Makes the backend that the arguments name.
    ///
    /// # Errors
    /// Of the kind [`UnknownBackend`](ErrorKind::UnknownBackend), if the name is not registered; what its factory has to say;
    /// of the kind [`Config`](ErrorKind::Config), if that leaves a setting.
    pub fn open(&self, mut arguments: Arguments) -> Result<Store, Error> {
        let is_tiered = arguments.go_behind();
        let name = arguments.scheme().to_ascii_lowercase();
        let factory = self.factories.get(&name).ok_or_else(|| self.unknown(&name))?;
        let mut store = factory(&mut arguments)?;
        if is_tiered {
            store = tiered(&mut arguments, store)?;
        }
        arguments.finish()?;
        Ok(store)
    }

    fn unknown(&self, name: &str) -> Error {
        let detail = match remedy(name) {
            Some(remedy) => remedy.to_owned(),
            None => {
                let known: Vec<&str> = self.factories.keys().map(String::as_str).collect();
                format!("known are {}; give others a factory by Schemes::register", known.join(", "))
            }
        };
        Error::new(ErrorKind::UnknownBackend, format!("backend `{}`", shown(name))).detail(detail)
    }

    /// # Errors
    /// Of the kind [`Config`](ErrorKind::Config), if it is not registered.
    pub(crate) fn proxy(&self, name: &str) -> Result<Box<dyn Proxy>, Error> {
        let make = self.proxies.get(name).ok_or_else(|| no_proxy(name, "register_proxy", "wrap"))?;
        Ok(make())
    }

    /// # Errors
    /// As `proxy`.
    pub(crate) fn async_proxy(&self, name: &str) -> Result<Box<dyn AsyncProxy>, Error> {
        let make = self
            .async_proxies
            .get(name)
            .ok_or_else(|| no_proxy(name, "register_async_proxy", "wrap_async"))?;
        Ok(make())
    }
}

fn no_proxy(name: &str, register: &str, wrap: &str) -> Error {
    Error::new(ErrorKind::Config, "configuration of a region").detail(format!(
        "`wrap`: there is no proxy `{}`: give it by Schemes::{register}, or give the builder one by {wrap}",
        shown(name)
    ))
}

/// What to do in the place of backends that others have.
fn remedy(name: &str) -> Option<&'static str> {
    let name = name.strip_prefix("dogpile.cache.").unwrap_or(name);
    Some(match name {
        "file" | "dbm" => "the store in files needs dogpile's feature `file`",
        _ if name.starts_with("redis") || name.starts_with("valkey") => {
            "the store in Redis or Valkey needs dogpile's feature `redis`, and `redis-tls` for TLS"
        }
        "memcached" | "pylibmc" | "bmemcached" | "pymemcache" => {
            "the store in memcached needs dogpile's feature `memcached`"
        }
        "tiered" => "name the store behind the memory too, as in tiered+NAME://",
        name if name.starts_with("tiered+") => "there are two tiers, no more: write tiered+ once",
        "django" => "Django's caches are Python's: name the store itself, as memory",
        _ => return None,
    })
}

/// Memory before `far`.
fn tiered(arguments: &mut Arguments, far: Store) -> Result<Store, Error> {
    let mut builder = TieredBackend::builder(far);
    if let Some(entries) = arguments.take_u64("near_entries")? {
        builder = builder.near_entries(entries);
    }
    if let Some(ttl) = arguments.take_duration("near_ttl")? {
        builder = builder.near_ttl(ttl);
    }
    if let Some(ttl) = arguments.take_duration("unheard_ttl")? {
        builder = builder.unheard_ttl(ttl);
    }
    if let Some(topic) = arguments.take_str("near_topic")? {
        builder = builder.topic(topic);
    }
    Ok(builder.build()?.into_store())
}

fn memory(arguments: &mut Arguments, serialized: bool) -> Result<Store, Error> {
    let mut builder = MemoryBackend::builder().serialized(serialized);
    if let Some(most) = arguments.take_u64("max_entries")? {
        builder = builder.max_entries(most);
    }
    if let Some(bytes) = arguments.take_size("max_weight")? {
        builder = builder.max_weight(bytes);
    }
    if let Some(shards) = arguments.take_u64("shards")? {
        let shards = usize::try_from(shards).ok().and_then(NonZeroUsize::new);
        builder = builder
            .shards(shards.ok_or_else(|| arguments.error("shards", "expected a whole number from 1 on"))?);
    }
    Ok(Store::blocking(builder.build()?))
}

impl Default for Schemes {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Schemes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schemes")
            .field("backends", &self.factories.keys())
            .field("proxies", &self.proxies.keys())
            .field("async_proxies", &self.async_proxies.keys())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Put, Stored, Takes};

    fn open(url: &str) -> Arc<dyn Backend> {
        let store = Schemes::new().open(Arguments::from_url(url).unwrap()).unwrap();
        assert!(store.awaiting.is_none(), "tasks use the one for threads, so that one proxy serves both");
        store.blocking.unwrap()
    }

    #[test]
    fn settings_reach_the_backend() {
        let value = Stored::from(b"1234567890".as_slice());
        let fill = |backend: &dyn Backend| {
            for key in 0..1000 {
                backend.set(Put::new(&key.to_string(), &value)).unwrap();
            }
            backend.len("").unwrap().unwrap()
        };
        assert_eq!(fill(&*open("memory://")), 1000);
        let few = fill(&*open("memory://?max_entries=20&shards=1"));
        assert!((1..=20).contains(&few), "{few}");
        let light = fill(&*open("memory+serialized://?max_weight=1kB"));
        assert!((1..=100).contains(&light), "{light}");
        assert_eq!(open("memory://").takes(), Takes::Objects);
        assert_eq!(open("memory://?max_weight=1").takes(), Takes::WeighedObjects);
        assert_eq!(open("memory+serialized://").takes(), Takes::Bytes);
        let null = open("null://");
        null.set(Put::new("key", &value)).unwrap();
        assert!(null.get("key").unwrap().is_none());
    }

    #[test]
    fn proxies_are_made_by_name_or_refused() {
        struct Nothing;
        impl Proxy for Nothing {}
        impl AsyncProxy for Nothing {}
        let schemes = Schemes::new().register_proxy("nothing", || Nothing);
        assert!(schemes.proxy("nothing").is_ok());
        let error = schemes.async_proxy("nothing").err().unwrap().to_string();
        assert!(
            error.contains("`wrap`: there is no proxy `nothing`: give it by Schemes::register_async_proxy"),
            "{error}"
        );
        let error = schemes.proxy("other").err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("or give the builder one by wrap"), "{error}");
        assert!(schemes.register_async_proxy("nothing", || Nothing).async_proxy("nothing").is_ok());
    }

    #[test]
    fn the_last_to_be_registered_counts() {
        let schemes = Schemes::new().register("Memory", |_| Ok(Store::both(NullBackend::new())));
        let store = schemes.open(Arguments::from_url("memory://").unwrap()).unwrap();
        assert!(store.blocking.unwrap().name() == "null" && store.awaiting.is_some());
    }
}
