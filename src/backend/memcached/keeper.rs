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
//! - **P3, nobody waits for a lock that nobody has.** One that was given up, or may have been taken without its taker knowing
//!   (its reply came too late), is given back when the server answers again; at the latest it ends with its lease. A command
//!   that the server has not come to yet is waited for a little.
#![forbid(unsafe_code)]

use super::lock::Held;
use crate::sync::{Arc, PlainMutex, Signal, lock_plain, spawn};
use crate::time::{Clock, Instant, PreciseClock};
use std::time::Duration;

/// After so long a renewal that has failed is tried again, if its turn is not sooner.
const AGAIN: Duration = Duration::from_millis(500);

/// What leases may last longer than they are prolonged for: the server's seconds are whole ones.
const ROUNDED: Duration = Duration::from_secs(2);

/// So often a server says that there is no such lock until it is believed.
const ENOUGH: u32 = 4;

struct Kept {
    held: Arc<Held>,
    due: Instant,
    every: Duration,
    /// Nobody has it any more: it is to be given back.
    given_up: Option<GivenUp>,
}

struct GivenUp {
    /// When it has ended by itself.
    until: Instant,
    /// How often the server has known nothing of it.
    misses: u32,
}

impl Kept {
    fn new(held: &Arc<Held>, every: Duration) -> Self {
        let due = PreciseClock.now().saturating_add(every);
        Self { held: Arc::clone(held), due, every, given_up: None }
    }

    fn give_up(&mut self) {
        self.due = PreciseClock.now();
        self.given_up = Some(GivenUp { until: self.due.saturating_add(self.every * 3 + ROUNDED), misses: 0 });
    }
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
        self.add(Kept::new(held, every));
    }

    fn add(self: &Arc<Self>, kept: Kept) {
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

    /// Gives it back, some time soon: one that was taken, or may have been. `every`: as in `keep`.
    pub(super) fn give_up(self: &Arc<Self>, held: &Arc<Held>, every: Duration) {
        let mut list = lock_plain(&self.list);
        let kept = list.kept.iter_mut().find(|kept| Arc::ptr_eq(&kept.held, held));
        let is_kept = kept.map(Kept::give_up).is_some();
        drop(list);
        if !is_kept {
            let mut kept = Kept::new(held, every);
            kept.give_up();
            self.add(kept);
        }
        self.signal.raise();
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
        let of = |kept: &Kept| (Arc::clone(&kept.held), kept.given_up.is_some());
        let mut due: Vec<(Arc<Held>, bool)> =
            lock_plain(&self.list).kept.iter().filter(|kept| kept.due <= now).map(of).collect();
        // Others wait for those that are given up.
        due.sort_by_key(|(_, is_given_up)| !is_given_up);
        let mut silent: Vec<usize> = Vec::new();
        let mut ask = |held: &Held, is_given_up: bool| {
            if silent.contains(&held.server_index()) {
                return None;
            }
            let done = if is_given_up { held.lay() } else { held.renew().map(|()| true) };
            if done.is_err() {
                silent.push(held.server_index());
            }
            done.ok()
        };
        let done: Vec<Option<bool>> = due.iter().map(|(held, is_given_up)| ask(held, *is_given_up)).collect();
        let after = PreciseClock.now();
        let mut list = lock_plain(&self.list);
        for ((held, was_given_up), done) in due.iter().zip(done) {
            let Some(i) = list.kept.iter().position(|kept| Arc::ptr_eq(&kept.held, held)) else { continue };
            let kept = &mut list.kept[i];
            match &mut kept.given_up {
                None if done.is_some() => kept.due = now.saturating_add(kept.every),
                None => kept.due = after.saturating_add(kept.every.min(AGAIN)),
                // Since then: it has its turn at once.
                Some(_) if !was_given_up => {}
                Some(given_up) => {
                    given_up.misses += u32::from(done == Some(false));
                    kept.due = after.saturating_add(kept.every.min(AGAIN));
                    if done == Some(true) || given_up.misses >= ENOUGH || given_up.until <= after {
                        list.kept.swap_remove(i);
                    }
                }
            }
        }
        list.kept.retain(|kept| kept.given_up.is_some() || !kept.held.is_over());
        let next = list.kept.iter().map(|kept| kept.due).min();
        list.has_thread = next.is_some();
        next
    }
}
