//! Waiting by a thread: a future is polled, and the thread parked in between.
//!
//! Threads and tasks share one state machine (`drive.rs`); this is all that is different for threads.
#![forbid(unsafe_code)]

use crate::sync::{Arc, PlainMutex, Signal, lock_plain};
use crate::time::{Clock, Instant, PreciseClock};
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// Wakes one parked thread, at once or at a time.
#[derive(Default)]
pub(crate) struct Parker {
    signal: Signal,
    /// When the thread wants to be woken at the latest.
    deadline: PlainMutex<Option<Instant>>,
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.signal.raise();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.signal.raise();
    }
}

/// Runs a future to its end on this thread, which sleeps while the future waits. `begin` gets the parker, to make alarms.
pub(crate) fn block_on<F: Future>(begin: impl FnOnce(&Arc<Parker>) -> F) -> F::Output {
    // One for each call: a creator that blocks in its turn must not use up what woke its caller.
    let parker = Arc::new(Parker::default());
    let waker = Waker::from(Arc::clone(&parker));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(begin(&parker));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        let deadline = lock_plain(&parker.deadline).take();
        parker.signal.wait(deadline.map(|at| at.saturating_duration_since(PreciseClock.now())));
    }
}

/// Ends at a time, by the system's clock, if it is polled under its parker.
pub(crate) struct Alarm {
    parker: Arc<Parker>,
    at: Instant,
}

impl Alarm {
    pub(crate) fn after(parker: &Arc<Parker>, span: Duration) -> Self {
        Self { parker: Arc::clone(parker), at: PreciseClock.now().saturating_add(span) }
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        if PreciseClock.now() >= self.at {
            return Poll::Ready(());
        }
        let mut deadline = lock_plain(&self.parker.deadline);
        *deadline = Some(deadline.map_or(self.at, |other| other.min(self.at)));
        Poll::Pending
    }
}
