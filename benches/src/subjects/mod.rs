//! What is measured: `dogpile` in its forms, and its peers, behind two small traits.
//!
//! All of them store `u64` values, take the same hasher with the same seed where they let one choose it, and get the same
//! capacity. Where a subject differs, [`Subject::settings`] says so in the table.

#![forbid(unsafe_code)]

mod caches;
mod maps;
mod ours;

use std::hint::black_box;
use std::time::Duration;

pub(crate) use caches::{Cached, CachedTtl, Foyer, Moka, QuickCache, SccCache, TinyUfo};
pub(crate) use maps::{DashMap, Hashbrown, Papaya, PapayaPinned, SccIndex};
pub(crate) use ours::{Dogpile, DogpileBatch, DogpileHandle, DogpilePinned};

use crate::keys::{Key, Tally, draws};

/// The hasher of every subject that lets one choose, always with the same seed.
pub(crate) type Hasher = ahash::RandomState;

pub(crate) fn hasher() -> Hasher {
    ahash::RandomState::with_seeds(0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344)
}

/// How a subject is to be built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// Entries a bounded cache may hold. `None`: unbounded, and starting empty.
    pub(crate) capacity: Option<u64>,
    /// Whether the row needs every entry to stay. Only a set-associative cache must then be built larger.
    pub(crate) keeps_all: bool,
    pub(crate) time_to_live: Option<Duration>,
}

impl Setup {
    /// Room for `capacity` entries, none of which may be evicted.
    pub(crate) fn keeping(capacity: u64) -> Setup {
        Setup { capacity: Some(capacity), keeps_all: true, time_to_live: None }
    }

    /// Room for `capacity` entries; more will be inserted.
    pub(crate) fn evicting(capacity: u64) -> Setup {
        Setup { capacity: Some(capacity), keeps_all: false, time_to_live: None }
    }

    /// Empty and without bound.
    pub(crate) fn growing() -> Setup {
        Setup { capacity: None, keeps_all: true, time_to_live: None }
    }

    pub(crate) fn expiring(self, time_to_live: Duration) -> Setup {
        Setup { time_to_live: Some(time_to_live), ..self }
    }

    /// The capacity, for subjects that have no unbounded form.
    pub(crate) fn bound(&self) -> u64 {
        self.capacity.expect("rows without a capacity list unbounded subjects only")
    }
}

/// What every subject can do: be built, filled and read.
pub(crate) trait Subject<K: Key>: Sized {
    /// As in the table.
    const NAME: &'static str;
    /// As in `Cargo.lock`.
    const PACKAGE: &'static str;

    fn build(setup: &Setup) -> Self;
    /// What is not the same as for everybody else.
    fn settings(setup: &Setup) -> String;
    fn get(&self, key: &K) -> Option<u64>;
    fn put(&mut self, key: K, value: u64);
    /// Does the maintenance that the subject postpones.
    fn settle(&mut self) {}

    /// Reads `keys` one after the other.
    #[inline]
    fn read(&self, keys: &[K], pace: Pace) -> Tally {
        read_with(keys, pace, |key| self.get(key))
    }
}

/// Whether one read may begin before the last one has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// The processor overlaps as many reads as it can: throughput.
    Free,
    /// The same, but each key is drawn by a random number generator in the loop, from a window of all keys.
    Drawn,
    /// Which key is asked for depends on the last answer: latency.
    Chained,
}

/// Reads `keys` with `get`, at a pace.
#[inline(always)]
fn read_with<K>(keys: &[K], pace: Pace, mut get: impl FnMut(&K) -> Option<u64>) -> Tally {
    let mut tally = Tally::default();
    match pace {
        Pace::Free => keys.iter().for_each(|key| tally.note(get(key))),
        Pace::Drawn => draws(keys.len()).for_each(|place| tally.note(get(&keys[place]))),
        Pace::Chained => {
            // Zero, but neither the compiler nor the processor knows before the answer is there.
            let nothing = black_box(0);
            let mut last = 0;
            for place in 0..keys.len() {
                let value = get(&keys[place ^ (last & nothing) as usize]);
                last = value.unwrap_or(tally.hits);
                tally.note(value);
            }
        }
    }
    tally
}

/// A subject that makes values on demand, one creation a key.
pub(crate) trait OnDemand<K: Key>: Subject<K> {
    fn get_or_create(&self, key: &K, make: impl FnOnce() -> u64) -> u64;
}

/// What a subject for several threads can do besides.
pub(crate) trait Shared<K: Key>: Subject<K> + Sync {
    fn insert(&self, key: K, value: u64);
    fn remove(&self, key: &K);
}
