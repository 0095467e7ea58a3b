//! What stands around a value's bytes: ours, that of dogpile.cache, or nothing.
//!
//! `docs/envelope.md` has ours byte by byte.
//!
//! # Invariants
//! - **Nothing but what was written.** Any change of bytes is found by the checksum, an entry of another key by its hash,
//!   one of another type by its fingerprint, one of another format by its tag.
//! - **Lengths are looked at first.** Nothing is allocated for a length that the bytes don't have.
#![forbid(unsafe_code)]

use super::shape::Fnv;
use super::{Codec, Envelope, Meta, Undecodable};
use crate::error::{Error, ErrorKind};
use serde::Deserialize;
use std::fmt::Write as _;
use std::time::Duration;

const MAGIC: [u8; 3] = *b"dpl";
const VERSION: u8 = 1;

const CREATED: u8 = 1;
const EPOCH: u8 = 2;
const TTL: u8 = 4;
const CUT: u8 = 8;
const COST: u8 = 16;
const TAGS: u8 = 32;
const KNOWN: u8 = CREATED | EPOCH | TTL | CUT | COST | TAGS;

/// Where things stand in ours.
const AT_STEPS: usize = 6;
const AT_CHECKSUM: usize = 8;
const AFTER_CHECKSUM: usize = 12;

/// The version of dogpile.cache's values.
const DOGPILE_VERSION: f64 = 2.0;

/// So many steps have room in the envelope.
pub(super) const MOST_STEPS: usize = 4;

fn key_hash(key: &str) -> u64 {
    Fnv::new().bytes(key.as_bytes()).finish()
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&bytes[..AT_CHECKSUM]);
    sum.update(&bytes[AFTER_CHECKSUM..]);
    sum.finalize()
}

fn too_many(what: &str) -> Error {
    Error::new(ErrorKind::Encode, "codec encode").detail(format!("{what}: an entry has room for 65535"))
}

/// Appends what stands before the payload.
pub(super) fn begin(
    codec: &Codec,
    key: &str,
    fingerprint: u64,
    meta: &Meta,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    match codec.inner.envelope {
        Envelope::Plain => Ok(()),
        Envelope::Dogpile => {
            let nanos = meta.created.or(meta.epoch).unwrap_or(0);
            out.extend_from_slice(b"{\"ct\": ");
            out.extend_from_slice(python_float(seconds(nanos)).as_bytes());
            out.extend_from_slice(b", \"v\": 2}|");
            Ok(())
        }
        Envelope::Own => own_head(codec, key, fingerprint, meta, out),
    }
}

fn own_head(codec: &Codec, key: &str, fingerprint: u64, meta: &Meta, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut flags = 0;
    for (flag, is) in [
        (CREATED, meta.created.is_some()),
        (EPOCH, meta.epoch.is_some()),
        (TTL, meta.ttl.is_some()),
        (CUT, meta.cut != 0),
        (COST, meta.cost.is_some()),
        (TAGS, !meta.tags.is_empty()),
    ] {
        flags |= if is { flag } else { 0 };
    }
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, flags, codec.inner.payloads.kind.tag(), 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&key_hash(key).to_le_bytes());
    out.extend_from_slice(&fingerprint.to_le_bytes());
    for nanos in [meta.created, meta.epoch].into_iter().flatten() {
        out.extend_from_slice(&nanos.to_le_bytes());
    }
    if let Some(ttl) = meta.ttl {
        span(ttl, out);
    }
    if meta.cut != 0 {
        out.extend_from_slice(&meta.cut.to_le_bytes());
    }
    if let Some(cost) = meta.cost {
        span(cost, out);
    }
    if !meta.tags.is_empty() {
        let count = u16::try_from(meta.tags.len()).map_err(|_| too_many("too many tags"))?;
        out.extend_from_slice(&count.to_le_bytes());
        for tag in &meta.tags {
            let length = u16::try_from(tag.len()).map_err(|_| too_many("a tag has too many bytes"))?;
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(tag.as_bytes());
        }
    }
    Ok(())
}

fn span(time: Duration, out: &mut Vec<u8>) {
    out.extend_from_slice(&time.as_secs().to_le_bytes());
    out.extend_from_slice(&time.subsec_nanos().to_le_bytes());
}

/// Completes an entry: `steps` were taken, the first in the lowest four bits.
pub(super) fn end(codec: &Codec, steps: u16, out: &mut [u8]) {
    if codec.inner.envelope == Envelope::Own {
        out[AT_STEPS..AT_CHECKSUM].copy_from_slice(&steps.to_le_bytes());
        let sum = checksum(out);
        out[AT_CHECKSUM..AFTER_CHECKSUM].copy_from_slice(&sum.to_le_bytes());
    }
}

/// An entry taken apart.
pub(super) struct Parts<'a> {
    pub(super) meta: Meta,
    /// Of the type that it was made of. `None`: the envelope can't tell.
    pub(super) fingerprint: Option<u64>,
    /// Which steps were taken. `None`: the codec's.
    pub(super) steps: Option<u16>,
    pub(super) payload: &'a [u8],
}

/// Takes an entry apart.
pub(super) fn open<'a>(codec: &Codec, key: &str, bytes: &'a [u8]) -> Result<Parts<'a>, Undecodable> {
    if bytes.len() > codec.inner.payloads.limits.max_bytes {
        return Err(Undecodable::TooLarge);
    }
    match codec.inner.envelope {
        Envelope::Plain => {
            Ok(Parts { meta: Meta::default(), fingerprint: None, steps: None, payload: bytes })
        }
        Envelope::Dogpile => open_dogpile(bytes),
        Envelope::Own => open_own(codec, key, bytes),
    }
}

/// Bytes that are read from the front.
struct Front<'a>(&'a [u8]);

impl<'a> Front<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Undecodable> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Undecodable::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Undecodable> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Undecodable::Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, Undecodable> {
        self.array().map(u16::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Undecodable> {
        self.array().map(u64::from_le_bytes)
    }

    fn span(&mut self) -> Result<Duration, Undecodable> {
        let seconds = self.u64()?;
        let nanos = u32::from_le_bytes(self.array()?);
        // More would be carried into the seconds, which may have no room for it.
        if nanos < 1_000_000_000 { Ok(Duration::new(seconds, nanos)) } else { Err(Undecodable::Malformed) }
    }
}

fn open_own<'a>(codec: &Codec, key: &str, bytes: &'a [u8]) -> Result<Parts<'a>, Undecodable> {
    let mut front = Front(bytes);
    if front.array()? != MAGIC {
        return Err(Undecodable::Malformed);
    }
    if front.array()? != [VERSION] {
        return Err(Undecodable::Version);
    }
    let [flags, format] = front.array()?;
    let steps = front.u16()?;
    let sum = u32::from_le_bytes(front.array()?);
    if checksum(bytes) != sum {
        return Err(Undecodable::Checksum);
    }
    if flags & !KNOWN != 0 {
        return Err(Undecodable::Malformed);
    }
    if front.u64()? != key_hash(key) {
        return Err(Undecodable::Key);
    }
    if format != codec.inner.payloads.kind.tag() {
        return Err(Undecodable::Format);
    }
    let fingerprint = Some(front.u64()?);
    let mut meta = Meta::default();
    if flags & CREATED != 0 {
        meta.created = Some(front.u64()?);
    }
    if flags & EPOCH != 0 {
        meta.epoch = Some(front.u64()?);
    }
    if flags & TTL != 0 {
        meta.ttl = Some(front.span()?);
    }
    if flags & CUT != 0 {
        meta.cut = front.u16()?;
        // Of a thousand.
        if meta.cut >= 1000 {
            return Err(Undecodable::Malformed);
        }
    }
    if flags & COST != 0 {
        meta.cost = Some(front.span()?);
    }
    if flags & TAGS != 0 {
        for _ in 0..front.u16()? {
            let length = front.u16()?;
            let tag =
                std::str::from_utf8(front.take(usize::from(length))?).map_err(|_| Undecodable::Malformed)?;
            meta.tags.push(tag.to_owned());
        }
    }
    Ok(Parts { meta, fingerprint, steps: Some(steps), payload: front.0 })
}

/// dogpile.cache's metadata. What else they hold is nothing to us.
#[derive(Deserialize)]
struct Dogpile {
    ct: f64,
    v: f64,
}

fn open_dogpile(bytes: &[u8]) -> Result<Parts<'_>, Undecodable> {
    let bar = bytes.iter().position(|byte| *byte == b'|').ok_or(Undecodable::Malformed)?;
    let metadata: Dogpile = serde_json::from_slice(&bytes[..bar]).map_err(|_| Undecodable::Malformed)?;
    if metadata.v != DOGPILE_VERSION {
        return Err(Undecodable::Version);
    }
    let created = Some(nanos(metadata.ct).ok_or(Undecodable::Malformed)?);
    let meta = Meta { created, epoch: created, ..Meta::default() };
    Ok(Parts { meta, fingerprint: None, steps: None, payload: &bytes[bar + 1..] })
}

/// Nanoseconds as Python's `time.time()` has them.
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn nanos(seconds: f64) -> Option<u64> {
    let nanos = (seconds * 1e9).round();
    (0.0..u64::MAX as f64).contains(&nanos).then_some(nanos as u64)
}

/// A number as Python's `repr` writes it: the fewest digits that mean it, an exponent below 0.0001 and from 1e16 on.
fn python_float(number: f64) -> String {
    if number != 0.0 && !(1e-4..1e16).contains(&number) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let mut text = String::new();
    // Writing to a `String` can't fail.
    let _ = write!(text, "{number:?}");
    text
}
