//! The format of values that are bytes or text themselves.
#![forbid(unsafe_code)]

use serde::de::{self, DeserializeOwned, Visitor};
use serde::ser::{self, Impossible, Serializer};
use serde::{Serialize, forward_to_deserialize_any};
use std::any::Any;
use std::fmt;

/// Why not.
#[derive(Debug)]
pub(super) struct NotBytes(String);

impl fmt::Display for NotBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotBytes {}

impl ser::Error for NotBytes {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl de::Error for NotBytes {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

fn not_bytes<T>() -> Result<T, NotBytes> {
    Err(NotBytes(String::from("it is neither bytes nor text")))
}

/// Appends the value's own bytes.
pub(super) fn write<T: Serialize + 'static>(value: &T, out: &mut Vec<u8>) -> Result<(), NotBytes> {
    let any: &dyn Any = value;
    // serde takes these for lists of numbers.
    let list = any.downcast_ref::<Vec<u8>>().map(Vec::as_slice);
    match list.or_else(|| any.downcast_ref::<Box<[u8]>>().map(|list| &**list)) {
        Some(bytes) => out.extend_from_slice(bytes),
        None => value.serialize(Bytes(out))?,
    }
    Ok(())
}

/// Makes a value of its bytes.
pub(super) fn read<T: DeserializeOwned + 'static>(bytes: &[u8]) -> Result<T, NotBytes> {
    let mut value: Option<T> = None;
    let any: &mut dyn Any = &mut value;
    if let Some(list) = any.downcast_mut::<Option<Vec<u8>>>() {
        *list = Some(bytes.to_vec());
    } else if let Some(list) = any.downcast_mut::<Option<Box<[u8]>>>() {
        *list = Some(bytes.into());
    }
    match value {
        Some(value) => Ok(value),
        None => T::deserialize(Read(bytes)),
    }
}

/// Takes one byte string or one text.
struct Bytes<'a>(&'a mut Vec<u8>);

macro_rules! refused {
    ($($method:ident($($of:ty),*) -> $result:ty;)+) => {$(
        fn $method(self, $(_: $of),*) -> Result<$result, NotBytes> {
            not_bytes()
        }
    )+};
}

impl Serializer for Bytes<'_> {
    type Ok = ();
    type Error = NotBytes;
    type SerializeSeq = Impossible<(), NotBytes>;
    type SerializeTuple = Impossible<(), NotBytes>;
    type SerializeTupleStruct = Impossible<(), NotBytes>;
    type SerializeTupleVariant = Impossible<(), NotBytes>;
    type SerializeMap = Impossible<(), NotBytes>;
    type SerializeStruct = Impossible<(), NotBytes>;
    type SerializeStructVariant = Impossible<(), NotBytes>;

    fn serialize_str(self, text: &str) -> Result<(), NotBytes> {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), NotBytes> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), NotBytes> {
        value.serialize(self)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), NotBytes> {
        not_bytes()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), NotBytes> {
        not_bytes()
    }

    refused! {
        serialize_bool(bool) -> ();
        serialize_i8(i8) -> ();
        serialize_i16(i16) -> ();
        serialize_i32(i32) -> ();
        serialize_i64(i64) -> ();
        serialize_u8(u8) -> ();
        serialize_u16(u16) -> ();
        serialize_u32(u32) -> ();
        serialize_u64(u64) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Gives one byte string or one text.
struct Read<'de>(&'de [u8]);

impl<'de> Read<'de> {
    fn text(&self) -> Result<&'de str, NotBytes> {
        std::str::from_utf8(self.0).map_err(|_| NotBytes(String::from("it is not UTF-8")))
    }
}

impl<'de> de::Deserializer<'de> for Read<'de> {
    type Error = NotBytes;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NotBytes> {
        not_bytes()
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotBytes> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotBytes> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotBytes> {
        visitor.visit_borrowed_bytes(self.0)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotBytes> {
        visitor.visit_borrowed_bytes(self.0)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, NotBytes> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char option unit unit_struct seq tuple tuple_struct
        map struct enum identifier ignored_any
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}
