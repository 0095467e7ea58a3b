//! `cached`: functions under `#[cached(sync_writes = "by_key")]`, its way to one creation per key.
//!
//! The caches are statics that the macro makes, one for each setup; a case has a process of its own, so they are empty. What its
//! documentation advises for stale values is written out in its example `stale_while_revalidate`, section 5, and followed here.

#![forbid(unsafe_code)]

use std::sync::LazyLock;
use std::thread;

use cached::claim::ClaimRegistry;
use cached::macros::cached;
use cached::time::Duration;
use cached::{Cached, CloneCached};

use super::script::{Creation, Failure};
use super::subject::{BRIEF, Blocking, Ending, Polled, Setup, Unbuilt};

/// The macro wants functions whose arguments are no type parameters.
type Creator = Box<dyn FnOnce() -> Result<u64, Failure> + Send>;

const CALLS: &str = "a function under `#[cached(sync_writes = \"by_key\")]`; stale with `cache_peek_with_expiry_status`, `ClaimRegistry`, `_prime_cache`";

/// Which keys are being made anew in the background.
static CLAIMED: LazyLock<ClaimRegistry<u64>> = LazyLock::new(ClaimRegistry::new);

/// Which of the functions below is asked.
#[derive(Clone, Copy)]
enum Function {
    Plain,
    Lasting,
    Stale,
}

impl Function {
    fn of(setup: Setup) -> Result<Function, Unbuilt> {
        match setup {
            Setup::Plain => Ok(Function::Plain),
            Setup::TimeToLive(Duration::MAX) => Ok(Function::Lasting),
            // `ttl_secs = 0` and `max_size = 0` are errors at compile time, and of the builders that the macro calls.
            Setup::TimeToLive(_) | Setup::NoRoom => Err(Unbuilt::Refused),
            Setup::Stale => Ok(Function::Stale),
        }
    }
}

#[cached(sync_writes = "by_key", key = "u64", convert = { _key })]
fn plain(_key: u64, creator: Creator) -> Result<u64, Failure> {
    creator()
}

#[cached(sync_writes = "by_key", key = "u64", convert = { _key }, ttl = "Duration::MAX")]
fn lasting(_key: u64, creator: Creator) -> Result<u64, Failure> {
    creator()
}

#[cached(sync_writes = "by_key", key = "u64", convert = { _key }, ttl = "BRIEF", name = "BRIEF_ONES")]
fn brief(_key: u64, creator: Creator) -> Result<u64, Failure> {
    creator()
}

pub(super) struct Sync(Function);

impl Blocking for Sync {
    const NAME: &'static str = "cached";
    const PACKAGE: &'static str = "cached";
    const CALLS: &'static str = CALLS;

    fn build(setup: Setup) -> Result<Self, Unbuilt> {
        Function::of(setup).map(Sync)
    }
    fn get_or_create(
        &self,
        key: u64,
        creator: impl FnOnce() -> Result<u64, Failure> + Send + 'static,
    ) -> Ending {
        let creator = Box::new(creator);
        match self.0 {
            Function::Plain => Ending::of(plain(key, creator)),
            Function::Lasting => Ending::of(lasting(key, creator)),
            Function::Stale => {
                let peeked = BRIEF_ONES.read().cache_peek_with_expiry_status(&key);
                match peeked {
                    (Some(value), false) => Ending::Value(value),
                    (Some(stale), true) => {
                        if let Some(claim) = CLAIMED.claim(key) {
                            thread::spawn(move || brief_prime_cache(*claim.key(), creator));
                        }
                        Ending::Value(stale)
                    }
                    (None, _) => Ending::of(brief(key, creator)),
                }
            }
        }
    }
    fn get(&self, key: u64) -> Option<u64> {
        match self.0 {
            Function::Plain => PLAIN.write().cache_get(&key).copied(),
            Function::Lasting => LASTING.write().cache_get(&key).copied(),
            Function::Stale => {
                let (value, is_expired) = BRIEF_ONES.read().cache_peek_with_expiry_status(&key);
                value.filter(|_| !is_expired)
            }
        }
    }
    fn insert(&self, key: u64, value: u64) {
        PLAIN.write().cache_set(key, value);
    }
    fn remove(&self, key: u64) {
        let _ = PLAIN.write().cache_remove(&key);
    }
    fn clear(&self) {
        PLAIN.write().cache_clear();
    }
}

/// The same for functions that are `async`, whose caches are behind a lock that is too.
pub(super) struct Async(Function);

#[cached(sync_writes = "by_key", key = "u64", convert = { _key })]
async fn plain_async(_key: u64, creator: Creation) -> Result<u64, Failure> {
    creator.await
}

#[cached(sync_writes = "by_key", key = "u64", convert = { _key }, ttl = "Duration::MAX")]
async fn lasting_async(_key: u64, creator: Creation) -> Result<u64, Failure> {
    creator.await
}

#[cached(sync_writes = "by_key", key = "u64", convert = { _key }, ttl = "BRIEF", name = "BRIEF_ASYNC_ONES")]
async fn brief_async(_key: u64, creator: Creation) -> Result<u64, Failure> {
    creator.await
}

impl Polled for Async {
    const NAME: &'static str = "cached async";
    const PACKAGE: &'static str = "cached";
    const CALLS: &'static str = CALLS;

    fn build(setup: Setup) -> Result<Self, Unbuilt> {
        Function::of(setup).map(Async)
    }
    async fn get_or_create(&self, key: u64, creator: Creation) -> Ending {
        match self.0 {
            Function::Plain => Ending::of(plain_async(key, creator).await),
            Function::Lasting => Ending::of(lasting_async(key, creator).await),
            Function::Stale => {
                let peeked = BRIEF_ASYNC_ONES.read().await.cache_peek_with_expiry_status(&key);
                match peeked {
                    (Some(value), false) => Ending::Value(value),
                    (Some(stale), true) => {
                        if let Some(claim) = CLAIMED.claim(key) {
                            tokio::spawn(async move { brief_async_prime_cache(*claim.key(), creator).await });
                        }
                        Ending::Value(stale)
                    }
                    (None, _) => Ending::of(brief_async(key, creator).await),
                }
            }
        }
    }
    async fn get(&self, key: u64) -> Option<u64> {
        match self.0 {
            Function::Plain => PLAIN_ASYNC.write().await.cache_get(&key).copied(),
            Function::Lasting => LASTING_ASYNC.write().await.cache_get(&key).copied(),
            Function::Stale => {
                let (value, is_expired) = BRIEF_ASYNC_ONES.read().await.cache_peek_with_expiry_status(&key);
                value.filter(|_| !is_expired)
            }
        }
    }
    async fn insert(&self, key: u64, value: u64) {
        PLAIN_ASYNC.write().await.cache_set(key, value);
    }
    async fn remove(&self, key: u64) {
        let _ = PLAIN_ASYNC.write().await.cache_remove(&key);
    }
    async fn clear(&self) {
        PLAIN_ASYNC.write().await.cache_clear();
    }
}
