//! A lock-free, sharded, bounded in-process cache, and the dogpile lock: when a value is missing or stale exactly one caller
//! makes it; the others get the stale value at once, or wait for the new one where there is none.
//!
//! # First use
//!
//! ```
//! use dogpile::Cache;
//!
//! let pages = Cache::new(10_000);
//! pages.insert(String::from("/"), String::from("<h1>hello</h1>"));
//! if let Some(page) = pages.get("/") {
//!     assert!(page.starts_with("<h1>"));
//! }
//! ```
//!
//! Values made on demand: of all threads and tasks that want the page at once, one makes it.
//!
//! ```
//! let pages = dogpile::Cache::<String, String>::new(10_000);
//! let page = pages.get_or_create("/", || String::from("<h1>made</h1>"));
//! assert_eq!(*page, "<h1>made</h1>");
//! ```
//!
//! A [`Cache`] is shared by cloning it, or by reference. Keys are looked up in borrowed form (`&str` for `String`).
//!
//! # Choosing
//!
//! | you want | you use |
//! |---|---|
//! | at most so many entries | [`Cache::new`], [`CacheBuilder::max_entries`] |
//! | at most so much weight (bytes, say) | [`CacheBuilder::max_weight`] and [`weigher`](CacheBuilder::weigher) |
//! | no limit | [`Cache::unbounded`] |
//! | to read a value here and now | [`Cache::get`]: a borrow, no reference counted |
//! | to keep it for long, to send it elsewhere | [`Cache::get_handle`]: a [`Handle`], counted |
//! | many keys at once | [`Cache::pin`] with [`get_in`](Cache::get_in) or [`get_multi`](Cache::get_multi) |
//! | read, decide, write as one step | [`Cache::compute`], [`insert_if_absent`](Cache::insert_if_absent), [`remove_if`](Cache::remove_if) |
//! | values made on demand, by a closure or a future at the call | [`Cache::get_or_create`], [`try_get_or_create`](Cache::try_get_or_create), [`get_or_create_async`](Cache::get_or_create_async), [`get_or_create_multi`](Cache::get_or_create_multi) |
//! | the same, by a function told once | [`CacheBuilder::loader`], [`Cache::load`], [`Cache::refresh`] |
//! | functions that remember what they returned | `#[cached]` (feature `macros`) |
//! | stale values while new ones are made, limits to waiting, early refresh, remembered errors | [`Policy`] |
//! | the dogpile lock without the cache | [`gate::Gate`] |
//! | text keys over a choice of stores, tags, invalidation, settings by URL: dogpile.cache | `Region`, `AsyncRegion` (feature `region`) |
//! | the same for several processes, over Redis, memcached, a folder; memory in front | `backend::RedisBackend`, `MemcachedBackend`, `FileBackend`, `TieredBackend` (features `redis`, `memcached`, `file`) |
//! | entries that expire | [`time_to_live`](CacheBuilder::time_to_live), [`time_to_idle`](CacheBuilder::time_to_idle), [`expire_after`](CacheBuilder::expire_after), [`InsertOptions::ttl`], [`Cache::expire_in`] |
//! | to know what left and why | [`CacheBuilder::listener`] |
//! | a warm restart | `Cache::snapshot`, `Cache::restore` (feature `serde`) |
//!
//! # Consistency
//!
//! Operations on one key are linearizable. Different keys, and [`Cache::clear`] over several shards, are not one moment;
//! iteration is weakly consistent. A bounded cache keeps to its limit whenever no write is under way; during writes it is
//! over it by those at most, or by a victim that a sleeping thread was just moving, until the next write. Filled with exactly its capacity it evicts nothing.
//!
//! # Expiry
//!
//! At exactly its deadline an entry has expired: `get`, `peek`, `contains_key` and iteration do not see it any more. The
//! default clock has a grain of 1 to 4 ms; deadlines are early by up to one grain, and late only if the
//! kernel's tick itself is (a virtual machine that stands still). Expired entries are swept
//! out by later writes to their shard, or by [`Cache::run_pending`]; until then [`Cache::len`] counts them. The clock is a
//! trait, with a [manual one](time::ManualClock) for tests.
//!
//! # Staleness
//!
//! A [`Policy`] says how long values are fresh, and for how long after that they may be served while one caller makes new
//! ones. [`guide::making_values`] is the chapter on it: who gets what, and what becomes of failures, panics, dropped futures,
//! slow creators and invalidation in between. [`guide::single_flight`] compares that with other caches.
//!
//! # Coming from another cache
//!
//! [`guide::from_moka`], [`guide::from_quick_cache`], [`guide::from_cached`]. With the feature `region`, from Python:
//! `guide::from_dogpile_cache`, `guide::from_cachetory`, and `guide::oracle_table`, which compares them call by call. Stores that
//! processes share are in `guide::shared_stores`, `guide::distributed_lock` and `guide::sharing_with_python`.
//!
//! # Examples
//!
//! Programs that run and assert, by `cargo run --all-features --example NAME`:
//!
//! | name | shows |
//! |---|---|
//! | `tour` | every public method of `Cache` |
//! | `bounded_cache` | weights, times to live, a listener, a clock moved by hand |
//! | `guard_a_file` | the lock alone, around a file |
//! | `memoise`, `memoise_async` | `#[cached]` |
//! | `region_from_url` | regions by URL, and what is wrong with one |
//! | `tags` | hard and soft invalidation by tag, prefix, key; `explain` |
//! | `own_backend` | a folder as a store, checked by the conformance suite, with a scheme of its own |
//! | `own_codec`, `copying_codec` | a format of one's own; hits that are copies |
//! | `proxy` | what stands between a region and its backend |
//! | `fragments` | parts of pages, cached from within templates |
//! | `tiered` | memory before a store that processes share: files, or the server that is its argument |
//!
//! # Errors
//!
//! Reading and writing a cache cannot fail; making values can, see [`CreateError`]. A value that can't be kept comes back to its caller. [`CacheBuilder::build`] and
//! [`PolicyBuilder::build`](gate::PolicyBuilder::build) return an error for settings that contradict each other.
//!
//! # Features
//!
//! | feature | gives | needs |
//! |---|---|---|
//! | (none) | everything but the below | |
//! | `serde` | `Cache::snapshot`, `Cache::restore` | serde |
//! | `macros` | `#[cached]`: memoised functions | syn, quote, proc-macro2 and humantime, while compiling |
//! | `tokio` | `gate::Tokio`: background creations and timers on a tokio runtime | tokio (rt, time) |
//! | `region` | `Region`, `AsyncRegion`, backends, codecs, configuration | serde, codecs, url: 107 crates in all |
//! | `redis`, `redis-tls` | `RedisBackend`: Redis and Valkey, one server, sentinels, a cluster; over TLS | `region`, redis, smol; rustls |
//! | `memcached` | `MemcachedBackend` | `region`, memcache |
//! | `file` | `FileBackend`: a folder that processes share | `region` |
//! | `conformance` | `backend::conformance`: the contract of backends as tests | `region` |
//!
//! # Limitations
//!
//! std only. On Linux the default clock is the kernel's coarse one; elsewhere the precise one. Memory that was taken out is
//! freed by later writes, at the end of their calls, never by readers: an idle cache keeps a little of it until
//! [`Cache::run_pending`]. A live [`Pinned`] keeps all of it. After `fork` without `exec` a child must not use a cache that
//! another thread of the parent was writing to. Nor may it make values by a region over Redis or memcached that its parent has
//! used: leases are renewed, waiters woken and messages heard by threads that a child doesn't have.
//!
//! # Cost
//!
//! A read: one hash, two dependent loads, no lock, no allocation, no locked instruction and, where the system has membarrier
//! (Linux), no fence.
//! Statistics included: they are counted in memory of the thread's own. A write: one allocation; a new key in a bounded
//! cache also takes its shard's policy mutex. `ARCHITECTURE.md` has the figures and the commands that print them.

#[cfg(feature = "region")]
pub mod backend;
mod cache;
#[cfg(feature = "region")]
pub mod codec;
mod engine;
mod error;
pub mod gate;
pub mod guide;
mod hash;
#[cfg(feature = "macros")]
mod memoised;
#[cfg(feature = "region")]
pub mod region;
mod sync;
pub mod time;

#[cfg(feature = "serde")]
pub use cache::Snapshot;
pub use cache::{
    Batch, Cache, CacheBuilder, Compute, EntryState, Explanation, InsertOptions, Inserted, Iter, LedBy,
    Pinned, Ref, With,
};
#[cfg(feature = "macros")]
#[doc = include_str!("../docs/cached.md")]
pub use dogpile_macros::cached;
pub use engine::{CachedValue, Handle, RemovalCause, Stats};
pub use error::{BuildError, CreateError, Error, ErrorKind, LoadError, PolicyError};
pub use gate::{Early, Freshness, Policy, RegionPolicy};
pub use hash::RandomState;
#[cfg(feature = "region")]
pub use region::{AsyncRegion, Region};
pub use time::CoarseClock;

/// For what `#[cached]` expands to.
#[cfg(feature = "macros")]
#[doc(hidden)]
pub mod __macros {
    pub use crate::memoised::*;
}

#[cfg(dogpile_loom)]
#[doc(hidden)]
pub mod __model {
    pub use crate::cache::model::{Creating, Grain, Key};
    pub use crate::engine::model::{Engine, Guard, Limbo, Pool, Put};
    pub use crate::sync::with_shortcuts;
}

#[cfg(all(fuzzing, feature = "region"))]
#[doc(hidden)]
pub mod __codec {
    pub use crate::codec::door::{decode, encode, forge};
}
