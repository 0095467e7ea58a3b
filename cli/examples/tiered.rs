//! Memory before a store that processes share: who makes a value, who reads it from where, and what others change.
//!
//! ```sh
//! cargo run --example tiered                              # over files, in a folder of its own
//! cargo run --example tiered redis://127.0.0.1:6379/0     # over Redis
//! ```
//!
//! Two regions, each with memory of its own, stand for two processes.

use dogpile::Region;
use dogpile::backend::Arguments;
use dogpile::time::{Clock, Instant, PreciseClock};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Report {
    title: String,
    rows: Vec<u64>,
}

fn report(title: &str) -> Report {
    Report { title: title.to_owned(), rows: (0..100).collect() }
}

fn since(start: Instant) -> Duration {
    PreciseClock.now().saturating_duration_since(start)
}

fn main() -> Result<(), Box<dyn Error>> {
    let (url, folder) = match std::env::args().nth(1) {
        Some(url) => (url, None),
        None => {
            let folder = std::env::temp_dir().join(format!("dogpile-tiered-{}", std::process::id()));
            (format!("file://{}", folder.display()), Some(folder))
        }
    };
    let ended = show(&url);
    if let Some(folder) = folder {
        std::fs::remove_dir_all(folder)?;
    }
    ended
}

fn show(url: &str) -> Result<(), Box<dyn Error>> {
    println!("store: {}", Arguments::from_url(url)?.scheme());
    // What another process has changed is seen at once where the store sends messages; else after twice near_ttl.
    let between = if url.contains('?') { '&' } else { '?' };
    let settings = "prefix=tiered-example%3A&fresh=1m&stale=10m&near_entries=1000&unheard_ttl=50ms";
    let near = if url.starts_with("file") { "&near_ttl=50ms" } else { "" };
    let process = || Region::from_url(&format!("tiered+{url}{between}{settings}{near}"));
    let (one, other) = (process()?, process()?);
    one.delete("report")?;

    // Made once, by whoever comes first, and read by the other.
    let start = PreciseClock.now();
    let made = one.get_or_create("report", || report("first"))?;
    println!("one makes it, and writes it to the store:    {:>10.1?}", since(start));
    let start = PreciseClock.now();
    let read = other.get_or_create::<Report>("report", || unreachable!("it is in the store"))?;
    println!("the other reads it from the store:           {:>10.1?}", since(start));
    assert_eq!(made, read);

    // From then on it is in the memory of both, as the value itself.
    let start = PreciseClock.now();
    let mut hits = 0;
    while hits < 100_000 && since(start) < Duration::from_millis(25) {
        let again = other.get::<Report>("report")?.ok_or("it is fresh")?;
        assert!(Arc::ptr_eq(&read, &again), "no copy");
        hits += 1;
    }
    println!("then from memory, on average of {hits:>6} reads: {:>10.1?}", since(start) / hits);

    // A change by one is a change for the other.
    one.set("report", report("second"))?;
    let start = PreciseClock.now();
    while other.get::<Report>("report")?.is_none_or(|report| report.title != "second") {
        assert!(since(start) < Duration::from_secs(10), "the other never sees the change");
        std::thread::yield_now();
    }
    println!("a change by one is seen by the other after:  {:>10.1?}", since(start));

    one.delete("report")?;
    Ok(())
}
