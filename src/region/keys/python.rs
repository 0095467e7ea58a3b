//! Keys as dogpile.cache and cachetory make them, and values as Python's `str` writes them.
#![forbid(unsafe_code)]

use super::mangler::hex;
use super::text::Refusal;
use super::{Call, KeyGenerator};
use crate::error::Error;
use blake2::{Blake2s256, Digest};
use serde::Serialize;
use serde::ser::{Impossible, Serializer};
use std::fmt::{self, Write as _};

/// The generator of dogpile.cache's keys: its `function_key_generator`, its `function_multi_key_generator`, or its
/// `kwarg_function_key_generator`.
///
/// For sharing keys with Python. They are not unambiguous: `f("a b")` and `f("a", "b")` have one key, so have `f(1)` and
/// `f("1")`.
#[derive(Clone, Copy, Debug, Default)]
pub struct DogpileKeys {
    by_name: bool,
}

impl DogpileKeys {
    /// Arguments in their order.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Arguments in the order of their names.
    #[must_use]
    pub fn by_name() -> Self {
        Self { by_name: true }
    }
}

impl KeyGenerator for DogpileKeys {
    fn key(&self, call: &Call<'_>) -> Result<String, Error> {
        let texts = call.python_strs()?;
        Ok(if self.by_name {
            let args: Vec<(&str, &dyn fmt::Display)> = call
                .args
                .iter()
                .zip(&texts)
                .map(|(arg, text)| (arg.name, text as &dyn fmt::Display))
                .collect();
            dogpile_kwarg_key(call.module, call.function, call.namespace, &args)
        } else {
            dogpile_key(call.module, call.function, call.namespace, &displays(&texts))
        })
    }
}

/// The generator of cachetory's keys: its `make_default_key`, with all arguments given by position.
///
/// For sharing keys with Python. They are not unambiguous: `f("a:", "b")` and `f("a", ":b")` have one key.
#[derive(Clone, Copy, Debug, Default)]
pub struct CachetoryKeys;

impl KeyGenerator for CachetoryKeys {
    /// cachetory has no namespaces: one becomes the first argument.
    fn key(&self, call: &Call<'_>) -> Result<String, Error> {
        let mut texts = call.python_strs()?;
        if let Some(namespace) = call.namespace {
            texts.insert(0, namespace.to_owned());
        }
        Ok(cachetory_key(call.module, call.function, &displays(&texts), &[]))
    }
}

fn displays(texts: &[String]) -> Vec<&dyn fmt::Display> {
    texts.iter().map(|text| text as &dyn fmt::Display).collect()
}

/// dogpile.cache's key of a call: its `function_key_generator`. `args` are without `self` and `cls`.
///
/// They are written as `Display` has them, which for some differs from Python's `str` (`true`, `1`, for `True`, `1.0`):
/// [`Arg::python_str`](super::Arg::python_str) helps.
///
/// ```
/// use dogpile::region::dogpile_key;
/// assert_eq!(dogpile_key("shop.users", "find", None, &[&7, &"eu"]), "shop.users:find|7 eu");
/// assert_eq!(dogpile_key("shop.users", "find", Some("v2"), &[]), "shop.users:find|v2|");
/// ```
#[must_use]
pub fn dogpile_key(
    module: &str,
    function: &str,
    namespace: Option<&str>,
    args: &[&dyn fmt::Display],
) -> String {
    let mut key = dogpile_start(module, function, namespace);
    join(&mut key, args, " ");
    key
}

/// dogpile.cache's key of a call by names: its `kwarg_function_key_generator`. `args` are all parameters with their values,
/// defaults included, in any order.
///
/// ```
/// use dogpile::region::dogpile_kwarg_key;
/// assert_eq!(dogpile_kwarg_key("shop.users", "find", None, &[("id", &7), ("at", &"eu")]), "shop.users:find|eu 7");
/// ```
#[must_use]
pub fn dogpile_kwarg_key(
    module: &str,
    function: &str,
    namespace: Option<&str>,
    args: &[(&str, &dyn fmt::Display)],
) -> String {
    let mut sorted = args.to_vec();
    sorted.sort_by_key(|(name, _)| *name);
    let values: Vec<&dyn fmt::Display> = sorted.into_iter().map(|(_, value)| value).collect();
    dogpile_key(module, function, namespace, &values)
}

/// dogpile.cache's keys of a call of a function of many keys: its `function_multi_key_generator`.
///
/// ```
/// use dogpile::region::dogpile_multi_keys;
/// assert_eq!(dogpile_multi_keys("shop.users", "load", None, &[&7, &8]), ["shop.users:load|7", "shop.users:load|8"]);
/// ```
#[must_use]
pub fn dogpile_multi_keys(
    module: &str,
    function: &str,
    namespace: Option<&str>,
    args: &[&dyn fmt::Display],
) -> Vec<String> {
    args.iter().map(|arg| dogpile_key(module, function, namespace, &[*arg])).collect()
}

fn dogpile_start(module: &str, function: &str, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("{module}:{function}|{namespace}|"),
        None => format!("{module}:{function}|"),
    }
}

fn join(key: &mut String, args: &[&dyn fmt::Display], separator: &str) {
    for (at, arg) in args.iter().enumerate() {
        if at > 0 {
            key.push_str(separator);
        }
        key.push_str(&arg.to_string());
    }
}

/// cachetory's key of a call: its `make_default_key`. `function` is Python's `__qualname__`; `keywords` are the arguments
/// that are given by name, in any order.
///
/// ```
/// use dogpile::region::cachetory_key;
/// assert_eq!(cachetory_key("shop.users", "find", &[&7, &"a:b"], &[("at", &"eu")]), "shop.users:find:7:a::b:at=eu");
/// ```
#[must_use]
pub fn cachetory_key(
    module: &str,
    function: &str,
    args: &[&dyn fmt::Display],
    keywords: &[(&str, &dyn fmt::Display)],
) -> String {
    let doubled = |text: &dyn fmt::Display| text.to_string().replace(':', "::");
    let mut key = format!("{module}:{function}");
    for arg in args {
        key.push(':');
        key.push_str(&doubled(arg));
    }
    let mut sorted = keywords.to_vec();
    sorted.sort_by_key(|(name, _)| *name);
    for (name, value) in sorted {
        key.push(':');
        key.push_str(&doubled(&name));
        key.push('=');
        key.push_str(&doubled(value));
    }
    key
}

/// cachetory's hashed key of a call, its `make_default_hashed_key`: BLAKE2s of what [`cachetory_key`] gives, as 64
/// hexadecimal digits.
///
/// ```
/// use dogpile::region::cachetory_hashed_key;
/// let key = cachetory_hashed_key("shop.users", "find", &[&7], &[]);
/// assert_eq!(key, "0c0f5cd2ef04bce954a99db2033a0ddf2be93bf4faff12d99f3d00bb98a99623");
/// ```
#[must_use]
pub fn cachetory_hashed_key(
    module: &str,
    function: &str,
    args: &[&dyn fmt::Display],
    keywords: &[(&str, &dyn fmt::Display)],
) -> String {
    let mut out = String::with_capacity(64);
    hex(&mut out, &Blake2s256::digest(cachetory_key(module, function, args, keywords).as_bytes()));
    out
}

/// Writes what Python's `str` gives for the like of a value.
pub(super) struct PythonStr<'a>(pub(super) &'a mut String);

impl PythonStr<'_> {
    fn display(self, value: impl fmt::Display) -> Result<(), Refusal> {
        write!(self.0, "{value}").map_err(|_| Refusal(String::from("not to be written")))
    }

    fn refuse<T>(self) -> Result<T, Refusal> {
        Err(Refusal(String::from("only texts, numbers, truths and nothing have one form in Python and here")))
    }
}

/// A float as Python writes it: the shortest digits that read back, with an exponent below 1e-4 and from 1e16 on.
fn python_float(out: &mut String, value: f64) {
    if !value.is_finite() {
        out.push_str(if value.is_nan() {
            "nan"
        } else if value > 0.0 {
            "inf"
        } else {
            "-inf"
        });
        return;
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value == 0.0 || (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        out.push_str(&plain);
        if !plain.contains('.') {
            out.push_str(".0");
        }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs());
    }
}

impl Serializer for PythonStr<'_> {
    type Ok = ();
    type Error = Refusal;
    type SerializeSeq = Impossible<(), Refusal>;
    type SerializeTuple = Impossible<(), Refusal>;
    type SerializeTupleStruct = Impossible<(), Refusal>;
    type SerializeTupleVariant = Impossible<(), Refusal>;
    type SerializeMap = Impossible<(), Refusal>;
    type SerializeStruct = Impossible<(), Refusal>;
    type SerializeStructVariant = Impossible<(), Refusal>;

    fn serialize_bool(self, value: bool) -> Result<(), Refusal> {
        self.display(if value { "True" } else { "False" })
    }
    fn serialize_i8(self, value: i8) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_i16(self, value: i16) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_i32(self, value: i32) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_i64(self, value: i64) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_i128(self, value: i128) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_u8(self, value: u8) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_u16(self, value: u16) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_u32(self, value: u32) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_u64(self, value: u64) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_u128(self, value: u128) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_f32(self, value: f32) -> Result<(), Refusal> {
        self.serialize_f64(f64::from(value))
    }
    fn serialize_f64(self, value: f64) -> Result<(), Refusal> {
        python_float(self.0, value);
        Ok(())
    }
    fn serialize_char(self, value: char) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_str(self, value: &str) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<(), Refusal> {
        self.refuse()
    }
    fn serialize_none(self) -> Result<(), Refusal> {
        self.display("None")
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refusal> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Refusal> {
        self.refuse()
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Refusal> {
        self.refuse()
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Refusal> {
        self.refuse()
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refusal> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Refusal> {
        self.refuse()
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Refusal> {
        self.refuse()
    }
    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Refusal> {
        self.refuse()
    }
    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Refusal> {
        self.refuse()
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Refusal> {
        self.refuse()
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Refusal> {
        self.refuse()
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, Refusal> {
        self.refuse()
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Refusal> {
        self.refuse()
    }
}
