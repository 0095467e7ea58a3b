//! Reuse intervals: who came back sooner than the next victim has been idle may stay.
//!
//! ```text
//! new key ── known to the ghost, and came back soon enough ──> [ main ] <── with a use: round again
//!        └─> [ window ] ── used, and soon enough ─────────────────┘    └──> out, to the ghost
//!                      └──> out, to the ghost
//! ```
//! Two first-in-first-out queues. Time is counted in new keys: a *tick* is about 1/64 of the room. Of an entry's uses its
//! node keeps a count up to three, the tick of the last and the ticks between the last two; uses within two ticks are one.
//! A newcomer enters the window, unless the ghost knows it and its *interval*, since it was last used, is less than 0.7 of
//! the age of the main queue's next victim: then it enters the main queue. The window's oldest moves there by the same test
//! of its interval, else it goes. The main queue is a clock: one with a use goes round again with one use less.
//!
//! The window's share moves between 1 % and 97 %: by one entry up for a key that comes back soon after it left the window,
//! by one down for one that comes back as soon after it left the main queue. Room is made in the window first; the main
//! queue loses an entry to one that moves there, or when its share shrinks. A key that the main queue lost and takes back
//! starts with a use.
//!
//! With fewer than eight entries there is no window and no ghost: a plain clock.
//!
//! # Invariants
//! - **P1, window.** Its share is at least one entry and at most 97 % of the room, where there is a window.
//! - **P2, victim.** `victim` is of the main queue's first token, which was looked at and had no use then.
//! - E1 and E2 of the module.
//!
//! # Cost
//! A hit touches no queue. A new key: a line of the ghost, for its look-up, and one for the victim's addition; a push, a
//! pop, and for each entry that moves or stays another of both. Entries with three uses are passed three times at most
//! before they go. About 8.4 bytes a token, 10 for each entry of room for the ghost. Of entries of unequal weight it
//! counts entries, not weights.
//!
//! # Source
//! The admission test: S. Jiang, X. Zhang, *LIRS*, SIGMETRICS 2002, applied to queues instead of stacks. Uses in quick
//! succession as one: E. J. O'Neil, P. E. O'Neil, G. Weikum, *The LRU-K page replacement algorithm*, SIGMOD 1993. A share
//! that adapts: N. Megiddo, D. S. Modha, *ARC*, FAST 2003. Queues with a count: S3-FIFO, SOSP 2023. Settings were chosen on
//! the traces of `ARCHITECTURE.md`, which has what else was tried.

#![forbid(unsafe_code)]

use super::ghost::{Ghost, Returned};
use super::queue::Queue;
use super::{Fate, Lines, Policy, Token, Uses, Verdict};

/// Ticks in as many new keys as there is room for entries.
const TICKS: usize = 64;
/// An interval passes if it is less than this part of the age.
const FACTOR: (u64, u64) = (7, 10);
/// Fewer entries than this make a plain clock.
const PLAIN: usize = 8;
/// The window's first share, its least and its greatest, in hundredths of the room.
const FIRST_SHARE: usize = 2;
const LEAST_SHARE: usize = 1;
const GREATEST_SHARE: usize = 97;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Window,
    Main,
}

/// A candidate: the first token of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    role: Role,
    token: Token,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Window,
    Main,
    /// Of the main queue, whose age is wanted.
    Scout,
}

/// Where a newcomer will be queued.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Coming {
    #[default]
    Nobody,
    To(Place),
    /// That is not known until the main queue's next victim is: so long since its last use.
    After(u32),
}

/// What follows from the number of entries that there is room for.
#[derive(Default)]
struct Scale {
    room: usize,
    /// New keys in a tick.
    tick: usize,
}

#[derive(Default)]
pub(crate) struct ReuseInterval {
    window: Queue,
    main: Queue,
    ghost: Ghost,
    scale: Scale,
    /// The window's share, in entries.
    share: usize,
    tick: u32,
    /// New keys in this tick.
    arrived: usize,
    /// The tick of the last use of the main queue's next victim, if that is known (P2).
    victim: Option<u32>,
    /// Whether a judgement waits for it; or the last candidate had expired, and the main queue's first may have, too.
    wants_victim: bool,
    /// Whether the victim was asked for and is out of reach: the window is judged without it.
    blind: bool,
    coming: Coming,
    newcomer: Token,
    /// The uses that it starts with, in the main queue.
    credit: u8,
    /// The queue to ask next, where the other one's first was out of reach.
    instead: Option<Place>,
    room: usize,
    /// How far the window may be off its share, where entries are of unequal weight.
    slack: usize,
    /// How many entries moved to the main queue that it has not yet lost another for.
    owed: usize,
    /// Before the first eviction the window's share has no reason to be what it is.
    has_evicted: bool,
}

impl ReuseInterval {
    #[inline]
    fn follow(&mut self, room: Option<usize>) {
        if room != Some(self.room) {
            self.follow_indeed(room);
        }
    }

    /// Takes over a new number of entries, if it is far from the one that all sizes are made for.
    #[inline(never)]
    fn follow_indeed(&mut self, room: Option<usize>) {
        let room = room.unwrap_or_else(|| {
            // The number of entries in a given weight wanders by about its root.
            self.slack = 2 * self.share.isqrt() + 2;
            self.len()
        });
        self.room = room;
        if room.abs_diff(self.scale.room) > self.scale.room / 4 {
            self.rescale();
        }
    }

    #[cold]
    fn rescale(&mut self) {
        let former = std::mem::take(&mut self.scale).room;
        let room = self.room;
        self.scale = Scale { room, tick: ((room.saturating_add(TICKS / 2)) / TICKS).max(1) };
        // What it holds is in the former units. It is made anew at the next eviction.
        self.ghost = Ghost::default();
        self.share = match former {
            _ if !self.has_evicted => hundredths(room, FIRST_SHARE),
            0 => 0,
            _ => (self.share as u128 * room as u128 / former as u128) as usize,
        };
        self.share = self.share.clamp(self.least_share(), self.greatest_share());
    }

    fn is_plain(&self) -> bool {
        self.scale.room < PLAIN
    }

    fn least_share(&self) -> usize {
        if self.is_plain() { 0 } else { hundredths(self.scale.room, LEAST_SHARE).max(1) }
    }

    fn greatest_share(&self) -> usize {
        if self.is_plain() { 0 } else { hundredths(self.scale.room, GREATEST_SHARE).max(1) }
    }

    /// How many the main queue may hold.
    fn main_share(&self) -> usize {
        self.room.saturating_sub(self.share)
    }

    /// Ticks since the main queue's next victim was used, if that is known.
    fn age(&self) -> Option<u32> {
        match self.victim {
            Some(since) => Some(self.tick.wrapping_sub(since)),
            None if self.main.len() == 0 => Some(0),
            None => None,
        }
    }

    /// Whether who comes back after so many ticks displaces the main queue's next victim. `None`: that is not known.
    #[inline]
    fn passes(&self, interval: u32) -> Option<bool> {
        self.age().map(|age| u64::from(interval) * FACTOR.1 < u64::from(age) * FACTOR.0)
    }

    /// Decides where the newcomer goes, which was last used so many ticks ago, if that can be known now.
    fn place(&mut self, interval: u32) {
        self.coming = match self.passes(interval) {
            Some(true) => Coming::To(Place::Main),
            Some(false) => Coming::To(Place::Window),
            None => Coming::After(interval),
        };
        self.owed += usize::from(self.coming == Coming::To(Place::Main));
    }

    /// A key comes back.
    #[inline(never)]
    fn welcome(&mut self, returned: Returned) {
        self.adapt(returned);
        self.credit = u8::from(!returned.from_window);
        self.place(returned.interval);
    }

    fn adapt(&mut self, returned: Returned) {
        if returned.soon {
            self.share = match returned.from_window {
                true => (self.share + 1).min(self.greatest_share()),
                false => self.share.saturating_sub(1).max(self.least_share()),
            };
        }
    }

    /// Takes a candidate out of its queue.
    #[inline(always)]
    fn take_out(&mut self, candidate: Candidate) {
        if candidate.role == Role::Window {
            self.window.drop_first();
        } else {
            self.victim = None;
            self.main.drop_first();
        }
    }

    #[inline]
    fn requeue(&mut self, candidate: Candidate) {
        self.take_out(candidate);
        self.main.push(candidate.token);
    }

    /// Notes the main queue's first token as its next victim.
    fn note_victim(&mut self, uses: Uses) {
        self.victim = Some(self.tick.wrapping_sub(Uses::since(uses.stamp, self.tick as u16).into()));
        self.wants_victim = false;
    }

    /// As `judge`, where uses or age matter.
    #[inline(never)]
    fn judge_used(&mut self, candidate: Candidate, uses: Uses) -> Verdict {
        if candidate.role == Role::Window {
            return match self.passes(uses.interval.into()) {
                Some(true) => {
                    self.requeue(candidate);
                    self.owed += 1;
                    Verdict::Keep { reuse: 0 }
                }
                Some(false) => Verdict::Evict,
                None if std::mem::take(&mut self.blind) => Verdict::Evict,
                None => {
                    self.wants_victim = true;
                    Verdict::Wait
                }
            };
        }
        if uses.count > 0 {
            self.requeue(candidate);
            return Verdict::Keep { reuse: uses.count - 1 };
        }
        self.note_victim(uses);
        Verdict::Wait
    }

    #[cold]
    #[inline(never)]
    fn settle_other(&mut self, candidate: Candidate, fate: Fate) {
        let from_window = candidate.role == Role::Window;
        if !from_window && !matches!(fate, Fate::Busy | Fate::Taken) {
            self.owed = self.owed.saturating_sub(1);
        }
        self.take_out(candidate);
        match fate {
            Fate::Busy if from_window => self.window.push(candidate.token),
            Fate::Busy => self.main.push(candidate.token),
            Fate::Taken => {
                // Not the window: there it may be alone, and would be the next again.
                self.main.push(candidate.token);
                self.blind = candidate.role == Role::Scout;
                self.wants_victim &= !self.blind;
                self.instead = Some(if from_window { Place::Main } else { Place::Window });
            }
            // Expired ones come in swarms.
            Fate::Expired => self.wants_victim = true,
            Fate::Evicted { .. } | Fate::Stale => {}
        }
    }

    #[inline(always)]
    fn note_eviction(&mut self, token: Token, from_window: bool, stamp: u16) {
        if !self.ghost.is_made() && !self.make_ghost() {
            return;
        }
        let age = Uses::since(stamp, self.tick as u16).into();
        self.ghost.add(token.hash(), from_window, age, self.tick);
    }

    /// At an eviction. A plain clock has none.
    #[cold]
    #[inline(never)]
    fn make_ghost(&mut self) -> bool {
        if self.is_plain() {
            return false;
        }
        // Now the room is used, so its number is what it will be.
        self.rescale();
        self.has_evicted = true;
        if self.is_plain() {
            return false;
        }
        self.ghost = Ghost::with_room(self.scale.room.min(2 * self.len() + TICKS));
        true
    }

    /// The queue that gives way next.
    #[inline(never)]
    fn next_queue(&self) -> Place {
        let coming = |place| usize::from(self.coming == Coming::To(place));
        let least = self.share.saturating_sub(self.slack);
        let window_is_over = self.window.len() + coming(Place::Window) > least;
        let main_is_over = self.main.len() + coming(Place::Main) > self.main_share();
        match self.instead {
            _ if self.window.len() == 0 => Place::Main,
            _ if self.main.len() == 0 => Place::Window,
            Some(place) => place,
            None if self.slack > 0 && self.owed > 0 => Place::Main,
            None if window_is_over || !main_is_over => Place::Window,
            None => Place::Main,
        }
    }
}

/// Rounded down.
fn hundredths(room: usize, n: usize) -> usize {
    room / 100 * n + room % 100 * n / 100
}

impl Policy for ReuseInterval {
    type Candidate = Candidate;

    #[inline(always)]
    fn arrive(&mut self, token: Token, room: Option<usize>) -> bool {
        self.follow(room);
        self.arrived += 1;
        let ticks = self.arrived >= self.scale.tick;
        if ticks {
            self.arrived = 0;
            self.tick = self.tick.wrapping_add(1);
        }
        (self.newcomer, self.credit, self.coming) = (token, 0, Coming::To(Place::Window));
        if let Some(returned) = self.ghost.take(token.hash(), self.tick) {
            self.welcome(returned);
        }
        if self.main.len() + self.slack < self.main_share() || self.is_plain() {
            self.coming = Coming::To(Place::Main);
        }
        ticks
    }

    #[inline(always)]
    fn admit(&mut self) -> u8 {
        match std::mem::take(&mut self.coming) {
            // One that nobody had to give way for, so that the victim's age was never asked for.
            Coming::To(Place::Window) | Coming::After(_) => {
                self.window.push(self.newcomer);
                0
            }
            Coming::To(Place::Main) => {
                self.main.push(self.newcomer);
                self.credit
            }
            Coming::Nobody => 0,
        }
    }

    fn now(&self) -> u16 {
        self.tick as u16
    }

    #[inline(always)]
    fn candidate(&mut self, room: impl FnOnce() -> Option<usize>) -> Option<(Candidate, Token)> {
        match self.coming {
            // What arrived brought the room with it.
            Coming::To(_) => {}
            Coming::Nobody => self.follow(room()),
            Coming::After(interval) => {
                self.place(interval);
                self.wants_victim |= matches!(self.coming, Coming::After(_));
            }
        }
        if self.wants_victim
            && self.instead.is_none()
            && let Some(token) = self.main.peek()
        {
            return Some((Candidate { role: Role::Scout, token }, token));
        }
        // `next_queue` in short, for what is usual.
        let coming = usize::from(self.coming == Coming::To(Place::Window));
        let is_window = self.window.len() > 0
            && self.window.len() + coming > self.share
            && self.slack == 0
            && self.instead.is_none();
        let queue = if is_window { Place::Window } else { self.next_queue() };
        self.instead = None;
        let (role, token) = match queue {
            Place::Window => (Role::Window, self.window.peek()?),
            Place::Main => (Role::Main, self.main.peek()?),
        };
        Some((Candidate { role, token }, token))
    }

    #[inline(always)]
    fn judge(&mut self, candidate: Candidate, uses: Uses) -> Verdict {
        match candidate.role {
            Role::Window if uses.count == 0 || uses.interval == 0 => Verdict::Evict,
            Role::Main if uses.count == 0 => Verdict::Evict,
            _ => self.judge_used(candidate, uses),
        }
    }

    #[inline(always)]
    fn settle(&mut self, candidate: Candidate, fate: Fate) {
        let Fate::Evicted { stamp } = fate else { return self.settle_other(candidate, fate) };
        let from_window = candidate.role == Role::Window;
        if !from_window {
            self.owed = self.owed.saturating_sub(1);
        }
        self.take_out(candidate);
        self.note_eviction(candidate.token, from_window, stamp);
    }

    #[inline(always)]
    fn ahead(&self) -> [Option<Token>; 2] {
        // What comes takes a place in the window, as a rule, and the window's oldest has to go.
        if self.window.len() > 0 { self.window.ahead() } else { self.main.ahead() }
    }

    fn lines(&self) -> Lines {
        self.ghost.lines()
    }

    #[inline]
    fn len(&self) -> usize {
        self.window.len() + self.main.len()
    }

    fn check(&mut self, n: usize, mut is_live: impl FnMut(Token) -> bool) {
        // In proportion to their lengths, so that both come round together.
        let of_window = (n * self.window.len()).div_ceil(self.len().max(1));
        (0..of_window).for_each(|_| self.window.check(&mut is_live));
        (of_window..n).for_each(|_| self.main.check(&mut is_live));
        // Its token may have been the stale one.
        self.victim = None;
    }

    fn clear(&mut self) {
        // The clock goes on: readers have seen it.
        *self = Self { tick: self.tick, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// A shard's part: entries with their uses, and what `Engine::make_room` does with the policy.
    #[derive(Default)]
    struct Shard {
        policy: ReuseInterval,
        entries: HashMap<u64, Uses>,
        hits: u64,
    }

    fn token(key: u64) -> Token {
        // Well spread, as hashes are.
        Token::new(key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16, 0)
    }

    impl Shard {
        fn request(&mut self, key: u64, room: usize) {
            let now = self.policy.now();
            if let Some(uses) = self.entries.get_mut(&token(key).hash()) {
                self.hits += 1;
                uses.count = (uses.count + 1).min(3);
                if Uses::is_due(uses.stamp, now) {
                    (uses.interval, uses.stamp) = (now.wrapping_sub(uses.stamp), now);
                }
                return;
            }
            self.policy.arrive(token(key), Some(room));
            self.make_room(room, 1);
            let count = self.policy.admit();
            self.entries.insert(token(key).hash(), Uses { count, stamp: now, interval: 0 });
            self.check(room);
        }

        fn make_room(&mut self, room: usize, coming: usize) {
            let mut judged = 0;
            while self.entries.len() + coming > room {
                let Some((candidate, token)) = self.policy.candidate(|| Some(room)) else { break };
                let uses = self.entries.get_mut(&token.hash()).expect("E1: every token has its entry");
                judged += 1;
                assert!(judged <= 5 * self.policy.len() + 10, "uses run out, so somebody goes");
                match self.policy.judge(candidate, *uses) {
                    Verdict::Wait => {}
                    Verdict::Keep { reuse } => uses.count = reuse,
                    Verdict::Evict => {
                        self.policy.settle(candidate, Fate::Evicted { stamp: uses.stamp });
                        self.entries.remove(&token.hash());
                        judged = 0;
                    }
                }
            }
        }

        fn check(&self, room: usize) {
            assert_eq!(self.policy.len(), self.entries.len(), "E1, E2");
            let share = self.policy.share;
            assert!(share <= room * 97 / 100 + 1 && (share > 0 || room < 2 * PLAIN), "P1: {share} of {room}");
        }
    }

    /// Numbers that look random, the same each time.
    fn dice() -> impl FnMut(u64) -> u64 {
        let mut state = 1_u64;
        move |below| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 33) % below
        }
    }

    #[test]
    fn no_token_is_lost_whatever_the_room() {
        let mut roll = dice();
        for room in (0..20).chain([31, 63, 64, 65, 97, 100, 128, 1000]) {
            let mut shard = Shard::default();
            for i in 0..4000 {
                let keys = room as u64 * 3 + 2;
                let key = match roll(4) {
                    0 => roll(keys),
                    1 => roll(keys / 4 + 1),
                    2 => 1000 + i % keys,
                    _ => 10_000 + i,
                };
                shard.request(key, room);
            }
            // With no room at all the shard can't help itself, and the engine refuses.
            assert!(shard.entries.len() <= room.max(1), "{} of {room}", shard.entries.len());
        }
    }

    #[test]
    fn the_room_may_change_at_any_time() {
        let (mut shard, mut roll) = (Shard::default(), dice());
        for round in 0..200 {
            let room = [0, 1, 7, 8, 9, 50, 100, 120, 1000, 3][round % 10];
            shard.make_room(room, 0);
            (0..300).for_each(|_| shard.request(roll(1 + room as u64 * 2), room));
        }
        shard.policy.clear();
        assert_eq!(shard.policy.len(), 0);
    }

    /// A loop over more keys than there is room for: what stays, stays. LRU, clocks and S3-FIFO have no hits at all.
    #[test]
    fn a_loop_does_not_sweep_the_cache() {
        for room in [50, 64, 400] {
            let mut shard = Shard::default();
            let keys = room as u64 * 3 / 2;
            (0..keys * 100).for_each(|i| shard.request(i % keys, room));
            let best = (room as u64 - 1) * 99;
            assert!(shard.hits * 100 >= best * 90, "{} of {best} at {room}", shard.hits);
        }
    }

    /// Keys that come back soon, once, and never again: the window grows for them.
    #[test]
    fn the_window_grows_where_only_the_latest_come_back() {
        let mut shard = Shard::default();
        for i in 0..20_000 {
            shard.request(i, 100);
            if i >= 15 {
                shard.request(i - 15, 100);
            }
        }
        assert!(shard.policy.share >= 10, "P1: {} of 100", shard.policy.share);
        assert!(shard.hits >= 15_000, "{} of 20,000", shard.hits);
        // And shrinks again for a loop.
        (0..40_000).for_each(|i| shard.request(100_000 + i % 150, 100));
        assert!(shard.policy.share <= 5, "P1: {} of 100", shard.policy.share);
    }

    /// One pass over cold keys leaves what is in use where it is.
    #[test]
    fn a_scan_passes_by() {
        let (mut shard, mut roll) = (Shard::default(), dice());
        (0..20_000).for_each(|_| shard.request(roll(80), 100));
        (0..2000).for_each(|i| shard.request(1000 + i, 100));
        let left = (0..80).filter(|key| shard.entries.contains_key(&token(*key).hash())).count();
        assert!(left >= 75, "{left} of 80");
    }

    /// M13: ticks and stamps come round, and nobody notices.
    #[test]
    fn the_clock_comes_round() {
        let mut hits = Vec::new();
        for start in [0, (1 << 16) - 300, u32::MAX - 299] {
            let (mut shard, mut roll) = (Shard::default(), dice());
            shard.policy.tick = start;
            for i in 0..6000 {
                let key = if roll(2) == 0 { roll(60) } else { 1000 + i % 300 };
                shard.request(key, 64);
            }
            assert!(shard.policy.tick.wrapping_sub(start) > 1000, "it came round");
            hits.push(shard.hits);
        }
        assert!(hits[0] > 2000 && hits.iter().all(|other| *other == hits[0]), "{hits:?}");
    }

    #[test]
    fn a_candidate_that_is_out_of_reach_is_asked_again() {
        for room in [4, 40] {
            let mut policy = ReuseInterval::default();
            for i in 0..room as u64 {
                policy.arrive(token(i), Some(room));
                assert_eq!(policy.admit(), 0);
            }
            let mut seen = HashMap::<u64, usize>::new();
            for fate in [Fate::Busy, Fate::Taken] {
                for _ in 0..3 * room {
                    let (candidate, token) = policy.candidate(|| Some(room)).expect("there are tokens");
                    *seen.entry(token.hash()).or_default() += 1;
                    policy.settle(candidate, fate);
                    assert_eq!(policy.len(), room, "E1");
                }
            }
            assert_eq!(seen.len(), room, "each is asked, however often others are out of reach");
            let (candidate, _) = policy.candidate(|| Some(room)).expect("there are tokens");
            policy.settle(candidate, Fate::Stale);
            assert_eq!(policy.len(), room - 1);
            policy.check(room, |token| token.hash() % 2 == 0);
            assert!(policy.len() < room - 1);
        }
    }

    /// Of the one idle entry among many that are being made anew, whichever queue it is in.
    #[test]
    fn after_one_that_is_taken_the_other_queue_is_asked() {
        let room = 32;
        let mut shard = Shard::default();
        (0..64).for_each(|i| shard.request(i, room));
        let idle = shard.policy.window.peek().expect("the window has its share");
        shard.policy.arrive(token(1000), Some(room));
        for _ in 0..room {
            let (candidate, token) = shard.policy.candidate(|| Some(room)).expect("there are tokens");
            if token == idle {
                return;
            }
            if candidate.role == Role::Scout {
                shard.policy.judge(candidate, Uses::default());
            } else {
                shard.policy.settle(candidate, Fate::Taken);
            }
        }
        panic!("the window's one was never asked");
    }

    /// The window's one was used, so that it is judged by the victim's age, and all that could be the victim are out of reach.
    #[test]
    fn a_window_is_judged_without_a_victim_that_is_out_of_reach() {
        let room = 32;
        let mut shard = Shard::default();
        (0..64).for_each(|i| shard.request(i, room));
        let idle = shard.policy.window.peek().expect("the window has its share");
        shard.policy.arrive(token(1000), Some(room));
        for _ in 0..2 * room {
            let (candidate, token) = shard.policy.candidate(|| Some(room)).expect("there are tokens");
            if token != idle {
                shard.policy.settle(candidate, Fate::Taken);
            } else if shard.policy.judge(candidate, Uses { count: 1, stamp: 0, interval: 1 })
                == Verdict::Evict
            {
                return;
            }
        }
        panic!("the window's one was never evicted");
    }
}
