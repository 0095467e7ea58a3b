//! One program, whose cache is what a URL says: of this process, of bytes, or switched off. Its first argument is such a URL.

use dogpile::codec::Codec;
use dogpile::region::{KeyState, RegionConfig};
use dogpile::{Error, ErrorKind, Region};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Page {
    title: String,
    words: u32,
}

/// Wants a page so often, and returns how often it was made.
fn visit(region: &Region, times: u32) -> Result<u32, Error> {
    let mut made = 0;
    for _ in 0..times {
        let page = region.get_or_create("/", || {
            made += 1;
            Page { title: String::from("Home"), words: 120 }
        })?;
        assert_eq!(page.title, "Home");
    }
    Ok(made)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Values as they are: every hit is the same object.
    let region = Region::from_url("memory://?max_entries=1000&fresh=5m&stale=1h")?;
    assert_eq!(visit(&region, 3)?, 1);
    assert_eq!(region.stats().hits, 2);

    // The settings have arrived: it is fresh for five minutes, less what has passed.
    let five = Duration::from_secs(300);
    let state = region.explain::<Page>("/")?.state;
    assert!(
        matches!(state, KeyState::Fresh { left: Some(left) } if left <= five && left > five / 2),
        "{state:?}"
    );

    // Bytes, by a chain of codecs, under keys with a prefix.
    let region = Region::from_url("memory+serialized://?max_weight=64MiB&codec=json%2Bzstd&prefix=pages%3A")?;
    assert_eq!(visit(&region, 3)?, 1);
    let backend = region.actual_backend()?.ok_or("it is for threads")?;
    assert!(backend.get("pages:/")?.is_some_and(|stored| stored.bytes().is_some()));

    // Switched off: the program does not notice.
    assert_eq!(visit(&Region::from_url("null://")?, 3)?, 3);

    // What is wrong is an error that says what would be right.
    let error = Region::from_url("memory://?max_entires=1000").expect_err("misspelt");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("`max_entires` is unknown: accepted are max_entries"), "{error}");
    let error = Region::from_url("shelf://").expect_err("nobody has registered it");
    assert_eq!(error.kind(), ErrorKind::UnknownBackend);
    let error = Codec::from_url("pickle://").expect_err("it runs what it reads");
    assert!(error.to_string().contains("json or msgpack"), "{error}");

    // Secrets show nowhere.
    let config = RegionConfig::from_url("shelf://ada:lovelace@example.org/?fresh=5m")?;
    assert!(!format!("{config:?}").contains("lovelace"));

    if let Some(url) = std::env::args().nth(1) {
        println!("{url}: three visits made the page {} times", visit(&Region::from_url(&url)?, 3)?);
    }
    println!("{region:?}");
    Ok(())
}
