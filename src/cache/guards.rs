//! What reads hand out: borrows, pins, batches, iterators.
#![forbid(unsafe_code)]

use super::Cache;
use crate::engine::{Backend, CachedValue, Handle, Held, MOST_AHEAD, Reclaim};
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

/// The answers of [`Cache::get_multi`], in the order of the keys.
pub struct Batch<'p, K, V, S, I: Iterator> {
    cache: &'p Cache<K, V, S>,
    pin: &'p Pinned<'p>,
    keys: I,
    /// Whether lines are worth being fetched ahead.
    ahead: bool,
    group: [Option<I::Item>; MOST_AHEAD],
    hashes: [u64; MOST_AHEAD],
    at: usize,
    len: usize,
}

impl<'p, K, V, S, I: Iterator> Batch<'p, K, V, S, I> {
    #[inline]
    pub(super) fn new(cache: &'p Cache<K, V, S>, keys: I, pin: &'p Pinned<'_>) -> Self {
        Self {
            cache,
            pin,
            keys,
            ahead: cache.engine().is_large(pin.backend()),
            group: [const { None }; MOST_AHEAD],
            hashes: [0; MOST_AHEAD],
            at: 0,
            len: 0,
        }
    }
}

impl<'p, Q, K, V, S, I> Batch<'p, K, V, S, I>
where
    K: Eq + Hash + Borrow<Q>,
    Q: ?Sized + Hash + Eq + 'p,
    S: BuildHasher,
    I: Iterator<Item = &'p Q>,
{
    /// The next key, of a group whose lines are on their way.
    #[inline]
    fn next_ahead(&mut self) -> Option<(u64, &'p Q)> {
        if self.at == self.len {
            self.fetch();
        }
        let key = self.group.get(self.at).copied().flatten()?;
        let hash = self.hashes[self.at];
        self.at += 1;
        Some((hash, key))
    }

    #[inline(never)]
    fn fetch(&mut self) {
        (self.at, self.len) = (0, 0);
        self.group[0] = None;
        while self.len < MOST_AHEAD
            && let Some(key) = self.keys.next()
        {
            self.hashes[self.len] = self.cache.hash(key);
            self.group[self.len] = Some(key);
            self.len += 1;
        }
        self.cache.engine().prefetch(&self.hashes[..self.len], self.pin.backend());
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

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (hash, key) = if self.ahead {
            self.next_ahead()?
        } else {
            let key = self.keys.next()?;
            (self.cache.hash(key), key)
        };
        let found = self.cache.engine().get_in(hash, move |own| own.borrow() == key, self.pin.backend());
        Some(found.map(|node| node.get()))
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
