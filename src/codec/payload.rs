//! A value as bytes, without its envelope: the formats.
//!
//! # Invariants
//! - **What is written can be read.** A value is measured before it is written: deeper than
//!   the limit, or with more elements, it is refused. Only what it takes in memory is not known before it is read.
//! - **All or nothing.** Bytes that are left over after a value are no value.
//! - **No panics out of bytes.** Whatever a value's own code does with them, it is a value or it is none.
#![forbid(unsafe_code)]

use super::format::{BoxError, Format, Slot, Value};
use super::limited::{Budget, Limited};
use super::limits::Limits;
use super::measure::{Measure, Stopped};
use super::{Undecodable, noop};
use crate::error::{Error, ErrorKind};
use crate::sync::Arc;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// serde_json itself goes so deep, and no deeper.
const JSON_LEVELS: u32 = 126;

/// What makes bytes of values.
#[derive(Clone)]
pub(super) enum Kind {
    Noop,
    Json,
    Msgpack,
    Postcard,
    Functions(Functions),
    Own(Arc<dyn Format>),
}

/// Two functions for one type.
#[derive(Clone)]
pub(super) struct Functions {
    of: TypeId,
    name: &'static str,
    write: Arc<Write>,
    read: Arc<Read>,
}

type Write = dyn Fn(&dyn Any) -> Option<Result<Vec<u8>, BoxError>> + Send + Sync;
/// The second argument is an `Option` of the type.
type Read = dyn Fn(&[u8], &mut dyn Any) -> Result<(), BoxError> + Send + Sync;

impl Functions {
    pub(super) fn new<T, E>(
        serialize: impl Fn(&T) -> Result<Vec<u8>, E> + Send + Sync + 'static,
        deserialize: impl Fn(&[u8]) -> Result<T, E> + Send + Sync + 'static,
    ) -> Self
    where
        T: Send + Sync + 'static,
        E: Into<BoxError>,
    {
        Self {
            of: TypeId::of::<T>(),
            name: type_name::<T>(),
            write: Arc::new(move |value| {
                value.downcast_ref().map(|value| serialize(value).map_err(Into::into))
            }),
            read: Arc::new(move |bytes, slot| {
                if let Some(slot) = slot.downcast_mut::<Option<T>>() {
                    *slot = Some(deserialize(bytes).map_err(Into::into)?);
                }
                Ok(())
            }),
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Kind {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Noop => "noop",
            Self::Json => "json",
            Self::Msgpack => "msgpack",
            Self::Postcard => "postcard",
            Self::Functions(_) => "functions",
            Self::Own(format) => format.name(),
        }
    }

    /// What stands for it in an envelope.
    pub(super) fn tag(&self) -> u8 {
        match self {
            Self::Noop => 0,
            Self::Json => 1,
            Self::Msgpack => 2,
            Self::Postcard => 3,
            Self::Functions(_) => 4,
            Self::Own(_) => 5,
        }
    }
}

/// A format and what it may cost.
#[derive(Clone, Debug)]
pub struct Payloads {
    pub(super) kind: Kind,
    pub(super) limits: Limits,
}

fn refused<T>(cause: impl Into<BoxError>) -> Error {
    Error::new(ErrorKind::Encode, "codec encode").detail(format!("type {}", type_name::<T>())).because(cause)
}

impl Payloads {
    fn levels(&self) -> u32 {
        match self.kind {
            Kind::Json => self.limits.max_depth.min(JSON_LEVELS),
            _ => self.limits.max_depth,
        }
    }

    /// Whether values of `T` can be written at all, of which `serde` says whether serde knows them.
    pub(super) fn takes<T: 'static>(&self, serde: bool) -> Result<(), Error> {
        match &self.kind {
            Kind::Functions(functions) if functions.of == TypeId::of::<T>() => Ok(()),
            Kind::Functions(functions) => Err(Error::new(ErrorKind::WrongType, "codec").detail(format!(
                "its functions are for {}, not for {}: give these values a region of their own",
                functions.name,
                type_name::<T>()
            ))),
            _ if serde => Ok(()),
            kind => Err(Error::new(ErrorKind::WrongType, "codec").detail(format!(
                "{} can't be bytes by {}: use a store of this process, or Codec::from_fns for this type",
                type_name::<T>(),
                kind.name()
            ))),
        }
    }

    /// Appends the value's bytes, by the functions that there must be for its type.
    pub(super) fn write_any<T: 'static>(&self, value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
        self.takes::<T>(false)?;
        if let Kind::Functions(functions) = &self.kind
            && let Some(bytes) = (functions.write)(value)
        {
            out.extend(bytes.map_err(refused::<T>)?);
        }
        Ok(())
    }

    /// Appends the value's bytes.
    pub(super) fn write<T: Serialize + 'static>(&self, value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
        match &self.kind {
            Kind::Functions(_) => return self.write_any(value, out),
            Kind::Noop => return noop::write(value, out).map_err(refused::<T>),
            _ => {}
        }
        let levels = self.levels();
        let measure = Measure::of(value, levels, matches!(self.kind, Kind::Json)).map_err(|stopped| match stopped {
            Stopped::TooDeep => Error::new(ErrorKind::Encode, "codec encode").detail(format!(
                "{} is nested deeper than max_depth allows, which is {levels}: raise it, or store flatter values",
                type_name::<T>()
            )),
            Stopped::Refused(_) => refused::<T>(stopped),
        })?;
        let start = out.len();
        out.reserve(measure.bytes.min(self.limits.max_decompressed));
        match &self.kind {
            Kind::Json => serde_json::to_writer(&mut *out, value).map_err(refused::<T>),
            Kind::Msgpack => {
                let mut serializer = rmp_serde::Serializer::new(&mut *out).with_struct_map();
                serializer.unstable_set_max_depth(usize::MAX);
                value.serialize(&mut serializer).map_err(refused::<T>)
            }
            Kind::Postcard => {
                *out = postcard::to_extend(value, std::mem::take(out)).map_err(refused::<T>)?;
                Ok(())
            }
            Kind::Own(format) => {
                out.extend(format.encode(&Value(value)).map_err(refused::<T>)?);
                Ok(())
            }
            Kind::Noop | Kind::Functions(_) => Ok(()),
        }?;
        // As `Budget` counts them.
        let most = self.limits.max_elements.max(out.len() - start);
        if measure.elements > most {
            return Err(Error::new(ErrorKind::Encode, "codec encode").detail(format!(
                "{} has more elements than max_elements allows, which is {most}: raise it, or store smaller values",
                type_name::<T>()
            )));
        }
        Ok(())
    }

    /// The value that the bytes are, by the functions that there must be for its type.
    pub(super) fn read_any<T: 'static>(&self, bytes: &[u8]) -> Result<T, Undecodable> {
        let Kind::Functions(functions) = &self.kind else { return Err(Undecodable::Type) };
        if functions.of != TypeId::of::<T>() {
            return Err(Undecodable::Type);
        }
        let mut slot: Option<T> = None;
        guarded(|| (functions.read)(bytes, &mut slot).map_err(|_| Undecodable::Malformed))?;
        slot.ok_or(Undecodable::Malformed)
    }

    /// The value that the bytes are.
    pub(super) fn read<T: DeserializeOwned + 'static>(&self, bytes: &[u8]) -> Result<T, Undecodable> {
        if let Kind::Functions(_) = self.kind {
            return self.read_any(bytes);
        }
        let budget = Budget::new(&Limits { max_depth: self.levels(), ..self.limits }, bytes.len());
        let value = guarded(|| self.parse(bytes, &budget).ok_or(Undecodable::Malformed));
        value.map_err(|why| budget.over().unwrap_or(why))
    }

    fn parse<T: DeserializeOwned + 'static>(&self, bytes: &[u8], budget: &Budget) -> Option<T> {
        match &self.kind {
            Kind::Functions(_) => None,
            Kind::Noop => noop::read(bytes).ok(),
            Kind::Json => {
                let mut json = serde_json::Deserializer::from_slice(bytes);
                let value = T::deserialize(Limited::new(&mut json, budget)).ok()?;
                json.end().ok()?;
                Some(value)
            }
            Kind::Msgpack => {
                let mut msgpack = rmp_serde::Deserializer::new(bytes);
                msgpack.set_max_depth(usize::MAX);
                let value = T::deserialize(Limited::new(&mut msgpack, budget)).ok()?;
                msgpack.get_ref().is_empty().then_some(value)
            }
            Kind::Postcard => {
                let mut postcard = postcard::Deserializer::from_bytes(bytes);
                let value = T::deserialize(Limited::new(&mut postcard, budget)).ok()?;
                postcard.finalize().ok()?.is_empty().then_some(value)
            }
            Kind::Own(format) => {
                let mut value = None;
                let mut fill = |erased: &mut dyn erased_serde::Deserializer<'_>| {
                    value = Some(T::deserialize(Limited::new(erased, budget))?);
                    Ok(())
                };
                format.decode(bytes, Slot(&mut fill)).ok()?;
                value
            }
        }
    }
}

/// A panic of the value's own code is no value.
fn guarded<T>(read: impl FnOnce() -> Result<T, Undecodable>) -> Result<T, Undecodable> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or(Err(Undecodable::Panicked))
}
