//! Invalidation without touching entries: notes of what was invalidated when, that readers compare with.
//!
//! Each value is stamped with the *epoch* that its creator started from. An invalidation takes a later epoch and notes it for
//! its scope; a value is invalid if its stamp is not later than a note that covers it. So a value that was being made while
//! it was invalidated is invalid, too, whenever it is written (H16).
//!
//! # Invariants
//! - **V1, epochs are one line.** Of two epochs that one region hands out the later is greater, also when the time of day is
//!   put back.
//! - **V2, two marks.** Hard and soft invalidations are noted apart: a later soft one does not weaken a hard one.
//! - **V3, nothing is forgotten.** Notes that are dropped to bound the memory become the region's own: they then cover more,
//!   never less.
//!
//! # Orderings
//! `NOTED` (store of the newest epoch, after its note) pairs with `LOOK` (a reader's load): who sees the epoch finds the
//! note. Who does not has been faster than the call that invalidates.
//!
//! # Cost
//! A read where nothing newer was invalidated: one load. Else a shared lock, and a look-up for each tag.
#![forbid(unsafe_code)]

use crate::error::Error;
use crate::sync::{AtomicU64, Ordering, RwLock};
use crate::time::Clock;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

const NOTED: Ordering = Ordering::Release;
const LOOK: Ordering = Ordering::Acquire;

/// What an invalidation covers.
///
/// ```
/// use dogpile::region::{How, Scope};
///
/// let region = dogpile::Region::in_memory();
/// region.tagged(["user:1"]).get_or_create("profile", || String::from("Ada"))?;
/// region.invalidate(Scope::Tag("user:1"), How::Hard)?;
/// assert_eq!(region.get::<String>("profile")?, None);
/// # Ok::<(), dogpile::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope<'a> {
    /// One key.
    Key(&'a str),
    /// All values with this tag.
    Tag(&'a str),
    /// All keys that begin so.
    Prefix(&'a str),
    /// All keys of the region.
    Region,
}

/// How a value is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// It is stale: one caller makes it anew, the others get it meanwhile.
    Soft,
    /// It is as if it were not there.
    Hard,
}

/// Where invalidations are noted, and looked up. Default: [`LocalInvalidation`], for one region object of one process.
///
/// An implementation of one's own can share them with other regions, or other processes.
pub trait InvalidationStrategy: Send + Sync {
    /// Notes that all in `scope` is invalid whose epoch is not later than `epoch`.
    ///
    /// # Errors
    /// If it can't be noted for all whom it concerns.
    fn invalidate(&self, scope: Scope<'_>, how: How, epoch: u64) -> Result<(), Error>;

    /// The newest epoch that was noted, for whatever scope; `u64::MAX`: `judge` is to be asked each time. On the path of every
    /// read.
    fn newest(&self) -> u64;

    /// Whether a value is invalid.
    fn judge(&self, key: &str, tags: &[String], epoch: u64) -> Option<How>;

    /// Whether `invalidate` may block: tasks then leave it to a thread. Default: no.
    fn blocks(&self) -> bool {
        false
    }
}

/// The newest invalidations of one scope.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Mark {
    hard: u64,
    soft: u64,
}

impl Mark {
    fn raise(&mut self, how: How, epoch: u64) {
        let mark = if how == How::Hard { &mut self.hard } else { &mut self.soft };
        *mark = epoch.max(*mark);
    }

    fn merge(&mut self, other: Self) {
        self.raise(How::Hard, other.hard);
        self.raise(How::Soft, other.soft);
    }

    fn newest(&self) -> u64 {
        self.hard.max(self.soft)
    }

    fn judge(&self, epoch: u64) -> Option<How> {
        if epoch <= self.hard {
            return Some(How::Hard);
        }
        (epoch <= self.soft).then_some(How::Soft)
    }
}

/// What was invalidated, by scope.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Notes {
    region: Mark,
    keys: HashMap<Box<str>, Mark>,
    tags: HashMap<Box<str>, Mark>,
    prefixes: HashMap<Box<str>, Mark>,
}

impl Notes {
    /// `most`: how many keys and tags are remembered, and how many prefixes.
    pub(crate) fn raise(&mut self, scope: Scope<'_>, how: How, epoch: u64, most: (usize, usize)) {
        let mut mark = Mark::default();
        mark.raise(how, epoch);
        self.add(scope, mark, most);
    }

    fn add(&mut self, scope: Scope<'_>, mark: Mark, most: (usize, usize)) {
        let Self { region, keys, tags, prefixes } = self;
        let (notes, name, most) = match scope {
            Scope::Region => return region.merge(mark),
            Scope::Key(key) => (keys, key, most.0),
            Scope::Tag(tag) => (tags, tag, most.0),
            Scope::Prefix(prefix) => (prefixes, prefix, most.1),
        };
        notes.entry(name.into()).or_default().merge(mark);
        bound(notes, most, region);
    }

    fn newest(&self) -> u64 {
        let all = [&self.keys, &self.tags, &self.prefixes].into_iter().flat_map(HashMap::values);
        all.map(Mark::newest).fold(self.region.newest(), u64::max)
    }
}

/// Invalidations of one region object in this process.
///
/// It remembers the last 100,000 keys and tags and 1,000 prefixes. Of older ones it forgets half at a time, and treats what
/// is as old as the newest of those as invalid, whatever it is.
///
/// ```
/// use dogpile::region::{How, InvalidationStrategy, LocalInvalidation, Scope};
///
/// let notes = LocalInvalidation::new();
/// notes.invalidate(Scope::Region, How::Hard, 7)?;
/// notes.invalidate(Scope::Region, How::Soft, 9)?;
/// assert_eq!(notes.judge("key", &[], 7), Some(How::Hard));
/// assert_eq!(notes.judge("key", &[], 8), Some(How::Soft));
/// assert_eq!(notes.judge("key", &[], 10), None);
/// # Ok::<(), dogpile::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct LocalInvalidation {
    newest: Newest,
    notes: RwLock<Notes>,
}

#[derive(Default)]
struct Newest(AtomicU64);

impl std::fmt::Debug for Newest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.load(Ordering::Relaxed).fmt(f)
    }
}

/// How many keys and tags are remembered, and how many prefixes.
const MOST: usize = 100_000;
const MOST_PREFIXES: usize = 1_000;
const BOUNDS: (usize, usize) = (MOST, MOST_PREFIXES);

impl LocalInvalidation {
    /// Nothing was invalidated so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over what was noted elsewhere.
    pub(crate) fn merge(&self, others: Notes) {
        let newest = others.newest();
        {
            let mut notes = self.notes.write().unwrap_or_else(crate::sync::PoisonError::into_inner);
            notes.add(Scope::Region, others.region, BOUNDS);
            others.keys.iter().for_each(|(key, mark)| notes.add(Scope::Key(key), *mark, BOUNDS));
            others.tags.iter().for_each(|(tag, mark)| notes.add(Scope::Tag(tag), *mark, BOUNDS));
            others.prefixes.iter().for_each(|(prefix, mark)| notes.add(Scope::Prefix(prefix), *mark, BOUNDS));
        }
        self.newest.0.fetch_max(newest, NOTED);
    }
}

/// Forgets the older half; what was forgotten covers the whole region.
fn bound(notes: &mut HashMap<Box<str>, Mark>, most: usize, region: &mut Mark) {
    if notes.len() <= most {
        return;
    }
    let mut epochs: Vec<u64> = notes.values().map(Mark::newest).collect();
    let middle = epochs.len() / 2;
    let (_, median, _) = epochs.select_nth_unstable(middle);
    let median = *median;
    notes.retain(|_, mark| {
        let keeps = mark.newest() > median;
        if !keeps {
            region.merge(*mark);
        }
        keeps
    });
}

impl InvalidationStrategy for LocalInvalidation {
    fn invalidate(&self, scope: Scope<'_>, how: How, epoch: u64) -> Result<(), Error> {
        let mut notes = self.notes.write().unwrap_or_else(crate::sync::PoisonError::into_inner);
        notes.raise(scope, how, epoch, BOUNDS);
        drop(notes);
        self.newest.0.fetch_max(epoch, NOTED);
        Ok(())
    }

    #[inline]
    fn newest(&self) -> u64 {
        self.newest.0.load(LOOK)
    }

    fn judge(&self, key: &str, tags: &[String], epoch: u64) -> Option<How> {
        let notes = self.notes.read().unwrap_or_else(crate::sync::PoisonError::into_inner);
        let mut mark = notes.region;
        if let Some(other) = notes.keys.get(key) {
            mark.merge(*other);
        }
        for other in tags.iter().filter_map(|tag| notes.tags.get(tag.as_str())) {
            mark.merge(*other);
        }
        for (_, other) in notes.prefixes.iter().filter(|(prefix, _)| key.starts_with(&***prefix)) {
            mark.merge(*other);
        }
        mark.judge(epoch)
    }
}

/// Hands out epochs: nanoseconds since 1970, or one more than the last.
#[derive(Default)]
pub(crate) struct Epochs {
    last: AtomicU64,
}

impl Epochs {
    /// An epoch later than all before (V1), and than `seen`, which may be from elsewhere: a hybrid clock (Kulkarni and
    /// others, "Logical Physical Clocks", 2014), in one number.
    pub(crate) fn next(&self, clock: &dyn Clock, seen: u64) -> u64 {
        let now = unix_nanos(clock).max(seen.saturating_add(1));
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let next = now.max(last.saturating_add(1));
            // AcqRel: whoever takes a later epoch has seen what was done before this one was taken.
            match self.last.compare_exchange(last, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return next,
                Err(other) => last = other,
            }
        }
    }
}

/// The time of day.
pub(crate) fn unix_nanos(clock: &dyn Clock) -> u64 {
    u64::try_from(clock.unix().as_nanos()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::ManualClock;

    #[test]
    fn v1_epochs_rise_when_the_time_of_day_is_put_back() {
        let clock = ManualClock::new();
        let epochs = Epochs::default();
        clock.advance(std::time::Duration::from_secs(1_000_000));
        let first = epochs.next(&clock, 0);
        clock.set(crate::time::Instant::from_nanos(0));
        let second = epochs.next(&clock, 0);
        assert!(second > first, "{second} comes after {first}");
    }

    /// A note of a broken clock, or of somebody hostile, is no reason to panic.
    #[test]
    fn no_epoch_comes_after_the_last() {
        let (clock, epochs) = (ManualClock::new(), Epochs::default());
        for _ in 0..3 {
            assert_eq!(epochs.next(&clock, u64::MAX - 1), u64::MAX);
        }
    }

    #[test]
    fn v3_what_is_forgotten_covers_the_region() {
        let notes = LocalInvalidation::new();
        for epoch in 1..=MOST as u64 + 1 {
            notes.invalidate(Scope::Tag(&epoch.to_string()), How::Hard, epoch).unwrap();
        }
        let half = MOST as u64 / 2;
        let kept = notes.notes.read().unwrap().tags.len();
        assert!(kept < MOST && kept > MOST / 3, "{kept} are remembered");
        assert_eq!(notes.judge("any", &[], 1), Some(How::Hard), "covered by what was forgotten");
        assert_eq!(notes.judge("any", &[], half + 2), None);
        let last = [(MOST + 1).to_string()];
        assert_eq!(notes.judge("any", &last, half + 2), Some(How::Hard), "still remembered");
    }
}
