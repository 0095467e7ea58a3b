//! Keys as memcached may have them.
//!
//! The server takes 1 to 250 bytes without blanks and control characters; what else is sent is taken for the next command.
//! So whatever is not printable ASCII of such a length is replaced, always, before it comes near a connection:
//!
//! ```text
//! a key that can stay as it is     itself
//! any other                        dpl:#<BLAKE2s of it, 64 hexadecimal digits>
//! the lock of a key, our layout    dpl:!<the key as above>, or dpl:?<its BLAKE2s> where that is too long
//! the lock of a key, with Python   _lock<the key as above>, as it is or replaced as a key is
//! ```
//!
//! # Invariants
//! - **K1, nothing is sent raw.** All that these functions return is 1 to 250 bytes of printable ASCII without a blank.
//! - **K2, no collisions.** What begins with `dpl:` can't stay as it is, so no key of a user's is a lock, or another's
//!   replacement; two keys have one replacement if BLAKE2s has a collision, of which none is known. Our envelope tells even
//!   those apart, by a hash of its own.
#![forbid(unsafe_code)]

use blake2::{Blake2s256, Digest};
use std::borrow::Cow;
use std::fmt::Write as _;

/// The server's limit.
const MOST_BYTES: usize = 250;

/// What only our own keys begin with.
const RESERVED: &str = "dpl:";

fn hashed(begin: &str, key: &str) -> String {
    let mut wire = String::with_capacity(begin.len() + 64);
    wire.push_str(begin);
    for byte in Blake2s256::digest(key.as_bytes()) {
        // Writing to a `String` can't fail.
        let _ = write!(wire, "{byte:02x}");
    }
    wire
}

/// A key as the server gets it.
pub(super) fn wire(key: &str) -> Cow<'_, str> {
    let is_fit = (1..=MOST_BYTES).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic())
        && !key.starts_with(RESERVED);
    if is_fit { Cow::Borrowed(key) } else { Cow::Owned(hashed("dpl:#", key)) }
}

/// The lock of a key that the server has as `wire`.
pub(super) fn own_lock(wire: &str) -> String {
    let lock = format!("dpl:!{wire}");
    if lock.len() <= MOST_BYTES { lock } else { hashed("dpl:?", wire) }
}

/// The same, as dogpile.cache has it.
pub(super) fn dogpile_lock(wire_key: &str) -> String {
    let lock = format!("_lock{wire_key}");
    wire(&lock).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn what_can_stay_stays() {
        for key in ["a", "~", "user:7", "!", &"k".repeat(250), "dpl", "_lock"] {
            assert_eq!(wire(key), key);
        }
        assert_eq!(own_lock("a"), "dpl:!a");
        assert_eq!(dogpile_lock("a"), "_locka");
    }

    /// Each of 10^5 keys is fit to be sent, and no two are the same, nor is one a lock.
    #[test]
    fn no_key_is_sent_raw_or_is_anothers() {
        let mut keys: HashSet<String> = HashSet::new();
        for byte in 0..=255_u8 {
            let one = char::from(byte).to_string();
            for around in [("", ""), ("a", ""), ("", "a"), ("a", "b")] {
                keys.insert(format!("{}{one}{}", around.0, around.1));
            }
        }
        for length in [248, 249, 250, 251, 252, 10_000] {
            keys.extend(["k", "é", " ", "\r\n"].map(|part| part.repeat(length)));
        }
        keys.extend(
            ["", "a\r\nset b 0 0 1\r\nc", "a 0 0 1\r\nb", "dpl:", "dpl:#", "dpl:!a", "dpl:?a"]
                .map(String::from),
        );
        // Replacements and locks are keys, too.
        let made: Vec<String> =
            keys.iter().flat_map(|key| [wire(key).into_owned(), own_lock(&wire(key))]).collect();
        keys.extend(made);
        let mut number = 0_u64;
        while keys.len() < 100_000 {
            keys.insert(format!("user {number}\r\nget {}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
            number += 1;
        }
        let mut wires = HashSet::new();
        for key in &keys {
            let (key, lock, dogpile) = (wire(key), own_lock(&wire(key)), dogpile_lock(&wire(key)));
            for wire in [&*key, &lock, &dogpile] {
                let is_fit =
                    (1..=250).contains(&wire.len()) && wire.bytes().all(|byte| byte.is_ascii_graphic());
                assert!(is_fit, "{wire:?}");
            }
            assert!(wires.insert(lock), "a lock is another's");
            assert!(wires.insert(key.into_owned()), "a key is another's, or a lock");
        }
        assert_eq!(wires.len(), 2 * keys.len());
    }
}
