//! Creators and callers whose every step is watched, and what must be true of them whatever the schedule.
//!
//! The models of the gate alone and of the gate in the engine ask the same questions, so they share this: a [`Shop`] makes
//! values, a [`Place`] is where callers ask for them.

use crate::{Census, Payload};
use dogpile::CreateError;
use dogpile::time::{Clock, Instant};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use std::any::Any;
use std::collections::BTreeSet;
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// The number of the value that is there before, where there is one. The call `n` of the creator makes `NEW + n`.
pub const OLD: u64 = 1;
/// The number of the first new value.
pub const NEW: u64 = 10;

/// A clock that stands still while threads run. Not modelled: time is no part of the protocol.
#[derive(Clone, Debug, Default)]
pub struct Halted(Arc<std::sync::atomic::AtomicU64>);

impl Halted {
    /// Moves the time on.
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1_000_000_000, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Clock for Halted {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.load(std::sync::atomic::Ordering::Relaxed))
    }
}

/// What a call of the creator ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A value.
    Value,
    /// An error.
    Error,
    /// A panic.
    Panic,
}

/// What the creator returns instead of a value: the number of its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed(pub usize);

/// What the creator panics with.
struct Planned;

/// Makes values.
#[derive(Debug)]
pub struct Shop {
    census: Census,
    /// Written by whoever creates: a creation that another does not happen before, or after, fails the model (P1).
    bench: UnsafeCell<()>,
    /// What a creation does to the world, for the schedules' sake.
    noise: AtomicUsize,
    /// How the first calls end. All later ones make a value.
    plan: Vec<Ending>,
    ghost: Mutex<Ghost>,
}

/// What happened, in the order of the schedule.
#[derive(Debug, Default)]
struct Ghost {
    calls: Vec<Option<Ending>>,
    /// The calls whose leaders have returned.
    over: BTreeSet<usize>,
}

/// A creation on its way.
struct Work<'s> {
    shop: &'s Shop,
    call: usize,
    _bench: loom::cell::MutPtr<()>,
}

impl Work<'_> {
    /// Ends the creation, as the plan says.
    fn end(self) -> Result<Payload, Failed> {
        let ending = self.shop.plan.get(self.call).copied().unwrap_or(Ending::Value);
        self.shop.ghost(|ghost| ghost.calls[self.call] = Some(ending));
        match ending {
            Ending::Value => Ok(self.shop.census.value(NEW + self.call as u64)),
            Ending::Error => Err(Failed(self.call)),
            // Without the hook, which would print it in every execution.
            Ending::Panic => resume_unwind(Box::new(Planned)),
        }
    }
}

impl Shop {
    /// A shop whose first calls end as `plan` says.
    #[must_use]
    pub fn new(plan: &[Ending]) -> Self {
        Self {
            census: Census::new(),
            bench: UnsafeCell::new(()),
            noise: AtomicUsize::new(0),
            plan: plan.to_vec(),
            ghost: Mutex::default(),
        }
    }

    /// Which values are alive.
    #[must_use]
    pub fn census(&self) -> &Census {
        &self.census
    }

    fn ghost<T>(&self, look: impl FnOnce(&mut Ghost) -> T) -> T {
        look(&mut self.ghost.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin(&self) -> Work<'_> {
        let call = self.ghost(|ghost| {
            ghost.calls.push(None);
            ghost.calls.len() - 1
        });
        let bench = self.bench.get_mut();
        self.noise.fetch_add(1, Ordering::Relaxed);
        Work { shop: self, call, _bench: bench }
    }

    /// Makes a value.
    ///
    /// # Errors
    /// As planned.
    pub fn make(&self) -> Result<Payload, Failed> {
        self.begin().end()
    }

    /// Makes a value, not at once.
    ///
    /// # Errors
    /// As planned.
    pub async fn make_async(&self) -> Result<Payload, Failed> {
        let work = self.begin();
        breath().await;
        work.end()
    }

    /// Begins to make one.
    pub async fn begin_only(&self) -> Result<Payload, Failed> {
        let _work = self.begin();
        pending().await
    }

    /// How many creations were begun.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.ghost(|ghost| ghost.calls.len())
    }

    /// How many of them ended like this.
    #[must_use]
    pub fn ended(&self, ending: Ending) -> usize {
        self.ghost(|ghost| ghost.calls.iter().filter(|call| **call == Some(ending)).count())
    }
}

/// Lets others run once. Who polls is woken again at once.
pub async fn breath() {
    let mut breathed = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut breathed, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Wakes the one who sleeps on it.
#[derive(Default)]
struct Bell {
    rung: loom::sync::Mutex<bool>,
    condvar: loom::sync::Condvar,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rung.lock().expect("nobody panics here") = true;
        self.condvar.notify_one();
    }
}

/// Runs a task on this thread. Each time it is polled so often in a row, each time with another waker, as tasks may be:
/// only the last one counts.
pub fn block_on<F: Future>(polls: usize, future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        let mut bell = Arc::new(Bell::default());
        for _ in 0..polls {
            bell = Arc::new(Bell::default());
            let waker = Waker::from(Arc::clone(&bell));
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
        }
        let mut rung = bell.rung.lock().expect("nobody panics here");
        while !*rung {
            rung = bell.condvar.wait(rung).expect("nobody panics here");
        }
    }
}

/// Where values are asked for. Each method returns the number of the value, after a look at it.
pub trait Place: 'static {
    /// Who makes them.
    fn shop(&self) -> &Shop;
    /// As a thread. `hurried`: does not wait for others.
    fn run(
        &self,
        hurried: bool,
        make: impl FnOnce() -> Result<Payload, Failed>,
    ) -> Result<u64, CreateError<Failed>>;
    /// As a task.
    fn run_async(
        &self,
        hurried: bool,
        make: impl Future<Output = Result<Payload, Failed>>,
    ) -> impl Future<Output = Result<u64, CreateError<Failed>>>;
    /// Whether somebody makes a value.
    fn is_locked(&self) -> bool;
    /// What must be true when nobody is there.
    fn validate(&self) {}
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A thread.
    Thread,
    /// A task.
    Task,
    /// A task that is polled more often than it is woken.
    Restless,
    /// A task that is dropped after so many polls. If it leads, its creator has not ended by then.
    Dropped(usize),
    /// A thread that does not wait for others.
    HurriedThread,
    /// A task that does not.
    HurriedTask,
}

/// What a caller got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The value of this number.
    Value(u64),
    /// The error of this call.
    Error(usize),
    /// Its own creator panicked.
    Panicked,
    /// Two leaders' had.
    LeaderPanicked,
    /// It was in a hurry.
    TimedOut,
    /// It would have waited for itself.
    Reentrant,
    /// It was dropped before.
    Dropped,
}

impl Answer {
    fn of(result: Result<u64, CreateError<Failed>>) -> Self {
        match result {
            Ok(number) => Self::Value(number),
            Err(CreateError::Creator(failed)) => Self::Error(failed.0),
            Err(CreateError::LeaderPanicked) => Self::LeaderPanicked,
            Err(CreateError::TimedOut) => Self::TimedOut,
            Err(CreateError::Reentrant) => Self::Reentrant,
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Runs what may panic as planned.
pub fn caught<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run))
        .map_err(|panic: Box<dyn Any + Send>| {
            if !panic.is::<Planned>() {
                resume_unwind(panic);
            }
        })
        .ok()
}

/// One call.
pub fn call(place: &impl Place, caller: Caller) -> Answer {
    let shop = place.shop();
    let over = shop.ghost(|ghost| ghost.over.clone());
    let mut led = None;
    let lead = |led: &mut Option<usize>| *led = Some(shop.calls());
    let answer = match caller {
        Caller::Thread | Caller::HurriedThread => caught(|| {
            place.run(caller == Caller::HurriedThread, || {
                lead(&mut led);
                shop.make()
            })
        })
        .map_or(Answer::Panicked, Answer::of),
        Caller::Task | Caller::Restless | Caller::HurriedTask => {
            let make = async {
                lead(&mut led);
                shop.make_async().await
            };
            let polls = if caller == Caller::Restless { 2 } else { 1 };
            caught(|| block_on(polls, place.run_async(caller == Caller::HurriedTask, make)))
                .map_or(Answer::Panicked, Answer::of)
        }
        Caller::Dropped(polls) => {
            let make = async {
                lead(&mut led);
                shop.begin_only().await
            };
            let mut asked = pin!(place.run_async(false, make));
            let mut cx = Context::from_waker(Waker::noop());
            let polled = (0..polls).find_map(|_| match asked.as_mut().poll(&mut cx) {
                Poll::Ready(result) => Some(Answer::of(result)),
                Poll::Pending => None,
            });
            polled.unwrap_or(Answer::Dropped)
        }
    };
    shop.ghost(|ghost| ghost.over.extend(led));
    if let Answer::Error(failed) = answer {
        assert!(
            !over.contains(&failed),
            "m6: {caller:?} got the error of a creation that was over before it came"
        );
        assert_eq!(shop.ghost(|ghost| ghost.calls[failed]), Some(Ending::Error));
    }
    answer
}

/// What came of it, when everybody has returned.
#[derive(Debug)]
pub struct Outcome {
    /// Of each caller.
    pub answers: Vec<Answer>,
    /// How many creations were begun.
    pub calls: usize,
    /// How many of them made a value.
    pub made: usize,
}

impl Outcome {
    /// How many callers got this.
    #[must_use]
    pub fn count(&self, answer: Answer) -> usize {
        self.answers.iter().filter(|other| **other == answer).count()
    }
}

/// All call at once: the first on the main thread, each of the others on one of its own. Afterwards the place is free
/// (P5), a further caller is served, and no value is left over when all is dropped.
///
/// `is_stale`: whether there is an old value at the beginning.
pub fn all_call<P: Place>(place: P, is_stale: bool, callers: &[Caller], check: impl FnOnce(&Outcome)) {
    let census = place.shop().census().clone();
    let place = Arc::new(place);
    let others: Vec<_> = callers[1..]
        .iter()
        .map(|caller| *caller)
        .map(|caller| crate::go(&place, move |place| call(place, caller)))
        .collect();
    let mut answers = vec![call(&*place, callers[0])];
    answers.extend(others.into_iter().map(crate::done));
    let shop = place.shop();
    let outcome = Outcome { answers, calls: shop.calls(), made: shop.ended(Ending::Value) };
    assert!(!place.is_locked(), "P5: free again after {outcome:?}");
    assert!(outcome.made <= 1, "P2: {outcome:?}");
    for answer in &outcome.answers {
        match answer {
            Answer::Value(OLD) => assert!(is_stale, "{outcome:?}"),
            Answer::Value(number) => {
                let call = (number - NEW) as usize;
                assert_eq!(shop.ghost(|ghost| ghost.calls[call]), Some(Ending::Value), "{outcome:?}");
            }
            Answer::LeaderPanicked => assert!(shop.ended(Ending::Panic) >= 2, "{outcome:?}"),
            _ => {}
        }
    }
    check(&outcome);
    let last = call(&*place, Caller::Thread);
    let fresh = outcome.made == 1;
    assert!(matches!(last, Answer::Value(number) if number >= NEW), "P5: {last:?} after {outcome:?}");
    assert_eq!(shop.calls(), outcome.calls + usize::from(!fresh), "P2: {outcome:?}");
    assert!(!place.is_locked());
    place.validate();
    drop(place);
    assert!(census.alive().is_empty(), "each value ended once");
}

/// Seconds.
#[must_use]
pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
