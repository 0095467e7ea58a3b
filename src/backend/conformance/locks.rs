//! Checks of threads, and of the store's own lock.
#![forbid(unsafe_code)]

use super::super::{CacheMutex, Stored};
use super::{Bench, Not, checks, ensure};
use crate::sync::{Barrier, Ordering, ScopedJoinHandle, mpsc, plain::AtomicUsize, scope};
use std::time::Duration;

checks![
    threads,
    mutex_excludes,
    mutex_is_released,
    mutex_wakes_who_waits,
    mutex_serves_threads_in_turn,
    a_mutex_for_several_keys_lets_one_thread_have_them,
    mutex_ends_with_its_lease,
];

const THREADS: usize = 4;
/// How long one that is not free is waited for.
const MOMENT: Duration = Duration::from_millis(30);

/// Runs `work` on several threads at once.
fn at_once(work: impl Fn(usize) -> Result<(), Not> + Sync) -> Result<(), Not> {
    let start = Barrier::new(THREADS);
    scope(|scope| {
        let begin = |i| {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                start.wait();
                work(i)
            })
        };
        let all: Vec<_> = (0..THREADS).map(begin).collect();
        let end = |thread: ScopedJoinHandle<'_, Result<(), Not>>| {
            thread.join().unwrap_or_else(|_| Err(Not::Passed(String::from("a thread panicked"))))
        };
        all.into_iter().try_for_each(end)
    })
}

/// Runs `work` on another thread, and waits for it.
fn elsewhere<T: Send>(work: impl FnOnce() -> Result<T, Not> + Send) -> Result<T, Not> {
    scope(|scope| {
        let thread = scope.spawn(work);
        thread.join().unwrap_or_else(|_| Err(Not::Passed(String::from("a thread panicked"))))
    })
}

fn threads(bench: &Bench) -> Result<(), Not> {
    bench.kept()?;
    let shared = bench.key("shared");
    let own: Vec<Stored> = (0..THREADS as u64).map(|i| bench.value(i)).collect();
    at_once(|thread| {
        for i in 0..50_u32 {
            let key = bench.key(&format!("own-{thread}-{i}"));
            bench.set(&key, &own[thread], None)?;
            bench.has(&key, &own[thread], "a key that only this thread writes")?;
            if i.is_multiple_of(2) {
                bench.subject.delete(&key)?;
                bench.has_none(&key, "a key that only this thread writes, deleted")?;
            }
            bench.set(&shared, &own[thread], None)?;
            let found = bench.get(&shared)?;
            let is_one = found.is_some_and(|found| own.iter().any(|value| value.is_same(&found)));
            ensure!(is_one, "a key that all threads set has none of their values");
        }
        Ok(())
    })?;
    for (thread, value) in own.iter().enumerate() {
        for i in (1..50).step_by(2) {
            bench.has(&bench.key(&format!("own-{thread}-{i}")), value, "after all threads have ended")?;
        }
    }
    Ok(())
}

fn mutex(bench: &Bench, key: &str) -> Result<Box<dyn CacheMutex>, Not> {
    bench.kept()?;
    let mutex = bench.subject.mutex(key);
    mutex.ok_or(Not::Applicable("it has no mutex: the lock of the process is all there is"))
}

/// Another thread tries, and gives back what it gets. Whether it got it.
fn is_free(bench: &Bench, key: &str, wait: Duration) -> Result<bool, Not> {
    elsewhere(|| {
        let mutex = mutex(bench, key)?;
        let is_held = mutex.acquire(wait)?;
        if is_held {
            mutex.release()?;
        }
        Ok(is_held)
    })
}

fn mutex_excludes(bench: &Bench) -> Result<(), Not> {
    let key = bench.key("key");
    let first = mutex(bench, &key)?;
    ensure!(first.acquire(Duration::ZERO)?, "nobody has it, and who tries does not get it");
    let tries = is_free(bench, &key, Duration::ZERO)?;
    let waits = is_free(bench, &key, MOMENT)?;
    let locked = elsewhere(|| Ok(mutex(bench, &key)?.locked()?))?;
    // Nothing is said here of giving it back.
    let _ = first.release();
    ensure!(!tries, "two threads have it at once: the second one has tried");
    ensure!(!waits, "two threads have it at once: the second one has waited");
    ensure!(locked, "one thread has it, and another one is told that it is not locked");
    Ok(())
}

fn mutex_is_released(bench: &Bench) -> Result<(), Not> {
    let key = bench.key("key");
    for _ in 0..3 {
        let own = mutex(bench, &key)?;
        ensure!(own.acquire(Duration::ZERO)?, "it was given back, and who tries does not get it");
        own.release()?;
        let locked = elsewhere(|| Ok(mutex(bench, &key)?.locked()?))?;
        ensure!(!locked, "it was given back, and is locked");
        ensure!(
            is_free(bench, &key, Duration::ZERO)?,
            "it was given back, and another thread does not get it"
        );
    }
    Ok(())
}

fn mutex_wakes_who_waits(bench: &Bench) -> Result<(), Not> {
    let key = bench.key("key");
    let own = mutex(bench, &key)?;
    ensure!(own.acquire(Duration::ZERO)?, "nobody has it, and who tries does not get it");
    let (ended, ends) = mpsc::channel();
    let (key, patience) = (&key, bench.patience);
    let (early, waited) = scope(|scope| {
        scope.spawn(move || {
            let acquire = || {
                let other = mutex(bench, key)?;
                let is_held = other.acquire(patience)?;
                if is_held {
                    other.release()?;
                }
                Ok::<bool, Not>(is_held)
            };
            let _ = ended.send(acquire());
        });
        // Who waits does not come back before it has been given back.
        let early = ends.recv_timeout(3 * MOMENT);
        own.release()?;
        let waited = if early.is_ok() { Ok(true) } else { ends.recv().unwrap_or(Ok(false)) };
        Ok::<_, Not>((early, waited?))
    })?;
    match early {
        Ok(Ok(true)) => return Err(Not::Passed(String::from("two threads have it at once"))),
        Ok(Ok(false)) => return Err(Not::Passed(String::from("who was to wait for it came back at once"))),
        Ok(Err(not)) => return Err(not),
        Err(_) => {}
    }
    ensure!(waited, "who waited for it did not get it when it was given back, in {patience:?}");
    Ok(())
}

fn mutex_serves_threads_in_turn(bench: &Bench) -> Result<(), Not> {
    let key = bench.key("key");
    mutex(bench, &key)?;
    let patience = bench.patience;
    let (inside, entered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    at_once(|_| {
        for _ in 0..5 {
            let mutex = mutex(bench, &key)?;
            ensure!(mutex.acquire(patience)?, "a thread did not get it in {patience:?}");
            let others = inside.fetch_add(1, Ordering::SeqCst);
            entered.fetch_add(1, Ordering::SeqCst);
            bench.get(&key)?;
            inside.fetch_sub(1, Ordering::SeqCst);
            mutex.release()?;
            ensure!(others == 0, "{} threads have it at once", others + 1);
        }
        Ok(())
    })?;
    let entered = entered.into_inner();
    ensure!(entered == THREADS * 5, "{entered} of {} turns", THREADS * 5);
    Ok(())
}

fn a_mutex_for_several_keys_lets_one_thread_have_them(bench: &Bench) -> Result<(), Not> {
    let keys = bench.keys(&["a", "b", "c", "d"]);
    let mut held = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        let mutex = mutex(bench, key)?;
        let is_held = mutex.acquire(MOMENT)?;
        ensure!(is_held, "a thread that has {i} keys does not get the next one: batches can't be made");
        held.push(mutex);
    }
    for key in &keys {
        ensure!(
            !is_free(bench, key, Duration::ZERO)?,
            "one of several keys that a thread has goes to another"
        );
    }
    for (i, mutex) in held.iter().enumerate() {
        mutex.release()?;
        for key in &keys[i + 1..] {
            let is_free = is_free(bench, key, Duration::ZERO)?;
            ensure!(!is_free, "one key was given back, and another one with it");
        }
    }
    for key in &keys {
        ensure!(is_free(bench, key, MOMENT)?, "all keys were given back, and one of them is not free");
    }
    Ok(())
}

fn mutex_ends_with_its_lease(bench: &Bench) -> Result<(), Not> {
    let key = bench.key("key");
    let first = mutex(bench, &key)?;
    let lease = first.lease().ok_or(Not::Applicable("it has no lease"))?;
    bench.pass(Duration::ZERO)?;
    ensure!(first.acquire(Duration::ZERO)?, "nobody has it, and who tries does not get it");
    bench.pass(lease * 2)?;
    let second = mutex(bench, &key)?;
    if !elsewhere(|| Ok(second.acquire(Duration::ZERO)?))? {
        first.release()?;
        return Err(Not::Applicable("its holder lives, and its lease is renewed"));
    }
    // The former holder gives back nothing that is another's by now; whether that is an error is the store's to say.
    let _ = first.release();
    let is_free = is_free(bench, &key, Duration::ZERO)?;
    elsewhere(|| Ok(second.release()?))?;
    ensure!(!is_free, "who had lost it gave back what another had taken since");
    Ok(())
}
