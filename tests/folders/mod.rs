//! A folder of a test's own, that is gone when the test has ended.
#![allow(dead_code, reason = "each test uses what it needs")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dogpile-test-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// How many files there are in a sub-folder, or in all of those of entries.
    pub(crate) fn files(&self, sub: &str) -> usize {
        fs::read_dir(self.0.join(sub)).map_or(0, Iterator::count)
    }

    /// All files of entries.
    pub(crate) fn entries(&self) -> Vec<PathBuf> {
        let stripes = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap());
        let stripes = stripes.filter(|entry| entry.file_name().len() == 2);
        stripes
            .flat_map(|entry| fs::read_dir(entry.path()).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
