//! `get_or_create_multi`.

use super::stores::each;
use super::{FRESH, fresh};
use crate::common::{Hold, Release, crowd, ends, panics, until};
use dogpile::CreateError;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

#[test]
fn one_call_of_the_creator_for_all_that_is_missing() {
    each(|setup| {
        let region = setup.by(fresh());
        region.set("b", 20_u32);
        let made = region.make_many(&["c", "b", "a"], |asked| {
            assert_eq!(asked, ["c", "a"], "in the caller's order");
            vec![30, 10]
        });
        assert_eq!(made, [30, 20, 10]);
        assert_eq!(region.get_multi(&["a", "b", "c"]), [Some(10), Some(20), Some(30)]);
        assert_eq!(region.stats().creations, 1);
    });
}

#[test]
fn duplicates_are_made_once_and_returned_each_time() {
    each(|setup| {
        let region = setup.by(fresh());
        let made = region.make_many(&["a", "b", "a", "a"], |asked| {
            assert_eq!(asked, ["a", "b"]);
            vec![1, 2]
        });
        assert_eq!(made, [1, 2, 1, 1]);
    });
}

#[test]
fn of_nothing_it_makes_nothing() {
    each(|setup| {
        let region = setup.by(fresh());
        assert!(region.make_many(&[], |_| unreachable!()).is_empty());
    });
}

#[test]
fn all_there_and_none_made() {
    each(|setup| {
        let region = setup.by(fresh());
        region.set_multi(&[("a", 1), ("b", 2)]);
        assert_eq!(region.make_many(&["b", "a"], |_| unreachable!()), [2, 1]);
    });
}

/// In dogpile.cache what is too few becomes no value without a word.
#[test]
fn a_wrong_number_of_values_is_an_error() {
    each(|setup| {
        let region = setup.by(fresh());
        for made in [0, 1, 3] {
            let error = region.try_make_many(&["a", "b"], |_| Ok(vec![1; made])).unwrap_err();
            assert_eq!(error, CreateError::WrongCount { asked: 2, made });
            assert_eq!(region.get_multi(&["a", "b"]), [None, None], "nothing is stored");
            assert!(!region.key_is_locked("a") && !region.key_is_locked("b"));
        }
        let said = panics(|| region.make_many(&["a", "b"], |_| vec![1]));
        assert!(said.contains("asked for 2 values and returned 1"), "{said}");
    });
}

/// In dogpile.cache an exception leaves locks behind for ever.
#[test]
fn an_error_or_a_panic_leaves_nothing_locked() {
    each(|setup| {
        let region = setup.by(fresh());
        region.try_make_many(&["a", "b"], |_| Err("no")).unwrap_err();
        assert_eq!(panics(|| region.make_many(&["a", "b"], |_| panic!("gone"))), "gone");
        assert!(!region.key_is_locked("a") && !region.key_is_locked("b"));
        assert_eq!(region.make("a", || 1), 1);
        assert_eq!(region.make_many(&["a", "b"], |asked| vec![2; asked.len()]), [1, 2]);
    });
}

/// In dogpile.cache five callers make the same keys five times.
#[test]
fn keys_that_are_made_elsewhere_are_joined() {
    each(|setup| {
        let region = setup.by(fresh());
        let lead = |hold: &Hold| {
            region.make_many(&["a", "b"], |asked| {
                assert_eq!(asked, ["a", "b"]);
                hold.here();
                vec![1, 2]
            })
        };
        let other = |_| region.make_many(&["b", "a"], |_| unreachable!("one leads"));
        let (led, others) = crowd(|| region.stats().waits, lead, 4, other, || {});
        assert_eq!(led.unwrap(), [1, 2]);
        assert!(others.into_iter().all(|other| other.unwrap() == [2, 1]));
        assert_eq!(region.stats().creations, 1);
    });
}

/// A batch waits for one key of another's, and makes the rest meanwhile.
#[test]
fn a_batch_joins_a_single_creation() {
    each(|setup| {
        let region = setup.by(fresh());
        let hold = Hold::default();
        std::thread::scope(|scope| {
            let _release = Release(&hold);
            let single = scope.spawn(|| {
                region.make("a", || {
                    hold.here();
                    1
                })
            });
            hold.begun();
            let batch = scope.spawn(|| {
                region.make_many(&["a", "b"], |asked| {
                    assert_eq!(asked, ["b"]);
                    vec![2]
                })
            });
            until("it has made its own", || region.get("b") == Some(2));
            assert!(!batch.is_finished());
            hold.go();
            assert_eq!((single.join().unwrap(), batch.join().unwrap()), (1, vec![1, 2]));
        });
    });
}

#[test]
fn a_single_creation_joins_a_batch() {
    each(|setup| {
        let region = setup.by(fresh());
        let lead = |hold: &Hold| {
            region.make_many(&["a", "b"], |_| {
                hold.here();
                vec![1, 2]
            })
        };
        let other = |_| vec![region.make("b", || unreachable!("one leads"))];
        let (led, others) = crowd(|| region.stats().waits, lead, 2, other, || {});
        assert_eq!(led.unwrap(), [1, 2]);
        assert!(others.into_iter().all(|other| other.unwrap() == [2]));
    });
}

#[test]
fn stale_ones_are_served_while_others_make_them() {
    each(|setup| {
        let region = setup.by(fresh());
        region.set_multi(&[("a", 1), ("b", 2)]);
        region.pass(FRESH);
        let made = region.make_many(&["a", "b"], |asked| {
            assert_eq!(asked, ["a", "b"]);
            assert_eq!(region.make_many(&["b", "a"], |_| unreachable!()), [2, 1]);
            vec![3, 4]
        });
        assert_eq!(made, [3, 4]);
    });
}

/// No deadlock, whatever their order; and each key is made once.
#[test]
fn overlapping_batches_end() {
    each(|setup| {
        let setup = setup.clone();
        ends(move || {
            let region = setup.by(fresh());
            for round in 0..10 {
                let keys: Vec<String> = (0..12).map(|i| format!("{round}-{i}")).collect();
                let made: Vec<AtomicUsize> = keys.iter().map(|_| AtomicUsize::new(0)).collect();
                std::thread::scope(|scope| {
                    for shift in 0..4 {
                        let (region, keys, made) = (&region, &keys, &made);
                        scope.spawn(move || {
                            let mut own: Vec<&str> =
                                (0..8).map(|i| keys[(i + 3 * shift) % 12].as_str()).collect();
                            if shift.is_multiple_of(2) {
                                own.reverse();
                            }
                            let number = |key: &str| keys.iter().position(|other| other == key).unwrap();
                            let values = region.make_many(&own, |asked| {
                                let make = |key: &&str| {
                                    made[number(key)].fetch_add(1, SeqCst);
                                    std::thread::yield_now();
                                    number(key) as u32
                                };
                                asked.iter().map(make).collect()
                            });
                            let expected: Vec<u32> = own.iter().map(|key| number(key) as u32).collect();
                            assert_eq!(values, expected);
                        });
                    }
                });
                for made in made {
                    assert_eq!(made.into_inner(), 1);
                }
            }
        });
    });
}

/// What was set, deleted or invalidated while a batch was made is as it was left (H16), key by key.
#[test]
fn newer_state_wins_key_by_key() {
    use dogpile::region::{How, Scope};
    each(|setup| {
        let region = setup.by(fresh());
        let made = region.make_many(&["set", "deleted", "hard", "soft", "plain"], |asked| {
            assert_eq!(asked.len(), 5);
            region.set("set", 20_u32);
            region.delete("deleted");
            region.invalidate(Scope::Key("hard"), How::Hard);
            region.invalidate(Scope::Key("soft"), How::Soft);
            vec![1, 2, 3, 4, 5]
        });
        assert_eq!(made, [1, 2, 3, 4, 5], "its caller has what was made");
        let found = region.get_multi(&["set", "deleted", "hard", "soft", "plain"]);
        assert_eq!(found, [Some(20), None, None, None, Some(5)]);
    });
}

/// The creator may ask for keys that its own batch has not.
#[test]
fn a_batch_within_a_batch() {
    each(|setup| {
        let region = setup.by(fresh());
        let made = region.make_many(&["a", "b"], |_| region.make_many(&["c", "d"], |_| vec![1, 2]));
        assert_eq!(made, [1, 2]);
        let reentrant = region.try_make_many(&["e", "f"], |_| {
            let inner = region.try_make_many(&["f", "g"], |asked| Ok(vec![7; asked.len()]));
            assert_eq!(inner, Err(CreateError::Reentrant));
            Ok(vec![1, 2])
        });
        assert_eq!(reentrant, Ok(vec![1, 2]));
    });
}

#[test]
fn tags_are_on_all_of_a_batch() {
    use dogpile::region::{How, Scope};
    each(|setup| {
        let region = setup.by(fresh());
        let made = region.region.tagged(["t"]).get_or_create_multi(&["a", "b"], |_| vec![1_u32, 2]).unwrap();
        assert_eq!(made.len(), 2);
        region.set("c", 3_u32);
        region.invalidate(Scope::Tag("t"), How::Hard);
        assert_eq!(region.get_multi(&["a", "b", "c"]), [None, None, Some(3)]);
    });
}

#[test]
fn a_large_batch() {
    each(|setup| {
        let region = setup.by(fresh());
        let keys: Vec<String> = (0..2_000).map(|i| i.to_string()).collect();
        let names: Vec<&str> = keys.iter().map(String::as_str).collect();
        let asked_for = Mutex::new(0);
        let make = |asked: &[&str]| {
            *asked_for.lock().unwrap() += asked.len();
            asked.iter().map(|key| key.parse().unwrap()).collect()
        };
        let made = region.make_many(&names, make);
        assert!(made.iter().copied().eq(0..2_000));
        assert_eq!(*asked_for.lock().unwrap(), 2_000);
    });
}
