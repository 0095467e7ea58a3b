//! The sharded in-process store.
//!
//! ```text
//! hash -> shard -> index (table/): find, replace, insert, unlink
//!                  policy (policy/): whom to evict      } under one mutex a shard, writers of new keys only
//!         pool (weight.rs): how much each shard may use
//!         limbo (reclaim/): what waits to be freed
//! ```
//!
//! An operation has two parts. The first runs pinned: it finds, publishes, unlinks, makes room, and collects what has
//! to be said and done about it in a [`Settling`]. The second runs when the pin and all locks have gone: it calls the
//! listener and drops what is due. User code that runs in the first part (`Eq`, a closure of `compute`) holds a pin
//! and nothing else; no user code runs under a lock.
// No unsafe here either; a `forbid` would reach into `table` and `reclaim`, so `tests/layering.rs` keeps it.

mod creating;
mod expiry;
#[cfg(dogpile_loom)]
pub(crate) mod model;
mod policy;
pub(crate) mod reclaim;
mod shard;
mod stats;
pub(crate) mod table;
mod weight;

pub(crate) use creating::Made;
pub(crate) use expiry::{ExpireAfter, Lifetimes};
pub(crate) use reclaim::{Backend, Held, Reclaim, Shared};
pub(crate) use stats::Event;
pub use stats::Stats;
pub(crate) use table::{CLAIMED, Draft, HELD, NodeKind, TAKEN, Terms};
pub use table::{CachedValue, Handle};
pub(crate) use weight::MOST_SHARDS;

use crate::sync::{Ordering, Tally, parallelism, thread_local};
use crate::time::Instant;
use crossbeam_utils::CachePadded;
use expiry::{MOST_SWEPT, SWEEP};
use policy::Token;
use shard::Sake;
pub(crate) use shard::Shard;
use stats::Counters;
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;
use table::{Eviction, Index, Located, Shards, Spot, Unlinked};
use weight::Pool;

/// Why an entry left the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RemovalCause {
    /// Its deadline had passed.
    Expired,
    /// It gave way to others.
    Evicted,
    /// A newer version took its place.
    Replaced,
    /// A call removed it.
    Removed,
    /// `clear` took it away, with all others.
    Cleared,
}

pub(crate) type Weigher<K, V> = Box<dyn Fn(&K, &V) -> u32 + Send + Sync>;
pub(crate) type Listener<K, V> = Box<dyn Fn(Handle<K, V>, RemovalCause) + Send + Sync>;

/// What bounds the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    None,
    Entries(u64),
    Weight(u64),
}

pub(crate) struct Engine<K, V, R: Reclaim = Backend> {
    shards: Shards<CachePadded<Shard<K, V, R>>>,
    /// None: unbounded.
    pool: Option<Pool>,
    weigher: Option<Weigher<K, V>>,
    lifetimes: Lifetimes<K, V>,
    /// Nothing to weigh, no deadlines, no listener.
    is_plain: bool,
    /// 1 once any entry had a deadline: only then is a clock read by writes, and anything to sweep.
    timed: Tally,
    listener: Option<Listener<K, V>>,
    counters: Counters,
}

/// What came of the first, short part of a `get`.
pub(crate) enum AtOnce<'c, K, V, R: Reclaim> {
    /// Found, fresh and counted.
    Hit(Held<'c, CachedValue<K, V>>),
    /// Found; whether it is fresh is to be asked, and its use to be noted.
    Unnoted(&'c Shard<K, V, R>, Held<'c, CachedValue<K, V>>),
    /// Absent, and counted.
    Miss,
    /// Nothing is known, and nothing has happened.
    Further,
}

/// What an insertion did.
#[derive(Debug)]
pub(crate) enum Put<K, V> {
    Added,
    Replaced(Option<Handle<K, V>>),
    Present { existing: Handle<K, V>, rejected: Handle<K, V> },
    Refused(Handle<K, V>),
}

/// A version that was replaced while its gate byte was taken, and what is there instead: who waits for another newer
/// version of it may have this one.
pub(crate) type Overtaken<K, V> = Option<(Handle<K, V>, Handle<K, V>)>;

/// Why an insertion was not done with at once.
enum Detour<K, V> {
    /// It was not the usual one: it is still to be done.
    Other(Draft<K, V>),
    /// It was done, but those who wait for a newer version of `old` are still to be told.
    Overtaken { old: Handle<K, V>, newer: Handle<K, V> },
}

impl<K, V> From<Draft<K, V>> for Detour<K, V> {
    #[inline]
    fn from(entry: Draft<K, V>) -> Self {
        Self::Other(entry)
    }
}

/// What to do where an entry is, or is not.
pub(crate) enum Step<V> {
    Keep,
    Put(V),
    Remove,
}

/// How an insertion treats what is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Always { tell_old: bool },
    IfAbsent,
}

/// Fewer entries than this in a shard cost hit ratio (EVICTION: about 0.1 point from 64 up), so bounded caches have
/// fewer shards instead.
const ENTRIES_A_SHARD: u64 = 1024;
const ENTRIES_A_SHARD_AT_LEAST: u64 = 128;

/// With so many buckets, 512 KiB, and the nodes beside them, a group of reads is faster with its lines fetched ahead.
const LARGE: usize = 1 << 13;
/// So many keys are fetched ahead at a time.
pub(crate) const MOST_AHEAD: usize = 32;

/// What is freed may bring more to be freed: a dead table its nodes and the table after it, a value others that its
/// destructor takes out.
const PASSES: usize = 4;
/// After so many new keys, none of which made another go, the garbage of their shard is looked after.
const TENDED: u16 = 1024;

/// How many shards a cache gets if its builder does not say.
pub(crate) fn default_shards(limit: Limit) -> usize {
    let cores = parallelism();
    let most = (4 * cores).next_power_of_two().min(MOST_SHARDS);
    match limit {
        Limit::None => most.max(64),
        Limit::Entries(capacity) | Limit::Weight(capacity) => {
            let mut shards = most;
            while shards > 1 {
                let wanted = if shards > cores { ENTRIES_A_SHARD } else { ENTRIES_A_SHARD_AT_LEAST };
                if capacity / shards as u64 >= wanted {
                    break;
                }
                shards /= 2;
            }
            shards
        }
    }
}

impl<K, V, R: Reclaim> Engine<K, V, R> {
    pub(crate) fn new(
        limit: Limit,
        shards: usize,
        room: usize,
        weigher: Option<Weigher<K, V>>,
        lifetimes: Lifetimes<K, V>,
        listener: Option<Listener<K, V>>,
    ) -> Self {
        let shards = shards.clamp(1, MOST_SHARDS).next_power_of_two();
        let pool = match limit {
            Limit::None => None,
            Limit::Entries(capacity) | Limit::Weight(capacity) => Some(Pool::new(capacity, shards)),
        };
        let room = match limit {
            Limit::Entries(capacity) => room.min(usize::try_from(capacity).unwrap_or(usize::MAX)),
            Limit::None | Limit::Weight(_) => room,
        };
        let shard = |_| CachePadded::new(Shard::new(Index::new(room / shards, weigher.is_some())));
        Self {
            shards: Shards::new((0..shards).map(shard).collect()),
            is_plain: weigher.is_none() && listener.is_none() && lifetimes.are_endless(),
            pool,
            weigher,
            lifetimes,
            timed: Tally::new(0),
            listener,
            counters: Counters::new(),
        }
    }

    #[inline]
    fn number(&self, hash: u64) -> usize {
        self.shards.number(hash)
    }

    #[inline]
    fn shard(&self, hash: u64) -> &Shard<K, V, R> {
        self.shards.of(hash)
    }

    #[inline]
    fn is_live(&self, node: &CachedValue<K, V>) -> bool {
        node.is_timeless() || !node.is_expired(self.lifetimes.now())
    }

    /// Counts a use of an entry that was found, unless it has expired.
    #[inline]
    fn is_hit(&self, shard: &Shard<K, V, R>, node: &CachedValue<K, V>) -> bool {
        if !node.is_timeless() && !self.is_in_time(node) {
            self.counters.count(Event::Miss);
            return false;
        }
        node.reuse_again();
        node.stamp_use(shard.now());
        self.counters.count(Event::Hit);
        true
    }

    /// Whether an entry with a deadline is fresh; puts its idle deadline off if it is.
    #[inline(never)]
    fn is_in_time(&self, node: &CachedValue<K, V>) -> bool {
        let now = self.lifetimes.now();
        if node.is_expired(now) {
            return false;
        }
        if let Some(step) = self.lifetimes.idle_step() {
            node.extend_idle(self.lifetimes.idle_from(now), step);
        }
        true
    }

    #[cfg(any(test, dogpile_loom))]
    pub(crate) fn get(&self, hash: u64, eq: impl Fn(&K) -> bool) -> Option<Held<'_, CachedValue<K, V>>> {
        match self.get_at_once(hash, &eq) {
            AtOnce::Hit(held) => Some(held),
            AtOnce::Unnoted(shard, held) => self.note_hit(shard, held),
            AtOnce::Miss => None,
            AtOnce::Further => self.get_further(hash, eq),
        }
    }

    /// The fresh entry of a key, where all is as usual. Without a call: so nothing need be kept over one.
    #[inline(always)]
    pub(crate) fn get_at_once(&self, hash: u64, eq: impl Fn(&K) -> bool) -> AtOnce<'_, K, V, R> {
        let shard = self.shard(hash);
        match shard.index.hold_at_once(hash, eq) {
            Some(Some(held)) => {
                if self.is_usual_hit(shard, held.get()) {
                    return AtOnce::Hit(held);
                }
                AtOnce::Unnoted(shard, held)
            }
            Some(None) if self.counters.count_at_once(Event::Miss) => AtOnce::Miss,
            _ => AtOnce::Further,
        }
    }

    /// What `get_at_once` left undone, from the beginning.
    #[inline]
    pub(crate) fn get_further(
        &self,
        hash: u64,
        eq: impl Fn(&K) -> bool,
    ) -> Option<Held<'_, CachedValue<K, V>>> {
        let shard = self.shard(hash);
        match shard.index.hold_further(hash, eq) {
            Some(held) => self.is_hit(shard, held.get()).then_some(held),
            None => {
                self.counters.count(Event::Miss);
                None
            }
        }
    }

    /// What `get_at_once` left undone, from where the entry was found.
    #[inline]
    pub(crate) fn note_hit<'c>(
        &'c self,
        shard: &'c Shard<K, V, R>,
        held: Held<'c, CachedValue<K, V>>,
    ) -> Option<Held<'c, CachedValue<K, V>>> {
        self.is_hit(shard, held.get()).then_some(held)
    }

    /// Counts a use, if the entry has no deadline and nothing else is to be noted.
    #[inline(always)]
    fn is_usual_hit(&self, shard: &Shard<K, V, R>, node: &CachedValue<K, V>) -> bool {
        node.is_timeless() && node.is_noted(shard.now()) && self.counters.count_at_once(Event::Hit)
    }

    /// As `get`, under a pin of the caller's.
    #[inline]
    pub(crate) fn get_in<'p>(
        &'p self,
        hash: u64,
        eq: impl Fn(&K) -> bool,
        pin: &'p R::Pin,
    ) -> Option<Shared<'p, CachedValue<K, V>>> {
        let shard = self.shard(hash);
        match shard.index.find(hash, eq, pin) {
            Some(node) if self.is_usual_hit(shard, node.get()) => Some(node),
            Some(node) => self.note_use(shard, node),
            None => {
                self.counters.count(Event::Miss);
                None
            }
        }
    }

    #[inline(never)]
    fn note_use<'p>(
        &self,
        shard: &Shard<K, V, R>,
        node: Shared<'p, CachedValue<K, V>>,
    ) -> Option<Shared<'p, CachedValue<K, V>>> {
        self.is_hit(shard, &node).then_some(node)
    }

    pub(crate) fn peek(&self, hash: u64, eq: impl Fn(&K) -> bool) -> Option<Held<'_, CachedValue<K, V>>> {
        self.shard(hash).index.hold(hash, eq).filter(|held| self.is_live(&held.shared()))
    }

    /// Looks under a pin, without a trace.
    pub(crate) fn look<'p>(
        &'p self,
        hash: u64,
        eq: impl Fn(&K) -> bool,
        pin: &'p R::Pin,
    ) -> Option<Shared<'p, CachedValue<K, V>>> {
        self.shard(hash).index.find(hash, eq, pin).filter(|node| self.is_live(node))
    }

    /// Whether the tables are so large that what is looked for is not in the processor's nearer caches.
    pub(crate) fn is_large(&self, pin: &R::Pin) -> bool {
        self.shards.len() * self.shards[0].index.buckets(pin) >= LARGE
    }

    /// Brings the lines that a later `get_in` of these hashes will touch into the cache: first the buckets of all, then
    /// the nodes.
    pub(crate) fn prefetch(&self, hashes: &[u64], pin: &R::Pin) {
        let mut ahead = [const { None }; MOST_AHEAD];
        for (place, &hash) in ahead.iter_mut().zip(hashes) {
            *place = Some(self.shard(hash).index.ahead(hash, pin));
        }
        for (place, &hash) in ahead.iter().zip(hashes) {
            place.iter().for_each(|bucket| bucket.prefetch_node(hash));
        }
    }

    /// Shard `i` uses less than before (W2).
    fn note_slack(&self, i: usize, pin: &R::Pin) {
        if let Some(pool) = &self.pool {
            pool.note_slack(i, self.used(i, pin));
        }
    }

    fn note_deadline(&self) {
        if self.timed.load(Ordering::Relaxed) == 0 {
            self.timed.store(1, Ordering::Relaxed);
        }
    }

    /// The time, if anything has a deadline. The clock may be the user's, so this is asked before anything is published or
    /// locked.
    fn time(&self) -> Option<Instant> {
        (self.timed.load(Ordering::Relaxed) != 0).then(|| self.lifetimes.now())
    }

    fn weigh(&self, key: &K, value: &V, own: Option<u32>) -> u32 {
        match &self.weigher {
            // Nothing weighs nothing: the number of entries must be bounded too.
            Some(weigher) => own.unwrap_or_else(|| weigher(key, value)).max(1),
            None => 1,
        }
    }

    pub(crate) fn count(&self, event: Event) {
        self.counters.count(event);
    }

    pub(crate) fn add(&self, event: Event, n: u64) {
        self.counters.add(event, n);
    }

    /// Makes an entry. Runs the weigher and `expire_after`.
    fn entry(&self, hash: u64, key: K, value: V, ttl: Option<Duration>, weight: Option<u32>) -> Draft<K, V> {
        let weight = self.weigh(&key, &value, weight);
        let span = ttl.or_else(|| self.lifetimes.span(&key, &value, None));
        Draft::new(hash, key, value, &self.lifetimes.terms(weight, span))
    }

    #[inline]
    fn fits(&self, entry: &CachedValue<K, V>) -> bool {
        self.pool.as_ref().is_none_or(|pool| u64::from(entry.weight()) <= pool.capacity())
    }

    /// Puts an entry in, with no word of what it replaces. None: that was all.
    #[inline]
    pub(crate) fn put(&self, hash: u64, key: K, value: V) -> Option<(Put<K, V>, Overtaken<K, V>)>
    where
        K: Eq,
    {
        let mode = Mode::Always { tell_old: false };
        if !self.is_plain || self.timed.load(Ordering::Relaxed) != 0 {
            return Some(self.insert(hash, key, value, None, None, mode));
        }
        match self.insert_simply(hash, key, value) {
            Ok(()) => None,
            Err(Detour::Other(entry)) => Some(self.insert_entry(hash, entry, mode)),
            Err(Detour::Overtaken { old, newer }) => Some((Put::Replaced(None), Some((old, newer)))),
        }
    }

    /// Puts an entry in.
    pub(crate) fn insert(
        &self,
        hash: u64,
        key: K,
        value: V,
        ttl: Option<Duration>,
        weight: Option<u32>,
        mode: Mode,
    ) -> (Put<K, V>, Overtaken<K, V>)
    where
        K: Eq,
    {
        self.insert_entry(hash, self.entry(hash, key, value, ttl, weight), mode)
    }

    /// The usual insertion, where there is nothing to weigh, to tell, or to sweep: over a live value, or of a new key.
    ///
    /// # Errors
    /// What is still to be done.
    #[inline]
    fn insert_simply(&self, hash: u64, key: K, value: V) -> Result<(), Detour<K, V>>
    where
        K: Eq,
    {
        let entry = Draft::new(hash, key, value, &Terms::PLAIN);
        let i = self.number(hash);
        let shard = &self.shards[i];
        let pin = R::pin();
        match shard.index.spot(hash, |key| key == entry.key(), &pin) {
            Some(Spot::Occupied(old)) if old.node().is_timeless() => {
                // It has no deadline, so it is a value (N4).
                let (gone, newer) = old.replace_value(entry)?;
                let overtaken = gone.taken().map(|old| (old, Handle::share(newer)));
                gone.retire();
                drop(pin);
                self.counters.count(Event::Replacement);
                if shard.index.has_due() {
                    self.collect_one(i);
                }
                overtaken.map_or(Ok(()), |(old, newer)| Err(Detour::Overtaken { old, newer }))
            }
            Some(Spot::Gap(gap)) if self.fits(&entry) => {
                shard.prefetch_policy(hash);
                let node = gap.insert(entry, shard.now())?;
                self.counters.count(Event::Insertion);
                let mut settling = Settling::new(self);
                self.arrived(i, Token::new(hash, node.ticket()), None, &pin, &mut settling);
                drop(pin);
                settling.finish();
                Ok(())
            }
            _ => Err(Detour::Other(entry)),
        }
    }

    /// Frees what is due in shard `i`.
    #[cold]
    #[inline(never)]
    fn collect_one(&self, i: usize) {
        let mut panics = Panics::default();
        self.collect(i, &mut panics);
        panics.resume();
    }

    /// Every other insertion, and the usual one where there are weights, deadlines, or a listener.
    #[inline(never)]
    fn insert_entry(&self, hash: u64, mut entry: Draft<K, V>, mode: Mode) -> (Put<K, V>, Overtaken<K, V>)
    where
        K: Eq,
    {
        let mut taken = None;
        let mut settling = Settling::new(self);
        let i = self.number(hash);
        self.shards[i].prefetch_policy(hash);
        let put = {
            let pin = R::pin();
            let fits = self.fits(&entry);
            if !entry.is_timeless() {
                self.note_deadline();
            }
            let now = self.time();
            let put = loop {
                match self.shards[i].index.locate(hash, |key| key == entry.key(), &pin) {
                    Located::Occupied(old) => {
                        let expired = !self.is_live(&old.node());
                        if mode == Mode::IfAbsent && !expired {
                            let existing = Handle::share(old.node());
                            break Put::Present { existing, rejected: Handle::new(entry) };
                        }
                        let cause = if expired { RemovalCause::Expired } else { RemovalCause::Replaced };
                        if !fits {
                            // The value it had is out of date, even if the new one can't be kept.
                            if let Some(unlinked) = old.unlink() {
                                settling.note(i, unlinked, cause, &pin);
                            }
                            continue;
                        }
                        match old.replace(entry, self.shards[i].now()) {
                            Ok((unlinked, newer)) => {
                                let tell = mode == Mode::Always { tell_old: true } && !expired;
                                let old = tell.then(|| unlinked.handle());
                                let kind = unlinked.kind();
                                taken = unlinked.taken().map(|old| (old, Handle::share(newer)));
                                settling.note(i, unlinked, cause, &pin);
                                self.replaced(hash, kind, newer, now, &pin, &mut settling);
                                let was_value = kind == NodeKind::Value;
                                break if was_value { Put::Replaced(old) } else { Put::Added };
                            }
                            Err(back) => {
                                entry = back;
                                self.note_slack(i, &pin);
                            }
                        }
                    }
                    Located::Vacant(_) if !fits => {
                        self.counters.count(Event::Refused);
                        break Put::Refused(Handle::new(entry));
                    }
                    Located::Vacant(vacant) => match vacant.insert(entry, self.shards[i].now()) {
                        Ok(node) => {
                            self.counters.count(Event::Insertion);
                            self.arrived(i, Token::new(hash, node.ticket()), now, &pin, &mut settling);
                            break Put::Added;
                        }
                        Err(back) => entry = back,
                    },
                    Located::Busy => unreachable!("a search that may wait is not turned away"),
                }
            };
            self.sweep(i, SWEEP, MOST_SWEPT, now, &pin, &mut settling);
            put
        };
        settling.finish();
        (put, taken)
    }

    /// After a new key has its first value: room for it. Where entries only come, nothing is retired but outgrown tables: now
    /// and then somebody must look after those.
    #[inline]
    fn arrived<'p>(
        &'p self,
        i: usize,
        token: Token,
        now: Option<Instant>,
        pin: &'p R::Pin,
        settling: &mut Settling<'_, K, V, R>,
    ) {
        self.make_room(i, Sake::Newcomer(token), now, pin, settling);
        if token.ticket() % TENDED == TENDED - 1
            && settling.rest.touched == NONE
            && self.shards[i].index.tend(pin)
        {
            settling.rest.touched = i;
        }
    }

    /// After a replacement: room for what the newer version weighs more, or for a key's first version.
    fn replaced<'p>(
        &'p self,
        hash: u64,
        former: NodeKind,
        newer: Shared<'p, CachedValue<K, V>>,
        now: Option<Instant>,
        pin: &'p R::Pin,
        settling: &mut Settling<'_, K, V, R>,
    ) {
        let (i, token) = (self.number(hash), Token::new(hash, newer.ticket()));
        if newer.kind() == NodeKind::Value {
            let was_value = former == NodeKind::Value;
            self.counters.count(if was_value { Event::Replacement } else { Event::Insertion });
        }
        if former == NodeKind::Pending {
            self.arrived(i, token, now, pin, settling);
        } else if self.weigher.is_some() {
            self.make_room(i, Sake::Replaced(token), now, pin, settling);
        }
    }

    /// Reads, decides and writes in one step: if the entry changed in between, `decide` runs again.
    ///
    /// Returns the entry that the key has afterwards, or the one that was made and could not be kept.
    pub(crate) fn compute(
        &self,
        hash: u64,
        mut key: K,
        ttl: Option<Duration>,
        weight: Option<u32>,
        mut decide: impl FnMut(Option<&V>) -> Step<V>,
    ) -> (Option<Handle<K, V>>, Overtaken<K, V>)
    where
        K: Eq,
    {
        let mut taken = None;
        let mut settling = Settling::new(self);
        let i = self.number(hash);
        let result = {
            let pin = R::pin();
            let now = self.time();
            let result = loop {
                match self.shards[i].index.locate(hash, |other| *other == key, &pin) {
                    Located::Occupied(old) => {
                        let expired = !self.is_live(&old.node());
                        let cause = if expired { RemovalCause::Expired } else { RemovalCause::Replaced };
                        let node = old.node();
                        match decide((!expired).then(|| node.get().value())) {
                            Step::Keep if expired => break None,
                            Step::Keep => break Some(Handle::share(node)),
                            Step::Remove => {
                                let cause = if expired { cause } else { RemovalCause::Removed };
                                if let Some(unlinked) = old.unlink() {
                                    settling.note(i, unlinked, cause, &pin);
                                    break None;
                                }
                            }
                            Step::Put(value) => {
                                let entry = self.entry(hash, key, value, ttl, weight);
                                if !self.fits(&entry) {
                                    if let Some(unlinked) = old.unlink() {
                                        settling.note(i, unlinked, cause, &pin);
                                        self.counters.count(Event::Refused);
                                        break Some(Handle::new(entry));
                                    }
                                    key = entry.into_parts().0;
                                    continue;
                                }
                                if !entry.is_timeless() {
                                    self.note_deadline();
                                }
                                match old.replace(entry, self.shards[i].now()) {
                                    Ok((unlinked, newer)) => {
                                        let kind = unlinked.kind();
                                        let handle = Handle::share(newer);
                                        taken = unlinked.taken().map(|old| (old, handle.clone()));
                                        settling.note(i, unlinked, cause, &pin);
                                        self.replaced(hash, kind, newer, now, &pin, &mut settling);
                                        break Some(handle);
                                    }
                                    Err(back) => {
                                        key = back.into_parts().0;
                                        self.note_slack(i, &pin);
                                    }
                                }
                            }
                        }
                    }
                    Located::Vacant(vacant) => match decide(None) {
                        Step::Keep | Step::Remove => break None,
                        Step::Put(value) => {
                            let entry = self.entry(hash, key, value, ttl, weight);
                            if !self.fits(&entry) {
                                self.counters.count(Event::Refused);
                                break Some(Handle::new(entry));
                            }
                            if !entry.is_timeless() {
                                self.note_deadline();
                            }
                            match vacant.insert(entry, self.shards[i].now()) {
                                Ok(node) => {
                                    self.counters.count(Event::Insertion);
                                    let token = Token::new(hash, node.ticket());
                                    let handle = Handle::share(node);
                                    self.arrived(i, token, now, &pin, &mut settling);
                                    break Some(handle);
                                }
                                Err(back) => key = back.into_parts().0,
                            }
                        }
                    },
                    Located::Busy => unreachable!("a search that may wait is not turned away"),
                }
            };
            self.sweep(i, SWEEP, MOST_SWEPT, now, &pin, &mut settling);
            result
        };
        settling.finish();
        (result, taken)
    }

    /// Takes out what a key has, if `condition` holds; returns it if it was a fresh value. `condition` gets values only, also
    /// stale ones; nothing where the first is just being made, an error is remembered, or the time of a stale one is over.
    pub(crate) fn remove_if(
        &self,
        hash: u64,
        eq: impl Fn(&K) -> bool,
        mut condition: impl FnMut(Option<&CachedValue<K, V>>) -> bool,
    ) -> Option<Handle<K, V>> {
        let mut settling = Settling::new(self);
        let i = self.number(hash);
        let removed = {
            let pin = R::pin();
            let now = self.time();
            let removed = loop {
                let Located::Occupied(entry) = self.shards[i].index.locate(hash, &eq, &pin) else {
                    break None;
                };
                let expired = !self.is_live(&entry.node());
                let node = entry.node();
                if !condition(self.is_of_use(&node).then(|| node.get())) {
                    // A value that nobody may be served any more goes in passing.
                    if node.kind() == NodeKind::Value && !self.is_of_use(&node) {
                        match entry.evict() {
                            Eviction::Done(unlinked) => {
                                settling.note(i, unlinked, RemovalCause::Expired, &pin);
                            }
                            Eviction::Lost => continue,
                            Eviction::Taken => {}
                        }
                    }
                    break None;
                }
                if let Some(unlinked) = entry.unlink() {
                    let handle = (!expired).then(|| unlinked.handle());
                    let cause = if expired { RemovalCause::Expired } else { RemovalCause::Removed };
                    settling.note(i, unlinked, cause, &pin);
                    break handle;
                }
            };
            self.sweep(i, SWEEP, MOST_SWEPT, now, &pin, &mut settling);
            removed
        };
        settling.finish();
        removed
    }

    /// Takes this very version out of shard `i`, if it is still there.
    pub(crate) fn remove_version(&self, i: usize, version: &Handle<K, V>, cause: RemovalCause) -> bool {
        let (removed, rest) = self.take_version(i, version, cause);
        self.finish(rest);
        removed
    }

    /// The same; what is to be done about it comes back.
    fn take_version(&self, i: usize, version: &Handle<K, V>, cause: RemovalCause) -> (bool, Rest<K, V>) {
        let mut settling = Settling::new(self);
        let removed = {
            let pin = R::pin();
            loop {
                match self.shards[i].index.locate_version(version, &pin) {
                    Located::Occupied(entry) => {
                        if let Some(unlinked) = entry.unlink() {
                            settling.note(i, unlinked, cause, &pin);
                            break true;
                        }
                    }
                    _ => break false,
                }
            }
        };
        (removed, settling.into_rest())
    }

    /// Calls the listener and frees what is due.
    ///
    /// # Panics
    /// With the listener's panic, when everything else has been done.
    pub(crate) fn finish(&self, rest: Rest<K, V>) {
        Settling { engine: self, rest }.finish();
    }

    /// Moves the deadline of a fresh entry. `deadline` is called with the entry.
    pub(crate) fn set_expiry(
        &self,
        hash: u64,
        eq: impl Fn(&K) -> bool,
        deadline: impl FnOnce(&CachedValue<K, V>) -> Instant,
    ) -> bool {
        let pin = R::pin();
        let index = &self.shard(hash).index;
        let Some(node) = index.find(hash, eq, &pin) else { return false };
        let at = deadline(&node);
        if at != Instant::FAR_FUTURE {
            self.note_deadline();
        }
        let now = self.lifetimes.now();
        !node.is_expired(now) && node.set_expiry(at, now)
    }

    /// Starts both times of a fresh entry anew.
    pub(crate) fn touch(&self, hash: u64, eq: impl Fn(&K) -> bool) -> bool {
        let pin = R::pin();
        let Some(node) = self.look(hash, eq, &pin) else { return false };
        if self.lifetimes.idle_step().is_some() {
            node.extend_idle(self.lifetimes.idle(), 0);
        }
        match self.lifetimes.expiry(node.key(), node.value(), None) {
            Instant::FAR_FUTURE => true,
            at => {
                self.note_deadline();
                node.set_expiry(at, self.lifetimes.now())
            }
        }
    }

    /// Empties the cache, shard by shard; each in one moment.
    pub(crate) fn clear(&self) {
        {
            let pin = R::pin();
            let entries = (0..self.shards.len()).map(|i| self.clear_shard(i, &pin)).sum();
            self.counters.add(Event::Cleared, entries);
        }
        // A slice of each dead table now, if no reader is in the way; the rest by later writes.
        self.end_grace();
        let mut panics = Panics::default();
        for i in 0..self.shards.len() {
            self.collect(i, &mut panics);
        }
        panics.resume();
    }

    pub(crate) fn resize(&self, capacity: u64) {
        let Some(pool) = &self.pool else { return };
        pool.resize(capacity, |i| self.used(i, &R::pin()));
        let mut settling = Settling::new(self);
        for i in 0..self.shards.len() {
            let pin = R::pin();
            let now = self.time();
            self.make_room(i, Sake::Nobody, now, &pin, &mut settling);
        }
        let mut panics = settling.tell();
        self.free_all(&mut panics);
        panics.resume();
    }

    pub(crate) fn capacity(&self) -> Option<u64> {
        self.pool.as_ref().map(Pool::capacity)
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    pub(crate) fn entries(&self) -> u64 {
        let pin = R::pin();
        self.shards.iter().map(|shard| shard.index.generation(&pin).values()).sum()
    }

    pub(crate) fn weight(&self) -> u64 {
        let pin = R::pin();
        // A remembered error weighs 1, but is no entry of the users'.
        let weight = |i| self.used(i, &pin).saturating_sub(self.shards[i].index.generation(&pin).errors());
        (0..self.shards.len()).map(weight).fold(0, u64::saturating_add)
    }

    pub(crate) fn stats(&self) -> Stats {
        let pin = R::pin();
        self.counters.read(
            self.shards.iter().map(|shard| (shard.index.garbage(&pin) + shard.index.graves()) as u64).sum(),
        )
    }

    pub(crate) fn lifetimes(&self) -> &Lifetimes<K, V> {
        &self.lifetimes
    }

    /// Collects the fresh entries of the next buckets of shard `i`. Returns the next cursor, 0 at the shard's end.
    pub(crate) fn scan(&self, i: usize, cursor: u64, found: &mut Vec<Handle<K, V>>) -> u64 {
        let pin = R::pin();
        let next = self.shards[i].index.scan(cursor, &pin, found);
        found.retain(|handle| self.is_live(handle.entry()));
        next
    }

    /// The same with stale ones.
    pub(crate) fn scan_all(&self, i: usize, cursor: u64, found: &mut Vec<Handle<K, V>>) -> u64 {
        let pin = R::pin();
        let next = self.shards[i].index.scan(cursor, &pin, found);
        found.retain(|handle| self.is_of_use(handle.entry()));
        next
    }

    /// Whether there is a value that somebody may be served: a fresh or a stale one.
    fn is_of_use(&self, node: &CachedValue<K, V>) -> bool {
        let is_kept = || !self.lifetimes.is_over(node, self.lifetimes.now());
        node.kind() == NodeKind::Value && (self.is_live(node) || is_kept())
    }

    /// All that writes do along the way, done now: growth finished, expired entries out, garbage freed as far as no
    /// reader is in the way.
    pub(crate) fn run_pending(&self) {
        let mut settling = Settling::new(self);
        for i in 0..self.shards.len() {
            let pin = R::pin();
            let index = &self.shards[i].index;
            index.settle(&pin);
            let now = self.time();
            let round = index.round(&pin);
            self.sweep(i, round, round, now, &pin, &mut settling);
            self.make_room(i, Sake::Nobody, now, &pin, &mut settling);
        }
        let mut panics = settling.tell();
        self.free_all(&mut panics);
        panics.resume();
    }

    /// Begins a grace period for all that was retired so far, and tries to end it.
    fn end_grace(&self) {
        for shard in self.shards.iter() {
            shard.index.seal();
        }
        // Grace periods end in the order in which they began, so with this one all are over.
        let last = R::begin(&R::pin());
        R::settle(&last);
    }

    /// Frees all that was retired so far, as far as no reader is in the way. What others retire meanwhile is theirs.
    fn free_all(&self, panics: &mut Panics) {
        for _ in 0..PASSES {
            self.end_grace();
            let mut further = false;
            for i in 0..self.shards.len() {
                for _ in 0..self.shards[i].index.steps() {
                    if !self.collect(i, panics) {
                        break;
                    }
                    further = true;
                }
            }
            if !further {
                break;
            }
        }
    }

    /// Frees what is due in shard `i`: user code runs, outside of everything.
    ///
    /// Returns whether it came any further.
    fn collect(&self, i: usize, panics: &mut Panics) -> bool {
        thread_local! { static COLLECTING: Cell<bool> = const { Cell::new(false) } }
        struct Collecting;
        impl Drop for Collecting {
            fn drop(&mut self) {
                COLLECTING.with(|inside| inside.set(false));
            }
        }
        // A destructor that writes to a cache must not free more garbage on top of this one's stack.
        if COLLECTING.with(|inside| inside.replace(true)) {
            return false;
        }
        let _collecting = Collecting;
        self.shards[i].index.collect(|handle, cleared| match &self.listener {
            Some(listener) if cleared && handle.entry().kind() == NodeKind::Value => {
                panics.catch(|| listener(handle, RemovalCause::Cleared))
            }
            _ => {
                let mut panicked = Panics::default();
                panicked.catch(|| drop(handle));
                if panicked.forget() {
                    self.counters.count(Event::PanickedDrop);
                }
            }
        })
    }

    /// Checks every invariant that can be checked at rest. Panics with the name of the one that does not hold.
    #[cfg(any(test, fuzzing, dogpile_loom))]
    pub(crate) fn validate(&self) {
        let pin = R::pin();
        for i in 0..self.shards.len() {
            self.validate_shard(i, &pin);
        }
        if let Some(pool) = &self.pool {
            let whole = pool.capacity().min(i64::MAX as u64 / 4);
            assert_eq!(pool.sum(), whole as i64, "W1: budgets and pool sum up to the capacity");
        }
    }
}

/// The first of the panics of user code, kept until all else is done.
#[derive(Default)]
pub(crate) struct Panics(Option<Box<dyn Any + Send>>);

impl Panics {
    pub(crate) fn catch(&mut self, call: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
            match self.0 {
                None => self.0 = Some(panic),
                // The payload is the user's, and its destructor may panic in its turn.
                Some(_) => std::mem::forget(panic),
            }
        }
    }

    pub(crate) fn resume(self) {
        if let Some(panic) = self.0 {
            resume_unwind(panic);
        }
    }

    /// Whether there was one.
    fn forget(self) -> bool {
        self.0.map(std::mem::forget).is_some()
    }
}

/// What an operation leaves to be done when its pin and locks have gone.
#[must_use = "the listener is called by `finish`"]
pub(crate) struct Settling<'e, K, V, R: Reclaim> {
    engine: &'e Engine<K, V, R>,
    rest: Rest<K, V>,
}

/// The same, apart from its engine.
#[must_use = "the listener is called by `Engine::finish`"]
pub(crate) struct Rest<K, V> {
    events: Vec<(Handle<K, V>, RemovalCause)>,
    /// The shard in which something was retired, or `NONE`, or `MANY`.
    touched: usize,
}

const NONE: usize = usize::MAX;
const MANY: usize = usize::MAX - 1;

impl<K, V> Default for Rest<K, V> {
    #[inline]
    fn default() -> Self {
        Self { events: Vec::new(), touched: NONE }
    }
}

impl<'e, K, V, R: Reclaim> Settling<'e, K, V, R> {
    #[inline]
    fn new(engine: &'e Engine<K, V, R>) -> Self {
        Self { engine, rest: Rest::default() }
    }

    /// Leaves what is to be done to a later `finish`.
    fn into_rest(mut self) -> Rest<K, V> {
        std::mem::take(&mut self.rest)
    }

    /// Counts an entry that was unlinked from shard `i`, and gives it to limbo.
    #[inline]
    fn note(&mut self, i: usize, gone: Unlinked<'_, K, V, R>, cause: RemovalCause, pin: &R::Pin) {
        let event = match cause {
            RemovalCause::Expired => Some(Event::Expired),
            RemovalCause::Evicted => Some(Event::Evicted),
            RemovalCause::Removed => Some(Event::Removed),
            RemovalCause::Replaced | RemovalCause::Cleared => None,
        };
        self.note_as(event, i, gone, cause);
        self.engine.note_slack(i, pin);
    }

    /// The same for who evicts, and tells the pool of slack when it has done so.
    #[inline(always)]
    fn note_evicted(&mut self, i: usize, gone: Unlinked<'_, K, V, R>) {
        self.note_as(Some(Event::Evicted), i, gone, RemovalCause::Evicted);
    }

    #[inline(always)]
    fn note_as(&mut self, event: Option<Event>, i: usize, gone: Unlinked<'_, K, V, R>, cause: RemovalCause) {
        let engine = self.engine;
        if gone.kind() == NodeKind::Value {
            if let Some(event) = event {
                engine.counters.count(event);
            }
            if engine.listener.is_some() {
                self.tell_of(gone.handle(), cause);
            }
        }
        gone.retire();
        self.rest.touched = if self.rest.touched == NONE || self.rest.touched == i { i } else { MANY };
    }

    #[cold]
    #[inline(never)]
    fn tell_of(&mut self, gone: Handle<K, V>, cause: RemovalCause) {
        self.rest.events.push((gone, cause));
    }

    /// Calls the listener and frees what is due.
    ///
    /// # Panics
    /// With the listener's panic, when everything else has been done.
    #[inline]
    fn finish(self) {
        let due = match self.rest.touched {
            NONE => false,
            MANY => true,
            touched => self.engine.shards[touched].index.has_due(),
        };
        if due || !self.rest.events.is_empty() {
            self.finish_indeed();
        }
    }

    #[cold]
    #[inline(never)]
    fn finish_indeed(self) {
        let (engine, touched) = (self.engine, self.rest.touched);
        let mut panics = self.tell();
        match touched {
            NONE => {}
            MANY => {
                for i in 0..engine.shards.len() {
                    if engine.shards[i].index.has_due() {
                        engine.collect(i, &mut panics);
                    }
                }
            }
            touched => _ = engine.collect(touched, &mut panics),
        }
        panics.resume();
    }

    /// Calls the listener.
    fn tell(mut self) -> Panics {
        let mut panics = Panics::default();
        self.tell_all(&mut panics);
        panics
    }

    #[cold]
    #[inline(never)]
    fn tell_all(&mut self, panics: &mut Panics) {
        if let Some(listener) = &self.engine.listener {
            self.rest.events.drain(..).for_each(|(handle, cause)| panics.catch(|| listener(handle, cause)));
        }
    }
}

impl<K, V, R: Reclaim> Drop for Settling<'_, K, V, R> {
    /// What the listener must hear is said even if user code panicked in the middle of the operation.
    #[inline]
    fn drop(&mut self) {
        if !self.rest.events.is_empty() {
            let mut panics = Panics::default();
            self.tell_all(&mut panics);
            panics.forget();
        }
    }
}
