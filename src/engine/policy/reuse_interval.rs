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
use super::{Fate, Policy, Token, Uses, Verdict};

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
pub(crate) enum Candidate {
    Window,
    Main,
    /// Of the main queue, whose age is wanted.
    Scout,
}

#[derive(Clone, Copy)]
struct Newcomer {
    token: Token,
    /// Until the main queue's next victim is known: its interval.
    place: Result<Place, u32>,
    uses: u8,
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
    /// Whether a judgement waits for it.
    wants_victim: bool,
    newcomer: Option<Newcomer>,
    /// The queue to ask next, where the other one's first was out of reach.
    instead: Option<Place>,
    room: usize,
    /// Before the first eviction the window's share has no reason to be what it is.
    has_evicted: bool,
}

impl ReuseInterval {
    /// Takes over a new number of entries, if it is far from the one that all sizes are made for.
    #[inline]
    fn follow(&mut self, room: usize) {
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

    fn adapt(&mut self, returned: Returned) {
        if returned.soon {
            self.share = match returned.from_window {
                true => (self.share + 1).min(self.greatest_share()),
                false => self.share.saturating_sub(1).max(self.least_share()),
            };
        }
    }

    /// Takes the first token out of a queue.
    #[inline]
    fn pop(&mut self, candidate: Candidate) -> Token {
        let token = match candidate {
            Candidate::Window => self.window.pop(),
            Candidate::Main | Candidate::Scout => {
                self.victim = None;
                self.main.pop()
            }
        };
        token.expect("E1: a candidate stands first in its queue")
    }

    /// Notes the main queue's first token as its next victim.
    fn note_victim(&mut self, uses: Uses) {
        self.victim = Some(self.tick.wrapping_sub(Uses::since(uses.stamp, self.tick as u16).into()));
        self.wants_victim = false;
    }

    fn note_eviction(&mut self, token: Token, from_window: bool, stamp: u16) {
        if self.is_plain() {
            return;
        }
        if !self.ghost.is_made() {
            // Now the room is used, so its number is what it will be.
            self.rescale();
            self.has_evicted = true;
            if self.is_plain() {
                return;
            }
            self.ghost = Ghost::with_room(self.scale.room.min(2 * self.len() + TICKS));
        }
        let stamp = self.tick.wrapping_sub(Uses::since(stamp, self.tick as u16).into());
        self.ghost.add(token.hash(), from_window, stamp, self.tick);
    }

    /// The queue that gives way next.
    fn next_queue(&self, newcomer: Option<Place>) -> Place {
        let coming = |place| usize::from(newcomer == Some(place));
        let window_is_over = self.window.len() + coming(Place::Window) > self.share;
        let main_is_over = self.main.len() + coming(Place::Main) > self.main_share();
        match self.instead {
            _ if self.window.len() == 0 => Place::Main,
            _ if self.main.len() == 0 => Place::Window,
            Some(place) => place,
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

    fn arrive(&mut self, token: Token, room: usize) {
        self.follow(room);
        self.arrived += 1;
        if self.arrived >= self.scale.tick {
            self.arrived = 0;
            self.tick = self.tick.wrapping_add(1);
        }
        let returned = self.ghost.take(token.hash(), self.tick);
        let (mut place, mut uses) = (Ok(Place::Window), 0);
        if let Some(returned) = returned {
            self.adapt(returned);
            uses = u8::from(!returned.from_window);
            place = match self.passes(returned.interval) {
                Some(true) => Ok(Place::Main),
                Some(false) => Ok(Place::Window),
                None => Err(returned.interval),
            };
        }
        if self.main.len() < self.main_share() || self.is_plain() {
            place = Ok(Place::Main);
        }
        self.newcomer = Some(Newcomer { token, place, uses });
    }

    fn admit(&mut self) -> u8 {
        let Some(Newcomer { token, place, uses }) = self.newcomer.take() else { return 0 };
        match place {
            Ok(Place::Main) => {
                self.main.push(token);
                uses
            }
            // One that nobody had to give way for, so that the victim's age was never asked for.
            Ok(Place::Window) | Err(_) => {
                self.window.push(token);
                0
            }
        }
    }

    fn now(&self) -> u16 {
        self.tick as u16
    }

    fn candidate(&mut self, room: usize) -> Option<(Candidate, Token)> {
        self.follow(room);
        if let Some(Newcomer { place: Err(interval), .. }) = self.newcomer {
            match self.passes(interval) {
                Some(passes) => {
                    let place = if passes { Place::Main } else { Place::Window };
                    self.newcomer.as_mut().expect("it was there a line before").place = Ok(place);
                }
                None => self.wants_victim = true,
            }
        }
        if self.wants_victim
            && self.instead.is_none()
            && let Some(token) = self.main.get(0)
        {
            return Some((Candidate::Scout, token));
        }
        let newcomer = self.newcomer.and_then(|newcomer| newcomer.place.ok());
        let queue = self.next_queue(newcomer);
        self.instead = None;
        match queue {
            Place::Window => self.window.get(0).map(|token| (Candidate::Window, token)),
            Place::Main => self.main.get(0).map(|token| (Candidate::Main, token)),
        }
    }

    fn judge(&mut self, candidate: Candidate, uses: Uses) -> Verdict {
        match candidate {
            Candidate::Window => {
                if uses.count == 0 || uses.interval == 0 {
                    return Verdict::Evict;
                }
                match self.passes(uses.interval.into()) {
                    Some(true) => {
                        let token = self.pop(candidate);
                        self.main.push(token);
                        Verdict::Keep { reuse: 0 }
                    }
                    Some(false) => Verdict::Evict,
                    None => {
                        self.wants_victim = true;
                        Verdict::Wait
                    }
                }
            }
            Candidate::Main | Candidate::Scout if uses.count > 0 => {
                let token = self.pop(candidate);
                self.main.push(token);
                Verdict::Keep { reuse: uses.count - 1 }
            }
            Candidate::Main => Verdict::Evict,
            Candidate::Scout => {
                self.note_victim(uses);
                Verdict::Wait
            }
        }
    }

    fn settle(&mut self, candidate: Candidate, fate: Fate) {
        let token = self.pop(candidate);
        let from_window = candidate == Candidate::Window;
        match fate {
            Fate::Evicted { stamp } => self.note_eviction(token, from_window, stamp),
            Fate::Busy if from_window => self.window.push(token),
            Fate::Busy => self.main.push(token),
            Fate::Taken => {
                // Not the window: there it may be alone, and would be the next again.
                self.main.push(token);
                self.instead = Some(if from_window { Place::Main } else { Place::Window });
            }
            Fate::Expired | Fate::Stale => {}
        }
    }

    fn ahead(&self) -> [Option<Token>; 2] {
        let queue = match self.next_queue(None) {
            Place::Window => &self.window,
            Place::Main => &self.main,
        };
        [queue.get(0), queue.get(1)]
    }

    fn line_of(&self, hash: u64) -> Option<*const u32> {
        self.ghost.line_of(hash)
    }

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
