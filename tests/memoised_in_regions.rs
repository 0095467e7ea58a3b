//! Functions memoised by `#[cached]` in a region: their keys, tags and policy, and what becomes of a store's failures.

#![deny(warnings, clippy::pedantic)]
#![allow(
    clippy::items_after_statements,
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    clippy::unused_self,
    reason = "the functions are here for their signatures, and stand where they are used"
)]

#[allow(clippy::pedantic)]
mod common;

use common::{Hold, Kept, crowd, one_pause, panics, watch};
use dogpile::backend::{Backend, MemoryBackend, Put, Stored};
use dogpile::region::{DogpileKeys, How, OnBackendError, Scope, key_of};
use dogpile::time::ManualClock;
use dogpile::{AsyncRegion, Error, ErrorKind, Region, RegionPolicy, cached};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// How often a function ran.
struct Runs(AtomicUsize);

impl Runs {
    const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    fn another(&self) -> usize {
        self.0.fetch_add(1, SeqCst) + 1
    }

    fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// A region whose clock, and so whose store's, is at hand.
fn manual() -> (Region, ManualClock) {
    let clock = ManualClock::new();
    let store = MemoryBackend::builder().clock(clock.clone()).build().unwrap();
    let policy = RegionPolicy::builder().fresh(MINUTE).build().unwrap();
    (Region::builder().backend(store).policy(policy).clock(clock.clone()).build().unwrap(), clock)
}

/// A store that fails when told to.
#[derive(Clone, Default)]
struct Failing(std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Failing {
    fn result<T>(&self, found: T) -> Result<T, Error> {
        if self.0.load(SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the test's store"));
        }
        Ok(found)
    }
}

impl Backend for Failing {
    fn get(&self, _key: &str) -> Result<Option<Stored>, Error> {
        self.result(None)
    }
    fn set(&self, _put: Put<'_>) -> Result<(), Error> {
        self.result(())
    }
    fn delete(&self, _key: &str) -> Result<bool, Error> {
        self.result(false)
    }
}

static SHARED: LazyLock<Region> = LazyLock::new(Region::in_memory);

mod names {
    use super::SHARED;

    #[dogpile::cached(region = SHARED)]
    pub(super) fn f(first: &str, second: Option<&str>) -> String {
        format!("{first:?} {second:?}")
    }

    #[dogpile::cached(region = SHARED)]
    pub(super) fn g(n: u64) -> String {
        n.to_string()
    }

    #[dogpile::cached(region = SHARED, namespace = "eu", skip(_verbose))]
    pub(super) fn h(n: &str, _verbose: bool) -> String {
        n.to_owned()
    }

    #[dogpile::cached(region = SHARED, keys = super::DogpileKeys::new())]
    pub(super) fn python(id: u64, name: &str) -> String {
        format!("{id} {name}")
    }

    pub(super) struct Service;

    impl Service {
        #[dogpile::cached(region = SHARED, associated)]
        pub(super) fn f(first: &str) -> String {
            format!("of a service: {first}")
        }
    }
}

/// `f("a b")`, `f("a", "b")`, `g(1)`, `h("1")`, and those of the same name elsewhere.
#[test]
fn keys_are_names_and_arguments_and_nothing_is_confused() {
    use names::{Service, f, g, h, python};
    let f_key = |args: &(&str, Option<&str>)| key_of("memoised_in_regions::names::f", None, args);
    assert_eq!(f::key("a b", None).unwrap(), f_key(&("a b", None)).unwrap());
    assert_eq!(f::key("a", Some("b")).unwrap(), "memoised_in_regions::names::f(\"a\",Some(\"b\"))");
    assert_eq!(g::key(1).unwrap(), "memoised_in_regions::names::g(1)");
    assert_eq!(h::key("1").unwrap(), "memoised_in_regions::names::h|\"eu\"(\"1\")");
    assert_eq!(Service::f_key("a").unwrap(), "memoised_in_regions::names::Service::f(\"a\")");
    assert_eq!(python::key(7, "a").unwrap(), "memoised_in_regions::names:python|7 a");

    let all = [f("a b", None), f("a", Some("b")), f("a", None), g(1), h("1", true), Service::f("a")];
    let expected = ["\"a b\" None", "\"a\" Some(\"b\")", "\"a\" None", "1", "1", "of a service: a"];
    assert_eq!(all, expected);
    assert_eq!((h("1", false), python(7, "a")), ("1".into(), "7 a".into()));
    assert_eq!(SHARED.get::<String>("memoised_in_regions::names::g(1)").unwrap().unwrap().as_str(), "1");
}

#[test]
fn helpers_say_what_the_store_says() {
    static REGION: LazyLock<Region> = LazyLock::new(Region::in_memory);
    static RUNS: Runs = Runs::new();

    #[cached(region = REGION)]
    fn user(_id: u64, _name: &str) -> usize {
        RUNS.another()
    }
    assert_eq!(user::get(1, "a").unwrap(), None);
    assert_eq!((user(1, "a"), user(1, "a"), user::get(1, "a").unwrap()), (1, 1, Some(1)));
    assert_eq!((user::refresh(1, "a"), user(1, "a"), user::original(1, "a"), user(1, "a")), (2, 2, 3, 2));
    user::set(9, 1, "a").unwrap();
    assert_eq!(
        (user(1, "a"), REGION.get::<usize>(&user::key(1, "a").unwrap()).unwrap().as_deref()),
        (9, Some(&9))
    );
    assert!(user::invalidate(1, "a").unwrap());
    assert!(!user::invalidate(1, "a").unwrap());
    assert_eq!(user(1, "a"), 4);
}

#[test]
fn of_many_callers_one_runs_the_function() {
    static REGION: LazyLock<Region> = LazyLock::new(Region::in_memory);
    static RUNS: Runs = Runs::new();
    static FIRST: Mutex<Option<Hold>> = Mutex::new(None);

    #[cached(region = REGION)]
    fn slow(_n: u32) -> Result<usize, String> {
        let run = RUNS.another();
        let first = FIRST.lock().unwrap().take();
        if let Some(hold) = first {
            hold.here();
        }
        if run == 1 { Err(String::from("the first one fails")) } else { Ok(run) }
    }
    let _watch = watch();
    let lead = |hold: &Hold| {
        *FIRST.lock().unwrap() = Some(hold.clone());
        slow(1)
    };
    let (first, others) = crowd(|| REGION.stats().waits, lead, 3, |_| slow(1), || {});
    assert_eq!(first.unwrap(), Err("the first one fails".into()));
    assert!(
        others.into_iter().all(|other| other.unwrap() == Err("the first one fails".into())),
        "one run for all"
    );
    assert_eq!((slow(1), slow(1), RUNS.count()), (Ok(2), Ok(2), 2));
}

/// The region's policy, but for what the function sets.
#[test]
fn settings_change_the_regions_policy() {
    static REGION: LazyLock<(Region, ManualClock)> = LazyLock::new(manual);
    static KEPT: LazyLock<Kept> = LazyLock::new(Kept::default);
    static RUNS: Runs = Runs::new();

    #[cached(region = REGION.0, runner = KEPT.clone())]
    fn usual(_n: u32) -> usize {
        RUNS.another()
    }
    #[cached(region = REGION.0, fresh = "2m", runner = KEPT.clone())]
    fn longer(_n: u32) -> usize {
        RUNS.another()
    }
    assert_eq!((usual(1), longer(1)), (1, 2));
    longer::set(7, 2).unwrap();
    REGION.1.advance(MINUTE);
    assert_eq!(
        (usual::get(1).unwrap(), longer::get(1).unwrap(), longer::get(2).unwrap()),
        (None, Some(2), Some(7))
    );
    assert_eq!((usual(1), longer(1), KEPT.run()), (1, 2, 1), "stale, and made anew in the background");
    assert_eq!((usual(1), longer(1)), (3, 2));
    REGION.1.advance(MINUTE);
    assert_eq!((longer(1), KEPT.run(), longer(1)), (2, 1, 4));
}

/// dogpile's callable `expiration_time`; and it holds for values that are there.
#[test]
fn a_callable_fresh_is_asked_at_each_call() {
    static REGION: LazyLock<(Region, ManualClock)> = LazyLock::new(manual);
    static SECONDS: AtomicUsize = AtomicUsize::new(60);
    static RUNS: Runs = Runs::new();

    #[cached(region = REGION.0, fresh = || Duration::from_secs(SECONDS.load(SeqCst) as u64), stale = Duration::ZERO)]
    fn counted(_n: u32) -> usize {
        RUNS.another()
    }
    assert_eq!(counted(1), 1);
    REGION.1.advance(Duration::from_secs(10));
    assert_eq!((counted(1), counted::get(1).unwrap()), (1, Some(1)));
    SECONDS.store(5, SeqCst);
    assert_eq!((counted::get(1).unwrap(), counted(1)), (None, 2));
    // `test_decorator_expire_callable_zero`
    SECONDS.store(0, SeqCst);
    assert_eq!((counted(1), counted(1)), (3, 4));
}

#[test]
fn what_is_not_cached() {
    static REGION: LazyLock<Region> = LazyLock::new(Region::in_memory);
    static RUNS: Runs = Runs::new();

    #[cached(region = REGION)]
    fn find(n: u32) -> Option<usize> {
        let run = RUNS.another();
        (n > 0).then_some(run)
    }
    #[cached(region = REGION, cache_none)]
    fn find_all(n: u32) -> Option<usize> {
        let run = RUNS.another();
        (n > 0).then_some(run)
    }
    #[cached(region = REGION, should_cache = |value| value % 2 == 0)]
    fn even(n: usize) -> usize {
        RUNS.another();
        n
    }
    assert_eq!((find(1), find(1), find(0), find(0), RUNS.count()), (Some(1), Some(1), None, None, 3));
    assert_eq!((find::get(1).unwrap(), find::get(0).unwrap()), (Some(1), None));
    assert_eq!(
        (find_all(0), find_all(0), find_all::get(0).unwrap(), RUNS.count()),
        (None, None, Some(None), 4)
    );
    assert_eq!((even(1), even(1), even(2), even(2), RUNS.count()), (1, 1, 2, 2, 7));
}

#[test]
fn values_have_tags() {
    static REGION: LazyLock<Region> = LazyLock::new(Region::in_memory);
    static RUNS: Runs = Runs::new();

    #[cached(region = REGION, tags = ["user:{id}", "users"])]
    fn profile(id: u64) -> usize {
        RUNS.another()
    }
    #[cached(region = REGION, key = "setting:{name}", tags = [format!("user:{id}"), name], wait = "1m")]
    fn setting(id: u64, name: &str) -> usize {
        RUNS.another()
    }
    assert_eq!((profile(1), profile(2), setting(1, "a"), setting(2, "b")), (1, 2, 3, 4));
    REGION.invalidate(Scope::Tag("user:1"), How::Hard).unwrap();
    assert_eq!((profile(1), profile(2), setting(1, "a"), setting(2, "b")), (5, 2, 6, 4));
    REGION.invalidate(Scope::Tag("users"), How::Hard).unwrap();
    assert_eq!((profile::get(1).unwrap(), profile(2), setting(2, "b")), (None, 7, 4));
    // What is put in by hand has them, too, so `set` asks for what the tags need.
    setting::set(9, 3, "c").unwrap();
    assert_eq!(setting(3, "c"), 9);
    REGION.invalidate(Scope::Tag("user:3"), How::Hard).unwrap();
    assert_eq!(setting::get("c").unwrap(), None);
}

/// A value that was invalidated while it was made is not stored.
#[test]
fn no_invalidation_is_lost() {
    static REGION: LazyLock<Region> = LazyLock::new(Region::in_memory);

    #[cached(region = REGION, tags = ["n:{n}"])]
    fn invalidated(n: u32) -> u32 {
        REGION.invalidate(Scope::Tag(&format!("n:{n}")), How::Hard).unwrap();
        n
    }
    assert_eq!((invalidated(1), invalidated::get(1).unwrap()), (1, None));
}

#[test]
fn methods_and_generic_functions() {
    #[derive(Clone, serde::Serialize)]
    struct Service {
        name: &'static str,
    }
    static REGION: LazyLock<Region> = LazyLock::new(Region::in_memory);
    impl Service {
        #[cached(region = REGION, self = skip)]
        fn shared(&self, n: u32) -> String {
            format!("{}{n}", self.name)
        }
        #[cached(region = REGION, self = key)]
        fn own(&self, n: u32) -> String {
            format!("{}{n}", self.name)
        }
    }
    #[cached(region = REGION)]
    fn text<T: serde::Serialize + ToString + Clone + Send + Sync + 'static>(value: T) -> String {
        value.to_string()
    }
    let (a, b) = (Service { name: "a" }, Service { name: "b" });
    assert_eq!(
        (a.shared(1), b.shared(1), a.own(1), b.own(1)),
        ("a1".into(), "a1".into(), "a1".into(), "b1".into())
    );
    assert_eq!(
        (Service::shared_get(1).unwrap().as_deref(), b.own_get(1).unwrap().as_deref()),
        (Some("a1"), Some("b1"))
    );
    assert!(a.own_key(1).unwrap().ends_with("Service::own(Service{name:\"a\"},1)"), "{:?}", a.own_key(1));
    assert_eq!((text(1), text("a"), text(1)), ("1".into(), "a".into(), "1".into()));
}

/// What reads alike in a key may be of another type.
#[test]
fn instances_of_a_generic_function_are_not_confused() {
    static REGION: LazyLock<Region> = LazyLock::new(Region::in_memory);

    #[cached(region = REGION)]
    fn size<T: serde::Serialize + Clone + Send + Sync + 'static, const N: usize>(_value: T) -> usize {
        size_of::<T>() + N
    }
    assert_eq!((size::<_, 0>(1_u8), size::<_, 0>(1_u64), size::<_, 1>(1_u8)), (1, 8, 2));
    assert!(size::key::<_, 1>(1_u8).unwrap().contains("size<u8,1>"));
}

/// Such a call has no key; it is run.
#[test]
fn an_argument_that_refuses_to_be_a_key() {
    #[derive(Clone)]
    struct Refuses;
    impl serde::Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("never"))
        }
    }
    static REGION: LazyLock<Region> = LazyLock::new(Region::in_memory);
    static RUNS: Runs = Runs::new();

    #[cached(region = REGION)]
    fn counted(_x: Refuses) -> usize {
        RUNS.another()
    }
    #[cached(region = REGION, backend_error = |error: Error| error)]
    fn told(_x: Refuses) -> Result<usize, Error> {
        Ok(RUNS.another())
    }
    assert_eq!((counted(Refuses), counted(Refuses)), (1, 2));
    assert_eq!(counted::key(Refuses).unwrap_err().kind(), ErrorKind::Key);
    assert_eq!((told(Refuses).unwrap_err().kind(), RUNS.count()), (ErrorKind::Key, 2));
}

#[test]
fn a_store_that_fails_does_not_keep_the_function_from_its_callers() {
    static STORE: LazyLock<Failing> = LazyLock::new(Failing::default);
    static DEGRADES: LazyLock<Region> =
        LazyLock::new(|| Region::builder().backend(STORE.clone()).build().unwrap());
    static FAILS: LazyLock<Region> = LazyLock::new(|| {
        Region::builder().backend(STORE.clone()).on_backend_error(OnBackendError::Fail).build().unwrap()
    });

    #[cached(region = DEGRADES)]
    fn degrades(n: u32) -> u32 {
        n
    }
    #[cached(region = FAILS)]
    fn fails(n: u32) -> u32 {
        n
    }
    #[cached(region = FAILS, backend_error = |error: Error| error.to_string())]
    fn tells(n: u32) -> Result<u32, String> {
        Ok(n)
    }
    STORE.0.store(true, SeqCst);
    assert_eq!((degrades(1), fails(1)), (1, 1));
    assert_eq!(fails::get(1).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(fails::invalidate(1).unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(tells(1).unwrap_err().starts_with("the test's store"));
}

#[test]
fn a_region_may_be_configured_later_but_not_never() {
    static LATER: Region = Region::new("later");

    #[cached(region = LATER, fresh = "1m")]
    fn counted(n: u32) -> u32 {
        n
    }
    let said = panics(|| counted(1));
    assert!(said.contains("`counted`") && said.contains("region `later`"), "{said}");
    assert_eq!(counted::get(1).unwrap_err().kind(), ErrorKind::NotConfigured);
    LATER.configure(Region::builder().backend(MemoryBackend::new())).unwrap();
    assert_eq!((counted(1), counted::get(1).unwrap()), (1, Some(1)));
}

#[test]
fn in_tasks() {
    static REGION: LazyLock<AsyncRegion> = LazyLock::new(AsyncRegion::in_memory);
    static RUNS: Runs = Runs::new();

    #[cached(region = REGION, tags = ["{name}"], wait = "1m")]
    async fn fetch(name: &str) -> Result<Option<usize>, String> {
        one_pause().await;
        let run = RUNS.another();
        if name.is_empty() { Err(String::from("empty")) } else { Ok((name != "none").then_some(run)) }
    }
    fn can_be_sent<T: Send>(future: T) -> T {
        future
    }
    pollster::block_on(async {
        assert_eq!(
            (can_be_sent(fetch("a")).await, fetch("a").await, fetch("").await),
            (Ok(Some(1)), Ok(Some(1)), Err("empty".into()))
        );
        assert_eq!((fetch("none").await, fetch("none").await, RUNS.count()), (Ok(None), Ok(None), 4));
        assert_eq!((fetch::get("a").await.unwrap(), fetch::get("none").await.unwrap()), (Some(1), None));
        assert_eq!((fetch::refresh("a").await, fetch("a").await), (Ok(Some(5)), Ok(Some(5))));
        fetch::set(Some(9), "a").await.unwrap();
        assert_eq!(fetch("a").await, Ok(Some(9)));
        REGION.invalidate(Scope::Tag("a"), How::Hard).await.unwrap();
        assert_eq!((fetch("a").await, fetch::invalidate("a").await.unwrap()), (Ok(Some(6)), true));
        assert!(fetch::key("a").unwrap().ends_with("::fetch(\"a\")"));
    });
}

#[test]
fn one_call_for_many_keys() {
    static REGION: LazyLock<Region> = LazyLock::new(Region::in_memory);
    static ASKED: Mutex<Vec<Vec<String>>> = Mutex::new(Vec::new());

    #[cached(multi, region = REGION, namespace = "n", tags = ["all"], skip(factor))]
    fn lengths(names: &[&str], factor: usize) -> Vec<Option<usize>> {
        ASKED.lock().unwrap().push(names.iter().map(ToString::to_string).collect());
        names.iter().map(|name| (!name.is_empty()).then_some(name.len() * factor)).collect()
    }
    assert_eq!(lengths(&["bb"], 1), [Some(2)]);
    assert_eq!(lengths(&["ccc", "bb", "", "a", "ccc"], 1), [Some(3), Some(2), None, Some(1), Some(3)]);
    assert_eq!(lengths(&["a", "", "bb"], 1), [Some(1), None, Some(2)]);
    let asked = ASKED.lock().unwrap().split_off(0);
    assert_eq!(asked, [vec!["bb"], vec!["ccc", "", "a"], vec![""]]);
    assert_eq!(lengths::get(&["a", "x", ""]).unwrap(), [Some(1), None, None]);
    assert_eq!(lengths::key(&["a"]).unwrap(), ["memoised_in_regions::lengths|\"n\"(\"a\")"]);
    lengths::set([(String::from("x"), Some(7))]).unwrap();
    assert_eq!(lengths(&["x"], 1), [Some(7)]);
    assert_eq!((lengths::refresh(&["x", ""], 2), lengths(&["x"], 1)), (vec![Some(2), None], vec![Some(2)]));
    lengths::invalidate(&["x", "unknown"]).unwrap();
    assert_eq!(lengths::get(&["x", "a"]).unwrap(), [None, Some(1)]);
    REGION.invalidate(Scope::Tag("all"), How::Hard).unwrap();
    assert_eq!(lengths::get(&["a"]).unwrap(), [None]);
}

#[test]
fn one_call_for_many_keys_in_tasks() {
    static REGION: LazyLock<AsyncRegion> = LazyLock::new(AsyncRegion::in_memory);
    static RUNS: Runs = Runs::new();

    #[cached(multi, region = REGION)]
    async fn squares(ids: &[u64]) -> Result<Vec<u64>, String> {
        one_pause().await;
        RUNS.another();
        if ids.contains(&0) {
            return Err(String::from("zero"));
        }
        Ok(ids.iter().map(|id| id * id).collect())
    }
    pollster::block_on(async {
        assert_eq!((squares(&[1, 2]).await, squares(&[2, 3, 1]).await), (Ok(vec![1, 4]), Ok(vec![4, 9, 1])));
        assert_eq!(
            (squares(&[0, 3]).await, squares(&[3]).await, RUNS.count()),
            (Err("zero".into()), Ok(vec![9]), 3)
        );
        squares::set([(4, 0)]).await.unwrap();
        assert_eq!(squares::get(&[4, 5]).await.unwrap(), [Some(0), None]);
        assert_eq!(squares::refresh(&[4]).await, Ok(vec![16]));
        squares::invalidate(&[4]).await.unwrap();
        assert_eq!(squares::get(&[3, 4]).await.unwrap(), [Some(9), None]);
    });
}
