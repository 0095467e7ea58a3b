//! [`Mangler`]: what a region makes of a key before a store gets it.
#![forbid(unsafe_code)]

use crate::sync::Arc;
use sha1::{Digest, Sha1};
use std::borrow::Cow;
use std::fmt;

/// What a region makes of each key before the store gets it.
///
/// ```
/// use dogpile::region::Mangler;
///
/// // Keys of 200 characters and more by their hash, the others as they are.
/// let mangler = Mangler::long_keys(200, Mangler::sha1());
/// assert_eq!(mangler.mangle("short"), "short");
/// assert_eq!(mangler.mangle(&"long".repeat(100)).len(), 40);
///
/// let lower = Mangler::from_fn(|key| key.to_lowercase());
/// assert_eq!(lower.mangle("KEY"), "key");
/// ```
#[derive(Clone, Default)]
pub struct Mangler(Kind);

#[derive(Clone, Default)]
enum Kind {
    #[default]
    None,
    Sha1,
    LongKeys(usize, Arc<Mangler>),
    Own(Arc<dyn Fn(&str) -> String + Send + Sync>),
}

impl Mangler {
    /// Leaves keys as they are, and so does the backend of a region that has this one.
    #[must_use]
    pub const fn none() -> Self {
        Self(Kind::None)
    }

    /// The SHA-1 of each key: 40 hexadecimal digits, by [`sha1_mangle_key`].
    #[must_use]
    pub const fn sha1() -> Self {
        Self(Kind::Sha1)
    }

    /// Mangles keys of `length` characters and more, and leaves the others as they are: dogpile.cache's
    /// `length_conditional_mangler`. Like Python it counts characters, not bytes.
    #[must_use]
    pub fn long_keys(length: usize, mangler: Self) -> Self {
        Self(Kind::LongKeys(length, Arc::new(mangler)))
    }

    /// One of your own. Two keys that it makes the same are the same key.
    #[must_use]
    pub fn from_fn(mangle: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self(Kind::Own(Arc::new(mangle)))
    }

    pub(crate) fn is_none(&self) -> bool {
        matches!(self.0, Kind::None)
    }

    /// What the store gets in the key's place.
    #[must_use]
    pub fn mangle<'a>(&self, key: &'a str) -> Cow<'a, str> {
        match &self.0 {
            Kind::None => Cow::Borrowed(key),
            Kind::Sha1 => Cow::Owned(sha1_mangle_key(key)),
            Kind::LongKeys(length, mangler) if has_chars(key, *length) => mangler.mangle(key),
            Kind::LongKeys(..) => Cow::Borrowed(key),
            Kind::Own(mangle) => Cow::Owned(mangle(key)),
        }
    }
}

/// Whether a key has so many characters. Most have fewer bytes already.
fn has_chars(key: &str, length: usize) -> bool {
    key.len() >= length && key.chars().count() >= length
}

impl fmt::Debug for Mangler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::None => f.write_str("none"),
            Kind::Sha1 => f.write_str("sha1"),
            Kind::LongKeys(length, mangler) => write!(f, "long_keys({length}, {mangler:?})"),
            Kind::Own(_) => f.write_str("own"),
        }
    }
}

/// The SHA-1 of a key as hexadecimal digits, as dogpile.cache's `sha1_mangle_key` has it.
///
/// ```
/// use dogpile::region::sha1_mangle_key;
/// assert_eq!(sha1_mangle_key("key"), "a62f2225bf70bfaccbc7f1ef2a397836717377de");
/// ```
#[must_use]
pub fn sha1_mangle_key(key: &str) -> String {
    let mut out = String::with_capacity(40);
    hex(&mut out, &Sha1::digest(key.as_bytes()));
    out
}

/// A mangling function that gives keys of `length` characters and more to `mangle`, as dogpile.cache's of this name. For a
/// region: [`Mangler::long_keys`].
///
/// ```
/// use dogpile::region::{length_conditional_mangler, sha1_mangle_key};
///
/// let mangle = length_conditional_mangler(4, sha1_mangle_key);
/// assert_eq!(mangle("key"), "key");
/// assert_eq!(mangle("keys").len(), 40);
/// ```
pub fn length_conditional_mangler(length: usize, mangle: impl Fn(&str) -> String) -> impl Fn(&str) -> String {
    move |key| if has_chars(key, length) { mangle(key) } else { key.to_owned() }
}

pub(super) fn hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            out.push(char::from(DIGITS[usize::from(digit)]));
        }
    }
}
