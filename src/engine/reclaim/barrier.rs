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
//! - **B2, in between.** Light barriers are fences from the failure on; but a pin that read the epoch before may still
//!   sit in its processor's store buffer, and no fence of ours drains that. So heavy barriers go on failing until each
//!   record has been seen unpinned once, a second or more after the failure: no store stays in a buffer for so long.
//!
//! # Orderings
//! | name    | where           | pairs with | carries                                                 |
//! |---------|-----------------|------------|---------------------------------------------------------|
//! | `LIGHT` | after a pin     | `HEAVY`    | the pin: who comes second sees what the first did       |
//! | `LOOK`  | a look at a pin of before | `PIN`, `UNPIN` of `asymmetric` | the reads under it          |
//! | `HEAVY` | before a look at all pins | `LIGHT` | the same                                           |
//!
//! # Cost
//! Light: a test of a bit, a branch. Heavy: a system call of 0.3 to 3 µs.
//!
//! # Source
//! membarrier(2), by M. Desnoyers, Linux 4.14; asymmetric fences as in P1202R5 and in Folly. Models and Miri always fence.

use super::record::records;
use crate::sync::{Ordering, compiler_fence, fence, orderings, plain};
use crate::time::{Clock, CoarseClock, Instant};
use std::time::Duration;

orderings! { barrier: LIGHT = SeqCst, HEAVY = SeqCst, LOOK = Acquire }

/// Where there is something better than two fences, and a store that one processor sees is seen by all: A2 (`asymmetric`)
/// leans on that where pins don't fence.
const IS_ASYMMETRIC: bool = cfg!(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64", target_arch = "riscv64"),
    not(any(dogpile_loom, miri))
));
/// No store stays in a processor's buffer for so long. Tests don't wait for time to pass.
const DRAINED: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(1) };

/// When membarrier failed, in nanoseconds; 0: there is nothing to wait for. Relaxed: of one collector at a time.
static FAILED: plain::AtomicU64 = plain::AtomicU64::new(0);

/// Tests raise it: membarrier is refused.
#[cfg(test)]
static REFUSED: plain::AtomicBool = plain::AtomicBool::new(false);

/// Whether pins that don't fence are possible at all here.
#[inline(always)]
pub(super) const fn is_asymmetric() -> bool {
    IS_ASYMMETRIC
}

/// What a pin ends with. `fencing`: what it read where its epoch is.
#[inline(always)]
pub(super) fn light(fencing: bool) {
    if IS_ASYMMETRIC && !fencing {
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

/// What came of a heavy barrier.
pub(super) enum Heavy {
    Done,
    /// From now on pins must fence, and this one tells nothing (B1).
    Refused,
    /// Pins fence, but some that don't may still be about (B2).
    NotYet,
}

/// What a look at all pins begins with. One collector at a time.
pub(super) fn heavy(fencing: bool) -> Heavy {
    if IS_ASYMMETRIC && !fencing {
        return if membarrier::expedite() { Heavy::Done } else { Heavy::Refused };
    }
    fence(ord::HEAVY());
    let failed = FAILED.load(Ordering::Relaxed);
    if !IS_ASYMMETRIC || failed == 0 || is_over_with(Instant::from_nanos(failed)) {
        Heavy::Done
    } else {
        Heavy::NotYet
    }
}

/// Whether light barriers may be light: the kernel agrees.
pub(super) fn register() -> bool {
    IS_ASYMMETRIC && membarrier::register()
}

/// Those who pinned themselves without a fence are still about (B2).
#[cold]
pub(super) fn distrust() {
    FAILED.store(CoarseClock.now().as_nanos().max(1), Ordering::Relaxed);
    records().for_each(|record| record.suspect.store(true, Ordering::Relaxed));
}

/// Whether all pins that did not fence have gone (B2).
#[cold]
fn is_over_with(failed: Instant) -> bool {
    if CoarseClock.now() < failed.saturating_add(DRAINED) {
        return false;
    }
    let mut over = true;
    for record in records().filter(|record| record.suspect.load(Ordering::Relaxed)) {
        if record.state.load(ord::LOOK()) == 0 && record.brief.load(ord::LOOK()) == 0 {
            record.suspect.store(false, Ordering::Relaxed);
        } else {
            over = false;
        }
    }
    if over {
        FAILED.store(0, Ordering::Relaxed);
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
        if super::REFUSED.load(super::Ordering::Relaxed) {
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

#[cfg(all(test, target_os = "linux", not(any(dogpile_loom, dogpile_epoch, miri))))]
mod tests {
    use super::*;
    use crate::engine::reclaim::{Backend, Reclaim};
    use crate::time::PreciseClock;

    /// C6: a barrier that is refused after it worked advances nothing until everybody who pinned himself without a fence
    /// has been seen unpinned. Then grace periods end as before, by fences.
    #[test]
    fn c6_a_refused_barrier_frees_nothing() {
        let is_fencing = |epoch: u64| epoch & 1 == 1;
        let pin = Backend::pin();
        let first = Backend::begin(&pin);
        if is_fencing(first) {
            eprintln!("membarrier does not work here: nothing to refuse");
            return;
        }
        REFUSED.store(true, Ordering::Relaxed);
        let give_up = PreciseClock.now().saturating_add(Duration::from_secs(60));
        // Other tests of this process may be at it for a moment.
        while !is_fencing(Backend::begin(&pin)) {
            Backend::settle(&first);
            assert!(PreciseClock.now() < give_up, "a refusal is noticed");
        }
        let refused = Backend::begin(&pin);
        (0..1000).for_each(|_| Backend::settle(&refused));
        assert_eq!(Backend::begin(&pin), refused, "nothing moves while a pin without a fence is about");
        drop(pin);
        while !Backend::is_over(&refused) {
            Backend::settle(&refused);
            assert!(PreciseClock.now() < give_up, "when it has gone, grace periods end");
        }
        assert!(is_fencing(Backend::begin(&Backend::pin())), "and pins fence for good");
    }
}
