//! Flights: who makes a value now, who waits for it, and what came of it. Nothing here waits.
//!
//! A *version* is guarded by one byte, its flag. Whoever takes the flag from a free state to `BUSY` leads; the creation
//! is then a [`Flight`], found by the address of the flag in one of some side buckets. A version that nobody makes anew
//! costs the byte and nothing else.
//!
//! ```text
//! flag:    IDLE | HELD | TIRED --(win)--> BUSY --(land)--> ENDED                a newer version has taken over
//!                                           |  --(land)--> IDLE | HELD | TIRED  there is none: the next may try
//!                                           +--(hand over)--> BUSY, led by the waiter that came first
//! flight:  waiting --(land)--> landed, for ever
//!                  --(overtake)--> landed for those who wait; its leader still lands it
//! ```
//!
//! # Invariants
//! - **G1, one leader.** The flag leaves the free states by a compare-exchange, or is BUSY from its beginning, by whoever
//!   makes its version known. Who wins it, begins with it or inherits it is the one leader until it lands the flight or
//!   hands it over.
//! - **G2, one flight.** While a flag is BUSY its bucket holds at most one flight for it; leader and waiters find the
//!   same one, whoever comes first. Under the bucket's lock "BUSY" and "not landed" are one.
//! - **G3, nobody is forgotten.** A waiter registers under the flight's lock, or finds it landed there. Landing empties
//!   the list under that lock and wakes all; a hand-over takes one off it and wakes that one, which then leads, or hands
//!   over in its turn when it is dropped.
//! - **G4, wakers and outcomes are the users'.** They are cloned, woken and dropped while no lock is held.
//! - **G5, the address stays.** Leader and waiters keep the version's memory, so no other flag gets its address meanwhile.
//!
//! # Orderings
//! | name    | where                                    | pairs with | carries                                          |
//! |---------|------------------------------------------|------------|--------------------------------------------------|
//! | `WIN`   | compare-exchange, free → BUSY            | nobody     | nothing; G1 needs only atomicity. What earlier leaders did a late winner sees through the bucket's lock, which it takes next |
//! | `LAND`  | store, BUSY → free or ENDED              | `SEE`      | what the leader did; and with HELD, until when   |
//! | `SEE`   | load                                     | `LAND`     | the same                                         |
//!
//! # Cost
//! Leading: a compare-exchange, two allocations, two short locks each at the begin and the end, whoever waits or not.
//! Waiting: a registration, O(log waiters), and one more for each wake-up.
//! # Source
//! The dogpile lock: M. Bayer, dogpile.core, 2011 (one regenerates, the others take the stale value). Parking in side
//! buckets by address: WebKit's ParkingLot, F. Pizlo, 2016; our departure: what waits is a waker, so threads and tasks
//! stand in one list, and what is parked on is an object of its own, so that a late waker can't reach the next creation.
#![forbid(unsafe_code)]

use crate::sync::{Arc, AtomicU8, Mutex, Ordering, PlainMutex, Tally, Thread, lock, lock_plain, orderings};
use crate::time::Instant;
use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

orderings! { gate: WIN = Relaxed, LAND = Release, SEE = Acquire }

/// Nobody makes a newer version.
pub(crate) const IDLE: u8 = 0;
/// Nobody does: the last who tried failed, and until a time that its owner knows nobody shall try again.
pub(crate) const HELD: u8 = 1;
/// Nobody does: somebody tried ahead of time and failed. It is tried again in time.
pub(crate) const TIRED: u8 = 2;
/// Somebody does. The lowest bit stays what it was: whether this began as `HELD`.
pub(crate) const BUSY: u8 = 0x80;
/// Nobody will: this version has been replaced, or taken out. Look again.
pub(crate) const ENDED: u8 = 0x82;

/// Whether somebody makes a newer version.
pub(crate) fn is_busy(flag: u8) -> bool {
    flag | HELD == BUSY | HELD
}

/// Whether the last who tried failed, somebody trying again or not.
pub(crate) fn was_held(flag: u8) -> bool {
    flag == HELD || flag == BUSY | HELD
}

/// What a creator returned instead of a value.
pub(crate) type Failure = Arc<dyn Any + Send + Sync>;

/// What came of a flight, for those who waited.
pub(crate) enum Outcome<T> {
    Value(T),
    Failed(Failure),
    /// Two leaders, one after the other, panicked.
    Panicked,
    /// The leader went, and nobody took over. Look again.
    Abandoned,
}

/// Who leads.
#[derive(Clone)]
pub(crate) struct Leader {
    pub(crate) since: Instant,
    pub(crate) thread: Thread,
}

/// One creation.
pub(crate) struct Flight<T> {
    /// Unique in the process: addresses come back.
    number: u64,
    state: Mutex<State<T>>,
    /// For `explain` only. Set by the leader, a little after its win.
    leader: PlainMutex<Option<Leader>>,
}

struct State<T> {
    landed: Option<Arc<Outcome<T>>>,
    /// In the order in which they came.
    waiters: BTreeMap<u64, Waiter>,
    next: u64,
    /// The waiter that was handed the lead and has not taken it yet.
    heir: Option<u64>,
    panics: u32,
}

struct Waiter {
    waker: Waker,
    may_lead: bool,
}

/// What a waiter finds in the end.
pub(crate) enum Landing<T> {
    Outcome(Arc<Outcome<T>>),
    /// It leads from now on.
    Heir,
}

static NUMBERS: Tally = Tally::new(1);

impl<T> Flight<T> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            state: Mutex::new(State {
                landed: None,
                waiters: BTreeMap::new(),
                next: 0,
                heir: None,
                panics: 0,
            }),
            leader: PlainMutex::new(None),
        })
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn set_leader(&self, leader: Leader) {
        *lock_plain(&self.leader) = Some(leader);
    }

    pub(crate) fn leader(&self) -> Option<Leader> {
        lock_plain(&self.leader).clone()
    }

    /// Looks for the end, and registers to be woken at it. `ticket` is the waiter's place in the list.
    pub(crate) fn poll(&self, ticket: &mut Option<u64>, may_lead: bool, waker: &Waker) -> Option<Landing<T>> {
        let waker = waker.clone();
        let (landing, former) = {
            let mut state = lock(&self.state);
            let landing = state.landing(*ticket);
            if landing.is_some() {
                (landing, Some(waker))
            } else {
                let at = *ticket.get_or_insert_with(|| {
                    state.next += 1;
                    state.next
                });
                let former = state.waiters.insert(at, Waiter { waker, may_lead });
                (None, former.map(|waiter| waiter.waker))
            }
        };
        if landing.is_some() {
            *ticket = None;
        }
        if let Some(former) = former {
            // The lead may just have been handed over: it must not be lost in a panic.
            quietly(|| drop(former));
        }
        landing
    }

    /// Leaves the list. What had come by then is the waiter's all the same.
    pub(crate) fn leave(&self, ticket: &mut Option<u64>) -> Option<Landing<T>> {
        let at = ticket.take()?;
        let (landing, former) = {
            let mut state = lock(&self.state);
            let former = state.waiters.remove(&at);
            (state.landing(Some(at)), former)
        };
        quietly(|| drop(former));
        landing
    }
}

// loom does not see the counts of `Arc`: whoever drops the last one has seen what the others did.
#[cfg(dogpile_loom)]
impl<T> Drop for Flight<T> {
    fn drop(&mut self) {
        drop(lock(&self.state));
    }
}

impl<T> State<T> {
    fn landing(&mut self, ticket: Option<u64>) -> Option<Landing<T>> {
        // The heir first: what it was handed somebody must give back, whatever else has come meanwhile.
        if ticket.is_some() && self.heir == ticket {
            self.heir = None;
            return Some(Landing::Heir);
        }
        self.landed.as_ref().map(|outcome| Landing::Outcome(Arc::clone(outcome)))
    }
}

/// By the address of the flag.
type Bucket<T> = HashMap<usize, Arc<Flight<T>>, ahash::RandomState>;

/// The flights of one cache, or of one gate.
pub(crate) struct Flights<T> {
    buckets: Box<[Mutex<Bucket<T>>]>,
}

impl<T> Flights<T> {
    /// With so many side buckets, rounded up to a power of two.
    pub(crate) fn new(buckets: usize) -> Self {
        Self { buckets: (0..buckets.next_power_of_two()).map(|_| Mutex::new(Bucket::default())).collect() }
    }

    fn bucket(&self, flag: &AtomicU8) -> (usize, &Mutex<Bucket<T>>) {
        let place = std::ptr::from_ref(flag).addr();
        // The high bits of the product depend on all bits of the address.
        let mixed = (place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        (place, &self.buckets[mixed as usize & (self.buckets.len() - 1)])
    }

    /// Takes the flag from the free state `from`, if it is still in it: the caller leads then (G1).
    pub(crate) fn win(&self, flag: &AtomicU8, from: u8) -> Option<Arc<Flight<T>>> {
        flag.compare_exchange(from, BUSY | from & HELD, ord::WIN(), Ordering::Relaxed).ok()?;
        Some(self.begin(flag))
    }

    /// The flight of a flag that the caller has won, or has put in as `BUSY`.
    pub(crate) fn begin(&self, flag: &AtomicU8) -> Arc<Flight<T>> {
        let (place, bucket) = self.bucket(flag);
        // A waiter may have been quicker (G2).
        Self::get_or_add(place, &mut lock(bucket))
    }

    /// The flight of a flag, to wait for it. `None`: it has ended.
    pub(crate) fn join(&self, flag: &AtomicU8) -> Option<Arc<Flight<T>>> {
        let (place, bucket) = self.bucket(flag);
        let mut bucket = lock(bucket);
        // Whoever ends a flight changes the flag under this lock, so what is BUSY now has not landed (G2).
        is_busy(flag.load(ord::SEE())).then(|| Self::get_or_add(place, &mut bucket))
    }

    fn get_or_add(place: usize, bucket: &mut Bucket<T>) -> Arc<Flight<T>> {
        Arc::clone(bucket.entry(place).or_insert_with(Flight::new))
    }

    /// Who leads the flight of a flag.
    pub(crate) fn leader(&self, flag: &AtomicU8) -> Option<Leader> {
        let (place, bucket) = self.bucket(flag);
        let flight = lock(bucket).get(&place).map(Arc::clone);
        flight?.leader()
    }

    /// Ends a flight: the flag becomes `to`, and all who wait get `outcome`. By its leader.
    pub(crate) fn land(&self, flag: &AtomicU8, flight: &Arc<Flight<T>>, to: u8, outcome: Outcome<T>) {
        let outcome = Arc::new(outcome);
        let (_, bucket) = self.bucket(flag);
        let waiters = {
            let mut bucket = lock(bucket);
            let mut state = lock(&flight.state);
            Self::close(flag, flight, to, &mut bucket);
            state.landed.get_or_insert(outcome);
            std::mem::take(&mut state.waiters)
        };
        wake(waiters.into_values());
    }

    /// Newer state has taken the place of the flag's version: whoever waits has it at once (M10). The leader goes on, and
    /// lands the flight for itself.
    pub(crate) fn overtake(&self, flag: &AtomicU8, outcome: impl FnOnce() -> Outcome<T>) {
        let (place, bucket) = self.bucket(flag);
        let flight = lock(bucket).get(&place).map(Arc::clone);
        let Some(flight) = flight else { return };
        let outcome = Arc::new(outcome());
        let waiters = {
            let mut state = lock(&flight.state);
            state.landed.get_or_insert(outcome);
            std::mem::take(&mut state.waiters)
        };
        wake(waiters.into_values());
    }

    /// The leader goes without a result. The waiter that came first leads in its place; if there is none that may, or
    /// this was the second panic, the flight ends, and the flag becomes `to`. True: a waiter leads.
    pub(crate) fn hand_over(&self, flag: &AtomicU8, flight: &Arc<Flight<T>>, panicked: bool, to: u8) -> bool {
        let (_, bucket) = self.bucket(flag);
        let mut taken_over = false;
        let waiters = {
            let mut bucket = lock(bucket);
            let mut state = lock(&flight.state);
            state.panics += u32::from(panicked);
            let given_up = panicked && state.panics >= 2;
            let heir = state.waiters.iter().find(|(_, waiter)| waiter.may_lead).map(|(at, _)| *at);
            match heir {
                Some(heir) if !given_up => {
                    state.heir = Some(heir);
                    taken_over = true;
                    let waiter = state.waiters.remove(&heir).expect("it was found there under this lock");
                    BTreeMap::from([(heir, waiter)])
                }
                _ => {
                    Self::close(flag, flight, to, &mut bucket);
                    let outcome = if given_up { Outcome::Panicked } else { Outcome::Abandoned };
                    state.landed.get_or_insert_with(|| Arc::new(outcome));
                    std::mem::take(&mut state.waiters)
                }
            }
        };
        wake(waiters.into_values());
        taken_over
    }

    fn close(flag: &AtomicU8, flight: &Arc<Flight<T>>, to: u8, bucket: &mut Bucket<T>) {
        let removed = bucket.remove(&std::ptr::from_ref(flag).addr());
        debug_assert!(removed.is_some_and(|other| Arc::ptr_eq(&other, flight)), "G2: one flight a flag");
        flag.store(to, ord::LAND());
    }
}

/// Wakes them all.
fn wake(waiters: impl Iterator<Item = Waiter>) {
    waiters.for_each(|waiter| quietly(|| waiter.waker.wake()));
}

/// A waker that panics is its executor's trouble, and not the leader's, nor that of others who wait.
pub(crate) fn quietly(call: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
        // The payload's destructor may panic in its turn.
        std::mem::forget(panic);
    }
}

pub(crate) fn see(flag: &AtomicU8) -> u8 {
    flag.load(ord::SEE())
}
