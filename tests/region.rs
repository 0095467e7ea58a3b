//! Regions: what each method does, who gets what, and that nothing that was invalidated comes back.
//!
//! What is said of one store is asked of all (`region/stores.rs`), by threads and by tasks. Time is a manual clock; order is
//! forced by doors, by the count of those who wait, and by steps between the region and its store. The behaviour is
//! that of dogpile.cache and cachetory; where it is another on purpose, the test says so.
#![cfg(feature = "region")]

mod common;

#[path = "region/attacked.rs"]
mod attacked;
#[path = "region/calls.rs"]
mod calls;
#[path = "region/configuring.rs"]
mod configuring;
#[path = "region/creating.rs"]
mod creating;
#[path = "region/failing.rs"]
mod failing;
#[path = "region/fenced.rs"]
mod fenced;
#[path = "region/invalidating.rs"]
mod invalidating;
#[path = "region/many.rs"]
mod many;
#[path = "region/mutexes.rs"]
mod mutexes;
#[path = "region/newer.rs"]
mod newer;
#[path = "region/noted.rs"]
mod noted;
#[path = "region/reading.rs"]
mod reading;
#[path = "region/stores.rs"]
mod stores;
#[path = "region/writing.rs"]
mod writing;

use dogpile::RegionPolicy;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// How long values are fresh.
const FRESH: Duration = Duration::from_secs(60);

/// Fresh for so long, then stale for as long as it is stored: as dogpile.cache's `expiration_time`.
fn fresh() -> RegionPolicy {
    RegionPolicy::builder().fresh(FRESH).build().unwrap()
}
