//! [`Inspection`]: what the store has for a key, whatever its type, and who makes it anew.
#![forbid(unsafe_code)]

use super::core::{Core, Face, Found, Why};
use super::explain::KeyState;
use crate::backend::LockInfo;
use crate::codec::Envelope;
use crate::error::Error;
use crate::sync::Arc;
use std::fmt;
use std::time::Duration;

/// What the store has for a key, whatever its type: [`Region::inspect`](crate::Region::inspect). For people and tools.
///
/// A moment's answer; entry and lock are looked at one after the other. `Debug` shows neither value nor tags.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Inspection {
    /// The key as the store has it: with the region's prefix, mangled.
    pub key: String,
    /// What the store is called.
    pub backend: &'static str,
    /// What the entry is to this region, by its policy and its invalidations; not whether it is of some type.
    pub state: KeyState,
    /// What the entry is, if there is one.
    pub entry: Option<InspectedEntry>,
    /// Whether somebody makes the key's value: in this process, or by the store's lock.
    pub is_locked: bool,
    /// The store's lock, if it is held and the store tells of its locks.
    pub lock: Option<LockInfo>,
}

/// An entry as it is stored.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct InspectedEntry {
    /// What stands around its bytes. `None`: it is an object of this process.
    pub envelope: Option<Envelope>,
    /// How many bytes it has in the store, in an envelope.
    pub bytes: Option<usize>,
    /// When its value was made, since 1970.
    pub created: Option<Duration>,
    /// How old it is.
    pub age: Option<Duration>,
    /// Its own time to live, if it has one.
    pub ttl: Option<Duration>,
    /// How long its value took to make.
    pub cost: Option<Duration>,
    /// Its tags.
    pub tags: Vec<String>,
    payload: Option<Vec<u8>>,
}

impl InspectedEntry {
    /// The value as the codec's format has it, decompressed: of JSON its text. `None`: it can't be read, or is an object.
    #[must_use]
    pub fn payload(&self) -> Option<&[u8]> {
        self.payload.as_deref()
    }
}

impl fmt::Debug for InspectedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InspectedEntry")
            .field("envelope", &self.envelope)
            .field("bytes", &self.bytes)
            .field("age", &self.age)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspection")
            .field("backend", &self.backend)
            .field("state", &self.state)
            .field("entry", &self.entry)
            .field("is_locked", &self.is_locked)
            .finish_non_exhaustive()
    }
}

impl Core {
    pub(crate) async fn inspect(&self, face: Face, key: &str) -> Result<Inspection, Error> {
        let is_locked = self.is_locked(face, key).await?;
        let key = self.key(key).into_owned();
        let stored = self.get(face, &key).await?;
        let (mut state, mut entry) = (KeyState::Absent, None);
        if let Some(stored) = &stored {
            let bytes = stored.bytes();
            let item = self.look_at(&key, stored);
            let found = match (&item, bytes.map(|bytes| self.codec.decode_meta(&key, bytes))) {
                (Some(item), _) => self.judge(&key, Arc::clone(item), None),
                (None, Some(Err(why))) => Found::nothing(Why::Undecodable(why)),
                (None, _) => Found::nothing(Why::OtherType),
            };
            state = KeyState::of(&found);
            let meta = item.as_ref().map(|item| item.meta.clone()).unwrap_or_default();
            let age = item.map(|item| item.age_at(self.clock.precise()));
            entry = Some(InspectedEntry {
                envelope: bytes.map(|_| self.codec.has_envelope()),
                bytes: bytes.map(<[u8]>::len),
                created: meta.created.map(Duration::from_nanos),
                age: age.filter(|_| meta.created.is_some()),
                ttl: meta.ttl,
                cost: meta.cost,
                tags: meta.tags,
                payload: bytes.and_then(|bytes| self.codec.decode_payload(&key, bytes).ok()),
            });
        }
        let locks = match face {
            _ if !is_locked => None,
            Face::Threads => self.blocking.as_ref().map_or(Ok(None), |backend| backend.locks(&key))?,
            Face::Tasks => self.awaiting.locks(&key).await?,
        };
        let lock = locks.into_iter().flatten().find(|lock| lock.key == key);
        Ok(Inspection { key, backend: self.actual.1.name(), state, entry, is_locked, lock })
    }
}
