//! What a region has done: counters in stripes, one for a few threads each.
#![forbid(unsafe_code)]

use crate::gate::Moment;
use crate::sync::{Ordering, Tally, thread_local_plain};
use crossbeam_utils::CachePadded;
use std::cell::Cell;
use std::time::Duration;

/// What a region has done since it was configured. All counters only rise.
///
/// ```
/// let region = dogpile::Region::in_memory();
/// region.get::<i32>("key")?;
/// region.get_or_create("key", || 1)?;
/// region.get::<i32>("key")?;
/// let stats = region.stats();
/// assert_eq!((stats.hits, stats.misses, stats.creations), (1, 2, 1));
/// # Ok::<(), dogpile::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionStats {
    /// Reads that found a fresh value.
    pub hits: u64,
    /// Reads that found none.
    pub misses: u64,
    /// Callers that got a stale value, because another made a newer one, or because that had failed.
    pub stale_served: u64,
    /// Values that were there, and of another type than was asked for.
    pub type_mismatch: u64,
    /// Bytes that could not be decoded: broken, of another version, of another schema.
    pub undecodable: u64,
    /// Operations in which the backend failed.
    pub backend_errors: u64,
    /// Values that could not be turned into bytes, and went to their callers only.
    pub not_encoded: u64,
    /// Values that were not stored, because the key was written, deleted or invalidated while they were made.
    pub refused_late_writes: u64,
    /// Creations that were begun.
    pub leads: u64,
    /// Callers that waited for another's creation.
    pub waits: u64,
    /// Waits that ended because they had lasted too long.
    pub timed_out: u64,
    /// Creators that returned a value.
    pub creations: u64,
    /// How long those took, together.
    pub creation_time: Duration,
    /// Creators that returned an error, panicked, or were dropped before they ended.
    pub failures: u64,
    /// Creations that a waiter took over.
    pub hand_overs: u64,
}

/// One counter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    Hit,
    Miss,
    StaleServed,
    TypeMismatch,
    Undecodable,
    BackendError,
    NotEncoded,
    RefusedLateWrite,
    Lead,
    Wait,
    TimedOut,
    Creation,
    CreationNanos,
    Failure,
    HandOver,
}

const KINDS: usize = Count::HandOver as usize + 1;
/// A power of two.
const STRIPES: usize = 16;

pub(crate) struct Counts {
    stripes: [CachePadded<[Tally; KINDS]>; STRIPES],
}

static THREADS: Tally = Tally::new(0);

thread_local_plain! { static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) } }

fn stripe() -> usize {
    let own = STRIPE.try_with(|stripe| {
        if stripe.get() == usize::MAX {
            stripe.set(THREADS.fetch_add(1, Ordering::Relaxed) as usize & (STRIPES - 1));
        }
        stripe.get()
    });
    own.unwrap_or(0)
}

impl Counts {
    pub(crate) fn new() -> Self {
        Self { stripes: std::array::from_fn(|_| CachePadded::new(std::array::from_fn(|_| Tally::new(0)))) }
    }

    #[inline]
    pub(crate) fn count(&self, count: Count) {
        self.add(count, 1);
    }

    #[inline]
    pub(crate) fn add(&self, count: Count, n: u64) {
        // Relaxed: a sum needs no moment.
        self.stripes[stripe()][count as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// What the gate tells. Creations are counted where the creator is known to have run.
    pub(crate) fn note(&self, moment: Moment) {
        self.count(match moment {
            Moment::Lead => Count::Lead,
            Moment::Wait => Count::Wait,
            Moment::TimedOut => Count::TimedOut,
            Moment::Created(_) => return,
            Moment::Failed => Count::Failure,
            Moment::StaleServed => Count::StaleServed,
            Moment::HandedOver => Count::HandOver,
        });
    }

    pub(crate) fn read(&self) -> RegionStats {
        let sum = |count: Count| -> u64 {
            self.stripes.iter().map(|stripe| stripe[count as usize].load(Ordering::Relaxed)).sum()
        };
        RegionStats {
            hits: sum(Count::Hit),
            misses: sum(Count::Miss),
            stale_served: sum(Count::StaleServed),
            type_mismatch: sum(Count::TypeMismatch),
            undecodable: sum(Count::Undecodable),
            backend_errors: sum(Count::BackendError),
            not_encoded: sum(Count::NotEncoded),
            refused_late_writes: sum(Count::RefusedLateWrite),
            leads: sum(Count::Lead),
            waits: sum(Count::Wait),
            timed_out: sum(Count::TimedOut),
            creations: sum(Count::Creation),
            creation_time: Duration::from_nanos(sum(Count::CreationNanos)),
            failures: sum(Count::Failure),
            hand_overs: sum(Count::HandOver),
        }
    }
}
