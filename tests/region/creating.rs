//! `get_or_create` and its kin: who leads, who waits, who gets the stale value, and what each setting does.

use super::stores::{Asked, Setup, during, each};
use super::{FRESH, SECOND, fresh};
use crate::common::{Hold, Kept, crowd, ends, panics, until, watch, while_held};
use dogpile::region::SetOptions;
use dogpile::{CreateError, Early, Freshness, Region, RegionPolicy};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

fn stale(setup: &Setup, policy: RegionPolicy) -> Asked {
    let region = setup.by(policy);
    region.set("key", 1_u32);
    region.pass(FRESH + SECOND);
    region.calls();
    region
}

/// Makes the key and stops.
fn leads(region: &Asked, hold: &Hold, value: u32) -> u32 {
    region.make("key", || {
        hold.here();
        value
    })
}

#[test]
fn fresh_is_returned() {
    each(|setup| {
        let region = setup.by(fresh());
        assert_eq!(region.make("key", || 1), 1);
        region.pass(FRESH - SECOND);
        assert_eq!(region.make("key", || 2), 1);
        region.pass(SECOND);
        assert_eq!(region.make("key", || 2), 2);
    });
}

#[test]
fn missing_one_leads_and_all_wait() {
    each(|setup| {
        let region = setup.by(fresh());
        let other = |_| region.make("key", || unreachable!("one leads"));
        let (led, others) = crowd(|| region.stats().waits, |hold| leads(&region, hold, 7), 4, other, || {});
        assert_eq!(led.unwrap(), 7);
        assert!(others.into_iter().all(|other| other.unwrap() == 7));
        assert_eq!(region.stats().creations, 1);
    });
}

/// Threads and tasks of one region join one flight.
#[test]
fn threads_and_tasks_join_one_flight() {
    each(|setup| {
        let region = setup.by(fresh());
        let other = |i: usize| {
            if i.is_multiple_of(2) {
                *region.region.get_or_create("key", || unreachable!("one leads")).unwrap()
            } else {
                let task = region.tasks.get_or_create("key", async { unreachable!("one leads") });
                *pollster::block_on(task).unwrap()
            }
        };
        let (led, others) = crowd(|| region.stats().waits, |hold| leads(&region, hold, 7), 4, other, || {});
        assert_eq!(led.unwrap(), 7);
        assert!(others.into_iter().all(|other: std::thread::Result<u32>| other.unwrap() == 7));
    });
}

#[test]
fn stale_is_served_while_another_makes() {
    each(|setup| {
        let region = stale(setup, fresh());
        let made = during(&region, "key", 2, || {
            for _ in 0..3 {
                assert_eq!(region.make("key", || unreachable!("somebody does it")), 1);
            }
        });
        assert_eq!(made, 2);
        assert_eq!((region.stats().stale_served, region.stats().waits), (3, 0));
        assert_eq!(region.get("key"), Some(2));
    });
}

/// Where a value is stale and free, who comes leads in the foreground, and once: dogpile.cache's double creation is not here.
#[test]
fn stale_is_made_once() {
    each(|setup| {
        for _ in 0..20 {
            let region = stale(setup, fresh());
            let made = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        region.make("key", || {
                            made.fetch_add(1, SeqCst);
                            2
                        })
                    });
                }
            });
            assert_eq!(made.into_inner(), 1);
        }
    });
}

#[test]
fn wait_fresh_does_not_take_stale_ones() {
    each(|setup| {
        let region = stale(setup, fresh());
        let strict = RegionPolicy::builder().fresh(FRESH).freshness(Freshness::WaitFresh).build().unwrap();
        let other = |_| region.make_by(&strict, "key", || unreachable!("one leads"));
        let (led, others) = crowd(|| region.stats().waits, |hold| leads(&region, hold, 2), 2, other, || {});
        assert_eq!(led.unwrap(), 2);
        assert!(others.into_iter().all(|other| other.unwrap() == 2));
    });
}

#[test]
fn cache_only_makes_nothing() {
    each(|setup| {
        let only = RegionPolicy::builder().fresh(FRESH).freshness(Freshness::CacheOnly).build().unwrap();
        let region = setup.by(fresh());
        let none = region.try_make_by(&only, "key", || unreachable!());
        assert_eq!(none, Err(CreateError::NotCached));
        region.set("key", 1_u32);
        assert_eq!(region.try_make_by(&only, "key", || unreachable!()), Ok(1));
        region.pass(FRESH);
        assert_eq!(region.try_make_by(&only, "key", || unreachable!()), Ok(1), "stale will do");
        // The verb that can't fail makes it for itself.
        assert_eq!(region.make_by(&only, "none", || 7), 7);
        assert_eq!(region.stored("none"), None);
    });
}

#[test]
fn cache_only_waits_for_nobody() {
    each(|setup| {
        let only = RegionPolicy::builder().freshness(Freshness::CacheOnly).build().unwrap();
        let region = setup.region();
        during(&region, "key", 1, || {
            assert_eq!(region.try_make_by(&only, "key", || unreachable!()), Err(CreateError::NotCached));
        });
    });
}

/// Between stale and too late there is an end.
#[test]
fn stale_has_an_end() {
    each(|setup| {
        let policy = RegionPolicy::builder().fresh(FRESH).stale(FRESH).build().unwrap();
        let region = setup.by(policy);
        region.set("key", 1_u32);
        region.pass(2 * FRESH - SECOND);
        during(&region, "key", 2, || assert_eq!(region.make("key", || unreachable!()), 1));
        region.set("key", 3_u32);
        region.pass(2 * FRESH);
        let other = |_| region.make("key", || unreachable!("one leads"));
        let (led, others) = crowd(|| region.stats().waits, |hold| leads(&region, hold, 4), 1, other, || {});
        assert_eq!((led.unwrap(), others.into_iter().next().unwrap().unwrap()), (4, 4));
    });
}

#[test]
fn a_call_has_its_own_time() {
    each(|setup| {
        let region = setup.by(fresh());
        let short = RegionPolicy::builder().fresh(SECOND).build().unwrap();
        let ever = RegionPolicy::builder().fresh(Duration::MAX).build().unwrap();
        let zero = RegionPolicy::builder().fresh(Duration::ZERO).build().unwrap();
        region.make("key", || 1);
        region.pass(SECOND);
        assert_eq!(region.make("key", || unreachable!()), 1);
        assert_eq!(region.make_by(&short, "key", || 2), 2);
        // It was for that call only.
        region.pass(2 * SECOND);
        assert_eq!(region.get("key"), Some(2));
        region.pass(FRESH);
        assert_eq!(region.make_by(&ever, "key", || unreachable!()), 2);
        assert_eq!(region.make_by(&zero, "key", || 3), 3);
        assert_eq!(region.make_by(&zero, "key", || 4), 4, "zero is always over");
    });
}

/// dogpile.cache: the creator's caller waits for nobody but for who makes it; a wait may have an end.
#[test]
fn a_wait_that_runs_out() {
    each(|setup| {
        let _watch = watch();
        let policy = RegionPolicy::builder().wait(Duration::from_millis(5)).build().unwrap();
        let region = setup.by(policy);
        let made = during(&region, "key", 1, || {
            assert_eq!(region.try_make("key", || unreachable!()), Err(CreateError::TimedOut));
            assert_eq!(region.make("key", || 7), 7, "for itself");
            assert_eq!(region.get("key"), None, "and not stored");
        });
        assert_eq!((made, region.get("key")), (1, Some(1)));
        assert_eq!(region.stats().timed_out, 2);
    });
}

/// dogpile.cache's `should_cache_fn`: there each who waited runs the creator in turn.
#[test]
fn should_cache_says_no_and_all_have_it() {
    each(|setup| {
        let policy =
            RegionPolicy::builder().fresh(FRESH).should_cache_of(|value: &u32| *value > 10).build().unwrap();
        let region = setup.by(policy);
        let other = |_| region.make("key", || unreachable!("one leads"));
        let (led, others) = crowd(|| region.stats().waits, |hold| leads(&region, hold, 7), 3, other, || {});
        assert_eq!(led.unwrap(), 7);
        assert!(others.into_iter().all(|other| other.unwrap() == 7));
        assert_eq!(region.get("key"), None);
        assert_eq!(region.make("key", || 11), 11);
        assert_eq!(region.make("key", || 12), 11);
        let made = region.make_many(&["a", "b", "c"], |_| vec![1, 20, 3]);
        assert_eq!(made, [1, 20, 3]);
        assert_eq!(region.get_multi(&["a", "b", "c"]), [None, Some(20), None]);
    });
}

/// What is stale stays where its newer value is not to be stored.
#[test]
fn should_cache_leaves_the_stale_value() {
    each(|setup| {
        let policy =
            RegionPolicy::builder().fresh(FRESH).should_cache_of(|value: &u32| *value == 1).build().unwrap();
        let region = stale(setup, policy);
        assert_eq!(region.make("key", || 2), 2);
        assert_eq!(region.stored("key"), Some(1));
    });
}

#[test]
fn early_makes_it_before_its_time() {
    each(|setup| {
        let policy = RegionPolicy::builder().fresh(FRESH).early(Early::Fraction(0.5)).build().unwrap();
        let region = setup.by(policy);
        region.make("key", || 1);
        region.pass(FRESH / 2 - SECOND);
        assert_eq!(region.make("key", || unreachable!("not yet")), 1);
        region.pass(2 * SECOND);
        let made = during(&region, "key", 2, || assert_eq!(region.make("key", || unreachable!()), 1));
        assert_eq!(made, 2);
        assert_eq!(region.make("key", || unreachable!("it is fresh again")), 2);
    });
}

#[test]
fn early_by_what_it_costs() {
    each(|setup| {
        let policy = RegionPolicy::builder().fresh(FRESH).early(Early::XFetch { beta: 1.0 }).build().unwrap();
        let region = setup.by(policy);
        region.make("key", || {
            region.pass(10 * SECOND);
            1
        });
        assert!(region.metadata("key").unwrap().creation_time == Some(10 * SECOND));
        // With a millisecond left and ten seconds to make it, it is due but once in ten thousand times.
        region.pass(FRESH - Duration::from_millis(1));
        let made = (0..10).map(|i| region.make("key", || 2 + i)).filter(|value| *value > 1).count();
        assert!(made >= 1);
    });
}

#[test]
fn jitter_ends_values_early_and_apart() {
    each(|setup| {
        let policy = RegionPolicy::builder().fresh(FRESH).jitter(0.5).build().unwrap();
        let region = setup.by(policy);
        let keys: Vec<String> = (0..200).map(|i| i.to_string()).collect();
        for key in &keys {
            region.make(key, || 1);
        }
        let there = || keys.iter().filter(|key| region.get(key).is_some()).count();
        region.pass(FRESH / 2 - SECOND);
        assert_eq!(there(), 200);
        region.pass(FRESH / 4 + SECOND);
        let half = there();
        assert!((50..150).contains(&half), "{half} are there after three quarters");
        region.pass(FRESH / 4);
        assert_eq!(there(), 0);
    });
}

#[test]
fn the_creator_may_ask_for_other_keys() {
    each(|setup| {
        let region = setup.by(fresh());
        let made = region.make("a", || region.make("b", || region.make("c", || 1) + 1) + 1);
        assert_eq!(made, 3);
        assert_eq!(region.get_multi(&["a", "b", "c"]), [Some(3), Some(2), Some(1)]);
    });
}

/// In dogpile.cache it is a deadlock.
#[test]
fn the_creator_may_not_ask_for_its_own_key() {
    each(|setup| {
        let region = setup.by(fresh());
        let inner = region.try_make("key", || {
            assert_eq!(region.try_make("key", || Ok(2)), Err(CreateError::Reentrant));
            Ok(1)
        });
        assert_eq!(inner, Ok(1));
        let said = panics(|| region.make("other", || region.make("other", || 2)));
        assert!(said.starts_with("re-entrant creation"), "{said}");
        assert!(!region.key_is_locked("other"));
    });
}

#[test]
fn a_circle_of_two_ends() {
    each(|setup| {
        let setup = setup.clone();
        ends(move || {
            let region = setup.region();
            let (a, b) = (Hold::default(), Hold::default());
            let ask = |own: &str, other: &str, own_hold: &Hold, other_hold: &Hold| {
                region.try_make(own, || {
                    own_hold.here();
                    other_hold.begun();
                    region.try_make(other, || Ok(1)).map_err(|_| "in a circle")
                })
            };
            a.go();
            b.go();
            std::thread::scope(|scope| {
                let one = scope.spawn(|| ask("a", "b", &a, &b));
                let two = ask("b", "a", &b, &a);
                let results = [one.join().unwrap(), two];
                assert!(results.iter().any(|result| result.is_err()), "{results:?}");
            });
            assert!(!region.key_is_locked("a") && !region.key_is_locked("b"));
        });
    });
}

/// dogpile.cache's `async_creation_runner`: where a stale value is, the caller has it and the background makes the newer one.
#[test]
fn detached_in_the_background_when_stale() {
    each(|setup| {
        let kept = Kept::default();
        let policy = RegionPolicy::builder().fresh(FRESH).runner(kept.clone()).build().unwrap();
        let region = setup.by(policy);
        // Missing: in the foreground, by whom it may be.
        let made = std::thread::scope(|scope| {
            let caller = scope.spawn(|| region.hand_on("key", || 1));
            until("it is made", || {
                kept.run();
                caller.is_finished()
            });
            caller.join().unwrap()
        });
        assert_eq!(made, 1);
        region.pass(FRESH);
        assert_eq!(region.hand_on("key", || 2), 1);
        assert!(region.key_is_locked("key"));
        assert_eq!(region.hand_on("key", || 3), 1, "it is being made");
        assert_eq!(kept.run(), 1);
        assert_eq!(region.get("key"), Some(2));
        assert!(!region.key_is_locked("key"));
    });
}

/// In dogpile.cache a runner goes past `should_cache_fn`.
#[test]
fn the_background_asks_should_cache() {
    each(|setup| {
        let kept = Kept::default();
        let policy = RegionPolicy::builder()
            .fresh(FRESH)
            .runner(kept.clone())
            .should_cache_of(|value: &u32| *value != 2)
            .build()
            .unwrap();
        let region = stale(setup, policy);
        assert_eq!(region.hand_on("key", || 2), 1);
        assert_eq!(kept.run(), 1);
        assert_eq!(region.stored("key"), Some(1));
    });
}

#[test]
fn a_job_that_is_dropped_leaves_nothing_locked() {
    each(|setup| {
        let kept = Kept::default();
        let policy = RegionPolicy::builder().fresh(FRESH).runner(kept.clone()).build().unwrap();
        let region = stale(setup, policy);
        assert_eq!(region.hand_on("key", || 2), 1);
        assert_eq!(kept.forget_all(), 1);
        assert!(!region.key_is_locked("key"));
        assert_eq!(region.hand_on("key", || 3), 1);
        assert_eq!(kept.run(), 1);
        assert_eq!(region.get("key"), Some(3));
    });
}

/// At most so many creators at once: dogpile.cache does it by a mutex for several keys.
#[test]
fn max_creations_bounds_them() {
    each(|setup| {
        let _watch = watch();
        let most = NonZeroUsize::new(2).unwrap();
        let region = setup.build(|builder| builder.max_creations(most));
        let (now, highest) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for i in 0..8 {
                let (region, now, highest) = (&region, &now, &highest);
                scope.spawn(move || {
                    region.make(&i.to_string(), || {
                        highest.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                        for _ in 0..50 {
                            std::thread::yield_now();
                        }
                        now.fetch_sub(1, SeqCst);
                        i
                    })
                });
            }
        });
        let highest = highest.into_inner();
        assert!((1..=2).contains(&highest), "{highest} at once");
        assert_eq!(region.stats().creations, 8);
    });
}

/// The second one does not begin before the first has ended.
#[test]
fn max_creations_of_one_makes_the_next_wait() {
    each(|setup| {
        let _watch = watch();
        let region = setup.build(|builder| builder.max_creations(NonZeroUsize::MIN));
        let second = Hold::default();
        second.go();
        std::thread::scope(|scope| {
            let other = while_held(
                |hold| {
                    region.make("a", || {
                        hold.here();
                        1
                    })
                },
                || {
                    let region = &region;
                    let second = &second;
                    scope.spawn(move || {
                        region.make("b", || {
                            second.here();
                            2
                        })
                    });
                    until("it leads", || region.key_is_locked("b"));
                    assert!(!second.has_begun());
                },
            );
            assert_eq!(other, 1);
            second.begun();
        });
        assert_eq!(region.get("b"), Some(2));
    });
}

#[test]
fn nested_creations_take_no_further_turn() {
    each(|setup| {
        let setup = setup.clone();
        ends(move || {
            let region = setup.build(|builder| builder.max_creations(NonZeroUsize::MIN));
            let made = region.make("a", || region.make("b", || region.make("c", || 1) + 1) + 1);
            assert_eq!(made, 3);
            let many = region.make_many(&["d", "e"], |_| vec![region.make("f", || 4), 5]);
            assert_eq!(many, [4, 5]);
        });
    });
}

/// A task that makes something else of its own region, within its creator, takes no further turn either.
#[test]
fn nested_creations_of_tasks_that_really_wait() {
    let region = Region::builder().max_creations(NonZeroUsize::MIN).build_async().unwrap();
    let made = ends(move || {
        pollster::block_on(async {
            let inner = async {
                crate::common::one_pause().await;
                *region
                    .get_or_create("b", async {
                        crate::common::one_pause().await;
                        1
                    })
                    .await
                    .unwrap()
                    + 1
            };
            *region.get_or_create("a", inner).await.unwrap()
        })
    });
    assert_eq!(made, 2);
}

#[test]
fn a_value_made_under_another_type_is_made_anew() {
    each(|setup| {
        let region = setup.by(fresh());
        let lead = |hold: &Hold| {
            *region.make_as("key", || {
                hold.here();
                7_u64
            }) as u32
        };
        let other = |_| *region.make_as("key", || 8_i16) as u32;
        let (led, others) = crowd(|| region.stats().waits, lead, 1, other, || {});
        assert_eq!(led.unwrap(), 7);
        assert_eq!(others.into_iter().next().unwrap().unwrap(), 8);
        assert_eq!(region.get_as::<i16>("key").as_deref(), Some(&8));
    });
}

/// Values that were set with a time of their own are made anew when it is over, and then have the region's.
#[test]
fn what_is_made_after_a_time_of_its_own_has_the_regions() {
    each(|setup| {
        let region = setup.by(fresh());
        region.set_with("key", 1, SetOptions::new().ttl(SECOND));
        region.pass(SECOND);
        assert_eq!(region.make("key", || 2), 2);
        region.pass(FRESH - SECOND);
        assert_eq!(region.make("key", || unreachable!()), 2);
    });
}

/// A task that gives up while it leads: another one leads in its place, or the next who comes.
#[test]
fn a_leader_that_is_dropped_releases() {
    use crate::common::{Door, Polled};
    use std::cell::RefCell;
    each(|setup| {
        let region = setup.by(fresh());
        let door = Arc::new(Door::default());
        let creator = async {
            door.opened().await;
            1_u32
        };
        let leader = RefCell::new(Polled::new(region.tasks.get_or_create("key", creator)));
        until("it leads", || {
            assert!(leader.borrow_mut().poll().is_none());
            region.key_is_locked("key")
        });
        let waiter = RefCell::new(Polled::new(region.tasks.get_or_create("key", async { 2_u32 })));
        until("it waits", || {
            assert!(waiter.borrow_mut().poll().is_none());
            region.stats().waits == 1
        });
        drop(leader);
        let got = RefCell::new(None);
        until("the waiter leads", || {
            let polled = waiter.borrow_mut().poll();
            let is_some = polled.is_some();
            *got.borrow_mut() = polled;
            is_some
        });
        let got = got.into_inner();
        assert_eq!(got.unwrap().unwrap().as_ref(), &2);
        assert!(!region.key_is_locked("key"));
    });
}
