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
//! - **A3, one word.** Nested pins share the outermost's word; they may go in any order.
//!
//! # Orderings
//! | name      | where                       | pairs with | carries                                                 |
//! |-----------|-----------------------------|------------|---------------------------------------------------------|
//! | `PIN`     | store of an epoch           | `LOOK`     | the reads under the thread's former pin, which it hides |
//! | `UNPIN`   | store of 0                  | `LOOK`     | the reads under the pin: they happen before what they saw is freed |
//! | `LOOK`    | a collector's load of a pin | `PIN`, `UNPIN` | the same                                            |
//! | `ADVANCE` | CAS of the epoch            | `ASK`      | what the collector's looks brought                      |
//! | `ASK`     | `is_over`                   | `ADVANCE`  | the same                                                |
//! | `BEGIN`   | fence before a grace period reads the epoch | `barrier` | the unlink: who sees a later epoch sees it (A2) |
//!
//! # Cost
//! A pin and its end: see `ARCHITECTURE.md`. A grace period: a fence at its begin, two advances for all that began.
//! An advance: a heavy barrier, a load for each record, one compare-exchange.
//!
//! # Source
//! K. Fraser, *Practical lock-freedom*, 2004, section 5.2.3; our departures: garbage is not the threads' (`limbo`), the
//! asymmetric barrier, and a grace period of two epochs after the fence that begins it.

use super::record::{PATIENCE, PIN, Record, records};
use super::{Reclaim, barrier};
use crate::sync::{AtomicU64, Ordering, fence, orderings, plain};
use std::marker::PhantomData;

orderings! {
    asymmetric: PIN = Release, UNPIN = Release, LOOK = Acquire, ADVANCE = SeqCst, ASK = Acquire, BEGIN = SeqCst
}

/// The epochs begin at 1: 0 is no pin.
const FIRST: u64 = 1;
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
        let own = self.0.own.get() - PIN;
        if own < PIN {
            self.0.state.store(0, ord::UNPIN());
        }
        self.0.settle(own);
    }
}

impl Reclaim for Asymmetric {
    type Pin = Pin;
    type Grace = u64;

    #[inline]
    fn pin() -> Pin {
        let record = Record::current();
        let own = record.own.get();
        if own < PIN {
            // Acquire, with `ADVANCE`, for processors that let loads overtake each other: what is found under the pin is
            // looked for after the epoch was read. Models don't see it, for they always fence.
            record.state.store(epoch().load(Ordering::Acquire), ord::PIN());
            barrier::light();
        } else if own > u64::MAX / 2 {
            forgotten();
        }
        record.own.set(own + PIN);
        Pin(record, PhantomData)
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
        epoch().load(ord::ASK()) >= grace + 2
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
        barrier::register();
    }

    fn forked() {
        // Nobody else is at it.
        ADVANCING.store(false, Ordering::Relaxed);
    }

    fn note(pin: &Pin, retired: usize) {
        pin.0.retired.set(pin.0.retired.get() + retired);
    }

    fn help(urgent: bool) -> bool {
        let Some(record) = Record::existing() else { return urgent && advance() };
        let (retired, patience) = (record.retired.get(), record.patience.get());
        if !urgent && retired < patience {
            return false;
        }
        let advanced = advance();
        record.retired.set(0);
        record.patience.set(if advanced { PATIENCE } else { (2 * patience).min(MOST) });
        advanced
    }
}

/// Tries to move the epoch on. False: somebody is pinned in an earlier one, or somebody else is at it.
fn advance() -> bool {
    // Acquire and Release, with each other: `barrier` wants one at a time.
    if !cfg!(dogpile_loom) && ADVANCING.swap(true, Ordering::Acquire) {
        return false;
    }
    let now = epoch().load(Ordering::Relaxed);
    let is_here =
        |record: &Record| matches!(record.state.load(ord::LOOK()), state if state == 0 || state == now);
    // The epoch was read before the barrier, and records are looked at after it (A1).
    let advanced = barrier::heavy()
        && records().all(is_here)
        && epoch().compare_exchange(now, now + 1, ord::ADVANCE(), Ordering::Relaxed).is_ok();
    if !cfg!(dogpile_loom) {
        ADVANCING.store(false, Ordering::Release);
    }
    advanced
}

#[cold]
fn forgotten() -> ! {
    // As the counts of `Arc`: going on would free what a pin protects.
    std::process::abort()
}
