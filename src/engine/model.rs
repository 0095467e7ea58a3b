//! The door of `loom-tests` to the engine. Only in builds with `--cfg dogpile_loom`.
//!
//! What is `pub(crate)` can't be re-exported to another crate. So each type here holds the shipped one of its name, and
//! each method calls the shipped one of its name; what is checked is all on the other side.
#![forbid(unsafe_code)]
#![expect(missing_docs, missing_debug_implementations, reason = "for the models only")]

pub use super::reclaim::LimboDoor as Limbo;

use super::reclaim::{Held, Modelled, Reclaim};
use super::table::CachedValue;
use super::{Handle, Lifetimes, Limit, Mode, weight};
use std::ops::Deref;
use std::time::Duration;

type Shipped<V, const ENDS: bool> = super::Engine<u64, V, Modelled<ENDS>>;

/// The engine, with numbers for keys and hashes of the caller's choice. `ENDS`: grace periods end.
pub struct Engine<V, const ENDS: bool>(Shipped<V, ENDS>);

/// What `insert` did.
#[derive(Debug)]
pub enum Put<V> {
    Added,
    Replaced(Option<Handle<u64, V>>),
    Present { existing: Handle<u64, V>, rejected: Handle<u64, V> },
    Refused(Handle<u64, V>),
}

/// An entry held past its search.
pub struct Guard<'e, V>(Held<'e, CachedValue<u64, V>>);

impl<V> Deref for Guard<'_, V> {
    type Target = V;
    fn deref(&self) -> &V {
        self.0.get().value()
    }
}

impl<V, const ENDS: bool> Engine<V, ENDS> {
    /// With a first table for about `room` entries: a bucket for each four.
    pub fn unbounded(room: usize) -> Self {
        Self::new(Limit::None, 1, room, None)
    }

    pub fn bounded(entries: u64, shards: usize) -> Self {
        Self::new(Limit::Entries(entries), shards, 0, None)
    }

    pub fn weighed(weight: u64, weigher: impl Fn(&V) -> u32 + Send + Sync + 'static) -> Self {
        Self::new(Limit::Weight(weight), 1, 0, Some(Box::new(move |_: &u64, value: &V| weigher(value))))
    }

    fn new(limit: Limit, shards: usize, room: usize, weigher: Option<super::Weigher<u64, V>>) -> Self {
        let lifetimes = Lifetimes::new(None, None, None, None, Duration::ZERO);
        Self(Shipped::new(limit, shards, room, weigher, lifetimes, None))
    }

    pub fn get(&self, hash: u64, key: u64) -> Option<Guard<'_, V>> {
        self.0.get(hash, |other| *other == key).map(Guard)
    }

    /// As `get`, by a pin that nests.
    pub fn peek(&self, hash: u64, key: u64) -> Option<Guard<'_, V>> {
        self.0.peek(hash, |other| *other == key).map(Guard)
    }

    /// Reads under a pin, without a hazard slot.
    pub fn get_in<T>(&self, hash: u64, key: u64, read: impl FnOnce(&V) -> T) -> Option<T> {
        let pin = Modelled::pin();
        self.0.get_in(hash, |other| *other == key, &pin).map(|node| read(node.value()))
    }

    /// By the short way where there is one.
    pub fn insert(&self, hash: u64, key: u64, value: V) {
        let _ = self.0.put(hash, key, value);
    }

    /// By the long way.
    pub fn insert_with(&self, hash: u64, key: u64, value: V) -> Put<V> {
        self.put(hash, key, value, Mode::Always { tell_old: true })
    }

    pub fn insert_if_absent(&self, hash: u64, key: u64, value: V) -> Put<V> {
        self.put(hash, key, value, Mode::IfAbsent)
    }

    fn put(&self, hash: u64, key: u64, value: V, mode: Mode) -> Put<V> {
        match self.0.insert(hash, key, value, None, None, mode).0 {
            super::Put::Added => Put::Added,
            super::Put::Replaced(old) => Put::Replaced(old),
            super::Put::Present { existing, rejected } => Put::Present { existing, rejected },
            super::Put::Refused(entry) => Put::Refused(entry),
        }
    }

    pub fn remove(&self, hash: u64, key: u64) -> Option<Handle<u64, V>> {
        self.0.remove_if(hash, |other| *other == key, |_| true)
    }

    pub fn clear(&self) {
        self.0.clear();
    }

    pub fn resize(&self, capacity: u64) {
        self.0.resize(capacity);
    }

    pub fn run_pending(&self) {
        self.0.run_pending();
    }

    /// Lets the first shard grow, whatever its load.
    pub fn grow_now(&self) {
        self.0.shards[0].index.grow_now(&Modelled::pin());
    }

    /// The same, from the table that a writer would put a new key into.
    pub fn grow_newest(&self) {
        self.0.shards[0].index.grow_newest(&Modelled::pin());
    }

    pub fn entries(&self) -> u64 {
        self.0.entries()
    }

    pub fn weight(&self) -> u64 {
        self.0.weight()
    }

    pub fn evicted(&self) -> u64 {
        self.0.stats().evicted
    }

    pub fn pending_reclaim(&self) -> u64 {
        self.0.stats().pending_reclaim
    }

    pub fn scan(&self) -> Vec<Handle<u64, V>> {
        let mut found = Vec::new();
        for shard in 0..self.0.shards() {
            let mut cursor = 0;
            loop {
                cursor = self.0.scan(shard, cursor, &mut found);
                if cursor == 0 {
                    break;
                }
            }
        }
        found
    }

    pub fn validate(&self) {
        self.0.validate();
    }
}

/// The pool of budget alone.
pub struct Pool(weight::Pool);

impl Pool {
    pub fn new(capacity: u64, shards: usize) -> Self {
        Self(weight::Pool::new(capacity, shards))
    }

    pub fn budget(&self, shard: usize) -> u64 {
        self.0.budget(shard)
    }

    pub fn lease(&self, shard: usize, used: impl Fn(usize) -> u64) -> bool {
        self.0.lease(shard, used)
    }

    pub fn note_slack(&self, shard: usize, used: u64) {
        self.0.note_slack(shard, used);
    }

    pub fn sum(&self) -> i64 {
        self.0.sum()
    }
}
