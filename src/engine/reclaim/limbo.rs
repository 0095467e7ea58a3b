//! Limbo: what has been retired and may still be looked at. One list for each shard of a cache.
//!
//! `spare --(it becomes current)--> open --(full, or maintenance wants it)--> sealed --(its grace period)--> emptied: spare`
//!
//! Writers put garbage into the current *bag*: they claim a place by fetch-add and store into it. A bag with enough in it is
//! replaced by a spare one and *sealed*: closed, so that no later claim succeeds, then given a grace period. Whoever retires
//! something frees what is due, at the end of its call.
//!
//! # Invariants
//! - **L1, covered.** Every claim precedes the closing of its bag, and every unlink its claim; the grace period begins
//!   after the closing. So it covers all readers of all that the bag holds.
//! - **L2, stored.** A claimant is pinned from before its claim until after its store. So when the grace period is
//!   over, every claimed place is filled, and nobody touches the bag any more: it may be used again.
//! - **L3, one owner.** A bag is sealed once, under the lock, by who finds it current there; what `take` yields it yields
//!   once.
//!
//! # Orderings
//! | name     | where                     | pairs with       | carries                                         |
//! |----------|---------------------------|------------------|-------------------------------------------------|
//! | `OPEN`   | store of `current`        | `CURRENT`        | the bag's fields                                |
//! | `CURRENT`| load of `current`         | `OPEN`           | the same                                        |
//! | `PLACE`  | fetch-add of `claimed`    | the fence that begins a grace period | the unlink of what goes there (L1) |
//! | `CLOSE`  | swap of `claimed`         | nobody           | nothing itself: that fence comes after it       |
//! | `FILL`   | store, load of an item    | the grace period | nothing of its own: L2 orders them              |
//!
//! # Progress
//! A bag has room for more than it is sealed with. So nobody waits for one who sleeps while it seals, until the rest is
//! full, too.
//!
//! # Cost
//! Retiring: one fetch-add, one store; a second fetch-add where weight counts. Once a bag: a lock, a grace period. Once for up
//! to four bags: a lock, a look at all hazard slots. No allocation, once there are as many bags as are filled in a grace
//! period. `ARCHITECTURE.md` has figures.

use super::{Reclaim, holders};
use crate::sync::{
    AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, lock, orderings,
};
use std::collections::VecDeque;
use std::ptr::{self, NonNull};

orderings! { limbo: OPEN = Release, CURRENT = Acquire, PLACE = Release, CLOSE = Relaxed, FILL = Relaxed }

/// Places in a bag. Models make do with fewer.
const PLACES: usize = if cfg!(dogpile_loom) { 3 } else { 48 };
/// A bag is sealed at this many items at the latest, and there is room for as many as writers are likely to add meanwhile.
const MOST: usize = if cfg!(dogpile_loom) { 2 } else { 32 };
/// A bag is sealed at this many items even in the smallest cache.
const FEWEST: usize = if cfg!(dogpile_loom) { 2 } else { 4 };
/// Bags that are emptied at a time.
const BAGS: usize = 4;
/// Empty bags that are kept.
const SPARE: usize = 2 * BAGS;
/// So many items make a shard's garbage urgent, even in the smallest cache: their grace period is worth an effort then.
const URGENT: usize = 32;
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
    /// At so many items it is sealed. Written by its owner before it is opened.
    limit: usize,
    /// What the items weigh together. Relaxed: it only decides when to seal.
    weight: AtomicU64,
    items: [AtomicPtr<()>; PLACES],
}

impl Bag {
    fn allocate() -> NonNull<Self> {
        NonNull::from(Box::leak(Box::new(Self {
            claimed: AtomicUsize::new(0),
            limit: FEWEST,
            weight: AtomicU64::new(0),
            items: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
        })))
    }
}

#[cfg(dogpile_loom)]
impl Bag {
    /// Tells the model checker that the bag has one owner: whoever touches it meanwhile is found out (L2).
    fn own(&mut self) {
        self.claimed.with_mut(|_| ());
        self.weight.with_mut(|_| ());
        self.items.iter_mut().for_each(|item| item.with_mut(|_| ()));
    }
}

struct Sealed<G> {
    bag: NonNull<Bag>,
    len: usize,
    weight: u64,
    grace: G,
}

/// What is guarded by a limbo's lock. No user code runs under it, readers never take it.
struct Lists<G> {
    /// In the order of sealing, so that the first is due first.
    sealed: VecDeque<Sealed<G>>,
    /// Empty bags that nobody else knows.
    spare: Vec<NonNull<Bag>>,
    /// Items in `sealed`, and their weight.
    waiting: usize,
    weight: u64,
    /// From here on they are urgent. Doubled where that did not help.
    urgent: usize,
    urgent_weight: u64,
}

pub(crate) struct Limbo<R: Reclaim> {
    current: AtomicPtr<Bag>,
    lists: Mutex<Lists<R::Grace>>,
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
        let lists = Lists {
            sealed: VecDeque::new(),
            spare: Vec::new(),
            waiting: 0,
            weight: 0,
            urgent: URGENT,
            urgent_weight: u64::MAX,
        };
        Self {
            current: AtomicPtr::new(Bag::allocate().as_ptr()),
            lists: Mutex::new(lists),
            due: AtomicBool::new(false),
        }
    }

    /// Puts `item` into limbo. `population` and `heavy` say how much garbage is reasonable: at most a sixteenth of
    /// what is alive.
    ///
    /// # Safety
    /// - The caller unlinked `item` from everything a new search can reach, under `pin`, and retires it only here.
    #[inline]
    pub(crate) unsafe fn retire(
        &self,
        item: Garbage,
        weight: u64,
        heavy: u64,
        population: impl Fn() -> usize,
        pin: &R::Pin,
    ) {
        loop {
            let current = self.current.load(ord::CURRENT());
            // SAFETY: the caller is pinned, so a bag it sees as current is not freed before it unpins (L2).
            let bag = unsafe { &*current };
            let place = bag.claimed.fetch_add(1, ord::PLACE());
            if let Some(free) = bag.items.get(place) {
                free.store(item.0, ord::FILL());
                let too_heavy = heavy != 0
                    && bag.weight.fetch_add(weight, Ordering::Relaxed).saturating_add(weight) >= heavy;
                if place + 1 >= bag.limit || too_heavy {
                    // Who holds the lock seals it, or the next one does.
                    self.enough(current, false, &population, heavy, pin);
                }
                return;
            }
            self.enough(current, true, &population, heavy, pin);
        }
    }

    /// Seals a bag with enough in it, for who has the lock.
    #[cold]
    #[inline(never)]
    fn enough(
        &self,
        current: *mut Bag,
        wait: bool,
        population: &impl Fn() -> usize,
        heavy: u64,
        pin: &R::Pin,
    ) {
        let lists = if wait { Some(lock(&self.lists)) } else { self.lists.try_lock().ok() };
        if let Some(lists) = lists {
            self.seal(lists, current, population(), heavy, pin);
        }
    }

    /// Seals the current bag if it holds anything.
    pub(crate) fn flush(&self, population: usize, pin: &R::Pin) {
        let lists = lock(&self.lists);
        let current = self.current.load(ord::CURRENT());
        // SAFETY: pinned, as in `retire`.
        let claimed = unsafe { &(*current).claimed };
        if claimed.load(Ordering::Relaxed) != 0 {
            self.seal(lists, current, population, 0, pin);
        }
        self.due.store(true, Ordering::Relaxed);
    }

    /// As `flush`, by who retires nothing: all that waits is urgent, once. Returns whether anything does.
    pub(crate) fn tend(&self, population: usize, pin: &R::Pin) -> bool {
        let waits = self.len(pin) != 0;
        if waits {
            self.flush(population, pin);
            lock(&self.lists).urgent = 1;
        }
        waits
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

    fn seal(
        &self,
        mut lists: MutexGuard<'_, Lists<R::Grace>>,
        current: *mut Bag,
        population: usize,
        heavy: u64,
        pin: &R::Pin,
    ) {
        // Relaxed: it is stored under the lock.
        if self.current.load(Ordering::Relaxed) != current {
            return;
        }
        let mut fresh = lists.spare.pop().unwrap_or_else(Bag::allocate);
        // SAFETY: a spare bag is its owner's alone (L2).
        unsafe { fresh.as_mut() }.limit = (population / 16).clamp(FEWEST, MOST);
        self.current.store(fresh.as_ptr(), ord::OPEN());
        // SAFETY: it was current under the lock, so this thread seals it (L3); it is freed only through `sealed`.
        let bag = unsafe { &*current };
        let len = bag.claimed.swap(CLOSED, ord::CLOSE()).min(PLACES);
        let weight = bag.weight.load(Ordering::Relaxed);
        let grace = R::begin(pin);
        R::note(pin, len);
        lists.waiting += len;
        lists.weight = lists.weight.saturating_add(weight);
        lists.urgent = lists.urgent.max(population / 4);
        if heavy != 0 {
            lists.urgent_weight = lists.urgent_weight.min(heavy.saturating_mul(4));
        }
        lists.sealed.push_back(Sealed { bag: NonNull::from(bag), len, weight, grace });
        self.due.store(true, Ordering::Relaxed);
    }

    /// Takes what may be freed now out of limbo, a few bags of it. What a guard still holds goes back, to be asked for
    /// again later.
    pub(crate) fn take(&self) -> Due<'_, R> {
        let mut due = Due { limbo: self, bags: [None; BAGS], opened: 0, items: [].iter(), held: Vec::new() };
        let mut lists = lock(&self.lists);
        if !lists.sealed.front().is_some_and(|first| R::is_over(&first.grace)) {
            let urgent = lists.waiting >= lists.urgent || lists.weight >= lists.urgent_weight;
            if lists.sealed.is_empty() || {
                drop(lists);
                let helped = R::help(urgent);
                lists = lock(&self.lists);
                if urgent && !helped {
                    // Somebody is pinned, and asking more often changes nothing about it.
                    lists.urgent = lists.waiting.saturating_mul(2).max(URGENT);
                    lists.urgent_weight = lists.weight.saturating_mul(2).max(1);
                }
                !helped
            } {
                return due;
            }
        }
        for place in &mut due.bags {
            if !lists.sealed.front().is_some_and(|first| R::is_over(&first.grace)) {
                break;
            }
            let Some(Sealed { bag, len, weight, .. }) = lists.sealed.pop_front() else { break };
            lists.waiting -= len;
            lists.weight = lists.weight.saturating_sub(weight);
            *place = Some((bag, len));
        }
        if due.bags[0].is_some() {
            lists.urgent = URGENT;
            lists.urgent_weight = u64::MAX;
            drop(lists);
            // After the end of the grace periods, so that every slot is seen that names one of these (R3).
            due.held = held();
        }
        due
    }

    /// Those of `due` that no guard holds; the others go back into limbo.
    pub(crate) fn unheld(&self, due: Vec<Garbage>) -> Vec<Garbage> {
        if due.is_empty() {
            return due;
        }
        let held = held();
        if held.is_empty() {
            return due;
        }
        // The order of `due` stays: models must not depend on addresses.
        let is_held = |item: &Garbage| held.binary_search(&item.plain()).is_ok();
        let (back, free): (Vec<_>, Vec<_>) = due.into_iter().partition(is_held);
        if !back.is_empty() {
            let pin = R::pin();
            for item in back {
                // SAFETY: it was unlinked long ago and just left limbo; nobody else knows of it but its holder.
                unsafe { self.retire(item, 0, 0, || 0, &pin) };
            }
        }
        free
    }

    /// Everything in limbo, for the index that is being dropped: no guard borrows it any more.
    pub(crate) fn drain(&mut self) -> Vec<Garbage> {
        let mut all = Vec::new();
        let mut lists = lock(&self.lists);
        let mut bags: Vec<_> = lists.sealed.drain(..).map(|sealed| (sealed.bag, sealed.len)).collect();
        bags.extend(lists.spare.drain(..).map(|bag| (bag, 0)));
        if let Some(current) = NonNull::new(self.current.swap(ptr::null_mut(), Ordering::Relaxed)) {
            // SAFETY: `&mut self`: no claimant is left.
            let claimed = unsafe { current.as_ref() }.claimed.load(Ordering::Relaxed);
            bags.push((current, claimed.min(PLACES)));
        }
        for (bag, len) in bags {
            // SAFETY: `&mut self`: no claimant is left, and each bag is in one place only (L3).
            let bag = unsafe { Box::from_raw(bag.as_ptr()) };
            let items = bag.items[..len].iter().map(|item| Garbage(item.load(ord::FILL())));
            all.extend(items.filter(|item| !item.0.is_null()));
        }
        all
    }

    /// How many objects wait to be freed.
    pub(crate) fn len(&self, _pin: &R::Pin) -> usize {
        let lists = lock(&self.lists);
        // SAFETY: pinned, as in `retire`.
        let bag = unsafe { &*self.current.load(ord::CURRENT()) };
        lists.waiting + bag.claimed.load(Ordering::Relaxed).min(PLACES)
    }

    /// In how many steps `take` yields what waits now.
    pub(crate) fn steps(&self) -> usize {
        lock(&self.lists).sealed.len().div_ceil(BAGS)
    }
}

impl<R: Reclaim> Drop for Limbo<R> {
    fn drop(&mut self) {
        // The index has drained and freed the garbage; this frees the bags of a limbo that never had any.
        let left = self.drain();
        debug_assert!(left.is_empty(), "the index frees its garbage before its limbo goes");
    }
}

/// The addresses that guards hold, in order.
fn held() -> Vec<usize> {
    let mut held = Vec::new();
    holders(|address| held.push(address.addr()));
    held.sort_unstable();
    held
}

/// What may be freed, from a few bags that nobody else knows any more. What is not taken from here goes back into limbo.
pub(crate) struct Due<'l, R: Reclaim> {
    limbo: &'l Limbo<R>,
    bags: [Option<(NonNull<Bag>, usize)>; BAGS],
    /// How many of them were begun, and what is left of the last.
    opened: usize,
    items: std::slice::Iter<'l, AtomicPtr<()>>,
    held: Vec<usize>,
}

impl<R: Reclaim> Due<'_, R> {
    #[cold]
    fn keep(&self, item: Garbage) {
        // SAFETY: it was unlinked long ago and just left limbo; nobody else knows of it but its holder.
        unsafe { self.limbo.retire(item, 0, 0, || 0, &R::pin()) };
    }
}

impl<R: Reclaim> Iterator for Due<'_, R> {
    type Item = Garbage;

    #[inline]
    fn next(&mut self) -> Option<Garbage> {
        loop {
            let Some(item) = self.items.next() else {
                let (bag, len) = (*self.bags.get(self.opened)?)?;
                self.opened += 1;
                // SAFETY: the grace period is over, so no claimant is left (L2), and `take` made us its owner (L3) until
                // `self` goes.
                self.items = unsafe { bag.as_ref() }.items[..len].iter();
                continue;
            };
            let place = item;
            let item = Garbage(place.load(ord::FILL()));
            // Empty for its next use: a claimant that a fork took away leaves its place as it was, and null is a leak only.
            // Models don't fork.
            if !cfg!(dogpile_loom) {
                place.store(ptr::null_mut(), ord::FILL());
            }
            if item.0.is_null() {
                continue;
            }
            if self.held.is_empty() || self.held.binary_search(&item.plain()).is_err() {
                return Some(item);
            }
            self.keep(item);
        }
    }
}

impl<R: Reclaim> Drop for Due<'_, R> {
    fn drop(&mut self) {
        while let Some(item) = self.next() {
            self.keep(item);
        }
        let mut bags = self.bags.iter().flatten().map(|(bag, _)| *bag).peekable();
        if bags.peek().is_none() {
            return;
        }
        let mut lists = lock(&self.limbo.lists);
        for mut bag in bags {
            #[cfg(dogpile_loom)]
            // SAFETY: ours alone, as in `next`.
            unsafe { bag.as_mut() }.own();
            if lists.spare.len() == SPARE {
                // SAFETY: it came from a box, and is ours alone, as in `next`.
                drop(unsafe { Box::from_raw(bag.as_ptr()) });
                continue;
            }
            // SAFETY: ours alone, as in `next`.
            let spare = unsafe { bag.as_mut() };
            spare.claimed = AtomicUsize::new(0);
            spare.weight = AtomicU64::new(0);
            lists.spare.push(bag);
        }
    }
}
