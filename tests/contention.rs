//! Contention that contends: a creator goes on only when all callers of its key have come and wait, so that whoever could be
//! called twice would be.
//!
//! Each test that counts "exactly so many" has its twin, which does the same by `get`, make and `insert`, and shows more.

mod common;

use common::{Door, HANG, Polled, Release, SideBySide, message, until, watch};
use dogpile::time::{Clock, Instant, ManualClock};
use dogpile::{Cache, CreateError, EntryState, Freshness, InsertOptions, Policy};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Condvar, Mutex, mpsc};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

const THREADS: usize = 1000;
const KEYS: u32 = 100;
/// Small, so that a thousand of them are nothing.
const STACK: usize = 128 << 10;
const SECOND: Duration = Duration::from_secs(1);

/// A thousand of the same.
fn crowd<'scope, 'env, T: Send + 'scope>(
    scope: &'scope Scope<'scope, 'env>,
    threads: usize,
    run: impl Fn(usize) -> T + Copy + Send + 'scope,
) -> Vec<ScopedJoinHandle<'scope, T>> {
    let spawn = |i| thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || run(i)).unwrap();
    (0..threads).map(spawn).collect()
}

fn policy() -> Policy<u64> {
    Policy::builder().fresh(60 * SECOND).stale(600 * SECOND).build().unwrap()
}

fn timed(policy: Policy<u64>) -> (Cache<u32, u64>, ManualClock) {
    let clock = ManualClock::new();
    clock.advance(1000 * SECOND);
    let builder = Cache::builder().max_entries(1000).policy(policy);
    (builder.clock(clock.clone()).build().unwrap(), clock)
}

// Threads

/// Key after key, all threads on each.
#[test]
fn a_thousand_threads_on_each_of_a_hundred_keys_are_a_hundred_calls() {
    let _watch = watch();
    let (cache, calls) = (Cache::<u32, u64>::new(1000), AtomicU64::new(0));
    let others = THREADS as u64 - 1;
    thread::scope(|scope| {
        crowd(scope, THREADS, |_| {
            for key in 0..KEYS {
                let found = cache.get_or_create(&key, || {
                    let all = others * (u64::from(key) + 1);
                    until("all others wait for this key", || cache.stats().waits == all);
                    calls.fetch_add(1, SeqCst);
                    u64::from(key) * 7
                });
                assert_eq!(*found, u64::from(key) * 7);
            }
        });
    });
    let stats = cache.stats();
    assert_eq!((calls.load(SeqCst), stats.leads, stats.creations), (100, 100, 100));
    assert_eq!((stats.waits, stats.timed_out, stats.failures), (others * 100, 0, 0));
}

/// All keys at once, ten threads on each.
#[test]
fn a_thousand_threads_spread_over_a_hundred_keys_are_a_hundred_calls() {
    let _watch = watch();
    let (cache, calls, door) = (Cache::<u32, u64>::new(1000), AtomicU64::new(0), Door::default());
    thread::scope(|scope| {
        let threads = crowd(scope, THREADS, |i| {
            let key = i as u32 % KEYS;
            let make = || {
                calls.fetch_add(1, SeqCst);
                door.wait();
                u64::from(key) * 7
            };
            assert_eq!(*cache.get_or_create(&key, make), u64::from(key) * 7);
        });
        until("all but the leaders wait", || cache.stats().waits == threads.len() as u64 - u64::from(KEYS));
        assert!((0..KEYS).all(|key| cache.key_is_locked(&key)));
        door.open();
    });
    let stats = cache.stats();
    assert_eq!((calls.load(SeqCst), stats.leads, stats.creations, stats.waits), (100, 100, 100, 900));
    assert!((0..KEYS).all(|key| !cache.key_is_locked(&key)));
}

/// The twin of both: a barrier in the creator shows that all are in there at once.
#[test]
fn without_the_gate_a_thousand_threads_are_a_thousand_calls_for_each_key() {
    let _watch = watch();
    let (cache, calls) = (Cache::<u32, u64>::new(1000), AtomicU64::new(0));
    let (keys, barrier) = (5, Barrier::new(THREADS));
    thread::scope(|scope| {
        crowd(scope, THREADS, |_| {
            for key in 0..keys {
                let found = cache.get_cloned(&key).unwrap_or_else(|| {
                    calls.fetch_add(1, SeqCst);
                    barrier.wait();
                    u64::from(key) * 7
                });
                cache.insert(key, found);
                barrier.wait();
            }
        });
    });
    assert_eq!(calls.load(SeqCst), u64::from(keys) * THREADS as u64);
}

// The same moment

/// A clock by which two threads read the time side by side: that is between their look at a value and their attempt to lead.
struct Together(Arc<(SideBySide, ManualClock)>);

impl Clock for Together {
    fn now(&self) -> Instant {
        self.0.0.meet();
        self.0.1.now()
    }
    fn precise(&self) -> Instant {
        self.0.1.now()
    }
}

/// Two find a stale value that nobody makes anew, in the same moment: one of them does.
#[test]
fn of_two_who_find_it_stale_at_once_one_leads() {
    let _watch = watch();
    for _ in 0..200 {
        let both = Arc::new((SideBySide::default(), ManualClock::new()));
        let builder = Cache::<u32, u64>::builder().policy(policy()).clock(Together(Arc::clone(&both)));
        let cache = builder.build().unwrap();
        cache.insert(7, 1);
        both.1.advance(60 * SECOND);
        let (calls, served) = (AtomicU64::new(0), AtomicU64::new(0));
        let found = both.0.run(|| {
            let found = *cache.get_or_create(&7, || {
                calls.fetch_add(1, SeqCst);
                both.0.get_ahead();
                until("the other one is served", || calls.load(SeqCst) + served.load(SeqCst) == 2);
                2
            });
            served.fetch_add(1, SeqCst);
            found
        });
        assert_eq!(
            (calls.load(SeqCst), found[0] + found[1]),
            (1, 3),
            "one makes it, the other has the old one"
        );
    }
}

/// Two find nothing, in the same moment: each clones the key to put a place for it in.
#[test]
fn of_two_who_find_nothing_at_once_one_leads() {
    static BOTH: Mutex<Option<Arc<SideBySide>>> = Mutex::new(None);
    #[derive(PartialEq, Eq, Hash)]
    struct Key;
    impl Clone for Key {
        fn clone(&self) -> Self {
            let both = BOTH.lock().unwrap().clone();
            both.inspect(|both| both.meet());
            Self
        }
    }
    let _watch = watch();
    for _ in 0..200 {
        let both = Arc::new(SideBySide::default());
        *BOTH.lock().unwrap() = Some(Arc::clone(&both));
        let (cache, calls) = (Cache::<Key, u64>::new(10), AtomicU64::new(0));
        let found = both.run(|| {
            *cache.get_or_create(&Key, || {
                let call = calls.fetch_add(1, SeqCst);
                both.get_ahead();
                until("the other one waits", || calls.load(SeqCst) + cache.stats().waits == 2);
                call
            })
        });
        assert_eq!((calls.load(SeqCst), found), (1, [0, 0]));
    }
}

/// The twin of both: who has looked makes.
#[test]
fn without_the_gate_of_two_who_look_at_once_both_make_it() {
    let _watch = watch();
    let (both, cache, calls) = (SideBySide::default(), Cache::<u32, u64>::new(10), AtomicU64::new(0));
    both.run(|| {
        let found = cache.get_cloned(&7);
        both.meet();
        if found.is_none() {
            calls.fetch_add(1, SeqCst);
            cache.insert(7, 1);
        }
    });
    assert_eq!(calls.load(SeqCst), 2);
}

// Tasks

/// Ten thousand tasks, a hundred for each key; when all wait, every tenth is aborted, and half of the leaders are among them.
#[test]
fn ten_thousand_tasks_of_which_a_tenth_is_aborted() {
    const TASKS: usize = 10_000;
    let _watch = watch();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let cache = Cache::<u32, u64>::new(1000);
    let door = Arc::new(Door::default());
    // Who was called, in order.
    let called = Arc::new(Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..TASKS)
        .map(|i| {
            let (cache, door, called) = (cache.clone(), Arc::clone(&door), Arc::clone(&called));
            let key = i as u32 % KEYS;
            runtime.spawn(async move {
                let make = async {
                    called.lock().unwrap().push(i);
                    door.opened().await;
                    u64::from(key) * 7
                };
                *cache.get_or_create_async(&key, make).await
            })
        })
        .collect();
    let waiting = TASKS as u64 - u64::from(KEYS);
    until("all but the leaders wait", || cache.stats().waits == waiting);
    let leaders = called.lock().unwrap().clone();
    assert_eq!(leaders.len(), 100);

    let mut aborted: BTreeSet<usize> = leaders.into_iter().step_by(2).collect();
    let lost = aborted.len() as u64;
    aborted.extend((0..TASKS).filter(|i| i / KEYS as usize % 10 == 3));
    let mut spare = (0..TASKS).filter(|i| i / KEYS as usize % 10 == 5);
    while aborted.len() > TASKS / 10 {
        aborted.pop_last();
    }
    while aborted.len() < TASKS / 10 {
        aborted.insert(spare.next().unwrap());
    }
    aborted.iter().for_each(|i| tasks[*i].abort());
    until("what the aborted led is led by others", || cache.stats().hand_overs >= lost);
    door.open();

    let mut right = 0;
    for (i, task) in tasks.into_iter().enumerate() {
        match runtime.block_on(task) {
            Ok(value) => {
                assert_eq!(value, (i as u32 % KEYS) as u64 * 7, "task {i}");
                right += 1;
            }
            Err(error) => assert!(error.is_cancelled() && aborted.contains(&i), "task {i}: {error}"),
        }
    }
    // Nobody but the aborted went without; whoever was aborted too late has it, too.
    assert!(right >= TASKS - aborted.len());
    let stats = cache.stats();
    let called = called.lock().unwrap().len();
    println!(
        "{called} creators began, {} leads, {} handed over, {right} values",
        stats.leads, stats.hand_overs
    );
    assert_eq!(stats.creations, u64::from(KEYS), "one that ended for each key");
    assert!(stats.failures >= lost && called <= KEYS as usize + aborted.len());
    assert_eq!(
        called as u64,
        stats.creations + stats.failures,
        "each creator that began ended, or was dropped"
    );
    assert!(stats.failures <= stats.hand_overs, "each lead that was lost was taken over");
    assert!((0..KEYS).all(|key| !cache.key_is_locked(&key) && cache.explain(&key).leader.is_none()));
    assert!((0..KEYS).all(|key| cache.get_cloned(&key) == Some(u64::from(key) * 7)));
}

/// The twin: of tasks that look, make and put in, all make.
#[test]
fn without_the_gate_each_task_calls() {
    let _watch = watch();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let cache = Cache::<u32, u64>::new(1000);
    let calls = Arc::new(AtomicUsize::new(0));
    let door = Arc::new(Door::default());
    let tasks: Vec<_> = (0..1000)
        .map(|i| {
            let (cache, calls, door) = (cache.clone(), Arc::clone(&calls), Arc::clone(&door));
            runtime.spawn(async move {
                let key = i % KEYS;
                if cache.get(&key).is_none() {
                    if calls.fetch_add(1, SeqCst) == 999 {
                        door.open();
                    }
                    door.opened().await;
                    cache.insert(key, 1);
                }
            })
        })
        .collect();
    tasks.into_iter().for_each(|task| runtime.block_on(task).unwrap());
    assert_eq!(calls.load(SeqCst), 1000);
}

// Stale values

/// A million of them, while the creator is held on a channel: nobody parks.
#[test]
fn a_million_stale_reads_pass_by_a_held_creator() {
    const READERS: u64 = 4;
    const READS: u64 = 250_000;
    let _watch = watch();
    let (cache, clock) = timed(policy());
    cache.insert(7, 1);
    clock.advance(60 * SECOND);
    let (begin, begun) = mpsc::channel();
    let (go, gone) = mpsc::channel();
    thread::scope(|scope| {
        let cache = &cache;
        let leader = scope.spawn(move || {
            *cache.get_or_create(&7, || {
                begin.send(()).unwrap();
                gone.recv().unwrap()
            })
        });
        begun.recv().unwrap();
        let readers = crowd(scope, READERS as usize, |_| {
            for _ in 0..READS {
                assert_eq!(*cache.get_or_create(&7, || unreachable!("somebody makes it")), 1);
            }
        });
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        let stats = cache.stats();
        assert_eq!(stats.stale_served, READERS * READS);
        assert_eq!((stats.waits, stats.timed_out, stats.leads, stats.creations), (0, 0, 1, 0));
        assert!(cache.key_is_locked(&7), "it is still held");
        go.send(2).unwrap();
        assert_eq!(leader.join().unwrap(), 2);
    });
    assert_eq!((cache.get_cloned(&7), cache.stats().waits), (Some(2), 0));
}

/// The twin: the same readers, if they take fresh values only, do park.
#[test]
fn who_takes_no_stale_values_parks() {
    let _watch = watch();
    let (cache, clock) = timed(policy());
    let fresh_only = Policy::builder().fresh(60 * SECOND).freshness(Freshness::WaitFresh).build().unwrap();
    cache.insert(7, 1);
    clock.advance(60 * SECOND);
    let door = Door::default();
    thread::scope(|scope| {
        let leader = scope.spawn(|| {
            *cache.get_or_create(&7, || {
                door.wait();
                2
            })
        });
        until("one leads", || cache.key_is_locked(&7));
        let readers = crowd(scope, 50, |_| {
            *cache.with(&fresh_only).get_or_create(&7, || unreachable!("somebody makes it"))
        });
        until("all wait", || cache.stats().waits == 50);
        assert_eq!(cache.stats().stale_served, 0);
        door.open();
        assert_eq!(leader.join().unwrap(), 2);
        readers.into_iter().for_each(|reader| assert_eq!(reader.join().unwrap(), 2));
    });
}

/// And by `get`, make and `insert` all of them make it.
#[test]
fn without_the_gate_all_who_find_it_stale_make_it() {
    let _watch = watch();
    let (cache, clock) = timed(policy());
    cache.insert(7, 1);
    clock.advance(60 * SECOND);
    let (calls, barrier) = (AtomicU64::new(0), Barrier::new(50));
    thread::scope(|scope| {
        crowd(scope, 50, |_| {
            if cache.get(&7).is_none() {
                calls.fetch_add(1, SeqCst);
                barrier.wait();
                cache.insert(7, 2);
            }
        });
    });
    assert_eq!(calls.load(SeqCst), 50);
}

// Leaders that go

/// A thousand wait for a leader that panics: the one that came first leads, and no other.
#[test]
fn a_leader_that_panics_is_replaced_by_one() {
    let _watch = watch();
    let (cache, calls) = (Cache::<u32, u64>::new(10), AtomicU64::new(0));
    let (found, panicked) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        crowd(scope, THREADS + 1, |_| {
            let make = || {
                if calls.fetch_add(1, SeqCst) == 0 {
                    until("all others wait", || cache.stats().waits == THREADS as u64);
                    panic!("the leader");
                }
                5
            };
            match catch_unwind(AssertUnwindSafe(|| *cache.get_or_create(&7, make))) {
                Ok(value) => found.fetch_add(value, SeqCst),
                Err(_) => panicked.fetch_add(1, SeqCst),
            };
        });
    });
    assert_eq!((calls.load(SeqCst), found.load(SeqCst)), (2, 5 * THREADS as u64));
    assert_eq!((panicked.load(SeqCst), cache.stats().hand_overs), (1, 1));
}

/// The same if the leader is a task that is dropped; and if nobody waits, the next who comes.
#[test]
fn a_leader_that_is_dropped_is_replaced_by_one() {
    let _watch = watch();
    let (cache, calls) = (Cache::<u32, u64>::new(10), AtomicU64::new(0));
    let mut leader = Polled::new(cache.get_or_create_async(&7, std::future::pending()));
    assert!(leader.poll().is_none());
    thread::scope(|scope| {
        let waiters = crowd(scope, THREADS, |_| *cache.get_or_create(&7, || calls.fetch_add(1, SeqCst) + 5));
        until("all wait", || cache.stats().waits == THREADS as u64);
        drop(leader);
        waiters.into_iter().for_each(|waiter| assert_eq!(waiter.join().unwrap(), 5));
    });
    assert_eq!((calls.load(SeqCst), cache.stats().hand_overs), (1, 1));
    for gone in 0..1000 {
        let key = gone % 10;
        cache.remove(&key);
        let mut leader = Polled::new(cache.get_or_create_async(&key, std::future::pending()));
        assert!(leader.poll().is_none() && cache.key_is_locked(&key));
        drop(leader);
        assert_eq!(*cache.get_or_create(&key, || 9), 9);
    }
}

/// A creator that always fails, a thousand who wait for it and then ask again, window after window: one call in each.
#[test]
fn an_error_is_one_call_for_each_window() {
    const WINDOWS: u64 = 3;
    let _watch = watch();
    let remembers = Policy::builder().fresh(60 * SECOND).error_ttl(10 * SECOND).build().unwrap();
    let (cache, clock) = timed(remembers);
    let (calls, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let all_have_come = Barrier::new(THREADS + 1);
    thread::scope(|scope| {
        crowd(scope, THREADS + 1, |i| {
            for window in 1..=WINDOWS {
                all_have_come.wait();
                for again in [false, true] {
                    let make = || {
                        until("all others wait", || cache.stats().waits == window * THREADS as u64);
                        Err(calls.fetch_add(1, SeqCst))
                    };
                    let error = cache.try_get_or_create(&7, make).map(|found| *found).unwrap_err();
                    assert_eq!(error.creator(), Some(&(window - 1)), "again: {again}");
                    failed.fetch_add(1, SeqCst);
                }
                all_have_come.wait();
                if i == 0 {
                    clock.advance(10 * SECOND);
                }
            }
        });
    });
    assert_eq!((calls.load(SeqCst), failed.load(SeqCst)), (WINDOWS, WINDOWS * 2 * (THREADS as u64 + 1)));
    let stats = cache.stats();
    assert_eq!((stats.leads, stats.failures, stats.waits), (WINDOWS, WINDOWS, WINDOWS * THREADS as u64));
}

/// The twin: each fails for himself.
#[test]
fn without_the_gate_an_error_is_a_call_for_each_caller() {
    let _watch = watch();
    let (cache, calls, barrier) = (Cache::<u32, u64>::new(10), AtomicU64::new(0), Barrier::new(THREADS));
    thread::scope(|scope| {
        crowd(scope, THREADS, |_| {
            let make = || {
                calls.fetch_add(1, SeqCst);
                barrier.wait();
                Err::<u64, _>("no")
            };
            assert_eq!(cache.get_cloned(&7).map_or_else(make, Ok), Err("no"));
        });
    });
    assert_eq!(calls.load(SeqCst), THREADS as u64);
}

/// A creator that always panics, and a thousand who wait for it: two calls, and the rest are told.
#[test]
fn a_creator_that_always_panics_is_called_twice() {
    let _watch = watch();
    let (cache, calls) = (Cache::<u32, u64>::new(10), AtomicU64::new(0));
    let (told, panicked) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        crowd(scope, THREADS + 1, |_| {
            let make = || -> Result<u64, &str> {
                if calls.fetch_add(1, SeqCst) == 0 {
                    until("all others wait", || cache.stats().waits == THREADS as u64);
                }
                panic!("always")
            };
            let tried =
                catch_unwind(AssertUnwindSafe(|| cache.try_get_or_create(&7, make).map(|found| *found)));
            match tried {
                Ok(tried) => {
                    assert_eq!(tried, Err(CreateError::LeaderPanicked));
                    told.fetch_add(1, SeqCst);
                }
                ended => {
                    assert_eq!(message(ended), "always");
                    panicked.fetch_add(1, SeqCst);
                }
            }
        });
    });
    assert_eq!((calls.load(SeqCst), panicked.load(SeqCst), told.load(SeqCst)), (2, 2, THREADS as u64 - 1));
    assert_eq!(cache.explain(&7).state, EntryState::Absent);
    assert_eq!(*cache.get_or_create(&7, || 5), 5, "the next one tries again");
}

// What is done meanwhile wins

const ROUNDS: u64 = 10_000;
/// What the creator makes, and what is put in meanwhile.
const OLDER: u64 = 1;
const NEWER: u64 = 2;

/// Where the two threads of a round are: each number is reached in order.
///
/// Who waits looks for a moment first, so that both go on at once where there are two cores; and then sleeps, so that ten
/// thousand rounds end soon where others want the cores, too.
#[derive(Default)]
struct Steps {
    at: AtomicU64,
    sleepers: Mutex<()>,
    bell: Condvar,
}

impl Steps {
    fn reach(&self, step: u64) {
        self.at.store(step, SeqCst);
        drop(self.sleepers.lock().unwrap());
        self.bell.notify_all();
    }
    fn wait(&self, step: u64) {
        let is_reached = || self.at.load(SeqCst) >= step;
        if (0..2000).any(|_| {
            std::hint::spin_loop();
            is_reached()
        }) {
            return;
        }
        let asleep = self.sleepers.lock().unwrap();
        let (_awake, limit) = self.bell.wait_timeout_while(asleep, HANG, |()| !is_reached()).unwrap();
        assert!(!limit.timed_out(), "hangs: the other thread");
    }
}

/// Makes a value while another thread does something to its key; `races`: that has only begun when the creator returns, else
/// it has ended. Returns how often the key was afterwards as that had left it.
fn wins(races: bool, create: fn(&Cache<u32, u64>, &dyn Fn() -> u64), newer: fn(&Cache<u32, u64>)) -> u64 {
    let builder = Cache::builder().max_entries(100).shards(std::num::NonZeroUsize::MIN);
    let cache = builder.policy(policy()).clock(ManualClock::new()).build().unwrap();
    let steps = Steps::default();
    let mut wins = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                steps.wait(4 * round + 1);
                steps.reach(4 * round + 2);
                newer(&cache);
                steps.reach(4 * round + 3);
            }
        });
        for round in 0..ROUNDS {
            // Missing and stale by turns.
            cache.remove(&7);
            if round % 2 == 1 {
                cache.insert_with(7, 0, InsertOptions::new().ttl(Duration::ZERO));
            }
            create(&cache, &|| {
                steps.reach(4 * round + 1);
                steps.wait(4 * round + if races { 2 } else { 3 });
                OLDER
            });
            steps.wait(4 * round + 3);
            wins += u64::from(cache.get_cloned(&7) != Some(OLDER));
        }
    });
    wins
}

fn by_the_gate(cache: &Cache<u32, u64>, make: &dyn Fn() -> u64) {
    assert_eq!(*cache.get_or_create(&7, make), OLDER, "its caller gets it");
}

fn without_the_gate(cache: &Cache<u32, u64>, make: &dyn Fn() -> u64) {
    assert!(cache.get(&7).is_none());
    let value = make();
    cache.insert(7, value);
}

fn set(cache: &Cache<u32, u64>) {
    cache.insert(7, NEWER);
}

fn delete(cache: &Cache<u32, u64>) {
    cache.remove(&7);
}

fn clear(cache: &Cache<u32, u64>) {
    cache.clear();
}

#[test]
fn a_set_during_a_creation_wins_every_time() {
    let _watch = watch();
    assert_eq!([false, true].map(|races| wins(races, by_the_gate, set)), [ROUNDS; 2]);
}

#[test]
fn a_delete_during_a_creation_wins_every_time() {
    let _watch = watch();
    assert_eq!([false, true].map(|races| wins(races, by_the_gate, delete)), [ROUNDS; 2]);
}

#[test]
fn a_clear_during_a_creation_wins_every_time() {
    let _watch = watch();
    assert_eq!([false, true].map(|races| wins(races, by_the_gate, clear)), [ROUNDS; 2]);
}

/// The twin of the three.
#[test]
fn without_the_gate_the_older_value_wins_every_time() {
    let _watch = watch();
    for newer in [set, delete, clear] {
        assert_eq!(wins(false, without_the_gate, newer), 0);
    }
}

/// Callers, writers and an invalidator, none in step with any other: a value that was made from what a removal has ended is never
/// found after it.
#[test]
fn no_value_outlives_the_invalidation_that_it_began_before() {
    let _watch = watch();
    let cache = Cache::<u32, u64>::new(100);
    // What values are made from. Raised first, then the key is removed: so after the removal nothing older may be found.
    let source = AtomicU64::new(0);
    let done = Door::default();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.is_open() {
                    let floor = source.load(SeqCst);
                    // Removed, or about to be: asked for again after that it is new.
                    let found = *cache.get_or_create(&7, || source.load(SeqCst));
                    assert!(found + 1 >= floor, "{found} was found when {floor} was there");
                }
            });
        }
        let _open = Opened(&done);
        for i in 1..=20_000 {
            source.store(i, SeqCst);
            cache.remove(&7);
            let now = *cache.get_or_create(&7, || source.load(SeqCst));
            assert!(now >= i, "{now} was found after the removal of all before {i}");
        }
    });
}

struct Opened<'d>(&'d Door);

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// A held leader of one key keeps nobody of another waiting, however many there are.
#[test]
fn a_held_leader_holds_up_nobody_else() {
    let _watch = watch();
    let (cache, hold) = (Cache::<u32, u64>::new(1000), common::Hold::default());
    thread::scope(|scope| {
        let _release = Release(&hold);
        let leader = scope.spawn(|| {
            *cache.get_or_create(&1000, || {
                hold.here();
                1
            })
        });
        hold.begun();
        let others = crowd(scope, 200, |i| *cache.get_or_create(&(i as u32), || i as u64));
        others.into_iter().enumerate().for_each(|(i, other)| assert_eq!(other.join().unwrap(), i as u64));
        assert_eq!(cache.stats().waits, 0);
        hold.go();
        assert_eq!(leader.join().unwrap(), 1);
    });
}
