//! The dogpile lock alone, around things that are no cache: a field, a file. The same table, the same settings, for threads and
//! tasks.

mod common;

use common::{
    Door, Hold, Polled, Release, SideBySide, crowd, ends, message, one_pause, panics, until, watch,
    while_held,
};
use dogpile::gate::{Dated, Gate, GateStats, PolicyBuilder};
use dogpile::time::{Clock, Instant, ManualClock, PreciseClock};
use dogpile::{Cache, CreateError, Early, Freshness, Policy};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;
use std::{fs, io, thread};

const SECOND: Duration = Duration::from_secs(1);
const FRESH: Duration = Duration::from_secs(60);
const STALE: Duration = Duration::from_secs(600);

/// A value in a field, with its date, and counts of what was done to it.
#[derive(Default)]
struct Field {
    gate: Gate<u32>,
    stored: Mutex<Option<(u32, Instant)>>,
    clock: ManualClock,
    reads: AtomicUsize,
    creations: AtomicUsize,
}

type Asked = Result<u32, CreateError<&'static str>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Run,
    RunAsync,
}

const VERBS: [Verb; 2] = [Verb::Run, Verb::RunAsync];

impl Field {
    fn new() -> Self {
        let field = Self::default();
        field.clock.advance(1000 * SECOND);
        field
    }

    fn with(value: u32) -> Self {
        let field = Self::new();
        field.store(value);
        field
    }

    fn store(&self, value: u32) {
        *self.stored.lock().unwrap() = Some((value, self.clock.now()));
    }

    fn stored(&self) -> Option<u32> {
        self.stored.lock().unwrap().map(|(value, _)| value)
    }

    fn read(&self) -> Option<Dated<u32>> {
        self.reads.fetch_add(1, SeqCst);
        let stored = *self.stored.lock().unwrap();
        stored.map(|(value, at)| Dated { value, age: self.clock.now().saturating_duration_since(at) })
    }

    fn create<E>(&self, make: impl FnOnce() -> Result<u32, E>) -> Result<u32, E> {
        self.creations.fetch_add(1, SeqCst);
        make().inspect(|value| self.store(*value))
    }

    fn ask(
        &self,
        verb: Verb,
        policy: &Policy<u32>,
        make: impl FnOnce() -> Result<u32, &'static str>,
    ) -> Asked {
        let (read, create) = (|| self.read(), || self.create(make));
        match verb {
            Verb::Run => self.gate.run(read, create, &self.clock, policy),
            Verb::RunAsync => {
                let read = || std::future::ready(read());
                pollster::block_on(self.gate.run_async(read, async { create() }, &self.clock, policy))
            }
        }
    }

    /// How often it was read and made since the last time.
    fn done(&self) -> (usize, usize) {
        (self.reads.swap(0, SeqCst), self.creations.swap(0, SeqCst))
    }

    fn waits(&self) -> u64 {
        self.gate.stats().waits
    }
}

fn policy() -> PolicyBuilder<u32> {
    Policy::builder()
}

fn usual() -> Policy<u32> {
    policy().fresh(FRESH).stale(STALE).build().unwrap()
}

/// What is compared of the statistics.
fn counts(gate: &Gate<u32>) -> [u64; 7] {
    let GateStats { leads, waits, timed_out, creations, failures, stale_served, hand_overs, .. } =
        gate.stats();
    [leads, waits, timed_out, creations, failures, stale_served, hand_overs]
}

fn never() -> Result<u32, &'static str> {
    unreachable!("nothing is to be made")
}

// The table, and what is read

#[test]
fn a_hit_is_one_read() {
    for verb in VERBS {
        let field = Field::with(1);
        assert_eq!(field.ask(verb, &usual(), never), Ok(1));
        assert_eq!((field.done(), counts(&field.gate)), ((1, 0), [0; 7]), "{verb:?}");
        field.clock.advance(FRESH - Duration::from_nanos(1));
        assert_eq!(field.ask(verb, &usual(), never), Ok(1));
        // Without `fresh` a value is good for ever.
        field.clock.advance(1000 * STALE);
        assert_eq!(field.ask(verb, &Policy::default(), never), Ok(1));
        assert_eq!(field.done(), (2, 0), "{verb:?}");
    }
}

#[test]
fn a_creation_is_one_read_and_one_call() {
    for verb in VERBS {
        let field = Field::new();
        assert_eq!(field.ask(verb, &usual(), || Ok(1)), Ok(1), "missing");
        assert_eq!(field.done(), (1, 1), "{verb:?}");
        for age in [FRESH, FRESH + STALE, STALE * 1000] {
            field.store(5);
            field.clock.advance(age);
            assert_eq!(field.ask(verb, &usual(), || Ok(2)), Ok(2), "stale or too old");
            assert_eq!((field.done(), field.stored()), ((1, 1), Some(2)), "{verb:?}, {age:?}");
        }
        assert_eq!(counts(&field.gate), [4, 0, 0, 4, 0, 0, 0], "{verb:?}");
    }
}

#[test]
fn while_somebody_makes_it_the_stale_value_is_one_read() {
    let _watch = watch();
    for lead_by in VERBS {
        let field = Field::with(1);
        field.clock.advance(FRESH);
        let lead = |hold: &Hold| {
            field.ask(lead_by, &usual(), || {
                hold.here();
                Ok(2)
            })
        };
        let led = while_held(lead, || {
            assert!(field.gate.is_locked());
            field.done();
            for verb in VERBS {
                assert_eq!(field.ask(verb, &usual(), never), Ok(1), "{verb:?}");
                assert_eq!(field.done(), (1, 0), "{verb:?}");
            }
        });
        assert_eq!((led, field.gate.is_locked()), (Ok(2), false));
        assert_eq!(counts(&field.gate), [1, 0, 0, 1, 0, 2, 0]);
    }
}

#[test]
fn while_somebody_makes_it_and_there_is_none_all_wait_and_read_once() {
    let _watch = watch();
    for lead_by in VERBS {
        for is_there in [false, true] {
            let field = if is_there { Field::with(1) } else { Field::new() };
            field.clock.advance(FRESH + STALE);
            let lead = |hold: &Hold| {
                field.ask(lead_by, &usual(), || {
                    hold.here();
                    Ok(2)
                })
            };
            let wait = |i: usize| field.ask(VERBS[i % 2], &usual(), never);
            let (led, waited) = crowd(|| field.waits(), lead, 6, wait, || {});
            assert_eq!(led.unwrap(), Ok(2));
            waited.into_iter().for_each(|waited| assert_eq!(waited.unwrap(), Ok(2)));
            assert_eq!((field.done(), counts(&field.gate)), ((7, 1), [1, 6, 0, 1, 0, 0, 0]));
        }
    }
}

/// A value that is fresh needs nobody's leave, whoever is at work.
#[test]
fn while_somebody_makes_it_a_fresh_value_is_returned() {
    let _watch = watch();
    let field = Field::new();
    let lead = |hold: &Hold| {
        field.ask(Verb::Run, &usual(), || {
            hold.here();
            Ok(2)
        })
    };
    let led = while_held(lead, || {
        field.store(1);
        for verb in VERBS {
            assert_eq!(field.ask(verb, &usual(), never), Ok(1), "{verb:?}: somebody has put it there");
        }
    });
    assert_eq!((led, field.stored()), (Ok(2), Some(2)), "a gate's creator stores for itself");
}

/// Who had looked before another made it, and wins after that, looks again.
#[test]
fn who_comes_late_to_the_lead_looks_again() {
    let _watch = watch();
    for verb in VERBS {
        let field = Field::new();
        let (has_read, is_made) = (Door::default(), Door::default());
        thread::scope(|scope| {
            let late = scope.spawn(|| {
                let slow_read = || {
                    let found = field.read();
                    if !is_made.is_open() {
                        has_read.open();
                        is_made.wait();
                    }
                    found
                };
                match verb {
                    Verb::Run => field.gate.run(slow_read, never, &field.clock, &usual()),
                    Verb::RunAsync => {
                        let read = || std::future::ready(slow_read());
                        let policy = usual();
                        let run = field.gate.run_async(read, async { never() }, &field.clock, &policy);
                        pollster::block_on(run)
                    }
                }
            });
            has_read.wait();
            assert_eq!(field.ask(Verb::Run, &usual(), || Ok(2)), Ok(2));
            is_made.open();
            assert_eq!(late.join().unwrap(), Ok(2), "{verb:?}");
        });
        assert_eq!(field.done(), (3, 1), "{verb:?}");
        assert_eq!(counts(&field.gate), [1, 0, 0, 1, 0, 0, 0], "{verb:?}: that was no lead");
    }
}

/// Two find it stale, or missing, in the same moment: the clock is read between the look and the attempt to lead.
#[test]
fn of_two_who_look_at_once_one_leads() {
    struct Together(SideBySide, ManualClock);
    impl Clock for Together {
        fn now(&self) -> Instant {
            self.1.now()
        }
        fn precise(&self) -> Instant {
            // Whoever leads reads it again.
            self.0.meet_up_to(1);
            self.1.now()
        }
    }
    let _watch = watch();
    for round in 0..200 {
        let field = if round % 2 == 0 { Field::new() } else { Field::with(1) };
        field.clock.advance(FRESH);
        let (clock, served) = (Together(SideBySide::default(), field.clock.clone()), AtomicUsize::new(0));
        let found = clock.0.run(|| {
            let create = || {
                field.create(|| {
                    clock.0.get_ahead();
                    let others = || served.load(SeqCst) + field.waits() as usize;
                    until("the other one", || field.creations.load(SeqCst) + others() == 2);
                    Ok::<_, &str>(2)
                })
            };
            let found = field.gate.run(|| field.read(), create, &clock, &usual());
            served.fetch_add(1, SeqCst);
            found.unwrap()
        });
        assert_eq!(field.creations.load(SeqCst), 1);
        assert_eq!(found[0] + found[1], if round % 2 == 0 { 4 } else { 3 });
    }
}

#[test]
fn who_wants_fresh_values_waits_for_them() {
    let _watch = watch();
    let fresh_only = policy().fresh(FRESH).freshness(Freshness::WaitFresh).build().unwrap();
    let field = Field::with(1);
    field.clock.advance(FRESH);
    let lead = |hold: &Hold| {
        field.ask(Verb::Run, &usual(), || {
            hold.here();
            Ok(2)
        })
    };
    let wait = |i: usize| field.ask(VERBS[i], &fresh_only, never);
    let (led, waited) = crowd(|| field.waits(), lead, 2, wait, || {});
    assert_eq!(led.unwrap(), Ok(2));
    waited.into_iter().for_each(|waited| assert_eq!(waited.unwrap(), Ok(2)));
}

#[test]
fn cache_only_makes_nothing_and_waits_for_nobody() {
    let _watch = watch();
    let only = policy().fresh(FRESH).stale(STALE).freshness(Freshness::CacheOnly).build().unwrap();
    for verb in VERBS {
        let field = Field::new();
        let ask = || field.ask(verb, &only, never);
        assert_eq!(ask(), Err(CreateError::NotCached), "{verb:?}");
        let lead = |hold: &Hold| {
            field.ask(Verb::Run, &usual(), || {
                hold.here();
                Ok(1)
            })
        };
        _ = while_held(lead, || assert_eq!(ask(), Err(CreateError::NotCached), "{verb:?}"));
        assert_eq!(ask(), Ok(1), "{verb:?}");
        field.clock.advance(FRESH);
        assert_eq!(ask(), Ok(1), "{verb:?}");
        field.clock.advance(STALE);
        assert_eq!(ask(), Err(CreateError::NotCached), "{verb:?}");
        assert_eq!(counts(&field.gate), [1, 0, 0, 1, 0, 1, 0], "{verb:?}");
    }
}

#[test]
fn wait_that_runs_out_is_an_error() {
    let _watch = watch();
    for wait in [Duration::ZERO, Duration::from_millis(1)] {
        let short = policy().wait(wait).build().unwrap();
        let field = Field::new();
        let lead = |hold: &Hold| {
            field.ask(Verb::Run, &usual(), || {
                hold.here();
                Ok(1)
            })
        };
        let led = while_held(lead, || {
            for verb in VERBS {
                assert_eq!(field.ask(verb, &short, never), Err(CreateError::TimedOut), "{verb:?}");
            }
        });
        assert_eq!((led, counts(&field.gate)), (Ok(1), [1, 2, 2, 1, 0, 0, 0]));
    }
}

// Errors

#[test]
fn an_error_is_shared_by_all_who_waited_for_it() {
    let _watch = watch();
    for lead_by in VERBS {
        let field = Field::new();
        let lead = |hold: &Hold| {
            field.ask(lead_by, &usual(), || {
                hold.here();
                Err("no")
            })
        };
        let wait = |i: usize| field.ask(VERBS[i % 2], &usual(), never);
        let (led, waited) = crowd(|| field.waits(), lead, 4, wait, || {});
        let Err(CreateError::Creator(error)) = led.unwrap() else { panic!("it failed") };
        for waited in waited {
            let Err(CreateError::Creator(shared)) = waited.unwrap() else { panic!("it failed") };
            assert!(Arc::ptr_eq(&error, &shared));
        }
        assert_eq!(counts(&field.gate), [1, 4, 0, 0, 1, 0, 0]);
        assert_eq!(field.ask(lead_by, &usual(), || Ok(2)), Ok(2), "it is not remembered");
    }
}

#[test]
fn a_waiter_with_another_type_of_error_leads_next() {
    let _watch = watch();
    let field = Field::new();
    let lead = |hold: &Hold| {
        let failing = || {
            hold.here();
            field.create(|| "seven".parse::<u32>())
        };
        field.gate.run(|| field.read(), failing, &field.clock, &usual()).map_err(|error| error.to_string())
    };
    let wait =
        |i: usize| field.ask(VERBS[i % 2], &usual(), || Ok(i as u32)).map_err(|error| error.to_string());
    let (led, waited) = crowd(|| field.waits(), lead, 4, wait, || {});
    let found: Vec<u32> = waited.into_iter().map(|waited| waited.unwrap().unwrap()).collect();
    // The leader may find that value in the place of its error, if it comes late enough.
    let led = led.unwrap();
    assert!(led == Err(String::from("the creator failed")) || led == Ok(found[0]), "{led:?}");
    assert!(found.iter().all(|value| Some(*value) == field.stored()), "{found:?}");
    assert_eq!(field.creations.load(SeqCst), 2);
}

#[test]
fn an_error_is_remembered_for_its_time() {
    let remembers = policy().fresh(FRESH).error_ttl(10 * SECOND).build().unwrap();
    for verb in VERBS {
        let field = Field::new();
        let no = || Err(CreateError::Creator(Arc::new("no")));
        assert_eq!(field.ask(verb, &remembers, || Err("no")), no(), "{verb:?}");
        field.clock.advance(10 * SECOND - Duration::from_nanos(1));
        assert_eq!(field.ask(verb, &remembers, never), no(), "{verb:?}");
        // Of another type: that creator may try.
        let other = field.gate.run(|| field.read(), || Err::<u32, _>(7_u8), &field.clock, &usual());
        assert_eq!(other, Err(CreateError::Creator(Arc::new(7))), "{verb:?}");
        field.clock.advance(Duration::from_nanos(1));
        assert_eq!(field.ask(verb, &remembers, || Err("still no")).unwrap_err().creator(), Some(&"still no"));
        // A value that somebody puts there is one.
        field.store(5);
        assert_eq!(field.ask(verb, &remembers, never), Ok(5), "{verb:?}");
        field.clock.advance(FRESH);
        assert!(field.ask(verb, &remembers, || Err("no")).is_err(), "{verb:?}");
        // A success ends it, whoever has it.
        let other =
            field.gate.run(|| field.read(), || field.create(|| Ok::<_, u8>(6)), &field.clock, &remembers);
        assert_eq!(other, Ok(6), "{verb:?}");
        *field.stored.lock().unwrap() = None;
        assert_eq!(field.ask(verb, &remembers, || Ok(7)), Ok(7), "{verb:?}");
    }
}

#[test]
fn a_stale_value_stands_in_for_an_error_and_the_next_try_is_held_back() {
    let stands_in = policy().fresh(FRESH).stale_if_error(STALE).hold_back(5 * SECOND).build().unwrap();
    for verb in VERBS {
        let field = Field::with(1);
        field.clock.advance(FRESH);
        assert_eq!(field.ask(verb, &stands_in, || Err("no")), Ok(1), "{verb:?}");
        assert!(!field.gate.is_locked());
        field.clock.advance(5 * SECOND - Duration::from_nanos(1));
        for other in VERBS {
            assert_eq!(field.ask(other, &stands_in, never), Ok(1), "{other:?}: held back");
        }
        field.clock.advance(Duration::from_nanos(1));
        assert_eq!(field.ask(verb, &stands_in, || Err("no")), Ok(1), "{verb:?}");
        assert_eq!(counts(&field.gate), [2, 0, 0, 0, 2, 4, 0], "{verb:?}");
        field.clock.advance(5 * SECOND);
        assert_eq!(field.ask(verb, &stands_in, || Ok(2)), Ok(2), "{verb:?}");
        field.clock.advance(FRESH + STALE - Duration::from_nanos(1));
        assert_eq!(field.ask(verb, &stands_in, || Err("no")), Ok(2), "{verb:?}");
        field.clock.advance(Duration::from_nanos(1));
        assert!(field.ask(verb, &stands_in, || Err("no")).is_err(), "{verb:?}: too old");
        // What is put there meanwhile is fresh.
        field.store(3);
        assert_eq!(field.ask(verb, &stands_in, never), Ok(3), "{verb:?}");
    }
}

#[test]
fn who_waited_for_an_error_gets_the_stale_value_too() {
    let _watch = watch();
    let stands_in = policy().fresh(FRESH).stale_if_error(STALE).build().unwrap();
    let field = Field::with(1);
    field.clock.advance(FRESH);
    let lead = |hold: &Hold| {
        field.ask(Verb::Run, &stands_in, || {
            hold.here();
            Err("no")
        })
    };
    let (led, waited) =
        crowd(|| field.waits(), lead, 4, |i| field.ask(VERBS[i % 2], &stands_in, never), || {});
    assert_eq!(led.unwrap(), Ok(1));
    waited.into_iter().for_each(|waited| assert_eq!(waited.unwrap(), Ok(1)));
    assert_eq!(counts(&field.gate), [1, 4, 0, 0, 1, 5, 0]);
}

/// As for a cache.
#[test]
fn nobody_spins_while_the_next_try_is_held_back() {
    for verb in VERBS {
        ends(move || {
            let fresh_only = policy().fresh(FRESH).stale_if_error(STALE).freshness(Freshness::WaitFresh);
            let fresh_only = fresh_only.wait(Duration::ZERO).build().unwrap();
            let field = Field::with(1);
            field.clock.advance(FRESH);
            assert_eq!(field.ask(verb, &fresh_only, || Err("no")), Ok(1));
            assert!(matches!(field.ask(verb, &fresh_only, || Err("no")), Ok(1) | Err(_)), "{verb:?}");
        });
    }
}

// Early

#[test]
fn early_by_a_fraction_one_makes_it_anew_and_the_others_have_the_value() {
    let _watch = watch();
    let early = policy().fresh(100 * SECOND).early(Early::Fraction(0.8)).build().unwrap();
    for verb in VERBS {
        let field = Field::with(1);
        field.clock.advance(80 * SECOND - Duration::from_nanos(1));
        assert_eq!(field.ask(verb, &early, never), Ok(1), "{verb:?}: not yet");
        field.clock.advance(Duration::from_nanos(1));
        let lead = |hold: &Hold| {
            field.ask(verb, &early, || {
                hold.here();
                Ok(2)
            })
        };
        let led = while_held(lead, || {
            for other in VERBS {
                assert_eq!(field.ask(other, &early, never), Ok(1), "{other:?}: at once");
            }
        });
        assert_eq!((led, counts(&field.gate)), (Ok(2), [1, 0, 0, 1, 0, 0, 0]), "{verb:?}");
    }
}

#[test]
fn early_by_xfetch_goes_by_what_the_last_creation_took() {
    let early = policy().fresh(1000 * SECOND).early(Early::XFetch { beta: 1.0 }).build().unwrap();
    for verb in VERBS {
        for (cost, is_due) in [(Duration::from_millis(1), false), (1_000_000_000 * SECOND, true)] {
            let field = Field::with(1);
            field.clock.advance(998 * SECOND);
            assert_eq!(field.ask(verb, &early, never), Ok(1), "{verb:?}: nobody knows what it took");
            field.clock.advance(2 * SECOND);
            let slowly = || {
                field.clock.advance(cost);
                Ok(2)
            };
            assert_eq!(field.ask(verb, &early, slowly), Ok(2));
            field.clock.advance(998 * SECOND);
            assert_eq!(
                field.ask(verb, &early, || Ok(3)),
                Ok(if is_due { 3 } else { 2 }),
                "{verb:?}, {cost:?}"
            );
        }
    }
}

#[test]
fn early_failures_are_not_repeated_before_the_time_is_over() {
    let early =
        policy().fresh(100 * SECOND).stale_if_error(STALE).early(Early::Fraction(0.5)).build().unwrap();
    for verb in VERBS {
        let field = Field::with(1);
        field.clock.advance(50 * SECOND);
        assert_eq!(field.ask(verb, &early, || Err("no")), Ok(1), "{verb:?}");
        assert_eq!(field.ask(verb, &early, never), Ok(1), "{verb:?}");
        field.clock.advance(50 * SECOND);
        assert_eq!(field.ask(verb, &early, || Ok(2)), Ok(2), "{verb:?}");
    }
}

#[test]
fn early_failures_do_not_cost_the_caller_a_fresh_value() {
    let early = policy().fresh(100 * SECOND).early(Early::Fraction(0.5)).build().unwrap();
    for verb in VERBS {
        let field = Field::with(1);
        field.clock.advance(50 * SECOND);
        assert_eq!(field.ask(verb, &early, || Err("no")), Ok(1), "{verb:?}");
    }
}

/// One failure is enough for one version, not for the next as well, which somebody else has stored.
#[test]
fn early_failures_are_forgotten_with_their_version() {
    let early =
        policy().fresh(100 * SECOND).stale_if_error(STALE).early(Early::Fraction(0.5)).build().unwrap();
    for verb in VERBS {
        let field = Field::with(1);
        field.clock.advance(50 * SECOND);
        assert_eq!(field.ask(verb, &early, || Err("no")), Ok(1), "{verb:?}");
        field.store(2);
        assert_eq!(field.ask(verb, &early, never), Ok(2), "{verb:?}");
        field.clock.advance(50 * SECOND);
        assert_eq!(field.ask(verb, &early, || Ok(3)), Ok(3), "{verb:?}");
    }
}

// Panics, re-entry, dropped futures

#[test]
fn after_a_panic_a_waiter_leads_and_after_a_second_the_rest_are_told() {
    let _watch = watch();
    for lead_by in VERBS {
        for second_panics in [false, true] {
            let field = Field::new();
            let lead = |hold: &Hold| {
                field.ask(lead_by, &usual(), || {
                    hold.here();
                    panic!("the first")
                })
            };
            let wait = |i: usize| {
                field.ask(VERBS[i % 2], &usual(), || {
                    assert!(i == 0 && !second_panics, "the second");
                    Ok(5)
                })
            };
            let (led, waited) = crowd(|| field.waits(), lead, 5, wait, || {});
            assert_eq!(message(led), "the first");
            let mut waited = waited.into_iter();
            if second_panics {
                assert_eq!(message(waited.next().unwrap()), "the second");
                waited.for_each(|waited| assert_eq!(waited.unwrap(), Err(CreateError::LeaderPanicked)));
                assert_eq!(counts(&field.gate), [2, 5, 0, 0, 2, 0, 1]);
            } else {
                waited.for_each(|waited| assert_eq!(waited.unwrap(), Ok(5)));
                assert_eq!(counts(&field.gate), [2, 5, 0, 1, 1, 0, 1]);
            }
            assert!(!field.gate.is_locked());
            assert!(field.ask(lead_by, &usual(), || Ok(6)).is_ok());
        }
    }
}

/// A read that panics is its caller's own affair.
#[test]
fn a_read_may_panic() {
    let gate = Gate::<u32>::new();
    let said = panics(|| gate.run(|| panic!("disk"), never, &PreciseClock, &usual()));
    assert_eq!(said, "disk");
    assert!(!gate.is_locked());
    assert_eq!(gate.run(|| None, || Ok::<_, &str>(1), &PreciseClock, &usual()), Ok(1));
}

#[test]
fn a_creator_that_asks_its_own_gate_gets_an_error() {
    let _watch = watch();
    for (outer, inner) in VERBS.into_iter().flat_map(|outer| VERBS.map(|inner| (outer, inner))) {
        let field = Field::new();
        let found = field.ask(outer, &usual(), || {
            assert_eq!(field.ask(inner, &usual(), never), Err(CreateError::Reentrant));
            Ok(1)
        });
        assert_eq!(found, Ok(1), "{inner:?} in {outer:?}");
        // Over a stale value there is nothing to wait for.
        field.clock.advance(FRESH);
        let found = field.ask(outer, &usual(), || field.ask(inner, &usual(), never).map_err(|_| "no"));
        assert_eq!(found, Ok(1), "{inner:?} in {outer:?}");
    }
}

/// Gates, and gates and caches, that wait for each other.
#[test]
fn circles_of_gates_and_caches_end() {
    let _watch = watch();
    let (one, other, cache) = (Field::new(), Field::new(), Cache::<u32, u32>::new(10));
    let (both_lead, circles) = (Barrier::new(2), AtomicUsize::new(0));
    let closes = |asked: Asked| match asked {
        Err(CreateError::Reentrant) => {
            circles.fetch_add(1, SeqCst);
            Ok(1)
        }
        other => Ok(other.unwrap() + 1),
    };
    let (a, b) = thread::scope(|scope| {
        let a = scope.spawn(|| {
            one.ask(Verb::Run, &usual(), || {
                both_lead.wait();
                closes(other.ask(Verb::RunAsync, &usual(), || Err("not mine")))
            })
        });
        let b = other.ask(Verb::Run, &usual(), || {
            both_lead.wait();
            closes(one.ask(Verb::Run, &usual(), || Err("not mine")))
        });
        (a.join().unwrap().unwrap(), b.unwrap())
    });
    assert_eq!((a + b, circles.load(SeqCst)), (3, 1));
    let third = Field::new();
    let (a, b) = thread::scope(|scope| {
        let a = scope.spawn(|| {
            third.ask(Verb::Run, &usual(), || {
                both_lead.wait();
                closes(cache.try_get_or_create(&1, || Err("not mine")).map(|found| *found))
            })
        });
        let b = cache.try_get_or_create(&1, || {
            both_lead.wait();
            closes(third.ask(Verb::Run, &usual(), || Err("not mine")))
        });
        (a.join().unwrap().unwrap(), *b.unwrap())
    });
    assert_eq!((a + b, circles.load(SeqCst)), (3, 2));
}

#[test]
fn a_thread_and_a_task_share_one_flight() {
    let _watch = watch();
    for [lead_by, wait_by] in [[Verb::Run, Verb::RunAsync], [Verb::RunAsync, Verb::Run]] {
        let field = Field::new();
        let lead = |hold: &Hold| {
            field.ask(lead_by, &usual(), || {
                hold.here();
                Ok(1)
            })
        };
        let (led, waited) = crowd(|| field.waits(), lead, 1, |_| field.ask(wait_by, &usual(), never), || {});
        assert_eq!((led.unwrap(), waited.into_iter().next().unwrap().unwrap()), (Ok(1), Ok(1)));
        assert_eq!((field.done(), counts(&field.gate)), ((2, 1), [1, 1, 0, 1, 0, 0, 0]));
    }
}

/// Reads and creators that pause, dropped at each of their pauses, as leader and as waiter.
#[test]
fn a_future_may_be_dropped_at_every_await() {
    fn slowly(field: &Field) -> Polled<'_, Asked> {
        let read = || async {
            one_pause().await;
            field.read()
        };
        let create = async {
            one_pause().await;
            one_pause().await;
            field.create(|| Ok(1))
        };
        Polled::new(async move { field.gate.run_async(read, create, &field.clock, &usual()).await })
    }
    for waits in [false, true] {
        let mut ended = false;
        for polls in 0.. {
            let field = Field::new();
            let mut leader = slowly(&field);
            if waits {
                // It leads, and goes when the other one has begun to wait.
                (0..2).for_each(|_| assert!(leader.poll().is_none()));
                assert!(field.gate.is_locked());
            } else {
                drop(leader);
                leader = Polled::new(std::future::pending());
            }
            let mut dropped = slowly(&field);
            for _ in 0..polls {
                if dropped.poll().is_some() {
                    ended = true;
                    break;
                }
            }
            drop(leader);
            if waits && polls >= 2 && !ended {
                assert!(field.gate.is_locked(), "it leads now");
            }
            drop(dropped);
            assert!(!field.gate.is_locked(), "waits: {waits}, after {polls} polls");
            assert!(field.ask(Verb::Run, &usual(), || Ok(2)).is_ok());
            // A waiter does not end: its leader is never polled again.
            if ended || polls > 9 {
                break;
            }
        }
        assert_eq!(ended, !waits);
    }
}

// Whole

#[test]
fn what_is_told_of_a_gate() {
    let gate = Gate::<String>::default();
    assert_eq!(gate.stats(), GateStats::default());
    assert!(!gate.is_locked());
    assert_eq!(format!("{gate:?}"), "Gate { is_locked: false, .. }");
    let make = || Ok::<_, &str>(format!("{gate:?}"));
    let told = gate.run(|| None, make, &PreciseClock, &Policy::default()).unwrap();
    assert_eq!(told, "Gate { is_locked: true, .. }");
    fn travels<T: Send + Sync>() {}
    travels::<Gate<u32>>();
    let dated = Dated { value: 1, age: SECOND };
    assert_eq!(dated.clone(), dated);
}

/// Values and creators may borrow.
#[test]
fn a_gate_may_guard_borrowed_things() {
    let text = String::from("borrowed");
    let (gate, stored) = (Gate::<&str>::new(), Mutex::new(None::<&str>));
    let read = || stored.lock().unwrap().map(|value| Dated { value, age: Duration::ZERO });
    let create = || {
        *stored.lock().unwrap() = Some(&text[..4]);
        Ok::<_, std::fmt::Error>(&text[..4])
    };
    for _ in 0..2 {
        assert_eq!(gate.run(read, create, &PreciseClock, &Policy::default()), Ok("borr"));
    }
    assert_eq!(gate.stats().creations, 1);
}

/// A file that is removed when the test ends.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        _ = fs::remove_file(&path);
        Self(path)
    }

    fn read(&self) -> Option<Dated<String>> {
        let age = fs::metadata(&self.0).ok()?.modified().ok()?.elapsed().unwrap_or_default();
        Some(Dated { value: fs::read_to_string(&self.0).ok()?, age })
    }

    fn write(&self, text: &str) -> io::Result<String> {
        fs::write(&self.0, text)?;
        Ok(text.to_owned())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

/// Fifty threads want a report that is not there: one writes it.
#[test]
fn a_file_is_written_by_one_of_many() {
    let _watch = watch();
    let (file, gate, calls) = (File::new("gate-one"), Gate::new(), AtomicUsize::new(0));
    let policy = Policy::builder().fresh(Duration::from_secs(3600)).build().unwrap();
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let create = || {
                    calls.fetch_add(1, SeqCst);
                    until("all others wait", || gate.stats().waits == 49);
                    file.write("all is well")
                };
                assert_eq!(gate.run(|| file.read(), create, &PreciseClock, &policy).unwrap(), "all is well");
            });
        }
    });
    assert_eq!((calls.load(SeqCst), gate.stats().leads, gate.stats().waits), (1, 1, 49));
    let again = gate.run(|| file.read(), || file.write("never"), &PreciseClock, &policy);
    assert_eq!(again.unwrap(), "all is well");
    // It is gone, and its folder can't be written: the error is the creator's.
    drop(fs::remove_file(&file.0));
    let elsewhere = File(file.0.join("below a file that is none"));
    let error = gate.run(|| elsewhere.read(), || elsewhere.write(""), &PreciseClock, &policy).unwrap_err();
    assert_eq!(error.creator().unwrap().kind(), io::ErrorKind::NotFound);
}

/// The twin: without the gate each of them writes it.
#[test]
fn without_the_gate_all_write_the_file() {
    let _watch = watch();
    let (file, calls, barrier) = (File::new("gate-all"), AtomicUsize::new(0), Barrier::new(50));
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                if file.read().is_none() {
                    calls.fetch_add(1, SeqCst);
                    barrier.wait();
                    file.write("all is well").unwrap();
                }
            });
        }
    });
    assert_eq!(calls.load(SeqCst), 50);
}

/// A stale file is read by all while one of them writes it anew.
#[test]
fn a_stale_file_is_read_while_it_is_written_anew() {
    let _watch = watch();
    let (file, gate, hold) = (File::new("gate-stale"), Gate::new(), Hold::default());
    let policy = Policy::builder().fresh(Duration::ZERO).stale(Duration::MAX).build().unwrap();
    file.write("old").unwrap();
    thread::scope(|scope| {
        let _release = Release(&hold);
        let writer = scope.spawn(|| {
            let create = || {
                hold.here();
                file.write("new")
            };
            gate.run(|| file.read(), create, &PreciseClock, &policy).unwrap()
        });
        hold.begun();
        for _ in 0..20 {
            let never = || -> io::Result<String> { unreachable!("somebody writes it") };
            assert_eq!(gate.run(|| file.read(), never, &PreciseClock, &policy).unwrap(), "old");
        }
        hold.go();
        assert_eq!(writer.join().unwrap(), "new");
    });
    assert_eq!((file.read().unwrap().value.as_str(), gate.stats().stale_served), ("new", 20));
}
