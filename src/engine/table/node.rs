//! [`CachedValue`], the node that a slot points to, and [`Handle`], the counted pointer that users keep.
//!
//! # Invariants
//! - **N1, counted.** A node lives as long as its count is above zero. The table owns one reference, taken back when
//!   its grace period is over and no hazard slot names the node; each handle owns one more.
//! - **N2, frozen.** Key, body, kind, hash, weight and cost are written before the node is published and never after.
//! - **N3, no revival.** The count is raised only by someone under whose eyes it can't be zero: the owner of a handle,
//!   or a thread whose pin or hazard slot keeps the table's reference.
//! - **N4, kind.** A node holds a value, or nothing yet (*pending*: somebody makes the first), or what a creator said
//!   instead of a value (*error*). The last two have expired since ever, so every read takes them for a miss without a
//!   test of its own, and no handle or borrow of one leaves the crate.
//!
//! # Layout
//! ```text
//! | idle 8 | weight 4 | cost 2 | span 2 |  strong 4 | ticket 2 | marks 1 | gate 1 | hash 4 | seen 4 | expiry 8 | key | body |
//!  `---- extras, if `marks` says so ----' `- the node begins here
//! ```
//! Of the hash a node keeps the 32 bits that choose bucket and tag. Extras stand before the node in the same block: an
//! entry without deadlines, of weight 1, does without, and is 40 bytes for a key and a value of a word each (glibc takes
//! 48 for that, and 64 for 41 bytes).
//!
//! # The gate byte
//! Whoever uses the engine gives it its meaning; new nodes have 0. The engine knows only this much: below `TAKEN` nobody
//! minds if the node is evicted, and from there on somebody does. The evictor takes it (`CLAIMED`) before it unlinks (H4).
//!
//! # Orderings
//! | name      | where                         | pairs with | carries                                            |
//! |-----------|-------------------------------|------------|----------------------------------------------------|
//! | `RELEASE` | fetch-sub of the count        | `LAST`     | the owner's reads of the node                      |
//! | `LAST`    | fence after the last fetch-sub| `RELEASE`  | the same: they happen before the destructor        |
//! | `SOLE`    | load of a count of one        | `RELEASE`  | the same                                           |
//! | `UNWRAP`  | CAS of a count of one         | `RELEASE`  | the same, before the value is moved out            |
//!
//! `CLAIM` (compare-exchange of the gate byte by the evictor) and `UNCLAIM` are `Relaxed`: of the evictor and whoever wants
//! the byte one gets it, and nothing travels with it. All else in the header is `Relaxed`: uses, `seen` and `ticket` are hints of the eviction policy, and a store of `seen` that comes late
//! is one of a whole stamp and its interval; a deadline decides by
//! its own value only, and travels to no other location.

use super::blocks;
use crate::engine::policy::Uses;
use crate::engine::reclaim::{Counted, Held, Shared};
use crate::sync::{
    Arc, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence_after, orderings, plain, takes_shortcuts,
};
use crate::time::{Instant, decode, encode};
use std::alloc::Layout;
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::{self, NonNull};
use std::time::Duration;

orderings! { node: RELEASE = Release, LAST = Acquire, SOLE = Acquire, UNWRAP = Acquire, CLAIM = Relaxed, UNCLAIM = Relaxed }

/// Beyond this many references the process is ended, as `std`'s `Arc` does: a count that wrapped would free the node
/// under its owners.
const TOO_MANY: u32 = u32::MAX / 2;
/// `reuse` stops here.
pub(crate) const MOST_REUSE: u8 = 3;

/// From here on the gate byte says that somebody would miss the node.
pub(crate) const TAKEN: u8 = 0x80;
/// In the gate byte of an expired entry, taken or not: its second deadline is not the time to idle, but until when nobody
/// shall try to make a newer version.
pub(crate) const HELD: u8 = 1;
/// The evictor's own mark in the gate byte.
pub(crate) const CLAIMED: u8 = 0xff;

/// What a creator said instead of a value.
pub(crate) type Failure = Arc<dyn Any + Send + Sync>;

/// In `marks`: two bits of uses that are left to be counted, then what never changes.
const LEFT: u8 = MOST_REUSE;
const ROOMY: u8 = 1 << 5;
const KIND_SHIFT: u32 = 6;
/// With six for the magnitude, 14 bits.
const COST_FRACTION: u32 = 8;
const SPAN_FRACTION: u32 = 10;
/// In `expiry`: no hard deadline, but perhaps one in the extras. A node with neither has `u64::MAX`, so that one comparison
/// tells a read that no clock matters.
const NEVER_HARD: u64 = u64::MAX - 1;

/// What `expiry` is for a hard deadline, beside an idle one.
#[inline]
fn hard(at: Instant, idle: Instant) -> u64 {
    match at {
        Instant::FAR_FUTURE if idle == Instant::FAR_FUTURE => u64::MAX,
        Instant::FAR_FUTURE => NEVER_HARD,
        at => at.as_nanos().min(NEVER_HARD - 1),
    }
}

/// What a node holds (N4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Value = 0,
    Pending = 1,
    Error = 2,
}

/// By the node's kind. Each begins at the union's own address.
#[repr(C)]
union Body<V> {
    value: ManuallyDrop<V>,
    nothing: (),
    // Boxed, so that it is no larger than most values.
    error: ManuallyDrop<Box<Failure>>,
}

/// One version of one entry: a key, its value, and what the cache knows of them.
///
/// Replacing a value makes a new `CachedValue`; this one does not change any more, except for its deadline.
#[repr(C)]
pub struct CachedValue<K, V> {
    strong: AtomicU32,
    /// Distinguishes this key's stay in the cache from earlier ones: tokens of the eviction policy carry it.
    ticket: AtomicU16,
    /// Uses, kind, whether there are extras.
    marks: AtomicU8,
    gate: AtomicU8,
    hash: u32,
    /// The policy's: the tick of the last stamped use, below the ticks between the last two.
    /// Not modelled: it decides only who is evicted.
    seen: plain::AtomicU32,
    expiry: AtomicU64,
    key: K,
    body: Body<V>,
}

/// What an entry with a deadline or a weight has besides.
#[repr(C)]
struct Extras {
    idle: AtomicU64,
    weight: u32,
    /// How long the value took to make, in code; 0: unknown.
    cost: u16,
    /// How long it was to live from the beginning, in code; 0: unknown, or for ever.
    span: u16,
}

/// What is to be known of a new entry besides key and value.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) weight: u32,
    pub(crate) expiry: Instant,
    pub(crate) idle: Instant,
    /// How long the value took to make, if that is known.
    pub(crate) took: Option<Duration>,
    /// How long it is to live, if not for ever.
    pub(crate) span: Option<Duration>,
    /// Whether a second deadline may be set later.
    pub(crate) roomy: bool,
}

impl Terms {
    /// For an entry that lives until it is evicted.
    pub(crate) const PLAIN: Self = Self {
        weight: 1,
        expiry: Instant::FAR_FUTURE,
        idle: Instant::FAR_FUTURE,
        took: None,
        span: None,
        roomy: false,
    };

    #[inline]
    fn needs_extras(&self) -> bool {
        self.roomy
            || self.weight != 1
            || self.expiry != Instant::FAR_FUTURE
            || self.idle != Instant::FAR_FUTURE
    }
}

/// A node that nobody else has seen yet: not published, one owner.
pub(crate) struct Draft<K, V>(NonNull<CachedValue<K, V>>, PhantomData<CachedValue<K, V>>);

// SAFETY: it owns a key and a value, as a box would.
unsafe impl<K: Send, V: Send> Send for Draft<K, V> {}

impl<K, V> Draft<K, V> {
    #[inline]
    pub(crate) fn new(hash: u64, key: K, value: V, terms: &Terms) -> Self {
        Self::with_body(hash, key, NodeKind::Value, Body { value: ManuallyDrop::new(value) }, terms, 0)
    }

    /// A node for a key whose first value is being made.
    pub(crate) fn pending(hash: u64, key: K, gate: u8) -> Self {
        let body = Body { nothing: () };
        let draft = Self::with_body(hash, key, NodeKind::Pending, body, &Terms::PLAIN, gate);
        draft.expiry.store(0, Ordering::Relaxed);
        draft
    }

    /// A node that remembers a failure until `until`.
    pub(crate) fn error(hash: u64, key: K, failure: Failure, until: Instant) -> Self {
        let body = Body { error: ManuallyDrop::new(Box::new(failure)) };
        let terms = Terms { expiry: Instant::from_nanos(0), idle: until, ..Terms::PLAIN };
        Self::with_body(hash, key, NodeKind::Error, body, &terms, 0)
    }

    #[inline(always)]
    fn with_body(hash: u64, key: K, kind: NodeKind, body: Body<V>, terms: &Terms, gate: u8) -> Self {
        let roomy = terms.needs_extras();
        let (layout, offset) = CachedValue::<K, V>::layout(roomy);
        let block = blocks::take(layout);
        // SAFETY: within the block, which begins with the extras if there are any (`layout`).
        let node = unsafe { block.add(offset) }.cast::<CachedValue<K, V>>();
        let expiry = hard(terms.expiry, terms.idle);
        if roomy {
            let extras = Extras {
                idle: AtomicU64::new(terms.idle.as_nanos()),
                weight: terms.weight,
                cost: terms.took.map_or(0, |took| encode(took, COST_FRACTION)),
                span: terms.span.map_or(0, |span| encode(span, SPAN_FRACTION)),
            };
            // SAFETY: there is room for them directly before the node (`layout`).
            let place = unsafe { node.cast::<Extras>().sub(1) };
            // SAFETY: as above; aligned, since a node's alignment is an extra's at least.
            unsafe { place.write(extras) };
            // Whoever holds a reference to the node alone finds its extras by this.
            block.as_ptr().expose_provenance();
        }
        let content = CachedValue {
            strong: AtomicU32::new(1),
            ticket: AtomicU16::new(0),
            marks: AtomicU8::new((kind as u8) << KIND_SHIFT | if roomy { ROOMY } else { 0 } | LEFT),
            gate: AtomicU8::new(gate),
            hash: hash as u32,
            seen: plain::AtomicU32::new(0),
            expiry: AtomicU64::new(expiry),
            key,
            body,
        };
        // SAFETY: the block has room for a node at this offset, aligned for it (`layout`).
        unsafe { node.write(content) };
        Self(node, PhantomData)
    }

    /// For an entry under a new key: its ticket, and its first stamp.
    #[inline]
    pub(crate) fn start(&self, ticket: u16, now: u16) {
        self.ticket.store(ticket, Ordering::Relaxed);
        self.seen.store(now.into(), Ordering::Relaxed);
    }

    /// For a newer version: it stays in the policy's books as the former one is there.
    #[inline]
    pub(crate) fn follow(&self, former: &CachedValue<K, V>) {
        self.ticket.store(former.ticket(), Ordering::Relaxed);
        let marks = self.marks.load(Ordering::Relaxed) & !LEFT;
        self.marks.store(marks | former.marks.load(Ordering::Relaxed) & LEFT, Ordering::Relaxed);
        self.seen.store(former.seen.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The node, which the caller now owns one reference to.
    #[inline]
    pub(super) fn into_raw(self) -> NonNull<CachedValue<K, V>> {
        ManuallyDrop::new(self).0
    }

    /// # Safety
    /// - `node` came from `into_raw`, and nobody else has seen it since.
    pub(super) unsafe fn from_raw(node: NonNull<CachedValue<K, V>>) -> Self {
        Self(node, PhantomData)
    }

    /// For a node that holds a value.
    pub(crate) fn into_parts(self) -> (K, V) {
        assert_eq!(self.kind(), NodeKind::Value, "only a value is taken out of its node");
        let node = self.into_raw();
        // SAFETY: this draft owned the node, and so does this function.
        let content = unsafe { node.as_ref() };
        // SAFETY: the key is not looked at after this.
        let key = unsafe { ptr::read(&content.key) };
        // SAFETY: nor the value; the kind was asked.
        let value = unsafe { ptr::from_ref(&content.body).cast::<V>().read() };
        // SAFETY: nobody else has the node, and what it held has left it.
        unsafe { CachedValue::free_block(node) };
        (key, value)
    }
}

impl<K, V> Deref for Draft<K, V> {
    type Target = CachedValue<K, V>;
    #[inline]
    fn deref(&self) -> &CachedValue<K, V> {
        // SAFETY: a draft owns its node.
        unsafe { self.0.as_ref() }
    }
}

impl<K, V> Drop for Draft<K, V> {
    fn drop(&mut self) {
        // SAFETY: a draft owns its node, and this is its end.
        unsafe { CachedValue::destroy(self.0) }
    }
}

impl<K, V> CachedValue<K, V> {
    /// The layout of a node's block, and where in it the node begins.
    #[inline]
    const fn layout(roomy: bool) -> (Layout, usize) {
        let node = Layout::new::<Self>();
        if !roomy {
            return (node, 0);
        }
        let offset = size_of::<Extras>().next_multiple_of(node.align());
        let align = if node.align() > align_of::<Extras>() { node.align() } else { align_of::<Extras>() };
        match Layout::from_size_align(offset + node.size(), align) {
            Ok(layout) => (layout, offset),
            Err(_) => panic!("an entry of nearly all memory there is"),
        }
    }

    #[inline]
    fn is_roomy(&self) -> bool {
        self.marks.load(Ordering::Relaxed) & ROOMY != 0
    }

    #[inline]
    fn extras(&self) -> Option<&Extras> {
        if !self.is_roomy() {
            return None;
        }
        let at = ptr::from_ref(self).addr() - size_of::<Extras>();
        // SAFETY: a roomy node has its extras directly before it, in one block, whose address was exposed when they were
        // written; they live as long as the node.
        Some(unsafe { &*ptr::with_exposed_provenance::<Extras>(at) })
    }

    /// Drops key and body, and frees the block.
    ///
    /// # Safety
    /// - The caller has the node alone, and gives it up.
    #[inline]
    unsafe fn destroy(node: NonNull<Self>) {
        /// The block goes even if a destructor panics.
        struct Block<K, V>(NonNull<CachedValue<K, V>>);
        impl<K, V> Drop for Block<K, V> {
            fn drop(&mut self) {
                // SAFETY: the promise of `destroy`'s caller; what the node held is dropped, or lost to a panic.
                unsafe { CachedValue::free_block(self.0) };
            }
        }
        // SAFETY: our caller's promise.
        let has_value = unsafe { node.as_ref() }.kind() == NodeKind::Value;
        if has_value && const { !std::mem::needs_drop::<K>() && !std::mem::needs_drop::<V>() } {
            // SAFETY: our caller's promise; there is nothing to drop.
            return unsafe { Self::free_block(node) };
        }
        let _block = Block(node);
        // SAFETY: our caller's promise: it is dropped once, here.
        unsafe { node.drop_in_place() };
    }

    /// # Safety
    /// - The caller has the node alone; key and body have been dropped, or moved out.
    #[inline]
    unsafe fn free_block(node: NonNull<Self>) {
        // SAFETY: the header is still as it was.
        let marks = unsafe { &(*node.as_ptr()).marks }.load(Ordering::Relaxed);
        let (layout, offset) = const { Self::layout(true) };
        if marks & ROOMY != 0 {
            // SAFETY: the node lies at this offset in its block (`Draft::with_body`).
            let block = unsafe { node.cast::<u8>().sub(offset) };
            // SAFETY: the block was taken with this layout, and nobody uses it any more.
            unsafe { blocks::give(block, layout) };
        } else {
            // SAFETY: as above, without an offset.
            unsafe { blocks::give(node.cast(), const { Self::layout(false).0 }) };
        }
    }

    /// The entry's key.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// The entry's value.
    #[inline]
    pub fn value(&self) -> &V {
        debug_assert_eq!(self.kind(), NodeKind::Value, "N4: what has no value is not handed out");
        // SAFETY: a node that anybody but the engine can see is of the kind `Value` (N4), and so is its body.
        unsafe { &self.body.value }
    }

    /// What the cache's weigher said of the entry when it was inserted; 1 where there is no weigher.
    pub fn weight(&self) -> u32 {
        self.extras().map_or(1, |extras| extras.weight)
    }

    /// When the entry expires at the latest, on the cache's clock; `None`: never. A time to idle may end it earlier.
    pub fn expires_at(&self) -> Option<Instant> {
        let at = self.expiry();
        (at != Instant::FAR_FUTURE).then_some(at)
    }

    #[inline]
    pub(crate) fn kind(&self) -> NodeKind {
        match self.marks.load(Ordering::Relaxed) >> KIND_SHIFT {
            0 => NodeKind::Value,
            1 => NodeKind::Pending,
            _ => NodeKind::Error,
        }
    }

    /// How long the value took to make, if that is known. It is not where the value has no deadline.
    pub(crate) fn cost(&self) -> Option<Duration> {
        let code = self.extras().map_or(0, |extras| extras.cost);
        (code != 0).then(|| decode(code, COST_FRACTION))
    }

    /// How long the value was to live from the beginning, if that is known.
    pub(crate) fn span(&self) -> Option<Duration> {
        let code = self.extras().map_or(0, |extras| extras.span);
        (code != 0).then(|| decode(code, SPAN_FRACTION))
    }

    /// What the creator said, if this node remembers that.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        // SAFETY: the body of a node of the kind `Error` is one (N4).
        (self.kind() == NodeKind::Error).then(|| unsafe { &**self.body.error })
    }

    pub(crate) fn gate(&self) -> &AtomicU8 {
        &self.gate
    }

    /// The evictor asks for the node. If it gets it, the former value of the gate byte.
    pub(super) fn claim(&self) -> Option<u8> {
        let seen = self.gate.load(Ordering::Relaxed);
        let claimed = seen < TAKEN
            && self.gate.compare_exchange(seen, CLAIMED, ord::CLAIM(), Ordering::Relaxed).is_ok();
        claimed.then_some(seen)
    }

    /// And gives it back.
    pub(super) fn unclaim(&self, seen: u8) {
        self.gate.store(seen, ord::UNCLAIM());
    }

    /// The bits of the key's hash that choose bucket and tag.
    #[inline]
    pub(crate) fn hash(&self) -> u32 {
        self.hash
    }

    pub(crate) fn expiry(&self) -> Instant {
        match self.expiry.load(Ordering::Relaxed) {
            NEVER_HARD => Instant::FAR_FUTURE,
            nanos => Instant::from_nanos(nanos),
        }
    }

    pub(crate) fn idle(&self) -> Instant {
        let of = |extras: &Extras| Instant::from_nanos(extras.idle.load(Ordering::Relaxed));
        self.extras().map_or(Instant::FAR_FUTURE, of)
    }

    /// Another meaning for the second deadline, once the first has passed: until then nobody shall try again. False: this
    /// entry has no second deadline.
    pub(crate) fn set_idle(&self, at: Instant) -> bool {
        self.extras().is_some_and(|extras| {
            extras.idle.store(at.as_nanos(), Ordering::Relaxed);
            true
        })
    }

    /// Moves the deadline, unless the entry had expired by `now`. A compare-exchange, so that of two who move it at
    /// once neither is lost half-way, and nothing that has expired comes back.
    pub(crate) fn set_expiry(&self, at: Instant, now: Instant) -> bool {
        let mut seen = self.expiry.load(Ordering::Relaxed);
        let at = hard(at, self.idle());
        loop {
            if seen <= now.as_nanos() {
                return false;
            }
            match self.expiry.compare_exchange(seen, at, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => seen = other,
            }
        }
    }

    /// Whether neither deadline can ever be reached: then no clock need be read.
    #[inline]
    pub(crate) fn is_timeless(&self) -> bool {
        self.expiry.load(Ordering::Relaxed) == u64::MAX
    }

    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        self.expiry() <= now || self.idle() <= now
    }

    /// Whether the time to idle has passed. Of an entry whose creation failed, the second deadline means another thing.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        self.idle() <= now && self.gate.load(Ordering::Relaxed) & !TAKEN != HELD
    }

    /// Puts the idle deadline off to `until`, if that is at least `step` later than it is. A compare-exchange, since the
    /// entry may expire just now, and the word come to mean another thing.
    pub(crate) fn extend_idle(&self, until: Instant, step: u64) {
        let Some(Extras { idle, .. }) = self.extras() else { return };
        let seen = idle.load(Ordering::Relaxed);
        if until.as_nanos().saturating_sub(seen) > step {
            let _ = idle.compare_exchange(seen, until.as_nanos(), Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Counts a use, up to three. In steady state a load: a hot entry's line is not written.
    #[inline]
    pub(crate) fn reuse_again(&self) {
        let seen = self.marks.load(Ordering::Relaxed);
        if seen & LEFT != 0 {
            // The bits above the count never change, so a store that comes late changes only the count.
            self.marks.store(seen - 1, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn reuse(&self) -> u8 {
        MOST_REUSE - (self.marks.load(Ordering::Relaxed) & LEFT)
    }

    /// Whether a use now leaves nothing to be counted or stamped, as far as one look tells.
    #[inline]
    pub(crate) fn is_noted(&self, now: u16) -> bool {
        self.marks.load(Ordering::Relaxed) & LEFT == 0
            && Uses::is_fresh(self.seen.load(Ordering::Relaxed) as u16, now)
    }

    /// Stamps a use, if the last stamp is old enough. Two that stamp at once: one is lost.
    #[inline]
    pub(crate) fn stamp_use(&self, now: u16) {
        let stamp = self.seen.load(Ordering::Relaxed) as u16;
        if Uses::is_due(stamp, now) {
            let interval = now.wrapping_sub(stamp);
            self.seen.store(u32::from(interval) << 16 | u32::from(now), Ordering::Relaxed);
        }
    }

    /// What the eviction policy wants to know.
    #[inline]
    pub(crate) fn uses(&self) -> Uses {
        let seen = self.seen.load(Ordering::Relaxed);
        Uses { count: self.reuse(), stamp: seen as u16, interval: (seen >> 16) as u16 }
    }

    #[inline]
    pub(crate) fn set_reuse(&self, reuse: u8) {
        let seen = self.marks.load(Ordering::Relaxed);
        self.marks.store(seen & !LEFT | (MOST_REUSE - reuse), Ordering::Relaxed);
    }

    pub(crate) fn ticket(&self) -> u16 {
        self.ticket.load(Ordering::Relaxed)
    }

    /// # Safety
    /// - Not called twice, and the body is not used afterwards.
    unsafe fn drop_body(&mut self) {
        let body = &raw mut self.body;
        match self.kind() {
            // SAFETY: the kind tells what the body is (N4); our caller sees to the rest.
            NodeKind::Value => unsafe { body.cast::<V>().drop_in_place() },
            // SAFETY: as above.
            NodeKind::Error => unsafe { body.cast::<Box<Failure>>().drop_in_place() },
            NodeKind::Pending => {}
        }
    }
}

// What a panic of user code may leave half-way is in keys and values; a failure that is remembered is only handed on.
impl<K: RefUnwindSafe, V: RefUnwindSafe> RefUnwindSafe for CachedValue<K, V> {}
impl<K: UnwindSafe, V: UnwindSafe> UnwindSafe for CachedValue<K, V> {}

impl<K, V> Drop for CachedValue<K, V> {
    fn drop(&mut self) {
        // SAFETY: a destructor runs once, and last.
        unsafe { self.drop_body() }
    }
}

// SAFETY: a raised count is one more reference (N1), which only `release` takes back.
unsafe impl<K, V> Counted for CachedValue<K, V> {
    fn retain(&self) {
        // Relaxed: the caller already sees the node whole (N3).
        if self.strong.fetch_add(1, Ordering::Relaxed) >= TOO_MANY {
            std::process::abort();
        }
    }

    // Apart: where a guard ends, it is the rare way.
    #[inline(never)]
    unsafe fn release(node: NonNull<Self>) {
        // SAFETY: the caller's reference keeps the node alive up to the subtraction, and after it if it was the last (N1).
        let strong = unsafe { &(*node.as_ptr()).strong };
        // A count of one is the caller's own, and nobody is left who could raise it (N3): no read-modify-write for that.
        // Most models go the long way: one step more in each release multiplies their schedules.
        if !takes_shortcuts() || strong.load(ord::SOLE()) != 1 {
            if strong.fetch_sub(1, ord::RELEASE()) != 1 {
                return;
            }
            fence_after(strong, ord::LAST());
        }
        // SAFETY: that was the last reference, and every other owner's reads happen before this (LAST, SOLE).
        unsafe { Self::destroy(node) };
    }
}

impl<K, V> fmt::Debug for CachedValue<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither key nor value: they may be secrets, and need not be `Debug`.
        f.debug_struct("CachedValue")
            .field("weight", &self.weight())
            .field("expires_at", &self.expires_at())
            .finish_non_exhaustive()
    }
}

/// A counted pointer to a [`CachedValue`], one word wide: `Arc<CachedValue>` without the weak count.
///
/// Keeps the value alive whatever happens to the cache, crosses threads and awaits, and derefs to the value. Cloning
/// costs one atomic increment; where a borrow will do, [`Cache::get`](crate::Cache::get) costs none.
///
/// It is an [`arc_swap::RefCnt`], so a hot entry can be followed through an `ArcSwap` at 1 ns a look:
///
/// ```
/// use arc_swap::ArcSwapAny;
/// use dogpile::{Cache, Handle};
///
/// let cache = Cache::new(10);
/// cache.insert("config", 1);
/// let hot: ArcSwapAny<Handle<&str, i32>> = ArcSwapAny::new(cache.get_handle("config").unwrap());
/// cache.insert("config", 2);
/// assert_eq!(**hot.load(), 1, "a handle is one version");
/// hot.store(cache.get_handle("config").unwrap());
/// assert_eq!(**hot.load(), 2);
/// ```
pub struct Handle<K, V> {
    node: NonNull<CachedValue<K, V>>,
    owns: PhantomData<CachedValue<K, V>>,
}

// SAFETY: handles on several threads share `&K` and `&V` (hence `Sync`), and the last one, on any thread, drops both
// (hence `Send`). The header is atomics.
unsafe impl<K: Send + Sync, V: Send + Sync> Send for Handle<K, V> {}
// SAFETY: as above; `&Handle` gives a handle by `clone`.
unsafe impl<K: Send + Sync, V: Send + Sync> Sync for Handle<K, V> {}

impl<K, V> Handle<K, V> {
    pub(crate) fn new(draft: Draft<K, V>) -> Self {
        Self { node: draft.into_raw(), owns: PhantomData }
    }

    /// This reference, as a guard holds it.
    pub(crate) fn into_held<'c>(self) -> Held<'c, CachedValue<K, V>> {
        let node = self.node;
        std::mem::forget(self);
        // SAFETY: this handle's own reference goes to the guard.
        unsafe { Held::counted(node) }
    }

    /// One more reference to a node that is protected (N3).
    pub(crate) fn share(node: Shared<'_, CachedValue<K, V>>) -> Self {
        node.retain();
        Self { node: node.as_non_null(), owns: PhantomData }
    }

    /// Takes over a reference.
    ///
    /// # Safety
    /// - The caller owns one reference to `node` and gives it up.
    #[inline]
    pub(crate) unsafe fn from_raw(node: NonNull<CachedValue<K, V>>) -> Self {
        Self { node, owns: PhantomData }
    }

    pub(super) fn as_ptr(&self) -> *mut CachedValue<K, V> {
        self.node.as_ptr()
    }

    /// The entry's key.
    pub fn key(&self) -> &K {
        &self.entry().key
    }

    /// The entry's value.
    pub fn value(&self) -> &V {
        self.entry().value()
    }

    /// The whole entry: key, value, weight, deadline.
    pub fn entry(&self) -> &CachedValue<K, V> {
        // SAFETY: this handle's own reference keeps the node alive (N1).
        unsafe { self.node.as_ref() }
    }

    /// Whether both handles are one version of one entry.
    #[must_use]
    pub fn ptr_eq(&self, other: &Self) -> bool {
        self.node == other.node
    }

    /// The key and the value themselves, if this is the only reference.
    ///
    /// # Errors
    /// Gives the handle back if there are others: the cache counts as one until it has let go of the entry, which it
    /// does at its own time.
    ///
    /// ```
    /// use dogpile::Cache;
    ///
    /// let nothing_fits = Cache::new(0);
    /// let refused = nothing_fits.insert("key", String::from("value")).expect("capacity 0 keeps nothing");
    /// assert_eq!(refused.try_unwrap().unwrap(), ("key", String::from("value")));
    /// ```
    pub fn try_unwrap(self) -> Result<(K, V), Self> {
        // Relaxed on failure: nothing was learnt.
        let strong = &self.entry().strong;
        if strong.compare_exchange(1, 0, ord::UNWRAP(), Ordering::Relaxed).is_err() {
            return Err(self);
        }
        let node = self.node;
        std::mem::forget(self);
        // SAFETY: the count went from this handle's one to zero, so nobody else has it, and nobody can raise it (N3).
        Ok(unsafe { Draft::from_raw(node) }.into_parts())
    }
}

impl<K, V> Clone for Handle<K, V> {
    fn clone(&self) -> Self {
        self.entry().retain();
        Self { node: self.node, owns: PhantomData }
    }
}

impl<K, V> Drop for Handle<K, V> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: gives up this handle's own reference, once.
        unsafe { CachedValue::release(self.node) }
    }
}

impl<K, V> Deref for Handle<K, V> {
    type Target = V;
    fn deref(&self) -> &V {
        self.value()
    }
}

impl<K, V> fmt::Debug for Handle<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(self.entry()).finish()
    }
}

// SAFETY: `into_ptr` and `from_ptr` move the one reference through the pointer, `as_ptr` leaves it; the pointer is the
// same for all clones, and none of the three can panic. The node stays put in its block.
unsafe impl<K, V> arc_swap::RefCnt for Handle<K, V> {
    type Base = CachedValue<K, V>;

    fn into_ptr(me: Self) -> *mut Self::Base {
        let node = me.node.as_ptr();
        std::mem::forget(me);
        node
    }

    fn as_ptr(me: &Self) -> *mut Self::Base {
        me.node.as_ptr()
    }

    unsafe fn from_ptr(ptr: *const Self::Base) -> Self {
        // SAFETY: the caller's promise: `ptr` came from `into_ptr`, so it is not null and carries one reference.
        let node = unsafe { NonNull::new_unchecked(ptr.cast_mut()) };
        Self { node, owns: PhantomData }
    }
}
