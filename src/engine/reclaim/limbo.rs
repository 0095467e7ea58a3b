//! Limbo: what has been retired and may still be looked at. One list for each shard of a cache.
//!
//! Writers put garbage into the current *bag*: they claim a place by fetch-add and store into it. A bag that is full,
//! or that maintenance wants to see gone, is replaced by a new one and *sealed*: closed, so that no later claim
//! succeeds, then given a grace period. Any thread that seals also frees what is due.
//!
//! # Invariants
//! - **L1, covered.** Every claim precedes the closing of its bag, and every unlink its claim; the grace period begins
//!   after the closing. So it covers all readers of all that the bag holds.
//! - **L2, stored.** A claimant is pinned from before its claim until after its store. So when the grace period is
//!   over, every claimed place is filled, and nobody touches the bag any more.
//! - **L3, one owner.** The thread whose CAS replaces a bag seals it; what `take` yields it yields once.
//!
//! # Orderings
//! | name     | where                     | pairs with       | carries                                         |
//! |----------|---------------------------|------------------|-------------------------------------------------|
//! | `BAG`    | load, CAS of `current`    | itself           | the new bag's fields                            |
//! | `PLACE`  | fetch-add of `claimed`    | `CLOSE`          | the unlink of what goes there (L1)              |
//! | `CLOSE`  | swap of `claimed`         | `PLACE`          | the same                                        |
//! | `FILL`   | store, load of an item    | the grace period | nothing of its own: L2 orders them              |
//!
//! # Cost
//! Retiring: one fetch-add, one store. Once a bag: two allocations, a lock held for a push, a grace period, a look at
//! all hazard slots for each bag that is freed.

use super::{Reclaim, holders};
use crate::sync::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Mutex, Ordering, lock, orderings};
use std::collections::VecDeque;
use std::ptr::{self, NonNull};

orderings! { limbo: BAG = AcqRel, BAG_LOAD = Acquire, PLACE = AcqRel, CLOSE = AcqRel, FILL = Relaxed }

/// Places in a bag. Models make do with fewer.
const PLACES: usize = if cfg!(dogpile_loom) { 2 } else { 32 };
/// A bag is sealed at this many items even in the smallest cache.
const FEWEST: usize = if cfg!(dogpile_loom) { 2 } else { 4 };
/// Added to `claimed`, it leaves no place for anybody.
const CLOSED: usize = usize::MAX / 2;

/// A retired object: its address, with its kind in the low bits. The room that retires knows how to free it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Garbage(pub(crate) *mut ());

impl Garbage {
    /// What a hazard slot would hold: the address without the kind.
    fn plain(&self) -> usize {
        self.0.addr() & !7
    }
}

struct Bag {
    claimed: AtomicUsize,
    limit: usize,
    /// What the items weigh together. Relaxed: it only decides when to seal.
    weight: AtomicU64,
    items: [AtomicPtr<()>; PLACES],
}

impl Bag {
    fn allocate(limit: usize) -> NonNull<Self> {
        NonNull::from(Box::leak(Box::new(Self {
            claimed: AtomicUsize::new(0),
            limit: limit.clamp(FEWEST, PLACES),
            weight: AtomicU64::new(0),
            items: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
        })))
    }
}

/// Tells the model checker that the memory goes: whoever touches it afterwards, or meanwhile, is found out (L2).
#[cfg(dogpile_loom)]
impl Drop for Bag {
    fn drop(&mut self) {
        self.claimed.with_mut(|_| ());
        self.weight.with_mut(|_| ());
        self.items.iter_mut().for_each(|item| item.with_mut(|_| ()));
    }
}

struct Sealed<G> {
    bag: NonNull<Bag>,
    len: usize,
    grace: G,
}

pub(crate) struct Limbo<R: Reclaim> {
    current: AtomicPtr<Bag>,
    /// In the order of sealing, so that the first is due first. No user code runs under the lock, readers never take it.
    sealed: Mutex<VecDeque<Sealed<R::Grace>>>,
    /// Items in `sealed`. Relaxed: for statistics.
    waiting: AtomicUsize,
    /// A bag was sealed since somebody last looked after the garbage. Relaxed: a hint.
    due: AtomicBool,
}

// SAFETY: bags are atomics shared by L1 to L3; the garbage in them is only addresses here, and the room that frees it
// bounds what it may be (`Index`'s own `Send` and `Sync`). A grace period is `Send` and only touched under the lock.
unsafe impl<R: Reclaim> Send for Limbo<R> {}
// SAFETY: as above.
unsafe impl<R: Reclaim> Sync for Limbo<R> {}

impl<R: Reclaim> Limbo<R> {
    pub(crate) fn new() -> Self {
        Self {
            current: AtomicPtr::new(Bag::allocate(FEWEST).as_ptr()),
            sealed: Mutex::new(VecDeque::new()),
            waiting: AtomicUsize::new(0),
            due: AtomicBool::new(false),
        }
    }

    /// Puts `item` into limbo. `population` and `heavy` say how much garbage is reasonable: at most a sixteenth of
    /// what is alive.
    ///
    /// # Safety
    /// - The caller unlinked `item` from everything a new search can reach, under `pin`, and retires it only here.
    pub(crate) unsafe fn retire(
        &self,
        item: Garbage,
        weight: u64,
        heavy: u64,
        population: usize,
        pin: &R::Pin,
    ) {
        loop {
            let current = self.current.load(ord::BAG_LOAD());
            // SAFETY: the caller is pinned, so a bag it sees as current is not freed before it unpins (L2).
            let bag = unsafe { &*current };
            let place = bag.claimed.fetch_add(1, ord::PLACE());
            if place < bag.limit {
                bag.items[place].store(item.0, ord::FILL());
                let too_heavy = heavy != 0
                    && bag.weight.fetch_add(weight, Ordering::Relaxed).saturating_add(weight) >= heavy;
                if place + 1 == bag.limit || too_heavy {
                    self.seal(current, population, pin);
                }
                return;
            }
            // Full, and not yet replaced by the one who filled it: nobody waits for a thread that may sleep.
            self.seal(current, population, pin);
        }
    }

    /// Seals the current bag if it holds anything.
    pub(crate) fn flush(&self, population: usize, pin: &R::Pin) {
        let current = self.current.load(ord::BAG_LOAD());
        // SAFETY: pinned, as in `retire`.
        let claimed = unsafe { &(*current).claimed };
        if claimed.load(Ordering::Relaxed) != 0 {
            self.seal(current, population, pin);
        }
        self.due.store(true, Ordering::Relaxed);
    }

    /// There is something to look after.
    pub(crate) fn note_due(&self) {
        self.due.store(true, Ordering::Relaxed);
    }

    /// Whether a look at the garbage is worth its price. Says so once for each bag.
    #[inline]
    pub(crate) fn has_due(&self) -> bool {
        self.due.load(Ordering::Relaxed) && self.due.swap(false, Ordering::Relaxed)
    }

    fn seal(&self, current: *mut Bag, population: usize, pin: &R::Pin) {
        let fresh = Bag::allocate(population / 16);
        if self.current.compare_exchange(current, fresh.as_ptr(), ord::BAG(), Ordering::Relaxed).is_err() {
            // SAFETY: `fresh` came from a box above and was never shared.
            drop(unsafe { Box::from_raw(fresh.as_ptr()) });
            return;
        }
        // SAFETY: this thread replaced the bag (L3) and frees it only through `sealed`, after its grace period.
        let bag = unsafe { &*current };
        let len = bag.claimed.swap(CLOSED, ord::CLOSE()).min(bag.limit);
        let grace = R::begin(pin);
        R::note(pin, len);
        self.waiting.fetch_add(len, Ordering::Relaxed);
        let bag = NonNull::from(bag);
        lock(&self.sealed).push_back(Sealed { bag, len, grace });
        self.due.store(true, Ordering::Relaxed);
    }

    /// Takes what may be freed now out of limbo, at most `bags` bags of it. What a guard still holds goes back, to be
    /// asked for again later.
    pub(crate) fn take(&self, bags: usize) -> Vec<Garbage> {
        let mut due = Vec::new();
        for _ in 0..bags {
            let is_over = |sealed: &VecDeque<Sealed<R::Grace>>| {
                sealed.front().is_some_and(|first| R::is_over(&first.grace))
            };
            let mut sealed = lock(&self.sealed);
            if !is_over(&sealed) {
                let urgent = self.waiting.load(Ordering::Relaxed) >= 32;
                drop(sealed);
                if !R::help(urgent) {
                    break;
                }
                sealed = lock(&self.sealed);
                if !is_over(&sealed) {
                    break;
                }
            }
            let Some(Sealed { bag, len, .. }) = sealed.pop_front() else { break };
            drop(sealed);
            self.waiting.fetch_sub(len, Ordering::Relaxed);
            // SAFETY: the grace period is over, so no claimant is left (L2), and `pop_front` made us its owner (L3).
            let bag = unsafe { Box::from_raw(bag.as_ptr()) };
            due.extend(bag.items[..len].iter().map(|item| Garbage(item.load(ord::FILL()))));
        }
        self.unheld(due)
    }

    /// Those of `due` that no guard holds; the others go back into limbo.
    pub(crate) fn unheld(&self, due: Vec<Garbage>) -> Vec<Garbage> {
        if due.is_empty() {
            return due;
        }
        let mut held = Vec::new();
        holders(|address| held.push(address.addr()));
        if held.is_empty() {
            return due;
        }
        held.sort_unstable();
        // The order of `due` stays: models must not depend on addresses.
        let is_held = |item: &Garbage| held.binary_search(&item.plain()).is_ok();
        let (back, free): (Vec<_>, Vec<_>) = due.into_iter().partition(is_held);
        if !back.is_empty() {
            let pin = R::pin();
            for item in back {
                // SAFETY: it was unlinked long ago and just left limbo; nobody else knows of it but its holder.
                unsafe { self.retire(item, 0, 0, 0, &pin) };
            }
        }
        free
    }

    /// Everything in limbo, for the index that is being dropped: no guard borrows it any more.
    pub(crate) fn drain(&mut self) -> Vec<Garbage> {
        let mut all = Vec::new();
        let mut bags: Vec<_> = lock(&self.sealed).drain(..).map(|sealed| sealed.bag).collect();
        bags.extend(NonNull::new(self.current.swap(ptr::null_mut(), Ordering::Relaxed)));
        for bag in bags {
            // SAFETY: `&mut self`: no claimant is left, and each bag is in one place only (L3).
            let bag = unsafe { Box::from_raw(bag.as_ptr()) };
            all.extend(
                bag.items.iter().map(|item| item.load(ord::FILL())).filter(|p| !p.is_null()).map(Garbage),
            );
        }
        all
    }

    /// How many objects wait to be freed.
    pub(crate) fn len(&self, _pin: &R::Pin) -> usize {
        // SAFETY: pinned, as in `retire`.
        let bag = unsafe { &*self.current.load(ord::BAG_LOAD()) };
        let current = bag.claimed.load(Ordering::Relaxed);
        let current = if current >= CLOSED { 0 } else { current.min(bag.limit) };
        self.waiting.load(Ordering::Relaxed) + current
    }
}

impl<R: Reclaim> Drop for Limbo<R> {
    fn drop(&mut self) {
        // The index has drained and freed the garbage; this frees the bags of a limbo that never had any.
        let left = self.drain();
        debug_assert!(left.is_empty(), "the index frees its garbage before its limbo goes");
    }
}
