//! Regions: named caches with string keys over a choice of stores, with the dogpile lock, invalidation, tags and metadata.
//!
//! [`Region`] is for threads, [`AsyncRegion`] for tasks. They are two faces of one core, and callers of both join one
//! creation of a key.
//!
//! ```text
//! Region ─┐                ┌─ registry.rs      who makes which key now
//!         ├─ call.rs ─ spot.rs ─ the gate      one call that creates
//! Async… ─┘                ├─ invalidation.rs  what is invalid since when
//!         └─ ops.rs ───────┴─ core.rs          the store, what was found, what is written
//! ```
//!
//! # What is promised
//! What the gate promises (see [`gate`](crate::gate)), in one process; across processes as far as the backend's own lock
//! reaches. And:
//! - **Nothing that was invalidated comes back.** `set`, `delete`, `clear` and `invalidate` during a creation win over what
//!   it makes: it goes to its callers, and is not stored, or is stored as invalid (H16). Of one region object, by whichever of
//!   its faces; of others that share its store as far as that store's own conditional write can tell. And if nobody drops the
//!   future of a write while a store on another thread, or another machine, is about to carry it out.
//! - **One read a hit, one read and one write a creation**, for one key or for a batch.
#![forbid(unsafe_code)]

mod asynchronous;
mod builder;
mod call;
mod config;
mod core;
mod counts;
mod explain;
mod inspect;
mod invalidation;
mod item;
mod keys;
mod ops;
mod options;
mod registry;
mod shared;
mod slot;
mod spot;
mod stripe;
#[cfg(test)]
mod tests;
mod turns;

pub use asynchronous::{AsyncRegion, AsyncRegionWith};
pub use builder::RegionBuilder;
pub use config::{ManglerConfig, RegionConfig};
pub use core::OnBackendError;
pub use counts::RegionStats;
pub use explain::{KeyState, RegionExplanation};
pub use inspect::{InspectedEntry, Inspection};
pub use invalidation::{How, InvalidationStrategy, LocalInvalidation, Scope};
pub use item::CachedItem;
pub use keys::{
    Arg, CachetoryKeys, Call, DefaultKeys, DogpileKeys, KeyGenerator, Mangler, cachetory_hashed_key,
    cachetory_key, dogpile_key, dogpile_kwarg_key, dogpile_multi_keys, key_of, length_conditional_mangler,
    sha1_mangle_key,
};
pub use options::{GetOptions, SetOptions};
pub use shared::SharedInvalidation;

use self::call::Calls;
use self::core::Face;
use self::ops::at_once;
use self::slot::Slot;
use crate::backend::{Backend, Schemes};
use crate::codec::Storable;
use crate::error::{CreateError, Error};
use crate::gate::{Alarm, RegionPolicy, block_on};
use crate::sync::Arc;
use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

/// A cache with string keys over a backend, for threads.
///
/// Values are of any type, told with each call, and come as `Arc<T>`: `get::<User>("key")`. A stored value of another type is
/// a miss.
///
/// A region can stand in a `static`, and be configured later:
///
/// ```
/// use dogpile::{Region, RegionPolicy};
/// use std::time::Duration;
///
/// static USERS: Region = Region::new("users");
///
/// assert!(USERS.get::<String>("1").unwrap_err().to_string().contains("region `users`: not configured"));
/// let minute = RegionPolicy::builder().fresh(Duration::from_secs(60)).build()?;
/// USERS.configure(Region::builder().policy(minute))?;
/// assert_eq!(*USERS.get_or_create("1", || String::from("Ada"))?, "Ada");
/// assert_eq!(USERS.get::<String>("1")?.as_deref().map(String::as_str), Some("Ada"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Each method returns [`ErrorKind::NotConfigured`](crate::ErrorKind::NotConfigured) before the region is configured. When
/// the backend fails, reads and creations go by [`OnBackendError`]; `set`, `delete` and their kin return the error.
pub struct Region {
    slot: Slot,
}

/// The verb can't fail: what the gate could not share is made for its caller.
fn unless<T>(
    result: Result<Arc<T>, CreateError<Infallible>>,
    region: &Slot,
    create: impl FnOnce() -> T,
) -> Result<Arc<T>, Error> {
    match result {
        Ok(value) => Ok(value),
        Err(CreateError::Backend(error)) => Err(error),
        Err(CreateError::Reentrant) => reentrant(region),
        Err(_) => Ok(Arc::new(create())),
    }
}

/// A creator that asks for what it is making can't get it, and a verb that can't fail can't say so.
#[cold]
fn reentrant(region: &Slot) -> ! {
    panic!(
        "re-entrant creation: the creator asks for the value that it is making, or waits in a circle with others (region \
         `{}`); try_get_or_create returns this as an error",
        region.name().unwrap_or("unnamed")
    )
}

impl Region {
    /// A region of that name, to be configured later.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { slot: Slot::new(name) }
    }

    pub(crate) fn of(slot: Slot) -> Self {
        Self { slot }
    }

    /// Settings, one by one.
    pub fn builder() -> RegionBuilder {
        RegionBuilder::new()
    }

    /// A region over a store of its own in this process, without a limit and without expiry.
    ///
    /// ```
    /// let region = dogpile::Region::in_memory();
    /// region.set("key", 1)?;
    /// assert_eq!(region.get::<i32>("key")?.as_deref(), Some(&1));
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    #[must_use]
    pub fn in_memory() -> Self {
        Self::builder().build().expect("the defaults go together")
    }

    /// Configures a region that was made by [`new`](Self::new).
    ///
    /// # Errors
    /// [`AlreadyConfigured`](crate::ErrorKind::AlreadyConfigured), unless the settings say `replace_existing_backend`; what
    /// is wrong with the settings.
    pub fn configure(&self, builder: RegionBuilder) -> Result<&Self, Error> {
        let replaces = builder.replaces();
        self.slot.put(builder.named(self.slot.own_name()).core(false)?, replaces)?;
        Ok(self)
    }

    /// A region by URL: its backend, and in the query the backend's settings and the region's own. See
    /// [`guide::configuration`](crate::guide::configuration).
    ///
    /// ```
    /// let region = dogpile::Region::from_url("memory://?max_entries=10000&fresh=5m&stale=1h")?;
    /// assert_eq!(*region.get_or_create("/", || String::from("<h1>hello</h1>"))?, "<h1>hello</h1>");
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    ///
    /// # Errors
    /// The message names the part of the URL that is wrong, or the setting that is unknown, and those that are accepted. It
    /// shows no values.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        Self::builder().config(&RegionConfig::from_url(url)?, &Schemes::new())?.build()
    }

    /// Configures the region by those settings of a map that begin with `prefix`, as dogpile.cache's method of that name.
    ///
    /// ```
    /// use dogpile::Region;
    ///
    /// static PAGES: Region = Region::new("pages");
    /// PAGES.configure_from_config([("pages.backend", "memory"), ("pages.expiration_time", "300")], "pages.")?;
    /// assert!(PAGES.is_configured());
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`configure`](Self::configure), and as [`from_url`](Self::from_url).
    pub fn configure_from_config<K: AsRef<str>, V: Into<crate::backend::Setting>>(
        &self,
        map: impl IntoIterator<Item = (K, V)>,
        prefix: &str,
    ) -> Result<&Self, Error> {
        let config = RegionConfig::from_map(map, prefix)?;
        self.configure(Self::builder().config(&config, &Schemes::new())?)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.slot.name()
    }

    /// Whether it has been configured.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.slot.is_configured()
    }

    /// The backend itself, without proxies.
    ///
    /// # Errors
    /// If the region has not been configured.
    pub fn actual_backend(&self) -> Result<Option<Arc<dyn Backend>>, Error> {
        Ok(self.slot.core()?.actual.0.clone())
    }

    /// A copy of the region's own policy, to change it for some calls.
    ///
    /// # Errors
    /// If the region has not been configured.
    ///
    /// ```
    /// use dogpile::Region;
    /// use std::time::Duration;
    ///
    /// let region = Region::in_memory();
    /// let longer = region.policy()?.to_builder().fresh(Duration::from_secs(3600)).build()?;
    /// assert!(format!("{longer:?}").contains("3600s"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn policy(&self) -> Result<RegionPolicy, Error> {
        Ok(self.slot.core()?.policy.clone())
    }

    /// What the region has done since it was configured; nothing before.
    #[must_use]
    pub fn stats(&self) -> RegionStats {
        self.slot.core().map(|core| core.counts.read()).unwrap_or_default()
    }

    /// The same region for tasks: one core, one configuration. A later replacement is not followed.
    ///
    /// ```
    /// # pollster::block_on(async {
    /// let region = dogpile::Region::in_memory();
    /// let tasks = region.for_tasks()?;
    /// tasks.set("key", 1).await?;
    /// assert_eq!(region.get::<i32>("key")?.as_deref(), Some(&1));
    /// # Ok::<(), dogpile::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// If the region has not been configured.
    pub fn for_tasks(&self) -> Result<AsyncRegion, Error> {
        Ok(AsyncRegion::of(Slot::of(Arc::clone(&*self.slot.core()?))))
    }

    /// The region under another policy, for single calls: `region.with(&policy).get_or_create(…)`.
    ///
    /// If the policy has a `fresh`, it holds for these calls, also for values that are there (dogpile.cache's
    /// `expiration_time` of a call).
    pub fn with<'r>(&'r self, policy: &'r RegionPolicy) -> RegionWith<'r> {
        RegionWith { region: self, how: call::How { policy: Some(policy), ..call::How::OWN } }
    }

    /// The region, for calls whose values get these tags.
    pub fn tagged<T: Into<String>>(&self, tags: impl IntoIterator<Item = T>) -> RegionWith<'_> {
        RegionWith { region: self, how: call::How::OWN }.tagged(tags)
    }

    fn own(&self) -> RegionWith<'_> {
        RegionWith { region: self, how: call::How::OWN }
    }

    /// The fresh value of a key.
    ///
    /// Never makes one, and takes no lock. A cached `None` is a value: `get::<Option<T>>`.
    ///
    /// # Cost
    /// One read of the backend. On a memory backend no allocation, if the region neither mangles nor prefixes keys.
    ///
    /// # Errors
    /// As the type says.
    #[inline]
    pub fn get<T: Storable>(&self, key: &str) -> Result<Option<Arc<T>>, Error> {
        self.get_with(key, GetOptions::new())
    }

    /// As [`get`](Self::get), with options.
    ///
    /// # Errors
    /// As `get`.
    #[inline]
    pub fn get_with<T: Storable>(&self, key: &str, options: GetOptions) -> Result<Option<Arc<T>>, Error> {
        self.slot.core()?.value_now(key, options)
    }

    /// As [`get`](Self::get), with what is known of the value.
    ///
    /// ```
    /// let region = dogpile::Region::in_memory();
    /// region.set("key", 1)?;
    /// let found = region.get_value_metadata::<i32>("key")?.unwrap();
    /// assert_eq!(*found.payload, 1);
    /// assert!(found.cached_time.is_some());
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    ///
    /// # Errors
    /// As `get`.
    pub fn get_value_metadata<T: Storable>(&self, key: &str) -> Result<Option<CachedItem<T>>, Error> {
        self.get_value_metadata_with(key, GetOptions::new())
    }

    /// As [`get_value_metadata`](Self::get_value_metadata), with options.
    ///
    /// ```
    /// use dogpile::region::{GetOptions, How, Scope};
    ///
    /// let region = dogpile::Region::in_memory();
    /// region.set("key", 1)?;
    /// region.invalidate(Scope::Region, How::Hard)?;
    /// assert_eq!(region.get_value_metadata::<i32>("key")?, None);
    /// let any = region.get_value_metadata_with::<i32>("key", GetOptions::new().ignore_expiration())?;
    /// assert_eq!(*any.unwrap().payload, 1);
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    ///
    /// # Errors
    /// As `get`.
    pub fn get_value_metadata_with<T: Storable>(
        &self,
        key: &str,
        options: GetOptions,
    ) -> Result<Option<CachedItem<T>>, Error> {
        let core = self.slot.core()?;
        Ok(core.find_now(key, options)?.map(|found| core.metadata(found)))
    }

    /// The fresh values of many keys, in their order, by one read of the backend. Of no keys: none, and no read.
    ///
    /// ```
    /// let region = dogpile::Region::in_memory();
    /// region.set("a", 1)?;
    /// let found = region.get_multi::<i32>(&["b", "a"])?;
    /// assert_eq!(found[0], None);
    /// assert_eq!(found[1].as_deref(), Some(&1));
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    ///
    /// # Errors
    /// As `get`.
    pub fn get_multi<T: Storable>(&self, keys: &[&str]) -> Result<Vec<Option<Arc<T>>>, Error> {
        at_once(self.slot.core()?.find_multi(Face::Threads, keys, GetOptions::new()))
    }

    /// As [`get_multi`](Self::get_multi), with options.
    ///
    /// # Errors
    /// As `get`.
    pub fn get_multi_with<T: Storable>(
        &self,
        keys: &[&str],
        options: GetOptions,
    ) -> Result<Vec<Option<Arc<T>>>, Error> {
        at_once(self.slot.core()?.find_multi(Face::Threads, keys, options))
    }

    /// Stores a value. A value that is just being made for the key is not stored any more; who waits for it gets this one.
    ///
    /// # Errors
    /// If the backend fails, whatever the region does on errors elsewhere; if the value can't be encoded.
    pub fn set<T: Storable>(&self, key: &str, value: T) -> Result<(), Error> {
        self.set_with(key, value, SetOptions::new()).map(drop)
    }

    /// As [`set`](Self::set), with options. False: it is not stored, since there is one already.
    ///
    /// # Errors
    /// As `set`.
    pub fn set_with<T: Storable>(&self, key: &str, value: T, options: SetOptions) -> Result<bool, Error> {
        at_once(self.slot.core()?.put(Face::Threads, key, value, &options))
    }

    /// Stores many values, by one write of the backend. Of no values: nothing.
    ///
    /// # Errors
    /// As `set`; some may be stored then.
    pub fn set_multi<'k, T: Storable>(
        &self,
        entries: impl IntoIterator<Item = (&'k str, T)>,
    ) -> Result<(), Error> {
        self.set_multi_with(entries, SetOptions::new())
    }

    /// As [`set_multi`](Self::set_multi), with a time to live and tags for all. `if_absent` has no meaning here.
    ///
    /// # Errors
    /// As `set_multi`.
    pub fn set_multi_with<'k, T: Storable>(
        &self,
        entries: impl IntoIterator<Item = (&'k str, T)>,
        options: SetOptions,
    ) -> Result<(), Error> {
        let entries = entries.into_iter().collect();
        at_once(self.slot.core()?.put_multi(Face::Threads, entries, &options))
    }

    /// Takes a key's value out. True if there was one, as far as the backend can tell. Deleting what is not there is no error.
    ///
    /// A value that is just being made goes to those who wait for it, and not into the store.
    ///
    /// # Errors
    /// As `set`.
    pub fn delete(&self, key: &str) -> Result<bool, Error> {
        at_once(self.slot.core()?.remove(Face::Threads, &[key]))
    }

    /// Takes many keys' values out.
    ///
    /// # Errors
    /// As `set`.
    pub fn delete_multi(&self, keys: &[&str]) -> Result<(), Error> {
        at_once(self.slot.core()?.remove(Face::Threads, keys)).map(drop)
    }

    /// Gives a fresh value another time to live, from now. `None`: it has none. False: there is no fresh value.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let region = dogpile::Region::in_memory();
    /// region.set("key", 1)?;
    /// assert!(region.expire_in("key", Some(Duration::ZERO))?);
    /// assert_eq!(region.get::<i32>("key")?, None);
    /// assert!(!region.expire_in("other", None)?);
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    ///
    /// # Errors
    /// As `set`.
    pub fn expire_in(&self, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        at_once(self.slot.core()?.expire(Face::Threads, key, ttl))
    }

    /// As [`expire_in`](Self::expire_in), at a time of day, since 1970 in UTC. One that is past: at once.
    ///
    /// # Errors
    /// As `set`.
    pub fn expire_at(&self, key: &str, time: Option<Duration>) -> Result<bool, Error> {
        let core = self.slot.core()?;
        let ttl = time.map(|time| time.saturating_sub(core.clock.unix()));
        at_once(core.expire(Face::Threads, key, ttl))
    }

    /// Takes all of the region's values out, and only those: by its prefix, or where the store can't find them by treating
    /// them as missing.
    ///
    /// # Errors
    /// As `set`.
    pub fn clear(&self) -> Result<(), Error> {
        at_once(self.slot.core()?.clear_all(Face::Threads))
    }

    /// How many values the store has for this region, expired ones perhaps included. `None`: it can't count them.
    ///
    /// # Errors
    /// As `get`.
    pub fn len(&self) -> Result<Option<u64>, Error> {
        at_once(self.slot.core()?.count_entries(Face::Threads))
    }

    /// Invalidates what is in `scope`, also what is being made: for good, or so that it is stale.
    ///
    /// A later soft invalidation does not weaken a hard one.
    ///
    /// ```
    /// use dogpile::region::{How, Scope};
    ///
    /// let region = dogpile::Region::in_memory();
    /// region.set("key", 1)?;
    /// region.invalidate(Scope::Region, How::Soft)?;
    /// assert_eq!(region.get::<i32>("key")?, None);
    /// // Stale: whoever makes it anew leaves the old value to the others meanwhile.
    /// let two = region.get_or_create("key", || {
    ///     assert_eq!(*region.get_or_create("key", || 0).unwrap(), 1);
    ///     2
    /// });
    /// assert_eq!(*two?, 2);
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    ///
    /// # Cost
    /// Nothing is looked for: it is noted, and readers compare. One key, for good, is deleted.
    ///
    /// # Errors
    /// As `set`; [`Unsupported`](crate::ErrorKind::Unsupported) with an envelope that has no time to compare, and for prefixes
    /// of mangled keys.
    pub fn invalidate(&self, scope: Scope<'_>, how: How) -> Result<(), Error> {
        at_once(self.slot.core()?.invalidate(Face::Threads, scope, how))
    }

    /// Whether somebody makes a value for the key: in this process, or by the store's own lock in another.
    ///
    /// # Errors
    /// If the backend can't be asked.
    pub fn key_is_locked(&self, key: &str) -> Result<bool, Error> {
        at_once(self.slot.core()?.is_locked(Face::Threads, key))
    }

    /// Tells what a key has, why it is fresh, stale or missing, and who makes it anew. For people, logs and tests.
    ///
    /// ```
    /// let region = dogpile::Region::in_memory();
    /// assert_eq!(region.explain::<i32>("key")?.to_string(), "missing: not in the store");
    /// region.set("key", "text".to_owned())?;
    /// let told = region.explain::<i32>("key")?.to_string();
    /// assert_eq!(told, "missing: what is stored is of another type");
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the backend can't be asked.
    pub fn explain<T: Storable>(&self, key: &str) -> Result<RegionExplanation, Error> {
        at_once(self.slot.core()?.explain::<T>(Face::Threads, key))
    }

    /// Tells what the store has for a key, whatever its type, and who holds its lock. For people and tools.
    ///
    /// ```
    /// use dogpile::Region;
    /// use dogpile::backend::MemoryBackend;
    /// use dogpile::codec::Codec;
    ///
    /// let store = MemoryBackend::builder().serialized(true).build()?;
    /// let region = Region::builder().backend(store).codec(Codec::json()).build()?;
    /// region.tagged(["prime"]).get_or_create("seven", || 7)?;
    /// let told = region.inspect("seven")?;
    /// let entry = told.entry.unwrap();
    /// assert_eq!((entry.tags, told.is_locked), (vec![String::from("prime")], false));
    /// assert_eq!(told.state.to_string(), "fresh");
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the backend can't be asked.
    pub fn inspect(&self, key: &str) -> Result<Inspection, Error> {
        at_once(self.slot.core()?.inspect(Face::Threads, key))
    }

    /// The value of a key; if it is missing or out of date, made by `creator`.
    ///
    /// Of all threads and tasks that miss one key at once, one leads and runs `creator`; the others wait and share its value,
    /// or get the stale one at once, where there is one and the policy allows it. When the policy's `wait` runs out, and after
    /// two panics, the caller runs its own `creator`, and the value is not stored.
    ///
    /// # Cost
    /// A hit: one read of the backend. Uncontended creation: one read, one write.
    ///
    /// # Errors
    /// If the backend fails and the region may not do without it; if it can't have values of this type at all.
    ///
    /// # Panics
    /// If `creator` does; and if it asks for the very value that it is making, or waits in a circle with others.
    pub fn get_or_create<T: Storable>(
        &self,
        key: &str,
        creator: impl FnOnce() -> T,
    ) -> Result<Arc<T>, Error> {
        self.own().get_or_create(key, creator)
    }

    /// As [`get_or_create`](Self::get_or_create), for a creator that may fail.
    ///
    /// ```
    /// use dogpile::CreateError;
    ///
    /// let region = dogpile::Region::in_memory();
    /// let error = region.try_get_or_create("seven", || "seven".parse::<u32>()).unwrap_err();
    /// assert!(matches!(error, CreateError::Creator(_)));
    /// assert_eq!(*region.try_get_or_create("seven", || "7".parse::<u32>())?, 7);
    /// # Ok::<(), CreateError<std::num::ParseIntError>>(())
    /// ```
    ///
    /// # Errors
    /// [`CreateError`] tells them apart.
    pub fn try_get_or_create<T: Storable, E: Send + Sync + 'static>(
        &self,
        key: &str,
        creator: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, CreateError<E>> {
        self.own().try_get_or_create(key, creator)
    }

    /// As [`get_or_create`](Self::get_or_create), with a creator that may outlive the call: where there is a stale value it
    /// is run in the background, by the policy's `runner`.
    ///
    /// # Errors
    /// As there.
    pub fn get_or_create_detached<T: Storable>(
        &self,
        key: &str,
        creator: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Arc<T>, Error> {
        self.own().get_or_create_detached(key, creator)
    }

    /// As [`try_get_or_create`](Self::try_get_or_create), with a creator that may outlive the call.
    ///
    /// # Errors
    /// As there. An error of a creation in the background is not seen by the caller who has the stale value.
    pub fn try_get_or_create_detached<T: Storable, E: Send + Sync + 'static>(
        &self,
        key: &str,
        creator: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<Arc<T>, CreateError<E>> {
        self.own().try_get_or_create_detached(key, creator)
    }

    /// Makes a key's value anew, fresh or not; if somebody is making it already, waits for that. Others get the old one
    /// meanwhile.
    ///
    /// # Errors
    /// As [`get_or_create`](Self::get_or_create).
    pub fn refresh<T: Storable>(&self, key: &str, creator: impl FnOnce() -> T) -> Result<Arc<T>, Error> {
        self.own().refresh(key, creator)
    }

    /// As [`refresh`](Self::refresh), for a creator that may fail. The old value stays if it does.
    ///
    /// # Errors
    /// As [`try_get_or_create`](Self::try_get_or_create).
    pub fn try_refresh<T: Storable, E: Send + Sync + 'static>(
        &self,
        key: &str,
        creator: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, CreateError<E>> {
        self.own().try_refresh(key, creator)
    }

    /// The values of many keys, in their order; those that are missing are made in one call of `creator`.
    ///
    /// `creator` gets the keys it shall make values for, each once, and returns as many values, in that order. What others are
    /// making is waited for, not made again, when all of this batch's own is stored; so batches may overlap in any order.
    ///
    /// ```
    /// let region = dogpile::Region::in_memory();
    /// region.set("one", 3_usize)?;
    /// let lengths = region.get_or_create_multi(&["one", "three", "one", "four"], |missing| {
    ///     assert_eq!(missing, ["three", "four"]);
    ///     missing.iter().map(|key| key.len()).collect()
    /// })?;
    /// assert_eq!(lengths.iter().map(|length| **length).collect::<Vec<_>>(), [3, 5, 3, 4]);
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    ///
    /// # Cost
    /// One read of the backend, one write.
    ///
    /// # Errors
    /// As [`get_or_create`](Self::get_or_create).
    ///
    /// # Panics
    /// As [`get_or_create`](Self::get_or_create), and if `creator` returns another number of values than it got keys.
    pub fn get_or_create_multi<T: Storable>(
        &self,
        keys: &[&str],
        creator: impl FnMut(&[&str]) -> Vec<T>,
    ) -> Result<Vec<Arc<T>>, Error> {
        self.own().get_or_create_multi(keys, creator)
    }

    /// As [`get_or_create_multi`](Self::get_or_create_multi), for a creator that may fail.
    ///
    /// # Errors
    /// [`CreateError`] tells them apart. [`WrongCount`](CreateError::WrongCount): nothing of what was made is stored.
    pub fn try_get_or_create_multi<T: Storable, E: Send + Sync + 'static>(
        &self,
        keys: &[&str],
        creator: impl FnMut(&[&str]) -> Result<Vec<T>, E>,
    ) -> Result<Vec<Arc<T>>, CreateError<E>> {
        self.own().try_get_or_create_multi(keys, creator)
    }
}

/// By the region's own generator.
impl KeyGenerator for Region {
    fn key(&self, call: &Call<'_>) -> Result<String, Error> {
        self.slot.core()?.generator.key(call)
    }
    fn keys(&self, call: &Call<'_>) -> Result<Vec<String>, Error> {
        self.slot.core()?.generator.keys(call)
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Region");
        debug.field("name", &self.name());
        match self.slot.core() {
            Ok(core) => debug.field("backend", &core.actual.1.name()).field("policy", &core.policy),
            Err(_) => debug.field("is_configured", &false),
        };
        debug.finish_non_exhaustive()
    }
}

/// A region under a policy, or with tags: [`Region::with`], [`Region::tagged`]. Its methods are those of the region.
#[derive(Debug)]
#[must_use = "it does nothing by itself"]
pub struct RegionWith<'r> {
    region: &'r Region,
    how: call::How<'r>,
}

impl<'r> RegionWith<'r> {
    /// The same, for values that get these tags.
    pub fn tagged<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.how.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    fn forced(mut self) -> Self {
        self.how.force = true;
        self
    }

    /// As [`Region::get_or_create`].
    ///
    /// # Errors
    /// As there.
    pub fn get_or_create<T: Storable>(
        &self,
        key: &str,
        creator: impl FnOnce() -> T,
    ) -> Result<Arc<T>, Error> {
        let mut creator = Some(creator);
        let mut run = || (creator.take().expect("a creator runs once"))();
        let result = self.try_get_or_create(key, || Ok::<T, Infallible>(run()));
        unless(result, &self.region.slot, run)
    }

    /// As [`Region::try_get_or_create`].
    ///
    /// # Errors
    /// As there.
    pub fn try_get_or_create<T: Storable, E: Send + Sync + 'static>(
        &self,
        key: &str,
        creator: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, CreateError<E>> {
        let core = self.region.slot.core().map_err(CreateError::Backend)?;
        let call = call::Call::new(&core, Face::Threads, &self.how, key);
        match call.begin_now::<T>().map_err(CreateError::Backend)? {
            Ok(hit) => Ok(hit),
            Err(here) => block_on(|parker| {
                let parker = Arc::clone(parker);
                let sleep = move |span| Alarm::after(&parker, span);
                let call = &call;
                async move { call.create(&here, async { creator() }, sleep).await }
            }),
        }
    }

    /// As [`Region::get_or_create_detached`].
    ///
    /// # Errors
    /// As there.
    pub fn get_or_create_detached<T: Storable>(
        &self,
        key: &str,
        creator: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Arc<T>, Error> {
        // Where the gate does not run it, the caller does.
        let creator = Arc::new(crate::sync::PlainMutex::new(Some(creator)));
        let take = {
            let creator = Arc::clone(&creator);
            move || crate::sync::lock_plain(&creator).take()
        };
        let detached = move || Ok::<T, Infallible>((take().expect("a creator runs once"))());
        let result = self.try_get_or_create_detached(key, detached);
        unless(result, &self.region.slot, || {
            let creator = crate::sync::lock_plain(&creator).take();
            (creator.expect("the gate has not run it"))()
        })
    }

    /// As [`Region::try_get_or_create_detached`].
    ///
    /// # Errors
    /// As there.
    pub fn try_get_or_create_detached<T: Storable, E: Send + Sync + 'static>(
        &self,
        key: &str,
        creator: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<Arc<T>, CreateError<E>> {
        self.memoised(key, || creator)
    }

    /// For `#[cached]`: the creator is prepared where one is needed.
    #[doc(hidden)]
    pub fn memoised<T, E, C>(&self, key: &str, prepare: impl FnOnce() -> C) -> Result<Arc<T>, CreateError<E>>
    where
        T: Storable,
        E: Send + Sync + 'static,
        C: FnOnce() -> Result<T, E> + Send + 'static,
    {
        let core = self.region.slot.core().map_err(CreateError::Backend)?;
        let call = call::Call::new(&core, Face::Threads, &self.how, key);
        match call.begin_now::<T>().map_err(CreateError::Backend)? {
            Ok(hit) => Ok(hit),
            Err(here) => block_on(|parker| {
                let parker = Arc::clone(parker);
                let sleep = move |span| Alarm::after(&parker, span);
                let creator = prepare();
                let call = &call;
                async move { call.create_detached(&here, async move { creator() }, sleep).await }
            }),
        }
    }

    /// As [`Region::refresh`].
    ///
    /// # Errors
    /// As there.
    pub fn refresh<T: Storable>(self, key: &str, creator: impl FnOnce() -> T) -> Result<Arc<T>, Error> {
        self.forced().get_or_create(key, creator)
    }

    /// As [`Region::try_refresh`].
    ///
    /// # Errors
    /// As there.
    pub fn try_refresh<T: Storable, E: Send + Sync + 'static>(
        self,
        key: &str,
        creator: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, CreateError<E>> {
        self.forced().try_get_or_create(key, creator)
    }

    /// For `#[cached]`: as `memoised`, fresh or not.
    #[doc(hidden)]
    pub fn memoised_anew<T, E, C>(
        self,
        key: &str,
        prepare: impl FnOnce() -> C,
    ) -> Result<Arc<T>, CreateError<E>>
    where
        T: Storable,
        E: Send + Sync + 'static,
        C: FnOnce() -> Result<T, E> + Send + 'static,
    {
        self.forced().memoised(key, prepare)
    }

    /// As [`Region::get_or_create_multi`].
    ///
    /// # Errors
    /// As there.
    pub fn get_or_create_multi<T: Storable>(
        &self,
        keys: &[&str],
        creator: impl FnMut(&[&str]) -> Vec<T>,
    ) -> Result<Vec<Arc<T>>, Error> {
        let creator = RefCell::new(creator);
        let make = |keys: &[&str]| Ok::<Vec<T>, Infallible>((creator.borrow_mut())(keys));
        match self.try_get_or_create_multi(keys, make) {
            Ok(values) => Ok(values),
            Err(CreateError::Backend(error)) => Err(error),
            Err(CreateError::Reentrant) => reentrant(&self.region.slot),
            Err(error @ CreateError::WrongCount { .. }) => panic!("{error}"),
            // What others could not give is made for the caller, all of it.
            Err(_) => {
                let made = (creator.borrow_mut())(keys);
                let (asked, returned) = (keys.len(), made.len());
                assert!(
                    asked == returned,
                    "{}",
                    CreateError::<Infallible>::WrongCount { asked, made: returned }
                );
                Ok(made.into_iter().map(Arc::new).collect())
            }
        }
    }

    /// As [`Region::try_get_or_create_multi`].
    ///
    /// # Errors
    /// As there.
    pub fn try_get_or_create_multi<T: Storable, E: Send + Sync + 'static>(
        &self,
        keys: &[&str],
        creator: impl FnMut(&[&str]) -> Result<Vec<T>, E>,
    ) -> Result<Vec<Arc<T>>, CreateError<E>> {
        let core = self.region.slot.core().map_err(CreateError::Backend)?;
        let calls = Calls::new(&core, Face::Threads, &self.how, keys.iter().copied());
        let creator = RefCell::new(creator);
        let make = |asked: Vec<usize>| {
            let asked: Vec<&str> = asked.into_iter().map(|i| keys[i]).collect();
            let creator = &creator;
            async move { (creator.borrow_mut())(&asked) }
        };
        block_on(|parker| {
            let parker = Arc::clone(parker);
            calls.create(make, move |span| Alarm::after(&parker, span))
        })
    }
}
