//! Types that don't do, told at the type.
use dogpile::cached;

struct Plain;

#[cached]
fn no_hash(_x: f64) -> u32 {
    1
}

#[cached(skip(_x))]
fn no_clone(_x: Plain) -> u32 {
    1
}

#[cached(skip(_x))]
fn no_clone_of_a_reference(_x: &Plain) -> u32 {
    1
}

#[cached]
fn value(_n: u32) -> Plain {
    Plain
}

#[cached]
fn error(_n: u32) -> Result<u32, std::io::Error> {
    Ok(1)
}

type OwnResult = Option<u32>;

#[cached]
fn no_result(_n: u32) -> OwnResult {
    None
}

#[cached(multi)]
fn no_vec(ids: &[u32]) -> u32 {
    ids[0]
}

fn main() {}
