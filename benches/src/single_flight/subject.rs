//! What a library must be able to do to be asked.
//!
//! A new one is a file with an implementation of [`Blocking`] or [`Polled`], and a line in `SUBJECTS`.

#![forbid(unsafe_code)]

use std::thread;
use std::time::Duration;

use super::script::{Creation, Failure};

/// How a cache is to be built, with room for some hundreds of entries unless it says otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) enum Setup {
    Plain,
    TimeToLive(Duration),
    /// A capacity of zero.
    NoRoom,
    /// Entries expire soon, and then are served stale while somebody makes them anew, if the library can do that.
    Stale,
}

/// Why a cache was not built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unbuilt {
    /// The library has no such setting.
    Lacking,
    /// It has, and does not take this value.
    Refused,
    Panicked,
}

/// The time to live under [`Setup::Stale`]. Short, because a library without a clock to turn is waited for.
pub(super) const BRIEF: Duration = Duration::from_millis(1);

/// Entries a cache has room for, unless a case is about that.
pub(super) const ROOM: u32 = 1_000;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Value(u64),
    /// With the creator's own error.
    Failed,
    /// With an error of the library.
    Refused,
    /// Within the caller's limit nothing came.
    TimedOut,
    /// There is no such call.
    Lacking,
    Panicked,
}

impl Ending {
    /// For libraries that hand through the creator's error, counted or not, and have none of their own.
    pub(super) fn of<E>(result: Result<u64, E>) -> Ending {
        result.map_or(Ending::Failed, Ending::Value)
    }
}

/// A cache whose callers block their threads.
pub(super) trait Blocking: Sized + Send + Sync + 'static {
    /// As in the table.
    const NAME: &'static str;
    /// As in `Cargo.lock`.
    const PACKAGE: &'static str;
    /// What its documentation recommends for one creation per key, and is called here.
    const CALLS: &'static str;

    fn build(setup: Setup) -> Result<Self, Unbuilt>;
    fn get_or_create(
        &self,
        key: u64,
        creator: impl FnOnce() -> Result<u64, Failure> + Send + 'static,
    ) -> Ending;
    /// The same for a caller who does not want to wait longer than `limit` for somebody else's creator.
    fn get_or_create_within(
        &self,
        _limit: Duration,
        _key: u64,
        _creator: impl FnOnce() -> Result<u64, Failure> + Send + 'static,
    ) -> Ending {
        Ending::Lacking
    }
    fn get(&self, key: u64) -> Option<u64>;
    fn insert(&self, key: u64, value: u64);
    fn remove(&self, key: u64);
    fn clear(&self);
    /// Returns when the entry that [`Setup::Stale`] lets expire has expired.
    fn expire(&self, key: u64) {
        while self.get(key).is_some() {
            thread::yield_now();
        }
    }
}

/// A cache whose callers are futures.
pub(super) trait Polled: Sized + Send + Sync + 'static {
    const NAME: &'static str;
    const PACKAGE: &'static str;
    const CALLS: &'static str;

    fn build(setup: Setup) -> Result<Self, Unbuilt>;
    fn get_or_create(&self, key: u64, creator: Creation) -> impl Future<Output = Ending> + Send;
    /// The same for a caller who does not want to wait longer than `limit`.
    fn get_or_create_within(
        &self,
        limit: Duration,
        key: u64,
        creator: Creation,
    ) -> impl Future<Output = Ending> + Send {
        async move {
            let ending = tokio::time::timeout(limit, self.get_or_create(key, creator)).await;
            ending.unwrap_or(Ending::TimedOut)
        }
    }
    fn get(&self, key: u64) -> impl Future<Output = Option<u64>> + Send;
    fn insert(&self, key: u64, value: u64) -> impl Future<Output = ()> + Send;
    fn remove(&self, key: u64) -> impl Future<Output = ()> + Send;
    fn clear(&self) -> impl Future<Output = ()> + Send;
    fn expire(&self, key: u64) -> impl Future<Output = ()> + Send {
        async move {
            while self.get(key).await.is_some() {
                tokio::task::yield_now().await;
            }
        }
    }
}
