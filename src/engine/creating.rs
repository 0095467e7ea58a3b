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
use super::{
    CachedValue, Draft, Engine, Handle, Held, Located, MOST_SWEPT, Reclaim, RemovalCause, Rest, SWEEP,
    Settling, Terms,
};
use crate::time::Instant;
use std::time::Duration;

/// A value that was made, and what its entry shall be.
pub(crate) struct Made<V> {
    pub(crate) value: V,
    /// The usual time to live, where neither the value's own nor the cache's is to be used.
    pub(crate) fresh: Option<Duration>,
    /// The part of the time to live that is cut off.
    pub(crate) cut: f64,
    /// How long that took.
    pub(crate) took: Option<Duration>,
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
        let mut pending = Draft::pending(hash, key(), gate);
        loop {
            match index.locate(hash, &eq, &pin) {
                Located::Occupied(entry) => return (Handle::share(entry.node()), false),
                Located::Vacant(vacant) => match vacant.insert(pending, 0) {
                    Ok(node) => return (Handle::share(node), true),
                    Err(back) => pending = back,
                },
                Located::Busy => unreachable!("a search that may wait is not turned away"),
            }
        }
    }

    /// Whether the claim's node is still in the index.
    pub(crate) fn holds(&self, hash: u64, claim: &Handle<K, V>) -> bool {
        let pin = R::pin();
        matches!(self.shard(hash).index.locate_version(claim, &pin), Located::Occupied(_))
    }

    /// An entry that is in no index. Runs the weigher and `expire_after`.
    pub(crate) fn make(&self, hash: u64, key: K, made: Made<V>) -> Draft<K, V> {
        let Made { value, fresh, cut, took } = made;
        let weight = self.weigh(&key, &value, None);
        let span = self.lifetimes.span(&key, &value, fresh).map(|span| match span {
            // Of a time without end no part can be cut off; and a product of fractions is not exact.
            Duration::MAX => span,
            _ if cut == 0.0 => span,
            _ => Duration::try_from_secs_f64(span.as_secs_f64() * (1.0 - cut)).unwrap_or(span),
        });
        let terms = Terms { took, ..self.lifetimes.terms(weight, span) };
        Draft::new(hash, key, value, &terms)
    }

    /// Puts an entry in the place of the claim's node, if it is still there, and if the entry is not heavier than the whole
    /// cache. Returns it in any case, and what [`finish`](Self::finish) is to do.
    pub(crate) fn publish(
        &self,
        hash: u64,
        claim: &Handle<K, V>,
        entry: Draft<K, V>,
    ) -> (Handle<K, V>, Rest<K, V>) {
        if !self.fits(&entry) {
            // The value it had is out of date, even if the new one can't be kept.
            let (_, rest) = self.take_version(self.number(hash), claim, self.cause_of(claim));
            self.count(Event::Refused);
            return (Handle::new(entry), rest);
        }
        match self.put_in_place(hash, claim, entry) {
            (Ok(handle), rest) => (handle, rest),
            (Err(entry), rest) => {
                self.count(Event::RefusedLateWrite);
                (Handle::new(entry), rest)
            }
        }
    }

    /// Why the claim's node goes when something newer comes.
    fn cause_of(&self, claim: &Handle<K, V>) -> RemovalCause {
        let is_live = claim.entry().kind() == NodeKind::Value && self.is_live(claim.entry());
        if is_live { RemovalCause::Replaced } else { RemovalCause::Expired }
    }

    /// Takes a pending node out. No user code runs: this may be part of unwinding.
    pub(crate) fn unpend(&self, hash: u64, claim: &Handle<K, V>) {
        // The rest is for the next write: nobody is told of a node without a value.
        drop(self.take_version(self.number(hash), claim, RemovalCause::Removed));
    }

    /// Remembers until `until` that making the key's value failed, in the place of the claim's node. `None`: it is not
    /// remembered. Otherwise what `finish` is to do.
    pub(crate) fn publish_error(
        &self,
        hash: u64,
        claim: &Handle<K, V>,
        key: K,
        failure: Failure,
        until: Instant,
    ) -> Option<Rest<K, V>> {
        if self.pool.as_ref().is_some_and(|pool| pool.capacity() == 0) {
            return None;
        }
        let error = Draft::error(hash, key, failure, until);
        let (put, rest) = self.put_in_place(hash, claim, error);
        put.is_ok().then_some(rest)
    }

    fn put_in_place(
        &self,
        hash: u64,
        claim: &Handle<K, V>,
        mut entry: Draft<K, V>,
    ) -> (Result<Handle<K, V>, Draft<K, V>>, Rest<K, V>) {
        let i = self.number(hash);
        let mut settling = Settling::new(self);
        let stored = {
            let pin = R::pin();
            if !entry.is_timeless() {
                self.note_deadline();
            }
            let now = self.time();
            let cause = self.cause_of(claim);
            let stored = loop {
                match self.shards[i].index.locate_version(claim, &pin) {
                    Located::Occupied(old) => match old.replace(entry, self.shards[i].now()) {
                        Ok((unlinked, newer)) => {
                            let kind = unlinked.kind();
                            settling.note(i, unlinked, cause, &pin);
                            let handle = Handle::share(newer);
                            self.replaced(hash, kind, newer, now, &pin, &mut settling);
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
        (stored, settling.into_rest())
    }
}
