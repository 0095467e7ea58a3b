//! Callers that certainly meet at the origin, and there find what the gate is for.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use dogpile::time::ManualClock;
use tokio::runtime::Runtime;

use super::{
    law::Law,
    load::{Load, WINDOW},
    mode::{Counts, Lifetimes, Mode, Subject},
    origin::{Failure, Origin},
    time::ByHand,
};

const FRESH: Duration = Duration::from_secs(10);
const STALE: Duration = Duration::from_secs(5);

/// Half of the callers are threads, half are tasks.
const CALLERS: u64 = 6;

/// An origin whose calls end from the moment on at which a condition holds for the first time.
struct Meeting {
    runtime: Runtime,
    subject: Arc<Subject>,
    clock: ManualClock,
    open: Arc<AtomicBool>,
}

impl Meeting {
    fn new(mode: Mode, fail: f64, until: impl Fn(&Subject) -> bool + Send + Sync + 'static) -> Self {
        let subject = Arc::new(OnceLock::<Weak<Subject>>::new());
        let open = Arc::new(AtomicBool::new(false));
        let time = ByHand::new({
            let (subject, open) = (Arc::clone(&subject), Arc::clone(&open));
            move || {
                // It stays open: the callers that leave first change what the condition looks at.
                let subject = subject.get().and_then(Weak::upgrade).expect("the cache outlives its callers");
                if until(&subject) {
                    open.store(true, SeqCst);
                }
                open.load(SeqCst)
            }
        });
        let law = Law { latency: Duration::ZERO, spread: 0.0, fail, limit: 0, seed: 1 };
        let origin = Arc::new(Origin::new(2, law, Arc::new(time)));
        origin.open();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
        let runtime = runtime.expect("a runtime starts");
        let clock = ManualClock::new();
        let lifetimes = Lifetimes { fresh: FRESH, stale: STALE, jitter: 0.0 };
        let made = Subject::new(mode, lifetimes, origin, clock.clone(), runtime.handle());
        let made = Arc::new(made.expect("the settings agree"));
        subject.set(Arc::downgrade(&made)).expect("it is set once");
        Self { runtime, subject: made, clock, open }
    }

    /// Lets all callers ask for one key at once.
    fn ask(&self) -> Vec<Result<(), Failure>> {
        let threads: Vec<_> = (0..CALLERS / 2)
            .map(|_| {
                let subject = Arc::clone(&self.subject);
                thread::spawn(move || subject.ask(1))
            })
            .collect();
        let tasks: Vec<_> = (0..CALLERS / 2)
            .map(|_| {
                let subject = Arc::clone(&self.subject);
                self.runtime.spawn(async move { subject.ask_async(1).await })
            })
            .collect();
        let threads = threads.into_iter().map(|thread| thread.join().expect("asking does not panic"));
        let tasks = tasks.into_iter().map(|task| self.runtime.block_on(task).expect("asking does not panic"));
        threads.chain(tasks).collect()
    }

    fn load(&self) -> Load {
        Load::of(&self.subject.origin().take_calls(), WINDOW, WINDOW)
    }
}

/// Whether every caller is at the origin, or waits for one who is.
fn everybody_is_there(subject: &Subject) -> bool {
    subject.origin().in_flight() as u64 + subject.counts().waits == CALLERS
}

#[test]
fn without_the_gate_all_callers_meet_at_the_origin() {
    let meeting = Meeting::new(Mode::NoGate, 0.0, everybody_is_there);
    assert_eq!(meeting.ask(), [Ok(()); CALLERS as usize]);
    let load = meeting.load();
    assert_eq!((load.calls, load.most_of_one_key, load.most_in_flight), (CALLERS, CALLERS, CALLERS));
    assert_eq!(meeting.ask(), [Ok(()); CALLERS as usize]);
    assert_eq!(meeting.load().calls, 0, "what is fresh is in the cache");
    meeting.clock.advance(FRESH);
    assert_eq!(meeting.subject.ask(1), Ok(()));
    assert_eq!(meeting.load().calls, 1);
    assert!(meeting.open.load(SeqCst));
}

#[test]
fn with_the_gate_one_goes_and_the_others_wait() {
    let meeting = Meeting::new(Mode::Gate, 0.0, everybody_is_there);
    assert_eq!(meeting.ask(), [Ok(()); CALLERS as usize]);
    let load = meeting.load();
    assert_eq!((load.calls, load.most_of_one_key, load.most_in_flight), (1, 1, 1));
    assert_eq!(meeting.subject.counts(), Counts { waits: CALLERS - 1, stale_served: 0 });
}

#[test]
fn all_share_a_failure_and_none_is_kept() {
    let meeting = Meeting::new(Mode::Gate, 1.0, everybody_is_there);
    assert_eq!(meeting.ask(), [Err(Failure); CALLERS as usize]);
    assert_eq!(meeting.load().calls, 1);
    assert_eq!(meeting.subject.ask(1), Err(Failure));
    assert_eq!(meeting.load().calls, 1, "it was tried again");
}

#[test]
fn what_is_stale_is_served_while_the_background_creates() {
    for mode in [Mode::Stale, Mode::Early, Mode::Jitter] {
        let gone = Arc::new(AtomicBool::new(true));
        let meeting = Meeting::new(mode, 0.0, {
            let gone = Arc::clone(&gone);
            move |_| gone.load(SeqCst)
        });
        assert_eq!(meeting.subject.ask(1), Ok(()));
        assert_eq!(meeting.load().calls, 1);
        meeting.clock.advance(FRESH);
        gone.store(false, SeqCst);
        meeting.open.store(false, SeqCst);
        // The origin answers when all callers have gone; so none of them waited for it.
        assert_eq!(meeting.ask(), [Ok(()); CALLERS as usize]);
        assert_eq!(meeting.subject.counts(), Counts { waits: 0, stale_served: CALLERS });
        gone.store(true, SeqCst);
        while meeting.subject.origin().ended() == 0 {
            thread::yield_now();
        }
        assert_eq!(meeting.load().calls, 1, "{mode:?}");
    }
}
