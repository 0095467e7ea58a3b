//! Warm restarts: what a snapshot holds, and what becomes of it in another cache.
#![cfg(feature = "serde")]

use dogpile::time::ManualClock;
use dogpile::{Cache, InsertOptions, Snapshot};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn timed(time_to_live: Option<Duration>) -> (Cache<String, u32>, ManualClock) {
    let clock = ManualClock::new();
    clock.advance(1000 * SECOND);
    let mut builder = Cache::builder().max_entries(100).clock(clock.clone());
    if let Some(time_to_live) = time_to_live {
        builder = builder.time_to_live(time_to_live);
    }
    (builder.build().unwrap(), clock)
}

fn json(snapshot: &Snapshot<String, u32>) -> String {
    serde_json::to_string(snapshot).unwrap()
}

fn restore(cache: &Cache<String, u32>, json: &str) -> serde_json::Result<usize> {
    cache.restore(&mut serde_json::Deserializer::from_str(json))
}

#[test]
fn entries_keep_the_time_they_had_left() {
    let (old, clock) = timed(None);
    old.insert(String::from("for ever"), 1);
    old.insert_with(String::from("ten"), 2, InsertOptions::new().ttl(10 * SECOND));
    old.insert_with(String::from("two"), 3, InsertOptions::new().ttl(2 * SECOND));
    old.insert_with(String::from("one"), 4, InsertOptions::new().ttl(SECOND));
    clock.advance(SECOND);
    let snapshot = old.snapshot();
    assert_eq!((snapshot.len(), snapshot.is_empty()), (3, false), "one second is over for one of them");
    let json = json(&snapshot);

    let (new, clock) = timed(None);
    assert_eq!(restore(&new, &json).unwrap(), 3);
    assert!(new.get("for ever").unwrap().entry().expires_at().is_none());
    clock.advance(SECOND);
    assert!(new.contains_key("ten") && !new.contains_key("two"));
    clock.advance(8 * SECOND);
    assert!(!new.contains_key("ten") && new.contains_key("for ever"));
}

#[test]
fn entries_without_a_time_get_that_of_the_new_cache() {
    let (old, _) = timed(None);
    old.insert(String::from("key"), 1);
    let (new, clock) = timed(Some(5 * SECOND));
    assert_eq!(restore(&new, &json(&old.snapshot())).unwrap(), 1);
    clock.advance(5 * SECOND);
    assert!(!new.contains_key("key"));
}

#[test]
fn what_is_there_is_newer() {
    let (old, _) = timed(None);
    old.insert(String::from("a"), 1);
    old.insert(String::from("b"), 1);
    let (new, clock) = timed(None);
    new.insert(String::from("a"), 2);
    new.insert_with(String::from("b"), 2, InsertOptions::new().ttl(SECOND));
    clock.advance(SECOND);
    assert_eq!(restore(&new, &json(&old.snapshot())).unwrap(), 1, "what has expired is no obstacle");
    assert_eq!((new.get_cloned("a"), new.get_cloned("b")), (Some(2), Some(1)));
}

#[test]
fn the_hottest_come_first_so_that_a_smaller_cache_keeps_most_of_them() {
    let (old, _) = timed(None);
    (0..100).for_each(|key: u32| drop(old.insert(key.to_string(), key)));
    for _ in 0..3 {
        (0..10).for_each(|key: u32| assert!(old.get(&key.to_string()).is_some()));
    }
    let json = json(&old.snapshot());
    let entries: Vec<(String, u32, Option<Duration>)> = serde_json::from_str(&json).unwrap();
    assert_eq!(entries.len(), 100);
    assert!(entries[..10].iter().all(|(_, value, _)| *value < 10), "the hottest are first");

    let small = Cache::new(20);
    assert_eq!(restore(&small, &json).unwrap(), 100);
    // A few come into the window while the main queue's share is still growing.
    let kept = (0..10).filter(|key: &u32| small.contains_key(&key.to_string())).count();
    assert!(kept > 5, "{kept} of the ten hottest are kept");
    assert_eq!(small.len(), 20);
}

#[test]
fn broken_input_is_an_error_and_what_was_read_stays() {
    let (cache, _) = timed(None);
    let cut = r#"[["a",1,null],["b",2,{"secs":5,"nanos":0}],["c",3"#;
    assert!(restore(&cache, cut).is_err());
    assert_eq!((cache.get_cloned("a"), cache.get_cloned("b")), (Some(1), Some(2)));
    for bad in
        ["", "{}", "null", "[1]", r#"[["a",1]]"#, r#"[["a","x",null]]"#, r#"[["a",1,{"secs":-1,"nanos":0}]]"#]
    {
        assert!(restore(&cache, bad).is_err(), "{bad}");
    }
    assert_eq!(restore(&cache, "[]").unwrap(), 0);
    let far = format!(r#"[["far",1,{{"secs":{},"nanos":999999999}}]]"#, u64::MAX);
    assert_eq!(restore(&cache, &far).unwrap(), 1);
    assert!(cache.get("far").unwrap().entry().expires_at().is_none(), "past the end of time is for ever");
}

#[test]
fn a_snapshot_holds_what_it_saw() {
    let (cache, _) = timed(None);
    cache.insert(String::from("key"), 1);
    let snapshot = cache.snapshot();
    cache.insert(String::from("key"), 2);
    cache.clear();
    drop(cache);
    assert_eq!(json(&snapshot), r#"[["key",1,null]]"#);
    let empty = Cache::<String, u32>::new(0).snapshot();
    assert!(empty.is_empty() && json(&empty) == "[]");
}
