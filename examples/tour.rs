//! Every public method of `Cache`, once, as its documentation uses it.
//!
//! `scripts/scratch.sh` builds this file in a crate outside of the workspace, as a user would.

use dogpile::time::{Instant, ManualClock};
use dogpile::{
    Cache, Compute, Freshness, Handle, InsertOptions, Inserted, Policy, RandomState, RemovalCause,
};
use std::num::NonZero;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    building()?;
    reading();
    writing();
    expiring()?;
    looking_around();
    creating()?;
    pollster::block_on(creating_in_tasks())?;
    restarting()?;
    println!("every public method of Cache was used, and did what its documentation says");
    Ok(())
}

fn building() -> Result<(), Box<dyn std::error::Error>> {
    let gone = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&gone);
    let pages = Cache::builder()
        .max_weight(1000)
        .weigher(|path: &String, page: &Vec<u8>| (path.len() + page.len()) as u32)
        .shards(NonZero::new(2).ok_or("two is not zero")?)
        .hasher(RandomState::with_seed(1))
        .time_to_live(Duration::from_secs(60))
        .time_to_idle(Duration::from_secs(30))
        .expire_after(|_, page| page.is_empty().then_some(Duration::from_secs(5)))
        .listener(move |page: Handle<String, Vec<u8>>, cause| {
            log.lock().expect("no logger panics").push((page.key().clone(), cause));
        })
        .clock(ManualClock::new())
        .initial_capacity(64)
        .build()?;
    pages.insert(String::from("/"), vec![0; 99]);
    assert_eq!((pages.len(), pages.weight(), pages.capacity(), pages.shards()), (1, 100, Some(1000), 2));
    assert_eq!(pages.clock().now(), Instant::from_nanos(0));
    let refused = pages.insert(String::from("/"), vec![0; 2000]).ok_or("too heavy")?;
    assert_eq!(refused.len(), 2000, "what can't be kept comes back");
    assert!(pages.is_empty(), "and what it should have replaced is out of date");
    assert_eq!(*gone.lock().expect("no logger panics"), [(String::from("/"), RemovalCause::Replaced)]);

    let small = Cache::builder().max_entries(2).build()?;
    (0..5).for_each(|i| {
        small.insert(i, i);
    });
    assert_eq!(small.len(), 2);

    let error = Cache::<u8, u8>::builder().max_weight(1).build().expect_err("what would an entry weigh?");
    assert!(error.to_string().contains("weigher"), "{error}");
    Ok(())
}

fn reading() {
    let cache = Cache::new(100);
    (0..10).for_each(|i| {
        cache.insert(i, i * i);
    });
    let nine = cache.get(&3).expect("it was put in");
    assert_eq!((*nine, *nine.key(), *nine.value(), nine.entry().weight()), (9, 3, 9, 1));
    assert_eq!(*nine.to_handle(), 9);
    assert_eq!(cache.peek(&2).as_deref(), Some(&4));
    assert_eq!(cache.get_cloned(&4), Some(16));
    assert!(cache.contains_key(&9) && !cache.contains_key(&10));

    let kept = cache.get_handle(&5).expect("it was put in");
    std::thread::spawn(move || assert_eq!((*kept, *kept.key(), kept.entry().expires_at()), (25, 5, None)))
        .join()
        .expect("a handle crosses threads");

    let pin = cache.pin();
    assert_eq!(cache.get_in(&6, &pin).map(|entry| *entry.value()), Some(36));
    let found: Vec<_> =
        cache.get_multi(&[7, 70, 8], &pin).map(|hit| hit.map(|entry| *entry.value())).collect();
    assert_eq!(found, [Some(49), None, Some(64)]);
}

fn writing() {
    let cache = Cache::unbounded();
    assert!(cache.insert("a", 1).is_none());
    assert!(
        matches!(cache.insert_with("a", 2, InsertOptions::new().weight(7)), Inserted::Replaced(old) if *old == 1)
    );
    assert!(!cache.insert_if_absent("a", 3).is_stored());
    assert!(cache.insert_if_absent_with("b", 3, InsertOptions::new()).is_stored());
    let sum = cache.compute("a", |old| Compute::Put(old.copied().unwrap_or(0) + 40));
    assert_eq!(sum.as_deref(), Some(&42));
    let light = InsertOptions::new().weight(1);
    let same = cache.compute_with("a", light, |old| Compute::Put(old.copied().unwrap_or(0)));
    assert_eq!(same.as_deref(), Some(&42));
    assert!(cache.remove_if("b", |_, value| *value > 3).is_none());
    assert_eq!(cache.remove("b").as_deref(), Some(&3));
    (&cache).extend([("c", 5), ("d", 6)]);
    cache.retain(|_, value| value % 2 == 0);
    assert_eq!(cache.len(), 2);
    cache.clear();
    assert!(cache.is_empty());

    let bounded = Cache::new(100);
    bounded.insert(1, "one");
    bounded.resize(0);
    assert!(bounded.is_empty());
    let refused = bounded.insert(2, "two").expect("capacity 0 keeps nothing");
    assert_eq!(refused.try_unwrap().ok(), Some((2, "two")));
}

fn expiring() -> Result<(), Box<dyn std::error::Error>> {
    let clock = ManualClock::new();
    let cache = Cache::builder().time_to_live(Duration::from_secs(10)).clock(clock.clone()).build()?;
    cache.insert("default", 0);
    cache.insert_with("short", 0, InsertOptions::new().ttl(Duration::from_secs(1)));
    cache.insert("long", 0);
    assert!(cache.expire_in("long", None));
    cache.insert("dated", 0);
    assert!(cache.expire_at("dated", Some(Instant::from_nanos(3_000_000_000))));
    clock.advance(Duration::from_secs(2));
    assert!(!cache.contains_key("short") && cache.contains_key("dated"));
    assert!(cache.touch("default"));
    clock.advance(Duration::from_secs(9));
    assert!(!cache.contains_key("dated") && cache.contains_key("default") && cache.contains_key("long"));
    assert_eq!(cache.len(), 4, "expired entries count until they have been swept out");
    cache.run_pending();
    assert_eq!(cache.len(), 2);
    Ok(())
}

fn looking_around() {
    let cache = Cache::new(10);
    (0..20).for_each(|i| {
        cache.insert(i, ());
    });
    let kept = *cache.iter().next().expect("ten are left").key();
    cache.get(&kept);
    assert_eq!(cache.hottest(1)[0].key(), &kept);
    assert_ne!(cache.coldest(1)[0].key(), &kept);
    assert!(cache.hottest(1)[0].ptr_eq(&cache.get_handle(&kept).expect("it is there")));
    let stats = cache.stats();
    assert_eq!((stats.insertions, stats.evicted, stats.hits), (20, 10, 2));
    assert_eq!((&cache).into_iter().count(), 10);
    assert!(format!("{:?}", cache.clone()).contains("len: 10"));
}

fn creating() -> Result<(), Box<dyn std::error::Error>> {
    let (second, clock) = (Duration::from_secs(1), ManualClock::new());
    let policy = Policy::builder().fresh(second).stale(second).jitter(0.1).build()?;
    let cache = Cache::<String, usize>::builder()
        .policy(policy)
        .loader(|text| text.len())
        .clock(clock.clone())
        .build()?;
    assert_eq!(*cache.get_or_create("one", || 1), 1);
    assert_eq!(*cache.try_get_or_create("two", || "2".parse::<usize>())?, 2);
    let found = cache.get_or_create_multi(["one", "three"], |missing| vec![3; missing.len()]);
    assert_eq!((*found[0], *found[1]), (1, 3));
    let error = cache.try_get_or_create_multi(["four", "five"], |_| Err::<Vec<usize>, _>("not today"));
    assert_eq!(error.unwrap_err().creator(), Some(&"not today"));
    assert!(!cache.key_is_locked("four"));
    assert_eq!(*cache.load("four")?, 4);

    clock.advance(second);
    assert_eq!(cache.explain("four").to_string().split(' ').next(), Some("stale"));
    let wait_fresh = Policy::builder().fresh(second).freshness(Freshness::WaitFresh).build()?;
    assert_eq!(*cache.with(&wait_fresh).get_or_create("one", || 11), 11);
    assert_eq!(*cache.refresh("one")?, 3, "by the loader");
    assert_eq!(*cache.get_or_create_detached("six", || 6), 6);
    assert_eq!(*cache.try_get_or_create_detached("seven", || "7".parse::<usize>())?, 7);

    let picky = Cache::builder()
        .try_loader(|text: &String| text.parse::<u8>())
        .policy(Policy::builder().error_ttl(second).build()?)
        .build()?;
    assert!(picky.load("many").unwrap_err().creator().is_some());
    Ok(())
}

async fn creating_in_tasks() -> Result<(), Box<dyn std::error::Error>> {
    let cache = Cache::builder().max_entries(100).async_loader(|n: u64| async move { n * n }).build()?;
    assert_eq!(*cache.get_or_create_async(&1, async { 1 }).await, 1);
    assert_eq!(*cache.try_get_or_create_async(&2, async { "4".parse::<u64>() }).await?, 4);
    assert_eq!(*cache.load_async(&3).await?, 9);
    assert_eq!(*cache.refresh_async(&3).await?, 9);
    let found =
        cache.get_or_create_multi_async(&[3, 4], |missing| async move { vec![16; missing.len()] }).await;
    assert_eq!((*found[0], *found[1]), (9, 16));
    let found =
        cache.try_get_or_create_multi_async(&[5], |_| async { "25".parse().map(|n| vec![n]) }).await?;
    assert_eq!(*found[0], 25);
    assert_eq!(*cache.get_or_create_detached_async(&6, async { 36 }).await, 36);
    assert_eq!(*cache.try_get_or_create_detached_async(&7, async { "49".parse::<u64>() }).await?, 49);
    let strict =
        Cache::builder().try_async_loader(|text: String| async move { text.parse::<u8>() }).build()?;
    assert_eq!(*strict.load_async("8").await?, 8);
    Ok(())
}

fn restarting() -> Result<(), Box<dyn std::error::Error>> {
    let old = Cache::new(10);
    old.insert(1, String::from("one"));
    let json = serde_json::to_string(&old.snapshot())?;
    let new = Cache::<i32, String>::new(10);
    assert_eq!(new.restore(&mut serde_json::Deserializer::from_str(&json))?, 1);
    assert_eq!(new.get(&1).as_deref().map(String::as_str), Some("one"));
    Ok(())
}
