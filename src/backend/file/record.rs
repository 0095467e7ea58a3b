//! One entry as the bytes of one file.
//!
//! ```text
//!  0  magic        8   89 "dpfile" 0a
//!  8  version      1   1
//!  9  kind         1   0: a value, 1: a deletion (no value)
//! 10  nothing      2   0
//! 12  key          4   its length
//! 16  value        8   its length
//! 24  deadline     8   nanoseconds since 1970, all ones: none
//! 32  written      8   nanoseconds since 1970
//! 40  nonce       16   which write it was
//! 56  sum of value 4   CRC-32
//! 60  sum of head  4   CRC-32 of the 60 bytes before, and of the key
//! 64  key, then value, then nothing
//! ```
//! Numbers are little-endian.
//!
//! # Invariants
//! - **F1, nothing but what was written.** A value is given back only if all lengths, both sums and the key are right. Since
//!   the head's sum is over the value's sum, any change is found as surely as a CRC-32 finds one.
//! - **F2, lengths are looked at first.** Nothing is allocated for a length that the file does not have, or beyond
//!   [`MOST_VALUE`].
//!
//! # Cost
//! An entry of up to 4 KiB is read in one go; of a larger one the rest in a second, straight to where it stays.
#![forbid(unsafe_code)]

use crate::sync::Arc;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const MAGIC: [u8; 8] = *b"\x89dpfile\n";
const VERSION: u8 = 1;
pub(super) const HEAD: usize = 64;
/// What is read first.
const FRONT: u64 = 4096;
/// Longer keys are refused.
pub(super) const MOST_KEY: usize = 1 << 24;
/// Longer values are refused.
pub(super) const MOST_VALUE: u64 = 1 << 30;
const NO_DEADLINE: u64 = u64::MAX;

/// Which write a record is of: no two are the same.
pub(super) type Nonce = [u8; 16];

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Value,
    /// The key was deleted while somebody made a value for it.
    Deletion,
}

/// What stands before key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    /// By the time of day, in nanoseconds.
    pub(super) deadline: Option<u64>,
    pub(super) written: u64,
    pub(super) nonce: Nonce,
    key: u32,
    value: u64,
    sum: u32,
}

impl Head {
    /// Whether there is a value, at that time of day.
    ///
    /// One that was written in the future by more than its whole time to live is over: its clock was put back, and nobody
    /// can tell for how long it would stay. So no clock makes an entry stay for more than twice its time.
    pub(super) fn is_live(&self, now: u64) -> bool {
        let is_in_time = |deadline: u64| {
            now < deadline && self.written.saturating_sub(now) <= deadline.saturating_sub(self.written)
        };
        self.kind == Kind::Value && self.deadline.is_none_or(is_in_time)
    }
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    Magic,
    Version(u8),
    Length,
    Checksum,
    TooLarge,
}

impl Damage {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Magic => "it is no entry of this store",
            Self::Version(_) => "another version of this library has written it",
            Self::Length => "it is cut off, or its lengths are wrong",
            Self::Checksum => "its bytes have changed since they were written",
            Self::TooLarge => "it is larger than entries may be",
        }
    }
}

/// Why a file can't be read.
#[derive(Debug)]
pub(super) enum Trouble {
    Damage(Damage),
    Io(io::Error),
}

impl From<Damage> for Trouble {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // It was longer when it was asked for its length.
            io::ErrorKind::UnexpectedEof => Self::Damage(Damage::Length),
            _ => Self::Io(error),
        }
    }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut number = [0; N];
    number.copy_from_slice(&bytes[at..at + N]);
    number
}

/// What a record is written with.
#[derive(Clone, Copy)]
pub(super) struct Draft<'a> {
    pub(super) key: &'a str,
    /// `None`: the key is deleted.
    pub(super) value: Option<&'a [u8]>,
    pub(super) deadline: Option<u64>,
    pub(super) written: u64,
    pub(super) nonce: Nonce,
}

impl Draft<'_> {
    /// All that stands before the value. Key and value are no longer than they may be.
    pub(super) fn front(&self) -> Vec<u8> {
        let value = self.value.unwrap_or_default();
        let mut front = Vec::with_capacity(HEAD + self.key.len());
        front.extend_from_slice(&MAGIC);
        front.extend_from_slice(&[VERSION, u8::from(self.value.is_none()), 0, 0]);
        front.extend_from_slice(&(self.key.len() as u32).to_le_bytes());
        front.extend_from_slice(&(value.len() as u64).to_le_bytes());
        front.extend_from_slice(&self.deadline.unwrap_or(NO_DEADLINE).to_le_bytes());
        front.extend_from_slice(&self.written.to_le_bytes());
        front.extend_from_slice(&self.nonce);
        front.extend_from_slice(&crc32fast::hash(value).to_le_bytes());
        let sum = sum_of_head(&front, self.key.as_bytes());
        front.extend_from_slice(&sum.to_le_bytes());
        front.extend_from_slice(self.key.as_bytes());
        front
    }
}

fn sum_of_head(head: &[u8], key: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&head[..HEAD - 4]);
    sum.update(key);
    sum.finalize()
}

/// An entry whose head and key have been read, and found good.
pub(super) struct Record<R> {
    pub(super) head: Head,
    front: Vec<u8>,
    source: R,
}

impl Record<File> {
    /// The one of a file. `None`: there is no file.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, Trouble> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Trouble::Io(error)),
        };
        let length = file.metadata()?.len();
        Self::read(file, length).map(Some)
    }
}

impl<R: Read> Record<R> {
    /// The one of a source of that many bytes.
    pub(super) fn read(mut source: R, length: u64) -> Result<Self, Trouble> {
        let mut front = vec![0; length.min(FRONT) as usize];
        source.read_exact(&mut front)?;
        let head = parse(&front, length)?;
        let end = HEAD + head.key as usize;
        if let Some(missing) = end.checked_sub(front.len()) {
            front.resize(front.len() + missing, 0);
            source.read_exact(&mut front[end - missing..])?;
        }
        let sum = u32::from_le_bytes(number(&front, HEAD - 4));
        if sum_of_head(&front, &front[HEAD..end]) != sum {
            return Err(Damage::Checksum.into());
        }
        Ok(Self { head, front, source })
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.front[HEAD..HEAD + self.head.key as usize]
    }

    /// Reads the value.
    pub(super) fn value(mut self) -> Result<Arc<[u8]>, Trouble> {
        let begun = &self.front[HEAD + self.head.key as usize..];
        let value = if begun.len() as u64 == self.head.value {
            Arc::from(begun)
        } else {
            let mut value: Arc<[u8]> = std::iter::repeat_n(0, self.head.value as usize).collect();
            let bytes = Arc::get_mut(&mut value).expect("nobody else has it yet");
            bytes[..begun.len()].copy_from_slice(begun);
            self.source.read_exact(&mut bytes[begun.len()..])?;
            value
        };
        if crc32fast::hash(&value) != self.head.sum {
            return Err(Damage::Checksum.into());
        }
        Ok(value)
    }
}

/// The head of a file of that length, of which these are the first bytes.
fn parse(front: &[u8], length: u64) -> Result<Head, Damage> {
    if front.len() < HEAD {
        return Err(Damage::Length);
    }
    if front[..8] != MAGIC {
        return Err(Damage::Magic);
    }
    if front[8] != VERSION {
        return Err(Damage::Version(front[8]));
    }
    let kind = match front[9..12] {
        [0, 0, 0] => Kind::Value,
        [1, 0, 0] => Kind::Deletion,
        _ => return Err(Damage::Checksum),
    };
    let key = u32::from_le_bytes(number(front, 12));
    let value = u64::from_le_bytes(number(front, 16));
    if key as usize > MOST_KEY || value > MOST_VALUE {
        return Err(Damage::TooLarge);
    }
    if HEAD as u64 + u64::from(key) + value != length {
        return Err(Damage::Length);
    }
    let deadline = u64::from_le_bytes(number(front, 24));
    Ok(Head {
        kind,
        deadline: (deadline != NO_DEADLINE).then_some(deadline),
        written: u64::from_le_bytes(number(front, 32)),
        nonce: number(front, 40),
        key,
        value,
        sum: u32::from_le_bytes(number(front, 56)),
    })
}

/// For the fuzzer: records without files.
#[cfg(fuzzing)]
#[allow(unreachable_pub, missing_docs, reason = "only the fuzzer comes from outside")]
pub mod door {
    use super::{Draft, HEAD, Kind, Record, number, sum_of_head};

    /// What a file of these bytes says, and the same written anew. `None`: it is damaged.
    pub fn read(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let record = Record::read(bytes, bytes.len() as u64).ok()?;
        let (head, key) = (record.head, record.key().to_vec());
        let value = record.value().ok()?;
        assert!(head.kind == Kind::Value || !head.is_live(0), "a deletion has no value");
        // Keys are written as texts, and read as they are.
        let text = String::from_utf8(key).ok()?;
        let value = value.to_vec();
        let draft = Draft {
            key: &text,
            value: (head.kind == Kind::Value).then_some(&*value),
            deadline: head.deadline,
            written: head.written,
            nonce: head.nonce,
        };
        let again = [&*draft.front(), &*value].concat();
        Some((value, again))
    }

    pub fn write(key: &str, value: Option<&[u8]>, nonce: [u8; 16], times: (Option<u64>, u64)) -> Vec<u8> {
        let draft = Draft { key, value, deadline: times.0, written: times.1, nonce };
        [&*draft.front(), value.unwrap_or_default()].concat()
    }

    /// The same bytes with sums that are right, if there is room for them.
    pub fn forge(mut bytes: Vec<u8>) -> Vec<u8> {
        if bytes.len() < HEAD {
            return bytes;
        }
        let key = u32::from_le_bytes(number(&bytes, 12)) as usize;
        let Some(end) = HEAD.checked_add(key).filter(|end| *end <= bytes.len()) else { return bytes };
        let sum = crc32fast::hash(&bytes[end..]);
        bytes[HEAD - 8..HEAD - 4].copy_from_slice(&sum.to_le_bytes());
        let sum = sum_of_head(&bytes, &bytes[HEAD..end]);
        bytes[HEAD - 4..HEAD].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(key: &str, value: Option<&[u8]>) -> Vec<u8> {
        let draft = Draft { key, value, deadline: Some(70), written: 50, nonce: [7; 16] };
        [&draft.front(), value.unwrap_or_default()].concat()
    }

    fn read(bytes: &[u8]) -> Result<(Head, Vec<u8>, Arc<[u8]>), Trouble> {
        let record = Record::read(bytes, bytes.len() as u64)?;
        let (head, key) = (record.head, record.key().to_vec());
        Ok((head, key, record.value()?))
    }

    #[test]
    fn what_was_written_is_read() {
        let long = vec![3; 10_000];
        for (key, value) in [("", &b""[..]), ("key", b"value"), ("k", &long), (&"k".repeat(9000), &long)] {
            let (head, found, back) = read(&bytes(key, Some(value))).unwrap();
            assert_eq!((head.kind, &*found, &*back), (Kind::Value, key.as_bytes(), value));
            assert_eq!((head.deadline, head.written, head.nonce), (Some(70), 50, [7; 16]));
        }
        let (head, key, value) = read(&bytes("key", None)).unwrap();
        assert_eq!((head.kind, &*key, &*value), (Kind::Deletion, b"key".as_slice(), b"".as_slice()));
    }

    /// F1, of every bit and of every length.
    #[test]
    fn nothing_else_is_read() {
        for value in [b"value".to_vec(), vec![5; 5000]] {
            let good = bytes("some key", Some(&value));
            for at in 0..good.len().min(300) {
                for bit in 0..8 {
                    let mut bad = good.clone();
                    bad[at] ^= 1 << bit;
                    assert!(matches!(read(&bad), Err(Trouble::Damage(_))), "byte {at}, bit {bit}");
                }
            }
            for length in 0..good.len() {
                assert!(matches!(read(&good[..length]), Err(Trouble::Damage(_))), "cut off at {length}");
            }
            assert!(matches!(read(&[&*good, b"x"].concat()), Err(Trouble::Damage(Damage::Length))));
        }
        assert!(matches!(read(b""), Err(Trouble::Damage(Damage::Length))));
        let mut other = bytes("key", Some(b"value"));
        other[8] = 2;
        assert!(matches!(read(&other), Err(Trouble::Damage(Damage::Version(2)))));
    }

    /// F2: a file that says so has all these bytes, and yet nothing is read or allocated.
    #[test]
    fn lengths_have_limits() {
        let mut huge = bytes("key", Some(b"value"));
        huge[16..24].copy_from_slice(&(MOST_VALUE + 1).to_le_bytes());
        let length = HEAD as u64 + 3 + MOST_VALUE + 1;
        let source = huge.chain(io::repeat(0));
        assert!(matches!(Record::read(source, length), Err(Trouble::Damage(Damage::TooLarge))));
    }

    #[test]
    fn an_entry_lives_until_its_deadline_by_whatever_clock() {
        let head = read(&bytes("key", Some(b"value"))).unwrap().0;
        assert!(head.is_live(50) && head.is_live(69) && !head.is_live(70) && !head.is_live(u64::MAX));
        // It was written at 50, for 20.
        assert!(head.is_live(30), "the clock was put back by as long as it may live");
        assert!(!head.is_live(29), "and by more: when it would end nobody knows");
        let endless = Head { deadline: None, ..head };
        assert!(endless.is_live(0) && endless.is_live(u64::MAX));
        assert!(!Head { kind: Kind::Deletion, ..endless }.is_live(50));
    }
}
