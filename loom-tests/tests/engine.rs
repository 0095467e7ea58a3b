//! Counting, weighing, eviction and budgets: I8, H3, H12, E1 to E3, W1 to W3.
#![cfg(dogpile_loom)]

use dogpile_loom_tests::{Census, Payload, Pool, Still, check, done, go, hash};
use loom::sync::atomic::{AtomicI64, Ordering};
use std::sync::Arc;

/// Keys of shard 0, told apart by tag.
const fn key(i: u64) -> u64 {
    hash(0, i, 0)
}

/// H3: an entry is counted before it can be removed: the count never wraps.
#[test]
fn h3_the_count_never_wraps() {
    check("h3_the_count_never_wraps", None, || {
        let census = Census::new();
        let engine = Arc::new(Still::unbounded(0));
        let remover = go(&engine, move |engine| {
            let removed = engine.remove(key(1), 1).is_some();
            assert!(engine.entries() <= 1);
            removed
        });
        engine.insert(key(1), 1, census.value(1));
        let removed = done(remover);
        assert_eq!(engine.entries(), u64::from(!removed));
        engine.validate();
    });
}

/// H3: two inserts into a full cache evict two entries, and not one more.
#[test]
fn h3_as_many_go_as_came() {
    check("h3_as_many_go_as_came", Some(2), || {
        let census = Census::new();
        let engine = Arc::new(Still::bounded(1, 1));
        engine.insert(key(0), 0, census.value(0));
        let value = census.value(1);
        let rival = go(&engine, move |engine| {
            engine.insert(key(1), 1, value);
        });
        engine.insert(key(2), 2, census.value(2));
        done(rival);
        assert_eq!((engine.entries(), engine.evicted()), (1, 2));
        engine.validate();
    });
}

/// E1: an entry that is replaced while the evictor holds its token can still be evicted.
#[test]
fn e1_eviction_and_a_replacement() {
    check("e1_eviction_and_a_replacement", Some(3), || {
        let census = Census::new();
        let engine = Arc::new(Still::bounded(1, 1));
        engine.insert(key(0), 0, census.value(0));
        let value = census.value(1);
        let evictor = go(&engine, move |engine| {
            engine.insert(key(1), 1, value);
        });
        engine.insert(key(0), 0, census.value(2));
        done(evictor);
        assert_eq!(engine.entries(), 1);
        engine.validate();
        engine.insert(key(2), 2, census.value(3));
        assert_eq!(engine.entries(), 1);
        engine.validate();
    });
}

/// E1: the same with a removal besides.
#[test]
fn e1_eviction_a_replacement_and_a_removal() {
    check("e1_eviction_a_replacement_and_a_removal", Some(2), || {
        let census = Census::new();
        let engine = Arc::new(Still::bounded(1, 1));
        engine.insert(key(0), 0, census.value(0));
        let values = [1, 2].map(|number| census.value(number));
        let [first, second] = values;
        let evictor = go(&engine, move |engine| {
            engine.insert(key(1), 1, first);
        });
        let replacer = go(&engine, move |engine| {
            engine.insert(key(0), 0, second);
        });
        engine.remove(key(0), 0);
        done(evictor);
        done(replacer);
        engine.validate();
    });
}

/// E2: after a clear no token of what it took away is taken for that of a key that came back.
#[test]
fn e2_clear_and_a_key_that_comes_back() {
    check("e2_clear_and_a_key_that_comes_back", Some(2), || {
        let census = Census::new();
        let engine = Arc::new(Still::bounded(2, 1));
        let value = census.value(1);
        let rival = go(&engine, move |engine| {
            engine.insert(key(1), 1, value);
        });
        engine.clear();
        engine.insert(key(1), 1, census.value(2));
        done(rival);
        engine.validate();
    });
}

/// I8: whoever wins, the weight is that of what is there.
#[test]
fn i8_replacements_and_a_removal() {
    check("i8_replacements_and_a_removal", Some(2), || {
        let census = Census::new();
        let engine = Arc::new(Still::weighed(100, |value: &Payload| value.read() as u32));
        engine.insert(key(1), 1, census.value(5));
        let lighter = census.value(3);
        let rival = go(&engine, move |engine| {
            engine.insert(key(1), 1, lighter);
        });
        engine.insert(key(1), 1, census.value(7));
        engine.remove(key(1), 1);
        done(rival);
        let weight: u64 = engine.scan().iter().map(|value| value.read()).sum();
        assert_eq!(engine.weight(), weight);
        engine.validate();
    });
}

/// H12: as many entries as the cache has room for fit, however they spread over the shards.
#[test]
fn h12_exactly_the_capacity_fits() {
    check("h12_exactly_the_capacity_fits", Some(2), || {
        let census = Census::new();
        let engine = Arc::new(Still::bounded(2, 2));
        // Both units of the budget are leased to the other shard, which does not use them.
        for i in 1..=2 {
            engine.insert(key(i), i, census.value(i));
        }
        for i in 1..=2 {
            engine.remove(key(i), i);
        }
        let value = census.value(3);
        let rival = go(&engine, move |engine| {
            engine.insert(key(3), 3, value);
        });
        engine.insert(hash(0, 4, 1), 4, census.value(4));
        done(rival);
        assert_eq!((engine.entries(), engine.evicted()), (2, 0));
        engine.validate();
    });
}

/// E3: two inserts into two shards that fight for the last unit: one entry gives way, and no shard is left over its
/// budget.
#[test]
fn e3_two_shards_and_one_unit() {
    check("e3_two_shards_and_one_unit", Some(2), || {
        let census = Census::new();
        let engine = Arc::new(Still::bounded(1, 2));
        engine.insert(key(1), 1, census.value(1));
        engine.remove(key(1), 1);
        let value = census.value(3);
        let rival = go(&engine, move |engine| {
            engine.insert(key(3), 3, value);
        });
        engine.insert(hash(0, 4, 1), 4, census.value(4));
        done(rival);
        assert!(engine.entries() <= 1, "bounded at rest");
        engine.validate();
    });
}

/// A pool, and what its shards use.
struct Uses {
    pool: Pool,
    used: [AtomicI64; 2],
}

impl Uses {
    fn new(capacity: u64) -> Self {
        Self { pool: Pool::new(capacity, 2), used: [0, 0].map(AtomicI64::new) }
    }

    fn used(&self, shard: usize) -> u64 {
        self.used[shard].load(Ordering::SeqCst) as u64
    }

    fn lease(&self, shard: usize) -> bool {
        self.pool.lease(shard, |shard| self.used(shard))
    }

    /// Uses one unit more, if there is one.
    fn raise(&self, shard: usize) -> bool {
        self.used[shard].fetch_add(1, Ordering::SeqCst);
        let fits = self.used(shard) <= self.pool.budget(shard) || self.lease(shard);
        if !fits {
            self.lower(shard);
        }
        fits
    }

    fn lower(&self, shard: usize) {
        self.used[shard].fetch_sub(1, Ordering::SeqCst);
        self.pool.note_slack(shard, self.used(shard));
    }

    fn validate(&self, capacity: i64) {
        assert_eq!(self.pool.sum(), capacity, "W1: budgets and pool sum up to the capacity");
        for shard in 0..2 {
            assert!(
                self.used(shard) <= self.pool.budget(shard),
                "E3: shard {shard} uses more than its budget"
            );
        }
    }
}

/// H12, W3: two shards that lease the last two units both get one.
#[test]
fn h12_the_last_units_of_a_pool() {
    check("h12_the_last_units_of_a_pool", None, || {
        let uses = Arc::new(Uses::new(2));
        let rival = go(&uses, |uses| uses.raise(0));
        assert!(uses.raise(1) & done(rival), "there is room for both");
        uses.validate(2);
    });
}

/// W3: who finds nothing free, since another shard has just leased the last units, finds what that one does not need.
#[test]
fn w3_the_rest_of_a_lease() {
    check("w3_the_rest_of_a_lease", None, || {
        // So many that two are leased at a time.
        let uses = Arc::new(Uses::new(64));
        uses.used[0].store(62, Ordering::SeqCst);
        assert!(uses.lease(0), "all at once, so that nothing is left over");
        let rival = go(&uses, |uses| uses.raise(0));
        assert!(uses.raise(1) & done(rival), "there is room for both");
        uses.validate(64);
    });
}

/// W2: what a shard gives up, while another takes the rest of its slack and the mark with it, is found the next time.
#[test]
fn w2_slack_is_found() {
    check("w2_slack_is_found", None, || {
        let uses = Arc::new(Uses::new(2));
        assert!(uses.raise(0) && uses.raise(0));
        uses.lower(0);
        let giver = go(&uses, |uses| uses.lower(0));
        assert!(uses.raise(1), "there was slack before");
        done(giver);
        uses.validate(2);
        assert!(uses.raise(1), "with slack left, the cache is not full");
        uses.validate(2);
    });
}

/// E3: a unit that is taken from a shard which begins to use it goes back.
#[test]
fn e3_a_unit_that_two_shards_want() {
    check("e3_a_unit_that_two_shards_want", None, || {
        let uses = Arc::new(Uses::new(1));
        assert!(uses.raise(0));
        uses.lower(0);
        let rival = go(&uses, |uses| uses.raise(0));
        let raised = uses.raise(1);
        assert!(!(raised && done(rival)), "one unit serves one");
        uses.validate(1);
    });
}
