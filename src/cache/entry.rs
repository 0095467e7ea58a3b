//! An entry as a place that the gate guards.
//!
//! The claim is a counted pointer to the node that was found: a version, a remembered error, or a pending node that was put
//! in for the purpose. Its gate byte is the flag. A flight's value is published by compare-exchange of that very node, so
//! `insert`, `remove`, `clear` and eviction in between win, and the value is late: its callers get it, the cache does not.
#![forbid(unsafe_code)]

use super::Cache;
use crate::engine::{CLAIMED, CachedValue, Engine, Event, Handle, Made, NodeKind, Reclaim, Rest, TAKEN};
use crate::gate::{
    After, BUSY, ENDED, Failure, Flights, HELD, IDLE, Kind, Look, Moment, Place, Policy, Sight, TIRED,
    Usable, is_busy, is_due, see, was_held,
};
use crate::sync::{Arc, AtomicU8};
use crate::time::Instant;
use std::borrow::Borrow;
use std::hash::Hash;
use std::marker::PhantomData;
use std::time::Duration;

// The engine knows of the flag that it may not evict what is taken, and what HELD does to the second deadline.
const _: () = assert!(IDLE < TAKEN && HELD < TAKEN && TIRED < TAKEN && ENDED >= TAKEN);
const _: () = assert!(HELD == crate::engine::HELD);

/// What a node is to a caller.
pub(super) enum Standing {
    Fresh,
    /// Good enough to return, to some at least, and due. `from` as in [`Look::Usable`].
    Usable {
        from: Option<u8>,
        state: Usable,
    },
    Missing {
        from: Option<u8>,
    },
    Failed {
        from: Option<u8>,
    },
    /// On its way out.
    Leaving,
}

/// How long ago `deadline` was, if it is over.
pub(super) fn since(deadline: Instant, now: Instant) -> Option<Duration> {
    (deadline <= now).then(|| now.saturating_duration_since(deadline))
}

/// What a node is now, by a policy.
///
/// `now` is asked if it matters: the clock may be slow.
pub(super) fn judge<K, V>(
    node: &CachedValue<K, V>,
    policy: &Policy<V>,
    now: impl FnOnce() -> Instant,
) -> Standing {
    let flag = see(node.gate());
    if flag == CLAIMED || flag == ENDED {
        return Standing::Leaving;
    }
    let from = (!is_busy(flag)).then_some(flag);
    if node.kind() == NodeKind::Pending {
        return Standing::Missing { from };
    }
    if node.is_timeless() {
        return Standing::Fresh;
    }
    let now = now();
    match node.kind() {
        NodeKind::Pending => Standing::Missing { from },
        NodeKind::Error if now < node.idle() => Standing::Failed { from },
        NodeKind::Error => Standing::Missing { from },
        NodeKind::Value if !node.is_expired(now) => {
            let due = |early| is_due(early, now, node.expiry(), node.span(), node.cost());
            match policy.early.is_some_and(due) {
                // One failure is enough: it is tried again in time.
                true => Standing::Usable { from: from.filter(|flag| *flag == IDLE), state: Usable::Due },
                false => Standing::Fresh,
            }
        }
        NodeKind::Value => {
            let late = since(node.expiry(), now);
            let within = |span| late.is_some_and(|late| late < span) && !node.is_idle(now);
            if was_held(flag) && within(policy.stale_if_error) {
                Standing::Usable { from: from.filter(|_| node.idle() <= now), state: Usable::Held }
            } else if within(policy.stale()) {
                Standing::Usable { from, state: Usable::Stale }
            } else {
                Standing::Missing { from }
            }
        }
    }
}

/// The types of a cache's entries.
pub(super) struct Entries<K, V>(PhantomData<(K, V)>);

impl<K, V> Kind for Entries<K, V> {
    type Value = Handle<K, V>;
    type Made = V;
    type Claim = Handle<K, V>;
    type Rest = Rest<K, V>;
}

/// The entry of a key: what the creating methods work on.
pub(super) struct Entry<'c, K, V, R: Reclaim, Q: ?Sized> {
    pub(super) engine: &'c Engine<K, V, R>,
    pub(super) flights: &'c Flights<Handle<K, V>>,
    pub(super) policy: &'c Policy<V>,
    pub(super) hash: u64,
    pub(super) key: &'c Q,
    /// A fresh value is to be made anew, too.
    pub(super) force: bool,
}

impl<K, V, R: Reclaim, Q: ?Sized> Clone for Entry<'_, K, V, R, Q> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, V, R: Reclaim, Q: ?Sized> Copy for Entry<'_, K, V, R, Q> {}

impl<K, V, R, Q> Entry<'_, K, V, R, Q>
where
    K: Borrow<Q>,
    R: Reclaim,
    Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
{
    fn see(&self, claims: bool) -> Look<Handle<K, V>, Handle<K, V>> {
        let eq = |own: &K| own.borrow() == self.key;
        let claim = if claims {
            match self.engine.seek_or_pend(self.hash, eq, || self.key.to_owned(), BUSY) {
                (claim, true) => return Look::Led { claim },
                (claim, false) => claim,
            }
        } else {
            match self.engine.seek(self.hash, eq) {
                Some(held) => Handle::share(held.shared()),
                None => return Look::Nothing,
            }
        };
        match judge(claim.entry(), self.policy, || self.engine.lifetimes().now()) {
            Standing::Fresh | Standing::Usable { .. } if self.force => {
                let flag = see(claim.entry().gate());
                Look::Missing { claim, from: (!is_busy(flag) && flag < TAKEN).then_some(flag) }
            }
            Standing::Fresh => Look::Fresh(claim),
            Standing::Usable { from, state } => Look::Usable { value: claim.clone(), claim, from, state },
            Standing::Missing { from } => Look::Missing { claim, from },
            Standing::Failed { from } if self.force => Look::Missing { claim, from },
            Standing::Failed { from } => {
                let failure = claim.entry().failure().expect("N4: an error node has an error");
                Look::Failed { failure: Arc::clone(failure), claim, from }
            }
            Standing::Leaving => {
                // Whoever ended a flight may sleep before it has taken the node away.
                if see(claim.entry().gate()) == ENDED {
                    self.take_away(&claim);
                }
                Look::Again
            }
        }
    }

    fn take_away(&self, claim: &Handle<K, V>) {
        if claim.entry().kind() == NodeKind::Pending {
            self.engine.unpend(self.hash, claim);
        }
    }

    fn free_again(claim: &Handle<K, V>) -> After {
        match claim.entry().kind() {
            NodeKind::Pending => After { flag: ENDED, leaves: true },
            _ => After { flag: if was_held(see(claim.entry().gate())) { HELD } else { IDLE }, leaves: false },
        }
    }

    fn store(&self, claim: &Handle<K, V>, value: V, took: Duration) -> (Handle<K, V>, After, Rest<K, V>) {
        let keeps = self.policy.should_cache(&value);
        let made = Made { value, fresh: self.policy.fresh, cut: self.policy.cut(), took: Some(took) };
        let entry = self.engine.make(self.hash, self.key.to_owned(), made);
        if !keeps {
            return (Handle::new(entry), Self::free_again(claim), Rest::default());
        }
        let (handle, rest) = self.engine.publish(self.hash, claim, entry);
        (handle, After { flag: ENDED, leaves: false }, rest)
    }

    fn remember(&self, claim: &Handle<K, V>, failure: &Failure) -> (After, Rest<K, V>) {
        let after = |flag| (After { flag, leaves: false }, Rest::default());
        let node = claim.entry();
        let lifetimes = self.engine.lifetimes();
        let now = lifetimes.now();
        if node.kind() == NodeKind::Value && !node.is_idle(now) {
            match since(node.expiry(), now) {
                None if self.force => return (Self::free_again(claim), Rest::default()),
                None => return after(TIRED),
                Some(late) if late < self.policy.stale_if_error => {
                    // An entry that had no deadline when it was put in has no room for this: each caller tries again.
                    let is_held = node.set_idle(lifetimes.precise().saturating_add(self.policy.hold_back));
                    return if is_held { after(HELD) } else { (Self::free_again(claim), Rest::default()) };
                }
                Some(_) => {}
            }
        }
        // A value that others may still be served stands where the error would.
        if let Some(ttl) = self.policy.error_ttl
            && (node.kind() != NodeKind::Value || lifetimes.is_over(node, now))
        {
            let until = lifetimes.precise().saturating_add(ttl);
            if let Some(rest) =
                self.engine.publish_error(self.hash, claim, self.key.to_owned(), Arc::clone(failure), until)
            {
                return (After { flag: ENDED, leaves: false }, rest);
            }
        }
        (Self::free_again(claim), Rest::default())
    }

    fn note(&self, moment: Moment) {
        let event = match moment {
            Moment::Lead => Event::Lead,
            Moment::Wait => Event::Wait,
            Moment::TimedOut => Event::TimedOut,
            Moment::Created(took) => {
                let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
                self.engine.add(Event::CreationNanos, nanos);
                Event::Creation
            }
            Moment::Failed => Event::Failure,
            Moment::StaleServed => Event::StaleServed,
            Moment::HandedOver => Event::HandOver,
        };
        self.engine.count(event);
    }
}

impl<K, V, R, Q> Place<Entries<K, V>> for Entry<'_, K, V, R, Q>
where
    K: Borrow<Q>,
    R: Reclaim,
    Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
{
    fn flights(&self) -> &Flights<Handle<K, V>> {
        self.flights
    }
    fn flag<'a>(&'a self, claim: &'a Handle<K, V>) -> &'a AtomicU8 {
        claim.entry().gate()
    }
    fn is_current(&self, claim: &Handle<K, V>) -> bool {
        self.engine.holds(self.hash, claim)
    }
    fn publish(&self, claim: &Handle<K, V>, made: V, took: Duration) -> (Handle<K, V>, After, Rest<K, V>) {
        self.store(claim, made, took)
    }
    fn settle(&self, rest: Rest<K, V>) {
        self.engine.finish(rest);
    }
    fn failed(&self, claim: &Handle<K, V>, failure: &Failure) -> (After, Rest<K, V>) {
        self.remember(claim, failure)
    }
    fn released(&self, claim: &Handle<K, V>) -> After {
        Self::free_again(claim)
    }
    fn outdated(&self) -> u8 {
        ENDED
    }
    fn let_go(&self, claim: &Handle<K, V>) {
        self.take_away(claim);
    }
    fn now(&self) -> Instant {
        self.engine.lifetimes().precise()
    }
    fn count(&self, moment: Moment) {
        self.note(moment);
    }
}

impl<K, V, R, Q> Sight<Entries<K, V>> for Entry<'_, K, V, R, Q>
where
    K: Borrow<Q>,
    R: Reclaim,
    Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
{
    fn look(&self, claims: bool) -> Look<Handle<K, V>, Handle<K, V>> {
        self.see(claims)
    }
}

/// An entry that owns what it needs: for creations that outlive their caller.
pub(super) struct OwnEntry<K, V, S> {
    cache: Cache<K, V, S>,
    policy: Policy<V>,
    hash: u64,
    key: K,
    force: bool,
}

/// Shared by the caller and the background.
pub(super) struct Shared<K, V, S>(Arc<OwnEntry<K, V, S>>);

impl<K, V, S> Clone for Shared<K, V, S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Clone + Hash + Eq, V, S> Shared<K, V, S> {
    pub(super) fn new(cache: &Cache<K, V, S>, policy: &Policy<V>, hash: u64, key: K, force: bool) -> Self {
        Self(Arc::new(OwnEntry { cache: cache.clone(), policy: policy.clone(), hash, key, force }))
    }

    fn entry(&self) -> Entry<'_, K, V, crate::engine::Backend, K> {
        let own = &*self.0;
        Entry {
            engine: own.cache.engine(),
            flights: own.cache.flights(),
            policy: &own.policy,
            hash: own.hash,
            key: &own.key,
            force: own.force,
        }
    }

    pub(super) fn key(&self) -> &K {
        &self.0.key
    }
}

impl<K: Clone + Hash + Eq, V, S> Sight<Entries<K, V>> for Shared<K, V, S> {
    fn look(&self, claims: bool) -> Look<Handle<K, V>, Handle<K, V>> {
        self.entry().see(claims)
    }
}

impl<K: Clone + Hash + Eq, V, S> Place<Entries<K, V>> for Shared<K, V, S> {
    fn flights(&self) -> &Flights<Handle<K, V>> {
        self.0.cache.flights()
    }
    fn flag<'a>(&'a self, claim: &'a Handle<K, V>) -> &'a AtomicU8 {
        claim.entry().gate()
    }
    fn is_current(&self, claim: &Handle<K, V>) -> bool {
        self.entry().is_current(claim)
    }
    fn publish(&self, claim: &Handle<K, V>, made: V, took: Duration) -> (Handle<K, V>, After, Rest<K, V>) {
        self.entry().store(claim, made, took)
    }
    fn settle(&self, rest: Rest<K, V>) {
        self.entry().settle(rest);
    }
    fn failed(&self, claim: &Handle<K, V>, failure: &Failure) -> (After, Rest<K, V>) {
        self.entry().remember(claim, failure)
    }
    fn released(&self, claim: &Handle<K, V>) -> After {
        self.entry().released(claim)
    }
    fn outdated(&self) -> u8 {
        ENDED
    }
    fn let_go(&self, claim: &Handle<K, V>) {
        self.entry().take_away(claim);
    }
    fn now(&self) -> Instant {
        self.entry().now()
    }
    fn count(&self, moment: Moment) {
        self.entry().note(moment);
    }
}
