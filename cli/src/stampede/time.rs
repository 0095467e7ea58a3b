//! How time passes in the simulation: really in the command, by hand in tests.

use std::{fmt::Debug, pin::Pin, time::Duration};

use dogpile::time::{Clock, Instant, PreciseClock};

/// What a task awaits.
pub(crate) type Passing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A clock, and the two ways to wait by it.
pub(crate) trait Time: Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> Instant;

    /// Holds up the thread for `span`.
    fn block(&self, span: Duration);

    /// Holds up the task for `span`.
    fn pass(&self, span: Duration) -> Passing;
}

/// The machine's own time. Tasks wait in steps of a millisecond, as tokio's timers do.
#[derive(Debug)]
pub(crate) struct RealTime;

impl Time for RealTime {
    fn now(&self) -> Instant {
        PreciseClock.now()
    }

    #[expect(clippy::disallowed_methods, reason = "the origin is simulated: its latency is real time")]
    fn block(&self, span: Duration) {
        std::thread::sleep(span);
    }

    fn pass(&self, span: Duration) -> Passing {
        if span.is_zero() {
            return Box::pin(tokio::task::yield_now());
        }
        Box::pin(tokio::time::sleep(span))
    }
}

/// Time for tests: every look at the clock is one nanosecond later than the last, and waiting lasts until a condition
/// holds.
#[cfg(test)]
pub(crate) struct ByHand {
    nanos: std::sync::atomic::AtomicU64,
    until: std::sync::Arc<dyn Fn() -> bool + Send + Sync>,
}

#[cfg(test)]
impl ByHand {
    /// Time in which every wait ends when `until` says so.
    pub(crate) fn new(until: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { nanos: 0.into(), until: std::sync::Arc::new(until) }
    }
}

#[cfg(test)]
impl Debug for ByHand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByHand").field("nanos", &self.nanos).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Time for ByHand {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.nanos.fetch_add(1, std::sync::atomic::Ordering::SeqCst))
    }

    fn block(&self, _span: Duration) {
        while !(self.until)() {
            std::thread::yield_now();
        }
    }

    fn pass(&self, _span: Duration) -> Passing {
        let until = std::sync::Arc::clone(&self.until);
        Box::pin(async move {
            while !until() {
                tokio::task::yield_now().await;
            }
        })
    }
}
