//! A lock that threads and tasks share, held over what a store does: one writes a key at a time.
//!
//! Made of the same parts as the gate, so that schedules reach into it; a lock that parks by itself would stop them.
//!
//! # Cost
//! Free: a short lock to take it, another to give it back. Whoever gives it back wakes all who wait; there are few.
#![forbid(unsafe_code)]

use crate::sync::{Mutex, lock};
use std::future::poll_fn;
use std::task::{Poll, Waker};

#[derive(Default)]
pub(crate) struct Stripe {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_held: bool,
    waiters: Vec<Waker>,
}

/// The lock, until it is dropped.
pub(crate) struct Held<'s> {
    stripe: &'s Stripe,
}

impl Stripe {
    /// Takes the lock, when it is free. A future that is dropped has not taken it.
    pub(crate) async fn take(&self) -> Held<'_> {
        poll_fn(|cx| {
            // Cloned before: wakers are the users'.
            let waker = cx.waker().clone();
            let mut state = lock(&self.state);
            if state.is_held {
                state.waiters.push(waker);
                return Poll::Pending;
            }
            state.is_held = true;
            drop(state);
            Poll::Ready(Held { stripe: self })
        })
        .await
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let waiters = {
            let mut state = lock(&self.stripe.state);
            state.is_held = false;
            std::mem::take(&mut state.waiters)
        };
        waiters.into_iter().for_each(Waker::wake);
    }
}
