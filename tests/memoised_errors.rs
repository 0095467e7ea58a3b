//! What `#[cached]` refuses, at which token, and with which advice.
//!
//! `TRYBUILD=overwrite cargo test --all-features --test memoised_errors` writes the expected messages anew.

#[test]
fn each_mistake_is_told_where_it_was_made() {
    trybuild::TestCases::new().compile_fail("tests/memoised_errors/*.rs");
}
