//! Options that there are not, that are not so written, or that go not together.
use dogpile::{Cache, Region, cached};
use std::sync::LazyLock;

static CACHE: LazyLock<Cache<u32, u32>> = LazyLock::new(|| Cache::new(10));
static REGION: Region = Region::new("region");

#[cached(forever)]
fn unknown(n: u32) -> u32 {
    n
}

#[cached(ttl = "10m")]
fn of_another_crate(n: u32) -> u32 {
    n
}

#[cached(cache = CACHE)]
fn undecided<T: Default>(n: u32) -> u32 {
    let _ = T::default();
    n
}

#[cached(fresh = "10 minuets")]
fn misspelt(n: u32) -> u32 {
    n
}

#[cached(fresh = 60)]
fn unitless(n: u32) -> u32 {
    n
}

#[cached(fresh)]
fn valueless(n: u32) -> u32 {
    n
}

#[cached(multi = true)]
fn valued(n: &[u32]) -> Vec<u32> {
    n.to_vec()
}

#[cached(fresh = "1m", fresh = "2m")]
fn twice(n: u32) -> u32 {
    n
}

#[cached(skip(m))]
fn no_such_argument(n: u32) -> u32 {
    n
}

#[cached(skip)]
fn skips_nothing(n: u32) -> u32 {
    n
}

#[cached(cache = CACHE, region = REGION)]
fn in_two_places(n: u32) -> u32 {
    n
}

#[cached(cache = CACHE, max_entries = 10)]
fn not_its_own(n: u32) -> u32 {
    n
}

#[cached(cache = CACHE, tags = ["a"])]
fn tagged(n: u32) -> u32 {
    n
}

#[cached(namespace = "a")]
fn named(n: u32) -> u32 {
    n
}

#[cached(region = REGION, tags = "a")]
fn one_tag(n: u32) -> u32 {
    n
}

#[cached(region = REGION, key = "{n}", namespace = "a")]
fn named_and_keyed(n: u32) -> u32 {
    n
}

#[cached(policy = Default::default(), wait = "1m")]
fn two_policies(n: u32) -> u32 {
    n
}

fn main() {}
