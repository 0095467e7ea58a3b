//! How large and how deep a value is: a serializer that writes nothing.
//!
//! What can't be read again must not be written, and a value that is nested without end must not take the stack: so each
//! value is measured before it is written. The same figures are a value's weight where a store counts bytes of memory.
//!
//! # Cost
//! One walk through the value; no allocation but for an error.
#![forbid(unsafe_code)]

use serde::Serialize;
use serde::ser::{
    self, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use std::fmt;

/// What a `String`, a `Vec` or a box of a map takes, apart from what is in it.
const HEADER: usize = size_of::<String>();

/// What a walk has seen.
#[derive(Debug)]
pub(super) struct Measure {
    /// About so many bytes the value takes in memory.
    pub(super) bytes: usize,
    /// Of all lists and maps together.
    pub(super) elements: usize,
    left: u32,
    human: bool,
}

/// Why a walk ended early.
#[derive(Debug)]
pub(super) enum Stopped {
    TooDeep,
    /// The value's own code says no.
    Refused(String),
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooDeep => f.write_str("the value is nested too deep"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Stopped {}

impl ser::Error for Stopped {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Refused(message.to_string())
    }
}

impl Measure {
    /// Walks through `value`, to a depth of `levels`.
    pub(super) fn of<T: Serialize + ?Sized>(value: &T, levels: u32, human: bool) -> Result<Self, Stopped> {
        let mut measure = Self { bytes: 0, elements: 0, left: levels, human };
        value.serialize(&mut measure)?;
        Ok(measure)
    }

    fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn enter(&mut self, levels: u32) -> Result<Level<'_>, Stopped> {
        self.left = self.left.checked_sub(levels).ok_or(Stopped::TooDeep)?;
        Ok(Level { measure: self, levels })
    }
}

/// Inside of something: `levels` are given back at its end.
pub(super) struct Level<'a> {
    measure: &'a mut Measure,
    levels: u32,
}

impl Level<'_> {
    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stopped> {
        value.serialize(&mut *self.measure)
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stopped> {
        self.measure.elements += 1;
        self.part(value)
    }

    fn leave(self) -> Result<(), Stopped> {
        self.measure.left += self.levels;
        Ok(())
    }
}

macro_rules! flat {
    ($($method:ident($of:ty);)+) => {$(
        fn $method(self, _: $of) -> Result<(), Stopped> {
            self.add(size_of::<$of>());
            Ok(())
        }
    )+};
}

impl<'a> Serializer for &'a mut Measure {
    type Ok = ();
    type Error = Stopped;
    type SerializeSeq = Level<'a>;
    type SerializeTuple = Level<'a>;
    type SerializeTupleStruct = Level<'a>;
    type SerializeTupleVariant = Level<'a>;
    type SerializeMap = Level<'a>;
    type SerializeStruct = Level<'a>;
    type SerializeStructVariant = Level<'a>;

    flat! {
        serialize_bool(bool); serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_i64(i64);
        serialize_i128(i128); serialize_u8(u8); serialize_u16(u16); serialize_u32(u32); serialize_u64(u64);
        serialize_u128(u128); serialize_f32(f32); serialize_f64(f64); serialize_char(char);
    }

    fn serialize_str(self, text: &str) -> Result<(), Stopped> {
        self.add(HEADER + text.len());
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Stopped> {
        self.add(HEADER + bytes.len());
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Stopped> {
        self.add(1);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Stopped> {
        self.add(1);
        let mut inside = self.enter(1)?;
        inside.part(value)?;
        inside.leave()
    }

    fn serialize_unit(self) -> Result<(), Stopped> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Stopped> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Stopped> {
        self.add(1);
        self.enter(1)?.leave()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Stopped> {
        let mut inside = self.enter(1)?;
        inside.part(value)?;
        inside.leave()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Stopped> {
        self.add(1);
        let mut inside = self.enter(1)?;
        inside.part(value)?;
        inside.leave()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Level<'a>, Stopped> {
        self.add(HEADER);
        self.enter(1)
    }

    fn serialize_tuple(self, _: usize) -> Result<Level<'a>, Stopped> {
        self.enter(1)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Level<'a>, Stopped> {
        self.enter(1)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Level<'a>, Stopped> {
        self.add(1);
        self.enter(2)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Level<'a>, Stopped> {
        self.add(HEADER);
        self.enter(1)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Level<'a>, Stopped> {
        self.enter(1)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Level<'a>, Stopped> {
        self.add(1);
        self.enter(2)
    }

    fn is_human_readable(&self) -> bool {
        self.human
    }
}

macro_rules! parts {
    ($($of:ident: $method:ident $by:ident;)+) => {$(
        impl $of for Level<'_> {
            type Ok = ();
            type Error = Stopped;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stopped> {
                self.$by(value)
            }
            fn end(self) -> Result<(), Stopped> {
                self.leave()
            }
        }
    )+};
}

parts! {
    SerializeSeq: serialize_element element;
    SerializeTuple: serialize_element part;
    SerializeTupleStruct: serialize_field part;
    SerializeTupleVariant: serialize_field part;
}

macro_rules! fields {
    ($($of:ident)+) => {$(
        impl $of for Level<'_> {
            type Ok = ();
            type Error = Stopped;
            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), Stopped> {
                self.part(value)
            }
            fn end(self) -> Result<(), Stopped> {
                self.leave()
            }
        }
    )+};
}

fields! { SerializeStruct SerializeStructVariant }

impl SerializeMap for Level<'_> {
    type Ok = ();
    type Error = Stopped;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Stopped> {
        self.element(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stopped> {
        self.part(value)
    }

    fn end(self) -> Result<(), Stopped> {
        self.leave()
    }
}
