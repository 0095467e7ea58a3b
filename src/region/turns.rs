//! How many creators of a region run at once.
//!
//! A creator that asks its region for another value must not wait for a turn that only it can free, so creators that run
//! within another of the same region take none. Within: on its stack, or polled as part of its future.
#![forbid(unsafe_code)]

use super::core::Face;
use crate::gate::block_on;
use crate::sync::{Arc, thread_local_plain};
use async_lock::{Semaphore, SemaphoreGuardArc};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

thread_local_plain! { static RUNNING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) } }

pub(crate) struct Turns {
    semaphore: Arc<Semaphore>,
}

impl Turns {
    pub(crate) fn new(most: usize) -> Self {
        Self { semaphore: Arc::new(Semaphore::new(most)) }
    }

    fn id(&self) -> usize {
        Arc::as_ptr(&self.semaphore).addr()
    }

    /// Waits for a turn. `None`: the caller is within a creator that has one.
    pub(crate) async fn take(&self, face: Face) -> Option<SemaphoreGuardArc> {
        if RUNNING.try_with(|running| running.borrow().contains(&self.id())).unwrap_or(true) {
            return None;
        }
        let semaphore = Arc::clone(&self.semaphore);
        Some(match face {
            Face::Threads => block_on(|_| semaphore.acquire_arc()),
            Face::Tasks => semaphore.acquire_arc().await,
        })
    }

    /// The creation, known to be one of this region's while it runs.
    pub(crate) fn within<F>(&self, creation: F) -> Within<F> {
        Within { id: self.id(), creation: Box::pin(creation) }
    }
}

/// A creation, each of whose polls is known to be one.
pub(crate) struct Within<F> {
    id: usize,
    creation: Pin<Box<F>>,
}

struct Frame;

impl Frame {
    fn new(id: usize) -> Self {
        let _ = RUNNING.try_with(|running| running.borrow_mut().push(id));
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
        let _frame = Frame::new(self.id);
        self.creation.as_mut().poll(cx)
    }
}
