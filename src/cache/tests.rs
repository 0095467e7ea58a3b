//! The plain model again, with every invariant of the engine validated after each step.

use crate as lib;
use crate::Cache;
use proptest::prelude::*;

#[path = "../../tests/model/mod.rs"]
mod model;

use model::{Config, Inspect, Op};

struct Inside;

impl Inspect for Inside {
    fn inspect<K, V, S>(cache: &Cache<K, V, S>) {
        cache.engine().validate();
    }
}

#[test]
fn invariants_hold_in_the_cells_of_the_matrix() {
    // Every fourth cell: `tests/follows_model.rs` has them all. The strides meet all values of all dimensions.
    for (cell, config) in Config::matrix().enumerate().skip(1).step_by(4) {
        model::run::<Inside>(&config, &model::ops(!(cell as u64), 60));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn invariants_hold_after_any_operations(
        config in any::<[u8; 7]>().prop_map(Config::decode),
        ops in prop::collection::vec(any::<(u8, u16, u8, u8)>().prop_map(Op::decode), 1..100),
    ) {
        model::run::<Inside>(&config, &ops);
    }
}

/// H10: a foreign hasher is mixed, ahash is not.
#[test]
fn h10_foreign_hashes_are_mixed() {
    use model::hashing::{BadHash, Hashing};
    use std::hash::BuildHasher;
    let identity =
        Cache::<u16, u16>::builder().hasher(BadHash(Hashing::Weak)).build().expect("no contradiction");
    let own = Cache::<u16, u16>::builder()
        .hasher(crate::RandomState::with_seed(5))
        .build()
        .expect("no contradiction");
    for key in 0..100_u16 {
        assert_eq!(identity.hash(&key), crate::hash::mix(u64::from(key)));
        assert_eq!(own.hash(&key), crate::RandomState::with_seed(5).hash_one(key));
    }
}

/// The model makes colliding keys by a copy of the mixing step.
#[test]
fn the_model_mixes_as_the_crate_does() {
    for hash in [0, 1, 7, 0x0123_4567_89ab_cdef, u64::MAX] {
        assert_eq!(model::hashing::mix(hash), crate::hash::mix(hash));
    }
}
