//! What the models have in common. The models are in `tests/`; without `--cfg dogpile_loom` both are empty.
#![cfg(dogpile_loom)]

use loom::cell::UnsafeCell;
use loom::thread::JoinHandle;
use std::collections::BTreeSet;
use std::fmt;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub mod callers;

pub use dogpile::__model::{Creating, Engine, Grain, Guard, Key, Limbo, Pool, Put, with_shortcuts};

/// An engine whose grace periods never end: for the interleavings of the table.
pub type Still = Engine<Payload, false>;
/// An engine that frees.
pub type Living = Engine<Payload, true>;

/// A hash with the bits of one's choice.
#[must_use]
pub const fn hash(bucket: u64, tag: u64, shard: u64) -> u64 {
    (bucket as u32).reverse_bits() as u64 | tag | shard << 40
}

/// How long a model may take at each bound when all are explored deeper.
const PATIENCE: Duration = Duration::from_secs(600);

/// Explores `model` with at most `preemptions` of them in one execution (none: all there are), and prints how much
/// that was.
///
/// `DOGPILE_PREEMPTIONS` raises every bound to its value: for the longest runs.
pub fn check(name: &str, preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let deeper =
        std::env::var("DOGPILE_PREEMPTIONS").map_or(0, |n| n.parse().expect("a number of preemptions"));
    explore(name, preemptions.map(|bound: usize| bound.max(deeper)), None, Arc::new(model));
}

/// As [`check`]; with `DOGPILE_DEEP` set to anything, also with higher bounds: each up to `deep`, or all that there are. A
/// bound that is not explored within ten minutes is the last, and said to be unfinished.
pub fn check_up_to(
    name: &str,
    usual: usize,
    deep: impl Into<Option<usize>>,
    model: impl Fn() + Send + Sync + 'static,
) {
    if std::env::var_os("DOGPILE_DEEP").is_none() {
        return check(name, Some(usual), model);
    }
    let model = Arc::new(model);
    let bounds: Vec<Option<usize>> = match deep.into() {
        Some(deep) => (usual..=deep).map(Some).collect(),
        // What comes before tells how far one got, if all is too much.
        None => (usual..usual + 4).map(Some).chain([None]).collect(),
    };
    for bound in bounds {
        if !explore(name, bound, Some(PATIENCE), Arc::clone(&model)) {
            break;
        }
    }
}

/// As [`check_up_to`], for what takes too long to be explored at all without `DOGPILE_DEEP`.
pub fn check_deep(name: &str, deep: usize, model: impl Fn() + Send + Sync + 'static) {
    if std::env::var_os("DOGPILE_DEEP").is_some() {
        check_up_to(name, 1, deep, model);
    }
}

/// Returns whether all was explored.
fn explore(
    name: &str,
    bound: Option<usize>,
    patience: Option<Duration>,
    model: Arc<impl Fn() + Send + Sync + 'static>,
) -> bool {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound;
    builder.max_branches = 20_000;
    builder.max_duration = patience;
    // After so many executions loom looks at the clock.
    builder.checkpoint_interval = 1000;
    let executions = Arc::new(AtomicUsize::new(0));
    #[expect(clippy::disallowed_methods, reason = "how long a model takes is no part of it")]
    let start = std::time::Instant::now();
    builder.check({
        let executions = Arc::clone(&executions);
        move || {
            executions.fetch_add(1, Ordering::Relaxed);
            model();
        }
    });
    let took = start.elapsed();
    let is_all = patience.is_none_or(|patience| took < patience);
    let bound = bound.map_or_else(|| String::from("all"), |bound| bound.to_string());
    let executions = executions.load(Ordering::Relaxed);
    let unfinished = if is_all { "" } else { ", UNFINISHED" };
    // Not by `println`, which the test harness keeps to itself.
    let line = format!(
        "model {name}: {executions} executions, {bound} preemptions, {:.2} s{unfinished}\n",
        took.as_secs_f64()
    );
    let _ = std::io::stderr().write_all(line.as_bytes());
    is_all
}

/// Runs `work` on a thread of its own.
///
/// Where one side only reads, it is this one. loom remembers the last access to each atomic, and not those before: if a
/// thread reads a slot and then swaps it, loom forgets that the main thread read the slot earlier, and never tries the
/// other order (seen with 0.7.2: a model of two threads that ran once). Every model joins its threads before it drops what they share: loom does not
/// see the counts of `Arc`.
pub fn go<S: 'static, T: 'static>(shared: &Arc<S>, work: impl FnOnce(&S) -> T + 'static) -> JoinHandle<T> {
    let shared = Arc::clone(shared);
    loom::thread::spawn(move || work(&shared))
}

/// What a thread returned.
pub fn done<T>(thread: JoinHandle<T>) -> T {
    thread.join().expect("a thread that panics ends the model before")
}

/// Which values of one execution are alive. Not modelled: it watches the model.
#[derive(Clone, Debug, Default)]
pub struct Census(Arc<Mutex<BTreeSet<u64>>>);

impl Census {
    /// Nobody is alive.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A value, told from others by its number.
    #[must_use]
    pub fn value(&self, number: u64) -> Payload {
        assert!(self.with(|alive| alive.insert(number)), "numbers are used once");
        Payload { number, touched: UnsafeCell::new(()), census: self.clone() }
    }

    /// The numbers of the values that are alive.
    #[must_use]
    pub fn alive(&self) -> Vec<u64> {
        self.with(|alive| alive.iter().copied().collect())
    }

    /// Whether that value is alive.
    #[must_use]
    pub fn is_alive(&self, number: u64) -> bool {
        self.with(|alive| alive.contains(&number))
    }

    fn with<T>(&self, look: impl FnOnce(&mut BTreeSet<u64>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A value whose reads and whose end loom watches: a read that its making does not happen before, or one that its end
/// does not happen after, fails the model.
pub struct Payload {
    number: u64,
    touched: UnsafeCell<()>,
    census: Census,
}

impl Payload {
    /// Reads the value.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.touched.with(|_| ());
        assert!(self.census.is_alive(self.number), "a value was read after its end");
        self.number
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.touched.with_mut(|_| ());
        let was_alive = self.census.with(|alive| alive.remove(&self.number));
        assert!(was_alive || std::thread::panicking(), "a value ended twice");
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Payload").field(&self.number).finish()
    }
}
