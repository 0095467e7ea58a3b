//! The backend of the models: the shipped one, with fences, or none at all.
//!
//! With `ENDS` it is the backend of the build. Without, no grace period ever ends and a pin is nothing, so that a model of
//! the table explores the table's own interleavings only; everything is freed when the index is dropped.

use super::record::Record;
use super::{Backend, Garbage, Pinned, Reclaim};
use crate::sync::AtomicPtr;
use std::marker::PhantomData;

type BackendPin = <Backend as Reclaim>::Pin;

/// Grace periods that end when every pin of their beginning has gone, or never.
#[derive(Debug)]
pub(crate) struct Modelled<const ENDS: bool>;

/// One pin of one thread.
pub(crate) struct Pin<const ENDS: bool>(Option<BackendPin>, PhantomData<*mut ()>);

impl<const ENDS: bool> Pinned for Pin<ENDS> {}

impl<const ENDS: bool> Reclaim for Modelled<ENDS> {
    type Pin = Pin<ENDS>;
    type Brief = <Backend as Reclaim>::Brief;
    type Grace = Option<<Backend as Reclaim>::Grace>;

    fn pin() -> Pin<ENDS> {
        Pin(ENDS.then(Backend::pin), PhantomData)
    }

    fn pin_briefly() -> Option<Self::Brief> {
        if ENDS { Backend::pin_briefly() } else { None }
    }

    fn near_slot(brief: &Self::Brief) -> Option<&'static AtomicPtr<()>> {
        Backend::near_slot(brief)
    }

    fn begin(pin: &Pin<ENDS>) -> Self::Grace {
        pin.0.as_ref().map(Backend::begin)
    }

    fn is_over(grace: &Self::Grace) -> bool {
        grace.as_ref().is_some_and(Backend::is_over)
    }

    fn settle(grace: &Self::Grace) {
        if let Some(grace) = grace {
            Backend::settle(grace);
        }
    }

    fn help(urgent: bool) -> bool {
        ENDS && Backend::help(urgent)
    }

    fn note(pin: &Pin<ENDS>, retired: usize) {
        if let Some(pin) = &pin.0 {
            Backend::note(pin, retired);
        }
    }

    fn record(pin: &Pin<ENDS>) -> &'static Record {
        pin.0.as_ref().map_or_else(Record::current, Backend::record)
    }
}

/// The door of `loom-tests` to the limbo alone: garbage is a number, and each method calls the one of its name.
#[expect(missing_debug_implementations, reason = "for the models only")]
pub struct LimboDoor(super::Limbo<Backend>);

#[expect(missing_docs, reason = "for the models only")]
impl LimboDoor {
    pub fn new() -> Self {
        Self(super::Limbo::new())
    }

    /// Under a pin, after `unlink`, which is what made `garbage` unreachable.
    pub fn retire(&self, garbage: usize, unlink: impl FnOnce()) {
        let pin = Backend::pin();
        unlink();
        let item = Garbage(std::ptr::without_provenance_mut(garbage));
        // SAFETY: limbo never follows an address, and what `take` yields is a number again.
        unsafe { self.0.retire(item, 0, 0, || 0, &pin) };
    }

    /// What a reader does.
    pub fn pinned<T>(&self, read: impl FnOnce() -> T) -> T {
        let _pin = Backend::pin();
        read()
    }

    /// What a reader does that has read before.
    ///
    /// # Panics
    /// If the thread has no record, or is in the middle of it.
    pub fn pinned_briefly<T>(&self, read: impl FnOnce() -> T) -> T {
        let _brief = Backend::pin_briefly().expect("the thread has a record, and no brief pin");
        read()
    }

    /// The calling thread's record is left, as at its end. Guards that it has stay.
    pub fn end_thread() {
        super::record::end_thread();
    }

    pub fn flush(&self) {
        self.0.flush(0, &Backend::pin());
    }

    /// Tries to end a grace period that begins now.
    pub fn settle(&self) {
        let last = Backend::begin(&Backend::pin());
        Backend::settle(&last);
    }

    pub fn take(&self) -> Vec<usize> {
        self.0.take().map(|item| item.0.addr()).collect()
    }

    pub fn drain(&mut self) -> Vec<usize> {
        self.0.drain().into_iter().map(|item| item.0.addr()).collect()
    }

    pub fn len(&self) -> usize {
        self.0.len(&Backend::pin())
    }
}
