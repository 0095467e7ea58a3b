//! What goes on while locks are held: their leases are renewed, and what could not be given back is given back later.
//!
//! One task for each backend, while there is something to do. It looks four times in a second, or three times in a lease if
//! that is more often; a lock is prolonged when a third of its lease is over. A lock that somebody else has by now is left
//! alone.
//!
//! A lock may be taken without anybody knowing: its reply was late, or its asker has gone. Such a *ghost* is given back until
//! the server says that it was, or has said four times that there is none; else it ends with its lease.
#![forbid(unsafe_code)]

use super::link::{SharedLink, Via};
use super::mutex::Held;
use crate::sync::{Arc, PlainMutex, Weak, lock_plain};
use crate::time::{Clock, Instant, PreciseClock};
use redis::Value;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(250);
/// A server that has said so often that there is no such lock had none.
const ENOUGH: u8 = 4;
/// More than so many are left to their leases.
const MOST_GHOSTS: usize = 1000;

struct Ghost {
    held: Arc<Held>,
    /// How often the server has known nothing of it.
    misses: u8,
    since: Instant,
}

#[derive(Default)]
struct State {
    /// With the time of the last renewal.
    held: Vec<(Arc<Held>, Instant)>,
    ghosts: Vec<Ghost>,
    is_running: bool,
}

pub(super) struct Keeper {
    link: SharedLink,
    lease: Duration,
    state: PlainMutex<State>,
}

impl Keeper {
    pub(super) fn new(link: SharedLink, lease: Duration) -> Self {
        Self { link, lease, state: PlainMutex::default() }
    }

    /// Renews a lock that was taken just now, until it is let go.
    pub(super) fn keep(self: &Arc<Self>, held: &Arc<Held>) {
        self.start(|state| state.held.push((Arc::clone(held), PreciseClock.precise())));
    }

    /// Renews it no more.
    pub(super) fn let_go(&self, held: &Held) {
        held.given_back();
        lock_plain(&self.state).held.retain(|(other, _)| other.token() != held.token());
    }

    /// Gives a lock back that may be taken or not, now or later.
    pub(super) fn give_back(self: &Arc<Self>, held: Arc<Held>) {
        self.let_go(&held);
        let keeper = Arc::clone(self);
        let at_once = async move {
            let reply = keeper.link.ask_one(Via::Tasks, "redis release", held.release_order()).await;
            if !matches!(reply, Ok(Value::Int(1))) {
                keeper.start(|state| {
                    if state.ghosts.len() < MOST_GHOSTS {
                        state.ghosts.push(Ghost { held, misses: 0, since: PreciseClock.precise() });
                    }
                });
            }
        };
        smol::spawn(at_once).detach();
    }

    fn start(self: &Arc<Self>, change: impl FnOnce(&mut State)) {
        let mut state = lock_plain(&self.state);
        change(&mut state);
        let was_running = std::mem::replace(&mut state.is_running, true);
        drop(state);
        if !was_running {
            smol::spawn(run(Arc::downgrade(self), TICK.min(self.lease / 3))).detach();
        }
    }

    async fn renew(&self) {
        let now = PreciseClock.precise();
        let is_due = |renewed: Instant| now.saturating_duration_since(renewed) >= self.lease / 3;
        let due: Vec<Arc<Held>> = {
            let state = lock_plain(&self.state);
            state
                .held
                .iter()
                .filter(|(_, renewed)| is_due(*renewed))
                .map(|(held, _)| Arc::clone(held))
                .collect()
        };
        let orders = due.iter().map(|held| held.renew_order(self.lease)).collect();
        // Without a reply they are due still.
        let Ok(replies) = self.link.ask(Via::Tasks, "redis renew", orders).await else { return };
        let mut state = lock_plain(&self.state);
        for (held, reply) in due.iter().zip(replies) {
            let Some(i) = state.held.iter().position(|(other, _)| Arc::ptr_eq(other, held)) else { continue };
            if matches!(reply, Value::Int(1)) {
                state.held[i].1 = now;
            } else {
                state.held.swap_remove(i);
            }
        }
    }

    async fn lay_ghosts(&self) {
        let ghosts: Vec<Arc<Held>> = {
            let now = PreciseClock.precise();
            let mut state = lock_plain(&self.state);
            // By then it has ended by itself.
            state.ghosts.retain(|ghost| now.saturating_duration_since(ghost.since) < self.lease);
            state.ghosts.iter().map(|ghost| Arc::clone(&ghost.held)).collect()
        };
        let orders = ghosts.iter().map(|held| held.release_order()).collect();
        let Ok(replies) = self.link.ask(Via::Tasks, "redis release", orders).await else { return };
        let mut state = lock_plain(&self.state);
        for (held, reply) in ghosts.iter().zip(replies) {
            let Some(i) = state.ghosts.iter().position(|other| Arc::ptr_eq(&other.held, held)) else {
                continue;
            };
            state.ghosts[i].misses += 1;
            if matches!(reply, Value::Int(1)) || state.ghosts[i].misses >= ENOUGH {
                state.ghosts.swap_remove(i);
            }
        }
    }
}

async fn run(keeper: Weak<Keeper>, tick: Duration) {
    loop {
        smol::Timer::after(tick).await;
        let Some(keeper) = keeper.upgrade() else { return };
        {
            let mut state = lock_plain(&keeper.state);
            if state.held.is_empty() && state.ghosts.is_empty() {
                state.is_running = false;
                return;
            }
        }
        keeper.renew().await;
        keeper.lay_ghosts().await;
    }
}
