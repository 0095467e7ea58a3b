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
#[derive(Clone, Debug)]
pub struct Halted(Arc<std::sync::atomic::AtomicU64>);

impl Default for Halted {
    /// Late enough for old values to be older.
    fn default() -> Self {
        let clock = Self(Arc::default());
        clock.advance(1000);
        clock
    }
}

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
    /// Whether creations of several versions may overlap.
    overlaps: bool,
    /// How many creations were begun. Modelled.
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
    _bench: Option<loom::cell::MutPtr<()>>,
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
            overlaps: false,
            noise: AtomicUsize::new(0),
            plan: plan.to_vec(),
            ghost: Mutex::default(),
        }
    }

    /// The same where a version is written or taken out while its newer one is made: then another may begin (H13).
    #[must_use]
    pub fn overlapping() -> Self {
        Self { overlaps: true, ..Self::new(&[]) }
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
        let bench = (!self.overlaps).then(|| self.bench.get_mut());
        // Who sees it also sees what has come before the creation.
        self.noise.fetch_add(1, Ordering::AcqRel);
        Work { shop: self, call, _bench: bench }
    }

    /// Whether a creation was begun, for those who must not come before it.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.noise.load(Ordering::Acquire) > 0
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

    /// Begins to make one: it is on its way until it has been dropped.
    ///
    /// # Errors
    /// None: it never ends.
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
    /// What was counted.
    fn counts(&self) -> Counts;
    /// Whether errors are remembered.
    fn remembers(&self) -> bool {
        false
    }
    /// What must be true when nobody is there.
    fn validate(&self) {}
}

/// What a place has counted.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Creations begun.
    pub leads: u64,
    /// Callers that waited.
    pub waits: u64,
    /// Leads that waiters took over.
    pub hand_overs: u64,
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

/// Explores models in which threads panic.
///
/// To `std` all threads of a model are one: while one unwinds, another that lets go of a mutex would poison it. So all of
/// this runs in a destructor, while the thread unwinds already: what was locked while unwinding is not poisoned by it. A
/// model that fails ends the process.
pub fn unwinding(explore: impl FnOnce()) {
    struct Unwinds<F: FnOnce()>(Option<F>);
    impl<F: FnOnce()> Drop for Unwinds<F> {
        fn drop(&mut self) {
            self.0.take().expect("a destructor runs once")();
        }
    }
    // The first model of a process changes the panic hook, which can't be done while unwinding.
    loom::model(|| ());
    let unwound = caught(|| {
        let _unwinds = Unwinds(Some(explore));
        resume_unwind(Box::new(Planned));
    });
    assert!(unwound.is_none());
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
            place.remembers() || !over.contains(&failed),
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
    /// What the place counted.
    pub counts: Counts,
}

impl Outcome {
    /// How many callers got this.
    #[must_use]
    pub fn count(&self, answer: Answer) -> usize {
        self.answers.iter().filter(|other| **other == answer).count()
    }
}

/// All call at once: the first on the main thread, each of the others on one of its own. Then looks at what is true whatever
/// they do, and returns the rest.
///
/// `is_stale`: whether there is an old value at the beginning.
pub fn call_all<P: Place>(place: &Arc<P>, is_stale: bool, callers: &[Caller]) -> Outcome {
    let others: Vec<_> = callers[1..]
        .iter()
        .copied()
        .map(|caller| crate::go(place, move |place| call(place, caller)))
        .collect();
    let mut answers = vec![call(&**place, callers[0])];
    answers.extend(others.into_iter().map(crate::done));
    let shop = place.shop();
    let (calls, made) = (shop.calls(), shop.ended(Ending::Value));
    let outcome = Outcome { answers, calls, made, counts: place.counts() };
    assert!(!place.is_locked(), "P5: free again after {outcome:?}");
    assert!(made <= 1, "P2: {outcome:?}");
    assert_eq!(outcome.counts.leads, calls as u64, "who leads creates: {outcome:?}");
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
    outcome
}

/// Afterwards a further caller is served (P5), and no value is left over when all is dropped.
pub fn all_is_well<P: Place>(place: Arc<P>, outcome: &Outcome) {
    let shop = place.shop();
    let census = shop.census().clone();
    let last = call(&*place, Caller::Thread);
    assert!(matches!(last, Answer::Value(number) if number >= NEW), "P5: {last:?} after {outcome:?}");
    assert_eq!(shop.calls(), outcome.calls + usize::from(outcome.made == 0), "P2: {outcome:?}");
    assert!(!place.is_locked());
    place.validate();
    drop(place);
    assert!(census.alive().is_empty(), "each value ended once");
}

/// What the first creation ends in, and who calls. All later creations make a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// A value.
    Made,
    /// An error, which those who wait share.
    Failed,
    /// A panic: another leads.
    Panicked,
    /// Its caller drops it: another leads.
    Cancelled,
}

impl Case {
    fn plan(self) -> &'static [Ending] {
        match self {
            Self::Made | Self::Cancelled => &[],
            Self::Failed => &[Ending::Error],
            Self::Panicked => &[Ending::Panic],
        }
    }

    /// The crowds of so many callers that are let loose, one after another.
    fn crowds(self, size: usize) -> &'static [&'static [Caller]] {
        use Caller::{Dropped, Task, Thread};
        match (self, size) {
            (Self::Cancelled, 2) => {
                &[&[Dropped(1), Thread], &[Task, Dropped(1)], &[Dropped(2), Task], &[Thread, Dropped(2)]]
            }
            (Self::Cancelled, 3) => &[
                &[Dropped(1), Thread, Task],
                &[Thread, Dropped(1), Task],
                &[Task, Dropped(1), Dropped(2)],
                &[Dropped(2), Dropped(1), Thread],
            ],
            (Self::Cancelled, _) => &[&[Dropped(1), Dropped(2), Thread, Task]],
            // The others do the same as the first, so it doesn't matter who is where.
            (_, 2) => &[&[Thread, Task]],
            (_, 3) => &[&[Thread, Task, Thread]],
            _ => &[&[Thread, Task, Thread, Task]],
        }
    }

    fn check(self, is_stale: bool, outcome: &Outcome) {
        let Outcome { answers, calls, made, .. } = outcome;
        let is_value = |answer: &Answer| matches!(answer, Answer::Value(_));
        let is_good = match self {
            Self::Made => *calls == 1 && *made == 1 && answers.iter().all(is_value),
            Self::Failed => {
                let errors = outcome.count(Answer::Error(0));
                let others = answers.iter().filter(|answer| is_value(answer)).count();
                // Who failed gets the value of another who was quick enough, if there is one.
                let is_enough = is_stale || errors == answers.len() || *made == 1;
                errors + others == answers.len() && is_enough && *calls == made + 1
            }
            Self::Panicked => {
                let others = answers.iter().filter(|answer| is_value(answer)).count();
                outcome.count(Answer::Panicked) == 1
                    && others + 1 == answers.len()
                    && *calls == made + 1
                    && (is_stale || *made == 1)
            }
            Self::Cancelled => {
                let dropped = outcome.count(Answer::Dropped);
                let others = answers.iter().filter(|answer| is_value(answer)).count();
                others + dropped == answers.len() && *calls <= made + dropped && (is_stale || *made == 1)
            }
        };
        assert!(is_good, "{self:?}, stale: {is_stale}: {outcome:?}");
    }

    /// What must have been seen in some schedule, or the model shows nothing.
    fn is_of_note(self, is_stale: bool, outcome: &Outcome) -> bool {
        let counts = &outcome.counts;
        match (self, is_stale) {
            (Self::Made, false) => counts.waits > 0,
            (Self::Failed, false) => counts.waits > 0 && outcome.count(Answer::Error(0)) > 1,
            (Self::Panicked | Self::Cancelled, false) => counts.hand_overs > 0,
            (_, true) => outcome.count(Answer::Value(OLD)) > 0,
        }
    }
}

/// Explores a case: `size` callers of a place that `new` makes.
///
/// `explore` gets the name and the model: [`crate::check`] and its kin, with their bounds.
pub fn explore_case<P: Place>(
    name: &str,
    (case, is_stale): (Case, bool),
    size: usize,
    new: impl Fn(Shop, bool) -> P + Copy + Send + Sync + 'static,
    explore: impl Fn(&str, Box<dyn Fn() + Send + Sync>),
) {
    for callers in case.crowds(size) {
        let noted = Arc::new(Mutex::new((false, false)));
        let model = {
            let noted = Arc::clone(&noted);
            move || {
                let place = Arc::new(new(Shop::new(case.plan()), is_stale));
                let outcome = call_all(&place, is_stale, callers);
                case.check(is_stale, &outcome);
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                noted.0 = true;
                noted.1 |= case.is_of_note(is_stale, &outcome);
                drop(noted);
                all_is_well(place, &outcome);
            }
        };
        let name = format!("{name} {callers:?}");
        match case {
            Case::Panicked => unwinding(|| explore(&name, Box::new(model))),
            _ => explore(&name, Box::new(model)),
        }
        let (ran, noted) = *noted.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(noted || !ran, "{name}: the model never came to what it is about");
    }
}

/// Seconds.
#[must_use]
pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
