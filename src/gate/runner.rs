//! What runs creations in the background.
#![forbid(unsafe_code)]

use super::blocking::block_on;
use crate::sync::{Arc, spawn};
use std::future::Future;
use std::pin::Pin;

/// A blocking creation.
pub type Job = Box<dyn FnOnce() + Send>;
/// A creation that is a future.
pub type AsyncJob = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs creations in the background: those of loaders, and of the `_detached` forms, while their callers go on with the
/// stale value.
///
/// A job that is dropped instead of run is given up: the next caller tries again. So a runner may refuse. A job keeps its
/// cache alive, and a cache its runner: jobs that are kept for ever keep all three.
///
/// ```
/// use dogpile::{Cache, Policy, gate::{Job, Runner}, time::ManualClock};
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
///
/// /// Keeps jobs until somebody has time.
/// #[derive(Clone, Default)]
/// struct Later(Arc<Mutex<Vec<Job>>>);
/// impl Runner for Later {
///     fn run(&self, job: Job) {
///         self.0.lock().unwrap().push(job);
///     }
/// }
///
/// let (later, clock) = (Later::default(), ManualClock::new());
/// let second = Duration::from_secs(1);
/// let policy = Policy::builder().fresh(second).stale(second).runner(later.clone()).build()?;
/// let cache = Cache::builder().policy(policy).clock(clock.clone()).build()?;
/// cache.get_or_create(&"key", || 1);
/// clock.advance(second);
/// assert_eq!(*cache.get_or_create_detached(&"key", || 2), 1, "stale; the job waits");
/// later.0.lock().unwrap().pop().unwrap()();
/// assert_eq!(*cache.get_or_create(&"key", || 3), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Runner: Send + Sync {
    /// Runs a blocking creation, on any thread. Should return at once.
    fn run(&self, job: Job);

    /// Polls a future to its end. By default as a blocking job: a thread that polls.
    fn run_async(&self, job: AsyncJob) {
        self.run(Box::new(|| block_on(|_| job)));
    }
}

impl<R: Runner + ?Sized> Runner for Arc<R> {
    fn run(&self, job: Job) {
        (**self).run(job);
    }
    fn run_async(&self, job: AsyncJob) {
        (**self).run_async(job);
    }
}

/// Each job on a thread of its own; the default. Where no thread is to be had the job is given up.
///
/// A creator that panics ends its thread, with the usual message.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnThread;

impl Runner for OwnThread {
    fn run(&self, job: Job) {
        spawn("dogpile creation", job);
    }
}
