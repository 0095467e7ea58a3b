//! [`FileBackend`]: a folder as a store, for several processes at once.
//!
//! ```text
//! get:         open, read, close: no lock
//! set:         a file of its own ─> the stripe's lock ─> rename
//! set_unless:  the same, and under the lock: is the entry what it was when it was read, or when the key was locked?
//! ```
//! `record.rs` has an entry byte by byte, `folder.rs` the folder and its locks, `lock.rs` the lock of a key, `sweep.rs` what is
//! removed and when. Invariants F1 to F5, L1 to L4 and S1 stand there.
//!
//! # Cost
//! A read is three to four system calls, a write about ten. `len`, and `clear` of a prefix, read the beginning of every
//! entry. Nothing is kept in memory.
#![forbid(unsafe_code)]

mod folder;
mod lock;
mod record;
mod settings;
mod sweep;

#[cfg(fuzzing)]
#[doc(hidden)]
pub use record::door as __door;
pub(crate) use settings::register;

use self::folder::{Folder, Identity, Name, failed};
use self::lock::{FileFence, KeyLock};
use self::record::{Head, MOST_KEY, MOST_VALUE, Record, Trouble};
use super::{Backend, CacheMutex, LockInfo, Put, Stored, Takes};
use crate::error::{Error, ErrorKind};
use crate::sync::{Arc, Ordering, plain::AtomicU64};
use crate::time::{Clock, CoarseClock};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A store in a folder of the local file system, shared by all processes that have it open.
///
/// * A process may be killed at any moment: an entry is there as a whole or not at all. What a dead process has left is swept
///   when the store is opened, or by later writes.
/// * The dogpile lock is a lock of the system's on a file for each key. It ends with its process, at once, and has no lease. Keys
///   never wait for each other.
/// * A value that was made is refused if the key was set or deleted meanwhile, by whatever process.
/// * After a power cut entries may be missing or damaged, unless [`sync`](FileBackendBuilder::sync) is on; a damaged one is
///   found by its checksums, and is a miss.
/// * Times to live go by the time of day. If that is put back entries stay longer by as much, but not longer than twice
///   their time.
/// * There is no limit to its size: it grows until entries expire (set a time to live), or are cleared.
/// * Key and value are at most 16 MiB and 1 GiB.
///
/// Not for network file systems, whose locks and renames may promise less. Files and folders get the rights that the process
/// gives to new ones: whoever may read the folder may read values, and whoever may write to it may change them. A child
/// that was forked and goes on without `exec` keeps the locks of its parent alive. Clones share the store.
///
/// By name: `file:///path/to/folder?sync=true&corrupt=error&timeout=500ms`, also in a map with `path`; or as
/// `dogpile.cache.dbm` with `filename`. A DBM file of Python's can't be shared.
///
/// ```
/// use dogpile::Region;
/// use dogpile::backend::FileBackend;
///
/// # let folder = std::env::temp_dir().join(format!("dogpile-doc-{}", std::process::id()));
/// # let name = folder.clone();
/// let region = Region::builder().backend(FileBackend::open(name)?).build()?;
/// assert_eq!(*region.get_or_create("seven", || 7)?, 7);
///
/// // Another process, or this one, later:
/// let again = Region::builder().backend(FileBackend::open(&folder)?).build()?;
/// assert_eq!(again.get::<i32>("seven")?.as_deref(), Some(&7));
/// # std::fs::remove_dir_all(folder).unwrap();
/// # Ok::<(), dogpile::Error>(())
/// ```
#[derive(Clone)]
pub struct FileBackend {
    inner: Arc<Inner>,
}

/// What a read returns of an entry that is damaged, or that another version of this library has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDamage {
    /// Nothing: the entry is made anew, and replaces it. [`FileBackend::damaged`] counts.
    #[default]
    Miss,
    /// An error that names the file. Writes replace it all the same.
    Error,
}

struct Inner {
    folder: Folder,
    on_damage: OnDamage,
    damaged: AtomicU64,
    round: sweep::Round,
}

/// Settings of a [`FileBackend`].
#[derive(Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct FileBackendBuilder {
    path: PathBuf,
    create: bool,
    sync: bool,
    on_damage: OnDamage,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for FileBackendBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileBackendBuilder")
            .field("path", &self.path)
            .field("create", &self.create)
            .field("sync", &self.sync)
            .field("on_damage", &self.on_damage)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl FileBackendBuilder {
    /// Whether the folder is made, if it is missing. Default: yes. If not, that is an error.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Whether each write waits until the disk has it, so that it outlasts a power cut. Default: no.
    pub fn sync(mut self, sync: bool) -> Self {
        self.sync = sync;
        self
    }

    /// What a read makes of a damaged entry. Default: a miss.
    pub fn on_damage(mut self, on_damage: OnDamage) -> Self {
        self.on_damage = on_damage;
        self
    }

    /// How long a write waits at the most for another's, which takes microseconds unless its process is stopped. Default: 1 s.
    /// The disk itself is waited for as long as it takes.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Another clock, whose [`unix`](Clock::unix) is the time of day: in tests.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The backend. Makes the folder if it is missing, and removes what dead writers and holders of locks have left.
    ///
    /// # Errors
    /// If the folder is missing, and can't be made or is not to be. One that may only be read is no error: reads work then.
    pub fn build(self) -> Result<FileBackend, Error> {
        if !self.create && !self.path.is_dir() {
            return Err(Error::new(ErrorKind::Unavailable, "file open").detail(
                "there is no such folder, and none is to be made: look at its path, or set create=true",
            ));
        }
        let folder = Folder::open(self.path, self.clock, self.timeout, self.sync).map_err(|error| {
            Error::new(ErrorKind::Unavailable, "file open")
                .detail("the folder can't be made: give the path of a folder that may be written")
                .because(error)
        })?;
        let (damaged, round) = (AtomicU64::new(0), sweep::Round::new());
        let inner = Arc::new(Inner { folder, on_damage: self.on_damage, damaged, round });
        // What can't be removed now stays.
        let _ = inner.sweep_orphans();
        Ok(FileBackend { inner })
    }
}

impl FileBackend {
    /// A store in this folder, with all settings at their defaults.
    ///
    /// # Errors
    /// As [`FileBackendBuilder::build`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::builder(path).build()
    }

    /// Settings, for a store in this folder.
    pub fn builder(path: impl Into<PathBuf>) -> FileBackendBuilder {
        FileBackendBuilder {
            path: path.into(),
            create: true,
            sync: false,
            on_damage: OnDamage::Miss,
            timeout: Duration::from_secs(1),
            clock: Arc::new(CoarseClock),
        }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.inner.folder.root()
    }

    /// Removes all that has expired, and what dead writers and holders of locks have left. Returns how many files that were.
    /// Writes do the same, a little each.
    ///
    /// # Cost
    /// Reads the beginning of every entry.
    ///
    /// # Errors
    /// If a file can't be read or removed.
    pub fn sweep(&self) -> Result<u64, Error> {
        self.inner.sweep_all()
    }

    /// How many files have been swept, by this store and its clones.
    #[must_use]
    pub fn swept(&self) -> u64 {
        self.inner.round.swept()
    }

    /// How often an entry was read that is damaged, or of another version, by this store and its clones.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.inner.damaged.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for FileBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileBackend")
            .field("path", &self.path())
            .field("on_damage", &self.inner.on_damage)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// What an entry's file is, and its value, if that is live and the key's own.
    fn find(
        &self,
        operation: &'static str,
        name: Name,
        key: &str,
    ) -> Result<(Identity, Option<(Head, Arc<[u8]>)>), Error> {
        let (identity, trouble) = match Record::open(&self.folder.entry(name)) {
            Ok(None) => return Ok((Identity::Nothing, None)),
            Ok(Some(record)) => {
                let (head, identity) = (record.head, Identity::Of(record.head.nonce));
                if record.key() != key.as_bytes() || !head.is_live(self.folder.now()) {
                    return Ok((identity, None));
                }
                match record.value() {
                    Ok(value) => return Ok((identity, Some((head, value)))),
                    Err(trouble) => (identity, trouble),
                }
            }
            Err(trouble) => (Identity::Damaged, trouble),
        };
        let damage = match trouble {
            Trouble::Damage(damage) => damage,
            Trouble::Io(error) => return Err(failed(operation, error)),
        };
        self.damaged.fetch_add(1, Ordering::Relaxed);
        match self.on_damage {
            OnDamage::Miss => Ok((identity, None)),
            OnDamage::Error => Err(Error::new(ErrorKind::Decode, operation).detail(format!(
                "the entry {} can't be read: {}: delete that file, or set corrupt=miss",
                name.file(),
                damage.text()
            ))),
        }
    }

    fn deadline(&self, ttl: Option<Duration>) -> Option<u64> {
        let nanos = u64::try_from(ttl?.as_nanos()).ok()?;
        self.folder.now().checked_add(nanos)
    }

    /// Puts an entry in, in any case or if `may` says so of what stands there. Returns whether it did.
    fn put(
        &self,
        operation: &'static str,
        put: Put<'_>,
        may: Option<&dyn Fn(Identity) -> bool>,
    ) -> Result<bool, Error> {
        let Some(value) = put.value.bytes() else {
            return Err(Error::new(ErrorKind::WrongType, operation).detail("files take bytes: use a codec"));
        };
        if put.key.len() > MOST_KEY {
            return Err(Error::new(ErrorKind::Key, operation).detail("it is longer than 16 MiB"));
        }
        if value.len() as u64 > MOST_VALUE {
            return Err(Error::new(ErrorKind::Full, operation).detail("the value is larger than 1 GiB"));
        }
        let name = Name::of(put.key);
        let may = || may.map_or(Ok(true), |may| self.folder.look(name).map(may));
        let done = if put.ttl == Some(Duration::ZERO) {
            let held = self.folder.hold(name.stripe(), operation)?;
            let failed = |error| failed(operation, error);
            let may = may().map_err(failed)?;
            if may {
                self.folder.remove(name, put.key, &held).map_err(failed)?;
            }
            may
        } else {
            let write = || self.folder.write(put.key, Some(value), self.deadline(put.ttl), None);
            self.folder.replace(operation, name, write, may)?
        };
        self.sweep_some();
        Ok(done)
    }

    fn put_unless(&self, put: Put<'_>, keeps: &dyn Fn(Option<&Stored>) -> bool) -> Result<bool, Error> {
        const OPERATION: &str = "file set_unless";
        let name = Name::of(put.key);
        if let Some(fence) = put.fence {
            let Some(fence) = fence.get::<FileFence>() else {
                let detail = "the fence is another store's: write with the one that this store's lock gave";
                return Err(Error::new(ErrorKind::Unsupported, OPERATION).detail(detail));
            };
            return self.put(OPERATION, put, Some(&|now| fence.allows(name, now)));
        }
        loop {
            let (identity, found) = self.find(OPERATION, name, put.key)?;
            let found = found.map(|(_, value)| Stored::Bytes(value));
            if keeps(found.as_ref()) {
                return Ok(false);
            }
            // If somebody else has written since, he is asked again.
            if self.put(OPERATION, put, Some(&|now| now == identity))? {
                return Ok(true);
            }
        }
    }

    /// All entries, one by one.
    fn each(
        &self,
        operation: &'static str,
        mut with: impl FnMut(Name, &Path) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let failed = |error| failed(operation, error);
        for stripe in 0..=u8::MAX {
            for path in sweep::files(&self.folder.entries(stripe)).map_err(failed)? {
                let path = path.map_err(failed)?;
                let file = path.file_name().and_then(|file| file.to_str());
                if let Some(name) = file.and_then(|file| Name::of_entry(stripe, file)) {
                    with(name, &path)?;
                }
            }
        }
        Ok(())
    }
}

/// Whether a record is of a key that begins so.
fn begins(operation: &'static str, path: &Path, prefix: &str) -> Result<Option<(Head, String)>, Error> {
    match Record::open(path) {
        Ok(Some(record)) if record.key().starts_with(prefix.as_bytes()) => {
            Ok(Some((record.head, String::from_utf8_lossy(record.key()).into_owned())))
        }
        Ok(_) | Err(Trouble::Damage(_)) => Ok(None),
        Err(Trouble::Io(error)) => Err(failed(operation, error)),
    }
}

impl Backend for FileBackend {
    fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
        let (_, found) = self.inner.find("file get", Name::of(key), key)?;
        Ok(found.map(|(_, value)| Stored::Bytes(value)))
    }

    fn set(&self, put: Put<'_>) -> Result<(), Error> {
        self.inner.put("file set", put, None).map(drop)
    }

    fn delete(&self, key: &str) -> Result<bool, Error> {
        const OPERATION: &str = "file delete";
        let (name, folder) = (Name::of(key), &self.inner.folder);
        let held = folder.hold(name.stripe(), OPERATION)?;
        let failed = |error| failed(OPERATION, error);
        let record = folder.open_entry(name).map_err(failed)?;
        let was_there =
            record.is_some_and(|record| record.key() == key.as_bytes() && record.head.is_live(folder.now()));
        folder.remove(name, key, &held).map_err(failed)?;
        Ok(was_there)
    }

    fn set_unless(
        &self,
        puts: &[Put<'_>],
        keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
    ) -> Option<Result<Vec<bool>, Error>> {
        let put = |(i, put): (usize, &Put<'_>)| self.inner.put_unless(*put, &|now| keeps(i, now));
        Some(puts.iter().enumerate().map(put).collect())
    }

    fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        const OPERATION: &str = "file expire";
        let (name, inner) = (Name::of(key), &*self.inner);
        loop {
            let (identity, found) = inner.find(OPERATION, name, key)?;
            let Some((head, value)) = found else { return Ok(false) };
            if ttl == Some(Duration::ZERO) {
                return self.delete(key);
            }
            // It stays the same entry: whoever makes a new one has not been overtaken.
            let write = || inner.folder.write(key, Some(&value), inner.deadline(ttl), Some(head.nonce));
            if inner.folder.replace(OPERATION, name, write, || Ok(inner.folder.look(name)? == identity))? {
                return Ok(true);
            }
        }
    }

    fn clear(&self, prefix: &str) -> Result<bool, Error> {
        const OPERATION: &str = "file clear";
        let (inner, folder) = (&*self.inner, &self.inner.folder);
        let remove = |name: Name, key: &str| {
            let held = folder.hold(name.stripe(), OPERATION)?;
            folder.remove(name, key, &held).map_err(|error| failed(OPERATION, error))
        };
        // What is being made now is not to be written after this.
        for info in lock::list(inner, prefix).map_err(|error| failed(OPERATION, error))? {
            remove(Name::of(&info.key), &info.key)?;
        }
        inner.each(OPERATION, |name, path| {
            match begins(OPERATION, path, prefix)? {
                Some((head, key)) if head.kind == record::Kind::Value => remove(name, &key),
                // Of damaged ones nobody knows the key.
                None if prefix.is_empty() => remove(name, ""),
                _ => Ok(()),
            }
        })?;
        Ok(true)
    }

    fn len(&self, prefix: &str) -> Result<Option<u64>, Error> {
        const OPERATION: &str = "file len";
        let (mut count, now) = (0, self.inner.folder.now());
        self.inner.each(OPERATION, |_, path| {
            count += u64::from(begins(OPERATION, path, prefix)?.is_some_and(|(head, _)| head.is_live(now)));
            Ok(())
        })?;
        Ok(Some(count))
    }

    fn mutex(&self, key: &str) -> Option<Box<dyn CacheMutex>> {
        Some(Box::new(KeyLock::new(Arc::clone(&self.inner), key)))
    }

    fn locks(&self, prefix: &str) -> Result<Option<Vec<LockInfo>>, Error> {
        lock::list(&self.inner, prefix).map(Some).map_err(|error| failed("file locks", error))
    }

    fn takes(&self) -> Takes {
        Takes::Bytes
    }

    fn name(&self) -> &'static str {
        "file"
    }
}
