//! A value with what is known of it.
#![forbid(unsafe_code)]

use crate::codec::Meta;
use crate::gate::{Age, Left};
use crate::sync::Arc;
use crate::time::Instant;
use std::any::Any;
use std::fmt;
use std::time::Duration;

/// A value of any type.
pub(crate) type Object = Arc<dyn Any + Send + Sync>;

/// A value as a region has it: made at some time, from some epoch. Never changed; a change is another item.
pub(crate) struct Item {
    pub(crate) meta: Meta,
    /// When it was made, by the region's clock.
    pub(crate) born: Instant,
    /// How much older it is: what lies before the clock's origin.
    pub(crate) before: Duration,
    pub(crate) value: Object,
    /// What the value weighs.
    pub(crate) weigh: fn(&(dyn Any + Send + Sync)) -> u32,
}

impl Item {
    /// The value, if it is a `T`.
    #[inline]
    pub(crate) fn value<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        Arc::clone(&self.value).downcast().ok()
    }

    /// How long it is fresh: as the call says, or as it says itself, or as the region does.
    #[inline]
    pub(crate) fn life(&self, call: Option<Duration>, region: Option<Duration>) -> Option<Duration> {
        // Of a time without end no part can be cut off.
        let life = call.or(self.meta.ttl).or(region).filter(|life| *life != Duration::MAX)?;
        Some(if self.meta.cut > 0 { life.mul_f64(1.0 - f64::from(self.meta.cut) / 1000.0) } else { life })
    }

    /// How long ago it was made.
    #[inline]
    pub(crate) fn age_at(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.born).saturating_add(self.before)
    }

    /// How old it is `now`, which may be too early by one `grain`.
    #[inline]
    pub(crate) fn age(&self, life: Option<Duration>, now: Instant, grain: Duration) -> Age {
        let Some(life) = life else { return Age::Fresh { left: None } };
        let age = self.age_at(now.saturating_add(grain));
        if age < life {
            Age::Fresh { left: Some(Left { life, left: life - age }) }
        } else {
            Age::Late(age - life)
        }
    }
}

/// Values are not shown.
impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item").field("born", &self.born).finish_non_exhaustive()
    }
}

/// A value with its metadata: [`Region::get_value_metadata`](crate::Region::get_value_metadata).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CachedItem<T> {
    /// The value.
    pub payload: Arc<T>,
    /// When it was made, since 1970 in UTC. `None` where the envelope does not tell.
    pub cached_time: Option<Duration>,
    /// How long ago. Zero for a value from the future.
    pub age: Duration,
    /// How long it took to make, if that is known.
    pub creation_time: Option<Duration>,
    /// Its own time to live, if it has one.
    pub time_to_live: Option<Duration>,
    /// Its tags.
    pub tags: Vec<String>,
}
