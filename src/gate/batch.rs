//! Many places at once: one creator call for all that are led.
//!
//! A round claims whatever is free, without waiting; makes and publishes all of that in one call; and only then, leading
//! nothing any more, waits for what others make, one after another (M11). So batches that overlap can't wait for each
//! other in a circle. A waiter of a batch never inherits the lead: the batch may be asleep on another flight just then.
//! What others began and gave up is led in a further round, by a further call of the creator.
#![forbid(unsafe_code)]

use super::drive::{
    Borrowed, Kind, Lead, Look, Moment, Order, Place, Sight, Waited, Waiting, serve, stand_in,
};
use super::flight::{Failure, Outcome};
use super::led::Leading;
use super::policy::Freshness;
use crate::error::CreateError;
use crate::sync::{Arc, AtomicU8, Backoff};
use std::collections::HashMap;
use std::future::{Future, ready};
use std::pin::pin;
use std::time::Duration;

/// Gets the values of all places into `found`. On an error `found` has those that there are.
///
/// `make` gets the numbers of the places to make values for, and returns them in that order.
pub(crate) async fn drive_many<G, P, E, F, S>(
    places: &[P],
    order: Order,
    found: &mut [Option<G::Value>],
    make: impl FnMut(Vec<usize>) -> F,
    sleep: impl Fn(Duration) -> S,
) -> Result<(), CreateError<E>>
where
    G: Kind,
    P: Sight<G>,
    E: Send + Sync + 'static,
    F: Future<Output = Result<Vec<G::Made>, E>>,
    S: Future<Output = ()>,
{
    let look = |i: usize, claims| ready(places[i].look(claims));
    drive_many_by(places, look, order, found, make, sleep).await
}

/// The same for places that are looked at by `look`.
///
/// `look` gets the number of a place, and the argument that [`Sight::look`] has. `make` gets the numbers
/// of the places to make values for, and returns them in that order.
pub(crate) async fn drive_many_by<G, P, L, E, F, S>(
    places: &[P],
    look: impl Fn(usize, bool) -> L,
    order: Order,
    found: &mut [Option<G::Value>],
    mut make: impl FnMut(Vec<usize>) -> F,
    sleep: impl Fn(Duration) -> S,
) -> Result<(), CreateError<E>>
where
    G: Kind,
    P: Place<G>,
    L: Future<Output = Look<G::Value, G::Claim>>,
    E: Send + Sync + 'static,
    F: Future<Output = Result<Vec<G::Made>, E>>,
    S: Future<Output = ()>,
{
    let makes = order.freshness != Freshness::CacheOnly;
    let mut limit = pin!(None::<S>);
    let mut over = false;
    let backoff = Backoff::new();
    loop {
        let mut leads: Vec<(usize, Lead<G, P>)> = Vec::new();
        // By the address of the flag: keys that come twice in one batch.
        let mut led: HashMap<usize, usize> = HashMap::new();
        let mut twins: Vec<(usize, usize)> = Vec::new();
        let mut lacks = false;
        for (i, place) in places.iter().enumerate().filter(|(i, _)| found[*i].is_none()).collect::<Vec<_>>() {
            let (claim, from, usable) = match look(i, makes).await {
                Look::Fresh(value) => {
                    found[i] = Some(value);
                    continue;
                }
                Look::Usable { value, claim, from, state } => (claim, from, Some((value, state))),
                Look::Led { claim } => {
                    led.insert(address(place.flag(&claim)), i);
                    leads.push((i, Lead::begin(place, claim)));
                    continue;
                }
                Look::Missing { claim, from } => (claim, from, None),
                Look::Failed { failure, claim, from } => match failure.downcast::<E>() {
                    Ok(error) => return Err(CreateError::Creator(error)),
                    Err(_) => (claim, from, None),
                },
                Look::Nothing => {
                    lacks = true;
                    continue;
                }
                Look::Again => continue,
            };
            if makes {
                let at = address(place.flag(&claim));
                if let Some(twin) = led.get(&at) {
                    twins.push((i, *twin));
                    continue;
                }
                let won = match from {
                    Some(from) => Lead::win(place, claim, from),
                    None => Err(claim),
                };
                if let Ok(lead) = won {
                    if let Some(lead) = lead.still_needed() {
                        led.insert(at, i);
                        leads.push((i, lead));
                    }
                    continue;
                }
            }
            found[i] = usable.filter(|(_, state)| order.takes(*state)).map(|usable| serve(place, usable));
            lacks |= !makes && found[i].is_none();
        }
        if lacks {
            return Err(CreateError::NotCached);
        }
        if !leads.is_empty() {
            create(places, &look, leads, found, &mut make).await?;
        }
        for (twin, other) in twins {
            found[twin] = found[twin].take().or_else(|| found[other].clone());
        }
        for (i, place) in places.iter().enumerate() {
            if found[i].is_some() {
                continue;
            }
            let claim = match look(i, false).await {
                Look::Fresh(value) => {
                    found[i] = Some(value);
                    continue;
                }
                Look::Usable { value, state, .. } if order.takes(state) => {
                    found[i] = Some(serve(place, (value, state)));
                    continue;
                }
                Look::Missing { claim, from: None } | Look::Usable { claim, from: None, .. } => claim,
                // Free, or in between: for the next round.
                _ => continue,
            };
            let Some(waiting) = Waiting::join(place, claim, false)? else { continue };
            if let (None, Some(wait)) = (limit.as_ref().get_ref(), order.wait) {
                limit.set(Some(sleep(wait)));
            }
            let lent = place.lend();
            let waited = waiting.wait(limit.as_mut(), &mut over).await;
            drop(lent);
            match waited {
                Waited::Outcome(outcome) => match &*outcome {
                    Outcome::Value(value) if place.suits(value) => found[i] = Some(value.clone()),
                    Outcome::Value(_) => {}
                    Outcome::Failed(failure) => {
                        if let Ok(error) = Arc::clone(failure).downcast::<E>() {
                            let now = look(i, false).await;
                            found[i] = Some(stand_in(place, now).ok_or(CreateError::Creator(error))?);
                        }
                    }
                    Outcome::Panicked => return Err(CreateError::LeaderPanicked),
                    Outcome::Abandoned => {}
                },
                Waited::Heir(_) => unreachable!("a batch is never handed the lead"),
                Waited::TimedOut => {
                    place.count(Moment::TimedOut);
                    return Err(CreateError::TimedOut);
                }
            }
        }
        if found.iter().all(Option::is_some) {
            return Ok(());
        }
        backoff.snooze();
    }
}

fn address(flag: &AtomicU8) -> usize {
    std::ptr::from_ref(flag).addr()
}

/// One call of the creator, for all that is led.
async fn create<G, P, L, E, F>(
    places: &[P],
    look: &impl Fn(usize, bool) -> L,
    leads: Vec<(usize, Lead<G, P>)>,
    found: &mut [Option<G::Value>],
    make: &mut impl FnMut(Vec<usize>) -> F,
) -> Result<(), CreateError<E>>
where
    G: Kind,
    P: Place<G>,
    L: Future<Output = Look<G::Value, G::Claim>>,
    E: Send + Sync + 'static,
    F: Future<Output = Result<Vec<G::Made>, E>>,
{
    let asked = leads.len();
    let numbers: Vec<u64> = leads.iter().map(|(_, lead)| lead.number()).collect();
    let ids = leads.iter().map(|(i, _)| *i).collect();
    // Called as part of leading.
    let creator = pin!(Some(async move { make(ids).await }));
    let mut creator = Borrowed::new(creator);
    let mut leads = Leads { leads, panicked: false };
    leads.leads.iter_mut().for_each(|(_, lead)| lead.run());
    let begun = leads.leads[0].1.now();
    let made = Leading::new(&numbers, &mut creator, &mut leads.panicked).await;
    let took = leads.leads[0].1.now().saturating_duration_since(begun);
    let leads = leads.take();
    match made {
        Ok(made) if made.len() == asked => {
            // Their common time, in equal parts.
            let each = took / u32::try_from(asked).unwrap_or(u32::MAX);
            for ((i, lead), made) in leads.into_iter().zip(made) {
                lead.count(Moment::Created(each));
                found[i] = Some(lead.publish(made, each));
            }
            Ok(())
        }
        Ok(made) => Err(CreateError::WrongCount { asked, made: made.len() }),
        Err(error) => {
            let error = Arc::new(error);
            let mut failed = Vec::new();
            for (i, lead) in leads {
                lead.fail(Arc::clone(&error) as Failure);
                failed.push(i);
            }
            for i in failed {
                let now = look(i, false).await;
                found[i] = Some(stand_in(&places[i], now).ok_or(CreateError::Creator(Arc::clone(&error)))?);
            }
            Ok(())
        }
    }
}

/// Tells all leads if their creator panics.
struct Leads<G: Kind, P: Place<G>> {
    leads: Vec<(usize, Lead<G, P>)>,
    panicked: bool,
}

impl<G: Kind, P: Place<G>> Leads<G, P> {
    fn take(mut self) -> Vec<(usize, Lead<G, P>)> {
        std::mem::take(&mut self.leads)
    }
}

impl<G: Kind, P: Place<G>> Drop for Leads<G, P> {
    fn drop(&mut self) {
        for (_, lead) in &mut self.leads {
            lead.set_panicked(self.panicked);
        }
    }
}
