//! What tasks are made of: futures that are dropped on the way, creators that panic, timers that end at any time, and a
//! runner.

use crate::dice::Dice;
use dogpile::gate::{AsyncJob, Job, Runner, Sleep, Timer};
use std::any::Any;
use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// For what is not scheduled: nobody switches while it is locked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A panic that a plan asked for. Without a message: the hook would print it, a million times.
struct Planned;

pub(crate) fn planned_panic() -> ! {
    resume_unwind(Box::new(Planned))
}

/// Whether the panic was a planned one. Goes on with any other.
fn planned<T>(ended: Result<T, Box<dyn Any + Send>>) -> Option<T> {
    match ended {
        Ok(value) => Some(value),
        Err(panic) if panic.is::<Planned>() => None,
        Err(panic) => resume_unwind(panic),
    }
}

/// `None`: `call` panicked as planned.
pub(crate) fn surviving<T>(call: impl FnOnce() -> T) -> Option<T> {
    planned(catch_unwind(AssertUnwindSafe(call)))
}

/// How a call of a task ended.
pub(crate) enum Ended<T> {
    With(T),
    Panicked,
    /// It was dropped before its end.
    Dropped,
}

/// Polls a future to its end, or for so many polls; then drops it, wherever it stands.
///
/// `gone` is called just before it is dropped unfinished, by this or by whoever drops this.
pub(crate) struct Fickle<F, G: FnMut()> {
    future: Option<Pin<Box<F>>>,
    patience: Option<u32>,
    gone: G,
}

impl<F: Future, G: FnMut()> Fickle<F, G> {
    /// With `patience`: it is polled anew again and again, so that it may be dropped at any time.
    pub(crate) fn new(future: F, patience: Option<u32>, gone: G) -> Self {
        Self { future: Some(Box::pin(future)), patience, gone }
    }
}

impl<F, G: FnMut()> Unpin for Fickle<F, G> {}

impl<F: Future, G: FnMut()> Future for Fickle<F, G> {
    type Output = Ended<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.patience == Some(0) {
            (self.gone)();
            self.future = None;
            return Poll::Ready(Ended::Dropped);
        }
        let future = self.future.as_mut().expect("a future that has ended is not polled");
        let polled = surviving(|| future.as_mut().poll(cx));
        match polled {
            None => {
                self.future = None;
                Poll::Ready(Ended::Panicked)
            }
            Some(Poll::Ready(output)) => {
                self.future = None;
                Poll::Ready(Ended::With(output))
            }
            Some(Poll::Pending) => {
                if let Some(left) = &mut self.patience {
                    *left -= 1;
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }
}

impl<F, G: FnMut()> Drop for Fickle<F, G> {
    fn drop(&mut self) {
        if self.future.is_some() {
            (self.gone)();
        }
    }
}

/// Ends after some polls, so that a limit runs out at any time of the schedule.
#[derive(Debug)]
pub(crate) struct SomeTime {
    dice: Mutex<Dice>,
}

impl SomeTime {
    pub(crate) fn new(dice: Dice) -> Self {
        Self { dice: Mutex::new(dice) }
    }
}

impl Timer for SomeTime {
    fn sleep(&self, _span: Duration) -> Sleep {
        let polls = lock(&self.dice).below(6);
        Box::pin(AfterPolls(Cell::new(polls)))
    }
}

struct AfterPolls(Cell<u64>);

impl Future for AfterPolls {
    type Output = ();
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.get() == 0 {
            return Poll::Ready(());
        }
        self.0.set(self.0.get() - 1);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Runs jobs on threads and tasks of the schedule, and refuses some.
#[derive(Clone)]
pub(crate) struct Background {
    inner: Arc<Mutex<Running>>,
}

struct Running {
    dice: Dice,
    threads: Vec<shuttle::thread::JoinHandle<()>>,
    tasks: Vec<shuttle::future::JoinHandle<()>>,
}

impl Background {
    pub(crate) fn new(dice: Dice) -> Self {
        Self { inner: Arc::new(Mutex::new(Running { dice, threads: Vec::new(), tasks: Vec::new() })) }
    }

    /// Waits for all that was begun, and for what that begins.
    pub(crate) fn join(&self) {
        loop {
            let (threads, tasks) = {
                let mut running = lock(&self.inner);
                (std::mem::take(&mut running.threads), std::mem::take(&mut running.tasks))
            };
            if threads.is_empty() && tasks.is_empty() {
                return;
            }
            threads.into_iter().for_each(|thread| thread.join().expect("its panics were caught"));
            for task in tasks {
                shuttle::future::block_on(task).expect("nobody aborts it");
            }
        }
    }
}

impl Runner for Background {
    fn run(&self, job: Job) {
        if lock(&self.inner).dice.one_in(8) {
            return;
        }
        let thread = shuttle::thread::spawn(move || {
            surviving(job);
        });
        lock(&self.inner).threads.push(thread);
    }

    fn run_async(&self, job: AsyncJob) {
        if lock(&self.inner).dice.one_in(8) {
            return;
        }
        let task = shuttle::future::spawn(async move {
            Fickle::new(job, None, || ()).await;
        });
        lock(&self.inner).tasks.push(task);
    }
}
