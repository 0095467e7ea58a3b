//! `dogpile`: `try_get_or_create` and `try_get_or_create_async`.

#![forbid(unsafe_code)]

use std::time::Duration;

use dogpile::time::ManualClock;
use dogpile::{Cache, CreateError, Policy};

use super::script::{Creation, Failure};
use super::subject::{BRIEF, Blocking, Ending, Polled, ROOM, Setup, Unbuilt};

struct Ours {
    cache: Cache<u64, u64>,
    clock: ManualClock,
}

impl Ours {
    fn build(setup: Setup) -> Result<Ours, Unbuilt> {
        let clock = ManualClock::new();
        let builder = Cache::builder().clock(clock.clone());
        let room = ROOM.into();
        let cache = match setup {
            Setup::Plain => builder.max_entries(room),
            Setup::TimeToLive(time_to_live) => builder.max_entries(room).time_to_live(time_to_live),
            Setup::NoRoom => builder.max_entries(0),
            Setup::Stale => {
                let policy = Policy::builder().fresh(BRIEF).stale(Duration::from_secs(3_600)).build();
                builder.max_entries(room).policy(policy.expect("nothing in it contradicts itself"))
            }
        };
        Ok(Ours { cache: cache.build().map_err(|_| Unbuilt::Refused)?, clock })
    }
    fn get(&self, key: u64) -> Option<u64> {
        self.cache.get_cloned(&key)
    }
    fn expire(&self) {
        self.clock.advance(BRIEF);
    }
}

fn waiting(limit: Duration) -> Policy<u64> {
    Policy::builder().wait(limit).build().expect("nothing in it contradicts itself")
}

fn ending<V: std::ops::Deref<Target = u64>>(result: Result<V, CreateError<Failure>>) -> Ending {
    match result {
        Ok(value) => Ending::Value(*value),
        Err(CreateError::Creator(_)) => Ending::Failed,
        Err(CreateError::TimedOut) => Ending::TimedOut,
        Err(_) => Ending::Refused,
    }
}

pub(super) struct Sync(Ours);

impl Blocking for Sync {
    const NAME: &'static str = "dogpile";
    const PACKAGE: &'static str = "dogpile";
    const CALLS: &'static str = "`Cache::try_get_or_create`; the limit is the policy's `wait`";

    fn build(setup: Setup) -> Result<Self, Unbuilt> {
        Ours::build(setup).map(Sync)
    }
    fn get_or_create(
        &self,
        key: u64,
        creator: impl FnOnce() -> Result<u64, Failure> + Send + 'static,
    ) -> Ending {
        ending(self.0.cache.try_get_or_create(&key, creator))
    }
    fn get_or_create_within(
        &self,
        limit: Duration,
        key: u64,
        creator: impl FnOnce() -> Result<u64, Failure> + Send + 'static,
    ) -> Ending {
        ending(self.0.cache.with(&waiting(limit)).try_get_or_create(&key, creator))
    }
    fn get(&self, key: u64) -> Option<u64> {
        self.0.get(key)
    }
    fn insert(&self, key: u64, value: u64) {
        self.0.cache.insert(key, value);
    }
    fn remove(&self, key: u64) {
        self.0.cache.remove(&key);
    }
    fn clear(&self) {
        self.0.cache.clear();
    }
    fn expire(&self, _: u64) {
        self.0.expire();
    }
}

pub(super) struct Async(Ours);

impl Polled for Async {
    const NAME: &'static str = "dogpile async";
    const PACKAGE: &'static str = "dogpile";
    const CALLS: &'static str = "`Cache::try_get_or_create_async`; the limit is the policy's `wait`";

    fn build(setup: Setup) -> Result<Self, Unbuilt> {
        Ours::build(setup).map(Async)
    }
    async fn get_or_create(&self, key: u64, creator: Creation) -> Ending {
        ending(self.0.cache.try_get_or_create_async(&key, creator).await)
    }
    async fn get_or_create_within(&self, limit: Duration, key: u64, creator: Creation) -> Ending {
        ending(self.0.cache.with(&waiting(limit)).try_get_or_create_async(&key, creator).await)
    }
    async fn get(&self, key: u64) -> Option<u64> {
        self.0.get(key)
    }
    async fn insert(&self, key: u64, value: u64) {
        self.0.cache.insert(key, value);
    }
    async fn remove(&self, key: u64) {
        self.0.cache.remove(&key);
    }
    async fn clear(&self) {
        self.0.cache.clear();
    }
    async fn expire(&self, _: u64) {
        self.0.expire();
    }
}
