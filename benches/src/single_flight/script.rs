//! Creators that do as they are told, and a log of what they did.
//!
//! A [`Script`] runs in both shells, as a closure that blocks and as a future, so that a case is written once.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Poll, Waker};

use super::subject::{Blocking, Ending, Polled};

/// The error that a script fails with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure;

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the creator fails as told")
    }
}

impl Error for Failure {}

/// A creator as a boxed future. Boxed because a creator may call the cache that calls it.
pub(super) type Creation = Pin<Box<dyn Future<Output = Result<u64, Failure>> + Send>>;

const HELD: &str = "nothing panics while it holds this lock";

/// Holds creators back until it is opened, once.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<Bar>);

#[derive(Debug, Default)]
struct Bar {
    state: Mutex<BarState>,
    opened: Condvar,
}

#[derive(Debug, Default)]
struct BarState {
    is_open: bool,
    wakers: Vec<Waker>,
}

impl Gate {
    pub(super) fn open(&self) {
        let mut state = self.0.state.lock().expect(HELD);
        state.is_open = true;
        state.wakers.drain(..).for_each(Waker::wake);
        self.0.opened.notify_all();
    }

    fn pass(&self) {
        let state = self.0.state.lock().expect(HELD);
        drop(self.0.opened.wait_while(state, |state| !state.is_open).expect(HELD));
    }

    async fn pass_async(&self) {
        poll_fn(|context| {
            let mut state = self.0.state.lock().expect(HELD);
            if state.is_open {
                return Poll::Ready(());
            }
            state.wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// What the creators of one case did.
#[derive(Clone, Debug, Default)]
pub(super) struct Log(Arc<Notes>);

#[derive(Debug, Default)]
struct Notes {
    calls: Mutex<usize>,
    called: Condvar,
    /// What creators were told when they asked the cache.
    answers: Mutex<Vec<Ending>>,
}

impl Log {
    /// A creator that gives `value` at once.
    pub(super) fn giving(&self, value: u64) -> Script {
        self.script(End::Give(value))
    }

    pub(super) fn failing(&self) -> Script {
        self.script(End::Fail)
    }

    pub(super) fn panicking(&self) -> Script {
        self.script(End::Panic)
    }

    fn script(&self, end: End) -> Script {
        Script { log: self.clone(), gate: None, question: None, end }
    }

    /// How often creators were called.
    pub(super) fn calls(&self) -> usize {
        *self.0.calls.lock().expect(HELD)
    }

    /// Returns when creators have been called `calls` times.
    pub(super) fn wait_for(&self, calls: usize) {
        let count = self.0.calls.lock().expect(HELD);
        drop(self.0.called.wait_while(count, |count| *count < calls).expect(HELD));
    }

    pub(super) fn answers(&self) -> Vec<Ending> {
        self.0.answers.lock().expect(HELD).clone()
    }

    fn enter(&self) {
        *self.0.calls.lock().expect(HELD) += 1;
        self.0.called.notify_all();
    }

    fn note(&self, answer: Ending) {
        self.0.answers.lock().expect(HELD).push(answer);
    }
}

/// What one creator does: it counts itself, waits, asks, and ends.
#[derive(Debug)]
pub(super) struct Script {
    log: Log,
    gate: Option<Gate>,
    /// A key that the creator asks the same cache for, and the creator it brings.
    question: Option<(u64, Box<Script>)>,
    end: End,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Give(u64),
    Fail,
    Panic,
}

impl End {
    fn reach(self) -> Result<u64, Failure> {
        match self {
            End::Give(value) => Ok(value),
            End::Fail => Err(Failure),
            End::Panic => panic!("the creator panics as told"),
        }
    }
}

impl Script {
    pub(super) fn behind(self, gate: &Gate) -> Script {
        Script { gate: Some(gate.clone()), ..self }
    }

    pub(super) fn asking(self, key: u64, script: Script) -> Script {
        Script { question: Some((key, Box::new(script))), ..self }
    }

    pub(super) fn run<C: Blocking>(self, cache: &Arc<C>) -> Result<u64, Failure> {
        self.log.enter();
        if let Some(gate) = &self.gate {
            gate.pass();
        }
        if let Some((key, script)) = self.question {
            let its_cache = Arc::clone(cache);
            self.log.note(cache.get_or_create(key, move || script.run(&its_cache)));
        }
        self.end.reach()
    }

    pub(super) fn run_async<C: Polled>(self, cache: Arc<C>) -> Creation {
        Box::pin(async move {
            self.log.enter();
            if let Some(gate) = &self.gate {
                gate.pass_async().await;
            }
            if let Some((key, script)) = self.question {
                let its_cache = Arc::clone(&cache);
                self.log.note(cache.get_or_create(key, script.run_async(its_cache)).await);
            }
            self.end.reach()
        })
    }
}
