//! How much of a bounded cache's capacity each shard may use.
//!
//! Keys spread unevenly over shards, so a fixed share of each would evict before the cache is full. Instead a shard
//! *leases* budget from a common pool, a sixteenth of its fair share at a time; when the pool is empty it takes what
//! others leased and don't use; only when there is none of that either must it evict (H12).
//!
//! # Invariants
//! - **W1, conserved.** `free` and all budgets sum up to the capacity; both change only under `transfer`.
//! - **W2, slack is known.** A shard that uses less than its budget has its bit in `slack` set, or a thread that is
//!   about to set it. So with an empty pool and no bits the cache is full.
//! - **W3, nothing in transit.** A transfer adds before it takes away, so a look without the lock sees every unit at
//!   least once.
//!
//! # Orderings
//! Twice two sides each write and then look at what the other writes, and sequential consistency lets at least one see the
//! other: a shard that raises its use and looks at its budget, and a transfer that lowers the budget and looks at the use
//! (E3); a shard that lowers its use and looks whether its bit is set, or its budget larger, and a transfer that takes
//! the bit, or adds to the budget, and looks at the use (W2). The use is `COUNT` and `USE` of `table/bucket`.
//!
//! | name     | where                          | pairs with      | carries                                            |
//! |----------|--------------------------------|-----------------|----------------------------------------------------|
//! | `MOVE`   | fetch-add, -sub of a budget    | `COUNT`         | nothing: it comes before the look at the use       |
//! | `BUDGET` | a shard's load of its budget   | `MOVE`          | nothing: it comes after the change of the use      |
//! | `MARK`   | fetch-or, -and of `slack`      | `COUNT`         | nothing: taken, it comes before the look at the use |
//! | `SLACK`  | load of `slack`                | `MARK`          | nothing: it comes after the change of the use      |
//! | `LEASED` | fetch-sub, store of `free`     | `FREE`          | the bit of a shard that got more than it needs (W3) |
//! | `FREE`   | load of `free` without the lock| `LEASED`        | the same                                           |
//!
//! What is `Relaxed` is read and written under `transfer` (W1).
//!
//! # Cost
//! An insert into a shard with budget: one load. Into a full cache: seven loads more. A transfer: a lock, taken about
//! sixteen times while a shard fills, and then whenever removals and insertions wander between shards.

#![forbid(unsafe_code)]

use crate::sync::{AtomicI64, AtomicU64, Mutex, Ordering, lock, orderings};
use crossbeam_utils::CachePadded;

orderings! {
    pool: MOVE = SeqCst, BUDGET = SeqCst, MARK = SeqCst, SLACK = SeqCst, LEASED = Release, FREE = Acquire
}

/// The greatest number of shards: the bits of `slack`. Models make do with a word of them.
pub(crate) const MOST_SHARDS: usize = if cfg!(dogpile_loom) { 64 } else { 256 };

pub(crate) struct Pool {
    capacity: AtomicU64,
    free: AtomicI64,
    slack: [AtomicU64; MOST_SHARDS / 64],
    transfer: Mutex<()>,
    budgets: Box<[CachePadded<AtomicI64>]>,
}

/// What one shard may use.
#[derive(Clone, Copy)]
pub(crate) struct Account<'p>(&'p AtomicI64);

impl Account<'_> {
    #[inline]
    pub(crate) fn budget(self) -> u64 {
        self.0.load(ord::BUDGET()).max(0) as u64
    }
}

/// Capacities beyond this are this: sums of budgets must not overflow.
const GREATEST: u64 = i64::MAX as u64 / 4;

impl Pool {
    pub(crate) fn new(capacity: u64, shards: usize) -> Self {
        Self {
            capacity: AtomicU64::new(capacity),
            free: AtomicI64::new(capacity.min(GREATEST) as i64),
            slack: std::array::from_fn(|_| AtomicU64::new(0)),
            transfer: Mutex::new(()),
            budgets: (0..shards).map(|_| CachePadded::new(AtomicI64::new(0))).collect(),
        }
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    /// Whether there is nothing to be had: no free unit, and no shard that uses less than its budget.
    #[inline]
    fn is_full(&self) -> bool {
        let slack = || self.slack.iter().fold(0, |bits, word| bits | word.load(ord::SLACK()));
        self.free.load(ord::FREE()) <= 0 && slack() == 0
    }

    /// What shard `i` may use now.
    #[inline]
    pub(crate) fn budget(&self, i: usize) -> u64 {
        self.account(i).budget()
    }

    #[inline]
    pub(crate) fn account(&self, i: usize) -> Account<'_> {
        Account(&self.budgets[i])
    }

    /// Brings the budget of shard `i` up to what it uses, if there is any to be had. `used` tells any shard's use.
    #[inline(always)]
    pub(crate) fn lease(&self, i: usize, used: impl Fn(usize) -> u64) -> bool {
        match self.is_full() {
            // What the pool had may be this shard's by now.
            true => self.budget(i) >= used(i),
            false => self.lease_indeed(i, used),
        }
    }

    #[cold]
    #[inline(never)]
    fn lease_indeed(&self, i: usize, used: impl Fn(usize) -> u64) -> bool {
        let _transfer = lock(&self.transfer);
        let lacking = || used(i) as i64 - self.budgets[i].load(Ordering::Relaxed);
        loop {
            let need = lacking();
            if need <= 0 {
                // A removal that came before the units did left its slack to be found.
                self.note_slack(i, used(i));
                return true;
            }
            let free = self.free.load(Ordering::Relaxed);
            if free > 0 {
                let chunk = self.capacity().min(GREATEST) as i64 / (self.budgets.len() as i64 * 16);
                let taken = chunk.max(need).min(free);
                self.budgets[i].fetch_add(taken, ord::MOVE());
                self.note_slack(i, used(i));
                self.free.fetch_sub(taken, ord::LEASED());
                continue;
            }
            let Some(other) = self.with_slack().next() else { return false };
            if other != i {
                self.take(other, need, &used, |units| {
                    self.budgets[i].fetch_add(units, ord::MOVE());
                });
            }
            // Only where nothing is left, so that a look without the lock never misses what is.
            if used(other) >= self.budget(other) {
                self.slack[other / 64].fetch_and(!(1 << (other % 64)), ord::MARK());
                // Whoever lowered its use before the bit went relied on the bit (W2).
                self.note_slack(other, used(other));
            }
        }
    }

    /// Takes up to `wanted` units that shard `from` doesn't use, after `add` has put them elsewhere.
    fn take(&self, from: usize, wanted: i64, used: impl Fn(usize) -> u64, add: impl Fn(i64)) {
        let idle = self.budgets[from].load(Ordering::Relaxed) - used(from) as i64;
        let units = idle.min(wanted);
        if units <= 0 {
            return;
        }
        add(units);
        let left = self.budgets[from].fetch_sub(units, ord::MOVE()) - units;
        // An insert that looked at the budget just before: give back what it needs.
        let back = (used(from) as i64 - left).clamp(0, units);
        if back > 0 {
            self.budgets[from].fetch_add(back, ord::MOVE());
            add(-back);
        }
    }

    fn with_slack(&self) -> impl Iterator<Item = usize> {
        let bits: [u64; MOST_SHARDS / 64] = std::array::from_fn(|i| self.slack[i].load(ord::SLACK()));
        (0..self.budgets.len()).filter(move |i| bits[i / 64] >> (i % 64) & 1 == 1)
    }

    #[cold]
    fn set_slack(&self, i: usize) {
        let (word, bit) = (&self.slack[i / 64], 1 << (i % 64));
        if word.load(ord::SLACK()) & bit == 0 {
            word.fetch_or(bit, ord::MARK());
        }
    }

    /// Shard `i` lowered its use to `used`.
    #[inline]
    pub(crate) fn note_slack(&self, i: usize, used: u64) {
        if used < self.budget(i) {
            self.set_slack(i);
        }
    }

    /// Changes the capacity. Shards that use more than their budget afterwards must evict.
    pub(crate) fn resize(&self, capacity: u64, used: impl Fn(usize) -> u64) {
        let _transfer = lock(&self.transfer);
        let old = self.capacity.swap(capacity, Ordering::Relaxed).min(GREATEST) as i64;
        let mut missing = old - capacity.min(GREATEST) as i64 - self.free.load(Ordering::Relaxed);
        if missing <= 0 {
            self.free.store(-missing, ord::LEASED());
            return;
        }
        self.free.store(0, ord::LEASED());
        for (i, budget) in self.budgets.iter().enumerate() {
            let idle = (budget.load(Ordering::Relaxed) - used(i) as i64).clamp(0, missing);
            budget.fetch_sub(idle, ord::MOVE());
            missing -= idle;
        }
        // The rest in proportion, rounded up, so that it comes together.
        let leased: i128 = self.budgets.iter().map(|budget| i128::from(budget.load(Ordering::Relaxed))).sum();
        let total = i128::from(missing);
        for budget in &self.budgets {
            let own = budget.load(Ordering::Relaxed);
            let share = (i128::from(own) * total + (leased - 1).max(0)) / leased.max(1);
            let cut = (share as i64).min(missing).min(own);
            budget.fetch_sub(cut, ord::MOVE());
            missing -= cut;
        }
        debug_assert_eq!(missing, 0, "W1");
    }

    /// W1, for tests: what is leased and what is free.
    #[cfg(any(test, fuzzing, dogpile_loom))]
    pub(crate) fn sum(&self) -> i64 {
        let _transfer = lock(&self.transfer);
        let leased: i64 = self.budgets.iter().map(|budget| budget.load(Ordering::Relaxed)).sum();
        leased + self.free.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn exactly_the_capacity_can_be_used_however_it_spreads() {
        for (capacity, shards) in [(1, 1), (64, 4), (1000, 8), (4096, 4), (10, 16)] {
            let pool = Pool::new(capacity, shards);
            let used = RefCell::new(vec![0_u64; shards]);
            // The most uneven spread: one shard takes nearly all.
            for unit in 0..capacity {
                let i = if unit % 7 == 0 { unit as usize % shards } else { shards - 1 };
                used.borrow_mut()[i] += 1;
                let fits = pool.budget(i) >= used.borrow()[i] || pool.lease(i, |j| used.borrow()[j]);
                assert!(fits, "unit {unit} of {capacity} in {shards} shards");
                assert_eq!(pool.sum(), capacity as i64, "W1");
            }
            used.borrow_mut()[0] += 1;
            assert!(!pool.lease(0, |j| used.borrow()[j]), "one more than the capacity does not fit");
            used.borrow_mut()[0] -= 1;
            let last = shards - 1;
            if used.borrow()[last] > 0 {
                used.borrow_mut()[last] -= 1;
                pool.note_slack(last, used.borrow()[last]);
                used.borrow_mut()[0] += 1;
                assert!(pool.lease(0, |j| used.borrow()[j]), "what another shard gave up is found");
            }
        }
    }

    #[test]
    fn resizing_conserves_units() {
        let pool = Pool::new(1000, 4);
        let used = [400, 300, 200, 100];
        (0..4).for_each(|i| assert!(pool.lease(i, |j| used[j])));
        for capacity in [10, 1, 0, 5000, u64::MAX, 999, 1000] {
            pool.resize(capacity, |j| used[j]);
            assert_eq!(pool.sum(), capacity.min(GREATEST) as i64, "W1 at {capacity}");
        }
    }
}
