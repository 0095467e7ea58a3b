//! What a configured region is, whoever asks it: threads or tasks. Reading, judging, writing; not creating.
#![forbid(unsafe_code)]

use super::counts::{Count, Counts};
use super::invalidation::{Epochs, How, InvalidationStrategy, unix_nanos};
use super::item::Item;
use super::keys::{KeyGenerator, Mangler};
use super::registry::{Claim, KeyState, Registry, Seen};
use super::stripe::Held;
use super::turns::Turns;
use crate::backend::{AsyncBackend, Backend, Opened, Put, Stored, Takes};
use crate::codec::{Codec, Envelope, Meta, Storable, Undecodable};
use crate::error::{Error, ErrorKind};
use crate::gate::{Age, RegionPolicy, block_on};
use crate::sync::Arc;
use crate::time::{Clock, Instant};
use std::any::Any;
use std::borrow::Cow;
use std::time::Duration;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    Threads,
    Tasks,
}

/// What a region does when its backend fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnBackendError {
    /// Reads find nothing, values are made under the lock of this process and go to their callers. Calls that write return
    /// the error all the same. Errors are counted.
    #[default]
    Degrade,
    /// All calls return the error.
    Fail,
}

/// Why there is nothing to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Absent,
    OtherType,
    Undecodable(Undecodable),
    Invalidated,
}

/// What was found under a key.
pub(crate) struct Found {
    pub(crate) item: Option<Arc<Item>>,
    pub(crate) age: Age,
    /// If there is no item.
    pub(crate) why: Why,
    pub(crate) is_soft: bool,
}

impl Found {
    pub(crate) fn nothing(why: Why) -> Self {
        Self { item: None, age: Age::Missing, why, is_soft: false }
    }
}

/// Opens what the store has, as a `T`.
pub(crate) type Open = fn(&Core, &str, &Stored) -> Result<Arc<Item>, Why>;

pub(crate) struct Core {
    pub(crate) name: Option<Cow<'static, str>>,
    pub(crate) prefix: Box<str>,
    pub(crate) mangler: Option<Mangler>,
    pub(crate) generator: Arc<dyn KeyGenerator>,
    pub(crate) codec: Codec,
    pub(crate) policy: RegionPolicy,
    pub(crate) blocking: Option<Arc<dyn Backend>>,
    pub(crate) awaiting: Arc<dyn AsyncBackend>,
    /// The backends themselves, without proxies.
    pub(crate) actual: (Option<Arc<dyn Backend>>, Arc<dyn AsyncBackend>),
    pub(crate) takes: Takes,
    /// Whether the backend wants what was opened.
    pub(crate) keeps: bool,
    pub(crate) invalidation: Arc<dyn InvalidationStrategy>,
    pub(crate) epochs: Epochs,
    pub(crate) registry: Arc<Registry>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) grain: Duration,
    pub(crate) on_error: OnBackendError,
    pub(crate) turns: Option<Turns>,
    pub(crate) counts: Counts,
}

impl Core {
    /// The key as the store has it.
    #[inline]
    pub(crate) fn key<'k>(&self, key: &'k str) -> Cow<'k, str> {
        if self.prefix.is_empty() && self.mangler.is_none() {
            return Cow::Borrowed(key);
        }
        self.composed(key)
    }

    #[cold]
    fn composed<'k>(&self, key: &'k str) -> Cow<'k, str> {
        let mangled = match &self.mangler {
            Some(mangler) => mangler.mangle(key),
            None => Cow::Borrowed(key),
        };
        if self.prefix.is_empty() { mangled } else { Cow::Owned([&*self.prefix, &*mangled].concat()) }
    }

    pub(crate) fn operation(&self, verb: &str) -> Cow<'static, str> {
        match &self.name {
            Some(name) => format!("region `{name}`, {verb}").into(),
            None => format!("region, {verb}").into(),
        }
    }

    fn threads(&self) -> Result<&Arc<dyn Backend>, Error> {
        self.blocking.as_ref().ok_or_else(|| self.for_tasks_only())
    }

    #[cold]
    fn for_tasks_only(&self) -> Error {
        Error::new(ErrorKind::Unsupported, self.operation("blocking call"))
            .detail("its backend is for tasks only: use an AsyncRegion")
    }

    // ---- the store, by face

    #[inline]
    pub(crate) fn get_now(&self, key: &str) -> Result<Option<Stored>, Error> {
        match &self.blocking {
            Some(backend) => backend.get(key),
            None => Err(self.for_tasks_only()),
        }
    }

    pub(crate) async fn get(&self, face: Face, key: &str) -> Result<Option<Stored>, Error> {
        match face {
            Face::Threads => self.get_now(key),
            Face::Tasks => self.awaiting.get(key).await,
        }
    }

    pub(crate) async fn get_multi(&self, face: Face, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let found = match face {
            Face::Threads => self.threads()?.get_multi(keys),
            Face::Tasks => self.awaiting.get_multi(keys).await,
        }?;
        if found.len() != keys.len() {
            return Err(Error::new(ErrorKind::Unavailable, self.operation("get_multi")).detail(format!(
                "the backend was asked for {} keys and returned {} values",
                keys.len(),
                found.len()
            )));
        }
        Ok(found)
    }

    pub(crate) async fn set(&self, face: Face, puts: &[Put<'_>]) -> Result<(), Error> {
        match (face, puts) {
            (_, []) => Ok(()),
            (Face::Threads, [put]) => self.threads()?.set(*put),
            (Face::Threads, _) => self.threads()?.set_multi(puts),
            (Face::Tasks, [put]) => self.awaiting.set(*put).await,
            (Face::Tasks, _) => self.awaiting.set_multi(puts).await,
        }
    }

    pub(crate) async fn set_unless(
        &self,
        face: Face,
        puts: &[Put<'_>],
        keeps: &(dyn Fn(usize, Option<&Stored>) -> bool + Send + Sync),
    ) -> Option<Result<Vec<bool>, Error>> {
        match face {
            Face::Threads => match self.threads() {
                Ok(backend) => backend.set_unless(puts, &keeps),
                Err(error) => Some(Err(error)),
            },
            Face::Tasks => self.awaiting.set_unless(puts, keeps).await,
        }
    }

    pub(crate) async fn delete(&self, face: Face, keys: &[&str]) -> Result<bool, Error> {
        match (face, keys) {
            (_, []) => Ok(false),
            (Face::Threads, [key]) => self.threads()?.delete(key),
            (Face::Threads, _) => self.threads()?.delete_multi(keys).map(|()| true),
            (Face::Tasks, [key]) => self.awaiting.delete(key).await,
            (Face::Tasks, _) => self.awaiting.delete_multi(keys).await.map(|()| true),
        }
    }

    /// A backend has failed on a read: nothing was found, or the error.
    ///
    /// # Errors
    /// If the region may not do without its backend.
    pub(crate) fn degrade<T>(&self, error: Error, nothing: T) -> Result<T, Error> {
        self.counts.count(Count::BackendError);
        match self.on_error {
            OnBackendError::Degrade if error.kind() != ErrorKind::Unsupported => Ok(nothing),
            _ => Err(error),
        }
    }

    // ---- what was found

    /// Opens what the store has.
    pub(crate) fn open<T: Storable>(&self, key: &str, stored: &Stored) -> Result<Arc<Item>, Why> {
        if let Some(object) = stored.object()
            && let Ok(item) = Arc::clone(object).downcast::<Item>()
            && item.value.is::<T>()
        {
            return Ok(item);
        }
        let bytes = match stored {
            Stored::Object(_) => return Err(Why::OtherType),
            Stored::Bytes(bytes) => bytes,
            // As another type: what the bytes are for that.
            Stored::Opened(opened) => &opened.bytes,
        };
        let (meta, value) = self.codec.decode::<T>(key, bytes).map_err(Why::Undecodable)?;
        let (born, before) = self.born(&meta);
        let item = Arc::new(Item { born, before, meta, value: Arc::new(value), weigh: weigh::<T> });
        if self.keeps {
            self.keep(key, Opened { bytes: Arc::clone(bytes), object: Arc::clone(&item) as _ });
        }
        Ok(item)
    }

    fn keep(&self, key: &str, opened: Opened) {
        let opened = Arc::new(opened);
        match &self.blocking {
            Some(backend) => backend.keep(key, &opened),
            None => self.awaiting.keep(key, &opened),
        }
    }

    /// When a value was made, by our own clock: one from the future just now, one of unknown age too.
    ///
    /// And how long before that clock's origin it was: the machine, or the process, may be younger than the value.
    pub(crate) fn born(&self, meta: &Meta) -> (Instant, Duration) {
        let now = self.clock.precise();
        let Some(created) = meta.created else { return (now, Duration::ZERO) };
        let age = Duration::from_nanos(unix_nanos(&*self.clock).saturating_sub(created));
        let since = now.saturating_duration_since(Instant::from_nanos(0));
        (now.saturating_sub(age), age.saturating_sub(since))
    }

    /// The value of an object that is fresh beyond doubt: what nearly every hit is.
    #[inline]
    pub(crate) fn fresh_object<T: Storable>(
        &self,
        stored: &Stored,
        call: Option<Duration>,
    ) -> Option<Arc<T>> {
        let item = stored.object()?.downcast_ref::<Item>()?;
        if item.meta.epoch? <= self.invalidation.newest() {
            return None;
        }
        let is_late = |life| matches!(item.age(Some(life), self.clock.now(), self.grain), Age::Late(_));
        if item.life(call, self.policy.fresh).is_some_and(is_late) {
            return None;
        }
        let value = item.value()?;
        self.counts.count(Count::Hit);
        Some(value)
    }

    /// What an item is now. `call`: how long it is fresh, if the call says so.
    #[inline]
    pub(crate) fn judge(&self, key: &str, item: Arc<Item>, call: Option<Duration>) -> Found {
        let life = item.life(call, self.policy.fresh);
        let age = match life {
            None => Age::Fresh { left: None },
            Some(_) => item.age(life, self.clock.now(), self.grain),
        };
        let newest = self.invalidation.newest();
        if item.meta.epoch.is_none_or(|epoch| epoch > newest) {
            return Found { item: Some(item), age, why: Why::Absent, is_soft: false };
        }
        self.judge_epoch(key, item, age)
    }

    #[cold]
    fn judge_epoch(&self, key: &str, item: Arc<Item>, age: Age) -> Found {
        let epoch = item.meta.epoch.unwrap_or(u64::MAX);
        match self.invalidation.judge(key, &item.meta.tags, epoch) {
            Some(How::Hard) => Found::nothing(Why::Invalidated),
            Some(How::Soft) => {
                let age = if let Age::Fresh { .. } = age { Age::Late(Duration::ZERO) } else { age };
                Found { item: Some(item), age, why: Why::Absent, is_soft: true }
            }
            None => Found { item: Some(item), age, why: Why::Absent, is_soft: false },
        }
    }

    /// What the store's answer is.
    pub(crate) fn assess(
        &self,
        key: &str,
        stored: Option<&Stored>,
        open: Open,
        call: Option<Duration>,
    ) -> Found {
        let Some(stored) = stored else { return Found::nothing(Why::Absent) };
        match open(self, key, stored) {
            Ok(item) => self.judge(key, item, call),
            Err(why) => Found::nothing(why),
        }
    }

    /// Counts what was there and could not be used.
    pub(crate) fn count_unusable(&self, found: &Found) {
        match found.why {
            Why::OtherType => self.counts.count(Count::TypeMismatch),
            Why::Undecodable(_) => self.counts.count(Count::Undecodable),
            Why::Absent | Why::Invalidated => {}
        }
    }

    // ---- what is to be stored

    /// Whether values of this type can be stored at all.
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`], naming type and backend.
    pub(crate) fn check_type<T: Storable>(&self) -> Result<(), Error> {
        if self.takes != Takes::Bytes {
            return Ok(());
        }
        match self.codec.takes::<T>() {
            Err(_) if !T::STORES_BYTES => {}
            others => return others,
        }
        Err(Error::new(ErrorKind::WrongType, self.operation("store a value")).detail(format!(
            "{} can't be turned into bytes, which the backend {} needs: use a memory backend, or a type with serde's traits",
            std::any::type_name::<T>(),
            self.actual.1.name()
        )))
    }

    /// A value as the store takes it, and its weight.
    pub(crate) fn pack<T: Storable>(&self, key: &str, item: &Arc<Item>) -> Result<(Stored, u32), Error> {
        let value = || item.value.downcast_ref::<T>().expect("an item of this type was made");
        match self.takes {
            Takes::Objects => Ok((Stored::Object(Arc::clone(item) as _), 1)),
            Takes::WeighedObjects => Ok((Stored::Object(Arc::clone(item) as _), value().weight())),
            Takes::Bytes => {
                let bytes = self.codec.encode(key, &item.meta, value())?;
                let weight = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                Ok((Stored::Bytes(bytes.into()), weight))
            }
        }
    }

    /// An item that is made now.
    pub(crate) fn item<T: Storable>(&self, value: Arc<T>, epoch: u64, made: Made<'_>) -> Arc<Item> {
        let meta = Meta {
            created: Some(unix_nanos(&*self.clock)),
            epoch: Some(epoch),
            ttl: made.ttl,
            cut: (made.policy.cut() * 1000.0) as u16,
            cost: made.cost,
            tags: made.tags.to_vec(),
        };
        let born = self.clock.precise();
        Arc::new(Item { meta, born, before: Duration::ZERO, value, weigh: weigh::<T> })
    }

    /// How long the store shall keep an item.
    pub(crate) fn store_ttl(&self, item: &Item, policy: &RegionPolicy) -> Option<Duration> {
        let after = match self.has_epochs() {
            true => policy.stale.map(|stale| stale.max(policy.stale_if_error)),
            // Nobody could tell that it is stale.
            false => Some(Duration::ZERO),
        };
        let life = match (item.meta.ttl, after) {
            // Of its own, it ends there; unless something was said about what comes after.
            (Some(ttl), None) => ttl.saturating_add(policy.stale_if_error),
            (Some(ttl), Some(after)) => ttl.saturating_add(after),
            (None, None) => return None,
            (None, Some(after)) => policy.fresh.or(self.policy.fresh)?.saturating_add(after),
        };
        let age = item.age_at(self.clock.precise());
        (life != Duration::MAX).then(|| life.saturating_sub(age))
    }

    // ---- writing what was made

    /// Writes what was made, each unless newer state is there. Returns which were written.
    ///
    /// # Errors
    /// If the store refuses, and may.
    pub(crate) async fn publish(&self, face: Face, made: &[Written<'_>]) -> Result<Vec<bool>, Error> {
        let is_overtaken = |written: &Written<'_>| {
            !written.seen.is_newest() || self.is_outdated(written.put.key, written.item)
        };
        let keeps = |i: usize, now: Option<&Stored>| {
            let Written { seen, before, .. } = &made[i];
            let is_other = match (now, before) {
                (None, None) => false,
                // Gone: it has expired since, or somebody took it out.
                (None, Some(_)) => !seen.item.as_ref().is_some_and(|item| {
                    self.store_ttl(item, &self.policy).is_some_and(|left| left.is_zero())
                }),
                (Some(now), Some(before)) => !now.is_same(before),
                (Some(_), None) => true,
            };
            is_other || is_overtaken(&made[i])
        };
        // Calls that write take turns with this: a key that is deleted while there is nothing leaves no other trace.
        let _stripes = self.stripes(face, made.iter().map(|written| written.put.key)).await;
        // A store is not asked by `keeps` about what has a fence.
        let asked: Vec<usize> =
            (0..made.len()).filter(|i| made[*i].put.fence.is_none() || !is_overtaken(&made[*i])).collect();
        let puts: Vec<Put<'_>> = asked.iter().map(|i| made[*i].put).collect();
        let mut written = vec![false; made.len()];
        match self.set_unless(face, &puts, &|i, now| keeps(asked[i], now)).await {
            Some(done) => asked.iter().zip(done?).for_each(|(i, is_put)| written[*i] = is_put),
            None => {
                let newest: Vec<usize> = asked.into_iter().filter(|i| !is_overtaken(&made[*i])).collect();
                let puts: Vec<Put<'_>> = newest.iter().map(|i| made[*i].put).collect();
                self.set(face, &puts).await?;
                newest.into_iter().for_each(|i| written[i] = true);
            }
        }
        for (made, is_put) in made.iter().zip(&written) {
            if !is_put {
                self.counts.count(Count::RefusedLateWrite);
            }
            // Readers compare the epoch; where the store's form has none, what is outdated must go (H16).
            if *is_put && self.is_outdated(made.put.key, made.item) {
                self.delete(face, &[made.put.key]).await?;
            }
        }
        Ok(written)
    }

    /// A caller's interest in a key: in what runs, unless that is outdated (K4).
    pub(crate) fn enter(&self, key: &str, now: Instant) -> Claim {
        loop {
            let claim = self.registry.enter(key, now);
            let is_outdated =
                claim.state().running().is_some_and(|(epoch, tags)| self.is_gone(key, &tags, epoch));
            if !is_outdated {
                return claim;
            }
            self.registry.set_apart(&claim);
        }
    }

    /// Whether what is from that epoch was invalidated for good.
    pub(crate) fn is_gone(&self, key: &str, tags: &[String], epoch: u64) -> bool {
        epoch <= self.invalidation.newest() && self.invalidation.judge(key, tags, epoch) == Some(How::Hard)
    }

    /// Whether an item was invalidated, in whatever way, since its creator started.
    fn is_outdated(&self, key: &str, item: &Item) -> bool {
        let epoch = item.meta.epoch.unwrap_or(u64::MAX);
        epoch <= self.invalidation.newest()
            && match self.invalidation.judge(key, &item.meta.tags, epoch) {
                Some(How::Hard) => true,
                // Readers can tell by the epoch, if it is written.
                Some(How::Soft) => self.takes == Takes::Bytes && self.codec.has_envelope() != Envelope::Own,
                None => false,
            }
    }

    pub(crate) async fn stripes<'k>(&self, face: Face, keys: impl Iterator<Item = &'k str>) -> Vec<Held<'_>> {
        let mut held = Vec::new();
        for stripe in self.registry.stripes_of(keys) {
            held.push(match face {
                Face::Threads => block_on(|_| stripe.take()),
                Face::Tasks => stripe.take().await,
            });
        }
        held
    }
}

/// What a value of that type weighs.
fn weigh<T: Storable>(value: &(dyn Any + Send + Sync)) -> u32 {
    value.downcast_ref().map_or(1, T::weight)
}

/// What an item is made with.
pub(crate) struct Made<'a> {
    pub(crate) policy: &'a RegionPolicy,
    pub(crate) ttl: Option<Duration>,
    pub(crate) cost: Option<Duration>,
    pub(crate) tags: &'a [String],
}

/// One value that was made, to be written.
pub(crate) struct Written<'a> {
    pub(crate) seen: &'a Seen,
    /// What the key had, when it was last looked at before.
    pub(crate) before: Option<&'a Stored>,
    pub(crate) item: &'a Arc<Item>,
    pub(crate) put: Put<'a>,
}

/// While it lives, calls write these keys: leaders that looked before, or look meanwhile, write nothing (K3).
pub(crate) struct Writing<'c> {
    core: &'c Core,
    keys: Vec<&'c str>,
    /// Their states from before, if they had any.
    former: Vec<Option<Arc<KeyState>>>,
}

impl<'c> Writing<'c> {
    pub(crate) fn new(core: &'c Core, keys: Vec<&'c str>) -> Self {
        let former = keys.iter().map(|key| core.registry.bump(key)).collect();
        Self { core, keys, former }
    }

    /// It is done. Who waits for a creation of a key has what was put in.
    pub(crate) fn hand_over<'i>(mut self, items: impl Iterator<Item = &'i Arc<Item>>) {
        let former = std::mem::take(&mut self.former);
        let core = self.core;
        drop(self);
        for (state, item) in former.iter().zip(items) {
            if let Some(state) = state {
                core.registry.overtake(state, item);
            }
        }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        for key in &self.keys {
            self.core.registry.bump(key);
        }
    }
}
