//! The state machine of one caller: look, then take what is there, lead, or wait.
//!
//! ```text
//! look ─ fresh ──────────────────────────────────────────> the value
//!   │  ─ usable (stale, or due ahead of time) ─ won ─> lead
//!   │                                         └ not ─────> that value, at once
//!   │  ─ missing ─ won ─> lead
//!   │            └ not ─> wait ─ landed ─────────────────> the flight's value or error
//!   │                          ├ heir ─> lead
//!   │                          └ time is up ─────────────> TimedOut
//! lead ─ still the current version? no: look again
//!      └ create, publish, land ──────────────────────────> the value, the error
//! ```
//!
//! What is guarded stands behind [`Place`]: the entry of a cache, a file. Blocking callers and tasks run this same future;
//! they differ in who polls it (`blocking.rs`) and in what wakes them at a deadline.
//!
//! # Cancel safety
//! At every await the caller is a leader or a waiter, or neither, and a value of that kind ([`Lead`], [`Waiting`]) stands
//! for it. Dropping a leader hands the lead over or frees the version; dropping a waiter takes it off the list, and passes
//! on the lead that it may have been handed in that moment. So a dropped future leaves nothing locked, and nobody asleep.
#![forbid(unsafe_code)]

use super::flight::{Failure, Flight, Flights, Landing, Leader, Outcome};
use super::led::{Discard, Leading, Note, leading};
use super::policy::{Freshness, Policy};
use crate::error::CreateError;
use crate::sync::{Arc, AtomicU8, Backoff, current_thread};
use crate::time::Instant;
use std::any::Any;
use std::convert::Infallible;
use std::future::{Future, poll_fn, ready};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

/// What happened, for statistics.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moment {
    Lead,
    Wait,
    TimedOut,
    Created(Duration),
    Failed,
    StaleServed,
    HandedOver,
}

/// What is there: a value of type `T`, a claim of type `C`.
pub(crate) enum Look<T, C> {
    Fresh(T),
    /// Good enough to be returned, to some at least, and due to be made anew. `from`: the free state of its flag; none: it
    /// is not free, or is not to be taken yet.
    Usable {
        value: T,
        claim: C,
        from: Option<u8>,
        state: Usable,
    },
    /// There was nothing, and by looking the caller has begun to lead: its claim's flag was put in as `BUSY`.
    Led {
        claim: C,
    },
    /// Nothing to return. `from`: none while somebody makes it.
    Missing {
        claim: C,
        from: Option<u8>,
    },
    /// Nothing but an error that is remembered.
    Failed {
        failure: Failure,
        claim: C,
        from: Option<u8>,
    },
    /// There is nothing, and nothing to claim was asked for.
    Nothing,
    /// It was just being taken away.
    Again,
}

/// Why a value that is returned should be made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usable {
    /// It is fresh, and due ahead of its time.
    Due,
    /// Its time is over.
    Stale,
    /// Its time is over, and the last who tried to make it anew failed: it stands in for the error.
    Held,
}

/// What a flight leaves.
#[derive(Clone, Copy)]
pub(crate) struct After {
    /// The new state of its flag.
    pub(crate) flag: u8,
    /// Whether what stood for the version is still to be taken away.
    pub(crate) leaves: bool,
}

/// The types of a kind of place. Apart from [`Place`], and without its lifetimes: the compiler proves that a caller's future is
/// `Send` for any lifetimes at all, and would have to find each of these types anew for all of them.
pub(crate) trait Kind {
    /// What callers get.
    type Value: Clone;
    /// What creators make.
    type Made;
    /// One version, whose flag is taken. Keeps the flag's memory (G5).
    type Claim;
    /// What a publication leaves to be done.
    type Rest;
}

/// What a gate guards: one version after another of one value.
pub(crate) trait Place<G: Kind>: Clone {
    fn flights(&self) -> &Flights<G::Value>;
    fn flag<'a>(&'a self, claim: &'a G::Claim) -> &'a AtomicU8;
    /// Whether the claim's version is still the one that callers see.
    fn is_current(&self, claim: &G::Claim) -> bool;
    /// Stores what was made, unless newer state is there. Returns what callers get.
    fn publish(&self, claim: &G::Claim, made: G::Made, took: Duration) -> (G::Value, After, G::Rest);
    /// What is to be done about a publication when the flight has landed: user code that must hold nobody up.
    fn settle(&self, rest: G::Rest);
    /// The creator failed: remembers what is to be remembered.
    fn failed(&self, claim: &G::Claim, failure: &Failure) -> (After, G::Rest);
    /// The leader goes without a result, and nobody takes over.
    fn released(&self, claim: &G::Claim) -> After;
    /// The state of the flag of a claim that is not current any more.
    fn outdated(&self) -> u8;
    /// Takes away what stood for a version that nobody makes any more. After its flag said so.
    fn let_go(&self, claim: &G::Claim);
    fn now(&self) -> Instant;
    fn count(&self, moment: Moment);
    /// A caller is about to wait for another's flight. What is returned is dropped when it goes on.
    fn lend(&self) -> Option<Box<dyn Any + Send>> {
        None
    }
    /// Whether what a leader returned will do for this caller, who waited for it: a leader may return what is older than
    /// this one wants. Else it looks again.
    fn suits(&self, value: &G::Value) -> bool {
        let _ = value;
        true
    }
}

/// A place that is looked at without waiting.
pub(crate) trait Sight<G: Kind>: Place<G> {
    /// Reads the value. `claims`: what is missing will be made, so there must be something to claim.
    fn look(&self, claims: bool) -> Look<G::Value, G::Claim>;
}

/// What a caller wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) freshness: Freshness,
    pub(crate) wait: Option<Duration>,
    pub(crate) soft_timeout: Option<Duration>,
}

impl Order {
    /// Whether the caller takes such a value when it does not make a newer one itself.
    pub(crate) fn takes(&self, state: Usable) -> bool {
        state != Usable::Stale || self.freshness != Freshness::WaitFresh
    }

    pub(crate) fn of<V: ?Sized>(policy: &Policy<V>) -> Self {
        Self { freshness: policy.freshness, wait: policy.wait, soft_timeout: policy.soft_timeout }
    }
}

/// A creator, to be polled at most by one leader, or handed on.
pub(crate) trait Creator<G: Kind, P: Place<G>, E>:
    Future<Output = Result<G::Made, E>> + Discard + Unpin
{
    /// Gives the lead to somebody who will do the creation in the background.
    ///
    /// # Errors
    /// Gives it back: only `Send + 'static` creators can be handed on.
    fn hand_on(&mut self, lead: Lead<G, P>) -> Result<(), Lead<G, P>> {
        Err(lead)
    }

    /// Whether it has ended, was discarded or handed on, so that it can't be polled here any more.
    #[cfg_attr(not(feature = "region"), allow(dead_code, reason = "only places that a region lends ask"))]
    fn is_gone(&self) -> bool;
}

/// A creator of the caller's own, which may borrow, and what makes a result of its output.
pub(crate) struct Borrowed<'f, F, M> {
    /// None: it has ended, or was discarded.
    future: Pin<&'f mut Option<F>>,
    result: M,
}

impl<'f, F: Future> Borrowed<'f, F, fn(F::Output) -> F::Output> {
    pub(crate) fn new(future: Pin<&'f mut Option<F>>) -> Self {
        Self { future, result: |output| output }
    }
}

impl<'f, F: Future> Borrowed<'f, F, fn(F::Output) -> Result<F::Output, Infallible>> {
    /// One that can't fail.
    pub(crate) fn infallible(future: Pin<&'f mut Option<F>>) -> Self {
        Self { future, result: Ok }
    }
}

impl<F: Future, T, M: Fn(F::Output) -> T + Unpin> Future for Borrowed<'_, F, M> {
    type Output = T;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let future = self.future.as_mut().as_pin_mut().expect("a creator that is gone is not polled");
        future.poll(cx).map(|output| (self.result)(output))
    }
}

impl<F, M> Discard for Borrowed<'_, F, M> {
    fn discard(&mut self) {
        self.future.set(None);
    }
}

impl<G: Kind, P: Place<G>, E, F, M> Creator<G, P, E> for Borrowed<'_, F, M>
where
    F: Future,
    M: Fn(F::Output) -> Result<G::Made, E> + Unpin,
{
    fn is_gone(&self) -> bool {
        self.future.is_none()
    }
}

/// The right, and the duty, to make the next version.
pub(crate) struct Lead<G: Kind, P: Place<G>> {
    place: P,
    /// None: it has been landed.
    claim: Option<G::Claim>,
    flight: Arc<Flight<G::Value>>,
    since: Instant,
    /// Whether a creator runs, or has run.
    running: bool,
    panicked: bool,
}

impl<G: Kind, P: Place<G>> Lead<G, P> {
    /// Takes the flag from the free state `from`.
    ///
    /// # Errors
    /// Gives the claim back if somebody was quicker.
    pub(crate) fn win(place: &P, claim: G::Claim, from: u8) -> Result<Self, G::Claim> {
        match place.flights().win(place.flag(&claim), from) {
            Some(flight) => Ok(Self::take(place, claim, flight).enter()),
            None => Err(claim),
        }
    }

    /// Begins a flight whose flag is the caller's from its beginning: nobody can have made anything in between.
    pub(crate) fn begin(place: &P, claim: G::Claim) -> Self {
        let flight = place.flights().begin(place.flag(&claim));
        let lead = Self::take(place, claim, flight).enter();
        lead.place.count(Moment::Lead);
        lead
    }

    fn take(place: &P, claim: G::Claim, flight: Arc<Flight<G::Value>>) -> Self {
        let since = Instant::default();
        Self { place: place.clone(), claim: Some(claim), flight, since, running: false, panicked: false }
    }

    /// Notes who leads, and since when. The clock may be the user's, so by now the lead is one that is given back.
    fn enter(mut self) -> Self {
        self.since = self.place.now();
        self.flight.set_leader(Leader { since: self.since, thread: current_thread() });
        self
    }

    fn claim(&self) -> &G::Claim {
        self.claim.as_ref().expect("a lead is landed once, and last")
    }

    pub(crate) fn number(&self) -> u64 {
        self.flight.number()
    }

    pub(crate) fn now(&self) -> Instant {
        self.place.now()
    }

    pub(crate) fn count(&self, moment: Moment) {
        self.place.count(moment);
    }

    /// Notes that a creator runs for this lead among others.
    pub(crate) fn run(&mut self) {
        self.running = true;
    }

    pub(crate) fn set_panicked(&mut self, panicked: bool) {
        self.panicked = panicked;
    }

    /// Looks again whether there is anything to be made: the flag was won by what was seen before. Gives the lead up
    /// if not.
    pub(crate) fn still_needed(mut self) -> Option<Self> {
        if self.place.is_current(self.claim()) {
            self.place.count(Moment::Lead);
            return Some(self);
        }
        let after = After { flag: self.place.outdated(), leaves: false };
        self.land(after, Outcome::Abandoned);
        None
    }

    fn land(&mut self, after: After, outcome: Outcome<G::Value>) {
        let claim = self.claim.take().expect("a lead is landed once, and last");
        self.place.flights().land(self.place.flag(&claim), &self.flight, after.flag, outcome);
        if after.leaves {
            self.place.let_go(&claim);
        }
    }

    /// Runs the creator, and gives its result to everybody.
    pub(crate) async fn create<C: Creator<G, P, E>, E: Send + Sync + 'static>(
        mut self,
        creator: &mut C,
    ) -> Result<G::Value, Arc<E>> {
        self.running = true;
        let made = Leading::new(&[self.flight.number()], creator, &mut self.panicked).await;
        match made {
            Ok(made) => {
                let took = self.place.now().saturating_duration_since(self.since);
                self.place.count(Moment::Created(took));
                Ok(self.publish(made, took))
            }
            Err(error) => {
                let error = Arc::new(error);
                self.fail(Arc::clone(&error) as Failure);
                Err(error)
            }
        }
    }

    pub(crate) fn publish(mut self, made: G::Made, took: Duration) -> G::Value {
        let claim = self.claim.as_ref().expect("a lead is landed once, and last");
        // Weighers and the like are user code as creators are.
        let publish = || {
            let (value, after, rest) = self.place.publish(claim, made, took);
            (value.clone(), value, after, rest)
        };
        let (value, shared, after, rest) = leading(&[self.flight.number()], &mut self.panicked, publish);
        self.land(after, Outcome::Value(shared));
        self.place.settle(rest);
        value
    }

    /// A wait for this flight, by a caller that will not lead it.
    pub(crate) fn watch(&self) -> Waiting<G, P> {
        Waiting {
            place: self.place.clone(),
            claim: None,
            flight: Arc::clone(&self.flight),
            ticket: None,
            may_lead: false,
            entered: true,
            _note: None,
        }
    }

    pub(crate) fn fail(mut self, failure: Failure) {
        self.place.count(Moment::Failed);
        let claim = self.claim.as_ref().expect("a lead is landed once, and last");
        let failed = || self.place.failed(claim, &failure);
        let (after, rest) = leading(&[self.flight.number()], &mut self.panicked, failed);
        self.land(after, Outcome::Failed(failure));
        self.place.settle(rest);
    }
}

impl<G: Kind, P: Place<G>> Drop for Lead<G, P> {
    fn drop(&mut self) {
        let Some(claim) = self.claim.take() else { return };
        if self.running {
            self.place.count(Moment::Failed);
        }
        let after = self.place.released(&claim);
        let flag = self.place.flag(&claim);
        if self.place.flights().hand_over(flag, &self.flight, self.panicked, after.flag) {
            self.place.count(Moment::HandedOver);
        } else if after.leaves {
            self.place.let_go(&claim);
        }
    }
}

/// A place in the list of those who wait for a flight.
pub(crate) struct Waiting<G: Kind, P: Place<G>> {
    place: P,
    claim: Option<G::Claim>,
    flight: Arc<Flight<G::Value>>,
    ticket: Option<u64>,
    may_lead: bool,
    entered: bool,
    /// If the waiter is itself a leader.
    _note: Option<Note>,
}

/// How a wait ended.
pub(crate) enum Waited<G: Kind, P: Place<G>> {
    Outcome(Arc<Outcome<G::Value>>),
    Heir(Lead<G, P>),
    TimedOut,
}

impl<G: Kind, P: Place<G>> Waiting<G, P> {
    /// `Ok(None)`: the flight has ended.
    ///
    /// # Errors
    /// [`CreateError::Reentrant`] if the wait would be for the caller itself.
    pub(crate) fn join<E>(
        place: &P,
        claim: G::Claim,
        may_lead: bool,
    ) -> Result<Option<Self>, CreateError<E>> {
        let Some(flight) = place.flights().join(place.flag(&claim)) else { return Ok(None) };
        let note = Note::new(flight.number()).map_err(|_circle| CreateError::Reentrant)?;
        let (place, claim) = (place.clone(), Some(claim));
        Ok(Some(Self { place, claim, flight, ticket: None, may_lead, entered: false, _note: note }))
    }

    fn end(&mut self, landing: Landing<G::Value>) -> Waited<G, P> {
        match landing {
            Landing::Outcome(outcome) => Waited::Outcome(outcome),
            Landing::Heir => Waited::Heir(self.inherit().enter()),
        }
    }

    fn inherit(&mut self) -> Lead<G, P> {
        let claim = self.claim.take().expect("a waiter inherits once");
        Lead::take(&self.place, claim, Arc::clone(&self.flight))
    }

    /// Waits for the flight's end, or for `sleep` to end.
    ///
    /// `over`: whether that has ended already; a future is not polled after its end.
    pub(crate) async fn wait(
        mut self,
        mut sleep: Pin<&mut Option<impl Future<Output = ()>>>,
        over: &mut bool,
    ) -> Waited<G, P> {
        poll_fn(|cx| {
            if let Some(landing) = self.flight.poll(&mut self.ticket, self.may_lead, cx.waker()) {
                return Poll::Ready(self.end(landing));
            }
            if !self.entered {
                self.entered = true;
                self.place.count(Moment::Wait);
            }
            if !*over && let Some(sleep) = sleep.as_mut().as_pin_mut() {
                *over = sleep.poll(cx).is_ready();
            }
            if *over {
                // What came in the same moment counts.
                let landing = self.flight.leave(&mut self.ticket);
                return Poll::Ready(landing.map_or(Waited::TimedOut, |landing| self.end(landing)));
            }
            Poll::Pending
        })
        .await
    }
}

impl<G: Kind, P: Place<G>> Drop for Waiting<G, P> {
    fn drop(&mut self) {
        if let Some(Landing::Heir) = self.flight.leave(&mut self.ticket) {
            // It was handed the lead and will not use it: the next one shall have it.
            drop(self.inherit());
        }
    }
}

/// Gets the value of a place: finds it, makes it by `creator`, or waits for another who does.
///
/// `sleep` makes what ends after a time. On any error but `Creator` the creator has not been polled.
pub(crate) async fn drive<G, P, C, E, S>(
    place: P,
    order: Order,
    creator: &mut C,
    sleep: impl Fn(Duration) -> S,
) -> Result<G::Value, CreateError<E>>
where
    G: Kind,
    P: Sight<G>,
    C: Creator<G, P, E>,
    E: Send + Sync + 'static,
    S: Future<Output = ()>,
{
    let eyes = place.clone();
    drive_by(place, move |claims| ready(eyes.look(claims)), order, creator, sleep).await
}

/// The same for a place that is looked at by `look`, with the argument that [`Sight::look`] has.
pub(crate) async fn drive_by<G, P, L, C, E, S>(
    place: P,
    look: impl Fn(bool) -> L,
    order: Order,
    creator: &mut C,
    sleep: impl Fn(Duration) -> S,
) -> Result<G::Value, CreateError<E>>
where
    G: Kind,
    P: Place<G>,
    L: Future<Output = Look<G::Value, G::Claim>>,
    C: Creator<G, P, E>,
    E: Send + Sync + 'static,
    S: Future<Output = ()>,
{
    let mut limit = pin!(None::<S>);
    let mut over = false;
    let backoff = Backoff::new();
    let (lead, usable) = loop {
        let (claim, from, usable) = match look(order.freshness != Freshness::CacheOnly).await {
            Look::Fresh(value) => return Ok(value),
            Look::Usable { value, claim, from, state } => (claim, from, Some((value, state))),
            Look::Led { claim } => break (Lead::begin(&place, claim), None),
            Look::Missing { claim, from } => (claim, from, None),
            Look::Failed { failure, claim, from } => match failure.downcast::<E>() {
                Ok(error) => return Err(CreateError::Creator(error)),
                // Another creator's error, of another type: it says nothing of this one's.
                Err(_) => (claim, from, None),
            },
            Look::Nothing => return Err(CreateError::NotCached),
            Look::Again => {
                backoff.snooze();
                continue;
            }
        };
        if order.freshness == Freshness::CacheOnly {
            return usable.map(|usable| serve(&place, usable)).ok_or(CreateError::NotCached);
        }
        let won = match from {
            Some(from) => Lead::win(&place, claim, from),
            None => Err(claim),
        };
        let claim = match won {
            Ok(lead) => match lead.still_needed() {
                Some(lead) => break (lead, usable),
                None => continue,
            },
            Err(claim) => claim,
        };
        if let Some(usable) = usable.filter(|(_, state)| order.takes(*state)) {
            return Ok(serve(&place, usable));
        }
        let Some(waiting) = Waiting::join(&place, claim, true)? else {
            backoff.snooze();
            continue;
        };
        if let (None, Some(wait)) = (limit.as_ref().get_ref(), order.wait) {
            limit.set(Some(sleep(wait)));
        }
        let lent = place.lend();
        let waited = waiting.wait(limit.as_mut(), &mut over).await;
        drop(lent);
        match waited {
            Waited::Outcome(outcome) => match &*outcome {
                Outcome::Value(value) if place.suits(value) => return Ok(value.clone()),
                Outcome::Value(_) => {}
                Outcome::Failed(failure) => {
                    if let Ok(error) = Arc::clone(failure).downcast::<E>() {
                        let look = look(false).await;
                        return stand_in(&place, look).ok_or(CreateError::Creator(error));
                    }
                }
                Outcome::Panicked => return Err(CreateError::LeaderPanicked),
                Outcome::Abandoned => {}
            },
            Waited::Heir(lead) => {
                if let Some(lead) = lead.still_needed() {
                    break (lead, None);
                }
            }
            Waited::TimedOut => {
                place.count(Moment::TimedOut);
                return Err(CreateError::TimedOut);
            }
        }
    };
    // In the background, if there is something to return meanwhile and the creator can be handed on.
    let lead = match usable.filter(|_| order.freshness == Freshness::AllowStale) {
        None => lead,
        Some(usable) => {
            let mut lead = lead;
            lead.run();
            let soft_timeout = order.soft_timeout.map(|soft| (soft, lead.watch()));
            match creator.hand_on(lead) {
                Err(lead) => lead,
                Ok(()) => {
                    if let Some((soft, waiting)) = soft_timeout {
                        let limit = pin!(Some(sleep(soft)));
                        if let Waited::Outcome(outcome) = waiting.wait(limit, &mut false).await
                            && let Outcome::Value(value) = &*outcome
                        {
                            return Ok(value.clone());
                        }
                    }
                    return Ok(serve(&place, usable));
                }
            }
        }
    };
    match lead.create(creator).await {
        Ok(value) => Ok(value),
        Err(error) => {
            let look = look(false).await;
            stand_in(&place, look).ok_or(CreateError::Creator(error))
        }
    }
}

pub(crate) fn serve<G: Kind, P: Place<G>>(place: &P, (value, state): (G::Value, Usable)) -> G::Value {
    if state != Usable::Due {
        place.count(Moment::StaleServed);
    }
    value
}

/// What stands in for an error: what is fresh by now, or was all the while; else a stale value, where the policy says so.
pub(crate) fn stand_in<G: Kind, P: Place<G>>(place: &P, look: Look<G::Value, G::Claim>) -> Option<G::Value> {
    match look {
        Look::Fresh(value) => Some(value),
        Look::Usable { value, state, .. } if state != Usable::Stale => Some(serve(place, (value, state))),
        _ => None,
    }
}
