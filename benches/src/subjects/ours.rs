//! `dogpile`, once for each way to read it.

#![forbid(unsafe_code)]

use super::{Hasher, OnDemand, Pace, Setup, Shared, Subject, hasher, read_with};
use crate::keys::{Key, Tally};

/// Keys of one call of `get_multi`.
const BATCH: usize = 32;

type Cache<K> = dogpile::Cache<K, u64, Hasher>;

fn build<K: Key>(setup: &Setup) -> Cache<K> {
    let mut builder = dogpile::Cache::builder().hasher(hasher());
    if let Some(capacity) = setup.capacity {
        builder = builder.max_entries(capacity);
    }
    if let Some(time_to_live) = setup.time_to_live {
        builder = builder.time_to_live(time_to_live);
    }
    builder.build().expect("the settings of the benches agree with each other")
}

fn settings<K: Key>(setup: &Setup) -> String {
    let bound = match setup.capacity {
        Some(_) => "reuse intervals",
        None => "unbounded",
    };
    format!("{bound}, {} shards", build::<K>(setup).shards())
}

/// One form of ours: its name, and how it reads.
macro_rules! form {
    ($(#[$doc:meta])* $form:ident, $name:literal, |$cache:ident, $key:ident| $get:expr $(, $read:item)?) => {
        $(#[$doc])*
        pub(crate) struct $form<K: Key>(Cache<K>);

        impl<K: Key> Subject<K> for $form<K> {
            const NAME: &'static str = $name;
            const PACKAGE: &'static str = "dogpile";

            fn build(setup: &Setup) -> Self {
                $form(build(setup))
            }
            fn settings(setup: &Setup) -> String {
                settings::<K>(setup)
            }
            #[inline(always)]
            fn get(&self, $key: &K) -> Option<u64> {
                let $cache = &self.0;
                $get
            }
            fn put(&mut self, key: K, value: u64) {
                self.insert(key, value);
            }
            fn settle(&mut self) {
                self.0.run_pending();
            }
            $($read)?
        }

        impl<K: Key> Shared<K> for $form<K> {
            #[inline]
            fn insert(&self, key: K, value: u64) {
                // The caches of the benches have room for one entry, so nothing is refused.
                drop(self.0.insert(key, value));
            }
            #[inline]
            fn remove(&self, key: &K) {
                drop(self.0.remove(key));
            }
        }
    };
}

form! {
    /// `get`: a guard per read.
    Dogpile, "dogpile", |cache, key| cache.get(key).map(|value| *value)
}

form! {
    /// `get_handle`: a counted reference per read.
    DogpileHandle, "dogpile handle", |cache, key| cache.get_handle(key).map(|value| *value)
}

form! {
    /// `get_in`: one pin for a whole loop.
    DogpilePinned, "dogpile pinned", |cache, key| {
        let pinned = cache.pin();
        cache.get_in(key, &pinned).map(|entry| *entry.value())
    },
    #[inline]
    fn read(&self, keys: &[K], pace: Pace) -> Tally {
        let pinned = self.0.pin();
        read_with(keys, pace, |key| self.0.get_in(key, &pinned).map(|entry| *entry.value()))
    }
}

form! {
    /// `get_multi`, 32 keys a call and a pin: fetches their memory ahead.
    DogpileBatch, "dogpile multi", |cache, key| cache.get(key).map(|value| *value),
    #[inline]
    fn read(&self, keys: &[K], pace: Pace) -> Tally {
        assert_eq!(pace, Pace::Free, "a batch asks before it has an answer");
        let mut tally = Tally::default();
        for keys in keys.chunks(BATCH) {
            let pinned = self.0.pin();
            for entry in self.0.get_multi(keys, &pinned) {
                tally.note(entry.map(|entry| *entry.value()));
            }
        }
        tally
    }
}

impl<K: Key> Dogpile<K> {
    pub(crate) fn cache(&self) -> &Cache<K> {
        &self.0
    }
}

impl<K: Key> OnDemand<K> for Dogpile<K> {
    #[inline(always)]
    fn get_or_create(&self, key: &K, make: impl FnOnce() -> u64) -> u64 {
        *self.0.get_or_create(key, make)
    }
}
