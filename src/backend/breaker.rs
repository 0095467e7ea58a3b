//! [`Breaker`]: a store that does not answer is not asked for a while.
//!
//! ```text
//! closed ──`failures` in a row──> open ──`cooldown` over──> one call is let through ──it works──> closed
//!                                  ^                                  └──it fails──┘
//! ```
//!
//! The circuit breaker of Nygard's "Release It!", with one trial call at a time.
//!
//! # Invariants
//! - **B1, one on trial.** Of the calls that find the time over one moves it on, by one compare-and-set, and is let through.
//!   If it never ends, another one is, after the next cooldown.
//! - **B2, only the store's silence counts**: errors of the kinds [`Unavailable`](ErrorKind::Unavailable) and
//!   [`Timeout`](ErrorKind::Timeout). A store that refuses has answered;
//!   a conditional write of nothing, by which its users learn whether it has such a step, has not asked it.
//!
//! # Cost
//! Closed: one load before a call. A failure is a few relaxed stores.
#![forbid(unsafe_code)]

use super::{
    AsyncBackend, AsyncCacheMutex, AsyncProxy, Backend, BoxFuture, CacheMutex, Fence, Proxy, Put, Stored,
};
use crate::error::{Error, ErrorKind};
use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering};
use crate::time::{Clock, CoarseClock};
use std::fmt;
use std::future::ready;
use std::time::Duration;

/// A circuit breaker: after some failures in a row the store is not asked for a while, and calls fail at once. Then one call
/// tries. A region goes on without its store meanwhile, or returns the error, as it was told
/// ([`OnBackendError`](crate::region::OnBackendError)).
///
/// Stores in Redis and memcached that are opened by a URL have one, with the settings `breaker` (failures in a row, 5; 0: none)
/// and `cooldown` (1 s). Others get it by [`wrap`](crate::region::RegionBuilder::wrap), and by `wrap_async` for tasks: clones
/// count together.
///
/// ```
/// use dogpile::backend::{Breaker, MemoryBackend};
/// use dogpile::Region;
/// use std::time::Duration;
///
/// let breaker = Breaker::new(5, Duration::from_secs(1));
/// let region = Region::builder().backend(MemoryBackend::new()).wrap(breaker.clone()).build()?;
/// region.set("key", 1)?;
/// assert!(!breaker.is_open());
/// # Ok::<(), dogpile::Error>(())
/// ```
#[derive(Clone)]
pub struct Breaker {
    state: Arc<State>,
}

struct State {
    failures: u32,
    cooldown: Duration,
    in_a_row: AtomicU32,
    /// When one may try, in nanoseconds of the clock. 0: closed.
    next_try: AtomicU64,
    refused: AtomicU64,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("failures", &self.state.failures)
            .field("cooldown", &self.state.cooldown)
            .field("is_open", &self.is_open())
            .finish()
    }
}

impl Breaker {
    /// Opens after so many failures in a row, at least one, and tries again after `cooldown`.
    #[must_use]
    pub fn new(failures: u32, cooldown: Duration) -> Self {
        Self::with_clock(failures, cooldown, CoarseClock)
    }

    /// The same, by another clock, for tests.
    #[must_use]
    pub fn with_clock(failures: u32, cooldown: Duration, clock: impl Clock + 'static) -> Self {
        Self {
            state: Arc::new(State {
                failures: failures.max(1),
                cooldown,
                in_a_row: AtomicU32::new(0),
                next_try: AtomicU64::new(0),
                refused: AtomicU64::new(0),
                clock: Arc::new(clock),
            }),
        }
    }

    /// Whether calls fail at once now, but for the one that tries.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state.next_try.load(Ordering::Relaxed) != 0
    }

    /// How many calls were not let through so far.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::Relaxed)
    }

    /// # Errors
    /// The store is not to be asked now.
    #[inline]
    fn admit(&self) -> Result<(), Error> {
        match self.state.next_try.load(Ordering::Relaxed) {
            0 => Ok(()),
            next_try => self.try_once(next_try),
        }
    }

    #[cold]
    fn try_once(&self, next_try: u64) -> Result<(), Error> {
        let State { cooldown, clock, refused, .. } = &*self.state;
        let now = clock.now();
        let after = now.saturating_add(*cooldown).as_nanos().max(1);
        // B1.
        if now.as_nanos() >= next_try
            && self
                .state
                .next_try
                .compare_exchange(next_try, after, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            return Ok(());
        }
        refused.fetch_add(1, Ordering::Relaxed);
        Err(Error::new(ErrorKind::Unavailable, "circuit breaker")
            .detail("the store has failed several times in a row and is not asked for a while"))
    }

    fn note<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        let state = &*self.state;
        match &result {
            // B2.
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => {
                let in_a_row = state.in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                if in_a_row >= state.failures {
                    let next_try = state.clock.now().saturating_add(state.cooldown).as_nanos().max(1);
                    state.next_try.store(next_try, Ordering::Relaxed);
                }
            }
            _ if state.in_a_row.load(Ordering::Relaxed) != 0 => {
                state.in_a_row.store(0, Ordering::Relaxed);
                state.next_try.store(0, Ordering::Relaxed);
            }
            _ => {}
        }
        result
    }

    fn guard<T>(&self, call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        self.admit()?;
        self.note(call())
    }

    async fn guard_task<'a, T>(
        &self,
        call: impl FnOnce() -> BoxFuture<'a, Result<T, Error>>,
    ) -> Result<T, Error> {
        self.admit()?;
        // Made only now: a future's work may be done when it is made.
        self.note(call().await)
    }
}

impl Proxy for Breaker {
    fn get(&self, next: &dyn Backend, key: &str) -> Result<Option<Stored>, Error> {
        self.guard(|| next.get(key))
    }
    fn set(&self, next: &dyn Backend, put: Put<'_>) -> Result<(), Error> {
        self.guard(|| next.set(put))
    }
    fn delete(&self, next: &dyn Backend, key: &str) -> Result<bool, Error> {
        self.guard(|| next.delete(key))
    }
    fn get_multi(&self, next: &dyn Backend, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error> {
        self.guard(|| next.get_multi(keys))
    }
    fn set_multi(&self, next: &dyn Backend, puts: &[Put<'_>]) -> Result<(), Error> {
        self.guard(|| next.set_multi(puts))
    }
    fn delete_multi(&self, next: &dyn Backend, keys: &[&str]) -> Result<(), Error> {
        self.guard(|| next.delete_multi(keys))
    }
    fn set_unless(
        &self,
        next: &dyn Backend,
        puts: &[Put<'_>],
        keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
    ) -> Option<Result<Vec<bool>, Error>> {
        if puts.is_empty() {
            return next.set_unless(puts, keeps);
        }
        match self.admit() {
            Ok(()) => next.set_unless(puts, keeps).map(|done| self.note(done)),
            Err(error) => Some(Err(error)),
        }
    }
    fn expire(&self, next: &dyn Backend, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        self.guard(|| next.expire(key, ttl))
    }
    fn clear(&self, next: &dyn Backend, prefix: &str) -> Result<bool, Error> {
        self.guard(|| next.clear(prefix))
    }
    fn len(&self, next: &dyn Backend, prefix: &str) -> Result<Option<u64>, Error> {
        self.guard(|| next.len(prefix))
    }
    fn mutex(&self, next: &dyn Backend, key: &str) -> Option<Box<dyn CacheMutex>> {
        Some(Box::new(Guarded { breaker: self.clone(), mutex: next.mutex(key)? }))
    }
}

impl AsyncProxy for Breaker {
    fn get<'a>(
        &'a self,
        next: &'a dyn AsyncBackend,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Stored>, Error>> {
        Box::pin(self.guard_task(move || next.get(key)))
    }
    fn set<'a>(&'a self, next: &'a dyn AsyncBackend, put: Put<'a>) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.guard_task(move || next.set(put)))
    }
    fn delete<'a>(&'a self, next: &'a dyn AsyncBackend, key: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(self.guard_task(move || next.delete(key)))
    }
    fn get_multi<'a>(
        &'a self,
        next: &'a dyn AsyncBackend,
        keys: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<Option<Stored>>, Error>> {
        Box::pin(self.guard_task(move || next.get_multi(keys)))
    }
    fn set_multi<'a>(
        &'a self,
        next: &'a dyn AsyncBackend,
        puts: &'a [Put<'a>],
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.guard_task(move || next.set_multi(puts)))
    }
    fn delete_multi<'a>(
        &'a self,
        next: &'a dyn AsyncBackend,
        keys: &'a [&'a str],
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.guard_task(move || next.delete_multi(keys)))
    }
    fn set_unless<'a>(
        &'a self,
        next: &'a dyn AsyncBackend,
        puts: &'a [Put<'a>],
        keeps: &'a (dyn Fn(usize, Option<&Stored>) -> bool + Send + Sync),
    ) -> BoxFuture<'a, Option<Result<Vec<bool>, Error>>> {
        if puts.is_empty() {
            return next.set_unless(puts, keeps);
        }
        if let Err(error) = self.admit() {
            return Box::pin(ready(Some(Err(error))));
        }
        Box::pin(async move { next.set_unless(puts, keeps).await.map(|done| self.note(done)) })
    }
    fn expire<'a>(
        &'a self,
        next: &'a dyn AsyncBackend,
        key: &'a str,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(self.guard_task(move || next.expire(key, ttl)))
    }
    fn clear<'a>(
        &'a self,
        next: &'a dyn AsyncBackend,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(self.guard_task(move || next.clear(prefix)))
    }
    fn len<'a>(
        &'a self,
        next: &'a dyn AsyncBackend,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Option<u64>, Error>> {
        Box::pin(self.guard_task(move || next.len(prefix)))
    }
    fn mutex(&self, next: &dyn AsyncBackend, key: &str) -> Option<Box<dyn AsyncCacheMutex>> {
        Some(Box::new(Guarded { breaker: self.clone(), mutex: next.mutex(key)? }))
    }
}

/// A lock of the store's behind the breaker. It is given back in any case.
struct Guarded<M: ?Sized> {
    breaker: Breaker,
    mutex: Box<M>,
}

impl CacheMutex for Guarded<dyn CacheMutex> {
    fn acquire(&self, wait: Duration) -> Result<bool, Error> {
        self.breaker.guard(|| self.mutex.acquire(wait))
    }
    fn release(&self) -> Result<(), Error> {
        self.mutex.release()
    }
    fn locked(&self) -> Result<bool, Error> {
        self.breaker.guard(|| self.mutex.locked())
    }
    fn lease(&self) -> Option<Duration> {
        self.mutex.lease()
    }
    fn fence(&self) -> Option<Fence> {
        self.mutex.fence()
    }
    fn found(&self) -> Option<Option<Stored>> {
        self.mutex.found()
    }
}

impl AsyncCacheMutex for Guarded<dyn AsyncCacheMutex> {
    fn acquire(&self, wait: Duration) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(self.breaker.guard_task(move || self.mutex.acquire(wait)))
    }
    fn release(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.mutex.release()
    }
    fn locked(&self) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(self.breaker.guard_task(|| self.mutex.locked()))
    }
    fn lease(&self) -> Option<Duration> {
        self.mutex.lease()
    }
    fn fence(&self) -> Option<Fence> {
        self.mutex.fence()
    }
    fn found(&self) -> Option<Option<Stored>> {
        self.mutex.found()
    }
}
