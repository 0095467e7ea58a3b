//! `invalidate`: hard and soft, of keys, tags, prefixes and the region, for each way to read.

use super::stores::{Asked, Setup, during, each};
use super::{FRESH, SECOND, fresh};
use crate::common::{Hold, crowd};
use dogpile::ErrorKind;
use dogpile::region::{How, Mangler, Scope, sha1_mangle_key};

/// Each scope that covers the key `a:1`, and not `b:1`. Also the region, which covers both.
const SCOPES: [Scope<'static>; 4] = [Scope::Key("a:1"), Scope::Tag("t"), Scope::Prefix("a:"), Scope::Region];

/// A region in which `a:1` is 1, with the tag `t`, and `b:1` is 2.
fn filled(setup: &Setup) -> Asked {
    let region = setup.by(fresh());
    region.make_tagged(&["t", "u"], "a:1", || 1);
    region.make_tagged(&["u"], "b:1", || 2);
    region
}

#[test]
fn hard_means_missing() {
    each(|setup| {
        for scope in SCOPES {
            let region = filled(setup);
            region.invalidate(scope, How::Hard);
            assert_eq!(region.get("a:1"), None, "{scope:?}");
            let spared = (scope != Scope::Region).then_some(2);
            assert_eq!(region.get_multi(&["a:1", "b:1"]), [None, spared], "{scope:?}");
            assert_eq!(region.metadata("a:1"), None);
            assert_eq!(region.make("a:1", || 3), 3);
            assert_eq!(region.get("a:1"), Some(3), "{scope:?}: what comes after is valid");
        }
    });
}

#[test]
fn soft_means_stale() {
    each(|setup| {
        for scope in SCOPES {
            let region = filled(setup);
            region.invalidate(scope, How::Soft);
            assert_eq!(region.get("a:1"), None, "{scope:?}");
            let spared = (scope != Scope::Region).then_some(2);
            assert_eq!(region.get_multi(&["a:1", "b:1"]), [None, spared], "{scope:?}");
            // One makes it anew, the others have the old one meanwhile.
            let made = during(&region, "a:1", 3, || assert_eq!(region.make("a:1", || unreachable!()), 1));
            assert_eq!((made, region.get("a:1")), (3, Some(3)), "{scope:?}");
        }
    });
}

/// After a hard one everybody waits.
#[test]
fn hard_makes_everybody_wait() {
    each(|setup| {
        for scope in SCOPES {
            let region = filled(setup);
            region.invalidate(scope, How::Hard);
            let lead = |hold: &Hold| {
                region.make("a:1", || {
                    hold.here();
                    3
                })
            };
            let other = |_| region.make("a:1", || unreachable!("one leads"));
            let (led, others) = crowd(|| region.stats().waits, lead, 2, other, || {});
            assert_eq!(led.unwrap(), 3);
            assert!(others.into_iter().all(|other| other.unwrap() == 3), "{scope:?}");
        }
    });
}

/// In dogpile.cache a later soft one serves again what was invalidated for good.
#[test]
fn a_later_soft_one_does_not_weaken_a_hard_one() {
    each(|setup| {
        for hard in SCOPES {
            for soft in SCOPES {
                let region = filled(setup);
                region.invalidate(hard, How::Hard);
                region.invalidate(soft, How::Soft);
                let made = during(&region, "a:1", 3, || assert_eq!(region.get("a:1"), None));
                assert_eq!(made, 3, "{hard:?}, then {soft:?}");
                assert_eq!(region.stats().stale_served, 0, "{hard:?}, then {soft:?}");
            }
        }
    });
}

#[test]
fn a_later_hard_one_is_hard() {
    each(|setup| {
        for soft in SCOPES {
            for hard in SCOPES {
                let region = filled(setup);
                region.invalidate(soft, How::Soft);
                region.invalidate(hard, How::Hard);
                assert_eq!(region.get("a:1"), None);
                assert_eq!(region.explain("a:1").state.to_string().split(':').next(), Some("missing"));
                assert_eq!(region.make("a:1", || 3), 3);
            }
        }
    });
}

/// What is between the two in time is covered by the soft one alone.
#[test]
fn each_covers_what_was_there_before_it() {
    each(|setup| {
        let region = setup.by(fresh());
        region.set("key", 1_u32);
        region.invalidate(Scope::Region, How::Hard);
        region.set("key", 2_u32);
        region.invalidate(Scope::Region, How::Soft);
        let made = during(&region, "key", 3, || assert_eq!(region.make("key", || unreachable!()), 2));
        assert_eq!(made, 3);
    });
}

/// In dogpile.cache a soft invalidation needs an expiration time; here it needs none.
#[test]
fn soft_needs_no_expiration_time() {
    each(|setup| {
        let region = setup.region();
        region.set("key", 1_u32);
        region.invalidate(Scope::Region, How::Soft);
        let made = during(&region, "key", 2, || assert_eq!(region.make("key", || unreachable!()), 1));
        assert_eq!((made, region.get("key")), (2, Some(2)));
    });
}

#[test]
fn soft_in_a_batch() {
    each(|setup| {
        let region = filled(setup);
        region.invalidate(Scope::Tag("t"), How::Soft);
        let made = region.make_many(&["b:1", "a:1"], |asked| {
            assert_eq!(asked, ["a:1"]);
            assert_eq!(region.make_many(&["a:1", "b:1"], |_| unreachable!("stale is served")), [1, 2]);
            vec![3]
        });
        assert_eq!(made, [2, 3]);
    });
}

#[test]
fn hard_in_a_batch() {
    each(|setup| {
        let region = filled(setup);
        region.invalidate(Scope::Tag("u"), How::Hard);
        let made = region.make_many(&["b:1", "a:1"], |asked| {
            assert_eq!(asked, ["b:1", "a:1"]);
            vec![3, 4]
        });
        assert_eq!(made, [3, 4]);
        assert_eq!(region.get_multi(&["a:1", "b:1"]), [Some(4), Some(3)]);
    });
}

/// By a monotonic epoch: in dogpile.cache a wall clock that was put back makes it do nothing.
#[test]
fn a_clock_that_is_put_back_hides_no_invalidation() {
    each(|setup| {
        for how in [How::Hard, How::Soft] {
            let region = setup.region();
            region.pass(1_000_000 * SECOND);
            region.set("key", 1_u32);
            region.clock.set(dogpile::time::Instant::from_nanos(0));
            region.invalidate(Scope::Region, how);
            assert_eq!(region.get("key"), None, "{how:?}");
            region.set("key", 2_u32);
            assert_eq!(region.get("key"), Some(2), "{how:?}: what came after it");
        }
    });
}

#[test]
fn an_invalidation_of_nothing_harms_nothing() {
    each(|setup| {
        let region = setup.by(fresh());
        for scope in SCOPES {
            for how in [How::Hard, How::Soft] {
                region.invalidate(scope, how);
                region.set("a:1", 1_u32);
                assert_eq!(region.get("a:1"), Some(1));
            }
        }
    });
}

/// dogpile.cache's invalidation is of the region object; so is ours, by default.
#[test]
fn another_region_over_the_same_store_knows_nothing_of_it() {
    use dogpile::Region;
    use dogpile::backend::MemoryBackend;
    let backend = MemoryBackend::new();
    let region = || Region::builder().backend(backend.clone()).build().unwrap();
    let (one, two) = (region(), region());
    one.set("key", 1).unwrap();
    one.invalidate(Scope::Region, How::Soft).unwrap();
    assert_eq!(one.get::<i32>("key").unwrap(), None);
    assert_eq!(two.get::<i32>("key").unwrap().as_deref(), Some(&1));
}

#[test]
fn keys_and_prefixes_stand_behind_the_regions_prefix() {
    each(|setup| {
        let region = setup.build(|builder| builder.prefix("p:"));
        region.set_multi(&[("a:1", 1), ("p:a:1", 2), ("b", 3)]);
        region.invalidate(Scope::Prefix("a:"), How::Hard);
        assert_eq!(region.get_multi(&["a:1", "p:a:1", "b"]), [None, Some(2), Some(3)]);
        region.invalidate(Scope::Key("b"), How::Soft);
        assert_eq!(region.get_multi(&["a:1", "p:a:1", "b"]), [None, Some(2), None]);
        region.invalidate(Scope::Prefix(""), How::Hard);
        assert_eq!(region.get("p:a:1"), None);
    });
}

#[test]
fn a_prefix_of_mangled_keys_is_not_known() {
    each(|setup| {
        let region = setup.build(|builder| builder.mangler(Mangler::from_fn(sha1_mangle_key)));
        region.set("a:1", 1_u32);
        let error = region.region.invalidate(Scope::Prefix("a:"), How::Hard).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("use tags"), "{error}");
        region.invalidate(Scope::Key("a:1"), How::Soft);
        assert_eq!(region.get("a:1"), None);
    });
}

#[test]
fn tags_are_those_it_was_written_with_last() {
    each(|setup| {
        let region = setup.by(fresh());
        region.make_tagged(&["old"], "key", || 1);
        region.pass(FRESH);
        region.make_tagged(&["new"], "key", || 2);
        region.invalidate(Scope::Tag("old"), How::Hard);
        assert_eq!(region.get("key"), Some(2));
        region.invalidate(Scope::Tag("new"), How::Hard);
        assert_eq!(region.get("key"), None);
    });
}

/// What others make meanwhile is not what was invalidated.
#[test]
fn refresh_makes_a_fresh_value_anew() {
    each(|setup| {
        let region = setup.by(fresh());
        assert_eq!(region.refresh("key", || 1), 1);
        assert_eq!(region.refresh("key", || 2), 2);
        assert_eq!(region.get("key"), Some(2));
    });
}
