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
