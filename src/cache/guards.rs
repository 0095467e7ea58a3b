//! What reads hand out: borrows, pins, batches, iterators.
#![forbid(unsafe_code)]

use super::Cache;
use crate::engine::{Backend, CachedValue, Handle, Held, Reclaim};
use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::ops::Deref;

/// A borrowed entry, from [`Cache::get`]. Derefs to the value.
///
/// Holds up nobody, and keeps the memory of its own entry only. It stays on its thread; to cross threads or awaits,
/// take a [`Handle`] with [`to_handle`](Self::to_handle) or [`Cache::get_handle`].
pub struct Ref<'c, K, V> {
    held: Held<'c, CachedValue<K, V>>,
}

impl<'c, K, V> Ref<'c, K, V> {
    #[inline]
    pub(super) fn new(held: Held<'c, CachedValue<K, V>>) -> Self {
        Self { held }
    }

    /// The whole entry: key, value, weight, deadline.
    pub fn entry(&self) -> &CachedValue<K, V> {
        self.held.get()
    }

    /// The entry's key.
    pub fn key(&self) -> &K {
        self.entry().key()
    }

    /// The entry's value.
    #[inline]
    pub fn value(&self) -> &V {
        self.held.get().value()
    }

    /// A counted pointer to the same entry.
    ///
    /// ```
    /// let cache = dogpile::Cache::new(10);
    /// cache.insert(1, "one");
    /// let handle = cache.get(&1).unwrap().to_handle();
    /// assert_eq!((*handle.key(), *handle), (1, "one"));
    /// ```
    #[must_use]
    pub fn to_handle(&self) -> Handle<K, V> {
        Handle::share(self.held.shared())
    }
}

impl<K, V> Deref for Ref<'_, K, V> {
    type Target = V;
    #[inline]
    fn deref(&self) -> &V {
        self.value()
    }
}

impl<K, V> fmt::Debug for Ref<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ref").field(self.entry()).finish()
    }
}

/// A pinned thread, from [`Cache::pin`]: what is found under it stays until it is dropped.
///
/// While it lives, nothing that is taken out of any cache of the process is freed.
pub struct Pinned<'c> {
    pin: <Backend as Reclaim>::Pin,
    cache: PhantomData<&'c ()>,
}

impl Pinned<'_> {
    pub(super) fn new(pin: <Backend as Reclaim>::Pin) -> Self {
        Self { pin, cache: PhantomData }
    }

    #[inline]
    pub(super) fn backend(&self) -> &<Backend as Reclaim>::Pin {
        &self.pin
    }
}

impl fmt::Debug for Pinned<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pinned")
    }
}

/// Keys that are looked up, and fetched ahead, together.
const GROUP: usize = 32;

/// The answers of [`Cache::get_multi`], in the order of the keys.
pub struct Batch<'p, K, V, S, I: Iterator> {
    cache: &'p Cache<K, V, S>,
    pin: &'p Pinned<'p>,
    keys: I,
    group: [Option<(u64, I::Item)>; GROUP],
    at: usize,
}

impl<'p, K, V, S, I: Iterator> Batch<'p, K, V, S, I> {
    pub(super) fn new(cache: &'p Cache<K, V, S>, keys: I, pin: &'p Pinned<'_>) -> Self {
        Self { cache, pin, keys, group: [const { None }; GROUP], at: GROUP }
    }
}

impl<'p, Q, K, V, S, I> Iterator for Batch<'p, K, V, S, I>
where
    K: Eq + Hash + Borrow<Q>,
    Q: ?Sized + Hash + Eq + 'p,
    S: BuildHasher,
    I: Iterator<Item = &'p Q>,
{
    type Item = Option<&'p CachedValue<K, V>>;

    fn next(&mut self) -> Option<Self::Item> {
        let pin = self.pin.backend();
        if self.at == GROUP {
            let mut hashes = [0; GROUP];
            let mut len = 0;
            for (place, hash) in self.group.iter_mut().zip(&mut hashes) {
                *place = self.keys.next().map(|key| (self.cache.hash(key), key));
                let Some((own, _)) = place else { break };
                *hash = *own;
                len += 1;
            }
            self.cache.engine().prefetch(&hashes[..len], pin);
            self.at = 0;
        }
        let (hash, key) = self.group[self.at].take()?;
        self.at += 1;
        Some(self.cache.engine().get_in(hash, |own| own.borrow() == key, pin).map(|node| node.get()))
    }
}

impl<K, V, S, I: Iterator> fmt::Debug for Batch<'_, K, V, S, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Batch")
    }
}

/// The entries of a cache, one after another: see [`Cache::iter`].
pub struct Iter<'c, K, V, S> {
    cache: &'c Cache<K, V, S>,
    shard: usize,
    cursor: u64,
    found: Vec<Handle<K, V>>,
}

impl<'c, K, V, S> Iter<'c, K, V, S> {
    pub(super) fn new(cache: &'c Cache<K, V, S>) -> Self {
        Self { cache, shard: 0, cursor: 0, found: Vec::new() }
    }
}

impl<K, V, S> Iterator for Iter<'_, K, V, S> {
    type Item = Handle<K, V>;

    fn next(&mut self) -> Option<Handle<K, V>> {
        while self.found.is_empty() && self.shard < self.cache.shards() {
            let engine = self.cache.engine();
            self.cursor = engine.scan(self.shard, self.cursor, &mut self.found);
            if self.cursor == 0 {
                self.shard += 1;
            }
        }
        self.found.pop()
    }
}

impl<K, V, S> std::iter::FusedIterator for Iter<'_, K, V, S> {}

impl<K, V, S> fmt::Debug for Iter<'_, K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("shard", &self.shard).finish_non_exhaustive()
    }
}
