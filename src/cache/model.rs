//! The door of `loom-tests` to the creating methods. Only in builds with `--cfg dogpile_loom`.
//!
//! A `Cache` has the backend of its build, into which loom does not see. So this one is put together from the same parts
//! over the models' backend, and each method drives the shipped [`Entry`] as the method of its name does.
#![forbid(unsafe_code)]
#![expect(missing_docs, missing_debug_implementations, reason = "for the models only")]

use super::entry::{Entries, Entry};
use crate::engine::reclaim::Modelled;
use crate::engine::{Engine, Handle, Lifetimes, Limit, Mode, Reclaim, Rest, Stats};
use crate::error::CreateError;
use crate::gate::{
    After, Alarm, Borrowed, Failure, Flights, Look, Moment, Order, Outcome, Place, Policy, Sight, block_on,
    drive, drive_many, is_busy, see,
};
use crate::sync::{Arc, AtomicU8, Mutex, lock};
use crate::time::{Clock, Instant};
use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

/// A key, with a hash of the caller's choice.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub hash: u64,
    pub key: u64,
}

/// How the operations of the index are explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// Each access of theirs is a step of its own.
    Fine,
    /// One operation after another: they have models of their own.
    Whole,
}

/// The lock that operations on the index are done under, if they are done one after another.
struct Steps(Option<Mutex<()>>);

impl Steps {
    fn step<T>(&self, step: impl FnOnce() -> T) -> T {
        let _one = self.0.as_ref().map(lock);
        step()
    }
}

/// Numbers for keys. `ENDS`: grace periods end.
pub struct Creating<V, const ENDS: bool> {
    engine: Engine<u64, V, Modelled<ENDS>>,
    flights: Flights<Handle<u64, V>>,
    steps: Steps,
}

impl<V, const ENDS: bool> Creating<V, ENDS> {
    /// One shard. `entries`: none for an unbounded one. `keep`: how long expired entries stay.
    pub fn new(entries: Option<u64>, clock: impl Clock + 'static, keep: Duration, grain: Grain) -> Self {
        let limit = entries.map_or(Limit::None, Limit::Entries);
        let lifetimes = Lifetimes::new(Some(Box::new(clock)), None, None, None, keep);
        let engine = Engine::new(limit, 1, 0, None, lifetimes, None);
        // One bucket: which of several a flag would have depends on its address, and so would the model.
        let steps = Steps((grain == Grain::Whole).then(|| Mutex::new(())));
        Self { engine, flights: Flights::new(1), steps }
    }

    fn spot<'c>(&'c self, at: &'c Key, policy: &'c Policy<V>, force: bool) -> Spot<'c, V, ENDS> {
        let (engine, flights) = (&self.engine, &self.flights);
        let entry = Entry { engine, flights, policy, hash: at.hash, key: &at.key, force };
        Spot { entry, steps: &self.steps }
    }

    pub fn get_or_create<E: Send + Sync + 'static>(
        &self,
        at: Key,
        policy: &Policy<V>,
        creator: impl FnOnce() -> Result<V, E>,
    ) -> Result<Handle<u64, V>, CreateError<E>> {
        self.blocking(at, policy, false, creator)
    }

    /// As `get_or_create`, fresh or not.
    pub fn refresh<E: Send + Sync + 'static>(
        &self,
        at: Key,
        policy: &Policy<V>,
        creator: impl FnOnce() -> Result<V, E>,
    ) -> Result<Handle<u64, V>, CreateError<E>> {
        self.blocking(at, policy, true, creator)
    }

    fn blocking<E: Send + Sync + 'static>(
        &self,
        at: Key,
        policy: &Policy<V>,
        force: bool,
        creator: impl FnOnce() -> Result<V, E>,
    ) -> Result<Handle<u64, V>, CreateError<E>> {
        let spot = self.spot(&at, policy, force);
        let make = pin!(Some(async move { creator() }));
        let mut creator = Borrowed::new(make);
        block_on(|parker| {
            let parker = Arc::clone(parker);
            drive(spot, Order::of(policy), &mut creator, move |span| Alarm::after(&parker, span))
        })
    }

    pub async fn get_or_create_async<E: Send + Sync + 'static>(
        &self,
        at: Key,
        policy: &Policy<V>,
        creator: impl Future<Output = Result<V, E>>,
    ) -> Result<Handle<u64, V>, CreateError<E>> {
        let creator = pin!(Some(creator));
        let spot = self.spot(&at, policy, false);
        drive(spot, Order::of(policy), &mut Borrowed::new(creator), |span| policy.timer.sleep(span)).await
    }

    pub fn get_or_create_multi<E: Send + Sync + 'static>(
        &self,
        keys: &[Key],
        policy: &Policy<V>,
        creator: impl FnMut(&[Key]) -> Result<Vec<V>, E>,
    ) -> Result<Vec<Handle<u64, V>>, CreateError<E>> {
        let mut found = vec![None; keys.len()];
        let creator = RefCell::new(creator);
        let make = |asked: Vec<usize>| {
            let asked: Vec<Key> = asked.into_iter().map(|i| keys[i]).collect();
            let creator = &creator;
            async move { (creator.borrow_mut())(&asked) }
        };
        block_on(|parker| {
            let parker = Arc::clone(parker);
            let spots: Vec<_> = keys.iter().map(|at| self.spot(at, policy, false)).collect();
            let found = &mut found;
            let order = Order::of(policy);
            async move { drive_many(&spots, order, found, make, move |span| Alarm::after(&parker, span)).await }
        })?;
        Ok(found.into_iter().map(|found| found.expect("every key was found or made")).collect())
    }

    pub fn insert(&self, at: Key, value: V, time_to_live: Option<Duration>) {
        let put = || match time_to_live {
            None => self.engine.put(at.hash, at.key, value),
            span => {
                Some(self.engine.insert(at.hash, at.key, value, span, None, Mode::Always { tell_old: false }))
            }
        };
        if let Some((_, Some((old, newer)))) = self.steps.step(put) {
            self.flights.overtake(old.entry().gate(), || Outcome::Value(newer));
        }
    }

    pub fn get(&self, at: Key) -> Option<Handle<u64, V>> {
        let pin = Modelled::<ENDS>::pin();
        self.steps.step(|| self.engine.get_in(at.hash, |own| *own == at.key, &pin).map(Handle::share))
    }

    pub fn remove(&self, at: Key) -> Option<Handle<u64, V>> {
        self.steps.step(|| self.engine.remove_if(at.hash, |own| *own == at.key, |_| true))
    }

    pub fn clear(&self) {
        self.steps.step(|| self.engine.clear());
    }

    pub fn run_pending(&self) {
        self.steps.step(|| self.engine.run_pending());
    }

    /// Whether somebody makes a value for the key.
    pub fn key_is_locked(&self, at: Key) -> bool {
        let held = self.engine.seek(at.hash, |own| *own == at.key);
        held.is_some_and(|held| is_busy(see(held.get().gate())))
    }

    /// Whether anything is there under the key: a value, fresh or not, an error, or what stands for a creation.
    pub fn has_node(&self, at: Key) -> bool {
        self.engine.seek(at.hash, |own| *own == at.key).is_some()
    }

    pub fn entries(&self) -> u64 {
        self.engine.entries()
    }

    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    pub fn validate(&self) {
        self.engine.validate();
    }
}

/// The shipped entry.
struct Spot<'c, V, const ENDS: bool> {
    entry: Entry<'c, u64, V, Modelled<ENDS>, u64>,
    steps: &'c Steps,
}

impl<V, const ENDS: bool> Clone for Spot<'_, V, ENDS> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<V, const ENDS: bool> Copy for Spot<'_, V, ENDS> {}

type Claim<V> = Handle<u64, V>;

impl<V, const ENDS: bool> Place<Entries<u64, V>> for Spot<'_, V, ENDS> {
    fn flights(&self) -> &Flights<Handle<u64, V>> {
        self.entry.flights()
    }
    fn flag<'a>(&'a self, claim: &'a Claim<V>) -> &'a AtomicU8 {
        self.entry.flag(claim)
    }
    fn is_current(&self, claim: &Claim<V>) -> bool {
        self.steps.step(|| self.entry.is_current(claim))
    }
    fn publish(&self, claim: &Claim<V>, made: V, took: Duration) -> (Handle<u64, V>, After, Rest<u64, V>) {
        self.steps.step(|| self.entry.publish(claim, made, took))
    }
    fn settle(&self, rest: Rest<u64, V>) {
        self.steps.step(|| self.entry.settle(rest));
    }
    fn failed(&self, claim: &Claim<V>, failure: &Failure) -> (After, Rest<u64, V>) {
        self.steps.step(|| self.entry.failed(claim, failure))
    }
    fn released(&self, claim: &Claim<V>) -> After {
        self.entry.released(claim)
    }
    fn outdated(&self) -> u8 {
        self.entry.outdated()
    }
    fn let_go(&self, claim: &Claim<V>) {
        self.steps.step(|| self.entry.let_go(claim));
    }
    fn now(&self) -> Instant {
        self.entry.now()
    }
    fn count(&self, moment: Moment) {
        self.entry.count(moment);
    }
}

impl<V, const ENDS: bool> Sight<Entries<u64, V>> for Spot<'_, V, ENDS> {
    fn look(&self, claims: bool) -> Look<Handle<u64, V>, Handle<u64, V>> {
        self.steps.step(|| self.entry.look(claims))
    }
}
