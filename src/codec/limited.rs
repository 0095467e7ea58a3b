//! A deserializer around another that counts levels, elements and memory, and stops where a limit is.
//!
//! Formats call back into the value's own code, which calls the format again: the only place that sees each level of every
//! format is between the two. So it stands there, as visitor and as all of serde's accesses.
//!
//! # Invariants
//! - **Levels.** Each call of a visitor that hands a deserializer on (list, map, variant, option, newtype) is one level; no
//!   format comes deeper without one.
//! - **Memory.** Each value is paid for where its size is known: an element by its list, what is inline in another by that
//!   one, what is boxed by itself.
//! - **Hints.** No more elements are announced than [`MOST_ANNOUNCED`]: a collection that trusts the announcement takes
//!   little.
//!
//! # Cost
//! A level: two additions. An element: two subtractions. No allocation.
#![forbid(unsafe_code)]

use super::Undecodable;
use super::limits::Limits;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use std::cell::Cell;
use std::fmt;

/// However long a list says it is, so many elements it may ask memory for at once; then it grows by doubling.
const MOST_ANNOUNCED: usize = 1024;

/// What is left for one value.
#[derive(Debug)]
pub(super) struct Budget {
    depth: Cell<u32>,
    elements: Cell<usize>,
    memory: Cell<usize>,
    over: Cell<Option<Undecodable>>,
}

impl Budget {
    pub(super) fn new(limits: &Limits, bytes: usize) -> Self {
        Self {
            depth: Cell::new(limits.max_depth),
            elements: Cell::new(limits.max_elements.max(bytes)),
            memory: Cell::new(limits.max_memory),
            over: Cell::new(None),
        }
    }

    /// The limit that was reached, if that is why there is no value.
    pub(super) fn over(&self) -> Option<Undecodable> {
        self.over.get()
    }

    fn refuse<E: Error>(&self, why: Undecodable) -> E {
        self.over.set(Some(why));
        E::custom(why)
    }

    fn level<T, E: Error>(&self, inside: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let Some(left) = self.depth.get().checked_sub(1) else {
            return Err(self.refuse(Undecodable::TooDeep));
        };
        self.depth.set(left);
        let result = inside();
        self.depth.set(left + 1);
        result
    }

    fn pay<E: Error>(&self, bytes: usize) -> Result<(), E> {
        match self.memory.get().checked_sub(bytes) {
            Some(left) => {
                self.memory.set(left);
                Ok(())
            }
            None => Err(self.refuse(Undecodable::TooLarge)),
        }
    }

    fn element<E: Error>(&self) -> Result<(), E> {
        match self.elements.get().checked_sub(1) {
            Some(left) => {
                self.elements.set(left);
                Ok(())
            }
            None => Err(self.refuse(Undecodable::TooMany)),
        }
    }
}

/// A deserializer with a budget.
#[derive(Debug)]
pub(super) struct Limited<'b, D> {
    inner: D,
    budget: &'b Budget,
    /// The room that the value has already, inline in something paid for.
    paid: usize,
}

impl<'b, D> Limited<'b, D> {
    pub(super) fn new(inner: D, budget: &'b Budget) -> Self {
        Self { inner, budget, paid: 0 }
    }

    fn visitor<V>(&self, visitor: V, members: Members) -> Limiting<'b, V> {
        Limiting { inner: visitor, budget: self.budget, paid: self.paid, members }
    }
}

/// What a list or map holds: any number of elements, or the fields of a struct, which have their room in it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Members {
    Elements,
    Fields,
}

macro_rules! plain {
    ($($method:ident)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(visitor)
        }
    )+};
}

macro_rules! limited {
    ($($method:ident($($arg:ident: $of:ty),*) $members:ident;)+) => {$(
        fn $method<V: Visitor<'de>>(self, $($arg: $of,)* visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.visitor(visitor, Members::$members);
            self.inner.$method($($arg,)* visitor)
        }
    )+};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Limited<'_, D> {
    type Error = D::Error;

    plain! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_char
    }

    limited! {
        deserialize_any() Elements;
        deserialize_str() Elements;
        deserialize_string() Elements;
        deserialize_bytes() Elements;
        deserialize_byte_buf() Elements;
        deserialize_option() Elements;
        deserialize_unit() Elements;
        deserialize_unit_struct(name: &'static str) Elements;
        deserialize_newtype_struct(name: &'static str) Elements;
        deserialize_seq() Elements;
        deserialize_tuple(len: usize) Fields;
        deserialize_tuple_struct(name: &'static str, len: usize) Fields;
        deserialize_map() Elements;
        deserialize_struct(name: &'static str, fields: &'static [&'static str]) Fields;
        deserialize_enum(name: &'static str, variants: &'static [&'static str]) Fields;
        deserialize_identifier() Elements;
        deserialize_ignored_any() Elements;
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// A visitor, a seed or an access with a budget.
struct Limiting<'b, I> {
    inner: I,
    budget: &'b Budget,
    paid: usize,
    members: Members,
}

macro_rules! leaf {
    ($($method:ident($of:ty);)+) => {$(
        fn $method<E: Error>(self, value: $of) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )+};
}

impl<'de, V: Visitor<'de>> Limiting<'_, V> {
    /// Pays for what of the value has no room yet. Returns how much it has.
    fn room<E: Error>(&self) -> Result<usize, E> {
        let size = size_of::<V::Value>();
        self.budget.pay(size.saturating_sub(self.paid))?;
        Ok(size.max(self.paid))
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Limiting<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    leaf! {
        visit_bool(bool); visit_i8(i8); visit_i16(i16); visit_i32(i32); visit_i64(i64); visit_i128(i128);
        visit_u8(u8); visit_u16(u16); visit_u32(u32); visit_u64(u64); visit_u128(u128);
        visit_f32(f32); visit_f64(f64); visit_char(char);
        visit_str(&str); visit_borrowed_str(&'de str); visit_string(String);
        visit_bytes(&[u8]); visit_borrowed_bytes(&'de [u8]); visit_byte_buf(Vec<u8>);
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let paid = self.room()?;
        self.budget
            .level(|| self.inner.visit_some(Limited { inner: deserializer, budget: self.budget, paid }))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let paid = self.room()?;
        self.budget.level(|| {
            self.inner.visit_newtype_struct(Limited { inner: deserializer, budget: self.budget, paid })
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        let paid = self.room()?;
        let Self { inner, budget, members, .. } = self;
        budget.level(|| inner.visit_seq(Limiting { inner: seq, budget, paid, members }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let paid = self.room()?;
        let Self { inner, budget, members, .. } = self;
        budget.level(|| inner.visit_map(Limiting { inner: map, budget, paid, members }))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        let paid = self.room()?;
        let Self { inner, budget, .. } = self;
        budget.level(|| inner.visit_enum(Limiting { inner: data, budget, paid, members: Members::Fields }))
    }
}

impl<I> Limiting<'_, I> {
    /// A member of the list or map, whose value has `size` bytes.
    fn member<E: Error>(&self, size: usize) -> Result<(), E> {
        if self.members == Members::Elements {
            self.budget.element()?;
            self.budget.pay(size)?;
        }
        Ok(())
    }

    fn announced(&self, hint: Option<usize>) -> Option<usize> {
        hint.map(|hint| hint.min(MOST_ANNOUNCED).min(self.budget.memory.get() / MOST_ANNOUNCED))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Limiting<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Limited { inner: deserializer, budget: self.budget, paid: self.paid })
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Limiting<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let size = size_of::<S::Value>();
        let budget = self.budget;
        let element = self.inner.next_element_seed(Limiting {
            inner: seed,
            budget,
            paid: size,
            members: Members::Elements,
        })?;
        if element.is_some() {
            self.member(size)?;
        }
        Ok(element)
    }

    fn size_hint(&self) -> Option<usize> {
        self.announced(self.inner.size_hint())
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Limiting<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let size = size_of::<S::Value>();
        let seed = Limiting { inner: seed, budget: self.budget, paid: size, members: Members::Elements };
        let key = self.inner.next_key_seed(seed)?;
        if key.is_some() {
            self.member(size)?;
        }
        Ok(key)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let size = size_of::<S::Value>();
        if self.members == Members::Elements {
            self.budget.pay(size)?;
        }
        self.inner.next_value_seed(Limiting {
            inner: seed,
            budget: self.budget,
            paid: size,
            members: Members::Elements,
        })
    }

    fn size_hint(&self) -> Option<usize> {
        self.announced(self.inner.size_hint())
    }
}

impl<'b, 'de, A: EnumAccess<'de>> EnumAccess<'de> for Limiting<'b, A> {
    type Error = A::Error;
    type Variant = Limiting<'b, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let Self { inner, budget, paid, members } = self;
        let seed = Limiting { inner: seed, budget, paid: usize::MAX, members: Members::Elements };
        let (value, variant) = inner.variant_seed(seed)?;
        Ok((value, Limiting { inner: variant, budget, paid, members }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Limiting<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let Self { inner, budget, .. } = self;
        let paid = size_of::<S::Value>();
        inner.newtype_variant_seed(Limiting { inner: seed, budget, paid, members: Members::Elements })
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let Self { inner, budget, paid, .. } = self;
        inner.tuple_variant(len, Limiting { inner: visitor, budget, paid, members: Members::Fields })
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let Self { inner, budget, paid, .. } = self;
        inner.struct_variant(fields, Limiting { inner: visitor, budget, paid, members: Members::Fields })
    }
}
