//! What a thread shows to collectors: the epoch it is pinned in, and its hazard slots, on one record.
//!
//! `free --(a thread claims it)--> LIVE --(the thread ends)--> lingering --(its last guard and pin go)--> free`
//!
//! Records form a list that only grows, and are used again by later threads. One word (`own`) says what its thread does
//! with a record: how often it is pinned, which slots are in use, whether it is running. It is the thread's alone, so a
//! pin, a hold and both ends need no read-modify-write, and one look at a thread-local for all.
//!
//! # Invariants
//! - **H2, own thread.** `own` is written by the thread that has claimed the record, or by pins and guards of that thread,
//!   which can't leave it (neither is `Send`).
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
/// In `own`, above the slots' bits: the thread that claimed the record is running.
const LIVE: u64 = 1 << SLOTS;
/// A thread tries to end a grace period when it has retired so much: a heavy barrier then costs a few nanoseconds each.
pub(super) const PATIENCE: usize = 128;
/// In `own`, above all that: one pin.
pub(super) const PIN: u64 = 1 << 16;

// On a line of its own pair: the owner writes, collectors of other cores read. The slots come first, and all lie within the
// alignment, so a slot's address tells its record.
#[repr(C, align(128))]
pub(crate) struct Record {
    pub(super) slots: [AtomicPtr<()>; SLOTS],
    /// 0, or the epoch that the thread is pinned in. Whose orderings they are: `asymmetric`.
    pub(super) state: AtomicU64,
    /// One bit a slot in use, `LIVE`, and the number of pins. Touched by the record's thread only (H2).
    pub(super) own: OwnedCell<u64>,
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

thread_local! {
    // No destructor, so that reading it is one load from the thread's own block.
    static RECORD: Cell<*const Record> = const { Cell::new(ptr::null()) };
    static LEAVE: Exit = const { Exit(Cell::new(ptr::null())) };
}

struct Exit(Cell<*const Record>);

impl Drop for Exit {
    fn drop(&mut self) {
        // SAFETY: records are never freed; null (never claimed) gives `None`.
        if let Some(record) = unsafe { self.0.get().as_ref() } {
            record.settle(record.own.get() & !LIVE);
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
        match Self::existing() {
            Some(record) => record,
            None => Self::claim(),
        }
    }

    /// The calling thread's record, if it has one.
    #[inline]
    pub(super) fn existing() -> Option<&'static Self> {
        let record = RECORD.try_with(Cell::get).unwrap_or(ptr::null());
        // SAFETY: records are never freed; null gives `None`.
        unsafe { record.as_ref() }
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
        record.own.set(if live { LIVE } else { 0 });
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

    /// The address of a slot, from which `of` finds the way back.
    #[inline]
    pub(super) fn slot(&'static self, number: u32) -> *const AtomicPtr<()> {
        // From the whole record's address, so that it may be used for all of it. Within the record: `number < SLOTS`.
        ptr::from_ref(self).cast::<AtomicPtr<()>>().wrapping_add(number as usize)
    }

    /// The record of a slot, and the slot's number.
    ///
    /// # Safety
    /// - `slot` came from `Record::slot`.
    #[inline]
    pub(super) unsafe fn of(slot: *const AtomicPtr<()>) -> (&'static Self, u32) {
        const { assert!(std::mem::offset_of!(Record, slots) == 0) }
        const { assert!(SLOTS * size_of::<AtomicPtr<()>>() <= align_of::<Record>()) }
        let record = slot.map_addr(|address| address & !(align_of::<Self>() - 1)).cast::<Self>();
        let number = (slot.addr() - record.addr()) / size_of::<AtomicPtr<()>>();
        // SAFETY: records are aligned to more than their slots take, which come first, so rounding down gives the
        // record; records are never freed.
        (unsafe { &*record }, number as u32)
    }

    /// Writes `own`, and gives the record back if neither a pin nor a guard nor its thread needs it any more (H3).
    #[inline]
    pub(super) fn settle(&self, own: u64) {
        self.own.set(own);
        if own == 0 {
            self.leave();
        }
    }

    #[cold]
    fn leave(&self) {
        let _ = RECORD.try_with(|cell| {
            if ptr::eq(cell.get(), self) {
                cell.set(ptr::null());
            }
        });
        self.claimed.store(false, ord::LEAVE());
    }
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
