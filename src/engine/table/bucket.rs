//! Buckets, and the block of memory that a table is.
//!
//! A table is one allocation: a header, then a power of two of 64-byte buckets. Its *word* packs the address of bucket
//! 0 with the logarithm of their number, so that a reader needs one load to know both.
//!
//! ```text
//! bucket: | meta 8 | slot 0 | slot 1 | slot 2 | slot 3 | slot 4 | slot 5 | overflow |
//! meta:   bits 0..48 six tags, 0 = never used | 48 LOCK | 49 MIGRATED | 50 CHAIN | 51..64 version
//! slot:   null = free | node | node + 1 = frozen by a migrator | 1 = moved to the next table
//! word:   address of bucket 0 (a multiple of 64) + 26 - log2 of the number of buckets
//! hash:   bits 0..7 tag | 7..32 bucket, from the top | 40..48 shard; a node keeps the low 32, a token of the policy 48
//! ```
//!
//! The bucket is the topmost bits of the 32 that a node keeps: shifted down by what the word's low bits say, and cleared below
//! bit 6, they are a distance in bytes. So bucket `i` of a table becomes buckets `2 i` and `2 i + 1` of the next.
//!
//! # Orderings
//! Those of the words are in `mod`. Counts and weights are what shards use of their budgets (`engine/weight`):
//!
//! | name    | where                                 | pairs with                   | carries                              |
//! |---------|---------------------------------------|------------------------------|--------------------------------------|
//! | `COUNT` | fetch-add, -sub of entries or weight  | `MOVE`, `MARK` of `weight`   | nothing: it comes before a look at budget or bit |
//! | `USE`   | load of entries or weight             | `COUNT`                      | nothing: it comes after a change of budget or bit |

use super::CachedValue;
use crate::sync::{
    Arc, AtomicI64, AtomicPtr, AtomicU64, AtomicUsize, Mutex, Ordering, Published, Tally, alloc_zeroed,
    dealloc, lock, orderings,
};
use crossbeam_utils::CachePadded;
use std::alloc::{Layout, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::{self, NonNull};

orderings! { counts: COUNT = SeqCst, USE = SeqCst }

/// Models make do with fewer.
pub(super) const SLOTS: usize = if cfg!(dogpile_loom) { 3 } else { 6 };
const LOCK: u64 = 1 << 48;
const MIGRATED: u64 = 1 << 49;
const CHAIN: u64 = 1 << 50;
// One bit of it in models, so that a version comes round again after two inserts.
const VERSION: u64 = if cfg!(dogpile_loom) { 1 << 63 } else { 1 << 51 };
/// The greatest size of a table, in bits of the hash that choose a bucket: 134 million entries, in each shard. Beyond that
/// chains grow.
const MOST_BUCKETS_LOG2: u32 = 25;
const TAG: u64 = 0x7f;
/// The greatest shift of a hash: by it nothing is left above bit 6. Its least must keep out of the tag.
const MOST_SHIFT: u32 = u32::BITS - 6;
const _: () = assert!(u32::BITS - MOST_BUCKETS_LOG2 == TAG.trailing_ones());
/// What every allocator gives without being asked.
const USUAL_ALIGNMENT: usize = 16;
const LOW_BYTES: u64 = 0x0000_0101_0101_0101;
const HIGH_BITS: u64 = 0x0000_8080_8080_8080;
/// Models have fewer slots than a meta word has tags.
const SLOTS_MASK: u64 = (1 << (8 * SLOTS)) - 1;

/// The tag of a hash: seven bits of it, and one that tells it from "never used".
#[inline]
pub(super) fn tag_of(hash: u64) -> u8 {
    (hash & TAG) as u8 | 0x80
}

/// The control word of a bucket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta(pub(super) u64);

impl Meta {
    /// The slots whose tag is `tag`, as a mask with bit `8 i + 7` for slot `i`.
    ///
    /// Without the upper bit of `tag` a match is left as 0x80, another tag as more, a slot that was never used as less: 1 taken
    /// away turns the upper bit of the first over. A borrow from a byte of 0 may make a 0x81 above it look so, too: a false
    /// match that the node's hash refutes. Bytes 6 and 7 are flags and version, so they are masked out.
    #[inline]
    pub(super) fn matches(self, tag: u8) -> Matches {
        let x = self.0 ^ (LOW_BYTES * u64::from(tag & 0x7f));
        Matches(x & !x.wrapping_sub(LOW_BYTES) & HIGH_BITS)
    }

    pub(super) fn is_locked(self) -> bool {
        self.0 & LOCK != 0
    }
    pub(super) fn is_migrated(self) -> bool {
        self.0 & MIGRATED != 0
    }
    pub(super) fn has_chain(self) -> bool {
        self.0 & CHAIN != 0
    }
    /// Whether a miss in the home bucket proves nothing.
    #[inline]
    pub(super) fn goes_on(self) -> bool {
        self.0 & (MIGRATED | CHAIN) != 0
    }
    /// Whether nobody is at work in the bucket, nothing has left it, and nothing is behind it.
    #[inline]
    pub(super) fn is_simple(self) -> bool {
        self.0 & (LOCK | MIGRATED | CHAIN) == 0
    }
    /// The first slot that never held anything.
    #[inline]
    pub(super) fn first_unused(self) -> Option<usize> {
        // Tags have their upper bit set, so a byte without it is no tag.
        let unused = !self.0 & HIGH_BITS & SLOTS_MASK;
        (unused != 0).then(|| unused.trailing_zeros() as usize / 8)
    }
    /// Where to start looking for a free slot, so that used-up slots take turns.
    pub(super) fn rotation(self) -> usize {
        (self.0 / VERSION) as usize % SLOTS
    }

    pub(super) fn locked(self) -> Self {
        Self(self.0 | LOCK)
    }
    pub(super) fn with_tag(self, slot: usize, tag: u8) -> Self {
        Self(self.0 & !(0xff << (8 * slot)) | u64::from(tag) << (8 * slot))
    }
    pub(super) fn with_chain(self, chain: bool) -> Self {
        Self(if chain { self.0 | CHAIN } else { self.0 & !CHAIN })
    }
    /// Unlocked, and different from before: every scan that saw the old word will know.
    pub(super) fn next_version(self) -> Self {
        Self((self.0 & !LOCK).wrapping_add(VERSION))
    }
    pub(super) fn migrated(self) -> Self {
        Self((self.0 & !LOCK | MIGRATED).wrapping_add(VERSION))
    }
}

/// The slots of a bucket that may hold what is sought.
pub(super) struct Matches(u64);

impl Matches {
    #[inline]
    pub(super) fn is_none(&self) -> bool {
        self.0 == 0
    }
}

impl Iterator for Matches {
    type Item = usize;
    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let slot = self.0.trailing_zeros() as usize / 8;
        self.0 &= self.0 - 1;
        Some(slot)
    }
}

/// What a slot holds.
pub(super) enum Content<N> {
    Free,
    /// In the next table by now.
    Moved,
    Live(NonNull<N>),
    /// Live, and about to be moved: readers may use it, writers wait.
    Frozen(NonNull<N>),
}

const FROZEN: usize = 1;

impl<N> Content<N> {
    /// The node of a slot, frozen or not.
    #[inline]
    pub(super) fn node(raw: *mut N) -> Option<NonNull<N>> {
        NonNull::new(raw.map_addr(|address| address & !FROZEN))
    }

    #[inline]
    pub(super) fn of(raw: *mut N) -> Self {
        let node = raw.map_addr(|address| address & !FROZEN);
        match (NonNull::new(node), raw.addr() & FROZEN != 0) {
            (Some(node), false) => Self::Live(node),
            (Some(node), true) => Self::Frozen(node),
            (None, true) => Self::Moved,
            (None, false) => Self::Free,
        }
    }
}

/// `node` (or null), frozen: no compare-exchange that expects the thawed pointer can succeed any more.
pub(super) fn frozen<N>(node: *mut N) -> *mut N {
    node.map_addr(|address| address | FROZEN)
}

pub(super) fn moved<N>() -> *mut N {
    frozen(ptr::null_mut())
}

#[repr(C, align(64))]
pub(super) struct Bucket<N> {
    /// In a chained bucket only the tags count: lock, version and flags are its home bucket's.
    pub(super) meta: AtomicU64,
    pub(super) slots: [AtomicPtr<N>; SLOTS],
    /// The first bucket of this home's chain, or the next of the chain.
    pub(super) overflow: AtomicPtr<Bucket<N>>,
}

#[cfg(not(dogpile_loom))]
const _: () = assert!(size_of::<Bucket<u64>>() == 64);

impl<N> Bucket<N> {
    fn new() -> Self {
        Self {
            meta: AtomicU64::new(0),
            slots: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            overflow: AtomicPtr::new(ptr::null_mut()),
        }
    }

    pub(super) fn boxed() -> Box<Self> {
        Box::new(Self::new())
    }
}

/// Buckets that chains no longer need. An outgrown table leaves thousands at once, and the next one will want as many: freed
/// one by one they kept glibc busy for 9 ms, in some later insert (growth to 10 M, 2026-11-21).
#[expect(clippy::vec_box, reason = "they are linked into chains one by one")]
pub(super) struct Spares<N>(Mutex<Vec<Box<Bucket<N>>>>);

impl<N> Spares<N> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// As `Bucket::boxed`.
    pub(super) fn take(&self) -> Box<Bucket<N>> {
        let spare = lock(&self.0).pop();
        spare.map_or_else(Bucket::boxed, |mut bucket| {
            *bucket = Bucket::new();
            bucket
        })
    }

    /// Keeps those of a table of `len` buckets that is free to go, as many as one of twice the size needs.
    #[expect(clippy::vec_box, reason = "as they were linked into chains")]
    pub(super) fn keep(&self, chained: Vec<Box<Bucket<N>>>, len: usize) {
        if !chained.is_empty() {
            let mut spares = lock(&self.0);
            let room = (len / 4).saturating_sub(spares.len());
            spares.extend(chained.into_iter().take(room));
        }
    }
}

/// Tells the model checker that the memory goes: whoever touches it afterwards, or meanwhile, is found out.
#[cfg(dogpile_loom)]
impl<N> Drop for Bucket<N> {
    fn drop(&mut self) {
        self.meta.with_mut(|_| ());
        self.slots.iter_mut().for_each(|slot| slot.with_mut(|_| ()));
        self.overflow.with_mut(|_| ());
    }
}

/// What one life of a shard's content counts: from its creation, or the last `clear`, to the next.
///
/// Counters are raised before the entry is published and lowered after it was unlinked, by the one thread that did it:
/// they never go below zero, and are exact at rest.
pub(crate) struct Generation {
    /// `inserted << 40 | entries`: one fetch-add gives an insert both its ticket and the count.
    entries: CachePadded<AtomicU64>,
    weight: AtomicI64,
    /// Nodes without a value, not among `entries`.
    pending: AtomicI64,
    /// Those of `entries` that are remembered failures.
    errors: AtomicI64,
    /// Where the sweep for expired entries is, in slots.
    pub(super) hand: AtomicUsize,
}

const ENTRIES_BITS: u32 = 40;
const ENTRIES_MASK: u64 = (1 << ENTRIES_BITS) - 1;

// The rest is Relaxed: hints. On x86-64 sequential consistency costs a read-modify-write nothing.
impl Generation {
    fn new() -> Self {
        Self {
            entries: CachePadded::new(AtomicU64::new(0)),
            weight: AtomicI64::new(0),
            pending: AtomicI64::new(0),
            errors: AtomicI64::new(0),
            hand: AtomicUsize::new(0),
        }
    }

    /// For what comes after a `clear`. Tickets go on some way further round: writers that are still at work in former
    /// generations draw a few more there, which must not be those of keys that come back here (E2). By the golden section, so
    /// that several generations in a row keep apart.
    pub(super) fn after(former: &Self) -> Self {
        let drawn = former.entries.load(Ordering::Relaxed) >> ENTRIES_BITS;
        let next = Self::new();
        next.entries.store((drawn + 40_503) << ENTRIES_BITS, Ordering::Relaxed);
        next
    }

    /// Counts one more entry, and gives it its ticket.
    #[inline]
    pub(super) fn enter(&self) -> u16 {
        (self.entries.fetch_add(1 | 1 << ENTRIES_BITS, ord::COUNT()) >> ENTRIES_BITS) as u16
    }

    #[inline]
    pub(super) fn leave(&self) {
        let before = self.entries.fetch_sub(1, ord::COUNT());
        debug_assert!(before & ENTRIES_MASK != 0, "an entry leaves once");
    }

    #[inline]
    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(ord::USE()) & ENTRIES_MASK
    }

    /// Entries, as users count them.
    pub(crate) fn values(&self) -> u64 {
        self.entries().saturating_sub(self.errors())
    }

    /// Remembered failures.
    pub(crate) fn errors(&self) -> u64 {
        u64::try_from(self.errors.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Everything that takes a slot.
    #[inline]
    pub(super) fn nodes(&self) -> u64 {
        self.entries() + u64::try_from(self.pending.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(super) fn add_pending(&self, n: i64) {
        self.pending.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn add_errors(&self, n: i64) {
        self.errors.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn add_weight(&self, weight: i64) {
        self.weight.fetch_add(weight, ord::COUNT());
    }

    #[inline]
    pub(crate) fn weight(&self) -> u64 {
        // Above zero by the order of raising and lowering; the clamp is for a number read in between.
        u64::try_from(self.weight.load(ord::USE())).unwrap_or(0)
    }
}

/// Before bucket 0.
#[repr(C, align(128))]
pub(super) struct Header<N> {
    /// The word of the table that this one is moving to, null before.
    pub(super) next: AtomicPtr<Bucket<N>>,
    /// The next bucket for a helper to migrate.
    pub(super) cursor: AtomicUsize,
    /// All buckets before this one were seen MIGRATED.
    pub(super) swept: AtomicUsize,
    generation: Published<Arc<Generation>>,
    log2: u32,
    /// Whether any bucket ever had a chain: only then is there anything to walk over when the table is freed.
    chained: Tally,
    /// Where the block of memory begins.
    start: *mut u8,
}

#[cfg(dogpile_loom)]
impl<N> Drop for Header<N> {
    fn drop(&mut self) {
        self.next.with_mut(|_| ());
        self.cursor.with_mut(|_| ());
        self.swept.with_mut(|_| ());
    }
}

/// A table's word, unpacked. Valid while whoever unpacked it is pinned, or owns the table.
pub(super) struct Table<'p, N> {
    base: NonNull<Bucket<N>>,
    log2: u32,
    life: PhantomData<&'p Bucket<N>>,
}

impl<N> Clone for Table<'_, N> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<N> Copy for Table<'_, N> {}

pub(super) type Node<K, V> = CachedValue<K, V>;

impl<'p, N> Table<'p, N> {
    fn layout(log2: u32) -> Option<Layout> {
        let buckets = Layout::array::<Bucket<N>>(1_usize.checked_shl(log2)?).ok()?;
        let (layout, _) = Layout::new::<Header<N>>().extend(buckets).ok()?;
        // With room to align by hand: an allocator that is asked for no more than its usual alignment gives pages that
        // are zero already, instead of clearing all of them.
        Layout::from_size_align(layout.size().checked_add(layout.align() - USUAL_ALIGNMENT)?, USUAL_ALIGNMENT)
            .ok()
    }

    /// A new, empty table, or `None` where there is no memory for it (or no bit of the hash left).
    pub(super) fn allocate(log2: u32, generation: Option<&Arc<Generation>>) -> Option<Self> {
        if log2 > MOST_BUCKETS_LOG2 {
            return None;
        }
        let layout = Self::layout(log2)?;
        // SAFETY: the layout holds a header at least, so its size is not zero.
        let block = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let gap = block.as_ptr().align_offset(align_of::<Header<N>>());
        // SAFETY: the block is larger than header and buckets by the greatest gap there can be (`layout`).
        let start = unsafe { block.add(gap) }.cast::<Header<N>>();
        let header = Header {
            next: AtomicPtr::new(ptr::null_mut()),
            cursor: AtomicUsize::new(0),
            swept: AtomicUsize::new(0),
            generation: Published::new(generation.map_or_else(|| Arc::new(Generation::new()), Arc::clone)),
            log2,
            chained: Tally::new(0),
            start: block.as_ptr(),
        };
        // SAFETY: the block begins with room for a header (`layout`).
        unsafe { start.write(header) };
        // SAFETY: and holds the buckets behind it.
        let base = unsafe { start.add(1) };
        let table = Self { base: base.cast(), log2, life: PhantomData };
        // Zero bytes are what `Bucket::new` makes of std's atomics; loom's must be told.
        #[cfg(dogpile_loom)]
        for i in 0..table.len() {
            // SAFETY: the block holds `len` buckets after its header.
            unsafe { table.base.add(i).write(Bucket::new()) };
        }
        Some(table)
    }

    /// As `allocate`, for a table of one bucket without which there is no cache.
    pub(super) fn first(generation: Option<&Arc<Generation>>) -> Self {
        Self::allocate(0, generation).unwrap_or_else(|| {
            handle_alloc_error(Self::layout(0).unwrap_or_else(Layout::new::<Header<N>>));
        })
    }

    #[inline]
    pub(super) fn pack(self) -> *mut Bucket<N> {
        self.base.as_ptr().map_addr(|address| address | (MOST_SHIFT - self.log2) as usize)
    }

    /// # Safety
    /// - `word` is one that `pack` made, of a table that is not freed during `'p`.
    #[inline]
    pub(super) unsafe fn unpack(word: *mut Bucket<N>) -> Self {
        let log2 = MOST_SHIFT - (word.addr() & 63) as u32;
        // SAFETY: the caller's promise: a packed word is an address above 63 with the shift in its low bits.
        let base = unsafe { NonNull::new_unchecked(word.map_addr(|address| address & !63)) };
        Self { base, log2, life: PhantomData }
    }

    #[inline]
    pub(super) fn len(self) -> usize {
        1 << self.log2
    }

    pub(super) fn log2(self) -> u32 {
        self.log2
    }

    #[inline]
    pub(super) fn mask(self) -> usize {
        self.len() - 1
    }

    /// The bucket that the entries of a hash have here, if in none before.
    #[inline]
    pub(super) fn home(self, hash: u64) -> &'p Bucket<N> {
        if cfg!(dogpile_loom) {
            // Models' buckets are of another size.
            return self.bucket(self.index(hash));
        }
        let distance = (hash as u32) >> (MOST_SHIFT - self.log2) & !63;
        // SAFETY: of 32 bits `log2` are left above bit 6, so it is a multiple of 64 below the size of all buckets.
        let bucket = unsafe { self.base.byte_add(distance as usize) };
        // SAFETY: as in `bucket`.
        unsafe { bucket.as_ref() }
    }

    /// Which bucket that is.
    pub(super) fn index(self, hash: u64) -> usize {
        ((hash & u64::from(u32::MAX)) >> (u32::BITS - self.log2)) as usize
    }

    /// The bucket at `index`, modulo the table's size.
    #[inline]
    pub(super) fn bucket(self, index: usize) -> &'p Bucket<N> {
        // SAFETY: the index is masked to the buckets that the block holds.
        let bucket = unsafe { self.base.add(index & self.mask()) };
        // SAFETY: buckets are initialised with their block, which lives for `'p` (`unpack`).
        unsafe { bucket.as_ref() }
    }

    /// The header's address, which leads back to the table by `from_header`.
    #[inline]
    pub(super) fn header_ptr(self) -> NonNull<Header<N>> {
        // SAFETY: every table has its header directly before bucket 0, in the same block (`allocate`).
        unsafe { self.base.cast::<Header<N>>().sub(1) }
    }

    #[inline]
    pub(super) fn header(self) -> &'p Header<N> {
        // SAFETY: the table lives for `'p` (`unpack`).
        unsafe { self.header_ptr().as_ref() }
    }

    /// # Safety
    /// - `header` came from `header_ptr`, of a table that is not freed during `'p`.
    pub(super) unsafe fn from_header(header: NonNull<Header<N>>) -> Self {
        // SAFETY: the caller's promise.
        let log2 = unsafe { header.as_ref() }.log2;
        // SAFETY: bucket 0 lies directly behind the header.
        let base = unsafe { header.add(1) }.cast();
        Self { base, log2, life: PhantomData }
    }

    #[inline]
    pub(super) fn generation(self) -> &'p Generation {
        &self.header().generation
    }

    /// A bucket of this table is about to get a chain.
    pub(super) fn note_chain(self) {
        let chained = &self.header().chained;
        // Relaxed: read when all users of the table have gone, or only where nothing was chained.
        if chained.load(Ordering::Relaxed) == 0 {
            chained.store(1, Ordering::Relaxed);
        }
    }

    pub(super) fn shared_generation(self) -> &'p Arc<Generation> {
        &self.header().generation
    }

    /// Takes the chained buckets of some homes.
    ///
    /// # Safety
    /// - Nobody else can reach the table any more.
    pub(super) unsafe fn unchain(self, homes: Range<usize>, mut keep: impl FnMut(Box<Bucket<N>>)) {
        if self.header().chained.load(Ordering::Relaxed) == 0 {
            return;
        }
        for i in homes {
            let link = &self.bucket(i).overflow;
            let mut at = link.load(Ordering::Relaxed);
            if !at.is_null() {
                link.store(ptr::null_mut(), Ordering::Relaxed);
            }
            while let Some(chained) = NonNull::new(at) {
                // SAFETY: chained buckets come from `Bucket::boxed`, each is linked once, and the table is ours alone.
                let chained = unsafe { Box::from_raw(chained.as_ptr()) };
                at = chained.overflow.load(Ordering::Relaxed);
                keep(chained);
            }
        }
    }

    /// Gives the system the memory of some buckets back, of which those before them have no need either, so that the end of a
    /// large table takes as little time as any step towards it.
    ///
    /// # Safety
    /// - Nobody can reach the table any more, and nobody looks at those buckets again.
    pub(super) unsafe fn give_back(self, buckets: Range<usize>) {
        #[cfg(all(target_os = "linux", not(any(dogpile_loom, dogpile_shuttle, miri))))]
        {
            /// A multiple of every usual size of a page.
            const PAGES: usize = 1 << 16;
            let address = |i: usize| self.base.addr().get() + i * size_of::<Bucket<N>>();
            // The header stays, and whatever else lies beside the first and the last bucket.
            let from = match buckets.start {
                0 => address(0).next_multiple_of(PAGES),
                start => address(start) / PAGES * PAGES,
            };
            let to = address(buckets.end) / PAGES * PAGES;
            if from < to {
                let start = self.base.as_ptr().cast::<libc::c_void>().with_addr(from);
                // SAFETY: whole pages of the table's own block, behind its header; they read as zeros from now on, and nobody
                // reads them.
                unsafe { libc::madvise(start, to - from, libc::MADV_DONTNEED) };
            }
        }
        #[cfg(not(all(target_os = "linux", not(any(dogpile_loom, dogpile_shuttle, miri)))))]
        let _ = buckets;
    }

    /// Frees the block, not nodes and chained buckets.
    ///
    /// # Safety
    /// - Nobody else can reach the table any more, and nobody frees it but here.
    pub(super) unsafe fn free(self) {
        #[cfg(dogpile_loom)]
        for i in 0..self.len() {
            // SAFETY: the block holds `len` buckets, written by `allocate`, and nobody reaches them any more.
            unsafe { self.base.add(i).drop_in_place() };
        }
        let header = self.header_ptr().as_ptr();
        let start = self.header().start;
        let layout = Self::layout(self.log2).expect("a table that exists has a layout");
        // SAFETY: the header was written by `allocate` and is dropped once, here; buckets need no drop.
        unsafe { header.drop_in_place() };
        // SAFETY: the block was allocated with this layout, and nobody reaches it any more.
        unsafe { dealloc(start, layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C8: flags and version must never be taken for tags, nor a borrow carry a match out of the tags.
    #[test]
    fn c8_no_version_or_flag_looks_like_a_tag() {
        let tag = tag_of(0xabcd_0123_4567_89ab);
        for version in 0..1_u64 << 13 {
            for flags in 0..8_u64 {
                let high = (version * VERSION) | (flags << 48);
                assert_eq!(Meta(high).matches(tag).count(), 0, "no tag set");
                let full = Meta(high | (LOW_BYTES * u64::from(tag)));
                assert_eq!(full.matches(tag).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
                let last = Meta(high).with_tag(5, tag);
                assert_eq!(last.matches(tag).collect::<Vec<_>>(), [5]);
            }
        }
    }

    #[test]
    fn every_true_match_is_reported() {
        for slot in 0..SLOTS {
            for tag in 0x80..=0xff_u8 {
                for other in (0..=0xff_u8).filter(|other| *other != tag) {
                    let meta = (0..SLOTS)
                        .fold(Meta(0), |meta, i| meta.with_tag(i, if i == slot { tag } else { other }));
                    assert!(
                        meta.matches(tag).any(|found| found == slot),
                        "tag {tag:x} in slot {slot} among {other:x}"
                    );
                }
            }
        }
    }

    #[test]
    fn versions_do_not_leak_into_flags() {
        let mut meta = Meta(0).with_tag(0, 0x80).with_chain(true);
        for _ in 0..1 << 14 {
            meta = meta.locked().next_version();
            assert!(
                !meta.is_locked()
                    && !meta.is_migrated()
                    && meta.has_chain()
                    && meta.first_unused() == Some(1)
            );
        }
        assert!(meta.locked().migrated().is_migrated());
    }
}
