//! The whole contract of a backend, on each kind of server and in both layouts, for threads and for tasks; its locks; names and
//! settings; messages; what no message may tell.
//!
//! Races run for a minute with `DOGPILE_LONG=1 cargo test --release --features redis,conformance --test redis -- --nocapture`.

mod servers;

#[path = "redis/bus.rs"]
mod bus;
#[path = "redis/contract.rs"]
mod contract;
#[path = "redis/locks.rs"]
mod locks;
#[path = "redis/settings.rs"]
mod settings;
