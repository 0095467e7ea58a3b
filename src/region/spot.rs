//! A key of a region as a place that the gate guards; making its value, under the store's own lock where it has one.
//!
//! ```text
//! look:  count of the shard ─> store ─> fresh? the value : the key's state
//! make:  the store's lock, if there is one: look again ─> a turn ─> epoch ─> creator ─> written, unless newer
//! ```
//!
//! One look is one read, an uncontended creation one read and one write. A store's lock costs a read more, unless it has
//! looked itself: another process may have made the value between the look and the lock.
#![forbid(unsafe_code)]

use super::core::{Core, Face, Made, Open, Written};
use super::counts::Count;
use super::item::Item;
use super::registry::Seen;
use super::turns::lend;
use crate::backend::{AsyncCacheMutex, CacheMutex, Fence, Put, Stored};
use crate::codec::Storable;
use crate::error::{CreateError, Error};
use crate::gate::{
    After, Age, Failure, Flights, Freshness, IDLE, Kind, Look, Moment, Place, RegionPolicy, Runner, Verdict,
};
use crate::sync::{Arc, AtomicU8, PlainMutex, lock_plain};
use crate::time::Instant;
use std::any::Any;
use std::future::Future;
use std::time::Duration;

/// How long a store's lock is waited for, if the policy does not say.
const WAIT: Duration = Duration::from_secs(30);

/// The types of a region's keys.
pub(crate) struct Items;

impl Kind for Items {
    type Value = Arc<Item>;
    type Made = Arc<Item>;
    type Claim = Arc<Seen>;
    type Rest = ();
}

/// Why a creation has no value.
pub(crate) enum Fail<E> {
    Creator(Arc<E>),
    Backend(Error),
    /// The store's lock was waited for in vain.
    TimedOut,
}

impl<E> Fail<E> {
    pub(crate) fn creator(error: E) -> Self {
        Self::Creator(Arc::new(error))
    }
}

/// What the gate says, in the caller's words.
pub(crate) fn unfold<E>(error: CreateError<Fail<E>>) -> CreateError<E> {
    match error {
        CreateError::Creator(fail) => match &*fail {
            Fail::Creator(error) => CreateError::Creator(Arc::clone(error)),
            Fail::Backend(error) => CreateError::Backend(error.clone()),
            Fail::TimedOut => CreateError::TimedOut,
        },
        CreateError::Reentrant => CreateError::Reentrant,
        CreateError::TimedOut => CreateError::TimedOut,
        CreateError::LeaderPanicked => CreateError::LeaderPanicked,
        CreateError::NotCached => CreateError::NotCached,
        CreateError::NoLoader => CreateError::NoLoader,
        CreateError::WrongCount { asked, made } => CreateError::WrongCount { asked, made },
        CreateError::Backend(error) => CreateError::Backend(error),
    }
}

/// One read of the store, and the shard's count from before it.
pub(crate) struct Read {
    pub(crate) landings: u64,
    pub(crate) stored: Option<Stored>,
}

/// A key, as one call sees it.
pub(crate) struct Spot {
    core: Arc<Core>,
    face: Face,
    key: Box<str>,
    policy: RegionPolicy,
    /// How long a value is fresh, if this call says so.
    call: Option<Duration>,
    tags: Vec<String>,
    /// A fresh value is to be made anew, too.
    force: bool,
    open: Open,
    /// What was read already.
    first: PlainMutex<Option<Read>>,
    /// The last look: what a leader was elected by.
    seen: PlainMutex<Option<Arc<Seen>>>,
    /// Why the look ended in nothing.
    trouble: PlainMutex<Option<Error>>,
    /// Whether a failure is the store's, and not the creator's: it is not remembered.
    is_the_stores: PlainMutex<bool>,
}

/// What a call wants.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) face: Face,
    pub(crate) policy: &'a RegionPolicy,
    /// How long a value is fresh, if this call says so.
    pub(crate) call: Option<Duration>,
    pub(crate) tags: &'a [String],
    pub(crate) force: bool,
}

/// Shared by the caller and the background.
#[derive(Clone)]
pub(crate) struct Here(pub(crate) Arc<Spot>);

impl Here {
    /// `key`: as the store has it.
    pub(crate) fn new<T: Storable>(
        core: &Arc<Core>,
        key: &str,
        wanted: Wanted<'_>,
        first: Option<Read>,
    ) -> Self {
        Self(Arc::new(Spot {
            core: Arc::clone(core),
            face: wanted.face,
            key: key.into(),
            policy: wanted.policy.clone(),
            call: wanted.call,
            tags: wanted.tags.to_vec(),
            force: wanted.force,
            open: Core::open::<T>,
            first: PlainMutex::new(first),
            seen: PlainMutex::new(None),
            trouble: PlainMutex::new(None),
            is_the_stores: PlainMutex::new(false),
        }))
    }
}

impl Spot {
    /// For how long after its time a value is served.
    fn stale(&self, item: Option<&Item>) -> Duration {
        let ends_by_itself = || self.call.is_none() && item.is_some_and(|item| item.meta.ttl.is_some());
        match self.policy.stale {
            Some(stale) => stale,
            // A time to live of its own is the end, if nothing is said about what comes after.
            None if ends_by_itself() => Duration::ZERO,
            // As long as it is stored.
            None => Duration::MAX,
        }
    }

    /// The error of the store that a look ended with.
    pub(crate) fn trouble(&self) -> Option<Error> {
        lock_plain(&self.trouble).take()
    }

    /// Notes that a creation has failed for no fault of its creator.
    fn blames_the_store<E>(&self, fail: Fail<E>) -> Fail<E> {
        *lock_plain(&self.is_the_stores) = true;
        fail
    }

    /// The value of the last look.
    pub(crate) fn last_value<T: Storable>(&self) -> Option<Arc<T>> {
        self.seen().item.as_ref()?.value()
    }

    fn seen(&self) -> Arc<Seen> {
        Arc::clone(lock_plain(&self.seen).as_ref().expect("who leads has looked"))
    }

    async fn read(&self) -> Result<Read, Error> {
        if let Some(first) = lock_plain(&self.first).take() {
            return Ok(first);
        }
        let landings = self.core.registry.landings(&self.key);
        match self.core.get(self.face, &self.key).await {
            Ok(stored) => Ok(Read { landings, stored }),
            Err(error) => Ok(Read { landings, stored: self.core.degrade(error, None)? }),
        }
    }

    pub(crate) async fn look(self: Arc<Self>) -> Look<Arc<Item>, Arc<Seen>> {
        let core = &*self.core;
        let Read { landings, stored } = match self.read().await {
            Ok(read) => read,
            Err(error) => {
                *lock_plain(&self.trouble) = Some(error);
                return Look::Nothing;
            }
        };
        let found = core.assess(&self.key, stored.as_ref(), self.open, self.call);
        core.count_unusable(&found);
        if !self.force
            && self.policy.early.is_none()
            && let (Age::Fresh { .. }, Some(item)) = (found.age, &found.item)
        {
            return Look::Fresh(Arc::clone(item));
        }
        let now = core.clock.precise();
        let claim = core.enter(&self.key, now);
        let seen = claim.see(landings, stored, found.item.clone(), found.age);
        let former = lock_plain(&self.seen).replace(Arc::clone(&seen));
        // Letting a key go takes a lock.
        drop(former);
        let made = found.item.as_ref().map_or(now, |item| item.born);
        let cost = found.item.as_ref().and_then(|item| item.meta.cost);
        let stale = self.stale(found.item.as_deref());
        let verdict = seen.state().past.judge(found.age, made, stale, cost, &self.policy, now);
        match (verdict, found.item) {
            (Verdict::Fresh, Some(item)) if !self.force => Look::Fresh(item),
            (Verdict::Fresh, _) => {
                let flag = seen.state().past.free();
                Look::Missing { claim: seen, from: flag }
            }
            // Who makes it anew in any case is not held back by what failed before.
            (Verdict::Usable { .. } | Verdict::Failed { .. }, _) if self.force => {
                let from = seen.state().past.free();
                Look::Missing { claim: seen, from }
            }
            (Verdict::Usable { from, state }, Some(value)) => {
                Look::Usable { value, claim: seen, from, state }
            }
            (Verdict::Usable { from, .. } | Verdict::Missing { from }, _) => {
                Look::Missing { claim: seen, from }
            }
            (Verdict::Failed { failure, from }, _) => Look::Failed { failure, claim: seen, from },
        }
    }

    /// What was made is to be written; told if it can't be, and need not.
    async fn write<T: Storable>(&self, seen: &Seen, locked: &Locked, item: &Arc<Item>) -> Result<(), Error> {
        let Some(packed) = self.pack::<T>(item) else { return Ok(()) };
        let ttl = self.core.store_ttl(item, &self.policy);
        let put = Put::new(&self.key, &packed.0).ttl(ttl).weight(packed.1).fence(locked.fence.as_ref());
        let before = locked.before(seen);
        match self.core.publish(self.face, &[Written { seen, before, item, put }]).await {
            Ok(_) => Ok(()),
            Err(error) => self.core.degrade(error, ()),
        }
    }

    fn pack<T: Storable>(&self, item: &Arc<Item>) -> Option<(Stored, u32)> {
        match self.core.pack::<T>(&self.key, item) {
            Ok(packed) => Some(packed),
            Err(_) => {
                self.core.counts.count(Count::NotEncoded);
                None
            }
        }
    }

    /// Takes the store's own lock, if it has one.
    async fn lock_store(&self, seen: &Seen) -> Result<Locked, Taken> {
        let lock = match self.face {
            Face::Threads => self
                .core
                .blocking
                .as_ref()
                .and_then(|backend| backend.mutex(&self.key))
                .map(StoreLock::Thread),
            Face::Tasks => self.core.awaiting.mutex(&self.key).map(StoreLock::Task),
        };
        let Some(lock) = lock else { return Ok(Locked::nothing()) };
        // The lock of this process will do.
        let unlocked = |error| self.core.degrade(error, Locked::nothing()).map_err(Taken::Error);
        match lock.acquire(Duration::ZERO).await {
            Ok(true) => {}
            Ok(false) => {
                if let Some(item) =
                    seen.item.as_ref().filter(|item| !self.force && self.serves(seen.age, item))
                    && self.hands_on(seen, item)
                {
                    // Another process makes it.
                    self.core.counts.count(Count::StaleServed);
                    return Err(Taken::Item(Arc::clone(item)));
                }
                match lock.acquire(self.policy.wait.unwrap_or(WAIT)).await {
                    Ok(true) => {}
                    Ok(false) => return Err(Taken::TimedOut),
                    Err(error) => return unlocked(error),
                }
            }
            Err(error) => return unlocked(error),
        }
        let (fence, found) = lock.knows();
        let mut locked =
            Locked { lock: Some((lock, Arc::clone(&self.policy.runner))), fence, found: seen.stored.clone() };
        // Another process may have made it between our look and our lock.
        let found = match found {
            Some(found) => Ok(found),
            None => self.core.get(self.face, &self.key).await,
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => match self.core.degrade(error, ()) {
                Ok(()) => return Ok(locked),
                Err(error) => {
                    locked.release().await;
                    return Err(Taken::Error(error));
                }
            },
        };
        let is_news = match (&found, &seen.stored) {
            (Some(found), Some(before)) => !found.is_same(before),
            (found, _) => found.is_some(),
        };
        if is_news && !self.force {
            let found = self.core.assess(&self.key, found.as_ref(), self.open, self.call);
            if let (Age::Fresh { .. }, Some(item)) = (found.age, found.item)
                && self.hands_on(seen, &item)
            {
                locked.release().await;
                return Err(Taken::Item(item));
            }
        }
        locked.found = found;
        Ok(locked)
    }

    /// Whether a value that was not made here may go to all who wait for this flight. Until they have it who comes can tell how
    /// old it is (K4); what was invalidated before that is seen here.
    fn hands_on(&self, seen: &Seen, item: &Item) -> bool {
        let Some(epoch) = item.meta.epoch else { return true };
        seen.state().start(epoch, &item.meta.tags);
        let is_valid = !self.core.is_gone(&self.key, &item.meta.tags, epoch);
        if !is_valid {
            seen.state().end();
        }
        is_valid
    }

    fn serves(&self, age: Age, item: &Item) -> bool {
        match age {
            Age::Missing => false,
            Age::Fresh { .. } => true,
            Age::Late(late) => {
                self.policy.freshness == Freshness::AllowStale && late < self.stale(Some(item))
            }
        }
    }

    /// Makes the value, and writes it. As the leader.
    pub(crate) async fn make<T: Storable, E>(
        self: Arc<Self>,
        creation: impl Future<Output = Result<T, E>>,
    ) -> Result<Arc<Item>, Fail<E>> {
        let seen = self.seen();
        let locked = match self.lock_store(&seen).await {
            Ok(locked) => locked,
            Err(Taken::Item(item)) => return Ok(item),
            Err(Taken::TimedOut) => return Err(self.blames_the_store(Fail::TimedOut)),
            Err(Taken::Error(error)) => return Err(self.blames_the_store(Fail::Backend(error))),
        };
        let made = self.make_locked::<T, E>(&seen, &locked, creation).await;
        locked.release().await;
        made
    }

    async fn make_locked<T: Storable, E>(
        &self,
        seen: &Seen,
        locked: &Locked,
        creation: impl Future<Output = Result<T, E>>,
    ) -> Result<Arc<Item>, Fail<E>> {
        let (value, epoch, took) = self.run(&[seen], creation).await.map_err(Fail::creator)?;
        let made = Made { policy: &self.policy, ttl: None, cost: Some(took), tags: &self.tags };
        let keeps = self.policy.should_cache(&value);
        let item = self.core.item(Arc::new(value), epoch, made);
        if keeps {
            self.write::<T>(seen, locked, &item)
                .await
                .map_err(|error| self.blames_the_store(Fail::Backend(error)))?;
        }
        Ok(item)
    }

    /// Runs a creator, when it has its turn. Returns what it made, the epoch from before it, and how long it took.
    async fn run<T, E>(
        &self,
        seen: &[&Seen],
        creation: impl Future<Output = Result<T, E>>,
    ) -> Result<(T, u64, Duration), E> {
        let core = &*self.core;
        let _turn = match &core.turns {
            Some(turns) => turns.take(self.face).await,
            None => None,
        };
        let epoch = core.next_epoch();
        for seen in seen {
            seen.state().start(epoch, &self.tags);
        }
        let begun = core.clock.precise();
        let made = match &core.turns {
            Some(turns) => turns.within(creation).await,
            None => creation.await,
        };
        let took = core.clock.precise().saturating_duration_since(begun);
        let value = made?;
        core.counts.count(Count::Creation);
        core.counts.add(Count::CreationNanos, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        Ok((value, epoch, took))
    }

    /// Makes many values in one go, and writes them in one. As the leader of all of them.
    ///
    /// `creator` gets the places in `spots` of those that are to be made.
    pub(crate) async fn make_many<T, E, F>(
        spots: &[Here],
        creator: impl FnOnce(&[usize]) -> F,
    ) -> Result<Vec<Arc<Item>>, Fail<E>>
    where
        T: Storable,
        F: Future<Output = Result<Vec<T>, E>>,
    {
        let seen: Vec<Arc<Seen>> = spots.iter().map(|spot| spot.0.seen()).collect();
        // In the order of the keys, so that batches of several processes don't wait for each other.
        let mut order: Vec<usize> = (0..spots.len()).collect();
        order.sort_by(|a, b| spots[*a].0.key.cmp(&spots[*b].0.key));
        let mut locks: Vec<Option<Locked>> = spots.iter().map(|_| None).collect();
        let mut items: Vec<Option<Arc<Item>>> = vec![None; spots.len()];
        for i in order {
            let fail = match spots[i].0.lock_store(&seen[i]).await {
                Ok(locked) => {
                    locks[i] = Some(locked);
                    continue;
                }
                // Another process makes it or has made it: the creator is not asked for it.
                Err(Taken::Item(item)) => {
                    items[i] = Some(item);
                    continue;
                }
                Err(Taken::TimedOut) => Fail::TimedOut,
                Err(Taken::Error(error)) => Fail::Backend(error),
            };
            for locked in locks.into_iter().flatten() {
                locked.release().await;
            }
            for spot in spots {
                *lock_plain(&spot.0.is_the_stores) = true;
            }
            return Err(fail);
        }
        let asked: Vec<usize> = (0..spots.len()).filter(|i| items[*i].is_none()).collect();
        if !asked.is_empty() {
            let to_make: Vec<Here> = asked.iter().map(|i| spots[*i].clone()).collect();
            let seen: Vec<Arc<Seen>> = asked.iter().map(|i| Arc::clone(&seen[*i])).collect();
            // One for each that is asked for: those that were found have given theirs back.
            let locks: Vec<Locked> = locks.into_iter().flatten().collect();
            let made = Self::make_all::<T, E>(&to_make, &seen, &locks, creator(&asked)).await;
            for locked in locks {
                locked.release().await;
            }
            let made = made?;
            if made.len() != asked.len() {
                // As many too few or too many as the creator has returned: the gate tells the caller.
                return Ok(items.into_iter().flatten().chain(made).collect());
            }
            asked.into_iter().zip(made).for_each(|(i, item)| items[i] = Some(item));
        }
        Ok(items.into_iter().map(|item| item.expect("found or made")).collect())
    }

    async fn make_all<T: Storable, E>(
        spots: &[Here],
        seen: &[Arc<Seen>],
        locks: &[Locked],
        creation: impl Future<Output = Result<Vec<T>, E>>,
    ) -> Result<Vec<Arc<Item>>, Fail<E>> {
        let first = &*spots[0].0;
        let core = &*first.core;
        let (values, epoch, took) = first
            .run(&seen.iter().map(|seen| &**seen).collect::<Vec<_>>(), creation)
            .await
            .map_err(Fail::creator)?;
        if values.len() != spots.len() {
            // The gate tells the caller; nothing is stored.
            let made = Made { policy: &first.policy, ttl: None, cost: None, tags: &[] };
            let items = values.into_iter().map(|value| core.item(Arc::new(value), epoch, Made { ..made }));
            return Ok(items.collect());
        }
        let each = took / u32::try_from(values.len()).unwrap_or(u32::MAX);
        let mut items = Vec::with_capacity(values.len());
        let mut packed = Vec::with_capacity(values.len());
        for (i, value) in values.into_iter().enumerate() {
            let made = Made { policy: &first.policy, ttl: None, cost: Some(each), tags: &first.tags };
            let keeps = first.policy.should_cache(&value);
            let item = core.item(Arc::new(value), epoch, made);
            if keeps && let Some(pack) = spots[i].0.pack::<T>(&item) {
                packed.push((i, pack));
            }
            items.push(item);
        }
        let written: Vec<Written<'_>> = packed
            .iter()
            .map(|(i, (stored, weight))| Written {
                seen: &seen[*i],
                before: locks[*i].before(&seen[*i]),
                item: &items[*i],
                put: Put::new(&spots[*i].0.key, stored)
                    .ttl(core.store_ttl(&items[*i], &first.policy))
                    .weight(*weight)
                    .fence(locks[*i].fence.as_ref()),
            })
            .collect();
        if let Err(error) = core.publish(first.face, &written).await {
            core.degrade(error, ()).map_err(|error| {
                for spot in spots {
                    *lock_plain(&spot.0.is_the_stores) = true;
                }
                Fail::Backend(error)
            })?;
        }
        Ok(items)
    }
}

/// Why a leader makes nothing.
enum Taken {
    /// There is one already, or another process makes it and this one will do.
    Item(Arc<Item>),
    TimedOut,
    Error(Error),
}

enum StoreLock {
    Thread(Box<dyn CacheMutex>),
    Task(Box<dyn AsyncCacheMutex>),
}

impl StoreLock {
    async fn acquire(&self, wait: Duration) -> Result<bool, Error> {
        match self {
            Self::Thread(lock) => lock.acquire(wait),
            Self::Task(lock) => lock.acquire(wait).await,
        }
    }

    /// The fence, and what the key had, while it is held.
    fn knows(&self) -> (Option<Fence>, Option<Option<Stored>>) {
        match self {
            Self::Thread(lock) => (lock.fence(), lock.found()),
            Self::Task(lock) => (lock.fence(), lock.found()),
        }
    }
}

/// What a leader holds: the store's lock, given back at the latest when this is dropped, or nothing.
struct Locked {
    lock: Option<(StoreLock, Arc<dyn Runner>)>,
    fence: Option<Fence>,
    /// What the key had under the lock.
    found: Option<Stored>,
}

impl Locked {
    fn nothing() -> Self {
        Self { lock: None, fence: None, found: None }
    }

    /// What the key had when it was last looked at.
    fn before<'a>(&'a self, seen: &'a Seen) -> Option<&'a Stored> {
        if self.lock.is_some() { self.found.as_ref() } else { seen.stored.as_ref() }
    }

    /// An error is nobody's: the value is made, and the lease ends by itself.
    async fn release(mut self) {
        match self.lock.take() {
            None => {}
            Some((StoreLock::Thread(lock), _)) => {
                let _ = lock.release();
            }
            Some((StoreLock::Task(lock), _)) => {
                let _ = lock.release().await;
            }
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        match self.lock.take() {
            None => {}
            Some((StoreLock::Thread(lock), _)) => {
                let _ = lock.release();
            }
            // A creation that was dropped: nobody is left who could wait.
            Some((StoreLock::Task(lock), runner)) => runner.run_async(Box::pin(async move {
                let _ = lock.release().await;
            })),
        }
    }
}

impl Place<Items> for Here {
    fn flights(&self) -> &Flights<Arc<Item>> {
        &self.0.core.registry.flights
    }

    fn flag<'a>(&'a self, seen: &'a Arc<Seen>) -> &'a AtomicU8 {
        seen.state().past.flag()
    }

    fn is_current(&self, seen: &Arc<Seen>) -> bool {
        seen.is_current()
    }

    fn publish(&self, seen: &Arc<Seen>, made: Arc<Item>, took: Duration) -> (Arc<Item>, After, ()) {
        seen.state().past.made(took);
        seen.claim.landed();
        (made, After { flag: IDLE, leaves: false }, ())
    }

    fn settle(&self, _nothing: ()) {}

    fn failed(&self, seen: &Arc<Seen>, failure: &Failure) -> (After, ()) {
        if *lock_plain(&self.0.is_the_stores) {
            // The next may have more luck with the store.
            return (After { flag: IDLE, leaves: false }, ());
        }
        let now = self.0.core.clock.precise();
        let (flag, is_remembered) = seen.state().past.failed(seen.age, failure, &self.0.policy, now);
        if is_remembered {
            seen.claim.landed();
        }
        (After { flag, leaves: false }, ())
    }

    fn released(&self, seen: &Arc<Seen>) -> After {
        seen.state().end();
        After { flag: IDLE, leaves: false }
    }

    fn outdated(&self) -> u8 {
        IDLE
    }

    fn let_go(&self, _seen: &Arc<Seen>) {}

    fn now(&self) -> Instant {
        self.0.core.clock.precise()
    }

    fn count(&self, moment: Moment) {
        self.0.core.counts.note(moment);
    }

    fn lend(&self) -> Option<Box<dyn Any + Send>> {
        lend()
    }

    /// A leader that finds the store's lock held elsewhere returns the stale value, if its own caller takes that.
    fn suits(&self, value: &Arc<Item>) -> bool {
        if self.0.policy.freshness != Freshness::WaitFresh {
            return true;
        }
        let seen = self.0.seen();
        seen.item
            .as_ref()
            .is_none_or(|item| (item.meta.epoch, item.meta.created) != (value.meta.epoch, value.meta.created))
    }
}
