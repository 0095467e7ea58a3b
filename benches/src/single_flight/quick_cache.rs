//! quick_cache: `get_or_insert_with` and `get_or_insert_async` of its one cache. It knows no time.

#![forbid(unsafe_code)]

use std::time::Duration;

use quick_cache::sync::{Cache, GuardResult};

use super::script::{Creation, Failure};
use super::subject::{Blocking, Ending, Polled, ROOM, Setup, Unbuilt};

fn build(setup: Setup) -> Result<Cache<u64, u64>, Unbuilt> {
    match setup {
        Setup::Plain => Ok(Cache::new(ROOM as usize)),
        Setup::NoRoom => Ok(Cache::new(0)),
        Setup::TimeToLive(_) | Setup::Stale => Err(Unbuilt::Lacking),
    }
}

pub(super) struct Sync(Cache<u64, u64>);

impl Blocking for Sync {
    const NAME: &'static str = "quick_cache";
    const PACKAGE: &'static str = "quick_cache";
    const CALLS: &'static str =
        "`sync::Cache::get_or_insert_with`; with a limit `get_value_or_guard`, which takes one";

    fn build(setup: Setup) -> Result<Self, Unbuilt> {
        build(setup).map(Sync)
    }
    fn get_or_create(
        &self,
        key: u64,
        creator: impl FnOnce() -> Result<u64, Failure> + Send + 'static,
    ) -> Ending {
        Ending::of(self.0.get_or_insert_with(&key, creator))
    }
    fn get_or_create_within(
        &self,
        limit: Duration,
        key: u64,
        creator: impl FnOnce() -> Result<u64, Failure> + Send + 'static,
    ) -> Ending {
        match self.0.get_value_or_guard(&key, Some(limit)) {
            GuardResult::Value(value) => Ending::Value(value),
            GuardResult::Timeout => Ending::TimedOut,
            GuardResult::Guard(guard) => {
                let result = creator();
                if let Ok(value) = result {
                    // An error: somebody removed the key meanwhile.
                    let _ = guard.insert(value);
                }
                Ending::of(result)
            }
        }
    }
    fn get(&self, key: u64) -> Option<u64> {
        self.0.get(&key)
    }
    fn insert(&self, key: u64, value: u64) {
        self.0.insert(key, value);
    }
    fn remove(&self, key: u64) {
        self.0.remove(&key);
    }
    fn clear(&self) {
        self.0.clear();
    }
}

pub(super) struct Async(Cache<u64, u64>);

impl Polled for Async {
    const NAME: &'static str = "quick_cache async";
    const PACKAGE: &'static str = "quick_cache";
    const CALLS: &'static str = "`sync::Cache::get_or_insert_async`";

    fn build(setup: Setup) -> Result<Self, Unbuilt> {
        build(setup).map(Async)
    }
    async fn get_or_create(&self, key: u64, creator: Creation) -> Ending {
        Ending::of(self.0.get_or_insert_async(&key, creator).await)
    }
    async fn get(&self, key: u64) -> Option<u64> {
        self.0.get(&key)
    }
    async fn insert(&self, key: u64, value: u64) {
        self.0.insert(key, value);
    }
    async fn remove(&self, key: u64) {
        self.0.remove(&key);
    }
    async fn clear(&self) {
        self.0.clear();
    }
}
