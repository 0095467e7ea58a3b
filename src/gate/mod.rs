//! The dogpile lock: of all who want a value that is missing or out of date, exactly one makes it; the others get the old
//! one at once, or wait for the new one where there is none.
//!
//! [`Cache::get_or_create`](crate::Cache::get_or_create) and its kin use it for each entry. [`Gate`] is the lock alone, for
//! whatever else is read and made: a file, a row of a database.
//!
//! | state of the value | nobody makes it | somebody does |
//! |---|---|---|
//! | fresh | the value | the value |
//! | stale, see [`Policy`]'s `stale` | the caller *leads*: makes it anew | the stale value, at once |
//! | missing | the caller leads | waits, and gets what the leader got |
//!
//! # What is promised
//! - **At most one creation at a time** for one version of one value, and exactly one that succeeds; a caller that was
//!   about to lead looks again first.
//! - **Who has a stale value never waits**, takes no lock, and writes nothing but a count of its own.
//! - **A creation always ends for others.** When the leader's creator returns, errs, panics, or its future is dropped,
//!   nothing stays locked. Waiters share the value or the error. After a panic or a drop the waiter that came first leads;
//!   after a second panic the rest get [`CreateError::LeaderPanicked`](crate::CreateError::LeaderPanicked).
//! - **Newer state wins.** What is written, removed or cleared while a value is made is not undone by it (in a cache; a
//!   `Gate`'s creator stores for itself).
//! - **No deadlock with oneself.** A creator that asks for the value it is making gets
//!   [`CreateError::Reentrant`](crate::CreateError::Reentrant), and so does the last of several that wait in a circle. What a
//!   creator hands to other threads or tasks and waits for is not seen; a `wait` ends that.
//! - **No wake-up is lost**, and no thread or task polls.
//!
//! Fairness: waiters inherit the lead in the order in which they came. Apart from that none is promised: a caller that comes
//! when a flight has just ended may lead before a waiter that looks again.
// No unsafe here either; each file forbids it.
#![forbid(unsafe_code)]

mod alone;
mod batch;
mod blocking;
mod detached;
mod drive;
mod early;
mod flight;
mod led;
#[cfg(feature = "tokio")]
mod on_tokio;
#[cfg_attr(not(feature = "region"), allow(dead_code))]
mod past;
mod policy;
mod runner;
mod timer;

pub use alone::{Dated, Gate, GateStats};
pub use early::Early;
#[cfg(feature = "tokio")]
pub use on_tokio::Tokio;
pub use policy::{Freshness, Policy, PolicyBuilder, RegionPolicy};
pub use runner::{AsyncJob, Job, OwnThread, Runner};
pub use timer::{OwnTimer, Sleep, Timer};

pub(crate) use batch::drive_many;
#[cfg(feature = "region")]
pub(crate) use batch::drive_many_by;
pub(crate) use blocking::{Alarm, block_on};
pub(crate) use detached::{Boxed, Detached};
#[cfg(feature = "region")]
pub(crate) use drive::drive_by;
pub(crate) use drive::{After, Borrowed, Creator, Kind, Look, Moment, Order, Place, Sight, Usable, drive};
pub(crate) use early::is_due;
#[cfg(feature = "region")]
pub(crate) use flight::quietly;
pub(crate) use flight::{BUSY, ENDED, Failure, Flights, HELD, IDLE, Outcome, TIRED, is_busy, see, was_held};
#[cfg(feature = "region")]
pub(crate) use past::{Age, Left, Past, Verdict};
