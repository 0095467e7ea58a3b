//! [`RegionBuilder`].
#![forbid(unsafe_code)]

use super::Region;
use super::asynchronous::AsyncRegion;
use super::config::{ManglerConfig, RegionConfig};
use super::core::{Core, OnBackendError};
use super::counts::Counts;
use super::invalidation::{Epochs, InvalidationStrategy, LocalInvalidation};
use super::keys::{DefaultKeys, KeyGenerator, Mangler};
use super::registry::Registry;
use super::shared::SharedInvalidation;
use super::slot::Slot;
use super::turns::Turns;
use crate::backend::{
    AsyncBackend, AsyncProxied, AsyncProxy, Backend, MemoryBackend, Proxied, Proxy, Schemes, Takes, for_tasks,
};
use crate::codec::Codec;
use crate::error::{Error, ErrorKind};
use crate::gate::RegionPolicy;
use crate::sync::Arc;
use crate::time::{Clock, CoarseClock};
use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroUsize;

/// The settings of a region: [`Region::builder`].
///
/// Without a setting: values of this process without a limit, no expiry, the codec `postcard`.
///
/// ```
/// use dogpile::backend::MemoryBackend;
/// use dogpile::codec::Codec;
/// use dogpile::{Region, RegionPolicy};
/// use std::time::Duration;
///
/// let region = Region::builder()
///     .name("pages")
///     .backend(MemoryBackend::builder().max_entries(1_000).serialized(true).build()?)
///     .codec(Codec::json())
///     .policy(RegionPolicy::builder().fresh(Duration::from_secs(300)).build()?)
///     .build()?;
/// assert_eq!(*region.get_or_create("/", || String::from("<h1>hello</h1>"))?, "<h1>hello</h1>");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct RegionBuilder {
    name: Option<Cow<'static, str>>,
    blocking: Option<Arc<dyn Backend>>,
    awaiting: Option<Arc<dyn AsyncBackend>>,
    proxies: Vec<Box<dyn Proxy>>,
    async_proxies: Vec<Box<dyn AsyncProxy>>,
    prefix: String,
    mangler: Option<Mangler>,
    generator: Option<Arc<dyn KeyGenerator>>,
    codec: Option<Codec>,
    policy: RegionPolicy,
    invalidation: Option<Arc<dyn InvalidationStrategy>>,
    shared_invalidation: Option<String>,
    clock: Option<Arc<dyn Clock>>,
    on_error: OnBackendError,
    max_creations: Option<NonZeroUsize>,
    replaces: bool,
}

impl RegionBuilder {
    pub(super) fn new() -> Self {
        Self {
            name: None,
            blocking: None,
            awaiting: None,
            proxies: Vec::new(),
            async_proxies: Vec::new(),
            prefix: String::new(),
            mangler: None,
            generator: None,
            codec: None,
            policy: RegionPolicy::default(),
            invalidation: None,
            shared_invalidation: None,
            clock: None,
            on_error: OnBackendError::default(),
            max_creations: None,
            replaces: false,
        }
    }

    /// Its name, for messages.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Where its values are. Default: a [`MemoryBackend`] without a limit.
    pub fn backend(mut self, backend: impl Backend + 'static) -> Self {
        self.blocking = Some(Arc::new(backend));
        self
    }

    /// Where its values are, for tasks. Together with [`backend`](Self::backend) it must be the same store. With only a
    /// blocking one, tasks use that, by threads if it blocks; with only this one, threads can't use the region.
    pub fn async_backend(mut self, backend: impl AsyncBackend + 'static) -> Self {
        self.awaiting = Some(Arc::new(backend));
        self
    }

    /// What stands between the region and its backend. The first that is given is the outermost.
    ///
    /// A region with an `async_backend` needs [`wrap_async`](Self::wrap_async) for that.
    pub fn wrap(mut self, proxy: impl Proxy + 'static) -> Self {
        self.proxies.push(Box::new(proxy));
        self
    }

    /// As [`wrap`](Self::wrap), for the `async_backend`.
    pub fn wrap_async(mut self, proxy: impl AsyncProxy + 'static) -> Self {
        self.async_proxies.push(Box::new(proxy));
        self
    }

    /// What stands before each key in the store, mangled or not. Default: nothing.
    ///
    /// Regions that share a store should have one each: it is how `clear` and `len` find their entries.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// What is made of each key before it goes to the store. Default: what the backend has.
    pub fn mangler(mut self, mangler: Mangler) -> Self {
        self.mangler = Some(mangler);
        self
    }

    /// What makes keys of calls, for functions that are memoised with `keys = REGION`. Default:
    /// [`DefaultKeys`](super::DefaultKeys).
    ///
    /// ```
    /// use dogpile::region::{Arg, Call, DogpileKeys, KeyGenerator};
    ///
    /// let region = dogpile::Region::builder().key_generator(DogpileKeys::new()).build()?;
    /// let args = [Arg::new("id", &7)];
    /// assert_eq!(region.key(&Call::new("shop", "find", &args))?, "shop:find|7");
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    pub fn key_generator(mut self, generator: impl KeyGenerator + 'static) -> Self {
        self.generator = Some(Arc::new(generator));
        self
    }

    /// How values become bytes, where the backend wants bytes. Default: what the backend has, or postcard.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = Some(codec);
        self
    }

    /// How long values are good, and who waits for what.
    pub fn policy(mut self, policy: RegionPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Where invalidations are noted. Default: [`LocalInvalidation`].
    pub fn invalidation(mut self, strategy: impl InvalidationStrategy + 'static) -> Self {
        self.invalidation = Some(Arc::new(strategy));
        self
    }

    /// Notes invalidations in the region's own store, under a name, for all processes whose regions say the same: a
    /// [`SharedInvalidation`] with its default times. The backend must be one for threads, too.
    pub fn shared_invalidation(mut self, name: impl Into<String>) -> Self {
        self.shared_invalidation = Some(name.into());
        self
    }

    /// Another clock, for tests.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// What to do when the backend fails. Default: [`OnBackendError::Degrade`].
    pub fn on_backend_error(mut self, on_error: OnBackendError) -> Self {
        self.on_error = on_error;
        self
    }

    /// At most so many creators of this region run at once, in this process. Those that creators of this region call for
    /// don't count; a creator that waits for another's creation lends its turn meanwhile. What a creator leaves to other threads
    /// or tasks, and waits for, does count: with all turns taken it would wait for ever.
    pub fn max_creations(mut self, most: NonZeroUsize) -> Self {
        self.max_creations = Some(most);
        self
    }

    /// Lets [`Region::configure`] replace an earlier configuration.
    pub fn replace_existing_backend(mut self) -> Self {
        self.replaces = true;
        self
    }

    /// What a configuration says, in the place of what was said before. What it doesn't say stays as it is; its proxies are
    /// inside of those that were given before.
    ///
    /// `schemes` are the backends and proxies that it may name. Backends are opened here.
    ///
    /// ```
    /// use dogpile::backend::Schemes;
    /// use dogpile::region::RegionConfig;
    /// use dogpile::Region;
    ///
    /// let config = RegionConfig::from_url("memory://?max_entries=1000&fresh=5m&stale=1h")?;
    /// let region = Region::builder().name("pages").config(&config, &Schemes::new())?.build()?;
    /// region.set("/", String::from("<h1>hello</h1>"))?;
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the backend is not registered, can't be opened, or doesn't know a setting; if a proxy is not registered; if the
    /// policy's settings contradict each other. The message names them.
    pub fn config(mut self, config: &RegionConfig, schemes: &Schemes) -> Result<Self, Error> {
        let wrong =
            |detail: String| Error::new(ErrorKind::Config, "configuration of a region").detail(detail);
        match config.backend_arguments() {
            Some(arguments) => {
                let store = schemes.open(arguments)?;
                (self.blocking, self.awaiting) = (store.blocking, store.awaiting);
            }
            None if !config.arguments.is_empty() => {
                return Err(wrong(
                    "`arguments`: they are a backend's, and none is named by `backend`".to_owned(),
                ));
            }
            None => {}
        }
        for name in &config.wrap {
            if self.blocking.is_some() || self.awaiting.is_none() {
                self.proxies.push(schemes.proxy(name)?);
            }
            if self.awaiting.is_some() {
                self.async_proxies.push(schemes.async_proxy(name)?);
            }
        }
        let mut policy = self.policy.to_builder();
        if let Some(fresh) = config.fresh {
            policy = policy.fresh(fresh);
        }
        if let Some(stale) = config.stale {
            policy = policy.stale(stale);
        }
        if let Some(stale_if_error) = config.stale_if_error {
            policy = policy.stale_if_error(stale_if_error);
        }
        if let Some(wait) = config.wait {
            policy = policy.wait(wait);
        }
        if let Some(soft_timeout) = config.soft_timeout {
            policy = policy.soft_timeout(soft_timeout);
        }
        if let Some(error_ttl) = config.error_ttl {
            policy = policy.error_ttl(error_ttl);
        }
        if let Some(jitter) = config.jitter {
            policy = policy.jitter(jitter);
        }
        if let Some(early) = config.early {
            policy = policy.early(early);
        }
        self.policy = policy.build().map_err(|error| wrong(error.to_string()).because(error))?;
        if let Some(prefix) = &config.prefix {
            self.prefix.clone_from(prefix);
        }
        if let Some(codec) = &config.codec {
            self.codec = Some(Codec::from_url(codec)?);
        }
        self.mangler = config.mangler.map(ManglerConfig::mangler).or(self.mangler);
        self.shared_invalidation = config.shared_invalidation.clone().or(self.shared_invalidation);
        self.max_creations = config.max_creations.or(self.max_creations);
        self.on_error = config.on_backend_error.unwrap_or(self.on_error);
        self.replaces |= config.replace_existing_backend;
        Ok(self)
    }

    pub(super) fn replaces(&self) -> bool {
        self.replaces
    }

    pub(super) fn named(mut self, name: Option<Cow<'static, str>>) -> Self {
        self.name = self.name.or(name);
        self
    }

    /// The region.
    ///
    /// # Errors
    /// If settings contradict each other; the message names them.
    pub fn build(self) -> Result<Region, Error> {
        Ok(Region::of(Slot::of(Arc::new(self.core(false)?))))
    }

    /// The region, for tasks.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_async(self) -> Result<AsyncRegion, Error> {
        Ok(AsyncRegion::of(Slot::of(Arc::new(self.core(true)?))))
    }

    pub(super) fn core(self, is_for_tasks: bool) -> Result<Core, Error> {
        let wrong = |detail: &'static str| Err(Error::new(ErrorKind::Config, "region").detail(detail));
        if !is_for_tasks && self.blocking.is_none() && self.awaiting.is_some() {
            return wrong("its only backend is for tasks: give it a blocking one, or use build_async");
        }
        if !self.async_proxies.is_empty() && self.awaiting.is_none() {
            return wrong("wrap_async needs an async_backend: a blocking one is wrapped by wrap");
        }
        if !self.proxies.is_empty() && self.blocking.is_none() && self.awaiting.is_some() {
            return wrong("wrap needs a blocking backend: an async one is wrapped by wrap_async");
        }
        let blocking = match (self.blocking, &self.awaiting) {
            (None, None) => Some(Arc::new(MemoryBackend::new()) as Arc<dyn Backend>),
            (blocking, _) => blocking,
        };
        let own_awaiting = self.awaiting.clone();
        let actual_awaiting = own_awaiting
            .clone()
            .or_else(|| blocking.as_ref().map(for_tasks))
            .expect("there is one of them at least");
        let actual = (blocking.clone(), actual_awaiting);
        let wrapped = blocking.map(|backend| {
            self.proxies
                .into_iter()
                .rev()
                .fold(backend, |next, proxy| Arc::new(Proxied { proxy, next }) as Arc<dyn Backend>)
        });
        let awaiting =
            match own_awaiting {
                Some(backend) => self.async_proxies.into_iter().rev().fold(backend, |next, proxy| {
                    Arc::new(AsyncProxied { proxy, next }) as Arc<dyn AsyncBackend>
                }),
                None => wrapped.as_ref().map(for_tasks).expect("there is one of them at least"),
            };
        let takes = wrapped.as_ref().map_or_else(|| awaiting.takes(), |backend| backend.takes());
        if awaiting.takes() != takes {
            return wrong("its two backends take different things: they must be the same store");
        }
        let codec = self.codec.or_else(|| awaiting.codec()).unwrap_or_default();
        if let Some(backend) = &wrapped {
            backend.attach(codec.has_envelope())?;
        }
        awaiting.attach(codec.has_envelope())?;
        let mangler = match self.mangler {
            Some(mangler) => Some(mangler).filter(|mangler| !mangler.is_none()),
            None => {
                let backend = Arc::clone(&awaiting);
                // Asked once whether it does anything at all.
                backend.mangles().then(|| {
                    Mangler::from_fn(move |key| backend.mangle(key).unwrap_or_else(|| key.to_owned()))
                })
            }
        };
        let invalidation: Arc<dyn InvalidationStrategy> = match (self.invalidation, self.shared_invalidation)
        {
            (Some(_), Some(_)) => {
                return wrong("invalidation and shared_invalidation were given: choose one");
            }
            (Some(strategy), None) => strategy,
            (None, None) => Arc::new(LocalInvalidation::new()),
            (None, Some(name)) => match &actual.0 {
                Some(backend) if takes == Takes::Bytes => {
                    let (refresh, skew) = SharedInvalidation::TIMES;
                    Arc::new(SharedInvalidation::on(Arc::clone(backend), &name, refresh, skew))
                }
                _ => return wrong("shared_invalidation needs a backend for threads that takes bytes"),
            },
        };
        let clock = self.clock.unwrap_or_else(|| Arc::new(CoarseClock));
        Ok(Core {
            name: self.name,
            prefix: self.prefix.into(),
            mangler,
            generator: self.generator.unwrap_or_else(|| Arc::new(DefaultKeys)),
            codec,
            policy: self.policy,
            keeps: wrapped.as_ref().map_or_else(|| awaiting.keeps(), |backend| backend.keeps()),
            blocking: wrapped,
            awaiting,
            actual,
            takes,
            invalidation,
            epochs: Epochs::default(),
            registry: Arc::new(Registry::new()),
            grain: clock.grain(),
            clock,
            on_error: self.on_error,
            turns: self.max_creations.map(|most| Turns::new(most.get())),
            counts: Counts::new(),
        })
    }
}

impl fmt::Debug for RegionBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backend = match (&self.blocking, &self.awaiting) {
            (Some(backend), _) => backend.name(),
            (None, Some(backend)) => backend.name(),
            (None, None) => "memory",
        };
        f.debug_struct("RegionBuilder")
            .field("name", &self.name)
            .field("backend", &backend)
            .field("prefix", &self.prefix)
            .field("codec", &self.codec)
            .field("policy", &self.policy)
            .field("on_backend_error", &self.on_error)
            .field("max_creations", &self.max_creations)
            .finish_non_exhaustive()
    }
}
