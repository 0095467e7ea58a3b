//! Settings that contradict each other, or are out of their range.
use dogpile::cached;

#[cached(max_entries = 10, max_weight = 10, weigher = |_, _| 1)]
fn two_limits(n: u32) -> u32 {
    n
}

#[cached(max_weight = 10)]
fn no_weigher(n: u32) -> u32 {
    n
}

#[cached(weigher = |_, _| 1)]
fn no_weight(n: u32) -> u32 {
    n
}

#[cached(stale = "1h")]
fn never_stale(n: u32) -> u32 {
    n
}

#[cached(fresh = "1h", soft_timeout = "100ms")]
fn nothing_to_return(n: u32) -> u32 {
    n
}

#[cached(fresh = "1h", hold_back = "1s")]
fn nothing_to_hold_back(n: u32) -> Result<u32, u32> {
    Ok(n)
}

#[cached(fresh = "1h", jitter = 1.0)]
fn jitter(n: u32) -> u32 {
    n
}

#[cached(fresh = "1h", early = -0.5)]
fn early(n: u32) -> u32 {
    n
}

#[cached(error_ttl = "1s")]
fn no_errors(n: u32) -> u32 {
    n
}

#[cached(cache_errors)]
fn no_errors_to_cache(n: u32) -> u32 {
    n
}

#[cached(cache_none)]
fn no_none(n: u32) -> u32 {
    n
}

fn main() {}
