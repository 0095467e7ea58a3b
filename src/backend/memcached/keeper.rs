//! Who prolongs the leases of a backend's locks.
//!
//! One thread for all of a backend's locks: it begins with the first one that is taken, looks when a lease is due, and ends
//! when it finds none. So a creation that is over within a third of its lease pays for no renewal, and a row of them for one
//! thread.
//!
//! # Invariants
//! - **P1, nobody is forgotten.** What is in the list has a thread that will look at it. The thread ends under the list's
//!   lock, and says so there.
//! - **P2, a server that does not answer delays its own.** In one turn it is asked until it has failed once; who else is
//!   there comes again after a short time.
#![forbid(unsafe_code)]

use super::lock::Held;
use crate::sync::{Arc, PlainMutex, Signal, lock_plain, spawn};
use crate::time::{Clock, Instant, PreciseClock};
use std::time::Duration;

/// After so long a renewal that has failed is tried again, if its turn is not sooner.
const AGAIN: Duration = Duration::from_millis(500);

struct Kept {
    held: Arc<Held>,
    due: Instant,
    every: Duration,
    /// Nobody has it any more: it is to be given back.
    is_given_up: bool,
}

#[derive(Default)]
struct List {
    kept: Vec<Kept>,
    has_thread: bool,
}

/// The locks that are held.
#[derive(Default)]
pub(super) struct Keeper {
    list: PlainMutex<List>,
    signal: Signal,
}

impl Keeper {
    /// Prolongs it from now on, each time that so much has passed.
    pub(super) fn keep(self: &Arc<Self>, held: &Arc<Held>, every: Duration) {
        let due = PreciseClock.now().saturating_add(every);
        let kept = Kept { held: Arc::clone(held), due, every, is_given_up: false };
        let mut list = lock_plain(&self.list);
        list.kept.push(kept);
        if !list.has_thread {
            let keeper = Arc::clone(self);
            // Without one its lease ends when it ends.
            list.has_thread = spawn("dogpile-memcached-leases", move || keeper.run());
        }
    }

    /// No more of it: it was given back.
    pub(super) fn forget(&self, held: &Arc<Held>) {
        lock_plain(&self.list).kept.retain(|kept| !Arc::ptr_eq(&kept.held, held));
    }

    /// Gives it back, some time soon.
    pub(super) fn give_up(&self, held: Arc<Held>) {
        let mut list = lock_plain(&self.list);
        if let Some(kept) = list.kept.iter_mut().find(|kept| Arc::ptr_eq(&kept.held, &held)) {
            kept.is_given_up = true;
            self.signal.raise();
        }
    }

    /// Lets the thread end if there is nothing left.
    pub(super) fn end(&self) {
        self.signal.raise();
    }

    fn run(&self) {
        while let Some(until) = self.turn() {
            let left = until.saturating_duration_since(PreciseClock.now());
            if !left.is_zero() {
                self.signal.wait(Some(left));
            }
        }
    }

    /// Does what is due. Returns when the next is.
    fn turn(&self) -> Option<Instant> {
        let now = PreciseClock.now();
        let (due, given_up): (Vec<_>, Vec<_>) = {
            let mut list = lock_plain(&self.list);
            let given_up = list.kept.extract_if(.., |kept| kept.is_given_up).map(|kept| kept.held).collect();
            let due =
                list.kept.iter().filter(|kept| kept.due <= now).map(|kept| Arc::clone(&kept.held)).collect();
            (due, given_up)
        };
        let mut silent: Vec<usize> = Vec::new();
        let mut ask = |held: &Held, what: fn(&Held) -> Result<(), crate::error::Error>| {
            let is_done = !silent.contains(&held.server_index()) && what(held).is_ok();
            if !is_done {
                silent.push(held.server_index());
            }
            is_done
        };
        for held in given_up {
            // If it can't be told its lease ends.
            ask(&held, Held::release);
        }
        let done: Vec<bool> = due.iter().map(|held| ask(held, Held::renew)).collect();
        let after = PreciseClock.now();
        let mut list = lock_plain(&self.list);
        for (held, is_done) in due.iter().zip(done) {
            if let Some(kept) = list.kept.iter_mut().find(|kept| Arc::ptr_eq(&kept.held, held)) {
                let begun = if is_done { now } else { after };
                kept.due = begun.saturating_add(if is_done { kept.every } else { kept.every.min(AGAIN) });
            }
        }
        list.kept.retain(|kept| !kept.held.is_over());
        let next = list.kept.iter().map(|kept| if kept.is_given_up { now } else { kept.due }).min();
        list.has_thread = next.is_some();
        next
    }
}
