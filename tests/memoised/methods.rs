//! Methods, and functions in an `impl`.

use super::Runs;
use dogpile::{Cache, cached};
use std::marker::PhantomData;
use std::sync::Arc;

#[test]
fn self_is_skipped_or_part_of_the_key() {
    static RUNS: Runs = Runs::new();

    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Service {
        name: &'static str,
    }
    impl Service {
        #[cached(self = skip)]
        fn shared(&self, n: u32) -> String {
            RUNS.another();
            format!("{} {n}", self.name)
        }

        #[cached(self = key)]
        fn own(&self, n: u32) -> String {
            RUNS.another();
            format!("{} {n}", self.name)
        }
    }
    let (a, b) = (Service { name: "a" }, Service { name: "b" });
    assert_eq!((a.shared(1), b.shared(1), RUNS.count()), ("a 1".into(), "a 1".into(), 1));
    assert_eq!((a.own(1), b.own(1), a.own(1), RUNS.count()), ("a 1".into(), "b 1".into(), "a 1".into(), 3));
    // Helpers stand beside the method; those that only look need of `self` what the key needs.
    assert_eq!(Service::shared_get(1).as_deref(), Some("a 1"));
    assert_eq!(b.own_get(1).as_deref(), Some("b 1"));
    assert!(Service::shared_invalidate(1) && b.own_invalidate(1));
    assert_eq!((b.shared(1), b.own_refresh(1)), ("b 1".into(), "b 1".into()));
    b.own_set(String::from("set"), 1);
    assert_eq!((b.own(1), b.own_original(1)), ("set".into(), "b 1".into()));
    assert_eq!(b.own_key(1).1, 1);
    assert_eq!(Service::own_cache().len(), 2);
}

#[test]
fn a_cache_in_self() {
    #[derive(Clone)]
    struct Service {
        cache: Cache<u32, String>,
        name: &'static str,
    }
    impl Service {
        #[cached(cache = self.cache, self = skip)]
        fn named(&self, n: u32) -> String {
            format!("{} {n}", self.name)
        }
    }
    let [a, b] = ["a", "b"].map(|name| Service { cache: Cache::new(10), name });
    assert_eq!((a.named(1), b.named(1), a.named(1)), ("a 1".into(), "b 1".into(), "a 1".into()));
    assert_eq!((a.cache.len(), b.cache.get_cloned(&1).as_deref()), (1, Some("b 1")));
    assert!(a.named_invalidate(1));
    assert_eq!((a.named_get(1), b.named_get(1).as_deref()), (None, Some("b 1")));
}

/// Whatever `self` is taken by.
#[test]
fn an_arc_need_not_be_cloned_inside() {
    struct Service(u32);
    impl Service {
        #[cached(self = skip)]
        fn by_value(self: Arc<Self>, n: u32) -> u32 {
            self.0 + n
        }
        #[cached(self = skip)]
        fn by_reference(self: &Arc<Self>, n: u32) -> u32 {
            self.0 + n
        }
    }
    let service = Arc::new(Service(1));
    assert_eq!((service.by_reference(1), Arc::clone(&service).by_value(2)), (2, 3));
}

#[test]
fn a_method_by_an_expression() {
    #[derive(Clone)]
    struct Tenant {
        id: u32,
    }
    impl Tenant {
        #[cached(key = (self.id, name.to_owned()))]
        fn setting(&self, name: &str) -> String {
            format!("{}.{name}", self.id)
        }
        #[cached(key = "{name}", skip(self))]
        fn of_all(&self, name: &str) -> String {
            format!("{}.{name}", self.id)
        }
    }
    let (one, two) = (Tenant { id: 1 }, Tenant { id: 2 });
    assert_eq!((one.setting("a"), two.setting("a")), ("1.a".into(), "2.a".into()));
    assert_eq!((one.of_all("a"), two.of_all("a")), ("1.a".into(), "1.a".into()));
    assert_eq!((two.setting_get("a").as_deref(), Tenant::of_all_key("x").as_str()), (Some("2.a"), "x"));
}

#[test]
fn a_function_without_self_in_an_impl() {
    static RUNS: Runs = Runs::new();

    #[derive(Clone, PartialEq, Debug)]
    struct User(u32);
    impl User {
        /// Known by the `Self`.
        #[cached]
        fn load(id: u32) -> Result<Self, String> {
            RUNS.another();
            Ok(Self(id))
        }
        /// Known by the word.
        #[cached(associated)]
        fn count(id: u32) -> u32 {
            RUNS.another();
            id
        }
    }
    assert_eq!(
        (User::load(1), User::load(1), User::count(1), User::count(1)),
        (Ok(User(1)), Ok(User(1)), 1, 1)
    );
    assert_eq!((RUNS.count(), User::load_get(1), User::count_get(2)), (2, Some(User(1)), None));
}

/// The same arguments and values, and yet other functions.
#[test]
fn each_instance_of_a_generic_impl_has_a_cache_of_its_own() {
    trait Named {
        const NAME: &'static str;
    }
    #[derive(Clone)]
    struct A;
    #[derive(Clone)]
    struct B;
    impl Named for A {
        const NAME: &'static str = "a";
    }
    impl Named for B {
        const NAME: &'static str = "b";
    }
    #[derive(Clone)]
    struct Of<T>(PhantomData<T>);
    impl<T: Named + Clone + Send + 'static> Of<T> {
        #[cached(self = skip)]
        fn name(&self, n: u32) -> String {
            format!("{}{n}", T::NAME)
        }
    }
    for _ in 0..2 {
        assert_eq!((Of::<A>(PhantomData).name(1), Of::<B>(PhantomData).name(1)), ("a1".into(), "b1".into()));
    }
    assert_eq!((Of::<A>::name_cache().len(), Of::<B>::name_cache().stats().creations), (1, 1));
}
