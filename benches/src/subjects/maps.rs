//! Maps: they never evict, so they take part where nothing is to be evicted.

#![forbid(unsafe_code)]

use super::{Hasher, Pace, Setup, Shared, Subject, hasher, read_with};
use crate::keys::{Key, Tally};

fn entries(setup: &Setup) -> usize {
    setup.capacity.map_or(0, |capacity| usize::try_from(capacity).expect("a capacity is an amount of memory"))
}

/// The limit: one thread, no sharing, no eviction.
pub(crate) struct Hashbrown<K>(hashbrown::HashMap<K, u64, Hasher>);

impl<K: Key> Subject<K> for Hashbrown<K> {
    const NAME: &'static str = "hashbrown";
    const PACKAGE: &'static str = "hashbrown";

    fn build(setup: &Setup) -> Self {
        Hashbrown(hashbrown::HashMap::with_capacity_and_hasher(entries(setup), hasher()))
    }
    fn settings(_: &Setup) -> String {
        String::from("plain map, one thread")
    }
    #[inline(always)]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.get(key).copied()
    }
    #[inline]
    fn put(&mut self, key: K, value: u64) {
        self.0.insert(key, value);
    }
}

pub(crate) struct DashMap<K>(dashmap::DashMap<K, u64, Hasher>);

impl<K: Key> Subject<K> for DashMap<K> {
    const NAME: &'static str = "dashmap";
    const PACKAGE: &'static str = "dashmap";

    fn build(setup: &Setup) -> Self {
        DashMap(dashmap::DashMap::with_capacity_and_hasher(entries(setup), hasher()))
    }
    fn settings(_: &Setup) -> String {
        String::from("map, default shards")
    }
    #[inline(always)]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.get(key).map(|value| *value)
    }
    fn put(&mut self, key: K, value: u64) {
        self.insert(key, value);
    }
}

impl<K: Key> Shared<K> for DashMap<K> {
    #[inline]
    fn insert(&self, key: K, value: u64) {
        self.0.insert(key, value);
    }
    #[inline]
    fn remove(&self, key: &K) {
        self.0.remove(key);
    }
}

type PapayaMap<K> = papaya::HashMap<K, u64, Hasher>;

fn papaya_map<K: Key>(setup: &Setup) -> PapayaMap<K> {
    papaya::HashMap::builder().capacity(entries(setup)).hasher(hasher()).build()
}

/// papaya, pinned anew for each operation as a cache's caller would.
pub(crate) struct Papaya<K>(PapayaMap<K>);

impl<K: Key> Subject<K> for Papaya<K> {
    const NAME: &'static str = "papaya";
    const PACKAGE: &'static str = "papaya";

    fn build(setup: &Setup) -> Self {
        Papaya(papaya_map(setup))
    }
    fn settings(_: &Setup) -> String {
        String::from("map, pin per operation, incremental resize")
    }
    #[inline(always)]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.pin().get(key).copied()
    }
    fn put(&mut self, key: K, value: u64) {
        self.insert(key, value);
    }
}

impl<K: Key> Shared<K> for Papaya<K> {
    #[inline]
    fn insert(&self, key: K, value: u64) {
        self.0.pin().insert(key, value);
    }
    #[inline]
    fn remove(&self, key: &K) {
        self.0.pin().remove(key);
    }
}

/// papaya with one pin for a whole loop.
pub(crate) struct PapayaPinned<K>(PapayaMap<K>);

impl<K: Key> Subject<K> for PapayaPinned<K> {
    const NAME: &'static str = "papaya pinned";
    const PACKAGE: &'static str = "papaya";

    fn build(setup: &Setup) -> Self {
        PapayaPinned(papaya_map(setup))
    }
    fn settings(_: &Setup) -> String {
        String::from("map, one pin for the loop")
    }
    #[inline(always)]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.pin().get(key).copied()
    }
    fn put(&mut self, key: K, value: u64) {
        self.0.pin().insert(key, value);
    }
    #[inline]
    fn read(&self, keys: &[K], pace: Pace) -> Tally {
        let pinned = self.0.pin();
        read_with(keys, pace, |key| pinned.get(key).copied())
    }
}

/// scc's `HashIndex`, made for reads: it has no way to replace a value in one step.
pub(crate) struct SccIndex<K: Key>(scc::HashIndex<K, u64, Hasher>);

impl<K: Key> Subject<K> for SccIndex<K> {
    const NAME: &'static str = "scc HashIndex";
    const PACKAGE: &'static str = "scc";

    fn build(setup: &Setup) -> Self {
        SccIndex(scc::HashIndex::with_capacity_and_hasher(entries(setup), hasher()))
    }
    fn settings(_: &Setup) -> String {
        String::from("map for reads, peek_with")
    }
    #[inline(always)]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.peek_with(key, |_, value| *value)
    }
    fn put(&mut self, key: K, value: u64) {
        self.insert(key, value);
    }
}

impl<K: Key> Shared<K> for SccIndex<K> {
    #[inline]
    fn insert(&self, key: K, value: u64) {
        // An error gives back a key that is there already; the benches insert new keys here.
        drop(self.0.insert_sync(key, value));
    }
    #[inline]
    fn remove(&self, key: &K) {
        self.0.remove_sync(key);
    }
}
