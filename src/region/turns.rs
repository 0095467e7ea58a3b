//! How many creators of a region run at once.
//!
//! A creator that asks its region for another value must not wait for a turn that only it can free, so creators that run
//! within another of the same region take none. Within: on its stack, or polled as part of its future. And while a creator
//! waits for another's creation, which may be waiting for a turn, it *lends* its own: there is one turn more until it goes on,
//! and one is withdrawn when the next is given back. So for a moment one creator more may run than the limit says.
#![forbid(unsafe_code)]

use super::core::Face;
use crate::gate::block_on;
use crate::sync::{Arc, Ordering, Tally, thread_local_plain};
use async_lock::{Semaphore, SemaphoreGuardArc};
use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

thread_local_plain! { static RUNNING: RefCell<Vec<Arc<Bound>>> = const { RefCell::new(Vec::new()) } }

struct Bound {
    semaphore: Arc<Semaphore>,
    /// Turns that were lent out, whose lenders run again.
    debt: Tally,
}

#[derive(Clone)]
pub(crate) struct Turns {
    bound: Arc<Bound>,
}

/// The right to run a creator.
pub(crate) struct Turn {
    bound: Arc<Bound>,
    guard: Option<SemaphoreGuardArc>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Relaxed: a number of turns, nothing travels with it.
        let less = |debt: u64| debt.checked_sub(1);
        let is_owed = self.bound.debt.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok();
        if let Some(guard) = self.guard.take().filter(|_| is_owed) {
            guard.forget();
        }
    }
}

/// Turns that their creators do not need while they wait.
struct Lent(Vec<Arc<Bound>>);

impl Drop for Lent {
    fn drop(&mut self) {
        for bound in &self.0 {
            bound.debt.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// To be called by who is about to wait for another's creation: lends the turns of the creators that it is part of, until
/// what is returned is dropped.
pub(crate) fn lend() -> Option<Box<dyn Any + Send>> {
    let mut bounds = RUNNING.try_with(|running| running.borrow().clone()).unwrap_or_default();
    if bounds.is_empty() {
        return None;
    }
    bounds.sort_by_key(|bound| Arc::as_ptr(bound).addr());
    bounds.dedup_by(|a, b| Arc::ptr_eq(a, b));
    for bound in &bounds {
        bound.semaphore.add_permits(1);
    }
    Some(Box::new(Lent(bounds)))
}

impl Turns {
    pub(crate) fn new(most: usize) -> Self {
        let semaphore = Arc::new(Semaphore::new(most));
        Self { bound: Arc::new(Bound { semaphore, debt: Tally::new(0) }) }
    }

    /// Waits for a turn. `None`: the caller is within a creator that has one.
    pub(crate) async fn take(&self, face: Face) -> Option<Turn> {
        let is_own = |other: &Arc<Bound>| Arc::ptr_eq(other, &self.bound);
        if RUNNING.try_with(|running| running.borrow().iter().any(is_own)).unwrap_or(true) {
            return None;
        }
        let semaphore = Arc::clone(&self.bound.semaphore);
        let lent = lend();
        let guard = match face {
            Face::Threads => block_on(|_| semaphore.acquire_arc()),
            Face::Tasks => semaphore.acquire_arc().await,
        };
        drop(lent);
        Some(Turn { bound: Arc::clone(&self.bound), guard: Some(guard) })
    }

    /// The creation, known to be one of this region's while it runs.
    pub(crate) fn within<F>(&self, creation: F) -> Within<F> {
        Within { bound: Arc::clone(&self.bound), creation: Box::pin(creation) }
    }
}

/// A creation, each of whose polls is known to be one.
pub(crate) struct Within<F> {
    bound: Arc<Bound>,
    creation: Pin<Box<F>>,
}

struct Frame;

impl Frame {
    fn new(bound: &Arc<Bound>) -> Self {
        let _ = RUNNING.try_with(|running| running.borrow_mut().push(Arc::clone(bound)));
        Self
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let _ = RUNNING.try_with(|running| running.borrow_mut().pop());
    }
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _frame = Frame::new(&self.bound);
        self.creation.as_mut().poll(cx)
    }
}
