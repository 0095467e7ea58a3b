//! What a thread shows to collectors: the epoch it is pinned in, and its hazard slots, on one record.
//!
//! `free --(a thread claims it)--> its thread's --(the thread ends)--> lingering --(its last guard and pin go)--> free`
//!
//! Records form a list that only grows, and are used again by later threads. One word (`own`) says how often its thread is
//! pinned, and whether it is lingering. It is the thread's alone, so a pin, a hold and both ends need no
//! read-modify-write, and one look at a thread-local for all.
//!
//! # Invariants
//! - **H2, own thread.** `own` and the slots are written by the thread that has claimed the record, or by pins and guards
//!   of that thread, which can't leave it (neither is `Send`).
//! - **H3, outlives its thread's locals.** A record is given back by whichever comes last: the end of its thread, the
//!   last pin, the last guard. None of them goes through a thread-local to find it.
//! - **H4, counted.** Pins that are forgotten count for ever; a count that would reach other bits aborts.
//! - **H5, forked.** In a child process there is one thread; records of others are given back as it begins. So nothing
//!   waits for threads that are not there. A lock that another thread had while the process was forked stays locked, as
//!   any does.
//!
//! # Orderings
//! | name      | where                       | pairs with | carries                                               |
//! |-----------|-----------------------------|------------|-------------------------------------------------------|
//! | `JOIN`    | CAS a record into the list  | `WALK`     | the record's fields                                   |
//! | `WALK`    | load head                   | `JOIN`     | the same                                              |
//! | `CLAIM`   | CAS claimed, false → true   | `LEAVE`    | the former owner's last write of `own`                |
//! | `LEAVE`   | store claimed = false       | `CLAIM`    | the same                                              |
//!
//! # Source
//! The list: M. Michael, *Hazard Pointers*, IEEE TPDS 2004, section 3.2.

use super::{Backend, Reclaim};
use crate::sync::{AtomicBool, AtomicPtr, AtomicU64, Ordering, OwnedCell, orderings, thread_local};
use std::cell::Cell;
use std::ptr;

orderings! { record: JOIN = Release, WALK = Acquire, CLAIM = Acquire, LEAVE = Release }

/// Models make do with fewer, so that they run out.
pub(super) const SLOTS: usize = if cfg!(dogpile_loom) { 2 } else { 8 };
/// A thread tries to end a grace period when it has retired so much: a heavy barrier then costs a few nanoseconds each.
pub(super) const PATIENCE: usize = 128;
/// In `own`, above the number of pins: the thread has ended, but for what its locals' destructors do.
const LINGERS: u64 = 1 << 63;
/// The same: this is nobody's record.
const NOBODY: u64 = 1 << 62;
/// More pins than this are forgotten ones.
const MOST_PINS: u64 = 1 << 61;

// On a line of its own pair: the owner writes, collectors of other cores read. The slots come first, and all lie within the
// alignment, so a slot's address tells its record.
#[repr(C, align(128))]
pub(crate) struct Record {
    pub(super) slots: [AtomicPtr<()>; SLOTS],
    /// 0, or the epoch that the thread is pinned in. Whose orderings they are: `asymmetric`.
    pub(super) state: AtomicU64,
    /// The number of pins, and above it the bits. 0: a thread's that is not pinned. Touched by that thread only (H2).
    own: OwnedCell<u64>,
    /// What the thread has retired since it last tried to end a grace period (H2).
    pub(super) retired: OwnedCell<usize>,
    /// And after how much it tries next.
    pub(super) patience: OwnedCell<usize>,
    /// Not seen unpinned since pins began to fence. Relaxed: of collectors, of which there is one at a time.
    pub(super) suspect: AtomicBool,
    claimed: AtomicBool,
    /// Written before the record is published, then never again.
    next: OwnedCell<*const Record>,
}

// SAFETY: `slots`, `state`, `suspect` and `claimed` are atomics; `own` and `retired` are touched by one thread at a time
// (H2), handed over by `CLAIM`/`LEAVE`; `next` is frozen before `JOIN` publishes the record.
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

/// What threads have that have none: nobody writes to it.
#[cfg(not(dogpile_loom))]
static NONE: Record = Record {
    slots: [const { AtomicPtr::new(ptr::null_mut()) }; SLOTS],
    state: AtomicU64::new(0),
    own: OwnedCell::new(NOBODY),
    retired: OwnedCell::new(0),
    patience: OwnedCell::new(0),
    suspect: AtomicBool::new(false),
    claimed: AtomicBool::new(true),
    next: OwnedCell::new(ptr::null()),
};

#[cfg(not(dogpile_loom))]
const fn none() -> *const Record {
    &raw const NONE
}

/// Models have no statics of their types.
#[cfg(dogpile_loom)]
fn none() -> *const Record {
    ptr::null()
}

thread_local! {
    // No destructor, so that reading it is one load from the thread's own block. Not null, so that a pin finds out with
    // the same look whether it is the first and whether it has a record.
    static RECORD: Cell<*const Record> = const { Cell::new(none()) };
    static LEAVE: Exit = const { Exit(Cell::new(ptr::null())) };
}

struct Exit(Cell<*const Record>);

impl Drop for Exit {
    fn drop(&mut self) {
        // SAFETY: records are never freed; null (never claimed) gives `None`.
        if let Some(record) = unsafe { self.0.get().as_ref() } {
            record.own.set(record.own.get() | LINGERS);
            record.linger();
        }
    }
}

/// Every record there is.
pub(super) fn records() -> impl Iterator<Item = &'static Record> {
    let mut at = head().load(ord::WALK()).cast_const();
    std::iter::from_fn(move || {
        // SAFETY: records are never freed; null ends the list.
        let record = unsafe { at.as_ref() }?;
        at = record.next.get();
        Some(record)
    })
}

impl Record {
    /// The calling thread's record, claimed at its first use.
    #[inline]
    pub(super) fn current() -> &'static Self {
        Self::existing().unwrap_or_else(Self::claim)
    }

    /// The calling thread's record, if it has one.
    pub(super) fn existing() -> Option<&'static Self> {
        // SAFETY: records are never freed; null gives `None`.
        let record = unsafe { Self::local().as_ref() };
        record.filter(|record| record.own.get() & NOBODY == 0)
    }

    #[inline]
    fn local() -> *const Self {
        RECORD.try_with(Cell::get).unwrap_or(none())
    }

    /// Counts a pin of the calling thread, after `announce` if it is the first. Returns its record.
    #[inline]
    pub(super) fn pin(announce: impl Fn(&Self)) -> &'static Self {
        let record = Self::local();
        // SAFETY: records are never freed, and but for models it is never null.
        if let Some(record) = (!cfg!(dogpile_loom) || !record.is_null()).then(|| unsafe { &*record })
            && record.own.get() == 0
        {
            announce(record);
            record.own.set(1);
            return record;
        }
        let (record, is_first) = Self::pin_further();
        if is_first {
            announce(record);
        }
        record
    }

    /// Counts a pin where the thread has others, or no record of its own, or is about to end.
    #[cold]
    #[inline(never)]
    fn pin_further() -> (&'static Self, bool) {
        let record = Self::current();
        let own = record.own.get();
        let pins = own & !LINGERS;
        if pins >= MOST_PINS {
            // As the counts of `Arc`: going on would free what a pin protects (H4).
            std::process::abort();
        }
        record.own.set(own + 1);
        (record, pins == 0)
    }

    /// Takes a pin back, and does what `end` says if it is the last.
    #[inline]
    pub(super) fn unpin(&self, end: impl Fn(&Self)) {
        let own = self.own.get() - 1;
        if own == 0 {
            end(self);
            self.own.set(0);
            return;
        }
        self.unpin_further(own, end);
    }

    #[cold]
    #[inline(never)]
    fn unpin_further(&self, own: u64, end: impl Fn(&Self)) {
        if own == LINGERS {
            end(self);
        }
        self.own.set(own);
        self.linger();
    }

    /// A slot that is free.
    #[inline]
    pub(super) fn free_slot(&'static self) -> Option<*const AtomicPtr<()>> {
        if is_free(&self.slots[0]) {
            return Some(self.slot(0));
        }
        self.further_slot()
    }

    #[cold]
    #[inline(never)]
    fn further_slot(&'static self) -> Option<*const AtomicPtr<()>> {
        (1..SLOTS).find(|number| is_free(&self.slots[*number])).map(|number| self.slot(number))
    }

    /// The address of a slot, from which `of` finds the way back.
    #[inline]
    fn slot(&'static self, number: usize) -> *const AtomicPtr<()> {
        // From the whole record's address, so that it may be used for all of it. Within the record: `number < SLOTS`.
        ptr::from_ref(self).cast::<AtomicPtr<()>>().wrapping_add(number)
    }

    /// The record of a slot.
    ///
    /// # Safety
    /// - `slot` came from `free_slot`.
    #[inline]
    pub(super) unsafe fn of(slot: *const AtomicPtr<()>) -> &'static Self {
        const { assert!(std::mem::offset_of!(Record, slots) == 0) }
        const { assert!(SLOTS * size_of::<AtomicPtr<()>>() <= align_of::<Record>()) }
        let record = slot.map_addr(|address| address & !(align_of::<Self>() - 1)).cast::<Self>();
        // SAFETY: records are aligned to more than their slots take, which come first, so rounding down gives the
        // record; records are never freed.
        unsafe { &*record }
    }

    /// What is to be done when a slot was emptied (H3).
    #[inline]
    pub(super) fn emptied(&self) {
        if self.own.get() & LINGERS != 0 {
            self.linger();
        }
    }

    /// Gives the record of an ended thread back if neither a pin nor a guard needs it any more (H3).
    #[cold]
    #[inline(never)]
    fn linger(&self) {
        if self.own.get() == LINGERS && self.slots.iter().all(is_free) {
            let _ = RECORD.try_with(|cell| {
                if ptr::eq(cell.get(), self) {
                    cell.set(none());
                }
            });
            self.claimed.store(false, ord::LEAVE());
        }
    }

    #[cold]
    fn claim() -> &'static Self {
        // Relaxed: nothing travels with a failed claim.
        let claim = |record: &&'static Self| {
            !record.claimed.load(Ordering::Relaxed)
                && record.claimed.compare_exchange(false, true, ord::CLAIM(), Ordering::Relaxed).is_ok()
        };
        let record = records().find(claim).unwrap_or_else(Self::join);
        // Once the thread's locals are being destroyed the record serves what is made of it next, and is then given
        // back (H3).
        let live = LEAVE.try_with(|exit| exit.0.set(record)).is_ok();
        record.own.set(if live { 0 } else { LINGERS });
        record.retired.set(0);
        record.patience.set(PATIENCE);
        let _ = RECORD.try_with(|cell| cell.set(record));
        record
    }

    fn join() -> &'static Self {
        let record: &'static Self = Box::leak(Box::new(Self {
            slots: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            state: AtomicU64::new(0),
            own: OwnedCell::new(0),
            retired: OwnedCell::new(0),
            patience: OwnedCell::new(PATIENCE),
            suspect: AtomicBool::new(false),
            claimed: AtomicBool::new(true),
            next: OwnedCell::new(ptr::null()),
        }));
        let mut seen = head().load(ord::WALK());
        loop {
            record.next.set(seen);
            let ours = ptr::from_ref(record).cast_mut();
            match head().compare_exchange(seen, ours, ord::JOIN(), ord::WALK()) {
                Ok(_) if seen.is_null() => {
                    first();
                    return record;
                }
                Ok(_) => return record,
                Err(now) => seen = now,
            }
        }
    }
}

/// Whether a slot of the calling thread's is free.
#[cfg(not(dogpile_loom))]
#[inline]
fn is_free(slot: &AtomicPtr<()>) -> bool {
    // Relaxed: the thread's own (H2).
    slot.load(Ordering::Relaxed).is_null()
}

/// The same, as no step of a model: loom ends a thread's locals in an order that is new each time, and wants the same steps.
#[cfg(dogpile_loom)]
fn is_free(slot: &AtomicPtr<()>) -> bool {
    // SAFETY: the thread's own (H2), and loom would see if it were not.
    unsafe { slot.unsync_load() }.is_null()
}

/// What the process does when it has its first record.
fn first() {
    Backend::first();
    #[cfg(all(unix, not(any(dogpile_loom, dogpile_shuttle, miri))))]
    // SAFETY: `forked` may be called in a child after a fork: it neither allocates nor takes a lock. Where there is no
    // memory for the handler the child's garbage may wait for threads it does not have, and goes with its caches.
    unsafe {
        libc::pthread_atfork(None, None, Some(forked));
    }
}

/// Gives back the records of the threads that this process does not have (H5).
#[cfg(all(unix, not(any(dogpile_loom, dogpile_shuttle, miri))))]
extern "C" fn forked() {
    let own = RECORD.try_with(Cell::get).unwrap_or(ptr::null());
    for record in records().filter(|record| !ptr::eq(*record, own)) {
        // Relaxed: no other thread has begun.
        record.slots.iter().for_each(|slot| slot.store(ptr::null_mut(), Ordering::Relaxed));
        record.state.store(0, Ordering::Relaxed);
        record.claimed.store(false, Ordering::Relaxed);
    }
    Backend::forked();
}
