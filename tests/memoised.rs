//! Functions memoised by `#[cached]`: under which key a value is, who makes it, what is not cached, and what the helpers do.
//!
//! Each test has functions of its own, since each function has a cache of its own. A function counts its runs.

// What the attribute adds has nothing that a strict user would be warned of.
#![deny(warnings, clippy::pedantic)]
#![allow(
    clippy::items_after_statements,
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    clippy::unused_self,
    reason = "the functions are here for their signatures, and stand where they are used"
)]

#[allow(clippy::pedantic)]
mod common;

#[path = "memoised/flights.rs"]
mod flights;
#[path = "memoised/helpers.rs"]
mod helpers;
#[path = "memoised/keys.rs"]
mod keys;
#[path = "memoised/methods.rs"]
mod methods;
#[path = "memoised/multi.rs"]
mod multi;
#[path = "memoised/places.rs"]
mod places;
#[path = "memoised/results.rs"]
mod results;
#[path = "memoised/settings.rs"]
mod settings;
#[path = "memoised/shadowed.rs"]
mod shadowed;
#[path = "memoised/tasks.rs"]
mod tasks;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// How often a function ran.
struct Runs(AtomicUsize);

impl Runs {
    const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Another run: which one it is, from 1.
    fn another(&self) -> usize {
        self.0.fetch_add(1, SeqCst) + 1
    }

    fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}
