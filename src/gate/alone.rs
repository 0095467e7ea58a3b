//! [`Gate`]: the lock alone, around whatever is read and made.
#![forbid(unsafe_code)]

use super::blocking::{Alarm, block_on};
use super::drive::{After, Borrowed, Kind, Look, Moment, Order, Place, drive_by};
use super::flight::{Failure, Flights, IDLE};
use super::past::{Age, Left, Past, Verdict};
use super::policy::Policy;
use crate::error::CreateError;
use crate::sync::{Arc, AtomicU8, AtomicU64, Ordering, Tally, orderings};
use crate::time::{Clock, Instant};
use std::fmt;
use std::future::{Future, ready};
use std::marker::PhantomData;
use std::pin::pin;
use std::time::Duration;

// EPOCH (load, before the value is read) pairs with BUMP (a leader's, when it has made one): who sees the new number reads
// the new value. Later loads are ordered by the lock that a winner takes.
orderings! { alone: EPOCH = Acquire, BUMP = Release }

/// A value that was read, and how old it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dated<T> {
    /// The value.
    pub value: T,
    /// The time since it was made.
    pub age: Duration,
}

/// What a [`Gate`] has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GateStats {
    /// Creations that were begun.
    pub leads: u64,
    /// Callers that waited for another's creation.
    pub waits: u64,
    /// Waits that ended because they had lasted too long.
    pub timed_out: u64,
    /// Creators that returned a value.
    pub creations: u64,
    /// Creators that returned an error, panicked, or were dropped before they ended.
    pub failures: u64,
    /// Callers that got a stale value.
    pub stale_served: u64,
    /// Creations that a waiter took over, because the leader's panicked or was dropped.
    pub hand_overs: u64,
}

#[derive(Default)]
struct Counts {
    leads: Tally,
    waits: Tally,
    timed_out: Tally,
    creations: Tally,
    failures: Tally,
    stale_served: Tally,
    hand_overs: Tally,
}

/// The dogpile lock alone: of all who want a value that is missing or out of date, exactly one makes it; the others get
/// the old one at once, or wait for the new one where there is none.
///
/// It guards one value, which it does not hold: a file, a row, a field. How to read it and how to make it are told with
/// each call, so the gate fits in front of any store. Threads ([`run`](Self::run)) and tasks
/// ([`run_async`](Self::run_async)) share one lock.
///
/// # Source
/// `Lock` of Python's dogpile. Our departures: waiters share the leader's value and error instead of reading, or failing,
/// one after another; a leader that panics or is dropped is replaced; a stale value can stand in for an error; and what was
/// read before the lock was won is not read again unless somebody else was there in between.
///
/// # Examples
/// A report in a file, written by whoever first finds it older than a minute:
///
/// ```
/// use dogpile::gate::{Dated, Gate};
/// use dogpile::{CoarseClock, Policy};
/// use std::{fs, io, time::Duration};
///
/// # let folder = std::env::temp_dir().join(format!("dogpile-gate-{}", std::process::id()));
/// # fs::create_dir_all(&folder)?;
/// let path = folder.join("report.txt");
/// let gate = Gate::new();
/// let policy = Policy::builder().fresh(Duration::from_secs(60)).stale(Duration::MAX).build()?;
/// let report = || {
///     gate.run(
///         || {
///             let age = fs::metadata(&path).ok()?.modified().ok()?.elapsed().unwrap_or_default();
///             Some(Dated { value: fs::read_to_string(&path).ok()?, age })
///         },
///         || {
///             let text = String::from("all is well");
///             fs::write(&path, &text)?;
///             Ok::<_, io::Error>(text)
///         },
///         &CoarseClock,
///         &policy,
///     )
/// };
/// assert_eq!(report()?, "all is well");
/// assert_eq!(report()?, "all is well");
/// assert_eq!(gate.stats().creations, 1);
/// # fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Gate<T> {
    past: Past,
    /// How many values have been made, and failures remembered.
    epoch: AtomicU64,
    flights: Flights<T>,
    counts: Counts,
}

impl<T> Gate<T> {
    /// A gate that nobody is in.
    #[must_use]
    pub fn new() -> Self {
        Self {
            past: Past::new(),
            epoch: AtomicU64::new(0),
            flights: Flights::new(1),
            counts: Counts::default(),
        }
    }

    /// To be asked before the value is read.
    fn gate_epoch(&self) -> u64 {
        self.epoch.load(ord::EPOCH())
    }

    /// Whether somebody makes the value just now.
    ///
    /// ```
    /// use dogpile::{CoarseClock, Policy, gate::Gate};
    ///
    /// let gate = Gate::new();
    /// assert!(!gate.is_locked());
    /// let make = || Ok::<_, std::convert::Infallible>(gate.is_locked());
    /// assert_eq!(gate.run(|| None, make, &CoarseClock, &Policy::default()), Ok(true));
    /// ```
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.past.is_busy()
    }

    /// What the gate has done so far.
    #[must_use]
    pub fn stats(&self) -> GateStats {
        let read = |count: &Tally| count.load(Ordering::Relaxed);
        GateStats {
            leads: read(&self.counts.leads),
            waits: read(&self.counts.waits),
            timed_out: read(&self.counts.timed_out),
            creations: read(&self.counts.creations),
            failures: read(&self.counts.failures),
            stale_served: read(&self.counts.stale_served),
            hand_overs: read(&self.counts.hand_overs),
        }
    }
}

impl<T: Clone> Gate<T> {
    /// Reads the value by `read`; if it is missing or out of date, makes it by `create`, or waits for another who does.
    ///
    /// `create` must also store it where `read` will find it. Both run on the calling thread, outside of every lock but
    /// this one. Ages are compared with the policy's `fresh` (none: never out of date) and `stale`; `clock` measures
    /// creations and how long errors are remembered. The policy's `jitter`, `should_cache`, `runner` and `soft_timeout`
    /// have no meaning here: the caller stores.
    ///
    /// # Cost
    /// A value that is fresh: one read, and nothing of the gate's but a load. Uncontended creation: one read, one `create`.
    ///
    /// # Errors
    /// What `create` returned, to the leader and all who waited for it. [`CreateError::Reentrant`] if `create` asks this
    /// very gate, or waits in a circle with others. [`CreateError::TimedOut`], [`LeaderPanicked`](CreateError::LeaderPanicked),
    /// [`NotCached`](CreateError::NotCached) as the policy says.
    ///
    /// # Panics
    /// If `read` or `create` does, in the thread that runs it; after a `create` that panicked a waiter leads.
    pub fn run<E: Send + Sync + 'static>(
        &self,
        read: impl Fn() -> Option<Dated<T>>,
        create: impl FnOnce() -> Result<T, E>,
        clock: &dyn Clock,
        policy: &Policy<T>,
    ) -> Result<T, CreateError<E>> {
        let place = Alone { gate: self, clock, policy };
        let look = |_claims| {
            let epoch = self.gate_epoch();
            ready(place.judge(epoch, read()))
        };
        let create = pin!(Some(async move { create() }));
        let mut creator = Borrowed::new(create);
        block_on(|parker| {
            let parker = Arc::clone(parker);
            drive_by(place, look, Order::of(policy), &mut creator, move |span| Alarm::after(&parker, span))
        })
    }

    /// As [`run`](Self::run), for tasks: needs no runtime, and never polls.
    ///
    /// # Cancel safety
    /// Dropping the future of a leader hands the lead to a waiter, or frees the gate; dropping that of a waiter takes it off
    /// the list. `create` is then dropped where it stands, at its own await.
    ///
    /// # Errors
    /// As `run`.
    ///
    /// ```
    /// use dogpile::{CoarseClock, Policy, gate::{Dated, Gate}};
    /// use std::cell::Cell;
    ///
    /// # fn block_on<F: Future>(future: F) -> F::Output { pollster::block_on(future) }
    /// let (gate, stored) = (Gate::new(), Cell::new(None));
    /// let read = || std::future::ready(stored.get().map(|value| Dated { value, age: Default::default() }));
    /// let create = async { stored.set(Some(5)); Ok::<_, std::convert::Infallible>(5) };
    /// assert_eq!(block_on(gate.run_async(read, create, &CoarseClock, &Policy::default())), Ok(5));
    /// ```
    pub async fn run_async<E: Send + Sync + 'static, R: Future<Output = Option<Dated<T>>>>(
        &self,
        read: impl Fn() -> R,
        create: impl Future<Output = Result<T, E>>,
        clock: &dyn Clock,
        policy: &Policy<T>,
    ) -> Result<T, CreateError<E>> {
        let place = Alone { gate: self, clock, policy };
        let look = |_claims| {
            let epoch = self.gate_epoch();
            let reading = read();
            async move { place.judge(epoch, reading.await) }
        };
        let create = pin!(Some(create));
        let sleep = |span| policy.timer.sleep(span);
        drive_by(place, look, Order::of(policy), &mut Borrowed::new(create), sleep).await
    }
}

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Gate<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("is_locked", &self.is_locked()).finish_non_exhaustive()
    }
}

/// A gate, as one call sees it.
struct Alone<'g, T> {
    gate: &'g Gate<T>,
    clock: &'g dyn Clock,
    policy: &'g Policy<T>,
}

impl<T> Clone for Alone<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Alone<'_, T> {}

/// The types of a gate alone.
struct Values<T>(PhantomData<T>);

impl<T: Clone> Kind for Values<T> {
    type Value = T;
    type Made = T;
    type Claim = Seen<T>;
    type Rest = ();
}

/// What was read, and the number of the value as of then.
struct Seen<T> {
    epoch: u64,
    last: Option<Dated<T>>,
}

impl<T: Clone> Alone<'_, T> {
    /// What was read, `epoch` values having been made before.
    fn judge(self, epoch: u64, last: Option<Dated<T>>) -> Look<T, Seen<T>> {
        let policy = self.policy;
        if let Some(Dated { value, age }) = &last
            && policy.early.is_none()
            && policy.fresh.is_none_or(|fresh| *age < fresh)
        {
            return Look::Fresh(value.clone());
        }
        let now = self.clock.precise();
        let made = last.as_ref().map_or(now, |last| now.saturating_sub(last.age));
        let verdict =
            self.gate.past.judge(policy_age(policy, last.as_ref()), made, policy.stale(), None, policy, now);
        let value = last.as_ref().map(|last| last.value.clone());
        let claim = Seen { epoch, last };
        match (verdict, value) {
            (Verdict::Fresh, Some(value)) => Look::Fresh(value),
            (Verdict::Usable { from, state }, Some(value)) => Look::Usable { value, claim, from, state },
            (Verdict::Failed { failure, from }, _) => Look::Failed { failure, claim, from },
            (Verdict::Missing { from }, _) => Look::Missing { claim, from },
            (_, None) => unreachable!("what is missing is neither fresh nor usable"),
        }
    }
}

/// How old a value is that was read, by a policy.
fn policy_age<T>(policy: &Policy<T>, last: Option<&Dated<T>>) -> Age {
    match (last, policy.fresh) {
        (None, _) => Age::Missing,
        (Some(_), None) => Age::Fresh { left: None },
        (Some(last), Some(life)) if last.age < life => {
            Age::Fresh { left: Some(Left { life, left: life.saturating_sub(last.age) }) }
        }
        (Some(last), Some(life)) => Age::Late(last.age.saturating_sub(life)),
    }
}

impl<T: Clone> Place<Values<T>> for Alone<'_, T> {
    fn flights(&self) -> &Flights<T> {
        &self.gate.flights
    }

    fn flag<'a>(&'a self, _seen: &'a Seen<T>) -> &'a AtomicU8 {
        self.gate.past.flag()
    }

    fn is_current(&self, seen: &Seen<T>) -> bool {
        // After the win, and so after the last leader's hold of the bucket's lock: its bump is seen.
        self.gate.epoch.load(Ordering::Relaxed) == seen.epoch
    }

    fn publish(&self, _seen: &Seen<T>, made: T, took: Duration) -> (T, After, ()) {
        self.gate.past.made(took);
        self.gate.epoch.fetch_add(1, ord::BUMP());
        (made, After { flag: IDLE, leaves: false }, ())
    }

    fn settle(&self, _nothing: ()) {}

    fn failed(&self, seen: &Seen<T>, failure: &Failure) -> (After, ()) {
        let age = policy_age(self.policy, seen.last.as_ref());
        let (flag, is_remembered) = self.gate.past.failed(age, failure, self.policy, self.clock.precise());
        if is_remembered {
            // Who has looked before this shall look again.
            self.gate.epoch.fetch_add(1, ord::BUMP());
        }
        (After { flag, leaves: false }, ())
    }

    fn released(&self, _seen: &Seen<T>) -> After {
        After { flag: IDLE, leaves: false }
    }

    fn outdated(&self) -> u8 {
        IDLE
    }

    fn let_go(&self, _seen: &Seen<T>) {}

    fn now(&self) -> Instant {
        self.clock.precise()
    }

    fn count(&self, moment: Moment) {
        let counts = &self.gate.counts;
        let count = match moment {
            Moment::Lead => &counts.leads,
            Moment::Wait => &counts.waits,
            Moment::TimedOut => &counts.timed_out,
            Moment::Created(_) => &counts.creations,
            Moment::Failed => &counts.failures,
            Moment::StaleServed => &counts.stale_served,
            Moment::HandedOver => &counts.hand_overs,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}
