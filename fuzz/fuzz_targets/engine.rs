//! The engine against the plain model: a configuration from the first bytes, operations from the others, everything
//! compared and every invariant validated after each of them.
#![no_main]

use dogpile as lib;
use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "the matrix and the dice are for tests")]
#[path = "../../tests/model/mod.rs"]
mod model;

use model::{Config, Inspect, Op};

/// What the fuzzer's bytes mean.
#[derive(arbitrary::Arbitrary, Debug)]
struct Input {
    config: [u8; 7],
    ops: Vec<(u8, u16, u8, u8)>,
}

/// `cargo fuzz` sets `cfg(fuzzing)`, and the cache then has a `validate`; plain builds only compile this.
struct Inside;

impl Inspect for Inside {
    #[cfg_attr(not(fuzzing), expect(unused_variables, reason = "there is nothing to look into"))]
    fn inspect<K, V, S>(cache: &lib::Cache<K, V, S>) {
        #[cfg(fuzzing)]
        cache.validate();
    }
}

/// More would only make a run slow: each step compares every key.
const MOST_OPS: usize = 400;

fuzz_target!(|input: Input| {
    let ops: Vec<Op> = input.ops.into_iter().take(MOST_OPS).map(Op::decode).collect();
    model::run::<Inside>(&Config::decode(input.config), &ops);
});
