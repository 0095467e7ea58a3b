//! What a thread shows to collectors: the epoch it is pinned in, and its hazard slots, on one record.
//!
//! `left --(a thread claims it, and finds it empty)--> its thread's --(the thread ends)--> left`
//!
//! Records form a list that only grows, and are used again by later threads. A thread may leave pins and guards behind, in
//! locals that are destroyed after ours: until they have gone its record is left, but not empty. Whoever looks for a record
//! passes it by, so that the end of a guard is one store and asks nothing.
//!
//! One word (`own`) counts the thread's pins. It is the thread's alone, so a pin, a hold and both ends need no
//! read-modify-write, and one look at a thread-local for all. A *brief* pin has a word of its own (`brief`) and is not
//! counted: it does not nest, and ends in the call that made it.
//!
//! # Invariants
//! - **H2, own thread.** `own`, `brief` and the slots are written by the thread that has claimed the record, or by pins and
//!   guards of that thread, which can't leave it (neither is `Send`).
//! - **H3, outlives its thread's locals.** A record that was left serves its thread no more, and the next one only when it
//!   is empty: no pin, no guard. Pins and guards know their record; none of them goes through a thread-local to find it.
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
//! | `CLAIM`   | CAS claimed, false → true   | `LEAVE`    | the former owner's last writes of all that is its own |
//! | `LEAVE`   | store claimed = false       | `CLAIM`    | the same                                              |
//! | `EMPTY`   | a claimant's look at pin and slots | `UNPIN`, `DROP` | what the former owner's last pins and guards did after it had left |
//!
//! # Source
//! The list: M. Michael, *Hazard Pointers*, IEEE TPDS 2004, section 3.2.

use super::{Backend, Reclaim};
use crate::sync::{AtomicBool, AtomicPtr, AtomicU64, Ordering, OwnedCell, orderings, thread_local};
use std::cell::Cell;
use std::ptr;

orderings! { record: JOIN = Release, WALK = Acquire, CLAIM = Acquire, LEAVE = Release, EMPTY = Acquire }

/// Models make do with fewer, so that they run out.
pub(super) const SLOTS: usize = if cfg!(dogpile_loom) { 2 } else { 8 };
/// A thread tries to end a grace period when it has retired so much: a heavy barrier then costs a few nanoseconds each.
pub(super) const PATIENCE: usize = 128;
/// In `own`, above the number of pins: claimed for one operation, while the thread's locals are being destroyed.
const LATE: u64 = 1 << 63;
/// The same: this is nobody's record.
const NOBODY: u64 = 1 << 62;
/// More pins than this are forgotten ones.
const MOST_PINS: u64 = 1 << 61;

// On a line of its own pair: the owner writes, collectors of other cores read.
#[repr(C, align(128))]
pub(crate) struct Record {
    pub(super) slots: [AtomicPtr<()>; SLOTS],
    /// 0, or the epoch that the thread is pinned in. Whose orderings they are: `asymmetric`.
    pub(super) state: AtomicU64,
    /// The same for brief pins.
    pub(super) brief: AtomicU64,
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

// SAFETY: `slots`, `state`, `brief`, `suspect` and `claimed` are atomics; `own` and `retired` are touched by one thread at a
// time (H2), handed over by `CLAIM`/`LEAVE` and `EMPTY`; `next` is frozen before `JOIN` publishes the record.
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
    // No brief pin finds it free.
    brief: AtomicU64::new(1),
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

impl Exit {
    fn leave(&self) {
        // SAFETY: records are never freed; null (never claimed) gives `None`.
        if let Some(record) = unsafe { self.0.replace(ptr::null()).as_ref() } {
            let _ = RECORD.try_with(|cell| cell.set(none()));
            record.leave();
        }
    }
}

impl Drop for Exit {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What the end of a thread does, for models: loom ends a thread's locals in an order that is new each time, and wants the
/// same steps.
#[cfg(dogpile_loom)]
pub(super) fn end_thread() {
    LEAVE.with(Exit::leave);
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

    /// The record of the calling thread if it is at hand, and the thread not in the middle of a brief pin.
    #[inline]
    pub(super) fn at_hand() -> Option<&'static Self> {
        let record = Self::local_ref()?;
        is_zero(&record.brief).then_some(record)
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

    /// The calling thread's record, or `NONE`; models have nothing for that.
    #[inline(always)]
    fn local_ref() -> Option<&'static Self> {
        let record = Self::local();
        // SAFETY: records are never freed, and but for models it is never null.
        (!cfg!(dogpile_loom) || !record.is_null()).then(|| unsafe { &*record })
    }

    /// Counts a pin of the calling thread, after `announce` if it is the first. Returns its record.
    #[inline]
    pub(super) fn pin(announce: impl Fn(&Self)) -> &'static Self {
        if let Some(record) = Self::local_ref()
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
        let pins = own & !LATE;
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
        self.own.set(own);
        if own == 0 {
            // Last: a record that was left may be claimed from here on.
            end(self);
            return;
        }
        self.unpin_further(own, end);
    }

    #[cold]
    #[inline(never)]
    fn unpin_further(&self, own: u64, end: impl Fn(&Self)) {
        if own == LATE {
            end(self);
            self.leave();
        }
    }

    /// A slot that is free.
    #[inline]
    pub(super) fn free_slot(&'static self) -> Option<&'static AtomicPtr<()>> {
        self.near_slot().or_else(|| self.slots[2..].iter().find(|slot| is_free(slot)))
    }

    /// The same of the first two: one look for a thread that holds nothing, and few instructions for one that holds one guard.
    #[inline]
    pub(super) fn near_slot(&'static self) -> Option<&'static AtomicPtr<()>> {
        let [first, second, ..] = &self.slots;
        if is_free(first) {
            return Some(first);
        }
        is_free(second).then_some(second)
    }

    /// What is to be done when a slot was written: without a pin of its own a late record has served (H3).
    #[inline]
    pub(super) fn written(&self) {
        if self.own.get() == LATE {
            self.leave();
        }
    }

    /// The thread will not come back to this record.
    #[cold]
    fn leave(&self) {
        self.claimed.store(false, ord::LEAVE());
    }

    /// Whether the former owner has left neither pin nor guard behind.
    fn is_empty(&self) -> bool {
        self.state.load(ord::EMPTY()) == 0 && self.slots.iter().all(|slot| slot.load(ord::EMPTY()).is_null())
    }

    #[cold]
    fn claim() -> &'static Self {
        // Relaxed: nothing travels with a failed claim.
        let claim = |record: &&'static Self| {
            let claimed = !record.claimed.load(Ordering::Relaxed)
                && record.claimed.compare_exchange(false, true, ord::CLAIM(), Ordering::Relaxed).is_ok();
            // Asked when nobody else can claim it, use it and leave it.
            if claimed && !record.is_empty() {
                record.leave();
                return false;
            }
            claimed
        };
        let record = records().find(claim).unwrap_or_else(Self::join);
        // Once the thread's locals are being destroyed a record serves what is made of it next, and is left then (H3).
        let live = LEAVE.try_with(|exit| exit.0.set(record)).is_ok();
        record.own.set(if live { 0 } else { LATE });
        record.retired.set(0);
        record.patience.set(PATIENCE);
        if live {
            let _ = RECORD.try_with(|cell| cell.set(record));
        }
        record
    }

    fn join() -> &'static Self {
        let record: &'static Self = Box::leak(Box::new(Self {
            slots: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            state: AtomicU64::new(0),
            brief: AtomicU64::new(0),
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
    // SAFETY: the thread's own (H2): no other writes to it, so it can be read as what it is to its writer, which compiles to
    // a comparison with memory.
    unsafe { *slot.as_ptr() }.is_null()
}

/// The same, as no step of a model.
#[cfg(dogpile_loom)]
fn is_free(slot: &AtomicPtr<()>) -> bool {
    // SAFETY: the thread's own (H2), and loom would see if it were not.
    unsafe { slot.unsync_load() }.is_null()
}

/// Whether the calling thread has no brief pin.
#[cfg(not(dogpile_loom))]
#[inline]
fn is_zero(brief: &AtomicU64) -> bool {
    // SAFETY: as in `is_free`.
    unsafe { *brief.as_ptr() == 0 }
}

/// The same, as no step of a model.
#[cfg(dogpile_loom)]
fn is_zero(brief: &AtomicU64) -> bool {
    // SAFETY: the thread's own (H2), and loom would see if it were not.
    unsafe { brief.unsync_load() == 0 }
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
        record.brief.store(0, Ordering::Relaxed);
        record.claimed.store(false, Ordering::Relaxed);
    }
    Backend::forked();
}
