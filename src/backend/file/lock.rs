//! The lock of a key: a file that its holder has locked, by the system, and that is gone when nobody has.
//!
//! ```text
//! acquire:  open or make the file ─> flock ─> is it still the one that stands there? else again ─> who, since when, which key
//!           ─> look at the entry
//! release:  the fence says no ─> unlink ─> unlock
//! ```
//!
//! # Invariants
//! - **L1, one holder.** Who has locked the file that stands at the path has the key. It is unlinked only by who has it locked.
//! - **L2, dies with its process.** The system unlocks a dead holder's file; the next one takes it over as it is.
//! - **L3, nothing goes unseen.** While the file stands there no entry of the key is unlinked, only replaced: a deletion leaves
//!   a record of itself. So what was seen under the lock is still there, or something newer is.
//! - **L4, late is too late.** A fence is good while its lock is held: it is asked under the stripe's lock, and ends before
//!   the file is unlinked. A deletion that finds no file comes after whatever was written by that fence.
//!
//! L3 has one exception: who unlinks may have looked for the file just before it was made. What is missing then was over
//! already when the new holder saw it, or is newer than that holder's look (a deletion); so a fence that saw no live value is
//! content with nothing, and one that saw a live one is not.
//!
//! `loom-tests/schedules/src/bin/files.rs` goes through all orders of these steps, with holders that die.
//!
//! Whoever only asks whether the key is locked takes a shared lock for a moment, as does the sweeper an exclusive one of
//! dead holders' files: who tries to acquire in that moment is told that it is held.
//!
//! # Cost
//! open, flock, two stat, a write and the look; to release a stat and an unlink. Who waits tries again after 1 ms, and then
//! ever later up to 20 ms: the system's own waiting has no end that one could set.
#![forbid(unsafe_code)]

use super::Inner;
use super::folder::{Identity, Name, Pause, failed, is_missing};
use crate::backend::{CacheMutex, Fence, LockInfo, Stored};
use crate::error::Error;
use crate::sync::{Arc, Ordering, PlainMutex, lock_plain, plain::AtomicBool};
use crate::time::{Clock, PreciseClock};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// Who waits looks again after this time, and then less and less often.
const FIRST: Duration = Duration::from_millis(1);
const LAST: Duration = Duration::from_millis(20);

pub(super) struct KeyLock {
    store: Arc<Inner>,
    key: Box<str>,
    name: Name,
    held: PlainMutex<Option<Held>>,
}

struct Held {
    file: File,
    fence: FileFence,
    found: Option<Stored>,
}

/// What was known when the lock was taken.
#[derive(Clone)]
pub(super) struct FileFence {
    name: Name,
    is_held: Arc<AtomicBool>,
    identity: Identity,
    was_live: bool,
}

impl FileFence {
    /// Whether what was made under this lock may be put in the place of what is there now. Under the stripe's lock.
    pub(super) fn allows(&self, name: Name, now: Identity) -> bool {
        self.name == name
            && self.is_held.load(Ordering::SeqCst)
            && (now == self.identity || now == Identity::Nothing && !self.was_live)
    }
}

/// Whether a file that is open is the one that stands at a path.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(there) => {
            let here = file.metadata()?;
            Ok((here.dev(), here.ino()) == (there.dev(), there.ino()))
        }
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

impl KeyLock {
    pub(super) fn new(store: Arc<Inner>, key: &str) -> Self {
        Self { store, key: key.into(), name: Name::of(key), held: PlainMutex::new(None) }
    }

    /// Tries to lock the file.
    fn take(&self) -> io::Result<Option<File>> {
        let path = self.store.folder.lock(self.name);
        let open = |path: &Path| {
            let mut open = OpenOptions::new();
            open.read(true).write(true).create(true).truncate(false);
            // What a link names never stands at the path itself: it would be opened again for ever.
            open.custom_flags(libc::O_NOFOLLOW).open(path)
        };
        loop {
            let mut file = self.store.folder.made(&path, open)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Its former holder may have unlinked it between the two.
            if is_at(&file, &path)? {
                let now = self.store.folder.now();
                let who = format!("{} {now}\n{}", std::process::id(), self.key);
                file.set_len(0)?;
                file.write_all(who.as_bytes())?;
                return Ok(Some(file));
            }
        }
    }

    /// What the key has, now that it is locked.
    fn look(&self, file: File) -> Result<Held, Error> {
        let mut held = Held {
            file,
            fence: FileFence {
                name: self.name,
                is_held: Arc::new(AtomicBool::new(true)),
                identity: Identity::Nothing,
                was_live: false,
            },
            found: None,
        };
        match self.store.find("file lock", self.name, &self.key) {
            Ok((identity, value)) => {
                held.fence.identity = identity;
                held.fence.was_live = value.is_some();
                held.found = value.map(|(_, value)| Stored::Bytes(value));
                Ok(held)
            }
            Err(error) => {
                // What is wrong is said already.
                let _ = self.give_back(&held);
                Err(error)
            }
        }
    }

    fn give_back(&self, held: &Held) -> io::Result<()> {
        // L4.
        held.fence.is_held.store(false, Ordering::SeqCst);
        let path = self.store.folder.lock(self.name);
        // Somebody may have removed the whole folder, and another one may have the key since.
        let removed =
            is_at(&held.file, &path).and_then(|is| if is { fs::remove_file(&path) } else { Ok(()) });
        held.file.unlock()?;
        removed
    }
}

impl CacheMutex for KeyLock {
    fn acquire(&self, wait: Duration) -> Result<bool, Error> {
        let until = PreciseClock.now().saturating_add(wait);
        let mut pause = Pause::new(FIRST, LAST, until);
        loop {
            if let Some(file) = self.take().map_err(|error| failed("file lock", error))? {
                let held = self.look(file)?;
                *lock_plain(&self.held) = Some(held);
                return Ok(true);
            }
            if !pause.wait() {
                return Ok(false);
            }
        }
    }

    fn release(&self) -> Result<(), Error> {
        match lock_plain(&self.held).take() {
            None => Ok(()),
            Some(held) => self.give_back(&held).map_err(|error| failed("file unlock", error)),
        }
    }

    fn locked(&self) -> Result<bool, Error> {
        is_held(&self.store.folder.lock(self.name))
            .map(|file| file.is_some())
            .map_err(|error| failed("file lock", error))
    }

    fn fence(&self) -> Option<Fence> {
        lock_plain(&self.held).as_ref().map(|held| Fence::new(held.fence.clone()))
    }

    fn found(&self) -> Option<Option<Stored>> {
        lock_plain(&self.held).as_ref().map(|held| held.found.clone())
    }
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        let _ = self.release();
    }
}

/// The lock file at a path, if somebody has it locked.
fn is_held(path: &Path) -> io::Result<Option<File>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(file)),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Removes a lock file that nobody has locked. True: it is gone.
pub(super) fn sweep(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if is_missing(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) if is_at(&file, path)? => fs::remove_file(path).map(|()| true),
        Ok(()) | Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The key of a lock file, the number of the process, and when it took the lock.
pub(super) fn read(file: &mut File) -> Option<(String, u32, u64)> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let (who, key) = text.split_once('\n')?;
    let (process, since) = who.split_once(' ')?;
    Some((key.to_owned(), process.parse().ok()?, since.parse().ok()?))
}

/// All locks that are held of keys with a prefix.
pub(super) fn list(store: &Inner, prefix: &str) -> io::Result<Vec<LockInfo>> {
    let now = store.folder.now();
    let mut found = Vec::new();
    for path in super::sweep::files(&store.folder.locks())? {
        let Some(mut file) = is_held(&path?)? else { continue };
        // Who is just taking it has not said so yet.
        let Some((key, process, since)) = read(&mut file) else { continue };
        if key.starts_with(prefix) {
            let mut info = LockInfo::new(key);
            info.holder = Some(format!("process {process}"));
            info.held_for = Some(Duration::from_nanos(now.saturating_sub(since)));
            found.push(info);
        }
    }
    Ok(found)
}
