//! `set`, `set_with`, `set_multi`, `delete`, `delete_multi`, `expire_in`, `expire_at`, `clear`, `len`.

use super::stores::{Store, during, each};
use super::{FRESH, SECOND, fresh};
use crate::common::{crowd, message};
use dogpile::region::{GetOptions, How, InvalidationStrategy, Scope, SetOptions};
use dogpile::{Cache, ErrorKind, Region, RegionPolicy};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn set_overwrites() {
    each(|setup| {
        let region = setup.region();
        region.set("key", 1_u32);
        region.set("key", 2_u32);
        assert_eq!(region.get("key"), Some(2));
        assert_eq!(region.calls(), (1, 2));
    });
}

#[test]
fn set_with_has_its_own_time_to_live() {
    each(|setup| {
        let region = setup.by(fresh());
        assert!(region.set_with("short", 1, SetOptions::new().ttl(SECOND)));
        assert!(region.set_with("long", 2, SetOptions::new().ttl(2 * FRESH)));
        assert!(region.set_with("ever", 3, SetOptions::new().ttl(Duration::MAX)));
        assert!(region.set_with("over", 4, SetOptions::new().ttl(Duration::ZERO)));
        let all = ["short", "long", "ever", "over"];
        assert_eq!(region.get_multi(&all), [Some(1), Some(2), Some(3), None], "zero is over at once");
        region.pass(SECOND);
        assert_eq!(region.get_multi(&all), [None, Some(2), Some(3), None]);
        region.pass(2 * FRESH);
        assert_eq!(region.get_multi(&all), [None, None, Some(3), None]);
    });
}

#[test]
fn if_absent_refuses_what_is_there() {
    each(|setup| {
        let region = setup.by(fresh());
        let once = || SetOptions::new().if_absent();
        assert!(region.set_with("key", 1, once()));
        assert!(!region.set_with("key", 2, once()));
        assert_eq!(region.get("key"), Some(1));
        region.delete("key");
        assert!(region.set_with("key", 3, once()));
        assert_eq!(region.get("key"), Some(3));
    });
}

/// cachetory's memory refuses there.
#[test]
fn if_absent_does_not_mind_what_has_expired_or_is_invalid() {
    each(|setup| {
        let region = setup.by(fresh());
        let once = || SetOptions::new().if_absent();
        region.set("key", 1_u32);
        region.pass(FRESH);
        assert!(region.set_with("key", 2, once()), "stale");
        assert_eq!(region.get("key"), Some(2));
        for how in [How::Soft, How::Hard] {
            region.invalidate(Scope::Region, how);
            assert!(region.set_with("key", 3, once()), "{how:?}");
            assert_eq!(region.get("key"), Some(3));
        }
        assert!(region.set_with("own", 1, SetOptions::new().ttl(SECOND)));
        region.pass(SECOND);
        assert!(region.set_with("own", 2, once()), "its own time is over");
    });
}

/// Of many at once one is put in.
#[test]
fn if_absent_lets_one_of_many_in() {
    each(|setup| {
        let region = setup.region();
        for round in 0..20 {
            let key = round.to_string();
            let put: usize = std::thread::scope(|scope| {
                let one = |i| {
                    let (region, key) = (&region, &key);
                    scope.spawn(move || region.set_with(key, i, SetOptions::new().if_absent()))
                };
                let all: Vec<_> = (0..4).map(one).collect();
                all.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
            });
            assert_eq!(put, 1);
        }
    });
}

#[test]
fn set_multi_sets_all_in_one_call() {
    each(|setup| {
        let region = setup.by(fresh());
        region.set_multi(&[("a", 1), ("b", 2), ("a", 3)]);
        assert_eq!(region.calls(), (0, 1));
        assert_eq!(region.get_multi(&["a", "b"]), [Some(3), Some(2)], "the last one counts");
        // One metadata for all of them.
        let born = |key| region.metadata(key).unwrap().cached_time;
        assert_eq!(born("a"), born("b"));
        region.set_multi_with(&[("c", 4), ("d", 5)], SetOptions::new().ttl(SECOND).tags(["t"]));
        region.pass(SECOND);
        assert_eq!(region.get_multi(&["a", "c", "d"]), [Some(3), None, None]);
    });
}

#[test]
fn set_multi_of_nothing_does_not_ask_the_store() {
    each(|setup| {
        let region = setup.region();
        region.set_multi(&[]);
        region.delete_multi(&[]);
        assert_eq!(region.calls(), (0, 0));
    });
}

#[test]
fn delete_is_idempotent_and_tells() {
    each(|setup| {
        let region = setup.region();
        assert!(!region.delete("key"));
        region.set("key", 1_u32);
        assert!(region.delete("key"));
        assert!(!region.delete("key"));
        assert_eq!(region.get("key"), None);
    });
}

/// cachetory's default `delete_many` does nothing.
#[test]
fn delete_multi_deletes_all_in_one_call() {
    each(|setup| {
        let region = setup.region();
        region.set_multi(&[("a", 1), ("b", 2), ("c", 3)]);
        region.calls();
        region.delete_multi(&["a", "none", "c", "a"]);
        assert_eq!(region.calls(), (0, 1));
        assert_eq!(region.get_multi(&["a", "b", "c"]), [None, Some(2), None]);
        region.delete_multi(&["a", "c"]);
    });
}

/// In dogpile.cache it would block: a set or a delete does not take the dogpile lock there, nor here.
#[test]
fn set_and_delete_wait_for_no_creation() {
    each(|setup| {
        let region = setup.region();
        let made = during(&region, "key", 1, || {
            region.set("key", 2_u32);
            assert_eq!(region.get("key"), Some(2));
            assert!(region.delete("key"));
        });
        assert_eq!(made, 1);
    });
}

/// Who waits for a creation gets what was set meanwhile, at once.
#[test]
fn who_waits_gets_what_is_set() {
    each(|setup| {
        let region = setup.region();
        let other = |_| region.make("key", || unreachable!("one leads"));
        let lead = |hold: &crate::common::Hold| {
            region.make("key", || {
                hold.here();
                1
            })
        };
        let (led, others) = crowd(|| region.stats().waits, lead, 2, other, || region.set("key", 2_u32));
        assert_eq!(led.unwrap(), 1, "the leader has its own");
        assert!(others.into_iter().all(|other| other.unwrap() == 2));
        assert_eq!(region.get("key"), Some(2));
    });
}

#[test]
fn expire_in_sets_and_takes_away() {
    each(|setup| {
        let region = setup.by(fresh());
        region.set_multi(&[("short", 1), ("ever", 2), ("over", 3), ("longer", 4)]);
        region.pass(10 * SECOND);
        assert!(region.expire_in("short", Some(SECOND)));
        assert!(region.expire_in("ever", None));
        assert!(region.expire_in("over", Some(Duration::ZERO)));
        assert!(region.expire_in("longer", Some(2 * FRESH)), "from now on, not from when it was made");
        let all = ["short", "ever", "over", "longer"];
        // cachetory's redis makes a key eternal by zero.
        assert_eq!(region.get_multi(&all), [Some(1), Some(2), None, Some(4)]);
        region.pass(SECOND);
        assert_eq!(region.get_multi(&all), [None, Some(2), None, Some(4)]);
        region.pass(2 * FRESH - 2 * SECOND);
        assert_eq!(region.get_multi(&all), [None, Some(2), None, Some(4)]);
        region.pass(SECOND);
        assert_eq!(region.get_multi(&all), [None, Some(2), None, None]);
        region.pass(1_000 * FRESH);
        assert_eq!(region.get_multi(&all), [None, Some(2), None, None]);
    });
}

#[test]
fn expire_of_what_is_not_there_is_false() {
    each(|setup| {
        let region = setup.by(fresh());
        assert!(!region.expire_in("key", Some(SECOND)));
        assert!(!region.expire_at("key", None));
        region.set("key", 1_u32);
        region.pass(FRESH);
        assert!(!region.expire_in("key", None), "stale is not there");
        assert_eq!(region.get("key"), None);
        region.set("key", 1_u32);
        region.invalidate(Scope::Key("key"), How::Soft);
        assert!(!region.expire_in("key", None), "nor is what was invalidated");
        assert_eq!(region.get("key"), None);
    });
}

#[test]
fn expire_keeps_value_tags_and_age() {
    each(|setup| {
        let region = setup.by(fresh());
        region.set_with("key", 7, SetOptions::new().tags(["t"]));
        region.pass(SECOND);
        assert!(region.expire_in("key", Some(FRESH)));
        let item = region.metadata("key").unwrap();
        assert_eq!((*item.payload, item.age, item.tags), (7, SECOND, vec![String::from("t")]));
        region.invalidate(Scope::Tag("t"), How::Hard);
        assert_eq!(region.get("key"), None);
    });
}

#[test]
fn expire_at_is_a_time_of_day() {
    each(|setup| {
        let region = setup.by(fresh());
        let now = || dogpile::time::Clock::unix(&region.clock);
        region.set_multi(&[("soon", 1), ("past", 2), ("ever", 3)]);
        assert!(region.expire_at("soon", Some(now() + SECOND)));
        assert!(region.expire_at("past", Some(now() - SECOND)), "that is over at once");
        assert!(region.expire_at("ever", None));
        assert_eq!(region.get_multi(&["soon", "past", "ever"]), [Some(1), None, Some(3)]);
        region.pass(SECOND);
        assert_eq!(region.get_multi(&["soon", "past", "ever"]), [None, None, Some(3)]);
    });
}

/// A time to live of its own is the value's end: it is not served as stale after it.
#[test]
fn what_has_its_own_time_is_not_served_after_it() {
    each(|setup| {
        let region = setup.by(fresh());
        region.set_with("key", 1, SetOptions::new().ttl(SECOND));
        region.pass(SECOND);
        let again = during(&region, "key", 2, || {});
        assert_eq!(again, 2);
    });
}

#[test]
fn clear_takes_the_regions_own_keys_only() {
    // cachetory's clears the whole store.
    each(|setup| {
        if setup.store != Store::Memory {
            return;
        }
        let cache = Cache::unbounded();
        let over = |prefix| {
            let backend = dogpile::backend::MemoryBackend::over(cache.clone());
            Region::builder().backend(backend).prefix(prefix).build().unwrap()
        };
        let (a, b) = (over("a:"), over("b:"));
        a.set("key", 1).unwrap();
        b.set("key", 2).unwrap();
        assert_eq!((a.len().unwrap(), b.len().unwrap()), (Some(1), Some(1)));
        a.clear().unwrap();
        assert_eq!((a.get::<i32>("key").unwrap(), b.get("key").unwrap()), (None, Some(Arc::new(2))));
        assert_eq!((a.len().unwrap(), b.len().unwrap()), (Some(0), Some(1)));
    });
}

#[test]
fn clear_leaves_nothing_to_find() {
    each(|setup| {
        let region = setup.by(fresh());
        region.set_multi(&[("a", 1), ("b", 2)]);
        region.clear();
        assert_eq!(region.get_multi(&["a", "b"]), [None, None]);
        assert_eq!(region.make("a", || 3), 3);
        assert_eq!(region.get("a"), Some(3), "what comes after it is there");
        region.clear();
        region.set("b", 4_u32);
        assert_eq!(region.get_multi(&["a", "b"]), [None, Some(4)]);
    });
}

/// A cleared value is gone for good: it is not served as stale.
#[test]
fn clear_is_hard() {
    each(|setup| {
        let region = setup.by(fresh());
        region.set("key", 1_u32);
        region.clear();
        let made = during(&region, "key", 2, || assert_eq!(region.get("key"), None));
        assert_eq!(made, 2);
    });
}

#[test]
fn len_counts_where_the_store_can() {
    each(|setup| {
        let region = setup.build(|builder| builder.prefix("p:"));
        region.set_multi(&[("a", 1), ("b", 2)]);
        assert_eq!(region.len(), setup.store.counts().then_some(2));
        region.delete("a");
        assert_eq!(region.len(), setup.store.counts().then_some(1));
    });
}

/// The mutable value that went in is not what is in a serialised store: dogpile.cache's `memory_pickle`.
#[test]
fn a_hit_is_a_copy_where_bytes_are_stored() {
    each(|setup| {
        let region = setup.region();
        let made = region.make_as("key", || vec![1_u32]);
        let (one, two) = (region.get_as::<Vec<u32>>("key").unwrap(), region.get_as("key").unwrap());
        assert_eq!((&made, &one), (&two, &two));
        assert_eq!(Arc::ptr_eq(&one, &two), !setup.store.is_bytes());
    });
}

#[test]
fn what_is_not_serde_is_an_error_that_names_type_and_backend() {
    use dogpile::codec::InMemory;
    each(|setup| {
        let region = setup.region();
        #[derive(Debug)]
        struct Own;
        let done = region.region.set("key", InMemory(Own));
        if setup.store.is_bytes() {
            let error = done.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WrongType);
            let said = error.to_string();
            assert!(said.contains("Own"), "{said}");
            let error = region.region.get_or_create("key", || InMemory(Own)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WrongType);
            assert_eq!(region.calls().1, 0, "nothing was written");
        } else {
            done.unwrap();
            assert!(region.region.get::<InMemory<Own>>("key").unwrap().is_some());
        }
    });
}

/// What is as long as the policy says is told to the store: the fresh time, and what comes after it.
#[test]
fn the_store_lets_go_what_nobody_may_have() {
    each(|setup| {
        let policy = RegionPolicy::builder().fresh(FRESH).stale(FRESH).build().unwrap();
        let region = setup.by(policy);
        region.set("key", 1_u32);
        region.pass(2 * FRESH - SECOND);
        assert_eq!(region.stored("key"), Some(1));
        region.pass(SECOND);
        let kept = (!setup.store.expires()).then_some(1);
        assert_eq!(region.stored("key"), kept);
        // A store that keeps it does not make it usable.
        let made = during(&region, "key", 2, || {
            let any = GetOptions::new();
            assert_eq!(region.get_with("key", any), None);
        });
        assert_eq!(made, 2);
    });
}

/// Strategies of one's own are asked: dogpile.cache's `region_invalidator`.
#[test]
fn an_invalidation_strategy_of_ones_own() {
    #[derive(Clone, Default)]
    struct Everything(Arc<std::sync::atomic::AtomicBool>);
    impl InvalidationStrategy for Everything {
        fn invalidate(&self, _scope: Scope<'_>, _how: How, _epoch: u64) -> Result<(), dogpile::Error> {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
            Ok(())
        }
        fn newest(&self) -> u64 {
            u64::MAX
        }
        fn judge(&self, key: &str, _tags: &[String], _epoch: u64) -> Option<How> {
            (self.0.load(std::sync::atomic::Ordering::SeqCst) && key != "spared").then_some(How::Hard)
        }
    }
    each(|setup| {
        let region = setup.build(|builder| builder.invalidation(Everything::default()));
        region.set_multi(&[("key", 1), ("spared", 2)]);
        assert_eq!(region.get_multi(&["key", "spared"]), [Some(1), Some(2)]);
        region.invalidate(Scope::Region, How::Soft);
        assert_eq!(region.get_multi(&["key", "spared"]), [None, Some(2)]);
    });
}

#[test]
fn a_panic_while_values_are_given_changes_nothing() {
    each(|setup| {
        let region = setup.region();
        let entries = || std::iter::from_fn(|| -> Option<(&str, u32)> { panic!("no more") });
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            region.region.set_multi(entries()).unwrap();
        }));
        assert_eq!(message(ended), "no more");
        assert_eq!(region.calls(), (0, 0));
    });
}
