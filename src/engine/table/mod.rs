//! The index of one shard: a lock-free hash table of counted nodes.
//!
//! ```text
//! word -> buckets of one table -> slot -> CachedValue
//! ```
//!
//! Reads take no lock and write nothing shared: two dependent loads to the node. Replacing, removing and evicting are
//! one compare-exchange of a slot. Only the insertion of a *new* key takes the bucket's lock bit, around a handful of
//! loads and stores; a table grows bucket by bucket while it is used.
//!
//! | file | what |
//! |---|---|
//! | `node` | `CachedValue`, `Draft`, `Handle` |
//! | `blocks` | the memory of nodes |
//! | `bucket` | the packed words, the block of memory of a table, the counters of a generation |
//! | `shards` | which index |
//! | `mod` | searching |
//! | `write` | replace, unlink, insert |
//! | `grow` | migration to a table twice the size, `clear` |
//! | `walk` | iteration, sweeping, and what becomes of garbage |
//!
//! # Invariants
//! - **I1, one live slot a key.** The compare-exchange that takes the lock proves that no insert came since the scan,
//!   as far as the tags tell; what matched the tag is looked at again under the lock (H2).
//! - **I2, tags are right.** In a bucket that is not migrated every live slot has its tag in the meta word; a stale tag
//!   only makes a false match.
//! - **I3, retired once.** By the winner of the compare-exchange that unlinked it.
//! - **I4, one way.** `node -> frozen -> moved` never reverts.
//! - **I5, private children.** The two buckets that a bucket migrates to are written by its migrator alone until it is
//!   MIGRATED: every writer migrates the home bucket first (R4).
//! - **I7, no user code under a lock bit**, and no allocation.
//! - **I9, silent reads.** `find` executes no read-modify-write and no fence.
//!
//! # Orderings
//! | name       | where                                  | pairs with     | carries                                     |
//! |------------|----------------------------------------|----------------|---------------------------------------------|
//! | `WORD`     | load of `word`                         | `SWITCH`, `CLEAR` | the table's header and buckets           |
//! | `SWITCH`   | CAS of `word` at the end of a growth   | `WORD`, `CLEAR` | the same; of the old table it learns nothing new |
//! | `CLEAR`    | swap of `word`                         | `WORD`, `SWITCH`, `CLEAR` | the same, both ways: who clears reads the table that was there |
//! | `META`     | load of a meta word                    | `UNLOCK`       | slots and chain links stored before it      |
//! | `LOCK`     | CAS that sets LOCK                     | `UNLOCK`       | all earlier holders' stores                 |
//! | `UNLOCK`   | store of a meta word                   | `META`, `LOCK` | the holder's stores                         |
//! | `READ`     | load of a slot                         | `PUBLISH`, `SWAP`, `LEAVE` | the node; after MOVED the child bucket |
//! | `PUBLISH`  | store of a node into a slot            | `READ`         | the node                                    |
//! | `SWAP`     | CAS of a slot, node → newer version    | `READ`         | the newer node                              |
//! | `UNLINK`   | CAS of a slot, node → null             | `READ`         | what its thread did before: who sees the key gone sees that |
//! | `FREEZE`   | CAS of a slot, node → frozen           | nobody         | nothing; the node was read with `READ`      |
//! | `LEAVE`    | store MOVED                            | `READ`         | the child bucket, `next`                    |
//! | `LINK`     | store of a chain link, CAS of `next`   | `FOLLOW`       | the bucket or table behind it               |
//! | `FOLLOW`   | load of a chain link or of `next`      | `LINK`         | the same                                    |
//! | `SWEEP`    | fetch-max of `swept`                   | `SWEPT`        | what was moved out of the buckets before it |
//! | `SWEPT`    | load of `swept`                        | `SWEEP`        | the same: who switches hands all of it on   |
//!
//! # Progress
//! Reads are wait-free but for the length of chains and of a running growth. Replace, remove and evict wait for a
//! thread that sleeps inside the migration of the same bucket (its twelve-odd stores); an insert of a new key also for
//! one that sleeps inside another insert into the same bucket. Nobody waits for anything else.
//!
//! # Source
//! Tags in a control word with a SWAR test: Google's Swiss tables (M. Kulukundis, CppCon 2017). Incremental migration
//! with frozen slots: C. Click, *A Lock-Free Wait-Free Hash Table*, 2007; our departures: a table's readers finish the
//! old bucket before they follow a moved slot, a bucket's inserts are serialised by a bit, and progress is proven by
//! a sweep over MIGRATED buckets and not by a counter, so that a sleeping helper holds nobody up.

mod blocks;
mod bucket;
mod grow;
mod node;
mod shards;
mod walk;
mod write;

#[cfg(test)]
mod progress_tests;
#[cfg(test)]
mod tests;

pub(crate) use bucket::Generation;
pub(crate) use node::{CLAIMED, Draft, Failure, HELD, MOST_REUSE, NodeKind, TAKEN, Terms};
pub use node::{CachedValue, Handle};
pub(crate) use shards::Shards;
pub(crate) use write::{Eviction, Located, Spot, Unlinked};

use super::reclaim::{Held, Limbo, Pinned, Reclaim, Shared};
use crate::sync::{AtomicPtr, Mutex, orderings};
use bucket::{Bucket, Content, Meta, Node, Spares, Table, tag_of};
use crossbeam_utils::CachePadded;
use std::marker::PhantomData;
use std::ptr::NonNull;

orderings! { table:
    WORD = Acquire, SWITCH = Release, CLEAR = AcqRel, META = Acquire, LOCK = Acquire, UNLOCK = Release, READ = Acquire,
    PUBLISH = Release, SWAP = Release, UNLINK = Release, FREEZE = Relaxed, LEAVE = Release, LINK = Release,
    FOLLOW = Acquire, SWEEP = Release, SWEPT = Acquire, NUMBER = Relaxed
}

/// The entries of one shard, found by hash and key.
pub(crate) struct Index<K, V, R: Reclaim> {
    /// Read by everyone, written when a table is replaced: alone on its lines.
    word: CachePadded<AtomicPtr<Bucket<Node<K, V>>>>,
    limbo: Limbo<R>,
    /// Tables that `clear` replaced, whose nodes are still to be dropped. Readers never come here.
    graveyard: Mutex<Vec<walk::Grave<K, V>>>,
    spares: Spares<Node<K, V>>,
    /// Whether weights are accounted.
    weighed: bool,
    owns: PhantomData<CachedValue<K, V>>,
}

// SAFETY: threads that share an index share `&K` and `&V` (hence `Sync`), and any of them may drop a node (hence
// `Send`). Its structure is atomics and a mutex; raw addresses in it are of nodes and tables it owns.
unsafe impl<K: Send + Sync, V: Send + Sync, R: Reclaim> Send for Index<K, V, R> {}
// SAFETY: as above.
unsafe impl<K: Send + Sync, V: Send + Sync, R: Reclaim> Sync for Index<K, V, R> {}

impl<K, V, R: Reclaim> Index<K, V, R> {
    /// An empty index with room for about `entries`, which grows as needed.
    pub(crate) fn new(entries: usize, weighed: bool) -> Self {
        // At most four entries a bucket. The room is a wish: where there is no memory for it, less will do.
        let wanted = (entries / 4).clamp(1, 1 << 62).next_power_of_two().trailing_zeros();
        let table = (1..=wanted)
            .rev()
            .find_map(|log2| Table::allocate(log2, None))
            .unwrap_or_else(|| Table::first(None));
        Self {
            word: CachePadded::new(AtomicPtr::new(table.pack())),
            limbo: Limbo::new(),
            graveyard: Mutex::new(Vec::new()),
            spares: Spares::new(),
            weighed,
            owns: PhantomData,
        }
    }

    #[inline]
    fn table<'p>(&'p self, _pin: &'p impl Pinned) -> Table<'p, Node<K, V>> {
        // SAFETY: `word` is always a packed table. One that is replaced is retired into our limbo by the thread that
        // replaced it, so under a pin it lives as long as the pin (R2).
        unsafe { Table::unpack(self.word.load(ord::WORD())) }
    }

    /// The table after `table`, once growth has begun.
    #[inline]
    fn after<'p>(
        &'p self,
        table: Table<'p, Node<K, V>>,
        _pin: &'p impl Pinned,
    ) -> Option<Table<'p, Node<K, V>>> {
        let next = table.header().next.load(ord::FOLLOW());
        // SAFETY: `next` is null or a packed table; it is retired after `table`, which the pin protects.
        (!next.is_null()).then(|| unsafe { Table::unpack(next) })
    }

    /// What the entries of now count. Under a running `clear` or growth it may be yesterday's.
    pub(crate) fn generation<'p>(&'p self, pin: &'p R::Pin) -> &'p Generation {
        self.table(pin).generation()
    }

    /// The entry with that hash and key, wherever it is.
    #[inline]
    pub(crate) fn find<'p>(
        &'p self,
        hash: u64,
        eq: impl Fn(&K) -> bool,
        pin: &'p R::Pin,
    ) -> Option<Shared<'p, CachedValue<K, V>>> {
        match self.find_at_once(hash, &eq, pin) {
            Some(found) => found,
            None => self.find_further(hash, &eq, pin),
        }
    }

    /// The same where it ends in the first bucket. None: it does not.
    #[inline(always)]
    fn find_at_once<'p>(
        &'p self,
        hash: u64,
        eq: impl Fn(&K) -> bool,
        pin: &'p impl Pinned,
    ) -> Option<Option<Shared<'p, CachedValue<K, V>>>> {
        let bucket = self.table(pin).home(hash);
        let meta = Meta(bucket.meta.load(ord::META()));
        let look = |slot: usize| {
            let slot = &bucket.slots[slot];
            let Some(node) = Content::node(slot.load(ord::READ())) else {
                // Moved, or filled just now: another look will tell. Free: it tells nothing.
                return (!slot.load(ord::READ()).is_null()).then_some(None);
            };
            let node = self.shared(node, pin);
            is_key(&node, hash, &eq).then_some(Some(Some(node)))
        };
        // The first by itself: there is seldom a second.
        let mut matches = meta.matches(tag_of(hash));
        if let Some(first) = matches.next() {
            if let Some(answer) = look(first) {
                return answer;
            }
            for slot in matches {
                if let Some(answer) = look(slot) {
                    return answer;
                }
            }
        }
        (!meta.goes_on()).then_some(None)
    }

    /// The same search over chains and tables.
    #[cold]
    #[inline(never)]
    fn find_further<'p>(
        &'p self,
        hash: u64,
        eq: &impl Fn(&K) -> bool,
        pin: &'p impl Pinned,
    ) -> Option<Shared<'p, CachedValue<K, V>>> {
        let mut table = self.table(pin);
        loop {
            let home = table.home(hash);
            let meta = Meta(home.meta.load(ord::META()));
            let mut moved = meta.is_migrated();
            if !moved {
                let (mut bucket, mut tags) = (home, meta);
                loop {
                    for slot in tags.matches(tag_of(hash)) {
                        match Content::of(bucket.slots[slot].load(ord::READ())) {
                            Content::Live(node) | Content::Frozen(node) => {
                                let node = self.shared(node, pin);
                                if is_key(&node, hash, eq) {
                                    return Some(node);
                                }
                            }
                            Content::Moved => moved = true,
                            Content::Free => {}
                        }
                    }
                    let Some(chained) = meta.has_chain().then(|| self.chained(bucket, pin)).flatten() else {
                        break;
                    };
                    bucket = chained;
                    tags = Meta(bucket.meta.load(ord::META()));
                }
            }
            if !moved {
                return None;
            }
            table = self.after(table, pin).expect("a moved slot has a table that it moved to");
        }
    }

    /// As `find`, held past the pin.
    #[inline]
    pub(crate) fn hold(&self, hash: u64, eq: impl Fn(&K) -> bool) -> Option<Held<'_, CachedValue<K, V>>> {
        // SAFETY: nodes of this index are retired into its own limbo, which lives as long as `self` is borrowed.
        unsafe { Held::find::<R>(|pin, _| self.find(hash, eq, pin)) }
    }

    /// The same for what `hold_at_once` did not decide.
    pub(crate) fn hold_further(
        &self,
        hash: u64,
        eq: impl Fn(&K) -> bool,
    ) -> Option<Held<'_, CachedValue<K, V>>> {
        // SAFETY: as in `hold`.
        let found = unsafe { Held::find_at_once::<R>(|pin, _| Some(self.find_further(hash, &eq, pin))) };
        found.unwrap_or_else(|| self.hold(hash, eq))
    }

    /// The same where it costs least. None: nothing has been decided.
    #[inline(always)]
    pub(crate) fn hold_at_once(
        &self,
        hash: u64,
        eq: impl Fn(&K) -> bool,
    ) -> Option<Option<Held<'_, CachedValue<K, V>>>> {
        // SAFETY: as in `hold`.
        unsafe { Held::find_at_once::<R>(|pin, _| self.find_at_once(hash, eq, pin)) }
    }

    #[inline]
    fn shared<'p>(&'p self, node: NonNull<Node<K, V>>, pin: &'p impl Pinned) -> Shared<'p, Node<K, V>> {
        // SAFETY: only called with what a slot held after `pin` was made; nodes are retired into our limbo (I3).
        unsafe { Shared::new(node, pin) }
    }

    /// The bucket chained behind `bucket`.
    fn chained<'p>(
        &'p self,
        bucket: &'p Bucket<Node<K, V>>,
        _pin: &'p impl Pinned,
    ) -> Option<&'p Bucket<Node<K, V>>> {
        // SAFETY: chained buckets are freed with their table, or retired when they are unlinked: the pin covers both.
        unsafe { bucket.overflow.load(ord::FOLLOW()).as_ref() }
    }

    /// The bucket of `hash`, which the processor is asked for.
    #[inline]
    pub(crate) fn ahead<'p>(&'p self, hash: u64, pin: &'p R::Pin) -> Ahead<'p, K, V> {
        let bucket = self.table(pin).home(hash);
        prefetch(std::ptr::from_ref(bucket));
        Ahead(bucket)
    }

    /// Asks the processor for the bucket of `hash`.
    pub(crate) fn prefetch_bucket(&self, hash: u64, pin: &R::Pin) {
        self.ahead(hash, pin);
    }

    /// Asks the processor for the first node that `hash` may mean.
    pub(crate) fn prefetch_node(&self, hash: u64, pin: &R::Pin) {
        Ahead(self.table(pin).home(hash)).prefetch_node(hash);
    }

    /// How many buckets the table has.
    pub(crate) fn buckets(&self, pin: &R::Pin) -> usize {
        self.table(pin).len()
    }
}

/// A bucket that will be looked at.
pub(crate) struct Ahead<'p, K, V>(&'p Bucket<Node<K, V>>);

impl<K, V> Ahead<'_, K, V> {
    /// Asks the processor for the first node in it that `hash` may mean.
    #[inline]
    pub(crate) fn prefetch_node(&self, hash: u64) {
        let meta = Meta(self.0.meta.load(ord::META()));
        if let Some(slot) = meta.matches(tag_of(hash)).next() {
            // Frozen or not, the line is the same; moved or free, none is fetched in vain but the first of all.
            prefetch(self.0.slots[slot].load(ord::READ()));
        }
    }
}

#[inline]
fn is_key<K, V>(node: &CachedValue<K, V>, hash: u64, eq: impl Fn(&K) -> bool) -> bool {
    // Comparing small keys is cheaper than comparing the hashes first.
    let costly = const { size_of::<K>() > 16 || std::mem::needs_drop::<K>() };
    (!costly || node.hash() == hash as u32) && eq(node.key())
}

/// Asks the processor for the line at an address, which may be any.
#[inline]
pub(super) fn prefetch<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch reads nothing and faults on no address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}
