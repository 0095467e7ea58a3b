//! Callers as threads and callers as tasks, behind one trait: who has begun, who waits, how each ended.
//!
//! # When callers wait
//! No library tells how many callers wait inside it, so [`settle`] looks from outside, and takes two looks for an answer. A
//! thread: asleep in both (`/proc/self/task/*/status`), and its count of context switches the same, so it slept all the time
//! between. A task: its last poll returned `Pending` in both, nothing has woken it since, and the number of polls is the same. So
//! there is a moment at which all the callers waited. Without `/proc` (not Linux), that a thread has begun is all that is known.

#![forbid(unsafe_code)]

use std::fs;
use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::pin;
use std::slice;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use super::script::{Gate, Script};
use super::subject::{Blocking, Ending, Polled, Setup, Unbuilt};

const HELD: &str = "nothing panics while it holds this lock";

/// A cache and the means to call it from many sides at once. Each call runs on a thread or in a task of its own.
pub(super) trait Rig: Sized {
    const NAME: &'static str;
    const PACKAGE: &'static str;
    const CALLS: &'static str;

    fn build(setup: Setup) -> Result<Self, Unbuilt>;
    fn create(&self, key: u64, script: Script) -> Call<Ending>;
    /// By a caller who does not want to wait longer than `limit`.
    fn create_within(&self, limit: Duration, key: u64, script: Script) -> Call<Ending>;
    /// By a caller who gets no further than into its creator. A thread is held there by `gate`; a future is polled once, then
    /// `gate` opens, and the future is kept and not polled again.
    fn create_parked(&self, key: u64, script: Script, gate: &Gate) -> Call<Ending>;
    /// Drops the future of a call. `None`: threads have none.
    fn abandon(&self, call: Call<Ending>) -> Option<()>;
    fn insert(&self, key: u64, value: u64) -> Call<()>;
    fn remove(&self, key: u64) -> Call<()>;
    fn clear(&self) -> Call<()>;
    fn get(&self, key: u64) -> Option<u64>;
    fn expire(&self, key: u64);
    /// Returns when all calls have ended, and what the library does on the side.
    fn rest(&self);
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Call<T> {
    progress: Arc<Progress>,
    result: Receiver<T>,
    task: Option<JoinHandle<()>>,
}

impl<T> Call<T> {
    pub(super) fn has_ended(&self) -> bool {
        matches!(*self.progress.stage.lock().expect(HELD), Stage::Ended)
    }

    /// Waits for the end. `None`: it panicked.
    fn result(self) -> Option<T> {
        self.result.recv().ok()
    }
}

impl Call<Ending> {
    pub(super) fn end(self) -> Ending {
        self.result().unwrap_or(Ending::Panicked)
    }
}

impl Call<()> {
    pub(super) fn finish(self) {
        self.result().expect("a write does not panic");
    }
}

/// Returns when there was a moment at which each of `calls` had ended or waited.
pub(super) fn settle<T>(calls: &[Call<T>]) {
    let mut last_look = None;
    loop {
        let look: Option<Vec<Rest>> = calls.iter().map(|call| call.progress.look()).collect();
        if look.is_some() && look == last_look {
            return;
        }
        last_look = look;
        thread::yield_now();
    }
}

/// How a call that does not run at the moment looks from outside.
#[derive(Debug, PartialEq, Eq)]
enum Rest {
    Ended,
    Waits {
        /// Context switches or polls up to now.
        turns: u64,
    },
}

#[derive(Debug, Default)]
struct Progress {
    stage: Mutex<Stage>,
    /// Where the kernel tells about the thread. Of a task this stays empty.
    status: OnceLock<PathBuf>,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    NotBegun,
    Runs,
    /// A task that is to be polled again.
    Woken,
    /// A task whose last poll returned `Pending`, and that nothing has woken since.
    Waits {
        polls: u64,
    },
    Ended,
}

impl Progress {
    /// `None`: it runs, or will presently.
    fn look(&self) -> Option<Rest> {
        let stage = self.stage.lock().expect(HELD);
        match (&*stage, self.status.get()) {
            (Stage::Ended, _) => Some(Rest::Ended),
            (Stage::Waits { polls }, _) => Some(Rest::Waits { turns: *polls }),
            (Stage::Runs, Some(status)) => turns_of_sleeper(&fs::read_to_string(status).ok()?),
            (Stage::NotBegun | Stage::Runs | Stage::Woken, _) => None,
        }
    }

    fn enter(&self, stage: Stage) {
        *self.stage.lock().expect(HELD) = stage;
    }

    /// A poll has returned `Pending`.
    fn wait(&self, polls: u64) {
        let mut stage = self.stage.lock().expect(HELD);
        if matches!(*stage, Stage::Runs) {
            *stage = Stage::Waits { polls };
        }
    }
}

/// Reads the kernel's page about a thread.
fn turns_of_sleeper(status: &str) -> Option<Rest> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    if !field("State:")?.trim_start().starts_with('S') {
        return None;
    }
    let switches = |name: &str| field(name)?.trim().parse::<u64>().ok();
    let turns = switches("voluntary_ctxt_switches:")? + switches("nonvoluntary_ctxt_switches:")?;
    Some(Rest::Waits { turns })
}

/// Notes the end of a call, however it ends.
struct Ends(Arc<Progress>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.enter(Stage::Ended);
    }
}

/// Callers that are threads.
pub(super) struct Threads<C>(Arc<C>);

impl<C: Blocking> Threads<C> {
    fn call<T: Send + 'static>(&self, work: impl FnOnce(&Arc<C>) -> T + Send + 'static) -> Call<T> {
        let cache = Arc::clone(&self.0);
        let progress = Arc::new(Progress::default());
        let (sender, result) = mpsc::channel();
        let ends = Ends(Arc::clone(&progress));
        thread::spawn(move || {
            if let Ok(thread) = fs::read_link("/proc/thread-self") {
                let status = PathBuf::from("/proc").join(thread).join("status");
                ends.0.status.set(status).expect("each thread has its own progress");
                ends.0.enter(Stage::Runs);
            } else {
                ends.0.enter(Stage::Waits { polls: 0 });
            }
            // Nobody may be there any more to whom it matters.
            let _ = sender.send(work(&cache));
        });
        Call { progress, result, task: None }
    }
}

impl<C: Blocking> Rig for Threads<C> {
    const NAME: &'static str = C::NAME;
    const PACKAGE: &'static str = C::PACKAGE;
    const CALLS: &'static str = C::CALLS;

    fn build(setup: Setup) -> Result<Self, Unbuilt> {
        C::build(setup).map(|cache| Threads(Arc::new(cache)))
    }
    fn create(&self, key: u64, script: Script) -> Call<Ending> {
        self.call(move |cache| {
            let its_cache = Arc::clone(cache);
            cache.get_or_create(key, move || script.run(&its_cache))
        })
    }
    fn create_within(&self, limit: Duration, key: u64, script: Script) -> Call<Ending> {
        self.call(move |cache| {
            let its_cache = Arc::clone(cache);
            cache.get_or_create_within(limit, key, move || script.run(&its_cache))
        })
    }
    fn create_parked(&self, key: u64, script: Script, gate: &Gate) -> Call<Ending> {
        self.create(key, script.behind(gate))
    }
    fn abandon(&self, _: Call<Ending>) -> Option<()> {
        None
    }
    fn insert(&self, key: u64, value: u64) -> Call<()> {
        self.call(move |cache| cache.insert(key, value))
    }
    fn remove(&self, key: u64) -> Call<()> {
        self.call(move |cache| cache.remove(key))
    }
    fn clear(&self) -> Call<()> {
        self.call(|cache| cache.clear())
    }
    fn get(&self, key: u64) -> Option<u64> {
        self.0.get(key)
    }
    fn expire(&self, key: u64) {
        self.0.expire(key);
    }
    fn rest(&self) {}
}

/// Callers that are tasks of a runtime with two workers.
pub(super) struct Tasks<C> {
    cache: Arc<C>,
    /// Never dropped: the process ends with the case, and a task that hangs must not hold that up.
    runtime: &'static Runtime,
}

impl<C: Polled> Tasks<C> {
    fn call<T, F>(&self, is_parked: bool, work: impl FnOnce(Arc<C>) -> F) -> Call<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let future = work(Arc::clone(&self.cache));
        let progress = Arc::new(Progress::default());
        let (sender, result) = mpsc::channel();
        let ends = Ends(Arc::clone(&progress));
        let task = self.runtime.spawn(async move {
            let value = watch(Arc::clone(&ends.0), future, is_parked).await;
            let _ = sender.send(value);
        });
        Call { progress, result, task: Some(task) }
    }
}

/// Notes polls and wakes of `future` in `progress`. One that is parked is polled once only.
async fn watch<F: Future>(progress: Arc<Progress>, future: F, is_parked: bool) -> F::Output {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(|context| {
        if is_parked && polls > 0 {
            return Poll::Pending;
        }
        polls += 1;
        progress.enter(Stage::Runs);
        let watcher = Watcher { progress: Arc::clone(&progress), waker: context.waker().clone() };
        let poll = future.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(watcher))));
        if poll.is_pending() {
            progress.wait(polls);
        }
        poll
    })
    .await
}

/// Notes that a task was woken, and wakes it.
struct Watcher {
    progress: Arc<Progress>,
    waker: Waker,
}

impl Wake for Watcher {
    fn wake(self: Arc<Self>) {
        let mut stage = self.progress.stage.lock().expect(HELD);
        if matches!(*stage, Stage::Runs | Stage::Waits { .. }) {
            *stage = Stage::Woken;
        }
        drop(stage);
        self.waker.wake_by_ref();
    }
}

impl<C: Polled> Rig for Tasks<C> {
    const NAME: &'static str = C::NAME;
    const PACKAGE: &'static str = C::PACKAGE;
    const CALLS: &'static str = C::CALLS;

    fn build(setup: Setup) -> Result<Self, Unbuilt> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build();
        let runtime: &'static Runtime = Box::leak(Box::new(runtime.expect("a runtime can be started")));
        let _entered = runtime.enter();
        Ok(Tasks { cache: Arc::new(C::build(setup)?), runtime })
    }
    fn create(&self, key: u64, script: Script) -> Call<Ending> {
        self.call(false, move |cache: Arc<C>| async move {
            cache.get_or_create(key, script.run_async(Arc::clone(&cache))).await
        })
    }
    fn create_within(&self, limit: Duration, key: u64, script: Script) -> Call<Ending> {
        self.call(false, move |cache: Arc<C>| async move {
            cache.get_or_create_within(limit, key, script.run_async(Arc::clone(&cache))).await
        })
    }
    fn create_parked(&self, key: u64, script: Script, gate: &Gate) -> Call<Ending> {
        let script = script.behind(gate);
        let call = self.call(true, move |cache: Arc<C>| async move {
            cache.get_or_create(key, script.run_async(Arc::clone(&cache))).await
        });
        settle(slice::from_ref(&call));
        gate.open();
        call
    }
    fn abandon(&self, call: Call<Ending>) -> Option<()> {
        let task = call.task.expect("this call is a task");
        task.abort();
        // An error: it was aborted.
        let _ = self.runtime.block_on(task);
        Some(())
    }
    fn insert(&self, key: u64, value: u64) -> Call<()> {
        self.call(false, move |cache: Arc<C>| async move { cache.insert(key, value).await })
    }
    fn remove(&self, key: u64) -> Call<()> {
        self.call(false, move |cache: Arc<C>| async move { cache.remove(key).await })
    }
    fn clear(&self) -> Call<()> {
        self.call(false, |cache: Arc<C>| async move { cache.clear().await })
    }
    fn get(&self, key: u64) -> Option<u64> {
        self.runtime.block_on(self.cache.get(key))
    }
    fn expire(&self, key: u64) {
        self.runtime.block_on(self.cache.expire(key));
    }
    fn rest(&self) {
        while self.runtime.metrics().num_alive_tasks() > 0 {
            thread::yield_now();
        }
    }
}
