//! When entries expire, and how those that nobody asks for any more leave.
//!
//! A deadline is computed from the clock's precise time and set one grain of the clock early; it is compared with the
//! cheap time, which lags by less than that grain. So an entry may expire one grain early, and never late: when its time
//! is over, `now > precise - grain >= insertion + ttl - grain = deadline`.
//!
//! An entry has up to two deadlines: the hard one (`expiry`, moved by `expire_at` and its kin) and, in caches with a
//! time to idle, one that uses put off. It has expired when it is at or past either.
//!
//! Each write to a shard that ever held a deadline looks at two slots of it, and goes on while it finds expired
//! entries: work in proportion to what is written, and no thread. A shard that is not written is swept by
//! `Cache::run_pending`.
#![forbid(unsafe_code)]

use super::table::{CachedValue, NodeKind, Terms};
use crate::time::{Clock, CoarseClock, Instant};
use std::time::Duration;

/// Slots that one write sweeps: a round takes at most as many writes as the table has room for three times over.
pub(super) const SWEEP: usize = 2;
/// And at the most, if it finds expired entries.
pub(super) const MOST_SWEPT: usize = 16;
/// Idle deadlines are put off when this share of the time to idle has gone: a hot entry is written 32 times in it.
const IDLE_STEPS: u64 = 32;

pub(crate) type ExpireAfter<K, V> = Box<dyn Fn(&K, &V) -> Option<Duration> + Send + Sync>;

/// How long entries live, and on which clock.
pub(crate) struct Lifetimes<K, V> {
    clock: Option<Box<dyn Clock>>,
    grain: Duration,
    time_to_live: Option<Duration>,
    time_to_idle: Option<Duration>,
    expire_after: Option<ExpireAfter<K, V>>,
    /// How long an expired entry stays, for those who take stale ones.
    keep: Duration,
}

impl<K, V> Lifetimes<K, V> {
    /// `clock`: none for the coarse clock of the system, read without a virtual call.
    pub(crate) fn new(
        clock: Option<Box<dyn Clock>>,
        time_to_live: Option<Duration>,
        time_to_idle: Option<Duration>,
        expire_after: Option<ExpireAfter<K, V>>,
        keep: Duration,
    ) -> Self {
        let grain = clock.as_ref().map_or_else(|| CoarseClock.grain(), |clock| clock.grain());
        Self { clock, grain, time_to_live, time_to_idle, expire_after, keep }
    }

    /// Whether an expired entry can go: nobody may be served from it any more, and nobody makes its first version.
    pub(crate) fn is_over(&self, node: &CachedValue<K, V>, now: Instant) -> bool {
        match node.kind() {
            NodeKind::Value => node.expiry().saturating_add(self.keep) <= now || node.is_idle(now),
            NodeKind::Error => node.idle() <= now,
            NodeKind::Pending => false,
        }
    }

    /// Whether no entry has a deadline that its insertion did not give it, nor room for one.
    pub(crate) fn are_endless(&self) -> bool {
        self.time_to_live.is_none()
            && self.time_to_idle.is_none()
            && self.expire_after.is_none()
            && self.keep.is_zero()
    }

    /// What a new entry shall be that may live for `span`.
    #[inline]
    pub(crate) fn terms(&self, weight: u32, span: Option<Duration>) -> Terms {
        Terms {
            weight,
            expiry: span.map_or(Instant::FAR_FUTURE, |span| self.deadline(span)),
            idle: self.idle(),
            took: None,
            span,
            roomy: !self.keep.is_zero(),
        }
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.clock.as_deref().unwrap_or(&CoarseClock)
    }

    #[inline]
    pub(crate) fn now(&self) -> Instant {
        match &self.clock {
            None => CoarseClock.now(),
            Some(clock) => clock.now(),
        }
    }

    pub(crate) fn precise(&self) -> Instant {
        self.clock().precise()
    }

    /// The deadline `span` from now.
    pub(crate) fn deadline(&self, span: Duration) -> Instant {
        if self.precise().saturating_add(span) == Instant::FAR_FUTURE {
            return Instant::FAR_FUTURE;
        }
        // A cheap clock may lag by more than its grain, when the kernel's tick is late. Then it is itself the start, so
        // that at least no time is over at once.
        self.precise().saturating_sub(self.grain).min(self.now()).saturating_add(span)
    }

    /// The hard deadline of a new entry: its own time to live, or what the cache says of it.
    pub(crate) fn expiry(&self, key: &K, value: &V, own: Option<Duration>) -> Instant {
        let span = own.or_else(|| self.span(key, value, None));
        span.map_or(Instant::FAR_FUTURE, |span| self.deadline(span))
    }

    /// How long the cache lets an entry live: as its value says, or else `usual`, or else the time to live.
    pub(crate) fn span(&self, key: &K, value: &V, usual: Option<Duration>) -> Option<Duration> {
        self.expire_after
            .as_ref()
            .and_then(|expire_after| expire_after(key, value))
            .or(usual)
            .or(self.time_to_live)
    }

    /// The idle deadline of an entry used now.
    pub(crate) fn idle(&self) -> Instant {
        self.time_to_idle.map_or(Instant::FAR_FUTURE, |span| self.deadline(span))
    }

    /// The idle deadline of an entry used at `now`, a reading of the cheap clock.
    pub(crate) fn idle_from(&self, now: Instant) -> Instant {
        self.time_to_idle.map_or(Instant::FAR_FUTURE, |span| match now.saturating_add(span) {
            Instant::FAR_FUTURE => Instant::FAR_FUTURE,
            at => at.saturating_sub(self.grain),
        })
    }

    /// By how much an idle deadline must be put off to be worth a write, if there are idle deadlines.
    #[inline]
    pub(crate) fn idle_step(&self) -> Option<u64> {
        self.time_to_idle.map(|span| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX) / IDLE_STEPS)
    }
}
