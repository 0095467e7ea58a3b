//! Who leads what: re-entry, and circles of leaders that wait for each other.
//!
//! Each thread has a stack of the flights that are being led on it *now*: a blocking creator's for as long as it runs, a
//! future's during each poll (H15), so it is right however a task moves between threads, and a sibling future of the same
//! task is rightly none of its creation's.
//!
//! A leader that is about to wait writes down, for each flight on its stack, which flight that now waits for, and follows
//! such notes from there: if they lead back to its own stack, nobody on that way could ever go on. Looking and writing are
//! one step under a process-wide mutex, so of the leaders of a circle the last one finds it. Who leads nothing never comes
//! here.
//!
//! Not seen: work that a creator gives to other threads or tasks and waits for; and, while a thread's locals are being
//! destroyed, what is led by their destructors. Seen wrongly: tasks that a blocking creator polls although they are none of
//! its own, because it drives an executor that others use too.
#![forbid(unsafe_code)]

use crate::sync::{PlainMutex, lock_plain, thread_local};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

thread_local! { static LED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) } }

/// By number: flights that can't go on, and the flight that they wait for.
static WAITS: PlainMutex<Waits> = PlainMutex::new(Waits { next: 0, notes: BTreeMap::new() });

struct Waits {
    next: u64,
    notes: BTreeMap<u64, (Vec<u64>, u64)>,
}

/// The wait would never end.
#[derive(Debug)]
pub(crate) struct Circle;

/// A leader's note that it waits, until it is dropped.
pub(crate) struct Note {
    number: u64,
}

impl Note {
    /// To be called by who is about to wait for the flight `on`.
    ///
    /// # Errors
    /// [`Circle`]: the calling thread leads that flight itself, or one that it waits for, directly or not.
    pub(crate) fn new(on: u64) -> Result<Option<Self>, Circle> {
        let led = LED.try_with(|led| led.borrow().clone()).unwrap_or_default();
        if led.is_empty() {
            return Ok(None);
        }
        if led.contains(&on) {
            return Err(Circle);
        }
        let mut waits = lock_plain(&WAITS);
        let mut reached = vec![on];
        let mut seen = 0;
        while let Some(at) = reached.get(seen).copied() {
            seen += 1;
            for (from, to) in waits.notes.values() {
                if !reached.contains(to) && from.contains(&at) {
                    if led.contains(to) {
                        return Err(Circle);
                    }
                    reached.push(*to);
                }
            }
        }
        let number = waits.next;
        waits.next += 1;
        waits.notes.insert(number, (led, on));
        Ok(Some(Self { number }))
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        // The list itself is freed when the lock is gone.
        let _note = lock_plain(&WAITS).notes.remove(&self.number);
    }
}

/// While it lives, its thread leads these flights.
struct Frame {
    before: usize,
}

impl Frame {
    fn new(flights: &[u64]) -> Self {
        let before = LED.try_with(|led| {
            let mut led = led.borrow_mut();
            let before = led.len();
            led.extend(flights);
            before
        });
        Self { before: before.unwrap_or(0) }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let _ = LED.try_with(|led| led.borrow_mut().truncate(self.before));
    }
}

/// Runs `call` as part of leading. `panicked` is true meanwhile, and if it panics.
pub(crate) fn leading<T>(flights: &[u64], panicked: &mut bool, call: impl FnOnce() -> T) -> T {
    let _frame = Frame::new(flights);
    *panicked = true;
    let result = call();
    *panicked = false;
    result
}

/// What can be dropped where it is.
pub(crate) trait Discard {
    fn discard(&mut self);
}

/// A creator's future, whose polls count as leading, and so does its end: it is gone before the lead is given up or on, and
/// what its destructors ask for is known to be asked by it.
pub(crate) struct Leading<'l, C: Discard> {
    flights: &'l [u64],
    creator: &'l mut C,
    /// True while the creator runs, and if it has panicked.
    panicked: &'l mut bool,
}

impl<'l, C: Discard> Leading<'l, C> {
    pub(crate) fn new(flights: &'l [u64], creator: &'l mut C, panicked: &'l mut bool) -> Self {
        Self { flights, creator, panicked }
    }
}

impl<C: Future + Discard + Unpin> Future for Leading<'_, C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let Self { flights, creator, panicked } = &mut *self;
        leading(flights, panicked, || Pin::new(&mut **creator).poll(cx))
    }
}

impl<C: Discard> Drop for Leading<'_, C> {
    fn drop(&mut self) {
        let _frame = Frame::new(self.flights);
        self.creator.discard();
    }
}
