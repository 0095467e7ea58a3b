//! The backend of the models: a textbook grace period by one counter a thread, or none at all.
//!
//! `even = free --(pin, then a fence)--> odd = pinned --(unpin)--> even`, one more each time.
//!
//! With `ENDS` a grace period notes the counters that are odd when it begins, and is over when none of them is what it
//! was: every pin of that moment has gone (R2). Without, no grace period ever ends and a pin is nothing, so that a model
//! of the table explores the table's own interleavings only; everything is freed when the index is dropped.
//!
//! # Source
//! The scheme of Fraser's thesis (see `reclaim`) with counters for epochs: no global state to advance, so few steps.

use super::{Garbage, Reclaim};
use crate::sync::{AtomicUsize, Ordering, fence, lazy_static, thread_local};
use std::cell::Cell;
use std::marker::PhantomData;

/// As many as loom can run.
const THREADS: usize = 5;

lazy_static! {
    static ref COUNTERS: [AtomicUsize; THREADS] = std::array::from_fn(|_| AtomicUsize::new(0));
    // Not modelled: which counter is whose is no part of the protocol.
    static ref REGISTERED: Cell<usize> = Cell::new(0);
}

/// What a thread knows of itself.
#[derive(Clone, Copy)]
struct Own {
    place: usize,
    count: usize,
    nest: usize,
}

thread_local! {
    static OWN: Cell<Option<Own>> = const { Cell::new(None) };
}

/// Grace periods that end when every pin of their beginning has gone, or never.
#[derive(Debug)]
pub(crate) struct Modelled<const ENDS: bool>;

/// One pin of one thread.
pub(crate) struct Pin<const ENDS: bool>(PhantomData<*mut ()>);

impl<const ENDS: bool> Drop for Pin<ENDS> {
    fn drop(&mut self) {
        if !ENDS {
            return;
        }
        OWN.with(|own| {
            let mut now = own.get().expect("who unpins has pinned");
            now.nest -= 1;
            if now.nest == 0 {
                now.count += 1;
                COUNTERS[now.place].store(now.count, Ordering::Release);
            }
            own.set(Some(now));
        });
    }
}

impl<const ENDS: bool> Reclaim for Modelled<ENDS> {
    type Pin = Pin<ENDS>;
    type Grace = Vec<(usize, usize)>;

    fn pin() -> Pin<ENDS> {
        if ENDS {
            OWN.with(|own| {
                let mut now = own.get().unwrap_or_else(|| {
                    let place = REGISTERED.get();
                    REGISTERED.set(place + 1);
                    Own { place, count: 0, nest: 0 }
                });
                now.nest += 1;
                if now.nest == 1 {
                    now.count += 1;
                    // Release, for who sees this and not the unpin before it.
                    COUNTERS[now.place].store(now.count, Ordering::Release);
                    fence(Ordering::SeqCst);
                }
                own.set(Some(now));
            });
        }
        Pin(PhantomData)
    }

    fn begin(_: &Pin<ENDS>) -> Self::Grace {
        if !ENDS {
            return Vec::new();
        }
        fence(Ordering::SeqCst);
        let counts = (0..REGISTERED.get()).map(|place| (place, COUNTERS[place].load(Ordering::Acquire)));
        counts.filter(|(_, count)| count % 2 == 1).collect()
    }

    fn is_over(grace: &Self::Grace) -> bool {
        ENDS && grace.iter().all(|(place, count)| COUNTERS[*place].load(Ordering::Acquire) != *count)
    }

    fn nudge() {}
}

/// The door of `loom-tests` to the limbo alone: garbage is a number, and each method calls the one of its name.
#[expect(missing_debug_implementations, reason = "for the models only")]
pub struct LimboDoor(super::Limbo<Modelled<true>>);

#[expect(missing_docs, reason = "for the models only")]
impl LimboDoor {
    pub fn new() -> Self {
        Self(super::Limbo::new())
    }

    /// Under a pin, after `unlink`, which is what made `garbage` unreachable.
    pub fn retire(&self, garbage: usize, unlink: impl FnOnce()) {
        let pin = Modelled::pin();
        unlink();
        let item = Garbage(std::ptr::without_provenance_mut(garbage));
        // SAFETY: limbo never follows an address, and what `take` yields is a number again.
        unsafe { self.0.retire(item, 0, 0, 0, &pin) };
    }

    /// What a reader does.
    pub fn pinned<T>(&self, read: impl FnOnce() -> T) -> T {
        let _pin = Modelled::<true>::pin();
        read()
    }

    pub fn flush(&self) {
        self.0.flush(0, &Modelled::pin());
    }

    pub fn take(&self) -> Vec<usize> {
        self.0.take(usize::MAX).into_iter().map(|item| item.0.addr()).collect()
    }

    pub fn drain(&mut self) -> Vec<usize> {
        self.0.drain().into_iter().map(|item| item.0.addr()).collect()
    }

    pub fn len(&self) -> usize {
        self.0.len(&Modelled::pin())
    }
}
