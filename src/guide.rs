//! Chapters: how to make values on demand, and how to come here from other caches.
#![forbid(unsafe_code)]

#[doc = include_str!("../docs/making-values.md")]
pub mod making_values {}

#[doc = include_str!("../docs/memoised.md")]
#[cfg(feature = "macros")]
pub mod memoised {}

#[doc = include_str!("../docs/from-moka.md")]
pub mod from_moka {}

#[doc = include_str!("../docs/from-quick-cache.md")]
pub mod from_quick_cache {}

#[doc = include_str!("../docs/from-cached.md")]
pub mod from_cached {}

#[doc = include_str!("../docs/single-flight.md")]
pub mod single_flight {}

#[doc = include_str!("../docs/regions.md")]
#[cfg(feature = "region")]
pub mod regions {}

#[doc = include_str!("../docs/codecs.md")]
#[cfg(feature = "region")]
pub mod codecs {}

#[doc = include_str!("../docs/envelope.md")]
#[cfg(feature = "region")]
pub mod envelope {}

#[doc = include_str!("../docs/configuration.md")]
#[cfg(feature = "region")]
pub mod configuration {}

#[doc = include_str!("../docs/from-dogpile-cache.md")]
#[cfg(feature = "region")]
pub mod from_dogpile_cache {}

#[doc = include_str!("../docs/from-cachetory.md")]
#[cfg(feature = "region")]
pub mod from_cachetory {}

#[doc = include_str!("../docs/oracle-table.md")]
#[cfg(feature = "region")]
pub mod oracle_table {}

#[doc = include_str!("../docs/shared-stores.md")]
#[cfg(feature = "region")]
pub mod shared_stores {}

#[doc = include_str!("../docs/distributed-lock.md")]
#[cfg(feature = "region")]
pub mod distributed_lock {}

#[doc = include_str!("../docs/sharing-with-python.md")]
#[cfg(all(feature = "redis", feature = "memcached"))]
pub mod sharing_with_python {}
