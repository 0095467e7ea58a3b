//! What a region does without creators: reading, writing, deleting, invalidating. The same for both faces.
//!
//! By threads none of these futures ever waits; [`at_once`] is how they are run.
#![forbid(unsafe_code)]

use super::core::{Core, Face, Found, Made, Writing};
use super::counts::Count;
use super::invalidation::{How, Scope};
use super::item::{CachedItem, Item};
use super::options::{GetOptions, SetOptions};
use crate::backend::{Put, Stored, Takes};
use crate::codec::{Envelope, Storable};
use crate::error::{Error, ErrorKind};
use crate::gate::Age;
use crate::sync::Arc;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The output of a future that never waits.
pub(crate) fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("a thread's operations block instead of waiting"),
    }
}

impl Core {
    /// A read's result.
    fn read_result<T: Storable>(
        &self,
        key: &str,
        stored: Option<&Stored>,
        options: GetOptions,
    ) -> Option<(Arc<Item>, Arc<T>)> {
        let item = if options.ignore_expiration {
            stored.and_then(|stored| match self.open::<T>(key, stored) {
                Ok(item) => Some(item),
                Err(why) => {
                    self.count_unusable(&Found::nothing(why));
                    None
                }
            })
        } else {
            let found = self.assess(key, stored, Self::open::<T>, options.fresh);
            self.count_unusable(&found);
            found.item.filter(|_| matches!(found.age, Age::Fresh { .. }))
        };
        let result = item.and_then(|item| {
            let value = item.value()?;
            Some((item, value))
        });
        self.counts.count(if result.is_some() { Count::Hit } else { Count::Miss });
        result
    }

    /// What a thread reads: the path of a hit.
    #[inline]
    pub(crate) fn value_now<T: Storable>(
        &self,
        key: &str,
        options: GetOptions,
    ) -> Result<Option<Arc<T>>, Error> {
        let key = self.key(key);
        let read = self.get_now(&key);
        if let Ok(Some(stored)) = &read
            && let Some(value) = self.fresh_object(stored, options.fresh)
        {
            return Ok(Some(value));
        }
        Ok(self.found_now(&key, read, options)?.map(|(_, value)| value))
    }

    #[inline(never)]
    fn found_now<T: Storable>(
        &self,
        key: &str,
        read: Result<Option<Stored>, Error>,
        options: GetOptions,
    ) -> Result<Option<(Arc<Item>, Arc<T>)>, Error> {
        let stored = match read {
            Ok(stored) => stored,
            Err(error) => self.degrade(error, None)?,
        };
        Ok(self.read_result(key, stored.as_ref(), options))
    }

    /// The same, with what is known of it.
    pub(crate) fn find_now<T: Storable>(
        &self,
        key: &str,
        options: GetOptions,
    ) -> Result<Option<(Arc<Item>, Arc<T>)>, Error> {
        let key = self.key(key);
        let read = self.get_now(&key);
        self.found_now(&key, read, options)
    }

    pub(crate) async fn find<T: Storable>(
        &self,
        key: &str,
        options: GetOptions,
    ) -> Result<Option<(Arc<Item>, Arc<T>)>, Error> {
        let key = self.key(key);
        let stored = match self.get(Face::Tasks, &key).await {
            Ok(stored) => stored,
            Err(error) => self.degrade(error, None)?,
        };
        Ok(self.read_result(&key, stored.as_ref(), options))
    }

    pub(crate) async fn find_multi<T: Storable>(
        &self,
        face: Face,
        keys: &[&str],
        options: GetOptions,
    ) -> Result<Vec<Option<Arc<T>>>, Error> {
        let keys: Vec<_> = keys.iter().map(|key| self.key(key)).collect();
        let names: Vec<&str> = keys.iter().map(|key| &**key).collect();
        let stored = match self.get_multi(face, &names).await {
            Ok(stored) => stored,
            Err(error) => self.degrade(error, vec![None; names.len()])?,
        };
        let result = |(key, stored): (&&str, &Option<Stored>)| {
            self.read_result(key, stored.as_ref(), options).map(|(_, value)| value)
        };
        Ok(names.iter().zip(&stored).map(result).collect())
    }

    pub(crate) fn metadata<T>(&self, (item, payload): (Arc<Item>, Arc<T>)) -> CachedItem<T> {
        CachedItem {
            payload,
            cached_time: item.meta.created.map(Duration::from_nanos),
            age: item.age_at(self.clock.precise()),
            creation_time: item.meta.cost,
            time_to_live: item.meta.ttl,
            tags: item.meta.tags.clone(),
        }
    }

    pub(crate) async fn put<T: Storable>(
        &self,
        face: Face,
        key: &str,
        value: T,
        options: &SetOptions,
    ) -> Result<bool, Error> {
        self.check_type::<T>()?;
        let key = self.key(key);
        let epoch = self.next_epoch();
        let made = Made { policy: &self.policy, ttl: options.ttl, cost: None, tags: &options.tags };
        let item = self.item(Arc::new(value), epoch, made);
        let (stored, weight) = self.pack::<T>(&key, &item)?;
        let put = Put::new(&key, &stored).ttl(self.store_ttl(&item, &self.policy)).weight(weight);
        if options.if_absent {
            return self.put_if_absent::<T>(face, put, &item).await;
        }
        {
            let _stripes = self.stripes(face, [&*key].into_iter()).await;
            let writing = Writing::new(self, vec![&key]);
            self.set(face, &[put]).await.inspect_err(|_| self.counts.count(Count::BackendError))?;
            writing.hand_over([&item].into_iter());
        }
        Ok(true)
    }

    async fn put_if_absent<T: Storable>(
        &self,
        face: Face,
        put: Put<'_>,
        item: &Arc<Item>,
    ) -> Result<bool, Error> {
        let is_fresh = |now: Option<&Stored>| {
            let found = self.assess(put.key, now, Self::open::<T>, None);
            // A value of another type is there all the same.
            let is_other = found.why == super::core::Why::OtherType;
            is_other || found.item.is_some() && matches!(found.age, Age::Fresh { .. })
        };
        let _stripes = self.stripes(face, [put.key].into_iter()).await;
        let keeps = |_: usize, now: Option<&Stored>| is_fresh(now);
        let written = match self.set_unless(face, &[put], &keeps).await {
            Some(done) => {
                let is_put = done?.first() == Some(&true);
                is_put.then(|| Writing::new(self, vec![put.key]))
            }
            None if is_fresh(self.get(face, put.key).await?.as_ref()) => None,
            None => {
                let writing = Writing::new(self, vec![put.key]);
                self.set(face, &[put]).await?;
                Some(writing)
            }
        };
        let is_put = written.is_some();
        if let Some(writing) = written {
            writing.hand_over([item].into_iter());
        }
        Ok(is_put)
    }

    pub(crate) async fn put_multi<T: Storable>(
        &self,
        face: Face,
        entries: Vec<(&str, T)>,
        options: &SetOptions,
    ) -> Result<(), Error> {
        self.check_type::<T>()?;
        let epoch = self.next_epoch();
        let mut packed = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let key = self.key(key);
            let made = Made { policy: &self.policy, ttl: options.ttl, cost: None, tags: &options.tags };
            let item = self.item(Arc::new(value), epoch, made);
            let (stored, weight) = self.pack::<T>(&key, &item)?;
            packed.push((key, item, stored, weight));
        }
        if packed.is_empty() {
            return Ok(());
        }
        {
            let keys = || packed.iter().map(|(key, ..)| &**key);
            let _stripes = self.stripes(face, keys()).await;
            let writing = Writing::new(self, keys().collect());
            let puts: Vec<Put<'_>> = packed
                .iter()
                .map(|(key, item, stored, weight)| {
                    Put::new(key, stored).ttl(self.store_ttl(item, &self.policy)).weight(*weight)
                })
                .collect();
            self.set(face, &puts).await.inspect_err(|_| self.counts.count(Count::BackendError))?;
            drop(puts);
            writing.hand_over(packed.iter().map(|(_, item, ..)| item));
        }
        Ok(())
    }

    pub(crate) async fn remove(&self, face: Face, keys: &[&str]) -> Result<bool, Error> {
        let keys: Vec<_> = keys.iter().map(|key| self.key(key)).collect();
        let names: Vec<&str> = keys.iter().map(|key| &**key).collect();
        let _stripes = self.stripes(face, names.iter().copied()).await;
        let _writing = Writing::new(self, names.clone());
        self.delete(face, &names).await.inspect_err(|_| self.counts.count(Count::BackendError))
    }

    /// Gives an entry another time to live, from now.
    pub(crate) async fn expire(&self, face: Face, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        let key = self.key(key);
        let _stripes = self.stripes(face, [&*key].into_iter()).await;
        let Some(stored) = self.get(face, &key).await? else { return Ok(false) };
        let Some(item) = self.look_at(&key, &stored) else { return Ok(false) };
        let is_fresh = matches!(self.judge(&key, Arc::clone(&item), None).age, Age::Fresh { .. });
        if !is_fresh {
            return Ok(false);
        }
        let age = item.age_at(self.clock.precise());
        let mut meta = item.meta.clone();
        meta.cut = 0;
        meta.ttl = Some(ttl.map_or(Duration::MAX, |ttl| age.saturating_add(ttl)));
        let newer = Item { meta, value: Arc::clone(&item.value), ..*item };
        let store_ttl = self.store_ttl(&newer, &self.policy);
        let newer = match stored.bytes() {
            None => Stored::Object(Arc::new(newer)),
            Some(bytes) => match self.codec.redate(&key, bytes, &newer.meta) {
                Some(bytes) => Stored::Bytes(bytes.into()),
                // An envelope that can't say: the store does.
                None => return self.expire_there(face, &key, ttl).await,
            },
        };
        let weight = match (&newer, self.takes) {
            (Stored::Object(_), Takes::WeighedObjects) => (item.weigh)(&*item.value),
            _ => Put::new(&key, &newer).weight,
        };
        let put = Put::new(&key, &newer).ttl(store_ttl).weight(weight);
        let _writing = Writing::new(self, vec![&key]);
        let keeps = |_: usize, now: Option<&Stored>| now.is_none_or(|now| !now.is_same(&stored));
        match self.set_unless(face, &[put], &keeps).await {
            Some(done) => Ok(done?.first() == Some(&true)),
            None => self.set(face, &[put]).await.map(|()| true),
        }
    }

    async fn expire_there(&self, face: Face, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        match face {
            Face::Threads => match &self.blocking {
                Some(backend) => backend.expire(key, ttl),
                None => Err(Error::new(ErrorKind::Unsupported, self.operation("expire_in"))),
            },
            Face::Tasks => self.awaiting.expire(key, ttl).await,
        }
    }

    /// What the store has, whatever its type: its value is only there for objects.
    pub(crate) fn look_at(&self, key: &str, stored: &Stored) -> Option<Arc<Item>> {
        match (stored.object(), stored.bytes()) {
            (Some(object), _) => Arc::clone(object).downcast().ok(),
            (None, None) => None,
            (None, Some(bytes)) => {
                let meta = self.codec.decode_meta(key, bytes).ok()?;
                let (born, before) = self.born(&meta);
                Some(Arc::new(Item { born, before, meta, value: Arc::new(()), weigh: |_| 1 }))
            }
        }
    }

    pub(crate) async fn clear_all(&self, face: Face) -> Result<(), Error> {
        // First, so that what is being made is outdated; then the room.
        let epoch = self.next_epoch();
        self.note_at(face, Scope::Region, How::Hard, epoch).await?;
        let done = match face {
            Face::Threads => match &self.blocking {
                Some(backend) => backend.clear(&self.prefix),
                None => Ok(false),
            },
            Face::Tasks => self.awaiting.clear(&self.prefix).await,
        }?;
        if !done && !self.has_epochs() {
            return Err(Error::new(ErrorKind::Unsupported, self.operation("clear")).detail(
                "neither can the backend find the region's entries, nor has the envelope an epoch to compare: give the region a prefix, or another envelope",
            ));
        }
        Ok(())
    }

    /// Whether values tell from which epoch they are, and how old.
    pub(crate) fn has_epochs(&self) -> bool {
        self.takes != Takes::Bytes || self.codec.has_envelope() != Envelope::Plain
    }

    async fn note(&self, face: Face, scope: Scope<'_>, how: How) -> Result<(), Error> {
        if !self.has_epochs() {
            return Err(Error::new(ErrorKind::Unsupported, self.operation("invalidate")).detail(
                "the envelope `plain` has no epoch to compare: delete the keys, or use another envelope",
            ));
        }
        let epoch = self.next_epoch();
        let composed;
        let scope = match scope {
            Scope::Key(key) => {
                composed = self.key(key);
                Scope::Key(&composed)
            }
            Scope::Prefix(prefix) => {
                if self.mangler.is_some() {
                    return Err(Error::new(ErrorKind::Unsupported, self.operation("invalidate"))
                        .detail("the region mangles its keys, so their beginnings are not known: use tags"));
                }
                composed = self.key(prefix);
                Scope::Prefix(&composed)
            }
            other => other,
        };
        self.note_at(face, scope, how, epoch).await
    }

    async fn note_at(&self, face: Face, scope: Scope<'_>, how: How, epoch: u64) -> Result<(), Error> {
        if face == Face::Threads || !self.invalidation.blocks() {
            return self.invalidation.invalidate(scope, how, epoch);
        }
        let invalidation = Arc::clone(&self.invalidation);
        let (of, name) = match scope {
            Scope::Region => ("region", ""),
            Scope::Key(name) => ("key", name),
            Scope::Tag(name) => ("tag", name),
            Scope::Prefix(name) => ("prefix", name),
        };
        let name = name.to_owned();
        blocking::unblock(move || {
            let scope = match of {
                "key" => Scope::Key(&name),
                "tag" => Scope::Tag(&name),
                "prefix" => Scope::Prefix(&name),
                _ => Scope::Region,
            };
            invalidation.invalidate(scope, how, epoch)
        })
        .await
    }

    /// An epoch later than all that this region has seen.
    pub(crate) fn next_epoch(&self) -> u64 {
        // The greatest of all is no epoch: it says that `judge` is to be asked each time.
        let seen = Some(self.invalidation.newest()).filter(|seen| *seen != u64::MAX).unwrap_or(0);
        self.epochs.next(&*self.clock, seen)
    }

    pub(crate) async fn invalidate(&self, face: Face, scope: Scope<'_>, how: How) -> Result<(), Error> {
        match (scope, how) {
            // What is gone needs no note.
            (Scope::Key(key), How::Hard) => self.remove(face, &[key]).await.map(drop),
            _ => self.note(face, scope, how).await,
        }
    }

    pub(crate) async fn count_entries(&self, face: Face) -> Result<Option<u64>, Error> {
        match face {
            Face::Threads => match &self.blocking {
                Some(backend) => backend.len(&self.prefix),
                None => Ok(None),
            },
            Face::Tasks => self.awaiting.len(&self.prefix).await,
        }
    }

    pub(crate) async fn is_locked(&self, face: Face, key: &str) -> Result<bool, Error> {
        let key = self.key(key);
        if self.registry.find(&key).is_some_and(|state| state.past.is_busy()) {
            return Ok(true);
        }
        match face {
            Face::Threads => match self.blocking.as_ref().and_then(|backend| backend.mutex(&key)) {
                Some(mutex) => mutex.locked(),
                None => Ok(false),
            },
            Face::Tasks => match self.awaiting.mutex(&key) {
                Some(mutex) => mutex.locked().await,
                None => Ok(false),
            },
        }
    }
}
