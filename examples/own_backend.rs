//! A backend of one's own: values in a folder, one file each, so that they are still there for the next process. The
//! conformance suite checks it, and a configuration names it by its scheme.

use dogpile::backend::conformance::Conformance;
use dogpile::backend::{Backend, Put, Schemes, Store, Stored, Takes};
use dogpile::region::{RegionConfig, SetOptions, sha1_mangle_key};
use dogpile::time::{Clock, CoarseClock, ManualClock};
use dogpile::{Error, ErrorKind, Region};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, io};

/// A file is named by the key's SHA-1, so any key will do. In it: when it ends, in nanoseconds since 1970 (8 bytes), how long
/// the key is (4), the key, the value.
struct Files<C> {
    folder: PathBuf,
    clock: C,
    drafts: AtomicU64,
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| Error::new(ErrorKind::Unavailable, operation).because(error)
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

impl<C: Clock> Files<C> {
    fn open(folder: impl Into<PathBuf>, clock: C) -> Result<Self, Error> {
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(failed("files OPEN"))?;
        Ok(Self { folder, clock, drafts: AtomicU64::new(0) })
    }

    /// The key and the value in a file, unless its time is over. A file that is not one of ours is none.
    fn read(&self, path: &Path) -> Result<Option<(String, Stored)>, Error> {
        let bytes = match fs::read(path) {
            Err(error) if is_missing(&error) => return Ok(None),
            bytes => bytes.map_err(failed("files GET"))?,
        };
        let parts = || {
            let (end, rest) = bytes.split_first_chunk()?;
            let (length, rest) = rest.split_first_chunk()?;
            let (key, value) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            Some((u64::from_le_bytes(*end), String::from_utf8(key.to_vec()).ok()?, Stored::from(value)))
        };
        let now = self.clock.unix().as_nanos();
        Ok(parts().filter(|(end, ..)| u128::from(*end) > now).map(|(_, key, value)| (key, value)))
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(sha1_mangle_key(key))
    }

    /// The files whose keys begin so.
    fn under(&self, prefix: &str) -> Result<Vec<PathBuf>, Error> {
        let mut found = Vec::new();
        for file in fs::read_dir(&self.folder).map_err(failed("files LIST"))? {
            let path = file.map_err(failed("files LIST"))?.path();
            let is_draft = path.extension().is_some();
            if !is_draft && self.read(&path)?.is_some_and(|(key, _)| key.starts_with(prefix)) {
                found.push(path);
            }
        }
        Ok(found)
    }
}

impl<C: Clock> Backend for Files<C> {
    fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
        Ok(self.read(&self.path(key))?.filter(|(own, _)| own == key).map(|(_, value)| value))
    }

    fn set(&self, put: Put<'_>) -> Result<(), Error> {
        let value = put.value.bytes().ok_or_else(|| Error::new(ErrorKind::WrongType, "files SET"))?;
        let end = put.ttl.map_or(u128::MAX, |ttl| self.clock.unix().saturating_add(ttl).as_nanos());
        let end = u64::try_from(end).unwrap_or(u64::MAX);
        let length = u32::try_from(put.key.len()).map_err(|_| Error::new(ErrorKind::Key, "files SET"))?;
        let parts = [&end.to_le_bytes()[..], &length.to_le_bytes(), put.key.as_bytes(), value];
        // Readers see the old file or the new one, never half of it.
        let number = self.drafts.fetch_add(1, Ordering::Relaxed);
        let draft = self.folder.join(format!("{}-{number}.draft", std::process::id()));
        fs::write(&draft, parts.concat()).map_err(failed("files SET"))?;
        fs::rename(&draft, self.path(put.key)).map_err(failed("files SET"))
    }

    fn delete(&self, key: &str) -> Result<bool, Error> {
        let was_there = self.get(key)?.is_some();
        match fs::remove_file(self.path(key)) {
            Err(error) if !is_missing(&error) => Err(failed("files DELETE")(error)),
            removed => Ok(was_there && removed.is_ok()),
        }
    }

    fn clear(&self, prefix: &str) -> Result<bool, Error> {
        for path in self.under(prefix)? {
            fs::remove_file(path)
                .or_else(|error| if is_missing(&error) { Ok(()) } else { Err(error) })
                .map_err(failed("files CLEAR"))?;
        }
        Ok(true)
    }

    fn len(&self, prefix: &str) -> Result<Option<u64>, Error> {
        Ok(Some(self.under(prefix)?.len() as u64))
    }

    fn takes(&self) -> Takes {
        Takes::Bytes
    }

    fn name(&self) -> &'static str {
        "files"
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("dogpile-files-{}", std::process::id()));

    // The whole contract. All checks share one folder, as regions would; time passes by the clock.
    let (clock, place) = (ManualClock::new(), folder.join("conformance"));
    let time = clock.clone();
    let report =
        Conformance::new(move || Files::open(&place, clock.clone()).expect("there is a place for it"))
            .advance(move |span| time.advance(span))
            .run();
    report.assert_passed();

    // By its name, in a configuration.
    let schemes = Schemes::new().register("files", |arguments| {
        let folder = arguments.take_str("folder")?;
        let folder = folder.ok_or_else(|| arguments.error("folder", "it is needed: where the files are"))?;
        Ok(Store::blocking(Files::open(folder, CoarseClock)?))
    });
    let place = folder.join("pages").to_str().ok_or("a folder whose name is no text")?.to_owned();
    let settings = [("backend", "files"), ("arguments.folder", &*place), ("fresh", "1h"), ("codec", "json")];
    let config = RegionConfig::from_map(settings, "")?;
    let open = || Region::builder().config(&config, &schemes)?.build();
    assert_eq!(*open()?.get_or_create("/", || String::from("made once"))?, "made once");

    // A later process finds what this one has made.
    let later = open()?;
    assert_eq!(*later.get_or_create("/", || String::from("made again"))?, "made once");
    later.set_with("/", 7, SetOptions::new().ttl(Duration::from_secs(60)))?;
    assert_eq!((later.len()?, later.get::<String>("/")?), (Some(1), None), "a number now, and no text");
    later.clear()?;
    assert_eq!(later.len()?, Some(0));

    fs::remove_dir_all(&folder)?;
    println!("{}", report.to_string().lines().next().unwrap_or_default());
    Ok(())
}
