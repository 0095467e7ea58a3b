//! `get`, `get_multi`, `get_value_metadata`, `explain`.

use super::stores::each;
use super::{FRESH, SECOND, fresh};
use crate::common::while_held;
use dogpile::RegionPolicy;
use dogpile::region::{GetOptions, How, KeyState, Mangler, Scope, SetOptions, sha1_mangle_key};
use std::time::Duration;

#[test]
fn get_of_what_is_not_there_makes_nothing() {
    each(|setup| {
        let region = setup.region();
        assert_eq!(region.get("key"), None);
        assert_eq!(region.calls(), (1, 0));
        assert!(!region.key_is_locked("key"));
    });
}

#[test]
fn get_finds_what_was_set_and_what_was_made() {
    each(|setup| {
        let region = setup.region();
        region.set("set", 1_u32);
        assert_eq!(region.make("made", || 2), 2);
        assert_eq!((region.get("set"), region.get("made")), (Some(1), Some(2)));
    });
}

/// dogpile.cache's `NO_VALUE` is not `None`; cachetory's async `cached` confuses them.
#[test]
fn a_cached_none_is_not_a_miss() {
    each(|setup| {
        let region = setup.region();
        assert_eq!(*region.make_as("key", || None::<u32>), None);
        assert_eq!(*region.make_as("key", || Some(1_u32)), None, "it is there");
        assert_eq!(region.get_as::<Option<u32>>("key").as_deref(), Some(&None));
        assert_eq!(region.stats().hits, 2);
    });
}

#[test]
fn get_finds_fresh_values_only() {
    each(|setup| {
        let region = setup.by(fresh());
        region.set("key", 1_u32);
        region.pass(FRESH - SECOND);
        assert_eq!(region.get("key"), Some(1));
        region.pass(SECOND);
        // At exactly its deadline it has expired; in dogpile.cache only after it.
        assert_eq!(region.get("key"), None);
        assert_eq!(region.stored("key"), Some(1), "it is there all the same");
    });
}

/// In dogpile.cache a timedelta below a second is zero.
#[test]
fn times_below_a_second_are_kept() {
    each(|setup| {
        let policy = RegionPolicy::builder().fresh(Duration::from_millis(500)).build().unwrap();
        let region = setup.by(policy);
        region.set("key", 1_u32);
        region.pass(Duration::from_millis(499));
        assert_eq!(region.get("key"), Some(1));
        region.pass(Duration::from_millis(1));
        assert_eq!(region.get("key"), None);
    });
}

#[test]
fn get_takes_a_time_for_one_call() {
    each(|setup| {
        let region = setup.by(fresh());
        region.set("key", 1_u32);
        region.pass(10 * SECOND);
        assert_eq!(region.get_with("key", GetOptions::new().fresh(10 * SECOND)), None);
        assert_eq!(region.get_with("key", GetOptions::new().fresh(11 * SECOND)), Some(1));
        assert_eq!(region.get("key"), Some(1), "it was not stored");
        region.pass(FRESH);
        assert_eq!(region.get_with("key", GetOptions::new().fresh(Duration::MAX)), Some(1), "for ever");
        assert_eq!(region.get_with("key", GetOptions::new().fresh(Duration::ZERO)), None);
    });
}

/// In dogpile.cache a region with `expiration_time=-1` never finds anything by `get`.
#[test]
fn a_region_without_end_finds_its_values() {
    each(|setup| {
        let region = setup.by(RegionPolicy::builder().fresh(Duration::MAX).build().unwrap());
        region.make("key", || 1);
        region.pass(1_000_000 * FRESH);
        assert_eq!(region.get("key"), Some(1));
        assert_eq!(region.make("key", || 2), 1);
    });
}

#[test]
fn ignore_expiration_overlooks_time_and_invalidation() {
    each(|setup| {
        for how in [How::Soft, How::Hard] {
            let region = setup.by(fresh());
            region.set("key", 1_u32);
            region.pass(2 * FRESH);
            assert_eq!(region.stored("key"), Some(1));
            region.invalidate(Scope::Region, how);
            assert_eq!(region.stored("key"), Some(1), "{how:?}");
            let any = GetOptions::new().ignore_expiration();
            assert_eq!(region.get_multi_with(&["key", "none"], any), [Some(1), None], "{how:?}");
            assert_eq!(region.get("key"), None);
        }
    });
}

#[test]
fn get_multi_is_in_the_order_of_the_keys_with_holes() {
    each(|setup| {
        let region = setup.region();
        region.set_multi(&[("a", 1), ("b", 2), ("c", 3)]);
        region.calls();
        assert_eq!(
            region.get_multi(&["c", "none", "a", "c", "b"]),
            [Some(3), None, Some(1), Some(3), Some(2)]
        );
        assert_eq!(region.calls(), (1, 0));
    });
}

#[test]
fn get_multi_of_nothing_does_not_ask_the_store() {
    each(|setup| {
        let region = setup.region();
        assert!(region.get_multi(&[]).is_empty());
        assert_eq!(region.calls(), (0, 0));
    });
}

#[test]
fn get_multi_judges_each() {
    each(|setup| {
        let region = setup.by(fresh());
        region.set("old", 1_u32);
        region.pass(FRESH);
        region.set("invalidated", 2_u32);
        region.invalidate(Scope::Key("invalidated"), How::Soft);
        region.set("new", 3_u32);
        assert_eq!(region.get_multi(&["old", "invalidated", "new"]), [None, None, Some(3)]);
        let for_long = GetOptions::new().fresh(2 * FRESH);
        assert_eq!(region.get_multi_with(&["old", "invalidated", "new"], for_long), [Some(1), None, Some(3)]);
    });
}

/// cachetory's `get_many` looks for keys without their prefix.
#[test]
fn get_multi_knows_the_prefix() {
    each(|setup| {
        let region = setup.build(|builder| builder.prefix("p:"));
        region.set_multi(&[("a", 1), ("b", 2)]);
        assert_eq!(region.get_multi(&["b", "a"]), [Some(2), Some(1)]);
        assert_eq!(region.get("a"), Some(1));
    });
}

#[test]
fn metadata_tells_when_and_for_how_long() {
    each(|setup| {
        let region = setup.by(fresh());
        assert_eq!(region.metadata("key"), None);
        let before = dogpile::time::Clock::unix(&region.clock);
        let options = SetOptions::new().ttl(FRESH).tags(["a", "b"]);
        assert!(region.set_with("key", 7, options));
        region.pass(3 * SECOND);
        let item = region.metadata("key").unwrap();
        assert_eq!((*item.payload, item.age), (7, 3 * SECOND));
        assert_eq!(item.cached_time, Some(before));
        assert_eq!(item.time_to_live, Some(FRESH));
        assert_eq!(item.tags, ["a", "b"]);
        assert_eq!(item.creation_time, None);
        region.pass(FRESH);
        assert_eq!(region.metadata("key"), None, "as `get`");
    });
}

#[test]
fn metadata_tells_how_long_it_took_to_make() {
    each(|setup| {
        let region = setup.region();
        region.make("key", || {
            region.pass(2 * SECOND);
            7
        });
        let item = region.metadata("key").unwrap();
        assert_eq!((item.creation_time, item.age), (Some(2 * SECOND), Duration::ZERO));
    });
}

/// A stored value of another type is a miss, and counted; it is made anew as what is asked for.
#[test]
fn another_type_is_a_miss() {
    each(|setup| {
        let region = setup.region();
        region.set("key", String::from("text"));
        assert_eq!(region.get("key"), None);
        let stats = region.stats();
        assert_eq!(stats.type_mismatch + stats.undecodable, 1);
        assert_eq!(region.make("key", || 5), 5);
        assert_eq!(region.get("key"), Some(5));
        assert_eq!(region.get_as::<String>("key"), None);
    });
}

#[test]
fn explain_tells_each_state() {
    each(|setup| {
        let region = setup.by(fresh());
        let state = || region.explain("key").state;
        assert_eq!(state(), KeyState::Absent);
        region.set("key", 1_u32);
        assert_eq!(state(), KeyState::Fresh { left: Some(FRESH) });
        region.pass(FRESH + SECOND);
        assert_eq!(state(), KeyState::Stale { since: SECOND });
        region.set("key", 1_u32);
        region.invalidate(Scope::Key("key"), How::Soft);
        assert_eq!(state(), KeyState::Invalidated);
        region.invalidate(Scope::Region, How::Hard);
        assert_eq!(state(), KeyState::InvalidatedForGood);
        region.set("key", String::from("text"));
        let is_other = matches!(state(), KeyState::OtherType | KeyState::Undecodable(_));
        assert!(is_other, "{:?}", state());
    });
}

#[test]
fn explain_and_key_is_locked_tell_who_makes_it() {
    each(|setup| {
        // dogpile.cache's `key_is_locked` is always false where keys are mangled.
        let region = setup.build(|builder| builder.prefix("p:").mangler(Mangler::from_fn(sha1_mangle_key)));
        assert!(!region.key_is_locked("key"));
        let made = while_held(
            |hold| {
                region.make("key", || {
                    hold.here();
                    1
                })
            },
            || {
                assert!(region.key_is_locked("key"));
                assert!(!region.key_is_locked("other"));
                let explained = region.explain("key");
                assert_eq!(explained.state, KeyState::Absent);
                assert!(explained.leader.is_some(), "{explained}");
            },
        );
        assert_eq!(made, 1);
        assert!(!region.key_is_locked("key"));
        assert_eq!(region.explain("key").leader, None);
    });
}

#[test]
fn explain_tells_who_tries_when() {
    each(|setup| {
        let region = setup.by(RegionPolicy::builder().error_ttl(FRESH).build().unwrap());
        region.try_make("key", || Err("no")).unwrap_err();
        region.pass(SECOND);
        assert_eq!(region.explain("key").held_back, Some(FRESH - SECOND));
        region.pass(FRESH);
        assert_eq!(region.explain("key").held_back, None);
    });
}
