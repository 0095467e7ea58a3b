//! What tiers tell each other: which keys were written.
//!
//! ```text
//! version 1: u8 · origin: u64 LE · kind: u8 (0 keys, 1 a prefix) · texts, each: length u32 LE, UTF-8
//! ```
#![forbid(unsafe_code)]

const VERSION: u8 = 1;

/// What was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What<'a> {
    Keys(Vec<&'a str>),
    /// All keys that begin so.
    Prefix(&'a str),
}

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    /// Who tells.
    pub(super) origin: u64,
    pub(super) what: What<'a>,
}

impl<'a> Message<'a> {
    pub(super) fn write(&self) -> Vec<u8> {
        let (kind, texts) = match &self.what {
            What::Keys(keys) => (0, &keys[..]),
            What::Prefix(prefix) => (1, std::slice::from_ref(prefix)),
        };
        let mut bytes = vec![VERSION];
        bytes.extend(self.origin.to_le_bytes());
        bytes.push(kind);
        for text in texts {
            // No store takes a key of 4 GiB.
            bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes
    }

    /// `None`: it is none, or of another version.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (&version, bytes) = bytes.split_first()?;
        let (origin, bytes) = bytes.split_first_chunk()?;
        let (&kind, mut bytes) = bytes.split_first()?;
        let mut texts = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_first_chunk()?;
            let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            texts.push(std::str::from_utf8(text).ok()?);
            bytes = rest;
        }
        let what = match (version, kind, &texts[..]) {
            (VERSION, 0, _) => What::Keys(texts),
            (VERSION, 1, [prefix]) => What::Prefix(prefix),
            _ => return None,
        };
        Some(Self { origin: u64::from_le_bytes(*origin), what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_heard() {
        for what in
            [|| What::Keys(vec!["a", "", "key\0\r\nä"]), || What::Keys(Vec::new()), || What::Prefix("p:")]
        {
            let bytes = Message { origin: 7, what: what() }.write();
            assert_eq!(Message::read(&bytes), Some(Message { origin: 7, what: what() }));
        }
    }

    #[test]
    fn what_is_broken_is_no_message() {
        let whole = Message { origin: 7, what: What::Keys(vec!["one", "two"]) }.write();
        // Cut between two texts it is a message, of fewer keys: the transport keeps messages whole.
        let between = [10, 17];
        for length in (0..whole.len()).filter(|length| !between.contains(length)) {
            assert_eq!(Message::read(&whole[..length]), None, "cut at {length}");
        }
        let with = |i: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[i] = byte;
            bytes
        };
        assert_eq!(Message::read(&with(0, 2)), None, "another version");
        assert_eq!(Message::read(&with(9, 2)), None, "another kind");
        assert_eq!(Message::read(&with(9, 1)), None, "two prefixes");
        assert_eq!(Message::read(&with(13, 0xFF)), None, "a length of 4 GiB");
        assert_eq!(Message::read(&with(14, 0xFF)), None, "no UTF-8");
    }
}
