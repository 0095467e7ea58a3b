//! Caches of the user's.

use super::Runs;
use crate::common::Kept;
use dogpile::time::ManualClock;
use dogpile::{Cache, Policy, cached};
use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::LazyLock;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_cache_is_shared_by_functions_and_others() {
    static LENGTHS: LazyLock<Cache<String, usize>> = LazyLock::new(|| Cache::new(10));

    #[cached(cache = LENGTHS)]
    fn length(text: &str) -> usize {
        text.len()
    }
    #[cached(cache = LENGTHS, key = "{n}")]
    fn digits(n: u32) -> usize {
        n.to_string().len()
    }
    assert_eq!((length("four"), LENGTHS.get_cloned("four")), (4, Some(4)));
    LENGTHS.insert(String::from("four"), 5);
    LENGTHS.insert(String::from("123"), 9);
    assert_eq!((length("four"), digits(123), digits(12)), (5, 9, 2));
    assert_eq!((digits::key(12).as_str(), length::get("12"), digits::invalidate(12)), ("12", Some(2), true));
    length::set(1, "one");
    assert_eq!(LENGTHS.get_cloned("one"), Some(1));
}

#[test]
fn a_tuple_for_several_arguments() {
    static SUMS: LazyLock<Cache<(u32, u32), u32>> = LazyLock::new(|| Cache::new(10));

    #[cached(cache = SUMS)]
    fn sum(a: u32, b: u32) -> u32 {
        a + b
    }
    assert_eq!((sum(1, 2), SUMS.get_cloned(&(1, 2))), (3, Some(3)));
}

/// A function's settings are changes of the cache's policy, for its own calls.
#[test]
fn what_a_function_sets_is_changed_and_the_rest_is_the_caches() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static KEPT: LazyLock<Kept> = LazyLock::new(Kept::default);
    static RUNS: Runs = Runs::new();
    static CACHE: LazyLock<Cache<u32, Option<usize>>> = LazyLock::new(|| {
        let policy = Policy::builder().fresh(MINUTE).stale(10 * MINUTE).runner(KEPT.clone()).build().unwrap();
        Cache::builder().policy(policy).clock(CLOCK.clone()).build().unwrap()
    });

    #[cached(cache = CACHE, fresh = "2m")]
    fn longer(n: u32) -> Option<usize> {
        (n > 0).then(|| RUNS.another())
    }
    #[cached(cache = &*CACHE, cache_none)]
    fn usual(n: u32) -> Option<usize> {
        (n > 0).then(|| RUNS.another())
    }
    assert_eq!((longer(1), usual(2), longer(0), usual(0)), (Some(1), Some(2), None, None));
    assert_eq!(CACHE.get_cloned(&0), Some(None), "only usual stores it");
    longer::set(Some(7), 3);
    usual::set(Some(7), 4);
    CLOCK.advance(MINUTE);
    assert_eq!(
        (longer::get(1), usual::get(2), longer::get(3), usual::get(4)),
        (Some(1), None, Some(7), None)
    );
    CLOCK.advance(MINUTE);
    assert_eq!((longer(1), KEPT.len(), longer::get(1)), (Some(1), 1, None), "stale, as the cache says");
}

#[test]
fn a_whole_policy() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static POLICY: LazyLock<Policy<u32>> = LazyLock::new(|| Policy::builder().fresh(MINUTE).build().unwrap());
    static CACHE: LazyLock<Cache<u32, u32>> =
        LazyLock::new(|| Cache::builder().clock(CLOCK.clone()).build().unwrap());

    #[cached(policy = POLICY, clock = CLOCK.clone())]
    fn own(n: u32) -> u32 {
        n
    }
    #[cached(cache = CACHE, policy = POLICY)]
    fn theirs(n: u32) -> u32 {
        n
    }
    assert_eq!((own(1), theirs(1)), (1, 1));
    CLOCK.advance(MINUTE);
    assert_eq!((own::get(1), theirs::get(1)), (None, None));
}

/// Cachetory's `cached` takes a function that chooses a cache, or none.
#[test]
fn a_cache_by_the_call_or_none() {
    static RUNS: Runs = Runs::new();
    static CACHES: LazyLock<HashMap<&str, Cache<u32, usize>>> =
        LazyLock::new(|| ["a", "b"].into_iter().map(|tenant| (tenant, Cache::new(10))).collect());

    #[cached(cache = CACHES[tenant], bypass = !CACHES.contains_key(tenant), skip(tenant))]
    fn of_tenant(tenant: &str, _n: u32) -> usize {
        RUNS.another()
    }
    assert_eq!((of_tenant("a", 1), of_tenant("b", 1), of_tenant("a", 1)), (1, 2, 1));
    assert_eq!((of_tenant("c", 1), of_tenant("c", 1)), (3, 4), "bypassed");
    assert_eq!((of_tenant::get("a", 1), of_tenant::get("b", 1)), (Some(1), Some(2)));
}

#[test]
fn a_generic_function_with_a_cache() {
    static TEXTS: LazyLock<Cache<String, String>> = LazyLock::new(|| Cache::new(10));
    static RUNS: Runs = Runs::new();

    #[cached(cache = TEXTS, key = "{value:?}")]
    fn text<T: Debug + Clone + Send + Sync + 'static>(value: T) -> String {
        RUNS.another();
        format!("{value:?}")
    }
    /// The cache is an argument, and generic itself.
    #[cached(cache = cache, skip(cache), wait = "1m")]
    fn by_argument<K, V>(cache: &Cache<K, V>, key: &K) -> V
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        V: From<K> + Clone + Send + Sync + 'static,
    {
        RUNS.another();
        V::from(key.clone())
    }
    assert_eq!((text(1), text("1"), text(1)), ("1".into(), "\"1\"".into(), "1".into()));
    assert_eq!((RUNS.count(), text::get(1_u8).as_deref()), (2, Some("1")));
    let numbers = Cache::<u8, u64>::new(10);
    assert_eq!((by_argument(&numbers, &1), by_argument(&numbers, &1), RUNS.count()), (1, 1, 3));
    assert_eq!(by_argument::get(&numbers, &1), Some(1));
}
