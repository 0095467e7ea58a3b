//! Values made on demand by tasks: under runtimes of all kinds and under none, dropped at every await, moved between threads,
//! together with threads.

mod common;

use common::{AtOnce, ByHand, Door, Hold, Kept, Polled, ends, one_pause, panics, until, watch};
use dogpile::gate::{Dated, Gate, Sleep, Timer};
use dogpile::time::{Clock, ManualClock};
use dogpile::{Cache, CoarseClock, CreateError, EntryState, Freshness, Handle, Policy};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::thread;
use std::time::Duration;

/// An error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct No;

const SECOND: Duration = Duration::from_secs(1);
const FRESH: Duration = Duration::from_secs(60);
const STALE: Duration = Duration::from_secs(600);

fn usual() -> dogpile::gate::PolicyBuilder<u32> {
    Policy::builder().fresh(FRESH).stale(STALE)
}

fn under(policy: dogpile::gate::PolicyBuilder<u32>) -> (Cache<u32, u32>, ManualClock) {
    let clock = ManualClock::new();
    clock.advance(1000 * SECOND);
    let builder = Cache::builder().max_entries(100).policy(policy.build().unwrap());
    (builder.clock(clock.clone()).build().unwrap(), clock)
}

fn cache() -> Cache<u32, u32> {
    under(usual()).0
}

/// All of them, on one task.
async fn all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    poll_fn(|cx| {
        let mut ready = true;
        for (future, output) in &mut futures {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    Poll::Ready(value) => *output = Some(value),
                    Poll::Pending => ready = false,
                }
            }
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    futures.into_iter().map(|(_, output)| output.unwrap()).collect()
}

// Runtimes

type Task = Pin<Box<dyn Future<Output = u32> + Send>>;

/// The ways to run some tasks to their ends.
fn runtimes() -> Vec<(&'static str, fn(Vec<Task>) -> Vec<u32>)> {
    async fn by_tokio(tasks: Vec<Task>) -> Vec<u32> {
        let spawned: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
        all(spawned).await.into_iter().map(|ended| ended.unwrap()).collect()
    }
    vec![
        ("tokio, one thread", |tasks| {
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(by_tokio(tasks))
        }),
        ("tokio, several threads", |tasks| {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(2).build().unwrap().block_on(by_tokio(tasks))
        }),
        ("smol", |tasks| smol::block_on(all(tasks.into_iter().map(smol::spawn).collect::<Vec<_>>()))),
        ("smol, on this thread", |tasks| {
            let executor = smol::LocalExecutor::new();
            let spawned: Vec<_> = tasks.into_iter().map(|task| executor.spawn(task)).collect();
            smol::block_on(executor.run(all(spawned)))
        }),
        ("block_on, one task", |tasks| pollster::block_on(all(tasks))),
        ("block_on, a thread for each", |tasks| {
            let spawn = |task| thread::spawn(|| pollster::block_on::<Task>(task));
            let threads: Vec<_> = tasks.into_iter().map(spawn).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        }),
    ]
}

#[test]
fn under_every_runtime_one_of_many_makes_the_value() {
    let _watch = watch();
    for (name, run) in runtimes() {
        let (cache, calls) = (cache(), Arc::new(AtomicUsize::new(0)));
        let tasks = (0..50).map(|_| {
            let (cache, calls) = (cache.clone(), Arc::clone(&calls));
            Box::pin(async move {
                let make = async {
                    calls.fetch_add(1, SeqCst);
                    while cache.stats().waits < 49 {
                        one_pause().await;
                    }
                    7
                };
                *cache.get_or_create_async(&1, make).await
            }) as Task
        });
        assert_eq!(run(tasks.collect()), [7; 50], "{name}");
        let stats = cache.stats();
        assert_eq!((calls.load(SeqCst), stats.leads, stats.waits), (1, 1, 49), "{name}");
        assert!(!cache.key_is_locked(&1), "{name}");
    }
}

/// The twin of the above: without the gate all of them do.
#[test]
fn without_the_gate_all_make_it_under_every_runtime() {
    let _watch = watch();
    for (name, run) in runtimes() {
        let (cache, calls) = (cache(), Arc::new(AtomicUsize::new(0)));
        let tasks = (0..50).map(|_| {
            let (cache, calls) = (cache.clone(), Arc::clone(&calls));
            Box::pin(async move {
                if cache.get(&1).is_none() {
                    calls.fetch_add(1, SeqCst);
                    while calls.load(SeqCst) < 50 {
                        one_pause().await;
                    }
                    cache.insert(1, 7);
                }
                7_u32
            }) as Task
        });
        run(tasks.collect());
        assert_eq!(calls.load(SeqCst), 50, "{name}");
    }
}

#[test]
fn under_every_runtime_errors_panics_and_stale_values_are_as_for_threads() {
    let _watch = watch();
    for (name, run) in runtimes() {
        let (cache, clock) = under(usual());
        cache.insert(2, 1);
        clock.advance(FRESH);
        let door = Arc::new(Door::default());
        let failing = {
            let (cache, door) = (cache.clone(), Arc::clone(&door));
            Box::pin(async move {
                let make = async {
                    door.opened().await;
                    Err(No)
                };
                u32::from(cache.try_get_or_create_async(&1, make).await.is_err())
            }) as Task
        };
        let waiting = {
            let cache = cache.clone();
            Box::pin(async move {
                while !cache.key_is_locked(&1) {
                    one_pause().await;
                }
                let tried = cache.try_get_or_create_async(&1, async { Ok::<_, No>(5) }).await;
                u32::from(tried.is_err_and(|error| error.creator() == Some(&No)))
            }) as Task
        };
        let stale = {
            let (cache, door) = (cache.clone(), Arc::clone(&door));
            Box::pin(async move {
                let make = async {
                    while !door.is_open() {
                        one_pause().await;
                    }
                    2
                };
                *cache.get_or_create_async(&2, make).await
            }) as Task
        };
        let served = {
            let cache = cache.clone();
            Box::pin(async move {
                while !(cache.key_is_locked(&2) && cache.stats().waits == 1) {
                    one_pause().await;
                }
                let never = async { unreachable!("somebody makes it") };
                let value = *cache.get_or_create_async(&2, never).await;
                door.open();
                value
            }) as Task
        };
        assert_eq!(run(vec![failing, waiting, stale, served]), [1, 1, 2, 1], "{name}");
        assert_eq!(cache.stats().failures, 1, "{name}");
    }
}

#[test]
fn a_panic_of_a_task_hands_over_under_every_runtime_that_catches_it() {
    let _watch = watch();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let cache = cache();
    let hold = Hold::default();
    let (of_leader, held) = (cache.clone(), hold.clone());
    let leader = runtime.spawn(async move {
        let make = async {
            held.here_async().await;
            panic!("the leader")
        };
        *of_leader.get_or_create_async(&1, make).await
    });
    hold.begun();
    let of_waiter = cache.clone();
    let waiter = runtime.spawn(async move { *of_waiter.get_or_create_async(&1, async { 5 }).await });
    until("it waits", || cache.stats().waits == 1);
    hold.go();
    assert!(runtime.block_on(leader).unwrap_err().is_panic());
    assert_eq!(runtime.block_on(waiter).unwrap(), 5);
    assert_eq!(cache.stats().hand_overs, 1);
}

// Send

/// Futures are `Send` if key, value and creator are: compiling is the test.
#[test]
fn futures_can_be_sent() {
    fn sent<T: Send>(future: T) -> T {
        future
    }
    let cache = &cache();
    let policy = usual().build().unwrap();
    let made = || async { 1 };
    let tried = || async { Ok::<_, No>(1) };
    pollster::block_on(async {
        sent(cache.get_or_create_async(&1, made())).await;
        _ = sent(cache.try_get_or_create_async(&2, tried())).await;
        sent(cache.get_or_create_multi_async(&[3], |_| async { vec![1] })).await;
        _ = sent(cache.try_get_or_create_multi_async(&[4], |_| async { Ok::<_, No>(vec![1]) })).await;
        sent(cache.get_or_create_detached_async(&5, made())).await;
        _ = sent(cache.try_get_or_create_detached_async(&6, tried())).await;
        _ = sent(cache.load_async(&7)).await;
        _ = sent(cache.refresh_async(&8)).await;
        let with = cache.with(&policy);
        sent(with.get_or_create_async(&1, made())).await;
        _ = sent(with.try_get_or_create_async(&2, tried())).await;
        sent(with.get_or_create_multi_async(&[3], |_| async { vec![1] })).await;
        _ = sent(with.try_get_or_create_multi_async(&[4], |_| async { Ok::<_, No>(vec![1]) })).await;
        sent(with.get_or_create_detached_async(&5, made())).await;
        _ = sent(with.try_get_or_create_detached_async(&6, tried())).await;
        _ = sent(with.load_async(&7)).await;
        _ = sent(with.refresh_async(&8)).await;
        let gate = Gate::<u32>::new();
        let clock = ManualClock::new();
        _ = sent(gate.run_async(|| async { None }, tried(), &clock, &policy)).await;
    });
    assert_eq!(cache.len(), 6);
    // In tasks that are sent themselves, the compiler has to prove it for any lifetimes.
    let task: Task = Box::pin({
        let (cache, gate, policy) = (cache.clone(), Gate::<u32>::new(), usual().build().unwrap());
        async move {
            let (text, failing) = (String::from("four"), Err::<u32, _>("a &'static str"));
            let length = async { text.len() as u32 };
            let nested = async { cache.try_get_or_create_async(&12, async { failing }).await.is_err() };
            let mut sum = *cache.get_or_create_async(&11, length).await + u32::from(nested.await);
            let read = || async { text.parse().ok().map(|value| Dated { value, age: SECOND }) };
            let run = gate.run_async(read, async { failing }, &CoarseClock, &policy);
            sum += u32::from(run.await.is_err());
            let many = cache.with(&policy).try_get_or_create_multi_async(&[13], |asked| async move {
                one_pause().await;
                asked.first().map(|key| vec![**key]).ok_or("none")
            });
            sum + *many.await.unwrap()[0]
        }
    });
    assert_eq!(pollster::block_on(task), 4 + 1 + 1 + 13);
    // By keys in borrowed form, and creators that borrow.
    let (words, text) = (Cache::<String, usize>::new(10), String::from("four"));
    let length = sent(words.get_or_create_async("four", async { text.len() }));
    assert_eq!(*pollster::block_on(length), 4);
}

/// And if they are not, they work on their own thread.
#[test]
fn creators_and_values_need_not_be_sent() {
    let _watch = watch();
    let cache = Cache::<u32, Rc<Cell<u32>>>::new(10);
    let made = Rc::new(Cell::new(0));
    let make = |pauses: u32| {
        let made = Rc::clone(&made);
        async move {
            for _ in 0..pauses {
                one_pause().await;
            }
            made.set(made.get() + 1);
            made
        }
    };
    let local = tokio::task::LocalSet::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let found = local.block_on(&runtime, async {
        tokio::join!(cache.get_or_create_async(&1, make(3)), cache.get_or_create_async(&1, make(0)))
    });
    assert!(Rc::ptr_eq(found.0.value(), found.1.value()) && made.get() == 1);
}

// Tasks and threads

#[test]
fn a_thread_and_a_task_share_one_flight() {
    let _watch = watch();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    // The task leads.
    let (cache, hold) = (cache(), Hold::default());
    let (of_task, held) = (cache.clone(), hold.clone());
    let task = runtime.spawn(async move {
        let make = async {
            held.here_async().await;
            1
        };
        *of_task.get_or_create_async(&1, make).await
    });
    hold.begun();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| *cache.get_or_create(&1, || unreachable!("a task makes it")));
        until("the thread waits", || cache.stats().waits == 1);
        hold.go();
        assert_eq!((runtime.block_on(task).unwrap(), waiter.join().unwrap()), (1, 1));
    });
    // The thread does.
    let hold = Hold::default();
    thread::scope(|scope| {
        let leader = scope.spawn(|| {
            *cache.get_or_create(&2, || {
                hold.here();
                2
            })
        });
        hold.begun();
        let of_task = cache.clone();
        let task = runtime.spawn(async move {
            let never = async { unreachable!("a thread makes it") };
            *of_task.get_or_create_async(&2, never).await
        });
        until("the task waits", || cache.stats().waits == 2);
        hold.go();
        assert_eq!((leader.join().unwrap(), runtime.block_on(task).unwrap()), (2, 2));
    });
    assert_eq!(cache.stats().leads, 2);
}

/// A lead goes from a task to a thread, and from a thread to a task.
#[test]
fn threads_and_tasks_take_over_from_each_other() {
    let _watch = watch();
    let cache = cache();
    let mut task = Polled::new(cache.get_or_create_async(&1, std::future::pending()));
    assert!(task.poll().is_none());
    thread::scope(|scope| {
        let thread = scope.spawn(|| *cache.get_or_create(&1, || 5));
        until("the thread waits", || cache.stats().waits == 1);
        drop(task);
        assert_eq!(thread.join().unwrap(), 5);
    });
    let hold = Hold::default();
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            panics(|| {
                *cache.get_or_create(&2, || {
                    hold.here();
                    panic!("no")
                })
            })
        });
        hold.begun();
        let task = scope.spawn(|| *pollster::block_on(cache.get_or_create_async(&2, async { 6 })));
        until("the task waits", || cache.stats().waits == 2);
        hold.go();
        assert_eq!((thread.join().unwrap(), task.join().unwrap()), (String::from("no"), 6));
    });
    assert_eq!(cache.stats().hand_overs, 2);
}

// Waking

/// Nobody polls: who waits is woken once, when there is something for it.
#[test]
fn a_waiter_is_woken_once_and_not_before() {
    let cache = cache();
    let door = Door::default();
    let make = async {
        door.opened().await;
        1
    };
    let mut leader = Polled::new(cache.get_or_create_async(&1, make));
    assert!(leader.poll().is_none());
    let never = || async { unreachable!("somebody makes it") };
    let mut waiters: Vec<_> = (0..5).map(|_| Polled::new(cache.get_or_create_async(&1, never()))).collect();
    for _ in 0..3 {
        assert!(waiters.iter_mut().all(|waiter| waiter.poll().is_none()), "polled again and again");
    }
    assert_eq!(cache.stats().waits, 5, "each waits once");
    assert!(waiters.iter().all(|waiter| waiter.woken() == 0));
    door.open();
    assert_eq!(*leader.poll().unwrap(), 1);
    for waiter in &mut waiters {
        assert_eq!((waiter.woken(), waiter.poll().map(|found| *found)), (1, Some(1)));
    }
}

/// A hand-over wakes one, the one that came first; and if that goes, the next.
#[test]
fn a_hand_over_wakes_one() {
    let cache = cache();
    let mut leader = Polled::new(cache.get_or_create_async(&1, std::future::pending()));
    assert!(leader.poll().is_none());
    let mut waiters: Vec<_> =
        (0..4).map(|i| Polled::new(cache.get_or_create_async(&1, async move { i }))).collect();
    waiters.iter_mut().for_each(|waiter| assert!(waiter.poll().is_none()));
    let woken =
        |waiters: &[Polled<'_, Handle<u32, u32>>]| waiters.iter().map(Polled::woken).collect::<Vec<_>>();
    drop(leader);
    assert_eq!(woken(&waiters), [1, 0, 0, 0]);
    assert!(cache.key_is_locked(&1), "it leads, though it has not been polled yet");
    drop(waiters.remove(0));
    assert_eq!(woken(&waiters), [1, 0, 0], "it passes the lead on");
    drop(waiters.remove(2));
    assert_eq!(woken(&waiters), [1, 0], "one that only waits passes nothing on");
    assert!(waiters[1].poll().is_none(), "it is not its turn");
    assert_eq!(*waiters[0].poll().unwrap(), 1);
    assert_eq!((waiters[1].woken(), *waiters[1].poll().unwrap()), (1, 1));
    assert_eq!((cache.stats().creations, cache.stats().hand_overs), (1, 2));
}

/// Failures are of creators: an heir that goes before its own was ever called has none.
#[test]
fn an_heir_that_has_not_begun_is_no_failure() {
    let cache = cache();
    let mut leader = Polled::new(cache.get_or_create_async(&1, std::future::pending()));
    let mut heir = Polled::new(cache.get_or_create_async(&1, async { unreachable!("it is not polled") }));
    assert!(leader.poll().is_none() && heir.poll().is_none());
    drop(leader);
    drop(heir);
    let stats = cache.stats();
    assert_eq!((stats.leads, stats.failures), (1, 1));
}

/// Leaders that go are none that panic, however many.
#[test]
fn any_number_of_leaders_may_go() {
    let cache = cache();
    let mut all: Vec<_> = (0..9)
        .map(|_| Polled::new(cache.try_get_or_create_async(&1, std::future::pending::<Result<u32, No>>())))
        .collect();
    let mut last = Polled::new(cache.try_get_or_create_async(&1, async { Ok::<_, No>(5) }));
    assert!(all.iter_mut().all(|leader| leader.poll().is_none()) && last.poll().is_none());
    for mut leader in all {
        assert!(leader.poll().is_none(), "its creator has begun");
    }
    assert_eq!(last.poll().unwrap().map(|found| *found), Ok(5));
    assert_eq!(cache.stats().hand_overs, 9);
}

/// A task that moves changes its waker: the last one counts.
#[test]
fn the_last_waker_is_woken() {
    let cache = cache();
    let mut leader = Polled::new(cache.get_or_create_async(&1, std::future::pending()));
    assert!(leader.poll().is_none());
    let [former, latter] = std::array::from_fn(|_| Arc::new(common::Woken::default()));
    let mut waiter = pin!(cache.get_or_create_async(&1, async { 5 }));
    for woken in [&former, &latter] {
        let waker = Waker::from(Arc::clone(woken));
        assert!(waiter.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(Arc::strong_count(&former), 1, "the former is not kept");
    drop(leader);
    assert_eq!((former.times(), latter.times()), (0, 1));
    let waker = Waker::from(latter);
    assert!(waiter.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
}

/// What a waker does is its executor's trouble: neither the leader nor the other waiters notice.
#[test]
fn wakers_may_panic() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("no executor")
        }
    }
    let bad = Waker::from(Arc::new(Panics));
    let cache = cache();
    let door = Door::default();
    let make = async {
        door.opened().await;
        1
    };
    let mut leader = Polled::new(cache.get_or_create_async(&1, make));
    assert!(leader.poll().is_none());
    let mut first = Box::pin(cache.get_or_create_async(&1, async { 2 }));
    assert!(first.as_mut().poll(&mut Context::from_waker(&bad)).is_pending());
    let mut second = Polled::new(cache.get_or_create_async(&1, async { 3 }));
    assert!(second.poll().is_none());
    door.open();
    assert_eq!(*leader.poll().unwrap(), 1);
    assert_eq!((second.woken(), *second.poll().unwrap()), (1, 1));
    assert!(first.as_mut().poll(&mut Context::from_waker(&bad)).is_ready());

    // At a hand-over: it leads all the same, and passes on what it does not use.
    let mut leader = Polled::new(cache.get_or_create_async(&2, std::future::pending()));
    assert!(leader.poll().is_none());
    let mut first = Box::pin(cache.get_or_create_async(&2, async { 2 }));
    assert!(first.as_mut().poll(&mut Context::from_waker(&bad)).is_pending());
    let mut second = Polled::new(cache.get_or_create_async(&2, async { 3 }));
    assert!(second.poll().is_none());
    drop(leader);
    assert_eq!(second.woken(), 0);
    drop(first);
    assert_eq!((second.woken(), *second.poll().unwrap()), (1, 3));
}

/// Wakers are cloned and dropped, too. Whatever of that panics, the lead is not lost.
#[test]
fn wakers_may_panic_when_they_are_cloned_or_dropped() {
    thread_local! {
        static BOMB: Cell<&'static str> = const { Cell::new("") };
    }
    fn burn(place: &'static str) {
        if BOMB.get() == place {
            BOMB.set("");
            panic!("bomb in {place}");
        }
    }
    fn clone(data: *const ()) -> RawWaker {
        burn("clone");
        RawWaker::new(data, &TABLE)
    }
    static TABLE: RawWakerVTable = RawWakerVTable::new(clone, |_| {}, |_| {}, |_| burn("drop"));
    // SAFETY: the functions of the table look at no data, and may be called in any order by any thread.
    let waker = unsafe { Waker::new(std::ptr::null(), &TABLE) };
    let mut cx = Context::from_waker(&waker);
    for place in ["clone", "drop"] {
        for polls_again in [true, false] {
            let cache = cache();
            let mut leader = Polled::new(cache.get_or_create_async(&1, std::future::pending()));
            assert!(leader.poll().is_none());
            let mut heir = Box::pin(cache.get_or_create_async(&1, async { 2 }));
            assert!(heir.as_mut().poll(&mut cx).is_pending());
            drop(leader);
            BOMB.set(place);
            if polls_again {
                // It may be told of the panic or not.
                _ = catch_unwind(AssertUnwindSafe(|| heir.as_mut().poll(&mut cx).is_ready()));
            }
            _ = catch_unwind(AssertUnwindSafe(|| drop(heir)));
            BOMB.set("");
            assert!(!cache.key_is_locked(&1), "{place}: nobody makes it any more");
            all_is_well(&cache, &[1]);
        }
    }
}

// Cancel safety

/// Polls what `begin` makes so many times, drops it, and looks at what it left; for 0 times, 1, and so on until it ends by itself.
/// Returns how often it could be dropped before that.
fn dropped_everywhere<R>(
    rig: impl Fn() -> R,
    begin: impl AsyncFn(&R),
    between: impl Fn(&R, usize),
    check: impl Fn(&R, usize),
) -> usize {
    for polls in 0.. {
        let rig = rig();
        let mut future = Polled::new(begin(&rig));
        let mut ended = false;
        for poll in 0..polls {
            ended = future.poll().is_some();
            if ended {
                break;
            }
            between(&rig, poll);
        }
        drop(future);
        check(&rig, polls);
        if ended {
            return polls;
        }
    }
    unreachable!("it ends")
}

async fn slowly<T>(value: T) -> T {
    for _ in 0..3 {
        one_pause().await;
    }
    value
}

/// Does something when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// At most one creator of a version is at work: also a dropped one, which may have much to put away.
#[test]
fn a_dropped_creator_is_gone_before_its_lead_goes_on() {
    let _watch = watch();
    let cache = cache();
    let (heir_begun, gone) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut leader = Polled::new(cache.get_or_create_async(&1, async {
        let _guard = OnDrop(|| {
            assert!(cache.key_is_locked(&1), "it still leads");
            for _ in 0..1000 {
                thread::yield_now();
            }
            assert_eq!(heir_begun.load(SeqCst), 0);
            gone.store(1, SeqCst);
        });
        std::future::pending().await
    }));
    assert!(leader.poll().is_none());
    thread::scope(|scope| {
        let heir = scope.spawn(|| {
            *cache.get_or_create(&1, || {
                heir_begun.store(1, SeqCst);
                assert_eq!(gone.load(SeqCst), 1);
                5
            })
        });
        until("it waits", || cache.stats().waits == 1);
        drop(leader);
        assert_eq!(heir.join().unwrap(), 5);
    });
}

/// What a dropped creator puts away may ask the cache: for its own key it is told that it is making that; or it may panic.
#[test]
fn destructors_of_a_dropped_creator_are_part_of_it() {
    let _watch = watch();
    for panicking in [false, true] {
        for batch in [false, true] {
            let cache = cache();
            let told = RefCell::new(Vec::new());
            let make = async || {
                let _guard = OnDrop(|| {
                    for key in [1, 2] {
                        let asked = cache.try_get_or_create(&key, || Ok::<_, No>(9)).map(|found| *found);
                        told.borrow_mut().push(asked);
                    }
                    assert!(!panicking, "a destructor");
                });
                std::future::pending::<u32>().await
            };
            let mut leader: Polled<'_, ()> = match batch {
                false => Polled::new(async { drop(cache.get_or_create_async(&1, make()).await) }),
                true => Polled::new(async {
                    let make = |_| async { vec![make().await] };
                    drop(cache.get_or_create_multi_async(&[1], make).await);
                }),
            };
            assert!(leader.poll().is_none());
            let said = catch_unwind(AssertUnwindSafe(|| drop(leader)));
            assert_eq!(said.is_err(), panicking);
            assert_eq!(*told.borrow(), [Err(CreateError::Reentrant), Ok(9)], "batch: {batch}");
            all_is_well(&cache, &[1, 2]);
        }
    }
}

/// Nothing is locked, nothing but values is there, and the next one makes what is lacking.
fn all_is_well(cache: &Cache<u32, u32>, keys: &[u32]) {
    for key in keys {
        assert!(!cache.key_is_locked(key), "{key} is locked");
        let told = cache.explain(key);
        assert!(told.leader.is_none(), "{key}: {told}");
        let found = *cache.get_or_create(key, || 9);
        assert!(cache.get_cloned(key) == Some(found), "{key}");
    }
    let stats = cache.stats();
    assert!(stats.leads <= stats.creations + stats.failures, "each lead has ended");
}

type Asks = for<'c> fn(&'c Cache<u32, u32>) -> Pin<Box<dyn Future<Output = ()> + 'c>>;

/// The asynchronous verbs, each for the key 1, and some for 2 as well.
const VERBS: [(&str, Asks); 8] = [
    ("get_or_create_async", |cache| Box::pin(async { drop(cache.get_or_create_async(&1, slowly(1)).await) })),
    ("try_get_or_create_async", |cache| {
        Box::pin(async { drop(cache.try_get_or_create_async(&1, slowly(Ok::<_, No>(1))).await) })
    }),
    ("try_get_or_create_async, which fails", |cache| {
        Box::pin(async { drop(cache.try_get_or_create_async(&1, slowly(Err(No))).await) })
    }),
    ("get_or_create_multi_async", |cache| {
        Box::pin(async {
            let make = |keys: Vec<&u32>| slowly(vec![1; keys.len()]);
            drop(cache.get_or_create_multi_async(&[2, 1], make).await);
        })
    }),
    ("try_get_or_create_multi_async, which fails", |cache| {
        Box::pin(async { drop(cache.try_get_or_create_multi_async(&[2, 1], |_| slowly(Err(No))).await) })
    }),
    ("get_or_create_detached_async", |cache| {
        Box::pin(async { drop(cache.get_or_create_detached_async(&1, slowly(1)).await) })
    }),
    ("load_async", |cache| Box::pin(async { drop(cache.load_async(&1).await) })),
    ("refresh_async", |cache| Box::pin(async { drop(cache.refresh_async(&1).await) })),
];

fn loading(policy: dogpile::gate::PolicyBuilder<u32>) -> (Cache<u32, u32>, ManualClock) {
    let clock = ManualClock::new();
    clock.advance(1000 * SECOND);
    let builder = Cache::builder().max_entries(100).policy(policy.build().unwrap());
    let builder = builder.async_loader(|_: u32| slowly(1));
    (builder.clock(clock.clone()).build().unwrap(), clock)
}

#[test]
fn a_leader_may_be_dropped_at_every_await() {
    for (name, ask) in VERBS {
        let over_nothing = || loading(usual().error_ttl(SECOND)).0;
        let over_a_stale_value = || {
            let (cache, clock) = loading(usual().runner(AtOnce).freshness(Freshness::AllowStale));
            cache.insert(1, 5);
            clock.advance(FRESH);
            cache
        };
        let check = |cache: &Cache<u32, u32>, _| {
            cache.run_pending();
            all_is_well(cache, &[1, 2]);
        };
        let points = dropped_everywhere(over_nothing, async |cache| ask(cache).await, |_, _| {}, check);
        assert_eq!(points, 4, "{name}: before it begins, and at each pause of its creator");
        let points = dropped_everywhere(over_a_stale_value, async |cache| ask(cache).await, |_, _| {}, check);
        // `get_or_create_detached_async` and `load_async` have the stale value at once.
        assert!(points == 4 || points == 1, "{name}");
    }
}

/// The leader goes in every way while the waiter is dropped at every await; a third one waits all the while, and gets its value.
#[test]
fn a_waiter_may_be_dropped_at_every_await() {
    enum Ends {
        Value,
        Error,
        Panic,
        Drop,
    }
    struct Rig {
        cache: Cache<u32, u32>,
        leader: RefCell<Option<Polled<'static, ()>>>,
        door: Arc<Door>,
        ends: Ends,
    }
    impl Rig {
        /// The leader goes now.
        fn end(&self) {
            let Some(mut leader) = self.leader.take() else { return };
            self.door.open();
            match self.ends {
                Ends::Drop => drop(leader),
                Ends::Panic => _ = panics(|| leader.poll()),
                _ => assert!(leader.poll().is_some()),
            }
        }
    }
    for (name, ask) in VERBS {
        for ends in 0..4 {
            // After so many polls of the waiter the leader goes.
            for after in 0..3 {
                let rig = || {
                    let (cache, door) = (loading(usual()).0, Arc::new(Door::default()));
                    let (of_leader, held) = (cache.clone(), Arc::clone(&door));
                    let ends =
                        [Ends::Value, Ends::Error, Ends::Panic, Ends::Drop].into_iter().nth(ends).unwrap();
                    let result = match ends {
                        Ends::Error => Some(Err(No)),
                        Ends::Panic => None,
                        _ => Some(Ok(5)),
                    };
                    let mut leader = Polled::new(async move {
                        let make = async {
                            held.opened().await;
                            result.expect("the leader panics")
                        };
                        _ = of_leader.try_get_or_create_async(&1, make).await;
                    });
                    assert!(leader.poll().is_none());
                    Rig { cache, leader: RefCell::new(Some(leader)), door, ends }
                };
                let check = |rig: &Rig, polls: usize| {
                    let mut third = Polled::new(rig.cache.get_or_create_async(&1, async { 7 }));
                    let waits = third.poll().is_none();
                    rig.end();
                    if waits {
                        assert_eq!(third.woken(), 1, "{name}, {ends}, {after}, {polls}: not forgotten");
                        assert!(third.poll().is_some(), "{name}, {ends}, {after}, {polls}");
                    }
                    all_is_well(&rig.cache, &[1, 2]);
                };
                let between = |rig: &Rig, poll: usize| {
                    if poll == after {
                        rig.end();
                    }
                };
                let points = dropped_everywhere(rig, async |rig| ask(&rig.cache).await, between, check);
                assert!(points >= 2 + after, "{name}, {ends}, {after}: {points}");
            }
        }
    }
}

/// A wait with a limit, dropped before, at and after its end.
#[test]
fn a_wait_with_a_limit_may_be_dropped_at_every_await() {
    for (name, ask) in VERBS {
        let rig = || {
            let timer = ByHand::default();
            let (cache, _) = loading(usual().wait(SECOND).timer(timer.clone()));
            (cache, timer)
        };
        type Rig = (Cache<u32, u32>, ByHand);
        let begin = async |(cache, _): &Rig| {
            let mut leader = Polled::new(cache.get_or_create_async(&1, std::future::pending()));
            assert!(leader.poll().is_none());
            ask(cache).await;
            drop(leader);
        };
        let between = |(_, timer): &Rig, poll: usize| {
            // A batch makes its own first.
            if poll >= 4 {
                timer.is_over();
            }
        };
        let points = dropped_everywhere(rig, begin, between, |(cache, _), _| all_is_well(cache, &[1, 2]));
        // The batch that fails does so before it waits.
        assert!(points > 4 || name.contains("multi_async, which fails"), "{name}: {points}");
    }
}

/// A caller that has handed its creation on and waits a little for it: the creation goes on without it.
#[test]
fn a_creation_in_the_background_goes_on_without_its_caller() {
    let (kept, timer) = (Kept::default(), ByHand::default());
    let soft = usual().soft_timeout(SECOND).timer(timer.clone()).runner(kept.clone());
    let (cache, clock) = under(soft);
    cache.insert(1, 1);
    clock.advance(FRESH);
    let mut caller = Polled::new(cache.get_or_create_detached_async(&1, async { 2 }));
    assert!(caller.poll().is_none());
    assert_eq!((timer.asked(), kept.len()), (vec![SECOND], 1));
    drop(caller);
    assert!(cache.key_is_locked(&1));
    assert_eq!((kept.run(), cache.get_cloned(&1)), (1, Some(2)));
    // With its caller: it comes in time, or too late.
    for in_time in [true, false] {
        clock.advance(FRESH);
        let mut caller = Polled::new(cache.get_or_create_detached_async(&1, async { 3 }));
        assert!(caller.poll().is_none());
        let expected = if in_time {
            kept.run();
            3
        } else {
            timer.is_over();
            *cache.get_or_create(&1, || unreachable!("somebody makes it"))
        };
        assert_eq!((caller.woken(), caller.poll().map(|found| *found)), (1, Some(expected)));
        kept.run();
        assert_eq!(cache.get_cloned(&1), Some(3));
    }
}

/// The jobs themselves may be dropped half-way by their runner.
#[test]
fn a_creation_in_the_background_may_be_dropped_at_every_await() {
    use dogpile::gate::{AsyncJob, Job, Runner};
    #[derive(Clone, Default)]
    struct Jobs(Arc<Mutex<Vec<AsyncJob>>>);
    impl Runner for Jobs {
        fn run(&self, _job: Job) {
            unreachable!("creators here are futures")
        }
        fn run_async(&self, job: AsyncJob) {
            self.0.lock().unwrap().push(job);
        }
    }
    let rig = || {
        let jobs = Jobs::default();
        let (cache, clock) = loading(usual().runner(jobs.clone()));
        cache.insert(1, 5);
        clock.advance(FRESH);
        assert_eq!(*pollster::block_on(cache.load_async(&1)).unwrap(), 5);
        (cache, jobs)
    };
    type Rig = (Cache<u32, u32>, Jobs);
    let begin = async |(_, jobs): &Rig| {
        let job = jobs.0.lock().unwrap().pop().unwrap();
        job.await;
    };
    let check = |(cache, jobs): &Rig, polls: usize| {
        assert_eq!(jobs.0.lock().unwrap().len(), usize::from(polls == 0), "it was taken by the first poll");
        jobs.0.lock().unwrap().clear();
        all_is_well(cache, &[1]);
    };
    assert_eq!(dropped_everywhere(rig, begin, |_, _| {}, check), 4);
}

/// What fails is memory: of many that were dropped nothing is left.
#[test]
fn dropped_futures_leave_no_memory() {
    let cache = Cache::<u32, Arc<()>>::new(100);
    let alive = Arc::new(());
    for i in 0..10_000 {
        let value = Arc::clone(&alive);
        let key = i % 1000;
        let mut leader = Polled::new(cache.get_or_create_async(&key, async move {
            one_pause().await;
            value
        }));
        let mut waiter =
            Polled::new(cache.get_or_create_async(&key, async { unreachable!("it is dropped") }));
        assert!(leader.poll().is_none() && waiter.poll().is_none());
        if i % 2 == 0 {
            drop(waiter);
            drop(leader);
        } else {
            // The waiter inherits, and does not use it.
            drop(leader);
            drop(waiter);
        }
    }
    cache.run_pending();
    assert_eq!((Arc::strong_count(&alive), cache.len()), (1, 0));
    assert!((0..1000).all(|key| cache.explain(&key).state == EntryState::Absent));
}

// Re-entry

/// The lead goes with the task: it is known on the thread that polls it now, and on no other.
#[test]
fn re_entry_is_found_after_the_task_has_moved_to_another_thread() {
    let _watch = watch();
    let cache = cache();
    let within = cache.clone();
    let mut task: Task = Box::pin({
        let cache = cache.clone();
        async move {
            let make = async {
                one_pause().await;
                let own = within.try_get_or_create_async(&1, async { Ok::<_, No>(9) }).await;
                assert_eq!(own.map(|found| *found), Err(CreateError::Reentrant));
                one_pause().await;
                let own = within.try_get_or_create(&1, || Ok::<_, No>(9)).map(|found| *found);
                assert_eq!(own, Err(CreateError::Reentrant));
                1
            };
            *cache.get_or_create_async(&1, make).await
        }
    });
    let short = usual().wait(Duration::ZERO).build().unwrap();
    for poll in 0..3 {
        let (cache, short) = (cache.clone(), short.clone());
        let thread = thread::spawn(move || {
            let polled = task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if polled.is_pending() {
                // Between polls this thread leads nothing: who asks here waits as everybody does.
                let asked = cache.with(&short).try_get_or_create(&1, || Ok::<_, No>(9)).map(|found| *found);
                assert_eq!(asked, Err(CreateError::TimedOut));
            }
            (task, polled)
        });
        let (moved, polled) = thread.join().unwrap();
        task = moved;
        assert_eq!(polled, if poll == 2 { Poll::Ready(1) } else { Poll::Pending });
    }
}

/// Two futures of one task that want the same key are no re-entry: the one waits for the other.
#[test]
fn siblings_in_one_task_are_no_re_entry() {
    let _watch = watch();
    let cache = cache();
    pollster::block_on(async {
        let second = async {
            let tried = cache.try_get_or_create_async(&1, async { Err::<u32, _>(No) }).await;
            *tried.unwrap()
        };
        let (first, second) = tokio::join!(cache.get_or_create_async(&1, slowly(1)), second);
        assert_eq!((*first, second), (1, 1));
        assert_eq!((cache.stats().leads, cache.stats().waits), (1, 1));
    });
    // Nor are those of a creator, of each other; of the creator itself they are.
    pollster::block_on(async {
        let within = &cache;
        let make = async {
            let (one, two) = tokio::join!(
                within.get_or_create_async(&3, slowly(3)),
                within.get_or_create_async(&3, async { unreachable!("its sibling makes it") }),
            );
            let own = within.try_get_or_create_async(&2, async { Ok::<_, No>(9) });
            let (own, four) = tokio::join!(own, within.get_or_create_async(&4, slowly(4)));
            assert_eq!(own.map(|found| *found), Err(CreateError::Reentrant));
            *one + *two + *four
        };
        assert_eq!(*within.get_or_create_async(&2, make).await, 10);
    });
}

/// A verb that can't fail panics, in the task that polls it.
#[test]
fn re_entry_of_a_task_panics_where_it_cannot_be_returned() {
    let cache = cache();
    let make = async { *cache.get_or_create_async(&1, async { 9 }).await };
    let said = panics(|| *pollster::block_on(cache.get_or_create_async(&1, make)));
    assert!(said.starts_with("re-entrant creation: "), "{said}");
    assert!(!cache.key_is_locked(&1));
}

/// Tasks that wait for each other, polled in turns on one thread: the last to ask gets an error.
#[test]
fn circles_of_tasks_end() {
    let _watch = watch();
    for (name, run) in runtimes() {
        for size in [2, 3] {
            let cache = cache();
            let leading = Arc::new(AtomicUsize::new(0));
            let errors = Arc::new(AtomicUsize::new(0));
            let tasks = (0..size).map(|own| {
                let (cache, leading, errors) = (cache.clone(), Arc::clone(&leading), Arc::clone(&errors));
                Box::pin(async move {
                    let make = async {
                        leading.fetch_add(1, SeqCst);
                        while leading.load(SeqCst) < size as usize {
                            one_pause().await;
                        }
                        let next = (own + 1) % size;
                        match cache.try_get_or_create_async(&next, async { Err::<u32, _>(No) }).await {
                            Err(CreateError::Reentrant) => {
                                errors.fetch_add(1, SeqCst);
                                Ok(1)
                            }
                            other => Ok::<_, No>(*other.unwrap() + 1),
                        }
                    };
                    *cache.try_get_or_create_async(&own, make).await.unwrap()
                }) as Task
            });
            let mut found = run(tasks.collect());
            found.sort();
            assert_eq!(found, (1..=size).collect::<Vec<_>>(), "{name}");
            assert_eq!(errors.load(SeqCst), 1, "{name}: one closes the ring");
        }
    }
}

// Limits to waiting

#[test]
fn a_wait_of_a_task_ends_by_the_default_timer() {
    let _watch = watch();
    for (name, run) in runtimes() {
        for wait in [Duration::ZERO, Duration::from_millis(2)] {
            let (cache, _) = under(usual().wait(wait));
            let mut leader = Polled::new(cache.get_or_create_async(&1, std::future::pending()));
            assert!(leader.poll().is_none());
            let tasks = (0..4).map(|i| {
                let cache = cache.clone();
                Box::pin(async move {
                    if i % 2 == 0 {
                        return *cache.get_or_create_async(&1, async { 5 }).await;
                    }
                    let tried = cache.try_get_or_create_async(&1, async { Ok::<_, No>(6) }).await;
                    assert_eq!(tried.map(|found| *found), Err(CreateError::TimedOut));
                    0
                }) as Task
            });
            assert_eq!(run(tasks.collect()), [5, 0, 5, 0], "{name}, {wait:?}");
            assert!(cache.is_empty() && cache.key_is_locked(&1), "{name}: the leader is there, and its own");
            assert_eq!((cache.stats().waits, cache.stats().timed_out), (4, 4), "{name}");
        }
    }
}

#[test]
fn a_wait_of_a_task_ends_by_a_timer_of_ones_own() {
    let timer = ByHand::default();
    let (cache, _) = under(usual().wait(7 * SECOND).timer(timer.clone()));
    assert_eq!(*pollster::block_on(cache.get_or_create_async(&2, async { 2 })), 2);
    assert_eq!(timer.asked(), [], "who does not wait needs none");
    let mut leader = Polled::new(cache.get_or_create_async(&1, std::future::pending()));
    assert!(leader.poll().is_none());
    let mut sure = Polled::new(cache.get_or_create_async(&1, slowly(5)));
    let mut tried = Polled::new(cache.try_get_or_create_async(&1, async { Ok::<_, No>(6) }));
    for _ in 0..3 {
        assert!(sure.poll().is_none() && tried.poll().is_none());
    }
    assert_eq!(timer.asked(), [7 * SECOND; 2], "once for each");
    assert_eq!((sure.woken(), tried.woken()), (0, 0));
    timer.is_over();
    assert_eq!((sure.woken(), tried.woken()), (1, 1));
    assert_eq!(tried.poll().unwrap().map(|found| *found), Err(CreateError::TimedOut));
    // It makes its own, at its leisure.
    let mut polls = 0;
    while sure.poll().is_none() {
        polls += 1;
    }
    assert_eq!((polls, cache.stats().timed_out, cache.len()), (3, 2, 1));
    drop(leader);
    all_is_well(&cache, &[1]);
}

/// The limit is one for the call, however many flights it waits for.
#[test]
fn a_wait_of_a_task_has_one_limit() {
    let timer = ByHand::default();
    let (cache, _) = under(usual().wait(7 * SECOND).timer(timer.clone()));
    let door = Door::default();
    let fails_otherwise = async {
        door.opened().await;
        Err::<u32, u8>(1)
    };
    let mut first = Polled::new(cache.try_get_or_create_async(&1, fails_otherwise));
    assert!(first.poll().is_none());
    let mut waiter = Polled::new(cache.try_get_or_create_async(&1, async { Ok::<_, No>(6) }));
    assert!(waiter.poll().is_none());
    door.open();
    assert!(first.poll().unwrap().is_err());
    let mut second = Polled::new(cache.get_or_create_async(&1, std::future::pending()));
    assert!(second.poll().is_none());
    assert!(waiter.poll().is_none(), "an error of another type: it would lead, but another does");
    assert_eq!(timer.asked(), [7 * SECOND]);
    timer.is_over();
    assert_eq!(waiter.poll().unwrap().map(|found| *found), Err(CreateError::TimedOut));
    drop(second);
    all_is_well(&cache, &[1]);
}

/// A timer that is over at its first poll, in which it does something else first.
#[derive(Clone, Default)]
struct Meanwhile(Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>);

impl Timer for Meanwhile {
    fn sleep(&self, _span: Duration) -> Sleep {
        let act = Arc::clone(&self.0);
        Box::pin(async move {
            let act = act.lock().unwrap().take();
            act.into_iter().for_each(|act| act());
        })
    }
}

/// A leader of the key 1 that has begun, and what lets it end.
fn begun(cache: &Cache<u32, u32>) -> (Task, Arc<Door>) {
    let (cache, door) = (cache.clone(), Arc::new(Door::default()));
    let held = Arc::clone(&door);
    let make = async move {
        held.opened().await;
        1
    };
    let mut leader: Task = Box::pin(async move { *cache.get_or_create_async(&1, make).await });
    assert!(leader.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    (leader, door)
}

/// What comes in the very moment in which the time is over counts.
#[test]
fn what_comes_as_the_time_ends_is_in_time() {
    for goes in [false, true] {
        let timer = Meanwhile::default();
        let (cache, _) = under(usual().wait(SECOND).timer(timer.clone()));
        let (mut leader, door) = begun(&cache);
        *timer.0.lock().unwrap() = Some(Box::new(move || {
            if !goes {
                door.open();
                assert!(leader.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
            }
            drop(leader);
        }));
        let found = pollster::block_on(cache.try_get_or_create_async(&1, async { Ok::<_, No>(5) }));
        assert_eq!(*found.unwrap(), if goes { 5 } else { 1 }, "the leader goes: {goes}");
        assert_eq!(cache.stats().timed_out, 0);
        all_is_well(&cache, &[1]);
    }
}

/// And the timer, which has ended, is not asked again.
#[test]
fn a_timer_that_has_ended_is_not_polled_again() {
    let timer = Meanwhile::default();
    let (cache, _) = under(usual().wait(SECOND).timer(timer.clone()));
    let (first, _) = begun(&cache);
    let (of_leaders, second) = (cache.clone(), Arc::new(Mutex::new(None)));
    let place = Arc::clone(&second);
    // The first leader goes, and another one leads before the waiter has looked.
    *timer.0.lock().unwrap() = Some(Box::new(move || {
        drop(first);
        *place.lock().unwrap() = Some(begun(&of_leaders).0);
    }));
    let make = |_| async { Ok::<Vec<u32>, No>(vec![5]) };
    let found = pollster::block_on(cache.try_get_or_create_multi_async(&[1], make));
    assert_eq!(found.map(|found| found.len()), Err(CreateError::TimedOut));
    drop(second.lock().unwrap().take());
    all_is_well(&cache, &[1]);
}

/// A leader that was polled once and then forgotten: a limit lets its waiters get away, whether it is ever polled again or not.
#[test]
fn who_waits_for_a_parked_leader_gets_away() {
    let _watch = watch();
    let (cache, _) = under(usual().wait(Duration::from_millis(1)));
    let mut parked = Polled::new(cache.get_or_create_async(&1, slowly(1)));
    assert!(parked.poll().is_none());
    let asked = pollster::block_on(cache.try_get_or_create_async(&1, async { Ok::<_, No>(5) }));
    assert_eq!(asked.map(|found| *found), Err(CreateError::TimedOut));
    let asked = cache.try_get_or_create(&1, || Ok::<_, No>(5)).map(|found| *found);
    assert_eq!(asked, Err(CreateError::TimedOut), "a thread, too");
    assert_eq!(*cache.get_or_create(&1, || 6), 6);
    assert!(cache.get(&1).is_none());
    // It wakes up at last.
    let found = loop {
        if let Some(found) = parked.poll() {
            break found;
        }
    };
    assert_eq!((*found, cache.get_cloned(&1)), (1, Some(1)));
}

/// A stale value is there at the first poll.
#[test]
fn stale_values_make_no_task_wait() {
    let (cache, clock) = under(usual());
    cache.insert(1, 1);
    clock.advance(FRESH);
    let mut leader = Polled::new(cache.get_or_create_async(&1, slowly(2)));
    assert!(leader.poll().is_none());
    for (name, ask) in
        VERBS.into_iter().filter(|(name, _)| !name.contains("load") && !name.contains("refresh"))
    {
        cache.remove(&2);
        let mut served = Polled::new(ask(&cache));
        if !name.contains("multi") {
            assert!(served.poll().is_some(), "{name}");
        } else {
            // It has to make 2.
            (0..3).for_each(|_| assert!(served.poll().is_none(), "{name}"));
            assert!(served.poll().is_some(), "{name}");
        }
    }
    assert_eq!(cache.stats().waits, 0);
    drop(leader);
}

/// The clock of limits is real time, whatever the cache's own clock shows.
#[test]
fn a_frozen_clock_does_not_stop_limits() {
    let _watch = watch();
    let (cache, clock) = under(usual().wait(Duration::from_millis(1)));
    let before = clock.now();
    let mut leader = Polled::new(cache.get_or_create_async(&1, std::future::pending()));
    assert!(leader.poll().is_none());
    let asked = pollster::block_on(cache.try_get_or_create_async(&1, async { Ok::<_, No>(5) }));
    assert_eq!((asked.map(|found| *found), clock.now()), (Err(CreateError::TimedOut), before));
}

/// As for threads: what the function of a batch does is part of the creation (see `creating`), whoever polls it.
#[test]
fn futures_of_a_batch_may_borrow_what_they_are_given() {
    let cache = Cache::<String, usize>::new(10);
    let words = [String::from("one"), String::from("three")];
    let found = pollster::block_on(cache.get_or_create_multi_async(
        words.iter().map(String::as_str),
        |asked| async move {
            one_pause().await;
            asked.iter().map(|word| word.len()).collect()
        },
    ));
    assert_eq!((*found[0], *found[1]), (3, 5));
}

/// The gate alone, for tasks: see `gate_alone`; here under the runtimes.
#[test]
fn a_gate_alone_works_under_every_runtime() {
    let _watch = watch();
    for (name, run) in runtimes() {
        let gate = Arc::new(Gate::new());
        let stored = Arc::new(Mutex::new(None::<u32>));
        let tasks = (0..20).map(|_| {
            let (gate, stored) = (Arc::clone(&gate), Arc::clone(&stored));
            Box::pin(async move {
                let policy = Policy::default();
                let clock = ManualClock::new();
                let read = || {
                    let value = *stored.lock().unwrap();
                    async move { value.map(|value| Dated { value, age: Duration::ZERO }) }
                };
                let create = async {
                    while gate.stats().waits < 19 {
                        one_pause().await;
                    }
                    *stored.lock().unwrap() = Some(7);
                    Ok::<_, No>(7)
                };
                gate.run_async(read, create, &clock, &policy).await.unwrap()
            }) as Task
        });
        assert_eq!(run(tasks.collect()), [7; 20], "{name}");
        assert_eq!((gate.stats().creations, gate.stats().leads), (1, 1), "{name}");
    }
}

/// On tokio, by its own threads and timers.
#[cfg(feature = "tokio")]
#[test]
fn tokio_runs_what_is_in_the_background_and_ends_waits() {
    use dogpile::gate::Tokio;
    let _watch = watch();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let on_it = Tokio::new(runtime.handle().clone());
    let policy = usual().runner(on_it.clone()).timer(on_it).wait(Duration::from_millis(1));
    let (cache, clock) = loading(policy);
    cache.insert(1, 5);
    cache.insert(2, 5);
    clock.advance(FRESH);
    // From outside of the runtime.
    let hold = Hold::default();
    let held = hold.clone();
    let blocking = move || {
        held.here();
        assert!(tokio::runtime::Handle::try_current().is_ok());
        6
    };
    assert_eq!(*cache.get_or_create_detached(&1, blocking), 5);
    assert_eq!(*pollster::block_on(cache.load_async(&2)).unwrap(), 5);
    until("the task has ended", || cache.get_cloned(&2) == Some(1));
    hold.begun();
    assert!(cache.get(&1).is_none(), "the blocking one holds up no task");
    let fresh_only = Policy::builder().freshness(Freshness::WaitFresh).wait(Duration::from_millis(1));
    let fresh_only = fresh_only.timer(Tokio::new(runtime.handle().clone())).build().unwrap();
    let tried = cache.with(&fresh_only).try_get_or_create_async(&1, async { Ok::<_, No>(7) });
    assert_eq!(pollster::block_on(tried).map(|found| *found), Err(CreateError::TimedOut));
    hold.go();
    until("the blocking one has ended", || cache.get_cloned(&1) == Some(6));
    // When the runtime has gone, jobs are given up.
    clock.advance(FRESH);
    runtime.shutdown_background();
    assert_eq!(*cache.get_or_create_detached(&1, || 8), 6);
    assert_eq!(*pollster::block_on(cache.load_async(&2)).unwrap(), 1);
    until("they are given up", || !cache.key_is_locked(&1) && !cache.key_is_locked(&2));
    all_is_well(&cache, &[1, 2]);
}

/// Runners and timers are user code, too.
#[test]
fn a_timer_may_panic() {
    struct Panics;
    impl Timer for Panics {
        fn sleep(&self, _span: Duration) -> Sleep {
            panic!("no timer")
        }
    }
    let (kept, soft) = (Kept::default(), usual().soft_timeout(SECOND));
    let (cache, clock) = under(soft.wait(SECOND).timer(Panics).runner(kept.clone()));
    let mut leader = Polled::new(cache.get_or_create_async(&1, slowly(1)));
    assert!(leader.poll().is_none());
    let said = panics(|| *pollster::block_on(cache.get_or_create_async(&1, async { 2 })));
    assert_eq!(said, "no timer");
    drop(leader);
    cache.insert(1, 1);
    clock.advance(FRESH);
    let said = panics(|| *pollster::block_on(cache.get_or_create_detached_async(&1, async { 2 })));
    assert_eq!(said, "no timer");
    assert_eq!((kept.run(), cache.get_cloned(&1)), (1, Some(2)), "what was handed on goes on");
    all_is_well(&cache, &[1]);
}

/// A task that never ends its creation, and one that runs on another runtime than its waiters.
#[test]
fn runtimes_share_flights() {
    let _watch = watch();
    let cache = cache();
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let hold = Hold::default();
    let (of_tokio, held) = (cache.clone(), hold.clone());
    let leader = tokio.spawn(async move {
        let make = async {
            held.here_async().await;
            1
        };
        *of_tokio.get_or_create_async(&1, make).await
    });
    hold.begun();
    let of_smol = cache.clone();
    let waiter = smol::spawn(async move { *of_smol.get_or_create_async(&1, async { 2 }).await });
    until("it waits", || cache.stats().waits == 1);
    hold.go();
    assert_eq!((tokio.block_on(leader).unwrap(), smol::block_on(waiter)), (1, 1));
    // The runtime goes, and its task with it: who waits elsewhere leads.
    let hold = Hold::default();
    let (of_tokio, held) = (cache.clone(), hold.clone());
    drop(tokio.spawn(async move {
        let make = async {
            held.here_async().await;
            std::future::pending::<u32>().await
        };
        *of_tokio.get_or_create_async(&2, make).await
    }));
    hold.begun();
    let of_smol = cache.clone();
    let waiter = smol::spawn(async move { *of_smol.get_or_create_async(&2, async { 2 }).await });
    until("it waits", || cache.stats().waits == 2);
    drop(tokio);
    assert_eq!(smol::block_on(waiter), 2);
}

/// What hangs would hang here: a future that waits is dropped by `select`, over and over, while others lead.
#[test]
fn waits_that_are_given_up_again_and_again_lose_nobody() {
    ends(|| {
        let cache = cache();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let cache = cache.clone();
                runtime.spawn(async move {
                    for round in 0..500_u32 {
                        let key = round % 3;
                        let get = cache.get_or_create_async(&key, slowly(key));
                        if (round + task) % 3 == 0 {
                            tokio::select! {
                                biased;
                                found = get => assert_eq!(*found, key),
                                () = one_pause() => {}
                            }
                        } else {
                            assert_eq!(*get.await, key);
                        }
                        if round % 2 == 0 {
                            cache.remove(&key);
                        }
                    }
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| runtime.block_on(task).unwrap());
        all_is_well(&cache, &[0, 1, 2]);
    });
}
