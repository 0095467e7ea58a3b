//! A cache does what the plain model says, in every cell of the configuration matrix, after every step.

use dogpile as lib;

mod model;

use model::{Config, Inspect, Op};
use proptest::prelude::*;

/// `Engine::validate` is out of reach here; `src/cache/tests.rs` runs the same with it.
struct Outside;

impl Inspect for Outside {
    fn inspect<K, V, S>(_: &lib::Cache<K, V, S>) {}
}

#[test]
fn every_cell_of_the_matrix_follows_the_model() {
    for (cell, config) in Config::matrix().enumerate() {
        model::run::<Outside>(&config, &model::ops(cell as u64, 40));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_operations_follow_the_model(
        config in any::<[u8; 7]>().prop_map(Config::decode),
        ops in prop::collection::vec(any::<(u8, u16, u8, u8)>().prop_map(Op::decode), 1..100),
    ) {
        model::run::<Outside>(&config, &ops);
    }
}
