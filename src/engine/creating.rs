//! What a creation does to the index: a node to lead on, the value's publication, what stays of a failure.
//!
//! `absent -> pending -> value | error | absent`, and `version -> newer version | error`.
//!
//! A *claim* is a counted pointer to the node that a creation began with: a pending one that was put in for it, or the
//! version that it replaces. It leaves the slot only by compare-exchange of that very node, so whatever is written,
//! removed or cleared meanwhile wins, and the creation's value is *late*: it goes to its callers and not to the index.
//! The claim's count keeps its address from being used again, so there is no ABA; and migration moves nodes without
//! touching them, so a claim survives growth.
//!
//! Who leads is not decided here: see `gate`.
#![forbid(unsafe_code)]

use super::stats::Event;
use super::table::{Failure, NodeKind};
use super::{CachedValue, Engine, Handle, Held, Located, MOST_SWEPT, Reclaim, RemovalCause, SWEEP, Settling};
use crate::time::Instant;
use std::time::Duration;

/// A value that was made, and what its entry shall be.
pub(crate) struct Made<V> {
    pub(crate) value: V,
    /// The usual time to live, where neither the value's own nor the cache's is to be used.
    pub(crate) fresh: Option<Duration>,
    /// The part of the time to live that is cut off.
    pub(crate) cut: f64,
    /// How long it took, encoded.
    pub(crate) cost: u16,
}

/// What became of it.
pub(crate) enum Published<K, V> {
    Stored(Handle<K, V>),
    /// The entry was written, removed or cleared meanwhile.
    Late(Handle<K, V>),
    /// It is heavier than the whole cache.
    Refused(Handle<K, V>),
}

impl<K, V, R: Reclaim> Engine<K, V, R> {
    /// The node of a key, whatever it holds and however old it is.
    pub(crate) fn seek(&self, hash: u64, eq: impl Fn(&K) -> bool) -> Option<Held<'_, CachedValue<K, V>>> {
        self.shard(hash).index.hold(hash, eq)
    }

    /// The same, counted. Where there is none a pending node is put in, with that gate byte; true: it is this one.
    pub(crate) fn seek_or_pend(
        &self,
        hash: u64,
        eq: impl Fn(&K) -> bool,
        key: impl FnOnce() -> K,
        gate: u8,
    ) -> (Handle<K, V>, bool) {
        let pin = R::pin();
        let index = &self.shard(hash).index;
        if let Some(node) = index.find(hash, &eq, &pin) {
            return (Handle::share(node), false);
        }
        let mut pending = Box::new(CachedValue::pending(hash, key(), gate));
        loop {
            match index.locate(hash, &eq, &pin) {
                Located::Occupied(entry) => return (Handle::share(entry.node()), false),
                Located::Vacant(vacant) => match vacant.insert(pending) {
                    Ok(node) => return (Handle::share(node), true),
                    Err(back) => pending = back,
                },
                Located::Busy => unreachable!("a search that may wait is not turned away"),
            }
        }
    }

    /// Whether the claim's node is still in the index.
    pub(crate) fn holds(&self, claim: &Handle<K, V>) -> bool {
        let pin = R::pin();
        matches!(self.shard(claim.entry().hash()).index.locate_version(claim, &pin), Located::Occupied(_))
    }

    /// An entry that is in no index. Runs the weigher and `expire_after`.
    pub(crate) fn make(&self, hash: u64, key: K, made: Made<V>) -> Box<CachedValue<K, V>> {
        let Made { value, fresh, cut, cost } = made;
        let weight = self.weigh(&key, &value, None);
        let expiry = match self.lifetimes.span(&key, &value, fresh) {
            Some(span) if cut > 0.0 => {
                // Of a time without end no part can be cut off.
                let kept = Duration::try_from_secs_f64(span.as_secs_f64() * (1.0 - cut)).unwrap_or(span);
                self.lifetimes.deadline(if span == Duration::MAX { span } else { kept })
            }
            Some(span) => self.lifetimes.deadline(span),
            None => Instant::FAR_FUTURE,
        };
        Box::new(CachedValue::new(hash, key, value, weight, expiry, self.lifetimes.idle()).with_cost(cost))
    }

    /// Puts an entry in the place of the claim's node, if it is still there.
    pub(crate) fn publish(&self, claim: &Handle<K, V>, entry: Box<CachedValue<K, V>>) -> Published<K, V> {
        if !self.fits(&entry) {
            // The value it had is out of date, even if the new one can't be kept.
            self.remove_version(claim, RemovalCause::Replaced);
            self.count(Event::Refused);
            return Published::Refused(Handle::new(entry));
        }
        match self.put_in_place(claim, entry) {
            Ok(handle) => Published::Stored(handle),
            Err(entry) => {
                self.count(Event::RefusedLateWrite);
                Published::Late(Handle::new(entry))
            }
        }
    }

    /// Remembers until `until` that making the key's value failed, in the place of the claim's node.
    pub(crate) fn publish_error(
        &self,
        claim: &Handle<K, V>,
        key: K,
        failure: Failure,
        until: Instant,
    ) -> bool {
        if self.pool.as_ref().is_some_and(|pool| pool.capacity() == 0) {
            return false;
        }
        self.put_in_place(claim, Box::new(CachedValue::error(claim.entry().hash(), key, failure, until)))
            .is_ok()
    }

    fn put_in_place(
        &self,
        claim: &Handle<K, V>,
        mut entry: Box<CachedValue<K, V>>,
    ) -> Result<Handle<K, V>, Box<CachedValue<K, V>>> {
        let hash = claim.entry().hash();
        let i = self.number(hash);
        let mut settling = Settling::new(self);
        let stored = {
            let pin = R::pin();
            if !entry.is_timeless() {
                self.note_deadline();
            }
            let now = self.time();
            let expired = claim.entry().kind() != NodeKind::Value || !self.is_live(claim.entry());
            let cause = if expired { RemovalCause::Expired } else { RemovalCause::Replaced };
            let stored = loop {
                match self.shards[i].index.locate_version(claim, &pin) {
                    Located::Occupied(old) => match old.replace(entry) {
                        Ok((unlinked, newer)) => {
                            let first = unlinked.kind() == NodeKind::Pending;
                            settling.note(i, unlinked, cause, &pin);
                            let handle = Handle::share(newer);
                            self.replaced(i, first, newer, now, &pin, &mut settling);
                            break Ok(handle);
                        }
                        Err(back) => {
                            entry = back;
                            self.note_slack(i, &pin);
                        }
                    },
                    _ => break Err(entry),
                }
            };
            self.sweep(i, SWEEP, MOST_SWEPT, now, &pin, &mut settling);
            stored
        };
        settling.finish();
        stored
    }
}
