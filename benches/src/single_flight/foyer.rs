//! foyer's memory cache: `get_or_fetch`, which spawns the creator as a task of its own. It knows no time.

#![forbid(unsafe_code)]

use foyer_memory::{Cache, CacheBuilder};

use super::script::{Creation, Failure};
use super::subject::{Ending, Polled, ROOM, Setup, Unbuilt};

pub(super) struct Foyer(Cache<u64, u64>);

impl Polled for Foyer {
    const NAME: &'static str = "foyer";
    const PACKAGE: &'static str = "foyer-memory";
    const CALLS: &'static str = "`Cache::get_or_fetch`";

    fn build(setup: Setup) -> Result<Self, Unbuilt> {
        let capacity = match setup {
            Setup::Plain => ROOM as usize,
            Setup::NoRoom => 0,
            Setup::TimeToLive(_) | Setup::Stale => return Err(Unbuilt::Lacking),
        };
        Ok(Foyer(CacheBuilder::new(capacity).build()))
    }
    async fn get_or_create(&self, key: u64, creator: Creation) -> Ending {
        match self.0.get_or_fetch(&key, || creator).await {
            Ok(entry) => Ending::Value(*entry.value()),
            Err(error) if error.downcast_ref::<Failure>().is_some() => Ending::Failed,
            Err(_) => Ending::Refused,
        }
    }
    async fn get(&self, key: u64) -> Option<u64> {
        self.0.get(&key).map(|entry| *entry.value())
    }
    async fn insert(&self, key: u64, value: u64) {
        drop(self.0.insert(key, value));
    }
    async fn remove(&self, key: u64) {
        drop(self.0.remove(&key));
    }
    async fn clear(&self) {
        self.0.clear();
    }
}
