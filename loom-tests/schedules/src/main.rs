//! Many callers on few keys of the shipped sources, under schedules that shuttle makes up: threads and tasks of one OS
//! thread, switched at every use of an atomic, a lock or a thread-local that goes through dogpile's `sync`.
//!
//! ```text
//! RUSTFLAGS="--cfg dogpile_shuttle --cfg fuzzing" cargo run --release -p dogpile-schedules -- short
//! ```
//!
//! | command | what |
//! |---|---|
//! | `short` | all of the below in a small number, at most a minute: what is run with the tests |
//! | `long` | 1,000,000 schedules of `crowd` and `gate`, 100,000 histories of `linear`, 250,000 of `region`, and `planted` |
//! | `crowd` | sixteen callers of a cache, see `crowd.rs` |
//! | `gate` | sixteen callers of a gate alone, see `alone.rs` |
//! | `linear` | histories that must be linearizable, see `linear.rs` |
//! | `region` | callers of a region while it is invalidated, see `region.rs` |
//! | `planted` | bugs that the others must find, see `planted.rs` |
//!
//! Options of each scenario: `--schedules N`, `--threads N`, `--seconds N` (stops then), `--seed N` (repeats what failed).
//! Three quarters of the schedules (of histories more) are drawn at random, one quarter by PCT with three changes of priority:
//! S. Burckhardt et al., *A randomized scheduler with probabilistic guarantees of finding bugs*, ASPLOS 2010. A creator counts
//! as running until it is dropped.
//!
//! # What this is not
//! Everything is sequentially consistent here, and crossbeam-epoch and the reference counts of `std` are not scheduled:
//! orderings are for the models in `loom-tests`.
//!
//! # A schedule that failed
//! Its seed is printed, and what its callers did. The seed repeats the choices, but not always the schedule: when
//! crossbeam-epoch ends a grace period depends on what the process has done before.

#[cfg(dogpile_shuttle)]
mod alone;
#[cfg(dogpile_shuttle)]
mod crowd;
#[cfg(dogpile_shuttle)]
mod dice;
#[cfg(dogpile_shuttle)]
mod ledger;
#[cfg(dogpile_shuttle)]
mod linear;
#[cfg(dogpile_shuttle)]
mod planted;
#[cfg(dogpile_shuttle)]
mod region;
#[cfg(dogpile_shuttle)]
mod runs;
#[cfg(dogpile_shuttle)]
mod tasks;
#[cfg(dogpile_shuttle)]
mod totals;

#[cfg(dogpile_shuttle)]
fn main() -> std::process::ExitCode {
    runs::main()
}

#[cfg(not(dogpile_shuttle))]
fn main() -> std::process::ExitCode {
    eprintln!(r#"build this with RUSTFLAGS="--cfg dogpile_shuttle --cfg fuzzing""#);
    std::process::ExitCode::FAILURE
}
