//! The door of `loom-tests` to the creating methods. Only in builds with `--cfg dogpile_loom`.
//!
//! A `Cache` has the backend of its build, into which loom does not see. So this one is put together from the same parts
//! over the models' backend, and each method drives the shipped [`Entry`] as the method of its name does.
#![forbid(unsafe_code)]
#![expect(missing_docs, missing_debug_implementations, reason = "for the models only")]

use super::entry::Entry;
use crate::engine::reclaim::Modelled;
use crate::engine::{Engine, Handle, Lifetimes, Limit, Mode, Reclaim};
use crate::error::CreateError;
use crate::gate::{Alarm, Borrowed, Flights, Order, Policy, block_on, drive, drive_many, is_busy, see};
use crate::sync::Arc;
use crate::time::Clock;
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

/// Numbers for keys. `ENDS`: grace periods end.
pub struct Creating<V, const ENDS: bool> {
    engine: Engine<u64, V, Modelled<ENDS>>,
    flights: Flights<Handle<u64, V>>,
}

impl<V, const ENDS: bool> Creating<V, ENDS> {
    /// One shard. `entries`: none for an unbounded one. `keep`: how long expired entries stay.
    pub fn new(entries: Option<u64>, clock: impl Clock + 'static, keep: Duration) -> Self {
        let limit = entries.map_or(Limit::None, Limit::Entries);
        let lifetimes = Lifetimes::new(Some(Box::new(clock)), None, None, None, keep);
        // One bucket: which of several a flag would have depends on its address, and so would the model.
        Self { engine: Engine::new(limit, 1, 0, None, lifetimes, None), flights: Flights::new(1) }
    }

    fn entry<'c>(
        &'c self,
        at: &'c Key,
        policy: &'c Policy<V>,
        force: bool,
    ) -> Entry<'c, u64, V, Modelled<ENDS>, u64> {
        Entry { engine: &self.engine, flights: &self.flights, policy, hash: at.hash, key: &at.key, force }
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
        let entry = self.entry(&at, policy, force);
        let make = pin!(async move { creator() });
        let mut creator = Borrowed(make);
        block_on(|parker| {
            let parker = Arc::clone(parker);
            drive(entry, Order::of(policy), &mut creator, move |span| Alarm::after(&parker, span))
        })
    }

    pub async fn get_or_create_async<E: Send + Sync + 'static>(
        &self,
        at: Key,
        policy: &Policy<V>,
        creator: impl Future<Output = Result<V, E>>,
    ) -> Result<Handle<u64, V>, CreateError<E>> {
        let creator = pin!(creator);
        let entry = self.entry(&at, policy, false);
        drive(entry, Order::of(policy), &mut Borrowed(creator), |span| policy.timer.sleep(span)).await
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
            let entries: Vec<_> = keys.iter().map(|at| self.entry(at, policy, false)).collect();
            let found = &mut found;
            let order = Order::of(policy);
            async move { drive_many(&entries, order, found, make, move |span| Alarm::after(&parker, span)).await }
        })?;
        Ok(found.into_iter().map(|found| found.expect("every key was found or made")).collect())
    }

    pub fn insert(&self, at: Key, value: V, time_to_live: Option<Duration>) {
        drop(self.engine.insert(
            at.hash,
            at.key,
            value,
            time_to_live,
            None,
            Mode::Always { tell_old: false },
        ));
    }

    pub fn get(&self, at: Key) -> Option<Handle<u64, V>> {
        let pin = Modelled::<ENDS>::pin();
        self.engine.get_in(at.hash, |own| *own == at.key, &pin).map(Handle::share)
    }

    pub fn remove(&self, at: Key) -> Option<Handle<u64, V>> {
        self.engine.remove_if(at.hash, |own| *own == at.key, |_| true)
    }

    pub fn clear(&self) {
        self.engine.clear();
    }

    pub fn run_pending(&self) {
        self.engine.run_pending();
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

    pub fn stats(&self) -> crate::engine::Stats {
        self.engine.stats()
    }

    pub fn validate(&self) {
        self.engine.validate();
    }
}
