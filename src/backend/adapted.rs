//! Blocking backends for tasks.
#![forbid(unsafe_code)]

use super::{
    AsyncBackend, AsyncCacheMutex, Backend, BoxFuture, Bus, CacheMutex, Fence, LockInfo, Opened, Put, Stored,
    Takes,
};
use crate::codec::{Codec, Envelope};
use crate::error::Error;
use crate::sync::{Arc, PlainMutex, lock_plain};
use crate::time::{Clock, PreciseClock};
use std::fmt;
use std::future::ready;
use std::time::Duration;

/// A blocking backend as an [`AsyncBackend`]: each operation on a thread of the crate `blocking`'s pool, whatever the
/// runtime. An `AsyncRegion` over a blocking backend uses it by itself.
///
/// # Cancel safety
/// An operation whose future is dropped may still be done.
///
/// ```
/// use dogpile::backend::{AsyncBackend, MemoryBackend, OnThreads, Put, Stored};
///
/// # pollster::block_on(async {
/// let backend = OnThreads::new(MemoryBackend::new());
/// let value = Stored::from(b"abc".as_slice());
/// backend.set(Put::new("key", &value)).await?;
/// assert!(backend.get("key").await?.unwrap().is_same(&value));
/// # Ok::<(), dogpile::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct OnThreads {
    backend: Arc<dyn Backend>,
}

impl OnThreads {
    /// The adapter.
    #[must_use]
    pub fn new(backend: impl Backend + 'static) -> Self {
        Self { backend: Arc::new(backend) }
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Backend) -> T + Send + 'static,
    ) -> BoxFuture<'static, T> {
        let backend = Arc::clone(&self.backend);
        Box::pin(blocking::unblock(move || work(&*backend)))
    }

    /// Puts each in if its key has what is expected, or if it has a fence; and tells what the others have. What nothing is
    /// expected of is not put in. `None`: the store can't.
    fn put_if_same(
        &self,
        puts: Vec<OwnPut>,
        expected: Vec<Option<Found>>,
    ) -> BoxFuture<'static, Option<Result<(Vec<bool>, Vec<Found>), Error>>> {
        self.run(move |backend| {
            let found = PlainMutex::new(vec![None; puts.len()]);
            let keeps = |i: usize, now: Option<&Stored>| {
                let is_expected = match (expected.get(i).and_then(Option::as_ref), now) {
                    (Some(Some(expected)), Some(now)) => expected.is_same(now),
                    (Some(None), None) => true,
                    _ => false,
                };
                lock_plain(&found)[i] = now.cloned();
                !is_expected
            };
            let puts: Vec<Put<'_>> = puts.iter().map(OwnPut::borrow).collect();
            let done = backend.set_unless(&puts, &keeps)?;
            Some(done.map(|done| (done, std::mem::take(&mut *lock_plain(&found)))))
        })
    }
}

impl fmt::Debug for OnThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnThreads").field(&self.backend.name()).finish()
    }
}

/// What a [`Put`] borrows, owned.
struct OwnPut {
    key: String,
    value: Stored,
    ttl: Option<Duration>,
    weight: u32,
    fence: Option<Fence>,
}

impl OwnPut {
    fn of(put: Put<'_>) -> Self {
        Self {
            key: put.key.to_owned(),
            value: put.value.clone(),
            ttl: put.ttl,
            weight: put.weight,
            fence: put.fence.cloned(),
        }
    }

    fn borrow(&self) -> Put<'_> {
        Put {
            key: &self.key,
            value: &self.value,
            ttl: self.ttl,
            weight: self.weight,
            fence: self.fence.as_ref(),
        }
    }
}

/// What a key has.
type Found = Option<Stored>;

/// So often a write that depends on what is there is tried.
const MOST_TRIES: usize = 32;

fn own(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

fn borrowed(keys: &[String]) -> Vec<&str> {
    keys.iter().map(String::as_str).collect()
}

impl AsyncBackend for OnThreads {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, Error>> {
        let key = key.to_owned();
        self.run(move |backend| backend.get(&key))
    }
    fn set<'a>(&'a self, put: Put<'a>) -> BoxFuture<'a, Result<(), Error>> {
        let put = OwnPut::of(put);
        self.run(move |backend| backend.set(put.borrow()))
    }
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        let key = key.to_owned();
        self.run(move |backend| backend.delete(&key))
    }
    fn get_multi<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Option<Stored>>, Error>> {
        let keys = own(keys);
        self.run(move |backend| backend.get_multi(&borrowed(&keys)))
    }
    fn set_multi<'a>(&'a self, puts: &'a [Put<'a>]) -> BoxFuture<'a, Result<(), Error>> {
        let puts: Vec<OwnPut> = puts.iter().map(|put| OwnPut::of(*put)).collect();
        self.run(move |backend| backend.set_multi(&puts.iter().map(OwnPut::borrow).collect::<Vec<_>>()))
    }
    fn delete_multi<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<(), Error>> {
        let keys = own(keys);
        self.run(move |backend| backend.delete_multi(&borrowed(&keys)))
    }
    /// What `keeps` borrows can't be sent to a thread, so it is asked here about what the store has told, and the thread puts
    /// in what it allows if the store has that still. Two operations each time, where a thread needs one.
    fn set_unless<'a>(
        &'a self,
        puts: &'a [Put<'a>],
        keeps: &'a (dyn Fn(usize, Option<&Stored>) -> bool + Send + Sync),
    ) -> BoxFuture<'a, Option<Result<Vec<bool>, Error>>> {
        Box::pin(async move {
            let mut is_put = vec![false; puts.len()];
            let (fenced, mut left): (Vec<usize>, Vec<usize>) =
                (0..puts.len()).partition(|i| puts[*i].fence.is_some());
            let own = |places: &[usize]| places.iter().map(|i| OwnPut::of(puts[*i])).collect::<Vec<_>>();
            // Even of nothing, this tells whether the store has such a step.
            let done = match self.put_if_same(own(&fenced), Vec::new()).await? {
                Ok((done, _)) => done,
                Err(error) => return Some(Err(error)),
            };
            fenced.iter().zip(done).for_each(|(i, done)| is_put[*i] = done);
            let mut expected: Vec<Option<Found>> = left.iter().map(|_| None).collect();
            for _ in 0..MOST_TRIES {
                if left.is_empty() {
                    break;
                }
                let (done, found) = match self.put_if_same(own(&left), expected).await? {
                    Ok(done) => done,
                    Err(error) => return Some(Err(error)),
                };
                let tried = left.iter().copied().zip(done).zip(found);
                let (mut again, mut allowed) = (Vec::new(), Vec::new());
                for ((i, done), found) in tried {
                    is_put[i] = done;
                    if !done && !keeps(i, found.as_ref()) {
                        again.push(i);
                        allowed.push(Some(found));
                    }
                }
                (left, expected) = (again, allowed);
            }
            // What is left has been overtaken each time.
            Some(Ok(is_put))
        })
    }
    fn expire<'a>(&'a self, key: &'a str, ttl: Option<Duration>) -> BoxFuture<'a, Result<bool, Error>> {
        let key = key.to_owned();
        self.run(move |backend| backend.expire(&key, ttl))
    }
    fn clear<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        let prefix = prefix.to_owned();
        self.run(move |backend| backend.clear(&prefix))
    }
    fn len<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Option<u64>, Error>> {
        let prefix = prefix.to_owned();
        self.run(move |backend| backend.len(&prefix))
    }
    fn mutex(&self, key: &str) -> Option<Box<dyn AsyncCacheMutex>> {
        Some(Box::new(MutexOnThreads(Arc::from(self.backend.mutex(key)?))))
    }
    fn locks<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Option<Vec<LockInfo>>, Error>> {
        let prefix = prefix.to_owned();
        self.run(move |backend| backend.locks(&prefix))
    }
    fn attach(&self, envelope: Envelope) -> Result<(), Error> {
        self.backend.attach(envelope)
    }
    fn bus(&self) -> Option<Arc<dyn Bus>> {
        self.backend.bus()
    }
    fn keeps(&self) -> bool {
        self.backend.keeps()
    }
    fn keep(&self, key: &str, opened: &Arc<Opened>) {
        self.backend.keep(key, opened);
    }
    fn takes(&self) -> Takes {
        self.backend.takes()
    }
    fn codec(&self) -> Option<Codec> {
        self.backend.codec()
    }
    fn mangle(&self, key: &str) -> Option<String> {
        self.backend.mangle(key)
    }
    fn mangles(&self) -> bool {
        self.backend.mangles()
    }
    fn name(&self) -> &'static str {
        self.backend.name()
    }
}

/// How long a task waits for a mutex until it tries again, at first and in the end.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// A blocking mutex for tasks. It is tried again and again: waiting for it would take a thread of those that all blocking
/// operations share, and with all of them waiting nobody could give a lock back.
struct MutexOnThreads(Arc<dyn CacheMutex>);

/// A lock that a thread has taken for a task: given back at once if the task has gone meanwhile.
struct Taken(Option<Arc<dyn CacheMutex>>);

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(mutex) = self.0.take() {
            let _ = mutex.release();
        }
    }
}

impl AsyncCacheMutex for MutexOnThreads {
    fn acquire(&self, wait: Duration) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(async move {
            let until = PreciseClock.precise().saturating_add(wait);
            let mut pause = PAUSES.0;
            loop {
                let mutex = Arc::clone(&self.0);
                let take = move || Ok::<_, Error>(mutex.acquire(Duration::ZERO)?.then(|| Taken(Some(mutex))));
                if blocking::unblock(take).await?.is_some_and(|mut taken| taken.0.take().is_some()) {
                    return Ok(true);
                }
                let left = until.saturating_duration_since(PreciseClock.precise());
                if left.is_zero() {
                    return Ok(false);
                }
                futures_timer::Delay::new(pause.min(left)).await;
                pause = (pause * 3 / 2).min(PAUSES.1);
            }
        })
    }
    fn release(&self) -> BoxFuture<'_, Result<(), Error>> {
        let mutex = Arc::clone(&self.0);
        Box::pin(blocking::unblock(move || mutex.release()))
    }
    fn locked(&self) -> BoxFuture<'_, Result<bool, Error>> {
        let mutex = Arc::clone(&self.0);
        Box::pin(blocking::unblock(move || mutex.locked()))
    }
    fn lease(&self) -> Option<Duration> {
        self.0.lease()
    }
    fn fence(&self) -> Option<Fence> {
        self.0.fence()
    }
    fn found(&self) -> Option<Option<Stored>> {
        self.0.found()
    }
}

/// A backend whose operations don't block, for tasks: done when their future is made.
struct AtOnce(Arc<dyn Backend>);

impl AsyncBackend for AtOnce {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, Error>> {
        Box::pin(ready(self.0.get(key)))
    }
    fn set<'a>(&'a self, put: Put<'a>) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(ready(self.0.set(put)))
    }
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(ready(self.0.delete(key)))
    }
    fn get_multi<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Option<Stored>>, Error>> {
        Box::pin(ready(self.0.get_multi(keys)))
    }
    fn set_multi<'a>(&'a self, puts: &'a [Put<'a>]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(ready(self.0.set_multi(puts)))
    }
    fn delete_multi<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(ready(self.0.delete_multi(keys)))
    }
    fn set_unless<'a>(
        &'a self,
        puts: &'a [Put<'a>],
        keeps: &'a (dyn Fn(usize, Option<&Stored>) -> bool + Send + Sync),
    ) -> BoxFuture<'a, Option<Result<Vec<bool>, Error>>> {
        Box::pin(ready(self.0.set_unless(puts, &keeps)))
    }
    fn expire<'a>(&'a self, key: &'a str, ttl: Option<Duration>) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(ready(self.0.expire(key, ttl)))
    }
    fn clear<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(ready(self.0.clear(prefix)))
    }
    fn len<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Option<u64>, Error>> {
        Box::pin(ready(self.0.len(prefix)))
    }
    fn mutex(&self, key: &str) -> Option<Box<dyn AsyncCacheMutex>> {
        Some(Box::new(MutexOnThreads(Arc::from(self.0.mutex(key)?))))
    }
    fn locks<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Option<Vec<LockInfo>>, Error>> {
        Box::pin(ready(self.0.locks(prefix)))
    }
    fn attach(&self, envelope: Envelope) -> Result<(), Error> {
        self.0.attach(envelope)
    }
    fn bus(&self) -> Option<Arc<dyn Bus>> {
        self.0.bus()
    }
    fn keeps(&self) -> bool {
        self.0.keeps()
    }
    fn keep(&self, key: &str, opened: &Arc<Opened>) {
        self.0.keep(key, opened);
    }
    fn takes(&self) -> Takes {
        self.0.takes()
    }
    fn codec(&self) -> Option<Codec> {
        self.0.codec()
    }
    fn mangle(&self, key: &str) -> Option<String> {
        self.0.mangle(key)
    }
    fn mangles(&self) -> bool {
        self.0.mangles()
    }
    fn name(&self) -> &'static str {
        self.0.name()
    }
}

/// A blocking backend, for tasks.
pub(crate) fn for_tasks(backend: &Arc<dyn Backend>) -> Arc<dyn AsyncBackend> {
    let backend = Arc::clone(backend);
    if backend.blocks() { Arc::new(OnThreads { backend }) } else { Arc::new(AtOnce(backend)) }
}
