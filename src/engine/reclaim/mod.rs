//! When memory may be freed that readers without a lock may still be looking at.
//!
//! `reachable --(a writer's CAS unlinks it)--> retired --(every pin of that moment is gone)--> unreachable`
//! `--(no hazard slot names it)--> free`, never back.
//!
//! A reader *pins* while it searches. What it hands to its caller it *holds*: before it unpins it writes the node's
//! address into a hazard slot of its own thread. So a guard that lives long retains one node, not an epoch, and not
//! the garbage of the whole process. A pin nests and can be handed out; a *brief* one does neither and costs half, for
//! the usual `get`: where it is not to be had, or the search takes longer, the reader begins again with a usual one.
//!
//! # Invariants
//! - **R1, unlinked first.** Only what no new search can reach is retired, once, by the thread that unlinked it,
//!   while that thread is still pinned.
//! - **R2, grace.** A grace period that begins after an unlink ends only when every pin has gone that existed when it
//!   began.
//! - **R3, held.** A hazard slot is written under a pin under which the node was found, and before that pin goes. So
//!   whoever sees the grace period over sees the slot.
//! - **R4, owned.** Garbage belongs to the index that retired it and dies with it at the latest; guards borrow the
//!   index. Hence no `'static` bound, and a destructor runs at the end of a write, or when the cache is dropped, and
//!   never on a reader.
//!
//! # Backends
//! `asymmetric`, or `epoch` with `--cfg dogpile_epoch`: crossbeam-epoch, for who would rather trust that. The tests of
//! `scripts/test.sh` run on both, the models on the first. With `--cfg crossbeam_loom` beside they are built for the second,
//! but the two smallest were not explored within eight minutes (2026-11-21): its lists and bags are too many steps.
//!
//! # Cost
//! `asymmetric`, `hazard` and `limbo` say what they do; `ARCHITECTURE.md` has figures.
//!
//! # Source
//! Epochs: K. Fraser, *Practical lock-freedom*, 2004, section 5.2.3 (as built by crossbeam-epoch). Hazard slots:
//! M. Michael, *Hazard Pointers*, IEEE TPDS 2004; our departure: the search runs under a pin, so a slot needs neither
//! fence nor validation.
//!
//! # Not for
//! Objects that a new search can find again after they were retired.

#[cfg_attr(dogpile_epoch, allow(dead_code, reason = "of the other backend"))]
mod asymmetric;
#[cfg_attr(dogpile_epoch, allow(dead_code, reason = "of the other backend"))]
mod barrier;
#[cfg(dogpile_epoch)]
mod epoch;
mod hazard;
mod limbo;
#[cfg(dogpile_loom)]
mod modelled;
#[cfg_attr(dogpile_epoch, allow(dead_code, reason = "of the other backend"))]
mod record;

pub(crate) use hazard::{Counted, Held, holders};
pub(crate) use limbo::{Garbage, Limbo};
#[cfg(dogpile_loom)]
pub use modelled::LimboDoor;
#[cfg(dogpile_loom)]
pub(crate) use modelled::Modelled;

use crate::sync::AtomicPtr;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

/// The backend of this build.
#[cfg(not(dogpile_epoch))]
pub(crate) type Backend = asymmetric::Asymmetric;
#[cfg(dogpile_epoch)]
pub(crate) type Backend = epoch::Epoch;

/// Tells when every reader that could see a retired node has gone. Sealed: the backends are those of this room.
pub(crate) trait Reclaim: 'static {
    /// While one lives, nothing is freed that was reachable when it was made. Stays on its thread.
    type Pin: Pinned;
    /// A pin that does not nest, and ends in the call that made it.
    type Brief: Pinned;
    /// A grace period that has begun.
    type Grace: Send;

    /// Pins the calling thread. Nests.
    fn pin() -> Self::Pin;
    /// The same for the shortest searches, where it costs least. None: a usual pin is needed.
    #[inline(always)]
    fn pin_briefly() -> Option<Self::Brief> {
        None
    }
    /// A free slot, if one is at hand.
    #[inline(always)]
    fn near_slot(_brief: &Self::Brief) -> Option<&'static AtomicPtr<()>> {
        None
    }
    /// Begins a grace period that covers every pin there is now. First it fences: what its caller has seen, even by relaxed
    /// loads, comes before it.
    fn begin(pin: &Self::Pin) -> Self::Grace;
    /// Whether every pin that `grace` covers has gone; then all they did happens before what the caller does next.
    fn is_over(grace: &Self::Grace) -> bool;
    /// Tries a little to bring `grace` to its end.
    fn settle(grace: &Self::Grace);
    /// The same in passing, by who retires: only if the thread has retired much, or if it is `urgent`. Returns whether it
    /// may have helped.
    fn help(urgent: bool) -> bool;
    /// What is to be done when the process has its first record.
    fn first() {}
    /// What is to be done in a child process, whose only thread this is.
    #[cfg(all(unix, not(any(dogpile_loom, dogpile_shuttle, miri))))]
    fn forked() {}
    /// Counts what the pinned thread has retired.
    fn note(_pin: &Self::Pin, _retired: usize) {}
    /// The record of the pinned thread.
    #[inline]
    fn record(_pin: &Self::Pin) -> &'static record::Record {
        record::Record::current()
    }
}

/// What keeps what is found under it: a pin of any kind. Sealed, as `Reclaim` is.
pub(crate) trait Pinned {}

/// A node found under a pin: valid as long as the pin lives.
pub(crate) struct Shared<'p, T> {
    node: NonNull<T>,
    pin: PhantomData<&'p T>,
}

impl<'p, T> Shared<'p, T> {
    /// # Safety
    /// - `node` was reachable at some moment after `_pin` was made, and
    /// - is retired, if at all, into a limbo of the same backend as the pin's, which outlives `'p`.
    pub(crate) unsafe fn new<P>(node: NonNull<T>, _pin: &'p P) -> Self {
        Self { node, pin: PhantomData }
    }

    pub(crate) fn as_ptr(self) -> *mut T {
        self.node.as_ptr()
    }

    pub(crate) fn as_non_null(self) -> NonNull<T> {
        self.node
    }

    /// The node for the pin's whole life, which `Deref` can't give.
    pub(crate) fn get(self) -> &'p T {
        // SAFETY: R2: what was found under the pin is not freed while the pin lives, which is `'p` (`new`).
        unsafe { self.node.as_ref() }
    }
}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Shared<'_, T> {}

impl<T> Deref for Shared<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.get()
    }
}
