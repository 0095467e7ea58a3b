//! The second backend, with `--cfg dogpile_epoch`: crossbeam-epoch tells when a grace period is over, and nothing more.
//!
//! Each grace period is a flag that a deferred function raises. crossbeam runs deferred functions on whichever thread
//! happens to collect, readers too; here that is one store, while the destructors stay in our limbo lists. The
//! collector is our own: pins of other users of crossbeam-epoch in the process don't hold our garbage back, and our
//! readers don't run their destructors.
//!
//! # Orderings
//! | name    | where                            | pairs with | carries                                            |
//! |---------|----------------------------------|------------|----------------------------------------------------|
//! | `OVER`  | the deferred store of the flag   | `ASK`      | all that was done under the pins (crossbeam's word) |
//! | `ASK`   | `is_over`                        | `OVER`     | the same                                           |
//!
//! # Cost
//! A pin: one sequentially consistent fence (on x86-64 one locked instruction), about 11 ns here.

use super::{Pinned, Reclaim};
use crate::sync::{Arc, AtomicBool, orderings};
#[cfg(not(dogpile_loom))]
use crate::sync::{LazyLock, thread_local_plain};
use crossbeam_epoch::{Collector, Guard, LocalHandle};
use std::convert::Infallible;

orderings! { epoch: OVER = Release, ASK = Acquire }

/// Caches that are gone may have left thousands of flags to be raised behind, and each step raises a few. Where a reader is
/// in the way, so many steps take less than a millisecond.
const TRIES: usize = if cfg!(dogpile_loom) { 4 } else { 4000 };

/// Grace periods by crossbeam-epoch.
#[derive(Debug)]
pub(crate) struct Epoch;

#[cfg(not(dogpile_loom))]
static COLLECTOR: LazyLock<Collector> = LazyLock::new(Collector::new);

#[cfg(not(dogpile_loom))]
thread_local_plain! {
    static LOCAL: LocalHandle = COLLECTOR.register();
}

// With `--cfg crossbeam_loom`.
#[cfg(dogpile_loom)]
loom::lazy_static! {
    static ref COLLECTOR: Collector = Collector::new();
}

#[cfg(dogpile_loom)]
loom::thread_local! {
    static LOCAL: LocalHandle = COLLECTOR.register();
}

impl Pinned for Guard {}
impl Pinned for Infallible {}

impl Reclaim for Epoch {
    type Pin = Guard;
    /// None: its pins fence anyway.
    type Brief = Infallible;
    type Grace = Arc<AtomicBool>;

    #[inline]
    fn pin() -> Guard {
        // While the thread's locals are being destroyed a registration for this one pin does it.
        LOCAL.try_with(LocalHandle::pin).unwrap_or_else(|_| COLLECTOR.register().pin())
    }

    fn begin(pin: &Guard) -> Self::Grace {
        let flag = Arc::new(AtomicBool::new(false));
        pin.defer({
            let flag = Arc::clone(&flag);
            move || flag.store(true, ord::OVER())
        });
        // Without this the function would wait for 61 others in the thread's own bag.
        pin.flush();
        flag
    }

    fn is_over(grace: &Self::Grace) -> bool {
        grace.load(ord::ASK())
    }

    fn settle(grace: &Self::Grace) {
        for _ in 0..TRIES {
            if Self::is_over(grace) {
                return;
            }
            Self::pin().flush();
        }
    }

    fn help(urgent: bool) -> bool {
        if urgent {
            Self::pin().flush();
        }
        urgent
    }
}
