//! moka: `try_get_with` of both its caches.

#![forbid(unsafe_code)]

use super::script::{Creation, Failure};
use super::subject::{BRIEF, Blocking, Ending, Polled, ROOM, Setup, Unbuilt};

pub(super) struct Sync(moka::sync::Cache<u64, u64>);

impl Blocking for Sync {
    const NAME: &'static str = "moka sync";
    const PACKAGE: &'static str = "moka";
    const CALLS: &'static str = "`sync::Cache::try_get_with`, `invalidate`, `invalidate_all`";

    fn build(setup: Setup) -> Result<Self, Unbuilt> {
        let builder = moka::sync::Cache::builder().max_capacity(ROOM.into());
        Ok(Sync(match setup {
            Setup::Plain => builder.build(),
            Setup::TimeToLive(time_to_live) => builder.time_to_live(time_to_live).build(),
            Setup::NoRoom => builder.max_capacity(0).build(),
            // There is no stale value; it shows what a second caller gets instead.
            Setup::Stale => builder.time_to_live(BRIEF).build(),
        }))
    }
    fn get_or_create(
        &self,
        key: u64,
        creator: impl FnOnce() -> Result<u64, Failure> + Send + 'static,
    ) -> Ending {
        Ending::of(self.0.try_get_with(key, creator))
    }
    fn get(&self, key: u64) -> Option<u64> {
        self.0.get(&key)
    }
    fn insert(&self, key: u64, value: u64) {
        self.0.insert(key, value);
    }
    fn remove(&self, key: u64) {
        self.0.invalidate(&key);
    }
    fn clear(&self) {
        self.0.invalidate_all();
    }
}

pub(super) struct Future(moka::future::Cache<u64, u64>);

impl Polled for Future {
    const NAME: &'static str = "moka future";
    const PACKAGE: &'static str = "moka";
    const CALLS: &'static str = "`future::Cache::try_get_with`, `invalidate`, `invalidate_all`";

    fn build(setup: Setup) -> Result<Self, Unbuilt> {
        let builder = moka::future::Cache::builder().max_capacity(ROOM.into());
        Ok(Future(match setup {
            Setup::Plain => builder.build(),
            Setup::TimeToLive(time_to_live) => builder.time_to_live(time_to_live).build(),
            Setup::NoRoom => builder.max_capacity(0).build(),
            Setup::Stale => builder.time_to_live(BRIEF).build(),
        }))
    }
    async fn get_or_create(&self, key: u64, creator: Creation) -> Ending {
        Ending::of(self.0.try_get_with(key, creator).await)
    }
    async fn get(&self, key: u64) -> Option<u64> {
        self.0.get(&key).await
    }
    async fn insert(&self, key: u64, value: u64) {
        self.0.insert(key, value).await;
    }
    async fn remove(&self, key: u64) {
        self.0.invalidate(&key).await;
    }
    async fn clear(&self) {
        self.0.invalidate_all();
    }
}
