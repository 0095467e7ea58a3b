//! Functions that are memoised, for threads: in caches of their own, in one of ours, and in a region.

use dogpile::backend::MemoryBackend;
use dogpile::region::{How, Scope};
use dogpile::{Cache, Region, cached};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;

/// How often the database was asked.
static QUERIES: AtomicU32 = AtomicU32::new(0);

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct User {
    id: u64,
    name: String,
}

/// In a cache of its own.
#[cached(max_entries = 1_000, fresh = "10m", stale = "1h", stale_if_error = "1d", wait = "5s")]
fn user(id: u64) -> Result<User, String> {
    QUERIES.fetch_add(1, SeqCst);
    if id == 0 {
        Err(String::from("there is no user 0"))
    } else {
        Ok(User { id, name: format!("user {id}") })
    }
}

/// One query for all that are not there.
#[cached(multi, max_entries = 1_000)]
fn users(ids: &[u64]) -> Vec<Option<User>> {
    QUERIES.fetch_add(1, SeqCst);
    ids.iter().map(|id| (*id != 0).then(|| User { id: *id, name: format!("user {id}") })).collect()
}

/// In a cache that others use, too.
static WORDS: LazyLock<Cache<String, usize>> = LazyLock::new(|| Cache::new(100));

#[cached(cache = WORDS)]
fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// In a region, which is configured when the program knows where its store is.
static PROFILES: Region = Region::new("profiles");

#[cached(region = PROFILES, fresh = "1h", tags = ["user:{id}"])]
fn profile(id: u64, language: &str) -> String {
    QUERIES.fetch_add(1, SeqCst);
    format!("{language} profile of user {id}")
}

/// Of a type.
#[derive(Clone)]
struct Shop {
    tenant: &'static str,
}

impl Shop {
    #[cached(key = (self.tenant, article), max_entries = 1_000)]
    fn price(&self, article: u32) -> u32 {
        article * 100 + self.tenant.len() as u32
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Eight at once, and one query.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(user(7).map(|user| user.id), Ok(7)));
        }
    });
    assert_eq!(QUERIES.swap(0, SeqCst), 1);

    assert!(user(0).is_err() && user(0).is_err());
    assert_eq!(QUERIES.swap(0, SeqCst), 2, "errors are not kept");

    user::set(User { id: 7, name: String::from("Ada") }, 7);
    assert_eq!(user(7)?.name, "Ada");
    assert_eq!(user::refresh(7)?.name, "user 7");
    assert!(user::invalidate(7));
    assert_eq!(user::get(7), None);
    assert_eq!(user::original(7)?.name, "user 7");
    println!("{:?}", user::cache().stats());
    QUERIES.store(0, SeqCst);

    let names = |ids: &[u64]| users(ids).into_iter().flatten().map(|user| user.name).collect::<Vec<_>>();
    assert_eq!(names(&[2, 1]), ["user 2", "user 1"]);
    assert_eq!(names(&[1, 3, 2]), ["user 1", "user 3", "user 2"]);
    assert_eq!(QUERIES.swap(0, SeqCst), 2, "the second one for 3 alone");

    assert_eq!((words("to be or not"), WORDS.get_cloned("to be or not")), (4, Some(4)));

    PROFILES.configure(Region::builder().backend(MemoryBackend::builder().max_entries(1_000).build()?))?;
    assert_eq!(profile(7, "en"), profile(7, "en"));
    assert_eq!(profile(7, "de"), "de profile of user 7");
    assert_eq!(QUERIES.swap(0, SeqCst), 2);
    println!("{}", profile::key(7, "en")?);
    PROFILES.invalidate(Scope::Tag("user:7"), How::Hard)?;
    assert_eq!(profile::get(7, "en")?, None);

    let (ours, theirs) = (Shop { tenant: "us" }, Shop { tenant: "them" });
    assert_eq!((ours.price(1), theirs.price(1), ours.price_get(1)), (102, 104, Some(102)));
    println!("every function was asked for its values more often than it was run");
    Ok(())
}
