//! Who makes which key now, by key: gates that are there only while somebody needs them.
//!
//! A key has a state from when somebody finds its value missing or out of date until the last of them is gone, or what is to
//! be remembered of the past (a failure, for a time) is over. Values that are fresh cost nothing here.
//!
//! # Invariants
//! - **K1, one state a key.** States are found, made and let go under their shard's lock; one is let go when nobody else
//!   holds it, or *set apart* when newer state has come: who comes then has nothing to do with what was begun before (H13).
//! - **K2, landings are seen.** Whoever publishes, remembers a failure, or writes by a call bumps a count before
//!   the flag is free, one of 4,096 by the key's hash. A caller that reads the count, then the store, and then wins the flag looks again if the count has
//!   changed: somebody may have made the value in between. Other keys of that count only cause a look too many.
//! - **K3, writes win.** A call that sets or deletes sets the key's state apart before and after it writes, if it has one,
//!   and notes in it that it was overtaken: who leads by it writes nothing any more. Who enters in between has read the
//!   store before or after the write; what was read before does not count (K2).
//! - **K4, nobody joins what is outdated.** A creation notes the epoch that it starts from. Who finds one that was
//!   invalidated since, for good, sets it apart and begins anew.
//!
//! # Orderings
//! `BUMP` (of a count) pairs with `EPOCH` (load before the store is read). Whether a state was
//! overtaken is noted, and asked by who publishes, under the key's stripe.
//!
//! # Cost
//! A hit: the key's hash and one load, for the methods that create. A look at a value that is not fresh: a short lock.
#![forbid(unsafe_code)]

use super::item::Item;
use super::stripe::Stripe;
use crate::backend::Stored;
use crate::gate::{Age, Flights, Outcome, Past};
use crate::hash::RandomState;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, PlainMutex, lock, lock_plain};
use crate::time::Instant;
use std::collections::HashMap;
use std::hash::BuildHasher;

const EPOCH: Ordering = Ordering::Acquire;
const BUMP: Ordering = Ordering::Release;

/// Powers of two. A stripe is held while the store writes.
const SHARDS: usize = 64;
const STRIPES: usize = 512;
const CELLS: usize = 4096;

#[derive(Default)]
struct Shard {
    keys: Mutex<HashMap<Box<str>, Arc<KeyState>>>,
}

/// What is known of one key.
pub(crate) struct KeyState {
    pub(crate) past: Past,
    /// Whether a call has written the key since.
    is_overtaken: AtomicBool,
    /// The epoch of the creation that runs. 0: it has not taken one yet.
    started: AtomicU64,
    /// The tags that its value will have.
    tags: PlainMutex<Vec<String>>,
}

impl KeyState {
    fn new() -> Self {
        Self {
            past: Past::new(),
            is_overtaken: AtomicBool::new(false),
            started: AtomicU64::new(0),
            tags: PlainMutex::default(),
        }
    }

    /// A creation starts (K4).
    pub(crate) fn start(&self, epoch: u64, tags: &[String]) {
        tags.clone_into(&mut lock_plain(&self.tags));
        // After the tags: who sees the epoch sees them.
        self.started.store(epoch, Ordering::Release);
    }

    /// Its leader is gone without a result, and may be replaced: who leads next takes an epoch of its own. Not to be called
    /// when there is a result: until it has landed, who comes must be able to tell how old it is.
    pub(crate) fn end(&self) {
        self.started.store(0, Ordering::Release);
    }

    /// What runs: the epoch it started from, and its tags.
    pub(crate) fn running(&self) -> Option<(u64, Vec<String>)> {
        let started = self.started.load(Ordering::Acquire);
        (started != 0 && self.past.is_busy()).then(|| (started, lock_plain(&self.tags).clone()))
    }
}

/// All keys of one region.
pub(crate) struct Registry {
    hasher: RandomState,
    shards: Box<[Shard]>,
    /// How often values were made or written, by keys of the same cell.
    landings: Box<[AtomicU64]>,
    pub(crate) flights: Flights<Arc<Item>>,
    /// Who writes a key, by stripes: calls, and leaders.
    stripes: Box<[Stripe]>,
}

/// Somebody's interest in a key.
pub(crate) struct Claim {
    registry: Arc<Registry>,
    key: Box<str>,
    shard: usize,
    state: Arc<KeyState>,
}

/// What a caller saw when it looked.
pub(crate) struct Seen {
    pub(crate) claim: Claim,
    /// The shard's count, read before the store was.
    landings: u64,
    pub(crate) stored: Option<Stored>,
    pub(crate) item: Option<Arc<Item>>,
    pub(crate) age: Age,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            landings: (0..CELLS).map(|_| AtomicU64::new(0)).collect(),
            flights: Flights::new(SHARDS),
            stripes: (0..STRIPES).map(|_| Stripe::default()).collect(),
        }
    }

    #[inline]
    fn shard(&self, key: &str) -> usize {
        self.hasher.hash_one(key) as usize & (SHARDS - 1)
    }

    #[inline]
    fn cell(&self, key: &str) -> usize {
        self.hasher.hash_one(key) as usize & (CELLS - 1)
    }

    /// To be asked before the store is read (K2).
    #[inline]
    pub(crate) fn landings(&self, key: &str) -> u64 {
        self.landings[self.cell(key)].load(EPOCH)
    }

    /// The stripes of many keys, each once, in an order that is the same for all.
    pub(crate) fn stripes_of<'k>(&self, keys: impl Iterator<Item = &'k str>) -> Vec<&Stripe> {
        let mut shards: Vec<usize> =
            keys.map(|key| self.hasher.hash_one(key) as usize & (STRIPES - 1)).collect();
        shards.sort_unstable();
        shards.dedup();
        shards.into_iter().map(|i| &self.stripes[i]).collect()
    }

    /// The state of a key, made if there is none (K1).
    pub(crate) fn enter(self: &Arc<Self>, key: &str, now: Instant) -> Claim {
        let shard = self.shard(key);
        let mut gone = Vec::new();
        let state =
            {
                let mut keys = lock(&self.shards[shard].keys);
                match keys.get(key) {
                    Some(state) => Arc::clone(state),
                    None => {
                        // Failures that nobody asked for again are forgotten each time that their number has doubled.
                        if keys.len() >= 32 && keys.len().is_power_of_two() {
                            gone.extend(keys.extract_if(|_, state| {
                                Arc::strong_count(state) == 1 && state.past.is_over(now)
                            }));
                        }
                        let state = Arc::new(KeyState::new());
                        keys.insert(key.into(), Arc::clone(&state));
                        state
                    }
                }
            };
        drop(gone);
        Claim { registry: Arc::clone(self), key: key.into(), shard, state }
    }

    /// The state of a key, if it has one.
    pub(crate) fn find(&self, key: &str) -> Option<Arc<KeyState>> {
        lock(&self.shards[self.shard(key)].keys).get(key).map(Arc::clone)
    }

    /// A call is about to write the key, or has written it: sets its state apart (K3).
    pub(crate) fn bump(&self, key: &str) -> Option<Arc<KeyState>> {
        let shard = &self.shards[self.shard(key)];
        let mut keys = lock(&shard.keys);
        let state = keys.remove(key);
        if let Some(state) = &state {
            state.is_overtaken.store(true, Ordering::Relaxed);
        }
        self.landings[self.cell(key)].fetch_add(1, BUMP);
        state
    }

    /// Sets the claim's state apart, if nobody has yet (K4).
    pub(crate) fn set_apart(&self, claim: &Claim) {
        let apart = {
            let mut keys = lock(&self.shards[claim.shard].keys);
            let is_there = keys.get(&claim.key).is_some_and(|state| Arc::ptr_eq(state, &claim.state));
            if is_there {
                // No later write finds it to say so.
                claim.state.is_overtaken.store(true, Ordering::Relaxed);
                keys.remove(&claim.key)
            } else {
                None
            }
        };
        drop(apart);
    }

    /// A call has put `item` in: who waits for a creation of the key has it at once.
    pub(crate) fn overtake(&self, state: &KeyState, item: &Arc<Item>) {
        if state.past.is_busy() {
            self.flights.overtake(state.past.flag(), || Outcome::Value(Arc::clone(item)));
        }
    }

    /// How many keys have a state.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(&shard.keys).len()).sum()
    }
}

impl Claim {
    pub(crate) fn state(&self) -> &KeyState {
        &self.state
    }

    /// Publishes that the value was made, or its failure remembered (K2).
    pub(crate) fn landed(&self) {
        self.registry.landings[self.registry.cell(&self.key)].fetch_add(1, BUMP);
    }

    pub(crate) fn see(
        self,
        landings: u64,
        stored: Option<Stored>,
        item: Option<Arc<Item>>,
        age: Age,
    ) -> Arc<Seen> {
        Arc::new(Seen { claim: self, landings, stored, item, age })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let gone = {
            let mut keys = lock(&self.registry.shards[self.shard].keys);
            let is_there = keys.get(&self.key).is_some_and(|state| Arc::ptr_eq(state, &self.state));
            // Its map's, and this one: nobody else can get at it but under this lock (K1).
            let is_last = is_there && Arc::strong_count(&self.state) == 2;
            if is_last && self.state.past.is_over(Instant::default()) { keys.remove(&self.key) } else { None }
        };
        drop(gone);
    }
}

impl Seen {
    pub(crate) fn state(&self) -> &KeyState {
        self.claim.state()
    }

    /// Whether nothing was made or written since the look began, as far as the shard can tell (K2).
    pub(crate) fn is_current(&self) -> bool {
        self.claim.registry.landings(&self.claim.key) == self.landings
    }

    /// Whether no call has written the key since the look (K3).
    pub(crate) fn is_newest(&self) -> bool {
        !self.state().is_overtaken.load(Ordering::Relaxed)
    }
}
