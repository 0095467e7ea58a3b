//! A user's own format.
#![forbid(unsafe_code)]

use serde::{Deserializer, Serialize, Serializer};
use std::fmt;

/// What a format of one's own may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A format of one's own, for values of any serde type. [`Codec::own`](super::Codec::own) takes it.
///
/// ```
/// use dogpile::codec::{BoxError, Codec, Format, Slot, Value};
///
/// /// JSON with line breaks.
/// struct Pretty;
///
/// impl Format for Pretty {
///     fn name(&self) -> &'static str {
///         "pretty"
///     }
///     fn encode(&self, value: &Value<'_>) -> Result<Vec<u8>, BoxError> {
///         Ok(serde_json::to_vec_pretty(value)?)
///     }
///     fn decode(&self, bytes: &[u8], slot: Slot<'_>) -> Result<(), BoxError> {
///         let mut json = serde_json::Deserializer::from_slice(bytes);
///         slot.fill(&mut json)?;
///         Ok(json.end()?)
///     }
/// }
///
/// let codec = Codec::own(Pretty);
/// assert_eq!(format!("{codec:?}"), "Codec(pretty, envelope own)");
/// ```
pub trait Format: Send + Sync {
    /// What it is called, in messages and in the entries: another name is another format.
    fn name(&self) -> &'static str;

    /// Makes bytes of a value, which is one of serde's.
    ///
    /// # Errors
    /// Whatever goes wrong; it is the cause of the error that the region's caller gets.
    fn encode(&self, value: &Value<'_>) -> Result<Vec<u8>, BoxError>;

    /// Makes a value of bytes, by giving a deserializer to the slot. Bytes that are left over are an error, if they are any.
    ///
    /// # Errors
    /// Whatever goes wrong; the entry counts as missing then.
    fn decode(&self, bytes: &[u8], slot: Slot<'_>) -> Result<(), BoxError>;
}

/// A value that is to be written: of any type, as serde has it. [`Format`] has an example.
pub struct Value<'a>(pub(super) &'a dyn erased_serde::Serialize);

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// The value is not shown.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value")
    }
}

pub(super) type Fill<'a> =
    dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), erased_serde::Error> + 'a;

/// Where a value that was read goes. [`Format`] has an example.
pub struct Slot<'a>(pub(super) &'a mut Fill<'a>);

impl Slot<'_> {
    /// Reads the value.
    ///
    /// # Errors
    /// If the bytes are no such value, or are beyond the codec's [`Limits`](super::Limits).
    pub fn fill<'de, D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let mut erased = <dyn erased_serde::Deserializer<'de>>::erase(deserializer);
        (self.0)(&mut erased).map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for Slot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}
