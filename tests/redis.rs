//! The whole contract of a backend, on each kind of server and in both layouts, for threads and for tasks; settings and
//! names; what no message may tell.

mod servers;

#[path = "redis/bus.rs"]
mod bus;
#[path = "redis/contract.rs"]
mod contract;
#[path = "redis/locks.rs"]
mod locks;
#[path = "redis/settings.rs"]
mod settings;
