//! [`Explanation`]: what a key has, and why.
#![forbid(unsafe_code)]

use super::entry::since;
use crate::engine::{CachedValue, NodeKind};
use crate::gate::{Flights, HELD, Policy, see, was_held};
use crate::time::Instant;
use std::fmt;
use std::time::Duration;

/// What a key has, why, and who makes it anew: [`Cache::explain`](crate::Cache::explain).
///
/// A moment's answer. Prints as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// What `get_or_create` would find.
    pub state: EntryState,
    /// Who makes a newer value, if anybody does.
    pub leader: Option<LedBy>,
}

/// What an entry is to `get_or_create`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryState {
    /// There is a value, good for so long. `None`: for ever, or until it is idle for too long.
    Fresh {
        /// Until its deadline.
        left: Option<Duration>,
    },
    /// There is a value past its time, still good enough for those who take stale ones.
    Stale {
        /// Since its deadline.
        since: Duration,
        /// If the last creation failed: for how long nobody tries again.
        held_back: Option<Duration>,
    },
    /// There is a value, but too long past its time. It is there until it is swept out.
    Expired {
        /// Since its deadline.
        since: Duration,
    },
    /// There is a value that was not used for too long.
    Idle,
    /// A creator's error is remembered.
    Failed {
        /// For how long still.
        left: Duration,
    },
    /// There is nothing.
    Absent,
}

/// Who leads a creation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedBy {
    /// The name of the thread that began it, if it has one. Of a task: the thread that polled it then.
    pub thread: Option<String>,
    /// How long ago.
    pub since: Duration,
}

impl Explanation {
    pub(super) fn new<K, V, T>(
        node: Option<&CachedValue<K, V>>,
        flights: &Flights<T>,
        policy: &Policy<V>,
        now: Instant,
        precise: Instant,
    ) -> Self {
        let Some(node) = node else { return Self { state: EntryState::Absent, leader: None } };
        let leader = flights.leader(node.gate()).map(|leader| LedBy {
            thread: leader.thread.name().map(str::to_owned),
            since: precise.saturating_duration_since(leader.since),
        });
        Self { state: EntryState::of(node, policy, now), leader }
    }
}

impl EntryState {
    fn of<K, V>(node: &CachedValue<K, V>, policy: &Policy<V>, now: Instant) -> Self {
        match node.kind() {
            NodeKind::Pending => Self::Absent,
            NodeKind::Error if now < node.idle() => {
                Self::Failed { left: node.idle().saturating_duration_since(now) }
            }
            NodeKind::Error => Self::Absent,
            NodeKind::Value => match since(node.expiry(), now) {
                _ if node.is_idle(now) => Self::Idle,
                None => {
                    let left = node.expiry().saturating_duration_since(now);
                    Self::Fresh { left: (node.expiry() != Instant::FAR_FUTURE).then_some(left) }
                }
                Some(since) => {
                    let flag = see(node.gate());
                    let waits = flag == HELD && now < node.idle();
                    let held_back = waits.then(|| node.idle().saturating_duration_since(now));
                    if since < policy.stale() || was_held(flag) && since < policy.stale_if_error {
                        Self::Stale { since, held_back }
                    } else {
                        Self::Expired { since }
                    }
                }
            },
        }
    }
}

impl fmt::Display for EntryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh { left: None } => f.write_str("fresh"),
            Self::Fresh { left: Some(left) } => write!(f, "fresh for {left:?}"),
            Self::Stale { since, held_back: None } => write!(f, "stale since {since:?}"),
            Self::Stale { since, held_back: Some(left) } => {
                write!(
                    f,
                    "stale since {since:?}; the last creation failed, the next is held back for {left:?}"
                )
            }
            Self::Expired { since } => write!(f, "missing: expired since {since:?}"),
            Self::Idle => f.write_str("missing: not used for longer than the time to idle"),
            Self::Failed { left } => write!(f, "missing: a creator's error is remembered for {left:?}"),
            Self::Absent => f.write_str("missing: not in the cache"),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)?;
        if let Some(leader) = &self.leader {
            let thread = leader.thread.as_deref().unwrap_or("unnamed");
            write!(f, "; being made since {:?} by the thread `{thread}`", leader.since)?;
        }
        Ok(())
    }
}
