//! [`TieredBackend`]: memory before a shared store.
//!
//! ```text
//! get:    near, young enough ─> it        else ─> far ─> near ─> it        far fails ─> what near has
//! write:  far ─> near ─> the bus: other processes drop theirs
//! ```
//!
//! What the near tier has is young for `near_ttl` after its read from the far one began; then one reader asks the far tier
//! again, and the others go on with it for as long again. So without the bus a change in another process is seen after
//! 2 × `near_ttl` at the latest, and with it as soon as its message is there.
//!
//! # Invariants
//! - **T1, no old value after its message.** Each key has one of 4,096 counts. Who drops a key (a message, a write) raises its
//!   count first; who fills reads the count before it asks the far tier, and takes its value out again if the count is
//!   another after it was put in. Of the two one sees the other: both have a fence between their write and their read.
//! - **T2, a write of ours is filled in only if nobody else wrote meanwhile.** Writers raise the count before and after; who
//!   finds more than its own two takes the key out instead.
//! - **T3, lost messages are noticed.** They are numbered. After a gap, or when the connection is there again and the number
//!   is another, all that was filled before is old; while the connection is lost, `near_ttl` is `unheard_ttl`.
//!   A write that failed is not told: the store that would have to pass it on does not answer.
//! - **T4, what is old is kept for the day when the far tier fails**, until room is needed. It is served then, and the region
//!   judges its age as ever.
//! - **T5, what ends is over here, too**, if this process has written it. Of what was read the far tier tells no end: it is over
//!   after 2 × `near_ttl` at the latest.
//!
//! # Orderings
//! `RAISE` (of a count) with the fence after it pairs with the fence before `RECHECK` (T1).
//!
//! # Cost
//! A hit: one lookup of the engine's, a coarse clock, two loads. The value is opened once for each time that it was read from
//! the far tier and had changed ([`Backend::keep`]). A write: one message more.
#![forbid(unsafe_code)]

mod faces;
mod message;

use super::bus::{Bus, Heard};
use super::{AsyncBackend, Backend, Opened, Store, Stored, Takes, for_tasks};
use crate::cache::{Cache, Compute};
use crate::error::{Error, ErrorKind};
use crate::hash::RandomState;
use crate::sync::{Arc, AtomicBool, AtomicU64, OnceLock, Ordering, PlainMutex, Weak, fence, lock_plain};
use crate::time::{Clock, CoarseClock, Instant};
use message::{Message, What};
use std::any::Any;
use std::fmt;
use std::hash::BuildHasher;
use std::time::Duration;

const RAISE: Ordering = Ordering::Release;
const RECHECK: Ordering = Ordering::Acquire;

/// A power of two.
const CELLS: usize = 4096;

/// Memory before a shared store: hits are the memory's, and other processes' copies are dropped by messages where the store
/// can send them (Redis).
///
/// The near tier has the values as they are, beside their bytes. In a URL: `tiered+` before the store's own scheme, with the
/// settings `near_entries`, `near_ttl`, `unheard_ttl` and `near_topic` beside the store's.
///
/// | | default | |
/// |---|---|---|
/// | `near_entries` | 10,000 | how many entries there are in memory |
/// | `near_ttl` | 30 s; 1 s where the store sends no messages | after it, the store is asked again |
/// | `unheard_ttl` | 1 s | the same, while messages can't be heard |
/// | `near_topic` | `tier` | who share it drop each other's copies |
///
/// Of what another process has changed, an old copy may be served for 2 × `near_ttl` at the most, while the store can be asked.
/// While it can't, copies are served, and the region's policy says which are still good: `stale_if_error`, `stale`.
///
/// ```
/// use dogpile::backend::{MemoryBackend, Store, TieredBackend};
/// use dogpile::Region;
///
/// // In the place of a shared store, for once.
/// let far = MemoryBackend::builder().serialized(true).build()?;
/// let tiers = TieredBackend::builder(Store::both(far.clone())).near_entries(1_000).build()?;
/// let region = Region::builder().backend(tiers).build()?;
/// region.set("key", String::from("value"))?;
/// assert_eq!(region.get::<String>("key")?.as_deref().map(String::as_str), Some("value"));
/// assert_eq!(far.cache().len(), 1, "it is in both");
/// # Ok::<(), dogpile::Error>(())
/// ```
#[derive(Clone)]
pub struct TieredBackend {
    tiers: Arc<Tiers>,
}

struct Near {
    stored: Stored,
    /// When the read that brought it began. `None`: the far tier may have something else, and is asked each time.
    filled: Option<Instant>,
    /// When it is over, if that is known: of what this process has written.
    ends: Option<Instant>,
    /// Whether somebody asks the far tier for it.
    is_asked: AtomicBool,
}

struct Tiers {
    this: Weak<Tiers>,
    near: Cache<String, Near>,
    blocking: Option<Arc<dyn Backend>>,
    awaiting: Arc<dyn AsyncBackend>,
    counts: Box<[AtomicU64]>,
    hasher: RandomState,
    /// What was filled before is old (T3).
    since: AtomicU64,
    /// For how long it is young, in nanoseconds, now.
    young: AtomicU64,
    near_ttl: Duration,
    unheard_ttl: Duration,
    topic: String,
    bus: Option<Arc<dyn Bus>>,
    /// Listens while it lives; from the first use on.
    following: OnceLock<Box<dyn Any + Send + Sync>>,
    /// The number of the last message.
    heard: PlainMutex<Option<u64>>,
    /// Whose messages are our own.
    origin: u64,
    clock: Arc<dyn Clock>,
    rescued: AtomicU64,
}

/// The settings of a [`TieredBackend`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct TieredBackendBuilder {
    far: Store,
    near_entries: u64,
    near_ttl: Option<Duration>,
    unheard_ttl: Duration,
    topic: String,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for TieredBackendBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredBackendBuilder")
            .field("far", &self.far)
            .field("near_entries", &self.near_entries)
            .field("near_ttl", &self.near_ttl)
            .field("unheard_ttl", &self.unheard_ttl)
            .field("near_topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl TieredBackendBuilder {
    /// How many entries there are in memory, at the most. Default: 10,000.
    pub fn near_entries(mut self, entries: u64) -> Self {
        self.near_entries = entries;
        self
    }

    /// For how long a value is served from memory without asking the store again. Default: 30 s where the store sends
    /// messages, 1 s where it doesn't.
    pub fn near_ttl(mut self, ttl: Duration) -> Self {
        self.near_ttl = Some(ttl);
        self
    }

    /// The same, while messages can't be heard; `near_ttl` if that is shorter. Default: 1 s.
    pub fn unheard_ttl(mut self, ttl: Duration) -> Self {
        self.unheard_ttl = ttl;
        self
    }

    /// The topic of the messages. Who shares it drops each other's copies. Default: `tier`.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = topic.into();
        self
    }

    /// Another clock, for tests.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The backend.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], if the far tier keeps objects, and not bytes: it has nothing to gain.
    pub fn build(self) -> Result<TieredBackend, Error> {
        let wrong =
            |detail: &'static str| Err(Error::new(ErrorKind::Config, "tiered backend").detail(detail));
        let Store { blocking, awaiting } = self.far;
        let awaiting = match (awaiting, &blocking) {
            (Some(awaiting), _) => awaiting,
            (None, Some(blocking)) => for_tasks(blocking),
            (None, None) => return wrong("it has no far tier"),
        };
        if awaiting.takes() != Takes::Bytes {
            return wrong("its far tier must be one that takes bytes: memory needs no tier before it");
        }
        let bus = blocking.as_ref().and_then(|far| far.bus()).or_else(|| awaiting.bus());
        let alone = if bus.is_some() { Duration::from_secs(30) } else { Duration::from_secs(1) };
        let near_ttl = self.near_ttl.unwrap_or(alone);
        let unheard_ttl = if bus.is_some() { self.unheard_ttl.min(near_ttl) } else { near_ttl };
        let hasher = RandomState::new();
        Ok(TieredBackend {
            tiers: Arc::new_cyclic(|this| Tiers {
                this: Weak::clone(this),
                near: Cache::new(self.near_entries),
                blocking,
                awaiting,
                counts: (0..CELLS).map(|_| AtomicU64::new(0)).collect(),
                origin: hasher.hash_one("origin"),
                hasher,
                since: AtomicU64::new(0),
                young: AtomicU64::new(nanos(unheard_ttl)),
                near_ttl,
                unheard_ttl,
                topic: self.topic,
                bus,
                following: OnceLock::new(),
                heard: PlainMutex::new(None),
                clock: self.clock,
                rescued: AtomicU64::new(0),
            }),
        })
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// A read from the far tier, from before it began.
struct Filling {
    cell: usize,
    count: u64,
    begun: Instant,
    /// Whether it was answered.
    is_sure: bool,
}

/// A write to the far tier, from before it began.
struct Writing {
    /// Each cell once, with its count after ours.
    cells: Vec<(usize, u64)>,
    begun: Instant,
}

/// What becomes of a key in the near tier after a write.
#[derive(Clone, Copy)]
enum After<'a> {
    /// For so long.
    Has(&'a Stored, Option<Duration>),
    /// Or something newer: nobody knows.
    MayHave(&'a Stored, Option<Duration>),
    /// What it had, for so long from now on.
    Lasts(Option<Duration>),
    Nothing,
}

impl TieredBackend {
    /// Settings, one by one, of tiers over `far`.
    pub fn builder(far: Store) -> TieredBackendBuilder {
        TieredBackendBuilder {
            far,
            near_entries: 10_000,
            near_ttl: None,
            unheard_ttl: Duration::from_secs(1),
            topic: String::from("tier"),
            clock: Arc::new(CoarseClock),
        }
    }

    /// How often the near tier has answered because the far one could not.
    #[must_use]
    pub fn rescued(&self) -> u64 {
        self.tiers.rescued.load(Ordering::Relaxed)
    }

    /// How many entries are in memory.
    #[must_use]
    pub fn near_len(&self) -> u64 {
        self.tiers.near.len()
    }

    /// For [`Schemes`](super::Schemes): both faces, or the one that the far tier has.
    pub(crate) fn into_store(self) -> Store {
        if self.tiers.blocking.is_some() { Store::both(self) } else { Store::awaiting(self) }
    }
}

/// Neither keys nor values.
impl fmt::Debug for TieredBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredBackend")
            .field("near_entries", &self.tiers.near.len())
            .field("far", &self.tiers.awaiting.name())
            .finish_non_exhaustive()
    }
}

impl Tiers {
    fn cell(&self, key: &str) -> usize {
        self.hasher.hash_one(key) as usize & (CELLS - 1)
    }

    #[inline]
    fn is_young(&self, near: &Near, times: u64) -> bool {
        let Some(filled) = near.filled else { return false };
        let age = nanos(self.clock.now().saturating_duration_since(filled));
        filled.as_nanos() >= self.since.load(Ordering::Relaxed)
            && !self.is_over(near)
            && age < self.young.load(Ordering::Relaxed).saturating_mul(times)
    }

    /// T5.
    #[inline]
    fn is_over(&self, near: &Near) -> bool {
        near.ends.is_some_and(|ends| ends <= self.clock.now())
    }

    /// What the near tier has, if the far one need not be asked.
    #[inline]
    fn near_now(&self, key: &str) -> Option<Stored> {
        let near = self.near.get(key)?;
        let serves = self.is_young(&near, 1)
            // Somebody asks already.
            || near.is_asked.swap(true, Ordering::Relaxed) && self.is_young(&near, 2);
        serves.then(|| near.stored.clone())
    }

    fn begin(&self, key: &str) -> Filling {
        self.follow();
        let cell = self.cell(key);
        Filling {
            cell,
            count: self.counts[cell].load(Ordering::Acquire),
            begun: self.clock.now(),
            is_sure: true,
        }
    }

    /// The far tier has answered.
    fn filled(
        &self,
        key: &str,
        filling: &Filling,
        answer: Result<Option<Stored>, Error>,
    ) -> Result<Option<Stored>, Error> {
        match answer {
            Ok(Some(stored)) => Ok(Some(self.fill(key, filling, &stored, None))),
            Ok(None) => {
                if self.counts[filling.cell].load(RECHECK) == filling.count {
                    self.near.remove(key);
                }
                Ok(None)
            }
            // T4.
            Err(error) => match self.near.get(key).filter(|near| !self.is_over(near)) {
                Some(near) => {
                    near.is_asked.store(false, Ordering::Relaxed);
                    self.rescued.fetch_add(1, Ordering::Relaxed);
                    Ok(Some(near.stored.clone()))
                }
                None => Err(error),
            },
        }
    }

    /// Puts in what the far tier had (T1). Returns it, opened if it was.
    fn fill(&self, key: &str, filling: &Filling, stored: &Stored, ends: Option<Instant>) -> Stored {
        let mut given = stored.clone();
        if self.counts[filling.cell].load(RECHECK) != filling.count {
            return given;
        }
        self.near.compute(key.to_owned(), |old| {
            let same = old.filter(|near| near.stored.is_same(stored));
            // What was opened stays so.
            given = same.map_or_else(|| stored.clone(), |near| near.stored.clone());
            // What was to be over by now, and is not, has another end.
            let known = same.and_then(|near| near.ends).filter(|ends| *ends > filling.begun);
            Compute::Put(Near {
                stored: given.clone(),
                filled: filling.is_sure.then_some(filling.begun),
                ends: ends.or(known),
                is_asked: AtomicBool::new(false),
            })
        });
        fence(Ordering::SeqCst);
        if self.counts[filling.cell].load(RECHECK) != filling.count {
            self.near.remove(key);
        }
        given
    }

    fn raise(&self, cell: usize) -> u64 {
        self.counts[cell].fetch_add(1, RAISE) + 1
    }

    /// Somebody else has written the key (T1).
    fn drop_key(&self, key: &str) {
        self.raise(self.cell(key));
        fence(Ordering::SeqCst);
        self.near.remove(key);
    }

    fn drop_prefix(&self, prefix: &str) {
        (0..CELLS).for_each(|cell| {
            self.raise(cell);
        });
        fence(Ordering::SeqCst);
        self.near.retain(|key, _| !key.starts_with(prefix));
    }

    fn writing<'k>(&self, keys: impl Iterator<Item = &'k str>) -> Writing {
        self.follow();
        let mut cells: Vec<usize> = keys.map(|key| self.cell(key)).collect();
        cells.sort_unstable();
        cells.dedup();
        Writing {
            cells: cells.into_iter().map(|cell| (cell, self.raise(cell))).collect(),
            begun: self.clock.now(),
        }
    }

    /// The far tier was written (T2).
    fn written<'k>(&self, writing: &Writing, entries: impl Iterator<Item = (&'k str, After<'k>)>) {
        let ends: Vec<u64> = writing.cells.iter().map(|(cell, _)| self.raise(*cell)).collect();
        for (key, after) in entries {
            let cell = self.cell(key);
            let i = writing.cells.partition_point(|(other, _)| *other < cell);
            let is_alone = ends[i] == writing.cells[i].1 + 1;
            match after {
                After::Has(stored, ttl) | After::MayHave(stored, ttl) if is_alone => {
                    let is_sure = matches!(after, After::Has(..));
                    let filling = Filling { cell, count: ends[i], begun: writing.begun, is_sure };
                    self.fill(key, &filling, stored, ttl.map(|ttl| writing.begun.saturating_add(ttl)));
                }
                After::Lasts(ttl) if is_alone => {
                    self.set_end(key, ttl.map(|ttl| writing.begun.saturating_add(ttl)));
                    fence(Ordering::SeqCst);
                    if self.counts[cell].load(RECHECK) != ends[i] {
                        self.near.remove(key);
                    }
                }
                After::Has(..) | After::MayHave(..) | After::Lasts(_) | After::Nothing => {
                    fence(Ordering::SeqCst);
                    self.near.remove(key);
                }
            }
        }
    }

    /// All that is there is old (T3).
    fn age_all(&self) {
        // One later than now: what is being filled began before.
        self.since.fetch_max(self.clock.precise().as_nanos() + 1, Ordering::Relaxed);
    }

    /// T5: the same entry, with another end.
    fn set_end(&self, key: &str, ends: Option<Instant>) {
        self.near.compute(key.to_owned(), |old| match old {
            Some(near) => Compute::Put(Near {
                stored: near.stored.clone(),
                filled: near.filled,
                ends,
                is_asked: AtomicBool::new(near.is_asked.load(Ordering::Relaxed)),
            }),
            None => Compute::Keep,
        });
    }

    // ---- the bus

    /// Listens from now on.
    fn follow(&self) {
        if let Some(bus) = &self.bus
            && self.following.get().is_none()
        {
            self.start(bus);
        }
    }

    #[cold]
    fn start(&self, bus: &Arc<dyn Bus>) {
        let this = Weak::clone(&self.this);
        self.following.get_or_init(|| {
            bus.follow(
                &self.topic,
                Arc::new(move |heard| {
                    if let Some(tiers) = Weak::upgrade(&this) {
                        tiers.hear(heard);
                    }
                }),
            )
        });
    }

    fn hear(&self, heard: Heard<'_>) {
        match heard {
            Heard::Connected { sequence } => {
                let former = lock_plain(&self.heard).replace(sequence);
                if former != Some(sequence) {
                    self.age_all();
                }
                self.young.store(nanos(self.near_ttl), Ordering::Relaxed);
            }
            Heard::Lost => self.young.store(nanos(self.unheard_ttl), Ordering::Relaxed),
            Heard::Message { sequence, message } => {
                let former = lock_plain(&self.heard).replace(sequence);
                if former.is_none_or(|former| former.wrapping_add(1) != sequence) {
                    self.age_all();
                }
                match Message::read(message) {
                    Some(Message { origin, .. }) if origin == self.origin => {}
                    Some(Message { what: What::Keys(keys), .. }) => {
                        keys.into_iter().for_each(|key| self.drop_key(key));
                    }
                    Some(Message { what: What::Prefix(prefix), .. }) => self.drop_prefix(prefix),
                    // Of another version of ours.
                    None => self.age_all(),
                }
            }
        }
    }

    fn message(&self, what: What<'_>) -> Option<(Arc<dyn Bus>, Vec<u8>)> {
        Some((Arc::clone(self.bus.as_ref()?), Message { origin: self.origin, what }.write()))
    }

    /// Tells the others. They find out by themselves, in time, if they can't be told.
    fn tell_now(&self, what: What<'_>) {
        if let Some((bus, message)) = self.message(what) {
            let _ = bus.publish(&self.topic, &message);
        }
    }

    async fn tell(&self, what: What<'_>) {
        if let Some((bus, message)) = self.message(what) {
            let topic = self.topic.clone();
            let _ = blocking::unblock(move || bus.publish(&topic, &message)).await;
        }
    }

    /// What was read from the near tier as bytes was opened.
    fn keep(&self, key: &str, opened: &Arc<Opened>) {
        self.near.compute(key.to_owned(), |old| match old {
            Some(near) if matches!(&near.stored, Stored::Bytes(bytes) if *bytes == opened.bytes) => {
                Compute::Put(Near {
                    stored: Stored::Opened(Arc::clone(opened)),
                    filled: near.filled,
                    ends: near.ends,
                    is_asked: AtomicBool::new(near.is_asked.load(Ordering::Relaxed)),
                })
            }
            _ => Compute::Keep,
        });
    }

    fn far(&self) -> Result<&Arc<dyn Backend>, Error> {
        self.blocking.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "tiered backend").detail("its far tier is for tasks only")
        })
    }
}
