//! What the tests of creations share: order that is forced and not slept for, and a limit to hanging.
#![allow(dead_code, reason = "each test crate uses its part")]

use dogpile::gate::{AsyncJob, Job, Runner, Sleep, Timer};
use dogpile::time::{Clock, PreciseClock};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

/// Whatever lasts longer hangs.
pub(crate) const HANG: Duration = Duration::from_secs(30);

/// Ends the process if the test that holds it hangs: threads that wait for each other can't be ended otherwise.
#[must_use]
pub(crate) struct Watch(Option<mpsc::Sender<()>>);

pub(crate) fn watch() -> Watch {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let (sender, ended) = mpsc::channel::<()>();
    thread::spawn(move || {
        if ended.recv_timeout(2 * HANG) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Not by `eprintln`, which the test harness keeps to itself.
            let _ = writeln!(io::stderr(), "{test} hangs");
            std::process::abort();
        }
    });
    Watch(Some(sender))
}

/// Runs `call` on a thread of its own, and fails if it hangs: for what has been seen to.
pub(crate) fn ends<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || _ = sender.send(catch_unwind(AssertUnwindSafe(call))));
    match ended.recv_timeout(HANG / 6) {
        Ok(Ok(returned)) => returned,
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => panic!("it hangs"),
    }
}

/// Waits for other threads to bring `condition` about.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let start = PreciseClock.now();
    while !condition() {
        assert!(PreciseClock.now().saturating_duration_since(start) < HANG, "hangs: {what}");
        thread::yield_now();
    }
}

/// Shut until it is opened, then open for ever. Threads and tasks wait for it.
#[derive(Default)]
pub(crate) struct Door {
    state: Mutex<(bool, Vec<Waker>)>,
    bell: Condvar,
}

impl Door {
    pub(crate) fn open(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 = true;
        let wakers = std::mem::take(&mut state.1);
        drop(state);
        self.bell.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state.lock().unwrap().0
    }

    pub(crate) fn wait(&self) {
        let state = self.state.lock().unwrap();
        let (_state, limit) = self.bell.wait_timeout_while(state, HANG, |(open, _)| !*open).unwrap();
        assert!(!limit.timed_out(), "hangs: nobody opens the door");
    }

    pub(crate) fn opened(&self) -> impl Future<Output = ()> + Send + '_ {
        poll_fn(|cx| {
            let mut state = self.state.lock().unwrap();
            if state.0 {
                return Poll::Ready(());
            }
            if !state.1.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.1.push(cx.waker().clone());
            }
            Poll::Pending
        })
    }
}

/// Two threads that go side by side: each waits for the other at every meeting, until one has got ahead for good.
#[derive(Default)]
pub(crate) struct SideBySide {
    met: [AtomicUsize; 2],
    ahead: Door,
}

thread_local! { static SIDE: Cell<Option<usize>> = const { Cell::new(None) }; }

impl SideBySide {
    /// Runs `call` on two threads.
    pub(crate) fn run<T: Send>(&self, call: impl Fn() -> T + Sync) -> [T; 2] {
        let go = |side: usize| {
            SIDE.set(Some(side));
            let result = call();
            self.get_ahead();
            result
        };
        thread::scope(|scope| {
            let other = scope.spawn(|| go(1));
            let own = go(0);
            SIDE.set(None);
            [own, other.join().unwrap()]
        })
    }

    pub(crate) fn meet(&self) {
        self.meet_up_to(usize::MAX);
    }

    /// So many times at the most.
    pub(crate) fn meet_up_to(&self, most: usize) {
        let Some(side) = SIDE.get() else { return };
        let meeting = self.met[side].fetch_add(1, SeqCst);
        if meeting >= most {
            return;
        }
        until("the other one", || self.met[1 - side].load(SeqCst) > meeting || self.ahead.is_open());
    }

    pub(crate) fn get_ahead(&self) {
        self.ahead.open();
    }
}

/// Where a creator stops until the test says go.
#[derive(Clone, Default)]
pub(crate) struct Hold(Arc<(Door, Door)>);

impl Hold {
    /// In the creator.
    pub(crate) fn here(&self) {
        self.0.0.open();
        self.0.1.wait();
    }

    /// In a creator that is a future.
    pub(crate) async fn here_async(&self) {
        self.0.0.open();
        self.0.1.opened().await;
    }

    /// In the test: the creator has begun.
    pub(crate) fn begun(&self) {
        self.0.0.wait();
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.0.0.is_open()
    }

    pub(crate) fn go(&self) {
        self.0.1.open();
    }
}

/// Lets go what is held, also when the test fails.
pub(crate) struct Release<'h>(pub(crate) &'h Hold);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.0.go();
    }
}

/// One caller leads and stops at the hold; then come so many others, each when `waits` says that the one before it waits; then
/// happens `meanwhile`; then all go on. Returns what the leader and the others returned, or that they panicked.
pub(crate) fn crowd<T: Send>(
    waits: impl Fn() -> u64,
    lead: impl FnOnce(&Hold) -> T + Send,
    others: usize,
    other: impl Fn(usize) -> T + Sync,
    meanwhile: impl FnOnce(),
) -> (thread::Result<T>, Vec<thread::Result<T>>) {
    let hold = Hold::default();
    let before = waits();
    thread::scope(|scope| {
        let _release = Release(&hold);
        let leader = scope.spawn(|| catch_unwind(AssertUnwindSafe(|| lead(&hold))));
        hold.begun();
        let mut all = Vec::new();
        for i in 0..others {
            let other = &other;
            all.push(scope.spawn(move || catch_unwind(AssertUnwindSafe(|| other(i)))));
            until("a caller comes to wait", || waits() == before + i as u64 + 1);
        }
        meanwhile();
        hold.go();
        let end =
            |thread: thread::ScopedJoinHandle<'_, thread::Result<T>>| thread.join().and_then(|ended| ended);
        (end(leader), all.into_iter().map(end).collect())
    })
}

/// One caller leads and stops at the hold; then happens `meanwhile`; then it goes on. Returns what it returned.
pub(crate) fn while_held<T: Send>(lead: impl FnOnce(&Hold) -> T + Send, meanwhile: impl FnOnce()) -> T {
    let (led, _) = crowd(|| 0, lead, 0, |_| unreachable!("there are no others"), meanwhile);
    led.unwrap_or_else(|panic| resume_unwind(panic))
}

/// What a panic said.
pub(crate) fn message<T>(ended: thread::Result<T>) -> String {
    let Err(panic) = ended else { panic!("it did not panic") };
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().expect("panics say something")).to_owned(),
    }
}

/// Whether `call` panics, and what it says then.
pub(crate) fn panics<T>(call: impl FnOnce() -> T) -> String {
    message(catch_unwind(AssertUnwindSafe(call)))
}

/// A runner that keeps its jobs until the test runs or drops them.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Vec<Job>>>);

impl Kept {
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Runs them all. Returns how many there were.
    pub(crate) fn run(&self) -> usize {
        let jobs = std::mem::take(&mut *self.0.lock().unwrap());
        jobs.into_iter().map(|job| job()).count()
    }

    pub(crate) fn forget_all(&self) -> usize {
        std::mem::take(&mut *self.0.lock().unwrap()).len()
    }
}

impl Runner for Kept {
    fn run(&self, job: Job) {
        self.0.lock().unwrap().push(job);
    }
}

/// A runner that runs its jobs on the thread of the caller, at once.
pub(crate) struct AtOnce;

impl Runner for AtOnce {
    fn run(&self, job: Job) {
        job();
    }
}

/// A runner that drops its jobs.
#[derive(Clone, Default)]
pub(crate) struct Refuses(pub(crate) Arc<AtomicUsize>);

impl Runner for Refuses {
    fn run(&self, _job: Job) {
        self.0.fetch_add(1, SeqCst);
    }

    fn run_async(&self, _job: AsyncJob) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// A timer whose times are over when the test says so.
#[derive(Clone, Default)]
pub(crate) struct ByHand(Arc<Mutex<(Vec<(Duration, Arc<Door>)>, usize)>>);

impl ByHand {
    /// The spans that were asked for and are not over.
    pub(crate) fn asked(&self) -> Vec<Duration> {
        self.0.lock().unwrap().0.iter().map(|(span, _)| *span).collect()
    }

    pub(crate) fn is_over(&self) {
        let sleeps = std::mem::take(&mut self.0.lock().unwrap().0);
        sleeps.into_iter().for_each(|(_, door)| door.open());
    }
}

impl Timer for ByHand {
    fn sleep(&self, span: Duration) -> Sleep {
        let door = Arc::new(Door::default());
        self.0.lock().unwrap().0.push((span, Arc::clone(&door)));
        Box::pin(async move { door.opened().await })
    }
}

/// Counts how often it was woken.
#[derive(Default)]
pub(crate) struct Woken(AtomicUsize);

impl Woken {
    pub(crate) fn times(&self) -> usize {
        self.0.load(SeqCst)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// A future that is polled by hand.
pub(crate) struct Polled<'f, T> {
    future: Pin<Box<dyn Future<Output = T> + 'f>>,
    woken: Arc<Woken>,
}

impl<'f, T> Polled<'f, T> {
    pub(crate) fn new(future: impl Future<Output = T> + 'f) -> Self {
        Self { future: Box::pin(future), woken: Arc::default() }
    }

    pub(crate) fn poll(&mut self) -> Option<T> {
        let waker = Waker::from(Arc::clone(&self.woken));
        match self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    /// How often it was woken so far.
    pub(crate) fn woken(&self) -> usize {
        self.woken.times()
    }
}

/// Pending once.
pub(crate) async fn one_pause() {
    let mut paused = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
