//! Growth: a table twice the size is filled bucket by bucket, by the writers that pass.
//!
//! Whoever finds the table too full links an empty one behind it. From then on every writer first migrates the home
//! bucket of its key, then one more. A second hand sweeps over the buckets and checks that each is MIGRATED; the thread
//! whose sweep arrives at the end points the word to the new table. No counter says "done", so a thread that sleeps
//! anywhere but inside a bucket's few stores holds nobody up (H9).
//!
//! Growth is advisory: without memory for a greater table, or while the last growth still runs, chains take the load.

use super::bucket::{Bucket, Content, Generation, Meta, Node, SLOTS, Table, frozen, moved, tag_of};
use super::walk::Kind;
use super::write::Patience;
use super::{Index, ord};
use crate::engine::reclaim::Reclaim;
use crate::sync::{Arc, AtomicPtr, Backoff};
use std::ptr::NonNull;

/// Up to this size whoever triggers the growth does all of it. Models have both sorts in small.
const AT_ONCE: usize = if cfg!(dogpile_loom) { 1 } else { 64 };
/// How many MIGRATED buckets a helper checks off.
const SWEEP: usize = 32;

/// One of the two buckets that a bucket's entries go to, while only its migrator writes it (I5).
struct Child<'p, N> {
    table: Table<'p, N>,
    home: &'p Bucket<N>,
    last: &'p Bucket<N>,
    used: usize,
}

impl<'p, N> Child<'p, N> {
    fn new(table: Table<'p, N>, index: usize) -> Self {
        let home = table.bucket(index);
        Self { table, home, last: home, used: 0 }
    }

    /// Puts a node in; `spare` holds the chained buckets reserved before the lock was taken.
    #[expect(clippy::vec_box, reason = "they are linked into chains one by one")]
    fn push(&mut self, node: NonNull<N>, tag: u8, spare: &mut Vec<Box<Bucket<N>>>) {
        if self.used == SLOTS {
            let chained =
                NonNull::from(Box::leak(spare.pop().expect("as many as the entries need were reserved")));
            self.table.note_chain();
            self.last.overflow.store(chained.as_ptr(), ord::LINK());
            let meta = Meta(self.home.meta.load(ord::NUMBER())).with_chain(true);
            self.home.meta.store(meta.0, ord::UNLOCK());
            // SAFETY: just leaked into the new table, which outlives the pin under which this runs.
            self.last = unsafe { chained.as_ref() };
            self.used = 0;
        }
        // The slot before the tag: whoever finds the tag finds the node. Both before MOVED in the old slot (C4).
        self.last.slots[self.used].store(node.as_ptr(), ord::PUBLISH());
        let meta = Meta(self.last.meta.load(ord::NUMBER())).with_tag(self.used, tag);
        self.last.meta.store(meta.0, ord::UNLOCK());
        self.used += 1;
    }
}

impl<K, V, R: Reclaim> Index<K, V, R> {
    /// Begins to grow, if `table` is the one the word points to (C3) and nobody has begun.
    pub(super) fn grow<'p>(&'p self, table: Table<'p, Node<K, V>>, pin: &'p R::Pin) {
        let header = table.header();
        if self.word.load(ord::WORD()) != table.pack() || !header.next.load(ord::FOLLOW()).is_null() {
            return;
        }
        let Some(next) = Table::<Node<K, V>>::allocate(table.log2() + 1, Some(table.shared_generation()))
        else {
            return;
        };
        // A word that changed since the check above changed by `clear` only (a growth would have linked `next`): then
        // this links an empty table behind a dead one, and the reclaimer of the dead one follows it (H7).
        if header
            .next
            .compare_exchange(std::ptr::null_mut(), next.pack(), ord::LINK(), ord::NUMBER())
            .is_err()
        {
            // SAFETY: never published.
            unsafe { next.free() };
            return;
        }
        if table.len() <= AT_ONCE {
            // As far as nobody is in the way: an insert must not wait for a writer that sleeps in another bucket.
            let moved = (0..table.len()).filter(|i| self.migrate(table, *i, Patience::Try, pin)).count();
            if moved == table.len() {
                self.switch(table, pin);
            }
        }
    }

    /// Grows now, whatever the load.
    #[cfg(any(test, dogpile_loom))]
    pub(crate) fn grow_now(&self, pin: &R::Pin) {
        self.grow(self.table(pin), pin);
    }

    /// As a writer that found its place in the newest table.
    #[cfg(dogpile_loom)]
    pub(crate) fn grow_newest(&self, pin: &R::Pin) {
        let table = self.table(pin);
        self.grow(self.after(table, pin).unwrap_or(table), pin);
    }

    /// Brings a running growth to its end, waiting for writers inside a bucket.
    pub(crate) fn settle(&self, pin: &R::Pin) {
        let table = self.table(pin);
        if self.after(table, pin).is_some() {
            for i in 0..table.len() {
                self.migrate(table, i, Patience::Wait, pin);
            }
            self.switch(table, pin);
        }
    }

    /// A writer's share of the work: one bucket more, and a piece of the sweep.
    pub(super) fn help<'p>(&'p self, table: Table<'p, Node<K, V>>, pin: &'p R::Pin) {
        let header = table.header();
        let exhausted = header.cursor.load(ord::NUMBER()) >= table.len();
        if !exhausted {
            let mine = header.cursor.fetch_add(1, ord::NUMBER());
            if mine < table.len() {
                self.migrate(table, mine, Patience::Try, pin);
            }
        }
        let start = header.swept.load(ord::SWEPT());
        let stop = table.len().min(start.saturating_add(SWEEP));
        let mut at = start;
        while at < stop {
            let is_done = Meta(table.bucket(at).meta.load(ord::META())).is_migrated();
            // When no bucket is left to be handed out, one that is still not done was left by a thread that sleeps.
            if !(is_done || exhausted && self.migrate(table, at, Patience::Try, pin)) {
                break;
            }
            at += 1;
        }
        if at > start {
            header.swept.fetch_max(at, ord::SWEEP());
        }
        if at == table.len() {
            self.switch(table, pin);
        }
    }

    /// All buckets are MIGRATED: the next table takes over.
    fn switch<'p>(&'p self, table: Table<'p, Node<K, V>>, pin: &'p R::Pin) {
        let next = table.header().next.load(ord::FOLLOW());
        if self.word.compare_exchange(table.pack(), next, ord::SWITCH(), ord::NUMBER()).is_ok() {
            self.retire_table(Kind::Migrated, table, pin);
        }
    }

    /// Moves the entries of one bucket to the next table. True: they are moved, by whomever.
    pub(super) fn migrate<'p>(
        &'p self,
        table: Table<'p, Node<K, V>>,
        index: usize,
        patience: Patience,
        pin: &'p R::Pin,
    ) -> bool {
        let home = table.bucket(index);
        let next = self.after(table, pin).expect("migration follows the linking of the next table");
        let child_of = |hash: u32| next.index(hash.into()) & 1;
        let backoff = Backoff::new();
        loop {
            let meta = Meta(home.meta.load(ord::META()));
            if meta.is_migrated() {
                return true;
            }
            if meta.is_locked() {
                if patience == Patience::Try {
                    return false;
                }
                backoff.snooze();
                continue;
            }
            // Before the lock: read the hashes, reserve the buckets (H9). Entries can only become fewer until the lock
            // is taken, or the compare-exchange fails.
            let mut counts = [0; 2];
            self.for_each_slot(home, meta, pin, |slot| {
                if let Content::Live(node) | Content::Frozen(node) = Content::of(slot.load(ord::READ())) {
                    counts[child_of(self.shared(node, pin).hash())] += 1;
                }
            });
            let needed = counts.map(|count: usize| count.saturating_sub(SLOTS).div_ceil(SLOTS)).iter().sum();
            let mut spare: Vec<_> = (0..needed).map(|_| self.spares.take()).collect();
            if home.meta.compare_exchange(meta.0, meta.locked().0, ord::LOCK(), ord::NUMBER()).is_err() {
                continue;
            }
            let first = 2 * (index & table.mask());
            let mut children = [Child::new(next, first), Child::new(next, first + 1)];
            self.for_each_slot(home, meta, pin, |slot| {
                let mut raw = slot.load(ord::READ());
                // A frozen slot is nobody's but ours: writers wait, and evictors pass by.
                while !raw.is_null() {
                    match slot.compare_exchange(raw, frozen(raw), ord::FREEZE(), ord::READ()) {
                        Ok(_) => break,
                        Err(now) => raw = now,
                    }
                }
                if let Some(node) = NonNull::new(raw) {
                    let hash = self.shared(node, pin).hash();
                    children[child_of(hash)].push(node, tag_of(hash.into()), &mut spare);
                }
                slot.store(moved(), ord::LEAVE());
            });
            home.meta.store(meta.migrated().0, ord::UNLOCK());
            return true;
        }
    }

    fn for_each_slot<'p>(
        &'p self,
        home: &'p Bucket<Node<K, V>>,
        meta: Meta,
        pin: &'p R::Pin,
        mut visit: impl FnMut(&AtomicPtr<Node<K, V>>),
    ) {
        let mut bucket = home;
        loop {
            bucket.slots.iter().for_each(&mut visit);
            match meta.has_chain().then(|| self.chained(bucket, pin)).flatten() {
                Some(chained) => bucket = chained,
                None => return,
            }
        }
    }

    /// Replaces all entries by none, in one store. Returns how many there were.
    ///
    /// Writers that are still at work in the old table happen before the clear; what they publish goes with it.
    pub(crate) fn clear(&self, pin: &R::Pin) -> u64 {
        let generation = Arc::new(Generation::after(self.generation(pin)));
        let fresh = Table::<Node<K, V>>::first(Some(&generation));
        let old = self.word.swap(fresh.pack(), ord::CLEAR());
        // SAFETY: `old` was the word until now, so it is packed, and this thread retires it, below.
        let old = unsafe { Table::unpack(old) };
        let entries = old.generation().values();
        self.retire_table(Kind::Dead, old, pin);
        entries
    }
}
