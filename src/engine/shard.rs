//! A shard: an index, and the eviction policy that looks after its content.
//!
//! # Making room
//! `publish -> (lease budget | evict) until use <= budget -> queue the newcomer`
//!
//! A newcomer is counted before it is published and queued after room was made for it, so it is never its own victim
//! while there is another. Of several writers that went over the budget together each makes room under the policy's
//! mutex, in turn, until use and budget agree: exactly as many go as came (H3).
//!
//! In a full cache an insertion looks at the use of its shard, whether the pool has anything, and again after it has taken
//! one entry out: as a rule then it is done. What the policy will ask for next is prefetched while its mutex is held.
//!
//! # Invariants
//! - **E3, bounded at rest.** Whoever raises the use of a shard over its budget makes room before it returns.
//! - **S1, one order of locks.** A policy's mutex, then the pool's. Never two policies at once.
//!
//! # Cost
//! Room for a new key in a full cache, the victim's retirement included: about 680 instructions (callgrind, x86-64,
//! 2026-11-21), of them six locked: two of the mutex, and one each for the victim's gate byte, its slot, the count of entries and
//! its place in limbo. Lines: a bucket and a node, two of the ghost, the ends of two queues, the counters.
#![forbid(unsafe_code)]

use super::policy::{Fate, Lines, Policy, ReuseInterval, Token, Verdict};
use super::reclaim::{Backend, Reclaim};
use super::table::{Eviction, Index, Located, MOST_REUSE, Unlinked, prefetch};
use super::{Engine, RemovalCause, Settling};
use crate::sync::{Mutex, Ordering, lock, plain};
use crate::time::Instant;
use crossbeam_utils::CachePadded;

pub(crate) struct Shard<K, V, R: Reclaim = Backend> {
    pub(super) index: Index<K, V, R>,
    /// Taken by writers of new keys and by maintenance, never by readers. No user code runs under it.
    pub(super) policy: Mutex<ReuseInterval>,
    /// Written once for each tick of the policy's, so it is not beside the mutex.
    signals: CachePadded<Signals>,
}

/// What a policy tells those who don't hold its mutex. All `Relaxed`: numbers, compared with hints, or prefetched. Not modelled:
/// they decide only who is evicted.
#[derive(Default)]
struct Signals {
    /// The clock, which readers stamp uses with.
    now: plain::AtomicU16,
    /// Its `Lines`.
    begin: plain::AtomicUsize,
    count: plain::AtomicUsize,
}

/// For whom room is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sake {
    Nobody,
    /// An entry under a new key, not yet queued.
    Newcomer(Token),
    /// A version that may be heavier than the one whose place it took. It goes only when there is no other.
    Replaced(Token),
}

/// What an evictor is about.
struct Errand<'p, K, V, R: Reclaim> {
    /// The shard's number.
    i: usize,
    shard: &'p Shard<K, V, R>,
    sake: Sake,
    now: Option<Instant>,
    pin: &'p R::Pin,
}

impl<K, V, R: Reclaim> Clone for Errand<'_, K, V, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, V, R: Reclaim> Copy for Errand<'_, K, V, R> {}

/// What came of a look at one candidate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Gone,
    /// It stays, or has gone without help: there may be another.
    Again,
    /// Nobody can go.
    Nobody,
}

/// Whom an evictor has passed by.
#[derive(Clone, Copy, Default)]
struct Passed {
    busy: usize,
    kept: usize,
    taken: usize,
    /// How often the very entry that room is made for.
    spared: u8,
}

/// How often in a row a victim may be out of reach before the evictor gives up: it is being migrated by a thread that
/// sleeps. The entry over the budget goes with the next write.
const BUSY_LIMIT: usize = 8;
/// How many entries that somebody makes newer versions of an evictor passes by before it takes one all the same (M9): the
/// creation then goes on, and its value to its callers.
const TAKEN_LIMIT: usize = 64;
/// How many entries in a row an evictor may keep before it takes the next as it is: others wait for the policy, and
/// readers may use entries faster than they are judged.
const JUDGED: usize = 256;
/// How many tokens an insertion looks up while too many are stale: more than it adds.
const CHECKED: usize = 4;

impl<K, V, R: Reclaim> Shard<K, V, R> {
    pub(super) fn new(index: Index<K, V, R>) -> Self {
        Self { index, policy: Mutex::default(), signals: CachePadded::default() }
    }

    /// The policy's time.
    #[inline]
    pub(super) fn now(&self) -> u16 {
        self.signals.now.load(Ordering::Relaxed)
    }

    /// Asks the processor for what the policy will read if `hash` proves to be a new key's.
    #[inline]
    pub(super) fn prefetch_policy(&self, hash: u64) {
        let begin = self.signals.begin.load(Ordering::Relaxed);
        if begin != 0 {
            prefetch(Lines { begin, count: self.signals.count.load(Ordering::Relaxed) }.of(hash));
        }
    }

    #[cold]
    fn signal(&self, policy: &ReuseInterval) {
        let Lines { begin, count } = policy.lines();
        self.signals.now.store(policy.now(), Ordering::Relaxed);
        self.signals.begin.store(begin, Ordering::Relaxed);
        self.signals.count.store(count, Ordering::Relaxed);
    }
}

impl<K, V, R: Reclaim> Engine<K, V, R> {
    /// What shard `i` uses of the capacity: entries, or weight.
    pub(super) fn used(&self, i: usize, pin: &R::Pin) -> u64 {
        let generation = self.shards[i].index.generation(pin);
        if self.weigher.is_some() { generation.weight() } else { generation.entries() }
    }

    /// Brings the use of shard `i` down to its budget, for the sake of somebody; then queues it if it is a newcomer.
    pub(super) fn make_room<'p>(
        &'p self,
        i: usize,
        sake: Sake,
        now: Option<Instant>,
        pin: &'p R::Pin,
        settling: &mut Settling<'_, K, V, R>,
    ) {
        let Some(pool) = &self.pool else { return };
        let shard = &*self.shards[i];
        // Made where it is handed over, so that it need not be in memory before.
        let errand = || Errand { i, shard, sake, now, pin };
        let mut policy = lock(&shard.policy);
        // `clear` takes the same mutex, so meanwhile this is what counts.
        let generation = shard.index.generation(pin);
        let is_weighed = self.weigher.is_some();
        let used = move || if is_weighed { generation.weight() } else { generation.entries() };
        let account = pool.account(i);
        let budget = account.budget();
        let room = if is_weighed { None } else { Some(usize::try_from(budget).unwrap_or(usize::MAX)) };
        if let Sake::Newcomer(token) = sake
            && policy.arrive(token, room)
        {
            shard.signal(&policy);
        }
        let mut is_enough = true;
        if used() > budget && !pool.lease(i, move |j| if j == i { used() } else { self.used(j, pin) }) {
            let mut passed = Passed::default();
            let attempt = self.attempt(errand(), &mut policy, settling, &mut passed);
            // As a rule one has gone for one that came, and that is all.
            if attempt != Attempt::Gone || used() != account.budget() {
                is_enough = self.go_on(errand(), &mut policy, settling, attempt, passed);
            }
            // For the next newcomer's room.
            let [next, second] = policy.ahead();
            if let Some(token) = next {
                shard.index.prefetch_node(token.hash(), pin);
            }
            if let Some(token) = second {
                shard.index.prefetch_bucket(token.hash(), pin);
            }
        }
        if let Sake::Newcomer(token) = sake {
            let reuse = policy.admit();
            if reuse > 0 {
                self.start_with(i, token, reuse, pin);
            }
        }
        if policy.len() as u64 > 2 * generation.entries() + 64 {
            self.drop_stale_tokens(i, &mut policy, pin);
        }
        drop(policy);
        if !is_enough {
            self.make_room_elsewhere(i, now, pin, settling);
        }
    }

    /// Goes on evicting after a first attempt, until use and budget agree. False: there is nobody left who can go.
    #[inline(never)]
    fn go_on<'p>(
        &'p self,
        errand: Errand<'p, K, V, R>,
        policy: &mut ReuseInterval,
        settling: &mut Settling<'_, K, V, R>,
        first: Attempt,
        passed: Passed,
    ) -> bool {
        let Some(pool) = &self.pool else { return true };
        let Errand { i, pin, .. } = errand;
        let mut evicted = match first {
            Attempt::Gone => true,
            Attempt::Again => self.evict(errand, policy, settling, passed),
            Attempt::Nobody => false,
        };
        while evicted {
            let used = self.used(i, pin);
            let budget = pool.budget(i);
            if used <= budget || pool.lease(i, |j| self.used(j, pin)) {
                self.note_slack(i, pin);
                return true;
            }
            evicted = self.evict(errand, policy, settling, Passed::default());
        }
        false
    }

    /// The shard itself has nothing to give: a heavy entry, or a share of nearly nothing.
    #[cold]
    #[inline(never)]
    fn make_room_elsewhere<'p>(
        &'p self,
        i: usize,
        now: Option<Instant>,
        pin: &'p R::Pin,
        settling: &mut Settling<'_, K, V, R>,
    ) {
        let Some(pool) = &self.pool else { return };
        let is_over = || self.used(i, pin) > pool.budget(i) && !pool.lease(i, |j| self.used(j, pin));
        // What has gone from the shard itself may be more than was needed in the end.
        self.note_slack(i, pin);
        let others = (i + 1..self.shards.len()).chain(0..i);
        // At last the shard itself again: by now the newcomer is queued, and would have to go.
        for other in others.chain([i]) {
            let shard = &*self.shards[other];
            let errand = Errand { i: other, shard, sake: Sake::Nobody, now, pin };
            while is_over() {
                let mut policy = lock(&shard.policy);
                // Another writer may have made the room while this one waited for the lock (H3).
                if !is_over() || !self.evict(errand, &mut policy, settling, Passed::default()) {
                    break;
                }
                self.note_slack(other, pin);
            }
        }
    }

    /// How many entries the shard has room for, if that is what is limited.
    fn room(&self, i: usize) -> Option<usize> {
        let pool = self.pool.as_ref().filter(|_| self.weigher.is_none())?;
        Some(usize::try_from(pool.budget(i)).unwrap_or(usize::MAX))
    }

    /// Takes one entry out of a shard, by the policy's choice. False: there is none that can go.
    #[inline(never)]
    fn evict<'p>(
        &'p self,
        errand: Errand<'p, K, V, R>,
        policy: &mut ReuseInterval,
        settling: &mut Settling<'_, K, V, R>,
        mut passed: Passed,
    ) -> bool {
        loop {
            match self.attempt(errand, policy, settling, &mut passed) {
                Attempt::Gone => return true,
                Attempt::Nobody => return false,
                Attempt::Again => {}
            }
        }
    }

    /// Looks at one candidate, and takes its entry out if it is to go.
    #[inline(always)]
    fn attempt<'p>(
        &'p self,
        errand: Errand<'p, K, V, R>,
        policy: &mut ReuseInterval,
        settling: &mut Settling<'_, K, V, R>,
        passed: &mut Passed,
    ) -> Attempt {
        let Errand { i, shard, sake, now, pin } = errand;
        let Some((candidate, token)) = policy.candidate(|| self.room(i)) else { return Attempt::Nobody };
        let entry = match shard.index.spot_ticket(token.hash(), token.ticket(), pin) {
            Some(entry) => entry,
            None => match shard.index.locate_ticket(token.hash(), token.ticket(), pin) {
                Located::Occupied(entry) => entry,
                Located::Vacant(_) => {
                    policy.settle(candidate, Fate::Stale);
                    return Attempt::Again;
                }
                Located::Busy => {
                    policy.settle(candidate, Fate::Busy);
                    passed.busy += 1;
                    return if passed.busy >= BUSY_LIMIT { Attempt::Nobody } else { Attempt::Again };
                }
            },
        };
        let node = entry.node();
        let expired = now.is_some_and(|now: Instant| self.lifetimes.is_over(&node, now));
        if !expired && sake == Sake::Replaced(token) {
            policy.settle(candidate, Fate::Taken);
            passed.spared += 1;
            // If it has come round more often than any other is kept, there is no other.
            return if passed.spared > MOST_REUSE { Attempt::Nobody } else { Attempt::Again };
        }
        let uses = node.uses();
        if !expired && passed.kept < JUDGED {
            match policy.judge(candidate, uses) {
                Verdict::Evict => {}
                Verdict::Wait => return Attempt::Again,
                Verdict::Keep { reuse } => {
                    node.set_reuse(reuse);
                    passed.kept += 1;
                    return Attempt::Again;
                }
            }
        }
        let eviction = match entry.evict() {
            Eviction::Taken if passed.taken >= TAKEN_LIMIT.min(policy.len()) => {
                entry.unlink().map_or(Eviction::Lost, Eviction::Done)
            }
            eviction => eviction,
        };
        match eviction {
            Eviction::Done(unlinked) => {
                if expired {
                    settling.note(i, unlinked, RemovalCause::Expired, pin);
                    policy.settle(candidate, Fate::Expired);
                } else {
                    settling.note_evicted(i, unlinked);
                    policy.settle(candidate, Fate::Evicted { stamp: uses.stamp });
                }
                Attempt::Gone
            }
            Eviction::Taken => {
                passed.taken += 1;
                policy.settle(candidate, Fate::Taken);
                Attempt::Again
            }
            // E1: its token stays where it is, and is looked up again.
            Eviction::Lost => Attempt::Again,
        }
    }

    /// A newcomer that the policy knows begins with some uses.
    #[cold]
    #[inline(never)]
    fn start_with(&self, i: usize, token: Token, reuse: u8, pin: &R::Pin) {
        if let Located::Occupied(entry) =
            self.shards[i].index.locate_ticket(token.hash(), token.ticket(), pin)
        {
            entry.node().set_reuse(reuse);
        }
    }

    /// Removals leave tokens behind. While more than half are stale, each insertion looks a few up.
    #[cold]
    #[inline(never)]
    fn drop_stale_tokens(&self, i: usize, policy: &mut ReuseInterval, pin: &R::Pin) {
        let index = &self.shards[i].index;
        policy.check(CHECKED, |token| {
            !matches!(index.locate_ticket(token.hash(), token.ticket(), pin), Located::Vacant(_))
        });
    }

    /// Empties shard `i` in one moment.
    pub(super) fn clear_shard(&self, i: usize, pin: &R::Pin) -> u64 {
        let shard = &self.shards[i];
        let entries = {
            let mut policy = lock(&shard.policy);
            let entries = shard.index.clear(pin);
            policy.clear();
            entries
        };
        self.note_slack(i, pin);
        entries
    }

    /// Looks for expired entries in shard `i`: in `least` slots, and further while it finds some, up to `most`.
    pub(super) fn sweep<'p>(
        &'p self,
        i: usize,
        least: usize,
        most: usize,
        now: Option<Instant>,
        pin: &'p R::Pin,
        settling: &mut Settling<'_, K, V, R>,
    ) {
        let index = &self.shards[i].index;
        if let Some(now) = now {
            let take = |gone: Unlinked<'p, K, V, R>| settling.note(i, gone, RemovalCause::Expired, pin);
            index.sweep(least, most, pin, |node| self.lifetimes.is_over(node, now), take);
        }
    }

    /// Checks the invariants of a shard at rest.
    #[cfg(any(test, fuzzing, dogpile_loom))]
    pub(super) fn validate_shard(&self, i: usize, pin: &R::Pin) {
        let shard = &self.shards[i];
        let nodes = shard.index.validate(pin, self.weigher.is_some());
        let mut policy = lock(&shard.policy);
        if let Some(pool) = &self.pool {
            assert!(self.used(i, pin) <= pool.budget(i), "E3: shard {i} uses more than its budget");
            let mut tokens = std::collections::HashSet::new();
            let all = policy.len();
            policy.check(all, |token| {
                assert!(tokens.insert((token.hash() as u32, token.ticket())), "E2: a token is queued once");
                true
            });
            for node in &nodes {
                let token = (node.entry().hash(), node.entry().ticket());
                assert!(tokens.contains(&token), "E1: every entry can be evicted");
            }
        } else {
            assert_eq!(policy.len(), 0, "an unbounded cache queues nothing");
        }
    }
}
