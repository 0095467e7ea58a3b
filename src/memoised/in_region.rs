//! What functions with `region = …` need beside the public API.
#![forbid(unsafe_code)]

use crate::codec::Storable;
use crate::error::Error;
use crate::region::{Arg, Call, KeyGenerator};
use crate::sync::Arc;
use serde::Serialize;
use std::any::{Any, type_name};
use std::collections::HashMap;

/// What can be in a key of a region.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be in a key of a region",
    label = "needs serde's Serialize",
    note = "derive it; leave the argument out of the key: `skip(…)`; or say what the key is: `key = …`"
)]
pub trait RegionKeyPart {}
#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> RegionKeyPart for T {}

/// Compiles for what can be in a key of a region.
pub fn region_key_part<T: RegionKeyPart + ?Sized>() {}

/// Compiles for what a region can store.
pub fn storable<T: Storable>() {}

/// Whether a value that a region's policy is asked about is no `None` of that type.
pub fn is_some<T: 'static>(value: &(dyn Any + Send + Sync)) -> bool {
    value.downcast_ref::<Option<T>>().is_none_or(Option::is_some)
}

/// The type of an `Option`'s value.
pub trait Maybe {
    /// It.
    type Value;
}
impl<T> Maybe for Option<T> {
    type Value = T;
}

/// The name of a method: its type's, without the module that both are in, and its own.
#[must_use]
pub fn method<T: ?Sized>(module: &str, name: &str) -> String {
    let this = type_name::<T>();
    let this = this.strip_prefix(module).and_then(|rest| rest.strip_prefix("::")).unwrap_or(this);
    format!("{this}::{name}")
}

fn call<'a>(module: &'a str, function: &'a str, namespace: Option<&'a str>, args: &'a [Arg<'a>]) -> Call<'a> {
    let call = Call::new(module, function, args);
    match namespace {
        Some(namespace) => call.namespace(namespace),
        None => call,
    }
}

/// The key of a call.
///
/// # Errors
/// As the generator's.
pub fn region_key(
    keys: &dyn KeyGenerator,
    (module, function): (&str, &str),
    namespace: Option<&str>,
    args: &[Arg<'_>],
) -> Result<String, Error> {
    keys.key(&call(module, function, namespace, args))
}

/// The keys of a call of a function of many keys.
///
/// # Errors
/// As the generator's.
pub fn region_keys<T: Serialize>(
    keys: &dyn KeyGenerator,
    (module, function): (&str, &str),
    namespace: Option<&str>,
    name: &str,
    args: &[T],
) -> Result<Vec<String>, Error> {
    let args: Vec<Arg<'_>> = args.iter().map(|arg| Arg::new(name, arg)).collect();
    keys.keys(&call(module, function, namespace, &args))
}

/// Keys, borrowed, and where each stands.
#[must_use]
pub fn positions(keys: &[String]) -> (Vec<&str>, HashMap<&str, usize>) {
    let borrowed: Vec<&str> = keys.iter().map(String::as_str).collect();
    let places = borrowed.iter().enumerate().map(|(i, key)| (*key, i)).collect();
    (borrowed, places)
}

/// A copy of a region's value, for a caller.
pub fn copied<T: super::Value>(found: Option<Arc<T>>) -> Option<T> {
    found.map(|value| value.share())
}
