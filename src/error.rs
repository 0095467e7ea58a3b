//! Errors: what went wrong, where, and what to do.
#![forbid(unsafe_code)]

use crate::sync::Arc;
use std::fmt;

/// Why [`CacheBuilder::build`](crate::CacheBuilder::build) refused. Nothing was allocated.
///
/// ```
/// use dogpile::{BuildError, Cache};
///
/// let error = Cache::<u64, u64>::builder().max_entries(10).max_weight(10).build().unwrap_err();
/// assert_eq!(error, BuildError::TwoLimits);
/// assert_eq!(error.to_string(), "max_entries and max_weight are both set: a cache has one limit, drop one of them");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// `max_entries` and `max_weight` are both set.
    TwoLimits,
    /// `max_weight` is set, and no `weigher` says what an entry weighs.
    WeightWithoutWeigher,
    /// A `weigher` is set, and no `max_weight` for it to serve.
    WeigherWithoutWeight,
    /// `time_to_live` is set, and the policy's `fresh`: they are one setting by two names.
    FreshAndTimeToLive,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TwoLimits => "max_entries and max_weight are both set: a cache has one limit, drop one of them",
            Self::WeightWithoutWeigher => {
                "max_weight is set without a weigher: add weigher(|key, value| …), or use max_entries to count entries"
            }
            Self::WeigherWithoutWeight => "a weigher is set without max_weight: add max_weight(…), or drop the weigher",
            Self::FreshAndTimeToLive => {
                "time_to_live and the policy's fresh are both set: they are one setting by two names, drop one of them"
            }
        })
    }
}

impl std::error::Error for BuildError {}

/// Why [`PolicyBuilder::build`](crate::gate::PolicyBuilder::build) refused.
///
/// ```
/// use dogpile::{Early, Policy, PolicyError};
///
/// let error = Policy::<u8>::builder().early(Early::Fraction(1.5)).build().unwrap_err();
/// assert_eq!(error.to_string(), "early(Fraction) is out of range: it must be between 0 and 1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyError {
    /// Two settings contradict each other.
    Contradiction {
        /// The one.
        setting: &'static str,
        /// The other.
        with: &'static str,
        /// Why they don't go together.
        because: &'static str,
    },
    /// A number is out of range.
    OutOfRange {
        /// Which.
        setting: &'static str,
        /// What it must be.
        accepted: &'static str,
    },
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contradiction { setting, with, because } => {
                write!(f, "{setting} and {with} contradict each other: {because}")
            }
            Self::OutOfRange { setting, accepted } => {
                write!(f, "{setting} is out of range: it must be {accepted}")
            }
        }
    }
}

impl std::error::Error for PolicyError {}

/// What a cache's own loader returned: an error of any type.
///
/// ```
/// use dogpile::{Cache, CreateError};
///
/// let cache = Cache::builder().try_loader(|text: &String| text.parse::<u32>()).build()?;
/// assert_eq!(*cache.load("7")?, 7);
/// let error = cache.load("seven").unwrap_err();
/// let cause = error.creator().unwrap().downcast_ref::<std::num::ParseIntError>();
/// assert_eq!(cause.unwrap().to_string(), "invalid digit found in string");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LoadError(Box<dyn std::error::Error + Send + Sync>);

impl LoadError {
    pub(crate) fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }

    /// The error itself.
    #[must_use]
    pub fn into_inner(self) -> Box<dyn std::error::Error + Send + Sync> {
        self.0
    }

    /// The error itself, if it is of that type.
    #[must_use]
    pub fn downcast_ref<E: std::error::Error + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// Why there is no value.
///
/// All who wait for one creation share its error, hence the `Arc`.
///
/// ```
/// use dogpile::{Cache, CreateError};
///
/// let cache = Cache::<&str, u32>::new(10);
/// match cache.try_get_or_create(&"key", || "x".parse::<u32>()) {
///     Err(CreateError::Creator(error)) => assert_eq!(error.to_string(), "invalid digit found in string"),
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum CreateError<E> {
    /// The creator returned this, the caller's own or another's that the caller waited for.
    Creator(Arc<E>),
    /// The creator asked for the value that it was making, or waited in a circle with others. Make the one value
    /// without the other, or both in one creation.
    Reentrant,
    /// The policy's `wait` has run out. The creation that was waited for goes on.
    TimedOut,
    /// The creator that was waited for panicked, and so did that of the waiter who took over. The next call tries again.
    LeaderPanicked,
    /// There is no value, and the policy says `CacheOnly`.
    NotCached,
    /// `load` or `refresh`, and the cache was built without a `loader`; or their asynchronous forms, and it was built
    /// without an `async_loader`.
    NoLoader,
    /// The creator of a batch returned another number of values than it was asked for. None was stored.
    WrongCount {
        /// How many keys it got.
        asked: usize,
        /// How many values it returned.
        made: usize,
    },
}

impl<E> CreateError<E> {
    /// What the creator returned, if that is what went wrong.
    ///
    /// ```
    /// use dogpile::{Cache, CreateError};
    ///
    /// let cache = Cache::<&str, u32>::new(10);
    /// let error = cache.try_get_or_create(&"key", || Err("no such key")).unwrap_err();
    /// assert_eq!(error.creator(), Some(&"no such key"));
    /// ```
    #[must_use]
    pub fn creator(&self) -> Option<&E> {
        match self {
            Self::Creator(error) => Some(error),
            _ => None,
        }
    }
}

impl<E> Clone for CreateError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Creator(error) => Self::Creator(Arc::clone(error)),
            Self::Reentrant => Self::Reentrant,
            Self::TimedOut => Self::TimedOut,
            Self::LeaderPanicked => Self::LeaderPanicked,
            Self::NotCached => Self::NotCached,
            Self::NoLoader => Self::NoLoader,
            Self::WrongCount { asked, made } => Self::WrongCount { asked: *asked, made: *made },
        }
    }
}

impl<E: PartialEq> PartialEq for CreateError<E> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Creator(a), Self::Creator(b)) => a == b,
            (Self::WrongCount { asked: a, made: b }, Self::WrongCount { asked: c, made: d }) => {
                (a, b) == (c, d)
            }
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl<E> fmt::Display for CreateError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Creator(_) => f.write_str("the creator failed"),
            Self::Reentrant => f.write_str("the creator waits for the value that it is making"),
            Self::TimedOut => f.write_str("the wait for another's creation has lasted too long"),
            Self::LeaderPanicked => f.write_str("the creator that was waited for panicked, twice"),
            Self::NotCached => f.write_str("there is no value in the cache, and the policy makes none"),
            Self::NoLoader => f.write_str(
                "the cache has no loader of this kind: give its builder one (async_loader for load_async), or call get_or_create with a creator",
            ),
            Self::WrongCount { asked, made } => {
                write!(f, "the creator was asked for {asked} values and returned {made}")
            }
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for CreateError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Creator(error) => Some(&**error),
            _ => None,
        }
    }
}
