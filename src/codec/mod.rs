//! Codecs: how a region's values become bytes, and bytes values.
//!
//! A codec is a format (`json`, `msgpack`, `postcard`, `noop`, or one's own), compressions after it, and an envelope around
//! the whole. [`guide::codecs`](crate::guide::codecs) is the chapter on choosing; [`guide::envelope`](crate::guide::envelope)
//! has our envelope byte by byte.
//!
//! What can't be read is never an error to the caller of a region, and never a panic: it is a miss, counted, and made anew.
//! [`Undecodable`] lists why.
#![forbid(unsafe_code)]

mod envelope;
mod format;
mod from_url;
mod limited;
mod limits;
mod measure;
mod noop;
mod payload;
mod shape;
mod steps;
mod storable;
#[cfg(test)]
mod tests;

pub use format::{BoxError, Format, Slot, Value};
pub use limits::Limits;
pub use storable::{InMemory, Storable};

use crate::error::{Error, ErrorKind};
use crate::sync::Arc;
use payload::{Functions, Kind, Payloads};
use shape::Fnv;
use std::any::type_name;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;
use steps::Step;

/// What stands around a value's bytes in a store.
///
/// ```
/// use dogpile::codec::Envelope;
/// assert_eq!(Envelope::default(), Envelope::Own);
/// assert_eq!(Envelope::Dogpile.to_string(), "dogpile");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Envelope {
    /// Ours: times, tags, the type's fingerprint, the key's hash, a checksum. What is not what was asked for is a miss.
    #[default]
    Own,
    /// That of dogpile.cache, for sharing keys with Python: the time of creation, and the version 2. Types are not told
    /// apart; entries have neither tags nor times to live of their own.
    Dogpile,
    /// None, as cachetory has it: the value's bytes and nothing else. Types are not told apart, and nothing is known of an
    /// entry's age: the store ends it when it is no longer fresh, so it is never served stale.
    Plain,
}

impl fmt::Display for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "own",
            Self::Dogpile => "dogpile",
            Self::Plain => "plain",
        })
    }
}

/// Why stored bytes are not the value that was asked for. Each is a miss.
///
/// ```
/// use dogpile::codec::Undecodable;
/// assert_eq!(Undecodable::Checksum.to_string(), "its checksum is wrong");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Undecodable {
    /// They are no envelope, or no value of that type.
    Malformed,
    /// Another version of the envelope.
    Version,
    /// A value of another type, or of a type that has changed since.
    Schema,
    /// Another codec's format.
    Format,
    /// Another key's entry.
    Key,
    /// The checksum is wrong.
    Checksum,
    /// More bytes than [`Limits::max_bytes`], [`max_decompressed`](Limits::max_decompressed) or
    /// [`max_memory`](Limits::max_memory) allow.
    TooLarge,
    /// More levels than [`Limits::max_depth`] allows.
    TooDeep,
    /// More elements than [`Limits::max_elements`] allows.
    TooMany,
    /// The codec has no way to make such a value.
    Type,
    /// The value's own code panicked.
    Panicked,
}

impl Undecodable {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Malformed => "it is malformed",
            Self::Version => "its envelope has another version",
            Self::Schema => "it is of another type, or of another version of the type",
            Self::Format => "it was written by another codec",
            Self::Key => "it belongs to another key",
            Self::Checksum => "its checksum is wrong",
            Self::TooLarge => "it is larger than the limits allow",
            Self::TooDeep => "it is nested deeper than the limits allow",
            Self::TooMany => "it has more elements than the limits allow",
            Self::Type => "the codec can't make values of its type",
            Self::Panicked => "the code that reads it panicked",
        }
    }
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// What an entry carries beside its value. `None`: nobody said, or the envelope has no room for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Meta {
    /// When the value was made, in nanoseconds of the wall clock since 1970.
    pub(crate) created: Option<u64>,
    /// The time, the same way, from which its creator started: invalidations since then concern it. In the envelope of
    /// dogpile.cache it is the time of creation.
    pub(crate) epoch: Option<u64>,
    /// A time to live of its own.
    pub(crate) ttl: Option<Duration>,
    /// Thousandths of its time to live that are cut off.
    pub(crate) cut: u16,
    /// How long it took to make.
    pub(crate) cost: Option<Duration>,
    pub(crate) tags: Vec<String>,
}

/// How values become bytes, and bytes values: a format, compressions, an envelope. Cheap to clone.
///
/// The default is `postcard` in our own envelope.
///
/// ```
/// use dogpile::codec::Codec;
///
/// let codec = Codec::json().zstd(3)?.threshold(1024);
/// assert_eq!(format!("{codec:?}"), "Codec(json+zstd, envelope own)");
/// assert_eq!(format!("{:?}", Codec::from_url("json+zstd://?threshold=1024")?), format!("{codec:?}"));
/// # Ok::<(), dogpile::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Codec {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    payloads: Payloads,
    steps: Vec<Step>,
    /// Less than this is not compressed.
    threshold: usize,
    envelope: Envelope,
    schema: u32,
}

impl Codec {
    fn of(kind: Kind) -> Self {
        Self::from(Inner {
            payloads: Payloads { kind, limits: Limits::new() },
            steps: Vec::new(),
            threshold: 0,
            envelope: Envelope::Own,
            schema: 0,
        })
    }

    fn from(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    fn with(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::try_unwrap(self.inner).unwrap_or_else(|shared| (*shared).clone());
        change(&mut inner);
        Self::from(inner)
    }

    /// JSON, for people and for other languages.
    ///
    /// Numbers that are not finite become `null`, and maps need keys that JSON has as text.
    ///
    /// ```
    /// # use dogpile::codec::Codec;
    /// assert_eq!(format!("{:?}", Codec::json()), "Codec(json, envelope own)");
    /// ```
    pub fn json() -> Self {
        Self::of(Kind::Json)
    }

    /// MessagePack, with the names of fields: for other languages, in fewer bytes.
    ///
    /// ```
    /// # use dogpile::codec::Codec;
    /// assert_eq!(format!("{:?}", Codec::msgpack()), "Codec(msgpack, envelope own)");
    /// ```
    pub fn msgpack() -> Self {
        Self::of(Kind::Msgpack)
    }

    /// postcard: the fewest bytes, and no names in them. For Rust only, and not for types that must look at the bytes to
    /// know what they are (`serde_json::Value`, untagged enums). The default.
    ///
    /// ```
    /// # use dogpile::codec::Codec;
    /// assert_eq!(format!("{:?}", Codec::postcard()), "Codec(postcard, envelope own)");
    /// assert_eq!(format!("{:?}", Codec::default()), "Codec(postcard, envelope own)");
    /// ```
    pub fn postcard() -> Self {
        Self::of(Kind::Postcard)
    }

    /// The value's own bytes: for `Vec<u8>`, `Box<[u8]>`, `String` and what serde has as text or bytes. Other values are
    /// errors when they are written.
    ///
    /// ```
    /// # use dogpile::codec::Codec;
    /// assert_eq!(format!("{:?}", Codec::noop()), "Codec(noop, envelope own)");
    /// ```
    pub fn noop() -> Self {
        Self::of(Kind::Noop)
    }

    /// Two functions, for values of one type: serde need not know it, if it comes in an [`InMemory`]. A region with this
    /// codec and a store of bytes refuses other types before it makes anything.
    ///
    /// ```
    /// use dogpile::codec::{Codec, InMemory};
    /// use std::net::Ipv4Addr;
    ///
    /// let codec = Codec::from_fns(
    ///     |address: &InMemory<Ipv4Addr>| Ok(address.octets().to_vec()),
    ///     |bytes| <[u8; 4]>::try_from(bytes).map(|octets| InMemory(Ipv4Addr::from(octets))),
    /// );
    /// assert_eq!(format!("{codec:?}"), "Codec(functions, envelope own)");
    /// ```
    pub fn from_fns<T, E>(
        serialize: impl Fn(&T) -> Result<Vec<u8>, E> + Send + Sync + 'static,
        deserialize: impl Fn(&[u8]) -> Result<T, E> + Send + Sync + 'static,
    ) -> Self
    where
        T: Send + Sync + 'static,
        E: Into<BoxError>,
    {
        Self::of(Kind::Functions(Functions::new(serialize, deserialize)))
    }

    /// A format of one's own: see [`Format`].
    pub fn own(format: impl Format + 'static) -> Self {
        Self::of(Kind::Own(Arc::new(format)))
    }

    fn step(self, step: Step) -> Result<Self, Error> {
        if self.inner.steps.len() == envelope::MOST_STEPS {
            return Err(config("codec", "an entry has room for 4 compressions: drop one"));
        }
        Ok(self.with(|inner| inner.steps.push(step)))
    }

    /// Compressed by zlib, with a level from 0 to 9. cachetory's level is 6.
    ///
    /// # Errors
    /// Of the kind [`Config`](ErrorKind::Config), if the level is out of range or it is the fifth compression.
    ///
    /// ```
    /// # use dogpile::codec::Codec;
    /// assert_eq!(format!("{:?}", Codec::json().zlib(6)?), "Codec(json+zlib, envelope own)");
    /// assert_eq!(
    ///     Codec::json().zlib(10).unwrap_err().to_string(),
    ///     "codec zlib: bad configuration: the level is out of range: it must be between 0 and 9",
    /// );
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    pub fn zlib(self, level: u32) -> Result<Self, Error> {
        if level > 9 {
            return Err(config("codec zlib", "the level is out of range: it must be between 0 and 9"));
        }
        self.step(Step::Zlib(level))
    }

    /// Compressed by zstd, with a level up to 22; 0 is its default, 3.
    ///
    /// # Errors
    /// Of the kind [`Config`](ErrorKind::Config), if the level is out of range or it is the fifth compression.
    ///
    /// ```
    /// # use dogpile::codec::Codec;
    /// assert_eq!(format!("{:?}", Codec::postcard().zstd(3)?), "Codec(postcard+zstd, envelope own)");
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    pub fn zstd(self, level: i32) -> Result<Self, Error> {
        if !zstd::compression_level_range().contains(&level) {
            return Err(config("codec zstd", "the level is out of range: it must be between -131072 and 22"));
        }
        self.step(Step::Zstd(level))
    }

    /// Compressed by lz4: little work, little gain.
    ///
    /// # Errors
    /// Of the kind [`Config`](ErrorKind::Config), if it is the fifth compression.
    ///
    /// ```
    /// # use dogpile::codec::Codec;
    /// assert_eq!(format!("{:?}", Codec::postcard().lz4()?), "Codec(postcard+lz4, envelope own)");
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    pub fn lz4(self) -> Result<Self, Error> {
        self.step(Step::Lz4)
    }

    /// Compresses what has at least so many bytes. Default: 0. In our own envelope; in others all is compressed, since
    /// their readers could not tell.
    ///
    /// Our envelope says of each entry how it was compressed, and what does not become smaller stays as it is. So
    /// compressions and thresholds may change without any entry being lost.
    ///
    /// ```
    /// # use dogpile::codec::{Codec, Envelope, Limits};
    /// let codec = Codec::json().zstd(3)?.threshold(1024);
    /// assert_eq!(format!("{codec:?}"), "Codec(json+zstd, envelope own)");
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    pub fn threshold(self, bytes: usize) -> Self {
        self.with(|inner| inner.threshold = bytes)
    }

    /// With another envelope.
    ///
    /// ```
    /// # use dogpile::codec::{Codec, Envelope, Limits};
    /// let codec = Codec::json().envelope(Envelope::Dogpile);
    /// assert_eq!(format!("{codec:?}"), "Codec(json, envelope dogpile)");
    /// ```
    pub fn envelope(self, envelope: Envelope) -> Self {
        self.with(|inner| inner.envelope = envelope)
    }

    /// With other limits.
    ///
    /// ```
    /// # use dogpile::codec::{Codec, Envelope, Limits};
    /// let codec = Codec::json().limits(Limits::new().max_bytes(1 << 20));
    /// assert_eq!(format!("{codec:?}"), "Codec(json, envelope own)");
    /// ```
    pub fn limits(self, limits: Limits) -> Self {
        self.with(|inner| inner.payloads.limits = limits)
    }

    /// With a version of the stored types, for changes that serde does not see: a field that now means something else.
    /// Entries of other versions are misses. In our own envelope only.
    ///
    /// ```
    /// # use dogpile::codec::{Codec, Envelope, Limits};
    /// // `price` is in cents now, and was in euros.
    /// let codec = Codec::json().schema(2);
    /// assert_eq!(format!("{codec:?}"), "Codec(json, envelope own)");
    /// ```
    pub fn schema(self, version: u32) -> Self {
        self.with(|inner| inner.schema = version)
    }

    /// What stands around its bytes.
    pub(crate) fn has_envelope(&self) -> Envelope {
        self.inner.envelope
    }

    /// Whether it can write values of `T`.
    pub(crate) fn takes<T: Storable>(&self) -> Result<(), Error> {
        self.inner.payloads.takes::<T>(T::STORES_BYTES)
    }

    fn fingerprint<T: Storable>(&self) -> u64 {
        Fnv::new()
            .number(T::__shape())
            .text(self.inner.payloads.kind.name())
            .number(self.inner.schema.into())
            .finish()
    }

    /// An entry of `key`'s.
    pub(crate) fn encode<T: Storable>(&self, key: &str, meta: &Meta, value: &T) -> Result<Vec<u8>, Error> {
        let Inner { payloads, steps, threshold, envelope, .. } = &*self.inner;
        let limits = &payloads.limits;
        let own = *envelope == Envelope::Own;
        let mut out = Vec::new();
        envelope::begin(self, key, if own { self.fingerprint::<T>() } else { 0 }, meta, &mut out)?;
        let start = out.len();
        value.__write(payloads, &mut out)?;
        let mut taken = 0;
        let mut shift = 0;
        for step in steps {
            let plain = out.len() - start;
            if plain > limits.max_decompressed {
                return Err(too_large::<T>("max_decompressed", limits.max_decompressed));
            }
            if own && plain < *threshold {
                continue;
            }
            let compressed = step.compress(&out[start..]).map_err(|error| {
                Error::new(ErrorKind::Encode, format!("codec {}", step.name())).because(error)
            })?;
            if own && compressed.len() >= plain {
                continue;
            }
            out.truncate(start);
            out.extend_from_slice(&compressed);
            taken |= step.tag() << shift;
            shift += 4;
        }
        if out.len() > limits.max_bytes {
            return Err(too_large::<T>("max_bytes", limits.max_bytes));
        }
        envelope::end(self, taken, &mut out);
        Ok(out)
    }

    /// The value of an entry that is said to be `key`'s.
    pub(crate) fn decode<T: Storable>(&self, key: &str, bytes: &[u8]) -> Result<(Meta, T), Undecodable> {
        let payloads = &self.inner.payloads;
        let parts = envelope::open(self, key, bytes)?;
        if parts.fingerprint.is_some_and(|fingerprint| fingerprint != self.fingerprint::<T>()) {
            return Err(Undecodable::Schema);
        }
        let payload = self.decompressed(&parts)?;
        Ok((parts.meta, T::__read(payloads, &payload)?))
    }

    /// The format's bytes of an entry.
    fn decompressed<'a>(&self, parts: &envelope::Parts<'a>) -> Result<Cow<'a, [u8]>, Undecodable> {
        let Inner { payloads, steps, .. } = &*self.inner;
        let mut payload = Cow::Borrowed(parts.payload);
        let mut back = |step: Step| {
            payload = Cow::Owned(step.decompress(&payload, payloads.limits.max_decompressed)?);
            Ok(())
        };
        match parts.steps {
            None => steps.iter().rev().try_for_each(|step| back(*step))?,
            Some(mut taken) => {
                // The last one taken stands highest.
                for shift in [12, 8, 4, 0] {
                    let tag = taken >> shift;
                    taken &= !(0xf << shift);
                    if tag != 0 {
                        back(Step::tagged(tag).ok_or(Undecodable::Malformed)?)?;
                    }
                }
            }
        }
        Ok(payload)
    }

    /// A value as its format has it, of whatever type.
    pub(crate) fn decode_payload(&self, key: &str, bytes: &[u8]) -> Result<Vec<u8>, Undecodable> {
        let parts = envelope::open(self, key, bytes)?;
        Ok(self.decompressed(&parts)?.into_owned())
    }

    /// The same entry with other metadata. `None`: its envelope has no room for it, or can't be read.
    pub(crate) fn redate(&self, key: &str, bytes: &[u8], meta: &Meta) -> Option<Vec<u8>> {
        if self.inner.envelope != Envelope::Own {
            return None;
        }
        let parts = envelope::open(self, key, bytes).ok()?;
        let mut out = Vec::with_capacity(bytes.len() + 16);
        envelope::begin(self, key, parts.fingerprint?, meta, &mut out).ok()?;
        out.extend_from_slice(parts.payload);
        envelope::end(self, parts.steps?, &mut out);
        Some(out)
    }

    /// What an entry carries beside its value, which is not looked at.
    pub(crate) fn decode_meta(&self, key: &str, bytes: &[u8]) -> Result<Meta, Undecodable> {
        envelope::open(self, key, bytes).map(|parts| parts.meta)
    }
}

fn config(operation: &'static str, detail: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, operation).detail(detail)
}

fn too_large<T>(limit: &str, bytes: usize) -> Error {
    Error::new(ErrorKind::Encode, "codec encode").detail(format!(
        "{} is larger than {limit} allows, which is {bytes} bytes: raise it, or store smaller values",
        type_name::<T>()
    ))
}

impl Default for Codec {
    fn default() -> Self {
        Self::postcard()
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { payloads, steps, envelope, .. } = &*self.inner;
        write!(f, "Codec({}", payloads.kind.name())?;
        for step in steps {
            write!(f, "+{}", step.name())?;
        }
        write!(f, ", envelope {envelope})")
    }
}

/// For the fuzzer, and for tests: entries without a region.
#[cfg(any(test, fuzzing))]
#[allow(unreachable_pub, missing_docs, reason = "only the fuzzer comes from outside")]
pub mod door {
    use super::{Codec, Error, Meta, Storable, Undecodable, envelope};

    pub fn encode<T: Storable>(codec: &Codec, key: &str, value: &T) -> Result<Vec<u8>, Error> {
        codec.encode(key, &Meta::default(), value)
    }

    pub fn decode<T: Storable>(codec: &Codec, key: &str, bytes: &[u8]) -> Result<T, Undecodable> {
        codec.decode(key, bytes).map(|(_, value)| value)
    }

    /// An entry that says it is a `T`, compressed by all of the codec's steps, whatever its payload is.
    pub fn forge<T: Storable>(codec: &Codec, key: &str, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        envelope::begin(codec, key, codec.fingerprint::<T>(), &Meta::default(), &mut out)
            .expect("no metadata have room");
        out.extend_from_slice(payload);
        let steps = codec.inner.steps.iter().rev().fold(0, |steps, step| steps << 4 | step.tag());
        envelope::end(codec, steps, &mut out);
        out
    }
}
