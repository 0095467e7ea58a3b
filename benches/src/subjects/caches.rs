//! The bounded caches among the peers.

#![forbid(unsafe_code)]

use super::{Hasher, OnDemand, Setup, Shared, Subject, hasher};
use crate::keys::Key;

fn bound(setup: &Setup) -> usize {
    usize::try_from(setup.bound()).expect("a capacity is an amount of memory")
}

pub(crate) struct Moka<K>(moka::sync::Cache<K, u64, Hasher>);

impl<K: Key> Subject<K> for Moka<K> {
    const NAME: &'static str = "moka";
    const PACKAGE: &'static str = "moka";

    fn build(setup: &Setup) -> Self {
        let builder = moka::sync::Cache::builder().max_capacity(setup.bound());
        let builder = match setup.time_to_live {
            Some(time_to_live) => builder.time_to_live(time_to_live),
            None => builder,
        };
        Moka(builder.build_with_hasher(hasher()))
    }
    fn settings(_: &Setup) -> String {
        String::from("sync, TinyLFU")
    }
    #[inline(always)]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.get(key)
    }
    fn put(&mut self, key: K, value: u64) {
        self.insert(key, value);
    }
    fn settle(&mut self) {
        self.0.run_pending_tasks();
    }
}

impl<K: Key> OnDemand<K> for Moka<K> {
    #[inline(always)]
    fn get_or_create(&self, key: &K, make: impl FnOnce() -> u64) -> u64 {
        self.0.get_with_by_ref(key, make)
    }
}

impl<K: Key> Shared<K> for Moka<K> {
    #[inline]
    fn insert(&self, key: K, value: u64) {
        self.0.insert(key, value);
    }
    #[inline]
    fn remove(&self, key: &K) {
        self.0.invalidate(key);
    }
}

pub(crate) struct QuickCache<K>(quick_cache::sync::Cache<K, u64, quick_cache::UnitWeighter, Hasher>);

impl<K: Key> Subject<K> for QuickCache<K> {
    const NAME: &'static str = "quick_cache";
    const PACKAGE: &'static str = "quick_cache";

    fn build(setup: &Setup) -> Self {
        QuickCache(quick_cache::sync::Cache::with(
            bound(setup),
            setup.bound(),
            quick_cache::UnitWeighter,
            hasher(),
            quick_cache::sync::DefaultLifecycle::default(),
        ))
    }
    fn settings(_: &Setup) -> String {
        String::from("sync, default shards")
    }
    #[inline(always)]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.get(key)
    }
    fn put(&mut self, key: K, value: u64) {
        self.insert(key, value);
    }
}

impl<K: Key> OnDemand<K> for QuickCache<K> {
    #[inline(always)]
    fn get_or_create(&self, key: &K, make: impl FnOnce() -> u64) -> u64 {
        let Ok(value) = self.0.get_or_insert_with(key, || Ok::<_, std::convert::Infallible>(make()));
        value
    }
}

impl<K: Key> Shared<K> for QuickCache<K> {
    #[inline]
    fn insert(&self, key: K, value: u64) {
        self.0.insert(key, value);
    }
    #[inline]
    fn remove(&self, key: &K) {
        self.0.remove(key);
    }
}

pub(crate) struct Foyer<K: Key>(foyer_memory::Cache<K, u64, Hasher>);

impl<K: Key> Subject<K> for Foyer<K> {
    const NAME: &'static str = "foyer";
    const PACKAGE: &'static str = "foyer-memory";

    fn build(setup: &Setup) -> Self {
        let builder = foyer_memory::CacheBuilder::new(bound(setup));
        Foyer(
            builder
                .with_eviction_config(foyer_memory::S3FifoConfig::default())
                .with_hash_builder(hasher())
                .build(),
        )
    }
    fn settings(_: &Setup) -> String {
        String::from("memory cache, S3-FIFO, default 8 shards")
    }
    #[inline(always)]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.get(key).map(|entry| *entry.value())
    }
    fn put(&mut self, key: K, value: u64) {
        self.insert(key, value);
    }
}

impl<K: Key> Shared<K> for Foyer<K> {
    #[inline]
    fn insert(&self, key: K, value: u64) {
        drop(self.0.insert(key, value));
    }
    #[inline]
    fn remove(&self, key: &K) {
        drop(self.0.remove(key));
    }
}

/// `cached`'s store for several threads with a bound.
pub(crate) struct Cached<K>(cached::ShardedLruCache<K, u64, Hasher>);

impl<K: Key> Subject<K> for Cached<K> {
    const NAME: &'static str = "cached";
    const PACKAGE: &'static str = "cached";

    fn build(setup: &Setup) -> Self {
        let builder = cached::ShardedLruCache::builder().max_size(bound(setup)).hasher(hasher());
        Cached(builder.build().expect("the bound is not zero"))
    }
    fn settings(_: &Setup) -> String {
        String::from("ShardedLruCache, default shards; inner ahash seeded at random")
    }
    #[inline(always)]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.get(key)
    }
    fn put(&mut self, key: K, value: u64) {
        self.insert(key, value);
    }
}

impl<K: Key> Shared<K> for Cached<K> {
    #[inline]
    fn insert(&self, key: K, value: u64) {
        self.0.set(key, value);
    }
    #[inline]
    fn remove(&self, key: &K) {
        self.0.remove(key);
    }
}

/// The same with a time to live, which is another type there.
pub(crate) struct CachedTtl<K>(cached::ShardedLruTtlCache<K, u64, Hasher>);

impl<K: Key> Subject<K> for CachedTtl<K> {
    const NAME: &'static str = "cached";
    const PACKAGE: &'static str = "cached";

    fn build(setup: &Setup) -> Self {
        let builder = cached::ShardedLruTtlCache::builder()
            .max_size(bound(setup))
            .ttl(setup.time_to_live.expect("this store always has a time to live"))
            .hasher(hasher());
        CachedTtl(builder.build().expect("bound and time to live are not zero"))
    }
    fn settings(_: &Setup) -> String {
        String::from("ShardedLruTtlCache, default shards; inner ahash seeded at random")
    }
    #[inline(always)]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.get(key)
    }
    #[inline]
    fn put(&mut self, key: K, value: u64) {
        self.0.set(key, value);
    }
}

pub(crate) struct TinyUfo<K>(tinyufo::TinyUfo<K, u64>);

impl<K: Key> Subject<K> for TinyUfo<K> {
    const NAME: &'static str = "TinyUFO";
    const PACKAGE: &'static str = "TinyUFO";

    fn build(setup: &Setup) -> Self {
        TinyUfo(tinyufo::TinyUfo::new(bound(setup), bound(setup)))
    }
    fn settings(_: &Setup) -> String {
        String::from("fast buckets; own ahash, seeded at random; keeps no keys")
    }
    #[inline(always)]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.get(key)
    }
    fn put(&mut self, key: K, value: u64) {
        self.insert(key, value);
    }
}

impl<K: Key> Shared<K> for TinyUfo<K> {
    #[inline]
    fn insert(&self, key: K, value: u64) {
        drop(self.0.put(key, value, 1));
    }
    #[inline]
    fn remove(&self, key: &K) {
        self.0.remove(key);
    }
}

/// scc's `HashCache`: 32-way associative, so it evicts before it is full and gets more room where all must stay. It starts
/// at its full size: while it grows it evicts too.
pub(crate) struct SccCache<K: Key>(scc::HashCache<K, u64, Hasher>);

impl<K: Key> Subject<K> for SccCache<K> {
    const NAME: &'static str = "scc HashCache";
    const PACKAGE: &'static str = "scc";

    fn build(setup: &Setup) -> Self {
        let capacity = bound(setup) * if setup.keeps_all { 4 } else { 1 };
        SccCache(scc::HashCache::with_capacity_and_hasher(capacity, capacity, hasher()))
    }
    fn settings(setup: &Setup) -> String {
        let room = if setup.keeps_all { "4 x the capacity" } else { "capacity" };
        format!("32-way, {room} rounded up to a power of two")
    }
    #[inline(always)]
    fn get(&self, key: &K) -> Option<u64> {
        // `read_sync` would not tell the policy; `get_sync` is the read of a cache.
        self.0.get_sync(key).map(|entry| *entry.get())
    }
    fn put(&mut self, key: K, value: u64) {
        self.insert(key, value);
    }
}

impl<K: Key> Shared<K> for SccCache<K> {
    #[inline]
    fn insert(&self, key: K, value: u64) {
        self.0.entry_sync(key).put_entry(value);
    }
    #[inline]
    fn remove(&self, key: &K) {
        self.0.remove_sync(key);
    }
}
