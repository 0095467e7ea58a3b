//! [`RegionExplanation`]: what a key has, and why.
#![forbid(unsafe_code)]

use super::core::{Core, Face, Found, Why};
use crate::codec::Storable;
use crate::error::Error;
use crate::gate::{Age, Left};
use std::fmt;
use std::time::Duration;

/// What a key has, why, and who makes it anew: [`Region::explain`](crate::Region::explain).
///
/// A moment's answer. Prints as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionExplanation {
    /// What `get_or_create` would find.
    pub state: KeyState,
    /// Who makes a newer value in this process, if anybody does.
    pub leader: Option<crate::LedBy>,
    /// Whether an error is remembered, or the next try held back after one: for how long still.
    pub held_back: Option<Duration>,
}

/// What a key is to `get_or_create`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyState {
    /// There is a value, good for so long. `None`: for ever.
    Fresh {
        /// Until its time is over.
        left: Option<Duration>,
    },
    /// There is a value past its time.
    Stale {
        /// Since then.
        since: Duration,
    },
    /// There is a value that was softly invalidated.
    Invalidated,
    /// There is a value, and it was invalidated for good.
    InvalidatedForGood,
    /// There is a value of another type.
    OtherType,
    /// There are bytes that can't be decoded, and why.
    Undecodable(&'static str),
    /// There is nothing.
    Absent,
}

impl KeyState {
    pub(crate) fn of(found: &Found) -> Self {
        match (found.age, found.why) {
            (Age::Missing, Why::Absent) => KeyState::Absent,
            (Age::Missing, Why::Invalidated) => KeyState::InvalidatedForGood,
            (Age::Missing, Why::OtherType) => KeyState::OtherType,
            (Age::Missing, Why::Undecodable(why)) => KeyState::Undecodable(why.text()),
            (Age::Late(_), _) if found.is_soft => KeyState::Invalidated,
            (Age::Late(since), _) => KeyState::Stale { since },
            (Age::Fresh { left }, _) => KeyState::Fresh { left: left.map(|Left { left, .. }| left) },
        }
    }
}

impl Core {
    pub(crate) async fn explain<T: Storable>(
        &self,
        face: Face,
        key: &str,
    ) -> Result<RegionExplanation, Error> {
        let key = self.key(key);
        let stored = self.get(face, &key).await?;
        let opened = stored.as_ref().map(|stored| self.open::<T>(&key, stored));
        let found = match opened {
            None => Found::nothing(Why::Absent),
            Some(Ok(item)) => self.judge(&key, item, None),
            Some(Err(why)) => Found::nothing(why),
        };
        let state = KeyState::of(&found);
        let now = self.clock.precise();
        let (mut leader, mut held_back) = (None, None);
        if let Some(key_state) = self.registry.find(&key) {
            let past = &key_state.past;
            leader = self.registry.flights.leader(past.flag()).map(|leader| crate::LedBy {
                thread: leader.thread.name().map(str::to_owned),
                since: now.saturating_duration_since(leader.since),
            });
            held_back = past.held_back(now).or_else(|| past.failed_for(now));
        }
        Ok(RegionExplanation { state, leader, held_back })
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh { left: None } => f.write_str("fresh"),
            Self::Fresh { left: Some(left) } => write!(f, "fresh for another {left:?}"),
            Self::Stale { since } => write!(f, "stale since {since:?}"),
            Self::Invalidated => f.write_str("stale: invalidated"),
            Self::InvalidatedForGood => f.write_str("missing: invalidated"),
            Self::OtherType => f.write_str("missing: what is stored is of another type"),
            Self::Undecodable(why) => write!(f, "missing: what is stored can't be decoded, {why}"),
            Self::Absent => f.write_str("missing: not in the store"),
        }
    }
}

impl fmt::Display for RegionExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)?;
        if let Some(leader) = &self.leader {
            let thread = leader.thread.as_deref().unwrap_or("an unnamed thread");
            write!(f, "; being made since {:?} by {thread}", leader.since)?;
        }
        if let Some(held_back) = self.held_back {
            write!(f, "; after a failure nobody tries for another {held_back:?}")?;
        }
        Ok(())
    }
}
