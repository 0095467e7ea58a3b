//! What a region can store.
#![forbid(unsafe_code)]

use super::Undecodable;
use super::measure::Measure;
use super::payload::Payloads;
use super::shape;
use crate::error::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::type_name;
use std::ops::Deref;

/// Values that a region can store: all that serde can write and read, and any other in an [`InMemory`].
///
/// Nobody implements it: a type that is `Serialize + DeserializeOwned + Send + Sync + 'static` has it.
///
/// ```
/// use dogpile::codec::{InMemory, Storable};
///
/// fn storable<T: Storable>() {}
/// storable::<(String, Vec<u32>)>();
/// storable::<InMemory<std::net::TcpStream>>();
/// ```
#[diagnostic::on_unimplemented(
    message = "a region can't store values of `{Self}`",
    note = "derive serde's `Serialize` and `Deserialize`, or wrap it in `InMemory` for stores of this process"
)]
pub trait Storable: Send + Sync + Sized + 'static {
    /// Whether it can be bytes by any codec.
    #[doc(hidden)]
    const STORES_BYTES: bool;

    /// About so many bytes it takes in memory.
    #[doc(hidden)]
    fn weight(&self) -> u32;

    #[doc(hidden)]
    fn __write(&self, payloads: &Payloads, out: &mut Vec<u8>) -> Result<(), Error>;

    #[doc(hidden)]
    fn __read(payloads: &Payloads, bytes: &[u8]) -> Result<Self, Undecodable>;

    #[doc(hidden)]
    fn __shape() -> u64;
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Deeper than that nobody weighs.
const LEVELS_WEIGHED: u32 = 1000;

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Storable for T {
    const STORES_BYTES: bool = true;

    fn weight(&self) -> u32 {
        let inside = Measure::of(self, LEVELS_WEIGHED, false).map_or(0, |measure| measure.bytes);
        weight(inside.max(size_of::<Self>()))
    }

    fn __write(&self, payloads: &Payloads, out: &mut Vec<u8>) -> Result<(), Error> {
        payloads.write(self, out)
    }

    fn __read(payloads: &Payloads, bytes: &[u8]) -> Result<Self, Undecodable> {
        payloads.read(bytes)
    }

    fn __shape() -> u64 {
        shape::of::<Self>()
    }
}

/// A value that stays in this process: any type will do, serde need not know it.
///
/// Only stores that keep objects can have it, and codecs made for this very type by
/// [`Codec::from_fns`](super::Codec::from_fns). Elsewhere it is an error of the kind
/// [`WrongType`](crate::ErrorKind::WrongType), before anything is made.
///
/// ```
/// use dogpile::codec::InMemory;
///
/// let value = InMemory(std::num::NonZeroU8::new(7));
/// assert!(value.is_some());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InMemory<T>(pub T);

impl<T> Deref for InMemory<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Send + Sync + 'static> Storable for InMemory<T> {
    const STORES_BYTES: bool = false;

    fn weight(&self) -> u32 {
        weight(size_of::<Self>())
    }

    fn __write(&self, payloads: &Payloads, out: &mut Vec<u8>) -> Result<(), Error> {
        payloads.write_any(self, out)
    }

    fn __read(payloads: &Payloads, bytes: &[u8]) -> Result<Self, Undecodable> {
        payloads.read_any(bytes)
    }

    fn __shape() -> u64 {
        shape::named(type_name::<Self>(), size_of::<Self>())
    }
}
