//! Walking over entries: iteration, the sweep for expired ones, and the freeing of garbage.
//!
//! # Iteration
//! A cursor is the first hash not yet seen: a bucket holds hashes that follow one another, and when the table doubles its
//! halves are the next table's buckets, so no entry that stays is missed or repeated. A bucket that is moving is read
//! first, its children after it, and what was met twice is told apart by its address (M2). Source: P. Noordhuis, Redis
//! `dictScan`, 2012; our departures: the upper bits choose the bucket, so a cursor need not count in reverse, and there is
//! one table, whose moved buckets lead to the next.
//!
//! # Garbage
//! A migrated table holds no node: its chains are kept for the next one, its pages given back, a piece at a time. A table that `clear` replaced holds all its nodes, and perhaps
//! a next table: only here, when all users of it have gone, its `next` is looked at (H7), and its nodes are dropped in
//! slices, by later writes or by `Cache::run_pending`.

use super::bucket::{Bucket, Content, Header, Meta, Node, SLOTS, Table};
use super::write::{Eviction, Occupied, Unlinked};
use super::{CachedValue, Handle, Index, ord};
use crate::engine::reclaim::{Garbage, Reclaim, Shared};
use crate::sync::{is_panicking, lock};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{self, NonNull};

/// What a retired address is, in its low bits. Everything retired is aligned to 8.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A node, its table reference to be taken back.
    Node = 0,
    Bucket = 1,
    /// A table all of whose slots are moved.
    Migrated = 2,
    /// A table that `clear` took away.
    Dead = 3,
    /// A node of such a table that a guard held on to.
    Cleared = 4,
}

/// A dead table on its way out, or one that was outgrown.
pub(super) struct Grave<K, V> {
    header: NonNull<Header<Node<K, V>>>,
    /// The first bucket that is not emptied yet.
    at: usize,
    /// Whether its nodes have moved on, to a table that lives.
    is_moved: bool,
}

/// How many buckets of a dead table are emptied at a time.
const SLICE: usize = 64;
/// And how many of an outgrown one, where only chains and pages are left: 256 KiB.
const RAZED: usize = if cfg!(dogpile_loom) { 1 } else { 4096 };

impl<K, V, R: Reclaim> Index<K, V, R> {
    /// Collects handles of the entries in the buckets that `cursor` means, and returns the next cursor, 0 at the end.
    pub(crate) fn scan(&self, cursor: u64, pin: &R::Pin, found: &mut Vec<Handle<K, V>>) -> u64 {
        let table = self.table(pin);
        let first = found.len();
        let index = table.index(cursor);
        self.gather(table, index, pin, &mut |node| {
            if !found[first..].iter().any(|seen| ptr::eq(seen.as_ptr(), node.as_ptr())) {
                found.push(Handle::share(node));
            }
        });
        // After the last bucket 2^32, of which 32 bits are 0.
        ((index as u64 + 1) << (u32::BITS - table.log2())) & u64::from(u32::MAX)
    }

    fn gather<'p>(
        &'p self,
        table: Table<'p, Node<K, V>>,
        index: usize,
        pin: &'p R::Pin,
        visit: &mut impl FnMut(Shared<'p, CachedValue<K, V>>),
    ) {
        let home = table.bucket(index);
        let meta = Meta(home.meta.load(ord::META()));
        let mut moved = meta.is_migrated();
        let mut bucket = (!moved).then_some(home);
        while let Some(here) = bucket {
            for slot in &here.slots {
                match Content::of(slot.load(ord::READ())) {
                    Content::Live(node) | Content::Frozen(node) => visit(self.shared(node, pin)),
                    Content::Moved => moved = true,
                    Content::Free => {}
                }
            }
            bucket = meta.has_chain().then(|| self.chained(here, pin)).flatten();
        }
        if moved {
            let next = self.after(table, pin).expect("a moved slot has a table that it moved to");
            self.gather(next, 2 * index, pin, visit);
            self.gather(next, 2 * index + 1, pin, visit);
        }
    }

    /// Looks at the next slots of a hand that goes round the table, and takes out what `is_over` names: `least` slots, and
    /// two more for each that it finds, up to `most`.
    pub(crate) fn sweep<'p>(
        &'p self,
        least: usize,
        most: usize,
        pin: &'p R::Pin,
        is_over: impl Fn(&CachedValue<K, V>) -> bool,
        mut take: impl FnMut(Unlinked<'p, K, V, R>),
    ) {
        let table = self.table(pin);
        if self.after(table, pin).is_some() {
            // A growing table is swept when it has grown: its slots are about to move.
            return;
        }
        let hand = &table.generation().hand;
        let mut left = least;
        for _ in 0..most {
            if left == 0 {
                return;
            }
            left -= 1;
            // A load and a store: two sweeps that meet look at a slot twice, and no more.
            let at = hand.load(ord::NUMBER());
            hand.store(at.wrapping_add(1), ord::NUMBER());
            let home = table.bucket(at / SLOTS);
            let mut bucket = Some(home);
            while let Some(here) = bucket {
                let slot = &here.slots[at % SLOTS];
                if let Content::Live(node) = Content::of(slot.load(ord::READ())) {
                    let node = self.shared(node, pin);
                    if is_over(&node)
                        && let Eviction::Done(unlinked) = Occupied::at(self, table, slot, node, pin).evict()
                    {
                        take(unlinked);
                        left += 2;
                    }
                }
                bucket = self.chained(here, pin);
            }
        }
    }

    /// How many slots a whole round of the sweep has.
    pub(crate) fn round(&self, pin: &R::Pin) -> usize {
        self.table(pin).len() * SLOTS
    }

    #[inline]
    pub(super) fn retire(&self, kind: Kind, address: *mut (), weight: u64, heavy: u64, pin: &R::Pin) {
        let item = Garbage(address.map_addr(|address| address | kind as usize));
        let population = || self.population(pin);
        // SAFETY: our callers unlinked what they retire by the one compare-exchange, swap or locked store that could
        // (I3), under this pin.
        unsafe { self.limbo.retire(item, weight, heavy, population, pin) };
    }

    fn population(&self, pin: &R::Pin) -> usize {
        usize::try_from(self.generation(pin).entries()).unwrap_or(usize::MAX)
    }

    pub(super) fn retire_table<'p>(&'p self, kind: Kind, table: Table<'p, Node<K, V>>, pin: &'p R::Pin) {
        // The header's address has room for the kind, and leads back to the table.
        self.retire(kind, table.header_ptr().as_ptr().cast(), 0, 0, pin);
    }

    /// Whether enough garbage has come together to look after.
    #[inline]
    pub(crate) fn has_due(&self) -> bool {
        self.limbo.has_due()
    }

    /// How many objects are retired and not yet freed.
    pub(crate) fn garbage(&self, pin: &R::Pin) -> usize {
        self.limbo.len(pin)
    }

    /// How many buckets of dead and outgrown tables are still to be emptied.
    pub(crate) fn graves(&self) -> usize {
        let buckets = |grave: &Grave<K, V>| {
            // SAFETY: a table in the graveyard is freed by who has taken it out of there.
            let table: Table<'_, Node<K, V>> = unsafe { Table::from_header(grave.header) };
            let next = table.header().next.load(ord::FOLLOW());
            let next = NonNull::new(next).filter(|_| !grave.is_moved).map_or(0, |next| {
                // SAFETY: a dead table's next is a packed table that is freed after it.
                let next: Table<'_, Node<K, V>> = unsafe { Table::unpack(next.as_ptr()) };
                next.len()
            });
            table.len() - grave.at + next
        };
        lock(&self.graveyard).iter().map(buckets).sum()
    }

    /// In how many steps `collect` frees what waits now.
    pub(crate) fn steps(&self) -> usize {
        // Each dead table, and the one after it, ends with a slice of its own.
        self.limbo.steps() + self.graves() / SLICE + 2 * lock(&self.graveyard).len()
    }

    /// Makes what is retired worth an effort to whoever looks after it next. Returns whether there is anything.
    #[cold]
    #[inline(never)]
    pub(crate) fn tend(&self, pin: &R::Pin) -> bool {
        let is_razed = !lock(&self.graveyard).is_empty();
        if is_razed {
            self.limbo.note_due();
        }
        self.limbo.tend(self.population(pin), pin) || is_razed
    }

    /// Makes everything retired so far wait for a grace period of its own instead of for more garbage.
    pub(crate) fn seal(&self) {
        let pin = R::pin();
        self.limbo.flush(self.population(&pin), &pin);
    }

    /// Frees what is due: drops keys and values, so it runs user code. Not to be called under a pin or a lock.
    ///
    /// `release` gets the table's reference of each node, and whether a `clear` took it away. Returns whether it came
    /// any further; what guards hold does not count.
    pub(crate) fn collect(&self, mut release: impl FnMut(Handle<K, V>, bool)) -> bool {
        let freed = self.free(self.limbo.take(), &mut release);
        let Some(grave) = lock(&self.graveyard).pop() else { return freed };
        let (nodes, rest) = self.empty(grave);
        if let Some(rest) = rest {
            lock(&self.graveyard).push(rest);
            // The next write goes on.
            self.limbo.note_due();
        }
        // A guard may still hold one of them: those go through limbo once more.
        self.free(self.limbo.unheld(nodes), &mut release);
        true
    }

    /// Returns whether there was anything.
    fn free(
        &self,
        due: impl IntoIterator<Item = Garbage>,
        release: &mut impl FnMut(Handle<K, V>, bool),
    ) -> bool {
        let mut any = false;
        #[cfg(dogpile_loom)]
        let mut seen = Vec::new();
        for Garbage(address) in due {
            any = true;
            #[cfg(dogpile_loom)]
            {
                assert!(!seen.contains(&address), "I3: what is retired is retired once");
                seen.push(address);
            }
            // SAFETY: what is retired is an address of something, and limbo leaves out places that are empty.
            let plain = unsafe { NonNull::new_unchecked(address.map_addr(|address| address & !7)) };
            let kind = address.addr() & 7;
            if kind == Kind::Node as usize || kind == Kind::Cleared as usize {
                // SAFETY: a node in limbo carries the table's reference, also one from a dead table, and nobody can reach it
                // but by counts of their own (R2, R3).
                let node = unsafe { Handle::from_raw(plain.cast()) };
                release(node, kind == Kind::Cleared as usize);
            } else {
                self.free_other(kind, plain);
            }
        }
        any
    }

    #[cold]
    fn free_other(&self, kind: usize, address: NonNull<()>) {
        if kind == Kind::Bucket as usize {
            // SAFETY: a chained bucket that was taken out of its chain, came from `Bucket::boxed`, and is past its grace
            // period. It holds no node.
            drop(unsafe { Box::from_raw(address.cast::<Bucket<Node<K, V>>>().as_ptr()) });
            return;
        }
        let header = address.cast::<Header<Node<K, V>>>();
        if kind == Kind::Dead as usize {
            lock(&self.graveyard).push(Grave { header, at: 0, is_moved: false });
            return;
        }
        if let Some(rest) = self.raze(Grave { header, at: 0, is_moved: true }) {
            lock(&self.graveyard).push(rest);
            self.limbo.note_due();
        }
    }

    /// Gives back what the next buckets of an outgrown table hold, and the table itself when that was all.
    fn raze(&self, mut grave: Grave<K, V>) -> Option<Grave<K, V>> {
        // SAFETY: a migrated table past its grace period is ours alone, and freed only below.
        let table = unsafe { Table::from_header(grave.header) };
        let homes = grave.at..table.len().min(grave.at + RAZED);
        let mut chained = Vec::new();
        // SAFETY: as above.
        unsafe { table.unchain(homes.clone(), |bucket| chained.push(bucket)) };
        self.spares.keep(chained, table.len());
        grave.at = homes.end;
        if homes.len() < table.len() {
            // SAFETY: as above; its nodes have moved on, its chains are gone, and these buckets are done with.
            unsafe { table.give_back(homes) };
        }
        if grave.at < table.len() {
            return Some(grave);
        }
        // SAFETY: as above.
        unsafe { table.free() };
        None
    }

    /// A step of the end of a table. Returns the nodes that it held, and what is left.
    fn empty(&self, grave: Grave<K, V>) -> (Vec<Garbage>, Option<Grave<K, V>>) {
        if grave.is_moved { (Vec::new(), self.raze(grave)) } else { self.exhume(grave, SLICE) }
    }

    /// Takes the nodes out of the next `most` buckets of a dead table, and frees it when it is empty.
    fn exhume(&self, mut grave: Grave<K, V>, most: usize) -> (Vec<Garbage>, Option<Grave<K, V>>) {
        // SAFETY: the grave's table is dead, past its grace period, and freed only below.
        let table = unsafe { Table::from_header(grave.header) };
        let mut nodes = Vec::new();
        let stop = table.len().min(grave.at.saturating_add(most));
        for i in grave.at..stop {
            let mut bucket = Some(table.bucket(i));
            while let Some(here) = bucket {
                for slot in &here.slots {
                    if let Content::Live(node) | Content::Frozen(node) = Content::of(slot.load(ord::READ())) {
                        let node = node.as_ptr().map_addr(|address| address | Kind::Cleared as usize);
                        nodes.push(Garbage(node.cast()));
                    }
                }
                // SAFETY: chained buckets of a dead table are freed with it.
                bucket = unsafe { here.overflow.load(ord::FOLLOW()).as_ref() };
            }
        }
        grave.at = stop;
        if stop < table.len() {
            return (nodes, Some(grave));
        }
        let next = table.header().next.load(ord::FOLLOW());
        // SAFETY: its nodes are out, and nobody else knows it.
        unsafe { table.unchain(0..table.len(), drop) };
        // SAFETY: as above, and its chains are out.
        unsafe { table.free() };
        if next.is_null() {
            return (nodes, None);
        }
        // SAFETY: a dead table's next is a packed table that is dead with it.
        let next: Table<'_, Node<K, V>> = unsafe { Table::unpack(next) };
        (nodes, Some(Grave { header: next.header_ptr(), at: 0, is_moved: false }))
    }
}

#[cfg(any(test, fuzzing, dogpile_loom))]
impl<K, V, R: Reclaim> Index<K, V, R> {
    /// Checks the invariants of an index at rest, and returns its entries, pending ones left out.
    pub(crate) fn validate(&self, pin: &R::Pin, weighed: bool) -> Vec<Handle<K, V>> {
        use super::NodeKind;
        use super::bucket::tag_of;
        let table = self.table(pin);
        let mut nodes: Vec<Handle<K, V>> = Vec::new();
        let next = self.after(table, pin);
        for (table, is_old) in [(Some(table), true), (next, false)] {
            let Some(table) = table else { continue };
            for i in 0..table.len() {
                let home = table.bucket(i);
                let meta = Meta(home.meta.load(ord::META()));
                assert!(!meta.is_locked(), "at rest no bucket is locked");
                assert!(
                    !meta.is_migrated() || (is_old && next.is_some()),
                    "only a growing table has migrated buckets"
                );
                assert_eq!(
                    meta.has_chain(),
                    !home.overflow.load(ord::FOLLOW()).is_null(),
                    "H5: CHAIN tells of a chain"
                );
                let mut bucket = Some((home, meta));
                while let Some((here, tags)) = bucket {
                    for (slot, content) in here.slots.iter().enumerate() {
                        match Content::of(content.load(ord::READ())) {
                            Content::Free => {
                                assert!(!meta.is_migrated(), "I4: a migrated bucket's slots are moved")
                            }
                            Content::Moved => assert!(meta.is_migrated(), "at rest no bucket is half moved"),
                            Content::Frozen(_) => panic!("I4: at rest nothing is frozen"),
                            Content::Live(node) => {
                                let node = self.shared(node, pin);
                                let hash = u64::from(node.hash());
                                assert!(ptr::eq(table.home(hash), home), "a node is in its home bucket");
                                assert!(
                                    tags.matches(tag_of(hash)).any(|found| found == slot),
                                    "I2: its tag is right"
                                );
                                nodes.push(Handle::share(node));
                            }
                        }
                    }
                    let chained = self.chained(here, pin);
                    bucket = chained.map(|chained| (chained, Meta(chained.meta.load(ord::META()))));
                }
            }
        }
        let generation = table.generation();
        let count = |kind| nodes.iter().filter(|node| node.entry().kind() == kind).count() as u64;
        assert_eq!(generation.nodes(), nodes.len() as u64, "I8: the count is exact at rest");
        let pending = generation.nodes() - generation.entries();
        assert_eq!(pending, count(NodeKind::Pending), "I8: the count of pending nodes is exact at rest");
        assert_eq!(generation.values(), count(NodeKind::Value), "I8: the count of values is exact at rest");
        if weighed {
            let weight: u64 = nodes.iter().map(|node| u64::from(node.entry().weight())).sum();
            assert_eq!(generation.weight(), weight, "I8: the weight is exact at rest");
        }
        nodes.retain(|node| node.entry().kind() != NodeKind::Pending);
        nodes
    }
}

impl<K, V, R: Reclaim> Drop for Index<K, V, R> {
    fn drop(&mut self) {
        // Nobody borrows the index any more, so nobody is pinned in it or holds a node by a slot. A destructor that
        // panics must not keep the others from running.
        let mut first_panic = None;
        let mut release = |handle: Handle<K, V>| {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(handle))) {
                first_panic.get_or_insert(panic);
            }
        };
        let garbage = self.limbo.drain();
        self.free(garbage, &mut |handle, _| release(handle));
        let word = self.word.load(ord::WORD());
        // SAFETY: the word is a packed table; `&mut self`, so it is ours alone.
        let table: Table<'_, Node<K, V>> = unsafe { Table::unpack(word) };
        let mut graves = std::mem::take(&mut *lock(&self.graveyard));
        graves.push(Grave { header: table.header_ptr(), at: 0, is_moved: false });
        while let Some(grave) = graves.pop() {
            let (nodes, rest) = self.empty(grave);
            graves.extend(rest);
            self.free(nodes, &mut |handle, _| release(handle));
        }
        if let Some(panic) = first_panic
            && !is_panicking()
        {
            resume_unwind(panic);
        }
    }
}
