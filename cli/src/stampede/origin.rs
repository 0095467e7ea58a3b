//! The simulated origin: it makes its callers wait, and writes down who called when.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use dogpile::time::Instant;

use super::{
    law::{Fate, Law},
    load::Call,
    time::Time,
};

/// What the origin answers when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the origin failed")
    }
}

impl std::error::Error for Failure {}

/// A store of values that is slow, and slower for a crowd. The value of each key is the key.
#[derive(Debug)]
pub(crate) struct Origin {
    law: Law,
    time: Arc<dyn Time>,
    /// Until it opens, calls are not counted, take the median latency and succeed.
    opened: OnceLock<Instant>,
    /// For each key, the calls begun.
    begun: Vec<AtomicU64>,
    in_flight: AtomicUsize,
    /// The calls that ended, and all that is counted of them.
    ended: Mutex<Vec<Call>>,
}

impl Origin {
    /// An origin of the keys below `keys`.
    pub(crate) fn new(keys: u64, law: Law, time: Arc<dyn Time>) -> Self {
        Self {
            law,
            time,
            opened: OnceLock::new(),
            begun: (0..keys).map(|_| AtomicU64::new(0)).collect(),
            in_flight: AtomicUsize::new(0),
            ended: Mutex::new(Vec::new()),
        }
    }

    /// How time passes here.
    pub(crate) fn time(&self) -> &dyn Time {
        &*self.time
    }

    /// Begins to count; instants of calls are given from here. Returns the time now.
    pub(crate) fn open(&self) -> Instant {
        *self.opened.get_or_init(|| self.time.now())
    }

    /// Makes the value of `key`, and holds up the thread meanwhile.
    pub(crate) fn call(&self, key: u64) -> Result<u64, Failure> {
        let visit = Visit::begin(self, key);
        self.time.block(visit.fate.latency);
        visit.end()
    }

    /// Makes the value of `key`, and holds up the task meanwhile.
    pub(crate) async fn call_async(&self, key: u64) -> Result<u64, Failure> {
        let visit = Visit::begin(self, key);
        self.time.pass(visit.fate.latency).await;
        visit.end()
    }

    /// Calls that have begun and not ended.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// The number of calls that ended.
    pub(crate) fn ended(&self) -> usize {
        self.ledger().len()
    }

    /// The calls that ended, in the order of their ends.
    pub(crate) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.ledger())
    }

    /// Only whole calls are ever pushed: a panic elsewhere leaves nothing half done.
    fn ledger(&self) -> MutexGuard<'_, Vec<Call>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call. Also a task that is dropped in the middle of it leaves.
#[derive(Debug)]
struct Visit<'o> {
    origin: &'o Origin,
    key: u64,
    fate: Fate,
    /// Since the opening.
    from: Option<Duration>,
}

impl<'o> Visit<'o> {
    fn begin(origin: &'o Origin, key: u64) -> Self {
        let opened = origin.opened.get();
        let from = opened.map(|&opened| origin.time.now().saturating_duration_since(opened));
        // Relaxed, here and below: counts, by which nothing is published.
        let in_flight = origin.in_flight.fetch_add(1, Relaxed) + 1;
        let fate = if from.is_some() {
            let nth = origin.begun[key as usize].fetch_add(1, Relaxed);
            origin.law.fate(key, nth, in_flight)
        } else {
            Fate { latency: origin.law.latency, fails: false }
        };
        Self { origin, key, fate, from }
    }

    fn end(self) -> Result<u64, Failure> {
        if self.fate.fails { Err(Failure) } else { Ok(self.key) }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if let (Some(from), Some(&opened)) = (self.from, self.origin.opened.get()) {
            let until = self.origin.time.now().saturating_duration_since(opened);
            self.origin.ledger().push(Call { key: self.key, from, until });
        }
        // After the entry in the ledger: at zero all calls are in it.
        self.origin.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stampede::time::ByHand;

    fn origin(fail: f64) -> Origin {
        let law = Law { latency: Duration::from_millis(50), spread: 0.1, fail, limit: 1, seed: 0 };
        Origin::new(2, law, Arc::new(ByHand::new(|| true)))
    }

    #[test]
    fn calls_count_from_the_opening_on() {
        let origin = origin(1.0);
        assert_eq!(origin.call(1), Ok(1), "nothing fails before");
        assert_eq!(origin.open(), Instant::from_nanos(0), "and nobody looks at the clock");
        assert_eq!(origin.call(1), Err(Failure));
        let nanos = Duration::from_nanos;
        assert_eq!(origin.take_calls(), [Call { key: 1, from: nanos(1), until: nanos(2) }]);
        assert_eq!((origin.ended(), origin.in_flight()), (0, 0));
    }

    #[test]
    fn a_call_that_is_given_up_ends() {
        let origin = origin(0.0);
        origin.open();
        let waiting = Visit::begin(&origin, 0);
        assert_eq!((origin.in_flight(), origin.ended()), (1, 0));
        let slow = Visit::begin(&origin, 1);
        assert!(slow.fate.latency > Duration::from_millis(60), "two calls, with room for one");
        drop((waiting, slow));
        assert_eq!((origin.in_flight(), origin.ended()), (0, 2));
    }
}
