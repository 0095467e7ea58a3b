//! Functions that can't be memoised.
use dogpile::cached;
use std::fmt::Display;

#[cached]
const fn constant(n: u32) -> u32 {
    n
}

#[cached]
unsafe fn not_safe(n: u32) -> u32 {
    n
}

#[cached]
extern "C" fn foreign(n: u32) -> u32 {
    n
}

#[cached]
fn generic<T: Display>(value: T) -> String {
    value.to_string()
}

#[cached]
fn sized<const N: usize>(list: [u8; N]) -> usize {
    list.len()
}

#[cached]
fn implied(value: impl Display) -> String {
    value.to_string()
}

#[cached]
fn taken_apart((a, b): (u32, u32)) -> u32 {
    a + b
}

#[cached]
fn unnamed(_: u32) -> u32 {
    1
}

#[cached]
fn changes(list: &mut Vec<u32>) -> usize {
    list.pop();
    list.len()
}

#[cached]
fn borrows_inside(list: Vec<&str>) -> usize {
    list.len()
}

#[cached]
fn borrows_in_a_type(text: std::borrow::Cow<'_, str>) -> usize {
    text.len()
}

#[cached]
fn object(value: &dyn Display) -> String {
    value.to_string()
}

#[cached]
fn returns_a_borrow(text: &str) -> &str {
    text
}

#[cached]
fn returns_an_impl(n: u32) -> impl Display {
    n
}

#[cached]
fn returns_never(n: u32) -> ! {
    panic!("{n}")
}

#[cached]
struct NoFunction;

fn main() {}
