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
use super::led::{Leading, Note};
use super::policy::{Freshness, Policy};
use crate::error::CreateError;
use crate::sync::{Arc, AtomicU8, Backoff, current_thread};
use crate::time::Instant;
use std::future::{Future, poll_fn};
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
    /// Good enough to be returned, and due to be made anew. `from`: the free state of its flag; none: it is not free, or
    /// is not to be taken yet.
    Usable {
        value: T,
        claim: C,
        from: Option<u8>,
        stale: bool,
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

/// What a flight leaves.
#[derive(Clone, Copy)]
pub(crate) struct After {
    /// The new state of its flag.
    pub(crate) flag: u8,
    /// Whether what stood for the version is still to be taken away.
    pub(crate) leaves: bool,
}

/// What a gate guards: one version after another of one value.
pub(crate) trait Place: Clone {
    /// What callers get.
    type Value: Clone;
    /// What creators make.
    type Made;
    /// One version, whose flag is taken. Keeps the flag's memory (G5).
    type Claim;

    fn flights(&self) -> &Flights<Self::Value>;
    fn flag<'a>(&'a self, claim: &'a Self::Claim) -> &'a AtomicU8;
    /// Reads the value. `claims`: what is missing will be made, so there must be something to claim.
    fn look(&self, claims: bool) -> impl Future<Output = Look<Self::Value, Self::Claim>>;
    /// Whether the claim's version is still the one that callers see.
    fn is_current(&self, claim: &Self::Claim) -> bool;
    /// Stores what was made, unless newer state is there. Returns what callers get.
    fn publish(
        &self,
        claim: &Self::Claim,
        made: Self::Made,
        took: Duration,
    ) -> impl Future<Output = (Self::Value, After)>;
    /// The creator failed: remembers what is to be remembered.
    fn failed(&self, claim: &Self::Claim, failure: &Failure) -> After;
    /// The leader goes without a result, and nobody takes over.
    fn released(&self, claim: &Self::Claim) -> After;
    /// The state of the flag of a claim that is not current any more.
    fn outdated(&self) -> u8;
    /// Takes away what stood for a version that nobody makes any more. After its flag said so.
    fn let_go(&self, claim: &Self::Claim);
    /// What callers may get in the place of an error.
    fn fallback(&self, claim: &Self::Claim) -> Option<Self::Value>;
    fn now(&self) -> Instant;
    fn count(&self, moment: Moment);
}

/// What a caller wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) freshness: Freshness,
    pub(crate) wait: Option<Duration>,
    pub(crate) soft_timeout: Option<Duration>,
}

impl Order {
    pub(crate) fn of<V>(policy: &Policy<V>) -> Self {
        Self { freshness: policy.freshness, wait: policy.wait, soft_timeout: policy.soft_timeout }
    }
}

/// A creator, to be polled at most by one leader, or handed on.
pub(crate) trait Creator<P: Place>: Future<Output = Result<P::Made, Self::Error>> + Unpin {
    type Error: Send + Sync + 'static;

    /// Gives the lead to somebody who will do the creation in the background.
    ///
    /// # Errors
    /// Gives it back: only `Send + 'static` creators can be handed on.
    fn hand_on(&mut self, lead: Lead<P>) -> Result<(), Lead<P>> {
        Err(lead)
    }
}

/// A creator of the caller's own, which may borrow.
pub(crate) struct Borrowed<'f, F>(pub(crate) Pin<&'f mut F>);

impl<F: Future> Future for Borrowed<'_, F> {
    type Output = F::Output;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<P: Place, E: Send + Sync + 'static, F: Future<Output = Result<P::Made, E>>> Creator<P>
    for Borrowed<'_, F>
{
    type Error = E;
}

/// The right, and the duty, to make the next version.
pub(crate) struct Lead<P: Place> {
    place: P,
    /// None: it has been landed.
    claim: Option<P::Claim>,
    flight: Arc<Flight<P::Value>>,
    since: Instant,
    panicked: bool,
}

impl<P: Place> Lead<P> {
    /// Takes the flag from the free state `from`.
    ///
    /// # Errors
    /// Gives the claim back if somebody was quicker.
    pub(crate) fn win(place: &P, claim: P::Claim, from: u8) -> Result<Self, P::Claim> {
        match place.flights().win(place.flag(&claim), from) {
            Some(flight) => Ok(Self::take(place, claim, flight)),
            None => Err(claim),
        }
    }

    /// Begins a flight whose flag is the caller's from its beginning: nobody can have made anything in between.
    pub(crate) fn begin(place: &P, claim: P::Claim) -> Self {
        let flight = place.flights().begin(place.flag(&claim));
        let lead = Self::take(place, claim, flight);
        lead.place.count(Moment::Lead);
        lead
    }

    fn take(place: &P, claim: P::Claim, flight: Arc<Flight<P::Value>>) -> Self {
        let since = place.now();
        flight.set_leader(Leader { since, thread: current_thread() });
        Self { place: place.clone(), claim: Some(claim), flight, since, panicked: false }
    }

    fn claim(&self) -> &P::Claim {
        self.claim.as_ref().expect("a lead is landed once, and last")
    }

    pub(crate) fn number(&self) -> u64 {
        self.flight.number()
    }

    pub(crate) fn is_of(&self, flag: &AtomicU8) -> bool {
        std::ptr::eq(self.place.flag(self.claim()), flag)
    }

    pub(crate) fn now(&self) -> Instant {
        self.place.now()
    }

    pub(crate) fn count(&self, moment: Moment) {
        self.place.count(moment);
    }

    pub(crate) fn set_panicked(&mut self, panicked: bool) {
        self.panicked = panicked;
    }

    /// What callers may get in the place of an error.
    pub(crate) fn fallback(&self) -> Option<P::Value> {
        self.place.fallback(self.claim())
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

    fn land(&mut self, after: After, outcome: Outcome<P::Value>) {
        let claim = self.claim.take().expect("a lead is landed once, and last");
        self.place.flights().land(self.place.flag(&claim), &self.flight, after.flag, outcome);
        if after.leaves {
            self.place.let_go(&claim);
        }
    }

    /// Runs the creator, and gives its result to everybody.
    pub(crate) async fn create<C: Creator<P>>(
        mut self,
        creator: &mut C,
    ) -> Result<P::Value, CreateError<C::Error>> {
        let made = Leading::new(&[self.flight.number()], Pin::new(creator), &mut self.panicked).await;
        match made {
            Ok(made) => {
                let took = self.place.now().saturating_duration_since(self.since);
                self.place.count(Moment::Created(took));
                Ok(self.publish(made, took).await)
            }
            Err(error) => {
                let (place, fallback) = (self.place.clone(), self.fallback());
                let error = Arc::new(error);
                self.fail(Arc::clone(&error) as Failure);
                match fallback {
                    Some(value) => Ok(serve(&place, (value, true))),
                    None => Err(CreateError::Creator(error)),
                }
            }
        }
    }

    pub(crate) async fn publish(mut self, made: P::Made, took: Duration) -> P::Value {
        // Weighers and listeners may panic as creators may.
        self.panicked = true;
        let (value, after) = self.place.publish(self.claim(), made, took).await;
        let shared = value.clone();
        self.panicked = false;
        self.land(after, Outcome::Value(shared));
        value
    }

    /// A wait for this flight, by a caller that will not lead it.
    pub(crate) fn watch(&self) -> Waiting<P> {
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
        let after = self.place.failed(self.claim(), &failure);
        self.land(after, Outcome::Failed(failure));
    }
}

impl<P: Place> Drop for Lead<P> {
    fn drop(&mut self) {
        let Some(claim) = self.claim.take() else { return };
        self.place.count(Moment::Failed);
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
pub(crate) struct Waiting<P: Place> {
    place: P,
    claim: Option<P::Claim>,
    flight: Arc<Flight<P::Value>>,
    ticket: Option<u64>,
    may_lead: bool,
    entered: bool,
    /// If the waiter is itself a leader.
    _note: Option<Note>,
}

/// How a wait ended.
pub(crate) enum Waited<P: Place> {
    Outcome(Arc<Outcome<P::Value>>),
    Heir(Lead<P>),
    TimedOut,
}

impl<P: Place> Waiting<P> {
    /// `Ok(None)`: the flight has ended.
    ///
    /// # Errors
    /// [`CreateError::Reentrant`] if the wait would be for the caller itself.
    pub(crate) fn join<E>(
        place: &P,
        claim: P::Claim,
        may_lead: bool,
    ) -> Result<Option<Self>, CreateError<E>> {
        let Some(flight) = place.flights().join(place.flag(&claim)) else { return Ok(None) };
        let note = Note::new(flight.number()).map_err(|_circle| CreateError::Reentrant)?;
        let (place, claim) = (place.clone(), Some(claim));
        Ok(Some(Self { place, claim, flight, ticket: None, may_lead, entered: false, _note: note }))
    }

    fn end(&mut self, landing: Landing<P::Value>) -> Waited<P> {
        match landing {
            Landing::Outcome(outcome) => Waited::Outcome(outcome),
            Landing::Heir => {
                let claim = self.claim.take().expect("a waiter inherits once");
                Waited::Heir(Lead::take(&self.place, claim, Arc::clone(&self.flight)))
            }
        }
    }

    /// Waits for the flight's end, or for `sleep` to end.
    pub(crate) async fn wait(mut self, mut sleep: Pin<&mut Option<impl Future<Output = ()>>>) -> Waited<P> {
        poll_fn(|cx| {
            if let Some(landing) = self.flight.poll(&mut self.ticket, self.may_lead, cx.waker()) {
                return Poll::Ready(self.end(landing));
            }
            if !self.entered {
                self.entered = true;
                self.place.count(Moment::Wait);
            }
            if let Some(sleep) = sleep.as_mut().as_pin_mut()
                && sleep.poll(cx).is_ready()
            {
                // What came in the same moment counts.
                let landing = self.flight.leave(&mut self.ticket);
                return Poll::Ready(landing.map_or(Waited::TimedOut, |landing| self.end(landing)));
            }
            Poll::Pending
        })
        .await
    }
}

impl<P: Place> Drop for Waiting<P> {
    fn drop(&mut self) {
        if let Some(Landing::Heir) = self.flight.leave(&mut self.ticket) {
            // It was handed the lead and will not use it: the next one shall have it.
            drop(self.end(Landing::Heir));
        }
    }
}

/// Gets the value of a place: finds it, makes it by `creator`, or waits for another who does.
///
/// `sleep` makes what ends after a time. On any error but `Creator` the creator has not been polled.
pub(crate) async fn drive<P, C, S>(
    place: P,
    order: Order,
    creator: &mut C,
    sleep: impl Fn(Duration) -> S,
) -> Result<P::Value, CreateError<C::Error>>
where
    P: Place,
    C: Creator<P>,
    S: Future<Output = ()>,
{
    let mut limit = pin!(None::<S>);
    let backoff = Backoff::new();
    loop {
        let look = place.look(order.freshness != Freshness::CacheOnly).await;
        let (claim, from, usable) = match look {
            Look::Fresh(value) => return Ok(value),
            Look::Usable { value, claim, from, stale } => (claim, from, Some((value, stale))),
            Look::Led { claim } => {
                return begin(&place, Lead::begin(&place, claim), None, order, creator, &sleep).await;
            }
            Look::Missing { claim, from } => (claim, from, None),
            Look::Failed { failure, claim, from } => match failure.downcast::<C::Error>() {
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
            Ok(lead) => {
                let Some(lead) = lead.still_needed() else { continue };
                return begin(&place, lead, usable, order, creator, &sleep).await;
            }
            Err(claim) => claim,
        };
        if let Some((value, stale)) = usable
            && (!stale || order.freshness == Freshness::AllowStale)
        {
            return Ok(serve(&place, (value, stale)));
        }
        let fallback = place.fallback(&claim);
        let Some(waiting) = Waiting::join(&place, claim, true)? else {
            backoff.snooze();
            continue;
        };
        if let (None, Some(wait)) = (limit.as_ref().get_ref(), order.wait) {
            limit.set(Some(sleep(wait)));
        }
        match waiting.wait(limit.as_mut()).await {
            Waited::Outcome(outcome) => match &*outcome {
                Outcome::Value(value) => return Ok(value.clone()),
                Outcome::Failed(failure) => {
                    if let Ok(error) = Arc::clone(failure).downcast::<C::Error>() {
                        return match fallback {
                            Some(value) => Ok(serve(&place, (value, true))),
                            None => Err(CreateError::Creator(error)),
                        };
                    }
                }
                Outcome::Panicked => return Err(CreateError::LeaderPanicked),
                Outcome::Abandoned => {}
            },
            Waited::Heir(lead) => {
                if let Some(lead) = lead.still_needed() {
                    return begin(&place, lead, None, order, creator, &sleep).await;
                }
            }
            Waited::TimedOut => {
                place.count(Moment::TimedOut);
                return Err(CreateError::TimedOut);
            }
        }
    }
}

fn serve<P: Place>(place: &P, (value, stale): (P::Value, bool)) -> P::Value {
    if stale {
        place.count(Moment::StaleServed);
    }
    value
}

/// The creation: here, or in the background if there is something to return meanwhile and the creator can be handed on.
async fn begin<P, C, S>(
    place: &P,
    lead: Lead<P>,
    usable: Option<(P::Value, bool)>,
    order: Order,
    creator: &mut C,
    sleep: &impl Fn(Duration) -> S,
) -> Result<P::Value, CreateError<C::Error>>
where
    P: Place,
    C: Creator<P>,
    S: Future<Output = ()>,
{
    let Some(usable) = usable.filter(|_| order.freshness == Freshness::AllowStale) else {
        return lead.create(creator).await;
    };
    let soft_timeout = order.soft_timeout.map(|soft| (soft, lead.watch()));
    let lead = match creator.hand_on(lead) {
        Err(lead) => return lead.create(creator).await,
        Ok(()) => soft_timeout,
    };
    if let Some((soft, waiting)) = lead {
        let limit = pin!(Some(sleep(soft)));
        if let Waited::Outcome(outcome) = waiting.wait(limit).await
            && let Outcome::Value(value) = &*outcome
        {
            return Ok(value.clone());
        }
    }
    Ok(serve(place, usable))
}
