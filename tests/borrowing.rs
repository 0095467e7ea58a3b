//! What is borrowed from a cache, and when what left it is dropped: the reclamation rows of the design's errata.

use dogpile::time::{Clock, PreciseClock};
use dogpile::{Cache, Handle, Ref};
use std::cell::RefCell;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

static ALONE: Mutex<()> = Mutex::new(());

/// One test of this process after another: a thread that is pinned, and not running, keeps the garbage of all, and where
/// threads are many and cores few there is always one.
fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts how many of its kind are alive.
#[derive(Clone)]
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn one(&self) -> Token {
        self.0.fetch_add(1, SeqCst);
        Token { alive: self.clone(), seal: Box::new(7) }
    }
    fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

fn nobody() -> Alive {
    Alive(Arc::new(AtomicUsize::new(0)))
}

struct Token {
    alive: Alive,
    seal: Box<u64>,
}

impl Drop for Token {
    fn drop(&mut self) {
        assert_eq!(*self.seal, 7, "dropped once");
        *self.seal = 0;
        self.alive.0.fetch_sub(1, SeqCst);
    }
}

/// Repeats `step` until `done`: threads of this test may be pinned for a moment. False: it never was.
fn soon(mut step: impl FnMut(), done: impl Fn() -> bool) -> bool {
    let give_up = PreciseClock.now().saturating_add(Duration::from_secs(30));
    loop {
        step();
        if done() {
            return true;
        }
        if PreciseClock.now() > give_up {
            return false;
        }
        thread::yield_now();
    }
}

/// Tells a vector on somebody's stack that it is dropped.
struct Note<'a>(u64, &'a Mutex<Vec<u64>>);

impl Drop for Note<'_> {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(self.0);
    }
}

/// C1: no bound `'static`, so nothing may be dropped later than the cache: not by another cache, not by a thread that
/// ends later, not by one that ended before.
#[test]
fn c1_values_that_borrow_are_dropped_before_what_they_borrow() {
    let _alone = alone();
    let log = Mutex::new(Vec::new());
    let unrelated = Cache::new(10);
    {
        let cache: Cache<Note<'_>, Note<'_>, _> =
            Cache::builder().hasher(ByNumber).max_entries(40).build().unwrap();
        thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (cache, log) = (&cache, &log);
                scope.spawn(move || {
                    for i in 0..500 {
                        let number = thread * 1000 + i;
                        cache.insert(Note(i % 60, log), Note(number, log));
                        if i % 7 == 0 {
                            cache.remove(&Note(i % 60, log));
                        }
                        if i % 101 == 0 {
                            cache.clear();
                        }
                    }
                });
            }
        });
        // Room for all that follows: what is left of the turmoil could have it evicted.
        cache.clear();
        log.lock().unwrap().clear();
        for i in 0..30 {
            cache.insert(Note(i, &log), Note(i, &log));
            cache.insert(Note(i, &log), Note(i, &log));
        }
        assert!(cache.get(&Note(3, &log)).is_some());
    }
    let then = log.lock().unwrap().len();
    assert!(then >= 120, "keys and values, the replaced and the last: {then}");
    for i in 0..5000 {
        unrelated.insert(i % 20, i);
    }
    unrelated.run_pending();
    assert_eq!(log.into_inner().unwrap().len(), then, "nothing is dropped after its cache");
}

impl std::hash::Hash for Note<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
impl PartialEq for Note<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl Eq for Note<'_> {}

#[derive(Clone, Copy)]
struct ByNumber;

impl std::hash::BuildHasher for ByNumber {
    type Hasher = std::hash::DefaultHasher;
    fn build_hasher(&self) -> Self::Hasher {
        std::hash::DefaultHasher::new()
    }
}

static SHARED: LazyLock<Cache<u32, String>> = LazyLock::new(|| Cache::new(100));

/// A borrow in a thread-local, and what its destructor waits for.
struct Kept {
    found: Option<Ref<'static, u32, String>>,
    steps: Option<Arc<Steps>>,
}

struct Steps {
    dying: Barrier,
    taken_out: Barrier,
    intact: AtomicBool,
    key: u32,
}

impl Drop for Kept {
    fn drop(&mut self) {
        // A panic here would abort without a word, so what was seen is reported.
        let Some(steps) = &self.steps else { return };
        steps.dying.wait();
        steps.taken_out.wait();
        let intact = self.found.as_ref().is_some_and(|found| **found == text(steps.key));
        self.found = None;
        // The cache is still there for the destructors of thread-locals, whichever came first.
        SHARED.insert(steps.key, text(steps.key));
        let works = SHARED.get(&steps.key).is_some_and(|found| *found == text(steps.key))
            && SHARED.get_handle(&steps.key).is_some()
            && SHARED.compute(steps.key, |_| dogpile::Compute::Keep).is_some()
            && SHARED.iter().any(|entry| *entry.key() == steps.key)
            && SHARED.get_in(&steps.key, &SHARED.pin()).is_some()
            && SHARED.remove(&steps.key).is_some()
            && SHARED.stats().hits > 0;
        SHARED.run_pending();
        steps.intact.store(intact && works, SeqCst);
    }
}

fn text(key: u32) -> String {
    format!("value of {key}, long enough for the heap")
}

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { found: None, steps: None }) };
}

/// C2: thread-locals are destroyed in the opposite order of first use. So a guard in one may be dropped after the
/// thread's own hazard record has been torn down, or before; it must protect its entry in both cases.
fn guard_in_a_thread_local(key: u32, guard_first: bool) {
    SHARED.insert(key, text(key));
    let steps = Arc::new(Steps {
        dying: Barrier::new(2),
        taken_out: Barrier::new(2),
        intact: AtomicBool::new(false),
        key,
    });
    let other = thread::spawn({
        let steps = Arc::clone(&steps);
        move || {
            if guard_first {
                KEPT.with_borrow(|kept| assert!(kept.found.is_none()));
                assert!(SHARED.contains_key(&key));
            } else {
                assert!(SHARED.get(&key).is_some());
            }
            KEPT.with_borrow_mut(|kept| {
                kept.found = SHARED.get(&key);
                kept.steps = Some(steps);
            });
        }
    });
    steps.dying.wait();
    SHARED.remove(&key);
    for i in 0..2000 {
        SHARED.insert(1000 + i % 50, text(i));
    }
    SHARED.run_pending();
    // A thread that takes over the record of a dead one must not take over its slots.
    thread::spawn(move || (0..20).for_each(|i| drop(SHARED.get(&(1000 + i))))).join().unwrap();
    SHARED.run_pending();
    steps.taken_out.wait();
    other.join().unwrap();
    assert!(steps.intact.load(SeqCst), "the guard kept its entry, and the cache could be used");
}

#[test]
fn c2_a_guard_in_a_thread_local_outlives_the_record() {
    let _alone = alone();
    guard_in_a_thread_local(1, true);
}

#[test]
fn c2_a_guard_in_a_thread_local_goes_before_the_record() {
    let _alone = alone();
    guard_in_a_thread_local(2, false);
}

/// C2: many threads, one after another and at once, each of which ends with a guard in a thread-local.
#[test]
fn c2_records_of_ended_threads_are_used_again() {
    let _alone = alone();
    for round in 0..20 {
        let threads: Vec<_> = (0..4)
            .map(|i| {
                let key = 3 + i;
                SHARED.insert(key, text(key));
                thread::spawn(move || {
                    KEPT.with_borrow_mut(|kept| kept.found = SHARED.get(&key));
                    KEPT.with_borrow(|kept| {
                        assert!(kept.found.as_ref().is_none_or(|found| **found == text(key)))
                    });
                    if round % 2 == 0 {
                        SHARED.remove(&key);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Runs one test of this file again, alone in a process of its own. True in that process.
fn is_child(test: &str) -> bool {
    if std::env::var_os("DOGPILE_CHILD").is_some() {
        return true;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("DOGPILE_CHILD", "1")
        // It leaks on purpose, and a leak sanitizer would mind.
        .env("ASAN_OPTIONS", "detect_leaks=0")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{}\n{output}\n{}", child.status, String::from_utf8_lossy(&child.stderr));
    assert!(output.contains("1 passed"), "the child ran it: {output}");
    false
}

/// C5: forgotten guards use up the thread's hazard slots, and then count. Nothing overflows, nothing is freed early.
/// In a process of its own, because forgotten slots and pins are lost to the others.
#[test]
fn c5_forgotten_guards_and_pins_are_only_leaked() {
    let _alone = alone();
    if !is_child("c5_forgotten_guards_and_pins_are_only_leaked") {
        return;
    }
    let (cache, alive) = (Cache::new(20), nobody());
    for key in 0..10 {
        cache.insert(key, alive.one());
    }
    for i in 0..10_000 {
        std::mem::forget(cache.get(&(i % 10)).unwrap());
    }
    let found = cache.get(&0).unwrap();
    for key in 0..10 {
        cache.insert(key, alive.one());
    }
    soon(|| cache.run_pending(), || alive.count() == 20);
    assert_eq!(alive.count(), 20, "each forgotten guard keeps its entry, and no more");
    assert_eq!(*found.seal, 7);
    drop(found);
    // Everything works as before, by counting.
    for i in 0..1000 {
        cache.insert(i % 30, alive.one());
        assert_eq!(cache.get(&(i % 30)).map(|found| *found.seal), Some(7));
    }
    assert!(soon(|| cache.run_pending(), || alive.count() <= 10 + 20), "{} alive", alive.count());
    for _ in 0..10_000 {
        std::mem::forget(cache.pin());
    }
    for i in 0..1000 {
        cache.insert(i % 30, alive.one());
        assert_eq!(cache.get(&(i % 30)).map(|found| *found.seal), Some(7));
    }
    let pending = cache.stats().pending_reclaim;
    assert!(pending >= 1000 - 30, "under a pin nothing is freed: {pending}");
    drop(cache);
    assert!(alive.count() <= 10, "but with the cache, all that nobody counted: {}", alive.count());
}

/// C6: a sandbox that refuses membarrier after the cache has come to rely on it. Nothing is freed for a while; then it is,
/// and pins fence. In a process of its own, which nobody can let out of the sandbox again.
#[cfg(all(target_os = "linux", target_arch = "x86_64", not(any(dogpile_epoch, miri))))]
#[test]
fn c6_membarrier_may_be_refused_later() {
    if !is_child("c6_membarrier_may_be_refused_later") {
        return;
    }
    let (cache, alive) = (Cache::new(10), nobody());
    let put = |times: usize| (0..times).for_each(|_| drop(cache.insert(1, alive.one())));
    assert!(soon(|| put(1), || alive.count() <= 1 + 40));
    let held = cache.get(&1).unwrap();
    forbid(libc::SYS_membarrier);
    let before = PreciseClock.now();
    // Each of them finds its grace period endless, until pins are sure to fence.
    put(200);
    if PreciseClock.now() < before.saturating_add(Duration::from_millis(500)) {
        assert!(alive.count() > 150, "{} alive: freed on the word of a barrier that failed", alive.count());
    }
    assert!(soon(|| put(1), || alive.count() <= 2 + 40), "{} alive", alive.count());
    assert_eq!(*held.seal, 7);
    drop(held);
    assert!(soon(|| cache.run_pending(), || alive.count() == 1), "{} alive", alive.count());
}

/// From now on that system call fails with EPERM in this thread.
#[cfg(all(target_os = "linux", target_arch = "x86_64", not(any(dogpile_epoch, miri))))]
fn forbid(call: std::ffi::c_long) {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let program = [
        // The number of the call is the first thing in `seccomp_data`.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, u32::try_from(call).unwrap()),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned()),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: 4, filter: program.as_ptr().cast_mut() };
    // SAFETY: it sets a flag of the process.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the kernel copies the filter, which lives until then; it denies one call that has no effect on memory.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) }, 0);
    // SAFETY: it is refused, and would be harmless.
    assert_eq!(unsafe { libc::syscall(call, 0, 0, 0) }, -1);
}

/// M4: a child process has one thread. It waits neither for pins nor for guards of threads that it does not have, and
/// what its own thread holds stays. In a process of its own, which forks.
#[cfg(all(unix, not(any(dogpile_epoch, miri))))]
#[test]
fn m4_a_forked_process_waits_for_nobody() {
    if !is_child("m4_a_forked_process_waits_for_nobody") {
        return;
    }
    let (cache, alive) = (Arc::new(Cache::new(100)), nobody());
    cache.insert(1, alive.one());
    cache.insert(2, alive.one());
    let (pinned, end) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let other = thread::spawn({
        let (cache, pinned, end) = (Arc::clone(&cache), Arc::clone(&pinned), Arc::clone(&end));
        move || {
            let (_pin, _held) = (cache.pin(), cache.get(&1).unwrap());
            pinned.wait();
            end.wait();
        }
    });
    let held = cache.get(&2).unwrap();
    pinned.wait();
    // Both are replaced, and nobody may free either: the other thread is pinned.
    cache.insert(1, alive.one());
    cache.insert(2, alive.one());
    cache.run_pending();
    assert_eq!(alive.count(), 4);
    // SAFETY: the other thread waits, and has no lock that the child needs.
    match unsafe { libc::fork() } {
        0 => {
            cache.run_pending();
            let one_left = alive.count() == 3 && *held.seal == 7;
            drop(held);
            cache.run_pending();
            let code = if one_left && alive.count() == 2 { 0 } else { 1 };
            // SAFETY: nothing of the parent is undone on the way.
            unsafe { libc::_exit(code) }
        }
        child => {
            let mut status = 0;
            // SAFETY: it is our child, and the status is ours.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0, "the child freed what its own thread did not hold");
        }
    }
    cache.run_pending();
    assert_eq!(alive.count(), 4, "here the other thread is still pinned");
    end.wait();
    other.join().unwrap();
    assert_eq!(*held.seal, 7);
    drop(held);
    assert!(soon(|| cache.run_pending(), || alive.count() == 2), "{} alive", alive.count());
}

/// H1: a guard keeps one entry, not the garbage of the process.
#[test]
fn h1_a_held_guard_retains_one_node_only() {
    let _alone = alone();
    let (cache, alive) = (Cache::new(100), nobody());
    cache.insert(0, alive.one());
    cache.insert(1, alive.one());
    let held = cache.get(&0).unwrap();
    let handle = held.to_handle();
    for part in 0..10 {
        for _ in 0..10_000 {
            cache.insert(1, alive.one());
        }
        cache.insert(0, alive.one());
        // The two that are there, the one that is held, the few that any idle cache keeps.
        let is_small = || alive.count() <= 2 + 1 + 40 && cache.stats().pending_reclaim <= 1 + 40;
        assert!(
            soon(|| drop(cache.insert(1, alive.one())), is_small),
            "{} alive in part {part}",
            alive.count()
        );
    }
    assert_eq!(*held.seal, 7);
    drop(handle);
    assert!(soon(|| cache.run_pending(), || alive.count() == 3), "{} alive", alive.count());
    drop(held);
    assert!(soon(|| cache.run_pending(), || alive.count() == 2), "{} alive", alive.count());
}

/// H1: a ninth guard, and more, do what the first eight do.
#[test]
fn h1_more_guards_than_slots_hold_as_well() {
    let _alone = alone();
    let (cache, alive) = (Cache::new(100), nobody());
    for key in 0..50 {
        cache.insert(key, alive.one());
    }
    let mut held: Vec<_> = (0..50).map(|key| cache.get(&key).unwrap()).collect();
    cache.clear();
    assert!(soon(|| cache.run_pending(), || alive.count() == 50));
    assert!(held.iter().all(|found| *found.seal == 7));
    for left in (0..50).rev() {
        // In no order that a stack would like.
        drop(held.swap_remove(left / 2));
        assert!(
            soon(|| cache.run_pending(), || alive.count() == left),
            "{left} held, {} alive",
            alive.count()
        );
    }
}

/// H1: an explicit pin does hold everything back, as documented; when it goes all is freed.
#[test]
fn h1_a_pin_holds_garbage_back_until_it_goes() {
    let _alone = alone();
    let (cache, alive) = (Cache::new(100), nobody());
    let pin = cache.pin();
    for _ in 0..1000 {
        cache.insert(0, alive.one());
    }
    cache.run_pending();
    assert_eq!(alive.count(), 1000);
    assert_eq!(cache.stats().pending_reclaim, 999);
    drop(pin);
    assert!(soon(|| cache.run_pending(), || alive.count() == 1), "{} alive", alive.count());
}

/// H8: garbage belongs to the cache's shards, so what an idle thread took out is freed by the others, and the amount
/// follows what is alive, by number and by weight.
#[test]
fn h8_garbage_is_bounded_whoever_made_it() {
    let _alone = alone();
    let (cache, alive) =
        (Arc::new(Cache::builder().shards(one()).max_entries(10).build().unwrap()), nobody());
    let (stop, idle) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let sleeper = thread::spawn({
        let (cache, alive, stop, idle) =
            (Arc::clone(&cache), alive.clone(), Arc::clone(&stop), Arc::clone(&idle));
        move || {
            (0..100).for_each(|_| drop(cache.insert(1, alive.one())));
            idle.wait();
            stop.wait();
        }
    });
    idle.wait();
    let others = nobody();
    let freed = || alive.count() == 0;
    assert!(soon(|| drop(cache.insert(1, others.one())), freed), "{} of an idle thread", alive.count());
    stop.wait();
    sleeper.join().unwrap();

    let is_small = || others.count() <= 1 + 8 * 4;
    for _ in 0..20 {
        (0..1000).for_each(|_| drop(cache.insert(1, others.one())));
        assert!(soon(|| drop(cache.insert(1, others.one())), is_small), "{} alive", others.count());
    }
}

/// H8: garbage is measured by weight, too: a few heavy versions are as much as many light ones.
#[test]
fn h8_heavy_garbage_is_freed_sooner() {
    let _alone = alone();
    let (light, heavy) = (nobody(), nobody());
    let weigher = |key: &u32, _: &Token| if *key < 10 { 10 << 20 } else { 1 };
    let cache = Cache::builder().shards(one()).max_weight(1 << 30).weigher(weigher).build().unwrap();
    (10..1010).for_each(|key| drop(cache.insert(key, light.one())));
    (0..10).for_each(|key| drop(cache.insert(key, heavy.one())));
    // A sixteenth of what is there is less than one of them. By number, 32 would have to come together first.
    let is_small = || heavy.count() <= 10 + 12;
    for _ in 0..20 {
        (0..50).for_each(|key| drop(cache.insert(key % 10, heavy.one())));
        assert!(soon(|| drop(cache.insert(0, heavy.one())), is_small), "{} alive", heavy.count());
    }
}

/// Puts another of its kind in its place when it is dropped.
struct Phoenix;

static NEST: LazyLock<Cache<u32, Phoenix>> = LazyLock::new(|| Cache::new(10));
static RISEN: AtomicUsize = AtomicUsize::new(0);

impl Drop for Phoenix {
    fn drop(&mut self) {
        RISEN.fetch_add(1, SeqCst);
        NEST.insert(1, Phoenix);
    }
}

/// H8: what comes to be freed while garbage is freed is for later calls, so `run_pending` ends.
#[test]
fn h8_run_pending_does_not_go_on_for_ever() {
    NEST.insert(1, Phoenix);
    NEST.insert(1, Phoenix);
    assert!(soon(|| NEST.run_pending(), || RISEN.load(SeqCst) >= 5), "each drop is followed by another");
}

fn one() -> std::num::NonZeroUsize {
    std::num::NonZeroUsize::MIN
}

#[test]
fn handles_outlive_the_cache_and_its_threads() {
    let _alone = alone();
    let alive = nobody();
    let handles: Vec<Handle<u32, Token>> = {
        let cache = Cache::new(10);
        (0..10).for_each(|key| drop(cache.insert(key, alive.one())));
        let handles = (0..10).map(|key| cache.get_handle(&key).unwrap()).collect();
        cache.clear();
        handles
    };
    assert_eq!(alive.count(), 10);
    thread::spawn(move || assert!(handles.iter().all(|handle| *handle.seal == 7))).join().unwrap();
    assert_eq!(alive.count(), 0, "the last handle drops it, on its own thread");
}

#[test]
fn the_last_handle_yields_what_is_in_it() {
    let _alone = alone();
    let cache = Cache::new(10);
    cache.insert(1, String::from("one"));
    let handle = cache.get_handle(&1).unwrap();
    let handle = handle.try_unwrap().expect_err("the cache has it too");
    cache.remove(&1);
    let handle = RefCell::new(Some(handle));
    let mut parts = None;
    assert!(soon_some(&mut parts, || {
        cache.run_pending();
        match handle.take().expect("put back").try_unwrap() {
            Ok(parts) => Some(parts),
            Err(back) => {
                handle.replace(Some(back));
                None
            }
        }
    }));
    assert_eq!(parts, Some((1, String::from("one"))));
}

fn soon_some<T>(found: &mut Option<T>, mut attempt: impl FnMut() -> Option<T>) -> bool {
    let cell = RefCell::new(found);
    soon(|| **cell.borrow_mut() = attempt(), || cell.borrow().is_some())
}

/// What may cross threads, and what may not.
#[test]
fn threads_share_what_they_may() {
    let _alone = alone();
    fn shared<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe>() {}
    fn sent<T: Send>() {}
    shared::<Cache<String, Vec<u8>>>();
    shared::<Handle<String, Vec<u8>>>();
    sent::<dogpile::Iter<'_, String, Vec<u8>, dogpile::RandomState>>();
    sent::<dogpile::Inserted<String, Vec<u8>>>();
    // Interior mutability is no obstacle to unwinding: the cache itself is never left half-way.
    fn unwinds<T: UnwindSafe + RefUnwindSafe>() {}
    unwinds::<Cache<u32, RefCell<u32>>>();

    // Compiles only if the type is not `Send`: else both impls fit, and `_` is ambiguous.
    trait Ambiguous<A> {
        fn is_bound_to_its_thread() {}
    }
    struct ForSend;
    impl<T: ?Sized> Ambiguous<()> for T {}
    impl<T: ?Sized + Send> Ambiguous<ForSend> for T {}
    <Ref<'_, u32, u32> as Ambiguous<_>>::is_bound_to_its_thread();
    <dogpile::Pinned<'_> as Ambiguous<_>>::is_bound_to_its_thread();
    // A cache of what must not be shared is not shared.
    <Cache<u32, std::cell::Cell<u32>> as Ambiguous<_>>::is_bound_to_its_thread();
    <Cache<u32, std::rc::Rc<u32>> as Ambiguous<_>>::is_bound_to_its_thread();
    <Handle<u32, std::cell::Cell<u32>> as Ambiguous<_>>::is_bound_to_its_thread();
}
