//! Regions: named caches over a choice of stores.
#![forbid(unsafe_code)]

mod keys;

pub use keys::{
    Arg, CachetoryKeys, Call, DefaultKeys, DogpileKeys, KeyGenerator, Mangler, cachetory_hashed_key,
    cachetory_key, dogpile_key, dogpile_kwarg_key, dogpile_multi_keys, key_of, length_conditional_mangler,
    sha1_mangle_key,
};
