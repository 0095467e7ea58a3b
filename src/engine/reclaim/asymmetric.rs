//! The default backend: grace periods by epochs, whose pins cost two stores.
//!
//! `0 --(pin: the epoch of now, a light barrier)--> e --(unpin)--> 0`
//!
//! A collector that finds every pinned record in the epoch of now moves the epoch on. A grace period that began in epoch
//! g is over in g + 2. Only collectors look at others; readers never collect, never wait, and execute neither a
//! read-modify-write nor, where membarrier works, a fence.
//!
//! # Invariants
//! - **A1, seen or sees.** Of a pin and an advance that reads the epoch, then executes its heavy barrier, one comes first:
//!   either the advance sees the pin, or the pin's searches see all that was done before the advance read the epoch.
//! - **A2, no pin from before.** A reader that finds what was unlinked before a grace period began in g is pinned in an
//!   epoch of g at most: had it read g + 1, it would have seen the unlink. So the advance from g + 1 to g + 2 waits for
//!   it, or the reader's pin came after that advance's barrier; but then it would have seen the unlink, too, which comes
//!   before g was read, and so before g + 1 was. A pin may note an epoch of long ago; that only delays.
//! - **A3, one word.** Nested pins share the outermost's word; they may go in any order. A brief pin has a word of its own:
//!   it neither shares nor nests. An advance asks both.
//!
//! # Orderings
//! | name      | where                       | pairs with | carries                                                 |
//! |-----------|-----------------------------|------------|---------------------------------------------------------|
//! | `PIN`     | store of an epoch           | `LOOK`     | the reads under the thread's former pin, which it hides |
//! | `UNPIN`   | store of 0                  | `LOOK`, `EMPTY` of `record` | the reads under the pin: they happen before what they saw is freed |
//! | `LOOK`    | a collector's load of a pin | `PIN`, `UNPIN` | the same                                            |
//! | `ADVANCE` | CAS of the epoch            | `ASK`      | what the collector's looks brought                      |
//! | `ASK`     | `is_over`                   | `ADVANCE`  | the same                                                |
//! | `EPOCH`   | load of the epoch by a pin  | `ADVANCE`  | nothing: what is found under the pin is looked for after it |
//! | `TURN`    | swap of the try-flag        | `NEXT`     | what the last who advanced noted: that it was refused a barrier (B2) |
//! | `NEXT`    | store of the try-flag       | `TURN`     | the same                                                |
//! | `BEGIN`   | fence before a grace period reads the epoch | `barrier` | the unlink: who sees a later epoch sees it (A2) |
//!
//! # Cost
//! A pin and its end: see `ARCHITECTURE.md`. A grace period: a fence at its begin, two advances for all that began.
//! An advance: a heavy barrier, two loads for each record, one compare-exchange.
//!
//! # Source
//! K. Fraser, *Practical lock-freedom*, 2004, section 5.2.3; our departures: garbage is not the threads' (`limbo`), the
//! asymmetric barrier, and a grace period of two epochs after the fence that begins it.

use super::barrier::{self, Heavy};
use super::record::{PATIENCE, Record, records};
use super::{Pinned, Reclaim};
use crate::sync::{AtomicPtr, AtomicU64, Ordering, fence, orderings, plain};
use std::marker::PhantomData;

orderings! {
    asymmetric: PIN = Release, UNPIN = Release, LOOK = Acquire, ADVANCE = SeqCst, ASK = Acquire, BEGIN = SeqCst,
    EPOCH = Acquire, TURN = Acquire, NEXT = Release
}

/// Epochs are counted in steps of this.
const STEP: u64 = 2;
/// Below that: pins fence. Where the barrier's heavy side fails, this bit is raised for good.
const FENCING: u64 = 1;
/// 0 is no pin.
const FIRST: u64 = STEP + FENCING;
/// After failures a thread retires up to so much before it tries again.
const MOST: usize = 1 << 14;
/// How often one who wants a grace period over tries, with a look at each record every time.
const TRIES: usize = if cfg!(dogpile_loom) { 2 } else { 16 };

#[cfg(not(dogpile_loom))]
fn epoch() -> &'static AtomicU64 {
    static EPOCH: AtomicU64 = AtomicU64::new(FIRST);
    &EPOCH
}

#[cfg(dogpile_loom)]
fn epoch() -> &'static AtomicU64 {
    loom::lazy_static! { static ref EPOCH: AtomicU64 = AtomicU64::new(FIRST); }
    // SAFETY: loom keeps its lazy statics until the execution ends, and nothing of an execution outlives it.
    unsafe { &*std::ptr::from_ref(&*EPOCH) }
}

/// Somebody is trying to advance. Models do without, so that they see several at once.
static ADVANCING: plain::AtomicBool = plain::AtomicBool::new(false);

/// Grace periods by epochs.
#[derive(Debug)]
pub(crate) struct Asymmetric;

/// One pin of one thread. It knows its record, so that its end needs no thread-local (H3).
pub(crate) struct Pin(&'static Record, PhantomData<*mut ()>);

impl Drop for Pin {
    #[inline]
    fn drop(&mut self) {
        self.0.unpin(|record| record.state.store(0, ord::UNPIN()));
    }
}

/// The word of one thread that is pinned until the end of a call.
pub(crate) struct Brief(&'static Record, PhantomData<*mut ()>);

impl Pinned for Pin {}
impl Pinned for Brief {}

impl Drop for Brief {
    #[inline]
    fn drop(&mut self) {
        self.0.brief.store(0, ord::UNPIN());
    }
}

impl Reclaim for Asymmetric {
    type Pin = Pin;
    type Brief = Brief;
    type Grace = u64;

    #[inline]
    fn pin() -> Pin {
        let announce = |record: &Record| {
            let now = epoch().load(ord::EPOCH());
            record.state.store(now, ord::PIN());
            barrier::light(now & FENCING != 0);
        };
        Pin(Record::pin(announce), PhantomData)
    }

    #[inline(always)]
    fn pin_briefly() -> Option<Brief> {
        let record = Record::at_hand()?;
        let now = epoch().load(ord::EPOCH());
        if barrier::is_asymmetric() && now & FENCING != 0 {
            return None;
        }
        record.brief.store(now, ord::PIN());
        barrier::light(now & FENCING != 0);
        Some(Brief(record, PhantomData))
    }

    #[inline(always)]
    fn near_slot(brief: &Brief) -> Option<&'static AtomicPtr<()>> {
        brief.0.near_slot()
    }

    #[inline]
    fn record(pin: &Pin) -> &'static Record {
        pin.0
    }

    fn begin(_: &Pin) -> u64 {
        fence(ord::BEGIN());
        // Relaxed: the fence orders it (A2).
        epoch().load(Ordering::Relaxed)
    }

    #[inline]
    fn is_over(grace: &u64) -> bool {
        epoch().load(ord::ASK()) >= (grace & !FENCING) + 2 * STEP
    }

    fn settle(grace: &u64) {
        for _ in 0..TRIES {
            if Self::is_over(grace) {
                return;
            }
            advance();
        }
    }

    fn first() {
        if barrier::register() {
            // Relaxed: fences do no harm where they are not needed.
            epoch().fetch_and(!FENCING, Ordering::Relaxed);
        }
    }

    #[cfg(all(unix, not(any(dogpile_loom, dogpile_shuttle, miri))))]
    fn forked() {
        // Nobody else is at it.
        ADVANCING.store(false, Ordering::Relaxed);
    }

    fn note(pin: &Pin, retired: usize) {
        pin.0.retired.set(pin.0.retired.get() + retired);
    }

    fn help(urgent: bool) -> bool {
        let Some(record) = Record::existing() else { return urgent && advance() != Advance::Hindered };
        let (retired, patience) = (record.retired.get(), record.patience.get());
        if !urgent && retired < patience {
            return false;
        }
        let came = advance();
        record.retired.set(0);
        record.patience.set(match came {
            Advance::Done => PATIENCE,
            // It says nothing about who is pinned.
            Advance::SomebodyElse => patience,
            Advance::Hindered => (2 * patience).min(MOST),
        });
        came != Advance::Hindered
    }
}

/// What came of trying to move the epoch on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Advance {
    Done,
    /// Somebody else is at it.
    SomebodyElse,
    /// Somebody is pinned in an earlier epoch, or there was no barrier.
    Hindered,
}

fn advance() -> Advance {
    // One at a time may ask for a heavy barrier.
    if !cfg!(dogpile_loom) && ADVANCING.swap(true, ord::TURN()) {
        return Advance::SomebodyElse;
    }
    // The epoch is read before the barrier, and records are looked at after it (A1).
    let now = epoch().load(Ordering::Relaxed);
    let is_here = |record: &Record| {
        [&record.state, &record.brief].iter().all(|word| {
            let epoch = word.load(ord::LOOK());
            epoch == 0 || epoch | FENCING == now | FENCING
        })
    };
    let advanced = match barrier::heavy(now & FENCING != 0) {
        Heavy::Done => {
            records().all(is_here)
                && epoch().compare_exchange(now, now + STEP, ord::ADVANCE(), Ordering::Relaxed).is_ok()
        }
        Heavy::Refused => {
            epoch().fetch_or(FENCING, Ordering::Relaxed);
            barrier::distrust();
            false
        }
        Heavy::NotYet => false,
    };
    if !cfg!(dogpile_loom) {
        ADVANCING.store(false, ord::NEXT());
    }
    if advanced { Advance::Done } else { Advance::Hindered }
}

#[cfg(all(test, not(any(dogpile_loom, dogpile_epoch))))]
mod tests {
    use super::*;

    /// Who finds another collector at work has learnt nothing about readers, and asks again as soon as before.
    #[test]
    fn another_collector_costs_no_patience() {
        let record = Record::current();
        let backoff = crate::sync::Backoff::new();
        while ADVANCING.swap(true, ord::TURN()) {
            backoff.snooze();
        }
        let patience = record.patience.get();
        record.retired.set(patience);
        let helped = Asymmetric::help(false);
        ADVANCING.store(false, ord::NEXT());
        assert!(helped, "somebody else may have helped");
        assert_eq!(record.patience.get(), patience);
    }
}
