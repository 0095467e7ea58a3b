//! What a type looks like to serde, as one number: the fingerprint that keeps one type's entries from being read as another's.
//!
//! No derive is needed. A type's own `Deserialize` says all: which struct with which fields it asks for, which variants, which
//! kinds of numbers. So it is run, once for each type, on a deserializer that has no bytes: it writes down what is asked for
//! and answers with something small. One run shows one variant of an enum, and ends at the first part that does not like its
//! answer (a date is not `1`). So there are several: each begins with what was begun least, and answers otherwise
//! where the last answer was not liked.
//!
//! # Invariants
//! - **The same type, the same number**, on every machine and in every process built from the same sources: nothing random
//!   and no address goes into it.
//! - **It ends.** Depth, questions and runs are limited. Types that refer to themselves are answered with nothing where they
//!   come round again.
//! - **It never fails.** What could not be seen is left out: untagged enums, types that serde must look at the bytes for. Their
//!   name and size are in the number all the same.
//!
//! # Cost
//! For a type's first use in the process up to 256 runs and 20,000 questions, a handful for most types; then a look into a
//! small map, without a lock.
//! # Source
//! The idea of answering a type's questions is serde-reflection's; there to find formats, here only to hash them.
#![forbid(unsafe_code)]

use crate::sync::{Arc, LazyLock};
use arc_swap::ArcSwap;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use std::any::{TypeId, type_name};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// FNV-1a, of 64 bits: the same for ever, on every machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fnv(u64);

impl Fnv {
    pub(super) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    /// A text and its end.
    pub(super) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes()).bytes(&[0xff])
    }

    pub(super) fn number(self, number: u64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    pub(super) fn finish(self) -> u64 {
        self.0
    }
}

/// The fingerprint of a type that serde doesn't know.
pub(super) fn named(name: &str, size: usize) -> u64 {
    Fnv::new().text(name).number(size as u64).finish()
}

/// The fingerprint of a type.
pub(super) fn of<T: DeserializeOwned + 'static>() -> u64 {
    static KNOWN: LazyLock<ArcSwap<BTreeMap<TypeId, u64>>> = LazyLock::new(ArcSwap::default);
    let id = TypeId::of::<T>();
    if let Some(known) = KNOWN.load().get(&id) {
        return *known;
    }
    let found = Fnv::new().number(named(type_name::<T>(), size_of::<T>())).number(traced::<T>()).finish();
    KNOWN.rcu(|known| {
        let mut known = BTreeMap::clone(known);
        known.insert(id, found);
        Arc::new(known)
    });
    found
}

/// The shape alone, without the type's name and size.
fn traced<T: DeserializeOwned>() -> u64 {
    let mut trace =
        Trace { hash: Fnv::new(), asked: 0, depth: 0, known: BTreeMap::new(), active: BTreeSet::new() };
    for _ in 0..MOST_RUNS {
        trace.depth = 0;
        trace.active.clear();
        // A type whose own code panics at an answer has shown what it could.
        match catch_unwind(AssertUnwindSafe(|| T::deserialize(Answers { trace: &mut trace, key: None }))) {
            Ok(Err(Broken::Lacks(field))) => trace.note('-', field),
            Ok(Err(Broken::Knows(names))) => trace.names(names),
            Ok(_) | Err(_) => trace.note('.', ""),
        }
        if !trace.open() || trace.asked >= MOST_ASKED {
            break;
        }
    }
    trace.hash.finish()
}

const MOST_RUNS: usize = 256;
/// Questions in all runs together.
const MOST_ASKED: usize = 20_000;
const MOST_DEPTH: usize = 32;
/// So often something that could be left out is tried.
const TRIES: usize = 2;

/// What a text may have to look like.
const TEXTS: &[&str] = &[
    "1",
    "",
    "a",
    "2000-01-01",
    "2000-01-01T00:00:00Z",
    "00:00:00",
    "http://a/",
    "127.0.0.1",
    "::1",
    "00000000-0000-0000-0000-000000000001",
];

/// How long a byte string may have to be.
const LENGTHS: &[usize] = &[0, 16, 4, 8, 12, 20, 32];

/// What a part is to become: the name of its type, and of the variant where several have one type.
type Part = (&'static str, &'static str);

fn part<T>() -> Part {
    (type_name::<T>(), "")
}

/// What is known of a part.
#[derive(Default)]
struct Known {
    /// How often each field or variant was begun.
    begun: Vec<u32>,
    /// Variants that came to an end, the first first.
    ended: Vec<usize>,
    /// How many answers it did not like, and how many there are.
    disliked: usize,
    answers: usize,
    /// Keys that it said it lacks.
    lacked: Vec<&'static str>,
    /// Texts that it said it knows.
    texts: &'static [&'static str],
    /// It said such a thing, and was not asked since.
    again: bool,
}

impl Known {
    /// The keys that its map is to have: those that it lacked, or if it did not lack any, `one` of any kind.
    fn keys(&mut self, one: bool) -> Vec<Key> {
        self.again = false;
        if self.lacked.is_empty() {
            return if one { vec![Key { text: None, field: None }] } else { Vec::new() };
        }
        self.lacked.iter().rev().map(|key| Key { text: Some(key), field: None }).collect()
    }

    /// The field or variant that was begun least.
    fn least(&self) -> Option<usize> {
        (0..self.begun.len()).min_by_key(|part| self.begun[*part])
    }
}

struct Trace {
    hash: Fnv,
    asked: usize,
    depth: usize,
    known: BTreeMap<Part, Known>,
    /// What of that the run is inside of.
    active: BTreeSet<Part>,
}

impl Trace {
    fn note(&mut self, kind: char, name: &str) {
        self.hash = self.hash.text(kind.encode_utf8(&mut [0; 4])).text(name);
    }

    fn names(&mut self, names: &[&str]) {
        self.hash = names.iter().fold(self.hash.number(names.len() as u64), |hash, name| hash.text(name));
    }

    /// Whether another run may show more.
    fn open(&self) -> bool {
        self.known.values().any(|known| {
            known.again || known.begun.contains(&0) || (known.disliked > 0 && known.disliked < known.answers)
        })
    }

    fn known(&mut self, of: Part) -> &mut Known {
        self.known.entry(of).or_default()
    }

    /// Whether what could be left out is to be answered: not where it comes round again, nor where it was tried in vain.
    fn enter(&mut self, of: Part) -> bool {
        let known = self.known(of);
        known.answers = TRIES;
        known.disliked < TRIES && self.active.insert(of)
    }

    fn leave<T>(&mut self, of: Part, entered: bool, result: Result<T, Broken>) -> Result<T, Broken> {
        if entered {
            self.active.remove(&of);
        }
        let known = self.known.entry(of).or_default();
        match &result {
            Ok(_) => {}
            Err(Broken::Lacks(field)) if !known.lacked.contains(field) => {
                known.lacked.push(field);
                known.again = true;
            }
            Err(_) => known.disliked += 1,
        }
        result
    }

    fn inside<T>(&mut self, visit: impl FnOnce(&mut Self) -> Result<T, Broken>) -> Result<T, Broken> {
        self.depth += 1;
        let result = visit(self);
        self.depth -= 1;
        result
    }
}

/// A part was not answered to its liking.
#[derive(Debug)]
enum Broken {
    Other,
    Lacks(&'static str),
    Knows(&'static [&'static str]),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the shape can't be seen further")
    }
}

impl std::error::Error for Broken {}

impl de::Error for Broken {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Other
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Lacks(field)
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::Knows(expected)
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::Knows(expected)
    }
}

/// The deserializer that has no bytes.
struct Answers<'t> {
    trace: &'t mut Trace,
    /// It stands for a key: this one.
    key: Option<&'static str>,
}

impl<'t> Answers<'t> {
    fn ask(&mut self, kind: char, name: &str) -> Result<(), Broken> {
        let trace = &mut self.trace;
        trace.asked += 1;
        trace.note(kind, name);
        if trace.asked < MOST_ASKED && trace.depth < MOST_DEPTH { Ok(()) } else { Err(Broken::Other) }
    }

    fn text<'de, V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Broken> {
        self.ask('s', "")?;
        if let Some(key) = self.key {
            return visitor.visit_borrowed_str(key);
        }
        let of = part::<V::Value>();
        let known = self.trace.known(of);
        let texts = if known.texts.is_empty() { TEXTS } else { known.texts };
        known.answers = texts.len();
        known.again = false;
        let result = visitor.visit_borrowed_str(texts[known.disliked.min(texts.len() - 1)]);
        if let Err(broken) = &result {
            match broken {
                Broken::Knows(names) if known.texts.is_empty() && !names.is_empty() => {
                    (known.texts, known.disliked, known.again) = (names, 0, true);
                    self.trace.names(names);
                }
                _ => known.disliked += 1,
            }
        }
        result
    }

    fn bytes<'de, V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Broken> {
        self.ask('b', "")?;
        let known = self.trace.known(part::<V::Value>());
        known.answers = LENGTHS.len();
        let length = LENGTHS[known.disliked.min(LENGTHS.len() - 1)];
        let result = visitor.visit_borrowed_bytes(&[0; 32][..length]);
        if result.is_err() {
            known.disliked += 1;
        }
        result
    }

    fn map<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        let of = part::<V::Value>();
        let entered = self.trace.enter(of);
        let known = self.trace.known(of);
        let keys = known.keys(entered);
        let result = self.trace.inside(|trace| visitor.visit_map(Map { trace, of, keys, at: None }));
        self.trace.leave(of, entered, result)
    }

    fn list<'de, V: Visitor<'de>>(self, left: usize, visitor: V) -> Result<V::Value, Broken> {
        self.trace.inside(|trace| visitor.visit_seq(List { trace, left }))
    }
}

macro_rules! answer {
    ($($method:ident $visit:ident $kind:literal $answer:expr;)+) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Broken> {
            self.ask($kind, stringify!($method))?;
            visitor.$visit($answer)
        }
    )+};
}

impl<'de> Deserializer<'de> for Answers<'_> {
    type Error = Broken;

    // Not 0, which some types can't be.
    answer! {
        deserialize_bool visit_bool 'p' false;
        deserialize_i8 visit_i8 'p' 1;
        deserialize_i16 visit_i16 'p' 1;
        deserialize_i32 visit_i32 'p' 1;
        deserialize_i64 visit_i64 'p' 1;
        deserialize_i128 visit_i128 'p' 1;
        deserialize_u8 visit_u8 'p' 1;
        deserialize_u16 visit_u16 'p' 1;
        deserialize_u32 visit_u32 'p' 1;
        deserialize_u64 visit_u64 'p' 1;
        deserialize_u128 visit_u128 'p' 1;
        deserialize_f32 visit_f32 'p' 1.0;
        deserialize_f64 visit_f64 'p' 1.0;
        deserialize_char visit_char 'p' 'a';
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        self.text(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        self.text(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        self.text(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        self.bytes(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        self.bytes(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Broken> {
        self.ask('u', "")?;
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Broken> {
        self.ask('U', name)?;
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Broken> {
        self.ask('N', name)?;
        self.trace.inside(|trace| visitor.visit_newtype_struct(Answers { trace, key: None }))
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Broken> {
        self.ask('O', "")?;
        let of = part::<V::Value>();
        if !self.trace.enter(of) {
            return visitor.visit_none();
        }
        let result = self.trace.inside(|trace| visitor.visit_some(Answers { trace, key: None }));
        self.trace.leave(of, true, result)
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Broken> {
        self.ask('L', "")?;
        let of = part::<V::Value>();
        let entered = self.trace.enter(of);
        let result = self.trace.inside(|trace| visitor.visit_seq(List { trace, left: usize::from(entered) }));
        self.trace.leave(of, entered, result)
    }

    fn deserialize_tuple<V: Visitor<'de>>(mut self, len: usize, visitor: V) -> Result<V::Value, Broken> {
        self.ask('T', "")?;
        self.trace.hash = self.trace.hash.number(len as u64);
        self.list(len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Broken> {
        self.ask('T', name)?;
        self.trace.hash = self.trace.hash.number(len as u64);
        self.list(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Broken> {
        self.ask('M', "")?;
        self.map(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Broken> {
        self.ask('S', name)?;
        self.trace.names(fields);
        structure(self.trace, part::<V::Value>(), fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Broken> {
        self.ask('E', name)?;
        self.trace.names(variants);
        let of = part::<V::Value>();
        let again = !self.trace.active.insert(of);
        let known = self.trace.known(of);
        known.begun.resize(variants.len(), 0);
        let chosen = match known.least() {
            // The first that ended did so without the others.
            Some(least) if again && known.begun[least] > 0 => known.ended.first().copied(),
            least => least,
        };
        let Some(chosen) = chosen else { return Err(Broken::Other) };
        known.begun[chosen] += 1;
        self.trace.note('v', variants[chosen]);
        let result =
            self.trace.inside(|trace| visitor.visit_enum(Answers { trace, key: Some(variants[chosen]) }));
        if !again {
            self.trace.active.remove(&of);
        }
        let known = self.trace.known(of);
        if result.is_ok() && !known.ended.contains(&chosen) {
            known.ended.push(chosen);
        }
        result
    }

    /// Nothing, a map, a text, a number.
    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Broken> {
        if self.key.is_some() {
            return self.text(visitor);
        }
        self.ask('a', "")?;
        let of = part::<V::Value>();
        let known = self.trace.known(of);
        known.answers = 4;
        let choice = known.disliked;
        let keys = known.keys(false);
        let result = self.trace.inside(|trace| match choice {
            0 => visitor.visit_unit(),
            1 => visitor.visit_map(Map { trace, of, keys, at: None }),
            2 => visitor.visit_borrowed_str(TEXTS[0]),
            _ => visitor.visit_u64(1),
        });
        self.trace.leave(of, false, result)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// A struct, or a variant that is like one: the field that was begun least comes first, so that one which is not answered
/// to its liking does not hide the others.
fn structure<'de, V: Visitor<'de>>(
    trace: &mut Trace,
    of: Part,
    fields: &'static [&'static str],
    visitor: V,
) -> Result<V::Value, Broken> {
    let known = trace.known(of);
    known.begun.resize(fields.len(), 0);
    let mut keys: Vec<Key> =
        fields.iter().enumerate().map(|(field, name)| Key { text: Some(name), field: Some(field) }).collect();
    keys.sort_by_key(|key| std::cmp::Reverse(key.field.map(|field| (known.begun[field], field))));
    trace.inside(|trace| visitor.visit_map(Map { trace, of, keys, at: None }))
}

/// A key of a map, or a field of a struct.
#[derive(Clone, Copy)]
struct Key {
    text: Option<&'static str>,
    field: Option<usize>,
}

/// A map that has some keys, the last first.
struct Map<'t> {
    trace: &'t mut Trace,
    of: Part,
    keys: Vec<Key>,
    at: Option<usize>,
}

impl<'de> MapAccess<'de> for Map<'_> {
    type Error = Broken;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Broken> {
        let Some(key) = self.keys.pop() else { return Ok(None) };
        self.at = key.field;
        seed.deserialize(Answers { trace: self.trace, key: key.text }).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Broken> {
        if let Some(field) = self.at.take() {
            self.trace.known(self.of).begun[field] += 1;
        }
        seed.deserialize(Answers { trace: self.trace, key: None })
    }
}

/// A list of so many.
struct List<'t> {
    trace: &'t mut Trace,
    left: usize,
}

impl<'de> SeqAccess<'de> for List<'_> {
    type Error = Broken;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Broken> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(Answers { trace: self.trace, key: None }).map(Some)
    }
}

impl<'de> EnumAccess<'de> for Answers<'_> {
    type Error = Broken;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Broken> {
        let variant = seed.deserialize(Answers { trace: self.trace, key: self.key })?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Answers<'_> {
    type Error = Broken;

    fn unit_variant(self) -> Result<(), Broken> {
        self.trace.note('0', "");
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Broken> {
        self.trace.note('1', "");
        seed.deserialize(Answers { trace: self.trace, key: None })
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Broken> {
        self.trace.note('2', "");
        self.trace.hash = self.trace.hash.number(len as u64);
        self.list(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Broken> {
        self.trace.note('3', "");
        self.trace.names(fields);
        let of = (type_name::<V::Value>(), self.key.unwrap_or_default());
        structure(self.trace, of, fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::traced;
    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Serialize};
    use std::collections::{BTreeMap, HashMap};
    use std::net::IpAddr;
    use std::time::{Duration, SystemTime};

    /// Types of one name, each in a module of its own.
    macro_rules! twins {
        ($($module:ident { $($item:item)+ })+) => {
            $(mod $module {
                #![allow(dead_code)]
                use super::*;
                $(#[derive(Serialize, Deserialize)] $item)+
            })+
            fn shapes() -> Vec<(&'static str, u64)> {
                vec![$((stringify!($module), traced::<$module::Twin>())),+]
            }
        };
    }

    twins! {
        plain { pub(super) struct Twin { a: u32, b: String } }
        renamed_field { pub(super) struct Twin { a: u32, c: String } }
        added_field { pub(super) struct Twin { a: u32, b: String, c: Option<u8> } }
        removed_field { pub(super) struct Twin { a: u32 } }
        retyped_field { pub(super) struct Twin { a: i32, b: String } }
        wider_field { pub(super) struct Twin { a: u64, b: String } }
        optional_field { pub(super) struct Twin { a: Option<u32>, b: String } }
        listed_field { pub(super) struct Twin { a: Vec<u32>, b: String } }
        swapped_types { pub(super) struct Twin { a: String, b: u32 } }
        swapped_fields { pub(super) struct Twin { b: String, a: u32 } }
        behind_a_date { pub(super) struct Twin { when: super::Picky, b: u32 } }
        behind_a_date_retyped { pub(super) struct Twin { when: super::Picky, b: i32 } }
        behind_a_date_nested { struct Inner { when: super::Picky, x: u8 } pub(super) struct Twin { when: super::Picky, inner: Inner } }
        behind_a_date_nested_retyped { struct Inner { when: super::Picky, x: i8 } pub(super) struct Twin { when: super::Picky, inner: Inner } }
        in_a_list { struct Inner { x: u8 } pub(super) struct Twin { a: Vec<Inner> } }
        in_a_list_retyped { struct Inner { x: u16 } pub(super) struct Twin { a: Vec<Inner> } }
        in_a_map { struct Inner { x: u8 } pub(super) struct Twin { a: BTreeMap<String, Inner> } }
        in_a_map_retyped { struct Inner { x: u16 } pub(super) struct Twin { a: BTreeMap<String, Inner> } }
        other_key { struct Inner { x: u8 } pub(super) struct Twin { a: BTreeMap<u8, Inner> } }
        variants { pub(super) enum Twin { A, B(u8), C { x: u8 } } }
        renamed_variant { pub(super) enum Twin { A, B(u8), D { x: u8 } } }
        added_variant { pub(super) enum Twin { A, B(u8), C { x: u8 }, D } }
        retyped_newtype_variant { pub(super) enum Twin { A, B(i8), C { x: u8 } } }
        retyped_struct_variant { pub(super) enum Twin { A, B(u8), C { x: i8 } } }
        renamed_in_variant { pub(super) enum Twin { A, B(u8), C { y: u8 } } }
        swapped_variants { pub(super) enum Twin { B(u8), A, C { x: u8 } } }
        tree { pub(super) struct Twin { next: Option<Box<Twin>>, value: u8 } }
        tree_retyped { pub(super) struct Twin { next: Option<Box<Twin>>, value: i8 } }
        expression { pub(super) enum Twin { Add(Box<Twin>, Box<Twin>, u8), Literal(i64) } }
        expression_retyped { pub(super) enum Twin { Add(Box<Twin>, Box<Twin>, i8), Literal(i64) } }
        expression_literal_retyped { pub(super) enum Twin { Add(Box<Twin>, Box<Twin>, u8), Literal(u64) } }
        flattened { struct Inner { x: u8 } pub(super) struct Twin { a: u8, #[serde(flatten)] inner: Inner } }
        flattened_renamed { struct Inner { x: u8 } pub(super) struct Twin { b: u8, #[serde(flatten)] inner: Inner } }
        tagged { #[serde(tag = "kind")] pub(super) enum Twin { A { x: u8 }, B } }
        tagged_renamed { #[serde(tag = "kind")] pub(super) enum Twin { A { x: u8 }, C } }
        tagged_by_another { #[serde(tag = "sort")] pub(super) enum Twin { A { x: u8 }, B } }
        tuple { pub(super) struct Twin(u8, u8); }
        longer_tuple { pub(super) struct Twin(u8, u8, u8); }
        newtype { pub(super) struct Twin(u8); }
        unit { pub(super) struct Twin; }
    }

    /// Takes dates only.
    #[derive(Serialize)]
    struct Picky(String);

    impl<'de> Deserialize<'de> for Picky {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            if text.split('-').count() == 9 {
                Ok(Self(text))
            } else {
                Err(serde::de::Error::custom("no date"))
            }
        }
    }

    #[test]
    fn a_changed_field_or_variant_is_another_shape() {
        let mut seen = BTreeMap::new();
        for (module, shape) in shapes() {
            if let Some(other) = seen.insert(shape, module) {
                panic!("{module} and {other} look alike");
            }
        }
        assert_eq!(seen.len(), 40);
        assert_eq!(shapes(), shapes(), "the same twice");
    }

    /// A type's name is part of its fingerprint; its shape is the same wherever it stands.
    #[test]
    fn the_name_of_the_module_is_no_part_of_the_shape() {
        mod other {
            #[derive(serde::Deserialize)]
            #[expect(dead_code, reason = "only its shape is looked at")]
            pub(super) struct Twin {
                a: u32,
                b: String,
            }
        }
        assert_eq!(traced::<other::Twin>(), traced::<plain::Twin>());
    }

    /// Dates, addresses and the like are answered until they are content, so that what follows them is seen.
    #[test]
    fn types_that_are_particular_get_answers() {
        fn content<T: DeserializeOwned>() -> bool {
            #[derive(Deserialize)]
            struct After<T, U>(T, U);
            traced::<After<T, u8>>() != traced::<After<T, i8>>()
        }
        assert!(content::<std::num::NonZeroU64>());
        assert!(content::<IpAddr>());
        assert!(content::<Duration>());
        assert!(content::<SystemTime>());
        assert!(content::<HashMap<String, Vec<Option<char>>>>());
        assert!(content::<serde_json::Value>());
        assert!(!content::<Picky>(), "nothing is seen behind it in a tuple: the test of twins sees more");
    }

    /// Sixty-four levels of types within types, each twice: what is seen is limited, and it ends.
    #[test]
    fn types_without_end_come_to_an_end() {
        #[derive(Deserialize)]
        struct Wide<T>(T, T);
        type Four<T> = Wide<Wide<Wide<Wide<T>>>>;
        assert_ne!(traced::<Four<Four<Four<Four<u8>>>>>(), traced::<Four<u8>>());

        #[derive(Deserialize)]
        #[expect(dead_code, reason = "only its shape is looked at")]
        struct Endless(Box<Endless>);
        assert_eq!(traced::<Endless>(), traced::<Endless>());
    }
}
