//! What a type looks like to serde, as one number.
#![forbid(unsafe_code)]

use serde::de::DeserializeOwned;
use std::any::type_name;

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
    named(type_name::<T>(), size_of::<T>())
}
