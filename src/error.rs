//! Errors: what went wrong, where, and what to do.
#![forbid(unsafe_code)]

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
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TwoLimits => "max_entries and max_weight are both set: a cache has one limit, drop one of them",
            Self::WeightWithoutWeigher => {
                "max_weight is set without a weigher: add weigher(|key, value| …), or use max_entries to count entries"
            }
            Self::WeigherWithoutWeight => "a weigher is set without max_weight: add max_weight(…), or drop the weigher",
        })
    }
}

impl std::error::Error for BuildError {}
