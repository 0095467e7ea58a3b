//! Which calls are the same.

use super::Runs;
use dogpile::cached;
use std::path::{Path, PathBuf};

/// dogpile and cachetory take some of these for the same.
#[test]
fn what_differs_in_text_or_type_has_a_key_of_its_own() {
    static RUNS: Runs = Runs::new();

    #[cached]
    fn words(_first: &str, _second: Option<&str>) -> usize {
        RUNS.another()
    }
    let calls =
        [("a b", None), ("a", Some("b")), ("a", None), ("a", Some("")), ("a:", Some("b")), ("a", Some(":b"))];
    let first = calls.map(|(first, second)| words(first, second));
    assert_eq!(first, [1, 2, 3, 4, 5, 6]);
    assert_eq!(calls.map(|(first, second)| words(first, second)), first);
}

#[test]
fn each_function_has_a_cache_of_its_own() {
    #[cached]
    fn number(n: u32) -> String {
        format!("{n}")
    }
    #[cached]
    fn text(n: &str) -> String {
        format!("{n:?}")
    }
    assert_eq!(
        (number(1), text("1"), number(1), text("1")),
        ("1".into(), "\"1\"".into(), "1".into(), "\"1\"".into())
    );
}

/// An argument that is borrowed is kept as what it borrows says.
#[test]
fn a_key_owns_its_arguments() {
    #[derive(Clone, PartialEq, Eq, Hash, Debug)]
    struct Point(i32, i32);

    #[cached]
    fn all(
        point: &Point,
        text: &str,
        list: &[u8],
        path: &Path,
        maybe: Option<&Point>,
        owned: String,
    ) -> String {
        format!("{point:?} {text} {list:?} {} {maybe:?} {owned}", path.display())
    }
    let point = Point(1, 2);
    let call = || all(&point, "text", &[1, 2], Path::new("/p"), Some(&point), String::from("own"));
    assert_eq!(call(), "Point(1, 2) text [1, 2] /p Some(Point(1, 2)) own");
    assert_eq!(call(), call());
    assert_eq!(all::cache().stats().creations, 1);
    let key: (Point, String, Vec<u8>, PathBuf, Option<Point>, String) =
        all::key(&point, "text", &[1, 2], Path::new("/p"), Some(&point), String::from("own"));
    assert!(all::cache().contains_key(&key));
}

/// One argument is the key itself, so that a cache of the user's has keys that he would choose.
#[test]
fn one_argument_is_the_key_and_none_is_the_unit() {
    #[cached]
    fn of_text(text: &str) -> usize {
        text.len()
    }
    #[cached]
    fn of_nothing() -> u8 {
        7
    }
    #[cached]
    fn of_maybe(text: Option<&str>) -> usize {
        text.map_or(0, str::len)
    }
    assert_eq!((of_text("four"), of_nothing(), of_maybe(Some("four")), of_maybe(None)), (4, 7, 4, 0));
    let key: String = of_text::key("four");
    assert!(of_text::cache().contains_key(&key) && of_nothing::cache().contains_key(&()));
    assert!(of_maybe::cache().contains_key(&Some(key)) && of_maybe::cache().contains_key(&None));
}

#[test]
fn a_skipped_argument_decides_nothing() {
    static RUNS: Runs = Runs::new();

    /// Neither `Hash` nor `Eq`.
    #[derive(Clone)]
    struct Connection(f64);

    #[cached(skip(connection))]
    fn row(connection: &Connection, id: u32) -> (u32, u32) {
        RUNS.another();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        (id, connection.0 as u32)
    }
    assert_eq!(
        (row(&Connection(1.0), 5), row(&Connection(2.0), 5), row(&Connection(2.0), 6)),
        ((5, 1), (5, 1), (6, 2))
    );
    assert_eq!(RUNS.count(), 2);
    // What decides nothing is not asked for.
    assert_eq!(row::get(5), Some((5, 1)));
    assert!(row::invalidate(5));
}

#[test]
fn a_key_can_be_a_text_or_an_expression() {
    static RUNS: Runs = Runs::new();

    #[cached(key = "user:{id}")]
    fn by_text(id: u32, _verbose: bool) -> usize {
        RUNS.another()
    }
    #[cached(key = id % 10)]
    fn by_expression(id: u32, _verbose: bool) -> usize {
        RUNS.another()
    }
    #[cached(key = name.to_lowercase())]
    fn by_call(name: &str) -> usize {
        RUNS.another()
    }
    assert_eq!((by_text(1, true), by_text(1, false), by_text(2, true)), (1, 1, 2));
    assert_eq!(by_text::key(1), "user:1");
    assert!(by_text::cache().contains_key("user:2"));
    assert_eq!((by_expression(11, true), by_expression(1, false), by_expression(2, true)), (3, 3, 4));
    assert_eq!(
        (by_expression::get(21), by_expression::invalidate(31), by_expression::get(1)),
        (Some(3), true, None)
    );
    by_expression::set(9, 41);
    assert_eq!((by_expression(1, true), RUNS.count()), (9, 4));
    assert_eq!((by_call("Ada"), by_call("ADA"), by_call::peek("ada")), (5, 5, Some(5)));
}

#[test]
fn names_of_the_users_are_not_taken_for_names_of_ours() {
    #[cached]
    fn hygiene(cache: u8, key: u8, force: u8, policy: u8, found: u8, __key: u8, r#type: u8) -> [u8; 7] {
        [cache, key, force, policy, found, __key, r#type]
    }
    assert_eq!(hygiene(1, 2, 3, 4, 5, 6, 7), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(hygiene(1, 2, 3, 4, 5, 6, 7), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(hygiene::cache().stats().creations, 1);
}

#[test]
fn a_function_may_have_a_raw_name_and_change_its_own_arguments() {
    #[cached]
    fn r#match(mut n: u32, mut text: String) -> String {
        n += 1;
        text.push('!');
        format!("{text}{n}")
    }
    assert_eq!(r#match(1, String::from("a")), "a!2");
    assert_eq!(r#match(1, String::from("a")), "a!2");
    assert_eq!(r#match::get(1, String::from("a")).as_deref(), Some("a!2"));
}

/// Arguments are cloned for who makes a value, and not for a hit.
#[test]
fn a_hit_clones_no_argument_that_is_skipped() {
    static CLONES: Runs = Runs::new();

    struct Counted;
    impl Clone for Counted {
        fn clone(&self) -> Self {
            CLONES.another();
            Self
        }
    }
    #[cached(skip(by_value, by_reference))]
    fn double(by_value: Counted, by_reference: &Counted, n: u32) -> u32 {
        let _ = (by_value, by_reference);
        n * 2
    }
    assert_eq!((double(Counted, &Counted, 1), CLONES.count()), (2, 2));
    assert_eq!((double(Counted, &Counted, 1), CLONES.count()), (2, 2));
}

#[test]
fn lifetimes_may_have_names() {
    #[cached]
    fn first<'a>(text: &'a str, _other: &'a str) -> Option<char> {
        text.chars().next()
    }
    assert_eq!((first("ab", ""), first("ab", ""), first::get("ab", "")), (Some('a'), Some('a'), Some('a')));
}

/// A recursive function asks its own cache.
#[test]
fn recursion_finds_what_it_has_made() {
    #[cached]
    fn fibonacci(n: u64) -> u64 {
        if n < 2 { n } else { fibonacci(n - 1) + fibonacci(n - 2) }
    }
    assert_eq!(fibonacci(90), 2_880_067_194_370_816_120);
    assert_eq!(fibonacci::cache().stats().creations, 91);
}
