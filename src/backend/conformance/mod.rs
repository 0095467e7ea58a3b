//! [`Conformance`]: the whole contract of a backend, for those who write one.
//!
//! Each check has a name, and a store of its own, or keys of its own in a shared one. A check that hangs or panics has failed,
//! and the next one is run all the same. Nothing here sleeps: how time passes is the user's to say.
//!
//! A backend for tasks is driven by `block_on`, by the same checks as a blocking one (`subject.rs`).
#![forbid(unsafe_code)]

mod batches;
mod keys;
mod locks;
mod subject;
mod values;

use self::subject::{Blocking, Drive, Driven, Subject, block_on};
use super::{AsyncBackend, Backend, BoxFuture, Put, Stored, Takes};
use crate::error::Error;
use crate::sync::{Arc, mpsc, spawn};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Runs the contract of [`Backend`] or [`AsyncBackend`] on a backend: values, times to live, batches, conditional writes,
/// prefixes, hostile keys, threads, locks.
///
/// ```
/// use dogpile::backend::MemoryBackend;
/// use dogpile::backend::conformance::Conformance;
/// use dogpile::time::ManualClock;
///
/// let clock = ManualClock::new();
/// let time = clock.clone();
/// let report = Conformance::new(move || MemoryBackend::builder().clock(clock.clone()).build().unwrap())
///     .advance(move |span| time.advance(span))
///     .run();
/// report.assert_passed();
/// println!("{report}");
/// ```
///
/// A store of one's own that others use too is no place for this: keys are written that nobody would choose, the empty one
/// among them.
#[must_use = "nothing is checked until `run` is called"]
pub struct Conformance {
    make: Box<dyn Fn(&Drive) -> Arc<dyn Subject>>,
    drive: Drive,
    advance: Option<Arc<dyn Fn(Duration) + Send + Sync>>,
    ttl: Duration,
    limit: Duration,
    keeps: bool,
}

impl fmt::Debug for Conformance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conformance")
            .field("has_advance", &self.advance.is_some())
            .field("ttl", &self.ttl)
            .field("limit", &self.limit)
            .field("keeps", &self.keeps)
            .finish_non_exhaustive()
    }
}

impl Conformance {
    fn of(make: impl Fn(&Drive) -> Arc<dyn Subject> + 'static) -> Self {
        Self {
            make: Box::new(make),
            drive: Arc::new(|future| block_on(future)),
            advance: None,
            ttl: Duration::from_secs(2),
            limit: Duration::from_secs(60),
            keeps: true,
        }
    }

    /// For the backends that `make` makes: one for each check. They may all be over one store.
    pub fn new<B: Backend + 'static>(make: impl Fn() -> B + 'static) -> Self {
        Self::of(move |_| Arc::new(Blocking(make())))
    }

    /// The same for a backend of tasks.
    ///
    /// ```
    /// use dogpile::backend::conformance::Conformance;
    /// use dogpile::backend::{MemoryBackend, OnThreads};
    ///
    /// Conformance::for_tasks(|| OnThreads::new(MemoryBackend::new())).run().assert_passed();
    /// ```
    pub fn for_tasks<B: AsyncBackend + 'static>(make: impl Fn() -> B + 'static) -> Self {
        Self::of(move |drive| Arc::new(Driven { backend: make(), drive: Arc::clone(drive) }))
    }

    /// How futures of a backend of tasks are run: a runtime's `block_on`, where it needs its runtime. Several threads call
    /// it at once. Default: the thread sleeps while the future waits.
    pub fn block_on(mut self, block_on: impl for<'f> Fn(BoxFuture<'f, ()>) + Send + Sync + 'static) -> Self {
        self.drive = Arc::new(block_on);
        self
    }

    /// How time passes: a manual clock is put forward, or the thread sleeps. Without it nothing is checked of times to live.
    pub fn advance(mut self, advance: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        self.advance = Some(Arc::new(advance));
        self
    }

    /// A time to live that the store can tell from four times as much and from a quarter of it. About a dozen of it pass.
    /// Default: 2 s.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// A check that lasts longer hangs, and has failed. Default: a minute.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// It is meant to keep nothing, as [`NullBackend`](super::NullBackend) does. Its lock need not exclude anybody, then.
    pub fn keeps_nothing(mut self) -> Self {
        self.keeps = false;
        self
    }

    /// Runs all checks.
    ///
    /// ```
    /// use dogpile::backend::MemoryBackend;
    /// use dogpile::backend::conformance::{Conformance, Outcome};
    ///
    /// let report = Conformance::new(MemoryBackend::new).run();
    /// assert_eq!(report.outcome("values_come_back"), Some(&Outcome::Passed));
    /// assert!(matches!(report.outcome("mutex_excludes"), Some(Outcome::NotApplicable(_))));
    /// ```
    pub fn run(&self) -> Report {
        let all = [values::CHECKS, batches::CHECKS, keys::CHECKS, locks::CHECKS];
        let checks = all.into_iter().flatten().map(|(name, check)| {
            let bench = Bench {
                subject: (self.make)(&self.drive),
                advance: self.advance.clone(),
                ttl: self.ttl,
                keeps: self.keeps,
                patience: self.limit / 4,
                // Not twice the same, in this store or in one that outlives the process.
                own: format!("conformance:{:016x}:", RandomState::new().hash_one(name)),
            };
            Checked { name, outcome: run_one(bench, *check, self.limit) }
        });
        let checks = checks.collect();
        Report { backend: (self.make)(&self.drive).name(), checks }
    }
}

/// Runs a check on a thread of its own, for as long as it may take.
fn run_one(bench: Bench, check: Check, limit: Duration) -> Outcome {
    let (sender, ended) = mpsc::channel();
    let has_begun = spawn("conformance", move || {
        let result = catch_unwind(AssertUnwindSafe(|| check(&bench)));
        let _ = sender.send(result.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("something");
            Err(Not::Passed(format!("it panicked: {said}")))
        }));
    });
    if !has_begun {
        return Outcome::Failed(String::from("no thread could be started for it"));
    }
    match ended.recv_timeout(limit) {
        Ok(Ok(())) => Outcome::Passed,
        Ok(Err(Not::Passed(why))) => Outcome::Failed(why),
        Ok(Err(Not::Applicable(why))) => Outcome::NotApplicable(why),
        Err(_) => Outcome::Failed(format!("it hangs: no end after {limit:?}")),
    }
}

/// How a check has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The backend does as the contract says.
    Passed,
    /// It does not, and how.
    Failed(String),
    /// The backend has no such thing, or it could not be asked; why.
    NotApplicable(&'static str),
}

/// One check that was run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// What it is called.
    pub name: &'static str,
    /// How it has ended.
    pub outcome: Outcome,
}

/// What became of all checks. Prints as a table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "`assert_passed` is what fails"]
pub struct Report {
    backend: &'static str,
    checks: Vec<Checked>,
}

impl Report {
    /// All checks, in the order in which they were run: what later ones build upon comes first.
    #[must_use]
    pub fn checks(&self) -> &[Checked] {
        &self.checks
    }

    /// How the check of that name has ended. `None`: there is no such check.
    #[must_use]
    pub fn outcome(&self, name: &str) -> Option<&Outcome> {
        self.checks.iter().find(|check| check.name == name).map(|check| &check.outcome)
    }

    /// The names of those that failed.
    pub fn failed(&self) -> impl Iterator<Item = &'static str> + '_ {
        let failed = |check: &&Checked| matches!(check.outcome, Outcome::Failed(_));
        self.checks.iter().filter(failed).map(|check| check.name)
    }

    /// Whether none has failed.
    #[must_use]
    pub fn has_passed(&self) -> bool {
        self.failed().next().is_none()
    }

    /// For tests.
    ///
    /// # Panics
    /// If a check has failed: with the table.
    pub fn assert_passed(&self) {
        assert!(self.has_passed(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |is: fn(&Outcome) -> bool| self.checks.iter().filter(|check| is(&check.outcome)).count();
        writeln!(
            f,
            "backend `{}`: {} passed, {} failed, {} not applicable",
            self.backend,
            count(|outcome| *outcome == Outcome::Passed),
            count(|outcome| matches!(outcome, Outcome::Failed(_))),
            count(|outcome| matches!(outcome, Outcome::NotApplicable(_))),
        )?;
        for Checked { name, outcome } in &self.checks {
            match outcome {
                Outcome::Passed => writeln!(f, "  passed          {name}")?,
                Outcome::Failed(why) => writeln!(f, "  FAILED          {name}: {why}")?,
                Outcome::NotApplicable(why) => writeln!(f, "  not applicable  {name}: {why}")?,
            }
        }
        Ok(())
    }
}

/// Why a check has not passed.
enum Not {
    Passed(String),
    Applicable(&'static str),
}

impl From<Error> for Not {
    fn from(error: Error) -> Self {
        Self::Passed(format!("an operation returned an error: {error}"))
    }
}

type Check = fn(&Bench) -> Result<(), Not>;

/// Ends a check that finds the contract broken.
macro_rules! ensure {
    ($holds:expr, $($said:tt)+) => {
        if !$holds {
            return Err(Not::Passed(format!($($said)+)));
        }
    };
}
use ensure;

/// A list of checks, under their own names.
macro_rules! checks {
    ($($check:ident),+ $(,)?) => {
        pub(super) const CHECKS: &[(&str, super::Check)] = &[$((stringify!($check), $check)),+];
    };
}
use checks;

/// What a check works with.
struct Bench {
    subject: Arc<dyn Subject>,
    advance: Option<Arc<dyn Fn(Duration) + Send + Sync>>,
    ttl: Duration,
    keeps: bool,
    /// How long a lock that is about to be free is waited for at the most.
    patience: Duration,
    /// What stands before each key.
    own: String,
}

impl Bench {
    /// # Errors
    /// If the store keeps nothing, so that there is nothing to check.
    fn kept(&self) -> Result<(), Not> {
        if self.keeps { Ok(()) } else { Err(Not::Applicable("the store is meant to keep nothing")) }
    }

    /// Lets time pass.
    fn pass(&self, span: Duration) -> Result<(), Not> {
        let advance = self.advance.as_ref();
        let advance = advance.ok_or(Not::Applicable("how time passes was not told: give it `advance`"))?;
        advance(span);
        Ok(())
    }

    /// A key as a region would have it in the store.
    fn key(&self, name: &str) -> String {
        format!("{}{}", self.own, self.mangled(name))
    }

    fn keys(&self, names: &[&str]) -> Vec<String> {
        names.iter().map(|name| self.key(name)).collect()
    }

    fn mangled(&self, key: &str) -> String {
        self.subject.mangle(key).unwrap_or_else(|| key.to_owned())
    }

    /// A value that is like no other.
    fn value(&self, number: u64) -> Stored {
        match self.subject.takes() {
            Takes::Bytes => Stored::from(number.to_be_bytes().as_slice()),
            _ => Stored::Object(Arc::new(number)),
        }
    }

    fn get(&self, key: &str) -> Result<Option<Stored>, Not> {
        Ok(self.subject.get(key)?)
    }

    fn set(&self, key: &str, value: &Stored, ttl: Option<Duration>) -> Result<(), Not> {
        Ok(self.subject.set(Put::new(key, value).ttl(ttl))?)
    }

    /// # Errors
    /// If the key has not this very value; `when` says what was done before.
    fn has(&self, key: &str, value: &Stored, when: &str) -> Result<(), Not> {
        match self.get(key)? {
            None => Err(Not::Passed(format!("{when}: the value is missing"))),
            Some(found) if !found.is_same(value) => {
                Err(Not::Passed(format!("{when}: another value is there, or a copy of an object")))
            }
            Some(_) => Ok(()),
        }
    }

    /// # Errors
    /// If the key has a value.
    fn has_none(&self, key: &str, when: &str) -> Result<(), Not> {
        match self.get(key)? {
            None => Ok(()),
            Some(_) => Err(Not::Passed(format!("{when}: there is a value"))),
        }
    }
}

fn borrowed(keys: &[String]) -> Vec<&str> {
    keys.iter().map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{AsyncProxied, AsyncProxy, MemoryBackend, Proxied, Proxy, for_tasks};
    use super::*;
    use crate::time::ManualClock;

    struct Through;
    impl Proxy for Through {}
    impl AsyncProxy for Through {}

    fn memory(clock: &ManualClock) -> MemoryBackend {
        MemoryBackend::builder().clock(clock.clone()).build().unwrap()
    }

    /// What a region puts around its backend keeps the contract.
    #[test]
    fn behind_proxies() {
        let clock = ManualClock::new();
        let time = clock.clone();
        let make = move || Proxied { proxy: Box::new(Through), next: Arc::new(memory(&clock)) };
        let report = Conformance::new(make).advance(move |span| time.advance(span)).run();
        report.assert_passed();
        assert_eq!(report.outcome("set_unless_is_one_step"), Some(&Outcome::Passed), "{report}");
    }

    #[test]
    fn behind_proxies_of_tasks() {
        let clock = ManualClock::new();
        let time = clock.clone();
        let make = move || AsyncProxied { proxy: Box::new(Through), next: Arc::new(memory(&clock)) };
        Conformance::for_tasks(make).advance(move |span| time.advance(span)).run().assert_passed();
    }

    /// A backend that doesn't block, as an `AsyncRegion` uses it.
    #[test]
    fn at_once_for_tasks() {
        let clock = ManualClock::new();
        let time = clock.clone();
        let make = move || {
            let backend: Arc<dyn Backend> = Arc::new(memory(&clock));
            AsyncProxied { proxy: Box::new(Through), next: for_tasks(&backend) }
        };
        Conformance::for_tasks(make).advance(move |span| time.advance(span)).run().assert_passed();
    }
}
