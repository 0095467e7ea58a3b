//! What all executions did together: a run in which something never happened shows nothing of it.

use dogpile::Stats;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number of events.
#[derive(Debug, Default)]
pub(crate) struct Total(AtomicU64);

impl Total {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! totals {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// One number for each thing that should happen.
        #[derive(Debug)]
        pub(crate) struct Totals { $($(#[$doc])* pub(crate) $name: Total),+ }

        /// Of this process.
        pub(crate) static TOTALS: Totals = Totals { $($name: Total::new()),+ };

        impl Totals {
            fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get())),+]
            }
        }
    };
}

totals! {
    leads, waits, timed_out, creations, failures, stale_served, hand_overs, refused_late_writes, evicted,
    /// Calls of tasks that were dropped on the way.
    dropped,
    /// Waiters of a leader that panicked, as its heir did.
    panicked,
    /// Leaders that would have waited for themselves.
    circles,
}

impl Totals {
    /// Adds what one cache has done.
    pub(crate) fn read(&self, stats: &Stats) {
        self.leads.add(stats.leads);
        self.waits.add(stats.waits);
        self.timed_out.add(stats.timed_out);
        self.creations.add(stats.creations);
        self.failures.add(stats.failures);
        self.stale_served.add(stats.stale_served);
        self.hand_overs.add(stats.hand_overs);
        self.refused_late_writes.add(stats.refused_late_writes);
    }

    /// What never happened.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        self.all().into_iter().filter(|(_, n)| *n == 0).map(|(name, _)| name).collect()
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, n)) in self.all().into_iter().enumerate() {
            write!(f, "{}{} {n}", if i == 0 { "" } else { ", " }, name.replace('_', " "))?;
        }
        Ok(())
    }
}
