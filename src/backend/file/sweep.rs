//! What is left behind: expired entries, deletions that nobody needs to see any more, drafts of dead writers, locks of dead
//! holders.
//!
//! Each write looks at a few files more, in turn through all folders; `sweep` looks at all of them, and opening the store at
//! drafts and locks, of which there are as many as there are writers.
//!
//! # Invariants
//! - **L3** of `lock.rs`: nothing of a key that has a lock file is taken out.
//! - **S1, only what is ours and over.** A file with another name than ours, or of another version, or damaged, stays where it
//!   is. What has expired is looked at again under its stripe's lock.
//!
//! # Cost
//! A file in a folder of entries is opened and read up to 4 KiB. [`AT_A_WRITE`] files a write: with `n` entries all have been
//! looked at after `n / 2` writes, so that at most about half as many expired ones as there are living stay behind.
#![forbid(unsafe_code)]

use super::Inner;
use super::folder::{Name, failed, is_missing};
use super::lock;
use super::record::{Kind, Record, Trouble};
use crate::error::Error;
use crate::sync::{Ordering, PlainMutex, plain::AtomicU64};
use std::fs::{self, File, ReadDir, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

/// How many files each write looks at.
const AT_A_WRITE: usize = 2;
/// The stripes, drafts, locks.
const PLACES: usize = 258;
const DRAFTS: usize = 256;
const LOCKS: usize = 257;

const OPERATION: &str = "file sweep";

/// How far the writes have come.
pub(super) struct Round {
    at: PlainMutex<(usize, Option<ReadDir>)>,
    swept: AtomicU64,
}

impl Round {
    /// From anywhere: processes that write little get everywhere, too.
    pub(super) fn new() -> Self {
        let place = RandomState::new().hash_one(0) as usize % PLACES;
        Self { at: PlainMutex::new((place, None)), swept: AtomicU64::new(0) }
    }

    pub(super) fn swept(&self) -> u64 {
        self.swept.load(Ordering::Relaxed)
    }
}

/// The files of a folder. Of one that is missing: none.
pub(super) fn files(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<PathBuf>> + use<>> {
    let list = match fs::read_dir(folder) {
        Ok(list) => Some(list),
        Err(error) if is_missing(&error) => None,
        Err(error) => return Err(error),
    };
    Ok(list.into_iter().flatten().map(|entry| entry.map(|entry| entry.path())))
}

impl Inner {
    fn place(&self, place: usize) -> PathBuf {
        match u8::try_from(place) {
            Ok(stripe) => self.folder.entries(stripe),
            Err(_) if place == DRAFTS => self.folder.drafts(),
            Err(_) => self.folder.locks(),
        }
    }

    /// Removes a file if nobody needs it. True: it is gone.
    fn sweep_one(&self, place: usize, path: &Path) -> Result<bool, Error> {
        let is_swept = match u8::try_from(place) {
            Ok(stripe) => return self.sweep_entry(stripe, path),
            Err(_) if place == DRAFTS => sweep_draft(path),
            Err(_) => lock::sweep(path),
        };
        is_swept.map_err(|error| failed(OPERATION, error))
    }

    fn sweep_entry(&self, stripe: u8, path: &Path) -> Result<bool, Error> {
        let name =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| Name::of_entry(stripe, name));
        let Some(name) = name else { return Ok(false) };
        if !is_over(path, self.folder.now())? {
            return Ok(false);
        }
        let _held = self.folder.hold(stripe, OPERATION)?;
        let remove = || {
            if self.folder.lock(name).try_exists()? {
                return Ok(false);
            }
            fs::remove_file(path).map(|()| true)
        };
        Ok(is_over(path, self.folder.now())? && remove().map_err(|error| failed(OPERATION, error))?)
    }

    /// A few files, after a write. Errors are the next sweep's.
    pub(super) fn sweep_some(&self) {
        // Whoever comes meanwhile has no need to.
        let Ok(mut at) = self.round.at.try_lock() else { return };
        for _ in 0..AT_A_WRITE {
            let (place, list) = &mut *at;
            let mut next = list.as_mut().and_then(Iterator::next);
            if next.is_none() {
                *place = (*place + 1) % PLACES;
                *list = fs::read_dir(self.place(*place)).ok();
                next = list.as_mut().and_then(Iterator::next);
            }
            if let Some(Ok(file)) = next
                && let Ok(true) = self.sweep_one(*place, &file.path())
            {
                self.round.swept.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// All files of some places. Returns how many were removed.
    fn sweep_places(&self, places: impl Iterator<Item = usize>) -> Result<u64, Error> {
        let mut removed = 0;
        for place in places {
            for path in files(&self.place(place)).map_err(|error| failed(OPERATION, error))? {
                let path = path.map_err(|error| failed(OPERATION, error))?;
                removed += u64::from(self.sweep_one(place, &path)?);
            }
        }
        self.round.swept.fetch_add(removed, Ordering::Relaxed);
        Ok(removed)
    }

    pub(super) fn sweep_all(&self) -> Result<u64, Error> {
        // Locks first: what they have kept is free then.
        self.sweep_places((0..PLACES).rev())
    }

    /// What the dead have left.
    pub(super) fn sweep_orphans(&self) -> Result<u64, Error> {
        self.sweep_places([DRAFTS, LOCKS].into_iter())
    }
}

/// Whether an entry's file says that there is nothing any more.
fn is_over(path: &Path, now: u64) -> Result<bool, Error> {
    match Record::open(path) {
        Ok(Some(record)) => Ok(record.head.kind == Kind::Deletion || !record.head.is_live(now)),
        Ok(None) | Err(Trouble::Damage(_)) => Ok(false),
        Err(Trouble::Io(error)) => Err(failed(OPERATION, error)),
    }
}

/// Removes a draft that nobody writes (F5).
fn sweep_draft(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if is_missing(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error),
        },
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
