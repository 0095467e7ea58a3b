//! A pair of barriers: a light one for pins, which are many, and a heavy one for collectors, who are few.
//!
//! `fences --(the kernel takes our registration)--> compiler fences + membarrier --(membarrier fails)--> fences`
//!
//! Of a light and a heavy barrier one comes first, and what was done before the first is seen after the second, as by two
//! sequentially consistent fences. While membarrier works, the light one only keeps the compiler from reordering: the heavy
//! one makes every thread of the process execute a fence, wherever it is.
//!
//! # Invariants
//! - **B1, refused is not done.** A heavy barrier that fails says so, and nothing is concluded from it.
//! - **B2, in between.** Light barriers are fences from the failure on; but a pin that looked at the flag before may
//!   still sit in its processor's store buffer, and no fence of ours drains that. So heavy barriers go on failing until
//!   each record has been seen unpinned once, a second or more after the failure: no store stays in a buffer for so long.
//!
//! # Orderings
//! | name    | where           | pairs with | carries                                                 |
//! |---------|-----------------|------------|---------------------------------------------------------|
//! | `LIGHT` | after a pin     | `HEAVY`    | the pin: who comes second sees what the first did       |
//! | `HEAVY` | before a look at all pins | `LIGHT` | the same                                           |
//!
//! # Cost
//! Light: a load that all threads share, a branch. Heavy: a system call of 0.3 to 3 µs.
//!
//! # Source
//! membarrier(2), by M. Desnoyers, Linux 4.14; asymmetric fences as in P1202R5 and in Folly. Models and Miri always fence.

use super::record::records;
use crate::sync::{Ordering, compiler_fence, fence, orderings};
use crate::time::{Clock, CoarseClock, Instant};
use std::time::Duration;

orderings! { barrier: LIGHT = SeqCst, HEAVY = SeqCst }

/// Where there is something better than two fences.
const IS_ASYMMETRIC: bool = cfg!(all(target_os = "linux", not(any(dogpile_loom, miri))));
/// No store stays in a processor's buffer for so long. Tests don't wait for time to pass.
const DRAINED: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(1) };

mod flag {
    use crate::sync::plain::{AtomicBool, AtomicU64};

    /// Whether light barriers are fences. Relaxed: B2.
    pub(super) static FENCING: AtomicBool = AtomicBool::new(true);
    /// When membarrier failed, in nanoseconds; 0: there is nothing to wait for. Relaxed: of the one collector.
    pub(super) static FAILED: AtomicU64 = AtomicU64::new(0);
    /// Tests raise it: membarrier is refused.
    #[cfg(test)]
    pub(super) static REFUSED: AtomicBool = AtomicBool::new(false);
}

/// What a pin ends with.
#[inline(always)]
pub(super) fn light() {
    if IS_ASYMMETRIC && !flag::FENCING.load(Ordering::Relaxed) {
        compiler_fence(Ordering::SeqCst);
    } else {
        full();
    }
}

#[cold]
#[inline(never)]
fn full() {
    fence(ord::LIGHT());
}

/// What a look at all pins begins with. False: it did not happen, and the look tells nothing (B1).
///
/// One collector at a time.
pub(super) fn heavy() -> bool {
    if IS_ASYMMETRIC && !flag::FENCING.load(Ordering::Relaxed) {
        return membarrier::expedite() || {
            distrust();
            false
        };
    }
    fence(ord::HEAVY());
    !IS_ASYMMETRIC || flag::FAILED.load(Ordering::Relaxed) == 0 || is_over_with()
}

/// Lets light barriers be light, where the kernel agrees.
pub(super) fn register() {
    if IS_ASYMMETRIC && membarrier::register() {
        flag::FENCING.store(false, Ordering::Relaxed);
    }
}

/// From now on pins fence; those that don't are still about (B2).
#[cold]
fn distrust() {
    flag::FENCING.store(true, Ordering::Relaxed);
    flag::FAILED.store(CoarseClock.now().as_nanos().max(1), Ordering::Relaxed);
    records().for_each(|record| record.suspect.store(true, Ordering::Relaxed));
}

/// Whether all pins that did not fence have gone (B2).
#[cold]
fn is_over_with() -> bool {
    let failed = Instant::from_nanos(flag::FAILED.load(Ordering::Relaxed));
    if CoarseClock.now() < failed.saturating_add(DRAINED) {
        return false;
    }
    let mut over = true;
    for record in records().filter(|record| record.suspect.load(Ordering::Relaxed)) {
        // Acquire, as every look at a pin: `asymmetric`.
        if record.state.load(Ordering::Acquire) == 0 {
            record.suspect.store(false, Ordering::Relaxed);
        } else {
            over = false;
        }
    }
    if over {
        flag::FAILED.store(0, Ordering::Relaxed);
    }
    over
}

#[cfg(target_os = "linux")]
mod membarrier {
    use rustix::thread::{MembarrierCommand, membarrier, membarrier_query};

    pub(super) fn register() -> bool {
        membarrier_query().contains_command(MembarrierCommand::PrivateExpedited)
            && membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
            && expedite()
    }

    pub(super) fn expedite() -> bool {
        #[cfg(test)]
        if super::flag::REFUSED.load(crate::sync::Ordering::Relaxed) {
            return false;
        }
        membarrier(MembarrierCommand::PrivateExpedited).is_ok()
    }
}

#[cfg(not(target_os = "linux"))]
mod membarrier {
    pub(super) fn register() -> bool {
        false
    }
    pub(super) fn expedite() -> bool {
        false
    }
}
