//! Hazard slots: what a guard that outlives its search holds on to.
//!
//! Each thread's record (`record`) has eight slots. A slot is written by its thread alone:
//! `0 --(hold, under the pin of the search)--> node --(the guard is dropped)--> 0`. A collector reads all slots, after the
//! grace period of what it wants to free.
//!
//! # Invariants
//! - **H1, in time.** A slot is written before the pin goes under which the node was found (R3). The end of the grace
//!   period therefore carries it to the collector, and nobody can start to hold a node once its grace period is over.
//!
//! # Orderings
//! | name      | where                       | pairs with | carries                                               |
//! |-----------|-----------------------------|------------|-------------------------------------------------------|
//! | `HOLD`    | store node into a slot      | `SCAN`     | reads under the slot's former holder: seen used again, they are over |
//! | `DROP`    | store 0 into a slot         | `SCAN`, `EMPTY` of `record` | the holder's reads of the node: they happen before it is freed |
//! | `SCAN`    | a collector's load of a slot| `HOLD`, `DROP` | the same                                          |
//!
//! # Cost
//! Holding: a look and a store; dropping: a store. No fence, no read-modify-write; from the third guard that a thread holds
//! at once, a search for a free slot; the ninth counts a reference in the node instead (one read-modify-write each way).

use super::record::records;
use super::{Reclaim, Shared};
use crate::sync::{AtomicPtr, orderings};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

orderings! { hazard: HOLD = Release, DROP = Release, SCAN = Acquire }

/// A node that can also be kept by a count of references.
///
/// # Safety
/// `retain` must keep the node alive until the matching `release`.
pub(crate) unsafe trait Counted {
    /// Counts one more reference. The caller's own protection covers the call.
    fn retain(&self);
    /// Takes one reference back, and frees the node with the last.
    ///
    /// # Safety
    /// - The caller owns one reference, which it gives up.
    unsafe fn release(node: NonNull<Self>);
}

/// A node kept alive past its pin, for as long as the index it came from is borrowed.
pub(crate) struct Held<'c, T: Counted> {
    node: NonNull<T>,
    /// The slot that names it. Null: the node's count is raised instead.
    ///
    /// With the node two words: a guard travels in registers. Three, of different sizes, took 7 ns from `get_or_create`.
    slot: *const AtomicPtr<()>,
    index: PhantomData<&'c T>,
}

/// Tells the compiler that the pin of a search (`'p`) does not outlive the index searched (`'c`).
pub(crate) type Within<'p, 'c> = PhantomData<&'p &'c ()>;

impl<'c, T: Counted> Held<'c, T> {
    /// Pins, searches, and holds what was found.
    ///
    /// # Safety
    /// - What `search` yields is retired, if at all, into a limbo of the backend `R` that lives for `'c`.
    #[inline]
    pub(crate) unsafe fn find<R: Reclaim>(
        search: impl for<'p> FnOnce(&'p R::Pin, Within<'p, 'c>) -> Option<Shared<'p, T>>,
    ) -> Option<Self> {
        let pin = R::pin();
        let found = search(&pin, PhantomData)?;
        let node = found.node;
        let record = R::record(&pin);
        let Some(slot) = record.free_slot() else { return Some(Self::count(found)) };
        slot.store(node.as_ptr().cast(), ord::HOLD());
        record.written();
        // The pin goes here, after the slot was written (H1).
        drop(pin);
        Some(Self { node, slot, index: PhantomData })
    }

    /// As `find`, by a brief pin and one of the first slots. None: the search is not finished, or they are not to be had.
    /// Nothing has happened then.
    ///
    /// # Safety
    /// - As of `find`.
    #[inline(always)]
    pub(crate) unsafe fn find_at_once<R: Reclaim>(
        search: impl for<'p> FnOnce(&'p R::Brief, Within<'p, 'c>) -> Option<Option<Shared<'p, T>>>,
    ) -> Option<Option<Self>> {
        let pin = R::pin_briefly()?;
        let Some(found) = search(&pin, PhantomData)? else { return Some(None) };
        let node = found.node;
        let slot = R::near_slot(&pin)?;
        slot.store(node.as_ptr().cast(), ord::HOLD());
        // The pin goes here, after the slot was written (H1).
        drop(pin);
        Some(Some(Self { node, slot, index: PhantomData }))
    }

    /// A guard of a node that is kept by a count.
    ///
    /// # Safety
    /// - The caller owns one reference, which it gives up.
    pub(crate) unsafe fn counted(node: NonNull<T>) -> Self {
        Self { node, slot: ptr::null(), index: PhantomData }
    }

    #[cold]
    fn count(found: Shared<'_, T>) -> Self {
        found.retain();
        Self { node: found.node, slot: ptr::null(), index: PhantomData }
    }

    /// The node, which this guard protects as a pin would.
    #[inline]
    pub(crate) fn get(&self) -> &T {
        // SAFETY: the node's table reference is not taken back while a slot names it (R3), or its count holds it.
        unsafe { self.node.as_ref() }
    }

    /// The same, in the form that a search under a pin yields.
    #[inline]
    pub(crate) fn shared(&self) -> Shared<'_, T> {
        // SAFETY: the node's table reference is not taken back while a slot names it (R3), or its count holds it.
        unsafe { Shared::new(self.node, self) }
    }
}

impl<T: Counted> Held<'_, T> {
    /// Gives up a count.
    ///
    /// # Safety
    /// - The guard is one of those that are counted, and this is its end.
    #[cold]
    #[inline(never)]
    unsafe fn give_up(node: NonNull<T>) {
        // SAFETY: the count was raised for the guard, which gives it up once, here.
        unsafe { T::release(node) }
    }
}

impl<T: Counted> Drop for Held<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: records are never freed; null gives `None`.
        match unsafe { self.slot.as_ref() } {
            Some(slot) => slot.store(ptr::null_mut(), ord::DROP()),
            // SAFETY: without a slot it is counted.
            None => unsafe { Self::give_up(self.node) },
        }
    }
}

/// Calls `visit` with every address that a slot holds now.
pub(crate) fn holders(mut visit: impl FnMut(*mut ())) {
    for record in records() {
        for slot in &record.slots {
            let held = slot.load(ord::SCAN());
            if !held.is_null() {
                visit(held);
            }
        }
    }
}
