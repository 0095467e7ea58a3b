//! One call that creates: the same for threads and for tasks, but for what wakes them.
#![forbid(unsafe_code)]

use super::core::{Core, Face, Found};
use super::counts::Count;
use super::item::Item;
use super::spot::{Fail, Here, Read, Spot, Wanted, unfold};
use crate::codec::Storable;
use crate::error::{CreateError, Error};
use crate::gate::{
    Age, Borrowed, Boxed, Creator, Detached, Freshness, Order, RegionPolicy, Sleep, drive_by, drive_many_by,
};
use crate::sync::{Arc, Ordering, PlainMutex, Tally, lock_plain};
use std::borrow::Cow;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

/// How a region is asked: by which policy, with which tags.
#[derive(Clone, Debug)]
pub(crate) struct How<'p> {
    /// `None`: the region's own.
    pub(crate) policy: Option<&'p RegionPolicy>,
    pub(crate) tags: Vec<String>,
    pub(crate) force: bool,
}

impl How<'_> {
    pub(crate) const OWN: Self = Self { policy: None, tags: Vec::new(), force: false };

    /// How long values are fresh, if that is this call's alone: a policy that was made from the region's has the region's.
    fn fresh(&self, core: &Core) -> Option<Duration> {
        self.policy?.fresh.filter(|fresh| Some(*fresh) != core.policy.fresh)
    }
}

/// A call for one key.
pub(crate) struct Call<'c> {
    core: &'c Arc<Core>,
    face: Face,
    how: &'c How<'c>,
    pub(crate) key: Cow<'c, str>,
}

impl<'c> Call<'c> {
    pub(crate) fn new(core: &'c Arc<Core>, face: Face, how: &'c How<'c>, key: &'c str) -> Self {
        Self { core, face, how, key: core.key(key) }
    }

    fn policy(&self) -> &'c RegionPolicy {
        self.how.policy.unwrap_or(&self.core.policy)
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            face: self.face,
            policy: self.policy(),
            // A fresh time that only this call has.
            call: self.how.fresh(self.core),
            tags: &self.how.tags,
            force: self.how.force,
        }
    }

    fn order(&self) -> Order {
        Order::of(self.policy())
    }

    /// What ends a task's wait.
    pub(crate) fn sleep(&self, span: Duration) -> Sleep {
        self.policy().timer.sleep(span)
    }

    /// What was read, if it is a hit.
    #[inline]
    fn hit<T: Storable>(&self, read: &Read) -> Option<Arc<T>> {
        if self.how.force || self.policy().early.is_some() {
            return None;
        }
        let call = self.how.fresh(self.core);
        match read.stored.as_ref().and_then(|stored| self.core.fresh_object(stored, call)) {
            Some(hit) => Some(hit),
            None => self.further_hit(read, call),
        }
    }

    /// What has to be decoded, or looked at closely.
    #[inline(never)]
    fn further_hit<T: Storable>(&self, read: &Read, call: Option<Duration>) -> Option<Arc<T>> {
        read.stored.as_ref()?;
        let Found { item, age: Age::Fresh { .. }, .. } =
            self.core.assess(&self.key, read.stored.as_ref(), Core::open::<T>, call)
        else {
            return None;
        };
        let hit = item?.value()?;
        self.core.counts.count(Count::Hit);
        Some(hit)
    }

    fn missed<T: Storable>(&self, read: Read) -> Result<Here, Error> {
        self.core.counts.count(Count::Miss);
        self.core.check_type::<T>()?;
        Ok(Here::new::<T>(self.core, &self.key, self.wanted(), Some(read)))
    }

    /// Reads the store, by a thread: the value, or where it is to be made.
    pub(crate) fn begin_now<T: Storable>(&self) -> Result<Result<Arc<T>, Here>, Error> {
        let landings = self.core.registry.landings(&self.key);
        let stored = match self.core.get_now(&self.key) {
            Ok(stored) => stored,
            Err(error) => self.core.degrade(error, None)?,
        };
        let read = Read { landings, stored };
        match self.hit(&read) {
            Some(hit) => Ok(Ok(hit)),
            None => self.missed::<T>(read).map(Err),
        }
    }

    /// The same, by a task.
    pub(crate) async fn begin<T: Storable>(&self) -> Result<Result<Arc<T>, Here>, Error> {
        let landings = self.core.registry.landings(&self.key);
        let stored = match self.core.get(self.face, &self.key).await {
            Ok(stored) => stored,
            Err(error) => self.core.degrade(error, None)?,
        };
        let read = Read { landings, stored };
        match self.hit(&read) {
            Some(hit) => Ok(Ok(hit)),
            None => self.missed::<T>(read).map(Err),
        }
    }

    async fn drive<T, E, C, S>(
        &self,
        here: &Here,
        creator: &mut C,
        sleep: impl Fn(Duration) -> S,
    ) -> Result<Arc<T>, CreateError<E>>
    where
        T: Storable,
        E: Send + Sync + 'static,
        C: Creator<super::spot::Items, Here, Fail<E>>,
        S: Future<Output = ()>,
    {
        let order = self.order();
        loop {
            let look = |_claims: bool| Arc::clone(&here.0).look();
            let driven = drive_by(here.clone(), look, order, creator, &sleep).await;
            let item: Arc<Item> = match driven {
                Ok(item) => item,
                Err(CreateError::NotCached) if order.freshness != Freshness::CacheOnly => {
                    let trouble = here.0.trouble().expect("only the store's error ends a look in nothing");
                    return Err(CreateError::Backend(trouble));
                }
                Err(error) => {
                    return Err(match here.0.trouble() {
                        Some(trouble) => CreateError::Backend(trouble),
                        None => unfold(error),
                    });
                }
            };
            // Else another caller made a value of another type; the next look sees it, and makes it anew.
            if let Some(value) = item.value() {
                return Ok(value);
            }
            if creator.is_gone() {
                // It was handed on, for there was a value that would do meanwhile.
                return here.0.last_value().ok_or(CreateError::NotCached);
            }
        }
    }

    pub(crate) async fn create<T, E, S>(
        &self,
        here: &Here,
        creation: impl Future<Output = Result<T, E>>,
        sleep: impl Fn(Duration) -> S,
    ) -> Result<Arc<T>, CreateError<E>>
    where
        T: Storable,
        E: Send + Sync + 'static,
        S: Future<Output = ()>,
    {
        let make = pin!(Some(Arc::clone(&here.0).make::<T, E>(creation)));
        self.drive(here, &mut Borrowed::new(make), sleep).await
    }

    pub(crate) async fn create_detached<T, E, F, S>(
        &self,
        here: &Here,
        creation: F,
        sleep: impl Fn(Duration) -> S,
    ) -> Result<Arc<T>, CreateError<E>>
    where
        T: Storable,
        E: Send + Sync + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        S: Future<Output = ()>,
    {
        let make: Boxed<Arc<Item>, Fail<E>> = Box::pin(Arc::clone(&here.0).make::<T, E>(creation));
        let mut creator = Detached::new(make, &self.policy().runner, self.face == Face::Threads);
        self.drive(here, &mut creator, sleep).await
    }
}

/// A call for many keys.
pub(crate) struct Calls<'c> {
    core: &'c Arc<Core>,
    face: Face,
    how: &'c How<'c>,
    keys: Vec<Cow<'c, str>>,
}

impl<'c> Calls<'c> {
    pub(crate) fn new(
        core: &'c Arc<Core>,
        face: Face,
        how: &'c How<'c>,
        keys: impl Iterator<Item = &'c str>,
    ) -> Self {
        Self { core, face, how, keys: keys.map(|key| core.key(key)).collect() }
    }

    /// What ends a task's wait.
    pub(crate) fn sleep(&self, span: Duration) -> Sleep {
        self.how.policy.unwrap_or(&self.core.policy).timer.sleep(span)
    }

    /// Gets all values, in the order of the keys: by one read of the store, and for what is missing one call of `creator`,
    /// with the numbers of the keys, and one write.
    pub(crate) async fn create<T, E, F, S>(
        &self,
        creator: impl FnMut(Vec<usize>) -> F,
        sleep: impl Fn(Duration) -> S,
    ) -> Result<Vec<Arc<T>>, CreateError<E>>
    where
        T: Storable,
        E: Send + Sync + 'static,
        F: Future<Output = Result<Vec<T>, E>>,
        S: Future<Output = ()>,
    {
        let core = self.core;
        core.check_type::<T>().map_err(CreateError::Backend)?;
        let policy = self.how.policy.unwrap_or(&core.policy);
        let call = self.how.fresh(self.core);
        let wanted = Wanted { face: self.face, policy, call, tags: &self.how.tags, force: self.how.force };
        // Each key once, in the order of its first coming.
        let mut numbers: Vec<usize> = Vec::with_capacity(self.keys.len());
        let mut unique: Vec<usize> = Vec::new();
        let mut known = std::collections::HashMap::new();
        for (i, key) in self.keys.iter().enumerate() {
            let number = *known.entry(&**key).or_insert_with(|| {
                unique.push(i);
                unique.len() - 1
            });
            numbers.push(number);
        }
        let keys: Vec<&str> = unique.iter().map(|i| &*self.keys[*i]).collect();
        let landings: Vec<u64> = keys.iter().map(|key| core.registry.landings(key)).collect();
        let stored = match core.get_multi(self.face, &keys).await {
            Ok(stored) => stored,
            Err(error) => core.degrade(error, vec![None; keys.len()]).map_err(CreateError::Backend)?,
        };
        let places: Vec<Here> = keys
            .iter()
            .zip(landings.into_iter().zip(stored))
            .map(|(key, (landings, stored))| {
                Here::new::<T>(core, key, wanted, Some(Read { landings, stored }))
            })
            .collect();
        let mut found: Vec<Option<Arc<Item>>> = vec![None; keys.len()];
        let order = Order::of(policy);
        let misses = Tally::new(0);
        let creator = PlainMutex::new(creator);
        loop {
            let look = |i: usize, _claims: bool| Arc::clone(&places[i].0).look();
            let make = |asked: Vec<usize>| {
                misses.fetch_add(asked.len() as u64, Ordering::Relaxed);
                let spots: Vec<Here> = asked.iter().map(|i| places[*i].clone()).collect();
                let (creator, unique) = (&creator, &unique);
                // Begun when it is known what other processes have made.
                async move {
                    let begin = |places: &[usize]| {
                        (lock_plain(creator))(places.iter().map(|i| unique[asked[*i]]).collect())
                    };
                    Spot::make_many::<T, E, F>(&spots, begin).await
                }
            };
            let driven = drive_many_by(&places, look, order, &mut found, make, &sleep).await;
            if let Err(error) = driven {
                let trouble = places.iter().find_map(|place| place.0.trouble());
                return Err(match trouble {
                    Some(trouble) => CreateError::Backend(trouble),
                    None => unfold(error),
                });
            }
            // What others made as another type is made anew.
            let mut is_done = true;
            for item in &mut found {
                if item.as_ref().is_some_and(|item| !item.value.is::<T>()) {
                    *item = None;
                    is_done = false;
                }
            }
            if is_done {
                break;
            }
        }
        let missed = misses.load(Ordering::Relaxed);
        core.counts.add(Count::Miss, missed);
        core.counts.add(Count::Hit, (keys.len() as u64).saturating_sub(missed));
        let value = |number: usize| {
            let item = found[number].as_ref().expect("all were found or made");
            item.value().expect("of this type")
        };
        Ok(numbers.into_iter().map(value).collect())
    }
}
