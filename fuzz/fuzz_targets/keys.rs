//! Keys: whatever a call is, its key reads back as that call, so no two have one.
#![no_main]

use dogpile::region::key_of;
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/model/keys.rs"]
mod model;

use model::{Called, Value};

fuzz_target!(|bytes: &[u8]| {
    let called = Called::decode(bytes);
    let key = key_of(&called.function, called.namespace.as_deref(), &Value::Tuple(called.args.clone()))
        .expect("it is nested a few times only");
    assert_eq!(Called::parse(&key), called.sorted(), "{key}");
});
