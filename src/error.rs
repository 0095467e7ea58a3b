//! Errors: what went wrong, where, and what to do.
#![forbid(unsafe_code)]

use crate::sync::Arc;
use std::borrow::Cow;
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
    /// The backend failed, and the region may not do without it; or it can't have such values at all.
    Backend(Error),
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
            Self::Backend(error) => Self::Backend(error.clone()),
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
            (Self::Backend(a), Self::Backend(b)) => a.kind() == b.kind(),
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
            Self::Backend(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for CreateError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Creator(error) => Some(&**error),
            Self::Backend(error) => error.source(),
            _ => None,
        }
    }
}

/// What kind of thing went wrong with a region, a backend or a codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The region was used before it was configured.
    NotConfigured,
    /// The region has been configured before, and `replace_existing_backend` was not given.
    AlreadyConfigured,
    /// A setting is unknown, malformed, missing, or contradicts another one. The message names it.
    Config,
    /// No backend is registered under that name.
    UnknownBackend,
    /// The store can't be reached, or refused.
    Unavailable,
    /// The store did not answer in time.
    Timeout,
    /// The store is full, or the value is larger than it takes.
    Full,
    /// The value could not be turned into bytes.
    Encode,
    /// Bytes could not be turned into a value. Regions treat such bytes as missing.
    Decode,
    /// The backend can't take values of this type.
    WrongType,
    /// The store can't have such a key.
    Key,
    /// The operation makes no sense on this backend.
    Unsupported,
}

impl ErrorKind {
    fn text(self) -> &'static str {
        match self {
            Self::NotConfigured => "not configured",
            Self::AlreadyConfigured => "configured already",
            Self::Config => "bad configuration",
            Self::UnknownBackend => "unknown backend",
            Self::Unavailable => "the store is not available",
            Self::Timeout => "the store did not answer in time",
            Self::Full => "the store is full",
            Self::Encode => "the value can't be encoded",
            Self::Decode => "the bytes can't be decoded",
            Self::WrongType => "values of this type can't be stored here",
            Self::Key => "the store can't have such a key",
            Self::Unsupported => "not supported",
        }
    }
}

/// What went wrong with a region, a backend or a codec: the operation, the kind, and the cause.
///
/// Cheap to clone: all who wait for one creation share its error. Its messages show no values and no secrets; those who
/// write backends keep it so.
///
/// ```
/// use dogpile::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Unavailable, "disk GET").because(std::io::Error::other("no spindle"));
/// assert_eq!(error.kind(), ErrorKind::Unavailable);
/// assert_eq!(error.to_string(), "disk GET: the store is not available");
/// assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "no spindle");
/// assert!(error.is_transient());
/// ```
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

struct Inner {
    kind: ErrorKind,
    operation: Cow<'static, str>,
    detail: Option<Cow<'static, str>>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

const _: () = assert!(size_of::<Error>() == size_of::<usize>());

impl Error {
    /// An error of a kind, in an operation: "redis GET", "region `users`".
    #[must_use]
    pub fn new(kind: ErrorKind, operation: impl Into<Cow<'static, str>>) -> Self {
        Self { inner: Arc::new(Inner { kind, operation: operation.into(), detail: None, source: None }) }
    }

    fn with(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::try_unwrap(self.inner).unwrap_or_else(|shared| Inner {
            kind: shared.kind,
            operation: shared.operation.clone(),
            detail: shared.detail.clone(),
            source: shared.source.clone(),
        });
        change(&mut inner);
        Self { inner: Arc::new(inner) }
    }

    /// The same, with what exactly is wrong, and what to do about it.
    #[must_use]
    pub fn detail(self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.with(|inner| inner.detail = Some(detail.into()))
    }

    /// The same, with its cause.
    #[must_use]
    pub fn because(self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source: Box<dyn std::error::Error + Send + Sync> = source.into();
        self.with(|inner| inner.source = Some(Arc::from(source)))
    }

    /// What kind of thing went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Whether the same call could succeed later with nothing changed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Full)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.inner.operation, self.inner.kind.text())?;
        match &self.inner.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut error = f.debug_struct("Error");
        error.field("kind", &self.inner.kind).field("message", &self.to_string());
        if let Some(source) = &self.inner.source {
            error.field("source", source);
        }
        error.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}
