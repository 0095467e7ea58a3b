//! [`SharedInvalidation`]: invalidations that are kept in a store, for all processes that use it.
//!
//! Two entries of the store: the notes, and a number that is another each time that they have changed. Who invalidates reads
//! the notes, adds to them, and puts them back by one step that fails if they have changed meanwhile (then again); then it
//! writes the number, and tells the others by the store's bus, where it has one. A thread reads the number each `refresh`, or
//! when it is told, and the notes if it is another. Readers of the region look only at what it has read.
//!
//! # Invariants
//! - **N1, no note is lost.** The notes are replaced only where they still are what was read. What is too much becomes the
//!   whole region's, so it covers more and never less (V3).
//! - **N2, seen in time.** A note that was acknowledged is looked at by every process after `refresh` and one read, as long as
//!   the store answers.
//! - **N3, later is later.** A value's epoch is greater than all notes that its process has seen when its creator starts
//!   ([`Epochs::next`](super::invalidation::Epochs)), and a note is `skew` later than its process's clock: of two processes
//!   whose clocks differ by less, the value that one has begun before the other's invalidation is covered.
//!
//! # Cost
//! A read: one load, as with local notes. An invalidation: two reads' and two writes' time. Each `refresh`: one small read.
#![forbid(unsafe_code)]

use super::invalidation::{How, InvalidationStrategy, LocalInvalidation, Notes, Scope};
use crate::backend::{Backend, Put, Store, Stored};
use crate::error::{Error, ErrorKind};
use crate::hash::RandomState;
use crate::sync::{
    Arc, AtomicBool, AtomicU64, OnceLock, Ordering, PlainMutex, Signal, Weak, lock_plain, spawn,
};
use std::any::Any;
use std::fmt;
use std::hash::BuildHasher;
use std::time::Duration;

/// What the notes begin with: a name and a version.
const MAGIC: &[u8] = b"dpn1";
/// How many keys, tags and prefixes the store remembers, of each.
const MOST: usize = 10_000;
/// A time of its own: a store may have one for entries that have none, and the notes must outlast all entries.
const FOR_EVER: Duration = Duration::MAX;
/// How often the notes are added to anew, if others are quicker.
const TRIES: u32 = 64;

/// Invalidations that hold for all processes whose regions have the same store and the same name for them.
///
/// Another process looks at an invalidation after `refresh` at the latest, sooner where the store sends messages (Redis), as
/// long as the store answers. Clocks of the processes may differ by `skew`: for so long after an invalidation what other
/// processes make is made once more.
///
/// The store remembers the last 10,000 keys, tags and prefixes each; of more, the older half becomes an invalidation of the
/// whole region.
///
/// ```
/// use dogpile::backend::{MemoryBackend, Store};
/// use dogpile::region::{How, Scope, SharedInvalidation};
/// use dogpile::Region;
///
/// // In the place of Redis, for once; and two regions in the place of two processes.
/// let store = MemoryBackend::builder().serialized(true).build()?;
/// let region = || {
///     let shared = SharedInvalidation::over(Store::both(store.clone()), "pages")?;
///     Region::builder().backend(store.clone()).invalidation(shared).build()
/// };
/// let (one, other) = (region()?, region()?);
/// one.tagged(["user:1"]).get_or_create("profile", || String::from("Ada"))?;
/// one.invalidate(Scope::Tag("user:1"), How::Hard)?;
/// assert_eq!(other.get::<String>("profile")?, None);
/// # Ok::<(), dogpile::Error>(())
/// ```
#[derive(Clone)]
pub struct SharedInvalidation {
    shared: Arc<Shared>,
}

struct Shared {
    local: LocalInvalidation,
    backend: Arc<dyn Backend>,
    notes: String,
    number: String,
    topic: String,
    refresh: Duration,
    skew: Duration,
    is_read: AtomicBool,
    /// The number of the notes that were read last.
    last: PlainMutex<Option<Stored>>,
    failures: AtomicU64,
    signal: Arc<Signal>,
    following: OnceLock<Option<Box<dyn Any + Send + Sync>>>,
    hasher: RandomState,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The thread finds nobody left.
        self.signal.raise();
    }
}

/// What it waits for, not what is noted.
impl fmt::Debug for SharedInvalidation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedInvalidation")
            .field("store", &self.shared.backend.name())
            .field("notes", &self.shared.notes)
            .field("refresh", &self.shared.refresh)
            .field("skew", &self.shared.skew)
            .finish_non_exhaustive()
    }
}

impl SharedInvalidation {
    /// How often the store is asked, and by how much clocks may differ, if nothing else is said.
    pub(crate) const TIMES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(20));

    /// Kept in `store`, under `name`, looked at each second, for clocks that differ by 20 ms at the most.
    ///
    /// # Errors
    /// As [`with`](Self::with).
    pub fn over(store: Store, name: &str) -> Result<Self, Error> {
        let (refresh, skew) = Self::TIMES;
        Self::with(store, name, refresh, skew)
    }

    /// The same, with times of one's own: how often the store is asked, and by how much the clocks of the processes may differ.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], if the store is for tasks only. The store is not asked yet.
    pub fn with(store: Store, name: &str, refresh: Duration, skew: Duration) -> Result<Self, Error> {
        let Some(backend) = store.blocking else {
            return Err(unsupported("the store must be one that threads can use, too"));
        };
        Ok(Self::on(backend, name, refresh, skew))
    }

    pub(crate) fn on(backend: Arc<dyn Backend>, name: &str, refresh: Duration, skew: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                local: LocalInvalidation::new(),
                backend,
                notes: format!("dogpile:notes:{name}"),
                number: format!("dogpile:notes-number:{name}"),
                topic: format!("notes:{name}"),
                refresh,
                skew,
                is_read: AtomicBool::new(false),
                last: PlainMutex::new(None),
                failures: AtomicU64::new(0),
                signal: Arc::new(Signal::default()),
                following: OnceLock::new(),
                hasher: RandomState::new(),
            }),
        }
    }

    /// How often the store could not be asked, or had something else in the place of the notes.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::Relaxed)
    }

    /// Reads what the store has now, and starts to follow it.
    #[cold]
    fn start(&self) {
        let shared = &self.shared;
        shared.following.get_or_init(|| {
            let this = Arc::downgrade(shared);
            let signal = Arc::clone(&shared.signal);
            let refresh = shared.refresh;
            // Without a thread the store is asked with each look.
            let has_thread = spawn("dogpile-notes", move || follow(&this, &signal, refresh));
            let signal = Arc::clone(&shared.signal);
            let following =
                shared.backend.bus().map(|bus| bus.follow(&shared.topic, Arc::new(move |_| signal.raise())));
            shared.read();
            shared.is_read.store(has_thread, Ordering::Release);
            following
        });
        if !shared.is_read.load(Ordering::Relaxed) {
            shared.read();
        }
    }
}

fn follow(shared: &Weak<Shared>, signal: &Signal, refresh: Duration) {
    loop {
        signal.wait(Some(refresh));
        match Weak::upgrade(shared) {
            Some(shared) => shared.read(),
            None => return,
        }
    }
}

fn unsupported(detail: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, "shared invalidation").detail(detail)
}

impl Shared {
    /// Takes over what the store has, if it is news.
    fn read(&self) {
        if self.try_read().is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What the store that all share has: not what memory before it has ([`TieredBackend`](crate::backend::TieredBackend)), which
    /// a conditional write never asks. This one writes nothing.
    fn look(&self, key: &str) -> Result<Option<Stored>, Error> {
        let found = PlainMutex::new(None);
        let keeps = |_: usize, now: Option<&Stored>| {
            *lock_plain(&found) = now.cloned();
            true
        };
        let nothing = Stored::from([].as_slice());
        match self.backend.set_unless(&[Put::new(key, &nothing)], &keeps) {
            Some(done) => done?,
            None => return self.backend.get(key),
        };
        let found = lock_plain(&found).take();
        Ok(found)
    }

    fn try_read(&self) -> Result<(), Error> {
        let number = self.look(&self.number)?;
        let is_news = match (&number, &*lock_plain(&self.last)) {
            (Some(number), Some(last)) => !number.is_same(last),
            (number, _) => number.is_some(),
        };
        if is_news {
            let stored = self.look(&self.notes)?;
            self.local.merge(parse(stored.as_ref())?);
            *lock_plain(&self.last) = number;
        }
        Ok(())
    }

    /// Adds to what the store has (N1).
    fn add(&self, scope: Scope<'_>, how: How, epoch: u64) -> Result<(), Error> {
        for _ in 0..TRIES {
            let stored = self.look(&self.notes)?;
            // What can't be read is not written over: another version may know what it is.
            let mut notes = parse(stored.as_ref())?;
            notes.raise(scope, how, epoch, (MOST, MOST));
            let newer = Stored::from(render(&notes)?);
            let keeps = |_: usize, now: Option<&Stored>| match (now, &stored) {
                (Some(now), Some(before)) => !now.is_same(before),
                (now, before) => now.is_some() != before.is_some(),
            };
            let put = [Put::new(&self.notes, &newer).ttl(Some(FOR_EVER))];
            let done = self.backend.set_unless(&put, &keeps);
            if done.ok_or_else(|| unsupported("the store can't compare and write by one step"))??.first()
                != Some(&true)
            {
                continue;
            }
            // Two that are the same number by chance are one in 2^64.
            let number = self.hasher.hash_one((epoch, newer.bytes()));
            let number = Stored::from(number.to_le_bytes().as_slice());
            self.backend.set(Put::new(&self.number, &number).ttl(Some(FOR_EVER)))?;
            if let Some(bus) = self.backend.bus() {
                // Who is not told looks by itself (N2).
                let _ = bus.publish(&self.topic, &[]);
            }
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, "shared invalidation")
            .detail("others were quicker each time: invalidate less often, by fewer scopes"))
    }
}

fn parse(stored: Option<&Stored>) -> Result<Notes, Error> {
    let Some(stored) = stored else { return Ok(Notes::default()) };
    let broken = || {
        Error::new(ErrorKind::Unavailable, "shared invalidation")
            .detail("what the store has for notes is none: delete that entry, or use another name")
    };
    let bytes = stored.bytes().and_then(|bytes| bytes.strip_prefix(MAGIC)).ok_or_else(broken)?;
    postcard::from_bytes(bytes).map_err(|_| broken())
}

fn render(notes: &Notes) -> Result<Vec<u8>, Error> {
    postcard::to_extend(notes, MAGIC.to_vec())
        .map_err(|error| unsupported("the notes can't be written").because(error))
}

impl InvalidationStrategy for SharedInvalidation {
    fn invalidate(&self, scope: Scope<'_>, how: How, epoch: u64) -> Result<(), Error> {
        let skew = u64::try_from(self.shared.skew.as_nanos()).unwrap_or(u64::MAX);
        let epoch = epoch.saturating_add(skew);
        // Here at once, also if the store fails.
        self.shared.local.invalidate(scope, how, epoch)?;
        self.shared.add(scope, how, epoch)
    }

    #[inline]
    fn newest(&self) -> u64 {
        if !self.shared.is_read.load(Ordering::Acquire) {
            self.start();
        }
        self.shared.local.newest()
    }

    fn judge(&self, key: &str, tags: &[String], epoch: u64) -> Option<How> {
        self.shared.local.judge(key, tags, epoch)
    }

    fn blocks(&self) -> bool {
        true
    }
}
