//! Hazard slots: what a guard that outlives its search holds on to.
//!
//! Each thread has a *record* with eight slots; records form a list that only grows and are used again by later
//! threads. A slot is written by its thread alone: `0 --(hold, under the pin of the search)--> node --(the guard is
//! dropped)--> 0`. A collector reads all slots, after the grace period of what it wants to free.
//!
//! # Invariants
//! - **H1, in time.** A slot is written before the pin goes under which the node was found (R3). The end of the grace
//!   period therefore carries it to the collector, and nobody can start to hold a node once its grace period is over.
//! - **H2, own thread.** `busy` and the slots are written by the thread that has claimed the record, or by guards of
//!   that thread, which can't leave it (`Held` is not `Send`).
//! - **H3, outlives its thread's locals.** A record is given back by whichever comes last: the end of its thread or
//!   the last guard (`LIVE` and the slots' bits of `busy`). A guard never goes through a thread-local to be dropped.
//!
//! # Orderings
//! | name      | where                       | pairs with | carries                                               |
//! |-----------|-----------------------------|------------|-------------------------------------------------------|
//! | `HOLD`    | store node into a slot      | `SCAN`     | reads under the slot's former holder: seen used again, they are over |
//! | `DROP`    | store 0 into a slot         | `SCAN`     | the holder's reads of the node: they happen before it is freed |
//! | `SCAN`    | a collector's load of a slot| `HOLD`, `DROP` | the same                                          |
//! | `JOIN`    | CAS a record into the list  | `WALK`     | the record's fields                                   |
//! | `WALK`    | load head                   | `JOIN`     | the same                                              |
//! | `CLAIM`   | CAS claimed, false → true   | `LEAVE`    | the former owner's last write of `busy`               |
//! | `LEAVE`   | store claimed = false       | `CLAIM`    | the same                                              |
//!
//! # Cost
//! Holding and dropping: two plain stores each, no fence, no read-modify-write. The ninth guard that a thread holds at
//! once counts a reference in the node instead (one read-modify-write each way).

use super::{Reclaim, Shared};
use crate::sync::{AtomicBool, AtomicPtr, Ordering, OwnedCell, orderings, thread_local};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

orderings! { hazard: HOLD = Release, DROP = Release, SCAN = Acquire, JOIN = AcqRel, WALK = Acquire, CLAIM = Acquire, LEAVE = Release }

/// Models make do with fewer, so that they run out.
const SLOTS: usize = if cfg!(dogpile_loom) { 2 } else { 8 };
/// In `busy`, above the slots' bits: the thread that claimed the record is running.
const LIVE: u32 = 1 << SLOTS;

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

// On a line of its own pair: the owner writes, collectors of other cores read. The slots come first, and all lie within the
// alignment, so a slot's address tells its record.
#[repr(C, align(128))]
struct Record {
    slots: [AtomicPtr<()>; SLOTS],
    /// One bit a slot in use, and `LIVE`. Touched by the record's thread only (H2).
    busy: OwnedCell<u32>,
    claimed: AtomicBool,
    /// Written before the record is published, then never again.
    next: OwnedCell<*const Record>,
}

// SAFETY: `slots` and `claimed` are atomics; `busy` is touched by one thread at a time (H2), handed over by
// `CLAIM`/`LEAVE`; `next` is frozen before `JOIN` publishes the record.
unsafe impl Sync for Record {}

#[cfg(not(dogpile_loom))]
fn head() -> &'static AtomicPtr<Record> {
    static HEAD: AtomicPtr<Record> = AtomicPtr::new(ptr::null_mut());
    &HEAD
}

#[cfg(dogpile_loom)]
fn head() -> &'static AtomicPtr<Record> {
    loom::lazy_static! { static ref HEAD: AtomicPtr<Record> = AtomicPtr::new(ptr::null_mut()); }
    // SAFETY: loom keeps its lazy statics until the execution ends, and nothing of an execution outlives it.
    unsafe { &*ptr::from_ref(&*HEAD) }
}

thread_local! {
    // No destructor, so that reading it is one load from the thread's own block.
    static RECORD: Cell<*const Record> = const { Cell::new(ptr::null()) };
    static LEAVE: Exit = const { Exit(Cell::new(ptr::null())) };
}

struct Exit(Cell<*const Record>);

impl Drop for Exit {
    fn drop(&mut self) {
        let _ = RECORD.try_with(|cell| cell.set(ptr::null()));
        // SAFETY: records are never freed; null (never claimed) gives `None`.
        if let Some(record) = unsafe { self.0.get().as_ref() } {
            record.settle(record.busy.get() & !LIVE);
        }
    }
}

impl Record {
    /// The calling thread's record, claimed at its first use.
    #[inline]
    fn current() -> &'static Self {
        let record = RECORD.try_with(Cell::get).unwrap_or(ptr::null());
        // SAFETY: records are never freed; null gives `None`.
        match unsafe { record.as_ref() } {
            Some(record) => record,
            None => Self::claim(),
        }
    }

    #[cold]
    fn claim() -> &'static Self {
        let mut at = head().load(ord::WALK()).cast_const();
        // SAFETY: records are never freed; null ends the list.
        let record = loop {
            // SAFETY: records are never freed; null ends the list.
            let Some(record) = (unsafe { at.as_ref() }) else { break Self::join() };
            // Relaxed: nothing travels with a failed claim.
            let free = !record.claimed.load(Ordering::Relaxed);
            if free && record.claimed.compare_exchange(false, true, ord::CLAIM(), Ordering::Relaxed).is_ok() {
                break record;
            }
            at = record.next.get();
        };
        record.busy.set(0);
        // Once the thread's locals are being destroyed the record serves one guard and is then given back (H3).
        let live = LEAVE.try_with(|exit| exit.0.set(record)).is_ok();
        if live {
            record.busy.set(LIVE);
            let _ = RECORD.try_with(|cell| cell.set(record));
        }
        record
    }

    fn join() -> &'static Self {
        let record: &'static Self = Box::leak(Box::new(Self {
            slots: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            busy: OwnedCell::new(0),
            claimed: AtomicBool::new(true),
            next: OwnedCell::new(ptr::null()),
        }));
        let mut seen = head().load(ord::WALK());
        loop {
            record.next.set(seen);
            let ours = ptr::from_ref(record).cast_mut();
            match head().compare_exchange(seen, ours, ord::JOIN(), ord::WALK()) {
                Ok(_) => return record,
                Err(now) => seen = now,
            }
        }
    }

    /// The address of a slot, from which `of` finds the way back.
    #[inline]
    fn slot(&'static self, number: u32) -> *const AtomicPtr<()> {
        // From the whole record's address, so that it may be used for all of it. Within the record: `number < SLOTS`.
        ptr::from_ref(self).cast::<AtomicPtr<()>>().wrapping_add(number as usize)
    }

    /// The record of a slot, and the slot's number.
    #[inline]
    fn of(slot: *const AtomicPtr<()>) -> (&'static Self, u32) {
        const { assert!(std::mem::offset_of!(Record, slots) == 0) }
        const { assert!(SLOTS * size_of::<AtomicPtr<()>>() <= align_of::<Record>()) }
        let record = slot.map_addr(|address| address & !(align_of::<Self>() - 1)).cast::<Self>();
        let number = (slot.addr() - record.addr()) / size_of::<AtomicPtr<()>>();
        // SAFETY: `slot` came from `Record::slot`: records are aligned to more than their slots take, which come first,
        // so rounding down gives the record; records are never freed.
        (unsafe { &*record }, number as u32)
    }

    /// Writes `busy`, and gives the record back if neither a guard nor its thread needs it any more (H3).
    #[inline]
    fn settle(&self, busy: u32) {
        self.busy.set(busy);
        if busy == 0 {
            self.claimed.store(false, ord::LEAVE());
        }
    }
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
        let record = Record::current();
        let busy = record.busy.get();
        let slot = (!busy).trailing_zeros();
        let node = found.node;
        if (slot as usize) < SLOTS {
            record.slots[slot as usize].store(node.as_ptr().cast(), ord::HOLD());
            record.busy.set(busy | 1 << slot);
            // The pin goes here, after the slot was written (H1).
            drop(pin);
            Some(Self { node, slot: record.slot(slot), index: PhantomData })
        } else {
            Some(Self::count(found, record))
        }
    }

    /// A guard of a node that is kept by a count.
    ///
    /// # Safety
    /// - The caller owns one reference, which it gives up.
    pub(crate) unsafe fn counted(node: NonNull<T>) -> Self {
        Self { node, slot: ptr::null(), index: PhantomData }
    }

    #[cold]
    fn count(found: Shared<'_, T>, record: &Record) -> Self {
        found.retain();
        // A record of a thread that is going has no guard yet, so it has free slots and never comes here.
        debug_assert!(record.busy.get() != 0);
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

impl<T: Counted> Drop for Held<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: records are never freed; null gives `None`.
        match unsafe { self.slot.as_ref() } {
            Some(slot) => {
                slot.store(ptr::null_mut(), ord::DROP());
                let (record, number) = Record::of(self.slot);
                record.settle(record.busy.get() & !(1 << number));
            }
            // SAFETY: the count was raised for this guard, which gives it up once, here.
            None => unsafe { T::release(self.node) },
        }
    }
}

/// Calls `visit` with every address that a slot holds now.
pub(crate) fn holders(mut visit: impl FnMut(*mut ())) {
    let mut at = head().load(ord::WALK()).cast_const();
    // SAFETY: records are never freed; null ends the list.
    while let Some(record) = unsafe { at.as_ref() } {
        for slot in &record.slots {
            let held = slot.load(ord::SCAN());
            if !held.is_null() {
                visit(held);
            }
        }
        at = record.next.get();
    }
}
