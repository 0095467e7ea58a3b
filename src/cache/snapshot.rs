//! Snapshots, for a warm restart.
#![forbid(unsafe_code)]

use super::{Cache, InsertOptions};
use crate::engine::Handle;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::time::Duration;

/// The fresh entries of a cache at about one moment, for serialisation: [`Cache::snapshot`].
///
/// A sequence of `(key, value, remaining)`, the hottest first; `remaining` is the time that the entry has left, or
/// none. Holds the entries, not copies of them.
pub struct Snapshot<K, V> {
    entries: Vec<(Handle<K, V>, Option<Duration>)>,
}

impl<K, V> Snapshot<K, V> {
    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<K, V> fmt::Debug for Snapshot<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<K: Serialize, V: Serialize> Serialize for Snapshot<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.entries.len()))?;
        for (handle, remaining) in &self.entries {
            seq.serialize_element(&(handle.key(), handle.value(), remaining))?;
        }
        seq.end()
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> Cache<K, V, S> {
    /// The fresh entries, to be serialised and [`restore`](Self::restore)d by a later process.
    ///
    /// # Consistency
    /// As [`iter`](Self::iter).
    ///
    /// ```
    /// use dogpile::Cache;
    ///
    /// let old = Cache::new(10);
    /// old.insert(String::from("key"), 5);
    /// let json = serde_json::to_string(&old.snapshot())?;
    ///
    /// let new = Cache::<String, i32>::new(10);
    /// assert_eq!(new.restore(&mut serde_json::Deserializer::from_str(&json))?, 1);
    /// assert_eq!(new.get_cloned("key"), Some(5));
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<K, V> {
        let now = self.clock().now();
        let mut entries: Vec<_> = self
            .hottest(usize::MAX)
            .into_iter()
            .map(|handle| {
                let remaining = handle.entry().expires_at().map(|at| at.saturating_duration_since(now));
                (handle, remaining)
            })
            .collect();
        entries.retain(|(_, remaining)| *remaining != Some(Duration::ZERO));
        Snapshot { entries }
    }

    /// Inserts what a snapshot holds, as it is read. Returns how many entries were stored.
    ///
    /// An entry keeps the time it had left; where it had none, the cache's own time to live begins. Keys that are already
    /// in the cache keep the value they have: it is newer.
    ///
    /// # Errors
    /// The deserializer's. What was read before the error is in the cache.
    pub fn restore<'de, D>(&self, deserializer: D) -> Result<usize, D::Error>
    where
        K: serde::Deserialize<'de>,
        V: serde::Deserialize<'de>,
        D: Deserializer<'de>,
    {
        deserializer.deserialize_seq(Restore { cache: self, entry: PhantomData })
    }
}

struct Restore<'c, K, V, S> {
    cache: &'c Cache<K, V, S>,
    entry: PhantomData<(K, V)>,
}

impl<'de, K, V, S> Visitor<'de> for Restore<'_, K, V, S>
where
    K: serde::Deserialize<'de> + Eq + Hash,
    V: serde::Deserialize<'de>,
    S: BuildHasher,
{
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a snapshot of a cache: a sequence of (key, value, remaining time)")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<usize, A::Error> {
        let mut stored = 0;
        while let Some((key, value, remaining)) = seq.next_element::<(K, V, Option<Duration>)>()? {
            let mut options = InsertOptions::new();
            options.ttl = remaining;
            stored += usize::from(self.cache.insert_if_absent_with(key, value, options).is_stored());
        }
        Ok(stored)
    }
}
