//! The folder: where things stand in it, and how one entry is put in the place of another.
//!
//! ```text
//! 3f/92c0…    an entry: the 32 hexadecimal digits are the hash of its key
//! lock/3f92…  the lock of that key, while somebody makes its value
//! tmp/a81e…   an entry that is being written
//! ```
//! A write: the whole record goes to `tmp` ─> the stripe's lock ─> is it still what it was? ─> rename ─> unlock.
//!
//! # Invariants
//! - **F3, whole or not at all.** An entry's file is never written to: it comes by a rename, when it is complete. Who has
//!   opened it reads that one to its end.
//! - **F4, one at a time.** Whatever is put in the place of an entry, or taken out, is so under the lock of its stripe (the
//!   sub-folder's own, by `flock`), and nobody runs others' code under that.
//! - **F5, the living are left alone.** A file in `tmp` is locked by whoever writes it; unlocked it is a dead writer's.
//!
//! The locks are the system's: they end with their process. Threads of one process take turns by a mutex first, and each
//! opens the sub-folder anew.
#![forbid(unsafe_code)]

use super::record::{Draft, HEAD, Nonce, Record, Trouble};
use crate::error::{Error, ErrorKind};
use crate::sync::{Arc, PlainMutex, Signal, lock_plain, plain};
use crate::time::{Clock, Instant, PreciseClock};
use blake2::{Blake2s256, Digest};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

const STRIPES: usize = 256;
/// Up to this a record is written in one go, by a copy of its value.
const SMALL: usize = 1 << 16;
/// How often a write is begun anew if somebody removes folders.
const TRIES: u32 = 4;

/// An error of the system, in an operation of ours.
pub(super) fn failed(operation: &'static str, error: io::Error) -> Error {
    use io::ErrorKind as Of;
    let (kind, detail) = match error.kind() {
        Of::StorageFull | Of::QuotaExceeded => {
            (ErrorKind::Full, "make room on the disk, or clear what is not needed")
        }
        Of::FileTooLarge => (ErrorKind::Full, "the system does not let this process write files so large"),
        Of::PermissionDenied => {
            (ErrorKind::Unavailable, "give this user the right to read and write the folder")
        }
        Of::ReadOnlyFilesystem => (ErrorKind::Unavailable, "the file system is read-only"),
        Of::Unsupported => {
            (ErrorKind::Unavailable, "the file system has no locks: use one of this machine's")
        }
        _ => (ErrorKind::Unavailable, "see the cause"),
    };
    Error::new(kind, operation).detail(detail).because(error)
}

pub(super) fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// What a key's files are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name([u8; 16]);

impl Name {
    pub(super) fn of(key: &str) -> Self {
        let mut name = [0; 16];
        name.copy_from_slice(&Blake2s256::digest(key.as_bytes())[..16]);
        Self(name)
    }

    /// Of what an entry's file is called, in the sub-folder of a stripe.
    pub(super) fn of_entry(stripe: u8, file: &str) -> Option<Self> {
        let mut name = [stripe; 16];
        if file.len() != 30 {
            return None;
        }
        for (byte, digits) in name[1..].iter_mut().zip(file.as_bytes().chunks(2)) {
            let digit = |digit: u8| match digit {
                b'0'..=b'9' => Some(digit - b'0'),
                b'a'..=b'f' => Some(digit - b'a' + 10),
                _ => None,
            };
            *byte = digit(digits[0])? << 4 | digit(digits[1])?;
        }
        Some(Self(name))
    }

    pub(super) fn stripe(self) -> u8 {
        self.0[0]
    }

    /// For messages.
    pub(super) fn file(self) -> String {
        let hex = hex(&self.0);
        format!("{}/{}", &hex[..2], &hex[2..])
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a `String` can't fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// What an entry's file was, when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    Nothing,
    Of(Nonce),
    Damaged,
}

/// A place to read from and write to.
pub(super) struct Folder {
    root: PathBuf,
    /// Of this process's threads, one at a time.
    stripes: Box<[PlainMutex<()>]>,
    seeds: [RandomState; 2],
    count: plain::AtomicU64,
    clock: Arc<dyn Clock>,
    pub(super) timeout: Duration,
    sync: bool,
}

/// The lock of a stripe, until it is dropped.
pub(super) struct Stripe<'f> {
    folder: File,
    _turn: crate::sync::PlainGuard<'f, ()>,
}

impl Drop for Stripe<'_> {
    fn drop(&mut self) {
        // A child that another thread is just forking has the file, too: closing it would not do.
        let _ = self.folder.unlock();
    }
}

/// An entry that is written, and not yet in its place.
pub(super) struct Written {
    path: PathBuf,
    /// Locked.
    file: File,
    is_placed: bool,
}

impl Drop for Written {
    fn drop(&mut self) {
        if !self.is_placed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Folder {
    pub(super) fn open(
        root: PathBuf,
        clock: Arc<dyn Clock>,
        timeout: Duration,
        sync: bool,
    ) -> io::Result<Self> {
        if let Err(error) = fs::create_dir_all(&root)
            && !root.is_dir()
        {
            return Err(error);
        }
        let stripes = (0..STRIPES).map(|_| PlainMutex::new(())).collect();
        let (seeds, count) = ([RandomState::new(), RandomState::new()], plain::AtomicU64::new(0));
        Ok(Self { root, stripes, seeds, count, clock, timeout, sync })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The time of day.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.clock.unix().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn entry(&self, name: Name) -> PathBuf {
        self.root.join(name.file())
    }

    pub(super) fn entries(&self, stripe: u8) -> PathBuf {
        self.root.join(hex(&[stripe]))
    }

    pub(super) fn locks(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(super) fn lock(&self, name: Name) -> PathBuf {
        self.locks().join(hex(&name.0))
    }

    pub(super) fn drafts(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Like no other, of this process or another; and nobody can guess it.
    fn nonce(&self) -> Nonce {
        let count = self.count.fetch_add(1, plain::Ordering::Relaxed);
        // A child that was forked counts on from the same number, with the same seeds.
        let what = (count, std::process::id(), self.now());
        let mut nonce = [0; 16];
        for (half, seed) in nonce.chunks_mut(8).zip(&self.seeds) {
            half.copy_from_slice(&seed.hash_one(what).to_le_bytes());
        }
        nonce
    }

    /// Takes the lock of a stripe. Waits for it no longer than an operation may take.
    pub(super) fn hold(&self, stripe: u8, operation: &'static str) -> Result<Stripe<'_>, Error> {
        let until = PreciseClock.now().saturating_add(self.timeout);
        let turn = lock_plain(&self.stripes[usize::from(stripe)]);
        let folder = self
            .made(&self.entries(stripe), |path| File::open(path))
            .map_err(|error| failed(operation, error))?;
        let mut pause = Pause::new(Duration::from_micros(50), Duration::from_millis(5), until);
        loop {
            match folder.try_lock() {
                Ok(()) => return Ok(Stripe { folder, _turn: turn }),
                Err(TryLockError::Error(error)) => return Err(failed(operation, error)),
                Err(TryLockError::WouldBlock) if pause.wait() => {}
                Err(TryLockError::WouldBlock) => {
                    let detail =
                        "another process has held the lock of its stripe all the time: is it stopped?";
                    return Err(Error::new(ErrorKind::Timeout, operation).detail(detail));
                }
            }
        }
    }

    /// Opens something in a sub-folder, that is made if it is missing.
    pub(super) fn made<T>(&self, path: &Path, open: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
        for _ in 0..TRIES {
            match open(path) {
                Err(error) if is_missing(&error) => {
                    let is_folder = path.parent() == Some(&self.root);
                    fs::create_dir_all(if is_folder { path } else { path.parent().unwrap_or(path) })?;
                }
                others => return others,
            }
        }
        open(path)
    }

    /// Writes a record to a file of its own. `nonce`: of the entry that it is, if it is one that stays the same.
    pub(super) fn write(
        &self,
        key: &str,
        value: Option<&[u8]>,
        deadline: Option<u64>,
        nonce: Option<Nonce>,
    ) -> io::Result<Written> {
        let draft = self.nonce();
        let record = Draft { key, value, deadline, written: self.now(), nonce: nonce.unwrap_or(draft) };
        let front = record.front();
        let value = value.unwrap_or_default();
        let path = self.drafts().join(hex(&draft));
        let create = |path: &Path| OpenOptions::new().write(true).create_new(true).open(path);
        let file = self.made(&path, create)?;
        let written = Written { path, file, is_placed: false };
        let mut file = &written.file;
        // F5. Who sweeps may have it already: then it is missing when it is to be put in its place.
        match file.try_lock() {
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if HEAD + key.len() + value.len() <= SMALL {
            file.write_all(&[&front, value].concat())?;
        } else {
            file.write_all(&front)?;
            file.write_all(value)?;
        }
        if self.sync {
            file.sync_data()?;
        }
        Ok(written)
    }

    /// Puts a record in an entry's place. False: it has been swept.
    pub(super) fn place(&self, mut written: Written, name: Name, held: &Stripe<'_>) -> io::Result<bool> {
        match fs::rename(&written.path, self.entry(name)) {
            Ok(()) => {
                written.is_placed = true;
                if self.sync {
                    held.folder.sync_all()?;
                }
                Ok(true)
            }
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// An entry's record. None that is damaged.
    pub(super) fn open_entry(&self, name: Name) -> io::Result<Option<Record<File>>> {
        match Record::open(&self.entry(name)) {
            Ok(record) => Ok(record),
            Err(Trouble::Damage(_)) => Ok(None),
            Err(Trouble::Io(error)) => Err(error),
        }
    }

    /// What an entry's file is now.
    pub(super) fn look(&self, name: Name) -> io::Result<Identity> {
        match Record::open(&self.entry(name)) {
            Ok(None) => Ok(Identity::Nothing),
            Ok(Some(record)) => Ok(Identity::Of(record.head.nonce)),
            Err(Trouble::Damage(_)) => Ok(Identity::Damaged),
            Err(Trouble::Io(error)) => Err(error),
        }
    }

    /// Puts a record in an entry's place, if `may` says so of what stands there. Returns what it said.
    pub(super) fn replace(
        &self,
        operation: &'static str,
        name: Name,
        write: impl Fn() -> io::Result<Written>,
        may: impl Fn() -> io::Result<bool>,
    ) -> Result<bool, Error> {
        let failed = |error| failed(operation, error);
        for _ in 0..TRIES {
            let written = write().map_err(failed)?;
            let held = self.hold(name.stripe(), operation)?;
            if !may().map_err(failed)? {
                return Ok(false);
            }
            if self.place(written, name, &held).map_err(failed)? {
                return Ok(true);
            }
        }
        Err(Error::new(ErrorKind::Unavailable, operation)
            .detail("somebody removes what is written: keep others out of the folder"))
    }

    /// Takes an entry out, so that nobody who makes its value now puts that in.
    pub(super) fn remove(&self, name: Name, key: &str, held: &Stripe<'_>) -> io::Result<()> {
        // What is there while the key is locked, or was by one who has died, is only replaced: see `lock.rs`.
        if self.lock(name).try_exists()? {
            for _ in 0..TRIES {
                if self.place(self.write(key, None, None, None)?, name, held)? {
                    return Ok(());
                }
            }
            return Err(io::ErrorKind::NotFound.into());
        }
        match fs::remove_file(self.entry(name)) {
            Err(error) if !is_missing(&error) => Err(error),
            _ if self.sync => held.folder.sync_all(),
            _ => Ok(()),
        }
    }
}

/// Waits that grow longer, until some time.
pub(super) struct Pause {
    next: Duration,
    most: Duration,
    until: Instant,
    bell: Signal,
}

impl Pause {
    pub(super) fn new(first: Duration, most: Duration, until: Instant) -> Self {
        Self { next: first, most, until, bell: Signal::default() }
    }

    /// Waits. False: the time is over.
    pub(super) fn wait(&mut self) -> bool {
        let left = self.until.saturating_duration_since(PreciseClock.now());
        if left.is_zero() {
            return false;
        }
        // Nobody rings.
        self.bell.wait(Some(self.next.min(left)));
        self.next = (self.next * 3 / 2).min(self.most);
        true
    }
}
