//! A crate that calls its own things by the names of the standard library's.
#![allow(non_camel_case_types, dead_code)]

use super::Runs;
use dogpile::cached;

struct Option;
struct Some;
struct None;
struct Ok;
struct Err;
struct Vec;
struct String;
struct Clone;
struct Send;
struct Sync;
mod std {}
mod core {}

/// The crate by another name.
mod renamed {
    use ::dogpile as other;
    mod dogpile {}

    #[other::cached(crate = other, cache_errors, wait = "1m")]
    pub(super) fn negative(n: i32) -> ::std::result::Result<i32, i32> {
        ::std::result::Result::Err(-n)
    }
}

#[test]
fn the_crate_may_have_another_name() {
    let negative = ::std::result::Result::Err(-1);
    assert_eq!(
        (renamed::negative(1), renamed::negative::get(1)),
        (negative, ::std::option::Option::Some(negative))
    );
}

static RUNS: Runs = Runs::new();

#[cached(fresh = "1m", wait = "1m")]
fn length(text: &str, list: &[u8]) -> ::std::result::Result<usize, ()> {
    RUNS.another();
    ::std::result::Result::Ok(text.len() + list.len())
}

#[cached(key = "{text}", cache_none)]
fn maybe(text: &str) -> ::std::option::Option<usize> {
    ::std::option::Option::Some(text.len())
}

#[test]
fn nothing_of_it_is_taken_for_the_standard_librarys() {
    assert_eq!(
        (length("four", &[1]), length("four", &[1]), RUNS.count()),
        (::std::result::Result::Ok(5), ::std::result::Result::Ok(5), 1)
    );
    assert_eq!(maybe("four"), ::std::option::Option::Some(4));
    assert!(length::invalidate("four", &[1]));
}
