//! What a gate remembers of one value that it does not hold: who makes it, and how the last creations ended.
//!
//! For values that stand elsewhere: a file, a store. What a value is now is told by its age.
#![forbid(unsafe_code)]

use super::drive::Usable;
use super::early::is_due;
use super::flight::{Failure, HELD, IDLE, TIRED, is_busy, see, was_held};
use super::policy::Policy;
use crate::sync::{Arc, AtomicU8, Mutex, lock};
use crate::time::Instant;
use std::time::Duration;

/// How old a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// There is none.
    Missing,
    /// It is fresh: for ever, or for a part of its life.
    Fresh { left: Option<Left> },
    /// Its time was over so long ago.
    Late(Duration),
}

/// What is left of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) life: Duration,
    pub(crate) left: Duration,
}

/// What a caller does about it. `from`: the free state of the flag.
pub(crate) enum Verdict {
    Fresh,
    Usable { from: Option<u8>, state: Usable },
    Missing { from: Option<u8> },
    Failed { failure: Failure, from: Option<u8> },
}

/// The flag of one value, and what is known of its past.
#[derive(Default)]
pub(crate) struct Past {
    flag: AtomicU8,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// While the flag is `HELD`: until when nobody tries.
    held_until: Instant,
    failure: Option<(Failure, Instant)>,
    /// While the flag is `TIRED`: when that was.
    tired_since: Instant,
    cost: Option<Duration>,
}

impl Past {
    pub(crate) fn new() -> Self {
        Self { flag: AtomicU8::new(IDLE), memory: Mutex::new(Memory::default()) }
    }

    pub(crate) fn flag(&self) -> &AtomicU8 {
        &self.flag
    }

    pub(crate) fn is_busy(&self) -> bool {
        is_busy(see(&self.flag))
    }

    /// The free state of the flag, if nobody makes the value.
    pub(crate) fn free(&self) -> Option<u8> {
        Some(see(&self.flag)).filter(|flag| !is_busy(*flag))
    }

    /// Whether there is anything to remember still.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        match see(&self.flag) {
            IDLE => lock(&self.memory).failure.as_ref().is_none_or(|(_, until)| *until <= now),
            HELD | TIRED => lock(&self.memory).held_until <= now,
            _ => false,
        }
    }

    /// For how long nobody tries again.
    pub(crate) fn held_back(&self, now: Instant) -> Option<Duration> {
        let until = lock(&self.memory).held_until;
        (see(&self.flag) == HELD && now < until).then(|| until.saturating_duration_since(now))
    }

    /// For how long an error is remembered.
    pub(crate) fn failed_for(&self, now: Instant) -> Option<Duration> {
        let memory = lock(&self.memory);
        let (_, until) = memory.failure.as_ref().filter(|(_, until)| now < *until)?;
        Some(until.saturating_duration_since(now))
    }

    /// What a value of that age is, made at `made`, to who may have it for `stale` after its time.
    pub(crate) fn judge<V: ?Sized>(
        &self,
        age: Age,
        made: Instant,
        stale: Duration,
        cost: Option<Duration>,
        policy: &Policy<V>,
        now: Instant,
    ) -> Verdict {
        let flag = see(&self.flag);
        let (failure, held, own_cost, tired_since) = {
            let memory = lock(&self.memory);
            let failure = memory.failure.as_ref().filter(|(_, until)| now < *until);
            let failure = failure.map(|(failure, _)| Arc::clone(failure));
            (failure, now < memory.held_until, memory.cost, memory.tired_since)
        };
        let from = (!is_busy(flag)).then_some(flag);
        let none = |failure| match failure {
            Some(failure) => Verdict::Failed { failure, from },
            None => Verdict::Missing { from },
        };
        match age {
            Age::Missing => none(failure),
            Age::Late(late) if was_held(flag) && late < policy.stale_if_error => {
                Verdict::Usable { from: from.filter(|_| !held), state: Usable::Held }
            }
            Age::Late(late) if late < stale => Verdict::Usable { from, state: Usable::Stale },
            Age::Late(_) => none(failure),
            // One failure ahead of time is enough, for that value.
            Age::Fresh { left: Some(Left { life, left }) }
                if flag == IDLE || flag == TIRED && made >= tired_since =>
            {
                let expiry = now.saturating_add(left);
                let cost = cost.or(own_cost);
                match policy.early.is_some_and(|early| is_due(early, now, expiry, Some(life), cost)) {
                    true => Verdict::Usable { from, state: Usable::Due },
                    false => Verdict::Fresh,
                }
            }
            Age::Fresh { .. } => Verdict::Fresh,
        }
    }

    /// A creation has succeeded.
    pub(crate) fn made(&self, took: Duration) {
        let mut memory = lock(&self.memory);
        memory.failure = None;
        memory.cost = Some(took);
    }

    /// A creation has failed, for a value of that age. Returns the flag's next state, and whether the error is remembered.
    pub(crate) fn failed<V: ?Sized>(
        &self,
        age: Age,
        failure: &Failure,
        policy: &Policy<V>,
        now: Instant,
    ) -> (u8, bool) {
        let mut memory = lock(&self.memory);
        match age {
            Age::Fresh { .. } => {
                memory.tired_since = now;
                // Until then at least this is remembered.
                memory.held_until = now.saturating_add(policy.hold_back);
                return (TIRED, false);
            }
            Age::Late(late) if late < policy.stale_if_error => {
                memory.held_until = now.saturating_add(policy.hold_back);
                return (HELD, false);
            }
            _ => {}
        }
        if let Some(ttl) = policy.error_ttl {
            memory.failure = Some((Arc::clone(failure), now.saturating_add(ttl)));
            return (IDLE, true);
        }
        (IDLE, false)
    }
}
