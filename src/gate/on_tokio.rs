//! [`Tokio`]: creations and timers on a tokio runtime.
#![forbid(unsafe_code)]

use super::runner::{AsyncJob, Job, Runner};
use super::timer::{Sleep, Timer};
use std::time::Duration;
use tokio::runtime::Handle;

/// Creations in the background, and the limits of waits, on a tokio runtime. Needs the feature `tokio`.
///
/// Blocking creators run where tokio has its blocking work (`spawn_blocking`), futures as tasks. When the runtime has been
/// shut down creations are given up: the next caller tries again. Timers need a runtime with its time driver enabled.
///
/// ```
/// use dogpile::{Cache, Policy, gate::Tokio};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let policy = Policy::builder()
///     .fresh(Duration::from_secs(5))
///     .stale(Duration::from_secs(60))
///     .wait(Duration::from_secs(1))
///     .runner(Tokio::current())
///     .timer(Tokio::current())
///     .build()?;
/// let cache = Cache::builder().policy(policy).async_loader(|n: u64| async move { n + 1 }).build()?;
/// assert_eq!(*cache.load_async(&1).await?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tokio {
    runtime: Handle,
}

impl Tokio {
    /// On this runtime.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        Self { runtime }
    }

    /// On the runtime of the calling thread.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[must_use]
    pub fn current() -> Self {
        Self::new(Handle::current())
    }
}

impl Runner for Tokio {
    fn run(&self, job: Job) {
        drop(self.runtime.spawn_blocking(job));
    }

    fn run_async(&self, job: AsyncJob) {
        drop(self.runtime.spawn(job));
    }
}

impl Timer for Tokio {
    fn sleep(&self, span: Duration) -> Sleep {
        let _entered = self.runtime.enter();
        Box::pin(tokio::time::sleep(span))
    }
}
