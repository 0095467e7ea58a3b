//! Readers finish whatever a writer was doing when it was stopped.
//!
//! Each test brings a shard into the state that a writer leaves which never runs again after the named store, and then
//! lets another thread go through every read there is.

use super::bucket::{Content, Meta, Table, frozen, moved, tag_of};
use super::{Index, ord};
use crate::engine::reclaim::{Backend, Reclaim};
use crate::engine::{Engine, Lifetimes, Limit, Mode};
use std::sync::mpsc;
use std::time::Duration;

type Map = Engine<u64, u64>;

/// Two bits of bucket, so that keys share buckets, and tags that collide.
fn hash(key: u64) -> u64 {
    (key % 4) << 30 | (key / 2 % 3)
}

fn filled(limit: Limit) -> Map {
    let engine =
        Map::new(limit, 1, 16, None, Lifetimes::new(None, None, None, None, std::time::Duration::ZERO), None);
    for key in 0..12 {
        engine.insert(hash(key), key, key * 10, None, None, Mode::Always { tell_old: false });
    }
    engine
}

/// Every read, on another thread. Fails if it does not come back.
fn readers_finish(engine: Map, at: &str) {
    let (done, finished) = mpsc::channel();
    std::thread::spawn(move || {
        for key in 0..12 {
            let found = engine.get(hash(key), |own| *own == key).map(|held| *held.get().value());
            assert_eq!(found, Some(key * 10), "get");
            assert!(engine.peek(hash(key), |own| *own == key).is_some(), "peek");
            let pin = Backend::pin();
            assert!(engine.get_in(hash(key), |own| *own == key, &pin).is_some(), "get_in");
            assert!(engine.look(hash(key), |own| *own == key, &pin).is_some(), "contains_key");
            engine.prefetch(&[hash(key)], &pin);
        }
        for key in 12..24 {
            assert!(engine.get(hash(key), |own| *own == key).is_none(), "a miss");
        }
        let (mut found, mut cursor) = (Vec::new(), 0);
        loop {
            cursor = engine.scan(0, cursor, &mut found);
            if cursor == 0 {
                break;
            }
        }
        let mut keys: Vec<u64> = found.iter().map(|handle| *handle.key()).collect();
        keys.sort_unstable();
        assert_eq!(keys, (0..12).collect::<Vec<_>>(), "iteration");
        assert_eq!((engine.entries(), engine.weight()), (12, 12));
        assert_eq!(engine.stats().misses, 12);
        done.send(()).expect("the test waits");
        // The shard is in a state that no running writer leaves it in: it can't be dropped.
        std::mem::forget(found);
        std::mem::forget(engine);
    });
    finished
        .recv_timeout(Duration::from_secs(30))
        .unwrap_or_else(|_| panic!("a reader waits, or failed, {at}"));
}

impl<K, V> Index<K, V, Backend> {
    /// An insert that stops when it has taken the lock bit.
    fn stop_in_insert(&self, hash: u64) {
        let pin = Backend::pin();
        let home = self.table(&pin).home(hash);
        let meta = Meta(home.meta.load(ord::META()));
        home.meta.store(meta.locked().0, ord::UNLOCK());
    }

    /// A migration of the bucket of `hash` that stops after so many stores.
    fn stop_in_migration(&self, hash: u64, mut stores: usize) -> bool {
        let pin = Backend::pin();
        let table = self.table(&pin);
        let next =
            Table::allocate(table.log2() + 1, Some(table.shared_generation())).expect("there is memory");
        table.header().next.store(next.pack(), ord::LINK());
        let home = table.home(hash);
        let meta = Meta(home.meta.load(ord::META()));
        let mut go = || {
            stores = stores.wrapping_sub(1);
            stores != usize::MAX
        };
        if !go() {
            return false;
        }
        home.meta.store(meta.locked().0, ord::UNLOCK());
        let mut used = [0; 2];
        for slot in &home.slots {
            if let Content::Live(node) = Content::of(slot.load(ord::READ())) {
                if !go() {
                    return false;
                }
                slot.store(frozen(node.as_ptr()), ord::PUBLISH());
                let hash = self.shared(node, &pin).hash();
                let side = next.index(hash.into()) & 1;
                let child = next.home(hash.into());
                if !go() {
                    return false;
                }
                child.slots[used[side]].store(node.as_ptr(), ord::PUBLISH());
                if !go() {
                    return false;
                }
                let tags = Meta(child.meta.load(ord::META())).with_tag(used[side], tag_of(hash.into()));
                child.meta.store(tags.0, ord::UNLOCK());
                used[side] += 1;
            }
            if !go() {
                return false;
            }
            slot.store(moved(), ord::LEAVE());
        }
        if !go() {
            return false;
        }
        home.meta.store(meta.migrated().0, ord::UNLOCK());
        true
    }
}

#[test]
fn readers_pass_a_writer_stopped_under_the_bucket_bit() {
    let engine = filled(Limit::None);
    for key in 0..4 {
        engine.shards[0].index.stop_in_insert(hash(key));
    }
    readers_finish(engine, "under the bucket bit");
}

#[test]
fn readers_pass_a_writer_stopped_anywhere_in_a_migration() {
    let mut stores = 0;
    loop {
        let engine = filled(Limit::None);
        let finished = engine.shards[0].index.stop_in_migration(hash(1), stores);
        readers_finish(engine, &format!("after {stores} stores of a migration"));
        if finished {
            break;
        }
        stores += 1;
    }
    assert!(stores > 10, "a bucket with entries was migrated");
}

#[test]
fn readers_pass_a_writer_stopped_with_the_policy_locked() {
    let engine = filled(Limit::Entries(12));
    std::mem::forget(engine.shards[0].policy.lock());
    readers_finish(engine, "with the policy locked");
}
