//! Writing: where an entry is, or would go, and the one compare-exchange that changes it.

use super::bucket::{Bucket, Content, Meta, Node, SLOTS, Table, tag_of};
use super::walk::Kind;
use super::{CachedValue, Draft, Handle, Index, NodeKind, TAKEN, ord};
use crate::engine::reclaim::{Reclaim, Shared};
use crate::sync::{AtomicPtr, Backoff, Ordering};
use std::ptr;

/// Whether a search may wait for a migrator or inserter that is inside its few stores.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    Wait,
    /// Never: an evictor must not make an unrelated insert wait (H9).
    Try,
}

/// Where a key is.
pub(crate) enum Located<'p, K, V, R: Reclaim> {
    Occupied(Occupied<'p, K, V, R>),
    Vacant(Vacant<'p, K, V, R>),
    /// Being moved to the next table just now. Never the answer to a search that may wait.
    Busy,
}

/// A slot and the node it held.
pub(crate) struct Occupied<'p, K, V, R: Reclaim> {
    index: &'p Index<K, V, R>,
    pin: &'p R::Pin,
    table: Table<'p, Node<K, V>>,
    slot: &'p AtomicPtr<Node<K, V>>,
    node: Shared<'p, CachedValue<K, V>>,
}

/// What a glance finds.
pub(crate) enum Spot<'p, K, V, R: Reclaim> {
    Occupied(Occupied<'p, K, V, R>),
    Gap(Gap<'p, K, V, R>),
}

/// A bucket without the key and without a chain, as of its meta word, and the slot where the key would go.
pub(crate) struct Gap<'p, K, V, R: Reclaim> {
    place: Place<'p, K, V, R>,
    slot: usize,
}

/// A home bucket, as of its meta word.
struct Place<'p, K, V, R: Reclaim> {
    index: &'p Index<K, V, R>,
    pin: &'p R::Pin,
    table: Table<'p, Node<K, V>>,
    home: &'p Bucket<Node<K, V>>,
    meta: Meta,
    hash: u64,
}

/// A bucket without the key, and where the key would go.
pub(crate) struct Vacant<'p, K, V, R: Reclaim> {
    place: Place<'p, K, V, R>,
    /// The nodes of other keys with the same bits of a hash, as the search met them (H2). There are hardly ever any.
    alike: Vec<*mut Node<K, V>>,
    room: Room<'p, K, V>,
    /// A chained bucket without entries, to be unlinked on this occasion (H5).
    hollow: Option<&'p Bucket<Node<K, V>>>,
}

enum Room<'p, K, V> {
    Slot(&'p Bucket<Node<K, V>>, usize),
    /// Everything is full: a new bucket behind this one, the last.
    Behind(&'p Bucket<Node<K, V>>),
}

/// A node that this thread has unlinked, and must let go of.
#[must_use = "an unlinked node that is not retired leaks"]
pub(crate) struct Unlinked<'p, K, V, R: Reclaim> {
    index: &'p Index<K, V, R>,
    pin: &'p R::Pin,
    node: Shared<'p, CachedValue<K, V>>,
}

impl<'p, K, V, R: Reclaim> Unlinked<'p, K, V, R> {
    /// Gives the table's reference to limbo.
    #[inline(always)]
    pub(crate) fn retire(self) {
        let (weight, heavy) = if self.index.weighed { self.burden() } else { (0, 0) };
        self.index.retire(Kind::Node, self.node.as_ptr().cast(), weight, heavy, self.pin);
    }

    /// What it weighs, and what would be a heavy bag of garbage.
    #[inline(never)]
    fn burden(&self) -> (u64, u64) {
        let heavy = self.index.generation(self.pin).weight() / 16 + 1;
        (u64::from(self.node.weight()), heavy)
    }

    pub(crate) fn handle(&self) -> Handle<K, V> {
        Handle::share(self.node)
    }

    pub(crate) fn kind(&self) -> NodeKind {
        self.node.kind()
    }

    /// The node, if its gate byte is taken.
    pub(crate) fn taken(&self) -> Option<Handle<K, V>> {
        (self.node.gate().load(Ordering::Relaxed) >= TAKEN).then(|| self.handle())
    }
}

/// What became of an attempt to take out an entry that nobody asked to go.
pub(crate) enum Eviction<'p, K, V, R: Reclaim> {
    Done(Unlinked<'p, K, V, R>),
    /// Somebody makes a newer version of it (H4).
    Taken,
    /// The slot no longer holds it, or is being moved.
    Lost,
}

impl<'p, K, V, R: Reclaim> Occupied<'p, K, V, R> {
    pub(super) fn at(
        index: &'p Index<K, V, R>,
        table: Table<'p, Node<K, V>>,
        slot: &'p AtomicPtr<Node<K, V>>,
        node: Shared<'p, CachedValue<K, V>>,
        pin: &'p R::Pin,
    ) -> Self {
        Self { index, pin, table, slot, node }
    }

    pub(crate) fn node(&self) -> Shared<'p, CachedValue<K, V>> {
        self.node
    }

    /// Puts a newer version in this one's place. Over a pending node it is a newcomer: it gets a ticket of its own, and
    /// has to be queued. `now` is the eviction policy's time.
    ///
    /// # Errors
    /// Gives the newer version back if the slot no longer holds this one.
    pub(crate) fn replace(
        self,
        newer: Draft<K, V>,
        now: u16,
    ) -> Result<(Unlinked<'p, K, V, R>, Shared<'p, CachedValue<K, V>>), Draft<K, V>> {
        let generation = self.table.generation();
        let is_newcomer = self.node.kind() == NodeKind::Pending;
        let ticket = if is_newcomer { generation.enter() } else { 0 };
        match is_newcomer {
            true => newer.start(ticket, now),
            false => newer.follow(&self.node),
        }
        let is_error = newer.kind() == NodeKind::Error;
        if is_error {
            generation.add_errors(1);
        }
        let gain = i64::from(newer.weight()) - i64::from(self.node.weight());
        if self.index.weighed && gain > 0 {
            generation.add_weight(gain);
        }
        let (index, former) = (self.index, self.node);
        match self.exchange(newer) {
            Ok(done) => {
                if index.weighed && gain < 0 {
                    generation.add_weight(gain);
                }
                match former.kind() {
                    NodeKind::Value => {}
                    NodeKind::Pending => generation.add_pending(-1),
                    NodeKind::Error => generation.add_errors(-1),
                }
                Ok(done)
            }
            Err(back) => {
                if index.weighed && gain > 0 {
                    generation.add_weight(-gain);
                }
                if is_error {
                    generation.add_errors(-1);
                }
                if is_newcomer {
                    generation.leave();
                }
                Err(back)
            }
        }
    }

    /// The same for a value over a value, where nothing is weighed: there is nothing to count.
    ///
    /// # Errors
    /// As `replace`.
    #[inline]
    pub(crate) fn replace_value(
        self,
        newer: Draft<K, V>,
    ) -> Result<(Unlinked<'p, K, V, R>, Shared<'p, CachedValue<K, V>>), Draft<K, V>> {
        debug_assert!(!self.index.weighed && self.node.kind() == NodeKind::Value);
        newer.follow(&self.node);
        self.exchange(newer)
    }

    #[inline]
    fn exchange(
        self,
        newer: Draft<K, V>,
    ) -> Result<(Unlinked<'p, K, V, R>, Shared<'p, CachedValue<K, V>>), Draft<K, V>> {
        let newer = newer.into_raw();
        match self.slot.compare_exchange(self.node.as_ptr(), newer.as_ptr(), ord::SWAP(), ord::NUMBER()) {
            Ok(_) => {
                let old = Unlinked { index: self.index, pin: self.pin, node: self.node };
                Ok((old, self.index.shared(newer, self.pin)))
            }
            // SAFETY: it came from the draft above and was not published.
            Err(_) => Err(unsafe { Draft::from_raw(newer) }),
        }
    }

    /// As `unlink`, for what nobody asked to go: not while a newer version is being made of it (H4).
    #[inline(always)]
    pub(crate) fn evict(&self) -> Eviction<'p, K, V, R> {
        let Some(seen) = self.node.claim() else { return Eviction::Taken };
        match self.unlink() {
            Some(unlinked) => Eviction::Done(unlinked),
            None => {
                self.node.unclaim(seen);
                Eviction::Lost
            }
        }
    }

    /// Takes the entry out, if the slot still holds this very version.
    #[inline]
    pub(crate) fn unlink(&self) -> Option<Unlinked<'p, K, V, R>> {
        self.slot
            .compare_exchange(self.node.as_ptr(), ptr::null_mut(), ord::UNLINK(), ord::NUMBER())
            .is_ok()
            .then(|| self.index.unlinked(self.table, self.node, self.pin))
    }
}

impl<'p, K, V, R: Reclaim> Place<'p, K, V, R> {
    /// Takes the bucket's lock bit, if nothing was inserted here since the search.
    #[inline]
    fn lock(&self) -> bool {
        let (seen, locked) = (self.meta.0, self.meta.locked().0);
        self.home.meta.compare_exchange(seen, locked, ord::LOCK(), ord::NUMBER()).is_ok()
    }

    #[inline]
    fn unlock(&self, meta: Meta) {
        self.home.meta.store(meta.0, ord::UNLOCK());
    }

    /// Counts an entry in, before it is published.
    #[inline]
    fn enter(&self, entry: &Draft<K, V>, now: u16) {
        let generation = self.table.generation();
        if entry.kind() == NodeKind::Pending {
            generation.add_pending(1);
        } else {
            entry.start(generation.enter(), now);
        }
        if self.index.weighed {
            generation.add_weight(i64::from(entry.weight()));
        }
    }

    /// The table grows before it is more than two thirds full.
    #[inline]
    fn note_load(&self) {
        if self.table.generation().nodes() > 4 * self.table.len() as u64 {
            self.index.grow(self.table, self.pin);
        }
    }
}

impl<'p, K, V, R: Reclaim> Gap<'p, K, V, R> {
    /// As `Vacant::insert`.
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub(crate) fn insert(
        self,
        entry: Draft<K, V>,
        now: u16,
    ) -> Result<Shared<'p, CachedValue<K, V>>, Draft<K, V>> {
        let tag = tag_of(self.place.hash);
        if !self.place.meta.matches(tag).is_none() {
            // There is more to be looked at under the lock (H2).
            return self.widen().insert(entry, now);
        }
        let Self { place, slot } = self;
        if !place.lock() {
            return Err(entry);
        }
        // No slot has the key's tag, so the key is not here.
        if !place.home.slots[slot].load(ord::NUMBER()).is_null() {
            place.unlock(place.meta);
            return Err(entry);
        }
        place.enter(&entry, now);
        let node = entry.into_raw();
        place.home.slots[slot].store(node.as_ptr(), ord::PUBLISH());
        place.unlock(place.meta.with_tag(slot, tag).next_version());
        place.note_load();
        Ok(place.index.shared(node, place.pin))
    }

    fn widen(self) -> Vacant<'p, K, V, R> {
        let room = Room::Slot(self.place.home, self.slot);
        Vacant { place: self.place, alike: Vec::new(), room, hollow: None }
    }
}

impl<'p, K, V, R: Reclaim> Vacant<'p, K, V, R> {
    /// Puts a new entry into the bucket. `now` is the eviction policy's time.
    ///
    /// # Errors
    /// Gives the entry back if something was inserted here since the search: the key may be present by now.
    pub(crate) fn insert(
        self,
        entry: Draft<K, V>,
        now: u16,
    ) -> Result<Shared<'p, CachedValue<K, V>>, Draft<K, V>> {
        // Before the lock: no allocation under it (I7).
        let spare = matches!(self.room, Room::Behind(_)).then(|| self.place.index.spares.take());
        let place = &self.place;
        if !place.lock() {
            return Err(entry);
        }
        if !self.still_vacant() {
            place.unlock(place.meta);
            return Err(entry);
        }
        place.enter(&entry, now);
        let node = entry.into_raw();
        let tag = tag_of(place.hash);
        let mut meta = place.meta;
        match (self.room, spare) {
            (Room::Slot(bucket, slot), _) => {
                bucket.slots[slot].store(node.as_ptr(), ord::PUBLISH());
                if ptr::eq(bucket, place.home) {
                    meta = meta.with_tag(slot, tag);
                } else {
                    let tags = Meta(bucket.meta.load(ord::NUMBER())).with_tag(slot, tag);
                    bucket.meta.store(tags.0, ord::UNLOCK());
                }
            }
            (Room::Behind(last), Some(spare)) => {
                spare.slots[0].store(node.as_ptr(), ord::PUBLISH());
                spare.meta.store(Meta(0).with_tag(0, tag).0, ord::UNLOCK());
                place.table.note_chain();
                last.overflow.store(Box::into_raw(spare), ord::LINK());
                meta = meta.with_chain(true);
            }
            (Room::Behind(_), None) => unreachable!("a bucket was allocated before the lock"),
        }
        if let Some(hollow) = self.hollow {
            Self::bypass(place.home, hollow);
            meta = meta.with_chain(!place.home.overflow.load(ord::NUMBER()).is_null());
        }
        place.unlock(meta.next_version());
        if let Some(hollow) = self.hollow {
            place.index.retire(Kind::Bucket, ptr::from_ref(hollow).cast_mut().cast(), 0, 0, place.pin);
        }
        place.note_load();
        Ok(place.index.shared(node, place.pin))
    }

    /// Under the lock: whether the search's answer still holds. Tags and version are what they were, or the lock would
    /// not have been taken; but a version can come round again, and then slots may hold other nodes (H2). A node with
    /// other bits of a hash is another key's; those with the same are compared by their addresses. So no user code runs,
    /// and nothing goes on for ever where hashes are equal.
    fn still_vacant(&self) -> bool {
        let Place { index, pin, home, meta, hash, .. } = self.place;
        let tag = tag_of(hash);
        let mut room_is_there = false;
        let mut hollow_is_hollow = self.hollow.is_none();
        let (mut bucket, mut tags) = (home, meta);
        loop {
            for slot in tags.matches(tag) {
                let now = bucket.slots[slot].load(ord::READ());
                // One that has been removed since makes the absence only truer.
                if let Content::Live(node) = Content::of(now)
                    && index.shared(node, pin).hash() == hash as u32
                    && !self.alike.contains(&now)
                {
                    return false;
                }
            }
            let behind = bucket.overflow.load(ord::FOLLOW());
            match self.room {
                Room::Slot(place, slot) if ptr::eq(place, bucket) => {
                    room_is_there = place.slots[slot].load(ord::NUMBER()).is_null();
                }
                Room::Behind(last) if ptr::eq(last, bucket) => room_is_there = behind.is_null(),
                _ => {}
            }
            if self.hollow.is_some_and(|hollow| ptr::eq(hollow, bucket)) {
                hollow_is_hollow = is_hollow(bucket);
            }
            // SAFETY: as in `chained`: the pin under which the search ran still lives.
            match unsafe { behind.as_ref() } {
                Some(chained) if meta.has_chain() => {
                    bucket = chained;
                    tags = Meta(bucket.meta.load(ord::META()));
                }
                _ => return room_is_there && hollow_is_hollow,
            }
        }
    }

    /// Under the lock: takes `hollow` out of the chain. Searches that are in it go on to what is behind it.
    fn bypass(home: &Bucket<Node<K, V>>, hollow: &Bucket<Node<K, V>>) {
        let mut link = &home.overflow;
        loop {
            let at = link.load(ord::FOLLOW());
            if ptr::eq(at, hollow) {
                link.store(hollow.overflow.load(ord::FOLLOW()), ord::LINK());
                return;
            }
            // SAFETY: `still_vacant` met `hollow` on this chain under this lock, so the chain does not end before it.
            link = unsafe { &(*at).overflow };
        }
    }
}

fn is_hollow<N>(bucket: &Bucket<N>) -> bool {
    bucket.slots.iter().all(|slot| slot.load(ord::NUMBER()).is_null())
}

impl<K, V, R: Reclaim> Index<K, V, R> {
    /// Where the entry with that hash and key is, or would go.
    #[inline]
    pub(crate) fn locate<'p>(
        &'p self,
        hash: u64,
        eq: impl Fn(&K) -> bool,
        pin: &'p R::Pin,
    ) -> Located<'p, K, V, R> {
        self.search(hash, |node| super::is_key(node, hash, &eq), Patience::Wait, pin)
    }

    /// The entry that the eviction policy knows by its ticket and the low 32 bits of its hash. Does not wait.
    pub(crate) fn locate_ticket<'p>(
        &'p self,
        hash: u64,
        ticket: u16,
        pin: &'p R::Pin,
    ) -> Located<'p, K, V, R> {
        let is_it = |node: &CachedValue<K, V>| is_ticket(node, hash, ticket);
        self.search(hash, is_it, Patience::Try, pin)
    }

    /// The same, if a glance finds it.
    #[inline]
    pub(crate) fn spot_ticket<'p>(
        &'p self,
        hash: u64,
        ticket: u16,
        pin: &'p R::Pin,
    ) -> Option<Occupied<'p, K, V, R>> {
        let table = self.table(pin);
        let home = table.home(hash);
        for slot in Meta(home.meta.load(ord::META())).matches(tag_of(hash)) {
            let slot = &home.slots[slot];
            // What is live in its slot may be unlinked there, also while the table grows (I4).
            if let Content::Live(node) = Content::of(slot.load(ord::READ())) {
                let node = self.shared(node, pin);
                if is_ticket(&node, hash, ticket) {
                    return Some(Occupied { index: self, pin, table, slot, node });
                }
            }
        }
        None
    }

    /// This very version of an entry.
    pub(crate) fn locate_version<'p>(
        &'p self,
        version: &Handle<K, V>,
        pin: &'p R::Pin,
    ) -> Located<'p, K, V, R> {
        let is_it = |node: &CachedValue<K, V>| ptr::eq(node, version.entry());
        self.search(version.entry().hash().into(), is_it, Patience::Wait, pin)
    }

    #[inline]
    fn search<'p>(
        &'p self,
        hash: u64,
        is_it: impl Fn(&CachedValue<K, V>) -> bool,
        patience: Patience,
        pin: &'p R::Pin,
    ) -> Located<'p, K, V, R> {
        match self.glance(hash, &is_it, pin) {
            Some(Spot::Occupied(entry)) => Located::Occupied(entry),
            Some(Spot::Gap(gap)) => Located::Vacant(gap.widen()),
            None => self.search_all_along(hash, is_it, patience, pin),
        }
    }

    /// As `locate`, if a glance is enough.
    #[inline]
    pub(crate) fn spot<'p>(
        &'p self,
        hash: u64,
        eq: impl Fn(&K) -> bool,
        pin: &'p R::Pin,
    ) -> Option<Spot<'p, K, V, R>> {
        self.glance(hash, &|node: &CachedValue<K, V>| super::is_key(node, hash, &eq), pin)
    }

    /// The usual case: no growth; and the key is in its home bucket, or nobody is at work there and nothing is behind it.
    /// None: it is not that simple.
    #[inline]
    fn glance<'p>(
        &'p self,
        hash: u64,
        is_it: &impl Fn(&CachedValue<K, V>) -> bool,
        pin: &'p R::Pin,
    ) -> Option<Spot<'p, K, V, R>> {
        let table = self.table(pin);
        let home = table.home(hash);
        let meta = Meta(home.meta.load(ord::META()));
        if self.after(table, pin).is_some() {
            return None;
        }
        for slot in meta.matches(tag_of(hash)) {
            let slot = &home.slots[slot];
            match Content::of(slot.load(ord::READ())) {
                Content::Live(node) => {
                    let node = self.shared(node, pin);
                    if is_it(&node) {
                        return Some(Spot::Occupied(Occupied { index: self, pin, table, slot, node }));
                    }
                    if node.hash() == hash as u32 {
                        return None;
                    }
                }
                Content::Free => {}
                Content::Frozen(_) | Content::Moved => return None,
            }
        }
        if !meta.is_simple() {
            return None;
        }
        let slot = free_slot(home, meta, meta.rotation())?;
        Some(Spot::Gap(Gap { place: Place { index: self, pin, table, home, meta, hash }, slot }))
    }

    #[cold]
    #[inline(never)]
    fn search_all_along<'p>(
        &'p self,
        hash: u64,
        is_it: impl Fn(&CachedValue<K, V>) -> bool,
        patience: Patience,
        pin: &'p R::Pin,
    ) -> Located<'p, K, V, R> {
        let backoff = Backoff::new();
        loop {
            let mut table = self.table(pin);
            if let Some(next) = self.after(table, pin) {
                // R4: no writer touches the next table before the home bucket in this one is MIGRATED.
                if !self.migrate(table, table.index(hash), patience, pin) {
                    return Located::Busy;
                }
                self.help(table, pin);
                table = next;
            }
            match self.look(table, hash, &is_it, pin) {
                Some(Located::Vacant(vacant))
                    if vacant.place.meta.is_locked() && patience == Patience::Wait => {}
                Some(Located::Busy) if patience == Patience::Wait => {}
                Some(answer) => return answer,
                // The bucket has moved on to a table that the word leads to by now.
                None => {}
            }
            backoff.snooze();
        }
    }

    /// One look at the home bucket and its chain. `None`: they are moving, or have moved.
    fn look<'p>(
        &'p self,
        table: Table<'p, Node<K, V>>,
        hash: u64,
        is_it: &impl Fn(&CachedValue<K, V>) -> bool,
        pin: &'p R::Pin,
    ) -> Option<Located<'p, K, V, R>> {
        let home = table.home(hash);
        let meta = Meta(home.meta.load(ord::META()));
        if meta.is_migrated() {
            return None;
        }
        let mut alike = Vec::new();
        let (mut room, mut hollow) = (None, None);
        let (mut bucket, mut tags) = (home, meta);
        loop {
            for slot in tags.matches(tag_of(hash)) {
                let raw = bucket.slots[slot].load(ord::READ());
                match Content::of(raw) {
                    Content::Live(node) => {
                        let node = self.shared(node, pin);
                        if is_it(&node) {
                            let slot = &bucket.slots[slot];
                            return Some(Located::Occupied(Occupied { index: self, pin, table, slot, node }));
                        }
                        if node.hash() == hash as u32 {
                            alike.push(raw);
                        }
                    }
                    Content::Frozen(node) if is_it(&self.shared(node, pin)) => return Some(Located::Busy),
                    Content::Moved => return None,
                    Content::Frozen(_) | Content::Free => {}
                }
            }
            if room.is_none() {
                room = free_slot(bucket, tags, meta.rotation()).map(|slot| Room::Slot(bucket, slot));
            } else if hollow.is_none() && is_hollow(bucket) {
                hollow = Some(bucket);
            }
            match meta.has_chain().then(|| self.chained(bucket, pin)).flatten() {
                Some(chained) => {
                    bucket = chained;
                    tags = Meta(bucket.meta.load(ord::META()));
                }
                None => break,
            }
        }
        let room = room.unwrap_or(Room::Behind(bucket));
        let place = Place { index: self, pin, table, home, meta, hash };
        Some(Located::Vacant(Vacant { place, alike, room, hollow }))
    }

    /// Counts an entry out that this thread has just unlinked.
    #[inline(always)]
    pub(super) fn unlinked<'p>(
        &'p self,
        table: Table<'p, Node<K, V>>,
        node: Shared<'p, CachedValue<K, V>>,
        pin: &'p R::Pin,
    ) -> Unlinked<'p, K, V, R> {
        let generation = table.generation();
        match node.kind() {
            NodeKind::Value => generation.leave(),
            NodeKind::Pending => generation.add_pending(-1),
            NodeKind::Error => {
                generation.leave();
                generation.add_errors(-1);
            }
        }
        if self.weighed {
            generation.add_weight(-i64::from(node.weight()));
        }
        Unlinked { index: self, pin, node }
    }
}

#[inline]
fn is_ticket<K, V>(node: &CachedValue<K, V>, hash: u64, ticket: u16) -> bool {
    node.ticket() == ticket && node.hash() == hash as u32 && node.kind() != NodeKind::Pending
}

/// A free slot: one never used before, else by turns.
#[inline]
fn free_slot<N>(bucket: &Bucket<N>, tags: Meta, rotation: usize) -> Option<usize> {
    let is_free = |slot: &usize| bucket.slots[*slot].load(ord::NUMBER()).is_null();
    // One never used whose inserter has not stored the tag yet is not free; the lock will tell.
    tags.first_unused().filter(is_free).or_else(|| (rotation..SLOTS).chain(0..rotation).find(is_free))
}
