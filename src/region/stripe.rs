//! A lock that threads and tasks share, held over what a store does: one writes a key at a time.
//!
//! Made of the same parts as the gate, so that schedules reach into it: async-lock, which stood here before, calls wakers
//! under a mutex of its own, and shuttle's tasks, which share one thread, then stop each other for ever.
//!
//! # Invariants
//! - **S1, one holder.** `is_held` is taken and given back under the state's lock, by the one future that found it free, and
//!   by its `Held`.
//! - **S2, nobody is forgotten.** Who finds it held registers under the same lock; who gives it back takes all who are
//!   registered along and wakes each of them, whatever the others' wakers do. They look again: no order is promised.
//!
//! # Cost
//! Free: a short lock to take it, another to give it back. All who wait are woken at once; there are few.
#![forbid(unsafe_code)]

use crate::gate::quietly;
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
            // Cloned before the lock, and dropped after it where it is one too many: wakers are the users'.
            let mut waker = Some(cx.waker().clone());
            let mut state = lock(&self.state);
            let is_free = !state.is_held;
            if is_free {
                state.is_held = true;
            } else if !state.waiters.iter().any(|other| other.will_wake(cx.waker())) {
                state.waiters.extend(waker.take());
            }
            drop(state);
            if is_free { Poll::Ready(Held { stripe: self }) } else { Poll::Pending }
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
        waiters.into_iter().for_each(|waker| quietly(|| waker.wake()));
    }
}
