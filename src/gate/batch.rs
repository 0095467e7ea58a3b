//! Many places at once: one creator call for all that are led.
//!
//! A round claims whatever is free, without waiting; makes and publishes all of that in one call; and only then, leading
//! nothing any more, waits for what others make, one after another (M11). So batches that overlap can't wait for each
//! other in a circle. A waiter of a batch never inherits the lead: the batch may be asleep on another flight just then.
//! What others began and gave up is led in a further round, by a further call of the creator.
#![forbid(unsafe_code)]

use super::drive::{Lead, Look, Moment, Order, Place, Waited, Waiting};
use super::flight::{Failure, Outcome};
use super::led::Leading;
use super::policy::Freshness;
use crate::error::CreateError;
use crate::sync::{Arc, Backoff};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

/// Gets the values of all places into `found`. On an error `found` has those that there are.
///
/// `make` gets the numbers of the places to make values for, and returns them in that order.
pub(crate) async fn drive_many<P, E, F, S>(
    places: &[P],
    order: Order,
    found: &mut [Option<P::Value>],
    mut make: impl FnMut(Vec<usize>) -> F,
    sleep: impl Fn(Duration) -> S,
) -> Result<(), CreateError<E>>
where
    P: Place,
    E: Send + Sync + 'static,
    F: Future<Output = Result<Vec<P::Made>, E>>,
    S: Future<Output = ()>,
{
    let makes = order.freshness != Freshness::CacheOnly;
    let mut limit = pin!(None::<S>);
    let backoff = Backoff::new();
    loop {
        let mut leads: Vec<(usize, Lead<P>)> = Vec::new();
        let mut twins: Vec<(usize, usize)> = Vec::new();
        for (i, place) in places.iter().enumerate().filter(|(i, _)| found[*i].is_none()).collect::<Vec<_>>() {
            let (claim, from, usable) = match place.look(makes).await {
                Look::Fresh(value) => {
                    found[i] = Some(value);
                    continue;
                }
                Look::Usable { value, claim, from, stale } => (claim, from, Some((value, stale))),
                Look::Led { claim } => {
                    leads.push((i, Lead::begin(place, claim)));
                    continue;
                }
                Look::Missing { claim, from } => (claim, from, None),
                Look::Failed { failure, claim, from } => match failure.downcast::<E>() {
                    Ok(error) => return Err(CreateError::Creator(error)),
                    Err(_) => (claim, from, None),
                },
                Look::Nothing => return Err(CreateError::NotCached),
                Look::Again => continue,
            };
            if makes {
                let won = match from {
                    Some(from) => Lead::win(place, claim, from),
                    None => Err(claim),
                };
                match won {
                    Ok(lead) => {
                        leads.extend(lead.still_needed().map(|lead| (i, lead)));
                        continue;
                    }
                    // The same key twice in one batch.
                    Err(claim) => {
                        let twin = leads.iter().find(|(_, lead)| lead.is_of(place.flag(&claim)));
                        twins.extend(twin.map(|(other, _)| (i, *other)));
                    }
                }
            }
            if let Some((value, stale)) = usable
                && order.freshness != Freshness::WaitFresh
            {
                if stale {
                    place.count(Moment::StaleServed);
                }
                found[i] = Some(value);
            } else if !makes {
                return Err(CreateError::NotCached);
            }
        }
        if !leads.is_empty() {
            create(leads, found, &mut make).await?;
        }
        for (twin, other) in twins {
            found[twin] = found[twin].take().or_else(|| found[other].clone());
        }
        for (i, place) in places.iter().enumerate() {
            if found[i].is_some() {
                continue;
            }
            let claim = match place.look(false).await {
                Look::Fresh(value) => {
                    found[i] = Some(value);
                    continue;
                }
                Look::Missing { claim, from: None } | Look::Usable { claim, from: None, .. } => claim,
                // Free, or in between: for the next round.
                _ => continue,
            };
            let fallback = place.fallback(&claim);
            let Some(waiting) = Waiting::join(place, claim, false)? else { continue };
            if let (None, Some(wait)) = (limit.as_ref().get_ref(), order.wait) {
                limit.set(Some(sleep(wait)));
            }
            match waiting.wait(limit.as_mut()).await {
                Waited::Outcome(outcome) => match &*outcome {
                    Outcome::Value(value) => found[i] = Some(value.clone()),
                    Outcome::Failed(failure) => {
                        if let Ok(error) = Arc::clone(failure).downcast::<E>() {
                            place.count(Moment::StaleServed);
                            found[i] = Some(fallback.ok_or(CreateError::Creator(error))?);
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

/// One call of the creator, for all that is led.
async fn create<P, E, F>(
    leads: Vec<(usize, Lead<P>)>,
    found: &mut [Option<P::Value>],
    make: &mut impl FnMut(Vec<usize>) -> F,
) -> Result<(), CreateError<E>>
where
    P: Place,
    E: Send + Sync + 'static,
    F: Future<Output = Result<Vec<P::Made>, E>>,
{
    let mut leads = Leads { leads, panicked: false };
    let asked = leads.leads.len();
    let begun = leads.leads[0].1.now();
    let made = {
        let numbers: Vec<u64> = leads.leads.iter().map(|(_, lead)| lead.number()).collect();
        let creator = make(leads.leads.iter().map(|(i, _)| *i).collect());
        Leading::new(&numbers, pin!(creator), &mut leads.panicked).await
    };
    let took = leads.leads[0].1.now().saturating_duration_since(begun);
    let leads = leads.take();
    match made {
        Ok(made) if made.len() == asked => {
            // Their common time, in equal parts.
            let each = took / u32::try_from(asked).unwrap_or(u32::MAX);
            for ((i, lead), made) in leads.into_iter().zip(made) {
                lead.count(Moment::Created(each));
                found[i] = Some(lead.publish(made, each).await);
            }
            Ok(())
        }
        Ok(made) => Err(CreateError::WrongCount { asked, made: made.len() }),
        Err(error) => {
            let error = Arc::new(error);
            let mut all = true;
            for (i, lead) in leads {
                found[i] = lead.fallback();
                match &found[i] {
                    Some(_) => lead.count(Moment::StaleServed),
                    None => all = false,
                }
                lead.fail(Arc::clone(&error) as Failure);
            }
            if all { Ok(()) } else { Err(CreateError::Creator(error)) }
        }
    }
}

/// Tells all leads if their creator panics.
struct Leads<P: Place> {
    leads: Vec<(usize, Lead<P>)>,
    panicked: bool,
}

impl<P: Place> Leads<P> {
    fn take(mut self) -> Vec<(usize, Lead<P>)> {
        std::mem::take(&mut self.leads)
    }
}

impl<P: Place> Drop for Leads<P> {
    fn drop(&mut self) {
        for (_, lead) in &mut self.leads {
            lead.set_panicked(self.panicked);
        }
    }
}
