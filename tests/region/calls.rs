//! How often the store is called: a hit once, a stale value once, a creation once to read and once to write; a batch as one.

use super::stores::each;
use super::{FRESH, fresh};
use crate::common::Kept;
use dogpile::RegionPolicy;

#[test]
fn a_hit_is_one_read() {
    each(|setup| {
        let region = setup.by(fresh());
        region.set("key", 1_u32);
        region.calls();
        region.get("key");
        assert_eq!(region.calls(), (1, 0));
        region.make("key", || unreachable!());
        assert_eq!(region.calls(), (1, 0));
        region.try_make("key", || unreachable!()).unwrap();
        assert_eq!(region.calls(), (1, 0));
        region.hand_on("key", || unreachable!());
        assert_eq!(region.calls(), (1, 0));
        region.metadata("key");
        assert_eq!(region.calls(), (1, 0));
    });
}

/// dogpile.cache's `test_no_double_get_on_expired`.
#[test]
fn an_uncontended_creation_is_one_read_and_one_write() {
    each(|setup| {
        let region = setup.by(fresh());
        region.make("key", || 1);
        assert_eq!(region.calls(), (1, 1), "missing");
        region.pass(FRESH);
        region.make("key", || 2);
        assert_eq!(region.calls(), (1, 1), "stale");
        region.try_make("other", || Ok(1)).unwrap();
        assert_eq!(region.calls(), (1, 1));
        region.refresh("key", || 3);
        assert_eq!(region.calls(), (1, 1), "anew");
        region.try_make("none", || Err("no")).unwrap_err();
        assert_eq!(region.calls(), (2, 0), "failed: what could stand in for it is looked for");
    });
}

#[test]
fn a_stale_value_is_one_read() {
    each(|setup| {
        let kept = Kept::default();
        let policy = RegionPolicy::builder().fresh(FRESH).runner(kept.clone()).build().unwrap();
        let region = setup.by(policy);
        region.set("key", 1_u32);
        region.pass(FRESH);
        region.calls();
        assert_eq!(region.hand_on("key", || 2), 1, "this one has begun it in the background");
        assert_eq!(region.calls(), (1, 0));
        assert_eq!(region.make("key", || unreachable!()), 1);
        assert_eq!(region.calls(), (1, 0));
        kept.run();
        assert_eq!(region.calls(), (0, 1), "and that is the write");
    });
}

#[test]
fn a_batch_is_one_read_and_one_write() {
    each(|setup| {
        let region = setup.by(fresh());
        let keys = ["a", "b", "c", "a"];
        region.make_many(&keys, |asked| (1..).take(asked.len()).collect());
        assert_eq!(region.calls(), (1, 1), "missing");
        region.make_many(&keys, |_| unreachable!());
        assert_eq!(region.calls(), (1, 0), "hits");
        region.pass(FRESH);
        region.set("b", 2_u32);
        region.calls();
        region.make_many(&keys, |asked| vec![7; asked.len()]);
        assert_eq!(region.calls(), (1, 1), "two stale, one a hit");
        region.make_many(&[], |_| unreachable!());
        assert_eq!(region.calls(), (0, 0), "of nothing");
    });
}

/// Whoever has waited has its value from the flight, not from the store.
#[test]
fn a_waiter_is_one_read() {
    each(|setup| {
        let region = setup.by(fresh());
        let lead = |hold: &crate::common::Hold| {
            region.make("key", || {
                hold.here();
                1
            })
        };
        let other = |_| region.make("key", || unreachable!());
        let (led, others) = crate::common::crowd(|| region.stats().waits, lead, 3, other, || {});
        assert!(led.unwrap() == 1 && others.len() == 3);
        assert_eq!(region.calls(), (1 + 3, 1));
    });
}

#[test]
fn writes_are_one_call_each() {
    each(|setup| {
        let region = setup.by(fresh());
        region.set("a", 1_u32);
        assert_eq!(region.calls(), (0, 1));
        region.set_multi(&[("a", 1), ("b", 2)]);
        assert_eq!(region.calls(), (0, 1));
        region.delete("a");
        assert_eq!(region.calls(), (0, 1));
        region.delete_multi(&["a", "b"]);
        assert_eq!(region.calls(), (0, 1));
    });
}
